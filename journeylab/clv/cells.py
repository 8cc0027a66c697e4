"""Cells: distinct rows with the number of customers that share each, sorted."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from journeylab.clv.histories import Floats

# Rows that a likelihood takes at a time: their temporaries stay in the processor's cache.
BLOCK = 8_192
# Cells on which a fit looks for the region of its peak before it sees all of them.
SAMPLE = 8_000


def collapse(columns: Sequence[Floats], customers: Floats) -> tuple[list[Floats], Floats]:
    """Distinct rows of ``columns``, in ascending order, and the sum of ``customers`` on each.

    The answer does not depend on the order of rows, to the last digit.
    """
    key, levels = np.zeros(len(customers), dtype=np.int64), []
    for values in columns:
        codes, distinct = pd.factorize(values, sort=True)
        levels.append(np.asarray(distinct, dtype=float))
        if np.prod([float(len(level)) for level in levels]) > 2.0**62:
            return _collapse_by_sorting(columns, customers)
        key = key * len(distinct) + codes
    if np.ptp(customers) == 0:
        key = np.sort(key)
        starts = _starts(key)
        counts = np.diff(starts, append=len(key)) * customers[0]
    else:
        order = np.lexsort((customers, key))
        key = key[order]
        starts = _starts(key)
        counts = np.add.reduceat(customers[order], starts)
    rest, found = key[starts], []
    for level in reversed(levels):
        rest, code = np.divmod(rest, len(level))
        found.append(level[code])
    return found[::-1], np.asarray(counts, dtype=float)


def _collapse_by_sorting(
    columns: Sequence[Floats], customers: Floats
) -> tuple[list[Floats], Floats]:
    order = np.lexsort((customers, *reversed(columns)))
    ordered = [np.asarray(values[order]) for values in columns]
    new = np.zeros(len(order), dtype=bool)
    for values in ordered:
        new |= np.concatenate([[True], values[1:] != values[:-1]])
    starts = np.flatnonzero(new)
    counts = np.add.reduceat(customers[order], starts)
    return [values[starts] for values in ordered], np.asarray(counts, dtype=float)


def _starts(key: np.ndarray) -> np.ndarray:
    return np.flatnonzero(np.concatenate([[True], key[1:] != key[:-1]]))


def groups(columns: Sequence[Floats]) -> tuple[np.ndarray, np.ndarray]:
    """First row of each run of equal rows in sorted ``columns``, and the run each row is in."""
    new = np.zeros(len(columns[0]), dtype=bool)
    new[0] = True
    for values in columns:
        new[1:] |= values[1:] != values[:-1]
    return np.flatnonzero(new), np.cumsum(new) - 1


def every_nth(rows: int, sample: int = SAMPLE) -> slice | None:
    """A slice that leaves about ``sample`` of ``rows``, spread evenly; ``None`` for few rows."""
    step = rows // sample
    return slice(step // 2, None, step) if step > 1 else None
