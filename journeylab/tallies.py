"""Tallies: what came of arms, touches, steps and shops, summed by the engine.

Every builder takes opened ``Tables`` and gives an Ibis expression that runs unchanged on DuckDB
and on Spark; ``tables.collect`` brings it out. Days are business days, given as ISO dates and both
included. An *order* here is one with an amount of zero or more.

Sums for a ratio of two totals over independent units (customers, groups) are five columns:
``<name>_x`` and ``<name>_y``, the totals above and below, and ``_xx, _yy, _xy``, the sums over
units of their squares and products: enough for the ratio and its standard error.
"""

# ruff: noqa: PD004 - notnull is what Ibis calls it

from collections.abc import Mapping, Sequence
from datetime import date, timedelta

import ibis
import ibis.expr.types as ir
import pandas as pd

from journeylab.errors import ContractError
from journeylab.tables import Tables, collect

METRICS = ("visited", "bought", "orders", "spend")


def arm_outcomes(tables: Tables, experiment: str, days: int) -> ir.Table:
    """What the people of each arm did from their assignment on.

    Args:
        tables: Needs ``assignments`` with times, ``orders`` and, for visits, ``events``.
        experiment: Its id.
        days: How long each person is followed, the day of assignment included.

    Returns:
        One row per arm: ``variant``; ``people``; ``units`` (clusters, else people); for
        ``visited`` (people with a visit or an order), ``bought`` (with an order), ``orders`` and
        ``spend`` (before returns) the sums of their ratio per head over units; ``spend_2, spend_3,
        spend_4`` (sums over people of powers of their spend) and ``spend_most``. People found in
        two arms are left out.
    """
    if days < 1:
        raise ContractError(f"days must be 1 or more; got {days}")
    every = _there(tables, "assignments")
    unit = every.customer_id
    if "cluster_id" in every.columns:
        unit = every.cluster_id.coalesce(every.customer_id)
    own = every.filter(every.experiment_id == experiment).select(
        "customer_id", "variant", day=every.business_date, unit=unit
    )
    own = own.group_by("customer_id").agg(
        variant=own.variant.min(),
        arms=own.variant.nunique(),
        day=own.day.min(),
        unit=own.unit.min(),
    )
    own = own.filter(own.arms == 1).mutate(end=lambda rows: rows.day + ibis.interval(days=days))
    orders = _orders(tables).join(own.select("customer_id", "day", "end"), "customer_id")
    orders = orders.filter(orders.business_date >= orders.day, orders.business_date < orders.end)
    done = orders.group_by("customer_id").agg(
        orders=orders.count(), spend=orders.amount.sum().cast("float64")
    )
    each = own.left_join(done, "customer_id").select(
        "customer_id", "variant", "unit",
        orders=lambda rows: rows.orders.coalesce(0),
        spend=lambda rows: rows.spend.coalesce(0.0),
    )  # fmt: skip
    each = each.mutate(
        bought=(each.orders > 0).cast("int64"), visited=(each.orders > 0).cast("int64")
    )
    if tables.events is not None:
        seen = tables.events.filter(tables.events.event == "visit")
        seen = seen.join(own.select("customer_id", "day", "end"), "customer_id")
        seen = seen.filter(seen.business_date >= seen.day, seen.business_date < seen.end)
        seen = seen.select("customer_id").distinct().mutate(seen=ibis.literal(1, type="int64"))
        each = each.left_join(seen, "customer_id").select(
            *each.columns, seen=lambda rows: rows.seen.coalesce(0)
        )
        each = each.mutate(visited=ibis.greatest(each.visited, each.seen)).drop("seen")
    units = each.group_by("variant", "unit").agg(
        people=each.count(),
        **{name: each[name].sum() for name in METRICS},
        **{f"spend_{power}": _power(each.spend, power).sum() for power in (2, 3, 4)},
        spend_most=each.spend.max(),
    )
    sums: dict[str, ir.Scalar] = {}
    for name in METRICS:
        sums |= _ratio(name, units[name], units.people)
    return units.group_by("variant").agg(
        units=units.count(),
        **sums,
        **{f"spend_{power}": units[f"spend_{power}"].sum() for power in (2, 3, 4)},
        spend_most=units.spend_most.max(),
    ).mutate(people=lambda rows: rows.bought_y)  # fmt: skip


