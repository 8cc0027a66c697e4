"""Counting pairs with Fenwick trees, compiled."""

from typing import Any

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def _below(tree: Any, place: Any) -> Any:
    """Sum of the tree up to and without ``place``."""
    total = 0.0
    while place > 0:
        total += tree[place]
        place -= place & -place
    return total


@njit(cache=True, nogil=True)
def _add(tree: Any, place: Any, value: Any) -> None:
    place += 1
    while place < len(tree):
        tree[place] += value
        place += place & -place


@njit(cache=True, nogil=True)
def count(
    duration: Any, event: Any, rank: Any, weight: Any, later: Any, start: Any, begins: Any
) -> Any:
    """Rows in order of time, at one time those censored first; Fenwick trees over the risks.

    ``begins`` puts the rows in order of ``start``, before which they are in nobody's pairs.
    """
    n = len(duration)
    right, every = np.zeros(n), np.zeros(n)
    tree = np.zeros(rank.max() + 2)
    held = 0.0
    gone = n - 1
    # from the last time to the first: each event looks at those who wait longer
    end = n
    while end > 0:
        begin = end - 1
        while begin > 0 and duration[begin - 1] == duration[end - 1]:
            begin -= 1
        while gone >= 0 and start[begins[gone]] >= duration[begin]:
            row = begins[gone]
            _add(tree, rank[row], -later[row])
            held -= later[row]
            gone -= 1
        for i in range(begin, end):
            if not event[i]:
                _add(tree, rank[i], later[i])
                held += later[i]
        for i in range(begin, end):
            if event[i] and weight[i] > 0:
                lower = _below(tree, rank[i])
                tied = _below(tree, rank[i] + 1) - lower
                right[i] += weight[i] * (lower + tied / 2)
                every[i] += weight[i] * held
        for i in range(begin, end):
            if event[i]:
                _add(tree, rank[i], later[i])
                held += later[i]
        end = begin
    # from the first time to the last: each row looks at the events before it
    tree[:] = 0.0
    total = 0.0
    begin = 0
    come = 0
    while begin < n:
        end = begin + 1
        while end < n and duration[end] == duration[begin]:
            end += 1
        earlier = total
        # the events before its start are no pairs of a row
        while come < n and start[begins[come]] < duration[begin]:
            row = begins[come]
            if total > 0 and later[row] > 0:
                upto = _below(tree, rank[row] + 1)
                tied = upto - _below(tree, rank[row])
                right[row] -= later[row] * (total - upto + tied / 2)
                every[row] -= later[row] * total
            come += 1
        for i in range(begin, end):
            if event[i]:
                upto = _below(tree, rank[i] + 1)
                tied = upto - _below(tree, rank[i])
                right[i] += later[i] * (earlier - upto + tied / 2)
                every[i] += later[i] * earlier
        for i in range(begin, end):
            if event[i]:
                _add(tree, rank[i], weight[i])
                total += weight[i]
        for i in range(begin, end):
            if not event[i]:
                upto = _below(tree, rank[i] + 1)
                tied = upto - _below(tree, rank[i])
                right[i] += later[i] * (total - upto + tied / 2)
                every[i] += later[i] * total
        begin = end
    return right, every
