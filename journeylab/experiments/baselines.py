"""What history says of a metric: the numbers that a design stands on."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from journeylab.errors import ContractError, FitError
from journeylab.estimate import Block, Metric, Moments
from journeylab.experiments.power import Baseline

Floats = NDArray[np.float64]


def baseline(moments: Moments, metric: str, *, adjusted: bool = True) -> Baseline:
    """A metric as it was before the test.

    Args:
        moments: Of the past (e.g. of ``frames.rehearsed``), without effect: all arms are taken
            together. Split by cluster where clusters will be randomised.
        metric: Its name; a quantile has no design.
        adjusted: Whether the intraclass correlation is that of the adjusted metric.

    Returns:
        Mean, standard deviation (of a ratio: of its linear form), multiple correlation with the
        covariates, intraclass correlation and sizes of clusters.

    Raises:
        FitError: Fewer than three customers, no variance, or a ratio whose denominator is zero.
    """
    one = moments.metric(metric)
    if one.kind != "mean" and one.kind != "proportion" and one.kind != "ratio":
        raise FitError(f"{metric}: there is no design for a {one.kind}")
    block = moments.block(metric)
    whole = block.sample(np.ones(len(block.n), dtype=bool))
    if whole.n < 3:
        raise FitError(f"{metric}: a baseline needs three customers or more; got {whole.n}")
    mean, outcome = _linear(one, whole.columns, whole.mean)
    covariance = whole.covariance
    variance = float(outcome @ covariance @ outcome)
    if not variance > 0:
        raise FitError(f"{metric}: it does not vary over {whole.n} customers")
    covariates = _covariates(one, whole.columns, whole.mean)
    theta, correlation = _adjustment(covariance, outcome, covariates, variance)
    icc, size, cv = 0.0, 1.0, 0.0
    if "cluster" in moments.keys:
        weights = outcome - theta @ covariates if adjusted and len(covariates) else outcome
        icc, size, cv = _within_clusters(moments, block, weights)
    return Baseline(
        metric,
        one.kind,
        mean,
        float(np.sqrt(variance)),
        one.unit,
        whole.n,
        correlation,
        icc,
        size,
        cv,
    )


def baseline_table(moments: Moments, metrics: Sequence[str] | None = None) -> pd.DataFrame:
    """One row per metric: what a design needs to know, and why it cannot where it cannot.

    Returns:
        ``metric, customers, mean, sd, unit, correlation`` (with the time before),
        ``variance_kept`` (share that adjustment leaves), ``icc, cluster_size, cluster_cv,
        design_effect``, ``reason`` (empty, or why there is no baseline; then the numbers are
        missing).
    """
    names = list(metrics) if metrics is not None else [one.name for one in moments.metrics]
    rows: list[dict[str, object]] = []
    for name in names:
        try:
            one = baseline(moments, name)
        except (ContractError, FitError) as error:
            rows.append({"metric": name, "reason": str(error)})
            continue
        rows.append(
            {
                "metric": name,
                "customers": one.customers,
                "mean": one.mean,
                "sd": one.sd,
                "unit": one.unit,
                "correlation": one.correlation,
                "variance_kept": one.kept_variance,
                "icc": one.icc,
                "cluster_size": one.cluster_size,
                "cluster_cv": one.cluster_cv,
                "design_effect": one.design_effect,
                "reason": "",
            }
        )
    columns = "metric customers mean sd unit correlation variance_kept icc cluster_size cluster_cv"
    return pd.DataFrame(rows, columns=[*columns.split(), "design_effect", "reason"])


def baseline_views(known: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """A baseline table in tables narrow enough to read, their columns in words.

    Args:
        known: From ``baseline_table``.

    Returns:
        ``baselines``: level, spread and what the time before explains; ``clusters``: how alike
        and how uneven clusters are, without rows where no clusters were looked at; ``no_baseline``:
        ``metric, reason``.
    """
    told = known[known["reason"] == ""]
    words = {"sd": "standard_deviation", "correlation": "correlation_with_before"}
    grouped = {"icc": "intraclass_correlation", "cluster_size": "customers_per_cluster",
               "cluster_cv": "variation_of_sizes"}  # fmt: skip
    first = ["metric", "customers", "mean", "sd", "unit", "correlation", "variance_kept"]
    clusters = told[told["cluster_size"].astype(float) > 1]
    return {
        "baselines": told[first].rename(columns=words).reset_index(drop=True),
        "clusters": clusters[["metric", *grouped, "design_effect"]]
        .rename(columns=grouped)
        .reset_index(drop=True),
        "no_baseline": known.loc[known["reason"] != "", ["metric", "reason"]].reset_index(
            drop=True
        ),
    }


def _linear(metric: Metric, columns: tuple[str, ...], mean: Floats) -> tuple[float, Floats]:
    """The metric's value, and the weights of the columns in its linear form."""
    weights = np.zeros(len(columns))
    at = columns.index(metric.of)
    if metric.kind != "ratio":
        weights[at] = 1.0
        return float(mean[at]), weights
    return _ratio(metric.name, columns, mean, metric.of, metric.per)


