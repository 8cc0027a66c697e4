"""What a rule for choosing arms would have earned, from a log with known chances."""

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from journeylab.errors import ContractError
from journeylab.estimate.influence import Measured, measured

Floats = NDArray[np.float64]
Method = Literal["ips", "snips", "dr"]


def logged_policy_value(
    outcome: ArrayLike,
    agrees: ArrayLike,
    propensity: ArrayLike,
    unit: str,
    *,
    method: Method = "snips",
    predicted: ArrayLike | None = None,
    predicted_logged: ArrayLike | None = None,
    clusters: ArrayLike | None = None,
) -> Measured:
    """Mean outcome per head had everybody been given what a policy says.

    Args:
        outcome: ``(rows,)``: what came of the arm that was given, in ``unit``.
        agrees: ``(rows,)``: chance (0-1) with which the policy gives that same arm; 0 or 1 for a
            policy without chance.
        propensity: ``(rows,)``: chance with which it was given, above 0.
        unit: Of the outcome.
        method: ``ips``: weights 1 / propensity; ``snips``: the same, divided by the weights' sum;
            ``dr``: a prediction for everybody, corrected by the weighted errors of those who got
            what the policy says.
        predicted: For ``dr``: ``(rows,)`` expected outcome under the policy's arm.
        predicted_logged: For ``dr``: ``(rows,)`` expected outcome under the arm that was given.
        clusters: ``(rows,)`` whole numbers from 0, where persons are not independent.

    Raises:
        ContractError: A propensity is not in (0, 1], nobody got what the policy says, a
            prediction is missing, or the method is unknown.

    Source:
        Swaminathan & Joachims, "The Self-Normalized Estimator for Counterfactual Learning" (2015);
        Dudik, Langford & Li, "Doubly Robust Policy Evaluation and Learning" (2011).
    """
    y, share, chance = (np.asarray(v, dtype=float) for v in (outcome, agrees, propensity))
    if bad := int((~((chance > 0) & (chance <= 1))).sum()):
        raise ContractError(f"propensities must lie in (0, 1]; {bad} of {len(y)} do not")
    weight = share / chance
    if not weight.sum() > 0:
        raise ContractError(
            f"none of {len(y)} units got what the policy says: it cannot be valued from this log"
        )
    if method == "ips":
        return measured(float((weight * y).mean()), weight * y, unit, clusters)
    if method == "snips":
        value = float((weight * y).sum() / weight.sum())
        return measured(value, weight * (y - value) / weight.mean(), unit, clusters)
    if method != "dr":
        raise ContractError(f"method must be ips, snips or dr; got {method!r}")
    if predicted is None or predicted_logged is None:
        raise ContractError("dr needs predictions under the policy's arm and under the arm given")
    direct, logged = np.asarray(predicted, dtype=float), np.asarray(predicted_logged, dtype=float)
    each = direct + weight * (y - logged)
    return measured(float(each.mean()), each, unit, clusters)
