"""Learners of effects: what they refuse, what they must not see, and what they recover."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from journeylab import frames
from journeylab.errors import ContractError
from journeylab.simulate import Truth
from journeylab.simulate.cached import world_folder
from journeylab.tables import collect, open_tables
from journeylab.uplift.boosting import bin_rows, boost
from journeylab.uplift.covariates import learn_encoding
from journeylab.uplift.dose import fit_dose
from journeylab.uplift.effects import fit_effects
from journeylab.uplift.final_stage import fit_final_stage
from journeylab.uplift.groups import group_effects
from journeylab.uplift.meta_learners import imputed_targets, learn
from journeylab.uplift.nuisance import aipw, fit_nuisance
from journeylab.uplift.ridge import fit_ridge
from journeylab.uplift.scores import aipw_scores, average_effects
from journeylab.uplift.settings import Trees
from journeylab.uplift.toc import autoc
from journeylab.uplift.trial import kind_of, read_trial

COVARIATES = ("age", "spend", "recent", "city")
QUICK = Trees(rounds=30, depth=2, step=0.1, leaf=20, penalty=20, rows=0.8)


def world(rows: int, seed: int, arms: int = 1, slope: float = 0.8, share: float = 0.5):
    """A trial with known effects: 0.5 + slope * age for the first arm, half that for the second."""
    draw = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "age": draw.standard_normal(rows),
            "spend": draw.exponential(1, rows),
            "recent": draw.random(rows) < 0.4,
            "city": draw.choice(["Xi'an", "Harbin", "Yibin"], rows),
        },
        index=pd.Index([f"c{number}" for number in range(rows)], name="customer_id"),
    )
    labels = np.array(["none", *(f"arm {place}" for place in range(1, arms + 1))])
    chances = np.array([1 - share, *([share / arms] * arms)])
    arm = draw.choice(arms + 1, rows, p=chances)
    effects = np.zeros((rows, arms + 1))
    for place in range(1, arms + 1):
        effects[:, place] = (0.5 + slope * frame["age"]) / place
    base = 1 + frame["spend"] + 0.5 * frame["recent"]
    frame["arm"] = labels[arm]
    frame["outcome"] = base + effects[np.arange(rows), arm] + draw.standard_normal(rows)
    frame["chance"] = chances[arm]
    return frame, effects[:, 1:], dict(zip(labels.tolist(), chances.tolist(), strict=True))


def trial_of(frame, propensity="chance", **changes):
    return read_trial(frame, "outcome", "arm", "none", COVARIATES, propensity, **changes)


def fitted(frame, **changes):
    options = {"propensity": "chance", "folds": 3, "rng": 1, "final": QUICK} | changes
    return fit_effects(frame, "outcome", "arm", "none", COVARIATES, **options)


def with_zero(frame):
    return frame.assign(chance=frame["chance"].where(frame["recent"], 1.0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.assign(age=f["outcome"]), "'age' is the outcome 'outcome' under another name"),
        (lambda f: f.drop(columns="age"), "lacks covariates: age"),
        (lambda f: f.assign(arm="arm 1"), "nobody has the control 'none'"),
        (lambda f: f.assign(arm="none"), "no arm beside the control"),
        (lambda f: f.assign(arm=["odd", *f["arm"][1:]]), r"1 of 3 have fewer, 1 rows in all: odd"),
        (with_zero, r"inside \(0, 1\); \d+ of 400 do not"),
        (lambda f: f.assign(outcome=3.0), "3 for all 400 rows"),
        (lambda f: f.assign(outcome=f["outcome"].where(f["age"] > -1)), r"missing for \d+ of 400"),
        (lambda f: pd.concat([f, f.head(2)]), "2 customers have more than one row"),
        (lambda f: f.assign(spend=np.inf), "400 of 400 values are infinite"),
    ],
)
def test_what_no_effect_can_be_learnt_from_is_refused_with_counts(change, message):
    frame, _, _ = world(400, 1)
    with pytest.raises(ContractError, match=message):
        trial_of(change(frame))


def test_outcome_and_arm_are_refused_among_the_covariates():
    frame, _, _ = world(400, 1)
    for column in ("outcome", "arm"):
        with pytest.raises(ContractError, match=f"the {column} '{column}' is among the covariates"):
            read_trial(frame, "outcome", "arm", "none", [column], "chance")


def test_thirty_arms_are_left_to_the_pooled_learner():
    frame, _, shares = world(3000, 1, arms=30, share=0.9)
    with pytest.raises(ContractError, match=r"30 arms beside the control .* learner='pooled'"):
        fitted(frame)
    fit = fitted(frame, learner="pooled", propensity=shares)
    assert fit.out_of_fold.shape == (3000, 30)


def test_rows_of_the_fit_are_no_rows_to_judge_it_on():
    frame, _, _ = world(900, 1)
    fit = fitted(frame.head(600))
    with pytest.raises(ContractError, match="100 of 400 rows were used in the fit"):
        fit.scores_of(frame.tail(400), "chance")
    assert len(fit.scores_of(frame.tail(300), "chance")) == 300


@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("rows", ["few", "many", "many, each fold alone"])
def test_nothing_of_a_fold_moves_what_is_said_of_its_outcomes(monkeypatch, count, rows):
    """Neither trees, nor how many of them are used, know a row that they speak for."""
    if rows != "few":
        monkeypatch.setattr("journeylab.uplift.folds.MANY_ROWS", 100)
    frame, _, _ = world(600, 2)
    trial = trial_of(frame)
    features, arm = trial.features, np.array([1], dtype=np.float32)

    def told(outcome):
        nuisance = fit_nuisance(trial_of(frame.assign(outcome=outcome)), count, rng=5)
        folds, target = nuisance.folds, nuisance.trial.outcome
        folds = replace(folds, alone=rows.endswith("alone"))
        trees = Trees(rounds=30, leaf=5, penalty=5, bins=16)
        flags = (nuisance.trial.arm[:, None] == 1).astype(np.float32)
        grown = boost(bin_rows(features, folds, 16, flags=flags), target, trees, 5)
        stage = fit_final_stage(
            features, target, np.ones(len(target)), folds, bin_rows(features, folds, 16), trees, 5
        )
        ridge = fit_ridge(features, target[:, None], folds).held_out(features, folds)[:, 0]
        return folds, [grown.held_out(features, folds, arm), stage.held_out(features, folds), ridge]

    folds, first = told(frame["outcome"])
    for fold in range(count):
        own = folds.of_row == fold
        again = told(frame["outcome"] + own * (5.0 * frame["age"] - 3.0))[1]
        for before, after in zip(first, again, strict=True):
            assert before[own].tobytes() == after[own].tobytes()
            assert not np.allclose(before[~own], after[~own])


def test_held_out_effects_of_one_fit_rank_no_better_than_chance_where_there_is_nothing():
    """30 trials of equal effects, each learner's AUTOC in standard errors: 0 on average.

    Stopped and weighed by the rows that they are judged on, the same learners had 0.6.
    """
    places = []
    trees = Trees(rounds=25, depth=2, step=0.1, leaf=20, penalty=20, look=5, patience=10)
    for seed in range(30):
        frame, _, _ = world(400, seed, slope=0.0, share=0.7)
        nuisance = fit_nuisance(trial_of(frame), 3, rng=seed, trees=trees)
        scores, own = nuisance.scores(), []
        for learner in ("s", "r", "dr", "pooled", "forest"):
            found = autoc(scores, learn(nuisance, learner, trees).held_out[:, 0], "arm 1")
            own.append(found.value / found.standard_error if found.standard_error > 0 else 0.0)
        places.append(own)
    told = np.array(places)
    assert (np.abs(told.mean(axis=0)) < 3 * told.std(axis=0, ddof=1) / 30**0.5).all(), told.mean(0)
    assert (told.std(axis=0) > 0.5).all()


def test_targets_of_x_know_nothing_of_the_fold_their_model_speaks_for():
    frame, _, _ = world(600, 3)
    told = []
    first = fit_nuisance(trial_of(frame), 3, rng=5)
    own = first.folds.of_row == 1
    for outcome in (frame["outcome"], frame["outcome"] - 50.0 * (own & (frame["age"] > 0))):
        nuisance = fit_nuisance(trial_of(frame.assign(outcome=outcome)), 3, rng=5)
        apart = learn(nuisance, "t")
        told.append(imputed_targets(nuisance, apart, 1)[0])
    assert told[0][1, ~own].tobytes() == told[1][1, ~own].tobytes()
    assert not np.allclose(told[0][0, ~own], told[1][0, ~own])


def test_clusters_stay_in_one_fold():
    frame, _, _ = world(600, 4)
    frame["house"] = np.arange(600) // 3
    nuisance = fit_nuisance(trial_of(frame, clusters="house"), 5, rng=1)
    folds = nuisance.folds.of_row.reshape(200, 3)
    assert (folds == folds[:, :1]).all()


@pytest.mark.parametrize("learner", ["s", "t", "x", "r", "dr", "pooled", "forest"])
def test_same_seed_same_bytes_whatever_the_threads(learner):
    frame, _, _ = world(800, 5)
    told = [
        fitted(frame, learner=learner, threads=threads).effects(frame).to_numpy().tobytes()
        for threads in (1, 3)
    ]
    assert told[0] == told[1]


@pytest.mark.parametrize("learner", ["s", "x", "r", "dr", "pooled", "forest"])
def test_every_learner_finds_who_is_changed(learner):
    frame, effects, _ = world(3000, 6)
    fit = fitted(frame, learner=learner)
    assert np.corrcoef(fit.out_of_fold["arm 1"], effects[:, 0])[0, 1] > 0.85


def test_a_known_linear_effect_is_recovered_within_its_error():
    """Over seeds: the average effect by its own standard error, the slope by that of the seeds."""
    places, slopes = [], []
    for seed in range(8):
        frame, effects, shares = world(4000, 10 + seed)
        fit = fitted(frame, learner="pooled", propensity=shares, folds=5, rng=seed).calibrate()
        score = fit.scores().effect()
        places.append((score.mean() - effects.mean()) / (score.std(ddof=1) / len(score) ** 0.5))
        others, _, _ = world(4000, 100 + seed)
        slopes.append(np.polyfit(others["age"], fit.effects(others)["arm 1"], 1)[0])
    assert abs(np.mean(places)) < 3 / 8**0.5
    assert 0.3 < np.std(places) < 2
    assert abs(np.mean(slopes) - 0.8) < 3 * np.std(slopes, ddof=1) / 8**0.5
    assert np.std(slopes, ddof=1) < 0.1


def test_several_arms_keep_their_labels_and_their_sizes():
    frame, effects, shares = world(6000, 7, arms=2, share=0.7)
    for learner in ("r", "x", "dr"):
        fit = fitted(frame, learner=learner, propensity=shares)
        assert fit.arms == ("arm 1", "arm 2")
        told = fit.out_of_fold
        for place, arm in enumerate(fit.arms):
            assert np.corrcoef(told[arm], effects[:, place])[0, 1] > 0.7


def test_knowing_only_the_chance_of_the_arm_given_is_enough():
    frame, effects, _ = world(4000, 8, arms=2, share=0.7)
    for learner in ("r", "x"):
        told = fitted(frame, learner=learner).out_of_fold
        assert np.corrcoef(told["arm 1"], effects[:, 0])[0, 1] > 0.7


def test_pooling_beats_arm_by_arm_where_arms_are_many_and_effects_small():
    """Five trials: the mean square error of the effects, and who has the smaller one."""
    errors = []
    for seed in range(5):
        frame, _, shares = world(3000, 20 + seed, arms=8, slope=0.0, share=0.8)
        draw = np.random.default_rng(seed)
        own = 0.1 * frame["age"] + 0.03 * draw.standard_normal(9)[pd.factorize(frame["arm"])[0]]
        frame["outcome"] += own * (frame["arm"] != "none")
        error = {}
        for learner in ("pooled", "dr"):
            fit = fitted(frame, learner=learner, propensity=shares, folds=3)
            told = fit.out_of_fold.to_numpy() - fit.out_of_fold.mean().to_numpy()
            error[learner] = float(((told - 0.1 * frame[["age"]].to_numpy()) ** 2).mean())
        errors.append((error["pooled"], error["dr"]))
    pooled, dr = np.array(errors).T
    assert (pooled < dr).sum() >= 4
    assert pooled.mean() < 0.9 * dr.mean()


def test_scores_are_doubly_robust_scores_of_the_same_pass():
    frame, _, _ = world(500, 9)
    trial = trial_of(frame)
    nuisance = fit_nuisance(trial, 3, rng=1)
    predicted = pd.DataFrame(nuisance.predicted, frame.index, list(trial.arms))
    expected = aipw_scores(frame["outcome"], frame["arm"], frame["chance"], "none", predicted)
    assert np.allclose(aipw(trial, nuisance.predicted), expected.values)
    assert nuisance.scores().arms == expected.arms


def test_shap_values_add_up_to_the_effect():
    frame, _, _ = world(1500, 11)
    for learner in ("dr", "r", "pooled"):
        fit = fitted(frame, learner=learner).calibrate()
        told = fit.explain(frame.head(50))
        assert np.allclose(told.sum(axis=1), fit.effects(frame.head(50))["arm 1"], atol=1e-4)
        assert told.abs().mean().drop("everybody").idxmax() == "age"
    with pytest.raises(ContractError, match="'s' has no final stage"):
        fitted(frame, learner="s").explain(frame)


def test_calibration_keeps_the_mean_at_the_average_effect():
    frame, _, _ = world(1500, 12)
    fit = fitted(frame, learner="response").calibrate()
    assert fit.out_of_fold["arm 1"].mean() == pytest.approx(fit.scores().effect().mean())
    assert 0 <= fit.slopes[0] <= 1.5


def test_repeats_are_averaged():
    frame, _, _ = world(600, 13)
    fit = fitted(frame, repeats=2)
    parts = [one.held_out for one in fit.passes]
    assert not np.allclose(parts[0], parts[1])
    assert np.allclose(fit.out_of_fold.to_numpy(), (parts[0] + parts[1]) / 2)
    assert fit.scores().folds is None


def test_amounts_that_are_mostly_nothing_are_expected_to_be_0_or_more():
    frame, _, _ = world(3000, 14)
    draw = np.random.default_rng(14)
    chance = 0.1 + 0.1 * (frame["arm"] == "arm 1")
    frame["outcome"] = (draw.random(3000) < chance) * np.exp(draw.standard_normal(3000) + 3)
    assert kind_of(frame["outcome"].to_numpy()) == "zero-inflated"
    fit = fitted(frame)
    nuisance = fit.passes[0].nuisance
    assert nuisance.predicted.min() >= 0
    raw = frame.groupby("arm")["outcome"].mean()
    scores = fit.scores()
    error = scores.effect().std() / len(frame) ** 0.5
    assert abs(scores.effect().mean() - (raw["arm 1"] - raw["none"])) < error


def test_estimated_propensities_are_labelled_observational():
    frame, _, _ = world(800, 15)
    fit = fitted(frame, propensity="estimate")
    assert fit.observational
    assert not fitted(frame).observational
    chances = fit.trial.chances
    assert np.allclose(chances.sum(axis=1), 1)
    assert list(fit.summary().columns) == ["arm", "rows", "difference", "spread"]
    assert list(fitted(frame).summary().columns) == ["arm", "rows", "effect", "spread"]
    assert 0 <= fit.calibrate().slopes[0] <= 1.5


def test_levels_that_were_not_learnt_are_none_of_those_that_were():
    frame, _, _ = world(50, 16)
    encoding = learn_encoding(frame, ["city", "recent"])
    assert encoding.names == ("city = Harbin", "city = Xi'an", "city = Yibin", "recent")
    assert encoding.encode(frame.head(1).assign(city="Ulm"))[0, :3].tolist() == [0, 0, 0]


def test_effects_of_a_dose_never_fall_as_it_grows():
    frame, _, shares = world(3000, 17, arms=3, slope=0.0, share=0.75)
    doses = {"arm 1": 30.0, "arm 2": 20.0, "arm 3": 10.0}
    fit = fit_dose(
        frame, "outcome", "arm", "none", COVARIATES, doses, propensity=shares, folds=3, rng=1
    )
    told = fit.effects(frame.head(200), [0.0, 5.0, 10.0, 20.0, 25.0, 30.0])
    assert (told[0.0] == 0).all()
    assert (np.diff(told.to_numpy(), axis=1) >= -1e-6).all()
    # true effects of the arms are 0.5, 0.25 and 0.167 by rising dose
    mean = fit.out_of_fold.mean()
    assert mean["arm 1"] == pytest.approx(0.5, abs=0.25)
    assert mean["arm 1"] > mean["arm 3"]
    with pytest.raises(ContractError, match="outside those of the trial, 0 to 30"):
        fit.effects(frame, [40.0])


def test_group_effects_are_drawn_to_the_average_and_their_intervals_hold():
    """Fixed predictions, 200 trials of 5 groups: the true means lie in the 95 % intervals."""
    inside, nearer, n = 0, 0, 600
    for seed in range(200):
        draw = np.random.default_rng(seed)
        told = pd.DataFrame({"a": draw.standard_normal(n)})
        arm = pd.Series(np.where(draw.random(n) < 0.3, "a", "none"))
        chance = np.where(arm == "a", 0.3, 0.7)
        truth = 0.3 + 0.3 * told["a"]
        outcome = pd.Series(draw.standard_normal(n)) + truth * (arm == "a")
        found = group_effects(aipw_scores(outcome, arm, chance, "none"), told)
        means = truth.groupby(found.customers["group"].to_numpy()).mean().to_numpy()
        table = found.table
        inside += int(((table["ci_low"] <= means) & (means <= table["ci_high"])).sum())
        nearer += int(table["effect"].std() <= table["measured"].std() + 1e-12)
    # five groups of a trial share the average they are drawn to: three binomial errors of 200
    assert abs(inside / 1000 - 0.95) < 3 * (0.95 * 0.05 / 200) ** 0.5
    assert nearer == 200


def test_others_get_the_group_effect_of_their_prediction():
    frame, _, _ = world(3000, 18)
    fit = fitted(frame.head(2000))
    groups = group_effects(fit.scores(), fit.out_of_fold, groups=4)
    told = groups.of(fit.effects(frame.tail(1000)))
    assert len(told) == 1000
    assert set(told["effect"]) <= set(groups.table["effect"])
    assert groups.customers.columns.tolist() == [
        "arm", "group", "effect", "standard_error", "propensity",
    ]  # fmt: skip
    with pytest.raises(ContractError, match="no groups for arms: other"):
        groups.of(pd.DataFrame({"other": [0.1]}))


@pytest.fixture(scope="module")
def waves():
    """Twelve randomised waves of a small world, and the true effect of a touch on each row.

    The outcome is counted over the week from Monday; a touch goes out on Monday to Wednesday, so
    that it works for six days of it on average.
    """
    name = "simulated:campaign:2000:7"
    rows = collect(frames.trials(open_tables(name), "touch_wave_*", 7))
    truth, parts = Truth.load(world_folder(name)), []
    for monday, own in rows.groupby("assigned_on"):
        world = truth.at((monday - pd.Timedelta(days=1)).date())
        told = world.effects(6).pivot_table("orders", "customer_id", "channel")
        parts.append(told.reindex(own["customer_id"]).set_axis(own.index))
    return rows, pd.concat(parts).reindex(rows.index)


def test_average_effects_of_the_channels_lie_within_their_intervals(waves):
    rows, truth = waves
    covariates = ["orders_lately", "orders_before", "days_since_last", "touches_lately", "city"]
    for learner in ("pooled", "dr"):
        fit = fit_effects(
            rows, "orders", "arm", "none", covariates, learner=learner, propensity="propensity",
            folds=3, clusters="cluster", unit="orders", rng=1,
        )  # fmt: skip
        table = average_effects(fit.scores()).set_index("arm").drop("none")
        assert sorted(table.index) == sorted(truth.columns)
        # who joined on the Monday itself was nobody yet on the eve
        known = truth.mean().reindex(table.index)
        assert ((table["ci_low"] < known) & (known < table["ci_high"])).all()
        place = (table["effect"] - known) / table["standard_error"]
        # chi-square of five arms that share a control: 99.9 % lie below 20.5
        assert 0.1 < float((place**2).sum()) < 20.5
        assert (table["standard_error"] < 0.01).all()
