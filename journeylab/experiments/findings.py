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

_LOOKS = 12
_IN_UNIT = (
    "mean", "mean_control", "effect", "ci_low", "ci_high", "sequential_low", "sequential_high",
    "anytime_low", "anytime_high", "expected_loss", "margin",
)  # fmt: skip


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
        arm = f"{row['arm']}: " if len(rows) > 1 else ""
        verdict = str(row["verdict"]).removeprefix(found.mark)
        parts.append(f"{arm}{row['metric']} {verdict}")
    return found.mark + "; ".join(parts)


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
        ``metric, arm, adjustment, raw, raw_low, raw_high, adjusted, low, high, variance_left``;
        metrics without an adjustment have the same numbers twice.
    """
    rows = []
    for (metric, arm), one in found.comparisons.items():
        plain = one.raw or one
        if one.absolute is None or plain.absolute is None:
            continue
        ends = (
            (e.value, e.ci_low, e.ci_high) for e in (plain.absolute, one.absolute)
        )  # fmt: skip
        rows.append((metric, arm, one.adjustment, *next(ends), *next(ends), one.variance_left))
    columns = ["metric", "arm", "adjustment", "raw", "raw_low", "raw_high", "adjusted", "low",
               "high", "variance_left"]  # fmt: skip
    return pd.DataFrame(rows, columns=columns)


def readout_views(found: Readout) -> dict[str, pd.DataFrame]:
    """The rows of a readout in tables narrow enough to read, the verdicts first.

    Returns:
        ``readout`` (change in percent of the control, with the interval of a single look, and the
        verdict), ``levels``, ``intervals``, ``bounds`` (over the looks), ``p_values``,
        ``chances``; what is in the unit of a share is in percent. The first column's name
        says EXPLORATORY where the plan was not kept.
    """
    rows = found.rows
    ends = {"relative": "change, %", "relative_low": "ci_low", "relative_high": "ci_high"}
    percent = {new: 100 * pd.to_numeric(rows[old]) for old, new in ends.items()}
    verdicts = [str(text).removeprefix(found.mark) for text in rows["verdict"]]
    first = rows[["metric", "arm", "role"]].assign(**percent, verdict=verdicts)
    shown = rows.rename(columns={"low": "ci_low", "high": "ci_high"})
    # a share of .0068 beside an amount of 1.24 would be rounded away: shares in percent
    scale = np.where(shown["unit"] == "share", 100.0, 1.0)
    for column in _IN_UNIT:
        shown[column] = pd.to_numeric(shown[column]) * scale
    shown["unit"] = shown["unit"].replace({"share": "%"})
    key = ["metric", "arm"]
    views = {
        "readout": first,
        "levels": shown[[*key, "n", "n_control", "mean", "mean_control", "unit"]],
        "intervals": shown[[*key, "effect", "ci_low", "ci_high", "unit"]],
        "bounds": shown[
            [*key, "sequential_low", "sequential_high", "anytime_low", "anytime_high", "unit"]
        ],
        "p_values": shown[[*key, "p", "p_adjusted", "anytime_p"]],
        "chances": shown[
            [*key, "chance_to_win", "expected_loss", "rope", "variance_left", "margin", "unit"]
        ],
    }
    name = f"{found.mark}metric"
    return {key: view.rename(columns={"metric": name}) for key, view in views.items()}


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
    moments: Moments, truth: pd.DataFrame, experiment: str, control: str, names: Mapping[str, str]
) -> pd.DataFrame:
    """Effects as read, beside what is true of the world they were drawn from.

    Args:
        moments: Of the test, over the days the truth is about.
        truth: ``experiment_id, arm, metric, effect``, from ``simulate.Truth.tests``.
        experiment: Its id.
        control: The control.
        names: Metric as measured -> metric of the truth.

    Returns:
        ``metric, arm, effect, low, high, true, inside`` (the interval holds the truth).
    """
    own = truth[truth["experiment_id"] == experiment].set_index(["arm", "metric"])["effect"]
    rows = []
    for name, of in names.items():
        for arm in moments.variants:
            if arm == control or (arm, of) not in own.index:
                continue
            row = compare(moments, name, arm, control)
            if row.absolute is None:
                continue
            low, high, true = row.absolute.ci_low, row.absolute.ci_high, float(own[arm, of])
            rows.append((name, arm, row.absolute.value, low, high, true, low <= true <= high))
    columns: Sequence[str] = ("metric", "arm", "effect", "low", "high", "true", "inside")
    return pd.DataFrame(rows, columns=list(columns))
