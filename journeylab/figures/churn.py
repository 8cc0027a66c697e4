"""Figures of the churn topic: who comes back, what goes with it, and whether the forecast held."""

from collections.abc import Sequence
from typing import Any, Literal

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
    beside,
    finding,
    in_corner,
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
    x_label: str = "Days after the landmark",
    y_label: str = "Share without a purchase",
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
        x_label: What time counts.
        y_label: What the share is of.
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
    ax.set(xlabel=x_label, ylabel=y_label)
    ax.set_xticks(list(days.values()))
    ax.xaxis.set_major_formatter(FuncFormatter(thousands))
    ax.yaxis.set_major_formatter(FuncFormatter(percent))
    _counts_below(ax, at_risk, days)
    finding(ax, title, subtitle)
    for label in label_lines(ax, lines):
        label.set_color(INK)
    return ax


def hazard_ratios(
    coefficients: pd.DataFrame,
    ax: Axes,
    title: str,
    subtitle: str | None = None,
    x_label: str = "Hazard ratio of the next purchase: below 1 returns later, above 1 sooner",
) -> Axes:
    """Hazard ratios with their intervals on a log axis, one row per covariate.

    Args:
        coefficients: ``covariate, per, hazard_ratio, ci_low, ci_high``, as in
            ``churn.CoxFit.coefficients``.
        ax: Where to draw.
        title: The finding.
        subtitle: What is shown, of whom.
        x_label: What the ratio is of.
    """
    rows = np.arange(len(coefficients))[::-1]
    low, high = coefficients["ci_low"], coefficients["ci_high"]
    ax.axvline(1, color=GREYS[1], linewidth=1, zorder=1)
    ax.hlines(rows, low, high, color=ACCENT, linewidth=2.5, zorder=2)
    ax.plot(coefficients["hazard_ratio"], rows, "o", color=ACCENT, markersize=7, zorder=3)
    for row, entry in zip(rows, coefficients.itertuples(index=False), strict=True):
        text = f"{entry.hazard_ratio:.2f} ({entry.ci_low:.2f} to {entry.ci_high:.2f})"
        beside(ax, row, text)
    ax.set_xscale("log")
    reach = max(1.25, float(high.max()), 1 / float(low.min())) ** 1.1
    ax.set(xlim=(1 / reach, reach), ylim=(-0.6, len(coefficients) - 0.4))
    fine, coarse = (0.5, 0.7, 0.8, 1, 1.25, 1.5, 2), (0.1, 0.2, 0.5, 1, 2, 5, 10)
    ticks = [t for t in (fine if reach < 2.1 else coarse) if 1 / reach <= t <= reach]
    ax.xaxis.set_major_locator(FixedLocator(ticks))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(thousands))
    names = coefficients["covariate"].str.replace("_", " ") + "\nper " + coefficients["per"]
    ax.set_yticks(rows, names)
    ax.grid(visible=False, axis="y")
    ax.grid(visible=True, axis="x")
    ax.set_xlabel(x_label)
    finding(ax, title, subtitle)
    return ax


