"""Arms: what one variant came to, its variance, and how covariates shrink it."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from journeylab.errors import ContractError
from journeylab.estimate import Metric, Moments, Sample

Floats = NDArray[np.float64]
Adjustment = Literal["none", "cuped", "cuped within arms", "lin", "strata", "cuped in strata"]
CUSTOMERS = "customers in the cluster"


@dataclass(frozen=True, slots=True)
class Arm:
    """A metric's value in one arm, and how sure it is.

    Attributes:
        value: Mean, share or ratio, in the metric's unit.
        variance: Of that value (a squared standard error).
        df: Degrees of freedom of the variance.
        n: Customers with a value.
        units: What was randomised: customers, or clusters.
    """

    value: float
    variance: float
    df: float
    n: int
    units: int


@dataclass(frozen=True, slots=True)
class Pair:
    """Two arms to be compared, and what the adjustment did.

    Attributes:
        control, treatment: The arms.
        adjustment: How they were adjusted; ``none`` where they are raw.
        weights: Covariate -> its coefficient, in units of the metric per unit of the covariate.
        imbalance: Covariate -> z score of its difference between the arms.
        reason: Why there is nothing to compare; empty otherwise.
        doubts: What a reader should know of the adjustment.
    """

    control: Arm
    treatment: Arm
    adjustment: Adjustment = "none"
    weights: tuple[tuple[str, float], ...] = ()
    imbalance: tuple[tuple[str, float], ...] = ()
    reason: str = ""
    doubts: tuple[str, ...] = ()


_NONE = Arm(np.nan, np.nan, np.nan, 0, 0)


def make_pair(
    moments: Moments, metric: Metric, variant: str, control: str, adjustment: Adjustment = "none"
) -> Pair:
    """Two arms of a metric, raw or adjusted.

    Args:
        moments: By cluster where clusters were randomised: then customers of one cluster are not
            taken as independent, and the variance is that of a ratio of cluster totals.
        metric: A mean, proportion or ratio.
        variant: The arm to compare.
        control: The arm to compare with.
        adjustment: ``cuped``: one coefficient from both arms together, as tea-tasting has it.
            ``cuped within arms``: from the variation within the arms. ``lin``: a coefficient of
            its own for each arm. ``strata``: post-stratified means. ``cuped in strata``: both.

    Raises:
        ContractError: The adjustment has no covariates, or no strata, to work with.

    Source:
        Deng, Xu, Kohavi & Walker, "Improving the Sensitivity of Online Controlled Experiments by
        Utilizing Pre-Experiment Data" (2013); Deng, Knoblich & Lu, "Applying the Delta Method in
        Metric Analytics" (2018); Lin, "Agnostic notes on regression adjustments to experimental
        data" (2013); Miratrix, Sekhon & Yu, "Adjusting treatment effect estimates by
        post-stratification" (2013).
    """
    if adjustment in ("strata", "cuped in strata"):
        return _stratified(moments, metric, variant, control, adjustment)
    if adjustment != "none" and not metric.covariates:
        raise ContractError(f"{metric.name}: {adjustment} needs a covariate")
    samples = [_sample(moments, metric, name) for name in (control, variant)]
    reason = _too_few(moments, metric, samples, (control, variant))
    if reason:
        return Pair(_NONE, _NONE, adjustment, reason=reason)
    clustered = "cluster" in moments.keys
    counts = [sample.n for sample in samples]
    if clustered:
        counts = [_customers(moments, metric, name) for name in (control, variant)]
    forms = _forms(metric, clustered)
    if adjustment == "none":
        arms = [_plain(s, forms[0], metric, n) for s, n in zip(samples, counts, strict=True)]
        return Pair(arms[0], arms[1])
    return _adjusted(samples, forms, metric, counts, adjustment)


def arm_means(
    moments: Moments, metric: str, variant: str, columns: Sequence[str]
) -> tuple[int, Floats, Floats]:
    """Means per customer of some columns of a metric in one arm, with their covariance.

    Returns:
        What was randomised (customers or clusters), means ``(columns,)`` and the covariance
        matrix of these means ``(columns, columns)``.
    """
    sample = _sample(moments, moments.metric(metric), variant)
    k = len(columns)
    if sample.n < 2:
        return sample.n, np.zeros(k), np.zeros((k, k))
    below = CUSTOMERS if "cluster" in moments.keys else ""
    forms = [(name, below) for name in columns]
    gradient = np.array([_gradient(sample, form) for form in forms])
    mean = np.array([_value(sample, form) for form in forms])
    return sample.n, mean, gradient @ sample.covariance @ gradient.T / sample.n


def _sample(moments: Moments, metric: Metric, variant: str) -> Sample:
    """Moments over customers; over clusters' totals, with their size as the last column."""
    if "cluster" not in moments.keys:
        return moments.sample(metric.name, variant)
    sizes, totals = moments.totals(metric.name, variant)
    matrix = np.column_stack([totals, sizes])
    columns = (*moments.block(metric.name).columns, CUSTOMERS)
    if not len(matrix):
        p = len(columns)
        return Sample(0, columns, np.zeros(p), np.zeros((p, p)))
    mean = matrix.mean(axis=0)
    return Sample(len(matrix), columns, mean, (matrix - mean).T @ (matrix - mean))


