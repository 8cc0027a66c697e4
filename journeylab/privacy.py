"""Privacy: pseudonyms instead of ids, and only those who agreed.

Both functions take opened ``Tables`` and give ``Tables`` back; nothing is copied out of the engine.
"""

from dataclasses import dataclass, fields, replace
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import ibis
import ibis.expr.types as ir

from journeylab.audit import auditing, note_purpose
from journeylab.errors import ConsentError, ContractError
from journeylab.pseudonyms import (
    BODY_CHARACTERS,
    KEY_VARIABLE,
    PERSONAL_COLUMNS,
    PUBLIC_KEY,
    SEAL,
    SEAL_CHARACTERS,
    project_key,
    pseudonym_of,
)
from journeylab.tables import Tables, collect

__all__ = [
    "KEY_VARIABLE",
    "PERSONAL_COLUMNS",
    "PUBLIC_KEY",
    "consented",
    "ids_of",
    "project_key",
    "pseudonym_of",
    "pseudonymise",
    "withheld",
]

# Not for contact and features: what an experiment needs of everyone, and the permissions.
KEPT_FOR_ALL = ("outcomes", "assignments", "consents")

# Before any date the contract lets in (1900), in this order, so that a grant without a date
# counts as earlier than every withdrawal and later than none.
_NEVER = datetime(1700, 1, 1)
_FROM_THE_OUTSET = datetime(1800, 1, 1)


def pseudonymise(tables: Tables, key: str) -> Tables:
    """Replace every id that names a person by a pseudonym.

    The pseudonym is the first 26 hexadecimal digits of the SHA-256 of ``key``, a colon and the id
    in UTF-8: the same for one key on every engine and in every table, so that all joins still
    hold, and not to be traced back without the key. Six more digits are a seal over these, by
    which the gate tells a pseudonym from an id that looks like one. Missing ids stay missing.

    Args:
        tables: Any; the ids of ``PERSONAL_COLUMNS`` are replaced wherever they occur. Attributes
            that the contract does not know, and texts people wrote, are left as they are.
        key: The secret. Keep it outside the run folder; whoever has it can recognise a known
            id. ``PUBLIC_KEY`` is for shipped data.

    Returns:
        The same tables, columns and types.

    Raises:
        ContractError: The key is empty.
    """
    if not key.strip():
        raise ContractError(
            "the key for pseudonyms is empty: pass a secret kept outside the run folder, or "
            "privacy.PUBLIC_KEY for data that are public anyway"
        )
    changed = {}
    for name, table in _present(tables).items():
        personal = [column for column in table.columns if column in PERSONAL_COLUMNS]
        changed[name] = table.mutate(
            **{column: _pseudonym(table[column], key) for column in personal}
        )
    return replace(tables, **changed)


def consented(tables: Tables, purpose: str, as_of: str, *, run_date: str | None = None) -> Tables:
    """Only what may be used for a purpose: rows of people whose consent is in force on a day.

    This is for contact and for features. A consent is in force when the latest grant by ``as_of``
    is later than the latest withdrawal by then; both count when they are for all channels
    or for the channel in question. A grant without a date has always been there.

    - A table about people keeps the rows of those with consent for one channel or more; a
      referral needs the consent of both people; order lines follow their orders.
    - A touch needs consent for its own channel.
    - ``outcomes``, ``assignments`` and ``consents`` are passed on whole: what became of people
      who withdrew stays in lawful aggregates, so that withdrawal can itself be an outcome and
      nobody vanishes from an experiment. Outcomes counted from other tables (orders, events)
      are taken from the tables as they were before this filter.

    Args:
        tables: Needs ``consents``.
        purpose: What the rows are wanted for, as in ``consents.purpose``.
        as_of: Last day that counts, ISO, in the business zone.
        run_date: The day of the run, ISO, where it is later: consent must be in force on that day
            too, so that whoever withdrew since ``as_of`` is contacted no more and gives no more
            features. Without it ``as_of`` is taken for the day of the run.

    Returns:
        The tables that may be used. ``withheld`` counts what is missing from them; under the
        runner the manifest does.

    Raises:
        ConsentError: There is no consents table, or nobody consents to this purpose on that day.
        ContractError: ``as_of`` is no ISO date.
    """
    register = _register(tables, purpose, as_of)
    in_force = register.people.filter(register.people.in_force)
    if collect(in_force.limit(1)).empty:
        assert tables.consents is not None
        purposes = collect(tables.consents.select("purpose").distinct())["purpose"]
        raise ConsentError(
            f"nobody consents to {purpose!r} on {as_of}; the consents table has rows for "
            f"{', '.join(map(repr, purposes)) or 'no purpose at all'}"
        )
    changed = {}
    for name, table in _present(tables).items():
        if (marked := _marked(name, tables, register)) is not None:
            allowed = marked.filter(marked["_withheld"].isnull())
            changed[name] = allowed.select(table.columns)
    allowed_tables = replace(tables, **changed)
    if auditing():
        counts: dict[str, dict[str, int]] = {}
        for row in collect(withheld(tables, purpose, as_of)).to_dict("records"):
            counts.setdefault(str(row["table"]), {})[str(row["reason"])] = int(row["rows"])
        note_purpose(purpose, as_of, counts)
    if run_date is None or run_date == as_of:
        return allowed_tables
    _later(as_of, run_date)
    return consented(allowed_tables, purpose, run_date)


