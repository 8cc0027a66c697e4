"""BG/BB: purchases at discrete opportunities."""

import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journeylab import clv, datasets
from journeylab.clv import bg_bb
from journeylab.errors import ContractError, FitError

PUBLISHED = tomllib.loads(
    (Path(__file__).parent / "published" / "clv.toml").read_text(encoding="utf-8")
)["bg_bb"]
COVARIANCE = tuple(map(tuple, (0.01 * np.eye(4)).tolist()))
DONORS = clv.BgBbFit(1.204, 0.75, 0.657, 2.783, 0.0, 1, "year", COVARIANCE)
positive = st.floats(0.05, 20.0)


@pytest.fixture(scope="module")
def cells():
    return pd.read_csv(datasets.cells_file("donations")).rename(
        columns={"periods": "opportunities", "weights": "customers"}
    )


@pytest.fixture(scope="module")
def fit(cells):
    return clv.fit_bg_bb(cells)


def test_bg_bb_reproduces_the_published_donations_fit(fit):
    for name, value in fit.parameters.items():
        assert round(value, 3) == PUBLISHED[name]
    assert round(fit.log_likelihood, 1) == PUBLISHED["log_likelihood"]
    assert fit.n_customers == PUBLISHED["customers"]
    assert fit.converged
    assert fit.identification == ""
    assert fit.aic == pytest.approx(2 * 33225.58 + 8, abs=0.01)


def test_cells_and_donors_give_one_fit(cells, fit):
    donors = cells.loc[cells.index.repeat(cells["customers"])].drop(columns="customers")
    assert clv.fit_bg_bb(donors.sample(frac=1, random_state=1)).parameters == fit.parameters


def test_gradient_and_hessian_equal_finite_differences(cells):
    columns = [cells[c].to_numpy(float) for c in ("frequency", "recency", "opportunities")]
    of, terms = cells["customers"].to_numpy(float), bg_bb._Terms(*columns)
    natural = np.array([0.9, 1.4, 0.5, 3.0])
    _, gradient, hessian = terms.log_likelihood(natural, of)
    for k in range(4):
        step = np.zeros(4)
        step[k] = 1e-5
        up, down = (terms.log_likelihood(natural + s, of) for s in (step, -step))
        assert gradient[k] == pytest.approx((up[0] - down[0]) / 2e-5, rel=1e-6)
        slope = (up[1] - down[1]) / 2e-5
        assert hessian[k] == pytest.approx(slope, rel=1e-6, abs=1e-6 * np.abs(hessian).max())


def test_expected_purchases_and_p_alive_equal_the_closed_forms(cells, fit):
    """Fader, Hardie & Shang (2010), with Gamma functions."""
    from scipy.special import betaln, gammaln

    alpha, beta, gamma, delta = fit.parameters.values()
    x, t_x, n = (cells[c].to_numpy(float) for c in ("frequency", "recency", "opportunities"))
    terms = bg_bb._Terms(x, t_x, n)
    log_l = terms.log_sums(terms.logs(np.array([alpha, beta, gamma, delta])))
    buys = betaln(alpha + x, beta + n - x) - betaln(alpha, beta)
    alive = np.exp(buys + betaln(gamma, delta + n + 1) - betaln(gamma, delta) - log_l)
    assert fit.p_alive(cells).to_numpy() == pytest.approx(alive, rel=1e-11)
    more = np.exp(betaln(alpha + x + 1, beta + n - x) - betaln(alpha, beta) - log_l)
    head = delta / (gamma - 1) * np.exp(gammaln(gamma + delta) - gammaln(1 + delta))
    late, early = (np.exp(gammaln(1 + delta + m) - gammaln(gamma + delta + m)) for m in (n + 5, n))
    printed = more * head * (early - late)
    assert fit.expected_purchases(cells, 5).to_numpy() == pytest.approx(printed, rel=1e-9)
    # The next five years of who gave every year, and of who never gave again.
    five = fit.expected_purchases(cells, 5).round(2)
    assert (five.iloc[-1], five.iloc[0]) == (3.75, 0.07)


