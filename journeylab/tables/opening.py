"""Opening a source: from its name to typed tables, with nothing lost on the way."""

import hashlib
import shutil
import tempfile
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Any

import duckdb
import ibis
import ibis.expr.types as ir
import pandas as pd
import pyarrow as pa

from journeylab.contract import BY_NAME, TABLES, Returns
from journeylab.errors import ContractError
from journeylab.tables.database import take_from_database
from journeylab.tables.engine import connect_duckdb
from journeylab.tables.identities import Merges, apply_merges, count_repeated, find_merges
from journeylab.tables.intake import (
    QUARANTINE_SCHEMA,
    FileReport,
    Taken,
    orders_from_lines,
    take_in,
)
from journeylab.tables.opened import Tables
from journeylab.tables.sources import RETURNS, Source, TableSource, check_zone, resolve

MAX_QUARANTINED = 0.01
_PERSON_COLUMNS = ("customer_id", "referrer_id", "invitee_id")


@dataclass(frozen=True, slots=True)
class IntakeReport:
    """What became of every row of a source.

    Attributes:
        source: Its name.
        fingerprint: Hash of its content.
        files: One entry per file read.
        quarantine: Refused rows: ``table, file, line, reason, column, raw``. Of a database, a
            sample; ``files`` has the counts.
        merges: What resolving identities did; ``None`` without an identities table.
        ignored: Files in the folder that are no table of the contract.
    """

    source: str
    fingerprint: str
    files: tuple[FileReport, ...]
    quarantine: pd.DataFrame
    merges: Merges | None = None
    ignored: tuple[str, ...] = ()

    def summary(self) -> pd.DataFrame:
        """One row per file: ``table, file, read, accepted, quarantined, reasons``."""
        rows = [
            {
                "table": file.table,
                "file": file.file,
                "read": file.read,
                "accepted": file.accepted,
                "quarantined": file.quarantined,
                "reasons": ", ".join(f"{code} {n:,}" for code, n in file.reasons.items()),
            }
            for file in self.files
        ]
        columns = ["table", "file", "read", "accepted", "quarantined", "reasons"]
        return pd.DataFrame(rows, columns=columns)

    def to_json(self) -> dict[str, dict[str, Any]]:
        """``{table: {"read", "accepted", "quarantined", "reasons": {code: count}}}``."""
        tables: dict[str, dict[str, Any]] = {}
        for file in self.files:
            table = tables.setdefault(
                file.table, {"read": 0, "accepted": 0, "quarantined": 0, "reasons": {}}
            )
            table["read"] += file.read
            table["accepted"] += file.accepted
            table["quarantined"] += file.quarantined
            for code, count in file.reasons.items():
                table["reasons"][code] = table["reasons"].get(code, 0) + count
        return tables


def open_tables(
    source: str | Path | ibis.BaseBackend,
    tables: Sequence[str] | None = None,
    *,
    business_tz: str | None = None,
    returns: Returns | None = None,
    max_quarantined: float = MAX_QUARANTINED,
    resolve_identities: bool = True,
    memory_limit: str | None = None,
    threads: int | None = None,
    optional: Sequence[str] = (),
) -> Tables:
    """Open a source and type it by the contract.

    Args:
        source: A data set's name, a folder, a single orders file, a ``.duckdb`` file, an Ibis URL
            or an Ibis connection.
        tables: Names of the tables that are needed; all that are there without it.
        business_tz: IANA zone of times without an offset and of ``business_date``; by default what
            ``tables.toml`` says, else UTC.
        returns: What becomes of negative order amounts: ``net`` keeps them among the orders,
            ``separate`` moves them to ``Tables.returns``, ``reject`` refuses them.
        max_quarantined: Share of a table's rows (0-1) that may be refused. A named data set of
            which more is known to be unusable keeps its own, larger share.
        resolve_identities: Fold customers who share a phone, union id or member card into one.
        memory_limit: Of the embedded engine, for example ``"2GB"``.
        threads: Of the embedded engine.
        optional: Beside ``tables``, those that are opened where they are there.

    Raises:
        ContractError: The source, a file, a table or a column is missing; a file cannot be read;
            or more rows than ``max_quarantined`` would be refused.
    """
    opened, report = _open(
        source, tables, business_tz, returns, resolve_identities, memory_limit, threads, optional
    )
    named = resolve(source).dataset if isinstance(source, str) else None
    allowed = max(max_quarantined, named.max_quarantined if named else 0.0)
    _refuse_too_many(report, allowed)
    return opened


