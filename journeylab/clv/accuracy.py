"""Accuracy of forecasts where most outcomes are zero and a few are large."""

import numpy as np

from journeylab.clv.histories import Floats
from journeylab.errors import ContractError

# Between Poisson (1) and gamma (2): a point mass at zero and a heavy tail.
POWER = 1.5
# A forecast of nothing for somebody who buys is infinitely wrong by the deviance. Every forecast
# counts as this share of the mean outcome at least, rules of thumb and models alike.
FLOOR = 0.05


def tweedie_deviance(actual: Floats, forecast: Floats, power: float = POWER) -> Floats:
    """Tweedie deviance of each forecast; 0 where it is right.

    Args:
        actual: Outcomes, 0 or more.
        forecast: Above 0.
        power: Of the variance in the mean, above 1 and below 2.

    Source:
        Jørgensen, "The Theory of Dispersion Models" (1997), chapter 4.
    """
    if not 1 < power < 2:
        raise ContractError(f"power must lie between 1 and 2; got {power}")
    saturated = actual ** (2 - power) / ((1 - power) * (2 - power))
    fitted = -actual * forecast ** (1 - power) / (1 - power) + forecast ** (2 - power) / (2 - power)
    return np.asarray(2 * (saturated + fitted))


def floored(forecast: Floats, actual: Floats) -> Floats:
    """Forecasts raised to ``FLOOR`` of the mean outcome."""
    return np.maximum(forecast, FLOOR * max(float(actual.mean()), np.finfo(float).tiny))


def gini(actual: Floats, forecast: Floats) -> float:
    """How well a forecast ranks customers: 1 is as the outcome itself ranks them, 0 as chance.

    Args:
        actual: Outcomes, 0 or more.
        forecast: Any; ties share their place.

    Source:
        Frees, Meyers & Cummings, "Summarizing Insurance Scores Using a Gini Index" (2011), with
        equal premiums, over the Gini of the outcome itself.
    """
    best = _area(actual, actual)
    return _area(actual, forecast) / best if best > 0 else 0.0


def _area(actual: Floats, by: Floats) -> float:
    """Twice the area between the diagonal and the curve of ``actual`` ordered by ``by``."""
    _, group = np.unique(by, return_inverse=True)
    held = np.bincount(group, weights=actual)
    size = np.bincount(group).astype(float)
    total = held.sum()
    if total <= 0:
        return 0.0
    value = np.concatenate([[0.0], np.cumsum(held) / total])
    people = np.concatenate([[0.0], np.cumsum(size) / size.sum()])
    return float(1 - (np.diff(people) * (value[1:] + value[:-1])).sum())
