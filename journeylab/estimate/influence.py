"""A number that remembers how much of it each unit is answerable for."""

from collections.abc import Callable
from dataclasses import dataclass, field
from math import sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray

from journeylab.errors import ContractError
from journeylab.estimate.intervals import Estimate

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# Units whose spread says nothing: below it an interval is a guess.
_FEWEST_UNITS = 2


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """A statistic with each independent unit's influence on it.

    Two statistics of the same units can be subtracted: what they share cancels, so that the
    difference of two rankings is known far better than either (``minus``).

    Attributes:
        value: The statistic, in ``unit``.
        influence: One number per independent unit (person, or cluster of persons), in ``unit``;
            how far the statistic would move without it. Their squares add up to the variance.
        unit: What is counted.
    """

    value: float
    influence: Floats = field(repr=False)
    unit: str

    @property
    def standard_error(self) -> float:
        """Standard error, in ``unit``; robust to clusters where there are any."""
        return sqrt(float(self.influence @ self.influence))

    @property
    def degrees(self) -> float:
        """How many degrees of freedom the standard error rests on, at most units less one.

        Few where few units carry most of the influence: the first percent of a ranking, of whom
        one in ten was treated, are not as many as the rows of the table.
        """
        squares = np.square(self.influence)
        total, units = float(squares.sum()), len(squares)
        spread = float(np.square(squares).sum()) - total**2 / units
        if not spread > 0:
            return units - 1.0
        return float(min(max(2 * total**2 / spread, 1.0), units - 1.0))

    def estimate(self, level: float = 0.95) -> Estimate:
        """The value with Student's interval.

        Source:
            Satterthwaite, "An Approximate Distribution of Estimates of Variance Components"
            (1946), with the fourth moment of the influences, for the degrees of freedom.
        """
        from scipy.special import stdtrit

        margin = float(stdtrit(self.degrees, (1 + level) / 2)) * self.standard_error
        return Estimate(self.value, self.value - margin, self.value + margin, self.unit, level)

    def minus(self, other: "Measured") -> "Measured":
        """This less the other, of the same units: a paired difference.

        Raises:
            ContractError: The two rest on other units, or count other things.
        """
        if len(self.influence) != len(other.influence) or self.unit != other.unit:
            raise ContractError(
                "a paired difference needs two statistics of the same units; got "
                f"{len(self.influence)} units in {self.unit} and {len(other.influence)} in "
                f"{other.unit}"
            )
        return Measured(self.value - other.value, self.influence - other.influence, self.unit)

    def times(self, factor: float, unit: str | None = None) -> "Measured":
        """The statistic in another measure."""
        return Measured(self.value * factor, self.influence * factor, unit or self.unit)


def measured(
    value: float, influence: ArrayLike, unit: str, clusters: ArrayLike | None = None
) -> Measured:
    """A statistic from the influence function of its rows.

    Args:
        value: The statistic.
        influence: ``(rows,)``: the influence function at each row; its mean is taken off.
        unit: Of the statistic.
        clusters: ``(rows,)`` whole numbers from 0: rows of one cluster are one unit.

    Raises:
        ContractError: Fewer than two independent units, or numbers that are not finite.

    Source:
        Liang & Zeger, "Longitudinal Data Analysis Using Generalized Linear Models" (1986), for
        the sums over clusters; with the factor G / (G - 1).
    """
    rows = np.asarray(influence, dtype=float)
    rows = (rows - rows.mean()) / max(len(rows), 1)
    if clusters is not None:
        rows = np.asarray(np.bincount(np.asarray(clusters), weights=rows), dtype=np.float64)
    units = len(rows)
    if units < _FEWEST_UNITS or not np.isfinite(rows).all() or not np.isfinite(value):
        raise ContractError(
            f"an interval needs two independent units and finite numbers; got {units} units, "
            f"{int((~np.isfinite(rows)).sum())} of them not finite, value {value}"
        )
    return Measured(float(value), rows * sqrt(units / (units - 1)), unit)


def half_samples(
    rows: int,
    statistic: Callable[[Ints], ArrayLike],
    rng: int | np.random.Generator,
    draws: int = 200,
    clusters: ArrayLike | None = None,
) -> Floats:
    """A statistic on random halves of the units, drawn without replacement.

    Their spread is the standard error of the statistic on all units, also where it is made of
    ranks, for which drawing with replacement makes ties that are not there.

    Args:
        rows: How many rows there are.
        statistic: Positions of the rows of one half -> one number or a vector of them.
        rng: Seed or generator.
        draws: Halves.
        clusters: ``(rows,)`` whole numbers from 0: a cluster goes into a half whole.

    Returns:
        ``(draws,)`` or ``(draws, numbers)``.

    Source:
        Politis & Romano, "Large Sample Confidence Regions Based on Subsamples under Minimal
        Assumptions" (1994); as in Yadlowsky et al. (2025), section 3.
    """
    unit = np.arange(rows) if clusters is None else np.asarray(clusters)
    units = int(unit.max()) + 1 if rows else 0
    if units < 2 * _FEWEST_UNITS or draws < 2:
        raise ContractError(
            f"half-samples need four independent units and two draws; got {units} and {draws}"
        )
    generator = np.random.default_rng(rng)
    found = []
    for _ in range(draws):
        inside = np.zeros(units, dtype=bool)
        inside[generator.permutation(units)[: units // 2]] = True
        found.append(statistic(np.flatnonzero(inside[unit])))
    return np.array(found, dtype=float)
