"""Frames: what each customer had done by a day, as Ibis expressions for any engine.

Every builder takes opened ``Tables`` and gives an expression that runs unchanged on DuckDB and
on Spark; ``tables.collect`` brings it out. Days are business days. ``as_of`` is the last day that
counts, as an ISO date; no row after it can enter. A *purchase day* is a day on which a customer
placed an order with an amount of zero or more: several orders on one day are one purchase, and
a return on its own is none, though its money counts on the day it was given back.
Amounts stay DECIMAL; means are floats.
"""

from journeylab.frames.campaign_panels import campaign_panels
from journeylab.frames.causes import cause_days
from journeylab.frames.customers import acquired, acquisitions, customer_margins, customers
from journeylab.frames.days import DAYS_PER_UNIT, Unit
from journeylab.frames.entries import REHEARSAL, accrual, entries, rehearsed
from journeylab.frames.features import FEATURES
from journeylab.frames.festivals import FESTIVALS, calendar_of, festival_days, promotion_of
from journeylab.frames.gaps import gaps
from journeylab.frames.histories import (
    customer_histories,
    first_purchases,
    histories,
    holdout,
    repeat_purchases,
)
from journeylab.frames.landmarks import landmarks
from journeylab.frames.memberships import memberships
from journeylab.frames.trial import outcomes_listed, trial, trials_listed
from journeylab.frames.trials import left_out_of_trials, measured_trials, trials
from journeylab.frames.value_landmarks import value_landmarks

__all__ = [
    "DAYS_PER_UNIT",
    "FEATURES",
    "FESTIVALS",
    "REHEARSAL",
    "Unit",
    "accrual",
    "acquired",
    "acquisitions",
    "calendar_of",
    "campaign_panels",
    "cause_days",
    "customer_histories",
    "customer_margins",
    "customers",
    "entries",
    "festival_days",
    "first_purchases",
    "gaps",
    "histories",
    "holdout",
    "landmarks",
    "left_out_of_trials",
    "measured_trials",
    "memberships",
    "outcomes_listed",
    "promotion_of",
    "rehearsed",
    "repeat_purchases",
    "trial",
    "trials",
    "trials_listed",
    "value_landmarks",
]
