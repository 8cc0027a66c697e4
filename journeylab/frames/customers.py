"""Who they are by a day: what they bought, how they came, what they earned."""

import ibis
import ibis.expr.types as ir

from journeylab.frames.days import (
    customer_days,
    days_between,
    iso_day,
    orders_until,
    purchases_per_customer,
)
from journeylab.tables import Tables


def customers(tables: Tables, as_of: str) -> ir.Table:
    """Everyone who had bought by ``as_of``, one row each.

    Args:
        tables: Needs ``orders``; ``customers`` adds its attributes.
        as_of: Last day that counts.

    Returns:
        ``customer_id``; ``first_purchase``, ``last_purchase`` (dates); ``orders`` (count, returns
        not counted); ``purchase_days`` (count); ``amount`` (DECIMAL, net of returns, in the
        currency of the orders); ``days_since_last`` (days from the last purchase to ``as_of``);
        then every column of the customers table, missing for ids it does not list. One that has
        a name from above is called ``customers_<name>``. ``joined_at`` is missing where it lies
        after ``as_of``; the other attributes carry no date and are taken as they stand.

    Raises:
        ContractError: There are no orders, or ``as_of`` is no ISO date.
    """
    day = iso_day("as_of", as_of)
    buyers = purchases_per_customer(customer_days(tables, day))
    frame = buyers.select(
        "customer_id",
        "first_purchase",
        "last_purchase",
        "orders",
        "purchase_days",
        "amount",
        days_since_last=days_between(buyers.last_purchase, ibis.literal(day)),
    )
    if tables.customers is None:
        return frame
    attributes = tables.customers
    if {"joined_at", "business_date"} <= set(attributes.columns):
        known = attributes.business_date <= day
        attributes = attributes.mutate(joined_at=known.ifelse(attributes.joined_at, ibis.null()))
    names = {
        f"customers_{name}" if name in frame.columns else name: name
        for name in attributes.columns
        if name not in {"customer_id", "business_date"}
    }
    attributes = attributes.select(
        "customer_id", **{new: attributes[old] for new, old in names.items()}
    )
    joined = frame.left_join(attributes, "customer_id")
    return joined.select(*frame.columns, *names)


def acquisitions(tables: Tables, as_of: str) -> ir.Table:
    """When and through which channel each customer was won, one row each.

    Args:
        tables: Needs ``orders``; ``source_channel`` of ``customers`` gives the channel.
        as_of: Last day that counts.

    Returns:
        ``customer_id``; ``channel`` (``unknown`` where it is empty or the customer is not listed,
        ``all`` where the source has no channels); ``cohort``: first day of the month of the first
        purchase (date); ``first_day`` (date); ``first_spend``: net amount of that day (float).

    Raises:
        ContractError: There are no orders, or ``as_of`` is no ISO date.
    """
    days = customer_days(tables, iso_day("as_of", as_of))
    bought = days.orders > 0
    by_customer = ibis.window(group_by="customer_id")
    days = days.mutate(first_day=days.business_date.min(where=bought).over(by_customer))
    firsts = days.filter(days.business_date == days.first_day)
    won = firsts.select(
        "customer_id",
        cohort=firsts.first_day.truncate("M").cast("date"),
        first_day=firsts.first_day,
        first_spend=firsts.amount.cast("float64"),
    )
    if tables.customers is None or "source_channel" not in tables.customers.columns:
        won = won.mutate(channel=ibis.literal("all"))
    else:
        channels = tables.customers.select("customer_id", channel="source_channel")
        won = won.left_join(channels, "customer_id").select(*won.columns, "channel")
        won = won.mutate(channel=won.channel.nullif("").coalesce("unknown"))
    return won.select("customer_id", "channel", "cohort", "first_day", "first_spend")


def acquired(tables: Tables, as_of: str) -> ir.Table:
    """Customers won by channel and month, and what they spent on their first day.

    Args:
        tables: As for ``acquisitions``.
        as_of: Last day that counts.

    Returns:
        One row per channel and month with a new customer: ``channel, cohort`` (first day of the
        month, date), ``customers`` (count), ``first_spend`` (mean, float).

    Raises:
        ContractError: There are no orders, or ``as_of`` is no ISO date.
    """
    won = acquisitions(tables, as_of)
    return won.group_by("channel", "cohort").agg(
        customers=won.count(), first_spend=won.first_spend.mean()
    )


def customer_margins(tables: Tables, as_of: str) -> ir.Table:
    """What each customer's orders left after the cost of goods and returns.

    ``amount`` is what was paid, so a ``discount`` has already left it and is not taken off again.
    Returns under the policy ``net`` are rows of the orders: their amount and cost come back with
    their sign. Under ``separate`` they stand apart from the orders that are forecast, and are taken
    off here as ``refunds``. Under ``reject`` nothing is known of them.

    Args:
        tables: Needs ``orders``; ``cost`` and ``discount`` are used when there.
        as_of: Last day that counts.

    Returns:
        One row per customer with an order by then: ``customer_id``; ``amount`` (net as the returns
        policy has it), ``discount`` (0 without the column), ``refunds`` (0 or more), ``costed``:
        the part of ``amount`` that has a cost; ``cost``: of that part. All floats.

    Raises:
        ContractError: There are no orders, or ``as_of`` is no ISO date.
    """
    day = iso_day("as_of", as_of)
    orders = orders_until(tables, day)
    # Added up as DECIMAL: a sum of floats depends on the order an engine's threads take.
    absent = ibis.null(orders.amount.type())
    orders = orders.select(
        "customer_id",
        paid=orders.amount,
        cost=orders.cost if "cost" in orders.columns else absent,
        discount=orders.discount if "discount" in orders.columns else absent,
    )
    unpaid = ibis.literal(0, type=orders.paid.type())
    nothing = ibis.literal(0.0, type="float64")
    spent = orders.group_by("customer_id").agg(
        amount=orders.paid.sum().cast("float64"),
        discount=orders.discount.sum().cast("float64").coalesce(nothing),
        costed=orders.cost.notnull().ifelse(orders.paid, unpaid).sum().cast("float64"),
        cost=orders.cost.sum().cast("float64").coalesce(nothing),
    )
    if tables.returns is None:
        given = spent.mutate(refunds=nothing)
    else:
        returns = tables.returns.filter(tables.returns.business_date <= day)
        back = returns.group_by("customer_id").agg(refunds=-returns.amount.sum().cast("float64"))
        given = spent.left_join(back, "customer_id").select(*spent.columns, "refunds")
        given = given.mutate(refunds=given.refunds.coalesce(nothing))
    return given.select("customer_id", "amount", "discount", "refunds", "costed", "cost")
