"""Database tables: typed and checked by expression, with nothing written to the database."""

from collections import Counter

import ibis
import ibis.expr.types as ir
import pyarrow as pa

from journeylab.contract import Returns
from journeylab.errors import ContractError
from journeylab.tables.columns import Reading
from journeylab.tables.files import Part
from journeylab.tables.intake import (
    PLACE,
    QUARANTINE_SCHEMA,
    FileReport,
    Taken,
    as_csv,
    key_columns,
    layout,
    typed_rows,
    unique,
)
from journeylab.tables.sources import TableSource, match_columns

SAMPLED_ROWS = 1_000


def take_from_database(
    source: TableSource, raw: ir.Table, *, zone: str, returns: Returns, engine: str
) -> Taken:
    """Type and check a database table by expression: refused rows are counted and sampled.

    Nothing is written to the database. Rows have no order there, so of several rows with one key
    the first by all columns is kept.
    """
    contract = source.contract
    where = source.at or contract.name
    names = match_columns(contract, raw.columns, source.names, where)
    part = Part(where, raw, names)
    columns, attributes = layout(contract, [part])
    reading = Reading(zone, source.time_format, source.cents, engine)
    typed = typed_rows(part, contract, columns, attributes, reading, returns, raw_too=True)
    own = [name for name in typed.columns if name.startswith("raw ")]
    if contract.name == "order_lines" and "line_no" not in typed.columns:
        raise ContractError(
            f"{where}: order_lines in a database needs line_no: rows have no order there"
        )
    good = typed.filter(typed["_reason"].isnull()).drop("_reason", *own)
    read = int(raw.count().execute())
    by_reason = typed.group_by("_reason").agg(rows=typed.count())
    reasons: Counter[str] = Counter()
    for row in by_reason.filter(by_reason["_reason"].notnull()).to_pyarrow().to_pylist():
        reasons[str(row["_reason"]).partition(":")[0]] += int(row["rows"])
    bad = typed.filter(typed["_reason"].notnull())
    bad = bad.select(*own, "_reason").order_by(own)
    samples = [bad.limit(SAMPLED_ROWS).to_pyarrow().to_pylist()]
    key = key_columns(contract, [part])
    if key and not unique(good, key):
        everything = [good[name] for name in good.columns]
        place = ibis.row_number().over(group_by=[good[name] for name in key], order_by=everything)
        placed = good.mutate(**{PLACE: place})
        optional = all(not contract.column(name).required for name in key)  # type: ignore[union-attr]
        named = ibis.and_(*(placed[name].notnull() for name in key)) if optional else True
        later = placed.filter((placed[PLACE] > 0) & named)
        if again := int(later.count().execute()):
            reasons["conflicting_key"] += again
            shown = later.select(*(later[name].cast("string").name(name) for name in good.columns))
            sample = shown.limit(SAMPLED_ROWS).to_pyarrow().to_pylist()
            label = f"conflicting_key:{','.join(key)}"
            samples.append([{**row, "_reason": label} for row in sample])
            good = placed.filter(~((placed[PLACE] > 0) & named)).drop(PLACE)
    quarantined = sum(reasons.values())
    report = FileReport(
        contract.name,
        where,
        read,
        int(good.count().execute()),
        quarantined,
        dict(sorted(reasons.items())),
    )
    rows = []
    for row in (row for sample in samples for row in sample):
        reason, _, column = str(row.pop("_reason")).partition(":")
        described = {"table": contract.name, "file": where, "line": None, "reason": reason}
        rows.append({**described, "column": column, "raw": as_csv(row.values())})
    set_aside = None
    if contract.name == "orders" and returns == "separate":
        set_aside, good = good.filter(good.amount < 0), good.filter(good.amount >= 0)
    quarantine = pa.Table.from_pylist(rows, QUARANTINE_SCHEMA)
    return Taken(good, set_aside, quarantine, (report,))
