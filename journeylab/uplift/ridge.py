"""Ridge: linear effects of many arms, drawn toward what the arms share and toward no effect."""

from dataclasses import dataclass

import numpy as np

from journeylab.uplift.boosting import Features
from journeylab.uplift.folds import Folds
from journeylab.uplift.scores import Floats
from journeylab.uplift.settings import AT_A_TIME

# Penalties as rows of "no difference from the average"; the last is all but a constant.
_PENALTIES = (30.0, 100.0, 300.0, 1e3, 3e3, 1e4, 3e4, 1e5, 1e6, 1e9)


@dataclass(frozen=True, slots=True, eq=False)
class Ridge:
    """Linear effects of one or more arms, one model per fold.

    Attributes:
        centre, scale: ``(columns,)`` of the covariates.
        coefficients: ``(folds, columns, arms)``, on covariates of mean 0 and deviation 1.
        averages: ``(folds, arms)``.
        shared, own: Penalty of what all arms share, and of what is an arm's own.
        losses: Held-out loss of a constant per arm, and of the model that was kept.
    """

    centre: Floats
    scale: Floats
    coefficients: Floats
    averages: Floats
    shared: float
    own: float
    losses: tuple[float, float]

    def predict(self, features: Features) -> Floats:
        """Mean over the models, ``(rows, arms)``."""
        return self._linear(features, self.coefficients.mean(axis=0), self.averages.mean(axis=0))

    def held_out(self, features: Features, folds: Folds) -> Floats:
        """For each row the mean of the models that have not seen it, ``(rows, arms)``."""
        found = np.zeros((len(features), self.averages.shape[1]))
        for fold in folds.range:
            unseen = np.flatnonzero(folds.unseen(fold))
            model, level = self.coefficients[fold], self.averages[fold]
            for piece in _slices(len(unseen)):
                rows = unseen[piece]
                found[rows] += self._linear(features[rows], model, level)
        found /= folds.speakers
        return found

    def contributions(self, features: Features) -> Floats:
        """Shapley values of independent covariates, ``(rows, columns + 1, arms)``.

        The last column is what all rows have.
        """
        rows = _standard(features, self.centre, self.scale)
        own = rows[:, :, None] * self.coefficients.mean(axis=0)[None]
        level = np.broadcast_to(self.averages.mean(axis=0), (len(rows), 1, own.shape[2]))
        return np.concatenate([own, level], axis=1)

    def _linear(self, features: Features, slopes: Floats, level: Floats) -> Floats:
        found = np.empty((len(features), len(level)))
        for rows in _slices(len(features)):
            found[rows] = _standard(features[rows], self.centre, self.scale) @ slopes + level
        return found


