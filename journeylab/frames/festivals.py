"""The festivals and sales that move a shop's calendar, and how far a day lies from them."""

import math
from collections.abc import Sequence
from datetime import date, timedelta

from journeylab.errors import ContractError

# Gregorian month and day of the lunar festivals: first day of the first month, fifth of the fifth,
# seventh of the seventh, fifteenth of the eighth. Three public converters give the same days.
_LUNAR = ("chinese_new_year", "dragon_boat", "qixi", "mid_autumn")
LUNAR_DAYS: dict[int, tuple[str, str, str, str]] = {
    1990: ("01-27", "05-28", "08-26", "10-03"),
    1991: ("02-15", "06-16", "08-16", "09-22"),
    1992: ("02-04", "06-05", "08-05", "09-11"),
    1993: ("01-23", "06-24", "08-24", "09-30"),
    1994: ("02-10", "06-13", "08-13", "09-20"),
    1995: ("01-31", "06-02", "08-02", "09-09"),
    1996: ("02-19", "06-20", "08-20", "09-27"),
    1997: ("02-07", "06-09", "08-09", "09-16"),
    1998: ("01-28", "05-30", "08-28", "10-05"),
    1999: ("02-16", "06-18", "08-17", "09-24"),
    2000: ("02-05", "06-06", "08-06", "09-12"),
    2001: ("01-24", "06-25", "08-25", "10-01"),
    2002: ("02-12", "06-15", "08-15", "09-21"),
    2003: ("02-01", "06-04", "08-04", "09-11"),
    2004: ("01-22", "06-22", "08-22", "09-28"),
    2005: ("02-09", "06-11", "08-11", "09-18"),
    2006: ("01-29", "05-31", "07-31", "10-06"),
    2007: ("02-18", "06-19", "08-19", "09-25"),
    2008: ("02-07", "06-08", "08-07", "09-14"),
    2009: ("01-26", "05-28", "08-26", "10-03"),
    2010: ("02-14", "06-16", "08-16", "09-22"),
    2011: ("02-03", "06-06", "08-06", "09-12"),
    2012: ("01-23", "06-23", "08-23", "09-30"),
    2013: ("02-10", "06-12", "08-13", "09-19"),
    2014: ("01-31", "06-02", "08-02", "09-08"),
    2015: ("02-19", "06-20", "08-20", "09-27"),
    2016: ("02-08", "06-09", "08-09", "09-15"),
    2017: ("01-28", "05-30", "08-28", "10-04"),
    2018: ("02-16", "06-18", "08-17", "09-24"),
    2019: ("02-05", "06-07", "08-07", "09-13"),
    2020: ("01-25", "06-25", "08-25", "10-01"),
    2021: ("02-12", "06-14", "08-14", "09-21"),
    2022: ("02-01", "06-03", "08-04", "09-10"),
    2023: ("01-22", "06-22", "08-22", "09-29"),
    2024: ("02-10", "06-10", "08-10", "09-17"),
    2025: ("01-29", "05-31", "08-29", "10-06"),
    2026: ("02-17", "06-19", "08-19", "09-25"),
    2027: ("02-06", "06-09", "08-08", "09-15"),
    2028: ("01-26", "05-28", "08-26", "10-03"),
    2029: ("02-13", "06-16", "08-16", "09-22"),
    2030: ("02-03", "06-05", "08-05", "09-12"),
    2031: ("01-23", "06-24", "08-24", "10-01"),
    2032: ("02-11", "06-12", "08-12", "09-19"),
    2033: ("01-31", "06-01", "08-01", "09-08"),
    2034: ("02-19", "06-20", "08-20", "09-27"),
    2035: ("02-08", "06-10", "08-10", "09-16"),
    2036: ("01-28", "05-30", "08-28", "10-04"),
}
_FIXED = {"sale_618": "06-18", "sale_1111": "11-11", "christmas": "12-25"}
FESTIVALS = (*_LUNAR, *_FIXED, "thanksgiving")
FIRST_YEAR, LAST_YEAR = min(LUNAR_DAYS), max(LUNAR_DAYS)
_YEAR_DAYS = 365.2425


