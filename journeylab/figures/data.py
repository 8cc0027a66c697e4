"""Figures of the data topic: what was refused, rows over time, amounts and gaps."""

from datetime import date

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from journeylab.figures.style import (
    ACCENT,
    GREYS,
    INK,
    SOFT,
    WARN,
    finding,
    label_lines,
    shade,
    thousands,
)


def rows_over_time(
    series: pd.DataFrame, ax: Axes, title: str, subtitle: str | None = None, what: str = "Rows"
) -> Axes:
    """Rows per day or week over the whole span.

    Args:
        series: ``day`` (date), ``rows`` (count), as ``profile.over_time`` gives them.
        ax: Where to draw.
        title: The finding.
        subtitle: What is shown, of what.
        what: Name of the vertical axis.
    """
    ax.plot(series["day"], series["rows"], color=ACCENT, linewidth=1.6)
    ax.set_ylim(bottom=0)
    _counts(ax, what)
    _dates(ax)
    finding(ax, title, subtitle)
    return ax


def last_days(
    days: pd.DataFrame,
    ax: Axes,
    title: str,
    subtitle: str | None = None,
    complete: date | None = None,
    what: str = "Rows per day",
) -> Axes:
    """Rows of the last days beside what was expected of them; the incomplete end is shaded.

    Args:
        days: ``day``, ``rows``, ``expected``, ``low`` (missing where not judged), ``state``, as
            ``profile.Lateness.days`` holds them.
        ax: Where to draw.
        title: The finding.
        subtitle: What is shown, of what.
        complete: Last complete day; nothing is shaded when it is the last day or not known.
        what: Name of the vertical axis.
    """
    last = days["day"].iloc[-1]
    ax.plot(days["day"], days["rows"], color=GREYS[1], linewidth=1.2, zorder=2)
    usual, low = days[days["state"] != "low"], days[days["state"] == "low"]
    ax.plot(usual["day"], usual["rows"], "o", color=GREYS[0], markersize=3.5, zorder=3)
    ax.plot(low["day"], low["rows"], "o", color=WARN, markersize=6, zorder=4)
    judged = days[days["low"].notna()]
    lines = {}
    for column, text, style in (("expected", "expected", "-"), ("low", "least usual", ":")):
        if len(judged):
            (line,) = ax.plot(judged["day"], judged[column], style, color=ACCENT, linewidth=1.8)
            lines[line] = text
    ends = last + pd.Timedelta(hours=18)
    ax.set_xlim(days["day"].iloc[0] - pd.Timedelta(hours=12), ends)
    ax.set_ylim(0, 1.12 * max(float(days[["rows", "expected"]].max().max()), 1.0))
    if complete is not None and pd.Timestamp(complete) < last:
        # as numbers: an annotation does not go through the Axes' unit converter
        begins, end = _number(pd.Timestamp(complete) + pd.Timedelta(hours=12)), _number(ends)
        shade(ax, begins, end, "")
        ax.annotate(
            "incomplete", (begins, 1), xycoords=ax.get_xaxis_transform(),
            xytext=(-4, -4), textcoords="offset points", va="top", ha="right",
            color=WARN, fontsize=9,
        )  # fmt: skip
    _counts(ax, what)
    _dates(ax)
    finding(ax, title, subtitle)
    label_lines(ax, lines)
    return ax


def amounts(
    bins: pd.DataFrame,
    ax: Axes,
    title: str,
    subtitle: str | None = None,
    log: bool = False,
    unit: str = "currency units",
    middle: float | None = None,
) -> Axes:
    """How many orders there are of each amount.

    Args:
        bins: ``low``, ``high``, ``count``, as ``profile.Histogram.bins`` holds them.
        ax: Where to draw.
        title: The finding.
        subtitle: What is shown, of what.
        log: Whether the bins are equally wide on a log axis.
        unit: Of the amounts.
        middle: The median, marked where given.
    """
    _bars(ax, bins)
    if log:
        ax.set_xscale("log")
        low, high = float(bins["low"].iloc[0]), float(bins["high"].iloc[-1])
        steps = [step * 10.0**power for power in range(-2, 12) for step in (1, 2, 5)]
        ticks = [step for step in steps if low <= step <= high]
        if len(ticks) > 8:
            ticks = [tick for tick in ticks if f"{tick:e}"[0] == "1"]
        ax.xaxis.set_major_locator(FixedLocator(ticks))
        ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(thousands))
    if middle is not None:
        _mark(ax, middle, f"median {middle:,.2f}")
    ax.set_xlabel(f"Amount of an order, {unit}{' (log scale)' if log else ''}")
    _counts(ax, "Orders")
    finding(ax, title, subtitle)
    return ax


