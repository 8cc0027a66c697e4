"""BG/NBD: customers buy at their own rate until, after some purchase, they leave unseen."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import betaln, expit, gammaln, polygamma, psi

from journeylab.clv.histories import Floats, on_distinct, purchase_columns, weighted_sum, weights
from journeylab.clv.likelihood import draw_parameters, maximise
from journeylab.errors import ContractError, FitError

NAMES = ("r", "alpha", "a", "b")
# Quadrature over the chance of leaving: nodes, where an exponential tail is cut (e^-38 = 3e-17),
# and the standard deviations a Gaussian core needs. Errors stay below 1e-10 on the stress grid of
# tests/published.
_NODES = 240
_TAIL = 38.0
_CORE = 9.0
_CHUNK = 20_000
# Four parameters cannot be had from fewer repeat customers.
_FEWEST = 5


@dataclass(frozen=True, slots=True)
class BgNbdFit:
    """A fitted BG/NBD model of repeat purchases.

    Attributes:
        r, alpha: Gamma shape and rate of customers' purchase rates; ``alpha`` in ``unit``.
        a, b: Beta parameters of the chance of leaving after a purchase.
        log_likelihood: At the maximum, summed over customers.
        n_customers: Customers the fit rests on.
        unit: Time unit of ``alpha`` and of every ``recency``, ``age`` and ``horizon``.
        log_covariance: Of the logs of ``r, alpha, a, b`` (inverse Hessian).
        converged: The optimiser reached a maximum; never silently true.
        weak: Names of the parameters the data hardly fix; read the predictions, not these.
    """

    r: float
    alpha: float
    a: float
    b: float
    log_likelihood: float
    n_customers: int
    unit: str
    log_covariance: tuple[tuple[float, ...], ...]
    converged: bool = True
    weak: tuple[str, ...] = ()

    @property
    def model(self) -> str:
        """What the model is called."""
        return "BG/NBD"

    @property
    def parameters(self) -> dict[str, float]:
        """``r, alpha, a, b`` by name."""
        return {"r": self.r, "alpha": self.alpha, "a": self.a, "b": self.b}

    @property
    def standard_errors(self) -> dict[str, float]:
        """Of the natural parameters, from the Hessian of the log-parameters (delta method)."""
        deviations = np.sqrt(np.diag(np.array(self.log_covariance)))
        return {n: self.parameters[n] * float(s) for n, s in zip(NAMES, deviations, strict=True)}

    @property
    def aic(self) -> float:
        """Akaike's criterion; smaller is better, on the same customers and unit only."""
        return 2 * len(NAMES) - 2 * self.log_likelihood

    def summary(self) -> pd.DataFrame:
        """``model, parameter, value, standard_error``, one row per parameter."""
        return pd.DataFrame(
            {
                "model": self.model,
                "parameter": NAMES,
                "value": list(self.parameters.values()),
                "standard_error": list(self.standard_errors.values()),
            }
        )

    def p_alive(self, histories: pd.DataFrame) -> pd.Series:
        """Chance that each customer is still active (0-1), indexed like ``histories``.

        Without a repeat purchase it is 1: the model lets nobody leave before one.
        """
        columns = purchase_columns(histories)
        return pd.Series(_p_alive(*columns, *self._symbols()), histories.index, name="p_alive")

    def expected_purchases(self, histories: pd.DataFrame, horizon: float) -> pd.Series:
        """Purchases each customer is expected to make within ``horizon`` (in ``unit``) from now.

        Args:
            histories: ``frequency, recency, age``; never changed.
            horizon: From ``as_of`` on, in the fit's ``unit``, 0 or more.

        Source:
            Fader, Hardie & Lee (2005), equation 10, as an expectation over the chance of leaving:
            the printed form loses all digits for heavy buyers and at ``a = 1``.
        """
        x, t_x, T = purchase_columns(histories)
        _check_horizon(horizon)
        expected = expected_by_history(x, t_x, T, horizon, *self._symbols())
        return pd.Series(expected, histories.index, name="expected_purchases")

    def expected_new(self, horizon: float | Floats) -> Floats:
        """Repeat purchases of a customer within ``horizon`` (in ``unit``) of the first purchase.

        Args:
            horizon: One number or an array; the answer has the same shape.
        """
        t = np.asarray(horizon, dtype=float)
        _check_horizon(t)
        flat = np.atleast_1d(t).ravel()
        expected = _while_alive(np.zeros_like(flat), flat / self.alpha, self.r, self.a, self.b)
        return np.asarray(expected.reshape(t.shape))

    def draws(self, count: int, rng: int | np.random.Generator) -> Floats:
        """Parameters the data allow, ``(count, 4)`` in the order r, alpha, a, b (Laplace)."""
        generator = np.random.default_rng(rng)
        parameters = tuple(self.parameters.values())
        return draw_parameters(parameters, self.log_covariance, count, generator)

    def sample(
        self, histories: pd.DataFrame, horizon: float, draws: int, rng: int | np.random.Generator
    ) -> Floats:
        """Futures of each customer: purchases within ``horizon``, ``(len(histories), draws)``."""
        x, t_x, T = purchase_columns(histories)
        _check_horizon(horizon)
        generator = np.random.default_rng(rng)
        futures = [
            sample_future(x, t_x, T, horizon, *self._symbols(), rng=generator) for _ in range(draws)
        ]
        return np.column_stack(futures) if futures else np.empty((len(x), 0))

    def sample_new(self, age: Floats, rng: int | np.random.Generator) -> pd.DataFrame:
        """Histories that new customers of these ages may have: ``frequency, recency, age``."""
        generator = np.random.default_rng(rng)
        T = np.asarray(age, dtype=float)
        rate = generator.gamma(self.r, 1 / self.alpha, len(T))
        active = generator.poisson(rate * T)
        leave_after = generator.geometric(_drawable(generator.beta(self.a, self.b, len(T))))
        x = np.minimum(active, leave_after)
        # Purchase times are uniform order statistics: the x-th of n is Beta(x, n - x + 1).
        last = generator.beta(np.maximum(x, 1), np.maximum(active - x + 1, 1)) * T
        return pd.DataFrame({"frequency": x, "recency": np.where(x > 0, last, 0.0), "age": T})

    def _symbols(self) -> tuple[float, float, float, float]:
        return self.r, self.alpha, self.a, self.b


