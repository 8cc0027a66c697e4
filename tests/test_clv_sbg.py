"""sBG: contractual retention and what is left of a contract."""

import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import hyp2f1

from journeylab import clv
from journeylab.errors import ContractError, FitError

PUBLISHED = tomllib.loads(
    (Path(__file__).parent / "published" / "clv.toml").read_text(encoding="utf-8")
)["sbg"]
COVARIANCE = ((0.01, 0.0), (0.0, 0.01))
REGULAR = clv.SbgFit(0.704, 1.182, 0.0, 1, "year", COVARIANCE)
positive = st.floats(0.05, 20.0)


@pytest.fixture(scope="module")
def regular():
    return pd.DataFrame({"year": range(8), "alive": PUBLISHED["alive"]})


def test_sbg_reproduces_the_published_regular_cohort(regular):
    fit = clv.fit_sbg(regular)
    assert round(fit.alpha, 3) == PUBLISHED["alpha"]
    assert round(fit.beta, 3) == PUBLISHED["beta"]
    assert fit.n_customers == 1000
    assert fit.converged
    assert fit.identification == ""
    assert fit.survival(np.arange(8)) == pytest.approx(
        np.array(PUBLISHED["alive"]) / 1000, abs=0.02
    )


def test_fit_stands_at_a_maximum_of_the_likelihood_written_out(regular):
    fit, lost = clv.fit_sbg(regular), -np.diff(regular["alive"])

    def log_likelihood(alpha, beta):
        churn, total = alpha / (alpha + beta), 0.0
        survival = 1.0
        for year, n in enumerate(lost, start=1):
            total += n * np.log(churn)
            survival -= churn
            churn *= (beta + year - 1) / (alpha + beta + year)
        return total + regular["alive"].iloc[-1] * np.log(survival)

    assert log_likelihood(fit.alpha, fit.beta) == pytest.approx(fit.log_likelihood, rel=1e-12)
    for factor in (0.99, 1.01):
        assert log_likelihood(fit.alpha * factor, fit.beta) < fit.log_likelihood
        assert log_likelihood(fit.alpha, fit.beta * factor) < fit.log_likelihood


def test_standard_errors_are_those_of_the_curvature(regular):
    fit = clv.fit_sbg(regular)
    refits = [clv.fit_sbg(fit.sample_new(1_000, 7, seed)) for seed in range(60)]
    for name in ("alpha", "beta"):
        spread = np.std([refit.parameters[name] for refit in refits])
        assert fit.standard_errors[name] == pytest.approx(spread, rel=0.3)


def test_two_cohorts_are_one_likelihood(regular):
    short = regular.head(4)
    both = pd.concat([regular.assign(cohort="2019"), short.assign(cohort="2023")])
    twice = clv.fit_sbg(pd.concat([regular.assign(cohort=k) for k in "ab"]))
    one = clv.fit_sbg(regular)
    assert twice.parameters == pytest.approx(one.parameters, rel=1e-8)
    assert twice.n_customers == 2000
    shuffled = both.sample(frac=1, random_state=1).reset_index(drop=True)
    assert clv.fit_sbg(shuffled).parameters == clv.fit_sbg(both).parameters


@settings(max_examples=40, deadline=None)
@given(positive, positive, st.integers(0, 80))
def test_chances_add_up_and_survival_falls(alpha, beta, horizon):
    fit = clv.SbgFit(alpha, beta, 0.0, 1, "year", COVARIANCE)
    counts = np.arange(horizon + 2)
    chances = fit.pmf(counts, horizon)
    assert chances.sum() == pytest.approx(1, abs=1e-10)
    assert counts @ chances == pytest.approx(float(fit.expected_new(horizon)), rel=1e-9, abs=1e-12)
    survival = fit.survival(np.arange(50))
    assert survival[0] == 1
    assert (np.diff(survival) < 0).all()
    assert (survival > 0).all()
    years = np.arange(1, 50)
    assert fit.retention(years) == pytest.approx(survival[1:] / survival[:-1], rel=1e-10)
    assert (np.diff(fit.retention(years)) > 0).all()


