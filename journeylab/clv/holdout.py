"""The holdout: what was forecast on a past day, beside what then happened."""

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import pandas as pd

from journeylab.clv.bg_nbd import BgNbdFit
from journeylab.clv.histories import Floats, purchase_columns
from journeylab.clv.value import PurchaseFit
from journeylab.errors import ContractError
from journeylab.estimate import mean_estimate, resampled
from journeylab.frames import DAYS_PER_UNIT

MODEL = "BG/NBD"
BASELINES = ("individual rate", "last period")


@dataclass(frozen=True, slots=True)
class Periods:
    """The days a value notebook works with; every one is an ISO date.

    Attributes:
        first: First day with a purchase.
        as_of: Last day the checked fit may see.
        before: One holdout's length before ``as_of``: where the last-period baseline begins.
        until: Last day of the holdout.
        last: Last day with a purchase.
        rank_on: Day the ranked list is made for; nothing later is used for it.
        holdout_days: From ``as_of`` to ``until``, days.
        horizon_days: How far ahead value is forecast, days.
    """

    first: str
    as_of: str
    before: str
    until: str
    last: str
    rank_on: str
    holdout_days: int
    horizon_days: int


def periods(
    firsts: pd.DataFrame,
    repeats: pd.DataFrame,
    as_of: str = "",
    rank_on: str = "",
    horizon_days: int = 0,
) -> Periods:
    """Choose the days: what is given is kept, what is empty is taken from the data's span.

    Args:
        firsts: ``first_day, customers``, from ``frames.first_purchases`` over all the data.
        repeats: ``day, repeat_purchases``, from ``frames.repeat_purchases`` over all the data.
        as_of: ISO date; empty takes the middle of the span (1997-09-30 for CDNOW).
        rank_on: ISO date; empty takes ``as_of`` where that is given, else the last day.
        horizon_days: 0 takes the length of the holdout.

    Raises:
        ContractError: No purchases, a malformed date, or a day that leaves no customers or no
            holdout.
    """
    if firsts.empty:
        raise ContractError("there are no purchases: check that the orders table has rows")
    first: date = firsts["first_day"].min().date()
    last: date = max(day.max() for day in (firsts["first_day"], repeats["day"]) if len(day)).date()
    cut = _day("as_of", as_of) if as_of else first + (last - first) // 2
    if not first <= cut < last:
        raise ContractError(
            f"as_of must leave purchases before and after it: from {first} up to but not including "
            f"{last}; got {cut}"
        )
    ranked = _day("rank_on", rank_on) if rank_on else (cut if as_of else last)
    if ranked < first:
        raise ContractError(
            f"rank_on must not lie before the first purchase ({first}); got {ranked}"
        )
    holdout_days = min(horizon_days or (last - cut).days, (last - cut).days)
    return Periods(
        first=first.isoformat(),
        as_of=cut.isoformat(),
        before=(cut - timedelta(days=holdout_days)).isoformat(),
        until=(cut + timedelta(days=holdout_days)).isoformat(),
        last=last.isoformat(),
        rank_on=ranked.isoformat(),
        holdout_days=holdout_days,
        horizon_days=horizon_days or holdout_days,
    )


def forecasts(
    histories: pd.DataFrame, earlier: pd.DataFrame, fit: BgNbdFit, holdout_days: int
) -> pd.DataFrame:
    """Purchases forecast for each customer: by the model and by two rules of thumb.

    Args:
        histories: ``customer_id, frequency, recency, age`` at ``as_of``, in the fit's unit.
        earlier: ``customer_id, purchase_days`` of the period before ``as_of`` that is as long as
            the holdout, of customers known before it: ``frames.holdout(tables, before, as_of)``.
        fit: Fitted at ``as_of``.
        holdout_days: Days.

    Returns:
        ``customer_id``, then one column of purchases per model: ``BG/NBD``; ``individual rate``,
        each customer's repeat purchases per unit of age going on; ``last period``, each customer's
        repeat purchases in the last such period coming again.
    """
    frequency, _, age = purchase_columns(histories)
    horizon = holdout_days / DAYS_PER_UNIT[fit.unit]
    known = earlier.set_index("customer_id")["purchase_days"]
    # Whoever came within the last period made all their repeat purchases in it.
    last = histories["customer_id"].map(known).astype(float).to_numpy()
    return pd.DataFrame(
        {
            "customer_id": histories["customer_id"],
            MODEL: fit.expected_purchases(histories, horizon),
            "individual rate": frequency / np.maximum(age, 1 / DAYS_PER_UNIT[fit.unit]) * horizon,
            "last period": np.where(np.isnan(last), frequency, last),
        }
    )


