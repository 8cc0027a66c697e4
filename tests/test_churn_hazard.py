"""Discrete-time hazards: known truths, published rivals, laws, refusals."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lifelines import KaplanMeierFitter

from journeylab import churn
from journeylab.churn.bins import event_edges, exposure, lay_out
from journeylab.churn.hazard_search import folds
from journeylab.churn.observations import observe
from journeylab.churn.person_periods import person_periods
from journeylab.errors import ContractError, FitError
from journeylab.survival import aalen_johansen, count_causes

SMALL = churn.HazardSettings(rounds=40, depth=2, eta=0.1, subsample=0.7, columns=1.0, threads=1)
NONE = churn.HazardSettings(rounds=0)


def drawn(seed, n=2000, effect=1.0, follow_up=100.0):
    """Exponential waits with a step in ``x`` at 0, and a column that tells nothing."""
    random = np.random.default_rng(seed)
    x = random.normal(size=n)
    rate = 0.01 * np.exp(effect * (x > 0))
    wait = random.exponential(1 / rate)
    sight = np.minimum(random.uniform(20, 300, n), follow_up)
    return pd.DataFrame(
        {
            "x": x,
            "noise": random.normal(size=n),
            "duration": np.minimum(wait, sight),
            "event": (wait <= sight).astype(int),
        }
    )


def crossing(seed, n):
    """Two groups whose hazards cross: early and then never, or late."""
    random = np.random.default_rng(seed)
    early = random.random(n) < 0.5
    wait = np.where(early, 60 * random.weibull(0.6, n), 60 * random.weibull(2.0, n))
    frame = pd.DataFrame({"early": early.astype(float), "noise": random.normal(size=n)})
    frame["duration"], frame["event"] = np.minimum(wait, 120), (wait <= 120).astype(int)
    return frame


def competing(seed, n=4000):
    """Two causes with constant hazards, censoring, and one column that tells nothing."""
    random = np.random.default_rng(seed)
    first, second = random.exponential(60, n), random.exponential(120, n)
    sight = np.minimum(random.uniform(30, 200, n), 100)
    duration = np.minimum(np.minimum(first, second), sight)
    event = (duration < sight).astype(int)
    cause = np.where(first < second, "unsubscribed", "left_group")
    return pd.DataFrame(
        {
            "duration": duration,
            "event": event,
            "cause": np.where(event == 1, cause, None),
            "noise": random.normal(size=n),
        }
    )


# --- known truth --------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["sampled", "vector"])
@pytest.mark.parametrize("seed", range(4))
def test_known_curves_are_found_within_four_standard_errors(seed, layout):
    frame = drawn(seed, n=4000)
    settings = replace(SMALL, rounds=60, least_events=20.0)
    fit = churn.fit_hazard(frame, bins=10, layout=layout, settings=settings, rng=seed)
    probe = pd.DataFrame({"x": [-1.0, 1.0], "noise": [0.0, 0.0]})
    found = fit.survival(probe, [25.0, 75.0]).to_numpy()
    true = np.exp(-np.outer([0.01, 0.01 * np.e], [25.0, 75.0]))
    # what Kaplan-Meier would be unsure of, had it been told the two groups
    for row, group in enumerate((frame["x"] <= 0, frame["x"] > 0)):
        curve = KaplanMeierFitter().fit(frame[group]["duration"], frame[group]["event"])
        at = curve.survival_function_at_times([25.0, 75.0]).to_numpy()
        n_risk = [(frame[group]["duration"] >= t).sum() for t in (25, 75)]
        error = at * np.sqrt((1 - at) / at / np.array(n_risk))
        assert (np.abs(found[row] - true[row]) < 4 * error).all()
        # S(75) = .47 and .13 among 760 and 210 still watched: .018 and .023, counted to 10 %
        assert error[1] == pytest.approx((0.0181, 0.0233)[row], rel=0.15)
    assert (np.diff(found, axis=0) < -0.1).all()


@pytest.mark.parametrize("seed", range(2))
def test_crossing_hazards_are_seen_where_cox_sees_one_ratio(seed):
    frame = crossing(seed, 4000)
    fit = churn.fit_hazard(frame, bins=12, settings=SMALL, rng=seed)
    rates = fit.hazard(pd.DataFrame({"early": [0.0, 1.0], "noise": 0.0}), [5.0, 100.0])
    assert rates.loc[1, 5.0] > 2 * rates.loc[0, 5.0]
    assert rates.loc[1, 100.0] < 0.7 * rates.loc[0, 100.0]


def test_without_trees_the_curve_is_kaplan_meiers_at_every_edge():
    """lifelines as the independent implementation, with entry and censoring."""
    random = np.random.default_rng(5)
    frame = drawn(5, n=1500)
    frame["entry"] = np.where(random.random(1500) < 0.4, random.uniform(0, 15, 1500), 0.0)
    frame = frame[frame["duration"] > frame["entry"]]
    fit = churn.fit_hazard(frame, settings=NONE, rng=1)
    peer = KaplanMeierFitter().fit(frame["duration"], frame["event"], entry=frame["entry"])
    edges = fit.bins.edges[1:-1]
    ours = fit.survival(frame.head(1), edges.tolist()).to_numpy()[0]
    assert ours == pytest.approx(peer.survival_function_at_times(edges).to_numpy(), abs=1e-6)


def test_entry_counts_only_after_it():
    """Long waits enter late: forgetting entry overstates survival, and by how much is known."""
    random = np.random.default_rng(8)
    wait, entry = random.exponential(50, 30_000), random.uniform(0, 60, 30_000)
    seen = wait > entry
    frame = pd.DataFrame({"x": random.normal(size=seen.sum()), "entry": entry[seen]})
    frame["duration"] = np.minimum(wait[seen], 120)
    frame["event"] = (wait[seen] <= 120).astype(int)
    settings = replace(SMALL, least_events=200.0, rounds=20)
    with_entry = churn.fit_hazard(frame, settings=settings, rng=1)
    without = churn.fit_hazard(frame.drop(columns="entry"), settings=settings, rng=1)
    assert with_entry.survival(frame, [50.0])[50.0].mean() == pytest.approx(np.exp(-1), abs=0.02)
    assert without.survival(frame, [50.0])[50.0].mean() > np.exp(-1) + 0.1


@pytest.mark.parametrize("layout", ["sampled", "vector"])
def test_incidences_are_aalen_johansens_where_covariates_tell_nothing(layout):
    frame = competing(3)
    causes = ["unsubscribed", "left_group"]
    settings = replace(SMALL, rounds=15, least_events=100.0)
    fit = churn.fit_hazard(frame, causes=causes, layout=layout, settings=settings, rng=2)
    found = fit.cumulative_incidence(frame, [30.0, 60.0, 90.0])
    # held to other implementations in test_survival
    peer = aalen_johansen(count_causes(frame["duration"], frame["cause"]), causes)
    for cause in causes:
        own = peer[peer["cause"] == cause]
        for time in (30.0, 60.0, 90.0):
            expected = own.loc[own["time"] <= time, "incidence"].iloc[-1]
            assert found[cause][time].mean() == pytest.approx(expected, abs=0.012)
    total = found.T.groupby(level="time").sum().T.to_numpy()
    alive = fit.survival(frame, [30.0, 60.0, 90.0]).to_numpy()
    assert total + alive == pytest.approx(np.ones_like(alive), abs=1e-9)


@pytest.mark.parametrize("layout", ["sampled", "vector"])
def test_a_covariate_of_one_cause_moves_that_cause(layout):
    random = np.random.default_rng(4)
    n = 5000
    x = random.integers(0, 2, n)
    first, second = random.exponential(np.where(x, 30, 120)), random.exponential(80, n)
    duration = np.minimum(np.minimum(first, second), 100)
    frame = pd.DataFrame(
        {"x": x.astype(float), "duration": duration, "event": 1 * (duration < 100)}
    )
    frame["cause"] = np.where(first < second, "a", "b")
    settings = replace(SMALL, rounds=80, least_events=50.0)
    fit = churn.fit_hazard(
        frame, bins=10, causes=["a", "b"], layout=layout, settings=settings, rng=1
    )
    found = fit.cumulative_incidence(pd.DataFrame({"x": [0.0, 1.0]}), [60.0])
    rate_a, rate_b = np.array([1 / 120, 1 / 30]), 1 / 80
    ended = 1 - np.exp(-60 * (rate_a + rate_b))
    expected = np.stack([rate_a, np.full(2, rate_b)], axis=1) / (rate_a + rate_b)[:, None]
    # four standard errors of a share among 2500, at most .01 each
    assert found.to_numpy() == pytest.approx(expected * ended[:, None], abs=0.04)
    probe, time = pd.DataFrame({"x": [0.0, 1.0]}), 40.0
    # a bin knows the rate of a group to 1 in the root of that group's events in it
    start, end = fit.bins.edges[fit.bins.holding([time])[0] + np.array([0, 1])]
    inside = frame["duration"].between(start, end, inclusive="right") & (frame["cause"] == "a")
    events = (inside & (frame["event"] == 1)).groupby(frame["x"]).sum().to_numpy(float)
    rate = fit.hazard(probe, [time], cause="a")[time].to_numpy()
    assert (np.abs(np.log(rate / rate_a)) < 4 / np.sqrt(events)).all()
    explained = fit.explain(probe, [time], cause="a")
    gap = explained.contributions[1, 0, 0] - explained.contributions[0, 0, 0]
    # log-odds of cause a against no event within the bin, as the rates give it
    odds = rate_a / (rate_a + rate_b) * np.expm1((rate_a + rate_b) * (end - start))
    error = np.sqrt((1 / events).sum())
    assert 4 * error < np.log(4) / 2
    assert abs(gap - np.log(odds[1] / odds[0])) < 4 * error


def test_the_level_is_right_before_the_first_tree():
    frame = drawn(1)
    fit = churn.fit_hazard(frame, settings=NONE, rng=1)
    curve = KaplanMeierFitter().fit(frame["duration"], frame["event"])
    times = [10.0, 40.0, 90.0]
    assert fit.survival(frame.head(1), times).to_numpy()[0] == pytest.approx(
        curve.survival_function_at_times(times).to_numpy(), abs=0.01
    )


# --- rows of customer and bin --------------------------------------------------------------------


def test_drawn_rows_stand_for_all_of_them():
    """Weighted sums over four rows a customer: unbiased, within their own standard error."""
    frame = drawn(2, n=400)
    rows, _ = observe(frame)
    bins = lay_out(rows, event_edges(rows, 30), 1)
    whole = person_periods(rows, bins, None, np.random.default_rng(0))
    expected = np.bincount(whole.bin, whole.weight * (whole.cause == 0), minlength=bins.count)
    totals = []
    for seed in range(60):
        few = person_periods(rows, bins, 3, np.random.default_rng(seed))
        assert np.bincount(few.row).max() <= 4
        assert (few.cause > 0).sum() == frame["event"].sum()
        totals.append(np.bincount(few.bin, few.weight * (few.cause == 0), minlength=bins.count))
    error = np.std(totals, axis=0, ddof=1) / np.sqrt(60)
    assert (np.abs(np.mean(totals, axis=0) - expected) < 4 * error + 1e-6).all()
    # each row's own exposure to hazard is kept exactly, not only on average
    hazard = bins.hazard[:, 0] / bins.correction
    mass = [
        np.bincount(p.row, p.weight * hazard[p.bin] * (p.cause == 0), minlength=400)
        for p in (whole, few)
    ]
    assert mass[1] == pytest.approx(mass[0], rel=1e-4, abs=1e-7)


def test_partial_bins_count_by_their_part():
    frame = pd.DataFrame(
        {"duration": [5.0, 15.0, 30.0], "event": [0, 1, 0], "entry": [0.0, 5.0, 12.5]}
    )
    rows, _ = observe(frame)
    share, event_bin = exposure(rows, np.array([0.0, 10.0, 20.0, 30.0]))
    assert share == pytest.approx(np.array([[0.5, 0, 0], [0.5, 0, 0], [0, 0.75, 1.0]]))
    assert event_bin.tolist() == [-1, 1, -1]


def test_large_data_hold_four_rows_per_customer_at_most(monkeypatch):
    monkeypatch.setattr("journeylab.churn.hazard.FULL_EXPANSION_ROWS", 1000)
    frame = drawn(3)
    few = churn.fit_hazard(frame, settings=SMALL, rng=1)
    assert few.n_held <= 4 * len(frame)
    monkeypatch.undo()
    whole = churn.fit_hazard(frame, settings=SMALL, rng=1)
    assert whole.n_held > 6 * len(frame)
    gap = few.survival(frame, [50.0]) - whole.survival(frame, [50.0])
    assert np.abs(gap.to_numpy()).mean() < 0.03


def test_covariates_that_change_are_rows_of_one_customer():
    """A rate that doubles at day 50, told by a covariate that switches there."""
    random = np.random.default_rng(6)
    parts = []
    for customer in range(3000):
        early = random.exponential(100)
        wait = early if early <= 50 else 50 + random.exponential(25)
        wait = min(wait, 90.0)
        event = int(wait < 90)
        first = (customer, 0.0, min(wait, 50.0), 0.0, event if wait <= 50 else 0)
        parts.append(first)
        if wait > 50:
            parts.append((customer, 50.0, wait, 1.0, event))
    frame = pd.DataFrame(parts, columns=["customer_id", "entry", "duration", "late", "event"])
    settings = replace(SMALL, least_events=50.0)
    fit = churn.fit_hazard(frame, bins=[25.0, 50.0, 70.0, 90.0], settings=settings, rng=1)
    path = pd.DataFrame(
        {"customer_id": "a", "entry": [0.0, 50.0], "duration": [50.0, 90.0], "late": [0.0, 1.0]}
    )
    found = fit.along(path, [50.0, 75.0])
    assert found.loc["a"].to_numpy() == pytest.approx([np.exp(-0.5), np.exp(-1.5)], abs=0.03)
    with pytest.raises(ContractError, match="1 of 2 do not"):
        fit.along(path.assign(entry=[0.0, 60.0]), [75.0])


# --- laws ----------------------------------------------------------------------------------------


frames = st.integers(0, 10_000)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=frames)
def test_no_curve_rises_and_nothing_is_missing_on_any_frame(seed):
    """Ties, gaps, categories of one row, heavy censoring, late entry, odd scales."""
    random = np.random.default_rng(seed)
    n = int(random.integers(40, 160))
    scale = 10.0 ** random.integers(-2, 4)
    frame = pd.DataFrame(
        {
            "duration": np.ceil(random.weibull(random.uniform(0.3, 3), n) * 20 + 0.01) * scale,
            "event": (random.random(n) < random.uniform(0.3, 1)).astype(int),
            "number": np.where(random.random(n) < 0.3, np.nan, random.normal(size=n) * scale),
            "whole": pd.array(random.integers(0, 3, n), dtype="Int64"),
            "flag": random.random(n) < 0.5,
            "text": random.choice(["a", "b", "c", None], n, p=[0.5, 0.4, 0.02, 0.08]),
        }
    )
    if random.random() < 0.5:
        frame["entry"] = frame["duration"] * random.choice([0.0, 0.3], n)
    if frame["event"].sum() < 10:
        frame.loc[: n // 2, "event"] = 1
    before = frame.copy(deep=True)
    layout = random.choice(["sampled", "vector"])
    fit = churn.fit_hazard(frame, layout=str(layout), settings=SMALL, rng=seed)
    times = np.unique(random.uniform(0, fit.follow_up, 25)).tolist()
    curves = fit.survival(frame.assign(text="never seen"), times).to_numpy()
    assert np.isfinite(curves).all()
    assert ((curves >= 0) & (curves <= 1)).all()
    assert (np.diff(curves, axis=1) <= 0).all()
    mean = fit.restricted_mean(frame, fit.follow_up).to_numpy()
    assert ((mean > 0) & (mean <= fit.follow_up)).all()
    half = fit.follow_up / 2
    both = fit.survival(frame, [half, fit.follow_up]).to_numpy()
    given_half = fit.conditional(frame, [half], after=half).to_numpy()[:, 0]
    assert given_half * both[:, 0] == pytest.approx(both[:, 1], rel=1e-6, abs=1e-12)
    pd.testing.assert_frame_equal(frame, before)


def test_restricted_mean_is_the_area_under_the_curve():
    frame = drawn(7, n=500)
    fit = churn.fit_hazard(frame, settings=SMALL, rng=1)
    grid = np.linspace(0, 80, 4001)
    area = np.trapezoid(fit.survival(frame.head(5), grid.tolist()).to_numpy(), grid, axis=1)
    assert fit.restricted_mean(frame.head(5), 80.0).to_numpy() == pytest.approx(area, rel=1e-5)


def test_conditional_takes_a_wait_of_each_row():
    frame = drawn(7, n=300)
    fit = churn.fit_hazard(frame, settings=SMALL, rng=1)
    waits = np.where(np.arange(300) % 2, 10.0, 30.0)
    found = fit.conditional(frame, [20.0], waits)[20.0].to_numpy()
    every = fit.survival(frame, [10.0, 30.0, 50.0]).to_numpy()
    expected = np.where(waits == 10, every[:, 1] / every[:, 0], every[:, 2] / every[:, 1])
    assert found == pytest.approx(expected, rel=1e-9)


def test_monotone_is_held_everywhere():
    random = np.random.default_rng(2)
    frame = drawn(2, n=1500).assign(wave=random.uniform(-3, 3, 1500))
    fit = churn.fit_hazard(frame, monotone={"x": 1}, settings=replace(SMALL, depth=4), rng=1)
    probe = pd.DataFrame({"x": np.linspace(-3, 3, 60), "noise": 0.3, "wave": 0.1})
    assert (np.diff(fit.survival(probe, [20.0, 60.0]).to_numpy(), axis=0) <= 1e-9).all()
    free = churn.fit_hazard(frame, settings=replace(SMALL, depth=4), rng=1)
    assert (np.diff(free.survival(probe, [20.0]).to_numpy(), axis=0) > 1e-6).any()


# --- explanations --------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["sampled", "vector"])
def test_contributions_add_up_to_the_scored_hazard(layout):
    frame = drawn(1, n=1000)
    frame.loc[::5, "x"] = np.nan
    frame["text"] = np.where(frame["noise"] > 0, "a", "b")
    # a leaf with one output per bin parts its events among 15 of them: it needs more
    few = 40.0 if layout == "sampled" else 100.0
    settings = replace(SMALL, depth=4, rounds=60, least_events=few, shrinkage=few)
    fit = churn.fit_hazard(frame, bins=15, layout=layout, settings=settings, rng=1)
    ends = fit.bins.edges[1:].tolist()
    explained = fit.explain(frame.head(40), ends)
    log_odds = explained.baseline + explained.contributions.sum(axis=2)
    passed = np.cumsum(np.logaddexp(0, log_odds.astype(float)), axis=1)
    assert np.exp(-passed) == pytest.approx(fit.survival(frame.head(40), ends), abs=1e-5)
    assert explained.mean_size().loc["x"].mean() > 3 * explained.mean_size().loc["noise"].mean()
    assert explained.of(frame.index[3]).shape == (len(explained.covariates), 15)
    assert explained.at(ends[2]).shape == (40, len(explained.covariates))


@pytest.mark.parametrize("layout", ["sampled", "vector"])
def test_contributions_to_a_cause_add_up_to_its_odds(layout):
    frame = competing(5, n=1500).assign(x=np.random.default_rng(5).normal(size=1500))
    causes = ["unsubscribed", "left_group"]
    settings = replace(SMALL, least_events=20.0)
    fit = churn.fit_hazard(frame, bins=6, causes=causes, layout=layout, settings=settings, rng=1)
    some, ends = frame.head(30), fit.bins.edges[1:].tolist()
    passed = fit.survival(some, ends).to_numpy()
    stay = passed / np.column_stack([np.ones(30), passed[:, :-1]])
    for cause in causes:
        told = fit.cumulative_incidence(some, ends)[cause].to_numpy()
        within = np.diff(told, axis=1, prepend=0) / (passed / stay)
        assert np.log(within / stay) == pytest.approx(
            fit.explain(some, ends, cause=cause).margin, abs=1e-4
        )


def test_causes_side_by_side_have_the_gradient_of_their_likelihood():
    """Central differences of the loss that the search compares by."""
    from journeylab.churn.hazard_trees import _joint_gradient, loss, vector_lesson

    rows, _ = observe(competing(6, n=40), ["unsubscribed", "left_group"])
    bins = lay_out(rows, event_edges(rows, 3), 2)
    lesson = vector_lesson(np.zeros((40, 1), dtype=np.float32), rows, bins)
    margin = lesson.base + np.random.default_rng(1).normal(size=lesson.base.shape)
    first, second = _joint_gradient(lesson, margin.astype(np.float32))
    for column in range(6):
        step = np.zeros(margin.shape)
        step[:, column] = 1e-4
        above, here, below = (
            np.array([loss(_row(lesson, i), (margin + k * step)[[i]], "vector") for i in range(40)])
            for k in (1, 0, -1)
        )
        assert first[:, column] == pytest.approx((above - below) / 2e-4, abs=1e-5)
        assert second[:, column] == pytest.approx((above + below - 2 * here) / 1e-8, abs=1e-4)


def _row(lesson, number):
    own = slice(number, number + 1)
    return replace(
        lesson,
        matrix=lesson.matrix[own],
        base=lesson.base[own],
        target=lesson.target[own],
        weight=lesson.weight[own],
    )


def test_contributions_are_those_of_xgboost():
    """xgboost's own TreeSHAP, on rows of customer and bin, as the independent implementation."""
    import xgboost

    frame = drawn(1, n=800)
    frame.loc[::5, "x"] = np.nan
    settings = replace(SMALL, depth=5, rounds=40, least_events=2.0)
    fit = churn.fit_hazard(frame, bins=12, settings=settings, rng=1)
    explained = fit.explain(frame.head(30), fit.bins.edges[1:].tolist())
    matrix = fit.covariates.matrix(frame.head(30))
    for number in (0, 5, 11):
        cells = np.hstack([matrix, np.full((30, 1), number, dtype=np.float32)])
        base = np.full(30, fit.bins.margins()[number, 0])
        theirs = fit.trees.predict(xgboost.DMatrix(cells, base_margin=base), pred_contribs=True)
        assert explained.contributions[:, number] == pytest.approx(theirs[:, :-1], abs=1e-5)
        assert explained.baseline[:, number] == pytest.approx(theirs[:, -1], abs=1e-5)


