"""Frames: what each customer had done by a day, as Ibis expressions for any engine.

Every builder takes opened ``Tables`` and gives an expression that runs unchanged on DuckDB and
on Spark; ``tables.collect`` brings it out. Days are business days. ``as_of`` is the last day that
counts, as an ISO date; no row after it can enter. A *purchase day* is a day on which a customer
placed an order with an amount of zero or more: several orders on one day are one purchase, and
a return on its own is none, though its money counts on the day it was given back.
Amounts stay DECIMAL; means are floats.
"""

from journeylab.frames.campaign_panels import campaign_panels
from journeylab.frames.customers import acquired, acquisitions, customer_margins, customers
from journeylab.frames.days import DAYS_PER_UNIT, Unit
from journeylab.frames.histories import (
    customer_histories,
    first_purchases,
    histories,
    holdout,
    repeat_purchases,
)
from journeylab.frames.landmarks import landmarks
from journeylab.frames.trials import left_out_of_trials, measured_trials, trials
from journeylab.frames.value_landmarks import value_landmarks

__all__ = [
    "DAYS_PER_UNIT",
    "Unit",
    "acquired",
    "acquisitions",
    "campaign_panels",
    "customer_histories",
    "customer_margins",
    "customers",
    "first_purchases",
    "histories",
    "holdout",
    "landmarks",
    "left_out_of_trials",
    "measured_trials",
    "repeat_purchases",
    "trials",
    "value_landmarks",
]
