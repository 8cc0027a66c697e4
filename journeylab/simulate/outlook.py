"""Outlooks: what is to be expected of each person, exactly, from the chances that move the world.

The time since the last order, a remembered service failure and being a customer are followed as
probabilities, one day after the other; touches that are planned are followed through every way in
which they may be received. Nothing is drawn, and nothing is fitted.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit
from scipy.special import log_ndtr, ndtr

from journeylab.errors import ContractError
from journeylab.simulate.chance import Floats
from journeylab.simulate.life import (
    _CAP,
    _HIGHEST,
    _RING_FIRST,
    _RING_LATER,
    MOST_ORDERS,
    NO_TOUCHES,
    Nature,
    Rules,
    State,
    Touches,
)
from journeylab.simulate.people import NEVER, RING, People
from journeylab.simulate.preset import Preset

MOST_TOUCHES = 6
"""Touches of one person that one outlook can follow through: three ways each to be received."""


@dataclass(frozen=True, slots=True)
class Prices:
    """What an order brings, person by person and by coupon; money in currency units.

    Attributes:
        listed: Mean basket before discounts.
        coupons: Coupon depths that occur, 0 among them.
        off: Mean share taken off, people x coupons.
        goods: Cost of goods, share of ``listed``.
        refunded: Chance that an order is sent back.
        refund_days: Latest day on which that happens.
        resale: Share of the goods' cost that a return gives back.
    """

    listed: Floats
    coupons: Floats
    off: Floats
    goods: float
    refunded: float
    refund_days: int
    resale: float


@dataclass(frozen=True, slots=True)
class Outlook:
    """Expectations of each person over some horizons; arrays people x horizons.

    Attributes:
        horizons: Days ahead.
        alive: Chance to be a customer still at the end.
        no_order: Chance of no order until then.
        orders: Expected orders.
        revenue: Expected sum of amounts, refunds taken off.
        margin: Expected revenue less goods; what touches cost is not in it.
        spent: Expected cost of the touches planned: those on a closed channel cost nothing.
    """

    horizons: tuple[int, ...]
    alive: Floats
    no_order: Floats
    orders: Floats
    revenue: Floats
    margin: Floats
    spent: Floats


def expected_prices(preset: Preset, people: People) -> Prices:
    """Means of the distributions that baskets are drawn from."""
    baskets = preset.baskets
    coupons = np.unique([0.0] + [arm.coupon for test in preset.tests for arm in test.arms])
    depths = np.array([depth for depth, _ in baskets.depths])
    weights = np.array([weight for _, weight in baskets.depths])
    weights = weights / weights.sum()
    usual = (weights[None, :] * np.maximum(depths[None, :], coupons[:, None])).sum(axis=1)
    q = people.discounted[:, None]
    body = _clipped_mean(people.basket, baskets.spread, baskets.least, baskets.most)
    large = _clipped_mean(
        people.basket + np.log(baskets.large_factor), baskets.spread, baskets.least, baskets.most
    )
    listed = (1 - baskets.large) * body + baskets.large * large
    listed = np.where(people.kind == RING, baskets.least, listed)
    fail = preset.leaving.failure
    return Prices(
        listed=listed,
        coupons=coupons,
        off=(1 - q) * coupons[None, :] + q * usual[None, :],
        goods=baskets.goods,
        refunded=(1 - fail) * baskets.refunded + fail * baskets.refunded_after_failure,
        refund_days=baskets.refund_days,
        resale=baskets.resale,
    )


def _clipped_mean(centre: Floats, spread: float, least: float, most: float) -> Floats:
    """Mean of ``exp(centre + spread * z)`` held between two bounds, ``z`` standard normal."""
    if spread == 0:
        return np.asarray(np.clip(np.exp(centre), least, most))
    low, high = (np.log(least) - centre) / spread, (np.log(most) - centre) / spread
    shifted_low, shifted_high = low - spread, high - spread
    # Differences of two normal tails lose digits far out: take the side where they are small.
    inside = np.where(
        shifted_low > 0,
        np.exp(log_ndtr(-shifted_low)) - np.exp(log_ndtr(-shifted_high)),
        ndtr(shifted_high) - ndtr(shifted_low),
    )
    middle = np.exp(centre + spread**2 / 2) * np.maximum(inside, 0.0)
    return np.asarray(least * ndtr(low) + middle + most * ndtr(-high))


def outlook(
    nature: Nature,
    state: State,
    rules: Rules,
    prices: Prices,
    first_day: int,
    table_day: int,
    horizons: tuple[int, ...],
    touches: Touches = NO_TOUCHES,
    *,
    owed: Floats | None = None,
    arm: npt.NDArray[np.int8] | None = None,
    spill: bool = False,
) -> Outlook:
    """What to expect of each person from the beginning of ``first_day``.

    Args:
        nature: What the people are like.
        state: Where the same people stand.
        rules: The preset's numbers, with tables by day.
        prices: What an order of theirs brings.
        first_day: Day at whose beginning ``state`` holds.
        table_day: Day of the first row of the tables in ``rules``, which must reach the longest
            horizon.
        horizons: Days ahead, rising.
        touches: Messages planned, sorted by person and day; none beside these.
        owed: Refunds on their way that fall into each horizon, amount and goods (negative,
            currency units), 2 x people x horizons.
        arm: Arm of each person in the test that runs; by default as in ``state``.
        spill: Whether people hear of the messages to others; not so where each person's touch
            stands for a plan of its own.

    Raises:
        ContractError: Somebody has more than ``MOST_TOUCHES`` touches.
    """
    n = len(state.load)
    starts = np.searchsorted(touches.person, np.arange(n + 1))
    if len(touches) and (most := int(np.diff(starts).max())) > MOST_TOUCHES:
        raise ContractError(
            f"at most {MOST_TOUCHES} touches per person can be followed exactly; one of "
            f"{int((np.diff(starts) > MOST_TOUCHES).sum())} people has {most}: score a shorter plan"
        )
    last = max(horizons)
    ends = np.asarray(horizons, np.int64)
    out = np.zeros((6, n, len(horizons)))
    coupon_code = np.searchsorted(prices.coupons, rules.coupon)
    _outlook(
        nature, state, rules, prices.listed, prices.off, coupon_code, prices.goods,
        prices.refunded, float(prices.refund_days), prices.resale, starts, touches.day,
        touches.channel, _told(nature, state, rules, starts, touches, first_day, last, spill),
        state.arm if arm is None else arm, first_day, first_day - table_day, last, ends, out,
    )  # fmt: skip
    if owed is not None:
        out[3] += owed[0]
        out[4] += owed[0] - owed[1]
    return Outlook(tuple(horizons), *out)


def _told(
    nature: Nature,
    state: State,
    rules: Rules,
    starts: Any,
    touches: Touches,
    first_day: int,
    last: int,
    spill: bool,
) -> Floats:
    """What each person hears each day of planned messages to those before; one row if nothing."""
    heard = spill and rules.spill > 0 and bool((touches.channel == rules.spill_channel).any())
    if not heard:
        return np.zeros((1, last))
    out = np.zeros((len(state.load), last))
    _tell(nature, state, rules.spill_channel, starts, touches.day, touches.channel, first_day, out)
    return out


@njit(cache=True, nogil=True)
def _tell(
    nature: Any, state: Any, channel: Any, starts: Any, touch_day: Any, touch_channel: Any,
    first_day: Any, out: Any,
) -> None:  # fmt: skip
    days = out.shape[1]
    talk, members = np.zeros(days), np.zeros(days)
    group = -1
    for i in range(len(out)):
        if nature.group[i] != group:
            group = nature.group[i]
            talk[:] = 0.0
            members[:] = 0.0
        in_chat = float(state.join_day[i]) + state.chat_after[i]
        for step in range(days):
            day = first_day + step
            if day >= in_chat and day >= state.join_day[i]:
                if members[step] > 0.0:
                    out[i, step] = talk[step] / members[step]
                members[step] += 1.0
        for k in range(starts[i], starts[i + 1]):
            step = touch_day[k] - first_day
            inside = 0 <= step < days and touch_day[k] >= state.join_day[i]
            if inside and touch_channel[k] == channel and touch_day[k] >= in_chat:
                talk[step] += 1.0


@njit(cache=True, nogil=True)
def _outlook(
    nature: Any, state: Any, rules: Any, listed: Any, off: Any, coupon_code: Any, goods: Any,
    refunded: Any, refund_days: Any, resale: Any, starts: Any, touch_day: Any, touch_channel: Any,
    told: Any, arm: Any, first_day: Any, offset: Any, last: Any, ends: Any, out: Any,
) -> None:  # fmt: skip
    gaps = len(rules.regularity) - 1
    order_factor, harm = np.empty(last), np.empty(last)
    now = np.zeros((2, gaps + 1))
    boost = np.empty(len(rules.fade))
    # How many orders a day with one brings, and the chance that one of them goes wrong.
    chance_of_count, left = np.zeros(MOST_ORDERS + 1), 1.0
    for count in range(1, MOST_ORDERS + 1):
        chance_of_count[count] = left * (1.0 - rules.again) if count < MOST_ORDERS else left
        left *= rules.again
    orders_a_day, fails = 0.0, 1.0
    for count in range(1, MOST_ORDERS + 1):
        orders_a_day += count * chance_of_count[count]
        fails -= chance_of_count[count] * (1.0 - rules.failure) ** count
    for i in range(len(listed)):
        touches = starts[i + 1] - starts[i]
        ways = 3**touches
        for way in range(ways):
            weight, spent = _path(
                nature, state, rules, i, starts[i], touches, way, touch_day, touch_channel,
                told[i if len(told) > 1 else 0], first_day, last, boost, order_factor, harm,
            )  # fmt: skip
            if weight > 0.0:
                out[5, i] += weight * spent
                _follow(
                    nature, state, rules, listed[i], off[i], coupon_code, goods, refunded,
                    refund_days, resale, arm[i], i, first_day, offset, last, ends, weight,
                    order_factor, harm, orders_a_day, fails, now, out,
                )  # fmt: skip


@njit(cache=True, nogil=True)
def _path(
    nature: Any, state: Any, rules: Any, i: Any, start: Any, touches: Any, way: Any,
    touch_day: Any, touch_channel: Any, told: Any, first_day: Any, last: Any, boost: Any,
    order_factor: Any, harm: Any,
) -> Any:  # fmt: skip
    """Chance of one way in which the touches are received, and what it does day by day.

    Way: one digit in base 3 per touch: 0 not received, 1 received, 2 received and closed the
    channel (only told apart where a later touch on that channel follows).
    """
    channels = len(rules.fade)
    load, heard = state.load[i], state.heard[i]
    for c in range(channels):
        boost[c] = state.boost[i, c]
    weight, spent = 1.0, 0.0
    closed = 0
    at = 0
    code = way
    in_chat = float(state.join_day[i]) + state.chat_after[i]
    for step in range(last):
        day = first_day + step
        if day < state.join_day[i]:
            while at < touches and touch_day[start + at] <= day:
                if code % 3 != 0:
                    return 0.0, 0.0
                code //= 3
                at += 1
            order_factor[step], harm[step] = 0.0, 1.0
            continue
        load *= rules.load_fade
        for c in range(channels):
            boost[c] *= rules.fade[c]
        heard = heard * rules.spill_fade + told[step]
        while at < touches and touch_day[start + at] <= day:
            c = touch_channel[start + at]
            digit = code % 3
            code //= 3
            open_ = (
                nature.granted[i, c]
                and state.closed_day[i, c] > day
                and not (closed >> c) & 1
                and (not rules.chat_only[c] or day >= in_chat)
            )
            if not open_:
                if digit != 0:
                    return 0.0, 0.0
                at += 1
                continue
            spent += rules.cost[c]
            later = False
            for k in range(at + 1, touches):
                if touch_channel[start + k] == c:
                    later = True
            reach = nature.reach[i, c]
            leave = min(nature.opt_out[i, c] * np.exp(rules.opt_out_fatigue * load), 1.0)
            if digit == 0:
                weight *= 1.0 - reach
            elif digit == 1:
                weight *= reach * (1.0 - leave if later else 1.0)
            else:
                weight *= reach * leave if later else 0.0
                closed |= 1 << c
            if weight == 0.0:
                return 0.0, 0.0
            if digit != 0:
                boost[c] += nature.effect[i, c] * np.exp(-rules.fatigue * load)
                load += rules.weight[c]
            at += 1
        total = 0.0
        for c in range(channels):
            total += boost[c]
        order_factor[step] = np.exp(min(total, _HIGHEST)) * (1.0 + rules.spill * heard)
        harm[step] = 1.0
        if load > rules.patience:
            harm[step] = np.exp(nature.annoyance[i] * (load - rules.patience))
    # Touches after the last day do nothing; every way to receive them counts once.
    while at < touches:
        if code % 3 != 0:
            return 0.0, 0.0
        code //= 3
        at += 1
    return weight, spent


@njit(cache=True, nogil=True)
def _follow(
    nature: Any, state: Any, rules: Any, listed: Any, off: Any, coupon_code: Any, goods: Any,
    refunded: Any, refund_days: Any, resale: Any, arm: Any, i: Any, first_day: Any, offset: Any,
    last: Any, ends: Any, weight: Any, order_factor: Any, harm: Any, orders_a_day: Any,
    fails: Any, now: Any, out: Any,
) -> None:  # fmt: skip
    """Follow one person's probabilities through the days, and add ``weight`` times the results."""
    gaps = len(rules.regularity) - 1
    ages = len(rules.by_age) - 1
    ring = nature.kind[i] == RING
    joins = state.join_day[i]
    if state.left_day[i] < first_day:
        for h in range(len(ends)):
            out[1, i, h] += weight
        return
    now[:, :] = 0.0
    # now[f, g]: customers g days after their last order; prospects stand apart, in new[f].
    new = np.zeros(2)
    quiet = np.zeros(2)
    old_gap = -1
    f0 = 1 if state.failing[i] else 0
    if state.last_day[i] == -NEVER:
        new[f0] = 1.0
    else:
        old_gap = min(first_day - 1 - state.last_day[i], gaps)
        now[f0, old_gap] = 1.0
    quiet[f0] = 1.0
    onboarded = float(joins) + state.onboarded_after[i]
    orders, revenue, margin = 0.0, 0.0, 0.0
    # Refunds come later: what is booked on an order depends on how many days are left.
    ordered = np.zeros(last)
    gross, net_of_goods = np.zeros(last), np.zeros(last)
    at = 0
    for step in range(last):
        day = first_day + step
        if day >= joins:
            row = offset + step
            base = nature.need[i] * rules.factor[row] * order_factor[step]
            if arm >= 0:
                base *= np.exp(
                    rules.test_effect[row, arm] + rules.test_price[row, arm] * nature.price[i]
                )
            hazard = rules.leave * rules.by_age[min(day - joins, ages)] * harm[step]
            stay = 1.0 - min(hazard, 1.0)
            stay_failing = 1.0 - min(hazard * rules.after_failure, 1.0)
            kept = 1.0 - rules.forget
            # A day later: some forget the failure, some leave, some order. Those who ordered since
            # the beginning are at most `step` days on; the others are all at one place.
            order_0, order_1 = 0.0, 0.0
            top = min(step - 1, gaps)
            old_at = min(old_gap + step, gaps) if old_gap >= 0 else -1
            for k in range(top + 2):
                if k == 0 and old_at <= top:
                    continue
                g = old_at if k == 0 else top + 1 - k
                plain = (now[0, g] + now[1, g] * rules.forget) * stay
                failing = now[1, g] * kept * stay_failing
                now[0, g], now[1, g] = 0.0, 0.0
                gap = min(g + 1, gaps)
                chance = _RING_LATER if ring else min(base * rules.regularity[gap], _CAP)
                order_0 += plain * chance
                order_1 += failing * chance
                now[0, gap] += plain * (1.0 - chance)
                now[1, gap] += failing * (1.0 - chance)
            # Those who never ordered.
            first = min(base * rules.first_order[min(day - joins, gaps)], _CAP)
            if day >= onboarded:
                first = min(
                    base * rules.first_order[min(day - joins, gaps)] * rules.onboarded, _CAP
                )
            if ring:
                first = _RING_FIRST
            low_0 = (new[0] + new[1] * rules.forget) * stay
            low_1 = new[1] * kept * stay_failing
            order_0 += low_0 * first
            order_1 += low_1 * first
            new[0], new[1] = low_0 * (1.0 - first), low_1 * (1.0 - first)
            # Those without any order since the beginning.
            chance = first
            if old_gap >= 0:
                chance = _RING_LATER
                if not ring:
                    gap = min(first_day - state.last_day[i] + step, gaps)
                    chance = min(base * rules.regularity[gap], _CAP)
            plain = (quiet[0] + quiet[1] * rules.forget) * stay
            failing = quiet[1] * kept * stay_failing
            quiet[0], quiet[1] = plain * (1.0 - chance), failing * (1.0 - chance)
            ordered[step] = (plain + failing) * chance
            now[0, 0] = order_0 * (1.0 - fails)
            now[1, 0] = order_1 + order_0 * fails
            happened = (order_0 + order_1) * orders_a_day
            code = coupon_code[row, arm] if arm >= 0 else 0
            price = listed * (1.0 - off[code])
            orders += happened
            revenue += happened * price
            margin += happened * (price - listed * goods)
            gross[step] = happened * price
            net_of_goods[step] = happened * (price - listed * goods * resale)
        while at < len(ends) and ends[at] == step + 1:
            back, back_margin = 0.0, 0.0
            for t in range(step + 1):
                if gross[t] != 0.0:
                    share = min((step - t) / refund_days, 1.0)
                    back += gross[t] * share
                    back_margin += net_of_goods[t] * share
            ever = 0.0
            for t in range(step + 1):
                ever += ordered[t]
            out[0, i, at] += weight * (now.sum() + new.sum())
            out[1, i, at] += weight * (1.0 - ever)
            out[2, i, at] += weight * orders
            out[3, i, at] += weight * (revenue - refunded * back)
            out[4, i, at] += weight * (margin - refunded * back_margin)
            at += 1
