"""One executed notebook as a page: what to do, how sure that is, and then how it was found."""

import re
from pathlib import Path
from typing import Any

from journeylab.report.blocks import body, highlighted, recorded_blocks
from journeylab.report.cleaning import plain, shortened
from journeylab.report.markdown import render
from journeylab.report.notebook import (
    ExecutedNotebook,
    caution_texts,
    decision_text,
    read_notebook,
    read_results,
)
from journeylab.report.numbers import Figure, key_figure
from journeylab.report.site import (
    day,
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

_KEY_FIGURES = 3
_MOST_IN_MESSAGE, _MOST_IN_TRACEBACK = 2_100, 21_000
_FILES = ("results.json", "notebook.ipynb", "log.txt")


def write_page(instance_folder: Path, run: dict[str, Any], notebook_entry: dict[str, Any]) -> Path:
    """Write ``report.html`` of one notebook of a run.

    Args:
        instance_folder: Holds ``notebook.ipynb`` and ``results.json``; either may be missing where
            the notebook failed or never began.
        run: The manifest.
        notebook_entry: The notebook's own entry in it.

    Returns:
        Path of the page. The same inputs give the same bytes.
    """
    notebook = read_notebook(instance_folder / "notebook.ipynb")
    results = read_results(instance_folder)
    title = page_title(notebook, notebook_entry)
    values = {
        "language": language(title, notebook.lede[:200]),
        "title": title,
        "eyebrow": _eyebrow(notebook_entry),
        "lede": render(notebook.lede, last_level=1)[0] if notebook.lede else "",
        "decision": first_sentence(plain(decision_text(notebook, results))),
        "trouble": _trouble(notebook, notebook_entry),
        "figures": key_figures(notebook, results),
        "doubt": render(notebook.doubt, last_level=2)[0] if notebook.doubt else "",
        "cautions": [plain(text) for text in caution_texts(notebook, results)],
        "settings": _settings(notebook, notebook_entry),
        "blocks": [
            *body(notebook.cells, instance_folder),
            *recorded_blocks(_only_in_results(notebook, results)),
        ],
        "lists": lists_to_act_on(instance_folder),
        "facts": _facts(run, notebook_entry),
        "run": run,
        "links": [name for name in _FILES if (instance_folder / name).exists()],
    }
    return write("page.html.j2", instance_folder / "report.html", values)


def _only_in_results(notebook: ExecutedNotebook, results: dict[str, Any]) -> dict[str, Any]:
    """What was kept before a kernel died, where its notebook was not saved with it."""
    shown = {entry.get("name") for entry in notebook.records} | {"decision", "cautions"}
    return {name: entry for name, entry in results.items() if name not in shown}


def page_title(notebook: ExecutedNotebook, entry: dict[str, Any]) -> str:
    """The notebook's question; its name in words where it asks none."""
    given = notebook.title or str(entry.get("title") or "").lstrip("# ").strip()
    # a heading is Markdown; here only its words are wanted
    words = re.sub(r"(\*\*|__|`)(.+?)\1", r"\2", plain(given))
    return words or topic(entry)


def key_figures(notebook: ExecutedNotebook, results: dict[str, Any]) -> list[Figure]:
    """The first three estimates, in the order in which they were recorded."""
    found = [(str(entry["name"]), entry) for entry in notebook.estimates()]
    if not found:
        found = [
            (name, entry)
            for name, entry in results.items()
            if isinstance(entry, dict) and {"value", "ci_low", "ci_high", "unit"} <= entry.keys()
        ]
    return [key_figure(name, entry) for name, entry in found[:_KEY_FIGURES]]


def _eyebrow(entry: dict[str, Any]) -> list[str]:
    parameters = entry.get("parameters") or {}
    as_of = parameters.get("as_of")
    parts = [
        number_of(str(entry["instance"])),
        topic(entry),
        short_source(entry.get("data")),
        f"as of {day(str(as_of))}" if as_of else "",
    ]
    return [part for part in parts if part]


def _settings(notebook: ExecutedNotebook, entry: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Name, value and meaning of each parameter, in the notebook's own order."""
    parameters: dict[str, Any] = entry.get("parameters") or {}
    order = [name for name in notebook.parameters if name in parameters]
    order += [name for name in parameters if name not in notebook.parameters]
    return [
        (name, plain(str(parameters[name])), plain(notebook.parameters.get(name, "")))
        for name in order
    ]


def _trouble(notebook: ExecutedNotebook, entry: dict[str, Any]) -> dict[str, Any] | None:
    """Why there is no decision: what failed, where, and in which code."""
    state = entry.get("state")
    if state not in ("failed", "blocked"):
        return None
    error: dict[str, Any] = entry.get("error") or {}
    cell = next((cell for cell in notebook.cells if cell.failed), None)
    place = error.get("cell")
    name, message = str(error.get("name") or ""), plain(str(error.get("message") or ""))
    if name and not message.startswith(name):
        message = f"{name}: {message}" if message else name
    return {
        "state": state,
        "place": f"Cell {place}" if place is not None else "",
        "message": shortened(message, _MOST_IN_MESSAGE) or "No reason was recorded.",
        "code": highlighted(cell.source) if cell is not None else "",
        "traceback": shortened(plain(str(error.get("traceback") or "")), _MOST_IN_TRACEBACK),
    }


def _facts(run: dict[str, Any], entry: dict[str, Any]) -> list[tuple[str, str]]:
    data, lock = entry.get("data_fingerprint"), run.get("lock_sha256")
    memory = entry.get("peak_memory_mb")
    pairs = [
        ("run", str(run.get("run") or "")),
        ("started", moment(run.get("started_at"))),
        ("taken from", str(entry.get("cached_from") or "")),
        ("took", seconds(entry.get("duration_seconds"))),
        ("memory", f"{memory:,.0f} MB" if memory else ""),
        ("seed", str(run["seed"]) if run.get("seed") is not None else ""),
        ("data", str(data)[:12] if data else ""),
        ("lock", str(lock)[:12] if lock else ""),
        ("journeylab", str(run.get("journeylab") or "")),
    ]
    return [(name, text) for name, text in pairs if text]
