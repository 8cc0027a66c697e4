"""Assignment is not delivery: the effect on those whom the touch reached."""

import numpy as np
import pandas as pd

from journeylab.errors import ContractError, FitError
from journeylab.estimate import Measured
from journeylab.uplift.design import Design
from journeylab.uplift.scores import Scores

_REACHED = ("delivered", "answered")
_COLUMNS = (
    "arm", "assigned", "assigned_low", "assigned_high", "reached", "on_reached", "on_reached_low",
    "on_reached_high", "why",
)  # fmt: skip


def complier_effect(scores: Scores, delivered: pd.Series, arm: str | None = None) -> Measured:
    """Effect on those who are reached when assigned (CACE), per head of them.

    The intention-to-treat effect divided by the share that assignment reaches, with assignment as
    the instrument. It is an effect on a group nobody can name beforehand, not on everybody, and it
    supposes that a touch which did not arrive changed nothing.

    Args:
        scores: Doubly robust scores of the outcome.
        delivered: Whether each unit's touch arrived (or was answered), 0 or 1.
        arm: Whose effect; may be left out where there is one arm beside the control.

    Raises:
        ContractError: ``delivered`` is not 0 or 1, or some of the control were reached (two-sided:
            another estimand).
        FitError: So few were reached that the share's interval holds 0.

    Source:
        Imbens & Angrist, "Identification and Estimation of Local Average Treatment Effects"
        (1994); Bloom, "Accounting for No-Shows in Experimental Evaluation Designs" (1984).
    """
    outcome = scores.effect(arm)
    place = scores.position(arm) if arm is not None else 1
    reached = scores.aligned(delivered, "delivered")
    if bad := int((~np.isin(reached, (0.0, 1.0))).sum()):
        raise ContractError(f"delivered must be 0 or 1; {bad} of {len(reached)} are neither")
    control = scores.arm == 0
    if crossed := int(reached[control].sum()):
        raise ContractError(
            f"{crossed} of {int(control.sum())} units of the control {scores.control!r} were "
            "reached: this is not one-sided; leave delivery out or find out how"
        )
    own = scores.arm == place
    rate = float((reached[own] / scores.propensity[own]).sum() / (1 / scores.propensity[own]).sum())
    each = rate + own / scores.propensity * (reached - rate)
    share = scores.measure(float(each.mean()), each)
    if share.value <= 0 or share.estimate().ci_low <= 0:
        raise FitError(
            f"{int(reached[own].sum())} of {int(own.sum())} assigned were reached: too few for an "
            "effect on them"
        )
    effect = float(outcome.mean()) / share.value
    return scores.measure(effect, (outcome - effect * each) / share.value)


def delivered_effects(scores: Scores, delivered: pd.Series, level: float = 0.95) -> pd.DataFrame:
    """Effect of being assigned beside the effect of being reached, for each arm.

    Args:
        scores: Of all arms.
        delivered: As for ``complier_effect``; missing means that the arm's delivery is not logged.
        level: Coverage (0-1).

    Returns:
        One row per arm beside the control: ``arm``; ``assigned`` (effect per head assigned) with
        ``assigned_low, assigned_high``; ``reached`` (share of those assigned, 0-1, each
        weighed by one over its chance); ``on_reached`` (``assigned`` over ``reached``: effect per
        head reached) with ``on_reached_low, on_reached_high``, missing where delivery is not known
        or reached too few, which ``why`` says in words (empty otherwise).
    """
    rows = []
    for place, arm in enumerate(scores.arms[1:], start=1):
        each = scores.effect(arm)
        assigned = scores.measure(float(each.mean()), each).estimate(level)
        base = {
            "arm": arm,
            "assigned": assigned.value,
            "assigned_low": assigned.ci_low,
            "assigned_high": assigned.ci_high,
        }
        own = (scores.arm == place) & delivered.notna().to_numpy()
        logged = bool(own.sum() == (scores.arm == place).sum())
        share, low, high, value, why = np.nan, np.nan, np.nan, np.nan, ""
        if not logged:
            why = "delivery is not logged for every unit"
        else:
            # the same share that the effect is divided by
            weight = 1 / scores.propensity[own]
            share = float(np.average(delivered.to_numpy(float)[own], weights=weight))
            try:
                known = complier_effect(scores, delivered.fillna(0), arm).estimate(level)
                value, low, high = known.value, known.ci_low, known.ci_high
            except FitError:
                number = int(delivered.to_numpy(float)[own].sum())
                why = f"{number} reached: too few" if number else "no delivery was ever logged"
        rows.append(
            base
            | {
                "reached": share,
                "on_reached": value,
                "on_reached_low": low,
                "on_reached_high": high,
                "why": why,
            }
        )
    return pd.DataFrame(rows, columns=list(_COLUMNS))


def reach_effects(design: Design, scores: Scores, level: float = 0.95) -> pd.DataFrame:
    """The same for every way to count whom a touch reached.

    Args:
        design: Whose rows the scores are of, in the same order.
        scores: Of all arms.
        level: Coverage (0-1).

    Returns:
        ``counted_as`` (``delivered``, or ``answered``, which delivery includes) and the columns of
        ``delivered_effects``, one row per arm. Of the answered only arms of which an answer was
        ever logged, and all rows known; no rows where neither was logged.

    Raises:
        ContractError: The scores are not those of the design's rows; or as ``complier_effect``.
    """
    rows = design.rows
    if len(rows) != len(scores) or not rows.index.equals(scores.index):
        raise ContractError(
            f"the scores are of other rows than the design: {len(scores)} against {len(rows)}"
        )
    parts = []
    for name in _REACHED:
        if name not in rows.columns or rows[name].isna().all():
            continue
        found = delivered_effects(scores, rows[name], level)
        if name == "answered":
            by_arm = rows.groupby("arm")[name]
            logged = by_arm.count().eq(by_arm.size()) & by_arm.max().gt(0)
            found = found[found["arm"].isin(logged.index[logged])]
        found.insert(0, "counted_as", name)
        parts.append(found)
    if not parts:
        return pd.DataFrame(columns=["counted_as", *_COLUMNS])
    return pd.concat(parts, ignore_index=True)
