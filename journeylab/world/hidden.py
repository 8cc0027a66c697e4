"""The hidden: what the truth knows and the tables do not show, beside what they seem to say."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import chi2, norm, rankdata

from journeylab.estimate import Estimate
from journeylab.simulate import Preset
from journeylab.world.moments import by_name, ratio, wilson

_Z = float(norm.ppf(0.975))
_BANDS = (0, 31, 61, 91, 181)
_NAMES = ("up to 30", "31 to 60", "61 to 90", "91 to 180", "more than 180")
BROKEN = 0.001
"""A split less likely than this did not come from the shares that were meant."""


@dataclass(frozen=True, slots=True)
class Silence:
    """How well silence tells who is gone.

    Attributes:
        bands: ``days_silent`` (in words), ``customers``, ``still`` (share who are customers
            still), ``ci_low, ci_high``.
        buyers: Customers who bought in the data.
        gone: Of them, who had left.
        silent_still: Of those silent for longer than ``silent_days``, the share still customers.
        concordance: Chance that of two customers the one who is gone has been silent longer.
        silent_days: The rule of thumb.
    """

    bands: pd.DataFrame
    buyers: int
    gone: int
    silent_still: Estimate | None
    concordance: float
    silent_days: int


def silence(customers: pd.DataFrame, alive: pd.Series, silent_days: int = 90) -> Silence:
    """Days without an order beside who is a customer still.

    Args:
        customers: ``customer_id, days_since_last``, as from ``frames.customers``.
        alive: From ``Truth.alive`` on the same day.
        silent_days: Longer is taken for gone by the rule of thumb.
    """
    still = customers["customer_id"].map(alive).astype("boolean")
    known = customers.assign(still=still).dropna(subset=["still"])
    days, stays = known["days_since_last"].to_numpy(float), known["still"].to_numpy(bool)
    place = np.searchsorted(_BANDS, days, side="right") - 1
    rows = []
    for code, name in enumerate(_NAMES):
        own = stays[place == code]
        if len(own):
            rows.append((name, len(own), float(own.mean()), *wilson(float(own.sum()), len(own))))
    names = ["days_silent", "customers", "still", "ci_low", "ci_high"]
    long = stays[days > silent_days]
    share = None
    if len(long):
        low, high = wilson(float(long.sum()), len(long))
        share = Estimate(float(long.mean()), low, high, "share")
    return Silence(
        pd.DataFrame(rows, columns=names), len(known), int((~stays).sum()), share,
        _concordance(days, stays), silent_days,
    )  # fmt: skip


def _concordance(days: "np.ndarray[tuple[int], np.dtype[np.float64]]", stays: object) -> float:
    still = np.asarray(stays, bool)
    gone, here = int((~still).sum()), int(still.sum())
    if not gone or not here:
        return float("nan")
    ranks = rankdata(days)
    return float((ranks[~still].sum() - gone * (gone + 1) / 2) / (gone * here))


def funnel(counts: pd.DataFrame, truth: pd.DataFrame) -> pd.DataFrame:
    """Each step of the funnel: what is observed, what a hasty count says, what is true.

    Args:
        counts: One row, from ``tallies.funnel_counts``.
        truth: From ``Truth.funnel`` with the same window.

    Returns:
        ``step, of``; ``people`` (whose window has closed), ``observed`` (share of them who did the
        step within it), ``ci_low, ci_high``; ``hasty`` (share of everybody, open windows and
        all); ``true`` and ``error`` (Monte-Carlo standard error). Missing where nobody's window has
        closed.
    """
    row, rows = counts.to_dict("records")[0], []
    for entry in truth.to_dict("records"):
        step = entry["step"]
        closed, done = float(row[f"{step}_closed"]), float(row[f"{step}_done"])
        everybody, ever = float(row[f"{step}_all"]), float(row[f"{step}_ever"])
        low, high = wilson(done, closed) if closed else (np.nan, np.nan)
        observed = done / closed if closed else np.nan
        hasty = ever / everybody if everybody else np.nan
        rows.append((step, entry["of"], int(closed), observed, low, high, hasty,
                     entry["rate"], entry["error"]))  # fmt: skip
    names = ["step", "of", "people", "observed", "ci_low", "ci_high", "hasty", "true", "error"]
    return pd.DataFrame(rows, columns=names)


def hasty_effects(
    outcomes: pd.DataFrame, effects: pd.DataFrame, touched: pd.DataFrame
) -> pd.DataFrame:
    """What comparing the touched with the rest says of each channel, beside what is true.

    Args:
        outcomes: From ``tallies.touch_outcomes`` of a stretch without randomisation.
        effects: ``World.effects`` on a day in it, over the same horizon.
        touched: From ``tallies.touched``: those touched around that day.

    Returns:
        ``channel``, ``touches``; ``hasty`` (orders per head after a touch, less those of the
        untouched), ``ci_low, ci_high``; ``true`` (mean effect on those who were touched) and
        ``harmed`` (share of them whom the touch makes less likely to buy).
    """
    sums = by_name(outcomes, "channel")
    if "none" not in sums:
        return pd.DataFrame(columns=[*_EFFECTS])
    base = ratio(sums["none"], "orders", "orders")
    reached = touched.merge(effects, on=["customer_id", "channel"])
    rows = []
    for channel in [name for name in sums if name != "none"]:
        here = ratio(sums[channel], "orders", "orders")
        gap = here.value - base.value
        margin = np.hypot(here.ci_high - here.value, base.ci_high - base.value)
        own = reached.loc[reached["channel"] == channel, "orders"].to_numpy(float)
        if len(own):
            rows.append((channel, int(sums[channel]["orders_y"]), gap, gap - margin,
                         gap + margin, float(own.mean()), float((own < 0).mean())))  # fmt: skip
    return pd.DataFrame(rows, columns=[*_EFFECTS])


_EFFECTS = ("channel", "touches", "hasty", "ci_low", "ci_high", "true", "harmed")


def compare_tests(
    arms: Mapping[str, pd.DataFrame], truth: pd.DataFrame, preset: Preset
) -> pd.DataFrame:
    """Every test as an analyst would read it, beside what is true.

    Args:
        arms: From ``tallies.arm_outcomes`` by test, over the test's days.
        truth: From ``Truth.tests``.
        preset: What the tests were meant to be.

    Returns:
        One row per arm other than the control: ``test, arm, people`` (logged in it), ``effect`` on
        the share with an order, ``ci_low, ci_high``, ``true``, ``inside`` (the interval holds the
        truth), ``split_p`` (chance of a split so far from the shares that were meant).
    """
    rows = []
    known = {
        (row["experiment_id"], row["arm"]): float(row["effect"])
        for row in truth[truth["metric"] == "conversion"].to_dict("records")
    }
    for test in preset.tests:
        own = by_name(arms[test.name], "variant")
        names = [arm.name for arm in test.arms]
        if not set(names) <= set(own):
            continue
        units = np.array([own[name]["units"] for name in names], float)
        meant = np.array([arm.share for arm in test.arms]) * units.sum()
        p = float(chi2.sf(float(((units - meant) ** 2 / meant).sum()), len(names) - 1))
        control = ratio(own[names[0]], "bought", "orders")
        for name in names[1:]:
            here = ratio(own[name], "bought", "orders")
            gap = here.value - control.value
            margin = np.hypot(here.ci_high - here.value, control.ci_high - control.value)
            true = known[test.name, name]
            rows.append((test.name, name, int(own[name]["people"]), gap, gap - margin,
                         gap + margin, true, bool(abs(gap - true) <= margin), p))  # fmt: skip
    columns = ["test", "arm", "people", "effect", "ci_low", "ci_high", "true", "inside", "split_p"]
    return pd.DataFrame(rows, columns=columns)
