"""Each customer as seen on each landmark day, and when the next purchase came."""

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Literal

import ibis
import ibis.expr.types as ir

from journeylab.errors import ContractError
from journeylab.frames.activity import WINDOWS, joined
from journeylab.frames.causes import PURCHASE, cause_days, first_causes
from journeylab.frames.days import (
    days_between,
    earlier,
    iso_day,
    landmark_days,
    last_day,
    orders_until,
)
from journeylab.frames.features import chosen_features, with_attributes, with_features
from journeylab.tables import Tables

# The trend of gaps sets up to this many of the last ones against those before.
_LAST_GAPS = 3


def landmarks(
    tables: Tables,
    at: Sequence[str],
    horizon_days: int,
    until: str | None = None,
    *,
    features: Sequence[str] | Literal["all"] = (),
    causes: Sequence[str] = (),
    train_until: str | None = None,
    attributes: Sequence[str] = (),
    promotions: Sequence[str] = (),
) -> ir.Table:
    """Each customer as seen on each landmark day, and when the next purchase came.

    Features use days up to and including the landmark, outcomes only days after it.

    Args:
        tables: Needs ``orders``.
        at: The landmark days; one on which nobody had bought yet gives no rows.
        horizon_days: How far the outcome is followed, days.
        until: Last complete day of the data, where following stops. Without it the last day with
            an order, which is asked of the engine at once.
        features: Groups of further features, or ``"all"`` for those whose tables are there (see
            below).
        causes: What may end the wait besides a purchase, e.g. ``("unsubscribed", "left_group")``
            as in ``frames.cause_days``.
        train_until: The day a model is to be judged from. Outcomes of earlier landmarks are
            censored there, because nobody could have known them; later landmarks are not touched.
        attributes: Columns of ``customers`` to add. They carry no date and are taken as they stand
            today, so one that changes with time may know the outcome.
        promotions: First days of the shop's own promotions, planned by the landmark.

    Returns:
        One row per landmark and customer who had bought by then. ``landmark`` (date),
        ``customer_id``.
        Features: ``days_since_last``, ``age_days`` (since the first purchase), ``recency_days``
        (first to last purchase), all days; ``frequency`` (purchase days after the first);
        ``mean_gap_days``, ``last_gap_days`` (days between purchase days, missing where
        ``frequency`` is 0); ``orders`` (count); ``spend`` (DECIMAL, net of returns) and
        ``spend_mean`` (float, per purchase day).

        - ``rhythm``: ``gap_trend``, log of the mean of the last gaps (three, fewer below six gaps)
          by the mean of those before (0 steady, above 0 slower; missing below two gaps);
          ``silence_in_gaps`` (days since the last purchase by the mean gap, missing without a
          gap); ``purchases_30d, _90d, _180d`` (purchase days in the last days).
        - ``money``: ``spend_30d, _90d, _180d`` (DECIMAL); ``spend_trend``: the last 90 days less
          the 90 before, by the sum of both amounts (-1 to 1; missing where both are 0).
        - ``discounts``: ``discount_share``, ``discount_share_90d``: of the price before the
          discount (missing where nothing was bought then).
        - ``channels``: ``last_channel``, ``main_channel`` (text), ``channels`` (count).
        - ``engagement``: ``events_30d`` and so on, ``days_since_event`` (missing: never).
        - ``touches``: those that got through, named alike; per channel ``touches_90d_<channel>``
          and ``days_since_touch_<channel>`` where there are 2 to 12 channels.
        - ``service``: ``service_contacts_30d`` and so on, ``days_since_service``,
          ``service_open`` (not yet settled).
        - ``tier``: ``tier`` (text, missing without one in force), ``days_in_tier``.
        - ``calendar``: ``frames.calendar_of`` the landmark; ``promotions`` add
          ``frames.promotion_of``.

        Outcome: ``duration``, days from the landmark to the next purchase day or to the end of
        following, whichever comes first (at least 1); ``event``, 1 for a purchase, 0 for an end
        without one. With ``causes`` the event is what came first, and ``cause`` names it:
        ``purchase`` before others on the same day, then in the order given; empty where nothing
        happened. Following ends on ``followed_until`` (date): ``horizon_days`` after the landmark,
        on ``until`` or on ``train_until``, whichever comes first.

    Raises:
        ContractError: There are no orders or landmarks, a date is no ISO date, a landmark is
            there twice or leaves no day before ``until``, the horizon is below one day, or a
            feature, cause or attribute has no table.
    """
    if horizon_days < 1:
        raise ContractError(f"horizon_days must be at least 1; got {horizon_days}")
    end = last_day(tables) if until is None else iso_day("until", until)
    cuts = landmark_days(at, end)
    groups = chosen_features(tables, features, cuts)
    split = None if train_until is None else iso_day("train_until", train_until)
    planned = [iso_day("promotions", day) for day in promotions]
    follow = min(end, max(cuts) + timedelta(days=horizon_days))

    states = _states(tables, cuts, horizon_days, end, split, follow, groups)
    states = with_features(states, tables, groups, cuts, horizon_days, planned)
    states = with_attributes(states, tables, attributes)
    ended = states.next_purchase.notnull()
    if not causes:
        return states.mutate(
            duration=days_between(states.landmark, states.next_purchase.coalesce(states.stop)),
            event=ended.cast("int64"),
            followed_until=states.stop,
        ).drop("next_purchase", "stop")
    left = first_causes(cause_days(tables, causes, follow), states)
    states = joined(states, left.mutate(place=left.place.cast("int64")))
    bought = states.next_purchase <= states.cause_day.coalesce(states.stop)
    states = states.mutate(bought=bought.fill_null(False))
    told = [(states.bought, PURCHASE)]
    told += [(states.place == place, cause) for place, cause in enumerate(causes, start=1)]
    states = states.mutate(cause=ibis.cases(*told, else_=""))
    last = states.bought.ifelse(states.next_purchase, states.cause_day).coalesce(states.stop)
    return states.mutate(
        duration=days_between(states.landmark, last),
        event=(states.cause != "").cast("int64"),
        followed_until=states.stop,
    ).drop("next_purchase", "stop", "place", "cause_day", "bought")


