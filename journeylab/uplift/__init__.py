"""Uplift: whom a touch changes, by how much, and what a policy is worth.

Everything is judged from one table of doubly robust scores (``Scores``), for any outcome and any
number of arms. Effects are those of being assigned (intention to treat) unless a name says
otherwise, and observational differences are refused as effects.
"""

from journeylab.uplift.advice import (
    arm_costs,
    arm_in_view,
    arm_shares,
    customer_effects,
    doubts,
    effects_finding,
    explained,
    forecaster,
    go_or_not,
    groups_finding,
    in_words,
    policy_finding,
    ranking_finding,
    ranks_best,
    strongest,
)
from journeylab.uplift.calibration import (
    Calibration,
    calibration,
    effects_by_baseline,
    effects_by_group,
    sorted_groups,
)
from journeylab.uplift.comparison import Comparison, compare
from journeylab.uplift.delivery import complier_effect, delivered_effects, reach_effects
from journeylab.uplift.design import Design, read_design
from journeylab.uplift.difference_in_differences import (
    Bracket,
    DifferenceInDifferences,
    difference_in_differences,
)
from journeylab.uplift.dose import DoseFit, fit_dose
from journeylab.uplift.effects import EffectFit, fit_effects
from journeylab.uplift.excursion import ExcursionFit, excursion_effects, fatigue, recent_waves
from journeylab.uplift.first_log import first_log
from journeylab.uplift.groups import GroupedEffects, group_effects
from journeylab.uplift.learner_words import learner_words
from journeylab.uplift.observational import (
    ObservationalEstimate,
    adjusted_or_refused,
    before_and_after,
    observational_estimate,
)
from journeylab.uplift.policy_tree import PolicyTree, policy_tree
from journeylab.uplift.policy_value import PolicyValue, best_arms, policy_value
from journeylab.uplift.profit import ProfitCurve, cost_curve, profit_curve
from journeylab.uplift.qini import auuc, qini
from journeylab.uplift.randomisation import Randomisation, check_randomisation, logged_shares
from journeylab.uplift.scores import Scores, aipw_scores, average_effects
from journeylab.uplift.settings import Trees
from journeylab.uplift.toc import autoc, gains, qini_rate, toc, uplift_at

__all__ = [
    "Bracket",
    "Calibration",
    "Comparison",
    "Design",
    "DifferenceInDifferences",
    "DoseFit",
    "EffectFit",
    "ExcursionFit",
    "GroupedEffects",
    "ObservationalEstimate",
    "PolicyTree",
    "PolicyValue",
    "ProfitCurve",
    "Randomisation",
    "Scores",
    "Trees",
    "adjusted_or_refused",
    "aipw_scores",
    "arm_costs",
    "arm_in_view",
    "arm_shares",
    "autoc",
    "auuc",
    "average_effects",
    "before_and_after",
    "best_arms",
    "calibration",
    "check_randomisation",
    "compare",
    "complier_effect",
    "cost_curve",
    "customer_effects",
    "delivered_effects",
    "difference_in_differences",
    "doubts",
    "effects_by_baseline",
    "effects_by_group",
    "effects_finding",
    "excursion_effects",
    "explained",
    "fatigue",
    "first_log",
    "fit_dose",
    "fit_effects",
    "forecaster",
    "gains",
    "go_or_not",
    "group_effects",
    "groups_finding",
    "in_words",
    "learner_words",
    "logged_shares",
    "observational_estimate",
    "policy_finding",
    "policy_tree",
    "policy_value",
    "profit_curve",
    "qini",
    "qini_rate",
    "ranking_finding",
    "ranks_best",
    "reach_effects",
    "read_design",
    "recent_waves",
    "sorted_groups",
    "strongest",
    "toc",
    "uplift_at",
]
