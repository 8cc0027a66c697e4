"""A day in the life: the chances of the world, day by day, for one run of people.

The order of a day is: yesterday's touches fade, today's messages arrive, some people leave, some
order, some only visit. ``outlook`` gives the exact expectations of the same chances.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from journeylab.simulate.calendar import daily_factors, knots
from journeylab.simulate.chance import Floats, UInt, normals, uniform, uniforms
from journeylab.simulate.people import NEVER, RING, Flags, Ints, People
from journeylab.simulate.preset import LONGEST_GAP, MOST_ARMS, Preset

SENT, DELIVERED, ANSWERED, BLOCKED, FAILED = range(5)
STATUSES = ("sent", "delivered", "answered", "blocked", "failed")
_CAP = 0.95
"""No day makes an order more likely than this."""
_HIGHEST = 2.5
"""Touches together never add more than this to the log chance of an order."""
_RING_FIRST, _RING_LATER = 0.5, 0.002
# What a draw of luck is for. A day has room for 64 draws, an order and a person for 64 each.
_FADE, _LEAVE, _ORDER, _AGAIN, _VISIT, _FAIL, _INVITE, _WAIT, _TOUCH = 0, 1, 2, 3, 7, 8, 12, 16, 20
_MOST_TOUCHES = 14
ORDERS_FROM = 1 << 40
PERSON_FROM = 1 << 41
WEEKS_FROM = 1 << 42
_BEGIN_GONE, _BEGIN_BOUGHT, _BEGIN_GAP, _BEGIN_STEP = 0, 1, 2, 8
MOST_ORDERS = 4


class Nature(NamedTuple):
    """What the daily kernels need to know of each person; arrays as in ``People``."""

    kind: Any
    need: Any
    visits: Any
    effect: Any
    reach: Any
    opt_out: Any
    granted: Any
    annoyance: Any
    referral: Any
    price: Any
    group: Any
    seat: Any
    child_first: Any
    child_count: Any
    children: Any
    basket: Any
    discounted: Any


class State(NamedTuple):
    """Where each person stands at the beginning of a day; one entry or row per person.

    Attributes:
        join_day, invited: May still change for those who have not joined.
        left_day: ``NEVER`` while they are customers.
        first_day: Day of the first order; ``NEVER`` before it, -``NEVER`` if before the data.
        last_day: Day of the last order; -``NEVER`` before the first.
        orders: Orders since the data began.
        failing: They remember a service failure.
        boost: What messages still add to the log chance of an order, people x channels.
        stirred: Whether that is anything.
        load: Recent touches, weighted.
        heard: What they heard of messages to others.
        closed_day: Day they closed a channel, people x channels.
        arm: Arm in the test that runs, -1 without.
        kids_asked: How many of those who might be invited were.
        step_after, step_seen: Days from joining to each onboarding step, infinite where it is not
            reached, and whether it leaves an event, people x steps.
        chat_after, onboarded_after: The same for joining the chat and for the last step.
    """

    join_day: Any
    invited: Any
    left_day: Any
    first_day: Any
    last_day: Any
    orders: Any
    failing: Any
    boost: Any
    stirred: Any
    load: Any
    heard: Any
    closed_day: Any
    arm: Any
    kids_asked: Any
    step_after: Any
    step_seen: Any
    chat_after: Any
    onboarded_after: Any


class Rules(NamedTuple):
    """The preset as numbers, and tables by day for one stretch of days."""

    factor: Any
    regularity: Any
    first_order: Any
    by_age: Any
    onboarded: float
    again: float
    leave: float
    failure: float
    after_failure: float
    forget: float
    patience: float
    fade: Any
    weight: Any
    cost: Any
    answered: Any
    receipts: Any
    visit_ratio: Any
    load_fade: float
    fatigue: float
    opt_out_fatigue: float
    spill: float
    spill_fade: float
    spill_channel: int
    chat_only: Any
    wait_log: float
    test_effect: Any
    test_price: Any
    test_visits: Any
    coupon: Any


@dataclass(frozen=True, slots=True)
class Touches:
    """Messages to send, sorted by person and day: positions, days and channels of equal length."""

    person: Ints
    day: npt.NDArray[np.int32]
    channel: npt.NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.person)


NO_TOUCHES = Touches(np.empty(0, np.int64), np.empty(0, np.int32), np.empty(0, np.int8))


@dataclass(frozen=True, slots=True)
class Happened:
    """What a run of people did in a stretch of days; ``person`` is a position, not a number.

    Attributes:
        order_person, order_day, order_ordinal: One entry per order; the ordinal counts a person's
            orders since the data began, from 0.
        order_failed: A service failure came with it.
        order_coupon: Share that a test's coupon took off.
        order_invited: The person invited somebody after it.
        visit_person, visit_day: Visits without an order.
        touch_status: Position in ``STATUSES``, one per touch sent.
    """

    order_person: Ints
    order_day: npt.NDArray[np.int32]
    order_ordinal: npt.NDArray[np.int32]
    order_failed: Flags
    order_coupon: Floats
    order_invited: Flags
    visit_person: Ints
    visit_day: npt.NDArray[np.int32]
    touch_status: npt.NDArray[np.int8]


def make_nature(people: People) -> Nature:
    """What the kernels need of ``people``."""
    has = (people.inviter >= 0) & (people.kind != RING)
    parents = np.where(has, np.searchsorted(people.number, people.inviter), -1)
    order = np.argsort(parents, kind="stable")
    order = order[parents[order] >= 0]
    counts = np.bincount(parents[order], minlength=len(people)).astype(np.int64)
    firsts = np.concatenate([[0], np.cumsum(counts)[:-1]]) if len(people) else counts
    return Nature(
        people.kind,
        people.need,
        people.visits,
        people.effect,
        people.reach,
        people.opt_out,
        people.granted,
        people.annoyance,
        people.referral,
        np.ascontiguousarray(people.traits[:, 2]),
        people.group,
        people.seat,
        firsts.astype(np.int64),
        counts,
        order.astype(np.int64),
        people.basket,
        people.discounted,
    )


def make_rules(preset: Preset, first_day: int, days: int) -> Rules:
    """The preset's numbers for ``days`` days from ``first_day``."""
    channels, touching, leaving = preset.channels, preset.touching, preset.leaving
    effect, price, visits, coupon = (np.zeros((days, MOST_ARMS)) for _ in range(4))
    for test in preset.tests:
        begins = 7 * test.first_week
        at = np.arange(max(begins, first_day), min(begins + test.days, first_day + days))
        if not len(at):
            continue
        drive = 1 + test.novelty * 0.5 ** ((at - begins) / test.novelty_days)
        for code, arm in enumerate(test.arms):
            effect[at - first_day, code] = arm.effect * drive
            price[at - first_day, code] = arm.by_price_sensitivity * drive
            visits[at - first_day, code] = arm.visits * drive
            coupon[at - first_day, code] = arm.coupon
    names = preset.channel_names
    return Rules(
        factor=daily_factors(preset.calendar, preset.start, first_day, days),
        regularity=_whole(preset.orders.regularity),
        first_order=_whole(preset.orders.first_order),
        by_age=knots(leaving.by_age, 2 + int(leaving.by_age[-1][0])),
        onboarded=preset.orders.onboarded,
        again=preset.orders.again_same_day,
        leave=leaving.daily_chance,
        failure=leaving.failure,
        after_failure=leaving.after_failure,
        forget=1 / leaving.failure_days,
        patience=leaving.patience,
        fade=np.array([0.5 ** (1 / channel.fade_days) for channel in channels]),
        weight=np.array([channel.weight for channel in channels]),
        cost=np.array([channel.cost for channel in channels]),
        answered=np.array([channel.answered for channel in channels]),
        receipts=np.array([channel.receipts for channel in channels]),
        visit_ratio=np.array([channel.visits for channel in channels]),
        load_fade=0.5 ** (1 / touching.load_days),
        fatigue=touching.fatigue,
        opt_out_fatigue=touching.opt_out_fatigue,
        spill=touching.spill_over,
        spill_fade=0.5 ** (1 / touching.spill_over_days),
        spill_channel=names.index(touching.spill_over_channel),
        chat_only=np.array([name == "chat" for name in names]),
        wait_log=float(np.log(preset.around.referral_days)),
        test_effect=effect,
        test_price=price,
        test_visits=visits,
        coupon=coupon,
    )


