"""Customers: who they are to the shop, under which names, who brought them, what they allow."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from journeylab.simulate.life import BLOCKED
from journeylab.simulate.people import DEVICES, LANGUAGES, NEVER, Flags, Ints
from journeylab.simulate.rows.clock import DAY
from journeylab.simulate.rows.columns import as_table, texts, words
from journeylab.simulate.rows.names import (
    codes_of,
    customer_letters,
    device_ids,
    phones,
    union_ids,
)
from journeylab.simulate.rows.scene import WITHDRAWAL_FROM, Scene, leader_of

AGE_BANDS = ("18-24", "25-34", "35-44", "45-54", "55+")
INTERESTS = ("1", "2", "3", "4", "5")
REFERRAL = "referral"


def new_people(scene: Scene) -> tuple[Ints, Flags]:
    """Positions of those who come out in this stretch, and whether by their second id."""
    first = scene.within(scene.joined)
    if scene.opening:
        first |= scene.joined < scene.first_day * DAY
    second = scene.within(scene.rejoined)
    who = np.concatenate([np.flatnonzero(first), np.flatnonzero(second)])
    other = np.arange(len(who)) >= first.sum()
    order = np.argsort(who, kind="stable")
    return who[order], other[order]


def customer_rows(scene: Scene) -> pa.Table:
    """One row per person who joined, and one per second id."""
    preset, people, state = scene.preset, scene.people, scene.state
    who, second = new_people(scene)
    in_chat = scene.in_chat(who) & ~second
    sources = [source.name for source in preset.sources]
    source = np.where(state.invited[who], len(sources), people.source[who])
    cities = list(preset.people.cities)
    zones = [preset.people.time_zones.get(city, preset.business_tz) for city in cities]
    moment = np.where(second, scene.rejoined[who], scene.joined[who])
    return as_table(
        "customers",
        {
            "customer_id": scene.names(who, second),
            "joined_at": scene.times(moment),
            "source_channel": words([*sources, REFERRAL], source),
            "group_id": scene.groups(who, in_chat),
            "staff_id": scene.advisors(who, in_chat),
            "store_id": scene.stores(who),
            "time_zone": words(zones, people.city[who]),
            "city": words(cities, people.city[who]),
            "age_band": words(AGE_BANDS, people.age_band[who]),
            "device": words(DEVICES, people.device[who]),
            "language": words(LANGUAGES, people.language[who]),
            "interest": words(INTERESTS, people.interest[who]),
        },
    )


def identity_rows(scene: Scene) -> pa.Table:
    """Phone, union id and device of every new person; a second id has another phone."""
    who, second = new_people(scene)
    device = (scene.people.device[who] != DEVICES.index("none")) & ~second
    number = scene.people.number[who]
    phone = phones(number, False)
    if second.any():
        other = phones(number, True)
        phone = pc.if_else(pa.array(second), other, phone)
    owner = leader_of(scene, who)
    kinds = ("phone", "union_id", "device")
    has = [np.arange(len(who)), np.arange(len(who)), np.flatnonzero(device)]
    entry = np.concatenate(has)
    kind = np.repeat(np.arange(3), [len(part) for part in has])
    order = np.lexsort((kind, entry))
    values = pa.concat_arrays([phone, union_ids(number), device_ids(owner[device])])
    return as_table(
        "identities",
        {
            "customer_id": scene.names(who[entry[order]], second[entry[order]]),
            "id_type": words(kinds, kind[order]),
            "id_value": values.take(pa.array(order)),
        },
    )


def referral_rows(scene: Scene) -> pa.Table:
    """One row per person who was invited, on the day they joined."""
    who = np.flatnonzero(
        scene.within(scene.joined) & scene.state.invited & (scene.people.inviter >= 0)
    )
    inviter = scene.people.inviter[who]
    return as_table(
        "referrals",
        {
            "referrer_id": texts(customer_letters(codes_of(inviter))),
            "invitee_id": scene.names(who),
            "referred_at": scene.times(scene.joined[who]),
        },
    )


def consent_rows(scene: Scene, ends: Ints) -> pa.Table:
    """What people allow as they join; once more, with its end, what they take back later.

    ``ends`` as from ``withdrawals``.
    """
    names, people = scene.preset.channel_names, scene.people
    who, second = new_people(scene)
    entries: list[Ints] = []
    channels: list[Ints] = []
    others: list[Flags] = []
    allowed = who[people.analytics[who]]
    entries.append(allowed)
    others.append(second[people.analytics[who]])
    channels.append(np.full(len(allowed), -1))
    joining = np.zeros(len(people), np.bool_)
    joining[who[~second]] = True
    for code in range(len(names)):
        # Of those who joined before, only what they take back now.
        closed = scene.within(ends[:, code])
        rows = np.flatnonzero(people.granted[:, code] & (joining | closed))
        entries.append(rows)
        others.append(np.zeros(len(rows), np.bool_))
        channels.append(np.full(len(rows), code))
    entry, channel = np.concatenate(entries), np.concatenate(channels)
    other = np.concatenate(others)
    order = np.argsort(entry, kind="stable")
    entry, channel, other = entry[order], channel[order], other[order]
    end = ends[entry, channel]
    taken_back = (channel >= 0) & scene.within(end)
    granted = np.where(other, scene.rejoined[entry], scene.joined[entry])
    return as_table(
        "consents",
        {
            "customer_id": scene.names(entry, other),
            "purpose": words(("analytics", "marketing"), (channel >= 0).astype(np.int32)),
            "channel": words(names, channel),
            "granted_at": scene.times(granted),
            "withdrawn_at": scene.times(np.where(taken_back, end, 0), taken_back),
        },
    )


def withdrawals(scene: Scene, moment: Ints) -> Ints:
    """When each person closed each channel (second on the clock), for closings of this stretch.

    Shape people x channels; ``NEVER`` days off for all others. It is minutes after the message
    that did it; ``moment`` says when messages were sent.
    """
    sent, closed = scene.chronicle.sent.touches, scene.state.closed_day
    out = np.full(closed.shape, NEVER * DAY, np.int64)
    in_stretch = (closed >= scene.first_day) & (closed < scene.end_day)
    person, channel = np.nonzero(in_stretch)
    if not len(person):
        return out
    noon = closed[person, channel].astype(np.int64) * DAY + DAY // 2
    out[person, channel] = noon
    did = (sent.day == closed[sent.person, sent.channel]) & (
        scene.chronicle.happened.touch_status != BLOCKED
    )
    rows = np.flatnonzero(did)
    who, what = sent.person[rows], sent.channel[rows].astype(np.int64)
    wait = 30 + (scene.draws(who, sent.day[rows], WITHDRAWAL_FROM + what) * 1100).astype(np.int64)
    last = sent.day[rows].astype(np.int64) * DAY + DAY - 1
    # The last one that day counts: rows are in the order in which messages came.
    out[who, what] = np.minimum(moment[rows] + wait, last)
    return out
