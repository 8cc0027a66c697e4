"""Gamma-Gamma: what a customer spends per purchase, shrunk towards what customers spend."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import gammaln, polygamma, psi

from journeylab.clv import likelihood
from journeylab.clv.cells import BLOCK, collapse, every_nth, groups
from journeylab.clv.histories import Floats, refuse_rows, spend_columns, weighted_sum, weights
from journeylab.clv.likelihood import in_logs, maximise
from journeylab.errors import FitError

MODEL = "Gamma-Gamma"
NAMES = ("p", "q", "gamma")


@dataclass(frozen=True, slots=True)
class GammaGammaFit:
    """A fitted Gamma-Gamma model of spend per purchase.

    Attributes:
        p: Gamma shape of one customer's purchase amounts.
        q, gamma: Shape and scale of how customers differ; ``gamma`` in currency.
        log_likelihood: At the maximum, summed over customers.
        n_customers: Repeat customers the fit rests on.
        log_covariance: Of the logs of ``p, q, gamma`` (inverse Hessian).
        converged: The optimiser reached a maximum.
        weak: Names of the parameters the data hardly fix; read the predictions, not these.
        unit: Of ``gamma`` and every amount; a name.
    """

    p: float
    q: float
    gamma: float
    log_likelihood: float
    n_customers: int
    log_covariance: tuple[tuple[float, ...], ...]
    converged: bool = True
    weak: tuple[str, ...] = ()
    unit: str = "currency units"

    @property
    def model(self) -> str:
        """What the model is called."""
        return MODEL

    @property
    def parameters(self) -> dict[str, float]:
        """``p, q, gamma`` by name."""
        return {"p": self.p, "q": self.q, "gamma": self.gamma}

    @property
    def standard_errors(self) -> dict[str, float]:
        """Of the parameters as they are, from the Hessian of their logs (delta method)."""
        return likelihood.standard_errors(self.parameters, self.log_covariance)

    @property
    def aic(self) -> float:
        """Akaike's criterion; smaller is better, on the same customers and currency only."""
        return likelihood.aic(self.parameters, self.log_likelihood)

    @property
    def identification(self) -> str:
        """A sentence where the data hardly fix a parameter; empty when fine."""
        return likelihood.identification(self.weak, self.converged)

    @property
    def mean(self) -> float:
        """Mean spend per purchase over all customers, in currency."""
        return self.p * self.gamma / (self.q - 1)

    def summary(self) -> pd.DataFrame:
        """``model, parameter, value, standard_error, note``, one row per parameter."""
        return likelihood.summary(self.model, self.parameters, self.standard_errors, self.weak)

    def expected_spend(self, histories: pd.DataFrame) -> pd.Series:
        """Mean amount of each customer's next purchases, in currency, indexed like the input.

        Args:
            histories: ``frequency``, and ``monetary_value``: mean amount per repeat purchase day.
                Where ``frequency`` is 0 the population's mean is given; an amount below 0 (returns
                outweigh purchases) counts as 0.
        """
        x, z = spend_columns(histories)
        expected = expected_by_history(x, z, *self.parameters.values())
        return pd.Series(expected, histories.index, name="expected_spend")

    def draws(self, count: int, rng: int | np.random.Generator) -> Floats:
        """Parameters the data allow, ``(count, 3)`` in the order p, q, gamma (Laplace).

        Draws whose mean spend would be infinite (q <= 1) are held just above.
        """
        generator = np.random.default_rng(rng)
        parameters = tuple(self.parameters.values())
        drawn = likelihood.draw_parameters(parameters, self.log_covariance, count, generator)
        drawn[:, 1] = np.maximum(drawn[:, 1], 1 + 0.1 * (self.q - 1))
        return drawn

    def sample_new(self, frequency: Floats, rng: int | np.random.Generator) -> pd.DataFrame:
        """Spend of new customers with these repeat purchases: ``frequency, monetary_value``."""
        generator = np.random.default_rng(rng)
        x = np.asarray(frequency, dtype=float)
        rate = generator.gamma(self.q, 1 / self.gamma, len(x))
        total = generator.gamma(self.p * np.maximum(x, 1)) / rate
        spend = np.where(x > 0, total / np.maximum(x, 1), 0.0)
        return pd.DataFrame({"frequency": x, "monetary_value": spend})


def repeat_spend(histories: pd.DataFrame) -> pd.DataFrame:
    """The rows Gamma-Gamma can learn from: repeat customers with a positive mean amount.

    Args:
        histories: ``frequency, monetary_value`` and whatever else, one row per customer.

    Returns:
        Those rows, unchanged. Customers whose returns outweigh their repeat purchases are left
        out; ``screening.doubts`` counts them.
    """
    x, z = spend_columns(histories)
    return histories.loc[(x > 0) & (z > 0)]


