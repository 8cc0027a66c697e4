"""What was seen of each row: watched from when to when, and what ended it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from journeylab.errors import ContractError

EVENT = "event"


@dataclass(frozen=True, slots=True, eq=False)
class Observations:
    """Outcomes as arrays, one entry per row of the frame.

    Attributes:
        entry: When watching began (0 without left truncation), in the unit of the durations.
        duration: When the event came or sight was lost, after ``entry``.
        cause: 0 for censored, 1, 2, ... for the causes in their order.
        customer: Number of the customer; rows of one customer share it.
        landmark: Day of the landmark in the unit of the durations (days for dates), or ``None``.
    """

    entry: npt.NDArray[np.float64]
    duration: npt.NDArray[np.float64]
    cause: npt.NDArray[np.int64]
    customer: npt.NDArray[np.int64]
    landmark: npt.NDArray[np.float64] | None

    def __len__(self) -> int:
        return len(self.duration)

    def at(self, chosen: npt.NDArray[np.intp] | npt.NDArray[np.bool_] | slice) -> "Observations":
        """The chosen rows, in their order."""
        return Observations(
            self.entry[chosen],
            self.duration[chosen],
            self.cause[chosen],
            self.customer[chosen],
            None if self.landmark is None else self.landmark[chosen],
        )

    def parts(self, rows: int) -> Iterator["Observations"]:
        """Consecutive pieces of at most so many rows."""
        for start in range(0, len(self), rows):
            yield self.at(slice(start, start + rows))

    def censored_at(self, day: float) -> tuple["Observations", npt.NDArray[np.bool_]]:
        """What was known on a day, and which rows there were: those with a landmark before it."""
        assert self.landmark is not None
        sight = day - self.landmark
        known = sight > self.entry
        cut = self.duration > sight
        whole = Observations(
            self.entry,
            np.where(cut, sight, self.duration),
            np.where(cut, 0, self.cause),
            self.customer,
            self.landmark,
        )
        return whole.at(known), known


def observe(
    frame: pd.DataFrame, causes: Sequence[str] | None = None
) -> tuple[Observations, tuple[str, ...]]:
    """Check a frame's outcomes and give them as arrays.

    Args:
        frame: ``duration`` (above 0) and ``event`` (1 seen, 0 censored); where they are,
            ``entry`` (from when the row was watched, 0 or more and before ``duration``),
            ``cause`` (text, read where ``event`` is 1), ``customer_id``, ``landmark``.
        causes: Which causes to tell apart, each of them in ``cause``. Without it one event
            is as good as another, whatever ``cause`` says.

    Returns:
        The outcomes and the names of the causes, ``("event",)`` where they are not told apart.

    Raises:
        ContractError: A column is missing or holds what it must not; the message says where and
            how often.
    """
    if missing := [name for name in ("duration", "event") if name not in frame.columns]:
        raise ContractError(f"no {missing} in the frame; it has {list(frame.columns)}")
    if frame.empty:
        raise ContractError("the frame has no rows: nobody was seen")
    if repeated := sorted({str(c) for c in frame.columns[frame.columns.duplicated()]}):
        raise ContractError(f"columns stand twice in the frame: {repeated}")
    n = len(frame)
    duration, event = _numbers(frame, "duration"), _numbers(frame, "event")
    if bad := int((~np.isfinite(duration) | (duration <= 0)).sum()):
        raise ContractError(f"duration must be a number above 0; {bad} of {n} rows have none")
    if bad := int((~np.isin(event, (0.0, 1.0))).sum()):
        raise ContractError(f"event must be 0 or 1; {bad} of {n} rows are neither")
    entry = _numbers(frame, "entry") if "entry" in frame.columns else np.zeros(n)
    if bad := int((~((entry >= 0) & (entry < duration))).sum()):
        raise ContractError(f"entry must lie in [0, duration); {bad} of {n} rows do not")
    names, cause = _causes(frame, event.astype(np.int64), causes)
    customer = np.arange(n)
    if "customer_id" in frame.columns:
        customer = np.asarray(pd.factorize(frame["customer_id"])[0])
        if bad := int((customer < 0).sum()):
            raise ContractError(f"customer_id is missing in {bad} of {n} rows")
    landmark = _days(frame["landmark"]) if "landmark" in frame.columns else None
    if landmark is not None and "customer_id" in frame.columns and "entry" not in frame.columns:
        twice = int(frame.duplicated(["customer_id", "landmark"]).sum())
        if twice:
            raise ContractError(
                f"{twice} of {n} rows repeat a customer on the same landmark: keep one each"
            )
    return Observations(entry, duration, cause, customer.astype(np.int64), landmark), names


def _causes(
    frame: pd.DataFrame, event: npt.NDArray[np.int64], causes: Sequence[str] | None
) -> tuple[tuple[str, ...], npt.NDArray[np.int64]]:
    if causes is None:
        return (EVENT,), event
    names = tuple(causes)
    if not names or len(set(names)) < len(names):
        raise ContractError(f"causes must be different names; got {list(causes)}")
    if "cause" not in frame.columns:
        raise ContractError(f"causes are asked for, but the frame has no cause: {list(names)}")
    found = frame["cause"].astype("object").to_numpy()
    number = np.zeros(len(frame), dtype=np.int64)
    for position, name in enumerate(names, start=1):
        number[(found == name) & (event == 1)] = position
        if not (number == position).any():
            raise ContractError(f"no event of cause {name!r} in the frame: leave it out")
    if unknown := int(((number == 0) & (event == 1)).sum()):
        raise ContractError(
            f"{unknown} events have another cause than {list(names)}: name it, or set their event "
            "to 0 to censor them"
        )
    return names, number


def _numbers(frame: pd.DataFrame, name: str) -> npt.NDArray[np.float64]:
    try:
        return frame[name].to_numpy(dtype=float, na_value=np.nan)
    except (TypeError, ValueError) as error:
        raise ContractError(f"{name} must hold numbers; it is {frame[name].dtype}") from error


def _days(landmark: pd.Series) -> npt.NDArray[np.float64]:
    if pd.api.types.is_numeric_dtype(landmark):
        days = landmark.to_numpy(dtype=float, na_value=np.nan)
    else:
        try:
            dates = pd.to_datetime(landmark)
        except (TypeError, ValueError) as error:
            raise ContractError(f"landmark must hold dates or numbers: {error}") from error
        days = ((dates - pd.Timestamp("1970-01-01")) / pd.Timedelta(days=1)).to_numpy(float)
    if bad := int(np.isnan(days).sum()):
        raise ContractError(f"landmark is missing in {bad} of {len(days)} rows")
    return np.asarray(days, dtype=float)
