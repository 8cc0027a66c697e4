"""Forecasts judged from several days in turn, each time knowing only what was known then."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import pandas as pd

from journeylab.churn.curves import checked, outcomes_until
from journeylab.churn.score import Scores, intervals, reading, score
from journeylab.errors import ContractError

_FEWEST_ORIGINS = 3


class Survival(Protocol):
    """What a fit must be able to do to be judged."""

    def survival(self, frame: pd.DataFrame, times: Sequence[float]) -> pd.DataFrame:
        """Chance of no event by each time, index of ``frame``."""


@runtime_checkable
class Incidence(Protocol):
    """What a fit must be able to do to be judged on one of several causes."""

    def cumulative_incidence(self, frame: pd.DataFrame, times: Sequence[float]) -> pd.DataFrame:
        """Chance of each cause by each time, columns (cause, time)."""


FitSurvival = Callable[[pd.DataFrame], Survival]


@dataclass(frozen=True, slots=True, eq=False)
class Rolling:
    """What forecasts are worth from several days.

    Attributes:
        scores: ISO date -> scores from that day.
        by_origin: One row per day and forecast: ``origin, model, baseline, rows, ibs, ibs_low,
            ibs_high, skill, skill_low, skill_high, uno_c, auc``; ``predicted`` and ``observed``
            share without the event by the last time.
        pooled: One row per forecast, all days together: ``model, baseline, ibs, ibs_low, ibs_high,
            skill, skill_low, skill_high``; a customer of several days is drawn with all of them.
        differences: One row per pair of forecasts: ``model, against, difference`` of the pooled
            ``ibs`` (below 0 is better), ``ci_low, ci_high, reading``, and ``days_better`` of
            ``days``.
        last: The fits of the last day, by name.
        test: The rows of the last day.
        survival: Their predictions, by name, from the last fits; with a cause the chance of no
            event of that cause.
    """

    scores: Mapping[str, Scores]
    by_origin: pd.DataFrame
    pooled: pd.DataFrame
    differences: pd.DataFrame
    last: Mapping[str, Survival]
    test: pd.DataFrame
    survival: Mapping[str, pd.DataFrame]

    @property
    def origins(self) -> tuple[str, ...]:
        """The days judged from, ascending."""
        return tuple(self.scores)


def rolling(
    frame: pd.DataFrame,
    fits: Mapping[str, FitSurvival],
    times: Sequence[float],
    *,
    rng: int | np.random.Generator,
    origins: int = _FEWEST_ORIGINS,
    horizons: Sequence[float] | None = None,
    cause: str | int | None = None,
    draws: int = 500,
    level: float = 0.95,
) -> Rolling:
    """Fit on what was known on each of the last landmark days, and judge what came after it.

    Args:
        frame: From ``frames.landmarks``: several landmark days of the same customers.
        fits: Name -> function from landmark rows to a fit, such as ``churn.fit_cox``. It is given
            earlier landmarks with their outcomes as known on the day.
        times: Days after a landmark to score at.
        rng: Seed or generator of the draws.
        origins: How many days to judge from, the last ones, three or more.
        horizons: Of calibration and lift; see ``score``.
        cause: Judge the forecasts of this cause; the fits must tell it apart from others.
        draws: Of the bootstrap.
        level: Coverage of the intervals (0-1).

    Raises:
        ContractError: Too few landmark days have an earlier one that was followed for the longest
            of ``times`` when they came; or as ``score``.
        FitError: As the fits.
    """
    if origins < _FEWEST_ORIGINS:
        raise ContractError(
            f"one or two days are one season: judge from three or more, not {origins}"
        )
    rows = checked(frame)
    days = pd.to_datetime(rows["landmark"])
    usable = origin_days(rows, max(times))
    if len(usable) < origins:
        raise ContractError(
            f"{len(usable)} of {days.nunique()} landmark days have another one {max(times):g} days "
            f"before them to learn from; judging from {origins} needs as many: bring more landmark "
            "days or shorter times"
        )
    divisions = (
        (str(day.date()), outcomes_until(rows, day), rows[days == day]) for day in usable[-origins:]
    )
    return _judged(
        divisions, fits, times, np.random.default_rng(rng), horizons, cause, draws, level
    )


def folds(
    frame: pd.DataFrame,
    fits: Mapping[str, FitSurvival],
    times: Sequence[float],
    *,
    rng: int | np.random.Generator,
    parts: int = _FEWEST_ORIGINS,
    horizons: Sequence[float] | None = None,
    cause: str | int | None = None,
    draws: int = 500,
    level: float = 0.95,
) -> Rolling:
    """Judge on each of several random parts of the customers what was learnt from the others.

    For sources without calendar days, where nothing can be judged out of time: the parts are of
    the same period, so a change of the times stays unseen. Parts are called ``part 1`` and so on.

    Args:
        frame: ``customer_id``, ``duration``, ``event`` and what the fits need.
        fits: As in ``rolling``.
        times: To score at.
        rng: Seed or generator of the parts and the draws.
        parts: How many; a customer is in one of them with all rows.
        horizons: Of calibration and lift; see ``score``.
        cause: Judge the forecasts of this cause; the fits must tell it apart from others.
        draws: Of the bootstrap.
        level: Coverage of the intervals (0-1).

    Raises:
        ContractError: There are fewer customers than parts; or as ``score``.
    """
    draw = np.random.default_rng(rng)
    customer, names = pd.factorize(frame["customer_id"])
    if parts < 2 or len(names) < parts:
        raise ContractError(f"{len(names)} customers cannot be parted into {parts}")
    place = draw.permutation(np.arange(len(names)) % parts)[customer]
    divisions = (
        (f"part {part + 1}", frame[place != part], frame[place == part]) for part in range(parts)
    )
    return _judged(divisions, fits, times, draw, horizons, cause, draws, level)


def origin_days(frame: pd.DataFrame, longest: float) -> list[pd.Timestamp]:
    """Landmark days with another one at least ``longest`` days before them."""
    days = sorted(pd.to_datetime(frame["landmark"]).unique())
    return [pd.Timestamp(day) for day in days if (day - days[0]).days >= longest]


def _judged(
    divisions: Iterable[tuple[str, pd.DataFrame, pd.DataFrame]],
    fits: Mapping[str, FitSurvival],
    times: Sequence[float],
    draw: np.random.Generator,
    horizons: Sequence[float] | None,
    cause: str | int | None,
    draws: int,
    level: float,
) -> Rolling:
    """Fit and judge on each division: its name, the rows to learn from and those to judge on."""
    scores: dict[str, Scores] = {}
    for name, train, test in divisions:
        last = {label: fit(train) for label, fit in fits.items()}
        told = {label: _told(label, fit, test, times, cause) for label, fit in last.items()}
        scores[name] = score(
            test, told, train=train, rng=draw, times=times, horizons=horizons, cause=cause,
            draws=draws, level=level,
        )  # fmt: skip
    pooled, differences = _together(scores, len(fits), draws, level, draw)
    return Rolling(
        scores=scores,
        by_origin=_by_origin(scores),
        pooled=pooled,
        differences=differences,
        last=last,
        test=test,
        survival=told,
    )


def _told(
    name: str, fit: Survival, test: pd.DataFrame, times: Sequence[float], cause: str | int | None
) -> pd.DataFrame:
    """Chance of no event, or of none of the cause."""
    if cause is None:
        return fit.survival(test, list(times))
    if not isinstance(fit, Incidence) or cause not in tuple(getattr(fit, "causes", ())):
        raise ContractError(
            f"{name!r} does not tell the cause {cause!r} from others: leave the fit out, or name "
            "the cause when fitting (fit_hazard with causes=)"
        )
    told = fit.cumulative_incidence(test, list(times))
    return pd.DataFrame(1 - told[cause].to_numpy(float), test.index, columns=list(times))


def _by_origin(scores: Mapping[str, Scores]) -> pd.DataFrame:
    parts = []
    for day, own in scores.items():
        last = own.by_time[own.by_time["time"] == own.times[-1]]
        table = own.table.merge(last[["model", "predicted", "observed"]], on="model")
        parts.append(table.assign(origin=day, rows=own.rows))
    columns = ["origin", "model", "baseline", "rows", "ibs", "ibs_low", "ibs_high", "skill"]
    columns += ["skill_low", "skill_high", "uno_c", "auc", "predicted", "observed"]
    return pd.concat(parts, ignore_index=True)[columns]


def _together(
    scores: Mapping[str, Scores], models: int, draws: int, level: float, rng: np.random.Generator
) -> tuple[pd.DataFrame, pd.DataFrame]:
    names = next(iter(scores.values())).table["model"].tolist()
    common = [n for n in names if all(n in own.losses for own in scores.values())]
    summed = pd.concat([own.losses for own in scores.values()]).groupby(level=0).sum()
    each = summed[[*common, "rows"]].to_numpy(float)
    m = len(each)
    sums = np.empty((draws + 1, each.shape[1]))
    sums[0] = each.sum(axis=0)
    for draw in range(draws):
        sums[draw + 1] = np.bincount(rng.integers(0, m, m), minlength=m) @ each
    ibs = sums[:, :-1] / sums[:, -1:]
    plain = next(iter(scores.values())).baseline
    skill = 1 - ibs / ibs[:, [common.index(plain)]]
    pooled = pd.DataFrame({"model": common, "baseline": [i >= models for i in range(len(common))]})
    for metric, values in (("ibs", ibs), ("skill", skill)):
        low, high = intervals(values, level)
        pooled = pooled.assign(**{metric: values[0], f"{metric}_low": low, f"{metric}_high": high})
    table = []
    for model in common[:models]:
        for against in (name for name in common if name != model):
            apart = ibs[:, common.index(model)] - ibs[:, common.index(against)]
            start, end = (float(value) for value in intervals(apart, level))
            better = sum(
                float(own.losses[model].sum()) < float(own.losses[against].sum())
                for own in scores.values()
            )
            said = reading(start, end, less_is_better=True)
            table.append((model, against, float(apart[0]), start, end, said, better, len(scores)))
    columns = ["model", "against", "difference", "ci_low", "ci_high", "reading"]
    return pooled, pd.DataFrame(table, columns=[*columns, "days_better", "days"])
