"""Whether this week's customers look like last week's to the model, and its scores alike."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import chi2

from journeylab.churn.columns import RESERVED
from journeylab.churn.words import covariate_words
from journeylab.errors import ContractError

Floats = npt.NDArray[np.float64]

# The customary bands of the index, and what each asks for.
BANDS = (
    (0.10, "stable", "score on"),
    (0.25, "shifted", "look at what changed before acting on ranks; keep the model under watch"),
    (float("inf"), "broken", "do not act on the scores: find the cause, then fit anew"),
)
_BINS = 10
# A few rows in a cell must not make an index infinite.
_SMOOTHING = 0.5
_CATEGORIES = 20
_FEWEST = 50


@dataclass(frozen=True, slots=True, eq=False)
class Stability:
    """Two weeks of the same model, side by side.

    Attributes:
        scores: One row per horizon: ``horizon_days``, ``psi`` with ``chance`` (its 95 % point if
            nothing had changed), ``band``, ``todo``; ``before``, ``now`` (mean risk), ``shift``
            with ``ci_low``, ``ci_high`` (paired where most customers are in both).
        segments: The same shift per segment: ``segment, horizon_days, customers_before,
            customers, before, now, shift, ci_low, ci_high``; intervals are missing where a segment
            has one customer.
        features: One row per covariate, the most changed first: ``covariate``, ``psi``,
            ``chance``, ``band``, ``todo``, ``missing_before``, ``missing`` (shares), ``unseen``
            (share of rows with a category that was not there before).
        n_before, n_now, n_both: Customers.
        before, now: The landmarks.
    """

    scores: pd.DataFrame
    segments: pd.DataFrame
    features: pd.DataFrame
    n_before: int
    n_now: int
    n_both: int
    before: pd.Timestamp
    now: pd.Timestamp

    @property
    def band(self) -> str:
        """The worst band of the scores."""
        names = [name for _, name, _ in BANDS]
        return names[max(names.index(band) for band in self.scores["band"])]

    def advice(self) -> str:
        """One or two sentences: whether to act on this week's scores."""
        worst = self.scores.loc[self.scores["psi"].idxmax()]
        told = (
            f"Scores are {self.band} against {self.before.date()} (index {worst['psi']:.3f} at "
            f"{worst['horizon_days']:.0f} days): {worst['todo']}."
        )
        moved = self.features[self.features["band"] != BANDS[0][1]]
        if moved.empty:
            return told
        names = ", ".join(moved["covariate"].head(3).map(covariate_words))
        return f"{told} {len(moved)} of {len(self.features)} covariates have moved, first {names}."


def stability(
    before: pd.DataFrame,
    now: pd.DataFrame,
    risk_before: pd.DataFrame,
    risk_now: pd.DataFrame,
    *,
    by: str | None = None,
    covariates: Sequence[str] | None = None,
) -> Stability:
    """Compare two landmarks that were scored by the same fit.

    The population stability index adds up (share now - share before) x log of their ratio over
    cells that hold equal shares before; up to 0.10 is called stable, from 0.25 on broken. It is
    above 0 by chance alone, so it counts as moved only beyond its 95 % point under no change:
    (1/n + 1/m) times a chi-square quantile, which is too wide by a little where the same
    customers stand in both weeks.

    Args:
        before: Rows of the earlier landmark.
        now: Rows of the later one.
        risk_before: Scores of ``before``, its index, one column per horizon in days.
        risk_now: Scores of ``now``, the same columns.
        by: Column of segments, e.g. ``store_id`` or ``tier``.
        covariates: Columns to compare; by default all that are not reserved and in both.

    Raises:
        ContractError: A frame has several landmarks or fewer than 50 rows, the scores do not fit
            the frames, the earlier one is not earlier, or a column is missing.

    Source:
        Yurdakul & Naranjo, "Statistical properties of the population stability index" (2020).
    """
    first, second = _landmark("before", before), _landmark("now", now)
    if first >= second:
        raise ContractError(f"before must be earlier than now; got {first.date()}, {second.date()}")
    for name, frame, risk in (("before", before, risk_before), ("now", now, risk_now)):
        if not risk.index.equals(frame.index):
            raise ContractError(f"the scores of {name} must have the index of its rows")
        if bad := int((~np.isfinite(risk.to_numpy(float))).any(axis=1).sum()):
            raise ContractError(f"the scores of {name} have gaps in {bad} of {len(risk)} rows")
    if list(risk_before.columns) != list(risk_now.columns) or not len(risk_now.columns):
        raise ContractError(
            f"both weeks need the same horizons; got {list(risk_before.columns)} and "
            f"{list(risk_now.columns)}"
        )
    names = _names(before, now, covariates, by)
    scores, segments = [], []
    for horizon in risk_now.columns:
        old, new = (
            pd.Series(risk[horizon].to_numpy(float), frame["customer_id"])
            for risk, frame in ((risk_before, before), (risk_now, now))
        )
        row = {"horizon_days": horizon, **_index(old, new), **_shift(old, new)}
        scores.append(row)
        if by is None:
            continue
        old_by, new_by = (_labels(frame[by]) for frame in (before, now))
        for label in sorted({*old_by, *new_by}):
            one, other = old[old_by == label], new[new_by == label]
            counts = {"customers_before": len(one), "customers": len(other)}
            moved = _shift(one, other)
            segments.append({"segment": label, "horizon_days": horizon, **counts, **moved})
    features = []
    for name in names:
        old, new = before[name], now[name]
        unseen = 0.0
        if not pd.api.types.is_numeric_dtype(new):
            unseen = float((new.notna() & ~new.isin(old.dropna().unique())).mean())
        told = {"covariate": name, **_index(old, new), "missing_before": float(old.isna().mean())}
        features.append({**told, "missing": float(new.isna().mean()), "unseen": unseen})
    columns = ["covariate", "psi", "chance", "band", "todo", "missing_before", "missing", "unseen"]
    table = pd.DataFrame(features, columns=columns)
    shift = ["before", "now", "shift", "ci_low", "ci_high"]
    parts = ["segment", "horizon_days", "customers_before", "customers", *shift]
    return Stability(
        scores=pd.DataFrame(scores),
        segments=pd.DataFrame(segments, columns=parts),
        features=table.sort_values(
            ["psi", "covariate"], ascending=[False, True], ignore_index=True
        ),
        n_before=len(before),
        n_now=len(now),
        n_both=int(now["customer_id"].isin(before["customer_id"]).sum()),
        before=first,
        now=second,
    )