def _whole(pairs: list[list[float]]) -> Floats:
    return knots(pairs, LONGEST_GAP + 1)


def begin(preset: Preset, people: People, luck: UInt) -> State:
    """Where people stand on day 0."""
    n, channels = len(people), len(preset.channels)
    old = people.join_day < 0
    of = preset.people
    left = np.where(old & (uniforms(luck, PERSON_FROM + _BEGIN_GONE) < of.existing_gone), -1, NEVER)
    bought = old & (uniforms(luck, PERSON_FROM + _BEGIN_BOUGHT) < of.existing_buyers)
    # Frequent buyers were here lately: the gap is about one mean gap, at most since they joined.
    gap = -np.log(uniforms(luck, PERSON_FROM + _BEGIN_GAP)) / np.maximum(people.need, 1e-6)
    # The year before the data is long enough a memory.
    gap = np.minimum(gap, 365 * np.ones(n))
    last = np.where(bought, np.maximum(-1 - np.floor(gap), people.join_day), -NEVER)
    after, seen = _steps(preset, people, luck)
    names = [step.name for step in preset.steps]
    none = np.zeros(n)
    chat = after[:, names.index("added_to_chat")] if "added_to_chat" in names else none
    return State(
        join_day=people.join_day.copy(),
        invited=(people.kind == RING) & (people.inviter >= 0),
        left_day=left.astype(np.int32),
        first_day=np.where(bought, -NEVER, NEVER).astype(np.int32),
        last_day=last.astype(np.int32),
        orders=np.zeros(n, np.int32),
        failing=np.zeros(n, np.bool_),
        boost=np.zeros((n, channels)),
        stirred=np.zeros(n, np.bool_),
        load=np.zeros(n),
        heard=np.zeros(n),
        closed_day=np.full((n, channels), NEVER, np.int32),
        arm=np.full(n, -1, np.int8),
        kids_asked=np.zeros(n, np.int32),
        step_after=after,
        step_seen=seen,
        chat_after=chat.copy(),
        onboarded_after=after[:, -1].copy() if names else none.copy(),
    )


