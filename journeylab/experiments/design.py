"""The design of a test as a page shows it: when, how many, how strong, in tables and words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from math import isfinite

import numpy as np
import pandas as pd

from journeylab.errors import ContractError
from journeylab.experiments.accrual import Accrual, Runtime, runtime
from journeylab.experiments.power import (
    Baseline,
    SampleSize,
    Sides,
    power,
    power_each,
    sample_size,
)


@dataclass(frozen=True, slots=True)
class RehearsalDays:
    """The stretch of the past in which a test is rehearsed.

    Attributes:
        first: First day on which customers enter (ISO).
        last: Last such day; every window closes by ``as_of``.
        as_of: Last day of the data (ISO).
        days: Days of entry.
        window_days: Days each customer is followed.
        pre_days: Days before entry that serve as covariate.
    """

    first: str
    last: str
    as_of: str
    days: int
    window_days: int
    pre_days: int


def rehearsal_days(
    first: str, last: str, *, enrol_days: int, window_days: int, pre_days: int
) -> RehearsalDays:
    """The latest stretch that leaves room for outcomes after it and a time before it.

    Args:
        first: First day of the data (ISO).
        last: Last day of the data (ISO).
        enrol_days: Days on which customers enter; fewer where the data are short.
        window_days: Days each is followed, the day of entry included.
        pre_days: Days before entry; shorter where the data are.

    Raises:
        ContractError: The data are too short for two days of entry.
    """
    begin, end = date.fromisoformat(first), date.fromisoformat(last)
    if min(enrol_days, window_days, pre_days) < 1:
        raise ContractError("enrol_days, window_days and pre_days must be 1 or more")
    final = end - timedelta(days=window_days - 1)
    room = (final - begin).days  # days of entry with at least one day before them
    before = min(pre_days, max(room // 2, 1))
    days = min(enrol_days, room - before + 1)
    if days < 2:
        raise ContractError(
            f"{(end - begin).days + 1} days of data are too few for a window of {window_days} days "
            "and a time before it; make window_days shorter"
        )
    start = final - timedelta(days=days - 1)
    return RehearsalDays(str(start), str(final), str(end), days, window_days, before)


def planned_size(
    primary: Baseline,
    effect: float,
    guardrails: Mapping[str, tuple[Baseline, float]],
    *,
    split: dict[str, float] | None = None,
    control: str = "control",
    alpha: float = 0.05,
    power: float = 0.8,
    sides: Sides = 2,
    inflation: float = 1.0,
) -> tuple[SampleSize, pd.DataFrame]:
    """Customers with whom the primary metric and every guardrail pass together.

    A change ships only if all of them pass, so each gets more power than the test as a whole; the
    one that needs most customers decides.

    Args:
        primary: The metric that decides.
        effect: Looked for, as a share of its mean.
        guardrails: Name -> its baseline and its margin, as a share of its mean. Taken as
            unharmed: the test has to show that they are not worse by more than the margin.
        split: As for ``sample_size``, and so the rest.
        control: Name of the control.
        alpha: Error of one comparison.
        power: Chance that all pass, if the effect is there and nothing is harmed.
        sides: Of the primary metric; guardrails have one.
        inflation: Of a sequential plan, for the primary metric; guardrails pass at the last look.

    Returns:
        The size that serves all; and one row per metric: ``metric, role``, ``change_percent``
        (effect, or minus the margin, percent of the mean), ``power`` (its own), ``customers``,
        ``decides``.
    """
    own = power_each(power, 1 + len(guardrails))
    sizes = {
        primary.name: sample_size(
            primary, relative=effect, split=split, control=control, alpha=alpha, power=own,
            sides=sides, inflation=inflation,
        )
    }  # fmt: skip
    asked = {primary.name: ("primary", 100 * effect)}
    for name, (one, margin) in guardrails.items():
        sizes[name] = sample_size(
            one, absolute=0.0, margin=margin * abs(one.mean), split=split, control=control,
            alpha=alpha, power=own, sides=1,
        )  # fmt: skip
        asked[name] = ("guardrail", -100 * margin)
    most = max(sizes, key=lambda name: sizes[name].total)
    rows = [
        (name, *asked[name], own, size.total, name == most) for name, size in sizes.items()
    ]  # fmt: skip
    columns = ["metric", "role", "change_percent", "power", "customers", "decides"]
    return sizes[most], pd.DataFrame(rows, columns=columns)


def size_table(
    baseline: Baseline,
    accrual: Accrual,
    effects: Sequence[float],
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
    """What each effect needs, with and without adjustment.

    Args:
        baseline: The metric.
        accrual: How customers come.
        effects: As shares of the mean.
        split: As for ``sample_size``, and so the rest.
        control: Name of the control.
        window_days: Days each customer is followed.
        traffic: Share of the customers who come that enter.
        alpha: Error of one comparison.
        power: Chance of finding the effect.
        sides: 1 or 2.
        inflation: Of a sequential plan.

    Returns:
        One row per effect: ``effect_percent``; ``customers`` and ``days`` (until the last window
        closes) with adjustment; ``customers_plain``, ``days_plain`` without; ``clusters`` where
        there are any; ``extrapolated``: whether the days lie beyond what history shows. Days that
        are never reached are missing.
    """
    rows = []
    for effect in effects:
        row: dict[str, float | bool] = {"effect_percent": 100 * effect}
        for ending, one in {"": baseline, "_plain": baseline.plain()}.items():
            size = sample_size(
                one, relative=effect, split=split, control=control, alpha=alpha, power=power,
                sides=sides, inflation=inflation,
            )  # fmt: skip
            time = runtime(size, accrual, window_days=window_days, traffic=traffic)
            row[f"customers{ending}"] = size.total
            row[f"days{ending}"] = time.total_days if isfinite(time.total_days) else np.nan
            if not ending:
                row["extrapolated"] = time.extrapolated
                if size.clusters:
                    row["clusters"] = sum(size.clusters.values())
        rows.append(row)
    order = ["effect_percent", "customers", "clusters", "days", "extrapolated", "customers_plain"]
    frame = pd.DataFrame(rows)
    return frame[[name for name in [*order, "days_plain"] if name in frame]]


def power_curve(
    baseline: Baseline,
    n_control: float,
    n_treatment: float,
    *,
    most: float,
    alpha: float = 0.05,
    sides: Sides = 2,
    inflation: float = 1.0,
    points: int = 61,
) -> pd.DataFrame:
    """Power by size of the effect, with and without adjustment.

    Args:
        baseline: The metric.
        n_control: Customers in the control.
        n_treatment: Customers in the treatment.
        most: Largest effect, as a share of the mean.
        alpha: Error.
        sides: 1 or 2.
        inflation: Of a sequential plan.
        points: Effects from 0 to ``most``.

    Returns:
        ``effect_percent``; ``power``, ``power_plain`` (0-1); with clusters ``power_person``, what
        one would believe who takes customers of one cluster as independent.
    """
    kinds = {"power": baseline, "power_plain": baseline.plain()}
    if baseline.cluster_size > 1:
        kinds["power_person"] = baseline.by_person()
    effects = np.linspace(0, most, points)
    if baseline.kind == "proportion":
        effects = effects[baseline.mean * (1 + effects) < 1]
    columns = {
        name: [
            power(one, share * abs(baseline.mean), n_control, n_treatment, alpha=alpha,
                  sides=sides, inflation=inflation)
            for share in effects
        ]
        for name, one in kinds.items()
    }  # fmt: skip
    return pd.DataFrame({"effect_percent": 100 * effects, **columns})


def runtime_words(time: Runtime) -> dict[str, str | bool]:
    """How long a test takes, row by row, in words where it never ends."""
    days = {"days of entry": time.enrolment_days, "days in all": time.total_days}
    told: dict[str, str | bool] = {
        name: f"{count:,.0f}" if isfinite(count) else "more than ten years"
        for name, count in days.items()
    }
    return told | {"drawn on beyond the days that history shows": time.extrapolated}


def design_doubts(
    baseline: Baseline,
    size: SampleSize,
    time: Runtime,
    false_alarms: tuple[float, float],
    alpha: float,
) -> list[str]:
    """What speaks against a design, each in a sentence; often empty.

    Args:
        baseline: Of the primary metric.
        size: Customers needed, and clusters.
        time: How long the test takes.
        false_alarms: Ends of the interval of the share of A/A tests that found something.
        alpha: What that share should be.
    """
    found = []
    if not isfinite(time.enrolment_days):
        found.append(
            "So many customers never come at this pace: the design has to change, or more "
            "customers have to be let in."
        )
    elif time.extrapolated:
        found.append(
            f"The {time.enrolment_days:,.0f} days of entry lie beyond the days that history shows: "
            "the pace of new customers is drawn on."
        )
    low, high = false_alarms
    if not low <= alpha <= high:
        found.append(
            f"A/A tests on these customers alarm in {100 * low:.1f} to {100 * high:.1f} % of "
            f"cases, not in {100 * alpha:g} %: the p-value of this metric is not to be trusted as "
            "it is; cap it, or look for clusters."
        )
    if baseline.customers and baseline.sd / max(abs(baseline.mean), 1e-300) > 10:
        found.append(
            f"{baseline.name} varies by {baseline.sd / abs(baseline.mean):.0f} times its mean: few "
            "customers decide it."
        )
    known = baseline.customers / baseline.cluster_size
    if sum(size.clusters.values()) > known:
        found.append(
            f"{sum(size.clusters.values()):,} clusters are needed and {known:,.0f} were seen: more "
            "customers of the same clusters help little."
        )
    if baseline.icc > 0 and baseline.design_effect > 1.5:
        found.append(
            f"Customers of one cluster are alike: {baseline.design_effect:.1f} times as many are "
            "needed as if each were assigned alone."
        )
    return found


def design_advice(
    experiment: str,
    metric: Baseline,
    size: SampleSize,
    time: Runtime,
    *,
    effect: float,
    power: float,
    looks: int,
    cost: float,
    currency: str,
    planned_hash: str,
    longest_days: int = 90,
    guardrail: str = "",
    decides: str = "",
) -> str:
    """Whether and how to run the test, in a few sentences.

    Args:
        experiment: Its id.
        metric: The primary one.
        size: Customers needed.
        time: Days needed.
        effect: Looked for, as a share of the mean.
        power: Chance of finding it.
        looks: Planned looks.
        cost: Of the contacts.
        currency: Of the cost.
        planned_hash: Of the plan.
        longest_days: A test that takes longer is not worth starting.
        guardrail: Names of the guardrails that the customers suffice for, if there are any.
        decides: Metric that needs most customers; the primary one if empty.
    """
    what = f"a change of {metric.name} by {100 * effect:.3g} %"
    needs, way_out = f"{what} needs", "Look for a larger effect, take a metric that varies less"
    if decides and decides != metric.name:
        needs = f"to find {what} and to show that {decides} passes its margin takes"
        way_out = "Widen that margin, take another guardrail"
    if not isfinite(time.total_days):
        return (
            f"Do not start {experiment} as it stands: {needs} {size.total:,} customers, and so "
            f"many do not come within ten years. {way_out}, or let more customers in."
        )
    if time.total_days > longest_days:
        return (
            f"Do not start {experiment} as it stands: {needs} {size.total:,} customers, who come "
            f"within {time.enrolment_days:,.0f} days, and the last outcome would close after "
            f"{time.total_days:,.0f} days; at most {longest_days} are allowed (longest_days). "
            f"{way_out}, or let more customers in."
        )
    price = f" Its contacts cost {cost:,.0f} {currency}".rstrip() + "." if cost else ""
    saved = 1 - metric.kept_variance
    adjusted = ""
    if saved >= 0.01:
        adjusted = f" Adjustment by the time before takes off {saved:.0%} of the variance."
    passes = f", and {guardrail} passes its margin," if guardrail else ""
    times = "once, at the end" if looks == 1 else f"{looks} times, at the planned sizes only"
    return (
        f"Start {experiment} as planned (hash {planned_hash[:12]}): with {size.total:,} customers "
        f"{what} is found{passes} with a chance of {power:.0%}.{adjusted} They come within "
        f"{time.enrolment_days:.0f} days, and the last outcome closes after "
        f"{time.total_days:.0f}.{price} Look {times}; whoever looks in between reads the intervals "
        "that are valid at any time."
    )
