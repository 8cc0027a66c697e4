"""Did the arms get the shares they were meant to get?"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from journeylab.errors import ContractError

# Below this expected count the chi-square distribution is not to be trusted.
_FEWEST_EXPECTED = 1000


@dataclass(frozen=True, slots=True)
class SampleRatio:
    """Counts by arm beside what the design promised.

    Attributes:
        counts: Arm -> units found in it.
        expected: Arm -> units that the design would give on average.
        p: Chance of counts at least this far off if the design was kept.
        method: ``exact`` (binomial) or ``chi-square``.
    """

    counts: Mapping[str, int]
    expected: Mapping[str, float]
    p: float
    method: str


def sample_ratio(
    counts: Mapping[str, int],
    shares: Mapping[str, float] | None = None,
    *,
    exact_below: int = _FEWEST_EXPECTED,
) -> SampleRatio:
    """Test of the sample ratio: a small p says that the assignment or the log is broken.

    Args:
        counts: Arm -> units found in it; two arms or more.
        shares: Arm -> its designed share; weights that need not add up to 1. Equal when absent.
        exact_below: With two arms and fewer units than this the binomial test is used.

    Raises:
        ContractError: Fewer than two arms, a negative or fractional count, no units at all, or
            shares that miss an arm or are not positive.

    Source:
        Fabijan et al., "Diagnosing Sample Ratio Mismatch in Online Controlled Experiments"
        (KDD 2019).
    """
    from scipy.stats import binomtest, chisquare

    if len(counts) < 2:
        raise ContractError(f"a sample ratio needs two arms or more; got {list(counts)}")
    if wrong := {arm: n for arm, n in counts.items() if not (n >= 0 and n == int(n))}:
        raise ContractError(f"counts must be whole numbers of zero or more; got {wrong}")
    weights = dict.fromkeys(counts, 1.0) if shares is None else dict(shares)
    if set(weights) != set(counts) or not all(0 < w < np.inf for w in weights.values()):
        raise ContractError(
            f"shares must give every arm of {sorted(counts)} a positive weight; got {weights}"
        )
    found = {arm: int(n) for arm, n in counts.items()}
    total, weight = sum(found.values()), sum(weights.values())
    if not total:
        raise ContractError("a sample ratio needs units; every arm is empty")
    expected = {arm: total * weights[arm] / weight for arm in found}
    if len(found) == 2 and total < exact_below:
        arm, first = next(iter(found.items()))
        p = float(binomtest(first, total, weights[arm] / weight).pvalue)
        return SampleRatio(found, expected, p, "exact")
    p = float(chisquare(list(found.values()), list(expected.values())).pvalue)
    return SampleRatio(found, expected, p, "chi-square")