def _steps(preset: Preset, people: People, luck: UInt) -> tuple[Floats, Flags]:
    """Days from joining to each onboarding step, and whether it leaves an event."""
    n = len(people)
    after = np.empty((n, len(preset.steps)))
    seen = np.empty((n, len(preset.steps)), np.bool_)
    at = np.zeros(n)
    for code, step in enumerate(preset.steps):
        draw = PERSON_FROM + _BEGIN_STEP + 4 * code
        chance = step_chances(preset, people)[:, code]
        done = uniforms(luck, draw) < chance
        skipped = uniforms(luck, draw + 1) < step.skipped
        wait = waiting_quantile(step.waiting, step.typical_days, step.spread, luck, draw + 2)
        at = np.where(done & ~skipped, at + wait, np.where(done, at, np.inf))
        after[:, code] = at
        seen[:, code] = done & ~skipped & np.isfinite(at)
    return after, seen


def step_chances(preset: Preset, people: People) -> Floats:
    """Chance of each onboarding step for those who did the one before, people x steps."""
    columns = []
    for step in preset.steps:
        if not 0 < step.chance < 1:
            columns.append(np.full(len(people), step.chance))
            continue
        odds = np.log(step.chance / (1 - step.chance)) + people.onboarding
        columns.append(1 / (1 + np.exp(-odds)))
    return np.column_stack(columns) if columns else np.empty((len(people), 0))


def waiting_quantile(kind: str, typical: float, spread: float, luck: UInt, draw: int) -> Floats:
    """A waiting time for each key, days; ``typical`` is its median."""
    if kind == "lognormal":
        return np.asarray(typical * np.exp(spread * normals(luck, draw)))
    return np.asarray(typical * (-np.log2(uniforms(luck, draw))) ** (1 / spread))


