"""All runs of a root: which there are, and how each recorded number went from run to run."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from journeylab.errors import RunError
from journeylab.runs.folders import read_manifest, run_folders
from journeylab.runs.summary import flat_numbers

# Parameters and records that say which day a number is of, in the order in which they are believed.
_DAYS = ("rank_on", "as_of", "until", "landmark", "landmarks")
# those beyond which nothing is used; a landmark is looked from, on to the end of the data
_ENDS = ("rank_on", "as_of", "until")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_NUMBERS_PER_NOTEBOOK = 24


def over_runs(root: Path) -> dict[str, Any]:
    """What there is in a root of runs, as JSON keeps it.

    A number is *provisional* while the data of its run were not complete up to its day, by the
    lateness that ``00_data`` recorded for the same data, and *mature* afterwards; without such a
    record its state is unknown. The day of a number is what the parameter ``rank_on``, ``as_of``,
    ``until`` or ``landmarks`` (the last of them) says, else what the notebook recorded under such
    a name, else the last day of the data, else the day of the run.

    Returns:
        ``runs``, newest first: ``run``, ``label``, ``started_at``, ``duration_seconds``,
        ``states`` (how many notebooks are in each); ``trends``: per notebook (with its parameters
        other than days) and number the ``points``, oldest first: ``run``, ``day``, ``value``,
        ``ci_low``, ``ci_high``, ``state``.
    """
    runs: list[dict[str, Any]] = []
    trends: dict[Any, dict[str, Any]] = {}
    manifests = []
    for folder in run_folders(root):
        try:
            manifests.append((folder, read_manifest(folder)))
        except RunError:
            continue
    spans = _spans(manifests)
    for folder, manifest in manifests:
        states: dict[str, int] = {}
        for entry in manifest["notebooks"]:
            state = "cached" if entry.get("cached_from") else entry["state"]
            states[state] = states.get(state, 0) + 1
            if entry["state"] == "done":
                _add_points(trends, folder, manifest, entry, spans)
        runs.append(
            {
                "run": folder.name,
                "label": manifest["label"],
                "started_at": manifest["started_at"],
                "duration_seconds": manifest["duration_seconds"],
                "states": states,
            }
        )
    several = [trend for trend in trends.values() if len(trend["points"]) > 1]
    for trend in several:
        del trend["keys"]
        trend["points"].sort(key=lambda point: (point["day"], point["run"]))
    return {"runs": runs[::-1], "trends": several}


def _spans(manifests: list[tuple[Path, dict[str, Any]]]) -> dict[str, dict[str, str | None]]:
    """Last day and last complete day of data, by fingerprint, as ``00_data`` recorded them."""
    spans: dict[str, dict[str, str | None]] = {}
    for folder, manifest in manifests:
        for entry in manifest["notebooks"]:
            path = folder / entry["instance"] / "tables" / "lateness.parquet"
            if entry["name"] == "data" and entry["data_fingerprint"] and path.is_file():
                spans[entry["data_fingerprint"]] = _span(path)
    return spans


def _span(path: Path) -> dict[str, str | None]:
    """Of the orders where they are dated, else of whatever table is least complete."""
    import pyarrow.parquet as pq

    rows = pq.read_table(path).to_pylist()
    rows = [row for row in rows if row["table"] == "orders"] or rows
    found: dict[str, str | None] = {}
    for name in ("last_day", "last_complete_day"):
        days = [str(row[name])[:10] for row in rows if row.get(name) is not None]
        found[name] = min(days, default=None)
    return found


def _dates(values: Mapping[str, Any]) -> dict[str, str]:
    """The last ISO date under each name of a day, here or one mapping further in."""
    found: dict[str, str] = {}
    for mapping in (values, *(each for each in values.values() if isinstance(each, dict))):
        for name in _DAYS:
            dates = _DATE.findall(mapping[name]) if isinstance(mapping.get(name), str) else []
            if dates:
                found.setdefault(name, max(dates))
    return found


def _add_points(
    trends: dict[Any, Any],
    folder: Path,
    manifest: Mapping[str, Any],
    entry: Mapping[str, Any],
    spans: Mapping[str, dict[str, str | None]],
) -> None:
    path = folder / entry["instance"] / "results.json"
    if not path.exists():
        return
    results = json.loads(path.read_text(encoding="utf-8"))
    span = spans.get(entry["data_fingerprint"] or "", {})
    last = str(span.get("last_day") or manifest["started_at"][:10])
    given = _dates(entry["parameters"]) or _dates(results)
    day = next((given[name] for name in _DAYS if name in given), last)
    end = next((given[name] for name in _ENDS if name in given), max(day, last))
    complete = span.get("last_complete_day")
    state = "unknown" if not complete else "mature" if complete >= end else "provisional"
    settings = {k: v for k, v in entry["parameters"].items() if k not in _DAYS}
    bindings = {k: v for k, v in entry["bindings"].items() if k not in _DAYS}
    numbers = flat_numbers(results)
    for name, number in list(numbers.items())[:_NUMBERS_PER_NOTEBOOK]:
        identity = (entry["name"], json.dumps(settings, sort_keys=True), name)
        trend = trends.setdefault(
            identity,
            {
                "notebook": entry["name"],
                "bindings": bindings,
                "name": name,
                "unit": number.get("unit", ""),
                "points": [],
                "keys": set(),
            },
        )
        # what was taken from the cache was not measured anew
        if entry.get("key") in trend["keys"]:
            continue
        trend["keys"].add(entry.get("key"))
        trend["points"].append(
            {
                "run": folder.name,
                "instance": entry["instance"],
                "day": day,
                "state": state,
                **{key: number.get(key) for key in ("value", "ci_low", "ci_high")},
            }
        )
