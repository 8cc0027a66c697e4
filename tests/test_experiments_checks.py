"""Checks: a gate for the whole, diagnosis for its parts, and alarms at the rate they promise."""

import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from journeylab.errors import ContractError
from journeylab.estimate import Metric, moments_of_frame, sample_ratio
from journeylab.experiments.checks import anytime_ratio, calibrate, check_health

PUBLISHED = tomllib.loads(
    (Path(__file__).parent / "published" / "experiments_readout.toml").read_text()
)["sample_ratio"]
EVEN = {"control": 1.0, "treatment": 1.0}


def frame_of(n: int = 4000, seed: int = 1, share: float = 0.5) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "variant": np.where(rng.random(n) < share, "treatment", "control"),
            "day": pd.Timestamp("2025-05-01") + pd.to_timedelta(rng.integers(0, 10, n), unit="D"),
            "stratum": rng.choice(["ios", "android", "none"], n),
            "y": rng.normal(size=n),
            "x": rng.normal(size=n),
        }
    )


def health(frame: pd.DataFrame, metric: Metric | None = None, shares=EVEN):
    metrics = [metric or Metric.mean("y", covariate=["x"])]
    moments = moments_of_frame(frame, metrics, day="day", stratum="stratum")
    return check_health(moments, shares, "control")


def test_sample_ratio_as_published():
    counts = dict(zip(("a", "b"), PUBLISHED["counts"], strict=True))
    assert sample_ratio(counts).p == pytest.approx(PUBLISHED["p"], rel=5e-7)
    exact = sample_ratio(dict(zip(("a", "b"), PUBLISHED["exact_counts"], strict=True)))
    assert exact.method == "exact"
    assert exact.p == pytest.approx(PUBLISHED["exact_p"], rel=5e-10)


def test_the_sample_ratio_of_cookie_cats_alarms_and_does_not_stop():
    """p = .0086, known from many readings of these data."""
    arms = ["gate_30"] * 44_700 + ["gate_40"] * 45_489
    moments = moments_of_frame(
        pd.DataFrame({"variant": arms, "y": np.arange(len(arms)) % 3}), [Metric.mean("y")]
    )
    found = check_health(moments, {"gate_30": 1, "gate_40": 1}, "gate_30")
    assert found.ratio.p == pytest.approx(0.0086, abs=5e-5)
    assert found.stop == ""
    assert "unlikely" in found.findings[0]


def test_a_sound_test_has_no_findings_and_a_broken_split_stops_it():
    sound = health(frame_of())
    assert (sound.stop, sound.findings) == ("", ())
    assert len(sound.days) == 10
    assert sound.anytime_p > 0.05
    # Of 8,000 customers split 55 : 45, one test in 2,000 stays above .001 at any time.
    broken = health(frame_of(8000, share=0.55))
    assert "not split as designed" in broken.stop
    assert broken.findings[0] == broken.stop
    assert broken.anytime_p < 0.001
    assert health(frame_of(share=0.55), shares={"control": 45, "treatment": 55}).stop == ""


def test_one_broken_day_is_found_without_stopping_the_test():
    frame = frame_of(20_000)
    bad = (frame["day"] == pd.Timestamp("2025-05-04")) & (frame["variant"] == "control")
    mended = frame[~(bad & (np.arange(len(frame)) % 4 == 0))]
    found = health(mended)
    assert found.stop == ""
    low = found.days[found.days["p_holm"] < 0.01]
    assert low["day"].tolist() == [pd.Timestamp("2025-05-04")]


def test_slices_of_sound_tests_alarm_no_more_often_than_they_promise():
    alarms = 0
    for seed in range(60):
        found = health(frame_of(600, seed))
        alarms += bool((found.days["p_holm"] < 0.05).any())
    assert alarms / 60 < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 60)


def test_what_differed_before_and_who_has_no_value_is_found():
    frame = frame_of()
    tilted = frame.assign(x=frame["x"] + 0.3 * (frame["variant"] == "treatment"))
    assert "treatment differed in x before the test" in health(tilted).findings
    lost = frame.copy()
    lost.loc[(lost["variant"] == "treatment") & (np.arange(len(lost)) % 8 == 0), "y"] = np.nan
    found = health(lost)
    assert any("differ in who has no value" in text for text in found.findings)
    assert found.missing.set_index("variant").loc["control", "missing"] == 0


def test_an_arm_nobody_was_put_into_and_one_nobody_planned_stop_the_readout():
    frame = frame_of(200)
    assert "nobody in treatment" in health(frame[frame["variant"] == "control"]).stop
    other = frame.assign(variant=frame["variant"].where(frame.index != 3, "surprise"))
    assert "surprise" in health(other).stop


def test_the_anytime_ratio_may_be_read_a_thousand_times():
    rng = np.random.default_rng(2)
    alarms = 0
    for _ in range(1000):
        arms = rng.binomial(50, 0.5, 1000)
        p = anytime_ratio(np.column_stack([arms, 50 - arms]).astype(float), [1, 1])
        assert (np.diff(p) <= 0).all()
        alarms += int(p[-1] < 0.05)
    assert alarms / 1000 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 1000)
    broken = rng.binomial(500, 0.52, 200)
    found = anytime_ratio(np.column_stack([broken, 500 - broken]).astype(float), [1, 1])
    assert found[-1] < 0.001


def test_three_arms_and_unequal_shares_keep_the_anytime_level():
    rng = np.random.default_rng(3)
    counts = rng.multinomial(60, [0.2, 0.3, 0.5], (400, 300)).astype(float)
    alarms = np.mean([anytime_ratio(own, [2, 3, 5])[-1] < 0.05 for own in counts])
    assert alarms <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 400)


def test_calibration_finds_uniform_p_values_and_what_ignoring_groups_does():
    rng = np.random.default_rng(6)
    group = np.repeat(np.arange(60), 15)
    y = rng.gamma(1.0, 2.0, 900) + 1.2 * rng.normal(size=60)[group]
    frame = pd.DataFrame({"y": y, "group": group})
    alone = calibrate(frame, Metric.mean("y"), 1, draws=200)
    assert alone.false_alarms.ci_low <= 0.05 <= alone.false_alarms.ci_high
    assert alone.uniform_p > 0.001
    options = {"cluster": "group", "draws": 100}
    naive = calibrate(frame, Metric.mean("y"), 1, analysed_by="customer", **options)
    right = calibrate(frame, Metric.mean("y"), 1, analysed_by="cluster", **options)
    assert naive.false_alarms.ci_low > 0.1
    assert right.false_alarms.ci_low <= 0.05 <= right.false_alarms.ci_high


@pytest.mark.parametrize(
    ("shares", "says"),
    [({"control": 1, "treatment": -1}, "positive"), ({"a": 1, "b": 1}, "no share")],
)
def test_a_design_that_makes_no_sense_is_refused(shares, says):
    with pytest.raises(ContractError, match=says):
        health(frame_of(100), shares=shares)
