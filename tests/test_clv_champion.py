"""The champion: chosen before the holdout is opened, against rules that are hard to beat."""

from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from journeylab import clv, frames
from journeylab.clv.accuracy import floored, gini, tweedie_deviance
from journeylab.clv.champion import BASELINES
from journeylab.errors import ContractError, FitError
from journeylab.tables import collect, open_tables

# Measures


@given(st.floats(0, 1e6), st.floats(1e-3, 1e6))
def test_tweedie_deviance_at_one_and_a_half_has_a_closed_form(actual, forecast):
    got = tweedie_deviance(np.array([actual]), np.array([forecast]))[0]
    closed = 4 * (np.sqrt(actual) - np.sqrt(forecast)) ** 2 / np.sqrt(forecast)
    assert got == pytest.approx(closed, rel=1e-6, abs=1e-8 * (actual + forecast + 1))


def test_a_forecast_of_nothing_wins_by_absolute_error_and_loses_by_deviance():
    """Why mean absolute error is no criterion: nine of ten do not come back."""
    actual = np.r_[np.full(10, 9.0), np.zeros(90)]
    likely = np.full(100, 0.9)
    assert np.abs(0 - actual).mean() < np.abs(likely - actual).mean()
    nothing = floored(np.zeros(100), actual)
    assert tweedie_deviance(actual, nothing).mean() > 2 * tweedie_deviance(actual, likely).mean()


def test_gini_is_one_for_the_right_order_zero_for_none_and_minus_one_for_the_wrong():
    actual = np.array([0.0, 0.0, 1.0, 5.0])
    assert gini(actual, np.array([1.0, 1.0, 2.0, 3.0])) == pytest.approx(1)
    assert gini(actual, np.ones(4)) == pytest.approx(0)
    assert gini(actual, -actual) == pytest.approx(-1)
    assert gini(np.zeros(4), actual) == 0


# Origins


@given(st.integers(28, 2_000), st.integers(1, 1_000))
def test_nothing_is_learnt_that_had_not_ended_when_a_trial_began(span, horizon_days):
    first = date(2020, 1, 1)
    as_of = first + timedelta(days=span)
    days = clv.rolling_origins(str(first), str(as_of), horizon_days)
    for start in days.checks:
        assert date.fromisoformat(start) + timedelta(days=days.check_days) <= as_of
    for start in (*days.checks, days.as_of):
        for lesson in days.lessons(start):
            ended = date.fromisoformat(lesson) + timedelta(days=days.check_days)
            assert ended <= date.fromisoformat(start)
            assert date.fromisoformat(lesson) >= first
            assert lesson in days.landmarks


def test_origins_of_cdnow_and_windows_that_are_too_short():
    days = clv.rolling_origins("1997-01-01", "1997-09-30", 273)
    assert (days.checks, days.check_days) == (("1997-05-17", "1997-07-24"), 68)
    longer = clv.calibration_origins("1997-01-01", "1997-09-30", 273)
    assert (longer.checks, longer.check_days) == (("1997-07-02",), 90)
    with pytest.raises(ContractError, match="20 days from 2020-01-01 to 2020-01-21"):
        clv.rolling_origins("2020-01-01", "2020-01-21", 30)
    with pytest.raises(ContractError, match="horizon_days must be at least 1; got 0"):
        clv.rolling_origins("2020-01-01", "2021-01-21", 0)
    with pytest.raises(ContractError, match="ISO dates"):
        clv.rolling_origins("1.1.2020", "2021-01-21", 30)


# The choice, on CDNOW


@pytest.fixture(scope="module")
def cdnow():
    return open_tables("cdnow", ["orders"])


DAYS = clv.rolling_origins("1997-01-01", "1997-09-30", 273)


def seen(tables, days):
    rows = frames.value_landmarks(tables, days.landmarks, days.check_days, days.as_of)
    known = frames.value_landmarks(tables, [days.as_of], days.horizon_days, days.as_of)
    return collect(rows), collect(known)


@pytest.fixture(scope="module")
def rows_and_known(cdnow):
    return seen(cdnow, DAYS)


@pytest.fixture(scope="module")
def champion(rows_and_known):
    return clv.choose_champion(*rows_and_known, DAYS, {"BG/NBD": clv.fit_bg_nbd}, 7)


@pytest.fixture(scope="module")
def holdout(cdnow):
    return collect(frames.holdout(cdnow, "1997-09-30", "1998-06-30"))


def test_landmark_values_are_those_of_the_frames_they_stand_for(cdnow, rows_and_known, holdout):
    known = rows_and_known[1].set_index("customer_id")
    own = collect(frames.customer_histories(cdnow, "1997-09-30", "day")).set_index("customer_id")
    own = own.loc[known.index]
    for name, other in (("frequency", "frequency"), ("recency_days", "recency")):
        assert (known[name] == own[other]).all()
    assert known["monetary_value"].to_numpy() == pytest.approx(own["monetary_value"].to_numpy())
    assert (known["followed_days"] == 0).all()
    assert known["purchase_days"].sum() == 0
    opened = collect(frames.value_landmarks(cdnow, ["1997-09-30"], 273, "1998-06-30"))
    later = holdout.set_index("customer_id").loc[opened["customer_id"]]
    assert (opened["purchase_days"].to_numpy() == later["purchase_days"].to_numpy()).all()
    assert opened["amount"].to_numpy() == pytest.approx(later["amount"].astype(float).to_numpy())


