"""Channels: what customers won through each of them bring, and what one more of them costs."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from journeylab.clv.champion import FitPurchases
from journeylab.clv.gamma_gamma import GammaGammaFit, fit_gamma_gamma, repeat_spend
from journeylab.clv.payback import MarginalCost, Payback, marginal_cost, payback, value_path
from journeylab.clv.truncation import BURN_IN_DAYS, acquired_inside
from journeylab.clv.value import PurchaseFit
from journeylab.errors import ContractError, FitError

# With fewer customers a channel shares the fit of all.
_FEWEST = 500


@dataclass(frozen=True, slots=True)
class Channels:
    """Payback of every channel with a cost, and what its last customers cost.

    Attributes:
        payback: Missing where nothing can be said; ``notes`` say why.
        marginal: One entry per channel that allows it.
        notes: What could not be told, each in a sentence.
    """

    payback: Payback | None
    marginal: tuple[MarginalCost, ...]
    notes: tuple[str, ...]

    @property
    def marginal_curves(self) -> pd.DataFrame:
        """``channel, cost, acquired, marginal``: the curve of every channel."""
        return pd.concat([one.curve.assign(channel=one.channel) for one in self.marginal])

    @property
    def marginal_table(self) -> pd.DataFrame:
        """``channel, periods, at_cost``, then ``average, marginal, elasticity`` with intervals."""
        rows = []
        for one in self.marginal:
            row: dict[str, object] = {"channel": one.channel}
            row |= {"periods": one.periods, "at_cost": one.at_cost}
            for name in ("average", "marginal", "elasticity"):
                found = getattr(one, name)
                row |= {
                    name: found.value,
                    f"{name}_low": found.ci_low,
                    f"{name}_high": found.ci_high,
                }
            rows.append(row)
        return pd.DataFrame(rows)


def channel_payback(
    won: pd.DataFrame,
    histories: pd.DataFrame,
    costs: pd.DataFrame | None,
    fit: FitPurchases,
    months: int,
    seed: int,
    *,
    as_of: str,
    left_truncation: str = "",
    unit: str = "week",
    annual_discount: float = 0.0,
    margin: float = 1.0,
    draws: int = 200,
    currency: str = "currency units",
) -> Channels:
    """Set the value of new customers against what it cost to win them, where costs are known.

    A channel with 500 customers or more has fits of its own. Where the data begin later than their
    customers, only those who came after the first 30 days count as new.

    Args:
        won: ``customer_id, channel, cohort, first_day, first_spend``: ``frames.acquisitions``.
        histories: ``customer_id, frequency, recency, age, monetary_value`` on ``as_of``.
        costs: The ``channel_costs`` table; nothing where the source has none.
        fit: Of the purchase model, such as ``clv.fit_bg_nbd``.
        months: How far the path goes, months of 30 days.
        seed: Of every draw.
        as_of: Last day that counts; cost periods that end later are left out.
        left_truncation: From ``clv.left_truncation``.
        unit: Of the histories.
        annual_discount: Rate per year.
        margin: Share of an amount that stays (0-1].
        draws: Parameter sets.
        currency: Unit of the amounts.
    """
    if costs is None or costs.empty:
        text = "There are no channel costs: payback and the cost of one more customer stay unknown."
        return Channels(None, (), (text,))
    if set(won["channel"]) <= {"all", "unknown"}:
        text = "No customer has a source_channel: what channels cost cannot be set against them."
        return Channels(None, (), (text,))
    notes: list[str] = []
    first = won["first_day"].min()
    if left_truncation:
        window = (pd.Timestamp(as_of) - pd.Timestamp(first)).days
        histories = acquired_inside(histories, window, unit)
        burnt = pd.Timestamp(first) + pd.Timedelta(days=BURN_IN_DAYS)
        won = won[pd.to_datetime(won["cohort"]) >= burnt]
        notes.append(
            f"Customers seen first within {BURN_IN_DAYS} days of {pd.Timestamp(first).date()} may "
            "be old ones: payback rests on those who came later."
        )
    spent = _complete(costs, as_of)
    cohorts = won.groupby(["channel", "cohort"], as_index=False).agg(
        customers=("customer_id", "size"), first_spend=("first_spend", "mean")
    )
    paid_for = set(spent.loc[spent["cost"] > 0, "channel"].astype(str))
    cohorts = cohorts[cohorts["channel"].astype(str).isin(paid_for)]
    try:
        purchases, spends = _fits(won, histories, fit, paid_for)
        path = value_path(
            cohorts, purchases, spends, months, seed,
            annual_discount=annual_discount, margin=margin, draws=draws,
        )  # fmt: skip
        paid = payback(path, spent, currency=currency)
    except (ContractError, FitError) as error:
        return Channels(None, (), (*notes, f"Payback cannot be told: {error}."))
    if "acquired" not in spent.columns:
        notes.append("The costs do not say whom they won: one more customer has no price.")
        return Channels(paid, (), tuple(notes))
    marginal = []
    known = spent[spent["acquired"].notna()]
    for channel in paid.channels["channel"]:
        try:
            marginal.append(marginal_cost(known, str(channel), seed, currency=currency))
        except (ContractError, FitError) as error:
            notes.append(f"Cost of one more customer: {error}.")
    return Channels(paid, tuple(marginal), tuple(notes))


def _complete(costs: pd.DataFrame, as_of: str) -> pd.DataFrame:
    """Cost periods that had ended by ``as_of``; their length is the usual step between them."""
    starts = np.sort(pd.to_datetime(costs["period"]).unique())
    usual = np.median(np.diff(starts)) if len(starts) > 1 else np.timedelta64(1, "D")
    after = pd.Series([*starts[1:], starts[-1] + usual], index=starts)
    ends = pd.to_datetime(costs["period"]).map(after)
    kept = costs[(pd.to_datetime(ends) <= pd.Timestamp(as_of) + pd.Timedelta(days=1)).to_numpy()]
    return kept.assign(cost=kept["cost"].astype(float))


def _fits(
    won: pd.DataFrame, histories: pd.DataFrame, fit: FitPurchases, channels: set[str]
) -> tuple[dict[str, PurchaseFit], dict[str, GammaGammaFit]]:
    """One fit for all under ``""``, and own ones where a channel has customers enough."""
    of = histories["customer_id"].map(won.set_index("customer_id")["channel"]).astype(str)
    purchases: dict[str, PurchaseFit] = {}
    spends: dict[str, GammaGammaFit] = {}
    for name in ("", *sorted(channels)):
        own = histories if not name else histories[of == name]
        if name and len(own) < _FEWEST:
            continue
        try:
            model = fit(own[["frequency", "recency", "age"]])
            spend = fit_gamma_gamma(repeat_spend(own))
        except FitError:
            if not name:
                raise
            continue
        if isinstance(model, PurchaseFit) and (not name or (model.converged and not spend.weak)):
            purchases[name], spends[name] = model, spend
    return purchases, spends
