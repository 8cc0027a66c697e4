"""Champion: the forecast that did best on trials inside the calibration window."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import pandas as pd

from journeylab.clv import gamma_gamma, origins
from journeylab.clv.accuracy import POWER, floored, gini, tweedie_deviance
from journeylab.clv.boosting import FEWEST_ROWS, train_boosted
from journeylab.clv.gamma_gamma import fit_gamma_gamma, repeat_spend
from journeylab.clv.histories import Floats, numbers
from journeylab.clv.origins import Origins
from journeylab.clv.screening import left_truncation
from journeylab.errors import ContractError, FitError
from journeylab.estimate import resampled
from journeylab.frames import DAYS_PER_UNIT

Target = Literal["purchases", "amount"]

INDIVIDUAL_RATE = "individual rate"
LAST_PERIOD = "last period"
LAST_PERIOD_ALL = "last period with first"
BASELINES = (INDIVIDUAL_RATE, LAST_PERIOD, LAST_PERIOD_ALL)
BLEND, BOOSTED = "blend", "boosted"
# Deviances this close are equals: bias and then Gini decide.
_TIE = 0.02
# Total bias that a forecast to act on stays within, per cent.
BIAS_PERCENT = 5.0
_RECENT = ("recent_eighth", "recent_quarter", "recent_half", "recent", "recent_two")
_SPANS = (0.125, 0.25, 0.5, 1.0, 2.0)


class Purchases(Protocol):
    """What a purchase model must be able to do to stand for champion."""

    @property
    def unit(self) -> str:
        """Time unit of its histories."""

    def expected_purchases(self, histories: pd.DataFrame, horizon: float) -> pd.Series:
        """Purchases within ``horizon`` (in ``unit``), indexed like ``histories``."""


FitPurchases = Callable[[pd.DataFrame], Purchases]


@dataclass(frozen=True, slots=True)
class Champion:
    """The forecast that won on the trials, with what it won against and what it forecasts.

    Attributes:
        name: Of the winner.
        target: ``purchases`` (purchase days) or ``amount`` (net of returns, 0 where below).
        reason: The choice in a sentence.
        power: Of the Tweedie deviance.
        table: One row per candidate, best first: ``model, deviance, bias_percent, gini, rmse``
            over all trials together, and ``trials``, how many it took part in.
        by_origin: The same per trial: ``origin, model, customers, actual, forecast, bias_percent,
            deviance, gini, rmse``.
        trials: What the trials were scored on: ``origin, customer_id, actual``, then one column
            per candidate, missing in trials it took no part in; trials in which nobody bought
            are left out.
        forecasts: For the horizon from ``as_of``: ``customer_id``, then one column per candidate.
        origins: The days.
        left_truncation: A sentence where ages are not known; then purchase models stand on weak
            ground and ``p_alive`` should not be shown.
        left_out: Candidates that could not be fitted, with the reason.
    """

    name: str
    target: Target
    reason: str
    power: float
    table: pd.DataFrame
    by_origin: pd.DataFrame
    trials: pd.DataFrame
    forecasts: pd.DataFrame
    origins: Origins
    left_truncation: str
    left_out: tuple[str, ...]

    @property
    def forecast(self) -> pd.DataFrame:
        """The winner's own forecast: ``customer_id, forecast``."""
        return self.forecasts[["customer_id", self.name]].rename(columns={self.name: "forecast"})


