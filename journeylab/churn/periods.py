"""The days a churn study works with, chosen from what the user wrote and what the data span."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from journeylab.churn.curves import landmark_days
from journeylab.errors import ContractError

# What a shop plans by; whoever follows customers for less gets only those that fit.
_HORIZONS = (30, 60, 90)
_TICKS = 6


@dataclass(frozen=True, slots=True)
class Periods:
    """The days a churn notebook works with; single days are ISO dates.

    Attributes:
        first: First day with an order.
        last: Last complete day: following stops here.
        landmarks: Days to look from, ascending, at least two.
        horizon_days: How far the next purchase is followed, days.
        horizons: Days after a landmark to report, ascending: 30, 60 and 90 where they are not
            longer than ``horizon_days``, and ``horizon_days`` itself.
    """

    first: str
    last: str
    landmarks: tuple[str, ...]
    horizon_days: int
    horizons: tuple[int, ...]

    @property
    def near(self) -> int:
        """The shortest horizon, days."""
        return self.horizons[0]

    @property
    def far(self) -> int:
        """The longest horizon, days."""
        return self.horizons[-1]

    @property
    def ends(self) -> tuple[int, ...]:
        """The shortest and the longest horizon, once where they are the same."""
        return tuple(sorted({self.near, self.far}))

    @property
    def ticks(self) -> range:
        """Evenly spaced days from 0 to the horizon, for a table of those still waiting."""
        return range(0, self.horizon_days + 1, max(1, round(self.horizon_days / _TICKS)))

    @property
    def tomorrow(self) -> str:
        """The day after ``last``."""
        return (date.fromisoformat(self.last) + timedelta(days=1)).isoformat()


def periods(
    first_day: date,
    last_day: date,
    horizon_days: int,
    landmarks: str = "",
    until: str = "",
) -> Periods:
    """Choose the days: what is given is kept, what is empty is taken from the data's span.

    Args:
        first_day: First day with an order.
        last_day: Last day with an order.
        horizon_days: How far the next purchase is followed, days, 1 or more.
        landmarks: ISO dates parted by commas or blanks; empty takes ``landmark_days``.
        until: ISO date of the last complete day; empty takes ``last_day``.

    Raises:
        ContractError: A date is malformed, or the days leave too little before or after them.
    """
    if horizon_days < 1:
        raise ContractError(f"horizon_days must be 1 or more; got {horizon_days}")
    last = _iso_dates("until", until)[0] if until.strip() else last_day
    if last <= first_day:
        raise ContractError(
            f"the last complete day ({last}, set by until or by the last order) must lie after the "
            f"first day with an order ({first_day})"
        )
    if landmarks.strip():
        days = _followed(_iso_dates("landmarks", landmarks), first_day, last, horizon_days)
    else:
        days = landmark_days(first_day, last, horizon_days)
    return Periods(
        first=first_day.isoformat(),
        last=last.isoformat(),
        landmarks=tuple(days),
        horizon_days=horizon_days,
        horizons=(*(days for days in _HORIZONS if days < horizon_days), horizon_days),
    )


def whole_numbers(name: str, text: str) -> list[int]:
    """The whole numbers of a parameter that lists them.

    Args:
        name: The parameter, for the message.
        text: Numbers of 0 or more, parted by commas.

    Raises:
        ContractError: There is none, or one is no such number.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise ContractError(
            f"{name} must be whole numbers parted by commas, such as '7, 14, 30'; got {text!r}"
        )
    return [int(part) for part in parts]


def _followed(days: Sequence[date], first: date, last: date, horizon_days: int) -> list[str]:
    """The landmarks, ascending, once each horizon fits before the last one and after it."""
    ordered = sorted(set(days))
    if len(ordered) < 2:
        raise ContractError(
            "landmarks must be two days at least, the last one to judge the forecast and one "
            f"before it to fit on; got {', '.join(map(str, ordered))}"
        )
    early, final = ordered[0], ordered[-1]
    if early < first:
        raise ContractError(f"landmarks must not lie before the first order ({first}); got {early}")
    if final + timedelta(days=horizon_days) > last:
        raise ContractError(
            f"landmarks must leave {horizon_days} days (horizon_days) up to {last}; after {final} "
            f"there are {max((last - final).days, 0)}: take earlier days or a shorter horizon_days"
        )
    if early + timedelta(days=horizon_days) > final:
        raise ContractError(
            f"the first of the landmarks must lie {horizon_days} days (horizon_days) before the "
            f"last, whose forecast is fitted on it; {early} lies {(final - early).days} before "
            f"{final}"
        )
    return [day.isoformat() for day in ordered]


def _iso_dates(name: str, text: str) -> list[date]:
    try:
        return [date.fromisoformat(part) for part in text.replace(",", " ").split()]
    except ValueError:
        raise ContractError(
            f"{name} must be written as ISO dates such as 2024-01-31; got {text!r}"
        ) from None
