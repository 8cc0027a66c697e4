"""A few if/else rules for who gets which arm, valued on rows that did not grow them."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from journeylab.errors import ContractError
from journeylab.uplift.calibration import group_mean
from journeylab.uplift.policy_value import PolicyValue, policy_value
from journeylab.uplift.scores import Floats, Scores

_MOST_DEPTH = 3
_CUTS = 12
_MOST_LEVELS = 12
# Rows whose sums of products are taken at once.
_CHUNK = 50_000
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Question:
    """One yes/no question of a rule.

    Attributes:
        column: Covariate.
        at: Numbers: yes at this or below, no above and where it is missing. Text: yes if equal.
        numeric: Which of the two.
    """

    column: str
    at: float | str
    numeric: bool

    def asks(self, covariates: pd.DataFrame) -> Flags:
        """Yes or no for each row."""
        values = covariates[self.column]
        if self.numeric:
            return np.asarray(values.to_numpy(float, na_value=np.nan) <= float(self.at))
        return np.asarray(values.astype(str).to_numpy() == str(self.at))

    def words(self, answer: bool) -> str:
        """The question as a condition."""
        name = self.column.replace("_", " ")
        if self.numeric:
            return f"{name} {'at most' if answer else 'above'} {float(self.at):.6g}"
        return f"{name} {'is' if answer else 'is not'} {self.at}"


Conditions = tuple[tuple[Question, bool], ...]
Rules = tuple[tuple[Conditions, str], ...]


@dataclass(frozen=True, slots=True, eq=False)
class PolicyTree:
    """Rules for who gets which arm.

    Attributes:
        rules: One row per rule: ``rule`` (conditions in words), ``arm``; on rows that did not grow
            it: ``units, share`` (0-1), ``gain`` per head of the rule's arm against the best
            constant arm, with ``standard_error, ci_low, ci_high``.
        value: Of the whole policy beside constant arms, on the same rows.
        grown_on, valued_on: Rows of either part.
        depth: As grown; less than asked where splits would not help.
        leaves: Each rule's questions with their answers, and its arm.
    """

    rules: pd.DataFrame
    value: PolicyValue
    grown_on: int
    valued_on: int
    depth: int
    leaves: Rules

    def assign(self, covariates: pd.DataFrame) -> pd.Series:
        """The arm of each row, with the index of ``covariates``."""
        return _assigned(self.leaves, covariates)

    def text(self) -> str:
        """The rules as lines to read."""
        rules = zip(self.rules["rule"], self.rules["arm"], strict=True)
        return "\n".join(f"if {rule}: {arm}" for rule, arm in rules)


def policy_tree(
    scores: Scores,
    covariates: pd.DataFrame,
    depth: int = 2,
    *,
    rng: int | np.random.Generator,
    grow_share: float = 0.5,
    fewest: int = 50,
    level: float = 0.95,
) -> PolicyTree:
    """Grow rules on one part of the units and value them on the other.

    At depth 1 and 2 the best tree over all candidate questions is found exactly; at depth 3 the
    first question is that of the best tree of depth 2, and each side gets its best tree of depth
    2. Candidates are up to 12 quantiles of a number and up to 12 values of a text. A split that
    leads to one arm on both sides is folded up.

    Args:
        scores: Of all arms; ``priced`` where arms differ in cost.
        covariates: One row per unit, known before assignment; numbers (a gap answers no)
            or text.
        depth: Questions in a row, 1 to 3.
        rng: Seed or generator that splits the units; clusters stay whole.
        grow_share: Share of the units (0-1) that grows the tree.
        fewest: Rows of the growing part that each rule must hold.
        level: Coverage of the intervals (0-1).

    Raises:
        ContractError: The depth is not 1 to 3, the index differs, no covariate takes two values, or
            there are too few rows for one split.

    Source:
        Zhou, Athey & Wager, "Offline Multi-Action Policy Learning" (2023); the R package
        policytree.
    """
    if not 1 <= depth <= _MOST_DEPTH:
        raise ContractError(f"depth must be 1 to {_MOST_DEPTH}; got {depth}")
    if not covariates.index.equals(scores.index):
        raise ContractError(
            f"covariates have another index than the scores: {len(covariates)} rows against "
            f"{len(scores)}"
        )
    grows = _part(scores, grow_share, rng)
    if min(int(grows.sum()), int((~grows).sum())) < 2 * fewest:
        raise ContractError(
            f"{int(grows.sum())} rows to grow and {int((~grows).sum())} to value: both need "
            f"{2 * fewest} for one split"
        )
    tests = _candidates(covariates[grows])
    asked = np.column_stack([test.asks(covariates[grows]) for test in tests])
    reward = scores.values[grows]
    leaves = _folded(_grown(asked, reward, depth, fewest))
    named = tuple(
        (tuple((tests[number], answer) for number, answer in conditions), scores.arms[arm])
        for conditions, arm in leaves
    )
    rest = scores.take(~grows)
    other = covariates[~grows]
    value = policy_value(rest, _assigned(named, other), level=level)
    return PolicyTree(
        rules=_rules(rest, other, named, value.best_constant, level),
        value=value,
        grown_on=int(grows.sum()),
        valued_on=len(rest),
        depth=max((len(conditions) for conditions, _ in named), default=0),
        leaves=named,
    )


def _holds(conditions: Conditions, covariates: pd.DataFrame) -> Flags:
    own = np.ones(len(covariates), dtype=bool)
    for question, answer in conditions:
        own &= question.asks(covariates) == answer
    return own


def _assigned(leaves: Rules, covariates: pd.DataFrame) -> pd.Series:
    arm = np.empty(len(covariates), dtype=object)
    for conditions, name in leaves:
        arm[_holds(conditions, covariates)] = name
    return pd.Series(arm, covariates.index, name="arm")


def _words(conditions: Conditions) -> str:
    """Conditions as text; of several limits on one number the tightest of each kind."""
    tightest: dict[tuple[str, object], tuple[Question, bool]] = {}
    for question, answer in conditions:
        key = (question.column, answer if question.numeric else question.at)
        held = tightest.get(key)
        if held is not None and question.numeric:
            limits = [float(held[0].at), float(question.at)]
            if float(held[0].at) == (min(limits) if answer else max(limits)):
                continue
        tightest[key] = (question, answer)
    return " and ".join(q.words(answer) for q, answer in tightest.values()) or "everybody"


def _rules(
    rest: Scores,
    covariates: pd.DataFrame,
    leaves: Rules,
    best: str,
    level: float,
) -> pd.DataFrame:
    rows = []
    for conditions, arm in leaves:
        own = _holds(conditions, covariates)
        gain = rest.values[:, rest.position(arm)] - rest.values[:, rest.position(best)]
        if (units := int(own.sum())) < 2:
            continue
        found = group_mean(rest, gain, own)
        known = found.estimate(level)
        rows.append(
            {
                "rule": _words(conditions),
                "arm": arm,
                "units": units,
                "share": units / len(rest),
                "gain": known.value,
                "standard_error": found.standard_error,
                "ci_low": known.ci_low,
                "ci_high": known.ci_high,
            }
        )
    return pd.DataFrame(rows)


def _part(scores: Scores, share: float, rng: int | np.random.Generator) -> Flags:
    """Whether each unit grows the tree; clusters whole."""
    if not 0 < share < 1:
        raise ContractError(f"grow_share must lie in (0, 1); got {share}")
    unit = np.arange(len(scores)) if scores.clusters is None else scores.clusters
    units = int(unit.max()) + 1
    chosen = np.zeros(units, dtype=bool)
    chosen[np.random.default_rng(rng).permutation(units)[: round(share * units)]] = True
    return np.asarray(chosen[unit])


def _candidates(covariates: pd.DataFrame) -> list[Question]:
    tests: list[Question] = []
    for name in covariates.columns:
        values = covariates[name]
        if pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values):
            numbers = values.to_numpy(float, na_value=np.nan)
            numbers = numbers[np.isfinite(numbers)]
            if not numbers.size:
                continue
            inner = np.linspace(0, 1, _CUTS + 2)[1:-1]
            cuts = np.unique(np.quantile(numbers, inner, method="lower"))
            tests += [Question(str(name), float(cut), True) for cut in cuts if cut < numbers.max()]
        else:
            often = values.astype(str).value_counts().head(_MOST_LEVELS).index
            tests += [Question(str(name), level, False) for level in sorted(often)]
    if not tests:
        raise ContractError("no covariate takes two values: there is nothing to ask")
    return tests


Leaves = list[tuple[tuple[tuple[int, bool], ...], int]]


def _grown(asked: Flags, reward: Floats, depth: int, fewest: int) -> Leaves:
    """Leaves of the best tree: conditions and the position of an arm."""
    whole: Leaves = [((), int(reward.sum(axis=0).argmax()))]
    if depth == 0 or len(reward) < 2 * fewest:
        return whole
    first, value = _best_first(asked, reward, min(depth, 2), fewest)
    if first is None or value <= reward.sum(axis=0).max() + 1e-9 * np.abs(reward).sum():
        return whole
    leaves: Leaves = []
    for answer in (True, False):
        own = asked[:, first] == answer
        for conditions, arm in _grown(asked[own], reward[own], depth - 1, fewest):
            leaves.append((((first, answer), *conditions), arm))
    return leaves


def _best_first(asked: Flags, reward: Floats, depth: int, fewest: int) -> tuple[int | None, float]:
    """First question of the best tree of depth 1 or 2, and the tree's total reward."""
    n = len(reward)
    total, size = reward.sum(axis=0), float(n)
    yes = asked.T.astype(float) @ reward
    count = asked.sum(axis=0).astype(float)
    allowed = (count >= fewest) & (size - count >= fewest)
    if not allowed.any():
        return None, -np.inf
    split = np.where(allowed, yes.max(axis=1) + (total - yes).max(axis=1), -np.inf)
    if depth == 1:
        return int(split.argmax()), float(split.max())
    both, both_count = _products(asked, reward)
    one_yes, one_count = yes[:, None, :], count[:, None]
    sides = []
    for inner, inner_count, outer, outer_count in (
        (both, both_count, one_yes, one_count),
        (
            yes[None, :, :] - both,
            count[None, :] - both_count,
            total - one_yes,
            size - one_count,
        ),
    ):
        rest, rest_count = outer - inner, outer_count - inner_count
        second = np.where(
            (inner_count >= fewest) & (rest_count >= fewest),
            inner.max(axis=2) + rest.max(axis=2),
            -np.inf,
        ).max(axis=1)
        sides.append(np.maximum(second, np.broadcast_to(outer, inner.shape)[:, 0, :].max(axis=1)))
    value = np.where(allowed, sides[0] + sides[1], -np.inf)
    return int(value.argmax()), float(value.max())


def _products(asked: Flags, reward: Floats) -> tuple[Floats, Floats]:
    """Reward per arm, and rows, where two questions are both answered yes."""
    tests, arms = asked.shape[1], reward.shape[1]
    both, count = np.zeros((tests, tests, arms)), np.zeros((tests, tests))
    for start in range(0, len(asked), _CHUNK):
        part = asked[start : start + _CHUNK].astype(float)
        count += part.T @ part
        for arm in range(arms):
            both[:, :, arm] += part.T @ (part * reward[start : start + _CHUNK, arm, None])
    return both, count


def _folded(leaves: Leaves) -> Leaves:
    """Two leaves of the same arm that differ in their last answer only become one."""
    while True:
        for left in leaves:
            conditions, arm = left
            if not conditions:
                continue
            twin = ((*conditions[:-1], (conditions[-1][0], not conditions[-1][1])), arm)
            if twin in leaves:
                at = min(leaves.index(left), leaves.index(twin))
                leaves = [leaf for leaf in leaves if leaf not in (left, twin)]
                leaves.insert(at, (conditions[:-1], arm))
                break
        else:
            return leaves