def fit_bg_nbd(histories: pd.DataFrame, unit: str = "week") -> BgNbdFit:
    """Estimate BG/NBD by maximum likelihood.

    Args:
        histories: One row per distinct history (or per customer). ``frequency``: repeat purchases
            (count). ``recency``, ``age``: from first to last purchase, and to today, in ``unit``
            (0 <= recency <= age). ``customers``: how many share that history (absent: one each).
        unit: Time unit of ``recency`` and ``age``; a name, kept with the fit.

    Raises:
        ContractError: Some row breaks the above; the message names rows.
        FitError: Nobody bought again, or the likelihood has no maximum in reach.

    Source:
        Fader, Hardie & Lee, "Counting Your Customers the Easy Way: An Alternative to the
        Pareto/NBD Model", Marketing Science 24 (2005).
    """
    x, t_x, T = purchase_columns(histories)
    n = weights(histories)
    # Engines give cells in any order; sums in one order give the same digits everywhere.
    order = np.lexsort((n, T, t_x, x))
    x, t_x, T, n = x[order], t_x[order], T[order], n[order]
    customers = float(n.sum())
    if (repeaters := float(n[x > 0].sum())) < _FEWEST:
        raise FitError(
            f"{repeaters:,.0f} of {customers:,.0f} customers bought on a second day, too few to "
            f"learn repeat purchases from ({_FEWEST} at least); use a later as_of or a longer "
            "stretch of orders"
        )

    def likelihood(natural: Floats) -> tuple[float, Floats, Floats]:
        return _log_likelihood(x, t_x, T, n, natural)

    # Purchase rate x / T on average; both shapes at 1: the time scale is the data's own.
    scale = weighted_sum(n, T) / weighted_sum(n, x)
    best = maximise(likelihood, np.array([1.0, scale, 1.0, 2.0]), customers, NAMES, "BG/NBD")
    r, alpha, a, b = best.parameters
    return BgNbdFit(
        r,
        alpha,
        a,
        b,
        log_likelihood=best.log_likelihood,
        n_customers=round(customers),
        unit=unit,
        log_covariance=best.log_covariance,
        converged=best.converged,
        weak=best.weak,
    )


