"""What the measured effects say in words: go or not, by how much money, and what to doubt."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import floor, log10

import numpy as np
import pandas as pd
from scipy.special import ndtri

from journeylab.errors import ContractError
from journeylab.estimate import Estimate, Measured
from journeylab.uplift.comparison import FORECAST, RANDOM, SELECTED, Comparison
from journeylab.uplift.design import Design
from journeylab.uplift.effects import EffectFit
from journeylab.uplift.learner_words import learner_words
from journeylab.uplift.meta_learners import Learner, learn
from journeylab.uplift.policy_value import PolicyValue
from journeylab.uplift.randomisation import Randomisation

_EXPLAINED = ("x", "r", "dr", "pooled")
_NO_LEARNER = (SELECTED, FORECAST, RANDOM)
_NO_FORECAST = (*_NO_LEARNER, "flat", "response")


def arm_costs(text: str, arms: Sequence[str]) -> dict[str, float]:
    """Costs per head and arm from ``"sms=0.05, voice=0.9"``; arms left out cost nothing.

    Raises:
        ContractError: A part is no ``arm=number``, an arm is not there, or a cost is below 0.
    """
    costs: dict[str, float] = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        arm, equals, number = (piece.strip() for piece in part.partition("="))
        try:
            cost = float(number)
        except ValueError:
            cost = np.nan
        if not equals or not cost >= 0:
            raise ContractError(f"costs must look like 'sms=0.05, voice=0.9'; got {part!r}")
        if arm in arms:
            costs[arm] = cost
    return costs


def arm_shares(text: str, arms: Sequence[str]) -> dict[str, float] | None:
    """Shares of arms by design from ``"none=1, sms=1"``, made to add up to 1; ``None`` for no text.

    Raises:
        ContractError: A part is no ``arm=number`` above 0, or an arm is not there or not named.
    """
    if not text.strip():
        return None
    parts = arm_costs(text, arms)
    if set(parts) != set(arms) or not all(parts.values()):
        raise ContractError(
            f"shares must look like 'none=1, sms=1' for {', '.join(arms)}: {text!r}"
        )
    whole = sum(parts.values())
    return {arm: part / whole for arm, part in parts.items()}


def forecaster(compared: Comparison) -> str:
    """The learner to take for other customers: the chosen one, or the best that predicts effects.

    The response ranker tells who buys, not by how much a touch changes it: it may rank well, but
    its numbers cannot be held against a cost.
    """
    if compared.chosen not in _NO_FORECAST:
        return str(compared.chosen)
    table = compared.table[~compared.table["learner"].isin(_NO_FORECAST)]
    return str(table.groupby("learner", sort=False)["autoc"].mean().idxmax())


def in_words(table: pd.DataFrame, first: str = "") -> pd.DataFrame:
    """The same with learners called as on a page.

    Args:
        table: With a column ``learner``, or ``other``, or both.
        first: Arm whose rows come first.
    """
    named = [name for name in ("learner", "other") if name in table.columns]
    told = table.assign(**{name: table[name].map(learner_words) for name in named})
    if not first:
        return told
    own = told["arm"] == first
    return pd.concat([told[own], told[~own]], ignore_index=True)


def groups_finding(pairs: pd.DataFrame, arm: str) -> str:
    """One line on groups by baseline and predicted effect, from ``effects_by_baseline``."""
    most, least = pairs.loc[pairs["ci_low"].idxmax()], pairs.loc[pairs["ci_high"].idxmin()]
    names = [f"{row['baseline_group']}, {row['effect_group']}" for row in (most, least)]
    if most["ci_low"] > least["ci_high"]:
        return f"{arm} changes those of {names[0]} more than those of {names[1]}"
    if most["ci_low"] > 0:
        return f"{arm} helps those of {names[0]}; groups are not told from each other"
    return f"No group is told to be changed more by {arm} than another"


def ranks_best(compared: Comparison, arm: str) -> str:
    """The candidate of highest AUTOC for an arm, whether or not it predicts effects."""
    table = compared.table[
        (compared.table["arm"] == arm) & ~compared.table["learner"].isin(_NO_LEARNER)
    ]
    return str(table.loc[table["autoc"].idxmax(), "learner"])


def arm_in_view(averages: pd.DataFrame, asked: str = "") -> str:
    """The arm that curves are drawn of: the one asked for, else that of the surest average effect.

    Args:
        averages: From ``average_effects``.
        asked: An arm, or empty.

    Raises:
        ContractError: There is no such arm.
    """
    arms = averages.iloc[1:]
    if asked:
        if asked not in set(arms["arm"]):
            raise ContractError(f"there is no arm {asked!r}; arms are {', '.join(arms['arm'])}")
        return asked
    return str(arms.loc[(arms["effect"] / arms["standard_error"]).idxmax(), "arm"])


def effects_finding(averages: pd.DataFrame, level: float = 0.95) -> str:
    """One line on the average effects: what is sure of all arms at once.

    Args:
        averages: From ``average_effects``.
        level: Chance (0-1) that nothing wrong is called sure, of all arms together.
    """
    arms = averages.iloc[1:]
    reach = float(ndtri(1 - (1 - level) / 2 / len(arms))) * arms["standard_error"]
    sure = list(arms.loc[arms["effect"] > reach, "arm"])
    harm = list(arms.loc[arms["effect"] < -reach, "arm"])
    said = [f"{_listed(sure)} surely help on average"] if len(sure) > 1 else []
    said += [f"{sure[0]} surely helps on average"] if len(sure) == 1 else []
    said += [f"{_listed(harm)} surely harm" + ("s" if len(harm) == 1 else "")] if harm else []
    alone = "No arm's average effect is told from nothing"
    nothing = alone if len(arms) == 1 else f"{alone}, allowing for {len(arms)} arms"
    return "; ".join(said) or nothing


def ranking_finding(found: Measured, learner: str, arm: str) -> str:
    """One line on a ranking's AUTOC."""
    known = found.estimate()
    if known.ci_low > 0:
        return f"Ranked by {learner_words(learner)}, the first are changed more by {arm}"
    return (
        f"Ranked by {learner_words(learner)}, the first are not shown to be changed more by {arm}"
    )


