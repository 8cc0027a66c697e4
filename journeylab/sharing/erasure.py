"""Erasure: one customer is taken out of the runs and caches that are kept."""

import csv
import hashlib
import io
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from journeylab.errors import RunError
from journeylab.pseudonyms import is_personal, pseudonym_of
from journeylab.sharing.traces import called_ids, is_telling
from journeylab.sharing.workbooks import without_in_workbook

ERASED = "[erased]"
_TEXTS = frozenset({".html", ".json", ".ipynb", ".txt", ".svg", ".md", ".jsonl", ".log"})
_ROW = re.compile(r"[ \t]*<tr\b(?:(?!<tr\b).)*?</tr>\n?", re.DOTALL | re.IGNORECASE)
_TABLE = re.compile(r"<table\b.*?</table>", re.DOTALL | re.IGNORECASE)
_CELL = re.compile(r"<t[dh]\b[^>]*>\s*(.*?)\s*</t[dh]>", re.DOTALL | re.IGNORECASE)
_TAG = re.compile(r"<[^<>]*>")
_LABEL = re.compile(r"<text\b[^>]*>(.*?)</text>", re.DOTALL)
# what heads a printed frame
_NAME = re.compile(r"[^\W\d]\w*|\.\.\.|\\\\")
_SEPARATORS = ",;\t|"


@dataclass(frozen=True, slots=True)
class Place:
    """A file that held a customer.

    Attributes:
        file: Relative to the root of the runs.
        rows: Rows of a table that were the customer's; 0 where only texts named them.
        mentions: Other places in it.
    """

    file: str
    rows: int
    mentions: int


@dataclass(frozen=True, slots=True)
class Erasure:
    """What a customer was taken out of.

    Attributes:
        places: Files, by path.
        cached: Finished notebooks that were dropped from caches.
        again: Notebooks of runs (``run/instance``) that rest on the customer's data and have to
            be run again, once the data themselves are without the customer.
    """

    places: tuple[Place, ...]
    cached: tuple[str, ...]
    again: tuple[str, ...]

    @property
    def rows(self) -> int:
        """Rows in all."""
        return sum(place.rows for place in self.places)


def forget(customer: str, root: Path, key: str, *, dry_run: bool = False) -> Erasure:
    """Take one customer, by id and by pseudonym, out of every run and cache below a root.

    Rows of tables go; so do rows of tables on pages and in notebooks; other mentions become
    ``[erased]``. Totals and models keep what they learned from the customer: the notebooks to
    run again are named. The source of the data is left alone; take the customer out there first.

    Args:
        customer: The id, as the source writes it; or the pseudonym.
        root: Holds the run folders.
        key: Of the project's pseudonyms.
        dry_run: Only say what would be done.

    Raises:
        RunError: There is no such root, the id is empty, or a file cannot be written.
    """
    if not customer.strip():
        raise RunError("name the customer to forget; the id is empty")
    if not root.is_dir():
        raise RunError(f"{root.name} is no folder of runs")
    sought = _Sought.of(customer, key)
    places: list[Place] = []
    cached: list[str] = []
    touched: dict[Path, set[str]] = {}
    for path in _files(root):
        # links to a file that several runs share are looked at once for each run
        erased = _without(path, sought)
        if erased is None:
            continue
        content, rows, mentions = erased
        inner = path.relative_to(root)
        entry = _cache_entry(root, path)
        if entry is not None:
            name = entry.relative_to(root).as_posix()
            if name not in cached:
                cached.append(name)
            continue
        places.append(Place(inner.as_posix(), rows, mentions))
        touched.setdefault(root / inner.parts[0], set()).add(
            inner.parts[1] if inner.parts[2:] else ""
        )
        if not dry_run:
            _write(path, content)
    again = _again(touched)
    if not dry_run:
        for name in cached:
            shutil.rmtree(root / name, ignore_errors=True)
        for run, instances in touched.items():
            _note(run, instances, sum(place.rows for place in places if _of(place, run)))
    return Erasure(tuple(places), tuple(cached), again)


