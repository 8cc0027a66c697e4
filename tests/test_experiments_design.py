"""Design: how many, how long, what can be found, who gets which arm."""

import tomllib
from dataclasses import replace
from hashlib import md5
from pathlib import Path

import ibis
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import nct, norm
from scipy.stats import t as student

from journeylab.errors import ContractError
from journeylab.estimate import Metric, moments_of_frame
from journeylab.estimate.assignment import assigned, assigned_frame, variant_of
from journeylab.experiments.accrual import (
    contact_cost,
    fit_accrual,
    mde_by_week,
    runtime,
    steady_accrual,
)
from journeylab.experiments.baselines import baseline, baseline_table, baseline_views
from journeylab.experiments.design import (
    design_advice,
    design_doubts,
    planned_size,
    rehearsal_days,
    runtime_words,
    size_table,
)
from journeylab.experiments.power import (
    Baseline,
    cohen_h_size,
    detectable,
    power,
    power_each,
    sample_size,
    t_power,
)

PUBLISHED = tomllib.loads(
    (Path(__file__).parent / "published" / "experiments_design.toml").read_text()
)
SPEND = Baseline("spend", "mean", 20.0, 45.0, "USD")
RATE = Baseline("bought", "proportion", 0.1, 0.3)
SHARES = {"control": 0.5, "ten": 0.3, "twenty": 0.2}


def test_cohens_h_reproduces_the_published_sample_size():
    """R's root finder stops within 1.2e-4 (its default); the printed fourth decimal is its own."""
    assert cohen_h_size(0.10, 0.12) == pytest.approx(PUBLISHED["cohen_h"]["per_arm"], abs=1.2e-4)


@pytest.mark.parametrize(("drift", "df"), [(2.8, 1), (2.8, 10), (0.0, 7), (5, 50), (2, 2000)])
def test_the_power_of_t_is_the_noncentral_t(drift, df):
    limit = student.isf(0.025, df)
    expected = nct.sf(limit, df, drift) + nct.cdf(-limit, df, drift)
    assert t_power(drift, df) == pytest.approx(expected, abs=1e-9)
    assert t_power(drift, df, sides=1) == pytest.approx(
        nct.sf(student.isf(0.05, df), df, drift), abs=1e-9
    )


def test_the_tail_in_which_scipy_has_no_number_has_one_here():
    for drift in (40.0, 300.0, 1e5):
        for df in (3.0, 1e3, 1e8, np.inf):
            assert t_power(drift, df) == pytest.approx(1, abs=1e-6)
            assert t_power(-drift, df, sides=1) == pytest.approx(0, abs=1e-6)


def test_sample_sizes_agree_with_statsmodels():
    solver = pytest.importorskip("statsmodels.stats.power").TTestIndPower()
    ours = sample_size(SPEND, relative=0.05).exact["control"]
    theirs = solver.solve_power(effect_size=1 / 45, alpha=0.05, power=0.8)
    assert ours == pytest.approx(theirs, rel=1e-6)
    unequal = sample_size(SPEND, absolute=2.0, split={"control": 3, "treatment": 1})
    theirs = solver.solve_power(effect_size=2 / 45, alpha=0.05, power=0.8, ratio=1 / 3)
    assert unequal.exact["control"] == pytest.approx(theirs, rel=1e-6)


def test_two_rates_need_what_the_textbook_says():
    """Fleiss: pooled variance under no effect, the arms' own under the effect."""
    p, q = 0.10, 0.12
    pooled = (p + q) / 2
    z_alpha, z_beta = norm.isf(0.025), norm.isf(0.2)
    n = (
        z_alpha * (2 * pooled * (1 - pooled)) ** 0.5 + z_beta * (p * (1 - p) + q * (1 - q)) ** 0.5
    ) ** 2 / (q - p) ** 2
    one_sided = sample_size(RATE, absolute=0.02, alpha=0.025, sides=1)
    assert one_sided.exact["control"] == pytest.approx(n, rel=1e-9)


