"""Whether a churn frame knows what it could not have known on its landmark day."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from journeylab.churn.columns import RESERVED
from journeylab.churn.giveaways import Giveaway, find_giveaways
from journeylab.errors import ContractError

Severity = Literal["leak", "warning"]

_DAY = pd.Timedelta(days=1)
_YEAR_DAYS = 365.2425
# Landmarks that all fall within a quarter of the year have seen one season.
_SEASON_DAYS = 92
_ISO_DATE = r"\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2})?.*)?"
# A date written as a number lies this close to the landmarks.
_NEAR_YEARS = 30


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong with a frame, or may be.

    Attributes:
        check: ``outcome after the cut``, ``dated after the landmark``, ``gives the event away``,
            ``does not add up``, ``customer on both sides``, ``test before training``,
            ``one season``, ``no cut``, ``no contrast``.
        severity: A ``leak`` makes every score of a model on this frame worthless; a ``warning``
            limits what can be said.
        column: The column at fault, empty where it is the frame.
        rows: How many rows show it.
        evidence: What was seen, with numbers.
        advice: What to do.
    """

    check: str
    severity: Severity
    column: str
    rows: int
    evidence: str
    advice: str


@dataclass(frozen=True, slots=True, eq=False)
class LeakReport:
    """What was looked at in a frame, and what was found.

    Attributes:
        findings: Leaks first.
        n_rows, n_customers: Of the frame.
        columns: The covariates that were looked at.
        strengths: One row per covariate, the strongest first: ``column``; ``auc``, how well it
            alone tells who has the event within ``horizon_days`` (0.5 a coin; over folds by
            customer), at the horizon where it does best; empty where there is no contrast.
    """

    findings: tuple[Finding, ...]
    n_rows: int
    n_customers: int
    columns: tuple[str, ...]
    strengths: pd.DataFrame

    @property
    def leaks(self) -> tuple[Finding, ...]:
        """Findings that forbid the use of the frame."""
        return tuple(one for one in self.findings if one.severity == "leak")

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """Findings that limit what can be said."""
        return tuple(one for one in self.findings if one.severity == "warning")

    def summary(self) -> pd.DataFrame:
        """One row per finding: ``check, severity, column, rows, evidence, advice``."""
        columns = ["check", "severity", "column", "rows", "evidence", "advice"]
        table = [[getattr(one, name) for name in columns] for one in self.findings]
        return pd.DataFrame(table, columns=columns)


def check_leaks(
    frame: pd.DataFrame,
    *,
    train_until: str | pd.Timestamp | None = None,
    train: pd.Series | None = None,
    covariates: Sequence[str] | None = None,
    on_leak: Literal["raise", "report"] = "raise",
    rng: int | np.random.Generator = 0,
) -> LeakReport:
    """Look for what a frame could not have known on its landmark days.

    - Outcomes followed past ``followed_until`` (a column), or in training rows past
      ``train_until``.
    - Covariates dated after their landmark: dates, dates written as text or as whole numbers, and
      days since something that are below 0.
    - Covariates that give the event away by their missing values, by a value, or by ranking the
      outcome better than a column can (see ``find_giveaways``): a cause that is known only of
      those who left, next month's purchases, charges added up to the end.
    - Recency that does not add up: ``days_since_last + recency_days`` must be ``age_days``.
    - A customer on both sides of a split, unless the split is one of time: then all training
      landmarks come before all of the test and training outcomes end by the first of those.

    What this cannot see: a column that knows the future a little, such as an attribute that was
    overwritten later or a mean over the outcomes of a large group. Build features from dated rows.

    Args:
        frame: One row per landmark and customer: ``landmark, customer_id, duration, event``,
            covariates; ``followed_until``, ``cause`` and ``entry`` where they are.
        train_until: Rows with a landmark before it are the training rows, the others the test.
        train: True for training rows, index of ``frame``; instead of ``train_until``.
        covariates: Columns a model will see; by default all that are not reserved.
        on_leak: Whether to raise, or to give the leaks with the report.
        rng: Seed or generator of the sample (at most 40,000 rows are used to look for columns that
            give the event away) and of the folds.

    Returns:
        The report; without leaks where ``on_leak`` is ``"raise"``.

    Raises:
        ContractError: There is a leak; the message lists all. Or a column is missing, a row
            repeats a customer's landmark, or both ways of splitting are given.
    """
    rows, landmark = _checked(frame)
    names = _covariates(rows, covariates)
    if train is not None and train_until is not None:
        raise ContractError("give train_until or train, not both: they say the same thing")
    cut = None if train_until is None else pd.Timestamp(train_until)
    fitting = None if train is None else train.reindex(rows.index).fillna(False).to_numpy(bool)
    findings = [
        *_after_the_cut(rows, landmark, cut),
        *_split(rows, landmark, cut, fitting),
        *_dated_late(rows, landmark, names),
        *_does_not_add_up(rows),
    ]
    known = {one.column for one in findings if one.column}
    found = find_giveaways(rows, [name for name in names if name not in known], rng=rng)
    findings += [_given_away(one) for one in found.giveaways]
    findings += _seasons(landmark)
    if not found.contrast:
        findings.append(_no_contrast(rows))
    findings.sort(key=lambda one: one.severity)
    report = LeakReport(
        findings=tuple(findings),
        n_rows=len(rows),
        n_customers=int(rows["customer_id"].nunique()),
        columns=tuple(names),
        strengths=found.strengths,
    )
    if report.leaks and on_leak == "raise":
        lines = [
            f"- {one.check}{f', column {one.column!r}' if one.column else ''}: {one.evidence}. "
            f"{one.advice}"
            for one in report.leaks
        ]
        number = f"{len(lines)} leak{'s' if len(lines) > 1 else ''}"
        raise ContractError(f"{number} in a frame of {len(rows)} rows:\n" + "\n".join(lines))
    return report


