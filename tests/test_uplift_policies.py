"""What a policy is worth beside constant arms, rules that can be read, designs and costs."""

import numpy as np
import pandas as pd
import pytest

from journeylab import uplift
from journeylab.errors import ContractError
from journeylab.estimate import logged_policy_value
from journeylab.uplift.advice import arm_costs, arm_shares, customer_effects
from journeylab.uplift.design import read_design

ARMS = np.array(["none", "sms", "voice"])


def world(rng, n=8000):
    """sms helps the young (.6 below 40), voice those in the south (.8); each harms the others."""
    age = rng.uniform(20, 60, n)
    south = rng.uniform(size=n) < 0.5
    effect = np.column_stack(
        [np.zeros(n), np.where(age < 40, 0.6, -0.2), np.where(south, 0.8, -0.4)]
    )
    chance = np.where(south[:, None], [0.5, 0.3, 0.2], [0.3, 0.3, 0.4])
    arm = (rng.uniform(size=n)[:, None] > chance.cumsum(axis=1)).sum(axis=1)
    base = 0.1 * age
    y = base + effect[np.arange(n), arm] + rng.normal(size=n)
    covariates = pd.DataFrame(
        {"age": age, "region": np.where(south, "south", "north"), "noise": rng.normal(size=n)}
    )
    scores = uplift.aipw_scores(
        pd.Series(y),
        pd.Series(ARMS[arm]),
        chance[np.arange(n), arm],
        "none",
        pd.DataFrame(dict.fromkeys(ARMS, base)),
        unit="EUR",
    )
    return scores, covariates, effect


def test_all_three_methods_find_the_value_and_dr_knows_it_best():
    scores, covariates, effect = world(np.random.default_rng(0), 20_000)
    policy = pd.Series(np.where(covariates["age"] < 40, "sms", "voice"))
    codes = (policy == "voice").to_numpy() + 1
    truth = 0.1 * covariates["age"].mean() + effect[np.arange(len(effect)), codes].mean()
    errors = {}
    for method in ("ips", "snips", "dr"):
        value = uplift.policy_value(scores, policy, method).value
        errors[method] = value.standard_error
        assert abs(value.value - truth) < 4 * value.standard_error
    assert errors["dr"] < errors["snips"] < errors["ips"]


def test_intervals_of_policies_cover_as_often_as_they_say():
    """2,000 logs with uneven chances: each method, at 95 % within three binomial errors."""
    inside = dict.fromkeys(("ips", "snips", "dr"), 0)
    truth = 0.1 * 40 + 0.5 * 0.6 + 0.5 * (0.8 - 0.4) / 2
    for seed in range(2000):
        rng = np.random.default_rng(seed)
        scores, covariates, _ = world(rng, 600)
        policy = pd.Series(np.where(covariates["age"] < 40, "sms", "voice"))
        for method in inside:
            known = uplift.policy_value(scores, policy, method).value.estimate()
            inside[method] += known.ci_low <= truth <= known.ci_high
    for method, times in inside.items():
        assert abs(times / 2000 - 0.95) <= 3 * (0.95 * 0.05 / 2000) ** 0.5, (method, times)


@pytest.mark.parametrize("arms", [2, 6])
def test_the_best_of_many_arms_is_not_praised_for_being_the_best_of_many(arms):
    """2,000 logs where all arms do the same: intervals allow for the choice of the best.

    Held against the arm that looks best as if it had been named beforehand, a fair policy among six
    would look surely worse in one log of ten, and the best arm surely useful as often.
    """
    names = ["none", *(f"arm {place}" for place in range(1, arms))]
    covered, worse, praised = 0, 0, 0
    for seed in range(2000):
        rng = np.random.default_rng(seed)
        given = pd.Series(rng.choice(names, 600))
        scores = uplift.aipw_scores(
            pd.Series(rng.normal(size=600)), given, np.full(600, 1 / arms), "none"
        )
        worth = uplift.policy_value(scores, pd.Series(rng.choice(names, 600)))
        gain, best = worth.gain_on_best(), worth.best_over_control()
        covered += gain.ci_low <= 0 <= gain.ci_high
        worse += gain.ci_high < 0
        praised += best.ci_low > 0
    error = (0.05 * 0.95 / 2000) ** 0.5
    assert covered / 2000 >= 0.95 - 3 * error
    assert max(worse, praised) / 2000 <= 0.025 + 3 * error