def shop_sums(tables: Tables, first: str, last: str, gaps: Sequence[int] = ()) -> ir.Table:
    """How a shop's customers buy, in sums over those who bought between two days.

    Args:
        tables: Needs ``orders``.
        first: First day of the stretch.
        last: Its last day.
        gaps: Days; for each ``d`` the share of gaps between two orders of at most ``d`` days.

    Returns:
        One row: ``customers``, and the sums of each ratio: ``frequency`` (orders per customer),
        ``basket`` (amount per order), ``returned`` (returns per order), ``weekend`` (share of
        orders on Saturday or Sunday), ``kept`` (of customers of the first half, those who bought in
        the second), ``gap_<d>``, and, where the source has it, ``discounted`` (share of revenue on
        which something was taken off, by line where there are lines).
    """
    begin, end = _day("first", first), _day("last", last)
    every = _there(tables, "orders")
    every = every.filter(every.business_date.between(begin, end))
    middle = begin + timedelta(days=(end - begin).days // 2)
    bought = every.amount >= 0
    orders = every.mutate(
        bought=bought.cast("int64"),
        weekend=(bought & (every.business_date.day_of_week.index() >= 5)).cast("int64"),
        early=(bought & (every.business_date <= middle)).cast("int64"),
        late=(bought & (every.business_date > middle)).cast("int64"),
        paid=ibis.greatest(every.amount.cast("float64"), 0.0),
    )
    each = orders.group_by("customer_id").agg(
        orders=orders.bought.sum(),
        returns=(1 - orders.bought).sum(),
        weekend=orders.weekend.sum(),
        early=orders.early.max(),
        late=orders.late.max(),
        paid=orders.paid.sum(),
    )
    each = each.filter(each.orders > 0).mutate(one=ibis.literal(1, type="int64"))
    each = each.mutate(both=each.early * each.late)
    if gaps:
        closed = _gaps(tables, begin, end)
        waits = closed.group_by("customer_id").agg(
            gaps=closed.count(),
            **{f"upto_{d}": (closed.gap_days <= d).cast("int64").sum() for d in gaps},
        )
        each = _with(each, waits)
    reduced = _reduced(tables, every.filter(bought))
    if reduced is not None:
        each = _with(each, reduced)
    parts = {
        "frequency": ("orders", "one"),
        "basket": ("paid", "orders"),
        "returned": ("returns", "orders"),
        "weekend": ("weekend", "orders"),
        "kept": ("both", "early"),
        **{f"gap_{d}": (f"upto_{d}", "gaps") for d in gaps},
    }
    if reduced is not None:
        parts["discounted"] = ("reduced", "listed")
    return each.agg(customers=each.count(), **_ratios(each, parts))


def shop_counts(
    tables: Tables, first: str, last: str, shares: Sequence[float] = (0.5, 0.9, 0.99)
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """``shop_sums``, ``order_counts`` and ``order_gaps`` between two days, brought out.

    Args:
        tables: Needs ``orders``.
        first: First day of the stretch.
        last: Its last day.
        shares: Quantiles of the gaps at whose days ``shop_sums`` counts gaps by customer; where
            they lie is asked of the engine at once.
    """
    gaps = collect(order_gaps(tables, first, last))
    upto = gaps["gaps"].cumsum().to_numpy(float)
    at = {
        int(gaps["gap_days"].iloc[int((upto < share * upto[-1] - 1e-9).sum())])
        for share in (shares if len(gaps) else ())
    }
    sums = collect(shop_sums(tables, first, last, sorted(at)))
    return sums, collect(order_counts(tables, first, last)), gaps


def order_counts(tables: Tables, first: str, last: str) -> ir.Table:
    """How many customers placed how many orders between two days.

    Returns:
        ``orders`` (1 or more), ``customers`` (count).
    """
    begin, end = _day("first", first), _day("last", last)
    own = _orders(tables)
    own = own.filter(own.business_date.between(begin, end))
    each = own.group_by("customer_id").agg(orders=own.count())
    return each.group_by("orders").agg(customers=each.count())


def order_gaps(tables: Tables, first: str, last: str) -> ir.Table:
    """Days from one order of a customer to the next, both between two days.

    Returns:
        ``gap_days`` (0 for two on one day), ``gaps`` (count). Gaps still open are not among them.
    """
    closed = _gaps(tables, _day("first", first), _day("last", last))
    return closed.group_by("gap_days").agg(gaps=closed.count())


def funnel_counts(
    tables: Tables, steps: Sequence[str], first: str, last: str, window_days: int
) -> ir.Table:
    """How far the people got who joined between two days.

    Args:
        tables: Needs ``customers`` with ``joined_at``, ``orders``, ``events``.
        steps: Events of the onboarding.
        first: First day of joining.
        last: Its last day, which is also where the data end.
        window_days: How long a step may take to count, from joining; for ``second_order`` and
            ``invited`` from the first order.

    Returns:
        One row; per step, ``first_order``, ``second_order`` and ``invited`` four counts:
        ``<step>_all`` (people it is counted from), ``<step>_ever`` (of them, done by ``last``),
        ``<step>_closed`` (those whose window ends by ``last``) and ``<step>_done`` (of the closed,
        done within it).
    """
    begin, end = _day("first", first), _day("last", last)
    people = _joined(tables)
    people = people.filter(people.joined.between(begin, end))
    events = _there(tables, "events")
    wanted = [*steps, "invited"]
    events = events.filter(events.event.isin(wanted), events.business_date <= end)
    when = events.group_by("customer_id").agg(
        **{f"at_{i}": events.business_date.min(where=events.event == name)
           for i, name in enumerate(wanted)}
    )  # fmt: skip
    orders = _orders(tables)
    days = orders.filter(orders.business_date <= end)
    days = days.select("customer_id", "business_date").distinct()
    days = days.mutate(
        turn=ibis.row_number().over(group_by=days.customer_id, order_by=days.business_date)
    )
    firsts = days.group_by("customer_id").agg(
        one=days.business_date.min(where=days.turn == 0),
        two=days.business_date.min(where=days.turn == 1),
    )
    each = people.left_join(when, "customer_id").drop("customer_id_right")
    each = each.left_join(firsts, "customer_id").drop("customer_id_right")
    each = each.mutate(
        since=_days(each.joined, ibis.literal(end)),
        bought=_days(each.joined, each.one),
        again=_days(each.one, each.two),
        asked=_days(each.one, each[f"at_{len(steps)}"]),
        after=_days(each.one, ibis.literal(end)),
        **{f"wait_{i}": _days(each.joined, each[f"at_{i}"]) for i in range(len(steps))},
    )
    counts: dict[str, ir.Scalar] = {}
    everybody = each.joined.notnull()
    bought = each.bought.notnull()
    soon = (each.bought <= window_days).fill_null(False)
    for name, wait, base, closed, known in [
        *((step, each[f"wait_{i}"], everybody, each.since, everybody)
          for i, step in enumerate(steps)),
        ("first_order", each.bought, everybody, each.since, everybody),
        ("second_order", each.again, soon, each.after, bought),
        ("invited", each.asked, soon, each.after, bought),
    ]:  # fmt: skip
        shut = base & (closed >= window_days).fill_null(False)
        counts[f"{name}_all"] = known.sum()
        counts[f"{name}_ever"] = (known & wait.notnull()).sum()
        counts[f"{name}_closed"] = shut.sum()
        counts[f"{name}_done"] = (shut & (wait <= window_days).fill_null(False)).sum()
    return each.agg(**counts)


def _joined(tables: Tables) -> ir.Table:
    """``customer_id, joined``: the first day of each person, who may be known under two ids."""
    customers = _there(tables, "customers")
    return customers.group_by("customer_id").agg(joined=customers.business_date.min())


def touch_outcomes(tables: Tables, first: str, last: str, horizon_days: int) -> ir.Table:
    """Orders after a touch, by channel, and orders of people whom nobody touched.

    Args:
        tables: Needs ``customers`` with ``joined_at``, ``touches``, ``orders``.
        first: First day of the touches; every seventh day from it on stands for the days of
            those not touched.
        last: Last day of the touches.
        horizon_days: How many days are followed, the day of the touch included. Not touched means
            no touch in these days.

    Returns:
        One row per channel and one called ``none``: ``channel``, ``units`` (customers), the sums
        of ``orders`` per touch, or per customer and day.
    """
    begin, end = _day("first", first), _day("last", last)
    orders = _orders(tables).select("customer_id", bought="business_date")
    touches = _there(tables, "touches")
    touches = touches.select("customer_id", "channel", touched=touches.business_date)
    sent = touches.filter(touches.touched.between(begin, end))
    sent = sent.group_by("customer_id", "channel", day=sent.touched).agg(times=sent.count())
    people = _joined(tables)
    marks = [begin + timedelta(days=at) for at in range(0, (end - begin).days + 1, 7)]
    quiet = people.select(
        "customer_id",
        "joined",
        day=ibis.literal(marks, type="array<date>").unnest(),
    )
    quiet = quiet.filter(quiet.joined <= quiet.day)
    later = quiet.join(touches, "customer_id")
    after = _days(later.day, later.touched)
    later = later.filter((after >= 0) & (after < horizon_days))
    quiet = quiet.anti_join(later.select("customer_id", "day").distinct(), ["customer_id", "day"])
    quiet = quiet.select(
        "customer_id", "day", channel=ibis.literal("none"), times=ibis.literal(1, type="int64")
    )
    both = ibis.union(
        quiet.select("customer_id", "channel", "day", "times"),
        sent.select("customer_id", "channel", "day", "times"),
    )
    follow = both.join(orders, "customer_id")
    wait = _days(follow.day, follow.bought)
    follow = follow.filter((wait >= 0) & (wait < horizon_days))
    came = follow.group_by("customer_id", "channel").agg(orders=follow.times.sum())
    each = both.group_by("customer_id", "channel").agg(times=both.times.sum())
    each = each.left_join(came, ["customer_id", "channel"]).select(
        "customer_id", "channel", "times", orders=lambda rows: rows.orders.coalesce(0)
    )
    return each.group_by("channel").agg(
        units=each.count(), **_ratio("orders", each.orders, each.times)
    )


def touched(tables: Tables, first: str, last: str) -> ir.Table:
    """Who was touched on which channel between two days: ``customer_id, channel``, each once."""
    begin, end = _day("first", first), _day("last", last)
    touches = _there(tables, "touches")
    chosen = touches.filter(touches.business_date.between(begin, end))
    return chosen.select("customer_id", "channel").distinct()


def people(tables: Tables) -> ir.Table:
    """What there is of each person in the tables, one row each.

    Args:
        tables: Needs ``customers``; counts what else there is.

    Returns:
        ``customer_id``, ``city`` (missing where the source has none), and counts of ``orders``,
        ``visits``, ``touches``, ``calls`` (touches by voice), ``contacts``.
    """
    own = _there(tables, "customers")
    city = own.city if "city" in own.columns else ibis.null("string")
    # A person known under two ids has two rows once these are merged.
    rows = own.select("customer_id", city=city)
    each = rows.group_by("customer_id").agg(city=rows.city.min())
    events, touches = tables.events, tables.touches
    parts: dict[str, ir.Table | None] = {
        "orders": _orders(tables),
        "visits": None if events is None else events.filter(events.event == "visit"),
        "touches": touches,
        "calls": None if touches is None else touches.filter(touches.channel == "voice"),
        "contacts": tables.service_contacts,
    }
    for name, rows in parts.items():
        if rows is None:
            each = each.mutate(**{name: ibis.literal(0, type="int64")})
            continue
        each = _with(each, rows.group_by("customer_id").agg(**{name: rows.count()}))
    return each


def lives(tables: Tables, customers: Sequence[str]) -> ir.Table:
    """Everything dated that the tables know of a few people.

    Returns:
        ``customer_id``; ``day``; ``kind``: ``order``, ``return``, ``touch``, ``contact`` (a request
        for help), ``feedback``, ``withdrawn`` (a channel closed), or the name of an event;
        ``channel`` (of touches and withdrawals, else missing); ``status`` (of touches, else
        missing); ``value`` (amount of an order, score of a feedback, else missing).
    """
    parts = []

    def add(
        rows: ir.Table | None,
        kind: str | ir.StringValue,
        day: str = "business_date",
        channel: str = "",
        status: str = "",
        value: str = "",
    ) -> None:
        if rows is None:
            return
        rows = rows.filter(rows.customer_id.isin(list(customers)))
        none = ibis.null("string")
        parts.append(
            rows.select(
                "customer_id",
                day=rows[day].cast("date"),
                kind=rows[kind] if kind in rows.columns else ibis.literal(kind),
                channel=rows[channel] if channel in rows.columns else none,
                status=rows[status] if status in rows.columns else none,
                value=rows[value].cast("float64")
                if value in rows.columns
                else ibis.null("float64"),
            )
        )

    orders = _there(tables, "orders")
    add(orders.filter(orders.amount >= 0), "order", value="amount")
    add(orders.filter(orders.amount < 0), "return", value="amount")
    add(tables.events, "event")
    add(tables.touches, "touch", channel="channel", status="status")
    add(tables.service_contacts, "contact")
    add(tables.feedback, "feedback", value="score")
    if tables.consents is not None and "withdrawn_at" in tables.consents.columns:
        ended = tables.consents.filter(tables.consents.withdrawn_at.notnull())
        add(ended, "withdrawn", day="withdrawn_at", channel="channel")
    return parts[0] if len(parts) == 1 else ibis.union(parts[0], *parts[1:])


def span(tables: Tables) -> ir.Table:
    """One row: ``first`` and ``last``, the days of the first and the last order."""
    orders = _orders(tables)
    return orders.agg(first=orders.business_date.min(), last=orders.business_date.max())


def _reduced(tables: Tables, orders: ir.Table) -> ir.Table | None:
    """Per customer ``reduced``, revenue with something taken off, and ``listed``, all of it."""
    rows, lines = orders, tables.order_lines
    if lines is not None and {"amount", "discount"} <= set(lines.columns):
        rows = lines.select("order_id", "amount", "discount").join(
            orders.select("order_id", "customer_id"), "order_id"
        )
    elif "discount" not in orders.columns:
        return None
    rows = rows.select("customer_id", "discount", paid=rows.amount.cast("float64"))
    off = (rows.discount > 0).fill_null(False)
    return rows.group_by("customer_id").agg(
        reduced=off.ifelse(rows.paid, 0.0).sum(), listed=rows.paid.sum()
    )


def _with(each: ir.Table, more: ir.Table) -> ir.Table:
    """Columns of ``more`` beside those of ``each``, 0 for customers it does not have."""
    new = {name: more[name].coalesce(0) for name in more.columns if name != "customer_id"}
    return each.left_join(more, "customer_id").select(*each.columns, **new)


def _gaps(tables: Tables, begin: date, end: date) -> ir.Table:
    orders = _orders(tables)
    orders = orders.filter(orders.business_date.between(begin, end))
    before = orders.business_date.lag().over(
        ibis.window(group_by=orders.customer_id, order_by=orders.business_date)
    )
    follows = orders.mutate(before=before).filter(lambda rows: rows.before.notnull())
    return follows.select("customer_id", gap_days=_days(follows.before, follows.business_date))


def _there(tables: Tables, name: str) -> ir.Table:
    table: ir.Table | None = getattr(tables, name)
    if table is None:
        raise ContractError(f"{tables.source or 'these tables'}: there is no {name} table")
    return table


def _orders(tables: Tables) -> ir.Table:
    orders = _there(tables, "orders")
    return orders.filter(orders.amount >= 0)


def _ratio(name: str, x: ir.NumericColumn, y: ir.NumericColumn) -> dict[str, ir.Scalar]:
    return {
        f"{name}_x": x.sum(),
        f"{name}_y": y.sum(),
        f"{name}_xx": (x * x).sum(),
        f"{name}_yy": (y * y).sum(),
        f"{name}_xy": (x * y).sum(),
    }


def _ratios(each: ir.Table, parts: Mapping[str, tuple[str, str]]) -> dict[str, ir.Scalar]:
    sums: dict[str, ir.Scalar] = {}
    for name, (x, y) in parts.items():
        sums |= _ratio(name, each[x], each[y])
    return sums


def _power(value: ir.FloatingColumn, power: int) -> ir.FloatingColumn:
    whole = value
    for _ in range(power - 1):
        whole = whole * value
    return whole


def _days(start: ir.DateValue, end: ir.DateValue) -> ir.IntegerValue:
    return end.delta(start, unit="day")


def _day(name: str, text: str) -> date:
    try:
        return date.fromisoformat(text)
    except (TypeError, ValueError):
        raise ContractError(
            f"{name} must be an ISO date such as '1997-09-30'; got {text!r}"
        ) from None
