"""Figures of a test's design and looks: each says its finding, and says it right."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from journeylab.estimate import Estimate, Metric, moments_of_frame
from journeylab.experiments import (
    Baseline,
    NormalPosterior,
    TestPlan,
    fit_accrual,
    mde_by_week,
    power_curve,
    readout,
    spending_boundaries,
)
from journeylab.figures import experiment_design as figures
from journeylab.figures.style import new_axes

SPEND = Baseline("spend", "mean", 20.0, 45.0, correlation=0.6)


def title(ax):
    return ax.get_title(loc="left").replace("\n", " ")


def test_the_mde_figure_names_the_week_in_which_the_effect_is_found():
    days = pd.DataFrame({"day": pd.date_range("2025-01-06", periods=28), "customers": 400})
    weeks = mde_by_week(SPEND, fit_accrual(days, "2025-01-06", "2025-02-02"), 6)
    first = weeks.loc[weeks["mde_percent"] <= 12, "week"].iloc[0]
    ax = figures.mde_by_week(weeks, new_axes()[1], "spend", 12)
    assert title(ax) == f"An effect of 12 % is found after week {first}"
    ax = figures.mde_by_week(weeks, new_axes()[1], "spend", 0.1)
    assert "not found within 6 weeks" in title(ax)


def test_the_power_figure_reads_the_curve():
    curve = power_curve(replace(SPEND, icc=0.02, cluster_size=10.0), 5000, 5000, most=0.3)
    ax = figures.power_curve(curve, new_axes()[1], "spend", 10_000, 0.8)
    found = curve.loc[curve["power"] >= 0.8, "effect_percent"].min()
    assert f"find {found:.3g} %" in title(ax)


def test_the_boundaries_and_the_path_say_where_it_stops():
    plan = spending_boundaries([1 / 3, 2 / 3, 1])
    families = {"own": plan, "flat": spending_boundaries([1 / 3, 2 / 3, 1], spending="pocock")}
    assert f"{plan.critical[0]:.2f}" in title(figures.boundaries(families, new_axes()[1], "own"))
    looks = pd.DataFrame({"information": [1 / 3, 2 / 3], "z": [1.0, 2.9]})
    ax = figures.sequential_path(looks, plan, new_axes()[1], "spend", "EXPLORATORY: ")
    assert title(ax).startswith("EXPLORATORY: spend leaves the boundaries at 67 %")
    inside = looks.assign(z=[1.0, 1.5])
    ax = figures.sequential_path(inside, plan, new_axes()[1], "spend")
    assert title(ax) == "spend has not left the boundaries"


@pytest.mark.parametrize(("low", "verdict"), [(0.03, "as they should"), (0.06, "not the 5")])
def test_the_histogram_of_a_a_tests_says_whether_it_is_sound(low, verdict):
    p = np.linspace(0.001, 0.999, 100)
    alarms = Estimate(0.07, low, 0.1, "share")
    assert verdict in title(figures.aa_histogram(p, alarms, 0.05, new_axes()[1]))
    assert "are not those" in title(figures.aa_quantiles(p**2, 1e-6, new_axes()[1]))
    assert "as those" in title(figures.aa_quantiles(p, 0.9, new_axes()[1]))


def test_the_posterior_and_the_lights_carry_the_mark():
    ax = figures.posterior(
        NormalPosterior(1, 1), 0.2, new_axes()[1], "spend", "USD", "EXPLORATORY: "
    )
    assert title(ax).startswith("EXPLORATORY: The effect on spend is above zero")
    harm = Metric.mean("complaints", direction="down")
    plan = TestPlan("t", Metric.mean("spend"), (), {harm: 0.5})
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({"variant": rng.choice(["control", "treatment"], 4000)})
    frame["spend"], frame["complaints"] = rng.gamma(2, 5, 4000), rng.poisson(0.5, 4000)
    shown = readout(plan, moments_of_frame(frame, plan.metrics), 1)
    ax = figures.guardrail_lights(shown, new_axes()[1])
    assert title(ax) == "EXPLORATORY: 1 of 1 guardrails pass"
