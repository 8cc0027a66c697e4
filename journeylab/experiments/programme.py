"""A programme of tests: what past ones teach the next, what all of them brought, which is next."""

from dataclasses import dataclass
from math import exp, inf, isfinite, log1p, sqrt

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.optimize import minimize_scalar
from scipy.special import ndtr
from scipy.stats import norm

from journeylab.errors import ContractError, FitError
from journeylab.estimate import Estimate
from journeylab.experiments.posterior import NormalPosterior, normal_posterior

FEWEST_TESTS = 5


@dataclass(frozen=True, slots=True)
class EffectPrior:
    """How true effects of past tests are spread.

    Attributes:
        mean, sd: Of the true effects, in the unit of the effects (shares of the control).
        tests: Effects it rests on.
        observed_sd: Spread of the estimates; larger, because it holds their noise too.
    """

    mean: float
    sd: float
    tests: int
    observed_sd: float

    def belief(self) -> NormalPosterior:
        """As a prior for a readout."""
        return NormalPosterior(self.mean, self.sd)


def effect_prior(effects: ArrayLike, std_errors: ArrayLike) -> EffectPrior:
    """Normal prior of true effects by maximum likelihood from estimates (empirical Bayes).

    Args:
        effects: Estimated effects of past tests, every one of them, not those that won.
        std_errors: Their standard errors, above 0.

    Raises:
        FitError: Fewer than five tests: their spread says nothing yet.
        ContractError: Effects or errors that are not finite, or errors not above 0.

    Source:
        Efron & Morris, JASA 68 (1973); Azevedo, Deng, Montiel Olea, Rao & Weyl, "A/B testing with
        fat tails", JPE 128 (2020), for tests of a shop.
    """
    y, s = (np.asarray(given, dtype=float).ravel() for given in (effects, std_errors))
    if y.shape != s.shape or not np.isfinite(y).all() or not ((s > 0) & np.isfinite(s)).all():
        raise ContractError("every past effect needs a finite value and a standard error above 0")
    if len(y) < FEWEST_TESTS:
        raise FitError(f"a prior needs {FEWEST_TESTS} past tests or more; got {len(y)}")

    def negative(log_sd: float) -> float:
        variance = np.exp(2 * log_sd) + s**2
        mean = (y / variance).sum() / (1 / variance).sum()
        return float(0.5 * (np.log(variance) + (y - mean) ** 2 / variance).sum())

    scale = max(float(y.std()), float(np.median(s)))
    found = minimize_scalar(
        negative, bounds=(np.log(scale) - 12, np.log(scale) + 3), method="bounded"
    )
    sd = float(np.exp(found.x))
    weights = 1 / (sd**2 + s**2)
    return EffectPrior(float(weights @ y / weights.sum()), sd, len(y), float(y.std(ddof=1)))


def flat_and_shrunken(
    value: float, std_error: float, prior: EffectPrior, level: float = 0.95
) -> pd.DataFrame:
    """An estimate as it stands, and as past tests would have it.

    Returns:
        Two rows: ``belief`` (``flat``, ``past tests``), ``effect, low, high, chance_to_win``.
    """
    rows = []
    for name, before in {"flat": None, "past tests": prior.belief()}.items():
        after = normal_posterior(value, std_error, before)
        ends = after.interval("share", level)
        rows.append((name, after.mean, ends.ci_low, ends.ci_high, after.chance_to_win()))
    return pd.DataFrame(rows, columns=["belief", "effect", "low", "high", "chance_to_win"])


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
        prior: From all past tests; without it there is no shrunken row.
        holdout: Measured difference of everybody against the holdout, as a share.
        level: Of the intervals.

    Returns:
        One row per way: ``way`` (``sum of estimates``, ``shrunken by past tests``, ``global
        holdout``), ``changes``, ``effect, low, high`` as shares; effects multiply.
    """
    y, s = (shipped[name].to_numpy(float) for name in ("relative", "relative_error"))
    if not (np.isfinite(y).all() and (y > -1).all() and (s > 0).all()):
        raise ContractError("shipped effects must be finite, above -1, with errors above 0")
    z = float(norm.ppf((1 + level) / 2))
    rows = []
    ways: dict[str, EffectPrior | None] = {"sum of estimates": None}
    if prior is not None:
        ways["shrunken by past tests"] = prior
    for way, one in ways.items():
        after = [
            normal_posterior(a, b, one.belief() if one else None) for a, b in zip(y, s, strict=True)
        ]
        centre = sum(log1p(max(each.mean, -0.999)) for each in after)
        spread = sqrt(sum((each.sd / (1 + max(each.mean, -0.999))) ** 2 for each in after))
        ends = [exp(centre + shift * spread) - 1 for shift in (0, -z, z)]
        rows.append((way, len(y), *ends))
    if holdout is not None:
        rows.append(("global holdout", len(y), holdout.value, holdout.ci_low, holdout.ci_high))
    return pd.DataFrame(rows, columns=["way", "changes", "effect", "low", "high"])


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
