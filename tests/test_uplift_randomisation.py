"""Whether arms were given by chance; and the effect on those whom the touch reached."""

import numpy as np
import pandas as pd
import pytest

from journeylab import uplift
from journeylab.errors import ContractError, FitError
from journeylab.uplift.randomisation import check_randomisation, logged_shares


def people(rng, n, columns=3):
    frame = pd.DataFrame(rng.normal(size=(n, columns)), columns=list("abcdefgh")[:columns])
    frame["before"] = rng.exponential(size=n)
    frame["arm"] = np.where(rng.uniform(size=n) < 0.3, "mail", "none")
    return frame


def false_alarms(covariates, placebo):
    """Shares of 2,000 A/A experiments at .3 / .7 in which each check, and all, speak at 5 %."""
    alarms, shares = [], {"mail": 3, "none": 7}
    for seed in range(2000):
        frame = people(np.random.default_rng(seed), 1000, columns=len(covariates))
        found = check_randomisation(frame, "arm", covariates, shares, rng=seed, placebo=placebo)
        p = [found.p, found.ratio_p, found.auc_p, *([found.placebo_p] if placebo else [])]
        alarms.append(np.array(p) <= 0.05)
        assert found.passes == (found.p > 0.05)
    return np.mean(alarms, axis=0)


BINOMIAL = 3 * (0.05 * 0.95 / 2000) ** 0.5


def test_false_alarms_are_as_rare_as_they_should_be():
    rates = false_alarms(["a"], None)
    assert (np.abs(rates - 0.05) <= BINOMIAL).all(), rates


@pytest.mark.full
def test_false_alarms_stay_rare_with_more_covariates_and_a_placebo():
    rates = false_alarms(["a", "b"], "before")
    assert (np.abs(rates - 0.05) <= BINOMIAL).all(), rates


def leaky(rng, n=20_000):
    frame = people(rng, n)
    chance = np.where(frame["a"] > 0, 0.52, 0.48)
    frame["arm"] = np.where(rng.uniform(size=n) < chance, "mail", "none")
    return frame


def test_a_leak_of_four_points_is_found():
    """Arm shares of .52 and .48 in the halves of one covariate, 20,000 units: power 90 %."""
    alarms = [
        not check_randomisation(
            leaky(np.random.default_rng(seed)), "arm", ["a", "b", "c"], rng=seed
        ).passes
        for seed in range(12)
    ]
    # with a power of 90 % nine of twelve or fewer come one time in forty
    assert sum(alarms) >= 10


@pytest.mark.full
def test_a_leak_of_four_points_is_found_nine_times_of_ten():
    alarms = [
        not check_randomisation(
            leaky(np.random.default_rng(seed)), "arm", ["a", "b", "c"], rng=seed
        ).passes
        for seed in range(200)
    ]
    assert np.mean(alarms) >= 0.9


def test_the_leaking_covariate_stands_first_and_the_finding_names_the_check():
    found = check_randomisation(leaky(np.random.default_rng(1)), "arm", ["a", "b", "c"], rng=0)
    assert found.balance["covariate"].iloc[0] == "a"
    assert "covariates" in found.finding()
    assert found.auc.value > 0.505
    again = check_randomisation(leaky(np.random.default_rng(1)), "arm", ["a", "b", "c"], rng=0)
    assert again.p == found.p


def test_rows_sorted_by_arm_are_no_leak():
    frame = people(np.random.default_rng(4), 4000)
    frame["b"] = 1.0 * (frame["b"] > 0)
    found = check_randomisation(
        frame.sort_values("arm"), "arm", ["b"], {"mail": 3, "none": 7}, rng=0
    )
    assert found.auc_p > 0.01


def test_a_broken_split_and_a_placebo_that_differs_are_found():
    frame = people(np.random.default_rng(2), 5000)
    half = check_randomisation(frame, "arm", ["a"], rng=0)
    assert half.ratio_p < 1e-6
    assert "shares" in half.finding()
    moved = frame.assign(before=frame["before"] + 0.2 * (frame["arm"] == "mail"))
    shares = {"mail": 3, "none": 7}
    found = check_randomisation(moved, "arm", ["a"], shares, rng=0, placebo="before")
    assert found.placebo_p <= 0.006
    assert "the outcome before" in found.finding()


