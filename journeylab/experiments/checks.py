"""Checks: whether a test may be read at all."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import gammaln, ndtr, xlogy

from journeylab.errors import ContractError
from journeylab.estimate import (
    Estimate,
    Metric,
    Moments,
    SampleRatio,
    moments_of_frame,
    sample_ratio,
)
from journeylab.experiments.arms import make_pair
from journeylab.experiments.comparison import compare
from journeylab.experiments.multiplicity import adjust
from journeylab.experiments.proportions import wilson

GATE = 0.001
"""A sample ratio this unlikely stops the readout."""
ALARM = 0.01
"""Slices and pre-period differences below this, after Holm, are shown as findings."""
# Prior weight of the designed shares, in customers: a mismatch of a percent or so is found soonest.
_CONCENTRATION = 10_000.0


@dataclass(frozen=True, slots=True)
class Health:
    """What the checks of a test found.

    Attributes:
        ratio: The sample ratio over all customers; ``None`` where an arm is empty.
        stop: Why the test must not be read; empty where it may.
        anytime_p: The sample ratio's p that holds however often one looks; ``None`` without days.
        days: Sample ratio by day of exposure: ``day``, customers of each arm, ``p, p_holm``.
        segments: The same by ``stratum``.
        balance: ``metric, covariate, variant, z, p, p_holm``: what differed before the test.
        missing: ``metric, variant, customers, missing, share, p``: who has no value, and whether
            the arms differ in it (the same p in every row of a metric).
        left_out: ``reason, variant, customers``: who was assigned and is not counted.
        findings: What a reader should know, in words, the gravest first.
    """

    ratio: SampleRatio | None
    stop: str
    anytime_p: float | None
    days: pd.DataFrame
    segments: pd.DataFrame
    balance: pd.DataFrame
    missing: pd.DataFrame
    left_out: pd.DataFrame
    findings: tuple[str, ...]


def check_health(
    moments: Moments, shares: Mapping[str, float], control: str, *, gate: float = GATE
) -> Health:
    """Sample ratio as a gate; days, segments, balance and missing values as diagnosis.

    One p for the whole test decides, against a strict limit. Slices are many: they are corrected
    by Holm, and do not stop a test.

    Args:
        moments: Of the test, by ``day`` and ``stratum`` where those are to be checked. By cluster,
            the ratio is that of clusters.
        shares: Arm -> its designed share, weights that need not add up to 1.
        control: The arm the others are compared with.
        gate: p below which the readout stops.

    Raises:
        ContractError: Shares that are not positive, or of fewer than two arms.

    Source:
        Fabijan et al., "Diagnosing Sample Ratio Mismatch in Online Controlled Experiments"
        (KDD 2019).
    """
    if len(shares) < 2 or not all(0 < share < inf for share in shares.values()):
        raise ContractError(f"shares must give two arms or more a positive weight; got {shares}")
    if control not in shares:
        raise ContractError(f"the control {control!r} has no share; there are {list(shares)}")
    findings: list[str] = []
    counts = _units(moments)
    ratio, stop = None, ""
    if strangers := sorted(set(counts) - set(shares)):
        stop = f"variants that the plan does not know: {', '.join(strangers)}"
    elif empty := [arm for arm in shares if not counts.get(arm)]:
        stop = f"nobody in {', '.join(empty)}"
    else:
        ratio = sample_ratio({arm: counts[arm] for arm in shares}, shares)
        what = "clusters" if "cluster" in moments.keys else "customers"
        if ratio.p < gate:
            stop = f"the {what} are not split as designed (p = {ratio.p:.2g})"
        elif ratio.p < ALARM:
            findings.append(f"the split of {what} is unlikely (p = {ratio.p:.4f}), not impossible")
    days = _slices(moments, shares, "day")
    segments = _slices(moments, shares, "stratum")
    for frame, word in ((days, "days"), (segments, "segments")):
        low = int((frame["p_holm"] < ALARM).sum()) if len(frame) else 0
        if low:
            findings.append(f"{low} of {len(frame)} {word} are not split as designed")
    balance = _balance(moments, control)
    for row in balance[balance["p_holm"] < ALARM].to_dict("records"):
        findings.append(f"{row['variant']} differed in {row['covariate']} before the test")
    missing = _missing(moments)
    for name, p in missing.drop_duplicates("metric")[["metric", "p"]].itertuples(index=False):
        if p < GATE:
            findings.append(f"{name}: the arms differ in who has no value (p = {p:.2g})")
    findings += list(moments.doubts)
    lost = moments.left_out
    for reason in dict.fromkeys(lost["reason"]):
        if not str(reason).endswith(": no value"):
            n = int(lost.loc[lost["reason"] == reason, "customers"].sum())
            findings.append(f"{n:,} customers are not counted: {reason}")
    if stop:
        findings.insert(0, stop)
    anytime = None
    if len(days) and not stop.startswith(("variants", "nobody")):
        path = anytime_ratio(days[list(shares)].to_numpy(float), list(shares.values()))
        anytime = float(path[-1])
    return Health(
        ratio, stop, anytime, days, segments, balance, missing, lost, tuple(findings)
    )  # fmt: skip


def anytime_ratio(
    counts: NDArray[np.float64], shares: list[float], *, concentration: float = _CONCENTRATION
) -> NDArray[np.float64]:
    """Sample-ratio p that may be read at every look without inflating the alarm rate.

    Args:
        counts: New customers of each arm at each look, ``(looks, arms)``.
        shares: The arms' designed weights.
        concentration: Weight of the Dirichlet prior around the design, in customers.

    Returns:
        p at each look, ``(looks,)``, never rising: the chance that it ever falls below alpha
        while the design is kept is at most alpha.

    Source:
        Lindon & Malek, "Anytime-Valid Inference for Multinomial Count Data" (NeurIPS 2022).
    """
    weights = np.asarray(shares, float)
    if counts.ndim != 2 or counts.shape[1] != len(weights) or (counts < 0).any():
        raise ContractError(
            f"counts must be (looks, {len(weights)}) and zero or more; got {counts.shape}"
        )
    if not (weights > 0).all() or concentration <= 0:
        raise ContractError(f"shares must be positive; got {shares}")
    weights = weights / weights.sum()
    prior, seen = concentration * weights, np.cumsum(counts, axis=0)
    total = seen.sum(axis=1)
    evidence = gammaln(concentration) - gammaln(concentration + total)
    evidence += (gammaln(prior + seen) - gammaln(prior)).sum(axis=1)
    evidence -= xlogy(seen, weights).sum(axis=1)
    return np.exp(-np.maximum(np.maximum.accumulate(evidence), 0.0))


def calibrate(
    frame: pd.DataFrame,
    metric: Metric,
    rng: int | np.random.Generator,
    *,
    cluster: str | None = None,
    analysed_by: str = "cluster",
    draws: int = 500,
    alpha: float = 0.05,
) -> "Calibration":
    """A/A tests on real customers: how often the readout finds an effect where there is none.

    Args:
        frame: One row per customer with the metric's columns.
        metric: A mean, proportion or ratio.
        rng: Seed or generator of the draws.
        cluster: Column to randomise by; customers without it.
        analysed_by: ``cluster`` or ``customer``: the second shows what ignoring clusters does.
        draws: A/A tests.
        alpha: Error that is aimed at.

    Raises:
        ContractError: A column is missing, or too few customers.
    """
    from scipy.stats import kstest

    if draws < 20 or len(frame) < 4:
        raise ContractError(
            f"calibration needs 4 customers and 20 draws; got {len(frame)} and {draws}"
        )
    generator = np.random.default_rng(rng)
    by_cluster = cluster is not None and analysed_by == "cluster"
    units = np.arange(len(frame)) if cluster is None else pd.factorize(frame[cluster])[0]
    base = frame[list(metric.columns)].assign(
        variant="A", cluster="" if cluster is None else frame[cluster].astype(str)
    )
    if metric.cap is not None and metric.cap_at is None:
        metric = moments_of_frame(base, [metric]).metrics[0]
    found = []
    for _ in range(draws):
        arm = generator.integers(0, 2, int(units.max()) + 1)[units]
        drawn = moments_of_frame(
            base.assign(variant=np.where(arm == 1, "B", "A")),
            [metric],
            cluster="cluster" if by_cluster else None,
        )
        row = compare(drawn, metric.name, "B", "A", alpha=alpha)
        if row.p is not None:
            found.append(row.p)
    if not found:
        raise ContractError(f"{metric.name}: no A/A test could be read; does it vary?")
    p = np.sort(np.array(found))
    hits, n = int((p < alpha).sum()), len(p)
    low, high = wilson(hits, n)
    return Calibration(
        metric.name, p, Estimate(hits / n, low, high, "share of A/A tests"),
        float(kstest(p, "uniform").pvalue), alpha,
    )  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """What A/A tests came to.

    Attributes:
        metric: Its name.
        p: Of each A/A test, rising.
        false_alarms: Share of them below alpha, with Wilson's interval.
        uniform_p: Kolmogorov and Smirnov's chance of p values this uneven if all is well.
        alpha: What was aimed at.
    """

    metric: str
    p: NDArray[np.float64]
    false_alarms: Estimate
    uniform_p: float
    alpha: float


def _units(moments: Moments) -> dict[str, int]:
    """What was randomised, by variant: clusters where there are any, else customers."""
    if "cluster" not in moments.keys:
        return moments.counts()
    pairs = moments.cells[["variant", "cluster"]].drop_duplicates()
    return {str(name): int(n) for name, n in pairs["variant"].value_counts().items()}


def _slices(moments: Moments, shares: Mapping[str, float], key: str) -> pd.DataFrame:
    columns = [key, *shares, "p", "p_holm"]
    if key not in moments.keys:
        return pd.DataFrame(columns=columns)
    table = moments.table(key)
    wide = table.pivot_table("customers", key, "variant", "sum", fill_value=0)
    wide = wide.reindex(columns=list(shares), fill_value=0)
    p = [
        sample_ratio({arm: int(row[arm]) for arm in shares}, shares).p if sum(row.values()) else 1.0
        for row in wide.to_dict("records")
    ]
    # By cluster the customers of a day or segment are not independent draws of the design.
    if "cluster" in moments.keys:
        p = [1.0] * len(p)
    frame = wide.reset_index().assign(p=p, p_holm=adjust(p, "holm") if p else [])
    frame.columns.name = None
    return frame[columns]


def _balance(moments: Moments, control: str) -> pd.DataFrame:
    rows = []
    for metric in moments.metrics:
        if not metric.covariates:
            continue
        for variant in moments.variants:
            if variant == control or control not in moments.variants:
                continue
            pair = make_pair(moments, metric, variant, control, "cuped")
            rows += [
                (metric.name, name, variant, z, float(2 * ndtr(-abs(z))))
                for name, z in pair.imbalance
            ]
    frame = pd.DataFrame(rows, columns=["metric", "covariate", "variant", "z", "p"])
    return frame.assign(p_holm=adjust(frame["p"].to_numpy(float), "holm") if len(frame) else [])


def _missing(moments: Moments) -> pd.DataFrame:
    from scipy.stats import chi2_contingency

    rows = []
    customers = moments.counts()
    for metric in moments.metrics:
        lost = moments.missing(metric.name)
        table = np.array([[lost[arm], customers[arm] - lost[arm]] for arm in customers])
        p = 1.0
        if len(table) > 1 and (table.sum(axis=0) > 0).all() and (table.sum(axis=1) > 0).all():
            p = float(chi2_contingency(table)[1])
        rows += [
            (metric.name, arm, customers[arm], lost[arm], lost[arm] / max(customers[arm], 1), p)
            for arm in customers
        ]
    return pd.DataFrame(rows, columns=["metric", "variant", "customers", "missing", "share", "p"])
