"""Intake: every row of a source is accepted, or quarantined with a reason; none is lost."""

import csv
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import ibis
import ibis.expr.types as ir
import numpy as np
import pyarrow as pa

from journeylab.contract import Column, Returns, TableContract
from journeylab.errors import ContractError
from journeylab.tables import text as texts
from journeylab.tables.columns import (
    Reading,
    business_date,
    empty,
    engine_function,
    fault,
    given,
    read,
)
from journeylab.tables.files import SHEET_ROW, Part, open_part, repair
from journeylab.tables.sources import ROW_NUMBER, TYPED, TableSource, ending, match_columns

QUARANTINE_SCHEMA = pa.schema(
    [
        ("table", pa.string()),
        ("file", pa.string()),
        ("line", pa.int64()),
        ("reason", pa.string()),
        ("column", pa.string()),
        ("raw", pa.string()),
    ]
)
_LAZY_BYTES = 256 << 20
_SORTED_HASHES = 32_000_000
_BATCH = 100_000
PLACE = "_place"
_RESERVED = (
    "business_date",
    "rowid",
    "_reason",
    "_refuse",
    "_hash",
    "_content",
    "_before",
    "_first",
    "_own",
    "_from",
    "_to",
    PLACE,
)


@dataclass(frozen=True, slots=True)
class FileReport:
    """What became of the rows of one file.

    Attributes:
        table, file: The contract's table and the file (or database table) it was read from.
        read: Rows the file holds, counted apart from how they were read.
        accepted, quarantined: Where they went; ``read == accepted + quarantined``.
        reasons: Quarantined rows by reason code.
        encoding: Of a text file.
    """

    table: str
    file: str
    read: int
    accepted: int
    quarantined: int
    reasons: Mapping[str, int] = field(default_factory=dict)
    encoding: str = ""


@dataclass(frozen=True, slots=True)
class Taken:
    """One table taken in: what was accepted, what was not, and the count of both."""

    accepted: ir.Table
    returns: ir.Table | None
    quarantine: pa.Table
    files: tuple[FileReport, ...]


@dataclass(frozen=True, slots=True)
class _Refused:
    """A typed row that was refused: where it stands in its file, and why."""

    place: int
    reason: str
    column: str


def take_in(
    connection: Any,
    scratch: Path,
    source: TableSource,
    *,
    zone: str,
    returns: Returns = "net",
    raw: ir.Table | None = None,
    lines: Sequence[str] | None = None,
) -> Taken:
    """Read one table from its files: typed by the contract, refused rows set aside.

    Args:
        connection: The DuckDB connection that will hold the table.
        scratch: Folder the connection may read, for UTF-8 copies and repaired files.
        source: Files and how to read them.
        zone: Business zone, also of times without an offset.
        returns: What becomes of negative order amounts.
        raw: Rows under the contract's names that stand for the files, for named data sets and
            for tables made from other tables. A column ``_refuse`` there refuses rows.
        lines: What to call the file in reports, where ``raw`` is given.
    """
    contract = source.contract
    reading = Reading(zone, source.time_format, source.cents)
    if raw is not None:
        found = match_columns(contract, raw.columns, {}, contract.name)
        parts = [Part((lines or [contract.name])[0], raw, found)]
        parts[0].read = int(raw.count().execute())
        parts[0].refuses = "_refuse" in raw.columns
    else:
        names = _file_names(source.files)
        parts = [
            open_part(connection, scratch, source, path, name)
            for path, name in zip(source.files, names, strict=True)
        ]
        if not all("line_no" in part.names for part in parts):
            for part in parts:
                part.names.pop("line_no", None)
        if lazy := _lazily(connection, source, parts, reading, returns):
            return lazy
    staging = _stage(connection, scratch, contract, parts, reading, returns)
    refused = _refused_by_part(staging, contract, parts)
    return _settle(connection, contract, parts, staging, refused, returns)


def _file_names(paths: Sequence[Path]) -> list[str]:
    """What to call files in reports: the name alone where it tells them apart."""
    alone = Counter(path.name for path in paths)
    return [
        path.name if alone[path.name] == 1 else f"{path.parent.name}/{path.name}" for path in paths
    ]


