"""The decision a readout leads to: ship, hold or stop, at what risk and at what cost."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf, isfinite
from typing import Any, Literal

import pandas as pd
from scipy.stats import norm

from journeylab.errors import ContractError
from journeylab.estimate import Estimate
from journeylab.experiments.posterior import Belief, normal_posterior
from journeylab.experiments.readout import Readout

Action = Literal["ship", "hold", "stop"]


@dataclass(frozen=True, slots=True)
class Costs:
    """What shipping costs and what the primary metric is worth.

    Attributes:
        per_customer: Arm -> cost of treating one customer over the outcome window beyond what the
            control costs; an arm that is not named costs nothing.
        value: Money that one unit of the primary metric is worth (the margin of one sale, 1 where
            the metric is already margin); of a metric whose direction is down, what one unit less
            is worth.
        once: Cost of shipping at all.
        audience: Customers who would be treated within the time over which ``once`` is to pay.
        currency: Unit of the money.
    """

    per_customer: Mapping[str, float] = field(default_factory=dict)
    value: float = 1.0
    once: float = 0.0
    audience: int = 0
    currency: str = ""

    def __post_init__(self) -> None:
        numbers = [*self.per_customer.values(), self.value, self.once, float(self.audience)]
        if not all(map(isfinite, numbers)) or self.value <= 0 or self.audience < 0:
            raise ContractError(
                "costs must be finite, value above 0 and audience 0 or more; got "
                f"{dict(self.per_customer)}, {self.value}, {self.once}, {self.audience}"
            )


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do after a look.

    Attributes:
        action: ``ship`` the arm, ``hold`` (go on as planned, or look closer), or ``stop`` and
            keep the control.
        arm: Which arm it is about.
        why: In a sentence.
        gain: Money per treated customer within the window, cost taken off; ``None`` where it
            cannot be read.
        total: The same over the audience, less what shipping costs once; ``None`` without audience.
        risk: Chance that shipping the arm loses money (0-1); ``None`` where it cannot be read.
        expected_loss: Mean money lost per treated customer where it does, counted 0 elsewhere.
        cost_per_increment: Cost of one more unit of the primary metric; ``None`` with the reason.
        cost_reason: Why there is no such cost, or how its interval is to be read.
        changes: What would change the answer.
        table: One row per arm: ``arm, effect, gain, low, high, risk, guardrails, verdict``.
        exploratory: Whether the readout was.
    """

    action: Action
    arm: str
    why: str
    gain: Estimate | None
    total: Estimate | None
    risk: float | None
    expected_loss: float | None
    cost_per_increment: Estimate | None
    cost_reason: str
    changes: tuple[str, ...]
    table: pd.DataFrame
    exploratory: bool

    def sentence(self) -> str:
        """The decision as a reader wants it first."""
        mark = "EXPLORATORY: " if self.exploratory else ""
        name = {"ship": f"Ship {self.arm}", "hold": "Hold", "stop": "Stop, keep the control"}
        parts = [f"{mark}{name[self.action]}: {self.why}."]
        if self.gain is not None:
            gain = self.gain
            parts.append(
                f"{self.arm} is worth {_worth(gain)}"
                + ("." if self.risk is None else f", and loses with a chance {_chance(self.risk)}.")
            )
        if self.total is not None:
            parts.append(
                f"Over the audience: {_signed(self.total.value)} {self.total.unit} "
                f"({_signed(self.total.ci_low)} to {_signed(self.total.ci_high)})."
            )
        if self.changes:
            parts.append(f"What would change this: {'; '.join(self.changes)}.")
        return " ".join(parts)


def decide(readout: Readout, costs: Costs | None = None) -> Decision:
    """Apply the plan's rule to a readout.

    An exploratory readout never ships. A readout stopped by its sample ratio stops the test: it
    has to be repaired and run again. Guardrails have to pass under every rule.

    Args:
        readout: Of one look.
        costs: What it costs and brings; without them one unit of the metric is worth 1 and
            nothing costs.

    Returns:
        The decision about the arm with the highest expected gain among those that may ship; or
        about the one nearest to it.
    """
    money = costs or Costs()
    plan = readout.plan
    if unknown := sorted(set(money.per_customer) - set(plan.treatments)):
        raise ContractError(f"costs name arms that are not in the plan: {', '.join(unknown)}")
    arms = [_arm(readout, money, arm) for arm in plan.treatments]
    table = pd.DataFrame([one["row"] for one in arms])
    best = max(arms, key=lambda one: (one["may_ship"], one["won"], one["expected"]))
    action, why = _action(readout, best)
    if readout.broken_ratio:
        best |= {"gain": None, "loss": None}
        best["row"] |= {"risk": None}
        table[["effect", "gain", "low", "high", "risk"]] = None
    price, price_reason = _price(readout, money, best["row"]["arm"])
    return Decision(
        action,
        str(best["row"]["arm"]),
        why,
        best["gain"],
        _total(best["gain"], money),
        best["row"]["risk"],
        best["loss"],
        price,
        price_reason,
        tuple(_changes(readout, money, best, action)),
        table,
        bool(readout.breaches),
    )


