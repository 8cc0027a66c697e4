"""The readout of a test: every metric of every arm, read as the plan said it would be."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf, isfinite
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy.special import ndtr, ndtri, stdtrit

from journeylab.errors import ContractError, JourneyLabError
from journeylab.estimate import Metric, Moments, SampleRatio, sample_ratio
from journeylab.experiments.boundaries import Boundaries, repeated_p, spending_boundaries
from journeylab.experiments.comparison import Alternative, Comparison, compare
from journeylab.experiments.confidence_sequences import Side, always_valid
from journeylab.experiments.long_term import long_term_effects
from journeylab.experiments.multiplicity import adjust, dunnett, dunnett_critical
from journeylab.experiments.plan import TestPlan
from journeylab.experiments.posterior import Belief, normal_posterior
from journeylab.experiments.surrogates import Surrogate
from journeylab.experiments.verdicts import EXPLORATORY, verdict

CONFIRMATORY = "confirmatory"
COLUMNS = (
    "metric",
    "role",
    "arm",
    "n",
    "n_control",
    "mean",
    "mean_control",
    "unit",
    "effect",
    "low",
    "high",
    "relative",
    "relative_low",
    "relative_high",
    "p",
    "p_adjusted",
    "sequential_low",
    "sequential_high",
    "anytime_low",
    "anytime_high",
    "anytime_p",
    "chance_to_win",
    "expected_loss",
    "rope",
    "variance_left",
    "margin",
    "verdict",
    "reason",
    "status",
)
_MOST = 37.0


@dataclass(frozen=True, slots=True, eq=False)
class Readout:
    """What a look at a test shows.

    Attributes:
        plan: The plan it was read by.
        look: Which look, from 1; 0 for one that was not planned.
        information: Share of the planned information at the looks so far.
        breaches: Why it is exploratory; empty where the plan was kept.
        srm: Test of the sample ratio; ``None`` where fewer than two arms had anybody.
        boundaries: Of one comparison on the primary metric, at the looks so far; ``None`` for a
            look that was not planned.
        comparisons: (metric, arm) -> the comparison behind its row.
        rows: One row per metric and arm, the primary first: ``metric, role, arm, n, n_control,
            mean, mean_control, unit``; ``effect, low, high`` (absolute) and ``relative`` with its
            ends (share of the control): fixed intervals, as if this were the only look;
            ``p``; ``p_adjusted`` for looks and arms (primary), for the family (secondary), as it
            is (guardrails); ``sequential_low, sequential_high``: valid over the planned looks;
            ``anytime_low, anytime_high, anytime_p``: valid at any time, of guardrails one bound
            only and its test against the margin; ``chance_to_win``;
            ``expected_loss`` of shipping, in the metric's unit; ``rope``: chance of no practical
            difference; ``variance_left`` by adjustment; ``margin`` of a guardrail, in its unit;
            ``verdict`` in words; ``reason`` where there is nothing to read (then the numbers are
            missing); ``status``.
        doubts: What would make a reader doubt rows, each with the row's metric and arm.
        priors: Metric -> belief of its relative effect before the test, where there was one.
        long_term: What surrogates say of the metrics they stand for, one row per surrogate and
            arm, as ``long_term_effects`` gives it; empty where the plan names none.
    """

    plan: TestPlan
    look: int
    information: tuple[float, ...]
    breaches: tuple[str, ...]
    srm: SampleRatio | None
    boundaries: Boundaries | None
    comparisons: Mapping[tuple[str, str], Comparison]
    rows: pd.DataFrame
    doubts: tuple[str, ...] = ()
    priors: Mapping[str, Belief] = field(default_factory=dict)
    long_term: pd.DataFrame = field(default_factory=pd.DataFrame)

    @property
    def status(self) -> str:
        """``confirmatory`` or ``EXPLORATORY``."""
        return EXPLORATORY if self.breaches else CONFIRMATORY

    @property
    def mark(self) -> str:
        """What titles of tables and figures begin with: empty where the plan was kept."""
        return f"{EXPLORATORY}: " if self.breaches else ""

    @property
    def broken_ratio(self) -> bool:
        """Whether the arms' counts stop the readout."""
        return self.srm is not None and self.srm.p < self.plan.srm_below

    @property
    def last(self) -> bool:
        """Whether this is the last planned look."""
        return self.look == len(self.plan.information)

    def plan_metric(self, name: str) -> Metric:
        """The metric of the plan called ``name``."""
        return next(metric for metric in self.plan.metrics if metric.name == name)

    def row(self, metric: str, arm: str) -> pd.Series:
        """One row.

        Raises:
            ContractError: There is none.
        """
        found = self.rows[(self.rows["metric"] == metric) & (self.rows["arm"] == arm)]
        if found.empty:
            raise ContractError(f"there is no row of {metric} for {arm}")
        return found.iloc[0]


