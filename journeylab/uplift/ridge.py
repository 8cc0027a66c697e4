"""Ridge: linear effects of many arms, drawn toward what the arms share and toward no effect."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from journeylab.uplift.boosting import Features
from journeylab.uplift.folds import Cells, Folds, Part
from journeylab.uplift.scores import Floats, Ints
from journeylab.uplift.settings import pieces

Penalty = tuple[float, float]
# Weights below it are 0.
_TRIFLE = 1e-3
# Penalties as rows of "no difference from the average"; the last is all but a constant.
_PENALTIES = (30.0, 100.0, 300.0, 1e3, 3e3, 1e4, 3e4, 1e5, 1e6, 1e9)


@dataclass(frozen=True, slots=True, eq=False)
class Ridge:
    """Linear effects of one or more arms, one model per fold.

    Attributes:
        centre, scale: ``(columns,)`` of the covariates.
        coefficients: ``(folds, columns, arms)``, on covariates of mean 0 and deviation 1.
        averages: ``(folds, arms)``.
        penalties: Per model, the penalty of what all arms share and of what is an arm's own ->
            weight (they add up to 1).
        checks: Of each check: coefficients and averages, with the penalties of its model.
    """

    centre: Floats
    scale: Floats
    coefficients: Floats
    averages: Floats
    penalties: tuple[Mapping[Penalty, float], ...]
    checks: Mapping[tuple[int, Cells], tuple[Floats, Floats]]

    def predict(self, features: Features) -> Floats:
        """Mean over the models, ``(rows, arms)``."""
        model, level = self.coefficients.mean(axis=0), self.averages.mean(axis=0)
        return self._linear(features, np.arange(len(features)), model, level)

    def held_out(self, features: Features, folds: Folds) -> Floats:
        """For each row the mean of the models that have not seen it, ``(rows, arms)``."""
        found = np.empty((len(features), self.averages.shape[1]))
        for fold in folds.range:
            rows, speakers = np.flatnonzero(folds.of_row == fold), folds.speakers(fold)
            total = np.zeros((len(rows), found.shape[1]))
            for model in speakers:
                total += self.told(model, features, rows)
            found[rows] = total / len(speakers)
        return found

    def told(self, model: int, features: Features, rows: Ints) -> Floats:
        """What one model says of some rows, ``(len(rows), arms)``."""
        return self._linear(features, rows, self.coefficients[model], self.averages[model])

    def told_by_check(self, part: Part, features: Features, rows: Ints) -> Floats:
        """What a check says of some rows, ``(len(rows), arms)``."""
        return self._linear(features, rows, *self.checks[part.model, part.learns])

    def contributions(self, features: Features, shares: Sequence[float] | None = None) -> Floats:
        """Shapley values of independent covariates, ``(rows, columns + 1, arms)``.

        The last column is what all rows have. ``shares`` is each fold's weight; by default equal.
        """
        count = len(self.averages)
        weights = np.full(count, 1 / count) if shares is None else np.asarray(shares)
        rows = _standard(features, self.centre, self.scale)
        own = rows[:, :, None] * np.tensordot(weights, self.coefficients, 1)[None]
        level = np.broadcast_to(weights @ self.averages, (len(rows), 1, own.shape[2]))
        return np.concatenate([own, level], axis=1)

    def _linear(self, features: Features, rows: Ints, slopes: Floats, level: Floats) -> Floats:
        found = np.empty((len(rows), len(level)))
        for piece in pieces(len(rows)):
            own = _standard(features[rows[piece]], self.centre, self.scale)
            found[piece] = own @ slopes + level
        return found


def fit_ridge(
    features: Features,
    targets: Floats,
    folds: Folds,
    weight: Floats | None = None,
    *,
    rows: Ints | None = None,
) -> Ridge:
    """Fit the effects of all arms together, each model with the penalties that its checks call for.

    Each arm's slopes are those that all arms share, with one penalty, and its own departure from
    them, with another; the mean effect of an arm is not shrunken here. All arms use the same
    cross-products, so that thirty arms cost little more than one.

    Args:
        features: ``(rows, columns)``; a missing number counts as the mean.
        targets: ``(rows, arms)``, whose mean given the covariates is the effect; or ``(folds, rows,
            arms)`` where each fold's model has its own.
        folds: Of the rows.
        weight: ``(rows,)``, 0 or more.
        rows: Positions of those that take part, in order; by default all.
    """
    everyone = np.arange(len(features), dtype=np.int32) if rows is None else rows
    centre, scale = _moments(features, everyone)
    mean = 1.0 if weight is None else float(weight[everyone].mean())
    cells = folds.cells[everyone]
    rows_of = [everyone[cells == cell] for cell in range(2 * folds.count)]
    own_targets = targets.ndim == 3

    @cache
    def sums(cell: int, model: int) -> _Sums:
        """Of one cell's rows, with the targets that the model of some fold learns from."""
        told = targets[model] if own_targets else targets
        parts = []
        for piece in pieces(len(rows_of[cell])):
            chosen = rows_of[cell][piece]
            x = _standard(features[chosen], centre, scale)
            w = np.ones(len(chosen)) if weight is None else weight[chosen] / mean
            parts.append(_Sums.of(x, told[chosen], w))
        return _Sums.total(parts)

    def of(wanted: Cells, fold: int) -> _Sums:
        return _Sums.total([sums(cell, fold if own_targets else 0) for cell in wanted])

    def there(wanted: Cells) -> bool:
        return any(len(rows_of[cell]) for cell in wanted)

    models, averages, penalties = [], [], []
    for fold in folds.range:
        tried = [
            (of(part.learns, fold), of(part.held, fold))
            for part in folds.own_checks(fold, every=True)
            if there(part.learns) and there(part.held)
        ]
        whole = of(folds.learnt_cells(fold), fold)
        penalties.append(_weighed(tried))
        models.append(whole.mean_slopes(penalties[-1]))
        averages.append(whole.level(models[-1]))
    checks = {}
    for part in (part for fold in folds.range for part in folds.checks(fold)):
        if there(part.learns) and (part.model, part.learns) not in checks:
            inside = of(part.learns, part.model)
            slopes = inside.mean_slopes(penalties[part.model])
            checks[part.model, part.learns] = slopes, inside.level(slopes)
    return Ridge(centre, scale, np.array(models), np.array(averages), tuple(penalties), checks)


