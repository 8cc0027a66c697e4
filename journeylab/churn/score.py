"""Forecasts judged side by side on rows they have not seen, and beside what needs no model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import ndtri

from journeylab.churn.auc import event_shares
from journeylab.churn.baselines import KAPLAN_MEIER, SINGLE, baselines
from journeylab.churn.calibration import calibration_of, event_free, lift_of, share_interval
from journeylab.churn.censoring import Floats, Outcomes, Watched, outcomes, survival_columns
from journeylab.churn.judged import Judged, judge_forecast, redrawn
from journeylab.errors import ContractError

_TOP = (0.05, 0.1, 0.2)


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """What several forecasts are worth on the same rows; baselines stand after the models.

    Concordance reads the order alone and never decides alone: a forecast that is wrong for
    everybody can have the best one. Brier score and skill read order and level together.

    Attributes:
        table: One row per forecast: ``model``; ``baseline`` (True or False); ``ibs`` (Brier score
            averaged over the times, lower is better) with ``ibs_low``, ``ibs_high``; ``skill``
            (1 - ibs / that of Kaplan-Meier) with ``skill_low``, ``skill_high``; ``harrell_c``;
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
    level: float

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

    Args:
        frame: Rows the forecasts have not seen: ``duration``, ``event``; ``customer_id`` where
            rows share customers; the ``columns`` of the baselines.
        predictions: Name -> survival, index of ``frame``, columns = times; from any model.
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
        groups: Of calibration; by default ten, fewer with few rows.
        top: Shares of the lists of ``lift``.
        draws: Of the bootstrap.
        level: Coverage of the intervals (0-1).

    Raises:
        ContractError: Predictions do not fit the frame, there are fewer than two customers, no
            event by the last time, a time past the follow-up, or names of baselines are taken.
    """
    asked = _asked_times(predictions, times)
    known = outcomes(frame, censoring=censoring, watched=watched)
    if known.customers < 2:
        raise ContractError(f"scores need two customers or more; all {len(frame)} rows are of one")
    given = {name: survival_columns(frame, table, asked)[1] for name, table in predictions.items()}
    orders = {
        name: _order(frame, table, asked, (risks or {}).get(name)) for name, table in given.items()
    }
    plain = baselines(train, frame, asked.tolist(), columns)
    if taken := [base.name for base in plain if base.name in given]:
        raise ContractError(f"{taken} are names of baselines; call the predictions otherwise")
    for base in plain:
        given[base.name] = base.survival
        orders[base.name] = np.zeros(len(frame)) if base.risk is None else base.risk.to_numpy(float)
    events = int((known.happened & (known.duration <= asked[-1])).sum())
    if not events:
        raise ContractError(
            f"nobody of {len(frame)} rows had the event by {asked[-1]:g}: a forecast has nothing "
            "to tell apart; ask for a later time or bring more rows"
        )
    horizons = _horizons(asked) if horizons is None else tuple(float(time) for time in horizons)
    if outside := [time for time in horizons if time not in asked.tolist()]:
        raise ContractError(f"horizons must be among the times scored; {outside} are not")
    shares = event_shares(known.duration, known.happened, asked)
    judged = {
        name: judge_forecast(
            known, given[name].to_numpy(float), orders[name], asked, shares,
            by_risk=name not in predictions, level=level,
        )
        for name in given
    }  # fmt: skip
    if not judged[KAPLAN_MEIER].loss.sum() > 0:
        raise ContractError(
            f"all {len(frame)} rows did as Kaplan-Meier says: a forecast has nothing to gain"
        )
    rows = known.sums(np.ones(len(frame)))
    drawn = redrawn(judged, rows, KAPLAN_MEIER, draws, np.random.default_rng(rng))
    bins = [one.bins.table.assign(model=name) for name, one in judged.items()]
    return Scores(
        table=_table(judged, drawn, predictions, level),
        by_time=_by_time(known, given, judged, asked, level),
        calibration=_calibrations(known, given, horizons, groups, level),
        d_calibration=_model_first(pd.concat(bins, ignore_index=True)),
        lift=_lifts(known, orders, horizons, top, level),
        differences=_differences(list(given), predictions, drawn, level),
        losses=pd.DataFrame(
            {**{name: one.loss for name, one in judged.items()}, "rows": rows}, _customers(frame)
        ),
        times=tuple(asked.tolist()),
        horizons=horizons,
        rows=len(frame),
        customers=known.customers,
        events=events,
        level=level,
    )


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
    level: float,
) -> pd.DataFrame:
    z, everyone = float(ndtri((1 + level) / 2)), np.ones(len(known.duration))
    observed = []
    for time in times:
        share, moves = event_free(known, time, everyone)
        ends = share_interval(known, share, moves, everyone > 0, level)
        observed.append((share, *ends))
    plain = [value for value, _ in judged[KAPLAN_MEIER].brier]
    table = []
    for name, one in judged.items():
        mean = given[name].to_numpy(float).mean(axis=0)
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
            table = calibration_of(known, own[horizon].to_numpy(float), horizon, groups, level)
            parts.append(table.assign(model=name, horizon=horizon))
    return _model_first(pd.concat(parts, ignore_index=True))


def _lifts(
    known: Outcomes,
    orders: Mapping[str, Floats],
    horizons: Sequence[float],
    top: Sequence[float],
    level: float,
) -> pd.DataFrame:
    everyone = np.ones(len(known.duration))
    free = {horizon: event_free(known, horizon, everyone)[0] for horizon in horizons}
    parts = []
    for name, order in orders.items():
        if name == KAPLAN_MEIER:
            continue
        for horizon in horizons:
            for of_event, share in ((True, 1 - free[horizon]), (False, free[horizon])):
                if not share > 0:
                    continue
                table = lift_of(known, order, horizon, top, of_event=of_event, level=level)
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
