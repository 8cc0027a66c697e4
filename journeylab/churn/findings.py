"""What each result of a study says, in one sentence: the titles of its figures."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from journeylab.churn.cox import CoxFit
from journeylab.churn.curves import bands, no_purchase
from journeylab.churn.early_warning import EarlyWarning
from journeylab.churn.judgement import HAZARD, Judgement
from journeylab.churn.leaks import LeakReport
from journeylab.churn.scenario import Scenario
from journeylab.churn.score import Scores
from journeylab.churn.study import Study
from journeylab.churn.words import covariate_words
from journeylab.estimate import Estimate

# a page is read by people who have never met an integrated Brier score
_FOR_READERS = {
    "ibs": "squared_error",
    "uno_c": "concordance",
    "d_gap": "level_gap",
}


def waits_finding(study: Study) -> str:
    """How long waits between purchases (or memberships) last."""
    curve = study.waits
    at = study.horizons if not study.contract else study.lengths[2:3]
    shares = [_read(curve, time) for time in at]
    if study.contract:
        return f"{_percent(1 - shares[0])} of memberships have ended after {at[0]:,} days"
    parts = [_percent(share, 0 if share >= 0.1 else 1) for share in shares]
    said = [f"{parts[0]} of waits for the next purchase last longer than {at[0]} days"]
    said += [f"{part} longer than {day}" for part, day in zip(parts[1:], at[1:], strict=True)]
    return ", ".join(said)


def bands_finding(study: Study, table: pd.DataFrame, unit: str) -> str:
    """The first and the last band at the first length.

    Args:
        study: Of the table.
        table: From ``no_purchase_by_segment``, everybody last.
        unit: What the bands count, e.g. ``days silent``.
    """
    day = int(table["horizon_days"].min())
    own = table[table["horizon_days"] == day]
    low, high = own.iloc[0], own.iloc[-2]
    said = [f"{row['segment']} {unit}".strip() for row in (high, low)]
    shares = [_percent(row["no_purchase"]) for row in (high, low)]
    after = f"{day:,} days" if study.contract else f"for {day} days"
    return f"{said[0]}: {shares[0]} {study.words.free} {after}; {said[1]}: {shares[1]}"


def cox_finding(study: Study, fit: CoxFit) -> str:
    """The covariate that is surest to matter."""
    order = np.argsort(fit.coefficients["p"].to_numpy(), kind="stable")
    row = fit.coefficients.iloc[order[0]]
    name, ratio = covariate_words(str(row["covariate"])), float(row["hazard_ratio"])
    steps = {"doubling": f"Twice the {name}", "yes against no": name}
    step = steps.get(str(row["per"]), f"One standard deviation more of {name}")
    how = f"{_percent(abs(ratio - 1))} {'more' if ratio > 1 else 'fewer'}"
    kept = int((fit.proportionality["p"] >= 0.05).sum())
    what = "ends" if study.contract else "returns"
    return (
        f"{step} goes with {how} {what} per day; {kept} of {len(fit.coefficients)} ratios "
        "hold at all times"
    )


def brier_finding(judged: Judgement) -> str:
    """Skill of the hazard model, and its difference from Cox's."""
    pooled = judged.rolling.pooled
    skill = float(pooled.loc[pooled["model"] == HAZARD, "skill"].to_numpy(float)[0])
    versus = judged.rolling.differences
    row = versus[(versus["model"] == HAZARD) & (versus["against"] == "Cox")].iloc[0]
    told = {"better": "less than Cox's", "worse": "more than Cox's"}
    beside = told.get(str(row["reading"]), "no different from Cox's")
    return (
        f"The hazard model takes {_percent(skill)} off the squared error of one share "
        f"for all; its error is {beside}"
    )


def auc_finding(judged: Judgement) -> str:
    """How well the hazard model orders customers at the last horizon, beside the best rule."""
    table = judged.scores.table
    own = float(table.loc[table["model"] == HAZARD, "auc"].to_numpy(float)[0])
    rules = table[table["baseline"]].sort_values("auc", kind="stable")
    best = float(rules["auc"].to_numpy(float)[-1])
    return (
        f"The hazard model orders {_percent(own)} of pairs rightly, {rules['model'].iloc[-1]} "
        f"{_percent(best)}"
    )


