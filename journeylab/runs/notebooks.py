"""A notebook as the runner sees it before it starts: read as JSON, never executed."""

import ast
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from journeylab.errors import RunError
from journeylab.runs.parameters import Parameter, nearest, read_parameters

# These two teach; they are not part of the work that --all repeats.
NOT_IN_ALL = frozenset({"start_here", "template"})

_NUMBERED = re.compile(r"\d+[a-z]?_(.+)")
_MAGIC = re.compile(r"^\s*[%!]")


@dataclass(frozen=True, slots=True)
class Notebook:
    """One notebook of the folder.

    Attributes:
        name: Its file name without number and suffix: ``"clv"``.
        path: The file.
        title: Heading of its first markdown cell.
        parameters: The schema its parameters cell declares.
        records: Names its code records, as far as they are written as literals.
        computes_names: Some name is computed, so ``records`` may be incomplete.
    """

    name: str
    path: Path
    title: str
    parameters: tuple[Parameter, ...]
    records: frozenset[str]
    computes_names: bool

    @property
    def stem(self) -> str:
        """File name without suffix: ``"30_clv"``."""
        return self.path.stem

    def parameter(self, name: str, value: object) -> Parameter:
        """The parameter of that name.

        Raises:
            RunError: There is none; the message has ``value`` and the nearest name.
        """
        by_name = {parameter.name: parameter for parameter in self.parameters}
        if name not in by_name:
            raise RunError(
                f"{self.name} has no parameter {name!r} (given {value!r}){nearest(name, by_name)} "
                f"It has: {', '.join(by_name) or 'none'}"
            )
        return by_name[name]


def short_name(stem: str) -> str:
    """``"clv"`` for ``"30_clv"``; a stem without a number is its own name."""
    numbered = _NUMBERED.fullmatch(stem)
    return numbered[1] if numbered else stem


def find_project(start: Path) -> Path | None:
    """The nearest folder at or above ``start`` that is a JourneyLab checkout, if any."""
    for folder in (start, *start.parents):
        try:
            text = (folder / "pyproject.toml").read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        if re.search(r'^name\s*=\s*"journeylab"', text, re.MULTILINE):
            return folder
    return None


def find_folder(given: Path | None = None) -> Path:
    """The folder of notebooks.

    In this order: the one given, the environment variable JOURNEYLAB_NOTEBOOKS, ``notebooks/`` of
    the checkout that the working directory lies in, ``notebooks/`` of the checkout that this
    package runs from.

    Raises:
        RunError: There is none.
    """
    named = given or (Path(text) if (text := os.environ.get("JOURNEYLAB_NOTEBOOKS")) else None)
    if named is not None:
        if not named.is_dir():
            raise RunError(f"there is no folder of notebooks at {named}")
        return named.resolve()
    for start in (Path.cwd(), Path(__file__).resolve().parent):
        project = find_project(start)
        if project is not None and (project / "notebooks").is_dir():
            return project / "notebooks"
    raise RunError(
        "no folder of notebooks found: run inside a JourneyLab checkout, "
        "or name one by --notebooks or JOURNEYLAB_NOTEBOOKS"
    )


def notebook_paths(folder: Path) -> dict[str, Path]:
    """Every notebook of the folder by its name, in file order.

    Raises:
        RunError: Two files share a name, so a reference could mean either.
    """
    paths: dict[str, Path] = {}
    for path in sorted(folder.glob("*.ipynb")):
        if path.name.startswith("."):
            continue
        name = short_name(path.stem)
        if name in paths:
            raise RunError(f"{paths[name].name} and {path.name} are both called {name!r}")
        paths[name] = path
    return paths


def find_notebook(paths: Mapping[str, Path], text: str) -> Path:
    """The file meant by ``clv``, ``30_clv`` or ``30_clv.ipynb``.

    Raises:
        RunError: None is; the message has the nearest name and what there is.
    """
    stem = Path(text).name.removesuffix(".ipynb")
    for name, path in paths.items():
        if stem in (name, path.stem):
            return path
    raise RunError(
        f"there is no notebook {text!r}{nearest(short_name(stem), paths)} "
        f"There are: {', '.join(paths) or 'none'}"
    )


def read_cells(path: Path) -> list[dict[str, Any]]:
    """Cells of a notebook file, each with its source as one text.

    Raises:
        RunError: The file is not a notebook.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        cells = [dict(cell) for cell in content["cells"]]
        for cell in cells:
            cell["source"] = "".join(cell["source"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{path.name} cannot be read as a notebook: {type(error).__name__}: {error}"
        ) from error
    return cells


def tagged(cells: list[dict[str, Any]], tag: str) -> list[dict[str, Any]]:
    """The cells that carry a tag."""
    return [cell for cell in cells if tag in cell.get("metadata", {}).get("tags", ())]


def read_notebook(path: Path) -> Notebook:
    """Read one notebook's question, schema and records.

    Raises:
        RunError: The file is not a notebook, has two parameters cells, or its schema is broken.
    """
    cells = read_cells(path)
    name = short_name(path.stem)
    schemas = [cell for cell in tagged(cells, "parameters") if cell["cell_type"] == "code"]
    if len(schemas) > 1:
        raise RunError(f"{path.name} has {len(schemas)} cells tagged parameters; it may have one")
    parameters = read_parameters(schemas[0]["source"], name) if schemas else ()
    records: set[str] = set()
    computed = False
    for call in calls(cells, "record"):
        match call.args:
            case [ast.Constant(value=str() as literal), *_]:
                records.add(literal)
            case _:
                computed = True
    return Notebook(
        name, path, _title(cells) or path.stem, parameters, frozenset(records), computed
    )


def _title(cells: list[dict[str, Any]]) -> str:
    for cell in cells:
        if cell["cell_type"] == "markdown":
            heading = re.search(r"^#\s+(.+)$", cell["source"], re.MULTILINE)
            return heading[1].strip() if heading else ""
    return ""


def syntax_tree(source: str) -> ast.Module | None:
    """The parsed code of a cell without its IPython magics; None where it does not parse."""
    lines = ["pass" if _MAGIC.match(line) else line for line in source.splitlines()]
    try:
        return ast.parse("\n".join(lines))
    except SyntaxError:
        return None


def calls(cells: list[dict[str, Any]], function: str) -> Iterator[ast.Call]:
    """Every call of ``function(...)`` or ``module.function(...)`` in the code cells."""
    for cell in cells:
        tree = syntax_tree(cell["source"]) if cell["cell_type"] == "code" else None
        for node in ast.walk(tree) if tree is not None else ():
            match node:
                case ast.Call(func=ast.Name(id=name)) | ast.Call(func=ast.Attribute(attr=name)):
                    if name == function:
                        yield node
