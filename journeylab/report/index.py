"""A run on one page: what was decided, how sure that is, and what to be careful with."""

import json
import re
from pathlib import Path
from typing import Any

from journeylab.report.cleaning import plain
from journeylab.report.notebook import (
    caution_texts,
    decision_text,
    read_notebook,
    read_results,
)
from journeylab.report.numbers import number, words
from journeylab.report.page import key_figures, page_title
from journeylab.report.site import (
    first_sentence,
    language,
    lists_to_act_on,
    moment,
    number_of,
    seconds,
    short_source,
    topic,
    write,
)

# Beyond so many instances of a grid their table stands for those that are done.
_MOST_GRID_CARDS = 6


def write_index(run_folder: Path) -> Path:
    """Write ``index.html`` of a run from its manifest and what its notebooks recorded.

    Args:
        run_folder: Holds ``manifest.json`` and one folder per notebook.

    Returns:
        Path of the page. The same inputs give the same bytes.
    """
    run: dict[str, Any] = json.loads((run_folder / "manifest.json").read_text(encoding="utf-8"))
    entries: list[dict[str, Any]] = run.get("notebooks") or []
    grid = _grid(run_folder, entries)
    cards = [_card(run_folder, entry) for entry in entries if not _only_a_row(entry, grid)]
    title = _title(run, entries)
    values = {
        "language": language(title, *(card["title"] for card in cards)),
        "title": title,
        "eyebrow": _eyebrow(run, entries),
        "cards": cards,
        "grid": grid,
        "count": len(entries),
        "unfinished": [card for card in cards if card["trouble"]],
        "cautious": sum(bool(card["cautions"]) for card in cards),
        "facts": _facts(run),
    }
    return write("index.html.j2", run_folder / "index.html", values)


def _title(run: dict[str, Any], entries: list[dict[str, Any]]) -> str:
    """From the label where people chose one; the runner's own names the notebooks."""
    label = str(run.get("label") or "")
    names = "-".join(str(entry["name"]) for entry in entries)
    made = re.fullmatch(r"\d+-notebooks|run|all|", label) or label in names
    return (
        "This run on the user journey" if made else f"The user journey: {label.replace('_', ' ')}"
    )


def _eyebrow(run: dict[str, Any], entries: list[dict[str, Any]]) -> list[str]:
    count = len(entries)
    parts = [
        "Run",
        moment(run.get("started_at")),
        f"{count} notebook{'' if count == 1 else 's'}",
        seconds(run.get("duration_seconds")),
    ]
    return [part for part in parts if part]


def _card(run_folder: Path, entry: dict[str, Any]) -> dict[str, Any]:
    instance = str(entry["instance"])
    folder = run_folder / instance
    notebook, results = read_notebook(folder / "notebook.ipynb"), read_results(folder)
    state = str(entry.get("state") or "")
    error: dict[str, Any] = entry.get("error") or {}
    place = f"Cell {error['cell']}: " if error.get("cell") is not None else ""
    name = f"{error['name']}: " if error.get("name") else ""
    reason = plain(f"{place}{name}{error.get('message') or 'no reason was recorded'}")
    # a name could climb out of the run's folder; an instance never has a separator
    linked = "/" not in instance and "\\" not in instance
    files = ("report.html", "results.json", "notebook.ipynb") if linked else ()
    present = [name for name in files if (folder / name).exists()]
    pills = [number_of(instance), topic(entry), short_source(entry.get("data"))]
    return {
        "title": page_title(notebook, entry),
        "instance": instance,
        "pill": " · ".join(pill for pill in pills if pill),
        "page": "report.html" in present,
        "files": [name for name in present if name != "report.html"],
        "decision": first_sentence(plain(decision_text(notebook, results))),
        "lists": lists_to_act_on(folder) if linked else [],
        "figures": key_figures(notebook, results),
        "cautions": [plain(text) for text in caution_texts(notebook, results)],
        "trouble": reason if state in ("failed", "blocked") else "",
        "state": state,
        "took": f"as in {entry['cached_from']}"
        if entry.get("cached_from")
        else seconds(entry.get("duration_seconds")),
    }


def _only_a_row(entry: dict[str, Any], grid: list[dict[str, Any]]) -> bool:
    """Whether a row of the grid's table says enough of a notebook."""
    rows = sum(len(table["rows"]) for table in grid)
    return bool(entry.get("grid")) and entry.get("state") == "done" and rows > _MOST_GRID_CARDS


def _grid(run_folder: Path, entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The summary of a run over a grid, a table for each notebook."""
    path = run_folder / "summary.json"
    if not path.exists():
        return []
    rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    over = {str(entry["instance"]): list(entry.get("grid") or {}) for entry in entries}
    tables: dict[str, dict[str, Any]] = {}
    for row in rows:
        instance = str(row["instance"])
        if "/" in instance or "\\" in instance:
            continue
        table = tables.setdefault(str(row["notebook"]), {"heads": [], "rows": [], "names": []})
        names = [name for name in row if name not in ("notebook", "instance", "message")]
        table["names"] += [
            name
            for name in names
            if name not in table["names"] and not name.endswith(("_ci_low", "_ci_high"))
        ]
        table["rows"].append((instance, over.get(instance, []), row))
    for name, table in tables.items():
        table["caption"] = f"{words(name)}: one row for each value of the grid"
        table["heads"] = [words(head.replace(".", ", ")) for head in table["names"]]
        table["rows"] = [
            {
                "instance": instance,
                "page": (run_folder / instance / "report.html").exists(),
                "cells": [_grid_cell(head, keys, row) for head in table["names"]],
            }
            for instance, keys, row in table["rows"]
        ]
    return list(tables.values())


def _grid_cell(name: str, keys: list[str], row: dict[str, Any]) -> dict[str, Any]:
    """Text of a cell, and whether it is a number."""
    value = row.get(name)
    if name in keys or not isinstance(value, int | float) or isinstance(value, bool):
        return {"text": plain("" if value is None else str(value)), "number": False}
    text = number(value)
    if f"{name}_ci_low" in row:
        text += f" ({number(row[f'{name}_ci_low'])} to {number(row[f'{name}_ci_high'])})"
    return {"text": text, "number": True}


def _facts(run: dict[str, Any]) -> list[tuple[str, str]]:
    git: dict[str, Any] = run.get("git") or {}
    commit = str(git.get("commit") or "")[:12]
    lock = str(run.get("lock_sha256") or "")[:12]
    pairs = [
        ("run", str(run.get("run") or "")),
        ("seed", str(run["seed"]) if run.get("seed") is not None else ""),
        ("commit", f"{commit} with changes" if commit and git.get("dirty") else commit),
        ("lock", lock),
        ("journeylab", str(run.get("journeylab") or "")),
        ("Python", str(run.get("python") or "")),
    ]
    return [(name, text) for name, text in pairs if text]
