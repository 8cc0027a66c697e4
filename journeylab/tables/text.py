"""Text files as records: which encoding, which line, which fields, and what is wrong with them.

A record is what RFC 4180 says: fields split by one delimiter, a quoted field may hold delimiters,
line breaks and doubled quotes; a quotation mark inside a bare field is a character like any other.
Where quoting is broken, one physical line is refused and reading goes on with the next, so that a
stray quote costs one row and never the rest of the file.
"""

import codecs
import gzip
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
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
        marked: Whether bytes were found that the encoding does not know.
    """

    name: str
    plain: Path
    encoding: str
    delimiter: str
    header: tuple[str, ...]
    body: int
    header_lines: int
    marked: bool = False


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
            found = codecs.lookup(encoding)
            "".encode(found.name)  # refuses codecs that are no text encoding, such as hex
            encoding = found.name
        except (LookupError, UnicodeError) as error:
            raise ContractError(
                f"{name}: there is no encoding called {encoding!r}; "
                "use a name such as utf-8, gb18030, utf-16 or cp1252"
            ) from error
    plain, marked = path, False
    with path.open("rb") as file:
        head = file.read(1 << 16)
    old_breaks = b"\r" in head and b"\n" not in head and not _is_zipped(path)
    begins_with_mark = head.startswith(codecs.BOM_UTF8)
    # Names with glob characters would mean other files to the engine.
    globbing = any(sign in str(path) for sign in "*?[")
    copied = encoding not in ("utf-8", "ascii") or _is_zipped(path) or begins_with_mark
    if copied or old_breaks or globbing:
        plain = scratch / f"{len(list(scratch.iterdir()))}-plain.txt"
        marked = _write_plain(path, plain, encoding, name, old_breaks)
    text = _with_header(name, plain, encoding, delimiter)
    return replace(text, marked=marked)


def _is_zipped(path: Path) -> bool:
    return path.suffix.lower() == ".gz"


def _chunks(path: Path, name: str) -> Iterator[bytes]:
    try:
        with gzip.open(path, "rb") if _is_zipped(path) else path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                yield chunk
    except (EOFError, gzip.BadGzipFile, zlib.error, OSError) as error:
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


def _write_plain(path: Path, plain: Path, encoding: str, name: str, old_breaks: bool) -> bool:
    """Copy a file as UTF-8 with unreadable bytes marked; whether there were any."""
    decoder = codecs.getincrementaldecoder(encoding)("journeylab-mark")
    first, marked = True, False
    try:
        with plain.open("w", encoding="utf-8", newline="", errors="surrogatepass") as out:
            for chunk in _with_end(_chunks(path, name)):
                text = decoder.decode(chunk, final=not chunk)
                if first and text:
                    text, first = text.removeprefix("\ufeff"), False
                marked = marked or _MARK in text
                out.write(text.replace("\r", "\n") if old_breaks else text)
    except UnicodeError as error:
        raise ContractError(f"{name} cannot be read as {encoding}: {error}") from error
    return marked


def _with_end(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The chunks and an empty one, which tells a decoder that nothing more comes."""
    yield from chunks
    yield b""


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
    with plain.open("rb") as file:
        lines = _Lines(file)
        header = next(_records(shape, lines, width=None))
        body, header_lines = lines.bytes_taken, lines.taken
    if header.fields is None:
        raise ContractError(f"{name}: the header has broken quoting: {header.raw[:80]!r}")
    fields = tuple(field.strip() for field in header.fields)
    folded = [field.casefold() for field in fields]
    if twice := sorted({field for field in fields if folded.count(field.casefold()) > 1}):
        raise ContractError(
            f"{name}: the header names {twice[0]!r} {folded.count(twice[0].casefold())} times "
            "(capital and small letters are the same)"
        )
    if "" in fields:
        raise ContractError(f"{name}: column {fields.index('') + 1} of the header has no name")
    return TextFile(name, plain, encoding, delimiter, fields, body, header_lines)


def records(text: TextFile) -> Iterator[Record]:
    """Every record after the header, in file order; empty lines are no records."""
    with text.plain.open("rb") as file:
        found = _records(text, _Lines(file), width=len(text.header))
        next(found)
        yield from found


