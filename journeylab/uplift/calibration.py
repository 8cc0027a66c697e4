"""Whether predicted effects are the size of the effects found, in groups and in slope."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from journeylab.errors import ContractError
from journeylab.estimate import Estimate, Measured
from journeylab.uplift.ranks import by_fold, places
from journeylab.uplift.scores import Floats, Ints, Ranking, Scores

_FEWEST_IN_GROUP = 2


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """Predicted beside found effects.

    Attributes:
        table: One row per group, from the lowest predicted effect: ``group`` (from 1), ``units,
            predicted`` (mean), ``effect`` (mean score: the group's average effect),
            ``standard_error, ci_low, ci_high``; ``inside`` where the prediction lies within.
        slope: Of the found effect on the predicted one: 1 where differences between customers are
            as large as predicted, 0 where the prediction says nothing of them. Missing (``None``)
            where all predictions are the same.
        off: Mean found effect less mean predicted effect: 0 where the level is right.
        top_less_bottom: Effect of the last group less that of the first.
    """

    table: pd.DataFrame
    slope: Measured | None
    off: Measured
    top_less_bottom: Measured

    def finding(self, flat: bool = False) -> str:
        """One line: what the slope says.

        Args:
            flat: Whether no ranking was told from chance: then nothing is to be read from it.
        """
        if self.slope is None:
            return "Everybody is predicted the same effect"
        if flat:
            return "Not told from chance: read nothing from these groups"
        known = self.slope.estimate()
        if known.ci_low > 0:
            if known.ci_low <= 1 <= known.ci_high:
                return f"Predicted differences are as large as found (slope {known.value:.2f})"
            size = "smaller" if known.value < 1 else "larger"
            return f"Differences found are {size} than predicted (slope {known.value:.2f})"
        return f"Nothing shows that predicted differences are real (slope {known.value:.2f})"


def calibration(
    scores: Scores,
    predicted: Ranking,
    arm: str | None = None,
    *,
    groups: int = 10,
    level: float = 0.95,
) -> Calibration:
    """Predicted beside found effects, of units that had no part in the prediction.

    Args:
        scores: Doubly robust scores.
        predicted: Predicted effect per unit, in the outcome's unit.
        arm: Whose effect; may be left out where there is one arm beside the control.
        groups: Of equal size by predicted effect, within each fold; the tied stay together, and
            what they leave of a group, if less than half of it, joins its neighbour.
        level: Coverage of the table's intervals (0-1).

    Raises:
        ContractError: Fewer than two groups, or fewer than two units for a group; or as
            ``Scores.aligned``.

    Source:
        Chernozhukov, Demirer, Duflo & Fernandez-Val, "Fisher-Schultz Lecture: Generic Machine
        Learning Inference on Heterogeneous Treatment Effects" (2025): sorted group average
        effects, best linear predictor.
    """
    effect, forecast = scores.effect(arm), scores.aligned(predicted, "predicted")
    n = len(scores)
    if groups < 2 or n < _FEWEST_IN_GROUP * groups:
        raise ContractError(f"{n} units cannot fill {groups} groups of two or more")
    group = merged_groups(sorted_groups(scores, predicted, groups), n // (2 * groups))
    rows = []
    means: list[Measured] = []
    for number in np.unique(group).tolist():
        own = group == number
        if (size := int(own.sum())) < _FEWEST_IN_GROUP:
            continue
        means.append(group_mean(scores, effect, own))
        known = means[-1].estimate(level)
        mean = float(forecast[own].mean())
        rows.append(
            {
                "group": number,
                "units": size,
                "predicted": mean,
                "effect": known.value,
                "standard_error": means[-1].standard_error,
                "ci_low": known.ci_low,
                "ci_high": known.ci_high,
                "inside": known.ci_low <= mean <= known.ci_high,
            }
        )
    error = effect - forecast
    return Calibration(
        table=pd.DataFrame(rows),
        slope=_slope(scores, effect, forecast),
        off=scores.measure(float(error.mean()), error),
        top_less_bottom=means[-1].minus(means[0]),
    )


def sorted_groups(scores: Scores, predicted: Ranking, groups: int) -> Ints:
    """Group (1 the lowest) of each unit by predicted effect; the tied stay together."""
    forecast = scores.aligned(predicted, "predicted")
    group = np.empty(len(scores), dtype=np.int64)
    for rows in by_fold(len(scores), scores.folds):
        place = places(-forecast[rows])
        middle = (place.start + place.end) / 2 / len(rows)
        group[rows[place.order]] = np.minimum((middle * groups).astype(int), groups - 1)[
            place.group
        ]
    return group + 1


def merged_groups(group: Ints, fewest: int) -> Ints:
    """Groups of too few are joined to the one below, the lowest to the one above."""
    found = group.copy()
    while True:
        labels, counts = np.unique(found, return_counts=True)
        small = np.flatnonzero(counts < fewest)
        if not len(small) or len(labels) == 1:
            return found
        place = int(small[0])
        found[found == labels[place]] = labels[place - 1] if place else labels[1]


def group_mean(scores: Scores, each: Floats, own: NDArray[np.bool_]) -> Measured:
    """Mean of some units' numbers, with its influence over all units."""
    share = float(own.mean())
    if not share:
        raise ContractError("a group without units has no mean")
    mean = float(each[own].mean())
    return scores.measure(mean, own * (each - mean) / share)


def effects_by_group(
    scores: Scores, group: pd.Series, arm: str | None = None, level: float = 0.95
) -> pd.DataFrame:
    """Average effect of each group (GATES): groups made without looking at these outcomes.

    Args:
        scores: Doubly robust scores.
        group: Label per unit.
        arm: As for ``calibration``.
        level: Coverage (0-1).

    Returns:
        One row per group, sorted: ``group, units, baseline`` (mean outcome under the control),
        ``effect, standard_error, ci_low, ci_high``; groups of one unit are left out.
    """
    effect = scores.effect(arm)
    if not group.index.equals(scores.index):
        raise ContractError(
            f"group has another index than the scores: {len(group)} rows against {len(scores)}"
        )
    rows = []
    for label in sorted(group.dropna().unique()):
        own = (group == label).to_numpy()
        if (size := int(own.sum())) < _FEWEST_IN_GROUP:
            continue
        mean = group_mean(scores, effect, own)
        known: Estimate = mean.estimate(level)
        baseline = float(scores.values[own, 0].mean())
        row = (label, size, baseline, known.value, mean.standard_error, known.ci_low, known.ci_high)
        rows.append(row)
    columns = ["group", "units", "baseline", "effect", "standard_error", "ci_low", "ci_high"]
    return pd.DataFrame(rows, columns=columns)


def effects_by_baseline(
    scores: Scores,
    predicted: Ranking,
    arm: str | None = None,
    *,
    groups: int = 3,
    fewest: int = 100,
    level: float = 0.95,
) -> pd.DataFrame:
    """Average effects of groups by expected outcome without treatment and by predicted effect.

    These are averages of groups. Who would have bought anyway and who was persuaded is not known
    of any one person: one of the two outcomes is never seen.

    Args:
        scores: Doubly robust scores; their predictions give the outcome without treatment.
        predicted: Predicted effect per unit, made without these outcomes.
        arm: As for ``calibration``.
        groups: Of either kind, of equal size.
        fewest: Units of a pair that is shown.
        level: Coverage (0-1).

    Returns:
        One row per pair with so many units: ``baseline_group, effect_group`` (texts from low
        to high), ``units, baseline, effect, standard_error, ci_low, ci_high``.

    Raises:
        ContractError: As ``calibration``.
    """
    if groups < 2:
        raise ContractError(f"groups must be 2 or more; got {groups}")
    words = ["low", "middle", "high"] if groups == 3 else [f"{n + 1}" for n in range(groups)]
    by_effect = sorted_groups(scores, predicted, groups) - 1
    by_baseline = sorted_groups(scores, scores.predicted[:, 0], groups) - 1
    pair = pd.Series(by_baseline * groups + by_effect, scores.index)
    table = effects_by_group(scores, pair, arm, level)
    number = table["group"].to_numpy(int)
    table.insert(0, "baseline_group", [f"{words[n // groups]} baseline" for n in number])
    table.insert(1, "effect_group", [f"{words[n % groups]} effect" for n in number])
    table = table[table["units"] >= fewest]
    return table.drop(columns="group").reset_index(drop=True)


def _slope(scores: Scores, effect: Floats, forecast: Floats) -> Measured | None:
    """Least squares of scores on predictions, each less its fold's mean."""
    x, y = forecast.astype(float).copy(), effect.astype(float).copy()
    for rows in by_fold(len(scores), scores.folds):
        x[rows] -= x[rows].mean()
        y[rows] -= y[rows].mean()
    spread = float(np.square(x).mean())
    if spread <= 1e-24 * max(float(np.square(forecast).mean()), np.finfo(float).tiny):
        return None
    slope = float((x * y).mean()) / spread
    measured = scores.measure(slope, x * (y - slope * x) / spread)
    return Measured(measured.value, measured.influence, "slope")
