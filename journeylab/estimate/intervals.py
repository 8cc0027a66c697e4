"""A number with its uncertainty."""

from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite

import numpy as np
from numpy.typing import ArrayLike, NDArray

from journeylab.errors import ContractError

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """One number, its confidence interval and its unit.

    Attributes:
        value: The point estimate, in ``unit``.
        ci_low, ci_high: Ends of the interval, in ``unit``; ``ci_low <= value <= ci_high``.
        unit: What is counted, e.g. ``"purchases"``, ``"USD"`` or ``"share"`` (0-1).
        level: Coverage the interval aims at (0-1).
    """

    value: float
    ci_low: float
    ci_high: float
    unit: str
    level: float = 0.95

    def __post_init__(self) -> None:
        if not all(map(isfinite, (self.value, self.ci_low, self.ci_high))):
            raise ContractError(
                f"an estimate must be finite; got {self.value} ({self.ci_low} to {self.ci_high})"
            )
        if not self.ci_low <= self.value <= self.ci_high:
            raise ContractError(
                f"{self.value} lies outside its own interval {self.ci_low} to {self.ci_high}"
            )
        if not 0 < self.level < 1:
            raise ContractError(f"level must lie in (0, 1); got {self.level}")


def from_draws(value: float, draws: ArrayLike, unit: str, level: float = 0.95) -> Estimate:
    """A point estimate with the percentile interval of its draws.

    Where every draw lies on one side of the value (a biased statistic, few draws), the interval
    is widened to hold it.

    Args:
        value: The point estimate, in ``unit``.
        draws: What it might have been, one number per draw.
        unit: Of both.
        level: Coverage (0-1).
    """
    drawn = np.asarray(draws, dtype=float)
    if drawn.size == 0:
        raise ContractError("an interval needs one draw or more; got none")
    tails = [(1 - level) / 2, (1 + level) / 2]
    low, high = np.quantile(drawn, tails).tolist() if 0 < level < 1 else (value, value)
    return Estimate(value, min(low, value), max(high, value), unit, level)


def mean_estimate(values: ArrayLike, unit: str, level: float = 0.95) -> Estimate:
    """Mean of independent values with Student's interval.

    Args:
        values: Two or more finite numbers, one per customer.
        unit: Of the values.
        level: Coverage (0-1).
    """
    from scipy.stats import t

    sample = np.asarray(values, dtype=float)
    if sample.size < 2 or not np.isfinite(sample).all():
        raise ContractError(
            f"a mean with an interval needs two finite values or more; got {sample.size}, of which "
            f"{int((~np.isfinite(sample)).sum())} are not finite"
        )
    mean = float(sample.mean())
    margin = float(t.ppf((1 + level) / 2, sample.size - 1) * sample.std(ddof=1)) / sample.size**0.5
    return Estimate(mean, mean - margin, mean + margin, unit, level)


def resampled(
    rows: ArrayLike,
    statistic: Callable[[Floats], ArrayLike],
    rng: int | np.random.Generator,
    draws: int = 1000,
) -> Floats:
    """A statistic over customers drawn again with replacement.

    Args:
        rows: One row per customer, ``(customers,)`` or ``(customers, columns)``; a customer's
            columns stay together, so that differences between them are paired.
        statistic: Rows of a resample -> one number or a vector of them.
        rng: Seed or generator.
        draws: Resamples.

    Returns:
        ``(draws,)`` or ``(draws, numbers)``.
    """
    values = np.asarray(rows, dtype=float)
    if len(values) == 0 or draws < 1:
        raise ContractError(
            f"a bootstrap needs customers and draws; got {len(values)} customers, {draws} draws"
        )
    generator = np.random.default_rng(rng)
    picks = (generator.integers(0, len(values), len(values)) for _ in range(draws))
    return np.array([statistic(values[pick]) for pick in picks], dtype=float)


def bootstrap(
    rows: ArrayLike,
    statistic: Callable[[Floats], ArrayLike],
    unit: str,
    rng: int | np.random.Generator,
    *,
    draws: int = 1000,
    level: float = 0.95,
) -> Estimate:
    """One statistic with its percentile bootstrap interval over customers.

    Args:
        rows: One row per customer, as for ``resampled``.
        statistic: Rows -> one number.
        unit: Of that number.
        rng: Seed or generator.
        draws: Resamples.
        level: Coverage (0-1).

    Source:
        Efron & Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 13.
    """
    drawn = resampled(rows, statistic, rng, draws)
    value = float(np.asarray(statistic(np.asarray(rows, dtype=float))))
    return from_draws(value, drawn, unit, level)
