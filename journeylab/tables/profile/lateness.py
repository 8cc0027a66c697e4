"""Lateness: how long until a day's rows are complete, and which last days should not be used."""

from dataclasses import dataclass
from datetime import date
from difflib import get_close_matches
from math import ceil

import ibis.expr.types as ir
import numpy as np
import pandas as pd
from scipy.special import stdtrit

from journeylab.contract import Column
from journeylab.errors import ContractError
from journeylab.tables.columns import Reading, business_date, given, read
from journeylab.tables.engine import collect
from journeylab.tables.opened import Tables
from journeylab.tables.profile.contents import present

WEEKS = 8
LEAST_WEEKS = 4
TAIL_DAYS = 14
FALSE_ALARM = 0.005
"""Chance that a complete last day is called low, where the days differ by chance alone."""
SETTLED_DAYS = 28
_FIRST_OF = ("orders", "events", "touches", "points", "feedback", "service_contacts")


@dataclass(frozen=True, slots=True)
class Lateness:
    """How complete the last days of a table are.

    Attributes:
        table: The table.
        method: ``arrival`` (from a column that says when a row arrived), ``weekday`` (rows of a
            day against the same weekday before) or ``none`` (nothing can be told).
        last_day: Last business date with a row.
        incomplete_days: Days at the end that look, or by arrival are, incomplete; ``None`` where
            nothing can be told.
        last_complete_day: The day to end a model on; ``None`` where nothing can be told.
        days: One row per day: ``day``, ``rows``; ``expected``, ``low`` (rows; the least that
            chance explains), missing for days that were not judged; ``state``: ``low``, ``usual``
            or ``not judged``.
        lags: ``share`` (of rows that had arrived), ``lag_days`` (whole business days); empty
            without arrivals.
        reading: The result in a sentence, with what is not known.
    """

    table: str
    method: str
    last_day: date | None
    incomplete_days: int | None
    last_complete_day: date | None
    days: pd.DataFrame
    lags: pd.DataFrame
    reading: str