def ids_of(tables: Tables) -> frozenset[str]:
    """Every id of a person that the tables hold, for the gate to look for.

    Raises:
        ContractError: They are more than may come to the driver.
    """
    ids: set[str] = set()
    for table in _present(tables).values():
        for column in table.columns:
            if column in PERSONAL_COLUMNS and table[column].type().is_string():
                found = collect(table.select(id=column).distinct())["id"]
                ids.update(found.dropna())
    return frozenset(ids)


def withheld(tables: Tables, purpose: str, as_of: str, *, run_date: str | None = None) -> ir.Table:
    """How many rows ``consented`` keeps back, and why.

    Args:
        tables: Needs ``consents``.
        purpose: As for ``consented``.
        as_of: As for ``consented``.
        run_date: As for ``consented``.

    Returns:
        One row per table and reason that occurs: ``table``; ``reason``: ``no_record`` (no consent
        for this purpose), ``not_yet`` (granted later), ``withdrawn``, or ``other_channel`` (a
        touch by a channel its receiver did not agree to); ``rows`` (count).

    Raises:
        ConsentError: There is no consents table.
        ContractError: ``as_of`` is no ISO date, or there is no table about people.
    """
    register = _register(tables, purpose, as_of)
    counts = []
    for name in _present(tables):
        if (marked := _marked(name, tables, register)) is not None:
            kept_back = marked.filter(marked["_withheld"].notnull())
            by_reason = kept_back.group_by(reason="_withheld").agg(rows=kept_back.count())
            counts.append(by_reason.mutate(table=ibis.literal(name)))
    if not counts:
        raise ContractError(f"{tables.source or 'these tables'}: there is no table about people")
    found = ibis.union(*counts).select("table", "reason", "rows")
    if run_date is None or run_date == as_of:
        return found
    _later(as_of, run_date)
    both = found.union(withheld(consented(tables, purpose, as_of), purpose, run_date))
    return both.group_by("table", "reason").agg(rows=both.rows.sum())


@dataclass(frozen=True, slots=True)
class _Register:
    """Who has agreed to one purpose.

    Attributes:
        people: ``customer_id``; ``in_force`` (for one channel or more); ``reason`` (null where
            in force).
        channels: ``customer_id, channel, in_force`` for channels named in the consents.
        all_channels: ``customer_id, in_force`` for every other channel.
    """

    people: ir.Table
    channels: ir.Table
    all_channels: ir.Table


def _register(tables: Tables, purpose: str, as_of: str) -> _Register:
    if tables.consents is None:
        raise ConsentError(
            f"{tables.source or 'these tables'}: there is no consents table, so nobody is known to "
            f"have agreed to {purpose!r}"
        )
    after = _end_of_day(as_of, tables.business_tz)
    rows = tables.consents.filter(tables.consents.purpose == purpose)
    timestamp = ibis.timestamp(_NEVER).type()
    for name, kind in (
        ("channel", "string"),
        ("granted_at", timestamp),
        ("withdrawn_at", timestamp),
    ):
        if name not in rows.columns:
            rows = rows.mutate(**{name: ibis.null(kind)})
    granted = rows.granted_at.fill_null(ibis.timestamp(_FROM_THE_OUTSET))
    rows = rows.select(
        "customer_id",
        channel=rows.channel.nullif(""),
        granted=(granted < after).ifelse(granted, ibis.timestamp(_NEVER)),
        withdrawn=(rows.withdrawn_at < after)
        .fill_null(False)
        .ifelse(rows.withdrawn_at, ibis.timestamp(_NEVER)),
    )
    # One row per person and channel named anywhere, and one without a channel: what holds there
    # is the latest word among those for the channel and those for all channels.
    general = rows.group_by("customer_id").agg(
        all_granted=rows.granted.max(where=rows.channel.isnull()).fill_null(_NEVER),
        all_withdrawn=rows.withdrawn.max(where=rows.channel.isnull()).fill_null(_NEVER),
        ever_granted=rows.granted.max() > _NEVER,
    )
    special = rows.filter(rows.channel.notnull())
    special = special.group_by("customer_id", "channel").agg(
        granted=special.granted.max(), withdrawn=special.withdrawn.max()
    )
    joined = special.inner_join(general, "customer_id")
    channels = joined.select(
        "customer_id",
        "channel",
        in_force=ibis.greatest(joined.granted, joined.all_granted)
        > ibis.greatest(joined.withdrawn, joined.all_withdrawn),
    )
    all_channels = general.select(
        "customer_id", "ever_granted", in_force=general.all_granted > general.all_withdrawn
    )
    by_channel = channels.group_by("customer_id").agg(in_force_somewhere=channels.in_force.any())
    people = all_channels.left_join(by_channel, "customer_id")
    in_force = people.in_force | people.in_force_somewhere.fill_null(False)
    people = people.select(
        "customer_id",
        in_force=in_force,
        reason=ibis.cases(
            (in_force, ibis.null("string")),
            (people.ever_granted, "withdrawn"),
            else_="not_yet",
        ),
    )
    return _Register(people, channels, all_channels.drop("ever_granted"))