def calibration_finding(judged: Judgement) -> str:
    """Predicted and observed share at the first horizon of the last day; how many groups fit."""
    row, words = judged.out_of_time().iloc[0], judged.study.words
    said = (
        f"Forecast: {_percent(row['predicted'], 1)} {words.free} {_within(judged, row)}; "
        f"observed: {_percent(row['observed'], 1)}"
    )
    groups = judged.calibration()
    out = groups[~groups["inside"].astype(bool)]
    if out.empty:
        return f"{said}; all {len(groups)} groups agree"
    over = int((out["predicted"] > out["observed"]).sum())
    ways = [
        f"{count} of {len(groups)} groups too {how}"
        for count, how in ((over, "high"), (len(out) - over, "low"))
        if count
    ]
    return f"{said}; {' and '.join(ways)}"


def shape_finding(judged: Judgement) -> str:
    """Whether the chance per day rises or falls while the customer waits."""
    shape = judged.shape()
    own = shape[shape["group"] == "middling"]["hazard"].to_numpy(float)
    change = own[-1] / own[0] if own[0] > 0 else 1.0
    first, last = (f"day {time:,.0f}" for time in (judged.study.times[0], judged.study.times[-1]))
    if 0.8 < change < 1.25:
        how = f"about as likely on {last} as on {first}"
    elif change < 1:
        how = f"{1 / max(change, 1e-3):.1f} times less likely on {last} than on {first}"
    else:
        how = f"{change:.1f} times as likely on {last} as on {first}"
    return f"For a customer of middling risk {judged.study.words.event} is {how}"


def reasons_finding(size: pd.DataFrame) -> str:
    """The strongest covariates.

    Args:
        size: From ``Judgement.reasons``.
    """
    names = [str(name) for name in size.index[:2]]
    return f"The forecast rests most on {' and '.join(names)}"


def origins_finding(judged: Judgement) -> str:
    """On how many days the hazard model beat the best single-column rule."""
    versus = judged.rolling.differences
    own = versus[versus["model"] == HAZARD].set_index("against")
    rules = [name for name in own.index if name.endswith("alone")]
    where = "parts" if judged.study.contract else "days"
    if not rules:
        row = own.loc["Kaplan-Meier"]
        return f"Better than one share for all on {row['days_better']} of {row['days']} {where}"
    best = str(own.loc[rules, "difference"].idxmax())
    row = own.loc[best]
    return f"Better than {best} on {row['days_better']} of {row['days']} {where}"


def leaks_finding(study: Study) -> str:
    """What the search for leaks found, in a sentence."""
    report: LeakReport = study.leaks
    looked = f"{len(report.columns)} columns of {report.n_rows:,} rows were searched"
    if not report.findings:
        return f"{looked}: none gives the outcome away."
    parts = [f"{one.column or 'the frame'}: {one.evidence}" for one in report.findings]
    out = f" Left out: {', '.join(study.left_out)}." if study.left_out else ""
    return f"{looked}. {'; '.join(parts)}.{out}"


def rule_table(
    study: Study, judged: Judgement, silent_days: tuple[int, ...] = (30, 60, 90, 180)
) -> pd.DataFrame:
    """What rules of the kind "silent for so long means gone" get wrong on the days judged.

    Returns:
        One row per rule: ``silent_days``; ``customers`` it gives up, counted on each day;
        ``come_back``, the share of
        them who buy within the longest horizon; ``of_buyers``, the share of all buyers of that
        time that it writes off. Empty for memberships, where nobody has to guess.
    """
    columns = ["silent_days", "customers", "come_back", "of_buyers"]
    if study.contract:
        return pd.DataFrame(columns=columns)
    days = pd.to_datetime(study.rows["landmark"]).dt.date.astype(str)
    rows, table = study.rows[days.isin(judged.rolling.origins)], []
    bought = (rows["event"] == 1) & (rows["duration"] <= study.far)
    for silent in silent_days:
        gone = rows["days_since_last"] >= silent
        back = int((gone & bought).sum())
        share = back / int(gone.sum()) if gone.any() else 0.0
        table.append((silent, int(gone.sum()), share, back / max(int(bought.sum()), 1)))
    return pd.DataFrame(table, columns=columns)


def rule_words(table: pd.DataFrame, far: int, silent_days: int) -> str:
    """What the rule of ``silent_days`` gets wrong, in a sentence.

    Args:
        table: From ``rule_table``.
        far: Its horizon, days.
        silent_days: One of the rules.
    """
    own = table[table["silent_days"] == silent_days]
    if own.empty:
        return "A membership ends on a day: no rule of silence is needed."
    row = own.iloc[0]
    return (
        f"On the days judged the rule '{silent_days} days silent = churned' gives up "
        f"{row['customers']:,.0f} customers, counted on each day: {_percent(row['come_back'])} of "
        f"them buy within {far} days, and with them it writes off {_percent(row['of_buyers'])} of "
        "all who buy then."
    )


