"""What is believed after a test: chance to win, what a wrong choice would cost, equivalence."""

from dataclasses import dataclass
from math import inf, isfinite, sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc, betaincinv, betaln, ndtr, xlog1py, xlogy
from scipy.stats import norm

from journeylab.errors import ContractError
from journeylab.estimate import Estimate

Floats = NDArray[np.float64]
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(120)
# Parts of a mixture that weigh less than this beside the heaviest are dropped.
_LEAST = 1e-12


@dataclass(frozen=True, slots=True)
class NormalPosterior:
    """An effect after the data, normally distributed.

    Attributes:
        mean, sd: Of the effect, in its unit.
    """

    mean: float
    sd: float

    def __post_init__(self) -> None:
        if not isfinite(self.mean) or not 0 < self.sd < inf:
            raise ContractError(
                f"a posterior needs a finite mean and an sd above 0; got {self.mean}, {self.sd}"
            )

    def chance_above(self, threshold: float = 0.0) -> float:
        """Chance that the effect lies above ``threshold`` (0-1)."""
        return float(ndtr((self.mean - threshold) / self.sd))

    def chance_to_win(self, *, lower_is_better: bool = False) -> float:
        """Chance that the treatment is better than the control (0-1)."""
        above = self.chance_above()
        return 1 - above if lower_is_better else above

    def expected_loss(self, *, lower_is_better: bool = False) -> float:
        """Mean of what shipping would lose, counted 0 where it gains; in the effect's unit."""
        mean = -self.mean if lower_is_better else self.mean
        z = mean / self.sd
        return float(max(self.sd * (norm.pdf(z) - z * ndtr(-z)), 0.0))

    def expected_regret(self, *, lower_is_better: bool = False) -> float:
        """Mean of what not shipping would forgo, counted 0 where shipping loses."""
        return self.expected_loss(lower_is_better=not lower_is_better)

    def rope(self, low: float, high: float) -> tuple[float, float, float]:
        """Chances of lying below, inside and above a region of practical equivalence.

        Args:
            low: Its lower end.
            high: Its upper end; effects between them make no practical difference.
        """
        if not low < high:
            raise ContractError(f"a region of equivalence needs low < high; got {low} and {high}")
        below, above = 1 - self.chance_above(low), self.chance_above(high)
        return below, max(1 - below - above, 0.0), above

    def interval(self, unit: str, level: float = 0.95) -> Estimate:
        """Mean with the central (and narrowest) interval that holds ``level`` of the belief."""
        margin = float(norm.ppf((1 + level) / 2)) * self.sd
        return Estimate(self.mean, self.mean - margin, self.mean + margin, unit, level)

    def scaled(self, factor: float, shift: float = 0.0) -> "NormalPosterior":
        """The belief about ``factor`` times the effect plus ``shift``."""
        return NormalPosterior(factor * self.mean + shift, abs(factor) * self.sd)

    def updated(self, value: float, std_error: float) -> "NormalPosterior":
        """The belief after an estimate of the effect with its standard error."""
        weight = self.sd**2 / (self.sd**2 + std_error**2)
        return NormalPosterior(self.mean + weight * (value - self.mean), sqrt(weight) * std_error)