def advance(
    nature: Nature,
    state: State,
    rules: Rules,
    luck: UInt,
    touches: Touches,
    first_day: int,
    days: int,
    table_day: int,
) -> Happened:
    """Let ``days`` days pass, from ``first_day``; ``state`` is moved on in place.

    Args:
        nature: What the people are like.
        state: Where the same people stand.
        rules: The preset's numbers, with tables by day.
        luck: One key per person.
        touches: Messages of these days, sorted by person, day.
        first_day: First day of the stretch.
        days: Its length.
        table_day: Day of the first row of the tables in ``rules``.
    """
    n = len(state.load)
    person, day = (
        np.empty(MOST_ORDERS * n * days, np.int64),
        np.empty(MOST_ORDERS * n * days, np.int32),
    )
    ordinal = np.empty(len(person), np.int32)
    failed, invited = np.empty(len(person), np.bool_), np.empty(len(person), np.bool_)
    coupon = np.empty(len(person))
    visitor, visited = np.empty(n * days, np.int64), np.empty(n * days, np.int32)
    status = np.empty(len(touches), np.int8)
    starts = np.searchsorted(touches.person, np.arange(n + 1))
    orders, visits = _advance(
        nature, state, rules, luck, starts, touches.day, touches.channel, status,
        first_day, days, first_day - table_day,
        person, day, ordinal, failed, coupon, invited, visitor, visited,
    )  # fmt: skip
    return Happened(
        person[:orders].copy(),
        day[:orders].copy(),
        ordinal[:orders].copy(),
        failed[:orders].copy(),
        coupon[:orders].copy(),
        invited[:orders].copy(),
        visitor[:visits].copy(),
        visited[:visits].copy(),
        status,
    )


