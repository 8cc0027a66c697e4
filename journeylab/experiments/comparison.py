"""Comparison: one metric of one arm beside the control, with its interval and its test."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import exp, inf, isfinite, log, log1p, sqrt
from typing import Literal

from scipy.special import ndtr, ndtri, stdtr, stdtrit

from journeylab.errors import ContractError
from journeylab.estimate import Estimate, Metric, Moments
from journeylab.experiments.arms import Adjustment, Pair, make_pair
from journeylab.experiments.proportions import Counts, fisher, newcombe, yates
from journeylab.experiments.quantiles import quantile_arms

Alternative = Literal["two-sided", "greater", "less"]
Relative = Literal["log ratio", "linear delta"]
Test = Literal["auto", "welch", "student", "z", "fisher", "yates"]
# Below so many expected successes or failures in an arm a normal interval is not to be trusted.
_FEWEST_EXPECTED = 5
# A pre-period difference this far out says that the arms were different people to begin with.
_IMBALANCED = 3.29
_ALONE = "a quantile takes customers as independent: the interval is too short"
# Estimates this many standard errors off zero on opposite sides are a flip of sign.
_FLIPPED = 1.0
# Beyond so many degrees of freedom t and normal agree to all digits, and stdtr is less exact.
_NORMAL = 1e12
# exp() of more than this is no relative effect that anybody can read.
_LONGEST = 50.0


@dataclass(frozen=True, slots=True)
class Comparison:
    """One metric of one arm beside the control.

    Where ``reason`` is not empty there was nothing to compare, and the numbers are ``None``.

    Attributes:
        metric, variant, control: What was compared.
        n, n_control: Customers with a value.
        mean, mean_control: The metric's value in either arm, in its unit; adjusted where adjusted.
        absolute: Variant minus control, in the metric's unit.
        relative: The same as a share of the control (0.1: 10 % more); ``None`` with
            ``relative_reason`` where the control is zero or of another sign.
        p: Of the test that the absolute effect is zero (or beyond the margin).
        p_relative: Of the same test on the relative scale.
        standard_error: Of the absolute effect.
        df: Degrees of freedom behind it; infinite for a normal test.
        statistic: Effect over standard error, the margin taken off.
        alternative: ``greater`` and ``less`` are one-sided: their intervals are two-sided at the
            level at which one end is the one-sided bound (0.9 for a test at 0.05).
        margin: Of a non-inferiority test, in the metric's unit: ``greater`` with a margin below
            zero asks whether the effect lies above it.
        method: The test, in words.
        relative_method: How the relative interval was made.
        adjustment: How covariates or strata were used.
        variance_left: Variance of the adjusted over that of the raw effect; 1 without adjustment.
        raw: The comparison without adjustment, where there is one.
        clusters: Whether clusters, not customers, were taken as independent.
        reason: Why there are no numbers; empty otherwise.
        relative_reason: Why there is no relative effect; empty otherwise.
        doubts: What would make a reader doubt the row.
    """

    metric: str
    variant: str
    control: str
    n: int = 0
    n_control: int = 0
    mean: float | None = None
    mean_control: float | None = None
    absolute: Estimate | None = None
    relative: Estimate | None = None
    p: float | None = None
    p_relative: float | None = None
    standard_error: float | None = None
    df: float | None = None
    statistic: float | None = None
    alternative: Alternative = "two-sided"
    margin: float = 0.0
    method: str = ""
    relative_method: str = ""
    adjustment: str = "none"
    variance_left: float = 1.0
    raw: "Comparison | None" = None
    clusters: bool = False
    reason: str = ""
    relative_reason: str = ""
    doubts: tuple[str, ...] = ()


def compare(
    moments: Moments,
    metric: str,
    variant: str,
    control: str,
    *,
    alpha: float = 0.05,
    alternative: Alternative = "two-sided",
    margin: float = 0.0,
    relative_margin: float | None = None,
    relative: Relative = "log ratio",
    test: Test = "auto",
    adjustment: Adjustment | None = None,
) -> Comparison:
    """Compare one arm with the control on one metric.

    Data that allow no comparison (an empty arm, no variation, ...) give a row with a ``reason``,
    never an error, so that the rows of other metrics stand.

    Args:
        moments: Of the test; by cluster where clusters were randomised.
        metric: Name of the metric.
        variant: The arm.
        control: What it is compared with.
        alpha: Error of the first kind; intervals have the level 1 - alpha (one-sided tests:
            1 - 2 alpha).
        alternative: ``greater`` or ``less`` for a one-sided test.
        margin: What the effect is tested against by ``p``, in the metric's unit.
        relative_margin: What it is tested against by ``p_relative``, as a share of the control
            (-0.02: no more than 2 % worse); by default ``margin`` over the control's value.
        relative: ``log ratio`` is safe for a control near zero, ``linear delta`` symmetric.
        test: ``auto``: Welch's t; for a proportion the z test with pooled variance (Fisher's
            where fewer than five successes or failures are expected in an arm).
        adjustment: By default ``cuped`` where the metric has covariates.

    Returns:
        The comparison; the raw one beside an adjusted one.

    Raises:
        ContractError: The metric was not measured, alpha lies outside (0, 0.5), or the test does
            not serve the metric.
    """
    own = moments.metric(metric)
    if not 0 < alpha < 0.5:
        raise ContractError(f"alpha must lie in (0, 0.5); got {alpha}")
    if alternative not in ("two-sided", "greater", "less"):
        raise ContractError(f"there is no alternative {alternative!r}")
    if test in ("z", "fisher", "yates") and own.kind != "proportion":
        raise ContractError(f"{metric}: the test {test} is for proportions, not for a {own.kind}")
    if variant == control:
        raise ContractError(f"{metric}: {variant} cannot be compared with itself")
    asked = _Question(own, variant, control, alpha, alternative, margin, relative, relative_margin)
    clustered = "cluster" in moments.keys
    if own.kind == "path":
        return asked.empty("measured by day: see effect_path")
    if own.kind == "quantile":
        pair = quantile_arms(moments.values[metric], own, variant, control)
        row = asked.answer(pair, "order statistics", inf)
        return replace(row, doubts=(*moments.doubts, *((_ALONE,) if clustered else ())))
    raw = _raw(moments, asked, test, clustered)
    raw = replace(raw, doubts=moments.doubts) if moments.doubts else raw
    chosen = adjustment or ("cuped" if own.covariates else "none")
    if chosen == "none" or raw.reason:
        return raw
    pair = make_pair(moments, own, variant, control, chosen)
    if pair.reason:
        return replace(raw, doubts=(*raw.doubts, f"not adjusted: {pair.reason}"))
    units = pair.control.units + pair.treatment.units
    method = "t over clusters" if clustered else "Welch's t"
    adjusted = asked.answer(pair, method, units - 2.0 if clustered else None)
    if adjusted.reason or raw.standard_error is None or adjusted.standard_error is None:
        return replace(raw, doubts=(*raw.doubts, f"not adjusted: {adjusted.reason}"))
    left = (adjusted.standard_error / raw.standard_error) ** 2
    doubts = (*raw.doubts, *pair.doubts, *_health(raw, adjusted, pair, left))
    return replace(
        adjusted, adjustment=chosen, variance_left=left, raw=raw, clusters=clustered, doubts=doubts
    )


def compare_all(
    moments: Moments,
    control: str,
    *,
    metrics: Sequence[str] | None = None,
    alpha: float = 0.05,
    relative: Relative = "log ratio",
) -> list[Comparison]:
    """Every metric of every arm but the control, in the order of metrics."""
    known = [m.name for m in moments.metrics if m.kind != "path"]
    names = known if metrics is None else list(metrics)
    arms = [name for name in moments.variants if name != control]
    return [
        compare(moments, name, arm, control, alpha=alpha, relative=relative)
        for name in names
        for arm in arms
    ]


@dataclass(frozen=True, slots=True)
class _Question:
    """What is asked of two arms."""

    metric: Metric
    variant: str
    control: str
    alpha: float
    alternative: Alternative
    margin: float
    relative: Relative
    relative_margin: float | None

    def empty(self, reason: str, pair: Pair | None = None) -> Comparison:
        """A row that says why it is empty."""
        n = (pair.treatment.n, pair.control.n) if pair else (0, 0)
        return Comparison(
            self.metric.name, self.variant, self.control, *n,
            alternative=self.alternative, margin=self.margin, reason=reason,
        )  # fmt: skip

    def answer(
        self, pair: Pair, method: str, df: float | None = None, *, pooled: bool = False
    ) -> Comparison:
        """The row of two arms: t with Welch's degrees of freedom, or those given."""
        if pair.reason:
            return self.empty(pair.reason)
        treatment, control = pair.treatment, pair.control
        error, freedom = _error(pair, 1.0, 1.0, df, pooled)
        if not isfinite(error) or not isfinite(treatment.value - control.value):
            return self.empty("values too large to be compared", pair)
        if not error > 0:
            return self.empty("no variation in either arm", pair)
        effect = treatment.value - control.value
        statistic = (effect - self.margin) / error
        share, p_share, why = self._relative(pair, df, pooled)
        return Comparison(
            self.metric.name, self.variant, self.control, treatment.n, control.n,
            treatment.value, control.value,
            self._interval(effect, error, freedom), share, self.p_of(statistic, freedom), p_share,
            error, freedom, statistic, self.alternative, self.margin,
            method, self.relative if share else "", relative_reason=why,
        )  # fmt: skip

    def level(self) -> float:
        """Of the two-sided interval whose ends are the test's bounds."""
        return 1 - self.alpha * (1 if self.alternative == "two-sided" else 2)

    def p_of(self, statistic: float, df: float) -> float:
        """Chance of a statistic at least this far out under the null."""
        if self.alternative == "greater":
            return _below(-statistic, df)
        if self.alternative == "less":
            return _below(statistic, df)
        return min(2 * _below(-abs(statistic), df), 1.0)

    def _interval(self, effect: float, error: float, df: float) -> Estimate:
        reach = _quantile((1 + self.level()) / 2, df) * error
        unit = self.metric.unit or self.metric.name
        return Estimate(effect, effect - reach, effect + reach, unit, self.level())

    def _relative(
        self, pair: Pair, df: float | None, pooled: bool
    ) -> tuple[Estimate | None, float | None, str]:
        """Relative effect with its interval and p, or why there is none."""
        top, base = pair.treatment.value, pair.control.value
        if base <= 0:
            return None, None, f"the control is {'zero' if base == 0 else 'below zero'}"
        level, unit = self.level(), "of the control"
        allowed = self.margin / base if self.relative_margin is None else self.relative_margin
        if self.relative == "linear delta":
            share = top / base - 1
            error, _ = _error(pair, 1 / base, top / base**2, df, pooled)
            _, freedom = _error(pair, 1.0, 1.0, df, pooled)
            reach = _quantile((1 + level) / 2, freedom) * error
            estimate = Estimate(share, share - reach, share + reach, unit, level)
            return estimate, self.p_of((share - allowed) / error, freedom), ""
        if top <= 0 or allowed <= -1:
            return None, None, "a log ratio needs values above zero"
        error, freedom = _error(pair, 1 / top, 1 / base, df, pooled)
        reach = _quantile((1 + level) / 2, freedom) * error
        if reach > _LONGEST:
            return None, None, "too close to zero for a relative effect"
        ratio = top / base
        estimate = Estimate(ratio - 1, ratio * exp(-reach) - 1, ratio * exp(reach) - 1, unit, level)
        statistic = (log(ratio) - log1p(allowed)) / error
        return estimate, self.p_of(statistic, freedom), ""


