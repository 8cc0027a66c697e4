"""The chronicle: everything a run of people did, and had done to them, in a stretch of days."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from journeylab.simulate.chance import Floats
from journeylab.simulate.life import Happened, Touches
from journeylab.simulate.people import Ints

GIVEN = -1
"""The wave of touches that came from outside the world."""


@dataclass(frozen=True, slots=True)
class Sent:
    """Touches and where they came from, one entry each, sorted by person and day.

    Attributes:
        touches: Person (position), day, channel.
        wave: Week that sent them; ``GIVEN`` for touches from outside.
        propensity: Chance with which they were assigned; NaN where none was logged.
    """

    touches: Touches
    wave: npt.NDArray[np.int32]
    propensity: Floats


@dataclass(frozen=True, slots=True)
class Assigned:
    """Logged assignments to arms, one entry each.

    Attributes:
        person, day: Who (position), when.
        test: Position in the preset's tests; ``-1 - week`` for a wave of randomised touches.
        arm: Position in the test's arms; for a wave, the channel, and -1 for no touch.
        propensity: Chance of that arm.
    """

    person: Ints
    day: npt.NDArray[np.int32]
    test: npt.NDArray[np.int32]
    arm: npt.NDArray[np.int8]
    propensity: Floats


@dataclass(frozen=True, slots=True)
class Chronicle:
    """A stretch of ``days`` days from ``first_day``; positions are those of one run of people."""

    first_day: int
    days: int
    happened: Happened
    sent: Sent
    assigned: Assigned


def join(pieces: Sequence[Chronicle]) -> Chronicle:
    """Stretches that follow one another, as one; entries sorted by person, then in time."""
    happened = _concatenate(Happened, [piece.happened for piece in pieces])
    sent = Sent(
        _concatenate(Touches, [piece.sent.touches for piece in pieces]),
        np.concatenate([piece.sent.wave for piece in pieces]),
        np.concatenate([piece.sent.propensity for piece in pieces]),
    )
    orders = np.argsort(happened.order_person, kind="stable")
    visits = np.argsort(happened.visit_person, kind="stable")
    touched = np.argsort(sent.touches.person, kind="stable")
    assigned = _concatenate(Assigned, [piece.assigned for piece in pieces])
    by_person = np.argsort(assigned.person, kind="stable")
    turns = {"order": orders, "visit": visits, "touch": touched}
    return Chronicle(
        pieces[0].first_day,
        sum(piece.days for piece in pieces),
        Happened(
            **{
                item.name: getattr(happened, item.name)[turns[item.name.split("_")[0]]]
                for item in fields(Happened)
            }
        ),
        Sent(_take(sent.touches, touched), sent.wave[touched], sent.propensity[touched]),
        _take(assigned, by_person),
    )


def _concatenate(kind: type[Any], pieces: Sequence[Any]) -> Any:
    return kind(
        **{
            item.name: np.concatenate([getattr(piece, item.name) for piece in pieces])
            for item in fields(kind)
        }
    )


def _take(value: Any, rows: Ints) -> Any:
    return type(value)(**{item.name: getattr(value, item.name)[rows] for item in fields(value)})
