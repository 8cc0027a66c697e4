"""Views: a readout in tables narrow enough to read, every one of them marked where it must be."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import ndtri

from journeylab.estimate import Estimate, Moments
from journeylab.experiments.checks import Health
from journeylab.experiments.comparison import compare
from journeylab.experiments.decision import Decision
from journeylab.experiments.findings import raw_beside
from journeylab.experiments.multiplicity import chance_best
from journeylab.experiments.past import PastTests
from journeylab.experiments.programme import flat_and_shrunken
from journeylab.experiments.readout import Readout

POINTS = "percentage points"
_READ_AS = {"share": POINTS, "of the control": "% of the control"}
_CHANGED = {"effect": "change", "low": "change_low", "high": "change_high"}
_ADJUSTED = ("adjusted", "adjusted_low", "adjusted_high")
_SHARES = (
    "change", "chance_to_win", "no_practical_difference", "variance_left", "share", "risk", "seen",
    "explained", "best",
)  # fmt: skip
_LEVELS = ("mean", "mean_control", "effect", "low", "high")
_BOUNDS = (
    "effect", "sequential_low", "sequential_high", "anytime_low", "anytime_high", "margin",
)  # fmt: skip


def readout_views(found: Readout, moments: Moments | None = None) -> dict[str, pd.DataFrame]:
    """The rows of a readout in a few tables, the verdicts first.

    Args:
        found: The readout.
        moments: It was made from; given, several treatments get ``best_arm``.

    Returns:
        ``readout`` (``change`` as a share of the control with the interval of a single look, and
        the verdict), ``levels`` (means, and the difference with the interval of a single look),
        ``bounds`` (the difference over the planned looks and at any time, and the margin of a
        guardrail), ``p_values``, ``beliefs``; where a metric is adjusted ``raw`` (the plain
        difference beside the adjusted one). What is in the unit of a share is in per cent, its
        differences in percentage points. The first column's name says EXPLORATORY where the plan
        was not kept; the arm is named where there are several.
    """
    rows = found.rows
    key = ["metric", "arm"] if len(found.plan.treatments) > 1 else ["metric"]
    change = {"relative": "change", "relative_low": "change_low", "relative_high": "change_high"}
    verdicts = [str(text).removeprefix(found.mark) for text in rows["verdict"]]
    first = rows[[*key, "role", *change]].rename(columns=change).assign(verdict=verdicts)
    for column in change.values():
        first[column] = pd.to_numeric(first[column])
    shown = in_percent(rows, [*_LEVELS, *_BOUNDS, "expected_loss"])
    # A loss of a ten-thousandth of the effect is none that anybody weighs.
    tiny = shown["expected_loss"].lt(1e-4 * shown["effect"].abs())
    shown["expected_loss"] = shown["expected_loss"].mask(tiny, 0.0)
    beliefs = shown[[*key, "chance_to_win", "expected_loss", "rope", "unit"]]
    views = {
        "readout": first,
        "levels": shown[[*key, "mean_control", "mean", "effect", "low", "high", "unit"]],
        "bounds": shown[[*key, *_BOUNDS, "unit"]],
        "p_values": shown[[*key, "n_control", "n", "p", "p_adjusted", "anytime_p"]],
        "beliefs": beliefs.rename(columns={"rope": "no_practical_difference"}),
    }
    beside = in_percent(raw_beside(found), ["raw", "raw_low", "raw_high", *_ADJUSTED])
    beside = beside[beside["adjustment"] != "none"].drop(columns=["adjustment", "unit"])
    if len(beside):
        dropped = [] if "arm" in key else ["arm"]
        views["raw"] = beside.drop(columns=dropped).reset_index(drop=True)
    shown_views = {name: marked(found, view) for name, view in views.items()}
    best = best_arm(found, moments) if moments is not None else ""
    return shown_views if isinstance(best, str) else shown_views | {"best_arm": best}


def shares_in(view: pd.DataFrame) -> dict[str, str]:
    """Which columns of a view are shares through and through, for ``record(units=...)``."""
    return {name: "share" for name in _SHARES if name in view}


def health_views(found: Readout, health: Health) -> dict[str, pd.DataFrame | dict[str, Any] | str]:
    """What the checks found, table by table; words where there is nothing to show.

    Returns:
        ``sample_ratio``, ``left_out``, ``balance``, ``missing``.
    """
    ratio = {
        "p": health.ratio.p if health.ratio else None,
        "p at any time": health.anytime_p,
        "gate": found.plan.srm_below,
        "stops": "yes" if health.stop else "no",
    }
    missing = health.missing[health.missing["missing"] > 0].reset_index(drop=True)
    tables = {
        "left_out": (health.left_out, "Nobody was left out, and every metric has every value."),
        "balance": (health.balance, "No metric was measured before the test."),
        "missing": (missing, "Every customer has a value of every metric."),
    }
    views: dict[str, pd.DataFrame | dict[str, Any] | str] = {
        name: marked(found, table) if len(table) else words
        for name, (table, words) in tables.items()
    }
    return {"sample_ratio": {k: v for k, v in ratio.items() if v is not None}} | views


def variance_view(found: Readout, saved: pd.DataFrame) -> pd.DataFrame:
    """What ``variance_reduction`` found, in the metrics' units."""
    units = {metric.name: metric.unit for metric in found.plan.metrics}
    shown = saved.assign(unit=[units.get(name, "") for name in saved["metric"]])
    return marked(found, in_percent(shown, ["effect", "ci_low", "ci_high"]))