def choose_champion(
    rows: pd.DataFrame,
    known: pd.DataFrame,
    days: Origins,
    purchase_fits: Mapping[str, FitPurchases],
    seed: int,
    *,
    target: Target = "purchases",
    power: float = POWER,
    unit: str = "week",
) -> Champion:
    """Try every candidate inside the calibration window and keep the best; no holdout is seen.

    Candidates are the purchase models of ``purchase_fits``; three rules of thumb, ``individual
    rate`` (repeat purchases per day of age go on), ``last period`` (repeat purchases of the last
    such stretch come again) and ``last period with first`` (its first purchase too, which is right
    where the first order seen is not a customer's first); ``blend``, a weighted sum of them with
    weights learnt at earlier landmarks; and ``boosted``, trees that correct the blend.

    The lowest mean Tweedie deviance wins. Candidates within 2 % of it are equals: the smaller
    total bias decides, then the Gini. Mean absolute error is no criterion: it rewards a forecast of
    zero. A forecast below 5 % of the mean outcome counts as that, or a rule that says 0 would be
    infinitely wrong.

    Args:
        rows: ``frames.value_landmarks(tables, days.landmarks, days.check_days, days.as_of)``.
        known: ``frames.value_landmarks(tables, [days.as_of], days.horizon_days, days.as_of)``.
        days: From ``rolling_origins``.
        purchase_fits: Name -> function from histories (``frequency, recency, age`` in ``unit``) to
            a fit, such as ``{"BG/NBD": clv.fit_bg_nbd}``.
        seed: Of the boosted model.
        target: What is forecast.
        power: Of the Tweedie deviance, between 1 and 2.
        unit: That ``purchase_fits`` expect.

    Raises:
        ContractError: A row looks beyond ``as_of``, landmarks are missing, or nobody bought in any
            trial.
    """
    if target not in ("purchases", "amount"):
        raise ContractError(f"target must be purchases or amount; got {target!r}")
    _check(rows, known, days)
    makers = _Makers(purchase_fits, target, power, unit, seed)
    trials, left_out = [], []
    for start in days.checks:
        now = origins.at(rows, start)
        forecast, missing = makers.forecasts(rows, now, start, days)
        left_out += [f"{start}: {text}" for text in missing]
        told = forecast.drop(columns="customer_id")
        actual = _outcome(now, target)
        trials.append(
            pd.concat([now[["customer_id"]].assign(origin=start, actual=actual), told], axis=1)
        )
    came = [trial for trial in trials if trial["actual"].sum() > 0]
    if not came:
        raise ContractError(
            f"nobody bought within {days.check_days} days of {' or '.join(days.checks)}: there is "
            "nothing to choose by; choose a later as_of or longer check_days"
        )
    final, missing = makers.forecasts(rows, origins.at(rows, days.as_of), days.as_of, days, known)
    left_out += [f"{days.as_of}: {text}" for text in missing]
    candidates = [name for name in final.columns if name != "customer_id"]
    by_origin = pd.concat([_scores(trial, candidates, power) for trial in came])
    table = _pooled(by_origin, candidates)
    name = str(table["model"].iloc[0])
    firsts = known.groupby("first_day").size().rename("customers").reset_index()
    return Champion(
        name=name,
        target=target,
        reason=_reason(table, days),
        power=power,
        table=table,
        by_origin=by_origin.reset_index(drop=True),
        trials=pd.concat(came, ignore_index=True),
        forecasts=final[["customer_id", *candidates]],
        origins=days,
        left_truncation=left_truncation(firsts),
        left_out=tuple(left_out),
    )


@dataclass(frozen=True, slots=True)
class Challenge:
    """The champion and its rivals beside what then happened.

    Attributes:
        table: One row per candidate, champion first: ``model, forecast, actual`` (totals);
            ``bias_percent`` with ``_low, _high``; ``deviance, rmse, gini``; ``deviance_gain`` and
            ``rmse_gain``: its loss less the champion's (above 0: the champion is better), each
            with ``_low, _high`` from the same customers drawn again.
        best_baseline: The rule of thumb with the lowest deviance in this holdout.
        best_baseline_rmse: The one with the lowest RMSE.
        won: Whether the champion beats both by more than chance and its bias is within 5 %.
        verdict: The same in words.
    """

    table: pd.DataFrame
    best_baseline: str
    best_baseline_rmse: str
    won: bool
    verdict: str


