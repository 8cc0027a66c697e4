"""The plan of a test: what was decided before the first customer, sealed by its hash."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import date
from hashlib import sha256
from math import isfinite
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from journeylab.errors import ContractError
from journeylab.estimate import Metric
from journeylab.experiments.boundaries import Boundaries, Sides, spending_boundaries
from journeylab.experiments.multiplicity import METHODS, Method
from journeylab.experiments.power import power_each
from journeylab.experiments.spending import SPENDINGS, Spending, information_times

Rule = Literal["superiority", "non_inferiority", "expected_value"]
RULES: tuple[Rule, ...] = ("superiority", "non_inferiority", "expected_value")
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class TestPlan:
    """What a test is to find out, and by which rule it will be decided.

    A plan is frozen. ``hash`` names its content; ``registered`` is the hash under which it was
    saved. Whoever changes a saved plan (``dataclasses.replace``) keeps the old ``registered``, so
    the two differ, and every readout of it is exploratory.

    Attributes:
        experiment: Id in ``assignments``.
        primary: The metric that decides.
        secondary: Metrics that explain.
        guardrails: Metric -> margin by which it may become worse, above 0. All have to pass.
        arms: Names, the control first.
        split: Arm -> weight; equal by default.
        alpha: Error of the primary metric over all looks and arms.
        power: Chance of finding ``effect``.
        sides: 1 or 2.
        effect: The gain the test is made for, as a share of the control's mean.
        looks: How many, equally spaced; or shares of the information at which to look.
        spending: How the error is spent over them.
        unit: What is randomised, in words.
        cluster: Whether clusters (``assignments.cluster_id``) were randomised.
        decision_rule: ``superiority``: ship what wins on the primary metric. ``non_inferiority``:
            ship what is not worse by ``margin``. ``expected_value``: ship what is expected to gain
            more than it costs, at an expected loss of at most ``max_loss``. Guardrails have to
            pass under each.
        margin: Of non-inferiority of the primary metric; 0 under another rule.
        max_loss: Under ``expected_value``, as a share of the control's mean.
        margins_are: Whether margins are shares of the control's mean or in the metric's unit.
        window_days: Days each customer is followed, the day of exposure included.
        customers: Customers in all arms at the last look; 0 where it is not planned.
        starts: First day of exposure (ISO) or empty.
        reads: Day of each look (ISO) or empty.
        audience: Who is in it, in words that the registry compares; empty for everybody.
        salt: Of the assignment; empty takes the experiment's id.
        adjustment: How secondary metrics' p-values are adjusted.
        srm_below: The sample-ratio test stops the readout below this p.
        rope: Gains smaller than this share of the control's mean make no practical difference.
        surrogates: Secondary metric -> metric it stands for, where past tests validated it.
        registered: Hash under which the plan was saved; empty before. Not part of the hash.
    """

    __test__ = False  # pytest: this is no test

    experiment: str
    primary: Metric
    secondary: tuple[Metric, ...] = ()
    guardrails: Mapping[Metric, float] = field(default_factory=dict)
    arms: tuple[str, ...] = ("control", "treatment")
    split: Mapping[str, float] = field(default_factory=dict)
    alpha: float = 0.05
    power: float = 0.8
    sides: Sides = 2
    effect: float = 0.0
    looks: int | tuple[float, ...] = 1
    spending: Spending = "obrien_fleming"
    unit: str = "customer"
    cluster: bool = False
    decision_rule: Rule = "superiority"
    margin: float = 0.0
    max_loss: float = 0.0
    margins_are: Literal["relative", "absolute"] = "relative"
    window_days: int = 14
    customers: int = 0
    starts: str = ""
    reads: tuple[str, ...] = ()
    audience: str = ""
    salt: str = ""
    adjustment: Method = "holm"
    srm_below: float = 0.001
    rope: float = 0.0
    surrogates: Mapping[str, str] = field(default_factory=dict)
    registered: str = ""

    def __post_init__(self) -> None:
        set_ = object.__setattr__
        set_(self, "secondary", tuple(self.secondary))
        set_(self, "arms", tuple(self.arms))
        set_(self, "reads", tuple(self.reads))
        set_(self, "guardrails", dict(self.guardrails))
        set_(self, "surrogates", dict(self.surrogates))
        set_(self, "split", dict(self.split) or dict.fromkeys(self.arms, 1.0))
        if not isinstance(self.looks, int):
            set_(self, "looks", tuple(float(time) for time in self.looks))
        _check(self)

    def __hash__(self) -> int:
        return hash(self.hash)

    @property
    def hash(self) -> str:
        """SHA-256 of the content, in hexadecimal digits."""
        return sha256(_canonical(plan_content(self)).encode()).hexdigest()

    @property
    def sealed(self) -> bool:
        """Whether this is what was saved."""
        return bool(self.registered) and self.registered == self.hash

    @property
    def control(self) -> str:
        """The arm the others are compared with."""
        return self.arms[0]

    @property
    def treatments(self) -> tuple[str, ...]:
        """The other arms."""
        return self.arms[1:]

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """All metrics: the primary, the secondary, the guardrails; none twice."""
        return tuple(dict.fromkeys([self.primary, *self.secondary, *self.guardrails]))

    @property
    def information(self) -> tuple[float, ...]:
        """Share of the planned information at each look."""
        if isinstance(self.looks, int):
            return tuple(look / self.looks for look in range(1, self.looks + 1))
        return self.looks

    @property
    def power_each(self) -> float:
        """Power that the primary metric and every guardrail need, so that all pass together."""
        return power_each(self.power, 1 + len(self.guardrails))

    def boundaries(self) -> Boundaries:
        """Boundaries of one comparison on the primary metric, at the planned looks.

        With several treatments each comparison gets its part of the error (Bonferroni).
        """
        alpha = self.alpha / len(self.treatments)
        return spending_boundaries(
            self.information, alpha, sides=self.sides, spending=self.spending
        )

    def role(self, metric: str) -> Literal["primary", "secondary", "guardrail"]:
        """What a metric is in this test."""
        if metric == self.primary.name:
            return "primary"
        named = {one.name for one in self.guardrails}
        return "guardrail" if metric in named else "secondary"


def plan_content(plan: TestPlan) -> dict[str, Any]:
    """The plan as plain data, without ``registered``."""
    content: dict[str, Any] = {"format": _FORMAT}
    for one in fields(plan):
        value = getattr(plan, one.name)
        if one.name == "registered":
            continue
        if isinstance(value, Metric):
            value = asdict(value)
        elif one.name == "secondary":
            value = [asdict(metric) for metric in value]
        elif one.name == "guardrails":
            value = [{"metric": asdict(m), "margin": margin} for m, margin in value.items()]
        elif one.name == "split":
            value = [[arm, float(value[arm])] for arm in plan.arms]
        content[one.name] = value
    found: dict[str, Any] = json.loads(json.dumps(content, allow_nan=False))
    return found


def plan_text(plan: TestPlan) -> str:
    """The plan as a JSON document with its hash, as ``save_plan`` writes it."""
    document = {"hash": plan.hash, "plan": plan_content(plan)}
    return json.dumps(document, indent=2, ensure_ascii=False, sort_keys=True) + "\n"


def read_plan(text: str, where: str = "the plan") -> TestPlan:
    """A plan from its JSON document.

    Args:
        text: From ``plan_text``.
        where: What to call it in an error.

    Raises:
        ContractError: It is not such a document, or was changed after it was sealed.
    """
    try:
        document = json.loads(text)
        sealed, content = str(document["hash"]), dict(document["plan"])
    except (ValueError, KeyError, TypeError) as error:
        raise ContractError(f"{where} is no saved plan: {error}") from error
    found = sha256(_canonical(content).encode()).hexdigest()
    if found != sealed:
        raise ContractError(
            f"{where} was changed after it was sealed: its hash is {found[:12]}, sealed as "
            f"{sealed[:12]}. Restore it, or register what you have as a new plan"
        )
    if content.pop("format", None) != _FORMAT:
        raise ContractError(f"{where} has another format than {_FORMAT}")
    try:
        plan = TestPlan(
            **{
                **content,
                "primary": _metric(content["primary"]),
                "secondary": tuple(map(_metric, content["secondary"])),
                "guardrails": {_metric(g["metric"]): g["margin"] for g in content["guardrails"]},
                "split": dict(content["split"]),
            }
        )
    except (KeyError, TypeError) as error:
        raise ContractError(f"{where} is no plan that this version knows: {error}") from error
    return replace(plan, registered=sealed)


def save_plan(plan: TestPlan, folder: str | Path) -> TestPlan:
    """Write ``plan_<experiment>.json`` beside a run, and give back the sealed plan.

    Raises:
        ContractError: Another plan of this experiment is saved there already.
    """
    path = Path(folder) / f"plan_{_slug(plan.experiment)}.json"
    sealed = replace(plan, registered=plan.hash)
    if path.exists():
        there = read_plan(path.read_text("utf-8"), path.name)
        if there.hash != plan.hash:
            raise ContractError(
                f"{path.name} holds another plan of {plan.experiment} ({there.hash[:12]}): a plan "
                "is not changed after the fact; give the new test a new name"
            )
        return sealed
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".partial")
    beside.write_text(plan_text(plan), "utf-8")
    beside.replace(path)
    return sealed


def load_plan(path: str | Path) -> TestPlan:
    """A sealed plan from its file, or from the document itself, as another notebook recorded it.

    Raises:
        ContractError: There is none, or it was changed after it was sealed.
    """
    if str(path).lstrip().startswith("{"):
        return read_plan(str(path), "the plan that was handed over")
    path = Path(path)
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise ContractError(f"there is no plan {path.name}: {error.strerror}") from error
    return read_plan(text, path.name)


def plan_card(plan: TestPlan) -> pd.DataFrame:
    """The plan as a reader wants it: ``what``, ``planned``, both text."""
    shares = {arm: plan.split[arm] / sum(plan.split.values()) for arm in plan.arms}
    unit = " % of the control's mean" if plan.margins_are == "relative" else ""
    scale = 100 if plan.margins_are == "relative" else 1
    times = ", ".join(f"{100 * time:.3g} %" for time in plan.information)
    stops = ", ".join(f"{z:.2f}" for z in plan.boundaries().critical)
    rules = {
        "superiority": "ship what wins on the primary metric",
        "non_inferiority": f"ship what is not worse by {scale * plan.margin:g}{unit}",
        "expected_value": "ship what is expected to gain more than it costs, at an expected loss "
        f"of at most {100 * plan.max_loss:g} % of the control's mean",
    }
    rows = [
        ("experiment", plan.experiment),
        ("hash", plan.hash[:16]),
        ("status", "sealed" if plan.sealed else "not sealed: every readout is exploratory"),
        ("primary metric", _described(plan.primary)),
        ("secondary metrics", "; ".join(map(_described, plan.secondary)) or "none"),
        (
            "guardrails",
            "; ".join(
                f"{one.name} may be worse by {scale * margin:g}{unit}"
                for one, margin in plan.guardrails.items()
            )
            or "none",
        ),
        ("arms", ", ".join(f"{arm} {100 * share:.3g} %" for arm, share in shares.items())),
        ("unit", f"{plan.unit}, in clusters" if plan.cluster else plan.unit),
        ("audience", plan.audience or "everybody"),
        ("effect looked for", f"{100 * plan.effect:+.3g} %" if plan.effect else "none named"),
        ("error and power", f"{plan.alpha:g} ({plan.sides}-sided), {plan.power:g}"),
        ("power of each metric that must pass", f"{plan.power_each:.3g}"),
        ("customers at the last look", f"{plan.customers:,}" if plan.customers else "not planned"),
        ("looks", f"{len(plan.information)}, at {times} of the information"),
        ("spending", f"{plan.spending}; stop beyond {stops} standard errors"),
        ("days followed", str(plan.window_days)),
        ("starts", plan.starts or "not fixed"),
        ("read on", ", ".join(plan.reads) or "not fixed"),
        ("decision rule", f"{rules[plan.decision_rule]}; every guardrail has to pass"),
    ]
    return pd.DataFrame(rows, columns=["what", "planned"])


def _check(plan: TestPlan) -> None:
    if not plan.experiment.strip():
        raise ContractError("a plan needs the id of its experiment")
    if len(plan.arms) < 2 or len(set(plan.arms)) < len(plan.arms):
        raise ContractError(f"arms must be two or more, each named once; got {plan.arms}")
    if set(plan.split) != set(plan.arms) or not all(
        isfinite(weight) and weight > 0 for weight in plan.split.values()
    ):
        raise ContractError(f"split must give each arm a weight above 0; got {dict(plan.split)}")
    if not 0 < plan.alpha < plan.power < 1:
        raise ContractError(f"0 < alpha < power < 1, please; got {plan.alpha} and {plan.power}")
    if plan.sides not in (1, 2):
        raise ContractError(f"sides must be 1 or 2; got {plan.sides}")
    if isinstance(plan.looks, int) and plan.looks < 1:
        raise ContractError(f"a test needs one look or more; got {plan.looks}")
    if information_times(plan.information)[-1] < 1 - 1e-9:
        raise ContractError(f"the last look must be at 1; got {plan.information}")
    names = [metric.name for metric in (plan.primary, *plan.secondary, *plan.guardrails)]
    if len(set(names)) < len(names):
        raise ContractError(f"each metric has one role; got {names}")
    if plan.primary.kind not in ("mean", "proportion", "ratio"):
        raise ContractError(
            f"the primary metric cannot be a {plan.primary.kind}: looks at it do not add up"
        )
    moving = [m.name for m in plan.metrics if m.cap is not None and m.cap_at is None]
    if moving:
        raise ContractError(
            f"the cap of {', '.join(moving)} would move between looks: fix it from the time before "
            "(freeze_caps)"
        )
    wrong = {m.name: margin for m, margin in plan.guardrails.items() if not 0 < margin < 1e300}
    if wrong:
        raise ContractError(f"margins of guardrails must be above 0; got {wrong}")
    if plan.decision_rule not in RULES or plan.spending not in SPENDINGS:
        raise ContractError(
            f"there is no rule {plan.decision_rule!r} or no spending {plan.spending!r}"
        )
    if plan.adjustment not in METHODS:
        raise ContractError(f"adjustment must be one of {', '.join(METHODS)}")
    if (plan.decision_rule == "non_inferiority") != (plan.margin > 0):
        raise ContractError("a non-inferiority rule needs a margin above 0, and no other has one")
    for name, value in {"max_loss": plan.max_loss, "rope": plan.rope}.items():
        if not 0 <= value < 1e300:
            raise ContractError(f"{name} must be 0 or more; got {value}")
    if plan.window_days < 1 or plan.customers < 0 or not 0 < plan.srm_below < 1:
        raise ContractError("window_days >= 1, customers >= 0 and srm_below in (0, 1), please")
    if plan.reads and len(plan.reads) != len(plan.information):
        raise ContractError(f"{len(plan.information)} looks, but {len(plan.reads)} days to read on")
    days = [plan.starts] if plan.starts else []
    for day in [*days, *plan.reads]:
        try:
            date.fromisoformat(day)
        except ValueError as error:
            raise ContractError(f"{day!r} is no ISO date") from error
    if [*days, *plan.reads] != sorted({*days, *plan.reads}):
        raise ContractError("starts and reads must follow each other")
    if strange := sorted(set(plan.surrogates) - {one.name for one in plan.secondary}):
        raise ContractError(f"surrogates must be secondary metrics; {strange} are not")


def _described(metric: Metric) -> str:
    how = {"up": "higher is better", "down": "lower is better"}[metric.direction]
    cap = f", capped at {metric.cap_at:g} {metric.unit}".rstrip() if metric.cap_at else ""
    by = ", adjusted for the time before" if metric.covariates else ""
    return f"{metric.name} ({metric.kind}, {how}{cap}{by})"


def _metric(content: Mapping[str, Any]) -> Metric:
    covariates: Sequence[Any] = content["covariates"]
    pairs = tuple(tuple(one) if isinstance(one, list) else one for one in covariates)
    return Metric(**{**content, "covariates": pairs})


def _canonical(content: Mapping[str, Any]) -> str:
    return json.dumps(
        content, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False
    )


def _slug(text: str) -> str:
    return "".join(c if c.isalnum() or c in "-_" else "_" for c in text)
