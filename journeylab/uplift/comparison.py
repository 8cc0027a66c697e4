"""Comparison: which learner ranks best, judged on rows that neither it nor the choice has seen."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from scipy.special import ndtri

from journeylab.errors import ContractError
from journeylab.estimate import Estimate, Measured
from journeylab.uplift.effects import EffectFit
from journeylab.uplift.folds import make_folds
from journeylab.uplift.learner_words import learner_words
from journeylab.uplift.meta_learners import LEARNERS, Learner, Learnt, average, averaged, learn
from journeylab.uplift.nuisance import aipw, fit_nuisance
from journeylab.uplift.scores import Floats, Ints, Scores
from journeylab.uplift.settings import MOST_ARMS, Trees
from journeylab.uplift.toc import autoc, qini_rate
from journeylab.uplift.trial import Propensity, Trial, read_trial

Criterion = Literal["autoc", "qini_rate"]
SELECTED, FORECAST, RANDOM = "selected", "forecast", "random"
ALWAYS: tuple[Learner, ...] = ("s", "response", "flat")
_STATISTICS = {"autoc": autoc, "qini_rate": qini_rate}
_CRITERION_WORDS: dict[Criterion, str] = {"autoc": "AUTOC", "qini_rate": "QINI-rate"}
# The chance to prefer a ranking where none is better than the average, over all candidates.
_FALSE_ALARM = 0.05


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """Learners side by side.

    Attributes:
        table: One row per candidate, ``selected`` and ``forecast`` first: ``learner, arm``;
            ``autoc, qini_rate``, each with ``_error, _low, _high``. Every number is from rows that
            the learner has not seen; those of ``selected`` and ``forecast`` from rows that the
            choice has not seen either.
        choices: What was chosen for each outer fold, from the rows of the others alone.
        forecasts: Whose effects ``forecast`` holds for each outer fold.
        chosen: What the held-out rows of all outer folds together choose; maybe ``flat``. Its own
            line in the table is that of a winner; what to expect of it is the line ``selected``.
        reason: The choice in a sentence.
        fit: Of the chosen learner on all rows, calibrated by what was held out of the outer folds.
        scores: AIPW scores of all rows, by models of other folds; they carry the outer folds.
        rankings: Candidate -> frame of held-out effects (or ranks), one column per arm.
            ``forecast`` are the effects to draw curves, groups and policies of: in each outer fold
            those of the learner that ranked best in the others, never ``flat`` and never the
            response ranker, whose numbers are no effects. So nothing that is said of them was
            chosen by the rows it is said of.
        criterion: What was chosen by.
    """

    table: pd.DataFrame
    choices: tuple[str, ...]
    forecasts: tuple[str, ...]
    chosen: Learner
    reason: str
    fit: EffectFit
    scores: Scores
    rankings: dict[str, pd.DataFrame]
    criterion: Criterion

    def measured(self, learner: str, arm: str, statistic: Criterion = "autoc") -> Measured:
        """A candidate's statistic with the influence of each row, e.g. for a difference."""
        return _STATISTICS[statistic](self.scores, self.rankings[learner][arm], arm)

    def difference(
        self,
        learner: str,
        other: str,
        arm: str,
        statistic: Criterion = "autoc",
        level: float = 0.95,
    ) -> Estimate:
        """How much better one candidate ranks than another, on the same rows."""
        own = self.measured(learner, arm, statistic)
        return own.minus(self.measured(other, arm, statistic)).estimate(level)

    def differences(
        self, learner: str, arm: str, statistic: Criterion = "autoc", level: float = 0.95
    ) -> pd.DataFrame:
        """The same against every other candidate: what a choice gains on each simpler one.

        Differences of ``selected`` are free of the choice; those of a learner that was chosen for
        its figures here are a winner's.

        Returns:
            One row per other candidate, in the order of ``table``: ``learner, arm, other, gain,
            ci_low, ci_high`` in the unit of the statistic.
        """
        rows = []
        for other in (name for name in self.table["learner"].unique() if name != learner):
            known = self.difference(learner, other, arm, statistic, level)
            rows.append((learner, arm, other, known.value, known.ci_low, known.ci_high))
        columns = ["learner", "arm", "other", "gain", "ci_low", "ci_high"]
        return pd.DataFrame(rows, columns=columns)


