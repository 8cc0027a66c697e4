"""Coverage: how often what customers did lay inside the interval that was given for them."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from journeylab.clv import origins
from journeylab.clv.calibration import Calibration, pit, plain, recalibrate
from journeylab.clv.champion import FitPurchases
from journeylab.clv.gamma_gamma import fit_gamma_gamma, repeat_spend
from journeylab.clv.histories import Floats
from journeylab.clv.origins import Origins
from journeylab.clv.value import PurchaseFit, futures
from journeylab.errors import ContractError, FitError
from journeylab.frames import DAYS_PER_UNIT


@dataclass(frozen=True, slots=True)
class Coverage:
    """Coverage in the holdout, and the levels learnt before it was opened.

    Attributes:
        table: One row per outcome and level: ``outcome`` (purchases or amount), ``level``,
            ``trials`` (how many earlier days it was learnt from), ``plain`` and ``recalibrated``
            (share of customers inside, 0-1), each with ``_low, _high``.
        purchases: For ``value(..., purchases_calibration=...)``, of the last level.
        amounts: For ``value(..., calibration=...)``, likewise.
    """

    table: pd.DataFrame
    purchases: Calibration
    amounts: Calibration


def coverage(
    rows: pd.DataFrame,
    later: pd.DataFrame,
    days: Origins,
    fit: FitPurchases,
    seed: int,
    *,
    unit: str = "week",
    levels: tuple[float, ...] = (0.9, 0.95),
    draws: int = 200,
) -> Coverage:
    """Learn the ends of outcome intervals on earlier days, then look how they did in the holdout.

    Args:
        rows: ``frames.value_landmarks(tables, days.checks, days.check_days, days.as_of)``.
        later: ``frames.value_landmarks(tables, [days.as_of], days.horizon_days, until)``.
        days: From ``calibration_origins``.
        fit: Of the model, such as ``clv.fit_bg_nbd``.
        seed: Of the futures and of how ties are cut.
        unit: That ``fit`` expects.
        levels: Coverages aimed at (0-1).
        draws: Futures of each customer.

    Raises:
        FitError: The model cannot be fitted on ``as_of``.
    """
    rng = np.random.default_rng(seed)
    places: tuple[dict[str, Floats], dict[str, Floats]] = ({}, {})
    for day in days.checks:
        try:
            known = origins.at(rows, day)
            drawn = _futures(known, fit, days.check_days, unit, draws, rng)
        except (FitError, ContractError):
            continue  # too little was known on that day: the others have to do
        for kept, own, actual in zip(places, drawn, _outcomes(known), strict=True):
            kept[day] = pit(own, actual, rng)
    after = _futures(later, fit, days.horizon_days, unit, draws, rng)
    table, found = [], []
    for name, learnt, own, actual in zip(
        ("purchases", "amount"), places, after, _outcomes(later), strict=True
    ):
        for level in levels:
            calibration = _learn(learnt, level)
            row: dict[str, object] = {"outcome": name, "level": level}
            pairs = (("plain", plain(level)), ("recalibrated", calibration))
            for column, kind in pairs:
                inside = kind.coverage(own, actual, seed)
                row |= {
                    column: inside.value,
                    f"{column}_low": inside.ci_low,
                    f"{column}_high": inside.ci_high,
                }
            table.append(row | {"trials": len(calibration.evidence)})
        found.append(calibration)
    shares = pd.DataFrame(table)
    first = ["outcome", "level", "trials", "plain", "recalibrated"]
    shares = shares[[*first, *(column for column in shares.columns if column not in first)]]
    return Coverage(shares, found[0], found[1])


def _learn(places: dict[str, Floats], level: float) -> Calibration:
    try:
        return recalibrate(places, level)
    except ContractError:
        return plain(level)  # fewer than 100 outcomes: the model's own levels


def _futures(
    known: pd.DataFrame,
    fit: FitPurchases,
    horizon_days: int,
    unit: str,
    draws: int,
    rng: np.random.Generator,
) -> tuple[Floats, Floats]:
    length = DAYS_PER_UNIT[unit]
    past = known.assign(recency=known["recency_days"] / length, age=known["age_days"] / length)
    model = fit(past[["frequency", "recency", "age"]])
    if not isinstance(model, PurchaseFit):
        raise ContractError(
            f"fit must give BG/NBD, MBG/NBD or Pareto/NBD, which futures can be drawn from; got "
            f"{type(model).__name__}"
        )
    spend = fit_gamma_gamma(repeat_spend(known))
    return futures(past, model, spend, horizon_days, draws, rng)


def _outcomes(rows: pd.DataFrame) -> tuple[Floats, Floats]:
    bought = rows["purchase_days"].to_numpy(float)
    return bought, np.maximum(rows["amount"].to_numpy(float), 0.0)
