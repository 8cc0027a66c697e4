"""Concordance: how often the customer at higher risk is the one who comes to it first.

Concordance reads the order of customers only. A forecast that is wrong for everybody can have the
best one, so it never decides alone: read it beside the Brier score and the calibration.
"""

import numpy as np
import numpy.typing as npt
import pandas as pd

from journeylab.churn.censoring import Floats, Outcomes, Watched, outcomes
from journeylab.churn.pairs import Pairs, count_pairs
from journeylab.errors import ContractError
from journeylab.survival import count_events, kaplan_meier


def harrell_c(frame: pd.DataFrame, risk: npt.ArrayLike) -> float:
    """Harrell's C: share of comparable pairs that ``risk`` puts in the right order.

    Pairs that censoring hides are left out, so under heavy censoring it looks mostly at early
    events; ``uno_c`` does not. A row censored when another has its event is known to wait longer;
    two events at one time are no pair; equal risks count half.

    Args:
        frame: ``duration``, ``event``.
        risk: Per row, larger for whom the event is expected sooner.

    Returns:
        0-1; 0.5 where no pair can be compared.

    Source:
        Harrell, Califf, Pryor, Lee & Rosati (1982).
    """
    return harrell_pairs(outcomes(frame), _risk(frame, risk)).share


def uno_c(
    frame: pd.DataFrame,
    risk: npt.ArrayLike,
    until: float | None = None,
    *,
    censoring: pd.DataFrame | None = None,
    watched: Watched = "through",
) -> float:
    """Uno's C: as Harrell's, with pairs weighted for those that censoring hides.

    Args:
        frame: ``duration``, ``event``.
        risk: Per row, larger for whom the event is expected sooner.
        until: Events after this time do not count.
        censoring: Rows that tell how sight is lost; by default ``frame``.
        watched: ``through`` for whole days, with events at ``until`` itself; ``until`` gives
            scikit-survival's numbers, without them.

    Returns:
        0-1; 0.5 where no pair can be compared.

    Source:
        Uno, Cai, Pencina, D'Agostino & Wei (2011).
    """
    known = outcomes(frame, censoring=censoring, watched=watched)
    return uno_pairs(known, _risk(frame, risk), until).share


def harrell_pairs(known: Outcomes, risk: Floats) -> Pairs:
    """The pairs behind ``harrell_c``.

    Where causes exclude one another, whoever had another one never comes to this one (Wolbers,
    Koller, Witteman & Steyerberg, 2009); rows that start late make pairs from then on.
    """
    never = np.where(known.competing, np.inf, known.duration)
    return count_pairs(never, known.happened, risk, known.happened.astype(float), start=known.start)


def uno_pairs(known: Outcomes, risk: Floats, until: float | None = None) -> Pairs:
    """The pairs behind ``uno_c``.

    Where causes exclude one another, pairs with whoever had another one before are weighted for
    that one's own chance of being seen (Wolbers, Blanche, Koller, Witteman & Gerds, 2014). Rows
    that start late are weighted for those not in sight at the event: at risk over survival.
    """
    counted = known.happened.copy()
    if until is not None:
        counted &= known.duration <= until if known.watched == "through" else known.duration < until
    weight = np.zeros(len(counted))
    if known.late:
        at_risk = _in_sight_at(known, known.duration[counted])
        weight[counted] = 1 / np.square(at_risk)
        return count_pairs(known.duration, known.ended, risk, weight, start=known.start)
    sight = known.sight(known.duration[counted])
    if unseen := int((sight <= 0).sum()):
        raise ContractError(
            f"{unseen} events came later than anybody of the rows that tell how sight is lost was "
            "watched; give an earlier until"
        )
    weight[counted] = 1 / np.square(sight)
    found = count_pairs(known.duration, known.ended, risk, weight)
    other = known.competing
    if not other.any():
        return found
    # read backwards in time, those who had another event before are the later ones of a pair
    weight[counted] = 1 / sight
    later = np.zeros(len(counted))
    later[other] = known.sight(known.duration[other])
    later[other] = 1 / np.where(later[other] > 0, later[other], np.inf)
    return found + count_pairs(-known.duration, known.happened, risk, weight, later=later)


def _in_sight_at(known: Outcomes, times: Floats) -> Floats:
    """Share in sight of those without an event before each time: at risk over survival."""
    counts = count_events(known.duration, known.ended, known.start)
    curve = kaplan_meier(counts)
    place = np.searchsorted(curve["time"].to_numpy(float), times, side="left")
    before = curve["survival"].to_numpy(float)[place - 1]
    if (before <= 0).any():
        raise ContractError(
            "everybody in sight early had the event, before others came into sight: concordance "
            "cannot be weighted; leave the first rows out"
        )
    return np.asarray(curve["at_risk"].to_numpy(float)[place] / len(known.duration) / before)


def _risk(frame: pd.DataFrame, risk: npt.ArrayLike) -> Floats:
    if isinstance(risk, pd.Series):
        risk = risk.reindex(frame.index)
    values = np.asarray(risk, float)
    if values.shape != (len(frame),) or not np.isfinite(values).all():
        raise ContractError(
            f"risk must be one finite number for each of {len(frame)} rows; got shape "
            f"{values.shape}, of which {int((~np.isfinite(values)).sum())} are not finite"
        )
    return values
