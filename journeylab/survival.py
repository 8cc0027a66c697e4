"""Survival curves from counts: how many were still waiting at each time, and how many stopped.

Every estimator here reads a frame of *counts*, one row per distinct time, never one row per
person: the engine can make it from a hundred million rows, ``count_events`` makes it from a few.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import ndtri

from journeylab.errors import ContractError

Floats = npt.NDArray[np.float64]
# influence values held at once by clustered_kaplan_meier: 16 MB
_INFLUENCE_CELLS = 2_000_000


@dataclass(frozen=True, slots=True)
class ReadOff:
    """A time read off a curve, with its interval.

    Attributes:
        value: In the curve's unit of time; ``None`` where the curve does not get that far.
        ci_low, ci_high: Ends of the interval; ``None`` where the band does not get that far.
        follow_up: The last time of the curve.
        level: Coverage the interval aims at (0-1).
    """

    value: float | None
    ci_low: float | None
    ci_high: float | None
    follow_up: float
    level: float = 0.95

    def __str__(self) -> str:
        if self.value is None:
            return f"not reached by {self.follow_up:g}"
        low, high = ("?" if end is None else f"{end:.4g}" for end in (self.ci_low, self.ci_high))
        return f"{self.value:.4g} ({low} to {high})"


def count_events(
    durations: npt.ArrayLike, events: npt.ArrayLike, entry: npt.ArrayLike | None = None
) -> pd.DataFrame:
    """Count who stopped and who was lost from sight at each distinct time.

    Args:
        durations: One time per row, from the start until the event or until sight was lost.
        events: 1 where the event was seen, 0 where the row is censored.
        entry: Time from which a row was watched (left truncation); 0 for rows watched from the
            start. By default all are.

    Returns:
        One row per distinct time, ascending: ``time``, ``events``, ``censored`` and, with
        ``entry``, how many came under watch at that time as ``entry``.

    Raises:
        ContractError: No rows, a negative or missing duration, an event that is neither 0 nor 1,
            or an entry that is not before its duration.
    """
    time = _durations(durations)
    seen = _numbers(events, "events", len(time))
    if outside := int((~np.isin(seen, (0.0, 1.0))).sum()):
        raise ContractError(
            f"events must be 0 (censored) or 1 (seen); {outside} of {len(seen)} rows are neither"
        )
    rows = pd.DataFrame({"time": time, "events": seen.astype(int)})
    rows["censored"] = 1 - rows["events"]
    if entry is None:
        return rows.groupby("time", as_index=False).sum()
    start = _numbers(entry, "entry", len(time))
    if late := int((~((start >= 0) & ((start < time) | (start == 0)))).sum()):
        raise ContractError(
            f"entry must lie in [0, duration); {late} of {len(time)} rows do not: nobody can be "
            "watched only after the end"
        )
    entries = pd.DataFrame({"time": start, "events": 0, "censored": 0, "entry": 1})
    both = pd.concat([rows.assign(entry=0), entries], ignore_index=True)
    return both.groupby("time", as_index=False).sum()


def count_causes(
    durations: npt.ArrayLike, causes: npt.ArrayLike, censored: str | int = ""
) -> pd.DataFrame:
    """Count, at each distinct time, who stopped for which cause.

    Args:
        durations: One time per row.
        causes: What ended the row; ``censored`` (or a missing value) where nothing did.
        censored: The label of a row without an event.

    Returns:
        One row per distinct time, ascending: ``time``, ``censored``, then one column per cause,
        named after it, in sorted order.

    Raises:
        ContractError: No rows, a negative or missing duration, or no cause at all.
    """
    time = _durations(durations)
    cause = pd.Series(np.asarray(causes))
    if len(cause) != len(time):
        raise ContractError(f"{len(time)} durations but {len(cause)} causes")
    ended = cause.notna() & (cause != censored)
    if not ended.any():
        raise ContractError(f"no cause in any of {len(time)} rows: use count_events instead")
    labels = cause.astype(str)
    rows = pd.DataFrame({"time": time, "censored": (~ended).astype(int)})
    for label in sorted(labels[ended].unique()):
        if label in ("time", "censored", "entry"):
            raise ContractError(f"a cause cannot be named {label!r}: counts have that column")
        rows[label] = (ended & (labels == label)).astype(int)
    return rows.groupby("time", as_index=False).sum()


def kaplan_meier(counts: pd.DataFrame, level: float = 0.95) -> pd.DataFrame:
    """Chance of still waiting after each time, from counts.

    Args:
        counts: ``time``, ``events``, ``censored``, optionally ``entry``; one row per time.
        level: Coverage of the pointwise interval (0-1).

    Returns:
        One row per time, the first at time 0: ``time``, ``at_risk`` (just before the time),
        ``events``, ``censored``, ``survival``, ``std_error`` (Greenwood), ``ci_low``, ``ci_high``
        (on the log(-log) scale, so within [0, 1]; a survival of exactly 0 or 1 has no width).

    Raises:
        ContractError: Counts that are missing, negative, duplicated in time or do not add up.

    Source:
        Kaplan & Meier (1958); Greenwood (1926); Kalbfleisch & Prentice (2002), section 1.4.
    """
    curve = _risk_table(counts, ("events",))
    n, d = curve["at_risk"].to_numpy(float), curve["events"].to_numpy(float)
    survival: Floats = np.cumprod(1 - _ratio(d, n), dtype=np.float64)
    # where everybody at risk stops, the survival is 0 and has no width
    std_error: Floats = survival * np.sqrt(np.cumsum(_ratio(d, n * (n - d))))
    return _with_interval(curve, survival, std_error, level)


def clustered_kaplan_meier(
    durations: npt.ArrayLike,
    events: npt.ArrayLike,
    clusters: npt.ArrayLike,
    level: float = 0.95,
) -> pd.DataFrame:
    """Kaplan-Meier of rows of which several belong to the same customer.

    The curve is the ordinary one. Its standard error is the infinitesimal jackknife: what each
    row adds to the curve is summed within its cluster before it is squared, times
    clusters / (clusters - 1). With one row per cluster that factor is all that separates it from
    Greenwood's.

    Args:
        durations: One time per row.
        events: 1 where the event was seen, 0 where the row is censored.
        clusters: To whom each row belongs.
        level: Coverage of the pointwise interval (0-1).

    Returns:
        The columns of ``kaplan_meier``. With a single cluster nothing is known about variation:
        the standard error is infinite and the interval is 0 to 1.

    Raises:
        ContractError: As ``count_events``; or a row without a cluster.

    Source:
        Williams (1995), "Product-limit survival functions with correlated survival times".
    """
    time, seen = _durations(durations), np.asarray(events, float)
    curve = kaplan_meier(count_events(time, seen), level)
    code, names = pd.factorize(np.asarray(clusters))
    if len(code) != len(time):
        raise ContractError(f"{len(time)} durations but {len(code)} clusters")
    if unknown := int((code < 0).sum()):
        raise ContractError(f"{unknown} of {len(code)} rows belong to no cluster")
    grid = curve["time"].to_numpy(float)
    n, d = curve["at_risk"].to_numpy(float), curve["events"].to_numpy(float)
    survival = curve["survival"].to_numpy(float)
    per_event = _ratio(np.ones_like(n), n - d)
    compensator = np.cumsum(_ratio(d, n * (n - d)))

    order = np.argsort(code, kind="stable")
    code, position = code[order], np.searchsorted(grid, time[order])
    seen = seen[order]
    variance = np.zeros(len(grid))
    rows_at_once = max(1, _INFLUENCE_CELLS // len(grid))
    begin = 0
    columns = np.arange(len(grid))
    while begin < len(code):
        # a chunk ends where a cluster ends, so that no cluster is cut in two
        last = min(begin + rows_at_once, len(code)) - 1
        end = int(np.searchsorted(code, code[last], side="right"))
        at = position[begin:end, None]
        jump = (seen[begin:end] * per_event[position[begin:end]])[:, None] * (columns >= at)
        influence = jump - compensator[np.minimum(columns, at)]
        starts = np.flatnonzero(np.diff(code[begin:end], prepend=-1))
        variance += np.square(np.add.reduceat(influence, starts, axis=0)).sum(axis=0)
        begin = end
    if len(names) == 1:
        within = (survival > 0) & (survival < 1)
        blind = {
            "std_error": np.where(within, np.inf, 0.0),
            "ci_low": np.where(within, 0.0, survival),
        }
        return curve.assign(**blind, ci_high=np.where(within, 1.0, survival))
    std_error = survival * np.sqrt(variance * len(names) / (len(names) - 1))
    return _with_interval(
        curve[["time", "at_risk", "events", "censored"]], survival, std_error, level
    )


def nelson_aalen(
    counts: pd.DataFrame,
    level: float = 0.95,
    ties: Literal["together", "one_by_one"] = "together",
) -> pd.DataFrame:
    """Cumulative hazard: how often the event would have struck by each time, from counts.

    Args:
        counts: As in ``kaplan_meier``.
        level: Coverage of the pointwise interval (0-1), on the log scale.
        ties: ``together``: d of n at one time add d/n (time is discrete, e.g. days).
            ``one_by_one``: they add 1/n + 1/(n-1) + ... (time is continuous and was rounded).

    Returns:
        One row per time, the first at time 0: ``time``, ``at_risk``, ``events``, ``censored``,
        ``cumulative_hazard``, ``std_error``, ``ci_low``, ``ci_high``.

    Raises:
        ContractError: As ``kaplan_meier``.

    Source:
        Aalen (1978); Fleming & Harrington (1984) for ``one_by_one``; Klein (1991), variances.
    """
    curve = _risk_table(counts, ("events",))
    n, d = curve["at_risk"].to_numpy(float), curve["events"].to_numpy(float)
    if ties == "together":
        step, square = _ratio(d, n), _ratio((n - d) * d, n**3)
    else:
        whole = np.arange(1, int(n.max(initial=0)) + 1)
        once = np.concatenate([[0.0], np.cumsum(1 / whole)])
        twice = np.concatenate([[0.0], np.cumsum(1 / whole**2)])
        high, low = n.astype(int), (n - d).astype(int)
        step, square = once[high] - once[low], twice[high] - twice[low]
    hazard, std_error = np.cumsum(step), np.sqrt(np.cumsum(square))
    factor = np.exp(_z(level) * _ratio(std_error, hazard))
    return curve.assign(
        cumulative_hazard=hazard,
        std_error=std_error,
        ci_low=hazard / factor,
        ci_high=hazard * factor,
    )


def aalen_johansen(
    counts: pd.DataFrame, causes: Sequence[str], level: float = 0.95
) -> pd.DataFrame:
    """Cumulative incidence of each of several causes that exclude one another, from counts.

    Args:
        counts: ``time``, ``censored``, one column of counts per cause, optionally ``entry``.
        causes: The names of those columns.
        level: Coverage of the pointwise interval (0-1), on the log(-log) scale.

    Returns:
        One row per cause and time, causes in the given order, each from time 0: ``cause``,
        ``time``, ``at_risk``, ``events`` (of this cause), ``incidence``, ``std_error``,
        ``ci_low``, ``ci_high`` and ``survival`` (no cause yet). At every time the incidences and
        the survival add up to 1.

    Raises:
        ContractError: As ``kaplan_meier``; or no cause is named.

    Source:
        Aalen & Johansen (1978); variance by the delta method, Marubini & Valsecchi (1995),
        section 10.2, which is exact for ties between causes.
    """
    if not causes:
        raise ContractError("name at least one cause")
    table = _risk_table(counts, tuple(causes))
    n = table["at_risk"].to_numpy(float)
    d = table[list(causes)].to_numpy(float).sum(axis=1)
    survival = np.cumprod(1 - _ratio(d, n))
    before = np.concatenate([[1.0], survival[:-1]])
    curves = []
    for cause in causes:
        d_j = table[cause].to_numpy(float)
        incidence = np.cumsum(before * _ratio(d_j, n))
        a, b = _ratio(d, n * (n - d)), before * _ratio(d_j, n**2)
        squares = np.cumsum(a) * incidence**2 - 2 * incidence * np.cumsum(a * incidence)
        squares += np.cumsum(a * incidence**2)
        own = np.cumsum(before**2 * _ratio(d_j * (n - d_j), n**3))
        crossed = np.cumsum(b) * incidence - np.cumsum(b * incidence)
        std_error = np.sqrt(np.maximum(squares + own - 2 * crossed, 0))
        # rounding may leave 1 + 1e-16, whose double logarithm does not exist
        ci_low, ci_high = _log_log_interval(np.minimum(incidence, 1), std_error, level)
        curve = table[["time", "at_risk"]].assign(events=table[cause], incidence=incidence)
        curve = curve.assign(std_error=std_error, ci_low=ci_low, ci_high=ci_high, survival=survival)
        curve.insert(0, "cause", cause)
        curves.append(curve)
    return pd.concat(curves, ignore_index=True)


def survival_at(curve: pd.DataFrame, times: Sequence[float]) -> pd.DataFrame:
    """Read a Kaplan-Meier curve at chosen times.

    Args:
        curve: From ``kaplan_meier`` or ``clustered_kaplan_meier``.
        times: Any times from 0 to the end of follow-up, in the curve's unit.

    Returns:
        One row per asked time, in the order asked: ``time``, ``at_risk`` (just before it),
        ``survival``, ``ci_low``, ``ci_high``.

    Raises:
        ContractError: A time is negative, or lies past the last time of a curve that has not
            come down to 0: nobody was watched that long.
    """
    asked, grid = np.asarray(times, float), curve["time"].to_numpy(float)
    beyond = asked[(asked > grid[-1]) & (curve["survival"].iloc[-1] > 0)]
    if len(beyond):
        raise ContractError(
            f"survival at {beyond.min():g} cannot be read: follow-up ends at {grid[-1]:g}; ask "
            "for an earlier time or start the watch earlier"
        )
    if negative := int((~(asked >= 0)).sum()):
        raise ContractError(f"times must be 0 or later; {negative} of {len(asked)} are not")
    read = curve.iloc[np.searchsorted(grid, asked, side="right") - 1]
    return pd.DataFrame(
        {
            "time": asked,
            "at_risk": at_risk_at(curve, times),
            "survival": read["survival"].to_numpy(),
            "ci_low": read["ci_low"].to_numpy(),
            "ci_high": read["ci_high"].to_numpy(),
        }
    )


def at_risk_at(curve: pd.DataFrame, times: Sequence[float]) -> npt.NDArray[np.int64]:
    """How many were still watched and waiting just before each of ``times``; 0 past the end."""
    grid, n = curve["time"].to_numpy(float), curve["at_risk"].to_numpy(np.int64)
    position = np.searchsorted(grid, np.asarray(times, float), side="left")
    return np.append(n, 0)[position]


def median_survival(curve: pd.DataFrame, level: float = 0.95) -> ReadOff:
    """Time by which half have stopped, with the times where the band crosses one half.

    Args:
        curve: From ``kaplan_meier`` or ``clustered_kaplan_meier``.
        level: The level the curve was made with.

    Source:
        Brookmeyer & Crowley (1982).
    """
    grid = curve["time"].to_numpy(float)

    def crossing(column: str) -> float | None:
        # a product of many factors may miss one half by its last bit
        below = np.flatnonzero(curve[column].to_numpy(float) <= 0.5 + 1e-12)
        return float(grid[below[0]]) if len(below) else None

    ends = crossing("survival"), crossing("ci_low"), crossing("ci_high")
    return ReadOff(*ends, follow_up=float(grid[-1]), level=level)


def restricted_mean(curve: pd.DataFrame, until: float, level: float = 0.95) -> ReadOff:
    """Mean waiting time within ``until``: the area under the curve up to there.

    Args:
        curve: From ``kaplan_meier``: the interval takes rows to be independent.
        until: End of the window, in the curve's unit of time.
        level: Coverage of the interval (0-1), normal, kept within [0, until].

    Raises:
        ContractError: ``until`` lies past the end of follow-up, or is not positive.

    Source:
        Royston & Parmar (2013); variance as in Klein & Moeschberger (2003), section 4.5.
    """
    if not until > 0:
        raise ContractError(f"until must be a positive time; got {until:g}")
    survival_at(curve, [until])
    inside = curve[curve["time"] <= until]
    n, d = inside["at_risk"].to_numpy(float), inside["events"].to_numpy(float)
    width = np.diff(np.append(inside["time"].to_numpy(float), until))
    area = width * inside["survival"].to_numpy(float)
    left = area[::-1].cumsum()[::-1]
    mean = float(area.sum())
    margin = _z(level) * float(np.sqrt((left**2 * _ratio(d, n * (n - d))).sum()))
    low, high = max(0.0, mean - margin), min(until, mean + margin)
    return ReadOff(mean, low, high, follow_up=float(curve["time"].iloc[-1]), level=level)


def _risk_table(counts: pd.DataFrame, causes: tuple[str, ...]) -> pd.DataFrame:
    """Checked counts from time 0 on, with ``at_risk`` just before each time."""
    needed = ("time", *causes, "censored")
    if missing := [name for name in needed if name not in counts.columns]:
        raise ContractError(f"counts lack {missing}; they have {list(counts.columns)}")
    if counts.empty:
        raise ContractError("counts hold no rows: there is nobody to follow")
    names = [*needed, "entry"] if "entry" in counts.columns else list(needed)
    values = counts[names].to_numpy(float)
    if bad := int((~(np.isfinite(values) & (values >= 0))).any(axis=1).sum()):
        raise ContractError(
            f"times and counts must be finite and not negative; {bad} of {len(counts)} rows are not"
        )
    if twice := int(counts["time"].duplicated().sum()):
        raise ContractError(f"each time must stand once; {twice} of {len(counts)} rows repeat one")
    table = counts[names].sort_values("time", ignore_index=True)
    if table["time"].iloc[0] > 0:
        origin = pd.DataFrame(0, index=[0], columns=names)
        table = pd.concat([origin, table], ignore_index=True)
    table["time"] = table["time"].astype(float)
    left = table[[*causes, "censored"]].sum(axis=1)
    gone = left.cumsum().shift(fill_value=0)
    if "entry" in table.columns:
        entered = table["entry"].cumsum()
        if entered.iloc[-1] != left.sum():
            raise ContractError(
                f"{entered.iloc[-1]:g} came under watch but {left.sum():g} left it: counts must "
                "add up"
            )
        # whoever enters at a time is at risk only after it; the start is the exception
        entered = entered.shift().fillna(entered.iloc[0]).astype(entered.dtype)
        at_risk = entered - gone
        if short := int((at_risk < left).sum()):
            raise ContractError(f"more leave than are at risk at {short} of {len(table)} times")
    else:
        at_risk = left.sum() - gone
    table.insert(1, "at_risk", at_risk)
    return table[["time", "at_risk", *causes, "censored"]]


def _with_interval(
    curve: pd.DataFrame, survival: Floats, std_error: Floats, level: float
) -> pd.DataFrame:
    ci_low, ci_high = _log_log_interval(survival, std_error, level)
    return curve.assign(survival=survival, std_error=std_error, ci_low=ci_low, ci_high=ci_high)


def _log_log_interval(share: Floats, std_error: Floats, level: float) -> tuple[Floats, Floats]:
    """Interval of a share in (0, 1); a share of exactly 0 or 1 is its own interval."""
    z = _z(level)
    within = (share > 0) & (share < 1)
    safe = np.where(within, share, 0.5)
    spread = np.exp(z * std_error / (safe * -np.log(safe)))
    low, high = safe**spread, safe ** (1 / spread)
    return np.where(within, low, share), np.where(within, high, share)


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    """The ratio, and 0 where the denominator is 0: nobody is at risk, nothing can happen."""
    empty = denominator == 0
    return np.where(empty, 0.0, numerator / np.where(empty, 1.0, denominator))


def _z(level: float) -> float:
    if not 0 < level < 1:
        raise ContractError(f"level must lie in (0, 1); got {level}")
    return float(ndtri((1 + level) / 2))


def _durations(durations: npt.ArrayLike) -> Floats:
    time = np.asarray(durations, float)
    if not len(time):
        raise ContractError("durations hold no rows: there is nobody to follow")
    if bad := int((~(np.isfinite(time) & (time >= 0))).sum()):
        raise ContractError(
            f"durations must be finite and not negative; {bad} of {len(time)} rows are not"
        )
    return time


def _numbers(values: Any, name: str, rows: int) -> Floats:
    numbers = np.asarray(values, float)
    if len(numbers) != rows:
        raise ContractError(f"{rows} durations but {len(numbers)} {name}")
    return numbers
