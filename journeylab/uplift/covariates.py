"""Covariates: numbers and categories of a frame as the columns that models see."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from journeylab.errors import ContractError

Features = NDArray[np.float32]
# A category with more levels keeps its commonest; the rest share a column.
_LEVELS = 12


@dataclass(frozen=True, slots=True)
class Encoding:
    """How columns of a frame become numbers, learnt once and used for every later frame.

    Attributes:
        columns: Names as the reader knows them.
        levels: Per column its levels, each of which becomes 0 or 1; empty for a number.
    """

    columns: tuple[str, ...]
    levels: tuple[tuple[str, ...], ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Of the encoded columns."""
        found: list[str] = []
        for column, own in zip(self.columns, self.levels, strict=True):
            found += [f"{column} = {level}" for level in own] or [column]
        return tuple(found)

    def encode(self, frame: pd.DataFrame) -> Features:
        """The columns as numbers, ``(rows, len(names))``; missing numbers stay missing.

        Raises:
            ContractError: A column is not there, or holds what is no number.
        """
        if missing := [name for name in self.columns if name not in frame.columns]:
            raise ContractError(f"the frame lacks covariates: {', '.join(missing)}")
        found = np.empty((len(frame), len(self.names)), dtype=np.float32)
        place = 0
        for name, own in zip(self.columns, self.levels, strict=True):
            column = frame[name]
            if own:
                texts = column.astype(str).to_numpy()
                for level in own:
                    found[:, place] = texts == level
                    place += 1
            else:
                found[:, place] = _as_numbers(name, column)
                place += 1
        return found


def learn_encoding(frame: pd.DataFrame, covariates: Sequence[str]) -> Encoding:
    """Levels of every category among the covariates.

    Raises:
        ContractError: There are no covariates, one is named twice, or a column is not there.
    """
    names = tuple(covariates)
    if not names or len(set(names)) < len(names):
        raise ContractError(f"covariates must be named, each once; got {list(names)}")
    if missing := [name for name in names if name not in frame.columns]:
        raise ContractError(f"the frame lacks covariates: {', '.join(missing)}")
    levels = []
    for name in names:
        column = frame[name]
        if pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column):
            levels.append(())
            continue
        counts = column.astype(str).value_counts()
        kept = sorted(counts.index, key=lambda level: (-int(counts[level]), level))[:_LEVELS]
        levels.append(tuple(sorted(kept)))
    return Encoding(names, tuple(levels))


def _as_numbers(name: str, column: pd.Series) -> NDArray[np.float32]:
    try:
        numbers = column.to_numpy(dtype=np.float32, na_value=np.nan)
    except (TypeError, ValueError) as error:
        raise ContractError(f"covariate {name!r} held numbers in training, not now") from error
    if bad := int(np.isinf(numbers).sum()):
        raise ContractError(f"covariate {name!r}: {bad} of {len(numbers)} values are infinite")
    return np.asarray(numbers)
