"""Loyalty: points earned, burnt and taken back, and the tiers that spending reaches."""

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numba import njit

from journeylab.simulate.baskets import order_draws
from journeylab.simulate.chance import uniforms
from journeylab.simulate.people import Ints
from journeylab.simulate.rows.columns import as_table, numbers, words
from journeylab.simulate.rows.scene import BURN, BURN_SHARE, Orders, Scene, parted

REWARD = 200
"""Points for somebody who was invited and came."""
_LEAST_BURNT = 50
_REASONS = ("order", "burnt", "reversed", "referral")
_EARNED, _BURNT, _REVERSED, _REFERRED = range(4)


class Ledger(NamedTuple):
    """What each person has collected under their first id; arrays, one entry per person.

    ``balance`` is points free to be burnt: those of an order that will be sent back never are,
    so that taking them back leaves no debt. ``spent`` is hundredths paid since the data began,
    ``tier`` the number of tiers reached, ``since`` the second on the shop's clock at which the
    last one began.
    """

    balance: Any
    spent: Any
    tier: Any
    since: Any


def new_ledger(count: int) -> Ledger:
    """The ledger of ``count`` people who have collected nothing."""
    return Ledger(
        np.zeros(count, np.int64),
        np.zeros(count, np.int64),
        np.zeros(count, np.int8),
        np.zeros(count, np.int64),
    )


def loyalty_rows(
    scene: Scene, orders: Orders, ledger: Ledger
) -> tuple[pa.Table, pa.Table, pa.Table, Ledger]:
    """Points of the stretch, points dated later, memberships, and the ledger after it."""
    around = scene.preset.around
    invitee, inviter = _rewards(scene)
    first = np.flatnonzero(~orders.second)
    earned = np.floor(orders.money.amount / 100 * around.points_per_unit + 1e-9).astype(np.int64)
    who = np.concatenate([orders.who[first], inviter])
    moment = np.concatenate([orders.moment[first], scene.joined[invitee]])
    order = np.lexsort((moment, who))
    item = np.concatenate([first, np.full(len(inviter), -1)])[order]
    who, moment = who[order], moment[order]
    key = scene.luck[orders.who]
    tries = uniforms(key, order_draws(orders.ordinal, BURN)) < around.points_burnt
    share = uniforms(key, order_draws(orders.ordinal, BURN_SHARE))
    tiers = sorted(around.tiers.items(), key=lambda pair: pair[1])
    limits = np.array([round(limit * 100) for _, limit in tiers], np.int64)
    after = Ledger(*(array.copy() for array in ledger))
    burnt, reached = np.zeros(len(orders), np.int64), np.zeros(len(item), np.int8)
    _settle(
        who, item, moment, earned, orders.refund_moment >= 0, orders.money.amount, tries, share,
        limits, after, burnt, reached,
    )  # fmt: skip
    now, later = _point_rows(scene, orders, earned, burnt, inviter, invitee)
    rows = np.flatnonzero(reached)
    members = _membership_rows(
        scene, ledger, who[rows], moment[rows], reached[rows], [name for name, _ in tiers]
    )
    return now, later, members, after


def _rewards(scene: Scene) -> tuple[Ints, Ints]:
    """Positions of those who came by invitation in the stretch and of those who invited them."""
    people = scene.people
    came = scene.within(scene.joined) & scene.state.invited & (people.inviter >= 0)
    invitee = np.flatnonzero(came)
    if not len(invitee):
        return invitee, invitee
    at = np.searchsorted(people.number, people.inviter[invitee])
    at = np.minimum(at, len(people) - 1)
    here = people.number[at] == people.inviter[invitee]
    return invitee[here], at[here]


@njit(cache=True, nogil=True)
def _settle(
    who: Any, item: Any, moment: Any, earned: Any, returned: Any, amount: Any, tries: Any,
    share: Any, limits: Any, ledger: Any, burnt: Any, reached: Any,
) -> None:  # fmt: skip
    """Go through orders and rewards (item -1) of each person in time; ``ledger`` moves on."""
    for i in range(len(who)):
        p, k = who[i], item[i]
        if k < 0:
            ledger.balance[p] += REWARD
            continue
        if tries[k] and ledger.balance[p] >= _LEAST_BURNT:
            part = np.int64(ledger.balance[p] * (0.3 + 0.7 * share[k]))
            burnt[k] = part
            ledger.balance[p] -= part
        if not returned[k]:
            ledger.balance[p] += earned[k]
        ledger.spent[p] += amount[k]
        tier = 0
        while tier < len(limits) and ledger.spent[p] >= limits[tier]:
            tier += 1
        if tier > ledger.tier[p]:
            ledger.tier[p] = tier
            ledger.since[p] = moment[i]
            reached[i] = tier


def _point_rows(
    scene: Scene, orders: Orders, earned: Ints, burnt: Ints, inviter: Ints, invitee: Ints
) -> tuple[pa.Table, pa.Table]:
    gets = np.flatnonzero(earned > 0)
    gives = np.flatnonzero(burnt > 0)
    loses = np.flatnonzero((earned > 0) & (orders.refund_moment >= 0))
    of = np.concatenate([gets, gives, loses])
    sizes = [len(gets), len(gives), len(loses), len(inviter)]
    who = np.concatenate([orders.who[of], inviter])
    moment = np.concatenate(
        [
            orders.moment[gets],
            orders.moment[gives],
            orders.refund_moment[loses],
            scene.joined[invitee],
        ]
    )
    delta = np.concatenate(
        [earned[gets], -burnt[gives], -earned[loses], np.full(len(inviter), REWARD)]
    )
    second = np.concatenate([orders.second[of], np.zeros(len(inviter), np.bool_)])
    reason = np.repeat([_EARNED, _BURNT, _REVERSED, _REFERRED], sizes)

    def make(rows: Ints) -> pa.Table:
        return as_table(
            "points",
            {
                "customer_id": scene.names(who[rows], second[rows]),
                "changed_at": scene.times(moment[rows]),
                "delta": numbers(delta[rows]),
                "reason": words(_REASONS, reason[rows]),
            },
        )

    return parted(scene, who, moment, make)


def _membership_rows(
    scene: Scene, before: Ledger, who: Ints, moment: Ints, tier: Any, names: list[str]
) -> pa.Table:
    """Tiers reached in the stretch, and the end of the one each of these people had before."""
    first = np.ones(len(who), np.bool_)
    first[1:] = who[1:] != who[:-1]
    had = np.flatnonzero(first & (before.tier[who] > 0))
    # A tier ends where the person's next one begins.
    ends = np.zeros(len(who), np.int64)
    ends[:-1] = np.where(first[1:], 0, moment[1:])
    over = np.zeros(len(who), np.bool_)
    over[:-1] = ~first[1:]
    person = np.concatenate([who[had], who])
    begun = np.concatenate([before.since[who[had]], moment])
    ended = np.concatenate([moment[had], ends])
    done = np.concatenate([np.ones(len(had), np.bool_), over])
    level = np.concatenate([before.tier[who[had]], tier]).astype(np.int32) - 1
    order = np.argsort(person, kind="stable")
    return as_table(
        "memberships",
        {
            "customer_id": scene.names(person[order]),
            "started_at": scene.times(begun[order]),
            "ended_at": scene.times(ended[order], done[order]),
            "ended": pa.array(done[order]),
            "tier": words(names, level[order]),
        },
    )
