"""Final stage: effects from targets whose mean given the covariates is the effect.

Two models share the work: a ridge, which sees a faint slope over all rows, and shallow trees, which
see steps and curves. How far each is trusted is a matter of the loss on rows that checks hold out;
where neither beats a constant, the constant stands.
"""

from dataclasses import dataclass

import numpy as np

from journeylab.uplift.boosting import Binned, Features, FoldTrees, boost
from journeylab.uplift.folds import Folds
from journeylab.uplift.ridge import Ridge, fit_ridge
from journeylab.uplift.scores import Floats, Ints
from journeylab.uplift.settings import Trees, pieces


@dataclass(frozen=True, slots=True, eq=False)
class FinalStage:
    """Effects of one arm.

    Attributes:
        ridge: Linear part.
        trees: Boosted part.
        shares: Weight of the trees (0-1) where each fold's rows are spoken for; the rest is the
            ridge's.
        for_others: The same of each model, for rows of no fold.
    """

    ridge: Ridge
    trees: FoldTrees
    shares: tuple[float, ...]
    for_others: tuple[float, ...]

    def predict(self, features: Features) -> Floats:
        """Effects of rows that no model has seen, ``(rows,)``: the mean over the models."""
        found, everyone = np.zeros(len(features)), np.arange(len(features))
        for model, share in enumerate(self.for_others):
            rounds = self.trees.for_others[model]
            found += self._told(model, share, rounds, features, everyone)
        return found / len(self.for_others)

    def held_out(self, features: Features, folds: Folds) -> Floats:
        """For each row the mean of the models that have not seen it, ``(rows,)``."""
        found = np.empty(len(features))
        for fold in folds.range:
            own, speakers = np.flatnonzero(folds.of_row == fold), folds.speakers(fold)
            share, rounds = self.shares[fold], self.trees.rounds[fold]
            for piece in pieces(len(own)):
                rows = own[piece]
                told = [self._told(model, share, rounds, features, rows) for model in speakers]
                found[rows] = np.mean(told, axis=0)
        return found

    def contributions(self, features: Features) -> Floats:
        """SHAP values, ``(rows, columns + 1)``; a row adds up to its effect."""
        curved = np.array(self.for_others) / len(self.for_others)
        linear = 1 / len(self.for_others) - curved
        straight = self.ridge.contributions(features, linear.tolist())[:, :, 0]
        return straight + self.trees.contributions(features, curved.tolist())

    def _told(
        self, model: int, share: float, rounds: int, features: Features, rows: Ints
    ) -> Floats:
        found = np.zeros(len(rows))
        if share < 1:
            found += (1 - share) * self.ridge.told(model, features, rows)[:, 0]
        if share > 0:
            found += share * self.trees.told(model, rounds, features, rows)
        return found


def fit_final_stage(
    features: Features,
    target: Floats,
    weight: Floats,
    folds: Folds,
    binned: Binned,
    trees: Trees,
    seed: int,
    *,
    rows: Ints | None = None,
    threads: int = 1,
) -> FinalStage:
    """Learn effects from pseudo-outcomes.

    Args:
        features: ``(rows, columns)`` of all rows.
        target: ``(rows,)``, or ``(folds, rows)`` where each fold's model has its own.
        weight: ``(rows,)``, 0 or more; the weighted square of what is left is the R-loss.
        folds: Of all rows.
        binned: The rows that take part, cut into bins.
        trees: Settings.
        seed: Of the trees.
        rows: Those that take part; by default all.
        threads: Folds grown at the same time.
    """
    ridge = fit_ridge(features, target[..., None], folds, weight, rows=rows)
    boosted = boost(binned, target, trees, seed, weight=weight, threads=threads)
    shares = [_share_of(fold, features, target, weight, ridge, boosted) for fold in folds.range]
    spoken = [
        [shares[fold] for fold in folds.range if model in folds.speakers(fold)]
        for model in folds.range
    ]
    others = tuple(float(np.mean(own)) for own in spoken)
    return FinalStage(ridge, boosted, tuple(shares), others)


def _share_of(
    fold: int, features: Features, target: Floats, weight: Floats, ridge: Ridge, trees: FoldTrees
) -> float:
    """Weight of the trees by what a fold's checks say of the rows they are held against."""
    found = []
    for check in trees.checks[fold]:
        rows = check.rows
        own = target[check.part.model] if target.ndim == 2 else target
        linear = ridge.told_by_check(check.part, features, rows)[:, 0]
        found.append(
            (own[rows], weight[rows], linear, check.told(features, trees.rounds[fold], rows))
        )
    if not found:
        return 0.5
    return _share(*(np.concatenate(parts) for parts in zip(*found, strict=True)))


def _share(target: Floats, weight: Floats, linear: Floats, curved: Floats) -> float:
    """Weight of the trees that leaves the least held-out loss, drawn to an equal share.

    The best weight of two correlated forecasts is itself guessed from noise; the distance between
    the two forecasts says how well it is known.
    """
    gap = curved - linear
    spread = float(weight @ gap**2)
    if spread <= 1e-12 * float(weight @ target**2):
        return 0.5
    best = float(weight @ (gap * (target - linear))) / spread
    noise = (
        float(np.average((target - linear) ** 2, weights=weight)) / spread * float(weight.mean())
    )
    # Prior: 1/2 with deviation 1/4.
    trust = 1 / (1 + noise / 0.25**2)
    return float(np.clip(0.5 + trust * (best - 0.5), 0.0, 1.0))
