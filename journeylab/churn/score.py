"""Forecasts judged side by side on rows they have not seen, and beside what needs no model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import ndtri

from journeylab.churn.auc import event_shares, weighted_shares
from journeylab.churn.baselines import AALEN_JOHANSEN, KAPLAN_MEIER, SINGLE, baselines
from journeylab.churn.brier import trapezoid_weights
from journeylab.churn.calibration import calibration_of, event_free, lift_of, share_interval
from journeylab.churn.censoring import (
    Floats,
    Outcomes,
    Watched,
    from_first,
    outcomes,
    survival_columns,
)
from journeylab.churn.judged import Judged, judge_forecast, redrawn
from journeylab.errors import ContractError

_TOP = (0.05, 0.1, 0.2)


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """What several forecasts are worth on the same rows; baselines stand after the models.

    Concordance reads the order alone and never decides alone: a forecast that is wrong for
    everybody can have the best one. Brier score and skill read order and level together.

    Of one cause among several, read ``event`` as the event of that cause, Kaplan-Meier as one less
    Aalen-Johansen's incidence (the baseline's name too), and survival as the chance of no event
    of that cause.

    Attributes:
        table: One row per forecast: ``model``; ``baseline`` (True or False); ``ibs`` (Brier score
            averaged over the times, lower is better) with ``ibs_low``, ``ibs_high``; ``skill``
            (1 - ibs / that of ``baseline``) with ``skill_low``, ``skill_high``; ``harrell_c``;
            ``uno_c`` with ``uno_low``, ``uno_high``; ``auc`` (mean over times) with ``auc_low``,
            ``auc_high``; ``d_gap`` (largest gap of D-calibration, a share) and ``d_p``.
        by_time: One row per forecast and time: ``model, time, brier, brier_low, brier_high,
            skill``; ``auc, auc_low, auc_high`` (empty where nobody or everybody had the event);
            ``predicted`` mean share without the event, ``observed`` share (Kaplan-Meier) with
            ``observed_low``, ``observed_high``.
        calibration: One row per forecast, horizon and group: ``model, horizon`` and the columns of
            ``calibration``.
        d_calibration: One row per forecast and bin: ``model`` and the columns of
            ``DCalibration.table``.
        lift: One row per forecast with an order, horizon, outcome (``event`` or ``no event``) and
            share: ``model, horizon, of`` and the columns of ``lift``; empty where nobody had the
            outcome.
        differences: One row per pair of forecasts and metric (``ibs, skill, harrell_c, uno_c,
            auc``): ``model, against, metric, difference, ci_low, ci_high``, and ``reading``:
            ``better``, ``worse`` or ``cannot be told``.
        losses: One row per customer, one column per forecast: the sum over its rows of the
            squared error averaged over the times, ``rows`` how many. Kept so that scores of
            several days can be put together by customer.
        times: Scored, ascending.
        horizons: Of calibration and lift.
        rows, customers, events: What the scores rest on; events by the last time.
        left_out: Rows that judge nothing because they came into sight too late.
        cause: That was judged, or ``None``.
        level: Coverage of the intervals.
    """

    table: pd.DataFrame
    by_time: pd.DataFrame
    calibration: pd.DataFrame
    d_calibration: pd.DataFrame
    lift: pd.DataFrame
    differences: pd.DataFrame
    losses: pd.DataFrame
    times: tuple[float, ...]
    horizons: tuple[float, ...]
    rows: int
    customers: int
    events: int
    left_out: int
    cause: str | int | None
    level: float

    @property
    def baseline(self) -> str:
        """Name of the baseline that skill is measured against."""
        return _common(self.cause)

    def difference(self, model: str, against: str, metric: str = "ibs") -> pd.Series:
        """The row of ``differences`` of one pair and metric."""
        own = self.differences
        found = own[
            (own["model"] == model) & (own["against"] == against) & (own["metric"] == metric)
        ]
        if len(found) != 1:
            raise ContractError(
                f"no difference in {metric!r} of {model!r} against {against!r}; forecasts are "
                f"{self.table['model'].tolist()}"
            )
        return found.iloc[0]


def score(
    frame: pd.DataFrame,
    predictions: Mapping[str, pd.DataFrame],
    *,
    train: pd.DataFrame,
    rng: int | np.random.Generator,
    times: Sequence[float] | None = None,
    horizons: Sequence[float] | None = None,
    risks: Mapping[str, pd.Series] | None = None,
    censoring: pd.DataFrame | None = None,
    watched: Watched = "through",
    columns: Sequence[str] = tuple(SINGLE),
    cause: str | int | None = None,
    groups: int | None = None,
    top: Sequence[float] = _TOP,
    draws: int = 500,
    level: float = 0.95,
) -> Scores:
    """Judge forecasts on rows with known outcomes, always beside the baselines.

    Intervals and differences come from customers drawn again with replacement, the same draws for
    all forecasts, so that differences are paired; ranks (C, AUC) enter the draws through what each
    customer adds to them to first order, and the weights for those lost from sight are taken as
    known.

    Rows that come into sight late (``entry`` > 0) are judged from the first of ``times`` on at
    which they were in sight, on the chance given no event until then, S(t) / S(start): the rows
    that had the event before nobody saw, so nothing else can be judged. Their C counts pairs that
    were in sight together, weighted for those that were not. With late rows ask for many times:
    what happens to a row before its first one judges nothing.

    Args:
        frame: Rows the forecasts have not seen: ``duration``, ``event``; ``entry`` where rows came
            into sight late; ``customer_id`` where rows share customers; the ``columns`` of the
            baselines.
        predictions: Name -> survival, index of ``frame``, columns = times; from any model. With
            ``cause`` the chance of no event of that cause, one less its incidence.
        train: Rows as known when the forecasts were made; the baselines learn from them.
        rng: Seed or generator of the draws.
        times: To score at, above 0; by default the times that all predictions have. Many make the
            mean over time and D-calibration finer.
        horizons: Of calibration and lift; by default up to three of ``times``.
        risks: Name -> order of the rows for C and lift, larger for sooner. By default the lower
            mean survival over the times.
        censoring: Rows that tell how sight is lost; by default ``frame``.
        watched: As in ``brier``.
        columns: One baseline from each; those the frames do not have are left out.
        cause: Judge the forecast of this ``cause`` among those in both frames; whoever has another
            one is known never to come to it.
        groups: Of calibration; by default ten, fewer with few rows.
        top: Shares of the lists of ``lift``.
        draws: Of the bootstrap.
        level: Coverage of the intervals (0-1).

    Raises:
        ContractError: Predictions do not fit the frame, there are fewer than two customers, no
            event by the last time, a time past the follow-up, or names of baselines are taken; or
            rows come into sight late and ``cause`` is asked for: the chance given no event of any
            kind does not follow from the incidence of one.

    Source:
        Graf, Schmoor, Sauerbrei & Schumacher (1999) for the weights; Schoop, Beyersmann,
        Schumacher & Binder (2011), Wolbers et al. (2014) and Blanche, Dartigues & Jacqmin-Gadda
        (2013, their second definition) for causes; van Houwelingen & Putter (2012) for forecasts
        given no event so far.
    """
    asked = _asked_times(predictions, times)
    known = outcomes(frame, censoring=censoring, watched=watched, cause=cause, late=True)
    if known.late and cause is not None:
        raise ContractError(
            f"{int((known.start > 0).sum())} of {len(frame)} rows come into sight after their "
            "start (entry > 0): what one cause will do to them depends on the chance of no event "
            "of any kind until then, which its incidence does not tell; score the event as a "
            "whole, or rows watched from their landmark"
        )
    if known.customers < 2:
        raise ContractError(f"scores need two customers or more; all {len(frame)} rows are of one")
    given = {name: survival_columns(frame, table, asked)[1] for name, table in predictions.items()}
    orders = {
        name: _order(frame, table, asked, (risks or {}).get(name)) for name, table in given.items()
    }
    plain = baselines(train, frame, asked.tolist(), columns, cause)
    if taken := [base.name for base in plain if base.name in given]:
        raise ContractError(f"{taken} are names of baselines; call the predictions otherwise")
    for base in plain:
        given[base.name] = base.survival
        orders[base.name] = np.zeros(len(frame)) if base.risk is None else base.risk.to_numpy(float)
    n_rows = len(frame)
    if known.late:
        known, chosen = from_first(known, asked)
        if not chosen.any():
            raise ContractError(f"all {n_rows} rows come into sight too late to judge anything")
        frame = frame[chosen]
        given = {
            name: _given_start(name, table[chosen], known, asked, name in predictions)
            for name, table in given.items()
        }
        orders = {name: order[chosen] for name, order in orders.items()}
    events = int((known.happened & (known.duration <= asked[-1])).sum())
    if not events:
        raise ContractError(
            f"nobody of {len(frame)} rows had the event by {asked[-1]:g}: a forecast has nothing "
            "to tell apart; ask for a later time or bring more rows"
        )
    horizons = _horizons(asked) if horizons is None else tuple(float(time) for time in horizons)
    if outside := [time for time in horizons if time not in asked.tolist()]:
        raise ContractError(f"horizons must be among the times scored; {outside} are not")
    if known.late or known.competing.any():
        shares = weighted_shares(known, asked)
    else:
        shares = event_shares(known.duration, known.happened, asked)
    judged = {
        name: judge_forecast(
            known, given[name].to_numpy(float), orders[name], asked, shares,
            by_risk=name not in predictions, level=level,
        )
        for name in given
    }  # fmt: skip
    common = _common(cause)
    if not judged[common].loss.sum() > 0:
        raise ContractError(
            f"all {len(frame)} rows did as {common} says: a forecast has nothing to gain"
        )
    rows = known.sums(_time_in_play(known, asked))
    drawn = redrawn(judged, rows, common, draws, np.random.default_rng(rng))
    bins = [one.bins.table.assign(model=name) for name, one in judged.items()]
    return Scores(
        table=_table(judged, drawn, predictions, level),
        by_time=_by_time(known, given, judged, asked, common, level),
        calibration=_calibrations(known, given, horizons, groups, level),
        d_calibration=_model_first(pd.concat(bins, ignore_index=True)),
        lift=_lifts(known, orders, horizons, top, common, level),
        differences=_differences(list(given), predictions, drawn, level),
        losses=pd.DataFrame(
            {**{name: one.loss for name, one in judged.items()}, "rows": rows}, _customers(frame)
        ),
        times=tuple(asked.tolist()),
        horizons=horizons,
        rows=len(frame),
        customers=known.customers,
        events=events,
        left_out=n_rows - len(frame),
        cause=cause,
        level=level,
    )


def _common(cause: str | int | None) -> str:
    return KAPLAN_MEIER if cause is None else AALEN_JOHANSEN


def _time_in_play(known: Outcomes, times: Floats) -> Floats:
    """Share of the time scored that each row is judged in; 1 for rows judged from the start."""
    if not known.late:
        return np.ones(len(known.start))
    played = known.start[:, None] < times[None, :]
    return np.asarray(played @ trapezoid_weights(times), float)


def _given_start(
    name: str, survival: pd.DataFrame, known: Outcomes, times: Floats, told: bool
) -> pd.DataFrame:
    """Survival given no event until each row's start, 1 until then."""
    curve = np.column_stack([np.ones(len(survival)), survival.to_numpy(float)])
    place = np.searchsorted(np.append(0.0, times), known.start)
    at_start = curve[np.arange(len(curve)), place][:, None]
    if told and (none := int((at_start <= 0).sum())):
        raise ContractError(
            f"{name!r} gives {none} of {len(curve)} rows no chance to be without the event when "
            "they came into sight, and there they were"
        )
    whole = np.minimum(np.divide(curve, at_start, np.zeros_like(curve), where=at_start > 0), 1.0)
    whole[np.arange(curve.shape[1]) <= place[:, None]] = 1.0
    return pd.DataFrame(whole[:, 1:], survival.index, survival.columns)


