"""Causal forest: effects as differences among like customers, where trees say who is alike.

Each tree is grown on a part of some units and speaks by the outcomes of others (honesty): no split
is praised by the noise that made it. A customer's effect is one least-squares slope of outcome
residuals on arm residuals, each other customer weighing as much as it shares leaves with the one
asked about.

Source: Athey, Tibshirani & Wager, "Generalized random forests", Annals of Statistics (2019). The
trees are xgboost's, which split by the gain in R-loss (Nie & Wager, 2021): what their gradient step
comes to at a node's own slope, without the local mean.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from journeylab.uplift.boosting import Features
from journeylab.uplift.folds import Folds
from journeylab.uplift.scores import Floats, Ints
from journeylab.uplift.settings import Forest, pieces

# Mean arm residual, outcome residual, their product, and the square of the first.
_MOMENTS = 4


@dataclass(frozen=True, slots=True, eq=False)
class Residuals:
    """What is left of arm and outcome once their expectations are taken off, of all rows.

    Attributes:
        arm: ``(rows,)``: 1 or 0, less the chance of the arm among it and the control.
        outcome: ``(rows,)``.
        weight: ``(rows,)``, above 0.
    """

    arm: Floats
    outcome: Floats
    weight: Floats


@dataclass(frozen=True, slots=True, eq=False)
class _Grove:
    """Trees grown on one half of the units, told by the other.

    Attributes:
        model: ``xgboost.Booster`` of parallel trees.
        means: Of each tree ``(nodes, 1 + moments)``: 1 and the weighted means of the moments in a
            leaf; all 0 where nobody of the other half is in it, as in the last, which stands for
            all nodes behind.
    """

    model: Any
    means: tuple[Floats, ...]

    def add(self, features: Features, total: Floats) -> None:
        """Add the moments of the leaves that some rows are in."""
        for means, leaves in zip(self.means, _leaves(self.model, features), strict=True):
            total += means[np.minimum(leaves, len(means) - 1)]


@dataclass(frozen=True, slots=True, eq=False)
class ForestStage:
    """Effects of one arm.

    Attributes:
        groves: Of each fold's model.
        averages: ``(folds,)`` average effect, for who shares a leaf with nobody.
    """

    groves: tuple[tuple[_Grove, ...], ...]
    averages: Floats

    def predict(self, features: Features) -> Floats:
        """Effects of rows that no model has seen, ``(rows,)``: the mean over the models."""
        everyone = np.arange(len(features))
        told = [self._told(model, features, everyone) for model in range(len(self.groves))]
        return np.asarray(np.mean(told, axis=0))

    def held_out(self, features: Features, folds: Folds) -> Floats:
        """For each row the mean of the models that have not seen it, ``(rows,)``."""
        found = np.empty(len(features))
        for fold in folds.range:
            rows = np.flatnonzero(folds.of_row == fold)
            told = [self._told(model, features, rows) for model in folds.speakers(fold)]
            found[rows] = np.mean(told, axis=0)
        return found

    def _told(self, model: int, features: Features, rows: Ints) -> Floats:
        found = np.empty(len(rows))
        for piece in pieces(len(rows)):
            own = features[rows[piece]]
            total = np.zeros((len(own), 1 + _MOMENTS))
            for grove in self.groves[model]:
                grove.add(own, total)
            found[piece] = _slopes(total, float(self.averages[model]))
        return found


def fit_forest(
    features: Features,
    residuals: Residuals,
    folds: Folds,
    settings: Forest,
    seed: int,
    *,
    rows: Ints,
    clusters: Ints | None = None,
    threads: int = 1,
) -> ForestStage:
    """Grow one forest per fold.

    Args:
        features: ``(rows, columns)`` of all rows.
        residuals: Of all rows.
        folds: Of all rows.
        settings: Of the trees.
        seed: Of halves, rows and columns.
        rows: Positions of those that say something about the arm.
        clusters: ``(rows,)`` from 0: rows of one cluster stay in one half.
        threads: Groves grown at the same time; changes no byte.
    """
    units = np.arange(len(features)) if clusters is None else clusters
    learns = [rows[folds.learns(fold)[rows]] for fold in folds.range]
    tasks = []
    for fold, own in enumerate(learns):
        draw = np.random.default_rng((seed, fold))
        there, unit = np.unique(units[own], return_inverse=True)
        for _ in range(settings.groves):
            # Dealt, not tossed: few clusters would leave a half empty now and then.
            half = (draw.permutation(len(there)) % 2 == 0)[unit]
            # Each half grows trees for the other.
            for inside, outside in ((own[half], own[~half]), (own[~half], own[half])):
                tasks.append((fold, int(draw.integers(2**31)), inside, outside))

    def grow(task: tuple[int, int, Ints, Ints]) -> _Grove:
        return _grove(features, residuals, settings, *task[1:])

    with ThreadPoolExecutor(max(1, threads)) as workers:
        made = list(workers.map(grow, tasks) if threads > 1 else map(grow, tasks))
    groves = [
        tuple(one for task, one in zip(tasks, made, strict=True) if task[0] == fold)
        for fold in folds.range
    ]
    averages = [_average(residuals, own) for own in learns]
    return ForestStage(tuple(groves), np.array(averages))


def _grove(
    features: Features,
    residuals: Residuals,
    settings: Forest,
    seed: int,
    inside: Ints,
    outside: Ints,
) -> _Grove:
    import xgboost

    left, weight = residuals.arm[inside], residuals.weight[inside]
    curvature = weight * left**2
    scale = float(curvature.mean())
    matrix = xgboost.QuantileDMatrix(
        features[inside],
        label=residuals.outcome[inside] / left,
        weight=curvature / scale,
        max_bin=settings.bins,
        nthread=1,
    )
    parameters = {
        "objective": "reg:squarederror",
        "base_score": _average(residuals, inside),
        "tree_method": "hist",
        "device": "cpu",
        "nthread": 1,
        "seed": seed,
        "seed_per_iteration": True,
        "num_parallel_tree": settings.trees,
        "eta": 1.0,
        "max_depth": settings.depth,
        "min_child_weight": settings.leaf,
        "lambda": 0.0,
        "subsample": min(settings.rows, settings.most / max(len(inside), 1)),
        "colsample_bynode": settings.columns,
        "max_bin": settings.bins,
        "verbosity": 0,
    }
    model = xgboost.train(parameters, matrix, num_boost_round=1)
    y, a, w = (part[outside] for part in (residuals.outcome, residuals.arm, residuals.weight))
    moments = (a, y, a * y, a * a)
    means = []
    for leaves in _leaves(model, features[outside]):
        # Node numbers behind the last that is seen, with nobody in them, share one empty row.
        size = int(leaves.max(initial=-1)) + 2
        mass = np.bincount(leaves, w, size)
        there = mass > 0
        table = np.zeros((size, 1 + _MOMENTS))
        table[there, 0] = 1.0
        for place, moment in enumerate(moments, start=1):
            table[there, place] = np.bincount(leaves, w * moment, size)[there] / mass[there]
        means.append(table)
    return _Grove(model, tuple(means))


def _leaves(model: Any, features: Features) -> NDArray[np.int32]:
    """Node that each row ends in, ``(trees, rows)``."""
    import xgboost

    rows = xgboost.DMatrix(features, nthread=1)
    found = model.predict(rows, pred_leaf=True, strict_shape=True)
    return np.asarray(found.reshape(len(features), -1).T, dtype=np.int32)


def _slopes(total: Floats, average: float) -> Floats:
    """Slopes of outcome residuals on arm residuals, from summed moments."""
    count = np.maximum(total[:, 0], 1)
    arm, outcome, product, square = (total[:, place] / count for place in range(1, 1 + _MOMENTS))
    spread = square - arm**2
    there = (total[:, 0] > 0) & (spread > 1e-9)
    found = np.full(len(total), average)
    np.divide(product - arm * outcome, spread, out=found, where=there)
    return found


def _average(residuals: Residuals, rows: Ints) -> float:
    left, weight = residuals.arm[rows], residuals.weight[rows]
    return float((weight * left) @ residuals.outcome[rows] / (weight @ left**2))