def past_views(found: Readout, past: PastTests | None, arm: str) -> dict[str, pd.DataFrame]:
    """What past tests add to a readout; empty without any.

    Args:
        found: The readout.
        past: From ``past_tests``.
        arm: The arm that is decided about.

    Returns:
        ``long_term`` (where the plan names surrogates) and ``belief_with_past_tests``: the
        primary metric's relative effect as it stands and shrunken.
    """
    views = {}
    if found.plan.surrogates:
        views["long_term"] = marked(found, found.long_term.rename(columns=_CHANGED))
    name = found.plan.primary.name
    share = found.comparisons[name, arm].relative
    if past is not None and share is not None and name in past.priors:
        error = (share.ci_high - share.ci_low) / 2 / float(-ndtri((1 - share.level) / 2))
        both = flat_and_shrunken(share.value, error, past.priors[name])
        views["belief_with_past_tests"] = marked(found, both.rename(columns=_CHANGED))
    return views


def arms_view(found: Readout, verdict: Decision) -> pd.DataFrame:
    """Gain, risk and guardrails of each arm; a gain in a share is in percentage points."""
    table = verdict.table.drop(columns="effect")
    if verdict.gain is not None and verdict.gain.unit == "share":
        for column in ("gain", "low", "high"):
            table[column] = 100 * pd.to_numeric(table[column])
        table.insert(4, "unit", POINTS)
    table["risk"] = pd.to_numeric(table["risk"]).round(4)
    table["verdict"] = [str(text).removeprefix(found.mark) for text in table["verdict"]]
    return marked(found, table)


def marked(found: Readout, frame: pd.DataFrame) -> pd.DataFrame:
    """A table of results whose first column says EXPLORATORY where the plan was not kept.

    Args:
        found: The readout it belongs to.
        frame: With one column or more; not changed. A column ``reason`` that is empty is dropped.
    """
    if "reason" in frame and not frame["reason"].astype(bool).any():
        frame = frame.drop(columns="reason")
    first = str(frame.columns[0])
    return frame.rename(columns={first: f"{found.mark}{first}"})


def marked_estimate(found: Readout, estimate: Estimate) -> Estimate:
    """A key number that says EXPLORATORY behind its unit where the plan was not kept.

    Args:
        found: The readout it belongs to.
        estimate: In its own unit, or brought into another by ``in_points``.
    """
    word = found.mark.strip().rstrip(":")
    if not word:
        return estimate
    unit = f"{estimate.unit}, {word}" if estimate.unit else word
    return Estimate(estimate.value, estimate.ci_low, estimate.ci_high, unit, estimate.level)


