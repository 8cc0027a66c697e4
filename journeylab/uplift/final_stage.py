"""Final stage: effects from targets whose mean given the covariates is the effect.

Two models share the work: a ridge, which sees a faint slope over all rows, and shallow trees, which
see steps and curves. How far each is trusted is a matter of the held-out loss; where neither beats
a constant, the constant stands.
"""

from dataclasses import dataclass, replace

import numpy as np

from journeylab.uplift.boosting import Binned, Features, FoldTrees, boost
from journeylab.uplift.folds import Folds
from journeylab.uplift.ridge import Ridge, fit_ridge
from journeylab.uplift.scores import Floats, Ints
from journeylab.uplift.settings import Trees


@dataclass(frozen=True, slots=True, eq=False)
class FinalStage:
    """Effects of one arm.

    Attributes:
        ridge: Linear part.
        trees: Boosted part.
        share: Weight of the trees (0-1); the rest is the ridge's.
        gain: Share of the held-out loss of a constant effect that is saved; 0 or less: none.
    """

    ridge: Ridge
    trees: FoldTrees
    share: float
    gain: float

    def predict(self, features: Features) -> Floats:
        """Effects of rows that no model has seen, ``(rows,)``."""
        found = np.zeros(len(features))
        if self.share < 1:
            found += (1 - self.share) * self.ridge.predict(features)[:, 0]
        if self.share > 0:
            found += self.share * self.trees.predict(features)
        return found

    def contributions(self, features: Features) -> Floats:
        """SHAP values, ``(rows, columns + 1)``; a row adds up to its effect."""
        return (1 - self.share) * self.ridge.contributions(features)[
            :, :, 0
        ] + self.share * self.trees.contributions(features)


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
) -> tuple[FinalStage, Floats]:
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

    Returns:
        The models, and for all rows the effects that those say which have not seen the row.
    """
    part = slice(None) if rows is None else rows
    own = folds if rows is None else replace(folds, of_row=folds.of_row[rows])
    x, w = features[part], weight[part]
    goal = target[..., part]
    z = goal[own.of_row, np.arange(len(w))] if goal.ndim == 2 else goal
    ridge = fit_ridge(x, goal[..., None], own, w)
    boosted = boost(binned, target, trees, seed, weight=weight, threads=threads)
    linear, curved = ridge.held_out(features, folds)[:, 0], boosted.held_out(features, folds)
    share = _share(z, w, linear[part], curved[part])
    flat = np.average(z, weights=w)
    told = mixed(linear, curved, share)
    loss = float(w @ (z - told[part]) ** 2)
    stage = FinalStage(ridge, boosted, share, 1 - loss / float(w @ (z - flat) ** 2))
    return stage, told


def mixed(linear: Floats, curved: Floats, share: float) -> Floats:
    """Both parts, the second with weight ``share``."""
    return np.asarray((1 - share) * linear + share * curved)


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
