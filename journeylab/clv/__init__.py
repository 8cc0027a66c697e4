"""Customer lifetime value: who will buy again, how often, for how much, and how sure that is."""

from journeylab.clv.advice import advice, reasons_not_to_rank
from journeylab.clv.bg_nbd import BgNbdFit, fit_bg_nbd
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
from journeylab.clv.ranking import write_ranking
from journeylab.clv.screening import (
    doubts,
    left_truncation,
    one_currency,
    parameter_table,
    spend_correlation,
)
from journeylab.clv.value import Value, concentration, p_alive_map, value

__all__ = [
    "BgNbdFit",
    "GammaGammaFit",
    "Periods",
    "Value",
    "advice",
    "by_frequency",
    "compare",
    "concentration",
    "doubts",
    "fit_bg_nbd",
    "fit_gamma_gamma",
    "forecasts",
    "left_truncation",
    "one_currency",
    "p_alive_map",
    "parameter_table",
    "periods",
    "reasons_not_to_rank",
    "repeat_spend",
    "spend_correlation",
    "tracking",
    "value",
    "verdict",
    "write_ranking",
]
