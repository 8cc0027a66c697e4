import csv
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import hyp2f1

from journeylab import clv, frames
from journeylab.clv.bg_nbd import BgNbdFit
from journeylab.clv.gamma_gamma import GammaGammaFit
from journeylab.clv.leaving import while_alive as _while_alive
from journeylab.errors import ContractError, FitError
from journeylab.estimate import Estimate
from journeylab.tables import collect, open_tables

PUBLISHED_FOLDER = Path(__file__).parent / "published"
PUBLISHED = tomllib.loads((PUBLISHED_FOLDER / "clv.toml").read_text(encoding="utf-8"))


def purchases_model(r, alpha, a, b, unit="week"):
    covariance = tuple(map(tuple, 0.01 * np.eye(4)))
    return BgNbdFit(r, alpha, a, b, 0.0, 1, unit, covariance)


CDNOW = purchases_model(0.243, 4.414, 0.793, 2.426)


@pytest.fixture(scope="module")
def cdnow():
    return open_tables("cdnow")


@pytest.fixture(scope="module")
def cells(cdnow):
    return collect(frames.histories(cdnow, "1997-09-30"))


@pytest.fixture(scope="module")
def customers(cdnow):
    return collect(frames.customer_histories(cdnow, "1997-09-30"))


@pytest.fixture(scope="module")
def later(cdnow):
    return collect(frames.holdout(cdnow, "1997-09-30", "1998-06-30"))


@pytest.fixture(scope="module")
def purchase_fit(cells):
    return clv.fit_bg_nbd(cells)


@pytest.fixture(scope="module")
def spend_fit(customers):
    return clv.fit_gamma_gamma(clv.repeat_spend(customers))


@pytest.fixture(scope="module")
def worth(customers, purchase_fit, spend_fit):
    return clv.value(
        customers, purchase_fit, spend_fit, 273, 7, annual_discount=0.1, draws=200, currency="USD"
    )


# Published numbers


def test_bg_nbd_reproduces_the_published_cdnow_fit(purchase_fit):
    printed = PUBLISHED["bg_nbd"]
    for name, value in purchase_fit.parameters.items():
        assert round(value, 3) == printed[name]
    assert round(purchase_fit.log_likelihood, 1) == printed["log_likelihood"]
    assert purchase_fit.log_likelihood == pytest.approx(printed["raw_log_likelihood"], abs=5e-5)
    assert purchase_fit.n_customers == 2357
    assert purchase_fit.converged
    assert purchase_fit.weak == ()
    assert purchase_fit.aic == pytest.approx(2 * 9582.4292 + 8, abs=1e-3)


def test_mbg_nbd_reproduces_the_published_cdnow_fit(cells):
    fit, printed = clv.fit_mbg_nbd(cells), PUBLISHED["mbg_nbd"]
    assert {name: round(value, 3) for name, value in fit.parameters.items()} == printed
    assert fit.converged


def test_pareto_nbd_reproduces_the_published_cdnow_fit(cells):
    fit, printed = clv.fit_pareto_nbd(cells), PUBLISHED["pareto_nbd"]
    for name, value in fit.parameters.items():
        assert round(value, 3) == printed[name]
    assert round(fit.log_likelihood, 1) == printed["log_likelihood"]
    assert fit.converged
    assert fit.identification == ""


def test_gamma_gamma_reproduces_the_published_cdnow_fit(spend_fit):
    printed = PUBLISHED["gamma_gamma"]
    for name, value in spend_fit.parameters.items():
        assert round(value, 2) == printed[name]
    assert spend_fit.n_customers == printed["repeat_customers"]
    assert spend_fit.converged


def test_spend_and_frequency_correlate_on_cdnow_as_published(customers):
    r = clv.spend_correlation(clv.repeat_spend(customers))
    assert round(r.value, 2) == PUBLISHED["gamma_gamma"]["correlation"]
    assert r.ci_low < r.value < r.ci_high


# Numerics


def stress_grid():
    with (PUBLISHED_FOLDER / "bg_nbd_expected_purchases.csv").open(encoding="utf-8") as file:
        return pd.DataFrame([{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)])


def test_expected_purchases_hold_to_1e_10_where_the_printed_form_fails():
    """Against 80-digit mpmath, up to 20,000 purchases; scipy's 2F1 fails on many of these."""
    grid = stress_grid()
    got = [
        _while_alive(np.array([x]), np.array([t / (alpha + T)]), r, a, b)[0]
        for r, alpha, a, b, x, T, t, _ in grid.itertuples(index=False)
    ]
    assert len(grid) == 538
    assert np.max(np.abs(np.array(got) / grid["expected"] - 1)) < 1e-10


