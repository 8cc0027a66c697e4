"""Columns that know the outcome: by what is missing in them, by a value, or by their ranking."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import beta

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Way = Literal["missing", "value", "rank"]

# What the kit itself counts on the landmark; a column is judged against these together.
BASELINE = (
    "days_since_last", "frequency", "recency_days", "age_days", "mean_gap_days",
    "last_gap_days", "orders", "spend", "spend_mean", "purchases_30d", "purchases_90d",
    "silence_in_gaps",
)  # fmt: skip
_MOST_ROWS = 40_000
_FOLDS = 3
_BINS = 64
_HORIZONS = (7, 14, 30, 60, 90, 180, 365)
# Fewer rows of either outcome say nothing.
_FEWEST = 25
# Odds of the event there and elsewhere, beyond what the baseline says of the same rows. Strong
# honest values reach 15 (a two-year contract); a value written afterwards has no bound.
_ODDS = 30.0
# Ranking alone: better than any honest column seen, and much better than the baseline together.
_CERTAIN = 0.98
_SUSPECT = 0.93
_ERROR_LEFT = 0.35
_SURE = 1e-3
# Where fewer are known at a horizon, those left are a choice: the leavers, and who stayed longest.
_KNOWN = 0.5
_PERMUTATIONS = 20


@dataclass(frozen=True, slots=True)
class Giveaway:
    """One column that knows the outcome.

    Attributes:
        column: Its name.
        way: By what is ``missing``, by a ``value``, or by how it ``rank``s.
        rows: How many rows show it.
        evidence: In words.
    """

    column: str
    way: Way
    rows: int
    evidence: str


@dataclass(frozen=True, slots=True, eq=False)
class Giveaways:
    """What was found, and how strong each column is.

    Attributes:
        giveaways: At most one per column.
        strengths: ``column, auc, horizon_days``, the strongest first.
        contrast: Whether there were enough rows of either outcome to judge.
    """

    giveaways: tuple[Giveaway, ...]
    strengths: pd.DataFrame
    contrast: bool


@dataclass(frozen=True, slots=True, eq=False)
class _Outcome:
    """Who has the event by one horizon, among those of whom it is known."""

    horizon: float
    known: Flags
    event: Flags


def find_giveaways(
    frame: pd.DataFrame, columns: Sequence[str], *, rng: int | np.random.Generator
) -> Giveaways:
    """Find columns that know more of the outcome than can be known.

    Two tests, over folds by customer so that nothing is judged on what it was learnt from, and
    within landmarks where these hold many rows, so that a column is not credited with the calendar.

    - A missing entry, a category or a frequent number: the ratio of the odds of the event there
      and elsewhere is at least 30 times what the landmark, the follow-up and the recency and
      frequency columns say of the same rows (lower confidence bound, over all groups).
    - Ranking: the column alone tells who has the event within some horizon with an AUC whose lower
      bound is above 0.98 and leaves less than half the error of the recency and frequency columns
      together, or above 0.93 and leaves less than 35 % of it. A permutation of the outcomes must
      come nowhere near.

    Recency is honestly strong: an AUC of 0.8 to 0.9 is usual, and is no leak.

    Args:
        frame: ``landmark, customer_id, duration, event`` and the columns.
        columns: To look at.
        rng: Of the sample and the folds.
    """
    draw = np.random.default_rng(rng)
    rows = frame
    if len(frame) > _MOST_ROWS:
        rows = frame.iloc[np.sort(draw.choice(len(frame), _MOST_ROWS, replace=False))]
    people = np.asarray(pd.factorize(rows["customer_id"])[0])
    fold = draw.permutation(np.arange(people.max() + 1) % _FOLDS)[people]
    event = rows["event"].to_numpy(float) == 1
    rows = rows.assign(**{name: as_read(rows[name]) for name in columns})
    outcomes = _outcomes(rows)
    if not outcomes:
        none = pd.DataFrame({"column": [], "auc": [], "horizon_days": []})
        return Giveaways((), none, contrast=False)
    stratum = _strata(rows)
    judge = _Judge(rows, event, fold)
    found, strengths = [], []
    groups = {name: list(_groups(rows[name])) for name in columns}
    tests = max(1, sum(len(own) for own in groups.values()))
    for name in columns:
        cells = _cells(rows[name])
        auc, best = 0.5, None
        for outcome in outcomes:
            value = _ranking(rows[name], cells, outcome, fold, stratum)
            if value > auc or best is None:
                auc, best = value, outcome
        strengths.append((name, auc, best.horizon if best else np.nan))
        given = judge.by_group(name, groups[name], tests)
        if given is None and best is not None:
            given = judge.by_rank(name, cells, auc, best, stratum, draw)
        if given is not None:
            found.append(given)
    table = pd.DataFrame(strengths, columns=["column", "auc", "horizon_days"])
    table = table.sort_values(["auc", "column"], ascending=[False, True], ignore_index=True)
    return Giveaways(tuple(found), table, contrast=True)


class _Judge:
    """What recency and frequency say of the same rows, asked for only where it is needed."""

    def __init__(self, rows: pd.DataFrame, event: Flags, fold: Ints) -> None:
        self._rows, self._event, self._fold = rows, event, fold
        self._chance: dict[str, Floats] = {}
        self._errors: dict[tuple[str, float], float] = {}

    def by_group(
        self, name: str, groups: Sequence[tuple[Way, str, Flags]], tests: int
    ) -> Giveaway | None:
        """The group of rows whose odds are furthest from what is expected of them."""
        worst: tuple[float, Giveaway] | None = None
        sure = _SURE / tests
        if min(self._event.sum(), (~self._event).sum()) < _FEWEST:
            return None
        for way, label, inside in groups:
            n, seen = int(inside.sum()), int(self._event[inside].sum())
            rest, others = len(inside) - n, int(self._event[~inside].sum())
            low, high = _bounds(seen, n, sure)
            lower, higher = _bounds(others, rest, sure)
            up, down = _odds(low) / _odds(higher), _odds(lower) / _odds(high)
            if max(up, down) < _ODDS:
                continue
            chance = self._expected(name)
            due = float(chance[inside].mean())
            usual = _odds(due) / _odds(float(chance[~inside].mean()))
            ratio = max(up / usual, down * usual)
            if ratio < _ODDS or (worst is not None and worst[0] >= ratio):
                continue
            said = (
                f"where it {label}, {seen} of {n} rows have the event and elsewhere {others} of "
                f"{rest}; by recency, frequency and follow-up it would be {100 * due:.0f} % of "
                f"the {n}, so the odds are at least {min(ratio, 1e6):.0f} times off"
            )
            worst = ratio, Giveaway(name, way, n, said)
        return None if worst is None else worst[1]

    def by_rank(
        self,
        name: str,
        cells: Ints,
        auc: float,
        outcome: _Outcome,
        stratum: Ints,
        draw: np.random.Generator,
    ) -> Giveaway | None:
        """Whether the column ranks the outcome better than can be known."""
        own = outcome.event[outcome.known]
        few, many = sorted([int(own.sum()), int((~own).sum())])
        if few < _FEWEST:
            return None
        low = auc - 2 * _auc_error(auc, few, many)
        if low < _SUSPECT:
            return None
        left = (1 - auc) / max(1 - self._baseline_auc(name, outcome, stratum), 1e-9)
        if not (left < _ERROR_LEFT or (low > _CERTAIN and left < 0.5)):
            return None
        chance = []
        for _ in range(_PERMUTATIONS):
            mixed = outcome.event.copy()
            mixed[outcome.known] = draw.permutation(own)
            shuffled = _Outcome(outcome.horizon, outcome.known, mixed)
            chance.append(_by_cells(cells, shuffled, self._fold, stratum))
        if max(chance) > 0.5 + 0.75 * (auc - 0.5):
            return None
        said = (
            f"alone it tells who has the event within {outcome.horizon:g} days with an AUC of "
            f"{auc:.3f}; recency and frequency reach {1 - (1 - auc) / max(left, 1e-9):.3f} "
            f"together, and by chance it would be {max(chance):.2f} at most"
        )
        return Giveaway(name, "rank", int(outcome.known.sum()), said)

    def _expected(self, name: str) -> Floats:
        """Chance of the event by the landmark, the follow-up and the baseline columns."""
        key = name if name in BASELINE else ""
        if key not in self._chance:
            day = pd.to_datetime(self._rows["landmark"])
            since = day - day.min()
            parts: list[Floats] = [np.asarray(since.dt.days, dtype=float)]
            if (sight := _sight(self._rows)) is not None:
                parts.append(sight)
            parts += self._known(key)
            chance = _learnt(np.column_stack(parts), self._event, self._fold)
            self._chance[key] = np.clip(chance, 0.002, 0.998)
        return self._chance[key]

    def _baseline_auc(self, name: str, outcome: _Outcome, stratum: Ints) -> float:
        key = (name if name in BASELINE else "", outcome.horizon)
        if key not in self._errors:
            parts = self._known(key[0])
            auc = 0.5
            if parts:
                known = outcome.known
                chance = _learnt(
                    np.column_stack(parts)[known], outcome.event[known], self._fold[known]
                )
                auc = max(0.5, _auc(chance, outcome.event[known], stratum[known]))
            self._errors[key] = auc
        return self._errors[key]

    def _known(self, left_out: str) -> list[Floats]:
        """The baseline columns of the frame but one, as numbers."""
        return [
            self._rows[name].to_numpy(dtype=float, na_value=np.nan)
            for name in BASELINE
            if name != left_out
            and name in self._rows.columns
            and pd.api.types.is_numeric_dtype(self._rows[name])
        ]


def as_read(column: pd.Series) -> pd.Series:
    """Text that holds nothing but numbers as numbers; any other column as it is."""
    kind = pd.api.types
    if kind.is_numeric_dtype(column) or kind.is_datetime64_any_dtype(column):
        return column
    if pd.api.types.infer_dtype(column, skipna=True) != "string":
        return column
    text = column.astype("object").str.strip().replace("", np.nan)
    numbers = pd.to_numeric(text, errors="coerce")
    lost = int((numbers.isna() & text.notna()).sum())
    return numbers if lost == 0 and numbers.notna().any() else column


def _outcomes(rows: pd.DataFrame) -> list[_Outcome]:
    """Binary outcomes at several horizons, those with enough rows either way."""
    duration, event = rows["duration"].to_numpy(float), rows["event"].to_numpy(float) == 1
    seen = duration[event]
    if not len(seen):
        return []
    # who was watched for less shows events only, and would credit the calendar with them
    sight = _sight(rows)
    sight = np.full(len(rows), np.inf) if sight is None else sight
    quantiles = np.quantile(seen, [0.1, 0.25, 0.5, 0.75, 0.9])
    longest = float(duration.max())
    horizons = sorted({*(h for h in _HORIZONS if h < longest), *quantiles.tolist(), longest})
    found = []
    for horizon in horizons:
        early = event & (duration <= horizon)
        known = (early | (duration >= horizon)) & (sight >= horizon)
        early &= known
        if known.sum() < _KNOWN * len(rows):
            continue
        if min(early.sum(), (known & ~early).sum()) >= _FEWEST:
            found.append(_Outcome(float(horizon), known, early))
    return found


def _sight(rows: pd.DataFrame) -> Floats | None:
    """Days that each row could have been followed; ``None`` where only the outcome says it.

    A source without dates gives lengths up to one day: there ``followed_until`` is no more than
    the landmark and the duration again.
    """
    if "followed_until" not in rows.columns:
        return None
    gap = pd.to_datetime(rows["followed_until"]) - pd.to_datetime(rows["landmark"])
    days: Floats = np.asarray(gap.dt.days, dtype=float)
    event = rows["event"].to_numpy(float) == 1
    return days if (rows["duration"].to_numpy(float)[event] < days[event]).any() else None


def _strata(rows: pd.DataFrame) -> Ints:
    """Landmarks, where there are many rows at each and they say nothing of the outcome."""
    codes = np.asarray(pd.factorize(rows["landmark"])[0], dtype=np.int64)
    many = codes.max() + 1 <= len(rows) / 50
    if "followed_until" in rows.columns and _sight(rows) is None:
        many = False
    return codes if many else np.zeros(len(rows), dtype=np.int64)


def _groups(column: pd.Series) -> Iterator[tuple[Way, str, Flags]]:
    """Rows that share something a column may betray: no entry, an entry, or one entry."""
    gone = column.isna().to_numpy(bool)
    if _FEWEST <= gone.sum() <= len(gone) - _FEWEST:
        yield "missing", "is missing", gone
    filled = column[~gone]
    if filled.empty:
        return
    text = not pd.api.types.is_numeric_dtype(column)
    counts = filled.value_counts()
    # numbers: sentinels and zeros, which stand out by how often they occur
    least = _FEWEST if text else max(_FEWEST, 0.05 * len(column))
    for value, number in list(counts.items())[:50]:
        if least <= number <= len(column) - _FEWEST:
            yield "value", f"is {value!r}", (column == value).fillna(False).to_numpy(bool)


def _cells(column: pd.Series) -> Ints:
    """The column cut into cells: quantiles of numbers, categories, and one cell for missing."""
    numeric = pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column)
    if not numeric and not pd.api.types.is_datetime64_any_dtype(column):
        return np.asarray(pd.factorize(column.astype("object"))[0], dtype=np.int64) + 1
    if numeric:
        values = column.to_numpy(dtype=float, na_value=np.nan)
    else:
        values = pd.Series(column).astype("int64").to_numpy(float)
        values[column.isna().to_numpy(bool)] = np.nan
    there = np.isfinite(values)
    cells = np.zeros(len(values), dtype=np.int64)
    if not there.any():
        return cells
    distinct = np.unique(values[there])
    if len(distinct) <= _BINS:
        edges = distinct[1:]
    else:
        edges = np.unique(np.quantile(values[there], np.arange(1, _BINS) / _BINS))
    cells[there] = 1 + np.searchsorted(edges, values[there], side="right")
    return cells


def _ranking(column: pd.Series, cells: Ints, outcome: _Outcome, fold: Ints, stratum: Ints) -> float:
    """The better of the column's own order, either way, and of what its cells teach."""
    best = _by_cells(cells, outcome, fold, stratum)
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        values = column.to_numpy(dtype=float, na_value=np.nan)
        known = outcome.known & np.isfinite(values)
        event = outcome.event[known]
        if known.sum() >= 0.9 * outcome.known.sum() and 0 < event.sum() < len(event):
            straight = _auc(values[known], event, stratum[known])
            best = max(best, straight, 1 - straight)
    return best


