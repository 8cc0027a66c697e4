"""Contents: what stands in a file of any kind, as texts, columns, and files within it.

Nothing is left out because it is not shown: comments, attributes, metadata of pictures, the schema
of a Parquet file and the properties of a workbook are texts like any other.
"""

import base64
import binascii
import csv
import gzip
import io
import json
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote_to_bytes

from journeylab.errors import JourneyLabError
from journeylab.pseudonyms import is_personal
from journeylab.sharing.markup import read_markup

_MOST_BYTES = 1 << 31
_TEXT_SUFFIXES = frozenset(
    {".txt", ".md", ".log", ".py", ".toml", ".yaml", ".yml", ".ini", ".cfg", ".css", ".js", ".tex",
     ".rst", ".jsonl", ".ndjson", ".sql"}
)  # fmt: skip
_SEPARATORS = ",;\t|"
_DATA_ADDRESS = re.compile(r"data:([\w.+-]+/[\w.+-]+)?((?:;[\w=.-]+)*?)(;base64)?,([^\"'\s)<>]*)")
# whole numbers in columns that say what they hold; others are amounts and counts
_NUMBERED = re.compile(
    r"(?i)(phone|mobile|^tel$|^tel_|telephone|cell|contact|id_?card|identity|card_?(no|num)|bank"
    r"|account|手机|电话|身份证|卡号|账号)"
)
_CELL_OF_NOTHING = frozenset({"", "nan", "none", "null", "nat", "<na>", "na", "-", "–", "...", "…"})


class UnreadableError(JourneyLabError):
    """A file that cannot be looked into."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A text and where it stands in its file."""

    where: str
    text: str


@dataclass(frozen=True, slots=True)
class Column:
    """Values under one name: a column of a table, or what a key of a mapping holds."""

    where: str
    name: str
    values: Sequence[str]


@dataclass(frozen=True, slots=True)
class Part:
    """A file within a file: a picture in a page, a member of an archive."""

    name: str
    content: bytes


@dataclass(slots=True)
class Content:
    """What stands in a file."""

    pieces: list[Piece] = field(default_factory=list)
    columns: list[Column] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)

    def add_text(self, where: str, text: str) -> None:
        """A text, with files that are spelled out in it (``data:`` addresses) taken apart."""
        if "data:" in text:
            text = _DATA_ADDRESS.sub(lambda found: self._take_apart(where, found), text)
        if text.strip():
            self.pieces.append(Piece(where, text))

    def _take_apart(self, where: str, found: re.Match[str]) -> str:
        try:
            content = unquote_to_bytes(found[4])
            if found[3]:
                content = base64.b64decode(content + b"=" * (-len(content) % 4))
        except (binascii.Error, ValueError):
            return found[0]
        if content:
            suffix = _SUFFIXES.get((found[1] or "text/plain").lower(), "")
            self.parts.append(Part(f"{where}, data address{suffix}", content))
        return ""

    def add_column(self, where: str, name: str, values: Sequence[str]) -> None:
        """A column; cells that hold nothing are left out."""
        held = [value for value in values if value.strip().lower() not in _CELL_OF_NOTHING]
        if held:
            self.columns.append(Column(where, name, held))


_SUFFIXES = {
    "image/png": ".png",
    "image/jpeg": ".jpeg",
    "image/gif": ".gif",
    "image/svg+xml": ".svg",
    "text/html": ".html",
    "text/csv": ".csv",
    "application/json": ".json",
    "application/pdf": ".pdf",
    "text/plain": ".txt",
    "text/css": ".css",
}


def read_content(name: str, content: bytes) -> Content:
    """Everything that stands in a file.

    Args:
        name: Its path; the suffix says what it is.
        content: Its bytes.

    Raises:
        UnreadableError: It is of a kind that nobody here can look into, or damaged.
    """
    suffix = PurePosixPath(name).suffix.lower()
    found = Content()
    try:
        if suffix in _READERS:
            _READERS[suffix](found, content)
        else:
            _read_text(found, content, known=suffix in _TEXT_SUFFIXES)
    except UnreadableError:
        raise
    except Exception as error:
        raise UnreadableError(f"{name} is damaged: {type(error).__name__}") from error
    return found


def _decoded(content: bytes, known: bool = True) -> str:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        if not known:
            raise UnreadableError("it is neither text nor of a kind that is known") from None
        text = content.decode("gb18030")
    if "\0" in text and not known:
        raise UnreadableError("it is neither text nor of a kind that is known")
    return text.replace("\0", "")


def _read_text(found: Content, content: bytes, known: bool) -> None:
    text = _decoded(content, known)
    found.add_text("text", text)
    for where, name, values in printed_columns(text):
        found.add_column(where, name, values)


