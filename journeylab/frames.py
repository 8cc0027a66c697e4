"""Frames: what each customer had done by a day, as Ibis expressions for any engine.

Every builder takes opened ``Tables`` and gives an expression that runs unchanged on DuckDB and
on Spark; ``tables.collect`` brings it out. Days are business days. ``as_of`` is the last day that
counts, as an ISO date; no row after it can enter. A *purchase day* is a day on which a customer
placed an order with an amount of zero or more: several orders on one day are one purchase, and
a return on its own is none, though its money counts on the day it was given back.
Amounts stay DECIMAL; means are floats.
"""

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Literal

import ibis
import ibis.expr.types as ir

from journeylab.errors import ContractError
from journeylab.tables import Tables, collect

Unit = Literal["day", "week", "month"]

# A month is a twelfth of the mean Julian year, so that twelve of them make 365.25 days.
DAYS_PER_UNIT: dict[str, float] = {"day": 1.0, "week": 7.0, "month": 30.4375}


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
    day = _day("as_of", as_of)
    buyers = _purchases_per_customer(_customer_days(tables, day))
    frame = buyers.select(
        "customer_id",
        "first_purchase",
        "last_purchase",
        "orders",
        "purchase_days",
        "amount",
        days_since_last=_days_between(buyers.last_purchase, ibis.literal(day)),
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
    _check_unit(unit)
    day = _day("as_of", as_of)
    orders = _orders(tables, day)
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
        recency=_days_between(spans["first"], spans["last"]),
        age=_days_between(spans["first"], ibis.literal(day)),
    ).agg(customers=spans.count())
    return cells.mutate(recency=_in_units(cells.recency, unit), age=_in_units(cells.age, unit))


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
    _check_unit(unit)
    day = _day("as_of", as_of)
    buyers = _purchases_per_customer(_customer_days(tables, day))
    frequency = buyers.purchase_days - 1
    return buyers.select(
        "customer_id",
        frequency=frequency,
        recency=_in_units(_days_between(buyers.first_purchase, buyers.last_purchase), unit),
        age=_in_units(_days_between(buyers.first_purchase, ibis.literal(day)), unit),
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
    known_by, end = _day("as_of", as_of), _day("until", until)
    if end <= known_by:
        raise ContractError(f"until must lie after as_of ({as_of}); got {until}")
    days = _customer_days(tables, end)
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
    day = _day("as_of", as_of)
    orders = _orders(tables, day)
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
    known_by = _day("as_of", as_of)
    end = known_by if until is None else _day("until", until)
    if end < known_by:
        raise ContractError(f"until must not lie before as_of ({as_of}); got {until}")
    orders = _orders(tables, end)
    days = orders.filter(orders.amount >= 0).select("customer_id", "business_date").distinct()
    days = days.mutate(
        first_day=days.business_date.min().over(ibis.window(group_by=days.customer_id))
    )
    repeats = days.filter(days.first_day <= known_by, days.business_date > days.first_day)
    return repeats.group_by(day=repeats.business_date).agg(repeat_purchases=repeats.count())


def landmarks(
    tables: Tables, at: Sequence[str], horizon_days: int, until: str | None = None
) -> ir.Table:
    """Each customer as seen on each landmark day, and when the next purchase came.

    Features use days up to and including the landmark, outcomes only days after it.

    Args:
        tables: Needs ``orders``.
        at: The landmark days; one on which nobody had bought yet gives no rows.
        horizon_days: How far the outcome is followed, days.
        until: Last complete day of the data, where following stops. Without it the last day with
            an order, which is asked of the engine at once.

    Returns:
        One row per landmark and customer who had bought by then. ``landmark`` (date),
        ``customer_id``.
        Features: ``days_since_last``, ``age_days`` (since the first purchase), ``recency_days``
        (first to last purchase), all days; ``frequency`` (purchase days after the first);
        ``mean_gap_days``, ``last_gap_days`` (days between purchase days, missing where
        ``frequency`` is 0); ``orders`` (count); ``spend`` (DECIMAL, net of returns) and
        ``spend_mean`` (float, per purchase day).
        Outcome: ``duration``, days from the landmark to the next purchase day or to the end of
        following, whichever comes first (at least 1); ``event``, 1 for a purchase, 0 for an end
        without one. Following ends ``horizon_days`` after the landmark or on ``until``.

    Raises:
        ContractError: There are no orders or landmarks, a date is no ISO date, a landmark is
            there twice or leaves no day before ``until``, or the horizon is below one day.
    """
    if horizon_days < 1:
        raise ContractError(f"horizon_days must be at least 1; got {horizon_days}")
    end = _last_day(tables) if until is None else _day("until", until)
    cuts = _landmark_days(at, end)
    days = _customer_days(tables, min(end, max(cuts) + timedelta(days=horizon_days)))
    by_day = ibis.window(group_by="customer_id", order_by="business_date", preceding=(None, 1))
    purchase_day = (days.orders > 0).ifelse(days.business_date, ibis.null("date"))
    days = days.mutate(purchase_day=purchase_day)
    days = days.mutate(gap=_days_between(days.purchase_day.max().over(by_day), days.purchase_day))
    seen = days.mutate(landmark=ibis.literal(cuts, type="array<date>").unnest())
    past = seen.business_date <= seen.landmark
    stop = _earlier(seen.landmark + ibis.interval(days=horizon_days), end)
    ahead = ~past & (seen.business_date <= stop)
    states = seen.group_by("landmark", "customer_id").agg(
        first_purchase=seen.purchase_day.min(where=past),
        last_purchase=seen.purchase_day.max(where=past),
        next_purchase=seen.purchase_day.min(where=ahead),
        purchase_days=(past & seen.purchase_day.notnull()).sum(),
        last_gap_days=seen.gap.argmax(seen.purchase_day, where=past),
        orders=seen.orders.sum(where=past),
        spend=seen.amount.sum(where=past),
    )
    states = states.filter(states.purchase_days > 0)
    frequency = states.purchase_days - 1
    recency = _days_between(states.first_purchase, states.last_purchase)
    stop = _earlier(states.landmark + ibis.interval(days=horizon_days), end)
    return states.select(
        "landmark",
        "customer_id",
        days_since_last=_days_between(states.last_purchase, states.landmark),
        age_days=_days_between(states.first_purchase, states.landmark),
        recency_days=recency,
        frequency=frequency,
        mean_gap_days=recency / frequency.nullif(0),
        last_gap_days=states.last_gap_days,
        orders=states.orders,
        spend=states.spend,
        spend_mean=states.spend.cast("float64") / states.purchase_days,
        duration=_days_between(states.landmark, states.next_purchase.coalesce(stop)),
        event=states.next_purchase.notnull().cast("int64"),
    )


def value_landmarks(
    tables: Tables, at: Sequence[str], horizon_days: int, until: str | None = None
) -> ir.Table:
    """Each customer as seen on each landmark day, and what they bought within the horizon after it.

    The past columns use days up to and including the landmark, the outcome only days after it.

    Args:
        tables: Needs ``orders``.
        at: The landmark days; one on which nobody had bought yet gives no rows.
        horizon_days: How far the outcome goes, days; also what the recent columns are cut by.
        until: Last day whose orders may be looked at. Without it the last day with an order, which
            is asked of the engine at once. A landmark with less than the horizon before it has
            a ``followed_days`` below ``horizon_days``; it may be ``until`` itself.

    Returns:
        One row per landmark and customer who had bought by then. ``landmark`` (date),
        ``customer_id``.
        Past: ``first_day`` (date); ``frequency``, ``monetary_value`` as in
        ``customer_histories``; ``recency_days, age_days, days_since_last``; ``spend`` (float, net
        of returns, all days) and ``first_spend`` (on the first purchase day); repeat purchase days
        within the last eighth, quarter, half, one and two horizons: ``recent_eighth,
        recent_quarter, recent_half, recent, recent_two``; ``recent_amount``: net amount of the
        last horizon without the first purchase day (float).
        Outcome: ``followed_days``, ``purchase_days`` (count) and ``amount`` (float, net of
        returns) within them.

    Raises:
        ContractError: There are no orders or landmarks, a date is no ISO date, a landmark is
            there twice or lies after ``until``, or the horizon is below one day.
    """
    if horizon_days < 1:
        raise ContractError(f"horizon_days must be at least 1; got {horizon_days}")
    end = _last_day(tables) if until is None else _day("until", until)
    cuts = _landmark_days(at, end + timedelta(days=1))
    days = _customer_days(tables, min(end, max(cuts) + timedelta(days=horizon_days)))
    by_customer = ibis.window(group_by="customer_id")
    bought = days.orders > 0
    days = days.mutate(first_day=days.business_date.min(where=bought).over(by_customer))
    days = days.mutate(bought=(days.orders > 0))
    seen = days.mutate(landmark=ibis.literal(cuts, type="array<date>").unnest())
    seen = seen.filter(seen.first_day <= seen.landmark)
    since = _days_between(seen.business_date, seen.landmark)
    seen = seen.mutate(
        since=since,
        past=since >= 0,
        ahead=(since < 0) & (since >= -horizon_days),
        repeat=(since >= 0) & (seen.business_date > seen.first_day),
    )
    again = seen.repeat & seen.bought

    def recent(span_days: int) -> ir.IntegerScalar:
        return (again & (seen.since < span_days)).sum()

    def money(where: ir.BooleanValue) -> ir.FloatingScalar:
        # Added up as DECIMAL: a sum of floats depends on the order an engine's threads take.
        nothing = ibis.literal(0, type=seen.amount.type())
        return where.ifelse(seen.amount, nothing).sum().cast("float64")

    states = seen.group_by("landmark", "customer_id", "first_day").agg(
        last_purchase=seen.business_date.max(where=seen.past & seen.bought),
        frequency=again.sum(),
        spend=money(seen.past),
        spend_after_first=money(seen.repeat),
        first_spend=money(seen.past & (seen.business_date == seen.first_day)),
        recent_eighth=recent(max(horizon_days // 8, 1)),
        recent_quarter=recent(max(horizon_days // 4, 1)),
        recent_half=recent(max(horizon_days // 2, 1)),
        recent=recent(horizon_days),
        recent_two=recent(2 * horizon_days),
        recent_amount=money(seen.repeat & (seen.since < horizon_days)),
        purchase_days=(seen.ahead & seen.bought).sum(),
        amount=money(seen.ahead),
    )
    left = ibis.literal(end).delta(states.landmark, unit="day")
    return states.select(
        "landmark",
        "customer_id",
        "first_day",
        "frequency",
        recency_days=_days_between(states.first_day, states.last_purchase),
        age_days=_days_between(states.first_day, states.landmark),
        days_since_last=_days_between(states.last_purchase, states.landmark),
        monetary_value=(states.frequency > 0).ifelse(
            states.spend_after_first / states.frequency.nullif(0), 0.0
        ),
        spend=states.spend,
        first_spend=states.first_spend,
        recent_eighth=states.recent_eighth,
        recent_quarter=states.recent_quarter,
        recent_half=states.recent_half,
        recent=states.recent,
        recent_two=states.recent_two,
        recent_amount=states.recent_amount,
        followed_days=ibis.least(left, ibis.literal(horizon_days)).cast("int64"),
        purchase_days=states.purchase_days,
        amount=states.amount,
    )


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
    days = _customer_days(tables, _day("as_of", as_of))
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
    day = _day("as_of", as_of)
    orders = _orders(tables, day)
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


def _orders(tables: Tables, until: date) -> ir.Table:
    """Orders up to and including a day: the one gate through which every frame looks."""
    if tables.orders is None:
        raise ContractError(f"{tables.source or 'these tables'}: there is no orders table")
    return tables.orders.filter(tables.orders.business_date <= until)


def _customer_days(tables: Tables, until: date) -> ir.Table:
    """Customers' days: ``customer_id, business_date, orders`` (without returns), ``amount``."""
    orders = _orders(tables, until)
    return orders.group_by("customer_id", "business_date").agg(
        orders=(orders.amount >= 0).sum(), amount=orders.amount.sum()
    )


def _purchases_per_customer(days: ir.Table) -> ir.Table:
    """Customer days summed up, of those who have bought."""
    by_customer = ibis.window(group_by="customer_id")
    bought = days.orders > 0
    days = days.mutate(first=days.business_date.min(where=bought).over(by_customer))
    bought = days.orders > 0
    nothing = ibis.literal(0, type=days.amount.type())
    after_first = days.business_date > days["first"]
    buyers = days.group_by("customer_id").agg(
        first_purchase=days.business_date.min(where=bought),
        last_purchase=days.business_date.max(where=bought),
        orders=days.orders.sum(),
        purchase_days=bought.sum(),
        amount=days.amount.sum(),
        amount_after_first=after_first.ifelse(days.amount, nothing).sum(),
    )
    return buyers.filter(buyers.purchase_days > 0)


def _days_between(start: ir.DateValue, end: ir.DateValue) -> ir.IntegerValue:
    return end.delta(start, unit="day")


def _in_units(days: ir.IntegerValue, unit: str) -> ir.FloatingValue:
    # Spark takes a bare 7.0 for a DECIMAL and would divide to six places.
    return days.cast("float64") / ibis.literal(DAYS_PER_UNIT[unit], type="float64")


def _earlier(day: ir.DateColumn, limit: date) -> ir.DateColumn:
    return (day <= limit).ifelse(day, ibis.literal(limit))


def _day(name: str, text: str) -> date:
    try:
        return date.fromisoformat(text)
    except (TypeError, ValueError):
        raise ContractError(
            f"{name} must be an ISO date such as '1997-09-30'; got {text!r}"
        ) from None


def _check_unit(unit: str) -> None:
    if unit not in DAYS_PER_UNIT:
        raise ContractError(f"unit must be one of {', '.join(DAYS_PER_UNIT)}; got {unit!r}")


def _last_day(tables: Tables) -> date:
    orders = _orders(tables, date.max)
    last = collect(orders.agg(last=orders.business_date.max()))["last"].iloc[0]
    if last is None or last != last:
        raise ContractError(f"{tables.source or 'these tables'}: the orders table has no rows")
    day: date = last.date()
    return day


def _landmark_days(at: Sequence[str], end: date) -> list[date]:
    if isinstance(at, str) or not at:
        raise ContractError(f"at must be a list of one landmark day or more; got {at!r}")
    cuts = sorted(_day("landmark", text) for text in at)
    if repeated := sorted({str(cut) for cut in cuts if cuts.count(cut) > 1}):
        raise ContractError(f"landmarks must differ; given more than once: {', '.join(repeated)}")
    if late := [str(cut) for cut in cuts if cut >= end]:
        raise ContractError(
            f"landmarks must lie before the last complete day ({end}); "
            f"{len(late)} of {len(cuts)} leave nothing to follow: {', '.join(late)}"
        )
    return cuts
