"""Quantiles and ranks: effects on the whole distribution, from how many have each value."""

from dataclasses import dataclass
from math import inf, nan, sqrt

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from journeylab.errors import ContractError
from journeylab.estimate import Estimate, Metric
from journeylab.experiments.arms import Arm, Pair

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
# Of the order statistics between which the standard error is read.
_READ_AT = 0.95


@dataclass(frozen=True, slots=True)
class Ranks:
    """Mann and Whitney's test of two arms.

    Attributes:
        win: Chance that a customer of the variant has more than one of the control, ties
            counting half, with its interval.
        u: Mann-Whitney's U of the variant.
        p: Two-sided, with the tie correction and without one for continuity.
        reason: Why there is no test; empty otherwise, and ``None`` for the rest otherwise.
    """

    win: Estimate | None
    u: float | None
    p: float | None
    reason: str = ""


def quantile_arms(values: pd.DataFrame, metric: Metric, variant: str, control: str) -> Pair:
    """The metric's quantile in two arms, with the variance that order statistics give.

    The standard error is the distance of the order statistics that bound the quantile with 95 %,
    over twice 1.96: no density needs to be estimated.

    Args:
        values: ``variant, value, customers``.
        metric: A quantile metric.
        variant: The arm to compare.
        control: The arm to compare with.

    Source:
        Woodruff, "Confidence intervals for medians and other position measures" (1952).
    """
    if metric.q is None:
        raise ContractError(f"{metric.name} is no quantile")
    arms = []
    for name in (control, variant):
        seen, customers = _seen(values, name)
        n = int(customers.sum())
        if not n:
            return Pair(_NONE, _NONE, reason=f"{name}: nobody with a value")
        z = float(ndtri((1 + _READ_AT) / 2))
        reach = z * sqrt(metric.q * (1 - metric.q) / n)
        if metric.q - reach <= 0 or metric.q + reach >= 1:
            reason = f"{name}: {n} customers are too few for the quantile {metric.q:g}"
            return Pair(_NONE, _NONE, reason=reason)
        low, middle, high = (
            quantile_of(seen, customers, at)
            for at in (metric.q - reach, metric.q, metric.q + reach)
        )
        arms.append(Arm(middle, ((high - low) / (2 * z)) ** 2, inf, n, n))
    return Pair(arms[0], arms[1])


_NONE = Arm(nan, nan, nan, 0, 0)


def quantile_of(values: Floats, customers: Ints, at: float) -> float:
    """Quantile ``at`` (0-1) of distinct rising values, linear between order statistics."""
    reached = np.cumsum(customers)
    place = at * (reached[-1] - 1)
    low = int(np.floor(place))
    ends = values[np.searchsorted(reached, [low, min(low + 1, reached[-1] - 1)], side="right")]
    return float(ends[0] + (ends[1] - ends[0]) * (place - low))


def quantile_effects(
    values: pd.DataFrame,
    variant: str,
    control: str,
    *,
    at: tuple[float, ...] = (0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99),
    level: float = 0.95,
) -> pd.DataFrame:
    """Difference of the arms' quantiles.

    Args:
        values: ``variant, value, customers``.
        variant: The arm.
        control: The arm to compare with.
        at: Quantiles (0-1).
        level: Of each interval on its own.

    Returns:
        ``quantile, control, treatment, effect, ci_low, ci_high, reason``; empty cells where there
        is a reason.
    """
    rows = []
    z = float(ndtri((1 + level) / 2))
    for q in at:
        pair = quantile_arms(values, Metric.quantile("value", "value", q), variant, control)
        row: dict[str, object] = {"quantile": q, "reason": pair.reason}
        if not pair.reason:
            effect = pair.treatment.value - pair.control.value
            error = sqrt(pair.treatment.variance + pair.control.variance)
            row |= {"control": pair.control.value, "treatment": pair.treatment.value}
            row |= {"effect": effect, "ci_low": effect - z * error, "ci_high": effect + z * error}
        rows.append(row)
    columns = ["quantile", "control", "treatment", "effect", "ci_low", "ci_high", "reason"]
    return pd.DataFrame(rows, columns=columns)


def distribution_gap(
    values: pd.DataFrame, variant: str, control: str, *, level: float = 0.95
) -> pd.DataFrame:
    """How many more customers of the variant have at most each value.

    Returns:
        ``value``; ``control``, ``treatment``: shares with at most that value; ``gap`` with
        ``ci_low, ci_high``, each on its own (the band as a whole holds less often).
    """
    parts = {name: _seen(values, name) for name in (control, variant)}
    grid = np.unique(np.concatenate([seen for seen, _ in parts.values()]))
    shares, errors = [], 0.0
    for seen, customers in parts.values():
        n = customers.sum()
        if not n:
            raise ContractError("a gap of distributions needs customers in both arms")
        reached = np.concatenate([[0], np.cumsum(customers)])
        share = reached[np.searchsorted(seen, grid, side="right")] / n
        shares.append(share)
        errors = errors + share * (1 - share) / n
    reach = float(ndtri((1 + level) / 2)) * np.sqrt(errors)
    gap = shares[1] - shares[0]
    return pd.DataFrame(
        {
            "value": grid,
            "control": shares[0],
            "treatment": shares[1],
            "gap": gap,
            "ci_low": gap - reach,
            "ci_high": gap + reach,
        }
    )


def compare_ranks(
    values: pd.DataFrame, variant: str, control: str, *, level: float = 0.95
) -> Ranks:
    """Mann and Whitney's test, exact in its handling of ties, from counts of values.

    It asks whether customers of one arm tend to have more, not whether the mean is larger: on
    revenue the two can disagree.

    Args:
        values: ``variant, value, customers``.
        variant: The arm.
        control: The arm to compare with.
        level: Of the interval of ``win``.

    Source:
        Mann & Whitney (1947); interval by DeLong, DeLong & Clarke-Pearson (1988).
    """
    (seen, own), (base_seen, base) = _seen(values, variant), _seen(values, control)
    n, m = int(own.sum()), int(base.sum())
    if n < 2 or m < 2:
        return Ranks(None, None, None, "fewer than two customers with a value in an arm")
    grid = np.unique(np.concatenate([seen, base_seen]))
    a, b = np.zeros(len(grid)), np.zeros(len(grid))
    a[np.searchsorted(grid, seen)] = own
    b[np.searchsorted(grid, base_seen)] = base
    # For each value: the share of the other arm that lies below it, ties half.
    above_b = (np.cumsum(b) - b / 2) / m
    below_a = 1 - (np.cumsum(a) - a / 2) / n
    win = float(a @ above_b) / n
    ties = a + b
    total = n + m
    variance = n * m / 12 * (total + 1 - float((ties**3 - ties).sum()) / (total * (total - 1)))
    if variance <= 0:
        return Ranks(None, None, None, "everybody has the same value")
    u = win * n * m
    z = (u - n * m / 2) / sqrt(variance)
    spread = float(a @ (above_b - win) ** 2) / (n - 1) / n
    spread += float(b @ (below_a - win) ** 2) / (m - 1) / m
    reach = float(ndtri((1 + level) / 2)) * sqrt(spread)
    estimate = Estimate(win, max(win - reach, 0.0), min(win + reach, 1.0), "share of pairs", level)
    return Ranks(estimate, u, float(2 * ndtr(-abs(z))))


def _seen(values: pd.DataFrame, variant: str) -> tuple[Floats, Ints]:
    own = values["variant"].to_numpy() == variant
    seen = values["value"].to_numpy(float)[own]
    order = np.argsort(seen, kind="stable")
    return seen[order], values["customers"].to_numpy(np.int64)[own][order]
