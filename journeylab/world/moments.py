"""Moments: numbers of a simulated shop, measured from its tables, beside those of real ones."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from math import exp, sqrt
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import norm

from journeylab.errors import ContractError
from journeylab.estimate import Estimate
from journeylab.world.published import ARMS, HILLSTROM, PANEL, Published

_Z = float(norm.ppf(0.975))
CLOSE = 0.1
"""A number within this share of the real one serves as well."""
MET, OPEN = "within 10 %", "too few to tell"
_YEAR = 364
SHARES = (0.5, 0.9, 0.99)
"""Quantiles of the gaps between orders."""
COLUMNS = ["moment", "unit", "real", "world", "ci_low", "ci_high", "ratio", "ratio_low",
           "ratio_high", "reading", "numbers"]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Shop:
    """How the customers of a shop buy over a stretch of days, as the tallies count it.

    Attributes:
        sums, counts, gaps: From ``tallies.shop_counts``.
    """

    sums: pd.DataFrame
    counts: pd.DataFrame
    gaps: pd.DataFrame


def ratio(sums: Mapping[Hashable, Any], name: str, unit: str) -> Estimate:
    """A ratio of two totals with its 95 % interval over independent units.

    Shares of people have Wilson's interval, others that of the linearised ratio.

    Args:
        sums: ``<name>_x, _y, _xx, _yy, _xy`` and the number of ``units`` or ``customers``.
        name: Which ratio.
        unit: Of the result.

    Raises:
        ContractError: The total below the line is 0.

    Sources:
        Wilson (1927); Cochran, "Sampling Techniques" (1977), section 2.11.
    """
    x, y, xx, yy, xy = (float(sums[f"{name}_{part}"]) for part in ("x", "y", "xx", "yy", "xy"))
    units = float(sums["units"] if "units" in sums else sums["customers"])
    if y <= 0:
        raise ContractError(f"{name} cannot be told: nothing was counted below the line")
    value = x / y
    if unit == "share" and xx == x and yy == y:
        low, high = wilson(x, y)
        return Estimate(value, low, high, unit)
    squares = max(0.0, xx - 2 * value * xy + value**2 * yy)
    margin = _Z * sqrt(squares * units / max(units - 1, 1)) / y
    top = 1.0 if unit == "share" else np.inf
    return Estimate(value, max(0.0, value - margin), max(value, min(top, value + margin)), unit)


def by_name(frame: pd.DataFrame, column: str) -> dict[str, dict[Hashable, Any]]:
    """Rows by the value of one column."""
    return {str(row[column]): row for row in frame.to_dict("records")}


def wilson(successes: float, n: float) -> tuple[float, float]:
    """Wilson's 95 % interval of a share."""
    share, z2 = successes / n, _Z**2 / n
    centre = (share + z2 / 2) / (1 + z2)
    margin = _Z * sqrt(share * (1 - share) / n + z2 / (4 * n)) / (1 + z2)
    return min(share, max(0.0, centre - margin)), max(share, min(1.0, centre + margin))


def stretches(*spans: pd.DataFrame, most: int = _YEAR) -> list[tuple[str, str]]:
    """The last days of several shops, equally many of each, so that counts can be compared.

    Args:
        spans: One row each: ``first, last`` (dates), as from ``tallies.span``.
        most: Days, unless a shop has fewer.

    Returns:
        First and last day of each as ISO dates.
    """
    ends = [span.iloc[0] for span in spans]
    if any(pd.isna(end["last"]) for end in ends):
        raise ContractError("there are no orders to compare")
    days = min([most, *((end["last"] - end["first"]).days + 1 for end in ends)])
    last = [end["last"].date() for end in ends]
    return [(str(day - timedelta(days=days - 1)), str(day)) for day in last]


def experiment_moments(arms: pd.DataFrame) -> pd.DataFrame:
    """The world's test of coupon depth beside Hillstrom's experiment.

    Args:
        arms: From ``tallies.arm_outcomes`` of ``published.TEST`` over ``published.TEST_DAYS``.

    Returns:
        One row per number: ``moment, unit, real, world, ci_low, ci_high, ratio, ratio_low,
        ratio_high`` (world to real), ``reading`` in words, ``numbers`` of the preset behind it.
        Empty where the arms are others.
    """
    own = by_name(arms, "variant")
    if not set(ARMS) <= set(own):
        return pd.DataFrame(columns=COLUMNS)
    rows = []
    for entry in HILLSTROM:
        metric, arm = entry.key
        found = _spread(arms) if metric == "spread" else ratio(own[arm], metric, entry.unit)
        rows.append(_beside(entry, found))
    return pd.DataFrame(rows, columns=COLUMNS)