def gaps(
    bins: pd.DataFrame,
    ax: Axes,
    title: str,
    subtitle: str | None = None,
    middle: float | None = None,
) -> Axes:
    """How long customers take from one purchase day to the next.

    Args:
        bins: ``low``, ``high`` (days, high not counted in), ``count``, as ``profile.gap_bins``.
        ax: Where to draw.
        title: The finding.
        subtitle: What is shown, of what.
        middle: The median in days, marked where given.
    """
    # a bar of one day stands over its day, not beside it
    width = int(bins["high"].iloc[0] - bins["low"].iloc[0])
    _bars(ax, bins.assign(low=bins["low"] - 0.5, high=bins["high"] - 0.5))
    if middle is not None:
        _mark(ax, middle, f"median {middle:,.0f} day{'' if middle == 1 else 's'}")
    most = float(bins["high"].iloc[-1])
    if step := next((s for s in (7, 14, 28, 56, 91, 182) if most / s <= 9), None):
        ax.set_xticks(np.arange(step, most, step))
    ax.set_xlabel("Days from one purchase day to the next")
    _counts(ax, "Gaps" if width == 1 else f"Gaps per {width} days")
    finding(ax, title, subtitle)
    return ax


def refusals(table: pd.DataFrame, ax: Axes, title: str, subtitle: str | None = None) -> Axes:
    """Refused rows, one bar per table and reason.

    Args:
        table: ``table``, ``reason``, ``rows``, as ``profile.refusals`` gives it; not empty.
        ax: Where to draw.
        title: The finding.
        subtitle: What is shown, of what.
    """
    place = np.arange(len(table))[::-1]
    ax.barh(place, table["rows"], color=WARN, height=0.62)
    for at, count in zip(place, table["rows"], strict=True):
        ax.annotate(
            f"{count:,}", (count, at), xytext=(5, 0), textcoords="offset points",
            va="center", ha="left", color=INK, fontsize=9.5, annotation_clip=False,
        )  # fmt: skip
    ax.set_yticks(place, table["table"] + ": " + table["reason"].str.replace("_", " "))
    ax.set(xlim=(0, 1.12 * float(table["rows"].max())), ylim=(-0.6, len(table) - 0.4))
    ax.xaxis.set_major_formatter(FuncFormatter(thousands))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6, steps=[1, 2, 2.5, 5, 10]))
    ax.grid(visible=False, axis="y")
    ax.grid(visible=True, axis="x")
    ax.set_xlabel("Rows refused")
    finding(ax, title, subtitle)
    return ax


def _bars(ax: Axes, bins: pd.DataFrame) -> None:
    ax.bar(
        bins["low"], bins["count"], width=bins["high"] - bins["low"], align="edge",
        color=ACCENT, edgecolor="white", linewidth=0.4,
    )  # fmt: skip
    ax.set_xlim(float(bins["low"].iloc[0]), float(bins["high"].iloc[-1]))
    ax.set_ylim(0, 1.16 * float(max(bins["count"].max(), 1)))


def _mark(ax: Axes, at: float, text: str) -> None:
    ax.axvline(at, color=INK, linewidth=1, linestyle=(0, (3, 2)))
    low, high = ax.get_xlim()
    right = float(ax.transAxes.inverted().transform(ax.transData.transform((at, 0)))[0]) > 0.7
    ax.annotate(
        text, (at, 1), xycoords=ax.get_xaxis_transform(), xytext=(-5 if right else 5, -3),
        textcoords="offset points", va="top", ha="right" if right else "left", color=INK,
        fontsize=9.5,
    )  # fmt: skip
    ax.set_xlim(low, high)


def _number(moment: pd.Timestamp) -> float:
    return float(date2num(moment.to_pydatetime()))  # type: ignore[no-untyped-call]


def _counts(ax: Axes, what: str) -> None:
    ax.yaxis.set_major_formatter(FuncFormatter(thousands))
    ax.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=6, steps=[1, 2, 2.5, 5, 10]))
    ax.set_ylabel(what, color=SOFT)


def _dates(ax: Axes) -> None:
    locator = AutoDateLocator(minticks=4, maxticks=8)  # type: ignore[no-untyped-call]
    ax.xaxis.set_major_locator(locator)
    ax.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