def test_expected_purchases_equal_the_printed_equation(purchase_fit, customers):
    """Fader, Hardie & Lee (2005), equation 10, where 2F1 can still be trusted."""
    x, t_x, T = (customers[c].to_numpy(float) for c in ("frequency", "recency", "age"))
    r, alpha, a, b = purchase_fit.parameters.values()
    t = 39.0
    bracket = 1 - ((alpha + T) / (alpha + T + t)) ** (r + x) * hyp2f1(
        r + x, b + x, a + b + x - 1, t / (alpha + T + t)
    )
    dead = a / (b + np.maximum(x, 1) - 1) * ((alpha + T) / (alpha + t_x)) ** (r + x)
    printed = (a + b + x - 1) / (a - 1) * bracket / (1 + (x > 0) * dead)
    ours = purchase_fit.expected_purchases(customers, t)
    assert ours.to_numpy() == pytest.approx(printed, rel=1e-9)
    assert list(ours.index) == list(customers.index)


def test_gamma_gamma_stands_at_a_maximum_of_the_printed_likelihood(customers, spend_fit):
    """Equation 1a written out with logs; no nearby parameters do better."""
    from scipy.special import gammaln

    spend = clv.repeat_spend(customers)
    x, z = spend["frequency"].to_numpy(float), spend["monetary_value"].to_numpy(float)

    def log_likelihood(p, q, gamma):
        return np.sum(
            gammaln(p * x + q) - gammaln(p * x) - gammaln(q) + q * np.log(gamma)
            + (p * x - 1) * np.log(z) + p * x * np.log(x) - (p * x + q) * np.log(gamma + x * z)
        )  # fmt: skip

    best = np.array(list(spend_fit.parameters.values()))
    assert log_likelihood(*best) == pytest.approx(spend_fit.log_likelihood, rel=1e-12)
    for k in range(3):
        for factor in (0.99, 1.01):
            moved = best.copy()
            moved[k] *= factor
            assert log_likelihood(*moved) < spend_fit.log_likelihood


def test_gamma_gamma_gradient_and_hessian_equal_finite_differences():
    from journeylab.clv.gamma_gamma import _log_likelihood

    rng = np.random.default_rng(1)
    x = np.sort(rng.geometric(0.3, 200)).astype(float)
    function = _log_likelihood(x, rng.gamma(3.0, 10.0, 200), rng.integers(1, 4, 200).astype(float))
    logs = np.log([5.0, 3.0, 20.0])
    _, gradient, hessian = function(logs)
    for k in range(3):
        step = np.zeros(3)
        step[k] = 1e-5
        up, down = function(logs + step), function(logs - step)
        assert gradient[k] == pytest.approx((up[0] - down[0]) / 2e-5, rel=1e-6, abs=1e-4)
        assert hessian[k] == pytest.approx((up[1] - down[1]) / 2e-5, rel=1e-6, abs=1e-4)


def test_spend_cells_count_like_the_customers_they_stand_for(customers, spend_fit):
    spend = clv.repeat_spend(customers)[["frequency", "monetary_value"]]
    cells = spend.value_counts().rename("customers").reset_index()
    assert len(cells) < len(spend)
    fit = clv.fit_gamma_gamma(cells)
    assert fit.parameters == pytest.approx(spend_fit.parameters, rel=1e-9)
    assert fit.n_customers == spend_fit.n_customers


def test_many_spend_rows_reach_the_maximum_of_all():
    truth = GammaGammaFit(6.25, 3.74, 15.44, 0.0, 1, tuple(map(tuple, 0.01 * np.eye(3))))
    rng = np.random.default_rng(2)
    spend = truth.sample_new(rng.geometric(0.3, 30_000), rng)
    fit = clv.fit_gamma_gamma(spend)
    for name, value in truth.parameters.items():
        assert abs(fit.parameters[name] - value) < 3 * fit.standard_errors[name]
    from journeylab.clv.gamma_gamma import _log_likelihood

    x, z = spend.sort_values("frequency").to_numpy(float).T
    value, gradient, _ = _log_likelihood(x, z, np.ones(len(x)))(
        np.log(list(fit.parameters.values()))
    )
    assert value == pytest.approx(fit.log_likelihood, rel=1e-12)
    assert np.abs(gradient).max() < 1e-3


