"""The command line: ``journeylab <verb>``.

Exit codes: 0 done, 2 refused (nothing was started), 3 a notebook failed or the record could not be
kept, 4 a run could not be verified, 5 something must not be shared, 130 interrupted.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

import journeylab
from journeylab import runs
from journeylab.cli.leaving import forget, share
from journeylab.cli.terminal import (
    ERR,
    FAILED,
    INTERRUPTED,
    OUT,
    REFUSED,
    UNVERIFIED,
    AsJson,
    Folder,
    Jobs,
    KeepGoing,
    Places,
    Root,
    SameJobs,
    Timeout,
    print_json,
    root_of,
    table_of,
)
from journeylab.errors import JourneyLabError, RunError
from journeylab.runs.folders import find_run, read_manifest
from journeylab.runs.notebooks import find_notebook
from journeylab.runs.parameters import read_assignments, read_grid, read_parameters_file
from journeylab.runs.progress import ProgressView
from journeylab.runs.resuming import unfinished_run

if TYPE_CHECKING:
    import pandas as pd

# Rows of the quarantine, and characters of a refused row, that a terminal shows.
_QUARANTINED_SHOWN, _RAW_SHOWN = 20, 80

_FIRST_NOTEBOOK = "00_start_here.ipynb"

app = typer.Typer(
    help="Research and modelling of a retailer's user journey, in notebooks that keep a record.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


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
    over: Annotated[
        list[str] | None,
        typer.Option(
            "--grid", help="name=a,b,c: once for each value; several give all combinations."
        ),
    ] = None,
    jobs: Jobs = 2,
    threads: Annotated[
        int | None,
        typer.Option(help="Native threads of each; by default the cores are shared out."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="For every notebook that has one; from 0.")
    ] = None,
    out: Root = None,
    label: Annotated[str | None, typer.Option(help="Part of the run folder's name.")] = None,
    timeout: Timeout = None,
    keep_going: KeepGoing = False,
    force: Annotated[bool, typer.Option("--force", help="Run also what the cache has.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would run, and why; start nothing.")
    ] = False,
    notebooks: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Run notebooks with what they need, and build the pages."""
    options = runs.RunOptions(
        jobs=jobs, threads=threads, timeout_seconds=timeout, force=force, keep_going=keep_going
    )
    parameters = read_parameters_file(file) if file is not None else {}
    parameters |= read_assignments(parameter or [])
    plan = runs.make_plan(
        runs.find_folder(notebooks),
        notebook or [],
        every=every,
        parameters=parameters,
        grid=read_grid(over or []),
        seed=seed,
    )
    if dry_run:
        _print_forecasts(runs.preview(plan, runs.runs_root(plan.folder, out), force=force), as_json)
        return
    if every and label is None:
        label = "all"
    _finish(lambda view: runs.run(plan, options, out=out, label=label, watch=view), as_json)


def _print_forecasts(forecasts: list[runs.Forecast], as_json: bool) -> None:
    if as_json:
        print_json([{"instance": f.instance, "state": f.state, "why": f.why} for f in forecasts])
        return
    rows = [[f.instance, f.state, f.why] for f in forecasts]
    OUT.print(table_of(["notebook", "would be", "why"], rows))


def _finish(work: Callable[[ProgressView], runs.RunResult], as_json: bool) -> None:
    """Carry a run through, and say what came of it."""
    try:
        with ProgressView(ERR if as_json else OUT) as view:
            result = work(view)
    except runs.RunInterrupted as interrupt:
        ERR.print("interrupted; the kernels are stopped", style="red")
        ERR.print(Text(os.path.relpath(interrupt.folder / "index.html")), soft_wrap=True)
        raise typer.Exit(INTERRUPTED) from None
    except runs.RunStopped as stop:
        ERR.print(Text(str(stop), style="red"), soft_wrap=True)
        raise typer.Exit(FAILED) from None
    if as_json:
        print_json(result.manifest)
    else:
        _print_outcome(result)
    if not result.ok:
        raise typer.Exit(FAILED)


