"""The choice of a learner: judged on rows it has not seen, and free to choose none."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from journeylab.errors import ContractError
from journeylab.uplift.advice import explained, groups_finding, in_words, strongest
from journeylab.uplift.comparison import compare
from journeylab.uplift.groups import group_effects
from journeylab.uplift.settings import Trees
from journeylab.uplift.toc import autoc

COVARIATES = ("age", "spend", "recent")


def world(rows: int, seed: int, slope: float):
    draw = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "age": draw.standard_normal(rows),
            "spend": draw.exponential(1, rows),
            "recent": draw.integers(0, 2, rows),
            "arm": np.where(draw.random(rows) < 0.7, "sms", "none"),
        }
    )
    effect = 0.3 + slope * frame["age"]
    moved = effect * (frame["arm"] == "sms")
    frame["outcome"] = frame["spend"] + moved + draw.standard_normal(rows)
    return frame, effect


def compared(frame, **changes):
    options = {
        "propensity": {"none": 0.3, "sms": 0.7},
        "learners": ("dr", "pooled"),
        "folds": 2,
        "inner_folds": 2,
        "rng": 3,
    } | changes
    return compare(frame, "outcome", "arm", "none", COVARIATES, **options)


def test_where_all_are_changed_alike_the_average_is_chosen():
    for seed in range(5):
        frame, _ = world(1200, seed, slope=0.0)
        found = compared(frame, rng=seed)
        assert found.chosen == "flat"
        assert "no ranking is better than chance" in found.reason
        assert found.fit.effects(frame).nunique()["sms"] == 1
        chosen = found.fit.effects(frame)["sms"].iloc[0]
        assert abs(chosen - 0.3) < 4 * 2.2 / 1200**0.5


def test_where_effects_differ_a_learner_is_chosen_and_ranks_nearly_as_the_truth():
    frame, effect = world(4000, 1, slope=0.6)
    found = compared(frame)
    assert found.chosen in ("dr", "pooled", "s")
    table = found.table.set_index("learner")
    assert list(table.index) == [
        "selected",
        "forecast",
        "s",
        "dr",
        "pooled",
        "response",
        "flat",
        "random",
    ]
    assert table.loc["selected", "autoc_low"] > 0
    assert table.loc["flat", "autoc"] == pytest.approx(0, abs=1e-12)
    assert table.loc["random", "autoc_low"] < 0 < table.loc["random", "autoc_high"]
    # the mean of TOC for a normal effect of deviation 0.6 ranked by itself is 0.6
    assert table.loc["selected", "autoc"] == pytest.approx(0.6, abs=0.15)
    assert np.corrcoef(found.rankings["selected"]["sms"], effect)[0, 1] > 0.8


def test_the_selected_line_is_made_of_the_choices_of_the_folds():
    frame, _ = world(1500, 2, slope=0.4)
    found = compared(frame)
    folds = found.scores.folds
    assert len(found.choices) == len(found.forecasts) == 2
    assert not {"flat", "response"} & set(found.forecasts)
    for line, chosen in (("selected", found.choices), ("forecast", found.forecasts)):
        for fold, choice in enumerate(chosen):
            own = folds == fold
            left, right = (found.rankings[name]["sms"].to_numpy()[own] for name in (line, choice))
            assert (left == right).all()


def test_a_fold_is_ranked_by_models_that_have_not_seen_its_outcomes():
    frame, _ = world(1000, 4, slope=0.4)
    first = compared(frame)
    own = first.scores.folds == 0
    again = compared(frame.assign(outcome=frame["outcome"].where(~own, -frame["outcome"])))
    assert (again.scores.folds == first.scores.folds).all()
    assert again.choices[0] == first.choices[0]
    for name in ("s", "dr", "pooled", "response", "selected", "forecast"):
        left, right = (one.rankings[name]["sms"].to_numpy()[own] for one in (first, again))
        assert left.tobytes() == right.tobytes()


def test_a_paired_difference_is_known_better_than_its_parts():
    frame, _ = world(2000, 5, slope=0.5)
    found = compared(frame)
    apart = found.difference("pooled", "dr", "sms")
    width = apart.ci_high - apart.ci_low
    own = found.measured("pooled", "sms").estimate()
    assert width < own.ci_high - own.ci_low
    assert apart.value == pytest.approx(
        found.measured("pooled", "sms").value - found.measured("dr", "sms").value
    )


def test_guessed_propensities_and_unknown_names_are_refused():
    frame, _ = world(300, 6, slope=0.0)
    with pytest.raises(ContractError, match="observational differences are no effects"):
        compared(frame, propensity="estimate")
    with pytest.raises(ContractError, match="unknown learners: wood"):
        compared(frame, learners=("wood",))
    with pytest.raises(ContractError, match="criterion must be autoc or qini_rate"):
        compared(frame, criterion="gini")


def test_the_forecast_that_pages_draw_looks_no_better_than_chance_where_there_is_nothing():
    """40 trials of equal effects, three learners: the winner looks good, the forecast does not.

    Drawn from the same rows that chose it, the best of them would have a mean z above 0.
    """
    forecasts, winners = [], []
    trees = Trees(rounds=25, depth=2, step=0.1, leaf=20, penalty=20, look=5, patience=10)
    for seed in range(40):
        frame, _ = world(500, 400 + seed, slope=0.0)
        found = compared(
            frame, learners=("dr", "pooled", "forest"), rng=seed, base=trees, final=trees
        )
        z = {}
        for name in ("forecast", "dr", "pooled", "forest"):
            one = found.measured(name, "sms")
            z[name] = one.value / one.standard_error if one.standard_error > 0 else 0.0
        forecasts.append(z.pop("forecast"))
        winners.append(max(z.values()))
    assert abs(np.mean(forecasts)) < 3 * np.std(forecasts, ddof=1) / 40**0.5
    assert np.mean(winners) > 3 * np.std(winners, ddof=1) / 40**0.5


def test_thirty_arms_are_compared_where_all_learn_together():
    draw = np.random.default_rng(8)
    frame, _ = world(1500, 8, slope=0.0)
    names = ["none", *(f"arm {place}" for place in range(1, 30))]
    frame["arm"] = draw.choice(names, 1500)
    shares = dict.fromkeys(names, 1 / 30)
    found = compared(frame, propensity=shares, learners=("pooled",))
    assert found.table["arm"].nunique() == 29
    with pytest.raises(ContractError, match="29 arms beside the control"):
        compared(frame, propensity=shares)


def test_held_out_effects_do_not_look_better_than_chance_where_there_is_nothing():
    """25 trials of equal effects: what groups and actions are made of has a mean z about 0."""
    draws = []
    trees = Trees(rounds=60, depth=2, step=0.1, leaf=20, penalty=20, rows=0.8)
    for seed in range(25):
        frame, _ = world(800, seed, slope=0.0)
        found = compared(frame, learners=("dr",), rng=seed, base=trees, final=trees)
        if found.rankings["dr"]["sms"].nunique() <= 2:
            draws.append((0.0, 0.0))  # constant in both folds: says nothing, rightly
            continue
        groups = group_effects(found.scores, found.rankings["dr"], groups=2).table
        gap = groups["measured"].iloc[1] - groups["measured"].iloc[0]
        ranked = found.measured("dr", "sms")
        draws.append(
            (ranked.value / ranked.standard_error, gap / np.hypot(*groups["measured_error"]))
        )
    assert (np.abs(np.mean(draws, axis=0)) < 3 / 25**0.5).all()
    assert (np.std(draws, axis=0) > 0.5).all()


def test_what_a_page_explains_adds_up_and_names_what_moves_effects():
    frame, _ = world(2000, 3, slope=0.6)
    trees = Trees(rounds=40, depth=2, step=0.1, leaf=20, penalty=20)
    found = compared(frame, learners=("dr",), base=trees, final=trees)
    for chosen in ("dr", "forest", "response"):
        fit = replace(found.fit, learner=chosen)
        told = explained(replace(found, chosen=chosen, fit=fit if chosen == "dr" else found.fit))
        rows = frame.head(200)
        values = told.explain(rows, "sms")
        assert list(values.columns[-2:]) == ["expected outcome as control", "everybody"]
        # SHAP values of a row add up to its effect
        assert values.sum(axis=1).to_numpy() == pytest.approx(
            told.effects(rows)["sms"].to_numpy(), abs=1e-4
        )
        assert strongest(told, rows, "sms")["covariate"].iloc[0] == "age"
    assert told.learner == "pooled"
    with pytest.raises(ContractError, match="arm must be one of sms"):
        told.explain(rows, "fax")


def test_groups_are_named_in_the_title_only_where_they_are_told_apart():
    pairs = pd.DataFrame(
        {
            "baseline_group": ["low baseline", "high baseline"],
            "effect_group": ["low effect", "high effect"],
            "effect": [0.1, 0.9],
            "ci_low": [0.0, 0.7],
            "ci_high": [0.2, 1.1],
        }
    )
    told = "sms changes those of high baseline, high effect more than those of low baseline"
    assert told in groups_finding(pairs, "sms")
    assert "not told from each other" in groups_finding(pairs.assign(ci_high=1.2), "sms")
    nothing = pairs.assign(ci_low=-1.0, ci_high=1.2)
    assert "No group is told" in groups_finding(nothing, "sms")
    table = pd.DataFrame({"learner": ["dr", "own"], "other": ["s", "t"], "arm": ["chat", "sms"]})
    told = in_words(table, first="sms")
    assert told["learner"].tolist() == ["own", "doubly robust scores (DR)"]
    assert told["other"].tolist() == ["a model per arm (T)", "one model for all arms (S)"]


@pytest.mark.full
@pytest.mark.parametrize(("slope", "trials"), [(0.0, 150), (0.6, 150)])
def test_the_selected_pipelines_interval_covers_its_ranking(slope, trials):
    """150 trials each, chances of .7: selection, nested folds and all.

    What is to be covered is the AUTOC of the true effects under the ranking that was selected.
    """
    trees = Trees(rounds=25, depth=2, step=0.1, leaf=20, penalty=20, look=5, patience=10)
    inside, ranked = [], []
    for seed in range(trials):
        frame, effect = world(700, 1000 + seed, slope=slope)
        found = compared(frame, learners=("dr", "pooled"), rng=seed, base=trees, final=trees)
        told = found.measured("selected", "sms")
        values = np.column_stack([np.zeros(len(frame)), effect])
        true = autoc(replace(found.scores, values=values), found.rankings["selected"]["sms"], "sms")
        known = told.estimate()
        inside.append(known.ci_low - 1e-12 <= true.value <= known.ci_high + 1e-12)
        ranked.append(told.standard_error > 0)
    inside, ranked = np.array(inside), np.array(ranked)
    few = (0.95 * 0.05 / ranked.sum()) ** 0.5 if ranked.any() else 1.0
    print(
        f"slope {slope}: {inside.mean():.3f} of all, {ranked.mean():.2f} not flat, "
        f"{inside[ranked].mean() if ranked.any() else 1:.3f} of those"
    )
    assert inside.mean() >= 0.95 - 3 * (0.95 * 0.05 / trials) ** 0.5
    assert ranked.sum() < 20 or inside[ranked].mean() >= 0.95 - 3 * few
    # flat in all folds is 0 without an interval, and rightly: it must not be all there is
    assert slope == 0 or ranked.mean() > 0.5
