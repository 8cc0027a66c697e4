"""Files on their way in: text, Parquet and Excel as raw rows the engine can type."""

import shutil
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import ibis.expr.types as ir
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from journeylab.errors import ContractError
from journeylab.tables import text as texts
from journeylab.tables.sources import EXCEL, TYPED, TableSource, ending, match_columns

_BATCH = 100_000
SHEET_ROW = "row of the sheet"


@dataclass(slots=True)
class Part:
    """One file on its way in."""

    file: str
    raw: ir.Table
    names: dict[str, str]
    text: texts.TextFile | None = None
    read: int = 0
    staged: int = 0
    first_line: int = 1
    structural: list[texts.Record] = field(default_factory=list)
    refuses: bool = False
    error: str = ""


def open_part(connection: Any, scratch: Path, source: TableSource, path: Path, where: str) -> Part:
    """Make one file readable and count its rows apart from the engine.

    Raises:
        ContractError: The file cannot be read, or lacks a required column.
    """
    kind = ending(path)
    path = path.resolve()
    if kind in TYPED:
        raw = _read_parquet(connection, scratch, path, where)
        part = Part(where, raw, match_columns(source.contract, raw.columns, source.names, where))
        part.read = int(pq.read_metadata(path).num_rows)
        return part
    if kind in EXCEL:
        raw = _read_excel(connection, scratch, path, source.at, where)
        shown = [name for name in raw.columns if name != SHEET_ROW]
        part = Part(where, raw, match_columns(source.contract, shown, source.names, where))
        part.names[SHEET_ROW] = SHEET_ROW
        part.read = int(raw.count().execute())
        return part
    text = texts.open_text(
        path, scratch, name=where, encoding=source.encoding, delimiter=source.delimiter
    )
    names = match_columns(source.contract, text.header, source.names, where)
    part = Part(where, _read_csv(connection, text), names, text)
    counted = texts.count_records(text)
    if counted is None:
        repair(connection, scratch, part)
    else:
        part.read = counted
    return part


def _read_parquet(connection: Any, scratch: Path, path: Path, where: str) -> ir.Table:
    if any(sign in str(path) for sign in "*?["):
        # Names with glob characters would mean other files to the engine.
        plain = scratch / f"{len(list(scratch.iterdir()))}-plain.parquet"
        shutil.copyfile(path, plain)
        path = plain
    try:
        return connection.read_parquet(str(path), hive_partitioning=False)
    except (duckdb.Error, OSError) as error:
        raise ContractError(
            f"{where} cannot be read as Parquet: {str(error).splitlines()[0]}"
        ) from error


def _read_csv(connection: Any, text: texts.TextFile) -> ir.Table:
    return connection.read_csv(
        str(text.plain),
        columns=dict.fromkeys(text.header, "VARCHAR"),
        auto_detect=False,
        header=True,
        delim=text.delimiter,
        quote='"',
        escape='"',
        strict_mode=True,
        null_padding=False,
        max_line_size=1 << 22,
    )


def repair(connection: Any, scratch: Path, part: Part) -> None:
    """Read a file that the engine cannot vouch for record by record; keep the good ones.

    The engine's own recovery was seen to swallow a header and to misread numbers, so it is not
    asked to recover: it gets only records that are whole.
    """
    assert part.text is not None
    width = len(part.text.header)
    schema = pa.schema([(name, pa.string()) for name in part.text.header])
    whole = scratch / f"{len(list(scratch.iterdir()))}-whole.parquet"
    part.read, part.structural = 0, []
    columns: list[list[str | None]] = [[] for _ in range(width)]
    with pq.ParquetWriter(whole, schema, compression="zstd") as writer:

        def flush() -> None:
            writer.write_table(pa.table(columns, schema=schema))
            for column in columns:
                column.clear()

        waiting = tqdm(
            texts.records(part.text), f"checking {part.file}", delay=2, unit=" rows", leave=False
        )
        for record in waiting:
            part.read += 1
            if record.fields is None:
                part.structural.append(record)
                continue
            for column, value in zip(columns, record.fields, strict=True):
                column.append(value or None)
            if len(columns[0]) >= _BATCH:
                flush()
        flush()
    part.raw = connection.read_parquet(str(whole))


def _read_excel(
    connection: Any, scratch: Path, path: Path, sheet: str | None, where: str
) -> ir.Table:
    """A sheet as text, with the row of the sheet beside every record."""
    from openpyxl import load_workbook
    from openpyxl.utils.exceptions import InvalidFileException

    try:
        book = load_workbook(path, read_only=True, data_only=True)
    except (InvalidFileException, zipfile.BadZipFile, OSError, KeyError, ValueError) as error:
        raise ContractError(f"{where} cannot be read as an Excel file: {error}") from error
    if sheet is not None and sheet not in book.sheetnames:
        raise ContractError(f"{where} has no sheet {sheet!r}; it has {', '.join(book.sheetnames)}")
    rows = (book[sheet] if sheet else book.worksheets[0]).iter_rows(values_only=True)
    header = ["" if cell is None else str(cell).strip() for cell in next(rows, ())]
    named = {place: name for place, name in enumerate(header) if name}
    folded = [name.casefold() for name in named.values()]
    if not named or len(set(folded)) < len(folded):
        raise ContractError(f"{where}: the first row must name every column once")
    columns: dict[str, list[str | None]] = {name: [] for name in named.values()}
    numbers: list[int] = []
    for number, row in enumerate(rows, start=2):
        filled = [place for place, cell in enumerate(row) if cell is not None and cell != ""]
        if not filled:
            continue
        if nameless := [place for place in filled if place not in named]:
            raise ContractError(
                f"{where}: row {number} holds a value in column {nameless[0] + 1}, which the "
                "first row does not name"
            )
        numbers.append(number)
        for place, name in named.items():
            columns[name].append(_excel_text(row[place]) if place < len(row) else None)
    book.close()
    whole = scratch / f"{len(list(scratch.iterdir()))}-sheet.parquet"
    arrays = {name: pa.array(cells, pa.string()) for name, cells in columns.items()}
    pq.write_table(pa.table({**arrays, SHEET_ROW: pa.array(numbers, pa.int64())}), whole)
    return connection.read_parquet(str(whole))


def _excel_text(cell: object) -> str | None:
    """A cell as text: whole numbers without a fraction, times as ISO 8601.

    A number too large to be exact is written with the exponent that no id may have.
    """
    if cell is None:
        return None
    if isinstance(cell, float):
        return str(int(cell)) if cell.is_integer() and abs(cell) < 2**53 else repr(cell).upper()
    if isinstance(cell, int) and not isinstance(cell, bool) and abs(cell) >= 2**53:
        return repr(float(cell)).upper()
    if hasattr(cell, "isoformat"):
        return str(cell.isoformat())
    return str(cell)
