"""Cumulative/dynamic AUC: does the forecast tell who has the event by a time from who has not?"""

import numpy as np
import numpy.typing as npt
import pandas as pd

from journeylab.churn.censoring import Flags, Floats, Outcomes, Watched, outcomes
from journeylab.errors import ContractError
from journeylab.survival import count_events, kaplan_meier


def dynamic_auc(
    frame: pd.DataFrame,
    risk: pd.DataFrame | pd.Series,
    times: npt.ArrayLike | None = None,
    *,
    censoring: pd.DataFrame | None = None,
    watched: Watched = "through",
) -> pd.DataFrame:
    """AUC of those with an event by each time against those known to have none.

    Args:
        frame: ``duration``, ``event``; ``customer_id`` where rows share customers.
        risk: Larger for whom the event is expected sooner, index of ``frame``: one column per
            time (e.g. 1 - survival), or one number per row for all times.
        times: Times to judge; by default the columns of ``risk``.
        censoring: Rows that tell how sight is lost; by default ``frame``.
        watched: ``through`` for whole days; ``until`` gives scikit-survival's numbers.

    Returns:
        One row per time, ascending: ``time``, ``auc`` (0.5 is a coin), ``std_error`` robust to
        several rows per customer (weights taken as known). Times by which nobody or everybody had
        the event have no AUC and are left out.

    Raises:
        ContractError: A risk is missing, or no time is left.

    Source:
        Uno, Cai, Tian & Wei (2007); Hung & Chiang (2010).
    """
    if times is None:
        if isinstance(risk, pd.Series):
            raise ContractError("times must be given with one risk per row")
        times = [float(column) for column in risk.columns]
    known = outcomes(frame, censoring=censoring, watched=watched)
    columns = {} if isinstance(risk, pd.Series) else {float(name): name for name in risk.columns}
    table = []
    for time in sorted({float(time) for time in np.atleast_1d(np.asarray(times, float))}):
        if isinstance(risk, pd.DataFrame) and time not in columns:
            raise ContractError(f"no risk for time {time:g}; it has {sorted(columns)}")
        own = risk if isinstance(risk, pd.Series) else risk[columns[time]]
        values = own.reindex(frame.index).to_numpy(float)
        if missing := int((~np.isfinite(values)).sum()):
            raise ContractError(f"risk is missing in {missing} of {len(frame)} rows at {time:g}")
        if (found := auc_at(known, values, time)) is not None:
            share, influence = found
            table.append((time, share, spread(known, influence)))
    if not table:
        raise ContractError("by every time asked nobody or everybody had the event: no AUC")
    return pd.DataFrame(table, columns=["time", "auc", "std_error"])


def mean_auc(scores: pd.DataFrame, frame: pd.DataFrame) -> float:
    """Mean AUC over times, each weighted by the share of events since the time before.

    Args:
        scores: From ``dynamic_auc``.
        frame: The same rows.

    Source:
        Lambert & Chevret (2016).
    """
    known = outcomes(frame)
    shares = event_shares(known.duration, known.happened, scores["time"].to_numpy(float))
    return float(scores["auc"].to_numpy(float) @ shares)


def event_shares(duration: Floats, event: Flags, times: Floats) -> Floats:
    """Share of the events by the last of ``times`` that fell between each time and the one before.

    Raises:
        ContractError: Nobody had the event by then.
    """
    curve = kaplan_meier(count_events(duration, event))
    position = np.searchsorted(curve["time"].to_numpy(float), times, side="right") - 1
    survival = curve["survival"].to_numpy(float)[position]
    if not survival[-1] < 1:
        raise ContractError(f"nobody had the event by {times[-1]:g}: there is no mean AUC")
    shares: Floats = -np.diff(np.append(1.0, survival)) / (1 - survival[-1])
    return shares


def weighted_shares(known: Outcomes, times: Floats) -> Floats:
    """``event_shares`` of one of several causes, or of rows that start late, from weighted events.

    Raises:
        ContractError: As ``event_shares``.
    """
    until = np.zeros(len(times) + 1)
    for number, time in enumerate(times, start=1):
        own, _ = known.in_play(time)
        had = own.happened & (own.duration <= time)
        until[number] = float((own.weights(time) * had).sum())
    if not until[-1] > 0:
        raise ContractError(f"nobody had the event by {times[-1]:g}: there is no mean AUC")
    gained = np.clip(np.diff(until), 0.0, None)
    return np.asarray(gained / gained.sum(), float)


def auc_at(known: Outcomes, risk: Floats, time: float) -> tuple[float, Floats] | None:
    """AUC at one time and what each row adds to it to first order; None with one side empty.

    Whoever had another event by then did not have this one: such rows are controls.
    """
    since = known.since_start()
    control = np.where(known.still(time), since, 0.0)
    other = known.competing & (known.duration <= time)
    if other.any():
        control[other] = since[other] * known.sight([time]) / known.sight(known.duration[other])
    case = np.zeros(len(risk))
    had = known.happened & (known.duration <= time)
    sight = known.sight(known.duration[had])
    if unseen := int((sight <= 0).sum()):
        raise ContractError(
            f"{unseen} events came later than anybody of the rows that tell how sight is lost was "
            "watched"
        )
    case[had] = since[had] / sight
    cases, controls = float(case.sum()), float(control.sum())
    if not cases or not controls:
        return None
    values, rank = np.unique(risk, return_inverse=True)
    at = np.bincount(rank, control, len(values))
    below = np.cumsum(at) - at
    weight = np.bincount(rank, case, len(values))
    above = cases - np.cumsum(weight)
    won = case * (below + at / 2)[rank]
    lost = control * (above + weight / 2)[rank]
    total = cases * controls
    share = float(won.sum()) / total
    influence = (won + lost) / total - share * (case / cases + control / controls)
    return share, influence


def spread(known: Outcomes, influence: Floats) -> float:
    """Standard error of a statistic from what each row adds to it, summed by customer."""
    m = known.customers
    return float(np.sqrt(np.square(known.sums(influence)).sum() * m / (m - 1))) if m > 1 else 0.0
