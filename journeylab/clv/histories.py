"""Purchase histories as they enter a model: checked once, here."""

from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from journeylab.errors import ContractError

Floats = NDArray[np.float64]

# Recency and age are days divided by a unit; a last-digit difference is no broken row.
_ROUNDING = 1e-9


def purchase_columns(frame: pd.DataFrame) -> tuple[Floats, Floats, Floats]:
    """``frequency, recency, age`` of a frame of histories, or an error that names the bad rows."""
    columns = numbers(frame, ("frequency", "recency", "age"), "histories")
    frequency, recency, age = columns
    _refuse(frame, (frequency < 0) | (recency < 0) | (age < 0), "must not be negative", _ALL)
    _refuse(
        frame,
        frequency != np.floor(frequency),
        "must be a whole number of repeat purchases",
        "frequency",
    )
    _refuse(
        frame,
        recency > age * (1 + _ROUNDING) + _ROUNDING,
        "must lie in [0, age]",
        "recency",
        "recency runs from the first to the last purchase, age from the first purchase to as_of, "
        "both in the same unit",
    )
    _refuse(
        frame,
        (frequency == 0) & (recency > 0),
        "must be 0 where frequency is 0",
        "recency",
        "count purchases after the first, and measure recency from the first to the last purchase",
    )
    return frequency, np.minimum(recency, age), age


def spend_columns(frame: pd.DataFrame) -> tuple[Floats, Floats]:
    """``frequency, monetary_value`` of a frame; without repeat purchases the amount is 0."""
    (frequency,) = numbers(frame, ("frequency",), "spend")
    if "monetary_value" in frame.columns:
        # Some sources leave the mean of no purchases missing, others write 0.
        frame = frame.assign(monetary_value=frame["monetary_value"].where(frequency > 0, 0.0))
    (monetary_value,) = numbers(frame, ("monetary_value",), "spend")
    _refuse(frame, frequency < 0, "must not be negative", "frequency")
    return frequency, monetary_value


def weights(frame: pd.DataFrame) -> Floats:
    """How many customers stand behind each row: the column ``customers``, or one each."""
    if "customers" not in frame.columns:
        return np.ones(len(frame))
    (customers,) = numbers(frame, ("customers",), "histories")
    _refuse(frame, customers <= 0, "must be above 0", "customers")
    return customers


def check_horizon(horizon: float | Floats) -> None:
    """Refuse a horizon that is no finite time of 0 or more."""
    t = np.asarray(horizon, dtype=float)
    if not np.all(np.isfinite(t) & (t >= 0)):
        raise ContractError(f"horizon must be a finite time of 0 or more; got {horizon}")


def whole_counts(count: int | Floats) -> Floats:
    """Counts of purchases as floats, at least one-dimensional, or an error."""
    k = np.atleast_1d(np.asarray(count, dtype=float))
    if not np.all(np.isfinite(k) & (k >= 0) & (k == np.floor(k))):
        raise ContractError(f"count must be a whole number of 0 or more; got {count}")
    return k


def refuse_rows(frame: pd.DataFrame, bad: NDArray[np.bool_], what: str, remedy: str) -> None:
    """Raise ``ContractError`` with the count and the first labels of ``bad`` rows, if any."""
    if not bad.any():
        return
    labels = _labels(frame, bad)
    raise ContractError(
        f"{what}; {int(bad.sum())} of {len(frame)} rows do not ({labels}); {remedy}"
    )


_ALL = "frequency, recency and age"


def _refuse(
    frame: pd.DataFrame,
    bad: NDArray[np.bool_],
    rule: str,
    column: str,
    remedy: str = "build the frame with frames.histories or frames.customer_histories",
) -> None:
    refuse_rows(frame, bad, f"{column} {rule}", remedy)


def numbers(frame: pd.DataFrame, columns: tuple[str, ...], name: str) -> list[Floats]:
    """Columns of a frame as finite floats, or an error that names the bad rows."""
    if missing := [column for column in columns if column not in frame.columns]:
        raise ContractError(
            f"{name} needs the columns {', '.join(columns)}; {', '.join(missing)} not among "
            f"{', '.join(map(str, frame.columns))}"
        )
    if frame.empty:
        raise ContractError(
            f"{name} has no rows: no customer had bought by then; choose a later as_of or check "
            "that the orders were read"
        )
    arrays = []
    for column in columns:
        values = pd.to_numeric(frame[column], errors="coerce").to_numpy(
            dtype=float, na_value=np.nan
        )
        refuse_rows(
            frame, ~np.isfinite(values), f"{column} must be a finite number", "drop or mend them"
        )
        arrays.append(values)
    return arrays


def _labels(frame: pd.DataFrame, bad: NDArray[np.bool_]) -> str:
    """The first bad rows by customer where there is one, otherwise by index label."""
    first = np.flatnonzero(bad)[:3]
    shown = (
        [str(frame["customer_id"].iloc[row]) for row in first]
        if "customer_id" in frame.columns
        else [str(frame.index[row]) for row in first]
    )
    name = "customers" if "customer_id" in frame.columns else "rows"
    return f"{name} {', '.join(shown)}{', ...' if int(bad.sum()) > len(first) else ''}"


def on_distinct(function: Callable[[Floats], Floats], values: Floats) -> Floats:
    """``function(values)``, evaluated once per distinct value: counts repeat, gammaln is dear."""
    distinct, inverse = np.unique(values, return_inverse=True)
    return np.asarray(function(distinct), dtype=float)[inverse]


def weighted_sum(weight: Floats, values: Floats) -> float:
    """``weight @ values``, added up in one order however many threads the machine has."""
    return float(np.einsum("i,i->", weight, values))
