"""What a policy is worth, always beside the best of giving everybody the same arm."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from journeylab.errors import ContractError
from journeylab.estimate import Estimate, Measured, logged_policy_value
from journeylab.estimate.policies import Method
from journeylab.uplift.scores import Floats, Scores

Policy = pd.Series | pd.DataFrame | str


@dataclass(frozen=True, slots=True, eq=False)
class PolicyValue:
    """Mean outcome per head under a policy, and what it gains on the best constant arm.

    Attributes:
        value: Under the policy, in the outcome's unit.
        best_constant: The constant arm that did best by these same scores.
        gain: ``value`` less that arm's, paired. Another arm may be the best in truth: what to say
            of it is ``gain_on_best``.
        gains: The same less each arm's, in the order of ``constants``.
        over_control: Each arm's value less the control's, paired, in the same order.
        constants: One row per arm: ``arm, value, standard_error, ci_low, ci_high`` had everybody
            been given it, and ``gain, gain_low, gain_high`` of the policy on it.
        shares: Arm -> share of the units that the policy gives it (0-1).
        method: ``ips``, ``snips`` or ``dr``.
    """

    value: Measured
    best_constant: str
    gain: Measured
    gains: tuple[Measured, ...]
    over_control: tuple[Measured, ...]
    constants: pd.DataFrame
    shares: pd.Series
    method: str

    def gain_on_best(self, level: float = 0.95) -> Estimate:
        """What personalising is worth: the policy less the best constant arm, whichever it is.

        Which arm is best is read from the same scores. The interval allows for that: its lower end
        is the least over all arms, its upper end the least of ends that hold for all at once.
        """
        together = 1 - (1 - level) / len(self.gains)
        low = min(gain.estimate(level).ci_low for gain in self.gains)
        high = min(gain.estimate(together).ci_high for gain in self.gains)
        return Estimate(self.gain.value, low, high, self.gain.unit, level)

    def best_over_control(self, level: float = 0.95) -> Estimate:
        """The best constant arm less the control; the interval holds for all arms at once."""
        together = 1 - (1 - level) / max(len(self.over_control) - 1, 1)
        place = list(self.constants["arm"]).index(self.best_constant)
        known = self.over_control[place].estimate(together)
        return Estimate(known.value, known.ci_low, known.ci_high, known.unit, level)

    def recommends(self, level: float = 0.95) -> bool:
        """Whether the policy beats the best constant arm beyond doubt."""
        return self.gain_on_best(level).ci_low > 0


def policy_value(
    scores: Scores, policy: Policy, method: Method = "dr", level: float = 0.95
) -> PolicyValue:
    """Value of a policy made without looking at these units' outcomes.

    Args:
        scores: Of all arms; ``priced`` for money less costs.
        policy: An arm per unit; or chances, one column per arm; or one arm for everybody.
        method: ``dr`` from the scores; ``ips`` and ``snips`` from the outcomes and propensities
            alone, an independent check that is noisier.
        level: Coverage of the intervals in ``constants`` (0-1), each by itself.

    Raises:
        ContractError: The policy names an arm that is not there, misses units, or its chances do
            not add up to 1.

    Source:
        Dudik, Langford & Li (2011) for ``dr``; Swaminathan & Joachims (2015) for ``snips``.
    """
    chances = policy_chances(scores, policy)
    value = _valued(scores, chances, method)
    rows, gains, same_for_all = [], [], []
    for place, arm in enumerate(scores.arms):
        same = np.zeros_like(chances)
        same[:, place] = 1.0
        constant = _valued(scores, same, method)
        gain = value.minus(constant)
        gains.append(gain)
        same_for_all.append(constant)
        own, paired = constant.estimate(level), gain.estimate(level)
        rows.append(
            {
                "arm": arm,
                "value": own.value,
                "standard_error": constant.standard_error,
                "ci_low": own.ci_low,
                "ci_high": own.ci_high,
                "gain": paired.value,
                "gain_low": paired.ci_low,
                "gain_high": paired.ci_high,
            }
        )
    constants = pd.DataFrame(rows)
    best = int(constants["value"].to_numpy().argmax())
    shares = pd.Series(chances.mean(axis=0), index=pd.Index(scores.arms, name="arm"), name="share")
    over = tuple(constant.minus(same_for_all[0]) for constant in same_for_all)
    return PolicyValue(
        value, scores.arms[best], gains[best], tuple(gains), over, constants, shares, method
    )


def best_arms(scores: Scores, effects: pd.DataFrame) -> pd.Series:
    """The arm of each unit with the highest predicted effect above 0, else the control.

    Args:
        scores: Whose arms; a ``priced`` one makes effects net of what the arms cost.
        effects: Predicted effect against the control in the scores' unit, one column per arm.

    Raises:
        ContractError: Effects of other units, or without a column for an arm.
    """
    names = list(scores.arms)
    if not effects.index.equals(scores.index) or not set(names[1:]) <= set(effects.columns):
        raise ContractError(
            f"effects must have the index of the scores and columns {', '.join(names[1:])}"
        )
    padded = np.column_stack([np.zeros(len(scores)), effects[names[1:]].to_numpy(float)])
    arm = np.array(names, dtype=object)[padded.argmax(axis=1)]
    return pd.Series(arm, scores.index, name="arm")


def policy_chances(scores: Scores, policy: Policy) -> Floats:
    """Chance with which a policy gives each unit each arm, ``(units, arms)``.

    Raises:
        ContractError: As ``policy_value``.
    """
    n, arms = len(scores), list(scores.arms)
    if isinstance(policy, str):
        chances = np.zeros((n, len(arms)))
        chances[:, scores.position(policy)] = 1.0
        return chances
    if not policy.index.equals(scores.index):
        raise ContractError(
            f"the policy has another index than the scores: {len(policy)} rows against {n}"
        )
    if isinstance(policy, pd.DataFrame):
        if unknown := sorted(set(map(str, policy.columns)) - set(arms)):
            raise ContractError(f"the policy gives arms that are not there: {', '.join(unknown)}")
        chances = policy.reindex(columns=arms, fill_value=0.0).to_numpy(float)
        off = (np.abs(chances.sum(axis=1) - 1) > 1e-9) | ~(chances >= 0).all(axis=1)
        if bad := int(off.sum()):
            raise ContractError(f"a policy's chances must add up to 1; {bad} of {n} rows do not")
        return chances
    codes = pd.Categorical(policy.astype(str), categories=arms).codes
    if bad := int((codes < 0).sum()):
        strange = sorted(set(policy.astype(str)) - set(arms))
        raise ContractError(
            f"the policy gives {bad} of {n} units arms that are not there: {', '.join(strange)}"
        )
    return np.asarray(np.eye(len(arms))[codes])


def _valued(scores: Scores, chances: Floats, method: Method) -> Measured:
    if method == "dr":
        each = (chances * scores.values).sum(axis=1)
        return scores.measure(float(each.mean()), each)
    agrees = chances[np.arange(len(scores)), scores.arm]
    return logged_policy_value(
        scores.outcome,
        agrees,
        scores.propensity,
        scores.unit,
        method=method,
        clusters=scores.clusters,
    )
