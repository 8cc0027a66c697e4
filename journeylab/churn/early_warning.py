"""Who is about to stop, what is at stake, and why: a ranked list to look at this week."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import pandas as pd

from journeylab.churn.reasons import strongest_reasons
from journeylab.churn.return_value import ReturnValueFit
from journeylab.errors import ContractError
from journeylab.estimate import Estimate

UNKNOWN = "unknown"
_PURCHASE = "purchase"


class Survives(Protocol):
    """A fit that gives survival: any of the kit's."""

    def survival(self, frame: pd.DataFrame, times: Sequence[float]) -> pd.DataFrame:
        """Chance of no event by each time."""
        ...


@runtime_checkable
class _Explains(Protocol):
    def explain(
        self, frame: pd.DataFrame, times: Sequence[float], cause: str | None = None
    ) -> Any: ...


@dataclass(frozen=True, slots=True)
class RandomisedTiming:
    """What an experiment on the moment of contact found.

    Attributes:
        experiment_id: In which customers were given their moment at random.
        best: The moment that did best, in words, e.g. ``"8 days into the silence"``.
        gain: Of the best moment over the usual one, per customer.
    """

    experiment_id: str
    best: str
    gain: Estimate


@dataclass(frozen=True, slots=True, eq=False)
class EarlyWarning:
    """The list of one landmark.

    Attributes:
        rows: The listed customers, the most at stake first: ``rank``; ``customer_id`` (as given:
            pseudonyms stay pseudonyms); ``store_id``, ``staff_id`` where the frame has them;
            ``value_at_risk`` with ``ci_low``, ``ci_high``; ``value_of_return``; per horizon
            ``risk_<h>`` (chance of no purchase, or of the end, within h days), ``change_<h>``
            since the previous landmark (missing for customers who were not known then, and
            without one) and ``reasons_<h>`` in words (where the fit explains itself).
        landmark: The day of the list.
        previous: The earlier landmark compared with, or ``None``.
        horizons: Days.
        within_days: The horizon of the risk in ``value_at_risk``.
        total: Value at risk of everybody in the frame.
        listed: Value at risk of those listed.
        n_customers: In the frame.
        by_store, by_staff: Per store and advisor: ``customers`` listed, ``value_at_risk``; the
            most at stake first, empty without the column.
        model_hash: Of the fit, to record with the list.
        when: The moment to act, from randomised timing only; else ``unknown``.
        notes: What the list cannot say.
    """

    rows: pd.DataFrame
    landmark: pd.Timestamp
    previous: pd.Timestamp | None
    horizons: tuple[int, ...]
    within_days: int
    total: Estimate
    listed: Estimate
    n_customers: int
    by_store: pd.DataFrame
    by_staff: pd.DataFrame
    model_hash: str
    when: str
    notes: tuple[str, ...]

    def to_record(self) -> pd.DataFrame:
        """The list as it is kept: with landmark, model hash and moment in every row."""
        return self.rows.assign(landmark=self.landmark, model_hash=self.model_hash, when=self.when)