def best_arm(found: Readout, moments: Moments) -> pd.DataFrame | str:
    """Chance of each arm, the control among them, to be the best on the primary metric.

    Args:
        found: The readout.
        moments: It was made from. What two arms' difference from the control share is the
            control's own error; their difference from each other tells how much that is.

    Returns:
        ``arm, best`` (0-1, adding up to 1 where no other arm can be read), the likeliest first;
        words where there is one treatment, a broken split, or an arm without a reading.
    """
    plan, name = found.plan, found.plan.primary.name
    arms = plan.treatments
    if len(arms) < 2:
        return "One arm beside the control: its chance to win says the same."
    if found.broken_ratio:
        return "Not to be read: the split is broken."
    errors, effects = [], []
    for arm in arms:
        one = found.comparisons[name, arm]
        if one.absolute is None or not one.standard_error:
            return f"{arm} cannot be read: {one.reason or 'it has no error'}."
        effects.append(one.absolute.value)
        errors.append(one.standard_error**2)
    shared = []
    for at, first in enumerate(arms):
        for other in range(at + 1, len(arms)):
            between = compare(moments, name, arms[other], first).standard_error
            if not between:
                return f"{first} and {arms[other]} cannot be compared."
            shared.append((errors[at] + errors[other] - between**2) / 2)
    # Covariates are fitted pair by pair, so the shares of the error differ a little.
    control = float(np.clip(np.mean(shared), 0.05 * min(errors), 0.95 * min(errors)))
    sign = -1.0 if plan.primary.direction == "down" else 1.0
    chances = chance_best(
        [0.0, *(sign * effect for effect in effects)],
        np.sqrt([control, *(error - control for error in errors)]),
    )
    frame = pd.DataFrame({"arm": [plan.control, *arms], "best": chances})
    return marked(found, frame.sort_values("best", ascending=False, ignore_index=True))


def in_percent(frame: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Numbers of metrics side by side, shares among them in per cent.

    A share of .0068 beside an amount of 1.24 would be rounded away, and no unit of the column
    serves both.

    Args:
        frame: With ``unit`` in each row; not changed.
        columns: To be brought into the rows' units; those that are not there are passed over.

    Returns:
        The frame with rows in the unit ``share`` in ``%`` (differences: percentage points).
    """
    share = (frame["unit"] == "share").to_numpy()
    found = frame.assign(unit=frame["unit"].mask(share, "%"))
    for column in dict.fromkeys(columns):
        if column in frame:
            found[column] = pd.to_numeric(frame[column]) * np.where(share, 100.0, 1.0)
    return found


def in_points(difference: Estimate) -> Estimate:
    """A difference of shares in percentage points, one of the control in per cent of it."""
    if difference.unit not in _READ_AS:
        return difference
    value, low, high = (
        100 * end for end in (difference.value, difference.ci_low, difference.ci_high)
    )
    return Estimate(value, low, high, _READ_AS[difference.unit], difference.level)


def decision_record(found: Readout, verdict: Decision) -> Mapping[str, str]:
    """What is to be kept of a decision: of which test, by which plan, at which look, and why."""
    plan, looks = found.plan, len(found.plan.information)
    seal = "sealed" if plan.sealed else "not sealed before the test"
    risk = "cannot be read"
    if verdict.risk is not None:
        risk = f"{100 * verdict.risk:.1f} %" if verdict.risk >= 0.001 else "below 0.1 %"
    return {
        "experiment": plan.experiment,
        "plan": f"{plan.hash[:16]}, {seal}",
        "look": f"{found.look} of {looks}" if found.look else "a peek that was not planned",
        "status": found.status,
        "action": {"ship": f"ship {verdict.arm}", "hold": "hold", "stop": "keep the control"}[
            verdict.action
        ],
        "why": verdict.why,
        "chance that shipping loses": risk,
        "what would change it": "; ".join(verdict.changes) or "nothing named",
    }