def readout(
    plan: TestPlan,
    moments: Moments,
    look: int,
    *,
    information: Sequence[float] | None = None,
    priors: Mapping[str, Belief] | None = None,
    surrogates: Mapping[str, Surrogate] | None = None,
    breach: Literal["mark", "refuse"] = "mark",
) -> Readout:
    """Read a test as planned.

    Args:
        plan: As sealed by ``save_plan`` or ``load_plan``.
        moments: Of the plan's metrics over customers with closed windows; by cluster where
            clusters were randomised.
        look: Which of the planned looks, from 1; 0 for a peek between them, which is exploratory
            and rests on confidence sequences alone.
        information: Shares of the planned information at the looks so far, this one last, where
            they differ from the plan; by default the plan's, and for this look the customers found
            over the customers planned.
        priors: Metric -> what past tests say of its relative effect (share of the control); flat
            for the others.
        surrogates: Secondary metric -> how it stands for the metric that the plan says, from
            ``validate_surrogate`` on past tests; those that are missing or not valid give a
            reason instead of an effect.
        breach: ``mark`` the readout as exploratory where the plan was not kept, or ``refuse`` it.

    Returns:
        The readout. Data that allow no reading of one metric give a reason in its row.

    Raises:
        ContractError: ``look`` is none of the plan's; or under ``refuse`` the plan was not kept.
    """
    looks = len(plan.information)
    if not 0 <= look <= looks:
        raise ContractError(f"the plan has looks 1 to {looks}; got {look} (0 is a peek)")
    srm = _ratio(plan, moments)
    breaches = _breaches(plan, moments, look, srm)
    if breaches and breach == "refuse":
        raise ContractError(f"{plan.experiment} is not read: {'; '.join(breaches)}")
    times = _times(plan, moments, look, information)
    boundaries = _boundaries(plan, times, look)
    rows: list[dict[str, Any]] = []
    found: dict[tuple[str, str], Comparison] = {}
    for metric in plan.metrics:
        for arm in plan.treatments:
            comparison = _compared(plan, moments, metric, arm)
            found[metric.name, arm] = comparison
            prior = (priors or {}).get(metric.name)
            rows.append(_row(plan, metric, arm, comparison, prior))
    _add_primary(plan, found, rows, boundaries, times, look)
    _add_secondary(plan, rows)
    for one in rows:
        one["status"] = EXPLORATORY if breaches else CONFIRMATORY
        one["verdict"] = verdict(plan, one, look, boundaries, bool(breaches))
    doubts = tuple(
        f"{name}, {arm}: {doubt}" for (name, arm), one in found.items() for doubt in one.doubts
    )
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    later = long_term_effects(plan, found, surrogates or {}, exploratory=bool(breaches))
    return Readout(
        plan,
        look,
        times,
        tuple(breaches),
        srm,
        boundaries,
        found,
        frame,
        doubts,
        priors or {},
        later,
    )


def _ratio(plan: TestPlan, moments: Moments) -> SampleRatio | None:
    counts = dict.fromkeys(plan.arms, 0)
    if plan.cluster and "cluster" in moments.keys:
        pairs = moments.cells[["variant", "cluster"]].drop_duplicates()
        found = {str(arm): int(n) for arm, n in pairs["variant"].value_counts().items()}
    else:
        found = moments.counts()
    counts |= {arm: int(found.get(arm, 0)) for arm in plan.arms}
    if not sum(counts.values()):
        return None
    return sample_ratio(counts, dict(plan.split))


def _breaches(plan: TestPlan, moments: Moments, look: int, srm: SampleRatio | None) -> list[str]:
    found = []
    if not plan.registered:
        found.append("no plan was sealed before the test")
    elif not plan.sealed:
        found.append(
            f"the plan was changed: it was sealed as {plan.registered[:12]} and is "
            f"{plan.hash[:12]} now"
        )
    if look == 0:
        found.append("this look was not planned")
    if srm is None:
        found.append("nobody is in any arm of the plan")
    elif srm.p < plan.srm_below:
        what = "clusters" if plan.cluster else "customers"
        counts = ", ".join(f"{arm} {n:,}" for arm, n in srm.counts.items())
        found.append(
            f"the arms do not hold the {what} they should ({counts}; p = {srm.p:.2g}): the "
            "assignment or the log is broken, and no comparison can be trusted"
        )
    if strange := sorted(set(moments.variants) - set(plan.arms)):
        found.append(f"arms that were not planned: {', '.join(strange)}")
    measured = {metric.name: metric for metric in moments.metrics}
    changed = [m.name for m in plan.metrics if m.name in measured and measured[m.name] != m]
    if changed:
        found.append(f"measured otherwise than planned: {', '.join(changed)}")
    if plan.cluster and "cluster" not in moments.keys:
        found.append("clusters were randomised, but customers are counted as independent")
    return found


