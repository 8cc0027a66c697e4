"""Segments: whether an effect differs between kinds of customers, or only seems to."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from journeylab.estimate import Estimate, Moments
from journeylab.experiments.comparison import Comparison, compare
from journeylab.experiments.multiplicity import adjust


@dataclass(frozen=True, slots=True, eq=False)
class Segments:
    """One metric's effect in each segment.

    Attributes:
        rows: ``segment, n, n_control, mean, mean_control, effect, ci_low, ci_high, p, p_bh,
            reason``, largest segment first; ``p_bh`` keeps the share of false findings among the
            segments; empty cells where there is a reason.
        q: Cochran's Q: how far the segments' effects lie apart, in their own errors.
        df: Segments less one.
        p: Chance of effects this different if all segments had the same one.
        i2: Share of the differences that is more than noise (0-1).
        pooled: The common effect, by inverse variance; ``None`` with fewer than two segments.
    """

    rows: pd.DataFrame
    q: float | None
    df: int
    p: float | None
    i2: float | None
    pooled: Estimate | None


def segment_effects(
    moments: Moments, metric: str, variant: str, control: str, *, alpha: float = 0.05
) -> Segments:
    """Compare the arms within each stratum, and the strata with each other.

    Look at ``p`` first: where it is large, segments that seem to differ are noise.

    Args:
        moments: By ``stratum``; by cluster too where clusters were randomised.
        metric: Name of the metric.
        variant: The arm.
        control: What it is compared with.
        alpha: Error of each interval on its own.

    Source:
        Cochran, "The combination of estimates from different experiments" (1954); Higgins &
        Thompson, "Quantifying heterogeneity in a meta-analysis" (2002).
    """
    from scipy.special import chdtrc, ndtri

    found = {
        str(name): compare(part, metric, variant, control, alpha=alpha)
        for name, part in moments.only(variants=[variant, control]).by("stratum").items()
    }
    ordered = sorted(found.items(), key=lambda item: -(item[1].n + item[1].n_control))
    rows = pd.DataFrame([_row(name, row) for name, row in ordered], columns=_COLUMNS)
    told = rows["reason"] == ""
    rows["p_bh"] = np.nan
    if told.any():
        rows.loc[told, "p_bh"] = adjust(rows.loc[told, "p"].to_numpy(float), "bh")
    there = [row for _, row in ordered if row.absolute is not None and row.standard_error]
    if len(there) < 2:
        return Segments(rows, None, max(len(there) - 1, 0), None, None, None)
    effects = np.array([row.absolute.value for row in there if row.absolute])
    weights = np.array([row.standard_error or np.inf for row in there]) ** -2.0
    common = float(weights @ effects / weights.sum())
    q, df = float(weights @ (effects - common) ** 2), len(there) - 1
    reach = float(ndtri(1 - alpha / 2)) / float(np.sqrt(weights.sum()))
    unit = moments.metric(metric).unit or metric
    pooled = Estimate(common, common - reach, common + reach, unit, 1 - alpha)
    i2 = max(0.0, (q - df) / q) if q > 0 else 0.0
    return Segments(rows, q, df, float(chdtrc(df, q)), i2, pooled)


_COLUMNS = [
    "segment", "n", "n_control", "mean", "mean_control", "effect", "ci_low", "ci_high", "p",
    "p_bh", "reason",
]  # fmt: skip


def _row(name: str, row: Comparison) -> dict[str, object]:
    cells: dict[str, object] = {
        "segment": name, "n": row.n, "n_control": row.n_control, "mean": row.mean,
        "mean_control": row.mean_control, "p": row.p, "reason": row.reason,
    }  # fmt: skip
    if row.absolute is not None:
        effect = row.absolute
        cells |= {"effect": effect.value, "ci_low": effect.ci_low, "ci_high": effect.ci_high}
    return cells
