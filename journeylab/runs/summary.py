"""The table of a run over a grid: one row per instance, one column per number it recorded."""

import csv
import io
import json
from pathlib import Path
from typing import Any

from journeylab.runs.writing import write_json, write_whole

SUMMARY = "summary.json"
# a spreadsheet takes a text that begins so for a formula
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def flat_numbers(results: dict[str, Any]) -> dict[str, Any]:
    """Numbers that were recorded, by name; an estimate with its interval; ``a.b`` inside mappings.

    Args:
        results: As ``results.json`` holds them.
    """
    found: dict[str, Any] = {}
    for name, entry in results.items():
        if isinstance(entry, bool):
            continue
        if isinstance(entry, int | float):
            found[name] = {"value": entry}
        elif isinstance(entry, dict) and {"value", "ci_low", "ci_high"} <= entry.keys():
            found[name] = entry
        elif isinstance(entry, dict) and not {"table", "figure"} & entry.keys():
            inner = flat_numbers(entry)
            found |= {f"{name}.{key}": value for key, value in inner.items()}
    return found


def write_summary(folder: Path, manifest: dict[str, Any]) -> None:
    """Write ``summary.json`` and ``summary.csv`` of a run over a grid; nothing of any other."""
    rows = summary_rows(folder, manifest)
    if not rows:
        return
    write_json(folder / SUMMARY, rows)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _cell(value) for name, value in row.items()})
    write_whole(folder / "summary.csv", text.getvalue())


def _cell(value: Any) -> Any:
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return value


def summary_rows(folder: Path, manifest: dict[str, Any]) -> list[dict[str, Any]]:
    """Notebook, values of the grid, state, and each number with its interval, per instance."""
    rows = []
    for entry in manifest["notebooks"]:
        if not entry.get("grid"):
            continue
        row = {"notebook": entry["name"], "instance": entry["instance"], **entry["grid"]}
        row["state"] = entry["state"]
        path = folder / entry["instance"] / "results.json"
        results = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        for name, number in flat_numbers(results).items():
            row[name] = number["value"]
            if "ci_low" in number:
                row[f"{name}_ci_low"], row[f"{name}_ci_high"] = number["ci_low"], number["ci_high"]
        if entry["error"]:
            row["message"] = entry["error"]["message"]
        rows.append(row)
    return rows