def _times(
    plan: TestPlan, moments: Moments, look: int, given: Sequence[float] | None
) -> tuple[float, ...]:
    if given is not None:
        times = tuple(float(time) for time in given)
        if look and len(times) != look:
            raise ContractError(f"look {look} needs {look} information times; got {len(times)}")
        if any(b <= a for a, b in zip((0.0, *times), times, strict=False)):
            raise ContractError(f"information times must increase from 0; got {times}")
        return times
    customers = sum(moments.counts().values())
    now = customers / plan.customers if plan.customers else plan.information[max(look, 1) - 1]
    if look == 0:
        return (now,) if now > 0 else ()
    before = plan.information[: look - 1]
    if not plan.customers or (before and now <= before[-1]) or now <= 0:
        now = plan.information[look - 1]
    return (*before, now)


def _boundaries(plan: TestPlan, times: tuple[float, ...], look: int) -> Boundaries | None:
    if look == 0:
        return None
    # What counts for the correlation of looks is their ratio; more than planned is no harm.
    scaled = [time / max(times[-1], 1.0) for time in times]
    return spending_boundaries(
        scaled,
        plan.alpha / len(plan.treatments),
        sides=_sides(plan),
        spending=plan.spending,
        spent_at=_spent_at(plan, times, look),
    )


def _spent_at(plan: TestPlan, times: tuple[float, ...], look: int) -> list[float]:
    """The last planned look spends the rest; an earlier one never more than is planned by then."""
    read_at = [min(time, planned) for time, planned in zip(times, plan.information, strict=False)]
    if look == len(plan.information):
        read_at[-1] = 1.0
    return read_at


def _sides(plan: TestPlan) -> Literal[1, 2]:
    return 1 if plan.decision_rule == "non_inferiority" else plan.sides


def _compared(plan: TestPlan, moments: Moments, metric: Metric, arm: str) -> Comparison:
    """The comparison of a row; whatever is wrong with one metric becomes its reason."""
    better: Alternative = "greater" if metric.direction == "up" else "less"
    role = plan.role(metric.name)
    alternative: Alternative = "two-sided"
    if role == "guardrail" or (role == "primary" and _sides(plan) == 1):
        alternative = better
    try:
        first = compare(moments, metric.name, arm, plan.control, alpha=plan.alpha)
        if alternative == "two-sided" or first.reason:
            return first
        margin = _margin(plan, metric, first)
        return compare(
            moments,
            metric.name,
            arm,
            plan.control,
            alpha=plan.alpha,
            alternative=alternative,
            margin=-margin if better == "greater" else margin,
        )
    except (JourneyLabError, ArithmeticError, np.linalg.LinAlgError, LookupError) as error:
        return Comparison(metric.name, arm, plan.control, reason=str(error) or type(error).__name__)


def _margin(plan: TestPlan, metric: Metric, first: Comparison) -> float:
    """By how much a metric may become worse, 0 or more, in its unit."""
    if metric.name == plan.primary.name:
        share = plan.margin
    else:
        share = next(m for one, m in plan.guardrails.items() if one.name == metric.name)
    if plan.margins_are == "absolute":
        return share
    base = (first.raw or first).mean_control
    if not base:
        if share:
            raise ContractError("a margin relative to a control of zero is no margin")
        return 0.0
    return share * abs(base)


def _row(
    plan: TestPlan,
    metric: Metric,
    arm: str,
    one: Comparison,
    prior: Belief | None,
) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(COLUMNS)
    unit = metric.unit or ("share" if metric.kind == "proportion" else "")
    row |= {"metric": metric.name, "role": plan.role(metric.name), "arm": arm, "unit": unit}
    row |= {"n": one.n, "n_control": one.n_control, "reason": one.reason, "verdict": ""}
    if one.reason or one.absolute is None:
        row["reason"] = one.reason or "there is no effect to read"
        return row
    effect = one.absolute
    row |= {
        "mean": one.mean,
        "mean_control": one.mean_control,
        "effect": effect.value,
        "low": effect.ci_low,
        "high": effect.ci_high,
        "p": _own_p(plan, metric, one),
        "variance_left": one.variance_left,
    }
    if one.relative is not None:
        share = one.relative
        row |= {"relative": share.value}
        row |= {"relative_low": share.ci_low, "relative_high": share.ci_high}
    if row["role"] == "guardrail" or one.margin:
        row["margin"] = abs(one.margin)
    error = one.standard_error
    if not error:
        return row
    side: Side = "two-sided"
    if row["role"] == "guardrail":
        side = "greater" if metric.direction == "up" else "less"
    units = float(one.n + one.n_control)
    stretched = error * _stretch(one.df, plan.alpha)
    sequence = always_valid(
        effect.value,
        stretched,
        units,
        alpha=plan.alpha,
        tuning=float(plan.customers or 5000),
        side=side,
        null=one.margin,
    )
    row["anytime_low"] = sequence.low if isfinite(sequence.low) else None
    row["anytime_high"] = sequence.high if isfinite(sequence.high) else None
    row["anytime_p"] = sequence.p
    base = abs(one.mean_control or 0.0)
    scaled = prior.scaled(base) if prior and base else None
    after = normal_posterior(effect.value, stretched, scaled)
    down = metric.direction == "down"
    row["chance_to_win"] = after.chance_to_win(lower_is_better=down)
    row["expected_loss"] = after.expected_loss(lower_is_better=down)
    if plan.rope and base:
        row["rope"] = after.rope(-plan.rope * base, plan.rope * base)[1]
    return row


