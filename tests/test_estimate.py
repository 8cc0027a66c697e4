import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journeylab.errors import ContractError
from journeylab.estimate import Estimate, bootstrap, from_draws, mean_estimate, resampled


@pytest.mark.parametrize(
    ("numbers", "complaint"),
    [
        ((float("nan"), 0.0, 1.0), "must be finite"),
        ((2.0, 0.0, 1.0), "outside its own interval"),
        ((0.5, 0.0, float("inf")), "must be finite"),
    ],
)
def test_an_estimate_that_cannot_be_is_refused(numbers, complaint):
    with pytest.raises(ContractError, match=complaint):
        Estimate(*numbers, unit="share")


def test_level_must_be_a_share():
    with pytest.raises(ContractError, match=r"level must lie in \(0, 1\); got 95"):
        Estimate(1.0, 0.0, 2.0, "purchases", level=95)
    with pytest.raises(ContractError, match="level"):
        from_draws(1.0, [0.0, 2.0], "purchases", level=95)


def test_mean_interval_is_students():
    """1..5: mean 3, s = sqrt(2.5), t(0.975; 4) = 2.776445 (any t table)."""
    estimate = mean_estimate([1, 2, 3, 4, 5], "purchases")
    margin = 2.776445 * np.sqrt(2.5 / 5)
    assert (estimate.value, estimate.ci_low, estimate.ci_high) == pytest.approx(
        (3.0, 3 - margin, 3 + margin), abs=1e-6
    )


@pytest.mark.parametrize("values", [[], [1.0], [1.0, float("nan")]])
def test_a_mean_without_an_interval_is_refused(values):
    with pytest.raises(ContractError, match="two finite values or more"):
        mean_estimate(values, "purchases")


def test_bootstrap_agrees_with_students_interval_on_a_large_sample():
    values = np.random.default_rng(1).gamma(2.0, size=2000)
    ours, theirs = bootstrap(values, np.mean, "x", 2), mean_estimate(values, "x")
    width = theirs.ci_high - theirs.ci_low
    assert ours.value == theirs.value
    # The Monte Carlo error of a percentile from 1,000 draws is about 3 % of the width.
    assert ours.ci_low == pytest.approx(theirs.ci_low, abs=0.1 * width)
    assert ours.ci_high == pytest.approx(theirs.ci_high, abs=0.1 * width)


def test_bootstrap_interval_covers_as_often_as_it_says():
    rng = np.random.default_rng(3)
    hits = 0
    for _ in range(300):
        estimate = bootstrap(rng.normal(size=80), np.mean, "x", rng, draws=200, level=0.9)
        hits += estimate.ci_low <= 0 <= estimate.ci_high
    # Three binomial standard errors, and the known small-sample shortfall of percentiles.
    assert 0.83 <= hits / 300 <= 0.96


def test_bootstrap_depends_on_the_seed_alone():
    values = np.arange(50.0)
    assert bootstrap(values, np.median, "x", 5) == bootstrap(values, np.median, "x", 5)
    assert bootstrap(values, np.median, "x", 5) != bootstrap(values, np.median, "x", 6)


def test_resampling_keeps_a_customers_columns_together():
    rows = np.column_stack([np.arange(30.0), 3 * np.arange(30.0)])
    means = resampled(rows, lambda sample: sample.mean(axis=0), 7, draws=50)
    assert means.shape == (50, 2)
    assert means[:, 1] == pytest.approx(3 * means[:, 0])


def test_bootstrap_without_customers_is_refused():
    with pytest.raises(ContractError, match="0 customers"):
        bootstrap([], np.mean, "x", 1)


finite = st.floats(-1e6, 1e6)


@settings(max_examples=60, deadline=None)
@given(finite, st.lists(finite, min_size=1, max_size=30), st.floats(0.01, 0.99))
def test_an_interval_from_draws_always_holds_its_value(value, draws, level):
    estimate = from_draws(value, draws, "x", level)
    assert estimate.ci_low <= value <= estimate.ci_high
    assert estimate.ci_low >= min([value, *draws])
    assert estimate.ci_high <= max([value, *draws])
