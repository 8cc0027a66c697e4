"""Looks: planned ones by boundaries, unplanned ones by confidence sequences."""

import time
import tomllib
from math import log, sqrt
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multivariate_normal, norm

from journeylab.errors import ContractError
from journeylab.experiments.boundaries import (
    classical_boundaries,
    repeated_p,
    spending_boundaries,
)
from journeylab.experiments.confidence_sequences import (
    always_valid,
    always_valid_path,
    bernoulli_difference,
    bernoulli_sequence,
    mixing_precision,
    msprt,
    normal_mixture,
)
from journeylab.experiments.spending import SPENDINGS, spent

PUBLISHED = tomllib.loads(
    (Path(__file__).parent / "published" / "experiments_design.toml").read_text()
)
THIRDS = [1 / 3, 2 / 3, 1]


def test_pocock_reproduces_the_published_constants():
    for looks, constant in PUBLISHED["pocock"]["constants"].items():
        plan = classical_boundaries(int(looks), shape="pocock")
        assert plan.critical == pytest.approx([constant] * int(looks), abs=1e-5)


@pytest.mark.parametrize(("looks", "name"), [(3, "three"), (5, "five")])
def test_obrien_fleming_reproduces_the_published_boundaries(looks, name):
    found = classical_boundaries(looks).critical
    assert found == pytest.approx(PUBLISHED["obrien_fleming"][name], abs=1e-5)


@pytest.mark.parametrize("spending", ["obrien_fleming", "pocock"])
def test_lan_and_demets_reproduce_the_published_boundaries(spending):
    found = spending_boundaries(THIRDS, 0.025, sides=1, spending=spending)
    assert found.critical == pytest.approx(PUBLISHED["lan_demets"][spending], abs=1e-5)


def test_ten_looks_take_less_than_a_second():
    start = time.perf_counter()
    for spending in SPENDINGS:
        spending_boundaries([look / 10 for look in range(1, 11)], spending=spending)
    classical_boundaries(10)
    assert time.perf_counter() - start < 1


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.floats(0.02, 1.0), min_size=1, max_size=6, unique_by=lambda t: round(t, 2)),
    st.sampled_from(SPENDINGS),
    st.sampled_from([1, 2]),
    st.sampled_from([0.01, 0.05, 0.2]),
)
def test_any_looks_spend_exactly_what_the_function_says(times, spending, sides, alpha):
    """The boundaries, walked through again, are crossed as often as they are meant to be."""
    times = sorted(times)
    plan = spending_boundaries(times, alpha, sides=sides, spending=spending)
    assert plan.stopping().cumsum() == pytest.approx(plan.spent, rel=1e-7, abs=1e-12)
    whole = spending_boundaries([*times[:-1], 1.0], alpha, sides=sides, spending=spending)
    assert whole.spent[-1] == pytest.approx(alpha)


def test_the_walk_agrees_with_the_multivariate_normal():
    """Independent implementation: no crossing by look 3 as a rectangle's probability."""
    plan = spending_boundaries([0.2, 0.55, 1.0], 0.05)
    times, bound, drift = np.array(plan.information), np.array(plan.critical), 1.7
    cov = np.sqrt(np.minimum.outer(times, times) / np.maximum.outer(times, times))
    inside = multivariate_normal.cdf(
        bound, drift * np.sqrt(times), cov, lower_limit=-bound, abseps=1e-8, releps=1e-8
    )
    assert 1 - plan.power(drift) == pytest.approx(float(inside), abs=3e-6)


def test_the_first_and_only_look_is_the_fixed_test():
    plan = spending_boundaries([1.0])
    assert plan.critical[0] == pytest.approx(norm.isf(0.025), abs=1e-10)
    assert plan.inflation(0.8) == pytest.approx(1, abs=1e-9)
    assert repeated_p(1.7, [1.0]) == pytest.approx(2 * norm.sf(1.7), rel=1e-5)


def test_the_repeated_p_value_is_at_most_alpha_exactly_where_the_boundary_stops():
    times = [0.3, 0.6, 0.9]
    bound = spending_boundaries(times, 0.05).critical[-1]
    assert repeated_p(bound + 1e-4, times) < 0.05 < repeated_p(bound - 1e-4, times)
    assert repeated_p(-bound - 1e-4, times) < 0.05  # the other direction counts as well
    assert repeated_p(-3.0, times, sides=1) > 0.9


