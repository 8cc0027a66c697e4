"""Running: a run of people through days and weeks, with the shop's own habits or without."""

from dataclasses import dataclass

import numpy as np

from journeylab.simulate.chance import UInt, keys
from journeylab.simulate.chronicle import Assigned, Chronicle, Sent, join
from journeylab.simulate.life import Nature, Rules, State, Touches, advance
from journeylab.simulate.people import Flags, Ints, People
from journeylab.simulate.preset import Preset
from journeylab.simulate.touching import begin_test, nobody, nothing, send


@dataclass(frozen=True, slots=True)
class Cast:
    """A run of people with all that does not change: their nature, luck and the rules.

    Attributes:
        world: Key of the world's luck.
        luck: Key of each person's luck.
        rules: With tables by day from ``table_day`` on.
    """

    preset: Preset
    people: People
    nature: Nature
    rules: Rules
    table_day: int
    world: int
    luck: UInt


def with_luck(cast: Cast, world: int) -> Cast:
    """The same people with other luck."""
    return Cast(
        cast.preset,
        cast.people,
        cast.nature,
        cast.rules,
        cast.table_day,
        world,
        keys(world, cast.people.number),
    )


def copied(state: State) -> State:
    """A state that can be moved on without changing this one."""
    return State(*(array.copy() for array in state))


def run(
    cast: Cast, state: State, first_day: int, days: int, *, habits: bool, given: Sent | None = None
) -> Chronicle:
    """Let days pass; ``state`` is moved on in place.

    Args:
        cast: Who.
        state: Where they stand at the beginning of ``first_day``.
        first_day: First day of the stretch.
        days: Its length; ``cast.rules`` must cover it.
        habits: Whether the shop touches and tests as the preset says. Waves and tests begin on
            the first day of a week: of a week begun before, nothing more is sent.
        given: Touches from outside, sorted by person and day.
    """
    pieces: list[Chronicle] = []
    day, end = first_day, first_day + days
    sent = nothing()
    while day < end or not pieces:
        # Always cut at weeks, so that the answer does not depend on how a stretch is asked for.
        stop = min(end, (day // 7 + 1) * 7)
        assigned = nobody()
        if habits and day % 7 == 0 and day < end:
            tested = begin_test(cast.preset, cast.people, state, cast.luck, cast.world, day)
            sent, waved = send(cast.preset, cast.people, state, cast.luck, day)
            assigned = _both(tested, waved)
        now = _between(sent, day, stop)
        if given is not None:
            now = _merged(now, _between(given, day, stop))
        happened = advance(
            cast.nature, state, cast.rules, cast.luck, now.touches, day, stop - day, cast.table_day
        )
        pieces.append(Chronicle(day, stop - day, happened, now, assigned))
        day = stop
    return join(pieces)


def _between(sent: Sent, first: int, stop: int) -> Sent:
    inside = (sent.touches.day >= first) & (sent.touches.day < stop)
    return sent if inside.all() else _rows(sent, inside)


def _rows(sent: Sent, rows: Ints | Flags) -> Sent:
    touches = sent.touches
    return Sent(
        Touches(touches.person[rows], touches.day[rows], touches.channel[rows]),
        sent.wave[rows],
        sent.propensity[rows],
    )


def _merged(one: Sent, other: Sent) -> Sent:
    if not len(one.touches):
        return other
    both = Sent(
        Touches(
            *(
                np.concatenate([getattr(one.touches, name), getattr(other.touches, name)])
                for name in ("person", "day", "channel")
            )
        ),
        np.concatenate([one.wave, other.wave]),
        np.concatenate([one.propensity, other.propensity]),
    )
    return _rows(both, np.lexsort((both.touches.day, both.touches.person)))


def _both(one: Assigned, other: Assigned) -> Assigned:
    return Assigned(
        *(
            np.concatenate([getattr(one, name), getattr(other, name)])
            for name in ("person", "day", "test", "arm", "propensity")
        )
    )
