"""A whole churn study: opened from tables, judged, and read out in sentences."""

from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from journeylab import churn, frames
from journeylab.errors import ContractError
from journeylab.tables import Tables, collect, connect_duckdb, open_tables


def test_rolling_days_leave_three_to_judge_from():
    days = churn.rolling_days(date(2023, 1, 1), date(2023, 12, 31), 90)
    assert days == ["2023-04-05", "2023-05-20", "2023-07-04", "2023-08-18", "2023-10-02"]
    for span in (300, 364, 500, 900):
        last = date(2022, 1, 1) + timedelta(days=span)
        days = [date.fromisoformat(day) for day in churn.rolling_days(date(2022, 1, 1), last, 90)]
        assert (last - days[-1]).days == 90
        assert (days[0] - date(2022, 1, 1)).days >= 90
        assert sum((day - days[0]).days >= 90 for day in days) >= 3
    with pytest.raises(ContractError, match="shorten horizon_days to at most 78"):
        churn.rolling_days(date(2022, 1, 1), date(2022, 9, 6), 90)
    with pytest.raises(ContractError, match="bring at least 36 days"):
        churn.rolling_days(date(2022, 1, 1), date(2022, 1, 20), 90)


def shop(seed, customers=300, days=420):
    """Orders of customers with rates of their own, of whom some stop for good."""
    random = np.random.default_rng(seed)
    start = date(2023, 1, 1)
    rows = []
    for number in range(customers):
        rate, gone = random.gamma(0.9, 0.06), random.exponential(600)
        day = random.uniform(0, 120)
        while day < min(days, gone):
            amount = Decimal(round(random.gamma(4, 5), 2)).quantize(Decimal("0.01"))
            rows.append((f"c{number:04d}", start + timedelta(days=int(day)), amount))
            day += random.exponential(1 / rate)
    orders = pa.table(
        {
            "order_id": pa.array([str(number) for number in range(len(rows))]),
            "customer_id": pa.array([row[0] for row in rows]),
            "business_date": pa.array([row[1] for row in rows]),
            "amount": pa.array([row[2] for row in rows], pa.decimal128(18, 2)),
        }
    )
    return Tables(orders=connect_duckdb().create_table("orders", orders))


@pytest.fixture(scope="module")
def judged_shop():
    study = churn.open_study(shop(1), 60)
    return churn.judge(study, rng=3, draws=100)


def test_a_study_of_orders_is_judged_from_three_days_and_lists_today(judged_shop):
    study, judged = judged_shop.study, judged_shop
    assert not study.contract
    assert len(judged.rolling.origins) == 3
    assert study.left_out == ()
    assert study.today["customer_id"].is_unique
    assert (study.rows["landmark"] < pd.Timestamp(study.last)).all()
    table = judged.rolling.pooled.set_index("model")
    assert table.loc["hazard", "skill"] > 0.1
    level = judged.out_of_time()
    assert level["horizon_days"].tolist() == [30, 60]
    assert (abs(level["predicted"] - level["observed"]) < 0.06).all()
    assert judged.reasons(1).shape[0] <= 10
    assert not judged.shape().isna().any(axis=None)
    contacts = churn.weekly_contacts(judged, rng=1)
    assert set(contacts["arm"]) <= {"contact", "hold out"}
    warning = judged.warning(30)
    assert warning.rows["value_at_risk"].is_monotonic_decreasing
    assert (warning.rows["rank"].to_numpy() == np.arange(1, len(warning.rows) + 1)).all()
    tables = churn.warning_tables(warning)
    assert list(tables) == ["early_warning", "warning_reasons"]
    assert tables["warning_reasons"].columns.tolist() == ["rank", "reasons"]
    told = set("; ".join(tables["warning_reasons"]["reasons"]).split("; "))
    each = warning.rows[["reasons_30", "reasons_60"]].to_numpy().ravel()
    assert {text.split(" (within")[0] for text in told} == set("; ".join(each).split("; "))
    names = tables["early_warning"].columns.tolist()
    assert "change_30" in names
    assert not {"reasons_30", "change_60"} & set(names)
    assert churn.table_units(tables["early_warning"]) == dict.fromkeys(
        ["risk_30", "risk_60", "change_30"], "share"
    )
    assert judged.change().advice().startswith("Scores are")
    outcomes = churn.past_outcomes(judged)
    assert list(outcomes) == [30, 60]
    said = churn.weekly_advice(judged, contacts, outcomes, 5)
    assert "nan" not in said
    assert said.startswith(("Contact ", "Start no contact list yet"))


