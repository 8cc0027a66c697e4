"""Rows: what happened to people, as tables of the contract.

A row depends on its person and on the data alone: on neither who else is in the run nor how the
days are cut into stretches. What is certain but dated later is kept and comes out in its time.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from journeylab.contract import BY_NAME
from journeylab.simulate.chance import UInt
from journeylab.simulate.chronicle import Chronicle
from journeylab.simulate.life import State
from journeylab.simulate.people import People
from journeylab.simulate.preset import Preset
from journeylab.simulate.rows.clock import DAY
from journeylab.simulate.rows.columns import TIME
from journeylab.simulate.rows.costs import Costs, channel_costs, count_costs
from journeylab.simulate.rows.customers import (
    consent_rows,
    customer_rows,
    identity_rows,
    referral_rows,
    withdrawals,
)
from journeylab.simulate.rows.events import event_rows
from journeylab.simulate.rows.loyalty import Ledger, loyalty_rows, new_ledger
from journeylab.simulate.rows.names import customer_names, numbers_of
from journeylab.simulate.rows.orders import line_rows, order_rows, split
from journeylab.simulate.rows.scene import find_orders, set_scene
from journeylab.simulate.rows.touches import assignment_rows, touch_moments, touch_rows
from journeylab.simulate.rows.voices import contacts, contacts_due, feedback_rows

__all__ = [
    "Costs",
    "Ledger",
    "Rows",
    "channel_costs",
    "count_costs",
    "customer_names",
    "make_rows",
    "new_ledger",
    "numbers_of",
]


@dataclass(frozen=True, slots=True)
class Rows:
    """The tables of a stretch of days.

    Attributes:
        tables: By table of the contract, rows sorted by person. ``memberships``, ``consents`` and
            ``service_contacts`` hold a row that an earlier stretch had once more when it ends: it
            replaces the earlier one (of ``service_contacts`` by the extra column ``contact_id``).
            ``group_id`` and ``staff_id`` of ``customers`` are as known at the end of the stretch
            in which the person joined.
        later: Rows that are certain now and dated after the stretch, for the next one.
        ledger: Points and tiers after the stretch.
    """

    tables: dict[str, pa.Table]
    later: dict[str, pa.Table]
    ledger: Ledger


def make_rows(
    preset: Preset,
    people: People,
    state: State,
    luck: UInt,
    chronicle: Chronicle,
    ledger: Ledger,
    later: Mapping[str, pa.Table] | None = None,
    start_day_of_data: int = 0,
) -> Rows:
    """The rows of the chronicle's days, in the shop's calendar.

    Args:
        preset: The world.
        people: A run of its people, whole communities.
        state: Where they stand at the end of the chronicle.
        luck: One key per person.
        chronicle: What happened.
        ledger: Points and tiers at its beginning; ``new_ledger`` at the first.
        later: What the stretch before kept.
        start_day_of_data: People who joined earlier come out in the stretch that begins here.
    """
    scene = set_scene(preset, people, state, luck, chronicle, start_day_of_data)
    orders = find_orders(scene)
    lines = split(preset, people, luck, orders)
    sent = touch_moments(scene)
    ends = withdrawals(scene, sent)
    points, points_later, members, after = loyalty_rows(scene, orders, ledger)
    parts = {
        "orders": order_rows(scene, orders),
        "order_lines": line_rows(scene, orders, lines),
        "events": event_rows(scene, orders, ends),
        "points": (points, points_later),
        "feedback": feedback_rows(scene, orders, lines),
    }
    cuts = scene.clock.utc(np.array([scene.first_day, scene.end_day]) * DAY)
    first, end = (pa.scalar(int(cut), pa.int64()).cast(TIME) for cut in cuts)
    waiting = dict(later or {})
    help_wanted = contacts(scene, orders)
    if "service_contacts" in waiting:
        help_wanted = pa.concat_tables([waiting["service_contacts"], help_wanted])
    seen, unsettled = contacts_due(help_wanted, first, end)
    tables = {
        "customers": customer_rows(scene),
        "identities": identity_rows(scene),
        "touches": touch_rows(scene, sent),
        "assignments": assignment_rows(scene),
        "referrals": referral_rows(scene),
        "memberships": members,
        "service_contacts": seen,
        "consents": consent_rows(scene, ends),
    }
    kept = {"service_contacts": unsettled}
    for name, (now, then) in parts.items():
        if name in waiting and waiting[name].num_rows:
            due = pc.less(waiting[name][BY_NAME[name].dated_by], end)
            now = pa.concat_tables([waiting[name].filter(due), now])
            then = pa.concat_tables([waiting[name].filter(pc.invert(due)), then])
        tables[name], kept[name] = now, then
    return Rows({name: tables[name] for name in BY_NAME if name in tables}, kept, after)
