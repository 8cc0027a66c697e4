"""A study judged: the models of past days on the days after them, and today's models."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from journeylab.churn.cox import CoxFit, fit_cox
from journeylab.churn.curves import no_purchase
from journeylab.churn.early_warning import EarlyWarning, early_warning
from journeylab.churn.explanation import Explanation
from journeylab.churn.hazard import HazardFit, fit_hazard
from journeylab.churn.hazard_settings import HazardSettings
from journeylab.churn.return_value import fit_return_value
from journeylab.churn.rolling import FitSurvival, Rolling, folds, rolling
from journeylab.churn.score import Scores
from journeylab.churn.stability import Stability, stability
from journeylab.churn.study import Study
from journeylab.errors import FitError

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
            ``ci_high``; ``predicted`` mean; ``baseline``, the one share given to everybody.
        """
        table, test = self.scores.by_time, self.rolling.test
        seen = no_purchase(test, [int(time) for time in self.scores.horizons], level)
        rows = []
        for horizon in self.scores.horizons:
            own = table[table["time"] == horizon].set_index("model")["predicted"]
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
        names = ("event least expected", "middling", "event most expected")
        parts = [
            pd.DataFrame({"group": name, "time": grid, "hazard": 30 * rate.loc[pick].to_numpy()})
            for name, pick in zip(names, picks, strict=True)
        ]
        return pd.concat(parts, ignore_index=True)

    def reasons(self, rng: int | np.random.Generator, most: int = 10) -> pd.DataFrame:
        """Mean size of what each covariate adds to the log-odds, by time; the largest first.

        Args:
            rng: Draws the customers of the last day that are explained, at most 400.
            most: Covariates.
        """
        test = self.rolling.test
        picks = np.random.default_rng(rng).permutation(len(test))[:_EXPLAINED]
        told: Explanation = self.hazard.explain(
            test.iloc[np.sort(picks)], [float(time) for time in self.study.times]
        )
        size = told.mean_size().drop(index="time", errors="ignore")
        return size.loc[size.mean(axis=1).sort_values(ascending=False).index].head(most)

    def warning(self, most: int = 200) -> EarlyWarning:
        """Today's customers by what their staying away puts at risk.

        Those silent for longer than twice the longest horizon are left out: they are past warning.

        Args:
            most: Length of the list.
        """
        study = self.study
        # early: whoever has been silent for longer than two horizons is past a warning
        recent = study.today
        if not study.contract:
            recent = recent[recent["days_since_last"] <= 2 * study.far].reset_index(drop=True)
        if study.contract:
            fit = Remaining(self.hazard)
            members = fit.within(study.today, study.far)
            members = members.assign(landmark=pd.Timestamp(study.last))
            charge = next((n for n in members if "monthly" in str(n).lower()), None)
            worth = (
                members[charge].astype(float).fillna(0.0) * study.far / _DAYS_PER_MONTH
                if charge
                else pd.Series(1.0, members.index)
            )
            return early_warning(
                fit, members, worth, horizons=study.horizons, most=most, event="leaving"
            )
        try:
            value = fit_return_value(study.rows, study.values, study.near)
        except FitError:
            # too few came back to learn what a return brings: what a customer spends per day
            daily = recent["spend"].astype(float) / recent["age_days"].clip(lower=1)
            plain = daily.clip(lower=0) * study.far
            return early_warning(
                self.hazard, recent, plain, horizons=study.horizons, most=most,
                within_days=study.near, previous=study.last_week,
            )  # fmt: skip
        return early_warning(
            self.hazard, recent, value, horizons=study.horizons, most=most,
            previous=study.last_week,
        )  # fmt: skip

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
    return Judgement(study, judged, trees(study.rows), plain(study.rows))
