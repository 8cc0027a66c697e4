"""What a run would do, and why: nothing is started."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from journeylab.errors import RunError
from journeylab.runs.cache import find_finished
from journeylab.runs.folders import read_manifest, run_folders
from journeylab.runs.keys import PART_WORDS, ContentKey, KeyMaker
from journeylab.runs.plan import Instance, Plan

_RUNS_LOOKED_AT = 20


@dataclass(frozen=True, slots=True)
class Forecast:
    """What would become of one notebook.

    Attributes:
        instance: Its folder in the run.
        state: ``run``, ``cached`` or ``blocked``.
        why: In words.
    """

    instance: str
    state: str
    why: str


def preview(plan: Plan, root: Path, *, force: bool = False) -> list[Forecast]:
    """What would run, be taken from the cache, or be blocked, in the order of the plan.

    A notebook is blocked where one it requires failed last time on the very same inputs.

    Args:
        plan: From ``make_plan``.
        root: Of the run folders.
        force: Nothing is taken from the cache.
    """
    keys = KeyMaker(plan.folder.parent)
    before = _before(root)
    forecasts: dict[str, Forecast] = {}
    outputs: dict[str, dict[str, str] | None] = {}
    failing: set[str] = set()
    for name, instance in plan.instances.items():
        forecast = _blocked(instance, failing)
        waits = sorted(needed for needed in instance.needs if needed not in outputs)
        if forecast is None and waits:
            forecast = Forecast(
                name,
                "run",
                f"{', '.join(waits)} runs first; cached after all if that stays the same",
            )
        if forecast is None:
            key = keys.key(instance, outputs)
            finished = find_finished(root, key.digest)
            if finished is not None and not force and instance.cacheable:
                forecast = Forecast(name, "cached", f"as in {finished.run}")
                outputs[name] = finished.entry["outputs"]
            else:
                manifest, entry = before.get(name, ({}, None))
                why = "--force" if force else _why(instance, key, manifest, entry)
                forecast = Forecast(name, "run", why)
                if entry and entry["state"] == "failed" and entry["key"] == key.digest:
                    failing.add(name)
        if forecast.state == "blocked":
            failing.add(name)
        forecasts[name] = forecast
    return list(forecasts.values())


def _before(root: Path) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """The last time each instance ran or was taken: manifest and entry."""
    found: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}
    for folder in reversed(run_folders(root)[-_RUNS_LOOKED_AT:]):
        try:
            manifest = read_manifest(folder)
        except RunError:
            continue
        for entry in manifest["notebooks"]:
            if entry.get("key"):
                found.setdefault(entry["instance"], (manifest, entry))
    return found


def _blocked(instance: Instance, failing: set[str]) -> Forecast | None:
    by = sorted(instance.requires & failing)
    if not by:
        return None
    return Forecast(
        instance.name,
        "blocked",
        f"unless {', '.join(by)} gets through, which failed last time on the same inputs",
    )


def _why(
    instance: Instance, key: ContentKey, manifest: Mapping[str, Any], entry: dict[str, Any] | None
) -> str:
    if instance.live:
        return "a live database can change unseen"
    if instance.writes:
        return f"it is asked to write outside its run ({', '.join(instance.writes)})"
    if entry is None:
        return "never run here"
    changed = changes(instance, key, manifest, entry)
    if changed:
        return f"since {manifest['run']} changed: {'; '.join(changed)}"
    if entry["state"] == "failed":
        return f"failed in {manifest['run']}, on the same inputs"
    return f"what {manifest['run']} made is no longer in the cache, or was changed there"


def changes(
    instance: Instance, key: ContentKey, manifest: Mapping[str, Any], entry: Mapping[str, Any]
) -> list[str]:
    """What is no longer as it was when an instance ran, in words.

    Args:
        instance: As planned now.
        key: Of now.
        manifest: Of the run it is compared with.
        entry: The instance's in that manifest.
    """
    said = []
    for part, words in PART_WORDS.items():
        if entry["key_parts"].get(part) == key.parts[part]:
            continue
        match part:
            case "parameters":
                said += _changed_parameters(entry["parameters"], instance.parameters)
            case "sources":
                before = manifest.get("sources", {})
                named = [name for name, value in key.sources.items() if before.get(name) != value]
                said.append(f"{', '.join(named[:5])}" if named else words)
            case "environment":
                said += changed_environment(manifest, instance.notebook.path.parents[1]) or [words]
            case "data":
                then, now = (str(value or "none")[:12] for value in (
                    entry["data_fingerprint"], instance.data_fingerprint))  # fmt: skip
                said.append(f"the data {entry['data'] or ''} (fingerprint {then} -> {now})")
            case _:
                said.append(words)
    return said


def _changed_parameters(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    names = sorted(before.keys() | now.keys())
    return [
        f"{name} {before.get(name)!r} -> {now.get(name)!r}"
        for name in names
        if before.get(name) != now.get(name)
    ]


def changed_environment(manifest: Mapping[str, Any], project: Path) -> list[str]:
    """Versions that are others than those of a run, in words."""
    import platform

    from journeylab.runs.manifest import installed_versions, lock_hash

    now = installed_versions()
    then: dict[str, str] = manifest["versions"]
    said = [
        f"{name} {then.get(name, 'absent')} -> {now.get(name, 'absent')}"
        for name in sorted(then.keys() | now.keys())
        if then.get(name) != now.get(name)
    ]
    if manifest["python"] != platform.python_version():
        said.append(f"Python {manifest['python']} -> {platform.python_version()}")
    if manifest["lock_sha256"] != lock_hash(project):
        said.append("requirements.lock")
    return said
