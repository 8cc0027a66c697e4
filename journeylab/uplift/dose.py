"""Dose: arms on a scale, such as the depth of a coupon, whose effects never fall as it grows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from journeylab.errors import ContractError
from journeylab.uplift.boosting import Features, FoldTrees, bin_rows, boost
from journeylab.uplift.nuisance import Nuisance, fit_nuisance
from journeylab.uplift.scores import Floats, Scores
from journeylab.uplift.settings import Trees, effect_trees
from journeylab.uplift.trial import Propensity, read_trial


@dataclass(frozen=True, slots=True, eq=False)
class DoseFit:
    """Effects as a function of the dose.

    Attributes:
        doses: Arm -> dose; the control has 0.
        nuisance: The cross-fitted pass.
        trees: Effects from covariates and dose, monotone in the dose.
        rising: Whether more is taken to do more; else to do less.
    """

    doses: dict[str, float]
    nuisance: Nuisance
    trees: FoldTrees
    rising: bool

    def effects(self, frame: pd.DataFrame, doses: Sequence[float] | None = None) -> pd.DataFrame:
        """Effect of each dose against none.

        Args:
            frame: The covariates.
            doses: Within the range of the trial; by default those of its arms. Between two doses
                of the trial the effect is interpolated.

        Returns:
            One column per dose, indexed like ``frame``.

        Raises:
            ContractError: A dose lies outside the range of the trial.
        """
        tried = sorted({0.0, *self.doses.values()})
        asked = list(doses) if doses is not None else tried[1:]
        if outside := [dose for dose in asked if not tried[0] <= dose <= tried[-1]]:
            raise ContractError(
                f"doses {outside} lie outside those of the trial, {tried[0]:g} to {tried[-1]:g}"
            )
        features = self.nuisance.trial.encoding.encode(frame)
        at = np.column_stack([self.trees.predict(_dosed(features, dose)) for dose in tried])
        at -= at[:, :1]
        told = _between(np.array(tried), at, np.array(asked, dtype=float))
        return pd.DataFrame(told, frame.index, [float(dose) for dose in asked])

    @property
    def out_of_fold(self) -> pd.DataFrame:
        """Effect of each arm on the rows learnt from, by models that have not seen the row."""
        trial, folds = self.nuisance.trial, self.nuisance.folds
        none = self.trees.held_out(_dosed(trial.features, 0.0), folds)
        told = {
            arm: self.trees.held_out(_dosed(trial.features, self.doses[arm]), folds) - none
            for arm in trial.arms[1:]
        }
        return pd.DataFrame(told, trial.index)

    def scores(self) -> Scores:
        """AIPW scores of the rows learnt from."""
        return self.nuisance.scores()


def fit_dose(
    frame: pd.DataFrame,
    outcome: str,
    arm: str,
    control: str,
    covariates: Sequence[str],
    doses: Mapping[str, float],
    *,
    propensity: Propensity,
    rising: bool = True,
    folds: int = 5,
    trees: Trees | None = None,
    clusters: str | None = None,
    unit: str = "outcome",
    rng: int | np.random.Generator,
) -> DoseFit:
    """Learn the effect of a dose, all doses together.

    Every row counts once per dose, with its AIPW score against the control; trees on covariates and
    dose are held to be monotone in the dose.

    Args:
        frame: As for ``fit_effects``.
        outcome: Column.
        arm: Column.
        control: Label of the arm without a dose.
        covariates: Columns.
        doses: Arm -> dose, above 0, for every arm beside the control.
        propensity: As for ``fit_effects``; known.
        rising: Whether more does more; ``False``: less.
        folds: 2 or more.
        trees: Of the final stage.
        clusters: Column.
        unit: Of the outcome.
        rng: Seed or generator.

    Raises:
        ContractError: As ``fit_effects``; propensities are to be estimated; or a dose is missing,
            not above 0, or given twice.
    """
    # asked of what a caller may pass, not of what the types allow
    if isinstance(propensity, str) and propensity == "estimate":
        raise ContractError(
            "effects of a dose are those of a trial: propensities must be known, not estimated; "
            "what may be said without a draw is observational_estimate, dose by dose"
        )
    trial = read_trial(
        frame, outcome, arm, control, covariates, propensity, clusters=clusters, unit=unit
    )
    arms = trial.arms[1:]
    if missing := [name for name in arms if name not in doses]:
        raise ContractError(f"doses are missing for arms: {', '.join(missing)}")
    if "dose" in trial.encoding.names:
        raise ContractError("a covariate is called 'dose'; give it another name")
    used = {name: float(doses[name]) for name in arms}
    if any(not dose > 0 for dose in used.values()) or len(set(used.values())) < len(used):
        raise ContractError(f"doses must be above 0 and differ; got {used}")
    nuisance = fit_nuisance(trial, folds, rng=rng)
    values = nuisance.values
    stacked = np.concatenate([_dosed(trial.features, used[name]) for name in arms])
    target = np.concatenate([values[:, place] - values[:, 0] for place in range(1, len(arms) + 1)])
    # The trees start from the mean effect of all doses; a dose of 0 anchors what is 0 for all.
    stacked = np.concatenate([stacked, _dosed(trial.features, 0.0)])
    target = np.concatenate([target, np.zeros(len(trial))])
    division = nuisance.folds.take(np.tile(np.arange(len(trial)), len(arms) + 1))
    settings = trees or effect_trees(len(trial))
    monotone = [0] * trial.features.shape[1] + [1 if rising else -1]
    binned = bin_rows(stacked, division, settings.bins)
    model = boost(binned, target, settings, nuisance.seed, monotone=monotone)
    return DoseFit(used, nuisance, model, rising)


def _dosed(features: Features, dose: float) -> Features:
    column = np.full((len(features), 1), dose, dtype=np.float32)
    return np.concatenate([features, column], axis=1)


def _between(tried: Floats, at: Floats, asked: Floats) -> Floats:
    """Linear between the doses of the trial."""
    right = np.clip(np.searchsorted(tried, asked), 1, len(tried) - 1)
    share = (asked - tried[right - 1]) / (tried[right] - tried[right - 1])
    return np.asarray(at[:, right - 1] * (1 - share) + at[:, right] * share)