def _log_likelihood(
    x: Floats, t_x: Floats, T: Floats, n: Floats, natural: Floats
) -> tuple[float, Floats, Floats]:
    """Value, gradient and Hessian in r, alpha, a, b, summed over customers.

    Each customer's likelihood is that of being alive all along times ``1 + exp(gone)``, where
    ``gone`` is the log odds of having left after the last purchase.
    """
    r, alpha, a, b = natural
    repeat = x > 0
    shape, gap = r + x, np.log((alpha + T) / (alpha + t_x))
    earlier = b + np.maximum(x, 1) - 1
    gone = np.where(repeat, np.log(a / earlier) + shape * gap, -np.inf)
    alive = (
        on_distinct(lambda k: gammaln(r + k) - gammaln(r) + betaln(a, b + k) - betaln(a, b), x)
        + r * np.log(alpha)
        - shape * np.log(alpha + T)
    )
    left = expit(gone)
    value = weighted_sum(n, alive + np.logaddexp(0.0, gone))

    # Derivatives of ``gone``, one row per parameter.
    g = np.zeros((4, len(x)))
    inverse_T, inverse_t = 1 / (alpha + T), 1 / (alpha + t_x)
    g[0], g[1], g[2], g[3] = gap, shape * (inverse_T - inverse_t), 1 / a, -1 / earlier
    psi_both = on_distinct(lambda k: psi(a + b) - psi(a + b + k), x)
    gradient = np.array(
        [
            weighted_sum(
                n, on_distinct(lambda k: psi(r + k) - psi(r), x) + np.log(alpha / (alpha + T))
            ),
            weighted_sum(n, r / alpha - shape * inverse_T),
            weighted_sum(n, psi_both),
            weighted_sum(n, on_distinct(lambda k: psi(b + k) - psi(b), x) + psi_both),
        ]
    )
    weight = n * left
    gradient += np.einsum("ij,j->i", g, weight)

    hessian = np.einsum("ik,jk->ij", g * (weight * (1 - left)), g)
    trigamma_both = weighted_sum(
        n, on_distinct(lambda k: polygamma(1, a + b) - polygamma(1, a + b + k), x)
    )
    hessian[0, 0] += weighted_sum(
        n, on_distinct(lambda k: polygamma(1, r + k) - polygamma(1, r), x)
    )
    mixed = weighted_sum(n, 1 / alpha - inverse_T)
    mixed += weighted_sum(weight, inverse_T - inverse_t)
    hessian[0, 1] += mixed
    hessian[1, 0] += mixed
    hessian[1, 1] += weighted_sum(n, -r / alpha**2 + shape * inverse_T**2)
    hessian[1, 1] += weighted_sum(weight, shape * (inverse_t**2 - inverse_T**2))
    hessian[2, 2] += trigamma_both - weight.sum() / a**2
    hessian[2, 3] += trigamma_both
    hessian[3, 2] += trigamma_both
    hessian[3, 3] += trigamma_both + weighted_sum(weight, earlier**-2)
    hessian[3, 3] += weighted_sum(
        n, on_distinct(lambda k: polygamma(1, b + k) - polygamma(1, b), x)
    )
    return value, gradient, hessian


def _p_alive(
    x: Floats, t_x: Floats, T: Floats, r: float, alpha: float, a: float, b: float
) -> Floats:
    gone = np.log(a / (b + np.maximum(x, 1) - 1)) + (r + x) * np.log((alpha + T) / (alpha + t_x))
    # A heavy buyer long silent underflows; the smallest number keeps the chance a chance.
    return np.where(x == 0, 1.0, np.maximum(expit(-gone), np.finfo(float).tiny))