def test_heavy_buyers_give_finite_answers(purchase_fit, spend_fit):
    heavy = pd.DataFrame(
        {
            "customer_id": ["a", "b", "c", "d"],
            "frequency": [200, 5_000, 5_000, 20_000],
            "recency": [70.0, 1.0, 70.0, 77.9],
            "age": [78.0, 78.0, 78.0, 78.0],
            "monetary_value": [0.01, 1e6, 20.0, 5.0],
        }
    )
    alive = purchase_fit.p_alive(heavy)
    assert alive.between(0, 1, inclusive="right").all()
    for horizon in (0.0, 39.0, 50 * 52.0):
        assert np.isfinite(purchase_fit.expected_purchases(heavy, horizon)).all()
    result = clv.value(heavy, purchase_fit, spend_fit, 18_250, 1, draws=20)
    assert np.isfinite(result.customers.drop(columns="customer_id").to_numpy(float)).all()


def test_fit_survives_heavy_buyers(customers):
    heavy = pd.DataFrame({"frequency": [3_000, 900], "recency": [38.0, 20.0], "age": [38.5, 38.5]})
    fit = clv.fit_bg_nbd(pd.concat([customers, heavy]))
    assert fit.converged
    assert np.isfinite(list(fit.standard_errors.values())).all()


# The fit's own sample


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_parameters_are_recovered_from_the_models_own_customers(seed):
    truth = purchases_model(0.6, 6.0, 0.9, 2.5)
    # One generator for both: two from one seed would tie ages to rates.
    rng = np.random.default_rng(seed)
    fit = clv.fit_bg_nbd(truth.sample_new(rng.uniform(20, 80, 6000), rng))
    for name, value in truth.parameters.items():
        assert abs(fit.parameters[name] - value) < 3 * fit.standard_errors[name]
    # A standard error that is too wide would make the line above empty.
    assert fit.standard_errors["r"] < 0.05


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_spend_parameters_are_recovered(seed):
    truth = GammaGammaFit(6.25, 3.74, 15.44, 0.0, 1, tuple(map(tuple, 0.01 * np.eye(3))))
    rng = np.random.default_rng(seed)
    fit = clv.fit_gamma_gamma(truth.sample_new(rng.geometric(0.3, 4000), rng))
    for name, value in truth.parameters.items():
        assert abs(fit.parameters[name] - value) < 3 * fit.standard_errors[name]
    assert fit.mean == pytest.approx(truth.mean, rel=0.03)


def test_expected_spend_is_a_weighted_mean_of_own_and_all_customers(spend_fit):
    p, q, _ = spend_fit.parameters.values()
    histories = pd.DataFrame({"frequency": [0, 1, 50], "monetary_value": [np.nan, 100.0, 100.0]})
    own = p * histories["frequency"] / (p * histories["frequency"] + q - 1)
    expected = own * 100 + (1 - own) * spend_fit.mean
    assert spend_fit.expected_spend(histories).to_numpy() == pytest.approx(expected.to_numpy())


# Laws


def test_cells_and_customers_give_one_fit(purchase_fit, customers):
    fit = clv.fit_bg_nbd(customers)
    assert fit.log_likelihood == pytest.approx(purchase_fit.log_likelihood, abs=1e-6)
    assert list(fit.parameters.values()) == pytest.approx(
        list(purchase_fit.parameters.values()), rel=1e-5
    )


def test_days_for_weeks_change_alpha_by_seven_and_the_likelihood_by_its_jacobian(
    cdnow, cells, customers, purchase_fit
):
    fit = clv.fit_bg_nbd(collect(frames.histories(cdnow, "1997-09-30", "day")), "day")
    assert fit.alpha == pytest.approx(7 * purchase_fit.alpha, rel=1e-4)
    assert (fit.r, fit.a, fit.b) == pytest.approx(
        (purchase_fit.r, purchase_fit.a, purchase_fit.b), rel=1e-4
    )
    repeats = (cells["frequency"] * cells["customers"]).sum()
    shift = -repeats * np.log(7)
    assert fit.log_likelihood == pytest.approx(purchase_fit.log_likelihood + shift, abs=1e-4)
    in_days = customers.assign(recency=7 * customers["recency"], age=7 * customers["age"])
    assert fit.expected_purchases(in_days, 273.0).to_numpy() == pytest.approx(
        purchase_fit.expected_purchases(customers, 39.0).to_numpy(), rel=1e-3
    )


