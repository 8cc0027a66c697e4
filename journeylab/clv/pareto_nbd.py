"""Pareto/NBD: customers buy at their own rate and leave, unseen, at a moment of their own."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import gammaln, polygamma, psi

from journeylab.clv import likelihood
from journeylab.clv.cells import collapse, every_nth, groups
from journeylab.clv.covariates import (
    add_terms,
    covariate_columns,
    known_customers,
    one_profile,
    original_scale,
    scaling,
    shifted,
)
from journeylab.clv.histories import (
    Floats,
    check_horizon,
    purchase_columns,
    weighted_sum,
    weights,
    whole_counts,
)
from journeylab.clv.leaving import too_few_repeats
from journeylab.clv.likelihood import Likelihood, as_tuples, maximise
from journeylab.clv.moment_of_leaving import (
    BLOCK,
    after,
    count_chances,
    discounted_time,
    terms,
    time_active,
)
from journeylab.errors import ContractError

MODEL = "Pareto/NBD"
# Its likelihood is dear: fewer cells than elsewhere lead to the region of the peak.
_SAMPLE = 2_000


@dataclass(frozen=True, slots=True)
class ParetoNbdFit:
    """A fitted Pareto/NBD model of repeat purchases.

    With covariates ``z`` a customer's rate parameters are ``alpha * exp(-c'z)`` and
    ``beta * exp(-u'z)``: coefficients above 0 mean more purchases, and an earlier leave.

    Attributes:
        r, alpha: Gamma shape and rate of customers' purchase rates; ``alpha`` in ``unit``.
        s, beta: Gamma shape and rate of customers' rates of leaving; ``beta`` in ``unit``.
        log_likelihood: At the maximum, summed over customers.
        n_customers: Customers the fit rests on.
        unit: Time unit of ``alpha, beta`` and of every ``recency``, ``age`` and ``horizon``.
        log_covariance: Of the logs of ``r, alpha, s, beta``, and of the coefficients (inverse
            Hessian).
        converged: The optimiser reached a maximum; never silently true.
        weak: Names of the parameters the data hardly fix; read the predictions, not these.
        purchase_covariates, dropout_covariates: Columns of the histories, in order.
        coefficients: ``c``, then ``u``.
    """

    r: float
    alpha: float
    s: float
    beta: float
    log_likelihood: float
    n_customers: int
    unit: str
    log_covariance: tuple[tuple[float, ...], ...]
    converged: bool = True
    weak: tuple[str, ...] = ()
    purchase_covariates: tuple[str, ...] = ()
    dropout_covariates: tuple[str, ...] = ()
    coefficients: tuple[float, ...] = ()

    @property
    def model(self) -> str:
        """What the model is called."""
        return MODEL

    @property
    def parameters(self) -> dict[str, float]:
        """``r, alpha, s, beta`` by name, then coefficients such as ``purchase[sms]``."""
        names = _names(self.purchase_covariates, self.dropout_covariates)
        values = (self.r, self.alpha, self.s, self.beta, *self.coefficients)
        return dict(zip(names, values, strict=True))

    @property
    def standard_errors(self) -> dict[str, float]:
        """Of the parameters as they are, from the Hessian of their logs (delta method)."""
        return likelihood.standard_errors(
            self.parameters, self.log_covariance, len(self.coefficients)
        )

    @property
    def aic(self) -> float:
        """Akaike's criterion; smaller is better, on the same customers and unit only."""
        return likelihood.aic(self.parameters, self.log_likelihood)

    @property
    def identification(self) -> str:
        """A sentence where the data hardly fix a parameter; empty when fine."""
        return likelihood.identification(self.weak, self.converged)

    def summary(self) -> pd.DataFrame:
        """``model, parameter, value, standard_error, note``, one row per parameter."""
        return likelihood.summary(self.model, self.parameters, self.standard_errors, self.weak)

    def p_alive(self, histories: pd.DataFrame) -> pd.Series:
        """Chance that each customer is still active (0-1), indexed like ``histories``."""
        x, t_x, T = purchase_columns(histories)
        r, alpha, s, beta = self._symbols(histories)
        alive = _p_alive(x, t_x, T, r, alpha, s, beta)
        return pd.Series(alive, histories.index, name="p_alive")

    def expected_purchases(self, histories: pd.DataFrame, horizon: float) -> pd.Series:
        """Purchases each customer is expected to make within ``horizon`` (in ``unit``) from now.

        Args:
            histories: ``frequency, recency, age``, and covariates where the fit has any; never
                changed.
            horizon: From ``as_of`` on, in the fit's ``unit``, 0 or more.

        Source:
            Schmittlein, Morrison & Colombo (1987), in a form without a special case at ``s = 1``.
        """
        x, t_x, T = purchase_columns(histories)
        check_horizon(horizon)
        r, alpha, s, beta = self._symbols(histories)
        expected = expected_by_history(x, t_x, T, horizon, r, alpha, s, beta)
        return pd.Series(expected, histories.index, name="expected_purchases")

    def expected_new(
        self, horizon: float | Floats, covariates: Mapping[str, float] | None = None
    ) -> Floats:
        """Repeat purchases of a customer within ``horizon`` (in ``unit``) of the first purchase.

        Args:
            horizon: One number or an array; the answer has the same shape.
            covariates: The customer's, by name, where the fit has any.
        """
        t = np.asarray(horizon, dtype=float)
        check_horizon(t)
        r, alpha, s, beta = self._new_symbols(covariates)
        return np.asarray(r / alpha * time_active(t, s, beta))

    def dert(self, histories: pd.DataFrame, discount: float) -> pd.Series:
        """Discounted expected residual purchases: all future ones, each worth less the later.

        Args:
            histories: ``frequency, recency, age``, and covariates where the fit has any.
            discount: Continuous rate per ``unit``, above 0: ``log1p(0.15) * 7 / 365`` for 15 % a
                year in weeks.

        Returns:
            Purchases as of today, indexed like ``histories``.

        Raises:
            ContractError: The rate is not above 0.

        Source:
            Fader, Hardie & Lee, "RFM and CLV: Using Iso-Value Curves for Customer Base Analysis"
            (2005), with the confluent hypergeometric function as an integral of positive terms.
        """
        if not (np.isfinite(discount) and discount > 0):
            raise ContractError(
                f"discount must be a finite rate above 0 per {self.unit}; got {discount}"
            )
        x, t_x, T = purchase_columns(histories)
        r, alpha, s, beta = self._symbols(histories)
        rate = (r + x) / (alpha + T)
        active = (beta + T) * discounted_time(s, discount * (beta + T))
        residual = _p_alive(x, t_x, T, r, alpha, s, beta) * rate * active
        return pd.Series(residual, histories.index, name="dert")

    def pmf(
        self,
        count: int | Floats,
        horizon: float,
        covariates: Mapping[str, float] | None = None,
    ) -> Floats:
        """Chance (0-1) of exactly ``count`` repeat purchases within ``horizon`` of the first.

        Args:
            count: One whole number or an array; the answer has the same shape.
            horizon: In ``unit``, 0 or more.
            covariates: The customer's, by name, where the fit has any.

        Source:
            The mixture of Schmittlein, Morrison & Colombo (1987), by quadrature over the time
            active: chances add up to 1 as the nodes' weights do.
        """
        check_horizon(horizon)
        k = whole_counts(count)
        chance = count_chances(k, float(horizon), *self._new_symbols(covariates))
        return chance.reshape(np.shape(count))

    def draws(self, count: int, rng: int | np.random.Generator) -> Floats:
        """Parameters the data allow, ``(count, parameters)`` in their order (Laplace)."""
        generator = np.random.default_rng(rng)
        return likelihood.draw_parameters(
            tuple(self.parameters.values()),
            self.log_covariance,
            count,
            generator,
            len(self.coefficients),
        )

    def sample(
        self, histories: pd.DataFrame, horizon: float, draws: int, rng: int | np.random.Generator
    ) -> Floats:
        """Futures of each customer: purchases within ``horizon``, ``(len(histories), draws)``."""
        x, t_x, T = purchase_columns(histories)
        check_horizon(horizon)
        r, alpha, s, beta = self._symbols(histories)
        generator, futures = np.random.default_rng(rng), np.empty((len(x), draws))
        alive = _p_alive(x, t_x, T, r, alpha, s, beta)
        for k in range(draws):
            futures[:, k] = _future(alive, x, T, horizon, r, alpha, s, beta, generator)
        return futures

    def sample_new(
        self,
        age: Floats,
        rng: int | np.random.Generator,
        covariates: pd.DataFrame | None = None,
    ) -> pd.DataFrame:
        """Histories that new customers of these ages may have: ``frequency, recency, age``.

        Args:
            age: In ``unit``, one per customer.
            rng: Seed or generator.
            covariates: One row per customer where the fit has covariates; they are added to the
                answer.
        """
        T, generator = np.asarray(age, dtype=float), np.random.default_rng(rng)
        known = known_customers(covariates, len(T))
        r, alpha, s, beta = self._symbols(known)
        active = np.minimum(_lifetime(beta * np.ones(len(T)), s, generator), T)
        x = generator.poisson(generator.gamma(r, 1.0, len(T)) / alpha * active)
        # The last of x uniform purchase times is Beta(x, 1).
        last = generator.beta(np.maximum(x, 1), 1.0) * active
        drawn = pd.DataFrame({"frequency": x, "recency": np.where(x > 0, last, 0.0), "age": T})
        return drawn.assign(**{name: known[name].to_numpy() for name in known.columns})

    def _symbols(self, frame: pd.DataFrame) -> tuple[float, float | Floats, float, float | Floats]:
        buying = self.purchase_covariates
        on_rate, on_leaving = self.coefficients[: len(buying)], self.coefficients[len(buying) :]
        return (
            self.r,
            shifted(self.alpha, frame, buying, on_rate, -1.0),
            self.s,
            shifted(self.beta, frame, self.dropout_covariates, on_leaving, -1.0),
        )

    def _new_symbols(
        self, covariates: Mapping[str, float] | None
    ) -> tuple[float, float, float, float]:
        names = (*self.purchase_covariates, *self.dropout_covariates)
        if not names:
            return self.r, self.alpha, self.s, self.beta
        r, alpha, s, beta = self._symbols(one_profile(names, covariates))
        return r, float(np.ravel(alpha)[0]), s, float(np.ravel(beta)[0])


def fit_pareto_nbd(
    histories: pd.DataFrame,
    unit: str = "week",
    *,
    purchase_covariates: tuple[str, ...] = (),
    dropout_covariates: tuple[str, ...] = (),
) -> ParetoNbdFit:
    """Estimate Pareto/NBD by maximum likelihood.

    Args:
        histories: ``frequency, recency, age`` and optionally ``customers``, as for ``fit_bg_nbd``.
        unit: Time unit of ``recency`` and ``age``; a name, kept with the fit.
        purchase_covariates: Columns of ``histories`` that shift the rate of purchase; numbers that
            do not change over time.
        dropout_covariates: Columns that shift the rate of leaving.

    Raises:
        ContractError: Some row breaks the above; the message names rows. Or a covariate is the
            same for everybody.
        FitError: Nobody bought again, or the likelihood has no maximum in reach.

    Source:
        Schmittlein, Morrison & Colombo, "Counting Your Customers: Who Are They and What Will They
        Do Next?", Management Science 33 (1987). Covariates: Fader & Hardie, "Incorporating
        Time-Invariant Covariates into the Pareto/NBD and BG/NBD Models" (2007).
    """
    buying_names, going_names = tuple(purchase_covariates), tuple(dropout_covariates)
    columns = purchase_columns(histories)
    n = weights(histories)
    too_few_repeats(columns[0], columns[2], n)
    buying = covariate_columns(histories, buying_names)
    going = covariate_columns(histories, going_names)
    scales = (scaling(buying, n, buying_names), scaling(going, n, going_names))
    ways = len(buying_names)
    (x, t_x, T, *shifts), n = collapse([*columns, *buying.T, *going.T], n)
    known = np.column_stack(shifts) if shifts else np.empty((len(x), 0))
    data = _Data(
        x, t_x, T, n, scales[0].standard(known[:, :ways]), scales[1].standard(known[:, ways:])
    )

    # Purchase rate x / T on average; half the customers leave within the time watched.
    scale = weighted_sum(n, T) / weighted_sum(n, x)
    watched = weighted_sum(n, T) / float(n.sum())
    start = np.concatenate([np.log([1.0, scale, 1.0, watched]), np.zeros(known.shape[1])])
    some = every_nth(len(x), _SAMPLE)
    best = maximise(
        _on(data),
        start,
        float(n.sum()),
        _names(buying_names, going_names),
        MODEL,
        None if some is None else _on(data.part(some)),
    )
    logs, covariance = original_scale(
        np.array(best.logs),
        np.array(best.log_covariance),
        [(1, -1.0, scales[0]), (3, -1.0, scales[1])],
        4,
    )
    r, alpha, s, beta = np.exp(logs[:4]).tolist()
    return ParetoNbdFit(
        r,
        alpha,
        s,
        beta,
        log_likelihood=best.log_likelihood,
        n_customers=round(float(n.sum())),
        unit=unit,
        log_covariance=as_tuples(covariance),
        converged=best.converged,
        weak=best.weak,
        purchase_covariates=buying_names,
        dropout_covariates=going_names,
        coefficients=tuple(logs[4:].tolist()),
    )


def _names(buying: tuple[str, ...], going: tuple[str, ...]) -> tuple[str, ...]:
    shifts = (*(f"purchase[{name}]" for name in buying), *(f"dropout[{name}]" for name in going))
    return ("r", "alpha", "s", "beta", *shifts)


@dataclass(frozen=True, slots=True)
class _Data:
    """Sorted cells, and standardised covariates of purchase and of leaving."""

    x: Floats
    t_x: Floats
    T: Floats
    n: Floats
    buying: Floats
    going: Floats

    def part(self, rows: slice) -> "_Data":
        columns = (self.x, self.t_x, self.T, self.n, self.buying, self.going)
        return _Data(*(column[rows] for column in columns))


def _on(data: _Data) -> Likelihood:
    return lambda logs: _log_likelihood(data, logs)


def _log_likelihood(data: _Data, logs: Floats) -> tuple[float, Floats, Floats]:
    """Value, gradient and Hessian in the logs of r, alpha, s, beta and in the coefficients.

    A customer is either active until ``T``, or left at some ``t`` after the last purchase; the
    second has an integral over ``t`` of positive terms, and its derivatives are means and
    covariances over ``t`` of those terms' own.
    """
    ways = data.buying.shape[1]
    places = [[0], [1, *range(4, 4 + ways)], [2], [3, *range(4 + ways, len(logs))]]
    gradient, hessian = np.zeros(len(logs)), np.zeros((len(logs), len(logs)))
    r, s = np.exp(logs[[0, 2]]).tolist()

    starts, _ = groups([data.x])
    x, n = data.x[starts], np.add.reduceat(data.n, starts)
    rise = r * (psi(r + x) - psi(r))
    value = weighted_sum(n, gammaln(r + x) - gammaln(r))
    add_terms(
        gradient,
        hessian,
        [rise],
        {(0, 0): rise + r**2 * (polygamma(1, r + x) - polygamma(1, r))},
        n,
        [None],
        places,
    )
    for start in range(0, len(data.x), BLOCK):
        part = data.part(slice(start, start + BLOCK))
        alpha = np.exp(logs[1] - part.buying @ logs[places[1][1:]])
        beta = np.exp(logs[3] - part.going @ logs[places[3][1:]])
        each, slopes, curvatures = terms(part.x, part.t_x, part.T, r, alpha, s, beta)
        value += weighted_sum(part.n, each)
        designs = [None, _design(part.buying), None, _design(part.going)]
        add_terms(gradient, hessian, slopes, curvatures, part.n, designs, places)
    return value, gradient, hessian


def _design(covariates: Floats) -> Floats | None:
    if not covariates.shape[1]:
        return None
    return np.column_stack([np.ones(len(covariates)), -covariates])


def _p_alive(
    x: Floats,
    t_x: Floats,
    T: Floats,
    r: float,
    alpha: float | Floats,
    s: float,
    beta: float | Floats,
) -> Floats:
    alive = np.empty(len(x))
    alphas, betas = np.broadcast_to(alpha, x.shape), np.broadcast_to(beta, x.shape)
    for start in range(0, len(x), BLOCK):
        part = slice(start, start + BLOCK)
        own_alpha, own_beta, since = alphas[part], betas[part], T[part] - t_x[part]
        shape = r + x[part]
        _, _, log_left = after(shape, t_x[part], T[part], own_alpha, s, own_beta)
        stay = shape * np.log1p(since / (own_alpha + t_x[part]))
        stay += s * np.log1p(since / (own_beta + t_x[part]))
        gone = np.log(s) - np.log(own_beta + t_x[part]) + log_left + stay
        alive[part] = np.exp(-np.logaddexp(0.0, gone))
    # A heavy buyer long silent underflows; the smallest number keeps the chance a chance.
    return np.maximum(alive, np.finfo(float).tiny)


def expected_by_history(
    x: Floats,
    t_x: Floats,
    T: Floats,
    t: float,
    r: float,
    alpha: float | Floats,
    s: float,
    beta: float | Floats,
) -> Floats:
    """Expected purchases within ``t``, histories and parameters as in the paper."""
    rate = (r + x) / (alpha + T)
    active = time_active(np.asarray(t), s, beta + T)
    return np.asarray(_p_alive(x, t_x, T, r, alpha, s, beta) * rate * active)


def sample_future(
    x: Floats,
    t_x: Floats,
    T: Floats,
    t: float,
    r: float,
    alpha: float | Floats,
    s: float,
    beta: float | Floats,
    *,
    rng: np.random.Generator,
) -> Floats:
    """One future per customer: purchases within ``t``, drawn exactly from the posterior."""
    return _future(_p_alive(x, t_x, T, r, alpha, s, beta), x, T, t, r, alpha, s, beta, rng)


def _future(
    p_alive: Floats,
    x: Floats,
    T: Floats,
    t: float,
    r: float,
    alpha: float | Floats,
    s: float,
    beta: float | Floats,
    rng: np.random.Generator,
) -> Floats:
    alive = rng.random(len(x)) < p_alive
    active = np.minimum(_lifetime(beta + T, s, rng), t)
    bought = rng.poisson(rng.gamma(r + x) / (alpha + T) * active)
    return np.where(alive, bought, 0).astype(float)


def _lifetime(beta: Floats, s: float, rng: np.random.Generator) -> Floats:
    """Times until customers leave whose rates are Gamma(s, beta)."""
    # The exponential is cut where it would overflow: there the customer stays for ever.
    return np.asarray(beta * np.expm1(np.minimum(rng.exponential(1 / s, len(beta)), 600.0)))
