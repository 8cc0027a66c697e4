"""The programme: the registry, what past tests teach, what all of them brought."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from journeylab.errors import ContractError, FitError
from journeylab.estimate import Estimate, Metric, moments_of_frame
from journeylab.experiments.decision import decide
from journeylab.experiments.past import past_effects, past_pairs, past_tests
from journeylab.experiments.plan import TestPlan
from journeylab.experiments.posterior import NormalPosterior, normal_posterior
from journeylab.experiments.programme import (
    cumulative_impact,
    effect_prior,
    flat_and_shrunken,
    holdout_effect,
    next_test,
    prospects,
    value_of_information,
)
from journeylab.experiments.readout import readout
from journeylab.experiments.registry import (
    FILE,
    collisions,
    find_plan,
    overview,
    plans,
    read_dates,
    record_result,
    register,
    registered_plan,
    registry_root,
    results,
)
from journeylab.experiments.surrogates import validate_surrogate

SPEND = Metric.mean("spend", unit="USD")
PLAN = TestPlan(
    "first",
    SPEND,
    looks=2,
    customers=4000,
    starts="2025-03-03",
    reads=("2025-03-17", "2025-03-31"),
    audience="new customers",
)
OTHER = replace(PLAN, experiment="second", starts="2025-03-20", reads=("2025-04-03", "2025-04-17"))


def _shown(plan, look=2, effect=1.0):
    rng = np.random.default_rng(3)
    arm = rng.integers(0, 2, 4000)
    frame = pd.DataFrame(
        {
            "variant": np.array(["control", "treatment"])[arm],
            "spend": rng.gamma(2, 5, 4000) + effect * arm,
        }
    )
    return readout(plan, moments_of_frame(frame, plan.metrics), look)


def test_a_registered_plan_is_sealed_and_its_results_follow_it(tmp_path):
    sealed = register(PLAN, tmp_path)
    assert sealed.sealed
    assert register(PLAN, tmp_path) == sealed
    assert overview(tmp_path)["action"].tolist() == ["planned"]
    shown = _shown(find_plan("first", tmp_path))
    assert shown.status == "confirmatory"
    record_result(shown, decide(shown), tmp_path, "2025-03-31")
    row = results(tmp_path).iloc[0]
    assert (row["experiment"], row["look"], row["action"]) == ("first", 2, "ship")
    assert row["shipped"]
    one = shown.comparisons["spend", "treatment"]
    assert row["relative_error"] == pytest.approx(one.standard_error / 10, rel=0.15)
    assert overview(tmp_path)["looks_read"].tolist() == [1]


def test_the_registry_refuses_a_second_plan_and_a_changed_line(tmp_path):
    register(PLAN, tmp_path)
    with pytest.raises(ContractError, match="registered with another plan"):
        register(replace(PLAN, alpha=0.1), tmp_path)
    with pytest.raises(ContractError, match="no plan of third is registered"):
        find_plan("third", tmp_path)
    path = tmp_path / FILE
    path.write_text(path.read_text().replace('"alpha": 0.05', '"alpha": 0.2'))
    with pytest.raises(ContractError, match="changed after it was sealed"):
        plans(tmp_path)


def test_looks_to_come_are_listed_until_the_test_is_decided(tmp_path):
    sealed = register(PLAN, tmp_path)
    register(OTHER, tmp_path)
    ahead = read_dates(tmp_path, "2025-03-18")
    assert ahead["day"].tolist() == ["2025-03-31", "2025-04-03", "2025-04-17"]
    shown = _shown(sealed)
    record_result(shown, decide(shown), tmp_path, "2025-03-18")
    assert set(read_dates(tmp_path, "2025-03-18")["experiment"]) == {"second"}


def test_audiences_that_meet_are_found():
    found = collisions([PLAN, OTHER]).iloc[0]
    assert (found["from"], found["to"]) == ("2025-03-20", "2025-03-31")
    assert found["primary"]
    assert "same metric" in found["advice"]
    later = replace(OTHER, starts="2025-04-01", reads=("2025-04-03", "2025-04-17"))
    elsewhere = replace(OTHER, audience="sleepers")
    assert collisions([PLAN, later]).empty
    assert collisions([PLAN, elsewhere]).empty
    tied = replace(OTHER, salt="first")
    assert "change one salt" in collisions([PLAN, tied])["advice"].iloc[0]
    everybody = replace(OTHER, audience="")
    assert collisions([PLAN, everybody])["audience"].iloc[0] == "one within everybody"


def test_the_prior_finds_the_spread_of_true_effects():
    """Ten programmes of 200 tests, noise twice as wide as the effects."""
    rng, found = np.random.default_rng(1), []
    for _ in range(10):
        errors = rng.uniform(0.01, 0.03, 200)
        truth = rng.normal(0.004, 0.01, 200)
        one = effect_prior(truth + errors * rng.standard_normal(200), errors)
        found.append((one.mean, one.sd))
    means, errors = np.mean(found, axis=0), np.std(found, axis=0, ddof=1) / 10**0.5
    assert means[0] == pytest.approx(0.004, abs=4 * errors[0])
    assert means[1] == pytest.approx(0.01, abs=4 * errors[1] + 0.0005)


def test_shrinking_takes_off_what_the_winners_were_chosen_for():
    """Effects of tests that won, estimated: too high as they stand, right after shrinking."""
    rng = np.random.default_rng(2)
    errors = np.full(4000, 0.02)
    truth = rng.normal(0.0, 0.01, 4000)
    seen = truth + errors * rng.standard_normal(4000)
    prior = effect_prior(seen, errors)
    won = seen / errors > 1.96
    after = [flat_and_shrunken(v, 0.02, prior)["effect"].iloc[1] for v in seen[won]]
    error = truth[won].std() / won.sum() ** 0.5
    assert np.mean(seen[won]) > 2 * truth[won].mean()
    assert np.mean(after) == pytest.approx(truth[won].mean(), abs=4 * error)


def test_tests_without_any_effect_give_a_prior_near_zero_and_few_give_none():
    rng = np.random.default_rng(5)
    noise = effect_prior(0.02 * rng.standard_normal(300), np.full(300, 0.02))
    assert noise.sd < 0.008
    with pytest.raises(FitError, match="5 past tests or more; got 3"):
        effect_prior([0.1, 0.2, 0.3], [0.1, 0.1, 0.1])
    with pytest.raises(ContractError, match="standard error above 0"):
        effect_prior([0.1] * 5, [0.1] * 4 + [0.0])


@pytest.mark.parametrize(("tests", "spread"), [(5, 0.0), (5, 0.02), (12, 0.01)])
def test_the_belief_from_few_past_tests_covers_what_a_plugged_in_prior_does_not(tests, spread):
    """A further test, read with the prior of few: its interval has to hold the truth as promised.

    The posterior with the spread taken as known covers far less than it says.
    """
    rng = np.random.default_rng(11)
    inside = plugged = 0
    draws = 300
    for _ in range(draws):
        errors = rng.uniform(0.01, 0.02, tests)
        truth = rng.normal(0.003, spread, tests + 1)
        prior = effect_prior(truth[:-1] + errors * rng.standard_normal(tests), errors)
        seen = truth[-1] + 0.015 * rng.standard_normal()
        known = NormalPosterior(prior.mean, max(prior.sd, 1e-9))
        after, before = (normal_posterior(seen, 0.015, one) for one in (prior.belief(), known))
        inside += 0.025 <= after.chance_above(truth[-1]) <= 0.975
        plugged += 0.025 <= before.chance_above(truth[-1]) <= 0.975
    noise = 3 * (0.95 * 0.05 / draws) ** 0.5
    assert inside / draws > 0.95 - noise
    assert plugged / draws < 0.95 - 3 * noise


def test_the_belief_narrows_to_the_plugged_in_prior_as_past_tests_grow():
    rng = np.random.default_rng(12)
    errors = np.full(3000, 0.01)
    prior = effect_prior(rng.normal(0.002, 0.01, 3000) + errors * rng.standard_normal(3000), errors)
    assert prior.belief().sd == pytest.approx(prior.sd, rel=0.02)
    assert prior.belief().mean == pytest.approx(prior.mean, abs=1e-4)
    few = effect_prior([0.05, 0.04, 0.06, -0.01, 0.0], [0.02] * 5)
    assert few.belief().sd > 1.3 * few.sd
    assert few.spread().ci_low < few.sd < few.spread().ci_high


def test_the_impact_of_winners_covers_the_truth_when_shrunken_and_not_as_a_sum():
    """100 programmes of 12 tests; what won was shipped, the prior is from the same 12."""
    rng = np.random.default_rng(13)
    inside = naive = counted = 0
    for _ in range(100):
        errors = np.full(12, 0.02)
        truth = rng.normal(0.0, 0.015, 12)
        seen = truth + errors * rng.standard_normal(12)
        won = seen > errors
        if not won.any():
            continue
        shipped = pd.DataFrame({"relative": seen[won], "relative_error": errors[won]})
        table = cumulative_impact(shipped, effect_prior(seen, errors)).set_index("way")
        real = float(np.prod(1 + truth[won]) - 1)
        for way in ("sum of estimates", "shrunken by past tests"):
            held = table.loc[way, "low"] <= real <= table.loc[way, "high"]
            inside += held and way.startswith("shrunken")
            naive += held and way.startswith("sum")
        counted += 1
    assert inside / counted > 0.90
    assert naive / counted < 0.75


def test_a_persistent_holdout_measures_all_changes_together():
    rng = np.random.default_rng(14)
    arm = np.where(rng.random(40_000) < 0.1, "never", "everybody")
    spend = rng.gamma(2, 5, 40_000) * np.where(arm == "never", 1.0, 1.08)
    seen = moments_of_frame(pd.DataFrame({"variant": arm, "spend": spend}), [SPEND])
    found = holdout_effect(seen, "spend", "everybody", "never")
    assert found.ci_low < 0.08 < found.ci_high
    assert found.unit == "share"
    with pytest.raises(FitError, match="nobody with a value"):
        holdout_effect(seen, "spend", "everybody", "nobody")


def test_the_impact_of_all_is_shown_three_ways():
    shipped = pd.DataFrame({"relative": [0.05, 0.04, 0.06], "relative_error": [0.02] * 3})
    prior = effect_prior(
        [0.05, 0.04, 0.06, -0.01, 0.0, 0.01, -0.02], [0.02, 0.02, 0.02, 0.02, 0.02, 0.02, 0.02]
    )
    holdout = Estimate(0.06, 0.01, 0.11, "share")
    table = cumulative_impact(shipped, prior, holdout).set_index("way")
    assert table.loc["sum of estimates", "effect"] == pytest.approx(1.05 * 1.04 * 1.06 - 1)
    assert table.loc["shrunken by past tests", "effect"] < table.loc["sum of estimates", "effect"]
    assert table.loc["global holdout", "high"] == 0.11


def test_the_value_of_information_is_what_simulated_decisions_gain():
    prior, error, threshold = NormalPosterior(0.002, 0.01), 0.008, 0.004
    rng = np.random.default_rng(6)
    truth = rng.normal(prior.mean, prior.sd, 400_000)
    seen = truth + error * rng.standard_normal(400_000)
    weight = prior.sd**2 / (prior.sd**2 + error**2)
    ship = prior.mean + weight * (seen - prior.mean) > threshold
    gain = np.where(ship, truth - threshold, 0.0)
    expected = value_of_information(prior, error, stake=1000, threshold=threshold)
    assert expected == pytest.approx(1000 * gain.mean(), abs=4000 * gain.std() / 400_000**0.5)
    assert value_of_information(prior, 1e-9, stake=1000, threshold=threshold) > expected
    assert value_of_information(prior, 10.0, stake=1000, threshold=threshold) < 0.01


def test_the_next_test_is_the_one_that_could_change_a_decision():
    ideas = pd.DataFrame(
        {
            "idea": ["open", "sure", "slow"],
            "mean": [0.0, 0.10, 0.0],
            "sd": [0.02, 0.01, 0.02],
            "std_error": 0.01,
            "stake": 1e6,
            "threshold": 0.0,
            "cost": 500.0,
            "weeks": [2, 2, 8],
        }
    )
    ranked = next_test(ideas)
    assert ranked["idea"].tolist() == ["open", "slow", "sure"]
    assert ranked["advice"].iloc[-1] == "ship it without a test"


def _past(seed, tests=60, slope=1.5, rest=0.004, noise=0.01):
    rng = np.random.default_rng(seed)
    true = rng.normal(0.01, 0.02, tests)
    target = 0.002 + slope * true + rng.normal(0, rest, tests)
    errors = rng.uniform(0.5, 1.5, (tests, 2)) * noise
    return pd.DataFrame(
        {
            "surrogate": true + errors[:, 0] * rng.standard_normal(tests),
            "surrogate_error": errors[:, 0],
            "target": target + errors[:, 1] * rng.standard_normal(tests),
            "target_error": errors[:, 1],
        }
    )


def test_a_surrogate_is_fitted_without_the_flattening_of_noise():
    found = [validate_surrogate(_past(seed)) for seed in range(8)]
    slopes = np.array([one.slope for one in found])
    error = slopes.std(ddof=1) / 8**0.5
    assert slopes.mean() == pytest.approx(1.5, abs=4 * error)
    naive = [np.polyfit(p["surrogate"], p["target"], 1)[0] for p in map(_past, range(8))]
    assert np.mean(naive) < 1.35  # what a plain regression makes of it
    assert all(one.valid for one in found)


def test_the_surrogates_interval_covers_new_tests():
    covered, trials = 0, 120
    for seed in range(trials // 10):
        one = validate_surrogate(_past(seed, tests=30))
        rng = np.random.default_rng(1000 + seed)
        for _ in range(10):
            true = rng.normal(0.01, 0.02)
            target = 0.002 + 1.5 * true + rng.normal(0, 0.004)
            told = one.target(true + 0.01 * rng.standard_normal(), 0.01)
            covered += told.ci_low <= target <= told.ci_high
    assert covered / trials >= 0.95 - 3 * (0.05 * 0.95 / trials) ** 0.5


def test_an_unvalidated_surrogate_gives_no_answer():
    unrelated = validate_surrogate(_past(1, slope=0.0, rest=0.03))
    assert not unrelated.valid
    with pytest.raises(FitError, match="may not be used"):
        unrelated.target(0.05, 0.01)
    few = validate_surrogate(_past(2, tests=6))
    assert "10 are needed" in few.reason


QUICK = Metric.mean("visits")


def _tested(root, name, effect, rng, slope=2.0):
    """One past test of visits and spend, registered and recorded; spend follows visits."""
    plan = register(replace(PLAN, experiment=name, secondary=(QUICK,)), root)
    arm = rng.integers(0, 2, 4000)
    frame = pd.DataFrame(
        {
            "variant": np.array(["control", "treatment"])[arm],
            "visits": rng.gamma(20, 0.5, 4000) * (1 + effect * arm),
            "spend": rng.gamma(20, 0.5, 4000) * (1 + slope * effect * arm),
        }
    )
    shown = readout(plan, moments_of_frame(frame, plan.metrics), 2)
    record_result(shown, decide(shown), root, "2025-04-01")
    return shown


@pytest.fixture(scope="module")
def programme(tmp_path_factory):
    root, rng = tmp_path_factory.mktemp("runs"), np.random.default_rng(21)
    for at in range(24):
        _tested(root, f"past {at}", rng.normal(0.01, 0.03), rng)
    return root


def test_a_validated_surrogate_gives_the_long_term_effect_with_its_error(programme):
    """The readout applies what 24 past tests showed: spend moves twice as much as visits."""
    plan = replace(PLAN, experiment="new", primary=QUICK, secondary=(), surrogates={})
    plan = replace(
        plan, primary=SPEND, secondary=(QUICK,), surrogates={"visits": "spend in a year"}
    )
    seen = past_effects(programme)
    renamed = seen.assign(metric=seen["metric"].replace("spend", "spend in a year"))
    known = validate_surrogate(past_pairs(renamed, "visits", "spend in a year"))
    assert known.valid
    assert known.slope == pytest.approx(2.0, abs=4 * known.slope_error)
    plan = replace(plan, registered=plan.hash)
    shown = readout(plan, _drawn(plan, 0.04), 2, surrogates={"visits": known})
    row = shown.long_term.iloc[0]
    assert row["reason"] == ""
    assert row["low"] < 0.08 < row["high"]
    assert row["verdict"] == "spend in a year is expected to rise"
    quick = shown.comparisons["visits", "treatment"].relative
    assert row["high"] - row["low"] > known.slope * (quick.ci_high - quick.ci_low)


def _drawn(plan, effect):
    rng = np.random.default_rng(22)
    arm = rng.integers(0, 2, 4000)
    frame = pd.DataFrame(
        {
            "variant": np.array(["control", "treatment"])[arm],
            "visits": rng.gamma(20, 0.5, 4000) * (1 + effect * arm),
            "spend": rng.gamma(20, 0.5, 4000),
        }
    )
    return moments_of_frame(frame, plan.metrics)


def test_a_surrogate_that_nobody_validated_is_refused_in_its_row(programme):
    plan = replace(PLAN, experiment="new", secondary=(QUICK,), surrogates={"visits": "spend"})
    plan = replace(plan, registered=plan.hash)
    shown = readout(plan, _drawn(plan, 0.04), 2)
    assert "no past tests show" in shown.long_term["reason"].iloc[0]
    assert shown.long_term["effect"].isna().all()
    few = past_pairs(past_effects(programme), "visits", "spend").head(6)
    shown = readout(plan, _drawn(plan, 0.04), 2, surrogates={"visits": validate_surrogate(few)})
    assert "6 past tests; 10 are needed" in shown.long_term["reason"].iloc[0]
    peek = readout(plan, _drawn(plan, 0.04), 0)
    assert peek.long_term["verdict"].str.startswith("EXPLORATORY: ").all()
    assert readout(PLAN, _drawn(PLAN, 0.0), 2).long_term.empty


def test_the_registry_hands_its_past_to_the_next_readout(programme):
    plan = register(
        replace(PLAN, experiment="next", secondary=(QUICK,), surrogates={"visits": "spend"}),
        programme,
    )
    past = past_tests(programme, plan)
    assert set(past.priors) == {"spend", "visits"}
    assert past.priors["visits"].tests == 24
    assert past.surrogates["visits"].valid
    beliefs = {name: prior.belief() for name, prior in past.priors.items()}
    moments = _drawn(plan, 0.04)
    flat = readout(plan, moments, 2)
    shrunk = readout(plan, moments, 2, priors=beliefs, surrogates=past.surrogates)
    assert shrunk.long_term["reason"].iloc[0] == ""
    a, b = (one.row("visits", "treatment") for one in (flat, shrunk))
    assert a["effect"] == b["effect"]
    assert b["chance_to_win"] < a["chance_to_win"] or a["chance_to_win"] > 1 - 1e-6
    decide(shrunk)
    alone = past_tests(
        programme, replace(plan, secondary=(Metric.mean("new metric"),), surrogates={})
    )
    assert "new metric: a prior needs 5 past tests or more; got 0" in alone.notes


def test_exploratory_readings_teach_nothing(tmp_path):
    plan = register(PLAN, tmp_path)
    peek = _shown(plan, look=0)
    record_result(peek, decide(peek), tmp_path, "2025-03-20")
    assert past_effects(tmp_path).empty


def test_prospects_are_what_simulated_programmes_find():
    """Chance of a find: effects drawn from the belief, tests with noise, against the formula."""
    rng = np.random.default_rng(31)
    errors = np.full(40, 0.01)
    prior = effect_prior(rng.normal(0.0, 0.015, 40) + errors * rng.standard_normal(40), errors)
    table = prospects(0.03, 0.03 / (1.96 + 0.8416), prior).set_index("belief")
    assert table.loc["as planned", "found"] == pytest.approx(0.8, abs=1e-3)
    belief, error = prior.belief(), 0.03 / (1.96 + 0.8416)
    part = rng.choice(len(belief.weights), 200_000, p=np.array(belief.weights))
    truth = rng.normal(np.array(belief.means)[part], np.array(belief.sds)[part])
    seen = truth + error * rng.standard_normal(200_000)
    assert table.loc["past tests", "found"] == pytest.approx(
        (seen > 1.96 * error).mean(), abs=0.004
    )
    assert table.loc["past tests", "as_large"] == pytest.approx((truth > 0.03).mean(), abs=0.004)
    assert table.loc["past tests", "found"] < 0.3
    assert len(prospects(0.03, 0.01)) == 1


def test_a_registered_plan_is_found_by_its_name_and_the_registry_by_its_file(tmp_path):
    assert registered_plan("first", "") is None
    assert registered_plan("first", tmp_path) is None
    register(PLAN, tmp_path)
    assert registered_plan("first", tmp_path).sealed
    assert registered_plan("second", tmp_path) is None
    assert registry_root(str(tmp_path / "experiments.jsonl")) == str(tmp_path)
    assert registry_root("") == ""
    with pytest.raises(ContractError, match=r"a file called experiments\.jsonl; got 'tests'"):
        registry_root("tests")
    shown = _shown(registered_plan("first", tmp_path))
    said = record_result(shown, decide(shown), tmp_path)
    assert said == "1 row of look 2 at first: written to experiments.jsonl."
    written = (tmp_path / "experiments.jsonl").read_bytes()
    again = record_result(shown, decide(shown), tmp_path)
    assert again == "1 row of look 2 at first: in experiments.jsonl already."
    assert (tmp_path / "experiments.jsonl").read_bytes() == written