def _own_p(plan: TestPlan, metric: Metric, one: Comparison) -> float | None:
    """On the relative scale where the margin is relative: it does not take the control as known."""
    relative = plan.margins_are == "relative" and one.margin and metric.kind != "quantile"
    if relative and one.p_relative is not None:
        return one.p_relative
    return one.p


def _stretch(df: float | None, alpha: float) -> float:
    """Student's quantile over the normal one: few clusters know their own spread badly."""
    if df is None or not isfinite(df) or df > 1e6:
        return 1.0
    return float(stdtrit(max(df, 1.0), 1 - alpha / 2) / ndtri(1 - alpha / 2))


def _z(plan: TestPlan, metric: Metric, one: Comparison, p: float) -> float:
    """The row as a normal score, above 0 where the arm is better."""
    if one.alternative != "two-sided":
        return (
            float(np.clip(-ndtri(p), -_MOST, _MOST)) if 0 < p < 1 else (_MOST if p <= 0 else -_MOST)
        )
    assert one.absolute is not None
    sign = np.sign(one.absolute.value) * (1 if metric.direction == "up" else -1)
    return float(sign * (_MOST if p <= 0 else min(-ndtri(p / 2), _MOST)))


def _add_primary(
    plan: TestPlan,
    found: Mapping[tuple[str, str], Comparison],
    rows: list[dict[str, Any]],
    boundaries: Boundaries | None,
    times: tuple[float, ...],
    look: int,
) -> None:
    """Adjusted p-values and intervals of the primary metric, over looks and arms."""
    metric = plan.primary
    own = [row for row in rows if row["role"] == "primary" and row["p"] is not None]
    if not own or boundaries is None:
        return
    comparisons = [found[metric.name, row["arm"]] for row in own]
    z = [_z(plan, metric, one, row["p"]) for one, row in zip(comparisons, own, strict=True)]
    sides = _sides(plan)
    arms = len(plan.treatments)
    critical = boundaries.critical[-1]
    if len(plan.information) == 1 and arms > 1:
        shares = [_control_share(one) for one in comparisons]
        adjusted = dunnett(z, shares, sides).tolist()
        critical = dunnett_critical(
            [*shares, *([shares[0]] * (arms - len(own)))], plan.alpha, sides
        )
    else:
        scaled = [time / max(times[-1], 1.0) for time in times]
        adjusted = [
            min(
                arms
                * repeated_p(
                    score,
                    scaled,
                    sides=sides,
                    spending=plan.spending,
                    spent_at=_spent_at(plan, times, look),
                ),
                1.0,
            )
            for score in z
        ]
    for row, one, p in zip(own, comparisons, adjusted, strict=True):
        row["p_adjusted"] = p
        if one.standard_error and one.absolute is not None:
            df = one.df if one.df is not None and isfinite(one.df) else inf
            reach = -_t_quantile(float(ndtr(-critical)), df) * one.standard_error
            row["sequential_low"] = one.absolute.value - reach
            row["sequential_high"] = one.absolute.value + reach


def _t_quantile(probability: float, df: float) -> float:
    if df > 1e6 or probability < 1e-280:
        return float(ndtri(probability))
    return float(stdtrit(df, probability))


def _control_share(one: Comparison) -> float:
    """Part of the difference's variance that the control brings, by the arms' sizes."""
    return one.n / (one.n + one.n_control)


def _add_secondary(plan: TestPlan, rows: list[dict[str, Any]]) -> None:
    own = [row for row in rows if row["role"] == "secondary" and row["p"] is not None]
    if own:
        adjusted = adjust([row["p"] for row in own], plan.adjustment)
        for row, p in zip(own, adjusted, strict=True):
            row["p_adjusted"] = float(p)
    for row in rows:
        if row["role"] == "guardrail":
            row["p_adjusted"] = row["p"]  # intersection-union: all have to pass
