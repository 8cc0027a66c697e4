"""Whether the forecast holds on a later day that the model has not seen."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import ndtri

from journeylab.churn.cox import (
    COVARIATES,
    LOGGED,
    CoxFit,
    concordance,
    fit_cox,
    silence_concordance,
)
from journeylab.churn.curves import checked, no_purchase, outcomes_until, waiting_curve
from journeylab.errors import ContractError, FitError
from journeylab.estimate import Estimate
from journeylab.survival import count_events, kaplan_meier, survival_at


@dataclass(frozen=True, slots=True, eq=False)
class OutOfTime:
    """A Cox model fitted on earlier landmarks and judged on the last one.

    Attributes:
        fit: The model; it saw no outcome after ``landmark``.
        landmark: The day it is judged from.
        train_landmarks: How many earlier landmark days it was fitted on.
        test: The rows of the last landmark.
        no_purchase: Predicted chance of no purchase, index of ``test``, one column per horizon.
        scores: One row per horizon: ``horizon_days``; ``customers``; ``observed`` share without a
            purchase (Kaplan-Meier) with ``ci_low``, ``ci_high``; ``predicted`` mean;
            ``baseline``, the one share that the training rows give everybody (Kaplan-Meier);
            ``brier`` and ``brier_baseline`` (mean squared error of a share, lower is better);
            ``skill`` = 1 - brier / brier_baseline with ``skill_low``, ``skill_high``.
        concordance: Share of pairs of the last landmark that the model ranks rightly.
        concordance_baseline: The same for days since the last purchase alone.
    """

    fit: CoxFit
    landmark: pd.Timestamp
    train_landmarks: int
    test: pd.DataFrame
    no_purchase: pd.DataFrame
    scores: pd.DataFrame
    concordance: float
    concordance_baseline: float


def validate_out_of_time(
    frame: pd.DataFrame,
    covariates: Sequence[str] = COVARIATES,
    horizons: Sequence[int] = (30, 60, 90),
    logged: Sequence[str] = LOGGED,
    level: float = 0.95,
) -> OutOfTime:
    """Fit on all landmarks but the last, as it stood on the last, and judge the forecast there.

    Args:
        frame: From ``frames.landmarks``, at least two landmark days.
        covariates: Columns of numbers.
        horizons: Days, not longer than the follow-up before nor after the last landmark.
        logged: Which covariates enter on a log scale, as in ``fit_cox``.
        level: Coverage of the intervals (0-1).

    Raises:
        ContractError: There is one landmark only, or a horizon is too long.
        FitError: As ``fit_cox``.

    Source:
        Graf et al. (1999) for the Brier score under censoring.
    """
    rows = checked(frame)
    days = pd.to_datetime(rows["landmark"])
    last = pd.Timestamp(days.max())
    if not (earlier := int(days[days < last].nunique())):
        raise ContractError(
            f"all {len(rows)} rows have the landmark {last.date()}: judging out of time needs an "
            "earlier one to fit on"
        )
    train, test = outcomes_until(rows, last), rows[days == last]
    fit = fit_cox(train, covariates, logged, level)
    predicted = fit.survival(test, horizons)
    everybody = survival_at(waiting_curve(train, level), horizons)["survival"].tolist()
    observed = no_purchase(test, horizons, level)
    scores = [
        _score(test, predicted[horizon], same, observed[horizon], horizon, level)
        for horizon, same in zip(horizons, everybody, strict=True)
    ]
    return OutOfTime(
        fit=fit,
        landmark=last,
        train_landmarks=earlier,
        test=test,
        no_purchase=predicted,
        scores=pd.DataFrame(scores),
        concordance=concordance(test, -fit.log_hazard(test).to_numpy(float)),
        concordance_baseline=silence_concordance(test),
    )


def _score(
    test: pd.DataFrame,
    predicted: pd.Series,
    same: float,
    observed: Estimate,
    horizon: int,
    level: float,
) -> dict[str, float]:
    """Brier score against one share for all; rows lost from sight are weighed in by the others."""
    duration, event = test["duration"].to_numpy(float), test["event"].to_numpy(int)
    bought = (event == 1) & (duration <= horizon)
    known = bought | (duration >= horizon)
    # durations are whole days and a purchase comes before the end of sight on the same day: who
    # bought is out of sight's risk set half a day early; censored at the horizon stayed away
    sight = kaplan_meier(count_events(duration - event / 2, 1 - event))
    before = np.searchsorted(sight["time"], np.minimum(duration, horizon), side="left") - 1
    in_sight = np.append(sight["survival"].to_numpy(float), 1.0)[before]
    weight: npt.NDArray[np.float64] = np.where(known, 1 / np.where(known, in_sight, 1.0), 0.0)
    stayed = (~bought).astype(float)
    error = weight * np.square(predicted.to_numpy() - stayed)
    blind = weight * np.square(same - stayed)
    if not blind.sum() > 0:
        raise FitError(
            f"within {horizon} days all {len(test)} customers did as the baseline says: a forecast "
            "has nothing to gain there; ask for a longer horizon"
        )
    n, ratio = len(test), error.sum() / blind.sum()
    influence = (error - ratio * blind) / blind.mean()
    margin = float(ndtri((1 + level) / 2) * np.sqrt(np.square(influence).sum()) / n)
    return {
        "horizon_days": horizon,
        "customers": n,
        "observed": observed.value,
        "ci_low": observed.ci_low,
        "ci_high": observed.ci_high,
        "predicted": float(predicted.mean()),
        "baseline": same,
        "brier": float(error.mean()),
        "brier_baseline": float(blind.mean()),
        "skill": 1 - float(ratio),
        "skill_low": 1 - float(ratio) - margin,
        "skill_high": 1 - float(ratio) + margin,
    }
