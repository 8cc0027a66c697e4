"""Trials: what came of each customer of a test, over windows of equal length."""

import re
from collections.abc import Sequence
from datetime import timedelta

import ibis
import ibis.expr.types as ir

from journeylab.errors import ContractError
from journeylab.estimate import Metric
from journeylab.estimate.metric import before
from journeylab.frames.days import iso_day
from journeylab.tables import Tables

OPEN = "window not closed yet"
CROSSED = "in two variants"
_TABLES = ("orders", "events", "touches", "feedback", "service_contacts", "outcomes", "customers")
_SPAN = re.compile(r"(?P<source>.*?)(?P<span> before| within \d+ days| on day \d+)?")


def trial(
    tables: Tables,
    experiment: str,
    metrics: Sequence[Metric],
    *,
    window_days: int | None,
    as_of: str | None,
    pre_days: int | None = None,
    stratum: str | None = None,
) -> ir.Table:
    """One row per customer of a test, with the columns its metrics read.

    Every customer is followed equally long, from the day of the assignment on; whose window has
    not closed by ``as_of`` is marked and not counted, because the young would look like the idle.

    Args:
        tables: Needs ``assignments`` and the tables the metrics name.
        experiment: Its id.
        metrics: Their sources are read; see ``Metric.of``. Also ``customers.<column>`` as a
            covariate, an attribute read as a number.
        window_days: How long each customer is followed, the day of assignment included; ``None``
            for a source without dates, which reads ``outcomes:<metric>`` only.
        as_of: Last complete day of the data (ISO); ``None`` without dates.
        pre_days: Length of the period before the assignment for ``before`` columns; by default
            ``window_days``.
        stratum: Column of ``customers`` to split by; by default ``assignments.stratum``.

    Returns:
        ``customer_id, variant``; ``stratum``, ``cluster`` where there are any; ``day`` of the
        first assignment; ``status``: missing, or why the customer is not counted (in two variants,
        window not closed yet); one column per source, money as DECIMAL. A customer without orders
        or events has 0; one without an outcome has none.

    Raises:
        ContractError: No such experiment table, column, source or day.
    """
    sources = [name for metric in metrics for name in metric.columns]
    if not sources:
        raise ContractError("a trial needs a metric")
    own = _assigned(tables, experiment, stratum)
    dated = "day" in own.columns
    if (window_days is None) != (as_of is None) or (window_days is not None and not dated):
        raise ContractError(
            "window_days and as_of come together, and need assignments with a time; "
            f"got {window_days} and {as_of}{'' if dated else ', without times'}"
        )
    crossed = (own.arms > 1).ifelse(ibis.literal(CROSSED), ibis.null("string"))
    if window_days is not None and as_of is not None:
        if window_days < 1 or (pre_days is not None and pre_days < 1):
            raise ContractError(f"window_days and pre_days must be 1 or more; got {window_days}")
        last = iso_day("as_of", as_of) - timedelta(days=window_days - 1)
        late = (own.day > ibis.literal(last)).ifelse(ibis.literal(OPEN), ibis.null("string"))
        crossed = crossed.coalesce(late)
    each = own.mutate(status=crossed).drop("arms")
    wanted = dict.fromkeys(sources)
    for table in dict.fromkeys(_table_of(name) for name in wanted):
        names = [name for name in wanted if _table_of(name) == table]
        if table == "customers":
            more = _attributes(tables, names)
        else:
            more = _sums(tables, table, names, own, window_days, pre_days or window_days)
        joined = each.left_join(more, "customer_id")
        zero = table not in ("customers", "outcomes")
        each = joined.select(
            *each.columns,
            **{name: joined[name].coalesce(0) if zero else joined[name] for name in names},
        )
    return each


def _assigned(tables: Tables, experiment: str, stratum: str | None) -> ir.Table:
    if tables.assignments is None:
        raise ContractError(f"{tables.source or 'these tables'}: there is no assignments table")
    rows = tables.assignments.filter(tables.assignments.experiment_id == experiment)
    parts: dict[str, ir.Value] = {
        "variant": rows.variant.min(),
        "arms": rows.variant.nunique(),
    }
    if "business_date" in rows.columns:
        parts["day"] = rows.business_date.min().cast("date")
    if "cluster_id" in rows.columns:
        parts["cluster"] = rows.cluster_id.min()
    if stratum is None and "stratum" in rows.columns:
        parts["stratum"] = rows.stratum.min()
    own = rows.group_by("customer_id").agg(**parts)
    if stratum is None:
        return own
    people = tables.customers
    if people is None or stratum not in people.columns:
        raise ContractError(f"there is no column {stratum!r} in customers to split by")
    # A person known under two ids has two rows once these are merged.
    of = people.group_by("customer_id").agg(stratum=people[stratum].cast("string").min())
    return own.left_join(of, "customer_id").select(*own.columns, "stratum")


