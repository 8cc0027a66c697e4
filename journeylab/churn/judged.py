"""One forecast judged on rows with known outcomes: what each customer adds to each score."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from journeylab.churn.auc import auc_at, spread
from journeylab.churn.brier import clustered_error, squared_error, trapezoid_weights
from journeylab.churn.censoring import Floats, Outcomes
from journeylab.churn.concordance import harrell_pairs, uno_pairs
from journeylab.churn.d_calibration import DCalibration, spread_of_cause, spread_over_bins

_D_BINS = 10
RANKINGS = ("harrell_c", "uno_c", "auc")


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """A score of the order, and what each customer adds to it to first order.

    Attributes:
        value: The score.
        moves: ``(customers,)``, adding up to 0.
    """

    value: float
    moves: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """One forecast on the rows.

    Attributes:
        loss: Squared error averaged over the times, summed by customer, ``(customers,)``; a time
            before a row's start adds nothing.
        brier: Per time, the Brier score and its standard error.
        auc_at: Per time, the AUC and its standard error; None where there is none.
        rankings: ``harrell_c``, ``uno_c`` and ``auc`` (mean over the times).
        bins: D-calibration.
    """

    loss: Floats
    brier: tuple[tuple[float, float], ...]
    auc_at: tuple[tuple[float, float] | None, ...]
    rankings: Mapping[str, Ranking]
    bins: DCalibration


def judge_forecast(
    known: Outcomes,
    survival: Floats,
    risk: Floats,
    times: Floats,
    shares: Floats,
    *,
    by_risk: bool,
    level: float,
) -> Judged:
    """Judge one forecast.

    Args:
        known: What became of the rows.
        survival: ``(rows, times)``.
        risk: ``(rows,)``, larger for whom the event is expected sooner.
        times: Ascending.
        shares: Of the events by the last time, per time (from ``event_shares``).
        by_risk: Whether AUC reads ``risk`` at all times instead of the survival at each.
        level: Coverage of the bins' intervals.
    """
    loss = np.zeros(len(survival))
    brier: list[tuple[float, float]] = []
    aucs: list[tuple[float, float] | None] = []
    mean, moves, weight = 0.0, np.zeros(len(survival)), 0.0
    for number, (time, part) in enumerate(zip(times, trapezoid_weights(times), strict=True)):
        own, here = known.in_play(time)
        chance = survival[here, number]
        error = squared_error(own, chance, time)
        brier.append((float(error.mean()), clustered_error(own, error)))
        loss[here] += part * error
        found = auc_at(own, risk[here] if by_risk else -chance, time)
        if found is None:
            aucs.append(None)
            continue
        aucs.append((found[0], spread(own, found[1])))
        mean += shares[number] * found[0]
        moves[here] += shares[number] * found[1]
        weight += shares[number]
    # times by which nobody or everybody had the event have no AUC: the others share their weight
    rankings = {
        "auc": Ranking(mean / weight, known.sums(moves / weight))
        if weight > 0
        else Ranking(0.5, np.zeros(known.customers))
    }
    for name, pairs in (
        ("harrell_c", harrell_pairs(known, risk)),
        ("uno_c", uno_pairs(known, risk, float(times[-1]))),
    ):
        rankings[name] = Ranking(pairs.share, known.sums(pairs.influence()))
    curve = np.column_stack([np.ones(len(survival)), survival]).clip(0, 1)
    spread_bins = spread_of_cause if known.competing.any() else spread_over_bins
    bins = spread_bins(known, curve, np.append(0.0, times), _D_BINS, level)
    return Judged(known.sums(loss), tuple(brier), tuple(aucs), rankings, bins)


def redrawn(
    judged: Mapping[str, Judged],
    rows: Floats,
    against: str,
    draws: int,
    rng: np.random.Generator,
) -> dict[str, Floats]:
    """Every score of every forecast over customers drawn again, the same draws for all.

    Args:
        judged: Name -> forecast.
        rows: Of each customer.
        against: The forecast that skill is measured against.
        draws: How many.
        rng: Of the draws.

    Returns:
        ``ibs``, ``skill`` and each of ``RANKINGS`` -> ``(draws + 1, forecasts)``, the first row
        being the data themselves.
    """
    names, m = list(judged), len(rows)
    columns = [rows, *(judged[name].loss for name in names)]
    columns += [judged[name].rankings[kind].moves for kind in RANKINGS for name in names]
    each = np.stack(columns, axis=1)
    sums = np.empty((draws + 1, each.shape[1]))
    sums[0] = each.sum(axis=0)
    for draw in range(draws):
        counts = np.bincount(rng.integers(0, m, m), minlength=m)
        sums[draw + 1] = counts @ each
    k = len(names)
    ibs = sums[:, 1 : k + 1] / sums[:, :1]
    plain = ibs[:, [names.index(against)]]
    found = {"ibs": ibs, "skill": 1 - ibs / plain}
    for number, kind in enumerate(RANKINGS, start=1):
        value = np.array([judged[name].rankings[kind].value for name in names])
        moved = sums[:, 1 + number * k : 1 + (number + 1) * k]
        found[kind] = np.clip(value + moved, 0, 1)
        found[kind][0] = value
    return found
