"""The command line: ``journeylab <verb>``.

Exit codes: 0 done, 2 refused (nothing was started), 3 a notebook failed, 130 interrupted.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

import journeylab
from journeylab import runs
from journeylab.errors import JourneyLabError, RunError
from journeylab.runs.notebooks import find_notebook
from journeylab.runs.parameters import read_assignments, read_parameters_file
from journeylab.runs.progress import ProgressView

if TYPE_CHECKING:
    import pandas as pd

# Rows of the quarantine, and characters of a refused row, that a terminal shows.
_QUARANTINED_SHOWN, _RAW_SHOWN = 20, 80
REFUSED, FAILED, INTERRUPTED = 2, 3, 130

app = typer.Typer(
    help="Research and modelling of a retailer's user journey, in notebooks that keep a record.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
_out = Console()
_err = Console(stderr=True)

Folder = Annotated[
    Path | None, typer.Option("--notebooks", help="Folder of notebooks, other than the kit's own.")
]
AsJson = Annotated[bool, typer.Option("--json", help="For a machine to read.")]


def _print_json(content: object) -> None:
    sys.stdout.write(json.dumps(content, ensure_ascii=False, indent=2, sort_keys=True) + "\n")


def _table(columns: list[str], rows: list[list[str]]) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        sys.stdout.write(f"journeylab {journeylab.__version__}\n")
        raise typer.Exit


@app.command("run")
def _run(
    notebook: Annotated[
        list[str] | None, typer.Argument(help="clv, 30_clv or 30_clv.ipynb; what it needs runs too")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Every notebook.")] = False,
    parameter: Annotated[
        list[str] | None,
        typer.Option("-p", help="name=value for the notebooks named; clv.name=value for one."),
    ] = None,
    file: Annotated[
        Path | None, typer.Option("-f", help="YAML mapping of parameters; -p goes before it.")
    ] = None,
    jobs: Annotated[int, typer.Option("-j", "--jobs", help="Notebooks side by side.")] = 2,
    seed: Annotated[
        int | None, typer.Option(min=0, help="For every notebook that has one; from 0.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Root of the run folders.")] = None,
    label: Annotated[str | None, typer.Option(help="Part of the run folder's name.")] = None,
    notebooks: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Run notebooks with what they need, and build the pages."""
    if jobs < 1:
        raise RunError(f"-j must be at least 1; got {jobs}")
    parameters = read_parameters_file(file) if file is not None else {}
    parameters |= read_assignments(parameter or [])
    plan = runs.make_plan(
        runs.find_folder(notebooks), notebook or [], every=every, parameters=parameters, seed=seed
    )
    if every and label is None:
        label = "all"
    try:
        with ProgressView(_err if as_json else _out) as view:
            result = runs.run(plan, out=out, label=label, jobs=jobs, watch=view)
    except runs.RunInterrupted as interrupt:
        _err.print("interrupted; the kernels are stopped", style="red")
        _err.print(Text(os.path.relpath(interrupt.folder / "index.html")), soft_wrap=True)
        raise typer.Exit(INTERRUPTED) from None
    if as_json:
        _print_json(result.manifest)
    else:
        _print_outcome(result)
    if not result.ok:
        raise typer.Exit(FAILED)


def _print_outcome(result: runs.RunResult) -> None:
    """The decisions, and where the pages are."""
    for entry in result.manifest["notebooks"]:
        folder = result.folder / entry["instance"]
        _out.print()
        _out.print(Text(f"{entry['instance']}  {entry['title']}", style="bold"))
        results = folder / "results.json"
        recorded: dict[str, Any] = {}
        if results.exists():
            recorded = json.loads(results.read_text(encoding="utf-8"))
        if entry["error"] is not None:
            _out.print(Text(f"{entry['state']}: {entry['error']['message']}", style="red"))
        if "decision" in recorded:
            _out.print(Text(recorded["decision"]))
        for path in sorted(folder.glob("tables/*.csv")):
            _out.print(Text(f"List to act on: {os.path.relpath(path)}"), soft_wrap=True)
        for text in recorded.get("cautions", []):
            _out.print(Text(f"Caution: {text}", style="yellow"))
    latest = result.folder.parent / "latest"
    folder = latest if latest.is_dir() else result.folder
    _out.print()
    _out.print(Text(os.path.relpath(folder / "index.html")), soft_wrap=True)


@app.command("list")
def _list(notebooks: Folder = None, as_json: AsJson = False) -> None:
    """List the notebooks."""
    rows = []
    for name, path in runs.notebook_paths(runs.find_folder(notebooks)).items():
        try:
            notebook = runs.read_notebook(path)
            title, count, problem = notebook.title, len(notebook.parameters), None
        except RunError as error:
            title, count, problem = "", 0, str(error)
        rows.append(
            {
                "name": name,
                "file": path.name,
                "title": title,
                "parameters": count,
                "problem": problem,
            }
        )
    if as_json:
        _print_json(rows)
        return
    columns = ["notebook", "question", "parameters"]
    cells = [
        [str(row["name"]), str(row["problem"] or row["title"]), str(row["parameters"])]
        for row in rows
    ]
    _out.print(_table(columns, cells))


