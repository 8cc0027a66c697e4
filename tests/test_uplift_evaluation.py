"""Rankings judged from doubly robust scores: known truths, other libraries' numbers, laws."""

import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journeylab import uplift
from journeylab.errors import ContractError
from journeylab.estimate import half_samples, measured
from journeylab.uplift.scores import Scores

PUBLISHED = Path(__file__).parent / "published"
COVERED = 3 * (0.95 * 0.05 / 2000) ** 0.5


@pytest.fixture(scope="module")
def published():
    return tomllib.loads((PUBLISHED / "uplift.toml").read_text())


@pytest.fixture(scope="module")
def curves():
    return pd.read_csv(PUBLISHED / "uplift_curves.csv")


def known(effects, clusters=None, folds=None) -> Scores:
    """Scores that are the effects themselves, without noise."""
    tau = np.asarray(effects, dtype=float)
    n = len(tau)
    return Scores(
        index=pd.RangeIndex(n),
        arms=("none", "mail"),
        values=np.column_stack([np.zeros(n), tau]),
        predicted=np.zeros((n, 2)),
        outcome=tau,
        arm=np.arange(n) % 2,
        propensity=np.full(n, 0.5),
        unit="visits",
        clusters=clusters,
        folds=folds,
    )


def experiment(rng, n, effect, clusters=1):
    """Effect ``3 * effect * (1 - q)**2`` at place q, uneven chances that move with the outcome."""
    place = rng.uniform(size=n // clusters).repeat(clusters)
    shared = rng.normal(size=n // clusters).repeat(clusters) * (clusters > 1)
    chance = np.where(rng.uniform(size=n) < 0.5, 0.2, 0.4)
    mailed = rng.uniform(size=n) < chance
    tau = 3 * effect * (1 - place) ** 2
    y = np.sin(3 * place) + chance + tau * mailed + rng.normal(size=n) + shared * mailed
    base = 0.8 * np.sin(3 * place)
    expected = np.column_stack([base, base + tau / 2])
    own = np.where(mailed, chance, 1 - chance)
    error = (y - np.where(mailed, expected[:, 1], base)) / own
    scores = Scores(
        index=pd.RangeIndex(n),
        arms=("none", "mail"),
        values=expected + np.column_stack([~mailed * error, mailed * error]),
        predicted=expected,
        outcome=y,
        arm=mailed.astype(int),
        propensity=own,
        unit="visits",
        clusters=None if clusters == 1 else np.arange(n) // clusters,
    )
    return scores, 1 - place


def test_scores_are_predictions_corrected_by_weighted_errors():
    by_hand, _ = experiment(np.random.default_rng(0), 200, 1.0, clusters=2)
    made = uplift.aipw_scores(
        pd.Series(by_hand.outcome),
        pd.Series(np.where(by_hand.arm == 1, "mail", "none")),
        by_hand.propensity,
        "none",
        pd.DataFrame(by_hand.predicted, columns=["none", "mail"]),
        clusters=np.arange(200) // 2 + 7,
    )
    assert made.arms == by_hand.arms
    np.testing.assert_allclose(made.values, by_hand.values, rtol=1e-12)
    np.testing.assert_array_equal(made.clusters, by_hand.clusters)
    table = uplift.average_effects(made)
    # clusters of two, by hand
    each = (made.values[:, 1] - made.values[:, 0]).reshape(-1, 2).mean(axis=1)
    assert table["standard_error"].iloc[1] == pytest.approx(each.std(ddof=1) / 10)


def test_a_ranking_that_knows_only_the_first_percent_is_not_taken_for_a_good_one(published):
    """5,000 exponential effects; the other weight (TOC by 1 / q) calls the two nearly alike.

    No draw: effects are quantiles, and those whom the second ranking does not know are tied, which
    counts as the mean over all their orders. With TOC = -ln q of the perfect ranking, AUTOC is 1;
    of the one that knows the first share p it is A + (A - p m) (-ln p) + (1 - p) (m - 1), where
    A = p (1 - ln p) is what the first have together and m the mean of the others. A good ranking
    with errors, and drawn effects (.854 against .228 in one such draw), depend on the draw.
    """
    case = published["hand_case"]
    n, p = 5000, 0.01
    tau = -np.log((np.arange(1, n + 1) - 0.5) / n)
    scores = known(tau)
    first = np.where(np.arange(n) < p * n, tau, 0.0)
    together = p * (1 - np.log(p))
    rest = (1 - together) / (1 - p)
    area = together + (together - p * rest) * -np.log(p) + (1 - p) * (rest - 1)
    assert area == pytest.approx(case["top_percent"], abs=5e-5)
    assert uplift.autoc(scores, tau).value == pytest.approx(case["good"], abs=2e-3)
    assert uplift.autoc(scores, first).value == pytest.approx(area, abs=2e-3)
    ratio = uplift.autoc(scores, first).value / uplift.autoc(scores, tau).value
    assert ratio < 0.3 < 0.85 < case["other_weight_top_percent"] / case["other_weight_good"]


def test_drawn_effects_and_a_good_ranking_with_errors_score_as_the_issue_says(published):
    """Issue 7: 5,000 units, a good ranking against the top 1 %: AUTOC .854 against .228.

    60 draws of exponential effects; the good ranking sees them with normal noise of .7 standard
    deviations (correlation .82). The issue's figures are those of one draw, so they are held to the
    spread of draws; the mean of the second is also held to its closed form, by its own error. The
    other weight, 1 / q, gives both about 4. (Normal effects could not give these figures: the top
    percent of them scores .127.)
    """
    n, first = 5000, 50
    rows = np.arange(1, n + 1)
    found = []
    for seed in range(60):
        draw = np.random.default_rng(seed)
        tau = draw.exponential(size=n)
        good = tau + 0.7 * draw.normal(size=n)
        top = np.where(tau >= np.sort(tau)[-first], tau, 0.0)
        both = []
        for ranking in (good, top):
            order = tau[np.argsort(-ranking)]
            if ranking is top:
                order[first:] = order[first:].mean()  # over all orders of those not known
            toc = np.cumsum(order) / rows - tau.mean()
            assert uplift.autoc(known(tau), ranking).value == pytest.approx(toc.mean(), abs=1e-9)
            both += [toc.mean(), np.average(toc, weights=1 / rows)]
        found.append(both)
    (good, other_good, top, other_top) = np.mean(found, axis=0)
    spread = np.std(found, axis=0, ddof=1)
    assert abs(good - 0.854) < 3 * spread[0] < 0.08
    assert abs(top - 0.228) < 3 * spread[2] < 0.04
    assert abs(top - published["hand_case"]["top_percent"]) < 3 * spread[2] / 60**0.5
    assert top / good < 0.3 < 0.85 < other_top / other_good < 1
    # as docs/uplift.md says
    assert (round(good, 2), round(top, 2)) == (0.85, 0.22)
    assert (round(other_good, 1), round(other_top, 1)) == (4.3, 3.8)


def test_closed_forms_of_exponential_effects():
    n = 5000
    effects = -np.log((np.arange(1, n + 1) - 0.5) / n)
    scores = known(effects)
    assert uplift.autoc(scores, effects).value == pytest.approx(1.0, abs=2e-3)
    assert uplift.qini_rate(scores, effects).value == pytest.approx(0.25, abs=1e-3)
    # the first percent in one heap, the rest in another: area by hand
    top = np.where(np.arange(n) < n // 100, 1.0, 0.0)
    mean = effects[: n // 100].mean() - effects.mean()
    harmonic = (1 / np.arange(n // 100 + 1, n + 1)).sum()
    by_hand = 0.01 * mean + mean * 0.01 / 0.99 * (harmonic - 0.99)
    assert uplift.autoc(scores, top).value == pytest.approx(by_hand, rel=1e-9)


def test_autoc_is_the_plain_mean_of_the_toc_and_qini_weighs_it_by_q():
    rng = np.random.default_rng(3)
    scores, ranking = experiment(rng, 300, 1.0)
    grid = (np.arange(1, 301) / 300).tolist()
    curve = uplift.toc(scores, ranking, at=grid)
    assert uplift.autoc(scores, ranking).value == pytest.approx(curve["toc"].mean(), abs=1e-12)
    weighted = (curve["toc"] * curve["share"]).mean()
    assert uplift.qini_rate(scores, ranking).value == pytest.approx(weighted, abs=1e-12)
    assert curve["toc"].iloc[-1] == pytest.approx(0, abs=1e-12)
    assert (curve["band_low"] <= curve["ci_low"] + 1e-12).all()


def test_qini_and_areas_equal_those_of_other_libraries(published, curves):
    """scikit-uplift 0.5.1 and causalml 0.18.0 on the same rows, also with ties."""
    case = published["curves"]
    y, w = curves["outcome"], curves["treated"]
    for name in ("ranking", "tied"):
        found = uplift.qini(y, w, curves[name], draws=20)
        assert found.value == pytest.approx(case[f"qini_{name}"], abs=1e-10)
        area = uplift.auuc(y, w, curves[name], draws=20)
        assert area.value == pytest.approx(case[f"uplift_auc_{name}"], abs=1e-10)
    for normalise, name in (("final", "auuc_normalised"), ("none", "auuc_raw")):
        area = uplift.auuc(y, w, curves["ranking"], normalise=normalise, draws=20)
        assert area.value == pytest.approx(case[name], abs=1e-10 * max(case[name], 1))
        assert area.ci_low < area.value < area.ci_high


@pytest.mark.parametrize("effect", [0.0, 0.4])
def test_intervals_cover_as_often_as_they_say(effect):
    """2,000 experiments with fixed rankings and chances of .2 and .4; closed-form truths."""
    truth = {
        "autoc": effect * 5 / 6,
        "qini": effect / 4,
        "at a fifth": effect * (1 - 0.8**3) / 0.2,
        "toc": effect * (1 - 0.8**3) / 0.2 - effect,
        "policy": effect * (1 - 0.6**3) - effect,
    }
    inside = dict.fromkeys(truth, 0)
    for seed in range(2000):
        scores, ranking = experiment(np.random.default_rng(seed), 1000, effect)
        first = uplift.uplift_at(scores, ranking, 0.2)
        policy = pd.Series(np.where(ranking > 0.6, "mail", "none"))
        found = {
            "autoc": uplift.autoc(scores, ranking),
            "qini": uplift.qini_rate(scores, ranking),
            "at a fifth": first,
            "toc": first.minus(uplift.uplift_at(scores, ranking, 1.0)),
            "policy": _gain_on(scores, policy, "mail"),
        }
        for name, each in found.items():
            known_as = each.estimate()
            inside[name] += known_as.ci_low <= truth[name] <= known_as.ci_high
    for name, times in inside.items():
        assert abs(times / 2000 - 0.95) <= COVERED, (name, times / 2000)


def _gain_on(scores, policy, arm):
    codes = (policy == "mail").to_numpy().astype(int)
    each = scores.values[np.arange(len(scores)), codes] - scores.values[:, scores.position(arm)]
    return scores.measure(float(each.mean()), each)


def test_half_samples_agree_with_the_influence_function_also_for_clusters_and_differences():
    for clusters in (1, 4):
        scores, good = experiment(np.random.default_rng(5), 4000, 1.0, clusters)
        other = good + np.random.default_rng(6).normal(size=4000)

        def both(rows, scores=scores, good=good, other=other):
            part = scores.take(rows)
            a, b = uplift.autoc(part, good[rows]), uplift.autoc(part, other[rows])
            c = uplift.uplift_at(part, good[rows], 0.3)
            return a.value, a.value - b.value, uplift.qini_rate(part, good[rows]).value, c.value

        drawn = half_samples(len(scores), both, 1, 400, scores.clusters).std(axis=0, ddof=1)
        first, second = uplift.autoc(scores, good), uplift.autoc(scores, other)
        exact = (
            first.standard_error,
            first.minus(second).standard_error,
            uplift.qini_rate(scores, good).standard_error,
            uplift.uplift_at(scores, good, 0.3).standard_error,
        )
        # 400 draws know a spread to 3.5 %
        assert drawn == pytest.approx(exact, rel=0.13)
        if clusters == 4:
            alone = uplift.autoc(
                Scores(**{n: getattr(scores, n) for n in Scores.__slots__} | {"clusters": None}),
                good,
            )
            assert first.standard_error > 1.1 * alone.standard_error


def test_a_paired_difference_is_known_better_than_its_parts():
    scores, good = experiment(np.random.default_rng(8), 4000, 1.0)
    near = good + 0.02 * np.random.default_rng(9).normal(size=4000)
    first, second = uplift.autoc(scores, good), uplift.autoc(scores, near)
    assert first.minus(second).standard_error < first.standard_error / 3
    with pytest.raises(ContractError, match="same units"):
        first.minus(uplift.autoc(scores.take(np.arange(50)), good[:50]))


numbers = st.lists(st.integers(-5, 5), min_size=8, max_size=40)


@settings(max_examples=60, deadline=None)
@given(numbers, st.integers(0, 10_000))
def test_only_the_order_counts_and_ties_are_averaged(ranks, seed):
    n = len(ranks)
    rng = np.random.default_rng(seed)
    effects = rng.normal(size=n)
    scores, ranking = known(effects), np.array(ranks, dtype=float)
    stretched = np.exp(ranking / 3) - 100
    shuffle = rng.permutation(n)
    for metric in (uplift.autoc, uplift.qini_rate):
        value = metric(scores, ranking)
        assert metric(scores, stretched).value == pytest.approx(value.value, abs=1e-12)
        moved = metric(known(effects[shuffle]), ranking[shuffle])
        assert moved.value == pytest.approx(value.value, abs=1e-12)
        assert moved.standard_error == pytest.approx(value.standard_error, abs=1e-12)
    flat = uplift.autoc(scores, np.zeros(n))
    assert flat.value == pytest.approx(0, abs=1e-12)
    part = uplift.uplift_at(scores, np.zeros(n), 0.3)
    assert part.value == pytest.approx(effects.mean(), abs=1e-12)


def test_tie_orders_are_averaged_exactly():
    rng = np.random.default_rng(4)
    effects, ties = rng.normal(size=12), rng.integers(0, 4, 12).astype(float)
    scores = known(effects)
    for metric in (uplift.autoc, uplift.qini_rate, lambda s, r: uplift.uplift_at(s, r, 0.5)):
        orders = [metric(scores, ties + 1e-6 * rng.normal(size=12)).value for _ in range(2_500)]
        spread = np.std(orders) / 2_500**0.5
        assert metric(scores, ties).value == pytest.approx(np.mean(orders), abs=4 * spread)


def test_folds_are_ranked_apart():
    """A model that shifts between folds must not be punished or rewarded for the shift."""
    scores, ranking = experiment(np.random.default_rng(1), 2000, 1.0)
    fold = np.arange(2000) % 2
    split = Scores(**{n: getattr(scores, n) for n in Scores.__slots__} | {"folds": fold})
    moved = ranking + 10.0 * fold
    apart = [uplift.autoc(scores.take(fold == f), ranking[fold == f]) for f in (0, 1)]
    mean = (apart[0].value + apart[1].value) / 2
    together = uplift.autoc(split, moved)
    assert together.value == pytest.approx(mean, abs=1e-12)
    expected = (apart[0].standard_error ** 2 + apart[1].standard_error ** 2) ** 0.5 / 2
    assert together.standard_error == pytest.approx(expected, rel=2e-3)
    assert uplift.autoc(scores, moved).value < mean - 0.05


def test_profit_is_read_where_it_was_not_chosen():
    scores, ranking = experiment(np.random.default_rng(2), 20_000, 1.0)
    found = uplift.profit_curve(scores, ranking, value=2.0, cost=1.5, unit="USD")
    # treat while 6 (1 - q)^2 > 1.5: half the list, worth 2 (1 - .5^3) - .75
    best = found.profit.estimate()
    assert best.unit == "USD"
    assert best.ci_low < 2 * (1 - 0.125) - 0.75 < best.ci_high
    assert found.cut == pytest.approx(0.5, abs=0.15)
    assert found.gain.estimate().ci_low > 0.2
    last = found.table.iloc[-1]
    assert last["profit"] == pytest.approx(last["by_chance"], abs=1e-9)
    flat, chance = experiment(np.random.default_rng(3), 20_000, 0.0)
    nothing = uplift.profit_curve(flat, chance, value=2.0, cost=0.3)
    # the highest point of a flat curve is above 0; what one would get by aiming at it is not
    assert nothing.profit.estimate().ci_low < 0.01


def test_a_budget_is_spent_on_the_steepest_steps_first():
    rng = np.random.default_rng(0)
    n = 6000
    x = rng.uniform(size=(n, 2))
    effects = np.column_stack([np.zeros(n), x[:, 0], 2 * x[:, 1]])
    chances = np.array([0.5, 0.3, 0.2])
    arm = rng.choice(3, n, p=chances)
    names = np.array(["none", "sms", "voice"])
    y = pd.Series(effects[np.arange(n), arm] + rng.normal(size=n))
    scores = uplift.aipw_scores(y, pd.Series(names[arm]), chances[arm], "none", unit="orders")
    predicted = pd.DataFrame(effects[:, 1:], columns=["sms", "voice"])
    prices = pd.Series({"sms": 1.0, "voice": 2.0})
    table = uplift.cost_curve(scores, predicted, prices, budgets=[0.2, 0.5, 1.0])
    for _, row in table.iloc[1:].iterrows():
        assert row["spent"] == pytest.approx(row["budget"], abs=1e-9)
        assert row["ci_low"] < _best_under(effects[:, 1:], row["budget"]) < row["ci_high"]
        assert row["beyond_low"] > 0
        cost = row["share_sms"] + 2 * row["share_voice"]
        assert cost == pytest.approx(row["spent"], abs=1e-9)
    with pytest.raises(ContractError, match="no cost for voice"):
        uplift.cost_curve(scores, predicted, prices[["sms"]])


def _best_under(effects, budget):
    """The same optimum by a linear program's dual: a price on money, found by bisection."""
    low, high = 0.0, 10.0
    for _ in range(60):
        rate = (low + high) / 2
        net = np.column_stack([np.zeros(len(effects)), effects - rate * np.array([1.0, 2.0])])
        arm = net.argmax(axis=1)
        spent = np.array([0.0, 1.0, 2.0])[arm].mean()
        low, high = (rate, high) if spent > budget else (low, rate)
    return np.column_stack([np.zeros(len(effects)), effects])[np.arange(len(effects)), arm].mean()


def test_calibration_finds_slope_level_and_nothing_to_find():
    scores, ranking = experiment(np.random.default_rng(4), 20_000, 1.0)
    right = uplift.calibration(scores, 3 * ranking**2, groups=5)
    slope = right.slope.estimate()
    assert slope.ci_low < 1 < slope.ci_high
    assert right.table["inside"].sum() >= 4
    assert abs(right.off.value) < 3 * right.off.standard_error
    steep = uplift.calibration(scores, 6 * ranking**2)
    assert steep.slope.value == pytest.approx(right.slope.value / 2)
    assert "smaller" in steep.finding()
    assert steep.top_less_bottom.estimate().ci_low > 1
    noise = uplift.calibration(scores, np.random.default_rng(5).normal(size=20_000))
    assert "Nothing shows" in noise.finding()
    assert uplift.calibration(scores, np.ones(20_000)).slope is None


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"propensity": np.array([0.5, 1.0, 0.5, 0.5])}, "1 of 4 do not"),
        ({"outcome": pd.Series([1.0, 1.0, 1.0, 1.0])}, "the outcome is 1 for all 4"),
        ({"outcome": pd.Series([1.0, np.nan, 1.0, 0.0])}, "missing for 1 of 4"),
        ({"control": "nothing"}, "nobody has the control 'nothing'"),
        ({"arm": pd.Series(["none", "none", "none", "mail"])}, r"too small: mail \(1\)"),
        ({"arms": ["sms"]}, "2 of 4 units have arms not asked for: mail"),
        ({"predicted": pd.DataFrame({"none": [0.0] * 4})}, "columns none, mail"),
    ],
)
def test_what_gives_no_scores_is_refused(change, says):
    given = {
        "outcome": pd.Series([1.0, 0.0, 1.0, 0.0]),
        "arm": pd.Series(["none", "mail", "none", "mail"]),
        "propensity": np.full(4, 0.5),
        "control": "none",
    }
    uplift.aipw_scores(**given)
    with pytest.raises(ContractError, match=says):
        uplift.aipw_scores(**given | change)


def test_rankings_of_other_units_are_refused():
    scores, ranking = experiment(np.random.default_rng(0), 100, 1.0)
    with pytest.raises(ContractError, match="another index"):
        uplift.autoc(scores, pd.Series(ranking, index=range(1, 101)))
    with pytest.raises(ContractError, match="3 of 100 numbers are not finite"):
        uplift.autoc(scores, np.where(np.arange(100) < 3, np.nan, ranking))
    with pytest.raises(ContractError, match="two independent units"):
        measured(0.0, [1.0, 1.0], "x", clusters=[0, 0])
