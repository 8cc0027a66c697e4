"""The registry: every plan and what became of it, in one table beside the runs.

``experiments.jsonl`` in the root of the runs holds one line per event, a plan or a result, in the
order they were written; nothing in it is ever changed.
"""

import json
from collections.abc import Sequence
from datetime import date
from math import isfinite
from pathlib import Path
from typing import Any

import pandas as pd
from scipy.special import ndtri

from journeylab.errors import ContractError
from journeylab.experiments.decision import Decision
from journeylab.experiments.plan import TestPlan, plan_text, read_plan
from journeylab.experiments.readout import Readout

FILE = "experiments.jsonl"
RESULTS = (
    "experiment",
    "day",
    "look",
    "arm",
    "metric",
    "role",
    "n",
    "n_control",
    "relative",
    "relative_error",
    "p_adjusted",
    "verdict",
    "status",
    "action",
    "shipped",
)


def registry_root(text: str) -> str:
    """The folder of the registry that a notebook's parameter names; empty stays empty.

    Args:
        text: Path of a file called ``experiments.jsonl``, there or not there yet.

    Raises:
        ContractError: The file is called otherwise.
    """
    if not text:
        return ""
    if Path(text).name != FILE:
        raise ContractError(f"a registry is a file called {FILE}; got {text!r}")
    return str(Path(text).parent)


def register(plan: TestPlan, root: str | Path) -> TestPlan:
    """Seal a plan in the registry.

    Args:
        plan: Before its first look.
        root: Of the runs.

    Returns:
        The sealed plan; the one that stands there already where it is the same.

    Raises:
        ContractError: Another plan of this experiment is registered.
    """
    for known in plans(root):
        if known.experiment == plan.experiment:
            if known.hash == plan.hash:
                return known
            raise ContractError(
                f"{plan.experiment} is registered with another plan ({known.hash[:12]}): a plan is "
                "not changed after the fact; give the new test a new name"
            )
    document = json.loads(plan_text(plan))
    _append(Path(root), {"kind": "plan", **document})
    return read_plan(plan_text(plan), plan.experiment)


def plans(root: str | Path) -> list[TestPlan]:
    """All registered plans, sealed, in the order they were registered.

    Raises:
        ContractError: A line was changed after it was written.
    """
    return [
        read_plan(json.dumps(line), f"line {number} of {FILE}")
        for number, line in _lines(Path(root))
        if line.get("kind") == "plan"
    ]


def find_plan(experiment: str, root: str | Path) -> TestPlan:
    """The sealed plan of an experiment.

    Raises:
        ContractError: None is registered.
    """
    for plan in plans(root):
        if plan.experiment == experiment:
            return plan
    raise ContractError(f"no plan of {experiment} is registered; a readout would be exploratory")


def registered_plan(experiment: str, root: str | Path) -> TestPlan | None:
    """The sealed plan of an experiment; ``None`` where there is none, or no root is named."""
    known = plans(root) if root and experiment else []
    return next((plan for plan in known if plan.experiment == experiment), None)


def record_result(readout: Readout, decision: Decision, root: str | Path, day: str = "") -> str:
    """Write what a look showed and what was decided; what stands there already is left alone.

    Args:
        readout: Of the look.
        decision: About it.
        root: Of the runs.
        day: When (ISO); empty where the data have no days.

    Returns:
        What was written, in a sentence.
    """
    if day:
        _day(day)
    rows = []
    for row in readout.rows.to_dict("records"):
        if row["reason"]:
            continue
        shipped = decision.action == "ship" and decision.arm == row["arm"]
        found = {name: row.get(name) for name in RESULTS if name in row}
        found |= {
            "experiment": readout.plan.experiment,
            "day": day,
            "look": readout.look,
            "relative_error": _relative_error(readout, str(row["metric"]), str(row["arm"])),
            "action": decision.action,
            "shipped": shipped,
        }
        rows.append({name: _plain(found.get(name)) for name in RESULTS})
    line = {"kind": "result", "experiment": readout.plan.experiment, "rows": rows}
    look = f"look {readout.look}" if readout.look else "a peek"
    word = "row" if len(rows) == 1 else "rows"
    said = f"{len(rows)} {word} of {look} at {readout.plan.experiment}"
    if any(known == line for _, known in _lines(Path(root))):
        return f"{said}: in {FILE} already."
    _append(Path(root), line)
    return f"{said}: written to {FILE}."


def results(root: str | Path) -> pd.DataFrame:
    """All results: one row per look, arm and metric.

    Returns:
        ``experiment, day, look, arm, metric, role, n, n_control``; ``relative`` (effect as a share
        of the control) and its standard error; ``p_adjusted, verdict, status, action, shipped``.
    """
    rows = [
        row
        for _, line in _lines(Path(root))
        if line.get("kind") == "result"
        for row in line["rows"]
    ]
    return pd.DataFrame(rows, columns=list(RESULTS))


