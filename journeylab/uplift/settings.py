"""Settings of the learners: what trees may do, and what changes with the number of rows."""

from collections.abc import Sequence
from dataclasses import dataclass

from journeylab.errors import ContractError

# Set once on invented worlds (benchmarks/uplift.py draws their like), never on hillstrom.
FINAL_PENALTY = 100.0
# From so many rows on, trees find a linear pattern by themselves and may be deeper.
MANY_ROWS = 100_000
# From so many rows on, each model learns from one fold and speaks for the others.
VERY_MANY_ROWS = 300_000
# More rows than this make the expected outcomes no better by an amount that a score would show.
NUISANCE_ROWS = 100_000
# Of so many rows of a fold one is set aside to say when trees are enough, where rows are many.
SET_ASIDE = 10
# Most rows that one check of a model is held against.
STOP_ROWS = 50_000
# Rows, evenly spread, whose covariates say where bins are cut.
CUT_ROWS = 50_000
# Rows that are copied at a time, so that no step needs all of them twice.
AT_A_TIME = 1 << 14
MOST_ARMS = 24


@dataclass(frozen=True, slots=True)
class Trees:
    """Boosted trees, stopped where the loss on rows they have not seen is least.

    Attributes:
        rounds: Most trees.
        depth: Splits from root to leaf.
        step: Share of each tree that is added (0-1].
        leaf: Fewest rows in a leaf (sum of weights, which average 1).
        penalty: Rows of "no effect beyond the average" added to each leaf.
        rows: Share of the rows each tree sees (0-1].
        columns: Share of the columns each split sees (0-1].
        bins: Most cut points of a column.
        look: Rounds between two looks at the loss.
        patience: Rounds without a smaller loss after which no tree is added.
    """

    rounds: int = 300
    depth: int = 2
    step: float = 0.06
    leaf: float = 100.0
    penalty: float = FINAL_PENALTY
    rows: float = 0.7
    columns: float = 0.7
    bins: int = 64
    look: int = 5
    patience: int = 30

    def __post_init__(self) -> None:
        _in_range(self, "trees", ("rounds", "depth", "look", "bins"), ("step", "rows", "columns"))
        if self.leaf < 0 or self.penalty < 0 or self.patience < 0:
            raise ContractError("trees: leaf, penalty and patience must be 0 or more")


@dataclass(frozen=True, slots=True)
class Forest:
    """Honest trees of one fold's model and one arm.

    Attributes:
        groves: Times that the units are divided in two halves, each of which grows trees that the
            other speaks through.
        trees: Trees of each half.
        depth: Splits from root to leaf.
        leaf: Fewest rows in a leaf, of those that grow the tree.
        rows: Share of its half that each tree sees (0-1].
        most: Rows that one tree sees at most.
        columns: Share of the columns each split sees (0-1].
        bins: Most cut points of a column.
    """

    groves: int = 3
    trees: int = 10
    depth: int = 8
    leaf: float = 20.0
    rows: float = 0.5
    most: int = 20_000
    columns: float = 0.7
    bins: int = 64

    def __post_init__(self) -> None:
        _in_range(self, "forest", ("groves", "trees", "depth", "most", "bins"), ("rows", "columns"))


def honest_trees(rows: int) -> Forest:
    """Trees of a forest; ``rows`` of an arm and the control.

    Leaves are few and large, for effects are faint, and hold a smaller part of the rows the more
    there are.
    """
    # Of the rows, a tree sees about a sixth: two folds of three, half of them, and half of those.
    return Forest(leaf=max(10.0, 2.0 * (rows / 6) ** 0.65))


def nuisance_trees(rows: int) -> Trees:
    """Trees for expected outcomes; ``rows`` they learn from."""
    depth, step = (4, 0.1) if rows >= 5_000 else (3, 0.1)
    return Trees(depth=depth, step=step, leaf=20, penalty=10, rows=1.0, columns=1.0)


def effect_trees(rows: int) -> Trees:
    """Trees for effects; ``rows`` of the trial. Effects are faint: few rows bear few splits."""
    if rows >= MANY_ROWS:
        return Trees(rounds=200, depth=4, step=0.1, leaf=200, penalty=200, rows=1.0, columns=1.0)
    leaf = max(20.0, min(100.0, rows / 100))
    return Trees(leaf=leaf, penalty=leaf)


def pieces(rows: int) -> list[slice]:
    """Stretches of rows small enough that a copy of one does not matter."""
    return [slice(first, first + AT_A_TIME) for first in range(0, max(rows, 1), AT_A_TIME)]


def _in_range(one: Trees | Forest, what: str, whole: Sequence[str], shares: Sequence[str]) -> None:
    if bad := [name for name in whole if getattr(one, name) < 1]:
        raise ContractError(f"{what}: {', '.join(bad)} must be 1 or more")
    if bad := [name for name in shares if not 0 < getattr(one, name) <= 1]:
        raise ContractError(f"{what}: {', '.join(bad)} must lie in (0, 1]")