def test_contributions_of_vector_trees_are_shapley_values():
    """All subsets by hand, each with the cover-weighted mean over the columns left out."""
    from itertools import combinations
    from math import comb

    from journeylab.churn.leaf_paths import leaf_paths

    frame = drawn(1, n=600).assign(third=np.random.default_rng(0).normal(size=600))
    settings = replace(SMALL, depth=3, rounds=5, least_events=1.0, shrinkage=1.0)
    fit = churn.fit_hazard(frame, bins=4, layout="vector", settings=settings, rng=1)
    explained = fit.explain(frame.head(6), fit.bins.edges[1:].tolist())
    paths, matrix = leaf_paths(fit.trees, {0: 1.0}), fit.covariates.matrix(frame.head(6))

    def value(row, known):
        total = np.zeros(4)
        for leaf in range(len(paths.values)):
            part = 1.0
            for place, column in enumerate(paths.column[leaf]):
                inside = paths.low[leaf, place] <= row[column] < paths.high[leaf, place]
                part *= float(inside) if column in known else paths.cover[leaf, place]
            total += part * paths.values[leaf]
        return total

    for number, row in enumerate(matrix):
        for player in range(3):
            others = [column for column in range(3) if column != player]
            expected = np.zeros(4)
            for size in range(3):
                for known in combinations(others, size):
                    # -1 fills up short paths: always open, known or not
                    gain = value(row, {*known, player, -1}) - value(row, {*known, -1})
                    expected += gain / 3 / comb(2, size)
            assert explained.contributions[number, :, player] == pytest.approx(expected, abs=1e-5)


