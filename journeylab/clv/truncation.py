"""Left truncation: whom to learn from where the data begin later than the customers."""

import pandas as pd

from journeylab.clv.histories import purchase_columns
from journeylab.errors import ContractError, FitError
from journeylab.frames import DAYS_PER_UNIT

# Whoever first appears this early may have been a customer before the data began.
BURN_IN_DAYS = 30


def acquired_inside(
    histories: pd.DataFrame,
    window_days: int,
    unit: str = "week",
    *,
    burn_in_days: int = BURN_IN_DAYS,
) -> pd.DataFrame:
    """Customers whose first purchase surely lies inside the data, whose age is known.

    Fit the purchase model to these where ``left_truncation`` speaks; it knows nothing then of how
    the older ones buy.

    Args:
        histories: ``frequency, recency, age``, one row per customer or cell.
        window_days: Days from the first day of the data to ``as_of``.
        unit: Of ``recency`` and ``age``.
        burn_in_days: Who first bought within so many days of the first one is left out.

    Returns:
        Those rows, unchanged.

    Raises:
        ContractError: A row is broken, or an age exceeds the window.
        FitError: Nobody is left.
    """
    _, _, age = purchase_columns(histories)
    days = age * DAYS_PER_UNIT[unit]
    if (beyond := int((days > window_days + 0.5).sum())) > 0:
        raise ContractError(
            f"age must not exceed the {window_days} days of data; {beyond} of {len(days)} rows do: "
            "check unit"
        )
    inside = histories.loc[days < window_days - burn_in_days + 1e-6]
    if inside.empty:
        raise FitError(
            f"all {len(days):,} customers first appear within {burn_in_days} days of the first "
            "day: nobody's age is sure; use a rule of thumb or the boosted model, which need none"
        )
    return inside