def printed_columns(
    text: str, wanted: Callable[[str], bool] = is_personal
) -> Iterator[tuple[str, str, list[str]]]:
    """Columns with ids of people, or whatever else is wanted, in frames that were printed as text.

    pandas sets columns to the right, so a column is counted from the end of the line; the name of
    an index stands alone on its line or before all others.
    """
    lines = text.split("\n")
    for number, line in enumerate(lines):
        words = line.split()
        if not any(map(wanted, words)) or not all(map(_NAME.fullmatch, words)):
            continue
        first = number == 0 or not lines[number - 1].strip()
        # below the names of columns stand those of the index, and nothing else
        index = not line[:1].isspace() and all(map(wanted, words))
        if not (first or index):
            continue
        for place, word in enumerate(words):
            if wanted(word):
                values = list(_printed_below(lines[number + 1 :], place, len(words), index))
                yield f"line {number + 1}, printed column {word}", word, values


_NAME = re.compile(r"[^\W\d]\w*|\.\.\.|\\\\")


def _printed_below(lines: list[str], place: int, count: int, index: bool) -> Iterator[str]:
    for line in lines:
        cells = line.split()
        # "[2 rows x 3 columns]" and "Name: clv, dtype: float64" end what pandas prints
        if not cells or cells[0].startswith(("[", "Name:", "Length:", "dtype:", "Freq:")):
            return
        at = place if index else len(cells) - (count - place)
        if 0 <= at < len(cells) and not is_personal(cells[at]):
            yield cells[at]


def _read_markup(found: Content, content: bytes) -> None:
    read_markup(_decoded(content), found.add_text, found.add_column)


def _read_json(found: Content, content: bytes) -> None:
    _walk(found, "", json.loads(_decoded(content)))


def _walk(found: Content, where: str, node: Any) -> None:
    """Every text of a tree; scalars below a key are its column."""
    if isinstance(node, str):
        found.add_text(where or "top", node)
    elif isinstance(node, dict):
        names, rows = node.get("columns"), node.get("data")
        if isinstance(names, list) and isinstance(rows, list):
            for place, name in enumerate(names):
                cells = [row[place] for row in rows if isinstance(row, list) and place < len(row)]
                _named(found, f"{where}/data", str(name), cells)
        for key, value in node.items():
            path = f"{where}/{key}"
            found.add_text(f"{where or 'top'}, key", str(key))
            _named(found, path, str(key), value)
            _walk(found, path, value)
    elif isinstance(node, list):
        for place, value in enumerate(node):
            _walk(found, f"{where}[{place}]", value)


def _named(found: Content, where: str, name: str, value: Any) -> None:
    if is_personal(name):
        found.add_column(where, name, list(_scalars(value)))
    elif _NUMBERED.search(name):
        for number in _scalars(value):
            found.add_text(where, number)


def _scalars(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            if not isinstance(item, dict):
                yield from _scalars(item)
    elif value is not None and not isinstance(value, bool):
        yield str(value)


def _read_notebook(found: Content, content: bytes) -> None:
    notebook = json.loads(_decoded(content))
    cells = notebook.get("cells", [])
    rest = {key: value for key, value in notebook.items() if key != "cells"}
    _walk(found, "notebook", rest)
    for number, cell in enumerate(cells, start=1):
        where = f"cell {number}"
        found.add_text(f"{where}, source", _joined(cell.get("source", "")))
        for name, bundle in (cell.get("attachments") or {}).items():
            _read_bundle(found, f"{where}, attachment {name}", bundle)
        known = ("source", "outputs", "attachments", "cell_type")
        _walk(found, where, {key: value for key, value in cell.items() if key not in known})
        for place, output in enumerate(cell.get("outputs", ()), start=1):
            at = f"{where}, output {place}"
            _read_bundle(found, at, output.get("data") or {})
            others = {k: v for k, v in output.items() if k not in ("data", "text", "output_type")}
            _walk(found, at, others)
            if "text" in output:
                _read_printed(found, at, _joined(output["text"]))


def _read_printed(found: Content, where: str, text: str) -> None:
    found.add_text(where, text)
    for at, name, values in printed_columns(text):
        found.add_column(f"{where}, {at}", name, values)


def _read_bundle(found: Content, where: str, bundle: dict[str, Any]) -> None:
    for mime, value in bundle.items():
        at = f"{where} ({mime})"
        if mime.endswith("json"):
            _walk(found, at, value)
            continue
        text = _joined(value)
        if mime.startswith(("image/", "application/pdf")) and "xml" not in mime:
            suffix = _SUFFIXES.get(mime, "")
            found.parts.append(Part(f"{at}{suffix}", base64.b64decode(text)))
        elif mime in ("text/html", "image/svg+xml", "application/xhtml+xml"):
            inner = Content()
            read_markup(text, inner.add_text, inner.add_column)
            found.pieces += [Piece(f"{at}, {piece.where}", piece.text) for piece in inner.pieces]
            for column in inner.columns:
                found.add_column(f"{at}, {column.where}", column.name, column.values)
            found.parts += [Part(f"{at}, {part.name}", part.content) for part in inner.parts]
        else:
            _read_printed(found, at, text)


def _joined(text: Any) -> str:
    return "".join(map(str, text)) if isinstance(text, list) else str(text)


def _read_csv(found: Content, content: bytes) -> None:
    text = _decoded(content)
    head = text.partition("\n")[0]
    separator = max(_SEPARATORS, key=head.count)
    csv.field_size_limit(1 << 30)
    rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=separator))
    if not rows:
        return
    names, body = rows[0], rows[1:]
    for place, name in enumerate(names):
        found.add_text("line 1", name)
        _add_cells(found, name, [row[place] for row in body if place < len(row)])
    for number, row in enumerate(body, start=2):
        for cell in row[len(names) :]:
            found.add_text(f"line {number}", cell)