def _by_cells(cells: Ints, outcome: _Outcome, fold: Ints, stratum: Ints) -> float:
    """AUC of each cell's share of events in the other folds."""
    known = outcome.known
    cell, event, part = cells[known], outcome.event[known].astype(float), fold[known]
    size = int(cells.max()) + 1
    n = np.zeros((_FOLDS, size))
    seen = np.zeros((_FOLDS, size))
    np.add.at(n, (part, cell), 1.0)
    np.add.at(seen, (part, cell), event)
    rest_n, rest_seen = n.sum(0) - n, seen.sum(0) - seen
    mean = rest_seen.sum(1, keepdims=True) / np.maximum(rest_n.sum(1, keepdims=True), 1)
    rate = (rest_seen + mean) / (rest_n + 1)
    # each fold is ranked by its own: the means of the others differ between folds
    both = part * (int(stratum.max()) + 1) + stratum[known]
    return _auc(rate[part, cell], outcome.event[known], both)


def _auc(score: Floats, event: Flags, stratum: Ints) -> float:
    """Share of pairs within strata ranked rightly, equal ones half."""
    order = np.lexsort((score, stratum))
    own, value, happened = stratum[order], score[order], event[order]
    fresh = np.append(True, own[1:] != own[:-1])
    tied = np.cumsum(fresh | np.append(True, value[1:] != value[:-1])) - 1
    count = np.bincount(tied)
    # mean rank of those equal, counted within the stratum
    part = np.cumsum(fresh) - 1
    rank = (np.cumsum(count) - (count - 1) / 2)[tied] - np.flatnonzero(fresh)[part]
    size, with_event = np.bincount(part), np.bincount(part, happened)
    above = np.bincount(part, np.where(happened, rank, 0.0)) - with_event * (with_event + 1) / 2
    pairs = with_event * (size - with_event)
    return float(above[pairs > 0].sum() / pairs.sum()) if pairs.any() else 0.5


