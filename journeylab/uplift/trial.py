"""Trial: who was given which arm by chance, and what came of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from scipy.special import chdtrc

from journeylab.errors import ContractError
from journeylab.uplift.covariates import Encoding, Features, learn_encoding
from journeylab.uplift.scores import Floats, Ints
from journeylab.uplift.settings import MOST_ARMS, pieces

Kind = Literal["binary", "continuous", "zero-inflated"]
Propensity = str | Mapping[str, float] | Mapping[str, str]
# Share of zeros from which an amount counts as zero-inflated.
_MANY_ZEROS = 0.5
FEWEST_IN_ARM = 20
# Constant shares are refused where counts so far off would come by chance less often than this.
_IMPOSSIBLE = 1e-6
# Shares such as .333 three times are meant to add up to 1.
_ROUNDED = 0.01
_CUSTOMER = "customer_id"


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """The rows of one trial, checked.

    Attributes:
        index: Of the frame.
        outcome: ``(rows,)``, in ``unit``.
        kind: Of the outcome.
        arm: ``(rows,)`` position in ``arms``.
        arms: Labels; the first is the control.
        chances: ``(rows, arms)``: chance of each arm; where only that of the arm given is known,
            the others are NaN.
        features: ``(rows, columns)``.
        encoding: Of the covariates.
        clusters: ``(rows,)`` from 0, or ``None``.
        unit: Of the outcome.
        observational: Whether the chances are guessed from data: then differences are no effects,
            unless everything that moved the choice is among the covariates.
    """

    index: pd.Index
    outcome: Floats
    kind: Kind
    arm: Ints
    arms: tuple[str, ...]
    chances: Floats
    features: Features
    encoding: Encoding
    clusters: Ints | None
    unit: str
    observational: bool

    def __len__(self) -> int:
        return len(self.outcome)

    @property
    def own_chance(self) -> Floats:
        """Chance of the arm that was given, ``(rows,)``."""
        return self.own_chance_at(slice(None))

    def own_chance_at(self, rows: slice) -> Floats:
        """The same of some rows."""
        return np.take_along_axis(self.chances[rows], self.arm[rows, None], axis=1)[:, 0]

    def take(self, rows: Ints) -> "Trial":
        """The same of some rows."""
        clusters = self.clusters
        if clusters is not None:
            clusters = np.unique(clusters[rows], return_inverse=True)[1].astype(np.int64)
        return Trial(
            self.index[rows], self.outcome[rows], self.kind, self.arm[rows], self.arms,
            self.chances[rows], self.features[rows], self.encoding, clusters, self.unit,
            self.observational,
        )  # fmt: skip


def read_trial(
    frame: pd.DataFrame,
    outcome: str,
    arm: str,
    control: str,
    covariates: Sequence[str],
    propensity: Propensity | Literal["estimate"],
    *,
    clusters: str | None = None,
    unit: str = "outcome",
    most_arms: int | None = MOST_ARMS,
) -> Trial:
    """Check a frame and take it apart.

    Args:
        frame: One row per customer (and per round, where ``clusters`` names the customer). A
            column or index called ``customer_id`` is taken for who the row is about.
        outcome: Column; numbers, none missing.
        arm: Column; labels as text.
        control: Label of the arm that effects are measured against.
        covariates: Columns known before the arm was drawn; numbers, flags or categories.
        propensity: Column with the chance of the arm *given*; or arm -> constant share; or arm ->
            column with the chance of that arm; or ``"estimate"``, which makes what follows
            observational. Constant shares are held against the counts of rows, or of clusters
            where each has one arm; where clusters have several, counts of rows prove nothing.
        clusters: Column; rows with the same value are not independent.
        unit: Of the outcome.
        most_arms: Beside the control; ``None`` for no limit.

    Raises:
        ContractError: A column is missing, or a row or arm cannot be used; the message counts them.
    """
    columns = [outcome, arm, *([clusters] if clusters else [])]
    if missing := [name for name in columns if name not in frame.columns]:
        raise ContractError(f"the frame lacks columns: {', '.join(missing)}")
    _refuse_leaks(frame, outcome, arm, covariates)
    given = frame[arm]
    if unknown := int(given.isna().sum()):
        raise ContractError(f"the arm is missing for {unknown} of {len(frame)} rows")
    number, found = pd.factorize(given)
    labels = [str(label) for label in found]
    counts = pd.Series(np.bincount(number, minlength=len(labels)), labels).groupby(level=0).sum()
    names = _arms(counts, str(control), most_arms)
    code = np.array([names.index(label) for label in labels], dtype=np.int16)[number]
    del number
    y = _outcome(frame[outcome])
    if clusters is None:
        _refuse_repeated(frame, code)
    estimated = isinstance(propensity, str) and propensity == "estimate"
    chances = (
        np.full((len(frame), len(names)), np.nan)
        if estimated
        else _chances(frame, code, names, propensity)
    )
    encoding = learn_encoding(frame, covariates)
    numbered = None
    if clusters is not None:
        numbered = np.asarray(pd.factorize(frame[clusters])[0], dtype=np.int64)
        if lost := int((numbered < 0).sum()):
            raise ContractError(f"{clusters} is missing for {lost} of {len(frame)} rows")
    if not isinstance(propensity, str):
        _refuse_impossible(propensity, code, names, numbered)
    return Trial(
        frame.index, y, kind_of(y), code, names, chances, encoding.encode(frame), encoding,
        numbered, unit, estimated,
    )  # fmt: skip


def kind_of(outcome: Floats) -> Kind:
    """What sort of outcome: 0 or 1; amounts of which most are 0; or any number."""
    if np.isin(outcome, (0.0, 1.0)).all():
        return "binary"
    if outcome.min() >= 0 and float((outcome == 0).mean()) >= _MANY_ZEROS:
        return "zero-inflated"
    return "continuous"


def _refuse_leaks(frame: pd.DataFrame, outcome: str, arm: str, covariates: Sequence[str]) -> None:
    for name, role in ((outcome, "outcome"), (arm, "arm")):
        if name in covariates:
            raise ContractError(f"the {role} {name!r} is among the covariates; leave it out")
    actual = frame[outcome]
    for name in covariates:
        if name not in frame.columns or not pd.api.types.is_numeric_dtype(frame[name]):
            continue
        if len(frame) > 2 and np.array_equal(frame[name].to_numpy(), actual.to_numpy()):
            raise ContractError(f"covariate {name!r} is the outcome {outcome!r} under another name")


def _arms(counts: pd.Series, control: str, most: int | None) -> tuple[str, ...]:
    if control not in counts.index:
        raise ContractError(
            f"nobody has the control {control!r}; arms are {', '.join(sorted(counts.index))}"
        )
    names = (control, *sorted(name for name in counts.index if name != control))
    if len(names) < 2:
        raise ContractError(f"there is no arm beside the control {control!r}")
    if small := [name for name in names if counts[name] < FEWEST_IN_ARM]:
        rows = int(counts[small].sum())
        told = ", ".join(f"{name} ({counts[name]})" for name in small[:5])
        raise ContractError(
            f"an arm needs {FEWEST_IN_ARM} rows or more; {len(small)} of {len(names)} have fewer, "
            f"{rows} rows in all: {told}; leave them out or join them to another arm"
        )
    if most is not None and len(names) - 1 > most:
        raise ContractError(
            f"{len(names) - 1} arms beside the control are more than the {most} that are learnt "
            "one by one; use learner='pooled', which shares strength between arms"
        )
    return names


def _outcome(column: pd.Series) -> Floats:
    if not (pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column)):
        raise ContractError(f"the outcome {column.name!r} must hold numbers; it is {column.dtype}")
    y = column.to_numpy(dtype=float, na_value=np.nan)
    if bad := int((~np.isfinite(y)).sum()):
        raise ContractError(
            f"the outcome is missing for {bad} of {len(y)} rows: their window may not have closed "
            "yet; leave late entrants out"
        )
    if len(y) == 0 or np.ptp(y) == 0:
        told = f"{y[0]:g} for all {len(y)} rows" if len(y) else "empty"
        raise ContractError(f"the outcome is {told}: there is no effect to learn")
    return np.asarray(y)


def _chances(frame: pd.DataFrame, code: Ints, names: tuple[str, ...], given: Propensity) -> Floats:
    n = len(frame)
    if isinstance(given, str):
        chances = np.full((n, len(names)), np.nan)
        if given not in frame.columns:
            raise ContractError(f"there is no propensity column {given!r}")
        own = frame[given].to_numpy(dtype=float, na_value=np.nan)
        chances[np.arange(n), code] = own
        if len(names) == 2:
            chances[np.arange(n), 1 - code] = 1 - own
    else:
        if missing := [name for name in names if name not in given]:
            raise ContractError(f"propensity lacks arms: {', '.join(missing)}")
        told = [given[name] for name in names]
        if any(isinstance(value, str) for value in told):
            chances = np.empty((n, len(names)))
            for place, value in enumerate(told):
                chances[:, place] = (
                    frame[value].to_numpy(float) if isinstance(value, str) else value
                )
        else:
            # One row that all share.
            chances = np.broadcast_to(np.array(told, dtype=float), (n, len(names)))
        if bad := sum(int((chances[rows].sum(axis=1) > 1 + 1e-6).sum()) for rows in pieces(n)):
            raise ContractError(f"propensities add up to more than 1 in {bad} of {n} rows")
    if bad := sum(_certain(chances[rows], code[rows]) for rows in pieces(n)):
        raise ContractError(
            f"propensities must lie inside (0, 1); {bad} of {n} do not: such rows had no chance of "
            "another arm and say nothing of an effect; leave them out"
        )
    if not isinstance(given, str):
        _refuse_closed(chances, names)
    return chances


def _certain(chances: Floats, code: Ints) -> int:
    """Rows whose own chance does not lie inside (0, 1)."""
    own = np.take_along_axis(chances, code[:, None], axis=1)
    return int((~((own > 0) & (own < 1))).sum())


def _refuse_closed(chances: Floats, names: tuple[str, ...]) -> None:
    """Rows that could not have got some arm: what it does to them is known from nobody."""
    by_arm, rows = np.zeros(len(names), dtype=np.int64), 0
    for piece in pieces(len(chances)):
        closed = ~((chances[piece] > 0) & (chances[piece] < 1))
        by_arm += closed.sum(axis=0)
        rows += int(closed.any(axis=1).sum())
    if not rows:
        return
    told = ", ".join(f"{names[at]} ({by_arm[at]} rows)" for at in np.flatnonzero(by_arm))
    raise ContractError(
        f"every row needs a chance inside (0, 1) of every arm; {rows} of {len(chances)} rows had "
        f"none of {told}, so nobody like them shows what it does: leave these rows out, or compare "
        "the arm only among those who could get it"
    )


def _refuse_repeated(frame: pd.DataFrame, code: Ints) -> None:
    """One customer in several rows: in two arms, or counted twice."""
    if _CUSTOMER in frame.columns:
        who = pd.Index(frame[_CUSTOMER])
    elif _CUSTOMER in frame.index.names:
        who = frame.index.get_level_values(_CUSTOMER)
    else:
        who = frame.index
    repeated = np.asarray(who.duplicated(keep=False))
    if not isinstance(who, pd.MultiIndex):
        repeated &= np.asarray(who.notna())
    # an index may repeat where the column does not: then rows could not be told apart
    if not repeated.any() and frame.index.has_duplicates:
        who, repeated = frame.index, frame.index.duplicated(keep=False)
    if not repeated.any():
        return
    number = pd.factorize(who[repeated], use_na_sentinel=False)[0]
    pairs = np.unique(np.column_stack([number, code[repeated]]), axis=0)
    several = int((np.bincount(pairs[:, 0]) > 1).sum())
    raise ContractError(
        f"{int(number.max()) + 1} customers have more than one row ({len(number)} rows), {several} "
        "of them in two arms or more: keep one arm each, or name the customer as clusters where "
        "they were drawn again each round"
    )


def _refuse_impossible(
    given: Mapping[str, float] | Mapping[str, str],
    code: Ints,
    names: tuple[str, ...],
    clusters: Ints | None,
) -> None:
    """Constant shares with which such counts do not come about.

    The likelihood-ratio statistic, whose tail stays right where few are expected, against
    chi-square; an arm that is promised and that nobody got counts as well.
    """
    shares = np.array([value for name in names if not isinstance(value := given[name], str)])
    if len(shares) < len(names):
        return
    units = "rows"
    if clusters is not None:
        each = np.zeros(int(clusters.max()) + 1, dtype=code.dtype)
        each[clusters] = code
        if (each[clusters] != code).any():
            return
        code, units = each, "clusters"
    total = float(shares.sum())
    shares = shares / total if total > 1 - _ROUNDED else shares
    counts = np.bincount(code, minlength=len(names))
    expected = shares * len(code)
    some = counts > 0
    statistic = 2 * float(counts[some] @ np.log(counts[some] / expected[some]))
    rest = int(total <= 1 - _ROUNDED)
    p = float(chdtrc(len(names) - 1 + rest, max(statistic, 0.0)))
    if p < _IMPOSSIBLE:
        told = ", ".join(
            f"{name} {count} of {len(code)} {units} ({count / len(code):.1%}), share {share:.1%}"
            for name, count, share in zip(names, counts, shares, strict=True)
        )
        raise ContractError(
            f"the counts contradict the shares (p = {p:.1g}): {told}. Give the shares with which "
            "these rows were drawn; if nobody drew them, there are none, and observational "
            "differences are not effects (observational_estimate, difference_in_differences)"
        )
