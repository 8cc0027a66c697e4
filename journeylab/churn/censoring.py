"""Who is known to have done what by a time, and how much each of them counts for those unseen."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from journeylab.errors import ContractError

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

Watched = Literal["through", "until"]
"""What a row censored at a time tells about that time: ``through`` (whole days: the day was
watched to its end, without an event) or ``until`` (continuous time, as scikit-survival takes it:
nothing)."""


@dataclass(frozen=True, slots=True, eq=False)
class Outcomes:
    """What became of each row, and the chance that it could be seen.

    Attributes:
        duration: Time to the event or to the end of sight, ``(rows,)``.
        happened: The event (of the cause asked for) was seen.
        ended: Any event was seen.
        customer: Number of each row's customer, from 0.
        customers: How many there are.
        watched: What a censored row tells about its last time.
        times, in_sight: Chance of still being watched after each of ``times``, the first -inf.
        start: From when each row is judged: what came before is given.
    """

    duration: Floats
    happened: Flags
    ended: Flags
    customer: npt.NDArray[np.intp]
    customers: int
    watched: Watched
    times: Floats
    in_sight: Floats
    start: Floats

    @property
    def competing(self) -> Flags:
        """Rows that another event than the one asked for has ended."""
        return self.ended & ~self.happened

    @property
    def late(self) -> bool:
        """Whether some rows are judged from later than 0 on."""
        return bool((self.start > 0).any())

    def at(self, chosen: Flags) -> "Outcomes":
        """The chosen rows; customers keep their numbers."""
        return replace(
            self,
            duration=self.duration[chosen],
            happened=self.happened[chosen],
            ended=self.ended[chosen],
            customer=self.customer[chosen],
            start=self.start[chosen],
        )

    def in_play(self, time: float) -> tuple["Outcomes", Flags]:
        """The rows judged at ``time``, and which they are: those that started before it."""
        here = (self.start < time) | (self.start <= 0)
        return (self if here.all() else self.at(here)), here

    def since_start(self) -> Floats:
        """Chance of having been watched until each row's start, 1 where that is 0."""
        chance = np.ones_like(self.start)
        later = self.start > 0
        chance[later] = self.sight(self.start[later])
        if lost := int((chance <= 0).sum()):
            raise ContractError(
                f"{lost} of {len(chance)} rows come into sight when nobody else was left in it: "
                "how sight is lost cannot be told from so few rows at the beginning; leave them out"
            )
        return chance

    def sight(self, at: npt.ArrayLike) -> Floats:
        """Chance that a row is watched long enough for what happens at ``at`` to be seen."""
        side: Literal["left", "right"] = "left" if self.watched == "through" else "right"
        # of all that leave sight at a time, "through" loses them just after it, "until" at it
        position = np.searchsorted(self.times, np.asarray(at, float), side=side) - 1
        return np.asarray(self.in_sight[position], float)

    def still(self, time: float) -> Flags:
        """Rows known to have had no event of any kind by ``time``."""
        over = self.duration > time
        if self.watched == "through":
            over |= (self.duration == time) & ~self.ended
        return over

    def weights(self, time: float) -> Floats:
        """How many rows each row stands for at ``time``; 0 for those lost from sight before.

        Of rows that start after 0, how many that were in sight at their start.

        Raises:
            ContractError: Nobody is watched as long as ``time``, or as long as some row waited.
        """
        ended = self.ended & (self.duration <= time)
        still = self.still(time)
        chance = np.ones_like(self.duration)
        chance[ended] = self.sight(self.duration[ended])
        if still.any():
            chance[still] = self.sight([time])
        elif not self.ended[self.duration == self.duration.max()].all():
            raise ContractError(
                f"nobody is known to be event-free at {time:g}: follow-up ends at "
                f"{float(self.duration.max()):g}; ask for an earlier time"
            )
        if unseen := int((chance <= 0).sum()):
            raise ContractError(
                f"{unseen} of {len(chance)} rows were watched longer than anybody of the rows "
                "that tell how sight is lost; give those of a longer follow-up as censoring"
            )
        return np.where(ended | still, self.since_start() / chance, 0.0)

    def sums(self, values: Floats) -> Floats:
        """Values of rows, ``(rows,)`` or ``(rows, columns)``, summed by customer."""
        if values.ndim == 1:
            summed: Floats = np.bincount(self.customer, values, self.customers).astype(float)
            return summed
        columns = [np.bincount(self.customer, column, self.customers) for column in values.T]
        return np.stack(columns, axis=1)


