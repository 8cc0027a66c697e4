"""The verdict: whether a source is fit to model, for which questions, and what to mend first."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import pandas as pd

from journeylab.tables.identities import Merges
from journeylab.tables.profile.lateness import Lateness

LEAST_CUSTOMERS = 100
"""With fewer customers the intervals are too wide to act on."""
LEAST_REPEATERS = 50
"""Customers with a second purchase day, from whom a rhythm can be learnt."""
LEAST_DAYS = 90
"""Days of orders: three windows of 30 days to learn from, to wait and to judge."""
LEAST_PER_ARM = 100
"""Customers in each of at least two arms."""
MOST_UNMATCHED = 0.01
"""Share of rows that may name a customer or an order which is not there."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a source is fit to model.

    Attributes:
        fit: At least one question can be answered.
        text: The decision in two or three sentences.
        mend: What to mend first, worst first; may be empty.
        questions: ``question``, ``answer`` (``yes`` or ``no``), ``why``.
    """

    fit: bool
    text: str
    mend: tuple[str, ...]
    questions: pd.DataFrame


def verdict(
    intake: pd.DataFrame,
    spans: pd.DataFrame,
    keys: pd.DataFrame,
    links: pd.DataFrame,
    missing: pd.DataFrame,
    purchases: pd.DataFrame,
    arms: pd.DataFrame,
    found: dict[str, Lateness],
    currencies: Sequence[str] = (),
    merges: Merges | None = None,
    max_quarantined: float = 0.01,
) -> Verdict:
    """Judge a source by what was counted of it.

    A question is answered when its tables hold rows, no more than ``max_quarantined`` of them were
    refused, their keys name their rows, and there are enough customers, days and arms
    (``LEAST_...`` of this module). Late days, rows without their customer and implausible merges
    do not decide; they are named as what to mend.

    Args:
        intake: From ``intake_summary``.
        spans: From ``spans``.
        keys: From ``keys``.
        links: From ``links``.
        missing: From ``missingness``.
        purchases: From ``purchases_per_customer``.
        arms: From ``arms``.
        found: From ``lateness``.
        currencies: Of the orders.
        merges: From the intake report.
        max_quarantined: Share of a table's rows (0-1) that may be refused.
    """
    bad = {**_refused(intake, max_quarantined), **_repeated(keys)}
    facts = _Facts(
        {str(row.table): row for row in spans.itertuples() if row.rows},
        bad,
        purchases,
        missing,
        arms,
    )
    answers = [
        ("churn", *_churn(facts)),
        ("value", *_value(facts, currencies)),
        ("stages of the journey", *_stages(facts)),
        ("effect of a touch", *_effect(facts)),
    ]
    table = pd.DataFrame(
        [(name, "yes" if yes else "no", why) for name, yes, why in answers],
        columns=["question", "answer", "why"],
    )
    mend = (*bad.values(), *_implausible(merges), *_late(found), *_unmatched(links))
    able = [name for name, yes, _ in answers if yes]
    text = _text(able, answers, intake, found, mend)
    return Verdict(bool(able), text, mend, table)


@dataclass(frozen=True, slots=True)
class _Facts:
    spans: dict[str, object]
    bad: dict[str, str]
    purchases: pd.DataFrame
    missing: pd.DataFrame
    arms: pd.DataFrame

    def lacks(self, table: str) -> str:
        """Why a table cannot be used; empty where it can."""
        if table not in self.spans:
            return f"no {table.replace('_', ' ')}"
        return self.bad.get(table, "")

    def count(self, table: str, what: str) -> int:
        value = getattr(self.spans[table], what)
        return 0 if pd.isna(value) else int(value)


def _churn(facts: _Facts) -> tuple[bool, str]:
    yes, why = _orders_suffice(facts)
    if yes:
        return yes, why
    columns = facts.missing[facts.missing["table"] == "memberships"]
    known = columns[columns["column"].isin(["ended", "ended_at"]) & (columns["share"] < 1)]
    if not facts.lacks("memberships") and len(known):
        customers = facts.count("memberships", "customers")
        if customers >= LEAST_CUSTOMERS:
            return True, f"{customers:,} customers with memberships, which say whether they ended"
    return False, why


def _value(facts: _Facts, currencies: Sequence[str]) -> tuple[bool, str]:
    yes, why = _orders_suffice(facts)
    if yes and len(currencies) > 1:
        return False, f"amounts are in {len(currencies)} currencies ({', '.join(currencies[:5])})"
    return yes, why


def _orders_suffice(facts: _Facts) -> tuple[bool, str]:
    if lack := facts.lacks("orders"):
        return False, lack
    buyers = int(facts.purchases["customers"].sum())
    again = int(facts.purchases.loc[facts.purchases["purchase_days"] > 1, "customers"].sum())
    days = facts.count("orders", "days")
    what = (
        f"{_several(buyers, 'buyer')}, {again:,} of them on a second day, over "
        f"{_several(days, 'day')}"
    )
    short = [
        f"at least {least} {name}"
        for least, value, name in (
            (LEAST_CUSTOMERS, buyers, "buyers"),
            (LEAST_REPEATERS, again, "with a second purchase day"),
            (LEAST_DAYS, days, "days"),
        )
        if value < least
    ]
    return not short, f"only {what}; needed: {', '.join(short)}" if short else what


def _stages(facts: _Facts) -> tuple[bool, str]:
    if lack := facts.lacks("events"):
        return False, lack
    people = facts.count("events", "customers")
    if people < LEAST_CUSTOMERS:
        return False, f"only {people:,} customers with events; needed: {LEAST_CUSTOMERS}"
    return True, f"{facts.count('events', 'rows'):,} events of {people:,} customers"


def _effect(facts: _Facts) -> tuple[bool, str]:
    if facts.arms.empty:
        return False, "no assignments, and no touch has an arm"
    if all(facts.lacks(name) for name in ("outcomes", "orders", "events")):
        return False, "arms, but no outcomes, orders or events to compare them by"
    usable = facts.arms[~facts.arms["table"].isin(facts.bad)]
    if usable.empty:
        return False, facts.bad[str(facts.arms["table"].iloc[0])]
    large = usable[usable["customers"] >= LEAST_PER_ARM]
    by_test = large.groupby(["table", "experiment"])["arm"].size()
    tests = int((by_test > 1).sum())
    if not tests:
        return False, f"no experiment with {LEAST_PER_ARM} customers in each of two arms"
    return (
        True,
        f"{_several(tests, 'experiment')} with {LEAST_PER_ARM} customers or more in two arms",
    )


def _refused(intake: pd.DataFrame, most: float) -> dict[str, str]:
    found = {}
    for table, rows in intake.groupby("table", sort=False):
        read, refused = int(rows["read"].sum()), int(rows["quarantined"].sum())
        if refused > most * read:
            reasons = "; ".join(filter(None, rows["reasons"]))
            found[str(table)] = (
                f"{refused:,} of {read:,} rows of {table} ({refused / read:.1%}) were refused "
                f"({reasons}), where {most:.1%} are allowed"
            )
    return found


def _repeated(keys: pd.DataFrame) -> dict[str, str]:
    repeated = keys[keys["repeated"] > 0]
    return {
        str(table): f"{rows:,} rows of {table!s} repeat their key ({key!s})"
        for table, rows, key in zip(
            repeated["table"], repeated["repeated"].astype(int), repeated["key"], strict=True
        )
    }


def _implausible(merges: Merges | None) -> list[str]:
    if merges is None or not merges.implausible:
        return []
    return [
        f"{merges.implausible:,} people were merged from more than ten ids (the largest from "
        f"{merges.largest:,}), which looks like a shared or default number"
    ]


def _late(found: dict[str, Lateness]) -> list[str]:
    return [
        f"the last {'day' if one.incomplete_days == 1 else f'{one.incomplete_days} days'} of "
        f"{name.replace('_', ' ')} look{'s' if one.incomplete_days == 1 else ''} incomplete: end "
        f"models on {one.last_complete_day}"
        for name, one in list(found.items())[:1]
        if one.incomplete_days
    ]


def _unmatched(links: pd.DataFrame) -> list[str]:
    found = []
    for other, rows in links[links["share"] > MOST_UNMATCHED].groupby("refers_to", sort=False):
        worst = rows.sort_values("share", ascending=False, kind="stable").iloc[0]
        tables = rows["table"].nunique() - 1
        also = f", as do rows of {tables} other table{'s' if tables > 1 else ''}" if tables else ""
        found.append(
            f"{worst['share']:.0%} of the rows of {worst['table']} name {_a(worst['column'])} that "
            f"{other} does not list{also}"
        )
    return found


def last_complete_day(found: dict[str, Lateness]) -> date | None:
    """Day to end a model on, of the main table; its last day where nothing can be told."""
    for one in found.values():
        return one.last_complete_day or one.last_day
    return None


def _text(
    able: list[str],
    answers: list[tuple[str, bool, str]],
    intake: pd.DataFrame,
    found: dict[str, Lateness],
    mend: Sequence[str],
) -> str:
    read, accepted = int(intake["read"].sum()), int(intake["accepted"].sum())
    kept = f"{'All ' if accepted == read else f'{accepted:,} of '}{read:,} rows were accepted."
    unable: dict[str, list[str]] = {}
    for name, yes, why in answers:
        if not yes:
            unable.setdefault("until mended" if why in mend else why, []).append(name)
    not_for = [f"{_listed(names)} ({why})" for why, names in unable.items()]
    end = last_complete_day(found)
    until = f", with {end} as the last day" if end else ""
    parts = [
        f"Fit to model: yes, for {_listed(able)}{until}." if able else "Fit to model: no.",
        kept,
        f"Not for {'; nor for '.join(not_for)}." if not_for else "",
        f"Mend first: {'; '.join(mend[:3])}." if mend else "",
    ]
    return " ".join(filter(None, parts))


def _a(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _several(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _listed(names: Sequence[str]) -> str:
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"
