"""How many customers a test needs, and what it can find with those it gets.

A metric enters as its :class:`Baseline`: mean and standard deviation of one unit, how well the time
before predicts it, and how alike units of one cluster are. Everything else is one formula: the
variance of a difference of two means, times what adjustment takes off and clusters add.
"""

from dataclasses import dataclass, replace
from math import ceil, inf, isfinite, sqrt
from typing import Literal

import numpy as np
from scipy.optimize import brentq
from scipy.special import gammaln, ndtr
from scipy.stats import norm
from scipy.stats import t as student

from journeylab.errors import ContractError

Sides = Literal[1, 2]
Kind = Literal["mean", "proportion", "ratio"]

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(300)


@dataclass(frozen=True, slots=True)
class Baseline:
    """What is known of a metric before the test, from history.

    Attributes:
        name: Of the metric.
        kind: ``mean``, ``proportion`` or ``ratio``. A ratio comes with the standard deviation of
            its linear form, ``(y - R x) / mean(x)``.
        mean: Mean of a unit; the rate of a proportion (0-1); the ratio.
        sd: Standard deviation of a unit.
        unit: Of the mean.
        customers: Units this rests on; 0 where it was only guessed.
        correlation: With the adjustment from the time before (-1 to 1); ``1 - correlation^2`` of
            the variance stays. 0 without adjustment.
        icc: Intraclass correlation within clusters; 0 where units are randomised one by one.
        cluster_size: Mean units per cluster; 1 without clusters.
        cluster_cv: Standard deviation of cluster sizes over their mean.
    """

    name: str
    kind: Kind
    mean: float
    sd: float
    unit: str = ""
    customers: int = 0
    correlation: float = 0.0
    icc: float = 0.0
    cluster_size: float = 1.0
    cluster_cv: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in ("mean", "proportion", "ratio"):
            raise ContractError(f"{self.name}: there is no design for a {self.kind}")
        if not isfinite(self.mean) or not 0 < self.sd < inf:
            raise ContractError(
                f"{self.name}: a design needs a finite mean and an sd above 0; got {self.mean} and "
                f"{self.sd}"
            )
        if self.kind == "proportion" and not 0 < self.mean < 1:
            raise ContractError(f"{self.name}: a rate must lie in (0, 1); got {self.mean}")
        if not -1 < self.correlation < 1 or not -1 < self.icc <= 1:
            raise ContractError(
                f"{self.name}: correlations must lie within -1 and 1; got {self.correlation} with "
                f"the time before, {self.icc} within clusters"
            )
        if not self.cluster_size >= 1 or not 0 <= self.cluster_cv < inf:
            raise ContractError(f"{self.name}: clusters need a mean size of 1 or more")

    @property
    def kept_variance(self) -> float:
        """Share of the variance that adjustment leaves (0-1]."""
        return 1 - self.correlation**2

    @property
    def design_effect(self) -> float:
        """Factor by which clusters raise the variance.

        Source:
            Eldridge, Ashby & Kerry, "Sample size for cluster randomized trials", International
            Journal of Epidemiology 35 (2006): ``1 + ((cv^2 + 1) m - 1) icc``.
        """
        factor = 1 + ((self.cluster_cv**2 + 1) * self.cluster_size - 1) * self.icc
        return max(factor, 1e-6)

    def plain(self) -> "Baseline":
        """The same metric without adjustment."""
        return replace(self, correlation=0.0)

    def by_person(self) -> "Baseline":
        """The same metric as if units were randomised one by one."""
        return replace(self, icc=0.0, cluster_size=1.0, cluster_cv=0.0)

    def effect(self, *, relative: float | None = None, absolute: float | None = None) -> float:
        """An effect in the unit of the mean, given as one or the other.

        Raises:
            ContractError: Both or none given, no effect at all, or a relative one on a mean of 0.
        """
        if (relative is None) == (absolute is None):
            raise ContractError("give the effect either as relative= or as absolute=")
        if relative is not None:
            if self.mean == 0:
                raise ContractError(f"{self.name}: its mean is 0, so no effect is relative to it")
            absolute = relative * abs(self.mean)
        assert absolute is not None
        if not isfinite(absolute):
            raise ContractError(f"{self.name}: an effect must be finite; got {absolute}")
        if self.kind == "proportion" and not 0 < self.mean + absolute < 1:
            raise ContractError(
                f"{self.name}: a rate of {self.mean:.4g} cannot become {self.mean + absolute:.4g}"
            )
        return absolute

    def variances(self, effect: float) -> tuple[float, float]:
        """Variance of one unit in the control and in the treatment, clusters and all."""
        factor = self.kept_variance * self.design_effect
        if self.kind != "proportion":
            return factor * self.sd**2, factor * self.sd**2
        raised = self.mean + effect
        return factor * self.mean * (1 - self.mean), factor * raised * (1 - raised)