def _weighed(tried: "list[tuple[_Sums, _Sums]]") -> dict[Penalty, float]:
    """Weights of penalties by the checks' losses; infinite ones are a constant.

    Many penalties lose all but the same, and which one loses least is chance: their models are
    averaged, each by the likelihood of what it held out (Dalalyan & Tsybakov, "Aggregation by
    exponential weighting", 2008).
    """
    nothing: Penalty = (np.inf, np.inf)
    if not tried:
        return {nothing: 1.0}
    arms = len(tried[0][0].z)
    grid = [nothing] + [
        (shared, own)
        for shared in _PENALTIES
        for own in (_PENALTIES if arms > 1 else (np.inf,))
        if own >= shared
    ]
    losses = np.zeros(len(grid))
    for inside, outside in tried:
        for place, penalty in enumerate(grid):
            slopes = inside.slopes(*penalty)
            losses[place] += outside.loss(inside.level(slopes), slopes)
    held = _Sums.total([outside for _, outside in tried])
    noise = losses[0] / (arms * held.rows) * held.alike
    gaps = (losses - losses.min()) / (2 * noise) if noise > 0 else np.zeros(len(grid))
    weights = np.exp(-gaps)
    weights[weights < _TRIFLE] = 0.0
    weights /= weights.sum()
    return {penalty: float(w) for penalty, w in zip(grid, weights, strict=True) if w > 0}


