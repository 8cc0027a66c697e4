"""How fast a test fills: the curve of unique customers, from history.

Customers who come back are not new: the second week of a test brings fewer of them than the first,
and a runtime of customers needed over customers a day is too short.
"""

from dataclasses import dataclass
from math import ceil, inf, log

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from journeylab.errors import ContractError
from journeylab.experiments.power import Baseline, SampleSize, Sides, detectable

Floats = NDArray[np.float64]
_LONGEST = 3650


@dataclass(frozen=True, slots=True, eq=False)
class Accrual:
    """Unique customers by day since a start in the past.

    Attributes:
        customers: Cumulative count by the end of day 1, 2, ...; never falling.
        growth: Power with which the curve goes on beyond its last day: from the doubling of its
            days, between 0 (nobody new) and 1 (as many every day).
    """

    customers: Floats
    growth: float

    @property
    def days(self) -> int:
        """Days that history covers; beyond them the curve is extrapolated."""
        return len(self.customers)

    def by(self, days: float) -> float:
        """Unique customers by the end of so many days."""
        if days <= 0:
            return 0.0
        if days <= self.days:
            grid = np.arange(self.days + 1)
            return float(np.interp(days, grid, np.concatenate([[0.0], self.customers])))
        return float(self.customers[-1] * (days / self.days) ** self.growth)

    def days_for(self, customers: float) -> float:
        """Whole days until so many unique customers have come; infinity beyond ten years."""
        if customers <= 0:
            return 0.0
        if customers <= self.customers[-1]:
            return float(np.searchsorted(self.customers, customers - 1e-9) + 1)
        if self.growth <= 0:
            return inf
        days = self.days * (customers / self.customers[-1]) ** (1 / self.growth)
        return float(ceil(days)) if days <= _LONGEST else inf


