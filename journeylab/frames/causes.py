"""What else may end the wait for a purchase: leaving, in the forms a source can record."""

from collections.abc import Sequence
from datetime import date

import ibis
import ibis.expr.types as ir

from journeylab.errors import ContractError
from journeylab.tables import Tables
from journeylab.tables.columns import business_date

PURCHASE = "purchase"
UNSUBSCRIBED = "unsubscribed"


def cause_days(
    tables: Tables, causes: Sequence[str], until: date, purpose: str = "marketing"
) -> ir.Table:
    """The days on which customers left in one way or another.

    Args:
        tables: ``consents`` for ``unsubscribed``; ``events`` for every other cause.
        causes: ``unsubscribed``: a permission for ``purpose`` was withdrawn, for whichever
            channel. Any other name is the ``event`` of that name, e.g. ``left_group`` or
            ``contact_deleted``.
        until: Last day that counts.
        purpose: Of the consents.

    Returns:
        One row per customer, day and cause: ``customer_id, business_date, place`` (of the cause in
        ``causes``, from 1).

    Raises:
        ContractError: A cause is there twice, is called ``purchase``, or its table is not there.
    """
    source = tables.source or "these tables"
    if isinstance(causes, str) or len(set(causes)) < len(causes) or PURCHASE in causes:
        raise ContractError(
            f"causes must be a list of different names, without {PURCHASE!r}, which always counts; "
            f"got {causes!r}"
        )
    parts = []
    for place, cause in enumerate(causes, start=1):
        number = ibis.literal(place, "int64")
        if cause == UNSUBSCRIBED:
            if tables.consents is None or "withdrawn_at" not in tables.consents.columns:
                raise ContractError(
                    f"{source}: {UNSUBSCRIBED!r} needs consents with a withdrawn_at column"
                )
            rows = tables.consents
            rows = rows.filter(rows.purpose == purpose, rows.withdrawn_at.notnull())
            engine = rows.get_backend().name
            day = business_date(rows.withdrawn_at, tables.business_tz, engine)
            parts.append(rows.select("customer_id", business_date=day, place=number))
        else:
            if tables.events is None:
                raise ContractError(f"{source}: the cause {cause!r} needs an events table")
            rows = tables.events.filter(tables.events.event == cause)
            parts.append(rows.select("customer_id", "business_date", place=number))
    days = ibis.union(*parts) if len(parts) > 1 else parts[0]
    return days.filter(days.business_date <= until).distinct()


def first_causes(days: ir.Table, frame: ir.Table) -> ir.Table:
    """The first cause after each landmark, while its outcome is followed.

    Args:
        days: From ``cause_days``.
        frame: ``landmark``, ``customer_id``, ``stop`` (the last day followed).

    Returns:
        One row per landmark and customer with a cause: ``landmark, customer_id, cause_day``,
        ``place`` (the least of those on that day).
    """
    rows = frame.select("landmark", "customer_id", "stop").inner_join(days, "customer_id")
    rows = rows.filter(rows.business_date > rows.landmark, rows.business_date <= rows.stop)
    first = ibis.window(group_by=["landmark", "customer_id"], order_by=["business_date", "place"])
    rows = rows.mutate(turn=ibis.row_number().over(first))
    rows = rows.filter(rows.turn == 0)
    return rows.select("landmark", "customer_id", "place", cause_day=rows.business_date)
