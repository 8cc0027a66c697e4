"""Each customer as seen on each landmark day, and when the next purchase came."""

from collections.abc import Sequence
from datetime import timedelta

import ibis
import ibis.expr.types as ir

from journeylab.errors import ContractError
from journeylab.frames.days import (
    customer_days,
    days_between,
    earlier,
    iso_day,
    landmark_days,
    last_day,
)
from journeylab.tables import Tables


def landmarks(
    tables: Tables, at: Sequence[str], horizon_days: int, until: str | None = None
) -> ir.Table:
    """Each customer as seen on each landmark day, and when the next purchase came.

    Features use days up to and including the landmark, outcomes only days after it.

    Args:
        tables: Needs ``orders``.
        at: The landmark days; one on which nobody had bought yet gives no rows.
        horizon_days: How far the outcome is followed, days.
        until: Last complete day of the data, where following stops. Without it the last day with
            an order, which is asked of the engine at once.

    Returns:
        One row per landmark and customer who had bought by then. ``landmark`` (date),
        ``customer_id``.
        Features: ``days_since_last``, ``age_days`` (since the first purchase), ``recency_days``
        (first to last purchase), all days; ``frequency`` (purchase days after the first);
        ``mean_gap_days``, ``last_gap_days`` (days between purchase days, missing where
        ``frequency`` is 0); ``orders`` (count); ``spend`` (DECIMAL, net of returns) and
        ``spend_mean`` (float, per purchase day).
        Outcome: ``duration``, days from the landmark to the next purchase day or to the end of
        following, whichever comes first (at least 1); ``event``, 1 for a purchase, 0 for an end
        without one. Following ends ``horizon_days`` after the landmark or on ``until``.

    Raises:
        ContractError: There are no orders or landmarks, a date is no ISO date, a landmark is
            there twice or leaves no day before ``until``, or the horizon is below one day.
    """
    if horizon_days < 1:
        raise ContractError(f"horizon_days must be at least 1; got {horizon_days}")
    end = last_day(tables) if until is None else iso_day("until", until)
    cuts = landmark_days(at, end)
    days = customer_days(tables, min(end, max(cuts) + timedelta(days=horizon_days)))
    by_day = ibis.window(group_by="customer_id", order_by="business_date", preceding=(None, 1))
    purchase_day = (days.orders > 0).ifelse(days.business_date, ibis.null("date"))
    days = days.mutate(purchase_day=purchase_day)
    days = days.mutate(gap=days_between(days.purchase_day.max().over(by_day), days.purchase_day))
    seen = days.mutate(landmark=ibis.literal(cuts, type="array<date>").unnest())
    past = seen.business_date <= seen.landmark
    stop = earlier(seen.landmark + ibis.interval(days=horizon_days), end)
    ahead = ~past & (seen.business_date <= stop)
    states = seen.group_by("landmark", "customer_id").agg(
        first_purchase=seen.purchase_day.min(where=past),
        last_purchase=seen.purchase_day.max(where=past),
        next_purchase=seen.purchase_day.min(where=ahead),
        purchase_days=(past & seen.purchase_day.notnull()).sum(),
        last_gap_days=seen.gap.argmax(seen.purchase_day, where=past),
        orders=seen.orders.sum(where=past),
        spend=seen.amount.sum(where=past),
    )
    states = states.filter(states.purchase_days > 0)
    frequency = states.purchase_days - 1
    recency = days_between(states.first_purchase, states.last_purchase)
    stop = earlier(states.landmark + ibis.interval(days=horizon_days), end)
    return states.select(
        "landmark",
        "customer_id",
        days_since_last=days_between(states.last_purchase, states.landmark),
        age_days=days_between(states.first_purchase, states.landmark),
        recency_days=recency,
        frequency=frequency,
        mean_gap_days=recency / frequency.nullif(0),
        last_gap_days=states.last_gap_days,
        orders=states.orders,
        spend=states.spend,
        spend_mean=states.spend.cast("float64") / states.purchase_days,
        duration=days_between(states.landmark, states.next_purchase.coalesce(stop)),
        event=states.next_purchase.notnull().cast("int64"),
    )
