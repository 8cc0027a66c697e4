"""Effect paths: how an effect goes on after the exposure, and whether it wears off."""

from dataclasses import dataclass
from math import sqrt

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

from journeylab.errors import ContractError
from journeylab.estimate import Estimate, Moments
from journeylab.experiments.arms import arm_means

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class EffectPath:
    """An effect over the days since the exposure.

    Attributes:
        daily: ``day`` (0: that of the exposure), ``effect, ci_low, ci_high`` per customer and day.
        cumulative: The same, summed from day 0 on.
        slope: Change of the daily effect per day; below zero with a positive effect: it wears off.
        p: Of no change, two-sided.
        reason: Why there is no path; empty otherwise, and the rest ``None`` or empty otherwise.
    """

    daily: pd.DataFrame
    cumulative: pd.DataFrame
    slope: Estimate | None
    p: float | None
    reason: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Switchback:
    """A test in which the same unit switches between the arms over time.

    Attributes:
        effect: Variant minus control, mean of the pairs; ``None`` with a reason.
        p: Of the paired t test, two-sided.
        p_flips: By flipping the signs of the pairs: exact up to twelve pairs, drawn beyond.
        pairs: Pairs used.
        dropped: Pairs that had not one period of each arm.
        reason: Why there is no effect; empty otherwise.
    """

    effect: Estimate | None
    p: float | None
    p_flips: float | None
    pairs: int
    dropped: int
    reason: str = ""


_COLUMNS = ["day", "effect", "ci_low", "ci_high"]


def effect_path(
    moments: Moments, metric: str, variant: str, control: str, *, level: float = 0.95
) -> EffectPath:
    """Daily and cumulative effect of a metric measured ``Metric.by_day``.

    All customers count on all days, so that a day's effect is a difference of means; days of one
    customer go together, which the intervals of sums and of the slope take into account.

    Args:
        moments: With the metric by day; by cluster where clusters were randomised.
        metric: Name of the metric by day.
        variant: The arm.
        control: What it is compared with.
        level: Of each interval on its own.

    Raises:
        ContractError: The metric was not measured, or has no days.
    """
    days = moments.metric(metric).own_columns
    if moments.metric(metric).kind != "path":
        raise ContractError(f"{metric} was not measured by day; use Metric.by_day")
    means, covariances, freedom = [], [], 0.0
    for name in (control, variant):
        n, mean, covariance = arm_means(moments, metric, name, days)
        if n < 2:
            reason = f"{name}: {n} customers or clusters with a value"
            return EffectPath(_frame([]), _frame([]), None, None, reason)
        means.append(mean)
        covariances.append(covariance)
        freedom += n - 1
    gap, spread = means[1] - means[0], covariances[0] + covariances[1]
    if not np.diag(spread).any():
        reason = "no variation in either arm"
        return EffectPath(_frame([]), _frame([]), None, None, reason)
    sums = np.tril(np.ones((len(days), len(days))))
    reach = float(stdtrit(freedom, (1 + level) / 2))
    frames = []
    for weights in (np.eye(len(days)), sums):
        effect = weights @ gap
        error = np.sqrt(np.maximum(np.einsum("ij,jk,ik->i", weights, spread, weights), 0))
        rows = zip(
            range(len(days)), effect, effect - reach * error, effect + reach * error, strict=True
        )
        frames.append(_frame(list(rows)))
    centred = np.arange(len(days)) - (len(days) - 1) / 2
    weight = centred / (centred @ centred)
    value, error = float(weight @ gap), sqrt(max(float(weight @ spread @ weight), 0.0))
    if not error > 0:
        return EffectPath(frames[0], frames[1], None, None, "no variation over days")
    unit = f"{moments.metric(metric).unit or metric} per day"
    slope = Estimate(value, value - reach * error, value + reach * error, unit, level)
    p = float(2 * stdtr(freedom, -abs(value / error)))
    return EffectPath(frames[0], frames[1], slope, p)


def switchback(
    frame: pd.DataFrame,
    variant: str,
    control: str,
    *,
    unit: str = "",
    rng: int | np.random.Generator = 0,
    draws: int = 10_000,
    level: float = 0.95,
) -> Switchback:
    """Paired test of a switchback: the two periods of a pair share place and season.

    Args:
        frame: One row per period: ``pair``, ``variant``, ``value`` (say revenue per hour). Rows
            without a finite value are not used; leave out the time right after a switch if one
            arm's effect may linger.
        variant: The arm.
        control: What it is compared with.
        unit: Of the value.
        rng: Seed or generator of the drawn flips.
        draws: Flips, beyond twelve pairs.
        level: Of the interval.

    Raises:
        ContractError: A column is missing.
    """
    if absent := sorted({"pair", "variant", "value"} - set(frame.columns)):
        raise ContractError(f"the frame has no column {', '.join(absent)}")
    rows = frame[frame["variant"].isin([variant, control])]
    rows = rows[np.isfinite(pd.to_numeric(rows["value"]).to_numpy(float))]
    wide = rows.pivot_table("value", "pair", "variant", "mean")
    wide = wide.reindex(columns=[control, variant])
    whole = wide.dropna()
    dropped = int(frame["pair"].nunique() - len(whole))
    gaps = (whole[variant] - whole[control]).to_numpy(float)
    if len(gaps) < 2:
        reason = f"{len(gaps)} pairs with a period of each arm"
        return Switchback(None, None, None, len(gaps), dropped, reason)
    mean, error = float(gaps.mean()), float(gaps.std(ddof=1)) / sqrt(len(gaps))
    if not error > 0:
        reason = "no variation between pairs"
        return Switchback(None, None, None, len(gaps), dropped, reason)
    df = len(gaps) - 1
    reach = float(stdtrit(df, (1 + level) / 2)) * error
    effect = Estimate(mean, mean - reach, mean + reach, unit or "value", level)
    p = float(2 * stdtr(df, -abs(mean / error)))
    return Switchback(effect, p, _flipped(gaps, rng, draws), len(gaps), dropped)


def _flipped(gaps: Floats, rng: int | np.random.Generator, draws: int) -> float:
    if len(gaps) <= _EXACT_PAIRS:
        bits = (np.arange(2 ** len(gaps))[:, None] >> np.arange(len(gaps))) & 1
        drawn = np.abs((1 - 2 * bits) @ gaps)
        return float((drawn >= abs(gaps.sum()) * (1 - 1e-12)).mean())
    signs = np.random.default_rng(rng).choice([-1.0, 1.0], (draws, len(gaps)))
    hits = int((np.abs(signs @ gaps) >= abs(gaps.sum()) * (1 - 1e-12)).sum())
    return (hits + 1) / (draws + 1)


_EXACT_PAIRS = 12


def _frame(rows: list[tuple[float, ...]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=_COLUMNS)
