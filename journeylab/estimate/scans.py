"""Scans: moments of a test counted by the engine, all metrics at once."""

# ruff: noqa: PD003, PD004 - isnull and notnull are what Ibis calls them

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal, localcontext
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from journeylab.errors import ContractError
from journeylab.estimate.blocks import Block
from journeylab.estimate.metric import Metric, before
from journeylab.estimate.moments import (
    GROUPED,
    KEYS,
    LEFT_OUT,
    MISSING,
    Moments,
    capped_at,
    check_metrics,
)

if TYPE_CHECKING:
    import ibis.expr.types as ir

STATUS = "status"
# Decimals of a floating point column that are kept; those of DECIMAL and integers all are.
_DIGITS = 6
_WIDTH = 18
_Objects = NDArray[np.object_]


def moments(
    table: "ir.Table",
    metrics: Sequence[Metric],
    *,
    by: Sequence[Literal["stratum", "day", "cluster"]] = (),
) -> Moments:
    """Moments of all metrics from one scan of a table with one row per customer.

    All sums are of whole numbers (cents, counts, millionths of floating point values), so that
    they are exact: the same on every run and engine, and as good for values far from zero as for
    values around it. Where customers have one column of a metric and lack another, or amounts
    exceed ten million, the scan is made again in a slower way; a cap that is not frozen and a
    quantile need one more grouped scan each.

    Args:
        table: ``variant``; the keys named in ``by``; the metrics' ``columns``, numeric or boolean;
            optionally ``status``, the reason for which a customer is not counted, else missing.
            Columns of ``frames.trial``, or your own.
        metrics: What to measure.
        by: Split by ``stratum``, ``day`` of exposure, ``cluster``; a missing stratum is one of
            its own, but a customer without variant, day or cluster is left out.

    Raises:
        ContractError: A column is missing or not numeric, or a metric is named twice.
    """
    check_metrics(metrics)
    keys = [key for key in KEYS if key == "variant" or key in by]
    wanted = {*keys, *(name for metric in metrics for name in metric.columns)}
    if absent := sorted(wanted - set(table.columns)):
        raise ContractError(f"the table has no column {', '.join(absent)}")
    measured = tuple(_with_cap(metric, table) for metric in metrics)
    plan, sums = _scanned(table, keys, [m for m in measured if m.kind != "quantile"])
    values = {m.name: value_counts(table, m) for m in measured if m.kind == "quantile"}
    kept = sums[sums[STATUS].isna()].reset_index(drop=True)
    units = kept["rows"].to_numpy(np.int64)
    lost = sums[sums[STATUS].notna()].groupby([STATUS, "variant"])["rows"].sum()
    out = [(*index, int(n)) for index, n in zip(lost.index.to_list(), lost, strict=True)]
    blocks = {m.name: plan.block(m, kept) for m in measured if m.kind != "quantile"}
    grouped = "clustered" in kept and kept["clustered"].sum() > 0
    doubts = (GROUPED,) if grouped else ()
    found = Moments(measured, kept[keys], units, blocks, values, doubts=doubts)
    for metric in measured:
        reason = MISSING.format(metric=metric.name)
        out += [(reason, arm, n) for arm, n in found.missing(metric.name).items() if n]
    return replace(found, left_out=pd.DataFrame(out, columns=list(LEFT_OUT)))


def value_counts(table: "ir.Table", metric: Metric) -> pd.DataFrame:
    """How many customers of each variant have each value of a metric.

    Returns:
        ``variant, value, customers``, sorted; customers without a value or with a ``status`` are
        left out. It is all that quantiles, ranks and distribution functions need.
    """
    from journeylab.tables import collect

    rows = table.filter(table.variant.notnull())
    if STATUS in rows.columns:
        rows = rows.filter(rows[STATUS].isnull())
    value, scale = _whole(rows, metric.of, _WIDTH)
    counted = rows.select(variant=rows.variant.cast("string"), value=value).filter(
        lambda t: t.value.notnull()
    )
    grouped = counted.group_by("variant", "value").agg(customers=counted.count())
    frame = collect(grouped.mutate(value=grouped.value.cast("string")))
    beyond = Decimal(10) ** (scale - _decimals(value))
    numbers = [float(Decimal(text) / beyond) for text in frame["value"]]
    frame = frame.assign(value=numbers, customers=frame["customers"].astype(np.int64))
    return frame.sort_values(["variant", "value"], ignore_index=True)


