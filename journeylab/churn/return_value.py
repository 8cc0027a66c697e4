"""What a return is worth: the margin of those who come back less that of those who do not."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import ndtri

from journeylab.errors import ContractError, FitError
from journeylab.estimate import Estimate, mean_estimate

Floats = npt.NDArray[np.float64]

NEEDED = ("spend", "frequency", "age_days", "days_since_last")
_FEWEST = 50
_STEPS = 100
_GROUPS = 5


@dataclass(frozen=True, slots=True, eq=False)
class ReturnValueFit:
    """Expected margin within a horizon, of those who come back early and of those who do not.

    Attributes:
        returned, stayed_away: Coefficients of the log of the expected margin, on standardised
            covariates, the intercept first; for a group too poor to model only its intercept,
            which is then the mean margin itself (``constant`` says for which).
        constant: Whether each of the two is a plain mean.
        covariance: Of both vectors together, robust to several rows per customer.
        centre, spread: Of the covariates: log1p of ``spend`` per purchase day, of ``spend`` per
            day of age, of ``frequency`` and of ``days_since_last``.
        within_days: To come back early is to buy within so many days of the landmark.
        horizon_days: Over which the margin is counted, from the landmark.
        measure: ``margin`` or ``amount``: which column was learnt from.
        margin_share: What ``amount`` was multiplied by.
        n_rows, n_customers, n_returned: What the fit rests on.
        level: Coverage of the intervals.
    """

    returned: Floats
    stayed_away: Floats
    constant: tuple[bool, bool]
    covariance: Floats
    centre: Floats
    spread: Floats
    within_days: int
    horizon_days: int
    measure: str
    margin_share: float
    n_rows: int
    n_customers: int
    n_returned: int
    level: float = 0.95

    def margins(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Expected margin if they come back early (``returned``) and if not (``stayed_away``).

        Args:
            frame: ``spend, frequency, age_days, days_since_last``.

        Returns:
            Two columns, index of ``frame``, in the currency of the orders.
        """
        design = self._design(frame)
        both = [
            _mean(design, beta, constant)[0]
            for beta, constant in zip((self.returned, self.stayed_away), self.constant, strict=True)
        ]
        return pd.DataFrame(np.column_stack(both), frame.index, columns=["returned", "stayed_away"])

    def gain(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Margin of coming back early less that of not, per customer.

        Returns:
            ``value``, ``ci_low``, ``ci_high`` (of the expectation, not of one customer's fate),
            index of ``frame``.
        """
        value, slope = self._gain(frame)
        error = np.sqrt(np.einsum("ij,jk,ik->i", slope, self.covariance, slope))
        margin = float(ndtri((1 + self.level) / 2)) * error
        return pd.DataFrame(
            {"value": value, "ci_low": value - margin, "ci_high": value + margin}, frame.index
        )

    def total(self, frame: pd.DataFrame, risk: pd.Series, unit: str) -> Estimate:
        """Sum of risk times gain over the rows; the interval knows that their errors go together.

        Args:
            frame: As for ``gain``.
            risk: Chance of not coming back early (0-1), index of ``frame``, taken as exact.
            unit: Currency.
        """
        value, slope = self._gain(frame)
        weight = risk.reindex(frame.index).to_numpy(float)
        total, along = float(weight @ value), weight @ slope
        margin = float(ndtri((1 + self.level) / 2) * np.sqrt(along @ self.covariance @ along))
        return Estimate(total, total - margin, total + margin, unit, self.level)

    def check(self, rows: pd.DataFrame, values: pd.DataFrame) -> pd.DataFrame:
        """Expected beside observed margin, at landmarks that were not learnt from.

        Args:
            rows: As for ``fit_return_value``.
            values: As there.

        Returns:
            One row per group (``returned`` or ``stayed away``, in fifths of the expected margin):
            ``came``, ``group``, ``customers``, ``expected``, ``observed``, ``ci_low``,
            ``ci_high``; ``inside`` where the expectation lies within.
        """
        joined, came, margin, _ = _learnable(
            rows, values, self.within_days, self.margin_share, self.measure
        )
        expected = self.margins(joined)
        table = []
        for name, own in (("returned", came), ("stayed away", ~came)):
            column = expected["returned" if name == "returned" else "stayed_away"].to_numpy(float)
            chosen = np.flatnonzero(own)
            parts = min(_GROUPS, len(chosen) // 20)
            order = chosen[np.argsort(column[chosen], kind="stable")]
            for number, part in enumerate(np.array_split(order, parts) if parts else [], start=1):
                seen = mean_estimate(margin[part], self.measure, self.level)
                due = float(column[part].mean())
                ends = (seen.value, seen.ci_low, seen.ci_high, seen.ci_low <= due <= seen.ci_high)
                table.append((name, number, len(part), due, *ends))
        columns = ["came", "group", "customers", "expected", "observed", "ci_low", "ci_high"]
        return pd.DataFrame(table, columns=[*columns, "inside"])

    def _design(self, frame: pd.DataFrame) -> Floats:
        raw = _covariates(frame)
        return np.column_stack([np.ones(len(raw)), (raw - self.centre) / self.spread])

    def _gain(self, frame: pd.DataFrame) -> tuple[Floats, Floats]:
        design = self._design(frame)
        back, back_slope = _mean(design, self.returned, self.constant[0])
        away, away_slope = _mean(design, self.stayed_away, self.constant[1])
        return back - away, np.column_stack([back_slope, -away_slope])


def fit_return_value(
    rows: pd.DataFrame,
    values: pd.DataFrame,
    within_days: int,
    *,
    margin_share: float = 1.0,
    level: float = 0.95,
) -> ReturnValueFit:
    """Learn from past landmarks what those who came back early brought, and what the others did.

    Two regressions with a log link (Poisson quasi-likelihood, which needs only the mean to be
    right), one on the rows that came back within ``within_days`` and one on the others, on what
    was known at the landmark: spend per purchase day and per day of age, repeat purchases, silence.
    Over all rows of a group the expected margins add up to the observed ones. The difference is
    what a return goes along with, given these covariates; it is not what a contact would cause.

    Args:
        rows: From ``frames.landmarks``, training landmarks with their outcomes.
        values: From ``frames.value_landmarks`` at the same landmarks, over the horizon that the
            margin is counted in (not below ``within_days``); ``margin`` is used where the column
            is there, else ``amount`` times ``margin_share``. Rows followed for less are left out.
        within_days: What counts as coming back early, days.
        margin_share: Of the amount (0-1]; 1 leaves it as it is.
        level: Coverage of the intervals (0-1).

    Raises:
        ContractError: A column is missing, no landmark is in both frames, or the horizons do not
            fit.
        FitError: Fewer than 50 rows came back, or they brought nothing.

    Source:
        Gourieroux, Monfort & Trognon (1984) for the quasi-likelihood; Liang & Zeger (1986) for
        the variance.
    """
    if not 0 < margin_share <= 1:
        raise ContractError(f"margin_share must lie in (0, 1]; got {margin_share}")
    measure = "margin" if "margin" in values.columns else "amount"
    joined, came, margin, horizon = _learnable(rows, values, within_days, margin_share, measure)
    if came.sum() < _FEWEST or margin[came].sum() <= 0:
        raise FitError(
            f"{int(came.sum())} of {len(joined)} rows came back within {within_days} days and "
            f"brought {margin[came].sum():,.2f}: what a return is worth needs at least {_FEWEST} "
            "and a positive sum"
        )
    raw = _covariates(joined)
    centre, spread = raw.mean(axis=0), raw.std(axis=0)
    spread = np.where(spread > 1e-9, spread, 1.0)
    design = np.column_stack([np.ones(len(raw)), (raw - centre) / spread])
    customer = np.asarray(pd.factorize(joined["customer_id"])[0])
    betas, constants, scores, breads = [], [], [], []
    for own in (came, ~came):
        beta, constant = _fit(design[own], margin[own])
        mean, slope = _mean(design, beta, constant)
        part = np.where(own, margin - mean, 0.0)[:, None]
        part = part * (np.ones((len(design), 1)) if constant else design)
        score = np.zeros((customer.max() + 1, part.shape[1]))
        np.add.at(score, customer, part)
        used = slope[own] if not constant else np.ones((int(own.sum()), 1))
        base = np.ones((int(own.sum()), 1)) if constant else design[own]
        breads.append(np.linalg.pinv(base.T @ used))
        betas.append(beta)
        constants.append(constant)
        scores.append(score)
    bread = np.zeros((sum(map(len, breads)),) * 2)
    split = len(breads[0])
    bread[:split, :split], bread[split:, split:] = breads
    stacked = np.hstack(scores)
    return ReturnValueFit(
        returned=betas[0],
        stayed_away=betas[1],
        constant=(constants[0], constants[1]),
        covariance=bread @ (stacked.T @ stacked) @ bread.T,
        centre=centre,
        spread=spread,
        within_days=within_days,
        horizon_days=horizon,
        measure=measure,
        margin_share=margin_share,
        n_rows=len(joined),
        n_customers=int(customer.max() + 1),
        n_returned=int(came.sum()),
        level=level,
    )


def _learnable(
    rows: pd.DataFrame,
    values: pd.DataFrame,
    within_days: int,
    margin_share: float,
    measure: str,
) -> tuple[pd.DataFrame, npt.NDArray[np.bool_], Floats, int]:
    """Rows of both frames whose return is known, whether they came, and their margin."""
    keys = ["landmark", "customer_id"]
    for name, frame, columns in (
        ("rows", rows, (*keys, "duration", "event", *NEEDED)),
        ("values", values, (*keys, "followed_days", measure)),
    ):
        if missing := [column for column in columns if column not in frame.columns]:
            raise ContractError(f"{name} need {missing}; they have {list(frame.columns)}")
    horizon = int(values["followed_days"].max()) if len(values) else 0
    if not 1 <= within_days <= horizon:
        raise ContractError(
            f"within_days must lie in [1, {horizon}], the horizon of the values; got {within_days}"
        )
    whole = values.loc[values["followed_days"] == horizon, [*keys, measure]]
    whole = whole.rename(columns={measure: "_margin"})
    if twice := int(whole.duplicated(keys).sum()):
        raise ContractError(f"values repeat {twice} customers on the same landmark")
    joined = rows.merge(whole, on=keys, how="inner")
    bought = joined["event"].to_numpy(float) == 1
    if "cause" in joined.columns:
        bought &= joined["cause"].to_numpy(object) == "purchase"
    duration = joined["duration"].to_numpy(float)
    came = bought & (duration <= within_days)
    known = came | (duration >= within_days)
    if not known.any():
        raise ContractError(
            f"no row is in both frames with a return known within {within_days} days and a margin "
            f"over {horizon}: build both at the same landmarks, early enough for both"
        )
    margin = joined["_margin"].to_numpy(float)[known]
    if measure == "amount":
        margin = margin * margin_share
    return joined[known].reset_index(drop=True), came[known], margin, horizon


def _covariates(frame: pd.DataFrame) -> Floats:
    if missing := [name for name in NEEDED if name not in frame.columns]:
        raise ContractError(f"the value of a return needs {missing}; have {list(frame.columns)}")
    numbers = [frame[name].to_numpy(dtype=float, na_value=np.nan) for name in NEEDED]
    spend, frequency, age, silence = numbers
    if bad := int((~np.isfinite(np.column_stack(numbers))).any(axis=1).sum()):
        raise ContractError(
            f"{', '.join(NEEDED)} must be known; {bad} of {len(frame)} rows are not"
        )
    # returns may outweigh purchases
    spend = np.maximum(spend, 0.0)
    return np.column_stack(
        [
            np.log1p(spend / (frequency + 1)),
            np.log1p(spend / (age + 30) * 30),
            np.log1p(frequency),
            np.log1p(silence),
        ]
    )


def _mean(design: Floats, beta: Floats, constant: bool) -> tuple[Floats, Floats]:
    """Expected margin and its slope by the coefficients."""
    if constant:
        return np.full(len(design), beta[0]), np.ones((len(design), 1))
    mean = np.exp(np.clip(design @ beta, -30, 30))
    return mean, mean[:, None] * design


def _fit(design: Floats, margin: Floats) -> tuple[Floats, bool]:
    """Poisson quasi-likelihood by Newton's method; the plain mean where there is little to fit."""
    if (margin > 0).sum() < _FEWEST or margin.sum() <= 0:
        return np.array([float(margin.mean()) if len(margin) else 0.0]), True
    beta = np.zeros(design.shape[1])
    beta[0] = np.log(margin.mean())
    # so little that only what the data cannot tell apart is held
    hold = np.diag([0.0] + [1e-6 * abs(margin).sum()] * (design.shape[1] - 1))

    def loss(at: Floats) -> float:
        eta = np.clip(design @ at, -30, 30)
        return float((np.exp(eta) - margin * eta).sum() + at @ hold @ at / 2)

    here = loss(beta)
    for _ in range(_STEPS):
        mean = np.exp(np.clip(design @ beta, -30, 30))
        slope = design.T @ (margin - mean) - hold @ beta
        step = np.linalg.solve(design.T @ (mean[:, None] * design) + hold, slope)
        size = 1.0
        while loss(beta + size * step) > here + 1e-12 * abs(here) and size > 1e-6:
            size /= 2
        beta = beta + size * step
        now = loss(beta)
        if abs(here - now) <= 1e-12 * (abs(here) + 1):
            return beta, False
        here = now
    raise FitError("the regression of the margin did not converge")
