"""The calendar of a world: what a day does to everybody's chance of an order."""

from datetime import date, timedelta

import numpy as np
import numpy.typing as npt

from journeylab.errors import ContractError
from journeylab.simulate.preset import Calendar

# First days of the two lunar festivals (Hong Kong Observatory, Gregorian-lunar conversion tables).
SPRING = {
    2018: "02-16", 2019: "02-05", 2020: "01-25", 2021: "02-12", 2022: "02-01", 2023: "01-22",
    2024: "02-10", 2025: "01-29", 2026: "02-17", 2027: "02-06", 2028: "01-26", 2029: "02-13",
    2030: "02-03", 2031: "01-23", 2032: "02-11", 2033: "01-31", 2034: "02-19", 2035: "02-08",
}  # fmt: skip
MID_AUTUMN = {
    2018: "09-24", 2019: "09-13", 2020: "10-01", 2021: "09-21", 2022: "09-10", 2023: "09-29",
    2024: "09-17", 2025: "10-06", 2026: "09-25", 2027: "09-15", 2028: "10-03", 2029: "09-22",
    2030: "09-12", 2031: "10-01", 2032: "09-19", 2033: "09-08", 2034: "09-27", 2035: "09-16",
}  # fmt: skip
_LUNAR = {"spring": SPRING, "mid_autumn": MID_AUTUMN}


def daily_factors(
    calendar: Calendar, start: date, first_day: int, days: int
) -> npt.NDArray[np.float64]:
    """Factor on the chance of an order, for ``days`` days from ``first_day`` (0 is ``start``).

    Raises:
        ContractError: A lunar festival lies in a year whose date is not known here.
    """
    dates = [start + timedelta(first_day + number) for number in range(days)]
    factors = np.array(
        [
            calendar.months[day.month - 1]
            * calendar.weekdays[day.weekday()]
            * (1 + calendar.yearly_drift) ** ((day - start).days / 365.25)
            for day in dates
        ]
    )
    if not days:
        return factors
    for festival in calendar.festivals:
        for year in range(dates[0].year - 1, dates[-1].year + 2):
            begins = _festival(festival.day, year, dates)
            if begins is None:
                continue
            at = (begins - dates[0]).days
            for low, high, factor in (
                (at - festival.waiting_days, at, festival.waiting),
                (at, at + festival.days, festival.lift),
                (at + festival.days, at + festival.days + festival.sated_days, festival.sated),
            ):
                factors[max(low, 0) : max(high, 0)] *= factor
    return factors


def _festival(day: str, year: int, dates: list[date]) -> date | None:
    """When it begins in ``year``; ``None`` where that is unknown and does not matter."""
    if day in _LUNAR:
        known = _LUNAR[day].get(year)
        if known is None:
            if dates[0].year <= year <= dates[-1].year:
                raise ContractError(
                    f"the lunar calendar here knows 2018 to 2035; the world reaches {year}"
                )
            return None
        day = known
    try:
        return date.fromisoformat(f"{year}-{day}")
    except ValueError:  # 29 February
        return None


def knots(pairs: list[list[float]], length: int) -> npt.NDArray[np.float64]:
    """The factor of each day 0, 1, ... from ``[day, factor]`` pairs, constant after the last."""
    days, factors = zip(*pairs, strict=True)
    return np.asarray(np.interp(np.arange(length), days, factors))
