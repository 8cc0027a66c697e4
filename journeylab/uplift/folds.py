"""Folds: which model learns from which rows, so that no row is judged by a model that saw it.

What a model may be, how many trees it has and how it is shrunken, is decided by rows that it may
learn from, never by those it speaks for: each fold's rows are divided once more, and *checks* are
models that learn from a part of what a fold's model learns from and are held against the rest.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from journeylab.errors import ContractError
from journeylab.uplift.scores import Ints
from journeylab.uplift.settings import MANY_ROWS, SET_ASIDE

Cells = tuple[int, ...]


class Part(NamedTuple):
    """What one check learns from, and what it is held against.

    Attributes:
        model: The model, named by its fold, that it is a part of or stands for.
        learns, held: Cells.
    """

    model: int
    learns: Cells
    held: Cells


@dataclass(frozen=True, slots=True, eq=False)
class Folds:
    """A division of rows.

    Attributes:
        of_row: ``(rows,)`` fold of each row, from 0.
        count: Folds. Models are as many, and are named by the fold that makes them differ.
        second: ``(rows,)`` whether a row is in the second part of its fold: half of it, or, where
            rows are many, those set aside to say when a model has learnt enough.
        many: Whether rows are many: a model then never learns from the rows set aside; otherwise
            checks take turns, and the model learns from all rows that its checks did.
        alone: Whether a fold's model learns from that fold alone and speaks for all others;
            otherwise it learns from all others and speaks for its own.
    """

    of_row: Ints
    count: int
    second: NDArray[np.bool_]
    many: bool = False
    alone: bool = False

    @property
    def range(self) -> range:
        """Numbers of the folds."""
        return range(self.count)

    def speakers(self, fold: int) -> tuple[int, ...]:
        """Models that speak for a fold's rows."""
        return tuple(k for k in self.range if k != fold) if self.alone else (fold,)

    @property
    def cells(self) -> Ints:
        """Cell of each row, ``(rows,)``: twice its fold, and 1 more in the second part."""
        return np.asarray(2 * self.of_row + self.second)

    def learns(self, fold: int) -> NDArray[np.bool_]:
        """Which rows the fold's model may learn from."""
        own = self.of_row == fold
        return np.asarray(own if self.alone else ~own)

    def learnt_cells(self, fold: int) -> Cells:
        """Cells of the rows that the fold's model may learn from."""
        mine = [k for k in self.range if (k == fold) == self.alone]
        return tuple(2 * k + half for k in mine for half in (0, 1))

    def checks(self, fold: int) -> tuple[Part, ...]:
        """Checks of the models that speak for a fold: nothing in them knows a row of that fold."""
        if self.alone and self.many:
            others = self.speakers(fold)
            held = tuple(2 * k + 1 for k in others)
            return tuple(Part(k, (2 * k,), held) for k in others)
        if self.alone:
            return tuple(part for k in self.speakers(fold) for part in self.own_checks(k))
        return self.own_checks(fold)

    def own_checks(self, model: int, *, every: bool = False) -> tuple[Part, ...]:
        """Checks within the rows that a model may learn from.

        Args:
            model: Which.
            every: Whether each other fold takes its turn to be held out, where checks cost little;
                otherwise the two next to the model's.
        """
        mine = self.learnt_cells(model)
        if self.many:
            return (Part(model, mine[::2], mine[1::2]),)
        if len(mine) == 2:
            return (Part(model, mine[:1], mine[1:]), Part(model, mine[1:], mine[:1]))
        steps = range(1, self.count) if every else (1, -1)
        beside = dict.fromkeys((model + step) % self.count for step in steps)
        return tuple(
            Part(model, tuple(cell for cell in mine if cell // 2 != k), (2 * k, 2 * k + 1))
            for k in beside
        )

    def take(self, rows: Ints) -> "Folds":
        """The same of some rows."""
        return replace(self, of_row=self.of_row[rows], second=self.second[rows])


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
    many = len(arm) >= MANY_ROWS
    parts = SET_ASIDE if many else 2
    dealt: Ints
    if clusters is not None:
        number = int(clusters.max()) + 1
        if number < 2 * count:
            raise ContractError(f"{number} clusters are too few for {count} folds")
        dealt = _dealt(number, count * parts, generator)[clusters]
    else:
        dealt = np.empty(len(arm), np.int64)
        for code in np.unique(arm):
            rows = np.flatnonzero(arm == code)
            dealt[rows] = _dealt(len(rows), count * parts, generator)
    # Consecutive numbers lie in different folds, so that folds differ by one unit at most.
    second = dealt < count
    dealt %= count
    return Folds(dealt.astype(np.int16), count, second, many)


def _dealt(units: int, parts: int, generator: np.random.Generator) -> Ints:
    dealt = generator.permutation(units)
    dealt += generator.integers(parts)
    dealt %= parts
    return np.asarray(dealt)
