"""Suppression: counts of few people are left blank, and so are enough others to hide them."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from journeylab.errors import ContractError

_MOST_CELLS = 5_000
_MOST_TRIES = 1_000


def suppress(
    frame: pd.DataFrame, groups: str | Sequence[str], count: str, k: int = 10
) -> pd.DataFrame:
    """Blank every row that rests on fewer than ``k`` people, so that totals do not give it back.

    A count from 1 to ``k - 1`` is blanked. Whoever knows the totals of rows and columns, here or
    elsewhere, could find a single blank by subtraction: so further counts are blanked until, with
    every total known and no count below 0, each blank could hold at least two numbers, and until
    the blanks of a line add up to ``k`` or more wherever the line has that many. The smallest are
    taken first.

    Args:
        frame: One row per group, or per pair of groups, without rows for totals. A pair that has
            no row counts 0.
        groups: One or two columns that part people.
        count: Column with how many people; whole numbers from 0.
        k: The fewest people that may be shown.

    Returns:
        The groups and columns of ``frame``, sorted as it was with missing pairs at the end. In a
        blanked row every column but the groups is missing. ``suppressed`` says which.

    Raises:
        ContractError: A column is missing, a group comes twice, counts are no whole numbers from
            0, or whoever knows the totals could tell a blank whatever else is blanked: merge
            groups then, or share no such table.

    Source:
        Willenborg & de Waal, "Elements of Statistical Disclosure Control" (2001), chapter 6.
    """
    names = [groups] if isinstance(groups, str) else list(groups)
    whole = _complete(frame, names, count, k)
    counts, places = _grid(whole, names, count)
    blank = _blanked(counts, k)
    if blank.any() and (told := _told(counts, blank)).any():
        raise ContractError(
            f"{count}: {int(told.sum())} of {int(blank.sum())} counts below {k} could be told from "
            f"the totals whatever else is blanked; merge groups of {', '.join(names)}, or share "
            "no such table"
        )
    suppressed = blank[places]
    result = whole.copy()
    for column in result.columns:
        if column not in names:
            result[column] = result[column].mask(suppressed)
    result["suppressed"] = suppressed
    return result


def _complete(frame: pd.DataFrame, names: list[str], count: str, k: int) -> pd.DataFrame:
    """The frame with a row for every pair of groups, checked."""
    if k < 2:
        raise ContractError(f"k must be at least 2; got {k}")
    if not 1 <= len(names) <= 2 or len(set(names)) < len(names):
        raise ContractError(f"suppress parts people by one or two columns; got {names}")
    if missing := [name for name in (*names, count) if name not in frame.columns]:
        raise ContractError(f"the frame has no column {', '.join(map(repr, missing))}")
    if "suppressed" in frame.columns:
        raise ContractError(
            "the frame has a column 'suppressed' already; it is suppressed or named"
        )
    if twice := int(frame.duplicated(names).sum()):
        raise ContractError(f"{twice} of {len(frame)} rows repeat a group of {', '.join(names)}")
    held = frame[count].to_numpy(dtype=float, na_value=np.nan)
    if bad := int((~(np.isfinite(held) & (held >= 0) & (held == np.floor(held)))).sum()):
        raise ContractError(
            f"{count} must hold whole numbers from 0; {bad} of {len(frame)} rows do not"
        )
    whole = frame.reset_index(drop=True)
    if len(names) == 2 and len(whole):
        values = [whole[name].unique().tolist() for name in names]
        pairs = pd.MultiIndex.from_product(values, names=names)
        extra = pairs.difference(pd.MultiIndex.from_frame(whole[names]), sort=False)
        added = extra.to_frame(index=False).assign(**{count: 0})
        if len(added):
            whole = pd.concat([whole, added], ignore_index=True)
    if len(whole) > _MOST_CELLS:
        raise ContractError(
            f"the table has {len(whole):,} cells; suppress tables of at most {_MOST_CELLS:,}"
        )
    return whole


def _grid(
    whole: pd.DataFrame, names: list[str], count: str
) -> tuple[NDArray[np.int64], tuple[NDArray[np.intp], ...]]:
    """Counts as rows and columns (one column for one group), and where each row of it lies."""
    rows = pd.factorize(whole[names[0]])[0]
    columns = pd.factorize(whole[names[1]])[0] if len(names) == 2 else np.zeros_like(rows)
    shape = (rows.max(initial=-1) + 1, columns.max(initial=-1) + 1)
    counts = np.zeros(shape, dtype=np.int64)
    counts[rows, columns] = whole[count].to_numpy(dtype=float).astype(np.int64)
    return counts, (rows, columns)


def _blanked(counts: NDArray[np.int64], k: int) -> NDArray[np.bool_]:
    """Which counts to blank: the small ones, and those that hide them."""
    blank = (counts > 0) & (counts < k)
    if not blank.any():
        return blank
    for _ in range(_MOST_TRIES):
        _hide_in_lines(counts, blank, k)
        told = _told(counts, blank)
        if not told.any() or not _hide_another(counts, blank, told):
            break
    return blank


_Line = tuple[slice, int] | tuple[int, slice]


def _lines(shape: tuple[int, ...]) -> list[_Line]:
    """Rows and columns of which a total may be known; a table of one column has but one line."""
    lines: list[_Line] = [(slice(None), column) for column in range(shape[1])]
    if shape[1] > 1:
        lines += [(row, slice(None)) for row in range(shape[0])]
    return lines


def _hide_in_lines(counts: NDArray[np.int64], blank: NDArray[np.bool_], k: int) -> None:
    """Blank, in place, until no line has one blank alone or blanks that add up to less than k."""
    changed = True
    while changed:
        changed = False
        for line in _lines(counts.shape):
            hidden, held = blank[line], counts[line]
            while hidden.any() and not hidden.all():
                if hidden.sum() >= 2 and held[hidden].sum() >= k:
                    break
                shown = np.flatnonzero(~hidden)
                # the smallest that adds people; a zero only where nothing else is left
                order = sorted(shown, key=lambda at: (held[at] == 0, held[at], at))
                hidden[order[0]] = True
                changed = True


def _hide_another(
    counts: NDArray[np.int64], blank: NDArray[np.bool_], told: NDArray[np.bool_]
) -> bool:
    """Blank, in place, the smallest count in a line of one that can be told; False without any."""
    near = np.zeros_like(blank)
    for row, column in zip(*np.nonzero(told), strict=True):
        near[row, :] = near[:, column] = True
    for allowed in (near & ~blank & (counts > 0), near & ~blank, ~blank & (counts > 0), ~blank):
        if allowed.any():
            rows, columns = np.nonzero(allowed)
            at = np.argmin(counts[rows, columns])
            blank[rows[at], columns[at]] = True
            return True
    return False


def _told(counts: NDArray[np.int64], blank: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which blanks hold one number only, given all totals and that no count is below 0."""
    told = np.zeros_like(blank)
    cells = np.argwhere(blank)
    if not len(cells):
        return told
    if counts.shape[1] == 1:
        # one line: a blank may hold anything up to what all blanks add up to
        alone = len(cells) == 1 or counts[blank].sum() == 0
        return blank.copy() if alone else told
    for row, column in cells:
        if not _moves(counts, blank, int(row), int(column)):
            told[row, column] = True
    return told


