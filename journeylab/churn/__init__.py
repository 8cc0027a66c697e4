"""Churn without a contract: who has stopped buying, and how sure that is.

Nobody signs off in retail. What can be seen is the time from a *landmark* day to the next
purchase, so churn within h days is the chance of no purchase in (landmark, landmark + h]. The
event here is always a purchase: a hazard ratio above 1 means "comes back sooner".

Frames come from ``frames.landmarks`` after ``tables.collect``: one row per landmark and customer.
A customer seen on several landmarks is one customer; every interval here allows for that.
"""

from journeylab.churn.advice import (
    contact_advice,
    lists_finding,
    past_lists,
    past_outcomes,
    weekly_advice,
    weekly_contacts,
)
from journeylab.churn.aft import AftFit, fit_aft
from journeylab.churn.auc import dynamic_auc, mean_auc
from journeylab.churn.baselines import KAPLAN_MEIER, baselines, kaplan_meier_prediction
from journeylab.churn.brier import brier, integrated_brier
from journeylab.churn.calibration import calibration, lift
from journeylab.churn.concordance import harrell_c, uno_c
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
from journeylab.churn.d_calibration import DCalibration, d_calibration
from journeylab.churn.early_warning import (
    EarlyWarning,
    RandomisedTiming,
    early_warning,
    model_hash,
)
from journeylab.churn.explanation import Explanation
from journeylab.churn.findings import (
    auc_finding,
    bands_finding,
    brier_finding,
    calibration_finding,
    cox_finding,
    judged_doubts,
    judged_words,
    leaks_finding,
    lift_table,
    origin_table,
    origins_finding,
    ratios_over_time,
    reasons_finding,
    rule_table,
    rule_words,
    score_table,
    segments,
    shape_finding,
    shares,
    silence_bands,
    surest,
    waits_finding,
    warning_tables,
)
from journeylab.churn.hazard import HazardFit, fit_hazard
from journeylab.churn.hazard_file import load_hazard, save_hazard
from journeylab.churn.hazard_settings import VECTOR, HazardSettings
from journeylab.churn.judgement import Judgement, Remaining, judge
from journeylab.churn.leaks import Finding, LeakReport, check_leaks
from journeylab.churn.periods import Periods, periods, whole_numbers
from journeylab.churn.return_value import ReturnValueFit, fit_return_value
from journeylab.churn.rolling import Rolling, folds, rolling
from journeylab.churn.scenario import Offer, Scenario, retention_scenario
from journeylab.churn.score import Scores, score
from journeylab.churn.stability import Stability, population_stability, stability
from journeylab.churn.study import Study, open_study, rolling_days
from journeylab.churn.units import table_units
from journeylab.churn.words import Words

__all__ = [
    "COVARIATES",
    "EVERYBODY",
    "KAPLAN_MEIER",
    "LOGGED",
    "VECTOR",
    "AftFit",
    "CoxFit",
    "DCalibration",
    "EarlyWarning",
    "Explanation",
    "Finding",
    "HazardFit",
    "HazardSettings",
    "Judgement",
    "LeakReport",
    "Offer",
    "Periods",
    "RandomisedTiming",
    "Remaining",
    "ReturnValueFit",
    "Rolling",
    "Scenario",
    "Scores",
    "Stability",
    "Study",
    "Words",
    "at_risk_table",
    "auc_finding",
    "bands",
    "bands_finding",
    "baselines",
    "brier",
    "brier_finding",
    "calibration",
    "calibration_finding",
    "check_leaks",
    "compare_lists",
    "contact_advice",
    "contact_list",
    "cox_finding",
    "curves_by_segment",
    "d_calibration",
    "dynamic_auc",
    "early_warning",
    "fit_aft",
    "fit_cox",
    "fit_hazard",
    "fit_return_value",
    "folds",
    "gap_limit_days",
    "harrell_c",
    "integrated_brier",
    "judge",
    "judged_doubts",
    "judged_words",
    "kaplan_meier_prediction",
    "landmark_days",
    "leaks_finding",
    "lift",
    "lift_table",
    "lists_finding",
    "load_hazard",
    "mean_auc",
    "model_hash",
    "no_purchase",
    "no_purchase_by_segment",
    "open_study",
    "origin_table",
    "origins_finding",
    "outcomes_until",
    "past_lists",
    "past_outcomes",
    "periods",
    "population_stability",
    "quiet_regulars",
    "ratios_over_time",
    "reasons_finding",
    "regulars",
    "retention_scenario",
    "rolling",
    "rolling_days",
    "rule_table",
    "rule_words",
    "save_hazard",
    "score",
    "score_table",
    "segments",
    "shape_finding",
    "shares",
    "silence_bands",
    "stability",
    "surest",
    "table_units",
    "uno_c",
    "waits_finding",
    "warning_tables",
    "weekly_advice",
    "weekly_contacts",
    "whole_numbers",
]