# --- bytes, files --------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["sampled", "vector"])
def test_threads_do_not_change_a_byte(layout):
    frame = drawn(5, n=1500)
    prints = {
        churn.fit_hazard(
            frame, layout=layout, bins=6, settings=replace(SMALL, threads=threads), rng=3
        ).fingerprint
        for threads in (1, 2, 1)
    }
    assert len(prints) == 1
    other = churn.fit_hazard(frame, layout=layout, bins=6, settings=SMALL, rng=4).fingerprint
    assert other not in prints


@pytest.mark.parametrize("layout", ["sampled", "vector"])
def test_a_saved_fit_says_the_same(layout, tmp_path):
    frame = drawn(1, n=600).assign(text="a")
    frame.loc[frame["x"] > 0.5, "text"] = "b"
    fit = churn.fit_hazard(frame, layout=layout, settings=SMALL, rng=1)
    loaded = churn.load_hazard(churn.save_hazard(fit, tmp_path / "new" / "fit.json"))
    times = [0.0, 13.0, 99.0]
    pd.testing.assert_frame_equal(loaded.survival(frame, times), fit.survival(frame, times))
    first, second = loaded.explain(frame.head(3), times[1:]), fit.explain(frame.head(3), times[1:])
    assert (first.contributions == second.contributions).all()
    assert loaded.fingerprint == fit.fingerprint
    pd.testing.assert_frame_equal(loaded.summary(), fit.summary())


