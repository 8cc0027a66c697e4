"""Variance reduction: what adjustment by the time before, and by boosted trees, saves."""

from collections.abc import Sequence
from dataclasses import replace
from math import nan

import numpy as np
import pandas as pd

from journeylab.errors import ContractError
from journeylab.estimate import Metric, moments_of_frame
from journeylab.estimate.metric import before
from journeylab.experiments.adjustment import boosted_covariate
from journeylab.experiments.comparison import compare

COLUMNS = (
    "metric", "adjusted by", "effect", "ci_low", "ci_high", "variance saved, %", "reason"
)  # fmt: skip
_FEWEST = 100


def variance_reduction(
    people: pd.DataFrame,
    metrics: Sequence[Metric],
    arm: str,
    control: str,
    rng: int | np.random.Generator,
    *,
    attributes: Sequence[str] = (),
    cluster: str | None = None,
    trees: int = 80,
    threads: int = 2,
) -> pd.DataFrame:
    """The effect on each metric with no adjustment, by CUPED and by CUPAC, and what each saves.

    CUPED takes the metric's own covariates; CUPAC those and what boosted trees expect, out of
    fold, from every ``before`` column and the attributes.

    Args:
        people: One row per customer: ``variant``, the metrics' columns, attributes.
        metrics: Means and proportions; others cannot be boosted and are passed over.
        arm: The arm.
        control: What it is compared with.
        rng: Seed or generator of folds and trees.
        attributes: Columns of customers that were known before the exposure.
        cluster: Column with what was randomised, where that is not the customer.
        trees: In each fold.
        threads: Cores to use; the answer does not depend on it.

    Returns:
        Three rows per metric at most: ``metric``, ``adjusted by`` (nothing, CUPED, CUPAC),
        ``effect, ci_low, ci_high``, ``variance saved, %`` of that of the plain difference,
        ``reason`` where there is nothing to read. A metric without covariates has no CUPED row;
        where nothing is known of before, there is no CUPAC row.

    Raises:
        ContractError: A column is missing.
    """
    if absent := sorted({"variant", *attributes} - set(people.columns)):
        raise ContractError(f"the frame has no column {', '.join(absent)}")
    people = people[people["variant"].isin([arm, control])].reset_index(drop=True)
    past = [str(name) for name in people.columns if str(name).endswith(before(""))]
    features = [name for name in (*past, *attributes) if people[name].nunique() >= 2]
    generator = np.random.default_rng(rng)
    rows = []
    for metric in metrics:
        if metric.kind not in ("mean", "proportion"):
            continue
        frame, ways = people, {"nothing": metric.plain()}
        if metric.covariates:
            ways["CUPED"] = metric
        if features and len(people) >= _FEWEST:
            expected = f"expected {metric.of}"
            guess = boosted_covariate(
                people.assign(**{metric.of: _counted(people[metric.of], metric)}),
                metric.of,
                features,
                generator,
                trees=trees,
                threads=threads,
            )
            frame = people.assign(**{expected: guess})
            ways["CUPAC"] = replace(metric, covariates=(*metric.covariates, expected))
        for way, asked in ways.items():
            found = compare(
                moments_of_frame(frame, [asked], cluster=cluster), metric.name, arm, control
            )
            effect = found.absolute
            ends = (effect.value, effect.ci_low, effect.ci_high) if effect else (nan, nan, nan)
            left = 1.0 if way == "nothing" or found.variance_left is None else found.variance_left
            saved = 100 * (1 - left) if effect else nan
            rows.append((metric.name, way, *ends, saved, found.reason))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _counted(values: pd.Series, metric: Metric) -> pd.Series:
    """The outcome as the metric counts it: 0 and 1 of a share, capped amounts."""
    numbers = pd.to_numeric(values).astype(float)
    if metric.kind == "proportion":
        return (numbers > 0).astype(float).where(numbers.notna())
    return numbers if metric.cap_at is None else numbers.clip(upper=metric.cap_at)


def with_attributes(
    people: pd.DataFrame, customers: pd.DataFrame | None, *, most: int = 50
) -> tuple[pd.DataFrame, list[str]]:
    """What is known of customers beside their results, for trees to learn from.

    Args:
        people: One row per customer: ``customer_id`` and more.
        customers: Their attributes by ``customer_id``, of a person known under two ids the first;
            ``None`` where there are none.
        most: Kinds of a text; one with more is a name, not a trait.

    Returns:
        ``people`` with the columns that are numbers or texts of few kinds, and their names; ids,
        times and columns that ``people`` has already are passed over.
    """
    if customers is None:
        return people, []
    traits = []
    for name in (str(name) for name in customers.columns if name not in people.columns):
        column = customers[name]
        if name.endswith(("_id", "_at", "date")) or pd.api.types.is_datetime64_any_dtype(column):
            continue
        kinds = column.nunique()
        if kinds >= 2 and (kinds <= most or pd.api.types.is_numeric_dtype(column)):
            traits.append(name)
    own = customers[["customer_id", *traits]].drop_duplicates("customer_id")
    return people.merge(own, on="customer_id", how="left"), traits
