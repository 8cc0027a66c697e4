"""Redaction: a run's files as outsiders may see them, counts of few people and lists left out."""

import csv
import hashlib
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import pandas as pd

from journeylab.errors import RunError
from journeylab.pseudonyms import is_personal
from journeylab.report.cleaning import RawTable, read_html
from journeylab.sharing.contents import printed_columns
from journeylab.sharing.segments import counts_people, cover_few, people_columns

_RECORD = "application/vnd.journeylab.record+json"
_ROWS_SHOWN = 20
_FROM_TABLES = (".parquet", ".csv", ".tsv")
_SEPARATORS = ",;\t|"
_PICTURES = ("image/",)
_SVG_TEXT = re.compile(r"<(?:text|title|desc)\b[^>]*>(.*?)</(?:text|title|desc)>", re.DOTALL)
_TAG = re.compile(r"<[^>]*>")
_WORDS = "accounts|buyers|clients|customers|households|members|people|persons|users|visitors"
_SAID = re.compile(rf"(?i)(?<![\d.,\w-])([1-9]\d?)\s+(?:{_WORDS})\b(?!\s+(?:or more|and more))")
_LABELLED = re.compile(rf"(?i)\b(?:n|{_WORDS}|人数|客户数)\s*[=:：]\s*([1-9]\d?)(?![\d.,])")


@dataclass
class Redaction:
    """What was hidden and left out, so that the reader and the sender are told.

    Attributes:
        k: The fewest people that are shown.
        cells: Counts that are blank in tables and records.
        held_back: What stayed as a whole, by place, with the reason.
        rows_of_people: Rows with one person each, of tables that stayed or came along.
        lists: Whether such rows came along.
        notices: Places where prose gives a number of few people; nothing is hidden there.
        changed: Notebooks of which something is hidden.
    """

    k: int
    lists: bool
    cells: int = 0
    held_back: dict[str, str] = field(default_factory=dict)
    rows_of_people: int = 0
    notices: list[str] = field(default_factory=list)
    changed: set[str] = field(default_factory=set)

    @property
    def few(self) -> str:
        """Who is hidden, in words."""
        return f"fewer than {self.k} customers"

    def note(self, cells: int) -> str:
        """What a page says below a table."""
        return (
            f"{cells} cell{'' if cells == 1 else 's'} hidden: {self.few}, or what would give such "
            "a count away"
        )

    def to_json(self) -> dict[str, Any]:
        """For the manifest of what is shared."""
        return {
            "k": self.k,
            "cells_hidden": self.cells,
            "held_back": dict(sorted(self.held_back.items())),
            "rows_of_people": self.rows_of_people,
            "rows_of_people_shared": self.lists,
        }


def redact(files: dict[str, bytes], k: int, lists: bool) -> Redaction:
    """Blank counts of fewer than ``k`` people in a run's files, and leave lists of people out.

    Args:
        files: Path within the run to content; changed in place. Pages are not touched: they are
            built again from what is left.
        k: The fewest people that may be shown; 1 hides no count.
        lists: Whether tables with a row for each person come along.
    """
    redaction = Redaction(k, lists)
    folders = sorted({name.partition("/")[0] for name in files if "/" in name})
    for folder in folders:
        _Folder(folder, files, redaction).redact()
    _summary(files, redaction)
    if redaction.changed and "manifest.json" in files:
        _manifest(files, redaction)
    return redaction