def challenge(
    champion: Champion,
    holdout: pd.DataFrame,
    rng: int | np.random.Generator,
    *,
    level: float = 0.95,
    draws: int = 1000,
) -> Challenge:
    """Open the holdout: champion against every rival, with intervals on the differences.

    Args:
        champion: Chosen before.
        holdout: ``customer_id, purchase_days, amount``: ``frames.holdout(tables, as_of, until)``,
            or ``frames.value_landmarks`` at ``as_of``.
        rng: Seed or generator.
        level: Coverage of the bootstrap intervals over customers (0-1).
        draws: Resamples.

    Raises:
        ContractError: The customers differ, or nobody bought.
    """
    later = holdout.set_index("customer_id")
    ids = champion.forecasts["customer_id"]
    missing = ~ids.isin(later.index)
    if missing.any() or len(later) != len(ids):
        raise ContractError(
            f"forecast and holdout must be about the same customers; {int(missing.sum())} of "
            f"{len(ids)} are not among the {len(later)} of the holdout; build it with "
            f"as_of={champion.origins.as_of}"
        )
    actual = _outcome(later.loc[ids].reset_index(), champion.target)
    if actual.sum() <= 0:
        raise ContractError(
            f"none of {len(actual):,} customers bought in the holdout: nothing to compare with"
        )
    names = [champion.name]
    names += [str(n) for n in champion.table["model"] if n != champion.name]
    told = champion.forecasts[names].to_numpy(float)
    count = len(names)
    losses = np.column_stack(
        [
            *(tweedie_deviance(actual, floored(f, actual), champion.power) for f in told.T),
            *((f - actual) ** 2 for f in told.T),
        ]
    )

    def measures(sample: Floats) -> Floats:
        total = max(float(sample[:, -1].sum()), np.finfo(float).tiny)
        bias = 100 * (sample[:, :count].sum(axis=0) / total - 1)
        mean = sample[:, count:-1].mean(axis=0)
        deviance, rmse = mean[:count], np.sqrt(mean[count:])
        return np.array([bias, deviance - deviance[0], rmse - rmse[0]])

    sample = np.column_stack([told, losses, actual])
    drawn = resampled(sample, measures, rng, draws)
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0)
    value = measures(sample)
    table = pd.DataFrame({"model": names, "forecast": told.sum(axis=0), "actual": actual.sum()})
    table["bias_percent"], table["bias_percent_low"], table["bias_percent_high"] = (
        value[0],
        low[0],
        high[0],
    )
    table["deviance"] = losses[:, :count].mean(axis=0)
    table["rmse"] = np.sqrt(losses[:, count:].mean(axis=0))
    table["gini"] = [gini(actual, forecast) for forecast in told.T]
    for k, name in ((1, "deviance_gain"), (2, "rmse_gain")):
        table[name], table[f"{name}_low"], table[f"{name}_high"] = value[k], low[k], high[k]
    # What is read first stands first: a page shows the left of a wide table.
    first = ["model", "forecast", "actual", "bias_percent", "rmse", "rmse_gain", "deviance"]
    first += ["deviance_gain", "deviance_gain_low", "deviance_gain_high"]
    table = table[[*first, *(column for column in table.columns if column not in first)]]
    rules = table[table["model"].isin(BASELINES)]
    by_deviance = rules.sort_values("deviance", kind="stable").iloc[0]
    by_rmse = rules.sort_values("rmse", kind="stable").iloc[0]
    won, verdict = _verdict(champion, table.iloc[0], by_deviance, by_rmse)
    return Challenge(table, str(by_deviance["model"]), str(by_rmse["model"]), won, verdict)


