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
    """The pairs behind ``harrell_c``."""
    return count_pairs(known.duration, known.ended, risk, known.ended.astype(float))


def uno_pairs(known: Outcomes, risk: Floats, until: float | None = None) -> Pairs:
    """The pairs behind ``uno_c``."""
    counted = known.ended.copy()
    if until is not None:
        counted &= known.duration <= until if known.watched == "through" else known.duration < until
    weight = np.zeros(len(counted))
    sight = known.sight(known.duration[counted])
    if unseen := int((sight <= 0).sum()):
        raise ContractError(
            f"{unseen} events came later than anybody of the rows that tell how sight is lost was "
            "watched; give an earlier until"
        )
    weight[counted] = 1 / np.square(sight)
    return count_pairs(known.duration, known.ended, risk, weight)


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