def test_a_broken_file_is_refused(tmp_path):
    file = churn.save_hazard(
        churn.fit_hazard(drawn(1, n=200), settings=SMALL, rng=1), tmp_path / "fit.json"
    )
    text = file.read_text()
    for change, message in (
        (('"version": 1', '"version": 9'), "version 9"),
        (('"layout"', '"lay"'), "no complete hazard model"),
        (("journeylab.churn hazard", "other"), "holds no hazard model"),
        (('"trees_sha256": "', '"trees_sha256": "0'), "were changed"),
    ):
        file.write_text(text.replace(*change))
        with pytest.raises(ContractError, match=message):
            churn.load_hazard(file)
    with pytest.raises(ContractError, match="cannot be read"):
        churn.load_hazard(tmp_path / "none.json")


# --- choosing settings ---------------------------------------------------------------------------


def test_folds_keep_customers_apart_and_know_nothing_of_the_judged_day():
    random = np.random.default_rng(1)
    frame = pd.DataFrame(
        {
            "customer_id": np.tile(np.arange(300), 4),
            "landmark": np.repeat(pd.date_range("2024-01-01", periods=4, freq="30D"), 300),
            "duration": random.integers(1, 91, 1200).astype(float),
            "event": random.integers(0, 2, 1200),
        }
    )
    rows, _ = observe(frame)
    found = folds(rows, np.random.default_rng(0))
    assert len(found) == 4
    for fold in found:
        judged = frame.iloc[fold.judged]
        training = frame.iloc[fold.training]
        assert not set(judged["customer_id"]) & set(training["customer_id"])
        day = judged["landmark"].iloc[0]
        assert (judged["landmark"] == day).all()
        assert (training["landmark"] < day).all()
        sight = (day - training["landmark"]).dt.days.to_numpy()
        assert (fold.known.duration <= sight).all()
        cut = training["duration"].to_numpy() > sight
        assert (fold.known.cause[cut] == 0).all()
        assert cut.any()


