"""Trees on the hazard: rows of customer and bin, or customers with outputs for every bin."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from journeylab.churn.bins import Bins, exposure
from journeylab.churn.hazard_settings import HazardSettings
from journeylab.churn.observations import Observations
from journeylab.churn.person_periods import PersonPeriods

Singles = npt.NDArray[np.float32]
# Gradients are rounded to so many steps of the largest one: their sums are then exact in double,
# and a tree does not depend on the order in which threads add them.
_STEPS = float(2**21)
_CUT_ROWS = 50_000


@dataclass(frozen=True, slots=True, eq=False)
class Lesson:
    """Rows to learn from or to be judged by, as the trees see them.

    Attributes:
        matrix: Numbers of each row, NaN where missing.
        base: Margin before any tree, ``(rows, outputs)``; vector: one of each bin and cause, the
            causes of a bin side by side, against 0 for no event.
        target: Sampled: what happened, 0 for nothing. Vector: ``(rows, bins)``, the number of the
            cause in the bin of the event, 0 elsewhere.
        weight: Sampled: of each row, ``(rows, 1)``. Vector: ``(rows, bins)``, 0 for bins that the
            row was not at risk in.
    """

    matrix: Singles
    base: Singles
    target: npt.NDArray[np.int8]
    weight: Singles

    @property
    def outputs(self) -> int:
        """Margins per row."""
        return int(self.base.shape[1])

    @property
    def causes(self) -> int:
        """Margins per bin of the vector layout."""
        return self.outputs // int(self.target.shape[1])


def sampled_lesson(covariates: Singles, periods: PersonPeriods, bins: Bins) -> Lesson:
    """One row per customer and bin: the numbers, then the number of the bin."""
    matrix = np.empty((len(periods), covariates.shape[1] + 1), dtype=np.float32)
    np.take(covariates, periods.row, axis=0, out=matrix[:, :-1])
    matrix[:, -1] = periods.bin
    return Lesson(matrix, class_margins(bins)[periods.bin], periods.cause, periods.weight[:, None])


def vector_lesson(covariates: Singles, rows: Observations, bins: Bins) -> Lesson:
    """One row per customer, outputs for each bin, masked where the customer was not at risk."""
    share, event_bin = exposure(rows, bins.edges)
    share *= bins.correction.astype(np.float32)
    target = np.zeros(share.shape, dtype=np.int8)
    seen = np.flatnonzero(event_bin >= 0)
    target[seen, event_bin[seen]] = rows.cause[seen]
    share[seen, event_bin[seen]] = 1.0
    margins = bins.margins().reshape(-1)
    base = np.broadcast_to(margins, (len(share), len(margins))).astype(np.float32)
    return Lesson(covariates, np.ascontiguousarray(base), target, share)


def class_margins(bins: Bins) -> Singles:
    """Margins of each bin for the sampled layout: one, or with causes one for each and none."""
    margins = bins.margins()
    if margins.shape[1] == 1:
        return margins
    return np.hstack([np.zeros((len(margins), 1), dtype=np.float32), margins])


def grow(
    lesson: Lesson,
    settings: HazardSettings,
    seed: int,
    *,
    layout: str,
    monotone: Sequence[int] | None = None,
    judged: Lesson | None = None,
    patience: int = 25,
) -> tuple[Any, list[float]]:
    """Grow the trees.

    Args:
        lesson: What to learn from.
        settings: How.
        seed: Of the rows and columns that each tree sees.
        layout: ``sampled`` or ``vector``.
        monotone: Per number of the matrix -1, 0 or 1.
        judged: Rows to judge every round by.
        patience: Stop after so many rounds without a better judgement.

    Returns:
        The ``xgboost.Booster``, and the loss on ``judged`` before and after each round.
    """
    import xgboost

    cuts = {"max_bin": settings.cuts, "nthread": settings.threads}
    # thresholds from a part of the rows, evenly taken: a fifth of the time, the same trees
    step = -(-len(lesson.matrix) // _CUT_ROWS)
    thresholds = xgboost.QuantileDMatrix(lesson.matrix[::step], **cuts)
    data = xgboost.QuantileDMatrix(
        lesson.matrix, base_margin=_flat(lesson.base), ref=thresholds, **cuts
    )
    outputs = lesson.outputs
    parameters: dict[str, Any] = {
        "tree_method": "hist",
        "device": "cpu",
        "max_depth": settings.depth,
        "eta": settings.eta,
        "min_child_weight": settings.least_events / (outputs if layout == "vector" else 1),
        "lambda": settings.shrinkage / (outputs if layout == "vector" else 1),
        "subsample": settings.subsample,
        "colsample_bytree": settings.columns,
        "base_score": 0.0,
        "seed": seed,
        "disable_default_eval_metric": 1,
        **cuts,
    }
    if layout == "vector":
        parameters |= {"multi_strategy": "multi_output_tree", "num_target": outputs}
    elif outputs > 1:
        parameters["num_class"] = outputs
    if monotone is not None and any(monotone):
        parameters["monotone_constraints"] = tuple(monotone)
    booster = xgboost.Booster(parameters, [data])
    gradient = _logistic_gradient
    if layout == "vector" and lesson.causes > 1:
        gradient = _joint_gradient
    elif layout != "vector" and outputs > 1:
        gradient = _softmax_gradient
    losses, watched = [], None
    if judged is not None:
        watched = xgboost.QuantileDMatrix(
            judged.matrix, base_margin=_flat(judged.base), ref=data, **cuts
        )
        losses.append(loss(judged, judged.base, layout))
    if settings.rounds == 0:
        # a booster without any tree can be neither asked nor saved: one that says 0 can
        empty = np.zeros(lesson.base.shape, dtype=np.float32)
        booster.boost(data, 0, grad=empty, hess=empty + 1)
    for number in range(settings.rounds):
        margin = booster.predict(data, output_margin=True, training=True)
        first, second = gradient(lesson, margin.reshape(lesson.base.shape))
        booster.boost(data, number, grad=first, hess=second)
        if judged is not None:
            margin = booster.predict(watched, output_margin=True)
            losses.append(loss(judged, margin.reshape(judged.base.shape), layout))
            if len(losses) - 1 - int(np.argmin(losses)) >= patience:
                break
    return booster, losses


def loss(lesson: Lesson, margin: Singles, layout: str) -> float:
    """Negative log-likelihood of what happened, summed over weighted rows."""
    margin = margin.astype(np.float64)
    if layout != "vector" and lesson.outputs > 1:
        total = np.logaddexp.reduce(margin, axis=1)
        chosen = np.take_along_axis(margin, lesson.target[:, None].astype(np.int64), axis=1)
        return float(((total - chosen[:, 0]) * lesson.weight[:, 0]).sum())
    if layout == "vector" and lesson.causes > 1:
        by_bin = margin.reshape(*lesson.target.shape, lesson.causes)
        total = np.logaddexp(0.0, np.logaddexp.reduce(by_bin, axis=2))
        place = np.maximum(lesson.target.astype(np.int64) - 1, 0)[:, :, None]
        chosen = np.take_along_axis(by_bin, place, axis=2)[:, :, 0] * (lesson.target > 0)
        return float(((total - chosen) * lesson.weight).sum())
    target = lesson.target if layout == "vector" else lesson.target[:, None]
    return float(((np.logaddexp(0.0, margin) - target * margin) * lesson.weight).sum())


def predict_margins(booster: Any, matrix: Singles, base: Singles, threads: int) -> Singles:
    """Margins of the rows, ``(rows, outputs)``."""
    booster.set_param({"nthread": threads})
    found = booster.inplace_predict(matrix, predict_type="margin")
    return np.asarray(found, dtype=np.float32).reshape(base.shape) + base


def _logistic_gradient(lesson: Lesson, margin: Singles) -> tuple[Singles, Singles]:
    target = lesson.target if lesson.target.ndim == 2 else lesson.target[:, None]
    chance = np.exp(-np.maximum(margin, -80.0))
    chance += 1
    np.reciprocal(chance, out=chance)
    second = chance * (1 - chance)
    second *= lesson.weight
    chance -= target
    chance *= lesson.weight
    return _rounded(chance), _rounded(second)


def _softmax_gradient(lesson: Lesson, margin: Singles) -> tuple[Singles, Singles]:
    raised = np.exp(margin - margin.max(axis=1, keepdims=True))
    chance = raised / raised.sum(axis=1, keepdims=True)
    second = chance * (1 - chance) * lesson.weight
    chance[np.arange(len(chance)), lesson.target.astype(np.int64)] -= 1
    return _rounded(chance * lesson.weight), _rounded(second)


def _joint_gradient(lesson: Lesson, margin: Singles) -> tuple[Singles, Singles]:
    """Softmax of every bin over its causes and no event, whose margin is 0."""
    by_bin = margin.reshape(*lesson.target.shape, lesson.causes)
    most = np.maximum(by_bin.max(axis=2, keepdims=True), 0)
    chance = np.exp(by_bin - most)
    chance /= chance.sum(axis=2, keepdims=True) + np.exp(-most)
    weight = lesson.weight[:, :, None]
    second = chance * (1 - chance) * weight
    row, place = np.nonzero(lesson.target)
    chance[row, place, lesson.target[row, place].astype(np.int64) - 1] -= 1
    first = chance * weight
    return _rounded(first.reshape(margin.shape)), _rounded(second.reshape(margin.shape))


def _rounded(values: Singles) -> Singles:
    most = max(float(values.max()), -float(values.min()))
    step = np.float32(2.0 ** np.ceil(np.log2(most or 1.0)) / _STEPS)
    values *= 1 / step
    np.rint(values, out=values)
    values *= step
    return values


def _flat(base: Singles) -> Singles:
    return base[:, 0] if base.shape[1] == 1 else base