def policy_finding(worth: PolicyValue, unit: str) -> str:
    """One line on what personalising is worth."""
    gain = worth.gain_on_best()
    if gain.ci_low > 0:
        return f"Personal arms earn {gain.value:.3g} {unit} a head more than {worth.best_constant}"
    if gain.ci_high < 0:
        return f"Personal arms earn less than {worth.best_constant} for everybody"
    return f"Personal arms are not shown to beat {worth.best_constant} for everybody"


def customer_effects(design: Design, groups: pd.DataFrame) -> pd.DataFrame:
    """Shrunken group effects for touch planning: each customer as last seen, one row per arm.

    Args:
        design: Of the trial.
        groups: ``customers`` of ``group_effects``, indexed like the design's rows.

    Returns:
        ``customer_id, arm, group, effect, standard_error`` (of the group), ``propensity`` (chance
        of that arm for that customer, by the design of the block last stood in), sorted by
        customer and arm.
    """
    rows = design.rows
    dated = "assigned_on" in rows.columns
    last = rows.sort_values("assigned_on", kind="stable") if dated else rows
    keep = last.drop_duplicates("customer_id", keep="last").index
    own = groups[groups.index.isin(keep)]
    named = own.assign(customer_id=rows.loc[own.index, "customer_id"].to_numpy())
    block = design.shares.index.get_indexer(pd.Index(rows.loc[own.index, "block"]))
    arm = design.shares.columns.get_indexer(pd.Index(named["arm"]))
    named["propensity"] = design.shares.to_numpy(float)[block, arm]
    columns = ["customer_id", "arm", "group", "effect", "standard_error", "propensity"]
    return named[columns].sort_values(["customer_id", "arm"], ignore_index=True)


def doubts(design: Design, checked: Randomisation) -> list[str]:
    """What speaks against reading the differences as effects; often empty."""
    found = []
    if not checked.passes:
        found.append(f"{checked.finding()}: do not act on these effects before this is explained")
    if design.off_design:
        found.append(
            f"{design.off_design:,} of {len(design.rows):,} rows were logged with another chance "
            "than their block's: the blocks are not quite those of the design"
        )
    return found