def _error(
    pair: Pair, top_scale: float, base_scale: float, df: float | None, pooled: bool
) -> tuple[float, float]:
    """Standard error of the difference of two scaled arms, and its degrees of freedom."""
    top, base = pair.treatment, pair.control
    variances = top.variance * top_scale**2, base.variance * base_scale**2
    if pooled:
        freedom = top.units + base.units - 2.0
        common = sum(
            variance * arm.units * (arm.units - 1)
            for variance, arm in zip(variances, (top, base), strict=True)
        )
        common /= freedom
        return sqrt(common / top.units + common / base.units), freedom
    total = sum(variances)
    if df is None:
        # In shares of the sum: the square of a variance may be no double.
        shares = [variance / total for variance in variances] if total > 0 else [0.0, 0.0]
        below = shares[0] ** 2 / top.df + shares[1] ** 2 / base.df
        df = 1 / below if below > 0 else inf
    return sqrt(total), df


def _raw(moments: Moments, asked: _Question, test: Test, clustered: bool) -> Comparison:
    """The comparison without adjustment."""
    metric = asked.metric
    pair = make_pair(moments, metric, asked.variant, asked.control)
    if pair.reason:
        return asked.empty(pair.reason)
    if clustered:
        # G - 2: with few clusters a normal or Welch test rejects too often.
        units = pair.control.units + pair.treatment.units
        row = asked.answer(pair, "t over clusters", units - 2.0)
        return replace(row, clusters=True)
    if test == "student":
        return asked.answer(pair, "Student's pooled t", pooled=True)
    if metric.kind != "proportion" or test == "welch":
        name = "Welch's t, delta method" if metric.kind == "ratio" else "Welch's t"
        return asked.answer(pair, name)
    return _share_test(pair, asked, test)