def _sums(
    tables: Tables,
    table: str,
    names: Sequence[str],
    own: ir.Table,
    window_days: int | None,
    pre_days: int | None,
) -> ir.Table:
    """``customer_id`` and one column per source: sums in the window, or before it."""
    rows: ir.Table | None = getattr(tables, table)
    if rows is None:
        raise ContractError(f"{tables.source or 'these tables'}: there is no {table} table")
    # What was opened may be a join, to which Ibis would add another; a selection ends it.
    rows = rows.select(*rows.columns)
    if table == "orders":
        rows = rows.filter(rows.amount >= 0)
    dated = window_days is not None
    rows = rows.join(own.select("customer_id", *(["day"] if dated else [])), "customer_id")
    if window_days is not None and pre_days is not None:
        if "business_date" not in rows.columns:
            raise ContractError(f"{table} has no days; only a test without a window can read it")
        rows = rows.mutate(after=rows.business_date.cast("date").delta(rows.day, unit="day"))
        rows = rows.filter((rows.after >= -pre_days) & (rows.after < window_days))
    sums = {}
    for name in names:
        source, span = _parted(name)
        if span and not dated:
            raise ContractError(f"{name}: a test without days knows no {span.strip()!r}")
        mask = _in_span(rows, span) if dated else None
        sums[name] = _sum(rows, table, source, mask)
    return rows.group_by("customer_id").agg(**sums)


def _in_span(rows: ir.Table, span: str) -> ir.BooleanValue:
    if span == before(""):
        return rows.after < 0
    inside = rows.after >= 0
    if span:
        days = int(re.sub(r"\D", "", span))
        inside = rows.after == days if span.startswith(" on") else inside & (rows.after < days)
    return inside


def _sum(rows: ir.Table, table: str, source: str, mask: ir.BooleanValue | None) -> ir.NumericScalar:
    """What one source adds up to over the rows of a customer."""
    _, _, column = source.partition(".")
    _, _, label = source.partition(":")
    if label:
        field = {"events": "event", "outcomes": "metric"}.get(table)
        if field is None:
            raise ContractError(f"{source}: only events and outcomes are told apart by a name")
        named = rows[field] == label
        mask = named if mask is None else mask & named
    if table == "outcomes":
        return rows.value.sum(where=mask)
    if not column:
        return rows.count() if mask is None else mask.cast("int64").sum()
    needs = ("amount", "cost") if column == "margin" else (column,)
    if absent := [name for name in needs if name not in rows.columns]:
        raise ContractError(f"{source}: {table} has no column {', '.join(absent)}")
    value = rows.amount - rows.cost if column == "margin" else rows[column]
    total = value.sum(where=mask)
    return total.cast(f"decimal(18, {value.type().scale})") if value.type().is_decimal() else total


def _attributes(tables: Tables, names: Sequence[str]) -> ir.Table:
    """``customer_id`` and attributes of customers, read as numbers."""
    people = tables.customers
    columns = {name: _parted(name)[0].partition(".")[2] for name in names}
    if people is None or not set(columns.values()) <= set(people.columns):
        raise ContractError(f"customers has no column {', '.join(columns.values())}")
    return people.group_by("customer_id").agg(
        **{name: people[column].try_cast("float64").max() for name, column in columns.items()}
    )


def _table_of(name: str) -> str:
    source = _parted(name)[0]
    table = source.partition(":")[0].partition(".")[0]
    if table not in _TABLES:
        raise ContractError(
            f"{name!r} names no source; sources begin with {', '.join(sorted(_TABLES))}"
        )
    return table


def _parted(name: str) -> tuple[str, str]:
    """A column's source, and in which span of days it is summed; empty for the whole window."""
    found = _SPAN.fullmatch(name)
    if found is None:
        raise ContractError(f"{name!r} names no source")
    return found["source"], found["span"] or ""


def trials_listed(tables: Tables) -> ir.Table:
    """The tests there are.

    Args:
        tables: Needs ``assignments``.

    Returns:
        One row per arm: ``experiment_id, variant, customers``; ``clusters`` (0 where customers
        were randomised); ``propensity``, the mean chance of the arm, ``first``, day of the first
        assignment, both missing where the source has none.
    """
    rows = tables.assignments
    if rows is None:
        raise ContractError(f"{tables.source or 'these tables'}: there is no assignments table")
    there = rows.columns
    parts = {
        "customers": rows.customer_id.nunique(),
        "clusters": rows.cluster_id.nunique() if "cluster_id" in there else _ZERO,
        "propensity": rows.propensity.mean() if "propensity" in there else ibis.null("float64"),
        "first": rows.business_date.min() if "business_date" in there else ibis.null("date"),
    }
    return rows.group_by("experiment_id", "variant").agg(**parts)


def outcomes_listed(tables: Tables) -> ir.Table:
    """The results a source ships without dates.

    Args:
        tables: Needs ``outcomes``.

    Returns:
        One row per metric: ``metric, low, high``; ``fractions``, how many values are not whole.
    """
    rows = tables.outcomes
    if rows is None:
        raise ContractError(f"{tables.source or 'these tables'}: there is no outcomes table")
    parts = (rows.value != rows.value.floor()).cast("int64")
    return rows.group_by("metric").agg(
        low=rows.value.min(), high=rows.value.max(), fractions=parts.sum()
    )


_ZERO = ibis.literal(0, type="int64")
