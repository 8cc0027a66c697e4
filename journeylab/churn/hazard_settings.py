"""How the trees of a hazard model grow."""

from dataclasses import asdict, dataclass

from journeylab.errors import ContractError


@dataclass(frozen=True, slots=True)
class HazardSettings:
    """Settings of the boosting; counts of events make them mean the same at every size.

    Attributes:
        rounds: Trees (per cause, where there are several).
        depth: Splits from root to leaf, at most.
        eta: Share of each tree's correction that is taken.
        least_events: A leaf holds at least about this many expected events.
        shrinkage: Expected events without a difference that are added to every leaf.
        subsample: Share of the rows that each tree sees.
        columns: Share of the columns that each tree sees.
        cuts: Thresholds considered per column, at most.
        threads: Of the trees; the bytes of a fit do not depend on them.
    """

    rounds: int = 160
    depth: int = 5
    eta: float = 0.12
    least_events: float = 10.0
    shrinkage: float = 5.0
    subsample: float = 0.6
    columns: float = 0.8
    cuts: int = 64
    threads: int = 1

    def __post_init__(self) -> None:
        whole = {"rounds": 0, "depth": 1, "cuts": 2, "threads": 1}
        for name, least in whole.items():
            if getattr(self, name) < least:
                raise ContractError(f"{name} must be at least {least}; got {getattr(self, name)}")
        for name in ("eta", "subsample", "columns"):
            if not 0 < getattr(self, name) <= 1:
                raise ContractError(f"{name} must lie in (0, 1]; got {getattr(self, name)}")
        for name in ("least_events", "shrinkage"):
            if getattr(self, name) < 0:
                raise ContractError(f"{name} must be 0 or more; got {getattr(self, name)}")

    def as_dict(self) -> dict[str, int | float]:
        """Name -> value."""
        return asdict(self)


# For trees with one output per bin, whose leaves share their events among the bins.
VECTOR = HazardSettings(rounds=120, eta=0.15, least_events=50.0, shrinkage=100.0)
