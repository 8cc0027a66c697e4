"""Customer lifetime value: who will buy again, how often, for how much, and how sure that is."""

from journeylab.clv.advice import advice, reasons_not_to_rank
from journeylab.clv.bg_bb import BgBbFit, fit_bg_bb
from journeylab.clv.bg_nbd import BgNbdFit, fit_bg_nbd
from journeylab.clv.fit_file import load_fit, save_fit
from journeylab.clv.gamma_gamma import GammaGammaFit, fit_gamma_gamma, repeat_spend
from journeylab.clv.holdout import (
    Periods,
    by_frequency,
    compare,
    forecasts,
    periods,
    tracking,
    verdict,
)
from journeylab.clv.mbg_nbd import MbgNbdFit, fit_mbg_nbd
from journeylab.clv.pareto_nbd import ParetoNbdFit, fit_pareto_nbd
from journeylab.clv.ranking import write_ranking
from journeylab.clv.sbg import SbgFit, fit_sbg
from journeylab.clv.screening import (
    doubts,
    left_truncation,
    one_currency,
    parameter_table,
    spend_correlation,
)
from journeylab.clv.value import Value, concentration, p_alive_map, value

__all__ = [
    "BgBbFit",
    "BgNbdFit",
    "GammaGammaFit",
    "MbgNbdFit",
    "ParetoNbdFit",
    "Periods",
    "SbgFit",
    "Value",
    "advice",
    "by_frequency",
    "compare",
    "concentration",
    "doubts",
    "fit_bg_bb",
    "fit_bg_nbd",
    "fit_gamma_gamma",
    "fit_mbg_nbd",
    "fit_pareto_nbd",
    "fit_sbg",
    "forecasts",
    "left_truncation",
    "load_fit",
    "one_currency",
    "p_alive_map",
    "parameter_table",
    "periods",
    "reasons_not_to_rank",
    "repeat_spend",
    "save_fit",
    "spend_correlation",
    "tracking",
    "value",
    "verdict",
    "write_ranking",
]
