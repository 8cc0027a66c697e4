"""Intervals that hold at every moment at once, however often somebody looks.

All but the Bernoulli sequence mix a normal likelihood ratio over possible effects; they rest on the
central limit theorem from the first look on, so a first look at a handful of customers is none.

Source:
    Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas, "Time-uniform central limit theory and asymptotic
    confidence sequences", Annals of Statistics 52 (2024); Howard, Ramdas, McAuliffe & Sekhon,
    "Time-uniform, nonparametric, nonasymptotic confidence sequences", Annals of Statistics 49
    (2021); Johari, Koomen, Pekelis & Walsh, "Always valid inference", Operations Research (2022).
"""

from dataclasses import dataclass
from math import exp, inf, isfinite, log, sqrt
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import betaln, log_ndtr

from journeylab.errors import ContractError

Floats = NDArray[np.float64]
Side = Literal["two-sided", "greater", "less"]


@dataclass(frozen=True, slots=True)
class AlwaysValid:
    """An estimate with an interval and a p-value that may be read at any moment.

    Attributes:
        value: The estimate.
        low, high: The interval; one-sided ones end at minus or plus infinity.
        p: Smallest error at which the interval leaves out the null value (0-1]; a sequence of them
            is valid as it stands, and so is its running minimum.
        side: ``two-sided``; ``greater`` bounds from below, ``less`` from above.
    """

    value: float
    low: float
    high: float
    p: float
    side: Side


def mixing_precision(alpha: float, tuning: float, side: Side = "two-sided") -> float:
    """Square of the mixture's ``rho`` that makes the interval narrowest at ``tuning`` units.

    Args:
        alpha: Error in all (0-1).
        tuning: Units (in all arms together) at which the interval should be narrowest.
        side: One-sided intervals are tuned at twice the error.

    Raises:
        ContractError: ``alpha`` outside (0, 1), one-sided (0, 0.5), or ``tuning`` not above 0.
    """
    most = 1.0 if side == "two-sided" else 0.5
    if not 0 < alpha < most:
        raise ContractError(f"alpha must lie in (0, {most:g}); got {alpha}")
    if not 0 < tuning < inf:
        raise ContractError(f"tuning must be above 0 units; got {tuning}")
    level = -2 * log(alpha if side == "two-sided" else 2 * alpha)
    return (level + log(1 + level)) / tuning


def always_valid(
    value: float,
    std_error: float,
    n: float,
    *,
    alpha: float = 0.05,
    tuning: float = 5000,
    side: Side = "two-sided",
    null: float = 0.0,
) -> AlwaysValid:
    """Asymptotic confidence sequence around an estimate, absolute or relative.

    The same boundary, with ``1 / rho^2`` as its parameter, is what others call GAVI; and the mSPRT
    whose mixing variance shrinks with the standard error of one unit.

    Args:
        value: Estimate, e.g. a difference of means or a relative lift.
        std_error: Its standard error, above 0.
        n: Units the estimate rests on, all arms together.
        alpha: Error in all (0-1).
        tuning: Units at which the interval is narrowest; fixed before the first look.
        side: ``greater`` gives a lower bound only, ``less`` an upper one.
        null: Value that ``p`` tests.

    Raises:
        ContractError: A value that is not finite, no units, or a standard error not above 0.
    """
    _sound(value, std_error)
    if not 0 < n < inf:
        raise ContractError(f"a confidence sequence needs units; got n = {n}")
    spread = n * mixing_precision(alpha, tuning, side)  # n rho^2
    margin = std_error * float(_standard_margin(spread, alpha, side))
    z = (value - null) / std_error
    p = float(_always_valid_p(z, spread, side))
    return _interval(value, margin, p, side)


def always_valid_path(
    looks: pd.DataFrame,
    *,
    alpha: float = 0.05,
    tuning: float = 5000,
    side: Side = "two-sided",
    null: float = 0.0,
) -> pd.DataFrame:
    """The confidence sequence along a path of looks.

    Args:
        looks: ``value``, ``std_error``, ``n`` in the order of the looks.
        alpha: As in ``always_valid``, and so the rest.
        tuning: Units at which the interval is narrowest.
        side: Two-sided or one bound.
        null: Value that ``p`` tests.

    Returns:
        ``looks`` with ``low, high, p`` of each look, ``p_running``, the smallest so far, and
        ``kept_low, kept_high``, what all looks so far leave together: it holds as well, and where
        it is empty (low above high) the effect did not stay the same.
    """
    value, error, n = (looks[name].to_numpy(float) for name in ("value", "std_error", "n"))
    if not np.isfinite(value).all() or not ((error > 0) & (n > 0)).all():
        raise ContractError("every look needs a finite value, units and a standard error above 0")
    spread = n * mixing_precision(alpha, tuning, side)
    margin = error * _standard_margin(spread, alpha, side)
    low = np.full_like(value, -inf) if side == "less" else value - margin
    high = np.full_like(value, inf) if side == "greater" else value + margin
    p = _always_valid_p((value - null) / error, spread, side)
    return looks.assign(
        low=low,
        high=high,
        p=p,
        p_running=np.minimum.accumulate(p),
        kept_low=np.maximum.accumulate(low),
        kept_high=np.minimum.accumulate(high),
    )


