"""What is known of a customer on a landmark day, by groups that a source may or may not have."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime, time, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

import ibis
import ibis.expr.types as ir

from journeylab.errors import ContractError
from journeylab.frames.activity import WINDOWS, activity, joined
from journeylab.frames.days import orders_until
from journeylab.frames.festivals import FIRST_YEAR, LAST_YEAR, calendar_of, promotion_of
from journeylab.tables import Tables, collect

FEATURES = (
    "rhythm", "money", "discounts", "channels", "engagement", "touches", "service", "tier",
    "calendar",
)  # fmt: skip
# More channels of touches than this are told apart by none.
_MOST_CHANNELS = 12


def chosen_features(
    tables: Tables, features: Sequence[str] | Literal["all"], cuts: Sequence[date]
) -> tuple[str, ...]:
    """The groups of features to build, in the order of ``FEATURES``.

    Args:
        tables: Decides what ``"all"`` means: the groups whose tables are there.
        features: Names of groups, or ``"all"``.
        cuts: Landmark days; outside the lunar table there is no calendar.

    Raises:
        ContractError: A group is unknown, or its table or column is not there.
    """
    lacking = _lacking(tables, cuts)
    if features == "all":
        return tuple(name for name in FEATURES if name not in lacking)
    if isinstance(features, str):
        raise ContractError(f"features must be 'all' or a list of groups; got {features!r}")
    if unknown := [name for name in features if name not in FEATURES]:
        raise ContractError(f"features must be among {', '.join(FEATURES)}; got {unknown}")
    if absent := [name for name in features if name in lacking]:
        why = "; ".join(f"{name} needs {lacking[name]}" for name in absent)
        raise ContractError(f"{tables.source or 'these tables'}: {why}")
    return tuple(name for name in FEATURES if name in features)


def with_features(
    states: ir.Table,
    tables: Tables,
    groups: Sequence[str],
    cuts: Sequence[date],
    horizon_days: int,
    promotions: Sequence[date],
) -> ir.Table:
    """The states with the groups that come from other tables than the purchase days."""
    if "channels" in groups:
        states = joined(states, _order_channels(tables, cuts))
    if "engagement" in groups:
        assert tables.events is not None
        rows = tables.events.select("customer_id", "business_date")
        states = joined(states, activity(rows, cuts, "events", "days_since_event"))
    if "touches" in groups:
        states = joined(states, _touches(tables, cuts))
    if "service" in groups:
        states = joined(states, _service(tables, cuts))
    if "tier" in groups:
        states = joined(states, _tiers(tables, cuts))
    if "calendar" in groups:
        states = _by_day(states, {cut: calendar_of(cut, horizon_days) for cut in cuts})
    if promotions:
        told = {cut: promotion_of(cut, promotions, horizon_days) for cut in cuts}
        states = _by_day(states, told)
    return states


def with_attributes(states: ir.Table, tables: Tables, attributes: Sequence[str]) -> ir.Table:
    """The states with columns of the customers table, as they stand there.

    Raises:
        ContractError: There is no customers table, or it lacks one of them.
    """
    if not attributes:
        return states
    source = tables.source or "these tables"
    if tables.customers is None:
        raise ContractError(f"{source}: there is no customers table to take {attributes} from")
    if absent := [name for name in attributes if name not in tables.customers.columns]:
        raise ContractError(f"{source}: the customers table has no {', '.join(absent)}")
    if taken := [name for name in attributes if name in states.columns]:
        raise ContractError(f"attributes would overwrite columns of the frame: {', '.join(taken)}")
    people = tables.customers.select("customer_id", *attributes)
    return states.left_join(people, "customer_id").select(*states.columns, *attributes)


def end_of_day(day: date, business_tz: str) -> datetime:
    """The first instant after a business day, in UTC without a zone."""
    midnight = datetime.combine(day + timedelta(days=1), time.min, tzinfo=ZoneInfo(business_tz))
    return midnight.astimezone(ZoneInfo("UTC")).replace(tzinfo=None)


def _lacking(tables: Tables, cuts: Sequence[date]) -> dict[str, str]:
    """Groups that cannot be built, and what each of them needs."""
    orders = tables.orders.columns if tables.orders is not None else ()
    spells = tables.memberships.columns if tables.memberships is not None else ()
    needs = {
        "discounts": ("discount" in orders, "orders with a discount"),
        "channels": ("sales_channel" in orders, "orders with a sales_channel"),
        "engagement": (tables.events is not None, "an events table"),
        "touches": (tables.touches is not None, "a touches table"),
        "service": (tables.service_contacts is not None, "a service_contacts table"),
        "tier": ({"started_at", "tier"} <= set(spells), "memberships with started_at and tier"),
        "calendar": (
            all(FIRST_YEAR <= cut.year < LAST_YEAR for cut in cuts),
            f"landmarks from {FIRST_YEAR} to {LAST_YEAR - 1}",
        ),
    }
    return {name: what for name, (there, what) in needs.items() if not there}


def _order_channels(tables: Tables, cuts: Sequence[date]) -> ir.Table:
    """Where they bought last and most; of equals the last in byte order."""
    orders = orders_until(tables, max(cuts))
    orders = orders.filter(orders.amount >= 0)
    orders = orders.select(
        "customer_id", "business_date", kind=orders.sales_channel.nullif("").coalesce("unknown")
    )
    daily = orders.group_by("customer_id", "kind", "business_date").agg(rows=orders.count())
    seen = daily.mutate(landmark=ibis.literal(list(cuts), type="array<date>").unnest())
    seen = seen.filter(seen.business_date <= seen.landmark)
    used = seen.group_by("landmark", "customer_id", "kind").agg(
        orders=seen.rows.sum(), last=seen.business_date.max()
    )
    own = {"group_by": ["landmark", "customer_id"]}
    most = ibis.window(**own, order_by=[used.orders.desc(), used.kind.desc()])
    latest = ibis.window(**own, order_by=[used["last"].desc(), used.kind.desc()])
    used = used.mutate(most=ibis.row_number().over(most), latest=ibis.row_number().over(latest))
    return used.group_by("landmark", "customer_id").agg(
        last_channel=used.kind.max(where=used.latest == 0),
        main_channel=used.kind.max(where=used.most == 0),
        channels=used.count(),
    )


def _touches(tables: Tables, cuts: Sequence[date]) -> ir.Table:
    """Touches that got through, by channel where there are not too many."""
    assert tables.touches is not None
    touches = tables.touches.filter(tables.touches.business_date <= max(cuts))
    if "status" in touches.columns:
        status = touches.status.coalesce("sent")
        touches = touches.filter(~status.isin(["blocked", "failed"]))
    rows = touches.select("customer_id", "business_date", kind=touches.channel)
    kinds = sorted(collect(rows.select("kind").distinct().limit(_MOST_CHANNELS + 1))["kind"])
    told = kinds if 1 < len(kinds) <= _MOST_CHANNELS else []
    return activity(rows, cuts, "touches", "days_since_touch", told)


def _service(tables: Tables, cuts: Sequence[date]) -> ir.Table:
    assert tables.service_contacts is not None
    contacts = tables.service_contacts
    rows = contacts.select("customer_id", "business_date")
    found = activity(rows, cuts, "service_contacts", "days_since_service")
    if "closed_at" not in contacts.columns:
        return found
    opened = contacts.filter(contacts.business_date <= max(cuts))
    opened = opened.select("customer_id", "business_date", "closed_at")
    seen = opened.mutate(landmark=ibis.literal(list(cuts), type="array<date>").unnest())
    seen = seen.mutate(ends=_day_ends(seen.landmark, cuts, tables.business_tz))
    waiting = seen.closed_at.isnull() | (seen.closed_at >= seen.ends)
    seen = seen.filter(seen.business_date <= seen.landmark, waiting)
    still = seen.group_by("landmark", "customer_id").agg(service_open=seen.count())
    return joined(found, still)


def _tiers(tables: Tables, cuts: Sequence[date]) -> ir.Table:
    """The membership in force on the day: the one begun last, of equals the last in byte order."""
    assert tables.memberships is not None
    spells = tables.memberships
    if "ended_at" not in spells.columns:
        spells = spells.mutate(ended_at=ibis.null("timestamp"))
    spells = spells.filter(spells.business_date <= max(cuts))
    spells = spells.select("customer_id", "business_date", "started_at", "ended_at", "tier")
    seen = spells.mutate(landmark=ibis.literal(list(cuts), type="array<date>").unnest())
    seen = seen.mutate(ends=_day_ends(seen.landmark, cuts, tables.business_tz))
    running = seen.ended_at.isnull() | (seen.ended_at >= seen.ends)
    seen = seen.filter(seen.business_date <= seen.landmark, running)
    latest = ibis.window(
        group_by=["landmark", "customer_id"], order_by=[seen.started_at.desc(), seen.tier.desc()]
    )
    seen = seen.mutate(place=ibis.row_number().over(latest))
    seen = seen.filter(seen.place == 0)
    days = seen.landmark.delta(seen.business_date, unit="day")
    return seen.select("landmark", "customer_id", tier=seen.tier, days_in_tier=days)


def _day_ends(
    landmark: ir.DateColumn, cuts: Sequence[date], business_tz: str
) -> ir.TimestampColumn:
    pairs = [(landmark == cut, ibis.timestamp(end_of_day(cut, business_tz))) for cut in cuts]
    return ibis.cases(*pairs)


def _by_day(states: ir.Table, values: Mapping[date, Mapping[str, float | int | None]]) -> ir.Table:
    """Columns that depend on the landmark day alone."""
    names = next(iter(values.values()))
    columns = {}
    for name in names:
        real = any(isinstance(row[name], float) for row in values.values())
        kind = "float64" if real else "int64"
        columns[name] = ibis.cases(
            *(
                (states.landmark == cut, ibis.literal(row[name], kind))
                for cut, row in values.items()
            )
        )
    return states.mutate(**columns)


__all__ = ["FEATURES", "WINDOWS", "chosen_features", "with_attributes", "with_features"]
