"""Small notebooks that tests write into folders of their own."""

import json
from pathlib import Path
from typing import Any


def cell(source: str, tag: str | None = None, kind: str = "code") -> dict[str, Any]:
    """One cell as the file holds it."""
    made: dict[str, Any] = {
        "cell_type": kind,
        "id": "",
        "metadata": {"tags": [tag]} if tag else {},
        "source": source,
    }
    return made | ({"outputs": [], "execution_count": None} if kind == "code" else {})


def write_cells(path: Path, cells: list[dict[str, Any]]) -> Path:
    """Write a notebook of these cells."""
    for number, made in enumerate(cells):
        if made.get("id") == "":
            made["id"] = f"c{number}"
    content = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")
    return path


def write_notebook(path: Path, parameters: str, *code: str, decision: str = "") -> Path:
    """Write a notebook that keeps the rules: a question, parameters, code, a decision."""
    chosen = decision or 'decision("Go on.")'
    return write_cells(
        path,
        [
            cell(
                f"# What about {path.stem}?\n\nFor the tests, which decide by it.", kind="markdown"
            ),
            cell(parameters, "parameters"),
            cell("from journeylab.runs import caution, decision, record, recorded"),
            *(cell(source) for source in code),
            cell(chosen, "decision"),
        ],
    )
