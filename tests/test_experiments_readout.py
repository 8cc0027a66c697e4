"""Readout and decision: what a look says, and what it must not say."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from journeylab.errors import ContractError
from journeylab.estimate import Metric, moments_of_frame, moments_of_sums
from journeylab.experiments.boundaries import spending_boundaries
from journeylab.experiments.checks import check_health
from journeylab.experiments.comparison import compare
from journeylab.experiments.decision import Costs, decide
from journeylab.experiments.findings import gap_finding, grouped_doubts
from journeylab.experiments.plan import TestPlan
from journeylab.experiments.posterior import NormalPosterior
from journeylab.experiments.readout import readout
from journeylab.experiments.views import (
    arms_view,
    best_arm,
    decision_record,
    health_views,
    in_points,
    marked,
    marked_estimate,
    past_views,
    readout_views,
    shares_in,
)

REVENUE = Metric.mean("revenue", covariate="revenue before", unit="USD")
BOUGHT = Metric.proportion("bought")
COMPLAINTS = Metric.mean("complaints", direction="down")


def sealed(plan):
    return replace(plan, registered=plan.hash)


PLAN = sealed(
    TestPlan(
        "test",
        REVENUE,
        (BOUGHT, Metric.mean("items")),
        {COMPLAINTS: 0.25},
        looks=3,
        customers=6000,
        rope=0.02,
    )
)


def _frame(seed, customers=6000, effect=0.0, arms=("control", "treatment"), harm=0.0):
    rng = np.random.default_rng(seed)
    arm = rng.integers(0, len(arms), customers)
    before = rng.gamma(2, 10, customers)
    revenue = 5 + 0.6 * before + rng.gamma(2, 6, customers) + effect * (arm == len(arms) - 1)
    return pd.DataFrame(
        {
            "variant": np.array(arms)[arm],
            "revenue before": before,
            "revenue": revenue,
            "bought": (revenue > 20).astype(int),
            "items": rng.poisson(3, customers),
            "complaints": rng.poisson(0.3 + harm * (arm == len(arms) - 1)),
        }
    )


def test_a_kept_plan_is_read_and_shipped():
    shown = readout(PLAN, moments_of_frame(_frame(1, effect=2.0), PLAN.metrics), 3)
    assert shown.status == "confirmatory"
    assert shown.mark == ""
    row = shown.row("revenue", "treatment")
    assert row["verdict"] == "better"
    assert row["sequential_low"] < 2.0 < row["sequential_high"]
    assert 0.5 < row["variance_left"] < 0.8
    assert shown.row("complaints", "treatment")["verdict"].startswith("passes")
    decision = decide(shown)
    assert decision.action == "ship"
    assert decision.gain.ci_low > 0
    assert decision.risk < 0.01
    assert "Ship treatment" in decision.sentence()


@pytest.mark.parametrize(
    ("plan", "look", "reason"),
    [
        (replace(PLAN, registered=""), 3, "no plan was sealed"),
        (replace(PLAN, alpha=0.1), 3, "the plan was changed"),
        (PLAN, 0, "not planned"),
    ],
)
def test_a_broken_plan_is_marked_everywhere_or_refused(plan, look, reason):
    moments = moments_of_frame(_frame(1, effect=2.0), PLAN.metrics)
    shown = readout(plan, moments, look)
    assert any(reason in breach for breach in shown.breaches)
    assert (shown.rows["status"] == "EXPLORATORY").all()
    assert shown.rows["verdict"].str.startswith("EXPLORATORY: ").all()
    assert shown.mark == "EXPLORATORY: "
    decision = decide(shown)
    assert decision.action != "ship"
    assert decision.sentence().startswith("EXPLORATORY: ")
    with pytest.raises(ContractError, match=reason):
        readout(plan, moments, look, breach="refuse")


def test_a_broken_sample_ratio_stops_the_test_and_gives_no_gain():
    frame = _frame(2, effect=2.0)
    lost = frame.drop(frame[frame["variant"] == "treatment"].index[:400])
    shown = readout(PLAN, moments_of_frame(lost, PLAN.metrics), 3)
    assert shown.broken_ratio
    decision = decide(shown)
    assert decision.action == "stop"
    assert decision.gain is None
    assert decision.risk is None
    assert "log is broken" in decision.sentence()


def test_measuring_otherwise_than_planned_is_a_breach():
    changed = Metric.mean("revenue", unit="USD")
    metrics = [changed, *PLAN.metrics[1:]]
    shown = readout(PLAN, moments_of_frame(_frame(1), metrics), 3)
    assert any("measured otherwise than planned: revenue" in one for one in shown.breaches)


def test_clusters_counted_as_customers_are_a_breach():
    plan = sealed(replace(PLAN, cluster=True))
    shown = readout(plan, moments_of_frame(_frame(1), PLAN.metrics), 3)
    assert any("counted as independent" in one for one in shown.breaches)


def test_one_broken_metric_has_a_reason_and_spares_the_others():
    frame = _frame(3, effect=2.0).assign(items=1.0, bought=np.nan)
    shown = readout(PLAN, moments_of_frame(frame, PLAN.metrics), 3)
    for name in ("items", "bought"):
        row = shown.row(name, "treatment")
        assert row["reason"]
        assert row["verdict"].startswith("no reading: ")
    assert shown.row("revenue", "treatment")["verdict"] == "better"
    numbers = shown.rows.loc[shown.rows["reason"] == "", ["effect", "low", "high", "p"]]
    assert np.isfinite(numbers.to_numpy(float)).all()


def test_a_metric_that_was_not_measured_and_an_empty_arm_have_reasons():
    plan = sealed(replace(PLAN, arms=("control", "treatment", "third"), split={}))
    shown = readout(plan, moments_of_frame(_frame(3), PLAN.metrics[:2]), 3)
    assert "nobody" in shown.row("revenue", "third")["reason"]
    assert "no metric 'items'" in shown.row("items", "treatment")["reason"]


def test_the_sequential_interval_is_the_fixed_one_at_the_boundary():
    moments = moments_of_frame(_frame(4, customers=4000), PLAN.metrics)
    shown = readout(PLAN, moments, 2)
    bound = spending_boundaries([1 / 3, 4000 / 6000]).critical[-1]
    row = shown.row("revenue", "treatment")
    one = compare(moments, "revenue", "treatment", "control")
    half = (row["sequential_high"] - row["sequential_low"]) / 2
    assert half == pytest.approx(bound * one.standard_error, rel=2e-3)  # t, not normal
    assert (row["sequential_low"] > 0) == (row["p_adjusted"] < 0.05 and row["effect"] > 0)


def test_looks_over_the_planned_size_and_short_of_it_still_spend_alpha():
    frame = _frame(5, customers=7000)
    over = readout(PLAN, moments_of_frame(frame, PLAN.metrics), 3)
    short = readout(PLAN, moments_of_frame(frame.head(5000), PLAN.metrics), 3)
    for shown in (over, short):
        assert shown.boundaries.spent[-1] == pytest.approx(0.05)
    assert short.information[-1] == pytest.approx(5000 / 6000)


@pytest.mark.full
def test_false_alarms_of_a_whole_plan_stay_at_alpha():
    """400 A/A tests of three looks at revenue with adjustment and at two secondary metrics."""
    alarms, explained, trials = 0, 0, 400
    plan = sealed(replace(PLAN, customers=900))
    for seed in range(trials):
        frame = _frame(seed, customers=900)
        for look, customers in ((1, 300), (2, 600), (3, 900)):
            shown = readout(plan, moments_of_frame(frame.head(customers), plan.metrics), look)
            if shown.broken_ratio:
                break
            verdict = shown.row("revenue", "treatment")["verdict"]
            if verdict in ("better", "worse"):
                alarms += 1
                break
        else:
            own = shown.rows[shown.rows["role"] == "secondary"]
            explained += bool((own["p_adjusted"] <= 0.05).any())
    error = 3 * (0.05 * 0.95 / trials) ** 0.5
    assert alarms / trials == pytest.approx(0.05, abs=error)
    assert explained / trials <= 0.05 + error


def test_several_arms_are_adjusted_by_dunnett_at_a_single_look():
    plan = sealed(replace(PLAN, arms=("control", "a", "b"), split={}, looks=1))
    frame = _frame(6, arms=("control", "a", "b"), effect=0.6)
    shown = readout(plan, moments_of_frame(frame, plan.metrics), 1)
    row = shown.row("revenue", "b")
    assert row["p"] < row["p_adjusted"] < 2 * row["p"]
    low = row["effect"] - row["sequential_low"]
    assert low > row["effect"] - row["low"]


def test_a_guardrail_that_fails_stops_what_wins():
    frame = _frame(7, effect=2.0, harm=0.15)
    shown = readout(PLAN, moments_of_frame(frame, PLAN.metrics), 3)
    assert shown.row("complaints", "treatment")["verdict"].startswith("alarm")
    decision = decide(shown)
    assert decision.action == "stop"
    assert "complaints did not pass" in decision.why
    assert any("would pass with a margin" in change for change in decision.changes)


def test_before_the_last_look_nothing_is_stopped_for_want_of_proof():
    shown = readout(PLAN, moments_of_frame(_frame(8, customers=2000), PLAN.metrics), 1)
    assert "go on to look 2" in shown.row("revenue", "treatment")["verdict"]
    assert decide(shown).action == "hold"


def test_costs_turn_a_win_into_a_stop_and_price_an_increment():
    shown = readout(PLAN, moments_of_frame(_frame(1, effect=2.0), PLAN.metrics), 3)
    cheap = decide(shown, Costs({"treatment": 0.2}, value=0.3, audience=10_000, once=100))
    dear = decide(shown, Costs({"treatment": 5.0}, value=0.3))
    assert (cheap.action, dear.action) == ("ship", "stop")
    assert "costs more than it brings" in dear.why
    effect = shown.row("revenue", "treatment")["effect"]
    assert cheap.cost_per_increment.value == pytest.approx(0.2 / effect)
    assert cheap.total.value == pytest.approx(10_000 * (0.3 * effect - 0.2) - 100)
    assert dear.risk > 0.99


def test_no_gain_has_no_price():
    shown = readout(PLAN, moments_of_frame(_frame(9), PLAN.metrics), 3)
    decision = decide(shown, Costs({"treatment": 0.2}))
    assert decision.action == "stop"
    assert decision.cost_per_increment is None
    assert "buy" in decision.cost_reason


def test_a_lower_metric_can_be_the_better_one():
    plan = sealed(
        TestPlan("quiet", COMPLAINTS, decision_rule="expected_value", max_loss=0.01, customers=6000)
    )
    frame = _frame(10, harm=-0.1)
    shown = readout(plan, moments_of_frame(frame, plan.metrics), 1)
    row = shown.row("complaints", "treatment")
    assert row["effect"] < 0
    assert row["chance_to_win"] > 0.99
    decision = decide(shown, Costs(value=3.0))
    assert decision.action == "ship"
    assert decision.gain.value == pytest.approx(-3 * row["effect"])


def test_a_non_inferiority_plan_passes_what_is_not_worse_by_the_margin():
    plan = sealed(
        TestPlan("cheaper", REVENUE, decision_rule="non_inferiority", margin=0.03, customers=20_000)
    )
    moments = moments_of_frame(_frame(11, customers=20_000), plan.metrics)
    shown = readout(plan, moments, 1)
    row = shown.row("revenue", "treatment")
    assert "not worse" in row["verdict"]
    assert row["margin"] == pytest.approx(0.03 * row["mean_control"], rel=0.02)
    strict = sealed(replace(plan, margin=0.0001))
    assert "no difference" in readout(strict, moments, 1).row("revenue", "treatment")["verdict"]


def test_a_prior_from_past_tests_shrinks_belief_but_not_the_interval():
    moments = moments_of_frame(_frame(1, effect=2.0), PLAN.metrics)
    flat = readout(PLAN, moments, 3)
    shrunk = readout(PLAN, moments, 3, priors={"revenue": NormalPosterior(0.0, 0.005)})
    one, two = (shown.row("revenue", "treatment") for shown in (flat, shrunk))
    assert one["expected_loss"] < two["expected_loss"]
    assert one["low"] == two["low"]
    assert decide(shrunk).risk > decide(flat).risk


def test_the_published_one_sided_bound_comes_out_of_the_comparison():
    """GrowthBook: one-sided greater, relative: lower -.045137, p .065583."""
    metric = Metric.mean("revenue")
    moments = moments_of_sums(
        metric, {"a": (3000, 1396.87, 52377.9767), "b": (3461, 2422.7, 134698.29)}
    )
    one = compare(moments, "revenue", "b", "a", alternative="greater", relative="linear delta")
    assert one.relative.ci_low == pytest.approx(-0.045137, abs=5e-7)
    assert one.p_relative == pytest.approx(0.065583, abs=5e-7)


def test_looks_outside_the_plan_and_times_out_of_order_are_refused():
    moments = moments_of_frame(_frame(1, customers=200), PLAN.metrics)
    with pytest.raises(ContractError, match="looks 1 to 3; got 4"):
        readout(PLAN, moments, 4)
    with pytest.raises(ContractError, match="must increase"):
        readout(PLAN, moments, 2, information=[0.5, 0.4])
    with pytest.raises(ContractError, match="costs name arms"):
        decide(readout(PLAN, moments, 1), Costs({"other": 1.0}))
    assert norm.isf(0.025) < readout(PLAN, moments, 1).boundaries.critical[0]


def test_views_show_shares_in_percent_and_every_number_once():
    found = readout(PLAN, moments_of_frame(_frame(1, effect=2.0), PLAN.metrics), 3)
    views = readout_views(found)
    shares = (found.rows["unit"] == "share").to_numpy()
    assert shares.any()
    effect = found.rows["effect"].astype(float).to_numpy()
    shown = views["levels"]["effect"].to_numpy()
    assert shown == pytest.approx(np.where(shares, 100 * effect, effect))
    assert set(views["levels"].loc[shares, "unit"]) == {"%"}
    assert views["bounds"]["anytime_low"].to_numpy()[shares] == pytest.approx(
        100 * found.rows["anytime_low"].astype(float).to_numpy()[shares]
    )


def test_every_table_of_an_exploratory_readout_says_so_in_its_head():
    moments = moments_of_frame(_frame(1, effect=2.0), PLAN.metrics)
    for plan, look, word in ((PLAN, 3, ""), (PLAN, 0, "EXPLORATORY: ")):
        found = readout(plan, moments, look)
        heads = [str(view.columns[0]) for view in readout_views(found).values()]
        assert set(heads) == {f"{word}metric"}
        assert marked(found, pd.DataFrame({"a": [1], "b": [2]})).columns[0] == f"{word}a"
        kept = decision_record(found, decide(found))
        assert kept["status"] == ("EXPLORATORY" if word else "confirmatory")
        assert kept["look"] == ("a peek that was not planned" if word else "3 of 3")
    points = in_points(found.comparisons["bought", "treatment"].absolute)
    assert points.unit == "percentage points"
    assert points.value == pytest.approx(100 * found.row("bought", "treatment")["effect"])


def test_key_numbers_of_an_exploratory_readout_say_so_behind_their_unit():
    moments = moments_of_frame(_frame(1, effect=2.0), PLAN.metrics)
    for look, unit in ((3, "percentage points"), (0, "percentage points, EXPLORATORY")):
        found = readout(PLAN, moments, look)
        own = in_points(found.comparisons["bought", "treatment"].absolute)
        said = marked_estimate(found, own)
        assert said.unit == unit
        assert (said.value, said.ci_low, said.ci_high) == (own.value, own.ci_low, own.ci_high)


def test_the_chance_to_be_best_is_that_of_draws_from_the_arms_own_means():
    rng = np.random.default_rng(4)
    sizes, means = {"control": 900, "a": 400, "b": 2500}, {"control": 0.0, "a": 0.1, "b": 0.08}
    frame = pd.concat(
        pd.DataFrame({"variant": arm, "spend": rng.normal(means[arm], 1.0, size)})
        for arm, size in sizes.items()
    )
    frame["customer_id"] = np.arange(len(frame))
    for direction in ("up", "down"):
        metric = Metric.mean("spend", direction=direction)
        plan = sealed(
            replace(PLAN, primary=metric, secondary=(), guardrails={}, arms=tuple(sizes),
                    split={arm: float(size) for arm, size in sizes.items()})
        )  # fmt: skip
        moments = moments_of_frame(frame, plan.metrics)
        shown = best_arm(readout(plan, moments, 3), moments)
        arms = frame.groupby("variant")["spend"].agg(["mean", "sem"])
        draws = rng.normal(arms["mean"], arms["sem"], (200_000, 3))
        best = (draws if direction == "up" else -draws).argmax(axis=1)
        drawn = pd.Series(np.bincount(best, minlength=3) / len(best), index=arms.index)
        got = shown.set_index(shown.columns[0])["best"]
        assert got.sum() == pytest.approx(1)
        assert got.is_monotonic_decreasing
        assert got[drawn.index].to_numpy() == pytest.approx(drawn.to_numpy(), abs=0.006)
    two = moments_of_frame(_frame(1), PLAN.metrics)
    assert "says the same" in best_arm(readout(PLAN, two, 3), two)
    assert "best_arm" not in readout_views(readout(PLAN, two, 3), two)
    views = readout_views(readout(plan, moments, 0), moments)
    assert views["best_arm"].columns[0] == "EXPLORATORY: arm"


def test_every_kind_of_metric_has_bounds_on_the_difference_that_hold_at_any_time():
    """Sequential bounds on the difference for means, shares, ratios and quantiles."""
    kinds = (
        Metric.mean("revenue"),
        BOUGHT,
        Metric.ratio("per item", "revenue", "items"),
        Metric.quantile("median", "revenue", 0.5),
        Metric.mean("adjusted", "revenue", covariate="revenue before"),
    )
    plan = sealed(replace(PLAN, primary=kinds[0], secondary=kinds[1:], guardrails={}))
    found = readout(plan, moments_of_frame(_frame(1, effect=2.0), plan.metrics), 2)
    rows = found.rows.set_index("metric")
    assert (rows["reason"] == "").all()
    for end in ("anytime_low", "anytime_high"):
        assert np.isfinite(rows[end].astype(float)).all()
    assert (rows["anytime_low"] < rows["low"]).all()
    assert (rows["anytime_high"] > rows["high"]).all()
    for primary in (kinds[1], kinds[2]):
        own = sealed(replace(plan, primary=primary, secondary=()))
        row = readout(own, moments_of_frame(_frame(1), own.metrics), 2).rows.iloc[0]
        assert row["sequential_low"] < row["low"] < row["high"] < row["sequential_high"]


def test_a_guardrail_that_passes_and_is_worse_all_the_same_says_so():
    plan = sealed(replace(PLAN, guardrails={COMPLAINTS: 0.9}))
    frame = _frame(5, customers=20_000, effect=2.0, harm=0.05)
    found = readout(plan, moments_of_frame(frame, plan.metrics), 3)
    verdict = found.row("complaints", "treatment")["verdict"]
    assert verdict == "passes: worse, but not by more than the margin"
    assert decide(found).action == "ship"


def test_views_of_health_arms_and_past_tests_are_marked_and_say_what_is_not_there():
    moments = moments_of_frame(_frame(1, effect=2.0), PLAN.metrics)
    peek = readout(PLAN, moments, 0)
    shown = health_views(peek, check_health(moments, dict(PLAN.split), PLAN.control))
    assert shown["missing"] == "Every customer has a value of every metric."
    assert shown["balance"].columns[0] == "EXPLORATORY: metric"
    assert shown["sample_ratio"]["stops"] == "no"
    verdict = decide(peek)
    arms = arms_view(peek, verdict)
    assert arms.columns[0] == "EXPLORATORY: arm"
    assert not arms["verdict"].str.contains("EXPLORATORY").any()
    assert past_views(peek, None, "treatment") == {}
    assert set(shares_in(arms)) == {"risk"}
    assert gap_finding(pd.DataFrame(), "treatment") == "Nobody has a value"
    gap = pd.DataFrame({"value": [0.0, 5.0], "gap": [-0.02, 0.0], "ci_low": [-0.03, -0.01],
                        "ci_high": [-0.01, 0.01]})  # fmt: skip
    assert (
        gap_finding(gap, "new", "USD")
        == "2 percentage points more customers of new lie above 0 USD"
    )


def test_a_doubt_about_several_metrics_is_told_once():
    frame = _frame(1).assign(**{"revenue before": 1.0})
    plan = sealed(replace(PLAN, secondary=(Metric.mean("items", covariate="revenue before"),)))
    found = readout(plan, moments_of_frame(frame, plan.metrics), 3)
    assert grouped_doubts(found) == [
        "revenue, items: revenue before does not vary and was not used"
    ]
