"""A page over all runs: which there are, and how the recorded numbers went."""

from pathlib import Path
from typing import Any

from journeylab.report.numbers import number, words
from journeylab.report.site import day, moment, seconds, write

_WIDTH, _HEIGHT, _MARGIN = 220, 48, 6


def write_overview(root: Path, overview: dict[str, Any]) -> Path:
    """Write ``index.html`` over the runs of a root.

    Args:
        root: Of the run folders.
        overview: From ``runs.overview.over_runs``.

    Returns:
        Path of the page.
    """
    runs = [
        {
            "name": run["run"],
            "label": run["label"],
            "started": moment(run["started_at"]),
            "took": seconds(run["duration_seconds"]),
            "states": ", ".join(
                f"{count} {state}" for state, count in sorted(run["states"].items())
            ),
            "bad": bool({"failed", "blocked"} & run["states"].keys()),
        }
        for run in overview["runs"]
    ]
    trends: dict[str, list[dict[str, Any]]] = {}
    for trend in overview["trends"]:
        bound = ", ".join(f"{name} {value}" for name, value in trend["bindings"].items())
        heading = words(trend["notebook"]) + (f" ({bound})" if bound else "")
        trends.setdefault(heading, []).append(_trend(trend))
    values = {
        "language": "en",
        "title": "All runs",
        "runs": runs,
        "trends": trends,
        "provisional": any(t["provisional"] for group in trends.values() for t in group),
    }
    return write("overview.html.j2", root / "index.html", values)


def _trend(trend: dict[str, Any]) -> dict[str, Any]:
    points = trend["points"]
    last = points[-1]
    interval = ""
    if last["ci_low"] is not None:
        interval = f"{number(last['ci_low'])} to {number(last['ci_high'])}"
    return {
        "name": words(trend["name"].replace(".", ", ")),
        "unit": trend["unit"],
        "points": _places([point["value"] for point in points], points),
        "first": day(points[0]["day"]),
        "day": day(last["day"]),
        "count": len(points),
        "value": number(last["value"]),
        "interval": interval,
        "run": last["run"],
        "state": "" if last["state"] == "unknown" else last["state"],
        "provisional": sum(point["state"] == "provisional" for point in points),
        "width": _WIDTH,
        "height": _HEIGHT,
    }


def _places(values: list[float], points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Where each value stands on the drawing, and whether it is provisional."""
    low, high = min(values), max(values)
    if high == low:
        low, high = low - 1.0, high + 1.0
    span = high - low
    step = (_WIDTH - 2 * _MARGIN) / max(len(values) - 1, 1)
    return [
        {
            "x": round(_MARGIN + at * step, 1),
            "y": round(_HEIGHT - _MARGIN - (value - low) / span * (_HEIGHT - 2 * _MARGIN), 1),
            "provisional": point["state"] == "provisional",
        }
        for at, (value, point) in enumerate(zip(values, points, strict=True))
    ]
