"""What the event is called: a purchase where nobody signs off, an end where there is a contract."""

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Words:
    """How results are read out for one kind of customer relation.

    Attributes:
        event: What is waited for, e.g. ``a purchase``.
        free: What no event means of a share of customers, e.g. ``do not buy``.
        did: What the event means of them, e.g. ``buy``.
        share: Axis of a survival curve.
        waiting: Axis of time.
        ratio: Axis of hazard ratios.
        since: Axis of the time waited.
        going_on: Axis of the share still waiting.
        all_waits: Of whom the curve of waits is.
        kept: Column and table of the share without the event.
        about: What the page can and cannot say of these data, in a few sentences.
    """

    event: str
    free: str
    did: str
    share: str
    waiting: str
    ratio: str
    since: str
    going_on: str
    all_waits: str
    kept: str
    about: str


_NAMED = {
    "frequency": "repeat purchases",
    "age_days": "days a customer",
    "recency_days": "days from first to last purchase",
    "days_since_last": "days silent",
    "mean_gap_days": "usual gap, days",
    "last_gap_days": "last gap, days",
    "silence_in_gaps": "silence in usual gaps",
    "spend_mean": "spend per purchase day",
    "season_sin": "season (winter, summer)",
    "season_cos": "season (spring, autumn)",
}


def covariate_words(name: str) -> str:
    """A covariate's name as a reader says it: ``purchases_90d`` gives ``purchases in 90 days``."""
    found = re.fullmatch(r"(\w+?)_(\d+)d(?:_(\w+))?", name)
    if found:
        by = f" by {found[3]}" if found[3] else ""
        return f"{found[1]}{by} in {found[2]} days".replace("_", " ")
    if name in _NAMED:
        return _NAMED[name]
    # a flag is named after its column and its value
    column, colon, value = name.partition(":")
    column = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", column.replace("_", " ")).strip()
    return f"{column[:1].lower()}{column[1:].lower()}" + colon + value


PURCHASES = Words(
    event="a purchase",
    free="do not buy",
    did="buy",
    share="Share without a purchase",
    waiting="Days after the landmark",
    ratio="Hazard ratio of the next purchase: below 1 returns later, above 1 sooner",
    since="Days since the last purchase",
    going_on="Share of waits still going on",
    all_waits="All waits of all customers, those still going on counted as such",
    kept="no_purchase",
    about=(
        "Nobody signs off in these data: the event is the next purchase after a landmark day, and "
        "churn within h days means no purchase within them. A customer who shops elsewhere looks "
        "the same as one who has stopped."
    ),
)
MEMBERSHIPS = Words(
    event="the end of the membership",
    free="stay members",
    did="leave",
    share="Share still a member",
    waiting="Days after joining",
    ratio="Hazard ratio of leaving: below 1 leaves later, above 1 sooner",
    since="Days after joining",
    going_on="Share still a member",
    all_waits="All memberships, those still running counted as such",
    kept="still_member",
    about=(
        "These customers have a contract: the event is the end of the membership, seen on its day, "
        "and time runs from joining. Attributes carry no date and stand as they were at the end; "
        "whoever left before the observation began is not in the file. Where some kinds of "
        "contract are followed for longer than others, scores at long lengths favour the kinds "
        "still in sight."
    ),
)
