"""What had been done or received by each landmark day: how much lately, and how long ago."""

from collections.abc import Sequence
from datetime import date

import ibis
import ibis.expr.types as ir

from journeylab.frames.days import days_between

# Days back from the landmark, its own day included.
WINDOWS = (30, 90, 180)


def activity(
    rows: ir.Table,
    cuts: Sequence[date],
    counted: str,
    since: str,
    kinds: Sequence[str] = (),
    windows: Sequence[int] = WINDOWS,
) -> ir.Table:
    """Dated rows counted back from each landmark day.

    Args:
        rows: ``customer_id``, ``business_date``, and ``kind`` where ``kinds`` are given.
        cuts: Landmark days.
        counted: Stem of the counts' names.
        since: Name of the days since the latest row.
        kinds: Kinds to be told apart as well.
        windows: Days back.

    Returns:
        One row per landmark and customer with a row by then: ``landmark``, ``customer_id``;
        ``<counted>_<days>d`` per window; ``<since>`` in days; the same with ``_<kind>`` at the end
        per kind, counted over the middle window only.
    """
    rows = rows.filter(rows.business_date <= max(cuts))
    by = ["customer_id", "business_date", *(["kind"] if kinds else [])]
    daily = rows.group_by(by).agg(rows=rows.count())
    seen = daily.mutate(landmark=ibis.literal(list(cuts), type="array<date>").unnest())
    seen = seen.filter(seen.business_date <= seen.landmark)
    seen = seen.mutate(since=days_between(seen.business_date, seen.landmark))
    measures: dict[str, ir.Value] = {
        f"{counted}_{days}d": seen.rows.sum(where=seen.since < days).coalesce(0) for days in windows
    }
    measures[since] = seen.since.min()
    middle = windows[len(windows) // 2]
    for kind in kinds:
        own = seen.kind == kind
        lately = own & (seen.since < middle)
        measures[f"{counted}_{middle}d_{kind}"] = seen.rows.sum(where=lately).coalesce(0)
        measures[f"{since}_{kind}"] = seen.since.min(where=own)
    return seen.group_by("landmark", "customer_id").agg(**measures)


def joined(states: ir.Table, more: ir.Table) -> ir.Table:
    """The states with further columns; whoever is not among them has counts of 0.

    Args:
        states: ``landmark``, ``customer_id`` and others.
        more: The same key; every other column is added. Columns that begin with ``days_`` and
            texts stay missing where there is no row.
    """
    names = [name for name in more.columns if name not in ("landmark", "customer_id")]
    both = states.left_join(more, ["landmark", "customer_id"])
    both = both.select(*states.columns, *names)
    counts = [
        name for name in names if both[name].type().is_integer() and not name.startswith("days_")
    ]
    return both.mutate(**{name: both[name].coalesce(0) for name in counts}) if counts else both