def test_chances_that_differ_by_block_are_the_design_and_no_leak():
    rng = np.random.default_rng(3)
    frame = people(rng, 20_000)
    frame["block"] = np.where(frame["a"] > 0, "recent", "usual")
    own = np.where(frame["a"] > 0, 0.6, 0.2)
    mail = rng.uniform(size=20_000) < own
    frame["arm"] = np.where(mail, "mail", "none")
    frame["chance"] = np.where(mail, own, 1 - own)
    shares, off = logged_shares(frame, "arm", "chance", "block")
    assert shares.loc["recent", "mail"] == pytest.approx(0.6)
    assert off == 0
    kept = check_randomisation(frame, "arm", ["a", "b"], shares, rng=0, strata="block")
    assert kept.passes
    assert kept.strata == 2
    assert abs(kept.auc.value - 0.5) < 0.01
    blind = check_randomisation(frame, "arm", ["a", "b"], {"mail": 0.4, "none": 0.6}, rng=0)
    assert blind.auc_p <= 0.005
    wrong = frame.assign(block=np.where(rng.uniform(size=20_000) < 0.5, "x", "y"))
    with pytest.raises(ContractError, match="do not add up to 1"):
        logged_shares(wrong.assign(chance=0.3), "arm", "chance", "block")


def test_clusters_are_the_units():
    rng = np.random.default_rng(5)
    group = np.arange(4000) // 40
    shared = rng.normal(size=100)[group]
    frame = pd.DataFrame({"a": shared + 0.1 * rng.normal(size=4000), "group": group})
    frame["arm"] = np.where(rng.uniform(size=100) < 0.5, "x", "y")[group]
    by_group = check_randomisation(frame, "arm", ["a"], rng=0, clusters="group")
    assert by_group.units == 100
    with pytest.raises(ContractError, match="clusters lie in two arms"):
        check_randomisation(
            frame.assign(arm=rng.choice(["x", "y"], 4000)), "arm", ["a"], rng=0, clusters="group"
        )


@pytest.mark.parametrize(
    ("covariates", "change", "says"),
    [
        (["a", "z"], {}, "no columns z"),
        (["a", "arm"], {}, "must not hold the arm"),
        (["a"], {"arm": "mail"}, "all 200 units have the arm"),
        (["a"], {"a": 1.0}, "no covariate takes two values"),
    ],
)
def test_what_cannot_be_checked_is_refused(covariates, change, says):
    frame = people(np.random.default_rng(0), 200).assign(**change)
    with pytest.raises(ContractError, match=says):
        check_randomisation(frame, "arm", covariates, rng=0)


def trial(rng, n=20_000, effect=2.0, reach=0.4):
    """Those who can be reached buy more anyway: comparing the reached with the rest misleads."""
    willing = rng.uniform(size=n) < reach
    own = np.where(rng.uniform(size=n) < 0.5, 0.3, 0.6)
    mailed = rng.uniform(size=n) < own
    y = 1.0 * willing + effect * (willing & mailed) + rng.normal(size=n)
    scores = uplift.aipw_scores(
        pd.Series(y),
        pd.Series(np.where(mailed, "voice", "none")),
        np.where(mailed, own, 1 - own),
        "none",
        unit="orders",
    )
    return scores, pd.Series(1.0 * (willing & mailed))


def test_the_effect_on_the_reached_is_recovered_with_its_interval():
    inside = 0
    for seed in range(200):
        scores, reached = trial(np.random.default_rng(seed), 2000)
        found = uplift.complier_effect(scores, reached).estimate()
        inside += found.ci_low <= 2.0 <= found.ci_high
    assert abs(inside / 200 - 0.95) <= 3 * (0.95 * 0.05 / 200) ** 0.5
    scores, reached = trial(np.random.default_rng(1))
    table = uplift.delivered_effects(scores, reached).iloc[0]
    assert table["assigned_low"] < 0.8 < table["assigned_high"]
    assert table["reached"] == pytest.approx(0.4, abs=0.02)
    assert table["on_reached"] == pytest.approx(table["assigned"] / table["reached"], rel=0.02)
    assert table["on_reached_low"] < 2.0 < table["on_reached_high"]
    unlogged = uplift.delivered_effects(scores, reached.where(scores.arm == 0)).iloc[0]
    assert np.isnan(unlogged["on_reached"])
    assert "not logged" in unlogged["why"]


def test_two_sided_delivery_and_a_channel_that_reached_nobody_are_refused():
    scores, reached = trial(np.random.default_rng(0), 1000)
    control = np.flatnonzero(scores.arm == 0)[:3]
    with pytest.raises(ContractError, match=r"3 of \d+ units of the control"):
        uplift.complier_effect(scores, reached.mask(reached.index.isin(control), 1.0))
    with pytest.raises(FitError, match="too few for an effect"):
        uplift.complier_effect(scores, reached * 0)
