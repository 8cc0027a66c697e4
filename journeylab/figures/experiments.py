"""Figures of a test's readout: what it found, for whom, for how long, and whether to trust it."""

from collections.abc import Callable

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from journeylab.figures.style import (
    ACCENT,
    FAINT,
    GREYS,
    SOFT,
    WARN,
    finding,
    percent,
    thousands,
)


def forest(rows: pd.DataFrame, ax: Axes, title: str, subtitle: str | None = None) -> Axes:
    """Relative effect of every metric and arm, with the interval for one look and for all looks.

    Args:
        rows: ``metric, arm``; ``relative, relative_low, relative_high`` (shares of the control);
            optional ``better``: ``up`` or ``down``. Rows without an effect are named and left
            empty.
        ax: Where to draw; about 0.45 inches high per row.
        title: The finding.
        subtitle: What is shown, of whom.
    """
    arms = rows["arm"].nunique()
    names = [
        f"{metric}, {arm}" if arms > 1 else str(metric)
        for metric, arm in zip(rows["metric"], rows["arm"], strict=True)
    ]
    value, low, high = (
        rows[c].to_numpy(float) for c in ("relative", "relative_low", "relative_high")
    )
    _intervals(ax, names, value, low, high, percent)
    ax.set_xlabel("Change against the control")
    finding(ax, title, subtitle)
    return ax