def test_cents_for_dollars_change_gamma_by_a_hundred(customers, spend_fit):
    spend = clv.repeat_spend(customers)
    fit = clv.fit_gamma_gamma(spend.assign(monetary_value=100 * spend["monetary_value"]))
    assert (fit.p, fit.q, fit.gamma) == pytest.approx(
        (spend_fit.p, spend_fit.q, 100 * spend_fit.gamma), rel=1e-4
    )


def test_nothing_given_is_changed(customers, purchase_fit, spend_fit):
    before = customers.copy()
    clv.value(customers, purchase_fit, spend_fit, 30, 1, draws=20)
    clv.fit_bg_nbd(customers)
    clv.repeat_spend(customers)
    pd.testing.assert_frame_equal(customers, before)


# Bad input


@pytest.mark.parametrize(
    ("column", "wrong", "complaint"),
    [
        ("recency", 99.0, r"recency must lie in \[0, age\]; 2 of 8 rows do not \(rows 2, 5\)"),
        ("frequency", -1, "must not be negative; 2 of 8 rows"),
        ("frequency", 1.5, "whole number of repeat purchases; 2 of 8"),
        ("age", np.nan, "age must be a finite number; 2 of 8"),
        ("age", np.inf, "age must be a finite number; 2 of 8"),
        ("customers", 0, "customers must be above 0; 2 of 8"),
    ],
)
def test_broken_histories_are_refused_with_the_rows(column, wrong, complaint):
    histories = pd.DataFrame(
        {"frequency": 2.0, "recency": 5.0, "age": 10.0, "customers": 1.0}, index=range(8)
    )
    histories.loc[[2, 5], column] = wrong
    with pytest.raises(ContractError, match=complaint):
        clv.fit_bg_nbd(histories)


def test_refusals_name_customers_where_there_are_any(purchase_fit):
    histories = pd.DataFrame(
        {"customer_id": ["x7", "x8"], "frequency": [1, 1], "recency": [9.0, 1.0], "age": 2.0}
    )
    with pytest.raises(ContractError, match="customers x7"):
        purchase_fit.p_alive(histories)


def test_recency_without_a_repeat_purchase_is_refused():
    histories = pd.DataFrame({"frequency": [0, 3], "recency": [4.0, 4.0], "age": 9.0})
    with pytest.raises(ContractError, match="0 where frequency is 0; 1 of 2"):
        clv.fit_bg_nbd(histories)


def test_a_missing_column_is_named(customers):
    with pytest.raises(ContractError, match="recency not among"):
        clv.fit_bg_nbd(customers.drop(columns="recency"))


def test_no_customers_and_no_repeat_purchases_are_told_apart(customers):
    with pytest.raises(ContractError, match="no customer had bought"):
        clv.fit_bg_nbd(customers.head(0))
    once = customers[customers["frequency"] == 0]
    with pytest.raises(FitError, match="0 of 1,411 customers bought on a second day"):
        clv.fit_bg_nbd(once)


def test_spend_of_one_purchase_customers_and_of_returners_is_refused(customers):
    with pytest.raises(ContractError, match="1411 of 2357 rows"):
        clv.fit_gamma_gamma(customers)
    spend = clv.repeat_spend(customers).copy()
    spend.iloc[[3, 9], spend.columns.get_loc("monetary_value")] = [-5.0, 0.0]
    with pytest.raises(ContractError, match=r"above 0; 2 of 946 rows .*repeat_spend"):
        clv.fit_gamma_gamma(spend)
    assert len(clv.repeat_spend(spend)) == 944


def test_constant_spend_is_refused():
    spend = pd.DataFrame({"frequency": [1, 2, 3, 4], "monetary_value": 10.0})
    with pytest.raises(FitError, match="4 repeat customers with mean spend 10 to 10"):
        clv.fit_gamma_gamma(spend)


def test_infinite_mean_spend_is_refused():
    rng = np.random.default_rng(1)
    spend = pd.DataFrame({"frequency": 3, "monetary_value": rng.pareto(0.7, 500) + 0.01})
    with pytest.raises(FitError, match="mean spend is infinite"):
        clv.fit_gamma_gamma(spend)


# Holdout


def test_periods_of_cdnow_are_the_papers_without_being_told(cdnow):
    firsts = collect(frames.first_purchases(cdnow, "9999-12-31"))
    repeats = collect(frames.repeat_purchases(cdnow, "9999-12-31"))
    days = clv.periods(firsts, repeats)
    assert (days.first, days.as_of, days.until, days.last) == (
        "1997-01-01",
        "1997-09-30",
        "1998-06-30",
        "1998-06-30",
    )
    assert (days.rank_on, days.holdout_days, days.horizon_days) == ("1998-06-30", 273, 273)
    short = clv.periods(firsts, repeats, as_of="1998-05-31", horizon_days=90)
    assert (short.rank_on, short.before) == ("1998-05-31", "1998-05-01")
    assert (short.holdout_days, short.horizon_days) == (30, 90)
    for as_of in ("1996-12-31", "1998-06-30", "30.9.1997"):
        with pytest.raises(ContractError, match="as_of must"):
            clv.periods(firsts, repeats, as_of=as_of)


