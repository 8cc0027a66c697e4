"""Difference in differences: what may be said of a campaign that nobody randomised.

Never an effect. The shop chose whom to target, mostly by what they had spent: the difference
after a campaign is then for the most part the difference before it. Subtracting that is right if
both groups would have moved alike; but people chosen for a good month fall back by themselves, and
then the subtraction takes too much. Comparing people of equal earlier spend is right if nothing
else moved the choice. The truth lies between the two if either holds, and anywhere if neither does.
"""

from dataclasses import dataclass
from math import inf, sqrt

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from journeylab.errors import ContractError
from journeylab.estimate import Estimate, Measured, measured
from journeylab.uplift.robustness import robustness_value
from journeylab.uplift.trial import FEWEST_IN_ARM

Floats = NDArray[np.float64]
_BASE = -1


@dataclass(frozen=True, slots=True)
class Bracket:
    """Two ends between which a number lies if one of two assumptions holds.

    Attributes:
        low, high: The two point estimates, in ``unit``.
        ci_low, ci_high: Outer ends of their intervals: they hold the number with at least
            ``level`` if it lies between what the two estimate.
        unit: What is counted.
        level: Coverage of each interval (0-1).
    """

    low: float
    high: float
    ci_low: float
    ci_high: float
    unit: str
    level: float = 0.95