def freeze_caps(
    table: "ir.Table", metrics: Sequence[Metric], *, by_outcomes: bool = False
) -> tuple[Metric, ...]:
    """Fix the caps of metrics by what was measured before the exposure.

    A cap taken from the outcomes moves between looks; one from before stays. Where it would lie at
    zero, because hardly anybody had anything before (a test on those who had left), everything
    would count as nothing: such a metric is left without a cap.

    Args:
        table: As for ``moments``, with the column ``<of> before`` of each metric that has a cap.
        metrics: Those without a cap, or with one that is frozen, are handed back as they are.
        by_outcomes: Take the outcomes themselves, of all arms together, where a source knows
            nothing of before; then read once only.

    Raises:
        ContractError: The table does not hold what was measured before.
    """
    found = []
    for metric in metrics:
        column = metric.of if by_outcomes else before(metric.of)
        if metric.cap is not None and metric.cap_at is None and column not in table.columns:
            raise ContractError(
                f"{metric.name}: its cap cannot be frozen without a column {column!r}"
            )
        fixed = _with_cap(metric, table, column)
        if metric.cap_at is None and fixed.cap_at is not None and fixed.cap_at <= 0:
            fixed = replace(metric, cap=None)
        found.append(fixed)
    return tuple(found)


def _scanned(
    table: "ir.Table", keys: Sequence[str], metrics: Sequence[Metric]
) -> tuple["_Plan", pd.DataFrame]:
    """One row per cell and status, with the plan by which to read it."""
    import duckdb

    plan = _Plan(table, metrics, _WIDTH, masked=False)
    try:
        sums = plan.collected(keys)
    except duckdb.OutOfRangeException:
        # DuckDB multiplies DECIMAL(18) in 64 bits, which is quick and ends at 1e18.
        plan = _Plan(table, metrics, _WIDTH + 1, masked=False)
        sums = plan.collected(keys)
    if plan.uneven(sums):
        plan = _Plan(table, metrics, _WIDTH + 1, masked=True)
        sums = plan.collected(keys)
    status = sums[STATUS] if STATUS in sums else pd.Series(None, sums.index, dtype=object)
    for key in keys:
        if key == "stratum":
            sums[key] = sums[key].fillna("")
            continue
        status = status.where(status.notna() | sums[key].notna(), f"no {key}")
    sums["variant"] = sums["variant"].fillna("")
    if "day" in keys:
        sums["day"] = pd.to_datetime(sums["day"])
    return plan, sums.assign(**{STATUS: status})