@dataclass
class _Folder:
    """One notebook's files while they are redacted."""

    name: str
    files: dict[str, bytes]
    all: Redaction
    results: dict[str, Any] = field(default_factory=dict)
    # name of a recorded table to what became of it: "few" or "people"
    touched: dict[str, str] = field(default_factory=dict)

    def redact(self) -> None:
        path = f"{self.name}/results.json"
        if path in self.files:
            self.results = _read_json(path, self.files[path])
        before = json.dumps(self.results, sort_keys=True)
        for name, entry in self.results.items():
            if isinstance(entry, dict) and isinstance(entry.get("table"), str):
                self._table(name, entry)
        recorded = {f"{self.name}/tables/{name}.parquet" for name in self.results}
        inside = [each for each in self.files if each.startswith(f"{self.name}/tables/")]
        for each in inside:
            if each not in recorded:
                self._loose_table(each)
        for name in list(self.results):
            self.results[name] = self._scalar(name, self.results[name])
        for name, entry in self.results.items():
            if isinstance(entry, dict) and isinstance(entry.get("figure"), str):
                self._figure(name, entry)
        if json.dumps(self.results, sort_keys=True) != before:
            self._changed()
            text = json.dumps(self.results, sort_keys=True, indent=2, ensure_ascii=False)
            self.files[path] = (text + "\n").encode()
        self._notebook()
        self._drop_strays()

    @property
    def hides_few(self) -> bool:
        return "few" in self.touched.values()

    def _changed(self) -> None:
        self.all.changed.add(self.name)

    def _hold_back(self, place: str, reason: str) -> None:
        self._changed()
        self.all.held_back[f"{self.name}/{place}"] = reason

    def _people_rows(self, place: str, rows: int) -> str:
        """Count rows of one person each; the reason why they stay, or nothing."""
        self.all.rows_of_people += rows
        if self.all.lists:
            return ""
        reason = f"left out: {rows:,} rows, each about one customer; share --lists sends them"
        self._hold_back(place, reason)
        return reason

    def _table(self, name: str, entry: dict[str, Any]) -> None:
        path = f"{self.name}/{entry['table']}"
        if path not in self.files:
            return
        declared = entry.get("people")
        blanked = _blanked_parquet(self.files[path], self.all.k, name, declared)
        if blanked.personal:
            if reason := self._people_rows(name, blanked.rows):
                self.touched[name] = "people"
                self._replace(entry, reason)
                del self.files[path]
        elif blanked.refusal:
            reason = f"held back: {blanked.refusal}"
            self.touched[name] = "few"
            self._hold_back(name, reason)
            self._replace(entry, reason)
            del self.files[path]
        elif blanked.cells:
            self.touched[name] = "few"
            self.all.cells += blanked.cells
            self.files[path] = blanked.content
            entry["rows"] = blanked.rows
            entry["hidden"] = self.all.note(blanked.cells)

    def _replace(self, entry: dict[str, Any], reason: str) -> None:
        entry.clear()
        entry["held_back"] = reason

    def _loose_table(self, path: str) -> None:
        """A list in CSV, or anything else in the folder for tables."""
        place = path.partition("/")[2]
        stem, suffix = PurePosixPath(path).stem, PurePosixPath(path).suffix.lower()
        if suffix not in _FROM_TABLES:
            if self.all.k > 1:
                self._hold_back(place, f"held back: counts of few cannot be looked for in {suffix}")
                del self.files[path]
            return
        entry = self.results.get(stem)
        declared = entry.get("people") if isinstance(entry, dict) else None
        read = _blanked_parquet if suffix == ".parquet" else _blanked_csv
        blanked = read(self.files[path], self.all.k, stem, declared)
        if blanked.personal:
            if self._people_rows(place, blanked.rows):
                del self.files[path]
        elif blanked.refusal:
            self.touched.setdefault(stem, "few")
            self._hold_back(place, f"held back: {blanked.refusal}")
            del self.files[path]
        elif blanked.cells:
            self.touched.setdefault(stem, "few")
            self.all.cells += blanked.cells
            self.files[path] = blanked.content
            self._changed()

    def _scalar(self, name: str, entry: Any) -> Any:
        """A number of people, or a mapping with some, with the small ones in words."""
        if _is_few(name, entry, self.all.k):
            self.all.cells += 1
            return self.all.few
        if not isinstance(entry, dict) or {"table", "figure", "held_back", "ci_low"} & entry.keys():
            return entry
        whole = {key: value for key, value in entry.items() if _is_count(value)}
        if counts_people(name) and len(whole) > 1:
            frame = pd.DataFrame({"key": list(whole), "customers": list(whole.values())})
            cover = cover_few(frame, self.all.k, declared=["customers"])
            blank = [bool(cover.refusal) or bool(row[1]) for row in cover.hidden]
            self.all.cells += sum(blank)
            hidden = {key for key, gone in zip(whole, blank, strict=True) if gone}
            return {
                key: f"hidden: {self.all.few}" if key in hidden else value
                for key, value in entry.items()
            }
        return {key: self._scalar(key, value) for key, value in entry.items()}

    def _figure(self, name: str, entry: dict[str, Any]) -> None:
        path = f"{self.name}/{entry['figure']}"
        reason = self._why_not_shown(entry.get("draws"), self.files.get(path, b""), path)
        if reason:
            self._hold_back(name, reason)
            self._replace(entry, reason)
            self.files.pop(path, None)

    def _why_not_shown(self, draws: Sequence[str] | None, content: bytes, path: str) -> str:
        """Why a figure stays; nothing where it may be shown."""
        known = draws is not None and all(name in self.results for name in draws)
        for table in draws or ():
            if self.touched.get(table) == "few":
                return f"held back: it draws {table}, of which cells are hidden ({self.all.few})"
            if self.touched.get(table) == "people":
                return f"held back: it draws {table}, which has a row for each customer"
        if not known and self.hides_few:
            tables = ", ".join(sorted(t for t, why in self.touched.items() if why == "few"))
            return (
                f"held back: it does not say what it draws, and cells of {tables} are hidden "
                f"({self.all.few}); record(..., table=...) says it"
            )
        if path.endswith(".svg") and content and self.all.k > 1:
            labels = [_TAG.sub("", each) for each in _SVG_TEXT.findall(content.decode("utf-8"))]
            if any(_says_few(label, self.all.k) for label in labels):
                return f"held back: its labels count {self.all.few}"
        return ""

    def _drop_strays(self) -> None:
        """Figures that no record names, where something is hidden."""
        named = {
            f"{self.name}/{entry['figure']}"
            for entry in self.results.values()
            if isinstance(entry, dict) and isinstance(entry.get("figure"), str)
        }
        for path in [each for each in self.files if each.startswith(f"{self.name}/figures/")]:
            if path not in named and self._why_not_shown(None, self.files[path], path):
                self._hold_back(path.partition("/")[2], "held back: no record says what it draws")
                del self.files[path]

    def _notebook(self) -> None:
        path = f"{self.name}/notebook.ipynb"
        if path not in self.files or (self.all.k < 2 and self.all.lists):
            return
        notebook = _read_json(path, self.files[path])
        changed = False
        for number, cell in enumerate(notebook.get("cells", []), start=1):
            where = f"cell {number}"
            if cell.get("cell_type") != "code":
                continue
            for place, output in enumerate(cell.get("outputs", [])):
                kept = self._output(output, where)
                changed |= kept != output
                cell["outputs"][place] = kept
        if changed:
            self._changed()
            text = json.dumps(notebook, sort_keys=True, indent=1, ensure_ascii=False)
            self.files[path] = (text + "\n").encode()

    def _output(self, output: dict[str, Any], where: str) -> dict[str, Any]:
        if output.get("output_type") == "stream":
            text = _joined(output.get("text", ""))
            reason = self._why_text_stays(text, where)
            self._notice(text, where)
            return {**output, "text": f"[{reason}]\n"} if reason else output
        bundle = output.get("data")
        if not isinstance(bundle, dict):
            return output
        entry = bundle.get(_RECORD)
        if isinstance(entry, dict) and isinstance(entry.get("name"), str):
            return {**output, "data": self._shown_record(entry, bundle, where)}
        reason = self._why_bundle_stays(bundle, where)
        self._notice(_joined(bundle.get("text/markdown", "")), where)
        return {**output, "data": {"text/plain": f"[{reason}]"}} if reason else output

    def _shown_record(
        self, entry: dict[str, Any], bundle: dict[str, Any], where: str
    ) -> dict[str, Any]:
        """The display of a record, as results.json has it now."""
        name, kept = str(entry["name"]), self.results.get(str(entry["name"]))
        if entry.get("kind") == "note":
            return bundle
        if entry.get("kind") in ("decision", "caution"):
            self._notice(str(entry.get("text", "")), f"{entry['kind']}, {where}")
            return bundle
        if isinstance(kept, dict) and "held_back" in kept:
            shown = {"name": name, "kind": entry.get("kind"), "held_back": kept["held_back"]}
            return {_RECORD: shown, "text/plain": kept["held_back"]}
        if isinstance(kept, dict) and "hidden" in kept and isinstance(kept.get("table"), str):
            frame = _frame_of(self.files[f"{self.name}/{kept['table']}"]).head(_ROWS_SHOWN)
            return {
                _RECORD: {"name": name, "kind": "table", **kept},
                "text/html": f"{frame.to_html(border=0, na_rep='')}<p>{kept['hidden']}</p>",
                "text/plain": frame.to_string(na_rep=""),
            }
        if entry.get("kind") in ("number", "text") and kept is not None:
            if entry.get("value") == kept:
                return bundle
            text = f"{name}: {kept}"
            return {_RECORD: {"name": name, "kind": "text", "value": kept}, "text/plain": text}
        if entry.get("kind") == "mapping" and isinstance(kept, dict):
            if entry.get("value", {k: v for k, v in entry.items() if k in kept}) == kept:
                return bundle
            shown = {"name": name, "kind": "mapping", "value": kept}
            return {_RECORD: shown, "text/plain": f"{name}: {kept}"}
        return bundle

    def _notice(self, text: str, where: str) -> None:
        for found in (*_SAID.finditer(text), *_LABELLED.finditer(text)):
            if int(found[1]) < self.all.k:
                self.all.notices.append(f"{self.name}, {where}: {found[0]!r}")

    def _why_text_stays(self, text: str, where: str) -> str:
        """Why printed text stays: a printed table of people, or one that counts few of them."""
        for _, _, values in printed_columns(text):
            if reason := self._people_rows(where, len(values)):
                return reason
        for _, _, values in printed_columns(text, counts_people):
            if any(_is_few_text(value, self.all.k) for value in values):
                return self._held_few(where)
        return ""

    def _held_few(self, where: str) -> str:
        self.touched[where] = "few"
        reason = f"held back: a table that is not recorded counts {self.all.few}"
        self._hold_back(where, reason)
        return reason

    def _why_bundle_stays(self, bundle: dict[str, Any], where: str) -> str:
        """Why what a cell shows without recording it stays."""
        pictures = [mime for mime in bundle if mime.startswith(_PICTURES)]
        for mime in pictures:
            content = _joined(bundle[mime]).encode()
            path = "x.svg" if "svg" in mime else "x.png"
            if reason := self._why_not_shown(None, content, path):
                self._hold_back(where, reason)
                return reason
        for mime in ("text/html", "text/plain"):
            text = _joined(bundle.get(mime, ""))
            if mime == "text/html":
                for frame in _tables_of(text):
                    if any(is_personal(str(column)) for column in frame.columns):
                        if reason := self._people_rows(where, len(frame)):
                            return reason
                    elif _counts_few(frame, self.all.k):
                        return self._held_few(where)
            elif "text/html" not in bundle and (reason := self._why_text_stays(text, where)):
                return reason
        known = {"text/html", "text/plain", "text/markdown", *pictures}
        if self.hides_few and not bundle.keys() <= known:
            reason = "held back: nobody can say what it shows, and cells of a table are hidden"
            self._hold_back(where, reason)
            return reason
        return ""


