"""Meta-learners: what each of S, T, X, R and DR makes of the same nuisance pass.

S is the joint outcome model asked twice. T is one outcome model per arm. X, R and DR turn every row
into a target whose mean given the covariates is the effect, and hand it to a final stage.

Sources:
    Kunzel, Sekhon, Bickel & Yu, "Metalearners for estimating heterogeneous treatment effects using
    machine learning", PNAS (2019): S, T, X. Nie & Wager, "Quasi-oracle estimation of heterogeneous
    treatment effects", Biometrika (2021): R and the R-loss. Kennedy, "Towards optimal doubly robust
    estimation of heterogeneous causal effects", Electronic Journal of Statistics (2023): DR.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from journeylab.uplift.boosting import Features, FoldTrees, Objective, bin_rows, boost
from journeylab.uplift.covariates import Encoding
from journeylab.uplift.final_stage import FinalStage, fit_final_stage
from journeylab.uplift.forest import ForestStage, Residuals, fit_forest
from journeylab.uplift.nuisance import Nuisance, aipw_effect, arm_flags, predict_arms
from journeylab.uplift.ridge import Ridge, fit_ridge
from journeylab.uplift.scores import Floats, Ints
from journeylab.uplift.settings import (
    MANY_ROWS,
    NUISANCE_ROWS,
    Trees,
    effect_trees,
    honest_trees,
    nuisance_trees,
    pieces,
)
from journeylab.uplift.trial import Trial

Learner = Literal["s", "t", "x", "r", "dr", "pooled", "forest", "average", "response", "flat"]
# In the order in which they are learnt: an average needs its parts before it.
LEARNERS: tuple[Learner, ...] = (
    "s", "t", "x", "r", "dr", "pooled", "forest", "average", "response", "flat",
)  # fmt: skip
BASELINE_RISK = "expected outcome as control"
# Looks at the S-learner's path, as shares of the rounds that were grown.
_LOOKS = 8


def averaged(rows: int) -> tuple[Learner, ...]:
    """What ``average`` is the mean of, in a trial of so many rows.

    Two that err in different ways: gradient-boosted scores and an honest forest; where rows are
    many, all that boost, for there the forest costs more than it adds. T, which learns differences
    from two noises, never takes part.
    """
    return ("dr", "forest") if rows < MANY_ROWS else ("s", "x", "r", "dr", "pooled")


@dataclass(slots=True, eq=False)
class Late:
    """A table that is made when it is first asked for.

    Attributes:
        make: Makes it.
        made: What it made.
    """

    make: Callable[[], Floats]
    made: Floats | None = None

    @property
    def value(self) -> Floats:
        """The table."""
        if self.made is None:
            self.made = self.make()
        return self.made


@dataclass(frozen=True, slots=True, eq=False)
class Learnt:
    """Effects of every arm, by one learner on one pass.

    Attributes:
        learner: Its name.
        nuisance: The pass.
        late: Makes ``held_out`` when it is first asked for: who only scores others never asks.
        stages: Per arm beside the control, for X, R and DR.
        forests: The same for the forest.
        outcomes: Outcome models: for S the joint one, for T one per arm.
        pooled: Linear effects of all arms.
        parts: What an average is the mean of.
        level: ``(arms - 1,)`` average effects, of the flat learner.
        with_risk: Whether the expected outcome as control is a modifier, behind the covariates.
    """

    learner: Learner
    nuisance: Nuisance
    late: Late
    stages: tuple[FinalStage, ...] = ()
    forests: tuple[ForestStage, ...] = ()
    outcomes: tuple[FoldTrees, ...] = ()
    pooled: Ridge | None = None
    parts: tuple["Learnt", ...] = ()
    level: tuple[float, ...] = ()
    with_risk: bool = False

    @property
    def held_out(self) -> Floats:
        """Effects on the rows of the pass by models that never saw them, ``(rows, arms - 1)``."""
        return self.late.value

    def effects(self, features: Features) -> Floats:
        """Effects on new rows, ``(rows, arms - 1)``."""
        arms = len(self.nuisance.trial.arms)
        if self.learner == "flat":
            return np.tile(np.array(self.level), (len(features), 1))
        if self.learner == "response":
            return self.nuisance.expected(features)[:, 1:]
        if self.learner == "average":
            return np.asarray(np.mean([part.effects(features) for part in self.parts], axis=0))
        if self.learner == "s":
            told = [
                self.outcomes[0].predict(features, arm_flags(place, arms)) for place in range(arms)
            ]
            return np.column_stack([one - told[0] for one in told[1:]])
        if self.learner == "t":
            told = [model.predict(features) for model in self.outcomes]
            return np.column_stack([one - told[0] for one in told[1:]])
        features = self.modifiers(features)
        if self.pooled is not None:
            return self.pooled.predict(features)
        return np.column_stack([one.predict(features) for one in self.stages or self.forests])

    def modifiers(self, features: Features) -> Features:
        """What the final stage sees of new rows."""
        if not self.with_risk:
            return features
        arms = len(self.nuisance.trial.arms)
        risk = self.nuisance.trees.predict(features, arm_flags(0, arms))
        return np.column_stack([features, risk.astype(np.float32)])

    def modifier_names(self, encoding: Encoding) -> tuple[str, ...]:
        """Names of the columns of ``modifiers``."""
        return (*encoding.names, BASELINE_RISK) if self.with_risk else encoding.names


def learn(
    nuisance: Nuisance,
    learner: Learner,
    trees: Trees | None = None,
    *,
    apart: Learnt | None = None,
) -> Learnt:
    """Learn the effects of every arm against the control.

    Args:
        nuisance: The pass, which may serve many learners.
        learner: ``s``, ``t``, ``x``, ``r``, ``dr``; ``pooled`` (linear, arms share strength);
            ``forest`` (honest trees); ``average``; ``response`` (a ranking: the
            expected outcome under the arm, no effect); ``flat`` (everybody gets the average).
        trees: Of the final stage, or of T's outcome models; by default by the number of rows.
        apart: What T learnt from the same pass, whose outcome models X needs; else they are learnt.
    """
    if learner == "s":
        return _joint(nuisance)
    if learner == "t":
        return _apart(nuisance, trees or nuisance_trees(len(nuisance.trial)))
    if learner == "average":
        parts = averaged(len(nuisance.trial))
        return average([learn(nuisance, part, trees, apart=apart) for part in parts])
    if learner == "response":
        return Learnt(learner, nuisance, Late(lambda: nuisance.predicted[:, 1:]))
    if learner == "flat":
        return _constant(nuisance)
    trial = nuisance.trial
    # A weak pattern often follows the baseline; with many rows the trees find it by themselves,
    # and the second pass over the outcome models is saved.
    with_risk = len(trial) < MANY_ROWS
    features = trial.features
    if with_risk:
        risk = nuisance.predicted[:, 0].astype(np.float32)
        features = np.column_stack([features, risk])
    folds = nuisance.final_folds
    if learner == "pooled":
        values = nuisance.values
        ridge = fit_ridge(features, values[:, 1:] - values[:, :1], folds)
        late = Late(lambda: ridge.held_out(features, folds))
        return Learnt(learner, nuisance, late, pooled=ridge, with_risk=with_risk)
    if learner == "forest":
        grown = [_forest(nuisance, features, place) for place in range(1, len(trial.arms))]
        late = Late(lambda: np.column_stack([one.held_out(features, folds) for one in grown]))
        return Learnt(learner, nuisance, late, forests=tuple(grown), with_risk=with_risk)
    settings = trees or effect_trees(len(trial))
    stages: list[FinalStage] = []
    everyone = learner == "dr" or len(trial.arms) == 2
    binned = bin_rows(features, folds, settings.bins) if everyone else None
    rows: Ints | None
    for place in range(1, len(trial.arms)):
        if learner == "x":
            if not folds.alone:
                apart = apart or _apart(nuisance, nuisance_trees(len(trial)))
            target, weight, rows = imputed_targets(nuisance, apart, place)
        else:
            target, weight, rows = _target(nuisance, learner, place)
        if everyone:
            rows = None
        bins = binned or bin_rows(features, folds, settings.bins, rows=rows)
        stage = fit_final_stage(
            features, target, weight, folds, bins, settings, nuisance.seed + place,
            rows=rows, threads=nuisance.threads,
        )  # fmt: skip
        stages.append(stage)
        del target, weight, rows, bins  # room for those of the next arm
    late = Late(lambda: np.column_stack([one.held_out(features, folds) for one in stages]))
    return Learnt(learner, nuisance, late, stages=tuple(stages), with_risk=with_risk)


def average(parts: Sequence[Learnt]) -> Learnt:
    """The mean of several learners on the same pass."""
    late = Late(lambda: np.asarray(np.mean([part.held_out for part in parts], axis=0)))
    return Learnt("average", parts[0].nuisance, late, parts=tuple(parts))


def r_loss(nuisance: Nuisance, effects: Floats) -> Floats:
    """What each row says against an effect model, ``(rows, arms - 1)``; 0 outside arm and control.

    The square of what remains of an outcome once its mean and the effect of its arm are taken off,
    each row by the chance of its arm (Nie & Wager, 2021). Its mean is least at the true effects.
    """
    trial, predicted = nuisance.trial, nuisance.predicted
    return np.column_stack(
        [_r_losses(trial, predicted, effects, place) for place in range(1, len(trial.arms))]
    )


def _r_losses(trial: Trial, predicted: Floats, effects: Floats, place: int) -> Floats:
    target, weight, rows = _r_target(trial, predicted, place)
    found = np.zeros(len(trial))
    found[rows] = weight[rows] * (target[rows] - effects[rows, place - 1]) ** 2
    return found


def _target(nuisance: Nuisance, learner: Learner, place: int) -> tuple[Floats, Floats, Ints]:
    """Target and weight of every row for one arm, and the rows that say something about it."""
    trial, predicted = nuisance.trial, nuisance.predicted
    if learner == "dr":
        n = len(trial)
        everyone = np.arange(n, dtype=np.int32)
        return aipw_effect(trial, predicted, place), np.broadcast_to(1.0, n), everyone
    return _r_target(trial, predicted, place)


def _r_target(trial: Trial, predicted: Floats, place: int) -> tuple[Floats, Floats, Ints]:
    left = residuals(trial, predicted, place)
    for rows in pieces(len(trial)):
        left.outcome[rows] /= left.arm[rows]
        left.weight[rows] *= left.arm[rows] ** 2
    return left.outcome, left.weight, _rows_of_pair(trial, place)


def residuals(trial: Trial, predicted: Floats, place: int) -> Residuals:
    """What is left of outcomes and of one arm, among it and the control, of all rows."""
    left = Residuals(*(np.empty(len(trial)) for _ in range(3)))
    known = _knows_both(trial, place)
    for rows in pieces(len(trial)):
        share, left.weight[rows] = _pair_at(trial, place, known, rows)
        mean = share * predicted[rows, place] + (1 - share) * predicted[rows, 0]
        left.arm[rows] = (trial.arm[rows] == place) - share
        left.outcome[rows] = trial.outcome[rows] - mean
    return left


def _forest(nuisance: Nuisance, features: Features, place: int) -> ForestStage:
    trial, rows = nuisance.trial, _rows_of_pair(nuisance.trial, place)
    return fit_forest(
        features, residuals(trial, nuisance.predicted, place), nuisance.final_folds,
        honest_trees(len(rows)), nuisance.seed + place, rows=rows, clusters=trial.clusters,
        threads=nuisance.threads,
    )  # fmt: skip


def imputed_targets(
    nuisance: Nuisance, apart: Learnt | None, place: int
) -> tuple[Floats, Floats, Ints]:
    """X's targets: what came less what was expected under the other arm, and their weights.

    With one outcome model per arm (``apart``): that of the other arm has not seen the row, which
    was in its own arm, and a fold's final model learns from outcome models without that fold's
    rows, or its held-out effects would know them. With very many rows the outcomes that the pass
    expects serve, held out: models of an arm apart would expect the same.

    Weights of the R-loss combine the two regressions of X exactly as its own formula does: (1 - e)
    times that of the treated and e times that of the control.
    """
    trial, folds = nuisance.trial, nuisance.final_folds
    weight, known = np.empty(len(trial)), _knows_both(trial, place)
    for piece in pieces(len(trial)):
        share, row_weight = _pair_at(trial, place, known, piece)
        weight[piece] = row_weight * ((trial.arm[piece] == place) - share) ** 2
    rows = _rows_of_pair(trial, place)
    if apart is None:
        expected, gaps = nuisance.predicted, np.empty(len(trial))
        for piece in pieces(len(trial)):
            y, treated = trial.outcome[piece], trial.arm[piece] == place
            gaps[piece] = np.where(treated, y - expected[piece, 0], expected[piece, place] - y)
        return gaps, weight, rows
    target = np.zeros((folds.count, len(trial)))
    for fold in folds.range:
        for code, other in ((0, place), (place, 0)):
            own = np.flatnonzero(trial.arm == code)
            model = apart.outcomes[other]
            told = model.told(fold, model.rounds[fold], trial.features, own)
            gap = trial.outcome[own] - told
            target[fold, own] = gap if code == place else -gap
    return target, weight, rows


def _rows_of_pair(trial: Trial, place: int) -> Ints:
    """Rows of an arm and of the control."""
    return np.flatnonzero((trial.arm == place) | (trial.arm == 0)).astype(np.int32)


def _knows_both(trial: Trial, place: int) -> bool:
    """Whether the chances of an arm and of the control are known for all rows of the two."""
    lacking = (
        np.isnan(trial.chances[rows][:, [0, place]]).any(axis=1)
        & np.isin(trial.arm[rows], (0, place))
        for rows in pieces(len(trial))
    )
    return not any(piece.any() for piece in lacking)


def _pair_at(trial: Trial, place: int, known: bool, rows: slice) -> tuple[Floats, Floats]:
    """Of some rows: the chance of an arm among it and the control, and weights beside it."""
    if not known:
        # Only the chance of the arm given is known: rows weighted by its inverse stand for a trial
        # in halves.
        own_chance = trial.own_chance_at(rows)
        return np.full(len(own_chance), 0.5), 1 / own_chance
    own, other = trial.chances[rows, place], trial.chances[rows, 0]
    return own / (own + other), np.ones(len(own))


def _constant(nuisance: Nuisance) -> Learnt:
    """The average effect for all; on the rows learnt from, that of the other folds."""
    values = nuisance.values
    effects, folds = values[:, 1:] - values[:, :1], nuisance.folds
    held = np.empty_like(effects)
    for fold in folds.range:
        held[folds.of_row == fold] = effects[folds.learns(fold)].mean(axis=0)
    level = tuple(effects.mean(axis=0).tolist())
    return Learnt("flat", nuisance, Late(lambda: held), level=level)


def _joint(nuisance: Nuisance) -> Learnt:
    """S: the joint model of the pass, each fold's with the trees its checks' R-loss is least by."""
    trial, model = nuisance.trial, nuisance.trees
    if len(trial) < MANY_ROWS:
        rounds = [_by_r_loss(nuisance, fold) for fold in nuisance.folds.range]
        model = model.at(rounds)

    def held() -> Floats:
        predicted = predict_arms(model, trial, nuisance.folds)
        return np.asarray(predicted[:, 1:] - predicted[:, :1])

    return Learnt("s", nuisance, Late(held), outcomes=(model,))


def _by_r_loss(nuisance: Nuisance, fold: int) -> int:
    """Trees, at most those the outcome wants, at which effects leave the least R-loss."""
    trial, kept = nuisance.trial, nuisance.trees.rounds[fold]
    arms = len(trial.arms)
    looks = sorted({round(kept * look / _LOOKS) for look in range(1, _LOOKS + 1)} - {0})
    losses = np.zeros(len(looks))
    for check in nuisance.trees.checks[fold]:
        rows = trial.take(check.rows)
        told = [
            np.column_stack(
                [
                    check.told(trial.features, rounds, check.rows, arm_flags(place, arms))
                    for place in range(arms)
                ]
            )
            for rounds in looks
        ]
        for number, values in enumerate(told):
            effects = values[:, 1:] - values[:, :1]
            losses[number] += sum(
                float(_r_losses(rows, told[-1], effects, place).sum()) for place in range(1, arms)
            )
    return looks[int(np.argmin(losses))] if looks else 0


def _apart(nuisance: Nuisance, settings: Trees) -> Learnt:
    """T: an outcome model per arm, on the folds of the pass."""
    trial, folds = nuisance.trial, nuisance.folds
    models = []
    for place in range(len(trial.arms)):
        rows = np.flatnonzero(trial.arm == place)
        binned = bin_rows(trial.features, folds, settings.bins, rows=rows, most=NUISANCE_ROWS)
        objective: Objective = "binary:logistic" if trial.kind == "binary" else "reg:squarederror"
        own = replace(settings, leaf=min(settings.leaf, max(len(rows) / 50, 1)))
        models.append(
            boost(binned, trial.outcome, own, nuisance.seed + place, objective=objective,
                  threads=nuisance.threads)
        )  # fmt: skip

    def held() -> Floats:
        told = [model.held_out(trial.features, folds) for model in models]
        return np.column_stack([one - told[0] for one in told[1:]])

    return Learnt("t", nuisance, Late(held), outcomes=tuple(models))