def msprt(
    value: float,
    std_error: float,
    mixing_sd: float,
    *,
    alpha: float = 0.05,
    side: Side = "two-sided",
    null: float = 0.0,
) -> AlwaysValid:
    """Mixture sequential probability ratio test with a fixed normal mixture over effects.

    Args:
        value: Estimate of the effect.
        std_error: Its standard error, above 0.
        mixing_sd: Standard deviation of effects as one expects them, in the unit of ``value``.
        alpha: Error in all (0-1).
        side: ``greater`` and ``less`` mix over half of the effects.
        null: Value that is tested.

    Raises:
        ContractError: A value that is not finite, or a standard deviation not above 0.
    """
    _sound(value, std_error)
    if not 0 < mixing_sd < inf:
        raise ContractError(f"mixing_sd must be above 0; got {mixing_sd}")
    spread = (mixing_sd / std_error) ** 2
    standard = value - null
    evidence = log_mixture(standard / std_error, spread, side)
    if side == "two-sided":
        margin = std_error * float(_standard_margin(spread, alpha, side))
    else:
        margin = std_error * _exact_one_sided(spread, alpha)
    return _interval(value, margin, _p(evidence), side)


def log_mixture(z: float, spread: float, side: Side = "two-sided") -> float:
    """Logarithm of the mixed likelihood ratio against no effect.

    Args:
        z: Standardised estimate.
        spread: Mixing variance over the estimate's variance.
        side: One-sided mixtures put all weight on one sign.
    """
    shrunk = spread / (1 + spread)
    two_sided = 0.5 * z * z * shrunk - 0.5 * np.log1p(spread)
    if side == "two-sided":
        return float(two_sided)
    signed = z if side == "greater" else -z
    return float(two_sided + log(2) + log_ndtr(signed * sqrt(shrunk)))


def normal_mixture(
    s: float,
    v: float,
    *,
    tuned_at: float,
    alpha: float = 0.05,
    side: Side = "two-sided",
) -> float:
    """Log of Howard and others' normal mixture of a sum ``s`` with intrinsic time ``v``.

    Args:
        s: Sum of centred observations.
        v: Sum of their variances, 0 or more.
        tuned_at: Intrinsic time at which the boundary is lowest.
        alpha: Error at which it is tuned (0-1).
        side: One-sided mixtures put all weight on one sign.
    """
    if not (isfinite(s) and 0 <= v < inf):
        raise ContractError(f"s must be finite and v 0 or more; got {s} and {v}")
    rho = 1 / mixing_precision(alpha, tuned_at, side)
    # z^2 spread / (1 + spread) with z = s / sqrt(v), spread = v / rho, written to allow v = 0
    two_sided = 0.5 * log(rho / (v + rho)) + s * s / (2 * (v + rho))
    if side == "two-sided":
        return two_sided
    signed = s if side == "greater" else -s
    return two_sided + log(2) + float(log_ndtr(signed / sqrt(v + rho)))


