"""What uplift refuses: chances that cannot be, rows used twice, differences that are no effects."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from journeylab import frames, uplift
from journeylab.errors import ContractError
from journeylab.tables import collect, open_tables
from journeylab.uplift.meta_learners import r_loss
from journeylab.uplift.settings import Trees
from journeylab.uplift.trial import read_trial

QUICK = Trees(rounds=20, depth=2, step=0.1, leaf=20, penalty=20)
SHARES = {"none": 0.5, "sms": 0.3, "voice": 0.2}


def world(rows=900, seed=1, shares=SHARES):
    draw = np.random.default_rng(seed)
    names = list(shares)
    arm = draw.choice(len(names), rows, p=list(shares.values()))
    frame = pd.DataFrame(
        {
            "age": draw.normal(size=rows),
            "city": draw.choice(["Harbin", "Yibin"], rows),
            "arm": np.array(names)[arm],
            "chance": np.array(list(shares.values()))[arm],
            "house": np.arange(rows) // 3,
        },
        index=pd.Index([f"c{seed}-{number}" for number in range(rows)], name="customer_id"),
    )
    frame["y"] = 0.3 * (arm > 0) + frame["age"] + draw.normal(size=rows)
    return frame


def trial_of(frame, propensity, **changes):
    return read_trial(frame, "y", "arm", "none", ["age", "city"], propensity, **changes)


def fitted(frame, propensity="chance", **changes):
    options = {"folds": 2, "rng": 1, "final": QUICK, "base": QUICK} | changes
    return uplift.fit_effects(
        frame, "y", "arm", "none", ["age", "city"], propensity=propensity, **options
    )


@pytest.mark.parametrize("learner", ["r", "forest", "dr", "x", "pooled"])
def test_rows_that_could_not_have_got_another_arm_are_refused_with_their_number(learner):
    """Nobody in Yibin could be called: the chance of the arm given is inside (0, 1) for all."""
    frame = world()
    yibin = frame["city"] == "Yibin"
    frame["arm"] = frame["arm"].where(~yibin | (frame["arm"] != "voice"), "none")
    by_arm = {"none": "p_none", "sms": "p_sms", "voice": "p_voice"}
    frame = frame.assign(p_none=np.where(yibin, 0.7, 0.5), p_sms=0.3,
                         p_voice=np.where(yibin, 0.0, 0.2))  # fmt: skip
    with pytest.raises(
        ContractError,
        match=rf"{yibin.sum()} of 900 rows had none of voice \({yibin.sum()} rows\).*leave these",
    ):
        fitted(frame, by_arm, learner=learner)
    assert len(trial_of(frame[~yibin], by_arm)) == 900 - yibin.sum()


def test_a_chance_that_is_missing_for_another_arm_is_refused_too():
    frame = world().assign(p_none=0.5, p_sms=0.3, p_voice=0.2)
    frame.loc[frame.index[frame["arm"] == "none"][:7], "p_sms"] = np.nan
    by_arm = {"none": "p_none", "sms": "p_sms", "voice": "p_voice"}
    with pytest.raises(ContractError, match=r"7 of 900 rows had none of sms \(7 rows\)"):
        trial_of(frame, by_arm)


def test_invented_shares_of_a_campaign_that_nobody_drew_are_refused():
    """Campaign 8 of The Complete Journey: 1,076 of 2,469 households were targeted."""
    panel = collect(frames.campaign_panels(open_tables("complete_journey"), "8", 35))
    rows = uplift.before_and_after(panel, "spend")
    rows["arm"] = np.where(rows["targeted"] == 1, "mail", "none")
    with pytest.raises(
        ContractError,
        match=r"none 1393 of 2469 rows \(56.4%\), share 50.0%, mail 1076 .* are not effects",
    ):
        uplift.fit_effects(
            rows, "after", "arm", "none", ["before_1"],
            propensity={"none": 0.5, "mail": 0.5}, rng=7,
        )  # fmt: skip


def test_right_shares_are_never_refused():
    """20,000 draws by lot, some with few expected and shares rounded to three digits."""
    from journeylab.uplift.trial import _refuse_impossible

    draw = np.random.default_rng(1)
    names = ("none", "sms", "voice")
    for number in range(20_000):
        shares = draw.dirichlet([4.0, 2.0, 0.5]) * 0.97 + 0.01
        units = int(draw.choice([25, 200, 64_000]))
        counts = draw.multinomial(units, shares)
        code = np.arange(3).repeat(counts)
        told = dict(zip(names, shares.round(3) if number % 2 else shares, strict=True))
        _refuse_impossible(told, code, names, None)
    _refuse_impossible(
        dict.fromkeys(names, 0.333), np.arange(3).repeat([21_000, 21_200, 21_300]), names, None
    )


def test_an_arm_left_out_of_the_frame_belongs_out_of_the_shares():
    frame = world(3000)
    two = frame[frame["arm"] != "voice"]
    with pytest.raises(ContractError, match="contradict the shares"):
        trial_of(two, SHARES)
    assert len(trial_of(two, {"none": 0.625, "sms": 0.375})) == len(two)


def test_of_clusters_with_one_arm_clusters_are_counted():
    """Chat groups of very different size, drawn one half to one half."""
    draw = np.random.default_rng(2)
    sizes = np.where(np.arange(40) % 2 == 0, 10, 90)
    group = np.arange(40).repeat(sizes)
    frame = pd.DataFrame(
        {
            "age": draw.normal(size=len(group)), "city": "Harbin", "group": group,
            "arm": np.where(group % 2 == 0, "none", "sms"), "y": draw.normal(size=len(group)),
        }
    )  # fmt: skip
    even = {"none": 0.5, "sms": 0.5}
    assert len(trial_of(frame, even, clusters="group")) == 2000
    with pytest.raises(ContractError, match="none 200 of 2000 rows"):
        trial_of(frame, even)
    with pytest.raises(ContractError, match="none 20 of 40 clusters"):
        trial_of(frame, {"none": 0.05, "sms": 0.95}, clusters="group")
    # where a cluster has several arms its rows need not have been drawn one by one
    frame["arm"] = np.where(np.arange(2000) % 4 == 0, "none", "sms")
    assert len(trial_of(frame, even, clusters="group")) == 2000


def test_scores_of_others_keep_their_clusters():
    frame = world()
    others = world(seed=2)
    plain = fitted(frame).scores_of(others, "chance")
    grouped = fitted(frame).scores_of(others, "chance", clusters="house")
    assert np.array_equal(plain.values, grouped.values)
    by_hand = grouped.effect("sms").reshape(-1, 3).mean(axis=1)
    table = uplift.average_effects(grouped).set_index("arm")
    assert table.loc["sms", "standard_error"] == pytest.approx(by_hand.std(ddof=1) / 300**0.5)
    with pytest.raises(ContractError, match="the fit had clusters: name the column"):
        fitted(frame, clusters="house").scores_of(others, "chance")


def test_the_gain_in_r_loss_has_the_error_of_clusters():
    frame = world()
    fit = fitted(frame, clusters="house")
    nuisance = fit.passes[0].nuisance
    told = fit.out_of_fold.to_numpy()
    flat = np.broadcast_to(
        (nuisance.values[:, 1:] - nuisance.values[:, :1]).mean(axis=0), told.shape
    )
    gain = (r_loss(nuisance, flat) - r_loss(nuisance, told))[:, 0]
    rows = np.isin(fit.trial.arm, (0, 1))
    own = pd.Series(gain[rows] - gain[rows].mean()).groupby(fit.trial.clusters[rows]).sum()
    by_hand = (own @ own * len(own) / (len(own) - 1)) ** 0.5 / rows.sum()
    table = fit.r_loss()
    assert table["standard_error"][0] == pytest.approx(by_hand)
    assert table["gain"][0] == pytest.approx(gain[rows].mean())
    assert by_hand != pytest.approx(gain[rows].std(ddof=1) / rows.sum() ** 0.5, rel=1e-3)


@pytest.mark.parametrize("part", [slice(None), slice(0, 300)])
def test_new_row_numbers_do_not_make_rows_new(part):
    frame = world()
    fit = fitted(frame)
    again = frame.iloc[part]
    for own in (again.reset_index(drop=True), again.set_axis("x" + again.index)):
        with pytest.raises(ContractError, match=rf"{len(own)} of {len(own)} rows equal, with arm"):
            fit.scores_of(own, "chance")


def test_strangers_under_the_same_row_numbers_are_strangers():
    frame, others = (world(seed=seed).reset_index(drop=True) for seed in (1, 2))
    fit = fitted(frame)
    assert len(fit.scores_of(others, "chance")) == 900
    mixed = pd.concat([frame.head(400), others.iloc[400:500]])
    with pytest.raises(ContractError, match="400 of 500 rows were used in the fit"):
        fit.scores_of(mixed, "chance")


def test_coarse_rows_agree_by_chance_and_are_not_taken_for_the_same():
    """Two flags, and an outcome that is mostly 0: most contents are found again in any trial."""
    parts = []
    for seed in (1, 2):
        draw = np.random.default_rng(seed)
        frame = world(2000, seed, {"none": 0.95, "sms": 0.05}).reset_index(drop=True)
        frame["age"] = (draw.random(2000) < 0.05).astype(float)
        frame["city"] = "Harbin"
        frame["y"] = (draw.random(2000) < 0.04).astype(float)
        parts.append(frame)
    fit = fitted(parts[0])
    assert len(fit.scores_of(parts[1], "chance")) == 2000
    with pytest.raises(ContractError, match="2000 of 2000 rows were used"):
        fit.scores_of(parts[0], "chance")


def test_a_row_whose_outcome_was_counted_again_is_another_row_only_if_most_are():
    frame = world()
    fit = fitted(frame)
    later = frame.assign(y=frame["y"] + 1)
    assert len(fit.scores_of(later, "chance")) == 900
    some = frame.assign(y=frame["y"] + (np.arange(900) < 200))
    with pytest.raises(ContractError, match="700 of 900 rows were used in the fit"):
        fit.scores_of(some, "chance")


def test_scores_of_an_observational_fit_are_refused():
    frame = world()
    fit = fitted(frame, "estimate")
    for scores in (
        fit.scores,
        lambda: fit.scores_of(world(seed=2), "chance"),
        lambda: fitted(frame).scores_of(world(seed=2), "estimate"),
    ):
        with pytest.raises(ContractError, match="no effects: observational_estimate"):
            scores()
    with pytest.raises(ContractError, match="known, not estimated"):
        uplift.fit_dose(
            frame, "y", "arm", "none", ["age"], {"sms": 1.0, "voice": 2.0},
            propensity="estimate", rng=1,
        )  # fmt: skip


def test_a_customer_in_two_arms_is_counted_wherever_the_id_stands():
    frame = world().reset_index()
    frame.loc[[1, 2], "customer_id"] = frame["customer_id"][0]
    frame.loc[4, "customer_id"] = frame["customer_id"][3]
    frame.loc[[0, 1, 2, 3, 4], "arm"] = ["none", "sms", "none", "voice", "voice"]
    told = r"2 customers have more than one row \(5 rows\), 1 of them in two arms or more"
    for own in (
        frame,
        frame.set_index("customer_id"),
        frame.set_index(["customer_id", frame.index]),
    ):
        with pytest.raises(ContractError, match=told):
            trial_of(own, "chance")
        assert len(trial_of(own, "chance", clusters="house")) == 900


def reach(seed=0, n=4000):
    """Chances that differ by block, of touches that reach more in one of them."""
    draw = np.random.default_rng(seed)
    block = draw.random(n) < 0.5
    chance = np.where(block, 0.2, 0.6)
    sent = draw.random(n) < chance
    got = sent & (draw.random(n) < np.where(block, 0.9, 0.3))
    answered = got & (draw.random(n) < 0.5)
    rows = pd.DataFrame(
        {
            "experiment_id": "e", "stratum": np.where(block, "a", "b"), "customer_id": range(n),
            "cluster": range(n), "arm": np.where(sent, "sms", "none"),
            "propensity": np.where(sent, chance, 1 - chance), "age": draw.normal(size=n),
            "delivered": got.astype(float), "answered": answered.astype(float),
            "spend": got * 1.0 + draw.normal(size=n),
        }
    )  # fmt: skip
    design = uplift.read_design(rows, "spend", "none", covariates=["age"])
    own = design.rows
    return design, uplift.aipw_scores(own["spend"], own["arm"], own["propensity"], "none")


def test_the_share_reached_is_the_one_the_effect_is_divided_by():
    design, scores = reach()
    table = uplift.delivered_effects(scores, design.rows["delivered"]).iloc[0]
    assert table["assigned"] / table["reached"] == pytest.approx(table["on_reached"], rel=1e-12)
    # .6 of all by design; of those sent to, fewer
    assert table["reached"] == pytest.approx(0.6, abs=0.04)
    sent = design.rows["arm"] == "sms"
    assert design.rows.loc[sent, "delivered"].mean() < 0.5


def test_the_delivered_and_the_answered_stand_below_each_other():
    design, scores = reach()
    both = uplift.reach_effects(design, scores)
    assert both["counted_as"].tolist() == ["delivered", "answered"]
    for name, row in zip(both["counted_as"], both.index, strict=True):
        alone = uplift.delivered_effects(scores, design.rows[name]).iloc[0]
        assert both.loc[row].drop("counted_as").to_dict() == alone.to_dict()
    assert both["reached"][1] == pytest.approx(0.3, abs=0.04)
    assert both["on_reached"][1] > both["on_reached"][0]

    def told(**columns):
        return uplift.reach_effects(replace(design, rows=design.rows.assign(**columns)), scores)

    # a channel that logs no answers says nothing of them
    assert told(answered=0.0)["counted_as"].tolist() == ["delivered"]
    some = design.rows["answered"].where(design.rows.index > 99)
    assert told(answered=some)["counted_as"].tolist() == ["delivered"]
    none = told(delivered=np.nan, answered=np.nan)
    assert len(none) == 0
    assert none.columns.tolist() == both.columns.tolist()
    with pytest.raises(ContractError, match="other rows than the design: 10 against 4000"):
        uplift.reach_effects(design, scores.take(np.arange(10)))
