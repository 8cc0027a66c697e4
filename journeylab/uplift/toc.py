"""How much more those ranked first are changed than everybody: the TOC and its summaries.

``TOC(q)`` is the mean effect among the first share ``q`` of a ranking less the mean effect of all.
``AUTOC`` is its plain mean over q: it asks whether the first are well chosen. ``QINI`` is its mean
weighted by q: it asks whether the whole ranking is good. Both are 0 for a ranking by chance,
whatever the size of the average effect, and both are linear in the scores, so that any outcome
(visits, money, money less costs) may be used.

Source:
    Yadlowsky, Fleming, Shah, Brunskill & Wager, "Evaluating Treatment Prioritization Rules via
    Rank-Weighted Average Treatment Effects", Journal of the American Statistical Association
    (2025); arXiv 2111.07966, definitions 1 and 2. The weights agree with the R package grf: AUTOC
    weights TOC by 1, not by 1 / q.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import pandas as pd
from scipy.special import ndtri

from journeylab.errors import ContractError
from journeylab.estimate import Measured
from journeylab.uplift.ranks import Places, by_fold, fold_by_fold
from journeylab.uplift.scores import Floats, Ints, Ranking, Scores

_GRID = tuple((np.arange(1, 51) / 50).tolist())


def autoc(scores: Scores, ranking: Ranking, arm: str | None = None) -> Measured:
    """Area under the TOC curve: the plain mean of ``TOC(k / n)`` over k = 1..n.

    Args:
        scores: Of units that had no part in making the ranking.
        ranking: One number per unit, highest treated first; only the order counts.
        arm: Whose effect; may be left out where there is one arm beside the control.

    Returns:
        In the outcome's unit; 0 for a ranking by chance.

    Raises:
        ContractError: As ``Scores.effect`` and ``Scores.aligned``.
    """
    return _ranked_mean(scores, ranking, arm, "autoc")


def qini_rate(scores: Scores, ranking: Ranking, arm: str | None = None) -> Measured:
    """TOC weighted by q: the mean of ``(k / n) TOC(k / n)`` over k = 1..n.

    Args:
        scores: As for ``autoc``.
        ranking: As for ``autoc``.
        arm: As for ``autoc``.

    Returns:
        In the outcome's unit; 0 for a ranking by chance. Twice this is the area between the
        uplift curve per head and the diagonal, as a share of the unit square's half.

    Raises:
        ContractError: As ``Scores.effect`` and ``Scores.aligned``.
    """
    return _ranked_mean(scores, ranking, arm, "qini")


def uplift_at(scores: Scores, ranking: Ranking, share: float, arm: str | None = None) -> Measured:
    """Mean effect among the first ``share`` of a ranking.

    Args:
        scores: As for ``autoc``.
        ranking: As for ``autoc``.
        share: Of the units (0-1]; in each fold, where there are folds.
        arm: As for ``autoc``.

    Returns:
        In the outcome's unit; the mean effect of all at ``share`` 1.

    Raises:
        ContractError: The share is not in (0, 1], or as ``Scores.aligned``.
    """
    value, influence = _first(scores, ranking, arm, (share,))
    return scores.measure(float(value[0]), influence[:, 0])


def toc(
    scores: Scores,
    ranking: Ranking,
    arm: str | None = None,
    *,
    at: Sequence[float] = _GRID,
    level: float = 0.95,
    rng: int | np.random.Generator = 0,
    draws: int = 2000,
) -> pd.DataFrame:
    """The TOC curve with intervals at each share, and a band for all of it.

    Args:
        scores: As for ``autoc``.
        ranking: As for ``autoc``.
        arm: As for ``autoc``.
        at: Shares (0-1].
        level: Coverage (0-1), of each interval and of the whole band.
        rng: Seed or generator of the band's Gaussian draws.
        draws: Of them.

    Returns:
        One row per share: ``share``; ``uplift`` (mean effect among the first); ``toc`` (the same
        less the mean effect of all), ``standard_error, ci_low, ci_high`` (of ``toc``, at this share
        alone) and ``band_low, band_high`` (the curve lies within at all shares at once).

    Raises:
        ContractError: A share is not in (0, 1], or as ``Scores.aligned``.
    """
    value, influence = _first(scores, ranking, arm, tuple(at))
    effect = scores.effect(arm)
    mean, own = float(effect.mean()), effect.copy()
    for fold in by_fold(len(own), scores.folds):
        own[fold] -= own[fold].mean()
    rows = [
        # all of them differ from all of them by nothing, to the last digit
        scores.measure(float(top) - mean, influence[:, place] - own)
        if at[place] < 1
        else scores.measure(0.0, np.zeros(len(own)))
        for place, top in enumerate(value)
    ]
    table = curve(list(at), rows, level, rng, draws).rename(columns={"value": "toc"})
    table.insert(1, "uplift", value)
    return table


def gains(table: pd.DataFrame) -> pd.DataFrame:
    """The uplift curve above chance (Qini's): how much more the first bring than as many by chance.

    Args:
        table: From ``toc``.

    Returns:
        ``share``; ``gain`` (``share * toc``, per head of all), ``ci_low, ci_high, band_low,
        band_high``; it begins at 0 and ends there.
    """
    share = table["share"]
    found = pd.DataFrame({"share": share, "gain": share * table["toc"]})
    for name in ("ci_low", "ci_high", "band_low", "band_high"):
        found[name] = share * table[name]
    start = pd.DataFrame({name: [0.0] for name in found.columns})
    return pd.concat([start, found], ignore_index=True)


def curve(
    shares: Sequence[float],
    points: Sequence[Measured],
    level: float,
    rng: int | np.random.Generator,
    draws: int,
) -> pd.DataFrame:
    """Points of a curve with an interval each, and a band that holds all of them at once.

    Args:
        shares: Where each point lies.
        points: Statistics of the same units.
        level: Coverage (0-1).
        rng: Seed or generator.
        draws: Gaussian draws from the points' covariance, for the band's width.

    Returns:
        ``share, value, standard_error, ci_low, ci_high, band_low, band_high``.
    """
    values = np.array([point.value for point in points])
    stacked = np.array([point.influence for point in points])
    covariance = stacked @ stacked.T
    error = np.sqrt(np.diag(covariance))
    known = [point.estimate(level) for point in points]
    margin = np.array([point.ci_high - point.value for point in known])
    # a point whose error is nothing (the end of the TOC) has no part in the band
    free = error > 1e-9 * max(float(error.max()), np.finfo(float).tiny)
    wide = 1.0
    if free.sum() > 1:
        generator = np.random.default_rng(rng)
        shape = covariance[np.ix_(free, free)] / np.outer(error[free], error[free])
        drawn = generator.multivariate_normal(
            np.zeros(int(free.sum())), shape, size=draws, check_valid="ignore", method="eigh"
        )
        one = float(ndtri((1 + level) / 2))
        wide = max(float(np.quantile(np.abs(drawn).max(axis=1), level)) / one, 1.0)
    return pd.DataFrame(
        {
            "share": list(shares),
            "value": values,
            "standard_error": error,
            "ci_low": values - margin,
            "ci_high": values + margin,
            "band_low": values - wide * margin,
            "band_high": values + wide * margin,
        }
    )


def _first(
    scores: Scores, ranking: Ranking, arm: str | None, shares: tuple[float, ...]
) -> tuple[Floats, Floats]:
    """Mean effect among the first of each share, and its influence."""
    bad = [share for share in shares if not 0 < share <= 1]
    if bad or not shares:
        raise ContractError(f"shares must lie in (0, 1]; got {bad or 'none'}")
    effect, order = scores.effect(arm), scores.aligned(ranking)

    def means(place: Places, rows: Ints) -> tuple[Floats, Floats]:
        ordered = effect[rows][place.order]
        found, each = np.empty(len(shares)), np.empty((len(rows), len(shares)))
        for number, share in enumerate(shares):
            inside = place.inside(share)
            found[number] = inside @ ordered / (share * len(rows))
            # where the cut falls is itself drawn: one more unit above it pushes one out, whose
            # effect is that of units about the cut
            edge = ordered[place.near(share)].mean()
            each[place.order, number] = (inside * ordered - edge * inside) / share
        return found, each

    return fold_by_fold(order, scores.folds, means)


def _ranked_mean(scores: Scores, ranking: Ranking, arm: str | None, kind: str) -> Measured:
    effect, order = scores.effect(arm), scores.aligned(ranking)

    def weighted(place: Places, rows: Ints) -> tuple[Floats, Floats]:
        if len(place.start) == 1:  # all tied: no ranking at all, to the last digit
            return np.zeros(1), np.zeros((len(rows), 1))
        ordered = effect[rows][place.order]
        ordered = ordered - ordered.mean()
        weights, edges = _weights(len(rows), kind)
        shared, effects = place.means(weights), place.means(ordered)
        found = float(shared @ np.add.reduceat(ordered, place.start)) / len(rows)
        # Summed by parts: how the value moves where the share above each group moves
        steps = (effects - np.append(effects[1:], 0.0)) * edges[place.end - 1]
        tail = np.cumsum(steps[::-1])[::-1]
        each = np.empty((len(rows), 1))
        own = shared[place.group] * (ordered - effects[place.group])
        each[place.order, 0] = own + tail[place.group]
        return np.array([found]), each

    value, influence = fold_by_fold(order, scores.folds, weighted)
    return scores.measure(float(value[0]), influence[:, 0])


@lru_cache(maxsize=64)
def _weights(n: int, kind: str) -> tuple[Floats, Floats]:
    """Weight of each place, and of the edge behind it; the former add up to 0."""
    rank = np.arange(1, n + 1)
    if kind == "autoc":
        weights = np.cumsum(1 / rank[::-1])[::-1] - 1
    else:
        weights = (n + 1 - 2 * rank) / (2 * n)
    return weights, (weights + np.append(weights[1:], weights[-1])) / 2