class _Plan:
    """Columns and sums that the metrics need, each asked for once."""

    def __init__(
        self, rows: "ir.Table", metrics: Sequence[Metric], width: int, *, masked: bool
    ) -> None:
        self.rows, self.metrics, self.width, self.masked = rows, metrics, width, masked
        self.columns: dict[tuple[Any, ...], str] = {}
        self.values: dict[str, ir.Value] = {}
        self.scales: dict[str, int] = {}
        self.wanted: dict[tuple[str, ...], str] = {}
        self.bits: set[str] = set()
        for metric in metrics:
            names = [self._column(metric, name) for name in metric.columns]
            for i, left in enumerate(names):
                self._want((left,))
                for right in names[i:]:
                    if left != right or left not in self.bits:
                        self._want((left, right))

    def collected(self, keys: Sequence[str]) -> pd.DataFrame:
        """One row per cell and status: ``keys``, ``status``, ``rows``, counts and sums as text."""
        from journeylab.tables import collect

        own: dict[str, ir.Value] = {}
        for key in keys:
            column = self.rows[key]
            own[key] = column.cast("date" if key == "day" else "string")
        if STATUS in self.rows.columns:
            own[STATUS] = self.rows[STATUS].cast("string")
        clustered = "cluster" in self.rows.columns and "cluster" not in keys
        more = {"cluster": self.rows.cluster} if clustered else {}
        wide = self.rows.select(**own, **self.values, **more)
        sums: dict[str, ir.Value] = {"rows": wide.count()}
        if clustered:
            sums["clustered"] = wide.cluster.count()
        for name in self.values:
            sums[f"n_{name}"] = wide[name].count()
        for pair, label in self.wanted.items():
            product = wide[pair[0]] if len(pair) == 1 else _product(wide, *pair)
            sums[label] = product.sum().cast("string")
        return collect(wide.group_by(*own).agg(**sums), key=list(own))

    def uneven(self, sums: pd.DataFrame) -> bool:
        """Whether some customers have one column of a metric and lack another."""
        for metric in self.metrics:
            names = [self._column(metric, name) for name in metric.columns]
            counts = sums[[f"n_{name}" for name in names]].to_numpy()
            if (counts != counts[:, :1]).any() or (
                len(metric.own_columns) > 1 and (counts[:, 0] != sums["rows"]).any()
            ):
                return True
        return False

    def block(self, metric: Metric, sums: pd.DataFrame) -> Block:
        """Moments of one metric, from exact sums."""
        names = [self._column(metric, name) for name in metric.columns]
        counts = sums[f"n_{names[0]}"].to_numpy(np.int64)
        n = np.maximum(counts, 1).astype(object)
        total = {name: self._sum((name,), sums) for name in names}
        mean = np.column_stack(
            [(total[name] / (n * 10 ** self.scales[name])).astype(float) for name in names]
        )
        p = len(names)
        cross = np.zeros((len(sums), p, p))
        for i, left in enumerate(names):
            for j in range(i, p):
                right = names[j]
                same_bit = left == right and left in self.bits
                product = total[left] if same_bit else self._sum((left, right), sums)
                centred = n * product - total[left] * total[right]
                unit = n * 10 ** (self.scales[left] + self.scales[right])
                cross[:, i, j] = cross[:, j, i] = (centred / unit).astype(float)
        return Block(metric.columns, counts, mean, cross)

    def _column(self, metric: Metric, name: str) -> str:
        """A column as whole numbers: capped, 0 or 1 in a proportion, missing where the own is."""
        import ibis

        outcome = name in metric.outcome_columns
        cap = metric.cap_at if outcome else None
        share = metric.kind == "proportion" and outcome
        own = metric.own_columns
        mask = tuple(other for other in own if other != name) if self.masked else ()
        # In the quick scan a gap is left as it is: uneven counts show it, and it is made again.
        fill = name not in own and self.masked
        key = (name, cap, share, mask, fill)
        if key in self.columns:
            return self.columns[key]
        value, scale = _whole(self.rows, name, self.width)
        if share:
            value, scale = _positive(self.rows, name), 0
        if cap is not None:
            # Not least(), which passes over a missing value.
            most = _literal(cap, self.rows, name, scale).cast(value.type())
            value = (value > most).ifelse(most, value)
        if fill:
            value = value.coalesce(ibis.literal(0).cast(value.type()))
        for other in mask:
            value = _present(self.rows, other).ifelse(value, ibis.null(value.type()))
        label = f"c{len(self.columns)}"
        self.columns[key], self.values[label], self.scales[label] = label, value, scale
        if share:
            self.bits.add(label)
        return label

    def _want(self, pair: tuple[str, ...]) -> None:
        if pair[::-1] not in self.wanted:
            self.wanted.setdefault(pair, f"s{len(self.wanted)}")

    def _sum(self, pair: tuple[str, ...], sums: pd.DataFrame) -> _Objects:
        label = self.wanted[pair if pair in self.wanted else pair[::-1]]
        decimals = sum(_decimals(self.values[name]) for name in pair)
        with localcontext() as context:
            context.prec = 80
            whole = [0 if text is None else int(Decimal(text).scaleb(decimals))
                     for text in sums[label]]  # fmt: skip
        return np.array(whole, dtype=object)


