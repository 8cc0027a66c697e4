"""What the counts say, in sentences: also when a table is not there."""

import pandas as pd

from journeylab.tables.identities import Merges
from journeylab.tables.profile.lateness import Lateness
from journeylab.tables.profile.measures import Histogram

COHORT = 0.5
"""Share of customers first seen at the start, above which their history began before the data."""


def intake_reading(intake: pd.DataFrame, ignored: tuple[str, ...] = ()) -> str:
    """How many rows became of how many, and which files were not read."""
    read, refused = int(intake["read"].sum()), int(intake["quarantined"].sum())
    bad = intake[intake["quarantined"] > 0]
    text = f"No row of {read:,} was refused."
    if refused:
        worst = bad.sort_values("share", ascending=False, kind="stable").iloc[0]
        text = (
            f"{refused:,} of {read:,} rows were refused, {refused / max(read, 1):.2%}; the largest "
            f"share in {worst['table']}, {worst['share']:.1%}."
        )
    if intake["file"].str.startswith("summed from").any():
        text += " Orders were summed from their lines, so that their rows count beside the lines."
    if ignored:
        more = f" and {len(ignored) - 5} more" if len(ignored) > 5 else ""
        text += f" Not read, for they are no table of the contract: {', '.join(ignored[:5])}{more}."
    return text


def merges_reading(merges: Merges | None) -> str:
    """What resolving identities did."""
    if merges is None:
        return "There is no identities table: every customer id is taken for a person."
    if not merges.customers:
        return f"No two customer ids share a {' or '.join(merges.merged_on)}: none was merged."
    doubt = f", {merges.implausible:,} of more than ten" if merges.implausible else ""
    return (
        f"{merges.customers:,} customer ids were folded into {merges.people:,} people who share a "
        f"{' or '.join(merges.merged_on).replace('_', ' ')}; the largest is made of "
        f"{merges.largest:,} ids{doubt}."
    )


def lateness_reading(found: dict[str, Lateness]) -> str:
    """The main table's result; or that no table has a date."""
    for one in found.values():
        return one.reading
    return "No table has a date: nothing can be said about when its rows arrive."


def lateness_title(one: Lateness) -> str:
    """The finding of the figure of the last days."""
    what = one.table.replace("_", " ")
    if one.incomplete_days is None:
        return f"Whether the last days of {what} are complete cannot be told"
    if one.incomplete_days == 0:
        return f"{what.capitalize()} look complete up to {one.last_complete_day}"
    plural = "day is" if one.incomplete_days == 1 else f"{one.incomplete_days} days are"
    if one.method == "weekday":
        plural = plural.replace("is", "looks").replace("are", "look")
    return f"The last {plural} incomplete: use {what} up to {one.last_complete_day}"


def missing_reading(missing: pd.DataFrame) -> str:
    """Which columns have holes."""
    holes = missing[missing["share"] > 0].sort_values("share", ascending=False, kind="stable")
    if holes.empty:
        return f"None of the {len(missing):,} columns has an empty value."
    worst = [f"{row.table}.{row.column} ({row.share:.1%})" for row in holes.head(3).itertuples()]
    return (
        f"{len(holes):,} of {len(missing):,} columns have empty values, the most in "
        f"{', '.join(worst)}."
    )


def amounts_reading(histogram: Histogram) -> str:
    """Zero and negative amounts; or that there are none to look at."""
    positive = int(histogram.bins["count"].sum())
    total = positive + histogram.zero + histogram.negative
    if total == 0:
        return "There are no orders, so there are no amounts to look at."
    return (
        f"Of {total:,} orders {histogram.negative:,} ({histogram.negative / total:.1%}) are "
        f"returns with a negative amount and {histogram.zero:,} ({histogram.zero / total:.1%}) "
        "have an amount of zero, which counts as a purchase."
    )


def first_seen_reading(seen: pd.DataFrame) -> str:
    """Whether customers were there before the data began."""
    if seen.empty:
        return "There are no orders, so there are no purchases to follow."
    share, later = float(seen["share"].iloc[0]), int(seen["customers"].iloc[3:].sum())
    text = f"{share:.0%} of the customers are first seen in the first 30 days"
    if len(seen) < 4:
        return f"{text}; the data are too short to tell newcomers from those who were there before."
    if later == 0:
        return f"{text}, and none after 90: the source follows one cohort."
    if share > COHORT:
        return (
            f"{text}: most of them will have bought before the data begin, so that their first "
            "purchase here is not their first (left truncation)."
        )
    return f"{text}; newcomers come in later too."


def gaps_title(quantiles: pd.DataFrame) -> str:
    """The finding of the figure of gaps: half and nine tenths of them."""
    days = quantiles.set_index("share")["gap_days"]
    return f"Half of all gaps are {days[0.5]:,} days or shorter, nine in ten at most {days[0.9]:,}"


def amounts_title(histogram: Histogram, unit: str) -> str:
    """The finding of the figure of amounts."""
    return (
        f"Half of the orders are {histogram.median:,.2f} {unit} or less, one in a hundred is above "
        f"{histogram.p99:,.2f}"
    )


def series_title(one: Lateness) -> str:
    """What the figure of the whole series holds."""
    first = one.days["day"].iloc[0].date()
    return (
        f"{one.days['rows'].sum():,} rows of {one.table.replace('_', ' ')} from {first} to "
        f"{one.last_day}"
    )
