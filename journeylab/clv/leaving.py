"""Leaving unseen after a purchase: what BG/NBD and MBG/NBD share.

Customers buy at their own rate and leave with their own chance after a purchase. The two models
differ in ``first``: with 0 nobody leaves before the first repeat purchase (BG/NBD), with 1 the
first purchase already gives one chance to leave (MBG/NBD). Symbols are those of the papers.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import betainc, betaln, expit, gammaln, polygamma, psi, xlogy

from journeylab.clv.cells import BLOCK, collapse, every_nth, groups
from journeylab.clv.covariates import (
    Scaling,
    add_terms,
    covariate_columns,
    original_scale,
    scaling,
)
from journeylab.clv.histories import Floats, purchase_columns, weighted_sum, weights
from journeylab.clv.likelihood import Likelihood, Maximum, as_tuples, maximise
from journeylab.errors import FitError

# Quadrature over the chance of leaving: nodes, where an exponential tail is cut (e^-38 = 3e-17),
# and the standard deviations a Gaussian core needs. Errors stay below 1e-10 on the stress grid of
# tests/published.
_NODES = 240
_TAIL = 38.0
_CORE = 9.0
_CHUNK = 20_000
# Four parameters cannot be had from fewer repeat customers.
FEWEST = 5


@dataclass(frozen=True, slots=True)
class Data:
    """Sorted cells as the likelihood takes them.

    Attributes:
        x, t_x, T, n: Repeat purchases, recency, age, customers of each cell.
        buying, going: Standardised covariates of purchase and of leaving, ``(cells, covariates)``.
        first: Chances to leave before the first repeat purchase.
    """

    x: Floats
    t_x: Floats
    T: Floats
    n: Floats
    buying: Floats
    going: Floats
    first: int

    def part(self, rows: slice) -> "Data":
        """Some of the cells."""
        return Data(
            self.x[rows],
            self.t_x[rows],
            self.T[rows],
            self.n[rows],
            self.buying[rows],
            self.going[rows],
            self.first,
        )


@dataclass(frozen=True, slots=True)
class Found:
    """A maximum with the coefficients on the scale of the covariates as given.

    Attributes:
        parameters: ``r, alpha, a, b``, at covariates of 0.
        coefficients: Of the purchase covariates on the rate; of the drop-out covariates on ``a``,
            then on ``b``.
        customers: Whom the fit rests on.
        log_covariance: Of the logs of the parameters, and of the coefficients.
        maximum: As climbed to.
    """

    parameters: tuple[float, float, float, float]
    coefficients: tuple[float, ...]
    customers: int
    log_covariance: tuple[tuple[float, ...], ...]
    maximum: Maximum


def too_few_repeats(x: Floats, T: Floats, n: Floats) -> None:
    """Refuse data without repeat purchases to learn from, or without any time to learn in.

    Raises:
        FitError: Fewer than five customers bought again, or every age is 0.
    """
    customers = float(n.sum())
    if (repeaters := float(n[x > 0].sum())) < FEWEST:
        raise FitError(
            f"{repeaters:,.0f} of {customers:,.0f} customers bought on a second day, too few to "
            f"learn repeat purchases from ({FEWEST} at least); use a later as_of or a longer "
            "stretch of orders"
        )
    if not T.any():
        raise FitError(
            f"age is 0 for all {customers:,.0f} customers: nobody was watched for any time; use a "
            "later as_of"
        )


def fit(
    histories: pd.DataFrame,
    first: int,
    model: str,
    purchase_covariates: tuple[str, ...],
    dropout_covariates: tuple[str, ...],
) -> Found:
    """Maximise the likelihood over cells; see ``fit_bg_nbd`` for arguments and errors."""
    x, t_x, T = purchase_columns(histories)
    n = weights(histories)
    too_few_repeats(x, T, n)
    buying = covariate_columns(histories, purchase_covariates)
    going = covariate_columns(histories, dropout_covariates)
    scales = (scaling(buying, n, purchase_covariates), scaling(going, n, dropout_covariates))
    (*going_columns, x, t_x, T), n, buying = _cells(going, buying, x, t_x, T, n)
    going = np.column_stack(going_columns) if going_columns else np.empty((len(x), 0))
    data = Data(x, t_x, T, n, scales[0].standard(buying), scales[1].standard(going), first)

    # Purchase rate x / T on average; both shapes at 1: the time scale is the data's own.
    scale = weighted_sum(n, T) / weighted_sum(n, x)
    coefficients = len(purchase_covariates) + 2 * len(dropout_covariates)
    start = np.concatenate([np.log([1.0, scale, 1.0, 2.0]), np.zeros(coefficients)])
    some = every_nth(len(x))
    best = maximise(
        _on(data),
        start,
        float(n.sum()),
        names(purchase_covariates, dropout_covariates),
        model,
        None if some is None else _on(data.part(some)),
    )
    return _as_given(best, scales, round(float(n.sum())))


def names(
    purchase_covariates: tuple[str, ...], dropout_covariates: tuple[str, ...]
) -> tuple[str, ...]:
    """Names of all parameters, in order: ``r, alpha, a, b``, then the coefficients."""
    return (
        *("r", "alpha", "a", "b"),
        *(f"purchase[{name}]" for name in purchase_covariates),
        *(f"dropout a[{name}]" for name in dropout_covariates),
        *(f"dropout b[{name}]" for name in dropout_covariates),
    )


def _cells(going: Floats, buying: Floats, *history: Floats) -> tuple[list[Floats], Floats, Floats]:
    *columns, n = history
    found, counts = collapse([*going.T, *columns, *buying.T], n)
    own = going.shape[1] + len(columns)
    shifts = np.column_stack(found[own:]) if buying.shape[1] else np.empty((len(counts), 0))
    return found[:own], counts, shifts


def _on(data: Data) -> Likelihood:
    return lambda logs: log_likelihood(data, logs)


def _as_given(best: Maximum, scales: tuple[Scaling, Scaling], customers: int) -> Found:
    buying, going = scales
    logs, covariance = original_scale(
        np.array(best.logs),
        np.array(best.log_covariance),
        [(1, -1.0, buying), (2, 1.0, going), (3, 1.0, going)],
        4,
    )
    r, alpha, a, b = np.exp(logs[:4]).tolist()
    return Found((r, alpha, a, b), tuple(logs[4:].tolist()), customers, as_tuples(covariance), best)


def log_likelihood(data: Data, logs: Floats) -> tuple[float, Floats, Floats]:
    """Value, gradient and Hessian in the logs of r, alpha, a, b and in the coefficients.

    Each customer's likelihood is that of being alive all along times ``1 + exp(gone)``, where
    ``gone`` is the log odds of having left after the last purchase.
    """
    ways, exits = data.buying.shape[1], data.going.shape[1]
    places = [
        [0],
        [1, *range(4, 4 + ways)],
        [2, *range(4 + ways, 4 + ways + exits)],
        [3, *range(4 + ways + exits, 4 + ways + 2 * exits)],
    ]
    gradient, hessian = np.zeros(len(logs)), np.zeros((len(logs), len(logs)))
    r = float(np.exp(logs[0]))

    # Groups share x and the covariates of leaving: special functions are dear and run on these.
    starts, group = groups([*data.going.T, data.x])
    x, m = data.x[starts], data.x[starts] + data.first
    n = np.add.reduceat(data.n, starts)
    exit_design = _design(data.going[starts], 1.0)
    a = np.exp(logs[2] + data.going[starts] @ logs[places[2][1:]])
    b = np.exp(logs[3] + data.going[starts] @ logs[places[3][1:]])
    value = weighted_sum(n, gammaln(r + x) - gammaln(r) + betaln(a, b + m) - betaln(a, b))
    rise = r * (psi(r + x) - psi(r))
    in_a = a * (psi(a + b) - psi(a + b + m))
    in_b = b * (psi(b + m) - psi(b))
    both = polygamma(1, a + b) - polygamma(1, a + b + m)
    add_terms(
        gradient,
        hessian,
        [rise, 0.0, in_a, in_b + in_a * b / a],
        {
            (0, 0): rise + r**2 * (polygamma(1, r + x) - polygamma(1, r)),
            (2, 2): in_a + a**2 * both,
            (2, 3): a * b * both,
            (3, 3): in_b + in_a * b / a + b**2 * (both + polygamma(1, b + m) - polygamma(1, b)),
        },
        n,
        [None, None, exit_design, exit_design],
        places,
    )
    earlier = b + np.maximum(m, 1) - 1
    odds = np.where(m > 0, np.log(a / earlier), -np.inf)
    slope_b = -b / earlier

    for start in range(0, len(data.x), BLOCK):
        part = data.part(slice(start, start + BLOCK))
        own = group[start : start + BLOCK]
        shift = part.buying @ logs[places[1][1:]] if ways else 0.0
        log_alpha = logs[1] - shift
        alpha = np.exp(log_alpha)
        by_T, by_t = 1 / (alpha + part.T), 1 / (alpha + part.t_x)
        shape, gap = r + part.x, np.log(by_t / by_T)
        log_T = np.log(alpha * by_T)
        gone = odds[own] + shape * gap
        small = np.exp(-np.abs(gone))
        left = np.where(gone > 0, 1.0, small) / (1 + small)
        value += weighted_sum(
            part.n,
            r * log_alpha + shape * (log_T - log_alpha) + np.maximum(gone, 0) + np.log1p(small),
        )
        A_T, A_t = alpha * by_T, alpha * by_t
        g_r, g_alpha, g_b = r * gap, shape * (A_T - A_t), slope_b[own]
        spread = left * (1 - left)
        spread_r, spread_alpha, spread_b = spread * g_r, spread * g_alpha, spread * g_b
        bend_T, bend_t = A_T * (1 - A_T), A_t * (1 - A_t)
        in_r = r * log_T + left * g_r
        add_terms(
            gradient,
            hessian,
            [in_r, r - shape * A_T + left * g_alpha, left, left * g_b],
            {
                (0, 0): in_r + spread_r * g_r,
                (0, 1): r * (1 - A_T + left * (A_T - A_t)) + spread_r * g_alpha,
                (0, 2): spread_r,
                (0, 3): spread_r * g_b,
                (1, 1): shape * (left * (bend_T - bend_t) - bend_T) + spread_alpha * g_alpha,
                (1, 2): spread_alpha,
                (1, 3): spread_alpha * g_b,
                (2, 2): spread,
                (2, 3): spread_b,
                (3, 3): left * (g_b + g_b**2) + spread_b * g_b,
            },
            part.n,
            [None, _design(part.buying, -1.0), *(2 * [_design(part.going, 1.0)])],
            places,
        )
    return value, gradient, hessian


def _design(covariates: Floats, sign: float) -> Floats | None:
    if not covariates.shape[1]:
        return None
    return np.column_stack([np.ones(len(covariates)), sign * covariates])


# Predictions: parameters are numbers, or one per customer where covariates shift them.


def p_alive(
    x: Floats,
    t_x: Floats,
    T: Floats,
    r: float,
    alpha: float | Floats,
    a: float | Floats,
    b: float | Floats,
    first: int,
) -> Floats:
    """Chance of not having left by ``T``."""
    m = x + first
    gone = np.log(a / (b + np.maximum(m, 1) - 1)) + (r + x) * np.log((alpha + T) / (alpha + t_x))
    # A heavy buyer long silent underflows; the smallest number keeps the chance a chance.
    return np.where(m == 0, 1.0, np.maximum(expit(-gone), np.finfo(float).tiny))


def expected_by_history(
    x: Floats,
    t_x: Floats,
    T: Floats,
    t: float,
    r: float,
    alpha: float | Floats,
    a: float | Floats,
    b: float | Floats,
    first: int,
) -> Floats:
    """Expected purchases within ``t``."""
    alive = p_alive(x, t_x, T, r, alpha, a, b, first)
    return alive * while_alive(x, t / (alpha + T), r, a, b + first)


def expected_new(
    t: Floats, r: float, alpha: float | Floats, a: float, b: float, first: int
) -> Floats:
    """Expected repeat purchases within ``t`` of the first purchase."""
    stays = b / (a + b) if first else 1.0
    return stays * while_alive(np.zeros_like(t), t / alpha, r, a, b + first)


def while_alive(x: Floats, y: Floats, r: float, a: float | Floats, b: float | Floats) -> Floats:
    """Expected purchases of an active customer, ``y = t / (alpha + T)``.

    Given the chance ``p`` of leaving, it is ``(1 - (1 + p y)^-(r + x)) / p``; ``p`` is
    Beta(a, b + x). The mean over ``p`` is taken by the trapezoid rule in
    ``logit p = mode + width * sinh(tau)``: every term is positive, so no digits cancel, and there
    is no special case at ``a = 1``.
    """
    columns = np.broadcast_arrays(*(np.asarray(v, dtype=float) for v in (x, a, b, y)))
    (x_, a_, b_, y_), back = _distinct(columns)
    steepest = float(np.max(r + x_, initial=0.0) * np.max(y_, initial=0.0))
    means = np.empty(len(x_))
    for start in range(0, len(x_), _CHUNK):
        part = slice(start, start + _CHUNK)
        first, own = groups([x_[part], a_[part], b_[part]])
        shared = (x_[part][first], a_[part][first], b_[part][first])
        logit, log_weight = _beta_nodes(shared[1], shared[2] + shared[0], steepest)
        # Far left, where p underflows, the integrand is constant in p: any tiny p will do.
        p = expit(np.maximum(logit, -600.0))
        weight = np.exp(log_weight)
        for low in range(0, len(own), _CHUNK // 10):
            some = slice(low, low + _CHUNK // 10)
            k, shape, growth = own[some], (r + x_[part][some])[:, None], y_[part][some][:, None]
            futures = -np.expm1(-shape * np.log1p(p[k] * growth)) / p[k]
            means[start + low : start + low + len(k)] = np.einsum("ij,ij->i", weight[k], futures)
    return np.asarray(means[back])


def beta_mean(function: Callable[[Floats], Floats], a: float, b: float) -> float:
    """Mean of a positive function of a chance that is Beta(a, b), bounded times ``1 / p``."""
    logit, log_weight = _beta_nodes(np.array([a]), np.array([b]), 1e9)
    return float(np.exp(log_weight[0]) @ function(expit(np.maximum(logit[0], -600.0))))


def _distinct(columns: tuple[np.ndarray, ...]) -> tuple[list[Floats], np.ndarray]:
    """Distinct rows, sorted, and the place of each row among them."""
    key = np.zeros(len(columns[0]), dtype=np.int64)
    for values in columns:
        codes, distinct = pd.factorize(values, sort=True)
        if len(distinct) > 1:
            # Keys of earlier columns are made dense, so that they cannot overflow.
            key = np.unique(key * len(distinct) + codes, return_inverse=True)[1]
    first = np.unique(key, return_index=True)[1]
    return [np.asarray(values[first], dtype=float) for values in columns], key


def _beta_nodes(a: Floats, b: Floats, steepest: float) -> tuple[Floats, Floats]:
    """Nodes (logit p) and log weights for means over Beta(a, b), one row per pair.

    On the left the integrand may rise until ``p = 1 / steepest`` before it falls like ``p^a``.
    """
    width = np.sqrt((a + b) / (a * b))
    rise = np.maximum(0.0, np.log(a / b) + np.log1p(steepest))
    low = -np.arcsinh(np.maximum(_CORE, (rise + _TAIL / a) / width))
    high = np.arcsinh(np.maximum(_CORE, _TAIL / (b * width)))
    step = (high - low) / (_NODES - 1)
    tau = low[:, None] + step[:, None] * np.arange(_NODES)
    logit = np.log(a / b)[:, None] + width[:, None] * np.sinh(tau)
    log_density = a[:, None] * logit - (a + b)[:, None] * np.logaddexp(0.0, logit)
    log_density -= betaln(a, b)[:, None]
    return logit, log_density + np.log(width * step)[:, None] + np.log(np.cosh(tau))


def log_count(k: Floats, u: float | Floats, r: float, alpha: float) -> Floats:
    """Log chance of ``k`` purchases in a time ``u`` that the customer stays all along."""
    return np.asarray(
        gammaln(r + k)
        - gammaln(r)
        - gammaln(k + 1)
        - r * np.log1p(u / alpha)
        + xlogy(k, u / (alpha + u))
    )


def pmf(k: Floats, t: float, r: float, alpha: float, a: float, b: float, first: int) -> Floats:
    """Chance of exactly ``k`` repeat purchases within ``t`` of the first purchase."""
    m = k + first
    stayed = np.exp(log_count(k, t, r, alpha) + betaln(a, b + m) - betaln(a, b))
    # Whoever left after the k-th would have made k or more by then.
    reached = np.where(k > 0, betainc(np.maximum(k, 1), r, t / (alpha + t)), 1.0)
    went = np.exp(betaln(a + 1, b + np.maximum(m, 1) - 1) - betaln(a, b)) * reached
    return np.asarray(stayed + np.where(m > 0, went, 0.0))


def sample_future(
    x: Floats,
    t_x: Floats,
    T: Floats,
    t: float,
    r: float,
    alpha: float | Floats,
    a: float | Floats,
    b: float | Floats,
    first: int,
    *,
    rng: np.random.Generator,
) -> Floats:
    """One future per customer: purchases within ``t``, drawn exactly from the posterior."""
    alive = rng.random(len(x)) < p_alive(x, t_x, T, r, alpha, a, b, first)
    rate = rng.gamma(r + x) / (alpha + T)
    active = rng.poisson(rate * t)
    leave_after = rng.geometric(_drawable(rng.beta(a, b + x + first)))
    return np.where(alive, np.minimum(active, leave_after), 0).astype(float)


def sample_new(
    T: Floats,
    r: float,
    alpha: float | Floats,
    a: float | Floats,
    b: float | Floats,
    first: int,
    *,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Histories of new customers: ``frequency, recency, age``."""
    rate = rng.gamma(r, 1.0, len(T)) / alpha
    active = rng.poisson(rate * T)
    leave_after = rng.geometric(_drawable(rng.beta(a, b, len(T)))) - first
    x = np.minimum(active, leave_after)
    # Purchase times are uniform order statistics: the x-th of n is Beta(x, n - x + 1).
    last = rng.beta(np.maximum(x, 1), np.maximum(active - x + 1, 1)) * T
    return pd.DataFrame({"frequency": x, "recency": np.where(x > 0, last, 0.0), "age": T})


def _drawable(chance: Floats) -> Floats:
    # numpy's geometric refuses 0, which a Beta draw can underflow to.
    return np.clip(chance, 1e-15, 1.0)