def _asked_times(predictions: Mapping[str, pd.DataFrame], times: Sequence[float] | None) -> Floats:
    if not predictions:
        raise ContractError("score needs one forecast or more; got none")
    if times is None:
        common = set.intersection(
            *({float(column) for column in table.columns} for table in predictions.values())
        )
        times = sorted(time for time in common if time > 0)
    if not len(times):
        raise ContractError("the forecasts have no time above 0 in common")
    return np.unique(np.asarray(times, float))


def _horizons(times: Floats) -> tuple[float, ...]:
    picks = np.unique(np.ceil(np.arange(1, 4) * len(times) / 3).astype(int) - 1)
    return tuple(times[picks].tolist())


def _order(
    frame: pd.DataFrame, survival: pd.DataFrame, times: Floats, risk: pd.Series | None
) -> Floats:
    """Larger for whom the event is expected sooner."""
    if risk is None:
        width = np.diff(np.append(0.0, times))
        curve = survival.to_numpy(float)
        before = np.column_stack([np.ones(len(curve)), curve[:, :-1]])
        return -np.asarray((before + curve) / 2 @ width, float)
    values = risk.reindex(frame.index).to_numpy(float)
    if missing := int((~np.isfinite(values)).sum()):
        raise ContractError(f"risks are missing in {missing} of {len(frame)} rows")
    return values


