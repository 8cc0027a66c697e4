"""People: what they are like, where they come from, whom they know - before anything happens."""

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from journeylab.simulate.chance import Floats, UInt, keys, nature_key, normals, picks, uniforms
from journeylab.simulate.preset import TRAITS, Preset

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

COMMUNITY = 200
"""People who may know each other: chat groups and invitations stay within one community."""
_GROUPS = np.array([8, 12, 18, 24, 30, 38, 70])
"""Sizes of the chat groups of a community, in an order that differs from one to the next."""
_RING = 8
NORMAL, HUNTER, STAFF, RING = range(4)
DEVICES = ("android", "ios", "none")
LANGUAGES = ("zh", "en")
_STORES_PER_CITY = 12
# What a draw of nature is for; one number each, never used twice.
(
    _SOURCE, _OTHER_SOURCE, _EXISTING, _ARRIVAL, _KIND, _PARENT_A, _PARENT_B, _CITY, _STORE,
    _DEVICE, _LANGUAGE, _TWIN, _TWIN_DAY, _AGE, _INTEREST, _RING_HERE, _ROTATION, _ANALYTICS,
    _FALLBACK,
) = range(19)  # fmt: skip
_TRAIT, _EFFECT, _REACH, _GRANT = 32, 40, 48, 56


@dataclass(frozen=True, slots=True)
class People:
    """A run of people with numbers ``first, first + 1, ...``: one entry per person in every array.

    Attributes:
        number: Their number; names, places and luck follow from it alone.
        key: Their key of nature.
        traits: Five standard normal scores, in the order of ``TRAITS``: what nobody sees.
        kind: ``NORMAL``, ``HUNTER`` (of coupons), ``STAFF`` or ``RING`` (of false referrals).
        source: Way they came, position in the preset; of the invited, when nobody invites them.
        join_day: Day they become known, day 0 is the first of the data.
        inviter: Number of the person who may invite them, lower than their own; -1 for none.
        community, group, store, city: Where they belong (numbers).
        seat: Their place in the chat group, from 0: those before are heard by those after.
        need: Daily chance of an order on an ordinary day.
        visits: Daily chance of a visit without an order.
        basket: Log of the median basket, currency units.
        discounted: Chance that an order is on a discount (0-1).
        effect, reach, opt_out: Per channel: log factor on orders of a message that reaches them;
            chance that it does; chance that they then close the channel.
        granted: Per channel: whether they allow it when they join.
        annoyance: Log factor on leaving of each touch beyond patience.
        referral: Chance that an order is followed by an invitation.
        onboarding: Log odds added to every onboarding step.
        twin_day: Day from which they also use a second customer id; far off for most.
        device, language, age_band, interest: What the shop sees of them.
        analytics: Whether they allow their data to be analysed.
    """

    number: Ints
    key: UInt
    traits: Floats
    kind: npt.NDArray[np.int8]
    source: npt.NDArray[np.int8]
    join_day: npt.NDArray[np.int32]
    inviter: Ints
    community: Ints
    group: Ints
    store: Ints
    city: npt.NDArray[np.int16]
    seat: npt.NDArray[np.int32]
    need: Floats
    visits: Floats
    basket: Floats
    discounted: Floats
    effect: Floats
    reach: Floats
    opt_out: Floats
    granted: Flags
    annoyance: Floats
    referral: Floats
    onboarding: Floats
    twin_day: npt.NDArray[np.int32]
    device: npt.NDArray[np.int8]
    language: npt.NDArray[np.int8]
    age_band: npt.NDArray[np.int8]
    interest: npt.NDArray[np.int8]
    analytics: Flags

    def __len__(self) -> int:
        return len(self.number)

    def __getitem__(self, rows: slice | Ints | Flags) -> "People":
        """Some of them."""
        return People(**{item.name: getattr(self, item.name)[rows] for item in fields(self)})


NEVER = 1 << 30
"""A day that does not come."""