def panel_moments(shop: Shop) -> pd.DataFrame:
    """A world's year of orders beside that of the households of the Complete Journey.

    Returns:
        As ``experiment_moments``; empty where nobody bought.
    """
    found = measured(shop)
    rows = [_beside(entry, found[entry.key]) for entry in PANEL if entry.key in found]
    return pd.DataFrame(rows, columns=COLUMNS)


def measured(shop: Shop) -> dict[tuple[str, str], Estimate]:
    """Every number of a shop that can be told from its orders, with its interval.

    Returns:
        ``("gap", share)`` in days, ``("count", share)`` in orders, ``("ratio", name)``, and
        ``("spread", "orders")``: the 90th percentile of orders by the middle one.
    """
    found: dict[tuple[str, str], Estimate] = {}
    if not len(shop.sums) or not shop.sums["customers"].iloc[0]:
        return found
    sums = shop.sums.to_dict("records")[0]
    if len(shop.gaps):
        for share in SHARES:
            found["gap", f"{share:g}"] = _gap(shop, share)
    for share in (0.1, 0.5, 0.9):
        found["count", f"{share:g}"] = _count(shop.counts, share)
    for name, unit in RATIOS.items():
        if f"{name}_x" in sums and sums[f"{name}_y"] > 0:
            found["ratio", name] = ratio(sums, name, unit)
    return found


RATIOS = {
    "frequency": "orders",
    "basket": "currency",
    "returned": "share",
    "weekend": "share",
    "kept": "share",
    "discounted": "share",
}

# Name, key, numbers of the preset; how a number moves with the moment: in proportion, or only up.
_SHOP: tuple[tuple[str, tuple[str, str], str, bool], ...] = (
    ("orders per buyer", ("ratio", "frequency"), "orders.daily_chance", True),
    ("orders per buyer, 90th percentile", ("count", "0.9"),
     "people.traits.need_spread", False),
    ("days between orders, middle", ("gap", "0.5"), "orders.regularity", False),
    ("early buyers who came back", ("ratio", "kept"),
     "leaving.daily_chance", False),
    ("amount of an order", ("ratio", "basket"), "baskets.typical", True),
    ("revenue on a discount", ("ratio", "discounted"), "baskets.discounted", True),
    ("returns per order", ("ratio", "returned"), "baskets.refunded", True),
    ("orders at the weekend", ("ratio", "weekend"), "calendar.weekdays", False),
)  # fmt: skip


def shop_moments(world: Shop, own: Shop, preset: Mapping[str, float]) -> pd.DataFrame:
    """The world beside the reader's own shop, and which of its numbers to change.

    Args:
        world: The world's orders.
        own: The reader's, over as many days.
        preset: Numbers of the preset by their path, as from ``preset_numbers``.

    Returns:
        As ``experiment_moments``, ``real`` being the own shop's; ``now`` and ``change``: the
        preset's number and what would bring the moment near (missing where it is no proportion). A
        moment that is 0 in the own shop is left out.
    """
    here, there = measured(world), measured(own)
    rows = []
    for name, key, numbers, scales in _SHOP:
        if key not in here or key not in there:
            continue
        one, other = here[key], there[key]
        if other.value == 0:
            # No returns, say: whether the shop has none or the file holds none, nobody can tell.
            continue
        entry = Published(name, other.value, one.unit, key, numbers)
        row = dict(zip(COLUMNS, _beside(entry, one, other), strict=True))
        now = preset.get(numbers, np.nan)
        change = now * other.value / one.value if scales and one.value > 0 else np.nan
        rows.append(
            row | {"now": now, "change": min(change, 0.99) if one.unit == "share" else change}
        )
    return pd.DataFrame(rows, columns=[*COLUMNS, "now", "change"])


def preset_numbers(preset: object) -> dict[str, float]:
    """The single numbers of a preset by their path, such as ``orders.daily_chance``."""
    found = {}
    for _, _, path, _ in _SHOP:
        value = preset
        for part in path.split("."):
            value = getattr(value, part)
        if isinstance(value, float | int):
            found[path] = float(value)
    return found