@dataclass(frozen=True, slots=True)
class SampleSize:
    """Customers that a test needs.

    Attributes:
        per_arm: Arm -> customers, whole, rounded up.
        exact: Arm -> customers before rounding.
        clusters: Arm -> clusters; empty without clusters.
        effect: The effect it is made for, in the metric's unit.
        power: Chance of finding it, per treatment arm.
        alpha: Error of one comparison.
    """

    per_arm: dict[str, int]
    exact: dict[str, float]
    clusters: dict[str, int]
    effect: float
    power: float
    alpha: float

    @property
    def total(self) -> int:
        """Customers in all arms together."""
        return sum(self.per_arm.values())


def t_power(drift: float, df: float, alpha: float = 0.05, sides: Sides = 2) -> float:
    """Power of a t test, by integration over the estimated standard deviation.

    The noncentral t distribution of other libraries turns to NaN at large non-centrality; this does
    not.

    Args:
        drift: Effect over its true standard error (the non-centrality).
        df: Degrees of freedom, above 0; infinity gives the normal test.
        alpha: Error (0-1).
        sides: 1 (an effect above 0 is looked for) or 2.
    """
    if not isfinite(drift) or not df > 0 or not 0 < alpha < 1:
        raise ContractError(f"t_power needs a finite drift, df > 0, alpha in (0, 1); got {drift}")
    limit = float(student.isf(alpha / sides, df)) if df < 1e9 else float(norm.isf(alpha / sides))
    if df >= 1e7:
        lower = float(ndtr(-limit - drift)) if sides == 2 else 0.0
        return float(ndtr(drift - limit)) + lower
    # s = sqrt(chi^2 / df), with all but 1e-20 of its mass between these ends
    spread = 1 / sqrt(2 * df)
    low, high = max(0.0, 1 - 10 * spread), 1 + 10 * spread + 5 / df
    s = low + (high - low) * (_NODES + 1) / 2
    log_density = (
        np.log(2) + df / 2 * np.log(df / 2) - gammaln(df / 2) + (df - 1) * np.log(s) - df * s**2 / 2
    )
    mass = _WEIGHTS * np.exp(log_density - log_density.max())
    mass /= mass.sum()
    found = ndtr(drift - limit * s)
    if sides == 2:
        found = found + ndtr(-limit * s - drift)
    return float(mass @ found)


def power(
    baseline: Baseline,
    effect: float,
    n_control: float,
    n_treatment: float,
    *,
    alpha: float = 0.05,
    sides: Sides = 2,
    margin: float = 0.0,
    inflation: float = 1.0,
) -> float:
    """Chance of finding an effect with so many customers.

    Args:
        baseline: The metric.
        effect: In its unit; above 0 is better.
        n_control: Customers in the control.
        n_treatment: Customers in the treatment.
        alpha: Error (0-1).
        sides: 1 or 2. A one-sided test looks for effects above ``-margin``.
        margin: Of a non-inferiority test, 0 or more: an effect above ``-margin`` passes.
        inflation: Of a sequential plan (``Boundaries.inflation``): customers over those of a test
            with one look.

    Returns:
        Power (0-1). With clusters the degrees of freedom are their number less 2.
    """
    return _chance(baseline, effect, n_control, n_treatment, alpha, sides, margin, inflation)


def sample_size(
    baseline: Baseline,
    *,
    relative: float | None = None,
    absolute: float | None = None,
    split: dict[str, float] | None = None,
    control: str = "control",
    alpha: float = 0.05,
    power: float = 0.8,
    sides: Sides = 2,
    margin: float = 0.0,
    inflation: float = 1.0,
) -> SampleSize:
    """Customers per arm that find an effect with the power asked for.

    Args:
        baseline: The metric.
        relative: The effect as a share of the mean; or ``absolute``, in its unit.
        absolute: The effect in the metric's unit.
        split: Arm -> weight; two equal arms by default. Every treatment arm gets the power, so the
            smallest one decides.
        control: The arm the others are compared with.
        alpha: Error of one comparison (0-1).
        power: Chance of finding the effect (0-1).
        sides: 1 or 2.
        margin: Of a non-inferiority test (then the effect may be 0).
        inflation: Of a sequential plan.

    Raises:
        ContractError: No effect (and no margin), or weights without the control.
    """
    weights = split or {control: 0.5, "treatment": 0.5}
    if control not in weights or len(weights) < 2 or min(weights.values()) <= 0:
        raise ContractError(f"split must give {control!r} and another arm a weight; got {weights}")
    effect = baseline.effect(relative=relative, absolute=absolute)
    if effect + margin == 0 or (sides == 1 and effect + margin < 0):
        raise ContractError(f"{baseline.name}: there is no effect to look for; got {effect:g}")
    if not alpha < power < 1:
        raise ContractError(f"power must lie in (alpha, 1); got {power}")
    total = sum(weights.values())
    shares = {arm: weight / total for arm, weight in weights.items()}
    least = min(share for arm, share in shares.items() if arm != control)

    def short(log_n: float) -> float:
        n = float(np.exp(log_n))
        return (
            _chance(
                baseline, effect, n * shares[control], n * least, alpha, sides, margin, inflation
            )
            - power
        )

    n = float(np.exp(brentq(short, np.log(2.0), np.log(1e15), xtol=1e-12)))
    exact = {arm: share * n for arm, share in shares.items()}
    whole = {arm: ceil(count - 1e-6) for arm, count in exact.items()}
    size = baseline.cluster_size
    clusters = {arm: ceil(count / size - 1e-9) for arm, count in exact.items()} if size > 1 else {}
    return SampleSize(whole, exact, clusters, effect, power, alpha)