def test_a_last_look_with_less_information_still_spends_the_rest():
    short = spending_boundaries([0.5, 0.9], spent_at=[0.5, 1.0])
    assert short.spent[-1] == pytest.approx(0.05)
    assert short.stopping().sum() == pytest.approx(0.05, abs=1e-9)
    assert spending_boundaries([0.5, 0.9]).spent[-1] < 0.05


def test_five_looks_cost_about_one_point_of_power():
    """Type-I error and power of OBF-type looks in simulated trials; the published claim."""
    plan, trials = spending_boundaries([look / 5 for look in range(1, 6)]), 200_000
    drift = norm.isf(0.025) + norm.isf(0.2)
    rng = np.random.default_rng(8)
    steps = rng.standard_normal((trials, 5)) / sqrt(5)
    rates = []
    for shift in (0.0, drift):
        z = (steps + shift / 5).cumsum(axis=1) / np.sqrt(plan.information)
        rates.append(float((np.abs(z) >= plan.critical).any(axis=1).mean()))
    error = 3 * sqrt(0.25 / trials)
    assert rates[0] == pytest.approx(0.05, abs=error)
    assert rates[1] == pytest.approx(plan.power(drift), abs=error)
    assert 0.8 - plan.power(drift) == pytest.approx(0.01, abs=0.003)


def test_the_power_asked_for_is_the_power_found():
    plan = spending_boundaries(THIRDS, spending="pocock")
    assert plan.power(plan.drift(0.9)) == pytest.approx(0.9, abs=1e-9)
    assert plan.inflation(0.9) > spending_boundaries(THIRDS).inflation(0.9) > 1
    assert 0 < plan.expected_information(plan.drift(0.9)) < 1


def test_spending_functions_meet_alpha_at_the_end_and_hsd_lies_between_the_others():
    for spending in SPENDINGS:
        assert spent([0.5, 1.0], 0.025, spending)[-1] == pytest.approx(0.025)
    flat = spent([0.5], 0.05, "hwang_shih_decani", 0.0)
    assert flat == pytest.approx([0.025])
    assert spent([0.5], 0.05, "power", 1.0) == pytest.approx([0.025])


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ([], "one look or more"),
        ([0.5, 0.5, 1], "must increase"),
        ([0.0, 1.0], r"\(0, 1\]"),
        ([0.5, float("nan")], r"\(0, 1\]"),
        ([0.5, 0.5000001, 1.0], "too close"),
    ],
)
def test_information_times_out_of_order_are_refused(times, message):
    with pytest.raises(ContractError, match=message):
        spending_boundaries(times)


def _relative(control, treatment, rates=False):
    """Relative lift and its standard error by the linear delta method."""
    values = []
    for n, total, *squares in (control, treatment):
        mean = total / n
        variance = mean * (1 - mean) if rates else (squares[0] - total * mean) / (n - 1)
        values.append((mean, variance / n))
    (a, va), (b, vb) = values
    return b / a - 1, sqrt(vb / a**2 + va * b**2 / a**4)


@pytest.mark.parametrize("name", ["confidence_sequence", "confidence_sequence_rates"])
def test_confidence_sequences_reproduce_the_published_intervals(name):
    case = PUBLISHED[name]
    lift, error = _relative(case["control"], case["treatment"], rates=name.endswith("rates"))
    n = case["control"][0] + case["treatment"][0]
    found = always_valid(lift, error, n, tuning=case["tuning"])
    assert [found.low, found.high] == pytest.approx(case["interval"], abs=5e-6)


def test_the_normal_mixture_reproduces_the_published_values():
    case = PUBLISHED["normal_mixture"]
    one = normal_mixture(case["s"], case["v"], tuned_at=100, side="greater")
    two = normal_mixture(case["s"], case["v"], tuned_at=100)
    assert (one, two) == pytest.approx((case["one_sided"], case["two_sided"]), abs=5e-8)


def test_the_same_boundary_serves_gavi():
    """GAVI as printed: sqrt((n + r) / n^2 s^2 log((n + r) / (r alpha^2)))."""
    n, alpha, best, sd = 1234.0, 0.05, 700.0, 2.0
    r = best / (log(log(np.e / alpha**2)) - 2 * log(alpha))
    gavi = sqrt((n + r) / n**2 * sd**2 * log((n + r) / (r * alpha**2)))
    found = always_valid(0.0, sd / sqrt(n), n, alpha=alpha, tuning=best)
    assert found.high == pytest.approx(gavi, rel=1e-12)


