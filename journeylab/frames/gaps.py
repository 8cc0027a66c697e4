"""Each wait between two purchases as a row of its own, also those already under way."""

import ibis
import ibis.expr.types as ir

from journeylab.errors import ContractError
from journeylab.frames.days import customer_days, days_between, iso_day, last_day
from journeylab.tables import Tables


def gaps(tables: Tables, since: str, until: str | None = None) -> ir.Table:
    """The waits between purchase days that were under way within a period.

    A wait that began before ``since`` is here only because it lasted until then: shorter ones of
    its kind are out of sight. It therefore enters late, with ``entry`` days already waited, and
    counts among those at risk from then on. Features use days up to and including its beginning.

    Args:
        tables: Needs ``orders``.
        since: First day of the period; a purchase counts as seen after it.
        until: Last complete day. Without it the last day with an order, which is asked of the
            engine at once.

    Returns:
        One row per customer and wait: ``landmark`` (the purchase day it began on, date),
        ``customer_id``; ``days_since_last`` (0), ``age_days`` (since the first purchase),
        ``recency_days`` (the same), ``frequency`` (purchase days after the first),
        ``mean_gap_days``, ``last_gap_days`` (days, missing at the first purchase), ``spend_mean``
        (float, per purchase day, net of returns).
        Outcome: ``entry`` (days waited by ``since``, 0 for a wait that began later); ``duration``
        (days to the next purchase or to ``until``, above ``entry``); ``event`` (1 for a purchase);
        ``followed_until`` (date).

    Raises:
        ContractError: There are no orders, a date is no ISO date, or ``since`` is not before
            ``until``.

    Source:
        Cook & Lawless, "The Statistical Analysis of Recurrent Events" (2007), section 4: gap times
        under left truncation.
    """
    begin = iso_day("since", since)
    end = last_day(tables) if until is None else iso_day("until", until)
    if begin >= end:
        raise ContractError(f"since must lie before the last complete day ({end}); got {begin}")
    days = customer_days(tables, end)
    own = ibis.window(group_by="customer_id", order_by="business_date")
    so_far = ibis.window(group_by="customer_id", order_by="business_date", preceding=(None, 0))
    days = days.mutate(spend=days.amount.sum().over(so_far))
    days = days.filter(days.orders > 0).select("customer_id", "business_date", "spend")
    days = days.mutate(
        frequency=ibis.row_number().over(own),
        first=days.business_date.min().over(ibis.window(group_by="customer_id")),
        before=days.business_date.lag(1).over(own),
        next=days.business_date.lead(1).over(own),
    )
    last = ibis.literal(end)
    start = ibis.literal(begin)
    days = days.mutate(stop=days.next.coalesce(last))
    # A wait that ended by the first day, or that began on the last, shows nothing.
    days = days.filter(days.stop > start, days.business_date < last)
    age = days_between(days["first"], days.business_date)
    frequency = days.frequency.cast("int64")
    before = days.business_date < start
    return days.select(
        landmark=days.business_date,
        customer_id=days.customer_id,
        days_since_last=ibis.literal(0, "int64"),
        age_days=age,
        recency_days=age,
        frequency=frequency,
        mean_gap_days=age.cast("float64") / frequency.cast("float64").nullif(0.0),
        last_gap_days=days_between(days.before, days.business_date),
        spend_mean=days.spend.cast("float64") / (frequency + 1).cast("float64"),
        entry=before.ifelse(days_between(days.business_date, start), 0).cast("int64"),
        duration=days_between(days.business_date, days.stop),
        event=days.next.notnull().cast("int64"),
        followed_until=last,
    )