def festival_days(festival: str, first: date, last: date) -> list[date]:
    """On which days a festival falls, between two days, ascending.

    Args:
        festival: One of ``FESTIVALS``. ``sale_618`` and ``sale_1111`` are the sales of 18 June
            and 11 November; ``thanksgiving`` is the fourth Thursday of November, from which the
            holiday season of the United States is counted.
        first: First day that counts.
        last: Last day that counts.

    Raises:
        ContractError: The festival is unknown, or a lunar one is asked for outside 1990-2036.

    Source:
        Dates of the lunar calendar as in the conversion tables of the Hong Kong Observatory.
    """
    if festival not in FESTIVALS:
        raise ContractError(f"festival must be one of {', '.join(FESTIVALS)}; got {festival!r}")
    days = [_day_in(festival, year) for year in range(first.year, last.year + 1)]
    return [day for day in days if first <= day <= last]


def calendar_of(day: date, horizon_days: int) -> dict[str, float | int]:
    """Where a day stands in the year: its season, and the way to the next festival of each kind.

    Args:
        day: Between 1990 and 2035, so that each festival comes again.
        horizon_days: How far the outcome is followed, days.

    Returns:
        ``season_sin``, ``season_cos``: sine and cosine of the share of the year that has passed;
        ``days_to_<festival>``: days to the next one, 0 on its day; ``festivals_ahead``: how many
        fall within the horizon after the day.

    Raises:
        ContractError: The day is outside the lunar table.
    """
    angle = 2 * math.pi * (day.timetuple().tm_yday - 1) / _YEAR_DAYS
    found: dict[str, float | int] = {
        "season_sin": round(math.sin(angle), 12),
        "season_cos": round(math.cos(angle), 12),
    }
    ahead = 0
    for festival in FESTIVALS:
        # a lunar festival comes again after 384 days at the latest
        coming = festival_days(festival, day, day + timedelta(days=390))
        found[f"days_to_{festival}"] = (coming[0] - day).days
        after, stop = day + timedelta(days=1), day + timedelta(days=horizon_days)
        ahead += len(festival_days(festival, after, stop))
    found["festivals_ahead"] = ahead
    return found


def promotion_of(day: date, promotions: Sequence[date], horizon_days: int) -> dict[str, int | None]:
    """The way to the shop's own promotions, as planned.

    Args:
        day: The landmark.
        promotions: First days of promotions, any order; they must have been fixed by the landmark,
            which the dates alone cannot show.
        horizon_days: How far the outcome is followed, days.

    Returns:
        ``days_to_promotion``, ``days_since_promotion`` (missing where there is none),
        ``promotions_ahead`` (count within the horizon).
    """
    past = [other for other in promotions if other <= day]
    coming = [other for other in promotions if other > day]
    return {
        "days_to_promotion": (min(coming) - day).days if coming else None,
        "days_since_promotion": (day - max(past)).days if past else None,
        "promotions_ahead": sum((other - day).days <= horizon_days for other in coming),
    }


def _day_in(festival: str, year: int) -> date:
    if festival == "thanksgiving":
        first = date(year, 11, 1)
        return first + timedelta(days=(3 - first.weekday()) % 7 + 21)
    if festival in _FIXED:
        return date.fromisoformat(f"{year}-{_FIXED[festival]}")
    if year not in LUNAR_DAYS:
        raise ContractError(
            f"the lunar calendar here knows {FIRST_YEAR} to {LAST_YEAR}; got {year}: leave the "
            "calendar out of the features"
        )
    return date.fromisoformat(f"{year}-{LUNAR_DAYS[year][_LUNAR.index(festival)]}")
