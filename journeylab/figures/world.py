"""Figures of the world topic: numbers beside real ones, whole lives, and what is hidden."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from journeylab.figures.style import (
    ACCENT,
    CATEGORICAL,
    FAINT,
    GREYS,
    INK,
    LINE,
    SOFT,
    WARN,
    WASH,
    beside,
    finding,
    percent,
    thousands,
)

_CHANNELS = {
    "sms": ("s", CATEGORICAL[1]),
    "voice": ("^", CATEGORICAL[5]),
    "chat": ("D", CATEGORICAL[2]),
    "push": ("v", CATEGORICAL[3]),
    "ads": ("o", CATEGORICAL[4]),
}
_OTHER = ("P", GREYS[1])
_NOT_REACHED = ("blocked", "failed")


def moment_ratios(
    moments: pd.DataFrame,
    ax: Axes,
    title: str,
    subtitle: str | None = None,
    close: float = 0.1,
    other: str = "real",
) -> Axes:
    """Numbers of the world over those of a real shop, one row each, on a log axis.

    Args:
        moments: ``moment, unit, real, world, ratio, ratio_low, ratio_high``, as from
            ``world.experiment_moments``; not empty.
        ax: Where to draw; the texts on the right need about 2 inches.
        title: The finding.
        subtitle: What is shown, of whom.
        close: Share around the real number that is shaded.
        other: Whose numbers the world's are held against, in a word.
    """
    rows = np.arange(len(moments))[::-1]
    ax.axvspan(1 / (1 + close), 1 + close, color=WASH, linewidth=0, zorder=0)
    ax.axvline(1, color=GREYS[1], linewidth=1, zorder=1)
    reach = 1.35
    for row, entry in zip(rows, moments.to_dict("records"), strict=True):
        low, high = max(float(entry["ratio_low"]), 0.02), min(float(entry["ratio_high"]), 50.0)
        middle = min(max(float(entry["ratio"]), 0.02), 50.0)
        off = low > 1 + close or high < 1 / (1 + close)
        inside = low >= 1 / (1 + close) and high <= 1 + close
        colour = WARN if off else ACCENT if inside else GREYS[0]
        ax.hlines(row, low, high, color=colour, linewidth=2.5, zorder=2)
        ax.plot(
            middle, row, "o", color=colour, markersize=7, zorder=3,
            markerfacecolor="white" if off else colour, markeredgewidth=1.6,
        )  # fmt: skip
        here, there = (_amount(entry[name], entry["unit"]) for name in ("world", "real"))
        beside(ax, row, f"{here}  ({other} {there})", WARN if off else SOFT)
        reach = max(reach, high, 1 / low)
    reach = min(reach, 60.0) ** 1.08
    ax.set_xscale("log")
    ax.set(xlim=(1 / reach, reach), ylim=(-0.6, len(moments) - 0.4))
    steps = (0.02, 0.05, 0.1, 0.2, 0.5, 0.8, 1, 1.25, 2, 5, 10, 20, 50)
    ticks = [step for step in steps if 1 / reach <= step <= reach]
    if reach > 2.4:
        ticks = [step for step in ticks if step not in (0.8, 1.25)]
    ax.xaxis.set_major_locator(FixedLocator(ticks))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(_times))
    ax.set_yticks(rows, moments["moment"])
    ax.grid(visible=False, axis="y")
    ax.grid(visible=True, axis="x")
    ax.set_xlabel(f"World over {other}, 95 % interval")
    _key_below(
        ax,
        [
            _mark("o", ACCENT, f"within {percent(close)}"),
            _mark("o", GREYS[0], "too few to tell"),
            _mark("o", WARN, f"off by more than {percent(close)}", "white"),
        ],
    )
    finding(ax, title, subtitle)
    return ax


def lives(
    people: pd.DataFrame,
    happened: pd.DataFrame,
    first: str,
    last: str,
    ax: Axes,
    title: str,
    subtitle: str | None = None,
) -> Axes:
    """Whole lives as the tables know them, one row per person, and the day they left unseen.

    Args:
        people: ``role, customer_id, city, orders, joined_on, left_on``, as from
            ``world.choose_lives``; one to nine rows.
        happened: ``customer_id, day, kind, channel, status, value``, as from ``tallies.lives``.
        first: The data's first day, ISO date.
        last: Their last.
        ax: Where to draw; about 0.8 inches per person.
        title: The finding.
        subtitle: What is shown, of whom.
    """
    begin, end = _number(first), _number(last) + 1
    rows = np.arange(len(people))[::-1]
    for row, person in zip(rows, people.to_dict("records"), strict=True):
        own = happened[happened["customer_id"] == person["customer_id"]]
        joined = max(_number(person["joined_on"]), begin)
        ax.hlines(row, joined, end, color=LINE, linewidth=1.2, zorder=1)
        if joined > begin:
            ax.plot(joined, row, "|", color=GREYS[0], markersize=13, zorder=2)
        if pd.notna(person["left_on"]):
            gone = max(_number(person["left_on"]), begin)
            ax.fill_between(
                [gone, end], row - 0.42, row + 0.42, color=WASH, hatch="////", edgecolor="#d3dae2",
                linewidth=0, zorder=0,
            )  # fmt: skip
            ax.vlines(gone, row - 0.42, row + 0.42, color=INK, linewidth=1.4, zorder=2)
        _draw_life(ax, row, own, begin, end)
    cities = [f"{city} · " if isinstance(city, str) else "" for city in people["city"]]
    names = people["role"] + "\n" + cities + people["orders"].map(_orders)
    ax.set_yticks(rows, names)
    ax.set(xlim=(begin, end), ylim=(-0.6, len(people) - 0.4))
    ax.grid(visible=False, axis="y")
    locator = AutoDateLocator(minticks=4, maxticks=9)  # type: ignore[no-untyped-call]
    ax.xaxis.set_major_locator(locator)
    ax.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    channels = happened.loc[happened["kind"] == "touch", "channel"].dropna().unique()
    _legend(ax, [name for name in _CHANNELS if name in channels])
    finding(ax, title, subtitle)
    return ax


def _draw_life(ax: Axes, row: float, own: pd.DataFrame, begin: float, end: float) -> None:
    # what the person does above and on the line, what is done to them below it
    seen = own.assign(at=[_number(day) + 0.5 for day in own["day"]])
    seen = seen[(seen["at"] >= begin) & (seen["at"] <= end)]

    def put(
        kind: str, height: float, marker: str, colour: str, size: float, face: str | None = None
    ) -> None:
        these = seen[seen["kind"] == kind]
        ax.plot(
            these["at"], np.full(len(these), row + height), linestyle="none", marker=marker,
            color=colour, markerfacecolor=face or colour, markersize=size, zorder=4,
        )  # fmt: skip

    put("visit", 0.0, "|", GREYS[1], 5)
    put("order", 0.0, "o", ACCENT, 6)
    put("return", 0.0, "o", ACCENT, 6, "white")
    put("contact", 0.2, "X", WARN, 6.5)
    put("invited", 0.2, "*", ACCENT, 5)
    for entry in seen[seen["kind"] == "feedback"].to_dict("records"):
        ax.annotate(
            f"{entry['value']:.0f}", (entry['at'], row + 0.37), ha="center", va="center",
            color=SOFT, fontsize=8, zorder=4,
        )  # fmt: skip
    touches = seen[seen["kind"] == "touch"]
    for (channel, reached), some in touches.groupby(
        ["channel", ~touches["status"].isin(_NOT_REACHED)], sort=True
    ):
        marker, colour = _CHANNELS.get(str(channel), _OTHER)
        ax.plot(
            some["at"], np.full(len(some), row - 0.25), linestyle="none", marker=marker,
            color=colour, markerfacecolor=colour if reached else "white", markersize=4.5,
            markeredgewidth=0.9, zorder=3,
        )  # fmt: skip
    closed = seen[seen["kind"] == "withdrawn"]
    ax.plot(
        closed["at"], np.full(len(closed), row - 0.25), linestyle="none", marker="x",
        color=WARN, markersize=8, markeredgewidth=1.8, zorder=5,
    )  # fmt: skip


def _legend(ax: Axes, channels: list[str]) -> None:
    def mark(marker: str, colour: str, label: str, size: float, face: str | None = None) -> Line2D:
        return Line2D(
            [], [], linestyle="none", marker=marker, color=colour, label=label, markersize=size,
            markerfacecolor=face or colour,
        )  # fmt: skip

    handles: list[Line2D | Patch] = [
        mark("o", ACCENT, "order", 6),
        mark("o", ACCENT, "sent back", 6, "white"),
        mark("|", GREYS[1], "visit", 7),
        mark("X", WARN, "asks for help", 6.5),
        mark("$8$", SOFT, "opinion, of 10", 6),
        mark("*", ACCENT, "invites", 6),
        *(mark(*_CHANNELS[name], name, 4.5) for name in channels),
        mark("s", FAINT, "not delivered", 4.5, "white"),
        mark("x", WARN, "closes the channel", 7),
        Patch(facecolor=WASH, edgecolor="#d3dae2", hatch="////", label="has left, unseen"),
    ]
    _key_below(ax, handles, 5)


def funnel(steps: pd.DataFrame, ax: Axes, title: str, subtitle: str | None = None) -> Axes:
    """Shares of the funnel: true, observed with closed windows, and hasty.

    Args:
        steps: ``step, of, people, observed, ci_low, ci_high, hasty, true``, as from
            ``world.funnel``.
        ax: Where to draw.
        title: The finding.
        subtitle: What is shown, of whom.
    """
    rows = np.arange(len(steps))[::-1]
    ax.barh(rows, steps["true"], height=0.5, color=LINE, zorder=1)
    ax.vlines(steps["true"], rows - 0.25, rows + 0.25, color=INK, linewidth=2, zorder=2)
    ax.hlines(rows, steps["ci_low"], steps["ci_high"], color=ACCENT, linewidth=2.5, zorder=3)
    ax.plot(steps["observed"], rows, "o", color=ACCENT, markersize=6.5, zorder=4)
    ax.plot(
        steps["hasty"], rows - 0.34, "v", color=WARN, markerfacecolor="white", markersize=6,
        markeredgewidth=1.4, zorder=4,
    )  # fmt: skip
    top = float(steps[["true", "ci_high", "hasty"]].max().max())
    ax.set(xlim=(0, min(1.0, 1.08 * top)), ylim=(-0.7, len(steps) - 0.4))
    for row, entry in zip(rows, steps.to_dict("records"), strict=True):
        seen = (
            percent(round(entry["observed"], 3))
            if np.isfinite(entry["observed"])
            else "none closed"
        )
        beside(ax, row, f"{seen}, true {percent(round(entry['true'], 3))}")
    names = steps["step"].str.replace("_", " ") + "\nof " + steps["of"].str.replace("_", " ")
    ax.set_yticks(rows, names)
    ax.xaxis.set_major_formatter(FuncFormatter(percent))
    ax.grid(visible=False, axis="y")
    ax.grid(visible=True, axis="x")
    ax.set_xlabel("Share who do the step in time")
    _key_below(
        ax,
        [
            Line2D([], [], color=INK, linewidth=2, label="true, every window closed"),
            _mark("o", ACCENT, "observed, closed windows only, 95 %"),
            _mark("v", WARN, "hasty: open windows counted", "white"),
        ],
    )
    finding(ax, title, subtitle)
    return ax


def silence(bands: pd.DataFrame, ax: Axes, title: str, subtitle: str | None = None) -> Axes:
    """Share who are customers still, by how long they have been silent.

    Args:
        bands: ``days_silent, customers, still, ci_low, ci_high``, as in ``world.Silence.bands``.
        ax: Where to draw.
        title: The finding.
        subtitle: What is shown, of whom.
    """
    at = np.arange(len(bands))
    ax.bar(at, bands["still"], width=0.62, color=ACCENT, zorder=2)
    ax.bar(
        at, 1 - bands["still"], bottom=bands["still"], width=0.62, color=WASH, hatch="////",
        edgecolor="#d3dae2", linewidth=0, zorder=2,
    )  # fmt: skip
    ax.vlines(at, bands["ci_low"], bands["ci_high"], color=INK, linewidth=1.6, zorder=3)
    for place, entry in zip(at, bands.to_dict("records"), strict=True):
        ax.annotate(
            percent(round(entry['still'], 2)), (place, entry['still']), xytext=(0, -14),
            textcoords="offset points", ha="center", va="top", color="white", fontsize=10,
            fontweight="bold", zorder=4,
        )  # fmt: skip
    ax.set_xticks(at, [f"{e['days_silent']}\n{e['customers']:,}" for e in bands.to_dict("records")])
    ax.set(ylim=(0, 1), xlim=(-0.6, len(bands) - 0.4))
    ax.yaxis.set_major_formatter(FuncFormatter(percent))
    ax.set_xlabel("Days since the last order; customers")
    ax.set_ylabel("Share who are customers still")
    ax.annotate(
        "hatched: have left", (1, 1), xycoords="axes fraction", xytext=(0, 4),
        textcoords="offset points", ha="right", va="bottom", color=SOFT, fontsize=9,
    )  # fmt: skip
    finding(ax, title, subtitle)
    return ax


def hasty_effects(effects: pd.DataFrame, ax: Axes, title: str, subtitle: str | None = None) -> Axes:
    """What a hasty comparison says of each channel beside its true effect.

    Args:
        effects: ``channel, touches, hasty, ci_low, ci_high, true``, as from
            ``world.hasty_effects``.
        ax: Where to draw.
        title: The finding.
        subtitle: What is shown, of whom.
    """
    rows = np.arange(len(effects))[::-1]
    _estimates(ax, rows, effects.rename(columns={"hasty": "effect"}), effects["true"], WARN)
    for row, entry in zip(rows, effects.to_dict("records"), strict=True):
        beside(ax, row, f"{_signed(100 * entry['hasty'])}, true {_signed(100 * entry['true'])}")
    ax.set_yticks(
        rows, [f"{e['channel']}\n{e['touches']:,} touches" for e in effects.to_dict("records")]
    )
    ax.set_xlabel("More orders per 100 people touched")
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: _signed(100 * x, None)))
    _key_below(ax, [_mark("o", WARN, "touched less untouched, 95 %", "white"),
                    _mark("D", INK, "true effect on those touched")])  # fmt: skip
    finding(ax, title, subtitle)
    return ax


def experiments(
    table: pd.DataFrame, ax: Axes, title: str, subtitle: str | None = None, broken: float = 0.001
) -> Axes:
    """Every test's effect as estimated, beside the truth.

    Args:
        table: ``test, arm, people, effect, ci_low, ci_high, true, split_p``, as from
            ``world.compare_tests``.
        ax: Where to draw.
        title: The finding.
        subtitle: What is shown, of whom.
        broken: A split less likely than this is marked.
    """
    rows = np.arange(len(table))[::-1]
    bad = (table["split_p"] < broken).to_numpy(bool)
    for which, colour in ((~bad, ACCENT), (bad, WARN)):
        _estimates(ax, rows[which], table[which], table.loc[which, "true"], colour)
    for row, entry, spoilt in zip(rows, table.to_dict("records"), bad, strict=True):
        text = f"{_signed(100 * entry['effect'], 2)}, true {_signed(100 * entry['true'], 2)}"
        text += "\nsplit is broken" if spoilt else ""
        beside(ax, row, text, WARN if spoilt else SOFT)
    names = [
        f"{e['test'].replace('_', ' ')}\n{e['arm'].replace('_', ' ')}"
        for e in table.to_dict("records")
    ]
    ax.set_yticks(rows, names)
    ax.set_ylim(-0.6, len(table) - 0.4)
    ax.set_xlabel("Effect on the share with an order, percentage points")
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: _signed(100 * x, None)))
    _key_below(ax, [_mark("o", ACCENT, "estimate, 95 %"), _mark("D", INK, "true effect")])
    finding(ax, title, subtitle)
    return ax


def _estimates(
    ax: Axes, rows: "np.ndarray[tuple[int], np.dtype[np.int64]]", table: pd.DataFrame,
    true: pd.Series, colour: str,
) -> None:  # fmt: skip
    face = "white" if colour == WARN else colour
    ax.axvline(0, color=GREYS[1], linewidth=1, zorder=1)
    ax.hlines(rows, table["ci_low"], table["ci_high"], color=colour, linewidth=2.5, zorder=2)
    ax.plot(
        table["effect"], rows, "o", color=colour, markerfacecolor=face, markeredgewidth=1.6,
        markersize=6.5, zorder=3,
    )  # fmt: skip
    ax.plot(true, rows - 0.24, "D", color=INK, markersize=5.5, zorder=4)
    ax.set_ylim(-0.6, max(len(table), ax.get_ylim()[1] + 0.4) - 0.4)
    ax.margins(x=0.06)
    ax.grid(visible=False, axis="y")
    ax.grid(visible=True, axis="x")


def _mark(marker: str, colour: str, label: str, face: str | None = None) -> Line2D:
    return Line2D(
        [], [], linestyle="none", marker=marker, color=colour, markerfacecolor=face or colour,
        markersize=6, label=label,
    )  # fmt: skip


def _key_below(ax: Axes, handles: Sequence[Line2D | Patch], columns: int = 3) -> None:
    figure = ax.get_figure(root=True)
    if figure is not None:
        # outside: the layout leaves room for it, as wide as the figure
        figure.legend(
            handles=list(handles), loc="outside lower left", ncols=columns, fontsize=9,
            labelcolor=SOFT, columnspacing=1.4, handletextpad=0.5,
        )  # fmt: skip


def _amount(value: float, unit: str) -> str:
    if unit == "share":
        return f"{100 * value:.3g}\N{NO-BREAK SPACE}%"
    return thousands(float(f"{value:.3g}"))


def _times(value: float, position: int | None = None) -> str:
    return f"{thousands(value)}\N{MULTIPLICATION SIGN}"


def _signed(value: float, decimals: int | None = 1) -> str:
    text = thousands(abs(value)) if decimals is None else f"{abs(value):.{decimals}f}"
    if not float(text.replace(",", "")):
        return "0"
    return f"{'+' if value > 0 else chr(0x2212)}{text}"


def _orders(count: int) -> str:
    return f"{count} order" if count == 1 else f"{count} orders"


def _number(day: object) -> float:
    moment = pd.Timestamp(day).to_pydatetime()  # type: ignore[arg-type]
    return float(date2num(moment))  # type: ignore[no-untyped-call]
