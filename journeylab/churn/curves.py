"""When customers come back after a landmark day: curves and shares, for all and by segment."""

from collections.abc import Sequence
from datetime import date, timedelta

import numpy as np
import pandas as pd

from journeylab.errors import ContractError
from journeylab.estimate import Estimate
from journeylab.survival import (
    at_risk_at,
    clustered_kaplan_meier,
    count_events,
    kaplan_meier,
    survival_at,
)

EVERYBODY = "everybody"
# A shorter horizon than this is no advice: hardly anybody comes back within days.
_SHORTEST_ADVISED = 7


def landmark_days(first_day: date, last_day: date, horizon_days: int, count: int = 3) -> list[str]:
    """Landmark days one horizon apart, of which the last is followed for one whole horizon.

    No two outcome windows overlap, and the last but one is complete when the last one opens, so
    that a model fitted on the earlier ones can speak about the whole horizon.

    Args:
        first_day: First day of the data.
        last_day: Last complete day of the data.
        horizon_days: How far the outcome is followed, days.
        count: At most this many; fewer where the data are short, but at least two.

    Returns:
        ISO dates, ascending, each with at least one horizon of history behind it.

    Raises:
        ContractError: The data do not span three horizons.
    """
    span = (last_day - first_day).days + 1
    fitting = min(count, span // horizon_days - 1) if horizon_days > 0 else 0
    if fitting < 2:
        fits = span // 3
        raise ContractError(
            f"{span} days of orders ({first_day} to {last_day}) do not hold two landmarks with "
            f"{horizon_days} days (horizon_days) before and after each: {3 * horizon_days} days "
            "are needed; "
            + (
                f"shorten horizon_days to at most {fits}"
                if fits >= _SHORTEST_ADVISED
                else f"bring at least {3 * _SHORTEST_ADVISED} days of orders, for a horizon_days "
                f"of {_SHORTEST_ADVISED}"
            )
        )
    back = range(fitting, 0, -1)
    return [(last_day - timedelta(days=horizon_days * step)).isoformat() for step in back]


def outcomes_until(frame: pd.DataFrame, until: pd.Timestamp | str) -> pd.DataFrame:
    """The landmark rows as they looked at the end of ``until``: later outcomes are not yet known.

    Args:
        frame: From ``frames.landmarks``.
        until: Last day whose purchases are known.

    Returns:
        Rows with a landmark before ``until``; ``duration`` and ``event`` censored there (and
        ``cause`` empty).
    """
    rows = checked(frame)
    watched = (pd.Timestamp(until) - pd.to_datetime(rows["landmark"])).dt.days
    rows, watched = rows[watched > 0], watched[watched > 0]
    later = rows["duration"] > watched
    rows = rows.assign(
        duration=rows["duration"].where(~later, watched), event=rows["event"].where(~later, 0)
    )
    # what will end a wait is not known either
    return rows.assign(cause=rows["cause"].where(~later, "")) if "cause" in rows.columns else rows


def bands(values: pd.Series, edges: Sequence[float] | int) -> pd.Series:
    """Whole-number bands with readable names, e.g. ``0-6``, ``7-29``, ``30+``.

    Args:
        values: Counts, days or money, rounded down to whole numbers; negative ones fall in the
            first band.
        edges: Where a new band begins; or how many bands of about equal size.

    Returns:
        An ordered category per value, index of ``values``, holding only bands that occur.

    Raises:
        ContractError: A value is missing.
    """
    if missing := int(values.isna().sum()):
        raise ContractError(f"{values.name} is missing in {missing} of {len(values)} rows")
    whole = np.floor(values.to_numpy(float)).astype(int)
    least, most = int(whole.min()), int(whole.max())
    if isinstance(edges, int):
        # a quantile is the end of its band, the next one begins above it
        edges = [float(end) + 1 for end in np.quantile(whole, np.arange(1, edges) / edges)]
    begins = sorted({int(edge) for edge in edges if least < int(edge) <= most})
    starts = [min(0, least), *begins]
    ends = [edge - 1 for edge in begins]
    names = [
        f"{low:,}" if low == high else f"{low:,}-{high:,}"
        for low, high in zip(starts, ends, strict=False)
    ]
    names.append(f"{starts[-1]:,}+")
    code = np.searchsorted(begins, whole, side="right")
    band = pd.Categorical.from_codes(code.tolist(), pd.Index(names), ordered=True)
    return pd.Series(band, values.index, name=values.name)


def curves_by_segment(frame: pd.DataFrame, by: pd.Series, level: float = 0.95) -> pd.DataFrame:
    """Kaplan-Meier curve of the time to the next purchase, per segment.

    Args:
        frame: From ``frames.landmarks``.
        by: The segment of each row, index of ``frame`` (e.g. from ``bands``).
        level: Coverage of the pointwise interval, robust to several rows per customer.

    Returns:
        ``segment``, then the columns of ``survival.kaplan_meier``: one row per segment and time,
        segments in their order.
    """
    rows = checked(frame)
    curves = []
    for segment, own in rows.groupby(by, observed=True, sort=True):
        curve = waiting_curve(own, level)
        curve.insert(0, "segment", str(segment))
        curves.append(curve)
    return pd.concat(curves, ignore_index=True)


def at_risk_table(curves: pd.DataFrame, times: Sequence[float]) -> pd.DataFrame:
    """How many rows of each segment were still waiting just before each of ``times``.

    Args:
        curves: From ``curves_by_segment``.
        times: Days.

    Returns:
        ``segment``, then one column per time, ``day_0``, ``day_30``, ...; 0 once nobody is left.
    """
    names = [f"day_{time:g}" for time in times]
    rows = {
        segment: at_risk_at(curve, times)
        for segment, curve in curves.groupby("segment", sort=False)
    }
    table = pd.DataFrame.from_dict(rows, orient="index", columns=names)
    return table.rename_axis("segment").reset_index()


def no_purchase(
    frame: pd.DataFrame, horizons: Sequence[int] = (30, 60, 90), level: float = 0.95
) -> dict[int, Estimate]:
    """Chance of no purchase within each horizon after a landmark.

    Args:
        frame: From ``frames.landmarks``; a customer may stand at several landmarks.
        horizons: Days.
        level: Coverage of the interval, robust to several rows per customer.

    Returns:
        Horizon -> share (0-1), by Kaplan-Meier. Where nobody or everybody bought, the interval is
        the exact binomial one for the number of customers.

    Raises:
        ContractError: A horizon is longer than the follow-up.
    """
    rows = checked(frame)
    read = survival_at(waiting_curve(rows, level), horizons)
    customers = rows["customer_id"].nunique()
    shares = read[["survival", "ci_low", "ci_high"]].to_numpy(float).tolist()
    return {
        horizon: _share(value, low, high, customers, level, f"share within {horizon} days")
        for horizon, (value, low, high) in zip(horizons, shares, strict=True)
    }


def no_purchase_by_segment(
    frame: pd.DataFrame,
    by: pd.Series,
    horizons: Sequence[int] = (30, 60, 90),
    level: float = 0.95,
) -> pd.DataFrame:
    """``no_purchase`` per segment, with everybody as the baseline in the last row.

    Returns:
        One row per segment and horizon: ``segment``, ``horizon_days``, ``customers``, ``rows``,
        ``no_purchase``, ``ci_low``, ``ci_high`` (shares).
    """
    rows = checked(frame)
    parts = [(str(name), own) for name, own in rows.groupby(by, observed=True, sort=True)]
    table = []
    for segment, own in [*parts, (EVERYBODY, rows)]:
        customers = own["customer_id"].nunique()
        for horizon, share in no_purchase(own, horizons, level).items():
            table.append(
                (segment, horizon, customers, len(own), share.value, share.ci_low, share.ci_high)
            )
    columns = ["segment", "horizon_days", "customers", "rows", "no_purchase", "ci_low", "ci_high"]
    return pd.DataFrame(table, columns=columns)


def checked(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame, once its columns are those of ``frames.landmarks`` and its rows are distinct."""
    needed = ["customer_id", "landmark", "duration", "event"]
    if missing := [name for name in needed if name not in frame.columns]:
        raise ContractError(f"a landmark frame needs {missing}; it has {list(frame.columns)}")
    if frame.empty:
        raise ContractError("the landmark frame holds no rows: nobody had bought by the landmarks")
    if twice := int(frame.duplicated(["customer_id", "landmark"]).sum()):
        raise ContractError(
            f"each customer stands once at each landmark; {twice} of {len(frame)} rows repeat one"
        )
    return frame


def waiting_curve(rows: pd.DataFrame, level: float) -> pd.DataFrame:
    """Kaplan-Meier of landmark rows, by customer where somebody stands at several landmarks."""
    if rows["customer_id"].is_unique:
        return kaplan_meier(count_events(rows["duration"], rows["event"]), level)
    return clustered_kaplan_meier(rows["duration"], rows["event"], rows["customer_id"], level)


def _share(
    value: float, low: float, high: float, customers: int, level: float, unit: str
) -> Estimate:
    """A share with its interval; at 0 and 1 the exact binomial one instead of no width."""
    if value == 0:
        high = 1 - ((1 - level) / 2) ** (1 / customers)
    if value == 1:
        low = ((1 - level) / 2) ** (1 / customers)
    return Estimate(value, low, high, unit, level)
