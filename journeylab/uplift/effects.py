"""Effects: what each arm would do to each customer, with held-out effects for those learnt from."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd

from journeylab.errors import ContractError
from journeylab.estimate import measured
from journeylab.uplift.meta_learners import LEARNERS, Learner, Learnt, learn, r_loss
from journeylab.uplift.nuisance import fit_nuisance
from journeylab.uplift.scores import Floats, Ints, Scores
from journeylab.uplift.settings import MOST_ARMS, Trees
from journeylab.uplift.trial import Propensity, Trial, read_trial
from journeylab.uplift.used_rows import refuse_used

_NO_DRAW = (
    "differences that nobody drew by lot are no effects: observational_estimate shows them with "
    "their label or refuses them; where others were drawn, aipw_scores with their chances judges "
    "what this fit says of them"
)


@dataclass(frozen=True, slots=True, eq=False)
class EffectFit:
    """Effects learnt from one trial.

    An effect here is a forecast for ranking and grouping; no interval is claimed for one customer.
    What is certain about groups is in ``groups``.

    Attributes:
        learner: Name of the learner.
        outcome, arm: Columns it was learnt from.
        passes: One per repeat of the cross-fitting; all answers are their averages.
        slopes, levels: Per arm, what calibration made of the effects; 1 and 0 without.
        observational: Whether propensities were estimated: then these are differences, and are
            effects only if everything that moved the choice of arm is among the covariates.
    """

    learner: Learner
    outcome: str
    arm: str
    passes: tuple[Learnt, ...]
    slopes: tuple[float, ...]
    levels: tuple[float, ...]
    observational: bool

    @property
    def trial(self) -> Trial:
        """The rows it was learnt from."""
        return self.passes[0].nuisance.trial

    @property
    def arms(self) -> tuple[str, ...]:
        """Arms beside the control, as labelled in the frame."""
        return self.trial.arms[1:]

    @property
    def out_of_fold(self) -> pd.DataFrame:
        """Effects on the rows learnt from, told by models that have not seen the row.

        No model learnt from the row's fold, and when to stop, what penalty to take and how far to
        trust the trees was decided by rows of other folds alone. The scores of those rows, from
        which it was learnt and decided, are not quite free of this fold: their expected outcomes
        come from models that know it, as in every cross-fitting on one division. Where chances are
        known the scores are right on average whatever was expected, so what gets through is of
        second order; ``compare`` is free of it, for a fold of its outer division takes no part at
        all in what it judges. This holds for one learner named beforehand; the best of several must
        be judged on rows that the choice has not seen (``compare``).

        Returns:
            One column per arm, in the outcome's unit, indexed like the frame.
        """
        told = np.mean([one.held_out for one in self.passes], axis=0)
        return self._labelled(told, self.trial.index)

    def effects(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Effects of each arm against the control on new customers.

        Args:
            frame: The covariates.

        Returns:
            One column per arm, in the outcome's unit, indexed like ``frame``.

        Raises:
            ContractError: A covariate is missing.
        """
        features = self.trial.encoding.encode(frame)
        told = np.mean([one.effects(features) for one in self.passes], axis=0)
        return self._labelled(told, frame.index)

    def scores(self) -> Scores:
        """AIPW scores of the rows learnt from, from the same passes, averaged.

        Raises:
            ContractError: Propensities were estimated: what such scores average to is no effect.
        """
        self._refuse_observational()
        return self._scores()

    def _scores(self) -> Scores:
        first = self.passes[0].nuisance.scores()
        if len(self.passes) == 1:
            return first
        # Folds of different repeats do not nest: averaged models share one scale.
        values = np.mean([one.nuisance.values for one in self.passes], axis=0)
        predicted = np.mean([one.nuisance.predicted for one in self.passes], axis=0)
        return replace(first, values=values, predicted=predicted, folds=None)

    def scores_of(
        self, frame: pd.DataFrame, propensity: Propensity, clusters: str | None = None
    ) -> Scores:
        """AIPW scores of rows that were not learnt from, to evaluate these effects on.

        A row was learnt from if its label and its content (covariates as encoded, arm, outcome) are
        those of a row of the fit. Row numbers that collide are no reason to refuse: where most of
        the contents behind equal labels differ, the labels name other rows. Nor do new labels make
        rows new: where hardly two rows of the fit are alike and more than nine tenths of the frame
        are found among them, with arm and outcome, they are refused.

        Args:
            frame: As given to ``fit_effects``, of others.
            propensity: As there; known.
            clusters: Column; rows with the same value are not independent. Must be named where the
                fit had clusters.

        Raises:
            ContractError: Rows were learnt from, an arm is unknown, the fit had clusters and none
                are named, or propensities are or were estimated.
        """
        self._refuse_observational()
        if isinstance(propensity, str) and propensity == "estimate":
            raise ContractError(f"propensities must be known to judge by; {_NO_DRAW}")
        trial = self.trial
        if trial.clusters is not None and clusters is None:
            raise ContractError(
                "the fit had clusters: name the column of clusters here too, or rows of one "
                "cluster would count as independent and standard errors come out too small"
            )
        others = read_trial(
            frame, self.outcome, self.arm, trial.arms[0], trial.encoding.columns, propensity,
            clusters=clusters, unit=trial.unit, most_arms=None,
        )  # fmt: skip
        if others.arms != trial.arms:
            raise ContractError(
                f"arms are {', '.join(others.arms)}, but {', '.join(trial.arms)} were learnt"
            )
        others = replace(others, features=trial.encoding.encode(frame))
        refuse_used(trial, others)
        told = [one.nuisance.scores_of(others) for one in self.passes]
        values = np.mean([one.values for one in told], axis=0)
        predicted = np.mean([one.predicted for one in told], axis=0)
        return replace(told[0], values=values, predicted=predicted)

    def r_loss(self) -> pd.DataFrame:
        """Held-out R-loss beside that of a constant effect.

        Returns:
            One row per arm: ``arm, loss, flat`` (mean over the rows of the arm and the control),
            ``gain`` (flat less loss) and its ``standard_error``, robust to clusters.
        """
        found = []
        nuisance = self.passes[0].nuisance
        told = self.out_of_fold.to_numpy()
        values = nuisance.values
        constant = np.broadcast_to((values[:, 1:] - values[:, :1]).mean(axis=0), told.shape)
        own, flat = r_loss(nuisance, told), r_loss(nuisance, constant)
        for place, name in enumerate(self.arms):
            rows = np.isin(nuisance.trial.arm, (0, place + 1))
            gain = flat[rows, place] - own[rows, place]
            group = nuisance.trial.clusters
            if group is not None:
                group = np.unique(group[rows], return_inverse=True)[1]
            known = measured(float(gain.mean()), gain, nuisance.trial.unit, group)
            found.append(
                (name, float(own[rows, place].mean()), float(flat[rows, place].mean()),
                 known.value, known.standard_error)
            )  # fmt: skip
        return pd.DataFrame(found, columns=["arm", "loss", "flat", "gain", "standard_error"])

    def calibrate(self, told: Floats | None = None, scores: Scores | None = None) -> "EffectFit":
        """The same with effects whose size agrees with the scores, arm by arm.

        The scores are regressed on the held-out effects; the slope is kept within 0 (the effects
        say nothing: all get the average) and 1.5, the mean becomes the average effect. The order
        within an arm stays.

        Args:
            told: ``(rows, arms - 1)`` effects to regress on, by the same learner; by default the
                held-out ones of this fit.
            scores: Those of the rows of ``told``; by default of this fit.

        Source:
            Chernozhukov, Demirer, Duflo & Fernandez-Val, "Fisher-Schultz lecture: generic machine
            learning inference on heterogeneous treatment effects" (2023): best linear predictor.
        """
        if told is None:
            told = np.mean([one.held_out for one in self.passes], axis=0)
        known = self._scores() if scores is None else scores
        values = known.values
        slopes, levels = [], []
        for place in range(told.shape[1]):
            score, own = values[:, place + 1] - values[:, 0], told[:, place]
            # Within folds: a fold's models know the level of all others, which its own pulls down.
            apart = _within(own, known.folds)
            spread = float(np.mean(apart**2))
            slope = float(np.mean(apart * score)) / spread if spread > 0 else 0.0
            slope = min(max(slope, 0.0), 1.5)
            slopes.append(slope)
            levels.append(float(score.mean() - slope * own.mean()))
        return replace(self, slopes=tuple(slopes), levels=tuple(levels))

    def explain(self, frame: pd.DataFrame, arm: str | None = None) -> pd.DataFrame:
        """SHAP values of the final stage: what each covariate adds to a customer's effect.

        Exact for the trees (TreeSHAP) and for the linear part.

        Args:
            frame: The covariates; a few thousand rows are plenty.
            arm: Whose effect; may be left out where there is one.

        Returns:
            One column per encoded covariate and ``everybody``, in the outcome's unit; a row adds up
            to the customer's effect.

        Raises:
            ContractError: S, T and the forest have no final stage that adds up; or the arm is
                unknown.
        """
        if arm is None and len(self.arms) == 1:
            arm = self.arms[0]
        if arm not in self.arms:
            raise ContractError(f"arm must be one of {', '.join(self.arms)}; got {arm!r}")
        if not (self.passes[0].stages or self.passes[0].pooled):
            raise ContractError(
                f"learner {self.learner!r} has no final stage to explain; use x, r, dr or pooled"
            )
        place = self.arms.index(arm)
        features = self.trial.encoding.encode(frame)
        total = np.mean([_contributions(one, features, place) for one in self.passes], axis=0)
        total = total * self.slopes[place]
        total[:, -1] += self.levels[place]
        names = (*self.passes[0].modifier_names(self.trial.encoding), "everybody")
        return pd.DataFrame(total, frame.index, list(names))

    def summary(self) -> pd.DataFrame:
        """One row per arm: ``arm, rows`` (given it), ``effect`` (average, AIPW), ``spread``.

        ``spread`` is the standard deviation of the held-out effects. Where propensities were
        estimated there is a ``difference`` in the place of the effect.
        """
        told, values = self.out_of_fold, self._scores().values
        name = "difference" if self.observational else "effect"
        return pd.DataFrame(
            {
                "arm": list(self.arms),
                "rows": [int((self.trial.arm == k + 1).sum()) for k in range(len(self.arms))],
                name: (values[:, 1:] - values[:, :1]).mean(axis=0),
                "spread": told.to_numpy().std(axis=0),
            }
        )

    def _refuse_observational(self) -> None:
        if self.observational:
            raise ContractError(f"propensities of this fit were estimated; {_NO_DRAW}")

    def _labelled(self, told: Floats, index: pd.Index) -> pd.DataFrame:
        told = told * np.array(self.slopes) + np.array(self.levels)
        return pd.DataFrame(told, index, list(self.arms))