def intervals(drawn: Floats, level: float) -> tuple[Floats, Floats]:
    """Percentile interval of draws ``(draws + 1, ...)``, widened to hold the first, the value."""
    low, high = np.quantile(drawn[1:], [(1 - level) / 2, (1 + level) / 2], axis=0)
    return np.minimum(low, drawn[0]), np.maximum(high, drawn[0])


def reading(low: float, high: float, *, less_is_better: bool) -> str:
    """``better``, ``worse`` or, where the interval holds 0, ``cannot be told``."""
    if low <= 0 <= high:
        return "cannot be told"
    return "better" if (high < 0) == less_is_better else "worse"


def _table(
    judged: Mapping[str, Judged],
    drawn: Mapping[str, Floats],
    predictions: Mapping[str, pd.DataFrame],
    level: float,
) -> pd.DataFrame:
    table: dict[str, object] = {
        "model": list(judged),
        "baseline": [name not in predictions for name in judged],
    }
    shown = {"ibs": "ibs", "skill": "skill", "harrell_c": "", "uno_c": "uno", "auc": "auc"}
    for metric, short in shown.items():
        table[metric] = drawn[metric][0]
        if short:
            table[f"{short}_low"], table[f"{short}_high"] = intervals(drawn[metric], level)
    table["d_gap"] = [one.bins.largest_gap for one in judged.values()]
    table["d_p"] = [one.bins.p for one in judged.values()]
    return pd.DataFrame(table)