def _print_outcome(result: runs.RunResult) -> None:
    """The decisions, and where the pages are."""
    summary = result.folder / "summary.csv"
    if summary.exists():
        OUT.print(Text(f"Summary of the grid: {os.path.relpath(summary)}"), soft_wrap=True)
    for entry in result.manifest["notebooks"]:
        if entry["grid"] and entry["state"] == "done":
            continue
        folder = result.folder / entry["instance"]
        OUT.print()
        OUT.print(Text(f"{entry['instance']}  {entry['title']}", style="bold"))
        results = folder / "results.json"
        recorded: dict[str, Any] = {}
        if results.exists():
            recorded = json.loads(results.read_text(encoding="utf-8"))
        if entry["error"] is not None:
            OUT.print(Text(f"{entry['state']}: {entry['error']['message']}", style="red"))
        if "decision" in recorded:
            OUT.print(Text(recorded["decision"]))
        for path in sorted(folder.glob("tables/*.csv")):
            OUT.print(Text(f"List to act on: {os.path.relpath(path)}"), soft_wrap=True)
        for text in recorded.get("cautions", []):
            OUT.print(Text(f"Caution: {text}", style="yellow"))
    latest = result.folder.parent / "latest"
    folder = latest if latest.is_dir() else result.folder
    OUT.print()
    OUT.print(Text(os.path.relpath(folder / "index.html")), soft_wrap=True)


