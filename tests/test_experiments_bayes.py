"""Posteriors: chance to win, expected loss, equivalence."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import betaln
from scipy.stats import norm

from journeylab.errors import ContractError
from journeylab.experiments.posterior import (
    NormalMixture,
    NormalPosterior,
    beta_posterior,
    normal_posterior,
)


def _closed_form(control, treatment):
    """Chance that the treatment's rate is higher, as a finite sum (Miller 2014)."""
    (a, b), (c, d) = control, treatment
    i = np.arange(c)
    return np.exp(betaln(a + i, b + d) - np.log(d + i) - betaln(1 + i, d) - betaln(a, b)).sum()


@pytest.mark.parametrize(
    ("control", "treatment"),
    [((10, 100), (16, 100)), ((0, 20), (3, 20)), ((480, 1000), (520, 1000)), ((1, 5), (0, 7))],
)
def test_the_chance_to_win_is_the_closed_form(control, treatment):
    found = beta_posterior(control, treatment)
    assert found.chance_to_win() == pytest.approx(
        _closed_form(found.control, found.treatment), abs=1e-9
    )


def test_the_expected_loss_of_rates_matches_draws():
    found, rng = beta_posterior((10, 100), (13, 100)), np.random.default_rng(1)
    control, treatment = (rng.beta(*shape, 400_000) for shape in (found.control, found.treatment))
    lost = np.maximum(control - treatment, 0)
    error = 4 * lost.std() / 400_000**0.5
    assert found.expected_loss() == pytest.approx(lost.mean(), abs=error)
    gained = np.maximum(treatment - control, 0)
    assert found.expected_loss(lower_is_better=True) == pytest.approx(gained.mean(), abs=4e-4)
    below, inside, above = found.rope(-0.01, 0.01)
    assert below == pytest.approx((treatment - control < -0.01).mean(), abs=3e-3)
    assert below + inside + above == pytest.approx(1)
    ends = found.difference()
    assert [ends.ci_low, ends.ci_high] == pytest.approx(
        np.quantile(treatment - control, [0.025, 0.975]), abs=2e-3
    )


@settings(deadline=None)
@given(st.floats(-3, 3), st.floats(0.1, 5))
def test_loss_and_regret_differ_by_the_mean(mean, sd):
    found = NormalPosterior(mean, sd)
    assert found.expected_regret() - found.expected_loss() == pytest.approx(mean, abs=1e-9)
    assert found.expected_loss() >= 0
    assert found.chance_to_win() + found.chance_to_win(lower_is_better=True) == pytest.approx(1)


def test_the_expected_loss_without_a_difference_is_known():
    assert NormalPosterior(0, 2).expected_loss() == pytest.approx(2 / (2 * np.pi) ** 0.5)


def test_a_prior_pulls_the_estimate_by_its_weight():
    found = normal_posterior(0.10, 0.02, NormalPosterior(0.0, 0.01))
    assert found.mean == pytest.approx(0.10 * 0.0001 / (0.0001 + 0.0004))
    assert found.sd == pytest.approx((1 / (1 / 0.0001 + 1 / 0.0004)) ** 0.5)
    assert normal_posterior(0.1, 0.02).mean == 0.1


def test_many_customers_agree_with_the_normal_posterior():
    found = beta_posterior((1_396_000, 3_000_000), (1_397_000, 3_000_000)).difference()
    rates = np.array([1_396_000, 1_397_000]) / 3_000_000
    error = (rates * (1 - rates) / 3_000_000).sum() ** 0.5
    normal = normal_posterior(rates[1] - rates[0], error).interval("share")
    assert found.ci_low == pytest.approx(normal.ci_low, abs=0.001 * error)


def test_impossible_counts_and_spreads_are_refused():
    with pytest.raises(ContractError, match="treatment: 5 successes of 4"):
        beta_posterior((1, 2), (5, 4))
    with pytest.raises(ContractError, match="sd above 0"):
        normal_posterior(0.1, 0.0)
    with pytest.raises(ContractError, match="low < high"):
        NormalPosterior(0, 1).rope(0.1, -0.1)


def test_a_mixture_is_what_draws_from_its_parts_are():
    mixture = NormalMixture((0.3, 0.7), (-0.02, 0.05), (0.01, 0.03))
    rng = np.random.default_rng(4)
    part = rng.random(400_000) < 0.3
    drawn = np.where(part, rng.normal(-0.02, 0.01, part.size), rng.normal(0.05, 0.03, part.size))
    assert mixture.mean == pytest.approx(drawn.mean(), abs=4 * drawn.std() / 632)
    assert mixture.sd == pytest.approx(drawn.std(), rel=0.01)
    assert mixture.chance_above(0.01) == pytest.approx((drawn > 0.01).mean(), abs=0.004)
    assert mixture.expected_loss() == pytest.approx(np.maximum(-drawn, 0).mean(), rel=0.02)
    ends = mixture.interval("share")
    assert (ends.ci_low, ends.ci_high) == pytest.approx(
        tuple(np.quantile(drawn, [0.025, 0.975])), abs=6e-4
    )


def test_a_mixture_is_updated_by_bayes_and_one_part_is_the_normal_rule():
    """Against the posterior on a grid."""
    mixture = NormalMixture((0.4, 0.6), (0.0, 0.03), (0.005, 0.04))
    after = mixture.updated(0.02, 0.015)
    grid = np.linspace(-0.3, 0.4, 40_001)
    prior = 0.4 * norm.pdf(grid, 0.0, 0.005) + 0.6 * norm.pdf(grid, 0.03, 0.04)
    mass = prior * norm.pdf(0.02, grid, 0.015)
    mass /= mass.sum()
    assert after.mean == pytest.approx(float(mass @ grid), abs=1e-7)
    assert after.chance_above(0.01) == pytest.approx(float(mass[grid > 0.01].sum()), abs=1e-4)
    alone = NormalMixture((1.0,), (0.01,), (0.02,)).updated(0.05, 0.01)
    known = normal_posterior(0.05, 0.01, NormalPosterior(0.01, 0.02))
    assert (alone.mean, alone.sd) == pytest.approx((known.mean, known.sd))
    assert after.scaled(2.0, 1.0).mean == pytest.approx(2 * after.mean + 1)
    with pytest.raises(ContractError, match="add up to 1"):
        NormalMixture((0.4, 0.4), (0.0, 0.0), (1.0, 1.0))