def test_every_rule_and_challenger_is_in_the_table(champion):
    assert set(champion.table["model"]) == {"BG/NBD", *BASELINES, "blend", "boosted"}
    assert champion.name == champion.table["model"].iloc[0] == "BG/NBD"
    assert champion.left_truncation == ""
    assert champion.left_out == ()
    assert (champion.table["trials"] == 2).all()
    assert set(champion.by_origin["origin"]) == set(DAYS.checks)
    assert not champion.forecasts.isna().any(axis=None)
    assert champion.reason.startswith("BG/NBD is chosen on 2 trials of 68 days")
    best, rules = champion.table["deviance"].iloc[0], champion.table["model"].isin(BASELINES)
    assert best < 0.8 * champion.table.loc[rules, "deviance"].min()


def test_the_holdout_is_opened_after_the_choice_and_its_verdict_hides_nothing(champion, holdout):
    found = clv.challenge(champion, holdout, 1, draws=200)
    table = found.table.set_index("model")
    assert table.index[0] == "BG/NBD"
    assert (table["actual"] == 1_882).all()
    assert table.loc["last period", "forecast"] == 2_457
    assert (table.loc[list(BASELINES), ["deviance_gain_low", "rmse_gain_low"]] > 0).all(axis=None)
    assert table.loc["BG/NBD", ["deviance_gain", "rmse_gain"]].tolist() == [0, 0]
    assert table.loc["BG/NBD", "bias_percent"] == pytest.approx(-12.1, abs=0.1)
    # Better than every rule by more than chance, and yet no winner: its total is 12 % low.
    assert not found.won
    assert "beats the best rule of thumb (last period) by RMSE" in found.verdict
    assert "12.1 % too low" in found.verdict
    assert "beyond the 5 % that may be acted on" in found.verdict


def test_the_total_is_held_by_an_interval_that_knows_earlier_totals_and_not_by_the_models(
    champion, rows_and_known
):
    """1,882 purchases came; BG/NBD forecast 1,653 and takes itself as true."""
    known = rows_and_known[1]
    weeks = known.assign(recency=known["recency_days"] / 7, age=known["age_days"] / 7)
    spend = clv.fit_gamma_gamma(clv.repeat_spend(known))
    bought, _ = clv.futures(weeks, clv.fit_bg_nbd(weeks), spend, 273, 100, 3)
    totals, errors = bought.sum(axis=0), clv.trial_errors(champion.trials, "BG/NBD")
    assert np.quantile(totals, 0.975) < 1_882
    told = float(champion.forecast["forecast"].sum())
    held = clv.total_estimate(told, totals, errors, 273 / 68, "purchases", 1)
    assert held.ci_low < 1_882 < held.ci_high
    assert errors == pytest.approx([-0.004, 0.133], abs=2e-3)


def test_a_seed_gives_the_same_champion_twice(rows_and_known, champion):
    again = clv.choose_champion(*rows_and_known, DAYS, {"BG/NBD": clv.fit_bg_nbd}, 7)
    pd.testing.assert_frame_equal(again.forecasts, champion.forecasts)
    pd.testing.assert_frame_equal(again.table, champion.table)


def test_rows_that_look_beyond_as_of_are_refused(cdnow, rows_and_known):
    rows, known = rows_and_known
    peeked = collect(frames.value_landmarks(cdnow, DAYS.landmarks, DAYS.check_days))
    with pytest.raises(ContractError, match=r"look beyond as_of .1997-09-30.* until=as_of"):
        clv.choose_champion(peeked, known, DAYS, {}, 1)
    with pytest.raises(ContractError, match="rows must hold the days 1997-05-17, 1997-07-24, 1997"):
        clv.choose_champion(rows[rows["landmark"] > "1997-06-01"], known, DAYS, {}, 1)
    with pytest.raises(ContractError, match="same customers"):
        clv.choose_champion(rows, known.iloc[1:], DAYS, {}, 1)
    with pytest.raises(ContractError, match="no customers to forecast"):
        clv.choose_champion(rows.head(0), known, DAYS, {}, 1)
    with pytest.raises(ContractError, match="target must be purchases or amount"):
        clv.choose_champion(rows, known, DAYS, {}, 1, target="clicks")


class Everybody:
    """A model by somebody else: everybody buys at the same rate."""

    unit = "week"

    def __init__(self, histories):
        self.rate = histories["frequency"].sum() / histories["age"].sum()

    def expected_purchases(self, histories, horizon):
        return pd.Series(self.rate * horizon, histories.index)


def refuse(histories):
    raise FitError("no maximum in reach")