def _customers(moments: Moments, metric: Metric, variant: str) -> int:
    own = moments.cells["variant"].to_numpy() == variant
    return int(moments.block(metric.name).n[own].sum())


def _too_few(
    moments: Moments, metric: Metric, samples: list[Sample], names: tuple[str, str]
) -> str:
    what = "clusters" if "cluster" in moments.keys else "customers"
    for sample, name in zip(samples, names, strict=True):
        if sample.n == 0:
            return f"{name}: nobody with a value"
        if sample.n == 1:
            return f"{name}: one of {what} only, so that nothing is known of their variation"
        if metric.kind == "ratio" and sample.at(metric.columns).mean[1] == 0:
            return f"{name}: {metric.per} is zero for everybody"
    return ""


def _forms(metric: Metric, clustered: bool) -> list[tuple[str, str]]:
    """What is divided by what: the metric, then each covariate; empty below: by nothing."""
    below = CUSTOMERS if clustered else ""
    own = (metric.of, metric.per) if metric.kind == "ratio" else (metric.of, below)
    covariates = [
        (names[0], names[1]) if len(names) == 2 else (names[0], below)
        for names in metric.covariate_columns
    ]
    return [own, *covariates]


def _value(sample: Sample, form: tuple[str, str]) -> float:
    over = sample.mean[sample.columns.index(form[1])] if form[1] else 1.0
    return float(sample.mean[sample.columns.index(form[0])] / over)


def _gradient(sample: Sample, form: tuple[str, str]) -> Floats:
    """How the value of a form moves with the column means, ``(columns,)``."""
    gradient = np.zeros(len(sample.columns))
    above = sample.columns.index(form[0])
    if not form[1]:
        gradient[above] = 1.0
        return gradient
    below = sample.columns.index(form[1])
    over = sample.mean[below]
    gradient[above] += 1 / over
    gradient[below] -= sample.mean[above] / over / over
    return gradient


def _plain(sample: Sample, form: tuple[str, str], metric: Metric, n: int) -> Arm:
    gradient = _gradient(sample, form)
    variance = float(gradient @ sample.covariance @ gradient)
    if metric.kind == "proportion" and not form[1]:
        # p (1 - p), the variance of a share, is the one that the z test and its interval know.
        variance *= (sample.n - 1) / sample.n
    return Arm(_value(sample, form), max(variance, 0.0) / sample.n, sample.n - 1, n, sample.n)


