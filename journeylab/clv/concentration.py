"""Concentration: how much of the value a few customers or one cohort hold."""

import numpy as np
import pandas as pd

from journeylab.clv.histories import Floats, numbers, refuse_rows
from journeylab.errors import ContractError
from journeylab.estimate import Estimate, bootstrap, resampled


def concentration(customers: pd.DataFrame, points: int = 100) -> pd.DataFrame:
    """Lorenz curve, from the most valuable customer down.

    Args:
        customers: ``clv``, one row per customer.
        points: Steps of the curve.

    Returns:
        ``customers`` and ``value``: cumulative shares (0-1), both from 0 to 1.
    """
    ordered = np.sort(_values(customers))[::-1]
    cumulative = np.concatenate([[0.0], np.cumsum(ordered)]) / ordered.sum()
    positions = np.unique(np.linspace(0, len(ordered), points + 1).round().astype(int))
    return pd.DataFrame({"customers": positions / len(ordered), "value": cumulative[positions]})


def deciles(customers: pd.DataFrame, groups: int = 10) -> pd.DataFrame:
    """Customers in groups of equal size, from the most valuable down.

    Args:
        customers: ``clv``, one row per customer.
        groups: How many.

    Returns:
        One row per group: ``decile`` (1 is the most valuable), ``customers``, ``value`` (total),
        ``value_mean``, ``share`` (of the whole, 0-1) and ``share_cumulative``.
    """
    ordered = np.sort(_values(customers))[::-1]
    parts = np.array_split(ordered, min(groups, len(ordered)))
    table = pd.DataFrame(
        {
            "decile": np.arange(1, len(parts) + 1),
            "customers": [len(part) for part in parts],
            "value": [float(part.sum()) for part in parts],
        }
    )
    table["value_mean"] = table["value"] / table["customers"]
    table["share"] = table["value"] / ordered.sum()
    return table.assign(share_cumulative=table["share"].cumsum())


def top_share(
    customers: pd.DataFrame,
    rng: int | np.random.Generator,
    *,
    top: float = 0.1,
    level: float = 0.95,
    draws: int = 1000,
) -> Estimate:
    """Share of the value that the most valuable customers hold, with a bootstrap interval.

    The interval is about the customers one happened to have; what these same customers may bring
    is in ``Value.top_share``.

    Args:
        customers: ``clv``, one row per customer.
        rng: Seed or generator.
        top: Share of customers (0-1].
        level: Coverage (0-1).
        draws: Resamples.
    """
    if not 0 < top <= 1:
        raise ContractError(f"top must lie in (0, 1]; got {top}")
    values = _values(customers)
    first = max(1, round(top * len(values)))

    def share(sample: Floats) -> float:
        total = float(sample.sum())
        held = float(np.partition(sample, len(sample) - first)[len(sample) - first :].sum())
        # A resample without any value is held alike by everybody.
        return held / total if total > 0 else top

    return bootstrap(values, share, "share", rng, draws=draws, level=level)


def cohort_value(
    customers: pd.DataFrame,
    acquired: pd.DataFrame,
    rng: int | np.random.Generator,
    *,
    level: float = 0.95,
    draws: int = 1000,
) -> pd.DataFrame:
    """Value by cohort: customers acquired in one month, or through one channel.

    Args:
        customers: ``customer_id, clv``, one row per customer, as ``Value.customers``.
        acquired: ``customer_id, cohort`` (any label), as from ``frames.acquisitions``.
        rng: Seed or generator.
        level: Coverage of the bootstrap intervals over customers (0-1).
        draws: Resamples.

    Returns:
        One row per cohort: ``cohort, customers, value`` (total), ``share`` (of the whole, 0-1),
        ``value_mean`` with ``value_mean_low, value_mean_high``; of a cohort of one customer both
        are the mean, and so they are too narrow.

    Raises:
        ContractError: Some customer has no cohort.
    """
    label = customers["customer_id"].map(acquired.set_index("customer_id")["cohort"])
    refuse_rows(
        customers,
        label.isna().to_numpy(),
        "every customer must have a cohort",
        "build acquired with frames.acquisitions at the same as_of",
    )
    generator, whole = np.random.default_rng(rng), float(_values(customers).sum())
    rows = []
    for cohort, members in customers.groupby(label, sort=True):
        values = members["clv"].to_numpy(float)
        drawn = resampled(values, np.mean, generator, draws)
        low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
        mean = float(values.mean())
        rows.append(
            {
                "cohort": cohort,
                "customers": len(values),
                "value": float(values.sum()),
                "share": float(values.sum()) / whole,
                "value_mean": mean,
                "value_mean_low": min(float(low), mean),
                "value_mean_high": max(float(high), mean),
            }
        )
    return pd.DataFrame(rows)


def _values(customers: pd.DataFrame) -> Floats:
    (values,) = numbers(customers, ("clv",), "customers")
    if values.sum() <= 0:
        raise ContractError(
            f"the {len(values):,} customers are worth {values.sum():g} together: there is nothing "
            "to share out; check margin and horizon_days"
        )
    return values