@pytest.mark.parametrize("year", [0, 1, 5, 40])
@pytest.mark.parametrize("discount", [0.05, 0.1, 1.0])
def test_derl_equals_its_sum_and_the_printed_form(discount, year):
    """Fader & Hardie (2010), and a sum long enough to have ended."""
    alpha, beta = REGULAR.alpha, REGULAR.beta + year
    printed = beta / (alpha + beta) * hyp2f1(1, beta + 1, alpha + beta + 1, 1 / (1 + discount))
    ours = float(REGULAR.derl(discount, year))
    assert ours == pytest.approx(printed, rel=1e-10)
    later = np.arange(year + 1, year + 1000)
    survival = REGULAR.survival(later) / REGULAR.survival(year)
    assert ours == pytest.approx((survival / (1 + discount) ** (later - year - 1)).sum(), rel=1e-10)


def test_derl_grows_with_renewals_made():
    assert (np.diff(REGULAR.derl(0.1, np.arange(30))) > 0).all()
    for wrong in (0.0, -0.2, np.inf):
        with pytest.raises(ContractError, match="discount must be a finite rate above 0 per year"):
            REGULAR.derl(wrong, 0)


def test_expectations_equal_simulated_futures():
    frame = pd.DataFrame({"year": [0, 1, 4, 30]}, index=list("abcd"))
    futures = REGULAR.sample(frame, 10, 20_000, 3)
    expected = REGULAR.expected_purchases(frame, 10)
    error = futures.std(axis=1) / np.sqrt(20_000)
    assert (np.abs(futures.mean(axis=1) - expected) < 3.5 * error).all()
    assert expected.iloc[0] == pytest.approx(float(REGULAR.expected_new(10)))
    alive = REGULAR.p_alive(frame)
    assert alive.tolist() == pytest.approx(REGULAR.retention(frame["year"].to_numpy() + 1))
    assert (futures > 0).mean(axis=1) == pytest.approx(alive.to_numpy(), abs=0.015)


def test_parameters_are_recovered_within_their_standard_errors():
    fit = clv.fit_sbg(REGULAR.sample_new(50_000, 12, 7))
    for name, value in REGULAR.parameters.items():
        assert abs(fit.parameters[name] - value) < 3 * fit.standard_errors[name]
    assert fit.standard_errors["alpha"] < 0.03


def test_cohorts_that_say_too_little_are_refused_or_said(regular):
    with pytest.raises(FitError, match="0 of 10 customers cancelled within 2 renewals"):
        clv.fit_sbg(pd.DataFrame({"year": [0, 1, 2], "alive": 10}))
    with pytest.raises(FitError, match="within 1 renewals: two renewal dates are the least"):
        clv.fit_sbg(regular.head(2))
    # Everybody alike: the same share cancels each year, and only that share is known.
    alike = clv.fit_sbg(pd.DataFrame({"year": range(5), "alive": [1024, 512, 256, 128, 64]}))
    assert not alike.converged
    assert alike.weak == ("alpha", "beta")
    assert alike.survival(3) == pytest.approx(0.125, rel=1e-3)


@pytest.mark.parametrize(
    ("year", "alive", "complaint"),
    [
        ([0, 1, 3], [9, 8, 7], r"year must run 0, 1, 2, \.\.\. in each cohort; 1 of 3 .*rows 2"),
        ([1, 2, 3], [9, 8, 7], "year must run 0, 1, 2"),
        ([0, 1, 2], [9, 8, 9], "alive must not rise .*; 1 of 3 rows do not .rows 2"),
        ([0, 1, 2], [9, 8, -1], "alive must not be negative; 1 of 3"),
        ([0, 1, 2], [9, np.nan, 1], "alive must be a finite number; 1 of 3"),
    ],
)
def test_broken_cohorts_are_refused_with_the_rows(year, alive, complaint):
    with pytest.raises(ContractError, match=complaint):
        clv.fit_sbg(pd.DataFrame({"year": year, "alive": alive}))


def test_terms_are_whole_numbers():
    with pytest.raises(ContractError, match=r"year must be a whole number of renewals; got 1\.5"):
        REGULAR.survival(1.5)
    with pytest.raises(ContractError, match="year must be 1 or more"):
        REGULAR.retention(0)
    with pytest.raises(ContractError, match="horizon must be a whole number"):
        REGULAR.expected_new(0.5)
    with pytest.raises(ContractError, match="horizon must be a finite time"):
        REGULAR.pmf(1, np.nan)
    with pytest.raises(ContractError, match="year must be a whole number of renewals, 0 or more"):
        REGULAR.p_alive(pd.DataFrame({"year": [-1]}))