def typed_rows(
    part: Part,
    contract: TableContract,
    columns: Sequence[Column],
    attributes: Sequence["Attribute"],
    reading: Reading,
    returns: Returns,
    *,
    raw_too: bool = False,
) -> ir.Table:
    """The part's rows with typed columns, attributes, ``business_date`` and ``_reason``.

    Three steps, each naming what the next one uses often: written as one expression, a column's
    reading would stand in the query many times over. With ``raw_too`` the source's own values
    come along as text, under ``raw`` and their name.
    """
    raw = part.raw
    here = [c for c in columns if part.names.get(c.name) not in (None, ROW_NUMBER)]
    said: dict[str, ir.Value] = {
        f"said {c.name}": given(raw[part.names[c.name]], c, part.file) for c in here
    }
    free = _attributes_of(part)
    for attribute in attributes:
        name = free.get(attribute.folded)
        value = ibis.null().cast("string") if name is None else raw[name]
        said[f"kept {attribute.name}"] = value.cast("string") if attribute.as_text else value
    said["refused"] = raw["_refuse"] if part.refuses else ibis.null().cast("string")
    own = {f"raw {name}": raw[name].cast("string") for name in raw.columns} if raw_too else {}
    first = raw.select(**said, **own)
    values = {c.name: read(first[f"said {c.name}"], c, reading) for c in here}
    second = first.mutate(**values)
    reasons = [second["refused"]]
    reasons += [fault(second[f"said {c.name}"], second[c.name], c) for c in here]
    if contract.name == "orders" and returns == "reject":
        negative = second["amount"] < 0
        reasons.append(ibis.cases((negative, "negative_amount:amount"), else_=None))
    final: dict[str, ir.Value] = {}
    for column in columns:
        if column in here:
            final[column.name] = second[column.name]
        else:
            number = part.names.get(column.name) == ROW_NUMBER
            final[column.name] = ibis.literal("") if number else empty(column)
    if contract.dated_by in values:
        moment = second[contract.dated_by]
        final["business_date"] = business_date(moment, reading.zone, reading.engine)
    for attribute in attributes:
        final[attribute.name] = second[f"kept {attribute.name}"]
    reason = ibis.coalesce(*(one.cast("string") for one in reasons))
    return second.select(**final, **{name: second[name] for name in own}, _reason=reason)


@dataclass(frozen=True, slots=True)
class Attribute:
    """A column the contract does not know, kept under ``name``; capital letters do not matter."""

    name: str
    folded: str
    as_text: bool


def _attributes_of(part: Part) -> dict[str, str]:
    """Columns of a part that the contract did not ask for, by their name in small letters."""
    used = set(part.names.values())
    if part.refuses:
        used.add("_refuse")
    return {name.casefold(): name for name in reversed(part.raw.columns) if name not in used}


def layout(contract: TableContract, parts: Sequence[Part]) -> tuple[list[Column], list[Attribute]]:
    """Contract columns that some part has, and attributes that some part has.

    An attribute whose name the contract or the intake needs is kept with ``source_`` before it;
    one that comes in several types, or as a list or a struct, is kept as text.
    """
    columns = [
        column for column in contract.columns if any(column.name in part.names for part in parts)
    ]
    kinds: dict[str, set[str]] = {}
    shown: dict[str, str] = {}
    nested: set[str] = set()
    for part in parts:
        schema = part.raw.schema()
        for folded, name in reversed(_attributes_of(part).items()):
            kinds.setdefault(folded, set()).add(str(schema[name].copy(nullable=True)))
            shown.setdefault(folded, name)
            if schema[name].is_nested() or schema[name].is_json() or schema[name].is_binary():
                nested.add(folded)
    taken = {*_RESERVED, *(column.name for column in contract.columns)}
    attributes = []
    for folded, name in shown.items():
        while name.casefold() in taken or name.startswith("raw "):
            name = f"source_{name}"
        taken.add(name.casefold())
        attributes.append(Attribute(name, folded, len(kinds[folded]) > 1 or folded in nested))
    return columns, attributes