@dataclass(frozen=True, slots=True, eq=False)
class DifferenceInDifferences:
    """Targeted against not targeted, before and after. Not an effect.

    Attributes:
        naive: Difference after the campaign began, per period.
        before: Difference in the last period before it.
        change: ``naive`` less ``before``: difference in differences.
        lagged: Difference after it among people of equal outcome in the last period before
            (regression on the lagged outcome).
        carried: Slope of that regression: share of a difference before that is found again after.
            Below 1 those chosen for much fall back by themselves.
        with_trend: ``change`` less what the line through the earlier gaps foretells; ``None``
            with one period before.
        periods: One row per period: ``period``; ``targeted, others`` (means per customer);
            ``difference, low, high`` (of the two, with interval); ``change, ci_low, ci_high``
            (difference less that of period -1: the event study; 0 there).
        pre_trend_p: p of equal paths before the campaign (Wald); ``None`` with one period before.
            A large p is no proof: such tests miss trends as large as the effects sought.
        customers: Count of targeted and of others.
        unit: Of the outcome.
        level: Of the intervals (0-1).
    """

    naive: Measured
    before: Measured
    change: Measured
    lagged: Measured
    carried: Measured
    with_trend: Measured | None
    periods: pd.DataFrame
    pre_trend_p: float | None
    customers: tuple[int, int]
    unit: str
    level: float = 0.95

    @property
    def bracket(self) -> Bracket:
        """From difference in differences to the lagged-outcome regression.

        Source:
            Angrist & Pischke, "Mostly Harmless Econometrics" (2009), section 5.4; Ding & Li, "A
            Bracketing Relationship between Difference-in-Differences and Lagged-Dependent-Variable
            Adjustment" (2019).
        """
        one, other = self.change.estimate(self.level), self.lagged.estimate(self.level)
        return Bracket(
            min(one.value, other.value),
            max(one.value, other.value),
            min(one.ci_low, other.ci_low),
            max(one.ci_high, other.ci_high),
            self.unit,
            self.level,
        )

    def table(self) -> pd.DataFrame:
        """One row per way to look at it.

        Returns:
            ``what, value, ci_low, ci_high, right_if``; ``right_if`` is the assumption under which
            the number would be an effect.
        """
        rows: list[tuple[str, Measured, str]] = [
            ("difference after", self.naive, "the targeted were drawn by lot: they were not"),
            ("difference before", self.before, "never: nothing had been sent yet"),
            (
                "difference in differences",
                self.change,
                "both groups would have moved alike without the campaign",
            ),
            (
                "at equal outcome before",
                self.lagged,
                "nothing but the outcome before moved the choice",
            ),
        ]
        if self.with_trend is not None:
            rows.append(
                (
                    "less the earlier trend",
                    self.with_trend,
                    "the gap would have gone on along the line of the periods before",
                )
            )
        estimates = [found.estimate(self.level) for _, found, _ in rows]
        return pd.DataFrame(
            {
                "what": [name for name, _, _ in rows],
                "value": [found.value for found in estimates],
                "ci_low": [found.ci_low for found in estimates],
                "ci_high": [found.ci_high for found in estimates],
                "right_if": [reason for _, _, reason in rows],
            }
        )

    def sensitivity(self) -> pd.DataFrame:
        """How wrong an assumption may be before its number says nothing.

        Returns:
            One row per assumption that can be put to it: ``what, value, estimate_breaks_at,
            interval_breaks_at`` (for the end of the interval nearest to 0; 0 where it holds 0),
            ``measure``: of what. For the change the measure is how many times as far as ever
            before the groups may have moved apart on their own from one period to the next, in
            each of them since the last one before (infinite where they never did; no row with one
            period before); at equal outcome before, the share of what is left of choice and
            outcome that an unknown cause explains.

            With M times the largest move m in each period, period k (from 0) is off by (k + 1) M m
            at most, and the mean of P periods by M m (P + 1) / 2.

        Source:
            Rambachan & Roth, "A More Credible Approach to Parallel Trends" (2023), relative
            magnitudes, with the earlier moves taken as known; Cinelli & Hazlett, "Making Sense of
            Sensitivity" (2020), equation 21, with the standard error robust to clusters.
        """
        rows = []
        early = self.periods.loc[self.periods["period"] < 0, "difference"].to_numpy(float)
        if len(early) > 1:
            ahead = int((self.periods["period"] >= 0).sum())
            most = float(np.abs(np.diff(early)).max()) * (ahead + 1) / 2
            value, nearest = self._ends(self.change)
            at = [
                abs(one) / most if most > 0 else (inf if one else 0.0) for one in (value, nearest)
            ]
            measure = "times the largest move before" + (", in each period" if ahead > 1 else "")
            rows.append(("difference in differences", value, *at, measure))
        value, nearest = self._ends(self.lagged)
        scale = self.lagged.standard_error * sqrt(max(sum(self.customers) - 3, 1))
        at = [robustness_value(one, scale) for one in (value, nearest)]
        rows.append(("at equal outcome before", value, *at, "share of what is left"))
        names = ["what", "value", "estimate_breaks_at", "interval_breaks_at", "measure"]
        return pd.DataFrame(rows, columns=names)

    def sensitivity_finding(self) -> str:
        """The same in a sentence or two."""
        table = self.sensitivity().set_index("what")
        said = []
        if "difference in differences" in table.index:
            row = table.loc["difference in differences"]
            said.append(
                "The change is not told from 0 even if both groups moved exactly alike"
                if row["interval_breaks_at"] == 0
                else "The change is gone if the groups moved apart on their own by "
                f"{row['interval_breaks_at']:.2g} {row['measure']}"
            )
        row = table.loc["at equal outcome before"]
        said.append(
            "the difference at equal outcome before is not told from 0 as it stands"
            if row["interval_breaks_at"] == 0
            else "the difference at equal outcome before is gone if an unknown cause explains "
            f"{row['interval_breaks_at']:.1%} of what is left of choice and outcome alike"
        )
        text = "; ".join(said)
        return f"{text[0].upper()}{text[1:]}."

    def _ends(self, found: Measured) -> tuple[float, float]:
        """A number, and the end of its interval nearest to 0; 0 where that holds 0."""
        known = found.estimate(self.level)
        if known.ci_low <= 0 <= known.ci_high:
            return known.value, 0.0
        return known.value, min(known.ci_low, known.ci_high, key=abs)

    def finding(self) -> str:
        """One line for a title: that the effect is not identified, and within what."""
        known = self.bracket
        return (
            f"Not identified: the {_signed(self.naive.value)} {self.unit} after were "
            f"{_signed(self.before.value)} before; the effect may be {_signed(known.low)}, "
            f"{_signed(known.high)} or neither"
        )

    def pre_trend(self) -> dict[str, str | float]:
        """The test of equal paths before the campaign, whatever it says.

        Returns:
            ``asks`` (what is tested), ``p`` (0-1; absent with one period before),
            ``tells_nothing_of``.

        Source:
            Roth, "Pretest with Caution" (2022).
        """
        if self.pre_trend_p is None:
            return {
                "asks": "nothing: there is one period before",
                "tells_nothing_of": "whether the groups moved alike, before the campaign or after",
            }
        early = int((self.periods["period"] < 0).sum())
        return {
            "asks": f"whether the gap stood still over the {early} periods before the campaign "
            "(Wald test of all its moves together)",
            "p": self.pre_trend_p,
            "tells_nothing_of": "whether it would have stood still without the campaign; such a "
            "test often misses a trend as large as the effect that is sought",
        }

    def before_finding(self) -> str:
        """One line on where the targeted stood before anything was sent."""
        known = self.before.estimate(self.level)
        if known.ci_low > 0:
            return "Those who got it were ahead before it was sent"
        if known.ci_high < 0:
            return "Those who got it were behind before it was sent"
        return "Those who got it were not told from the others before it was sent"

    def decision(self, campaign: str) -> str:
        """What to do with such a campaign: neither praise nor bury it, and draw lots next time."""
        known = self.bracket
        return (
            f"Do not credit campaign {campaign} with {_signed(self.naive.value)} {self.unit} a "
            f"customer: they differed by {_signed(self.before.value)} before it. Its "
            f"effect is not identified (from {_signed(known.low)} to {_signed(known.high)}, with "
            f"chance {_signed(known.ci_low)} to {_signed(known.ci_high)}, if one of two "
            "assumptions holds). Whoever sends the next one leaves out a share of the list by lot."
        )

    def doubts(self) -> list[str]:
        """What a reader must be told beside the numbers."""
        known, naive = self.bracket, self.naive.estimate(self.level)
        found = [
            f"The effect is not identified: nobody was drawn by lot. {_signed(naive.value)} "
            f"{self.unit} ({_signed(naive.ci_low)} to {_signed(naive.ci_high)}) is the "
            f"difference between those targeted and the others, and it was "
            f"{_signed(self.before.value)} before anything was sent. Do not report it as uplift.",
            f"If one of two assumptions holds, the effect lies between {_signed(known.low)} and "
            f"{_signed(known.high)} ({_signed(known.ci_low)} to {_signed(known.ci_high)} with "
            "chance); if neither holds, it may lie anywhere. A change near zero is no proof of no "
            "effect: people chosen for high spending fall back by themselves "
            f"({self.carried.value:.0%} of a difference before is found again after).",
        ]
        if self.pre_trend_p is None:
            found.append("There is one period before: whether the groups moved alike is unknown.")
        elif self.pre_trend_p < 0.05:
            found.append(
                f"The groups did not move alike before the campaign (p = {self.pre_trend_p:.2g}): "
                "what difference in differences assumes is already broken."
            )
        return found