def early_warning(
    fit: Survives,
    frame: pd.DataFrame,
    value: ReturnValueFit | pd.DataFrame | pd.Series,
    *,
    horizons: Sequence[int] = (30, 60, 90),
    within_days: int | None = None,
    previous: pd.DataFrame | None = None,
    most: int = 200,
    reasons: int = 3,
    event: Literal["return", "leaving"] = "return",
    timing: RandomisedTiming | None = None,
    risk_error: float = 0.0,
    unit: str = "currency units",
) -> EarlyWarning:
    """Rank customers by what their staying away puts at risk.

    Value at risk is the chance of not coming back within ``within_days`` times what a return goes
    along with: the expected margin over the value horizon of those who come back by then, less
    that of those who do not. It is not risk times lifetime value, which counts the chance of
    being alive twice. It is what is at stake, not what a contact would save: that needs
    customers left alone at random.

    Args:
        fit: Gives ``survival(frame, times)``; ``cumulative_incidence`` is used where it tells
            ``purchase`` apart from other causes, ``explain`` where there is one.
        frame: One landmark's rows, its day being today; outcomes are not read.
        value: A ``ReturnValueFit`` for the same ``within_days``; or per customer the value of a
            return, as a series or as ``value, ci_low, ci_high``, index of ``frame``.
        horizons: Days, ascending.
        within_days: The risk in the value at risk; by default that of the ``ReturnValueFit``, else
            the longest horizon.
        previous: Rows of an earlier landmark, e.g. last week's, scored by the same fit.
        most: Length of the list.
        reasons: How many reasons per horizon; 0 for none.
        event: ``return`` where the event of the fit is a purchase, so that the risk is its
            absence; ``leaving`` where it is the end of a membership.
        timing: From an experiment that drew the moment of contact at random. Without one, or
            where its gain may be 0, ``when`` is ``unknown``.
        risk_error: How far the level of the risk may be off, as a share of it: the half-width of
            its interval where the forecast was judged (``Judgement.risk_error``). It widens every
            interval, its error taken as independent of the value's; 0 takes the risk as exact.
        unit: Currency of the value.

    Raises:
        ContractError: The frame has no rows or several landmarks, repeats a customer, the value is
            missing for some, ``previous`` is not earlier, the horizons do not ascend, or
            ``within_days`` is not that of the value.
    """
    landmark = _one_landmark("frame", frame)
    asked = _ascending(horizons)
    if most < 1:
        raise ContractError(f"most must be at least 1; got {most}")
    if not 0 <= risk_error < np.inf:
        raise ContractError(f"risk_error must be 0 or more; got {risk_error}")
    within = _within(value, within_days, asked)
    times = sorted({*asked, within})
    risk = _risks(fit, frame, times, event)
    worth = _worth(value, frame)
    at_stake = worth.mul(risk[within], axis=0)
    for side in ("ci_low", "ci_high"):
        apart = np.hypot(at_stake[side] - at_stake["value"], risk_error * at_stake["value"])
        at_stake[side] = at_stake["value"] + (apart if side == "ci_high" else -apart)
    columns: dict[str, object] = {"customer_id": frame["customer_id"]}
    columns |= {name: frame[name] for name in ("store_id", "staff_id") if name in frame.columns}
    columns |= {
        "value_at_risk": at_stake["value"],
        "ci_low": at_stake["ci_low"],
        "ci_high": at_stake["ci_high"],
        "value_of_return": worth["value"],
    }
    columns |= {f"risk_{horizon}": risk[horizon] for horizon in asked}
    table = pd.DataFrame(columns, frame.index)
    earlier = None
    if previous is not None:
        earlier = _one_landmark("previous", previous)
        if earlier >= landmark:
            raise ContractError(
                f"previous must lie before the landmark {landmark.date()}; got {earlier.date()}"
            )
        then = _risks(fit, previous, asked, event)
        then.index = pd.Index(previous["customer_id"])
        for horizon in asked:
            before = then[horizon].reindex(frame["customer_id"]).to_numpy(float)
            table[f"change_{horizon}"] = table[f"risk_{horizon}"] - before
    table = table.sort_values(["value_at_risk", "customer_id"], ascending=[False, True]).head(most)
    notes = [
        "At stake is not to be saved: what a contact gains needs customers left alone at random."
    ]
    if reasons and isinstance(fit, _Explains):
        own = frame.loc[table.index]
        cause = _PURCHASE if _PURCHASE in getattr(fit, "causes", ()) else None
        explained = fit.explain(own, asked, cause)
        usual = frame.median(numeric_only=True)
        towards = -1 if event == "return" else 1
        table = table.join(strongest_reasons(explained, own, usual, asked, reasons, towards))
    elif reasons:
        notes.append("This fit does not explain itself: the list gives no reasons.")
    if previous is not None and earlier is not None:
        new = int((~table["customer_id"].isin(previous["customer_id"])).sum())
        if new:
            notes.append(f"{new} listed customers were not known on {earlier.date()}: no change.")
    when = _moment(timing, notes)
    everybody = _total(value, frame, risk[within], worth, unit, risk_error)
    chosen = frame.loc[table.index]
    listed = _total(
        value, chosen, risk[within].loc[chosen.index], worth.loc[chosen.index], unit, risk_error
    )
    table.insert(0, "rank", np.arange(1, len(table) + 1))
    table = table.reset_index(drop=True)
    return EarlyWarning(
        rows=table,
        landmark=landmark,
        previous=earlier,
        horizons=tuple(asked),
        within_days=within,
        total=everybody,
        listed=listed,
        n_customers=len(frame),
        by_store=_by(table, "store_id"),
        by_staff=_by(table, "staff_id"),
        model_hash=model_hash(fit),
        when=when,
        notes=tuple(notes),
    )


def model_hash(fit: Any) -> str:
    """Sixteen hexadecimal digits that stand for a fit: the same for the same fit, anywhere."""
    if isinstance(printed := getattr(fit, "fingerprint", None), str):
        return printed
    digest = hashlib.sha256(type(fit).__name__.encode())
    for name in sorted(getattr(type(fit), "__slots__", ()) or vars(fit)):
        part = getattr(fit, name)
        told = part.to_csv(float_format="%.12g") if isinstance(part, pd.DataFrame) else repr(part)
        digest.update(f"{name}={told};".encode())
    return digest.hexdigest()[:16]