@dataclass(frozen=True, slots=True)
class _Makers:
    """Makes every candidate's forecast on one day from what was known by then."""

    purchase_fits: Mapping[str, FitPurchases]
    target: Target
    power: float
    unit: str
    seed: int

    def forecasts(
        self,
        rows: pd.DataFrame,
        now: pd.DataFrame,
        start: str,
        days: Origins,
        known: pd.DataFrame | None = None,
    ) -> tuple[pd.DataFrame, list[str]]:
        """Forecasts from ``start`` on, over ``check_days``; over the horizon where known is given.

        Returns:
            ``customer_id`` and one column per candidate; and who could not take part, and why.
        """
        horizon = days.check_days if known is None else days.horizon_days
        fits, missing = self._fit(now)
        of_spend = self._spend(now)
        near = self._models(now, fits, days.check_days, of_spend)
        far = near if known is None else self._models(now, fits, horizon, of_spend)
        shown = now if known is None else _in_order(known, now)
        columns = {**far, **self._rules(shown, horizon)}
        past = rows[rows["landmark"].isin([pd.Timestamp(day) for day in days.lessons(start)])]
        past = past.reset_index(drop=True)
        if len(past) < FEWEST_ROWS or _outcome(past, self.target).sum() <= 0:
            missing.append(f"{BLEND} and {BOOSTED}: {len(past)} rows to learn from")
        else:
            before = self._models(past, fits, days.check_days, of_spend)
            lessons = self._ingredients(past, before, days)
            learnt = train_boosted(
                lessons,
                self._features(past, before, days),
                _outcome(past, self.target),
                self.seed,
                self.power,
            )
            today = self._ingredients(now, near, days)
            carried = _carried(near, far, horizon / days.check_days, len(now))
            columns[BLEND] = learnt.blend(today) * carried
            columns[BOOSTED] = learnt.predict(today, self._features(now, near, days)) * carried
        forecast = pd.DataFrame({"customer_id": now["customer_id"], **columns})
        return forecast, missing

    def _fit(self, now: pd.DataFrame) -> tuple[dict[str, Purchases], list[str]]:
        fits, missing = {}, []
        for name, fit in self.purchase_fits.items():
            try:
                fits[name] = fit(self._histories(now))
            except FitError as error:
                missing.append(f"{name}: {error}")
        return fits, missing

    def _histories(self, rows: pd.DataFrame) -> pd.DataFrame:
        days = DAYS_PER_UNIT[self.unit]
        return pd.DataFrame(
            {
                "frequency": rows["frequency"],
                "recency": rows["recency_days"] / days,
                "age": rows["age_days"] / days,
            }
        )

    def _spend(self, now: pd.DataFrame) -> Callable[[pd.DataFrame], Floats]:
        """Expected amount of a purchase, by what was known on the day; 1 where it is not asked."""
        if self.target == "purchases":
            return lambda rows: np.ones(len(rows))
        try:
            fit = fit_gamma_gamma(repeat_spend(now))
        except (FitError, ContractError):
            # Too few or too alike: everybody's mean. A result without amounts would be worse.
            count = float((now["frequency"] + 1).sum())
            mean = max(float(now["spend"].sum()) / count, 0.0)
            return lambda rows: np.full(len(rows), mean)
        parameters = (fit.p, fit.q, fit.gamma)
        return lambda rows: gamma_gamma.expected_by_history(
            rows["frequency"].to_numpy(float), rows["monetary_value"].to_numpy(float), *parameters
        )

    def _models(
        self,
        rows: pd.DataFrame,
        fits: Mapping[str, Purchases],
        horizon_days: float,
        of_spend: Callable[[pd.DataFrame], Floats],
    ) -> dict[str, Floats]:
        histories, each = self._histories(rows), of_spend(rows)
        return {
            name: fit.expected_purchases(
                histories, horizon_days / DAYS_PER_UNIT[fit.unit]
            ).to_numpy()
            * each
            for name, fit in fits.items()
        }

    def _rules(self, rows: pd.DataFrame, horizon_days: int) -> dict[str, Floats]:
        age = np.maximum(rows["age_days"].to_numpy(float), 1.0)
        joined_within = (rows["age_days"] < horizon_days).to_numpy()
        if self.target == "purchases":
            rate = rows["frequency"].to_numpy(float) / age
            recent = rows["recent"].to_numpy(float)
            first = joined_within.astype(float)
        else:
            rate = (rows["spend"] - rows["first_spend"]).to_numpy(float) / age
            recent = rows["recent_amount"].to_numpy(float)
            first = np.where(joined_within, rows["first_spend"], 0.0)
        forecasts = (rate * horizon_days, recent, recent + first)
        told = (np.maximum(forecast, 0.0) for forecast in forecasts)
        return dict(zip(BASELINES, told, strict=True))

    def _ingredients(self, rows: pd.DataFrame, near: dict[str, Floats], days: Origins) -> Floats:
        rules = self._rules(rows, days.check_days)
        half, two = rows["recent_half"].to_numpy(float), rows["recent_two"].to_numpy(float)
        each = np.ones(len(rows))
        if self.target == "amount":
            each = np.maximum(rows["spend"].to_numpy(float), 0) / (rows["frequency"] + 1).to_numpy()
        seen = np.minimum(rows["age_days"].to_numpy(float) + 1, 2.0 * days.check_days)
        return np.column_stack(
            [
                *near.values(),
                *rules.values(),
                half * 2 * each,
                two * days.check_days / np.maximum(seen, days.check_days) * each,
                each if self.target == "amount" else np.ones(len(rows)),
            ]
        )

    def _features(self, rows: pd.DataFrame, near: dict[str, Floats], days: Origins) -> pd.DataFrame:
        age = rows["age_days"].to_numpy(float)
        frequency = rows["frequency"].to_numpy(float)
        gap = rows["recency_days"].to_numpy(float) / np.maximum(frequency, 1)
        features = {
            "frequency": frequency,
            "age": age,
            "since": rows["days_since_last"].to_numpy(float),
            "gaps_missed": rows["days_since_last"].to_numpy(float) / np.maximum(gap, 0.5),
            "monetary_value": rows["monetary_value"].to_numpy(float),
            "first_spend": rows["first_spend"].to_numpy(float),
            **near,
        }
        for name, span in zip(_RECENT, _SPANS, strict=True):
            seen = np.minimum(max(span * days.check_days, 1), age + 1)
            features[name] = rows[name].to_numpy(float) * days.check_days / seen
        if self.target == "amount":
            features["recent_amount"] = rows["recent_amount"].to_numpy(float)
        return pd.DataFrame(features)