@dataclass(frozen=True, slots=True)
class _Sought:
    """A customer under both names.

    Attributes:
        names: Id and pseudonym: what a cell of a column of people is compared with.
        anywhere: Finds those that cannot be a number or a word, in any text; None without any.
    """

    names: frozenset[str]
    anywhere: re.Pattern[str]

    @classmethod
    def of(cls, customer: str, key: str) -> "_Sought":
        names = {customer.strip(), pseudonym_of(customer.strip(), key)}
        telling = sorted((name for name in names if is_telling(name)), key=len, reverse=True)
        spelled = {name for each in telling for name in (each, json.dumps(each)[1:-1])}
        pattern = "|".join(map(re.escape, sorted(spelled, key=len, reverse=True)))
        return cls(frozenset(names), re.compile(rf"(?<![A-Za-z0-9])(?:{pattern})(?![A-Za-z0-9])"))


def _files(root: Path) -> Iterator[Path]:
    """Files below the root; links are not followed."""
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not (Path(folder) / name).is_symlink())
        for name in sorted(names):
            path = Path(folder) / name
            if path.parent != root and path.is_file() and not path.is_symlink():
                yield path


def _cache_entry(root: Path, path: Path) -> Path | None:
    """The folder of a finished notebook in the cache that a file lies in."""
    inner = path.relative_to(root).parts
    if not inner[0].startswith("."):
        return None
    for parent in path.parents:
        if parent == root:
            break
        if (parent / "entry.json").is_file():
            return parent
    return path.parent


def _without(path: Path, sought: _Sought) -> tuple[bytes, int, int] | None:
    """Content of a file without the customer, rows and mentions gone; None where there are none."""
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return _without_in_parquet(path, sought)
    if suffix in (".csv", ".tsv"):
        return _without_in_csv(path.read_bytes(), sought)
    if suffix == ".xlsx":
        return without_in_workbook(
            path.read_bytes(), sought.names, lambda text: _without_in_words(text, sought)[::2]
        )
    if suffix in _TEXTS:
        return _without_in_text(path, sought)
    return None


def _without_in_parquet(path: Path, sought: _Sought) -> tuple[bytes, int, int] | None:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    gone = None
    for name, column in zip(table.column_names, table.columns, strict=True):
        if not is_personal(name):
            continue
        texts = column.cast(pa.string())
        hit = pc.fill_null(pc.is_in(texts, pa.array(sorted(sought.names))), False)
        gone = hit if gone is None else pc.or_(gone, hit)
    mentions = 0
    for place, (name, column) in enumerate(zip(table.column_names, table.columns, strict=True)):
        if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
            continue
        if is_personal(name):
            continue
        texts = column.to_pylist()
        kept = [text and sought.anywhere.sub(ERASED, text) for text in texts]
        if changed := sum(a != b for a, b in zip(texts, kept, strict=True)):
            mentions += changed
            table = table.set_column(place, table.schema.field(place), pa.array(kept, column.type))
    rows = int(pc.sum(gone).as_py() or 0) if gone is not None else 0
    if not rows and not mentions:
        return None
    if rows:
        table = table.filter(pc.invert(gone))
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", version="2.6", row_group_size=1_000_000)
    return buffer.getvalue(), rows, mentions


def _without_in_csv(content: bytes, sought: _Sought) -> tuple[bytes, int, int] | None:
    marked = content.startswith(b"\xef\xbb\xbf")
    text = content.decode("utf-8-sig", "surrogateescape")
    head = text.partition("\n")[0]
    separator = max(_SEPARATORS, key=head.count)
    end = "\r\n" if head.endswith("\r") else "\n"
    lines = list(csv.reader(io.StringIO(text, newline=""), delimiter=separator))
    if not lines:
        return None
    personal = [place for place, name in enumerate(lines[0]) if is_personal(name)]
    kept, rows, mentions = [lines[0]], 0, 0
    for line in lines[1:]:
        if any(place < len(line) and line[place].lstrip("'") in sought.names for place in personal):
            rows += 1
            continue
        changed = [sought.anywhere.sub(ERASED, cell) for cell in line]
        mentions += sum(a != b for a, b in zip(line, changed, strict=True))
        kept.append(changed)
    if not rows and not mentions:
        return None
    out = io.StringIO(newline="")
    csv.writer(out, delimiter=separator, lineterminator=end).writerows(kept)
    body = out.getvalue().encode("utf-8", "surrogateescape")
    return (b"\xef\xbb\xbf" * marked) + body, rows, mentions