@settings(max_examples=40, deadline=None)
@given(st.tuples(positive, positive, positive, positive), st.integers(0, 60))
def test_chances_of_counts_add_up_to_one_and_their_mean_is_the_expectation(parameters, horizon):
    fit = clv.BgBbFit(*parameters, 0.0, 1, "year", COVARIANCE)
    counts = np.arange(horizon + 3)
    chances = fit.pmf(counts, horizon)
    assert chances.sum() == pytest.approx(1, abs=1e-10)
    assert (chances[horizon + 1 :] == 0).all()
    assert counts @ chances == pytest.approx(float(fit.expected_new(horizon)), rel=1e-9, abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(st.tuples(positive, positive, positive, positive), st.integers(1, 40), st.data())
def test_chances_are_chances_and_expectations_grow(parameters, n, data):
    t_x = data.draw(st.integers(0, n))
    x = data.draw(st.integers(1, t_x)) if t_x else 0
    frame = pd.DataFrame({"frequency": [x], "recency": [t_x], "opportunities": [n]})
    fit = clv.BgBbFit(*parameters, 0.0, 1, "year", COVARIANCE)
    assert 0 < fit.p_alive(frame).iloc[0] <= 1
    near, far = (fit.expected_purchases(frame, t).iloc[0] for t in (3, 2600))
    assert 0 <= near <= far < 2600
    assert fit.expected_purchases(frame, 0).iloc[0] == 0


def test_expectations_equal_simulated_futures_and_newcomers(cells):
    draws = 20_000
    few = cells.iloc[[0, 3, 7, 12, 20, 21]]
    futures = DONORS.sample(few, 5, draws, 3)
    error = np.maximum(futures.std(axis=1) / np.sqrt(draws), 1e-4)
    gap = futures.mean(axis=1) - DONORS.expected_purchases(few, 5).to_numpy()
    assert (np.abs(gap) < 3.5 * error).all()
    newcomers = DONORS.sample_new(np.full(100_000, 6), 4)["frequency"]
    chances = DONORS.pmf(np.arange(7), 6)
    seen = newcomers.value_counts(normalize=True).reindex(range(7)).to_numpy()
    assert (np.abs(seen - chances) < 3.5 * np.sqrt(chances / 100_000)).all()


def test_parameters_are_recovered_within_their_standard_errors():
    fit = clv.fit_bg_bb(DONORS.sample_new(np.repeat([6, 10, 20], 4_000), 2))
    for name, value in DONORS.parameters.items():
        assert abs(fit.parameters[name] - value) < 3 * fit.standard_errors[name]
    assert fit.standard_errors["alpha"] < 0.1


def test_runaway_parameters_are_said():
    same = pd.DataFrame({"frequency": [3], "recency": 5, "opportunities": 6, "customers": 100})
    fit = clv.fit_bg_bb(same)
    assert not fit.converged
    assert "Weakly identified" in fit.identification
    assert np.isfinite(fit.summary()[["value", "standard_error"]].to_numpy()).all()


@pytest.mark.parametrize(
    ("column", "wrong", "complaint"),
    [
        ("recency", 7, r"recency must lie in \[0, opportunities\]; 1 of 22 rows"),
        ("frequency", 1.5, "frequency must be a whole number of opportunities, 0 or more; 1 of"),
        ("opportunities", -1, "opportunities must be a whole number"),
        ("frequency", 6, r"frequency must lie in \[1, recency\], or be 0 where recency is 0; 1"),
        ("frequency", 0, "or be 0 where recency is 0; 1 of 22 rows"),
        ("recency", np.nan, "recency must be a finite number; 1 of 22 rows"),
        ("customers", 0, "customers must be above 0; 1 of 22 rows"),
    ],
)
def test_broken_histories_are_refused_with_the_rows(cells, column, wrong, complaint):
    broken = cells.astype(float)
    broken.loc[3, column] = wrong
    with pytest.raises(ContractError, match=complaint):
        clv.fit_bg_bb(broken)


def test_data_that_say_nothing_are_refused(cells):
    with pytest.raises(FitError, match="0 of 3,464 customers used an opportunity"):
        clv.fit_bg_bb(cells[cells["frequency"] == 0])
    with pytest.raises(FitError, match="missed an opportunity"):
        clv.fit_bg_bb(cells[cells["frequency"] == 6])
    with pytest.raises(ContractError, match="no rows"):
        clv.fit_bg_bb(cells.head(0))
    with pytest.raises(ContractError, match=r"whole number of opportunities; got 2\.5"):
        DONORS.expected_purchases(cells, 2.5)
