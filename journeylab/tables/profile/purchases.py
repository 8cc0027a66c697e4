"""How customers buy: purchase days, gaps, first days, and three numbers with their intervals.

A *purchase day* is a day on which a customer placed an order with an amount of zero or more, as in
``journeylab.frames``.
"""

import re
from math import sqrt
from typing import NamedTuple

import ibis
import ibis.expr.types as ir
import numpy as np
import pandas as pd
from scipy.special import ndtri

from journeylab.tables.engine import collect
from journeylab.tables.opened import Tables
from journeylab.tables.profile.contents import currencies
from journeylab.tables.profile.measures import settled

_Z = float(ndtri(0.975))
_NAME = re.compile(r"[a-z][a-z0-9_]*")


class Interval(NamedTuple):
    """A number with its 95 % interval and unit, in the order ``estimate.Estimate`` takes them."""

    value: float
    ci_low: float
    ci_high: float
    unit: str


def purchase_days(tables: Tables) -> ir.Table:
    """Distinct ``customer_id, business_date`` with a purchase, as an Ibis expression."""
    assert tables.orders is not None
    bought = tables.orders.filter(tables.orders.amount >= 0)
    return bought.select("customer_id", "business_date").distinct()


def purchases_per_customer(tables: Tables) -> pd.DataFrame:
    """How many customers bought on how many days.

    Returns:
        ``purchase_days`` (count, ascending), ``customers`` (count), ``share`` (0-1); empty
        without orders.
    """
    if tables.orders is None:
        return pd.DataFrame({"purchase_days": [], "customers": [], "share": []}, dtype=float)
    days = purchase_days(tables)
    each = days.group_by("customer_id").agg(purchase_days=days.count())
    counts = collect(each.group_by("purchase_days").agg(customers=each.count()))
    return counts.assign(share=_shares(counts["customers"]))


def in_bands(
    counts: pd.DataFrame, column: str = "purchase_days", of: str = "customers"
) -> pd.DataFrame:
    """Counts by value gathered into bands 1, 2, 3, 4-5, 6-10, 11-20, 21-50, 51-100, 101+.

    Returns:
        ``column`` (band as text), ``of`` (count), ``share`` (0-1): only bands that occur.
    """
    starts = [1, 2, 3, 4, 6, 11, 21, 51, 101]
    names = ["1", "2", "3", "4-5", "6-10", "11-20", "21-50", "51-100", "101 and more"]
    place = np.searchsorted(starts, counts[column].to_numpy(float), side="right") - 1
    sums = counts.groupby(place)[of].sum().astype(int)
    bands = pd.DataFrame({column: [names[at] for at in sums.index], of: sums.to_numpy()})
    return bands.assign(share=_shares(bands[of]))


def gaps(tables: Tables) -> pd.DataFrame:
    """Days from one purchase day of a customer to the next.

    Returns:
        ``gap_days`` (at least 1, ascending), ``gaps`` (how many); empty without orders or repeats.
        A gap still open at the end of the data is not among them, so long ones are too few.
    """
    if tables.orders is None:
        return pd.DataFrame({"gap_days": [], "gaps": []}, dtype=int)
    closed = _gaps(tables)
    return collect(closed.group_by("gap_days").agg(gaps=closed.count()))


def gap_bins(counts: pd.DataFrame) -> pd.DataFrame:
    """Gaps in bins of a day, a week or thirty days, up to the 99 % quantile.

    Args:
        counts: From ``gaps``.

    Returns:
        ``low``, ``high`` (days, high not counted in), ``count``.
    """
    if counts.empty:
        return pd.DataFrame({"low": [], "high": [], "count": []}, dtype=int)
    usual, last = _quantile(counts, 0.95), _quantile(counts, 0.99)
    width = 1 if usual <= 60 else 7 if usual <= 400 else 30
    kept = counts[counts["gap_days"] <= last]
    place = (kept["gap_days"] - 1) // width
    sums = kept.groupby(place)["gaps"].sum().reindex(range(int(place.max()) + 1), fill_value=0)
    low = 1 + width * sums.index.to_numpy(int)
    return pd.DataFrame({"low": low, "high": low + width, "count": sums.to_numpy(int)})


