"""Counts of pairs in O(n log n): of whom a risk puts the earlier one first."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from journeylab.churn.censoring import Flags, Floats


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """Weighted pairs of each row, as the earlier and as the later one of a pair.

    Attributes:
        right: Pairs ranked rightly, equal risks counted half, ``(rows,)``; their sum is twice
            that of all pairs, since each has two rows.
        all: Pairs that can be compared, likewise.
    """

    right: Floats
    all: Floats

    def __add__(self, other: "Pairs") -> "Pairs":
        """Both kinds of pairs of the same rows."""
        return Pairs(self.right + other.right, self.all + other.all)

    @property
    def share(self) -> float:
        """Share ranked rightly; 0.5 where no pair can be compared."""
        total = float(self.all.sum())
        return float(self.right.sum()) / total if total > 0 else 0.5

    def influence(self) -> Floats:
        """What each row adds to ``share`` to first order; adds up to 0."""
        total = float(self.all.sum())
        if total <= 0:
            return np.zeros_like(self.all)
        return 2 * (self.right - self.share * self.all) / total


def count_pairs(
    duration: Floats,
    event: Flags,
    risk: npt.ArrayLike,
    weight: Floats,
    *,
    later: Floats | None = None,
    start: Floats | None = None,
) -> Pairs:
    """Pairs of a row with an event and one known to wait longer.

    A row censored at the time of another's event is known to wait longer; two events at one time
    say nothing.

    Args:
        duration: Time to the event or to the end of sight, ``(rows,)``.
        event: Whether the event was seen.
        risk: Larger for whom the event is expected sooner.
        weight: Of every pair whose earlier row is this one.
        later: Factor on the weight of every pair whose later row is this one; 1 by default.
        start: From when each row was in sight: it makes no pair with an event until then.
    """
    from journeylab.churn.pair_counts import count

    _, rank = np.unique(np.asarray(risk, float), return_inverse=True)
    order = np.lexsort((event, duration))
    since = np.full(len(order), -np.inf)
    if start is not None:
        since = np.where(start > 0, start, -np.inf)[order]
    right, every = count(
        np.ascontiguousarray(duration[order]),
        np.ascontiguousarray(event[order]),
        np.ascontiguousarray(rank[order]),
        np.ascontiguousarray(weight[order]),
        np.ones(len(order)) if later is None else np.ascontiguousarray(later[order]),
        since,
        np.argsort(since, kind="stable"),
    )
    back = np.empty(len(order), np.intp)
    back[order] = np.arange(len(order))
    return Pairs(right[back], every[back])