def expected_by_history(
    x: Floats,
    t_x: Floats,
    T: Floats,
    t: float,
    r: float,
    alpha: float,
    a: float,
    b: float,
) -> Floats:
    """Expected purchases within ``t``, histories and parameters as in the paper."""
    return _p_alive(x, t_x, T, r, alpha, a, b) * _while_alive(x, t / (alpha + T), r, a, b)


def _while_alive(x: Floats, y: Floats, r: float, a: float, b: float) -> Floats:
    """Expected purchases of an active customer, ``y = t / (alpha + T)``.

    Given the chance ``p`` of leaving, it is ``(1 - (1 + p y)^-(r + x)) / p``; ``p`` is
    Beta(a, b + x). The mean over ``p`` is taken by the trapezoid rule in
    ``logit p = mode + width * sinh(tau)``: every term is positive, so no digits cancel, and there
    is no special case at ``a = 1``.
    """
    x_distinct, x_code = np.unique(x, return_inverse=True)
    y_distinct, y_code = np.unique(y, return_inverse=True)
    pairs, back = np.unique(x_code * len(y_distinct) + y_code, return_inverse=True)
    steepest = float(np.max(r + x_distinct) * np.max(y_distinct, initial=0.0))
    logit, log_weight = _beta_nodes(a, b + x_distinct, steepest)
    # Far left, where p underflows, the integrand is constant in p: any tiny p will do.
    p = expit(np.maximum(logit, -600.0))
    weight = np.exp(log_weight)
    means = np.empty(len(pairs))
    for start in range(0, len(pairs), _CHUNK):
        k, j = np.divmod(pairs[start : start + _CHUNK], len(y_distinct))
        shape = (r + x_distinct[k])[:, None]
        futures = -np.expm1(-shape * np.log1p(p[k] * y_distinct[j][:, None])) / p[k]
        means[start : start + _CHUNK] = np.einsum("ij,ij->i", weight[k], futures)
    return np.asarray(means[back])


def _beta_nodes(a: float, b: Floats, steepest: float) -> tuple[Floats, Floats]:
    """Nodes (logit p) and log weights for means over Beta(a, b), one row per ``b``.

    On the left the integrand may rise until ``p = 1 / steepest`` before it falls like ``p^a``.
    """
    width = np.sqrt((a + b) / (a * b))
    rise = np.maximum(0.0, np.log(a / b) + np.log1p(steepest))
    low = -np.arcsinh(np.maximum(_CORE, (rise + _TAIL / a) / width))
    high = np.arcsinh(np.maximum(_CORE, _TAIL / (b * width)))
    step = (high - low) / (_NODES - 1)
    tau = low[:, None] + step[:, None] * np.arange(_NODES)
    logit = np.log(a / b)[:, None] + width[:, None] * np.sinh(tau)
    log_density = a * logit - (a + b)[:, None] * np.logaddexp(0.0, logit) - betaln(a, b)[:, None]
    return logit, log_density + np.log(width * step)[:, None] + np.log(np.cosh(tau))


def sample_future(
    x: Floats,
    t_x: Floats,
    T: Floats,
    t: float,
    r: float,
    alpha: float,
    a: float,
    b: float,
    *,
    rng: np.random.Generator,
) -> Floats:
    """One future per customer: purchases within ``t``, drawn exactly from the posterior."""
    alive = rng.random(len(x)) < _p_alive(x, t_x, T, r, alpha, a, b)
    rate = rng.gamma(r + x) / (alpha + T)
    active = rng.poisson(rate * t)
    leave_after = rng.geometric(_drawable(rng.beta(a, b + x)))
    return np.where(alive, np.minimum(active, leave_after), 0).astype(float)


def _drawable(chance: Floats) -> Floats:
    # numpy's geometric refuses 0, which a Beta draw can underflow to.
    return np.clip(chance, 1e-15, 1.0)


def _check_horizon(horizon: float | Floats) -> None:
    t = np.asarray(horizon, dtype=float)
    if not np.all(np.isfinite(t) & (t >= 0)):
        raise ContractError(f"horizon must be a finite time of 0 or more; got {horizon}")
