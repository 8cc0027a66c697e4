"""Surrogates: quick metrics that may stand for slow ones, once past tests have shown it."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.stats import norm

from journeylab.errors import ContractError, FitError
from journeylab.estimate import Estimate

Floats = NDArray[np.float64]
# The jackknife leaves out a tenth of the tests at a time.
_PARTS = 10


@dataclass(frozen=True, slots=True)
class Surrogate:
    """How far a quick metric stands for a slow one, from tests that measured both.

    Attributes:
        slope, intercept: Expected true effect on the target by that on the surrogate.
        residual_sd: Spread of the target's true effects around that line.
        r2: Share of the target's true effects that the surrogate's explain (0-1).
        tests: Past tests.
        slope_error: Jackknife standard error of the slope.
        centre: Mean true effect on the surrogate.
        line_error: Jackknife standard error of the line at the centre.
        valid: Whether it may be used; ``reason`` says why not.
        reason: Empty where it may.
    """

    slope: float
    intercept: float
    residual_sd: float
    r2: float
    tests: int
    slope_error: float
    centre: float
    line_error: float
    valid: bool
    reason: str

    def target(self, value: float, std_error: float, level: float = 0.95) -> Estimate:
        """The target's effect from the surrogate's, with all that is uncertain about it.

        Raises:
            FitError: The surrogate was not validated.
        """
        if not self.valid:
            raise FitError(f"this surrogate may not be used: {self.reason}")
        variance = self.residual_sd**2 + (self.slope * std_error) ** 2 + self.line_error**2
        variance += (self.slope_error * (value - self.centre)) ** 2
        reach = float(norm.ppf((1 + level) / 2)) * sqrt(variance)
        middle = self.intercept + self.slope * value
        return Estimate(middle, middle - reach, middle + reach, "share", level)


def validate_surrogate(past: pd.DataFrame, *, fewest: int = 10, least_r2: float = 0.6) -> Surrogate:
    """Fit how true effects on a surrogate and on its target go together over past tests.

    Estimates of both carry noise, which alone would flatten the slope; the model knows it: true
    effects are bivariate normal, estimates are noisy readings of them.

    Args:
        past: One row per test: ``surrogate, surrogate_error, target, target_error`` and, where
            known, ``error_correlation`` of the two estimates (same customers; 0 without it).
        fewest: Tests below which it may not be used.
        least_r2: Explained share below which it may not be used.

    Raises:
        FitError: Fewer than four tests.

    Source:
        Daniels & Hughes, Statistics in Medicine 16 (1997); Buyse & others, Biostatistics 1 (2000).
    """
    names = ["surrogate", "surrogate_error", "target", "target_error"]
    values = past[names].to_numpy(float)
    correlation = np.zeros(len(past))
    if "error_correlation" in past:
        correlation = past["error_correlation"].to_numpy(float)
    if len(past) < 4:
        raise FitError(f"a surrogate needs four past tests or more; got {len(past)}")
    if not np.isfinite(values).all() or not (values[:, [1, 3]] > 0).all():
        raise ContractError("every past test needs finite effects and errors above 0")
    mean, cov, ended = _bivariate(values, correlation)
    slope, r2, residual = _line(cov)
    line = mean[1] - slope * mean[0]
    n = len(values)
    parts = np.arange(n) % min(n, _PARTS)
    again = []
    for part in range(min(n, _PARTS)):
        kept = parts != part
        m, c, _ = _bivariate(values[kept], correlation[kept], ended)
        b, _, _ = _line(c)
        again.append((b, m[1] + b * (mean[0] - m[0])))
    g = len(again)
    errors = np.sqrt((g - 1) / g * ((again - np.mean(again, axis=0)) ** 2).sum(axis=0))
    reason = ""
    if n < fewest:
        reason = f"{n} past tests; {fewest} are needed"
    elif r2 < least_r2:
        reason = f"it explains {r2:.0%} of the target's effects; {least_r2:.0%} are needed"
    return Surrogate(
        slope, float(line), residual, r2, n, float(errors[0]), float(mean[0]), float(errors[1]),
        not reason, reason,
    )  # fmt: skip


def _line(cov: Floats) -> tuple[float, float, float]:
    slope = float(cov[0, 1] / cov[0, 0])
    explained = float(cov[0, 1] ** 2 / (cov[0, 0] * cov[1, 1]))
    return slope, min(explained, 1.0), sqrt(max(float(cov[1, 1]) * (1 - explained), 0.0))


def _bivariate(
    values: Floats, correlation: Floats, start: Floats | None = None
) -> tuple[Floats, Floats, Floats]:
    """Mean and covariance of true effects by maximum likelihood, and where the search ended."""
    scale = np.array([_scale(values[:, 0], values[:, 1]), _scale(values[:, 2], values[:, 3])])
    x, y = values[:, 0] / scale[0], values[:, 2] / scale[1]
    own, other = values[:, 1] / scale[0], values[:, 3] / scale[1]
    noise = own**2, correlation * own * other, other**2

    def unpacked(parameters: Floats) -> tuple[float, float, float]:
        root, tied, rest = np.exp(parameters[2]), parameters[3], np.exp(parameters[4])
        return float(root**2), float(root * tied), float(tied**2 + rest**2)

    def negative(parameters: Floats) -> tuple[float, Floats]:
        a, b, d = (cov + error for cov, error in zip(unpacked(parameters), noise, strict=True))
        det = a * d - b * b
        u, v = x - parameters[0], y - parameters[1]
        p, q = (d * u - b * v) / det, (a * v - b * u) / det  # the gap over its covariance
        loss = 0.5 * (np.log(det) + p * u + q * v).sum()
        by_a, by_b, by_d = (
            (0.5 * (d / det - p * p)).sum(),
            (-b / det - p * q).sum(),
            (0.5 * (a / det - q * q)).sum(),
        )
        root, tied, rest = np.exp(parameters[2]), parameters[3], np.exp(parameters[4])
        slopes = [
            -p.sum(),
            -q.sum(),
            2 * by_a * root**2 + by_b * root * tied,
            by_b * root + 2 * by_d * tied,
            2 * by_d * rest**2,
        ]
        return float(loss), np.array(slopes, dtype=float)

    begin = np.array([x.mean(), y.mean(), -0.5, 0.3, -1.0]) if start is None else start
    bounds: Sequence[tuple[float, float]] = [(-50, 50), (-50, 50), (-7, 4), (-50, 50), (-7, 4)]
    best = minimize(negative, begin, jac=True, method="L-BFGS-B", bounds=bounds)
    a, b, d = unpacked(best.x)
    cov = np.array([[a, b], [b, d]]) * np.outer(scale, scale)
    return best.x[:2] * scale, cov, best.x


def _scale(effects: Floats, errors: Floats) -> float:
    return max(float(effects.std()), float(errors.mean()))
