"""Figures of customer value: was the forecast right, who is still there, who holds the value."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.ticker import FuncFormatter

from journeylab.estimate import Estimate
from journeylab.figures.style import (
    ACCENT,
    CATEGORICAL,
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


def weekly(track: pd.DataFrame, ax: Axes, model: str = "BG/NBD") -> Axes:
    """Repeat purchases week by week, expected and actual, with the holdout shaded.

    Args:
        track: ``week, expected, actual, holdout`` (cumulative), from ``clv.tracking``.
        ax: Where to draw.
        model: Its name, for the label of the line.
    """
    full = track[np.isclose(track["week"] % 1, 0)].sort_values("week")
    weeks = full["week"].to_numpy(float)[1:]
    made, told = (np.diff(full[name].to_numpy(float)) for name in ("actual", "expected"))
    (actual,) = ax.plot(weeks, made, color=GREYS[0], linewidth=1.4)
    (expected,) = ax.plot(weeks, told, color=ACCENT)
    last = float(track["week"].iloc[-1])
    highest = max(float(made.max(initial=1)), float(told.max(initial=1)))
    ax.set(xlim=(0, last), ylim=(0, 1.15 * highest))  # room for the name of the holdout
    ax.set(xlabel="Weeks since the first purchase day", ylabel="Repeat purchases a week")
    ax.yaxis.set_major_formatter(FuncFormatter(thousands))
    shade(ax, float(track.loc[~track["holdout"], "week"].max()), last, "holdout")
    ahead = full["holdout"].to_numpy()[1:]
    below = int((made[ahead] < told[ahead]).sum())
    finding(
        ax,
        f"In {below} of {int(ahead.sum())} holdout weeks fewer purchases came than expected",
        "Repeat purchases by week, of the customers known before the holdout",
    )
    label_lines(ax, {expected: f"{model}\nexpected", actual: "actual"})
    return ax


def by_spend(groups: pd.DataFrame, ax: Axes, currency: str = "currency units") -> Axes:
    """Spend per purchase in the holdout against what was expected.

    Args:
        groups: ``customers, expected, actual, actual_low, actual_high``, from ``clv.by_spend``.
        ax: Where to draw.
        currency: Unit of the amounts.
    """
    low, high = groups["actual"] - groups["actual_low"], groups["actual_high"] - groups["actual"]
    ends = (groups["expected"].min() * 0.9, groups["expected"].max() * 1.1)
    ax.plot(ends, ends, color=GREYS[2], linewidth=1)
    ax.annotate(
        "as expected", (ends[0], ends[0]), xytext=(5, -6), textcoords="offset points",
        color=SOFT, fontsize=9, ha="left", va="top",
    )  # fmt: skip
    ax.errorbar(
        groups["expected"], groups["actual"], yerr=[low, high], color=ACCENT,
        fmt="o", markersize=5, linewidth=1.4, capsize=3,
    )  # fmt: skip
    ax.set(xlim=ends, ylim=(0, None))
    ax.set(xlabel=f"Expected spend per purchase, {currency}", ylabel="Actual, mean and 95 %")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(FuncFormatter(thousands))
    inside = (groups["expected"] >= groups["actual_low"]) & (
        groups["expected"] <= groups["actual_high"]
    )
    finding(
        ax,
        f"Expected spend lies within the interval in {int(inside.sum())} of {len(groups)} groups",
        f"{int(groups['customers'].sum()):,} customers who bought in the holdout, in groups of "
        "equal size",
    )
    return ax


def deciles(table: pd.DataFrame, ax: Axes, currency: str = "currency units") -> Axes:
    """Mean value of a customer by group, from the most valuable down.

    Args:
        table: ``decile, customers, value_mean, share``, from ``clv.deciles``.
        ax: Where to draw.
        currency: Unit of the amounts.
    """
    colors = [ACCENT, *[GREYS[2]] * (len(table) - 1)]
    ax.bar(table["decile"], table["value_mean"], width=0.72, color=colors)
    for at, height, share in zip(table["decile"], table["value_mean"], table["share"], strict=True):
        ax.annotate(
            percent(round(share, 3 if share < 0.01 else 2)), (at, height), xytext=(0, 3),
            textcoords="offset points", color=INK, fontsize=9, ha="center", va="bottom",
        )  # fmt: skip
    ax.set(xlim=(0.4, len(table) + 0.6), ylim=(0, 1.08 * float(table["value_mean"].max())))
    ax.set_xticks(table["decile"])
    ax.set(xlabel="Tenth of customers, most valuable first", ylabel=f"Mean value, {currency}")
    ax.yaxis.set_major_formatter(FuncFormatter(thousands))
    first, second = table["value_mean"].iloc[0], table["value_mean"].iloc[min(1, len(table) - 1)]
    times = f"{first / second:.1f} times" if second > 0 else "far more than"
    finding(
        ax,
        f"A customer of the first tenth is worth {times} one of the second",
        "Mean expected value of a customer; above each bar its share of the whole",
    )
    return ax


def payback(curve: pd.DataFrame, ax: Axes, currency: str = "currency units") -> Axes:
    """Value so far less the cost of winning a customer, by channel and month.

    Args:
        curve: ``channel, month, net, net_low, net_high``, from ``clv.payback``.
        ax: Where to draw.
        currency: Unit of the amounts.
    """
    ax.axhline(0, color=INK, linewidth=1)
    ends = curve[curve["month"] == curve["month"].max()].sort_values("net", ascending=False)
    lines = {}
    for channel, color in zip(ends["channel"], _colors(len(ends)), strict=True):
        own = curve[curve["channel"] == channel].sort_values("month")
        ax.fill_between(
            own["month"], own["net_low"], own["net_high"], color=color, alpha=0.12, lw=0
        )
        (line,) = ax.plot(own["month"], own["net"], color=color)
        lines[line] = str(channel)
    ax.set(xlim=(0, curve["month"].max()))
    ax.set(xlabel="Months since the first purchase", ylabel=f"Net per customer, {currency}")
    ax.yaxis.set_major_formatter(FuncFormatter(thousands))
    repaid = int((ends["net_low"] > 0).sum())
    finding(
        ax,
        f"{repaid} of {len(ends)} channels surely repay their customers by month "
        f"{curve['month'].max():.0f}",
        "Value so far less cost per customer won; bands hold 95 %",
    )
    label_lines(ax, lines)
    return ax


def marginal_cost(
    curves: pd.DataFrame, now: pd.DataFrame, ax: Axes, currency: str = "currency units"
) -> Axes:
    """Cost of one more customer by spending, with the latest period marked.

    Args:
        curves: ``channel, cost, marginal``: the ``curve`` of every ``clv.marginal_cost``.
        now: ``channel, at_cost, average, marginal, marginal_low, marginal_high``.
        ax: Where to draw.
        currency: Unit of the amounts.
    """
    ordered = now.sort_values("marginal", ascending=False)
    lines = {}
    for row, color in zip(ordered.to_dict("records"), _colors(len(ordered)), strict=True):
        own = curves[curves["channel"] == row["channel"]].sort_values("cost")
        (line,) = ax.plot(own["cost"], own["marginal"], color=color)
        lines[line] = str(row["channel"])
        ax.plot(
            [row["at_cost"]] * 2, [row["marginal_low"], row["marginal_high"]], color=color, lw=1
        )
        ax.plot([row["at_cost"]], [row["marginal"]], color=color, marker="o", markersize=6)
    ax.set_xscale("log")
    ax.set(ylim=(0, None), xlabel=f"Spending per period, {currency} (log scale)")
    ax.set_ylabel(f"Cost of one more customer, {currency}")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(FuncFormatter(thousands))
    dearer = int((ordered["marginal"] > ordered["average"]).sum())
    finding(
        ax,
        f"In {dearer} of {len(ordered)} channels one more customer costs more than the average",
        "Dot: latest complete period, with its 95 % interval",
    )
    label_lines(ax, lines)
    return ax


def _colors(count: int) -> list[str]:
    return [CATEGORICAL[k % len(CATEGORICAL)] for k in range(count)]


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
        f"{count}, then {gone[0]:.0f} quiet {unit}s: probably gone"
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
