"""Value: what each customer is expected to bring, and what each one may bring."""

from dataclasses import dataclass
from math import ceil

import numpy as np
import pandas as pd

from journeylab.clv import bg_nbd, gamma_gamma
from journeylab.clv.bg_nbd import BgNbdFit
from journeylab.clv.gamma_gamma import GammaGammaFit
from journeylab.clv.histories import Floats, purchase_columns, spend_columns
from journeylab.errors import ContractError
from journeylab.estimate import Estimate, from_draws
from journeylab.frames import DAYS_PER_UNIT

# Discounting is exact at this step's ends and linear between them.
_STEP_DAYS = 30.0
# Customers drawn at a time: draws times this many numbers are held at once, twice.
_CHUNK = 20_000


@dataclass(frozen=True, slots=True)
class Value:
    """Customers' value over a horizon. Amounts are in ``currency``, discounted, after ``margin``.

    Attributes:
        customers: One row per customer, most valuable first: ``rank, customer_id, clv,
            expected_purchases, expected_spend`` (per purchase, before discount and margin),
            ``p_alive, frequency``; ``mean_low, mean_high``: how well ``clv`` is known;
            ``outcome_low, outcome_high``: what this customer may bring.
        purchases: Total purchases, with what the total may come to.
        clv: Total value, likewise.
        spend: Mean amount of one of these purchases, likewise, before discount and margin.
        top_share: Share of the total value held by the ``top_customers`` first ranks, likewise.
        top_clv: Value of those customers together, likewise.
        top_customers: How many they are.
        horizon_days, annual_discount, margin, currency: As asked for.
    """

    customers: pd.DataFrame
    purchases: Estimate
    clv: Estimate
    spend: Estimate
    top_share: Estimate
    top_clv: Estimate
    top_customers: int
    horizon_days: int
    annual_discount: float
    margin: float
    currency: str


def value(
    histories: pd.DataFrame,
    purchase_fit: BgNbdFit,
    spend_fit: GammaGammaFit,
    horizon_days: int,
    rng: int | np.random.Generator,
    *,
    annual_discount: float = 0.0,
    margin: float = 1.0,
    top: float = 0.1,
    level: float = 0.95,
    draws: int = 400,
    currency: str = "currency units",
) -> Value:
    """Value of each customer over the coming ``horizon_days``, with two kinds of interval.

    ``mean_low, mean_high`` hold the expectation: parameters are drawn from their Laplace
    approximation. ``outcome_low, outcome_high`` hold what the customer may bring: with each
    drawn parameter set one future is drawn exactly (alive or not, own rate, own chance of leaving,
    own spend). A future's amount is discounted by the mean factor of its customer.

    Args:
        histories: ``customer_id, frequency, recency, age, monetary_value``, one row per customer,
            recency and age in the purchase fit's unit.
        purchase_fit: Fitted on these or earlier data.
        spend_fit: Likewise.
        horizon_days: Days ahead, 1 or more.
        rng: Seed or generator.
        annual_discount: Rate per year (0.1: an amount in a year is worth 1 / 1.1 of it today).
        margin: Share of an amount that stays after the cost of goods (0-1].
        top: Share of customers that the top totals are about (0-1].
        level: Coverage of all intervals (0-1).
        draws: Parameter sets, and futures per customer.
        currency: Unit of the amounts.

    Raises:
        ContractError: A row or an option is out of bounds.
    """
    _check_options(horizon_days, annual_discount, margin, top, draws, level)
    x, t_x, T = purchase_columns(histories)
    _, z = spend_columns(histories)
    generator = np.random.default_rng(rng)
    horizon = horizon_days / DAYS_PER_UNIT[purchase_fit.unit]
    purchase_parameters = tuple(purchase_fit.parameters.values())
    spend_parameters = tuple(spend_fit.parameters.values())

    purchases = bg_nbd.expected_by_history(x, t_x, T, horizon, *purchase_parameters)
    spend = gamma_gamma.expected_by_history(x, z, *spend_parameters)
    kept = margin * _discount(x, T, horizon_days, annual_discount, purchase_fit)
    clv = purchases * spend * kept

    customers = pd.DataFrame(
        {
            "customer_id": histories["customer_id"].to_numpy(),
            "clv": clv,
            "expected_purchases": purchases,
            "expected_spend": spend,
            "p_alive": purchase_fit.p_alive(histories).to_numpy(),
            "frequency": x.astype(int),
        }
    )
    # Ties go by customer, so that the list is the same on every machine.
    order = np.lexsort((customers["customer_id"].to_numpy(str), -clv))
    top_customers = max(1, round(top * len(x)))
    is_top = np.zeros(len(x))
    is_top[order[:top_customers]] = 1.0

    drawn_purchase = purchase_fit.draws(draws, generator)
    drawn_spend = spend_fit.draws(draws, generator)
    tails = [(1 - level) / 2, (1 + level) / 2]
    bounds = np.empty((4, len(x)))
    # Per draw: purchases, their amount, value, value of the top.
    totals = np.zeros((draws, 4))
    for start in range(0, len(x), _CHUNK):
        part = slice(start, start + _CHUNK)
        history, amounts, factor = (x[part], t_x[part], T[part]), z[part], kept[part]
        means = np.empty((draws, len(factor)), dtype=np.float32)
        futures = np.empty_like(means)
        for k in range(draws):
            expected = bg_nbd.expected_by_history(*history, horizon, *drawn_purchase[k])
            each = gamma_gamma.expected_by_history(history[0], amounts, *drawn_spend[k])
            means[k] = expected * each * factor
            bought = bg_nbd.sample_future(*history, horizon, *drawn_purchase[k], rng=generator)
            amount = gamma_gamma.sample_spend(
                bought, history[0], amounts, *drawn_spend[k], rng=generator
            )
            futures[k] = amount * factor
            totals[k] += (
                bought.sum(),
                amount.sum(),
                futures[k].sum(dtype=float),
                is_top[part] @ futures[k],
            )
        bounds[:2, part] = np.quantile(means, tails, axis=0)
        bounds[2:, part] = np.quantile(futures, tails, axis=0)
    names = ("mean_low", "mean_high", "outcome_low", "outcome_high")
    customers = customers.assign(**dict(zip(names, bounds, strict=True)))
    # The mean of a skewed draw may lie beyond its own percentiles only through Monte Carlo error.
    customers["mean_low"] = np.minimum(customers["mean_low"], clv)
    customers["mean_high"] = np.maximum(customers["mean_high"], clv)
    customers = customers.iloc[order].reset_index(drop=True)
    customers.insert(0, "rank", np.arange(1, len(x) + 1))

    bought, amount, total, of_top = totals.T
    top_clv = float(is_top @ clv)
    # A draw in which nobody buys has no mean and no share: leave it out.
    some = (bought > 0) & (total > 0)
    mean_spend = float(purchases @ spend / purchases.sum())
    share = top_clv / float(clv.sum())
    return Value(
        customers=customers,
        purchases=from_draws(float(purchases.sum()), bought, "purchases", level),
        clv=from_draws(float(clv.sum()), total, currency, level),
        spend=from_draws(mean_spend, _or(amount[some] / bought[some], mean_spend), currency, level),
        top_share=from_draws(share, _or(of_top[some] / total[some], share), "share", level),
        top_clv=from_draws(top_clv, of_top, currency, level),
        top_customers=top_customers,
        horizon_days=horizon_days,
        annual_discount=annual_discount,
        margin=margin,
        currency=currency,
    )


