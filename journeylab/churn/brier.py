"""Squared error of predicted survival, with everybody lost from sight stood for by the others."""

import numpy as np
import numpy.typing as npt
import pandas as pd

from journeylab.churn.censoring import Floats, Outcomes, Watched, outcomes, survival_columns
from journeylab.errors import ContractError


def brier(
    frame: pd.DataFrame,
    survival: pd.DataFrame,
    times: npt.ArrayLike | None = None,
    *,
    censoring: pd.DataFrame | None = None,
    watched: Watched = "through",
    cause: str | int | None = None,
) -> pd.DataFrame:
    """Brier score at each time, weighted by the inverse chance of being seen (IPCW).

    Args:
        frame: ``duration``, ``event``; ``customer_id`` where rows share customers.
        survival: Predicted chance of no event by each of its columns' times, index of ``frame``.
            With ``cause``, the chance of no event *of that cause*: one minus its incidence.
        times: Which columns to score; all by default.
        censoring: Rows that tell how sight is lost; by default ``frame``.
        watched: ``through`` for whole days; ``until`` gives scikit-survival's numbers.
        cause: The cause predicted, of the frame's ``cause``.

    Returns:
        One row per time, ascending: ``time``, ``brier`` (0 is right, lower is better),
        ``std_error`` robust to several rows per customer, the weights taken as known.

    Raises:
        ContractError: Predictions do not fit the frame, or a time lies past the follow-up.

    Source:
        Graf, Schmoor, Sauerbrei & Schumacher (1999).
    """
    grid, own = survival_columns(frame, survival, times)
    known = outcomes(frame, censoring=censoring, watched=watched, cause=cause)
    table = []
    for time, column in zip(grid, own.columns, strict=True):
        error = squared_error(known, own[column].to_numpy(float), time)
        table.append((time, float(error.mean()), clustered_error(known, error)))
    return pd.DataFrame(table, columns=["time", "brier", "std_error"])


def integrated_brier(scores: pd.DataFrame) -> float:
    """Mean Brier score over time (trapezoids); the score itself where there is one time only.

    Args:
        scores: From ``brier``.
    """
    return float(
        scores["brier"].to_numpy(float) @ trapezoid_weights(scores["time"].to_numpy(float))
    )


def trapezoid_weights(times: Floats) -> Floats:
    """Weights, adding up to 1, by which scores at ``times`` make the mean over time."""
    if len(times) == 1:
        return np.ones(1)
    width = np.diff(times)
    if not (width > 0).all():
        raise ContractError("times must ascend to be integrated over")
    weights: Floats = (np.append(width, 0) + np.append(0, width)) / 2 / (times[-1] - times[0])
    return weights


def squared_error(known: Outcomes, survival: Floats, time: float) -> Floats:
    """Weighted squared error of each row at ``time``; their mean is the Brier score."""
    happened = known.happened & (known.duration <= time)
    return known.weights(time) * np.square(survival - ~happened)


def clustered_error(known: Outcomes, values: Floats) -> float:
    """Standard error of the mean of ``values`` over rows, several of which may share a customer.

    0 where there is one customer only: nothing is known about variation.
    """
    centred = known.sums(values - values.mean())
    n, m = len(values), known.customers
    return float(np.sqrt(np.square(centred).sum() * m / max(m - 1, 1)) / n) if m > 1 else 0.0
