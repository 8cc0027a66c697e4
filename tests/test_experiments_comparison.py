"""Comparisons at a fixed horizon: published numbers, other packages, known truth, bad data."""

import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tea_tasting as tt
from scipy import stats
from statsmodels.stats.proportion import confint_proportions_2indep, proportions_ztest
from statsmodels.stats.weightstats import CompareMeans, DescrStatsW

from journeylab.errors import ContractError
from journeylab.estimate import Metric, Moments, moments_of_frame, moments_of_sums
from journeylab.experiments.comparison import compare, compare_all
from journeylab.experiments.quantiles import (
    compare_ranks,
    distribution_gap,
    quantile_arms,
    quantile_effects,
)

PUBLISHED = tomllib.loads(
    (Path(__file__).parent / "published" / "experiments_readout.toml").read_text()
)
SIMULATIONS = 2000


@pytest.fixture(scope="module")
def users() -> pd.DataFrame:
    frame = tt.make_users_data(rng=42, covariates=True, return_type="pandas")
    frame["bought"] = (frame["orders"] > 0).astype(int)
    frame["variant"] = frame["variant"].map({0: "control", 1: "treatment"})
    return frame


def both(moments: Moments, metric: str = "x", **options):
    return compare(moments, metric, "treatment", "control", **options)


def by_sums(name: str, kind: str = "mean") -> Moments:
    metric = Metric.mean("x") if kind == "mean" else Metric.proportion("x")
    found = PUBLISHED[name]
    sums = {
        arm: tuple(found[arm]) if kind == "mean" else (found[arm][1], found[arm][0], found[arm][0])
        for arm in ("control", "treatment")
    }
    return moments_of_sums(metric, sums)


def test_welch_from_sums_as_published():
    row, printed = both(by_sums("welch")), PUBLISHED["welch"]
    assert row.absolute.value == pytest.approx(printed["effect"], abs=1e-12)
    assert row.standard_error == pytest.approx(printed["standard_error"], abs=5e-6)
    assert (row.absolute.ci_low, row.absolute.ci_high) == pytest.approx(
        printed["interval"], abs=5e-6
    )
    assert row.p == pytest.approx(printed["p"], abs=5e-6)


def test_relative_lift_by_the_linear_delta_method_as_published():
    row, printed = both(by_sums("welch"), relative="linear delta"), PUBLISHED["relative_linear"]
    assert row.relative.value == pytest.approx(printed["effect"], abs=5e-6)
    assert (row.relative.ci_low, row.relative.ci_high) == pytest.approx(
        printed["interval"], abs=5e-6
    )
    assert row.p_relative == pytest.approx(printed["p"], abs=5e-6)


def test_relative_lift_of_proportions_as_published():
    moments, printed = by_sums("proportions_relative", "share"), PUBLISHED["proportions_relative"]
    row = both(moments, relative="linear delta", test="welch")
    reach = (row.relative.ci_high - row.relative.ci_low) / 2
    assert row.relative.value == pytest.approx(printed["effect"], abs=5e-6)
    assert reach / stats.t.ppf(0.975, row.df) == pytest.approx(printed["standard_error"], abs=5e-6)
    assert row.p_relative == pytest.approx(printed["p"], abs=5e-6)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (Metric.mean("x", "orders"), tt.Mean("orders")),
        (Metric.mean("x", "revenue"), tt.Mean("revenue")),
        (
            Metric.mean("x", "revenue", covariate="revenue_covariate"),
            tt.Mean("revenue", "revenue_covariate"),
        ),
        (Metric.ratio("x", "orders", "sessions"), tt.RatioOfMeans("orders", "sessions")),
        (
            Metric.ratio(
                "x", "orders", "sessions", covariate=[("orders_covariate", "sessions_covariate")]
            ),
            tt.RatioOfMeans("orders", "sessions", "orders_covariate", "sessions_covariate"),
        ),
    ],
)
def test_means_ratios_and_cuped_agree_with_tea_tasting(users, ours, theirs):
    row = both(moments_of_frame(users, [ours]))
    other = tt.Experiment(x=theirs).analyze(users, control="control")["x"]
    found = (
        row.mean_control, row.mean, row.absolute.value, row.absolute.ci_low, row.absolute.ci_high,
        row.relative.value, row.relative.ci_low, row.relative.ci_high, row.p, row.statistic,
    )  # fmt: skip
    expected = (
        other.control, other.treatment, other.effect_size, other.effect_size_ci_lower,
        other.effect_size_ci_upper, other.rel_effect_size, other.rel_effect_size_ci_lower,
        other.rel_effect_size_ci_upper, other.pvalue, other.statistic,
    )  # fmt: skip
    assert found == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("alternative", ["greater", "less"])
