"""Each customer as seen on each landmark day, and what they bought after it."""

from collections.abc import Sequence
from datetime import timedelta

import ibis
import ibis.expr.types as ir

from journeylab.errors import ContractError
from journeylab.frames.days import customer_days, days_between, iso_day, landmark_days, last_day
from journeylab.tables import Tables


def value_landmarks(
    tables: Tables, at: Sequence[str], horizon_days: int, until: str | None = None
) -> ir.Table:
    """Each customer as seen on each landmark day, and what they bought within the horizon after it.

    The past columns use days up to and including the landmark, the outcome only days after it.

    Args:
        tables: Needs ``orders``.
        at: The landmark days; one on which nobody had bought yet gives no rows.
        horizon_days: How far the outcome goes, days; also what the recent columns are cut by.
        until: Last day whose orders may be looked at. Without it the last day with an order, which
            is asked of the engine at once. A landmark with less than the horizon before it has
            a ``followed_days`` below ``horizon_days``; it may be ``until`` itself.

    Returns:
        One row per landmark and customer who had bought by then. ``landmark`` (date),
        ``customer_id``.
        Past: ``first_day`` (date); ``frequency``, ``monetary_value`` as in
        ``customer_histories``; ``recency_days, age_days, days_since_last``; ``spend`` (float, net
        of returns, all days) and ``first_spend`` (on the first purchase day); repeat purchase days
        within the last eighth, quarter, half, one and two horizons: ``recent_eighth,
        recent_quarter, recent_half, recent, recent_two``; ``recent_amount``: net amount of the
        last horizon without the first purchase day (float).
        Outcome: ``followed_days``, ``purchase_days`` (count) and ``amount`` (float, net of
        returns) within them.

    Raises:
        ContractError: There are no orders or landmarks, a date is no ISO date, a landmark is
            there twice or lies after ``until``, or the horizon is below one day.
    """
    if horizon_days < 1:
        raise ContractError(f"horizon_days must be at least 1; got {horizon_days}")
    end = last_day(tables) if until is None else iso_day("until", until)
    cuts = landmark_days(at, end + timedelta(days=1))
    days = customer_days(tables, min(end, max(cuts) + timedelta(days=horizon_days)))
    by_customer = ibis.window(group_by="customer_id")
    bought = days.orders > 0
    days = days.mutate(first_day=days.business_date.min(where=bought).over(by_customer))
    days = days.mutate(bought=(days.orders > 0))
    seen = days.mutate(landmark=ibis.literal(cuts, type="array<date>").unnest())
    seen = seen.filter(seen.first_day <= seen.landmark)
    since = days_between(seen.business_date, seen.landmark)
    seen = seen.mutate(
        since=since,
        past=since >= 0,
        ahead=(since < 0) & (since >= -horizon_days),
        repeat=(since >= 0) & (seen.business_date > seen.first_day),
    )
    again = seen.repeat & seen.bought

    def recent(span_days: int) -> ir.IntegerScalar:
        return (again & (seen.since < span_days)).sum()

    def money(where: ir.BooleanValue) -> ir.FloatingScalar:
        # Added up as DECIMAL: a sum of floats depends on the order an engine's threads take.
        nothing = ibis.literal(0, type=seen.amount.type())
        return where.ifelse(seen.amount, nothing).sum().cast("float64")

    states = seen.group_by("landmark", "customer_id", "first_day").agg(
        last_purchase=seen.business_date.max(where=seen.past & seen.bought),
        frequency=again.sum(),
        spend=money(seen.past),
        spend_after_first=money(seen.repeat),
        first_spend=money(seen.past & (seen.business_date == seen.first_day)),
        recent_eighth=recent(max(horizon_days // 8, 1)),
        recent_quarter=recent(max(horizon_days // 4, 1)),
        recent_half=recent(max(horizon_days // 2, 1)),
        recent=recent(horizon_days),
        recent_two=recent(2 * horizon_days),
        recent_amount=money(seen.repeat & (seen.since < horizon_days)),
        purchase_days=(seen.ahead & seen.bought).sum(),
        amount=money(seen.ahead),
    )
    left = ibis.literal(end).delta(states.landmark, unit="day")
    return states.select(
        "landmark",
        "customer_id",
        "first_day",
        "frequency",
        recency_days=days_between(states.first_day, states.last_purchase),
        age_days=days_between(states.first_day, states.landmark),
        days_since_last=days_between(states.last_purchase, states.landmark),
        monetary_value=(states.frequency > 0).ifelse(
            states.spend_after_first / states.frequency.nullif(0), 0.0
        ),
        spend=states.spend,
        first_spend=states.first_spend,
        recent_eighth=states.recent_eighth,
        recent_quarter=states.recent_quarter,
        recent_half=states.recent_half,
        recent=states.recent,
        recent_two=states.recent_two,
        recent_amount=states.recent_amount,
        followed_days=ibis.least(left, ibis.literal(horizon_days)).cast("int64"),
        purchase_days=states.purchase_days,
        amount=states.amount,
    )
