"""Proportions: tests and intervals of two shares from their counts."""

from dataclasses import dataclass
from math import sqrt
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from journeylab.experiments.arms import Arm

Alternative = Literal["two-sided", "greater", "less"]


@dataclass(frozen=True, slots=True)
class Counts:
    """Successes and customers of two arms.

    Attributes:
        hits, n: Of the treatment.
        hits_control, n_control: Of the control.
    """

    hits: int
    n: int
    hits_control: int
    n_control: int

    @classmethod
    def of(cls, treatment: Arm, control: Arm) -> "Counts":
        """Counts behind two shares."""
        hits, base = (round(arm.value * arm.n) for arm in (treatment, control))
        return cls(hits, treatment.n, base, control.n)

    @property
    def effect(self) -> float:
        """Difference of the shares."""
        return self.hits / self.n - self.hits_control / self.n_control

    def table(self) -> NDArray[np.int64]:
        """Successes and failures, treatment first, ``(2, 2)``."""
        hits = np.array([self.hits, self.hits_control], np.int64)
        return np.column_stack([hits, np.array([self.n, self.n_control]) - hits])

    def fewest_expected(self) -> float:
        """The smallest cell one would expect if both arms had the same share."""
        share = (self.hits + self.hits_control) / (self.n + self.n_control)
        return min(self.n, self.n_control) * min(share, 1 - share)

    def pooled_z(self) -> float:
        """Difference over the standard error that holds if both shares are equal."""
        share = (self.hits + self.hits_control) / (self.n + self.n_control)
        variance = share * (1 - share) * (1 / self.n + 1 / self.n_control)
        return self.effect / sqrt(variance) if variance > 0 else 0.0


def fisher(counts: Counts, alternative: Alternative = "two-sided") -> float:
    """Chance by Fisher's exact test (0-1)."""
    from scipy.stats import fisher_exact

    return min(float(fisher_exact(counts.table(), alternative=alternative)[1]), 1.0)


def yates(counts: Counts, alternative: Alternative = "two-sided") -> float:
    """Chance by the chi-square test with Yates' correction (0-1); one-sided by the signed root."""
    from scipy.stats import norm

    z = counts.pooled_z()
    if z == 0:
        return 1.0 if alternative == "two-sided" else 0.5
    share = (counts.hits + counts.hits_control) / (counts.n + counts.n_control)
    spread = sqrt(share * (1 - share) * (1 / counts.n + 1 / counts.n_control))
    step = min((1 / counts.n + 1 / counts.n_control) / 2, abs(counts.effect))
    corrected = (abs(counts.effect) - step) / spread * (1 if z > 0 else -1)
    if alternative == "two-sided":
        return float(2 * norm.sf(abs(corrected)))
    return float(norm.sf(corrected if alternative == "greater" else -corrected))


def wilson(hits: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of one share (0-1)."""
    z = float(ndtri((1 + level) / 2))
    share, centre = hits / n, (hits + z * z / 2) / (n + z * z)
    reach = z / (n + z * z) * sqrt(max(share * (1 - share) * n + z * z / 4, 0.0))
    # At 0 and n the ends are exact; rounding must not push the share out of its own interval.
    return min(max(centre - reach, 0.0), share), max(min(centre + reach, 1.0), share)


def newcombe(counts: Counts, level: float = 0.95) -> tuple[float, float]:
    """Interval of the difference of two shares, good for small counts too.

    Source:
        Newcombe, "Interval estimation for the difference between independent proportions",
        Statistics in Medicine 17 (1998), method 10.
    """
    share, base = counts.hits / counts.n, counts.hits_control / counts.n_control
    low, high = wilson(counts.hits, counts.n, level)
    low_base, high_base = wilson(counts.hits_control, counts.n_control, level)
    gap = share - base
    return (
        gap - sqrt((share - low) ** 2 + (high_base - base) ** 2),
        gap + sqrt((high - share) ** 2 + (base - low_base) ** 2),
    )
