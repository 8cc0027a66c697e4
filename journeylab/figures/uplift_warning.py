"""Figures of what is no effect, and of what repeated chance says of fatigue."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from journeylab.figures.style import ACCENT, GREYS, SOFT, WARN, finding, label_lines, thousands


def paths(
    table: pd.DataFrame,
    ax: Axes,
    title: str,
    subtitle: str | None = None,
    *,
    axis: str = "Mean per customer",
    length: str = "Period",
) -> Axes:
    """Targeted and other customers period by period, the gap between them written in.

    Args:
        table: ``period, targeted, others, difference``, as ``DifferenceInDifferences.periods``.
        ax: Where to draw.
        title: The finding.
        subtitle: What is shown, of whom.
        axis: What the means are, with their unit.
        length: What a period is, for the axis.
    """
    x = table["period"].to_numpy(float)
    (high,) = ax.plot(x, table["targeted"], "o-", color=ACCENT, markersize=6)
    (low,) = ax.plot(x, table["others"], "o-", color=GREYS[0], markersize=6)
    numbers = table[["targeted", "others", "difference"]].to_numpy(float)
    for at, (one, other, gap) in zip(x, numbers, strict=True):
        ax.vlines(at, other, one, color=GREYS[1], linewidth=1, zorder=1)
        ax.annotate(
            _signed(gap), (at, (one + other) / 2), xytext=(5, 0),
            textcoords="offset points", va="center", color=SOFT, fontsize=10,
        )  # fmt: skip
    top = 1.12 * max(float(numbers[:, :2].max()), 1e-12)
    ax.axvline(-0.5, color=WARN, linewidth=1, linestyle=(0, (4, 3)))
    ax.annotate(
        "campaign begins", (-0.5, top), xytext=(-4, -3), textcoords="offset points",
        ha="right", va="top", color=WARN, fontsize=9,
    )  # fmt: skip
    ax.set(xlim=(x.min() - 0.3, x.max() + 0.45), ylim=(0, top), xlabel=length, ylabel=axis)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.yaxis.set_major_formatter(FuncFormatter(thousands))
    finding(ax, title, subtitle)
    label_lines(ax, {high: "targeted", low: "not targeted"})
    return ax


def fatigue(
    table: pd.DataFrame,
    ax: Axes,
    title: str,
    subtitle: str | None = None,
    *,
    axis: str = "Effect of one touch more",
    across: str = "Touches in the waves just before",
) -> Axes:
    """Effect of a touch by how many came just before it, with its interval.

    Args:
        table: ``at, effect, ci_low, ci_high``, as ``ExcursionFit.curve`` gives it.
        ax: Where to draw.
        title: The finding.
        subtitle: What is shown, of whom.
        axis: What the effect is, with its unit.
        across: What the moderator is.
    """
    x = table["at"].to_numpy(float)
    ax.axhline(0, color=GREYS[1], linewidth=1, zorder=1)
    ax.fill_between(x, table["ci_low"], table["ci_high"], color=ACCENT, alpha=0.15, linewidth=0)
    ax.plot(x, table["effect"], color=ACCENT)
    numbers = table[["ci_low", "ci_high"]].to_numpy(float)
    low, high = min(0.0, float(numbers.min())), max(0.0, float(numbers.max()))
    pad = 0.06 * max(high - low, float(np.finfo(float).tiny))
    ax.set(xlim=(x.min(), x.max()), ylim=(low - pad, high + pad), xlabel=across, ylabel=axis)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.yaxis.set_major_formatter(FuncFormatter(thousands))
    finding(ax, title, subtitle)
    return ax


def _signed(value: float) -> str:
    text = f"{value:+,.0f}" if abs(value) >= 10 else f"{value:+.2g}"
    return text.replace("-", "\N{MINUS SIGN}")