def open_and_check(
    source: str | Path | ibis.BaseBackend,
    tables: Sequence[str] | None = None,
    *,
    business_tz: str | None = None,
) -> tuple[Tables, IntakeReport]:
    """Tables and contract report of a source from one reading, however many rows were refused.

    Raises:
        ContractError: The source, a table or a required column is missing.
    """
    return _open(source, tables, business_tz, None, True, None, None)


def check(source: str | Path | ibis.BaseBackend, *, business_tz: str | None = None) -> IntakeReport:
    """The contract report of a source: rows read, accepted and quarantined, by reason.

    Raises:
        ContractError: The source, a table or a required column is missing. Refused rows are
            reported, however many.
    """
    return open_and_check(source, business_tz=business_tz)[1]


def fingerprint(source: str | Path) -> str:
    """Hash of a source's content (64 hex digits): equal fingerprints mean equal data.

    Of files, the bytes of every file read and of ``tables.toml``; of a database, its address and
    the number of rows of every table of the contract.
    """
    found = resolve(source)
    if found.url and not Path(found.url).is_file():
        return _database_fingerprint(found.name, _connect(found))
    return _files_fingerprint(found)


def _files_fingerprint(source: Source) -> str:
    folder = source.folder or Path()
    if source.dataset:
        paths = [folder / name for name in source.dataset.files]
    elif source.url:
        paths = [Path(source.url)]
    else:
        paths = sorted({path for table in source.tables.values() for path in table.files})
    if source.configuration:
        paths.append(source.configuration)
    whole = hashlib.sha256()
    for path in paths:
        stat = path.stat()
        digest = _file_hash(str(path), stat.st_size, stat.st_mtime_ns)
        whole.update(f"{path.relative_to(folder).as_posix()}\0{digest}\n".encode())
    return whole.hexdigest()


@lru_cache(maxsize=4096)
def _file_hash(path: str, size: int, modified: int) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _database_fingerprint(name: str, connection: Any) -> str:
    whole = hashlib.sha256(name.encode())
    there = set(connection.list_tables())
    for table in sorted(there & set(BY_NAME)):
        rows = int(connection.table(table).count().execute())
        whole.update(f"{table}\0{rows}\n".encode())
    return whole.hexdigest()


def _open(
    source: str | Path | ibis.BaseBackend,
    wanted: Sequence[str] | None,
    business_tz: str | None,
    returns: Returns | None,
    resolve_identities: bool,
    memory_limit: str | None,
    threads: int | None,
    optional: Sequence[str] = (),
) -> tuple[Tables, IntakeReport]:
    required, wanted = wanted, None if wanted is None else [*wanted, *optional]
    for name in wanted or ():
        if name not in BY_NAME:
            close = get_close_matches(name, BY_NAME, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(BY_NAME)}"
            raise ContractError(f"the contract has no table {name!r}; {hint}")
    if isinstance(source, str | Path):
        found = resolve(source)
    else:
        found = Source(f"{source.name} connection", {})
    if business_tz is not None:
        check_zone(business_tz, "business_tz")
        found = replace(found, business_tz=business_tz)
    if returns is not None:
        if returns not in RETURNS:
            raise ContractError(f"returns must be net, separate or reject; got {returns!r}")
        found = replace(found, returns=returns)
    if found.folder is not None and not found.url:
        taken, hashed = _take_files(found, wanted, memory_limit, threads)
    else:
        connection = _database(source, found, memory_limit, threads)
        taken = _take_database(found, connection, wanted)
        of_file = found.url is not None and Path(found.url).is_file()
        hashed = (
            _files_fingerprint(found) if of_file else _database_fingerprint(found.name, connection)
        )
    _refuse_missing(required, taken, found)
    return _assemble(found, taken, hashed, resolve_identities)


