"""The plan: frozen, hashed, saved."""

import json
from dataclasses import FrozenInstanceError, replace

import pytest

from journeylab.errors import ContractError
from journeylab.estimate import Metric
from journeylab.experiments.plan import (
    TestPlan,
    load_plan,
    plan_card,
    plan_text,
    read_plan,
    save_plan,
)

REVENUE = Metric.mean("revenue", "orders.amount", covariate="before", cap=0.99, cap_at=120.5)
BOUGHT = Metric.proportion("bought", "orders", covariate=[("a", "b"), "before"])
COMPLAINTS = Metric.mean("complaints", "feedback", direction="down")
PLAN = TestPlan(
    "coupon_depth",
    REVENUE,
    (BOUGHT,),
    {COMPLAINTS: 0.02},
    arms=("none", "ten", "twenty"),
    split={"none": 2, "ten": 1, "twenty": 1},
    looks=(0.25, 0.6, 1.0),
    customers=12_000,
    effect=0.04,
    starts="2025-03-03",
    reads=("2025-03-17", "2025-03-31", "2025-04-14"),
    audience="bought within a year",
)


def test_a_saved_plan_comes_back_sealed_and_equal(tmp_path):
    sealed = save_plan(PLAN, tmp_path)
    back = load_plan(tmp_path / "plan_coupon_depth.json")
    assert back == sealed
    assert back.sealed
    assert not PLAN.sealed
    assert back.metrics == PLAN.metrics
    assert save_plan(PLAN, tmp_path) == sealed  # again is no change


def test_whoever_changes_a_sealed_plan_breaks_its_seal(tmp_path):
    sealed = save_plan(PLAN, tmp_path)
    assert not replace(sealed, alpha=0.1).sealed
    assert not replace(sealed, secondary=()).sealed
    with pytest.raises(FrozenInstanceError):
        sealed.alpha = 0.1
    sealed.guardrails[BOUGHT] = 0.5  # a dictionary cannot be frozen, but it is hashed
    assert not sealed.sealed


def test_a_file_that_was_edited_is_refused(tmp_path):
    save_plan(PLAN, tmp_path)
    path = tmp_path / "plan_coupon_depth.json"
    document = json.loads(path.read_text())
    document["plan"]["alpha"] = 0.1
    path.write_text(json.dumps(document))
    with pytest.raises(ContractError, match="was changed after it was sealed"):
        load_plan(path)
    path.write_text("{}")
    with pytest.raises(ContractError, match="is no saved plan"):
        load_plan(path)
    with pytest.raises(ContractError, match="there is no plan"):
        load_plan(tmp_path / "other.json")


def test_a_second_plan_of_the_same_test_is_refused(tmp_path):
    save_plan(PLAN, tmp_path)
    with pytest.raises(ContractError, match="not changed after the fact"):
        save_plan(replace(PLAN, alpha=0.1), tmp_path)


def test_the_hash_is_that_of_the_content_and_of_every_field():
    assert PLAN.hash == read_plan(plan_text(PLAN)).hash
    assert PLAN.hash == replace(PLAN, registered="x").hash
    changes = [
        {"primary": REVENUE.frozen(121.0)},
        {"guardrails": {COMPLAINTS: 0.03}},
        {"split": {"none": 1, "ten": 1, "twenty": 1}},
        {"looks": (0.25, 0.61, 1.0)},
        {"audience": ""},
        {"decision_rule": "expected_value"},
    ]
    assert len({replace(PLAN, **change).hash for change in changes} | {PLAN.hash}) == 7


def test_the_card_says_what_was_planned():
    card = plan_card(PLAN).set_index("what")["planned"]
    assert card["arms"] == "none 50 %, ten 25 %, twenty 25 %"
    assert "exploratory" in card["status"]
    assert card["power of each metric that must pass"] == "0.9"
    assert "complaints may be worse by 2 % of the control's mean" in card["guardrails"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"arms": ("only",), "split": {}}, "two or more"),
        ({"split": {"none": 1, "ten": 0, "twenty": 1}}, "weight above 0"),
        ({"alpha": 0.9}, "alpha < power"),
        ({"looks": 0}, "one look or more"),
        ({"looks": (0.5, 0.4, 1.0)}, "must increase"),
        ({"looks": (0.2, 0.4, 0.6)}, "last look must be at 1"),
        ({"primary": Metric.mean("capped", "x", cap=0.99)}, "would move between looks"),
        ({"primary": Metric.quantile("median", "x", 0.5)}, "cannot be a quantile"),
        ({"secondary": (COMPLAINTS,)}, "each metric has one role"),
        ({"guardrails": {COMPLAINTS: 0.0}}, "margins of guardrails must be above 0"),
        ({"decision_rule": "non_inferiority"}, "needs a margin"),
        ({"reads": ("2025-03-17",)}, "3 looks, but 1 days"),
        ({"reads": ("2025-03-17", "2025-03-16", "2025-04-14")}, "follow each other"),
        ({"starts": "soon"}, "no ISO date"),
        ({"experiment": " "}, "id of its experiment"),
    ],
)
def test_plans_that_cannot_be_kept_are_refused(change, message):
    with pytest.raises(ContractError, match=message):
        replace(PLAN, **change)
