"""A study judged: the models of past days on the days after them, and today's models."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from journeylab.churn.cox import CoxFit, fit_cox
from journeylab.churn.curves import no_purchase
from journeylab.churn.early_warning import EarlyWarning, early_warning
from journeylab.churn.explanation import Explanation
from journeylab.churn.hazard import HazardFit, fit_hazard
from journeylab.churn.hazard_settings import HazardSettings
from journeylab.churn.return_value import ReturnValueFit, fit_return_value
from journeylab.churn.rolling import FitSurvival, Rolling, folds, rolling
from journeylab.churn.scenario import Offer, Scenario, retention_scenario
from journeylab.churn.score import Scores
from journeylab.churn.stability import Stability, stability
from journeylab.churn.study import Study
from journeylab.churn.words import covariate_words
from journeylab.errors import ContractError, FitError

HAZARD, COX = "hazard", "Cox"
_BINS = 15
_DAYS_PER_MONTH = 30.436875
_EXPLAINED = 400
_RANGE = (0.1, 0.5, 0.9)


@dataclass(frozen=True, slots=True, eq=False)
class Judgement:
    """What the models of a study are worth, and the models.

    Attributes:
        study: Judged.
        rolling: Over days, or over parts of the customers where there are no days.
        hazard, cox: Fitted on all rows, for today.
    """

    study: Study
    rolling: Rolling
    hazard: HazardFit
    cox: CoxFit

    @property
    def scores(self) -> Scores:
        """Of the last day judged."""
        return list(self.rolling.scores.values())[-1]

    @property
    def judged_on(self) -> str:
        """The last day judged, or the last part of the customers."""
        return self.rolling.origins[-1]

    def calibration(self, horizon: float | None = None) -> pd.DataFrame:
        """Calibration of the hazard model on the last day, at the first horizon by default."""
        table = self.scores.calibration
        wanted = self.scores.horizons[0] if horizon is None else float(horizon)
        own = table[(table["model"] == HAZARD) & (table["horizon"] == wanted)]
        return own.drop(columns=["model", "horizon"]).reset_index(drop=True)

    def out_of_time(self, level: float = 0.95) -> pd.DataFrame:
        """One row per horizon: the level of the forecast of the last day.

        Returns:
            ``horizon_days, customers``; ``observed`` share without the event with ``ci_low``,
            ``ci_high``; ``predicted`` mean; ``baseline``, the one share given to everybody. Of
            memberships, some kinds of which are followed for longer than others, the observed
            share is the mean over groups of equal risk, within which that matters less.
        """
        table, test = self.scores.by_time, self.rolling.test
        seen = {}
        if not self.study.contract:
            seen = no_purchase(test, [int(time) for time in self.scores.horizons], level)
        rows = []
        for horizon in self.scores.horizons:
            own = table[table["time"] == horizon].set_index("model")["predicted"]
            if self.study.contract:
                ends = _over_groups(self.calibration(horizon))
            else:
                found = seen[int(horizon)]
                ends = found.value, found.ci_low, found.ci_high
            rows.append((int(horizon), len(test), *ends, own[HAZARD], own["Kaplan-Meier"]))
        columns = ["horizon_days", "customers", "observed", "ci_low", "ci_high", "predicted"]
        return pd.DataFrame(rows, columns=[*columns, "baseline"])

    def differences(self) -> pd.DataFrame:
        """The hazard model against each other forecast, all days together."""
        table = self.rolling.differences
        return table[table["model"] == HAZARD].reset_index(drop=True)

    def shape(self, times: Sequence[float] | None = None) -> pd.DataFrame:
        """Rate of the event through time, for low, middling and high expectations of it.

        Returns:
            ``group`` (of the last day's rows: the tenth, half and ninetieth percent by risk),
            ``time``, ``hazard`` per 30 days.
        """
        grid = list(self.study.times if times is None else times)
        test = self.rolling.test
        risk = -self.rolling.survival[HAZARD].iloc[:, -1]
        order = test.index[np.argsort(risk.to_numpy(), kind="stable")]
        picks = order[[min(len(order) - 1, int(part * len(order))) for part in _RANGE]]
        rate = self.hazard.hazard(test.loc[picks], grid)
        names = ("least likely", "middling", "most likely")
        parts = [
            pd.DataFrame({"group": name, "time": grid, "hazard": 30 * rate.loc[pick].to_numpy()})
            for name, pick in zip(names, picks, strict=True)
        ]
        return pd.concat(parts, ignore_index=True)

    def reasons(self, rng: int | np.random.Generator, most: int = 10) -> pd.DataFrame:
        """Mean size of what each covariate adds to the log-odds, by time; the largest first.

        Args:
            rng: Draws the customers of the last day that are explained, at most 400.
            most: Covariates, in words.
        """
        test = self.rolling.test
        picks = np.random.default_rng(rng).permutation(len(test))[:_EXPLAINED]
        told: Explanation = self.hazard.explain(
            test.iloc[np.sort(picks)], [float(time) for time in self.study.times]
        )
        size = told.mean_size().drop(index="time", errors="ignore")
        size = size.loc[size.mean(axis=1).sort_values(ascending=False).index].head(most)
        return size.rename(index=covariate_words)

    def risk_error(self) -> float:
        """How far the level of the risk may be off, as a share of it.

        The far end of the interval of the share observed on the last day judged, from the share
        forecast, at the horizon that value at risk uses; for memberships the largest over lengths.
        """
        table = self.out_of_time()
        if self.study.contract:
            leaving = {"predicted": 1 - table["predicted"]}
            leaving |= {"ci_low": 1 - table["ci_high"], "ci_high": 1 - table["ci_low"]}
            table = pd.DataFrame(leaving)
        else:
            table = table[table["horizon_days"] == self.study.near]
        apart = table[["ci_low", "ci_high"]].sub(table["predicted"], axis=0).abs().max(axis=1)
        return float((apart / table["predicted"].clip(lower=1e-6)).max())

    def scenario(self, accepting: float, rng: int | np.random.Generator) -> Scenario | None:
        """What an offer would bring on the last day judged *if* so many of the leavers accepted.

        The incentive is assumed to cost a tenth and a contact a hundredth of what a return is
        worth on average today.

        Args:
            accepting: Assumed mean share (0-1) of leavers who accept. Nobody knows it.
            rng: Of the bootstrap.

        Returns:
            ``None`` where a return is not worth anything on average, or nobody left.
        """
        frame, value = self._stakes()
        worth = value.gain(frame)["value"] if isinstance(value, ReturnValueFit) else value
        mean, study = float(worth.mean()), self.study
        near = self.scores.horizons[0]
        test, stay = self.rolling.test, self.rolling.survival
        orders = {name: stay[name][near] for name in (HAZARD, COX)}
        if study.contract:
            orders = {name: 1 - chance for name, chance in orders.items()}
        else:
            orders["recency alone"] = test["days_since_last"].astype(float)
        if not mean > 0:
            return None
        offer = Offer(round(mean, 2), round(mean / 10, 2), round(mean / 100, 2), accepting)
        leavers: Literal["event", "no event"] = "event" if study.contract else "no event"
        try:
            return retention_scenario(test, orders, near, offer, rng=rng, leavers=leavers)
        except ContractError:
            return None

    def warning(self, most: int = 200) -> EarlyWarning:
        """Today's customers by what their staying away puts at risk.

        Those silent for longer than twice the longest horizon are left out: they are past warning.
        Intervals carry the error of the risk's level on the last day judged (``risk_error``).

        Args:
            most: Length of the list.
        """
        study = self.study
        frame, value = self._stakes()
        off = self.risk_error()
        if study.contract:
            return early_warning(
                Remaining(self.hazard), frame, value, horizons=study.horizons, most=most,
                event="leaving", risk_error=off,
            )  # fmt: skip
        within = None if isinstance(value, ReturnValueFit) else study.near
        return early_warning(
            self.hazard, frame, value, horizons=study.horizons, most=most, within_days=within,
            previous=study.last_week, risk_error=off,
        )  # fmt: skip

    def _stakes(self) -> tuple[pd.DataFrame, ReturnValueFit | pd.Series]:
        """Today's customers who can be warned of, and what their return (or stay) is worth."""
        study = self.study
        # early: whoever has been silent for longer than two horizons is past a warning
        recent = study.today
        if not study.contract:
            recent = recent[recent["days_since_last"] <= 2 * study.far].reset_index(drop=True)
        if study.contract:
            members = Remaining(self.hazard).within(study.today, study.far)
            members = members.assign(landmark=pd.Timestamp(study.last))
            charge = next((n for n in members if "monthly" in str(n).lower()), None)
            if charge is None:
                return members, pd.Series(1.0, members.index)
            monthly = members[charge].astype(float).fillna(0.0)
            return members, monthly * study.far / _DAYS_PER_MONTH
        try:
            return recent, fit_return_value(study.rows, study.values, study.near)
        except FitError:
            # too few came back to learn what a return brings: what a customer spends per day
            daily = recent["spend"].astype(float) / recent["age_days"].clip(lower=1)
            return recent, daily.clip(lower=0) * study.far

    def change(self) -> Stability | None:
        """Today beside last week, scored by the same model; None where there is no last week."""
        study = self.study
        if study.last_week is None or len(study.last_week) < 50 or len(study.today) < 50:
            return None
        now, before = (
            self.hazard.survival(rows, list(study.horizons))
            for rows in (study.today, study.last_week)
        )
        covariates = list(study.covariates)
        return stability(study.last_week, study.today, before, now, covariates=covariates)


@dataclass(frozen=True, slots=True, eq=False)
class Remaining:
    """A hazard model asked from today on: given membership for ``duration`` days so far.

    Attributes:
        fit: With time running from joining.
    """

    fit: HazardFit

    @property
    def fingerprint(self) -> str:
        """Of the fit."""
        return self.fit.fingerprint

    def within(self, frame: pd.DataFrame, days: float) -> pd.DataFrame:
        """The rows for which the fit has seen memberships long enough to look ahead."""
        return frame[frame["duration"] + days <= self.fit.follow_up]

    def survival(self, frame: pd.DataFrame, times: Sequence[float]) -> pd.DataFrame:
        """Chance of still being a member in each of ``times`` days."""
        return self.fit.conditional(frame, times, after=frame["duration"])

    def explain(
        self, frame: pd.DataFrame, times: Sequence[float], cause: str | None = None
    ) -> Explanation:
        """What each covariate adds to the log-odds of the end in each of ``times`` days."""
        ends = self.fit.bins.edges[1:].tolist()
        told = self.fit.explain(frame, ends, cause)
        ahead = frame["duration"].to_numpy(float)[:, None] + np.asarray(times, float)
        place = np.searchsorted(ends, np.minimum(ahead, ends[-1]))
        row = np.arange(len(frame))[:, None]
        return Explanation(
            told.covariates,
            tuple(float(time) for time in times),
            told.index,
            told.contributions[row, place],
            told.baseline[row, place],
            told.margin[row, place],
        )


def judge(
    study: Study,
    *,
    rng: int | np.random.Generator,
    settings: HazardSettings | None = None,
    draws: int = 300,
) -> Judgement:
    """Fit a hazard model and Cox's on what was known on past days, and judge both after them.

    Args:
        study: From ``open_study``.
        rng: Seed or generator.
        settings: Of the trees; without them cross-validation chooses, on what was known on the
            first day judged (for memberships: on each part's own training rows).
        draws: Of the bootstrap.

    Raises:
        ContractError: As ``rolling``, ``folds``.
        FitError: As ``fit_hazard``, ``fit_cox``.
    """
    draw = np.random.default_rng(rng)
    seed = int(draw.integers(2**31))

    chosen = settings

    def trees(train: pd.DataFrame) -> HazardFit:
        nonlocal chosen
        fit = fit_hazard(train, study.covariates, bins=_BINS, settings=chosen, rng=seed)
        # days are judged in order: what the first knew, all later ones know
        chosen = settings if study.contract else fit.settings
        return fit

    def plain(train: pd.DataFrame) -> CoxFit:
        return fit_cox(train, study.plain)

    fits: dict[str, FitSurvival] = {HAZARD: trees, COX: plain}
    if study.contract:
        judged = folds(study.rows, fits, study.times, rng=draw, draws=draws)
    else:
        judged = rolling(
            study.rows, fits, study.times, rng=draw, draws=draws,
            horizons=[float(day) for day in study.horizons],
        )  # fmt: skip
    # nothing is judged on today's fit: it may take the settings that were chosen before
    chosen = chosen or _settings(judged.last[HAZARD])
    return Judgement(study, judged, trees(study.rows), plain(study.rows))


def _over_groups(groups: pd.DataFrame) -> tuple[float, float, float]:
    """Mean observed share over groups, with its interval."""
    part = groups["customers"].to_numpy(float) / float(groups["customers"].sum())
    share, low, high = (groups[name].to_numpy(float) for name in ("observed", "ci_low", "ci_high"))
    mean = float(part @ share)
    below, above = (
        float(np.sqrt(np.square(part * gap).sum())) for gap in (share - low, high - share)
    )
    return mean, max(0.0, mean - below), min(1.0, mean + above)


def _settings(fit: object) -> HazardSettings | None:
    return fit.settings if isinstance(fit, HazardFit) else None
