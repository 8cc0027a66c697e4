"""What the lists and the judged forecast say in words: whom to contact, and what to doubt."""

import pandas as pd

from journeylab.churn.contacts import quiet_regulars, regulars
from journeylab.churn.evaluation import OutOfTime
from journeylab.errors import ContractError

QUIET = "quiet regulars"
OTHER = "other regulars"
# A share among fewer is known to no better than about ten points.
_FEW_CUSTOMERS = 100


def past_lists(
    frame: pd.DataFrame, usual_gap_days: float = 30, silent_days: int = 90
) -> dict[str, pd.Series]:
    """Lists one could have made on a landmark day, none of them overlapping the first.

    Args:
        frame: Landmark rows.
        usual_gap_days: As in ``regulars``.
        silent_days: The rule of thumb: silent this long means gone.

    Returns:
        List -> True for the rows on it: ``quiet regulars`` (not yet silent for ``silent_days``),
        ``other regulars``, and last the rule of thumb.
    """
    quiet, silent = quiet_regulars(frame, usual_gap_days), frame["days_since_last"] >= silent_days
    return {
        QUIET: quiet & ~silent,
        OTHER: regulars(frame, usual_gap_days) & ~quiet,
        f"silent for {silent_days} days": silent,
    }


def rule_finding(outcome: pd.DataFrame, horizon_days: int) -> str:
    """One line on the rule of thumb: how many of those it gives up bought again.

    Args:
        outcome: ``compare_lists`` of ``past_lists``.
        horizon_days: Its horizon.
    """
    rule = outcome.iloc[2]
    if not rule["customers"]:
        return f"Nobody was {rule['list']} on the judged day"
    back = _percent(1 - rule["no_purchase"])
    return f"{back} of those {rule['list']} bought again within {horizon_days} more"


def doubts(judged: OutOfTime) -> list[str]:
    """What speaks against the forecast, each in a sentence; often empty.

    Args:
        judged: From ``validate_out_of_time``; the level is judged at its shortest horizon.
    """
    found, score = [], judged.scores.iloc[0]
    if not score["ci_low"] <= score["predicted"] <= score["ci_high"]:
        off = score["predicted"] - score["observed"]
        found.append(
            f"Out of time the risk within {score['horizon_days']:.0f} days came out "
            f"{100 * abs(off):.1f} points too {'low' if off < 0 else 'high'}: use the ranking, not "
            "the level."
        )
    if judged.concordance <= judged.concordance_baseline:
        found.append(
            "Out of time the model ranks customers no better than the days since the last purchase "
            f"alone (concordance {judged.concordance:.3f} against "
            f"{judged.concordance_baseline:.3f}): rank by silence instead."
        )
    if (customers := len(judged.test)) < _FEW_CUSTOMERS:
        found.append(
            f"The forecast was judged on {customers} customers of {judged.landmark.date()} only: "
            "every share here is uncertain by ten points and more."
        )
    return found


def contact_advice(
    contacts: pd.DataFrame,
    outcome: pd.DataFrame,
    *,
    today: str,
    judged_on: str,
    horizon_days: int,
    least_listed: int,
) -> str:
    """Whether to contact the listed customers, in a few sentences with the evidence.

    Args:
        contacts: From ``contact_list``.
        outcome: ``compare_lists`` of ``past_lists`` on an earlier day.
        today: Day of ``contacts``, ISO date.
        judged_on: Day of ``outcome``, ISO date.
        horizon_days: Of ``outcome``.
        least_listed: A shorter list, today or on the earlier day, is not worth a campaign.

    Raises:
        ContractError: ``outcome`` does not hold the three lists in their order.
    """
    if outcome["list"].tolist()[:2] != [QUIET, OTHER] or len(outcome) < 3:
        raise ContractError(
            f"outcome must hold the lists of past_lists first; got {outcome['list'].tolist()}"
        )
    (seen, regular, rule), listed = (outcome.iloc[row] for row in range(3)), len(contacts)
    if min(listed, seen["customers"]) < least_listed:
        return (
            f"Start no contact list yet: a list is worth a campaign from {least_listed} customers "
            f"(least_listed), but {listed or 'no'} quiet regular{'' if listed == 1 else 's'} "
            f"would stand on the one of {today}, and {seen['customers'] or 'none'} stood on the "
            f"one of {judged_on} by which it can be judged. A larger usual_gap_days or "
            "silent_days finds more."
        )
    interval = f"({_percent(seen['ci_low'])} to {_percent(seen['ci_high'])})"
    stayed = f"{_percent(seen['no_purchase'])} of such a list {interval} did not buy within "
    stayed += f"{horizon_days} days"
    if regular["customers"] and seen["ci_low"] <= regular["no_purchase"]:
        return (
            f"Start no contact list yet: on {judged_on} {stayed}, which cannot be told from the "
            f"{_percent(regular['no_purchase'])} of the other regulars. Silence beyond the own "
            "rhythm does not mark leavers in these data."
        )
    reach = int((contacts["arm"] == "contact").sum())
    against = (
        f", against {_percent(regular['no_purchase'])} of the other regulars"
        if regular["customers"]
        else ""
    )
    waits = (
        f" The rule '{rule['list']}' waits until {_percent(rule['no_purchase'])} stay away."
        if rule["customers"]
        else ""
    )
    return (
        f"Contact {reach} of the {listed} quiet regulars of {today} this week, highest risk first, "
        f"and leave the other {listed - reach}, drawn at random, alone. On {judged_on} {stayed}"
        f"{against}.{waits} Risk is not effect: what a contact gains is known when the two halves "
        "are compared."
    )


def _percent(share: float) -> str:
    return f"{100 * share:.0f}\N{NO-BREAK SPACE}%"
