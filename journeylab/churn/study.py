"""The frames of one churn study: what happened after past landmarks, and who stands there today."""

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import pandas as pd

from journeylab import frames
from journeylab.churn.columns import RESERVED
from journeylab.churn.leaks import LeakReport, check_leaks
from journeylab.churn.periods import Periods, periods
from journeylab.churn.words import MEMBERSHIPS, PURCHASES, Words
from journeylab.errors import ContractError
from journeylab.survival import aalen_johansen, count_causes, kaplan_meier
from journeylab.tables import Tables, collect

# Parts of the horizon at which forecasts are scored; the horizons themselves are added.
_PARTS = (0.08, 0.16, 0.25, 0.5, 0.75)
_MOST_LANDMARKS = 8
_LEAST_STEP = 7
_WEEK = 7
_GROUPS = {"touches": "touches", "service": "service_contacts"}
_LEAVING = ("contact_deleted", "left_group", "unsubscribed")
# Lengths of membership to read out, as parts of the longest seen
_LENGTHS = (0.08, 0.17, 0.25, 0.33, 0.5, 0.67, 0.83)


@dataclass(frozen=True, slots=True, eq=False)
class Study:
    """What a churn notebook works with.

    Attributes:
        contract: True where memberships end, False where purchases fail to come.
        rows: Past landmarks with their outcomes; memberships from their beginning on.
        today: Everybody on the last day; running memberships. Outcomes are not known.
        last_week: The same seven days earlier, or ``None`` where it cannot be told.
        last: The last day, ISO.
        horizons: Days ahead of a landmark (of today, for memberships) that are acted on.
        lengths: Days at which curves are read: the horizons, or lengths of membership.
        times: At which forecasts are scored.
        ticks: Days of the tables of those at risk.
        covariates: Of the trees.
        plain: Numbers, for Cox's model.
        waits: Curve of all waits between purchases, or of the lengths of membership:
            ``survival.kaplan_meier``.
        incidence: Per cause and horizon the chance that it comes first (``cause, horizon_days,
            incidence, ci_low, ci_high``); empty where no cause but the event is known.
        leaks: What ``check_leaks`` found before columns that leak were left out.
        left_out: Those columns.
        values: ``frames.value_landmarks`` at the landmarks; empty for memberships.
        words: How results are read out.
    """

    contract: bool
    rows: pd.DataFrame
    today: pd.DataFrame
    last_week: pd.DataFrame | None
    last: str
    horizons: tuple[int, ...]
    lengths: tuple[int, ...]
    times: tuple[float, ...]
    ticks: tuple[int, ...]
    covariates: tuple[str, ...]
    plain: tuple[str, ...]
    waits: pd.DataFrame
    incidence: pd.DataFrame
    leaks: LeakReport
    left_out: tuple[str, ...]
    values: pd.DataFrame
    words: Words

    @property
    def near(self) -> int:
        """The shortest horizon, days."""
        return self.horizons[0]

    @property
    def far(self) -> int:
        """The longest horizon, days."""
        return self.horizons[-1]

    @property
    def ends(self) -> tuple[int, ...]:
        """The first and the last of ``lengths``, once where they are the same."""
        return tuple(sorted({self.lengths[0], self.lengths[-1]}))

    def summary(self) -> pd.DataFrame:
        """One row per landmark day, or one for all memberships: customers, events, waits."""
        rows = self.rows
        by = pd.Series("all", rows.index) if self.contract else rows["landmark"].dt.date.astype(str)
        table = rows.groupby(by.rename("landmark")).agg(
            customers=("customer_id", "nunique"),
            events=("event", "sum"),
            median_days=("duration", "median"),
        )
        return table.reset_index()


def open_study(
    tables: Tables, horizon_days: int = 90, landmarks: str = "", until: str = ""
) -> Study:
    """Choose days, ask the engine for the frames, and leave out what gives the event away.

    Orders make a study of purchases; memberships without orders one of contracts.

    Args:
        tables: Opened.
        horizon_days: How far a customer is followed after a landmark, days.
        landmarks: ISO dates parted by commas; empty takes days half a horizon apart (closer where
            the data are short), so that a forecast can be judged from three of them.
        until: Last complete day, ISO; empty takes the last day with an order.

    Raises:
        ContractError: There are neither orders nor memberships, or the days do not fit the data.
    """
    if tables.orders is not None:
        return _purchases(tables, horizon_days, landmarks, until)
    if tables.memberships is not None:
        return _memberships(tables, horizon_days, until)
    raise ContractError(
        f"{tables.source or 'these tables'}: churn needs orders or memberships; there are neither"
    )


