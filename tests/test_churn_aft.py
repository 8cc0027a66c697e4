"""Accelerated failure time models: known truths, lifelines' own answers, refusals."""

import numpy as np
import pandas as pd
import pytest
from lifelines import LogLogisticAFTFitter, LogNormalAFTFitter, WeibullAFTFitter

from journeylab import churn
from journeylab.churn.aft import SHAPES
from journeylab.errors import ContractError, FitError


def drawn(seed, n=1500, shape="weibull", entry=False):
    """Waits twice as long per unit of ``x``, half as long in segment ``b``."""
    random = np.random.default_rng(seed)
    x, segment = random.normal(size=n), random.choice(["a", "b"], n, p=[0.7, 0.3])
    scale = 40 * 2.0**x * np.where(segment == "b", 0.5, 1.0)
    u = random.random(n)
    wait = {
        "weibull": scale * (-np.log(u)) ** (1 / 1.5),
        "log-logistic": scale * (u / (1 - u)) ** (1 / 2.5),
        "log-normal": scale * np.exp(0.7 * random.normal(size=n)),
    }[shape]
    start = random.uniform(0, 30, n) if entry else np.zeros(n)
    sight = start + random.uniform(20, 200, n)
    frame = pd.DataFrame(
        {
            "x": x,
            "segment": segment,
            "entry": start,
            "duration": np.minimum(wait, sight),
            "event": (wait <= sight).astype(int),
        }
    )
    return frame[frame["duration"] > frame["entry"]].reset_index(drop=True)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("shape", ["weibull", "log-logistic", "log-normal"])
def test_known_time_ratios_are_found_and_the_shape_is_recognised(seed, shape):
    frame = drawn(seed, shape=shape, entry=seed == 2)
    fit = churn.fit_aft(frame)
    assert fit.shape == shape
    table = fit.columns.set_index("covariate")
    truth = {"x": np.log(2) * frame["x"].std(), "segment": np.log(0.5)}
    for name, expected in truth.items():
        row = table.loc[name]
        error = (row["ci_high"] - row["ci_low"]) / (2 * 1.959964)
        assert abs(row["beta"] - expected) < 3.5 * error
        assert error < 0.08


def test_forgetting_entry_overstates_the_wait():
    frame = drawn(4, n=4000, entry=True)
    told = churn.fit_aft(frame, shape="weibull").median(frame).mean()
    forgot = churn.fit_aft(frame.drop(columns="entry"), shape="weibull").median(frame).mean()
    assert forgot > 1.15 * told


@pytest.mark.parametrize(
    ("shape", "peer"),
    [
        ("weibull", WeibullAFTFitter),
        ("log-logistic", LogLogisticAFTFitter),
        ("log-normal", LogNormalAFTFitter),
    ],
)
def test_curves_are_those_of_lifelines(shape, peer):
    frame = drawn(1, n=400, shape=shape)
    fit = churn.fit_aft(frame, ["x"], shape=shape)
    model = peer().fit(frame[["x", "duration", "event"]], "duration", "event")
    theirs = model.predict_survival_function(frame, times=[5.0, 60.0]).T.to_numpy()
    assert fit.survival(frame, [5.0, 60.0]).to_numpy() == pytest.approx(theirs, abs=2e-4)
    assert fit.median(frame).to_numpy() == pytest.approx(model.predict_median(frame), rel=1e-3)


def test_curves_start_at_one_and_never_rise():
    frame = drawn(2, n=300)
    for shape in SHAPES:
        fit = churn.fit_aft(frame, shape=shape)
        times = np.linspace(0, fit.follow_up, 40).tolist()
        curves = fit.survival(frame, times).to_numpy()
        assert (curves[:, 0] == 1).all()
        assert np.isfinite(curves).all()
        assert (np.diff(curves, axis=1) <= 0).all()


def test_the_ratio_is_read_per_standard_deviation_and_against_the_largest_level():
    table = churn.fit_aft(drawn(1)).summary().set_index("covariate")
    assert table.loc["x", "per"].endswith("(1 sd)")
    assert table.loc["segment", "level"] == "b"
    assert table.loc["x", "time_ratio"] > 1.8
    assert table.loc["segment", "ci_high"] < 0.7


def test_what_cannot_be_fitted_is_refused():
    frame = drawn(1, n=100)
    for broken, message in (
        (frame.assign(event=0), "0 events"),
        (frame.head(9), "9 customers"),
        (frame.assign(duration=0.0, entry=0.0), "rows have none"),
        (frame.assign(x=[np.nan, *frame["x"][1:]]), "missing in 1 of"),
        (frame.assign(twice=frame["x"]), "depend on one another"),
        (frame.assign(x=1.0, segment="a"), "no covariate is left"),
    ):
        with pytest.raises((ContractError, FitError), match=message):
            churn.fit_aft(broken)
    with pytest.raises(ContractError, match="shape must be"):
        churn.fit_aft(frame, shape="gamma")
    fit = churn.fit_aft(frame, shape="weibull")
    with pytest.raises(ContractError, match="cannot tell"):
        fit.survival(frame, [fit.follow_up * 2])
    with pytest.raises(ContractError, match=r"no covariate \['x'\]"):
        fit.survival(frame.drop(columns="x"), [1.0])
    fresh = fit.survival(frame.head(2).assign(segment="new"), [10.0])
    assert np.isfinite(fresh.to_numpy()).all()
