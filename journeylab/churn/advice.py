"""What the lists and the judged forecast say in words: whom to contact, and what to doubt."""

import numpy as np
import pandas as pd

from journeylab.churn.contacts import compare_lists, contact_list, quiet_regulars, regulars
from journeylab.churn.findings import lift_table
from journeylab.churn.judgement import HAZARD, Judgement
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


def lists_finding(outcome: pd.DataFrame, horizon_days: int) -> str:
    """One line on whether silence beyond the own rhythm marked those who stayed away.

    Args:
        outcome: ``compare_lists`` of ``past_lists``.
        horizon_days: Its horizon.
    """
    quiet, other = outcome.iloc[0], outcome.iloc[1]
    if not quiet["customers"]:
        return "Nobody was a quiet regular on the judged day"
    stayed = (
        f"{_percent(quiet['no_purchase'])} of the quiet regulars stayed away {horizon_days} days"
    )
    beside = f", {_percent(other['no_purchase'])} of the others" if other["customers"] else ""
    return stayed + beside


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


def past_outcomes(
    judged: Judgement, usual_gap_days: float = 30, silent_days: int = 90
) -> dict[int, pd.DataFrame]:
    """What became of the lists that could have been made on the last day judged.

    Args:
        judged: From ``judge``.
        usual_gap_days: As in ``regulars``.
        silent_days: The rule of thumb.

    Returns:
        Horizon -> ``compare_lists`` of ``past_lists``; empty for memberships.
    """
    study = judged.study
    if study.contract:
        return {}
    lists = past_lists(judged.rolling.test, usual_gap_days, silent_days)
    ends = sorted({study.near, study.far})
    return {day: compare_lists(judged.rolling.test, lists, day) for day in ends}


def weekly_contacts(
    judged: Judgement,
    *,
    rng: int | np.random.Generator,
    usual_gap_days: float = 30,
    silent_days: int = 90,
    most: int = 200,
    held_out: float = 0.5,
) -> pd.DataFrame:
    """Today's list, a part of it held out at random: quiet regulars, or members most at stake.

    Args:
        judged: From ``judge``; its hazard model ranks.
        rng: Draws who is held out.
        usual_gap_days: As in ``regulars``.
        silent_days: As in ``past_lists``.
        most: Length of a list of members.
        held_out: Share to leave alone (0-1).

    Returns:
        ``contact_list`` of the quiet regulars; of members ``rank, arm, customer_id,
        value_at_risk`` and the chance of leaving within each horizon.
    """
    study = judged.study
    if study.contract:
        rows = judged.warning(most).rows
        arms = np.where(np.arange(len(rows)) < round(held_out * len(rows)), "hold out", "contact")
        listed = rows[["rank", "customer_id", "value_at_risk"]].copy()
        listed.insert(1, "arm", np.random.default_rng(rng).permutation(arms))
        return listed.join(rows[[f"risk_{day}" for day in study.horizons]])
    chosen = past_lists(study.today, usual_gap_days, silent_days)[QUIET]
    return contact_list(judged.hazard, study.today, chosen, study.near, held_out=held_out, rng=rng)


def weekly_advice(
    judged: Judgement,
    contacts: pd.DataFrame,
    outcomes: dict[int, pd.DataFrame],
    least_listed: int,
) -> str:
    """Whether to contact the listed customers, in a few sentences with the evidence.

    Args:
        judged: From ``judge``.
        contacts: From ``weekly_contacts``.
        outcomes: From ``past_outcomes``.
        least_listed: A shorter list is not worth a campaign.
    """
    study = judged.study
    if not study.contract:
        return contact_advice(
            contacts, outcomes[study.near], today=study.last, judged_on=judged.judged_on,
            horizon_days=study.near, least_listed=least_listed,
        )  # fmt: skip
    if len(contacts) < least_listed:
        return (
            f"Start no contact list yet: a list is worth a campaign from {least_listed} members "
            f"(least_listed), and {len(contacts) or 'none'} would stand on this one."
        )
    found = lift_table(judged)
    row = found[found["model"] == HAZARD].iloc[0]
    reach = int((contacts["arm"] == "contact").sum())
    if row["ci_low"] <= 1:
        return (
            "Start no contact list yet: among customers the model had not seen, the tenth it "
            "ranked first did not leave more often than all."
        )
    return (
        f"Contact {reach} of the {len(contacts)} members with the most at stake within "
        f"{study.far} days, and leave the other {len(contacts) - reach}, drawn at random, alone. "
        f"Among customers the model had not seen, the tenth it ranked first left "
        f"{row['lift']:.1f} times ({row['ci_low']:.1f} to {row['ci_high']:.1f}) as often as all "
        f"within {row['horizon']:,.0f} days of joining. Risk is not effect: what a contact gains "
        "is known when the two halves are compared."
    )


def _percent(share: float) -> str:
    return f"{100 * share:.0f}\N{NO-BREAK SPACE}%"
