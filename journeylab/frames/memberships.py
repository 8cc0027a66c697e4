"""Memberships that can be ended: how long each has lasted, and whether it has ended."""

from collections.abc import Sequence
from datetime import date

import ibis
import ibis.expr.types as ir

from journeylab.errors import ContractError
from journeylab.frames.days import days_between, iso_day
from journeylab.tables import Tables
from journeylab.tables.columns import business_date

_OF_THE_SPELL = {
    "customer_id", "started_at", "ended_at", "duration_days", "ended", "business_date",
}  # fmt: skip
# After any date the contract lets in: the end of a stretch that runs.
_NEVER = date(2999, 12, 31)


def memberships(
    tables: Tables, as_of: str, since: str | None = None, *, numbers: Sequence[str] = ()
) -> ir.Table:
    """Stretches of membership with their length and end, as known on a day.

    Stretches that follow one another without a day between are one: a change of tier is no end.
    Attributes are those of its beginning.

    Args:
        tables: Needs ``memberships``, with ``started_at`` or with ``duration_days`` and ``ended``;
            ``customers`` adds its attributes.
        as_of: Last day that counts. A source without dates gives lengths up to a day it does not
            name: that day is taken to be ``as_of``, and nothing can be looked at earlier.
        since: First day of observation: stretches that ended by then are out of sight, and those
            already running enter late. Only for a source with dates.
        numbers: Attributes to read as numbers: what a file holds beside the contract is text.
            What cannot be read is missing.

    Returns:
        One row per stretch that began before ``as_of``. ``landmark`` (the day it began, counted
        back from ``as_of`` where there are no dates; date), ``customer_id``.
        Features: ``tier`` and other attributes of the stretch, then those of the customer, all
        as they stand; what a source adds up over the stretch (a total of charges) knows how long
        it lasted and must be left out, which ``check_leaks`` says.
        Outcome: ``duration`` (whole days, at least 1), ``event`` (1 where it has ended),
        ``entry`` (days already elapsed on ``since``, 0 without it), ``followed_until`` (date).

    Raises:
        ContractError: There is no such table or column, a date is no ISO date, ``since`` is not
            before ``as_of`` or is given for a source without dates.
    """
    day = iso_day("as_of", as_of)
    begin = None if since is None else iso_day("since", since)
    source = tables.source or "these tables"
    if tables.memberships is None:
        raise ContractError(f"{source}: there is no memberships table")
    if begin is not None and begin >= day:
        raise ContractError(f"since must lie before as_of ({day}); got {begin}")
    names = tables.memberships.columns
    if "started_at" in names:
        spells = _dated(tables, tables.memberships, day)
    elif {"duration_days", "ended"} <= set(names):
        if begin is not None:
            raise ContractError(f"{source}: memberships without started_at cannot be cut at since")
        spells = _lasted(tables.memberships, day)
    else:
        raise ContractError(
            f"{source}: memberships need started_at, or duration_days and ended; they have "
            f"{', '.join(names)}"
        )
    attributes = [name for name in names if name not in _OF_THE_SPELL]
    spells = spells.filter(spells.landmark < day)
    stop = spells["end"].coalesce(ibis.literal(day))
    spells = spells.select(
        "landmark",
        "customer_id",
        *attributes,
        entry=ibis.literal(0, "int64")
        if begin is None
        else (spells.landmark < begin)
        .ifelse(days_between(spells.landmark, ibis.literal(begin)), 0)
        .cast("int64"),
        duration=ibis.greatest(days_between(spells.landmark, stop), 1).cast("int64"),
        event=spells["end"].notnull().cast("int64"),
        followed_until=ibis.literal(day),
    )
    spells = spells.filter(spells.duration > spells.entry)
    frame = _with_people(spells, tables)
    if absent := [name for name in numbers if name not in frame.columns]:
        raise ContractError(f"{source}: there is no attribute {', '.join(absent)}")
    return frame.mutate(**{name: frame[name].try_cast("float64") for name in numbers})


def _dated(tables: Tables, spells: ir.Table, day: date) -> ir.Table:
    """Stretches by their dates; those that follow one another without a day between are one."""
    end: ir.Value = ibis.null("date")
    if "ended_at" in spells.columns:
        engine = spells.get_backend().name
        end = business_date(spells.ended_at, tables.business_tz, engine)
    spells = spells.filter(spells.business_date <= day)
    spells = spells.mutate(landmark=spells.business_date, end=end)
    never = ibis.literal(_NEVER)
    known = (spells["end"] <= day).fill_null(False)
    spells = spells.mutate(end=known.ifelse(spells["end"], never))
    tie = [spells.tier.asc()] if "tier" in spells.columns else []
    order = [spells.started_at.asc(), spells["end"].asc(), *tie]
    before = ibis.window(group_by="customer_id", order_by=order, preceding=(None, 1))
    # Spark leaves no name to a window over a window: in two steps.
    spells = spells.mutate(reached=spells["end"].max().over(before))
    fresh = spells.reached.isnull() | (spells.reached.delta(spells.landmark, unit="day") < -1)
    spells = spells.mutate(fresh=fresh.cast("int64"))
    so_far = ibis.window(group_by="customer_id", order_by=order, preceding=(None, 0))
    spells = spells.mutate(stretch=spells.fresh.sum().over(so_far))
    spells = spells.mutate(last=spells["end"].max().over(group_by=["customer_id", "stretch"]))
    spells = spells.filter(spells.fresh == 1)
    over = spells["last"] < never
    return spells.mutate(end=over.ifelse(spells["last"], ibis.null("date")))


def _lasted(spells: ir.Table, day: date) -> ir.Table:
    length = ibis.greatest(spells.duration_days.round().cast("int64"), 1)
    spells = spells.mutate(days=length)
    spells = spells.mutate(landmark=(ibis.literal(day) - spells.days.as_interval("D")).cast("date"))
    over = spells.ended.fill_null(False)
    return spells.mutate(end=over.ifelse(ibis.literal(day), ibis.null("date")))


def _with_people(spells: ir.Table, tables: Tables) -> ir.Table:
    """The stretches with the attributes of their customers between features and outcome."""
    outcome = ["entry", "duration", "event", "followed_until"]
    features = [name for name in spells.columns if name not in outcome]
    if tables.customers is None:
        return spells.select(*features, *outcome)
    taken = {*spells.columns, "business_date", "joined_at"}
    names = [name for name in tables.customers.columns if name not in taken]
    people = tables.customers.select("customer_id", *names)
    joined = spells.left_join(people, "customer_id")
    return joined.select(*features, *names, *outcome)
