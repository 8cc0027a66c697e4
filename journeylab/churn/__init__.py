"""Churn without a contract: who has stopped buying, and how sure that is.

Nobody signs off in retail. What can be seen is the time from a *landmark* day to the next
purchase, so churn within h days is the chance of no purchase in (landmark, landmark + h]. The
event here is always a purchase: a hazard ratio above 1 means "comes back sooner".

Frames come from ``frames.landmarks`` after ``tables.collect``: one row per landmark and customer.
A customer seen on several landmarks is one customer; every interval here allows for that.
"""

from journeylab.churn.advice import contact_advice, doubts, past_lists, rule_finding
from journeylab.churn.contacts import (
    compare_lists,
    contact_list,
    gap_limit_days,
    quiet_regulars,
    regulars,
)
from journeylab.churn.cox import COVARIATES, LOGGED, CoxFit, fit_cox
from journeylab.churn.curves import (
    EVERYBODY,
    at_risk_table,
    bands,
    curves_by_segment,
    landmark_days,
    no_purchase,
    no_purchase_by_segment,
    outcomes_until,
)
from journeylab.churn.evaluation import OutOfTime, calibration, validate_out_of_time
from journeylab.churn.periods import Periods, periods, whole_numbers

__all__ = [
    "COVARIATES",
    "EVERYBODY",
    "LOGGED",
    "CoxFit",
    "OutOfTime",
    "Periods",
    "at_risk_table",
    "bands",
    "calibration",
    "compare_lists",
    "contact_advice",
    "contact_list",
    "curves_by_segment",
    "doubts",
    "fit_cox",
    "gap_limit_days",
    "landmark_days",
    "no_purchase",
    "no_purchase_by_segment",
    "outcomes_until",
    "past_lists",
    "periods",
    "quiet_regulars",
    "regulars",
    "rule_finding",
    "validate_out_of_time",
    "whole_numbers",
]
