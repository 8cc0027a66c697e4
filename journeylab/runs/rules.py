"""The rules a committed notebook keeps: ``python -m journeylab.runs.rules FILES`` checks them."""

import ast
import json
import re
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from journeylab.errors import RunError
from journeylab.runs.notebooks import (
    NOT_IN_ALL,
    calls,
    read_cells,
    short_name,
    syntax_tree,
    tagged,
)
from journeylab.runs.parameters import read_parameters
from journeylab.runs.references import RECORD_NAME
from journeylab.runs.writing import write_whole

MOST_CODE_CELLS = 15
MOST_CODE_LINES = 100

_MACHINE_PATH = re.compile(
    r"(?<![\w.:/-])(?:~/|/(?:home|Users|root|tmp|var|mnt|opt|srv|work|data|content)/)\w"
    r"|(?<!\w)[A-Za-z]:\\{1,2}\w"
)


def broken_rules(path: Path) -> list[str]:
    """What a notebook breaks of the house rules, each in one line; empty where it keeps them.

    Args:
        path: A notebook file as it is committed.
    """
    try:
        cells = read_cells(path)
    except RunError as error:
        return [str(error)]
    name = short_name(path.stem)
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    return [
        *_layout(path, cells),
        *_outputs(code),
        *_parameters(cells, name),
        *_decision(cells, name),
        *_code(code),
        *_records(code),
        *_paths(cells),
    ]


def clear_outputs(path: Path) -> bool:
    """Clear outputs and execution counts of a notebook, and give every cell an id.

    Returns:
        Whether the file was changed.

    Raises:
        RunError: The file is not a notebook.
    """
    read_cells(path)
    text = path.read_text(encoding="utf-8")
    content = json.loads(text)
    for number, cell in enumerate(content["cells"]):
        cell.setdefault("id", f"cell-{number}")
        if cell["cell_type"] == "code":
            cell |= {"outputs": [], "execution_count": None}
            cell.get("metadata", {}).pop("execution", None)
    if content == json.loads(text):
        return False
    write_whole(path, json.dumps(content, ensure_ascii=False, indent=1) + "\n")
    return True


def _where(cell: dict[str, Any]) -> str:
    return f"cell {cell.get('id', '?')}"


def _layout(path: Path, cells: list[dict[str, Any]]) -> list[str]:
    content = json.loads(path.read_text(encoding="utf-8"))
    broken = []
    if (content.get("nbformat"), content.get("nbformat_minor", 0)) < (4, 5):
        broken.append("the format is older than 4.5, which has no cell ids")
    counts = Counter(cell.get("id") for cell in cells)
    if missing := counts.pop(None, 0):
        broken.append(f"{missing} cells have no id")
    broken += [f"{count} cells have the id {name!r}" for name, count in counts.items() if count > 1]
    first = cells[0] if cells else {"cell_type": "", "source": ""}
    if first["cell_type"] != "markdown" or not re.match(r"# \S", first["source"]):
        broken.append("the first cell must be markdown that begins with '# ' and the question")
    return broken


def _outputs(code: list[dict[str, Any]]) -> list[str]:
    return [
        f"{_where(cell)} holds outputs or an execution count; clear them before committing"
        for cell in code
        if cell.get("outputs") or cell.get("execution_count") is not None
    ]


def _parameters(cells: list[dict[str, Any]], name: str) -> list[str]:
    schemas = [cell for cell in tagged(cells, "parameters") if cell["cell_type"] == "code"]
    if not schemas:
        return [] if name in NOT_IN_ALL else ["no code cell is tagged 'parameters'"]
    broken = []
    if len(schemas) > 1:
        broken.append(f"{len(schemas)} cells are tagged 'parameters'; one may be")
    for cell in schemas:
        try:
            read_parameters(cell["source"], name)
        except RunError as error:
            broken.append(str(error))
    return broken


def _decision(cells: list[dict[str, Any]], name: str) -> list[str]:
    decisions = [cell for cell in tagged(cells, "decision") if cell["cell_type"] == "code"]
    if name in NOT_IN_ALL and not decisions:
        return []
    if len(decisions) != 1:
        return [f"one code cell must be tagged 'decision'; {len(decisions)} are"]
    if not any(calls(decisions, "decision")):
        return ["the cell tagged 'decision' does not call decision(...)"]
    return []


def _code(code: list[dict[str, Any]]) -> list[str]:
    broken = []
    lines = 0
    for cell in code:
        lines += sum(
            bool(line.strip()) and not line.strip().startswith("#")
            for line in cell["source"].splitlines()
        )
        tree = syntax_tree(cell["source"])
        if tree is None:
            broken.append(f"{_where(cell)} is not Python")
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                broken.append(
                    f"{_where(cell)} defines {node.name}; ask for it in the package, "
                    "where a test can reach it"
                )
    if len(code) > MOST_CODE_CELLS:
        broken.append(f"{len(code)} code cells; at most {MOST_CODE_CELLS}")
    if lines > MOST_CODE_LINES:
        broken.append(f"{lines} lines of code; at most {MOST_CODE_LINES}")
    return broken


def _records(code: list[dict[str, Any]]) -> list[str]:
    """Names that ``record`` would refuse, and references the runner could not see."""
    broken = []
    for call in calls(code, "record"):
        match call.args:
            case [ast.Constant(value=str() as literal), *_] if not RECORD_NAME.fullmatch(literal):
                broken.append(f"{literal!r} is no record name")
    for call in calls(code, "recorded"):
        match call.args:
            case [ast.Constant(value=str() as literal)]:
                broken.append(
                    f"recorded({literal!r}): put the reference into the parameters cell, "
                    "so that the runner knows what to run first"
                )
    return broken


def _paths(cells: list[dict[str, Any]]) -> list[str]:
    return [
        f"{_where(cell)} names a place on one machine: {found[0]!r}..."
        for cell in cells
        if (found := _MACHINE_PATH.search(cell["source"]))
    ]


def main(arguments: Sequence[str]) -> int:
    """Print what the notebooks break; 1 when something is broken or nothing was given."""
    if not arguments:
        sys.stderr.write("usage: python -m journeylab.runs.rules NOTEBOOK...\n")
        return 1
    broken = 0
    for argument in arguments:
        for rule in broken_rules(Path(argument)):
            broken += 1
            sys.stdout.write(f"{argument}: {rule}\n")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