def judged_doubts(judged: Judgement) -> list[str]:
    """What speaks against the forecast, each in a sentence; often empty."""
    found = []
    levels = judged.out_of_time()
    missed = levels[~levels["predicted"].between(levels["ci_low"], levels["ci_high"])]
    if len(missed):
        # the horizon at which the level was worst
        apart = (missed["predicted"] - missed["observed"]).abs().to_numpy(float)
        level = missed.iloc[int(apart.argmax())]
        off = level["predicted"] - level["observed"]
        found.append(
            f"From {judged.judged_on} the share who {judged.study.words.free} "
            f"{_within(judged, level)} came out {100 * abs(off):.1f} points too "
            f"{'low' if off < 0 else 'high'}: use the ranking, not the level."
        )
    versus = judged.rolling.differences
    own = versus[(versus["model"] == HAZARD) & (versus["against"] != "Cox")]
    worse = own[own["reading"] != "better"]["against"].tolist()
    if worse:
        found.append(
            f"The hazard model cannot be told from, or is worse than, {', '.join(worse)}: prefer "
            "the plainer one."
        )
    if (customers := judged.scores.customers) < 100:
        found.append(
            f"The forecast was judged on {customers} customers of {judged.judged_on} only: every "
            "share here is uncertain by ten points and more."
        )
    found += [
        f"{one.evidence}; {one.advice}." for one in judged.study.leaks.warnings if not one.column
    ]
    return found


def score_table(judged: Judgement) -> pd.DataFrame:
    """Scores of the last day with the columns that a reader needs first."""
    columns = ["model", "ibs", "skill", "skill_low", "skill_high", "uno_c", "auc", "d_gap"]
    return judged.scores.table[columns].rename(columns=_FOR_READERS)


def origin_table(judged: Judgement) -> pd.DataFrame:
    """Scores from every day judged with the columns that a reader needs first.

    ``predicted`` and ``observed`` share without the event by the last horizon; the latter over the
    hazard model's groups of equal risk, within which unequal follow-up matters less.
    """
    columns = ["origin", "model", "skill", "skill_low", "skill_high"]
    table = judged.rolling.by_origin[columns].copy()
    keys = list(table[["origin", "model"]].itertuples(index=False, name=None))
    scores = judged.rolling.scores
    table["predicted"] = [_last_level(scores[day], model, "predicted") for day, model in keys]
    # groups by a forecast that is the same for all would be no groups of equal risk
    table["observed"] = [_last_level(scores[day], HAZARD, "observed") for day, _ in keys]
    return table.rename(columns=_FOR_READERS)


def _last_level(scores: Scores, model: str, column: str) -> float:
    """Mean over the groups of calibration at the last horizon."""
    table = scores.calibration
    own = table[(table["model"] == model) & (table["horizon"] == scores.horizons[-1])]
    return float(np.average(own[column], weights=own["customers"]))


def judged_words(judged: Judgement) -> str:
    """On whom and what the forecast was judged, for the line under a title."""
    who = f"{judged.scores.customers:,} customers"
    if judged.study.contract:
        return f"{judged.judged_on}: {who} the models had not seen"
    return f"{who} from {judged.judged_on} on, whose purchases after it the models had not seen"


def warning_tables(
    warning: EarlyWarning,
    contacts: pd.DataFrame | None = None,
    scenario: Scenario | None = None,
) -> dict[str, pd.DataFrame]:
    """The list as tables that fit a page, by the name they are recorded under.

    Args:
        warning: From ``Judgement.warning``.
        contacts: From ``weekly_contacts``.
        scenario: From ``Judgement.scenario``.

    Returns:
        ``early_warning``: ``rank, value_at_risk, ci_low, ci_high``, the risks, the change of the
        nearest since last week and ``customer_id``; ``warning_reasons``: ``rank`` and ``reasons``,
        each told once with the horizons it holds for where that is not all of them; left out
        where the model gives none; then ``contacts`` and ``scenario`` where they are given.
    """
    rows, days = warning.rows, warning.horizons
    texts = [name for name in rows.columns if str(name).startswith("reasons_")]
    later = [f"change_{day}" for day in days[1:] if f"change_{day}" in rows.columns]
    # a pseudonym is long: last, it pushes nothing off the page
    found = {
        "early_warning": _customer_last(rows.drop(columns=[*texts, *later, "value_of_return"]))
    }
    if texts:
        told = [_told_once(row, days) for row in rows[texts].to_numpy(object).tolist()]
        found["warning_reasons"] = pd.DataFrame({"rank": rows["rank"], "reasons": told})
    if contacts is not None:
        found["contacts"] = _customer_last(
            contacts.drop(columns=["frequency", "gap_limit_days"], errors="ignore")
        )
    if scenario is not None:
        found["scenario"] = scenario.table
    return found


