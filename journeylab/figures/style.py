"""The house style of figures: one accent, greys for the rest, lines labelled where they end.

A figure starts with :func:`new_axes`, says its finding with :func:`finding`, and labels its lines
with :func:`label_lines`; nothing here computes a result.
"""

from collections.abc import Mapping
from datetime import date
from functools import lru_cache
from textwrap import wrap
from typing import Any

import matplotlib as mpl
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.text import Annotation, Text

ACCENT = "#0b7a75"
"""What the reader should follow."""
WARN = "#b44d12"
"""Only what warns."""
INK = "#1f2933"
SOFT = "#52606d"
FAINT = "#7b8794"
LINE = "#e4e7eb"
WASH = "#f0f4f8"
GREYS = ("#52606d", "#8a96a3", "#b8c2cc")
"""The rest, dark to light: comparisons, baselines, the past."""
CATEGORICAL = ("#0b7a75", "#3a2f9e", "#4a98da", "#d857a0", "#6b7a2a", "#c98500")
"""Categories without an order; told apart also by readers with a colour-vision deficiency."""

# Latin faces first, so that numerals look alike on every machine that has one; DejaVu Sans comes
# with matplotlib and is always there.
_FAMILIES = (
    "Helvetica Neue",
    "Segoe UI",
    "Noto Sans CJK SC",
    "Source Han Sans SC",
    "Source Han Sans CN",
    "PingFang SC",
    "Hiragino Sans GB",
    "Microsoft YaHei",
    "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
    "Heiti SC",
    "SimHei",
    "Arial Unicode MS",
    "DejaVu Sans",
)


@lru_cache(maxsize=1)
def _installed_families() -> tuple[str, ...]:
    # Naming a family that is not installed makes matplotlib log a line per text.
    installed = {font.name for font in fontManager.ttflist}
    return tuple(family for family in _FAMILIES if family in installed)


def house_style() -> dict[Any, Any]:
    """The house style as matplotlib settings, for ``matplotlib.rc_context(house_style())``."""
    return {
        "figure.dpi": 96,
        "figure.facecolor": "white",
        "savefig.facecolor": "white",
        "savefig.dpi": 192,
        "font.family": [*_installed_families(), "sans-serif"],
        "font.size": 10,
        "text.color": INK,
        "text.parse_math": False,
        "axes.facecolor": "white",
        "axes.edgecolor": GREYS[2],
        "axes.linewidth": 0.8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "axes.grid": True,
        "axes.grid.axis": "y",
        "axes.labelcolor": SOFT,
        "axes.labelsize": 10,
        "axes.labelpad": 6,
        "axes.titlelocation": "left",
        "axes.titlesize": 13,
        "axes.titleweight": "bold",
        "axes.titlecolor": INK,
        "axes.titlepad": 12,
        "axes.unicode_minus": True,
        "axes.prop_cycle": cycler(color=CATEGORICAL),
        "axes.xmargin": 0.0,
        "grid.color": LINE,
        "grid.linewidth": 0.8,
        "lines.linewidth": 2.0,
        "lines.solid_capstyle": "round",
        "xtick.color": GREYS[2],
        "xtick.labelcolor": SOFT,
        "xtick.labelsize": 9.5,
        "xtick.major.size": 3.5,
        "ytick.color": GREYS[2],
        "ytick.labelcolor": SOFT,
        "ytick.labelsize": 9.5,
        "ytick.major.size": 0,
        "legend.frameon": False,
        "legend.fontsize": 9.5,
        "svg.fonttype": "none",
        "svg.hashsalt": "journeylab",
    }


def new_axes(width: float = 7.2, height: float = 4.0) -> tuple[Figure, Axes]:
    """A figure with one Axes in the house style.

    The style stays on for the process: matplotlib reads its settings whenever something is drawn,
    so a style that ended here would lose texts and ticks that are added later. The figure is not
    known to pyplot, so a notebook shows it once, where it is recorded, and never twice.

    Args:
        width: Of the whole figure, inches. Pages are laid out for 7.2.
        height: Of the whole figure, inches.
    """
    figure, (axes,) = new_panels(1, width=width, height=height)
    return figure, axes


def new_panels(
    columns: int, *, width: float = 7.2, height: float = 4.0, share_y: bool = False
) -> tuple[Figure, tuple[Axes, ...]]:
    """A figure with ``columns`` Axes side by side in the house style, left to right."""
    mpl.rcParams.update(house_style())
    layout = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08)
    figure = Figure(figsize=(width, height), layout=layout)
    panels = figure.subplots(1, columns, sharey=share_y, squeeze=False)
    return figure, tuple(panels[0])