def test_findings_are_sentences_that_hold_for_the_tables(judged_shop):
    study, judged = judged_shop.study, judged_shop
    rule = churn.rule_table(study, judged, (30, 90))
    rows = study.rows[study.rows["landmark"] >= pd.Timestamp(judged.rolling.origins[0])]
    bought = (rows["event"] == 1) & (rows["duration"] <= 60)
    gone = rows["days_since_last"] >= 90
    own = rule.set_index("silent_days").loc[90]
    assert own["of_buyers"] == pytest.approx((gone & bought).sum() / bought.sum())
    assert own["come_back"] == pytest.approx(bought[gone].mean())
    assert f"gives up {gone.sum()} customers" in churn.rule_words(rule, 60, 90)
    assert "% of waits for the next purchase last longer than 30 days" in churn.waits_finding(study)
    skill = judged.rolling.pooled.set_index("model").loc["hazard", "skill"]
    assert f"takes {100 * skill:.0f}" in churn.brier_finding(judged)
    level = judged.out_of_time().iloc[0]
    assert f"observed: {100 * level['observed']:.1f}" in churn.calibration_finding(judged)
    size = judged.reasons(1)
    assert str(size.index[0]).replace("_", " ") in churn.reasons_finding(size)
    assert "on" in churn.origins_finding(judged)
    by_day = churn.origin_table(judged).merge(
        judged.rolling.by_origin, on=["origin", "model"], suffixes=("", "_plain")
    )
    # everybody is followed for the whole horizon: groups and plain shares say the same
    for column in ("predicted", "observed"):
        assert by_day[column].to_numpy() == pytest.approx(by_day[f"{column}_plain"].to_numpy())
    assert "none gives the outcome away" in churn.leaks_finding(study)
    names, unit = churn.segments(study, "frequency")
    assert unit == "repeat purchases"
    table = churn.no_purchase_by_segment(study.rows, names, study.ends)
    assert "do not buy for 30 days" in churn.bands_finding(study, table, unit)
    assert all(doubt.endswith(".") for doubt in churn.judged_doubts(judged))


def test_doubts_name_a_wrong_level_a_plainer_rival_and_few_customers(judged_shop):
    judged = judged_shop
    rolled, day = judged.rolling, judged.judged_on
    right = judged.out_of_time().iloc[0]
    own = rolled.differences.assign(reading="better")

    def doubts(level=right["observed"], differences=own, customers=300):
        scores = judged.scores
        near = (scores.by_time["model"] == "hazard") & (
            scores.by_time["time"] == scores.horizons[0]
        )
        by_time = scores.by_time.assign(predicted=scores.by_time["predicted"].mask(near, level))
        scores = replace(scores, by_time=by_time, customers=customers)
        every = {**rolled.scores, day: scores}
        changed = replace(rolled, differences=differences, scores=every)
        said = churn.judged_doubts(replace(judged, rolling=changed))
        warnings = [one.evidence for one in judged.study.leaks.warnings]
        return [text for text in said if not text.startswith(tuple(warnings) or ("-",))]

    assert doubts() == []
    (level,) = doubts(level=right["ci_low"] - 0.05)
    assert f"From {day} the share who" in level
    assert "too low: use the ranking, not the level" in level
    tied = own["reading"].mask(own["against"] == "recency alone", "not told apart")
    (order,) = doubts(differences=own.assign(reading=tied))
    assert "or is worse than, recency alone: prefer the plainer one" in order
    (few,) = doubts(customers=40)
    assert f"judged on 40 customers of {day} only" in few


def test_memberships_make_a_study_of_contracts():
    random = np.random.default_rng(5)
    n = 900
    plan = np.where(random.uniform(size=n) < 0.5, "monthly", "yearly")
    stay = random.exponential(np.where(plan == "monthly", 400, 2500))
    seen = random.uniform(30, 1500, n)
    table = pa.table(
        {
            "customer_id": [f"m{number}" for number in range(n)],
            "duration_days": np.minimum(stay, seen),
            "ended": stay <= seen,
            "tier": plan,
        }
    )
    people = pa.table(
        {
            "customer_id": [f"m{number}" for number in range(n)],
            "monthly_charges": [f"{value:.2f}" for value in random.uniform(20, 90, n)],
            "region": random.choice(["north", "south"], n),
        }
    )
    engine = connect_duckdb()
    tables = Tables(
        memberships=engine.create_table("memberships", table),
        customers=engine.create_table("customers", people),
    )
    study = churn.open_study(tables)
    assert study.contract
    assert study.words.free == "stay members"
    judged = churn.judge(study, rng=1, draws=100)
    assert judged.rolling.origins == ("part 1", "part 2", "part 3")
    assert judged.rolling.pooled.set_index("model").loc["hazard", "skill_low"] > 0
    warning = judged.warning(50)
    assert len(warning.rows) == 50
    # paid by the month, so that leaving within the longest horizon puts three of them at stake
    worth = warning.rows["value_of_return"] / (90 / 30.436875)
    assert worth.between(20, 90).all()
    assert judged.change() is None
    assert warning.rows["reasons_30"].str.contains("tier|charges").any()
    scenario = judged.scenario(0.2, 1)
    assert scenario.table["model"].tolist()[:2] == ["hazard", "Cox"]
    assert "assumes that 20 % of the leavers" in scenario.assumptions
    contacts = churn.weekly_contacts(judged, rng=1, most=50)
    assert (contacts["arm"] == "contact").sum() == 25
    said = churn.weekly_advice(judged, contacts, {}, 20)
    assert said.startswith("Contact 25 of the 50 members with the most at stake within 90 days")
    assert churn.rule_table(study, judged).empty
    assert "have ended after" in churn.waits_finding(study)
    with pytest.raises(ContractError, match="there are neither"):
        churn.open_study(Tables(customers=tables.customers))


def test_on_cdnow_a_rule_of_90_days_writes_off_half_of_the_next_buyers():
    tables = open_tables("cdnow")
    # a year after the first purchases: half of those who buy next have been silent for longer
    rows = collect(frames.landmarks(tables, ["1998-01-01"], 90, until="1998-06-30"))
    bought, silent = rows["event"] == 1, rows["days_since_last"] >= 90
    assert (silent & bought).sum() / bought.sum() == pytest.approx(0.49, abs=0.005)