def _customer_last(table: pd.DataFrame) -> pd.DataFrame:
    return table[[*(name for name in table.columns if name != "customer_id"), "customer_id"]]


def _told_once(reasons: Sequence[str], days: Sequence[int]) -> str:
    """Reasons of several horizons, each once."""
    at: dict[str, list[int]] = {}
    for day, text in zip(days, reasons, strict=True):
        for reason in text.split("; "):
            at.setdefault(reason, []).append(day)
    return "; ".join(
        reason
        if len(held) == len(days)
        else f"{reason} (within {' and '.join(map(str, held))} days)"
        for reason, held in at.items()
    )


def lift_table(judged: Judgement, top: float = 0.1) -> pd.DataFrame:
    """Lift of the riskiest part of the customers, per horizon and forecast.

    Args:
        judged: Its last day.
        top: Share of the customers on the list.

    Returns:
        ``model, horizon, customers, outcome, everybody, lift, ci_low, ci_high``; leaving is no
        purchase, or the end of the membership.
    """
    table = judged.scores.lift
    wanted = "event" if judged.study.contract else "no event"
    own = table[(table["of"] == wanted) & (table["top"] == top)]
    return own.drop(columns=["of", "top"]).reset_index(drop=True)


def ratios_over_time(fit: CoxFit) -> pd.DataFrame:
    """Whether each ratio holds at all times, in words: ``covariate``, ``reading``."""
    table = fit.proportionality[["covariate", "reading"]]
    return table.assign(covariate=table["covariate"].map(covariate_words))


def surest(fit: CoxFit, most: int = 10) -> pd.DataFrame:
    """The coefficients that are surest to matter, in the order of the fit, named in words.

    Args:
        fit: Cox's model.
        most: How many.
    """
    order = np.argsort(fit.coefficients["p"].to_numpy(), kind="stable")[:most]
    table = fit.coefficients.iloc[np.sort(order)].reset_index(drop=True)
    return table.assign(covariate=table["covariate"].map(covariate_words))


def shares(study: Study) -> dict[str, Estimate]:
    """Share without the event by each length, by the name it is recorded under."""
    found = no_purchase(study.rows, study.lengths)
    if not study.contract:
        return {f"no_purchase_{day}": share for day, share in found.items()}
    return {
        f"members_{day}": replace(
            share, unit=f"share of memberships still running after {day:,} days"
        )
        for day, share in found.items()
    }


def silence_bands(study: Study, edges: Sequence[int]) -> tuple[pd.Series, str]:
    """Days of silence in bands; for memberships the first number known of them.

    Args:
        study: Its rows are parted.
        edges: Days at which a new band begins.
    """
    rows = study.rows
    if not study.contract:
        return bands(rows["days_since_last"], edges), "days silent"
    for name in study.covariates:
        if pd.api.types.is_numeric_dtype(rows[name]) and rows[name].nunique() > 5:
            known = rows[name].fillna(rows[name].median())
            return bands(known, 4), covariate_words(str(name))
    return pd.Series("everybody", rows.index), ""


def segments(study: Study, column: str) -> tuple[pd.Series, str]:
    """A column that parts the customers, and what it counts.

    Args:
        study: Its rows are parted.
        column: Asked for; memberships without it are parted by tier, or by their first text.
    """
    units: Mapping[str, str] = {
        "frequency": "repeat purchases",
        "spend_mean": "spent per purchase day",
        "age_days": "days a customer",
        "days_since_last": "days silent",
    }
    rows = study.rows
    if column in rows.columns and pd.api.types.is_numeric_dtype(rows[column]):
        return bands(rows[column], 4), units.get(column, covariate_words(column))
    texts = [n for n in study.covariates if not pd.api.types.is_numeric_dtype(rows[n])]
    few = [n for n in texts if 2 <= rows[n].nunique() <= 5]
    name = "tier" if "tier" in few else next(iter(few), None)
    if name is None:
        return pd.Series("everybody", rows.index), ""
    return rows[name].astype(str), ""


def _within(judged: Judgement, row: pd.Series) -> str:
    return f"for {row['horizon_days']:,.0f} days"


def _read(curve: pd.DataFrame, time: float) -> float:
    place = int(np.searchsorted(curve["time"].to_numpy(float), time, side="right")) - 1
    return float(curve["survival"].iloc[place])


def _percent(share: float, digits: int = 0) -> str:
    return f"{100 * share:.{digits}f}\N{NO-BREAK SPACE}%"