def gap_quantiles(counts: pd.DataFrame) -> pd.DataFrame:
    """Quantiles of the gaps.

    Returns:
        ``share`` (of gaps not longer), ``gap_days``; empty without gaps.
    """
    shares = [0.05, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0] if len(counts) else []
    days = [_quantile(counts, share) for share in shares]
    return pd.DataFrame({"share": shares, "gap_days": days})


def first_seen(tables: Tables, window_days: int = 30) -> pd.DataFrame:
    """Customers by when their first purchase falls, in windows from the start of the data.

    Most customers first seen in the first window, few later: they had bought before the data
    begin (left truncation), or the source follows one cohort.

    Returns:
        ``from_day`` (date a window begins), ``customers`` (count), ``share`` (0-1 of all); empty
        without orders.
    """
    if tables.orders is None:
        return pd.DataFrame({"from_day": [], "customers": [], "share": []}, dtype=float)
    days = purchase_days(tables)
    each = days.group_by("customer_id").agg(day=days.business_date.min())
    counts = collect(each.group_by("day").agg(customers=each.count()))
    if counts.empty:
        return pd.DataFrame({"from_day": [], "customers": [], "share": []}, dtype=float)
    span = collect(days.agg(last=days.business_date.max()))["last"].iloc[0]
    start = counts["day"].min()
    windows = range((span - start).days // window_days + 1)
    place = (counts["day"] - start).dt.days // window_days
    sums = counts.groupby(place)["customers"].sum().reindex(windows, fill_value=0)
    begins = [start + pd.Timedelta(days=window_days * at) for at in windows]
    share = _shares(sums).to_numpy()
    return pd.DataFrame({"from_day": begins, "customers": sums.to_numpy(int), "share": share})


def key_numbers(tables: Tables) -> dict[str, Interval]:
    """Up to three numbers that tell what kind of customers these are, with 95 % intervals.

    Of orders: ``repeat_share``, customers with a second purchase day (Wilson interval);
    ``median_gap_days``, half of all gaps are not longer (Woodruff's interval); ``mean_amount`` of
    an order of zero or more. Without orders: ``ended_share`` of memberships,
    ``mean_<metric>`` of outcomes, ``return_share`` of customers with events on a second day.
    All but the shares allow for customers who give several values.

    Returns:
        Name -> interval; a number that cannot be told is left out, e.g. a mean of one customer.

    Sources:
        Wilson, "Probable Inference" (1927); Woodruff, "Confidence Intervals for Medians and Other
        Position Measures" (1952), with a variance between customers.
    """
    found: dict[str, Interval | None] = {}
    if tables.orders is not None:
        counts = purchases_per_customer(tables)
        repeats = counts.loc[counts["purchase_days"] > 1, "customers"].sum()
        found["repeat_share"] = _wilson(int(repeats), int(counts["customers"].sum()))
        found["median_gap_days"] = _median_gap(tables)
        bought = tables.orders.filter(tables.orders.amount >= 0)
        found["mean_amount"] = _clustered_mean(bought, "amount", f"{_currency(tables)} per order")
    else:
        if tables.memberships is not None and "ended" in tables.memberships.columns:
            known = tables.memberships.drop_null(["ended"])
            facts = collect(known.agg(ended=known.ended.sum(), rows=known.count())).fillna(0)
            found["ended_share"] = _wilson(int(facts["ended"][0]), int(facts["rows"][0]))
        if tables.outcomes is not None:
            own = tables.outcomes
            metrics = collect(own.select("metric").distinct())["metric"]
            for metric in [name for name in metrics if _NAME.fullmatch(name)][:3]:
                part = own.filter(own.metric == metric)
                found[f"mean_{metric}"] = _clustered_mean(part, "value", "per row")
        if tables.events is not None:
            days = tables.events.select("customer_id", "business_date").distinct()
            each = days.group_by("customer_id").agg(days=days.count())
            facts = collect(each.agg(back=(each.days > 1).sum(), rows=each.count())).fillna(0)
            found["return_share"] = _wilson(int(facts["back"][0]), int(facts["rows"][0]))
    kept = {name: interval for name, interval in found.items() if interval is not None}
    return dict(list(kept.items())[:3])


def _gaps(tables: Tables) -> ir.Table:
    days = purchase_days(tables)
    before = days.business_date.lag().over(
        ibis.window(group_by=days.customer_id, order_by=days.business_date)
    )
    dated = days.mutate(before=before).drop_null(["before"])
    gap = dated.business_date.delta(dated.before, unit="day")
    return dated.select("customer_id", gap_days=gap.cast("int64"))


def _quantile(counts: pd.DataFrame, share: float) -> int:
    upto = counts["gaps"].cumsum().to_numpy()
    place = int(np.searchsorted(upto, share * upto[-1] - 1e-9))
    return int(counts["gap_days"].iloc[min(place, len(counts) - 1)])


def _median_gap(tables: Tables) -> Interval | None:
    counts = gaps(tables)
    if counts["gaps"].sum() < 2:
        return None
    middle = _quantile(counts, 0.5)
    closed = _gaps(tables)
    each = closed.group_by("customer_id").agg(
        n=closed.count(), k=(closed.gap_days <= middle).sum().cast("int64")
    )
    # whole numbers add up exactly on every engine
    sums = collect(
        each.agg(
            customers=each.count(),
            n=each.n.sum(),
            k=each.k.sum(),
            nn=(each.n * each.n).sum(),
            kn=(each.k * each.n).sum(),
            kk=(each.k * each.k).sum(),
        )
    ).iloc[0]
    customers, n, k, nn, kn, kk = (float(sums[name]) for name in sums.index)
    if customers < 2:
        return None
    share = k / n
    squares = max(0.0, kk - 2 * share * kn + share**2 * nn)
    error = sqrt(squares * customers / (customers - 1)) / n
    low, high = (_quantile(counts, 0.5 + side * _Z * error) for side in (-1, 1))
    return Interval(float(middle), float(min(low, middle)), float(max(high, middle)), "days")


def _clustered_mean(table: ir.Table, column: str, unit: str) -> Interval | None:
    """Mean of a column over rows, with a large-sample interval by customer (ratio estimator)."""
    there = table.drop_null([column])
    each = there.group_by("customer_id").agg(total=there[column].sum(), n=there.count())
    sums = collect(each.agg(customers=each.count(), total=each.total.sum(), n=each.n.sum()))
    customers, n = int(sums["customers"][0]), sums["n"][0]
    if customers < 2:
        return None
    mean = float(sums["total"][0]) / float(n)
    residual = each.total.cast("float64") - each.n.cast("float64") * ibis.literal(mean, "float64")
    squares = float(collect(each.agg(squares=(residual * residual).sum()))["squares"][0])
    margin = _Z * sqrt(squares * customers / (customers - 1)) / float(n)
    mean, margin = settled(mean), settled(margin)
    return Interval(mean, mean - margin, mean + margin, unit)


def _shares(counts: pd.Series) -> pd.Series:
    return (counts / max(int(counts.sum()), 1)).round(4)


def _wilson(successes: int, n: int) -> Interval | None:
    if n == 0:
        return None
    share, z2 = successes / n, _Z**2 / n
    centre = (share + z2 / 2) / (1 + z2)
    margin = _Z * sqrt(share * (1 - share) / n + z2 / (4 * n)) / (1 + z2)
    low = 0.0 if successes == 0 else max(0.0, centre - margin)
    high = 1.0 if successes == n else min(1.0, centre + margin)
    return Interval(share, low, high, "share")


def _currency(tables: Tables) -> str:
    codes = currencies(tables)
    return codes[0] if len(codes) == 1 else "currency units"