@dataclass(frozen=True, slots=True)
class NormalMixture:
    """An effect of which one of several normal beliefs holds, it is not known which.

    So is a belief from few past tests: how far effects spread is itself uncertain.

    Attributes:
        weights: Chance of each, adding up to 1.
        means, sds: Of the effect under each, in its unit.
    """

    weights: tuple[float, ...]
    means: tuple[float, ...]
    sds: tuple[float, ...]

    def __post_init__(self) -> None:
        w, m, s = self._parts()
        fits = len(w) == len(m) == len(s) > 0
        if not fits or not np.isfinite(m).all() or not ((s > 0) & np.isfinite(s)).all():
            raise ContractError("a mixture needs finite means and sds above 0, one per weight")
        if (w < 0).any() or abs(w.sum() - 1) > 1e-9:
            raise ContractError(f"weights must be 0 or more and add up to 1; got {w.sum()}")

    @property
    def mean(self) -> float:
        """Mean of the effect, in its unit."""
        w, m, _ = self._parts()
        return float(w @ m)

    @property
    def sd(self) -> float:
        """Standard deviation of the effect, in its unit."""
        w, m, s = self._parts()
        return sqrt(float(w @ (s**2 + (m - w @ m) ** 2)))

    def chance_above(self, threshold: float = 0.0) -> float:
        """Chance that the effect lies above ``threshold`` (0-1)."""
        w, m, s = self._parts()
        return float(w @ ndtr((m - threshold) / s))

    def chance_to_win(self, *, lower_is_better: bool = False) -> float:
        """Chance that the treatment is better than the control (0-1)."""
        above = self.chance_above()
        return 1 - above if lower_is_better else above

    def expected_loss(self, *, lower_is_better: bool = False) -> float:
        """Mean of what shipping would lose, counted 0 where it gains; in the effect's unit."""
        w, m, s = self._parts()
        z = (-m if lower_is_better else m) / s
        return max(float(w @ (s * (norm.pdf(z) - z * ndtr(-z)))), 0.0)

    def rope(self, low: float, high: float) -> tuple[float, float, float]:
        """Chances of lying below, inside and above a region of practical equivalence."""
        if not low < high:
            raise ContractError(f"a region of equivalence needs low < high; got {low} and {high}")
        below, above = 1 - self.chance_above(low), self.chance_above(high)
        return below, max(1 - below - above, 0.0), above

    def interval(self, unit: str, level: float = 0.95) -> Estimate:
        """Mean with the central interval that holds ``level`` of the belief."""
        from scipy.optimize import brentq

        _, m, s = self._parts()
        ends = float((m - 40 * s).min()), float((m + 40 * s).max())
        tail = (1 - level) / 2
        low, high = (
            float(brentq(self._short_of, *ends, args=(1 - at,), xtol=1e-10 * self.sd))
            for at in (tail, 1 - tail)
        )
        return Estimate(self.mean, min(low, self.mean), max(high, self.mean), unit, level)

    def scaled(self, factor: float, shift: float = 0.0) -> "NormalMixture":
        """The belief about ``factor`` times the effect plus ``shift``."""
        _, m, s = self._parts()
        means, sds = factor * m + shift, abs(factor) * s
        return NormalMixture(self.weights, tuple(means.tolist()), tuple(sds.tolist()))

    def updated(self, value: float, std_error: float) -> "NormalMixture":
        """The belief after an estimate of the effect with its standard error."""
        w, m, s = self._parts()
        spread = s**2 + std_error**2
        log_weight = np.log(np.maximum(w, 1e-300)) - 0.5 * (
            np.log(spread) + (value - m) ** 2 / spread
        )
        after = np.exp(log_weight - log_weight.max())
        after /= after.sum()
        kept = after > _LEAST * after.max()
        after = after[kept] / after[kept].sum()
        pull = (s**2 / spread)[kept]
        means, sds = m[kept] + pull * (value - m[kept]), np.sqrt(pull) * std_error
        return NormalMixture(*(tuple(part.tolist()) for part in (after, means, sds)))

    def _short_of(self, threshold: float, chance: float) -> float:
        return self.chance_above(threshold) - chance

    def _parts(self) -> tuple[Floats, Floats, Floats]:
        return np.array(self.weights), np.array(self.means), np.array(self.sds)


Belief = NormalPosterior | NormalMixture


def normal_posterior(value: float, std_error: float, prior: Belief | None = None) -> Belief:
    """The posterior of an effect from its estimate and a prior.

    Args:
        value: Estimate of the effect.
        std_error: Its standard error, above 0.
        prior: What was believed before, e.g. from past tests (``EffectPrior.belief``); flat
            without.

    Returns:
        Of the prior's kind; normal without one.
    """
    own = NormalPosterior(value, std_error)
    return own if prior is None else prior.updated(own.mean, own.sd)


