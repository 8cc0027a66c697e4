"""Places in a ranking, with ties shared and the ranking itself taken as drawn by chance.

Units are placed from the highest number down. Units with the same number share their places: every
statistic here is its average over all orders of the tied. Nothing depends on the numbers beyond
their order. Where units carry folds, each fold is ranked by itself and the folds are averaged by
their size.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from journeylab.uplift.scores import Floats, Ints

# Units on either side of a cut, from which the effect at the cut is read: a share of all, at least
# so many.
_NEAR_SHARE = 0.05
_NEAR_UNITS = 10


@dataclass(frozen=True, slots=True, eq=False)
class Places:
    """One fold's ranking.

    Attributes:
        order: Positions of the units, best first.
        start, end: ``(groups,)``: how many units stand before each group of ties, and with it.
        group: ``(units,)``: group of each unit, in ``order``.
    """

    order: Ints
    start: Ints
    end: Ints
    group: Ints

    def means(self, ordered: Floats) -> Floats:
        """Mean of each group of ties; ``ordered`` as in ``order``, one column or several."""
        size = (self.end - self.start).reshape(-1, *[1] * (ordered.ndim - 1))
        return np.asarray(np.add.reduceat(ordered, self.start) / size)

    def inside(self, share: float) -> Floats:
        """How much of each unit (0-1) is among the first ``share``, in ``order``."""
        cut = share * len(self.order)
        part = np.clip((cut - self.start) / (self.end - self.start), 0.0, 1.0)
        return np.asarray(part[self.group])

    def near(self, share: float) -> slice:
        """The places about a cut; a group of ties that the cut divides is taken whole."""
        n = len(self.order)
        cut = share * n
        width = max(_NEAR_UNITS, round(_NEAR_SHARE * n))
        place = min(max(int(np.ceil(cut)) - 1, 0), n - 1)
        tied = self.group[place]
        first = min(int(cut) - width, int(self.start[tied]))
        return slice(max(first, 0), min(max(int(cut) + width, int(self.end[tied])), n))


def places(ranking: Floats) -> Places:
    """The ranking of finite numbers, highest first."""
    order = np.argsort(-ranking, kind="stable")
    ordered = ranking[order]
    changes = np.flatnonzero(ordered[1:] != ordered[:-1]) + 1
    start = np.concatenate([[0], changes])
    end = np.concatenate([changes, [len(order)]])
    group = np.repeat(np.arange(len(start)), end - start)
    return Places(order, start, end, group)


def by_fold(units: int, folds: Ints | None) -> Iterator[Ints]:
    """Positions of each fold's units; all of them where there are no folds."""
    if folds is None:
        yield np.arange(units)
        return
    for fold in range(int(folds.max()) + 1):
        if len(rows := np.flatnonzero(folds == fold)):
            yield rows


def fold_by_fold(
    ranking: Floats,
    folds: Ints | None,
    statistic: Callable[[Places, Ints], tuple[NDArray[np.float64], NDArray[np.float64]]],
) -> tuple[Floats, Floats]:
    """A statistic with its influence, in each fold by itself and averaged by size.

    Args:
        ranking: ``(units,)``.
        folds: Of each unit.
        statistic: The fold's places and its rows -> values ``(numbers,)`` and the influence of
            its rows on them ``(rows, numbers)``, in the order of the rows.

    Returns:
        ``(numbers,)`` and ``(units, numbers)``, the latter with mean 0 in every fold.
    """
    n = len(ranking)
    value: Floats | None = None
    influence: Floats | None = None
    for rows in by_fold(n, folds):
        found, each = statistic(places(ranking[rows]), rows)
        if value is None or influence is None:
            value, influence = np.zeros(len(found)), np.zeros((n, len(found)))
        value += found * len(rows) / n
        influence[rows] = each - each.mean(axis=0)
    if value is None or influence is None:
        value, influence = np.zeros(0), np.zeros((0, 0))
    return value, influence
