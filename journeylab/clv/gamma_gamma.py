"""Gamma-Gamma: what a customer spends per purchase, shrunk towards what customers spend."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import gammaln, polygamma, psi

from journeylab.clv.histories import (
    Floats,
    on_distinct,
    refuse_rows,
    spend_columns,
    weighted_sum,
    weights,
)
from journeylab.clv.likelihood import draw_parameters, maximise
from journeylab.errors import FitError

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
    """

    p: float
    q: float
    gamma: float
    log_likelihood: float
    n_customers: int
    log_covariance: tuple[tuple[float, ...], ...]
    converged: bool = True
    weak: tuple[str, ...] = ()

    @property
    def model(self) -> str:
        """What the model is called."""
        return "Gamma-Gamma"

    @property
    def parameters(self) -> dict[str, float]:
        """``p, q, gamma`` by name."""
        return {"p": self.p, "q": self.q, "gamma": self.gamma}

    @property
    def standard_errors(self) -> dict[str, float]:
        """Of the natural parameters, from the Hessian of the log-parameters (delta method)."""
        deviations = np.sqrt(np.diag(np.array(self.log_covariance)))
        return {n: self.parameters[n] * float(s) for n, s in zip(NAMES, deviations, strict=True)}

    @property
    def aic(self) -> float:
        """Akaike's criterion; smaller is better, on the same customers and currency only."""
        return 2 * len(NAMES) - 2 * self.log_likelihood

    @property
    def mean(self) -> float:
        """Mean spend per purchase over all customers, in currency."""
        return self.p * self.gamma / (self.q - 1)

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
        drawn = draw_parameters(parameters, self.log_covariance, count, generator)
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


def fit_gamma_gamma(spend: pd.DataFrame) -> GammaGammaFit:
    """Estimate Gamma-Gamma by maximum likelihood.

    Args:
        spend: One row per customer or cell. ``frequency``: purchases that ``monetary_value``
            averages (1 or more). ``monetary_value``: mean amount per repeat purchase day, in
            currency (above 0). ``customers``: how many share the row (absent: one each).

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
    log_z, log_x = np.log(z), np.log(x)

    def likelihood(natural: Floats) -> tuple[float, Floats, Floats]:
        p, q, gamma = natural
        total = gamma + x * z
        log_total = np.log(total)
        each = (
            on_distinct(lambda k: gammaln(p * k + q) - gammaln(p * k), x)
            - gammaln(q)
            + q * np.log(gamma)
            + p * x * (log_x + log_z)
            - log_z
            - (p * x + q) * log_total
        )
        psi_both = on_distinct(lambda k: psi(p * k + q), x)
        psi_p = on_distinct(lambda k: psi(p * k), x)
        gradient = [
            x * (psi_both - psi_p + log_x + log_z - log_total),
            psi_both - psi(q) + np.log(gamma) - log_total,
            q / gamma - (p * x + q) / total,
        ]
        trigamma = on_distinct(lambda k: polygamma(1, p * k + q), x)
        pp = weighted_sum(n, x**2 * (trigamma - on_distinct(lambda k: polygamma(1, p * k), x)))
        pq = weighted_sum(n, x * trigamma)
        qq = weighted_sum(n, trigamma - polygamma(1, q))
        p_gamma = -weighted_sum(n, x / total)
        q_gamma = weighted_sum(n, 1 / gamma - 1 / total)
        gamma_gamma = weighted_sum(n, -q / gamma**2 + (p * x + q) / total**2)
        hessian = np.array([[pp, pq, p_gamma], [pq, qq, q_gamma], [p_gamma, q_gamma, gamma_gamma]])
        return weighted_sum(n, each), np.array([weighted_sum(n, d) for d in gradient]), hessian

    # Shapes of common size; gamma so that the mean p gamma / (q - 1) is the customers' own.
    mean = weighted_sum(n, z) / customers
    best = maximise(likelihood, np.array([4.0, 4.0, 0.75 * mean]), customers, NAMES, "Gamma-Gamma")
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
    )


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
