"""Value: what each customer is expected to bring, and what each one may bring."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import ceil

import numpy as np
import pandas as pd

from journeylab.clv import gamma_gamma
from journeylab.clv.bg_nbd import BgNbdFit
from journeylab.clv.calibration import Calibration, total_estimate
from journeylab.clv.gamma_gamma import GammaGammaFit
from journeylab.clv.histories import Floats, purchase_columns, refuse_rows, spend_columns
from journeylab.clv.mbg_nbd import MbgNbdFit
from journeylab.clv.pareto_nbd import ParetoNbdFit
from journeylab.errors import ContractError
from journeylab.estimate import Estimate, from_draws
from journeylab.frames import DAYS_PER_UNIT

# A month of the path; discounting is exact at its ends and linear between them.
MONTH_DAYS = 30
# Beyond this nobody's purchases can be forecast, and a path has no sensible length.
LONGEST_DAYS = 50 * 366
# Numbers a path may hold: 400 MB.
_LARGEST_PATH = 50_000_000
# Customers drawn at a time: draws times this many numbers are held at once, twice.
_CHUNK = 20_000

PurchaseFit = BgNbdFit | MbgNbdFit | ParetoNbdFit


@dataclass(frozen=True, slots=True)
class Value:
    """Customers' value over a horizon. Amounts are in ``currency``, discounted, after ``margin``.

    Attributes:
        customers: One row per customer, most valuable first: ``rank, customer_id, clv,
            expected_purchases, expected_spend`` (per purchase, before discount and margin),
            ``p_alive`` (left out where the data are left-truncated), ``frequency``;
            ``mean_low, mean_high``: how well ``clv`` is known; ``outcome_low, outcome_high``: what
            this customer may bring; ``purchases_low, purchases_high``: how often this customer may
            buy; ``margin``; ``own_history``: false for customers without a repeat purchase, who get
            the answer of their cohort: nothing but their age tells them apart.
        path: Expected value by customer and month of 30 days: index ``customer_id`` in the order
            of ``customers``, one column per month, named by its last day (the last may be
            shorter). Discounted, after margin; a row sums to its ``clv``.
        purchases: Total purchases, with what the total may come to.
        clv: Total value, likewise.
        spend: Mean amount of one of these purchases, likewise, before discount and margin.
        top_share: Share of the total value held by the ``top_customers`` first ranks, likewise.
        top_clv: Value of those customers together, likewise.
        top_customers: How many they are.
        horizon_days, annual_discount, currency: As asked for.
        margin: As asked for; where it differs by customer, the mean over expected spend.
        left_truncation: Why ``p_alive`` is left out; empty where it is given.
    """

    customers: pd.DataFrame
    path: pd.DataFrame
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
    left_truncation: str = ""


def value(
    histories: pd.DataFrame,
    purchase_fit: PurchaseFit,
    spend_fit: GammaGammaFit,
    horizon_days: int,
    rng: int | np.random.Generator,
    *,
    annual_discount: float = 0.0,
    margin: float | pd.Series = 1.0,
    top: float = 0.1,
    level: float = 0.95,
    draws: int = 400,
    currency: str = "currency units",
    left_truncation: str = "",
    calibration: Calibration | None = None,
    purchases_calibration: Calibration | None = None,
    total_errors: Floats | None = None,
    check_days: int | None = None,
) -> Value:
    """Value of each customer over the coming ``horizon_days``, with two kinds of interval.

    ``mean_low, mean_high`` hold the expectation: parameters are drawn from their Laplace
    approximation. ``outcome_low, outcome_high`` hold what the customer may bring: with each
    drawn parameter set one future is drawn exactly (alive or not, own rate, own chance of leaving,
    own spend). A future's amount is discounted by the mean factor of its customer.

    Args:
        histories: ``customer_id, frequency, recency, age, monetary_value``, one row per customer,
            recency and age in the purchase fit's unit.
        purchase_fit: BG/NBD, MBG/NBD or Pareto/NBD without covariates, fitted on these or earlier
            data.
        spend_fit: Likewise.
        horizon_days: Days ahead, 1 to 50 years.
        rng: Seed or generator.
        annual_discount: Rate per year (0.1: an amount in a year is worth 1 / 1.1 of it today).
        margin: Share of an amount that stays after the cost of goods (0-1], one for all or a
            series by customer id (0 is allowed there), as ``margin_shares`` gives it.
        top: Share of customers that the top totals are about (0-1].
        level: Coverage of all intervals (0-1).
        draws: Parameter sets, and futures per customer.
        currency: Unit of the amounts.
        left_truncation: What ``screening.left_truncation`` says of the data; where it says
            anything, ages are not known and ``p_alive`` is left out.
        calibration: From ``recalibrate`` on earlier trials of amounts: where the ends of
            ``outcome_low, outcome_high`` have to be, in place of the model's own levels.
        purchases_calibration: Likewise of counts, for ``purchases_low, purchases_high``.
        total_errors: From ``trial_errors``: log errors of totals on earlier trials. With them the
            intervals of ``purchases, clv, top_clv`` know how far such totals were off; without
            them they take the model as true.
        check_days: How long those trials were, days; needed with ``total_errors``.

    Raises:
        ContractError: A row or an option is out of bounds, a customer is there twice or has no
            margin.
    """
    _check_options(horizon_days, annual_discount, margin, top, draws, level)
    if (total_errors is None) != (check_days is None) or (
        check_days is not None and check_days < 1
    ):
        raise ContractError(
            "total_errors and check_days (1 or more) belong together: pass clv.trial_errors(...) "
            f"and the check_days of the same origins; got check_days {check_days}"
        )
    if not isinstance(purchase_fit, MbgNbdFit) and purchase_fit.coefficients:
        raise ContractError(
            "value takes a purchase fit without covariates; fit again without "
            f"{', '.join((*purchase_fit.purchase_covariates, *purchase_fit.dropout_covariates))}"
        )
    x, t_x, T = purchase_columns(histories)
    _, z = spend_columns(histories)
    repeated = histories["customer_id"].duplicated().to_numpy()
    refuse_rows(histories, repeated, "every customer_id must be there once", "keep one row each")
    generator = np.random.default_rng(rng)
    horizon = horizon_days / DAYS_PER_UNIT[purchase_fit.unit]
    spend_parameters = tuple(spend_fit.parameters.values())
    past = pd.DataFrame({"frequency": x, "recency": t_x, "age": T})

    purchases = purchase_fit.expected_purchases(past, horizon).to_numpy()
    spend = gamma_gamma.expected_by_history(x, z, *spend_parameters)
    margins = _margins(margin, histories)
    by_month = _months(x, T, horizon_days, annual_discount, purchase_fit)
    kept = margins * by_month.sum(axis=1)
    clv = purchases * spend * kept

    customers = pd.DataFrame(
        {
            "customer_id": histories["customer_id"].to_numpy(),
            "clv": clv,
            "expected_purchases": purchases,
            "expected_spend": spend,
            "p_alive": purchase_fit.p_alive(past).to_numpy(),
            "frequency": x.astype(int),
            "margin": margins,
            "own_history": x > 0,
        }
    )
    if left_truncation:
        customers = customers.drop(columns="p_alive")
    # Ties go by customer, so that the list is the same on every machine.
    order = np.lexsort((customers["customer_id"].to_numpy(str), -clv))
    top_customers = max(1, round(top * len(x)))
    is_top = np.zeros(len(x))
    is_top[order[:top_customers]] = 1.0

    drawn_purchase = purchase_fit.draws(draws, generator)
    drawn_spend = spend_fit.draws(draws, generator)
    tails = [(1 - level) / 2, (1 + level) / 2]
    of_amounts, of_counts = (
        tails if found is None else _levels(found, level)
        for found in (calibration, purchases_calibration)
    )
    bounds = np.empty((6, len(x)))
    # Per draw: purchases, their amount, value, value of the top.
    totals = np.zeros((draws, 4))
    for start in range(0, len(x), _CHUNK):
        part = slice(start, start + _CHUNK)
        frame, amounts, factor = past.iloc[part], z[part], kept[part]
        means = np.empty((draws, len(factor)), dtype=np.float32)
        futures, counts = np.empty_like(means), np.empty_like(means)
        for k, drawn_fit in enumerate(_drawn_fits(purchase_fit, drawn_purchase)):
            expected = drawn_fit.expected_purchases(frame, horizon).to_numpy()
            each = gamma_gamma.expected_by_history(x[part], amounts, *drawn_spend[k])
            means[k] = expected * each * factor
            bought = drawn_fit.sample(frame, horizon, 1, generator)[:, 0]
            amount = gamma_gamma.sample_spend(
                bought, x[part], amounts, *drawn_spend[k], rng=generator
            )
            futures[k], counts[k] = amount * factor, bought
            totals[k] += (
                bought.sum(),
                amount.sum(),
                futures[k].sum(dtype=float),
                is_top[part] @ futures[k],
            )
        bounds[:2, part] = np.quantile(means, tails, axis=0)
        bounds[2:4, part] = np.quantile(futures, of_amounts, axis=0)
        bounds[4:, part] = np.quantile(counts, of_counts, axis=0, method="inverted_cdf")
    names = (
        *("mean_low", "mean_high", "outcome_low", "outcome_high"),
        *("purchases_low", "purchases_high"),
    )
    customers = customers.assign(**dict(zip(names, bounds, strict=True)))
    # The mean of a skewed draw may lie beyond its own percentiles only through Monte Carlo error.
    customers["mean_low"] = np.minimum(customers["mean_low"], clv)
    customers["mean_high"] = np.maximum(customers["mean_high"], clv)
    path = pd.DataFrame(
        (purchases * spend * margins)[:, None] * by_month,
        index=pd.Index(customers["customer_id"], name="customer_id"),
        columns=_month_ends(horizon_days)[1:].astype(int),
    ).iloc[order]
    customers = customers.iloc[order].reset_index(drop=True)
    customers.insert(0, "rank", np.arange(1, len(x) + 1))

    bought, amount, total, of_top = totals.T
    top_clv = float(is_top @ clv)

    def of_total(value: float, drawn: Floats, unit: str) -> Estimate:
        if total_errors is None or check_days is None:
            return from_draws(value, drawn, unit, level)
        longer = horizon_days / check_days
        return total_estimate(value, drawn, total_errors, longer, unit, generator, level=level)

    # A draw in which nobody buys has no mean and no share: leave it out.
    some = (bought > 0) & (total > 0)
    forecast, worth = float(purchases.sum()), float(clv.sum())
    # Where nothing is expected of anybody there is nothing to weigh by.
    mean_spend = float(purchases @ spend / forecast) if forecast > 0 else float(spend.mean())
    share = top_clv / worth if worth > 0 else top_customers / len(x)
    weight = purchases * spend
    return Value(
        customers=customers,
        path=path,
        purchases=of_total(forecast, bought, "purchases"),
        clv=of_total(worth, total, currency),
        spend=from_draws(mean_spend, _or(amount[some] / bought[some], mean_spend), currency, level),
        top_share=from_draws(share, _or(of_top[some] / total[some], share), "share", level),
        top_clv=of_total(top_clv, of_top, currency),
        top_customers=top_customers,
        horizon_days=horizon_days,
        annual_discount=annual_discount,
        margin=float(weight @ margins / weight.sum() if weight.sum() > 0 else margins.mean()),
        currency=currency,
        left_truncation=left_truncation,
    )


def futures(
    histories: pd.DataFrame,
    purchase_fit: PurchaseFit,
    spend_fit: GammaGammaFit,
    horizon_days: int,
    draws: int,
    rng: int | np.random.Generator,
) -> tuple[Floats, Floats]:
    """What each customer may do: parameters drawn, then one future of everybody for each set.

    Args:
        histories: As for ``value``; ``customer_id`` is not needed.
        purchase_fit: Without covariates.
        spend_fit: Any.
        horizon_days: Days ahead.
        draws: Futures.
        rng: Seed or generator.

    Returns:
        Purchases and amounts (before discount and margin), each ``(customers, draws)``, for
        ``pit`` and ``Calibration``.
    """
    x, t_x, T = purchase_columns(histories)
    _, z = spend_columns(histories)
    past = pd.DataFrame({"frequency": x, "recency": t_x, "age": T})
    generator = np.random.default_rng(rng)
    horizon = horizon_days / DAYS_PER_UNIT[purchase_fit.unit]
    drawn_spend = spend_fit.draws(draws, generator)
    bought, amounts = np.empty((2, len(x), draws))
    for k, fit in enumerate(_drawn_fits(purchase_fit, purchase_fit.draws(draws, generator))):
        bought[:, k] = fit.sample(past, horizon, 1, generator)[:, 0]
        amounts[:, k] = gamma_gamma.sample_spend(bought[:, k], x, z, *drawn_spend[k], rng=generator)
    return bought, amounts


def p_alive_map(fit: PurchaseFit, age: float, most: int = 12, steps: int = 40) -> pd.DataFrame:
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


def _month_ends(horizon_days: int) -> Floats:
    """Days from now at which the months of the path end, the present first."""
    steps = ceil(horizon_days / MONTH_DAYS)
    return np.asarray(np.minimum(np.arange(steps + 1.0) * MONTH_DAYS, float(horizon_days)))


def _months(
    x: Floats, T: Floats, horizon_days: int, annual_discount: float, fit: PurchaseFit
) -> Floats:
    """Discounted share of each customer's purchases that falls into each month."""
    unit_days, ends = DAYS_PER_UNIT[fit.unit], _month_ends(horizon_days)
    if len(ends) * len(x) > _LARGEST_PATH:
        raise ContractError(
            f"a path of {len(ends) - 1:,} months for {len(x):,} customers is too large; value "
            "fewer customers at a time or shorten horizon_days"
        )
    # Being active or not scales every month alike, so it cancels: take recency as age.
    active = pd.DataFrame({"frequency": x, "recency": np.where(x > 0, T, 0.0), "age": T})
    expected = [fit.expected_purchases(active, end / unit_days).to_numpy() for end in ends]
    by_month = np.diff(np.array(expected), axis=0).T
    total = by_month.sum(axis=1, keepdims=True)
    even = np.diff(ends) / horizon_days
    shares = np.where(total > 0, by_month / np.where(total > 0, total, 1.0), even)
    at_end = (1 + annual_discount) ** (-ends / 365.0)
    return np.asarray(shares * (at_end[1:] + at_end[:-1]) / 2)