def _adjusted(
    samples: list[Sample],
    forms: list[tuple[str, str]],
    metric: Metric,
    counts: list[int],
    adjustment: Adjustment,
) -> Pair:
    whole = samples[0] + samples[1]
    names = [_name(covariate) for covariate in metric.covariates]
    doubts: list[str] = []
    usable = []
    for form, name in zip(forms[1:], names, strict=True):
        if form[1] and any(s.mean[s.columns.index(form[1])] == 0 for s in samples):
            doubts.append(f"{name} has nothing below the line and was not used")
        else:
            usable.append((form, name))
    forms, names = [forms[0], *(form for form, _ in usable)], [name for _, name in usable]
    linear = np.array([_gradient(whole, form) for form in forms])
    if adjustment == "cuped":
        spread = linear @ whole.covariance @ linear.T
    else:
        spread = linear @ ((samples[0].cross + samples[1].cross) / (whole.n - 2)) @ linear.T
    flat = np.diag(spread)[1:] <= 1e-14 * np.maximum([_value(whole, f) ** 2 for f in forms[1:]], 0)
    doubts += [
        f"{name} does not vary and was not used" for name, f in zip(names, flat, strict=True) if f
    ]
    coefficients = []
    for sample in samples:
        own = spread
        if adjustment == "lin":
            mine = np.array([_gradient(sample, form) for form in forms])
            own = mine @ sample.covariance @ mine.T
        coefficients.append(_coefficients(own, flat))
    arms = []
    for sample, theta, n in zip(samples, coefficients, counts, strict=True):
        gradient = np.array([_gradient(sample, form) for form in forms])
        weights = np.concatenate([[1.0], -theta]) @ gradient
        gaps = [_value(sample, form) - _value(whole, form) for form in forms[1:]]
        value = _value(sample, forms[0]) - float(np.dot(theta, gaps))
        variance = max(float(weights @ sample.covariance @ weights), 0.0)
        df = sample.n - 1.0
        if adjustment == "lin":
            # Residuals of a regression within the arm: one degree of freedom per coefficient.
            df = max(sample.n - 1.0 - int((~flat).sum()), 1.0)
            variance *= (sample.n - 1) / df
        arms.append(Arm(value, variance / sample.n, df, n, sample.n))
    weights_of = tuple((k, float(v)) for k, v in zip(names, coefficients[1], strict=True))
    imbalance = tuple(
        (name, _imbalance(samples, form)) for form, name in zip(forms[1:], names, strict=True)
    )
    return Pair(arms[0], arms[1], adjustment, weights_of, imbalance, "", tuple(doubts))


def _coefficients(spread: Floats, flat: NDArray[np.bool_]) -> Floats:
    """Regression of the metric on its covariates; those that do not vary get 0."""
    theta = np.zeros(len(flat))
    if (~flat).any():
        scale = np.sqrt(np.diag(spread)[1:][~flat])
        inner = spread[1:, 1:][np.ix_(~flat, ~flat)] / np.outer(scale, scale)
        along = spread[0, 1:][~flat] / scale
        # Least squares serve covariates that repeat each other, too.
        theta[~flat] = np.linalg.lstsq(inner, along, rcond=1e-10)[0] / scale
    return theta


def _imbalance(samples: list[Sample], form: tuple[str, str]) -> float:
    variance = 0.0
    for sample in samples:
        gradient = _gradient(sample, form)
        variance += float(gradient @ sample.covariance @ gradient) / sample.n
    gap = _value(samples[1], form) - _value(samples[0], form)
    return float(gap / np.sqrt(variance)) if variance > 0 else 0.0


def _stratified(
    moments: Moments, metric: Metric, variant: str, control: str, adjustment: Adjustment
) -> Pair:
    """Means of the strata, weighted by how many customers of both arms each has."""
    if "stratum" not in moments.keys:
        raise ContractError(f"{metric.name}: post-stratification needs moments by stratum")
    if metric.kind == "ratio":
        return Pair(_NONE, _NONE, adjustment, reason="ratios are not post-stratified")
    inner: Adjustment = "none"
    if adjustment == "cuped in strata":
        inner = "cuped within arms"
    parts: Mapping[Hashable, Moments] = moments.only(variants=[control, variant]).by("stratum")
    pairs = {name: make_pair(part, metric, variant, control, inner) for name, part in parts.items()}
    sizes = {
        name: sum(_customers(part, metric, arm) for arm in (control, variant))
        for name, part in parts.items()
    }
    if thin := [str(name) for name, pair in pairs.items() if pair.reason and sizes[name]]:
        reason = f"stratum {', '.join(thin)} has no two customers in every arm"
        return Pair(_NONE, _NONE, adjustment, reason=reason)
    there = [name for name in parts if sizes[name]]
    if not there:
        return Pair(_NONE, _NONE, adjustment, reason="nobody with a value")
    total = sum(sizes[name] for name in there)
    arms = []
    for side in ("control", "treatment"):
        own: list[Arm] = [getattr(pairs[name], side) for name in there]
        weights = np.array([sizes[name] / total for name in there])
        errors = np.array([arm.variance for arm in own]) * weights**2
        df = np.array([arm.df for arm in own])
        variance = float(errors.sum())
        # Satterthwaite's, of a sum of independent variances.
        freedom = variance**2 / float((errors**2 / df).sum()) if variance > 0 else df.sum()
        value = float(weights @ [arm.value for arm in own])
        n, units = sum(arm.n for arm in own), sum(arm.units for arm in own)
        arms.append(Arm(value, variance, float(freedom), n, units))
    return Pair(arms[0], arms[1], adjustment)


def _name(covariate: str | tuple[str, str]) -> str:
    return covariate if isinstance(covariate, str) else " / ".join(covariate)
