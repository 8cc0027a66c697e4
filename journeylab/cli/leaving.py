"""What leaves and what is taken out: ``journeylab share`` and ``journeylab forget``."""

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from journeylab.cli.terminal import (
    ERR,
    OUT,
    WITHHELD,
    AsJson,
    Folder,
    Root,
    print_json,
    root_of,
    table_of,
)
from journeylab.runs.folders import find_run

if TYPE_CHECKING:
    from journeylab.sharing.redaction import Redaction


def share(
    run: Annotated[str, typer.Argument(help="A run: its folder, its name, or latest.")],
    to: Annotated[
        Path, typer.Option("-o", help="report.html for one page, report.zip for the site.")
    ],
    no_code: Annotated[
        bool, typer.Option("--no-code", help="Without code, logs and notebooks.")
    ] = False,
    lists: Annotated[
        bool,
        typer.Option(
            "--lists/--no-lists",
            help="With tables that have a row for each customer, under pseudonyms; else without.",
        ),
    ] = False,
    k: Annotated[
        int,
        typer.Option("--k", min=1, help="Counts of fewer customers are hidden; 1 hides none."),
    ] = 10,
    data: Annotated[
        list[str] | None,
        typer.Option("--data", help="A data source whose customers' ids are to be looked for."),
    ] = None,
    out: Root = None,
    notebooks: Folder = None,
) -> None:
    """Make one file of a run to hand over, if nothing in it must stay here."""
    from journeylab.sharing import GateError
    from journeylab.sharing import share as share_run

    folder = find_run(run, root_of(out, notebooks))
    ids: set[str] = set()
    for source in data or []:
        from journeylab.privacy import ids_of
        from journeylab.tables import open_tables

        ids |= ids_of(open_tables(source, max_quarantined=1.0))
    try:
        made = share_run(folder, to, code=not no_code, lists=lists, k=k, ids=ids)
    except GateError as refusal:
        for finding in refusal.findings:
            ERR.print(Text(str(finding)), soft_wrap=True)
        ERR.print(Text(str(refusal), style="red"), soft_wrap=True)
        raise typer.Exit(WITHHELD) from None
    size = f"{made.size / 1e6:.1f} MB"
    count = f", {len(made.files)} files" if len(made.files) > 1 else ""
    _print_redaction(made.redaction)
    OUT.print(Text(f"{os.path.relpath(made.path)} ({size}{count})"), soft_wrap=True)


def _print_redaction(redaction: "Redaction") -> None:
    """What outsiders will not see, and what the sender should look at."""
    if redaction.cells:
        OUT.print(Text(redaction.note(redaction.cells)), soft_wrap=True)
    for place, reason in sorted(redaction.held_back.items()):
        OUT.print(Text(f"{place}: {reason}"), soft_wrap=True)
    if redaction.lists and redaction.rows_of_people:
        rows = f"{redaction.rows_of_people:,} rows about one customer each are in it"
        OUT.print(Text(f"{rows}, under pseudonyms", style="yellow"), soft_wrap=True)
    for notice in redaction.notices:
        text = f"Not hidden, because it stands in prose: {notice}"
        OUT.print(Text(text, style="yellow"), soft_wrap=True)


def forget(
    customer: Annotated[str, typer.Argument(help="The id as the source writes it.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List only; change nothing.")] = False,
    out: Root = None,
    notebooks: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Take one customer out of all runs and caches, and say what has to be run again."""
    from journeylab.pseudonyms import project_key
    from journeylab.sharing import forget as forget_customer

    erased = forget_customer(customer, root_of(out, notebooks), project_key(), dry_run=dry_run)
    if as_json:
        print_json(asdict(erased))
        return
    if erased.places:
        rows = [[p.file, f"{p.rows:,}", f"{p.mentions:,}"] for p in erased.places]
        OUT.print(table_of(["file", "rows", "other mentions"], rows))
    files = len(erased.places)
    done = "would go" if dry_run else "are gone"
    OUT.print(
        Text(
            f"{erased.rows:,} row{'' if erased.rows == 1 else 's'} in {files} "
            f"file{'' if files == 1 else 's'} and {len(erased.cached)} cached "
            f"notebook{'' if len(erased.cached) == 1 else 's'} {done}."
        )
    )
    if erased.again:
        OUT.print("Totals and models still rest on this customer. Take the customer out of the")
        OUT.print("data, then run again:")
        for name in erased.again:
            OUT.print(Text(f"  {name}"), soft_wrap=True)