def test_a_gain_on_the_best_arm_is_certain_only_against_every_arm():
    scores, _, _ = world(np.random.default_rng(11))
    worth = uplift.policy_value(scores, "sms")
    known = worth.gain_on_best()
    lows = worth.constants["gain_low"]
    assert known.value == worth.constants["gain"].min()
    assert known.ci_low == pytest.approx(lows.min())
    assert known.ci_high >= worth.constants["gain_high"].min()


def test_the_best_constant_arm_is_always_beside():
    scores, _, effect = world(np.random.default_rng(1))
    good = pd.Series(ARMS[effect.argmax(axis=1)])
    worth = uplift.policy_value(scores, good)
    # on average .2 each: either may be the best constant
    assert worth.best_constant in {"sms", "voice"}
    best = worth.constants.set_index("arm").loc[worth.best_constant]
    assert worth.value.value - best["value"] == pytest.approx(worth.gain.value, abs=1e-12)
    assert worth.recommends()
    assert worth.shares.sum() == pytest.approx(1)
    same = uplift.policy_value(scores, worth.best_constant)
    assert same.gain.value == 0
    assert same.gain.standard_error == 0
    assert not same.recommends()
    mixed = pd.DataFrame(1 / 3, index=scores.index, columns=list(ARMS))
    value = uplift.policy_value(scores, mixed).value.value
    assert value == pytest.approx(worth.constants["value"].mean())


def test_money_less_costs_moves_values_by_just_that():
    scores, _, _ = world(np.random.default_rng(2))
    priced = scores.priced(2.0, {"voice": 0.5}, "EUR")
    for arm, cost in (("none", 0.0), ("voice", 0.5)):
        plain = uplift.policy_value(scores, arm).value.value
        for method in ("dr", "snips"):
            net = uplift.policy_value(priced, arm, method).value.value
            expected = 2 * uplift.policy_value(scores, arm, method).value.value - cost
            assert net == pytest.approx(expected)
        assert uplift.policy_value(priced, arm).value.value == pytest.approx(2 * plain - cost)
    effects = pd.DataFrame({"sms": -0.1, "voice": 0.2}, index=scores.index)
    assert set(uplift.best_arms(scores, effects)) == {"voice"}
    assert set(uplift.best_arms(scores, effects - 0.3)) == {"none"}


def test_rules_find_what_is_there_and_are_valued_on_others():
    scores, covariates, effect = world(np.random.default_rng(3))
    tree = uplift.policy_tree(scores, covariates, 2, rng=1)
    assert tree.grown_on + tree.valued_on == len(scores)
    told = tree.assign(covariates)
    best = pd.Series(ARMS[effect.argmax(axis=1)])
    assert (told == best).mean() > 0.95
    assert "region" in tree.text()
    assert tree.value.recommends()
    assert tree.rules["units"].sum() == tree.valued_on
    whole = (tree.rules["gain"] * tree.rules["share"]).sum()
    assert whole == pytest.approx(tree.value.gain.value, abs=1e-9)
    again = uplift.policy_tree(scores, covariates, 2, rng=1)
    assert again.text() == tree.text()
    assert uplift.policy_tree(scores, covariates, 3, rng=1).depth <= 3


def test_the_tree_of_depth_two_is_the_best_of_all():
    """Against every tree over the same questions, tried one by one."""
    from journeylab.uplift.policy_tree import _grown

    rng = np.random.default_rng(5)
    asked = rng.uniform(size=(120, 5)) < 0.5
    reward = rng.normal(size=(120, 3))

    def total(leaves):
        found = 0.0
        for conditions, arm in leaves:
            own = np.ones(120, dtype=bool)
            for question, answer in conditions:
                own &= asked[:, question] == answer
            found += reward[own, arm].sum()
        return found

    def side(own):
        tried = [reward[own].sum(axis=0).max()]
        for question in range(5):
            yes, no = own & asked[:, question], own & ~asked[:, question]
            if min(yes.sum(), no.sum()) >= 8:
                tried.append(reward[yes].sum(axis=0).max() + reward[no].sum(axis=0).max())
        return max(tried)

    every = [side(asked[:, q]) + side(~asked[:, q]) for q in range(5)]
    assert total(_grown(asked, reward, 2, 8)) == pytest.approx(max(every))


