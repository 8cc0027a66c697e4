"""The ways to the leaves of a booster, and the Shapley values that follow from them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import factorial
from typing import Any

import numpy as np
import numpy.typing as npt

from journeylab.errors import FitError

# numbers held at once: 64 MB
_CELLS = 8_000_000


@dataclass(frozen=True, slots=True, eq=False)
class LeafPaths:
    """The way to every leaf of every tree, column by column.

    A path that looks at a column several times looks at an interval of it. Short paths are filled
    up with columns that let everything pass: players who change nothing leave the others' Shapley
    values as they are.

    Attributes:
        column: ``(leaves, depth)``, -1 for a filled-up place.
        low, high: The path goes on where low <= value < high, ``(leaves, depth)``.
        gaps: Whether it goes on where the value is missing.
        cover: Share of the training rows at the one end of the splits that go on, ``(leaves,
            depth)``.
        values: ``(leaves, bins)``, or ``(leaves, 1)`` where the bin is a column of its own.
    """

    column: npt.NDArray[np.int64]
    low: npt.NDArray[np.float32]
    high: npt.NDArray[np.float32]
    gaps: npt.NDArray[np.bool_]
    cover: npt.NDArray[np.float64]
    values: npt.NDArray[np.float64]


def leaf_paths(trees: Any, signs: Mapping[int, float]) -> LeafPaths:
    """Read the paths of a booster.

    Args:
        trees: An ``xgboost.Booster``.
        signs: Which outputs to add up, and with which sign; multi-output trees count as 0.

    Raises:
        FitError: This xgboost keeps no counts of the rows at each split of multi-output trees.
    """
    model = json.loads(bytes(trees.save_raw("json")))["learner"]["gradient_booster"]["model"]
    paths: list[dict[int, tuple[float, float, bool, float]]] = []
    values: list[npt.NDArray[np.float64]] = []
    for tree, output in zip(model["trees"], model["tree_info"], strict=True):
        if output not in signs:
            continue
        width = int(tree["tree_param"]["size_leaf_vector"])
        if width > 1 and not ("leaf_weights" in tree and any(tree.get("sum_hessian", ()))):
            raise FitError("layout 'vector' is explained with xgboost 3.2 or later: update it")
        # a leaf keeps its number where others keep the right child, or its value at the split
        leaves = np.array(tree["leaf_weights"] if width > 1 else tree["split_conditions"])
        leaves = leaves.reshape(-1, max(width, 1)) * signs[output]
        stack: list[tuple[int, dict[int, tuple[float, float, bool, float]]]] = [(0, {})]
        while stack:
            node, path = stack.pop()
            left, right = tree["left_children"][node], tree["right_children"][node]
            if left < 0:
                paths.append(path)
                values.append(leaves[right if width > 1 else node])
                continue
            column, at = tree["split_indices"][node], tree["split_conditions"][node]
            to_left = bool(tree["default_left"][node])
            low, high, gaps, cover = path.get(column, (-np.inf, np.inf, True, 1.0))
            whole = tree["sum_hessian"][node]
            for child, ends, goes in (
                (left, (low, min(high, at)), to_left),
                (right, (max(low, at), high), not to_left),
            ):
                share = tree["sum_hessian"][child] / whole
                stack.append((child, path | {column: (*ends, gaps and goes, cover * share)}))
    if not paths:
        paths, values = [{}], [np.zeros(1)]
    depth = max([1, *(len(path) for path in paths)])
    shape = (len(paths), depth)
    columns = np.full(shape, -1, dtype=np.int64)
    lows, highs = np.full(shape, -np.inf, np.float32), np.full(shape, np.inf, np.float32)
    gapped, covers = np.ones(shape, dtype=bool), np.ones(shape)
    for leaf, path in enumerate(paths):
        for place, (number, (low, high, gaps, cover)) in enumerate(path.items()):
            columns[leaf, place], gapped[leaf, place] = number, gaps
            lows[leaf, place], highs[leaf, place], covers[leaf, place] = low, high, cover
    return LeafPaths(columns, lows, highs, gapped, covers, np.array(values))


def path_contributions(
    paths: LeafPaths,
    matrix: npt.NDArray[np.float32],
    bins: npt.NDArray[np.int64],
    clock: int | None,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Path-dependent Shapley values of each column.

    Where the bin is a column, its paths are open in some bins and closed in others, and nothing
    else of a row changes from bin to bin: two passes over the leaves answer for all bins.

    Args:
        paths: From ``leaf_paths``.
        matrix: ``(rows, columns)`` without the bin, NaN where missing.
        bins: Which bins to explain.
        clock: Number of the column that holds the bin; ``None`` where leaves hold all bins.

    Returns:
        Contributions, ``(rows, columns, bins)``, the clock's last where there is one; and the mean
        over the training rows, ``(bins,)``.

    Source:
        Lundberg et al. (2020), Algorithm 1, with the sum over subsets of a path's columns as the
        coefficients of a polynomial.
    """
    leaves, depth = paths.column.shape
    chance = paths.cover.prod(axis=1)[:, None]
    if clock is None:
        cases = [(True, paths.values[:, bins])]
        mean = (chance * paths.values[:, bins]).sum(axis=0)
    else:
        leaf, place = np.nonzero(paths.column == clock)
        inside = np.ones((leaves, len(bins)))
        low, high = paths.low[leaf, place][:, None], paths.high[leaf, place][:, None]
        inside[leaf] = (bins >= low) & (bins < high)
        cases = [(True, paths.values * inside), (False, paths.values * (1 - inside))]
        mean = np.full(len(bins), float((chance * paths.values).sum()))
    columns = [
        (int(number), np.nonzero(paths.column == number))
        for number in np.unique(paths.column[paths.column >= 0])
    ]
    found = np.zeros((len(matrix), matrix.shape[1] + (clock is not None), len(bins)))
    step = max(1, _CELLS // (leaves * depth))
    for first in range(0, len(matrix), step):
        part = matrix[first : first + step]
        passes = np.ones((depth, len(part), leaves))
        for number, (leaf, place) in columns:
            if number == clock:
                continue
            own = part[:, number][:, None]
            goes = (own >= paths.low[leaf, place]) & (own < paths.high[leaf, place])
            passes[place, :, leaf] = np.where(np.isnan(own), paths.gaps[leaf, place], goes).T
        for opened, values in cases:
            if clock is not None:
                leaf, place = np.nonzero(paths.column == clock)
                passes[place, :, leaf] = float(opened)
            share = _shares(passes, paths.cover)
            for number, (leaf, place) in columns:
                found[first : first + step, number] += share[place, :, leaf].T @ values[leaf]
    return found, mean


def _shares(
    passes: npt.NDArray[np.float64], cover: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Each player's share of a leaf's value, ``(depth, rows, leaves)``."""
    depth = len(passes)
    share = np.empty_like(passes)
    for player in range(depth):
        # coefficients of the product of (cover + pass z) over the other players
        terms = [np.ones(1)]
        for other in range(depth):
            if other == player:
                continue
            longer = [term * cover[:, other] for term in terms] + [np.zeros(1)]
            for size, term in enumerate(terms):
                longer[size + 1] = longer[size + 1] + term * passes[other]
            terms = longer
        total = np.zeros(passes.shape[1:])
        for size, term in enumerate(terms):
            weight = factorial(size) * factorial(depth - size - 1) / factorial(depth)
            total += weight * term
        share[player] = (passes[player] - cover[:, player]) * total
    return share