def _without_in_text(path: Path, sought: _Sought) -> tuple[bytes, int, int] | None:
    text = path.read_bytes().decode("utf-8", "surrogateescape")
    rows = mentions = 0
    if path.suffix.lower() in (".ipynb", ".json"):
        try:
            tree = json.loads(text)
        except ValueError:
            return None
        tree, rows, mentions = _without_in_tree(tree, sought)
        indent = 1 if path.suffix.lower() == ".ipynb" else 2
        text = json.dumps(tree, ensure_ascii=False, indent=indent, sort_keys=True) + "\n"
    else:
        text, rows, mentions = _without_in_words(text, sought)
        if path.suffix.lower() == ".svg":
            text, labels = _without_labels(text, sought)
            mentions += labels
    if not rows and not mentions:
        return None
    return text.encode("utf-8", "surrogateescape"), rows, mentions


def _without_in_tree(node: Any, sought: _Sought) -> tuple[Any, int, int]:
    """A tree of JSON without the customer: texts are cleaned, entries under the id go."""
    if isinstance(node, str):
        return _without_in_words(node, sought)
    if isinstance(node, list):
        if len(node) > 1 and all(isinstance(item, str) and item[-1:] == "\n" for item in node[:-1]):
            # a notebook keeps a text as its lines
            text, rows, mentions = _without_in_words("".join(map(str, node)), sought)
            return (
                (text.splitlines(keepends=True), rows, mentions)
                if rows + mentions
                else (node, 0, 0)
            )
        parts = [_without_in_tree(item, sought) for item in node]
        return [part[0] for part in parts], sum(p[1] for p in parts), sum(p[2] for p in parts)
    if not isinstance(node, dict):
        return node, 0, 0
    kept: dict[str, Any] = {}
    rows = mentions = 0
    for name, value in node.items():
        if is_personal(name) and not isinstance(value, dict | list) and str(value) in sought.names:
            kept[name] = ERASED
            mentions += 1
            continue
        if sought.anywhere.search(name):
            rows += 1
            continue
        kept[name], more_rows, more_mentions = _without_in_tree(value, sought)
        rows, mentions = rows + more_rows, mentions + more_mentions
    return kept, rows, mentions


def _without_in_words(text: str, sought: _Sought) -> tuple[str, int, int]:
    """A text without the customer: rows of tables of people go, mentions are marked."""
    rows = 0

    def without_rows(table: re.Match[str]) -> str:
        nonlocal rows
        kept, gone = _without_rows(table[0], sought)
        rows += gone
        return kept

    if "<table" in text.lower():
        text = _TABLE.sub(without_rows, text)
    lines = _printed_rows(text, sought)
    rows += len(lines)
    if lines:
        kept = []
        for at, line in enumerate(text.split("\n")):
            # on a page the last row shares its line with the end of its block
            tags = "".join(_TAG.findall(line))
            if at not in lines or tags:
                kept.append(tags if at in lines else line)
        text = "\n".join(kept)
    text, mentions = sought.anywhere.subn(ERASED, text)
    for start, end in reversed(list(called_ids(text, sought.names))):
        text = f"{text[:start]}{ERASED}{text[end:]}"
        mentions += 1
    return text, rows, mentions


