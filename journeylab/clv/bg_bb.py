"""BG/BB: at each of some fixed opportunities a customer buys or does not, until they leave."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import betaln, gammaln, polygamma, psi

from journeylab.clv import likelihood
from journeylab.clv.cells import collapse
from journeylab.clv.histories import (
    Floats,
    check_horizon,
    numbers,
    refuse_rows,
    weighted_sum,
    weights,
    whole_counts,
)
from journeylab.clv.likelihood import in_logs, maximise
from journeylab.errors import ContractError, FitError

MODEL = "BG/BB"
NAMES = ("alpha", "beta", "gamma", "delta")
# Four parameters cannot be had from fewer customers who came at all.
_FEWEST = 5


@dataclass(frozen=True, slots=True)
class BgBbFit:
    """A fitted BG/BB model of purchases at discrete opportunities.

    Attributes:
        alpha, beta: Beta parameters of the chance to buy at an opportunity while active.
        gamma, delta: Beta parameters of the chance to leave before an opportunity.
        log_likelihood: At the maximum, summed over customers.
        n_customers: Customers the fit rests on.
        unit: What an opportunity is called, such as ``year``; ``horizon`` counts them.
        log_covariance: Of the logs of the parameters (inverse Hessian).
        converged: The optimiser reached a maximum; never silently true.
        weak: Names of the parameters the data hardly fix; read the predictions, not these.
    """

    alpha: float
    beta: float
    gamma: float
    delta: float
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
        """``alpha, beta, gamma, delta`` by name."""
        return dict(zip(NAMES, self._symbols(), strict=True))

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
        """Chance to be active still at the next opportunity (0-1), indexed like ``histories``.

        Source:
            Fader, Hardie & Shang (2010).
        """
        x, t_x, n = opportunity_columns(histories)
        stays = (self.delta + n) / (self.gamma + self.delta + n)
        alive = np.maximum(self._alive(x, t_x, n) * stays, np.finfo(float).tiny)
        return pd.Series(alive, histories.index, name="p_alive")

    def expected_purchases(self, histories: pd.DataFrame, horizon: float) -> pd.Series:
        """Purchases each customer is expected to make at the next ``horizon`` opportunities.

        Args:
            histories: ``frequency, recency, opportunities``; never changed.
            horizon: A whole number of opportunities, 0 or more.

        Source:
            Fader, Hardie & Shang (2010), as a sum of positive terms.
        """
        x, t_x, n = opportunity_columns(histories)
        ahead = _whole_horizon(horizon)
        buys = (self.alpha + x) / (self.alpha + self.beta + n)
        expected = self._alive(x, t_x, n) * buys * self._time_active(n, ahead)
        return pd.Series(expected, histories.index, name="expected_purchases")

    def expected_new(self, horizon: float | Floats) -> Floats:
        """Purchases of a new customer at the ``horizon`` opportunities after joining.

        Args:
            horizon: A whole number of opportunities, or an array; the answer has the same shape.
        """
        ahead = np.atleast_1d(np.asarray(horizon, dtype=float)).ravel()
        buys = self.alpha / (self.alpha + self.beta)
        expected = [buys * self._time_active(np.zeros(1), _whole_horizon(one))[0] for one in ahead]
        return np.asarray(expected).reshape(np.shape(horizon))

    def pmf(self, count: int | Floats, horizon: float) -> Floats:
        """Chance (0-1) that a new customer buys at exactly ``count`` of ``horizon`` opportunities.

        Args:
            count: One whole number or an array; the answer has the same shape.
            horizon: A whole number of opportunities, 0 or more.

        Source:
            Fader, Hardie & Shang (2010).
        """
        k, n = whole_counts(count), _whole_horizon(horizon)
        # Active through the first i opportunities and no more: one row per i.
        i = np.arange(n + 1.0)[:, None]
        left = np.where(i < n, 1.0, 0.0)
        log_active = betaln(self.gamma + left, self.delta + i) - betaln(self.gamma, self.delta)
        misses = np.maximum(i - k, 0.0)
        log_choice = gammaln(i + 1) - gammaln(k + 1) - gammaln(misses + 1)
        log_buys = betaln(self.alpha + k, self.beta + misses) - betaln(self.alpha, self.beta)
        chances = np.where(k <= i, np.exp(log_active + log_choice + log_buys), 0.0)
        return np.asarray(chances.sum(axis=0).reshape(np.shape(count)))

    def draws(self, count: int, rng: int | np.random.Generator) -> Floats:
        """Parameters the data allow, ``(count, 4)`` in their order (Laplace)."""
        generator = np.random.default_rng(rng)
        return likelihood.draw_parameters(self._symbols(), self.log_covariance, count, generator)

    def sample(
        self, histories: pd.DataFrame, horizon: float, draws: int, rng: int | np.random.Generator
    ) -> Floats:
        """Futures of each customer: purchases at the next ``horizon`` opportunities.

        Returns:
            ``(len(histories), draws)``.
        """
        x, t_x, n = opportunity_columns(histories)
        ahead, generator = _whole_horizon(horizon), np.random.default_rng(rng)
        chance = self._alive(x, t_x, n)
        futures = np.empty((len(x), draws))
        for k in range(draws):
            alive = generator.random(len(x)) < chance
            leaves = generator.beta(self.gamma, self.delta + n)
            active = np.minimum(_survived(leaves, generator), ahead)
            buys = generator.beta(self.alpha + x, self.beta + n - x)
            futures[:, k] = np.where(alive, generator.binomial(active, buys), 0)
        return futures

    def sample_new(self, opportunities: Floats, rng: int | np.random.Generator) -> pd.DataFrame:
        """Histories of new customers: ``frequency, recency, opportunities``.

        Args:
            opportunities: Whole numbers, one per customer.
            rng: Seed or generator.
        """
        n, generator = np.asarray(opportunities, dtype=float), np.random.default_rng(rng)
        leaves = generator.beta(self.gamma, self.delta, len(n))
        active = np.minimum(_survived(leaves, generator), n).astype(int)
        buys = generator.beta(self.alpha, self.beta, len(n))
        x, t_x = np.zeros(len(n)), np.zeros(len(n))
        for i in range(1, int(n.max(initial=0)) + 1):
            bought = (generator.random(len(n)) < buys) & (i <= active)
            x += bought
            t_x = np.where(bought, i, t_x)
        return pd.DataFrame({"frequency": x, "recency": t_x, "opportunities": n})

    def _alive(self, x: Floats, t_x: Floats, n: Floats) -> Floats:
        """Chance to have been active at the last opportunity, ``n``."""
        terms = _Terms(x, t_x, n)
        log_terms = terms.logs(np.array(self._symbols()))
        total = terms.log_sums(log_terms)
        return np.asarray(np.exp(log_terms[terms.starts] - total))

    def _time_active(self, n: Floats, ahead: int) -> Floats:
        """Opportunities of the next ``ahead`` that a customer active at ``n`` is there for."""
        distinct, back = np.unique(n, return_inverse=True)
        later = distinct[:, None] + np.arange(ahead)
        stays = np.cumprod((self.delta + later) / (self.gamma + self.delta + later), axis=1)
        return np.asarray(stays.sum(axis=1)[back])

    def _symbols(self) -> tuple[float, float, float, float]:
        return self.alpha, self.beta, self.gamma, self.delta


def opportunity_columns(frame: pd.DataFrame) -> tuple[Floats, Floats, Floats]:
    """``frequency, recency, opportunities`` of a frame, or an error that names the bad rows.

    Args:
        frame: ``frequency``: opportunities used. ``recency``: number of the last one used, 0 when
            none was. ``opportunities``: how many there were. Whole numbers.
    """
    names = ("frequency", "recency", "opportunities")
    x, t_x, n = columns = numbers(frame, names, "histories")
    for name, values in zip(names, columns, strict=True):
        refuse_rows(
            frame,
            (values < 0) | (values != np.floor(values)),
            f"{name} must be a whole number of opportunities, 0 or more",
            "count opportunities, not days",
        )
    refuse_rows(
        frame,
        t_x > n,
        "recency must lie in [0, opportunities]",
        "recency is the number of the last opportunity used, counted from joining",
    )
    refuse_rows(
        frame,
        (x > t_x) | ((x == 0) & (t_x > 0)),
        "frequency must lie in [1, recency], or be 0 where recency is 0",
        "count each opportunity at most once, and not the one at which the customer joined",
    )
    return x, t_x, n


def fit_bg_bb(histories: pd.DataFrame, unit: str = "year") -> BgBbFit:
    """Estimate BG/BB by maximum likelihood.

    Args:
        histories: One row per distinct history (or per customer). ``frequency``: opportunities
            used after joining. ``recency``: number of the last one used (0: none).
            ``opportunities``: how many there were. ``customers``: how many share that history
            (absent: one each).
        unit: What an opportunity is called; a name, kept with the fit.

    Raises:
        ContractError: Some row breaks the above; the message names rows.
        FitError: Nobody came again or nobody ever missed, or no maximum is in reach.

    Source:
        Fader, Hardie & Shang, "Customer-Base Analysis in a Discrete-Time Noncontractual Setting",
        Marketing Science 29 (2010).
    """
    columns = opportunity_columns(histories)
    (x, t_x, n), of = collapse(columns, weights(histories))
    customers = float(of.sum())
    if (came := float(of[x > 0].sum())) < _FEWEST:
        raise FitError(
            f"{came:,.0f} of {customers:,.0f} customers used an opportunity after joining, too few "
            f"to learn from ({_FEWEST} at least); use a later as_of or longer opportunities"
        )
    if not (n - x).any():
        raise FitError(
            f"none of {customers:,.0f} customers missed an opportunity: there is nothing to tell "
            "leaving from staying; use shorter opportunities"
        )
    terms = _Terms(x, t_x, n)
    best = maximise(
        in_logs(lambda natural: terms.log_likelihood(natural, of)),
        np.log([1.0, 1.0, 1.0, 2.0]),
        customers,
        NAMES,
        MODEL,
    )
    alpha, beta, gamma, delta = best.parameters
    return BgBbFit(
        alpha,
        beta,
        gamma,
        delta,
        log_likelihood=best.log_likelihood,
        n_customers=round(customers),
        unit=unit,
        log_covariance=best.log_covariance,
        converged=best.converged,
        weak=best.weak,
    )


class _Terms:
    """A history's likelihood as a sum over the opportunity before which the customer left.

    One entry per history and possibility: first that of being active to the end, then those of
    having left after ``t_x, t_x + 1, ..., n - 1`` opportunities.
    """

    def __init__(self, x: Floats, t_x: Floats, n: Floats) -> None:
        lengths = (n - t_x).astype(int) + 1
        self.lengths = lengths
        self.starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
        place = np.arange(lengths.sum()) - np.repeat(self.starts, lengths)
        self.left = (place > 0).astype(float)
        self.active = np.where(
            place > 0, np.repeat(t_x, lengths) + place - 1, np.repeat(n, lengths)
        )
        self.bought = np.repeat(x, lengths)

    def logs(self, natural: Floats) -> Floats:
        alpha, beta, gamma, delta = natural
        buys = betaln(alpha + self.bought, beta + self.active - self.bought) - betaln(alpha, beta)
        stays = betaln(gamma + self.left, delta + self.active) - betaln(gamma, delta)
        return np.asarray(buys + stays)

    def log_sums(self, log_terms: Floats) -> Floats:
        top = np.maximum.reduceat(log_terms, self.starts)
        scaled = np.exp(log_terms - np.repeat(top, self.lengths))
        return np.asarray(top + np.log(np.add.reduceat(scaled, self.starts)))

    def log_likelihood(self, natural: Floats, of: Floats) -> tuple[float, Floats, Floats]:
        """Value, gradient and Hessian in the natural parameters."""
        log_terms = self.logs(natural)
        totals = self.log_sums(log_terms)
        share = np.exp(log_terms - np.repeat(totals, self.lengths))
        alpha, beta, gamma, delta = natural
        # The two Beta functions share no parameter, so each brings its own 2 x 2 block.
        slopes, blocks = [], []
        for p, q, hits, tries in (
            (alpha, beta, self.bought, self.active),
            (gamma, delta, self.left, self.active + self.left),
        ):
            misses = tries - hits
            both = psi(p + q) - psi(p + q + tries)
            slopes += [psi(p + hits) - psi(p) + both, psi(q + misses) - psi(q) + both]
            bend = polygamma(1, p + q) - polygamma(1, p + q + tries)
            blocks.append(
                (
                    polygamma(1, p + hits) - polygamma(1, p) + bend,
                    bend,
                    polygamma(1, q + misses) - polygamma(1, q) + bend,
                )
            )
        weight = share * np.repeat(of, self.lengths)
        means = [np.add.reduceat(share * slope, self.starts) for slope in slopes]
        gradient = np.array([weighted_sum(of, mean) for mean in means])
        hessian = np.empty((4, 4))
        for j in range(4):
            for k in range(j, 4):
                hessian[j, k] = hessian[k, j] = weighted_sum(
                    weight, slopes[j] * slopes[k]
                ) - weighted_sum(of, means[j] * means[k])
        for corner, (first, mixed, second) in zip((0, 2), blocks, strict=True):
            hessian[corner, corner] += weighted_sum(weight, first)
            hessian[corner + 1, corner + 1] += weighted_sum(weight, second)
            hessian[corner, corner + 1] += weighted_sum(weight, mixed)
            hessian[corner + 1, corner] += weighted_sum(weight, mixed)
        return weighted_sum(of, totals), gradient, hessian


def _survived(leaves: Floats, rng: np.random.Generator) -> np.ndarray:
    """Opportunities a customer is there for, leaving before each with this chance."""
    # numpy's geometric refuses 0, which a Beta draw can underflow to.
    return rng.geometric(np.clip(leaves, 1e-15, 1.0)) - 1


def _whole_horizon(horizon: float) -> int:
    check_horizon(horizon)
    if horizon != np.floor(horizon):
        raise ContractError(f"horizon must be a whole number of opportunities; got {horizon}")
    return int(horizon)
