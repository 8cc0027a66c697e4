"""Clusters: what a test by group can and cannot tell."""

from dataclasses import dataclass
from math import sqrt
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

from journeylab.errors import ContractError
from journeylab.estimate import Estimate, Moments

Floats = NDArray[np.float64]
Correction = Literal["CR0", "CR1", "CR2"]


@dataclass(frozen=True, slots=True)
class ClusterRobust:
    """A difference of two means with a variance that knows of clusters.

    Attributes:
        effect: Variant minus control per customer, with its interval; ``None`` with a reason.
        p: Two-sided.
        standard_error: By ``correction``.
        df: Bell and McCaffrey's (Satterthwaite) for CR2, clusters less two for the others.
        correction: CR0, CR1 or CR2.
        clusters: Variant -> how many; the control first.
        icc: Share of the metric's variance that lies between clusters, within arms.
        design_effect: Variance of the effect over what independent customers would have.
        reason: Why there are no numbers; empty otherwise.
    """

    effect: Estimate | None
    p: float | None
    standard_error: float | None
    df: float | None
    correction: Correction
    clusters: tuple[int, int]
    icc: float | None = None
    design_effect: float | None = None
    reason: str = ""


def cluster_robust(
    moments: Moments,
    metric: str,
    variant: str,
    control: str,
    *,
    correction: Correction = "CR2",
    level: float = 0.95,
) -> ClusterRobust:
    """Difference of means of a test by cluster, by least squares with a cluster-robust variance.

    For many clusters of similar size the same as ``compare`` on moments by cluster; with few or
    unequal ones CR2 with its own degrees of freedom keeps its level best.

    Args:
        moments: By ``cluster``.
        metric: A mean or proportion.
        variant: The arm.
        control: What it is compared with.
        correction: CR0: none. CR1: G/(G-1) (N-1)/(N-2). CR2: Bell and McCaffrey's.
        level: Of the interval.

    Raises:
        ContractError: Moments not by cluster, or a ratio or quantile.

    Source:
        Bell & McCaffrey, "Bias reduction in standard errors for linear regression with
        multi-stage samples" (2002); Pustejovsky & Tipton, "Small-sample methods for
        cluster-robust variance estimation" (2018).
    """
    own = moments.metric(metric)
    if own.kind not in ("mean", "proportion"):
        raise ContractError(f"{metric}: least squares by cluster serve means and shares")
    if "cluster" not in moments.keys:
        raise ContractError(f"{metric}: these moments are not split by cluster")
    totals = [moments.totals(metric, name) for name in (control, variant)]
    found = (len(totals[0][0]), len(totals[1][0]))
    if min(found) < 2:
        which = (control, variant)[int(np.argmin(found))]
        reason = f"{which}: {min(found)} cluster{'s' if min(found) != 1 else ''} in the arm"
        return ClusterRobust(None, None, None, None, correction, found, reason=reason)
    means, variances, traces, squares = [], [], 0.0, 0.0
    for sizes, sums in totals:
        n, y = sizes.astype(float), sums[:, 0]
        whole = n.sum()
        mean = y.sum() / whole
        share = 1 - n / whole if correction == "CR2" else np.ones(len(n))
        means.append(float(mean))
        variances.append(float(((y - n * mean) ** 2 / share).sum()) / whole**2)
        # The variance as a quadratic form in independent outcomes: its trace and square.
        a = 1 / (whole * np.sqrt(share))
        diagonal = a**2 * (n - n**2 / whole)
        traces += diagonal.sum()
        weights = (a * n) ** 2
        cross = (weights.sum() ** 2 - (weights**2).sum()) / whole**2
        squares += float((diagonal**2).sum() + cross)
    groups, customers = sum(found), sum(int(sizes.sum()) for sizes, _ in totals)
    scale = 1.0
    if correction == "CR1":
        scale = groups / (groups - 1) * (customers - 1) / (customers - 2)
    error = sqrt(sum(variances) * scale)
    if not error > 0:
        reason = "no variation between clusters in either arm"
        return ClusterRobust(None, None, None, None, correction, found, reason=reason)
    df = float(traces**2 / squares) if correction == "CR2" else groups - 2.0
    value = means[1] - means[0]
    reach = float(stdtrit(df, (1 + level) / 2)) * error
    effect = Estimate(value, value - reach, value + reach, own.unit or own.name, level)
    p = float(2 * stdtr(df, -abs(value / error)))
    icc, independent = _icc(moments, metric, (control, variant))
    design = error**2 / independent if independent > 0 else None
    return ClusterRobust(effect, p, error, df, correction, found, icc, design)


def _icc(moments: Moments, metric: str, names: tuple[str, str]) -> tuple[float | None, float]:
    """Intraclass correlation within arms by analysis of variance; naive variance of the effect."""
    between = within = sizes_squared = 0.0
    clusters = customers = 0
    naive = 0.0
    for name in names:
        block = moments.block(metric)
        rows = (moments.cells["variant"].to_numpy() == name) & (block.n > 0)
        n, mean, cross = block.n[rows].astype(float), block.mean[rows, 0], block.cross[rows, 0, 0]
        centre = float(n @ mean / n.sum())
        between += float(n @ (mean - centre) ** 2)
        within += float(cross.sum())
        sizes_squared += float((n**2).sum() / n.sum())
        clusters, customers = clusters + len(n), customers + int(n.sum())
        arm = (float(n @ (mean - centre) ** 2) + float(cross.sum())) / max(n.sum() - 1, 1)
        naive += arm / n.sum()
    if customers <= clusters or clusters <= 2:
        return None, naive
    mean_between, mean_within = between / (clusters - 2), within / (customers - clusters)
    typical = (customers - sizes_squared) / (clusters - 2)
    total = mean_between + (typical - 1) * mean_within
    return (float((mean_between - mean_within) / total) if total > 0 else None), float(naive)