def test_the_msprt_is_the_same_mixture_with_its_variance_fixed():
    n, error = 900.0, 0.04
    tau = error * sqrt(n * mixing_precision(0.05, 5000))
    fixed, tuned = msprt(0.1, error, tau), always_valid(0.1, error, n)
    assert (fixed.low, fixed.p) == pytest.approx((tuned.low, tuned.p), rel=1e-10)


@pytest.mark.parametrize("side", ["two-sided", "greater", "less"])
@settings(deadline=None)
@given(value=st.floats(-0.5, 0.5), n=st.integers(10, 100_000))
def test_the_p_value_is_alpha_exactly_at_the_end_of_the_interval(side, value, n):
    found = always_valid(value, 0.05, n, side=side)
    for end in (found.low, found.high):
        if np.isfinite(end):
            at_end = always_valid(value, 0.05, n, side=side, null=end)
            assert at_end.p == pytest.approx(0.05, rel=1e-9)


@pytest.mark.parametrize("side", ["two-sided", "greater"])
def test_a_thousand_looks_at_rates_raise_at_most_alpha_false_alarms(side):
    """2,000 A/A tests of a rate of 20 %, each looked at 1,000 times."""
    rng, tests, looks, batch = np.random.default_rng(4), 2000, 1000, 20
    alarms = 0
    n = batch * np.arange(1, looks + 1)
    for _ in range(tests // 500):
        a, b = (rng.binomial(batch, 0.2, (500, looks)).cumsum(axis=1) / n for _ in range(2))
        error = np.sqrt((a * (1 - a) + b * (1 - b)) / n)
        error[:, :2] = np.maximum(error[:, :2], 0.05)
        path = pd.DataFrame(
            {"value": (b - a).ravel(), "std_error": error.ravel(), "n": np.tile(2.0 * n, 500)}
        )
        found = always_valid_path(path, side=side)
        away = ((found["low"] > 0) | (found["high"] < 0)).to_numpy().reshape(500, looks)
        alarms += int(away.any(axis=1).sum())
    assert alarms / tests <= 0.05 + 3 * sqrt(0.05 * 0.95 / tests)


def test_bernoulli_sequences_cover_at_all_times_and_from_the_first_customer_on():
    """Exact: no normal approximation, so a rare event may be watched from one customer on."""
    rng, tests, looks, rate = np.random.default_rng(5), 300, 400, 0.02
    n = np.arange(1, looks + 1)
    missed = 0
    for _ in range(tests):
        low, high = bernoulli_sequence(rng.binomial(1, rate, looks).cumsum(), n)
        missed += bool(((low > rate) | (high < rate)).any())
    assert missed / tests <= 0.05 + 3 * sqrt(0.05 * 0.95 / tests)


def test_bernoulli_sequences_are_symmetric_and_hold_the_share_found():
    low, high = bernoulli_sequence([0, 3, 10], [10, 10, 10])
    other_low, other_high = bernoulli_sequence([10, 7, 0], [10, 10, 10])
    assert low == pytest.approx(1 - other_high, abs=1e-12)
    assert high == pytest.approx(1 - other_low, abs=1e-12)
    assert low[0] == 0
    assert high[2] == 1
    far = bernoulli_difference((100, 1000), (200, 1000))
    assert 0 < far[0] < 0.1 < far[1]


def test_a_path_keeps_what_all_looks_leave():
    looks = pd.DataFrame({"value": [0.3, 0.1], "std_error": [0.05, 0.03], "n": [100, 300]})
    path = always_valid_path(looks)
    assert path["kept_low"].iloc[1] == path["low"].max()
    assert path["p_running"].iloc[1] == path["p"].min()
    single = always_valid(0.1, 0.03, 300)
    assert path["low"].iloc[1] == pytest.approx(single.low, rel=1e-12)


@pytest.mark.parametrize("error", [0.0, float("nan"), -1.0])
def test_no_spread_is_refused_and_not_answered_with_nan(error):
    with pytest.raises(ContractError, match="standard error above 0"):
        always_valid(0.1, error, 100)