def population_stability(before: pd.Series, now: pd.Series) -> tuple[float, int]:
    """The index of two samples of one column, and how many cells it was taken over.

    Numbers are cut at the deciles of ``before``; categories are compared one by one, the rarest
    together; missing values are a cell of their own.
    """
    old, new = _cells(before, now)
    size = int(max(old.max(), new.max())) + 1
    counts = [np.bincount(part, minlength=size).astype(float) for part in (old, new)]
    there = (counts[0] + counts[1]) > 0
    shares = [(c[there] + _SMOOTHING) / (c[there] + _SMOOTHING).sum() for c in counts]
    difference = shares[1] - shares[0]
    return float((difference * np.log(shares[1] / shares[0])).sum()), int(there.sum())


def _index(before: pd.Series, now: pd.Series) -> dict[str, object]:
    psi, cells = population_stability(before, now)
    chance = 0.0
    if cells > 1:
        chance = float((1 / len(before) + 1 / len(now)) * chi2.ppf(0.95, cells - 1))
    band, todo = next((name, todo) for limit, name, todo in BANDS if psi < limit)
    if psi <= chance:
        _, band, todo = BANDS[0]
    return {"psi": psi, "chance": chance, "band": band, "todo": todo}


def _shift(before: pd.Series, now: pd.Series) -> dict[str, float]:
    """Change of the mean score; by the customers' own differences where they are the same."""
    if not len(before) or not len(now):
        level = [float(part.mean()) if len(part) else np.nan for part in (before, now)]
        empty = dict.fromkeys(("shift", "ci_low", "ci_high"), np.nan)
        return {"before": level[0], "now": level[1], **empty}
    value = float(now.mean() - before.mean())
    # each customer's part in both means: those in both weeks count with their difference
    parts = pd.concat(
        [(now - now.mean()) / len(now), -(before - before.mean()) / len(before)], axis=1
    )
    each = parts.sum(axis=1).to_numpy(float)
    margin = 1.96 * float(np.sqrt(np.square(each).sum())) if len(each) > 1 else np.nan
    return {
        "before": float(before.mean()),
        "now": float(now.mean()),
        "shift": value,
        "ci_low": value - margin,
        "ci_high": value + margin,
    }


def _cells(before: pd.Series, now: pd.Series) -> tuple[npt.NDArray[np.int64], ...]:
    kind = pd.api.types
    if kind.is_numeric_dtype(before) and kind.is_numeric_dtype(now):
        old, new = (part.to_numpy(dtype=float, na_value=np.nan) for part in (before, now))
        there = old[np.isfinite(old)]
        cuts = np.arange(1, _BINS) / _BINS
        edges = np.unique(np.quantile(there, cuts)) if len(there) else np.empty(0)
        return tuple(
            np.where(np.isfinite(part), 1 + np.searchsorted(edges, part, side="left"), 0)
            for part in (old, new)
        )
    texts = [
        part.astype("object").map(str, na_action="ignore").where(part.notna(), np.nan)
        for part in (before, now)
    ]
    common = texts[0].value_counts()
    known = {name: place for place, name in enumerate(sorted(common.index[:_CATEGORIES]), start=2)}
    # 0 missing, 1 rare or new
    return tuple(
        text.map(known).where(text.isna() | text.isin(list(known)), 1).fillna(0).to_numpy(np.int64)
        for text in texts
    )


def _labels(column: pd.Series) -> npt.NDArray[np.object_]:
    return column.astype("object").where(column.notna(), "none").map(str).to_numpy(object)


def _landmark(name: str, frame: pd.DataFrame) -> pd.Timestamp:
    if missing := [column for column in ("landmark", "customer_id") if column not in frame.columns]:
        raise ContractError(f"{name} needs {missing}; it has {list(frame.columns)}")
    days = pd.to_datetime(frame["landmark"])
    if frame.empty or (days != days.iloc[0]).any() or frame["customer_id"].duplicated().any():
        raise ContractError(f"{name} must hold one landmark and each customer once")
    if len(frame) < _FEWEST:
        raise ContractError(
            f"{name} has {len(frame)} rows; an index of shares needs at least {_FEWEST}"
        )
    return pd.Timestamp(days.max())


def _names(
    before: pd.DataFrame,
    now: pd.DataFrame,
    covariates: Sequence[str] | None,
    by: str | None,
) -> list[str]:
    if by is not None and not (by in before.columns and by in now.columns):
        raise ContractError(f"there is no column {by!r} in both weeks to part by")
    if covariates is None:
        return [
            str(name) for name in now.columns if name not in RESERVED and name in before.columns
        ]
    lacking = [name for name in covariates if not (name in before.columns and name in now.columns)]
    if lacking:
        raise ContractError(f"no covariate {lacking} in both weeks")
    return list(covariates)
