"""Who is touched and who is in a test: the shop's own habits, week by week."""

from datetime import date, timedelta

import numpy as np
import numpy.typing as npt

from journeylab.simulate.chance import UInt, keys, uniforms
from journeylab.simulate.chronicle import Assigned, Sent
from journeylab.simulate.life import WEEKS_FROM, State, Touches
from journeylab.simulate.people import RING, STAFF, Flags, Ints, People
from journeylab.simulate.preset import Preset, Stretch, Test

RECENT_DAYS = 28
_SEND_DAYS = 3
"""Touches of a wave go out on its first days, so that a week after is almost a week of effect."""
# What a draw of a week's luck is for; 16 each week.
_CHOICE, _CHANNEL, _DAY, _AUDIENCE, _ARM, _LOST = range(6)


def test_on(preset: Preset, day: int) -> tuple[int, Test] | None:
    """The test that runs on ``day`` and its position; tests never overlap."""
    for code, test in enumerate(preset.tests):
        if 7 * test.first_week <= day < 7 * test.first_week + test.days:
            return code, test
    return None


test_on.__test__ = False  # type: ignore[attr-defined]


def begin_test(
    preset: Preset, people: People, state: State, luck: UInt, world: int, day: int
) -> Assigned:
    """End the test that is over and begin the one that starts on ``day``; sets ``state.arm``.

    Args:
        preset: With the tests.
        people: Who they are.
        state: Where they stand on the morning of ``day``.
        luck: One key per person.
        world: Key of the world's luck, for what is randomised by group.
        day: First day of a week.
    """
    running = test_on(preset, day)
    if running is None:
        state.arm[:] = -1
        return nobody()
    code, test = running
    if 7 * test.first_week != day:
        return nobody()
    draw = WEEKS_FROM + 16 * (day // 7)
    may = (state.join_day <= day) & (people.kind < STAFF)
    if test.audience < 1:
        may &= uniforms(luck, draw + _AUDIENCE) < test.audience
    if test.quiet_days:
        may &= day - state.last_day.astype(np.int64) >= test.quiet_days
    if test.unit == "group":
        may &= state.join_day + state.chat_after <= day
        drawn = uniforms(keys(world ^ 0x9E3779B9, people.group), draw + _ARM)
    else:
        drawn = uniforms(luck, draw + _ARM)
    shares = np.array([arm.share for arm in test.arms])
    arm = np.minimum(np.searchsorted(np.cumsum(shares), drawn, side="right"), len(shares) - 1)
    state.arm[:] = np.where(may, arm, -1)
    logged = may
    if test.lost:
        lost = (people.device == 0) & (arm > 0) & (uniforms(luck, draw + _LOST) < test.lost)
        logged = may & ~lost
    who = np.flatnonzero(logged)
    return Assigned(
        who,
        np.full(len(who), day, np.int32),
        np.full(len(who), code, np.int32),
        arm[who].astype(np.int8),
        shares[arm[who]],
    )


def send(
    preset: Preset, people: People, state: State, luck: UInt, day: int
) -> tuple[Sent, Assigned]:
    """The shop's touches of the week that begins on ``day``.

    While a test runs, the shop sends nothing else.
    """
    stretch = stretch_of(preset, day // 7)
    if stretch is None or test_on(preset, day) is not None:
        return nothing(), nobody()
    draw = WEEKS_FROM + 16 * (day // 7)
    may = (state.join_day <= day) & (people.kind != RING)
    recent = day - state.last_day.astype(np.int64) <= RECENT_DAYS
    if stretch.kind == "randomised":
        return _randomised(preset, stretch, luck, draw, day, may, recent)
    sensed = people.traits[:, 0]
    odds = stretch.level + stretch.recent * recent + stretch.need * sensed
    may = may & (uniforms(luck, draw + _CHOICE) < 1 / (1 + np.exp(-odds)))
    who = np.flatnonzero(may)
    weights = np.array([stretch.arms.get(name, 0.0) for name in preset.channel_names])
    heights = np.cumsum(weights)
    at = uniforms(luck[who], draw + _CHANNEL) * heights[-1]
    channel = np.minimum(np.searchsorted(heights, at, side="right"), len(heights) - 1)
    when = day + (uniforms(luck[who], draw + _DAY) * 7).astype(np.int32)
    return _sent(who, when, channel, day // 7, np.full(len(who), np.nan)), nobody()


def _randomised(
    preset: Preset, stretch: Stretch, luck: UInt, draw: int, day: int, may: Flags, recent: Flags
) -> tuple[Sent, Assigned]:
    names = ("none", *preset.channel_names)
    usual = np.array([stretch.arms.get(name, 0.0) for name in names])
    lately = np.array([(stretch.arms_recent or stretch.arms).get(name, 0.0) for name in names])
    who = np.flatnonzero(may)
    chances = np.where(recent[who][:, None], lately[None, :], usual[None, :])
    drawn = uniforms(luck[who], draw + _CHOICE)
    arm = np.minimum((drawn[:, None] >= np.cumsum(chances, axis=1)).sum(axis=1), len(names) - 1)
    propensity = chances[np.arange(len(who)), arm]
    when = day + (uniforms(luck[who], draw + _DAY) * _SEND_DAYS).astype(np.int32)
    touched = arm > 0
    sent = _sent(who[touched], when[touched], arm[touched] - 1, day // 7, propensity[touched])
    assigned = Assigned(
        who,
        np.full(len(who), day, np.int32),
        np.full(len(who), -1 - day // 7, np.int32),
        (arm - 1).astype(np.int8),
        propensity,
    )
    return sent, assigned


def stretch_of(preset: Preset, week: int) -> Stretch | None:
    """The stretch of touches that ``week`` belongs to; the last goes on after the data's end."""
    week = min(week, preset.weeks - 1)
    for stretch in preset.stretches:
        if stretch.first_week <= week <= stretch.last_week:
            return stretch
    return None


def label_of_week(start: date, week: int) -> str:
    """``2025-W19``: the ISO week that begins ``week`` weeks after ``start``."""
    year, number, _ = (start + timedelta(7 * week)).isocalendar()
    return f"{year}-W{number:02d}"


def nothing() -> Sent:
    """No touches."""
    none = np.empty(0, np.int64)
    return _sent(none, none.astype(np.int32), none, 0, np.empty(0))


def nobody() -> Assigned:
    """No assignments."""
    return Assigned(
        np.empty(0, np.int64),
        np.empty(0, np.int32),
        np.empty(0, np.int32),
        np.empty(0, np.int8),
        np.empty(0),
    )


def _sent(
    who: Ints,
    day: npt.NDArray[np.int32],
    channel: npt.NDArray[np.int64],
    wave: int,
    propensity: npt.NDArray[np.float64],
) -> Sent:
    return Sent(
        Touches(who, day, channel.astype(np.int8)),
        np.full(len(who), wave, np.int32),
        propensity,
    )
