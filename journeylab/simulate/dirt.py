"""Dirt: a clean world spoilt as real sources are, with a count of everything that was planted."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from journeylab.simulate.people import Flags, Ints
from journeylab.simulate.preset import Preset
from journeylab.simulate.rows.clock import Clock
from journeylab.simulate.rows.columns import TIME, times, words

_RARE = 2_500
"""Rows of a table for each row that is spoilt in one way; all ways together stay below 1 %."""
_SECOND, _HOUR = 1_000_000, 3_600_000_000
_LATE, _SKEWED = 0.03, 0.01
_AHEAD_YEARS = 176 * 366 * 24 * _HOUR
"""What a clock that starts in another century adds."""
TILL, ONLINE = "门店收银.csv", "online.csv"
_CHINESE = {
    "store": "门店",
    "staff_shop": "内购",
    "app": "应用",
    "mini_program": "小程序",
}


@dataclass(frozen=True, slots=True)
class Planted:
    """What was planted in one table.

    Attributes:
        rows: Rows of the table now, the spoilt ones among them.
        refused: Rows that the intake must refuse, by its reason.
        late: Rows that arrived a day or more after they happened.
        skewed: Rows whose time is hours off and that nothing shows to be so.
    """

    rows: int
    refused: Mapping[str, int]
    late: int = 0
    skewed: int = 0


def soil(folder: Path, preset: Preset, seed: int) -> dict[str, Planted]:
    """Spoil a world that was just written into ``folder``; ``truth/dirt.json`` counts it.

    Orders become two CSV files: that of the tills in GB18030 with Chinese words, that of the apps
    in UTF-8. Orders and events get ``arrived_at``. Some rows come twice, contradict an earlier
    one, lack the customer, or hold what cannot be read.
    """
    planted = {}
    for number, (name, spoil) in enumerate(
        (("orders", _soil_orders), ("events", _soil_events), ("touches", _soil_touches))
    ):
        place = folder / name
        files = sorted(place.glob("*.parquet"))
        if not files:
            continue
        table = pa.concat_tables([pq.read_table(file) for file in files]).combine_chunks()
        if not table.num_rows:
            continue
        for file in files:
            file.unlink()
        rng = np.random.default_rng([seed, number])
        planted[name] = spoil(place, table, preset, rng)
    truth = folder / "truth"
    truth.mkdir(exist_ok=True)
    shown = {
        name: {
            "rows": one.rows,
            "refused": dict(one.refused),
            "late": one.late,
            "skewed": one.skewed,
        }
        for name, one in planted.items()
    }
    text = json.dumps(shown, indent=2, ensure_ascii=False)
    (truth / "dirt.json").write_text(text + "\n", encoding="utf-8")
    return planted


def _soil_orders(place: Path, table: pa.Table, preset: Preset, rng: np.random.Generator) -> Planted:
    """Two CSV files with duplicates, contradictions and fields that cannot be read."""
    table, late = _with_arrival(table, "ordered_at", rng)
    at_till = np.asarray(pc.is_in(table["sales_channel"], pa.array(["store", "staff_shop"])))
    refused: dict[str, int] = {}
    rows = 0
    for file, encoding, here in ((TILL, "gb18030", at_till), (ONLINE, "utf-8", ~at_till)):
        part = table.filter(pa.array(here))
        if not part.num_rows:
            continue
        columns = _as_text(part, preset, chinese=encoding == "gb18030")
        size = part.num_rows
        repeated, contradicted, nobody, amounts, moments, future = _apart(size, 6, rng)
        columns["customer_id"][nobody] = ""
        columns["amount"][amounts] = "约三十元" if encoding == "gb18030" else "n/a 30"
        columns["ordered_at"][moments] = "昨天下午" if encoding == "gb18030" else "yesterday"
        columns["ordered_at"][future] = "2201-01-01 08:00:00"
        again = {name: values[repeated] for name, values in columns.items()}
        against = {name: values[contradicted] for name, values in columns.items()}
        against["amount"] = np.array([f"{100 + float(v):.2f}" for v in against["amount"]], object)
        whole = {
            name: np.concatenate([columns[name], again[name], against[name]]) for name in columns
        }
        content = _csv(whole)
        broken = encoding == "utf-8"
        if broken:
            content += '"o0000000000-broken,' + "," * (len(columns) - 2) + "\n"
        (place / file).write_bytes(content.encode(encoding))
        for reason, spoilt in (
            ("exact_duplicate", repeated),
            ("conflicting_key", contradicted),
            ("missing", nobody),
            ("unreadable_number", amounts),
            ("unreadable_time", moments),
            ("time_out_of_range", future),
        ):
            refused[reason] = refused.get(reason, 0) + len(spoilt)
        refused["broken_quoting"] = refused.get("broken_quoting", 0) + broken
        rows += len(whole["order_id"]) + broken
    return Planted(rows, _some(refused), late)


def _soil_events(place: Path, table: pa.Table, preset: Preset, rng: np.random.Generator) -> Planted:
    """Events of devices whose clocks are wrong, and of nobody."""
    table, late = _with_arrival(table, "occurred_at", rng)
    nobody, future = _apart(table.num_rows, 2, rng)
    skewed = rng.random(table.num_rows) < _SKEWED
    skewed[np.concatenate([nobody, future])] = False
    shift = np.where(skewed, rng.integers(-11, 12, table.num_rows) * _HOUR, 0)
    shift[future] = _AHEAD_YEARS
    skewed &= shift != 0
    moment = _microseconds(table["occurred_at"]) + shift
    table = _replaced(table, "occurred_at", times(moment))
    there = np.ones(table.num_rows, np.bool_)
    there[nobody] = False
    table = _replaced(table, "customer_id", _null_where(table["customer_id"], ~there))
    pq.write_table(table, place / "events.parquet", compression="zstd")
    refused = _some({"missing": len(nobody), "time_out_of_range": len(future)})
    return Planted(table.num_rows, refused, late, int(skewed.sum()))


def _soil_touches(
    place: Path, table: pa.Table, preset: Preset, rng: np.random.Generator
) -> Planted:
    """A log that was exported twice in parts, with a status nobody announced."""
    repeated, contradicted, unknown = _apart(table.num_rows, 3, rng)
    status = np.asarray(table["status"].to_numpy(zero_copy_only=False), object).copy()
    status[unknown] = "bounced"
    table = _replaced(table, "status", pa.array(status, pa.string()))
    again = table.take(pa.array(repeated))
    against = table.take(pa.array(contradicted))
    other = _microseconds(against["touched_at"]) + 60 * _SECOND
    against = _replaced(against, "touched_at", times(other))
    whole = pa.concat_tables([table, again, against]).combine_chunks()
    pq.write_table(whole, place / "touches.parquet", compression="zstd")
    return Planted(
        whole.num_rows,
        _some(
            {
                "exact_duplicate": len(repeated),
                "conflicting_key": len(contradicted),
                "unreadable_choice": len(unknown),
            }
        ),
    )


def _with_arrival(table: pa.Table, dated_by: str, rng: np.random.Generator) -> tuple[pa.Table, int]:
    """The table with ``arrived_at``: within minutes for most rows, days later for some."""
    size = table.num_rows
    soon = (60 + rng.gamma(1.5, 400.0, size)).astype(np.int64)
    late = rng.random(size) < _LATE
    days = (1 + rng.gamma(0.8, 1.5, size)).astype(np.int64)
    wait = np.where(late, np.minimum(days, 9) * 86_400 + soon, soon)
    arrived = _microseconds(table[dated_by]) + wait * _SECOND
    return table.append_column("arrived_at", times(arrived)), int(late.sum())


def _apart(rows: int, ways: int, rng: np.random.Generator) -> list[Ints]:
    """Rows to spoil in each of several ways, none in two; fewer where there are few rows."""
    each = max(rows // _RARE, 1)
    chosen = rng.permutation(rows)[: each * ways]
    return [np.sort(part) for part in np.array_split(chosen, ways)]


def _as_text(table: pa.Table, preset: Preset, *, chinese: bool) -> dict[str, Any]:
    """Columns as the source would write them: object arrays of strings, empty for null."""
    columns = {}
    for name in table.column_names:
        column = table[name]
        if column.type == TIME:
            written = _local(column, preset) if chinese else _zulu(column)
        else:
            plain = pc.fill_null(column.cast(pa.string()), "")
            written = np.asarray(plain.to_numpy(zero_copy_only=False), object)
        columns[name] = written.copy()
    if chinese:
        shown = [_CHINESE.get(word, word) for word in columns["sales_channel"]]
        columns["sales_channel"] = np.array(shown, object)
        columns["store_name"] = _store_names(columns["store_id"], preset)
    return columns


def _store_names(store: Any, preset: Preset) -> Any:
    """``杭州3号店``, from the number of a store."""
    cities = list(preset.people.cities)
    number = np.array([int(word[1:] or 0) for word in store], np.int64)
    names = [f"{city}{k + 1}号店" for city in cities for k in range(12)]
    known = np.minimum(number, len(names) - 1)
    return np.asarray(words(names, known).to_numpy(zero_copy_only=False), object)


def _zulu(column: pa.ChunkedArray) -> Any:
    second = _microseconds(column) // _SECOND
    written = np.datetime_as_string(second.astype("datetime64[s]"))
    return np.char.add(written, "Z").astype(object)


def _local(column: pa.ChunkedArray, preset: Preset) -> Any:
    """Wall-clock times with their offset."""
    utc = _microseconds(column) // _SECOND
    start = np.datetime64(preset.start, "s").astype(np.int64)
    clock = Clock(preset.start, preset.business_tz)
    # The offset at a time is that of the wall clock that shows it; two rounds find it.
    offset = np.zeros_like(utc)
    for _ in range(2):
        offset = utc + offset - clock.utc(utc + offset - start) // _SECOND
    wall = np.datetime_as_string((utc + offset).astype("datetime64[s]"))
    minutes = np.abs(offset) // 60
    shown = [
        f"{'-' if o < 0 else '+'}{m // 60:02d}:{m % 60:02d}"
        for o, m in zip(*np.unique(np.column_stack([offset, minutes]), axis=0).T, strict=True)
    ]
    which = np.searchsorted(np.unique(offset), offset)
    return np.char.add(np.char.replace(wall, "T", " "), np.array(shown)[which]).astype(object)


def _csv(columns: Mapping[str, Any]) -> str:
    table = pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})
    out = BytesIO()
    plain = pacsv.WriteOptions(include_header=False, quoting_style="needed")
    pacsv.write_csv(table, out, plain)
    return ",".join(columns) + "\n" + out.getvalue().decode("utf-8")


def _microseconds(column: pa.ChunkedArray) -> Ints:
    return np.asarray(column.cast(pa.int64()).to_numpy(), np.int64)


def _replaced(table: pa.Table, name: str, column: Any) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, column)


def _null_where(column: pa.ChunkedArray, absent: Flags) -> Any:
    return pc.if_else(pa.array(absent), pa.scalar(None, column.type), column)


def _some(refused: Mapping[str, int]) -> dict[str, int]:
    """Reasons that occur, in alphabetical order."""
    return {reason: count for reason, count in sorted(refused.items()) if count}
