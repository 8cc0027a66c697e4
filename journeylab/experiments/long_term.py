"""Long-term effects of a test, as far as quick metrics that were validated can tell them."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from scipy.special import ndtri

from journeylab.experiments.comparison import Comparison
from journeylab.experiments.plan import TestPlan
from journeylab.experiments.surrogates import Surrogate
from journeylab.experiments.verdicts import EXPLORATORY

COLUMNS = (
    "surrogate", "target", "arm", "seen", "effect", "low", "high", "past_tests", "explained",
    "verdict", "reason",
)  # fmt: skip


def long_term_effects(
    plan: TestPlan,
    comparisons: Mapping[tuple[str, str], Comparison],
    surrogates: Mapping[str, Surrogate],
    *,
    exploratory: bool = False,
) -> pd.DataFrame:
    """What the plan's surrogates say of the metrics they stand for.

    The error of the surrogate's own effect, that of the line between the two and what the
    surrogate does not explain are all in the interval, so it is wider than that of the surrogate.

    Args:
        plan: Its ``surrogates`` name which secondary metric stands for which target.
        comparisons: (metric, arm) -> the comparison of this test.
        surrogates: Secondary metric -> what past tests say of it.
        exploratory: Whether the plan was not kept, which the verdict begins with.

    Returns:
        One row per surrogate and arm: ``surrogate, target, arm``; ``seen`` (effect on the
        surrogate), ``effect, low, high`` (of the target), all as shares of the control;
        ``past_tests, explained`` (share of the target's effects that the surrogate's explain);
        ``verdict``; ``reason`` where the surrogate may not be used or was not read, and then no
        effect on the target.
    """
    rows: list[dict[str, Any]] = []
    for name, target in plan.surrogates.items():
        for arm in plan.treatments:
            one, known = comparisons[name, arm], surrogates.get(name)
            row: dict[str, Any] = dict.fromkeys(COLUMNS)
            row |= {"surrogate": name, "target": target, "arm": arm, "reason": ""}
            if known is not None:
                row |= {"past_tests": known.tests, "explained": known.r2}
            if one.reason or one.relative is None:
                row["reason"] = one.reason or one.relative_reason
            elif known is None:
                row["reason"] = f"no past tests show that {name} stands for {target}"
            elif not known.valid:
                row["reason"] = f"{name} may not stand for {target}: {known.reason}"
            if one.relative is not None:
                row["seen"] = one.relative.value
            if not row["reason"] and known is not None and one.relative is not None:
                share = one.relative
                half = (share.ci_high - share.ci_low) / 2
                error = float(half / -ndtri((1 - share.level) / 2))
                found = known.target(share.value, error, 1 - plan.alpha)
                row |= {"effect": found.value, "low": found.ci_low, "high": found.ci_high}
            row["verdict"] = (f"{EXPLORATORY}: " if exploratory else "") + _verdict(plan, row)
            rows.append(row)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _verdict(plan: TestPlan, row: Mapping[str, Any]) -> str:
    if row["reason"]:
        return f"not used: {row['reason']}"
    if row["low"] > 0 or row["high"] < 0:
        return f"{row['target']} is expected to {'rise' if row['low'] > 0 else 'fall'}"
    return f"nothing can be said of {row['target']} yet"
