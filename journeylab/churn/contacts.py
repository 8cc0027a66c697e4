"""Whose silence is unusual, and what became of those on a list."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import pandas as pd

from journeylab.churn.curves import EVERYBODY, checked, no_purchase
from journeylab.errors import ContractError


class Survives(Protocol):
    """A fit that tells how likely no purchase is."""

    def survival(self, frame: pd.DataFrame, times: Sequence[float]) -> pd.DataFrame:
        """Chance of no event by each time, index of ``frame``."""


def gap_limit_days(frame: pd.DataFrame, level: float = 0.95) -> pd.Series:
    """Silence that each customer's own rhythm would exceed only with chance 1 - ``level``.

    From n gaps that add up to R days, the next gap stays below R ((1 - level)^(-1/n) - 1) with
    probability ``level`` if gaps come at random: three mean gaps for a customer with many, longer
    for one with few, because few gaps say little. Missing with no gap at all.

    Args:
        frame: ``recency_days`` (R, first to last purchase) and ``frequency`` (n).
        level: 0-1.

    Source:
        Prediction limit of an exponential sample, e.g. Lawless (2003), section 4.1.
    """
    gaps = frame["frequency"].where(frame["frequency"] > 0).astype(float)
    return (frame["recency_days"] * ((1 - level) ** (-1 / gaps) - 1)).rename("gap_limit_days")


def regulars(frame: pd.DataFrame, usual_gap_days: float = 30, least_gaps: int = 4) -> pd.Series:
    """Customers who normally buy often.

    Args:
        frame: From ``frames.landmarks``.
        usual_gap_days: Often means a mean gap of at most this.
        least_gaps: A rhythm needs at least this many gaps.

    Returns:
        True or False per row, index of ``frame``.
    """
    often = frame["mean_gap_days"].astype(float) <= usual_gap_days
    return (often & (frame["frequency"] >= least_gaps)).rename("regulars")


def quiet_regulars(
    frame: pd.DataFrame, usual_gap_days: float = 30, least_gaps: int = 4, level: float = 0.95
) -> pd.Series:
    """Regulars who are now silent beyond their own limit.

    Args:
        frame: From ``frames.landmarks``.
        usual_gap_days: As in ``regulars``.
        least_gaps: As in ``regulars``.
        level: Of ``gap_limit_days``.

    Returns:
        True or False per row, index of ``frame``.
    """
    beyond = frame["days_since_last"].astype(float) > gap_limit_days(frame, level)
    return (regulars(frame, usual_gap_days, least_gaps) & beyond).rename("quiet_regulars")


def compare_lists(
    frame: pd.DataFrame, lists: Mapping[str, pd.Series], horizon_days: int, level: float = 0.95
) -> pd.DataFrame:
    """What became of the customers on each of several lists, beside everybody.

    Args:
        frame: Landmark rows with their outcomes.
        lists: Name -> True for the rows on it, index of ``frame``; lists may overlap.
        horizon_days: Days.
        level: Coverage of the interval (0-1).

    Returns:
        One row per list, everybody last: ``list``, ``customers``; ``no_purchase``, the share of
        them who did not buy, with ``ci_low``, ``ci_high``; ``of_leavers``, the share of all who
        did not buy that it holds; ``of_buyers``, the share of all who did buy that it would have
        written off. An empty list has no shares.
    """
    rows = checked(frame)
    total = no_purchase(rows, [horizon_days], level)[horizon_days].value * len(rows)
    table = []
    for name, chosen in {**lists, EVERYBODY: pd.Series(True, rows.index)}.items():
        own = rows[chosen.reindex(rows.index).to_numpy(bool)]
        if own.empty:
            table.append((name, 0, np.nan, np.nan, np.nan, 0.0, 0.0))
            continue
        share = no_purchase(own, [horizon_days], level)[horizon_days]
        away = share.value * len(own)
        bought, buyers = len(own) - away, len(rows) - total
        ends = share.value, share.ci_low, share.ci_high
        table.append((name, len(own), *ends, away / (total or 1), bought / (buyers or 1)))
    columns = ["list", "customers", "no_purchase", "ci_low", "ci_high", "of_leavers", "of_buyers"]
    return pd.DataFrame(table, columns=columns)


def contact_list(
    fit: Survives,
    frame: pd.DataFrame,
    chosen: pd.Series,
    horizon_days: int = 30,
    *,
    held_out: float = 0.5,
    rng: int | np.random.Generator,
) -> pd.DataFrame:
    """The chosen customers, the most likely to stay away first.

    The order is of risk. Whether a contact brings anybody back is another question, which only
    those held out at random can answer: they stand on the list and are left alone.

    Args:
        fit: From ``fit_hazard`` or ``fit_cox``.
        frame: One landmark's rows, its day being today; outcomes are not read.
        chosen: True for the rows to list, e.g. from ``quiet_regulars``.
        horizon_days: Days.
        held_out: Share of the list to leave alone (0-1), drawn at random.
        rng: Seed or generator of that draw.

    Returns:
        ``rank``, ``arm`` (``contact`` or ``hold out``), ``customer_id``, ``no_purchase`` (chance
        within the horizon), ``days_since_last``, ``mean_gap_days``, ``gap_limit_days``,
        ``frequency``, ``spend_mean``; equal risks in order of ``customer_id``.

    Raises:
        ContractError: A customer stands there twice, or ``held_out`` is no share below 1.
    """
    if repeated := int(frame["customer_id"].duplicated().sum()):
        raise ContractError(f"a contact list is for one day; {repeated} rows repeat a customer")
    if not 0 <= held_out < 1:
        raise ContractError(f"held_out must lie in [0, 1); got {held_out}")
    own = frame[chosen.reindex(frame.index).to_numpy(bool)]
    listed = own.assign(
        no_purchase=fit.survival(own, [horizon_days])[horizon_days],
        gap_limit_days=gap_limit_days(own),
    ).sort_values(["no_purchase", "customer_id"], ascending=[False, True], ignore_index=True)
    listed["rank"] = np.arange(1, len(listed) + 1)
    arms = np.where(np.arange(len(listed)) < round(held_out * len(listed)), "hold out", "contact")
    listed["arm"] = np.random.default_rng(rng).permutation(arms)
    columns = ["rank", "arm", "customer_id", "no_purchase", "days_since_last", "mean_gap_days"]
    return listed[[*columns, "gap_limit_days", "frequency", "spend_mean"]]