@pytest.fixture(scope="module")
def forecast(cdnow, customers, purchase_fit):
    earlier = collect(frames.holdout(cdnow, "1996-12-31", "1997-09-30"))
    return clv.forecasts(customers, earlier, purchase_fit, 273)


def test_holdout_table_on_cdnow(forecast, later, customers):
    table = clv.compare(forecast, later, 7, draws=400).set_index("model")
    assert (table["actual"] == 1882).all()
    assert table.loc["last period", "purchases"] == customers["frequency"].sum() == 2457
    rate = (customers["frequency"] / customers["age"] * 39).sum()
    assert table.loc["individual rate", "purchases"] == pytest.approx(rate)
    gap = forecast["BG/NBD"] - later["purchase_days"]
    assert table.loc["BG/NBD", "rmse"] == pytest.approx(np.sqrt((gap**2).mean()))
    assert table.loc["BG/NBD", "bias_percent"] == pytest.approx(100 * gap.sum() / 1882)
    # Better than both rules by more than chance, and too low by more than chance.
    assert (table.loc[["individual rate", "last period"], "rmse_gain_low"] > 0).all()
    assert table.loc["BG/NBD", "bias_percent_high"] < 0
    assert not table.isna().any(axis=None)


def test_last_period_counts_only_its_own_days(cdnow):
    known = collect(frames.customer_histories(cdnow, "1998-03-31"))
    earlier = collect(frames.holdout(cdnow, "1997-12-31", "1998-03-31"))
    forecast = clv.forecasts(known, earlier, CDNOW, 90)
    assert forecast["last period"].to_numpy() == pytest.approx(earlier["purchase_days"].to_numpy())


def test_verdict_says_who_wins_and_who_does_not():
    table = pd.DataFrame(
        {
            "model": ["BG/NBD", "better", "worse", "same"],
            "bias_percent": [-12.1, 0, 0, 0],
            "bias_percent_low": [-19.0, 0, 0, 0],
            "bias_percent_high": [-5.0, 0, 0, 0],
            "rmse_gain_low": [0.0, -0.3, 0.1, -0.1],
            "rmse_gain_high": [0.0, -0.1, 0.3, 0.1],
        }
    )
    text = clv.verdict(table)
    assert "beats the worse, cannot be told from the same, loses to the better" in text
    assert "12.1 % too low (-19.0 to -5.0 %)" in text


def test_forecast_and_holdout_must_be_about_the_same_customers(forecast, later):
    with pytest.raises(ContractError, match="same customers; 1 of 2357"):
        clv.compare(forecast, later.iloc[1:], 1)
    with pytest.raises(ContractError, match="none of 2,357 customers bought in the holdout"):
        clv.compare(forecast, later.assign(purchase_days=0), 1)


def test_tracking_follows_the_cohort(cdnow, purchase_fit, customers):
    firsts = collect(frames.first_purchases(cdnow, "1997-09-30"))
    repeats = collect(frames.repeat_purchases(cdnow, "1997-09-30", "1998-06-30"))
    track = clv.tracking(purchase_fit, firsts, repeats, "1997-09-30", "1998-06-30")
    assert track["actual"].iloc[-1] == 2457 + 1882
    seen = track[~track["holdout"]].iloc[-1]
    assert str(seen["day"].date()) == "1997-09-30"
    assert seen["actual"] == 2457
    ages = customers["age"].to_numpy() + 39
    assert track["expected"].iloc[-1] == pytest.approx(purchase_fit.expected_new(ages).sum())
    assert track["expected"].is_monotonic_increasing


def test_groups_by_frequency_add_up(customers, forecast, later):
    groups = clv.by_frequency(customers, forecast, later)
    assert groups["frequency"].tolist() == ["0", "1", "2", "3", "4", "5", "6", "7+"]
    assert groups["customers"].sum() == 2357
    assert (groups["actual"] * groups["customers"]).sum() == pytest.approx(1882)
    assert (groups["BG/NBD"] * groups["customers"]).sum() == pytest.approx(forecast["BG/NBD"].sum())


# Value


