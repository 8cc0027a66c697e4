"""A programme of tests: what past ones teach the next, what all of them brought, which is next."""

from dataclasses import dataclass
from math import exp, inf, isfinite, sqrt
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar
from scipy.special import ndtr
from scipy.stats import norm

from journeylab.errors import ContractError, FitError
from journeylab.estimate import Estimate, Moments
from journeylab.experiments.comparison import compare
from journeylab.experiments.posterior import (
    Belief,
    NormalMixture,
    NormalPosterior,
    normal_posterior,
)

Floats = NDArray[np.float64]
FEWEST_TESTS = 5
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(400)
# Spreads that weigh less than this beside the likeliest are dropped.
_LEAST = 1e-10


@dataclass(frozen=True, slots=True)
class EffectPrior:
    """How true effects of past tests are spread, and how well that is known.

    Attributes:
        mean, sd: Of the true effects by maximum likelihood, in the unit of the effects (shares of
            the control).
        tests: Effects it rests on.
        observed_sd: Spread of the estimates; larger, because it holds their noise too.
        spreads: Values that the true spread may have; few tests leave many.
        weights: Chance of each, adding up to 1.
        means, mean_errors: Mean of the true effects under each spread, and its standard error.
    """

    mean: float
    sd: float
    tests: int
    observed_sd: float
    spreads: tuple[float, ...]
    weights: tuple[float, ...]
    means: tuple[float, ...]
    mean_errors: tuple[float, ...]

    def belief(self) -> NormalMixture:
        """As a prior for the readout of a further test; wider, the fewer tests it rests on."""
        sds = np.hypot(self.spreads, self.mean_errors)
        return NormalMixture(self.weights, self.means, tuple(sds.tolist()))

    def spread(self, level: float = 0.95) -> Estimate:
        """The spread of true effects with its interval, as a share."""
        reached = np.cumsum(self.weights)
        ends = [self.spreads[int(np.searchsorted(reached, at))]
                for at in ((1 - level) / 2, (1 + level) / 2)]  # fmt: skip
        return Estimate(self.sd, min(ends[0], self.sd), max(ends[1], self.sd), "share", level)


def effect_prior(effects: ArrayLike, std_errors: ArrayLike) -> EffectPrior:
    """Normal prior of true effects from estimates, its own uncertainty carried.

    Mean and spread are those of maximum likelihood (empirical Bayes). As a belief about a further
    test they are not taken as known: the mean is integrated out, and so is the spread, over its
    posterior with every spread equally likely beforehand. Without that, five tests would be
    believed as firmly as five hundred.

    Args:
        effects: Estimated effects of past tests, every one of them, not those that won.
        std_errors: Their standard errors, above 0.

    Raises:
        FitError: Fewer than five tests: their spread says nothing yet.
        ContractError: Effects or errors that are not finite, or errors not above 0.

    Source:
        Efron & Morris, JASA 68 (1973); Gelman, "Prior distributions for variance parameters in
        hierarchical models", Bayesian Analysis 1 (2006); Azevedo, Deng, Montiel Olea, Rao & Weyl,
        "A/B testing with fat tails", JPE 128 (2020), for tests of a shop.
    """
    y, s = (np.asarray(given, dtype=float).ravel() for given in (effects, std_errors))
    if y.shape != s.shape or not np.isfinite(y).all() or not ((s > 0) & np.isfinite(s)).all():
        raise ContractError("every past effect needs a finite value and a standard error above 0")
    if len(y) < FEWEST_TESTS:
        raise FitError(f"a prior needs {FEWEST_TESTS} past tests or more; got {len(y)}")
    scale = max(float(y.std()), float(np.median(s)))

    def negative(log_sd: float) -> float:
        return -float(_by_spread(np.array([np.exp(log_sd)]), y, s)[0][0])

    found = minimize_scalar(
        negative, bounds=(np.log(scale) - 12, np.log(scale) + 3), method="bounded"
    )
    sd = float(np.exp(found.x))
    weights = 1 / (sd**2 + s**2)
    # Gauss and Legendre over u, with spread = scale u / (1 - u) from nothing to without end.
    u = (_NODES + 1) / 2
    spreads = scale * u / (1 - u)
    profile, means, errors = _by_spread(spreads, y, s)
    log_mass = profile + np.log(errors) + np.log(_WEIGHTS) - 2 * np.log1p(-u)
    mass = np.exp(log_mass - log_mass.max())
    kept = mass > _LEAST
    parts = (spreads[kept], mass[kept] / mass[kept].sum(), means[kept], errors[kept])
    return EffectPrior(
        float(weights @ y / weights.sum()), sd, len(y), float(y.std(ddof=1)),
        *(tuple(part.tolist()) for part in parts),
    )  # fmt: skip


