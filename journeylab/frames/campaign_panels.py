"""What customers did in periods before and after a campaign, targeted by it or not."""

from datetime import date, timedelta

import ibis
import ibis.expr.types as ir

from journeylab.errors import ContractError
from journeylab.frames.days import days_between, iso_day, last_day, orders_until
from journeylab.tables import Tables, collect


def campaign_panels(
    tables: Tables,
    campaign: str,
    period_days: int,
    *,
    periods_before: int = 3,
    periods_after: int = 1,
    only_known: bool = False,
    until: str | None = None,
) -> ir.Table:
    """One row per customer and period around a campaign that nobody randomised.

    Period 0 begins on the day of the campaign's first touch, period -1 ends the day before; all
    are of the same length. Whether somebody was targeted is what the shop did, not chance: a
    difference between the two groups is not an effect.

    Args:
        tables: Needs ``orders``, and ``touches`` with campaigns; with ``customers``, those in it
            are the people, otherwise all who have an order.
        campaign: Its id. The first day, and the first and last day of the data, are asked of the
            engine at once.
        period_days: Length of a period, days; multiples of 7 keep weekdays alike.
        periods_before: Periods before the campaign, at least 1.
        periods_after: Periods from its first day on, at least 1.
        only_known: Whether those without an order before the campaign are left out. People who
            come later cannot have been targeted, nor have they spent anything before.
        until: Last complete day of the data; without it the last day with an order.

    Returns:
        ``customer_id``; ``targeted`` (0, 1: a touch of the campaign within the periods); ``period``
        (count from 0, negative before); ``spend`` (net of returns, float, currency of the orders),
        ``orders`` (without returns, float); ``touches`` (of other campaigns or none that began in
        the period, float). Customers times periods rows.

    Raises:
        ContractError: A table is missing, there is no such campaign, a number is out of range, or
            the periods reach beyond the data on either side.
    """
    if tables.touches is None or "campaign_id" not in tables.touches.columns:
        raise ContractError(
            f"{tables.source or 'these tables'}: there are no touches with a campaign_id"
        )
    if min(period_days, periods_before, periods_after) < 1:
        raise ContractError(
            "period_days, periods_before and periods_after must be 1 or more; got "
            f"{period_days}, {periods_before} and {periods_after}"
        )
    end = last_day(tables) if until is None else iso_day("until", until)
    start = _first_day(tables.touches, campaign, tables.source)
    begin = start - timedelta(days=period_days * periods_before)
    stop = start + timedelta(days=period_days * periods_after - 1)
    orders = orders_until(tables, end)
    earliest = collect(orders.agg(day=orders.business_date.min()))["day"].iloc[0].date()
    if begin < earliest or stop > end:
        raise ContractError(
            f"the periods around campaign {campaign} reach from {begin} to {stop}, the data from "
            f"{earliest} to {end}: ask for fewer or shorter ones"
        )

    touches = tables.touches
    own = touches.campaign_id == campaign
    inside = touches.business_date.between(begin, stop)
    chosen = touches.filter(own & inside).select("customer_id").distinct()
    people = tables.customers if tables.customers is not None else orders
    people = people.select("customer_id").distinct()
    if only_known:
        known = orders.filter(orders.business_date < start, orders.amount >= 0)
        people = people.semi_join(known, "customer_id")
    people = people.left_join(
        chosen.mutate(targeted=ibis.literal(1, type="int64")), "customer_id"
    ).select("customer_id", "targeted")
    numbers = list(range(-periods_before, periods_after))
    periods = ibis.literal(numbers, type="array<int64>").unnest()
    frame = people.mutate(targeted=people.targeted.coalesce(0), period=periods)

    bought = orders.filter(orders.business_date.between(begin, stop))
    bought = bought.mutate(period=_period(bought.business_date, begin, period_days, periods_before))
    sums = bought.group_by("customer_id", "period").agg(
        # Added up as DECIMAL: a sum of floats depends on the order an engine's threads take.
        spend=bought.amount.sum().cast("float64"),
        orders=(bought.amount >= 0).sum().cast("float64"),
    )
    others = touches.filter((~own).fill_null(True) & inside)
    others = others.mutate(period=_period(others.business_date, begin, period_days, periods_before))
    got = others.group_by("customer_id", "period").agg(touches=others.count().cast("float64"))
    key = ("customer_id", "period")
    frame = frame.left_join(sums, key).select(*frame.columns, "spend", "orders")
    frame = frame.left_join(got, key).select(*frame.columns, "touches")
    nothing = ibis.literal(0.0, type="float64")
    return frame.select(
        "customer_id",
        "targeted",
        "period",
        **{name: frame[name].coalesce(nothing) for name in ("spend", "orders", "touches")},
    )


def _first_day(touches: ir.Table, campaign: str, source: str) -> date:
    """Day of a campaign's first touch."""
    own = touches.filter(touches.campaign_id == campaign)
    day = collect(own.agg(day=own.business_date.min()))["day"].iloc[0]
    if day is None or day != day:
        raise ContractError(
            f"{source or 'these tables'}: no touch belongs to a campaign {campaign!r}"
        )
    first: date = day.date()
    return first


def _period(day: ir.DateColumn, begin: date, length: int, before: int) -> ir.IntegerColumn:
    """Number of the period that a day falls in; ``begin`` is the first day of the first one."""
    # counted from the first day, so that the division rounds alike on both sides of zero
    since = days_between(ibis.literal(begin), day)
    return (since // length).cast("int64") - before
