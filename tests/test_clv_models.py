"""Laws that hold for every model of purchases; what is one model's own is in its own file."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journeylab import clv
from journeylab.clv import leaving, pareto_nbd
from journeylab.clv.cells import collapse
from journeylab.errors import ContractError, FitError

COVARIANCE = tuple(map(tuple, (0.01 * np.eye(4)).tolist()))
HELD = (0.0, 1, "week", COVARIANCE)
CDNOW = {
    "BG/NBD": clv.BgNbdFit(0.243, 4.414, 0.793, 2.426, *HELD),
    "MBG/NBD": clv.MbgNbdFit(0.525, 6.183, 0.891, 1.614, *HELD),
    "Pareto/NBD": clv.ParetoNbdFit(0.553, 10.578, 0.606, 11.669, *HELD),
}
FITS = {
    "BG/NBD": clv.fit_bg_nbd,
    "MBG/NBD": clv.fit_mbg_nbd,
    "Pareto/NBD": clv.fit_pareto_nbd,
}
KINDS = {"BG/NBD": clv.BgNbdFit, "MBG/NBD": clv.MbgNbdFit, "Pareto/NBD": clv.ParetoNbdFit}
every_model = pytest.mark.parametrize("model", list(FITS))

history = st.tuples(
    st.integers(0, 400), st.floats(0.01, 1.0), st.floats(1.0, 400.0), st.integers(1, 5)
)
positive = st.floats(0.05, 20.0)
four = st.tuples(positive, positive, positive, positive)


def as_frame(rows):
    frequency, share, age, customers = map(np.array, zip(*rows, strict=True))
    recency = np.where(frequency > 0, share * age, 0.0)
    return pd.DataFrame(
        {"frequency": frequency, "recency": recency, "age": age, "customers": customers}
    )


def likelihood_of(model, frame, buying=None, going=None):
    """Its function of log-parameters, on sorted rows that are not collapsed."""
    none = np.empty((len(frame), 0))
    buying, going = (none if z is None else z for z in (buying, going))
    names = ("frequency", "recency", "age", "customers")
    columns = [frame[name].to_numpy(float) for name in names]
    order = np.lexsort((*reversed(columns[:3]), *going.T))
    columns = [column[order] for column in columns]
    if model == "Pareto/NBD":
        data = pareto_nbd._Data(*columns, buying[order], going[order])
        return lambda logs: pareto_nbd._log_likelihood(data, logs)
    first = int(model == "MBG/NBD")
    data = leaving.Data(*columns, buying[order], going[order], first)
    return lambda logs: leaving.log_likelihood(data, logs)


@every_model
@pytest.mark.parametrize("logs", [(-0.6, 2.0, 0.3, 1.1), (0.7, 3.4, -1.0, 2.9)])
def test_gradient_and_hessian_equal_finite_differences(model, logs):
    generator = np.random.default_rng(3)
    frame = CDNOW[model].sample_new(generator.uniform(1, 78, 300), generator).assign(customers=2)
    function = likelihood_of(
        model,
        frame,
        generator.normal(size=(300, 2)),
        generator.integers(0, 2, (300, 1)).astype(float),
    )
    shifts = 3 if model == "Pareto/NBD" else 4
    logs = np.concatenate([logs, 0.3 * generator.normal(size=shifts)])
    _, gradient, hessian = function(logs)
    for k in range(len(logs)):
        step = np.zeros(len(logs))
        step[k] = 1e-5
        up, down = function(logs + step), function(logs - step)
        slope, bend = (up[0] - down[0]) / 2e-5, (up[1] - down[1]) / 2e-5
        assert gradient[k] == pytest.approx(slope, rel=1e-6, abs=1e-7 * np.abs(gradient).max())
        assert hessian[k] == pytest.approx(bend, rel=1e-6, abs=1e-7 * np.abs(hessian).max())


@every_model
@settings(max_examples=25, deadline=None)
@given(rows=st.lists(history, min_size=1, max_size=8), parameters=four)
def test_chances_are_chances_and_expectations_grow(model, rows, parameters):
    histories, fit = as_frame(rows), KINDS[model](*parameters, *HELD)
    alive = fit.p_alive(histories)
    assert alive.between(0, 1, inclusive="right").all()
    near, far, farthest = (fit.expected_purchases(histories, t) for t in (5.0, 50.0, 2600.0))
    assert (near >= 0).all()
    assert (far >= near).all()
    # Where nothing more can come, the last digit may go either way.
    assert (farthest >= far * (1 - 1e-13)).all()
    assert np.isfinite(farthest).all()
    assert fit.expected_purchases(histories, 0.0).eq(0).all()


@every_model
@settings(max_examples=25, deadline=None)
@given(
    parameters=st.tuples(positive, st.floats(1.0, 30.0), positive, positive),
    horizon=st.floats(0.0, 20.0),
)
def test_chances_of_counts_add_up_to_one_and_their_mean_is_the_expectation(
    model, parameters, horizon
):
    fit = KINDS[model](*parameters, *HELD)
    counts = np.arange(3_000)
    chances = fit.pmf(counts, horizon)
    assert (chances >= 0).all()
    assert chances.sum() == pytest.approx(1, abs=1e-9)
    assert counts @ chances == pytest.approx(float(fit.expected_new(horizon)), rel=1e-8, abs=1e-12)
    assert float(fit.pmf(2, horizon)) == pytest.approx(chances[2], rel=1e-12)


@every_model
@settings(max_examples=25, deadline=None)
@given(rows=st.lists(history, min_size=1, max_size=8), parameters=four)
def test_cells_count_like_the_rows_they_stand_for(model, rows, parameters):
    cells, logs = as_frame(rows), np.log(parameters)
    expanded = cells.loc[cells.index.repeat(cells["customers"])].assign(customers=1)
    of_cells, of_rows = (likelihood_of(model, frame)(logs) for frame in (cells, expanded))
    for ours, theirs in zip(of_cells, of_rows, strict=True):
        scale = np.abs(theirs).max()
        assert ours == pytest.approx(theirs, rel=1e-8, abs=1e-9 * scale + 1e-9)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from([0.0, 1 / 7, 2 / 7]),
                          st.floats(0.1, 9.0)), min_size=1, max_size=30), st.randoms())  # fmt: skip
def test_collapsing_keeps_every_customer_and_forgets_the_order(rows, random):
    shuffled = random.sample(rows, len(rows))
    one, other = (
        collapse([np.array(c, dtype=float) for c in (x, t)], np.array(n, dtype=float))
        for x, t, n in (zip(*r, strict=True) for r in (rows, shuffled))
    )
    frame = pd.DataFrame(rows, columns=["x", "t", "n"]).groupby(["x", "t"])["n"].sum()
    assert list(zip(*one[0], strict=True)) == list(frame.index)
    assert one[1] == pytest.approx(frame.to_numpy())
    assert (one[1] == other[1]).all()


def test_collapsing_falls_back_where_keys_would_overflow():
    generator = np.random.default_rng(0)
    columns = [generator.random(3_000) for _ in range(6)]
    columns = [np.concatenate([c, c]) for c in columns]
    found, customers = collapse(columns, np.ones(6_000))
    assert (customers == 2).all()
    order = np.argsort(columns[0][:3_000])
    assert all((f == c[:3_000][order]).all() for f, c in zip(found, columns, strict=True))


@every_model
def test_expected_purchases_equal_simulated_futures(model):
    histories = pd.DataFrame(
        {
            "frequency": [0, 1, 4, 12, 30, 3],
            "recency": [0.0, 5.0, 30.0, 38.0, 36.0, 2.0],
            "age": [38.0, 38.0, 35.0, 38.5, 38.0, 30.0],
        }
    )
    draws = 20_000
    futures = CDNOW[model].sample(histories, 39.0, draws, 11)
    error = futures.std(axis=1) / np.sqrt(draws)
    gap = futures.mean(axis=1) - CDNOW[model].expected_purchases(histories, 39.0).to_numpy()
    assert (np.abs(gap) < 3.5 * np.maximum(error, 1e-4)).all()


@every_model
def test_newcomers_buy_as_often_as_expected(model):
    fit, customers = CDNOW[model], 100_000
    frequency = fit.sample_new(np.full(customers, 39.0), 5)["frequency"].to_numpy()
    error = frequency.std() / np.sqrt(customers)
    assert abs(frequency.mean() - float(fit.expected_new(39.0))) < 3 * error
    chances = fit.pmf(np.arange(6), 39.0)
    seen = np.array([(frequency == k).mean() for k in range(6)])
    assert (np.abs(seen - chances) < 3.5 * np.sqrt(chances / customers)).all()


@every_model
def test_history_and_future_of_sampled_customers_fit_together(model):
    """Customers sampled to week 60: what their histories to week 60 promise equals the rest."""
    fit = CDNOW[model]
    whole = float(fit.expected_new(90.0) - fit.expected_new(60.0))
    histories = fit.sample_new(np.full(60_000, 60.0), 9)
    promised = fit.expected_purchases(histories, 30.0)
    assert promised.mean() == pytest.approx(whole, abs=3 * promised.std() / np.sqrt(len(promised)))


@every_model
@pytest.mark.parametrize("seed", [1, 2])
def test_parameters_are_recovered_within_their_standard_errors(model, seed):
    truth, generator = CDNOW[model], np.random.default_rng(seed)
    fit = FITS[model](truth.sample_new(generator.uniform(20, 80, 8_000), generator))
    assert fit.converged
    assert fit.identification == ""
    assert fit.n_customers == 8_000
    for name, value in truth.parameters.items():
        assert abs(fit.parameters[name] - value) < 3 * fit.standard_errors[name]
    assert fit.standard_errors["r"] < 0.1


def test_standard_errors_are_the_spread_of_refits():
    truth, generator = CDNOW["BG/NBD"], np.random.default_rng(8)
    refits = [clv.fit_bg_nbd(truth.sample_new(np.full(3_000, 60.0), generator)) for _ in range(60)]
    for name in truth.parameters:
        spread = np.std([fit.parameters[name] for fit in refits])
        stated = np.median([fit.standard_errors[name] for fit in refits])
        assert stated == pytest.approx(spread, rel=0.3)


@every_model
def test_many_rows_reach_the_maximum_of_all_and_not_of_the_sample(model):
    """Beyond 8,000 cells the climb starts on some of them; it must end where a whole climb does."""
    generator = np.random.default_rng(6)
    frame = CDNOW[model].sample_new(generator.uniform(20, 80, 30_000), generator)
    fit = FITS[model](frame)
    logs = np.log(list(fit.parameters.values()))
    value, gradient, _ = likelihood_of(model, frame.assign(customers=1))(logs)
    assert value == pytest.approx(fit.log_likelihood, rel=1e-12)
    assert np.abs(gradient).max() < 1e-3


@every_model
def test_runaway_parameters_are_said_and_not_printed_as_if_fine(model):
    """Customers who never leave: nothing can be told of leaving."""
    generator = np.random.default_rng(4)
    age = np.full(300, 50.0)
    frequency = generator.poisson(generator.gamma(2.0, 1 / 10, 300) * age)
    recency = np.where(frequency > 0, age * generator.beta(np.maximum(frequency, 1), 1), 0.0)
    fit = FITS[model](pd.DataFrame({"frequency": frequency, "recency": recency, "age": age}))
    leaving_names = ("s", "beta") if model == "Pareto/NBD" else ("a", "b")
    assert fit.weak == leaving_names
    assert not fit.converged
    assert fit.identification.startswith(
        f"Weakly identified: the data hardly fix {leaving_names[0]}"
    )
    notes = fit.summary().set_index("parameter")["note"]
    assert (notes.loc[list(leaving_names)] == "weakly identified").all()
    assert (notes.loc[["r", "alpha"]] == "").all()
    assert np.isfinite(fit.draws(200, 1)).all()
    active = fit.p_alive(pd.DataFrame({"frequency": [9], "recency": [49.0], "age": [50.0]}))
    assert active.iloc[0] > 0.98


def odd_histories():
    many, generator = 200, np.random.default_rng(3)
    age, twice = np.full(many, 50.0), np.full(many, 2)
    heavy = np.concatenate([np.ones(many - 1), [20_000]])
    return {
        "all alike": (twice, np.full(many, 5.0), np.full(many, 10.0)),
        "one frequency": (twice, generator.uniform(1, 10, many), np.full(many, 10.0)),
        "recency is age": (generator.poisson(3, many) + 1, age, age),
        "one burst": (generator.poisson(3, many) + 1, np.full(many, 0.1), age),
        "hundreds": (generator.integers(100, 900, many), generator.uniform(1, 50, many), age),
        "one heavy buyer": (heavy, np.full(many, 40.0), age),
        "five customers": ([1, 1, 2, 1, 3], [3, 3, 9, 1, 9.5], np.full(5, 10.0)),
    }


def fit_or_none(model, frame):
    try:
        return FITS[model](frame)
    except FitError:
        return None


@every_model
@pytest.mark.parametrize("case", list(odd_histories()))
def test_odd_data_give_finite_numbers_and_say_that_they_mean_little(model, case):
    names = ("frequency", "recency", "age")
    frame = pd.DataFrame(dict(zip(names, odd_histories()[case], strict=True)))
    fit = fit_or_none(model, frame)
    if fit is None:
        # A ridge without an end is refused; the two models beside it report a bound.
        assert (model, case) == ("Pareto/NBD", "one burst")
        return
    assert (fit.identification == "") == (fit.converged and not fit.weak)
    if case != "one heavy buyer":
        assert fit.identification
    some = pd.DataFrame(
        {"frequency": [0, 3, 500, 20_000], "recency": [0, 2.0, 40, 49], "age": 50.0}
    )
    assert np.isfinite(fit.p_alive(some)).all()
    for horizon in (0.0, 50 * 52.0):
        assert np.isfinite(fit.expected_purchases(some, horizon)).all()
        assert np.isfinite(fit.pmf(np.arange(40), horizon)).all()
        assert np.isfinite(fit.sample(some, horizon, 3, 1)).all()
    assert np.isfinite(fit.summary()[["value", "standard_error"]].to_numpy()).all()


@every_model
def test_bad_rows_and_no_time_are_refused_by_every_fit(model):
    good = CDNOW[model].sample_new(np.full(50, 60.0), 1).assign(customers=1.0)
    broken = {
        ("recency", 99.0): "recency must lie in",
        ("frequency", -1.0): "must not be negative",
        ("age", np.nan): "age must be a finite number",
        ("customers", 0.0): "customers must be above 0",
    }
    for (column, wrong), complaint in broken.items():
        with pytest.raises(ContractError, match=rf"{complaint}.*2 of 50 rows"):
            FITS[model](good.assign(**{column: good[column].where(good.index > 1, wrong)}))
    with pytest.raises(ContractError, match="no customer had bought"):
        FITS[model](good.head(0))
    with pytest.raises(FitError, match="0 of 50 customers bought on a second day"):
        FITS[model](good.assign(frequency=0, recency=0.0))
    with pytest.raises(FitError, match="age is 0 for all 50 customers"):
        FITS[model](good.assign(frequency=1, recency=0.0, age=0.0))


@every_model
@pytest.mark.parametrize("horizon", [-1.0, float("nan"), float("inf")])
def test_impossible_horizons_and_counts_are_refused(model, horizon):
    fit = CDNOW[model]
    frame = fit.sample_new(np.full(5, 60.0), 1)
    for ask in (
        lambda: fit.expected_purchases(frame, horizon),
        lambda: fit.expected_new(horizon),
        lambda: fit.pmf(1, horizon),
        lambda: fit.sample(frame, horizon, 1, 1),
    ):
        with pytest.raises(ContractError, match="horizon must be a finite time of 0 or more"):
            ask()
    for count in (-1, 1.5, np.nan):
        with pytest.raises(ContractError, match="count must be a whole number of 0 or more"):
            fit.pmf(count, 5.0)


# Covariates


TRUE_SHIFTS = {
    "BG/NBD": clv.BgNbdFit(
        *(0.6, 6.0, 0.8, 2.4), *HELD,
        purchase_covariates=("sms", "distance"),
        dropout_covariates=("sms",),
        coefficients=(0.5, -0.3, -0.6, 0.2),
    ),
    "Pareto/NBD": clv.ParetoNbdFit(
        *(0.6, 10.0, 0.8, 12.0), *HELD,
        purchase_covariates=("sms", "distance"),
        dropout_covariates=("sms",),
        coefficients=(0.5, -0.3, -0.6),
    ),
}  # fmt: skip
with_covariates = pytest.mark.parametrize("model", list(TRUE_SHIFTS))


def shifted_customers(model, customers, seed):
    generator = np.random.default_rng(seed)
    known = pd.DataFrame(
        {
            "sms": generator.integers(0, 2, customers),
            "distance": generator.integers(0, 40, customers) / 10 + 3,
        }
    )
    return TRUE_SHIFTS[model].sample_new(generator.uniform(40, 100, customers), generator, known)


@with_covariates
def test_covariates_are_recovered_within_their_standard_errors(model):
    truth, frame = TRUE_SHIFTS[model], shifted_customers(model, 12_000, 2)
    fit = FITS[model](frame, purchase_covariates=("sms", "distance"), dropout_covariates=("sms",))
    assert fit.converged
    assert list(fit.parameters) == list(truth.parameters)
    for name, value in truth.parameters.items():
        assert abs(fit.parameters[name] - value) < 3.3 * fit.standard_errors[name], name
    assert fit.standard_errors["purchase[sms]"] < 0.1
    plain = FITS[model](frame)
    assert fit.aic < plain.aic - 50
    assert np.isfinite(fit.draws(50, 1)).all()


@with_covariates
def test_covariates_move_predictions_as_the_model_says(model):
    fit = TRUE_SHIFTS[model]
    frame = shifted_customers(model, 200, 3)
    futures = fit.sample(frame.head(20), 30.0, 8_000, 4)
    expected = fit.expected_purchases(frame.head(20), 30.0).to_numpy()
    error = np.maximum(futures.std(axis=1) / np.sqrt(8_000), 1e-4)
    assert (np.abs(futures.mean(axis=1) - expected) < 4 * error).all()
    one = {"sms": 1, "distance": 5.0}
    counts = np.arange(3_000)
    assert counts @ fit.pmf(counts, 30.0, one) == pytest.approx(
        float(fit.expected_new(30.0, one)), rel=1e-8
    )
    assert fit.expected_new(30.0, one) > fit.expected_new(30.0, {"sms": 0, "distance": 5.0})


@with_covariates
def test_a_covariate_in_other_units_changes_its_coefficient_only(model):
    frame = shifted_customers(model, 3_000, 5)
    options = {"purchase_covariates": ("distance",)}
    near = FITS[model](frame, **options)
    far = FITS[model](frame.assign(distance=1000 * frame["distance"]), **options)
    assert far.log_likelihood == pytest.approx(near.log_likelihood, abs=1e-6)
    assert far.coefficients[0] == pytest.approx(near.coefficients[0] / 1000, rel=1e-5)
    assert far.standard_errors["alpha"] == pytest.approx(near.standard_errors["alpha"], rel=1e-4)
    assert far.alpha == pytest.approx(near.alpha, rel=1e-5)


@with_covariates
def test_covariates_that_cannot_be_used_are_refused(model):
    frame = shifted_customers(model, 100, 3).assign(one=1.0, twice=lambda f: 2 * f["sms"] + 1)
    fit = FITS[model]
    with pytest.raises(ContractError, match="covariate one is the same in all 100 rows"):
        fit(frame, purchase_covariates=("one",))
    with pytest.raises(ContractError, match="covariates sms, twice follow from one another"):
        fit(frame, dropout_covariates=("sms", "twice"))
    with pytest.raises(ContractError, match="age_group not among"):
        fit(frame, purchase_covariates=("age_group",))
    with pytest.raises(ContractError, match="sms must be a finite number; 1 of 100 rows"):
        fit(frame.assign(sms=frame["sms"].where(frame.index != 7)), purchase_covariates=("sms",))
    with pytest.raises(ContractError, match=r"give a new customer's sms, distance"):
        TRUE_SHIFTS[model].expected_new(5.0)
    with pytest.raises(ContractError, match="one row per customer: 100 rows for 3 ages"):
        TRUE_SHIFTS[model].sample_new(np.ones(3), 1, frame)
    with pytest.raises(ContractError, match="distance not among"):
        TRUE_SHIFTS[model].p_alive(frame.drop(columns="distance"))


# Files


@pytest.mark.parametrize(
    "fit",
    [
        *CDNOW.values(),
        *TRUE_SHIFTS.values(),
        clv.BgBbFit(1.204, 0.75, 0.657, 2.783, -33225.6, 11_104, "year", COVARIANCE),
        clv.SbgFit(0.1 + 0.2, 1 / 3, -1680.3, 1000, "year", ((0.1, 0.0), (0.0, 1e-17)), False),
        clv.GammaGammaFit(6.25, 3.74, 15.44, -4e3, 946, ((0.1,) * 3,) * 3, True, ("p",), "USD"),
    ],
    ids=lambda fit: f"{fit.model}, {len(fit.parameters)} parameters",
)
def test_a_saved_fit_comes_back_to_the_last_digit(fit, tmp_path):
    path = clv.save_fit(fit, tmp_path / "models" / "fit.json")
    back = clv.load_fit(path)
    assert back == fit
    assert type(back) is type(fit)
    text = path.read_text(encoding="utf-8")
    assert f'"model": "{fit.model}"' in text
    assert '"version": 1' in text


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda text: "r = 0.243", "holds no saved fit: it is not JSON"),
        (lambda text: "[1, 2]", r"holds no saved fit: write it with clv\.save_fit"),
        (lambda text: text.replace("BG/NBD", "BG/XYZ"), "'BG/XYZ' that is not known here"),
        (lambda text: text.replace('"version": 1', '"version": 2'), "format version 2"),
        (lambda text: text.replace('"alpha"', '"alfa"'), "alfa, alpha missing or not known"),
        (lambda text: text.replace('"r": 0.243', '"r": "0.243"'), "r of another type"),
    ],
)
def test_a_file_that_holds_no_fit_is_refused(change, complaint, tmp_path):
    path = clv.save_fit(CDNOW["BG/NBD"], tmp_path / "fit.json")
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(ContractError, match=complaint):
        clv.load_fit(path)
    with pytest.raises(ContractError, match="cannot be read"):
        clv.load_fit(tmp_path / "absent.json")
