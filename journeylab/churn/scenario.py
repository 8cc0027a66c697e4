"""What a retention offer would bring under stated assumptions: a scenario, never a result."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from journeylab.churn.censoring import Floats, outcomes
from journeylab.errors import ContractError

# Midpoints of equally likely slices of the acceptance rate
_SLICES = 200
# Lengths of list that are tried, at most; between them profit hardly moves
_CUTS = 2000
NOBODY, EVERYBODY = "contact nobody", "contact everybody"


@dataclass(frozen=True, slots=True, eq=False)
class Offer:
    """What is assumed of a retention offer; money in the currency of ``value``.

    Attributes:
        value: Margin kept for each leaver who accepts and stays.
        cost: Of the incentive, paid to leavers who accept and to all contacted who would have
            stayed anyway.
        contact: Cost of one contact.
        acceptance: Mean share (0-1) of contacted leavers who accept. Nobody knows it before a
            randomised test.
        certainty: How firmly, as the sum of the two parameters of a beta distribution.
    """

    value: float
    cost: float
    contact: float
    acceptance: float = 0.3
    certainty: float = 20.0

    def __post_init__(self) -> None:
        if not (self.value > 0 and self.cost >= 0 and self.contact >= 0):
            raise ContractError(
                f"an offer needs a value above 0 and costs of 0 or more; got {self.value}, "
                f"{self.cost}, {self.contact}"
            )
        if not (0 < self.acceptance < 1 and self.certainty > 0):
            raise ContractError(
                f"acceptance must lie in (0, 1) and certainty above 0; got {self.acceptance}, "
                f"{self.certainty}"
            )


@dataclass(frozen=True, slots=True, eq=False)
class Scenario:
    """Profit of an offer if the assumptions hold.

    Attributes:
        table: One row per forecast, then ``contact nobody`` and ``contact everybody``: ``model``,
            ``profit`` per customer with ``ci_low``, ``ci_high`` (customers drawn again, the
            assumptions held), and ``contacted``, the mean share of customers on the best list.
        assumptions: In words; belongs beside every number of the table.
    """

    table: pd.DataFrame
    assumptions: str


def retention_scenario(
    frame: pd.DataFrame,
    leaving: Mapping[str, pd.Series],
    horizon_days: float,
    offer: Offer,
    *,
    rng: int | np.random.Generator,
    leavers: Literal["no event", "event"] = "no event",
    draws: int = 200,
    level: float = 0.95,
) -> Scenario:
    """Expected maximum profit of contacting the customers most likely to leave.

    For each acceptance rate that is thought possible the list is as long as pays best; the profit
    is the mean over those rates. It says which forecast would make the better list *if* those at
    risk accept equally often. Whether anybody does is an effect, which risk does not tell.

    Args:
        frame: Rows with their outcomes, not used to make the forecasts.
        leaving: Name -> chance (or any order) of leaving, larger for likelier leavers.
        horizon_days: Within which leaving is judged.
        offer: The assumptions.
        rng: Seed or generator of the draws.
        leavers: Who has left: those without the event (no purchase), or with it (membership ended).
        draws: Of the bootstrap.
        level: Coverage of the intervals (0-1).

    Raises:
        ContractError: A chance is missing, or nobody left.

    Source:
        Verbraken, Verbeke & Baesens (2013), "A novel profit maximizing metric for measuring
        classification performance of customer churn prediction models".
    """
    from scipy.stats import beta

    known = outcomes(frame)
    weights = known.weights(horizon_days)
    had = known.happened & (known.duration <= horizon_days)
    left = had if leavers == "event" else ~had
    if not (weights * left).sum() > 0:
        raise ContractError(f"nobody of {len(frame)} rows left within {horizon_days:g}")
    a = offer.acceptance * offer.certainty
    middles = (np.arange(_SLICES) + 0.5) / _SLICES
    rates = np.asarray(beta.ppf(middles, a, offer.certainty - a), float)
    orders = {}
    for name, chance in leaving.items():
        values = chance.reindex(frame.index).to_numpy(float)
        if missing := int((~np.isfinite(values)).sum()):
            raise ContractError(f"{name!r} is missing in {missing} of {len(frame)} rows")
        orders[name] = np.argsort(-values, kind="stable"), np.sort(-values)
    generator = np.random.default_rng(rng)
    profits = np.empty((draws + 1, len(orders) + 2))
    contacted = []
    for draw in range(draws + 1):
        own = np.ones(known.customers)
        if draw:
            picks = generator.integers(0, known.customers, known.customers)
            own = np.bincount(picks, minlength=known.customers).astype(float)
        weight = weights * own[known.customer]
        gone, stay = weight * left, weight * ~left
        total = float(weight.sum())
        for number, (order, value) in enumerate(orders.values()):
            ends = np.append(np.flatnonzero(np.diff(value) > 0), len(value) - 1)
            ends = ends[np.unique(np.linspace(0, len(ends) - 1, _CUTS).round().astype(int))]
            found = _best(np.cumsum(gone[order])[ends], np.cumsum(stay[order])[ends], rates, offer)
            profits[draw, number] = found[0] / total
            if not draw:
                contacted.append(found[1] / total)
        each = offer.acceptance * (offer.value - offer.cost) - offer.contact
        everybody = gone.sum() * each - stay.sum() * (offer.cost + offer.contact)
        profits[draw, -2:] = 0.0, float(everybody) / total
    low, high = np.quantile(profits[1:], [(1 - level) / 2, (1 + level) / 2], axis=0)
    table = pd.DataFrame(
        {
            "model": [*orders, NOBODY, EVERYBODY],
            "profit": profits[0],
            "ci_low": np.minimum(low, profits[0]),
            "ci_high": np.maximum(high, profits[0]),
            "contacted": [*contacted, 0.0, 1.0],
        }
    )
    words = (
        f"Scenario, not a result: it assumes that {100 * offer.acceptance:.0f} % of the leavers "
        f"who are contacted accept (a beta distribution worth {offer.certainty:g} observations), "
        f"whoever they are, that each who does keeps {offer.value:g} in margin, that the incentive "
        f"costs {offer.cost:g} and a contact {offer.contact:g}. Risk is not effect: only a "
        "randomised test tells how many accept."
    )
    return Scenario(table, words)


def _best(gone: Floats, stay: Floats, rates: Floats, offer: Offer) -> tuple[float, float]:
    """Mean over the rates of the best list's profit, and of its length."""
    gone, stay = np.append(0.0, gone), np.append(0.0, stay)
    profit = np.outer(rates * (offer.value - offer.cost) - offer.contact, gone)
    profit -= (offer.cost + offer.contact) * stay
    cut = profit.argmax(axis=1)
    rows = np.arange(len(rates))
    return float(profit[rows, cut].mean()), float((gone + stay)[cut].mean())