def fit_effects(
    frame: pd.DataFrame,
    outcome: str,
    arm: str,
    control: str,
    covariates: Sequence[str],
    *,
    learner: Learner = "dr",
    propensity: Propensity | Literal["estimate"],
    folds: int = 5,
    repeats: int = 1,
    base: Trees | None = None,
    final: Trees | None = None,
    clusters: str | None = None,
    unit: str = "outcome",
    threads: int = 1,
    rng: int | np.random.Generator,
) -> EffectFit:
    """Learn what each arm does to each customer, against the control.

    One cross-fitted pass over the outcomes serves all arms, the AIPW scores and the learner. Trees
    are stopped, and learners weighed, by held-out loss: where nothing beats a constant effect, the
    effects are constant.

    Args:
        frame: One row per customer, indexed by customer.
        outcome: Column: 0 or 1, an amount, or any number.
        arm: Column: what each customer was given, by chance.
        control: Label of the arm that effects are measured against.
        covariates: Columns known before the draw.
        learner: ``s``, ``t``, ``x``, ``r``, ``dr``, ``pooled`` (linear, arms share strength),
            ``forest`` (honest trees) or ``average`` (of those that err in different ways); and the
            baselines ``response`` and ``flat``.
        propensity: Column with the chance of the arm given, or arm -> share, or arm -> column;
            ``"estimate"`` for data without a draw: the result is then marked observational.
        folds: 2 or more.
        repeats: Passes with other folds, averaged.
        base: Trees of the outcome models; by default by the number of rows.
        final: Trees of the final stage; by default by the number of rows.
        clusters: Column; rows of the same value share a fold.
        unit: Of the outcome.
        threads: Models grown at the same time; changes no byte of the result.
        rng: Seed or generator.

    Raises:
        ContractError: As ``read_trial`` and ``make_folds``; or the learner is unknown.
        FitError: A fold's rows all have the same outcome.
    """
    if learner not in LEARNERS:
        raise ContractError(f"learner must be one of {', '.join(LEARNERS)}; got {learner!r}")
    if repeats < 1:
        raise ContractError(f"repeats must be 1 or more; got {repeats}")
    trial = read_trial(
        frame, outcome, arm, control, covariates, propensity, clusters=clusters, unit=unit,
        most_arms=None if learner in ("pooled", "flat") else MOST_ARMS,
    )  # fmt: skip
    generator = np.random.default_rng(rng)
    passes = []
    for _ in range(repeats):
        nuisance = fit_nuisance(trial, folds, rng=generator, trees=base, threads=threads)
        passes.append(learn(nuisance, learner, final))
    number = len(trial.arms) - 1
    return EffectFit(
        learner, outcome, arm, tuple(passes), (1.0,) * number, (0.0,) * number,
        trial.observational,
    )  # fmt: skip


def _within(told: Floats, folds: Ints | None) -> Floats:
    """Effects less the mean of their fold."""
    if folds is None:
        return np.asarray(told - told.mean())
    mean = np.bincount(folds, told) / np.bincount(folds)
    return np.asarray(told - mean[folds])


def _contributions(one: Learnt, features: np.ndarray, place: int) -> Floats:
    modifiers = one.modifiers(features)
    if one.pooled is not None:
        return one.pooled.contributions(modifiers)[:, :, place]
    return one.stages[place].contributions(modifiers)
