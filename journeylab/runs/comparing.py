"""Two runs side by side: what went in, every number with its change, tables by key, figures."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from journeylab.runs.folders import read_manifest
from journeylab.runs.summary import flat_numbers

if TYPE_CHECKING:
    import pandas as pd

_CHANGES_SHOWN = 20
_FACTS = ("python", "journeylab", "lock_sha256", "seed")


def compare_runs(before: Path, after: Path) -> dict[str, Any]:
    """What differs between two runs, as JSON keeps it.

    Args:
        before: Folder of the earlier run.
        after: Folder of the later one.

    Returns:
        ``before`` and ``after`` (names of the runs); ``versions`` (what, before, after);
        ``notebooks``, one per instance of either run, with ``state``, ``parameters``, ``data``,
        ``numbers``, ``texts``, ``tables`` and ``figures``; ``reading``: the gist in sentences.
    """
    old, new = read_manifest(before), read_manifest(after)
    entries = [{e["instance"]: e for e in manifest["notebooks"]} for manifest in (old, new)]
    notebooks = [
        _notebook(name, before, after, entries[0].get(name), entries[1].get(name))
        for name in sorted(entries[0].keys() | entries[1].keys())
    ]
    versions = _changed(
        {**old["versions"], **{fact: old.get(fact) for fact in _FACTS}},
        {**new["versions"], **{fact: new.get(fact) for fact in _FACTS}},
    )
    versions += [
        {"name": name, "before": "as it was", "after": "changed"}
        for name in sorted(old.get("sources", {}).keys() & new.get("sources", {}).keys())
        if old["sources"][name] != new["sources"][name]
    ]
    difference = {
        "before": before.name,
        "after": after.name,
        "versions": versions,
        "notebooks": notebooks,
    }
    return difference | {"reading": _reading(difference)}


def _changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {"name": name, "before": before.get(name), "after": after.get(name)}
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]


def _notebook(
    name: str,
    before: Path,
    after: Path,
    old: Mapping[str, Any] | None,
    new: Mapping[str, Any] | None,
) -> dict[str, Any]:
    known = new or old or {}
    found: dict[str, Any] = {
        "instance": name,
        "title": known["title"],
        "state": {"before": old and old["state"], "after": new and new["state"]},
        "parameters": [],
        "data": [],
        "numbers": [],
        "texts": [],
        "tables": [],
        "figures": [],
    }
    if old is None or new is None:
        return found
    first, second = (_results(run / name) for run in (before, after))
    facts = ("data", "data_fingerprint")
    return found | {
        "parameters": _changed(old["parameters"], new["parameters"]),
        "data": _changed({f: old[f] for f in facts}, {f: new[f] for f in facts}),
        "numbers": compare_numbers(first, second),
        "texts": _changed(_texts(first), _texts(second)),
        "tables": [
            {"name": key, **_files(before / name, after / name, first[key], second[key])}
            for key in sorted(first.keys() & second.keys())
            if _is(first[key], "table") and _is(second[key], "table")
        ],
        "figures": [
            {
                "name": key,
                "alt": second[key]["alt"],
                "before": first[key]["figure"],
                "after": second[key]["figure"],
                "same": _bytes(before / name, first[key]["figure"])
                == _bytes(after / name, second[key]["figure"]),
            }
            for key in sorted(first.keys() & second.keys())
            if _is(first[key], "figure") and _is(second[key], "figure")
        ],
    }


def _bytes(folder: Path, inner: str) -> bytes:
    path = folder / inner
    return path.read_bytes() if path.is_file() else b""


def _is(entry: Any, kind: str) -> bool:
    return isinstance(entry, dict) and kind in entry


def _results(folder: Path) -> dict[str, Any]:
    path = folder / "results.json"
    results: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.exists() else {}
    return results


def _texts(results: Mapping[str, Any]) -> dict[str, Any]:
    return {name: entry for name, entry in results.items() if isinstance(entry, str | bool | list)}


def compare_numbers(before: dict[str, Any], after: dict[str, Any]) -> list[dict[str, Any]]:
    """Every number that either run recorded, with its change.

    Returns:
        Per number ``name``, ``unit``, ``before``, ``after``, ``change`` (after minus before; None
        where one is missing), ``ci_low`` and ``ci_high`` (the interval before), and ``outside``:
        whether the number has left that interval, None without one.
    """
    first, second = flat_numbers(before), flat_numbers(after)
    rows = []
    for name in sorted(first.keys() | second.keys()):
        old, new = first.get(name, {}), second.get(name, {})
        low, high = old.get("ci_low"), old.get("ci_high")
        values = (old.get("value"), new.get("value"))
        known = None not in values
        outside = None if low is None or not known else not low <= new["value"] <= high
        rows.append(
            {
                "name": name,
                "unit": new.get("unit") or old.get("unit") or "",
                "before": values[0],
                "after": values[1],
                "change": new["value"] - old["value"] if known else None,
                "ci_low": low,
                "ci_high": high,
                "outside": outside,
            }
        )
    return rows


def _files(
    before: Path, after: Path, old: Mapping[str, Any], new: Mapping[str, Any]
) -> dict[str, Any]:
    import pandas as pd

    paths = (before / old["table"], after / new["table"])
    if not all(path.is_file() for path in paths):
        return {"missing": True, "same": False, "changes": []}
    if paths[0].read_bytes() == paths[1].read_bytes():
        return {"same": True, "key": [], "rows": old["rows"], "changes": []}
    return compare_tables(*(pd.read_parquet(path) for path in paths))


def compare_tables(before: "pd.DataFrame", after: "pd.DataFrame") -> dict[str, Any]:
    """Two tables, row by row by their key.

    The key is the shortest run of leading columns that are no fractions and name each row once, in
    both tables; where there is none, rows are taken in their order.

    Returns:
        ``same``; ``key``; ``rows`` in the later table; ``rows_added``, ``rows_removed``,
        ``rows_changed``; ``columns_added``, ``columns_removed``; ``largest``: per column of numbers
        the largest change; ``changes``: the first 20, with key, column, before and after.
    """
    import pandas as pd

    key = _key(before, after)
    shared = [column for column in before.columns if column in after.columns]
    one, two = (
        frame.set_index(key) if key else frame.reset_index(drop=True) for frame in (before, after)
    )
    common = one.index.intersection(two.index, sort=False)
    left, right = one.loc[common], two.loc[common]
    changes: list[dict[str, Any]] = []
    changed = pd.Series(False, index=range(len(common)))
    largest: dict[str, float] = {}
    for column in (name for name in shared if name not in key):
        a, b = left[column].reset_index(drop=True), right[column].reset_index(drop=True)
        differ = ~((a == b) | (a.isna() & b.isna())).fillna(False).astype(bool)
        changed |= differ
        if pd.api.types.is_numeric_dtype(a) and pd.api.types.is_numeric_dtype(b):
            gap = (b.astype(float) - a.astype(float))[differ].dropna()
            if len(gap):
                largest[column] = float(gap.loc[gap.abs().idxmax()])
        for place in differ[differ].index[: _CHANGES_SHOWN - len(changes)]:
            name = common[place] if isinstance(common[place], tuple) else (common[place],)
            changes.append(
                {
                    "key": [_plain(part) for part in name],
                    "column": column,
                    "before": _plain(a[place]),
                    "after": _plain(b[place]),
                }
            )
    gone, come = len(one) - len(common), len(two) - len(common)
    columns = (sorted(set(after.columns) - set(shared)), sorted(set(before.columns) - set(shared)))
    count = int(changed.sum())
    return {
        "same": not (gone or come or count or columns[0] or columns[1]),
        "key": key,
        "rows": len(after),
        "rows_added": come,
        "rows_removed": gone,
        "rows_changed": count,
        "columns_added": columns[0],
        "columns_removed": columns[1],
        "largest": largest,
        "changes": changes,
    }


def _key(before: "pd.DataFrame", after: "pd.DataFrame") -> list[str]:
    import pandas as pd

    key: list[str] = []
    for column in before.columns:
        if column not in after.columns or pd.api.types.is_float_dtype(before[column]):
            break
        key.append(column)
        try:
            if not (before.duplicated(key).any() or after.duplicated(key).any()):
                return key
        except TypeError:
            break
    return []


def _plain(value: Any) -> Any:
    """A cell as JSON keeps it."""
    if hasattr(value, "item"):
        value = value.item()
    if value is None or value != value:
        return None
    return value if isinstance(value, str | int | float | bool) else str(value)


def _reading(difference: Mapping[str, Any]) -> list[str]:
    """The gist, a sentence each."""
    said = []
    if difference["versions"]:
        names = [str(row["name"]) for row in difference["versions"]]
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        said.append(f"Versions that differ: {', '.join(names[:5])}{more}.")
    for notebook in difference["notebooks"]:
        name, state = notebook["instance"], notebook["state"]
        if None in state.values():
            where = "before" if state["after"] is None else "after"
            said.append(f"{name} is only in the run {difference[where]}.")
            continue
        parts = []
        for kind in ("parameters", "data"):
            if notebook[kind]:
                parts.append(f"other {kind} ({', '.join(r['name'] for r in notebook[kind])})")
        numbers = notebook["numbers"]
        moved = [row for row in numbers if row["before"] != row["after"]]
        outside = [row["name"] for row in numbers if row["outside"]]
        if moved:
            parts.append(f"{len(moved)} of {len(numbers)} numbers changed")
        if outside:
            parts.append(f"outside of their interval: {', '.join(outside[:5])}")
        for kind in ("tables", "figures"):
            if others := sum(not row["same"] for row in notebook[kind]):
                parts.append(f"{others} of {len(notebook[kind])} {kind} differ")
        said.append(f"{name}: {'; '.join(parts) if parts else 'the same'}.")
    return said