def concentration(customers: pd.DataFrame, points: int = 100) -> pd.DataFrame:
    """Lorenz curve, from the most valuable customer down.

    Args:
        customers: ``clv``, one row per customer.
        points: Steps of the curve.

    Returns:
        ``customers`` and ``value``: cumulative shares (0-1), both from 0 to 1.
    """
    ordered = np.sort(customers["clv"].to_numpy(float))[::-1]
    cumulative = np.concatenate([[0.0], np.cumsum(ordered)]) / ordered.sum()
    positions = np.unique(np.linspace(0, len(ordered), points + 1).round().astype(int))
    return pd.DataFrame({"customers": positions / len(ordered), "value": cumulative[positions]})


def p_alive_map(fit: BgNbdFit, age: float, most: int = 12, steps: int = 40) -> pd.DataFrame:
    """Chance of being active by repeat purchases and time since the last one.

    Args:
        fit: The purchase model.
        age: Of the customers shown, in the fit's unit.
        most: Largest number of repeat purchases shown.
        steps: Points along the time axis, from 0 to ``age``.

    Returns:
        One row per point: ``frequency`` (1 to ``most``), ``since_last``, ``age`` (in the fit's
        unit), ``p_alive``.
    """
    frequency, since = np.meshgrid(
        np.arange(1, most + 1), np.linspace(0, age, steps, endpoint=False), indexing="ij"
    )
    grid = pd.DataFrame({"frequency": frequency.ravel(), "since_last": since.ravel()})
    grid["age"] = age
    return grid.assign(p_alive=fit.p_alive(grid.assign(recency=age - grid["since_last"])))


def _discount(
    x: Floats, T: Floats, horizon_days: int, annual_discount: float, fit: BgNbdFit
) -> Floats:
    """Mean discount factor of each customer's purchases within the horizon."""
    if annual_discount == 0:
        return np.ones(len(x))
    unit_days = DAYS_PER_UNIT[fit.unit]
    steps = ceil(horizon_days / _STEP_DAYS)
    ends = np.linspace(0, horizon_days, steps + 1)
    # Being active or not scales every step alike, so it cancels: take recency as age.
    expected = np.array(
        [
            bg_nbd.expected_by_history(x, T, T, end / unit_days, *fit.parameters.values())
            for end in ends
        ]
    )
    at_end = (1 + annual_discount) ** (-ends / 365.0)
    middle = (at_end[1:] + at_end[:-1]) / 2
    return np.asarray(middle @ np.diff(expected, axis=0) / expected[-1])


def _or(draws: Floats, value: float) -> Floats:
    return draws if draws.size else np.array([value])


def _check_options(
    horizon_days: int, annual_discount: float, margin: float, top: float, draws: int, level: float
) -> None:
    rules = {
        "horizon_days must be 1 or more": horizon_days >= 1,
        "annual_discount must be 0 or more": annual_discount >= 0,
        "margin must lie in (0, 1]": 0 < margin <= 1,
        "top must lie in (0, 1]": 0 < top <= 1,
        "draws must be 20 or more": draws >= 20,
        "level must lie in (0, 1)": 0 < level < 1,
    }
    given = (horizon_days, annual_discount, margin, top, draws, level)
    for (rule, holds), got in zip(rules.items(), given, strict=True):
        if not holds:
            raise ContractError(f"{rule}; got {got}")
