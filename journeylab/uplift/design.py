"""Design: who could have got which arm, with which chance, and what may be known of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from journeylab.errors import ContractError
from journeylab.uplift.randomisation import logged_shares

KEYS = ("experiment_id", "customer_id", "arm", "assigned_on", "propensity", "stratum", "cluster")
_AFTER = ("bought", "orders", "spend", "margin", "delivered", "answered")
# A text with more values than this names things rather than kinds.
_MOST_KINDS = 50
_NUMBER = r"-?(0|[1-9][0-9]*)([.][0-9]+)?"


@dataclass(frozen=True, slots=True, eq=False)
class Design:
    """A trial's rows, ready for effects.

    Attributes:
        rows: One per unit: ``experiment_id, customer_id, arm, propensity, block, cluster``, the
            covariates, ``before`` (the outcome as it was before assignment, where there is one),
            ``delivered`` where logged, and the outcome.
        control: Label of the control.
        arms: The others, sorted.
        outcome: Column.
        covariates: Columns known before assignment.
        shares: One row per block, one column per arm: designed shares.
        clusters: ``cluster`` where rows are not independent, else ``None``.
        randomised_by: ``cluster`` where groups of people were given arms, else ``None``.
        placebo: ``before`` or ``None``.
        left_out: Reason -> rows.
        off_design: Rows whose logged chance differs from that of their block.
    """

    rows: pd.DataFrame
    control: str
    arms: tuple[str, ...]
    outcome: str
    covariates: tuple[str, ...]
    shares: pd.DataFrame
    clusters: str | None
    randomised_by: str | None
    placebo: str | None
    left_out: Mapping[str, int]
    off_design: int

    def summary(self) -> pd.DataFrame:
        """One row per arm, control first: ``arm, units, customers, designed`` (mean share, 0-1)."""
        size = self.rows.groupby("block").size()
        mean = self.shares.loc[size.index].mul(size, axis=0).sum() / size.sum()
        by_arm = self.rows.groupby("arm")
        table = pd.DataFrame(
            {
                "units": by_arm.size(),
                "customers": by_arm["customer_id"].nunique(),
                "designed": mean,
            }
        )
        return table.loc[[self.control, *self.arms]].rename_axis("arm").reset_index()


def read_design(
    rows: pd.DataFrame,
    outcome: str,
    control: str,
    *,
    blocks: Sequence[str] = (),
    covariates: Sequence[str] = (),
    shares: Mapping[str, float] | None = None,
    left_out: Mapping[str, int] | None = None,
) -> Design:
    """Check a trial's rows and find its blocks, chances and covariates.

    Args:
        rows: From ``frames.trials`` or ``frames.measured_trials``, collected.
        outcome: Column.
        control: Label of the control.
        blocks: Columns known before assignment by which the chances were made to differ, within
            each experiment and stratum.
        covariates: Columns; by default every number and text known before assignment, without
            ids, dates and texts of more than 50 values.
        shares: Arm -> share by design (they add up to 1), where no chance was logged.
        left_out: Reason -> rows already left out.

    Raises:
        ContractError: A column is missing, the outcome or the arm is among the covariates, there
            are no rows or no control, the chances logged in a block do not add up to 1, or none
            were logged and ``shares`` does not tell them.
    """
    if not len(rows):
        raise ContractError("the trial has no rows: no unit's window is closed")
    asked = {"outcome": [outcome], "blocks": blocks, "covariates": covariates}
    for what, named in asked.items():
        if missing := sorted(set(named) - set(rows.columns)):
            there = ", ".join(sorted(set(map(str, rows.columns)) - {*KEYS}))
            raise ContractError(
                f"{what}: the rows have no column {', '.join(missing)}; there are {there}"
                + ("; blocks may be empty where all had the same chances" * (what == "blocks"))
            )
    if inside := sorted({outcome, *KEYS} & set(covariates)):
        raise ContractError(f"covariates must be known before assignment: {', '.join(inside)}")
    if control not in set(rows["arm"]):
        known = ", ".join(sorted(set(rows["arm"])))
        raise ContractError(f"nobody has the control {control!r}; arms are {known}")
    reasons = dict(left_out or {})
    own = rows.copy()
    own["block"] = own["stratum"].astype(str)
    # the experiment belongs to the block even where its strata have names of their own
    if not (own["stratum"] == own["experiment_id"]).all():
        own["block"] = own["experiment_id"].astype(str) + " / " + own["block"]
    for name in blocks:
        own["block"] += " / " + own[name].astype(str)
    if gone := int((without := own[outcome].isna()).sum()):
        reasons["no outcome"] = gone
        own = own[~without]
    own, designed, off = _with_chances(own, shares, reasons)
    own = _with_numbers(own, keep={outcome, *blocks})
    chosen = tuple(covariates) or _before(own, outcome)
    before = f"outcome_{outcome}_before"
    if before in own.columns and own[before].notna().all():
        own = own.rename(columns={before: "before"})
        chosen = tuple(name for name in chosen if name != before)
    repeated = own["cluster"].duplicated().any()
    return Design(
        rows=own.reset_index(drop=True),
        control=control,
        arms=tuple(sorted(set(own["arm"]) - {control})),
        outcome=outcome,
        covariates=tuple(name for name in chosen if not name.startswith("outcome_")),
        shares=designed,
        clusters="cluster" if repeated else None,
        randomised_by="cluster" if (own["cluster"] != own["customer_id"]).any() else None,
        placebo="before" if "before" in own.columns else None,
        left_out=reasons,
        off_design=off,
    )


def _with_chances(
    own: pd.DataFrame, told: Mapping[str, float] | None, reasons: dict[str, int]
) -> tuple[pd.DataFrame, pd.DataFrame, int]:
    """Rows with a chance inside (0, 1), the designed shares, and rows that depart from them."""
    if own["propensity"].isna().all():
        arms = sorted(set(own["arm"]))
        if told is None:
            raise ContractError(
                f"no chance was logged for any of {len(own)} rows: say by shares with which chance "
                f"each arm was drawn ({', '.join(arms)}); that they were equal is not assumed"
            )
        if set(arms) - set(told) or abs(sum(told.values()) - 1) > 1e-6:
            raise ContractError(
                f"shares must name {', '.join(arms)} and add up to 1; got {dict(told)}"
            )
        if not all(0 < told[name] < 1 for name in arms):
            raise ContractError(f"shares must lie inside (0, 1); got {dict(told)}")
        chances = {name: float(told[name]) for name in arms}
        shares = pd.DataFrame(chances, index=sorted(set(own["block"])))
        return own.assign(propensity=own["arm"].map(chances).astype(float)), shares, 0
    if told is not None:
        raise ContractError("chances were logged: shares are for sources that have none")
    unknown = own["propensity"].isna()
    if unknown.any():
        reasons["no chance logged"] = int(unknown.sum())
    certain = ~unknown & ~own["propensity"].between(0, 1, inclusive="neither")
    if certain.any():
        reasons["chance of 0 or 1"] = int(certain.sum())
    own = own[~unknown & ~certain]
    if not len(own):
        raise ContractError("no row has a chance inside (0, 1): nothing was left to chance")
    shares, off = logged_shares(own, "arm", "propensity", "block")
    return own, shares, off


def _with_numbers(rows: pd.DataFrame, keep: set[str]) -> pd.DataFrame:
    """Texts whose every value is written as a number, as numbers.

    Columns of a source that the contract does not know come as texts; ``007`` is a code.
    """
    found = {}
    for name in set(rows.columns) - {*KEYS, *_AFTER, "block", *keep}:
        values = rows[name]
        if not (pd.api.types.is_object_dtype(values) or pd.api.types.is_string_dtype(values)):
            continue
        known = values.dropna().astype(str)
        if len(known) and known.str.fullmatch(_NUMBER).all():
            found[name] = pd.to_numeric(values)
    return rows.assign(**found)


def _before(rows: pd.DataFrame, outcome: str) -> tuple[str, ...]:
    """Columns known before assignment, that vary."""
    found = []
    for name in rows.columns:
        if name in (*KEYS, *_AFTER, outcome, "block") or name.startswith("outcome_"):
            continue
        values = rows[name]
        if pd.api.types.is_datetime64_any_dtype(values):
            continue
        kinds = values.nunique()
        number = pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values)
        if kinds > 1 and (number or kinds <= _MOST_KINDS):
            found.append(name)
    return tuple(found)
