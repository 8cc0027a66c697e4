"""Finished notebooks by their content key, so that the same work is not done twice.

They lie in ``.cache`` of the runs' root and share their files with the run that made them (hard
links where the disk has them). Whole or not at all: a folder is filled beside and then renamed.
"""

import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from journeylab.runs.keys import meaningful
from journeylab.runs.manifest import output_hashes
from journeylab.runs.writing import write_json

# Written anew for every run: the page says where its results came from.
_NOT_KEPT = frozenset({"report.html"})


@dataclass(frozen=True, slots=True)
class Finished:
    """A finished notebook in the cache.

    Attributes:
        folder: Its files as they stood in the run.
        entry: Its entry in that run's manifest.
        run: Name of the run that executed it.
    """

    folder: Path
    entry: dict[str, Any]
    run: str


def cache_folder(root: Path) -> Path:
    """Where the runs in ``root`` keep finished notebooks."""
    return root / ".cache"


def _place(root: Path, digest: str) -> Path:
    return cache_folder(root) / digest[:2] / digest


def find_finished(root: Path, digest: str) -> Finished | None:
    """The finished notebook of that key; None where there is none or its files were changed.

    Args:
        root: The runs' root.
        digest: Of the content key.
    """
    place = _place(root, digest)
    try:
        kept = json.loads((place / "entry.json").read_text(encoding="utf-8"))
        if output_hashes(place / "files") != kept["entry"]["outputs"]:
            return None
    except (OSError, ValueError, KeyError):
        return None
    return Finished(place / "files", kept["entry"], kept["run"])


def keep_finished(root: Path, digest: str, folder: Path, entry: dict[str, Any], run: str) -> None:
    """Keep a notebook that is done; what stood there under this key makes way.

    Args:
        root: The runs' root.
        digest: Of the content key.
        folder: The notebook's own in the run.
        entry: Its entry in the manifest.
        run: Name of the run.
    """
    place = _place(root, digest)
    beside = place.with_name(f".{run}.{secrets.token_hex(3)}")
    try:
        _link_files(folder, beside / "files")
        write_json(beside / "entry.json", {"run": run, "entry": entry})
        _swap(beside, place)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _swap(beside: Path, place: Path) -> None:
    """Let a folder take the place of another one."""
    if place.exists():
        away = place.with_name(f"{beside.name}.old")
        place.replace(away)
        shutil.rmtree(away, ignore_errors=True)
    beside.replace(place)


def take_finished(finished: Finished, folder: Path, source: Path) -> dict[str, Any]:
    """Put the files of a finished notebook into a run.

    Args:
        finished: From the cache.
        folder: The notebook's own in the run; must not exist.
        source: The notebook as it is now: its text may have changed since.

    Returns:
        The executed notebook with the text of now, for the caller to write.
    """
    with suppress(OSError):
        # pruning takes the longest unused first
        os.utime(finished.folder.parent / "entry.json")
    _link_files(finished.folder, folder, without="notebook.ipynb")
    executed = json.loads((finished.folder / "notebook.ipynb").read_text(encoding="utf-8"))
    return with_text_of_now(executed, json.loads(source.read_text(encoding="utf-8")))


def _link_files(source: Path, target: Path, without: str = "") -> None:
    target.mkdir(parents=True)
    for path in sorted(source.rglob("*")):
        inner = path.relative_to(source)
        name = inner.as_posix()
        if name in _NOT_KEPT or name == without or inner.parts[0].startswith("."):
            continue
        if path.is_dir() and not path.is_symlink():
            (target / inner).mkdir(exist_ok=True)
            continue
        try:
            os.link(path, target / inner, follow_symlinks=False)
        except OSError:
            shutil.copy2(path, target / inner, follow_symlinks=False)


def with_text_of_now(executed: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """An executed notebook with the Markdown and comments of its source as it is now.

    The code is the same but for comments, or the key would be another one: so the n-th cell with
    code then is the n-th cell with code now.
    """
    answers: Iterator[dict[str, Any]] = iter(
        [cell for cell in executed["cells"] if _has_code(cell) and not _injected(cell)]
    )
    injected = [cell for cell in executed["cells"] if _injected(cell)]
    cells: list[dict[str, Any]] = []
    for cell in now["cells"]:
        if _has_code(cell):
            answered = next(answers, None)
            if answered is None:
                return executed
            cell = {**answered, "source": cell["source"], "id": cell.get("id", answered.get("id"))}
        cells.append(cell)
        if "parameters" in cell.get("metadata", {}).get("tags", ()):
            cells += injected
            injected = []
    return {**executed, "cells": [*injected, *cells]}


def _injected(cell: dict[str, Any]) -> bool:
    return "injected-parameters" in cell.get("metadata", {}).get("tags", ())


def _has_code(cell: dict[str, Any]) -> bool:
    words = meaningful("".join(cell["source"])) if cell["cell_type"] == "code" else []
    return any(word for _, word in words) if words and isinstance(words[0], tuple) else bool(words)