def _discount(
    x: Floats, T: Floats, horizon_days: int, annual_discount: float, fit: PurchaseFit
) -> Floats:
    """Mean discount factor of each customer's purchases within the horizon."""
    return np.asarray(_months(x, T, horizon_days, annual_discount, fit).sum(axis=1))


def _drawn_fits(fit: PurchaseFit, drawn: Floats) -> Iterator[PurchaseFit]:
    """The fit with each row of drawn parameters in place of its own."""
    for row in drawn.tolist():
        yield replace(fit, **dict(zip(fit.parameters, row, strict=True)))


def _levels(found: Calibration, level: float) -> list[float]:
    if abs(found.level - level) > 1e-9:
        raise ContractError(
            f"the calibration is of {100 * found.level:g} % intervals and level is {level:g}: ask "
            "for the same level in both"
        )
    return [found.low, found.high]


def _margins(margin: float | pd.Series, histories: pd.DataFrame) -> Floats:
    """Margin of each customer, in the order of the histories."""
    if not isinstance(margin, pd.Series):
        return np.full(len(histories), float(margin))
    own = histories["customer_id"].map(margin).to_numpy(float)
    refuse_rows(
        histories,
        ~((own >= 0) & (own <= 1)),
        "margin must lie in [0, 1] for every customer_id of the histories",
        "build it with clv.margin_shares from frames.customer_margins at the same as_of",
    )
    return own


def _or(draws: Floats, value: float) -> Floats:
    return draws if draws.size else np.array([value])


def _check_options(
    horizon_days: int,
    annual_discount: float,
    margin: float | pd.Series,
    top: float,
    draws: int,
    level: float,
) -> None:
    rules = {
        "horizon_days must be 1 or more": horizon_days >= 1,
        f"horizon_days must be {LONGEST_DAYS} (50 years) at most": horizon_days <= LONGEST_DAYS,
        "annual_discount must be 0 or more": annual_discount >= 0,
        "margin must lie in (0, 1]": isinstance(margin, pd.Series) or 0 < margin <= 1,
        "top must lie in (0, 1]": 0 < top <= 1,
        "draws must be 20 or more": draws >= 20,
        "level must lie in (0, 1)": 0 < level < 1,
    }
    shown = "one each" if isinstance(margin, pd.Series) else margin
    given = (horizon_days, horizon_days, annual_discount, shown, top, draws, level)
    for (rule, holds), got in zip(rules.items(), given, strict=True):
        if not holds:
            raise ContractError(f"{rule}; got {got}")
