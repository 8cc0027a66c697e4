"""Customer lifetime value: who will buy again, how often, for how much, and how sure that is."""

from journeylab.clv.advice import advice, reasons_not_to_rank
from journeylab.clv.bg_bb import BgBbFit, fit_bg_bb
from journeylab.clv.bg_nbd import BgNbdFit, fit_bg_nbd
from journeylab.clv.calibration import (
    Calibration,
    amount_futures,
    calibrate,
    champion_futures,
    count_futures,
    pit,
    plain,
    recalibrate,
    total_estimate,
    trial_errors,
    trial_places,
)
from journeylab.clv.candidates import (
    beside,
    checked,
    fit_purchases,
    fit_table,
    known_errors,
    path_model,
    purchase_models,
)
from journeylab.clv.champion import Challenge, Champion, challenge, choose_champion
from journeylab.clv.channels import Channels, channel_payback
from journeylab.clv.concentration import cohort_value, concentration, deciles, top_share
from journeylab.clv.coverage import Coverage, coverage
from journeylab.clv.fit_file import load_fit, save_fit
from journeylab.clv.gamma_gamma import GammaGammaFit, fit_gamma_gamma, repeat_spend
from journeylab.clv.holdout import (
    Periods,
    by_frequency,
    by_spend,
    compare,
    forecasts,
    periods,
    tracking,
    verdict,
)
from journeylab.clv.margin import margin_shares
from journeylab.clv.mbg_nbd import MbgNbdFit, fit_mbg_nbd
from journeylab.clv.origins import Origins, calibration_origins, rolling_origins
from journeylab.clv.pareto_nbd import ParetoNbdFit, fit_pareto_nbd
from journeylab.clv.payback import MarginalCost, Payback, marginal_cost, payback, value_path
from journeylab.clv.ranking import write_ranking
from journeylab.clv.sbg import SbgFit, fit_sbg
from journeylab.clv.screening import (
    doubts,
    left_truncation,
    one_currency,
    parameter_table,
    spend_correlation,
)
from journeylab.clv.truncation import acquired_inside
from journeylab.clv.value import Value, futures, p_alive_map, value

__all__ = [
    "BgBbFit",
    "BgNbdFit",
    "Calibration",
    "Challenge",
    "Champion",
    "Channels",
    "Coverage",
    "GammaGammaFit",
    "MarginalCost",
    "MbgNbdFit",
    "Origins",
    "ParetoNbdFit",
    "Payback",
    "Periods",
    "SbgFit",
    "Value",
    "acquired_inside",
    "advice",
    "amount_futures",
    "beside",
    "by_frequency",
    "by_spend",
    "calibrate",
    "calibration_origins",
    "challenge",
    "champion_futures",
    "channel_payback",
    "checked",
    "choose_champion",
    "cohort_value",
    "compare",
    "concentration",
    "count_futures",
    "coverage",
    "deciles",
    "doubts",
    "fit_bg_bb",
    "fit_bg_nbd",
    "fit_gamma_gamma",
    "fit_mbg_nbd",
    "fit_pareto_nbd",
    "fit_purchases",
    "fit_sbg",
    "fit_table",
    "forecasts",
    "futures",
    "known_errors",
    "left_truncation",
    "load_fit",
    "margin_shares",
    "marginal_cost",
    "one_currency",
    "p_alive_map",
    "parameter_table",
    "path_model",
    "payback",
    "periods",
    "pit",
    "plain",
    "purchase_models",
    "reasons_not_to_rank",
    "recalibrate",
    "repeat_spend",
    "rolling_origins",
    "save_fit",
    "spend_correlation",
    "top_share",
    "total_estimate",
    "tracking",
    "trial_errors",
    "trial_places",
    "value",
    "value_path",
    "verdict",
    "write_ranking",
]
