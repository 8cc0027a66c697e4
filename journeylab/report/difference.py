"""Two runs on one page: numbers with their change, tables by key, figures side by side."""

import base64
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape

from journeylab.errors import RunError
from journeylab.report.cleaning import clean_svg, plain
from journeylab.report.numbers import number, separated, words
from journeylab.report.site import write
from journeylab.report.tables import Table, named_rows

_MOST_FIGURES = 40


def write_difference(path: Path, difference: dict[str, Any], before: Path, after: Path) -> Path:
    """Write the page of a comparison.

    Args:
        path: Of the page.
        difference: From ``runs.comparing.compare_runs``.
        before: Folder of the earlier run, for its figures.
        after: Folder of the later one.

    Returns:
        Path of the page.
    """
    figures = 0
    sections = []
    for notebook in difference["notebooks"]:
        pairs = []
        for figure in notebook["figures"]:
            if figure["same"] or figures >= _MOST_FIGURES:
                continue
            figures += 1
            sides = [
                _picture(run / notebook["instance"] / figure[side], f"{side[0]}{figures}-", figure)
                for side, run in (("before", before), ("after", after))
            ]
            pairs.append({"name": words(figure["name"]), "sides": sides})
        sections.append(_section(notebook, pairs))
    values = {
        "language": "en",
        "title": "Two runs compared",
        "before": difference["before"],
        "after": difference["after"],
        "reading": [plain(line) for line in difference["reading"]],
        "versions": _pairs(difference["versions"]),
        "sections": sections,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    return write("difference.html.j2", path, values)


def _section(notebook: dict[str, Any], figures: list[dict[str, Any]]) -> dict[str, Any]:
    states = notebook["state"]
    same = sum(figure["same"] for figure in notebook["figures"])
    return {
        "name": notebook["instance"],
        "title": plain(str(notebook["title"])),
        "state": " -> ".join(dict.fromkeys(str(s or "absent") for s in states.values())),
        "settings": _pairs([*notebook["parameters"], *notebook["data"]]),
        "numbers": _numbers(notebook["numbers"]),
        "texts": _pairs(notebook["texts"]),
        "tables": [_table(table) for table in notebook["tables"] if not table["same"]],
        "figures": figures,
        "same_figures": same,
    }


def _pairs(rows: list[dict[str, Any]]) -> Table | None:
    if not rows:
        return None
    shown = [(str(r["name"]), _text(r["before"]), _text(r["after"])) for r in rows]
    return named_rows(shown, ("", "Before", "After"))


def _numbers(rows: list[dict[str, Any]]) -> Table | None:
    if not rows:
        return None
    shown = []
    for row in rows:
        change = row["change"]
        sign = "+" if change and change > 0 else ""
        verdict = {True: "outside", False: "inside", None: ""}[row["outside"]]
        interval = (
            "" if row["ci_low"] is None else f"{number(row['ci_low'])} to {number(row['ci_high'])}"
        )
        shown.append(
            (
                words(row["name"].replace(".", ", ")),
                _text(row["before"]),
                _text(row["after"]),
                "" if change is None else f"{sign}{number(change)}" if change else "0",
                interval,
                verdict,
                row["unit"],
            )
        )
    head = ("", "Before", "After", "Change", "Interval before", "Now", "Unit")
    return named_rows(shown, head)


def _table(table: dict[str, Any]) -> dict[str, Any]:
    if table.get("missing"):
        return {"name": words(table["name"]), "note": "a file is missing", "rows": None}
    key = ", ".join(table["key"]) or "their order"
    note = (
        f"Rows matched by {key}: {separated(table['rows_changed'], 0)} changed, "
        f"{separated(table['rows_added'], 0)} new, {separated(table['rows_removed'], 0)} gone"
    )
    for what in ("added", "removed"):
        if table[f"columns_{what}"]:
            note += f"; columns {what}: {', '.join(table[f'columns_{what}'])}"
    if table["largest"]:
        largest = ", ".join(f"{name} {number(gap)}" for name, gap in table["largest"].items())
        note += f". Largest change: {largest}"
    rows = [
        (", ".join(map(_text, c["key"])), _text(c["before"]), _text(c["after"]), c["column"])
        for c in table["changes"]
    ]
    shown = named_rows(rows, ("", "Before", "After", "Column")) if rows else None
    return {"name": words(table["name"]), "note": plain(note), "rows": shown}


def _text(value: Any) -> str:
    if value is None:
        return "\N{EN DASH}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return number(value)
    if isinstance(value, list):
        return "; ".join(map(_text, value)) or "\N{EN DASH}"
    text = plain(str(value))
    return text if len(text) <= 300 else f"{text[:300]} \N{HORIZONTAL ELLIPSIS}"


def _picture(path: Path, prefix: str, figure: dict[str, Any]) -> Markup:
    label = plain(str(figure["alt"]))
    try:
        if path.suffix == ".svg":
            return clean_svg(path.read_text(encoding="utf-8"), prefix, label)
        encoded = base64.b64encode(path.read_bytes()).decode("ascii")
    except (OSError, RunError) as problem:
        return Markup("<p>{}</p>").format(f"no figure: {type(problem).__name__}")
    return Markup('<img src="data:image/png;base64,{}" alt="{}">').format(encoded, escape(label))