def fit_gamma_gamma(spend: pd.DataFrame, unit: str = "currency units") -> GammaGammaFit:
    """Estimate Gamma-Gamma by maximum likelihood.

    Args:
        spend: One row per customer or cell. ``frequency``: purchases that ``monetary_value``
            averages (1 or more). ``monetary_value``: mean amount per repeat purchase day, in
            currency (above 0). ``customers``: how many share the row (absent: one each).
        unit: Name of the currency, kept with the fit.

    Raises:
        ContractError: Some row breaks the above; the message names rows.
        FitError: All spend alike, fewer than three customers, or mean spend has no finite value.

    Source:
        Fader & Hardie, "The Gamma-Gamma Model of Monetary Value" (2013), equation 1a.
    """
    x, z = spend_columns(spend)
    refuse_rows(
        spend,
        x <= 0,
        "frequency must be 1 or more: customers who bought once tell nothing about repeat spend",
        "pass clv.repeat_spend(histories)",
    )
    refuse_rows(
        spend,
        z <= 0,
        "monetary_value must be above 0",
        "pass clv.repeat_spend(histories), or open the data with returns='separate'",
    )
    n = weights(spend)
    customers = float(n.sum())
    if customers < 3 or np.ptp(z) <= 1e-9 * z.max():
        raise FitError(
            f"{customers:,.0f} repeat customers with mean spend {z.min():g} to {z.max():g} leave "
            "nothing to estimate: use their mean as everybody's spend"
        )
    (x, z), n = collapse([x, z], n)
    # Shapes of common size; gamma so that the mean p gamma / (q - 1) is the customers' own.
    mean, some = weighted_sum(n, z) / customers, every_nth(len(x))
    best = maximise(
        _log_likelihood(x, z, n),
        np.log([4.0, 4.0, 0.75 * mean]),
        customers,
        NAMES,
        MODEL,
        None if some is None else _log_likelihood(x[some], z[some], n[some]),
    )
    p, q, gamma = best.parameters
    if q <= 1:
        raise FitError(
            f"Gamma-Gamma puts q at {q:.3f}, where mean spend is infinite: a few of "
            f"{customers:,.0f} repeat customers spend orders of magnitude more than the rest "
            f"(largest mean {z.max():g}, median {np.median(z):g}); model wholesale buyers apart"
        )
    return GammaGammaFit(
        p,
        q,
        gamma,
        log_likelihood=best.log_likelihood,
        n_customers=round(customers),
        log_covariance=best.log_covariance,
        converged=best.converged,
        weak=best.weak,
        unit=unit,
    )


def _log_likelihood(x: Floats, z: Floats, n: Floats) -> likelihood.Likelihood:
    """Value, gradient and Hessian in the logs of p, q, gamma, of cells sorted by ``x``."""
    starts, _ = groups([x])
    k, of_k = x[starts], np.add.reduceat(n, starts)
    total = n.sum()
    of_log = np.add.reduceat(n * (np.log(x) + np.log(z)), starts)
    constant = -weighted_sum(n, np.log(z))

    def of_natural(natural: Floats) -> tuple[float, Floats, Floats]:
        p, q, gamma = natural
        # Sums that run over all cells: of log(gamma + x z), its inverse and its inverse square,
        # each alone and times x or x squared.
        logs, x_logs, inverse, x_inverse, squared, x_squared = np.zeros(6)
        for start in range(0, len(x), BLOCK):
            part = slice(start, start + BLOCK)
            x_, n_ = x[part], n[part]
            sum_ = gamma + x_ * z[part]
            log_, over = n_ * np.log(sum_), 1 / sum_
            logs += log_.sum()
            x_logs += weighted_sum(x_, log_)
            weight = n_ * over
            inverse += weight.sum()
            x_inverse += weighted_sum(x_, weight)
            weight *= over
            squared += weight.sum()
            x_squared += weighted_sum(x_, weight)
        psi_both, psi_p = psi(p * k + q), psi(p * k)
        bend_both, bend_p = polygamma(1, p * k + q), polygamma(1, p * k)
        value = (
            weighted_sum(of_k, gammaln(p * k + q) - gammaln(p * k) - gammaln(q))
            + total * q * np.log(gamma)
            + p * weighted_sum(k, of_log)
            + constant
            - p * x_logs
            - q * logs
        )
        gradient = np.array(
            [
                weighted_sum(of_k, k * (psi_both - psi_p)) + weighted_sum(k, of_log) - x_logs,
                weighted_sum(of_k, psi_both - psi(q)) + total * np.log(gamma) - logs,
                total * q / gamma - p * x_inverse - q * inverse,
            ]
        )
        pp = weighted_sum(of_k, k**2 * (bend_both - bend_p))
        pq = weighted_sum(of_k, k * bend_both)
        qq = weighted_sum(of_k, bend_both - polygamma(1, q))
        q_gamma = total / gamma - inverse
        gamma_gamma = -total * q / gamma**2 + p * x_squared + q * squared
        hessian = np.array(
            [[pp, pq, -x_inverse], [pq, qq, q_gamma], [-x_inverse, q_gamma, gamma_gamma]]
        )
        return float(value), gradient, hessian

    return in_logs(of_natural)


def expected_by_history(x: Floats, z: Floats, p: float, q: float, gamma: float) -> Floats:
    """Expected spend per purchase given ``x`` purchases of mean ``z``."""
    return np.asarray(p * (gamma + x * np.maximum(z, 0.0)) / (p * x + q - 1))


def sample_spend(
    purchases: Floats,
    x: Floats,
    z: Floats,
    p: float,
    q: float,
    gamma: float,
    *,
    rng: np.random.Generator,
) -> Floats:
    """Amount that ``purchases`` future purchases bring, drawn exactly from the posterior."""
    rate = rng.gamma(q + p * x) / (gamma + x * np.maximum(z, 0.0))
    return np.where(purchases > 0, rng.gamma(p * np.maximum(purchases, 1)) / rate, 0.0)
