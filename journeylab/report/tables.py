"""Tables as a page shows them: numbers right-aligned, thousands separated, long ones cut."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from journeylab.report.cleaning import Cell, RawTable
from journeylab.report.columns import format_columns

_MOST_ROWS = 100
_MOST_CELLS = 3000
_MOST_TEXT = 300


@dataclass(frozen=True, slots=True)
class ShownCell:
    """One cell: what it says, and how it stands."""

    text: str
    head: bool
    number: bool
    columns: int
    rows: int


@dataclass(frozen=True, slots=True)
class Table:
    """A table ready to be laid out.

    Attributes:
        head: Rows of column names.
        body: Rows of cells.
        hidden_rows: How many rows were left out at the end.
        caption: What the source said about it; may be empty.
    """

    head: list[list[ShownCell]]
    body: list[list[ShownCell]]
    hidden_rows: int
    caption: str

    @property
    def width(self) -> int:
        """Number of columns."""
        return max((sum(cell.columns for cell in row) for row in self.body), default=0)


def readable_table(raw: RawTable, units: Mapping[str, str] | None = None) -> Table:
    """A table of any origin with its columns of numbers formatted and aligned.

    Args:
        raw: As it was found.
        units: Column -> unit: a ``share`` is shown in per cent, another unit beside the name.
    """
    rows = [row for row in raw.rows if row]
    head_count = min(raw.head_rows, len(rows))
    if head_count == 2 and _names_of_index(rows[0], rows[1]):
        merged = [a if a.text.strip() else b for a, b in zip(rows[0], rows[1], strict=True)]
        rows, head_count = [merged, *rows[2:]], 1
    body_count = len(rows) - head_count
    widest = max((sum(cell.columns for cell in row) for row in rows), default=1)
    most = max(1, min(_MOST_ROWS, _MOST_CELLS // widest))
    rows = rows[: head_count + most]
    places = _places(rows)
    head, body = rows[:head_count], rows[head_count:]
    names: dict[int, str] = {}
    for row, starts in zip(head, places, strict=False):
        for cell, start in zip(row, starts, strict=True):
            for place in range(start, start + cell.columns):
                names[place] = cell.text.strip() or names.get(place, "")
    counted = _bare_count(body, places[head_count:], names)
    shown = format_columns(_by_column(body, places[head_count:]), names, units or {})
    if len(head) == 1:
        for cell, start in zip(head[0], places[0], strict=True):
            cell.text = shown.heads.get(start, cell.text)
    dropped = shown.gone | ({0} if counted else set())
    show = [
        [
            ShownCell(_short(cell.text), cell.head, start in shown.numbers, cell.columns, cell.rows)
            for cell, start in zip(row, starts, strict=True)
            if not (start in dropped and cell.columns == 1)
        ]
        for row, starts in zip(rows, places, strict=True)
    ]
    hidden = max(0, body_count - most)
    shown_head = [
        [replace(cell, text=_head_words(cell.text)) for cell in row]
        for row in show[:head_count]
        if any(cell.text for cell in row)
    ]
    return Table(shown_head, show[head_count:], hidden, raw.caption.strip())


def named_rows(rows: Sequence[tuple[str, ...]], head: tuple[str, ...]) -> Table:
    """A table of names and values that are formatted already; names stand left."""
    shown = [
        [
            ShownCell(text, at == 0, at > 0 and text[-1:].isdigit(), 1, 1)
            for at, text in enumerate(r)
        ]
        for r in rows
    ]
    if head:
        # values and intervals stand right whatever their unit, and so do their names
        shown = [[replace(cell, number=at in (1, 2)) for at, cell in enumerate(r)] for r in shown]
    top = [ShownCell(text, True, at in (1, 2), 1, 1) for at, text in enumerate(head)]
    return Table([top] if head else [], shown, 0, "")


def _head_words(text: str) -> str:
    """A column's name with spaces: ``log_likelihood`` is for code."""
    return text.replace("_", " ") if text.isidentifier() else text


def _names_of_index(top: list[Cell], below: list[Cell]) -> bool:
    """Whether the second row of a head only names the index, as pandas writes it."""
    single = all(cell.columns == cell.rows == 1 for cell in (*top, *below))
    return (
        single
        and len(top) == len(below)
        and not any(a.text.strip() and b.text.strip() for a, b in zip(top, below, strict=True))
    )


def _short(text: str) -> str:
    text = text.strip()
    return text if len(text) <= _MOST_TEXT else f"{text[:_MOST_TEXT]} \N{HORIZONTAL ELLIPSIS}"


def _places(rows: list[list[Cell]]) -> list[list[int]]:
    """The column in which each cell starts, reaching cells of earlier rows considered."""
    taken: dict[int, int] = {}
    places = []
    for number, row in enumerate(rows):
        place, starts = 0, []
        for cell in row:
            while taken.get(place, 0) > number:
                place += 1
            starts.append(place)
            for at in range(place, place + cell.columns):
                taken[at] = number + cell.rows
            place += cell.columns
        places.append(starts)
    return places


def _bare_count(body: list[list[Cell]], places: list[list[int]], names: dict[int, str]) -> bool:
    """Whether the first column only counts rows 0, 1, 2 and has no name: it says nothing."""
    if len(names) < 2 or names.get(0) or not body:
        return False
    first = [row[0] for row, starts in zip(body, places, strict=True) if starts[0] == 0]
    return len(first) == len(body) and all(
        cell.head and cell.rows == 1 and cell.text.strip() == str(count)
        for count, cell in enumerate(first)
    )


def _by_column(body: list[list[Cell]], places: list[list[int]]) -> dict[int, list[Cell]]:
    """Cells that take one column, by its place."""
    found: dict[int, list[Cell]] = {}
    for row, starts in zip(body, places, strict=True):
        for cell, start in zip(row, starts, strict=True):
            if cell.columns == 1:
                found.setdefault(start, []).append(cell)
    return found