def test_one_sided_bounds_and_p_agree_with_tea_tasting(users, alternative):
    row = both(moments_of_frame(users, [Metric.mean("x", "orders")]), alternative=alternative)
    theirs = tt.Mean("orders", alternative=alternative)
    other = tt.Experiment(x=theirs).analyze(users, control="control")["x"]
    assert row.p == pytest.approx(other.pvalue, rel=1e-8)
    assert row.absolute.level == pytest.approx(0.9)
    if alternative == "greater":
        assert row.absolute.ci_low == pytest.approx(other.effect_size_ci_lower, rel=1e-8)
        assert row.relative.ci_low == pytest.approx(other.rel_effect_size_ci_lower, rel=1e-8)
    else:
        assert row.absolute.ci_high == pytest.approx(other.effect_size_ci_upper, rel=1e-8)


def test_student_and_welch_agree_with_statsmodels(users):
    arms = [users.loc[users["variant"] == a, "revenue"] for a in ("treatment", "control")]
    compared = CompareMeans(*(DescrStatsW(arm) for arm in arms))
    moments = moments_of_frame(users, [Metric.mean("x", "revenue")])
    for test, usevar in (("student", "pooled"), ("welch", "unequal")):
        row = both(moments, test=test)
        statistic, p, df = compared.ttest_ind(usevar=usevar)
        low, high = compared.tconfint_diff(usevar=usevar)
        found = (row.statistic, row.p, row.df, row.absolute.ci_low, row.absolute.ci_high)
        assert found == pytest.approx((statistic, p, df, low, high), rel=1e-8)
    pooled = tt.Experiment(x=tt.Mean("revenue", equal_var=True)).analyze(users, control="control")
    assert both(moments, test="student").relative.ci_high == pytest.approx(
        pooled["x"].rel_effect_size_ci_upper, rel=1e-8
    )


def test_z_test_of_proportions_agrees_with_statsmodels(users):
    row = both(moments_of_frame(users, [Metric.proportion("x", "orders")]))
    hits = [users.loc[users["variant"] == a, "bought"] for a in ("treatment", "control")]
    counts, sizes = [int(h.sum()) for h in hits], [len(h) for h in hits]
    statistic, p = proportions_ztest(counts, sizes)
    low, high = confint_proportions_2indep(
        counts[0], sizes[0], counts[1], sizes[1], compare="diff", method="wald"
    )
    found = (row.statistic, row.p, row.absolute.ci_low, row.absolute.ci_high)
    assert found == pytest.approx((statistic, p, low, high), rel=1e-8)


@pytest.mark.parametrize(("hits", "sizes"), [((3, 9), (40, 38)), ((0, 4), (25, 31))])
def test_small_counts_agree_with_scipy_and_newcombe(hits, sizes):
    sums = {
        "treatment": (sizes[0], hits[0], hits[0]),
        "control": (sizes[1], hits[1], hits[1]),
    }
    moments = moments_of_sums(Metric.proportion("x"), sums)
    table = np.array([[h, n - h] for h, n in zip(hits, sizes, strict=True)])
    exact, corrected = both(moments, test="fisher"), both(moments, test="yates")
    assert exact.p == pytest.approx(stats.fisher_exact(table)[1], rel=1e-8)
    assert corrected.p == pytest.approx(stats.chi2_contingency(table)[1], rel=1e-8)
    low, high = confint_proportions_2indep(
        hits[0], sizes[0], hits[1], sizes[1], compare="diff", method="newcomb"
    )
    assert (exact.absolute.ci_low, exact.absolute.ci_high) == pytest.approx((low, high), rel=1e-8)
    assert both(moments).method == (
        "Fisher's exact test" if min(hits) < 1 else both(moments).method
    )


