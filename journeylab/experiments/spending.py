"""How the error of a test is spent over its looks."""

from collections.abc import Sequence
from math import e, expm1
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from journeylab.errors import ContractError

Floats = NDArray[np.float64]
Spending = Literal["obrien_fleming", "pocock", "power", "hwang_shih_decani"]
SPENDINGS: tuple[Spending, ...] = ("obrien_fleming", "pocock", "power", "hwang_shih_decani")


def information_times(times: Sequence[float]) -> Floats:
    """The times as an array, once they are found to be in order.

    Raises:
        ContractError: None at all, not finite, not increasing, or outside (0, 1].
    """
    given = np.asarray(times, dtype=float).ravel()
    if given.size == 0:
        raise ContractError("a sequential test needs one look or more; got no information times")
    if not np.isfinite(given).all() or given[0] <= 0 or given[-1] > 1 + 1e-12:
        raise ContractError(f"information times must lie in (0, 1]; got {given.tolist()}")
    if (np.diff(given) <= 0).any():
        raise ContractError(f"information times must increase; got {given.tolist()}")
    return np.asarray(np.minimum(given, 1.0), dtype=float)


def spent(
    times: Sequence[float], alpha: float, spending: Spending, parameter: float | None = None
) -> Floats:
    """Error spent by each information time, on one side.

    Args:
        times: Information times in (0, 1], increasing.
        alpha: Error spent in all by time 1 (0-1).
        spending: ``obrien_fleming``: ``2 - 2 Phi(z(alpha / 2) / sqrt(t))``; ``pocock``:
            ``alpha log(1 + (e - 1) t)``; ``power``: ``alpha t^parameter``; ``hwang_shih_decani``:
            ``alpha (1 - exp(-parameter t)) / (1 - exp(-parameter))``.
        parameter: Of the last two: the power, above 0 (3 by default), or gamma (-4 by default;
            -4 is near O'Brien-Fleming, 1 near Pocock).

    Returns:
        Cumulative error, one number per time.

    Source:
        Lan & DeMets, Biometrika 70 (1983); Kim & DeMets, Biometrika 74 (1987); Hwang, Shih &
        DeCani, Statistics in Medicine 9 (1990).
    """
    t = information_times(times)
    if not 0 < alpha < 1:
        raise ContractError(f"alpha must lie in (0, 1); got {alpha}")
    if spending == "obrien_fleming":
        return np.asarray(2 * ndtr(ndtri(alpha / 2) / np.sqrt(t)), dtype=float)
    if spending == "pocock":
        return np.asarray(alpha * np.log1p((e - 1) * t), dtype=float)
    if spending == "power":
        rho = 3.0 if parameter is None else parameter
        if not 0 < rho < np.inf:
            raise ContractError(f"the power of a spending function must be above 0; got {rho}")
        return np.asarray(alpha * t**rho, dtype=float)
    if spending == "hwang_shih_decani":
        gamma = -4.0 if parameter is None else parameter
        if not np.isfinite(gamma) or abs(gamma) > 500:
            raise ContractError(f"gamma must lie in [-500, 500]; got {gamma}")
        if gamma == 0:
            return np.asarray(alpha * t, dtype=float)
        return np.asarray(alpha * np.expm1(-gamma * t) / expm1(-gamma), dtype=float)
    raise ContractError(f"spending must be one of {', '.join(SPENDINGS)}; got {spending!r}")
