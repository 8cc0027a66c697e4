"""Who was put into which arm by chance, what was known of them before, and what came of it."""

from collections.abc import Sequence
from datetime import date

import ibis
import ibis.expr.types as ir

from journeylab.errors import ContractError
from journeylab.frames.days import days_between, iso_day, last_day, orders_until
from journeylab.tables import Tables, collect

RECENT_DAYS = 28
# Names that a refusal lists.
_TOLD = 12
_ARRIVED = ("delivered", "answered")


def trials(
    tables: Tables,
    experiments: str | Sequence[str],
    horizon_days: int,
    until: str | None = None,
) -> ir.Table:
    """One row per unit of randomised experiments, with its past and its outcome.

    The past ends with the day before assignment; the outcome begins with the day of assignment
    and lasts ``horizon_days``. Units whose window reaches beyond ``until``, who stand in two arms
    of one experiment, or whose assignment carries no time are left out; ``left_out_of_trials``
    counts them. Weekly waves stack: a customer has one row in each, and is one ``cluster``.

    Args:
        tables: Needs ``assignments`` with times, and ``orders``; ``touches``, ``events`` and
            ``customers`` add to it.
        experiments: Ids; one that ends with ``*`` stands for all that begin so.
        horizon_days: Length of the outcome's window, days.
        until: Last complete day of the data; without it the last day with an order, which is asked
            of the engine at once.

    Returns:
        ``experiment_id, customer_id, arm, assigned_on`` (date); ``propensity`` (chance of the own
        arm, missing where it was not logged); ``stratum`` (as logged, else the experiment);
        ``cluster`` (what was randomised: the group, else the person).
        Past: ``bought_before`` (0, 1); ``days_since_last``, ``age_days`` (since the first order,
        both missing for those without); ``bought_lately`` (0, 1: an order within the last 28
        days); ``orders_before, spend_before`` (all, net of returns); ``orders_lately,
        spend_lately, touches_lately, visits_lately`` (within the last 28 days); and over the
        window of the same length before assignment ``outcome_bought_before, outcome_orders_before,
        outcome_spend_before, outcome_margin_before``, for placebo tests. Counts, floats.
        Attributes: ``source_channel, city, province`` and other texts and numbers of the customers
        table, as they stand; no ids.
        Outcome: ``bought`` (0, 1), ``orders``, ``spend`` (net of returns in the window), ``margin``
        (the same less the cost of goods; missing where the orders carry no cost); floats in the
        currency of the orders.
        Delivery: ``delivered``, ``answered`` (0, 1: a touch through the channel that the arm is
        named after, within the window's first week, got so far); missing without touches.

    Raises:
        ContractError: A table is missing, nothing is called so, assignments carry no time, a date
            is no ISO date, or the horizon is below one day.
    """
    own, end = _assigned(tables, experiments, horizon_days, until)
    own = own.filter(own.arms == 1, own.assigned_on.notnull())
    own = own.filter(days_between(own.assigned_on, ibis.literal(end)) + 1 >= horizon_days)
    key = ("experiment_id", "customer_id")
    frame = own.select(*key, "arm", "assigned_on", "propensity", "stratum", "cluster")
    begun = own.select(*key, "assigned_on")
    parts = [_bought(tables, begun, horizon_days, end), _visited(tables, begun)]
    if tables.touches is not None:
        parts.append(_touched(tables, own.select(*key, "assigned_on", "arm"), horizon_days))
    for part in parts:
        if part is None:
            continue
        names = [name for name in part.columns if name not in key]
        frame = frame.left_join(part, key).select(*frame.columns, *names)
    nothing = ibis.literal(0.0, type="float64")
    counts = [
        "bought_before", "bought_lately", "orders_before", "spend_before", "orders_lately",
        "spend_lately", "outcome_bought_before", "outcome_orders_before", "outcome_spend_before",
        "bought", "orders", "spend",
    ]  # fmt: skip
    absent = ibis.null("float64")
    columns = {name: frame[name].coalesce(nothing) for name in counts}
    columns["days_since_last"] = frame.days_since_last.cast("float64")
    columns["age_days"] = frame.age_days.cast("float64")
    has_cost = "cost" in orders_until(tables, end).columns
    for name in ("outcome_margin_before", "margin"):
        columns[name] = frame[name].coalesce(nothing) if has_cost else absent
    for name in ("touches_lately", "visits_lately"):
        columns[name] = frame[name].coalesce(nothing) if name in frame.columns else nothing
    for name in ("delivered", "answered"):
        columns[name] = frame[name].coalesce(nothing) if name in frame.columns else absent
    frame = frame.select(*key, "arm", "assigned_on", "propensity", "stratum", "cluster", **columns)
    return _with_attributes(tables, frame)


