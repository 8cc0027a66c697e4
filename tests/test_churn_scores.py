"""Scores of forecasts: printed tables, an independent implementation, known truths, and laws."""

import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journeylab import churn
from journeylab.churn.pairs import count_pairs
from journeylab.errors import ContractError

PUBLISHED = Path(__file__).parent / "published"
SCORES = tomllib.loads((PUBLISHED / "survival_scores.toml").read_text())


@pytest.fixture(scope="module")
def gbsg2():
    """All patients, those of the guide's test split, and the predictions of the guide's models."""
    from lifelines.datasets import load_gbsg2

    everybody = load_gbsg2().rename(columns={"time": "duration", "cens": "event"})
    with np.load(PUBLISHED / "gbsg2_survival.npz") as kept:
        test = everybody.iloc[kept["row"]]
        times = kept["times"]
        survival, risk = {}, {}
        for model in ("rsf", "cph"):
            steps = 10000 + np.cumsum(kept[f"{model}_drops"].astype(int), axis=0)
            position = np.searchsorted(kept[f"{model}_from"], np.arange(len(times)), "right") - 1
            survival[model] = pd.DataFrame(steps[position].T / 10000, test.index, times)
            risk[model] = pd.Series(kept[f"risk_{model}"], test.index)
    return everybody, test, survival, risk


# --- printed, and another implementation --------------------------------------------------------


def test_the_printed_table_of_the_user_guide_is_reproduced(gbsg2):
    everybody, test, survival, risk = gbsg2
    times = survival["rsf"].columns
    flat = pd.DataFrame(0.5, test.index, times)
    same = churn.kaplan_meier_prediction(test, test, times)
    printed = SCORES["gbsg2"]["printed"]
    for name, prediction in {**survival, "random": flat, "kaplan_meier": same}.items():
        table = churn.brier(test, prediction, censoring=everybody, watched="until")
        assert round(churn.integrated_brier(table), 3) == printed["ibs"][name]
    for name, values in risk.items():
        assert round(churn.harrell_c(test, values), 3) == printed["c"][name]


@pytest.mark.parametrize("model", ["rsf", "cph"])
def test_every_score_equals_scikit_survivals(gbsg2, model):
    everybody, test, survival, risk = gbsg2
    given, expected = {"censoring": everybody, "watched": "until"}, SCORES["gbsg2"][model]
    times = SCORES["gbsg2"]["times"]
    prediction = survival[model]
    ibs = churn.integrated_brier(churn.brier(test, prediction, **given))
    assert ibs == pytest.approx(expected["ibs"], abs=1e-10)
    table = churn.brier(test, prediction, times, **given)
    assert table["brier"].tolist() == pytest.approx(expected["brier"], abs=1e-10)
    assert churn.harrell_c(test, risk[model]) == pytest.approx(expected["harrell"], abs=1e-10)
    uno = churn.uno_c(test, risk[model], **given)
    assert uno == pytest.approx(expected["uno"], abs=1e-10)
    uno = churn.uno_c(test, risk[model], 1500, **given)
    assert uno == pytest.approx(expected["uno_before_1500"], abs=1e-10)
    table = churn.dynamic_auc(test, 1 - prediction[times], **given)
    assert table["auc"].tolist() == pytest.approx(expected["auc"], abs=1e-10)
    assert churn.mean_auc(table, test) == pytest.approx(expected["mean_auc"], abs=1e-10)


def test_ties_in_time_and_risk_are_counted_as_scikit_survival_counts_them():
    rows = pd.read_csv(PUBLISHED / "survival_ties.csv")
    first, later = rows.iloc[:250], rows.iloc[250:]
    later = later[later["duration"] < first["duration"].max()]
    expected = SCORES["ties"]
    assert len(later) == expected["rows"]
    times, given = expected["times"], {"censoring": first, "watched": "until"}
    survival = later[[f"day_{time}" for time in times]].set_axis(times, axis=1)
    table = churn.brier(later, survival, **given)
    assert table["brier"].tolist() == pytest.approx(expected["brier"], abs=1e-10)
    assert churn.integrated_brier(table) == pytest.approx(expected["ibs"], abs=1e-10)
    assert churn.harrell_c(later, later["risk"]) == pytest.approx(expected["harrell"], abs=1e-10)
    uno = churn.uno_c(later, later["risk"], 30, **given)
    assert uno == pytest.approx(expected["uno_before_30"], abs=1e-10)
    table = churn.dynamic_auc(later, later["risk"], times, **given)
    assert table["auc"].tolist() == pytest.approx(expected["auc"], abs=1e-10)
    assert churn.mean_auc(table, later) == pytest.approx(expected["mean_auc"], abs=1e-10)