def go_or_not(
    compared: Comparison,
    worth: PolicyValue,
    checked: Randomisation,
    unit: str,
    heads: int,
    costs: Mapping[str, float],
) -> str:
    """The decision: personal arms, one arm for everybody, or no touch; with money and interval.

    Args:
        compared: The learners.
        worth: Value of the personal policy, net of costs.
        checked: Of the randomisation.
        unit: Money.
        heads: Customers it would be applied to, once.
        costs: Arm -> cost per head, as used.
    """
    if not checked.passes:
        return (
            f"No-go: {checked.finding()}. Differences between these arms are not effects until "
            "the assignment is explained."
        )
    gain, best = worth.gain_on_best(), worth.best_constant
    more = f"{_money(gain.value * heads)} {unit} ({_money(gain.ci_low * heads)} to "
    more += f"{_money(gain.ci_high * heads)}) over {heads:,} customers"
    control = str(worth.constants["arm"].iloc[0])
    cost = f", at {costs[best]:g} {unit} a head" if costs.get(best) else ""
    if compared.chosen != "flat" and gain.ci_low > 0:
        learner = learner_words(forecaster(compared))
        return (
            f"Go: give each customer the arm with the highest net effect by the learner "
            f'"{learner}". Against {best} for everybody that is worth {more} each time.'
        )
    reason = (
        "no ranking beats chance"
        if compared.chosen == "flat"
        else "the ranking beats chance, but its policy does not surely beat one arm for all"
    )
    if best == control:
        return (
            f"No-go: touch nobody in this way; {reason}, and no arm earns its cost by these data. "
            f"Personal arms against none: {more}."
        )
    over = worth.best_over_control()
    told = _a_head(over, unit)
    if over.ci_low <= 0:
        return (
            f"No-go: {reason}, and no single arm surely earns its cost either: the best, {best}"
            f"{cost}, brings {told} over {control}. Personal arms against it: {more}. Go on "
            "randomising: more waves narrow these intervals, a model does not."
        )
    return (
        f"No-go for personal arms: {reason}. Give everybody {best}{cost}: {told} over {control}. "
        f"Personal arms against it: {more}. Keep a randomised share, so that the next look knows "
        "more."
    )


def explained(compared: Comparison) -> EffectFit:
    """What a page explains: the chosen learner, or else one that stands for it, on the same pass.

    A forest's effects are ratios that no covariates add up to: for it, and for an average that it
    is part of, the doubly robust learner stands. S, T, the response ranker and ``flat`` have no
    stage of their own for effects: for them the linear one.
    """
    fit = compared.fit
    if compared.chosen in _EXPLAINED:
        return fit
    name: Learner = "dr" if compared.chosen in ("forest", "average") else "pooled"
    known = {part.learner: part for part in fit.passes[0].parts}
    part = known.get(name) or learn(fit.passes[0].nuisance, name)
    return replace(fit, learner=name, passes=(part,)).calibrate()


def strongest(fit: EffectFit, rows: pd.DataFrame, arm: str, most: int = 10) -> pd.DataFrame:
    """Covariates by how far they move the effects that a learner predicts.

    Args:
        fit: A learner with a stage of its own for effects, as from ``explained``.
        rows: Covariates of some customers.
        arm: Whose effect.
        most: Rows at most.

    Returns:
        ``covariate, size`` (mean absolute SHAP value), largest first; no rows where all customers
        are predicted the same effect.

    Raises:
        ContractError: As ``EffectFit.explain``.
    """
    values = fit.explain(rows, arm)
    sizes = values.drop(columns="everybody").abs().mean()
    sizes = sizes[sizes > 1e-9 * max(1.0, float(values["everybody"].abs().max()))]
    sizes = sizes.sort_values(ascending=False).head(most)
    return pd.DataFrame({"covariate": sizes.index, "size": sizes.to_numpy(float)})


def _a_head(known: Estimate, unit: str) -> str:
    """With as many decimals as the interval bears."""
    half = (known.ci_high - known.ci_low) / 2
    decimals = min(max(1 - floor(log10(half)), 0), 6) if half > 0 else 2
    ends = [f"{end:.{decimals}f}" for end in (known.value, known.ci_low, known.ci_high)]
    text = f"{ends[0]} {unit} a head ({ends[1]} to {ends[2]})"
    return text.replace("-", "\N{MINUS SIGN}")


def _money(value: float) -> str:
    return f"{value:,.0f}".replace("-", "\N{MINUS SIGN}")


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