def _marked(name: str, tables: Tables, register: _Register) -> ir.Table | None:
    """A table with ``_withheld``: why a row is kept back, null where it may be used."""
    table: ir.Table = getattr(tables, name)
    columns = table.columns
    if name in KEPT_FOR_ALL:
        return None
    table = table.mutate(_withheld=ibis.null("string"))
    if name == "referrals":
        return _mark_people(_mark_people(table, "invitee_id", register), "referrer_id", register)
    if name == "touches":
        return _mark_people(_mark_channels(table, register), "customer_id", register)
    if name == "order_lines" and tables.orders is not None:
        owners = tables.orders.select(_order="order_id", _owner="customer_id")
        owned = table.left_join(owners, table.order_id == owners["_order"])
        return _mark_people(owned, "_owner", register).select(*columns, "_withheld")
    return _mark_people(table, "customer_id", register) if "customer_id" in columns else None


def _mark_people(table: ir.Table, person: str, register: _Register) -> ir.Table:
    """Mark rows of people without a consent in force; other rows keep the mark they have."""
    people = register.people.select(_person="customer_id", _reason="reason", _known=True)
    joined = table.left_join(people, table[person] == people["_person"])
    reason = joined["_known"].isnull().ifelse("no_record", joined["_reason"])
    return joined.mutate(_withheld=reason.coalesce(joined["_withheld"])).select(table.columns)


def _mark_channels(touches: ir.Table, register: _Register) -> ir.Table:
    """Mark touches by a channel that their receiver has not agreed to."""
    general = register.all_channels.select(_person="customer_id", _all="in_force")
    special = register.channels.select(
        _special_person="customer_id", _special_channel="channel", _this="in_force"
    )
    joined = touches.left_join(general, touches.customer_id == general["_person"])
    joined = joined.left_join(
        special,
        [
            joined.customer_id == special["_special_person"],
            joined.channel == special["_special_channel"],
        ],
    )
    in_force = joined["_this"].coalesce(joined["_all"]).fill_null(False)
    reason = in_force.ifelse(ibis.null("string"), "other_channel")
    return joined.mutate(_withheld=reason).select(touches.columns)


def _pseudonym(identifier: ir.StringColumn, key: str) -> ir.StringColumn:
    body = (ibis.literal(f"{key}:") + identifier).hexdigest("sha256").substr(0, BODY_CHARACTERS)
    seal = (ibis.literal(SEAL) + body).hexdigest("sha256").substr(0, SEAL_CHARACTERS)
    return body + seal


def _present(tables: Tables) -> dict[str, ir.Table]:
    values = {field.name: getattr(tables, field.name) for field in fields(tables)}
    return {name: table for name, table in values.items() if isinstance(table, ir.Table)}


def _later(as_of: str, run_date: str) -> None:
    """Refuse a day of the run before the day that is looked from."""
    if _end_of_day(run_date, "UTC") < _end_of_day(as_of, "UTC"):
        raise ContractError(
            f"run_date must not be before as_of; got {run_date!r}, before {as_of!r}"
        )


def _end_of_day(as_of: str, business_tz: str) -> datetime:
    """The first instant after a business day, in UTC without a zone."""
    try:
        following = date.fromisoformat(as_of) + timedelta(days=1)
    except (TypeError, ValueError):
        raise ContractError(
            f"as_of must be an ISO date such as '1997-09-30'; got {as_of!r}"
        ) from None
    midnight = datetime.combine(following, time.min, tzinfo=ZoneInfo(business_tz))
    return midnight.astimezone(ZoneInfo("UTC")).replace(tzinfo=None)