def _one_landmark(name: str, frame: pd.DataFrame) -> pd.Timestamp:
    if missing := [column for column in ("landmark", "customer_id") if column not in frame.columns]:
        raise ContractError(f"{name} needs {missing}; it has {list(frame.columns)}")
    if frame.empty:
        raise ContractError(f"{name} has no rows: nobody is known on its landmark")
    days = pd.to_datetime(frame["landmark"])
    if (days != days.iloc[0]).any():
        raise ContractError(f"{name} must hold one landmark; it holds {days.nunique(dropna=False)}")
    if repeated := int(frame["customer_id"].duplicated().sum()):
        raise ContractError(f"{name} repeats a customer in {repeated} of {len(frame)} rows")
    if not frame.index.is_unique:
        raise ContractError(f"the index of {name} must be unique")
    return pd.Timestamp(days.max())


def _ascending(horizons: Sequence[int]) -> list[int]:
    asked = list(horizons)
    if not asked or asked != sorted(set(asked)) or asked[0] < 1:
        raise ContractError(f"horizons must be days from 1, ascending; got {asked}")
    return asked


def _within(
    value: ReturnValueFit | pd.DataFrame | pd.Series, within_days: int | None, asked: list[int]
) -> int:
    if isinstance(value, ReturnValueFit):
        if within_days is not None and within_days != value.within_days:
            raise ContractError(
                f"the value is that of coming back within {value.within_days} days, not within "
                f"{within_days}: fit_return_value for the same within_days"
            )
        return value.within_days
    return asked[-1] if within_days is None else within_days


def _risks(
    fit: Any, frame: pd.DataFrame, times: Sequence[int], event: Literal["return", "leaving"]
) -> pd.DataFrame:
    """Chance of no purchase by each time, or of the end."""
    causes = tuple(getattr(fit, "causes", ()))
    if event == "return" and _PURCHASE in causes and len(causes) > 1:
        risk = 1 - fit.cumulative_incidence(frame, times)[_PURCHASE]
    else:
        stayed = fit.survival(frame, times)
        risk = stayed if event == "return" else 1 - stayed
    found = pd.DataFrame(risk.to_numpy(float), frame.index, columns=list(times))
    if bad := int((~np.isfinite(found.to_numpy())).any(axis=1).sum()):
        raise ContractError(f"the fit gives no risk for {bad} of {len(frame)} rows")
    return found


def _worth(value: ReturnValueFit | pd.DataFrame | pd.Series, frame: pd.DataFrame) -> pd.DataFrame:
    if isinstance(value, ReturnValueFit):
        return value.gain(frame)
    if isinstance(value, pd.Series):
        value = pd.DataFrame(dict.fromkeys(("value", "ci_low", "ci_high"), value))
    needed = ["value", "ci_low", "ci_high"]
    if missing := [name for name in needed if name not in value.columns]:
        raise ContractError(f"value needs the columns {missing}; it has {list(value.columns)}")
    worth = value[needed].reindex(frame.index).astype(float)
    if gaps := int((~np.isfinite(worth.to_numpy())).any(axis=1).sum()):
        raise ContractError(f"the value is missing for {gaps} of {len(frame)} customers")
    return worth


def _total(
    value: ReturnValueFit | pd.DataFrame | pd.Series,
    frame: pd.DataFrame,
    risk: pd.Series,
    worth: pd.DataFrame,
    unit: str,
    risk_error: float,
) -> Estimate:
    """The sum at stake; without a fit of the value its ends are the sums of the ends."""
    if isinstance(value, ReturnValueFit):
        whole = value.total(frame, risk, unit)
        low, mid, high = whole.ci_low, whole.value, whole.ci_high
    else:
        low, mid, high = (
            float((worth[name] * risk).sum()) for name in ("ci_low", "value", "ci_high")
        )
    # all risks share the error of their level
    below, above = (float(np.hypot(mid - end, risk_error * mid)) for end in (low, high))
    return Estimate(mid, mid - below, mid + above, unit)


def _by(table: pd.DataFrame, column: str) -> pd.DataFrame:
    if column not in table.columns:
        return pd.DataFrame({column: [], "customers": [], "value_at_risk": []})
    named = table.assign(**{column: table[column].astype("object").fillna("none")})
    summed = named.groupby(column)["value_at_risk"].agg(customers="size", value_at_risk="sum")
    return summed.reset_index().sort_values(
        ["value_at_risk", column], ascending=[False, True], ignore_index=True
    )


def _moment(timing: RandomisedTiming | None, notes: list[str]) -> str:
    if timing is None:
        notes.append("When to act is unknown: no experiment drew the moment of contact at random.")
        return UNKNOWN
    if timing.gain.ci_low <= 0:
        notes.append(
            f"When to act is unknown: in {timing.experiment_id} no moment was shown to be better "
            f"({timing.gain.ci_low:g} to {timing.gain.ci_high:g} {timing.gain.unit})."
        )
        return UNKNOWN
    return f"{timing.best} ({timing.experiment_id})"
