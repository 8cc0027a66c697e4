"""Figures of a test's design and of its looks: what it could find, and where it may stop."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter
from numpy.typing import ArrayLike
from scipy.stats import norm

from journeylab.estimate import Estimate
from journeylab.experiments import Belief, Boundaries, Readout
from journeylab.figures.style import (
    ACCENT,
    GREYS,
    INK,
    WARN,
    WASH,
    finding,
    label_lines,
    percent,
    thousands,
)


def mde_by_week(weeks: pd.DataFrame, ax: Axes, metric: str, wanted_percent: float = 0.0) -> Axes:
    """Smallest effect that would be found, week by week, with and without adjustment.

    Args:
        weeks: ``week, mde_percent, mde_plain_percent, extrapolated``, from
            ``experiments.mde_by_week``.
        ax: Where to draw.
        metric: Its name.
        wanted_percent: Effect the test is made for, percent; drawn above 0.
    """
    (plain,) = ax.plot(weeks["week"], weeks["mde_plain_percent"], color=GREYS[1], marker="o", ms=4)
    (own,) = ax.plot(weeks["week"], weeks["mde_percent"], color=ACCENT, marker="o", ms=4)
    beyond = weeks[weeks["extrapolated"]]
    ax.plot(beyond["week"], beyond["mde_percent"], "o", ms=4, mfc="white", mec=ACCENT, zorder=3)
    last = weeks.iloc[-1]
    title = (
        f"After {last['week']:.0f} weeks an effect of {last['mde_percent']:.3g} % would be found"
    )
    if wanted_percent:
        ax.axhline(wanted_percent, color=INK, linewidth=1, linestyle=(0, (4, 3)))
        reached = weeks[weeks["mde_percent"] <= wanted_percent]
        title = (
            f"An effect of {wanted_percent:.3g} % is found after week {reached['week'].iloc[0]:.0f}"
            if len(reached)
            else f"An effect of {wanted_percent:.3g} % is not found within {last['week']:.0f} weeks"
        )
    ax.set(xlabel="Weeks since the start", ylabel=f"Smallest change found, % of {metric}")
    ax.set(xlim=(weeks["week"].min() - 0.2, weeks["week"].max()), ylim=(0, None))
    finding(ax, title, "Hollow: beyond the days that history shows")
    label_lines(ax, {own: "adjusted", plain: "plain"})
    return ax


def power_curve(curve: pd.DataFrame, ax: Axes, metric: str, customers: int, wanted: float) -> Axes:
    """Chance of finding effects of each size.

    Args:
        curve: ``effect_percent, power, power_plain`` and with clusters ``power_person``, from
            ``experiments.power_curve``.
        ax: Where to draw.
        metric: Its name.
        customers: In all arms.
        wanted: Power asked for (0-1).
    """
    labels = {}
    if "power_person" in curve:
        (line,) = ax.plot(curve["effect_percent"], curve["power_person"], color=WARN, linewidth=1.4)
        labels[line] = "as if no\nclusters"
    (plain,) = ax.plot(curve["effect_percent"], curve["power_plain"], color=GREYS[1])
    (own,) = ax.plot(curve["effect_percent"], curve["power"], color=ACCENT)
    ax.axhline(wanted, color=INK, linewidth=1, linestyle=(0, (4, 3)))
    ax.set(xlabel=f"True effect, % of {metric}", ylabel="Chance of finding it", ylim=(0, 1.02))
    ax.set(xlim=(0, curve["effect_percent"].max()))
    ax.yaxis.set_major_formatter(FuncFormatter(percent))
    found = {name: _reached(curve, name, wanted) for name in ("power", "power_plain")}
    title = f"{customers:,} customers do not find these effects with {percent(wanted)}"
    if np.isfinite(found["power"]):
        title = f"{customers:,} customers find {found['power']:.3g} % in {percent(wanted)} of tests"
    if np.isfinite(found["power_plain"]) and found["power_plain"] > 1.005 * found["power"]:
        title += f"; unadjusted, {found['power_plain']:.3g} %"
    finding(ax, title, "Chance that the test stops for the effect, by its true size")
    label_lines(ax, {own: "adjusted", plain: "plain", **labels})
    return ax


def _reached(curve: pd.DataFrame, column: str, wanted: float) -> float:
    """Effect at which the chance reaches what is wanted, between the points of the curve."""
    chance, effect = (curve[name].to_numpy(float) for name in (column, "effect_percent"))
    at = int(np.argmax(chance >= wanted))
    if chance[at] < wanted:
        return float("nan")
    if at == 0:
        return float(effect[0])
    share = (wanted - chance[at - 1]) / (chance[at] - chance[at - 1])
    return float(effect[at - 1] + share * (effect[at] - effect[at - 1]))


def boundaries(families: Mapping[str, Boundaries], ax: Axes, chosen: str) -> Axes:
    """Where each family of boundaries stops.

    Args:
        families: Name -> boundaries at the same looks.
        ax: Where to draw.
        chosen: The one to follow.
    """
    labels = {}
    for name, one in families.items():
        style = {"color": ACCENT, "zorder": 3} if name == chosen else {"color": GREYS[1]}
        x = [100 * time for time in one.information]
        (line,) = ax.plot(x, one.critical, marker="o", markersize=4, **style)
        labels[line] = name
        if one.sides == 2:
            ax.plot(x, [-z for z in one.critical], marker="o", markersize=4, **style)
    own = families[chosen]
    single = float(norm.isf(own.alpha / own.sides))
    for z in (single, -single) if own.sides == 2 else (single,):
        ax.axhline(z, color=INK, linewidth=1, linestyle=(0, (4, 3)))
    ax.set(xlabel="Share of the planned customers, %", ylabel="Standard errors from no effect")
    ax.set(xlim=(0, 101))
    finding(
        ax,
        f"{chosen}: stop early only beyond {own.critical[0]:.2f} standard errors, at the end "
        f"beyond {own.critical[-1]:.2f}",
        f"{len(own.information)} looks, error {own.alpha:g}; broken line: a single look",
    )
    label_lines(ax, labels)
    return ax


def sequential_path(
    looks: pd.DataFrame, plan: Boundaries, ax: Axes, metric: str, mark: str = ""
) -> Axes:
    """The standardised difference on its way through the boundaries.

    Args:
        looks: ``information`` (0-1), ``z`` (above 0 where the arm is better), one row per look.
        plan: The boundaries of all planned looks.
        ax: Where to draw.
        metric: Its name.
        mark: What the title begins with, from ``Readout.mark``.
    """
    x = [100 * time for time in plan.information]
    signs = (1, -1) if plan.sides == 2 else (1,)
    for sign in signs:
        ax.plot(x, [sign * z for z in plan.critical], color=GREYS[0], marker="o", ms=4)
    (path,) = ax.plot(100 * looks["information"], looks["z"], color=ACCENT, marker="o", ms=5)
    ax.axhline(0, color=GREYS[2], linewidth=0.8)
    reach = np.interp(looks["information"], plan.information, plan.critical)
    away = np.abs(looks["z"]) if plan.sides == 2 else looks["z"]
    crossed = looks[(away.to_numpy(float) >= reach)]
    title = f"{mark}{metric} has not left the boundaries"
    if len(crossed):
        first = crossed.iloc[0]
        title = (
            f"{mark}{metric} leaves the boundaries at {100 * first['information']:.0f} % of the "
            f"planned customers, {'better' if first['z'] > 0 else 'worse'}"
        )
    ax.set(xlabel="Share of the planned customers, %", ylabel="Standard errors from no effect")
    ax.set(xlim=(0, max(101, 101 * float(looks["information"].max()))))
    finding(ax, title, "Grey: where a planned look stops the test")
    label_lines(ax, {path: metric})
    return ax


def aa_histogram(p_values: ArrayLike, alarms: Estimate, alpha: float, ax: Axes) -> Axes:
    """The p-values of A/A tests on real customers: flat where the test is sound.

    Args:
        p_values: One per A/A test.
        alarms: Share of them below ``alpha``, with its interval.
        alpha: Error aimed at.
        ax: Where to draw.
    """
    p = np.asarray(p_values, dtype=float)
    bins = np.linspace(0, 1, 21)
    counts, _ = np.histogram(p, bins)
    expected = len(p) / 20
    ax.bar(bins[:-1], counts, width=0.048, align="edge", color=GREYS[2])
    ax.bar(bins[0], counts[0], width=0.048, align="edge", color=ACCENT)
    ax.axhline(expected, color=INK, linewidth=1)
    spread = 1.96 * np.sqrt(expected * 0.95)
    ax.axhspan(max(expected - spread, 0), expected + spread, color=WASH, zorder=0)
    ax.set(xlabel="p-value", ylabel="A/A tests", xlim=(0, 1))
    sound = alarms.ci_low <= alpha <= alarms.ci_high
    finding(
        ax,
        f"{percent(round(alarms.value, 3))} of {len(p)} A/A tests alarm: "
        f"{'as they should' if sound else f'not the {percent(alpha)} they should'}",
        f"Interval {percent(round(alarms.ci_low, 3))} to {percent(round(alarms.ci_high, 3))}; "
        "shaded: where 95 % of bars of a sound test lie",
    )
    return ax


def aa_quantiles(p_values: ArrayLike, uniform_p: float, ax: Axes) -> Axes:
    """The p-values of A/A tests against those of a sound test (QQ plot).

    Args:
        p_values: One per A/A test.
        uniform_p: Chance of p-values this uneven if all is well.
        ax: Where to draw.
    """
    p = np.sort(np.asarray(p_values, dtype=float))
    wanted = (np.arange(len(p)) + 0.5) / len(p)
    band = 1.358 / np.sqrt(len(p))
    ax.fill_between([0, 1], [-band, 1 - band], [band, 1 + band], color=WASH, linewidth=0)
    ax.plot([0, 1], [0, 1], color=INK, linewidth=1)
    ax.plot(wanted, p, color=ACCENT)
    ax.set(xlabel="Share of A/A tests, as it should be", ylabel="p-value", xlim=(0, 1), ylim=(0, 1))
    sound = uniform_p >= 0.01
    finding(
        ax,
        "The p-values are spread as those of a sound test"
        if sound
        else "The p-values are not those of a sound test",
        f"Shaded: 95 % band; Kolmogorov and Smirnov's p = {uniform_p:.2g}",
    )
    return ax


def posterior(after: Belief, rope: float, ax: Axes, metric: str, unit: str, mark: str = "") -> Axes:
    """What is believed of an effect, with the region that makes no practical difference.

    Args:
        after: The posterior, in ``unit``; a share is drawn in percentage points.
        rope: Half-width of that region, in ``unit``; 0 draws none.
        ax: Where to draw.
        metric: Its name.
        unit: Of the effect.
        mark: What the title begins with, from ``Readout.mark``.
    """
    if unit == "share":
        after, rope, unit = after.scaled(100.0), 100 * rope, "percentage points"
    x = np.linspace(after.mean - 4 * after.sd, after.mean + 4 * after.sd, 401)
    y = -np.gradient([after.chance_above(float(at)) for at in x], x)
    ax.fill_between(x, y, where=(x > 0).tolist(), color=ACCENT, alpha=0.25, linewidth=0)
    ax.fill_between(x, y, where=(x <= 0).tolist(), color=WARN, alpha=0.25, linewidth=0)
    ax.plot(x, y, color=INK, linewidth=1.4)
    below = "What is believed after the test"
    if rope > 0:
        ax.axvspan(-rope, rope, color=WASH, zorder=0)
        inside = _chance(after.rope(-rope, rope)[1])
        below = f"What is believed after the test; shaded: no practical difference, {inside}"
    ax.axvline(0, color=GREYS[1], linewidth=0.8)
    ax.set(xlabel=f"Effect on {metric}, {unit}", yticks=[], ylim=(0, None))
    finding(
        ax,
        f"{mark}The effect on {metric} is above zero with a chance of "
        f"{_chance(after.chance_above())}",
        below,
    )
    return ax


def _chance(share: float) -> str:
    if 0.001 <= share <= 0.999:
        return percent(round(share, 3))
    return "less than 0.1 %" if share < 0.5 else "more than 99.9 %"


def guardrail_lights(readout: Readout, ax: Axes) -> Axes:
    """Every guardrail with its interval as a share of its margin: left of the line it passes.

    Args:
        readout: With guardrails.
        ax: Where to draw.
    """
    rows = readout.rows[(readout.rows["role"] == "guardrail") & (readout.rows["reason"] == "")]
    down = {m.name for m in readout.plan.guardrails if m.direction == "down"}
    names, ends = [], [0.0, 100.0]
    for place, row in enumerate(rows.to_dict("records")):
        sign = 1 if row["metric"] in down else -1
        margin = row["margin"] or 1.0
        middle, low, high = (
            100 * sign * float(row[end]) / margin for end in ("effect", "low", "high")
        )
        verdict = str(row["verdict"]).removeprefix(readout.mark)
        passes, alarm = verdict.startswith("passes"), verdict.startswith(("alarm", "not passed"))
        color = ACCENT if passes else WARN if alarm else GREYS[0]
        ax.plot([low, high], [place, place], color=color, linewidth=2)
        shape = "o" if passes else "X" if alarm else "D"  # told apart without colour too
        ax.plot(middle, place, shape, color=color, markersize=8)
        word = "passes" if passes else "does not pass" if alarm else "open"
        names.append(f"{row['metric']}\n{row['arm']}: {word}")
        ends += [low, high]
    ax.axvline(100, color=INK, linewidth=1, linestyle=(0, (4, 3)))
    ax.axvline(0, color=GREYS[2], linewidth=0.8)
    ax.set_yticks(range(len(names)), names)
    room = 0.05 * (max(ends) - min(ends))
    ax.set_xlim(min(ends) - room, max(ends) + room)
    ax.set(ylim=(len(names) - 0.5, -0.5), xlabel="Harm, % of the margin (100: as bad as allowed)")
    ax.grid(visible=False, axis="y")
    ax.xaxis.set_major_formatter(FuncFormatter(thousands))
    kept = int(rows["verdict"].str.contains("passes").sum())
    finding(
        ax,
        f"{readout.mark}{kept} of {len(rows)} guardrails pass",
        "Harm with its interval; the whole interval must lie left of the broken line",
    )
    return ax