def test_value_is_purchases_times_spend_less_discount(worth, customers, purchase_fit, spend_fit):
    table = worth.customers.set_index("customer_id").loc[customers["customer_id"]]
    purchases = purchase_fit.expected_purchases(customers, 39.0).to_numpy()
    spend = spend_fit.expected_spend(customers).to_numpy()
    assert table["expected_purchases"].to_numpy() == pytest.approx(purchases)
    assert table["expected_spend"].to_numpy() == pytest.approx(spend)
    factor = table["clv"].to_numpy() / (purchases * spend)
    assert ((factor > 1.1 ** (-273 / 365)) & (factor < 1)).all()
    plain = clv.value(customers, purchase_fit, spend_fit, 273, 7, margin=0.5, draws=20)
    half = plain.customers.set_index("customer_id").loc[customers["customer_id"], "clv"]
    assert half.to_numpy() == pytest.approx(0.5 * purchases * spend)


def test_value_refuses_what_it_would_get_wrong(customers, spend_fit):
    shifted = replace(CDNOW, purchase_covariates=("sms",), coefficients=(0.3,))
    with pytest.raises(ContractError, match="without covariates; fit again without sms"):
        clv.value(customers, shifted, spend_fit, 90, 1)


def test_discount_of_a_customer_equals_quadrature():
    """Against the integral of the purchase rate times the discount, by fine steps."""
    from journeylab.clv.value import _discount

    T = np.array([30.0])
    x = np.array([6.0])
    frame = pd.DataFrame({"frequency": x, "recency": T, "age": T})
    ends = np.linspace(0, 52, 2001)
    expected = np.array([CDNOW.expected_purchases(frame, t).iloc[0] for t in ends])
    middle = 1.15 ** (-7 * (ends[1:] + ends[:-1]) / 2 / 365)
    exact = middle @ np.diff(expected) / expected[-1]
    assert _discount(x, T, 364, 0.15, CDNOW)[0] == pytest.approx(exact, rel=2e-4)


def test_ranked_totals_and_shares_fit_together(worth):
    table = worth.customers
    assert table["rank"].tolist() == list(range(1, 2358))
    assert table["clv"].is_monotonic_decreasing
    assert worth.clv.value == pytest.approx(table["clv"].sum())
    assert worth.top_customers == 236
    assert worth.top_clv.value == pytest.approx(table["clv"].head(236).sum())
    assert worth.top_share.value == pytest.approx(worth.top_clv.value / worth.clv.value)
    curve = clv.concentration(table)
    assert curve.iloc[0].tolist() == [0, 0]
    assert curve.iloc[-1].tolist() == pytest.approx([1, 1])
    assert np.interp(0.1, curve["customers"], curve["value"]) == pytest.approx(
        worth.top_share.value, abs=0.01
    )


def test_what_a_customer_may_do_is_wider_than_how_well_the_mean_is_known(worth):
    table = worth.customers
    assert table["clv"].between(table["mean_low"], table["mean_high"]).all()
    top = table.head(300)
    assert ((top["outcome_high"] - top["outcome_low"]) > (top["mean_high"] - top["mean_low"])).all()
    assert not table.isna().any(axis=None)


def test_outcome_intervals_cover_the_models_own_futures(customers, purchase_fit, spend_fit):
    """A future of each customer from the fit itself falls into the 90 % interval 90 % of the time.

    Whoever does not return brings 0, which every interval that starts at 0 holds, so coverage is
    counted among customers whose interval starts above it, and from above for all.
    """
    result = clv.value(customers, purchase_fit, spend_fit, 273, 3, level=0.9, draws=400)
    table = result.customers.set_index("customer_id").loc[customers["customer_id"]]
    from journeylab.clv.gamma_gamma import sample_spend

    bought = purchase_fit.sample(customers, 39.0, 1, 99)[:, 0]
    amount = sample_spend(
        bought,
        customers["frequency"].to_numpy(float),
        customers["monetary_value"].to_numpy(float),
        *spend_fit.parameters.values(),
        rng=np.random.default_rng(98),
    )
    above = (amount > table["outcome_high"].to_numpy()).mean()
    assert above == pytest.approx(0.05, abs=3 * np.sqrt(0.05 * 0.95 / len(customers)))


def test_totals_hold_what_the_fit_itself_may_bring(worth, customers, purchase_fit):
    totals = purchase_fit.sample(customers, 39.0, 200, 5).sum(axis=0)
    inside = ((totals >= worth.purchases.ci_low) & (totals <= worth.purchases.ci_high)).mean()
    # Parameters are held here, so more than 95 % must fall inside, but not by a vast interval.
    assert inside > 0.93
    assert worth.purchases.ci_high - worth.purchases.ci_low < 6 * totals.std()


