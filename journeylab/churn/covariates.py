"""Columns of a frame as numbers for trees, the same in training and when scoring."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from journeylab.churn.columns import OUTCOME, RESERVED
from journeylab.churn.observations import Observations
from journeylab.errors import ContractError, FitError

# A category with fewer rows is read as "rest": its rate would be its own few outcomes.
FEWEST_ROWS = 20
# Expected events added to each category's count, so that small ones stay near the mean.
_SHRINKAGE = 20.0


@dataclass(frozen=True, slots=True, eq=False)
class Covariates:
    """How each column becomes numbers.

    Attributes:
        names: Columns used, in their order.
        levels: For columns of text or category: level -> its number per cause, the shrunken log
            of events seen against events expected. Levels that are not in here read as 0.
        causes: How many numbers a level has.
    """

    names: tuple[str, ...]
    levels: Mapping[str, Mapping[str, tuple[float, ...]]]
    causes: int = 1

    @property
    def owners(self) -> tuple[int, ...]:
        """For each number of ``matrix``, which of ``names`` it comes from."""
        widths = (self.causes if name in self.levels else 1 for name in self.names)
        return tuple(i for i, width in enumerate(widths) for _ in range(width))

    def matrix(self, frame: pd.DataFrame) -> npt.NDArray[np.float32]:
        """Numbers of the rows, ``(rows, numbers)``, missing ones as NaN; float32.

        Raises:
            ContractError: A column is missing, or holds text or infinity where numbers are due.
        """
        if missing := [name for name in self.names if name not in frame.columns]:
            raise ContractError(f"no covariate {missing} in the frame; it has {list(frame)}")
        found = np.empty((len(frame), len(self.owners)), dtype=np.float32, order="F")
        at = 0
        for name in self.names:
            if name not in self.levels:
                found[:, at] = as_numbers(frame[name])
                at += 1
                continue
            known = self.levels[name]
            codes, texts = pd.factorize(_as_text(frame[name]))
            table = np.array([known.get(text, (0.0,) * self.causes) for text in texts])
            table = np.vstack([table.reshape(-1, self.causes), np.zeros(self.causes)])
            found[:, at : at + self.causes] = table[codes]
            at += self.causes
        return np.ascontiguousarray(found)

    def unseen(self, frame: pd.DataFrame) -> dict[str, int]:
        """Rows whose category stood too rarely or never in training, per column that has any."""
        counts = {}
        for name, known in self.levels.items():
            text = _as_text(frame[name])
            if rows := int((text.notna() & ~text.isin(list(known))).sum()):
                counts[name] = rows
        return counts


def choose_columns(
    frame: pd.DataFrame, covariates: Sequence[str] | None
) -> tuple[tuple[str, ...], list[str]]:
    """Columns that can tell rows apart, and what is said of those that cannot.

    Raises:
        ContractError: A column is missing, named twice, an outcome, or holds dates or objects.
        FitError: None is left.
    """
    asked = (
        [str(name) for name in frame.columns if name not in RESERVED]
        if covariates is None
        else list(covariates)
    )
    if missing := [name for name in asked if name not in frame.columns]:
        raise ContractError(f"no covariate {missing} in the frame; it has {list(frame.columns)}")
    if repeated := sorted({name for name in asked if asked.count(name) > 1}):
        raise ContractError(f"covariates are named twice: {repeated}")
    if told := [name for name in asked if name in OUTCOME]:
        raise ContractError(f"{told} tell the outcome and cannot be covariates")
    kept, notes = [], []
    for name in asked:
        column = frame[name]
        if not (_is_number(column) or is_text(column)):
            raise ContractError(
                f"covariate {name!r} is {column.dtype}: turn it into numbers or text, or leave it "
                "out"
            )
        filled = column.dropna()
        if filled.empty:
            notes.append(f"{name} left out: missing in every row")
        elif len(filled) == len(column) and (filled == filled.iloc[0]).all():
            notes.append(f"{name} left out: {filled.iloc[0]} in every row")
        else:
            kept.append(name)
    if not kept:
        raise FitError(
            f"no covariate is left of {asked}: {'; '.join(notes) or 'none was given'}. A curve "
            "without covariates is Kaplan-Meier's"
        )
    return tuple(kept), notes


def code_covariates(
    frame: pd.DataFrame,
    names: Sequence[str],
    rows: Observations,
    expected: npt.NDArray[np.float64],
) -> tuple[Covariates, list[str]]:
    """Learn the numbers of the categories.

    Args:
        frame: The rows of training.
        names: From ``choose_columns``.
        rows: Their outcomes.
        expected: Events of each cause expected of each row by the marginal hazard,
            ``(rows, causes)``.

    Returns:
        The coding, and a note on every column with categories too small to stand alone.
    """
    causes, levels, notes = expected.shape[1], {}, []
    happened = np.stack([rows.cause == cause + 1 for cause in range(causes)], axis=1)
    for name in names:
        column = frame[name]
        if not is_text(column):
            as_numbers(column)
            continue
        codes, texts = pd.factorize(_as_text(column), sort=True)
        inside, size = codes >= 0, len(texts)
        count = np.bincount(codes[inside], minlength=size)
        numbers = np.empty((size, causes))
        for cause in range(causes):
            seen = np.bincount(codes[inside], happened[inside, cause], minlength=size)
            due = np.bincount(codes[inside], expected[inside, cause], minlength=size)
            numbers[:, cause] = np.log((seen + _SHRINKAGE) / (due + _SHRINKAGE))
        large = count >= FEWEST_ROWS
        levels[name] = {
            str(text): tuple(row.tolist())
            for text, row, keep in zip(texts, numbers, large, strict=True)
            if keep
        }
        if small := int((~large).sum()):
            notes.append(
                f"{name}: {small} of {size} categories have fewer than {FEWEST_ROWS} rows and are "
                "read as one, at the mean"
            )
    return Covariates(tuple(names), levels, causes), notes


def is_text(column: pd.Series) -> bool:
    """Whether a column holds categories: text, or pandas' own type."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        return True
    if pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column):
        return False
    return pd.api.types.infer_dtype(column, skipna=True) in ("string", "empty")


def as_numbers(column: pd.Series) -> npt.NDArray[np.float64]:
    """A column of numbers or truth values as floats, NaN where missing.

    Raises:
        ContractError: It holds something else, or infinity.
    """
    try:
        values = column.to_numpy(dtype=float, na_value=np.nan)
    except (TypeError, ValueError) as error:
        raise ContractError(
            f"covariate {column.name!r} held numbers in training and is {column.dtype} now"
        ) from error
    if bad := int(np.isinf(values).sum()):
        raise ContractError(
            f"covariate {column.name!r} is infinite in {bad} of {len(values)} rows: leave them "
            "missing instead"
        )
    return np.asarray(values, dtype=float)


def _is_number(column: pd.Series) -> bool:
    kind = pd.api.types
    if isinstance(column.dtype, pd.CategoricalDtype):
        return False
    if kind.is_numeric_dtype(column) or kind.is_bool_dtype(column):
        return not kind.is_complex_dtype(column)
    inferred = kind.infer_dtype(column, skipna=True)
    return inferred in ("integer", "floating", "mixed-integer-float", "decimal", "boolean")


def _as_text(column: pd.Series) -> pd.Series:
    text = column.astype("object")
    return text.where(text.isna(), text.astype(str))