def _arm(readout: Readout, money: Costs, arm: str) -> dict[str, Any]:
    """All that is needed to decide about one arm."""
    plan = readout.plan
    primary = readout.row(plan.primary.name, arm)
    passed: list[str] = []
    alarms: list[str] = []
    open_: list[str] = []
    for metric in plan.guardrails:
        verdict = str(readout.row(metric.name, arm)["verdict"]).removeprefix(readout.mark)
        kind = passed if verdict.startswith("passes") else open_
        (alarms if verdict.startswith(("alarm", "not passed", "no reading")) else kind).append(
            metric.name
        )
    verdict = str(primary["verdict"]).removeprefix(readout.mark)
    gain = risk = loss = None
    expected = -inf
    cost = money.per_customer.get(arm, 0.0)
    one = readout.comparisons[plan.primary.name, arm]
    if one.absolute is not None and one.standard_error:
        sign = 1.0 if plan.primary.direction == "up" else -1.0
        low, high = primary["sequential_low"], primary["sequential_high"]
        if pd.isna(low):
            low, high = primary["anytime_low"], primary["anytime_high"]
        if pd.isna(low):
            low, high = primary["low"], primary["high"]
        ends = sorted(sign * money.value * float(end) - cost for end in (low, high))
        expected = sign * money.value * float(primary["effect"]) - cost
        unit = money.currency or primary["unit"] or plan.primary.name
        gain = Estimate(expected, ends[0], ends[1], unit, 1 - plan.alpha)
        after = _posterior(readout, arm, sign, money.value, cost)
        risk, loss = 1 - after.chance_to_win(), after.expected_loss()
    won = verdict.startswith(("better", "not worse"))
    if plan.decision_rule == "expected_value":
        limit = plan.max_loss * abs(float(primary["mean_control"] or 0.0)) * money.value
        won = loss is not None and loss <= limit and expected > 0 and readout.last
    pays = expected > 0 or (plan.decision_rule == "non_inferiority" and expected > -inf)
    guarded = not alarms and not open_
    row = {
        "arm": arm,
        "effect": primary["effect"],
        "gain": None if gain is None else gain.value,
        "low": None if gain is None else gain.ci_low,
        "high": None if gain is None else gain.ci_high,
        "risk": risk,
        "guardrails": f"{len(passed)} of {len(plan.guardrails)} passed" if plan.guardrails else "",
        "verdict": primary["verdict"],
    }
    return {
        "row": row,
        "gain": gain,
        "loss": loss,
        "expected": expected,
        "won": won,
        "worse": verdict.startswith("worse"),
        "readable": not primary["reason"],
        "pays": pays,
        "alarms": alarms,
        "open": open_,
        "may_ship": won and pays and guarded,
    }


def _posterior(readout: Readout, arm: str, sign: float, value: float, cost: float) -> Belief:
    """Belief about the money one treated customer brings."""
    name = readout.plan.primary.name
    one = readout.comparisons[name, arm]
    assert one.absolute is not None
    prior, base = readout.priors.get(name), abs(one.mean_control or 0.0)
    before = prior.scaled(base) if prior is not None and base else None
    after = normal_posterior(one.absolute.value, one.standard_error or 0.0, before)
    return after.scaled(sign * value, -cost)


def _action(readout: Readout, best: Mapping[str, Any]) -> tuple[Action, str]:
    plan, arm = readout.plan, best["row"]["arm"]
    if readout.broken_ratio:
        return "stop", "the arms' sizes say that the assignment or the log is broken; repair it"
    if readout.breaches:
        return "hold", f"the plan was not kept ({readout.breaches[0]})"
    if not best["readable"]:
        return "hold", f"{plan.primary.name} cannot be read"
    if best["may_ship"]:
        what = "passes the margin" if plan.decision_rule == "non_inferiority" else "wins"
        if plan.decision_rule == "expected_value":
            what = "gains more than it costs at an expected loss within the plan's limit"
        guard = " and every guardrail passes" if plan.guardrails else ""
        return "ship", f"{arm} {what} on {plan.primary.name}{guard}"
    if best["alarms"] and (best["won"] or readout.last):
        names = ", ".join(best["alarms"])
        return "stop", f"{names} did not pass the guardrail"
    if best["won"] and not best["pays"]:
        return "stop", f"{arm} wins on {plan.primary.name}, but costs more than it brings"
    if best["worse"]:
        return "stop", f"{arm} is worse on {plan.primary.name}"
    if not readout.last:
        todo = f"look {readout.look + 1} of {len(plan.information)} decides further"
        if best["won"]:
            return "hold", f"{arm} wins, but {', '.join(best['open'])} is still open; {todo}"
        return "hold", f"nothing is shown yet; {todo}"
    if plan.decision_rule == "expected_value":
        return "stop", f"{arm} is not expected to gain enough at an acceptable loss"
    return "stop", f"no gain on {plan.primary.name} was shown at the last look"