def _auc_error(auc: float, few: int, many: int) -> float:
    """Standard error of an AUC, never 0.

    Source:
        Hanley & McNeil (1982).
    """
    auc = min(auc, 1 - 0.5 / few)
    one, two = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    spread = auc * (1 - auc) + (few - 1) * (one - auc**2) + (many - 1) * (two - auc**2)
    return float(np.sqrt(max(spread, 0.0) / (few * many)))


def _learnt(values: Floats, event: Flags, fold: Ints) -> Floats:
    """Chance of the event by small trees, each fold by the others."""
    import xgboost

    settings = {
        "objective": "binary:logistic", "max_depth": 3, "eta": 0.15, "min_child_weight": 5,
        "tree_method": "hist", "device": "cpu", "nthread": 2, "seed": 0,
    }  # fmt: skip
    chance = np.full(len(event), float(event.mean()))
    for number in range(_FOLDS):
        own = fold == number
        if own.all() or not own.any() or len(np.unique(event[~own])) < 2:
            continue
        lesson = xgboost.DMatrix(values[~own], label=event[~own].astype(float))
        trees = xgboost.train(settings, lesson, num_boost_round=40)
        chance[own] = trees.predict(xgboost.DMatrix(values[own]))
    return chance


def _bounds(seen: int, n: int, sure: float) -> tuple[float, float]:
    """Exact limits of a share."""
    low = float(beta.ppf(sure / 2, seen, n - seen + 1)) if seen else 0.0
    high = float(beta.ppf(1 - sure / 2, seen + 1, n - seen)) if seen < n else 1.0
    return low, high


def _odds(share: float) -> float:
    share = min(max(share, 1e-9), 1 - 1e-9)
    return share / (1 - share)
