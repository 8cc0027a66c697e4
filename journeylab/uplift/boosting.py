"""Boosting over folds: one model per fold, stopped by rows it may learn from."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from journeylab.uplift.folds import Cells, Folds, Part
from journeylab.uplift.scores import Floats, Ints
from journeylab.uplift.settings import AT_A_TIME, CUT_ROWS, STOP_ROWS, Trees

Features = NDArray[np.float32]
Objective = Literal["reg:squarederror", "binary:logistic", "reg:tweedie"]


@dataclass(slots=True, eq=False)
class Bins:
    """Rows cut into bins.

    Attributes:
        rows: Their positions.
        cut: Makes the ``xgboost.QuantileDMatrix`` of them.
        kept: What it made, where that stays; where rows are many they are cut anew each time, for
            the bins of all folds would take as much room as the data.
    """

    rows: Ints
    cut: Callable[[Ints], Any]
    stays: bool
    kept: Any = None

    @property
    def matrix(self) -> Any:
        """The bins."""
        if self.kept is not None:
            return self.kept
        made = self.cut(self.rows)
        if self.stays:
            self.kept = made
        return made


@dataclass(frozen=True, slots=True, eq=False)
class Binned:
    """Rows cut into bins once, for every model that learns from them.

    Attributes:
        learn: What each model learns from.
        checks: Per fold spoken for: the model that each check is of, what it learns from and what
            it is held against.
    """

    learn: tuple[Bins, ...]
    checks: tuple[tuple[tuple[Part, Bins, Bins], ...], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Check:
    """A model of fewer rows, which says how many trees those that speak for a fold should have.

    Attributes:
        part: What it learnt from.
        model: ``xgboost.Booster``.
        start: What it says before its first tree.
        rows: Positions it is held against.
        grown: Trees it has.
    """

    part: Part
    model: Any
    start: float
    rows: Ints
    grown: int

    def told(
        self, features: Features, rounds: int, rows: Ints, flags: Features | None = None
    ) -> Floats:
        """What it says of some rows after so many trees, ``(len(rows),)``."""
        return _told(self.model, self.start, min(rounds, self.grown), features, rows, flags)


@dataclass(frozen=True, slots=True, eq=False)
class FoldTrees:
    """One model per fold.

    Attributes:
        models: ``xgboost.Booster`` of each.
        starts: What each model says before its first tree.
        rounds: Trees that are used to speak for each fold's rows; 0 where no tree made the checks'
            loss smaller.
        for_others: Trees of each model that are used for rows of no fold.
        checks: Of those that speak for each fold.
    """

    models: tuple[Any, ...]
    starts: tuple[float, ...]
    rounds: tuple[int, ...]
    for_others: tuple[int, ...]
    checks: tuple[tuple[Check, ...], ...]

    def at(self, rounds: Sequence[int]) -> "FoldTrees":
        """The same where each model speaks for its own fold, with so many trees per fold."""
        return replace(self, rounds=tuple(rounds), for_others=tuple(rounds))

    def told(
        self, model: int, rounds: int, features: Features, rows: Ints, flags: Features | None = None
    ) -> Floats:
        """What one model says of some rows, ``(len(rows),)``, without a copy of them all.

        Args:
            model: Which.
            rounds: Trees that are used.
            features: ``(rows, columns)`` of all rows.
            rows: Positions.
            flags: ``(more columns,)`` that stand behind the features of every row.
        """
        return _told(self.models[model], self.starts[model], rounds, features, rows, flags)

    def predict(self, features: Features, flags: Features | None = None) -> Floats:
        """Mean over the models, ``(rows,)``, for rows that no model has seen."""
        total, everyone = np.zeros(len(features)), np.arange(len(features))
        for model, rounds in enumerate(self.for_others):
            total += self.told(model, rounds, features, everyone, flags)
        return total / len(self.models)

    def held_out(self, features: Features, folds: Folds, flags: Features | None = None) -> Floats:
        """For each row the mean of the models that have not seen it, ``(rows,)``."""
        found = np.empty(len(features))
        for fold in folds.range:
            rows, speakers = np.flatnonzero(folds.of_row == fold), folds.speakers(fold)
            total = np.zeros(len(rows))
            for model in speakers:
                total += self.told(model, self.rounds[fold], features, rows, flags)
            found[rows] = total / len(speakers)
        return found

    def contributions(self, features: Features, shares: Sequence[float]) -> Floats:
        """TreeSHAP of the models, each by its share: ``(rows, columns + 1)``.

        The last column is what all rows have.
        """
        import xgboost

        total = np.zeros((len(features), features.shape[1] + 1))
        rows = xgboost.DMatrix(features, nthread=1)
        for model, (share, used) in enumerate(zip(shares, self.for_others, strict=True)):
            if used == 0:
                total[:, -1] += share * self.starts[model]
            else:
                whole = self.models[model].predict(
                    rows, pred_contribs=True, iteration_range=(0, used)
                )
                total += share * whole
        return total


def bin_rows(
    features: Features,
    folds: Folds,
    bins: int,
    *,
    rows: Ints | None = None,
    most: int | None = None,
    flags: Features | None = None,
) -> Binned:
    """Cut the rows of every fold and of its checks into bins.

    Args:
        features: ``(rows, columns)``.
        folds: Of all rows.
        bins: Most cut points per column.
        rows: Only these take part; by default all.
        most: Most rows that one model learns from: every second, third, ... row of more.
        flags: ``(rows, more columns)``, which stand behind the features.
    """
    import xgboost

    cells = folds.cells
    if rows is not None:
        others = np.ones(len(features), dtype=bool)
        others[rows] = False
        cells[others] = -1
    made: dict[tuple[Cells, int | None], Bins] = {}
    first: Any = None

    def cut(part: Ints) -> Any:
        own = features[part]
        if flags is not None:
            own = np.concatenate([own, flags[part]], axis=1)
        return xgboost.QuantileDMatrix(own, max_bin=bins, nthread=1, ref=first)

    def of(wanted: Cells, limit: int | None) -> Bins:
        if (wanted, limit) not in made:
            part = _thinned(np.flatnonzero(np.isin(cells, wanted)), limit).astype(np.int32)
            made[wanted, limit] = Bins(part, cut, stays=not folds.many)
        return made[wanted, limit]

    # Cut points depend on covariates alone, so those of some rows serve all.
    first = cut(_thinned(np.flatnonzero(cells >= 0), CUT_ROWS))
    learn, checks = [], []
    for fold in folds.range:
        mine = folds.learnt_cells(fold)
        learn.append(of(mine[::2] if folds.many else mine, most))
        checks.append(
            tuple(
                (part, of(part.learns, most), of(part.held, STOP_ROWS))
                for part in folds.checks(fold)
            )
        )
    return Binned(tuple(learn), tuple(checks))


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
    """Grow one model per fold, with as many trees as its checks say.

    Checks learn from a part of what the models that speak for a fold learn from, and are held
    against rows outside that fold: where their loss is least, the models stop. So nothing of the
    rows that they speak for has a say. The loss is the weighted square of what is left of the
    target: for R-targets this is the R-loss of Nie & Wager (2021), for DR-targets the same with
    every row weighed alike. Every model runs on one thread, so that the number of threads changes
    no byte.

    Args:
        binned: The rows.
        target: ``(rows,)`` of all rows; or ``(folds, rows)`` where each fold's model has its own.
        trees: Settings.
        seed: Of the rows and columns that each tree sees.
        weight: ``(rows,)``, 0 or more.
        objective: What the trees fit; the loss that stops them stays the square.
        monotone: Per column -1, 0 or 1.
        threads: Models grown at the same time.
    """
    task = _Task(trees, seed, objective, None if monotone is None else tuple(monotone), weight)
    growing: dict[tuple[int, int], _Growing] = {}
    of_fold: list[list[tuple[Part, _Growing, int]]] = []
    for checks in binned.checks:
        of_fold.append([])
        for part, inside, outside in checks:
            if len(inside.rows) == 0 or len(outside.rows) == 0:
                continue
            # Checks of two models may learn from the same rows.
            key = (id(inside), part.model if target.ndim == 2 else -1)
            own = target[part.model] if target.ndim == 2 else target
            one = growing.setdefault(key, _Growing(task, inside, own))
            of_fold[-1].append((part, one, len(one.held)))
            one.held.append(outside)
    # Rows carry the labels of one model at a time.
    in_turn: dict[int, list[_Growing]] = {}
    for (bins, _), one in growing.items():
        in_turn.setdefault(bins, []).append(one)

    def grow(some: list[_Growing]) -> None:
        for one in some:
            one.until_it_helps_no_more()

    def keep(model: int) -> tuple[Any, float]:
        bins = binned.learn[model]
        for part, one, _ in (check for own in of_fold for check in own):
            if one.inside is bins and part.model == model:
                return one.model, one.start
        rows = bins.matrix
        made, start = task.start(bins, rows, target[model] if target.ndim == 2 else target)
        for number in range(rounds[model]):
            made.update(rows, number)
        made.reset()
        return made, start

    with ThreadPoolExecutor(max(1, threads)) as workers:
        # A single worker is this thread itself: memory that one stage freed serves the next.
        spread = workers.map if threads > 1 else map
        list(spread(grow, in_turn.values()))
        rounds = [_least([one.losses[place] for _, one, place in own], trees) for own in of_fold]
        kept = list(spread(keep, range(len(rounds))))
    checked = tuple(
        tuple(
            Check(part, one.model, one.start, one.held[place].rows, one.grown)
            for part, one, place in own
        )
        for own in of_fold
    )
    models, starts = zip(*kept, strict=True)
    spoken: list[list[int]] = [[] for _ in models]
    for fold, own in enumerate(of_fold):
        for model in {part.model for part, _, _ in own}:
            spoken[model].append(rounds[fold])
    for_others = tuple(int(np.median(own)) if own else 0 for own in spoken)
    return FoldTrees(tuple(models), tuple(starts), tuple(rounds), for_others, checked)


@dataclass(frozen=True, slots=True, eq=False)
class _Task:
    """What all models of a call share."""

    trees: Trees
    seed: int
    objective: Objective
    monotone: tuple[int, ...] | None
    weight: Floats | None

    def weights(self, rows: Ints) -> Floats:
        return np.ones(len(rows)) if self.weight is None else self.weight[rows]

    def start(self, bins: Bins, rows: Any, target: Floats, *held: Any) -> tuple[Any, float]:
        """A model without trees on labelled rows, and what it says.

        Of the rows held against it, what is said of them is kept up to date while it grows.
        """
        import xgboost

        own, weights = target[bins.rows], self.weights(bins.rows)
        scale = float(weights.mean()) or 1.0
        rows.set_info(label=own, weight=weights / scale)
        start = float(np.average(own, weights=weights)) if weights.any() else 0.0
        if self.objective == "binary:logistic":
            start = min(max(start, 1e-6), 1 - 1e-6)
        if self.objective == "reg:tweedie":
            start = max(start, 1e-9)
        parameters = _parameters(self.trees, self.seed, self.objective, start)
        if self.monotone is not None:
            parameters["monotone_constraints"] = self.monotone
        return xgboost.Booster(parameters, [rows, *held]), start


@dataclass(slots=True, eq=False)
class _Growing:
    """A check while it grows; it looks at its losses from time to time."""

    task: _Task
    inside: Bins
    target: Floats
    held: list[Bins] = field(default_factory=list)
    losses: list[list[float]] = field(default_factory=list)
    grown: int = 0
    model: Any = None
    start: float = 0.0

    def until_it_helps_no_more(self) -> None:
        """Grow until none of the rows it is held against has gained for a while."""
        trees = self.task.trees
        inside, outside = self.inside.matrix, [held.matrix for held in self.held]
        model, self.start = self.task.start(self.inside, inside, self.target, *outside)
        actual = [self.target[held.rows] for held in self.held]
        weights = [self.task.weights(held.rows) for held in self.held]
        for y, own in zip(actual, weights, strict=True):
            self.losses.append([float(own @ (y - self.start) ** 2)])
        while self.grown < trees.rounds:
            last = min(self.grown + trees.look, trees.rounds)
            for number in range(self.grown, last):
                model.update(inside, number)
            self.grown = last
            for rows, y, own, lost in zip(outside, actual, weights, self.losses, strict=True):
                lost.append(float(own @ (y - model.predict(rows)) ** 2))
            best = max(int(np.argmin(lost)) for lost in self.losses)
            if self.grown - best * trees.look >= trees.patience:
                break
        # What growing kept of every row is not needed to predict.
        model.reset()
        self.model = model


def _least(losses: list[list[float]], trees: Trees) -> int:
    """Trees at which the checks together lose least; 0 without checks."""
    if not losses:
        return 0
    looked = min(len(one) for one in losses)
    total = np.sum([one[:looked] for one in losses], axis=0)
    return min(int(np.argmin(total)) * trees.look, trees.rounds)


def _told(
    model: Any, start: float, rounds: int, features: Features, rows: Ints, flags: Features | None
) -> Floats:
    found = np.full(len(rows), start)
    if rounds == 0:
        return found
    width = features.shape[1]
    columns = width + (0 if flags is None else len(flags))
    buffer = np.empty((min(AT_A_TIME, len(rows)), columns), dtype=np.float32)
    if flags is not None:
        buffer[:, width:] = flags
    for first in range(0, len(rows), AT_A_TIME):
        piece = rows[first : first + AT_A_TIME]
        own = buffer[: len(piece)]
        own[:, :width] = features[piece]
        found[first : first + len(piece)] = model.inplace_predict(own, iteration_range=(0, rounds))
    return found


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