def test_without_differences_the_rules_do_not_pretend():
    false = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        arm = rng.integers(0, 2, 1000)
        y = pd.Series(rng.normal(size=1000) + 0.2 * arm)
        scores = uplift.aipw_scores(y, pd.Series(ARMS[arm]), np.full(1000, 0.5), "none")
        covariates = pd.DataFrame(rng.normal(size=(1000, 3)), columns=list("abc"))
        false += uplift.policy_tree(scores, covariates, 2, rng=seed).value.recommends()
    assert false <= 2


def test_gaps_answer_no_and_bad_trees_are_refused():
    scores, covariates, _ = world(np.random.default_rng(6), 2000)
    gaps = covariates.assign(age=covariates["age"].where(covariates["age"] < 50))
    assert uplift.policy_tree(scores, gaps, 2, rng=0).assign(gaps).notna().all()
    with pytest.raises(ContractError, match="depth must be 1 to 3"):
        uplift.policy_tree(scores, covariates, 4, rng=0)
    with pytest.raises(ContractError, match="nothing to ask"):
        uplift.policy_tree(scores, pd.DataFrame({"a": np.ones(2000)}), 1, rng=0)
    with pytest.raises(ContractError, match="both need 2000"):
        uplift.policy_tree(scores, covariates, 2, rng=0, fewest=1000)


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        ("fax", "no arm 'fax'"),
        (pd.Series(["sms"] * 199 + ["fax"]), "1 of 200 units arms that are not there: fax"),
        (pd.Series(["sms"] * 10), "another index"),
        (pd.DataFrame({"sms": [0.5] * 200, "none": [0.4] * 200}), "200 of 200 rows do not"),
    ],
)
def test_policies_that_give_no_arm_are_refused(policy, says):
    scores, _, _ = world(np.random.default_rng(0), 200)
    with pytest.raises(ContractError, match=says):
        uplift.policy_value(scores, policy)


def test_a_log_without_the_policys_arm_cannot_value_it():
    with pytest.raises(ContractError, match="none of 3 units got what the policy says"):
        logged_policy_value([1, 2, 3], [0, 0, 0], [0.5, 0.5, 0.5], "EUR")
    with pytest.raises(ContractError, match=r"\(0, 1\]; 1 of 3"):
        logged_policy_value([1, 2, 3], [1, 0, 0], [0.5, 0.0, 0.5], "EUR")


