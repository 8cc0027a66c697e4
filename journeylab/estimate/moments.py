"""Moments: all that the readout of a test needs to know of its customers, in one small table."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce

import numpy as np
import pandas as pd

from journeylab.errors import ContractError
from journeylab.estimate.blocks import Block, Floats, Ints, Sample
from journeylab.estimate.metric import Metric

KEYS = ("variant", "stratum", "day", "cluster")
LEFT_OUT = ("reason", "variant", "customers")
MISSING = "{metric}: no value"
# Up to here cell after cell is faster than all cells at once.
_FEW_CELLS = 8
GROUPED = "assigned by group but counted by customer: intervals are too short"


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """Counts, means and centred cross-products of all metrics of a test, cell by cell.

    A cell is a variant, and where the test is split so: a stratum, a day of exposure, a cluster.
    Moments of different customers add up (``+``), so that shards, days and strata can be summed
    apart. Make them by ``moments`` (one scan of the engine), ``moments_of_frame`` or
    ``moments_of_sums``.

    Attributes:
        metrics: What was measured, caps frozen.
        cells: One row per cell, sorted: ``variant`` and those of ``stratum`` (text), ``day``
            (datetime), ``cluster`` (text) by which the moments are split.
        units: Customers in each cell, ``(cells,)``; those without a value included.
        blocks: Metric name -> its moments; not for quantile metrics.
        values: Name of a quantile metric -> ``variant, value, customers``: how many customers have
            each value.
        left_out: ``reason, variant, customers``: who was assigned and is not counted (window not
            closed yet, in two variants, ...), and for each metric who has no value.
        doubts: What makes every comparison of these moments doubtful.
    """

    metrics: tuple[Metric, ...]
    cells: pd.DataFrame
    units: Ints
    blocks: Mapping[str, Block]
    values: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    left_out: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(LEFT_OUT)))
    doubts: tuple[str, ...] = ()

    @property
    def variants(self) -> tuple[str, ...]:
        """Arms in which somebody was found, sorted."""
        return tuple(sorted(self.cells["variant"].unique()))

    @property
    def keys(self) -> tuple[str, ...]:
        """By what the cells are split: ``variant`` and more."""
        return tuple(self.cells.columns)

    def metric(self, name: str) -> Metric:
        """The metric called ``name``.

        Raises:
            ContractError: It was not measured.
        """
        for metric in self.metrics:
            if metric.name == name:
                return metric
        known = ", ".join(metric.name for metric in self.metrics)
        raise ContractError(f"no metric {name!r} was measured; there are {known}")

    def counts(self, key: str = "variant") -> dict[str, int]:
        """Customers by variant (or another key), those without a value included."""
        self._split_by(key)
        sums = pd.Series(self.units).groupby(self.cells[key].to_numpy()).sum()
        return {name: int(n) for name, n in sums.items()}  # type: ignore[misc]

    def table(self, *keys: str) -> pd.DataFrame:
        """``variant``, ``keys``, ``customers``: how many customers there are by each of them."""
        for key in keys:
            self._split_by(key)
        by = ["variant", *(key for key in keys if key != "variant")]
        frame = self.cells[by].assign(customers=self.units)
        return frame.groupby(by, sort=True)["customers"].sum().reset_index()

    def sample(self, metric: str, variant: str) -> Sample:
        """Moments of one metric over all customers of one variant; ``n`` is 0 in an empty arm.

        Raises:
            ContractError: The metric was not measured, or is a quantile.
        """
        return self.block(metric).sample(self.cells["variant"].to_numpy() == variant)

    def block(self, metric: str) -> Block:
        """Moments of one metric in every cell."""
        self.metric(metric)
        if metric not in self.blocks:
            raise ContractError(f"{metric} is a quantile: it has values, not moments")
        return self.blocks[metric]

    def totals(self, metric: str, variant: str) -> tuple[Ints, Floats]:
        """Sums of a metric's columns in each cluster of a variant.

        Returns:
            Customers of each cluster ``(clusters,)`` and column sums ``(clusters, columns)``, in
            order of the clusters' names; without customers with a value left out.
        """
        self._split_by("cluster")
        block, own = self.block(metric), self.cells["variant"].to_numpy() == variant
        codes, names = pd.factorize(self.cells["cluster"].to_numpy()[own], sort=True)
        part = Block(block.columns, block.n[own], block.mean[own], block.cross[own])
        whole = part.grouped(codes.astype(np.int64), len(names))
        there = whole.n > 0
        return whole.n[there], (whole.n[:, None] * whole.mean)[there]

    def missing(self, metric: str) -> dict[str, int]:
        """Variant -> customers without a value of the metric."""
        if metric in self.values:
            found = self.values[metric].groupby("variant")["customers"].sum().to_dict()
            return {name: n - int(found.get(name, 0)) for name, n in self.counts().items()}
        frame = pd.DataFrame({"variant": self.cells["variant"]})
        frame["missing"] = self.units - self.block(metric).n
        return {str(k): int(n) for k, n in frame.groupby("variant")["missing"].sum().items()}

    def merged(self, *keys: str) -> "Moments":
        """The same customers in cells split by ``variant`` and ``keys`` only."""
        for key in keys:
            self._split_by(key)
        by = [key for key in KEYS if key == "variant" or key in keys]
        return self._regrouped(self.cells[by])

    def only(
        self,
        *,
        variants: Sequence[str] | None = None,
        stratum: str | None = None,
        until: str | None = None,
        day: str | None = None,
    ) -> "Moments":
        """The moments of some of the customers.

        Args:
            variants: Only these arms.
            stratum: Only this stratum.
            until: Only customers exposed on this day (ISO) or before: an earlier look.
            day: Only customers exposed on this day (ISO).

        Returns:
            Moments of them. Values of quantile metrics cannot be split and are dropped, unless
            only ``variants`` was given.
        """
        rows = np.ones(len(self.cells), bool)
        if variants is not None:
            rows &= self.cells["variant"].isin(list(variants)).to_numpy()
        if stratum is not None:
            self._split_by("stratum")
            rows &= (self.cells["stratum"] == stratum).to_numpy()
        for limit, last in ((day, False), (until, True)):
            if limit is not None:
                self._split_by("day")
                days = self.cells["day"]
                bound = pd.Timestamp(limit)
                rows &= ((days <= bound) if last else (days == bound)).to_numpy()
        whole = (stratum, until, day) == (None, None, None)
        values = {
            name: frame[frame["variant"].isin(list(variants))] if variants is not None else frame
            for name, frame in (self.values.items() if whole else ())
        }
        left_out = self.left_out
        if variants is not None:
            left_out = left_out[left_out["variant"].isin(list(variants))]
        blocks = {
            name: Block(b.columns, b.n[rows], b.mean[rows], b.cross[rows])
            for name, b in self.blocks.items()
        }
        cells = self.cells[rows].reset_index(drop=True)
        metrics = tuple(m for m in self.metrics if m.kind != "quantile" or m.name in values)
        return Moments(metrics, cells, self.units[rows], blocks, values, left_out, self.doubts)

    def by(self, key: str) -> dict[Hashable, "Moments"]:
        """Moments of each stratum, day or cluster, sorted by it."""
        self._split_by(key)
        own = tuple(m for m in self.metrics if m.name in self.blocks)
        found: dict[Hashable, Moments] = {}
        for name, picks in self.cells.groupby(key, sort=True).indices.items():
            rows = np.asarray(picks, np.int64)
            blocks = {
                metric: Block(b.columns, b.n[rows], b.mean[rows], b.cross[rows])
                for metric, b in self.blocks.items()
            }
            cells = self.cells.take(rows).reset_index(drop=True)
            found[name] = Moments(own, cells, self.units[rows], blocks, doubts=self.doubts)
        return found

    def __add__(self, other: "Moments") -> "Moments":
        """Moments of different customers of the same test, taken together.

        Raises:
            ContractError: Other metrics, other caps, or cells split by other keys.
        """
        if self.metrics != other.metrics:
            raise ContractError("moments of different metrics or caps do not add up")
        if self.keys != other.keys:
            raise ContractError(f"moments by {self.keys} and by {other.keys} do not add up")
        blocks = {}
        for name, mine in self.blocks.items():
            more = other.blocks[name]
            if mine.columns != more.columns:
                raise ContractError(f"{name}: moments of different columns do not add up")
            blocks[name] = Block(
                mine.columns,
                np.concatenate([mine.n, more.n]),
                np.concatenate([mine.mean, more.mean]),
                np.concatenate([mine.cross, more.cross]),
            )
        values = {
            name: _added([frame, other.values[name]], ["variant", "value"])
            for name, frame in self.values.items()
        }
        left_out = _added([self.left_out, other.left_out], ["reason", "variant"])
        cells = pd.concat([self.cells, other.cells], ignore_index=True)
        units = np.concatenate([self.units, other.units])
        doubts = tuple(dict.fromkeys((*self.doubts, *other.doubts)))
        whole = Moments(self.metrics, cells, units, blocks, values, left_out, doubts)
        return whole._regrouped(cells)

    def _regrouped(self, cells: pd.DataFrame) -> "Moments":
        by = list(cells.columns)
        grouper = cells.groupby(by, sort=True, dropna=False)
        codes = np.asarray(grouper.ngroup(), np.int64)
        fresh = cells.drop_duplicates().sort_values(by, ignore_index=True)
        units = np.zeros(len(fresh), np.int64)
        np.add.at(units, codes, self.units)
        blocks = {name: block.grouped(codes, len(fresh)) for name, block in self.blocks.items()}
        return replace(self, cells=fresh, units=units, blocks=blocks)

    def _split_by(self, key: str) -> None:
        if key not in self.cells.columns:
            raise ContractError(f"these moments are not split by {key}; they are by {self.keys}")


def together(parts: Sequence[Moments]) -> Moments:
    """Moments of different customers, taken together."""
    if not parts:
        raise ContractError("there are no moments to put together")
    return reduce(lambda left, right: left + right, parts)


def moments_of_frame(
    frame: pd.DataFrame,
    metrics: Sequence[Metric],
    *,
    variant: str = "variant",
    stratum: str | None = None,
    day: str | None = None,
    cluster: str | None = None,
) -> Moments:
    """Moments of a frame with one row per customer.

    Args:
        frame: Columns named as the metrics' ``columns``, and the keys. A value that is missing or
            not finite is none: its customer is counted, but not in that metric.
        metrics: What to measure. A cap that is not frozen is taken from this frame.
        variant: Column with the arm; rows without one are refused.
        stratum: Column to split by, as ``day`` and ``cluster``; each is optional.
        day: Column with the day of exposure.
        cluster: Column with what was randomised.

    Raises:
        ContractError: A column is missing, a metric named twice, or a row has no arm.
    """
    check_metrics(metrics)
    names = {"variant": variant, "stratum": stratum, "day": day, "cluster": cluster}
    given = {key: name for key, name in names.items() if name is not None}
    wanted = {*given.values(), *(name for metric in metrics for name in metric.columns)}
    if absent := sorted(wanted - set(frame.columns)):
        raise ContractError(f"the frame has no column {', '.join(absent)}")
    cells, codes = _cells(frame, given)
    units = np.bincount(codes, minlength=len(cells)).astype(np.int64)
    blocks, values, measured, left_out = {}, {}, [], []
    arms, columns = cells["variant"].to_numpy(), {}
    for name in dict.fromkeys(name for metric in metrics for name in metric.columns):
        columns[name] = pd.to_numeric(frame[name]).to_numpy(float, na_value=np.nan)
    for metric in metrics:
        # Column after column in memory: they are read one by one.
        matrix = np.array([columns[name] for name in metric.columns]).T
        own = matrix[:, : len(metric.own_columns)]
        there = np.isfinite(own).all(axis=1)
        lost = np.bincount(codes[~there], minlength=len(cells))
        # Without gaps nothing is copied.
        codes_there, kept = (codes, matrix) if there.all() else (codes[there], matrix[there])
        if metric.kind == "quantile":
            pairs = pd.DataFrame({"variant": arms[codes_there], "value": kept[:, 0]})
            counted = pairs.groupby(["variant", "value"], as_index=False, sort=True).size()
            values[metric.name] = counted.rename(columns={"size": "customers"})
            measured.append(metric)
        else:
            if metric.cap is not None and metric.cap_at is None and there.any():
                seen, times = np.unique(kept[:, 0], return_counts=True)
                metric = metric.frozen(capped_at(seen, times, metric.cap))
            measured.append(metric)
            summed = _transformed(kept, metric)
            blocks[metric.name] = _block(summed, codes_there, len(cells), metric.columns)
        reason = MISSING.format(metric=metric.name)
        by_arm = pd.Series(lost).groupby(arms).sum()
        left_out += [(reason, name, int(n)) for name, n in by_arm.items() if n]
    out = pd.DataFrame(left_out, columns=list(LEFT_OUT))
    return Moments(tuple(measured), cells, units, blocks, values, out)


def moments_of_sums(
    metric: Metric,
    sums: Mapping[str, tuple[int, float, float]],
) -> Moments:
    """Moments of a mean or proportion from printed sums.

    Args:
        metric: A mean or proportion without covariates.
        sums: Variant -> customers, sum and sum of squares of the metric over them.
    """
    if metric.kind not in ("mean", "proportion") or metric.covariates:
        raise ContractError(f"{metric.name}: sums serve a mean or proportion without covariates")
    names = sorted(sums)
    n = np.array([sums[name][0] for name in names], np.int64)
    total, squares = (np.array([sums[name][i] for name in names], float) for i in (1, 2))
    if (n < 0).any():
        raise ContractError(f"{metric.name}: there cannot be fewer than no customers")
    mean = total / np.maximum(n, 1)
    cross = squares - total * mean
    if (cross < -1e-9 * np.maximum(squares, 1)).any():
        raise ContractError(f"{metric.name}: the sum of squares is smaller than the mean allows")
    block = Block(metric.columns, n, mean[:, None], np.maximum(cross, 0)[:, None, None])
    cells = pd.DataFrame({"variant": names})
    return Moments((metric,), cells, n, {metric.name: block})


def capped_at(values: Floats, customers: Ints, cap: float) -> float:
    """The smallest value that a share ``cap`` (0-1) of the customers do not exceed.

    Args:
        values: Distinct values, rising.
        customers: How many have each.
        cap: A quantile; one of the values comes back, so that whole cents stay whole.
    """
    reached = np.cumsum(customers)
    at = int(np.searchsorted(reached, cap * reached[-1] - 1e-9))
    return float(values[min(at, len(values) - 1)])


def check_metrics(metrics: Sequence[Metric]) -> None:
    """Refuse no metrics at all, and two of one name."""
    names = [metric.name for metric in metrics]
    if not names or len(set(names)) < len(names):
        raise ContractError(f"metrics must be one or more, each named once; got {names}")


def _cells(frame: pd.DataFrame, given: Mapping[str, str]) -> tuple[pd.DataFrame, Ints]:
    """The cells, sorted, and which of them each row is in."""
    by = [key for key in KEYS if key in given]
    codes, lost = np.zeros(len(frame), np.int64), np.zeros(len(frame), bool)
    levels: list[pd.Index] = []
    for key in by:
        raw, distinct = pd.factorize(frame[given[key]])
        lost |= raw < 0
        # Names and days are made once for each distinct value, not for each customer.
        read = pd.Series(np.asarray(distinct))
        named = pd.to_datetime(read).dt.normalize() if key == "day" else read.astype(str)
        ranks, level = pd.factorize(named, sort=True)
        levels.append(level)
        codes = codes * len(level) + ranks[raw] if len(level) else codes
    if lost.any():
        raise ContractError(f"{int(lost.sum())} of {len(frame)} rows have no {' or '.join(given)}")
    used = np.arange(len(levels[0]))
    if len(by) > 1:
        codes, used = pd.factorize(codes, sort=True)
    found = {}
    for key, level in zip(reversed(by), reversed(levels), strict=True):
        found[key] = level[used % max(len(level), 1)]
        used = used // max(len(level), 1)
    return pd.DataFrame({key: found[key] for key in by}), codes.astype(np.int64, copy=False)


def _transformed(matrix: Floats, metric: Metric) -> Floats:
    """Columns of a metric as they are summed: shares as 0 and 1, capped, covariates complete."""
    summed = matrix.copy(order="K")
    for at, name in enumerate(metric.columns):
        column = summed[:, at]
        if name not in metric.own_columns:
            column[~np.isfinite(column)] = 0.0
        if metric.kind == "proportion" and name in metric.outcome_columns:
            column[:] = column > 0
        if metric.cap_at is not None and name in metric.outcome_columns:
            np.minimum(column, metric.cap_at, out=column)
    return summed


def _block(matrix: Floats, codes: Ints, cells: int, columns: tuple[str, ...]) -> Block:
    n = np.bincount(codes, minlength=cells).astype(np.int64)
    p = len(columns)
    # From the overall mean on: sums of small numbers, exact however far the values lie from zero.
    shift = matrix.mean(axis=0) if len(matrix) else np.zeros(p)
    mean, cross = np.zeros((cells, p)), np.zeros((cells, p, p))
    if cells <= _FEW_CELLS:
        for cell in range(cells):
            rows = np.flatnonzero(codes == cell)
            own = np.array([column[rows] for column in matrix.T]) - shift[:, None]
            mean[cell] = own.sum(axis=1) / max(n[cell], 1)
            own -= mean[cell][:, None]
            cross[cell] = own @ own.T
    else:
        centred = matrix - shift
        for i in range(p):
            mean[:, i] = np.bincount(codes, centred[:, i], cells) / np.maximum(n, 1)
        centred -= mean[codes]
        for i in range(p):
            for j in range(i, p):
                products = np.bincount(codes, centred[:, i] * centred[:, j], cells)
                cross[:, i, j] = cross[:, j, i] = products
    return Block(columns, n, np.where(n[:, None] > 0, mean + shift, 0.0), cross)


def _added(frames: Sequence[pd.DataFrame], by: list[str]) -> pd.DataFrame:
    there = [frame for frame in frames if len(frame)]
    if not there:
        return frames[0]
    return pd.concat(there).groupby(by, sort=True)["customers"].sum().reset_index()
