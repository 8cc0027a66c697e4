"""Adjustment: regression on customers, and a covariate that boosted trees make of many."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

from journeylab.errors import ContractError
from journeylab.estimate import Estimate

Floats = NDArray[np.float64]
# One customer who carries so much of a regression's weight deserves a look.
_HEAVY = 0.5


@dataclass(frozen=True, slots=True)
class Ancova:
    """Lin's regression of an outcome on the arm and its interaction with covariates.

    Attributes:
        effect: Of the variant, at the covariates' overall means.
        p: Two-sided.
        standard_error: HC2.
        df: Degrees of freedom, n less the coefficients.
        leverage: The most one customer weighs in the regression (0-1).
        variance_left: HC2 variance over that of the difference in means.
        doubts: What would make a reader doubt it.
    """

    effect: Estimate
    p: float
    standard_error: float
    df: float
    leverage: float
    variance_left: float
    doubts: tuple[str, ...] = ()


def ancova(
    frame: pd.DataFrame,
    outcome: str,
    covariates: Sequence[str],
    *,
    variant: str,
    control: str,
    unit: str = "",
    level: float = 0.95,
) -> Ancova:
    """Regress an outcome on the arm, centred covariates and their products, with HC2 errors.

    The exact form, on customers. ``compare(..., adjustment="lin")`` needs moments only and
    differs from it by terms of the order of one over n.

    Args:
        frame: One row per customer: ``variant``, the outcome, the covariates; rows of other arms
            and rows without an outcome are not used. A missing covariate counts as zero.
        outcome: Column.
        covariates: Columns known before the exposure.
        variant: The arm.
        control: What it is compared with.
        unit: Of the outcome.
        level: Of the interval.

    Raises:
        ContractError: A column is missing, or an arm has no more customers than coefficients.

    Source:
        Lin, "Agnostic notes on regression adjustments to experimental data: reexamining
        Freedman's critique" (2013).
    """
    if absent := sorted({"variant", outcome, *covariates} - set(frame.columns)):
        raise ContractError(f"the frame has no column {', '.join(absent)}")
    y = pd.to_numeric(frame[outcome]).to_numpy(float)
    arm = frame["variant"].astype(str).to_numpy()
    kept = np.isfinite(y) & np.isin(arm, [variant, control])
    y, treated = y[kept], (arm[kept] == variant).astype(float)
    x = frame.loc[kept, list(covariates)].apply(pd.to_numeric).to_numpy(float)
    x = np.where(np.isfinite(x), x, 0.0)
    x = x[:, x.std(axis=0) > 0] if len(x) else x
    fewest = min(int(treated.sum()), int((1 - treated).sum()))
    if fewest < x.shape[1] + 2:
        raise ContractError(
            f"{outcome}: an arm has {fewest} customers, too few for {x.shape[1]} covariates"
        )
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    design = np.column_stack([np.ones(len(y)), treated, x, x * treated[:, None]])
    inverse = np.linalg.pinv(design.T @ design)
    beta = inverse @ (design.T @ y)
    leverage = np.einsum("ij,jk,ik->i", design, inverse, design)
    residual = y - design @ beta
    weights = residual**2 / np.maximum(1 - leverage, 1e-12)
    row = inverse[1]
    error = sqrt(float(((design @ row) ** 2 * weights).sum()))
    df = len(y) - design.shape[1]
    reach = float(stdtrit(df, (1 + level) / 2)) * error
    raw = sum(float(y[treated == a].var(ddof=1)) / (treated == a).sum() for a in (0, 1))
    doubts = []
    if leverage.max() > _HEAVY:
        doubts.append(f"one customer has {leverage.max():.0%} of the weight of a coefficient")
    effect = Estimate(beta[1], beta[1] - reach, beta[1] + reach, unit or outcome, level)
    p = float(2 * stdtr(df, -abs(beta[1] / error))) if error > 0 else 1.0
    left = error**2 / raw if raw > 0 else 1.0
    return Ancova(effect, p, error, float(df), float(leverage.max()), left, tuple(doubts))


def boosted_covariate(
    frame: pd.DataFrame,
    outcome: str,
    features: Sequence[str],
    rng: int | np.random.Generator,
    *,
    folds: int = 5,
    trees: int = 150,
    threads: int = 2,
) -> pd.Series:
    """What boosted trees expect of each customer from before the exposure, out of fold (CUPAC).

    No customer's own outcome enters their prediction, and the arm is not shown to the trees, so
    that the prediction is a covariate like any other. Adjust by it together with the metric's
    own pre-period value, and the trees can only add.

    Args:
        frame: One row per customer of all arms: the outcome and the features; text features are
            read as categories. Not changed.
        outcome: Column; where it is missing nothing is learnt, but something is predicted.
        features: Columns known before the exposure.
        rng: Seed or generator: of the folds and the trees.
        folds: Two or more.
        trees: In each fold.
        threads: Cores to use; the answer does not depend on it.

    Returns:
        Indexed like ``frame``; in the outcome's unit.

    Raises:
        ContractError: A column is missing, or there are fewer customers than folds.

    Source:
        Tang et al., "Control Using Predictions as Covariates in Switchback Experiments" (2020);
        Poyarkov et al., "Boosted Decision Tree Regression Adjustment for Variance Reduction in
        Online Controlled Experiments" (KDD 2016).
    """
    import xgboost

    if absent := sorted({outcome, *features} - set(frame.columns)):
        raise ContractError(f"the frame has no column {', '.join(absent)}")
    y = pd.to_numeric(frame[outcome]).to_numpy(float)
    known = np.isfinite(y)
    if folds < 2 or known.sum() < 2 * folds:
        raise ContractError(
            f"{outcome}: {int(known.sum())} customers cannot be put into {folds} folds"
        )
    if not features:
        raise ContractError("a boosted covariate needs features")
    columns = {}
    for name in features:
        column = frame[name]
        numeric = pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column)
        # Codes in order of the texts: the same on every run.
        codes = column.to_numpy(float) if numeric else pd.factorize(column, sort=True)[0]
        columns[name] = np.asarray(codes, float)
    x = np.column_stack(list(columns.values()))
    generator = np.random.default_rng(rng)
    fold = generator.permutation(len(y)) % folds
    seed = int(generator.integers(1 << 31))
    guess = np.empty(len(y))
    options = {
        "tree_method": "hist", "device": "cpu", "nthread": threads, "seed": seed,
        "max_depth": 4, "eta": 0.05, "min_child_weight": 50,
    }  # fmt: skip
    for held in range(folds):
        learn = known & (fold != held)
        data = xgboost.DMatrix(x[learn], y[learn])
        own = options | {"base_score": float(y[learn].mean())}
        model = xgboost.train(own, data, num_boost_round=trees)
        guess[fold == held] = model.predict(xgboost.DMatrix(x[fold == held]))
    return pd.Series(guess, frame.index, name=f"expected {outcome}")