def _read_json(path: str, content: bytes) -> dict[str, Any]:
    try:
        read = json.loads(content)
    except ValueError as error:
        raise RunError(f"{path} is damaged and cannot be shared: {error}") from error
    if not isinstance(read, dict):
        raise RunError(f"{path} is damaged and cannot be shared: it holds no mapping")
    return read


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_few(name: str, value: Any, k: int) -> bool:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return _is_count(value) and 0 < value < k and counts_people(name)


def _is_few_text(text: str, k: int) -> bool:
    try:
        number = float(text.replace(",", ""))
    except ValueError:
        return False
    return number.is_integer() and 0 < number < k


def _says_few(text: str, k: int) -> bool:
    return any(
        int(found[1]) < k for pattern in (_SAID, _LABELLED) for found in pattern.finditer(text)
    )


def _counts_few(frame: pd.DataFrame, k: int) -> bool:
    return any(_is_few_text(str(cell), k) for name in people_columns(frame) for cell in frame[name])


def _tables_of(html: str) -> Iterator[pd.DataFrame]:
    """Tables of HTML as frames of text; the name of an index stands on a row of its own."""
    if "<table" not in html.lower():
        return
    for part in read_html(html):
        if not isinstance(part, RawTable):
            continue
        rows = [
            [cell.text.strip() for cell in row for _ in range(cell.columns)] for row in part.rows
        ]
        width = max(map(len, rows), default=0)
        rows = [row + [""] * (width - len(row)) for row in rows if row]
        head, body = rows[: part.head_rows], rows[part.head_rows :]
        names = [
            " ".join(filter(None, (row[at] for row in head))) or f"column {at}"
            for at in range(width)
        ]
        unique = [
            name if names.index(name) == at else f"{name} {at}" for at, name in enumerate(names)
        ]
        yield pd.DataFrame(body, columns=unique)
        if width == 2:
            # names and values side by side, as a mapping or a series is shown
            pairs = {row[0]: row[1] for row in rows}
            yield pd.DataFrame([pairs.values()], columns=list(pairs))


