"""Many arms and many metrics: p-values adjusted for how many were looked at."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_ndtr, ndtr
from scipy.stats import norm

from journeylab.errors import ContractError

Floats = NDArray[np.float64]
Method = Literal["holm", "hochberg", "hommel", "bh", "by", "bonferroni", "none"]
METHODS: tuple[Method, ...] = ("holm", "hochberg", "hommel", "bh", "by", "bonferroni", "none")

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(400)
_FINE = np.polynomial.legendre.leggauss(24)
_REACH = 10.0
_EDGES = np.arange(-10.0, 10.5, 2.0)


def adjust(p_values: ArrayLike, method: Method = "holm") -> Floats:
    """Adjusted p-values: reject those at most the error, and it holds for all together.

    Args:
        p_values: ``(tests,)`` in [0, 1].
        method: The chance of any false rejection is held by ``holm`` (whatever the dependence),
            ``hochberg`` and ``hommel`` (more powerful; tests independent or positively dependent)
            and ``bonferroni``; the share of false ones among the rejected by ``bh`` (the same
            condition) and ``by`` (whatever the dependence).

    Returns:
        ``(tests,)``, in the order given.

    Raises:
        ContractError: A p-value outside [0, 1], or an unknown method.

    Source:
        Holm (1979); Hochberg, Biometrika 75 (1988); Hommel, Biometrika 75 (1988); Benjamini &
        Hochberg, JRSS B 57 (1995); Benjamini & Yekutieli, Annals of Statistics 29 (2001).
    """
    p = np.asarray(p_values, dtype=float).ravel()
    if wrong := int((~((p >= 0) & (p <= 1))).sum()):
        raise ContractError(f"p-values must lie in [0, 1]; {wrong} of {p.size} do not")
    if method not in METHODS:
        raise ContractError(f"method must be one of {', '.join(METHODS)}; got {method!r}")
    n = p.size
    if n <= 1 or method == "none":
        return p.copy()
    if method == "bonferroni":
        return np.asarray(np.minimum(n * p, 1.0), dtype=float)
    order = np.argsort(p, kind="stable")
    ranked, rank = p[order], np.arange(1, n + 1)
    if method == "holm":
        found = np.maximum.accumulate((n - rank + 1) * ranked)
    elif method == "hommel":
        found = _hommel(ranked)
    else:
        factor = {
            "hochberg": (n - rank + 1).astype(float),
            "bh": n / rank,
            "by": n / rank * (1 / rank).sum(),
        }[method]
        found = np.minimum.accumulate((factor * ranked)[::-1])[::-1]
    adjusted = np.empty(n)
    adjusted[order] = np.minimum(found, 1.0)
    return adjusted


def _hommel(ranked: Floats) -> Floats:
    """Hommel's p-values of sorted ones, by closed testing of Simes' test (Wright 1992)."""
    n = ranked.size
    rank = np.arange(1, n + 1)
    adjusted = np.full(n, (n * ranked / rank).min())
    for size in range(n - 1, 1, -1):
        small, large = ranked[: n - size + 1], ranked[n - size + 1 :]
        least = (size * large / np.arange(2, size + 1)).min()
        bound = np.empty(n)
        bound[: n - size + 1] = np.minimum(size * small, least)
        bound[n - size + 1 :] = bound[n - size]
        adjusted = np.maximum(adjusted, bound)
    return np.asarray(np.maximum(adjusted, ranked), dtype=float)


def dunnett(z: ArrayLike, control_share: ArrayLike, sides: Literal[1, 2] = 2) -> Floats:
    """Single-step p-values of several arms against one control.

    Args:
        z: Standardised differences ``(arms,)``; one-sided, a gain is positive.
        control_share: Part of each difference's variance that comes from the control (0-1),
            ``(arms,)`` or one number: 0.5 with equal variances and sizes. It makes the
            correlations, ``sqrt(share_i share_j)``.
        sides: 1 or 2.

    Returns:
        ``(arms,)``: chance that the largest of all differences lies this far off without effects.

    Raises:
        ContractError: Differences that are not finite, or shares outside [0, 1).

    Source:
        Dunnett, JASA 50 (1955). Large samples: the standard errors are taken as known, and the
        integral over the control's mean is the only one left.
    """
    found = np.atleast_1d(np.asarray(z, dtype=float))
    share = np.broadcast_to(np.asarray(control_share, dtype=float), found.shape)
    if not np.isfinite(found).all() or not ((share >= 0) & (share < 1)).all():
        raise ContractError(
            "dunnett needs finite differences and shares of the control in [0, 1); got "
            f"{found.tolist()} and {share.tolist()}"
        )
    reached = np.abs(found) if sides == 2 else found
    return np.array([1 - _all_within(limit, share, sides) for limit in reached]).clip(0, 1)


def dunnett_critical(
    control_share: Sequence[float], alpha: float = 0.05, sides: Literal[1, 2] = 2
) -> float:
    """Standard errors beyond which one of several arms differs from the control.

    Args:
        control_share: As in ``dunnett``, one number per arm.
        alpha: Chance of any false alarm (0-1).
        sides: 1 or 2.
    """
    from scipy.optimize import brentq

    share = np.asarray(control_share, dtype=float)
    if not 0 < alpha < 1 or share.size == 0:
        raise ContractError(f"dunnett needs an arm and alpha in (0, 1); got {alpha}")
    return float(brentq(lambda c: 1 - _all_within(c, share, sides) - alpha, -10, 12, xtol=1e-10))


def _all_within(limit: float, share: Floats, sides: int) -> float:
    """Chance that no difference exceeds ``limit``."""
    u = _REACH * _NODES  # the control's mean, in its own standard errors
    loading, own = np.sqrt(share), np.sqrt(1 - share)
    high = ndtr((limit + np.outer(u, loading)) / own)
    inside = high - ndtr((-limit + np.outer(u, loading)) / own) if sides == 2 else high
    return float(_REACH * _WEIGHTS @ (norm.pdf(u) * inside.clip(0, 1).prod(axis=1)))


def chance_best(means: ArrayLike, sds: ArrayLike) -> Floats:
    """Chance that each arm is the best of all, from independent normal posteriors.

    Args:
        means: Posterior means ``(arms,)``, larger is better.
        sds: Posterior standard deviations ``(arms,)``, above 0.

    Returns:
        ``(arms,)``, adding up to 1.

    Raises:
        ContractError: A mean that is not finite or a standard deviation not above 0.
    """
    mean, sd = np.asarray(means, dtype=float).ravel(), np.asarray(sds, dtype=float).ravel()
    if (
        mean.shape != sd.shape
        or not np.isfinite(mean).all()
        or not ((sd > 0) & (sd < np.inf)).all()
    ):
        raise ContractError("chance_best needs a finite mean and a positive sd for every arm")
    # Between these points every arm's distribution is smooth, however narrow it is.
    edges = np.unique(mean + np.outer(_EDGES, sd))
    nodes, weights = _FINE
    half = np.diff(edges) / 2
    x = (edges[:-1] + half + np.outer(nodes, half)).ravel()
    weight = np.outer(weights, half).ravel()
    standard = (x[:, None] - mean) / sd
    below = log_ndtr(standard)
    others = below.sum(axis=1, keepdims=True) - below
    chances = weight @ (np.exp(others - standard**2 / 2) / (sd * np.sqrt(2 * np.pi)))
    return np.asarray(chances / chances.sum(), dtype=float)
