"""Observational estimates: refused as effects, shown only with a label and only after four tests.

Where the shop chose whom to touch, a difference is not an effect. Adjusting for what is known helps
as far as what is known moved the choice, and nothing in the data says how far that is. So an
estimate is given only if a propensity model finds overlap, if the same adjustment finds nothing
where there is nothing to find (negative controls), and together with the strength that an unknown
common cause would need to explain it away. Otherwise it is refused.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from journeylab.errors import ContractError, FitError
from journeylab.estimate import Estimate, Measured, measured
from journeylab.uplift.nuisance import Nuisance, fit_nuisance
from journeylab.uplift.robustness import robustness_value
from journeylab.uplift.scores import aipw_scores, average_effects
from journeylab.uplift.trial import Trial, read_trial

Floats = NDArray[np.float64]
LABEL = "observational: a difference after adjustment, not an effect"
_CONTROL, _TREATED = "0", "1"


@dataclass(frozen=True, slots=True, eq=False)
class ObservationalEstimate:
    """A difference after adjustment. Not an effect.

    Attributes:
        adjusted: Treated less others after adjustment, among those that could have been either.
        naive: Without adjustment, all rows.
        overlap: Share of rows (0-1) whose chance to be treated lies between ``lowest`` and
            ``1 - lowest``; the others are left out.
        lowest: That chance.
        balance: ``covariate, before, after``: standardised differences between treated and others,
            without and with weights.
        negative_controls: ``outcome, difference, ci_low, ci_high, in_sd`` (difference over the
            standard deviation of that outcome), ``seen_from`` (smallest bias, in standard
            deviations, that the check could have been expected to see). Each interval holds with
            ``level`` for all of them together.
        robustness_value: Share (0-1) of what is left of the outcome's and of the choice's variance
            that an unknown common cause must explain, of both alike, to bring the difference to 0.
        robustness_value_interval: The same for the end of the interval nearest to 0; 0 where that
            holds 0 already.
        benchmarks: ``covariate, choice, outcome`` (partial R2, 0-1, of each in linear models),
            ``bias``: what a cause unknown but as strong as this covariate would add, in ``unit``.
        e_value: For an outcome of 0 and 1: the risk ratio that an unknown cause must have with
            both; else ``None``.
        rows: Rows used.
        label: What must stand beside the number wherever it is shown.
        level: Of the intervals (0-1).
    """

    adjusted: Measured
    naive: Estimate
    overlap: float
    lowest: float
    balance: pd.DataFrame
    negative_controls: pd.DataFrame
    robustness_value: float
    robustness_value_interval: float
    benchmarks: pd.DataFrame
    e_value: float | None
    rows: int
    label: str = LABEL
    level: float = 0.95

    def finding(self) -> str:
        """One line, label first."""
        known = self.adjusted.estimate(self.level)
        return (
            f"{self.label}: {known.value:+.3g} {known.unit} ({known.ci_low:+.3g} to "
            f"{known.ci_high:+.3g}); a cause explaining {self.robustness_value:.0%} of what is "
            "left of choice and outcome would undo it"
        )

    def doubts(self) -> list[str]:
        """What a reader must be told beside the number."""
        known = self.adjusted.estimate(self.level)
        blind = float(self.negative_controls["seen_from"].max())
        found = [
            f"{self.label}. Only an experiment tells the effect.",
            f"The negative controls would not have seen a bias below {blind:.2g} standard "
            "deviations: that they found nothing is no proof that there is none.",
        ]
        if len(self.benchmarks):
            worst = self.benchmarks.loc[self.benchmarks["bias"].idxmax()]
            undone = float(worst["bias"]) >= abs(known.value)
            found.append(
                f"An unknown cause as strong as {worst['covariate']} would move the difference by "
                f"{worst['bias']:.3g} {known.unit}: "
                + ("enough to undo it." if undone else "not enough to undo it.")
            )
        off = self.balance[self.balance["after"].abs() > 0.1]
        if len(off):
            found.append(
                f"{len(off)} of {len(self.balance)} covariates differ by more than 0.1 standard "
                f"deviations after weighting, e.g. {off['covariate'].iloc[0]}."
            )
        return found


def before_and_after(panel: pd.DataFrame, outcome: str) -> pd.DataFrame:
    """One row per customer from a panel around a campaign.

    Args:
        panel: As ``frames.campaign_panels`` gives it, collected.
        outcome: Column of it.

    Returns:
        Indexed by customer: ``targeted`` (0, 1), ``after`` (mean over the periods from 0 on),
        ``before_1`` (last period before), ``before_2``, and so on.

    Raises:
        ContractError: A column is missing.
    """
    if missing := sorted({"customer_id", "targeted", "period", outcome} - set(panel.columns)):
        raise ContractError(f"the panel has no columns {', '.join(missing)}")
    wide = panel.pivot_table(index="customer_id", columns="period", values=outcome)
    numbers = [int(number) for number in panel["period"].unique()]
    early = sorted((number for number in numbers if number < 0), reverse=True)
    columns = {
        "targeted": panel.groupby("customer_id")["targeted"].max(),
        "after": wide[[number for number in numbers if number >= 0]].mean(axis=1),
    }
    return pd.DataFrame(columns | {f"before_{-number}": wide[number] for number in early})


def observational_estimate(
    frame: pd.DataFrame,
    outcome: str,
    treated: str,
    covariates: Sequence[str],
    *,
    negative_controls: Sequence[str],
    lowest: float = 0.1,
    least_overlap: float = 0.5,
    folds: int = 5,
    clusters: str | None = None,
    unit: str = "outcome",
    level: float = 0.95,
    rng: int | np.random.Generator,
) -> ObservationalEstimate:
    """A labelled difference after adjustment, or a refusal that says why.

    Cross-fitted doubly robust estimate among rows with chances inside ``[lowest, 1 - lowest]``.

    Args:
        frame: One row per customer.
        outcome: Column.
        treated: Column, 0 or 1, chosen by somebody.
        covariates: Columns known before the choice.
        negative_controls: Columns that the treatment cannot have moved but that what moved the
            choice may have: the same outcome before (then not among the covariates), purchases
            that the message was not about.
        lowest: Chances below it, or above 1 less it, are outside the overlap (0-0.5).
        least_overlap: Share of rows inside it below which the estimate is refused (0-1).
        folds: 2 or more.
        clusters: Column, where rows are not independent.
        unit: Of the outcome.
        level: Of the intervals (0-1).
        rng: Seed or generator.

    Raises:
        ContractError: There are no negative controls or no covariates, one is also the outcome or
            a covariate, or the frame breaks what ``fit_effects`` asks.
        FitError: Too little overlap, or a negative control shows a difference: refused as an
            effect.

    Source:
        Crump, Hotz, Imbens & Mitnik, "Dealing with Limited Overlap" (2009); Lipsitch, Tchetgen
        Tchetgen & Cohen, "Negative Controls" (2010); Cinelli & Hazlett, "Making Sense of
        Sensitivity" (2020), in the form of Chernozhukov, Cinelli, Newey, Sharma & Syrgkanis, "Long
        Story Short: Omitted Variable Bias in Causal Machine Learning" (2022); VanderWeele & Ding,
        "Sensitivity Analysis in Observational Research: Introducing the E-Value" (2017).
    """
    _refuse_early(frame, outcome, treated, covariates, negative_controls, lowest)
    generator = np.random.default_rng(rng)
    own = frame.assign(**{treated: frame[treated].astype(int).astype(str)})

    def fitted(rows: pd.DataFrame, target: str) -> Nuisance:
        trial = read_trial(
            rows, target, treated, _CONTROL, covariates, "estimate", clusters=clusters,
            unit=unit if target == outcome else target,
        )  # fmt: skip
        return fit_nuisance(trial, folds, rng=generator)

    whole = fitted(own, outcome)
    chance = whole.trial.chances[:, 1]
    inside = (chance >= lowest) & (chance <= 1 - lowest)
    overlap = float(inside.mean())
    if overlap < least_overlap:
        raise FitError(
            f"refused as an effect: {int((~inside).sum())} of {len(inside)} rows had a chance "
            f"below {lowest:g} or above {1 - lowest:g} to be {treated}; for them nobody comparable "
            f"is on the other side, and {overlap:.0%} of the rows are too few to speak for all"
        )
    kept = own[inside]
    nuisance = fitted(kept, outcome)
    adjusted = _difference(nuisance)
    checks = [
        (name, _difference(fitted(kept, name)), float(kept[name].std()))
        for name in negative_controls
    ]
    together = 1 - (1 - level) / len(checks)
    controls = _controls(checks, together)
    if len(broken := controls[(controls["ci_low"] > 0) | (controls["ci_high"] < 0)]):
        worst = broken.loc[broken["in_sd"].abs().idxmax()]
        raise FitError(
            f"refused as an effect: after adjustment {treated} still goes with {worst['outcome']}, "
            f"which it cannot have moved: {worst['difference']:+.3g} ({worst['ci_low']:+.3g} to "
            f"{worst['ci_high']:+.3g}), {worst['in_sd']:+.2g} standard deviations. What moved the "
            f"choice is not among the {len(covariates)} covariates. Randomise a share next time"
        )
    trial = nuisance.trial
    rest = trial.outcome - nuisance.predicted[np.arange(len(trial)), trial.arm]
    weight = np.where(trial.arm == 1, 1.0, -1.0) / trial.own_chance
    scale = sqrt(float((rest**2).mean()) * float((weight**2).mean()))
    known = adjusted.estimate(level)
    nearest = 0.0
    if known.ci_low > 0 or known.ci_high < 0:
        nearest = min(abs(known.ci_low), abs(known.ci_high))
    y, d = own[outcome].astype(float), own[treated] == _TREATED
    return ObservationalEstimate(
        adjusted=adjusted,
        naive=_naive(y, d, unit, level, own[clusters] if clusters else None),
        overlap=overlap,
        lowest=lowest,
        balance=_balance(trial),
        negative_controls=controls,
        robustness_value=robustness_value(known.value, scale),
        robustness_value_interval=robustness_value(nearest, scale),
        benchmarks=_benchmarks(trial, scale),
        e_value=_e_value(nuisance) if trial.kind == "binary" else None,
        rows=len(trial),
        level=level,
    )


def adjusted_or_refused(
    panel: pd.DataFrame, outcome: str, *, unit: str = "outcome", rng: int | np.random.Generator
) -> tuple[ObservationalEstimate | None, str]:
    """What adjusting for the periods before says of a campaign, or why it says nothing.

    Adjusts for the periods before the last one; the last one is the negative control, for it is
    what the outcome will be if the campaign does nothing.

    Args:
        panel: As ``frames.campaign_panels`` gives it, with two periods before or more.
        outcome: Column of it.
        unit: Of the outcome.
        rng: Seed or generator.

    Returns:
        The estimate, or ``None`` where it is refused; and the words to show.

    Raises:
        ContractError: As ``observational_estimate``; or there is one period before.
    """
    rows = before_and_after(panel, outcome)
    early = [name for name in rows.columns if name.startswith("before_") and name != "before_1"]
    try:
        found = observational_estimate(
            rows, "after", "targeted", early, negative_controls=["before_1"], unit=unit, rng=rng
        )
    except FitError as refusal:
        return None, str(refusal).replace("before_1", f"the {outcome} of the period before")
    return found, found.finding()


def _refuse_early(
    frame: pd.DataFrame,
    outcome: str,
    treated: str,
    covariates: Sequence[str],
    negative_controls: Sequence[str],
    lowest: float,
) -> None:
    if not negative_controls:
        raise ContractError(
            "observational data are refused as effects: name negative controls, outcomes that the "
            "treatment cannot have moved, such as the same outcome before"
        )
    if not covariates:
        raise ContractError(
            "observational data are refused as effects: name covariates known before the choice"
        )
    asked = [outcome, treated, *covariates, *negative_controls]
    if missing := sorted(set(asked) - set(frame.columns)):
        raise ContractError(f"the frame lacks columns: {', '.join(missing)}")
    if both := sorted({outcome, treated, *covariates} & set(negative_controls)):
        raise ContractError(
            f"a negative control cannot be outcome, treatment or covariate: {', '.join(both)}"
        )
    if not 0 < lowest < 0.5:
        raise ContractError(f"lowest must lie in (0, 0.5); got {lowest}")
    values = frame[treated]
    if bad := int((~values.isin([0, 1])).sum()):
        raise ContractError(f"{treated} must be 0 or 1; {bad} of {len(frame)} rows are not")


def _difference(nuisance: Nuisance) -> Measured:
    scores = nuisance.scores()
    each = scores.effect(_TREATED)
    return measured(float(each.mean()), each, scores.unit, scores.clusters)


def _naive(
    y: pd.Series, d: pd.Series, unit: str, level: float, clusters: pd.Series | None
) -> Estimate:
    arm = d.map({True: _TREATED, False: _CONTROL})
    share = np.where(d, d.mean(), 1 - d.mean())
    scores = aipw_scores(y, arm, share, _CONTROL, clusters=clusters, unit=unit)
    row = average_effects(scores, level).iloc[1]
    return Estimate(float(row["effect"]), float(row["ci_low"]), float(row["ci_high"]), unit, level)


def _controls(checks: list[tuple[str, Measured, float]], level: float) -> pd.DataFrame:
    rows = []
    for name, found, spread in checks:
        known = found.estimate(level)
        wide = (known.ci_high - known.ci_low) / 2
        # seen four times in five: the interval's half and .84 standard errors more
        seen = (wide + 0.84 * found.standard_error) / spread
        rows.append((name, known.value, known.ci_low, known.ci_high, known.value / spread, seen))
    names = ["outcome", "difference", "ci_low", "ci_high", "in_sd", "seen_from"]
    return pd.DataFrame(rows, columns=names)


def _filled(trial: Trial) -> tuple[Floats, list[str]]:
    """Encoded covariates that vary, missing ones at the mean."""
    x = np.asarray(trial.features, dtype=float)
    x = np.where(np.isfinite(x), x, np.nanmean(np.where(np.isfinite(x), x, np.nan), axis=0))
    names = [str(name) for name in trial.encoding.names]
    vary = x.std(axis=0) > 0
    return x[:, vary], [name for name, keep in zip(names, vary, strict=True) if keep]


def _balance(trial: Trial) -> pd.DataFrame:
    x, names = _filled(trial)
    d = trial.arm == 1
    w = 1 / trial.own_chance
    spread = np.sqrt((x[d].var(axis=0) + x[~d].var(axis=0)) / 2)
    spread = np.where(spread > 0, spread, 1.0)
    before = (x[d].mean(axis=0) - x[~d].mean(axis=0)) / spread
    after = np.average(x[d], axis=0, weights=w[d]) - np.average(x[~d], axis=0, weights=w[~d])
    table = pd.DataFrame({"covariate": names, "before": before, "after": after / spread})
    return table.sort_values("before", key=np.abs, ascending=False, ignore_index=True)


def _benchmarks(trial: Trial, scale: float) -> pd.DataFrame:
    """Partial R2 of each covariate with choice and outcome, given the others."""
    x, names = _filled(trial)
    one = np.column_stack([np.ones(len(x)), (x - x.mean(axis=0)) / x.std(axis=0)])
    d, y = (trial.arm == 1).astype(float), trial.outcome
    rows = []
    for place, name in enumerate(names):
        others = np.delete(one, place + 1, axis=1)
        choice = _partial_r2(d, others, one[:, place + 1])
        result = _partial_r2(y, np.column_stack([others, d]), one[:, place + 1])
        bias = scale * sqrt(result * choice / max(1 - choice, 1e-12))
        rows.append((name, choice, result, bias))
    table = pd.DataFrame(rows, columns=["covariate", "choice", "outcome", "bias"])
    return table.sort_values("bias", ascending=False, ignore_index=True)


def _partial_r2(y: Floats, others: Floats, column: Floats) -> float:
    both = np.column_stack([y, column])
    rest = both - others @ np.linalg.lstsq(others, both, rcond=None)[0]
    squares = np.square(rest).sum(axis=0)
    # a covariate that the others spell out adds nothing
    if squares[1] <= 1e-9 * np.square(column).sum() or not squares[0] > 0:
        return 0.0
    return float(min((rest[:, 0] @ rest[:, 1]) ** 2 / (squares[0] * squares[1]), 1.0))


def _e_value(nuisance: Nuisance) -> float | None:
    low, high = nuisance.values.mean(axis=0)
    if not (low > 0 and high > 0):
        return None
    ratio = max(high / low, low / high)
    return float(ratio + sqrt(ratio * (ratio - 1)))
