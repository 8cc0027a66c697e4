"""Honest causal forest: what it must say exactly, and what it must not know."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journeylab.errors import ContractError
from journeylab.uplift.folds import make_folds
from journeylab.uplift.forest import Residuals, fit_forest
from journeylab.uplift.settings import Forest, honest_trees

SMALL = Forest(groves=2, trees=3, depth=3, leaf=5, columns=1.0)


def trial(rows: int, seed: int, share: float = 0.5):
    """Covariates, arm residuals and folds; the second covariate is a flag."""
    draw = np.random.default_rng(seed)
    features = draw.standard_normal((rows, 3)).astype(np.float32)
    features[:, 1] = draw.random(rows) < 0.5
    arm = (draw.random(rows) < share).astype(np.int64)
    return features, arm - share, make_folds(arm, None, 2, draw)


def grown(features, arm, outcome, folds, trees=SMALL, **changes):
    residuals = Residuals(arm, outcome, changes.pop("weight", np.ones(len(arm))))
    options = {"rows": np.arange(len(arm)), **changes}
    return fit_forest(features, residuals, folds, trees, 7, **options)


@settings(max_examples=25, deadline=None)
@given(
    effect=st.floats(-5, 5),
    level=st.floats(-3, 3),
    share=st.floats(0.2, 0.8),
    leaf=st.integers(2, 40),
    seed=st.integers(0, 50),
)
def test_an_effect_without_noise_is_said_exactly_wherever_the_trees_split(
    effect, level, share, leaf, seed
):
    features, arm, folds = trial(300, seed, share)
    stage = grown(features, arm, level + effect * arm, folds, replace(SMALL, leaf=leaf))
    for told in (stage.predict(features), stage.held_out(features, folds)):
        # a constant that was left in the outcome is taken off where customers are compared
        assert np.allclose(told, effect, atol=1e-6 * (1 + abs(level)))


def test_two_kinds_of_customers_get_the_effect_of_their_kind():
    features, arm, folds = trial(2000, 1)
    effect = np.where(features[:, 1] == 1, 2.0, -1.0)
    stage = grown(features, arm, effect * arm, folds, replace(SMALL, depth=1, leaf=20))
    assert np.allclose(stage.held_out(features, folds), effect, atol=1e-6)


def test_weights_say_how_much_each_customer_counts():
    """Rows of weight 3 count as if they stood there three times: one leaf, so no split moves."""
    features, arm, folds = trial(400, 2)
    draw = np.random.default_rng(2)
    outcome = 0.7 * arm + draw.standard_normal(400)
    weight = 1.0 + 2 * (draw.random(400) < 0.3)
    one = replace(SMALL, leaf=10_000, groves=40)
    told = grown(features, arm, outcome, folds, one, weight=weight).predict(features)
    assert np.ptp(told) == 0
    slopes = [
        np.polyfit(arm[own], outcome[own], 1, w=weight[own] ** 0.5)[0]
        for own in (folds.learns(fold) for fold in (0, 1))
    ]
    # halves of eighty draws average to their whole
    assert told[0] == pytest.approx(np.mean(slopes), abs=0.02)
    assert abs(np.polyfit(arm, outcome, 1)[0] - np.mean(slopes)) > 0.02


def test_nothing_of_a_fold_moves_what_is_said_of_it():
    features, arm, folds = trial(400, 3)
    outcome = np.random.default_rng(3).standard_normal(400)
    first = grown(features, arm, outcome, folds).held_out(features, folds)
    for fold in folds.range:
        own = folds.of_row == fold
        again = grown(features, arm, np.where(own, 9 - outcome, outcome), folds)
        told = again.held_out(features, folds)
        assert told[own].tobytes() == first[own].tobytes()
        assert not np.allclose(told[~own], first[~own])


def test_a_customer_is_never_told_by_a_tree_that_its_twin_grew():
    """Every customer stands there twice, with the same noise: as clusters, pairs stay together.

    Honest trees then find no more in pure noise than a mean of so few rows has; trees that see the
    twin of who they are asked about praise it.
    """
    features, arm, _ = trial(300, 4)
    outcome = np.random.default_rng(4).standard_normal(300)
    features, arm, outcome = (np.repeat(part, 2, axis=0) for part in (features, arm, outcome))
    pairs = np.arange(600) // 2
    folds = make_folds((arm > 0).astype(np.int64), pairs, 2, np.random.default_rng(4))
    deep = replace(SMALL, depth=8, leaf=1, groves=10)
    score = outcome * np.sign(arm)

    def praise(clusters):
        told = grown(features, arm, outcome, folds, deep, clusters=clusters)
        seen = folds.learns(0)
        return np.corrcoef(replace(told, groves=told.groves[:1]).predict(features)[seen],
                           score[seen])[0, 1]  # fmt: skip

    assert praise(None) > praise(pairs) + 0.05


def test_the_number_of_threads_moves_no_byte():
    features, arm, folds = trial(300, 5)
    outcome = np.random.default_rng(5).standard_normal(300)
    told = [
        grown(features, arm, outcome, folds, threads=threads).predict(features).tobytes()
        for threads in (1, 3)
    ]
    assert told[0] == told[1]


def test_only_rows_of_the_two_arms_count():
    features, arm, folds = trial(400, 6)
    outcome = np.random.default_rng(6).standard_normal(400)
    rows = np.flatnonzero(np.arange(400) % 3)
    first = grown(features, arm, outcome, folds, rows=rows).predict(features)
    outcome[::3] = np.nan
    assert grown(features, arm, outcome, folds, rows=rows).predict(features).tobytes() == (
        first.tobytes()
    )


def test_settings_out_of_range_are_refused():
    for change in ({"groves": 0}, {"rows": 1.5}, {"columns": 0.0}):
        with pytest.raises(ContractError, match="forest: "):
            Forest(**change)


def test_leaves_hold_more_rows_but_a_smaller_part_of_them_the_more_there_are():
    sizes = [100, 1_000, 10_000, 100_000]
    leaves = [honest_trees(rows).leaf for rows in sizes]
    assert leaves == sorted(leaves)
    parts = [leaf / rows for leaf, rows in zip(leaves, sizes, strict=True)]
    assert parts == sorted(parts, reverse=True)


def test_four_clusters_are_enough_for_two_halves():
    features, arm, _ = trial(200, 8)
    clusters = np.arange(200) // 50
    outcome = np.random.default_rng(8).standard_normal(200)
    for seed in range(10):
        folds = make_folds((arm > 0).astype(np.int64), clusters, 2, np.random.default_rng(seed))
        told = grown(features, arm, outcome, folds, clusters=clusters).predict(features)
        assert np.isfinite(told).all()