@dataclass(frozen=True, slots=True)
class _Blanked:
    """A table without small counts, or why there is none."""

    content: bytes
    rows: int
    cells: int = 0
    personal: bool = False
    refusal: str = ""


def _blanked_parquet(content: bytes, k: int, name: str, declared: Sequence[str] | None) -> _Blanked:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(io.BytesIO(content))
    except (OSError, ValueError):
        return _Blanked(content, 0, refusal="it is damaged and cannot be read")
    if any(map(is_personal, table.column_names)):
        return _Blanked(content, table.num_rows, personal=True)
    cover = cover_few(table.to_pandas(), k, name, declared)
    if cover.refusal or not cover.cells:
        return _Blanked(content, table.num_rows, cover.cells, refusal=cover.refusal)
    for place, column in enumerate(table.column_names):
        if cover.hidden[:, place].any():
            mask = pa.array(cover.hidden[:, place])
            kept = pc.if_else(mask, pa.scalar(None, table.schema.field(place).type), table[column])
            table = table.set_column(place, table.schema.field(place), kept)
    if len(cover.added):
        rows = pa.Table.from_pandas(cover.added.reindex(columns=table.column_names), table.schema)
        table = pa.concat_tables([table, rows.replace_schema_metadata(table.schema.metadata)])
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", version="2.6", row_group_size=1_000_000)
    return _Blanked(buffer.getvalue(), table.num_rows, cover.cells)


