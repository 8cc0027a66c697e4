"""Nuisance: what to expect under each arm, told of every row by a model that has not seen it."""

from dataclasses import dataclass, replace

import numpy as np

from journeylab.errors import FitError
from journeylab.uplift.boosting import Features, FoldTrees, Objective, bin_rows, boost
from journeylab.uplift.folds import Folds, make_folds
from journeylab.uplift.scores import Floats, Scores
from journeylab.uplift.settings import (
    NUISANCE_ROWS,
    VERY_MANY_ROWS,
    Trees,
    nuisance_trees,
    pieces,
)
from journeylab.uplift.trial import Trial

_OBJECTIVES: dict[str, Objective] = {
    "binary": "binary:logistic",
    "zero-inflated": "reg:tweedie",
    "continuous": "reg:squarederror",
}
# Propensities estimated from data are kept this far from 0 and 1.
_OVERLAP = 0.02


@dataclass(frozen=True, slots=True, eq=False)
class Nuisance:
    """One cross-fitted pass, which all learners and all scores share.

    Attributes:
        trial: The rows; observational ones with the chances that were estimated.
        folds: Of the rows.
        trees: One model per fold for all arms jointly: the arms are columns behind the covariates.
        predicted: ``(rows, arms)``: expected outcome under each arm, held out.
        seed: Of the trees that learn from it.
        threads: Folds grown at the same time.
    """

    trial: Trial
    folds: Folds
    trees: FoldTrees
    predicted: Floats
    seed: int
    threads: int

    @property
    def final_folds(self) -> Folds:
        """Folds of the models that learn effects."""
        many = len(self.trial) >= VERY_MANY_ROWS and self.folds.count > 2
        return replace(self.folds, alone=True) if many else self.folds

    def expected(self, features: Features) -> Floats:
        """Expected outcome of new rows under each arm, ``(rows, arms)``."""
        arms = len(self.trial.arms)
        found = np.empty((len(features), arms))
        for place in range(arms):
            found[:, place] = self.trees.predict(features, arm_flags(place, arms))
        return found

    @property
    def values(self) -> Floats:
        """AIPW scores, ``(rows, arms)``."""
        return aipw(self.trial, self.predicted)

    def scores(self) -> Scores:
        """The scores as what every evaluation starts from."""
        trial = self.trial
        return Scores(
            trial.index, trial.arms, self.values, self.predicted, trial.outcome,
            trial.arm.astype(np.int64), trial.own_chance, trial.unit, trial.clusters,
            self.folds.of_row.astype(np.int64),
        )  # fmt: skip

    def scores_of(self, others: Trial) -> Scores:
        """Scores of rows that had no part in this pass."""
        predicted = self.expected(others.features)
        return Scores(
            others.index, others.arms, aipw(others, predicted), predicted, others.outcome,
            others.arm.astype(np.int64), others.own_chance, others.unit, others.clusters,
        )  # fmt: skip


def fit_nuisance(
    trial: Trial,
    folds: int = 5,
    *,
    rng: int | np.random.Generator,
    trees: Trees | None = None,
    threads: int = 1,
) -> Nuisance:
    """Learn expected outcomes fold by fold.

    A logistic loss serves 0 and 1, a Tweedie loss amounts that are mostly 0, squares the rest.

    Args:
        trial: The rows.
        folds: 2 or more.
        rng: Seed or generator of folds and trees.
        trees: Settings; by default chosen by the number of rows.
        threads: Folds grown at the same time; changes no byte.

    Raises:
        ContractError: There are too few rows or clusters for so many folds.
        FitError: A fold's rows all have the same outcome.
    """
    generator = np.random.default_rng(rng)
    division = make_folds(trial.arm, trial.clusters, folds, generator)
    seed = int(generator.integers(2**31))
    for fold in division.range:
        learn = trial.outcome[division.learns(fold)]
        if learn.min() == learn.max():
            raise FitError(
                f"all {len(learn)} rows of a fold have the outcome {learn[0]:g}: too few customers "
                "did anything; use fewer folds or a commoner outcome"
            )
    if trial.observational:
        trial = replace(trial, chances=_estimated(trial, division, seed))
    arms = len(trial.arms)
    settings = trees or nuisance_trees(len(trial))
    flags = _flags(trial.arm, arms)
    binned = bin_rows(trial.features, division, settings.bins, most=NUISANCE_ROWS, flags=flags)
    model = boost(
        binned, trial.outcome, settings, seed, objective=_OBJECTIVES[trial.kind], threads=threads
    )
    del binned, flags  # room for what is predicted
    return Nuisance(trial, division, model, predict_arms(model, trial, division), seed, threads)


def predict_arms(model: FoldTrees, trial: Trial, folds: Folds) -> Floats:
    """Held-out outcome of the trial's rows under each arm, ``(rows, arms)``."""
    arms = len(trial.arms)
    found = np.empty((len(trial), arms))
    for place in range(arms):
        found[:, place] = model.held_out(trial.features, folds, arm_flags(place, arms))
    return found


def aipw(trial: Trial, predicted: Floats) -> Floats:
    """Doubly robust scores, ``(rows, arms)`` (Robins, Rotnitzky & Zhao, 1994)."""
    values = predicted.copy()
    for rows in pieces(len(trial)):
        values[rows] = _aipw_at(trial, predicted, rows)
    return values


def aipw_effect(trial: Trial, predicted: Floats, place: int) -> Floats:
    """Scores of one arm less those of the control, ``(rows,)``, without a table of all scores."""
    found = np.empty(len(trial))
    for rows in pieces(len(trial)):
        values = _aipw_at(trial, predicted, rows)
        found[rows] = values[:, place] - values[:, 0]
    return found


def _aipw_at(trial: Trial, predicted: Floats, rows: slice) -> Floats:
    values, arm = predicted[rows].copy(), trial.arm[rows, None]
    own = np.take_along_axis(values, arm, axis=1)[:, 0]
    own += (trial.outcome[rows] - own) / trial.own_chance_at(rows)
    np.put_along_axis(values, arm, own[:, None], axis=1)
    return values


def arm_flags(place: int, arms: int) -> Features:
    """The columns that say which arm a row is asked about."""
    return np.asarray(np.arange(1, arms) == place, dtype=np.float32)


def _flags(arm: np.ndarray, arms: int) -> Features:
    return np.asarray(arm[:, None] == np.arange(1, arms), dtype=np.float32)


def _estimated(trial: Trial, folds: Folds, seed: int) -> Floats:
    """Chances of each arm by one-against-the-rest trees, held out and made to add up to 1."""
    settings = nuisance_trees(len(trial))
    binned = bin_rows(trial.features, folds, settings.bins, most=NUISANCE_ROWS)
    found = np.empty((len(trial), len(trial.arms)))
    for place in range(len(trial.arms)):
        own = (trial.arm == place).astype(float)
        model = boost(binned, own, settings, seed, objective="binary:logistic")
        found[:, place] = model.held_out(trial.features, folds)
    found = np.clip(found, _OVERLAP, 1 - _OVERLAP)
    return np.asarray(found / found.sum(axis=1, keepdims=True))