def finding(ax: Axes, title: str, subtitle: str | None = None) -> Text:
    """Title that states the finding, left-aligned over the whole Axes, with a quieter second line.

    Args:
        ax: Where it stands, in place of the Axes' title.
        title: The finding, a sentence of up to about 70 characters; longer ones are broken.
        subtitle: What is shown, of whom, in which unit.
    """
    with mpl.rc_context(house_style()):
        text = ax.set_title(_broken(title, 66), loc="left", pad=26 if subtitle else 12)
        if subtitle:
            ax.annotate(
                subtitle,
                xy=(0, 1),
                xycoords="axes fraction",
                xytext=(0, 10),
                textcoords="offset points",
                color=SOFT,
                va="bottom",
                ha="left",
                annotation_clip=False,
            )
    return text


def with_alt(ax: Axes, shown: str) -> dict[str, Any]:
    """A figure and its alt text, for ``record(name, **with_alt(...))``.

    Args:
        ax: With its finding as title.
        shown: What the figure shows, a sentence; the finding follows it.
    """
    found = ax.get_title(loc="left").replace("\n", " ")
    return {"value": ax, "alt": f"{shown} {found}."}


def _broken(text: str, width: int) -> str:
    return "\n".join("\n".join(wrap(line, width)) for line in text.split("\n"))


def label_lines(
    ax: Axes, labels: Mapping[Line2D, str] | None = None, *, gap: float = 3.0
) -> list[Annotation]:
    """Label lines at their right ends, in their colours, moved apart where they would overlap.

    Labels stand in one column at the right edge of the Axes. Call it last: limits, scale and
    figure size must be final, because the labels are spaced in points.

    Args:
        ax: The Axes whose lines are labelled.
        labels: Text for each line to label; by default every line of ``ax`` that has a label of
            its own (those starting with ``_`` have none).
        gap: Least free space between two labels, points.
    """
    if labels is None:
        labels = {
            line: str(line.get_label())
            for line in ax.get_lines()
            if not str(line.get_label()).startswith("_")
        }
    ends = [
        (line, text, point)
        for line, text in labels.items()
        if (point := _last_point(ax, line)) is not None
    ]
    if not ends:
        return []
    figure = ax.get_figure(root=True)
    if figure is None:
        return []
    # Layout first, to know how many points one unit of the vertical axis takes.
    figure.draw_without_rendering()
    points_per_pixel = 72 / figure.dpi
    size = 9.5
    box = ax.get_window_extent()
    heights = np.array([size * 1.2 * (text.count("\n") + 1) + gap for _, text, _ in ends])
    wanted = np.array(
        [ax.transData.transform(point)[1] * points_per_pixel for _, _, point in ends], dtype=float
    )
    placed = _apart(wanted, heights, box.y0 * points_per_pixel, box.y1 * points_per_pixel)
    shifted = abs(placed - wanted) > size / 2
    away = 9 if shifted.any() else 5
    annotations = []
    for (line, text, point), here, there, moved in zip(ends, wanted, placed, shifted, strict=True):
        at_edge = ax.transData.transform(point)[0] > box.x1 - 2
        color = line.get_color()
        # The anchor carries the line's last height and the Axes' right edge; the shift is in
        # points, so a later change of width by the layout does not move labels onto each other.
        annotations.append(
            ax.annotate(
                text,
                xy=(1.0, float(point[1])),
                xycoords=ax.get_yaxis_transform(),
                xytext=(away, there - here),
                textcoords="offset points",
                color=readable(color),
                fontsize=size,
                fontfamily=house_style()["font.family"],
                va="center",
                ha="left",
                annotation_clip=False,
                arrowprops={
                    "arrowstyle": "-",
                    "color": color,
                    "linewidth": 0.6,
                    "shrinkA": 1,
                    "shrinkB": 1,
                    "relpos": (0, 0.5),
                }
                if moved
                else None,
            )
        )
        if not at_edge:
            ax.plot(
                [point[0], ax.get_xlim()[1]],
                [point[1], point[1]],
                color=color,
                linewidth=0.6,
                linestyle=(0, (1, 2)),
                label="_leader",
                scalex=False,
                scaley=False,
            )
    return annotations