def segment_forest(
    rows: pd.DataFrame,
    pooled: float | None,
    ax: Axes,
    title: str,
    subtitle: str | None = None,
    unit: str = "",
) -> Axes:
    """Effect in each segment, with the common effect as a line.

    Args:
        rows: ``segment, n, n_control, effect, ci_low, ci_high``, as ``experiments.Segments.rows``.
        pooled: The effect all segments have in common; ``None`` draws no line.
        ax: Where to draw.
        title: The finding.
        subtitle: What is shown, of whom.
        unit: Of the effect.
    """
    customers = rows["n"].to_numpy(int) + rows["n_control"].to_numpy(int)
    names = [
        f"{name or 'not known'}\n{count:,} customers"
        for name, count in zip(rows["segment"], customers, strict=True)
    ]
    value, low, high = (rows[c].to_numpy(float) for c in ("effect", "ci_low", "ci_high"))
    share = unit == "share"
    _intervals(ax, names, value, low, high, _points if share else thousands)
    if pooled is not None:
        ax.axvline(pooled, color=ACCENT, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
        ax.annotate(
            "all together", (pooled, 1), xycoords=("data", "axes fraction"), xytext=(4, -4),
            textcoords="offset points", va="top", color=ACCENT, fontsize=9,
        )  # fmt: skip
    ax.set_xlabel(f"Effect{_in(unit)}")
    finding(ax, title, subtitle)
    return ax


def effect_path(
    daily: pd.DataFrame,
    cumulative: pd.DataFrame,
    panels: tuple[Axes, Axes],
    title: str,
    subtitle: str | None = None,
    unit: str = "",
) -> tuple[Axes, Axes]:
    """Effect of each day since the exposure, and summed up to it.

    Args:
        daily: ``day`` (0: that of the exposure), ``effect, ci_low, ci_high``.
        cumulative: The same, summed.
        panels: Two Axes, left to right.
        title: The finding.
        subtitle: What is shown, of whom.
        unit: Of the effect.
    """
    left, right = panels
    left.vlines(daily["day"], daily["ci_low"], daily["ci_high"], color=GREYS[2], linewidth=2)
    left.plot(daily["day"], daily["effect"], "o", color=ACCENT, markersize=5, zorder=3)
    left.set_ylabel(f"On that day{_in(unit)}")
    right.fill_between(
        cumulative["day"], cumulative["ci_low"], cumulative["ci_high"],
        color=ACCENT, alpha=0.15, linewidth=0,
    )  # fmt: skip
    right.plot(cumulative["day"], cumulative["effect"], color=ACCENT)
    right.set_ylabel(f"Up to that day{_in(unit)}")
    for ax in panels:
        ax.axhline(0, color=FAINT, linewidth=1, zorder=1)
        ax.set_xlabel("Days since exposure")
        ax.set_xlim(-0.5, float(daily["day"].max()) + 0.5)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
        ax.yaxis.set_major_formatter(FuncFormatter(_points if unit == "share" else thousands))
    finding(left, title, subtitle)
    return panels


def distribution_gap(
    gap: pd.DataFrame, ax: Axes, title: str, subtitle: str | None = None, unit: str = ""
) -> Axes:
    """How many more customers of the variant have more than each amount.

    Args:
        gap: ``value, gap, ci_low, ci_high``, as ``experiments.distribution_gap`` (shares with at
            most that value): drawn turned over, so that up is more.
        ax: Where to draw.
        title: The finding.
        subtitle: What is shown, of whom.
        unit: Of the value.
    """
    shown = gap
    if len(gap) > _POINTS:
        shown = gap.iloc[np.unique(np.linspace(0, len(gap) - 1, _POINTS).round().astype(int))]
    ax.axhline(0, color=FAINT, linewidth=1, zorder=1)
    ax.fill_between(
        shown["value"], -shown["ci_high"], -shown["ci_low"],
        step="post", color=ACCENT, alpha=0.15, linewidth=0,
    )  # fmt: skip
    ax.step(shown["value"], -shown["gap"], where="post", color=ACCENT)
    if shown["value"].max() > 20 * max(shown["value"].median(), 1.0):
        ax.set_xscale("symlog", linthresh=max(float(shown["value"].median()), 1.0))
    ax.set(xlabel=f"Amount{_in(unit)}", ylabel="More customers above that amount")
    ax.xaxis.set_major_formatter(FuncFormatter(thousands))
    ax.yaxis.set_major_formatter(FuncFormatter(_points))
    finding(ax, title, subtitle)
    return ax


def quantile_effects(
    effects: pd.DataFrame, ax: Axes, title: str, subtitle: str | None = None, unit: str = ""
) -> Axes:
    """Difference of the arms at each quantile.

    Args:
        effects: ``quantile`` (0-1), ``effect, ci_low, ci_high``, ``reason``; quantiles with a
            reason are named and left empty.
        ax: Where to draw.
        title: The finding.
        subtitle: What is shown, of whom.
        unit: Of the effect.
    """
    names = [percent(q) for q in effects["quantile"]]
    value, low, high = (effects[c].to_numpy(float) for c in ("effect", "ci_low", "ci_high"))
    _intervals(ax, names, value, low, high, thousands)
    ax.set(xlabel=f"Difference{_in(unit)}", ylabel="Quantile of customers")
    finding(ax, title, subtitle)
    return ax


def split_by_slice(
    slices: pd.DataFrame,
    arms: dict[str, float],
    ax: Axes,
    title: str,
    subtitle: str | None = None,
) -> Axes:
    """Share of each arm but the control in every day or segment, against the design.

    Args:
        slices: First column names the slice; one column of customers per arm; ``p_holm``. What
            lies off its design after correction is drawn hollow.
        arms: Arm -> designed share (0-1), the control first.
        ax: Where to draw.
        title: The finding.
        subtitle: What is shown, of whom.
    """
    key = slices.columns[0]
    total = slices[list(arms)].sum(axis=1).to_numpy(float)
    rows = np.arange(len(slices))[::-1]
    treatments, ends = list(arms)[1:], []
    for at, arm in enumerate(treatments):
        share = slices[arm].to_numpy(float) / np.maximum(total, 1)
        reach = 3.29 * np.sqrt(arms[arm] * (1 - arms[arm]) / np.maximum(total, 1))
        where = rows + 0.16 * (at - (len(treatments) - 1) / 2)
        ax.hlines(where, arms[arm] - reach, arms[arm] + reach, color=GREYS[2], linewidth=5)
        ends += [*(arms[arm] - reach), *(arms[arm] + reach), *share]
        off = slices["p_holm"].to_numpy(float) < 0.01
        for broken, colour, face in ((False, ACCENT, ACCENT), (True, WARN, "white")):
            own = off == broken
            ax.plot(
                share[own], where[own], "o", color=colour, markerfacecolor=face,
                markeredgewidth=1.6, markersize=6.5, zorder=3,
            )  # fmt: skip
        ax.axvline(arms[arm], color=FAINT, linewidth=1, zorder=1)
        alike = [other for other in treatments if abs(arms[other] - arms[arm]) < 1e-9]
        if alike[0] != arm:
            continue  # one label where designs are the same: two would lie upon each other
        ax.annotate(
            ", ".join(map(str, reversed(alike))), (arms[arm], 1),
            xycoords=("data", "axes fraction"), xytext=(4, -3),
            textcoords="offset points", va="top", color=SOFT, fontsize=9,
        )  # fmt: skip
    room = 0.05 * (max(ends) - min(ends))
    ax.set_xlim(min(ends) - room, max(ends) + room)
    labels = slices[key]
    if pd.api.types.is_datetime64_any_dtype(labels):
        labels = labels.dt.strftime("%d %b")
    step = max(1, len(slices) // 14)
    ax.set_yticks(rows[::step], [str(name) or "not known" for name in labels][::step])
    ax.set_ylim(-0.7, len(slices) - 0.1)
    ax.xaxis.set_major_formatter(FuncFormatter(percent))
    ax.set_xlabel("Share of customers in the arm; grey: what chance allows 999 times of 1,000")
    finding(ax, title, subtitle)
    return ax


_POINTS = 600


def _intervals(
    ax: Axes,
    names: list[str],
    value: "np.ndarray[tuple[int], np.dtype[np.float64]]",
    low: "np.ndarray[tuple[int], np.dtype[np.float64]]",
    high: "np.ndarray[tuple[int], np.dtype[np.float64]]",
    text: Callable[[float, int | None], str],
) -> None:
    """Points with intervals, top to bottom; those that leave out zero in the accent colour."""
    rows = np.arange(len(names))[::-1]
    ax.axvline(0, color=GREYS[1], linewidth=1, zorder=1)
    for y, middle, left, right in zip(rows.tolist(), value, low, high, strict=True):
        if not np.isfinite(middle):
            ax.annotate(
                "nothing to read", (0.02, y), xycoords=("axes fraction", "data"),
                va="center", color=FAINT, fontsize=9,
            )  # fmt: skip
            continue
        colour = ACCENT if left > 0 or right < 0 else GREYS[0]
        ax.hlines(y, left, right, color=colour, linewidth=2.5, zorder=2)
        ax.plot(middle, y, "o", color=colour, markersize=7, zorder=3)
        label = _with_interval(middle, left, right, text)
        ax.annotate(
            label, (1, y), xycoords=("axes fraction", "data"), xytext=(6, 0),
            textcoords="offset points", va="center", color=SOFT, fontsize=9,
            annotation_clip=False,
        )  # fmt: skip
    ax.set_yticks(rows, names)
    ax.set_ylim(-0.6, len(names) - 0.4)
    ends = np.array([0.0, *low[np.isfinite(low)], *high[np.isfinite(high)]])
    room = 0.05 * (ends.max() - ends.min() or 1.0)
    ax.set_xlim(ends.min() - room, ends.max() + room)
    ax.grid(visible=False, axis="y")
    ax.grid(visible=True, axis="x")
    ax.xaxis.set_major_locator(MaxNLocator(nbins=6))
    ax.xaxis.set_major_formatter(FuncFormatter(text))


def _with_interval(
    middle: float, low: float, high: float, text: Callable[[float, int | None], str]
) -> str:
    """A number with its interval, in as many digits as the interval supports."""
    width = max(high - low, 1e-12)
    digits = int(np.clip(2 - np.floor(np.log10(width)), 0, 8))
    parts = [text(round(float(x), digits), None) for x in (middle, low, high)]
    return f"{parts[0]} ({parts[1]} to {parts[2]})"


def _points(value: float, position: int | None = None) -> str:
    """A difference of shares in percentage points: 0.0125 gives "1.25"."""
    return thousands(round(100 * value, 3))


def _in(unit: str) -> str:
    return {"": "", "share": ", percentage points"}.get(unit, f", {unit}")