def test_power_is_what_simulated_tests_find():
    rng, trials = np.random.default_rng(2), 4000
    clusters, size, icc = 60, 10, 0.05
    one = Baseline("spend", "mean", 20, 5, icc=icc, cluster_size=size)
    wanted = power(one, 1.5, clusters / 2 * size, clusters / 2 * size)
    between = rng.normal(0, 5 * icc**0.5, (trials, clusters))
    within = rng.normal(0, 5 * (1 - icc) ** 0.5, (trials, clusters, size)).mean(axis=2)
    means = 20 + between + within
    a, b = means[:, : clusters // 2], means[:, clusters // 2 :] + 1.5
    error = np.sqrt((a.var(axis=1, ddof=1) + b.var(axis=1, ddof=1)) / (clusters / 2))
    t = (b.mean(axis=1) - a.mean(axis=1)) / error
    found = (np.abs(t) > student.isf(0.025, clusters - 2)).mean()
    assert found == pytest.approx(wanted, abs=3 * (wanted * (1 - wanted) / trials) ** 0.5)


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from([SPEND, RATE, replace(SPEND, correlation=0.6, icc=0.02, cluster_size=30.0)]),
    st.floats(0.01, 0.5),
    st.floats(0.5, 0.95),
    st.sampled_from([1, 2]),
    st.floats(0.2, 5),
)
def test_size_power_and_mde_are_one_formula(one, lift, wanted, sides, weight):
    size = sample_size(
        one, relative=lift, power=wanted, sides=sides, split={"control": weight, "a": 1.0}
    )
    n = size.exact["control"], size.exact["a"]
    effect = one.effect(relative=lift)
    assert power(one, effect, *n, sides=sides) == pytest.approx(wanted, abs=1e-6)
    assert detectable(one, *n, power=wanted, sides=sides) == pytest.approx(effect, rel=1e-5)


def test_adjustment_clusters_and_looks_scale_the_sample():
    plain = sample_size(SPEND, relative=0.05).total
    adjusted = sample_size(replace(SPEND, correlation=0.6), relative=0.05).total
    assert adjusted / plain == pytest.approx(0.64, abs=0.001)
    grouped = replace(SPEND, icc=0.05, cluster_size=20.0, cluster_cv=0.6)
    assert grouped.design_effect == pytest.approx(1 + (1.36 * 20 - 1) * 0.05)
    ratio = sample_size(grouped, relative=0.05).total / plain
    assert ratio == pytest.approx(grouped.design_effect, rel=0.01)
    looked = sample_size(SPEND, relative=0.05, inflation=1.03).total
    assert looked / plain == pytest.approx(1.03, rel=1e-3)


def test_non_inferiority_needs_a_margin_and_guardrails_need_more_power():
    size = sample_size(RATE, absolute=0.0, margin=0.01, sides=1)
    n = 2 * 0.09 * (norm.isf(0.05) + norm.isf(0.2)) ** 2 / 0.01**2
    assert size.exact["control"] == pytest.approx(n, rel=1e-6)
    with pytest.raises(ContractError, match="no effect to look for"):
        sample_size(RATE, absolute=0.0)
    assert power_each(0.8, 4) == pytest.approx(0.95)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"sd": 0.0}, "sd above 0"),
        ({"sd": float("nan")}, "sd above 0"),
        ({"mean": float("inf")}, "finite mean"),
        ({"icc": 2.0}, "correlations"),
    ],
)
def test_impossible_baselines_are_refused(changed, message):
    with pytest.raises(ContractError, match=message):
        replace(SPEND, **changed)


def test_a_relative_effect_on_a_mean_of_zero_is_refused():
    with pytest.raises(ContractError, match="its mean is 0"):
        sample_size(replace(SPEND, mean=0.0), relative=0.05)
    with pytest.raises(ContractError, match="cannot become"):
        sample_size(RATE, relative=20.0)


def _days(counts, first="2025-01-06"):
    days = pd.date_range(first, periods=len(counts))
    return pd.DataFrame({"day": days, "customers": counts})


def test_runtime_follows_unique_customers_and_not_visits():
    """Half of each day's new customers of the day before: the naive runtime is far too short."""
    counts = [1000, 500, 250, 125, 62, 31, 16]
    curve = fit_accrual(_days(counts), "2025-01-06", "2025-01-12")
    size = sample_size(SPEND, relative=0.2)
    need = replace_total(size, 1900)
    assert curve.days_for(1900) == 5
    assert runtime(need, curve, window_days=14).total_days == 5 + 13
    later = runtime(replace_total(size, 2200), curve)
    assert later.extrapolated
    assert later.enrolment_days > 7


