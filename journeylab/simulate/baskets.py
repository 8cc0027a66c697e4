"""Baskets: what an order holds and costs, drawn from who orders and how often they did before."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from journeylab.simulate.chance import UInt, normals, picks, uniforms
from journeylab.simulate.life import ORDERS_FROM, Happened
from journeylab.simulate.people import RING, Flags, Ints, People
from journeylab.simulate.preset import Preset

# What a draw of an order's luck is for; up to 64 each.
_SIZE, _LARGE, _ON_DISCOUNT, _DEPTH, _COST, _REFUND, _REFUND_DAY = range(7)
FREE_FROM = 8
"""The first draw of an order that this file does not use."""


@dataclass(frozen=True, slots=True)
class Baskets:
    """The money of orders, in hundredths; one entry per order of a ``Happened``.

    Attributes:
        listed: Price before discounts.
        discount: Taken off.
        amount: Paid: ``listed - discount``.
        cost: What the goods cost the shop.
        refund_day: Day it is sent back, whole; -1 where it is kept.
        refund_cost: Goods' cost that comes back with it.
    """

    listed: Ints
    discount: Ints
    amount: Ints
    cost: Ints
    refund_day: npt.NDArray[np.int32]
    refund_cost: Ints


def order_draws(ordinal: npt.NDArray[np.int32], draw: int) -> Ints:
    """The counter of draw number ``draw`` (0-63) of a person's order, for ``uniforms``."""
    return np.asarray(ORDERS_FROM + ordinal.astype(np.int64) * 64 + draw)


def fill(preset: Preset, people: People, luck: UInt, happened: Happened) -> Baskets:
    """The money of every order that happened; ``luck`` has one key per person."""
    rules, who, ordinal = preset.baskets, happened.order_person, happened.order_ordinal
    key = luck[who]
    centre = people.basket[who]
    large = uniforms(key, order_draws(ordinal, _LARGE)) < rules.large
    size = np.exp(
        centre
        + np.where(large, np.log(rules.large_factor), 0.0)
        + rules.spread * normals(key, order_draws(ordinal, _SIZE))
    )
    size = np.clip(size, rules.least, rules.most)
    size = np.where(people.kind[who] == RING, rules.least, size)
    listed = _hundredths(size)
    on_discount: Flags = uniforms(key, order_draws(ordinal, _ON_DISCOUNT)) < people.discounted[who]
    depths, weights = zip(*rules.depths, strict=True)
    depth = np.array(depths)[picks(key, order_draws(ordinal, _DEPTH), weights)]
    depth = np.maximum(np.where(on_discount, depth, 0.0), happened.order_coupon)
    discount = _hundredths(listed * depth / 100)
    # Around its mean, evenly: a share of the price that differs from order to order.
    share = rules.goods * (0.85 + 0.3 * uniforms(key, order_draws(ordinal, _COST)))
    cost = _hundredths(listed * share / 100)
    back = np.where(happened.order_failed, rules.refunded_after_failure, rules.refunded)
    refunded = uniforms(key, order_draws(ordinal, _REFUND)) < back
    later = 1 + (uniforms(key, order_draws(ordinal, _REFUND_DAY)) * rules.refund_days).astype(int)
    return Baskets(
        listed=listed,
        discount=discount,
        amount=listed - discount,
        cost=cost,
        refund_day=np.where(refunded, happened.order_day + later, -1).astype(np.int32),
        refund_cost=_hundredths(cost * rules.resale / 100),
    )


def _hundredths(units: npt.NDArray[np.float64]) -> Ints:
    return np.floor(units * 100 + 0.5).astype(np.int64)
