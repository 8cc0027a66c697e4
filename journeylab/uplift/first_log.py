"""First log: how a campaign that nobody randomised yet should be sent once by lot."""

from collections.abc import Sequence
from math import sqrt

import pandas as pd
from scipy.special import ndtri

from journeylab.errors import ContractError

SHARES = (0.05, 0.1, 0.2, 0.3, 0.5)


def first_log(
    rows: pd.DataFrame,
    outcome: str,
    before: str,
    *,
    shares: Sequence[float] = SHARES,
    arms: int = 1,
    power: float = 0.8,
    alpha: float = 0.05,
) -> pd.DataFrame:
    """Smallest average effect that a lottery over a list would see, by the share left out.

    Args:
        rows: One row per customer of the list that would be drawn from.
        outcome: Column: the outcome of one period, of these or of people like them.
        before: Column: the same of the period before, which will be known at the draw: taken off by
            regression it makes the answer sharper at no cost.
        shares: Of the list that are left out (0-1).
        arms: Beside those left out; they share the rest evenly, each is compared with those left
            out, and ``alpha`` is divided by their number.
        power: Chance to see an effect of that size (0-1).
        alpha: Chance of a false alarm, two-sided (0-1).

    Returns:
        One row per share: ``left_out`` (share), ``customers_left_out``, ``customers_per_arm``,
        ``smallest_effect`` (per head, outcome before taken off) and ``plain`` (without that).

    Raises:
        ContractError: A column is missing or has missing values, a share or chance is not inside
            (0, 1), there is no arm, or the list is too short for a share.

    Source:
        Two-sample sizes: Bloom, "Minimum Detectable Effects" (1995); the regression: Deng, Xu,
        Kohavi & Walker, "Improving the Sensitivity of Online Controlled Experiments" (2013).
    """
    if missing := sorted({outcome, before} - set(rows.columns)):
        raise ContractError(f"the rows have no columns {', '.join(missing)}")
    if bad := int(rows[[outcome, before]].isna().any(axis=1).sum()):
        raise ContractError(f"{outcome} or {before} is missing for {bad} of {len(rows)} rows")
    if not all(0 < one < 1 for one in (*shares, power, alpha)) or arms < 1:
        raise ContractError("shares, power and alpha must lie inside (0, 1), arms be 1 or more")
    n = len(rows)
    deviation = float(rows[outcome].std(ddof=1))
    alike = float(rows[outcome].corr(rows[before])) if rows[before].std() > 0 else 0.0
    reach = float(ndtri(1 - alpha / (2 * arms)) + ndtri(power))
    found = []
    for share in shares:
        out, each = round(n * share), round(n * (1 - share) / arms)
        if min(out, each) < 20:
            raise ContractError(f"{n} customers are too few to leave out {share:g} of them")
        plain = reach * deviation * sqrt(1 / out + 1 / each)
        found.append((share, out, each, plain * sqrt(1 - alike**2), plain))
    names = ["left_out", "customers_left_out", "customers_per_arm", "smallest_effect",
             "plain"]  # fmt: skip
    return pd.DataFrame(found, columns=names)
