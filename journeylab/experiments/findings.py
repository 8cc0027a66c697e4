"""Findings: what a readout's figures show, each in one line, and its rows beside the truth."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from journeylab.estimate import Moments
from journeylab.experiments.checks import Health
from journeylab.experiments.comparison import compare
from journeylab.experiments.effect_paths import EffectPath
from journeylab.experiments.plan import TestPlan
from journeylab.experiments.readout import Readout
from journeylab.experiments.segments import Segments

TRUE_NAMES = {"bought": "conversion", "orders": "orders", "revenue, uncapped": "revenue"}
_LOOKS = 12


def health_finding(health: Health) -> str:
    """The gravest finding of the checks."""
    if health.findings:
        return health.findings[0][0].upper() + health.findings[0][1:]
    return "The split is as designed, and nothing speaks against reading the test"


def forest_finding(found: Readout) -> str:
    """What the primary metric shows, arm by arm."""
    rows = found.rows[found.rows["role"] == "primary"]
    parts = []
    for row in rows.to_dict("records"):
        arm = f"{row['arm']}, " if len(rows) > 1 else ""
        verdict = str(row["verdict"]).removeprefix(found.mark)
        parts.append(f"{arm}{row['metric']}: {verdict}")
    return found.mark + "; ".join(parts)


def grouped_doubts(found: Readout) -> list[str]:
    """The doubts about rows, each once, with the metrics that it is about."""
    about: dict[str, list[str]] = {}
    for (metric, _), one in found.comparisons.items():
        for doubt in one.doubts:
            about.setdefault(doubt, []).append(metric)
    return [f"{', '.join(dict.fromkeys(names))}: {doubt}" for doubt, names in about.items()]


def path_finding(path: EffectPath) -> str:
    """Whether the effect wears off."""
    if path.reason or path.slope is None or path.p is None:
        return f"No path: {path.reason or 'no variation over days'}"
    if path.p >= 0.05:
        return "No sign that the effect changes over the days"
    return f"The daily effect {'grows' if path.slope.value > 0 else 'falls'} over the days"


def segments_finding(found: Segments) -> str:
    """Whether segments differ."""
    if found.p is None:
        return "Too few segments to compare"
    if found.p < 0.05:
        return f"The effect differs between segments (p = {found.p:.2g})"
    return f"Segments that seem to differ may be noise (p = {found.p:.2f})"


def gap_finding(gap: pd.DataFrame, arm: str, unit: str = "") -> str:
    """Where along the amounts the arms are furthest apart.

    Args:
        gap: From ``distribution_gap``.
        arm: The arm that is compared.
        unit: Of the amounts.
    """
    if gap.empty:
        return "Nobody has a value"
    row = gap.loc[gap["gap"].abs().idxmax()]
    more, low, high = (-100 * float(row[name]) for name in ("gap", "ci_high", "ci_low"))
    where = f"above {row['value']:,.4g} {unit}".rstrip()
    if low <= 0 <= high:
        return f"No more nor fewer customers of {arm} are shown {where}, where the gap is largest"
    word = "more" if more > 0 else "fewer"
    return f"{abs(more):.2g} percentage points {word} customers of {arm} lie {where}"


def uncapped_finding(rows: pd.DataFrame) -> str:
    """How much the largest customers decide, from rows of a metric with and without its cap."""
    for name in rows["metric"]:
        own = rows[rows["metric"] == f"{name}, uncapped"]
        if own.empty or own["relative"].isna().any():
            continue
        capped = rows[rows["metric"] == name]
        pair = (float(capped["relative"].iloc[0]), float(own["relative"].iloc[0]))
        if np.isfinite(pair).all():
            return (
                f"{name} changes by {100 * pair[0]:+.2f} % capped, {100 * pair[1]:+.2f} % uncapped"
            )
    return "No metric is measured with and without a cap"


def raw_beside(found: Readout) -> pd.DataFrame:
    """The plain difference beside the adjusted one.

    Returns:
        ``metric, arm, adjustment, raw, raw_low, raw_high, adjusted, adjusted_low, adjusted_high,
        variance_left, unit``; metrics without an adjustment have the same numbers twice.
    """
    rows = []
    for (metric, arm), one in found.comparisons.items():
        plain = one.raw or one
        if one.absolute is None or plain.absolute is None:
            continue
        ends = (
            (e.value, e.ci_low, e.ci_high) for e in (plain.absolute, one.absolute)
        )  # fmt: skip
        unit = found.plan_metric(metric).unit
        rows.append(
            (metric, arm, one.adjustment, *next(ends), *next(ends), one.variance_left, unit)
        )
    columns = ["metric", "arm", "adjustment", "raw", "raw_low", "raw_high", "adjusted",
               "adjusted_low", "adjusted_high", "variance_left", "unit"]  # fmt: skip
    return pd.DataFrame(rows, columns=columns)


def path_of_looks(plan: TestPlan, moments: Moments, arm: str) -> pd.DataFrame:
    """The primary metric as it would have stood after each stretch of days of exposure.

    Args:
        plan: Of the test.
        moments: By ``day``.
        arm: Compared with the control.

    Returns:
        ``information`` (share of the customers planned, or of those found), ``z`` (above 0: the
        arm is better); empty where everybody came in on one day.
    """
    columns = ["information", "z"]
    if "day" not in moments.keys or moments.cells["day"].nunique() < 2:
        return pd.DataFrame(columns=columns)
    days = np.sort(moments.cells["day"].unique())
    picked = days[np.unique(np.linspace(0, len(days) - 1, _LOOKS).round().astype(int))]
    total, sign = plan.customers or int(moments.units.sum()), 1.0
    if plan.primary.direction == "down":
        sign = -1.0
    rows = []
    for day in picked:
        part = moments.only(until=str(pd.Timestamp(day).date()))
        row = compare(part, plan.primary.name, arm, plan.control)
        if row.statistic is not None:
            rows.append((int(part.units.sum()) / total, sign * row.statistic))
    return pd.DataFrame(rows, columns=columns)


def beside_truth(
    moments: Moments,
    truth: pd.DataFrame,
    experiment: str,
    control: str,
    names: Mapping[str, str] = TRUE_NAMES,
) -> pd.DataFrame:
    """Effects as read, beside what is true of the world they were drawn from.

    Args:
        moments: Of the test, over the days the truth is about.
        truth: ``experiment_id, arm, metric, effect``, from ``simulate.Truth.tests``.
        experiment: Its id.
        control: The control.
        names: Metric as measured -> metric of the truth; those not measured are passed over.

    Returns:
        ``metric, arm, effect, low, high, true, inside`` (the interval holds the truth), ``unit``.
    """
    own = truth[truth["experiment_id"] == experiment].set_index(["arm", "metric"])["effect"]
    rows = []
    for name, of in names.items():
        for arm in moments.variants:
            if name not in moments.blocks or arm == control or (arm, of) not in own.index:
                continue
            row = compare(moments, name, arm, control)
            if row.absolute is None:
                continue
            low, high, true = row.absolute.ci_low, row.absolute.ci_high, float(own[arm, of])
            unit = moments.metric(name).unit
            rows.append((name, arm, row.absolute.value, low, high, true, low <= true <= high, unit))
    columns: Sequence[str] = ("metric", "arm", "effect", "low", "high", "true", "inside", "unit")
    return pd.DataFrame(rows, columns=list(columns))