def compare(
    frame: pd.DataFrame,
    outcome: str,
    arm: str,
    control: str,
    covariates: Sequence[str],
    *,
    learners: Sequence[Learner] = ("x", "r", "dr", "pooled", "forest", "average"),
    propensity: Propensity,
    folds: int = 3,
    inner_folds: int = 3,
    base: Trees | None = None,
    final: Trees | None = None,
    clusters: str | None = None,
    unit: str = "outcome",
    criterion: Criterion = "autoc",
    threads: int = 1,
    rng: int | np.random.Generator,
) -> Comparison:
    """Compare learners, and choose one, by nested cross-fitting.

    In each outer fold all learners share one cross-fitted pass on the other folds; the choice is
    made there, from held-out effects within them; only then are the fold's own rows ranked and
    scored: that is the line ``selected``. What is fitted in the end on all rows is chosen by the
    same rule from the outer folds, where no learner was stopped by the rows it is judged by. The
    S-learner, the plain response ranker, a ranking by chance and ``flat`` (everybody gets the
    average) always take part.

    ``flat`` is chosen unless the best candidate's criterion is above 0 by more than chance would
    make the best of so many. Candidates within one paired standard error of the best are equals:
    then ``average`` is preferred, where it takes part, and else the best.

    Args:
        frame: As for ``fit_effects``.
        outcome: Column.
        arm: Column.
        control: Label of the control.
        covariates: Columns.
        learners: Those that are wanted beside the four that always take part.
        propensity: As for ``fit_effects``; known, for what is judged here are effects.
        folds: Outer, 2 or more.
        inner_folds: Inner, 2 or more.
        base: Trees of the outcome models.
        final: Trees of the final stage.
        clusters: Column; rows of the same value share every fold.
        unit: Of the outcome.
        criterion: ``autoc`` (are the first well chosen) or ``qini_rate`` (is the whole ranking
            good); with several arms, the mean over arms.
        threads: As for ``fit_effects``.
        rng: Seed or generator.

    Raises:
        ContractError: As ``fit_effects``; or propensities are to be estimated.
    """
    if propensity == "estimate":
        raise ContractError(
            "learners are compared by the effects of a trial: propensities must be known, not "
            "estimated; observational differences are no effects"
        )
    if criterion not in _STATISTICS:
        raise ContractError(f"criterion must be autoc or qini_rate; got {criterion!r}")
    # Those that learn all arms together bear any number of them.
    together = set(learners) <= {"s", "pooled", "response", "flat"}
    trial = read_trial(
        frame, outcome, arm, control, covariates, propensity, clusters=clusters, unit=unit,
        most_arms=None if together else MOST_ARMS,
    )  # fmt: skip
    parts = averaged(len(trial))
    wanted = _wanted(learners, parts)
    generator = np.random.default_rng(rng)
    outer = make_folds(trial.arm, trial.clusters, folds, generator)
    names = (*wanted, RANDOM, SELECTED, FORECAST)
    arms = trial.arms[1:]
    told = {name: np.empty((len(trial), len(arms))) for name in names}
    predicted = np.empty((len(trial), len(trial.arms)))
    choices, forecasts = [], []
    for fold in outer.range:
        held = np.flatnonzero(outer.of_row == fold)
        known = trial.take(np.flatnonzero(outer.of_row != fold))
        learnt = _learn_all(known, wanted, parts, inner_folds, generator, base, final, threads)
        inner = learnt[wanted[0]].nuisance
        own = {name: one.held_out for name, one in learnt.items()}
        found = _criteria(inner.scores(), own, criterion)
        choice, _ = _choose(found, criterion)
        choices.append(choice)
        forecast = max((name for name in found if name != "response"), key=_value_of(found))
        forecasts.append(forecast)
        features = trial.features[held]
        predicted[held] = learnt[wanted[0]].nuisance.expected(features)
        for name in wanted:
            told[name][held] = (
                np.mean([told[part][held] for part in parts], axis=0)
                if name == "average"
                else learnt[name].effects(features)
            )
        told[RANDOM][held] = generator.random((len(held), 1))
        told[SELECTED][held] = told[choice][held]
        told[FORECAST][held] = told[forecast][held]
    scores = _scores(trial, predicted, outer.of_row)
    chosen, reason = _choose(
        _criteria(scores, {name: told[name] for name in wanted}, criterion), criterion
    )
    nuisance = fit_nuisance(trial, inner_folds, rng=generator, trees=base, threads=threads)
    best = learn(nuisance, chosen, final)
    number = len(arms)
    fit = EffectFit(
        chosen, outcome, arm, (best,), (1.0,) * number, (0.0,) * number, trial.observational
    ).calibrate(told[chosen], scores)
    rankings = {
        name: pd.DataFrame(values, trial.index, list(arms)) for name, values in told.items()
    }
    rows = [
        _row(scores, rankings, name, label)
        for label in arms
        for name in (SELECTED, FORECAST, *wanted, RANDOM)
    ]
    return Comparison(
        pd.DataFrame(rows),
        tuple(choices),
        tuple(forecasts),
        chosen,
        reason,
        fit,
        scores,
        rankings,
        criterion,
    )