def test_ranks_agree_with_scipy(users):
    values = moments_of_frame(users, [Metric.quantile("x", "orders", 0.5)]).values["x"]
    ranks = compare_ranks(values, "treatment", "control")
    arms = [users.loc[users["variant"] == a, "orders"] for a in ("treatment", "control")]
    other = stats.mannwhitneyu(*arms, use_continuity=False, method="asymptotic")
    assert (ranks.u, ranks.p) == pytest.approx((other.statistic, other.pvalue), rel=1e-8)


def test_quantiles_are_those_of_numpy_and_the_gap_that_of_the_distributions(users):
    values = moments_of_frame(users, [Metric.quantile("x", "revenue", 0.9)]).values["x"]
    effects = quantile_effects(values, "treatment", "control", at=(0.5, 0.9, 0.99))
    for arm in ("control", "treatment"):
        own = users.loc[users["variant"] == arm, "revenue"]
        assert effects[arm].tolist() == pytest.approx(np.quantile(own, (0.5, 0.9, 0.99)), rel=1e-12)
    gap = distribution_gap(values, "treatment", "control")
    own = users.loc[users["variant"] == "control", "revenue"]
    at = gap.iloc[len(gap) // 2]
    assert at["control"] == pytest.approx((own <= at["value"]).mean(), rel=1e-12)


# Known truth: two thousand tests at once, each a stratum of one set of moments.


def worlds(lift: float = 1.0, n: int = 240, seed: int = 11) -> pd.DataFrame:
    """Customers of many tests: rare orders, skewed amounts, sessions, and a past like them."""
    rng = np.random.default_rng(seed)
    rows = SIMULATIONS * n
    treated = rng.random(rows) < 0.5
    taste = rng.gamma(2.0, 0.5, rows)
    sessions = rng.poisson(3 * taste) + 1
    share = 0.25 * np.where(treated, lift, 1.0)
    orders = rng.binomial(sessions, share)
    amount = orders * rng.gamma(4.0, 10.0, rows)
    return pd.DataFrame(
        {
            "variant": np.where(treated, "treatment", "control"),
            "test": np.repeat(np.arange(SIMULATIONS), n),
            "sessions": sessions,
            "orders": orders,
            "revenue": amount,
            "revenue before": rng.poisson(0.75 * taste) * rng.gamma(4.0, 10.0, rows),
        }
    )


METRICS = [
    Metric.mean("revenue"),
    Metric.mean("capped revenue", "revenue", cap=0.99),
    Metric.mean("cuped revenue", "revenue", covariate="before"),
    Metric.proportion("bought", "orders"),
    Metric.ratio("orders per session", "orders", "sessions"),
]


@pytest.fixture(scope="module")
def same() -> dict:
    return moments_of_frame(worlds(), METRICS, stratum="test").by("stratum")


def test_type_one_error_of_every_metric_type_is_five_percent(same):
    found = {m.name: [both(part, m.name).p < 0.05 for part in same.values()] for m in METRICS}
    rates = {name: np.mean(hits) for name, hits in found.items()}
    assert len(same) == SIMULATIONS
    assert all(abs(rate - 0.05) <= 0.015 for rate in rates.values()), rates


def test_intervals_cover_a_true_effect_ninety_five_times_of_a_hundred():
    lift = 1.2
    metrics = [METRICS[0], METRICS[2], METRICS[4]]
    found = moments_of_frame(worlds(lift, seed=12), metrics, stratum="test").by("stratum")
    # Orders per session are .25 a session; sessions 4, an order 40.
    truth = {"revenue": 40.0, "cuped revenue": 40.0, "orders per session": 0.25}
    for metric in metrics:
        base = truth[metric.name]
        rows = [both(part, metric.name) for part in found.values()]
        effect = base * (lift - 1)
        absolute = np.mean([r.absolute.ci_low <= effect <= r.absolute.ci_high for r in rows])
        relative = np.mean([r.relative.ci_low <= lift - 1 <= r.relative.ci_high for r in rows])
        assert abs(absolute - 0.95) <= 0.015, metric.name
        assert abs(relative - 0.95) <= 0.015, metric.name


def test_type_one_error_of_a_quantile_is_five_percent():
    rng = np.random.default_rng(5)
    hits = []
    for _ in range(SIMULATIONS):
        amounts = np.round(rng.gamma(2.0, 20.0, (2, 300)), 2)
        values = pd.DataFrame(
            {"variant": np.repeat(["a", "b"], 300), "value": amounts.ravel(), "customers": 1}
        )
        pair = quantile_arms(values, Metric.quantile("x", "x", 0.75), "b", "a")
        gap = pair.treatment.value - pair.control.value
        hits.append(abs(gap) > 1.96 * np.sqrt(pair.treatment.variance + pair.control.variance))
    assert abs(np.mean(hits) - 0.05) <= 0.015


def test_a_guardrail_holds_when_the_effect_lies_above_its_margin():
    sums = {"control": (5000, 500, 500), "treatment": (5000, 495, 495)}
    moments = moments_of_sums(Metric.proportion("x"), sums)
    tight = both(moments, alternative="greater", margin=-0.001)
    loose = both(moments, alternative="greater", margin=-0.02)
    assert loose.p < 0.05 < tight.p
    # The test and its bound say the same.
    assert loose.absolute.ci_low > -0.02
    assert not tight.absolute.ci_low > -0.001
    share = both(moments, alternative="greater", relative_margin=-0.2)
    assert share.p_relative < 0.05
    assert share.relative.ci_low > -0.2


# Bad data: a reason in the row, never an error out of other rows.


def frame_of(control: list, treatment: list) -> pd.DataFrame:
    return pd.DataFrame(
        {"variant": ["control"] * len(control) + ["treatment"] * len(treatment),
         "x": [*control, *treatment], "y": range(len(control) + len(treatment))}
    )  # fmt: skip


@pytest.mark.parametrize(
    ("control", "treatment", "reason"),
    [
        ([1.0, 1.0, 1.0], [1.0, 1.0], "no variation"),
        ([1.0, 2.0, 3.0], [2.0], "one of customers"),
        ([np.nan, np.nan], [1.0, 2.0], "control: nobody with a value"),
    ],
)
def test_a_metric_that_cannot_be_compared_says_why_and_spares_the_others(
    control, treatment, reason
):
    moments = moments_of_frame(frame_of(control, treatment), [Metric.mean("x"), Metric.mean("y")])
    rows = compare_all(moments, "control")
    assert reason in rows[0].reason
    assert rows[0].absolute is None
    assert rows[0].p is None
    if len(treatment) > 1:
        assert rows[1].absolute is not None


def test_an_arm_that_is_not_there_is_a_reason():
    moments = moments_of_frame(frame_of([1, 2], []), [Metric.mean("x")])
    assert both(moments).reason == "treatment: nobody with a value"


def test_a_control_at_zero_has_an_absolute_effect_and_no_relative_one():
    row = both(moments_of_frame(frame_of([0, 0, 0, 0], [1, 0, 2, 0]), [Metric.mean("x")]))
    assert row.absolute is not None
    assert row.relative is None
    assert row.relative_reason == "the control is zero"


def test_a_ratio_over_nothing_and_a_quantile_of_few_say_so():
    frame = frame_of([1, 2, 3], [1, 2, 4]).assign(none=0)
    metrics = [Metric.ratio("r", "x", "none"), Metric.quantile("q", "x", 0.99)]
    rows = compare_all(moments_of_frame(frame, metrics), "control")
    assert "none is zero for everybody" in rows[0].reason
    assert "too few for the quantile" in rows[1].reason


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"alpha": 0.7}, "alpha must lie"),
        ({"test": "z"}, "for proportions"),
        ({"alternative": "both"}, "no alternative"),
    ],
)
def test_a_question_that_makes_no_sense_is_refused(options, says):
    moments = moments_of_frame(frame_of([1, 2], [3, 4]), [Metric.mean("x")])
    with pytest.raises(ContractError, match=says):
        both(moments, **options)
