"""Segments: which columns of a table count people, and which cells rest on too few of them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from journeylab.errors import ContractError
from journeylab.sharing.suppression import suppress

_PEOPLE = frozenset(
    {"accounts", "buyers", "clients", "contacts", "converters", "customers", "guests",
     "households", "invitees", "leavers", "members", "newcomers", "patients", "people",
     "persons", "recipients", "referrers", "regulars", "shoppers", "stayers", "subscribers",
     "users", "visitors"}
)  # fmt: skip
_GENERIC = frozenset({"n", "count", "counts", "num", "size"})
# such words make a number of another thing: a share, a mean, so many orders
_NO_COUNT = frozenset(
    {"average", "avg", "cost", "days", "gap", "hazard", "id", "index", "lift", "mean", "median",
     "of", "pct", "per", "percent", "probability", "rank", "rate", "ratio", "risk_ratio", "share",
     "spend", "value", "weeks"}
)  # fmt: skip
_OTHER_THINGS = frozenset(
    {"cells", "clicks", "columns", "events", "files", "items", "lines", "messages", "models",
     "orders", "parameters", "products", "purchases", "rows", "sessions", "steps", "tables",
     "tests", "touches", "trials", "visits"}
)  # fmt: skip
_CHINESE_COUNT = re.compile("人数|(?:客户|会员|用户|顾客|家庭|买家|访客|员工)(?:总)?数|户数")
_TOTAL = re.compile(
    r"(?i)\s*(?:(?:grand )?totals?|all|everybody|everyone|overall|sum|合计|总计|全部|总和)\s*"
)


@dataclass(frozen=True, slots=True)
class Cover:
    """What of a table must not be seen.

    Attributes:
        hidden: Cells to blank, shaped like the table.
        added: Rows of keys that the table lacks and that have to stand there as blanks, because
            the 0 they stand for would give another blank away.
        cells: How many counts are blanked; other columns of their rows go with them.
        refusal: Why the table as a whole must stay; empty where it need not.
    """

    hidden: NDArray[np.bool_]
    added: pd.DataFrame
    cells: int = 0
    refusal: str = ""


def counts_people(name: str) -> bool:
    """Whether something of this name is a number of people: ``customers``, ``n_treated``, 人数."""
    if _CHINESE_COUNT.search(name):
        return True
    words = re.findall(r"[a-z]+", name.lower())
    if words[:2] == ["number", "of"]:
        words = ["n", *words[2:]]
    if not words or _NO_COUNT & set(words):
        return False
    if _PEOPLE & set(words) or ("at", "risk") in pairwise(words):
        return True
    return words[0] in _GENERIC and not _OTHER_THINGS & set(words)


def people_columns(
    frame: pd.DataFrame, name: str = "", declared: Sequence[str] | None = None
) -> list[str]:
    """Columns that count people.

    Args:
        frame: A table of segments.
        name: Of the record: of ``at_risk_by_segment`` every column of whole numbers counts people.
        declared: What the notebook said; then nothing is guessed.
    """
    if declared is not None:
        return [column for column in declared if column in frame.columns]
    whole = [str(column) for column in frame.columns if _is_whole(frame[column])]
    if found := [column for column in whole if counts_people(column)]:
        return found
    if not counts_people(name):
        return []
    # the first column names the groups where it tells them apart
    first = str(frame.columns[0])
    return [c for c in whole if c != first or len(whole) == 1]


def cover_few(
    frame: pd.DataFrame, k: int, name: str = "", declared: Sequence[str] | None = None
) -> Cover:
    """Which cells of a table of segments to blank so that none shows fewer than ``k`` people.

    With one column of counts its rows are the segments, by one or two columns of keys; with more
    of them every pair of row and column is. Rows and columns for totals are taken as known and
    blanked only where they are small themselves. Whatever else stands in a row of a blank goes
    too: a rate over few people is about them.

    Args:
        frame: Rows of segments; texts of numbers count as numbers. Left as it is.
        k: The fewest people that may be shown; 1 shows everything.
        name: Of the record.
        declared: Columns that count people, where the notebook said so.
    """
    nothing = Cover(np.zeros(frame.shape, dtype=bool), frame.iloc[:0])
    columns = people_columns(frame, name, declared)
    if k < 2 or not columns or frame.empty:
        return nothing
    counts = np.nan_to_num(np.column_stack([_numbers(frame[column]) for column in columns]))
    few = (counts > 0) & (counts < k)
    if not few.any():
        return nothing
    keys = _keys(frame, columns)
    if keys is None or (len(columns) > 1 and len(keys) > 1):
        why = "has several by two keys" if keys else "has no one or two columns that part its rows"
        refusal = f"it counts fewer than {k} customers {int(few.sum())} times, and {why}"
        return Cover(nothing.hidden, nothing.added, refusal=refusal)
    try:
        blank, added = _blanks(frame, keys, columns, counts, k)
    except ContractError as refusal:
        return Cover(nothing.hidden, nothing.added, refusal=str(refusal))
    blank |= few
    hidden = nothing.hidden.copy()
    rows = blank.any(axis=1)
    for place, column in enumerate(frame.columns):
        if column in columns:
            hidden[:, place] = blank[:, columns.index(str(column))]
        elif column not in keys:
            hidden[:, place] = rows
    return Cover(hidden, added, int(blank.sum()) + len(added))


def _numbers(values: "pd.Series[Any]") -> NDArray[np.float64]:
    """Numbers, and texts of numbers, as numbers; what is neither is missing."""
    texts = values.astype(object).map(
        lambda each: each.replace(",", "") if isinstance(each, str) else each
    )
    return np.asarray(pd.to_numeric(texts, errors="coerce"), dtype=float)


def _is_whole(values: "pd.Series[Any]") -> bool:
    """Whether a column holds whole numbers from 0, gaps aside."""
    if pd.api.types.is_bool_dtype(values) or values.dtype.kind in "mM":
        return False
    given = values[values.notna() & (values.astype(str).str.strip() != "")]
    held = _numbers(given)
    return bool(len(held) and (np.isfinite(held) & (held >= 0) & (held == np.floor(held))).all())


def _keys(frame: pd.DataFrame, counts: list[str]) -> list[str] | None:
    """The one or two columns that tell the segments apart; no column where a row stands for itself.

    Those before the counts are tried first: what follows them is measured.
    """
    names = [str(column) for column in frame.columns]
    first = min(names.index(column) for column in counts)
    before, after = names[:first], [name for name in names[first:] if name not in counts]
    worded = [name for name in after if frame[name].dtype.kind not in "iufb"]
    candidates = before + worded
    if not candidates:
        return []
    for column in candidates:
        if not frame[column].duplicated().any():
            return [column]
    for place, column in enumerate(candidates):
        for other in candidates[place + 1 :]:
            if not frame.duplicated([column, other]).any():
                return [column, other]
    return None


def _blanks(
    frame: pd.DataFrame, keys: list[str], columns: list[str], counts: NDArray[np.float64], k: int
) -> tuple[NDArray[np.bool_], pd.DataFrame]:
    """Counts to blank, shaped like ``counts``, and rows of keys to add as blanks."""
    rows = np.arange(len(frame))
    totals = np.zeros(len(frame), dtype=bool)
    for key in keys:
        totals |= frame[key].astype(str).str.fullmatch(_TOTAL.pattern).to_numpy(dtype=bool)
    parts = rows[~totals]
    blank = np.zeros(counts.shape, dtype=bool)
    inner = np.flatnonzero([not _TOTAL.fullmatch(column) for column in columns])
    if len(inner) != 1 or len(keys) < 2:
        cells = pd.DataFrame(
            {
                "row": np.repeat(parts, len(inner)),
                "column": np.tile(inner, len(parts)),
                "count": counts[np.ix_(parts, inner)].ravel(),
            }
        )
        groups = ["row", "column"] if len(inner) > 1 else ["row"]
        shown = suppress(cells, groups, "count", k)
        hit = shown["suppressed"].to_numpy(dtype=bool)
        blank[np.ix_(parts, inner)] = hit.reshape(len(parts), len(inner))
        return blank, frame.iloc[:0][keys]
    # a pair of keys with one count: pairs without a row may have to be blanks too
    pairs = frame.loc[~totals, keys].astype(object).assign(count=counts[parts, inner[0]])
    shown = suppress(pairs.reset_index(drop=True), keys, "count", k)
    hit = shown["suppressed"].to_numpy(dtype=bool)
    blank[parts, inner[0]] = hit[: len(parts)]
    lacking = np.arange(len(shown)) >= len(parts)
    return blank, shown.loc[hit & lacking, keys].reset_index(drop=True)
