"""The scene of a stretch of days: who was there, when they are awake, and what happened."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from journeylab.simulate.baskets import Baskets, fill, order_draws
from journeylab.simulate.chance import UInt, uniforms
from journeylab.simulate.chronicle import Chronicle
from journeylab.simulate.life import State
from journeylab.simulate.people import NEVER, RING, Flags, Ints, People
from journeylab.simulate.preset import Preset
from journeylab.simulate.rows.clock import DAY, Clock
from journeylab.simulate.rows.columns import Letters, spell, texts, times
from journeylab.simulate.rows.names import codes_of, customer_letters, order_part

WAKES, SLEEPS = 8.5 * 3600, 23.0 * 3600
_DAYS_FROM = 1 << 43
# What a draw is for. Of a person, by their nature: the same whatever happens to them.
JOINING, JOINING_AGAIN, PLACE = 128, 129, 130
PREFERENCE_FROM, REPEATED_FROM = 256, 1024
# Of an order, beside those that ``baskets`` makes; below 64.
(HOUR, SOLD_IN, WHOSE, SENT_BACK, LINES, OPINION, SCORE, OPINION_WAIT) = range(8, 16)
LINE_FROM, MOST_LINES = 16, 8
(
    USE, USE_WAIT, USE_HOUR, CONTACT, CONTACT_WAIT, CONTACT_HOUR, CONTACT_LENGTH, CONTACT_KIND,
    BURN, BURN_SHARE, INVITED_AFTER, OPINION_HOUR, WORDING, SAYS, HELPED, ASKED_IN,
) = range(48, 64)  # fmt: skip
# Of a day.
VISIT_HOUR, VISIT_PLACE, TOUCH_FROM, WITHDRAWAL_FROM = 0, 1, 4, 48


@dataclass(frozen=True, slots=True)
class Orders:
    """Orders of the stretch, one entry each, as ``Happened`` has them.

    Attributes:
        who, day, ordinal: Position of the person, day, how many orders came before.
        moment: Second on the shop's clock.
        second: Placed under the person's second id.
        failed, invited: A service failure came with it; an invitation followed.
        money: What was paid and what it cost.
        refund_moment: When it is sent back; -1 where it is kept.
    """

    who: Ints
    day: Any
    ordinal: Any
    moment: Ints
    second: Flags
    failed: Flags
    invited: Flags
    money: Baskets
    refund_moment: Ints

    def __len__(self) -> int:
        return len(self.who)


@dataclass(frozen=True, slots=True)
class Scene:
    """A run of people in a stretch of days, and all that its tables share.

    Attributes:
        first_day, end_day: The stretch, its end not included.
        opening: The data begin here: people who joined before come out now.
        codes: Digits of each person's first and second id.
        joined: Second on the shop's clock at which they joined.
        rejoined: The same for their second id; ``NEVER`` days off where it does not come.
        wakes, sleeps: Seconds after midnight, by the shop's clock.
        preset, people, state, luck, chronicle, clock: As given.
    """

    preset: Preset
    people: People
    state: State
    luck: UInt
    chronicle: Chronicle
    clock: Clock
    first_day: int
    end_day: int
    opening: bool
    codes: tuple[UInt, UInt]
    letters: tuple[Letters, Letters]
    joined: Ints
    rejoined: Ints
    wakes: Ints
    sleeps: Ints

    def draws(self, who: Ints, day: Any, draw: Any) -> Any:
        """One number in (0, 1) for each person and day."""
        counter = _DAYS_FROM + (np.asarray(day, np.int64) + 8) * 64 + draw
        return uniforms(self.luck[who], counter)

    def at(self, who: Ints, day: Any, share: Any) -> Ints:
        """Second on the shop's clock, ``share`` (0-1) of the waking day; after they joined."""
        midnight = np.asarray(day, np.int64) * DAY
        ends = midnight + self.sleeps[who]
        begins = np.maximum(midnight + self.wakes[who], self.joined[who] + 60)
        begins = np.minimum(begins, ends - 60)
        return np.asarray(begins + (share * (ends - begins)).astype(np.int64))

    def within(self, moment: Ints) -> Flags:
        """Whether seconds on the shop's clock lie in the stretch."""
        return (moment >= self.first_day * DAY) & (moment < self.end_day * DAY)

    def names(self, who: Ints, second: Flags | None = None) -> pa.Array:
        """Customer ids; the second one where asked for."""
        letters = self.letters[0][who]
        if second is not None and second.any():
            letters[second] = self.letters[1][who[second]]
        return texts(letters)

    def order_names(self, mark: bytes, orders: Orders, of: Ints, there: Any = None) -> pa.Array:
        """Ids made of a mark and the digits of an order."""
        who, second = orders.who[of], orders.second[of]
        codes = np.where(second, self.codes[1][who], self.codes[0][who])
        digits, last = order_part(codes, orders.ordinal[of])
        return texts(spell(mark, (digits, 10), b"-", (last, 4), rows=len(of)), there)

    def times(self, moment: Ints, there: Any = None) -> pa.Array:
        """UTC timestamps of seconds on the shop's clock."""
        return times(self.clock.utc(moment), there)

    def in_chat(self, who: Ints) -> Flags:
        """Whether people belong to a chat group by the end of the stretch."""
        return np.asarray(
            self.state.join_day[who] + self.state.chat_after[who] < self.end_day, np.bool_
        )

    def groups(self, who: Ints, there: Flags | None = None) -> pa.Array:
        """Ids of chat groups."""
        return texts(spell(b"g", (self.people.group[who], 8), rows=len(who)), there)

    def advisors(self, who: Ints, there: Flags | None = None) -> pa.Array:
        """Ids of advisors, one for each chat group."""
        return texts(spell(b"a", (self.people.group[who], 8), rows=len(who)), there)

    def stores(self, who: Ints, there: Flags | None = None) -> pa.Array:
        """Ids of stores."""
        return texts(spell(b"s", (self.people.store[who], 4), rows=len(who)), there)


