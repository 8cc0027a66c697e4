"""Verdicts: what a row of the readout says in words."""

from collections.abc import Mapping
from typing import Any

from journeylab.estimate import Metric
from journeylab.experiments.boundaries import Boundaries
from journeylab.experiments.plan import TestPlan

EXPLORATORY = "EXPLORATORY"


def verdict(
    plan: TestPlan,
    row: Mapping[str, Any],
    look: int,
    boundaries: Boundaries | None,
    exploratory: bool,
) -> str:
    """A row of the readout in words.

    Args:
        plan: Its plan.
        row: Columns of ``Readout.rows``.
        look: Which look, 0 for one that was not planned.
        boundaries: Of that look; ``None`` where it was not planned.
        exploratory: Whether the plan was not kept, which the words begin with.
    """
    begin = f"{EXPLORATORY}: " if exploratory else ""
    if row["reason"]:
        return f"{begin}no reading: {row['reason']}"
    metric = next(m for m in plan.metrics if m.name == row["metric"])
    last = look == len(plan.information)
    if row["role"] == "guardrail":
        return begin + _guardrail_verdict(plan, metric, row, last)
    good = (row["effect"] > 0) == (metric.direction == "up")
    if row["role"] == "secondary":
        if row["p_adjusted"] is not None and row["p_adjusted"] <= plan.alpha:
            return f"{begin}{'better' if good else 'worse'} (explains, does not decide)"
        return f"{begin}no difference shown"
    if boundaries is None:
        shown = row["anytime_p"] is not None and row["anytime_p"] <= plan.alpha
        return f"{begin}{'better' if good else 'worse'} at any time" if shown else f"{begin}open"
    if row["p_adjusted"] is not None and row["p_adjusted"] <= plan.alpha:
        if plan.decision_rule == "non_inferiority":
            return f"{begin}not worse by more than the margin"
        return begin + ("better" if good else "worse")
    if not last:
        return f"{begin}open: go on to look {look + 1} of {len(plan.information)}"
    return f"{begin}no difference shown"


def _guardrail_verdict(plan: TestPlan, metric: Metric, row: Mapping[str, Any], last: bool) -> str:
    up = metric.direction == "up"
    margin = row["margin"] or 0.0
    effect = row["effect"] if up else -row["effect"]
    # Passed at the last look by the fixed test; before it, by what is valid at any time.
    p = row["p_adjusted"] if last else row["anytime_p"]
    error = (row["high"] - row["low"]) / 2
    if p is not None and p <= plan.alpha:
        if effect + error < 0:
            return "passes: worse, but not by more than the margin"
        return "passes: not worse by more than the margin"
    if effect + error < 0 and effect < -margin:
        return "alarm: worse by more than the margin" if last else "alarm: seems worse"
    if last:
        return "not passed: may be worse by more than the margin"
    return "open: neither passed nor alarmed"