def _stage(
    connection: Any,
    scratch: Path,
    contract: TableContract,
    parts: Sequence[Part],
    reading: Reading,
    returns: Returns,
) -> ir.Table:
    """All parts in one table of the engine, in file order; a row's ``rowid`` is its place."""
    columns, attributes = layout(contract, parts)
    name = f"staging_{contract.name}"
    for number, part in enumerate(parts):
        typed = typed_rows(part, contract, columns, attributes, reading, returns)
        staged = _write_part(connection, name, typed, number, part)
        # The file's rows are counted twice, by the engine and from its bytes. Where the two
        # differ, or the engine gave up, the file is read again record by record.
        if part.text is not None and staged + len(part.structural) != part.read:
            _undo_part(connection, name, parts[:number])
            repair(connection, scratch, part)
            typed = typed_rows(part, contract, columns, attributes, reading, returns)
            staged = _write_part(connection, name, typed, number, part)
        if staged + len(part.structural) != part.read:
            why = part.error or "the file may have changed while it was open"
            raise ContractError(f"{part.file}: {part.read} rows were counted; {why}")
        part.staged = staged
    return connection.table(name)


def _write_part(connection: Any, name: str, typed: ir.Table, number: int, part: Part) -> int:
    """Append a part to the staging table; rows added, or -1 where the engine refused the file."""
    try:
        if number == 0:
            connection.create_table(name, typed, overwrite=True)
            return int(connection.table(name).count().execute())
        before = int(connection.table(name).count().execute())
        connection.insert(name, typed)
        return int(connection.table(name).count().execute()) - before
    except (duckdb.InvalidInputException, duckdb.ConversionException) as error:
        part.error = f"the engine could not read them: {str(error).splitlines()[0]}"
        return -1


def _undo_part(connection: Any, name: str, kept: Sequence[Part]) -> None:
    """Take the last part out of the staging table again."""
    if kept and name in connection.list_tables():
        table = connection.table(name)
        rows = sum(part.staged for part in kept)
        connection.create_table(name, table.filter(table.rowid() < rows), overwrite=True)


def _refused_by_part(
    staging: ir.Table, contract: TableContract, parts: Sequence[Part]
) -> list[list[_Refused]]:
    placed = staging.mutate(**{PLACE: staging.rowid()})
    bad = placed.filter(placed["_reason"].notnull()).select(PLACE, "_reason")
    found = bad.to_pyarrow().to_pylist()
    found += _duplicates(placed, contract, parts, any_bad=bool(found))
    found.sort(key=lambda row: int(row[PLACE]))
    refused: list[list[_Refused]] = [[] for _ in parts]
    at, start = 0, 0
    for row in found:
        while row[PLACE] >= start + parts[at].staged:
            start += parts[at].staged
            at += 1
        reason, _, column = str(row["_reason"]).partition(":")
        refused[at].append(_Refused(int(row[PLACE]) - start, reason, column))
    return refused


def key_columns(contract: TableContract, parts: Sequence[Part]) -> list[str]:
    """Key columns that the source has and did not leave to us to number."""
    names = [part.names for part in parts]
    if contract.name == "order_lines" and not all("line_no" in found for found in names):
        return []
    there = [column for column in contract.key if any(column in found for found in names)]
    if any(found.get(column) == ROW_NUMBER for found in names for column in there):
        return []
    return there


def _duplicates(
    placed: ir.Table, contract: TableContract, parts: Sequence[Part], *, any_bad: bool
) -> list[dict[str, Any]]:
    """Rows whose key an earlier row already has."""
    key = key_columns(contract, parts)
    if not key:
        return []
    good = placed.filter(placed["_reason"].isnull()) if any_bad else placed
    optional = [name for name in key if not contract.column(name).required]  # type: ignore[union-attr]
    if len(optional) == len(key):
        good = good.filter(*(good[name].notnull() for name in key))
    if unique(good, key):
        return []
    hashed = good.mutate(_hash=_hash(good, key))
    twice = hashed.group_by("_hash").agg(rows=hashed.count())
    twice = twice.filter(twice.rows > 1)
    suspects = hashed.semi_join(twice, "_hash")
    rest = [name for name in placed.columns if name not in (PLACE, "_reason")]
    content = ibis.struct({name: suspects[name] for name in rest}).cast("string")
    suspects = suspects.mutate(_content=content)
    window = ibis.window(group_by=key, order_by=PLACE)
    judged = suspects.mutate(
        _before=ibis.row_number().over(window), _first=suspects["_content"].first().over(window)
    )
    later = judged.filter(judged["_before"] > 0)
    name = ",".join(key)
    verdict = ibis.ifelse(
        later["_content"] == later["_first"], f"exact_duplicate:{name}", f"conflicting_key:{name}"
    )
    return list(later.select(later[PLACE], _reason=verdict).to_pyarrow().to_pylist())


