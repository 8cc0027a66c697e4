"""Predicted beside observed shares: by groups of equal risk, and among the riskiest."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import ndtri

from journeylab.churn.censoring import Flags, Floats, Outcomes, outcomes
from journeylab.errors import ContractError

_MOST_GROUPS = 10
_FEWEST_IN_GROUP = 20


def calibration(
    frame: pd.DataFrame,
    predicted: pd.Series,
    horizon_days: float,
    groups: int | None = None,
    level: float = 0.95,
) -> pd.DataFrame:
    """Predicted beside observed share without an event, in groups of equal size by risk.

    Args:
        frame: Landmark rows with their outcomes, not used to make the prediction.
        predicted: Chance of no event within ``horizon_days``, index of ``frame``.
        horizon_days: In the unit of ``duration``, for landmarks days.
        groups: How many; the first is the lowest chance. By default ten, fewer where a group
            would hold fewer than 20 rows.
        level: Coverage of the observed share's interval (0-1).

    Returns:
        One row per group: ``group`` (from 1), ``customers`` (rows), ``predicted`` (mean),
        ``observed`` (Kaplan-Meier), ``ci_low``, ``ci_high`` (robust to several rows per
        customer); ``inside`` where the prediction lies within.

    Raises:
        ContractError: Groups cannot be filled, a prediction is missing, or a horizon is longer
            than a group is followed.
    """
    risk = predicted.reindex(frame.index).to_numpy(float)
    if missing := int((~np.isfinite(risk)).sum()):
        raise ContractError(f"the prediction is missing in {missing} of {len(frame)} rows")
    return calibration_of(outcomes(frame), risk, horizon_days, groups, level)


def calibration_of(
    known: Outcomes, risk: Floats, horizon_days: float, groups: int | None, level: float
) -> pd.DataFrame:
    """``calibration`` of rows whose outcomes are read already."""
    if groups is None:
        groups = max(1, min(_MOST_GROUPS, len(risk) // _FEWEST_IN_GROUP))
    if len(risk) < groups:
        raise ContractError(f"{len(risk)} rows cannot fill {groups} groups; ask for fewer")
    rank = np.empty(len(risk), np.intp)
    rank[np.argsort(risk, kind="stable")] = np.arange(len(risk))
    group = rank * groups // len(risk) + 1
    table = []
    for number in range(1, groups + 1):
        own = group == number
        share, influence = _free_of(known, horizon_days, own.astype(float))
        low, high = share_interval(known, share, influence, own, level)
        mean = float(risk[own].mean())
        table.append((number, int(own.sum()), mean, share, low, high, low <= mean <= high))
    columns = ["group", "customers", "predicted", "observed", "ci_low", "ci_high", "inside"]
    return pd.DataFrame(table, columns=columns)


def lift(
    frame: pd.DataFrame,
    risk: pd.Series,
    horizon_days: float,
    shares: Sequence[float] = (0.05, 0.1, 0.2),
    *,
    of_event: bool = True,
    level: float = 0.95,
) -> pd.DataFrame:
    """How much more common an outcome is among those for whom it is expected most than among all.

    Args:
        frame: Landmark rows with their outcomes.
        risk: Larger for whom the event is expected sooner, index of ``frame``. Equal ones at a
            cut enter in part.
        horizon_days: In the unit of ``duration``.
        shares: Of all rows that the list holds (0-1).
        of_event: The event within the horizon, for the highest risks; else no event, for the
            lowest.
        level: Coverage of the intervals (0-1).

    Returns:
        One row per share: ``top`` (share), ``customers`` (rows on the list), ``outcome`` (share of
        them with it, Kaplan-Meier), ``everybody`` (share of all), ``lift`` (their ratio),
        ``ci_low``, ``ci_high`` (of the lift, robust to several rows per customer; 0 and the
        largest possible lift where nobody or everybody on the list had the outcome).

    Raises:
        ContractError: A share is outside (0, 1], or nobody had the outcome.
    """
    order = risk.reindex(frame.index).to_numpy(float)
    if missing := int((~np.isfinite(order)).sum()):
        raise ContractError(f"risk is missing in {missing} of {len(frame)} rows")
    return lift_of(outcomes(frame), order, horizon_days, shares, of_event=of_event, level=level)


def lift_of(
    known: Outcomes,
    risk: Floats,
    horizon_days: float,
    shares: Sequence[float],
    *,
    of_event: bool,
    level: float,
) -> pd.DataFrame:
    """``lift`` of rows whose outcomes are read already."""
    order = risk if of_event else -risk
    if not all(0 < share <= 1 for share in shares):
        raise ContractError(f"shares must lie in (0, 1]; got {list(shares)}")
    sign = -1.0 if of_event else 1.0
    free, moves = event_free(known, horizon_days, np.ones(len(order)))
    base = 1 - free if of_event else free
    if not base > 0:
        what = "the event" if of_event else "stayed without it"
        raise ContractError(f"nobody {what} within {horizon_days:g}: there is no lift")
    z, table = float(ndtri((1 + level) / 2)), []
    for share in shares:
        listed = top_weights(order, share)
        own_free, own_moves = _free_of(known, horizon_days, listed)
        outcome = 1 - own_free if of_event else own_free
        ratio, most = outcome / base, 1 / base
        spread = _spread(known, sign * (own_moves / max(outcome, 1e-12) - moves / base))
        low, high = ratio * np.exp(-z * spread), min(most, ratio * np.exp(z * spread))
        if outcome <= 0 or outcome >= 1:
            ends = share_interval(known, outcome, own_moves, listed > 0, level)
            low, high = ends[0] / base, ends[1] / base
        count = float(listed.sum())
        table.append((share, round(count), outcome, base, ratio, float(low), float(high)))
    columns = ["top", "customers", "outcome", "everybody", "lift", "ci_low", "ci_high"]
    return pd.DataFrame(table, columns=columns)


def top_weights(order: Floats, share: float) -> Floats:
    """Part (0-1) with which each row is among the ``share`` of rows with the largest ``order``."""
    room = share * len(order)
    cut = np.partition(order, len(order) - max(1, int(np.ceil(room))))[
        len(order) - max(1, int(np.ceil(room)))
    ]
    above, at = order > cut, order == cut
    listed: Floats = above + at * max(0.0, (room - float(above.sum())) / float(at.sum()))
    return listed


def event_free(known: Outcomes, time: float, weights: Floats) -> tuple[float, Floats]:
    """Share without the event by one time of rows that count in part, and what each adds to it.

    Kaplan-Meier; where causes exclude one another one less Aalen-Johansen's incidence; of rows
    that start late the share given no event until their start, those seen standing for the others.

    Raises:
        ContractError: The rows are not followed that long.
    """
    if known.late:
        return _weighted_free(known, time, weights)
    counted = weights > 0
    duration, ended, part = known.duration[counted], known.ended[counted], weights[counted]
    grid, place = np.unique(np.minimum(duration, time), return_inverse=True)
    happened = ended & (duration <= time)
    events: Floats = np.bincount(place, part * happened, len(grid)).astype(float)
    leaving: Floats = np.bincount(place, part, len(grid)).astype(float)
    at_risk = np.cumsum(leaving[::-1])[::-1]
    left = np.clip(at_risk - events, 0, None)
    factor = left / at_risk
    factor[factor < 1e-12] = 0.0
    share = float(factor.prod())
    if share > 0 and float(duration.max()) < time:
        raise ContractError(
            f"the share without an event at {time:g} cannot be read: {int(counted.sum())} rows are "
            f"followed to {float(duration.max()):g}; ask for an earlier time"
        )
    influence = np.zeros(len(weights))
    if known.competing.any():
        own = happened & known.happened[counted]
        events_of: Floats = np.bincount(place, part * own, len(grid)).astype(float)
        share, moves = _incidence_free(happened, own, events, events_of, at_risk, place)
        influence[counted] = part * moves
        return share, influence
    if share > 0:
        jump = happened / left[place]
        run = np.cumsum(events / (at_risk * left))
        influence[counted] = -share * part * (jump - run[place])
    return share, influence


def _incidence_free(
    happened: Flags,
    own: Flags,
    events: Floats,
    events_of: Floats,
    at_risk: Floats,
    place: npt.NDArray[np.intp],
) -> tuple[float, Floats]:
    """One less Aalen-Johansen's incidence, and what a row of weight 1 adds to it.

    Rows have any event (``happened``) or that of the cause (``own``); ``events``, ``events_of``
    and ``at_risk`` are weighted counts on the grid of times, ``place`` is each row's place on it.
    """
    left = np.clip(at_risk - events, 0, None)
    before = np.append(1.0, np.cumprod(left / at_risk)[:-1])
    step = before * events_of / at_risk
    incidence = np.cumsum(step)
    with np.errstate(divide="ignore"):
        inverse = np.where(left > 1e-12, 1 / np.maximum(left, 1e-300), 0.0)
    # sums over times up to a row's own of what its presence changes at each of them
    hold = np.cumsum(events / at_risk * inverse)
    held_before = np.cumsum(step * np.append(0.0, hold[:-1]))
    after = incidence[-1] - incidence[place]
    moves = held_before[place] + after * hold[place] - happened * after * inverse[place]
    moves += own * (before / at_risk)[place] - np.cumsum(step / at_risk)[place]
    return float(1 - incidence[-1]), -moves


def share_interval(
    known: Outcomes, share: float, influence: Floats, rows: npt.NDArray[np.bool_], level: float
) -> tuple[float, float]:
    """Wilson's interval for as many customers as would give the same standard error.

    At 0 and 1, where there is no spread, the exact binomial one for the customers there are.
    """
    customers = len(np.unique(known.customer[rows]))
    if share <= 0:
        return 0.0, 1 - ((1 - level) / 2) ** (1 / customers)
    if share >= 1:
        return ((1 - level) / 2) ** (1 / customers), 1.0
    spread = _spread(known, influence)
    if not spread > 0:
        return 0.0, 1.0
    n, z = share * (1 - share) / spread**2, float(ndtri((1 + level) / 2))
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    margin = z / (1 + z**2 / n) * float(np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2)))
    return max(0.0, middle - margin), min(1.0, middle + margin)


def _free_of(known: Outcomes, time: float, part: Floats) -> tuple[float, Floats]:
    """``event_free`` of a part of the rows, also where that part is lost from sight before.

    A group of early leavers may lose its last member before the horizon: there those seen stand
    for those unseen as in the Brier score.
    """
    if known.late:
        return _weighted_free(known, time, part)
    own = part > 0
    last = own & (known.duration == known.duration[own].max())
    if float(known.duration[last].max()) >= time or known.ended[last].all():
        return event_free(known, time, part)
    return _weighted_free(known, time, part)


def _weighted_free(known: Outcomes, time: float, part: Floats) -> tuple[float, Floats]:
    weight = known.weights(time) * part
    if not weight.sum() > 0:
        raise ContractError(
            f"of {int((part > 0).sum())} rows of equal risk nobody's state at {time:g} is known; "
            "ask for fewer groups or an earlier time"
        )
    free = ~(known.happened & (known.duration <= time))
    share = float((weight * free).sum() / weight.sum())
    influence: Floats = weight * (free - share) / weight.sum()
    return share, influence


def _spread(known: Outcomes, influence: Floats) -> float:
    summed = known.sums(influence)
    own = int((summed != 0).sum())
    return float(np.sqrt(np.square(summed).sum() * own / (own - 1))) if own > 1 else 0.0