def _checked(frame: pd.DataFrame) -> tuple[pd.DataFrame, pd.Series]:
    needed = ["landmark", "customer_id", "duration", "event"]
    if missing := [name for name in needed if name not in frame.columns]:
        raise ContractError(f"a churn frame needs {missing}; it has {list(frame.columns)}")
    if frame.empty:
        raise ContractError("the frame has no rows: nobody was known at the landmarks")
    if repeated := sorted({str(name) for name in frame.columns[frame.columns.duplicated()]}):
        raise ContractError(f"columns stand twice in the frame: {repeated}")
    for name in needed:
        if gaps := int(frame[name].isna().sum()):
            raise ContractError(f"{name} is missing in {gaps} of {len(frame)} rows")
    if twice := int(frame.duplicated(["customer_id", "landmark"]).sum()):
        raise ContractError(
            f"each customer stands once at each landmark; {twice} of {len(frame)} rows repeat one"
        )
    try:
        return frame, pd.to_datetime(frame["landmark"])
    except (TypeError, ValueError) as error:
        raise ContractError(f"landmark must hold dates: {error}") from error


def _covariates(frame: pd.DataFrame, covariates: Sequence[str] | None) -> list[str]:
    if covariates is None:
        return [str(name) for name in frame.columns if name not in RESERVED]
    if missing := [name for name in covariates if name not in frame.columns]:
        raise ContractError(f"no covariate {missing} in the frame; it has {list(frame.columns)}")
    return list(covariates)


def _after_the_cut(
    rows: pd.DataFrame, landmark: pd.Series, cut: pd.Timestamp | None
) -> list[Finding]:
    reached = landmark + pd.to_timedelta(rows["duration"].astype(float), unit="D")
    found = []
    if "followed_until" in rows.columns:
        stop = pd.to_datetime(rows["followed_until"])
        late = reached >= stop + _DAY
        if number := int(late.sum()):
            found.append(
                Finding(
                    "outcome after the cut", "leak", "duration", number,
                    f"the outcome of {number} of {len(rows)} rows lies after their followed_until",
                    "Build the frame again with one cut, or censor with outcomes_until",
                )
            )  # fmt: skip
    elif cut is None:
        found.append(
            Finding(
                "no cut", "warning", "", len(rows),
                "the frame does not say until when its outcomes were followed",
                "Bring the column followed_until, or give train_until",
            )
        )  # fmt: skip
    if cut is not None:
        late = (landmark < cut) & (reached >= cut + _DAY)
        if number := int(late.sum()):
            found.append(
                Finding(
                    "outcome after the cut", "leak", "duration", number,
                    f"{number} of {int((landmark < cut).sum())} training rows are followed past "
                    f"{cut.date()}",
                    "Censor them there: train_until of frames.landmarks, or outcomes_until",
                )
            )  # fmt: skip
    return found


def _split(
    rows: pd.DataFrame,
    landmark: pd.Series,
    cut: pd.Timestamp | None,
    fitting: np.ndarray | None,
) -> list[Finding]:
    """A split by time may meet a customer twice; any other may not."""
    if fitting is None or cut is not None or fitting.all() or not fitting.any():
        return []
    first_test, last_train = landmark[~fitting].min(), landmark[fitting].max()
    if last_train < first_test:
        late = _after_the_cut(rows[fitting], landmark[fitting], first_test)
        return [one for one in late if "training rows" in one.evidence]
    both = set(rows.loc[fitting, "customer_id"]) & set(rows.loc[~fitting, "customer_id"])
    if not both:
        return []
    if landmark[~fitting].max() < landmark[fitting].min():
        return [
            Finding(
                "test before training", "leak", "landmark", int(fitting.sum()),
                f"all {int(fitting.sum())} training rows are later than the test rows and know "
                f"what became of {len(both)} of the same customers",
                "Train on the earlier landmarks and test on the later ones",
            )
        ]  # fmt: skip
    number = int(rows["customer_id"].isin(both).sum())
    return [
        Finding(
            "customer on both sides", "leak", "customer_id", number,
            f"{len(both)} customers stand in training and in test, with {number} rows",
            "Split by customer, or by time with training outcomes censored at the test landmark",
        )
    ]  # fmt: skip