@app.command("resume")
def _resume(
    run: Annotated[
        str | None, typer.Argument(help="Name or folder; the last run if not given.")
    ] = None,
    parameter: Places = None,
    jobs: SameJobs = None,
    out: Root = None,
    timeout: Timeout = None,
    keep_going: KeepGoing = False,
    notebooks: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Go on with a run that was killed, interrupted or had failures; what is done stays."""
    folder = runs.find_folder(notebooks)
    root = runs.runs_root(folder, out)
    chosen = find_run(run, root) if run else unfinished_run(root)
    options = runs.RunOptions(
        jobs=jobs or read_manifest(chosen)["jobs"], timeout_seconds=timeout, keep_going=keep_going
    )
    places = read_assignments(parameter or [])
    _finish(lambda view: runs.resume(chosen, folder, options, places=places, watch=view), as_json)


@app.command("verify")
def _verify(
    run: Annotated[str, typer.Argument(help="Name or folder of the run.")] = "latest",
    parameter: Places = None,
    jobs: SameJobs = None,
    out: Root = None,
    notebooks: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Run a run again from its manifest in a scratch folder, and compare; 4 where it differs."""
    folder = runs.find_folder(notebooks)
    chosen = find_run(run, runs.runs_root(folder, out))
    options = runs.RunOptions(jobs=jobs or read_manifest(chosen)["jobs"])
    places = read_assignments(parameter or [])
    with ProgressView(ERR) as view:
        verdict = runs.verify(chosen, folder, options, places=places, watch=view)
    if as_json:
        print_json({"holds": verdict.holds, **asdict(verdict)})
    elif verdict.holds:
        count = len(verdict.verified)
        skipped = f"; not done there: {', '.join(verdict.skipped)}" if verdict.skipped else ""
        OUT.print(Text(f"{verdict.run}: {count} notebooks gave the same bytes again{skipped}"))
    else:
        for cause in verdict.causes:
            ERR.print(Text(cause, style="red"), soft_wrap=True)
    if not verdict.holds:
        raise typer.Exit(UNVERIFIED)


@app.command("diff")
def _diff(
    before: Annotated[str, typer.Argument(help="Name or folder of a run.")],
    after: Annotated[str, typer.Argument(help="Name or folder of another.")] = "latest",
    page: Annotated[
        Path | None, typer.Option("-o", help="Page to write; diff.html if not given.")
    ] = None,
    out: Root = None,
    notebooks: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Compare two runs: parameters, data, versions, every number, tables by key, figures."""
    from journeylab.report import write_difference
    from journeylab.runs.comparing import compare_runs

    root = root_of(out, notebooks)
    first, second = find_run(before, root), find_run(after, root)
    difference = compare_runs(first, second)
    if as_json:
        print_json(difference)
        return
    written = write_difference(page or Path("diff.html"), difference, first, second)
    for line in difference["reading"]:
        OUT.print(Text(line), soft_wrap=True)
    OUT.print(Text(os.path.relpath(written)), soft_wrap=True)


@app.command("index")
def _index(out: Root = None, notebooks: Folder = None, as_json: AsJson = False) -> None:
    """Write a page over all runs: which there are, and how the recorded numbers went."""
    from journeylab.report import write_overview
    from journeylab.runs.overview import over_runs

    root = root_of(out, notebooks)
    overview = over_runs(root)
    if as_json:
        print_json(overview)
        return
    OUT.print(Text(os.path.relpath(write_overview(root, overview))), soft_wrap=True)


@app.command("doctor")
def _doctor(out: Root = None, notebooks: Folder = None, as_json: AsJson = False) -> None:
    """Say whether this machine can run the kit: Python, lock, kernel, fonts, memory, Java, disk."""
    from journeylab.runs.doctor import examine

    findings = examine(runs.find_folder(notebooks), out)
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        rows = [[f.state, f.what, f.found, f.advice] for f in findings]
        OUT.print(table_of(["", "what", "found", "what to do"], rows))
    if any(finding.state == "bad" for finding in findings):
        raise typer.Exit(REFUSED)


@app.command("new")
def _new(topic: str, notebooks: Folder = None) -> None:
    """Begin a notebook from the template."""
    from journeylab.runs.starting import new_notebook

    path = new_notebook(topic, runs.find_folder(notebooks))
    OUT.print(
        Text(f"{os.path.relpath(path)}: write the question, then journeylab lab"), soft_wrap=True
    )


@app.command("clean")
def _clean(
    notebook: Annotated[
        list[str] | None, typer.Argument(help="Notebooks; all of them if none is named.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing; 2 where a rule is broken.")
    ] = False,
    cache: Annotated[
        bool,
        typer.Option(
            "--cache", help="Remove cached notebooks and simulated worlds instead; runs stay."
        ),
    ] = False,
    older_than: Annotated[
        float | None, typer.Option(help="Of the cache only what was not used for so many days.")
    ] = None,
    keep_size: Annotated[
        float | None, typer.Option(help="Of the cache the longest unused beyond so many GB.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Of the cache: say what would go.")
    ] = False,
    out: Root = None,
    notebooks: Folder = None,
) -> None:
    """Clear outputs and counts of notebooks, and name what else breaks the rules."""
    from journeylab.runs.rules import broken_rules, clear_outputs

    if cache:
        if notebook or check:
            raise RunError("clean --cache looks at no notebook: leave names and --check away")
        _prune(root_of(out, notebooks), older_than, keep_size, dry_run)
        return
    if older_than is not None or keep_size is not None or dry_run:
        raise RunError("--older-than, --keep-size and --dry-run are for clean --cache")
    paths = runs.notebook_paths(runs.find_folder(notebooks))
    chosen = [find_notebook(paths, name) for name in notebook or []] or list(paths.values())
    broken = 0
    for path in chosen:
        if not check and clear_outputs(path):
            OUT.print(Text(f"{path.name}: outputs cleared"))
        for rule in broken_rules(path):
            broken += 1
            ERR.print(Text(f"{path.name}: {rule}", style="red"), soft_wrap=True)
    if broken:
        raise typer.Exit(REFUSED)


def _prune(root: Path, older_than: float | None, keep_size: float | None, dry_run: bool) -> None:
    from journeylab.runs.pruning import prune

    keep_bytes = None if keep_size is None else keep_size * 2**30
    pruned = prune(root, older_than_days=older_than, keep_bytes=keep_bytes, dry_run=dry_run)
    rows = []
    for kind in ("notebook", "world"):
        gone = [one for one in pruned.removed if one.kind == kind]
        kept = [one for one in pruned.kept if one.kind == kind]
        freed = sum(one.freed for one in gone)
        sizes = (f"{freed / 1e6:,.1f} MB", f"{sum(one.size for one in kept) / 1e6:,.1f} MB")
        rows.append([f"{kind}s", str(len(gone)), sizes[0], str(len(kept)), sizes[1]])
    done = "would go" if dry_run else "removed"
    OUT.print(table_of(["cached", done, "frees", "kept", "size"], rows))


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
        print_json(rows)
        return
    columns = ["notebook", "question", "parameters"]
    cells = [
        [str(row["name"]), str(row["problem"] or row["title"]), str(row["parameters"])]
        for row in rows
    ]
    OUT.print(table_of(columns, cells))


@app.command("show")
def _show(notebook: str, notebooks: Folder = None, as_json: AsJson = False) -> None:
    """Show the parameters of a notebook."""
    paths = runs.notebook_paths(runs.find_folder(notebooks))
    shown = runs.read_notebook(find_notebook(paths, notebook))
    if as_json:
        print_json(
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
    OUT.print(Text(f"{shown.path.name}  {shown.title}", style="bold"))
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
    OUT.print(table_of(["name", "type", "default", "meaning", "unit", "allowed"], rows))


@app.command("check")
def _check(
    source: Annotated[str, typer.Argument(help="Data set, folder, file or database URL.")],
    as_json: AsJson = False,
) -> None:
    """Hold a data source against the contract, and say what would be refused."""
    from journeylab.tables import check

    report = check(source)
    if as_json:
        print_json(report.to_json())
        return
    summary = report.summary()
    if any(name is not None for name in summary.index.names):
        summary = summary.reset_index()
    rows = [[str(cell) for cell in row] for row in summary.itertuples(index=False)]
    OUT.print(table_of([str(column) for column in summary.columns], rows))
    _print_quarantine(report.quarantine)


def _print_quarantine(quarantine: "pd.DataFrame") -> None:
    """The first rows that would be refused, one line each."""
    if quarantine.empty:
        return
    shown = quarantine.head(_QUARANTINED_SHOWN)
    count = f"{len(quarantine):,} kept" if len(quarantine) > len(shown) else f"{len(shown)}"
    OUT.print()
    OUT.print(Text(f"Refused rows: the first {len(shown)} of {count}", style="bold"))
    columns = ["file", "line", "reason", "column", "raw"]
    rows = [[_one_line(cell) for cell in row] for row in shown[columns].itertuples(index=False)]
    OUT.print(table_of(columns, rows))


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
    OUT.print(Text(f"{os.path.relpath(out)}: open it with open_tables, its truth with Truth.load"))


@app.command("lab")
def _lab(
    options: Annotated[
        list[str] | None, typer.Argument(help="After --, for JupyterLab: -- --no-browser.")
    ] = None,
    notebooks: Folder = None,
) -> None:
    """Open JupyterLab on the notebooks, with the one that links all others."""
    folder = runs.find_folder(notebooks)
    command = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={folder}"]
    if (folder / _FIRST_NOTEBOOK).exists():
        command.append(f"--LabApp.default_url=/lab/tree/{_FIRST_NOTEBOOK}")
    raise typer.Exit(subprocess.call([*command, *(options or [])]))


app.command("share")(share)
app.command("forget")(forget)


def main() -> None:
    """Run the command line; what is refused ends with one red line and exit code 2."""
    try:
        app()
    except JourneyLabError as error:
        ERR.print(Text(str(error), style="red"), soft_wrap=True)
        sys.exit(REFUSED)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
