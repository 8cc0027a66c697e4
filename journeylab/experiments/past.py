"""Past tests: what the registry knows that helps to read or to plan the next one."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from journeylab.errors import FitError
from journeylab.experiments.plan import TestPlan
from journeylab.experiments.programme import EffectPrior, effect_prior
from journeylab.experiments.registry import results
from journeylab.experiments.surrogates import Surrogate, validate_surrogate
from journeylab.experiments.verdicts import EXPLORATORY

_FROM = {"relative": "effect", "relative_error": "error"}


@dataclass(frozen=True, slots=True, eq=False)
class PastTests:
    """What past tests say of a plan's metrics.

    Attributes:
        priors: Metric -> how its true effects were spread, as shares of the control.
        surrogates: Secondary metric -> how far it stands for the target that the plan names.
        notes: Metrics of which too little is known, each with the reason.
        effects: What it all rests on: one row per past test, arm and metric: ``experiment, arm,
            metric, effect, error, shipped``.
    """

    priors: Mapping[str, EffectPrior]
    surrogates: Mapping[str, Surrogate]
    notes: tuple[str, ...]
    effects: pd.DataFrame


def past_effects(root: str | Path) -> pd.DataFrame:
    """The last planned look of every past test, won or lost.

    Exploratory readings are left out; leaving out losers would make the prior that of winners.

    Args:
        root: Of the runs.

    Returns:
        ``experiment, arm, metric``; ``effect`` as a share of the control and its standard
        ``error``; ``shipped``.
    """
    rows = results(root)
    rows = rows[(rows["status"] != EXPLORATORY) & rows["relative_error"].notna()]
    rows = rows.sort_values("look", kind="stable")
    last = rows.drop_duplicates(["experiment", "arm", "metric"], keep="last")
    kept = last[["experiment", "arm", "metric", *_FROM, "shipped"]].rename(columns=_FROM)
    return kept.sort_values(["metric", "experiment", "arm"], ignore_index=True)


def past_pairs(effects: pd.DataFrame, surrogate: str, target: str) -> pd.DataFrame:
    """Past tests that measured both a quick metric and the slow one, for ``validate_surrogate``.

    Args:
        effects: From ``past_effects``.
        surrogate: The quick metric.
        target: The slow one.

    Returns:
        One row per test and arm: ``surrogate, surrogate_error, target, target_error``.
    """
    both = []
    for name, role in ((surrogate, "surrogate"), (target, "target")):
        own = effects[effects["metric"] == name].set_index(["experiment", "arm"])
        both.append(
            own[["effect", "error"]].rename(columns={"effect": role, "error": f"{role}_error"})
        )
    return both[0].join(both[1], how="inner").reset_index(drop=True).astype(float)


def past_tests(root: str | Path, plan: TestPlan) -> PastTests:
    """What the registry knows of a plan's metrics, the plan's own results left out.

    Args:
        root: Of the runs.
        plan: Of the test to read or to start.

    Returns:
        Priors and surrogates for ``readout``; metrics with too few past tests are named in
        ``notes`` and have none.
    """
    effects = past_effects(root)
    effects = effects[effects["experiment"] != plan.experiment].reset_index(drop=True)
    priors: dict[str, EffectPrior] = {}
    surrogates: dict[str, Surrogate] = {}
    lacking: dict[str, list[str]] = {}
    for metric in plan.metrics:
        own = effects[effects["metric"] == metric.name]
        try:
            priors[metric.name] = effect_prior(
                own["effect"].to_numpy(float), own["error"].to_numpy(float)
            )
        except FitError as error:
            lacking.setdefault(str(error), []).append(metric.name)
    notes = [f"{', '.join(names)}: {reason}" for reason, names in lacking.items()]
    for name, target in plan.surrogates.items():
        try:
            surrogates[name] = validate_surrogate(past_pairs(effects, name, target))
        except FitError as error:
            notes.append(f"{name} for {target}: {error}")
    return PastTests(priors, surrogates, tuple(notes), effects)