def rolling_days(first: date, last: date, horizon_days: int, least: int = 3) -> list[str]:
    """Landmarks from which a forecast can be judged on at least three days.

    The last leaves one horizon after it, the first one horizon before it, and three have another
    at least one horizon before them.

    Args:
        first: First day of the data.
        last: Last complete day.
        horizon_days: Days.
        least: From how many days to judge.

    Returns:
        ISO dates, ascending, at most eight, half a horizon apart or closer.

    Raises:
        ContractError: The data are too short.
    """
    span = (last - first).days
    room = span - 3 * horizon_days
    if horizon_days < 1 or room < (least - 1) * _LEAST_STEP:
        fits = (span - (least - 1) * _LEAST_STEP) // 3
        raise ContractError(
            f"{span + 1} days of orders ({first} to {last}) do not hold {least} days to judge a "
            f"forecast from with {horizon_days} days (horizon_days) after each, before each and "
            "before the one it is learnt from; "
            + (
                f"shorten horizon_days to at most {fits}"
                if fits >= _LEAST_STEP
                else f"bring at least {(least + 2) * _LEAST_STEP + 1} days of orders"
            )
        )
    step = max(_LEAST_STEP, min(horizon_days // 2, room // (least - 1)))
    # enough of them that the first of three to judge from has one a whole horizon before it
    needed = least + -(-horizon_days // step)
    count = min(max(_MOST_LANDMARKS, needed), (span - 2 * horizon_days) // step + 1)
    end = last - timedelta(days=horizon_days)
    return [(end - timedelta(days=step * back)).isoformat() for back in range(count - 1, -1, -1)]


def _purchases(tables: Tables, horizon_days: int, landmarks: str, until: str) -> Study:
    orders = tables.orders
    if orders is None:
        raise ContractError(f"{tables.source or 'these tables'}: there are no orders")
    day = orders.business_date
    spans = collect(orders.agg(first=day.min(), last=day.max()))
    first, newest = (pd.Timestamp(spans[name].iloc[0]).date() for name in ("first", "last"))
    end = date.fromisoformat(until) if until.strip() else newest
    chosen = landmarks or ", ".join(rolling_days(first, end, horizon_days))
    days = periods(first, newest, horizon_days, chosen, until)
    groups = ["rhythm", "money"]
    groups += [group for group, table in _GROUPS.items() if getattr(tables, table) is not None]
    rows = collect(
        frames.landmarks(tables, days.landmarks, horizon_days, until=days.last, features=groups)
    )
    week = (date.fromisoformat(days.last) - timedelta(days=_WEEK)).isoformat()
    now = collect(
        frames.landmarks(tables, [week, days.last], 1, until=days.tomorrow, features=groups)
    )
    today = pd.to_datetime(now["landmark"]) == pd.Timestamp(days.last)
    gaps = frames.gaps(tables, since=days.first, until=days.last)
    counts = collect(gaps.group_by(["duration", "event"]).agg(waits=gaps.count()))
    rows, leaks, left_out = _without_leaks(rows)
    covariates = tuple(name for name in rows.columns if name not in RESERVED)
    values = collect(frames.value_landmarks(tables, days.landmarks, horizon_days, until=days.last))
    return Study(
        contract=False,
        rows=rows,
        today=now[today].drop(columns=list(left_out)).reset_index(drop=True),
        last_week=now[~today].drop(columns=list(left_out)).reset_index(drop=True),
        last=days.last,
        horizons=days.horizons,
        lengths=days.horizons,
        times=_times(days),
        ticks=tuple(days.ticks),
        covariates=covariates,
        plain=("days_since_last", "frequency", "age_days", "spend_mean"),
        waits=_curve(counts),
        incidence=_incidence(tables, days),
        leaks=leaks,
        left_out=left_out,
        values=values,
        words=PURCHASES,
    )


def _memberships(tables: Tables, horizon_days: int, until: str) -> Study:
    as_of = until.strip() or "2020-01-01"
    names = [] if tables.customers is None else tables.customers.columns
    numbers = [name for name in names if "charge" in name.lower()]
    rows = collect(frames.memberships(tables, as_of=as_of, numbers=numbers))
    if "entry" in rows.columns and (rows["entry"] == 0).all():
        rows = rows.drop(columns="entry")
    rows, leaks, left_out = _without_leaks(rows.drop(columns=_said_before(rows)))
    flags = _flags(rows)
    rows = pd.concat([rows, flags], axis=1)
    raw = [name for name in rows.columns if name not in (*RESERVED, *flags.columns)]
    running = rows[rows["event"] == 0].reset_index(drop=True)
    longest = int(rows["duration"].max())
    horizons = (*(day for day in (30, 60, 90) if day < horizon_days), horizon_days)
    lengths = _lengths(longest)
    counts = rows.groupby(["duration", "event"]).size().rename("waits").reset_index()
    plain = [name for name in raw if pd.api.types.is_numeric_dtype(rows[name])]
    return Study(
        contract=True,
        rows=rows,
        today=running,
        last_week=None,
        last=as_of,
        horizons=horizons,
        lengths=lengths,
        times=tuple(float(day) for day in lengths),
        ticks=tuple(range(0, longest + 1, max(1, round(longest / 6)))),
        covariates=tuple(raw),
        plain=(*plain, *flags.columns),
        waits=_curve(counts),
        incidence=_no_causes(),
        leaks=leaks,
        left_out=left_out,
        values=pd.DataFrame(),
        words=MEMBERSHIPS,
    )


def _without_leaks(
    rows: pd.DataFrame,
) -> tuple[pd.DataFrame, LeakReport, tuple[str, ...]]:
    """The frame without columns that know the outcome, and what was found in it."""
    report = check_leaks(rows, on_leak="report")
    columns = tuple(dict.fromkeys(one.column for one in report.leaks if one.column))
    if whole := [one for one in report.leaks if not one.column]:
        raise ContractError(f"{whole[0].evidence}; {whole[0].advice}")
    return rows.drop(columns=list(columns)), report, columns


def _said_before(rows: pd.DataFrame) -> list[str]:
    """Texts that part the customers exactly as an earlier column does."""
    seen: set[bytes] = set()
    found = []
    for name in rows.columns:
        if name in RESERVED or pd.api.types.is_numeric_dtype(rows[name]):
            continue
        key = pd.factorize(rows[name])[0].tobytes()
        if key in seen:
            found.append(str(name))
        seen.add(key)
    return found


def _flags(rows: pd.DataFrame) -> pd.DataFrame:
    """Texts with few values as 0/1 columns, all but the commonest value, none of them twice."""
    found: dict[str, pd.Series] = {}
    seen: set[bytes] = set()
    for name in rows.columns:
        if name in RESERVED or pd.api.types.is_numeric_dtype(rows[name]):
            continue
        counts = rows[name].value_counts()
        if not 2 <= len(counts) <= 5:
            continue
        for value in counts.index[1:]:
            flag = (rows[name] == value).astype(int)
            key = flag.to_numpy().tobytes()
            if key not in seen and flag.sum() >= 50:
                seen.add(key)
                found[f"{name}: {value}"] = flag
    return _independent(pd.DataFrame(found, rows.index))


def _independent(flags: pd.DataFrame) -> pd.DataFrame:
    """Flags that no others add up to."""
    kept: list[str] = []
    for name in flags.columns:
        tried = np.column_stack([np.ones(len(flags)), flags[[*kept, name]].to_numpy(float)])
        if np.linalg.matrix_rank(tried) == tried.shape[1]:
            kept.append(name)
    return flags[kept]


def _lengths(longest: int) -> tuple[int, ...]:
    """Quarters of a year near parts of the longest membership; days where it is short."""
    quarter = 365.25 / 4 if longest > 2 * 365 else 1.0
    found = {round(max(1, round(longest * part / quarter)) * quarter) for part in _LENGTHS}
    return tuple(sorted(day for day in found if day < longest))


def _times(days: Periods) -> tuple[float, ...]:
    parts = {max(1, round(days.horizon_days * part)) for part in _PARTS}
    return tuple(float(day) for day in sorted({*parts, *days.horizons}))


def _curve(counts: pd.DataFrame) -> pd.DataFrame:
    wide = counts.pivot_table("waits", "duration", "event", aggfunc="sum", fill_value=0)
    wide = wide.reindex(columns=[0, 1], fill_value=0)
    table = pd.DataFrame({"time": wide.index, "events": wide[1], "censored": wide[0]})
    return kaplan_meier(table.reset_index(drop=True))


def _no_causes() -> pd.DataFrame:
    return pd.DataFrame(columns=["cause", "horizon_days", "incidence", "ci_low", "ci_high"])


def _incidence(tables: Tables, days: Periods) -> pd.DataFrame:
    """Purchases and ways of leaving that exclude one another, where the tables tell of any."""
    causes: list[str] = []
    if tables.consents is not None and "withdrawn_at" in tables.consents.columns:
        causes.append("unsubscribed")
    if tables.events is not None:
        names = collect(tables.events.select("event").distinct())["event"]
        causes += [name for name in _LEAVING if name in set(names) and name not in causes]
    if not causes:
        return _no_causes()
    at = days.landmarks[-1:]
    rows = collect(frames.landmarks(tables, at, days.horizon_days, until=days.last, causes=causes))
    counts = count_causes(rows["duration"], rows["cause"])
    seen = [name for name in counts.columns if name not in ("time", "censored")]
    curves = aalen_johansen(counts, seen)
    parts = []
    for cause in seen:
        curve = curves[curves["cause"] == cause].reset_index(drop=True)
        place = np.searchsorted(curve["time"].to_numpy(float), days.horizons, side="right") - 1
        read = curve.loc[place, ["incidence", "ci_low", "ci_high"]].reset_index(drop=True)
        read.insert(0, "horizon_days", list(days.horizons))
        read.insert(0, "cause", cause)
        parts.append(read)
    return pd.concat(parts, ignore_index=True)
