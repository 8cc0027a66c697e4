"""The terminal: consoles, tables, options that several verbs share, and exit codes."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from journeylab import runs

REFUSED, FAILED, UNVERIFIED, WITHHELD, INTERRUPTED = 2, 3, 4, 5, 130

OUT = Console()
ERR = Console(stderr=True)

Folder = Annotated[
    Path | None, typer.Option("--notebooks", help="Folder of notebooks, other than the kit's own.")
]
AsJson = Annotated[bool, typer.Option("--json", help="For a machine to read.")]
Root = Annotated[Path | None, typer.Option("--out", help="Root of the run folders.")]
Jobs = Annotated[int, typer.Option("-j", "--jobs", help="Notebooks side by side.")]
SameJobs = Annotated[
    int | None,
    typer.Option("-j", "--jobs", help="Notebooks side by side; as in the run if not given."),
]
Timeout = Annotated[
    float | None, typer.Option("--timeout", help="Longest a notebook may take, seconds.")
]
KeepGoing = Annotated[
    bool,
    typer.Option(
        "--keep-going",
        help="After a failure start what does not rest on it; without, nothing more is started.",
    ),
]
Places = Annotated[
    list[str] | None, typer.Option("-p", help="data=PATH: where the data lie on this machine.")
]


def print_json(content: object) -> None:
    """Print for a machine: the same bytes for the same content."""
    sys.stdout.write(json.dumps(content, ensure_ascii=False, indent=2, sort_keys=True) + "\n")


def table_of(columns: list[str], rows: list[list[str]]) -> Table:
    """A table without lines; no cell is taken for markup."""
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


def root_of(out: Path | None, notebooks: Path | None) -> Path:
    """The root of the run folders that ``--out`` or ``--notebooks`` means."""
    return out.absolute() if out is not None else runs.runs_root(runs.find_folder(notebooks))