@app.command("show")
def _show(notebook: str, notebooks: Folder = None, as_json: AsJson = False) -> None:
    """Show the parameters of a notebook."""
    paths = runs.notebook_paths(runs.find_folder(notebooks))
    shown = runs.read_notebook(find_notebook(paths, notebook))
    if as_json:
        _print_json(
            {
                "name": shown.name,
                "file": shown.path.name,
                "title": shown.title,
                "records": sorted(shown.records),
                "parameters": [
                    {
                        "name": parameter.name,
                        "type": parameter.type,
                        "default": parameter.default,
                        "meaning": parameter.meaning,
                        "unit": parameter.unit,
                        "low": parameter.low,
                        "high": parameter.high,
                        "choices": list(parameter.choices),
                    }
                    for parameter in shown.parameters
                ],
            }
        )
        return
    _out.print(Text(f"{shown.path.name}  {shown.title}", style="bold"))
    rows = [
        [
            parameter.name,
            parameter.type,
            repr(parameter.default),
            parameter.meaning,
            parameter.unit or "",
            parameter.bounds or parameter.allowed,
        ]
        for parameter in shown.parameters
    ]
    _out.print(_table(["name", "type", "default", "meaning", "unit", "allowed"], rows))


@app.command("check")
def _check(
    source: Annotated[str, typer.Argument(help="Data set, folder, file or database URL.")],
    as_json: AsJson = False,
) -> None:
    """Hold a data source against the contract, and say what would be refused."""
    from journeylab.tables import check

    report = check(source)
    if as_json:
        _print_json(report.to_json())
        return
    summary = report.summary()
    if any(name is not None for name in summary.index.names):
        summary = summary.reset_index()
    rows = [[str(cell) for cell in row] for row in summary.itertuples(index=False)]
    _out.print(_table([str(column) for column in summary.columns], rows))
    _print_quarantine(report.quarantine)


def _print_quarantine(quarantine: "pd.DataFrame") -> None:
    """The first rows that would be refused, one line each."""
    if quarantine.empty:
        return
    shown = quarantine.head(_QUARANTINED_SHOWN)
    count = f"{len(quarantine):,} kept" if len(quarantine) > len(shown) else f"{len(shown)}"
    _out.print()
    _out.print(Text(f"Refused rows: the first {len(shown)} of {count}", style="bold"))
    columns = ["file", "line", "reason", "column", "raw"]
    rows = [[_one_line(cell) for cell in row] for row in shown[columns].itertuples(index=False)]
    _out.print(_table(columns, rows))


def _one_line(cell: Any) -> str:
    """A cell of a hostile file: no line ends, no terminal codes, at most 80 characters."""
    if cell is None or cell != cell:
        return ""
    if isinstance(cell, float) and cell.is_integer():
        cell = int(cell)
    text = "".join(letter if letter.isprintable() else " " for letter in str(cell)[:200])
    return text if len(text) <= _RAW_SHOWN else f"{text[: _RAW_SHOWN - 1]}\N{HORIZONTAL ELLIPSIS}"


@app.command("simulate")
def _simulate(
    out: Annotated[Path, typer.Option(help="Folder to make; must be new or empty.")],
    preset: Annotated[str, typer.Option(help="campaign, grocery, or a TOML file.")] = "campaign",
    customers: Annotated[int, typer.Option(help="How many people.")] = 20_000,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same bytes.")] = 7,
    dirt: Annotated[bool, typer.Option("--dirt", help="Spoil some rows, as sources do.")] = False,
    threads: Annotated[int, typer.Option(min=1, help="Parts made side by side.")] = 1,
) -> None:
    """Write the tables of a simulated retailer, and the truth about it."""
    from journeylab.simulate import simulate
    from journeylab.simulate.progress import shown

    with shown(f"simulating {customers:,} people") as progress:
        simulate(preset, customers, seed, out, dirt=dirt, threads=threads, progress=progress)
    _out.print(Text(f"{os.path.relpath(out)}: open it with open_tables, its truth with Truth.load"))


@app.command("lab")
def _lab(notebooks: Folder = None) -> None:
    """Open JupyterLab on the notebooks."""
    folder = runs.find_folder(notebooks)
    raise typer.Exit(subprocess.call([sys.executable, "-m", "jupyterlab", str(folder)]))


def main() -> None:
    """Run the command line; what is refused ends with one red line and exit code 2."""
    try:
        app()
    except JourneyLabError as error:
        _err.print(Text(str(error), style="red"), soft_wrap=True)
        sys.exit(REFUSED)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
