"""Blocks: counts, means and centred cross-products of a metric's columns, cell by cell."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from journeylab.errors import ContractError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Moments of one metric's columns over one set of customers.

    Attributes:
        n: Customers (of a cluster sample: clusters).
        columns: Names of the columns, the metric's own first.
        mean: Their means, ``(columns,)``.
        cross: Sums of centred squares and products, ``(columns, columns)``.
    """

    n: int
    columns: tuple[str, ...]
    mean: Floats
    cross: Floats

    @property
    def covariance(self) -> Floats:
        """Sample covariance (n - 1), ``(columns, columns)``; zero below two customers."""
        return self.cross / max(self.n - 1, 1)

    def at(self, columns: Sequence[str]) -> "Sample":
        """The same customers, with some of the columns in another order."""
        picks = [self.columns.index(name) for name in columns]
        return Sample(self.n, tuple(columns), self.mean[picks], self.cross[np.ix_(picks, picks)])

    def __add__(self, other: "Sample") -> "Sample":
        """Moments of both sets of customers taken together."""
        n = self.n + other.n
        if self.columns != other.columns:
            raise ContractError(f"samples of {self.columns} and of {other.columns} do not add up")
        if not n:
            return self
        gap = other.mean - self.mean
        cross = self.cross + other.cross + np.outer(gap, gap) * (self.n * other.n / n)
        return Sample(n, self.columns, self.mean + gap * (other.n / n), cross)


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Moments of one metric in every cell.

    Attributes:
        columns: Names of its columns, as ``Metric.columns``.
        n: Customers with a value, ``(cells,)``.
        mean: Means, ``(cells, columns)``; 0 in an empty cell.
        cross: Sums of centred squares and products, ``(cells, columns, columns)``.
    """

    columns: tuple[str, ...]
    n: Ints
    mean: Floats
    cross: Floats

    def grouped(self, codes: Ints, groups: int) -> "Block":
        """Cells with the same code (0 to ``groups - 1``) put together."""
        p = len(self.columns)
        n = np.zeros(groups, np.int64)
        np.add.at(n, codes, self.n)
        safe = np.maximum(n, 1)
        # Not sums of n * mean: from a common shift on, nothing is lost on large equal means.
        first = np.zeros((groups, p))
        first[codes[::-1]] = self.mean[::-1]
        offset = np.zeros((groups, p))
        np.add.at(offset, codes, self.n[:, None] * (self.mean - first[codes]))
        mean = first + offset / safe[:, None]
        gap = self.mean - mean[codes]
        cross = np.zeros((groups, p, p))
        np.add.at(cross, codes, self.cross + self.n[:, None, None] * gap[:, :, None] * gap[:, None])
        return Block(self.columns, n, np.where(n[:, None] > 0, mean, 0.0), cross)

    def sample(self, rows: NDArray[np.bool_]) -> Sample:
        """All cells picked by ``rows``, put together."""
        own = Block(self.columns, self.n[rows], self.mean[rows], self.cross[rows])
        if len(own.n) != 1:
            own = own.grouped(np.zeros(len(own.n), np.int64), 1)
        return Sample(int(own.n[0]), self.columns, own.mean[0], own.cross[0])
