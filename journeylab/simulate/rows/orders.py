"""Orders, what was in them, and what came back."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from journeylab.simulate.baskets import order_draws
from journeylab.simulate.chance import Floats, uniforms
from journeylab.simulate.people import DEVICES, STAFF, Flags, Ints, People
from journeylab.simulate.preset import Preset
from journeylab.simulate.rows.columns import as_table, constant, money, numbers, spell, texts, words
from journeylab.simulate.rows.scene import (
    LINE_FROM,
    LINES,
    MOST_LINES,
    PREFERENCE_FROM,
    SOLD_IN,
    Orders,
    Scene,
    parted,
)

SALES_CHANNELS = ("app", "mini_program", "store", "staff_shop")
_APP, _MINI, _STORE, _STAFF_SHOP = range(4)
PRODUCTS = 40
"""Articles of each category."""


@dataclass(frozen=True, slots=True)
class Lines:
    """Lines of orders, one entry each, sorted by order; money in hundredths.

    Attributes:
        order: Position of the order.
        position: Line number, from 1.
        category, product: Position of the category; number of the article in it.
        quantity: Pieces.
        amount, discount: Paid, and taken off; they sum to the order's.
    """

    order: Ints
    position: Ints
    category: Ints
    product: Ints
    quantity: Ints
    amount: Ints
    discount: Ints


def sold_in(scene: Scene, orders: Orders) -> Ints:
    """Where each order was placed, position in ``SALES_CHANNELS``."""
    people, who = scene.people, orders.who
    drawn = uniforms(scene.luck[who], order_draws(orders.ordinal, SOLD_IN))
    # Everybody has a habit, and breaks it now and then.
    habit = (people.key[who] >> np.uint64(40)) % np.uint64(100)
    app = np.where(habit < 55, 0.75, 0.15)
    online = np.where(drawn < app, _APP, np.where(drawn < 0.88, _MINI, _STORE))
    place = np.where(people.device[who] == DEVICES.index("none"), _STORE, online)
    return np.asarray(np.where(people.kind[who] == STAFF, _STAFF_SHOP, place))


def split(preset: Preset, people: People, luck: Any, orders: Orders) -> Lines:
    """The lines of every order; each is one article."""
    who, key = orders.who, luck[orders.who]
    weights = preset.baskets.lines[:MOST_LINES]
    heights = np.cumsum(weights)
    drawn = uniforms(key, order_draws(orders.ordinal, LINES)) * heights[-1]
    count = 1 + np.minimum(np.searchsorted(heights, drawn, side="right"), len(weights) - 1)
    order = np.repeat(np.arange(len(orders)), count)
    first = np.cumsum(count) - count
    position = np.arange(len(order)) - np.repeat(first, count)
    person, of_line = who[order], luck[who[order]]
    at = order_draws(orders.ordinal[order], LINE_FROM) + 4 * position
    share = 0.3 + uniforms(of_line, at)
    upto = np.cumsum(share)
    before = np.repeat(upto[first] - share[first], count)
    whole = np.repeat(upto[first + count - 1], count) - before
    last = position == np.repeat(count, count) - 1
    listed = _pieces(orders.money.listed[order], (upto - before) / whole, last, position == 0)
    taken = orders.money.discount[order]
    # The discount follows the price: running sums keep both exact to the hundredth.
    running = np.cumsum(listed)
    running -= np.repeat(running[first] - listed[first], count)
    discount = _pieces(taken, running / orders.money.listed[order], last, position == 0)
    drawn = uniforms(of_line, at + 1)
    liking = _preferences(preset, people)[person]
    category = (drawn[:, None] * liking[:, -1:] >= liking[:, :-1]).sum(axis=1)
    return Lines(
        order=order,
        position=position + 1,
        category=category,
        product=(uniforms(of_line, at + 2) ** 2 * PRODUCTS).astype(np.int64),
        quantity=1 + (uniforms(of_line, at + 3) ** 4 * 3).astype(np.int64),
        amount=listed - discount,
        discount=discount,
    )


def _pieces(whole: Ints, upto: Floats, last: Flags, first: Flags) -> Ints:
    """Whole hundredths cut at rising shares; the last piece ends where the whole does."""
    ends = np.where(last, whole, np.floor(whole * upto).astype(np.int64))
    begins = np.zeros_like(ends)
    begins[1:] = ends[:-1]
    return np.asarray(ends - np.where(first, 0, begins))


def _preferences(preset: Preset, people: People) -> Floats:
    """Running weights of the categories for each person."""
    weights = list(preset.baskets.categories.values())
    columns = [
        weight * (0.15 + 3 * uniforms(people.key, PREFERENCE_FROM + code) ** 3)
        for code, weight in enumerate(weights)
    ]
    return np.cumsum(np.column_stack(columns), axis=1)


def order_rows(scene: Scene, orders: Orders) -> tuple[pa.Table, pa.Table]:
    """Orders, and returns as orders of a negative amount: those of the stretch, those later."""
    preset = scene.preset
    place = sold_in(scene, orders)
    of, sign, moment = with_returns(orders)
    back = sign < 0
    basket = orders.money

    def make(rows: Ints) -> pa.Table:
        one, returned = of[rows], back[rows]
        who = orders.who[one]
        named = scene.order_names(b"o", orders, one)
        ids = named
        if returned.any():
            returns = scene.order_names(b"r", orders, one)
            ids = pa.compute.if_else(pa.array(returned), returns, named)
        amount, cost = basket.amount[one], basket.cost[one]
        return as_table(
            "orders",
            {
                "order_id": ids,
                "customer_id": scene.names(who, orders.second[one]),
                "ordered_at": scene.times(moment[rows]),
                "amount": money(np.where(returned, -amount, amount)),
                "currency": constant(preset.currency, len(rows)),
                "discount": money(np.where(returned, 0, basket.discount[one])),
                "sales_channel": words(SALES_CHANNELS, place[one]),
                "store_id": scene.stores(who, place[one] != _APP),
                "cost": money(np.where(returned, -basket.refund_cost[one], cost)),
                "return_of": pa.compute.if_else(
                    pa.array(returned), named, pa.scalar(None, pa.string())
                ),
            },
        )

    return parted(scene, orders.who[of], moment, make)


def with_returns(orders: Orders) -> tuple[Ints, Ints, Ints]:
    """Orders and the returns of some: position of the order, sign, second on the clock."""
    returned = np.flatnonzero(orders.refund_moment >= 0)
    of = np.concatenate([np.arange(len(orders)), returned])
    sign = np.concatenate([np.ones(len(orders), np.int64), -np.ones(len(returned), np.int64)])
    return of, sign, np.concatenate([orders.moment, orders.refund_moment[returned]])


def line_rows(scene: Scene, orders: Orders, lines: Lines) -> tuple[pa.Table, pa.Table]:
    """Lines of orders and of returns."""
    back = np.flatnonzero(orders.refund_moment[lines.order] >= 0)
    of = np.concatenate([np.arange(len(lines.order)), back])
    sign = np.ones(len(of), np.int64)
    sign[len(lines.order) :] = -1
    order = lines.order[of]
    moment = np.where(sign > 0, orders.moment[order], orders.refund_moment[order])
    categories = list(scene.preset.baskets.categories)

    def make(rows: Ints) -> pa.Table:
        line, turned = of[rows], sign[rows]
        ids = scene.order_names(b"o", orders, order[rows])
        if (turned < 0).any():
            returns = scene.order_names(b"r", orders, order[rows])
            ids = pa.compute.if_else(pa.array(turned < 0), returns, ids)
        products = spell(b"p", (lines.category[line], 2), (lines.product[line], 3), rows=len(rows))
        return as_table(
            "order_lines",
            {
                "order_id": ids,
                "line_no": pa.array(lines.position[line]),
                "product_id": texts(products),
                "category": words(categories, lines.category[line]),
                "quantity": numbers(lines.quantity[line] * turned),
                "amount": money(lines.amount[line] * turned),
                "discount": money(np.where(turned < 0, 0, lines.discount[line])),
                "ordered_at": scene.times(moment[rows]),
            },
        )

    return parted(scene, orders.who[order], moment, make)