def _by_spread(spreads: Floats, y: Floats, s: Floats) -> tuple[Floats, Floats, Floats]:
    """Profile log-likelihood of each spread, the mean of effects under it, and its error."""
    variance = spreads[:, None] ** 2 + s**2
    total = (1 / variance).sum(axis=1)
    mean = (y / variance).sum(axis=1) / total
    profile = -0.5 * (np.log(variance) + (y - mean[:, None]) ** 2 / variance).sum(axis=1)
    return profile, mean, 1 / np.sqrt(total)


def flat_and_shrunken(
    value: float, std_error: float, prior: EffectPrior, level: float = 0.95
) -> pd.DataFrame:
    """An estimate as it stands, and as past tests would have it.

    Args:
        value: Of a further test, as a share of the control.
        std_error: Its standard error.
        prior: From past tests, this one not among them.
        level: Of the intervals.

    Returns:
        Two rows: ``belief`` (``flat``, ``past tests``), ``effect, low, high, chance_to_win``.
    """
    rows = []
    for name, before in {"flat": None, "past tests": prior.belief()}.items():
        after = normal_posterior(value, std_error, before)
        ends = after.interval("share", level)
        rows.append((name, after.mean, ends.ci_low, ends.ci_high, after.chance_to_win()))
    return pd.DataFrame(rows, columns=["belief", "effect", "low", "high", "chance_to_win"])


def prospects(
    effect: float,
    std_error: float,
    prior: EffectPrior | None = None,
    *,
    alpha: float = 0.05,
    sides: Literal[1, 2] = 2,
) -> pd.DataFrame:
    """What a planned test is likely to find: as assumed, and by what past tests found.

    A test is planned for an effect; past tests say how seldom effects are as large.

    Args:
        effect: The test is made for, as a share of the control.
        std_error: Of the effect at the planned size, as a share.
        prior: From past tests; without it there is one row.
        alpha: Error of the test.
        sides: 1 or 2.

    Returns:
        ``belief`` (``as planned``, ``past tests``); ``effect, low, high`` expected (95 % of
        effects); ``as_large``: chance of an effect as large as planned (0-1); ``found``: chance
        that the test shows a gain.
    """
    limit = float(norm.isf(alpha / sides)) * std_error
    power = float(ndtr((effect - limit) / std_error))
    rows: list[tuple[object, ...]] = [("as planned", effect, effect, effect, 1.0, power)]
    if prior is not None:
        belief = prior.belief()
        ends = belief.interval("share")
        w, m, s = (np.array(part) for part in (belief.weights, belief.means, belief.sds))
        found = float(w @ ndtr((m - limit) / np.hypot(s, std_error)))
        large = belief.chance_above(effect)
        rows.append(("past tests", ends.value, ends.ci_low, ends.ci_high, large, found))
    return pd.DataFrame(rows, columns=["belief", "effect", "low", "high", "as_large", "found"])


def cumulative_impact(
    shipped: pd.DataFrame,
    prior: EffectPrior | None = None,
    holdout: Estimate | None = None,
    level: float = 0.95,
) -> pd.DataFrame:
    """What all shipped changes brought together.

    Winners were chosen because they looked good, so the sum of their estimates is too high. The
    shrunken sum takes that off as far as the prior knows; a persistent global holdout, customers
    who never got any of the changes, measures it.

    Args:
        shipped: One row per shipped change: ``relative`` (share of the control) and
            ``relative_error``.
        prior: From all past tests, the shipped among them; without it there is no shrunken row.
            What is uncertain about it is shared by all changes and does not average out.
        holdout: Measured difference of everybody against the holdout, as a share
            (``holdout_effect``).
        level: Of the intervals.

    Returns:
        One row per way: ``way`` (``sum of estimates``, ``shrunken by past tests``, ``global
        holdout``), ``changes``, ``effect, low, high`` as shares; effects multiply.
    """
    y, s = (shipped[name].to_numpy(float) for name in ("relative", "relative_error"))
    if not (np.isfinite(y).all() and (y > -1).all() and (s > 0).all()):
        raise ContractError("shipped effects must be finite, above -1, with errors above 0")
    rows = []
    if len(y):
        spread = sqrt(float(((s / (1 + y)) ** 2).sum()))
        ways: dict[str, Belief] = {
            "sum of estimates": NormalPosterior(float(np.log1p(y).sum()), spread)
        }
        if prior is not None:
            ways["shrunken by past tests"] = _shrunken_sum(prior, y, s)
        for way, one in ways.items():
            found = one.interval("share", level)
            ends = [exp(end) - 1 for end in (found.value, found.ci_low, found.ci_high)]
            rows.append((way, len(y), *ends))
    if holdout is not None:
        rows.append(("global holdout", len(y), holdout.value, holdout.ci_low, holdout.ci_high))
    return pd.DataFrame(rows, columns=["way", "changes", "effect", "low", "high"])