def _dated_late(rows: pd.DataFrame, landmark: pd.Series, names: Sequence[str]) -> list[Finding]:
    found = []
    for name in names:
        column = rows[name]
        if str(name).startswith("days_since") and pd.api.types.is_numeric_dtype(column):
            number = int((column.astype(float) < 0).sum())
            said = f"{number} of {len(rows)} rows are below 0, which is after the landmark"
        else:
            dates = _as_dates(column, landmark)
            if dates is None:
                continue
            number = int((dates >= landmark.dt.normalize() + _DAY).sum())
            said = f"{number} of {len(rows)} rows are dated after their landmark"
        if number:
            advice = "Take only what was dated by the landmark, and turn dates into days"
            found.append(Finding("dated after the landmark", "leak", name, number, said, advice))
    return found


def _as_dates(column: pd.Series, landmark: pd.Series) -> pd.Series | None:
    """The dates a column holds, however they are written; ``None`` where it holds none."""
    kind = pd.api.types
    if kind.is_datetime64_any_dtype(column):
        naive = column.dt.tz_localize(None) if column.dt.tz is not None else column
        return pd.Series(naive)
    filled = column.dropna()
    if filled.empty or kind.is_bool_dtype(column):
        return None
    if kind.is_numeric_dtype(column):
        return _dates_in_numbers(column, landmark)
    if not filled.map(lambda value: hasattr(value, "isoformat") or isinstance(value, str)).all():
        return None
    text = filled.map(lambda value: value.isoformat() if hasattr(value, "isoformat") else value)
    if not text.str.fullmatch(_ISO_DATE).all():
        return None
    dates = pd.to_datetime(text.str.slice(0, 10), errors="coerce")
    return None if dates.isna().any() else dates.reindex(column.index)


def _dates_in_numbers(column: pd.Series, landmark: pd.Series) -> pd.Series | None:
    """Whole numbers that are all days written as 20240131, or seconds since 1970."""
    values = column.dropna().astype(float)
    if not (values == np.floor(values)).all():
        return None
    low, high = (
        landmark.min() - pd.Timedelta(days=_NEAR_YEARS * _YEAR_DAYS),
        landmark.max() + pd.Timedelta(days=_NEAR_YEARS * _YEAR_DAYS),
    )
    whole = values.astype(np.int64)
    size = whole.to_numpy(float)
    written = pd.to_datetime(whole.astype(str), format="%Y%m%d", errors="coerce")
    if not written.isna().any() and written.between(low, high).all():
        return written.reindex(column.index)
    for unit in ("s", "ms"):
        scale = 1 if unit == "s" else 1000
        if (np.abs(size) < 1e11 * scale).all():
            told = pd.to_datetime(whole, unit=unit)
            # amounts and counts are not all within a lifetime of the landmarks
            if told.between(low, high).all() and (size > 1e8 * scale).all():
                return told.reindex(column.index)
    return None


def _does_not_add_up(rows: pd.DataFrame) -> list[Finding]:
    """The days since the last purchase must be those on the landmark."""
    parts = ["days_since_last", "recency_days", "age_days"]
    if not set(parts) <= set(rows.columns):
        return []
    since, recency, age = (rows[name].astype(float) for name in parts)
    wrong = (since + recency - age).abs() > 1e-6
    if not (number := int(wrong.sum())):
        return []
    return [
        Finding(
            "does not add up", "leak", "days_since_last", number,
            f"in {number} of {len(rows)} rows days_since_last and recency_days do not make up "
            "age_days: one of them was not counted on the landmark",
            "Count all three on the landmark day",
        )
    ]  # fmt: skip


def _given_away(one: Giveaway) -> Finding:
    advice = {
        "missing": "Leave it out, or fill it in the same way for everybody on the landmark",
        "value": "Leave it out: it was written when the outcome was known",
        "rank": "Leave it out, or build it anew from rows dated by the landmark",
    }[one.way]
    return Finding("gives the event away", "leak", one.column, one.rows, one.evidence, advice)


def _seasons(landmark: pd.Series) -> list[Finding]:
    """The shortest stretch of the year that holds all landmarks."""
    days = np.unique(landmark.dt.dayofyear.to_numpy(float))
    gaps = np.diff(np.append(days, days[0] + _YEAR_DAYS))
    span = _YEAR_DAYS - gaps.max()
    if span > _SEASON_DAYS:
        return []
    return [
        Finding(
            "one season", "warning", "landmark", len(landmark),
            f"all landmarks lie within {span:.0f} days of the year: what a model learns may be "
            "that season's",
            "Add landmarks from other times of the year, or say which season the answer is for",
        )
    ]  # fmt: skip


def _no_contrast(rows: pd.DataFrame) -> Finding:
    events = int(rows["event"].sum())
    return Finding(
        "no contrast", "warning", "event", len(rows),
        f"{events} of {len(rows)} rows have the event: too few with or without it to see whether a "
        "column gives it away",
        "Take a longer follow-up or more customers",
    )  # fmt: skip
