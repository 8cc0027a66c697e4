"""Scores of one cause among several, and of rows that come into sight late."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journeylab import churn
from journeylab.churn.auc import auc_at
from journeylab.churn.calibration import event_free
from journeylab.churn.censoring import from_first, outcomes
from journeylab.churn.concordance import harrell_pairs, uno_pairs
from journeylab.churn.pairs import count_pairs
from journeylab.errors import ContractError
from journeylab.survival import aalen_johansen, count_causes

TIMES = (5.0, 10.0, 20.0, 40.0, 60.0)


def leaving(seed, n=2000, lost=False, customers=None):
    """Two causes of known rates, in whole days, and the chance of not having left by ``TIMES``."""
    random = np.random.default_rng(seed)
    x = random.normal(size=n)
    left, bought = 0.012 * np.exp(0.9 * x), 0.02 * np.exp(-0.4 * x)
    wait = np.ceil(random.exponential(size=n) / (left + bought))
    sight = np.full(n, 60.0)
    if lost:
        sight = np.minimum(np.ceil(random.uniform(0, 110, n)), 60)
    frame = pd.DataFrame(
        {
            "customer_id": np.arange(n) % (customers or n),
            "frequency": np.round(np.exp(1 - x)),
            "x": x,
            "duration": np.minimum(wait, sight),
            "event": (wait <= sight).astype(int),
            "cause": np.where(
                wait > sight,
                "",
                np.where(random.random(n) < left / (left + bought), "left", "bought"),
            ),
        }
    )
    share = (left / (left + bought))[:, None]
    truth = 1 - share * -np.expm1(-np.outer(left + bought, TIMES))
    return frame, pd.DataFrame(truth, frame.index, TIMES)


def in_play(seed, n=2500, lost=False, truncated=True):
    """Waits of known rates whose rows come into sight late where they last until then."""
    random = np.random.default_rng(seed)
    x = random.normal(size=n)
    rate = 0.02 * np.exp(0.8 * x)
    wait = np.ceil(random.exponential(size=n) / rate)
    entry = np.floor(random.uniform(-40, 50, n)).clip(0) if truncated else np.zeros(n)
    sight = entry + np.ceil(random.uniform(0, 120, n)) if lost else np.full(n, 60.0)
    sight = np.minimum(sight, 60)
    frame = pd.DataFrame(
        {
            "customer_id": np.arange(n),
            "frequency": np.round(np.exp(1 + x)),
            "entry": entry,
            "duration": np.minimum(wait, sight),
            "event": (wait <= sight).astype(int),
        }
    )
    truth = pd.DataFrame(np.exp(-np.outer(rate, TIMES)), frame.index, TIMES)
    seen = (frame["duration"] > entry).to_numpy()
    return frame[seen].reset_index(drop=True), truth[seen].reset_index(drop=True)


# --- one cause among several ------------------------------------------------------------------


def test_where_all_events_are_of_one_cause_its_scores_are_those_of_the_event():
    frame, truth = leaving(1, 600, lost=True, customers=400)
    frame["cause"] = np.where(frame["event"] == 1, "left", "")
    train, _ = leaving(2, 600)
    train["cause"] = np.where(train["event"] == 1, "left", "")
    given = {"train": train, "rng": 1, "draws": 50}
    plain = churn.score(frame, {"truth": truth}, **given)
    one = churn.score(frame, {"truth": truth}, cause="left", **given)
    assert (plain.baseline, one.baseline) == ("Kaplan-Meier", "Aalen-Johansen")
    for table in ("table", "by_time", "calibration", "d_calibration", "lift", "differences"):
        told = getattr(one, table).replace("Aalen-Johansen", "Kaplan-Meier")
        pd.testing.assert_frame_equal(told, getattr(plain, table), rtol=1e-9, atol=1e-12)


def test_losing_rows_from_sight_moves_no_score_of_a_cause():
    gaps = []
    for seed in range(12):
        (full, truth), (cut, _) = leaving(100 + seed), leaving(100 + seed, lost=True)
        found = []
        for frame in (full, cut):
            known = outcomes(frame, cause="left")
            risk = -truth[60.0].to_numpy()
            found.append(
                [
                    churn.brier(frame, truth, [40.0], cause="left")["brier"].iloc[0],
                    uno_pairs(known, risk, 40).share,
                    auc_at(known, risk, 40)[0],
                    event_free(known, 40, np.ones(len(frame)))[0],
                ]
            )
        gaps.append(np.subtract(*found))
    mean, error = np.mean(gaps, axis=0), np.std(gaps, axis=0, ddof=1) / len(gaps) ** 0.5
    assert (abs(mean) < 3 * error).all()
    assert (error < 0.005).all()


def test_order_of_a_cause_is_counted_pair_by_pair():
    frame, _ = leaving(3, 90, lost=True)
    frame["duration"] = np.ceil(frame["duration"] / 4)
    risk = frame["x"].round(1).to_numpy()
    known = outcomes(frame, cause="left")
    t = known.duration
    seen = {time: known.sight([time])[0] for time in np.unique(t)}
    plain, weighted = np.zeros(2), np.zeros(2)
    cumulative = np.zeros(2)
    for i in np.flatnonzero(known.happened):
        for j in range(len(t)):
            longer = t[j] > t[i] or (t[j] == t[i] and not known.ended[j])
            never = known.competing[j] and t[j] <= t[i]
            won = np.array([(risk[i] > risk[j]) + 0.5 * (risk[i] == risk[j]), 1.0])
            plain += (longer or never) * won
            weighted += longer * won / seen[t[i]] ** 2 + never * won / seen[t[i]] / seen[t[j]]
            if t[i] <= 8:
                still, other = known.still(8)[j], known.competing[j] and t[j] <= 8
                held = still / seen[8] + other / seen[t[j]]
                cumulative += held / seen[t[i]] * won
    assert harrell_pairs(known, risk).share == pytest.approx(plain[0] / plain[1], abs=1e-12)
    assert uno_pairs(known, risk).share == pytest.approx(weighted[0] / weighted[1], abs=1e-12)
    assert auc_at(known, risk, 8)[0] == pytest.approx(cumulative[0] / cumulative[1], abs=1e-12)


def test_the_share_without_a_cause_is_aalen_johansens_and_so_is_its_spread():
    frame, _ = leaving(4, 700, lost=True)
    known = outcomes(frame, cause="left")
    share, influence = event_free(known, 30, np.ones(len(frame)))
    curve = aalen_johansen(count_causes(frame["duration"], frame["cause"]), ["left", "bought"])
    row = curve[(curve["cause"] == "left") & (curve["time"] <= 30)].iloc[-1]
    assert share == pytest.approx(1 - row["incidence"], abs=1e-12)
    assert np.sqrt(np.square(influence).sum()) == pytest.approx(row["std_error"], rel=0.02)
    # and what a row adds is the derivative by its weight
    for i in range(0, 700, 100):
        more = np.ones(len(frame))
        more[i] += 1e-6
        moved = event_free(known, 30, more)[0] - share
        assert moved / 1e-6 == pytest.approx(influence[i], abs=1e-7)


def test_a_true_incidence_is_calibrated_and_a_wrong_one_is_not():
    p = []
    for seed in range(14):
        frame, truth = leaving(200 + seed, 1200, lost=True)
        train, _ = leaving(300 + seed, 1200)
        wrong = 1 - 0.7 * (1 - truth)
        told = {"truth": truth, "wrong": wrong}
        scores = churn.score(frame, told, train=train, cause="left", rng=1, draws=2)
        table = scores.table.set_index("model")
        p.append(table.loc[["truth", "wrong"], "d_p"])
        last = scores.by_time.set_index(["model", "time"]).loc[("truth", 60.0)]
        off = abs(last["predicted"] - last["observed"])
        assert off < 2 * (last["observed_high"] - last["observed_low"])
        assert table.loc["truth", "ibs"] < table.loc["Aalen-Johansen", "ibs"]
        assert table.loc["Aalen-Johansen", "skill"] == 0
    p = np.array(p)
    assert (p[:, 0] < 0.05).sum() <= 3
    assert (p[:, 1] < 0.05).mean() > 0.9


def test_rolling_judges_the_fits_that_tell_the_cause():
    parts = []
    for number in range(7):
        rows, _ = leaving(20 + number, 250)
        day = pd.Timestamp("2024-01-01") + pd.Timedelta(days=30 * number)
        parts.append(rows.assign(landmark=day))
    frame = pd.concat(parts, ignore_index=True)
    few = churn.HazardSettings(rounds=20, eta=0.1, depth=2)

    def hazard(train):
        given = {"causes": ["bought", "left"], "settings": few, "rng": 1}
        return churn.fit_hazard(train, ["x", "frequency"], bins=6, **given)

    judged = churn.rolling(frame, {"hazard": hazard}, [20, 40, 60], rng=1, cause="left", draws=50)
    assert judged.survival["hazard"].to_numpy().max() <= 1
    row = judged.differences.set_index("against").loc["Aalen-Johansen"]
    assert row["reading"] == "better"
    assert set(judged.pooled["model"]) == {"hazard", "Aalen-Johansen", "frequency alone"}
    cox = {"Cox": lambda train: churn.fit_cox(train, ["x"])}
    with pytest.raises(ContractError, match="'Cox' does not tell the cause 'left' from others"):
        churn.rolling(frame, cox, [20, 40, 60], rng=1, cause="left")


# --- rows that come into sight late -----------------------------------------------------------


def test_entry_at_the_start_changes_no_score():
    frame, truth = in_play(1, 500, lost=True, truncated=False)
    train, _ = in_play(2, 500, truncated=False)
    with_entry = churn.score(frame, {"truth": truth}, train=train, rng=1, draws=50)
    without = churn.score(
        frame.drop(columns="entry"), {"truth": truth}, train=train, rng=1, draws=50
    )
    pd.testing.assert_frame_equal(with_entry.table, without.table)
    assert with_entry.left_out == 0


def test_late_rows_are_judged_on_what_follows_their_first_time():
    frame, truth = in_play(3)
    train, _ = in_play(4)
    scores = churn.score(frame, {"truth": truth}, train=train, rng=1, draws=50)
    by_time = scores.by_time.set_index(["model", "time"])
    starts = np.array([0.0, *TIMES])
    start = starts[np.searchsorted(starts, frame["entry"])]
    judged = (start < 60) & ((frame["duration"] > start) | (start == 0))
    assert scores.left_out == int((~judged).sum())
    curve = truth.assign(**{"0": 1.0}).set_axis([*TIMES, 0.0], axis=1)
    at_start = curve.to_numpy()[np.arange(len(curve)), curve.columns.get_indexer(start)]
    for time in TIMES:
        own = judged & (start < time)
        alive = (frame["duration"] > time) | (frame["event"] == 0)
        told = truth[time] / at_start
        row = by_time.loc[("truth", time)]
        assert row["brier"] == pytest.approx(((told - alive)[own] ** 2).mean(), abs=1e-12)
        assert row["observed"] == pytest.approx(alive[own].mean(), abs=1e-12)
        assert row["predicted"] == pytest.approx(told[own].mean(), abs=1e-12)
        # whole days: the event falls in the day that ends at its time
        assert abs(row["predicted"] - row["observed"]) < 4 * np.sqrt(0.25 / own.sum())
    table = scores.table.set_index("model")
    assert table.loc["truth", "skill_low"] > 0
    assert table.loc["truth", "d_p"] > 0.01


def test_neither_late_entry_nor_loss_from_sight_moves_the_weighted_scores():
    moved = []
    for seed in range(16):
        whole, everyone = in_play(400 + seed, truncated=False)
        late, truth = in_play(600 + seed)
        lost, same = in_play(600 + seed, lost=True)
        order = []
        for frame, told in ((whole, everyone), (late, truth), (lost, same)):
            known, chosen = from_first(outcomes(frame, late=True), np.array(TIMES))
            risk = -told[60.0].to_numpy()[chosen]
            order.append(uno_pairs(known, risk, 40).share)
        error = [
            churn.score(frame, {"m": told}, train=late, rng=1, draws=2, times=TIMES[:4])
            .by_time.query("model == 'm'")["brier"]
            .to_numpy()
            for frame, told in ((late, truth), (lost, same))
        ]
        moved.append([order[1] - order[0], order[2] - order[1], *(error[1] - error[0])])
    mean, spread = np.mean(moved, axis=0), np.std(moved, axis=0, ddof=1) / len(moved) ** 0.5
    assert (abs(mean) < 3 * spread).all()
    assert (spread < 0.006).all()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(1, 7),
            st.booleans(),
            st.integers(0, 3),
            st.floats(0, 3),
            st.floats(0, 2),
            st.integers(0, 6),
        ),
        min_size=1,
        max_size=30,
    )
)
def test_pairs_in_sight_together_are_those_counted_one_by_one(rows):
    duration, event, risk, weight, later, start = (
        np.array(column, float) for column in zip(*rows, strict=True)
    )
    event, start = event.astype(bool), np.minimum(start, duration - 1)
    pairs = count_pairs(duration, event, risk, weight, later=later, start=start)
    right, every = np.zeros(len(rows)), np.zeros(len(rows))
    for i in np.flatnonzero(event):
        for j in range(len(rows)):
            waits = duration[j] > duration[i] or (duration[j] == duration[i] and not event[j])
            if waits and start[j] < duration[i]:
                mass = weight[i] * later[j]
                won = mass * ((risk[i] > risk[j]) + 0.5 * (risk[i] == risk[j]))
                for row in (i, j):
                    every[row] += mass
                    right[row] += won
    assert pairs.all == pytest.approx(every, abs=1e-9)
    assert pairs.right == pytest.approx(right, abs=1e-9)


def test_what_late_rows_cannot_tell_is_refused():
    frame, truth = in_play(5, 300)
    train, _ = in_play(6, 300)
    given = {"train": train, "rng": 1}
    caused = {"train": train.assign(cause="left"), "cause": "left", "rng": 1}
    with pytest.raises(ContractError, match="depends on the chance of no event of any kind"):
        churn.score(frame.assign(cause="left"), {"truth": truth}, **caused)
    latest = frame.assign(entry=60, duration=61)
    with pytest.raises(ContractError, match="too late to judge anything"):
        churn.score(latest, {"truth": truth}, **given)
    with pytest.raises(
        ContractError, match=r"'none' gives \d+ of \d+ rows no chance to be without"
    ):
        churn.score(frame, {"none": truth * 0}, **given)
    with pytest.raises(ContractError, match="only score, rolling and folds judge such rows"):
        churn.harrell_c(frame, -truth[60.0])