def difference_in_differences(
    panel: pd.DataFrame,
    outcome: str,
    *,
    customer: str = "customer_id",
    treated: str = "targeted",
    period: str = "period",
    clusters: str | None = None,
    unit: str = "outcome",
    level: float = 0.95,
) -> DifferenceInDifferences:
    """Compare targeted and other customers before and after a campaign nobody randomised.

    Standard errors are robust to any dependence between a customer's periods, and to unequal
    spread in the two groups.

    Args:
        panel: One row per customer and period, all customers in all periods, as
            ``frames.campaign_panels`` gives it.
        outcome: Column; numbers, none missing.
        customer: Column of customers.
        treated: Column, 0 or 1, the same in all periods of a customer.
        period: Column of whole numbers; 0 is the first after, -1 the last before, none left out.
        clusters: Column, where customers are not independent (households, groups).
        unit: Of the outcome.
        level: Of the intervals (0-1).

    Raises:
        ContractError: A column is missing, a customer lacks a period or has it twice, targeting
            changes within a customer, there is no period before or after, or a side has fewer than
            20 customers.

    Source:
        Cluster-robust variance by customer: Bertrand, Duflo & Mullainathan, "How Much Should We
        Trust Differences-in-Differences Estimates?" (2004). On tests of trends before: Roth,
        "Pretest with Caution" (2022).
    """
    wide, d, group, numbers = _wide(panel, outcome, customer, treated, period, clusters)
    base, ahead = numbers.index(_BASE), [i for i, number in enumerate(numbers) if number >= 0]
    after = wide[:, ahead].mean(axis=1)

    def gap(values: Floats) -> Measured:
        return _difference(values, d, group, unit)

    naive, before = gap(after), gap(wide[:, base])
    change = gap(after - wide[:, base])
    differences = [gap(wide[:, place]) for place in range(len(numbers))]
    moved = [gap(wide[:, place] - wide[:, base]) for place in range(len(numbers))]
    lagged, carried = _at_equal_past(after, d, wide[:, base], group, unit)
    early = list(range(base))
    return DifferenceInDifferences(
        naive=naive,
        before=before,
        change=change,
        lagged=lagged,
        carried=carried,
        with_trend=gap(_beyond_trend(wide, after, numbers)) if early else None,
        periods=_periods(wide, d, numbers, differences, moved, level),
        pre_trend_p=_wald([moved[place] for place in early]) if early else None,
        customers=(int(d.sum()), int((1 - d).sum())),
        unit=unit,
        level=level,
    )