def test_value_depends_on_the_seed_alone_and_not_on_the_order_of_rows(
    customers, purchase_fit, spend_fit
):
    few = customers.head(50)
    one, two = (clv.value(few, purchase_fit, spend_fit, 90, 5, draws=20) for _ in range(2))
    pd.testing.assert_frame_equal(one.customers, two.customers)
    backwards = clv.value(few.iloc[::-1], purchase_fit, spend_fit, 90, 5, draws=20)
    assert backwards.customers["customer_id"].tolist() == one.customers["customer_id"].tolist()


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"margin": 0.0}, "margin must lie"),
        ({"annual_discount": -0.1}, "annual_discount"),
        ({"top": 1.5}, "top must lie"),
        ({"draws": 2}, "draws must be 20"),
        ({"level": 95}, "level must lie"),
    ],
)
def test_options_of_value_out_of_bounds_are_refused(
    customers, purchase_fit, spend_fit, options, complaint
):
    with pytest.raises(ContractError, match=complaint):
        clv.value(customers, purchase_fit, spend_fit, 90, 1, **options)
    with pytest.raises(ContractError, match="horizon_days must be 1 or more; got 0"):
        clv.value(customers, purchase_fit, spend_fit, 0, 1)


# Screening


def first_days(*counts):
    days = pd.to_datetime("2020-01-01") + pd.to_timedelta(30 * np.arange(len(counts)), unit="D")
    return pd.DataFrame({"first_day": days, "customers": counts})


def test_left_truncation_is_named_and_a_true_cohort_is_not(cdnow):
    assert clv.left_truncation(collect(frames.first_purchases(cdnow, "1998-06-30"))) == ""
    assert clv.left_truncation(first_days(300, 290, 310)) == ""
    text = clv.left_truncation(first_days(1977, 193, 100))
    assert "1,977 of 2,270 customers first appear in the first 30 days, 193 in the next" in text


def test_doubts_speak_where_there_is_reason(customers, purchase_fit, spend_fit, forecast, later):
    comparison = clv.compare(forecast, later, 7, draws=200)
    spend = clv.repeat_spend(customers)
    calm = comparison.assign(bias_percent_high=1.0)
    days = {"holdout_days": 273, "horizon_days": 273}
    fits = {"1997-09-30": (purchase_fit, spend_fit)}
    assert clv.doubts(first_days(9, 9), customers, spend, fits, calm, **days) == []
    (low,) = clv.doubts(first_days(9, 9), customers, spend, fits, comparison, **days)
    assert "forecast 1,653 purchases and 1,882 came: 12 % too low" in low
    tied = spend.assign(monetary_value=spend["frequency"] * 10.0 + spend["monetary_value"])
    far = {"holdout_days": 100, "horizon_days": 365}
    found = clv.doubts(first_days(90, 9), customers, tied.iloc[2:], fits, calm, **far)
    assert [text.split()[0] for text in found] == ["Left", "2", "Spend", "The"]


def test_weak_fits_of_two_days_are_one_doubt_that_names_both(
    customers, purchase_fit, spend_fit, forecast, later
):
    calm = clv.compare(forecast, later, 7, draws=200).assign(bias_percent_high=1.0)
    weak = replace(purchase_fit, weak=("a", "b"), n_customers=315, converged=False)
    fits = {
        "2024-09-05": (weak, spend_fit),
        "2025-05-14": (replace(weak, n_customers=400), spend_fit),
    }
    spend, days = clv.repeat_spend(customers), {"holdout_days": 273, "horizon_days": 273}
    assert clv.doubts(first_days(9, 9), customers, spend, fits, calm, **days) == [
        "BG/NBD: the data hardly fix a and b in the fit up to 2024-09-05 (315 customers) and in "
        "the one up to 2025-05-14 (400 customers); read the predictions, not these parameters."
    ]
    flat = {day: (replace(weak, weak=()), models[1]) for day, models in fits.items()}
    (text,) = clv.doubts(first_days(9, 9), customers, spend, flat, calm, **days)
    assert text.startswith("BG/NBD: no clear maximum was reached in the fit up to 2024-09-05 (315")


# The decision


def compared(*gains):
    """A model and its rules of thumb, by how surely each is beaten."""
    return pd.DataFrame(
        {
            "model": ["BG/NBD", "individual rate", "last period"],
            "bias_percent": -12.2,
            "rmse_gain_low": [0.0, *gains],
        }
    )