def compare(
    forecast: pd.DataFrame,
    holdout: pd.DataFrame,
    rng: int | np.random.Generator,
    *,
    level: float = 0.95,
    draws: int = 1000,
) -> pd.DataFrame:
    """How far each forecast was off, with bootstrap intervals over customers.

    Mean absolute error is left out: where most customers do not return, it rewards forecasting 0.

    Args:
        forecast: ``customer_id`` and one column per model; the first is compared with the rest.
        holdout: ``customer_id, purchase_days``: what happened, every customer once.
        rng: Seed or generator.
        level: Coverage of the intervals (0-1).
        draws: Bootstrap resamples.

    Returns:
        One row per model: ``model, purchases, actual`` (totals); ``bias_percent`` (total over
        actual, less 1) and ``rmse`` (purchases per customer), each with ``_low, _high``;
        ``rmse_gain``: its RMSE less that of the first model (above 0: the first is better), with
        ``_low, _high``, from the same resamples. The first model's own gain is 0.

    Raises:
        ContractError: The customers differ, or nobody bought in the holdout.
    """
    models = [column for column in forecast.columns if column != "customer_id"]
    actual = _aligned(forecast, holdout)
    if actual.sum() == 0:
        raise ContractError(
            f"none of {len(actual):,} customers bought in the holdout: nothing to compare with; "
            "choose an earlier as_of or a longer horizon_days"
        )

    def measures(rows: Floats) -> Floats:
        forecast, actual = rows[:, :-1], rows[:, -1:]
        # A resample without any purchase has no bias; it counts as one purchase.
        bias = 100 * (forecast.sum(axis=0) / max(float(actual.sum()), 1.0) - 1)
        rmse = np.sqrt(((forecast - actual) ** 2).mean(axis=0))
        return np.array([bias, rmse, rmse - rmse[0]])

    rows = np.column_stack([forecast[models].to_numpy(float), actual])
    value = measures(rows)
    drawn = resampled(rows, measures, rng, draws)
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0)
    table = pd.DataFrame({"model": models, "purchases": rows[:, :-1].sum(axis=0)})
    table["actual"] = int(actual.sum())
    for k, name in enumerate(("bias_percent", "rmse", "rmse_gain")):
        table[name], table[f"{name}_low"], table[f"{name}_high"] = value[k], low[k], high[k]
    return table


def verdict(comparison: pd.DataFrame) -> str:
    """One or two sentences: who forecast best, and whether that is more than chance.

    Args:
        comparison: From ``compare``.
    """
    own, rest = comparison.iloc[0], comparison.iloc[1:]
    won = rest.loc[rest["rmse_gain_low"] > 0, "model"].tolist()
    lost = rest.loc[rest["rmse_gain_high"] < 0, "model"].tolist()
    tied = [name for name in rest["model"] if name not in won + lost]
    parts = [
        *([f"beats the {' and the '.join(won)}"] if won else []),
        *([f"cannot be told from the {' and the '.join(tied)}"] if tied else []),
        *([f"loses to the {' and the '.join(lost)}"] if lost else []),
    ]
    bias = float(own["bias_percent"])
    total = (
        f"its total is {abs(bias):.1f} % too {'low' if bias < 0 else 'high'} "
        f"({own['bias_percent_low']:+.1f} to {own['bias_percent_high']:+.1f} %)"
    )
    return f"Customer by customer {own['model']} {', '.join(parts)}; {total}."


def tracking(
    fit: PurchaseFit, firsts: pd.DataFrame, repeats: pd.DataFrame, as_of: str, until: str
) -> pd.DataFrame:
    """Cumulative repeat purchases of the customers known at ``as_of``, expected and actual.

    Args:
        fit: Fitted at ``as_of``.
        firsts: ``first_day, customers`` up to ``as_of``.
        repeats: ``day, repeat_purchases`` of those customers up to ``until``.
        as_of: ISO date, the last day the fit saw.
        until: ISO date, the last day of the holdout.

    Returns:
        One row per week from the first purchase day on, and one each for the days ``as_of`` and
        ``until``: ``week``
        (weeks since then), ``day``, ``expected``, ``actual`` (cumulative repeat purchases),
        ``holdout`` (whether the day lies after ``as_of``).
    """
    start, end = firsts["first_day"].min(), pd.Timestamp(until)
    span, seen = (end - start).days, (pd.Timestamp(as_of) - start).days
    days = np.unique([*range(0, span, 7), seen, span])
    began = (firsts["first_day"] - start).dt.days.to_numpy()
    # Ages are whole days, so the expectation is computed once per age.
    by_age = fit.expected_new(np.arange(days[-1] + 1) / DAYS_PER_UNIT[fit.unit])
    ages = days[:, None] - began[None, :]
    expected = np.where(ages > 0, by_age[np.maximum(ages, 0)], 0.0) @ firsts["customers"].to_numpy()
    ordered = repeats.sort_values("day")
    counted = np.concatenate([[0], ordered["repeat_purchases"].cumsum().to_numpy()])
    position = np.searchsorted((ordered["day"] - start).dt.days.to_numpy(), days, side="right")
    day = start + pd.to_timedelta(days, unit="D")
    return pd.DataFrame(
        {
            "week": days / 7,
            "day": day,
            "expected": expected,
            "actual": counted[position],
            "holdout": day > pd.Timestamp(as_of),
        }
    )