# --- known truths ---------------------------------------------------------------------------------

TIMES = (7.0, 14.0, 30.0, 60.0, 90.0)


def world(seed, n=1500, customers=None, lost=False, follow_up=90):
    """Waits in whole days with known chances, and the chances themselves at ``TIMES``."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(n, 2))
    rate = 0.02 * np.exp(x @ [0.8, -0.5])
    wait = np.ceil(random.exponential(size=n) / rate)
    sight = np.full(n, follow_up)
    if lost:
        sight = np.minimum(np.ceil(random.uniform(0, 150, n)), follow_up)
    frame = pd.DataFrame(
        {
            "customer_id": np.arange(n) % (customers or n),
            "landmark": pd.Timestamp("2024-04-01"),
            "days_since_last": np.floor(np.exp(2 + x[:, 1])),
            "frequency": np.floor(np.exp(1 + 0.5 * x[:, 0])),
            "duration": np.minimum(wait, sight),
            "event": (wait <= sight).astype(int),
        }
    )
    truth = pd.DataFrame(np.exp(-np.outer(rate, TIMES)), frame.index, TIMES)
    return frame, truth


def test_without_censoring_the_brier_score_is_the_mean_squared_error():
    frame, truth = world(1)
    table = churn.brier(frame, truth)
    for row, time in zip(table.itertuples(), TIMES, strict=True):
        still = (frame["duration"] > time) | ((frame["duration"] == time) & (frame["event"] == 0))
        squared = (truth[time] - still) ** 2
        assert row.brier == pytest.approx(squared.mean(), abs=1e-12)
        assert row.std_error == pytest.approx(squared.std(ddof=1) / len(frame) ** 0.5, rel=1e-9)


def test_who_is_watched_through_the_last_day_counts_as_waiting_on_it():
    frame = pd.DataFrame({"duration": [90, 90, 30], "event": [0, 1, 1]})
    said = pd.DataFrame({90.0: [1.0, 0.0, 0.0]})
    assert churn.brier(frame, said)["brier"].iloc[0] == 0
    with pytest.raises(ContractError, match="nobody is known to be event-free at 91"):
        churn.brier(frame, said.set_axis([91.0], axis=1))


def test_losing_rows_from_sight_moves_no_weighted_score():
    gaps = []
    for seed in range(12):
        full, truth = world(100 + seed)
        cut, _ = world(100 + seed, lost=True)
        risk = -truth[90.0]
        gaps.append(
            [
                churn.integrated_brier(churn.brier(cut, truth, TIMES[:4]))
                - churn.integrated_brier(churn.brier(full, truth, TIMES[:4])),
                churn.uno_c(cut, risk, 60) - churn.uno_c(full, risk, 60),
                churn.mean_auc(churn.dynamic_auc(cut, risk, TIMES[:4]), cut)
                - churn.mean_auc(churn.dynamic_auc(full, risk, TIMES[:4]), full),
            ]
        )
    mean, error = np.mean(gaps, axis=0), np.std(gaps, axis=0, ddof=1) / len(gaps) ** 0.5
    assert (abs(mean) < 3 * error).all()
    assert (error < 0.004).all()


def brute_force(duration, event, risk, weight):
    right = every = 0.0
    for i in range(len(duration)):
        for j in range(len(duration)):
            later = duration[j] > duration[i] or (duration[j] == duration[i] and not event[j])
            if event[i] and later:
                every += weight[i]
                right += weight[i] * ((risk[i] > risk[j]) + 0.5 * (risk[i] == risk[j]))
    return right, every


@given(
    st.lists(
        st.tuples(st.integers(0, 6), st.booleans(), st.integers(0, 4), st.floats(0, 3)),
        min_size=1,
        max_size=40,
    )
)
def test_pairs_are_those_counted_one_by_one(rows):
    duration, event, risk, weight = (np.array(column) for column in zip(*rows, strict=True))
    event = event.astype(bool)
    pairs = count_pairs(duration.astype(float), event, risk, weight.astype(float))
    right, every = brute_force(duration, event, risk, weight)
    # each pair stands at both its rows
    assert pairs.right.sum() == pytest.approx(2 * right, abs=1e-9)
    assert pairs.all.sum() == pytest.approx(2 * every, abs=1e-9)
    assert pairs.influence().sum() == pytest.approx(0, abs=1e-9)


def test_the_best_concordance_may_go_with_the_worst_brier_score():
    frame, truth = world(2)
    train, _ = world(3)
    noisy = np.exp(np.log(truth).mul(np.exp(np.random.default_rng(1).normal(0, 0.4, 1500)), axis=0))
    scores = churn.score(frame, {"sure": truth**6, "noisy": noisy}, train=train, rng=1, draws=200)
    table = scores.table.set_index("model")
    assert table["uno_c"].idxmax() == "sure"
    assert table["ibs"].idxmax() == "sure"
    assert scores.difference("sure", "noisy", "uno_c")["reading"] == "better"
    assert scores.difference("sure", "noisy")["reading"] == "worse"
    assert table.loc["sure", "d_gap"] > 5 * table.loc["noisy", "d_gap"]


def test_scores_always_stand_beside_their_baselines():
    frame, truth = world(4)
    train, _ = world(5)
    scores = churn.score(frame, {"truth": truth}, train=train, rng=1, draws=200)
    table = scores.table.set_index("model")
    baselines = ["Kaplan-Meier", "recency alone", "frequency alone"]
    assert table.index.tolist() == ["truth", *baselines]
    assert table["baseline"].tolist() == [False, True, True, True]
    plain = table.loc["Kaplan-Meier"]
    assert (plain["skill"], plain["uno_c"], plain["auc"]) == (0, 0.5, 0.5)
    # the same chance for all is what no model has: the truth beats each baseline
    for baseline in baselines:
        for metric in ("ibs", "uno_c", "auc"):
            assert scores.difference("truth", baseline, metric)["reading"] == "better"
    recency = churn.harrell_c(frame, frame["days_since_last"] * -1.0)
    assert table.loc["recency alone", "harrell_c"] == pytest.approx(recency, abs=1e-12)
    assert (table["ibs_low"] < table["ibs"]).all()
    assert table.loc["truth", "skill"] == pytest.approx(
        1 - table.loc["truth", "ibs"] / plain["ibs"], abs=1e-12
    )
    last = scores.by_time[scores.by_time["time"] == 90].set_index("model")
    assert last["observed"].iloc[0] == pytest.approx(1 - frame["event"].mean(), abs=1e-12)
    with pytest.raises(ContractError, match="no difference in 'ibs' of 'truth' against 'nobody'"):
        scores.difference("truth", "nobody")


def test_intervals_are_as_wide_as_a_full_bootstrap_says():
    frame, truth = world(6, 400, customers=150)
    train, _ = world(7)
    scores = churn.score(frame, {"truth": truth}, train=train, rng=1, draws=1000)
    row = scores.table.iloc[0]
    random = np.random.default_rng(2)
    groups = frame.groupby("customer_id").indices
    drawn = []
    risk = -truth.to_numpy() @ np.diff([0, *TIMES])
    for _ in range(200):
        picks = np.concatenate([groups[c] for c in random.integers(0, 150, 150)])
        again = frame.iloc[picks].reset_index(drop=True)
        again["customer_id"] = np.arange(len(again))
        own = truth.iloc[picks].reset_index(drop=True)
        # copies of a row are no pair, which matters little among 400
        drawn.append(
            [
                churn.integrated_brier(churn.brier(again, own)),
                churn.uno_c(again, risk[picks], 90),
                churn.mean_auc(churn.dynamic_auc(again, 1 - own), again),
            ]
        )
    full = np.std(drawn, axis=0)
    ours = [(row[f"{name}_high"] - row[f"{name}_low"]) / 3.92 for name in ("ibs", "uno", "auc")]
    # 200 and 1,000 draws know a standard deviation to 5 and 2 %
    assert ours == pytest.approx(full, rel=0.17)


def test_rows_of_one_customer_widen_every_interval():
    frame, truth = world(8, 600)
    train, _ = world(9)
    thrice = pd.concat([frame] * 3, ignore_index=True)
    copies = pd.concat([truth] * 3, ignore_index=True)
    once = churn.score(frame, {"truth": truth}, train=train, rng=1).table.iloc[0]
    three = churn.score(thrice, {"truth": copies}, train=train, rng=1).table.iloc[0]
    for name in ("ibs", "uno", "auc"):
        width = once[f"{name}_high"] - once[f"{name}_low"]
        assert three[f"{name}_high"] - three[f"{name}_low"] == pytest.approx(width, rel=0.05)


@pytest.mark.parametrize("times", [TIMES, (45.0, 90.0)])
@pytest.mark.parametrize("lost", [False, True])
def test_a_calibrated_forecast_fails_d_calibration_one_time_in_twenty(times, lost):
    refused, caught = 0, 0
    for seed in range(120):
        frame, truth = world(1000 + seed, 500, lost=lost)
        grid = pd.DataFrame(
            {
                time: truth[90.0] ** (time / 90)
                for time in (times if len(times) == 2 else range(3, 91, 3))
            }
        )
        refused += churn.d_calibration(frame, grid, bins=5).p < 0.05
        caught += churn.d_calibration(frame, grid**1.3, bins=5).p < 0.05
    # three standard errors of 120 draws at 5 % are 6.0 percent
    assert refused / 120 < 0.11
    assert caught / 120 > 0.3
    assert caught > 3 * refused


def test_lift_of_a_perfect_order_is_the_largest_possible():
    frame, truth = world(10)
    perfect = pd.Series(-frame["duration"], frame.index)
    bought = (frame["duration"] <= 30) & (frame["event"] == 1)
    table = churn.lift(frame, perfect, 30, [0.1])
    assert table["lift"].iloc[0] == pytest.approx(1 / bought.mean())
    away = churn.lift(frame, perfect, 30, [0.1], of_event=False)
    assert away["lift"].iloc[0] == pytest.approx(1 / (1 - bought.mean()))
    level = churn.lift(frame, pd.Series(1.0, frame.index), 30, [0.05, 0.5])
    # among equals the list is a fair draw of all
    assert level["lift"].tolist() == pytest.approx([1, 1])
    assert level["customers"].tolist() == [75, 750]
    better = churn.lift(frame, 1 - truth[30.0], 30, [0.1]).iloc[0]
    order = truth[30.0].nsmallest(150).index
    assert better["outcome"] == pytest.approx(bought[order].mean())
    assert 1 < better["ci_low"] < better["lift"] < better["ci_high"]


def test_calibration_of_a_wrong_level_is_seen_in_every_group():
    frame, truth = world(11, 4000)
    right = churn.calibration(frame, truth[30.0], 30)
    assert right["inside"].sum() >= 8
    wrong = churn.calibration(frame, truth[30.0] ** 1.5, 30)
    assert wrong["inside"].sum() <= 4


# --- several days -----------------------------------------------------------------------------


class Same:
    """A fit that tells everybody the share of its own training rows."""

    def __init__(self, train):
        self.train = train

    def survival(self, frame, times):
        return churn.kaplan_meier_prediction(self.train, frame, times)


def stacked(seed, landmarks=7, n=300):
    """Landmarks 30 days apart of customers with persistent rates."""
    random = np.random.default_rng(seed)
    rate = random.gamma(0.7, 0.06, n)
    parts = []
    for number in range(landmarks):
        wait = np.ceil(random.exponential(size=n) / rate)
        parts.append(
            pd.DataFrame(
                {
                    "customer_id": np.arange(n),
                    "landmark": pd.Timestamp("2024-01-01") + pd.Timedelta(days=30 * number),
                    "days_since_last": np.floor(random.exponential(size=n) / rate).clip(0, 300),
                    "frequency": random.poisson(rate * 200),
                    "duration": np.minimum(wait, 90),
                    "event": (wait <= 90).astype(int),
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def test_rolling_origins_know_only_what_was_known_and_are_put_together_by_customer():
    frame = stacked(12)
    seen = []
    fits = {
        "same": lambda train: (seen.append(train), Same(train))[1],
        "cox": lambda train: churn.fit_cox(train, ["days_since_last", "frequency"]),
    }
    judged = churn.rolling(frame, fits, [30, 60, 90], rng=1, origins=4, draws=300)
    assert judged.origins == ("2024-03-31", "2024-04-30", "2024-05-30", "2024-06-29")
    for day, train in zip(judged.origins, seen, strict=True):
        known = (pd.Timestamp(day) - train["landmark"]).dt.days
        assert (train["duration"] <= known).all()
        assert (train["landmark"] < pd.Timestamp(day)).all()
    by_origin, pooled = judged.by_origin, judged.pooled.set_index("model")
    # every day has the same customers, so the pooled score is the plain mean of days
    for model in ("same", "cox"):
        own = by_origin.loc[by_origin["model"] == model, "ibs"]
        assert pooled.loc[model, "ibs"] == pytest.approx(own.mean(), abs=1e-12)
    row = judged.differences.set_index(["model", "against"]).loc[("cox", "same")]
    assert (row["reading"], row["days_better"], row["days"]) == ("better", 4, 4)
    assert judged.survival["cox"].index.equals(judged.test.index)
    with pytest.raises(ContractError, match="4 of 7 landmark days have another one 90 days before"):
        churn.rolling(frame, fits, [30, 60, 90], rng=1, origins=5)
    with pytest.raises(ContractError, match="from three or more, not 2"):
        churn.rolling(frame, fits, [30], rng=1, origins=2)


# --- the scenario -----------------------------------------------------------------------------


def test_the_profit_of_a_perfect_list_has_a_closed_form():
    frame, truth = world(13)
    gone = (frame["event"] == 0).astype(float)
    offer = churn.Offer(value=40, cost=5, contact=1, acceptance=0.3, certainty=20)
    found = churn.retention_scenario(
        frame,
        {"perfect": gone, "truth": truth[90.0], "blind": gone * 0},
        90,
        offer,
        rng=1,
        draws=50,
    )
    table = found.table.set_index("model")
    rates = np.random.default_rng(3).beta(6, 14, 400_000)
    expected = gone.mean() * np.maximum(rates * 35 - 1, 0).mean()
    assert table.loc["perfect", "profit"] == pytest.approx(expected, rel=2e-3)
    assert table.loc["contact nobody", "profit"] == 0
    everybody = gone.mean() * (0.3 * 35 - 1) - (1 - gone.mean()) * 6
    assert table.loc["contact everybody", "profit"] == pytest.approx(everybody, abs=1e-9)
    assert table.loc["perfect", "profit"] > table.loc["truth", "profit"] > 0
    assert table.loc["blind", "profit"] <= max(0, everybody) + 0.05
    assert found.assumptions.startswith("Scenario, not a result: it assumes that 30 %")
    with pytest.raises(ContractError, match=r"acceptance must lie in \(0, 1\)"):
        churn.Offer(40, 5, 1, acceptance=1.0)


# --- what cannot be scored ----------------------------------------------------------------------


def test_forecasts_that_are_none_are_refused():
    frame, truth = world(14, 200)
    train, _ = world(15, 200)
    for broken, complaint in (
        (
            truth.assign(**{"x": 1}).set_axis([*TIMES, 7.5], axis=1),
            "must not rise with time; at 7.5",
        ),
        (truth + 1, r"survival must lie in \[0, 1\]; at 7 200 of 200 rows"),
        (pd.concat([truth.iloc[:5] * np.nan, truth.iloc[5:]]), "at 7 5 of 200 rows do not"),
        (truth.iloc[5:], "5 of 200 rows have none"),
        (truth[[7.0]].set_axis([0.0], axis=1), "times to score must be above 0"),
    ):
        with pytest.raises(ContractError, match=complaint):
            churn.brier(frame, broken)
    given = {"train": train, "rng": 1}
    with pytest.raises(ContractError, match="nobody of 200 rows had the event by 90"):
        churn.score(frame.assign(event=0, duration=90), {"truth": truth}, **given)
    with pytest.raises(ContractError, match="all 200 rows are of one"):
        churn.score(frame.assign(customer_id=1), {"truth": truth}, **given)
    with pytest.raises(ContractError, match=r"\['Kaplan-Meier'\] are names of baselines"):
        churn.score(frame, {"Kaplan-Meier": truth}, **given)
    with pytest.raises(ContractError, match="one forecast or more"):
        churn.score(frame, {}, **given)
    with pytest.raises(ContractError, match="come into sight after their start"):
        churn.brier(frame.assign(duration=2, entry=1), truth)
    with pytest.raises(ContractError, match=r"entry must lie in \[0, duration\); 200 of 200"):
        churn.score(frame.assign(entry=90), {"truth": truth}, **given)
    short, cut = (
        rows.assign(duration=rows["duration"].clip(upper=50), event=(rows["duration"] < 50) * 1)
        for rows in (frame, train)
    )
    with pytest.raises(ContractError, match="nobody is known to be event-free at 60"):
        churn.score(short, {"truth": truth}, **given)
    with pytest.raises(ContractError, match=r"baseline for 60 .* followed to 50"):
        churn.score(frame, {"truth": truth}, train=cut, rng=1)
    with pytest.raises(ContractError, match="the frame names no causes"):
        churn.brier(frame, truth, cause="left")


def test_everybody_coming_on_the_first_day_leaves_nothing_to_gain():
    frame, truth = world(16, 100)
    train = frame.assign(duration=1, event=1)
    with pytest.raises(ContractError, match="all 100 rows did as Kaplan-Meier says"):
        churn.score(train, {"truth": truth}, train=train, rng=1)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 40), st.integers(1, 20))
def test_no_score_of_a_random_frame_is_missing(seed, n, customers):
    random = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "customer_id": random.integers(0, customers, n),
            "days_since_last": random.integers(0, 3, n),
            "duration": random.integers(1, 8, n),
            "event": random.integers(0, 2, n),
        }
    )
    curves = np.cumprod(random.uniform(size=(n, 3)), axis=1)
    survival = pd.DataFrame(curves, frame.index, [1, 2, 4])
    try:
        scores = churn.score(frame, {"any": survival}, train=frame, rng=1, draws=20, groups=1)
    except ContractError:
        return
    assert not scores.table.isna().any(axis=None)
    assert (
        not scores.by_time.drop(columns=["auc", "auc_low", "auc_high", "skill"])
        .isna()
        .any(axis=None)
    )
    for table in (scores.calibration, scores.d_calibration, scores.lift, scores.differences):
        assert not table.isna().any(axis=None)


def test_causes_that_exclude_one_another_are_scored_one_by_one():
    random = np.random.default_rng(17)
    n = 4000
    first, second = random.exponential(50, n), random.exponential(100, n)
    wait = np.minimum(first, second)
    frame = pd.DataFrame(
        {
            "duration": np.minimum(wait, 60),
            "event": (wait <= 60).astype(int),
            "cause": np.where(wait > 60, "", np.where(first < second, "left", "bought")),
        }
    )
    told = 2 / 3 * (1 - np.exp(-0.03 * 60))
    right = churn.brier(frame, pd.DataFrame({60.0: np.full(n, 1 - told)}), cause="left").iloc[0]
    assert abs(right["brier"] - told * (1 - told)) < 3 * right["std_error"]


def test_nothing_given_is_changed_and_the_same_seed_gives_the_same_scores():
    frame, truth = world(18, 300)
    train, _ = world(19, 300)
    before = frame.copy(deep=True), truth.copy(deep=True), train.copy(deep=True)
    one, two = (churn.score(frame, {"truth": truth}, train=train, rng=5) for _ in range(2))
    for table in ("table", "by_time", "calibration", "d_calibration", "lift", "differences"):
        pd.testing.assert_frame_equal(getattr(one, table), getattr(two, table))
    for now, then in zip((frame, truth, train), before, strict=True):
        pd.testing.assert_frame_equal(now, then)
    mixed = frame.sample(frac=1, random_state=1)
    shuffled = churn.score(mixed, {"truth": truth}, train=train, rng=5).table
    pd.testing.assert_series_equal(one.table["ibs"], shuffled["ibs"])
    pd.testing.assert_series_equal(one.table["uno_c"], shuffled["uno_c"])
