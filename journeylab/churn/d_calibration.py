"""D-calibration: are the waiting times spread over the predicted curves as they should be?"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import ndtri

from journeylab.churn.censoring import Floats, Outcomes, Watched, outcomes, survival_columns
from journeylab.errors import ContractError

# eigenvalues below this share of the largest carry no information
_RANK = 1e-9
_FEWEST_EXPECTED = 20.0


@dataclass(frozen=True, slots=True, eq=False)
class DCalibration:
    """How the waiting times fall on the predicted curves.

    Attributes:
        table: One row per bin of predicted survival, from 1 down to 0: ``above``, ``upto`` (ends
            of the bin), ``share`` of the rows whose event falls there, ``expected``, ``ci_low``,
            ``ci_high`` of the share.
        statistic: Wald's, chi-square distributed with ``degrees`` degrees of freedom where the
            forecast is calibrated; neighbouring bins that expect fewer than 20 rows count as one.
        degrees: Bins that the data can tell apart, less one.
        p: Chance of a statistic at least this large from a calibrated forecast. With very many
            customers every forecast fails: read ``largest_gap``.
        largest_gap: Largest difference of a share from the expected one.
    """

    table: pd.DataFrame
    statistic: float
    degrees: int
    p: float
    largest_gap: float


def d_calibration(
    frame: pd.DataFrame,
    survival: pd.DataFrame,
    times: npt.ArrayLike | None = None,
    bins: int = 10,
    *,
    watched: Watched = "through",
    level: float = 0.95,
) -> DCalibration:
    """Compare where events fall on their own predicted curves with the uniform they should follow.

    A calibrated curve read at its customer's event is uniform on [0, 1]. An event between two of
    the ``times`` counts evenly for all survival between the two predictions there, so coarse
    times cost power and not the level. Where rows are lost from sight between the times, curves
    are read off with a constant hazard between two times, at the end of sight or over the day of
    the event; a censored row stands evenly for all survival below. Rows of one customer are taken
    together: the paper's chi-square takes them, and the censored, for independent counts.

    Args:
        frame: ``duration``, ``event``; ``customer_id`` where rows share customers.
        survival: Predicted chance of no event by each of its columns' times, index of ``frame``.
        times: Which columns to use; all by default. What is after the last one is not judged.
        bins: Of equal width.
        watched: As in ``brier``.
        level: Coverage of the shares' intervals (0-1), pointwise.

    Raises:
        ContractError: Predictions do not fit the frame, or there are fewer than two bins.

    Source:
        Haider, Hoehn, Davis & Greiner (2020), section 3.5; grouped times and clusters ours.
    """
    if bins < 2:
        raise ContractError(f"D-calibration needs two bins or more; got {bins}")
    grid, own = survival_columns(frame, survival, times)
    known = outcomes(frame, watched=watched)
    curve = np.column_stack([np.ones(len(frame)), own.to_numpy(float)]).clip(0, 1)
    return spread_over_bins(known, curve, np.append(0.0, grid), bins, level)


def spread_over_bins(
    known: Outcomes, curve: Floats, grid: Floats, bins: int, level: float
) -> DCalibration:
    """``d_calibration`` of curves ``(rows, times)`` on ``grid``, both from time 0 on."""
    high, low = _stretch(known, curve, grid)
    edges = np.linspace(1, 0, bins + 1)
    width = high - low
    shares = np.empty((len(high), bins))
    for number, (top, bottom) in enumerate(pairwise(edges)):
        inside = np.minimum(high, top) - np.maximum(low, bottom)
        # a stretch without width, where the curve is flat, lies in one bin
        point = (high <= top) & ((high > bottom) | ((bottom == 0) & (high == 0)))
        shares[:, number] = np.where(
            width > 0, np.clip(inside, 0, None) / np.where(width > 0, width, 1), point
        )
    return _compared(known, edges, shares, np.full_like(shares, 1 / bins), level)


def spread_of_cause(
    known: Outcomes, curve: Floats, grid: Floats, bins: int, level: float
) -> DCalibration:
    """``spread_over_bins`` of one of several causes.

    One less the incidence does not come down to 0, so the share expected in a bin is the part of
    it that the predicted curves pass by the last time; events count for those lost from sight
    before them.
    """
    rows = np.arange(len(curve))
    seen = known.happened & (known.duration <= grid[-1])
    after = np.clip(np.searchsorted(grid, known.duration, side="left"), 1, len(grid) - 1)
    high, low = curve[rows, after - 1], curve[rows, after]
    weight = np.zeros(len(rows))
    weight[seen] = 1 / known.sight(known.duration[seen])
    edges = np.linspace(1, 0, bins + 1)
    shares, expected = np.empty((len(rows), bins)), np.empty((len(rows), bins))
    for number, (top, bottom) in enumerate(pairwise(edges)):
        inside = np.clip(np.minimum(high, top) - np.maximum(low, bottom), 0, None)
        point = (high <= top) & (high > bottom)
        width = high - low
        part = np.where(width > 0, inside / np.where(width > 0, width, 1), point)
        shares[:, number] = weight * part
        expected[:, number] = np.clip(top - np.maximum(curve[:, -1], bottom), 0, None)
    return _compared(known, edges, shares, expected, level)


def _compared(
    known: Outcomes, edges: Floats, shares: Floats, expected: Floats, level: float
) -> DCalibration:
    """Shares of the rows beside those expected, ``(rows, bins)``.

    Args:
        known: The rows.
        edges: Of the bins, from 1 down to 0.
        shares: What was seen.
        expected: What should be.
        level: Coverage of the intervals.
    """
    from scipy.stats import chi2

    n, m = len(shares), known.customers
    share, due = shares.mean(axis=0), expected.mean(axis=0)
    summed = known.sums(shares - expected)
    about = summed - summed.mean(axis=0)
    covariance = about.T @ about * (m / max(m - 1, 1)) / n**2
    pooled = _pooled(n * due)
    values, vectors = np.linalg.eigh(pooled @ covariance @ pooled.T)
    useful = values > _RANK * max(values.max(), 1e-300)
    along = vectors[:, useful].T @ (pooled @ (share - due))
    statistic = float((np.square(along) / values[useful]).sum()) if m > 1 else 0.0
    degrees = int(useful.sum()) if m > 1 else 0
    margin = ndtri((1 + level) / 2) * np.sqrt(np.diag(covariance))
    table = pd.DataFrame(
        {
            "above": edges[1:],
            "upto": edges[:-1],
            "share": share,
            "expected": due,
            "ci_low": np.clip(share - margin, 0, 1),
            "ci_high": np.clip(share + margin, 0, 1),
        }
    )
    p = float(chi2.sf(statistic, degrees)) if degrees else 1.0
    gap = float(np.abs(share - due).max())
    return DCalibration(table, statistic, degrees, p, gap)


def _pooled(expected: Floats) -> Floats:
    """Sums of neighbouring bins that expect enough rows for a normal statistic, as a matrix."""
    groups: list[list[int]] = []
    for number in range(len(expected)):
        if not groups or expected[groups[-1]].sum() >= _FEWEST_EXPECTED:
            groups.append([])
        groups[-1].append(number)
    if len(groups) > 1 and expected[groups[-1]].sum() < _FEWEST_EXPECTED:
        last = groups.pop()
        groups[-1] += last
    matrix = np.zeros((len(groups), len(expected)))
    for row, own in enumerate(groups):
        matrix[row, own] = 1.0
    return matrix


def _stretch(known: Outcomes, curve: Floats, grid: Floats) -> tuple[Floats, Floats]:
    """Between which two predicted survivals each row's event lies."""
    rows = np.arange(len(curve))
    after = np.searchsorted(grid, known.duration, side="left")
    past = after >= len(grid)
    after = np.clip(after, 1, len(grid) - 1)
    censored = ~known.ended & ~past
    if (censored & (known.duration != grid[after])).any():
        # whoever is lost between two times hides events after that only: those seen lie earlier
        # between them than all do, and must be placed
        whole = known.watched == "through" and bool((known.duration % 1 == 0).all())
        low = _read_off(curve, grid, known.duration)
        high = _read_off(curve, grid, known.duration - 1) if whole else low.copy()
    else:
        high, low = curve[rows, after - 1].copy(), curve[rows, after].copy()
    high[censored] = low[censored]
    low[censored] = 0.0
    high[past], low[past] = curve[past, -1], 0.0
    return high, low


def _read_off(curve: Floats, grid: Floats, at: Floats) -> Floats:
    """Each row's curve at its own time, the hazard constant between two times."""
    rows = np.arange(len(curve))
    after = np.clip(np.searchsorted(grid, at, side="left"), 1, len(grid) - 1)
    part = np.clip((at - grid[after - 1]) / (grid[after] - grid[after - 1]), 0, 1)
    found: Floats = curve[rows, after - 1] ** (1 - part) * curve[rows, after] ** part
    return found
