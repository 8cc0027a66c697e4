"""How numbers are distributed: exact quantiles and counts per bin, computed in the engine."""

from dataclasses import dataclass
from math import ceil, floor, log10, nan

import ibis
import ibis.expr.types as ir
import numpy as np
import pandas as pd

from journeylab.contract import BY_NAME
from journeylab.tables.engine import collect
from journeylab.tables.opened import Tables
from journeylab.tables.profile.contents import present

QUANTILES = {"p05": 0.05, "median": 0.5, "p95": 0.95, "p99": 0.99}
HEAVY_TAIL = 5.0
"""A distribution is heavy-tailed when its 99 % quantile is so many times its median."""
_NUMBERS = ("money", "number", "integer")
_NOT_MEASURED = ("line_no", "propensity")
_MOST_METRICS = 20


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts per bin of the values above zero.

    Attributes:
        bins: ``low``, ``high`` (bounds; low counts in, high does not, but for the last bin),
            ``count``.
        log: Whether the bins are equally wide on a log axis.
        zero, negative: How many values are not in the bins because they are zero or below.
        median, p99: Quantiles of the values above zero; NaN without any.
    """

    bins: pd.DataFrame
    log: bool
    zero: int
    negative: int
    median: float = nan
    p99: float = nan


def measures(tables: Tables) -> pd.DataFrame:
    """Every number the contract knows, with its quantiles.

    A quantile is the smallest value that at least such a share of the rows does not exceed: it
    is a value of the data, equal on every engine.

    Returns:
        One row per measure: ``table``, ``measure`` (column; of outcomes, the metric: the 20
        most frequent), ``rows`` (that have a value), ``negative``, ``zero`` (shares, 0-1),
        ``mean``, ``least``, ``p05``, ``median``, ``p95``, ``p99``, ``most``.
    """
    rows = []
    for name, table in present(tables).items():
        for column in BY_NAME[name].columns:
            if column.name not in table.columns or column.name in _NOT_MEASURED:
                continue
            if column.type not in _NUMBERS:
                continue
            if name == "outcomes":
                parts = {metric: table.filter(table.metric == metric) for metric in _metrics(table)}
            else:
                parts = {column.name: table}
            for measure, part in parts.items():
                summary = _summary(part, column.name)
                if summary is not None:
                    rows.append({"table": name, "measure": measure, **summary})
    columns = ["table", "measure", "rows", "negative", "zero", "mean", "least", *QUANTILES, "most"]
    return pd.DataFrame(rows, columns=columns)


def settled(value: float) -> float:
    """Nine significant digits of a sum of floats: more depend on the order of the addition."""
    return float(f"{value:.9g}")


def amount_histogram(tables: Tables, bins: int = 40) -> Histogram:
    """Order amounts above zero, in bins of equal width or, where heavy-tailed, equal ratio.

    Bins reach from the smallest amount (a log axis: from the 0.1 % quantile) to the 99.9 %
    quantile; what lies beyond stands in the first and the last.
    """
    empty = Histogram(pd.DataFrame({"low": [], "high": [], "count": []}), False, 0, 0)
    if tables.orders is None:
        return empty
    orders = tables.orders
    signs = collect(
        orders.agg(zero=(orders.amount == 0).sum(), negative=(orders.amount < 0).sum())
    ).fillna(0)
    zero, negative = int(signs["zero"].iloc[0]), int(signs["negative"].iloc[0])
    counts = _value_counts(orders.filter(orders.amount > 0), "amount")
    total = int(collect(counts.agg(rows=counts.n.sum())).fillna(0)["rows"].iloc[0])
    if total == 0:
        return Histogram(empty.bins, False, zero, negative)
    low, middle, tail, high = _at_shares(counts, total, [0.001, 0.5, 0.99, 0.999])
    log = tail > HEAVY_TAIL * middle
    edges = _log_edges(low, high, bins) if log else _even_edges(high, bins)
    inner = edges[1:-1]
    value = counts["value"].cast("float64")
    place = sum(((value >= edge).cast("int64") for edge in inner), ibis.literal(0, type="int64"))
    placed = counts.mutate(place=place)
    found = collect(placed.group_by("place").agg(count=placed.n.sum()))
    count = np.zeros(len(edges) - 1, dtype=int)
    count[found["place"].to_numpy(int)] = found["count"].to_numpy(int)
    frame = pd.DataFrame({"low": edges[:-1], "high": edges[1:], "count": count})
    return Histogram(frame, log, zero, negative, middle, tail)


def _metrics(outcomes: ir.Table) -> list[str]:
    counts = collect(outcomes.group_by("metric").agg(rows=outcomes.count()))
    most = counts.sort_values(["rows", "metric"], ascending=[False, True])
    return [str(metric) for metric in most["metric"].head(_MOST_METRICS)]


def _summary(table: ir.Table, column: str) -> dict[str, float] | None:
    counts = _value_counts(table, column)
    value, n = counts["value"], counts.n
    facts = collect(
        counts.agg(
            rows=n.sum(),
            negative=n.sum(where=value < 0),
            zero=n.sum(where=value == 0),
            least=value.min(),
            most=value.max(),
            # DECIMAL adds exactly; of floats the last digits are dropped
            total=(value * n.cast("decimal(18, 0)") if value.type().is_decimal() else value * n)
            .sum()
            .cast("float64"),
        )
    ).iloc[0]
    if pd.isna(facts["rows"]) or int(facts["rows"]) == 0:
        return None
    rows = int(facts["rows"])
    shares = [round(float(0 if pd.isna(facts[name]) else facts[name]) / rows, 4) for name in _SIGNS]
    quantiles = _at_shares(counts, rows, list(QUANTILES.values()))
    return {
        "rows": rows,
        "negative": shares[0],
        "zero": shares[1],
        "mean": settled(float(facts["total"]) / rows),
        "least": _plain(facts["least"]),
        **dict(zip(QUANTILES, quantiles, strict=True)),
        "most": _plain(facts["most"]),
    }


_SIGNS = ("negative", "zero")


def _plain(value: float) -> float:
    """The nearest float of the amount: Arrow makes 2.5100000000000002 of the DECIMAL 2.51."""
    return float(f"{value:.15g}")


def _value_counts(table: ir.Table, column: str) -> ir.Table:
    there = table.drop_null([column])
    return there.group_by(value=there[column]).agg(n=there.count())


def _at_shares(counts: ir.Table, total: int, shares: list[float]) -> list[float]:
    """Quantiles from counts per value; only the values asked for leave the engine."""
    places = [max(1, ceil(round(share * total, 6))) for share in shares]
    upto = counts.n.sum().over(ibis.cumulative_window(order_by=counts["value"]))
    ranked = counts.mutate(upto=upto.cast("int64"))
    held = [(ranked.upto >= place) & (ranked.upto - ranked.n < place) for place in places]
    found = collect(ranked.filter(ibis.or_(*held)), key=["upto"])
    ends = found["upto"].to_numpy(int)
    values = found["value"].to_numpy(float)
    return [_plain(values[np.searchsorted(ends, place)]) for place in places]


def _even_edges(high: float, bins: int) -> list[float]:
    step = _round_up(high / bins)
    return [round(step * place, 10) for place in range(max(1, ceil(high / step)) + 1)]


def _round_up(width: float) -> float:
    """The next of 1, 2, 2.5, 5 times a power of ten."""
    scale = 10.0 ** floor(log10(width))
    return next(step * scale for step in (1, 2, 2.5, 5, 10) if step * scale >= width * (1 - 1e-9))


def _log_edges(low: float, high: float, bins: int) -> list[float]:
    # rounded, so that an edge is a sum of money and the same on every machine
    edges = 10 ** np.linspace(log10(low), log10(high), bins + 1)
    return sorted({float(f"{edge:.3g}") for edge in edges})