def bernoulli_sequence(
    successes: ArrayLike,
    trials: ArrayLike,
    *,
    alpha: float = 0.05,
    prior: tuple[float, float] = (0.5, 0.5),
) -> tuple[Floats, Floats]:
    """Confidence sequence for one proportion, exact at every sample size.

    The proportions at which the beta-binomial mixture has not gained a factor ``1 / alpha`` on the
    binomial likelihood; by Ville's inequality it covers at all times together.

    Args:
        successes: Count by each look, ``(looks,)`` or a number.
        trials: Units by each look, of the same shape.
        alpha: Error in all (0-1).
        prior: The mixing beta distribution; a guess of the rate, worth ``sum(prior)`` units,
            narrows it near the guess and is valid everywhere.

    Returns:
        Lower and upper ends, each ``(looks,)``.

    Raises:
        ContractError: Counts outside 0 to ``trials``, or a prior not above 0.
    """
    s, n = (np.atleast_1d(np.asarray(given, dtype=float)) for given in (successes, trials))
    if s.shape != n.shape or not ((s >= 0) & (s <= n) & np.isfinite(n)).all():
        raise ContractError("successes must lie between 0 and trials at every look")
    if not (0 < alpha < 1 and min(prior) > 0):
        raise ContractError(f"alpha must lie in (0, 1) and prior above 0; got {alpha}, {prior}")
    a, b = prior
    gained = betaln(a + s, b + n - s) - betaln(a, b) + log(alpha)
    best = np.divide(s, n, out=np.full_like(s, 0.5), where=n > 0)

    def kept(p: Floats) -> NDArray[np.bool_]:
        with np.errstate(divide="ignore", invalid="ignore"):
            likelihood = np.where(s > 0, s * np.log(p), 0) + np.where(
                n > s, (n - s) * np.log1p(-p), 0
            )
        return np.asarray(likelihood >= gained, dtype=bool)

    def end(outer: float) -> Floats:
        outside, inside = np.full_like(s, outer), best.copy()
        inside = np.where(kept(outside), outside, inside)
        for _ in range(60):
            middle = (outside + inside) / 2
            holds = kept(middle)
            inside, outside = np.where(holds, middle, inside), np.where(holds, outside, middle)
        # the outer ends, so that rounding never takes a proportion away
        return np.asarray(np.where(kept(np.full_like(s, outer)), outer, outside), dtype=float)

    return end(0.0), end(1.0)


def bernoulli_difference(
    control: tuple[int, int],
    treatment: tuple[int, int],
    *,
    alpha: float = 0.05,
    prior: tuple[float, float] = (0.5, 0.5),
) -> tuple[float, float]:
    """Exact always-valid interval for a difference of proportions, treatment less control.

    Each arm's sequence takes half of the error, so it is wider than the asymptotic one: for rare
    events and early looks, where the central limit theorem is no help.

    Args:
        control: Successes and units.
        treatment: Successes and units.
        alpha: Error in all (0-1).
        prior: As in ``bernoulli_sequence``.
    """
    ends = [bernoulli_sequence(s, n, alpha=alpha / 2, prior=prior) for s, n in (control, treatment)]
    (low_c, high_c), (low_t, high_t) = ((float(low[0]), float(high[0])) for low, high in ends)
    return low_t - high_c, high_t - low_c


def _standard_margin(spread: ArrayLike, alpha: float, side: Side) -> Floats:
    """Half-width in standard errors: eq. 9 two-sided, eq. 134 (a bound on it) one-sided."""
    if not 0 < alpha < 1:
        raise ContractError(f"alpha must lie in (0, 1); got {alpha}")
    wide = np.asarray(spread, dtype=float)
    if side == "two-sided":
        evidence = 0.5 * np.log1p(wide) - log(alpha)
    else:
        evidence = np.log1p(np.sqrt(1 + wide) / (2 * alpha))
    return np.asarray(np.sqrt(2 * (1 + wide) / wide * evidence), dtype=float)


def _always_valid_p(z: ArrayLike, spread: ArrayLike, side: Side) -> Floats:
    """The error at which ``_standard_margin`` ends at ``z``, the mixture staying as it is."""
    standard, wide = np.asarray(z, dtype=float), np.asarray(spread, dtype=float)
    gain = np.minimum(standard**2 * wide / (2 * (1 + wide)), 700.0)
    if side == "two-sided":
        found = np.sqrt(1 + wide) * np.exp(-gain)
    else:
        toward = standard > 0 if side == "greater" else standard < 0
        with np.errstate(divide="ignore", over="ignore"):
            found = np.where(toward, np.sqrt(1 + wide) / (2 * np.expm1(gain)), 1.0)
    return np.asarray(np.minimum(found, 1.0), dtype=float)


def _exact_one_sided(spread: float, alpha: float) -> float:
    most = float(_standard_margin(spread, alpha, "greater")) + 1
    return float(
        brentq(lambda z: log_mixture(z, spread, "greater") + log(alpha), -most, most, xtol=1e-12)
    )


def _interval(value: float, margin: float, p: float, side: Side) -> AlwaysValid:
    low = -inf if side == "less" else value - margin
    high = inf if side == "greater" else value + margin
    return AlwaysValid(value, low, high, p, side)


def _p(evidence: float) -> float:
    return min(1.0, exp(-min(evidence, 700.0))) if evidence > 0 else 1.0


def _sound(value: float, std_error: float) -> None:
    if not isfinite(value) or not 0 < std_error < inf:
        raise ContractError(
            f"an estimate needs a finite value and a standard error above 0; got {value} with "
            f"standard error {std_error}"
        )