def test_search_gives_up_trees_where_covariates_tell_nothing():
    frame = drawn(9, n=500, effect=0.0)
    fit = churn.fit_hazard(frame, rng=1)
    assert fit.settings.rounds < 60
    assert (fit.search["loss"] <= fit.search["loss_marginal"]).all()
    assert fit.survival(frame, [50.0])[50.0].std() < 0.05
    told = churn.fit_hazard(drawn(9, n=500, effect=2.0), rng=1)
    assert told.search["loss"].min() < told.search["loss_marginal"].min() - 0.1


# --- published data ------------------------------------------------------------------------------


def test_gbsg2_is_no_worse_than_cox_on_two_splits():
    """Schumacher et al. (1994), lifelines' copy; 20 splits stand in benchmarks/churn.py."""
    from lifelines import CoxPHFitter
    from lifelines.datasets import load_gbsg2

    frame = load_gbsg2().rename(columns={"time": "duration", "cens": "event"})
    numbers = pd.get_dummies(
        frame.assign(tgrade=frame["tgrade"].map({"I": 1, "II": 2, "III": 3})),
        drop_first=True,
        dtype=float,
    )
    times = np.linspace(300, 1900, 20).tolist()
    gaps = []
    for split in range(2):
        shuffled = np.random.default_rng(split).permutation(len(frame))
        train, test = frame.iloc[shuffled[:515]], frame.iloc[shuffled[515:]]
        cox = CoxPHFitter().fit(numbers.loc[train.index], "duration", "event")
        theirs = cox.predict_survival_function(numbers.loc[test.index], times=times).T
        ours = churn.fit_hazard(train, rng=split).survival(test, times)
        scores = [churn.integrated_brier(churn.brier(test, s, times)) for s in (ours, theirs)]
        gaps.append(scores[0] - scores[1])
    assert np.mean(gaps) <= 0.002


