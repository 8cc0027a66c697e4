"""sBG: subscribers who renew or cancel at each term, every one with a chance of their own."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import betaln, polygamma, psi

from journeylab.clv import likelihood
from journeylab.clv.histories import (
    Floats,
    check_horizon,
    numbers,
    refuse_rows,
    weighted_sum,
    whole_counts,
)
from journeylab.clv.leaving import beta_mean
from journeylab.clv.likelihood import in_logs, maximise
from journeylab.errors import ContractError, FitError

MODEL = "sBG"
NAMES = ("alpha", "beta")


@dataclass(frozen=True, slots=True)
class SbgFit:
    """A fitted sBG model of contractual retention.

    Attributes:
        alpha, beta: Beta parameters of the chance to cancel at a renewal.
        log_likelihood: At the maximum, summed over customers.
        n_customers: Customers at the start of the cohorts.
        unit: The term of the contract; ``year`` and ``horizon`` count terms, whatever they are.
        log_covariance: Of the logs of ``alpha, beta`` (inverse Hessian).
        converged: The optimiser reached a maximum; never silently true.
        weak: Names of the parameters the data hardly fix; read the predictions, not these.
    """

    alpha: float
    beta: float
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
        """``alpha, beta`` by name."""
        return {"alpha": self.alpha, "beta": self.beta}

    @property
    def standard_errors(self) -> dict[str, float]:
        """Of the parameters as they are, from the Hessian of their logs (delta method)."""
        return likelihood.standard_errors(self.parameters, self.log_covariance)

    @property
    def aic(self) -> float:
        """Akaike's criterion; smaller is better, on the same customers only."""
        return likelihood.aic(self.parameters, self.log_likelihood)

    @property
    def identification(self) -> str:
        """A sentence where the data hardly fix a parameter; empty when fine."""
        return likelihood.identification(self.weak, self.converged)

    def summary(self) -> pd.DataFrame:
        """``model, parameter, value, standard_error, note``, one row per parameter."""
        return likelihood.summary(self.model, self.parameters, self.standard_errors, self.weak)

    def survival(self, year: float | Floats) -> Floats:
        """Share of a cohort (0-1) that is there after ``year`` renewals, in its shape."""
        years = _whole_years(year, "year")
        stays = betaln(self.alpha, self.beta + years) - betaln(self.alpha, self.beta)
        return np.asarray(np.exp(stays).reshape(np.shape(year)))

    def retention(self, year: float | Floats) -> Floats:
        """Share (0-1) of those there before renewal number ``year`` (1 or more) who renew."""
        years = _whole_years(year, "year")
        if (years < 1).any():
            raise ContractError(f"year must be 1 or more: renewals count from 1; got {year}")
        before = self.beta + years - 1
        return np.asarray((before / (self.alpha + before)).reshape(np.shape(year)))

    def p_alive(self, histories: pd.DataFrame) -> pd.Series:
        """Chance (0-1) that each subscriber, there now, renews next time.

        Args:
            histories: ``year``: renewals each subscriber has made.
        """
        years = _histories(histories)
        return pd.Series(self.retention(years + 1), histories.index, name="p_alive")

    def expected_purchases(self, histories: pd.DataFrame, horizon: float) -> pd.Series:
        """Renewals each subscriber is expected to make at the next ``horizon`` renewal dates.

        Args:
            histories: ``year``: renewals each subscriber, there now, has made.
            horizon: A whole number of terms, 0 or more.
        """
        years, ahead = _histories(histories), int(_whole_years(horizon, "horizon")[0])
        distinct, back = np.unique(years, return_inverse=True)
        before = self.beta + distinct[:, None] + np.arange(ahead)
        expected = np.cumprod(before / (self.alpha + before), axis=1).sum(axis=1)[back]
        return pd.Series(expected, histories.index, name="expected_purchases")

    def expected_new(self, horizon: float | Floats) -> Floats:
        """Renewals of a new subscriber at the first ``horizon`` renewal dates, in its shape."""
        terms = _whole_years(horizon, "horizon").ravel().astype(int)
        survivors = np.cumsum(self.survival(np.arange(1.0, terms.max(initial=0) + 1)))
        return np.asarray(np.concatenate([[0.0], survivors])[terms].reshape(np.shape(horizon)))

    def derl(self, discount: float, year: float | Floats) -> Floats:
        """Discounted expected residual lifetime, just before the next renewal is decided.

        Args:
            discount: Rate per term (0.1: a renewal in a year is worth 1 / 1.1 of one today).
            year: Renewals made so far; the answer has its shape.

        Returns:
            Expected further renewals, the next undiscounted, the one after by one term, and so on.

        Raises:
            ContractError: The rate is not above 0.

        Source:
            Fader & Hardie, "Customer-Base Valuation in a Contractual Setting: The Perils of
            Ignoring Heterogeneity", Marketing Science 29 (2010), as a mean of positive
            terms over the chance to cancel.
        """
        if not (np.isfinite(discount) and discount > 0):
            raise ContractError(
                f"discount must be a finite rate above 0 per {self.unit}; got {discount}"
            )
        years = _whole_years(year, "year")

        def renewals(cancels: Floats) -> Floats:
            return np.asarray((1 - cancels) * (1 + discount) / (discount + cancels))

        residual = [beta_mean(renewals, self.alpha, self.beta + y) for y in years.ravel()]
        return np.asarray(np.array(residual).reshape(np.shape(year)))

    def pmf(self, count: int | Floats, horizon: float) -> Floats:
        """Chance (0-1) that a new subscriber renews exactly ``count`` of ``horizon`` times.

        Args:
            count: One whole number or an array; the answer has the same shape.
            horizon: A whole number of terms, 0 or more.
        """
        k, ahead = whole_counts(count), _whole_years(horizon, "horizon")[0]
        cancels = np.exp(betaln(self.alpha + 1, self.beta + k) - betaln(self.alpha, self.beta))
        chance = np.where(k < ahead, cancels, np.where(k == ahead, self.survival(k), 0.0))
        return np.asarray(chance.reshape(np.shape(count)))

    def draws(self, count: int, rng: int | np.random.Generator) -> Floats:
        """Parameters the data allow, ``(count, 2)`` in the order alpha, beta (Laplace)."""
        generator = np.random.default_rng(rng)
        symbols = (self.alpha, self.beta)
        return likelihood.draw_parameters(symbols, self.log_covariance, count, generator)

    def sample(
        self, histories: pd.DataFrame, horizon: float, draws: int, rng: int | np.random.Generator
    ) -> Floats:
        """Futures of each subscriber: renewals at the next ``horizon`` renewal dates.

        Returns:
            ``(len(histories), draws)``.
        """
        years, ahead = _histories(histories), int(_whole_years(horizon, "horizon")[0])
        generator = np.random.default_rng(rng)
        chance = generator.beta(self.alpha, self.beta + years[:, None], (len(years), draws))
        return np.asarray(np.minimum(_renewals(chance, generator), ahead), dtype=float)

    def sample_new(
        self, customers: int, years: int, rng: int | np.random.Generator
    ) -> pd.DataFrame:
        """A cohort as it may go: ``year, alive``, from 0 to ``years`` renewals."""
        generator = np.random.default_rng(rng)
        made = _renewals(generator.beta(self.alpha, self.beta, customers), generator)
        year = np.arange(years + 1)
        return pd.DataFrame({"year": year, "alive": [int((made >= y).sum()) for y in year]})


