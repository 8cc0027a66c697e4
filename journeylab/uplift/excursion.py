"""Excursion effects: what one touch more does at a moment, given recent touches and availability.

Where chance decides week after week, a touch can be compared with none at every moment, among
people with whatever came before: the effect of one excursion from the way things were done. How it
depends on recent touches is fatigue. A single wave cannot tell that, for its recent touches were
somebody's choice; repeated waves can, if the recent touches are themselves weighted for the
chances with which they were given (``recent_waves``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from journeylab.errors import ContractError, FitError
from journeylab.estimate import Measured, measured
from journeylab.uplift.design import Design
from journeylab.uplift.trial import FEWEST_IN_ARM

Floats = NDArray[np.float64]
AVERAGE, RECENT = "average", "recent_touches"


@dataclass(frozen=True, slots=True, eq=False)
class ExcursionFit:
    """Effects of one touch more against the control, linear in moderators.

    Attributes:
        arms: Without the control.
        moderators: In the order of the coefficients; the first coefficient of an arm is its effect
            where all moderators are at their ``centre``.
        centre: Moderator -> its weighted mean, so that the first coefficient is an average effect.
        coefficients: ``(arms, 1 + moderators)``, in ``unit`` (per unit of the moderator).
        influence: ``(people, arms, 1 + moderators)``: each person's influence on them.
        shares: Arm -> weight in averages over arms: shares of touches given.
        units: Moments that the fit rests on.
        people: Independent units (customers, or clusters).
        left_out: Reason -> moments.
        unit: Of the outcome.
    """

    arms: tuple[str, ...]
    moderators: tuple[str, ...]
    centre: Mapping[str, float]
    coefficients: Floats
    influence: Floats = field(repr=False)
    shares: Mapping[str, float]
    units: int
    people: int
    left_out: Mapping[str, int]
    unit: str

    def effect(self, arm: str | None = None, at: Mapping[str, float] | None = None) -> Measured:
        """Effect of a touch now against none.

        Args:
            arm: Its name; the average touch where none is named.
            at: Moderator -> value; those left out are at their mean.

        Raises:
            ContractError: There is no such arm or moderator.
        """
        given = dict(at or {})
        if unknown := sorted(set(given) - set(self.moderators)):
            raise ContractError(f"there is no moderator {', '.join(unknown)}")
        away = [given.get(name, self.centre[name]) - self.centre[name] for name in self.moderators]
        return self._combined(arm, np.array([1.0, *away]))

    def slope(self, moderator: str, arm: str | None = None) -> Measured:
        """How much more a touch does per unit of a moderator; for recent touches, fatigue if < 0.

        Args:
            moderator: Its name.
            arm: Its name; the average touch where none is named.

        Raises:
            ContractError: There is no such arm or moderator.
        """
        if moderator not in self.moderators:
            raise ContractError(f"there is no moderator {moderator!r}")
        pick = np.zeros(1 + len(self.moderators))
        pick[1 + self.moderators.index(moderator)] = 1.0
        return self._combined(arm, pick)

    def table(self, level: float = 0.95) -> pd.DataFrame:
        """One row per arm and term, the average touch last.

        Returns:
            ``arm, term`` (``average``, or a moderator), ``effect, standard_error, ci_low,
            ci_high``.
        """
        rows = []
        for arm in (*self.arms, None):
            for term in (AVERAGE, *self.moderators):
                found = self.effect(arm) if term == AVERAGE else self.slope(term, arm)
                known = found.estimate(level)
                rows.append(
                    (
                        arm or "any touch",
                        term,
                        known.value,
                        found.standard_error,
                        known.ci_low,
                        known.ci_high,
                    )
                )
        names = ["arm", "term", "effect", "standard_error", "ci_low", "ci_high"]
        return pd.DataFrame(rows, columns=names)

    def curve(
        self, moderator: str, values: Sequence[float], arm: str | None = None, level: float = 0.95
    ) -> pd.DataFrame:
        """Effect at values of one moderator, the others at their means.

        Returns:
            ``at, effect, ci_low, ci_high``, one row per value.

        Raises:
            ContractError: There is no such arm or moderator.
        """
        found = [self.effect(arm, {moderator: value}).estimate(level) for value in values]
        return pd.DataFrame(
            {
                "at": list(values),
                "effect": [known.value for known in found],
                "ci_low": [known.ci_low for known in found],
                "ci_high": [known.ci_high for known in found],
            }
        )

    def finding(self, moderator: str, level: float = 0.95) -> str:
        """One line on what recent touches do to the next one."""
        known = self.slope(moderator).estimate(level)
        label = "touch more just before" if moderator == RECENT else moderator.replace("_", " ")
        numbers = (
            f"{known.value:+.2g} {self.unit} ({known.ci_low:+.2g} to {known.ci_high:+.2g}) per "
            f"{label}"
        ).replace("-", "\N{MINUS SIGN}")
        if known.ci_high < 0:
            return f"Touches tire: the next one does less after others, {numbers}"
        if known.ci_low > 0:
            return f"Touches help each other: {numbers}"
        return f"Fatigue is not told from none: {numbers}"

    def _combined(self, arm: str | None, terms: Floats) -> Measured:
        if arm is not None and arm not in self.arms:
            raise ContractError(f"there is no arm {arm!r}; arms are {', '.join(self.arms)}")
        weight = np.array(
            [self.shares[name] if arm is None else float(name == arm) for name in self.arms]
        )
        value = float(weight @ self.coefficients @ terms)
        return Measured(value, np.asarray(weight @ self.influence @ terms), self.unit)


def recent_waves(
    rows: pd.DataFrame,
    control: str,
    *,
    waves: int = 4,
    customer: str = "customer_id",
    wave: str = "assigned_on",
    arm: str = "arm",
    propensity: str = "propensity",
) -> pd.DataFrame:
    """Each moment's touches in the waves just before, and the weight that makes them random.

    People who bought of late may get more touches, so those with many recent touches differ from
    those with few. Weighted by the shares of arms over the chances with which they were given, the
    recent touches are as if drawn by one lot for all.

    Args:
        rows: Repeated waves, one row per customer and wave, as ``frames.trials`` gives them.
        control: Arm that is no touch.
        waves: How many waves back.
        customer: Column.
        wave: Column that orders the waves.
        arm: Column.
        propensity: Column: chance of the arm given, in (0, 1).

    Returns:
        The rows of customers who stood in each of the ``waves`` before, index kept, with
        ``recent_touches`` (0 to ``waves``, float) and ``recent_weight`` (mean 1).

    Raises:
        ContractError: A column is missing, a chance is not inside (0, 1), a customer stands twice
            in one wave, or nobody stood in so many waves.

    Source:
        Boruvka, Almirall, Witkiewitz & Murphy, "Assessing Time-Varying Causal Effect Moderation in
        Mobile Health" (2018), section 3; Robins, Hernan & Brumback, "Marginal Structural Models"
        (2000), for stabilised weights of a history.
    """
    _need(rows, [customer, wave, arm, propensity])
    if waves < 1:
        raise ContractError(f"waves must be 1 or more; got {waves}")
    _inside(rows[propensity])
    if twice := int(rows.duplicated([customer, wave]).sum()):
        raise ContractError(f"{twice} rows repeat a customer and wave")
    place = pd.Series(pd.factorize(rows[wave], sort=True)[0], rows.index)
    shares = rows.groupby(arm)[propensity].size() / len(rows)
    own = pd.DataFrame(
        {
            "touched": (rows[arm] != control).astype(float),
            "ratio": rows[arm].map(shares).astype(float) / rows[propensity].astype(float),
            "place": place,
            "customer": rows[customer],
        }
    ).sort_values(["customer", "place"], kind="stable")
    by_customer = own.groupby("customer", sort=False)
    touched, weight = pd.Series(0.0, own.index), pd.Series(1.0, own.index)
    for back in range(1, waves + 1):
        touched += by_customer["touched"].shift(back)
        weight *= by_customer["ratio"].shift(back)
    # a wave that was missed in between leaves a gap: its touch, if any, is not known
    whole = (own["place"] - by_customer["place"].shift(waves)) == waves
    if not whole.any():
        raise ContractError(f"nobody stands in {waves + 1} waves that follow one another")
    kept = rows.loc[whole.reindex(rows.index).to_numpy(bool)].copy()
    kept["recent_touches"] = touched.reindex(kept.index)
    recent = weight.reindex(kept.index)
    kept["recent_weight"] = recent / recent.mean()
    return kept


def excursion_effects(
    rows: pd.DataFrame,
    outcome: str,
    control: str,
    *,
    moderators: Sequence[str] = (),
    controls: Sequence[str] = (),
    available: str | None = None,
    weight: str | None = None,
    arm: str = "arm",
    propensity: str = "propensity",
    customer: str = "customer_id",
    unit: str = "outcome",
) -> ExcursionFit:
    """Weighted and centred least squares over all moments of all customers.

    Touches are centred on fixed shares and each moment weighs the share of its arm over the chance
    it had, so that effects stay right however wrong the model of the outcome without touches is,
    also where moderators and controls were moved by earlier touches. Intention to treat: a touch
    that did not arrive counts.

    Args:
        rows: One row per customer and moment at which chance decided.
        outcome: Column: what followed within a fixed time, before the next moment.
        control: Arm that is no touch.
        moderators: Columns known before the moment, by which effects may differ; numbers.
        controls: Columns known before it that only make the estimate steadier; numbers. A missing
            one counts as its mean, with a flag of its own.
        available: Column, 0 or 1: whether a touch could have been sent at all. Moments at which it
            could not are left out: effects are those given availability.
        weight: Column of further weights, as ``recent_weight`` of ``recent_waves``.
        arm: Column.
        propensity: Column: chance of the arm given, known by design; in (0, 1).
        customer: Column of what is independent: the customer, or a group of them.
        unit: Of the outcome.

    Raises:
        ContractError: A column is missing or has missing values, the outcome is among the
            moderators or controls, there is no control, a chance is not inside (0, 1), or an arm
            has fewer than 20 available moments.
        FitError: The moderators cannot be told apart.

    Source:
        Boruvka, Almirall, Witkiewitz & Murphy, "Assessing Time-Varying Causal Effect Moderation in
        Mobile Health" (2018), equation 6, for several arms; sandwich variance by customer.
    """
    _need(rows, [outcome, arm, propensity, customer, *moderators, *controls])
    if inside := sorted({outcome, arm} & {*moderators, *controls}):
        raise ContractError(f"moderators and controls must be known before: {', '.join(inside)}")
    asked = [outcome, arm, customer, *moderators, *([weight] if weight else [])]
    _need(rows, asked)
    if unknown := int(rows[asked].isna().any(axis=1).sum()):
        raise ContractError(f"{unknown} of {len(rows)} moments lack {', '.join(asked)} or a part")
    own, left_out = rows, {}
    if available is not None:
        _need(rows, [available])
        free = rows[available].fillna(0).to_numpy(float) == 1
        if gone := int((~free).sum()):
            left_out["not available"] = gone
        own = rows[free]
    labels = own[arm].astype(str).to_numpy()
    if control not in set(labels):
        raise ContractError(f"no available moment has the control {control!r}")
    _inside(own[propensity])
    arms = tuple(sorted(set(labels) - {control}))
    names, counts = np.unique(labels, return_counts=True)
    if few := [f"{n} ({k})" for n, k in zip(names, counts, strict=True) if k < FEWEST_IN_ARM]:
        raise ContractError(
            f"an arm needs {FEWEST_IN_ARM} available moments; too few: {', '.join(few)}"
        )
    if not arms:
        raise ContractError("there is no arm beside the control")

    share = dict(zip(names.tolist(), (counts / len(own)).tolist(), strict=True))
    chance = own[propensity].to_numpy(float)
    further = own[weight].to_numpy(float) if weight else np.ones(len(own))
    # Constant shares: with them the weighting of moments, and so what is estimated, does not hang
    # on the shares, and that they were counted costs the standard errors nothing.
    w = further * np.array([share[label] for label in labels]) / chance
    given = own[list(moderators)].to_numpy(float)
    middle = np.average(given, axis=0, weights=w) if moderators else np.empty(0)
    terms = np.column_stack([np.ones(len(own)), given - middle])
    centred = np.column_stack([(labels == name) - share[name] for name in arms])
    x = (centred[:, :, None] * terms[:, None, :]).reshape(len(own), -1)
    base = _base(own, terms, controls)
    design = np.column_stack([x, base])
    y = own[outcome].to_numpy(float)

    bread = design.T @ (design * w[:, None])
    scale = np.sqrt(np.diag(bread))
    if not (scale[: x.shape[1]] > 0).all():
        raise FitError("a moderator does not vary, or some weights are all 0")
    standard = bread / np.outer(scale, scale)
    if np.linalg.matrix_rank(standard[: x.shape[1], : x.shape[1]], tol=1e-9) < x.shape[1]:
        raise FitError(f"the moderators cannot be told apart: {', '.join(moderators)}")
    inverse = np.linalg.pinv(standard, rcond=1e-10, hermitian=True) / np.outer(scale, scale)
    beta = inverse @ (design.T @ (w * y))
    residual = y - design @ beta
    people = pd.factorize(own[customer])[0].astype(np.int64)
    effects = x.shape[1]
    influence = ((design * (w * residual)[:, None]) @ inverse[:, :effects]) * len(own)
    columns = [
        measured(float(beta[place]), influence[:, place], unit, people) for place in range(effects)
    ]
    shape = (len(arms), terms.shape[1])
    touched = 1 - share[control]
    return ExcursionFit(
        arms=arms,
        moderators=tuple(moderators),
        centre=dict(zip(moderators, middle.tolist(), strict=True)),
        coefficients=beta[:effects].reshape(shape),
        influence=np.column_stack([c.influence for c in columns]).reshape(-1, *shape),
        shares={name: share[name] / touched for name in arms},
        units=len(own),
        people=int(people.max()) + 1,
        left_out=left_out,
        unit=unit,
    )


def _base(own: pd.DataFrame, terms: Floats, controls: Sequence[str]) -> Floats:
    """What is expected without regard to the arm: moderators, controls, flags of missing ones."""
    columns = [terms[:, place] for place in range(terms.shape[1])]
    for name in controls:
        values = own[name].to_numpy(float, na_value=np.nan)
        known = np.isfinite(values)
        if not known.any():
            continue
        mean, spread = values[known].mean(), values[known].std()
        if spread > 0:
            columns.append(np.where(known, (values - mean) / spread, 0.0))
        if not known.all():
            columns.append((~known).astype(float))
    return np.column_stack(columns)


def fatigue(design: Design, *, waves: int = 4) -> ExcursionFit | None:
    """What one touch more does, by touches in the waves just before.

    Args:
        design: Of repeated waves. Where groups of people were given arms, the standard errors are
            those of groups.
        waves: How many waves back.

    Returns:
        Effects with the moderator ``recent_touches`` (0 to ``waves``); ``None`` where nobody stood
        in so many waves that follow one another, or an arm has too few moments left.
    """
    rows = design.rows
    if "assigned_on" not in rows.columns or rows["assigned_on"].nunique() <= waves:
        return None
    if not rows.groupby("customer_id")["assigned_on"].nunique().gt(waves).any():
        return None
    recent = recent_waves(rows, design.control, waves=waves)
    counts = recent["arm"].value_counts().reindex([design.control, *design.arms], fill_value=0)
    if counts.min() < FEWEST_IN_ARM or recent["recent_touches"].nunique() < 2:
        return None
    numbers = [name for name in design.covariates if pd.api.types.is_numeric_dtype(recent[name])]
    return excursion_effects(
        recent, design.outcome, design.control, moderators=["recent_touches"], controls=numbers,
        weight="recent_weight", customer=design.randomised_by or "customer_id",
        unit=design.outcome,
    )  # fmt: skip


def _need(rows: pd.DataFrame, columns: Sequence[str]) -> None:
    if missing := sorted(set(columns) - set(rows.columns)):
        raise ContractError(f"the rows have no columns {', '.join(missing)}")


def _inside(chance: pd.Series) -> None:
    values = chance.to_numpy(float, na_value=np.nan)
    if bad := int((~((values > 0) & (values < 1))).sum()):
        raise ContractError(
            f"propensities must lie inside (0, 1); {bad} of {len(values)} do not: excursion "
            "effects need chances that were drawn and logged at every moment"
        )