def fit_accrual(days: pd.DataFrame, first: str, last: str) -> Accrual:
    """The curve from counts by day.

    Args:
        days: ``day``, ``customers`` (seen for the first time), from ``frames.accrual``.
        first: First day that was counted (ISO).
        last: Last day that was counted (ISO).

    Raises:
        ContractError: Fewer than two days, a day outside them, or nobody at all.
    """
    index = pd.date_range(first, last)
    if len(index) < 2:
        raise ContractError(f"an accrual curve needs two days or more; got {first} to {last}")
    seen = pd.Series(days["customers"].to_numpy(float), pd.DatetimeIndex(days["day"]))
    if not set(seen.index) <= set(index):
        raise ContractError(f"some of the days counted lie outside {first} to {last}")
    curve = seen.reindex(index, fill_value=0.0).to_numpy(float).cumsum()
    if curve[-1] <= 0:
        raise ContractError(f"nobody was seen between {first} and {last}")
    middle = curve[len(curve) // 2 - 1]
    ratio = len(curve) / (len(curve) // 2)
    growth = log(curve[-1] / middle) / log(ratio) if middle > 0 else 1.0
    return Accrual(curve, float(np.clip(growth, 0.0, 1.0)))


def steady_accrual(customers_per_day: float) -> Accrual:
    """As many new customers every day: an assumption, for a source that has no days.

    Every day beyond the first counts as beyond history.

    Args:
        customers_per_day: Above 0.
    """
    if not 0 < customers_per_day < inf:
        raise ContractError(f"a pace needs customers per day; got {customers_per_day}")
    return Accrual(np.array([float(customers_per_day)]), 1.0)


@dataclass(frozen=True, slots=True)
class Runtime:
    """How long a test takes.

    Attributes:
        enrolment_days: Until the last customer needed has come; infinity where they never do.
        total_days: Until that customer's outcome window has closed.
        customers: Needed in all arms.
        extrapolated: Whether that lies beyond the days that history covers.
    """

    enrolment_days: float
    total_days: float
    customers: int
    extrapolated: bool


def runtime(
    size: SampleSize, accrual: Accrual, *, window_days: int = 1, traffic: float = 1.0
) -> Runtime:
    """Days until a test has the customers it needs, and their outcomes.

    Args:
        size: What it needs.
        accrual: How customers come.
        window_days: Days each is followed, the day of exposure included.
        traffic: Share of the customers who come that enter the test (0-1].
    """
    _check(window_days, traffic)
    days = accrual.days_for(size.total / traffic)
    return Runtime(days, days + window_days - 1, size.total, days > accrual.days)


def mde_by_week(
    baseline: Baseline,
    accrual: Accrual,
    weeks: int,
    *,
    split: dict[str, float] | None = None,
    control: str = "control",
    window_days: int = 1,
    traffic: float = 1.0,
    alpha: float = 0.05,
    power: float = 0.8,
    sides: Sides = 2,
    inflation: float = 1.0,
) -> pd.DataFrame:
    """What could be found after each week.

    Args:
        baseline: The metric.
        accrual: How customers come.
        weeks: How many weeks to look ahead.
        split: Arm -> weight; two equal arms by default. The smallest treatment arm decides.
        control: Name of the control in it.
        window_days: Days each customer is followed; only closed windows count.
        traffic: Share of the customers who come that enter the test (0-1].
        alpha: Error of one comparison.
        power: Chance of finding the effect.
        sides: 1 or 2.
        inflation: Of a sequential plan.

    Returns:
        One row per week with a closed window: ``week``; ``customers`` (in all arms, windows
        closed); ``mde`` and ``mde_plain`` (in the metric's unit, with and without adjustment);
        ``mde_percent`` and ``mde_plain_percent`` (of the mean; without a mean they are left out);
        ``extrapolated``.
    """
    _check(window_days, traffic)
    weights = split or {control: 0.5, "treatment": 0.5}
    if control not in weights or len(weights) < 2:
        raise ContractError(f"split must give {control!r} and another arm a weight; got {weights}")
    total = sum(weights.values())
    least = min(weight for arm, weight in weights.items() if arm != control) / total
    rows = []
    for week in range(1, weeks + 1):
        days = 7 * week - window_days + 1
        people = traffic * accrual.by(days)
        found = {}
        for name, one in {"mde": baseline, "mde_plain": baseline.plain()}.items():
            found[name] = detectable(
                one,
                people * weights[control] / total,
                people * least,
                alpha=alpha,
                power=power,
                sides=sides,
                inflation=inflation,
            )
        if not np.isfinite(list(found.values())).all():
            continue
        row = {"week": week, "customers": round(people), **found}
        if baseline.mean:
            row |= {f"{k}_percent": 100 * v / abs(baseline.mean) for k, v in found.items()}
        rows.append(row | {"extrapolated": days > accrual.days})
    names = ["week", "customers", "mde", "mde_plain"]
    names += ["mde_percent", "mde_plain_percent"] if baseline.mean else []
    return pd.DataFrame(rows, columns=[*names, "extrapolated"])


def contact_cost(
    size: SampleSize,
    cost_per_contact: dict[str, float],
    *,
    contacts: float = 1.0,
) -> pd.DataFrame:
    """What the contacts of a test cost.

    Args:
        size: Customers by arm.
        cost_per_contact: Arm -> cost of one contact; an arm that is not named costs nothing.
        contacts: Contacts per customer while the test runs.

    Returns:
        One row per arm: ``arm, customers, contacts, cost``; the last one is ``all``.
    """
    if unknown := sorted(set(cost_per_contact) - set(size.per_arm)):
        raise ContractError(f"there is no arm {', '.join(unknown)}; {', '.join(size.per_arm)} are")
    rows = [
        (
            arm,
            n,
            contacts * n * (arm in cost_per_contact),
            contacts * n * cost_per_contact.get(arm, 0.0),
        )
        for arm, n in size.per_arm.items()
    ]
    frame = pd.DataFrame(rows, columns=["arm", "customers", "contacts", "cost"])
    whole = frame[["customers", "contacts", "cost"]].sum()
    last = pd.DataFrame([["all", int(whole["customers"]), whole["contacts"], whole["cost"]]])
    last.columns = frame.columns
    return pd.concat([frame, last], ignore_index=True)


def _check(window_days: int, traffic: float) -> None:
    if window_days < 1 or not 0 < traffic <= 1:
        raise ContractError(
            f"window_days must be 1 or more and traffic in (0, 1]; got {window_days}, {traffic}"
        )