@dataclass(frozen=True, slots=True, eq=False)
class _Sums:
    """Weighted sums over some rows: all that a linear model asks of them."""

    rows: float
    x: Floats
    xx: Floats
    z: Floats
    xz: Floats
    zz: Floats
    together: float

    @property
    def alike(self) -> float:
        """How many times as much the mean over arms varies as that of independent arms would.

        Scores of all arms are taken against the same control: what is held out of eight arms says
        less than eight times as much as of one.
        """
        mean = float(self.means.mean())
        each = float((self.zz - self.means**2 * self.rows).sum())
        whole = (self.together - mean**2 * self.rows) * len(self.z) ** 2
        return max(whole / each, 1.0) if each > 0 else 1.0

    @classmethod
    def of(cls, x: Floats, z: Floats, w: Floats) -> "_Sums":
        weighted = x * w[:, None]
        return cls(
            float(w.sum()), weighted.sum(axis=0), x.T @ weighted, w @ z, weighted.T @ z, w @ z**2,
            float(w @ z.mean(axis=1) ** 2),
        )  # fmt: skip

    @classmethod
    def total(cls, parts: list["_Sums"]) -> "_Sums":
        whole = parts[0]
        for part in parts[1:]:
            whole = whole.plus(part)
        return whole

    def plus(self, other: "_Sums") -> "_Sums":
        return _Sums(
            self.rows + other.rows,
            self.x + other.x,
            self.xx + other.xx,
            self.z + other.z,
            self.xz + other.xz,
            self.zz + other.zz,
            self.together + other.together,
        )

    @property
    def means(self) -> Floats:
        return np.asarray(self.z / self.rows)

    def level(self, slopes: Floats) -> Floats:
        """``(arms,)``: mean effects where all covariates are at their centre."""
        return np.asarray(self.means - self.x / self.rows @ slopes)

    def slopes(self, shared: float, own: float) -> Floats:
        """``(columns, arms)``: the slopes all arms share and each arm's departure."""
        arms, columns = len(self.z), len(self.x)
        if not np.isfinite(shared):
            return np.zeros((columns, arms))
        gram = self.xx - np.outer(self.x, self.x) / self.rows
        cross = self.xz - np.outer(self.x, self.z) / self.rows
        eye = np.eye(columns)
        together = np.linalg.solve(gram + shared * eye, cross.mean(axis=1))
        slopes = np.tile(together[:, None], (1, arms))
        if np.isfinite(own):
            slopes += np.linalg.solve(gram + own * eye, cross - (gram @ together)[:, None])
        return slopes

    def mean_slopes(self, penalties: Mapping[Penalty, float]) -> Floats:
        """The mean of the slopes of several penalties, by their weights."""
        found = np.zeros((len(self.x), len(self.z)))
        for penalty, weight in penalties.items():
            found += weight * self.slopes(*penalty)
        return found

    def loss(self, level: Floats, slopes: Floats) -> float:
        """Weighted squares of what ``level + x @ slopes`` leaves of these rows, over all arms."""
        left = (
            self.zz
            - 2 * level * self.z
            + level**2 * self.rows
            - 2 * np.einsum("ca,ca->a", slopes, self.xz)
            + 2 * level * (self.x @ slopes)
            + np.einsum("ca,cd,da->a", slopes, self.xx, slopes)
        )
        return float(left.sum())


def _moments(features: Features, everyone: Ints) -> tuple[Floats, Floats]:
    """Mean and deviation of every column, without its missing numbers; deviation 1 for none."""
    seen, total, squares = (np.zeros(features.shape[1]) for _ in range(3))
    for piece in pieces(len(everyone)):
        own = features[everyone[piece]]
        seen += np.isfinite(own).sum(axis=0)
        total += np.nansum(own, axis=0, dtype=float)
    centre = total / np.maximum(seen, 1)
    for piece in pieces(len(everyone)):
        squares += np.nansum((features[everyone[piece]] - centre) ** 2, axis=0)
    scale = np.sqrt(squares / np.maximum(seen, 1))
    scale[scale < 1e-9 * np.maximum(np.abs(centre), 1)] = 1.0
    return centre, scale


def _standard(features: Features, centre: Floats, scale: Floats) -> Floats:
    return np.nan_to_num((features.astype(float) - centre) / scale, copy=False)