def off(moments: pd.DataFrame) -> pd.DataFrame:
    """The moments that surely lie further than ``CLOSE`` from the real ones, worst first."""
    low, high = moments["ratio_low"], moments["ratio_high"]
    far = moments[(low > 1 + CLOSE) | (high < 1 / (1 + CLOSE))]
    distance = np.abs(np.log(far["ratio"].to_numpy(float).clip(1e-9)))
    return far.iloc[np.argsort(-distance, kind="stable")]


def times(value: float) -> str:
    """A ratio in words: ``1.6 times``, ``the same``."""
    return f"{value:.2f} times" if value < 1.995 else f"{value:.1f} times"


def _beside(entry: Published, found: Estimate, real: Estimate | None = None) -> tuple[object, ...]:
    middle, low, high = (
        _over(part, entry.value) for part in (found.value, found.ci_low, found.ci_high)
    )
    if found.value == 0 and entry.unit != "share":
        # Nobody did it: how rare it may be, the spread of what was seen cannot say.
        high = np.inf
    if real is not None and found.value > 0 and real.value > 0:
        error = sqrt(_log_error(found) ** 2 + _log_error(real) ** 2)
        low, high = middle * exp(-_Z * error), middle * exp(_Z * error)
    return (
        entry.name, entry.unit, entry.value, found.value, found.ci_low, found.ci_high,
        middle, low, high, _reading(middle, low, high), entry.numbers,
    )  # fmt: skip


def _reading(middle: float, low: float, high: float) -> str:
    if low > 1 + CLOSE or high < 1 / (1 + CLOSE):
        return f"{times(middle)} the real one" if np.isfinite(middle) else "the real one is 0"
    return MET if low >= 1 / (1 + CLOSE) and high <= 1 + CLOSE else OPEN


def _over(value: float, by: float) -> float:
    return value / by if by else (1.0 if value == 0 else np.inf)


def _log_error(found: Estimate) -> float:
    return (found.ci_high - found.ci_low) / (2 * _Z * found.value)


def _spread(arms: pd.DataFrame) -> Estimate:
    """Standard deviation of spend over people of all arms, interval from its fourth moment."""
    n = float(arms["people"].sum())
    first, second, third, fourth = (
        float(arms[name].sum()) / n for name in ("spend_x", "spend_2", "spend_3", "spend_4")
    )
    variance = second - first**2
    about = fourth - 4 * first * third + 6 * first**2 * second - 3 * first**4
    deviation = sqrt(max(variance, 0.0))
    error = sqrt(max(about - variance**2, 0.0) / n) / (2 * deviation) if deviation else 0.0
    return Estimate(deviation, max(0.0, deviation - _Z * error), deviation + _Z * error, "currency")


def _gap(shop: Shop, share: float) -> Estimate:
    """A quantile of the gaps with Woodruff's interval, customers being the units."""
    at = int(_quantile(shop.gaps, "gap_days", "gaps", share))
    name = f"gap_{at}"
    margin = 0.0
    if f"{name}_x" in shop.sums.columns:
        part = ratio(shop.sums.to_dict("records")[0], name, "share of gaps")
        margin = part.ci_high - part.value
    low, high = (
        _quantile(shop.gaps, "gap_days", "gaps", min(max(share + side * margin, 0.0), 1.0))
        for side in (-1, 1)
    )
    return Estimate(at, min(low, at), max(high, at), "days")


def _count(counts: pd.DataFrame, share: float) -> Estimate:
    """A quantile of orders per customer, its interval from the order statistics."""
    n = float(counts["customers"].sum())
    margin = _Z * sqrt(share * (1 - share) / n)
    value, low, high = (
        _quantile(counts, "orders", "customers", min(max(share + side * margin, 0.0), 1.0))
        for side in (0, -1, 1)
    )
    return Estimate(value, min(low, value), max(high, value), "orders")


def _quantile(frame: pd.DataFrame, value: str, weight: str, share: float) -> float:
    """The smallest value that at least ``share`` of the weight does not exceed."""
    ordered = frame.sort_values(value)
    upto = ordered[weight].cumsum().to_numpy(float)
    place = int(np.searchsorted(upto, share * upto[-1] - 1e-9))
    return float(ordered[value].iloc[min(place, len(ordered) - 1)])