def _by_time(
    known: Outcomes,
    given: Mapping[str, pd.DataFrame],
    judged: Mapping[str, Judged],
    times: Floats,
    common: str,
    level: float,
) -> pd.DataFrame:
    z = float(ndtri((1 + level) / 2))
    observed, played = [], []
    for time in times:
        own, here = known.in_play(time)
        everyone = np.ones(len(own.duration))
        share, moves = event_free(own, time, everyone)
        ends = share_interval(own, share, moves, everyone > 0, level)
        observed.append((share, *ends))
        played.append(here)
    plain = [value for value, _ in judged[common].brier]
    table = []
    for name, one in judged.items():
        curve = given[name].to_numpy(float)
        mean = [float(curve[here, k].mean()) for k, here in enumerate(played)]
        for k, time in enumerate(times):
            value, error = one.brier[k]
            ends = max(0.0, value - z * error), value + z * error
            skill = 1 - value / plain[k] if plain[k] > 0 else np.nan
            area, spread = one.auc_at[k] or (np.nan, np.nan)
            around = max(0.0, area - z * spread), min(1.0, area + z * spread)
            if one.auc_at[k] is None:
                around = np.nan, np.nan
            table.append((name, time, value, *ends, skill, area, *around, mean[k], *observed[k]))
    columns = ["model", "time", "brier", "brier_low", "brier_high", "skill", "auc", "auc_low"]
    columns += ["auc_high", "predicted", "observed", "observed_low", "observed_high"]
    return pd.DataFrame(table, columns=columns)


def _calibrations(
    known: Outcomes,
    given: Mapping[str, pd.DataFrame],
    horizons: Sequence[float],
    groups: int | None,
    level: float,
) -> pd.DataFrame:
    parts = []
    for name, survival in given.items():
        own = survival.set_axis([float(column) for column in survival.columns], axis=1)
        for horizon in horizons:
            now, here = known.in_play(horizon)
            chance = own[horizon].to_numpy(float)[here]
            table = calibration_of(now, chance, horizon, groups, level)
            parts.append(table.assign(model=name, horizon=horizon))
    return _model_first(pd.concat(parts, ignore_index=True))


def _lifts(
    known: Outcomes,
    orders: Mapping[str, Floats],
    horizons: Sequence[float],
    top: Sequence[float],
    common: str,
    level: float,
) -> pd.DataFrame:
    played = {horizon: known.in_play(horizon) for horizon in horizons}
    free = {
        horizon: event_free(own, horizon, np.ones(len(own.duration)))[0]
        for horizon, (own, _) in played.items()
    }
    parts = []
    for name, order in orders.items():
        if name == common:
            continue
        for horizon, (own, here) in played.items():
            for of_event, share in ((True, 1 - free[horizon]), (False, free[horizon])):
                if not share > 1e-12:
                    continue
                table = lift_of(own, order[here], horizon, top, of_event=of_event, level=level)
                kind = "event" if of_event else "no event"
                parts.append(table.assign(model=name, horizon=horizon, of=kind))
    return _model_first(pd.concat(parts, ignore_index=True))


def _differences(
    names: Sequence[str],
    predictions: Mapping[str, pd.DataFrame],
    drawn: Mapping[str, Floats],
    level: float,
) -> pd.DataFrame:
    table = []
    for metric, values in drawn.items():
        for model in predictions:
            for against in (name for name in names if name != model):
                apart = values[:, names.index(model)] - values[:, names.index(against)]
                low, high = (float(end) for end in intervals(apart, level))
                said = reading(low, high, less_is_better=metric == "ibs")
                table.append((model, against, metric, float(apart[0]), low, high, said))
    columns = ["model", "against", "metric", "difference", "ci_low", "ci_high", "reading"]
    return pd.DataFrame(table, columns=columns)


def _model_first(table: pd.DataFrame) -> pd.DataFrame:
    first = [name for name in ("model", "horizon", "of") if name in table.columns]
    return table[[*first, *(name for name in table.columns if name not in first)]]


def _customers(frame: pd.DataFrame) -> pd.Index:
    names = frame["customer_id"] if "customer_id" in frame.columns else np.arange(len(frame))
    return pd.Index(pd.factorize(np.asarray(names))[1], name="customer_id")
