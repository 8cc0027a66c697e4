"""Channel costs: what acquiring people and sending messages cost, month by month."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from journeylab.simulate.preset import Preset
from journeylab.simulate.rows.clock import DAY, Clock
from journeylab.simulate.rows.columns import as_table, money, words
from journeylab.simulate.rows.customers import REFERRAL

Counts = npt.NDArray[np.int64]
_RISING = 0.25
"""Cost per head rises with the volume of a month to this power."""


@dataclass(frozen=True, slots=True)
class Costs:
    """What costs rest on, for some of the people; parts add up to the whole.

    Attributes:
        acquired: People who joined, ways of coming x months of the data.
        touched: Messages that were not blocked, channels x months of the data.
    """

    acquired: Counts
    touched: Counts

    def __add__(self, other: "Costs") -> "Costs":
        """Counts of both taken together."""
        return Costs(self.acquired + other.acquired, self.touched + other.touched)


def count_costs(preset: Preset, tables: Mapping[str, pa.Table]) -> Costs:
    """People acquired and messages sent by month of the preset's days.

    Args:
        preset: The world.
        tables: ``customers`` and ``touches`` of some of its people.
    """
    customers, touches = tables["customers"], tables["touches"]
    sent = touches.filter(pc.not_equal(touches["status"], "blocked"))
    return Costs(
        _by_month(preset, customers["source_channel"], customers["joined_at"], _ways(preset)),
        _by_month(preset, sent["channel"], sent["touched_at"], preset.channel_names),
    )


def channel_costs(preset: Preset, parts: Costs | Sequence[Costs]) -> pa.Table:
    """One row per channel and month; a way of coming and a channel of one name are one row.

    A head costs more in a month with more of them a day than usual, and less in one with fewer.

    Args:
        preset: The world.
        parts: Counts of all its people, in one or in parts.
    """
    whole = parts if isinstance(parts, Costs) else sum(parts[1:], parts[0])
    months = _months(preset)
    length = np.diff([*(at for _, at in months), preset.days])
    heads = whole.acquired
    usual = heads.sum(axis=1, keepdims=True) / preset.days
    a_day = heads / length
    volume = np.divide(a_day, usual, out=np.ones_like(a_day), where=usual > 0)
    price = {source.name: source.cost for source in preset.sources}
    per_head = np.array([price.get(name, 0.0) for name in _ways(preset)])[:, None]
    spent = dict(zip(_ways(preset), 100 * per_head * heads * volume**_RISING, strict=True))
    for channel, sent in zip(preset.channels, whole.touched, strict=True):
        before = spent.get(channel.name, np.zeros(len(months)))
        spent[channel.name] = before + round(100 * channel.cost) * sent
    names = sorted(spent)
    cost = np.array([spent[name] for name in names])
    bought = dict(zip(_ways(preset), heads, strict=True))
    none = np.zeros(len(months), np.int64)
    came = np.array([bought.get(name, none) for name in names])
    row, column = np.nonzero((cost > 0) | (came > 0))
    of_people = np.array([name in bought for name in names])[row]
    return as_table(
        "channel_costs",
        {
            "channel": words(names, row),
            "period": pa.array([months[at][0] for at in column], pa.date32()),
            "cost": money(np.floor(cost[row, column] + 0.5).astype(np.int64)),
            "acquired": pa.array(came[row, column], mask=~of_people),
        },
    )


def _ways(preset: Preset) -> tuple[str, ...]:
    """Names under which people come: the sources, and invitations."""
    names = [source.name for source in preset.sources]
    return tuple(names) if REFERRAL in names else (*names, REFERRAL)


def _months(preset: Preset) -> list[tuple[date, int]]:
    """First day of every month of the data, and the day of the data on which it begins."""
    months = [(preset.start.replace(day=1), 0)]
    for day in range(1, preset.days):
        at = preset.start + timedelta(day)
        if at.day == 1:
            months.append((at, day))
    return months


def _by_month(preset: Preset, word: Any, moment: Any, names: Sequence[str]) -> Counts:
    begins = np.array([*(at for _, at in _months(preset)), preset.days], np.int64)
    cuts = Clock(preset.start, preset.business_tz).utc(begins * DAY)
    month = np.searchsorted(cuts, moment.cast(pa.int64()).to_numpy(), side="right") - 1
    code = pc.index_in(word, value_set=pa.array(names, pa.string()))
    code = pc.fill_null(code, -1).to_numpy()
    months = len(begins) - 1
    known = (code >= 0) & (month >= 0) & (month < months)
    at = code[known].astype(np.int64) * months + month[known]
    return np.bincount(at, minlength=len(names) * months).reshape(len(names), months)
