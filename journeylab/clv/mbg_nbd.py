"""MBG/NBD: like BG/NBD, but a customer may leave right after the first purchase."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from journeylab.clv import leaving, likelihood
from journeylab.clv.histories import Floats, check_horizon, purchase_columns, whole_counts

MODEL = "MBG/NBD"
# The first purchase already gives one chance to leave.
_FIRST = 1


@dataclass(frozen=True, slots=True)
class MbgNbdFit:
    """A fitted MBG/NBD model of repeat purchases.

    Attributes:
        r, alpha: Gamma shape and rate of customers' purchase rates; ``alpha`` in ``unit``.
        a, b: Beta parameters of the chance of leaving after a purchase, the first included.
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
        return MODEL

    @property
    def parameters(self) -> dict[str, float]:
        """``r, alpha, a, b`` by name."""
        return {"r": self.r, "alpha": self.alpha, "a": self.a, "b": self.b}

    @property
    def standard_errors(self) -> dict[str, float]:
        """Of the parameters as they are, from the Hessian of their logs (delta method)."""
        return likelihood.standard_errors(self.parameters, self.log_covariance)

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
        alive = leaving.p_alive(*purchase_columns(histories), *self._symbols(), _FIRST)
        return pd.Series(alive, histories.index, name="p_alive")

    def expected_purchases(self, histories: pd.DataFrame, horizon: float) -> pd.Series:
        """Purchases each customer is expected to make within ``horizon`` (in ``unit``) from now.

        Args:
            histories: ``frequency, recency, age``; never changed.
            horizon: From ``as_of`` on, in the fit's ``unit``, 0 or more.
        """
        columns = purchase_columns(histories)
        check_horizon(horizon)
        expected = leaving.expected_by_history(*columns, horizon, *self._symbols(), _FIRST)
        return pd.Series(expected, histories.index, name="expected_purchases")

    def expected_new(self, horizon: float | Floats) -> Floats:
        """Repeat purchases of a customer within ``horizon`` (in ``unit``) of the first purchase.

        Args:
            horizon: One number or an array; the answer has the same shape.
        """
        t = np.asarray(horizon, dtype=float)
        check_horizon(t)
        expected = leaving.expected_new(np.atleast_1d(t).ravel(), *self._symbols(), _FIRST)
        return np.asarray(expected.reshape(t.shape))

    def pmf(self, count: int | Floats, horizon: float) -> Floats:
        """Chance (0-1) of exactly ``count`` repeat purchases within ``horizon`` of the first.

        Args:
            count: One whole number or an array; the answer has the same shape.
            horizon: In ``unit``, 0 or more.
        """
        check_horizon(horizon)
        k = whole_counts(count)
        chance = leaving.pmf(k, float(horizon), *self._symbols(), _FIRST)
        return chance.reshape(np.shape(count))

    def draws(self, count: int, rng: int | np.random.Generator) -> Floats:
        """Parameters the data allow, ``(count, 4)`` in the order r, alpha, a, b (Laplace)."""
        generator = np.random.default_rng(rng)
        return likelihood.draw_parameters(self._symbols(), self.log_covariance, count, generator)

    def sample(
        self, histories: pd.DataFrame, horizon: float, draws: int, rng: int | np.random.Generator
    ) -> Floats:
        """Futures of each customer: purchases within ``horizon``, ``(len(histories), draws)``."""
        columns = purchase_columns(histories)
        check_horizon(horizon)
        generator, symbols = np.random.default_rng(rng), self._symbols()
        futures = np.empty((len(histories), draws))
        for k in range(draws):
            futures[:, k] = leaving.sample_future(
                *columns, horizon, *symbols, _FIRST, rng=generator
            )
        return futures

    def sample_new(self, age: Floats, rng: int | np.random.Generator) -> pd.DataFrame:
        """Histories that new customers of these ages may have: ``frequency, recency, age``."""
        T, generator = np.asarray(age, dtype=float), np.random.default_rng(rng)
        return leaving.sample_new(T, *self._symbols(), _FIRST, rng=generator)

    def _symbols(self) -> tuple[float, float, float, float]:
        return self.r, self.alpha, self.a, self.b


def fit_mbg_nbd(histories: pd.DataFrame, unit: str = "week") -> MbgNbdFit:
    """Estimate MBG/NBD by maximum likelihood.

    Args:
        histories: ``frequency, recency, age`` and optionally ``customers``, as for ``fit_bg_nbd``.
        unit: Time unit of ``recency`` and ``age``; a name, kept with the fit.

    Raises:
        ContractError: Some row breaks the above; the message names rows.
        FitError: Nobody bought again, or the likelihood has no maximum in reach.

    Source:
        Batislam, Denizel & Filiztekin, "Empirical validation and comparison of models for customer
        base analysis", International Journal of Research in Marketing 24 (2007).
    """
    found = leaving.fit(histories, _FIRST, MODEL, (), ())
    return MbgNbdFit(
        *found.parameters,
        log_likelihood=found.maximum.log_likelihood,
        n_customers=found.customers,
        unit=unit,
        log_covariance=found.log_covariance,
        converged=found.maximum.converged,
        weak=found.maximum.weak,
    )