def _total(gain: Estimate | None, money: Costs) -> Estimate | None:
    if gain is None or not money.audience:
        return None
    value, low, high = (
        money.audience * one - money.once for one in (gain.value, gain.ci_low, gain.ci_high)
    )
    return Estimate(value, low, high, gain.unit, gain.level)


def _price(readout: Readout, money: Costs, arm: str) -> tuple[Estimate | None, str]:
    """Cost of one more unit of the primary metric, by Fieller's interval.

    The cost is known and the effect is not, so the ends are those of the effect, turned over.
    """
    cost = money.per_customer.get(arm, 0.0)
    if not cost:
        return None, "the arm costs nothing per customer"
    plan = readout.plan
    row = readout.row(plan.primary.name, arm)
    if row["reason"] or pd.isna(row["effect"]):
        return None, str(row["reason"] or "there is no effect to read")
    sign = 1.0 if plan.primary.direction == "up" else -1.0
    first = "sequential_" if not pd.isna(row["sequential_low"]) else ""
    low, high = sorted(sign * float(row[first + end]) for end in ("low", "high"))
    effect = sign * float(row["effect"])
    if effect <= 0:
        return None, "it buys nothing: the effect is not a gain"
    unit = f"{money.currency or 'money'} per unit of {plan.primary.name}"
    if low <= 0:
        return None, f"{cost / effect:,.4g} {unit} at best guess, but it may buy nothing at all"
    return Estimate(cost / effect, cost / high, cost / low, unit, 1 - plan.alpha), ""


def _changes(readout: Readout, money: Costs, best: Mapping[str, Any], action: Action) -> list[str]:
    """What would turn the answer, in words with numbers."""
    plan, arm = readout.plan, str(best["row"]["arm"])
    if readout.broken_ratio:
        return ["a repaired log with arms of the planned sizes"]
    if readout.breaches:
        return ["a new test with a plan sealed before it starts"]
    found = []
    row = readout.row(plan.primary.name, arm)
    cost = money.per_customer.get(arm, 0.0)
    gain: Estimate | None = best["gain"]
    sign = 1.0 if plan.primary.direction == "up" else -1.0
    if gain is not None and cost:
        effect = sign * float(row["effect"])
        if effect > 0:
            found.append(
                f"it breaks even at {cost / effect:,.4g} {money.currency} per unit of "
                f"{plan.primary.name} (taken: {money.value:,.4g})".replace("  ", " ")
            )
        found.append(f"the effect it needs to pay is {cost / money.value:,.4g}")
    if action != "ship" and not pd.isna(row["low"]) and not best["won"]:
        half = (float(row["high"]) - float(row["low"])) / 2
        size = abs(float(row["effect"]))
        if size > 0 and half > 0:
            drift = norm.isf(plan.alpha / 2) + norm.isf(1 - plan.power)
            error = half / norm.isf(plan.alpha / 2)
            times = (drift * error / size) ** 2
            people = times * (float(row["n"]) + float(row["n_control"]))
            if times > 1:
                found.append(
                    f"an effect as large as seen would need about {_rounded(people)} customers in "
                    "these two arms"
                )
    for name in best["alarms"]:
        guard = readout.row(name, arm)
        if not pd.isna(guard["effect"]):
            down = next(m for m in plan.guardrails if m.name == name).direction == "down"
            worst = float(guard["high"]) if down else -float(guard["low"])
            found.append(
                f"{name} would pass with a margin of {worst:,.3g} {guard['unit']}".rstrip()
            )
    if action == "ship" and gain is not None and gain.ci_low < 0:
        found.append("a loss is within the interval: start with a holdout and read it again")
    if not found and action == "ship":
        found.append("a fall of the value of one unit, or a cost not counted here")
    return found


def _signed(value: float) -> str:
    return f"{value:+,.0f}" if abs(value) >= 1000 else f"{value:+.3g}"


def _worth(gain: Estimate) -> str:
    """A gain per customer with its interval; a share in percentage points."""
    if gain.unit != "share":
        ends = f"({_signed(gain.ci_low)} to {_signed(gain.ci_high)})"
        return f"{_signed(gain.value)} {gain.unit} per customer {ends}"
    ends = f"({100 * gain.ci_low:+.2f} to {100 * gain.ci_high:+.2f})"
    return f"{100 * gain.value:+.2f} percentage points {ends}"


def _chance(share: float) -> str:
    if 0.001 <= share <= 0.999:
        return f"of {100 * share:.1f} %"
    return "below 0.1 %" if share < 0.5 else "above 99.9 %"


def _rounded(value: float) -> str:
    """Two digits, no exponent."""
    return f"{float(f'{value:.2g}'):,.0f}"