def outcomes(
    frame: pd.DataFrame,
    *,
    censoring: pd.DataFrame | None = None,
    watched: Watched = "through",
    cause: str | int | None = None,
    late: bool = False,
) -> Outcomes:
    """Read outcomes, and estimate how sight is lost by Kaplan-Meier (events come first).

    Sight is taken to be lost without regard to the waiting time: in landmark frames the end of
    the data ends it, for everybody alike.

    Args:
        frame: ``duration``, ``event`` (1 or 0); ``customer_id`` where rows share customers.
        censoring: Rows that tell how sight is lost; by default ``frame`` itself.
        watched: What a row censored at a time tells about that time.
        cause: Only events with this ``cause`` count as happened; the others end a row too.
        late: Whether rows may come into sight after their start (``entry`` > 0); judge them by
            ``from_first`` then.

    Raises:
        ContractError: A column is missing or holds what it must not; rows come into sight late.
    """
    duration, ended, entry = _read(frame)
    if not late and (entered := int((entry > 0).sum())):
        raise ContractError(
            f"{entered} of {len(frame)} rows come into sight after their start (entry > 0): only "
            "score, rolling and folds judge such rows"
        )
    happened = ended
    if cause is not None:
        if "cause" not in frame.columns:
            raise ContractError(f"cause {cause!r} was asked for, but the frame names no causes")
        happened = ended & (frame["cause"] == cause).to_numpy(bool)
    names = frame["customer_id"] if "customer_id" in frame.columns else np.arange(len(frame))
    customer, distinct = pd.factorize(np.asarray(names))
    if (customer < 0).any():
        raise ContractError(f"{int((customer < 0).sum())} of {len(frame)} rows name no customer")
    seen, stopped, since = (duration, ended, entry) if censoring is None else _read(censoring)
    grid, place = np.unique(seen, return_inverse=True)
    ends, leaves = np.bincount(place, stopped), np.bincount(place, ~stopped)
    # who had the event at a time is out of the risk set of leaving sight at that time
    at_risk = len(seen) - np.append(0, np.cumsum(ends + leaves)[:-1]) - ends
    # whoever enters at a time is in sight only after it; the start is the exception
    at_risk = at_risk - (len(seen) - np.searchsorted(np.sort(np.where(since > 0, since, -1)), grid))
    in_sight = np.cumprod(1 - leaves / np.maximum(at_risk, 1))
    return Outcomes(
        duration=duration,
        happened=happened,
        ended=ended,
        customer=customer,
        customers=len(distinct),
        watched=watched,
        times=np.append(-np.inf, grid),
        in_sight=np.append(1.0, in_sight),
        start=entry,
    )


def from_first(known: Outcomes, times: Floats) -> tuple[Outcomes, Flags]:
    """Rows judged from the first of ``times`` on at which they were in sight, and which they are.

    A row that comes into sight late tells nothing of those who had the event before: what it can
    judge is a forecast given no event until then, and that from a time at which the forecast was
    made on. Rows without an event seen by then whose start is the last time, or that ended or
    were lost by their first time, judge nothing and are left out.

    Args:
        known: With ``entry`` as the start.
        times: Ascending, above 0.
    """
    grid = np.append(0.0, times)
    place = np.searchsorted(grid, known.start, side="left")
    start = grid[np.minimum(place, len(grid) - 1)]
    kept = (place < len(grid) - 1) & ((known.duration > start) | (start <= 0))
    chosen = replace(known, start=start).at(kept)
    customer, distinct = pd.factorize(chosen.customer)
    return replace(chosen, customer=customer, customers=len(distinct)), kept


def _read(frame: pd.DataFrame) -> tuple[Floats, Flags, Floats]:
    if missing := [name for name in ("duration", "event") if name not in frame.columns]:
        raise ContractError(f"a frame to score needs {missing}; it has {list(frame.columns)}")
    if frame.empty:
        raise ContractError("the frame to score holds no rows")
    duration = frame["duration"].to_numpy(float)
    event = frame["event"].to_numpy(float)
    bad = ~(np.isfinite(duration) & (duration >= 0) & np.isin(event, (0.0, 1.0)))
    if bad.any():
        raise ContractError(
            f"durations must be 0 or longer and events 0 or 1; {int(bad.sum())} of {len(frame)} "
            "rows are not"
        )
    entry = np.zeros(len(frame))
    if "entry" in frame.columns:
        entry = frame["entry"].to_numpy(float)
        if outside := int((~((entry >= 0) & ((entry < duration) | (entry == 0)))).sum()):
            raise ContractError(
                f"entry must lie in [0, duration); {outside} of {len(frame)} rows do not"
            )
    return duration, event == 1, entry


def survival_columns(
    frame: pd.DataFrame, survival: pd.DataFrame, times: npt.ArrayLike | None = None
) -> tuple[Floats, pd.DataFrame]:
    """The times to score, ascending, and the predictions of ``frame``'s rows at them.

    Raises:
        ContractError: Predictions are missing for a row or time, are no chances, or rise in time.
    """
    asked = survival.columns if times is None else np.atleast_1d(np.asarray(times, float))
    found = {float(column): column for column in survival.columns}
    grid = sorted({float(time) for time in asked})
    if missing := [time for time in grid if time not in found]:
        raise ContractError(f"no prediction for the times {missing}; it has {sorted(found)}")
    if not grid or grid[0] <= 0:
        raise ContractError(f"times to score must be above 0; got {grid[:3]}")
    own = survival[[found[time] for time in grid]]
    if not own.index.equals(frame.index):
        if not own.index.is_unique or (lost := int((~frame.index.isin(own.index)).sum())):
            raise ContractError(
                f"predictions must stand once under the frame's own index; {lost} of {len(frame)} "
                "rows have none"
                if own.index.is_unique
                else "predictions must stand once under the frame's own index; some stand twice"
            )
        own = own.loc[frame.index]
    before: Floats | float = 1.0
    for time, column in zip(grid, own.columns, strict=True):
        now = own[column].to_numpy(float)
        if wrong := int((~((now >= -1e-9) & (now <= 1 + 1e-9))).sum()):
            raise ContractError(
                f"survival must lie in [0, 1]; at {time:g} {wrong} of {len(own)} rows do not"
            )
        # float32 predictions are rounded at the seventh digit
        if rising := int((now > before + 1e-6).sum()):
            raise ContractError(
                f"survival must not rise with time; at {time:g} it does in {rising} of "
                f"{len(own)} rows"
            )
        before = now
    return np.asarray(grid), own