def overview(root: str | Path) -> pd.DataFrame:
    """One row per registered plan, with its last result.

    Returns:
        ``experiment, hash, primary, arms, audience, starts, ends, customers, looks_read, action``;
        the last two are 0 and ``planned`` before the first look.
    """
    read = results(root)
    rows = []
    for plan in plans(root):
        own = read[read["experiment"] == plan.experiment]
        rows.append(
            {
                "experiment": plan.experiment,
                "hash": plan.hash[:12],
                "primary": plan.primary.name,
                "arms": ", ".join(plan.arms),
                "audience": plan.audience or "everybody",
                "starts": plan.starts,
                "ends": plan.reads[-1] if plan.reads else "",
                "customers": plan.customers,
                "looks_read": int(own["look"].nunique()) if len(own) else 0,
                "action": str(own["action"].iloc[-1]) if len(own) else "planned",
            }
        )
    columns = "experiment hash primary arms audience starts ends customers looks_read action"
    return pd.DataFrame(rows, columns=columns.split())


def read_dates(root: str | Path, today: str) -> pd.DataFrame:
    """Looks that are still to come: ``day, experiment, look, of, information``, the next first."""
    now = _day(today)
    done = results(root)
    rows = []
    for plan in plans(root):
        own = done[done["experiment"] == plan.experiment]
        if len(own) and own["action"].iloc[-1] != "hold":
            continue
        for look, (day, share) in enumerate(zip(plan.reads, plan.information, strict=False), 1):
            if _day(day) >= now:
                rows.append((day, plan.experiment, look, len(plan.reads), share))
    columns = ["day", "experiment", "look", "of", "information"]
    return pd.DataFrame(rows, columns=columns).sort_values(columns[:2], ignore_index=True)


def collisions(planned: Sequence[TestPlan]) -> pd.DataFrame:
    """Tests that meet in the same customers at the same time.

    Args:
        planned: Plans; those without days are taken to run at any time, those without an audience
            to concern everybody.

    Returns:
        One row per pair that meets: ``one, other, from, to`` (ISO, empty where unknown),
        ``audience`` (``the same`` or ``one within everybody``), ``primary`` (whether both decide
        on the same metric), ``salt`` (whether both have the same: then the arms are tied to each
        other and neither can be read), ``advice``.
    """
    rows = []
    for at, one in enumerate(planned):
        for other in planned[at + 1 :]:
            span = _overlap(one, other)
            apart = one.audience and other.audience and one.audience != other.audience
            if span is None or apart:
                continue
            tied = (one.salt or one.experiment) == (other.salt or other.experiment)
            same = one.primary.name == other.primary.name
            advice = "may run together: the arms are independent; look at the interaction"
            if same:
                advice = "keep apart, or cross them by plan: both move the same metric"
            if tied:
                advice = "change one salt before the start: the arms are the same people"
            rows.append(
                {
                    "one": one.experiment,
                    "other": other.experiment,
                    "from": span[0],
                    "to": span[1],
                    "audience": "the same"
                    if one.audience == other.audience
                    else "one within everybody",
                    "primary": same,
                    "salt": tied,
                    "advice": advice,
                }
            )
    columns = ["one", "other", "from", "to", "audience", "primary", "salt", "advice"]
    return pd.DataFrame(rows, columns=columns)


def _overlap(one: TestPlan, other: TestPlan) -> tuple[str, str] | None:
    """Days on which both run, as ISO dates; empty ends where they are not fixed."""
    begin = max(one.starts, other.starts)
    ends = [plan.reads[-1] for plan in (one, other) if plan.reads]
    end = min(ends) if ends else ""
    return None if begin and end and begin > end else (begin, end)


def _relative_error(readout: Readout, metric: str, arm: str) -> float | None:
    share = readout.comparisons[metric, arm].relative
    if share is None:
        return None
    return float((share.ci_high - share.ci_low) / 2 / -ndtri((1 - share.level) / 2))


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, str | bool):
        return value
    number = float(value)
    if not isfinite(number):
        return None
    return int(number) if number == int(number) and abs(number) < 2**53 else number


def _lines(root: Path) -> list[tuple[int, dict[str, Any]]]:
    path = root / FILE
    if not path.exists():
        return []
    found = []
    for number, text in enumerate(path.read_text("utf-8").splitlines(), 1):
        try:
            found.append((number, dict(json.loads(text))))
        except (ValueError, TypeError) as error:
            raise ContractError(f"line {number} of {FILE} is not readable: {error}") from error
    return found


def _append(root: Path, line: dict[str, Any]) -> None:
    root.mkdir(parents=True, exist_ok=True)
    path = root / FILE
    before = path.read_text("utf-8") if path.exists() else ""
    beside = path.with_suffix(".partial")
    beside.write_text(before + json.dumps(line, ensure_ascii=False, sort_keys=True) + "\n", "utf-8")
    beside.replace(path)


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise ContractError(f"{text!r} is no ISO date") from error
