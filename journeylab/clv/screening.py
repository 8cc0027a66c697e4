"""Screening: is this the kind of data the models are made for?"""

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from journeylab.clv.fit_file import Fit
from journeylab.clv.histories import spend_columns
from journeylab.errors import ContractError
from journeylab.estimate import Estimate

_FIRST_DAYS = 30
_ARRIVAL_RATIO = 2.0
_CORRELATION = 0.2


def one_currency(found: Iterable[str | None], label: str = "") -> str:
    """The one currency of the orders, or ``label``.

    Args:
        found: Distinct currencies of the orders; empty where they carry none.
        label: What the reader calls it; empty takes the orders' own.

    Raises:
        ContractError: There are several: amounts cannot be added.
    """
    names = sorted({str(name) for name in found if name is not None and name == name})
    if len(names) > 1:
        raise ContractError(
            f"orders are in {len(names)} currencies ({', '.join(names)}): amounts cannot be "
            "added; convert them, or keep one currency, before opening the data"
        )
    return label or (names[0] if names else "currency units")


def left_truncation(firsts: pd.DataFrame) -> str:
    """Whether the data begin later than their customers; empty, or a sentence that says so.

    A panel cut out of a running business shows most old customers within its first month, as if
    they were new: their age is then unknown, and age is what the purchase model lives on. The sign
    is that the first 30 days bring at least twice the newcomers of the next 30.

    Args:
        firsts: ``first_day, customers``: first purchases seen by day.
    """
    day = (firsts["first_day"] - firsts["first_day"].min()).dt.days.to_numpy()
    count = firsts["customers"].to_numpy()
    first = int(count[day < _FIRST_DAYS].sum())
    second = int(count[(day >= _FIRST_DAYS) & (day < 2 * _FIRST_DAYS)].sum())
    if day.max() < _FIRST_DAYS or first < _ARRIVAL_RATIO * second:
        return ""
    return (
        f"Left truncation: {first:,} of {count.sum():,} customers first appear in the first "
        f"{_FIRST_DAYS} days, {second:,} in the next {_FIRST_DAYS}. Unless the shop opened then, "
        "most of them are older than the data show: read ages, p_alive and value with doubt, or "
        "keep only customers known to be new."
    )


def spend_correlation(spend: pd.DataFrame, level: float = 0.95) -> Estimate:
    """Correlation of repeat purchases and mean spend, which Gamma-Gamma takes to be none.

    Args:
        spend: ``frequency, monetary_value``, one row per repeat customer.
        level: Coverage (0-1).

    Source:
        Fader & Hardie, "The Gamma-Gamma Model of Monetary Value" (2013): 0.11 on CDNOW; Fisher's
        interval.
    """
    from scipy.stats import norm

    frequency, monetary_value = spend_columns(spend)
    if len(spend) < 4 or np.ptp(frequency) == 0 or np.ptp(monetary_value) == 0:
        # Without variation there is no dependence to see, and nothing is known about it.
        return Estimate(0.0, -1.0, 1.0, "correlation", level)
    r = float(np.clip(np.corrcoef(frequency, monetary_value)[0, 1], -0.999999, 0.999999))
    margin = norm.ppf((1 + level) / 2) / np.sqrt(len(spend) - 3)
    low, high = np.tanh(np.arctanh(r) + np.array([-margin, margin])).tolist()
    return Estimate(r, low, high, "correlation", level)


def doubts(
    firsts: pd.DataFrame,
    histories: pd.DataFrame,
    spend: pd.DataFrame,
    fits: Mapping[str, tuple[Fit, ...]],
    comparison: pd.DataFrame,
    *,
    holdout_days: int,
    horizon_days: int,
) -> list[str]:
    """What speaks against reading the numbers as they stand, each in a sentence; often empty.

    Args:
        firsts: First purchases by day.
        histories: ``frequency, monetary_value``, one row per customer.
        spend: The rows of them that the spend model saw.
        fits: Day the fits were made for -> its models, as for ``parameter_table``; their
            convergence and identification matter.
        comparison: From ``holdout.compare``; its first row is the model's.
        holdout_days: How far was checked.
        horizon_days: How far is forecast.
    """
    found = [left_truncation(firsts)]
    repeaters = int((histories["frequency"] > 0).sum())
    if (left_out := repeaters - len(spend)) > 0:
        found.append(
            f"{left_out:,} of {repeaters:,} repeat customers took back as much as they bought: "
            "the spend model is fitted without them, and their spend counts as 0."
        )
    r = spend_correlation(spend)
    if r.ci_low > _CORRELATION or r.ci_high < -_CORRELATION:
        found.append(
            f"Spend per purchase and number of purchases go together (correlation {r.value:.2f}, "
            f"{r.ci_low:.2f} to {r.ci_high:.2f}), which the spend model rules out: value of "
            f"frequent buyers is {'understated' if r.value > 0 else 'overstated'}."
        )
    found += _weak_fits(fits)
    own = comparison.iloc[0]
    if own["bias_percent_low"] > 0 or own["bias_percent_high"] < 0:
        found.append(
            f"In the holdout {own['model']} forecast {own['purchases']:,.0f} purchases and "
            f"{own['actual']:,.0f} came: {abs(own['bias_percent']):.0f} % too "
            f"{'low' if own['bias_percent'] < 0 else 'high'}. Single customers' values may "
            "be off by as much."
        )
    if horizon_days > 1.5 * holdout_days:
        found.append(
            f"The forecast looks {horizon_days} days ahead, but only {holdout_days} days could be "
            "checked."
        )
    return [text for text in found if text]


def _weak_fits(fits: Mapping[str, tuple[Fit, ...]]) -> list[str]:
    """One sentence per model and parameters that the data hardly fix, naming every day."""
    weak: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    unclear: dict[str, list[str]] = {}
    for day, models in fits.items():
        for fit in models:
            where = f"up to {day} ({fit.n_customers:,} customers)"
            if fit.weak:
                weak.setdefault((fit.model, fit.weak), []).append(where)
            elif not fit.converged:
                unclear.setdefault(fit.model, []).append(where)
    return [
        *(
            f"{model}: the data hardly fix {' and '.join(names)} in the fit "
            f"{' and in the one '.join(found)}; read the predictions, not these parameters."
            for (model, names), found in weak.items()
        ),
        *(
            f"{model}: no clear maximum was reached in the fit {' and in the one '.join(found)}."
            for model, found in unclear.items()
        ),
    ]


def parameter_table(
    fits: Mapping[str, tuple[Fit, ...]],
) -> pd.DataFrame:
    """Parameters of several fits with their standard errors.

    Args:
        fits: Day the fits were made for -> its models.

    Returns:
        ``model, parameter, as_of, value, standard_error``; the days of one parameter stand below
        each other.
    """
    tables = [fit.summary().assign(as_of=day) for day, models in fits.items() for fit in models]
    table = pd.concat(tables, ignore_index=True)
    place = table.groupby(["model", "parameter"], sort=False).ngroup()
    table = table.iloc[np.lexsort((table["as_of"], place))].reset_index(drop=True)
    return table[["model", "parameter", "as_of", "value", "standard_error"]]