def _settle(
    connection: Any,
    contract: TableContract,
    parts: Sequence[Part],
    staging: ir.Table,
    refused: Sequence[Sequence[_Refused]],
    returns: Returns,
) -> Taken:
    """Part the staging table into accepted rows and quarantine, and count both."""
    places: list[int] = []
    start = 0
    rows: list[dict[str, Any]] = []
    files: list[FileReport] = []
    for part, bad in zip(parts, refused, strict=True):
        places += [start + one.place for one in bad]
        start += part.staged
        described = list(_describe(contract.name, part, bad))
        if len(described) != len(bad) + len(part.structural):
            raise ContractError(
                f"{part.file}: {len(bad) + len(part.structural)} rows were refused and "
                f"{len(described)} found again in the file; it may have changed while it was open"
            )
        rows += described
        files.append(
            FileReport(
                contract.name,
                part.file,
                part.read,
                part.staged - len(bad),
                len(described),
                dict(sorted(Counter(row["reason"] for row in described).items())),
                part.text.encoding if part.text else "",
            )
        )
    numbered = [
        name
        for name in contract.columns
        if any(p.names.get(name.name) == ROW_NUMBER for p in parts)
    ]
    line_numbers = contract.name == "order_lines" and "line_no" not in staging.columns
    accepted = staging.drop("_reason")
    if places or numbered or line_numbers:
        placed = staging.mutate(**{PLACE: staging.rowid()})
        if places:
            out = ibis.memtable(pa.table({PLACE: pa.array(places, pa.int64())}))
            placed = placed.anti_join(out, PLACE)
        for column in numbered:
            number = (placed[PLACE] + 1).cast("string")
            placed = placed.mutate(**{column.name: number})
        if line_numbers:
            within = ibis.window(group_by="order_id", order_by=PLACE)
            placed = placed.mutate(line_no=ibis.row_number().over(within) + 1)
            head = ["order_id", "line_no"]
            placed = placed.select(*head, *(c for c in placed.columns if c not in head))
        final = placed.order_by(PLACE).drop(PLACE, "_reason")
        accepted = connection.create_table(contract.name, final, overwrite=True)
        connection.drop_table(staging.get_name())
    counted = int(accepted.count().execute())
    if counted != sum(file.accepted for file in files):
        raise ContractError(
            f"{contract.name}: {counted} rows were kept of {sum(f.accepted for f in files)} "
            "accepted; no result can be trusted"
        )
    set_aside = None
    if contract.name == "orders" and returns == "separate":
        set_aside = accepted.filter(accepted.amount < 0)
        accepted = accepted.filter(accepted.amount >= 0)
    quarantine = pa.Table.from_pylist(rows, QUARANTINE_SCHEMA)
    return Taken(accepted, set_aside, quarantine, tuple(files))


def _describe(table: str, part: Part, bad: Sequence[_Refused]) -> Iterator[dict[str, Any]]:
    """Quarantine rows of a part, in file order, with line and raw text."""
    described = [
        {
            "table": table,
            "file": part.file,
            "line": record.line,
            "reason": record.reason,
            "column": "",
            "raw": record.raw,
        }
        for record in part.structural
    ]
    wanted = {one.place: one for one in bad}
    for place, line, raw in _raw_rows(part, wanted):
        one = wanted[place]
        described.append(
            {
                "table": table,
                "file": part.file,
                "line": line,
                "reason": one.reason,
                "column": one.column,
                "raw": raw,
            }
        )
    return iter(sorted(described, key=lambda row: (row["line"], row["reason"])))


def _raw_rows(part: Part, wanted: Mapping[int, _Refused]) -> Iterable[tuple[int, int, str]]:
    """Place, line and raw text of the wanted rows of a part."""
    if not wanted:
        return
    if part.text is not None:
        place = -1
        for record in texts.records(part.text):
            place += record.fields is not None
            if record.fields is not None and place in wanted:
                yield place, record.line, record.raw
        return
    numbered = part.raw.mutate(**{PLACE: ibis.row_number()})
    numbered = numbered.cast({PLACE: "int64"})
    chosen = ibis.memtable(pa.table({PLACE: pa.array(sorted(wanted), pa.int64())}))
    for row in numbered.semi_join(chosen, PLACE).order_by(PLACE).to_pyarrow().to_pylist():
        place = int(row.pop(PLACE))
        line = row.pop(SHEET_ROW, place + part.first_line)
        row.pop("_refuse", None)
        yield place, line, as_csv(row.values())


