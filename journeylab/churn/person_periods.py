"""Rows of customer and bin, each with what happened in it: all of them, or a weighted few."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from journeylab.churn.bins import Bins, exposure
from journeylab.churn.observations import Observations

_CHUNK_ROWS = 100_000


@dataclass(frozen=True, slots=True, eq=False)
class PersonPeriods:
    """What the trees learn from.

    Attributes:
        row: Number of the row of the frame.
        bin: Number of the bin.
        cause: What happened in it: 0 for nothing.
        weight: How many rows of the full expansion this one stands for, float32.
    """

    row: npt.NDArray[np.int32]
    bin: npt.NDArray[np.int16]
    cause: npt.NDArray[np.int8]
    weight: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.row)


def person_periods(
    rows: Observations, bins: Bins, sample: int | None, rng: np.random.Generator
) -> PersonPeriods:
    """Expand customers into bins at risk, or draw a few of them.

    A row that passes part of a bin counts by that part. Every event is kept. Of the bins passed
    without one, ``sample`` points are drawn per row, systematically and in proportion to the
    bin's marginal hazard: the gradient there is the hazard, so that this is where a row
    tells most. Each stands for the inverse of its chance; weighted sums are unbiased.

    Args:
        rows: What was seen.
        bins: From ``lay_out``.
        sample: Rows without event per row, at most; ``None`` for all.
        rng: Of the draw.
    """
    found = []
    hazard = bins.hazard.sum(axis=1).astype(np.float32)
    correction = bins.correction.astype(np.float32)
    for number, part in enumerate(rows.parts(_CHUNK_ROWS)):
        share, event_bin = exposure(part, bins.edges)
        event_row = np.flatnonzero(event_bin >= 0)
        if sample is None:
            row, passed = np.nonzero(share)
            weight = share[row, passed]
        else:
            row, passed, weight = _drawn(share, hazard, sample, rng)
        first = number * _CHUNK_ROWS
        found.append(
            (
                np.concatenate([event_row, row]) + first,
                np.concatenate([event_bin[event_row], passed]),
                np.concatenate([part.cause[event_row], np.zeros(len(row), dtype=np.int64)]),
                np.concatenate(
                    [np.ones(len(event_row), dtype=np.float32), weight * correction[passed]]
                ),
            )
        )
    row, bin_, cause, weights = (np.concatenate(column) for column in zip(*found, strict=True))
    return PersonPeriods(
        row.astype(np.int32),
        bin_.astype(np.int16),
        cause.astype(np.int8),
        weights.astype(np.float32),
    )


def _drawn(
    share: npt.NDArray[np.float32],
    hazard: npt.NDArray[np.float32],
    sample: int,
    rng: np.random.Generator,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    mass = np.cumsum(share * hazard, axis=1, dtype=np.float64)
    total = mass[:, -1]
    start = rng.random(len(share))
    watched = np.flatnonzero(total > 0)
    points = (start[watched, None] + np.arange(sample)) / sample * total[watched, None]
    # rounding must not carry the last point past the last bin that was passed
    last = share.shape[1] - 1 - np.argmax(share[watched][:, ::-1] > 0, axis=1)
    picked = np.empty(points.shape, dtype=np.int64)
    for column in range(sample):
        below = (mass[watched] <= points[:, column, None]).sum(axis=1)
        picked[:, column] = np.minimum(below, last)
    weight = (total[watched, None] / sample / hazard[picked]).astype(np.float32)
    # a bin drawn several times is one row of so much more weight; picks ascend
    for column in range(1, sample):
        same = picked[:, column] == picked[:, column - 1]
        weight[same, column] += weight[same, column - 1]
        weight[same, column - 1] = 0.0
    rows = np.repeat(watched, sample).reshape(points.shape)
    kept = weight > 0
    return rows[kept], picked[kept], weight[kept]
