"""Groups: effects that others may act on, known for groups and shrunken toward the average."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
from scipy.special import ndtri

from journeylab.errors import ContractError
from journeylab.estimate import Measured
from journeylab.uplift.calibration import group_mean, merged_groups, sorted_groups
from journeylab.uplift.scores import Floats, Scores

_FEWEST_IN_GROUP = 20


@dataclass(frozen=True, slots=True, eq=False)
class GroupedEffects:
    """Effects of groups of customers with like predictions.

    A customer's number is that of the group: how far one customer departs from it is not known,
    and no interval is claimed for one customer.

    Attributes:
        table: One row per arm and group (1 the lowest predicted): ``arm, group, units, predicted``
            (mean held-out effect), ``measured`` with ``measured_error`` (mean score of the group:
            GATES), ``effect`` (drawn toward the arm's average by as much as the groups are not told
            apart) with ``standard_error, ci_low, ci_high``.
        customers: One row per arm and customer of the trial: the customer's index, then ``arm,
            group, effect, standard_error`` (of the group), ``propensity`` (with which the customer
            was given the arm that it was given).
        edges: Per arm, predicted effects between the groups.
        level: Of the intervals.
    """

    table: pd.DataFrame
    customers: pd.DataFrame
    edges: dict[str, tuple[float, ...]]
    level: float

    def of(self, effects: pd.DataFrame) -> pd.DataFrame:
        """Group effects of others, by their predicted effects.

        Args:
            effects: ``EffectFit.effects`` of customers outside the trial, one column per arm.

        Returns:
            One row per arm and customer: the customer's index, then ``arm, group, effect,
            standard_error``.

        Raises:
            ContractError: An arm has no groups here.
        """
        if unknown := [arm for arm in effects.columns if arm not in self.edges]:
            raise ContractError(f"there are no groups for arms: {', '.join(map(str, unknown))}")
        parts = []
        for arm in effects.columns:
            own = self.table[self.table["arm"] == arm].reset_index(drop=True)
            place = np.searchsorted(np.array(self.edges[arm]), effects[arm].to_numpy(float))
            told = own.loc[place, ["arm", "group", "effect", "standard_error"]]
            parts.append(told.set_axis(effects.index))
        return pd.concat(parts)


def group_effects(
    scores: Scores, effects: pd.DataFrame, groups: int = 5, level: float = 0.95
) -> GroupedEffects:
    """Turn held-out effects of single customers into effects of groups.

    Args:
        scores: AIPW scores of the trial.
        effects: Effects on the same rows in which nothing of the row had a say, one column per arm:
            ``Comparison.rankings``, ``EffectFit.out_of_fold`` of a learner named beforehand, or
            those of a fit on others.
        groups: How many; fewer stand where predictions are tied.
        level: Of the intervals (0-1).

    Raises:
        ContractError: Fewer than one group, or effects of other rows.

    Source:
        Chernozhukov et al., "Generic machine learning inference on heterogeneous treatment effects"
        (2023), for GATES; Morris, "Parametric empirical Bayes inference: theory and applications",
        Journal of the American Statistical Association (1983), equations 1.14 to 1.17, for the
        shrinkage, with the variance between groups of DerSimonian & Laird (1986). Fewer than four
        groups are not drawn together.
    """
    if groups < 1:
        raise ContractError(f"groups must be 1 or more; got {groups}")
    if not effects.index.equals(scores.index):
        raise ContractError(
            f"effects have another index than the scores: {len(effects)} rows against {len(scores)}"
        )
    rows, people, edges = [], [], {}
    for arm in effects.columns:
        score, told = scores.effect(arm), effects[arm].to_numpy(float)
        group = merged_groups(sorted_groups(scores, told, groups), _FEWEST_IN_GROUP)
        labels = np.unique(group)
        whole = scores.measure(float(score.mean()), score)
        means = [group_mean(scores, score, group == label) for label in labels]
        value, error = _shrunken(means, whole)
        # Folds overlap a little: an edge lies halfway between the middles of two groups.
        middle = [float(np.median(told[group == label])) for label in labels]
        edges[str(arm)] = tuple((low + high) / 2 for low, high in pairwise(middle))
        half = float(ndtri((1 + level) / 2))
        for place, label in enumerate(labels):
            rows.append(
                {
                    "arm": str(arm),
                    "group": place + 1,
                    "units": int((group == label).sum()),
                    "predicted": float(told[group == label].mean()),
                    "measured": means[place].value,
                    "measured_error": means[place].standard_error,
                    "effect": float(value[place]),
                    "standard_error": float(error[place]),
                    "ci_low": float(value[place]) - half * float(error[place]),
                    "ci_high": float(value[place]) + half * float(error[place]),
                }
            )
        at = np.searchsorted(labels, group)
        people.append(
            pd.DataFrame(
                {
                    "arm": str(arm),
                    "group": at + 1,
                    "effect": value[at],
                    "standard_error": error[at],
                    "propensity": scores.propensity,
                },
                index=scores.index,
            )
        )
    return GroupedEffects(pd.DataFrame(rows), pd.concat(people), edges, level)


def _shrunken(means: list[Measured], whole: Measured) -> tuple[Floats, Floats]:
    """Group means drawn toward the average of all, and their standard errors."""
    value = np.array([mean.value for mean in means])
    variance = np.array([mean.standard_error**2 for mean in means])
    free = len(means) - 1
    if free < 3 or not (variance > 0).all():
        return value, np.sqrt(variance)
    weight = 1 / variance
    centre = float(weight @ value / weight.sum())
    excess = float(weight @ (value - centre) ** 2) - free
    between = max(excess / (weight.sum() - (weight @ weight) / weight.sum()), 0.0)
    # A spread guessed from few groups may be guessed too small: Morris draws in less, and adds to
    # the variance what a group stands off.
    drawn = (free - 2) / free * variance / (variance + between)
    told = (1 - drawn) * value + drawn * whole.value
    guessed = 2 / (free - 2) * drawn**2 * (variance.mean() + between) / (variance + between)
    spread = variance * (1 - free / len(means) * drawn)
    return told, np.sqrt(spread + guessed * (value - whole.value) ** 2)