def left_out_of_trials(
    tables: Tables,
    experiments: str | Sequence[str],
    horizon_days: int,
    until: str | None = None,
) -> ir.Table:
    """How many units ``trials`` takes and leaves out, and why.

    Args:
        tables: As for ``trials``.
        experiments: As for ``trials``.
        horizon_days: As for ``trials``.
        until: As for ``trials``.

    Returns:
        One row per reason that occurs: ``reason`` (``taken``, ``in two arms``, ``no time of
        assignment``, ``window still open``), ``units`` (count).

    Raises:
        ContractError: As ``trials``.
    """
    own, end = _assigned(tables, experiments, horizon_days, until)
    closed = days_between(own.assigned_on, ibis.literal(end)) + 1 >= horizon_days
    reason = ibis.cases(
        (own.arms > 1, "in two arms"),
        (own.assigned_on.isnull(), "no time of assignment"),
        (~closed, "window still open"),
        else_="taken",
    )
    own = own.mutate(reason=reason)
    return own.group_by("reason").agg(units=own.count())


def measured_trials(
    tables: Tables, experiments: str | Sequence[str], metrics: Sequence[str]
) -> ir.Table:
    """One row per unit of experiments whose results came without dates.

    Args:
        tables: Needs ``assignments`` and ``outcomes``; ``customers`` adds its attributes.
        experiments: Ids; one that ends with ``*`` stands for all that begin so.
        metrics: Of the outcomes; one that a unit has no row of counts as 0.

    Returns:
        ``experiment_id, customer_id, arm, propensity, stratum, cluster`` as in ``trials``; the
        customers' attributes; one float column per metric. Units in two arms are left out.

    Raises:
        ContractError: A table is missing, nothing is called so, or a metric has the name of
            another column.
    """
    values = _table(tables, "outcomes")
    own = _own(tables, experiments)
    own = own.filter(own.arms == 1).select(
        "experiment_id", "customer_id", "arm", "propensity", "stratum", "cluster"
    )
    frame = _with_attributes(tables, own)
    if taken := sorted(set(metrics) & set(frame.columns)):
        raise ContractError(f"metrics must not have the names of columns: {', '.join(taken)}")
    if not metrics:
        raise ContractError("name one metric of the outcomes or more")
    wide = values.group_by("customer_id").agg(
        **{name: values.value.sum(where=values.metric == name) for name in metrics}
    )
    joined = frame.left_join(wide, "customer_id").select(*frame.columns, *metrics)
    nothing = ibis.literal(0.0, type="float64")
    return joined.mutate(
        **{name: joined[name].cast("float64").coalesce(nothing) for name in metrics}
    )


def _table(tables: Tables, name: str) -> ir.Table:
    table: ir.Table | None = getattr(tables, name)
    if table is None:
        raise ContractError(f"{tables.source or 'these tables'}: there is no {name} table")
    return table


def _own(tables: Tables, experiments: str | Sequence[str]) -> ir.Table:
    """One row per experiment and customer, however many arms they stand in."""
    if tables.assignments is None:
        raise ContractError(
            f"{tables.source or 'these tables'}: there is no assignments table. Without one nobody "
            "was given anything by chance, and a difference is not an effect. What may still be "
            "said of such a campaign stands in 41_uplift_observed"
        )
    names = [experiments] if isinstance(experiments, str) else list(experiments)
    if not names:
        raise ContractError("name one experiment or more")
    rows = tables.assignments
    wanted = ibis.or_(
        *(
            rows.experiment_id.startswith(name[:-1])
            if name.endswith("*")
            else rows.experiment_id == name
            for name in names
        )
    )
    _refuse_unknown(tables, names)
    rows = rows.filter(wanted)
    text, number = ibis.null("string"), ibis.null("float64")
    rows = rows.select(
        "experiment_id",
        "customer_id",
        "variant",
        day=rows.business_date if "business_date" in rows.columns else ibis.null("date"),
        propensity=rows.propensity.cast("float64") if "propensity" in rows.columns else number,
        stratum=rows.stratum if "stratum" in rows.columns else text,
        cluster=rows.cluster_id if "cluster_id" in rows.columns else text,
    )
    return rows.group_by("experiment_id", "customer_id").agg(
        arm=rows.variant.min(),
        arms=rows.variant.nunique(),
        assigned_on=rows.day.min(),
        propensity=rows.propensity.min(),
        stratum=rows.stratum.min().coalesce(rows.experiment_id.min()),
        cluster=rows.cluster.min().coalesce(rows.customer_id.min()),
    )


def _refuse_unknown(tables: Tables, names: Sequence[str]) -> None:
    """A name that no experiment has would leave a trial without rows, and no word why."""
    assert tables.assignments is not None
    known = list(collect(tables.assignments.select("experiment_id").distinct())["experiment_id"])
    unknown = [
        name
        for name in names
        if not any(
            one.startswith(name[:-1]) if name.endswith("*") else one == name for one in known
        )
    ]
    if unknown:
        told = ", ".join(sorted(known)[:_TOLD]) + (", ..." if len(known) > _TOLD else "")
        raise ContractError(
            f"no experiment is called {', '.join(unknown)}; the {len(known)} in "
            f"{tables.source or 'these tables'} are: {told or 'none'}"
        )


