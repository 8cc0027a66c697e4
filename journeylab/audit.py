"""Audit: which columns a notebook used, for which purpose, and how it used ids of people.

Under the runner each notebook keeps its audit in its own folder until the runner takes it into
the manifest; elsewhere nothing is kept.
"""

import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# The runner names the notebook's folder so for each kernel.
_FOLDER_VARIABLE = "JOURNEYLAB_RUN_FOLDER"
_NAME = ".audit.json"

# How an id was used, the most telling last: only inside the engine, as a pseudonym, or as it is.
INSIDE, PSEUDONYM, RAW = "inside the engine", "pseudonym", "raw"
_MOST_TELLING = (INSIDE, PSEUDONYM, RAW)


def auditing() -> bool:
    """Whether somebody keeps the audit: under the runner."""
    return bool(os.environ.get(_FOLDER_VARIABLE))


def note_columns(used: Mapping[str, Mapping[str, str | None]]) -> None:
    """Add columns that came to an answer.

    Args:
        used: Table to column to how its ids were used; None for a column that holds no ids.
    """
    if not auditing():
        return
    audit = _read()
    before = json.dumps(audit, sort_keys=True)
    for table, columns in used.items():
        kept = audit["tables"].setdefault(table, {"columns": [], "ids": {}})
        kept["columns"] = sorted({*kept["columns"], *columns})
        # by use and not by column: a column's name over a word would look like an id
        known = {column: use for use, listed in kept["ids"].items() for column in listed}
        for column, use in columns.items():
            if use is not None:
                known[column] = max(use, known.get(column, INSIDE), key=_MOST_TELLING.index)
        kept["ids"] = {
            use: sorted(column for column in known if known[column] == use)
            for use in sorted(set(known.values()))
        }
    if json.dumps(audit, sort_keys=True) != before:
        _write(audit)


def note_purpose(purpose: str, as_of: str, withheld: Mapping[str, Mapping[str, int]]) -> None:
    """Add a purpose that rows were used for, and how many rows were kept back for which reason.

    Args:
        purpose: As in the consents.
        as_of: Day on which consent was in force.
        withheld: Table to reason to rows.
    """
    if auditing():
        audit = _read()
        entry = {"purpose": purpose, "as_of": as_of, "withheld": withheld}
        if entry not in audit["purposes"]:
            audit["purposes"].append(entry)
            _write(audit)


def take_audit(folder: Path) -> dict[str, Any] | None:
    """The audit of a notebook, taken out of its folder; None where it used no tables."""
    path = folder / _NAME
    try:
        audit: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    path.unlink(missing_ok=True)
    return audit


def _read() -> dict[str, Any]:
    path = Path(os.environ[_FOLDER_VARIABLE]) / _NAME
    try:
        audit: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {"tables": {}, "purposes": []}
    return audit


def _write(audit: dict[str, Any]) -> None:
    path = Path(os.environ[_FOLDER_VARIABLE]) / _NAME
    beside = path.with_name(f"{_NAME}.{secrets.token_hex(3)}")
    try:
        beside.write_text(json.dumps(audit, sort_keys=True), encoding="utf-8")
        beside.replace(path)
    except OSError:
        # a full disk is the runner's to report; an answer is not lost for its audit
        beside.unlink(missing_ok=True)
