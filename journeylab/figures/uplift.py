"""Figures of the uplift topic: what was found, how far a ranking helps, what a policy is worth."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter
from numpy.typing import NDArray

from journeylab.figures.style import (
    ACCENT,
    CATEGORICAL,
    FAINT,
    GREYS,
    INK,
    WARN,
    beside,
    finding,
    in_corner,
    label_lines,
    percent,
    thousands,
)


def intervals(
    table: pd.DataFrame,
    ax: Axes,
    title: str,
    subtitle: str | None = None,
    *,
    name: str = "arm",
    value: str = "effect",
    low: str = "ci_low",
    high: str = "ci_high",
    axis: str = "Effect per head",
    follow: Sequence[str] = (),
) -> Axes:
    """Numbers with their intervals, one row each, against a line at 0.

    Args:
        table: Columns ``name`` (text), ``value``, ``low``, ``high``; the first row stands on top.
        ax: Where to draw.
        title: The finding.
        subtitle: What is shown, of whom.
        name: Column of labels.
        value: Column of values.
        low: Column of lower ends.
        high: Column of upper ends.
        axis: What the numbers are, with their unit.
        follow: Rows in the accent colour; all of them where none is named.
    """
    rows = np.arange(len(table))[::-1]
    numbers = table[[value, low, high]].to_numpy(float)
    labels = [str(label) for label in table[name]]
    ax.axvline(0, color=GREYS[1], linewidth=1, zorder=1)
    digits = _digits(numbers)
    for row, label, (middle, start, end) in zip(rows, labels, numbers, strict=True):
        colour = ACCENT if not follow or label in follow else GREYS[0]
        ax.hlines(row, start, end, color=colour, linewidth=2.5, zorder=2)
        ax.plot(middle, row, "o", color=colour, markersize=7, zorder=3)
        text = f"{_signed(middle, digits)} ({_signed(start, digits)} to {_signed(end, digits)})"
        beside(ax, row, text)
    reach = np.array([min(0.0, numbers[:, 1].min()), max(0.0, numbers[:, 2].max())])
    pad = 0.05 * max(float(np.ptp(reach)), np.finfo(float).tiny)
    ax.set(xlim=(reach[0] - pad, reach[1] + pad), ylim=(-0.6, len(table) - 0.4), xlabel=axis)
    ax.set_yticks(rows, labels)
    ax.xaxis.set_major_formatter(FuncFormatter(thousands))
    ax.grid(visible=False, axis="y")
    ax.grid(visible=True, axis="x")
    finding(ax, title, subtitle)
    return ax


def targeting_curve(
    table: pd.DataFrame,
    ax: Axes,
    title: str,
    subtitle: str | None = None,
    *,
    value: str = "toc",
    axis: str = "Effect among the first, less the mean effect",
    chance: str | None = None,
) -> Axes:
    """A curve over the share treated, with its intervals (dark) and the band of the whole (light).

    Args:
        table: ``share``, ``value``, ``ci_low, ci_high, band_low, band_high`` as ``uplift.toc``,
            ``uplift.gains`` or ``uplift.profit_curve`` gives them.
        ax: Where to draw.
        title: The finding.
        subtitle: What is shown, of whom.
        value: Column of the curve.
        axis: What it is, with its unit.
        chance: Column of the curve of a ranking by chance; 0 everywhere without one.
    """
    share = table["share"]
    ax.fill_between(
        share, table["band_low"], table["band_high"], color=ACCENT, alpha=0.10, linewidth=0
    )
    ax.fill_between(share, table["ci_low"], table["ci_high"], color=ACCENT, alpha=0.18, linewidth=0)
    (line,) = ax.plot(share, table[value], color=ACCENT)
    level = table[chance] if chance else np.zeros(len(table))
    (base,) = ax.plot(share, level, color=GREYS[1], linewidth=1.2)
    # the first few shares rest on few customers: their interval must not flatten the rest
    shown = table[share >= min(0.1, float(share.max()))]
    low = min(float(shown["band_low"].min()), float(table[value].min()), 0.0)
    high = max(float(shown["band_high"].max()), float(table[value].max()), 0.0)
    pad = 0.06 * max(high - low, np.finfo(float).tiny)
    ax.set(xlim=(0, 1), ylim=(low - pad, high + pad))
    ax.set(xlabel="Share of customers treated, best ranked first", ylabel=axis)
    ax.xaxis.set_major_formatter(FuncFormatter(percent))
    ax.yaxis.set_major_formatter(FuncFormatter(thousands))
    finding(ax, title, subtitle)
    label_lines(ax, {line: "by the\nranking", base: "by chance"})
    return ax


def calibration(table: pd.DataFrame, ax: Axes, title: str, subtitle: str | None = None) -> Axes:
    """Found against predicted effects, one point per group.

    Args:
        table: ``predicted, effect, ci_low, ci_high, inside``, as ``uplift.calibration`` gives it.
        ax: Where to draw.
        title: The finding.
        subtitle: What is shown, of whom.
    """
    x = table["predicted"].to_numpy(float)
    spread = max(float(np.ptp(x)), 1e-12)
    ends = np.array([x.min() - 0.08 * spread, x.max() + 0.08 * spread])
    ax.axhline(0, color=GREYS[2], linewidth=1, zorder=1)
    ax.plot(ends, ends, color=GREYS[1], linewidth=1, zorder=1)
    ax.annotate(
        "as predicted", (1, ends[1]), xycoords=("axes fraction", "data"), xytext=(6, 0),
        textcoords="offset points", ha="left", va="center", color=FAINT, fontsize=9,
        annotation_clip=False,
    )  # fmt: skip
    for inside, colour, face in ((True, ACCENT, ACCENT), (False, WARN, "white")):
        own = table[table["inside"] == inside]
        ax.vlines(own["predicted"], own["ci_low"], own["ci_high"], color=colour, linewidth=1.6)
        ax.plot(
            own["predicted"], own["effect"], "o",
            color=colour, markerfacecolor=face, markeredgewidth=1.6, markersize=6.5, zorder=3,
        )  # fmt: skip
    ax.set(xlim=tuple(ends), xlabel="Predicted effect", ylabel="Found effect, mean and 95 %")
    for side in (ax.xaxis, ax.yaxis):
        side.set_major_formatter(FuncFormatter(thousands))
    if not table["inside"].all():
        in_corner(ax, "hollow: the prediction lies outside the interval", WARN)
    finding(ax, title, subtitle)
    return ax


def groups(table: pd.DataFrame, ax: Axes, title: str, subtitle: str | None = None) -> Axes:
    """Effects by baseline risk and predicted effect: one line of points per baseline group.

    Args:
        table: ``baseline_group, effect_group`` (texts, in their order), ``effect, ci_low,
            ci_high``, as ``uplift.effects_by_baseline`` gives it.
        ax: Where to draw.
        title: The finding.
        subtitle: What is shown, of whom.
    """
    # a group that holds few is left out of a line: the order is that of the fullest line
    longest = table["baseline_group"].value_counts(sort=True).index[0]
    own = table.loc[table["baseline_group"] == longest, "effect_group"]
    across = list(dict.fromkeys([*own, *table["effect_group"]]))
    lines = list(dict.fromkeys(table["baseline_group"]))
    ax.axhline(0, color=GREYS[1], linewidth=1, zorder=1)
    labels = {}
    for number, name in enumerate(lines):
        own = table[table["baseline_group"] == name]
        shift = 0.16 * (number - (len(lines) - 1) / 2)
        x = np.array([across.index(group) for group in own["effect_group"]]) + shift
        colour = CATEGORICAL[number % len(CATEGORICAL)]
        ax.vlines(x, own["ci_low"], own["ci_high"], color=colour, linewidth=1.6)
        (line,) = ax.plot(x, own["effect"], "o-", color=colour, markersize=6, linewidth=1.0)
        labels[line] = name
    ax.set(xlim=(-0.5, len(across) - 0.5), xlabel="Predicted effect", ylabel="Effect per head")
    ax.set_xticks(range(len(across)), across)
    ax.yaxis.set_major_formatter(FuncFormatter(thousands))
    finding(ax, title, subtitle)
    for label in label_lines(ax, labels):
        label.set_color(INK)
    return ax


def contributions(table: pd.DataFrame, ax: Axes, title: str, subtitle: str | None = None) -> Axes:
    """How far each covariate moves predicted effects, longest bar on top.

    Args:
        table: ``covariate, size`` (mean absolute SHAP value), largest first.
        ax: Where to draw.
        title: The finding.
        subtitle: What is shown, of whom.
    """
    rows = np.arange(len(table))[::-1]
    sizes = table["size"].to_numpy(float)
    ax.barh(rows, sizes, color=[ACCENT, *[GREYS[1]] * (len(table) - 1)], height=0.62)
    ax.set_yticks(rows, [str(name).replace("_", " ") for name in table["covariate"]])
    ax.set(xlim=(0, 1.05 * max(float(sizes.max()), np.finfo(float).tiny)))
    ax.set_xlabel("Mean absolute contribution to the predicted effect, per head")
    ax.xaxis.set_major_formatter(FuncFormatter(thousands))
    ax.grid(visible=False, axis="y")
    ax.grid(visible=True, axis="x")
    finding(ax, title, subtitle)
    return ax


def balance(table: pd.DataFrame, ax: Axes, title: str, subtitle: str | None = None) -> Axes:
    """Standardised differences between arms before assignment, the largest covariates on top.

    Args:
        table: ``covariate, arm, difference, standard_error``, as in ``Randomisation.balance``.
        ax: Where to draw.
        title: The finding.
        subtitle: What is shown, of whom.
    """
    names = list(dict.fromkeys(table["covariate"]))[:10]
    shown = table[table["covariate"].isin(names)]
    wide = 1.96 * float(shown["standard_error"].max())
    ax.axvspan(-wide, wide, color=GREYS[2], alpha=0.35, linewidth=0, zorder=0)
    ax.axvline(0, color=GREYS[1], linewidth=1, zorder=1)
    rows = np.array([len(names) - 1 - names.index(name) for name in shown["covariate"]])
    out = (shown["difference"].abs() > 3.3 * shown["standard_error"]).to_numpy()
    values = shown["difference"].to_numpy(float)
    ax.plot(values[~out], rows[~out], "o", color=ACCENT, markersize=5, alpha=0.8)
    ax.plot(values[out], rows[out], "D", color=WARN, markersize=6)
    reach = 1.15 * max(float(np.abs(values).max()), wide)
    ax.set(xlim=(-reach, reach), ylim=(-0.6, len(names) - 0.4))
    ax.set_yticks(range(len(names))[::-1], [name.replace("_", " ") for name in names])
    ax.set_xlabel("Difference between arms, in standard deviations; grey: 95 % by chance")
    ax.xaxis.set_major_formatter(FuncFormatter(thousands))
    ax.grid(visible=False, axis="y")
    ax.grid(visible=True, axis="x")
    finding(ax, title, subtitle)
    return ax


def _digits(numbers: NDArray[np.float64]) -> int:
    """Decimals that the narrowest interval supports."""
    width = float(np.ptp(numbers[:, 1:], axis=1).max(initial=0.0))
    return int(np.clip(np.ceil(-np.log10(width)) + 2, 0, 6)) if width > 0 else 2


def _signed(value: float, digits: int) -> str:
    text = f"{value:.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text.replace("-", "\N{MINUS SIGN}")
