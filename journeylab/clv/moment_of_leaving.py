"""Integrals over the moment of leaving, which Pareto/NBD rests on; every term is positive."""

from functools import cache

import numpy as np
from scipy.special import exprel

from journeylab.clv.histories import Floats
from journeylab.clv.leaving import log_count

# Gauss-Legendre nodes on a stretch over which the integrand falls by e^-40 at most: errors stay
# below 1e-11 on the stress grid of tests/published.
_NODES = 48
_TAIL = 40.0
BLOCK = 2_048
"""Rows that are worked on at a time."""
# Half the nodes of the double-exponential rule, and where its ends lie.
_STEPS = 200
_ENDS = 3.4


def terms(
    x: Floats, t_x: Floats, T: Floats, r: float, alpha: Floats, s: float, beta: Floats
) -> tuple[Floats, list[Floats | float], dict[tuple[int, int], Floats | float]]:
    """Log-likelihood of each row, without the gamma functions, and its derivatives in logs."""
    shape = r + x
    rise, density, log_left = after(shape, t_x, T, alpha, s, beta)
    # Everything relative to t_x, where the integrand stands at 1 times s.
    since = T - t_x
    log_alpha, log_beta = np.log(alpha + t_x), np.log(beta + t_x)
    to_alpha, to_beta = np.log1p(since / (alpha + t_x)), np.log1p(since / (beta + t_x))
    log_stay = -shape * to_alpha - s * to_beta
    log_went = np.log(s) - log_beta + log_left
    total = np.logaddexp(log_stay, log_went)
    gone, stay = np.exp(log_went - total), np.exp(log_stay - total)
    value = r * np.log(alpha) + s * np.log(beta) - shape * log_alpha - s * log_beta + total

    # Means over the two ways and over t of the slopes in the logs of r, alpha, s, beta.
    by_alpha, by_beta = 1 / (alpha + t_x), 1 / (beta + t_x)
    node_alpha, node_beta = rise * by_alpha[:, None], rise * by_beta[:, None]
    parts = [
        np.log1p(node_alpha),
        (alpha * by_alpha)[:, None] / (1 + node_alpha),
        np.log1p(node_beta),
        (beta * by_beta)[:, None] / (1 + node_beta),
    ]
    ends = [to_alpha, alpha / (alpha + T), to_beta, beta / (beta + T)]
    weight = gone[:, None] * density
    factors = [-r * np.ones_like(x), -shape, np.full_like(x, -s), np.full_like(x, -(s + 1))]
    # Leaving has s + 1 where staying has s, and a slope of 1 in log s of its own.
    end_slopes = [f * end for f, end in zip(factors, ends, strict=True)]
    end_slopes[3] = -s * ends[3]
    node_sums = [np.einsum("ij,ij->i", weight, one) for one in parts]
    slopes = [
        f * node + stay * end for f, node, end in zip(factors, node_sums, end_slopes, strict=True)
    ]
    slopes[2] = slopes[2] + gone
    curvatures: dict[tuple[int, int], Floats | float] = {}
    squares = {}
    for j in range(4):
        weighted = weight * parts[j]
        for k in range(j, 4):
            squares[j, k] = second = np.einsum("ij,ij->i", weighted, parts[k])
            both = factors[j] * factors[k] * second + stay * end_slopes[j] * end_slopes[k]
            if j == 2:
                both = both + factors[k] * node_sums[k]
            if k == 2:
                both = both + factors[j] * node_sums[j]
            curvatures[j, k] = both
    curvatures[2, 2] = curvatures[2, 2] + gone
    for (j, k), both in curvatures.items():
        curvatures[j, k] = both - slopes[j] * slopes[k]
    # Second derivatives of the terms themselves.
    shares = [node + stay * end for node, end in zip(node_sums, ends, strict=True)]
    bend_alpha = node_sums[1] - squares[1, 1] + stay * ends[1] * (1 - ends[1])
    bend_beta = (s + 1) * (node_sums[3] - squares[3, 3]) + s * stay * ends[3] * (1 - ends[3])
    curvatures[0, 0] = curvatures[0, 0] - r * shares[0]
    curvatures[0, 1] = curvatures[0, 1] - r * shares[1]
    curvatures[1, 1] = curvatures[1, 1] - shape * bend_alpha
    curvatures[2, 2] = curvatures[2, 2] - s * shares[2]
    curvatures[2, 3] = curvatures[2, 3] - s * shares[3]
    curvatures[3, 3] = curvatures[3, 3] - bend_beta
    # What was factored out: (alpha + t_x)^-shape and (beta + t_x)^-s, and the powers in front;
    # when gone, (beta + t_x)^-(s+1) is already among the parts.
    ratio_alpha = np.log(alpha) - log_alpha
    ratio_beta = np.log(beta) - log_beta
    slopes[0] = slopes[0] + r * ratio_alpha
    slopes[1] = slopes[1] + r
    slopes[2] = slopes[2] + s * ratio_beta
    slopes[3] = slopes[3] + s
    curvatures[0, 0] = curvatures[0, 0] + r * ratio_alpha
    curvatures[0, 1] = curvatures[0, 1] + r
    curvatures[2, 2] = curvatures[2, 2] + s * ratio_beta
    curvatures[2, 3] = curvatures[2, 3] + s
    return value, slopes, curvatures


