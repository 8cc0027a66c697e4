"""Folds: which model learns from which rows, so that no row is judged by a model that saw it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from journeylab.errors import ContractError
from journeylab.uplift.scores import Ints


@dataclass(frozen=True, slots=True, eq=False)
class Folds:
    """A division of rows.

    Attributes:
        of_row: ``(rows,)`` fold of each row, from 0.
        count: Folds.
        alone: Whether a fold's model learns from that fold alone and speaks for all others;
            otherwise it learns from all others and speaks for its own.
    """

    of_row: Ints
    count: int
    alone: bool = False

    @property
    def range(self) -> range:
        """Numbers of the folds."""
        return range(self.count)

    @property
    def speakers(self) -> int:
        """Models that have not seen a given row."""
        return self.count - 1 if self.alone else 1

    def learns(self, fold: int) -> NDArray[np.bool_]:
        """Which rows the fold's model learns from."""
        own = self.of_row == fold
        return np.asarray(own if self.alone else ~own)

    def unseen(self, fold: int) -> NDArray[np.bool_]:
        """Which rows the fold's model speaks for."""
        return ~self.learns(fold)

    def stops(self, fold: int) -> NDArray[np.bool_]:
        """Which of the unseen rows say when its model has learnt enough."""
        number = (fold + 1) % self.count if self.alone else fold
        return np.asarray(self.of_row == number)


def make_folds(
    arm: Ints, clusters: Ints | None, count: int, generator: np.random.Generator
) -> Folds:
    """Draw folds: every arm is spread evenly, and a cluster lies in one fold.

    Args:
        arm: ``(rows,)`` arm of each row.
        clusters: ``(rows,)`` from 0; ``None`` where every row stands alone.
        count: 2 or more.
        generator: Of the draw.

    Raises:
        ContractError: There are too few rows of an arm, or clusters, for so many folds.
    """
    if count < 2:
        raise ContractError(f"cross-fitting needs 2 folds or more; got {count}")
    if clusters is not None:
        number = int(clusters.max()) + 1
        if number < 2 * count:
            raise ContractError(f"{number} clusters are too few for {count} folds")
        return Folds(_dealt(number, count, generator)[clusters], count)
    of_row = np.empty(len(arm), np.int64)
    for code in np.unique(arm):
        rows = np.flatnonzero(arm == code)
        of_row[rows] = _dealt(len(rows), count, generator)
    return Folds(of_row, count)


def _dealt(units: int, count: int, generator: np.random.Generator) -> NDArray[Any]:
    return np.asarray((generator.permutation(units) + generator.integers(count)) % count)