def make_people(preset: Preset, seed: int, first: int, count: int) -> People:
    """People ``first`` to ``first + count - 1`` of the world with this seed."""
    number = np.arange(first, first + count, dtype=np.int64)
    nature = nature_key(seed)
    key = keys(nature, number)
    community, place = np.divmod(number, COMMUNITY)
    of_community = keys(nature ^ 0x5DEECE66D, community)
    traits = _traits(preset, key)
    need, spend, price, aversion, sociable = traits.T
    kind = _kinds(preset, key, of_community, place)
    group, seat = _groups(of_community, community, place)
    source, join_day, inviter = _arrival(preset, nature, number, key, kind, sociable)
    city = picks(of_community, _CITY, list(preset.people.cities.values()))
    factor = np.array([way.need for way in preset.sources])[source]
    plain = np.where(kind == HUNTER, 0.35, np.where(kind == STAFF, 4.0, 1.0))
    chance = preset.orders.daily_chance * factor * plain
    chance = chance * np.exp(preset.people.traits.need_spread * need)
    visits = preset.visits
    odds = _log_odds(preset.baskets.discounted) + preset.baskets.sensitivity * price
    discounted = np.where(
        kind == HUNTER, 0.97, np.where(preset.baskets.discounted > 0, _logistic(odds), 0.0)
    )
    effect, reach, opt_out, granted = _channels(preset, key, kind, price, aversion)
    steps = np.log(np.maximum([way.onboarding for way in preset.sources], 1e-9))[source]
    known = preset.people.traits.shown
    twin = (uniforms(key, _TWIN) < preset.people.duplicates) & (kind == NORMAL)
    wait = 7 + (uniforms(key, _TWIN_DAY) * 0.6 * preset.days).astype(np.int32)
    return People(
        number=number,
        key=key,
        traits=traits,
        kind=kind,
        source=source,
        join_day=join_day,
        inviter=inviter,
        community=community,
        group=group,
        store=city * _STORES_PER_CITY + picks(of_community, _STORE, [1.0] * _STORES_PER_CITY),
        city=city.astype(np.int16),
        seat=seat,
        need=np.minimum(chance, 0.9),
        visits=np.minimum(
            visits.daily_chance
            * factor
            * np.exp(preset.people.traits.need_spread * visits.need_power * need),
            0.9,
        ),
        basket=np.log(preset.baskets.typical) + preset.people.traits.spend_spread * spend,
        discounted=discounted,
        effect=effect,
        reach=reach,
        opt_out=opt_out,
        granted=granted,
        annoyance=preset.leaving.annoyance * np.exp(0.5 * aversion),
        referral=np.where(
            kind == RING,
            0.0,
            np.minimum(preset.around.referral * np.exp(0.7 * sociable - 0.245), 1.0),
        ),
        onboarding=steps + 0.3 * sociable,
        twin_day=np.where(twin, np.maximum(join_day, 0) + wait, NEVER).astype(np.int32),
        device=picks(key, _DEVICE, [0.58, 0.34, 0.08]).astype(np.int8),
        language=picks(key, _LANGUAGE, [0.9, 0.1]).astype(np.int8),
        age_band=_banded(_shown(-need + 0.3 * price, key, _AGE, known), 5),
        interest=_banded(_shown(price, key, _INTEREST, known), 5),
        analytics=uniforms(key, _ANALYTICS) < preset.around.analytics,
    )


def _traits(preset: Preset, key: UInt) -> Floats:
    """Correlated standard normal scores, one row per person."""
    matrix = np.eye(len(TRAITS))
    for pair, value in preset.people.traits.correlations.items():
        one, other = (TRAITS.index(name) for name in pair.split())
        matrix[one, other] = matrix[other, one] = value
    independent = np.column_stack([normals(key, _TRAIT + k) for k in range(len(TRAITS))])
    # Correlations that cannot all hold are moved to the nearest that can.
    values, vectors = np.linalg.eigh(matrix)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    root /= np.linalg.norm(root, axis=1, keepdims=True)
    # Sums in a fixed order: a matrix product may round differently with the number of rows.
    mixed = np.zeros_like(independent)
    for k in range(len(TRAITS)):
        mixed += independent[:, k : k + 1] * root[:, k][None, :]
    return mixed


def _kinds(preset: Preset, key: UInt, of_community: UInt, place: Ints) -> npt.NDArray[np.int8]:
    drawn = uniforms(key, _KIND)
    hunters, staff = preset.people.coupon_hunters, preset.people.staff
    kind = np.where(drawn < hunters, HUNTER, np.where(drawn > 1 - staff, STAFF, NORMAL))
    ring = uniforms(of_community, _RING_HERE) < preset.people.rings
    return np.where(ring & (place >= COMMUNITY - _RING), RING, kind).astype(np.int8)


def _groups(of_community: UInt, community: Ints, place: Ints) -> tuple[Ints, npt.NDArray[np.int32]]:
    rotation = picks(of_community, _ROTATION, [1.0] * len(_GROUPS))
    ends = np.cumsum([np.roll(_GROUPS, -shift) for shift in range(len(_GROUPS))], axis=1)[rotation]
    within = (place[:, None] >= ends).sum(axis=1)
    starts = np.where(within > 0, np.take_along_axis(ends, within[:, None] - 1, 1)[:, 0], 0)
    return community * len(_GROUPS) + within, (place - starts).astype(np.int32)


