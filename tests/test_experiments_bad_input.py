"""Bad input: a named reason in its own row or a clear error, and the other metrics stand."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journeylab.errors import ContractError
from journeylab.estimate import Metric, assigned_frame, moments_of_frame
from journeylab.experiments import (
    Costs,
    TestPlan,
    ancova,
    check_health,
    classical_boundaries,
    decide,
    forest_finding,
    raw_beside,
    readout,
    readout_views,
    repeated_p,
    sample_size,
    segment_effects,
    spending_boundaries,
)
from journeylab.experiments.power import Baseline

SOUND = Metric.mean("sound", covariate="sound before")
STRANGE = {
    "mean": Metric.mean("strange"),
    "adjusted": Metric.mean("strange", covariate="sound before"),
    "self": Metric.mean("strange", covariate="strange before"),
    "share": Metric.proportion("strange"),
    "ratio": Metric.ratio("strange", "strange value", "strange base"),
    "capped": Metric.mean("strange", cap=0.9, cap_at=3.0),
    "quantile": Metric.quantile("strange", "strange", 0.5),
}
FLAWS = (
    "none", "all the same", "all zero", "missing", "missing in one arm", "infinite", "one value",
    "negative", "huge", "tiny", "control at zero", "one customer has it all",
)  # fmt: skip
NUMBERS = (
    "mean", "mean_control", "effect", "low", "high", "relative", "relative_low", "relative_high",
    "p", "p_adjusted", "sequential_low", "sequential_high", "anytime_low", "anytime_high",
    "anytime_p", "chance_to_win", "expected_loss", "rope", "variance_left", "margin",
)  # fmt: skip


def _broken(values, arm, flaw):
    found = values.copy()
    if flaw == "all the same":
        found[:] = 7.0
    elif flaw == "all zero":
        found[:] = 0.0
    elif flaw == "missing":
        found[:] = np.nan
    elif flaw == "missing in one arm":
        found[arm == 1] = np.nan
    elif flaw == "infinite":
        found[::3] = np.inf
    elif flaw == "one value":
        found[1:] = np.nan
    elif flaw == "negative":
        found = -found
    elif flaw == "huge":
        found *= 1e150
    elif flaw == "tiny":
        found *= 1e-200
    elif flaw == "control at zero":
        found[arm == 0] = 0.0
    elif flaw == "one customer has it all":
        found[:] = 0.0
        found[-1] = 5.0
    return found


def _people(seed, flaw, customers=240, clusters=12):
    rng = np.random.default_rng(seed)
    cluster = rng.integers(0, clusters, customers)
    arm = cluster % 2
    before = rng.gamma(2, 5, customers)
    strange = rng.gamma(2, 1, customers)
    return pd.DataFrame(
        {
            "variant": np.array(["control", "treatment"])[arm],
            "cluster": [f"g{c}" for c in cluster],
            "segment": np.where(before > 10, "big", "small"),
            "sound": before + rng.normal(0, 3, customers),
            "sound before": before,
            "strange": _broken(strange, arm, flaw),
            "strange before": _broken(strange + 1, arm, flaw),
            "strange value": _broken(strange, arm, flaw),
            "strange base": _broken(strange + 1, arm, flaw),
        }
    )


def _sealed(**options):
    plan = TestPlan("test", **{"primary": SOUND, "looks": 2, "customers": 240, **options})
    return replace(plan, registered=plan.hash)


@settings(deadline=None, max_examples=50)
@given(
    kind=st.sampled_from(sorted(STRANGE)),
    flaw=st.sampled_from(FLAWS),
    role=st.sampled_from(["secondary", "guardrail", "primary", "margin"]),
    look=st.integers(0, 2),
    clustered=st.booleans(),
    absolute=st.booleans(),
    seed=st.integers(0, 3),
)
def test_no_flaw_of_one_metric_reaches_another(kind, flaw, role, look, clustered, absolute, seed):
    """Every row has a reason or finite numbers, and the sound row is what it is alone."""
    strange = STRANGE[kind]
    options = {"cluster": clustered, "margins_are": "absolute" if absolute else "relative"}
    if role in ("primary", "margin") and kind != "quantile":
        options |= {"primary": strange, "secondary": (SOUND,)}
        if role == "margin":
            options |= {"decision_rule": "non_inferiority", "margin": 0.1}
    elif role == "guardrail":
        options |= {"guardrails": {strange: 0.1}}
    else:
        options |= {"secondary": (strange,)}
    plan, people = _sealed(**options), _people(seed, flaw)
    key = "cluster" if clustered else None
    shown = readout(plan, moments_of_frame(people, plan.metrics, cluster=key), look)
    for row in shown.rows.to_dict("records"):
        for name in NUMBERS:
            value = row[name]
            missing = value is None or pd.isna(value)
            assert missing or np.isfinite(value), (row["metric"], name, value)
        told = [row["effect"], row["p"]]
        assert bool(row["reason"]) == all(pd.isna(one) for one in told), row
        assert row["verdict"]
    decision = decide(shown, Costs({"treatment": 0.1}))
    assert "nan" not in decision.sentence()
    assert "nan" not in forest_finding(shown)
    raw_beside(shown)
    readout_views(shown)
    if "sound" in [metric.name for metric in plan.secondary]:
        alone = replace(plan, secondary=())
        alone = _sealed(primary=SOUND, cluster=clustered)
    else:
        alone = _sealed(primary=SOUND, cluster=clustered)
    by_itself = readout(alone, moments_of_frame(people, alone.metrics, cluster=key), look)
    own, same = shown.row("sound", "treatment"), by_itself.row("sound", "treatment")
    for name in ("n", "mean", "effect", "low", "high", "relative", "p", "anytime_p"):
        assert own[name] == same[name]


@pytest.mark.parametrize("flaw", FLAWS)
def test_checks_and_segments_survive_every_flaw(flaw):
    people = _people(1, flaw)
    metrics = [STRANGE["self"], SOUND]
    seen = moments_of_frame(people, metrics, stratum="segment")
    health = check_health(seen, {"control": 1.0, "treatment": 1.0}, "control")
    assert health.balance[["z", "p", "p_holm"]].notna().all().all()
    found = segment_effects(seen, "strange", "treatment", "control")
    told = found.rows["reason"] == ""
    assert found.rows.loc[told, ["effect", "ci_low", "ci_high", "p", "p_bh"]].notna().all().all()


def test_zero_variance_an_empty_arm_and_a_zero_control_are_named_in_their_rows():
    plan = _sealed(secondary=(STRANGE["mean"],))
    same = readout(plan, moments_of_frame(_people(1, "all the same"), plan.metrics), 1)
    assert same.row("strange", "treatment")["reason"] == "no variation in either arm"
    empty = readout(plan, moments_of_frame(_people(1, "missing in one arm"), plan.metrics), 1)
    assert empty.row("strange", "treatment")["reason"] == "treatment: nobody with a value"
    zero = readout(plan, moments_of_frame(_people(1, "control at zero"), plan.metrics), 1)
    row = zero.row("strange", "treatment")
    assert row["effect"] > 0
    assert pd.isna(row["relative"])
    assert zero.comparisons["strange", "treatment"].relative_reason == "the control is zero"
    for shown in (same, empty, zero):
        assert shown.row("sound", "treatment")["reason"] == ""


def test_a_margin_relative_to_a_control_of_zero_is_a_reason_and_spares_the_primary():
    plan = _sealed(guardrails={STRANGE["mean"]: 0.1})
    shown = readout(plan, moments_of_frame(_people(1, "control at zero"), plan.metrics), 2)
    assert "control of zero" in shown.row("strange", "treatment")["reason"]
    assert shown.row("sound", "treatment")["reason"] == ""


def test_one_cluster_per_arm_is_a_reason_in_every_row_and_stops_nothing_else():
    plan = _sealed(secondary=(STRANGE["mean"],), cluster=True)
    people = _people(1, "none", clusters=2)
    shown = readout(plan, moments_of_frame(people, plan.metrics, cluster="cluster"), 1)
    assert shown.rows["reason"].str.contains("one of clusters only").all()
    assert decide(shown).action == "hold"
    uneven = _people(1, "none", clusters=3)
    seen = moments_of_frame(uneven, plan.metrics, cluster="cluster")
    assert readout(plan, seen, 1).rows["reason"].str.contains("treatment: one of clusters").all()


def test_an_arm_of_the_plan_that_nobody_is_in_has_reasons_and_no_decision_ships():
    plan = _sealed(arms=("control", "treatment", "third"))
    shown = readout(plan, moments_of_frame(_people(1, "none"), plan.metrics), 2)
    assert shown.row("sound", "third")["reason"] == "third: nobody with a value"
    assert decide(shown).action == "stop"
    assert "should" in shown.breaches[0]


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: _sealed(split={"control": 1.0, "treatment": -1.0}), "weight above 0"),
        (lambda: _sealed(split={"control": 1.0, "treatment": float("nan")}), "weight above 0"),
        (lambda: _sealed(guardrails={STRANGE["mean"]: -0.1}), "must be above 0"),
        (lambda: _sealed(looks=0), "one look or more"),
        (lambda: _sealed(looks=(0.5, 0.4, 1.0)), "must increase"),
        (lambda: spending_boundaries([0.3, 0.3, 1.0]), "must increase"),
        (lambda: spending_boundaries([]), "one look or more"),
        (lambda: spending_boundaries([0.5, float("nan")]), "must lie in"),
        (lambda: classical_boundaries(0), "one look or more"),
        (lambda: Costs({"treatment": float("nan")}), "must be finite"),
        (
            lambda: check_health(
                moments_of_frame(_people(1, "none"), [SOUND]),
                {"control": 1.0, "treatment": -1.0},
                "control",
            ),
            "positive weight",
        ),
        (
            lambda: assigned_frame(
                pd.DataFrame({"customer_id": ["a", "b"]}), "salt", {"a": 1.0, "b": -1.0}
            ),
            "weight",
        ),
        (
            lambda: sample_size(
                Baseline("x", "mean", 1.0, 1.0), relative=0.1, split={"control": 1.0, "b": -1.0}
            ),
            "weight",
        ),
    ],
)
def test_weights_and_looks_that_make_no_sense_are_refused_by_name(call, says):
    with pytest.raises(ContractError, match=says):
        call()


def test_one_look_is_the_fixed_test_and_times_of_a_readout_must_increase():
    assert classical_boundaries(1).critical[0] == pytest.approx(1.959964, abs=1e-6)
    assert spending_boundaries([1.0]).critical[0] == pytest.approx(1.959964, abs=1e-6)
    assert repeated_p(1.959964, [1.0]) == pytest.approx(0.05, abs=1e-6)
    plan, people = _sealed(looks=1), _people(1, "none")
    row = readout(plan, moments_of_frame(people, plan.metrics), 1).row("sound", "treatment")
    assert row["p_adjusted"] == pytest.approx(row["p"], rel=1e-5)
    two = _sealed()
    with pytest.raises(ContractError, match="must increase"):
        readout(two, moments_of_frame(people, two.metrics), 2, information=[0.6, 0.5])


def test_a_regression_on_one_customer_or_a_constant_says_so():
    people = _people(1, "all the same")
    found = ancova(people, "sound", ["strange"], variant="treatment", control="control")
    assert np.isfinite(found.effect.value)
    with pytest.raises(ContractError, match="too few"):
        ancova(people.head(3), "sound", ["sound before"], variant="treatment", control="control")
