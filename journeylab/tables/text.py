"""Text files as records: which encoding, which line, which fields, and what is wrong with them.

A record is what RFC 4180 says: fields split by one delimiter, a quoted field may hold delimiters,
line breaks and doubled quotes; a quotation mark inside a bare field is a character like any other.
Where quoting is broken, one physical line is refused and reading goes on with the next, so that a
stray quote costs one row and never the rest of the file.
"""

import codecs
import gzip
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from journeylab.errors import ContractError

_CHUNK = 1 << 24
_LONGEST_QUOTED = 1 << 20
_MARK = "\ufdd0"  # a Unicode noncharacter: it stands in no text, so it can mark unreadable bytes
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_DELIMITERS = (",", "\t", ";", "|")


def _mark_unreadable(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    unreadable = error.object[error.start : error.end]
    return _MARK + "".join(f"\\x{byte:02x}" for byte in unreadable), error.end


codecs.register_error("journeylab-mark", _mark_unreadable)


@dataclass(frozen=True, slots=True)
class TextFile:
    """A text file ready to be read: plain UTF-8 without a byte-order mark.

    Attributes:
        name: What people call the file.
        plain: The UTF-8 text, the file itself where it was that already.
        encoding: The encoding it was in.
        delimiter: What separates fields.
        header: Field names of the first record.
        body: Bytes before the first record after the header.
        header_lines: Physical lines before the first record after the header.
    """

    name: str
    plain: Path
    encoding: str
    delimiter: str
    header: tuple[str, ...]
    body: int
    header_lines: int


@dataclass(frozen=True, slots=True)
class Record:
    r"""One record of a text file.

    Attributes:
        line: Physical line it begins on, the first line of the file being 1.
        raw: Its text as in the file, without the line break; unreadable bytes as ``\xNN``.
        fields: Its fields; ``None`` when it was refused.
        reason: Why it was refused, a code of ``contract.REASONS``; empty when it was not.
    """

    line: int
    raw: str
    fields: list[str] | None
    reason: str = ""


def open_text(
    path: Path,
    scratch: Path,
    *,
    name: str = "",
    encoding: str | None = None,
    delimiter: str | None = None,
) -> TextFile:
    """Find out how a text file is written and make it readable as UTF-8.

    Args:
        path: A CSV file, also gzipped (``.gz``).
        scratch: Folder for the UTF-8 copy, where one is needed.
        name: What to call the file in messages; by default its file name.
        encoding: As Python names it; detected when absent (UTF-8, UTF-16, GB18030).
        delimiter: One character; detected from the header when absent.

    Raises:
        ContractError: The file is empty, is in no encoding that can be detected, or its header
            cannot be used.
    """
    name = name or path.name
    if encoding is None:
        encoding = detect_encoding(path, name)
    else:
        try:
            encoding = codecs.lookup(encoding).name
        except LookupError as error:
            raise ContractError(
                f"{name}: there is no encoding called {encoding!r}; "
                "use a name such as utf-8, gb18030, utf-16 or cp1252"
            ) from error
    plain = path
    with path.open("rb") as file:
        begins_with_mark = file.read(3) == codecs.BOM_UTF8
    if encoding not in ("utf-8", "ascii") or path.suffix == ".gz" or begins_with_mark:
        plain = scratch / f"{len(list(scratch.iterdir()))}-{path.stem}.txt"
        _write_plain(path, plain, encoding, name)
    return _with_header(name, plain, encoding, delimiter)


def _chunks(path: Path, name: str) -> Iterator[bytes]:
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                yield chunk
    except (EOFError, gzip.BadGzipFile, OSError) as error:
        raise ContractError(f"{name} cannot be read to its end: {error}") from error


def detect_encoding(path: Path, name: str) -> str:
    """Encoding of a text file: by its byte-order mark, else UTF-8, else GB18030.

    Raises:
        ContractError: Neither fits; the message asks for the encoding to be named.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    sample = b""
    try:
        for chunk in _chunks(path, name):
            if not sample:
                sample = chunk
                for mark, encoding in _BYTE_ORDER_MARKS:
                    if chunk.startswith(mark):
                        return encoding
                head = chunk[: 1 << 16]
                if head[1::2].count(0) > len(head) // 4:
                    return "utf-16-le"
                if head[::2].count(0) > len(head) // 4:
                    return "utf-16-be"
            if decoder.getstate() == (b"", 0) and chunk.isascii():
                continue
            decoder.decode(chunk)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return _not_quite_utf8(path, name)
    return "utf-8"


def _not_quite_utf8(path: Path, name: str) -> str:
    """UTF-8 with some spoilt bytes, or GB18030? Told by how the bytes above 127 hang together."""
    runs: list[bytes] = []
    for chunk in _chunks(path, name):
        runs += re.findall(rb"[\x80-\xff]+", chunk)
        if len(runs) > 100_000:
            break
    valid = sum(_decodes(run, "utf-8") for run in runs)
    if valid >= len(runs) / 2:
        return "utf-8"
    # A Chinese character is two bytes in GBK, and the common ones have both above 127.
    paired = sum(len(run) % 2 == 0 and _decodes(run, "gb18030") for run in runs)
    if paired >= 0.8 * len(runs):
        return "gb18030"
    if len(runs) <= 3:
        return "utf-8"
    raise ContractError(
        f"{name} is neither UTF-8, UTF-16 nor GB18030; name its encoding in tables.toml, "
        'for example encoding = "cp1252"'
    )


def _decodes(run: bytes, encoding: str) -> bool:
    try:
        run.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def _write_plain(path: Path, plain: Path, encoding: str, name: str) -> None:
    decoder = codecs.getincrementaldecoder(encoding)("journeylab-mark")
    first = True
    with plain.open("w", encoding="utf-8", newline="", errors="surrogatepass") as out:
        for chunk in _chunks(path, name):
            text = decoder.decode(chunk)
            if first and text:
                text, first = text.removeprefix("\ufeff"), False
            out.write(text)
        out.write(decoder.decode(b"", final=True))


def _with_header(name: str, plain: Path, encoding: str, delimiter: str | None) -> TextFile:
    with plain.open("rb") as file:
        head = file.read(1 << 16)
    if not head.strip():
        raise ContractError(f"{name} is empty: a header and at least one row are needed")
    first = head.split(b"\n", 1)[0].decode("utf-8", "journeylab-mark")
    if _MARK in first:
        raise ContractError(
            f"{name}: the header cannot be read as {encoding}; name its encoding in tables.toml"
        )
    if delimiter is None:
        bare = re.sub(r'"[^"]*"', "", first)
        delimiter = max(_DELIMITERS, key=bare.count)
    elif len(delimiter) != 1:
        raise ContractError(f"{name}: a delimiter is one character; got {delimiter!r}")
    shape = TextFile(name, plain, encoding, delimiter, (), 0, 0)
    header = next(iter(_records(shape, width=None)))
    if header.fields is None:
        raise ContractError(f"{name}: the header has broken quoting: {header.raw[:80]!r}")
    fields = tuple(field.strip() for field in header.fields)
    if twice := sorted({field for field in fields if fields.count(field) > 1}):
        raise ContractError(f"{name}: the header names {twice[0]!r} {fields.count(twice[0])} times")
    if "" in fields:
        raise ContractError(f"{name}: column {fields.index('') + 1} of the header has no name")
    lines = header.raw.count("\n") + 1
    body = len(header.raw.encode()) + 1
    if head[body - 1 : body] == b"\r":
        body += 1
    return TextFile(name, plain, encoding, delimiter, fields, body, lines)


def records(text: TextFile) -> Iterator[Record]:
    """Every record after the header, in file order; empty lines are no records."""
    found = _records(text, width=len(text.header))
    next(found)
    yield from found


def _records(text: TextFile, width: int | None) -> Iterator[Record]:
    """Records from the top of the file; ``width`` is how many fields each should have."""
    with text.plain.open("rb") as file:
        lines = _Lines(file)
        while (raw := lines.take()) is not None:
            number = lines.taken
            if not raw:
                continue
            line = raw.decode("utf-8", "journeylab-mark")
            if '"' not in line:
                fields: list[str] | None = line.split(text.delimiter)
            else:
                fields, line = _quoted(lines, line, text.delimiter, width)
            shown = line.replace(_MARK, "")
            if _MARK in line:
                yield Record(number, shown, None, "bad_encoding")
            elif fields is None:
                yield Record(number, shown, None, "broken_quoting")
            elif width is not None and len(fields) < width:
                yield Record(number, shown, None, "too_few_columns")
            elif width is not None and len(fields) > width:
                yield Record(number, shown, None, "too_many_columns")
            else:
                yield Record(number, shown, fields)


class _Lines:
    """Physical lines with a way back: a record that fails gives its later lines up again."""

    def __init__(self, file: Iterator[bytes]) -> None:
        self._file = file
        self._given_back: list[bytes] = []
        self.taken = 0

    def take(self) -> bytes | None:
        line = self._given_back.pop() if self._given_back else next(self._file, None)
        if line is None:
            return None
        self.taken += 1
        return line.rstrip(b"\n").removesuffix(b"\r") if line.endswith(b"\n") else line

    def give_back(self, lines: list[bytes]) -> None:
        self._given_back += [line + b"\n" for line in reversed(lines)]
        self.taken -= len(lines)


def _quoted(
    lines: _Lines, line: str, delimiter: str, width: int | None
) -> tuple[list[str] | None, str]:
    """Split a record with quotes, taking further lines while a quoted field is open."""
    first, more, size = line, [], len(line)
    while True:
        fields = _split(line, delimiter)
        if fields is not None or not _is_open(line, delimiter) or size > _LONGEST_QUOTED:
            break
        raw = lines.take()
        if raw is None:
            break
        more.append(raw)
        size += len(raw)
        line += "\n" + raw.decode("utf-8", "journeylab-mark")
        if b'"' not in raw:
            continue
    good = fields is not None and (not more or width is None or len(fields) == width)
    if good:
        return fields, line
    lines.give_back(more)
    return None, first


def _split(line: str, delimiter: str) -> list[str] | None:
    """Fields of a complete record; ``None`` where quoting is broken or still open."""
    fields, at, end = [], 0, len(line)
    while True:
        if line.startswith('"', at):
            closing, pieces = at, []
            while True:
                closing_from = closing + 1
                closing = line.find('"', closing_from)
                if closing < 0:
                    return None
                pieces.append(line[closing_from:closing])
                if not line.startswith('"', closing + 1):
                    break
                closing += 1
            fields.append('"'.join(pieces))
            at = closing + 1
            if at == end:
                return fields
            if line[at] != delimiter:
                return None
        else:
            stop = line.find(delimiter, at)
            fields.append(line[at:] if stop < 0 else line[at:stop])
            if stop < 0:
                return fields
            at = stop
        at += 1


def _is_open(line: str, delimiter: str) -> bool:
    """Whether the record ends inside a quoted field, so that another line may close it."""
    at, end = 0, len(line)
    while at <= end:
        if line.startswith('"', at):
            closing = at
            while True:
                closing = line.find('"', closing + 1)
                if closing < 0:
                    return True
                if not line.startswith('"', closing + 1):
                    break
                closing += 1
            at = closing + 1
            if at < end and line[at] != delimiter:
                return False
        else:
            stop = line.find(delimiter, at)
            if stop < 0:
                return False
            at = stop
        at += 1
    return False


def count_records(text: TextFile) -> int | None:
    """How many records follow the header, counted from bytes alone; ``None`` when unsure.

    This count is the check on the engine's own reading: it looks at line breaks and quotation
    marks and at nothing else. Empty lines or a bare carriage return make it unsure.
    """
    count, inside, last = 0, 0, b"\n"
    left = _last_text(text.plain) - text.body
    with text.plain.open("rb") as file:
        file.seek(text.body)
        while left > 0 and (chunk := file.read(min(left, _CHUNK))):
            left -= len(chunk)
            codes = np.frombuffer(last + chunk, np.uint8)
            breaks = codes == 0x0A
            if (breaks[1:] & breaks[:-1]).any():
                return None
            if b"\r" in chunk and not _only_in_breaks(codes, breaks):
                return None
            breaks = breaks[1:]
            if inside or b'"' in chunk:
                parity = (np.cumsum(codes[1:] == 0x22, dtype=np.int64) + inside) & 1
                breaks &= parity == 0
                inside = int(parity[-1])
            count += int(np.count_nonzero(breaks))
            last = chunk[-1:]
    if inside:
        return None
    return count + (last != b"\n")


def _only_in_breaks(codes: np.ndarray, breaks: np.ndarray) -> bool:
    """Whether every carriage return belongs to the line break of a line that is not empty."""
    returns = np.flatnonzero(codes == 0x0D)
    inner = returns[(returns > 0) & (returns < len(codes) - 1)]
    return bool(breaks[inner + 1].all() and not breaks[inner - 1].any())


def _last_text(path: Path) -> int:
    """Where the text ends, without the line breaks and blanks that close the file."""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - (1 << 16)))
        tail = file.read()
    return size - len(tail) + len(tail.rstrip(b"\r\n"))