def _states(
    tables: Tables,
    cuts: Sequence[date],
    horizon_days: int,
    end: date,
    split: date | None,
    follow: date,
    groups: Sequence[str],
) -> ir.Table:
    """What the orders say: features, ``next_purchase`` and ``stop``, in the frame's order."""
    days = _days(tables, follow, "discounts" in groups)
    seen = days.mutate(landmark=ibis.literal(list(cuts), type="array<date>").unnest())
    seen = seen.mutate(since=days_between(seen.business_date, seen.landmark))
    stop = _stop(seen.landmark, horizon_days, end, split)
    seen = seen.mutate(past=seen.since >= 0, ahead=(seen.since < 0) & (seen.business_date <= stop))
    states = seen.group_by("landmark", "customer_id").agg(**_sums(seen, groups))
    states = states.filter(states.purchase_days > 0)
    frequency = states.purchase_days - 1
    recency = days_between(states.first_purchase, states.last_purchase)
    states = states.mutate(
        stop=_stop(states.landmark, horizon_days, end, split),
        days_since_last=days_between(states.last_purchase, states.landmark),
        age_days=days_between(states.first_purchase, states.landmark),
        recency_days=recency,
        frequency=frequency,
        mean_gap_days=recency / frequency.nullif(0),
        last_gap_days=days_between(states.before_1, states.last_purchase),
        spend_mean=states.spend.cast("float64") / states.purchase_days,
    )
    plain = [
        "landmark", "customer_id", "days_since_last", "age_days", "recency_days", "frequency",
        "mean_gap_days", "last_gap_days", "orders", "spend", "spend_mean",
    ]  # fmt: skip
    more: list[str] = []
    if "rhythm" in groups:
        states = states.mutate(
            gap_trend=_gap_trend(states),
            silence_in_gaps=states.days_since_last.cast("float64") / states.mean_gap_days,
        )
        more += ["gap_trend", "silence_in_gaps", *(f"purchases_{days}d" for days in WINDOWS)]
    if "money" in groups:
        now = states.spend_90d.cast("float64")
        before = states.spend_before.cast("float64")
        size = (now.abs() + before.abs()).nullif(0.0)
        states = states.mutate(spend_trend=(now - before) / size)
        more += ["spend_trend", *(f"spend_{days}d" for days in WINDOWS)]
    if "discounts" in groups:
        for tail in ("", "_90d"):
            given = states[f"given{tail}"].cast("float64")
            paid = states[f"paid{tail}"].cast("float64")
            states = states.mutate(**{f"discount_share{tail}": given / (given + paid).nullif(0.0)})
            more.append(f"discount_share{tail}")
    return states.select(*plain, *more, "next_purchase", "stop")