def as_csv(values: Iterable[object]) -> str:
    """One row of values as a line of CSV."""
    out = io.StringIO()
    csv.writer(out, lineterminator="").writerow(["" if v is None else v for v in values])
    return out.getvalue()


def _lazily(
    connection: Any,
    source: TableSource,
    parts: Sequence[Part],
    reading: Reading,
    returns: Returns,
) -> Taken | None:
    """A large, clean Parquet table as an expression over its files; ``None`` where it is not.

    Nothing is copied into the engine, so that what does not fit in memory can still be counted.
    """
    size = sum(path.stat().st_size for path in source.files)
    plain = not any(sign in str(path) for path in source.files for sign in "*?[")
    if size < _LAZY_BYTES or not plain or not all(ending(path) in TYPED for path in source.files):
        return None
    contract = source.contract
    columns, attributes = layout(contract, parts)
    unnumbered = not key_columns(contract, parts) and contract.key
    if unnumbered or returns == "separate" or len({part.raw.schema() for part in parts}) > 1:
        return None
    whole = connection.read_parquet(
        [str(path.resolve()) for path in source.files], hive_partitioning=False
    )
    one = Part(parts[0].file, whole, parts[0].names)
    typed = typed_rows(one, contract, columns, attributes, reading, returns)
    if int(typed["_reason"].count().execute()):
        return None
    placed = typed.mutate(**{PLACE: ibis.literal(0)})
    key = key_columns(contract, parts)
    if key and not unique(placed, key):
        return None
    files = tuple(FileReport(contract.name, part.file, part.read, part.read, 0) for part in parts)
    return Taken(typed.drop("_reason"), None, QUARANTINE_SCHEMA.empty_table(), files)


def unique(rows: ir.Table, key: Sequence[str]) -> bool:
    """Whether no key comes twice.

    As many distinct hashes as rows prove it; keys themselves are compared only where they differ.
    """
    hashed = rows.select(_hash=_hash(rows, key))
    count = int(hashed.count().execute())
    if count <= _SORTED_HASHES:
        # Sorting eight bytes a row here takes a fifth of the time the engine needs to tell them
        # apart, and at this limit a quarter of a gigabyte.
        hashes = np.sort(hashed.to_pyarrow()["_hash"].to_numpy())
        return not bool((hashes[1:] == hashes[:-1]).any())
    return int(hashed["_hash"].nunique().execute()) == count


def _hash(rows: ir.Table, key: Sequence[str]) -> ir.Value:
    values = rows[key[0]] if len(key) == 1 else ibis.struct({name: rows[name] for name in key})
    if rows.get_backend().name == "duckdb":
        # Ibis takes this hash through text to make it signed, which costs more than the hash.
        return engine_function("hash", str(values.type()), result="uint64")(values)
    return values.hash()


def orders_from_lines(lines: ir.Table) -> ir.Table | None:
    """Raw orders summed from their lines; ``None`` where lines do not say whose or when.

    A column ``_refuse`` marks orders that belong to nobody or to two people.
    """
    if not {"customer_id", "ordered_at", "amount"} <= set(lines.columns):
        return None
    sums: dict[str, ir.Value] = {
        "customer_id": lines.customer_id.min(),
        "people": lines.customer_id.nunique(),
        "ordered_at": lines.ordered_at.min(),
        "amount": lines.amount.sum(),
        "lines": lines.count(),
    }
    if "discount" in lines.columns:
        sums["discount"] = lines.discount.sum()
    for name in ("currency", "sales_channel", "store_id"):
        if name in lines.columns:
            one = lines[name].nunique() == 1
            sums[name] = ibis.ifelse(one, lines[name].cast("string").min(), None)
    orders = lines.group_by("order_id").agg(**sums)
    refuse = ibis.cases((orders.people > 1, "conflicting_key:customer_id"), else_=None)
    return orders.mutate(_refuse=refuse).drop("people").order_by("order_id")
