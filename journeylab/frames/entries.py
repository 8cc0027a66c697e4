"""Entries: who would have come into a test, and when, had it run in a stretch of the past."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import ibis
import ibis.expr.types as ir

from journeylab.errors import ContractError
from journeylab.estimate.assignment import assigned
from journeylab.frames.days import iso_day
from journeylab.tables import Tables

Activity = Literal["orders", "events"]
REHEARSAL = "rehearsal"
"""Name of the test that ``rehearsed`` puts into the assignments."""


def entries(
    tables: Tables,
    first: str,
    last: str,
    *,
    activity: Activity = "orders",
    cluster: str = "",
    lag_days: int = 0,
) -> ir.Table:
    """Each customer once, on the first day of activity between two days.

    Args:
        tables: Needs the table of the activity.
        first: First day on which somebody could have entered (ISO).
        last: Last such day.
        activity: What brings somebody in: an order (returns do not) or an event.
        cluster: Column of ``customers`` that names the clusters; empty for none.
        lag_days: Days from the activity to the entry: 1 for a test that begins on the day after
            an order, so that the order itself is no outcome.

    Returns:
        ``customer_id``; ``business_date`` (date of entry); with ``cluster``: ``cluster_id``,
        without those customers who have none.

    Raises:
        ContractError: The table or column is missing, or the days are not in order.
    """
    begin, end = iso_day("first", first), iso_day("last", last)
    if begin > end:
        raise ContractError(f"first must not lie after last; got {first} and {last}")
    rows = tables.orders if activity == "orders" else tables.events
    if rows is None:
        raise ContractError(f"{tables.source or 'these tables'}: there is no {activity} table")
    if activity == "orders":
        rows = rows.filter(rows.amount >= 0)
    rows = rows.filter(rows.business_date.between(begin, end))
    own = rows.group_by("customer_id").agg(business_date=rows.business_date.min().cast("date"))
    if lag_days:
        own = own.mutate(
            business_date=(own.business_date + ibis.interval(days=lag_days)).cast("date")
        )
    if not cluster:
        return own
    people = tables.customers
    if people is None or cluster not in people.columns:
        raise ContractError(f"there is no column {cluster!r} in customers to cluster by")
    of = people.group_by("customer_id").agg(cluster_id=people[cluster].cast("string").min())
    of = of.filter(of.cluster_id.nullif("").notnull())
    return own.join(of, "customer_id").select("customer_id", "business_date", "cluster_id")


def accrual(
    tables: Tables, first: str, last: str, *, activity: Activity = "orders", cluster: str = ""
) -> ir.Table:
    """How many customers were seen for the first time since ``first``, by day.

    Args:
        tables: As for ``entries``.
        first: First day (ISO).
        last: Last day (ISO).
        activity: As for ``entries``.
        cluster: As for ``entries``: only customers who have one are counted.

    Returns:
        ``day`` (date), ``customers``; days on which nobody new came are missing.
    """
    own = entries(tables, first, last, activity=activity, cluster=cluster)
    return own.group_by(day="business_date").agg(customers=own.count())


def rehearsed(
    tables: Tables,
    first: str,
    last: str,
    salt: str,
    shares: Mapping[str, float],
    *,
    activity: Activity = "orders",
    cluster: str = "",
    lag_days: int = 0,
) -> Tables:
    """The tables with an A/A test in their past: assigned as the real one will be, without effect.

    ``trial(rehearsed(...), REHEARSAL, ...)`` gives what a design needs (means, spread, correlation
    with the time before) and what its machinery makes of no effect at all.

    Args:
        tables: As for ``entries``.
        first: First day (ISO).
        last: Last day (ISO).
        salt: Of the assignment.
        shares: Arm -> weight.
        activity: As for ``entries``.
        cluster: As for ``entries``; then clusters are assigned whole.
        lag_days: As for ``entries``.
    """
    own = entries(tables, first, last, activity=activity, cluster=cluster, lag_days=lag_days)
    unit = "cluster_id" if cluster else "customer_id"
    arms = assigned(own, salt, shares, unit=unit)
    return replace(tables, assignments=arms.mutate(experiment_id=ibis.literal(REHEARSAL)))
