"""The engine: how it is opened, and the only way out of it."""

import os
import shutil
import tempfile
import weakref
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import ibis
import ibis.expr.types as ir
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from journeylab.audit import auditing, note_columns
from journeylab.errors import ContractError
from journeylab.tables.usage import columns_used

MAX_DRIVER_ROWS = 5_000_000


def connect_duckdb(
    readable: Sequence[Path] = (),
    *,
    memory_limit: str | None = None,
    threads: int | None = None,
    database: Path | None = None,
    spill: Path | None = None,
) -> ibis.BaseBackend:
    """Open an embedded DuckDB that can reach its data folders and nothing else.

    Args:
        readable: Folders the engine may read files from.
        memory_limit: For example ``"2GB"``; by default ``JOURNEYLAB_MEMORY_LIMIT``, else
            DuckDB's own default (80 % of the machine's memory).
        threads: By default ``JOURNEYLAB_THREADS``, else all cores.
        database: A ``.duckdb`` file opened read-only; in memory without it.
        spill: Folder for what does not fit in memory; a fresh temporary one without it.

    Returns:
        An Ibis connection in UTC that downloads no extension, and whose configuration is locked.
    """
    own = None if spill else tempfile.mkdtemp(prefix="journeylab-spill-")
    spill = spill or Path(str(own))
    options: dict[str, object] = {
        "temp_directory": str(spill),
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
    }
    if memory_limit := memory_limit or os.environ.get("JOURNEYLAB_MEMORY_LIMIT"):
        options["memory_limit"] = memory_limit
    if threads := threads or int(os.environ.get("JOURNEYLAB_THREADS", "0")):
        options["threads"] = threads
    connection = ibis.duckdb.connect(
        str(database) if database else ":memory:", read_only=database is not None, **options
    )
    connection.settings["allowed_directories"] = [str(p.resolve()) for p in (*readable, spill)]
    connection.settings["enable_external_access"] = False
    connection.settings["lock_configuration"] = True
    if own:
        weakref.finalize(connection, shutil.rmtree, own, ignore_errors=True)
    return connection


def collect(
    expression: ir.Table,
    *,
    key: Sequence[str] | None = None,
    money: Literal["float", "cents"] = "float",
    max_driver_rows: int = MAX_DRIVER_ROWS,
) -> pd.DataFrame:
    """Bring a table out of the engine: sorted, typed, and small enough to hold.

    Args:
        expression: Any Ibis table, on any engine.
        key: Columns to sort by; by default all, from left to right, floating point ones last.
        money: DECIMAL columns become floats, or whole ``"cents"`` (hundredths) as integers.
        max_driver_rows: The largest answer that is let through.

    Returns:
        Rows in key order (nulls last, text in byte order) under a fresh index. Ids stay text;
        integers with gaps become ``Int64``, never floats; dates and times ``datetime64[ns]``.

    Raises:
        ContractError: The answer has more than ``max_driver_rows`` rows.
    """
    if auditing():
        note_columns(columns_used(expression))
    answer = expression.limit(max_driver_rows + 1).to_pyarrow()
    if answer.num_rows > max_driver_rows:
        raise ContractError(
            f"more than {max_driver_rows:,} rows would come to the driver: aggregate in the engine "
            "first, or raise max_driver_rows if the machine can hold them"
        )
    if key is None:
        real = [field.name for field in answer.schema if pa.types.is_floating(field.type)]
        key = [name for name in answer.column_names if name not in real] + real
    if key and answer.num_rows:
        answer = answer.take(pc.sort_indices(answer, [(name, "ascending") for name in key]))
    frame = {
        name: _to_pandas(column, money)
        for name, column in zip(answer.column_names, answer.columns, strict=True)
    }
    return pd.DataFrame(frame, columns=answer.column_names)


def _to_pandas(column: pa.ChunkedArray, money: Literal["float", "cents"]) -> Any:
    kind = column.type
    if pa.types.is_decimal(kind):
        if money == "cents":
            widened = column.cast(pa.decimal128(38, kind.scale))
            hundred = pa.scalar(Decimal(100), pa.decimal128(3, 0))
            column = pc.multiply(widened.cast(pa.decimal128(34, kind.scale)), hundred)
            column = pc.round(column).cast(pa.int64())
        else:
            # Straight to float, Arrow gives 2.51 as 2.5100000000000002; by way of text it is exact.
            column = column.cast(pa.string()).cast(pa.float64())
        kind = column.type
    if pa.types.is_integer(kind) and column.null_count:
        return column.to_pandas(types_mapper={kind: pd.Int64Dtype()}.get)
    if pa.types.is_boolean(kind) and column.null_count:
        return column.to_pandas(types_mapper={kind: pd.BooleanDtype()}.get)
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        return column.cast(pa.timestamp("ns")).to_pandas()
    return column.to_pandas()
