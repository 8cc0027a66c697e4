"""Questions: which test of a source is read, on which metrics, where nobody has said so."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from journeylab.errors import ContractError
from journeylab.estimate import Metric
from journeylab.experiments.plan import TestPlan

_CONTROLS = ("control", "none", "a", "off", "old", "holdout")
_CAP = 0.999
_WINDOW = 28
_QUANTILE = 0.95


@dataclass(frozen=True, slots=True)
class Question:
    """What is read of a test.

    Attributes:
        experiment: Its id.
        arms: The control first.
        split: Arm -> designed weight.
        metrics: What the plan is about; caps may still have to be frozen.
        primary, guardrail: Names of the metrics that decide and guard; no guardrail: empty.
        guardrail_margin: Share of the control by which the guardrail may become worse.
        more: Metrics measured besides: the whole distribution, and the days after exposure.
        window_days: How long each customer is followed; ``None`` for a source without dates.
        as_of: Last day of the data (ISO); ``None`` without dates.
        by_cluster: Whether clusters were randomised.
        rope: Share of the control below which an effect makes no difference.
        sealed: The plan, where there is one.
    """

    experiment: str
    arms: tuple[str, ...]
    split: Mapping[str, float]
    metrics: tuple[Metric, ...]
    primary: str
    guardrail: str
    guardrail_margin: float
    more: tuple[Metric, ...]
    window_days: int | None
    as_of: str | None
    by_cluster: bool
    rope: float
    sealed: TestPlan | None

    def plan(self, metrics: Sequence[Metric]) -> TestPlan:
        """The sealed plan, or one made now, which makes every reading exploratory.

        Args:
            metrics: ``metrics`` with their caps frozen.
        """
        if self.sealed is not None:
            return self.sealed
        found = {metric.name: metric for metric in metrics}
        guard = {found[self.guardrail]: self.guardrail_margin} if self.guardrail else {}
        rest = [m for m in found.values() if m.name not in (self.primary, self.guardrail)]
        return TestPlan(
            self.experiment,
            found[self.primary],
            tuple(rest),
            guard,
            arms=self.arms,
            split=self.split,
            cluster=self.by_cluster,
            window_days=self.window_days or 1,
            rope=self.rope,
        )


def find_question(
    trials: pd.DataFrame,
    measured: pd.DataFrame | None,
    *,
    has_visits: bool,
    last_day: str | None,
    experiment: str = "",
    control: str = "",
    primary: str = "",
    guardrail: str = "",
    guardrail_margin: float = 0.1,
    window_days: int = 0,
    windows: Mapping[str, int] | None = None,
    rope: float = 0.0,
    currency: str = "",
    plan: TestPlan | None = None,
) -> Question:
    """Put a test into a question, by the plan or by what the source holds.

    Args:
        trials: From ``frames.trials_listed``.
        measured: From ``frames.outcomes_listed``; ``None`` where results come from orders.
        has_visits: Whether the events hold visits.
        last_day: Last day of the orders (ISO); ``None`` without dates.
        experiment: Id of the test; empty takes the one with the fewest arms, of several the
            earliest.
        control: Its control; empty takes an arm called control, none or the like, else the first
            by name.
        primary: Metric that decides; empty takes ``bought``, or the first share.
        guardrail: Metric that must not become worse; empty takes another share or ratio.
        guardrail_margin: By how much it may, as a share of the control.
        window_days: How long each customer is followed; 0 takes the plan's or 28.
        windows: Test -> its window, where that is known.
        rope: Share of the control below which an effect makes no difference.
        currency: Unit of the amounts.
        plan: A sealed plan, which decides all of this.

    Raises:
        ContractError: There is no such test, arm or metric.
    """
    wanted = plan.experiment if plan else experiment
    arms = _arms(trials, wanted)
    name = str(arms["experiment_id"].iloc[0])
    by_cluster = bool((arms["clusters"] > 0).all())
    window = None
    if last_day is not None:
        given = plan.window_days if plan else (windows or {}).get(name, _WINDOW)
        window = window_days or given
    if plan is not None:
        guards = [metric.name for metric in plan.guardrails]
        return Question(
            name, plan.arms, plan.split, plan.metrics, plan.primary.name, ", ".join(guards), 0.0,
            _more(plan.primary, window), window, last_day, by_cluster, plan.rope, plan,
        )  # fmt: skip
    metrics = _measured(measured) if measured is not None else _ordered(has_visits, currency)
    found = {metric.name: metric for metric in metrics}
    chosen = _named(found, primary) if primary else _first(metrics, ("proportion",))
    guard = _guard(found, metrics, chosen, guardrail)
    amount = found.get("revenue") or next((m for m in metrics if m.kind == "mean"), chosen)
    return Question(
        name, _ordered_arms(arms["variant"].tolist(), control), _split(arms), tuple(metrics),
        chosen.name, guard.name if guard else "", guardrail_margin, _more(amount, window), window,
        last_day, by_cluster, rope, None,
    )  # fmt: skip


def _arms(trials: pd.DataFrame, experiment: str) -> pd.DataFrame:
    if trials.empty:
        raise ContractError("nobody was assigned to a test")
    names = trials["experiment_id"]
    if not experiment:
        sizes = trials.groupby("experiment_id").agg(
            arms=("variant", "size"), first=("first", "min")
        )
        sizes = sizes[sizes["arms"] > 1].reset_index()
        if sizes.empty:
            raise ContractError("no test has two arms")
        first = sizes.sort_values(["arms", "first", "experiment_id"]).iloc[0]
        experiment = str(first["experiment_id"])
    own = trials[names == experiment]
    if len(own) < 2:
        known = ", ".join(sorted(names.unique())[:12])
        raise ContractError(f"there is no test {experiment!r} with two arms; there are {known}")
    return own


def _ordered_arms(names: Sequence[str], control: str) -> tuple[str, ...]:
    if control and control not in names:
        raise ContractError(f"there is no arm {control!r}; there are {', '.join(names)}")
    rest = sorted(names)
    low = {name: name.lower() for name in rest}
    likely = [n for word in _CONTROLS for n in rest if low[n] == word]
    likely += [n for n in rest if low[n].startswith(("no ", "no_", "control"))]
    first = control or (likely or rest)[0]
    return (first, *(name for name in rest if name != first))


def _split(arms: pd.DataFrame) -> dict[str, float]:
    """The chances that were logged, rounded; equal shares where there are none."""
    chances = arms.set_index("variant")["propensity"]
    if chances.isna().any() or not (chances > 0).all():
        return dict.fromkeys(map(str, chances.index), 1.0)
    return {str(name): round(float(chance), 4) for name, chance in chances.items()}


def _ordered(has_visits: bool, currency: str) -> list[Metric]:
    unit = currency or "currency units"
    found = [
        Metric.proportion("bought", "orders", covariate="before"),
        Metric.mean("revenue", "orders.amount", covariate="before", cap=_CAP, unit=unit),
        Metric.mean("revenue, uncapped", "orders.amount", covariate="before", unit=unit),
        Metric.mean("orders", "orders", covariate="before", unit="orders"),
        Metric.ratio("order value", "orders.amount", "orders", cap=_CAP, unit=unit),
    ]
    if has_visits:
        found.append(Metric.mean("visits", "events:visit", covariate="before", unit="visits"))
    return found


def _measured(measured: pd.DataFrame) -> list[Metric]:
    found = []
    for row in measured.sort_values("metric").to_dict("records"):
        name, source = str(row["metric"]), f"outcomes:{row['metric']}"
        if row["low"] >= 0 and row["high"] <= 1 and row["fractions"] == 0:
            found.append(Metric.proportion(name, source))
        else:
            found.append(Metric.mean(name, source, cap=_CAP))
            found.append(Metric.mean(f"{name}, uncapped", source))
    if not found:
        raise ContractError("the source holds no results")
    return found


def _named(found: Mapping[str, Metric], name: str) -> Metric:
    if name not in found:
        raise ContractError(f"there is no metric {name!r}; there are {', '.join(found)}")
    return found[name]


def _first(metrics: Sequence[Metric], kinds: Sequence[str]) -> Metric:
    return next((metric for metric in metrics if metric.kind in kinds), metrics[0])


def _guard(
    found: Mapping[str, Metric], metrics: Sequence[Metric], primary: Metric, name: str
) -> Metric | None:
    if name:
        chosen = _named(found, name)
        if chosen == primary:
            raise ContractError(f"{name} cannot decide and guard at once")
        return chosen
    others = [m for m in metrics if m != primary and m.kind in ("proportion", "ratio")]
    return others[0] if others else None


def _more(metric: Metric, window: int | None) -> tuple[Metric, ...]:
    """The distribution of the amounts and, with dates, their days."""
    tail = Metric.quantile(f"{metric.name}, 95 % quantile", metric.of, _QUANTILE, unit=metric.unit)
    if window is None or window < 2 or metric.kind != "mean":
        return (tail,)
    return (tail, metric.by_day(window))