def lateness(tables: Tables, arrival: str = "") -> dict[str, Lateness]:
    """How complete the last days of every dated table are, the main table first.

    Args:
        tables: Opened tables.
        arrival: Name of a column, e.g. ``loaded_at``, that says when a row arrived: a time, or
            text in a form that intake reads. Tables without it are judged by their rows per day.

    Returns:
        Name -> result; empty where no table has a date.

    Raises:
        ContractError: No dated table has a column ``arrival``, or none of its values is a time.
    """
    there = {n: t for n, t in present(tables).items() if "business_date" in t.columns}
    if arrival and not any(arrival in table.columns for table in there.values()):
        columns = sorted({column for table in there.values() for column in table.columns})
        close = get_close_matches(arrival, columns, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"they have {', '.join(columns)}"
        raise ContractError(
            f"{tables.source}: no dated table has a column {arrival!r} to tell when a row "
            f"arrived; {hint}"
        )
    main = [name for name in _FIRST_OF if name in there]
    found = {}
    for name in [*main, *(name for name in there if name not in main)]:
        rows = daily_rows(there[name])
        if rows.empty:
            continue
        if arrival and arrival in there[name].columns:
            lags = _lag_counts(there[name], arrival, tables)
            found[name] = _by_arrival(name, rows, lags, arrival)
        else:
            found[name] = judge_days(name, rows)
    return found


def lateness_summary(found: dict[str, Lateness]) -> pd.DataFrame:
    """One row per dated table.

    Returns:
        ``table``, ``method``, ``last_day``, ``incomplete_days``, ``last_complete_day``,
        ``lag_95``, ``lag_99``, ``lag_most`` (days; missing without arrivals).
    """
    rows = [
        (
            one.table,
            one.method,
            one.last_day,
            one.incomplete_days,
            one.last_complete_day,
            *(_lag(one, share) for share in (0.95, 0.99, 1.0)),
        )
        for one in found.values()
    ]
    lags = ["lag_95", "lag_99", "lag_most"]
    days = ["last_day", "last_complete_day"]
    columns = ["table", "method", days[0], "incomplete_days", days[1], *lags]
    frame = pd.DataFrame(rows, columns=columns)
    for column in days:
        frame[column] = pd.to_datetime(frame[column])
    for column in ("incomplete_days", *lags):
        frame[column] = frame[column].astype("Int64")
    return frame


def daily_rows(table: ir.Table) -> pd.DataFrame:
    """Rows per business date, days without any among them.

    Returns:
        ``day``, ``rows``, from the first to the last day with a row.
    """
    dated = table.drop_null(["business_date"])
    counts = collect(dated.group_by(day=dated.business_date).agg(rows=dated.count()))
    if counts.empty:
        return counts
    days = pd.date_range(counts["day"].iloc[0], counts["day"].iloc[-1], freq="D", name="day")
    return counts.set_index("day")["rows"].reindex(days, fill_value=0).reset_index()


def judge_days(table: str, rows: pd.DataFrame) -> Lateness:
    """Judge the last days of a series by the same weekday in the eight weeks before.

    A day is expected to have the median of the same weekday in the eight weeks before it, times
    the level of the days shortly before: the median of rows over expected rows, 7 to 20 days
    back, so that neither a trend nor the days judged move it; but not more than that median or
    the same weekday of the last two weeks, so that growth may end. On the scale of square roots,
    where counts vary by 1/2 whatever their mean, the days before tell how much larger the spread
    is (median absolute residual); a day below the lower 0.5 % end is low. Walking back from the
    end, incomplete days end at the first judged day that is not low. Days that nothing can be
    expected of, like a weekly closing day, are passed over.

    Args:
        table: Name, for the result.
        rows: ``day`` (consecutive), ``rows``, as ``daily_rows`` gives them.

    Returns:
        The result, by method ``weekday``; ``none`` where fewer than seven weeks came before, or
        so few rows a day (below seven or so) that a day with one would not stand out.
    """
    y = rows["rows"].to_numpy(float)
    expected = _expected(y)
    residual = 2 * (np.sqrt(y + 0.375) - np.sqrt(expected + 0.375))
    low = np.full(len(y), np.nan)
    for at in range(max(0, len(y) - TAIL_DAYS), len(y)):
        before = residual[max(0, at - 7 * WEEKS - 6) : max(0, at - 6)]
        before = before[np.isfinite(before)]
        if np.isfinite(expected[at]) and len(before) >= 2 * 7:
            low[at] = _least_usual(expected[at], before)
    judged = np.isfinite(low) & (low >= 1)
    state = np.where(judged, np.where(y < low, "low", "usual"), "not judged")
    days = rows.assign(
        expected=np.where(judged, expected, np.nan), low=np.where(judged, low, np.nan), state=state
    )
    last = days["day"].iloc[-1]
    lags = pd.DataFrame({"share": [], "lag_days": []}, dtype=float)
    if not judged.any():
        reading = _not_judged(table, last, y)
        return Lateness(table, "none", last.date(), None, None, days, lags, reading)
    incomplete = 0
    for back, name in enumerate(reversed(state.tolist()), start=1):
        if name == "usual":
            break
        if name == "low":
            incomplete = back
    complete = last - pd.Timedelta(days=incomplete)
    reading = _weekday_reading(table, days, incomplete)
    return Lateness(table, "weekday", last.date(), incomplete, complete.date(), days, lags, reading)


def over_time(one: Lateness) -> pd.DataFrame:
    """The whole series, by ``time_step``, to look at.

    Returns:
        ``day`` (first of its week), ``rows``. Weeks end on the last complete day, and only whole
        ones are given; a short series is given by day, to its end.
    """
    if time_step(one) == "day":
        return one.days[["day", "rows"]]
    cut = one.incomplete_days or 0
    days = one.days.iloc[: len(one.days) - cut]
    days = days.iloc[len(days) % 7 :]
    rows = days["rows"].to_numpy(int).reshape(-1, 7).sum(axis=1)
    return pd.DataFrame({"day": days["day"].to_numpy()[::7], "rows": rows})


def time_step(one: Lateness) -> str:
    """``week`` where the series is longer than 200 days, else ``day``."""
    return "week" if len(one.days) > 200 else "day"


def _expected(y: np.ndarray) -> np.ndarray:
    """Rows expected of each day from earlier days only; NaN where too few came before."""
    n = len(y)
    weekly = np.full((WEEKS, n), np.nan)
    for week in range(1, WEEKS + 1):
        weekly[week - 1, 7 * week :] = y[: max(0, n - 7 * week)]
    enough = np.isfinite(weekly).sum(axis=0) >= LEAST_WEEKS
    middle = np.full(n, np.nan)
    middle[enough] = np.nanmedian(weekly[:, enough], axis=0)
    ratio = np.divide(y, middle, out=np.full(n, np.nan), where=middle > 0)
    level = np.ones(n)
    for at in range(n):
        recent = ratio[max(0, at - 20) : max(0, at - 6)]
        recent = recent[np.isfinite(recent)]
        if len(recent) >= 7:
            level[at] = np.median(recent)
    # growth that has ended must not be carried on: nothing above what was lately reached
    reached = np.fmax(middle, np.fmax(weekly[0], weekly[1]))
    expected: np.ndarray = np.fmin(middle * level, reached)
    expected[~enough] = np.nan
    return expected


def _least_usual(expected: float, before: np.ndarray) -> float:
    """The least rows that chance explains, from the residuals of the days before."""
    # never below the spread of pure counts and of a median of eight of them
    spread = max(1.4826 * float(np.median(np.abs(before))), float(np.sqrt(1 + np.pi / 2 / WEEKS)))
    # a median of absolute residuals is worth 37 % of the days behind it
    quantile = float(stdtrit(0.37 * len(before), FALSE_ALARM))
    root = np.sqrt(expected + 0.375) + quantile * spread / 2
    return max(0.0, float(root**2 - 0.375)) if root > 0 else 0.0


def _not_judged(table: str, last: pd.Timestamp, y: np.ndarray) -> str:
    if len(y) < 7 * 7:
        why = f"the series of {len(y):,} days is shorter than seven weeks"
    else:
        why = f"a usual day has {np.median(y[-56:]):,.0f} rows, too few for a gap to stand out"
    return (
        f"{_words(table)} end on {last.date()}; whether the last days are complete cannot be told: "
        f"{why}, and no column says when a row arrived."
    )


def _weekday_reading(table: str, days: pd.DataFrame, incomplete: int) -> str:
    end = days.iloc[-1]
    last = end["day"].date()
    unknown = "Without a column that says when a row arrived"
    if not incomplete:
        judged = days[days["state"] != "not judged"].iloc[-1]
        thin = f"fewer than {ceil(judged['low']):,} would have stood out"
        return (
            f"{_words(table)} look complete up to the last day, {last}: the last day judged, "
            f"{judged['day'].date()}, has {judged['rows']:,} rows where about "
            f"{judged['expected']:,.0f} were expected, and {thin}. {unknown}, a smaller loss or "
            "rows that are late by weeks cannot be seen."
        )
    first = days.iloc[-incomplete]
    which = "The last day looks" if incomplete == 1 else f"The last {incomplete} days look"
    return (
        f"{which} incomplete in {table.replace('_', ' ')}: {first['day'].date()} has "
        f"{first['rows']:,} rows where about {first['expected']:,.0f} were expected and at least "
        f"{ceil(first['low']):,} are usual. {unknown}, late rows cannot be told from a holiday, a "
        "closed shop or an export that ended during the day."
    )


def _by_arrival(table: str, rows: pd.DataFrame, counts: pd.DataFrame, arrival: str) -> Lateness:
    """From rows by business date and lag: when 99 % of a day's rows have arrived."""
    read_in = counts[counts["lag_days"].notna()].astype({"lag_days": "int64"})
    if read_in.empty:
        raise ContractError(
            f"{table}: none of {int(counts['rows'].sum()):,} values of {arrival} could be read as "
            "a time; give it in ISO 8601"
        )
    unread = int(counts["rows"].sum() - read_in["rows"].sum())
    newest = (read_in["day"] + pd.to_timedelta(read_in["lag_days"], unit="D")).max()
    # rows of the last days that have arrived are by necessity the quick ones
    settled = read_in[read_in["day"] <= newest - pd.Timedelta(days=SETTLED_DAYS)]
    known = settled if len(settled) else read_in
    late = known.assign(lag_days=known["lag_days"].clip(lower=0))
    by_lag = late.groupby("lag_days")["rows"].sum()
    upto = by_lag.cumsum().to_numpy()
    shares = [0.5, 0.9, 0.95, 0.99, 1.0]
    at = [int(np.searchsorted(upto, share * upto[-1] - 1e-9)) for share in shares]
    lags = pd.DataFrame({"share": shares, "lag_days": [int(by_lag.index[place]) for place in at]})
    usual, most = int(lags["lag_days"].iloc[3]), int(lags["lag_days"].iloc[4])
    last = rows["day"].iloc[-1]
    complete = min(last, newest - pd.Timedelta(days=usual))
    incomplete = (last - complete).days
    state = np.where(rows["day"] > complete, "low", "usual")
    days = rows.assign(expected=np.nan, low=np.nan, state=state)
    early = int(read_in.loc[read_in["lag_days"] < 0, "rows"].sum())
    notes = [
        f"99 % of the rows of a day in {table.replace('_', ' ')} have arrived after {usual} days, "
        f"all after {most}; the last arrival is of {newest.date()}, so days up to "
        f"{complete.date()} are complete."
    ]
    if len(settled) == 0:
        notes.append(
            f"The data are shorter than {SETTLED_DAYS} days before the last arrival: rows later "
            "than that are not seen yet, and the true lag may be longer."
        )
    if unread:
        notes.append(f"{unread:,} rows have no readable {arrival}; nothing is known of them.")
    if early:
        notes.append(f"{early:,} rows arrived before the day they are dated: a clock is wrong.")
    reading = " ".join(notes)
    return Lateness(table, "arrival", last.date(), incomplete, complete.date(), days, lags, reading)


def _lag_counts(table: ir.Table, arrival: str, tables: Tables) -> pd.DataFrame:
    """Rows by business date and lag in days; lag missing where the arrival cannot be read."""
    engine = table.get_backend().name
    column = Column(arrival, "timestamp", "when the row arrived")
    said = given(table[arrival], column)
    kind = said.type()
    if kind.is_timestamp() and kind.timezone is None:
        moment = said  # intake has made it UTC
    else:
        moment = read(said, column, Reading(tables.business_tz, engine=engine))
    day = business_date(moment, tables.business_tz, engine)
    lag = day.delta(table.business_date, unit="day").cast("int64")
    dated = table.select(day=table.business_date, lag_days=lag).drop_null(["day"])
    return collect(dated.group_by("day", "lag_days").agg(rows=dated.count()))


def _lag(one: Lateness, share: float) -> int | None:
    found = one.lags.loc[one.lags["share"] == share, "lag_days"]
    return int(found.iloc[0]) if len(found) else None


def _words(table: str) -> str:
    return table.replace("_", " ").capitalize()
