"""Where to stop on a ranked list: money by share treated, less what a touch costs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from journeylab.errors import ContractError
from journeylab.estimate import Estimate, Measured
from journeylab.uplift.ranks import Places, by_fold, fold_by_fold, places
from journeylab.uplift.scores import Floats, Ints, Ranking, Scores
from journeylab.uplift.toc import curve

_GRID = tuple((np.arange(1, 51) / 50).tolist())
_PARTS = 5


@dataclass(frozen=True, slots=True, eq=False)
class ProfitCurve:
    """Money per head of the whole list, by share treated from the top.

    Attributes:
        table: One row per share, from 0: ``share``; ``profit`` against treating nobody, with
            ``standard_error, ci_low, ci_high`` at that share and ``band_low, band_high`` over all;
            ``by_chance``: treating the same share at random.
        cut: Share at which the curve is highest (0-1).
        profit: Of cutting there, valued on units that had no part in choosing the cut.
        everybody: Profit of treating everybody.
        gain: ``profit`` less the better of treating everybody and treating nobody.
        unit: Money.
    """

    table: pd.DataFrame
    cut: float
    profit: Measured
    everybody: Measured
    gain: Measured
    unit: str

    def finding(self, arm: str) -> str:
        """One line on where to cut."""
        if self.cut >= 1:
            return f"{arm}: no cut earns more than giving it to everybody"
        if self.cut <= 0:
            return f"{arm}: no cut earns more than giving it to nobody"
        return f"{arm}: the curve is highest at {self.cut:.0%} of customers"

    def over_simple(self, level: float = 0.95) -> Estimate | str:
        """Gain of the cut; or words, where all parts chose everybody, or nobody: there is none."""
        if self.gain.standard_error == 0:
            simple = "everybody" if self.cut >= 1 else "nobody"
            return f"nothing: the cut chosen on the other customers is {simple}"
        return self.gain.estimate(level)


def profit_curve(
    scores: Scores,
    ranking: Ranking,
    arm: str | None = None,
    *,
    value: float,
    cost: float,
    unit: str = "money",
    at: Sequence[float] = _GRID,
    level: float = 0.95,
    rng: int | np.random.Generator = 0,
) -> ProfitCurve:
    """Profit of treating the first share of a ranking.

    ``profit(q) = q * (value * effect among the first q - cost)`` per head of the whole list.

    Args:
        scores: Doubly robust scores of units that had no part in the ranking.
        ranking: Highest first.
        arm: Whose effect; may be left out where there is one arm beside the control.
        value: Money that one unit of the outcome is worth (a margin, after refunds).
        cost: Money per head treated (message, and a coupon's expected cost).
        unit: Of the money.
        at: Shares (0-1], rising.
        level: Coverage (0-1).
        rng: Seed or generator: the band, and the parts that choose the cut for each other.

    Raises:
        ContractError: A share is not in (0, 1] or they do not rise, a cost is negative, or as
            ``Scores.aligned``.

    Source:
        The curve is ``q * TOC`` in money. The cut is chosen on four fifths and valued on the fifth
        part, five times: the height of the highest point is not what one gets by aiming at it.
    """
    shares = np.asarray(at, dtype=float)
    if not shares.size or not ((shares > 0) & (shares <= 1)).all() or (np.diff(shares) <= 0).any():
        raise ContractError(f"shares must rise within (0, 1]; got {list(at)}")
    if not (np.isfinite(value) and cost >= 0 and np.isfinite(cost)):
        raise ContractError(f"value must be finite and cost 0 or more; got {value} and {cost}")
    each = scores.effect(arm) * value - cost
    order = scores.aligned(ranking)
    worth, influence = _taken(each, order, scores.folds, shares)
    points = [
        _in_money(scores, float(found), influence[:, place], unit)
        for place, found in enumerate(worth)
    ]
    table = curve(shares.tolist(), points, level, rng, 2000).rename(columns={"value": "profit"})
    mean = float(each.mean())
    table["by_chance"] = table["share"] * mean
    start = {name: [0.0] for name in table.columns}
    table = pd.concat([pd.DataFrame(start), table], ignore_index=True)
    profit = _chosen_elsewhere(scores, each, order, shares, unit, rng)
    everybody = _in_money(scores, mean, each, unit)
    gain = profit.minus(everybody) if mean > 0 else profit
    cut = float(table["share"].iloc[int(table["profit"].to_numpy().argmax())])
    return ProfitCurve(table, cut, profit, everybody, gain, unit)


def cost_curve(
    scores: Scores,
    predicted: pd.DataFrame,
    costs: pd.Series | pd.DataFrame,
    *,
    budgets: Sequence[float] | None = None,
    level: float = 0.95,
    rng: int | np.random.Generator = 0,
) -> pd.DataFrame:
    """What several arms bring under a budget: the best arms for whom, by predicted effect per cost.

    At each budget per head, units get the arm that predicted effects and costs make best (the
    upper hull of each unit's arms, its steps taken in the order of effect per cost), and the gain
    is read from the scores, which had no part in choosing.

    Args:
        scores: Doubly robust scores of all arms.
        predicted: Predicted effect against the control, one column per other arm.
        costs: Per head and arm, above 0: one number per arm, or a frame like ``predicted``.
        budgets: Money per head of all units, rising; by default twenty up to all that is useful.
        level: Coverage (0-1).
        rng: Seed or generator of the band.

    Returns:
        One row per budget, from 0: ``budget``; ``spent`` (less where more would not help);
        ``gain`` per head in the outcome's unit against the control for all, ``standard_error,
        ci_low, ci_high, band_low, band_high``; ``constant``: the best mix of arms that looks at
        nobody, at the same budget, and ``beyond, beyond_low, beyond_high``: the gain less that
        (paired); ``share_<arm>`` (0-1) of each arm.

    Raises:
        ContractError: An arm has no cost or no prediction, a cost is not above 0, or budgets do
            not rise.

    Source:
        Sverdrup, Wu, Athey & Wager, "Qini Curves for Multi-Armed Treatment Rules" (2025); the
        R package maq.
    """
    arms = list(scores.arms[1:])
    if not predicted.index.equals(scores.index) or set(predicted.columns) != set(arms):
        raise ContractError(
            f"predicted must have the index of the scores and the columns {', '.join(arms)}; got "
            f"{len(predicted)} rows and {', '.join(map(str, predicted.columns))}"
        )
    forecast = predicted[arms].to_numpy(float)
    price = _prices(costs, arms, scores)
    gains = scores.values[:, 1:] - scores.values[:, :1]
    steps = _hull_steps(forecast, price)
    useful = float(steps["cost"].sum()) / len(scores)
    asked = np.linspace(0, useful, 21)[1:] if budgets is None else np.asarray(budgets, dtype=float)
    if not asked.size or not (asked > 0).all() or (np.diff(asked) <= 0).any():
        raise ContractError(f"budgets must rise above 0; got {asked.tolist()}")
    # the mix that looks at nobody takes each arm by its mean forecast and cost
    flat_forecast = np.tile(forecast.mean(axis=0), (len(scores), 1))
    flat_price = np.tile(price.mean(axis=0), (len(scores), 1))
    same = _hull_steps(flat_forecast, flat_price)
    found = _spent(scores, steps, gains, asked)
    plain = _spent(scores, same, gains, asked, mixed=True)
    points = [point for point, _, _ in found]
    table = curve(asked.tolist(), points, level, rng, 2000)
    table = table.rename(columns={"share": "budget", "value": "gain"})
    table.insert(1, "spent", [spent for _, spent, _ in found])
    table["constant"] = [point.value for point, _, _ in plain]
    beyond = [
        mine.minus(other).estimate(level)
        for (mine, _, _), (other, _, _) in zip(found, plain, strict=True)
    ]
    table["beyond"] = [known.value for known in beyond]
    table["beyond_low"] = [known.ci_low for known in beyond]
    table["beyond_high"] = [known.ci_high for known in beyond]
    for place, arm in enumerate(arms):
        table[f"share_{arm}"] = [shares[place] for _, _, shares in found]
    start = pd.DataFrame({name: [0.0] for name in table.columns})
    return pd.concat([start, table], ignore_index=True)


def _taken(
    each: Floats, ranking: Floats, folds: Ints | None, shares: Floats
) -> tuple[Floats, Floats]:
    """Sum over the first of each share by the number of all, with its influence."""

    def sums(place: Places, rows: Ints) -> tuple[Floats, Floats]:
        ordered = each[rows][place.order]
        found, influence = np.empty(len(shares)), np.empty((len(rows), len(shares)))
        for number, share in enumerate(shares):
            inside = place.inside(float(share))
            found[number] = inside @ ordered / len(rows)
            edge = ordered[place.near(float(share))].mean()
            influence[place.order, number] = inside * (ordered - edge)
        return found, influence

    return fold_by_fold(ranking, folds, sums)


def _chosen_elsewhere(
    scores: Scores,
    each: Floats,
    ranking: Floats,
    shares: Floats,
    unit: str,
    rng: int | np.random.Generator,
) -> Measured:
    """Profit of the cut that the other parts would choose, part by part."""
    n = len(each)
    cluster = np.arange(n) if scores.clusters is None else scores.clusters
    generator = np.random.default_rng(rng)
    part = generator.permutation(np.arange(int(cluster.max()) + 1) % _PARTS)[cluster]
    taken = np.zeros(n)
    for rows in by_fold(n, scores.folds):
        # places among all units of the fold: a cut is a share of them, whatever the part
        place = places(ranking[rows])
        above = np.empty(len(rows))
        above[place.order] = ((place.start + place.end) / 2 / len(rows))[place.group]
        for number in range(_PARTS):
            other, own = part[rows] != number, part[rows] == number
            ordered = places(-above[other])
            worth = np.cumsum(each[rows][other][ordered.order])
            at = np.searchsorted(above[other][ordered.order], shares, side="right")
            reached = np.append(0.0, np.append(0.0, worth)[at])
            cut = np.append(0.0, shares)[int(reached.argmax())]
            taken[rows[own & (above <= cut)]] = 1.0
    influence = taken * each
    return _in_money(scores, float(influence.mean()), influence, unit)


def _in_money(scores: Scores, value: float, influence: Floats, unit: str) -> Measured:
    found = scores.measure(value, influence)
    return Measured(found.value, found.influence, unit)


def _prices(costs: pd.Series | pd.DataFrame, arms: list[str], scores: Scores) -> Floats:
    have = costs.columns if isinstance(costs, pd.DataFrame) else costs.index
    if missing := sorted(set(arms) - set(map(str, have))):
        raise ContractError(f"there is no cost for {', '.join(missing)}")
    if isinstance(costs, pd.DataFrame):
        price = costs.loc[scores.index, arms].to_numpy(float)
    else:
        price = np.tile(costs[arms].to_numpy(float), (len(scores), 1))
    if bad := int((~(price > 0)).any(axis=1).sum()):
        raise ContractError(f"costs must lie above 0; {bad} of {len(price)} rows do not")
    return price


def _hull_steps(forecast: Floats, price: Floats) -> dict[str, np.ndarray]:
    """Steps along each unit's upper hull of (cost, effect), all units' by falling steepness."""
    n, arms = forecast.shape
    current_cost, current_gain = np.zeros(n), np.zeros(n)
    current = np.full(n, -1)
    parts = []
    for _ in range(arms):
        further = price - current_cost[:, None]
        better = forecast - current_gain[:, None]
        # a cheaper arm that brings more lies on a steeper step and was taken before
        slope = np.where(further > 0, better / np.where(further > 0, further, 1.0), -np.inf)
        slope = np.where(better > 0, slope, -np.inf)
        best = slope.argmax(axis=1)
        who = np.flatnonzero(slope[np.arange(n), best] > 0)
        if not len(who):
            break
        arm = best[who]
        parts.append((who, current[who], arm, price[who, arm] - current_cost[who], slope[who, arm]))
        current_cost[who], current_gain[who] = price[who, arm], forecast[who, arm]
        current[who] = arm
    if not parts:
        raise ContractError("no arm has a positive predicted effect for anybody: spend nothing")
    joined = [np.concatenate(column) for column in zip(*parts, strict=True)]
    order = np.argsort(-joined[4], kind="stable")
    names = ("unit", "from", "to", "cost", "slope")
    return {name: column[order] for name, column in zip(names, joined, strict=True)}


def _spent(
    scores: Scores,
    steps: dict[str, np.ndarray],
    gains: Floats,
    budgets: Floats,
    *,
    mixed: bool = False,
) -> list[tuple[Measured, float, Floats]]:
    """Gain, money spent and arm shares at each budget; ``mixed``: all units take the same mix."""
    n, arms = gains.shape
    padded = np.column_stack([gains, np.zeros(n)])
    worth = padded[steps["unit"], steps["to"]] - padded[steps["unit"], steps["from"]]
    spent = np.cumsum(steps["cost"]) / n
    answer = []
    for budget in budgets:
        if mixed:
            share = _shared(steps, spent, budget)
        else:
            before = np.append(0.0, spent[:-1])
            share = np.clip((budget - before) / (spent - before), 0.0, 1.0)
        gain = np.bincount(steps["unit"], weights=share * worth, minlength=n)
        cost = np.bincount(steps["unit"], weights=share * steps["cost"], minlength=n)
        total = float(cost.mean())
        rate = 0.0
        if not mixed and total < spent[-1]:
            cut = int(np.searchsorted(spent, budget))
            width = max(10, round(0.05 * len(spent)))
            near = slice(max(cut - width, 0), cut + width)
            rate = float(worth[near].sum() / steps["cost"][near].sum())
        # whose money it takes to stay within the budget is drawn too: worth ``rate`` each
        influence = gain - rate * cost
        shares = np.zeros(arms + 1)
        np.add.at(shares, steps["to"], share)
        np.add.at(shares, steps["from"], -share)
        point = scores.measure(float(gain.mean()), influence)
        answer.append((point, total, shares[:arms] / n))
    return answer


def _shared(steps: dict[str, np.ndarray], spent: Floats, budget: float) -> Floats:
    """The same part of each step of equal steepness for every unit."""
    edges = np.append(np.flatnonzero(np.diff(steps["slope"]) != 0), len(spent) - 1)
    share, before = np.zeros(len(spent)), 0.0
    start = 0
    for edge in edges:
        part = np.clip((budget - before) / (spent[edge] - before), 0.0, 1.0)
        share[start : edge + 1] = part
        before, start = float(spent[edge]), int(edge) + 1
        if part < 1:
            break
    return share
