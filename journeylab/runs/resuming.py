"""Going on with a run that was killed or had failures: what is done is not done again."""

import contextlib
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from journeylab.errors import ContractError, RunError
from journeylab.runs.execution import RunOptions, RunResult, Watch, execute
from journeylab.runs.folders import clear_leftovers, read_manifest, run_folders
from journeylab.runs.journal import Journal, journaled_entries
from journeylab.runs.keys import PART_WORDS, KeyMaker, changed_identity
from journeylab.runs.parameters import Value
from journeylab.runs.plan import Fingerprint, Plan, make_plan


def plan_again(
    manifest: Mapping[str, Any],
    notebooks: Path,
    *,
    caller: Path | None = None,
    places: Mapping[str, Value] | None = None,
    fingerprint: Fingerprint | None = None,
) -> Plan:
    """The plan of a recorded run, made anew from the notebooks as they are now.

    Args:
        manifest: Of the run.
        notebooks: Their folder.
        caller: What relative data sources are relative to; the working directory by default.
        places: Where data and files lie now, as ``data``, ``x_file`` or ``notebook.data``: a
            manifest names no folder of a machine.
        fingerprint: As for ``make_plan``.

    Raises:
        RunError: The run was made before requests were recorded, or a notebook or data are gone.
    """
    request = manifest.get("request")
    if request is None:
        raise RunError(f"{manifest.get('run')} does not say what was asked for: it is too old")
    for name in places or {}:
        own = name.rpartition(".")[2]
        if own != "data" and not own.endswith("_file"):
            raise RunError(f"only the place of data or of a file may be given anew, not {name!r}")
    try:
        return make_plan(
            notebooks,
            request["targets"],
            parameters={**request["parameters"], **(places or {})},
            grid=request["grid"],
            seed=manifest["seed"],
            caller=caller,
            fingerprint=fingerprint,
        )
    except ContractError as error:
        raise RunError(
            f"{error}. A run keeps no folder of a machine: say where the data are by -p data=PATH, "
            "or go to the folder that the run was started in"
        ) from error


def unfinished_run(root: Path) -> Path:
    """The last run in a root, if something in it is not done.

    Raises:
        RunError: There is no run, or everything in the last one is done.
    """
    folders = run_folders(root)
    if not folders:
        raise RunError(f"there is no run in {root.name} to go on with")
    last = folders[-1]
    if all(entry["state"] == "done" for entry in _as_journaled(last)["notebooks"]):
        raise RunError(f"everything in the last run, {last.name}, is done; name another one")
    return last


def _as_journaled(folder: Path) -> dict[str, Any]:
    """The manifest with what the journal knows beyond it; what is not done is pending."""
    manifest = read_manifest(folder)
    ended = journaled_entries(folder)
    entries = []
    for entry in manifest["notebooks"]:
        entry = ended.get(entry["instance"], entry)
        if entry["state"] != "done":
            entry |= {
                **{"state": "pending", "error": None, "outputs": {}, "cached_from": None},
                **{"key": None, "key_parts": {}, "cells": None, "duration_seconds": None},
                **{"cpu_seconds": None, "peak_memory_mb": None},
            }
        entries.append(entry)
    return manifest | {"notebooks": entries, "finished_at": None}


def resume(
    folder: Path,
    notebooks: Path,
    options: RunOptions | None = None,
    *,
    places: Mapping[str, Value] | None = None,
    caller: Path | None = None,
    watch: Watch | None = None,
    fingerprint: Fingerprint | None = None,
) -> RunResult:
    """Go on with a run: what is done stays, the rest is run in the same folder.

    Kernels that a killed runner left behind are ended, and half-written files are removed.

    Args:
        folder: The run's.
        notebooks: The notebooks' folder.
        options: How; as many side by side as before by default.
        places: Where data lie now, as for ``plan_again``.
        caller: As for ``plan_again``.
        watch: Told how all notebooks stand.
        fingerprint: As for ``make_plan``.

    Raises:
        RunError: The run is still running, its notebooks are others now, or what is done rests on
            code, data or versions that have changed since.
    """
    manifest = _as_journaled(folder)
    plan = plan_again(manifest, notebooks, caller=caller, places=places, fingerprint=fingerprint)
    planned, recorded = set(plan.instances), {e["instance"] for e in manifest["notebooks"]}
    if planned != recorded:
        others = ", ".join(sorted(planned ^ recorded))
        raise RunError(f"the notebooks have changed since {folder.name} began ({others}); {_ANEW}")
    _refuse_stale(plan, manifest, folder)
    try:
        journal = Journal(folder)
    except OSError as error:
        raise RunError(f"{folder.name} cannot be written: {error.strerror}") from error
    with journal:
        clear_leftovers(folder)
        done = {e["instance"] for e in manifest["notebooks"] if e["state"] == "done"}
        for name in planned - done:
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(folder / name)
        options = options or RunOptions(jobs=manifest["jobs"])
        return execute(plan, folder, manifest, replace(options, force=False), watch, journal)


_ANEW = "start a new run: it takes from the cache what is still good"


def _refuse_stale(plan: Plan, manifest: Mapping[str, Any], folder: Path) -> None:
    """Refuse to mix results of then and of now.

    Raises:
        RunError: Something done rests on what has changed.
    """
    entries = {entry["instance"]: entry for entry in manifest["notebooks"]}
    keys = KeyMaker(plan.folder.parent)
    for name, instance in plan.instances.items():
        entry = entries[name]
        if entry["state"] != "done":
            continue
        upstream = {
            needed: entries[needed]["outputs"] if entries[needed]["state"] == "done" else None
            for needed in instance.needs
        }
        key = keys.key(instance, upstream)
        changed = [
            words
            for part, words in PART_WORDS.items()
            # a file that the notebook itself wrote to is no longer as it found it
            if _differ(part, entry, key.parts) and not (part == "files" and instance.writes)
        ]
        if changed:
            raise RunError(
                f"{name} was done in {folder.name}, but since then {' and '.join(changed)} "
                f"changed; {_ANEW}"
            )
        if other := changed_identity(entry):
            raise RunError(f"{name} was done in {folder.name}, but {other}; {_ANEW}")


def _differ(part: str, entry: Mapping[str, Any], parts: Mapping[str, str]) -> bool:
    return bool(entry["key_parts"].get(part) != parts[part])