@njit(cache=True, nogil=True)
def _advance(
    nature: Any, state: Any, rules: Any, luck: Any, starts: Any, touch_day: Any, touch_channel: Any,
    status: Any, first_day: Any, days: Any, offset: Any,
    order_person: Any, order_day: Any, order_ordinal: Any, order_failed: Any, order_coupon: Any,
    order_invited: Any, visit_person: Any, visit_day: Any,
) -> Any:  # fmt: skip
    channels = len(rules.fade)
    gaps, ages = len(rules.regularity) - 1, len(rules.by_age) - 1
    orders, visits = 0, 0
    talk, members = np.zeros(days), np.zeros(days)
    group = -1
    for i in range(len(luck)):
        key = luck[i]
        if nature.group[i] != group:
            group = nature.group[i]
            talk[:] = 0.0
            members[:] = 0.0
        at = starts[i]
        end = starts[i + 1]
        joins = state.join_day[i]
        if joins >= first_day + days:
            for k in range(at, end):
                status[k] = BLOCKED
            continue
        in_chat = float(joins) + state.chat_after[i]
        onboarded = float(joins) + state.onboarded_after[i]
        ring = nature.kind[i] == RING
        for step in range(days):
            day = first_day + step
            if day < joins:
                while at < end and touch_day[at] == day:
                    status[at] = BLOCKED
                    at += 1
                continue
            row = step + offset
            base = (day + 8) * 64
            # Yesterday fades.
            load = state.load[i] * rules.load_fade
            total, for_visits = 0.0, 0.0
            if state.stirred[i]:
                most = 0.0
                for c in range(channels):
                    state.boost[i, c] *= rules.fade[c]
                    most = max(most, abs(state.boost[i, c]))
                state.stirred[i] = most > 1e-12
            heard = state.heard[i] * rules.spill_fade
            if day >= in_chat:
                if members[step] > 0.0:
                    heard += talk[step] / members[step]
                members[step] += 1.0
            if state.failing[i] and uniform(key, base + _FADE) < rules.forget:
                state.failing[i] = False
            # Messages arrive.
            number = 0
            while at < end and touch_day[at] == day:
                c = touch_channel[at]
                draw = base + _TOUCH + 3 * number
                number += 1
                open_ = (
                    nature.granted[i, c]
                    and state.closed_day[i, c] > day
                    and (not rules.chat_only[c] or day >= in_chat)
                )
                if not open_:
                    status[at] = BLOCKED
                elif uniform(key, draw) < nature.reach[i, c]:
                    status[at] = SENT
                    if rules.receipts[c]:
                        status[at] = DELIVERED
                        if uniform(key, draw + 1) < rules.answered[c]:
                            status[at] = ANSWERED
                    leave = nature.opt_out[i, c] * np.exp(rules.opt_out_fatigue * load)
                    if uniform(key, draw + 2) < leave:
                        state.closed_day[i, c] = day
                    state.boost[i, c] += nature.effect[i, c] * np.exp(-rules.fatigue * load)
                    load += rules.weight[c]
                    state.stirred[i] = True
                else:
                    status[at] = FAILED if rules.receipts[c] else SENT
                if c == rules.spill_channel and day >= in_chat:
                    talk[step] += 1.0
                at += 1
            state.load[i] = load
            state.heard[i] = heard
            if state.left_day[i] <= day:
                continue
            # Some leave.
            hazard = rules.leave * rules.by_age[min(day - joins, ages)]
            if state.failing[i]:
                hazard *= rules.after_failure
            if load > rules.patience:
                hazard *= np.exp(nature.annoyance[i] * (load - rules.patience))
            if uniform(key, base + _LEAVE) < hazard:
                state.left_day[i] = day
                continue
            # Some order.
            if state.stirred[i]:
                for c in range(channels):
                    total += state.boost[i, c]
                    for_visits += state.boost[i, c] * rules.visit_ratio[c]
            arm = state.arm[i]
            new = state.last_day[i] == -NEVER
            if ring:
                chance = _RING_FIRST if new else _RING_LATER
            else:
                chance = nature.need[i] * rules.factor[row]
                if new:
                    chance *= rules.first_order[min(day - joins, gaps)]
                    if day >= onboarded:
                        chance *= rules.onboarded
                else:
                    chance *= rules.regularity[min(day - state.last_day[i], gaps)]
                if arm >= 0:
                    chance *= np.exp(
                        rules.test_effect[row, arm] + rules.test_price[row, arm] * nature.price[i]
                    )
                if total != 0.0:
                    chance *= np.exp(min(total, _HIGHEST))
                chance *= 1.0 + rules.spill * heard
            if uniform(key, base + _ORDER) < min(chance, _CAP):
                count = 1
                while count < MOST_ORDERS and uniform(key, base + _AGAIN + count) < rules.again:
                    count += 1
                for k in range(count):
                    failed = uniform(key, base + _FAIL + k) < rules.failure
                    if failed:
                        state.failing[i] = True
                    invites = uniform(key, base + _INVITE + k) < nature.referral[i]
                    if invites:
                        _invite(nature, state, rules, key, base + _WAIT + k, i, day)
                    order_person[orders] = i
                    order_day[orders] = day
                    order_ordinal[orders] = state.orders[i]
                    order_failed[orders] = failed
                    order_coupon[orders] = rules.coupon[row, arm] if arm >= 0 else 0.0
                    order_invited[orders] = invites
                    orders += 1
                    state.orders[i] += 1
                if new:
                    state.first_day[i] = day
                state.last_day[i] = day
                continue
            chance = nature.visits[i] * rules.factor[row]
            if arm >= 0:
                chance *= np.exp(rules.test_visits[row, arm])
            if for_visits != 0.0:
                chance *= np.exp(min(for_visits, _HIGHEST))
            if uniform(key, base + _VISIT) < min(chance, _CAP):
                visit_person[visits] = i
                visit_day[visits] = day
                visits += 1
    return orders, visits


@njit(cache=True, nogil=True)
def _invite(nature: Any, state: Any, rules: Any, key: Any, draw: Any, i: Any, day: Any) -> None:
    """The next person who waits for an invitation by ``i`` joins some days from now."""
    first = nature.child_first[i]
    while state.kids_asked[i] < nature.child_count[i]:
        child = nature.children[first + state.kids_asked[i]]
        state.kids_asked[i] += 1
        u = uniform(key, draw)
        # A log-logistic wait: most come soon, some much later.
        wait = np.exp(rules.wait_log) * (u / (1.0 - u)) ** 0.5
        when = day + 1 + int(min(wait, 400.0))
        if when < state.join_day[child]:
            state.join_day[child] = when
            state.invited[child] = True
            return
