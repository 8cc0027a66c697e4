"""Events: visits, steps, invitations, use - what people did that is not an order."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from journeylab.simulate.baskets import order_draws
from journeylab.simulate.chance import normals, uniforms
from journeylab.simulate.people import DEVICES, Flags, Ints
from journeylab.simulate.rows.clock import DAY
from journeylab.simulate.rows.columns import as_table, words
from journeylab.simulate.rows.customers import REFERRAL
from journeylab.simulate.rows.scene import (
    INVITED_AFTER,
    REPEATED_FROM,
    USE,
    USE_HOUR,
    USE_WAIT,
    VISIT_HOUR,
    VISIT_PLACE,
    Orders,
    Scene,
    parted,
)

_PLACES = ("app", "mini_program", "store", "chat")
_STORE, _CHAT = 2, 3
_USED, _USED_LATER = 0.6, 0.2
"""Shares of first and of later orders whose use the shop notices."""


@dataclass(frozen=True, slots=True)
class _Kind:
    """Events of one kind; ``place`` is a position in the words for places, -1 for none."""

    name: str
    who: Ints
    moment: Ints
    place: Ints
    in_group: bool = False
    second: Flags | None = None


def event_rows(scene: Scene, orders: Orders, ends: Ints) -> tuple[pa.Table, pa.Table]:
    """All events; ``ends`` says when channels were closed, as from ``withdrawals``."""
    sources = [source.name for source in scene.preset.sources]
    places = [*_PLACES, *sources, REFERRAL]
    kinds = [_reached(scene), *_steps(scene), _visits(scene)]
    kinds += [_invited(scene, orders), _use(scene, orders), *_left(scene, ends)]
    who, moment, place = (
        np.concatenate([getattr(kind, name) for kind in kinds])
        for name in ("who", "moment", "place")
    )
    sizes = [len(kind.who) for kind in kinds]
    names = list(dict.fromkeys(kind.name for kind in kinds))
    name = np.repeat([names.index(kind.name) for kind in kinds], sizes)
    grouped = np.repeat([kind.in_group for kind in kinds], sizes)
    none = np.zeros(0, np.bool_)
    second = np.concatenate(
        [none]
        + [
            kind.second if kind.second is not None else np.zeros(len(kind.who), np.bool_)
            for kind in kinds
        ]
    )

    def make(rows: Ints) -> pa.Table:
        person, in_group = who[rows], grouped[rows]
        return as_table(
            "events",
            {
                "customer_id": scene.names(person, second[rows]),
                "occurred_at": scene.times(moment[rows]),
                "event": words(names, name[rows]),
                "channel": words(places, place[rows]),
                "group_id": scene.groups(person, in_group),
                "staff_id": scene.advisors(person, in_group),
            },
        )

    return parted(scene, who, moment, make)


def _reached(scene: Scene) -> _Kind:
    who = np.flatnonzero(scene.within(scene.joined))
    source = scene.people.source[who].astype(np.int64)
    source = np.where(scene.state.invited[who], len(scene.preset.sources), source)
    return _Kind("reached", who, scene.joined[who], len(_PLACES) + source)


def _steps(scene: Scene) -> list[_Kind]:
    """Onboarding steps whose day lies in the stretch, and their repetitions."""
    kinds = []
    join = scene.state.join_day.astype(np.float64)
    for code, step in enumerate(scene.preset.steps):
        in_chat = step.name == "added_to_chat"
        place = _CHAT if in_chat else -1
        after = np.where(scene.state.step_seen[:, code], scene.state.step_after[:, code], np.inf)
        key = scene.people.key
        again = uniforms(key, REPEATED_FROM + 4 * code) < step.repeated
        # Waits with a long tail, from an hour to weeks.
        wait = 0.05 + 2 * np.exp(1.2 * normals(key, REPEATED_FROM + 4 * code + 1))
        for extra in (0.0, np.where(again, wait, np.inf)):
            when = join + after + extra
            who = np.flatnonzero((when >= scene.first_day) & (when < scene.end_day))
            day = np.floor(when[who])
            moment = scene.at(who, day.astype(np.int64), when[who] - day)
            kinds.append(_Kind(step.name, who, moment, np.full(len(who), place), in_chat))
    return kinds


def _visits(scene: Scene) -> _Kind:
    happened = scene.chronicle.happened
    who, day = happened.visit_person, happened.visit_day
    moment = scene.at(who, day, scene.draws(who, day, VISIT_HOUR))
    drawn = scene.draws(who, day, VISIT_PLACE)
    place = np.searchsorted([0.45, 0.9], drawn)
    place = np.where(scene.people.device[who] == DEVICES.index("none"), _STORE, place)
    return _Kind("visit", who, moment, place)


def _invited(scene: Scene, orders: Orders) -> _Kind:
    rows = np.flatnonzero(orders.invited)
    who, before = orders.who[rows], orders.moment[rows]
    drawn = uniforms(scene.luck[who], order_draws(orders.ordinal[rows], INVITED_AFTER))
    left = orders.day[rows].astype(np.int64) * DAY + DAY - 1 - before
    moment = before + np.minimum((120 + drawn**2 * 7200).astype(np.int64), left)
    return _Kind("invited", who, moment, np.full(len(who), 1), second=orders.second[rows])


def _use(scene: Scene, orders: Orders) -> _Kind:
    """Use of what was bought, days after it: a sharp rise and a long tail."""
    key = scene.luck[orders.who]
    share = np.where(orders.ordinal == 0, _USED, _USED_LATER)
    rows = np.flatnonzero(uniforms(key, order_draws(orders.ordinal, USE)) < share)
    who, ordinal = orders.who[rows], orders.ordinal[rows]
    wait = 1 + np.exp(1.1 + 0.8 * normals(key[rows], order_draws(ordinal, USE_WAIT)))
    day = orders.day[rows] + np.minimum(wait, 90).astype(np.int64)
    moment = scene.at(who, day, uniforms(key[rows], order_draws(ordinal, USE_HOUR)))
    return _Kind("use", who, moment, np.full(len(who), -1), second=orders.second[rows])


def _left(scene: Scene, ends: Ints) -> list[_Kind]:
    names = scene.preset.channel_names
    if "chat" not in names:
        return []
    end = ends[:, names.index("chat")]
    who = np.flatnonzero(scene.within(end))
    return [_Kind("left_group", who, end[who], np.full(len(who), _CHAT), True)]