def fit_sbg(cohorts: pd.DataFrame, unit: str = "year") -> SbgFit:
    """Estimate sBG by maximum likelihood.

    Args:
        cohorts: One row per renewal date. ``year``: renewals since acquisition, 0, 1, 2, ...
            without a gap. ``alive``: customers there after it. ``cohort``: which cohort, where
            there are several (absent: one).
        unit: Term of the contract; a name, kept with the fit.

    Raises:
        ContractError: A gap in the years, or more customers after a renewal than before; the
            message names rows.
        FitError: Nobody cancelled or fewer than two renewal dates were seen.

    Source:
        Fader & Hardie, "How to Project Customer Retention", Journal of Interactive Marketing 21
        (2007).
    """
    year, lost, last, customers = _losses(cohorts)
    if lost.sum() == 0 or lost.sum() == customers or year.max() < 2:
        raise FitError(
            f"{lost.sum():,.0f} of {customers:,.0f} customers cancelled within "
            f"{year.max():,.0f} renewals: two renewal dates are the least to learn from, and some "
            "but not all must have cancelled; wait for a later one"
        )

    def of_natural(natural: Floats) -> tuple[float, Floats, Floats]:
        value, gradient, hessian = 0.0, np.zeros(2), np.zeros((2, 2))
        alpha, beta = natural
        # Cancelled at renewal t: one cancellation, t - 1 renewals. Still there: t renewals.
        for n, cancelled, renewed in ((lost, 1.0, year - 1), (last, 0.0, year)):
            own = n > 0
            n_, k = n[own], renewed[own]
            tries = k + cancelled
            value += weighted_sum(n_, betaln(alpha + cancelled, beta + k) - betaln(alpha, beta))
            both = psi(alpha + beta) - psi(alpha + beta + tries)
            bend = polygamma(1, alpha + beta) - polygamma(1, alpha + beta + tries)
            in_alpha = both + psi(alpha + cancelled) - psi(alpha)
            gradient += [
                weighted_sum(n_, in_alpha),
                weighted_sum(n_, both + psi(beta + k) - psi(beta)),
            ]
            at_alpha = bend + polygamma(1, alpha + cancelled) - polygamma(1, alpha)
            at_beta = bend + polygamma(1, beta + k) - polygamma(1, beta)
            mixed = weighted_sum(n_, bend)
            hessian += [
                [weighted_sum(n_, at_alpha), mixed],
                [mixed, weighted_sum(n_, at_beta)],
            ]
        return value, gradient, hessian

    best = maximise(in_logs(of_natural), np.log([1.0, 2.0]), customers, NAMES, MODEL)
    alpha, beta = best.parameters
    return SbgFit(
        alpha,
        beta,
        log_likelihood=best.log_likelihood,
        n_customers=round(customers),
        unit=unit,
        log_covariance=best.log_covariance,
        converged=best.converged,
        weak=best.weak,
    )


