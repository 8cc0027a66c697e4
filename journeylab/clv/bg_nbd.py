"""BG/NBD: customers buy at their own rate until, after some purchase, they leave unseen."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from journeylab.clv import leaving, likelihood
from journeylab.clv.covariates import known_customers, one_profile, shifted
from journeylab.clv.histories import Floats, check_horizon, purchase_columns, whole_counts

MODEL = "BG/NBD"
# Nobody leaves before the first repeat purchase.
_FIRST = 0


@dataclass(frozen=True, slots=True)
class BgNbdFit:
    """A fitted BG/NBD model of repeat purchases.

    With covariates ``z`` a customer's rate parameter is ``alpha * exp(-c'z)`` (so ``c`` above 0
    means more purchases), and the chance of leaving is Beta(``a * exp(u'z)``, ``b * exp(v'z)``).

    Attributes:
        r, alpha: Gamma shape and rate of customers' purchase rates; ``alpha`` in ``unit``.
        a, b: Beta parameters of the chance of leaving after a purchase.
        log_likelihood: At the maximum, summed over customers.
        n_customers: Customers the fit rests on.
        unit: Time unit of ``alpha`` and of every ``recency``, ``age`` and ``horizon``.
        log_covariance: Of the logs of ``r, alpha, a, b``, and of the coefficients (inverse
            Hessian).
        converged: The optimiser reached a maximum; never silently true.
        weak: Names of the parameters the data hardly fix; read the predictions, not these.
        purchase_covariates, dropout_covariates: Columns of the histories, in order.
        coefficients: ``c``, then ``u``, then ``v``.
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
    purchase_covariates: tuple[str, ...] = ()
    dropout_covariates: tuple[str, ...] = ()
    coefficients: tuple[float, ...] = ()

    @property
    def model(self) -> str:
        """What the model is called."""
        return MODEL

    @property
    def parameters(self) -> dict[str, float]:
        """``r, alpha, a, b`` by name, then coefficients such as ``purchase[sms]``."""
        names = leaving.names(self.purchase_covariates, self.dropout_covariates)
        values = (self.r, self.alpha, self.a, self.b, *self.coefficients)
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
        """Chance that each customer is still active (0-1), indexed like ``histories``.

        Without a repeat purchase it is 1: the model lets nobody leave before one.
        """
        x, t_x, T = purchase_columns(histories)
        r, alpha, a, b = self._symbols(histories)
        alive = leaving.p_alive(x, t_x, T, r, alpha, a, b, _FIRST)
        return pd.Series(alive, histories.index, name="p_alive")

    def expected_purchases(self, histories: pd.DataFrame, horizon: float) -> pd.Series:
        """Purchases each customer is expected to make within ``horizon`` (in ``unit``) from now.

        Args:
            histories: ``frequency, recency, age``, and covariates where the fit has any; never
                changed.
            horizon: From ``as_of`` on, in the fit's ``unit``, 0 or more.

        Source:
            Fader, Hardie & Lee (2005), equation 10, as an expectation over the chance of leaving:
            the printed form loses all digits for heavy buyers and at ``a = 1``.
        """
        x, t_x, T = purchase_columns(histories)
        check_horizon(horizon)
        r, alpha, a, b = self._symbols(histories)
        expected = leaving.expected_by_history(x, t_x, T, horizon, r, alpha, a, b, _FIRST)
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
        flat = np.atleast_1d(t).ravel()
        expected = leaving.expected_new(flat, *self._new_symbols(covariates), _FIRST)
        return np.asarray(expected.reshape(t.shape))

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
            Fader, Hardie & Lee (2005); its sum is an incomplete beta function.
        """
        check_horizon(horizon)
        k = whole_counts(count)
        chance = leaving.pmf(k, float(horizon), *self._new_symbols(covariates), _FIRST)
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
        r, alpha, a, b = self._symbols(histories)
        generator, futures = np.random.default_rng(rng), np.empty((len(x), draws))
        for k in range(draws):
            futures[:, k] = leaving.sample_future(
                x, t_x, T, horizon, r, alpha, a, b, _FIRST, rng=generator
            )
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
        drawn = leaving.sample_new(T, *self._symbols(known), _FIRST, rng=generator)
        return drawn.assign(**{name: known[name].to_numpy() for name in known.columns})

    def _symbols(
        self, frame: pd.DataFrame
    ) -> tuple[float, float | Floats, float | Floats, float | Floats]:
        buying, going = self.purchase_covariates, self.dropout_covariates
        on_a = self.coefficients[len(buying) : len(buying) + len(going)]
        on_b = self.coefficients[len(buying) + len(going) :]
        return (
            self.r,
            shifted(self.alpha, frame, buying, self.coefficients[: len(buying)], -1.0),
            shifted(self.a, frame, going, on_a, 1.0),
            shifted(self.b, frame, going, on_b, 1.0),
        )

    def _new_symbols(
        self, covariates: Mapping[str, float] | None
    ) -> tuple[float, float, float, float]:
        names = (*self.purchase_covariates, *self.dropout_covariates)
        if not names:
            return self.r, self.alpha, self.a, self.b
        r, *shifts = self._symbols(one_profile(names, covariates))
        alpha, a, b = (float(np.ravel(shift)[0]) for shift in shifts)
        return r, alpha, a, b


def fit_bg_nbd(
    histories: pd.DataFrame,
    unit: str = "week",
    *,
    purchase_covariates: tuple[str, ...] = (),
    dropout_covariates: tuple[str, ...] = (),
) -> BgNbdFit:
    """Estimate BG/NBD by maximum likelihood.

    Args:
        histories: One row per distinct history (or per customer). ``frequency``: repeat purchases
            (count). ``recency``, ``age``: from first to last purchase, and to today, in ``unit``
            (0 <= recency <= age). ``customers``: how many share that history (absent: one each).
        unit: Time unit of ``recency`` and ``age``; a name, kept with the fit.
        purchase_covariates: Columns of ``histories`` that shift the rate of purchase; numbers that
            do not change over time.
        dropout_covariates: Columns that shift the chance of leaving.

    Raises:
        ContractError: Some row breaks the above; the message names rows. Or a covariate is the
            same for everybody.
        FitError: Nobody bought again, or the likelihood has no maximum in reach.

    Source:
        Fader, Hardie & Lee, "Counting Your Customers the Easy Way: An Alternative to the
        Pareto/NBD Model", Marketing Science 24 (2005). Covariates: Fader & Hardie, "Incorporating
        Time-Invariant Covariates into the Pareto/NBD and BG/NBD Models" (2007).
    """
    buying, going = tuple(purchase_covariates), tuple(dropout_covariates)
    found = leaving.fit(histories, _FIRST, MODEL, buying, going)
    return BgNbdFit(
        *found.parameters,
        log_likelihood=found.maximum.log_likelihood,
        n_customers=found.customers,
        unit=unit,
        log_covariance=found.log_covariance,
        converged=found.maximum.converged,
        weak=found.maximum.weak,
        purchase_covariates=buying,
        dropout_covariates=going,
        coefficients=found.coefficients,
    )


def expected_by_history(
    x: Floats, t_x: Floats, T: Floats, t: float, r: float, alpha: float, a: float, b: float
) -> Floats:
    """Expected purchases within ``t``, histories and parameters as in the paper."""
    return leaving.expected_by_history(x, t_x, T, t, r, alpha, a, b, _FIRST)


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
    return leaving.sample_future(x, t_x, T, t, r, alpha, a, b, _FIRST, rng=rng)
