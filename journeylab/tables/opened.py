"""The tables of a journey, opened."""

from dataclasses import dataclass

import ibis.expr.types as ir


@dataclass(frozen=True, slots=True)
class Tables:
    """The tables of a journey as Ibis tables, typed by the contract; ``None`` where there is none.

    Columns, types and units stand in ``journeylab.contract``. Timestamps are UTC without a zone,
    and every table with a main timestamp has a ``business_date`` beside it.

    Attributes:
        returns: Order rows with a negative amount, under the returns policy ``separate``.
        source: The name or path the tables were opened from.
        fingerprint: Hash of the source's content; equal fingerprints mean equal data.
        business_tz: IANA name of the zone in which ``business_date`` was taken.
    """

    customers: ir.Table | None = None
    identities: ir.Table | None = None
    orders: ir.Table | None = None
    order_lines: ir.Table | None = None
    events: ir.Table | None = None
    touches: ir.Table | None = None
    assignments: ir.Table | None = None
    outcomes: ir.Table | None = None
    referrals: ir.Table | None = None
    points: ir.Table | None = None
    memberships: ir.Table | None = None
    feedback: ir.Table | None = None
    service_contacts: ir.Table | None = None
    consents: ir.Table | None = None
    channel_costs: ir.Table | None = None
    returns: ir.Table | None = None
    source: str = ""
    fingerprint: str = ""
    business_tz: str = "UTC"