def _losses(cohorts: pd.DataFrame) -> tuple[Floats, Floats, Floats, float]:
    """By row: its year, customers lost at it, customers last seen at it; and all at the start."""
    year, alive = numbers(cohorts, ("year", "alive"), "cohorts")
    refuse_rows(cohorts, alive < 0, "alive must not be negative", "give customers still there")
    name = cohorts["cohort"].to_numpy() if "cohort" in cohorts.columns else np.zeros(len(year))
    code = pd.factorize(name, sort=True)[0]
    order = np.lexsort((year, code))
    opens = np.concatenate([[True], np.diff(code[order]) != 0])
    closes = np.concatenate([opens[1:], [True]])
    before = np.concatenate([[-1.0], year[order][:-1]])
    gap = np.empty(len(year), dtype=bool)
    gap[order] = np.where(opens, year[order] != 0, year[order] != before + 1)
    refuse_rows(
        cohorts, gap, "year must run 0, 1, 2, ... in each cohort", "add the missing renewals"
    )
    there = np.concatenate([[0.0], alive[order][:-1]])
    lost = np.where(opens, 0.0, there - alive[order])
    grown = np.empty(len(year), dtype=bool)
    grown[order] = lost < 0
    refuse_rows(
        cohorts,
        grown,
        "alive must not rise from one renewal to the next",
        "keep customers who join later in a cohort of their own",
    )
    last = np.where(closes, alive[order], 0.0)
    return year[order], lost, last, float(alive[order][opens].sum())


def _histories(frame: pd.DataFrame) -> Floats:
    (years,) = numbers(frame, ("year",), "histories")
    refuse_rows(
        frame,
        (years < 0) | (years != np.floor(years)),
        "year must be a whole number of renewals, 0 or more",
        "count renewals, not days",
    )
    return years


def _whole_years(value: float | Floats, name: str) -> Floats:
    check_horizon(value)
    years = np.atleast_1d(np.asarray(value, dtype=float))
    if (years != np.floor(years)).any():
        raise ContractError(f"{name} must be a whole number of renewals; got {value}")
    return years


def _renewals(cancels: Floats, rng: np.random.Generator) -> np.ndarray:
    # numpy's geometric refuses 0, which a Beta draw can underflow to.
    return rng.geometric(np.clip(cancels, 1e-15, 1.0)) - 1
