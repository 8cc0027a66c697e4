"""What the event is called: a purchase where nobody signs off, an end where there is a contract."""

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