def test_new_models_join_by_name_and_those_that_fail_are_named(rows_and_known):
    fits = {"everybody alike": Everybody, "broken": refuse}
    found = clv.choose_champion(*rows_and_known, DAYS, fits, 7)
    table = found.table.set_index("model")
    assert table.loc["everybody alike", "gini"] == pytest.approx(0, abs=1e-9)
    assert "broken" not in table.index
    assert found.left_out[0] == "1997-05-17: broken: no maximum in reach"
    assert len(found.left_out) == 3


def test_data_of_single_purchases_are_refused_and_a_few_repeats_are_enough(rows_and_known):
    rows, known = rows_and_known
    fits = {"BG/NBD": clv.fit_bg_nbd}
    recent = ["recent_eighth", "recent_quarter", "recent_half", "recent", "recent_two"]
    once = dict.fromkeys(["frequency", "recency_days", "monetary_value", *recent], 0)
    with pytest.raises(ContractError, match="nobody bought within 68 days of 1997-05-17 or"):
        clv.choose_champion(rows.assign(**once, purchase_days=0), known, DAYS, fits, 7)
    # Nobody came back before, some do after: no model can be fitted, and numbers still come.
    found = clv.choose_champion(rows.assign(**once), known.assign(**once), DAYS, fits, 7)
    assert "too few to learn repeat purchases from" in found.left_out[0]
    assert np.isfinite(found.forecasts.drop(columns="customer_id").to_numpy()).all()
    assert np.isfinite(found.table.drop(columns="model").to_numpy(float)).all()
    broken = rows.assign(frequency=rows["frequency"].astype(float))
    broken.loc[3, "frequency"] = np.nan
    with pytest.raises(ContractError, match="frequency must be a finite number; 1 of"):
        clv.choose_champion(broken, known, DAYS, fits, 7)


def test_spend_has_a_champion_too(rows_and_known, holdout):
    found = clv.choose_champion(
        *rows_and_known, DAYS, {"BG/NBD": clv.fit_bg_nbd}, 7, target="amount"
    )
    result = clv.challenge(found, holdout.assign(amount=holdout["amount"].astype(float)), 1)
    table = result.table.set_index("model")
    assert table["actual"].iloc[0] == pytest.approx(70_976.39)
    assert (table.loc[list(BASELINES), "deviance_gain_low"] > 0).all()
    assert (table.loc[list(BASELINES), "rmse_gain_low"] > 0).all()


def test_the_champion_of_others_customers_is_refused(champion, holdout):
    with pytest.raises(ContractError, match="same customers; 1 of 2357"):
        clv.challenge(champion, holdout.iloc[1:], 1)
    with pytest.raises(ContractError, match="none of 2,357 customers bought"):
        clv.challenge(champion, holdout.assign(purchase_days=0), 1)


# complete_journey


@pytest.mark.full
def test_complete_journey_reproduces_the_known_figures_and_the_challenger_beats_them(shared_data):
    """Known: last 93 days 6.672, BG/NBD 6.775, Pareto/NBD 6.766, individual rate 6.988.

    They count days in UTC, as the source holds its times; elsewhere JourneyLab takes the shop's.
    """
    local = open_tables("complete_journey", ["orders"])
    utc = replace(local, orders=local.orders.mutate(business_date=local.orders.ordered_at.date()))
    now = collect(frames.value_landmarks(utc, ["2017-09-30"], 93, "2018-01-01"))
    actual = now["purchase_days"].to_numpy(float)
    weeks = now.assign(recency=now["recency_days"] / 7, age=now["age_days"] / 7)

    def rmse(forecast):
        return np.sqrt(((np.asarray(forecast, float) - actual) ** 2).mean())

    assert len(now) == 2_446
    naive = rmse(now["recent"] + (now["age_days"] < 93))
    assert round(naive, 3) == 6.672
    assert round(rmse(now["frequency"] / now["age_days"].clip(lower=1) * 93), 3) == 6.988
    bg_nbd, pareto_nbd = clv.fit_bg_nbd(weeks), clv.fit_pareto_nbd(weeks)
    assert round(rmse(bg_nbd.expected_purchases(weeks, 93 / 7)), 3) == 6.775
    # s and beta run away on this left-truncated panel, and where they stop moves the last digit.
    assert pareto_nbd.weak == ("s", "beta")
    assert rmse(pareto_nbd.expected_purchases(weeks, 93 / 7)) == pytest.approx(6.766, abs=1.5e-3)

    for tables, horizon_days, until in ((utc, 93, "2018-01-01"), (local, 92, "2017-12-31")):
        days = clv.rolling_origins("2017-01-01", "2017-09-30", horizon_days)
        fits = {"BG/NBD": clv.fit_bg_nbd, "Pareto/NBD": clv.fit_pareto_nbd}
        champion = clv.choose_champion(*seen(tables, days), days, fits, 7)
        assert champion.left_truncation.startswith("Left truncation")
        holdout = collect(frames.holdout(tables, "2017-09-30", until))
        found = clv.challenge(champion, holdout, 1, draws=400)
        own = found.table.iloc[0]
        assert own["model"] in {"blend", "boosted"}
        assert own["rmse"] < 6.2
        assert abs(own["bias_percent"]) < 5
        assert found.won
        assert "beats the best rule of thumb" in found.verdict