def _assigned(
    tables: Tables, experiments: str | Sequence[str], horizon_days: int, until: str | None
) -> tuple[ir.Table, date]:
    if horizon_days < 1:
        raise ContractError(f"horizon_days must be at least 1; got {horizon_days}")
    own = _own(tables, experiments)
    if tables.assignments is not None and "business_date" not in tables.assignments.columns:
        raise ContractError(
            "the assignments carry no times: their outcomes must come measured (measured_trials)"
        )
    return own, last_day(tables) if until is None else iso_day("until", until)


def _bought(tables: Tables, begun: ir.Table, horizon_days: int, end: date) -> ir.Table:
    orders = orders_until(tables, end)
    worth = orders.amount - orders.cost if "cost" in orders.columns else ibis.null("float64")
    days = orders.select("customer_id", "business_date", "amount", left=worth)
    days = days.group_by("customer_id", "business_date").agg(
        orders=(days.amount >= 0).sum(), amount=days.amount.sum(), left=days.left.sum()
    )
    seen = begun.join(days, "customer_id")
    # days from assignment: below 0 is the past, the day itself belongs to the outcome
    seen = seen.mutate(at=days_between(seen.assigned_on, seen.business_date))
    seen = seen.filter(seen["at"] < horizon_days)
    past, ahead = seen["at"] < 0, seen["at"] >= 0
    lately, mirrored = past & (seen["at"] >= -RECENT_DAYS), past & (seen["at"] >= -horizon_days)
    bought = seen.orders > 0

    def flag(where: ir.BooleanValue) -> ir.FloatingScalar:
        return where.any().cast("int64").cast("float64")

    def total(column: str, where: ir.BooleanValue) -> ir.FloatingScalar:
        # Added up as DECIMAL: a sum of floats depends on the order an engine's threads take.
        return seen[column].sum(where=where).cast("float64")

    return seen.group_by("experiment_id", "customer_id").agg(
        bought_before=flag(past & bought),
        bought_lately=flag(lately & bought),
        days_since_last=-seen["at"].max(where=past & bought),
        age_days=-seen["at"].min(where=past & bought),
        orders_before=total("orders", past),
        spend_before=total("amount", past),
        orders_lately=total("orders", lately),
        spend_lately=total("amount", lately),
        outcome_orders_before=total("orders", mirrored),
        outcome_spend_before=total("amount", mirrored),
        outcome_bought_before=flag(mirrored & bought),
        outcome_margin_before=total("left", mirrored),
        bought=flag(ahead & bought),
        orders=total("orders", ahead),
        spend=total("amount", ahead),
        margin=total("left", ahead),
    )


def _visited(tables: Tables, begun: ir.Table) -> ir.Table | None:
    if tables.events is None or "business_date" not in tables.events.columns:
        return None
    visits = tables.events.filter(tables.events.event == "visit")
    days = visits.group_by("customer_id", "business_date").agg(visits=visits.count())
    seen = begun.join(days, "customer_id")
    at = days_between(seen.assigned_on, seen.business_date)
    seen = seen.filter(at < 0, at >= -RECENT_DAYS)
    return seen.group_by("experiment_id", "customer_id").agg(
        visits_lately=seen.visits.sum().cast("float64")
    )


def _touched(tables: Tables, own: ir.Table, horizon_days: int) -> ir.Table:
    touches = _table(tables, "touches")
    status = touches.status if "status" in touches.columns else ibis.null("string")
    touches = touches.select("customer_id", "business_date", "channel", status=status)
    seen = own.join(touches, "customer_id")
    seen = seen.mutate(at=days_between(seen.assigned_on, seen.business_date))
    seen = seen.filter(seen["at"] >= -RECENT_DAYS, seen["at"] < min(7, horizon_days))
    meant = (seen["at"] >= 0) & (seen.channel == seen.arm)
    return seen.group_by("experiment_id", "customer_id").agg(
        touches_lately=(seen["at"] < 0).sum().cast("float64"),
        delivered=(meant & seen.status.isin(_ARRIVED)).any().cast("int64").cast("float64"),
        answered=(meant & (seen.status == "answered")).any().cast("int64").cast("float64"),
    )


def _with_attributes(tables: Tables, frame: ir.Table) -> ir.Table:
    """What the customers table says of them, without ids and dates."""
    if tables.customers is None:
        return frame
    people = tables.customers
    names = [
        name
        for name, kind in people.schema().items()
        if (kind.is_string() or kind.is_numeric() or kind.is_boolean())
        and name not in frame.columns
        and not name.endswith("_id")
    ]
    if not names:
        return frame
    joined = frame.left_join(people.select("customer_id", *names), "customer_id")
    return joined.select(*frame.columns, *names)