def after(
    shape: Floats, t_x: Floats, T: Floats, alpha: Floats, s: float, beta: Floats
) -> tuple[Floats, Floats, Floats]:
    """Nodes for the time ``t`` of leaving between ``t_x`` and ``T``.

    The integrand is ``((alpha + t) / (alpha + t_x))^-shape ((beta + t) / (beta + t_x))^-(s + 1)``.
    In ``y = log((m + t) / (m + t_x))``, ``m`` the smaller of alpha and beta, its log bends down
    steadily, so the rule is laid from 0 to where it has fallen by ``_TAIL``, or to ``T``.

    Returns:
        ``t - t_x`` at the nodes, ``(rows, nodes)``; weights that add up to 1; log of the integral.
    """
    least = np.minimum(alpha, beta) + t_x
    slope_alpha, slope_beta = least / (alpha + t_x), least / (beta + t_x)
    length = np.log1p((T - t_x) / least)
    length = _cut(length, shape, slope_alpha, s, slope_beta)
    abscissa, weight = _gauss(_NODES)
    y = length[:, None] * ((1 + abscissa) / 2)
    rise = np.expm1(y)
    log_density = (
        y
        - shape[:, None] * np.log1p(slope_alpha[:, None] * rise)
        - (s + 1) * np.log1p(slope_beta[:, None] * rise)
    )
    # It may rise before it falls, where the other parameter is far larger.
    top = log_density.max(axis=1)
    density = np.exp(log_density - top[:, None]) * (weight / 2)
    total = density.sum(axis=1)
    with np.errstate(divide="ignore"):
        log_integral = np.log(length * total) + top + np.log(least)
    return least[:, None] * rise, density / total[:, None], log_integral


@cache
def _gauss(nodes: int) -> tuple[Floats, Floats]:
    abscissa, weight = np.polynomial.legendre.leggauss(nodes)
    return np.asarray(abscissa), np.asarray(weight)


def _cut(
    length: Floats, shape: Floats, slope_alpha: Floats, s: float, slope_beta: Floats
) -> Floats:
    """Where the log-integrand has fallen by ``_TAIL``, or ``length`` where it does not."""
    y = length
    # Each factor alone, less what the step in y adds, bounds the fall from below.
    alone = np.where(slope_beta == 1, s, shape - 1)
    with np.errstate(divide="ignore", over="ignore"):
        y = np.where(alone > 0, np.minimum(y, _TAIL / np.maximum(alone, 1e-300)), y)
        other = np.where(slope_beta == 1, shape, s + 1)
        ratio = np.where(slope_beta == 1, slope_alpha, slope_beta)
        steep = np.where(alone >= 0, np.log1p(np.expm1(_TAIL / other) / ratio), np.inf)
    y = np.minimum(y, steep)
    for _ in range(40):
        rise = np.expm1(y)
        over = (shape * np.log1p(slope_alpha * rise) + (s + 1) * np.log1p(slope_beta * rise)) - (
            y + _TAIL
        )
        if not (over > 1).any():
            break
        grown = 1 + rise
        steepness = (
            shape * slope_alpha * grown / (1 + slope_alpha * rise)
            + (s + 1) * slope_beta * grown / (1 + slope_beta * rise)
            - 1
        )
        y = np.where(over > 1, y - over / np.where(over > 1, steepness, 1.0), y)
    return y


def time_active(t: Floats, s: float, beta: float | Floats) -> Floats:
    """Expected time active within ``t`` of a customer whose rate of leaving is Gamma(s, beta)."""
    logs = np.log1p(t / beta)
    return np.asarray(beta * logs * exprel((1 - s) * logs))


def discounted_time(s: float, z: Floats) -> Floats:
    """Integral of ``(1 + v)^-s exp(-z v)`` over ``v`` from 0 on: Tricomi's function U(1, 2-s, z).

    In ``w = log(1 + v)`` every term is positive and its log bends down.
    """
    abscissa, weight = _gauss(160)
    end = np.log1p((_TAIL + 8 * max(0.0, 1 - s)) / z)
    if s > 1:
        end = np.minimum(end, _TAIL / (s - 1))
    time = np.empty(len(z))
    for start in range(0, len(z), BLOCK):
        part = slice(start, start + BLOCK)
        w = end[part, None] * ((1 + abscissa) / 2)
        density = np.exp((1 - s) * w - z[part, None] * np.expm1(w))
        time[part] = np.einsum("ij,j->i", density, weight / 2) * end[part]
    return time


def count_chances(k: Floats, t: float, r: float, alpha: float, s: float, beta: float) -> Floats:
    """Chance that a new customer makes exactly ``k`` repeat purchases within ``t``."""
    whole = np.log1p(t / beta)
    stayed = np.exp(log_count(k, t, r, alpha) - s * whole)
    # Double-exponential rule in w = log(1 + u / beta), u the time of leaving: it reaches both
    # ends, whatever the scale on which counts change.
    tau = _ENDS * np.arange(-_STEPS, _STEPS + 1) / _STEPS
    inner = np.pi * np.sinh(tau)
    share = 1 / (1 + np.exp(-inner))
    weight = np.pi * np.cosh(tau) * share / (1 + np.exp(inner)) * _ENDS / _STEPS
    w = whole * share
    of_time = weight * whole * s * np.exp(-s * w)
    u = beta * np.expm1(w)
    chance, ks = np.empty(k.size), k.reshape(-1, 1)
    for start in range(0, k.size, BLOCK):
        some = slice(start, start + BLOCK)
        chance[some] = np.exp(log_count(ks[some], u, r, alpha)) @ of_time
    return np.asarray(stayed + chance.reshape(k.shape))
