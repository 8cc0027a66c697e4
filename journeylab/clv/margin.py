"""Margin: what a customer's amounts leave after the cost of goods and returns."""

import numpy as np
import pandas as pd

from journeylab.clv.histories import numbers, refuse_rows
from journeylab.errors import ContractError

# A customer's own share counts for as much as that of all once this many mean customers' worth
# of costed amount stands behind it.
_SHRINK = 1.0


def margin_shares(margins: pd.DataFrame, margin: float = 1.0) -> pd.Series:
    """Share of each customer's amounts that stays, for ``value(..., margin=...)``.

    Where costs are known a customer's own share is drawn towards that of all customers, as one
    order says little; where none are, everybody gets ``margin``. Refunds outside the orders are
    taken off. A share below 0 counts as 0: nobody is forecast to cost money by buying.

    Args:
        margins: ``customer_id, amount, refunds, costed, cost``: ``frames.customer_margins``.
        margin: Share left where no cost is known (0-1].

    Returns:
        Shares (0-1), indexed by ``customer_id``, named ``margin``.

    Raises:
        ContractError: A number is missing or ``margin`` out of bounds.
    """
    if not 0 < margin <= 1:
        raise ContractError(f"margin must lie in (0, 1]; got {margin}")
    columns = ("amount", "refunds", "costed", "cost")
    amount, refunds, costed, cost = numbers(margins, columns, "margins")
    refuse_rows(margins, refunds < 0, "refunds must be 0 or more", "pass them as positive amounts")
    known = costed > 0
    if known.any():
        of_all = 1 - cost[known].sum() / costed[known].sum()
        weight = _SHRINK * costed[known].mean()
        own = (np.maximum(costed, 0) - np.where(known, cost, 0.0) + weight * of_all) / (
            np.maximum(costed, 0) + weight
        )
        kept = np.where(known, own, of_all)
    else:
        kept = np.full(len(amount), margin)
    # Refunds are a share of what was bought, drawn towards everybody's in the same way.
    bought = np.maximum(amount, 0.0)
    total = float(bought.sum())
    returned = 0.0 if total == 0 else float(refunds.sum()) / total
    mean = total / len(bought)
    lost = (refunds + mean * returned) / np.where(bought + mean > 0, bought + mean, 1.0)
    share = np.clip(kept - lost, 0.0, 1.0)
    return pd.Series(
        share, index=pd.Index(margins["customer_id"], name="customer_id"), name="margin"
    )
