"""Payback: when what customers bring has repaid what it cost to win them, channel by channel."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil
from typing import Literal, TypeVar

import numpy as np
import pandas as pd
from scipy.optimize import isotonic_regression

from journeylab.clv.gamma_gamma import GammaGammaFit
from journeylab.clv.histories import Floats, numbers, refuse_rows
from journeylab.clv.value import MONTH_DAYS, PurchaseFit
from journeylab.errors import ContractError, FitError
from journeylab.estimate import Estimate, from_draws
from journeylab.frames import DAYS_PER_UNIT

_Fit = TypeVar("_Fit")

# A line through fewer periods says nothing about its slope.
_FEWEST_PERIODS = 6
# Customers whose mean spend is drawn apart; beyond that their mean hardly moves.
_DISTINCT = 2_000


@dataclass(frozen=True, slots=True)
class Payback:
    """What acquisition cost against what it brings. Amounts are in ``currency``.

    Attributes:
        cohorts: One row per channel and month of acquisition: ``channel, cohort, customers, cost,
            cac`` (cost per customer), ``ltv`` (value per customer over ``months``), ``ltv_cac``
            and ``payback_month``, each of the last three with ``_low, _high``; ``paid_back``
            (share of draws that repay within ``months``, 0-1). A payback month of ``months`` + 1
            stands for later than the path goes; 0 for value that comes with the first purchase.
        channels: The same with all cohorts of a channel together.
        curve: ``channel, month, net, net_low, net_high``: value per customer so far less the cost.
        months: How far the path goes.
        level: Coverage of the intervals (0-1).
        currency: Unit of the amounts.
        without_cost: Channels of the path that no cost is known of, such as organic.
    """

    cohorts: pd.DataFrame
    channels: pd.DataFrame
    curve: pd.DataFrame
    months: int
    level: float
    currency: str
    without_cost: tuple[str, ...]


def value_path(
    cohorts: pd.DataFrame,
    purchase_fits: Mapping[str, PurchaseFit],
    spend_fits: Mapping[str, GammaGammaFit],
    months: int,
    rng: int | np.random.Generator,
    *,
    annual_discount: float = 0.0,
    margin: float = 1.0,
    draws: int = 200,
) -> pd.DataFrame:
    """What new customers bring month by month since their first purchase, with its uncertainty.

    Month 0 is the first purchase; month k is the k-th 30 days after it. Each draw takes parameters
    from the Laplace approximations and one future of every cohort: purchases and amounts scatter
    as they do among as many customers.

    Args:
        cohorts: ``channel, cohort`` (first day of the month of acquisition), ``customers`` (count,
            1 or more), ``first_spend`` (mean amount of the first purchase), as from
            ``frames.acquired``.
        purchase_fits: By channel; the key ``""`` serves channels that have none of their own.
        spend_fits: Likewise.
        months: How far the path goes, months of 30 days.
        rng: Seed or generator.
        annual_discount: Rate per year.
        margin: Share of an amount that stays after the cost of goods (0-1].
        draws: Parameter sets.

    Returns:
        ``channel, cohort, customers, draw, month, value``: value per customer in that month,
        discounted, after margin.

    Raises:
        ContractError: A row or option is out of bounds, or a channel has no fit.
    """
    customers, first = numbers(cohorts, ("customers", "first_spend"), "cohorts")
    refuse_rows(cohorts, customers < 1, "customers must be 1 or more", "drop empty cohorts")
    if months < 1 or not 0 < margin <= 1 or annual_discount < 0 or draws < 20:
        raise ContractError(
            "months must be 1 or more, margin in (0, 1], annual_discount 0 or more and draws 20 or "
            f"more; got {months}, {margin}, {annual_discount}, {draws}"
        )
    generator = np.random.default_rng(rng)
    ends = np.arange(months + 1.0) * MONTH_DAYS
    at_end = (1 + annual_discount) ** (-ends / 365.0)
    kept = margin * np.concatenate([[1.0], (at_end[1:] + at_end[:-1]) / 2])
    channels = cohorts["channel"].astype(str).to_numpy()
    values = np.empty((len(cohorts), draws, months + 1))
    for channel in np.unique(channels):
        purchase = _of(purchase_fits, channel, "purchase")
        spend = _of(spend_fits, channel, "spend")
        rows = np.flatnonzero(channels == channel)
        bought = purchase.draws(draws, generator)
        amounts = spend.draws(draws, generator)
        for k in range(draws):
            drawn = replace(purchase, **dict(zip(purchase.parameters, bought[k], strict=True)))
            expected = np.diff(drawn.expected_new(ends / DAYS_PER_UNIT[purchase.unit]))
            p, q, gamma = amounts[k]
            each = p * gamma / (q - 1)
            for row in rows:
                # Customers differ: a few ones' rates and means move a small cohort's total.
                buyers = customers[row]
                rate = generator.gamma(drawn.r * buyers) / (drawn.r * buyers)
                count = generator.poisson(buyers * rate * expected).astype(float)
                some = int(np.clip(min(count.sum(), buyers), 1, _DISTINCT))
                mean = each * (q - 1) * float((1 / generator.gamma(q, 1.0, some)).mean())
                money = generator.gamma(p * np.maximum(count, 1.0)) * mean / p
                values[row, k, 0] = first[row]
                values[row, k, 1:] = np.where(count > 0, money, 0.0) / buyers
    values *= kept
    size = draws * (months + 1)
    return pd.DataFrame(
        {
            "channel": np.repeat(channels, size),
            "cohort": cohorts["cohort"].repeat(size).to_numpy(),
            "customers": np.repeat(customers.astype(int), size),
            "draw": np.tile(np.repeat(np.arange(draws), months + 1), len(cohorts)),
            "month": np.tile(np.arange(months + 1), len(cohorts) * draws),
            "value": values.ravel(),
        }
    )


def payback(
    path: pd.DataFrame,
    costs: pd.DataFrame,
    *,
    level: float = 0.95,
    currency: str = "currency units",
) -> Payback:
    """Set what customers bring against what it cost to win them.

    Args:
        path: ``channel, cohort`` (first day of the month), ``customers, draw, month`` (0, 1, ...),
            ``value`` (per customer in that month), as from ``value_path``; one draw is enough
            where there is no uncertainty.
        costs: ``channel, period`` (first day), ``cost``, as the ``channel_costs`` table; periods
            within a month are added up. ``acquired``, where given, is who the cost won; without
            it the cohort's own customers are taken.
        level: Coverage of the intervals (0-1).
        currency: Unit of the amounts.

    Raises:
        ContractError: A column or number is out of bounds, months or draws are missing, or no
            channel of the path has a cost.
    """
    if not 0 < level < 1:
        raise ContractError(f"level must lie in (0, 1); got {level}")
    month, draw, _, _ = numbers(path, ("month", "draw", "value", "customers"), "path")
    spent = _monthly(costs)
    cohorts = path[["channel", "cohort", "customers"]].drop_duplicates(["channel", "cohort"])
    cohorts = cohorts.assign(
        channel=cohorts["channel"].astype(str), cohort=_month_of(cohorts["cohort"])
    ).reset_index(drop=True)
    months, draws = int(month.max()), int(draw.max()) + 1
    if len(path) != len(cohorts) * draws * (months + 1):
        raise ContractError(
            f"path must hold every month 0 to {months} of every draw for each of {len(cohorts)} "
            f"cohorts, {len(cohorts) * draws * (months + 1):,} rows; got {len(path):,}"
        )
    ordered = path.assign(channel=path["channel"].astype(str), cohort=_month_of(path["cohort"]))
    ordered = ordered.sort_values(["channel", "cohort", "draw", "month"], kind="stable")
    cohorts = cohorts.sort_values(["channel", "cohort"]).reset_index(drop=True)
    values = ordered["value"].to_numpy(float).reshape(len(cohorts), draws, months + 1)
    joined = cohorts.merge(spent, on=["channel", "cohort"], how="left")
    has_cost = joined["cost"].notna().to_numpy()
    if not has_cost.any():
        raise ContractError(
            f"no cost is known of {', '.join(sorted(set(cohorts['channel'])))}; costs are of "
            f"{', '.join(sorted(set(spent['channel'])))}: channel and month must match"
        )
    free = tuple(sorted(set(joined["channel"]) - set(joined.loc[has_cost, "channel"])))
    values, joined = values[has_cost], joined[has_cost].reset_index(drop=True)
    won = joined["acquired"].fillna(joined["customers"]).to_numpy(float)
    refuse_rows(joined, won <= 0, "a cost must have won somebody", "drop periods without customers")
    cost = joined["cost"].to_numpy(float)
    so_far = values.cumsum(axis=2)
    rows = [_row(so_far[k], cost[k] / won[k], level) for k in range(len(joined))]
    table = pd.concat(
        [
            joined[["channel", "cohort"]].assign(customers=won.astype(int), cost=cost),
            pd.DataFrame(rows),
        ],
        axis=1,
    )
    by_channel, curves = [], []
    for channel, places in joined.groupby("channel").indices.items():
        weight = won[places] / won[places].sum()
        together = np.tensordot(weight, so_far[places], axes=1)
        each = cost[places].sum() / won[places].sum()
        by_channel.append(
            {
                "channel": channel,
                "customers": int(won[places].sum()),
                "cost": float(cost[places].sum()),
                **_row(together, each, level),
            }
        )
        net = together - each
        low, high = np.quantile(net, [(1 - level) / 2, (1 + level) / 2], axis=0)
        curves.append(
            pd.DataFrame(
                {
                    "channel": channel,
                    "month": np.arange(months + 1),
                    "net": net.mean(axis=0),
                    "net_low": low,
                    "net_high": high,
                }
            )
        )
    curve = pd.concat(curves, ignore_index=True)
    return Payback(table, pd.DataFrame(by_channel), curve, months, level, currency, free)


@dataclass(frozen=True, slots=True)
class MarginalCost:
    """What the last customers of a channel cost.

    Attributes:
        channel: Which.
        average: Cost per customer that the spending won, organic ones taken off.
        marginal: Cost of one more customer at the latest period's spending.
        elasticity: Per cent more customers for one per cent more spending; below 1 the last ones
            cost more than the average. Of the isotonic method: average over marginal cost.
        curve: ``cost, acquired, marginal``: customers won and cost of one more, by spending.
        at_cost: Spending at which ``marginal`` is taken.
        periods: Periods it rests on.
        method: ``log-log`` or ``isotonic``.
    """

    channel: str
    average: Estimate
    marginal: Estimate
    elasticity: Estimate
    curve: pd.DataFrame
    at_cost: float
    periods: int
    method: str


def marginal_cost(
    costs: pd.DataFrame,
    channel: str,
    rng: int | np.random.Generator,
    *,
    organic: float = 0.0,
    method: Literal["log-log", "isotonic"] = "log-log",
    currency: str = "currency units",
    level: float = 0.95,
    draws: int = 500,
) -> MarginalCost:
    """Cost of one more customer, from how acquisition moved with spending.

    It reads periods that differ in spending as if nothing else differed between them: a season in
    which both rise makes customers look cheaper than they are.

    Args:
        costs: ``channel, period, cost, acquired``, one row per period.
        channel: Which of them.
        rng: Seed or generator.
        organic: Customers per period who would have come without spending; taken off. Periods
            without spending raise it to their mean where that is larger.
        method: ``log-log``: customers won are a power of spending. ``isotonic``: they rise with
            it and each further one costs no less, no more is assumed.
        currency: Unit of the costs.
        level: Coverage of the bootstrap intervals over periods (0-1).
        draws: Resamples.

    Raises:
        ContractError: Columns or numbers are out of bounds, or the channel is unknown.
        FitError: Too few periods with spending, spending that never varied, or no more customers
            with more spending.
    """
    if method not in ("log-log", "isotonic"):
        raise ContractError(f"method must be log-log or isotonic; got {method!r}")
    own = costs[costs["channel"].astype(str) == channel].sort_values("period")
    if own.empty:
        raise ContractError(
            f"there are no costs of {channel!r}; known are "
            f"{', '.join(sorted(set(costs['channel'].astype(str))))}"
        )
    cost, acquired = numbers(own, ("cost", "acquired"), "costs")
    refuse_rows(own, (cost < 0) | (acquired < 0), "cost and acquired must be 0 or more", "mend it")
    idle = cost == 0
    baseline = max(organic, float(acquired[idle].mean()) if idle.any() else 0.0)
    spent, net = cost[~idle], np.maximum(acquired[~idle] - baseline, 0.0)
    at = float(spent[-1]) if len(spent) else 0.0
    _enough(channel, spent, net)
    generator, pairs = np.random.default_rng(rng), np.column_stack([spent, net])
    found = _slope(pairs, at, method)
    if found is None:
        raise FitError(
            f"{channel}: customers won do not rise with spending over {len(spent)} periods, so one "
            "more has no price; vary spending on purpose, by area or week, and look again"
        )
    picks = (generator.integers(0, len(pairs), len(pairs)) for _ in range(draws))
    some = [got for pick in picks if (got := _slope(pairs[pick], at, method)) is not None]
    # Resamples in which spending wins nobody have no finite cost: the interval is of the others,
    # and refused where they are too many to leave out.
    if len(some) < 0.8 * draws:
        raise FitError(
            f"{channel}: in {draws - len(some)} of {draws} resamples of {len(spent)} periods more "
            "spending wins nobody; the cost of one more customer cannot be told from infinity"
        )
    drawn = np.array(some)
    per_head = f"{currency} per customer"
    grid = np.linspace(spent.min(), spent.max(), 25)
    return MarginalCost(
        channel=channel,
        average=from_draws(found[0], drawn[:, 0], per_head, level),
        marginal=from_draws(found[1], drawn[:, 1], per_head, level),
        elasticity=from_draws(found[2], drawn[:, 2], "% per %", level),
        curve=_cost_curve(pairs, grid, method),
        at_cost=at,
        periods=len(spent),
        method=method,
    )


def _of(fits: Mapping[str, _Fit], channel: str, kind: str) -> _Fit:
    if channel in fits:
        return fits[channel]
    if "" in fits:
        return fits[""]
    raise ContractError(
        f"there is no {kind} fit for {channel!r}: give one, or one for all under the key ''"
    )


def _month_of(days: pd.Series) -> pd.Series:
    months = pd.to_datetime(days).to_numpy().astype("datetime64[M]").astype("datetime64[ns]")
    return pd.Series(months, days.index)


def _monthly(costs: pd.DataFrame) -> pd.DataFrame:
    """Costs by channel and month, with whom they won."""
    for name in ("channel", "period"):
        if name not in costs.columns:
            raise ContractError(f"costs need the columns channel, period, cost; {name} is missing")
    (cost,) = numbers(costs, ("cost",), "costs")
    refuse_rows(costs, cost < 0, "cost must be 0 or more", "refunds of spending belong elsewhere")
    frame = pd.DataFrame(
        {
            "channel": costs["channel"].astype(str),
            "cohort": _month_of(costs["period"]),
            "cost": cost,
            "acquired": pd.to_numeric(costs["acquired"], errors="coerce").astype(float)
            if "acquired" in costs.columns
            else np.nan,
        }
    )
    return frame.groupby(["channel", "cohort"], as_index=False).agg(
        cost=("cost", "sum"), acquired=("acquired", lambda own: own.sum(min_count=len(own)))
    )


def _row(so_far: Floats, each: float, level: float) -> dict[str, float]:
    """Value, ratio and payback month of one cohort from cumulative value by draw and month."""
    months = so_far.shape[1] - 1
    ltv = so_far[:, -1]
    repaid = so_far >= each
    month = np.where(repaid.any(axis=1), repaid.argmax(axis=1), months + 1)
    mean_repaid = so_far.mean(axis=0) >= each
    typical = int(mean_repaid.argmax()) if mean_repaid.any() else months + 1
    tails = [(1 - level) / 2, (1 + level) / 2]
    low, high = np.quantile(ltv, tails).tolist()
    first, last = np.quantile(month, tails, method="inverted_cdf").tolist()
    value = float(ltv.mean())
    # What was free is repaid at once and has no ratio: the cost counts as a cent.
    price = max(each, 0.01)
    return {
        "cac": each,
        "ltv": value,
        "ltv_low": min(low, value),
        "ltv_high": max(high, value),
        "ltv_cac": value / price,
        "ltv_cac_low": min(low, value) / price,
        "ltv_cac_high": max(high, value) / price,
        "payback_month": typical,
        "payback_month_low": min(int(first), typical),
        "payback_month_high": max(ceil(last), typical),
        "paid_back": float(repaid.any(axis=1).mean()),
    }


def _enough(channel: str, spent: Floats, net: Floats) -> None:
    if len(spent) < _FEWEST_PERIODS or spent.max() - spent.min() <= 1e-9 * spent.max():
        raise FitError(
            f"{channel}: {len(spent)} periods with spending "
            f"({spent.min(initial=np.inf):g} to {spent.max(initial=0):g}) cannot show what more of "
            f"it wins; {_FEWEST_PERIODS} periods that differ are needed"
        )
    if (net > 0).sum() < _FEWEST_PERIODS:
        raise FitError(
            f"{channel}: only {int((net > 0).sum())} of {len(net)} periods won more than the "
            f"organic customers; {_FEWEST_PERIODS} are needed"
        )


def _slope(pairs: Floats, at: float, method: str) -> tuple[float, float, float] | None:
    """Average cost, marginal cost at ``at``, elasticity; nothing where the slope is not above 0."""
    average = float(pairs[:, 0].sum() / max(pairs[:, 1].sum(), 1e-9))
    if method == "log-log":
        line = _line(pairs)
        if line is None or line[1] <= 0.01:
            return None
        scale, elasticity = line
        return average, at / (elasticity * scale * at**elasticity), elasticity
    cost, won = _majorant(pairs)
    segment = min(max(int(np.searchsorted(cost, at, side="left")), 1), len(cost) - 1)
    rise = won[segment] - won[segment - 1]
    if rise <= 1e-9:
        return None
    marginal = float((cost[segment] - cost[segment - 1]) / rise)
    return average, marginal, average / marginal


def _line(pairs: Floats) -> tuple[float, float] | None:
    """Scale and exponent of customers won by spending: least squares with Poisson weights."""
    some = pairs[pairs[:, 1] > 0]
    x, y, weight = np.log(some[:, 0]), np.log(some[:, 1]), some[:, 1]
    if len(some) < 3 or np.ptp(x) == 0:
        return None
    mean_x, mean_y = np.average(x, weights=weight), np.average(y, weights=weight)
    spread = np.average((x - mean_x) ** 2, weights=weight)
    elasticity = float(np.average((x - mean_x) * (y - mean_y), weights=weight) / spread)
    return float(np.exp(mean_y - elasticity * mean_x)), elasticity


def _majorant(pairs: Floats) -> tuple[Floats, Floats]:
    """Concave and rising through nothing for nothing: corners of customers won by spending."""
    order = np.argsort(pairs[:, 0], kind="stable")
    cost, start = np.unique(pairs[order, 0], return_index=True)
    count = np.diff(np.append(start, len(order))).astype(float)
    won = np.add.reduceat(pairs[order, 1], start) / count
    won = isotonic_regression(won, weights=count).x
    cost, won = np.concatenate([[0.0], cost]), np.concatenate([[0.0], won])
    # Falling slopes: pool neighbours, each weighted by its stretch of spending.
    width = np.diff(cost)
    slopes = isotonic_regression(np.diff(won) / width, weights=width, increasing=False).x
    return cost, np.concatenate([[0.0], np.cumsum(slopes * width)])


def _cost_curve(pairs: Floats, grid: Floats, method: str) -> pd.DataFrame:
    if method == "log-log":
        scale, elasticity = _line(pairs) or (0.0, 1.0)
        won = scale * grid**elasticity
        return pd.DataFrame({"cost": grid, "acquired": won, "marginal": grid / (elasticity * won)})
    cost, won = _majorant(pairs)
    rises = np.diff(won) / np.diff(cost)
    at = np.clip(np.searchsorted(cost, grid, side="left"), 1, len(cost) - 1) - 1
    # Beyond the point where more wins nobody there is no price: the curve ends before it.
    some = rises[at] > 1e-12
    return pd.DataFrame(
        {
            "cost": grid[some],
            "acquired": np.interp(grid, cost, won)[some],
            "marginal": 1 / rises[at][some],
        }
    )