def _records(text: TextFile, lines: "_Lines", width: int | None) -> Iterator[Record]:
    """Records from where the lines stand; ``width`` is how many fields each should have."""
    while (raw := lines.take()) is not None:
        number = lines.taken
        if raw in (b"", b"\r"):
            continue
        line = raw.decode("utf-8", "journeylab-mark").removesuffix("\r")
        if '"' not in line:
            fields: list[str] | None = line.split(text.delimiter)
        else:
            fields, line = _quoted(lines, raw, text.delimiter, width)
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
        self.bytes_taken = 0

    def take(self) -> bytes | None:
        """The next line up to its line feed; ``None`` at the end."""
        line = self._given_back.pop() if self._given_back else next(self._file, None)
        if line is None:
            return None
        self.taken += 1
        self.bytes_taken += len(line)
        return line.removesuffix(b"\n")

    def give_back(self, lines: list[bytes]) -> None:
        """Put lines back, to be taken again."""
        self._given_back += [line + b"\n" for line in reversed(lines)]
        self.taken -= len(lines)


def _quoted(
    lines: _Lines, raw: bytes, delimiter: str, width: int | None
) -> tuple[list[str] | None, str]:
    """Split a record with quotes, taking further lines while a quoted field is open."""
    pieces = [raw.decode("utf-8", "journeylab-mark")]
    first = line = pieces[0].removesuffix("\r")
    more: list[bytes] = []
    size = len(raw)
    fields = _split(line, delimiter)
    if fields is None and _is_open(line, delimiter):
        while size <= _LONGEST_QUOTED and (following := lines.take()) is not None:
            more.append(following)
            size += len(following)
            pieces.append(following.decode("utf-8", "journeylab-mark"))
            # Only a line with a quotation mark can close the field.
            if b'"' not in following:
                continue
            line = "\n".join(pieces).removesuffix("\r")
            fields = _split(line, delimiter)
            if fields is not None or not _is_open(line, delimiter):
                break
    if fields is not None and (not more or width is None or len(fields) == width):
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

    This count is the check on the engine's own reading: it looks at line breaks, delimiters and
    quotation marks and at nothing else. It is unsure, so that the file is read record by record,
    wherever the engine is known to read more kindly than the format allows: empty lines, bare
    carriage returns, a delimiter too many, blanks beside a quoted field, unreadable bytes.
    """
    if text.marked:
        return None
    count, delimiters, inside, last = 0, 0, 0, b"\n"
    sign = ord(text.delimiter) if len(text.delimiter.encode()) == 1 else None
    left = _last_text(text.plain) - text.body
    with text.plain.open("rb") as file:
        file.seek(text.body)
        while left > 0 and (chunk := file.read(min(left, _CHUNK))):
            left -= len(chunk)
            while chunk.endswith(b'"') and left > 0:
                chunk += file.read(1)
                left -= 1
            codes = np.frombuffer(last + chunk, np.uint8)
            breaks = codes == 0x0A
            if sign is None or (breaks[1:] & breaks[:-1]).any():
                return None
            if b"\r" in chunk and not _only_in_breaks(codes, breaks):
                return None
            breaks, found = breaks[1:], codes[1:] == sign
            if inside or b'"' in chunk:
                parity = (np.cumsum(codes[1:] == 0x22, dtype=np.int64) + inside) & 1
                if not _quotes_enclose_fields(codes, parity, sign):
                    return None
                breaks &= parity == 0
                found &= parity == 0
                inside = int(parity[-1])
            count += int(np.count_nonzero(breaks))
            delimiters += int(np.count_nonzero(found))
            last = chunk[-1:]
    count += last != b"\n"
    if inside or delimiters != count * (len(text.header) - 1):
        return None
    return count


def _quotes_enclose_fields(codes: np.ndarray, parity: np.ndarray, sign: int) -> bool:
    """Whether every quotation mark opens a field, closes one, or is doubled inside one.

    ``codes`` begins one byte before what ``parity`` speaks of.
    """
    marks = np.flatnonzero(codes[1:] == 0x22)
    opening, closing = marks[parity[marks] == 1], marks[parity[marks] == 0]
    before = codes[opening]
    after = codes[np.minimum(closing + 2, len(codes) - 1)]
    starts = (before == sign) | (before == 0x0A) | (before == 0x22)
    ends = (after == sign) | (after == 0x0A) | (after == 0x0D) | (after == 0x22)
    return bool(starts.all() and ends.all())


def _only_in_breaks(codes: np.ndarray, breaks: np.ndarray) -> bool:
    """Whether every carriage return belongs to the line break of a line that is not empty."""
    returns = np.flatnonzero(codes == 0x0D)
    inner = returns[(returns > 0) & (returns < len(codes) - 1)]
    return bool(breaks[inner + 1].all() and not breaks[inner - 1].any())


def _last_text(path: Path) -> int:
    """Where the text ends, without the line breaks that close the file."""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - (1 << 16)))
        tail = file.read()
    return size - len(tail) + len(tail.rstrip(b"\r\n"))