@dataclass(frozen=True, slots=True)
class BetaPosterior:
    """Rates of two arms after the data, beta distributed and independent.

    Attributes:
        control: The two parameters of the control's rate.
        treatment: Those of the treatment's rate.
    """

    control: tuple[float, float]
    treatment: tuple[float, float]

    def chance_to_win(self, *, lower_is_better: bool = False) -> float:
        """Chance that the treatment's rate is the better one (0-1)."""
        higher = _chance_higher(self.treatment, self.control)
        return 1 - higher if lower_is_better else higher

    def expected_loss(self, *, lower_is_better: bool = False) -> float:
        """Mean of what shipping would lose in rate, counted 0 where it gains."""
        better, worse = self.control, self.treatment
        if lower_is_better:
            better, worse = worse, better
        # x times a beta density is its mean times the density with one success more
        won = _mean(better) * _chance_higher((better[0] + 1, better[1]), worse)
        paid = _mean(worse) * (1 - _chance_higher((worse[0] + 1, worse[1]), better))
        return max(won - paid, 0.0)

    def difference(self, level: float = 0.95) -> Estimate:
        """Treatment's rate less the control's, with its central interval."""
        from scipy.optimize import brentq

        value = _mean(self.treatment) - _mean(self.control)
        # Twenty standard deviations: beyond, both distribution functions are 0 or 1 to the digit.
        reach = 20 * sqrt(_variance(self.treatment) + _variance(self.control))
        ends = max(value - reach, -1 + 1e-12), min(value + reach, 1 - 1e-12)
        low, high = (
            float(brentq(lambda d, at=at: self._below(d) - at, *ends, xtol=1e-9 * reach))
            for at in ((1 - level) / 2, (1 + level) / 2)
        )
        return Estimate(value, min(low, value), max(high, value), "share", level)

    def rope(self, low: float, high: float) -> tuple[float, float, float]:
        """Chances that the difference lies below, inside and above a region of equivalence."""
        if not low < high:
            raise ContractError(f"a region of equivalence needs low < high; got {low} and {high}")
        below, above = self._below(low), 1 - self._below(high)
        return below, max(1 - below - above, 0.0), above

    def _below(self, difference: float) -> float:
        """Chance that the difference is at most this."""
        x, weights = _nodes(self.control)
        return float(weights @ betainc(*self.treatment, np.clip(x + difference, 0, 1)))


def beta_posterior(
    control: tuple[int, int],
    treatment: tuple[int, int],
    prior: tuple[float, float] = (1.0, 1.0),
) -> BetaPosterior:
    """The posterior of two rates from their counts.

    Args:
        control: Successes and units.
        treatment: Successes and units.
        prior: Beta parameters of both rates beforehand; (1, 1) is uniform.

    Raises:
        ContractError: Successes outside 0 to units, or a prior not above 0.
    """
    for name, (successes, units) in {"control": control, "treatment": treatment}.items():
        if not 0 <= successes <= units:
            raise ContractError(f"{name}: {successes} successes of {units} units")
    if min(prior) <= 0:
        raise ContractError(f"prior must be above 0; got {prior}")
    (a, b), (c, d) = ((prior[0] + s, prior[1] + n - s) for s, n in (control, treatment))
    return BetaPosterior((a, b), (c, d))


def _mean(shape: tuple[float, float]) -> float:
    return shape[0] / (shape[0] + shape[1])


def _variance(shape: tuple[float, float]) -> float:
    mean = _mean(shape)
    return mean * (1 - mean) / (shape[0] + shape[1] + 1)


def _nodes(shape: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Legendre over the part of a beta distribution that carries all but 1e-15 of it."""
    low, high = float(betaincinv(*shape, 1e-15)), 1 - float(betaincinv(*shape[::-1], 1e-15))
    # cos spreads nodes toward both ends, where densities of few successes are steep
    angle = (_NODES + 1) * np.pi / 2
    x = low + (high - low) * (1 - np.cos(angle)) / 2
    density = np.exp(xlogy(shape[0] - 1, x) + xlog1py(shape[1] - 1, -x) - betaln(*shape))
    mass = _WEIGHTS * np.sin(angle) * density
    return x, mass / mass.sum()


def _chance_higher(first: tuple[float, float], second: tuple[float, float]) -> float:
    x, weights = _nodes(first)
    return float(weights @ betainc(*second, x))
