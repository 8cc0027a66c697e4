"""Business days, purchase days and the checks of dates that every frame begins with."""

from collections.abc import Sequence
from datetime import date
from typing import Literal

import ibis
import ibis.expr.types as ir

from journeylab.errors import ContractError
from journeylab.tables import Tables, collect

Unit = Literal["day", "week", "month"]

# A month is a twelfth of the mean Julian year, so that twelve of them make 365.25 days.
DAYS_PER_UNIT: dict[str, float] = {"day": 1.0, "week": 7.0, "month": 30.4375}


def orders_until(tables: Tables, until: date) -> ir.Table:
    """Orders up to and including a day: the one gate through which every frame looks."""
    if tables.orders is None:
        raise ContractError(f"{tables.source or 'these tables'}: there is no orders table")
    return tables.orders.filter(tables.orders.business_date <= until)


def customer_days(tables: Tables, until: date) -> ir.Table:
    """Customers' days: ``customer_id, business_date, orders`` (without returns), ``amount``."""
    orders = orders_until(tables, until)
    return orders.group_by("customer_id", "business_date").agg(
        orders=(orders.amount >= 0).sum(), amount=orders.amount.sum()
    )


def purchases_per_customer(days: ir.Table) -> ir.Table:
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


def last_day(tables: Tables) -> date:
    """Last business day with an order, asked of the engine at once."""
    orders = orders_until(tables, date.max)
    last = collect(orders.agg(last=orders.business_date.max()))["last"].iloc[0]
    if last is None or last != last:
        raise ContractError(f"{tables.source or 'these tables'}: the orders table has no rows")
    day: date = last.date()
    return day


def landmark_days(at: Sequence[str], end: date) -> list[date]:
    """Landmark days in order, each once, each before the last complete day."""
    if isinstance(at, str) or not at:
        raise ContractError(f"at must be a list of one landmark day or more; got {at!r}")
    cuts = sorted(iso_day("landmark", text) for text in at)
    if repeated := sorted({str(cut) for cut in cuts if cuts.count(cut) > 1}):
        raise ContractError(f"landmarks must differ; given more than once: {', '.join(repeated)}")
    if late := [str(cut) for cut in cuts if cut >= end]:
        raise ContractError(
            f"landmarks must lie before the last complete day ({end}); "
            f"{len(late)} of {len(cuts)} leave nothing to follow: {', '.join(late)}"
        )
    return cuts


def days_between(start: ir.DateValue, end: ir.DateValue) -> ir.IntegerValue:
    """Whole days from ``start`` to ``end``."""
    return end.delta(start, unit="day")


def in_units(days: ir.IntegerValue, unit: str) -> ir.FloatingValue:
    """Days as a float count of ``unit``."""
    # Spark takes a bare 7.0 for a DECIMAL and would divide to six places.
    return days.cast("float64") / ibis.literal(DAYS_PER_UNIT[unit], type="float64")


def earlier(day: ir.DateColumn, limit: date) -> ir.DateColumn:
    """The earlier of a column of days and a limit."""
    return (day <= limit).ifelse(day, ibis.literal(limit))


def iso_day(name: str, text: str) -> date:
    """An ISO date, or an error that names the parameter."""
    try:
        return date.fromisoformat(text)
    except (TypeError, ValueError):
        raise ContractError(
            f"{name} must be an ISO date such as '1997-09-30'; got {text!r}"
        ) from None


def check_unit(unit: str) -> None:
    """Refuse a unit that is none of ``DAYS_PER_UNIT``."""
    if unit not in DAYS_PER_UNIT:
        raise ContractError(f"unit must be one of {', '.join(DAYS_PER_UNIT)}; got {unit!r}")