def _wide(
    panel: pd.DataFrame,
    outcome: str,
    customer: str,
    treated: str,
    period: str,
    clusters: str | None,
) -> tuple[Floats, Floats, NDArray[np.int64] | None, list[int]]:
    """Outcomes ``(customers, periods)``, targeting, clusters, and the periods' numbers."""
    asked = [outcome, customer, treated, period, *([clusters] if clusters else [])]
    if missing := sorted(set(asked) - set(panel.columns)):
        raise ContractError(f"the panel has no columns {', '.join(missing)}")
    if unknown := int(panel[asked].isna().any(axis=1).sum()):
        raise ContractError(f"{unknown} of {len(panel)} rows of the panel have missing values")
    if twice := int(panel.duplicated([customer, period]).sum()):
        raise ContractError(f"{twice} rows of the panel repeat a customer and period")
    numbers = sorted(int(number) for number in panel[period].unique())
    if (
        not numbers
        or numbers != list(range(numbers[0], numbers[-1] + 1))
        or not (numbers[0] <= _BASE and numbers[-1] >= 0)
    ):
        raise ContractError(
            f"periods must follow one another from -1 or earlier to 0 or later; got {numbers}"
        )
    # each pair is there once: pivot_table would take means and many times as long
    table = panel.pivot(index=customer, columns=period, values=outcome)[numbers]  # noqa: PD010
    if holes := int(table.isna().any(axis=1).sum()):
        raise ContractError(
            f"{holes} of {len(table)} customers lack a period: give all periods to all, 0 where "
            "nothing was bought"
        )
    by_customer = panel.groupby(customer)
    sides = by_customer[treated].agg(["min", "max"]).loc[table.index]
    if not set(np.unique(sides.to_numpy(float))) <= {0.0, 1.0}:
        raise ContractError(f"{treated} must be 0 or 1")
    if mixed := int((sides["min"] != sides["max"]).sum()):
        raise ContractError(f"{mixed} customers are targeted in some periods and not in others")
    d = sides["max"].to_numpy(float)
    if min(d.sum(), len(d) - d.sum()) < FEWEST_IN_ARM:
        raise ContractError(
            f"{int(d.sum())} customers are targeted and {int(len(d) - d.sum())} are not; each side "
            f"needs {FEWEST_IN_ARM}"
        )
    group = None
    if clusters:
        group = pd.factorize(by_customer[clusters].first().loc[table.index])[0].astype(np.int64)
    return table.to_numpy(float), d, group, numbers


def _difference(values: Floats, d: Floats, group: NDArray[np.int64] | None, unit: str) -> Measured:
    """Mean of the targeted less that of the others."""
    share = d.mean()
    high, low = values[d == 1].mean(), values[d == 0].mean()
    influence = d * (values - high) / share - (1 - d) * (values - low) / (1 - share)
    return measured(float(high - low), influence, unit, group)


def _at_equal_past(
    after: Floats, d: Floats, past: Floats, group: NDArray[np.int64] | None, unit: str
) -> tuple[Measured, Measured]:
    """Coefficients of targeting and of the past in a regression of the outcome on both."""
    x = np.column_stack([np.ones_like(d), d, past])
    if not np.linalg.matrix_rank(x) == x.shape[1]:
        raise ContractError("everybody had the same outcome before: there is no past to hold equal")
    inverse = np.linalg.inv(x.T @ x / len(x))
    beta = inverse @ (x.T @ after) / len(x)
    influence = (x * (after - x @ beta)[:, None]) @ inverse
    return (
        measured(float(beta[1]), influence[:, 1], unit, group),
        measured(float(beta[2]), influence[:, 2], "share", group),
    )


def _beyond_trend(wide: Floats, after: Floats, numbers: list[int]) -> Floats:
    """Each customer's outcome after, less the line through their periods before."""
    past = np.array([number for number in numbers if number < 0], dtype=float)
    at = float(np.mean([number for number in numbers if number >= 0]))
    centred = past - past.mean()
    weights = 1 / len(past) + (at - past.mean()) * centred / (centred @ centred)
    return np.asarray(after - wide[:, : len(past)] @ weights)


def _wald(moved: list[Measured]) -> float:
    """Chance of such differences, or larger ones, if all are 0."""
    from scipy.stats import f

    values = np.array([found.value for found in moved])
    influence = np.column_stack([found.influence for found in moved])
    statistic = float(values @ np.linalg.pinv(influence.T @ influence) @ values)
    many = len(moved)
    return float(f.sf(statistic / many, many, len(influence) - many))


def _periods(
    wide: Floats,
    d: Floats,
    numbers: list[int],
    differences: list[Measured],
    moved: list[Measured],
    level: float,
) -> pd.DataFrame:
    gaps: list[Estimate] = [found.estimate(level) for found in differences]
    changes = [
        Estimate(0.0, 0.0, 0.0, found.unit, level) if number == _BASE else found.estimate(level)
        for number, found in zip(numbers, moved, strict=True)
    ]
    return pd.DataFrame(
        {
            "period": numbers,
            "targeted": wide[d == 1].mean(axis=0),
            "others": wide[d == 0].mean(axis=0),
            "difference": [found.value for found in gaps],
            "low": [found.ci_low for found in gaps],
            "high": [found.ci_high for found in gaps],
            "change": [found.value for found in changes],
            "ci_low": [found.ci_low for found in changes],
            "ci_high": [found.ci_high for found in changes],
        }
    )


def _signed(value: float) -> str:
    text = f"{value:+.3g}" if abs(value) < 100 else f"{value:+,.0f}"
    return text.replace("-", "\N{MINUS SIGN}")
