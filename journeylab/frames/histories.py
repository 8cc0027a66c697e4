"""What a purchase model needs: counts of repeats, recency and age, and what came after."""

import ibis
import ibis.expr.types as ir

from journeylab.errors import ContractError
from journeylab.frames.days import (
    Unit,
    check_unit,
    customer_days,
    days_between,
    in_units,
    iso_day,
    orders_until,
    purchases_per_customer,
)
from journeylab.tables import Tables


def histories(tables: Tables, as_of: str, unit: Unit = "week") -> ir.Table:
    """Distinct purchase histories by ``as_of``, and how many customers share each.

    This is all that a purchase model needs; its size is bounded by the days, not the customers.

    Args:
        tables: Needs ``orders``.
        as_of: Last day that counts.
        unit: Of ``recency`` and ``age``. Cells are whole days, divided last by 1, 7 or 30.4375.

    Returns:
        One row per cell. ``frequency``: purchase days after the first (count). ``recency``: from
        the first to the last purchase day. ``age``: from the first purchase day to ``as_of``;
        0 <= recency <= age, floats in ``unit``. ``customers`` (count).

    Raises:
        ContractError: There are no orders, ``as_of`` is no ISO date, or ``unit`` is unknown.

    Source:
        Fader, Hardie & Lee, "Counting Your Customers the Easy Way" (2005), section 4.
    """
    check_unit(unit)
    day = iso_day("as_of", as_of)
    orders = orders_until(tables, day)
    purchase_days = orders.filter(orders.amount >= 0).select("customer_id", "business_date")
    spans = (
        purchase_days.distinct()
        .group_by("customer_id")
        .agg(
            purchase_days=lambda days: days.count(),
            first=lambda days: days.business_date.min(),
            last=lambda days: days.business_date.max(),
        )
    )
    cells = spans.group_by(
        frequency=spans.purchase_days - 1,
        recency=days_between(spans["first"], spans["last"]),
        age=days_between(spans["first"], ibis.literal(day)),
    ).agg(customers=spans.count())
    return cells.mutate(recency=in_units(cells.recency, unit), age=in_units(cells.age, unit))


def customer_histories(tables: Tables, as_of: str, unit: Unit = "week") -> ir.Table:
    """Each customer's purchase history by ``as_of``, with what a repeat purchase is worth.

    Args:
        tables: Needs ``orders``.
        as_of: Last day that counts.
        unit: Of ``recency`` and ``age``: days divided by 1, 7 or 30.4375.

    Returns:
        One row per customer: ``customer_id``; ``frequency``, ``recency``, ``age`` as in
        ``histories``; ``monetary_value``: net amount of all days after the first purchase day, by
        the number of repeat purchase days (float, in the currency of the orders; 0 where
        ``frequency`` is 0, and not above 0 where returns outweigh the repeat purchases).

    Raises:
        ContractError: There are no orders, ``as_of`` is no ISO date, or ``unit`` is unknown.

    Source:
        Fader & Hardie, "The Gamma-Gamma Model of Monetary Value" (2013): the first purchase is
        left out of the mean.
    """
    check_unit(unit)
    day = iso_day("as_of", as_of)
    buyers = purchases_per_customer(customer_days(tables, day))
    frequency = buyers.purchase_days - 1
    return buyers.select(
        "customer_id",
        frequency=frequency,
        recency=in_units(days_between(buyers.first_purchase, buyers.last_purchase), unit),
        age=in_units(days_between(buyers.first_purchase, ibis.literal(day)), unit),
        monetary_value=(frequency > 0).ifelse(
            buyers.amount_after_first.cast("float64") / frequency.nullif(0), 0.0
        ),
    )


def holdout(tables: Tables, as_of: str, until: str) -> ir.Table:
    """What each customer known at ``as_of`` did afterwards, up to and including ``until``.

    Args:
        tables: Needs ``orders``.
        as_of: Last day of the calibration period; decides who is known.
        until: Last day of the holdout period.

    Returns:
        One row per customer who had bought by ``as_of``: ``customer_id``; ``purchase_days``
        (count) and ``amount`` (DECIMAL, net of returns) after ``as_of``, 0 for those who did not
        return.

    Raises:
        ContractError: There are no orders, a date is no ISO date, or ``until`` is not after
            ``as_of``.
    """
    known_by, end = iso_day("as_of", as_of), iso_day("until", until)
    if end <= known_by:
        raise ContractError(f"until must lie after as_of ({as_of}); got {until}")
    days = customer_days(tables, end)
    later = days.business_date > known_by
    bought = days.orders > 0
    nothing = ibis.literal(0, type=days.amount.type())
    frame = days.group_by("customer_id").agg(
        known=(bought & ~later).any(),
        purchase_days=(bought & later).sum(),
        amount=later.ifelse(days.amount, nothing).sum(),
    )
    return frame.filter(frame.known).drop("known")


def first_purchases(tables: Tables, as_of: str) -> ir.Table:
    """How many customers bought for the first time on each day up to ``as_of``.

    Args:
        tables: Needs ``orders``.
        as_of: Last day that counts.

    Returns:
        One row per day on which somebody did: ``first_day`` (date), ``customers`` (count).

    Raises:
        ContractError: There are no orders, or ``as_of`` is no ISO date.
    """
    day = iso_day("as_of", as_of)
    orders = orders_until(tables, day)
    bought = orders.filter(orders.amount >= 0)
    firsts = bought.group_by("customer_id").agg(first_day=bought.business_date.min())
    return firsts.group_by("first_day").agg(customers=firsts.count())


def repeat_purchases(tables: Tables, as_of: str, until: str | None = None) -> ir.Table:
    """Repeat purchases on each day, of the customers known at ``as_of``.

    Args:
        tables: Needs ``orders``.
        as_of: Decides who is known: those who had bought by then.
        until: Last day that is counted; ``as_of`` without it.

    Returns:
        One row per day with a repeat purchase: ``day`` (date), ``repeat_purchases`` (customers'
        purchase days other than their first, count).

    Raises:
        ContractError: There are no orders, a date is no ISO date, or ``until`` lies before
            ``as_of``.
    """
    known_by = iso_day("as_of", as_of)
    end = known_by if until is None else iso_day("until", until)
    if end < known_by:
        raise ContractError(f"until must not lie before as_of ({as_of}); got {until}")
    orders = orders_until(tables, end)
    days = orders.filter(orders.amount >= 0).select("customer_id", "business_date").distinct()
    days = days.mutate(
        first_day=days.business_date.min().over(ibis.window(group_by=days.customer_id))
    )
    repeats = days.filter(days.first_day <= known_by, days.business_date > days.first_day)
    return repeats.group_by(day=repeats.business_date).agg(repeat_purchases=repeats.count())
