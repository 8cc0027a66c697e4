"""An executed notebook, read for its page: title, decision, key figures, sections, failure."""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

RECORD = "application/vnd.journeylab.record+json"
_OURS = re.compile(r"(?:#+\s*|\*\*)?what would make us doubt it\s*[.:?]?\s*(?:\*\*)?[.:]?\s*", re.I)
_REPR = re.compile(r"[\[<(]?<?(Axes|Figure|matplotlib\.|<matplotlib|Text\(|array\(\[<)")


@dataclass(frozen=True, slots=True)
class Output:
    """One output of a cell: ``stdout``, ``stderr``, ``error``, or a bundle of MIME types."""

    kind: str
    text: str = ""
    bundle: dict[str, Any] = field(default_factory=dict)

    @property
    def record(self) -> dict[str, Any] | None:
        """What ``record``, ``decision`` or ``caution`` left, where this output is theirs."""
        entry = self.bundle.get(RECORD)
        return entry if isinstance(entry, dict) and isinstance(entry.get("kind"), str) else None


@dataclass(frozen=True, slots=True)
class NotebookCell:
    """A cell: ``markdown`` or ``code``, its tags, its source and its outputs."""

    kind: str
    tags: frozenset[str]
    source: str
    outputs: tuple[Output, ...] = ()

    @property
    def failed(self) -> bool:
        """Whether an error ended this cell."""
        return any(output.kind == "error" for output in self.outputs)


@dataclass(frozen=True, slots=True)
class ExecutedNotebook:
    """What stands in an executed notebook.

    Attributes:
        title: Text of the first heading; may be empty.
        lede: Markdown that follows it in the first cell.
        doubt: Markdown of the cell tagged ``doubt``, without its own heading.
        cells: The others, in order; parameters cells are left out.
        records: Everything recorded, in order.
        parameters: Names in the order of the parameters cell, with what its comment says.
    """

    title: str
    lede: str
    doubt: str
    cells: tuple[NotebookCell, ...]
    records: tuple[dict[str, Any], ...]
    parameters: dict[str, str]

    def first(self, kind: str) -> dict[str, Any] | None:
        """The first record of a kind."""
        return next((entry for entry in self.records if entry["kind"] == kind), None)

    def estimates(self) -> list[dict[str, Any]]:
        """Estimates in the order of the cells."""
        keys = {"value", "ci_low", "ci_high", "level", "unit"}
        return [r for r in self.records if r["kind"] == "estimate" and keys <= r.keys()]


def read_notebook(path: Path) -> ExecutedNotebook:
    """Read an executed notebook; one that does not exist is an empty one."""
    if not path.exists():
        return ExecutedNotebook("", "", "", (), (), {})
    cells = [_cell(cell) for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]]
    # papermill's own notices of a failure; the page says it better
    cells = [cell for cell in cells if "papermill-error-cell-tag" not in cell.tags]
    records = tuple(
        output.record for cell in cells for output in cell.outputs if output.record is not None
    )
    title, lede = "", ""
    first = next((cell for cell in cells if cell.kind == "markdown"), None)
    if first is not None and (heading := re.match(r"\s*#\s+([^\n]+)\n?(.*)", first.source, re.S)):
        title, lede = heading[1].strip().rstrip("#").strip(), heading[2].strip()
    else:
        first = None
    doubt = next((cell for cell in cells if "doubt" in cell.tags), None)
    settings = [cell for cell in cells if "parameters" in cell.tags]
    apart = {id(cell) for cell in (first, doubt) if cell is not None}
    shown = tuple(
        cell
        for cell in cells
        if id(cell) not in apart and not cell.tags & {"parameters", "injected-parameters"}
    )
    return ExecutedNotebook(
        title=title,
        lede=lede,
        doubt=_OURS.sub("", doubt.source.strip(), count=1) if doubt is not None else "",
        cells=shown,
        records=records,
        parameters=_meanings(settings[0].source) if settings else {},
    )


def _cell(cell: dict[str, Any]) -> NotebookCell:
    outputs = (_output(output) for output in cell.get("outputs", ()))
    return NotebookCell(
        kind=str(cell["cell_type"]),
        tags=frozenset(cell.get("metadata", {}).get("tags", ())),
        source=_joined(cell.get("source", "")),
        outputs=tuple(output for output in outputs if output is not None),
    )


def _joined(text: Any) -> str:
    """Text that notebooks keep as one string or as a list of lines."""
    return "".join(map(str, text)) if isinstance(text, list) else str(text)


def _output(output: dict[str, Any]) -> Output | None:
    match output.get("output_type"):
        case "stream":
            kind = "stderr" if output.get("name") == "stderr" else "stdout"
            return Output(kind, _joined(output.get("text", "")))
        case "error":
            return Output("error", "\n".join(map(str, output.get("traceback", ()))))
        case "display_data" | "execute_result":
            data = output.get("data", {})
            bundle = {
                mime: content if mime.endswith("json") else _joined(content)
                for mime, content in data.items()
            }
            if set(bundle) == {"text/plain"} and _REPR.match(bundle["text/plain"]):
                return None
            return Output("bundle", bundle=bundle)
    return None


_ASSIGNMENT = re.compile(r"^(\w+)\s*(?::[^=#]+)?=.*?(?:#\s*(.*))?$")


def _meanings(source: str) -> dict[str, str]:
    """Parameters in the order of their cell, each with its comment."""
    found = (_ASSIGNMENT.match(_without_strings(line)) for line in source.splitlines())
    return {line[1]: (line[2] or "").strip() for line in found if line is not None}


def _without_strings(line: str) -> str:
    """A line of code whose string literals are blank, so that no ``#`` in them looks a comment."""
    return re.sub(r"""("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')(?=[^#]*(?:#|$))""", '""', line, count=1)


def read_results(folder: Path) -> dict[str, Any]:
    """What a notebook recorded; nothing where it recorded nothing."""
    path = folder / "results.json"
    if not path.exists():
        return {}
    results: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return results


def decision_text(notebook: ExecutedNotebook, results: dict[str, Any]) -> str:
    """The decision, or nothing."""
    entry = notebook.first("decision")
    return str(results.get("decision") or (entry or {}).get("text", ""))


def caution_texts(notebook: ExecutedNotebook, results: dict[str, Any]) -> list[str]:
    """The cautions in order."""
    said = [str(entry.get("text", "")) for entry in notebook.records if entry["kind"] == "caution"]
    return [str(text) for text in results.get("cautions", said)]
