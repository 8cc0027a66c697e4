"""Workbooks: one customer is taken out of an Excel file."""

import io
from collections.abc import Callable
from typing import Any

from journeylab.pseudonyms import is_personal

Clean = Callable[[str], tuple[str, int]]


def without_in_workbook(
    content: bytes, names: frozenset[str], clean: Clean
) -> tuple[bytes, int, int] | None:
    """An ``.xlsx`` file without a customer: rows go, other mentions are marked.

    Values, formats and comments stay; drawings and macros are not written again.

    Args:
        content: Of the file.
        names: The customer's id and pseudonym, as cells of a column of people hold them.
        clean: Gives a text with mentions of the customer marked, and how many there were.

    Returns:
        The new content, how many rows went and how many mentions were marked; None where the
        customer is not in it.
    """
    from openpyxl import load_workbook

    book = load_workbook(io.BytesIO(content))
    rows = mentions = 0
    for sheet in book.worksheets:
        gone = _rows_of(sheet, names)
        # from the end, so that numbers of rows stay true
        for row in sorted(gone, reverse=True):
            sheet.delete_rows(row)
        rows += len(gone)
        for line in sheet.iter_rows():
            for cell in line:
                mentions += _clean_cell(cell, clean)
    for name in ("creator", "title", "subject", "description", "keywords", "lastModifiedBy"):
        text, count = clean(str(getattr(book.properties, name) or ""))
        if count:
            setattr(book.properties, name, text)
            mentions += count
    if not rows and not mentions:
        return None
    buffer = io.BytesIO()
    book.save(buffer)
    return buffer.getvalue(), rows, mentions


def _rows_of(sheet: Any, names: frozenset[str]) -> set[int]:
    """Numbers of rows whose cell below a name of people is the customer."""
    found: set[int] = set()
    personal: set[int] = set()
    for line in sheet.iter_rows():
        heads = {cell.column for cell in line if is_personal(str(cell.value or ""))}
        if heads:
            personal = heads
            continue
        for cell in line:
            if cell.column in personal and cell.value is not None:
                text = str(cell.value).strip().removeprefix("'").removesuffix(".0")
                if text in names:
                    found.add(cell.row)
    return found


def _clean_cell(cell: Any, clean: Clean) -> int:
    """Mark mentions in a cell and its comment; how many there were."""
    mentions = 0
    if isinstance(cell.value, str):
        text, mentions = clean(cell.value)
        if mentions:
            cell.value = text
    note = getattr(cell, "comment", None)
    if note is not None:
        text, count = clean(note.text)
        if count:
            note.text = text
            mentions += count
    return mentions
