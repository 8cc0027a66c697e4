"""What goes with an early return: Cox's proportional hazards model, and whether it holds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import ndtri

from journeylab.churn.curves import checked
from journeylab.errors import ContractError, FitError

COVARIATES = ("days_since_last", "frequency", "age_days", "spend_mean")
# skewed counts, days and money: their effect is read per doubling
LOGGED = (
    "days_since_last", "age_days", "recency_days", "frequency", "mean_gap_days", "last_gap_days",
    "orders", "spend", "spend_mean",
)  # fmt: skip

# With fewer of either, ratios and their intervals are chance.
_FEWEST_CUSTOMERS = 20
_FEWEST_PURCHASES = 10


@dataclass(frozen=True, slots=True, eq=False)
class CoxFit:
    """A proportional hazards model of the time to the next purchase.

    Attributes:
        coefficients: One row per covariate kept: ``covariate``, ``per`` (the step that the ratio
            is for), ``hazard_ratio`` (of buying again), ``ci_low``, ``ci_high``, ``p``; intervals
            robust to several rows per customer.
        proportionality: One row per covariate: ``statistic`` and ``p`` of the test that the ratio
            is the same at all times (rows taken as independent, so with several per customer
            ``p`` is rather too small), ``early`` and ``late`` hazard ratios up to and after
            ``split_day`` (missing with too few events), and the ``reading`` in words.
        dropped: Covariates that could not be used, and why.
        concordance: Share of pairs ranked rightly, on the rows of the fit (0.5 is a coin).
        concordance_baseline: The same for days since the last purchase alone.
        log_likelihood: Partial log likelihood at the maximum (Efron's ties).
        n_rows, n_customers, n_events: What the fit rests on.
        last_landmark: The latest landmark day of the fit's rows.
        scales: Per covariate kept ``logged``, ``mean``, ``sd`` and ``beta`` (log hazard ratio per
            sd), as ``survival`` needs them.
        baseline: ``time`` (days), ``cumulative_hazard`` of a customer at all the means.
        level: Coverage of the intervals.
    """

    coefficients: pd.DataFrame
    proportionality: pd.DataFrame
    dropped: Mapping[str, str]
    concordance: float
    concordance_baseline: float
    log_likelihood: float
    n_rows: int
    n_customers: int
    n_events: int
    last_landmark: pd.Timestamp
    scales: pd.DataFrame
    baseline: pd.DataFrame
    level: float = 0.95

    def summary(self) -> pd.DataFrame:
        """Coefficients beside the reading of the proportionality test."""
        return self.coefficients.merge(
            self.proportionality[["covariate", "early", "late", "reading"]], on="covariate"
        )

    def survival(self, frame: pd.DataFrame, times: Sequence[float]) -> pd.DataFrame:
        """Chance (0-1) of no purchase within each of ``times`` days after the landmark.

        Args:
            frame: The covariates of the fit.
            times: Days, at most the follow-up of the fit.

        Returns:
            One row per row of ``frame`` (its index), one column per time.

        Raises:
            ContractError: A covariate is missing, or a time lies past the follow-up.
        """
        follow_up = float(self.baseline["time"].iloc[-1])
        if not all(0 <= time <= follow_up for time in times):
            raise ContractError(
                f"the fit followed customers for {follow_up:g} days; cannot tell {list(times)}"
            )
        position = np.searchsorted(self.baseline["time"].to_numpy(float), times, side="right")
        hazard = np.append(0.0, self.baseline["cumulative_hazard"].to_numpy(float))[position]
        ratio = np.exp(self.log_hazard(frame).to_numpy())
        return pd.DataFrame(np.exp(-np.outer(ratio, hazard)), frame.index, columns=list(times))

    def log_hazard(self, frame: pd.DataFrame) -> pd.Series:
        """Log of the hazard of buying, relative to a customer at all the means."""
        scales = self.scales.set_index("covariate")
        values = _transformed(frame, list(scales.index), list(scales.index[scales["logged"]]))
        centre, spread, beta = (scales[name].to_numpy(float) for name in ("mean", "sd", "beta"))
        z = (values.to_numpy(float) - centre) / spread
        return pd.Series(z @ beta, frame.index, name="log_hazard")


def fit_cox(
    frame: pd.DataFrame,
    covariates: Sequence[str] = COVARIATES,
    logged: Sequence[str] = LOGGED,
    level: float = 0.95,
) -> CoxFit:
    """Fit Cox's proportional hazards model of the time to the next purchase.

    Covariates in ``logged`` enter as log2(1 + x) (with its sign, for negative money), so that
    their ratio is per doubling; that of a 0/1 column is of yes against no, the others' is per
    standard deviation. A covariate that is constant or always missing is dropped and named in the
    fit.

    Args:
        frame: From ``frames.landmarks``; a customer may stand at several landmarks.
        covariates: Columns of numbers.
        logged: Which of them to read per doubling; names not among the covariates are ignored.
        level: Coverage of the intervals (0-1), by the cluster-robust variance per customer.

    Raises:
        ContractError: A column is missing, is not a number, or is missing in some rows.
        FitError: There are fewer than 20 customers or 10 purchases after the landmarks, no
            covariate is left, the covariates depend on one another, or the likelihood has no
            maximum the optimiser can reach.

    Source:
        Cox (1972); Lin & Wei (1989) for the robust variance; Grambsch & Therneau (1994) for the
        test. Computed by lifelines.
    """
    rows = checked(frame)
    n_events, n_customers = int(rows["event"].sum()), int(rows["customer_id"].nunique())
    if n_customers < _FEWEST_CUSTOMERS or n_events < _FEWEST_PURCHASES:
        raise FitError(
            f"too few data for a model of the time to the next purchase: {n_customers} "
            f"{'customer' if n_customers == 1 else 'customers'} known at the landmarks and "
            f"{n_events} {'purchase' if n_events == 1 else 'purchases'} seen after them, of which "
            f"it needs at least {_FEWEST_CUSTOMERS} and {_FEWEST_PURCHASES}; bring more customers "
            "or a longer stretch of orders"
        )
    kept, dropped = _usable(rows, covariates)
    if not kept:
        raise FitError(f"no covariate can be used: {dropped}")
    in_log = [name for name in kept if name in logged]
    values = _transformed(rows, kept, in_log)
    mean, sd = values.mean(), values.std(ddof=0)
    data = (values - mean) / sd
    if np.linalg.matrix_rank(data.to_numpy(), tol=1e-6 * np.sqrt(len(data))) < len(kept):
        raise FitError(f"the covariates {kept} depend on one another: leave one of them out")
    data["duration"], data["event"] = rows["duration"].astype(float), rows["event"].astype(int)
    data["cluster"] = pd.factorize(rows["customer_id"])[0]

    model = _lifelines_cox(data)
    beta, error = model.params_[kept], model.standard_errors_[kept]
    flags = [name for name in kept if rows[name].isin([0, 1]).all()]
    whole = [*in_log, *flags]
    step = pd.Series({name: 1 / sd[name] if name in whole else 1.0 for name in kept})
    margin = float(ndtri((1 + level) / 2)) * error
    coefficients = pd.DataFrame(
        {
            "covariate": kept,
            "per": [_step_text(name, sd[name], in_log, flags) for name in kept],
            "hazard_ratio": np.exp(beta * step).to_numpy(),
            "ci_low": np.exp((beta - margin) * step).to_numpy(),
            "ci_high": np.exp((beta + margin) * step).to_numpy(),
            "p": model.summary.loc[kept, "p"].to_numpy(),
        }
    )
    scales = pd.DataFrame({"mean": mean, "sd": sd, "beta": beta}).rename_axis("covariate")
    scales = scales.reset_index().assign(logged=[name in in_log for name in kept])
    # lifelines' baseline is at the means of what it was given, which are 0 here
    baseline = model.baseline_cumulative_hazard_.iloc[:, 0].rename("cumulative_hazard")
    risk = data[kept].to_numpy() @ beta.to_numpy()
    return CoxFit(
        coefficients=coefficients,
        proportionality=_proportionality(model, data, kept, step),
        dropped=dropped,
        concordance=concordance(rows, -risk),
        concordance_baseline=silence_concordance(rows),
        log_likelihood=float(model.log_likelihood_),
        n_rows=len(rows),
        n_customers=n_customers,
        n_events=n_events,
        last_landmark=pd.Timestamp(rows["landmark"].max()),
        scales=scales,
        baseline=baseline.rename_axis("time").reset_index(),
        level=level,
    )


def _step_text(name: str, sd: float, logged: list[str], flags: list[str]) -> str:
    if name in flags:
        return "yes against no"
    return "doubling" if name in logged else f"+{sd:.3g} (1 sd)"


def silence_concordance(rows: pd.DataFrame) -> float:
    """Share of pairs ranked rightly by nothing but the days since the last purchase.

    0.5 where the frame does not tell them.
    """
    if "days_since_last" not in rows.columns:
        return 0.5
    return concordance(rows, rows["days_since_last"].to_numpy(float))


def concordance(rows: pd.DataFrame, waits: npt.NDArray[np.float64]) -> float:
    """Share of comparable pairs that ``waits`` puts in the right order (Harrell's C).

    Args:
        rows: ``duration``, ``event``.
        waits: Per row, larger for a longer wait; equal ones count half.

    Returns:
        0-1; 0.5 where no pair can be compared.
    """
    from lifelines.utils import concordance_index

    try:
        return float(concordance_index(rows["duration"], waits, rows["event"]))
    except ZeroDivisionError:
        return 0.5


def _usable(rows: pd.DataFrame, covariates: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    if missing := [name for name in covariates if name not in rows.columns]:
        raise ContractError(f"no covariate {missing} in the frame; it has {list(rows.columns)}")
    if repeated := sorted({name for name in covariates if list(covariates).count(name) > 1}):
        raise ContractError(f"covariates are named twice: {repeated}")
    kept, dropped = [], {}
    for name in covariates:
        column = rows[name]
        if column.isna().all():
            dropped[name] = "missing in every row"
        elif not pd.api.types.is_numeric_dtype(column):
            raise ContractError(
                f"covariate {name!r} is {column.dtype}, not a number; turn it into 0/1 columns"
            )
        elif gaps := int(column.isna().sum()):
            raise ContractError(
                f"covariate {name!r} is missing in {gaps} of {len(rows)} rows: leave it out or "
                "fill it"
            )
        elif (column == column.iloc[0]).all():
            dropped[name] = f"{column.iloc[0]} in every row"
        else:
            kept.append(name)
    return kept, dropped


def _transformed(frame: pd.DataFrame, names: list[str], logged: list[str]) -> pd.DataFrame:
    if missing := [name for name in names if name not in frame.columns]:
        raise ContractError(f"no covariate {missing} in the frame; it has {list(frame.columns)}")
    values = frame[names].astype(float)
    if bad := int((~np.isfinite(values.to_numpy())).any(axis=1).sum()):
        raise ContractError(f"covariates must be finite; {bad} of {len(frame)} rows have gaps")
    return values.assign(
        **{name: np.sign(values[name]) * np.log2(1 + values[name].abs()) for name in logged}
    )


def _lifelines_cox(data: pd.DataFrame, *, robust: bool = True) -> Any:
    import warnings

    from lifelines import CoxPHFitter
    from lifelines.exceptions import ConvergenceError, ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        try:
            if not robust:
                own = data.drop(columns="cluster")
                return CoxPHFitter().fit(own, "duration", "event")
            return CoxPHFitter().fit(data, "duration", "event", cluster_col="cluster", robust=True)
        except (ConvergenceError, ConvergenceWarning) as error:
            raise FitError(f"Cox's model did not converge: {str(error).splitlines()[0]}") from error


def _proportionality(
    model: Any, data: pd.DataFrame, kept: list[str], step: pd.Series
) -> pd.DataFrame:
    from lifelines.statistics import proportional_hazard_test

    test = proportional_hazard_test(model, data, time_transform="rank").summary
    split = float(data.loc[data["event"] == 1, "duration"].median())
    over = data["duration"] > split
    first = data.assign(duration=data["duration"].where(~over, split), event=data["event"] * ~over)
    early, late = _ratios(first, kept, step), _ratios(data[over], kept, step)
    table = []
    for name in kept:
        statistic, p = (float(test.loc[name, column]) for column in ("test_statistic", "p"))
        reading = _reading(p, early[name], late[name], split)
        table.append((name, statistic, p, early[name], late[name], split, reading))
    columns = ["covariate", "statistic", "p", "early", "late", "split_day", "reading"]
    return pd.DataFrame(table, columns=columns)


def _ratios(data: pd.DataFrame, kept: list[str], step: pd.Series) -> pd.Series:
    """Hazard ratios of a part of the follow-up; missing where it holds too few purchases."""
    too_few = data["event"].sum() < 10 * len(kept)
    if too_few or (data[kept].std() < 1e-9).any():
        return pd.Series(np.nan, kept)
    try:
        beta: pd.Series = _lifelines_cox(data, robust=False).params_[kept]
    except FitError:
        return pd.Series(np.nan, kept)
    return pd.Series(np.exp((beta * step).to_numpy(float)), kept)


def _reading(p: float, early: float, late: float, split: float) -> str:
    if p >= 0.05:
        return f"one ratio will do: no sign that it changes with time (p = {p:.2f})"
    if not np.isfinite([early, late]).all():
        return f"the ratio changes with time (p {_p_text(p)}); too few events to say how"
    before, after = np.log(early), np.log(late)
    if abs(before - after) < 0.05:
        change = "changes, but hardly"
    elif before * after < 0 and min(abs(before), abs(after)) > 0.02:
        change = "turns round"
    else:
        change = "fades" if abs(after) < abs(before) else "grows"
    return f"{change}: {early:.2f} up to day {split:g}, {late:.2f} after (p {_p_text(p)})"


def _p_text(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"