def _take_files(
    source: Source, wanted: Sequence[str] | None, memory_limit: str | None, threads: int | None
) -> tuple[dict[str, Taken], str]:
    scratch = Path(tempfile.mkdtemp(prefix="journeylab-"))
    files = [path for table in source.tables.values() for path in table.files]
    readable = {path.resolve().parent for path in files}
    if source.dataset and source.folder is not None:
        readable.add(source.folder)
    connection: Any = connect_duckdb(
        [*sorted(readable), scratch],
        memory_limit=memory_limit,
        threads=threads,
        spill=scratch / "spill",
    )
    weakref.finalize(connection, shutil.rmtree, scratch, ignore_errors=True)
    zone, returns = source.business_tz, source.returns
    needed = _needed(wanted, source.tables)
    taken: dict[str, Taken] = {}
    if source.dataset and source.dataset.read and source.folder:
        raws = source.dataset.read(connection, source.folder)
        needed = _needed(wanted, raws)
        for name in needed:
            at = TableSource(BY_NAME[name])
            file = [f"{source.name}:{name}"]
            taken[name] = take_in(
                connection, scratch, at, zone=zone, returns=returns, raw=raws[name], lines=file
            )
    else:
        for name in needed:
            at = source.tables[name]
            taken[name] = take_in(connection, scratch, at, zone=zone, returns=returns)
    if "orders" not in taken and "order_lines" in taken and _asked("orders", wanted):
        raw = orders_from_lines(taken["order_lines"].accepted)
        if raw is not None:
            # Lines hold UTC by now: the zone is only asked for the business date again.
            at = TableSource(BY_NAME["orders"])
            raw = raw.mutate(ordered_at=raw.ordered_at.cast("timestamp('UTC')"))
            taken["orders"] = take_in(
                connection, scratch, at, zone=zone, returns=returns, raw=raw, lines=["order_lines"]
            )
    return taken, _files_fingerprint(source)


def _needed(wanted: Sequence[str] | None, there: Any) -> list[str]:
    """Tables to read: those asked for, and those they are made from."""
    names = [table.name for table in TABLES if table.name in there]
    if wanted is None:
        return names
    asked = {*wanted, "identities"}
    if "orders" in asked and "orders" not in there:
        asked.add("order_lines")
    return [name for name in names if name in asked]


def _asked(name: str, wanted: Sequence[str] | None) -> bool:
    return wanted is None or name in wanted


def _database(
    source: str | Path | ibis.BaseBackend,
    found: Source,
    memory_limit: str | None,
    threads: int | None,
) -> Any:
    if not isinstance(source, str | Path):
        return source
    assert found.url is not None
    if Path(found.url).is_file():
        return _open_file(found.name, Path(found.url), memory_limit, threads)
    return _connect(found)


def _open_file(name: str, path: Path, memory_limit: str | None, threads: int | None) -> Any:
    try:
        return connect_duckdb(memory_limit=memory_limit, threads=threads, database=path)
    except duckdb.Error as error:
        raise ContractError(
            f"{name} cannot be opened as a DuckDB file: {str(error).splitlines()[0]}"
        ) from error


def _connect(found: Source) -> Any:
    scheme = str(found.url).partition(":")[0]
    try:
        return ibis.connect(str(found.url))
    except ImportError as error:
        raise ContractError(
            f"{found.name} needs a driver that is not installed: "
            f"pip install 'ibis-framework[{scheme}]' ({error})"
        ) from error
    except ValueError as error:
        raise ContractError(f"{found.name} is no address that Ibis knows: {error}") from error


def _take_database(
    source: Source, connection: Any, wanted: Sequence[str] | None
) -> dict[str, Taken]:
    _refuse_other_zones(source, connection)
    there = {str(name).lower(): name for name in connection.list_tables()}
    found = [name for name in BY_NAME if name in there]
    if not found:
        raise ContractError(
            f"{source.name} has no table of the contract; found "
            f"{', '.join(sorted(there)[:8]) or 'none at all'}"
        )
    taken: dict[str, Taken] = {}
    for name in _needed(wanted, found):
        try:
            taken[name] = take_from_database(
                TableSource(BY_NAME[name], at=there[name]),
                connection.table(there[name]),
                zone=source.business_tz,
                returns=source.returns,
                engine=connection.name,
            )
        except duckdb.Error as error:
            raise ContractError(
                f"{source.name}: {there[name]} cannot be read: {str(error).splitlines()[0]}"
            ) from error
    return taken


def _refuse_other_zones(source: Source, connection: Any) -> None:
    """Spark moves every timestamp to the zone of its session: only UTC keeps them as they are."""
    if connection.name != "pyspark":
        return
    zone = connection._session.conf.get("spark.sql.session.timeZone")
    if zone not in ("UTC", "Etc/UTC", "Z", "+00:00"):
        raise ContractError(
            f"{source.name}: the Spark session is in {zone}; set spark.sql.session.timeZone to UTC"
        )