def _share_test(pair: Pair, asked: _Question, test: Test) -> Comparison:
    """The z test of two shares, or an exact one where counts are small."""
    counts = Counts.of(pair.treatment, pair.control)
    if test == "auto":
        small = counts.fewest_expected() < _FEWEST_EXPECTED and asked.margin == 0
        test = "fisher" if small else "z"
    if test != "z" and asked.margin:
        raise ContractError(f"{asked.metric.name}: {test} knows no margin; use z or welch")
    if test == "z":
        row = asked.answer(pair, "z, pooled", inf)
        if row.reason or asked.margin:
            return row if row.reason else replace(row, method="z, unpooled")
        statistic = counts.pooled_z()
        return replace(row, statistic=statistic, p=asked.p_of(statistic, inf))
    row = asked.answer(pair, test, inf)
    low, high = newcombe(counts, asked.level())
    effect = counts.effect
    unit = asked.metric.unit or asked.metric.name
    interval = Estimate(effect, min(low, effect), max(high, effect), unit, asked.level())
    p = fisher(counts, asked.alternative) if test == "fisher" else yates(counts, asked.alternative)
    name = "Fisher's exact test" if test == "fisher" else "chi-square with Yates' correction"
    if row.reason:
        # No variation at all, 0 of n against 0 of m: an interval of the difference there is.
        row = Comparison(
            row.metric, row.variant, row.control, row.n, row.n_control,
            pair.treatment.value, pair.control.value, relative_reason="no variation in either arm",
            standard_error=None, alternative=asked.alternative,
        )  # fmt: skip
    return replace(row, absolute=interval, p=p, statistic=None, df=None, method=name)


def _health(raw: Comparison, adjusted: Comparison, pair: Pair, left: float) -> list[str]:
    """What speaks against an adjusted row."""
    doubts = []
    for name, z in pair.imbalance:
        if abs(z) > _IMBALANCED:
            doubts.append(f"arms differed in {name} before the test (z = {z:.1f})")
    zs = [row.statistic or 0.0 for row in (raw, adjusted)]
    if zs[0] * zs[1] < 0 and min(map(abs, zs)) > _FLIPPED:
        doubts.append("the adjustment turned the sign of the effect")
    if left > 1.05:
        doubts.append(f"the adjustment made the variance {left:.2f} times as large")
    return doubts


def _quantile(probability: float, df: float) -> float:
    return float(stdtrit(df, probability)) if df < _NORMAL else float(ndtri(probability))


def _below(statistic: float, df: float) -> float:
    return float(stdtr(df, statistic)) if df < _NORMAL else float(ndtr(statistic))