def _without_labels(drawing: str, sought: _Sought) -> tuple[str, int]:
    """A drawing without labels that are the customer, where another label says they are people."""
    labels = [_TAG.sub("", label).strip() for label in _LABEL.findall(drawing)]
    if not any(map(is_personal, labels)):
        return drawing, 0
    marked = 0

    def mark(found: re.Match[str]) -> str:
        nonlocal marked
        if _TAG.sub("", found[1]).strip() not in sought.names:
            return found[0]
        marked += 1
        return found[0].replace(found[1], ERASED)

    return _LABEL.sub(mark, drawing), marked


def _without_rows(table: str, sought: _Sought) -> tuple[str, int]:
    """One table of a page without the rows whose cell in a column of people is the customer."""
    places: set[int] = set()
    gone = 0

    def row(found: re.Match[str]) -> str:
        nonlocal gone
        cells = [_TAG.sub("", cell).strip() for cell in _CELL.findall(found[0])]
        if "<td" not in found[0].lower():
            places.update(at for at, cell in enumerate(cells) if is_personal(cell))
            return found[0]
        if any(at < len(cells) and cells[at] in sought.names for at in places) or any(
            sought.anywhere.fullmatch(cell) for cell in cells
        ):
            gone += 1
            return ""
        return found[0]

    return _ROW.sub(row, table), gone


def _printed_rows(text: str, sought: _Sought) -> set[int]:
    """Lines of printed frames that are about the customer."""
    found: set[int] = set()
    # the names over the columns, and whether they are those of the index
    head: list[str] = []
    index = False
    for at, line in enumerate(text.split("\n")):
        bare = _TAG.sub("", line)
        words = bare.split()
        if not words:
            head = []
        elif any(map(is_personal, words)) and all(map(_NAME.fullmatch, words)):
            head, index = words, not bare[:1].isspace() and all(map(is_personal, words))
        else:
            for place, name in enumerate(head):
                cell = place if index else len(words) - len(head) + place
                if is_personal(name) and 0 <= cell < len(words) and words[cell] in sought.names:
                    found.add(at)
    return found


def _of(place: Place, run: Path) -> bool:
    return place.file.partition("/")[0] == run.name


def _again(touched: dict[Path, set[str]]) -> tuple[str, ...]:
    """Notebooks in which the customer was found, on the same data, or reading one of these."""
    names = []
    for run, found in sorted(touched.items()):
        try:
            manifest = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            names += [f"{run.name}/{instance}" for instance in sorted(found) if instance]
            continue
        entries = {str(entry["instance"]): entry for entry in manifest.get("notebooks", [])}
        data = {entries[each].get("data_fingerprint") for each in found if each in entries}
        again = {
            name
            for name, entry in entries.items()
            if name in found or (entry.get("data_fingerprint") or object()) in data
        }
        grown = True
        while grown:
            more = {n for n, entry in entries.items() if again & set(entry.get("needs") or ())}
            grown = not more <= again
            again |= more
        names += [f"{run.name}/{instance}" for instance in sorted(again)]
    return tuple(names)


def _note(run: Path, instances: set[str], rows: int) -> None:
    """Let the manifest say that rows were erased, not whose, and hash the files as they are now."""
    path = run / "manifest.json"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    for entry in manifest.get("notebooks", []):
        if entry["instance"] in instances:
            folder = run / entry["instance"]
            for name in entry.get("outputs") or {}:
                file = folder / name
                if file.is_file():
                    entry["outputs"][name] = hashlib.sha256(file.read_bytes()).hexdigest()
    found = sorted(instance for instance in instances if instance)
    manifest.setdefault("erasures", []).append({"notebooks": found, "rows": rows})
    text = json.dumps(manifest, sort_keys=True, indent=2, ensure_ascii=False)
    _write(path, (text + "\n").encode())


def _write(path: Path, content: bytes) -> None:
    """Put the content in place whole; other links to the old file keep it, and are met in turn."""
    beside = path.with_name(f".{path.name}.{secrets.token_hex(3)}")
    try:
        beside.write_bytes(content)
        beside.replace(path)
    except OSError as error:
        raise RunError(f"cannot write {path.name}: {error.strerror}") from error
    finally:
        beside.unlink(missing_ok=True)
