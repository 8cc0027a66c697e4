"""The programme: the registry, what past tests teach, what all of them brought."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from journeylab.errors import ContractError, FitError
from journeylab.estimate import Estimate, Metric, moments_of_frame
from journeylab.experiments.decision import decide
from journeylab.experiments.plan import TestPlan
from journeylab.experiments.posterior import NormalPosterior
from journeylab.experiments.programme import (
    cumulative_impact,
    effect_prior,
    flat_and_shrunken,
    next_test,
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