# --- bad input -----------------------------------------------------------------------------------


def test_what_cannot_be_fitted_is_refused_with_a_count():
    frame = drawn(1, n=100)
    for broken, message in (
        (frame.assign(event=0), "none of the 100 rows has an event|0 events"),
        (frame.assign(duration=0.0), "100 of 100 rows have none"),
        (frame.assign(event=2), "100 of 100 rows are neither"),
        (frame.assign(entry=1e6), r"entry must lie in \[0, duration\); 100 of 100"),
        (frame.drop(columns="event"), r"no \['event'\]"),
        (frame.head(0), "no rows"),
        (frame.assign(x=[1.0, np.inf] * 50), "infinite in 50 of 100"),
        (frame.assign(x=pd.Timestamp("2024-01-01")), "turn it into numbers or text"),
        (frame.head(12), "12 customers"),
        (frame[["duration", "event"]], "no covariate is left"),
        (frame[["duration", "event"]].assign(x=1, y=np.nan), "x left out: 1 in every row"),
    ):
        with pytest.raises((ContractError, FitError), match=message):
            churn.fit_hazard(broken, settings=SMALL, rng=1)
    stacked = frame.assign(customer_id="a", landmark="2024-01-01")
    with pytest.raises(ContractError, match="99 of 100 rows repeat a customer"):
        churn.fit_hazard(stacked, settings=SMALL, rng=1)