def detectable(
    baseline: Baseline,
    n_control: float,
    n_treatment: float,
    *,
    alpha: float = 0.05,
    power: float = 0.8,
    sides: Sides = 2,
    inflation: float = 1.0,
) -> float:
    """The smallest gain found with the power asked for, in the metric's unit (the MDE).

    Returns:
        Infinity where not even the largest possible effect would be found.
    """
    if min(n_control, n_treatment) <= 0:
        return inf

    def short(effect: float) -> float:
        return (
            _chance(baseline, effect, n_control, n_treatment, alpha, sides, 0.0, inflation) - power
        )

    if baseline.kind == "proportion":
        most = (1 - baseline.mean) * (1 - 1e-9)
    else:
        control, treatment = baseline.variances(0.0)
        error = sqrt(inflation * (control / n_control + treatment / n_treatment))
        most = 5 * error
        while short(most) < 0:  # few degrees of freedom
            most *= 4
    if short(most) < 0:
        return inf
    return float(brentq(short, 0.0, most, xtol=1e-12 * max(most, 1e-300), rtol=1e-12))


def cohen_h_size(
    control: float, treatment: float, *, alpha: float = 0.05, power: float = 0.8, sides: Sides = 2
) -> float:
    """Units per arm to tell two rates apart, by Cohen's arcsine effect size.

    Source:
        Cohen, "Statistical Power Analysis" (1988), chapter 6, as in R's ``pwr.2p.test``.
    """
    if not (0 < control < 1 and 0 < treatment < 1 and control != treatment):
        raise ContractError(f"two different rates in (0, 1), please; got {control}, {treatment}")
    h = abs(2 * np.arcsin(sqrt(treatment)) - 2 * np.arcsin(sqrt(control)))
    limit = float(norm.isf(alpha / sides))

    def short(log_n: float) -> float:
        drift = h * sqrt(np.exp(log_n) / 2)
        lower = float(ndtr(-drift - limit)) if sides == 2 else 0.0
        return float(ndtr(drift - limit)) + lower - power

    return float(np.exp(brentq(short, -10, 60, xtol=1e-13)))


def power_each(power: float, tests: int) -> float:
    """Power each of several tests needs so that all pass with ``power`` together.

    Guardrails are decided by intersection and union: the change ships only if every one passes, so
    none of them needs a smaller alpha, but each a higher power. By Bonferroni's inequality on the
    errors of the second kind.

    Args:
        power: Wanted for all together (0-1).
        tests: The primary metric and the guardrails.
    """
    if tests < 1 or not 0 < power < 1:
        raise ContractError(f"power in (0, 1) and one test or more; got {power} and {tests}")
    return 1 - (1 - power) / tests


def _chance(
    baseline: Baseline,
    effect: float,
    n_control: float,
    n_treatment: float,
    alpha: float,
    sides: Sides,
    margin: float,
    inflation: float,
) -> float:
    if min(n_control, n_treatment) <= 0:
        return 0.0
    control, treatment = baseline.variances(effect)
    error = sqrt(inflation * (control / n_control + treatment / n_treatment))
    gap = effect + margin
    if baseline.cluster_size > 1:
        df = max((n_control + n_treatment) / baseline.cluster_size - 2, 1.0)
        return t_power(gap / error, df, alpha, sides)
    if baseline.kind == "proportion":
        share = n_treatment / (n_control + n_treatment)
        pooled = baseline.mean + share * effect
        if margin:
            null_error = error
        else:
            factor = baseline.kept_variance * baseline.design_effect
            null_error = sqrt(
                inflation * factor * pooled * (1 - pooled) * (1 / n_control + 1 / n_treatment)
            )
        limit = float(norm.isf(alpha / sides)) * null_error
        above = float(ndtr((gap - limit) / error))
        return above + (float(ndtr((-gap - limit) / error)) if sides == 2 else 0.0)
    df = max(n_control + n_treatment - 2, 1.0)
    return t_power(gap / error, df, alpha, sides)
