"""Doubly robust scores: one number per person and arm, from which everything is evaluated."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from journeylab.errors import ContractError
from journeylab.estimate import Measured, measured

Floats = NDArray[np.float64]
Ints = NDArray[np.signedinteger[Any]]
Ranking = pd.Series | NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """What is known of each unit's outcome under each arm, without bias where chances are known.

    The mean of a column is the mean outcome had everybody been given that arm; the difference of
    two columns averages to the effect over any group chosen without looking at the outcomes.

    Attributes:
        index: Of the units, as in the frame they come from.
        arms: Names; the first is the control.
        values: ``(units, arms)``: the AIPW scores, in ``unit``.
        predicted: ``(units, arms)``: expected outcome under each arm, from rows other than these.
        outcome: ``(units,)``, in ``unit``.
        arm: ``(units,)``: position in ``arms`` of what each unit was given.
        propensity: ``(units,)``: chance with which it was given.
        unit: Of the outcome, e.g. ``"visits"`` or ``"USD"``.
        clusters: ``(units,)`` whole numbers from 0, where persons are not independent.
        folds: ``(units,)`` whole numbers from 0: rankings are compared within a fold only, for
            models of different folds do not share a scale.
    """

    index: pd.Index
    arms: tuple[str, ...]
    values: Floats
    predicted: Floats
    outcome: Floats
    arm: Ints
    propensity: Floats
    unit: str
    clusters: Ints | None = None
    folds: Ints | None = None

    def __len__(self) -> int:
        return len(self.values)

    @property
    def control(self) -> str:
        """The arm that effects are measured against."""
        return self.arms[0]

    def position(self, arm: str) -> int:
        """Place of an arm among ``arms``.

        Raises:
            ContractError: There is no such arm.
        """
        if arm not in self.arms:
            raise ContractError(f"there is no arm {arm!r}; arms are {', '.join(self.arms)}")
        return self.arms.index(arm)

    def effect(self, arm: str | None = None) -> Floats:
        """Scores of one arm's effect against the control, ``(units,)``.

        Args:
            arm: Its name; may be left out where there is one arm beside the control.

        Raises:
            ContractError: There is no such arm, it is the control, or it must be named.
        """
        if arm is None:
            if len(self.arms) != 2:
                raise ContractError(f"which arm? There are {', '.join(self.arms[1:])}")
            arm = self.arms[1]
        if not (place := self.position(arm)):
            raise ContractError(f"{arm!r} is the control: its effect against itself is nothing")
        return np.asarray(self.values[:, place] - self.values[:, 0])

    def take(self, rows: ArrayLike) -> "Scores":
        """The same of some units: positions, or one flag per unit."""
        keep = np.asarray(rows)
        keep = np.flatnonzero(keep) if keep.dtype == bool else keep
        clusters = self.clusters
        if clusters is not None:
            clusters = np.unique(clusters[keep], return_inverse=True)[1].astype(np.int64)
        return replace(
            self,
            index=self.index[keep],
            values=self.values[keep],
            predicted=self.predicted[keep],
            outcome=self.outcome[keep],
            arm=self.arm[keep],
            propensity=self.propensity[keep],
            clusters=clusters,
            folds=None if self.folds is None else self.folds[keep],
        )

    def priced(self, value: float, costs: Mapping[str, float], unit: str) -> "Scores":
        """The same in money: ``value`` per unit of outcome, less what an arm costs per head.

        Args:
            value: Worth of one unit of the outcome.
            costs: Arm -> cost per head; arms left out cost nothing.
            unit: Currency.

        Raises:
            ContractError: A cost names no arm, or a number is not finite.
        """
        if unknown := sorted(set(costs) - set(self.arms)):
            raise ContractError(f"costs name arms that are not there: {', '.join(unknown)}")
        cost = np.array([float(costs.get(arm, 0.0)) for arm in self.arms])
        if not (np.isfinite(cost).all() and np.isfinite(value)):
            raise ContractError(f"value and costs must be finite; got {value} and {dict(costs)}")
        return replace(
            self,
            values=self.values * value - cost,
            predicted=self.predicted * value - cost,
            outcome=self.outcome * value - cost[self.arm],
            unit=unit,
        )

    def aligned(self, ranking: Ranking, name: str = "ranking") -> Floats:
        """A number per unit as an array in the order of these units.

        Raises:
            ContractError: It has another length or index, or holds numbers that are not finite.
        """
        if isinstance(ranking, pd.Series) and not ranking.index.equals(self.index):
            raise ContractError(
                f"{name} has another index than the scores: {len(ranking)} rows against {len(self)}"
            )
        numbers = np.asarray(ranking, dtype=float)
        if numbers.shape != (len(self),):
            raise ContractError(
                f"{name} must hold one number for each of {len(self)} units; it has the shape "
                f"{numbers.shape}"
            )
        if bad := int((~np.isfinite(numbers)).sum()):
            raise ContractError(f"{name}: {bad} of {len(numbers)} numbers are not finite")
        return numbers

    def measure(self, value: float, influence: Floats) -> Measured:
        """A statistic of these units, with their clusters and unit of outcome."""
        return measured(value, influence, self.unit, self.clusters)


def aipw_scores(
    outcome: pd.Series,
    arm: pd.Series,
    propensity: ArrayLike,
    control: str,
    predicted: pd.DataFrame | None = None,
    *,
    arms: Sequence[str] | None = None,
    clusters: ArrayLike | None = None,
    folds: ArrayLike | None = None,
    unit: str = "outcome",
) -> Scores:
    """Doubly robust scores of every arm.

    ``predicted[a] + 1(arm = a) / propensity * (outcome - predicted[a])``: unbiased where the
    propensities are the true ones, however poor the predictions; the better they are, the less
    noise. Predictions must come from rows other than the one they are for.

    Args:
        outcome: One number per unit.
        arm: What each unit was given, same index.
        propensity: Chance with which each unit was given *its* arm.
        control: The arm that effects are measured against.
        predicted: Expected outcome, one column per arm, same index. Without it the weighted mean
            of each arm stands in: no covariates.
        arms: The arms beside the control, in this order; by default sorted.
        clusters: Label of the independent unit each row belongs to (any type).
        folds: Label of the fold whose models ranked the row; rankings are compared within it.
        unit: Of the outcome.

    Raises:
        ContractError: A propensity is not inside (0, 1), an outcome or prediction is missing, the
            control has nobody, an arm has one unit only, the outcome is constant, or an index
            differs.

    Source:
        Robins, Rotnitzky & Zhao (1994); Chernozhukov et al., "Double/debiased machine learning"
        (2018), for predictions from other folds.
    """
    n, given = len(outcome), arm.astype(str)
    y, chance = outcome.to_numpy(float), np.asarray(propensity, dtype=float)
    counts = given.value_counts()
    names = tuple(map(str, arms)) if arms is not None else tuple(sorted(set(counts.index)))
    names = (str(control), *(name for name in names if name != str(control)))
    _refuse(outcome, arm, chance, counts, names)
    code = pd.Categorical(given, categories=list(names)).codes.astype(np.int64)
    weight = 1 / chance
    if predicted is None:
        total = np.bincount(code, weights=weight, minlength=len(names))
        mean = np.bincount(code, weights=weight * y, minlength=len(names)) / total
        expected = np.tile(mean, (n, 1))
    else:
        if not predicted.index.equals(outcome.index) or not set(names) <= set(predicted.columns):
            raise ContractError(
                f"predicted must have the index of the outcome and columns {', '.join(names)}; "
                f"got {len(predicted)} rows and {', '.join(map(str, predicted.columns))}"
            )
        expected = predicted[list(names)].to_numpy(float)
        if bad := int((~np.isfinite(expected)).any(axis=1).sum()):
            raise ContractError(f"predictions are missing for {bad} of {n} units")
    values = expected.copy()
    rows = np.arange(n)
    values[rows, code] += weight * (y - expected[rows, code])
    return Scores(
        index=outcome.index,
        arms=names,
        values=values,
        predicted=expected,
        outcome=y,
        arm=code,
        propensity=chance,
        unit=unit,
        clusters=None if clusters is None else _numbered(clusters),
        folds=None if folds is None else _numbered(folds),
    )


def average_effects(scores: Scores, level: float = 0.95) -> pd.DataFrame:
    """Mean outcome under each arm and its mean effect against the control: intention to treat.

    Args:
        scores: Of all arms.
        level: Coverage of the intervals (0-1).

    Returns:
        One row per arm, control first: ``arm, units`` (given it), ``mean``; ``effect,
        standard_error, ci_low, ci_high`` against the control (0 for itself).
    """
    rows = []
    for place, arm in enumerate(scores.arms):
        each = scores.values[:, place] - scores.values[:, 0]
        effect = scores.measure(float(each.mean()), each)
        known = effect.estimate(level)
        units, mean = int((scores.arm == place).sum()), float(scores.values[:, place].mean())
        rows.append(
            (arm, units, mean, known.value, effect.standard_error, known.ci_low, known.ci_high)
        )
    columns = ["arm", "units", "mean", "effect", "standard_error", "ci_low", "ci_high"]
    return pd.DataFrame(rows, columns=columns)


def _refuse(
    outcome: pd.Series, arm: pd.Series, chance: Floats, counts: pd.Series, names: tuple[str, ...]
) -> None:
    n, y = len(outcome), outcome.to_numpy(float)
    if len(arm) != n or not arm.index.equals(outcome.index) or chance.shape != (n,):
        raise ContractError(
            f"outcome, arm and propensity must be of the same units; got {n}, {len(arm)} and "
            f"{chance.shape} rows"
        )
    if bad := int((~np.isfinite(y)).sum()):
        raise ContractError(f"the outcome is missing for {bad} of {n} units")
    if strange := sorted(set(counts.index) - set(names)):
        lost = int(counts[strange].sum())
        raise ContractError(f"{lost} of {n} units have arms not asked for: {', '.join(strange)}")
    if names[0] not in counts.index:
        raise ContractError(
            f"nobody has the control {names[0]!r}; arms are {', '.join(sorted(counts.index))}"
        )
    if len(names) < 2:
        raise ContractError(f"there is no arm beside the control {names[0]!r}")
    if small := [name for name in names if counts.get(name, 0) < 2]:
        raise ContractError(
            "an arm needs two units or more; too small: "
            + ", ".join(f"{name} ({counts.get(name, 0)})" for name in small)
        )
    if bad := int((~((chance > 0) & (chance < 1))).sum()):
        raise ContractError(
            f"propensities must lie inside (0, 1); {bad} of {n} do not: such units have no chance "
            "of another arm and say nothing of an effect; leave them out"
        )
    if np.ptp(y) == 0:
        raise ContractError(f"the outcome is {y[0]:g} for all {n} units: there is no effect to see")


def _numbered(labels: ArrayLike) -> Ints:
    return np.asarray(pd.factorize(np.asarray(labels))[0], dtype=np.int64)