def _wanted(learners: Sequence[Learner], parts: tuple[Learner, ...]) -> tuple[Learner, ...]:
    """The learners in the order in which they are learnt."""
    asked = {*ALWAYS, *learners, *(parts if "average" in learners else ())}
    if unknown := sorted(asked - set(LEARNERS)):
        known = ", ".join(LEARNERS)
        raise ContractError(f"unknown learners: {', '.join(unknown)}; there are {known}")
    return tuple(name for name in LEARNERS if name in asked)


def _learn_all(
    trial: Trial,
    wanted: tuple[Learner, ...],
    parts: tuple[Learner, ...],
    folds: int,
    generator: np.random.Generator,
    base: Trees | None,
    final: Trees | None,
    threads: int,
) -> dict[Learner, Learnt]:
    nuisance = fit_nuisance(trial, folds, rng=generator, trees=base, threads=threads)
    found: dict[Learner, Learnt] = {}
    for name in wanted:
        if name == "average":
            found[name] = average([found[part] for part in parts])
        else:
            found[name] = learn(nuisance, name, final, apart=found.get("t"))
    return found


def _criteria(
    scores: Scores, told: Mapping[Learner, Floats], criterion: Criterion
) -> dict[Learner, Measured]:
    """The criterion of every candidate that ranks, from held-out effects on the scores' rows."""
    return {name: _mean(scores, told[name], criterion) for name in told if name != "flat"}


def _value_of(found: Mapping[Learner, Measured]) -> Callable[[Learner], float]:
    return lambda name: found[name].value


def _choose(found: Mapping[Learner, Measured], criterion: Criterion) -> tuple[Learner, str]:
    """The candidate to take, and why."""
    best = max(found, key=_value_of(found))
    top = found[best]
    bar = float(ndtri(1 - _FALSE_ALARM / len(found)))
    words = _CRITERION_WORDS[criterion]
    text = f"{words} {top.value:.4g} (standard error {top.standard_error:.2g})"
    name = learner_words(best)
    if not top.value > bar * top.standard_error:
        return "flat", (
            f"no ranking is better than chance: the best, {name}, has {text}, and the best of "
            f"{len(found)} must exceed {bar:.2f} standard errors"
        )
    if "average" in found and best != "average":
        gap = top.minus(found["average"])
        if gap.value <= gap.standard_error:
            return "average", f"{name} has {text}; the average of the learners is not told from it"
    return best, f"{name} has the highest {text}"


def _mean(scores: Scores, effects: Floats, criterion: Criterion) -> Measured:
    """The criterion, averaged over arms."""
    parts = [
        _STATISTICS[criterion](scores, effects[:, place], label)
        for place, label in enumerate(scores.arms[1:])
    ]
    value = float(np.mean([part.value for part in parts]))
    return Measured(value, np.mean([part.influence for part in parts], axis=0), scores.unit)


def _scores(trial: Trial, predicted: Floats, folds: Ints) -> Scores:
    return Scores(
        trial.index, trial.arms, aipw(trial, predicted), predicted, trial.outcome,
        trial.arm.astype(np.int64), trial.own_chance, trial.unit, trial.clusters,
        folds.astype(np.int64),
    )  # fmt: skip


def _row(
    scores: Scores, rankings: dict[str, pd.DataFrame], name: str, arm: str
) -> dict[str, str | float]:
    row: dict[str, str | float] = {"learner": name, "arm": arm}
    found = {key: of(scores, rankings[name][arm], arm) for key, of in _STATISTICS.items()}
    for key, one in found.items():
        known = one.estimate()
        row |= {
            key: one.value,
            f"{key}_error": one.standard_error,
            f"{key}_low": known.ci_low,
            f"{key}_high": known.ci_high,
        }
    return row
