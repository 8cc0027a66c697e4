"""Boundaries of a group-sequential test: how far off a look must be to stop the test.

With ``t`` the share of the planned information at hand and ``Z`` the standardised difference, the
looks are those of a Brownian motion: ``Z_k sqrt(t_k)`` has independent increments. The density of
``Z_k`` on the paths that have not stopped is carried from look to look by numerical integration.

Source:
    Armitage, McPherson & Rowe, "Repeated significance tests on accumulating data", JRSS A 132
    (1969); Jennison & Turnbull, "Group Sequential Methods" (2000), chapters 2, 3, 7, 9, 19.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri

from journeylab.errors import ContractError
from journeylab.experiments.spending import Spending, information_times, spent

Floats = NDArray[np.float64]
Sides = Literal[1, 2]

# Beyond this many standard errors nothing is left that a double could show.
_REACH = 9.0
# No look is so early that its boundary needs more: the chance is 1e-300.
_FAR = 37.0
# A panel of 16 Gauss-Legendre nodes over two standard deviations of a step is exact to 1e-13.
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(16)
_PANEL = 2.0
_MOST_PANELS = 400


@dataclass(frozen=True, slots=True)
class Boundaries:
    """When to stop at which look.

    Attributes:
        information: Share of the planned information at each look (0-1), increasing.
        critical: Standard errors from no effect (two-sided: in either direction) at which the
            test stops; :meth:`nominal` gives the p-values that belong to them.
        spent: Error spent by each look, over the sides together.
        alpha: Error in all (0-1).
        sides: 1 (stop for a gain only) or 2.
        spending: Name of the family.
    """

    information: tuple[float, ...]
    critical: tuple[float, ...]
    spent: tuple[float, ...]
    alpha: float
    sides: Sides
    spending: str

    def nominal(self) -> tuple[float, ...]:
        """The p-value, with as many sides as the test has, that stops each look."""
        return tuple((self.sides * ndtr(-np.array(self.critical))).tolist())

    def stopping(self, drift: float = 0.0) -> Floats:
        """Chance of stopping at each look, in either direction.

        Args:
            drift: Expected standardised difference at full information: 0 under no effect,
                ``effect / standard error`` at the planned end under an effect.
        """
        up, down = _crossings(self.information, self.critical, self.sides, drift)
        return up + down

    def power(self, drift: float) -> float:
        """Chance of stopping for a gain (of either sign where two-sided) by the last look."""
        return float(self.stopping(drift).sum())

    def drift(self, power: float) -> float:
        """Expected standardised difference at full information that gives this power."""
        if not self.alpha < power < 1:
            raise ContractError(f"power must lie in ({self.alpha}, 1); got {power}")
        return float(brentq(lambda drift: self.power(drift) - power, 0, 40, xtol=1e-10))

    def inflation(self, power: float) -> float:
        """Sample size at the last look over that of a test with one look, at equal power."""
        fixed = Boundaries(
            (1.0,),
            (-float(ndtri(self.alpha / self.sides)),),
            (self.alpha,),
            self.alpha,
            self.sides,
            "fixed",
        )
        return (self.drift(power) / fixed.drift(power)) ** 2

    def expected_information(self, drift: float) -> float:
        """Mean share of the planned information at the stop (0-1)."""
        chances = self.stopping(drift)
        last = 1 - chances[:-1].sum()
        return float(chances[:-1] @ np.array(self.information[:-1]) + last * self.information[-1])

    def frame(self) -> pd.DataFrame:
        """One row per look: ``look`` (from 1), ``information``, ``critical``, ``p`` and ``spent``.

        ``p`` is the nominal p-value that stops the look.
        """
        return pd.DataFrame(
            {
                "look": range(1, len(self.information) + 1),
                "information": self.information,
                "critical": self.critical,
                "p": self.nominal(),
                "spent": self.spent,
            }
        )


def spending_boundaries(
    information: Sequence[float],
    alpha: float = 0.05,
    *,
    sides: Sides = 2,
    spending: Spending = "obrien_fleming",
    parameter: float | None = None,
    spent_at: Sequence[float] | None = None,
) -> Boundaries:
    """Lan and DeMets' boundaries: the error is spent by a function of information, look by look.

    A boundary depends on the looks so far only, so looks may come earlier, later or more often than
    planned. A two-sided test spends ``alpha / 2`` on each side.

    Args:
        information: Share of the planned information at each look (0-1], increasing.
        alpha: Error in all (0-1).
        sides: 1 or 2.
        spending: As in ``spending.spent``.
        parameter: As in ``spending.spent``.
        spent_at: Times at which the spending function is read, where they are not the information
            itself: a last look with less than the planned information still spends the rest when
            its time here is 1.

    Raises:
        ContractError: Times that do not increase in (0, 1], or an unknown function.
    """
    times = information_times(information)
    read_at = times if spent_at is None else information_times(spent_at)
    if len(read_at) != len(times):
        raise ContractError(f"{len(times)} looks, but spending is read at {len(read_at)} times")
    total = sides * spent(read_at.tolist(), alpha / sides, spending, parameter)
    steps = np.diff(total, prepend=0.0) / sides
    walk, critical = _Walk(times, sides, 0.0), []
    for step in steps:
        bound = walk.solve(float(step))
        critical.append(bound)
        walk.go_on(bound)
    return Boundaries(
        tuple(times.tolist()), tuple(critical), tuple(total.tolist()), alpha, sides, spending
    )


def classical_boundaries(
    looks: int | Sequence[float],
    alpha: float = 0.05,
    *,
    sides: Sides = 2,
    shape: Literal["pocock", "obrien_fleming"] | float = "obrien_fleming",
) -> Boundaries:
    """Pocock's and O'Brien-Fleming's boundaries: one constant for all looks.

    Args:
        looks: How many, equally spaced; or their information times.
        alpha: Error in all (0-1).
        sides: 1 or 2.
        shape: ``pocock`` (the same at every look), ``obrien_fleming`` (falls as ``1 / sqrt(t)``),
            or Wang and Tsiatis' delta, between 0 (O'Brien-Fleming) and 0.5 (Pocock).

    Source:
        Pocock, Biometrika 64 (1977); O'Brien & Fleming, Biometrics 35 (1979); Wang & Tsiatis,
        Biometrics 43 (1987).
    """
    if isinstance(looks, int):
        if looks < 1:
            raise ContractError(f"a sequential test needs one look or more; got {looks}")
        looks = [look / looks for look in range(1, looks + 1)]
    times = information_times(looks)
    if not 0 < alpha < 1:
        raise ContractError(f"alpha must lie in (0, 1); got {alpha}")
    delta = {"pocock": 0.5, "obrien_fleming": 0.0}.get(shape) if isinstance(shape, str) else shape
    if delta is None or not -5 <= delta <= 0.5:
        raise ContractError(f"shape must be pocock, obrien_fleming or a delta; got {shape!r}")
    form = (times / times[-1]) ** (delta - 0.5)

    def excess(constant: float) -> float:
        up, down = _crossings(tuple(times), tuple(constant * form), sides, 0.0)
        return float((up + down).sum()) - alpha

    constant = float(brentq(excess, -ndtri(alpha / sides) - 1e-9, 12, xtol=1e-10))
    critical = constant * form
    up, down = _crossings(tuple(times), tuple(critical), sides, 0.0)
    name = shape if isinstance(shape, str) else f"delta {shape:g}"
    return Boundaries(
        tuple(times.tolist()),
        tuple(critical.tolist()),
        tuple(np.cumsum(up + down).tolist()),
        alpha,
        sides,
        f"classical {name}",
    )


def repeated_p(
    z: float,
    information: Sequence[float],
    *,
    sides: Sides = 2,
    spending: Spending = "obrien_fleming",
    parameter: float | None = None,
    spent_at: Sequence[float] | None = None,
) -> float:
    """Smallest error at which a boundary of the family would have stopped at the last look.

    It holds whatever the earlier looks showed, and whether or not the test stops.

    Args:
        z: Standardised difference at the last of these looks; for a one-sided test a gain is
            positive.
        information: Of the looks so far.
        sides: 1 or 2.
        spending: As in ``spending.spent``.
        parameter: As in ``spending.spent``.
        spent_at: As in ``spending_boundaries``.

    Source:
        Jennison & Turnbull (2000), chapter 9.
    """
    if not np.isfinite(z):
        raise ContractError(f"the standardised difference must be finite; got {z}")
    reached = abs(z) if sides == 2 else z

    def short(log_alpha: float) -> float:
        plan = spending_boundaries(
            information,
            float(np.exp(log_alpha)),
            sides=sides,
            spending=spending,
            parameter=parameter,
            spent_at=spent_at,
        )
        return plan.critical[-1] - reached

    lowest, highest = np.log(1e-12), np.log(0.999)
    if short(highest) > 0:
        return 1.0
    if short(lowest) <= 0:
        return float(np.exp(lowest))
    return float(np.exp(brentq(short, lowest, highest, xtol=1e-7)))


def _crossings(
    information: Sequence[float], critical: Sequence[float], sides: Sides, drift: float
) -> tuple[Floats, Floats]:
    """Chances of a first crossing at each look, upward and downward."""
    walk = _Walk(np.asarray(information, dtype=float), sides, drift)
    up, down = np.zeros(len(critical)), np.zeros(len(critical))
    for look, bound in enumerate(critical):
        up[look], down[look] = walk.above(bound), walk.below(-bound) if sides == 2 else 0.0
        walk.go_on(bound)
    return up, down


class _Walk:
    """The paths that have not stopped: nodes on which their density is held, look by look."""

    def __init__(self, times: Floats, sides: Sides, drift: float) -> None:
        self._times, self._sides, self._drift = times, sides, drift
        self._look = 0
        self._at = self._mass = np.empty(0)  # nodes of Z, and density times quadrature weight

    def _standard(self, z: Floats | float) -> Floats:
        """How many standard deviations of its step ``z`` lies above each node's expectation."""
        now = self._times[self._look]
        if self._look == 0:
            return np.asarray(z - self._drift * sqrt(now), dtype=float)
        before = self._times[self._look - 1]
        step = now - before
        mean = self._at * sqrt(before) + self._drift * step
        return np.asarray((np.asarray(z) * sqrt(now) - mean) / sqrt(step), dtype=float)

    def above(self, z: float) -> float:
        """Chance of not having stopped before and lying above ``z`` now."""
        tail = ndtr(-self._standard(z))
        return float(tail) if self._look == 0 else float(self._mass @ tail)

    def below(self, z: float) -> float:
        """Chance of not having stopped before and lying below ``z`` now."""
        tail = ndtr(self._standard(z))
        return float(tail) if self._look == 0 else float(self._mass @ tail)

    def solve(self, chance: float) -> float:
        """The boundary that is crossed upward with this chance now."""
        if self._look == 0 and chance > 0:
            return min(-float(ndtri(chance)), _FAR)
        if self.above(_FAR) >= chance:
            return _FAR
        return float(brentq(lambda z: self.above(z) - chance, -_FAR, _FAR, xtol=1e-12))

    def go_on(self, bound: float) -> None:
        """Keep the paths short of ``bound``, and turn to the next look."""
        if self._look == len(self._times) - 1:
            return
        now, after = self._times[self._look], self._times[self._look + 1]
        centre = self._drift * sqrt(now)
        high = min(bound, centre + _REACH)
        low = centre - _REACH if self._sides == 1 else max(-bound, centre - _REACH)
        if high <= low:  # nothing is left to go on
            self._at, self._mass = np.zeros(1), np.zeros(1)
            self._look += 1
            return
        before = self._times[self._look - 1] if self._look else 0.0
        finest = min(sqrt((now - before) / now), sqrt((after - now) / now))
        panels = int(np.ceil((high - low) / (_PANEL * min(finest, 1.0))))
        if panels > _MOST_PANELS:
            raise ContractError(
                f"looks {self._look + 1} and {self._look + 2} are too close to be told apart: "
                f"information {now:.6g} and {after:.6g}"
            )
        edges = np.linspace(low, high, panels + 1)
        half = (high - low) / panels / 2
        nodes = ((edges[:-1] + half)[:, None] + half * _NODES).ravel()
        weights = np.tile(half * _WEIGHTS, panels)
        if self._look == 0:
            density = np.exp(-0.5 * self._standard(nodes) ** 2) / sqrt(2 * np.pi)
        else:
            steps = self._standard(nodes[:, None])
            kernel = np.exp(-0.5 * steps**2) / sqrt(2 * np.pi * (now - before) / now)
            density = kernel @ self._mass
        self._at, self._mass = nodes, density * weights
        self._look += 1
