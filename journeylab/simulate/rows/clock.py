"""The clock: seconds of the shop's own calendar, and the UTC times they are."""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

from journeylab.simulate.people import Ints

DAY = 86_400
_EPOCH = date(1970, 1, 1)


@dataclass(frozen=True, slots=True)
class Clock:
    """The shop's wall clock; its seconds count from midnight of day 0, negative before."""

    start: date
    zone: str

    def utc(self, second: Ints) -> Ints:
        """Microseconds since 1970 of seconds on this clock."""
        absolute = np.asarray(second, np.int64) + (self.start - _EPOCH).days * DAY
        if not absolute.size:
            return absolute
        low, high = (_EPOCH + timedelta(int(at) // DAY) for at in (absolute.min(), absolute.max()))
        years = [_offsets(self.zone, year) for year in range(low.year, high.year + 1)]
        offsets = np.concatenate(years)
        if offsets.min() == offsets.max():
            return np.asarray((absolute - int(offsets[0])) * 1_000_000)
        begins = (date(low.year, 1, 1) - _EPOCH).days * 24
        return np.asarray((absolute - offsets[absolute // 3600 - begins]) * 1_000_000)

    def ahead_of(self, zone: str) -> int:
        """Seconds by which this clock is ahead of another zone's, on day 0 at noon."""
        noon = datetime(self.start.year, self.start.month, self.start.day, 12)
        return _offset(noon, ZoneInfo(self.zone)) - _offset(noon, ZoneInfo(zone))


@lru_cache(maxsize=256)
def _offsets(zone: str, year: int) -> Any:
    """Seconds ahead of UTC for every wall-clock hour of a year."""
    here = ZoneInfo(zone)
    first = datetime(year, 1, 1)
    days = (datetime(year + 1, 1, 1) - first).days
    hours = np.empty(days * 24, np.int64)
    for day in range(days):
        begins = first + timedelta(day)
        offset = _offset(begins, here)
        hours[day * 24 : day * 24 + 24] = offset
        if _offset(begins + timedelta(1), here) != offset:
            for hour in range(24):
                hours[day * 24 + hour] = _offset(begins + timedelta(hours=hour), here)
    return hours


def _offset(local: datetime, zone: ZoneInfo) -> int:
    found = local.replace(tzinfo=zone).utcoffset()
    assert found is not None
    return int(found.total_seconds())