def stacked(n=600):
    rng = np.random.default_rng(0)
    arm = ARMS[rng.integers(0, 3, n)]
    return pd.DataFrame(
        {
            "experiment_id": np.repeat(["w1", "w2"], n // 2),
            "customer_id": [f"c{place % 400}" for place in range(n)],
            "arm": arm,
            "assigned_on": pd.Timestamp("2024-01-01") + pd.to_timedelta(np.arange(n) // 300, "W"),
            "propensity": np.where(arm == "none", 0.4, 0.3),
            "stratum": np.repeat(["w1", "w2"], n // 2),
            "cluster": [f"c{place % 400}" for place in range(n)],
            "age": rng.uniform(20, 60, n),
            "city": rng.choice(["a", "b"], n),
            "outcome_spend_before": rng.exponential(size=n),
            "spend": rng.exponential(size=n),
            "bought": 1.0,
        }
    )


def test_a_design_knows_its_blocks_clusters_and_what_was_known_before():
    design = read_design(stacked(), "spend", "none")
    assert design.arms == ("sms", "voice")
    assert design.covariates == ("age", "city")
    assert (design.clusters, design.randomised_by, design.placebo) == ("cluster", None, "before")
    assert list(design.shares.columns) == ["none", "sms", "voice"]
    assert design.summary()["units"].sum() == 600
    holes = stacked().assign(spend=lambda rows: rows["spend"].where(rows.index > 4))
    holes.loc[10:12, "propensity"] = 1.0
    assert read_design(holes, "spend", "none").left_out == {"no outcome": 5, "chance of 0 or 1": 3}


def test_numbers_that_a_source_wrote_as_text_are_numbers():
    rows = stacked().assign(
        recency=lambda rows: [f"{place % 12}" for place in range(len(rows))],
        past=lambda rows: [f"{place / 4:.2f}" for place in range(len(rows))],
        shelf=lambda rows: [f"{place % 9:03d}" for place in range(len(rows))],
    )
    rows.loc[0, "recency"] = None
    design = read_design(rows, "spend", "none", blocks=["shelf"])
    assert {"recency", "past", "shelf"} <= set(design.covariates)
    told = ("recency", "past", "shelf")
    kinds = [pd.api.types.is_numeric_dtype(design.rows[name]) for name in told]
    assert kinds == [True, True, False]
    assert design.rows["recency"].isna().sum() == 1
    with pytest.raises(ContractError, match="blocks: the rows have no column shop; there are age,"):
        read_design(rows, "spend", "none", blocks=["shop"])


def test_chances_that_nobody_logged_must_be_told():
    rows = stacked().assign(propensity=np.nan)
    with pytest.raises(ContractError, match="no chance was logged for any of 600 rows: say by"):
        read_design(rows, "spend", "none")
    shares = arm_shares("none=2, sms=1, voice=1", ["none", "sms", "voice"])
    assert shares == {"none": 0.5, "sms": 0.25, "voice": 0.25}
    told = read_design(rows, "spend", "none", shares=shares)
    assert told.shares.loc["w1"].to_dict() == shares
    assert (told.rows["propensity"] == told.rows["arm"].map(shares)).all()
    for wrong, says in (
        ({"none": 0.5, "sms": 0.5}, "must name none, sms, voice"),
        ({"none": 1.0, "sms": 0.0, "voice": 0.0}, "inside"),
    ):
        with pytest.raises(ContractError, match=says):
            read_design(rows, "spend", "none", shares=wrong)
    with pytest.raises(ContractError, match="chances were logged"):
        read_design(stacked(), "spend", "none", shares=shares)
    assert arm_shares("", ["none"]) is None
    with pytest.raises(ContractError, match="shares must look like"):
        arm_shares("none=0", ["none"])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"outcome": "visits"}, "outcome: the rows have no column visits"),
        ({"control": "fax"}, "nobody has the control 'fax'"),
        ({"covariates": ["age", "spend"]}, "known before assignment: spend"),
    ],
)
def test_designs_that_are_none_are_refused(options, says):
    with pytest.raises(ContractError, match=says):
        read_design(stacked(), **{"outcome": "spend", "control": "none"} | options)
    with pytest.raises(ContractError, match="no unit's window is closed"):
        read_design(stacked().iloc[:0], "spend", "none")


def test_costs_are_read_and_customers_stand_as_last_seen():
    assert arm_costs("sms=0.05, voice = .9, fax=1", ["sms", "voice"]) == {"sms": 0.05, "voice": 0.9}
    assert arm_costs("", ["sms"]) == {}
    for text in ("sms", "sms=x", "sms=-1"):
        with pytest.raises(ContractError, match="costs must look like"):
            arm_costs(text, ["sms"])
    design = read_design(stacked(), "spend", "none")
    rows = pd.DataFrame(
        {"arm": "sms", "group": 1, "effect": np.arange(600.0), "standard_error": 1.0},
        index=design.rows.index,
    ).assign(propensity=design.rows["propensity"])
    found = customer_effects(design, rows)
    assert len(found) == 400
    # the chance of the row's arm by design, not of what the customer happened to get
    assert (found["propensity"] == 0.3).all()
    # customers 0 to 199 stand in both weeks: the later row counts
    assert found.set_index("customer_id").loc["c5", "effect"] == 405