def _blanked_csv(content: bytes, k: int, name: str, declared: Sequence[str] | None) -> _Blanked:
    marked = content.startswith(b"\xef\xbb\xbf")
    text = content.decode("utf-8-sig", "surrogateescape")
    head = text.partition("\n")[0]
    separator = max(_SEPARATORS, key=head.count)
    lines = list(csv.reader(io.StringIO(text, newline=""), delimiter=separator))
    if not lines:
        return _Blanked(content, 0)
    names, body = lines[0], [line for line in lines[1:] if line]
    if any(map(is_personal, names)):
        return _Blanked(content, len(body), personal=True)
    if len(set(names)) < len(names) or any(len(line) != len(names) for line in body):
        ragged = "its lines do not have one cell for each name, so counts cannot be found"
        return _Blanked(content, len(body), refusal=ragged)
    cover = cover_few(pd.DataFrame(body, columns=names), k, name, declared)
    if cover.refusal or not cover.cells:
        return _Blanked(content, len(body), cover.cells, refusal=cover.refusal)
    for row, column in zip(*cover.hidden.nonzero(), strict=True):
        body[row][column] = ""
    added = cover.added.reindex(columns=names).fillna("").astype(str).values.tolist()
    out = io.StringIO(newline="")
    end = "\r\n" if head.endswith("\r") else "\n"
    csv.writer(out, delimiter=separator, lineterminator=end).writerows([names, *body, *added])
    blanked = (b"\xef\xbb\xbf" * marked) + out.getvalue().encode("utf-8", "surrogateescape")
    return _Blanked(blanked, len(body) + len(added), cover.cells)


def _frame_of(content: bytes) -> pd.DataFrame:
    """A recorded table for reading; whole numbers with gaps stay whole."""
    import pyarrow.parquet as pq

    frame: pd.DataFrame = pq.read_table(io.BytesIO(content)).to_pandas(integer_object_nulls=True)
    return frame


def _summary(files: dict[str, bytes], redaction: Redaction) -> None:
    """The table of a run over a grid: its rows are segments where a value of the grid is one."""
    if "summary.json" not in files:
        return
    rows: list[Mapping[str, Any]] = json.loads(files["summary.json"])
    frame = pd.DataFrame(rows)
    keyed = [name for name in ("instance",) if name in frame.columns]
    others = [name for name in frame.columns if name not in keyed]
    frame = frame[keyed + others]
    cover = cover_few(frame, redaction.k)
    if not cover.cells and not cover.refusal:
        return
    redaction.cells += cover.cells
    kept = []
    for at, row in enumerate(rows):
        gone = {str(c) for c, hit in zip(frame.columns, cover.hidden[at], strict=True) if hit}
        counts = set(people_columns(frame)) if cover.refusal else set()
        words = {"notebook", "instance", "message", "state"}
        kept.append({n: v for n, v in row.items() if n not in (gone | counts) - words})
    files["summary.json"] = (json.dumps(kept, ensure_ascii=False, indent=2) + "\n").encode()


def _manifest(files: dict[str, bytes], redaction: Redaction) -> None:
    """Let the manifest say what is hidden; hashes of what is hidden would tell it by trial."""
    manifest = json.loads(files["manifest.json"])
    for entry in manifest.get("notebooks", []):
        entry["key"] = None
        entry["key_parts"] = {}
        folder = str(entry["instance"])
        outputs = entry.get("outputs") or {}
        entry["outputs"] = {
            name: hashlib.sha256(files[f"{folder}/{name}"]).hexdigest()
            for name in outputs
            if f"{folder}/{name}" in files
        }
    manifest["shared"] = redaction.to_json()
    text = json.dumps(manifest, sort_keys=True, indent=2, ensure_ascii=False)
    files["manifest.json"] = (text + "\n").encode()


def _joined(text: Any) -> str:
    return "".join(map(str, text)) if isinstance(text, list) else str(text)