def set_scene(
    preset: Preset, people: People, state: State, luck: UInt, chronicle: Chronicle, begins: int
) -> Scene:
    """The scene of the chronicle's days; ``begins`` is the first day of the data."""
    number = people.number
    codes = (codes_of(number), codes_of(number, second=True))
    clock = Clock(preset.start, preset.business_tz)
    ahead = np.array(
        [
            clock.ahead_of(preset.people.time_zones.get(city, preset.business_tz))
            for city in preset.people.cities
        ],
        np.int64,
    )[people.city]
    # Their morning comes late on the shop's clock, or their night early: both within its day.
    wakes = (WAKES + np.clip(ahead, 0, 6 * 3600)).astype(np.int64)
    sleeps = (SLEEPS + np.clip(ahead, -6 * 3600, 0)).astype(np.int64)
    span = sleeps - wakes - 5400
    join_day = state.join_day.astype(np.int64)
    joined = join_day * DAY + wakes + (uniforms(people.key, JOINING) * span).astype(np.int64)
    again = people.twin_day.astype(np.int64)
    twin = (again < NEVER) & (again > join_day)
    later = (uniforms(people.key, JOINING_AGAIN) * span).astype(np.int64)
    return Scene(
        preset=preset,
        people=people,
        state=state,
        luck=luck,
        chronicle=chronicle,
        clock=clock,
        first_day=chronicle.first_day,
        end_day=chronicle.first_day + chronicle.days,
        opening=chronicle.first_day == begins,
        codes=codes,
        letters=(customer_letters(codes[0]), customer_letters(codes[1])),
        joined=joined,
        rejoined=np.where(twin, again * DAY + wakes + later, NEVER * DAY),
        wakes=wakes,
        sleeps=sleeps,
    )


def find_orders(scene: Scene) -> Orders:
    """The stretch's orders with their time, their money and the id they were placed under."""
    happened = scene.chronicle.happened
    who, day, ordinal = happened.order_person, happened.order_day, happened.order_ordinal
    key = scene.luck[who]
    money = fill(scene.preset, scene.people, scene.luck, happened)

    def draw(what: int) -> Any:
        return uniforms(key, order_draws(ordinal, what))

    moment = _order_moments(scene, who, day, draw(HOUR))
    sent_back = np.maximum(money.refund_day, 0)
    refund = scene.at(who, sent_back, 0.05 + 0.8 * draw(SENT_BACK))
    second = (draw(WHOSE) < 0.4) & (day.astype(np.int64) * DAY > scene.rejoined[who])
    return Orders(
        who,
        day,
        ordinal,
        moment,
        second,
        happened.order_failed,
        happened.order_invited,
        money,
        np.where(money.refund_day >= 0, refund, -1),
    )


def _order_moments(scene: Scene, who: Ints, day: Any, share: Any) -> Ints:
    """When orders were placed: by the hours of the day, one after the other on the same day."""
    heights = np.concatenate([[0.0], np.cumsum(scene.preset.orders.hours)])
    seconds = np.interp(share * heights[-1], heights, np.arange(25) * 3600.0).astype(np.int64)
    ahead = scene.wakes[who] - int(WAKES) + scene.sleeps[who] - int(SLEEPS)
    midnight = day.astype(np.int64) * DAY
    # Some minutes are left at the end of the day for a next order.
    moment = midnight + np.minimum((seconds + ahead) % DAY, DAY - 600)
    joining = scene.joined[who] >= midnight
    moment = np.where(joining, scene.at(who, day, share), moment)
    again = np.zeros(len(who), np.bool_)
    again[1:] = (who[1:] == who[:-1]) & (day[1:] == day[:-1])
    # At most four orders a day: the next lies between the one before and midnight.
    rows = np.flatnonzero(again)
    for row in _in_turn(rows):
        before = moment[row - 1]
        left = midnight[row] + DAY - 8 - before
        moment[row] = before + np.minimum(60, left // 4) + (share[row] * left * 0.5).astype(int)
    return np.asarray(moment)


def _in_turn(rows: Ints) -> list[Ints]:
    """Rows in rounds, so that a row's predecessor is never in the same round or a later one."""
    rounds = []
    while len(rows):
        follows = np.zeros(len(rows), np.bool_)
        follows[1:] = rows[1:] == rows[:-1] + 1
        rounds.append(rows[~follows])
        rows = rows[follows]
    return rounds


def parted(
    scene: Scene, who: Ints, moment: Ints, make: Callable[[Ints], pa.Table]
) -> tuple[pa.Table, pa.Table]:
    """Rows up to the end of the stretch and rows dated later, each sorted by person.

    Args:
        scene: The stretch.
        who: Position of the person of every entry.
        moment: Second on the shop's clock of every entry.
        make: Makes the table of the entries whose positions it is given.
    """
    order = np.argsort(who, kind="stable")
    late = moment[order] >= scene.end_day * DAY
    return make(order[~late]), make(order[late])


def leader_of(scene: Scene, who: Ints) -> Ints:
    """Number of the person whose device it is: a ring shares that of its first."""
    inviter = scene.people.inviter[who]
    number = scene.people.number[who]
    return np.where((scene.people.kind[who] == RING) & (inviter >= 0), inviter, number)
