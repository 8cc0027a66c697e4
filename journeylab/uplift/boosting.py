"""Boosting over folds: one model per fold, all stopped at the same round."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from journeylab.uplift.folds import Folds
from journeylab.uplift.scores import Floats, Ints
from journeylab.uplift.settings import AT_A_TIME, STOP_ROWS, Trees

Features = NDArray[np.float32]
Objective = Literal["reg:squarederror", "binary:logistic", "reg:tweedie"]


@dataclass(frozen=True, slots=True, eq=False)
class Binned:
    """Rows cut into bins once, for every model that learns from them.

    Attributes:
        learn, held: Per fold, positions of the rows its model learns from and is stopped by.
        learn_bins, held_bins: The same as ``xgboost.QuantileDMatrix``.
    """

    learn: tuple[Ints, ...]
    held: tuple[Ints, ...]
    learn_bins: tuple[Any, ...]
    held_bins: tuple[Any, ...]


@dataclass(frozen=True, slots=True, eq=False)
class FoldTrees:
    """One model per fold.

    Attributes:
        models: ``xgboost.Booster`` of each fold.
        starts: What each model says before its first tree.
        rounds: Trees that are used; 0 where no tree made the held-out loss smaller.
        losses: Held-out loss after 0, ``look``, ``2 look``, ... trees.
        look: Rounds between two of them.
    """

    models: tuple[Any, ...]
    starts: tuple[float, ...]
    rounds: int
    losses: tuple[float, ...]
    look: int

    def of_fold(self, fold: int, features: Features, rounds: int | None = None) -> Floats:
        """What one model says, ``(rows,)``."""
        used = self.rounds if rounds is None else rounds
        if used == 0 or len(features) == 0:
            return np.full(len(features), self.starts[fold])
        return np.asarray(self.models[fold].inplace_predict(features, iteration_range=(0, used)))

    def of_fold_at(
        self,
        fold: int,
        features: Features,
        rows: Ints,
        flags: Features | None = None,
        rounds: int | None = None,
    ) -> Floats:
        """What one model says of some rows, ``(len(rows),)``, without a copy of them all.

        Args:
            fold: Whose model.
            features: ``(rows, columns)`` of all rows.
            rows: Positions.
            flags: ``(more columns,)`` that stand behind the features of every row.
            rounds: Trees that are used; by default those that were kept.
        """
        width = features.shape[1]
        columns = width + (0 if flags is None else len(flags))
        buffer = np.empty((min(AT_A_TIME, len(rows)), columns), dtype=np.float32)
        if flags is not None:
            buffer[:, width:] = flags
        found = np.empty(len(rows))
        for first in range(0, len(rows), AT_A_TIME):
            piece = rows[first : first + AT_A_TIME]
            own = buffer[: len(piece)]
            own[:, :width] = features[piece]
            found[first : first + len(piece)] = self.of_fold(fold, own, rounds)
        return found

    def predict(self, features: Features, rounds: int | None = None) -> Floats:
        """Mean over the models, ``(rows,)``, for rows that no model has seen."""
        total = np.zeros(len(features))
        for fold in range(len(self.models)):
            total += self.of_fold(fold, features, rounds)
        return total / len(self.models)

    def held_out(self, features: Features, folds: Folds, rounds: int | None = None) -> Floats:
        """For each row the mean of the models that have not seen it, ``(rows,)``."""
        total = np.zeros(len(features))
        for fold in range(folds.count):
            unseen = np.flatnonzero(folds.unseen(fold))
            total[unseen] += self.of_fold_at(fold, features, unseen, rounds=rounds)
        total /= folds.speakers
        return total

    def contributions(self, features: Features) -> Floats:
        """TreeSHAP of the mean model: ``(rows, columns + 1)``, the last is what all have."""
        import xgboost

        total = np.zeros((len(features), features.shape[1] + 1))
        rows = xgboost.DMatrix(features, nthread=1)
        for model, start in zip(self.models, self.starts, strict=True):
            if self.rounds == 0:
                total[:, -1] += start
            else:
                total += model.predict(rows, pred_contribs=True, iteration_range=(0, self.rounds))
        return total / len(self.models)


def bin_rows(
    features: Features,
    folds: Folds,
    bins: int,
    *,
    rows: Ints | None = None,
    most: int | None = None,
    flags: Features | None = None,
) -> Binned:
    """Cut the rows of every fold into bins.

    Args:
        features: ``(rows, columns)``.
        folds: Of all rows.
        bins: Most cut points per column.
        rows: Only these take part; by default all.
        most: Most rows that one model learns from: every second, third, ... row of more.
        flags: ``(rows, more columns)``, which stand behind the features.
    """
    import xgboost

    chosen = np.ones(len(features), dtype=bool)
    if rows is not None:
        chosen[:] = False
        chosen[rows] = True
    learn = tuple(_thinned(np.flatnonzero(folds.learns(k) & chosen), most) for k in folds.range)
    held = tuple(_thinned(np.flatnonzero(folds.stops(k) & chosen), STOP_ROWS) for k in folds.range)
    learn_bins, held_bins = [], []
    first: Any = None

    def of(part: Ints) -> Features:
        own = features[part]
        return own if flags is None else np.concatenate([own, flags[part]], axis=1)

    for inside, outside in zip(learn, held, strict=True):
        own = xgboost.QuantileDMatrix(of(inside), max_bin=bins, nthread=1, ref=first)
        # Cut points depend on covariates alone, so those of the first fold serve all.
        first = first or own
        learn_bins.append(own)
        held_bins.append(xgboost.QuantileDMatrix(of(outside), max_bin=bins, nthread=1, ref=first))
    return Binned(learn, held, tuple(learn_bins), tuple(held_bins))


def boost(
    binned: Binned,
    target: Floats,
    trees: Trees,
    seed: int,
    *,
    weight: Floats | None = None,
    objective: Objective = "reg:squarederror",
    monotone: Sequence[int] | None = None,
    threads: int = 1,
) -> FoldTrees:
    """Grow one model per fold in step, and stop all where their common held-out loss is least.

    The loss is the weighted square of what is left of the target: for R- and DR-targets this is
    the R-loss of Nie & Wager (2021). Every model runs on one thread, so that the number of threads
    changes no byte.

    Args:
        binned: The rows.
        target: ``(rows,)`` of all rows; or ``(folds, rows)`` where each fold's model has its own.
        trees: Settings.
        seed: Of the rows and columns that each tree sees.
        weight: ``(rows,)``, 0 or more.
        objective: What the trees fit; the loss that stops them stays the square.
        monotone: Per column -1, 0 or 1.
        threads: Folds grown at the same time.
    """
    import xgboost

    weights = np.ones(target.shape[-1]) if weight is None else weight
    scale = float(weights[np.concatenate(binned.learn)].mean()) or 1.0
    models: list[Any] = []
    starts: list[float] = []
    held: list[tuple[Any, Floats, Floats]] = []
    folds = zip(binned.learn, binned.held, binned.learn_bins, binned.held_bins, strict=True)
    for inside, outside, learn_bins, held_bins in folds:
        own = target[len(models)] if target.ndim == 2 else target
        learn_bins.set_info(label=own[inside], weight=weights[inside] / scale)
        held_bins.set_info(label=own[outside], weight=weights[outside] / scale)
        start = float(np.average(own[inside], weights=weights[inside]))
        parameters = _parameters(trees, seed, objective, start)
        if monotone is not None:
            parameters["monotone_constraints"] = tuple(monotone)
        models.append(xgboost.Booster(parameters, [learn_bins, held_bins]))
        starts.append(start)
        held.append((held_bins, own[outside], weights[outside] / scale))

    def grow(fold: int, first: int, last: int) -> float:
        for number in range(first, last):
            models[fold].update(binned.learn_bins[fold], number)
        rows, actual, own = held[fold]
        return float(own @ (actual - models[fold].predict(rows)) ** 2)

    losses = [sum(float(own @ (y - s) ** 2) for (_, y, own), s in zip(held, starts, strict=True))]
    best, done = 0, 0
    with ThreadPoolExecutor(max(1, min(threads, len(models)))) as workers:
        while done < trees.rounds:
            last = min(done + trees.look, trees.rounds)
            parts = workers.map(
                grow, range(len(models)), [done] * len(models), [last] * len(models)
            )
            losses.append(sum(parts))
            done = last
            if losses[-1] < losses[best]:
                best = len(losses) - 1
            elif done - best * trees.look >= trees.patience:
                break
    rounds = min(best * trees.look, trees.rounds)
    for model in models:
        # What growing kept of every row is not needed to predict.
        model.reset()
    rows = sum(len(part) for part in binned.held)
    mean = tuple(loss / max(rows, 1) for loss in losses)
    return FoldTrees(tuple(models), tuple(starts), rounds, mean, trees.look)


def _thinned(rows: Ints, most: int | None) -> Ints:
    if most is None or len(rows) <= most:
        return rows
    # Rows come in no order that knows the outcome, and folds are drawn: even steps are a sample.
    return rows[np.linspace(0, len(rows) - 1, most).astype(np.int64)]


def _parameters(trees: Trees, seed: int, objective: Objective, start: float) -> dict[str, Any]:
    parameters: dict[str, Any] = {
        "objective": objective,
        "base_score": start,
        "tree_method": "hist",
        "device": "cpu",
        "nthread": 1,
        "seed": seed,
        # The engine's generator belongs to a thread: reseeded each round, threads do not matter.
        "seed_per_iteration": True,
        "max_depth": trees.depth,
        "eta": trees.step,
        "min_child_weight": trees.leaf,
        "lambda": trees.penalty,
        "subsample": trees.rows,
        "colsample_bynode": trees.columns,
        "max_bin": trees.bins,
        "verbosity": 0,
    }
    if objective == "binary:logistic":
        # The curvature of a row is p (1 - p), not 1.
        curvature = max(start * (1 - start), 1e-3)
        parameters["min_child_weight"] = trees.leaf * curvature
        parameters["lambda"] = trees.penalty * curvature
    if objective == "reg:tweedie":
        parameters |= {"tweedie_variance_power": 1.5, "max_delta_step": 0.7}
        parameters["min_child_weight"] = trees.leaf * max(start, 1e-9) ** 0.5
        parameters["lambda"] = trees.penalty * max(start, 1e-9) ** 0.5
    return parameters
