"""Files on their way in: text, Parquet and Excel as raw rows the engine can type."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ibis.expr.types as ir
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from journeylab.errors import ContractError
from journeylab.tables import text as texts
from journeylab.tables.sources import EXCEL, TYPED, TableSource, ending, match_columns

_BATCH = 100_000


@dataclass(slots=True)
class Part:
    """One file on its way in."""

    file: str
    raw: ir.Table
    names: Mapping[str, str]
    text: texts.TextFile | None = None
    read: int = 0
    staged: int = 0
    first_line: int = 1
    structural: list[texts.Record] = field(default_factory=list)


def open_part(connection: Any, scratch: Path, source: TableSource, path: Path) -> Part:
    """Make one file readable and count its rows apart from the engine.

    Raises:
        ContractError: The file cannot be read, or lacks a required column.
    """
    kind = ending(path)
    where = path.name
    if kind in TYPED:
        raw = connection.read_parquet(str(path))
        part = Part(where, raw, match_columns(source.contract, raw.columns, source.names, where))
        part.read = int(pq.read_metadata(path).num_rows)
        return part
    if kind in EXCEL:
        raw, first_line = _read_excel(connection, scratch, path, source.at)
        part = Part(where, raw, match_columns(source.contract, raw.columns, source.names, where))
        part.first_line, part.read = first_line, int(raw.count().execute())
        return part
    text = texts.open_text(path, scratch, encoding=source.encoding, delimiter=source.delimiter)
    names = match_columns(source.contract, text.header, source.names, where)
    part = Part(where, _read_csv(connection, text), names, text)
    counted = texts.count_records(text)
    if counted is None:
        repair(connection, scratch, part)
    else:
        part.read = counted
    return part


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
    connection: Any, scratch: Path, path: Path, sheet: str | None
) -> tuple[ir.Table, int]:
    from openpyxl import load_workbook
    from openpyxl.utils.exceptions import InvalidFileException

    try:
        book = load_workbook(path, read_only=True, data_only=True)
    except (InvalidFileException, OSError, KeyError, ValueError) as error:
        raise ContractError(f"{path.name} cannot be read as an Excel file: {error}") from error
    if sheet is not None and sheet not in book.sheetnames:
        raise ContractError(
            f"{path.name} has no sheet {sheet!r}; it has {', '.join(book.sheetnames)}"
        )
    rows = (book[sheet] if sheet else book.worksheets[0]).iter_rows(values_only=True)
    header = [str(cell).strip() for cell in next(rows, ()) if cell is not None]
    if not header or len(set(header)) < len(header):
        raise ContractError(f"{path.name}: the first row must name every column once")
    cells = [
        [_excel_text(cell) for cell in row[: len(header)]]
        for row in rows
        if any(cell is not None for cell in row)
    ]
    book.close()
    columns = {
        name: pa.array([row[place] for row in cells], pa.string())
        for place, name in enumerate(header)
    }
    whole = scratch / f"{len(list(scratch.iterdir()))}-sheet.parquet"
    pq.write_table(pa.table(columns), whole)
    return connection.read_parquet(str(whole)), 2


def _excel_text(cell: object) -> str | None:
    """A cell as text: whole numbers without a fraction, times as ISO 8601."""
    if cell is None:
        return None
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < 2**53:
        return str(int(cell))
    if hasattr(cell, "isoformat"):
        return str(cell.isoformat())
    return str(cell)
