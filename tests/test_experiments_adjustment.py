"""Adjustment: what a past that correlates by .6 leaves, regression with HC2, boosted covariates."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

from journeylab.errors import ContractError
from journeylab.estimate import Metric, moments_of_frame
from journeylab.experiments.adjustment import ancova, boosted_covariate
from journeylab.experiments.comparison import compare

PLAIN = Metric.mean("y")
CUPED = Metric.mean("y", covariate=["x"])


def world(n: int = 20_000, seed: int = 1, effect: float = 0.1, correlation: float = 0.6):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    treated = rng.random(n) < 0.5
    y = 5 + correlation * x + np.sqrt(1 - correlation**2) * rng.normal(size=n) + effect * treated
    stratum = np.where(x + rng.normal(size=n) > 0, "rich", "poor")
    variant = np.where(treated, "treatment", "control")
    return pd.DataFrame({"variant": variant, "y": y, "x": x, "stratum": stratum})


def both(frame: pd.DataFrame, metric: Metric, by: str | None = None, **options):
    moments = moments_of_frame(frame, [metric], stratum=by)
    return compare(moments, metric.name, "treatment", "control", **options)


@pytest.mark.parametrize("how", ["cuped", "cuped within arms", "lin"])
def test_a_past_that_correlates_by_six_tenths_leaves_64_percent_of_the_variance(how):
    left = [both(world(seed=seed), CUPED, adjustment=how).variance_left for seed in range(5)]
    assert all(abs(share - 0.64) <= 0.02 for share in left), left


def test_the_raw_estimate_stands_beside_the_adjusted_one():
    row = both(world(), CUPED)
    plain = both(world(), PLAIN)
    assert row.raw.p == pytest.approx(plain.p, rel=1e-9)
    assert row.raw.absolute.ci_low == pytest.approx(plain.absolute.ci_low, rel=1e-9)
    assert row.adjustment == "cuped"
    assert row.standard_error < row.raw.standard_error


def test_post_stratification_weighs_strata_as_the_whole_sample_has_them():
    frame = world()
    row = both(frame, PLAIN, "stratum", adjustment="strata")
    parts = frame.groupby(["stratum", "variant"])["y"].agg(["mean", "var", "count"])
    effect = variance = 0.0
    for stratum, weight in frame["stratum"].value_counts(normalize=True).items():
        control, treatment = parts.loc[(stratum, "control")], parts.loc[(stratum, "treatment")]
        effect += weight * (treatment["mean"] - control["mean"])
        errors = treatment["var"] / treatment["count"] + control["var"] / control["count"]
        variance += weight**2 * errors
    assert row.absolute.value == pytest.approx(effect, rel=1e-9)
    assert row.standard_error == pytest.approx(np.sqrt(variance), rel=1e-9)
    assert both(frame, CUPED, "stratum", adjustment="cuped in strata").variance_left < 0.66


def test_several_covariates_are_a_regression_on_all_of_them():
    frame = world().assign(z=lambda f: f["x"] ** 2 + f["y"] / 3)
    row = both(frame, Metric.mean("y", covariate=["x", "z"]))
    design = np.cov(frame[["x", "z"]].to_numpy().T)
    theta = np.linalg.solve(design, np.cov(frame[["x", "z", "y"]].to_numpy().T)[2, :2])
    adjusted = frame.assign(y=frame["y"] - frame[["x", "z"]].to_numpy() @ theta)
    plain = both(adjusted, PLAIN)
    assert row.absolute.value == pytest.approx(plain.absolute.value, rel=1e-9)
    assert row.standard_error == pytest.approx(plain.standard_error, rel=1e-9)


def test_lins_regression_agrees_with_statsmodels_hc2_and_its_moments_nearly():
    frame = world(800, seed=4).assign(w=lambda f: np.exp(f["x"]))
    found = ancova(frame, "y", ["x", "w"], variant="treatment", control="control")
    treated = (frame["variant"] == "treatment").to_numpy(float)
    centred = (frame[["x", "w"]] - frame[["x", "w"]].mean()).to_numpy()
    design = np.column_stack([np.ones(len(frame)), treated, centred, centred * treated[:, None]])
    fit = sm.OLS(frame["y"].to_numpy(), design).fit(cov_type="HC2", use_t=True)
    low, high = fit.conf_int()[1]
    ours = (found.effect.value, found.standard_error, found.p, found.effect.ci_low)
    assert ours == pytest.approx((fit.params[1], fit.bse[1], fit.pvalues[1], low), rel=1e-8)
    assert found.effect.ci_high == pytest.approx(high, rel=1e-8)
    row = both(frame, Metric.mean("y", covariate=["x", "w"]), adjustment="lin")
    assert row.absolute.value == pytest.approx(found.effect.value, rel=1e-9)
    assert row.standard_error == pytest.approx(found.standard_error, rel=0.02)


def test_adjusted_intervals_cover_the_truth_with_unequal_arms_and_effects():
    rng = np.random.default_rng(8)
    n, tests = 200, 1500
    x = rng.exponential(1.0, n * tests)
    treated = rng.random(n * tests) < 0.3
    y = x + rng.normal(size=n * tests) + treated * (0.5 + 0.5 * (x - 1))
    frame = pd.DataFrame(
        {"variant": np.where(treated, "treatment", "control"), "y": y, "x": x,
         "test": np.repeat(np.arange(tests), n)}
    )  # fmt: skip
    parts = moments_of_frame(frame, [CUPED], stratum="test").by("stratum")
    for how in ("cuped", "lin"):
        rows = [compare(p, "y", "treatment", "control", adjustment=how) for p in parts.values()]
        hits = np.mean([r.absolute.ci_low <= 0.5 <= r.absolute.ci_high for r in rows])
        assert abs(hits - 0.95) <= 0.02, (how, hits)


def test_a_boosted_covariate_finds_what_a_line_cannot_and_is_never_worse_than_cuped():
    rng = np.random.default_rng(9)
    n = 6000
    x, other = rng.normal(size=n), rng.normal(size=n)
    city = rng.choice(["a", "b", "c"], n)
    y = x + 2 * (other > 0.5) * (city == "b") + rng.normal(size=n)
    frame = pd.DataFrame(
        {"variant": rng.choice(["control", "treatment"], n), "y": y, "x": x, "other": other,
         "city": city}
    )  # fmt: skip
    before = frame.copy()
    few = {"trees": 60, "threads": 1}
    guess = boosted_covariate(frame, "y", ["x", "other", "city"], 3, **few)
    pd.testing.assert_frame_equal(frame, before)
    pd.testing.assert_series_equal(
        guess, boosted_covariate(frame, "y", ["x", "other", "city"], 3, trees=60, threads=2)
    )
    frame["guess"] = guess
    cuped = both(frame, CUPED).variance_left
    cupac = both(frame, Metric.mean("y", covariate=["x", "guess"])).variance_left
    assert cupac < cuped - 0.1
    # Where trees have nothing to add they take nothing away.
    noise = frame.assign(guess=boosted_covariate(frame, "y", ["city"], 3, **few))
    assert both(noise, Metric.mean("y", covariate=["x", "guess"])).variance_left < cuped + 0.002


def test_no_customers_own_outcome_enters_their_boosted_covariate():
    frame = world(400, seed=2)
    few = {"trees": 10, "threads": 1}
    guess = boosted_covariate(frame, "y", ["x"], 5, **few)
    changed = frame.copy()
    changed.loc[7, "y"] = 1e4
    again = boosted_covariate(changed, "y", ["x"], 5, **few)
    assert again[7] == guess[7]
    assert (again != guess).any()


def test_health_of_an_adjustment_is_told():
    frame = world(seed=3)
    flat = both(frame.assign(x=1.0), CUPED)
    assert flat.absolute.value == pytest.approx(flat.raw.absolute.value)
    assert "does not vary" in flat.doubts[0]
    tilted = frame.assign(x=frame["x"] + 0.2 * (frame["variant"] == "treatment"))
    row = both(tilted, CUPED)
    assert any("differed in x before the test" in doubt for doubt in row.doubts)
    flipped = world(effect=0.05, seed=6)
    flipped["x"] += 0.3 * (flipped["variant"] == "treatment")
    assert any("turned the sign" in doubt for doubt in both(flipped, CUPED).doubts)


def test_what_cannot_be_adjusted_is_refused():
    frame = world(50)
    with pytest.raises(ContractError, match="needs a covariate"):
        both(frame, PLAIN, adjustment="cuped")
    with pytest.raises(ContractError, match="needs moments by stratum"):
        both(frame, PLAIN, adjustment="strata")
    with pytest.raises(ContractError, match="too few"):
        ancova(frame[:5], "y", ["x"], variant="treatment", control="control")
    with pytest.raises(ContractError, match="cannot be put into 5 folds"):
        boosted_covariate(frame[:6], "y", ["x"], 1)
    lonely = frame.assign(stratum=["only one", *frame["stratum"][1:]])
    row = both(lonely, PLAIN, "stratum", adjustment="strata")
    assert "not adjusted: stratum only one" in row.doubts[0]
    assert row.absolute is not None