def test_options_that_do_not_go_together_are_refused():
    frame = competing(1, n=300)
    for options, message in (
        ({"layout": "wide"}, "'sampled' or 'vector'"),
        ({"sample": 0}, "at least 1"),
        ({"bins": 0}, "bins must be at least 1"),
        ({"bins": [5.0, 4.0]}, "ascend"),
        ({"layout": "vector", "monotone": {"noise": 1}}, "xgboost does not constrain trees of"),
        ({"causes": ["unsubscribed"]}, "events have another cause"),
        ({"causes": ["unsubscribed", "moved"]}, "no event of cause 'moved'"),
        ({"monotone": {"other": 1}}, "no covariates of this fit"),
        ({"monotone": {"noise": 2}}, "must be -1, 0 or 1"),
        ({"covariates": ["event"]}, "tell the outcome"),
    ):
        with pytest.raises(ContractError, match=message):
            churn.fit_hazard(frame, settings=SMALL, rng=1, **options)


def test_fallbacks_are_said():
    random = np.random.default_rng(1)
    frame = drawn(1, n=200).assign(event=1, constant=3.0, empty=np.nan)
    frame["segment"] = [f"segment {i}" if i < 30 else "large" for i in range(200)]
    frame["duration"] = np.ceil(frame["duration"] / 20)
    fit = churn.fit_hazard(frame, settings=SMALL, rng=1)
    notes = " | ".join(fit.notes)
    assert "constant left out: 3.0 in every row" in notes
    assert "empty left out: missing in every row" in notes
    assert "segment: 30 of 31 categories have fewer than 20 rows" in notes
    assert "bins in place of 30" in notes
    assert "every row has the event" in notes
    assert fit.covariates.names == ("x", "noise", "segment")
    fresh = frame.head(3).assign(segment=["new", "large", None], x=random.normal(size=3))
    assert fit.covariates.unseen(fresh) == {"segment": 1}
    assert np.isfinite(fit.survival(fresh, [1.0, 3.0]).to_numpy()).all()


def test_times_past_the_follow_up_and_unknown_columns_are_refused():
    frame = drawn(1, n=200)
    fit = churn.fit_hazard(frame, settings=SMALL, rng=1)
    for times in ([fit.follow_up + 1], [-1.0], [np.nan]):
        with pytest.raises(ContractError, match="cannot tell"):
            fit.survival(frame, times)
    with pytest.raises(ContractError, match="at least one time"):
        fit.survival(frame, [])
    with pytest.raises(ContractError, match=r"no covariate \['x'\]"):
        fit.survival(frame.drop(columns="x"), [10.0])
    with pytest.raises(ContractError, match="held numbers in training"):
        fit.survival(frame.assign(x="text"), [10.0])
    with pytest.raises(ContractError, match="2 values for 200 rows"):
        fit.conditional(frame, [1.0], [1.0, 2.0])
    with pytest.raises(ContractError, match="no cause 'moved'"):
        fit.hazard(frame, [1.0], cause="moved")