def by_frequency(
    histories: pd.DataFrame,
    forecast: pd.DataFrame,
    holdout: pd.DataFrame,
    *,
    most: int = 7,
    level: float = 0.95,
) -> pd.DataFrame:
    """Mean purchases in the holdout by how often customers had bought before.

    Args:
        histories: ``customer_id, frequency`` at ``as_of``.
        forecast: As for ``compare``.
        holdout: ``customer_id, purchase_days``.
        most: Frequencies from here on are one group.
        level: Coverage of the intervals of ``actual``.

    Returns:
        One row per group: ``frequency`` (text: "0", ..., "7+"), ``customers``, ``actual`` with
        ``actual_low, actual_high`` (both equal to it where the group is one customer), then one
        column of mean forecasts per model.
    """
    models = [column for column in forecast.columns if column != "customer_id"]
    table = forecast[models].assign(
        group=histories["frequency"].clip(upper=most).to_numpy(),
        purchases=_aligned(forecast, holdout),
    )
    rows = []
    for group, members in table.groupby("group"):
        purchases = members["purchases"].to_numpy()
        mean = low = high = float(purchases.mean())
        if len(purchases) > 1:
            interval = mean_estimate(purchases, "purchases", level)
            low, high = max(interval.ci_low, 0.0), interval.ci_high
        count = int(str(group))
        rows.append(
            {
                "frequency": f"{count}+" if count == most else str(count),
                "customers": len(members),
                "actual": mean,
                "actual_low": low,
                "actual_high": high,
                **members[models].mean().to_dict(),
            }
        )
    return pd.DataFrame(rows)


def by_spend(
    histories: pd.DataFrame,
    expected: pd.Series,
    holdout: pd.DataFrame,
    *,
    groups: int = 10,
    level: float = 0.95,
) -> pd.DataFrame:
    """Mean spend per purchase in the holdout by what was expected, of customers who came back.

    Args:
        histories: ``customer_id``, one row per customer known at ``as_of``.
        expected: Expected spend per purchase of the same rows, from ``expected_spend``.
        holdout: ``customer_id, purchase_days, amount``: what happened.
        groups: Groups of equal size, by expected spend.
        level: Coverage of the intervals of ``actual``.

    Returns:
        One row per group: ``group`` (1 is expected to spend least), ``customers``, ``expected``
        and ``actual`` (means over customers), ``actual_low, actual_high`` (both equal to it where
        the group is one customer). Nobody counts whose returns outweighed the purchases.
    """
    later = holdout.set_index("customer_id")
    days = histories["customer_id"].map(later["purchase_days"].astype(float)).to_numpy()
    money = histories["customer_id"].map(later["amount"].astype(float)).to_numpy()
    came = (days > 0) & (money > 0)
    own = pd.DataFrame({"expected": expected.to_numpy(float)[came], "actual": 0.0})
    own["actual"] = money[came] / days[came]
    order = np.argsort(own["expected"].to_numpy(), kind="stable")
    parts = np.array_split(order, max(1, min(groups, len(own) // 5)))
    rows = []
    for number, part in enumerate(parts, start=1):
        members = own.iloc[part]
        if members.empty:
            continue
        mean = low = high = float(members["actual"].mean())
        if len(members) > 1:
            interval = mean_estimate(members["actual"].to_numpy(), "amount", level)
            low, high = max(interval.ci_low, 0.0), interval.ci_high
        rows.append(
            {
                "group": number,
                "customers": len(members),
                "expected": float(members["expected"].mean()),
                "actual": mean,
                "actual_low": low,
                "actual_high": high,
            }
        )
    names = ["group", "customers", "expected", "actual", "actual_low", "actual_high"]
    return pd.DataFrame(rows, columns=names)


def _aligned(forecast: pd.DataFrame, holdout: pd.DataFrame) -> Floats:
    later = holdout.set_index("customer_id")["purchase_days"]
    missing = ~forecast["customer_id"].isin(later.index)
    if missing.any() or len(later) != len(forecast):
        raise ContractError(
            f"forecast and holdout must be about the same customers; {int(missing.sum())} of "
            f"{len(forecast)} are not among the {len(later)} of the holdout; build both with the "
            "same as_of"
        )
    return later.loc[forecast["customer_id"]].to_numpy(float)


def _day(name: str, text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ContractError(
            f"{name} must be an ISO date such as '1997-09-30'; got {text!r}"
        ) from None