def _moves(counts: NDArray[np.int64], blank: NDArray[np.bool_], row: int, column: int) -> bool:
    """Whether the count of a blank could be another with all totals the same.

    A table with the same totals differs along closed walks that go up in one blank and down in
    the next; going down needs a count above 0. Moving one person along a walk keeps counts whole.
    """
    return _walk(counts, blank, row, column, up=True) or (
        bool(counts[row, column]) and _walk(counts, blank, row, column, up=False)
    )


def _walk(
    counts: NDArray[np.int64], blank: NDArray[np.bool_], row: int, column: int, up: bool
) -> bool:
    """Whether a closed walk leaves ``(row, column)`` by its row and comes back by its column.

    Rows and columns are the points of a graph. Where the first blank goes up, each step from a row
    to a column goes down through a blank with people, each step from a column to a row goes up
    through any blank; the other way round where it goes down.
    """
    taken = blank & (counts > 0)
    from_row, from_column = (taken, blank) if up else (blank, taken)
    from_row = from_row.copy()
    from_column = from_column.copy()
    from_row[row, column] = from_column[row, column] = False
    seen, waiting = {row}, [row]
    while waiting:
        here = waiting.pop()
        for there in np.flatnonzero(from_row[here]):
            if there == column:
                return True
            for after in np.flatnonzero(from_column[:, there]):
                if int(after) not in seen:
                    seen.add(int(after))
                    waiting.append(int(after))
    return False
