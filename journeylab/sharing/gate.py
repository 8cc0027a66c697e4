"""The gate: nothing leaves that names a person, a machine or a secret."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from journeylab.errors import JourneyLabError
from journeylab.pseudonyms import is_personal, is_pseudonym
from journeylab.sharing.contents import Content, UnreadableError, read_content
from journeylab.sharing.traces import ID, Known, Trace, find_traces

UNREADABLE = "file that cannot be looked into"
_DEEPEST = 5
_TABLES = (".csv", ".tsv", ".parquet", ".xlsx", ".json")
_APOSTROPHE = re.compile(r"^'(?=[=+\-@\t\r])")


class GateError(JourneyLabError):
    """Something would leave that must stay here.

    Attributes:
        findings: What, and where.
    """

    def __init__(self, findings: "tuple[Finding, ...]") -> None:
        kinds = Counter(finding.kind for finding in findings)
        listed = ", ".join(f"{kind} ({count})" for kind, count in sorted(kinds.items()))
        super().__init__(
            f"nothing was shared: {len(findings)} place{'' if len(findings) == 1 else 's'} would "
            f"give away what must stay here: {listed}. Take it out where it arises and run again"
        )
        self.findings = findings


@dataclass(frozen=True, slots=True)
class Finding:
    """One place that must not leave.

    Attributes:
        kind: What was found there.
        file: Path of the file.
        where: Place in the file.
        sample: The first of it, masked.
        count: How many different ones stand there.
    """

    kind: str
    file: str
    where: str
    sample: str
    count: int = 1

    def __str__(self) -> str:
        more = f" and {self.count - 1:,} more" if self.count > 1 else ""
        return f"{self.file}: {self.where}: {self.kind} {self.sample}{more}"


def inspect(files: Mapping[str, bytes], known: Known) -> tuple[Finding, ...]:
    """Look for what must not leave, in every file and in files within files.

    Ids found in a column of customers are then looked for everywhere else too.

    Args:
        files: Path to content of what is to leave.
        known: Ids, names and folders that are private here.

    Returns:
        Every place by file; nothing when all may leave.
    """
    contents, findings = [], []
    for name, content in sorted(files.items()):
        for file, place, found in _opened(name, content):
            if isinstance(found, Content):
                contents.append((file, place, found))
            else:
                findings.append(Finding(UNREADABLE, file, place or "file", found))
    raw = {value for *_, found in contents for value in _raw_ids(found)}
    known = replace(known, ids=known.ids | raw)
    for file, place, found in contents:
        before = f"{place}: " if place else ""
        for column in found.columns:
            if ids := _not_hidden(column.name, column.values, known):
                sample = Trace(ID, ids[0]).masked
                findings.append(Finding(ID, file, f"{before}{column.where}", sample, len(ids)))
        for piece in found.pieces:
            by_kind: dict[str, list[Trace]] = {}
            for trace in find_traces(piece.text, known):
                by_kind.setdefault(trace.kind, []).append(trace)
            for kind, traces in by_kind.items():
                where = f"{before}{piece.where}"
                findings.append(Finding(kind, file, where, traces[0].masked, len(traces)))
    for name in files:
        for trace in find_traces(name.replace("/", " "), known):
            findings.append(Finding(trace.kind, trace.masked, "name of the file", trace.masked))
    return tuple(sorted(set(findings), key=lambda each: (each.file, each.kind, each.where)))


def _opened(file: str, content: bytes) -> Iterator[tuple[str, str, Content | str]]:
    """The content of a file and of the files within it, or why one cannot be read."""
    waiting = [(file, "", content, 0)]
    while waiting:
        name, place, data, depth = waiting.pop()
        try:
            found = read_content(name, data)
        except UnreadableError as problem:
            yield file, place, str(problem)
            continue
        yield file, place, found
        for part in found.parts:
            inner = f"{place}, {part.name}" if place else part.name
            if depth < _DEEPEST:
                waiting.append((part.name, inner, part.content, depth + 1))
            else:
                yield file, inner, "it lies too deep within other files"


def _raw_ids(found: Content) -> Iterator[str]:
    for column in found.columns:
        yield from _not_hidden(column.name, column.values, Known())


def _not_hidden(name: str, values: Iterable[str], known: Known) -> list[str]:
    """Different values of a column of people that are no pseudonyms."""
    if not is_personal(name):
        return []
    cells = dict.fromkeys(_APOSTROPHE.sub("", value.strip()) for value in values)
    return [cell for cell in cells if not is_pseudonym(cell) or cell in known.ids]


def ids_in(folder: Path) -> frozenset[str]:
    """Ids of customers that stand in the tables of a run, pseudonyms left out.

    Args:
        folder: A run's folder; nothing in it is shared by this.
    """
    ids: set[str] = set()
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in _TABLES and path.is_file() and not path.is_symlink():
            for _, _, found in _opened(path.name, path.read_bytes()):
                if isinstance(found, Content):
                    ids.update(_raw_ids(found))
    return frozenset(ids)