def _arrival(
    preset: Preset,
    nature: int,
    number: Ints,
    key: UInt,
    kind: npt.NDArray[np.int8],
    sociable: Floats,
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.int32], Ints]:
    """Source, day of joining and possible inviter."""
    shares = np.array([way.share for way in preset.sources])
    names = [way.name for way in preset.sources]
    source = picks(key, _SOURCE, shares)
    existing = uniforms(key, _EXISTING) < preset.people.existing
    drawn = uniforms(key, _ARRIVAL)
    growth = preset.people.arrival_growth
    if abs(growth) > 1e-9:
        # Density 1 + growth * x on (0, 1), turned round.
        drawn_late = (np.sqrt(1 + (growth + 2) * growth * drawn) - 1) / growth
    else:
        drawn_late = drawn
    join = np.where(
        existing,
        -1 - np.floor(drawn * preset.people.existing_days),
        np.floor(drawn_late * preset.days),
    )
    inviter = np.full(len(number), -1, np.int64)
    if "referral" in names:
        code = names.index("referral")
        others = np.where(np.arange(len(shares)) == code, 0.0, shares)
        place = number % COMMUNITY
        waiting = (source == code) & ~existing & (place > 0) & (others.sum() > 0)
        # Of two people who came before, the more sociable one invites.
        one = (uniforms(key, _PARENT_A) * place).astype(np.int64)
        other = (uniforms(key, _PARENT_B) * place).astype(np.int64)
        base = number - place
        better = _sociability(preset, nature, base + one) >= _sociability(
            preset, nature, base + other
        )
        inviter = np.where(waiting, base + np.where(better, one, other), -1)
        if others.sum() > 0:
            source = np.where(waiting, picks(key, _OTHER_SOURCE, others), source)
        late = np.floor((0.5 + 0.5 * uniforms(key, _FALLBACK)) * preset.days)
        join = np.where(waiting, np.minimum(late, preset.days - 1), join)
        ring = kind == RING
        leader = base + COMMUNITY - _RING
        follower = ring & (number > leader)
        first = keys(nature, leader)
        begins = np.floor((0.1 + 0.6 * uniforms(first, _ARRIVAL)) * preset.days)
        join = np.where(ring, begins + np.where(follower, 1 + (number - leader) // 3, 0), join)
        inviter = np.where(ring, np.where(follower, leader, -1), inviter)
        source = np.where(follower, code, source)
    return source.astype(np.int8), join.astype(np.int32), inviter


def _sociability(preset: Preset, nature: int, number: Ints) -> Floats:
    return _traits(preset, keys(nature, number))[:, TRAITS.index("sociability")]


def _channels(
    preset: Preset, key: UInt, kind: npt.NDArray[np.int8], price: Floats, aversion: Floats
) -> tuple[Floats, Floats, Floats, Flags]:
    shape = (len(key), len(preset.channels))
    effect, reach, opt_out = np.empty(shape), np.empty(shape), np.empty(shape)
    granted = np.empty(shape, bool)
    for code, channel in enumerate(preset.channels):
        own = channel.effect + channel.effect_spread * normals(key, _EFFECT + code)
        own += channel.by_price_sensitivity * price + channel.by_touch_aversion * aversion
        own = own + np.where(kind == HUNTER, 0.5 * abs(channel.effect), 0.0)
        effect[:, code] = np.clip(np.where(kind >= STAFF, 0.0, own), -3, 3)
        odds = _log_odds(channel.reach) + 0.5 * normals(key, _REACH + code)
        reach[:, code] = _logistic(odds) if 0 < channel.reach < 1 else channel.reach
        opt_out[:, code] = np.minimum(
            channel.opt_out * np.exp(channel.opt_out_by_aversion * aversion), 1.0
        )
        lean = _log_odds(channel.granted) - 0.5 * aversion
        allowed = _logistic(lean) if 0 < channel.granted < 1 else channel.granted
        granted[:, code] = uniforms(key, _GRANT + code) < allowed
    return effect, reach, opt_out, granted


def _shown(trait: Floats, key: UInt, counter: int, known: float) -> Floats:
    """A trait seen through noise: squared correlation ``known`` for a unit trait."""
    return np.asarray(np.sqrt(known) * trait + np.sqrt(1 - known) * normals(key, counter))


def _banded(score: Floats, bands: int) -> npt.NDArray[np.int8]:
    edges = np.linspace(-1.5, 1.5, bands - 1)
    return np.searchsorted(edges, score).astype(np.int8)


def _log_odds(share: float) -> float:
    share = min(max(share, 1e-12), 1 - 1e-12)
    return float(np.log(share / (1 - share)))


def _logistic(odds: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-odds)))