def share_of_top(low, high=0.9):
    return Estimate((low + high) / 2, low, high, "share")


def test_a_ranking_needs_customers_concentration_and_a_better_forecast():
    good = compared(0.1, 0.1)
    assert clv.reasons_not_to_rank(share_of_top(0.2), good, 100, 0.1) == []
    (few,) = clv.reasons_not_to_rank(share_of_top(0.2), good, 99, 0.1)
    assert few.startswith("only 99 customers are known, and 100")
    (flat,) = clv.reasons_not_to_rank(share_of_top(0.11, 0.73), good, 100, 0.1)
    assert "the top 10\xa0% may hold anything from 11\xa0% to 73\xa0%" in flat
    assert "20\xa0% at least" in flat
    (tied,) = clv.reasons_not_to_rank(share_of_top(0.2), compared(0.1, 0.0), 100, 0.1)
    assert tied.endswith("BG/NBD did not surely beat the last period in the holdout")
    assert len(clv.reasons_not_to_rank(share_of_top(0.1), compared(-0.1, -0.1), 30, 0.1)) == 3
    # Half the customers cannot hold twice their share: half of what is left is asked for.
    assert clv.reasons_not_to_rank(share_of_top(0.76), good, 100, 0.5) == []
    assert len(clv.reasons_not_to_rank(share_of_top(0.74), good, 100, 0.5)) == 1


def test_the_decision_ranks_only_where_it_may(cdnow, worth):
    firsts = collect(frames.first_purchases(cdnow, "9999-12-31"))
    repeats = collect(frames.repeat_purchases(cdnow, "9999-12-31"))
    days = clv.periods(firsts, repeats)
    yes = clv.advice(worth, compared(0.1, 0.1), days, 0.1)
    share = f"{100 * worth.top_share.value:.0f}\xa0%"
    assert yes.startswith(
        "Look after the top 10\xa0% first: 236 of 2,357 customers known on 1998-06"
    )
    assert share in yes
    assert "came out 12\xa0% too low" in yes
    no = clv.advice(worth, compared(-0.1, 0.1), days, 0.1)
    assert no.startswith("Do not rank by this yet")
    assert "did not surely beat the individual rate" in no
    assert "Look after" not in no


def test_one_currency_or_a_refusal():
    assert clv.one_currency(["USD", None]) == "USD"
    assert clv.one_currency(["USD"], "dollars") == "dollars"
    assert clv.one_currency([]) == "currency units"
    with pytest.raises(ContractError, match="2 currencies \\(CNY, USD\\)"):
        clv.one_currency(["USD", "CNY"], "money")


# The list


def test_ranked_list_opens_harmlessly_in_a_spreadsheet(tmp_path):
    ids = ["=1+1", "+86138", "-7", "@x", "\tq", " =2", "＝3", "客户", '=cmd|"/c calc"!A1', "0012"]
    frame = pd.DataFrame({"customer_id": ids, "clv": np.linspace(-1, 1, len(ids))})
    before = frame.copy()
    path = clv.write_ranking(frame, tmp_path / "tables" / "ranking.csv")
    assert path.read_bytes().startswith(b"\xef\xbb\xbf")
    with path.open(encoding="utf-8-sig", newline="") as file:
        _, *rows = csv.reader(file)
    cells = [row[0] for row in rows]
    assert [cell.removeprefix("'") for cell in cells] == ids
    assert not any(cell.lstrip(" ").startswith(tuple("=+-@\t\r＝")) for cell in cells)
    assert cells[7:] == ["客户", '\'=cmd|"/c calc"!A1', "0012"]
    # Numbers stay numbers, also negative ones.
    assert [float(row[1]) for row in rows] == pytest.approx(frame["clv"].tolist())
    pd.testing.assert_frame_equal(frame, before)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(max_size=12), min_size=1, max_size=5))
def test_no_text_survives_as_a_formula(texts):
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = clv.write_ranking(pd.DataFrame({"name": texts, "n": 1}), Path(folder) / "list.csv")
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.reader(file))[1:]
    assert len(rows) == len(texts)
    assert not any(row[0].startswith(("=", "+", "-", "@", "\t", "\r")) for row in rows)


def test_the_order_of_rows_does_not_change_one_digit(cells, customers, purchase_fit):
    shuffled = cells.sample(frac=1, random_state=1)
    assert clv.fit_bg_nbd(shuffled).parameters == purchase_fit.parameters
