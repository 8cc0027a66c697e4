"""Origins: the days inside the calibration window from which forecasts are tried out."""

from dataclasses import dataclass
from datetime import date, timedelta

import pandas as pd

from journeylab.errors import ContractError

# A window shorter than this cannot be cut into a past and a future.
_SHORTEST_DAYS = 28
_MOST_ORIGINS = 3
_MOST_LANDMARKS = 8


@dataclass(frozen=True, slots=True)
class Origins:
    """The days of a trial inside the calibration window; every one is an ISO date.

    Attributes:
        first: First day of the data.
        as_of: Last day that may be seen; the forecast that matters starts here.
        horizon_days: How far that forecast goes.
        check_days: How far a trial goes: the horizon, or a quarter of the window where that is
            shorter, so that several trials fit in without overlapping.
        checks: Days the trials start from, earliest first; each ends by ``as_of``.
        steps: Days between landmarks that a boosted model may learn from.
    """

    first: str
    as_of: str
    horizon_days: int
    check_days: int
    checks: tuple[str, ...]
    steps: int

    @property
    def landmarks(self) -> list[str]:
        """Every day that is needed: for the trials, for what is learnt, and ``as_of``."""
        days = {self.as_of, *self.checks}
        for start in (*self.checks, self.as_of):
            days |= set(self.lessons(start))
        return sorted(days)

    def lessons(self, start: str) -> list[str]:
        """Landmarks whose outcome was complete on ``start``, earliest first."""
        latest = date.fromisoformat(start) - timedelta(days=self.check_days)
        earliest = date.fromisoformat(self.first) + timedelta(days=self.check_days // 2)
        days = [latest - timedelta(days=self.steps * k) for k in range(_MOST_LANDMARKS)]
        return sorted(str(day) for day in days if day >= earliest)


def rolling_origins(
    first: str, as_of: str, horizon_days: int, *, check_days: int | None = None
) -> Origins:
    """Choose the days from which a forecast is tried out before the holdout is opened.

    Args:
        first: First day of the data, ISO date.
        as_of: Last day of the calibration window, ISO date.
        horizon_days: How far the forecast goes that matters, days.
        check_days: How far a trial goes; without it the shorter of the horizon and a quarter of
            the window.

    Raises:
        ContractError: A day is no ISO date, the horizon is below one day, or the window is too
            short for one trial with something to learn from.
    """
    try:
        begin, end = date.fromisoformat(first), date.fromisoformat(as_of)
    except ValueError:
        raise ContractError(
            f"first and as_of must be ISO dates such as '1997-09-30'; got {first!r}, {as_of!r}"
        ) from None
    span = (end - begin).days
    if horizon_days < 1:
        raise ContractError(f"horizon_days must be at least 1; got {horizon_days}")
    if span < _SHORTEST_DAYS:
        raise ContractError(
            f"{span} days from {first} to {as_of} leave no room to try a forecast; "
            f"{_SHORTEST_DAYS} at least are needed: choose a later as_of"
        )
    length = min(horizon_days, span // 4) if check_days is None else check_days
    if not 1 <= length <= span // 2:
        raise ContractError(
            f"check_days must lie between 1 and {span // 2}, half of the window; got {length}"
        )
    checks = [end - timedelta(days=length * k) for k in range(1, _MOST_ORIGINS + 1)]
    # Something must have been seen before a trial, and its last lesson must have ended.
    usable = [day for day in checks if (day - begin).days >= length + length // 2]
    usable = usable or checks[:1]
    return Origins(
        first=first,
        as_of=as_of,
        horizon_days=horizon_days,
        check_days=length,
        checks=tuple(sorted(str(day) for day in usable)),
        steps=max(length // 4, 1),
    )


def calibration_origins(first: str, as_of: str, horizon_days: int) -> Origins:
    """Origins for ``recalibrate``: trials as long as the horizon, or a third of the window.

    An interval has nothing to learn before its trial starts, so its trials can be longer than those
    a champion is chosen by, and nearer to the horizon: how far outcomes scatter depends on it.

    Args:
        first: First day of the data, ISO date.
        as_of: Last day of the calibration window, ISO date.
        horizon_days: How far the forecast goes that matters, days.

    Raises:
        ContractError: As ``rolling_origins``.
    """
    rolling_origins(first, as_of, horizon_days)  # refuses what is out of bounds
    span = (date.fromisoformat(as_of) - date.fromisoformat(first)).days
    return rolling_origins(first, as_of, horizon_days, check_days=min(horizon_days, span // 3))


def at(rows: pd.DataFrame, day: str) -> pd.DataFrame:
    """Rows of one landmark, with a fresh index.

    Raises:
        ContractError: There are none.
    """
    found = rows[rows["landmark"] == pd.Timestamp(day)].reset_index(drop=True)
    if found.empty:
        raise ContractError(
            f"no customer is known on {day}: build the rows with frames.value_landmarks for "
            "origins.landmarks"
        )
    return found