def _carried(
    near: dict[str, Floats], far: dict[str, Floats], longer: float, customers: int
) -> Floats:
    """From the trial's length to the horizon, by what the purchase models expect to be added."""
    if near is far or not near:
        return np.full(customers, longer if near is not far else 1.0)
    begin, end = (np.mean(list(one.values()), axis=0) for one in (near, far))
    ratio = np.where(begin > 0, end / np.where(begin > 0, begin, 1.0), longer)
    return np.asarray(np.clip(ratio, min(1.0, longer), max(1.0, longer)))


def _check(rows: pd.DataFrame, known: pd.DataFrame, days: Origins) -> None:
    if rows.empty or known.empty:
        raise ContractError(
            "there are no customers to forecast for: nobody had bought by as_of, or the rows were "
            "not built with frames.value_landmarks"
        )
    for frame, name in ((rows, "rows"), (known, "known")):
        needed = ("frequency", "recency_days", "age_days", "spend", "followed_days", "recent")
        numbers(frame, needed, name)
        ends = frame["landmark"] + pd.to_timedelta(frame["followed_days"], unit="D")
        late = (ends > pd.Timestamp(days.as_of)).to_numpy()
        if late.any():
            raise ContractError(
                f"{int(late.sum())} of {len(frame)} {name} look beyond as_of ({days.as_of}): build "
                "them with until=as_of, or the holdout is opened before the choice"
            )
    wanted = {pd.Timestamp(day) for day in (*days.checks, days.as_of)}
    short = rows["landmark"].isin([pd.Timestamp(day) for day in days.checks]) & (
        rows["followed_days"] < days.check_days
    )
    if short.any() or not wanted <= set(rows["landmark"]):
        raise ContractError(
            f"rows must hold the days {', '.join(sorted(str(day.date()) for day in wanted))}, each "
            f"followed for {days.check_days} days: build them with frames.value_landmarks(tables, "
            "days.landmarks, days.check_days, days.as_of)"
        )


def _in_order(known: pd.DataFrame, now: pd.DataFrame) -> pd.DataFrame:
    """``known`` in the order of ``now``: the same customers on the same day."""
    indexed = known.set_index("customer_id")
    if len(known) != len(now) or not now["customer_id"].isin(indexed.index).all():
        raise ContractError(
            f"known ({len(known)} customers) and the rows of as_of ({len(now)}) must be about the "
            "same customers: build both from the same tables with days.as_of"
        )
    return indexed.loc[now["customer_id"]].reset_index()


def _outcome(rows: pd.DataFrame, target: Target) -> Floats:
    column = "purchase_days" if target == "purchases" else "amount"
    (values,) = numbers(rows, (column,), "outcomes")
    # Who gives back more than they buy has brought nothing: the deviance knows no less.
    return np.maximum(values, 0.0)