def calibration(
    table: pd.DataFrame,
    ax: Axes,
    title: str,
    subtitle: str | None = None,
    what: str = "share without a purchase",
) -> Axes:
    """Observed against predicted share without the event, one point per group of equal risk.

    Args:
        table: ``predicted, observed, ci_low, ci_high`` (shares), ``inside``, as
            ``churn.calibration`` gives it.
        ax: Where to draw.
        title: The finding.
        subtitle: What is shown, of whom.
        what: What the share is of.
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
        in_corner(ax, "hollow: the prediction lies outside the interval", WARN)
    ax.set(xlim=(-0.02 * top, top), ylim=(-0.02 * top, top))
    ax.set(xlabel=f"Predicted {what}", ylabel="Observed share")
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
        beside(ax, row, f"{percent(round(share, 3))} of {count:,}", colour)
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


def waiting_curve(
    curve: pd.DataFrame,
    marks: Sequence[float],
    ax: Axes,
    title: str,
    subtitle: str | None = None,
    x_label: str = "Days since the last purchase",
    y_label: str = "Share of waits still going on",
) -> Axes:
    """How many waits last longer than so many days, read off at some of them.

    Args:
        curve: ``time`` (days), ``survival`` (share), as ``survival.kaplan_meier`` gives it.
        marks: Days to read off.
        ax: Where to draw.
        title: The finding.
        subtitle: What is shown, of whom.
        x_label: What time counts.
        y_label: What the share is of.
    """
    grid, share = curve["time"].to_numpy(float), curve["survival"].to_numpy(float)
    end = min(float(grid[-1]), max(marks) * 2)
    seen = grid <= end
    ax.step(np.append(grid[seen], end), np.append(share[seen], share[seen][-1]), where="post",
            color=ACCENT)  # fmt: skip
    for day in marks:
        height = float(share[np.searchsorted(grid, day, side="right") - 1])
        ax.plot([day, day], [0, height], color=GREYS[1], linewidth=1, linestyle=(0, (1, 2)))
        ax.plot(day, height, "o", color=ACCENT, markersize=6)
        ax.annotate(
            percent(round(height, 3)), (day, height), xytext=(6, 6), textcoords="offset points",
            color=SOFT, fontsize=9.5,
        )  # fmt: skip
    ax.set(xlim=(0, end), ylim=(0, 1.02), xlabel=x_label, ylabel=y_label)
    ax.set_xticks([0, *marks, *([] if end < 1.9 * max(marks) else [round(end)])])
    ax.xaxis.set_major_formatter(FuncFormatter(thousands))
    ax.yaxis.set_major_formatter(FuncFormatter(percent))
    finding(ax, title, subtitle)
    return ax


def score_by_time(
    by_time: pd.DataFrame,
    metric: Literal["brier", "auc"],
    ax: Axes,
    title: str,
    subtitle: str | None = None,
    follow: str = "hazard",
    x_label: str = "Days ahead",
) -> Axes:
    """A score of each forecast through time, lines labelled at their ends.

    Args:
        by_time: ``model, time`` and the metric with ``_low`` and ``_high``, as in
            ``churn.Scores.by_time``.
        metric: ``brier`` (lower is better) or ``auc`` (0.5 is a coin).
        ax: Where to draw.
        title: The finding.
        subtitle: What is shown, of whom.
        follow: The forecast in the accent colour, with its band.
        x_label: What time counts.
    """
    lines = {}
    models = list(dict.fromkeys(by_time["model"]))
    styles: list[Any] = ["-", (0, (5, 2)), (0, (1, 1.5)), (0, (4, 1.5, 1, 1.5)), (0, (8, 3))]
    rest = [name for name in models if name != follow]
    for name in models:
        own = by_time[(by_time["model"] == name) & by_time[metric].notna()]
        if own.empty:
            continue
        if name == follow:
            ax.fill_between(
                own["time"], own[f"{metric}_low"], own[f"{metric}_high"], color=ACCENT, alpha=0.15,
                linewidth=0,
            )  # fmt: skip
            (line,) = ax.plot(own["time"], own[metric], color=ACCENT, linewidth=2.4, zorder=4)
        else:
            number = rest.index(name)
            (line,) = ax.plot(
                own["time"], own[metric], color=GREYS[min(number, 1)], linewidth=1.5,
                linestyle=styles[number % len(styles)],
            )  # fmt: skip
        lines[line] = name
    ax.set(xlim=(float(by_time["time"].min()), float(by_time["time"].max())), xlabel=x_label)
    label = {"brier": "Brier score (lower is better)", "auc": "AUC (0.5 is a coin)"}[metric]
    ax.set_ylabel(label)
    shown = sorted(by_time["time"].unique(), reverse=True)
    ax.set_xticks(shown[:: 1 if len(shown) < 7 else 2])
    ax.xaxis.set_major_formatter(FuncFormatter(thousands))
    finding(ax, title, subtitle)
    for text in label_lines(ax, lines):
        if text.get_text() != follow:
            text.set_color(SOFT)
    return ax


def hazard_through_time(
    shape: pd.DataFrame,
    ax: Axes,
    title: str,
    subtitle: str | None = None,
    event: str = "the event",
) -> Axes:
    """Rate of the event through time for a few kinds of customers.

    Args:
        shape: ``group, time`` (days), ``hazard`` (per 30 days), as ``churn.Judgement.shape``.
        ax: Where to draw.
        title: The finding.
        subtitle: What is shown, of whom.
        event: What it is, e.g. ``a purchase``.
    """
    groups = list(dict.fromkeys(shape["group"]))
    shades = np.linspace(0, 1, len(groups)) if len(groups) > 1 else [0.5]
    lines = {}
    for group, shade in zip(groups, shades, strict=True):
        own = shape[shape["group"] == group]
        (line,) = ax.plot(own["time"], own["hazard"], color=to_hex(_ORDERED(shade)), marker="o",
                          markersize=4)  # fmt: skip
        lines[line] = group
    ax.set(xlim=(float(shape["time"].min()), float(shape["time"].max())))
    ax.set_ylim(0, float(shape["hazard"].max()) * 1.08)
    ax.set(xlabel=f"Days without {event} so far", ylabel="Events expected in 30 days")
    ax.xaxis.set_major_formatter(FuncFormatter(thousands))
    finding(ax, title, subtitle)
    for text in label_lines(ax, lines):
        text.set_color(INK)
    return ax


def reasons_map(
    size: pd.DataFrame,
    ax: Axes,
    title: str,
    subtitle: str | None = None,
    x_label: str = "Days ahead",
) -> Axes:
    """What the forecast rests on, covariate by time: the darker, the more.

    Args:
        size: Mean size of the contributions (log-odds), a row per covariate, the largest first, a
            column per time, as ``churn.Judgement.reasons``.
        ax: Where to draw.
        title: The finding.
        subtitle: What is shown, of whom.
        x_label: What time counts.
    """
    values = size.to_numpy(float)
    top = float(values.max()) or 1.0
    shades = LinearSegmentedColormap.from_list("reasons", ["#ffffff", ACCENT, "#06302e"])
    ax.imshow(values, cmap=shades, vmin=0, vmax=top, aspect="auto")
    for row, column in np.ndindex(values.shape):
        dark = values[row, column] > 0.3 * top
        ax.annotate(
            f"{values[row, column]:.2f}", (column, row), ha="center", va="center", fontsize=8.5,
            color="white" if dark else SOFT,
        )  # fmt: skip
    ax.set_xticks(range(size.shape[1]), [thousands(float(time)) for time in size.columns])
    ax.set_yticks(range(size.shape[0]), [str(name).replace("_", " ") for name in size.index])
    ax.grid(visible=False)
    ax.set_xlabel(x_label)
    for side in ("left", "bottom"):
        ax.spines[side].set_visible(False)
    finding(ax, title, subtitle)
    return ax


def skill_by_origin(
    by_origin: pd.DataFrame,
    ax: Axes,
    title: str,
    subtitle: str | None = None,
    follow: str = "hazard",
) -> Axes:
    """Skill of each forecast from each day judged, with intervals.

    Args:
        by_origin: ``origin, model, skill, skill_low, skill_high``, as in
            ``churn.Rolling.by_origin``; Kaplan-Meier, which is 0, is drawn as a line.
        ax: Where to draw.
        title: The finding.
        subtitle: What is shown, of whom.
        follow: The forecast in the accent colour.
    """
    own = by_origin[by_origin["model"] != "Kaplan-Meier"]
    origins, models = list(dict.fromkeys(own["origin"])), list(dict.fromkeys(own["model"]))
    ax.axvline(0, color=GREYS[1], linewidth=1)
    markers, step = "osD^v", 0.8 / max(len(models), 1)
    for number, name in enumerate(models):
        mine = own[own["model"] == name]
        y = np.array([len(origins) - origins.index(o) - 1 for o in mine["origin"]], float)
        y += 0.4 - step * (number + 0.5)
        colour = ACCENT if name == follow else GREYS[min(number - 1, 1)]
        ax.hlines(y, mine["skill_low"], mine["skill_high"], color=colour, linewidth=1.8)
        ax.plot(mine["skill"], y, markers[number % len(markers)], color=colour, markersize=6)
        for row, value in zip(y, mine["skill"], strict=True):
            beside(ax, row, f"{name}  {percent(round(value, 2))}", colour)
    ax.set_yticks(range(len(origins)), origins[::-1])
    low, high = float(own["skill_low"].min()), float(own["skill_high"].max())
    ax.set(xlim=(min(0.0, low) - 0.02, high + 0.02), ylim=(-0.5, len(origins) - 0.5))
    ax.xaxis.set_major_formatter(FuncFormatter(percent))
    ax.grid(visible=False, axis="y")
    ax.grid(visible=True, axis="x")
    ax.set_xlabel("Squared error taken off one share for all (skill)")
    finding(ax, title, subtitle)
    return ax