def _refuse_missing(wanted: Sequence[str] | None, taken: dict[str, Taken], source: Source) -> None:
    for name in wanted or ():
        if name in taken:
            continue
        offered = sorted({*source.tables, *taken}) or ["nothing"]
        beside = [*source.ignored]
        plain = {Path(entry).stem.lower(): entry for entry in beside}
        close = get_close_matches(name, plain, n=1)
        hint = f"; is it {plain[close[0]]!r}? Map it in tables.toml" if close else ""
        raise ContractError(
            f"{source.name} has no {name} table; it has {', '.join(offered)}"
            f"{' and beside them ' + ', '.join(beside[:6]) if beside else ''}{hint}"
        )


def _refuse_too_many(report: IntakeReport, allowed: float) -> None:
    for name, counts in report.to_json().items():
        if counts["quarantined"] <= allowed * counts["read"]:
            continue
        share = counts["quarantined"] / counts["read"]
        reasons = ", ".join(f"{code} {count:,}" for code, count in counts["reasons"].items())
        first = report.quarantine[report.quarantine["table"] == name].iloc[0]
        line = "" if pd.isna(first["line"]) else f" line {int(first['line'])}"
        column = f" ({first['column']})" if first["column"] else ""
        raise ContractError(
            f"{report.source}: {counts['quarantined']:,} of {counts['read']:,} rows of {name} "
            f"({share:.1%}) cannot be used: {reasons}. The first is {first['file']}{line}: "
            f"{first['reason']}{column} in {str(first['raw'])[:120]!r}. Mend the source or its "
            f"mapping (`journeylab check` lists the rows), or raise max_quarantined "
            f"above {allowed:g}"
        )


def _assemble(
    source: Source, taken: dict[str, Taken], hashed: str, resolve_identities: bool
) -> tuple[Tables, IntakeReport]:
    accepted: dict[str, ir.Table] = {name: one.accepted for name, one in taken.items()}
    merges = None
    if "identities" in accepted:
        merges = find_merges(accepted["identities"])
        if resolve_identities and merges.mapping:
            accepted = {name: _merged(name, table, merges) for name, table in accepted.items()}
            merges = replace(merges, repeated=_repeated(accepted))
    returned = taken["orders"].returns if "orders" in taken else None
    if returned is not None and merges and merges.mapping and resolve_identities:
        returned = apply_merges(returned, merges, ["customer_id"])
    quarantine = pa.concat_tables(
        [QUARANTINE_SCHEMA.empty_table(), *(one.quarantine for one in taken.values())]
    )
    frame = quarantine.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)
    report = IntakeReport(
        source.name,
        hashed,
        tuple(file for one in taken.values() for file in one.files),
        frame,
        merges,
        source.ignored,
    )
    opened = Tables(
        **accepted,
        returns=returned,
        source=source.name,
        fingerprint=hashed,
        business_tz=source.business_tz,
    )
    return opened, report


def _repeated(merged: dict[str, ir.Table]) -> dict[str, int]:
    """Rows by table whose key came twice only when people were merged."""
    counts = {}
    for name, table in merged.items():
        key = [column for column in BY_NAME[name].key if column in table.columns]
        if name in ("customers", "identities") or "customer_id" not in key:
            continue
        if again := count_repeated(table, key):
            counts[name] = again
    return counts


def _merged(name: str, table: ir.Table, merges: Merges) -> ir.Table:
    columns = [column for column in _PERSON_COLUMNS if column in table.columns]
    if name != "customers":
        return apply_merges(table, merges, columns)
    # Of the rows of one person the earliest is kept: that is when they first became known. Without
    # a time it is the row of the id that stands for them.
    merged = apply_merges(table.mutate(_own=table.customer_id), merges, ["customer_id"])
    order = [merged["_own"] != merged.customer_id, merged["_own"]]
    if "joined_at" in merged.columns:
        order = [merged.joined_at.isnull(), merged.joined_at, *order]  # noqa: PD003
    place = ibis.row_number().over(group_by=merged.customer_id, order_by=order)
    ranked = merged.mutate(_place=place)
    return ranked.filter(ranked["_place"] == 0).drop("_own", "_place")
