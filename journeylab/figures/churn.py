"""Figures of the churn topic: who comes back, what goes with it, and whether the forecast held."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_hex
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from journeylab.figures.style import (
    ACCENT,
    FAINT,
    GREYS,
    INK,
    SOFT,
    WARN,
    finding,
    label_lines,
    percent,
    thousands,
)

# one hue from light to dark for segments that have an order; each end is 3:1 on white
_ORDERED = LinearSegmentedColormap.from_list("ordered", ["#4fa39c", ACCENT, "#06302e"])


def survival_by_segment(
    curves: pd.DataFrame,
    at_risk: pd.DataFrame,
    ax: Axes,
    title: str,
    subtitle: str | None = None,
    unit: str = "",
) -> Axes:
    """Share without a purchase by day, one labelled line per segment, those at risk below it.

    Args:
        curves: ``segment, time`` (days), ``survival, ci_low, ci_high`` (shares), as
            ``churn.curves_by_segment`` gives them, segments in their order.
        at_risk: ``segment``, then one column of counts per day (``day_30``), as
            ``churn.at_risk_table`` gives it.
        ax: Where to draw; about 5 inches high leaves room for the counts.
        title: The finding.
        subtitle: What is shown, of whom.
        unit: Follows each segment's name at the line, e.g. ``"days silent"``.
    """
    segments = list(dict.fromkeys(curves["segment"]))
    shades = np.linspace(0, 1, len(segments)) if len(segments) > 1 else [0.5]
    lines = {}
    for segment, shade in zip(segments, shades, strict=True):
        curve, colour = curves[curves["segment"] == segment], to_hex(_ORDERED(shade))
        ax.fill_between(
            curve["time"], curve["ci_low"], curve["ci_high"],
            step="post", color=colour, alpha=0.15, linewidth=0,
        )  # fmt: skip
        (line,) = ax.step(curve["time"], curve["survival"], where="post", color=colour)
        lines[line] = f"{segment} {unit}".strip()
    days = {name: float(name.removeprefix("day_")) for name in at_risk.columns[1:]}
    ax.set(xlim=(0, float(curves["time"].max())), ylim=(0, 1.0))
    ax.set(xlabel="Days after the landmark", ylabel="Share without a purchase")
    ax.set_xticks(list(days.values()))
    ax.yaxis.set_major_formatter(FuncFormatter(percent))
    _counts_below(ax, at_risk, days)
    finding(ax, title, subtitle)
    for label in label_lines(ax, lines):
        label.set_color(INK)
    return ax


def hazard_ratios(
    coefficients: pd.DataFrame, ax: Axes, title: str, subtitle: str | None = None
) -> Axes:
    """Hazard ratios with their intervals on a log axis, one row per covariate.

    Args:
        coefficients: ``covariate, per, hazard_ratio, ci_low, ci_high``, as in
            ``churn.CoxFit.coefficients``.
        ax: Where to draw.
        title: The finding.
        subtitle: What is shown, of whom.
    """
    rows = np.arange(len(coefficients))[::-1]
    low, high = coefficients["ci_low"], coefficients["ci_high"]
    ax.axvline(1, color=GREYS[1], linewidth=1, zorder=1)
    ax.hlines(rows, low, high, color=ACCENT, linewidth=2.5, zorder=2)
    ax.plot(coefficients["hazard_ratio"], rows, "o", color=ACCENT, markersize=7, zorder=3)
    for row, entry in zip(rows, coefficients.itertuples(index=False), strict=True):
        text = f"{entry.hazard_ratio:.2f} ({entry.ci_low:.2f} to {entry.ci_high:.2f})"
        _beside(ax, row, text)
    ax.set_xscale("log")
    reach = max(1.25, float(high.max()), 1 / float(low.min())) ** 1.1
    ax.set(xlim=(1 / reach, reach), ylim=(-0.6, len(coefficients) - 0.4))
    ticks = [
        t for t in (0.1, 0.2, 0.5, 0.7, 0.8, 1, 1.25, 1.5, 2, 5, 10) if 1 / reach <= t <= reach
    ]
    ax.xaxis.set_major_locator(FixedLocator(ticks))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(thousands))
    names = coefficients["covariate"].str.replace("_", " ") + "\nper " + coefficients["per"]
    ax.set_yticks(rows, names)
    ax.grid(visible=False, axis="y")
    ax.grid(visible=True, axis="x")
    ax.set_xlabel("Hazard ratio of the next purchase: below 1 returns later, above 1 sooner")
    finding(ax, title, subtitle)
    return ax


def calibration(table: pd.DataFrame, ax: Axes, title: str, subtitle: str | None = None) -> Axes:
    """Observed against predicted share without a purchase, one point per group of equal risk.

    Args:
        table: ``predicted, observed, ci_low, ci_high`` (shares), ``inside``, as
            ``churn.calibration`` gives it.
        ax: Where to draw.
        title: The finding.
        subtitle: What is shown, of whom.
    """
    top = float(max(table["ci_high"].max(), table["predicted"].max())) * 1.06
    ax.plot([0, top], [0, top], color=GREYS[1], linewidth=1, zorder=1)
    ax.annotate(
        "as predicted", (top, top), xytext=(-4, -26), textcoords="offset points",
        ha="right", va="top", rotation=0, color=FAINT, fontsize=9,
    )  # fmt: skip
    for inside, colour, face in ((True, ACCENT, ACCENT), (False, WARN, "white")):
        own = table[table["inside"] == inside]
        ax.vlines(own["predicted"], own["ci_low"], own["ci_high"], color=colour, linewidth=1.6)
        ax.plot(
            own["predicted"], own["observed"], "o",
            color=colour, markerfacecolor=face, markeredgewidth=1.6, markersize=6.5, zorder=3,
        )  # fmt: skip
    if not table["inside"].all():
        _key(ax, "hollow: the prediction lies outside the interval", WARN)
    ax.set(xlim=(-0.02 * top, top), ylim=(-0.02 * top, top))
    ax.set(xlabel="Predicted share without a purchase", ylabel="Observed share")
    ax.xaxis.set_major_formatter(FuncFormatter(percent))
    ax.yaxis.set_major_formatter(FuncFormatter(percent))
    finding(ax, title, subtitle)
    return ax


def list_outcomes(
    table: pd.DataFrame,
    ax: Axes,
    title: str,
    subtitle: str | None = None,
    follow: str | None = None,
) -> Axes:
    """Share of each list that did not buy, with its interval, one row per list.

    Args:
        table: ``list, customers, no_purchase, ci_low, ci_high``, as ``churn.compare_lists``.
            A list nobody is on is left out.
        ax: Where to draw.
        title: The finding.
        subtitle: What is shown, of whom.
        follow: The list in the accent colour; the others are grey.
    """
    filled = table[table["customers"] > 0]
    rows = np.arange(len(filled))[::-1]
    shares = filled[["no_purchase", "ci_low", "ci_high"]].to_numpy(float).tolist()
    for row, name, count, (share, low, high) in zip(
        rows, filled["list"], filled["customers"], shares, strict=True
    ):
        colour = ACCENT if name == follow else GREYS[0]
        ax.hlines(row, low, high, color=colour, linewidth=2.5)
        ax.plot(share, row, "o", color=colour, markersize=7)
        _beside(ax, row, f"{percent(round(share, 3))} of {count:,}", colour)
    ax.set(xlim=(0, min(1.0, float(filled["ci_high"].max()) * 1.1)), ylim=(-0.6, len(filled) - 0.4))
    ax.set_yticks(rows, filled["list"])
    ax.xaxis.set_major_formatter(FuncFormatter(percent))
    ax.grid(visible=False, axis="y")
    ax.grid(visible=True, axis="x")
    ax.set_xlabel("Share without a purchase")
    finding(ax, title, subtitle)
    return ax


def _counts_below(ax: Axes, at_risk: pd.DataFrame, days: dict[str, float]) -> None:
    """The numbers at risk as rows of text under the axis, aligned with its ticks."""
    head, step = -46.0, 13.0

    def put(x: float, height: float, text: str, align: str, colour: str) -> None:
        ax.annotate(
            text, xy=(x, 0), xycoords=ax.get_xaxis_transform(), xytext=(0, height),
            textcoords="offset points", ha=align, va="top", color=colour, fontsize=9,
            annotation_clip=False,
        )  # fmt: skip

    put(0, head, "Still waiting", "left", FAINT)
    for position, row in enumerate(at_risk.to_dict("records"), start=1):
        height = head - step * position
        ax.annotate(
            str(row["segment"]), xy=(0, 0), xycoords="axes fraction", xytext=(-26, height),
            textcoords="offset points", ha="right", va="top", color=SOFT, fontsize=9,
            annotation_clip=False,
        )  # fmt: skip
        for name, day in days.items():
            put(day, height, f"{row[name]:,}", "center", SOFT)


def _beside(ax: Axes, row: float, text: str, colour: str = SOFT) -> None:
    ax.annotate(
        text, xy=(1, row), xycoords=ax.get_yaxis_transform(), xytext=(8, 0),
        textcoords="offset points", ha="left", va="center", color=colour, fontsize=9.5,
        annotation_clip=False,
    )  # fmt: skip


def _key(ax: Axes, text: str, colour: str) -> None:
    ax.annotate(
        text, (0, 1), xycoords="axes fraction", xytext=(6, -4), textcoords="offset points",
        ha="left", va="top", color=colour, fontsize=9,
    )  # fmt: skip