def replace_total(size, total):
    return replace(size, per_arm={"control": total // 2, "treatment": total - total // 2})


def test_a_steady_stream_goes_on_as_it_came():
    curve = fit_accrual(_days([100] * 10), "2025-01-06", "2025-01-15")
    assert curve.growth == pytest.approx(1)
    assert curve.by(20) == pytest.approx(2000)
    assert curve.days_for(1500) == 15
    assert curve.days_for(950) == 10


def test_the_mde_falls_week_by_week_and_waits_for_closed_windows():
    one = replace(SPEND, correlation=0.6)
    curve = fit_accrual(_days([500] * 14), "2025-01-06", "2025-01-19")
    weeks = mde_by_week(one, curve, 5, window_days=14)
    assert weeks["week"].min() == 2  # nobody's fourteen days are over after the first
    assert weeks["mde"].is_monotonic_decreasing
    assert (weeks["mde"] / weeks["mde_plain"]).to_numpy() == pytest.approx(0.8, abs=0.001)
    assert not weeks["extrapolated"].iloc[0]
    assert weeks["extrapolated"].iloc[-1]


def test_the_contacts_cost_what_the_arms_hold():
    size = replace_total(sample_size(SPEND, relative=0.2), 1000)
    bill = contact_cost(size, {"treatment": 0.5}, contacts=2)
    assert bill.set_index("arm")["cost"].to_dict() == {
        "control": 0, "treatment": 500, "all": 500,
    }  # fmt: skip
    with pytest.raises(ContractError, match="no arm other"):
        contact_cost(size, {"other": 1.0})


def _history(seed, customers=6000, groups=150, rho=0.6, icc=0.08):
    rng = np.random.default_rng(seed)
    group = rng.integers(0, groups, customers)
    shared = rng.normal(0, icc**0.5, groups)[group]
    own = rng.normal(0, (1 - icc) ** 0.5, customers)
    y = shared + own
    x = rho * y + (1 - rho**2) ** 0.5 * rng.normal(size=customers)
    orders = rng.poisson(2, customers) + 1
    return pd.DataFrame(
        {
            "variant": "all",
            "cluster": [f"g{g}" for g in group],
            "spend": 20 + 5 * y,
            "spend before": 18 + 5 * x,
            "items": orders * (3 + y.clip(-2, 2)),
            "orders": orders,
        }
    )


def test_baselines_find_the_truth_of_a_simulated_history():
    found = []
    metrics = [Metric.mean("spend", covariate="before", unit="USD")]
    for seed in range(6):
        history = moments_of_frame(_history(seed), metrics, cluster="cluster")
        plain = baseline(history, "spend", adjusted=False)
        found.append((plain.mean, plain.sd, plain.correlation, plain.icc, plain.cluster_size))
    means = np.mean(found, axis=0)
    errors = np.std(found, axis=0, ddof=1) / 6**0.5
    for value, error, truth in zip(means, errors, (20, 5, 0.6, 0.08, 40), strict=True):
        assert value == pytest.approx(truth, abs=max(4 * error, 1e-9))


def test_the_adjusted_clusters_are_those_of_the_residual():
    """What is explained by the time before carries part of what clusters share."""
    history = moments_of_frame(
        _history(1), [Metric.mean("spend", covariate="before")], cluster="cluster"
    )
    raw, left = (baseline(history, "spend", adjusted=flag).icc for flag in (False, True))
    assert left != raw
    assert left == pytest.approx(raw, abs=0.06)


def test_a_ratio_has_the_spread_of_its_linear_form():
    frame = _history(2)
    history = moments_of_frame(frame, [Metric.ratio("per order", "items", "orders")])
    one = baseline(history, "per order")
    ratio = frame["items"].sum() / frame["orders"].sum()
    linear = (frame["items"] - ratio * frame["orders"]) / frame["orders"].mean()
    assert (one.mean, one.sd) == pytest.approx((ratio, linear.std()), rel=1e-9)


def test_a_metric_without_variation_has_a_reason_and_leaves_the_others_alone():
    frame = _history(3).assign(flat=1.0)
    metrics = [Metric.mean("flat"), Metric.mean("spend")]
    table = baseline_table(moments_of_frame(frame, metrics)).set_index("metric")
    assert "does not vary" in table.loc["flat", "reason"]
    assert table.loc["spend", "reason"] == ""
    assert table.loc["spend", "sd"] == pytest.approx(frame["spend"].std())


def test_the_arm_is_the_md5_of_salt_and_id():
    digits = md5(b"salt:c1").hexdigest()[:13]
    expected = "control" if int(digits, 16) < 16**13 // 2 else "treatment"
    assert variant_of("c1", "salt", {"control": 1, "treatment": 1}) == expected


def test_the_engine_and_python_agree_on_every_arm():
    rng = np.random.default_rng(0)
    people = pd.DataFrame(
        {
            "customer_id": [*(f"c{i}" for i in range(800)), "客户甲", "é", "O'neil", " x "],
            "cluster_id": [f"g{i % 40}" for i in range(804)],
            "stratum": rng.choice(["old", "new", "新"], 804),
        }
    )
    table = ibis.duckdb.connect().create_table("people", people)
    for options in ({}, {"unit": "cluster_id"}, {"stratum": "stratum"}):
        ours = assigned_frame(people, "s", SHARES, **options)
        theirs = assigned(table, "s", SHARES, **options).to_pandas()
        both = ours.merge(theirs, on="customer_id")
        assert (both["variant_x"] == both["variant_y"]).all()
    whole = assigned_frame(people, "s", SHARES, unit="cluster_id")
    assert len(whole[["cluster_id", "variant"]].drop_duplicates()) == 40


def test_shares_hold_overall_and_exactly_within_strata():
    people = pd.DataFrame({"customer_id": [f"c{i}" for i in range(20_000)]})
    people["stratum"] = [f"s{i % 7}" for i in range(20_000)]
    free = assigned_frame(people, "x", SHARES)["variant"].value_counts(normalize=True)
    for arm, share in SHARES.items():
        assert free[arm] == pytest.approx(share, abs=4 * (share * (1 - share) / 20_000) ** 0.5)
    held = assigned_frame(people, "x", SHARES, stratum="stratum")
    counts = pd.crosstab(held["stratum"], held["variant"])
    whole = people["stratum"].value_counts()
    for arm, share in SHARES.items():
        assert (counts[arm] - share * whole).abs().max() <= 1.0


def test_salts_are_independent_of_each_other():
    people = pd.DataFrame({"customer_id": [f"c{i}" for i in range(20_000)]})
    one, two = (assigned_frame(people, salt, {"a": 1, "b": 1})["variant"] for salt in ("1", "2"))
    both = ((one == "a") & (two == "a")).mean()
    assert both == pytest.approx(0.25, abs=4 * (0.25 * 0.75 / 20_000) ** 0.5)


def test_small_strata_do_not_always_favour_the_same_arm():
    people = pd.DataFrame({"customer_id": [f"c{i}" for i in range(3000)]})
    people["stratum"] = [f"s{i // 3}" for i in range(3000)]
    arms = assigned_frame(people, "x", {"a": 1, "b": 1}, stratum="stratum")["variant"]
    # three to a stratum: one arm gets two of them, which one is drawn
    assert (arms == "a").mean() == pytest.approx(0.5, abs=4 * (1 / 36 / 1000) ** 0.5 + 0.01)


def test_a_unit_in_two_strata_and_weights_of_zero_are_refused():
    people = pd.DataFrame({"customer_id": ["a", "a"], "stratum": ["x", "y"]})
    with pytest.raises(ContractError, match="1 units of customer_id lie in more than one stratum"):
        assigned_frame(people, "s", SHARES, stratum="stratum")
    with pytest.raises(ContractError, match="positive weight"):
        variant_of("a", "s", {"control": 1, "b": 0})


def test_the_rehearsal_leaves_room_for_outcomes_and_a_time_before():
    days = rehearsal_days("2025-01-01", "2025-06-30", enrol_days=56, window_days=14, pre_days=56)
    assert (days.last, days.days, days.pre_days) == ("2025-06-17", 56, 56)
    short = rehearsal_days("2025-01-01", "2025-01-31", enrol_days=56, window_days=14, pre_days=56)
    entry = pd.Timestamp(short.first) - pd.Timestamp("2025-01-01")
    assert entry.days == short.pre_days
    with pytest.raises(ContractError, match="10 days of data are too few"):
        rehearsal_days("2025-01-01", "2025-01-10", enrol_days=7, window_days=14, pre_days=7)


def test_advice_starts_what_ends_in_time_and_nothing_else():
    curve = fit_accrual(_days([500] * 28), "2025-01-06", "2025-02-02")
    said = []
    for effect in (0.2, 0.02):
        size = sample_size(SPEND, relative=effect)
        time = runtime(size, curve, window_days=14)
        said.append(
            design_advice(
                "next", SPEND, size, time, effect=effect, power=0.8, looks=3, cost=10.0,
                currency="USD", planned_hash="0" * 64,
            )
        )  # fmt: skip
    assert said[0].startswith("Start next as planned")
    assert "cost 10 USD" in said[0]
    assert said[1].startswith("Do not start next as it stands")
    size = sample_size(SPEND, relative=0.02)
    plain = {"effect": 0.2, "power": 0.8, "looks": 3, "cost": 0.0, "currency": "",
             "planned_hash": "0" * 64}  # fmt: skip
    # The customers are the guardrail's: the advice must not lay them to the primary metric.
    blamed = design_advice(
        "next", SPEND, size, runtime(size, curve, window_days=14), guardrail="bought",
        decides="bought", **plain,
    )  # fmt: skip
    assert f"to show that bought passes its margin takes {size.total:,} customers" in blamed
    assert "Widen that margin" in blamed
    assert f"{SPEND.name} by 20 % needs" not in blamed
    never = runtime(sample_size(SPEND, relative=1e-4), curve, window_days=14)
    assert runtime_words(never)["days in all"] == "more than ten years"
    assert "ten years" in design_advice("next", SPEND, size, never, **plain)


def test_sizes_and_doubts_of_clusters_are_named():
    curve = fit_accrual(_days([500] * 28), "2025-01-06", "2025-02-02")
    grouped = replace(SPEND, customers=2000, icc=0.2, cluster_size=20.0)
    table = size_table(grouped, curve, [0.1, 0.3])
    assert (table["customers"].diff().dropna() < 0).all()
    assert {"clusters", "days_plain"} <= set(table.columns)
    size = sample_size(grouped, relative=0.1)
    found = design_doubts(grouped, size, runtime(size, curve), (0.08, 0.12), 0.05)
    assert any("and 100 were seen" in doubt for doubt in found)
    assert any("8.0 to 12.0 %" in doubt for doubt in found)
    assert any("alike" in doubt for doubt in found)


def test_the_planned_size_lets_the_primary_metric_and_every_guardrail_pass_together():
    """Simulated tests of the planned size: all pass as often as was asked for, or oftener."""
    primary, guard = Baseline("spend", "mean", 10.0, 20.0), Baseline("items", "mean", 4.0, 6.0)
    size, needs = planned_size(primary, 0.1, {"items": (guard, 0.08)}, power=0.8)
    assert size.total == needs["customers"].max()
    assert needs.loc[needs["decides"], "customers"].item() == size.total
    assert needs["power"].tolist() == [0.9, 0.9]
    assert needs["change_percent"].tolist() == [10.0, -8.0]
    alone = planned_size(primary, 0.1, {}, power=0.8)[0]
    assert alone.total == sample_size(primary, relative=0.1, power=0.8).total
    n, rng = size.total / 2, np.random.default_rng(3)
    errors = np.array([20.0, 6.0]) * np.sqrt(2 / n)
    z = (rng.standard_normal((20_000, 2)) * errors + [1.0, 4.0 * 0.08]) / errors
    both = (z[:, 0] > 1.959964) & (z[:, 1] > 1.644854)
    assert both.mean() > 0.8 - 3 * (0.8 * 0.2 / 20_000) ** 0.5


def test_baselines_come_in_tables_that_name_what_is_missing():
    known = pd.DataFrame(
        {
            "metric": ["spend", "flat"], "customers": [100, None], "mean": [2.0, None],
            "sd": [1.0, None], "unit": ["USD", None], "correlation": [0.5, None],
            "variance_kept": [0.75, None], "icc": [0.1, None], "cluster_size": [20.0, None],
            "cluster_cv": [0.4, None], "design_effect": [3.0, None],
            "reason": ["", "flat: it does not vary over 100 customers"],
        }
    )  # fmt: skip
    views = baseline_views(known)
    assert views["baselines"]["standard_deviation"].tolist() == [1.0]
    assert views["clusters"]["intraclass_correlation"].tolist() == [0.1]
    assert views["no_baseline"]["metric"].tolist() == ["flat"]
    assert baseline_views(known.assign(cluster_size=1.0))["clusters"].empty


def test_a_steady_pace_is_an_assumption_and_says_so():
    pace = steady_accrual(250.0)
    assert pace.by(4) == pytest.approx(1000)
    size = sample_size(Baseline("x", "mean", 10.0, 20.0), relative=0.1)
    time = runtime(size, pace)
    assert time.enrolment_days == -(-size.total // 250)
    assert time.extrapolated
    with pytest.raises(ContractError, match="customers per day"):
        steady_accrual(0.0)
