"""Why the hazard is what it is: what each covariate adds at each time."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from journeylab.churn.covariates import Covariates
from journeylab.churn.leaf_paths import leaf_paths, path_contributions

TIME = "time"


@dataclass(frozen=True, slots=True, eq=False)
class Explanation:
    """Contributions to the log-odds of the event, given none before.

    Attributes:
        covariates: Names; in the layout ``sampled`` ``time`` is the last: what the bin adds beyond
            its marginal hazard. With one output per bin time is no covariate.
        times: As asked.
        index: Of the rows.
        contributions: ``(rows, times, covariates)``, log-odds; positive brings the event closer.
        baseline: Log-odds without any covariate known, ``(rows, times)``.
        margin: ``baseline`` plus all contributions: the log-odds of the fit, ``(rows, times)``.
    """

    covariates: tuple[str, ...]
    times: tuple[float, ...]
    index: pd.Index
    contributions: npt.NDArray[np.float32]
    baseline: npt.NDArray[np.float32]
    margin: npt.NDArray[np.float32]

    def at(self, time: float) -> pd.DataFrame:
        """Contributions at one of the times: a row per row of the frame, a column per covariate."""
        return pd.DataFrame(
            self.contributions[:, self.times.index(time)], self.index, columns=list(self.covariates)
        )

    def of(self, row: Hashable) -> pd.DataFrame:
        """Contributions for one row: a row per covariate, a column per time."""
        found = self.contributions[self.index.get_loc(row)]
        return pd.DataFrame(found.T, list(self.covariates), columns=list(self.times))

    def mean_size(self) -> pd.DataFrame:
        """Mean size of the contributions: a row per covariate, a column per time; for a map."""
        size = np.abs(self.contributions).mean(axis=0).T
        return pd.DataFrame(size, list(self.covariates), columns=list(self.times))


def explain_rows(
    trees: Any,
    matrix: npt.NDArray[np.float32],
    base: npt.NDArray[np.float32],
    bins: npt.NDArray[np.int64],
    covariates: Covariates,
    *,
    layout: str,
    index: pd.Index,
    times: Sequence[float],
    cause: int,
) -> Explanation:
    """Path-dependent TreeSHAP of every row at every time.

    Args:
        trees: The booster of a fit.
        matrix: Numbers of the rows, without the bin.
        base: Margin of each bin before any tree, ``(bins, outputs)``.
        bins: Of the times.
        covariates: What the numbers belong to.
        layout: ``sampled`` or ``vector``.
        index: Of the rows.
        times: As asked.
        cause: Number of the cause, from 0; it is explained against no event.
    """
    sampled = layout == "sampled"
    start = base[bins, cause] if base.shape[1] == 1 else base[bins, cause + 1]
    causes = max(1, base.shape[1] - 1)
    if sampled:
        signs = {0: 1.0} if causes == 1 else {cause + 1: 1.0, 0: -1.0}
        paths = leaf_paths(trees, signs)
    else:
        # a leaf holds the causes of a bin side by side
        paths = leaf_paths(trees, {0: 1.0})
        paths = replace(paths, values=paths.values[:, cause::causes])
    asked, position = np.unique(bins, return_inverse=True)
    clock = matrix.shape[1] if sampled else None
    by_number, mean = path_contributions(paths, matrix, asked, clock)
    names = (*covariates.names, TIME) if sampled else covariates.names
    owners = (*covariates.owners, len(covariates.names)) if sampled else covariates.owners
    found = np.zeros((len(matrix), len(names), len(asked)))
    for number, owner in enumerate(owners):
        found[:, owner] += by_number[:, number]
    contributions = np.moveaxis(found, 1, 2)[:, position]
    baseline = np.broadcast_to(mean[position] + start, (len(matrix), len(bins)))
    return Explanation(
        names,
        tuple(times),
        index,
        contributions.astype(np.float32),
        baseline.astype(np.float32),
        (baseline + contributions.sum(axis=2)).astype(np.float32),
    )
