"""How much longer or shorter the wait is: accelerated failure time models, by lifelines."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import log_ndtr

from journeylab.churn.covariates import as_numbers, choose_columns, is_text
from journeylab.churn.observations import observe
from journeylab.errors import ContractError, FitError

Shape = Literal["weibull", "log-logistic", "log-normal"]
SHAPES: tuple[Shape, ...] = ("weibull", "log-logistic", "log-normal")
_FEWEST_CUSTOMERS = 20
_FEWEST_EVENTS = 10
# A category with fewer rows has no ratio of its own.
_FEWEST_ROWS = 20


@dataclass(frozen=True, slots=True, eq=False)
class AftFit:
    """A parametric model in which covariates stretch or shrink the time to the event.

    Attributes:
        shape: Of the waits.
        columns: One row per number in the model: ``covariate``, ``level`` (of a category, empty
            for a number), ``mean``, ``sd`` (1 for a level), ``beta`` (log time ratio per sd or
            against the left-out level), ``ci_low``, ``ci_high`` of it.
        intercept: Log of the scale at all the means.
        log_shape: Log of Weibull's or the log-logistic shape, or of the log-normal sigma.
        aic: Akaike's criterion per shape tried, lower is better.
        follow_up: The longest duration; nothing is said beyond it.
        n_rows, n_customers, n_events: What the fit rests on.
        notes: What was left out or pooled.
        level: Coverage of the intervals.
    """

    shape: Shape
    columns: pd.DataFrame
    intercept: float
    log_shape: float
    aic: pd.Series
    follow_up: float
    n_rows: int
    n_customers: int
    n_events: int
    notes: tuple[str, ...]
    level: float = 0.95

    def summary(self) -> pd.DataFrame:
        """Time ratios: ``covariate``, ``level``, ``per``, ``time_ratio``, ``ci_low, ci_high``."""
        shown = self.columns[["covariate", "level"]].copy()
        shown["per"] = [
            f"+{sd:.3g} (1 sd)" if level == "" else "against the rest"
            for sd, level in zip(self.columns["sd"], self.columns["level"], strict=True)
        ]
        for name, column in (("time_ratio", "beta"), ("ci_low", "ci_low"), ("ci_high", "ci_high")):
            shown[name] = np.exp(self.columns[column].to_numpy(float))
        return shown

    def survival(self, frame: pd.DataFrame, times: Sequence[float]) -> pd.DataFrame:
        """Chance (0-1) of no event by each time.

        Args:
            frame: The covariates of the fit, without gaps; a level it does not know reads as the
                left-out one.
            times: In the unit of the durations, at most ``follow_up``.

        Returns:
            One row per row of ``frame`` (its index), one column per time.

        Raises:
            ContractError: A covariate is missing or has gaps, or a time lies past the follow-up.
        """
        if not all(0 <= time <= self.follow_up for time in times):
            raise ContractError(
                f"the fit followed rows for {self.follow_up:g}; cannot tell {list(times)}"
            )
        location = self.intercept + _design(frame, self.columns) @ self.columns["beta"].to_numpy()
        with np.errstate(divide="ignore"):
            wait = np.log(np.asarray(times, dtype=float))[None, :] - location[:, None]
        return pd.DataFrame(
            np.exp(_log_survival(self.shape, wait, self.log_shape)), frame.index, list(times)
        )

    def median(self, frame: pd.DataFrame) -> pd.Series:
        """Median time to the event, which may lie beyond the follow-up: then it is a guess."""
        location = self.intercept + _design(frame, self.columns) @ self.columns["beta"].to_numpy()
        if self.shape == "weibull":
            location = location + np.log(np.log(2)) / np.exp(self.log_shape)
        return pd.Series(np.exp(location), frame.index, name="median")


def fit_aft(
    frame: pd.DataFrame,
    covariates: Sequence[str] | None = None,
    *,
    shape: Shape | Literal["best"] = "best",
    penalty: float = 0.0,
    level: float = 0.95,
) -> AftFit:
    """Fit accelerated failure time models by maximum likelihood and keep the best.

    Args:
        frame: As in ``fit_hazard``; ``entry`` is left truncation. Causes are not told apart.
        covariates: Columns of numbers, truth values or text, without gaps; all but the outcomes
            and keys by default.
        shape: One of ``SHAPES``, or the one with the lowest AIC.
        penalty: Ridge penalty on the standardised coefficients (lifelines' ``penalizer``).
        level: Coverage of the intervals (0-1); rows count as independent.

    Raises:
        ContractError: A column is missing, has gaps, or holds what it must not.
        FitError: There are fewer than 20 customers or 10 events, covariates depend on one
            another, or no shape converges.

    Source:
        Kalbfleisch & Prentice (2002), chapter 3. Computed by lifelines.
    """
    if shape != "best" and shape not in SHAPES:
        raise ContractError(f"shape must be 'best' or one of {list(SHAPES)}; got {shape!r}")
    rows, _ = observe(frame)
    n_events, n_customers = int(rows.cause.sum()), int(rows.customer.max()) + 1
    if n_customers < _FEWEST_CUSTOMERS or n_events < _FEWEST_EVENTS:
        raise FitError(
            f"too few data for an accelerated failure time model: {n_customers} customers and "
            f"{n_events} events, of which it needs at least {_FEWEST_CUSTOMERS} and "
            f"{_FEWEST_EVENTS}"
        )
    names, notes = choose_columns(frame, covariates)
    columns, pooled = _columns(frame, names)
    design = _design(frame, columns)
    if np.linalg.matrix_rank(design - design.mean(axis=0)) < design.shape[1]:
        raise FitError(f"the covariates {list(names)} depend on one another: leave one of them out")
    labels = [str(number) for number in range(design.shape[1])]
    data = pd.DataFrame(design, columns=labels)
    # a scale near 1 lets the optimiser start where the maximum is
    scale = float(np.median(rows.duration))
    data["duration"], data["event"] = rows.duration / scale, rows.cause
    data["entry"] = rows.entry / scale
    models: dict[Shape, Any] = {}
    failures = []
    for name in SHAPES if shape == "best" else (shape,):
        try:
            models[name] = _lifelines_aft(name, data, penalty, level)
        except FitError as error:
            failures.append(str(error))
    if not models:
        raise FitError("; ".join(failures))
    aic = pd.Series({name: float(model.AIC_) for name, model in models.items()}, name="aic")
    best: Shape = min(models, key=lambda name: aic[name])
    table, first = models[best].summary, _LOCATION[best]
    low, high = (c for c in table.columns if c.startswith("coef ") and "%" in c)
    own = table.loc[first]
    columns = columns.assign(
        beta=own.loc[labels, "coef"].to_numpy(),
        ci_low=own.loc[labels, low].to_numpy(),
        ci_high=own.loc[labels, high].to_numpy(),
    )
    other = next(name for name in table.index.get_level_values(0) if name != first)
    return AftFit(
        shape=best,
        columns=columns,
        intercept=float(own.loc["Intercept", "coef"]) + float(np.log(scale)),
        log_shape=float(table.loc[(other, "Intercept"), "coef"]),
        aic=aic,
        follow_up=float(rows.duration.max()),
        n_rows=len(frame),
        n_customers=n_customers,
        n_events=n_events,
        notes=(*notes, *pooled, *failures),
        level=level,
    )


# lifelines' names of the parameter that covariates move
_LOCATION: dict[Shape, str] = {"weibull": "lambda_", "log-logistic": "alpha_", "log-normal": "mu_"}


def _columns(frame: pd.DataFrame, names: Sequence[str]) -> tuple[pd.DataFrame, list[str]]:
    table: list[tuple[str, str, float, float]] = []
    notes = []
    for name in names:
        column = frame[name]
        if gaps := int(column.isna().sum()):
            raise ContractError(
                f"covariate {name!r} is missing in {gaps} of {len(frame)} rows: leave it out or "
                "fill it"
            )
        if not is_text(column):
            values = as_numbers(column)
            table.append((name, "", float(values.mean()), float(values.std())))
            continue
        counts = column.astype(str).value_counts().sort_index()
        large = counts[counts >= _FEWEST_ROWS]
        if small := len(counts) - len(large):
            notes.append(
                f"{name}: {small} of {len(counts)} categories have fewer than {_FEWEST_ROWS} rows "
                "and count to the left-out one"
            )
        # the most frequent level is what the others are compared with
        kept = large.index if small else large.index[large.index != large.idxmax()]
        table += [(name, str(level), 0.0, 1.0) for level in kept]
    if not table:
        raise FitError(f"no covariate is left of {list(names)}: {'; '.join(notes)}")
    return pd.DataFrame(table, columns=["covariate", "level", "mean", "sd"]), notes


def _design(frame: pd.DataFrame, columns: pd.DataFrame) -> npt.NDArray[np.float64]:
    found = np.empty((len(frame), len(columns)))
    if missing := sorted(set(columns["covariate"]) - set(frame.columns)):
        raise ContractError(f"no covariate {missing} in the frame; it has {list(frame.columns)}")
    numbers = columns[["mean", "sd"]].to_numpy(float)
    for place, (name, level) in enumerate(zip(columns["covariate"], columns["level"], strict=True)):
        column = frame[name]
        if gaps := int(column.isna().sum()):
            raise ContractError(
                f"covariate {name!r} is missing in {gaps} of {len(frame)} rows: fill it"
            )
        if level == "":
            found[:, place] = (as_numbers(column) - numbers[place, 0]) / numbers[place, 1]
        else:
            found[:, place] = column.astype(str) == level
    return found


def _log_survival(
    shape: Shape, wait: npt.NDArray[np.float64], log_shape: float
) -> npt.NDArray[np.float64]:
    """Log of the survival where ``wait`` is log time less its location."""
    if shape == "log-normal":
        return np.asarray(log_ndtr(-wait / np.exp(log_shape)))
    power = np.exp(log_shape) * wait
    if shape == "weibull":
        return np.asarray(-np.exp(np.minimum(power, 700.0)))
    return np.asarray(-np.logaddexp(0.0, power))


def _lifelines_aft(name: Shape, data: pd.DataFrame, penalty: float, level: float) -> Any:
    import warnings

    from lifelines import LogLogisticAFTFitter, LogNormalAFTFitter, WeibullAFTFitter
    from lifelines.exceptions import ConvergenceError

    kinds = {
        "weibull": WeibullAFTFitter,
        "log-logistic": LogLogisticAFTFitter,
        "log-normal": LogNormalAFTFitter,
    }
    late = bool((data["entry"] > 0).any())
    rows = data if late else data.drop(columns="entry")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            model = kinds[name](alpha=1 - level, penalizer=penalty)
            model.fit(rows, "duration", "event", entry_col="entry" if late else None)
        except (ConvergenceError, ValueError, np.linalg.LinAlgError) as error:
            reason = str(error).strip().splitlines()[0]
            raise FitError(f"the {name} model did not converge: {reason}") from error
    if not np.isfinite(model.summary[["coef", "se(coef)"]].to_numpy(float)).all():
        raise FitError(f"the {name} model has no finite standard errors: leave covariates out")
    return model