def _last_point(ax: Axes, line: Line2D) -> tuple[float, float] | None:
    x: np.ndarray[Any, Any] = np.ma.filled(
        np.ma.asarray(line.get_xdata(orig=False), dtype=float), np.nan
    )
    y: np.ndarray[Any, Any] = np.ma.filled(
        np.ma.asarray(line.get_ydata(orig=False), dtype=float), np.nan
    )
    left, right = sorted(ax.get_xlim())
    seen = np.flatnonzero(np.isfinite(x) & np.isfinite(y) & (x >= left) & (x <= right))
    return (float(x[seen[-1]]), float(y[seen[-1]])) if seen.size else None


def _apart(
    wanted: "np.ndarray[Any, np.dtype[np.float64]]",
    heights: "np.ndarray[Any, np.dtype[np.float64]]",
    low: float,
    high: float,
) -> "np.ndarray[Any, np.dtype[np.float64]]":
    """Centres nearest to the ``wanted`` ones (least squares) whose boxes do not overlap."""
    order = np.argsort(wanted, kind="stable")
    height = heights[order]
    # With the boxes' own heights taken out, "no overlap" reads "not decreasing": pool adjacent
    # violators gives the least-squares answer.
    taken = np.concatenate([[0.0], np.cumsum((height[1:] + height[:-1]) / 2)])
    pools: list[tuple[float, int]] = []
    for start in wanted[order] - taken:
        mean, count = float(start), 1
        while pools and pools[-1][0] > mean:
            before, n = pools.pop()
            mean, count = (mean * count + before * n) / (count + n), count + n
        pools.append((mean, count))
    free = np.concatenate([np.full(count, mean) for mean, count in pools])
    first, last = low + height[0] / 2, high - height[-1] / 2 - taken[-1]
    free = np.clip(free, first, last) if first <= last else np.full(len(free), (first + last) / 2)
    placed = np.empty_like(wanted)
    placed[order] = free + taken
    return placed


def beside(ax: Axes, row: float, text: str, colour: str = SOFT) -> None:
    """Write ``text`` right of the Axes, at the height of a row."""
    ax.annotate(
        text, xy=(1, row), xycoords=ax.get_yaxis_transform(), xytext=(8, 0),
        textcoords="offset points", ha="left", va="center", color=readable(colour), fontsize=9.5,
        annotation_clip=False,
    )  # fmt: skip


def in_corner(ax: Axes, text: str, colour: str = SOFT) -> None:
    """Write ``text`` small in the upper left corner of the Axes, e.g. what a mark means."""
    ax.annotate(
        text, (0, 1), xycoords="axes fraction", xytext=(6, -4), textcoords="offset points",
        ha="left", va="top", color=readable(colour), fontsize=9,
    )  # fmt: skip


def shade(
    ax: Axes, start: float | date | np.datetime64, end: float | date | np.datetime64, label: str
) -> None:
    """Shade a stretch of the horizontal axis, a holdout for instance, and name it at its top."""
    with mpl.rc_context(house_style()):
        left, right = (
            float(ax.convert_xunits(day))  # type: ignore[no-untyped-call]
            for day in (start, end)
        )
        ax.axvspan(left, right, color=WASH, linewidth=0, zorder=0)
        ax.annotate(
            label,
            # As a number: a bare datetime64 would be counted in nanoseconds and stretch the page.
            xy=(left, 1),
            xycoords=ax.get_xaxis_transform(),
            xytext=(5, -4),
            textcoords="offset points",
            color=SOFT,
            fontsize=9,
            va="top",
            ha="left",
        )


def thousands(value: float, position: int | None = None) -> str:
    """Tick text with thousands separated: ``ax.yaxis.set_major_formatter(thousands)``."""
    text = f"{abs(value):,.6f}".rstrip("0").rstrip(".")
    return f"\N{MINUS SIGN}{text}" if value < 0 and text != "0" else text


def percent(value: float, position: int | None = None) -> str:
    """Tick text for a share (0-1): 0.125 gives "12.5 %"."""
    return f"{thousands(round(100 * value, 6))}\N{NO-BREAK SPACE}%"


def readable(color: Any) -> str:
    """The colour itself, or darkened until text in it reads well on white (contrast 4.5 to 1)."""
    rgb = np.asarray(to_rgb(color))
    ink = np.asarray(to_rgb(INK))
    for share in np.linspace(0, 1, 21):
        mixed = (1 - share) * rgb + share * ink
        linear = np.where(mixed <= 0.04045, mixed / 12.92, ((mixed + 0.055) / 1.055) ** 2.4)
        luminance = float(linear @ np.array([0.2126, 0.7152, 0.0722]))
        if 1.05 / (luminance + 0.05) >= 4.5:
            return to_hex(mixed.tolist())
    return INK
