"""Columns of a table as a page shows them: shares in per cent, an estimate beside its interval."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import floor, isfinite, log10, nan

from journeylab.report.cleaning import Cell
from journeylab.report.numbers import (
    SHARES,
    SPACE,
    column,
    is_empty,
    separated,
    telling_zero,
)

# As pandas prints them, to the letter: among texts, "none" may be an answer or a test's arm.
_PRINTED_EMPTY = frozenset({"None", "NaN", "nan", "NaT", "<NA>", "-"})
_NO_VALUE = "\N{EN DASH}"
# Rows whose intervals differ in width by more than this get digits of their own.
_ALIKE = 100.0
_MOST_DECIMALS = 6


@dataclass(frozen=True, slots=True)
class Columns:
    """What became of a table's columns, by their place.

    Attributes:
        numbers: Those that hold numbers or intervals: they stand right.
        gone: Upper ends, which stand in the cell of the lower end now.
        heads: Names that changed.
    """

    numbers: set[int] = field(default_factory=set)
    gone: set[int] = field(default_factory=set)
    heads: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Interval:
    """Places of the columns that belong to one interval."""

    low: int
    name: str
    value: int | None
    error: int | None


def format_columns(
    by_column: Mapping[int, list[Cell]], names: Mapping[int, str], units: Mapping[str, str]
) -> Columns:
    """Format cells in place.

    ``x, ci_low, ci_high`` (or ``low, high``; or ``x_low, x_high``, with or without ``x``) becomes
    the estimate and one column with both ends, all with the digits that the interval supports.

    Args:
        by_column: Place -> cells, for cells that take one column.
        names: Place -> name of the column.
        units: Name -> unit: ``share`` reads as per cent, any other stands behind the name.
    """
    done = Columns()
    for place in sorted(by_column):
        found = _interval(place, names, by_column)
        if found is not None:
            _format_interval(found, by_column, names, units, done)
    for place, cells in by_column.items():
        if place not in done.numbers and place not in done.gone:
            _format_one(place, cells, names.get(place, ""), units, done)
    for place, name in names.items():
        unit = units.get(name, "")
        if unit and not _is_share(unit) and place not in done.gone and place in by_column:
            done.heads[place] = f"{done.heads.get(place, name.replace('_', ' '))}, {unit}"
    return done


def _format_one(
    place: int, cells: list[Cell], name: str, units: Mapping[str, str], done: Columns
) -> None:
    texts = [cell.text.strip() for cell in cells]
    formatted = column(texts, name)
    if formatted is not None and _is_share(units.get(name, "")):
        formatted = _percent(texts)
    if texts and set(texts) <= {"True", "False"}:
        formatted = ["yes" if text == "True" else "no" for text in texts]
    elif formatted is None:
        formatted = [_NO_VALUE if text in _PRINTED_EMPTY else text for text in texts]
    else:
        done.numbers.add(place)
    for cell, text in zip(cells, formatted, strict=True):
        cell.text = text


def _interval(
    place: int, names: Mapping[int, str], by_column: Mapping[int, list[Cell]]
) -> _Interval | None:
    """The interval whose lower end stands at ``place``; None where there is none."""
    low, high = names.get(place, ""), names.get(place + 1, "")
    stem = low.removesuffix("_low")
    if low in ("low", "ci_low"):
        if high != low.replace("low", "high"):
            return None
        stem = ""
    elif stem == low or high != f"{stem}_high":
        return None
    parts = [by_column.get(at, []) for at in (place, place + 1)]
    if len(parts[0]) != len(parts[1]) or any(_floats(part) is None for part in parts):
        return None
    error = place - 1 if names.get(place - 1, "").endswith(("standard_error", "_error")) else None
    before = place - 1 if error is None else place - 2
    own = names.get(before, "")
    fits = own == stem if stem else bool(own)
    value = before if fits and _holds(before, place, by_column) else None
    if not stem and value is None:
        return None
    if value is None or _floats(by_column.get(place - 1, [])) is None:
        error = None
    return _Interval(place, stem, value, error)


def _holds(before: int, place: int, by_column: Mapping[int, list[Cell]]) -> bool:
    """Whether the numbers before an interval lie in it, row by row."""
    parts = [_floats(by_column.get(at, [])) for at in (before, place, place + 1)]
    if any(part is None for part in parts) or len({len(part or []) for part in parts}) > 1:
        return False
    values, lows, highs = (part or [] for part in parts)
    for value, low, high in zip(values, lows, highs, strict=True):
        slack = 1e-6 * max(abs(value), abs(low), abs(high), 1e-9)
        # a missing end is open, and a missing value is in no interval
        if value < low - slack or value > high + slack:
            return False
    return True


def _format_interval(
    found: _Interval,
    by_column: Mapping[int, list[Cell]],
    names: Mapping[int, str],
    units: Mapping[str, str],
    done: Columns,
) -> None:
    cells, ends = by_column[found.low], by_column[found.low + 1]
    lows, highs = _floats(cells) or [], _floats(ends) or []
    name = names.get(found.value, "") if found.value is not None else found.name
    share = _is_share(units.get(name, ""))
    scale = 100.0 if share else 1.0
    digits = _digits([scale * low for low in lows], [scale * high for high in highs])
    if digits is None:
        return
    sign = f"{SPACE}%" if share else ""
    for cell, low, high, own in zip(cells, lows, highs, digits, strict=True):
        cell.text = _ends(scale * low, scale * high, own, sign)
    for place in (found.value, found.error):
        if place is None:
            continue
        column_cells = by_column[place]
        numbers = _floats(column_cells) or []
        for cell, number, own in zip(column_cells, numbers, digits, strict=True):
            cell.text = _shown(scale * number, own) + (sign if number == number else "")
        done.numbers.add(place)
    done.numbers.add(found.low)
    done.gone.add(found.low + 1)
    stem = "" if found.value is not None and not found.name else found.name
    done.heads[found.low] = f"{stem.replace('_', ' ')} interval".strip()


def _digits(lows: Sequence[float], highs: Sequence[float]) -> list[int] | None:
    """Decimals of each row, so that half an interval's width has two digits."""
    halves = [(high - low) / 2 for low, high in zip(lows, highs, strict=True)]
    wide = sorted(half for half in halves if isfinite(half) and half > 0)
    if not wide:
        return None
    middle = wide[len(wide) // 2]
    if wide[-1] <= _ALIKE * wide[0]:
        own = [_decimals(middle)] * len(halves)
    else:
        own = [_decimals(half if isfinite(half) and half > 0 else middle) for half in halves]
    return [
        telling_zero(digits, low, high) if isfinite(low) and isfinite(high) else digits
        for digits, low, high in zip(own, lows, highs, strict=True)
    ]


def _decimals(half: float) -> int:
    return max(0, min(_MOST_DECIMALS, 1 - floor(log10(half))))


def _ends(low: float, high: float, decimals: int, sign: str) -> str:
    if isfinite(low) and isfinite(high):
        return f"{separated(low, decimals)} to {separated(high, decimals)}{sign}"
    if isfinite(low):
        return f"from {separated(low, decimals)}{sign}"
    return f"up to {separated(high, decimals)}{sign}" if isfinite(high) else _NO_VALUE


def _shown(number: float, decimals: int) -> str:
    return separated(number, decimals) if isfinite(number) else _NO_VALUE


def _percent(texts: Sequence[str]) -> list[str]:
    """Shares in per cent, with one decimal, or more where all are small."""
    shares = [nan if is_empty(text) else 100 * float(text) for text in texts]
    sizes = [abs(share) for share in shares if isfinite(share) and share]
    decimals = max(1, min(4, 1 - floor(log10(max(sizes))))) if sizes else 0
    return [
        f"{separated(share, decimals)}{SPACE}%" if isfinite(share) else _NO_VALUE
        for share in shares
    ]


def _floats(cells: Sequence[Cell]) -> list[float] | None:
    """Numbers of a column, NaN where a cell is empty; None where it holds anything else."""
    texts = [cell.text.strip() for cell in cells]
    if column(texts, "") is None:
        return None
    return [nan if is_empty(text) else float(text) for text in texts]


def _is_share(unit: str) -> bool:
    return unit.strip().lower() in SHARES