def _ratio(
    name: str, columns: tuple[str, ...], mean: Floats, of: str, per: str
) -> tuple[float, Floats]:
    top, below = columns.index(of), columns.index(per)
    if mean[below] == 0:
        raise FitError(f"{name}: the sum of {per} is zero, so there is no ratio")
    value = float(mean[top] / mean[below])
    weights = np.zeros(len(columns))
    weights[top] += 1 / mean[below]
    weights[below] -= value / mean[below]
    return value, weights


def _covariates(metric: Metric, columns: tuple[str, ...], mean: Floats) -> Floats:
    """Weights of the columns in each covariate, ``(covariates, columns)``."""
    rows = []
    for names in metric.covariate_columns:
        if len(names) == 1:
            row = np.zeros(len(columns))
            row[columns.index(names[0])] = 1.0
        elif mean[columns.index(names[1])] == 0:
            continue
        else:
            _, row = _ratio(metric.name, columns, mean, names[0], names[1])
        rows.append(row)
    return np.array(rows, dtype=float).reshape(len(rows), len(columns))


def _adjustment(
    covariance: Floats, outcome: Floats, covariates: Floats, variance: float
) -> tuple[Floats, float]:
    """Coefficients of the covariates, and their multiple correlation with the outcome."""
    if not len(covariates):
        return np.zeros(0), 0.0
    spread = covariates @ covariance @ covariates.T
    shared = covariates @ covariance @ outcome
    theta = np.linalg.pinv(spread, rcond=1e-10, hermitian=True) @ shared
    explained = float(shared @ theta) / variance
    return theta, float(np.sqrt(np.clip(explained, 0.0, 1 - 1e-9)))


def _within_clusters(moments: Moments, block: Block, weights: Floats) -> tuple[float, float, float]:
    """Intraclass correlation by analysis of variance, mean size and its coefficient of variation.

    Source:
        Donner & Klar, "Design and Analysis of Cluster Randomization Trials" (2000), chapter 1.
    """
    codes, names = pd.factorize(moments.cells["cluster"])
    grouped = block.grouped(codes.astype(np.int64), len(names))
    there = grouped.n > 0
    n = grouped.n[there].astype(float)
    k, total = len(n), n.sum()
    size, cv = float(n.mean()), float(n.std() / n.mean())
    if k < 3 or total <= k:
        raise FitError(f"clusters cannot be told from customers: {k} clusters of {total:.0f}")
    means = grouped.mean[there] @ weights
    inside = float(np.einsum("i,kij,j->", weights, grouped.cross[there], weights)) / (total - k)
    centre = float(n @ means) / total
    between = float(n @ (means - centre) ** 2) / (k - 1)
    typical = (total - float(n @ n) / total) / (k - 1)
    icc = (between - inside) / (between + (typical - 1) * inside)
    return float(np.clip(icc, -0.99, 1.0)), max(size, 1.0), cv
