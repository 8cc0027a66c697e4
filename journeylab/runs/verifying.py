"""Checking the promise: a recorded run, run again from its manifest, gives the same bytes."""

import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from journeylab.errors import RunError
from journeylab.runs.execution import RunOptions, Watch, run
from journeylab.runs.folders import read_manifest
from journeylab.runs.forecasting import changed_environment, changes
from journeylab.runs.keys import KeyMaker, changed_identity
from journeylab.runs.parameters import Value
from journeylab.runs.plan import Fingerprint, Plan
from journeylab.runs.resuming import plan_again


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a run can be repeated.

    Attributes:
        run: Its name.
        verified: Instances that gave the same bytes.
        skipped: Instances that were not done in the run, so that there is nothing to compare.
        causes: What has changed since, or differs; empty where the run holds.
    """

    run: str
    verified: tuple[str, ...]
    skipped: tuple[str, ...]
    causes: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Whether nothing speaks against the run."""
        return not self.causes


def verify(
    folder: Path,
    notebooks: Path,
    options: RunOptions | None = None,
    *,
    places: Mapping[str, Value] | None = None,
    caller: Path | None = None,
    watch: Watch | None = None,
    fingerprint: Fingerprint | None = None,
) -> Verdict:
    """Run what a run did once more, in a scratch folder, and compare the hashes of what comes out.

    Inputs are compared first: a run whose data, code or versions have changed is not run again.

    Args:
        folder: The run's.
        notebooks: The notebooks' folder.
        options: How; as many side by side as before by default.
        places: Where data lie now, as for ``plan_again``.
        caller: As for ``plan_again``.
        watch: Told how all notebooks stand.
        fingerprint: As for ``make_plan``.

    Raises:
        RunError: The run cannot be planned again.
    """
    manifest = read_manifest(folder)
    entries = {entry["instance"]: entry for entry in manifest["notebooks"]}
    done = {name: entry for name, entry in entries.items() if entry["state"] == "done"}
    skipped = tuple(sorted(entries.keys() - done.keys()))
    if not done:
        raise RunError(f"nothing in {folder.name} is done, so there is nothing to verify")
    plan = plan_again(manifest, notebooks, caller=caller, places=places, fingerprint=fingerprint)
    causes = [
        *(f"{name}: {path} is not what was recorded" for name in done
          for path in _spoiled(folder / name, done[name]["outputs"])),
        *_changed_inputs(plan, manifest, done),
    ]  # fmt: skip
    if causes:
        return Verdict(folder.name, (), skipped, tuple(dict.fromkeys(causes)))
    plan = replace(
        plan, instances={name: each for name, each in plan.instances.items() if name in done}
    )
    options = options or RunOptions(jobs=manifest["jobs"])
    options = replace(options, cache=False, keep_going=True)
    scratch = Path(tempfile.mkdtemp(prefix="journeylab-verify-"))
    try:
        again = run(plan, options, out=scratch, label="verify", watch=watch)
        causes = [
            cause
            for entry in again.manifest["notebooks"]
            for cause in _differences(folder, again.folder, done[entry["instance"]], entry)
        ]
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    broken = {cause.partition(":")[0] for cause in causes}
    verified = tuple(sorted(done.keys() - broken))
    return Verdict(folder.name, verified, skipped, tuple(causes))


def _spoiled(folder: Path, outputs: Mapping[str, str]) -> list[str]:
    """Files that are no longer those whose hashes the manifest holds."""
    from journeylab.runs.manifest import output_hashes

    now = output_hashes(folder)
    return sorted(path for path in outputs if now.get(path) != outputs[path])


def _changed_inputs(
    plan: Plan, manifest: Mapping[str, Any], done: Mapping[str, dict[str, Any]]
) -> list[str]:
    gone = sorted(done.keys() - plan.instances.keys())
    causes = [f"{name}: the notebooks of now no longer make it" for name in gone]
    causes += changed_environment(manifest, plan.folder.parent)
    keys = KeyMaker(plan.folder.parent)
    for name, entry in done.items():
        if name in gone:
            continue
        instance = plan.instances[name]
        upstream = {
            need: done[need]["outputs"] if need in done else None for need in instance.needs
        }
        key = keys.key(instance, upstream)
        key = replace(key, parts=key.parts | {"environment": entry["key_parts"].get("environment")})
        causes += [f"{name}: {said}" for said in changes(instance, key, manifest, entry)]
        # one cause for all notebooks, so it is said once
        causes += [said for said in [changed_identity(entry)] if said is not None]
    return list(dict.fromkeys(causes))


def _differences(
    before: Path, after: Path, then: Mapping[str, Any], now: Mapping[str, Any]
) -> list[str]:
    name = now["instance"]
    if now["state"] != "done":
        return [f"{name}: {now['state']} this time: {now['error']['message']}"]
    paths = sorted(then["outputs"].keys() | now["outputs"].keys())
    differing = [path for path in paths if then["outputs"].get(path) != now["outputs"].get(path)]
    causes = [f"{name}: {path} differs" for path in differing if path != "results.json"]
    if "results.json" in differing:
        old, new = (
            json.loads((folder / name / "results.json").read_text(encoding="utf-8"))
            for folder in (before, after)
        )
        records = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
        causes.append(f"{name}: other values of {', '.join(records)}")
    return causes
