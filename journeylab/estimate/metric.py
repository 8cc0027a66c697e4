"""What a test measures on each customer: where the number comes from and how it is summed up."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import Literal, get_args

from journeylab.errors import ContractError

Kind = Literal["mean", "proportion", "ratio", "quantile", "path"]
Direction = Literal["up", "down"]
Covariate = str | tuple[str, str]

BEFORE = "before"
"""As a covariate: the metric itself, measured before the exposure."""


def before(source: str) -> str:
    """Name of the column with ``source`` measured before the exposure."""
    return f"{source} {BEFORE}"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric of a test; made by ``mean``, ``proportion``, ``ratio`` or ``quantile``.

    A metric reads columns of a table with one row per customer. What ``frames.trial`` makes of
    assignments, orders and events names its columns after the sources given here.

    Attributes:
        name: What reports call it.
        kind: ``mean``: the mean of ``of`` over customers. ``proportion``: the share of customers
            with ``of`` above zero. ``ratio``: the sum of ``of`` over the sum of ``per``.
            ``quantile``: the quantile ``q`` of ``of``. ``path``: ``of`` day by day.
        of: Source, which is also the column: ``orders`` (how many), ``orders.amount`` (their
            sum, before returns), ``orders.margin`` (amounts less costs), ``events:<name>`` (how
            many events of that name), ``outcomes:<metric>``, or any column of your own.
        per: Source below the line of a ratio, else empty.
        covariates: Columns known before the exposure, for adjustment; a pair of columns within the
            sequence is their ratio; ``"before"`` is the metric itself before the exposure. A
            missing covariate counts as zero.
        cap: Quantile (0-1) over customers of all arms, zeros included, above which ``of`` counts
            as that quantile, before the exposure too; ``None`` leaves it as it is.
        cap_at: The value of that quantile, frozen, in ``unit``. While it is ``None`` the
            quantile is taken from the data at hand.
        q: The quantile of a quantile metric (0-1).
        direction: Which way is better.
        unit: What one unit of ``of`` is.
        days: Of a ``path``, made by ``by_day``: how many days lie side by side.
    """

    name: str
    kind: Kind
    of: str
    per: str = ""
    covariates: tuple[Covariate, ...] = ()
    cap: float | None = None
    cap_at: float | None = None
    q: float | None = None
    direction: Direction = "up"
    unit: str = ""
    days: int = 0

    def __post_init__(self) -> None:
        if not self.name or not self.of:
            raise ContractError("a metric needs a name and the source it is made of")
        if self.kind not in get_args(Kind):
            raise ContractError(f"{self.name}: there is no kind of metric called {self.kind!r}")
        if (self.kind == "ratio") != bool(self.per):
            raise ContractError(
                f"{self.name}: a ratio needs 'per', and nothing else has one; got {self.per!r}"
            )
        if (self.kind == "quantile") != (self.q is not None):
            raise ContractError(f"{self.name}: a quantile needs 'q', and nothing else has one")
        if self.q is not None and not 0 < self.q < 1:
            raise ContractError(f"{self.name}: q must lie in (0, 1); got {self.q}")
        if self.cap is not None and not 0 < self.cap < 1:
            raise ContractError(f"{self.name}: cap must lie in (0, 1); got {self.cap}")
        if self.cap_at is not None and not isfinite(self.cap_at):
            raise ContractError(f"{self.name}: cap_at must be finite; got {self.cap_at}")
        if self.kind in ("proportion", "quantile") and (self.cap, self.cap_at) != (None, None):
            raise ContractError(f"{self.name}: a {self.kind} has no tail to cap")
        if self.kind == "quantile" and self.covariates:
            raise ContractError(f"{self.name}: a quantile is not adjusted; drop its covariates")
        if (self.kind == "path") != (self.days > 1):
            raise ContractError(f"{self.name}: a path has days, two or more; got {self.days}")
        if self.direction not in ("up", "down"):
            raise ContractError(f"{self.name}: direction must be up or down; got {self.direction}")
        if len(set(self.covariates)) < len(self.covariates):
            raise ContractError(f"{self.name}: a covariate is named twice: {self.covariates}")

    @classmethod
    def mean(
        cls,
        name: str,
        of: str = "",
        *,
        covariate: str | Sequence[Covariate] = (),
        cap: float | None = None,
        cap_at: float | None = None,
        direction: Direction = "up",
        unit: str = "",
    ) -> "Metric":
        """Mean of ``of`` (by default the column ``name``) over all customers, zeros included."""
        given = _several(covariate)
        return cls(name, "mean", of or name, "", given, cap, cap_at, None, direction, unit)

    @classmethod
    def proportion(
        cls,
        name: str,
        of: str = "",
        *,
        covariate: str | Sequence[Covariate] = (),
        direction: Direction = "up",
        unit: str = "share",
    ) -> "Metric":
        """Share (0-1) of customers with ``of`` (by default the column ``name``) above zero."""
        given = _several(covariate)
        return cls(name, "proportion", of or name, "", given, None, None, None, direction, unit)

    @classmethod
    def ratio(
        cls,
        name: str,
        of: str,
        per: str,
        *,
        covariate: str | Sequence[Covariate] = (),
        cap: float | None = None,
        cap_at: float | None = None,
        direction: Direction = "up",
        unit: str = "",
    ) -> "Metric":
        """Sum of ``of`` over sum of ``per``, such as revenue per order; a cap is put on ``of``."""
        given = _several(covariate)
        return cls(name, "ratio", of, per, given, cap, cap_at, None, direction, unit)

    @classmethod
    def quantile(
        cls, name: str, of: str, q: float, *, direction: Direction = "up", unit: str = ""
    ) -> "Metric":
        """Quantile ``q`` (0-1) of ``of`` over customers."""
        return cls(name, "quantile", of, "", (), None, None, q, direction, unit)

    def frozen(self, cap_at: float) -> "Metric":
        """The same metric with the value of its cap fixed, in ``unit``."""
        return replace(self, cap_at=float(cap_at))

    def within(self, days: int) -> "Metric":
        """The same metric over the first ``days`` days of the window, without covariates."""
        return self._over(f"within {days} days", f"{self.name}, first {days} days")

    def on_day(self, day: int) -> "Metric":
        """The same metric on one day of the window (0: that of the exposure), no covariates."""
        return self._over(f"on day {day}", f"{self.name}, day {day}")

    def by_day(self, days: int) -> "Metric":
        """The first ``days`` days of the window side by side, for ``experiments.effect_path``.

        Its moments hold the cross-products of all days, so that slopes and sums over days have
        exact intervals. No cap, no covariates.
        """
        if self.kind != "mean" or days < 2:
            raise ContractError(f"{self.name}: only a mean has days, two or more; got {days}")
        name = f"{self.name} by day"
        return Metric(
            name, "path", self.of, days=days, direction=self.direction, unit=self.unit
        )  # fmt: skip

    def _over(self, span: str, name: str) -> "Metric":
        per = f"{self.per} {span}" if self.per else ""
        return replace(self, name=name, of=f"{self.of} {span}", per=per, covariates=())

    def plain(self) -> "Metric":
        """The same metric without covariates."""
        return replace(self, covariates=())

    @property
    def own_columns(self) -> tuple[str, ...]:
        """Columns of the outcome: ``of``, and ``per`` of a ratio; of a path its days."""
        if self.kind == "path":
            return tuple(f"{self.of} on day {day}" for day in range(self.days))
        return (self.of, self.per) if self.per else (self.of,)

    @property
    def covariate_columns(self) -> tuple[tuple[str, ...], ...]:
        """Columns of each covariate: one, or two for a ratio."""
        return tuple(self._columns_of(covariate) for covariate in self.covariates)

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns whose moments the metric needs, the outcome's own first, none twice."""
        flat = (*self.own_columns, *(name for pair in self.covariate_columns for name in pair))
        return tuple(dict.fromkeys(flat))

    @property
    def outcome_columns(self) -> tuple[str, str]:
        """``of`` during and before: both are capped, and both are 0 or 1 in a proportion."""
        return (self.of, before(self.of))

    def _columns_of(self, covariate: Covariate) -> tuple[str, ...]:
        if covariate == BEFORE:
            return tuple(before(name) for name in self.own_columns)
        return (covariate,) if isinstance(covariate, str) else tuple(covariate)


def _several(covariate: str | Sequence[Covariate]) -> tuple[Covariate, ...]:
    return (covariate,) if isinstance(covariate, str) else tuple(covariate)
