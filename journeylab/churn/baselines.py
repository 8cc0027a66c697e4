"""What one would say without a model: the same for all, or by one thing known of each customer."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from journeylab.churn.censoring import Floats
from journeylab.errors import ContractError

KAPLAN_MEIER, AALEN_JOHANSEN = "Kaplan-Meier", "Aalen-Johansen"
# Column of a landmark frame -> what the baseline is called; the first found of a pair counts.
SINGLE = {"days_since_last": "recency alone", "frequency": "frequency alone"}
_BANDS = 10
_FEWEST_IN_BAND = 50


@dataclass(frozen=True, slots=True, eq=False)
class Baseline:
    """A forecast from at most one column.

    Attributes:
        name: What it is called.
        survival: One row per row forecast, one column per time.
        risk: Its order of the customers, larger for whom the event is expected sooner; finer
            than ``survival``, which is the same within a band. Missing where it has no order.
    """

    name: str
    survival: pd.DataFrame
    risk: pd.Series | None


def kaplan_meier_prediction(
    train: pd.DataFrame,
    frame: pd.DataFrame,
    times: Sequence[float] | npt.ArrayLike,
    cause: str | int | None = None,
) -> pd.DataFrame:
    """The share of ``train`` without an event, given to every row of ``frame`` alike.

    Args:
        train: ``duration``, ``event`` (and ``entry``, where rows came into sight late).
        frame: Rows to forecast.
        times: Any, within the follow-up of ``train``.
        cause: The share without an event of this cause: one less Aalen-Johansen's incidence.

    Raises:
        ContractError: A time lies past the follow-up.
    """
    share = _shares(train, np.asarray(times, float), cause)[1]
    return pd.DataFrame(
        np.broadcast_to(share, (len(frame), len(share))).copy(),
        frame.index,
        pd.Index(np.asarray(times)),
    )


def baselines(
    train: pd.DataFrame,
    frame: pd.DataFrame,
    times: Sequence[float],
    columns: Sequence[str] = tuple(SINGLE),
    cause: str | int | None = None,
) -> list[Baseline]:
    """Kaplan-Meier for all, and Kaplan-Meier in ten bands of each of some columns.

    Of one cause among several they are one less Aalen-Johansen's incidence; the first is then
    called Aalen-Johansen.

    Args:
        train: Rows known when the forecast is made: ``duration``, ``event`` and the columns.
        frame: Rows to forecast.
        times: Ascending, within the follow-up of ``train``.
        columns: One baseline each; those that a frame does not have are left out.
        cause: As in ``kaplan_meier_prediction``.

    Returns:
        Kaplan-Meier first. A band follows its rows as long as ``train`` allows, past that (and
        where it would hold fewer than 50 rows) everybody's curve goes on.
    """
    same = kaplan_meier_prediction(train, frame, times, cause)
    found = [Baseline(KAPLAN_MEIER if cause is None else AALEN_JOHANSEN, same, None)]
    grid = np.asarray(times, float)
    for column in columns:
        if column not in train.columns or column not in frame.columns:
            continue
        known, now = train[column].astype(float), frame[column].astype(float)
        if known.isna().any() or now.isna().any() or known.nunique() < 2:
            continue
        count = max(1, min(_BANDS, len(train) // _FEWEST_IN_BAND))
        edges = np.unique(np.quantile(known, np.arange(1, count) / count, method="higher"))
        band = np.searchsorted(edges, known.to_numpy(), side="right")
        told = np.searchsorted(edges, now.to_numpy(), side="right")
        shares = np.empty((len(edges) + 1, len(grid)))
        for number in range(len(edges) + 1):
            own = train[band == number]
            shares[number] = _shares(own if len(own) else train, grid, cause, train)[1]
        # whether more means sooner is learnt from the training rows
        middle = known.groupby(band).mean().reindex(range(len(edges) + 1)).to_numpy(float)
        weights = np.bincount(band, minlength=len(edges) + 1).astype(float)
        sign = _slope(np.asarray(middle, np.float64), shares[:, -1], weights)
        risk = (-sign * now).rename(column)
        name = SINGLE.get(column, f"{column} alone")
        found.append(Baseline(name, pd.DataFrame(shares[told], frame.index, list(times)), risk))
    return found


def _shares(
    rows: pd.DataFrame,
    times: Floats,
    cause: str | int | None,
    everybody: pd.DataFrame | None = None,
) -> tuple[Floats, Floats]:
    """Share without any event and without that of the cause, at ``times``.

    Past the own follow-up the curves go on as everybody's do.
    """
    duration, event = rows["duration"].to_numpy(float), rows["event"].to_numpy(float)
    own = event if cause is None else event * (rows["cause"] == cause).to_numpy(float)
    ended, place = np.unique(duration, return_inverse=True)
    at_risk = len(rows) - np.searchsorted(np.sort(duration), ended)
    if "entry" in rows.columns:
        entry = np.sort(rows["entry"].to_numpy(float))
        # whoever enters at a time is at risk only after it; the start is the exception
        entry[entry <= 0] = -1
        at_risk = at_risk - (len(rows) - np.searchsorted(entry, ended))
    grid = np.append(-np.inf, ended)
    stay = np.append(1.0, np.cumprod(1 - np.bincount(place, event) / at_risk))
    free = stay
    if cause is not None:
        free = 1 - np.append(0.0, np.cumsum(stay[:-1] * np.bincount(place, own) / at_risk))
    position = np.searchsorted(grid, times, side="right") - 1
    stays, frees = stay[position].astype(float), free[position].astype(float)
    beyond = (times > grid[-1]) & (stay[-1] > 0)
    if not beyond.any():
        return stays, frees
    if everybody is None:
        raise ContractError(
            f"a baseline for {times[beyond].min():g} cannot be made: the training rows are "
            f"followed to {grid[-1]:g}; ask for earlier times or train on earlier landmarks"
        )
    later, later_free = _shares(everybody, np.append(grid[-1], times[beyond]), cause)
    here = max(float(later[0]), np.finfo(float).tiny)
    frees[beyond] = free[-1] - stay[-1] * (later_free[0] - later_free[1:]) / here
    stays[beyond] *= later[1:] / here
    return stays, stays if cause is None else frees


def _slope(x: Floats, y: Floats, weights: Floats) -> float:
    keep = np.isfinite(x) & (weights > 0)
    x, y, weights = x[keep], y[keep], weights[keep]
    slope = np.average((x - np.average(x, weights=weights)) * y, weights=weights)
    return 1.0 if slope >= 0 else -1.0