def _shrunken_sum(prior: EffectPrior, y: Floats, s: Floats) -> NormalMixture:
    """Belief about the sum of logarithms of the changes, under each spread they may have."""
    spreads, means, errors = (
        np.array(part)[:, None] for part in (prior.spreads, prior.means, prior.mean_errors)
    )
    pull = spreads**2 / (spreads**2 + s**2)
    each = np.maximum(means + pull * (y - means), -0.999)
    slope = 1 / (1 + each)
    own = (slope**2 * pull * s**2).sum(axis=1)
    shared = (slope * (1 - pull)).sum(axis=1) ** 2 * errors[:, 0] ** 2
    sums = np.log1p(each).sum(axis=1)
    sds = np.sqrt(np.maximum(own + shared, 1e-24))
    return NormalMixture(prior.weights, tuple(sums.tolist()), tuple(sds.tolist()))


def holdout_effect(
    moments: Moments, metric: str, everybody: str, holdout: str, level: float = 0.95
) -> Estimate:
    """What all changes together did, measured against a persistent global holdout.

    Args:
        moments: Of customers who got what was shipped and of those who never did, as two arms
            (``assigned`` with one salt that is never changed keeps the holdout the same).
        metric: A mean, proportion or ratio.
        everybody: The arm of those who got the changes.
        holdout: The arm of those who did not.
        level: Of the interval.

    Returns:
        Change against the holdout, as a share.

    Raises:
        FitError: It cannot be read; the message says why.
    """
    found = compare(moments, metric, everybody, holdout, alpha=1 - level)
    if found.relative is None:
        reason = found.reason or found.relative_reason
        raise FitError(f"{metric}: the holdout cannot be read: {reason}")
    share = found.relative
    return Estimate(share.value, share.ci_low, share.ci_high, "share", level)


def value_of_information(
    prior: NormalPosterior, std_error: float, *, stake: float = 1.0, threshold: float = 0.0
) -> float:
    """What a test is expected to be worth, before it costs anything.

    Without a test the change is shipped when its expected effect lies above the threshold; with
    one, when the belief after it does. The difference is never negative.

    Args:
        prior: Of the effect.
        std_error: That the test would have.
        stake: Money that one unit of effect is worth over the time the decision holds.
        threshold: Effect at which shipping breaks even.

    Source:
        Raiffa & Schlaifer, "Applied Statistical Decision Theory" (1961), for normal priors.
    """
    if not 0 < std_error < inf or not isfinite(stake) or stake < 0:
        raise ContractError(f"std_error above 0 and a stake, please; got {std_error}, {stake}")
    gap = prior.mean - threshold
    spread = prior.sd**2 / sqrt(prior.sd**2 + std_error**2)
    z = gap / spread
    informed = spread * float(norm.pdf(z)) + gap * float(ndtr(z))
    return stake * max(informed - max(gap, 0.0), 0.0)


def next_test(candidates: pd.DataFrame) -> pd.DataFrame:
    """Which idea to test next: by what its test is worth per week.

    Args:
        candidates: One row per idea: ``idea``; ``mean, sd`` (prior of its effect); ``std_error``
            (of the planned test); ``stake`` (money per unit of effect); ``threshold`` (effect at
            break-even); ``cost`` (of the test, money); ``weeks`` (it takes).

    Returns:
        The rows, best first, with ``without`` (``ship`` or ``leave``: what one would do without a
        test), ``value`` (of the information), ``net`` (less its cost), ``net_per_week`` and
        ``advice``.
    """
    rows = []
    for row in candidates.to_dict("records"):
        belief = NormalPosterior(float(row["mean"]), float(row["sd"]))
        worth = value_of_information(
            belief,
            float(row["std_error"]),
            stake=float(row["stake"]),
            threshold=float(row["threshold"]),
        )
        weeks = float(row["weeks"])
        if not weeks > 0:
            raise ContractError(f"{row['idea']}: a test takes time; got {weeks} weeks")
        net = worth - float(row["cost"])
        without = "ship" if belief.mean > float(row["threshold"]) else "leave"
        advice = "test" if net > 0 else f"{without} it without a test"
        rows.append(
            {**row, "without": without, "value": worth, "net": net, "net_per_week": net / weeks,
             "advice": advice}
        )  # fmt: skip
    frame = pd.DataFrame(rows)
    return frame.sort_values("net_per_week", ascending=False, ignore_index=True)