def _add_cells(found: Content, name: str, cells: Sequence[str]) -> None:
    where = f"column {name}"
    if is_personal(name):
        found.add_column(where, name, cells)
    found.add_text(where, "\n".join(dict.fromkeys(cells)))


def _read_parquet(found: Content, content: bytes) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = pq.ParquetFile(io.BytesIO(content))
    schema = file.schema_arrow
    for owner, metadata in (
        ("metadata", schema.metadata),
        ("metadata", file.metadata.metadata),
        *((f"metadata of {each.name}", each.metadata) for each in schema),
    ):
        for key, value in (metadata or {}).items():
            # the schema itself, which is read as such
            if key != b"ARROW:schema":
                found.add_text(owner, f"{_loose(key)}: {_loose(value)}")
    table = file.read()
    for name, column in zip(table.column_names, table.columns, strict=True):
        found.add_text("column names", name)
        for path, values in _texts_of(name, pa.chunked_array(column)):
            _add_cells(found, path, values)


def _loose(content: bytes) -> str:
    return content.decode("utf-8", "replace")


def _texts_of(name: str, column: Any) -> Iterator[tuple[str, list[str]]]:
    """The texts in an Arrow column, however deep; numbers where the name says what they are."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type
    if pa.types.is_dictionary(kind):
        # every entry is in the file, whether a row uses it or not
        for chunk in column.chunks:
            yield from _texts_of(name, pa.chunked_array([chunk.dictionary]))
    elif pa.types.is_struct(kind):
        for place in range(kind.num_fields):
            inner = pc.struct_field(column, [place])
            yield from _texts_of(f"{name}.{kind.field(place).name}", pa.chunked_array(inner))
    elif pa.types.is_map(kind):
        for chunk in column.chunks:
            yield from _texts_of(f"{name}.key", pa.chunked_array([chunk.keys]))
            yield from _texts_of(f"{name}.value", pa.chunked_array([chunk.items]))
    elif (
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    ):
        yield from _texts_of(name, pa.chunked_array(pc.list_flatten(column)))
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
        yield name, [text for text in pc.unique(column).to_pylist() if text is not None]
    elif pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        yield name, [_loose(text) for text in pc.unique(column).to_pylist() if text is not None]
    elif is_personal(name) or (pa.types.is_integer(kind) and _NUMBERED.search(name)):
        values = [value for value in pc.unique(column).to_pylist() if value is not None]
        yield name, [str(value) for value in values]


def _read_png(found: Content, content: bytes) -> None:
    if not content.startswith(b"\x89PNG\r\n\x1a\n"):
        raise UnreadableError("it is no PNG")
    at = 8
    while at + 8 <= len(content):
        length, kind = struct.unpack(">I4s", content[at : at + 8])
        data = content[at + 8 : at + 8 + length]
        at += 12 + length
        if kind == b"tEXt":
            found.add_text("tEXt", data.decode("latin-1").replace("\0", ": "))
            found.add_text("tEXt", _loose(data))
        elif kind == b"zTXt":
            key, _, packed = data.partition(b"\0")
            found.add_text("zTXt", f"{_loose(key)}: {_loose(zlib.decompress(packed[1:]))}")
        elif kind == b"iTXt":
            key, _, rest = data.partition(b"\0")
            is_packed, body = rest[:1] == b"\1", rest[2:]
            language, _, body = body.partition(b"\0")
            translated, _, text = body.partition(b"\0")
            text = zlib.decompress(text) if is_packed else text
            words = b" ".join([language, translated, key + b":", text])
            found.add_text("iTXt", _loose(words))
        elif kind not in (b"IDAT", b"PLTE", b"IHDR", b"tRNS", b"IEND"):
            _add_readable(found, kind.decode("latin-1"), data)
    if rest := content[at:]:
        _add_readable(found, "after the picture", rest)


_READABLE = re.compile(rb"[\x20-\x7e\x80-\xff]{6,}")
_READABLE_WIDE = re.compile(rb"(?:[\x20-\x7e]\x00){6,}")


def _add_readable(found: Content, where: str, data: bytes) -> None:
    """Runs of letters in binary data, one or two bytes each."""
    for run in _READABLE.findall(data):
        found.add_text(where, _loose(run))
    for run in _READABLE_WIDE.findall(data):
        found.add_text(where, run.decode("utf-16-le"))


def _read_jpeg(found: Content, content: bytes) -> None:
    if not content.startswith(b"\xff\xd8"):
        raise UnreadableError("it is no JPEG")
    at = 2
    while at + 4 <= len(content) and content[at] == 0xFF:
        marker, length = content[at + 1], struct.unpack(">H", content[at + 2 : at + 4])[0]
        if marker == 0xDA:
            return
        if marker >= 0xE0:
            _add_readable(found, f"segment {marker:X}", content[at + 4 : at + 2 + length])
        at += 2 + length


def _read_gif(found: Content, content: bytes) -> None:
    if not content.startswith(b"GIF8"):
        raise UnreadableError("it is no GIF")
    # comments and application data begin with these two bytes
    for at in re.finditer(rb"\x21[\xfe\xff\x01]", content):
        _add_readable(found, "comment", content[at.end() : at.end() + 4096])


def _read_zip(found: Content, content: bytes) -> None:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        found.add_text("comment", _loose(archive.comment))
        members = [each for each in archive.infolist() if not each.is_dir()]
        if sum(each.file_size for each in members) > _MOST_BYTES:
            raise UnreadableError("unpacked it is larger than 2 GB")
        for each in members:
            found.add_text("member names", each.filename)
            found.add_text(f"comment of {each.filename}", _loose(each.comment))
            found.parts.append(Part(each.filename, archive.read(each)))


def _read_gzip(found: Content, content: bytes) -> None:
    with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
        unpacked = file.read(_MOST_BYTES + 1)
    if len(unpacked) > _MOST_BYTES:
        raise UnreadableError("unpacked it is larger than 2 GB")
    # what is inside says so by its first bytes, not by its name
    kind = ".parquet" if unpacked.startswith(b"PAR1") else ".txt"
    found.parts.append(Part(f"unpacked{kind}", unpacked))


def _read_workbook(found: Content, content: bytes) -> None:
    from openpyxl import load_workbook

    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for name in archive.namelist():
            # the cells of a sheet are read below, where numbers are told from texts
            if name.endswith((".xml", ".rels")) and "worksheets/sheet" not in name:
                _read_markup(found, archive.read(name))
            elif not name.endswith((".xml", ".rels", "/")):
                found.parts.append(Part(name, archive.read(name)))
    workbook = load_workbook(io.BytesIO(content), data_only=False)
    for sheet in workbook.worksheets:
        for number, cells in enumerate(sheet.iter_cols(), start=1):
            head = str(cells[0].value if cells[0].value is not None else "")
            where = f"sheet {sheet.title}, column {number}"
            values = [cell.value for cell in cells if cell.value is not None]
            numbers = bool(_NUMBERED.search(head))
            texts = [str(each) for each in values if isinstance(each, str) or numbers]
            found.add_text(where, "\n".join(dict.fromkeys(texts)))
            if is_personal(head):
                found.add_column(where, head, [str(each) for each in values[1:]])
            for cell in cells:
                if cell.comment is not None:
                    found.add_text(
                        f"{where}, comment", f"{cell.comment.author}: {cell.comment.text}"
                    )
                if cell.hyperlink is not None:
                    found.add_text(f"{where}, link", str(cell.hyperlink.target))


_READERS: dict[str, Callable[[Content, bytes], None]] = {
    ".html": _read_markup,
    ".htm": _read_markup,
    ".svg": _read_markup,
    ".xml": _read_markup,
    ".rels": _read_markup,
    ".ipynb": _read_notebook,
    ".json": _read_json,
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".parquet": _read_parquet,
    ".png": _read_png,
    ".jpg": _read_jpeg,
    ".jpeg": _read_jpeg,
    ".gif": _read_gif,
    ".zip": _read_zip,
    ".gz": _read_gzip,
    ".xlsx": _read_workbook,
}
