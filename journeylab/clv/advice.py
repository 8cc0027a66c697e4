"""The ranked list in words: whether to act on it yet, and on how many customers."""

import pandas as pd

from journeylab.clv.champion import BASELINES, BIAS_PERCENT
from journeylab.clv.holdout import Periods
from journeylab.clv.value import Value
from journeylab.estimate import Estimate

# With fewer customers the four parameters of the purchase model say little.
FEWEST_CUSTOMERS = 100
# The first ranks must surely hold this many times what they would hold if all were alike.
LEAST_CONCENTRATION = 2.0


def reasons_not_to_rank(
    top_share: Estimate, comparison: pd.DataFrame, customers: int, top: float
) -> list[str]:
    """Why the ranking should not be acted on yet, each in a clause; empty where it may be.

    Args:
        top_share: Share of the value that the first ranks hold.
        comparison: From ``compare``, or the table of ``challenge``; its first row is the model's.
            Only rules of thumb are looked at: a model may have equals among models.
        customers: How many are ranked.
        top: Share of customers that ``top_share`` is about (0-1).
    """
    reasons = []
    if customers < FEWEST_CUSTOMERS:
        reasons.append(
            f"only {customers:,} customers are known, and {FEWEST_CUSTOMERS} are the least to "
            "learn from"
        )
    # For a large top twice its share cannot be reached: half of what is left counts then.
    least = min(LEAST_CONCENTRATION * top, (1 + top) / 2)
    if top_share.ci_low < least:
        reasons.append(
            f"the top {_percent(top)} may hold anything from {_percent(top_share.ci_low)} to "
            f"{_percent(top_share.ci_high)} of the value, and {_percent(least)} at least would "
            "have to be sure"
        )
    rules = comparison.iloc[1:]
    rules = rules[rules["model"].isin(BASELINES)]
    if beaten := [str(name) for name in rules.loc[rules["rmse_gain_low"] <= 0, "model"]]:
        reasons.append(
            f"customer by customer {comparison.iloc[0]['model']} did not surely beat the "
            f"{' nor the '.join(beaten)} in the holdout"
        )
    return reasons


def advice(
    worth: Value, comparison: pd.DataFrame, days: Periods, top: float, champion: str = ""
) -> str:
    """How many customers to look after first and what that may cost, or why not to rank yet.

    Args:
        worth: Value of the customers known on ``days.rank_on``.
        comparison: From ``compare``, or the table of ``challenge``, for ``days.as_of``; its first
            row is the model's that carries the value.
        days: From ``periods``.
        top: Share of customers to look after first (0-1), as in ``value``.
        champion: What forecast best, where that is another one without a path of its own.
    """
    known, off = len(worth.customers), comparison.iloc[0]
    checked = (
        f"on {days.as_of} such a forecast came out {abs(off['bias_percent']):.0f}"
        f"\N{NO-BREAK SPACE}% too {'low' if off['bias_percent'] < 0 else 'high'}"
    )
    if abs(off["bias_percent"]) > BIAS_PERCENT:
        checked += f", beyond the {BIAS_PERCENT:.0f}\N{NO-BREAK SPACE}% that a total is planned by"
    if champion and champion != off["model"]:
        checked += (
            f". The counts of the champion ({champion}), which has no path, stand beside the value "
            f"by {off['model']}"
        )
    if reasons := reasons_not_to_rank(worth.top_share, comparison, known, top):
        return (
            f"Do not rank by this yet: {'; '.join(reasons)}. Bring a "
            f"longer stretch of orders, or more customers; {checked}."
        )
    share, total, money = worth.top_share, worth.top_clv, worth.currency
    return (
        f"Look after the top {_percent(top)} first: {worth.top_customers:,} of {known:,} customers "
        f"known on {days.rank_on} hold {_percent(share.value)} of the next {worth.horizon_days} "
        f"days' value ({_percent(share.ci_low)} to {_percent(share.ci_high)}), {total.value:,.0f} "
        f"{money} ({total.ci_low:,.0f} to {total.ci_high:,.0f}). Whoever runs the contact list "
        f"spends less than {total.value / worth.top_customers:,.0f} {money} on one of them "
        f"({total.ci_low / worth.top_customers:,.0f} to "
        f"{total.ci_high / worth.top_customers:,.0f}), and "
        f"only the part of it that a contact changes; {checked}."
    )


def _percent(share: float) -> str:
    """Whole percents; a tenth where the share is no whole percent below ten."""
    digits = 1 if 0 < share < 0.1 and round(100 * share) != round(100 * share, 1) else 0
    return f"{100 * share:.{digits}f}\N{NO-BREAK SPACE}%"