def _product(wide: "ir.Table", left: str, right: str) -> "ir.NumericValue":
    one, two = wide[left], wide[right]
    if one.type().is_integer() and two.type().is_integer():
        return one * two
    widths = [_WIDTH if c.type().is_integer() else c.type().precision for c in (one, two)]
    scale = max(_decimals(one), _decimals(two)) if widths[0] != widths[1] else None
    one, two = (
        column.cast(f"decimal({max(widths)}, {_decimals(column) if scale is None else scale})")
        for column in (one, two)
    )
    return one * two


def _decimals(value: "ir.Value") -> int:
    """How many digits stand behind the point of a column of whole or decimal numbers."""
    return (value.type().scale or 0) if value.type().is_decimal() else 0


def _whole(rows: "ir.Table", name: str, width: int) -> "tuple[ir.Value, int]":
    """A column as DECIMAL, and how many decimals its whole number (cents, millionths) has.

    DECIMAL keeps its decimals behind the point; a floating point column is multiplied first.
    """
    import ibis

    column = rows[name]
    kind = column.type()
    if kind.is_boolean():
        return column.cast("int64"), 0
    if kind.is_integer():
        return column.cast("int64" if width == _WIDTH else f"decimal({width}, 0)"), 0
    if kind.is_decimal():
        scale = min(kind.scale if kind.scale is not None else _DIGITS, _DIGITS)
        return column.cast(f"decimal({width}, {scale})"), scale
    if kind.is_floating():
        millionths = (column.cast("float64") * 10.0**_DIGITS).round()
        finite = _present(rows, name).ifelse(millionths, ibis.null("float64"))
        return finite.cast("int64").cast(f"decimal({_WIDTH + 1}, 0)"), _DIGITS
    raise ContractError(f"{name} must be a number, money or yes/no; it is {kind}")


def _positive(rows: "ir.Table", name: str) -> "ir.IntegerValue":
    """1 above zero, else 0; missing where the column has no value."""
    import ibis

    column = rows[name]
    if column.type().is_boolean():
        return column.cast("int64")
    above = (column > 0).cast("int64")
    if column.type().is_floating():
        above = _present(rows, name).ifelse(above, ibis.null("int64"))
    return above


def _present(rows: "ir.Table", name: str) -> "ir.BooleanValue":
    column = rows[name]
    there = column.notnull()
    if column.type().is_floating():
        there = there & ~column.isnan() & ~column.isinf()
    return there


def _literal(cap: float, rows: "ir.Table", name: str, scale: int) -> "ir.Value":
    import ibis

    kind = rows[name].type()
    scaled = cap * 10**scale if kind.is_floating() else cap
    places = 0 if kind.is_floating() else scale
    number = Decimal(repr(float(scaled))).quantize(Decimal(1).scaleb(-places))
    return ibis.literal(number).cast(f"decimal({_WIDTH}, {places})")


def _with_cap(metric: Metric, table: "ir.Table", column: str = "") -> Metric:
    """The metric with its cap taken from a column, unless it is frozen or has none."""
    if metric.cap is None or metric.cap_at is not None:
        return metric
    read = Metric.quantile(metric.name, column or metric.of, 0.5)
    counted = value_counts(table, read).groupby("value")["customers"].sum()
    if counted.empty:
        return metric
    values, customers = counted.index.to_numpy(float), counted.to_numpy(np.int64)
    return metric.frozen(capped_at(values, customers, metric.cap))