def _days(tables: Tables, follow: date, discounts: bool) -> ir.Table:
    """Customers' days with the purchase days one to three purchases before each."""
    orders = orders_until(tables, follow)
    bought = orders.amount >= 0
    sums = {"orders": bought.sum(), "amount": orders.amount.sum()}
    if discounts:
        nothing = ibis.literal(0, type=orders.amount.type())
        sums["given"] = bought.ifelse(orders.discount.coalesce(nothing), nothing).sum()
        sums["paid"] = bought.ifelse(orders.amount, nothing).sum()
    days = orders.group_by("customer_id", "business_date").agg(**sums)
    days = days.mutate(bought=days.orders > 0)
    # Purchase days first, so that the row before a purchase day is the purchase before it.
    in_turn = ibis.window(
        group_by="customer_id", order_by=[days.bought.desc(), days.business_date.asc()]
    )
    return days.mutate(
        purchase_day=days.bought.ifelse(days.business_date, ibis.null("date")),
        **{
            f"before_{back}": days.bought.ifelse(
                days.business_date.lag(back).over(in_turn), ibis.null("date")
            )
            for back in range(1, _LAST_GAPS + 1)
        },
    )


def _sums(seen: ir.Table, groups: Sequence[str]) -> dict[str, ir.Value]:
    """The aggregates that the chosen groups need, of one landmark and customer."""
    past = seen.past
    bought = past & seen.purchase_day.notnull()
    nothing = ibis.literal(0, type=seen.amount.type())
    sums: dict[str, ir.Value] = {
        "first_purchase": seen.purchase_day.min(where=past),
        "last_purchase": seen.purchase_day.max(where=past),
        "next_purchase": seen.purchase_day.min(where=seen.ahead),
        "purchase_days": bought.sum(),
        "orders": seen.orders.sum(where=past),
        "spend": seen.amount.sum(where=past),
        # purchases come in order of time: the latest of those before is that of the last one
        "before_1": seen.before_1.max(where=past),
    }
    if "rhythm" in groups:
        sums |= {
            f"before_{back}": seen[f"before_{back}"].max(where=past)
            for back in range(2, _LAST_GAPS + 1)
        }
        sums |= {f"purchases_{days}d": (bought & (seen.since < days)).sum() for days in WINDOWS}

    def money(column: str, low: int, high: int) -> ir.Value:
        within = past & (seen.since >= low) & (seen.since < high)
        return within.ifelse(seen[column], nothing).sum()

    if "money" in groups:
        sums |= {f"spend_{days}d": money("amount", 0, days) for days in WINDOWS}
        sums["spend_before"] = money("amount", 90, 180)
    if "discounts" in groups:
        for column in ("given", "paid"):
            sums[column] = past.ifelse(seen[column], nothing).sum()
            sums[f"{column}_90d"] = money(column, 0, 90)
    return sums


def _gap_trend(states: ir.Table) -> ir.FloatingValue:
    """Log of the mean of the last gaps by the mean of the earlier ones."""
    gaps = states.frequency
    parts = []
    for back in range(_LAST_GAPS, 0, -1):
        since = states[f"before_{back}"]
        recent = days_between(since, states.last_purchase).cast("float64") / float(back)
        rest = (gaps - back).cast("float64").nullif(0.0)
        earlier_mean = days_between(states.first_purchase, since).cast("float64") / rest
        parts.append((gaps >= 2 * back, (recent / earlier_mean).ln()))
    return ibis.cases(*parts)


def _stop(
    landmark: ir.DateColumn, horizon_days: int, end: date, split: date | None
) -> ir.DateColumn:
    """The last day an outcome is followed to."""
    stop = earlier(landmark + ibis.interval(days=horizon_days), end)
    if split is None:
        return stop
    return (landmark < split).ifelse(earlier(stop, split), stop)
