"""Figures of customer value: was the forecast right, who is still there, who holds the value."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.ticker import FuncFormatter

from journeylab.estimate import Estimate
from journeylab.figures.style import (
    ACCENT,
    GREYS,
    INK,
    SOFT,
    finding,
    label_lines,
    percent,
    shade,
    thousands,
)

_SHADES = LinearSegmentedColormap.from_list("chance", ["#ffffff", ACCENT])


def tracking(track: pd.DataFrame, ax: Axes, model: str = "BG/NBD") -> Axes:
    """Cumulative repeat purchases, expected and actual, with the holdout shaded.

    Args:
        track: ``week, expected, actual, holdout``, from ``clv.tracking``.
        ax: Where to draw.
        model: Its name, for the label of the line.
    """
    weeks, last = track["week"], track.iloc[-1]
    (actual,) = ax.plot(weeks, track["actual"], color=GREYS[0], linewidth=1.6)
    (expected,) = ax.plot(weeks, track["expected"], color=ACCENT)
    ax.set(xlim=(0, last["week"]), ylim=(0, None))
    ax.set(xlabel="Weeks since the first purchase day", ylabel="Cumulative repeat purchases")
    ax.yaxis.set_major_formatter(FuncFormatter(thousands))
    seen = track.loc[~track["holdout"], "week"].max()
    shade(ax, seen, last["week"], "holdout: not seen by the model")
    gap = round(last["expected"]) - round(last["actual"])
    week = f"week {np.ceil(last['week']):.0f}"
    how = (
        f"{thousands(abs(gap))} purchases {'high' if gap > 0 else 'low'}"
        if gap
        else "exactly right"
    )
    finding(
        ax,
        f"The model is {how} by {week}",
        f"{thousands(round(last['expected']))} expected, {thousands(round(last['actual']))} made",
    )
    label_lines(ax, {expected: f"{model}\nexpected", actual: "actual"})
    return ax


def by_frequency(groups: pd.DataFrame, ax: Axes, model: str = "BG/NBD") -> Axes:
    """Mean purchases in the holdout by earlier repeat purchases: made and forecast.

    Args:
        groups: ``frequency`` (text), ``customers, actual, actual_low, actual_high``, then a column
            per model, from ``clv.by_frequency``. ``model`` is drawn in the accent, the rest grey.
        ax: Where to draw.
        model: Column of the model to follow.
    """
    position = np.arange(len(groups))
    low, high = groups["actual"] - groups["actual_low"], groups["actual_high"] - groups["actual"]
    others = groups.columns[list(groups.columns).index("actual_high") + 1 :].drop(model)
    lines = {}
    for name, color in zip(others, (GREYS[1], GREYS[2], GREYS[0]), strict=False):
        (line,) = ax.plot(position, groups[name], color=color, linewidth=1.4, linestyle="--")
        lines[line] = str(name)
    (line,) = ax.plot(position, groups[model], color=ACCENT, marker="o", markersize=4)
    lines[line] = model
    actual = ax.errorbar(
        position, groups["actual"], yerr=[low, high], color=INK,
        fmt="o", markersize=5, linewidth=1.4, capsize=3,
    )  # fmt: skip
    lines[actual.lines[0]] = "actual, 95 %"
    labels = [f"{f}\n{n:,}" for f, n in zip(groups["frequency"], groups["customers"], strict=True)]
    ax.set_xticks(position, labels)
    ax.set(xlim=(-0.4, len(groups) - 0.6), ylim=(0, None))
    ax.set(xlabel="Repeat purchases before the holdout; customers", ylabel="Purchases in it, mean")
    inside = (
        (groups[model] >= groups["actual_low"]) & (groups[model] <= groups["actual_high"])
    ).sum()
    finding(
        ax,
        f"The forecast lies within the interval in {inside} of {len(groups)} groups",
        "Mean purchases per customer in the holdout, by earlier repeat purchases",
    )
    label_lines(ax, lines)
    return ax


def p_alive_map(grid: pd.DataFrame, ax: Axes, unit: str = "week") -> Axes:
    """Chance of being active by repeat purchases and time since the last one.

    Args:
        grid: ``frequency, since_last, age, p_alive``, from ``clv.p_alive_map``.
        ax: Where to draw.
        unit: Of ``since_last``.
    """
    table = grid.pivot_table(index="frequency", columns="since_last", values="p_alive")
    since, frequency = table.columns.to_numpy(float), table.index.to_numpy(float)
    ax.grid(visible=False)
    ax.contourf(since, frequency, table, levels=np.linspace(0, 1, 11), cmap=_SHADES)
    lines = ax.contour(since, frequency, table, levels=[0.1, 0.5, 0.9], colors=INK, linewidths=1)
    ax.clabel(lines, fmt=lambda level: percent(level), fontsize=9)
    ax.set(xlabel=f"{unit.capitalize()}s since the last purchase", ylabel="Repeat purchases")
    heavy = table.iloc[-1]
    gone = heavy.index[heavy < 0.5]
    count = f"{frequency[-1]:.0f} repeat purchases"
    finding(
        ax,
        f"{count}, then {gone[0]:.0f} quiet {unit}s: more likely gone than not"
        if len(gone)
        else f"{count}: more likely active than not, however long the silence",
        f"Chance of being active, of customers who came {grid['age'].iloc[0]:.0f} {unit}s ago",
    )
    return ax


def lorenz(curve: pd.DataFrame, top: float, share: Estimate, ax: Axes) -> Axes:
    """Cumulative share of value, from the most valuable customer down.

    Args:
        curve: ``customers, value`` (shares), from ``clv.concentration``.
        top: Share of customers that ``share`` is about.
        share: Of the value they hold.
        ax: Where to draw.
    """
    ax.plot([0, 1], [0, 1], color=GREYS[2], linewidth=1)
    ax.annotate(
        "if all were worth the same", (0.62, 0.62), xytext=(6, -8), textcoords="offset points",
        color=SOFT, fontsize=9, va="top",
    )  # fmt: skip
    ax.plot(curve["customers"], curve["value"], color=ACCENT)
    ax.plot([top, top], [share.ci_low, share.ci_high], color=INK, linewidth=1.4)
    ax.plot([top], [share.value], color=INK, marker="o", markersize=6)
    ax.annotate(
        f"top {percent(top)}: {percent(round(share.value, 2))} of the value\n"
        f"({percent(round(share.ci_low, 2))} to {percent(round(share.ci_high, 2))})",
        (top, share.value), xytext=(10, -2), textcoords="offset points",
        color=INK, fontsize=9.5, va="top",
    )  # fmt: skip
    ax.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="Share of customers", ylabel="Share of value")
    ax.xaxis.set_major_formatter(FuncFormatter(percent))
    ax.yaxis.set_major_formatter(FuncFormatter(percent))
    finding(
        ax,
        f"The top {percent(top)} of customers hold {percent(round(share.value, 2))} of the value",
        "Cumulative share of the expected value, most valuable customers first",
    )
    return ax