def _scores(trial: pd.DataFrame, candidates: list[str], power: float) -> pd.DataFrame:
    actual = trial["actual"].to_numpy(float)
    total = max(float(actual.sum()), np.finfo(float).tiny)
    told = {name: trial[name].to_numpy(float) for name in candidates if name in trial.columns}
    return pd.DataFrame(
        [
            {
                "origin": trial["origin"].iloc[0],
                "model": name,
                "customers": len(trial),
                "actual": float(actual.sum()),
                "forecast": float(forecast.sum()),
                "bias_percent": 100 * (float(forecast.sum()) / total - 1),
                "deviance": float(
                    tweedie_deviance(actual, floored(forecast, actual), power).mean()
                ),
                "gini": gini(actual, forecast),
                "rmse": float(np.sqrt(((forecast - actual) ** 2).mean())),
            }
            for name, forecast in told.items()
        ]
    )


def _pooled(by_origin: pd.DataFrame, candidates: list[str]) -> pd.DataFrame:
    """Scores over the trials that every candidate took part in, winner first."""
    took_part = by_origin.groupby("origin")["model"].nunique()
    common = took_part.index[took_part == took_part.max()]
    entered = set(by_origin.loc[by_origin["origin"].isin(common), "model"])
    shared = by_origin[by_origin["origin"].isin(common)]
    rows = []
    for name in candidates:
        if name not in entered:
            continue
        own = shared[shared["model"] == name]
        weight = own["customers"].to_numpy(float)
        rows.append(
            {
                "model": name,
                "deviance": float(np.average(own["deviance"], weights=weight)),
                "bias_percent": 100 * (own["forecast"].sum() / own["actual"].sum() - 1),
                "gini": float(np.average(own["gini"], weights=weight)),
                "rmse": float(np.sqrt(np.average(own["rmse"] ** 2, weights=weight))),
                "trials": len(own),
            }
        )
    table = pd.DataFrame(rows).sort_values("deviance", kind="stable").reset_index(drop=True)
    close = table[table["deviance"] <= (1 + _TIE) * table["deviance"].iloc[0]]
    place = np.lexsort((-close["gini"].to_numpy(), close["bias_percent"].abs().to_numpy()))
    first = close.index[place[0]]
    order = [first, *(row for row in table.index if row != first)]
    return table.loc[order].reset_index(drop=True)


def _reason(table: pd.DataFrame, days: Origins) -> str:
    own = table.iloc[0]
    trials = int(own["trials"])
    rules = table[table["model"].isin(BASELINES)]
    return (
        f"{own['model']} is chosen on {trials} trial{'s' if trials > 1 else ''} of "
        f"{days.check_days} days inside the calibration window: mean deviance "
        f"{own['deviance']:.4g} against {rules['deviance'].min():.4g} of the best rule of thumb, "
        f"total {own['bias_percent']:+.1f} %, Gini {own['gini']:.2f}."
    )


def _verdict(
    champion: Champion, own: pd.Series, by_deviance: pd.Series, by_rmse: pd.Series
) -> tuple[bool, str]:
    name = champion.name
    parts, beaten = [], []
    for rule, measure in ((by_deviance, "deviance"), (by_rmse, "RMSE")):
        gain, low, high = (rule[f"{measure.lower()}_gain{end}"] for end in ("", "_low", "_high"))
        beaten.append(bool(low > 0))
        verb = "beats" if low > 0 else "loses to" if high < 0 else "cannot be told from"
        if rule["model"] == name:
            verb = "is itself"
        parts.append(
            f"{verb} the best rule of thumb ({rule['model']}) by {measure} "
            f"({own[measure.lower()]:.4g} against {rule[measure.lower()]:.4g}, difference "
            f"{gain:.3g}, {low:.3g} to {high:.3g})"
        )
    bias = float(own["bias_percent"])
    level = abs(bias) <= BIAS_PERCENT
    total = (
        f"its total is {abs(bias):.1f} % too {'low' if bias < 0 else 'high'} "
        f"({own['bias_percent_low']:+.1f} to {own['bias_percent_high']:+.1f} %)"
        f"{'' if level else f', beyond the {BIAS_PERCENT:.0f} % that may be acted on'}"
    )
    won = all(beaten) and level
    return won, f"{name} {' and '.join(parts)}; {total}."