def fit_ridge(
    features: Features, targets: Floats, folds: Folds, weight: Floats | None = None
) -> Ridge:
    """Fit the effects of all arms together, with the penalties of least held-out loss.

    Each arm's slopes are those that all arms share, with one penalty, and its own departure from
    them, with another; the mean effect of an arm is not shrunken here. All arms use the same
    cross-products, so that thirty arms cost little more than one.

    Args:
        features: ``(rows, columns)``; a missing number counts as the mean.
        targets: ``(rows, arms)``, whose mean given the covariates is the effect; or ``(folds, rows,
            arms)`` where each fold's model has its own.
        folds: Of the rows.
        weight: ``(rows,)``, 0 or more.
    """
    centre, scale = _moments(features)
    weights = np.ones(len(features)) if weight is None else weight / weight.mean()
    rows_of = [np.flatnonzero(folds.of_row == fold) for fold in folds.range]

    def sums(fold: int, model: int) -> _Sums:
        """Of one fold's rows, with the targets that the model of some fold learns from."""
        told = targets[model] if targets.ndim == 3 else targets
        pieces = []
        for piece in _slices(len(rows_of[fold])):
            chosen = rows_of[fold][piece]
            x = _standard(features[chosen], centre, scale)
            pieces.append(_Sums.of(x, told[chosen], weights[chosen]))
        return _Sums.total(pieces)

    if targets.ndim == 3:
        learnt = [
            _Sums.total([sums(fold, k) for fold in folds.range if (fold == k) == folds.alone])
            for k in folds.range
        ]
        stops = [sums((k + 1) % folds.count if folds.alone else k, k) for k in folds.range]
    else:
        parts = [sums(fold, fold) for fold in folds.range]
        whole = _Sums.total(parts)
        learnt = [parts[k] if folds.alone else whole.plus(parts[k], -1.0) for k in folds.range]
        stops = [parts[(k + 1) % folds.count] if folds.alone else parts[k] for k in folds.range]
    arms = targets.shape[-1]
    best: tuple[float, float, float, list[Floats]] | None = None
    for shared in _PENALTIES:
        for own in _PENALTIES if arms > 1 else (np.inf,):
            if own < shared:
                continue
            models = [part.slopes(shared, own) for part in learnt]
            loss = sum(
                stop.loss(part.means, model)
                for stop, part, model in zip(stops, learnt, models, strict=True)
            )
            if best is None or loss < best[0]:
                best = (loss, shared, own, models)
    assert best is not None
    nothing = np.zeros((features.shape[1], arms))
    flat = sum(stop.loss(part.means, nothing) for stop, part in zip(stops, learnt, strict=True))
    loss, shared, own, models = best
    if flat <= loss:
        loss, models = flat, [nothing for _ in models]
    averages = np.array(
        [part.means - part.centre @ model for part, model in zip(learnt, models, strict=True)]
    )
    units = sum(part.rows for part in stops) * arms
    return Ridge(
        centre, scale, np.array(models), averages, shared, own, (flat / units, loss / units)
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Sums:
    """Weighted sums over some rows: all that a linear model asks of them."""

    rows: float
    x: Floats
    xx: Floats
    z: Floats
    xz: Floats
    zz: Floats

    @classmethod
    def of(cls, x: Floats, z: Floats, w: Floats) -> "_Sums":
        weighted = x * w[:, None]
        return cls(
            float(w.sum()), weighted.sum(axis=0), x.T @ weighted, w @ z, weighted.T @ z, w @ z**2
        )

    @classmethod
    def total(cls, parts: list["_Sums"]) -> "_Sums":
        whole = parts[0]
        for part in parts[1:]:
            whole = whole.plus(part)
        return whole

    def plus(self, other: "_Sums", sign: float = 1.0) -> "_Sums":
        return _Sums(
            self.rows + sign * other.rows,
            self.x + sign * other.x,
            self.xx + sign * other.xx,
            self.z + sign * other.z,
            self.xz + sign * other.xz,
            self.zz + sign * other.zz,
        )

    @property
    def means(self) -> Floats:
        return np.asarray(self.z / self.rows)

    @property
    def centre(self) -> Floats:
        return np.asarray(self.x / self.rows)

    def slopes(self, shared: float, own: float) -> Floats:
        """``(columns, arms)``: the slopes all arms share and each arm's departure."""
        arms, columns = len(self.z), len(self.x)
        gram = self.xx - np.outer(self.x, self.x) / self.rows
        cross = self.xz - np.outer(self.x, self.z) / self.rows
        eye = np.eye(columns)
        together = np.linalg.solve(gram + shared * eye, cross.mean(axis=1))
        slopes = np.tile(together[:, None], (1, arms))
        if np.isfinite(own):
            slopes += np.linalg.solve(gram + own * eye, cross - (gram @ together)[:, None])
        return slopes

    def loss(self, means: Floats, slopes: Floats) -> float:
        """Weighted squares of what ``means + x @ slopes`` leaves of these rows, over all arms.

        ``slopes`` came from rows whose covariates had their own mean; it is near 0 for all folds,
        so that the level of each arm is taken at 0.
        """
        left = (
            self.zz
            - 2 * means * self.z
            + means**2 * self.rows
            - 2 * np.einsum("ca,ca->a", slopes, self.xz)
            + 2 * means * (self.x @ slopes)
            + np.einsum("ca,cd,da->a", slopes, self.xx, slopes)
        )
        return float(left.sum())


def _moments(features: Features) -> tuple[Floats, Floats]:
    """Mean and deviation of every column, without its missing numbers; deviation 1 for none."""
    seen, total, squares = (np.zeros(features.shape[1]) for _ in range(3))
    for rows in _slices(len(features)):
        seen += np.isfinite(features[rows]).sum(axis=0)
        total += np.nansum(features[rows], axis=0, dtype=float)
    centre = total / np.maximum(seen, 1)
    for rows in _slices(len(features)):
        squares += np.nansum((features[rows] - centre) ** 2, axis=0)
    scale = np.sqrt(squares / np.maximum(seen, 1))
    scale[scale < 1e-9 * np.maximum(np.abs(centre), 1)] = 1.0
    return centre, scale


def _standard(features: Features, centre: Floats, scale: Floats) -> Floats:
    return np.nan_to_num((features.astype(float) - centre) / scale, copy=False)


def _slices(rows: int) -> list[slice]:
    """Pieces small enough that a copy in double precision does not matter."""
    return [slice(first, first + AT_A_TIME) for first in range(0, max(rows, 1), AT_A_TIME)]
