"""The profile of a source: counts by hand, quantiles and intervals by pandas, both engines."""

import os
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journeylab.errors import ContractError
from journeylab.estimate import Estimate
from journeylab.tables import Tables, connect_duckdb, open_and_check, profile

INSTANT = pa.timestamp("us")
MONEY = pa.decimal128(18, 2)


def order_table(rows, **more):
    """Orders of (customer, day, amount)."""
    days = [day for _, day, _ in rows]
    return pa.table(
        {
            "order_id": [f"{number:04d}" for number in range(len(rows))],
            "customer_id": [who for who, _, _ in rows],
            "ordered_at": pa.array([datetime(d.year, d.month, d.day, 3) for d in days], INSTANT),
            "business_date": pa.array(days, pa.date32()),
            "amount": pa.array([Decimal(str(amount)) for _, _, amount in rows], MONEY),
            **more,
        }
    )


def opened(business_tz="UTC", **tables):
    connection = connect_duckdb()
    laid = {name: connection.create_table(name, table) for name, table in tables.items()}
    return Tables(**laid, source="tests", business_tz=business_tz)


def drawn_orders(seed, customers=40, days=200):
    draw = np.random.default_rng(seed)
    rows = []
    for number in range(customers):
        for day in draw.integers(0, days, draw.integers(1, 12)):
            amount = round(float(draw.lognormal(3, 1)), 2) * (-1 if draw.random() < 0.1 else 1)
            rows.append((f"客户{number}", date(2024, 1, 1) + timedelta(days=int(day)), amount))
    return rows


DAY = date(2024, 1, 1)
FEW = [
    ("a", DAY, 10), ("a", DAY, 5), ("a", DAY + timedelta(4), 0), ("a", DAY + timedelta(14), 30),
    ("b", DAY + timedelta(2), 20), ("b", DAY + timedelta(3), -20), ("c", DAY + timedelta(40), 7),
]  # fmt: skip


@pytest.fixture
def few():
    lines = pa.table({"order_id": ["0000", "0000", "x"], "line_no": [1, 2, 1]})
    customers = pa.table({"customer_id": ["a", "b"], "city": pa.array(["", None], pa.string())})
    touches = pa.table(
        {
            "customer_id": ["a", "b", "z", None],
            "touched_at": pa.array([datetime(2024, 1, 5)] * 4, INSTANT),
            "channel": ["sms"] * 4,
            "arm": pa.array(["on", "off", "on", None], pa.string()),
            "business_date": pa.array([date(2024, 1, 5)] * 4),
        }
    )
    return opened(orders=order_table(FEW), order_lines=lines, customers=customers, touches=touches)


def test_spans_count_rows_customers_and_days(few):
    spans = profile.spans(few).set_index("table")
    assert list(spans.index) == ["customers", "orders", "order_lines", "touches"]
    orders = spans.loc["orders"]
    assert (orders["rows"], orders["customers"]) == (7, 3)
    assert (orders["first"].date(), orders["last"].date()) == (DAY, DAY + timedelta(40))
    assert (orders["days"], orders["days_with_rows"]) == (41, 6)
    assert spans.loc["order_lines", ["customers", "first", "days"]].isna().all()


def test_links_count_rows_that_name_what_is_not_there(few):
    links = profile.links(few).set_index(["table", "refers_to"])
    assert links.loc[("orders", "customers"), "unmatched"] == 1
    # an empty id names nobody
    assert tuple(links.loc[("touches", "customers"), ["rows", "unmatched"]]) == (3, 1)
    assert tuple(links.loc[("order_lines", "orders"), ["rows", "unmatched"]]) == (3, 1)
    assert tuple(links.loc[("orders", "order_lines"), ["rows", "unmatched"]]) == (7, 6)
    assert links.loc[("touches", "customers"), "share"] == pytest.approx(1 / 3, abs=1e-4)


def test_empty_text_and_nan_are_missing_and_kinds_are_told_apart():
    frame = pa.table(
        {
            "customer_id": ["a", "b", "c"],
            "metric": ["m"] * 3,
            "value": pa.array([1.0, float("nan"), None]),
            "备注 1": ["", "x", "y"],
        }
    )
    found = profile.missingness(opened(outcomes=frame)).set_index("column")
    assert found["missing"].to_dict() == {"value": 2, "备注 1": 1, "customer_id": 0, "metric": 0}
    assert list(found.index[:2]) == ["value", "备注 1"]
    assert found.loc["备注 1", "kind"] == "attribute"
    assert found.loc["value", "kind"] == "required"
    assert found.loc["value", "share"] == pytest.approx(2 / 3, abs=1e-4)


def test_a_key_that_repeats_after_a_merge_is_counted():
    twice = pa.table(
        {"experiment_id": ["e"] * 4, "customer_id": ["a", "a", "b", None], "variant": list("xyxy")}
    )
    keys = profile.keys(opened(assignments=twice)).iloc[0]
    assert (keys["rows"], keys["distinct"], keys["repeated"], keys["incomplete"]) == (3, 2, 1, 1)


def test_arms_come_from_assignments_and_from_touches(few):
    arms = profile.arms(few)
    assert arms.to_dict("records") == [
        {"table": "touches", "experiment": "", "arm": "off", "customers": 1},
        {"table": "touches", "experiment": "", "arm": "on", "customers": 2},
    ]


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(-500, 5000), min_size=1, max_size=60))
def test_quantiles_are_those_of_the_empirical_distribution(cents):
    rows = [("a", DAY, value / 100) for value in cents]
    row = profile.measures(opened(orders=order_table(rows))).iloc[0]
    values = np.array(cents) / 100
    for name, share in (("p05", 0.05), ("median", 0.5), ("p95", 0.95), ("p99", 0.99)):
        assert row[name] == np.quantile(values, share, method="inverted_cdf")
    assert row["mean"] == pytest.approx(values.mean(), rel=1e-8, abs=1e-9)
    assert (row["least"], row["most"]) == (values.min(), values.max())
    assert row["negative"] == pytest.approx((values < 0).mean(), abs=1e-4)
    assert row["zero"] == pytest.approx((values == 0).mean(), abs=1e-4)


def test_outcomes_are_measured_by_metric():
    frame = pa.table(
        {"customer_id": list("abcd"), "metric": ["x", "x", "y", "y"], "value": [1.0, 3, 0, 0]}
    )
    found = profile.measures(opened(outcomes=frame)).set_index("measure")
    assert found.loc["x", "mean"] == 2
    assert found.loc["y", "zero"] == 1


@pytest.mark.parametrize("heavy", [False, True])
def test_a_histogram_loses_no_amount_above_zero(heavy):
    draw = np.random.default_rng(1)
    amounts = draw.lognormal(3, 1.5, 500) if heavy else draw.uniform(5, 30, 500)
    rows = [("a", DAY, round(float(amount), 2)) for amount in amounts]
    rows += [("a", DAY, 0), ("a", DAY, -3), ("a", DAY, -4)]
    found = profile.amount_histogram(opened(orders=order_table(rows)))
    assert found.log is heavy
    assert found.bins["count"].sum() == 500
    assert (found.zero, found.negative) == (1, 2)
    above = np.array([amount for _, _, amount in rows if amount > 0])
    inner = found.bins.iloc[1:-1]
    for row in inner.itertuples():
        assert row.count == ((above >= row.low) & (above < row.high)).sum()
    assert found.median == np.quantile(above, 0.5, method="inverted_cdf")


def test_same_day_orders_are_one_purchase_and_returns_none(few):
    purchases = profile.purchases_per_customer(few)
    # a bought on three days, b and c on one; b's return is no purchase
    assert purchases.set_index("purchase_days")["customers"].to_dict() == {1: 2, 3: 1}
    assert profile.gaps(few).set_index("gap_days")["gaps"].to_dict() == {4: 1, 10: 1}
    seen = profile.first_seen(few)
    assert seen["customers"].tolist() == [2, 1]
    assert profile.in_bands(purchases).values.tolist() == [["1", 2, 0.6667], ["3", 1, 0.3333]]


def test_gap_bins_hold_all_but_the_longest_one_in_a_hundred():
    counts = pd.DataFrame({"gap_days": [1, 8, 80, 500], "gaps": [50, 40, 9, 1]})
    bins = profile.gap_bins(counts)
    assert bins["count"].sum() == 99
    assert set(bins["high"] - bins["low"]) == {7}
    assert bins["low"].iloc[0] == 1
    quantiles = profile.gap_quantiles(counts).set_index("share")["gap_days"]
    assert (quantiles[0.5], quantiles[0.75], quantiles[1.0]) == (1, 8, 500)


def test_key_numbers_equal_a_plain_computation():
    rows = drawn_orders(3)
    found = profile.key_numbers(opened(orders=order_table(rows)))
    frame = pd.DataFrame(rows, columns=["who", "day", "amount"]).query("amount >= 0")
    days = frame[["who", "day"]].drop_duplicates().sort_values(["who", "day"])
    counts = days.groupby("who").size()
    assert found["repeat_share"].value == pytest.approx((counts > 1).mean())
    gaps = pd.to_datetime(days["day"]).groupby(days["who"]).diff().dropna().dt.days
    assert found["median_gap_days"].value == np.quantile(gaps, 0.5, method="inverted_cdf")
    middle = found["median_gap_days"].value
    by_customer = gaps.groupby(days["who"])
    share = (gaps <= middle).mean()
    off = by_customer.apply(lambda own: (own <= middle).sum() - share * len(own))
    error = np.sqrt((off**2).sum() * len(off) / (len(off) - 1)) / len(gaps)
    ends = np.quantile(
        gaps, [0.5 - 1.959964 * error, 0.5 + 1.959964 * error], method="inverted_cdf"
    )
    assert tuple(found["median_gap_days"][1:3]) == tuple(ends)
    assert ends[0] < middle < ends[1]
    mean = frame["amount"].mean()
    residual = (frame["amount"] - mean).groupby(frame["who"]).sum()
    groups = len(residual)
    error = np.sqrt((residual**2).sum() * groups / (groups - 1)) / len(frame)
    assert found["mean_amount"].value == pytest.approx(mean, rel=1e-8)
    half = (found["mean_amount"].ci_high - found["mean_amount"].ci_low) / 2
    assert half == pytest.approx(1.959964 * error, rel=1e-6)
    for interval in found.values():
        Estimate(*interval)


def test_wilson_interval_of_the_repeat_share():
    """48 of 100: 0.3846 to 0.5768, as statsmodels' proportion_confint(method="wilson")."""
    rows = [(str(who), DAY, 1) for who in range(100)]
    rows += [(str(who), DAY + timedelta(1), 1) for who in range(48)]
    share = profile.key_numbers(opened(orders=order_table(rows)))["repeat_share"]
    assert (share.ci_low, share.ci_high) == pytest.approx((0.3846, 0.5768), abs=5e-5)


def test_the_interval_of_the_median_gap_covers_it_when_customers_differ():
    """Customers with a rhythm of their own: an interval that took gaps for independent fails."""
    covered = naive = 0
    connection = connect_duckdb()
    draw = np.random.default_rng(5)
    many = np.concatenate([1 + draw.poisson(m, 20) for m in draw.gamma(2, 8, 20_000)])
    truth = float(np.quantile(many, 0.5, method="inverted_cdf"))
    runs = 60
    for _ in range(runs):
        who, day = [], []
        pooled = []
        for number, mean in enumerate(draw.gamma(2, 8, 60)):
            gaps = 1 + draw.poisson(mean, 20)
            pooled.extend(gaps)
            at = np.concatenate([[0], np.cumsum(gaps)])
            who += [str(number)] * len(at)
            day += [DAY + timedelta(days=int(d)) for d in at]
        table = pa.table(
            {
                "customer_id": who,
                "business_date": pa.array(day, pa.date32()),
                "amount": pa.array([Decimal(1)] * len(who), MONEY),
            }
        )
        orders = connection.create_table("orders", table, overwrite=True)
        found = profile.key_numbers(Tables(orders=orders))["median_gap_days"]
        covered += found.ci_low <= truth <= found.ci_high
        width = 1.96 * 0.5 / np.sqrt(len(pooled))
        low, high = np.quantile(pooled, [0.5 - width, 0.5 + width])
        naive += low <= truth <= high
    assert covered >= 0.85 * runs
    assert naive < covered


def series(draw, days=200, mean=200.0, spread=0.1, trend=0.0):
    """Counts with a weekly pattern, a trend per week and day effects beyond chance."""
    at = np.arange(days)
    level = mean * np.array([1, 0.9, 0.9, 1, 1.1, 1.4, 1.2])[at % 7] * np.exp(trend * at / 7)
    return draw.poisson(level * draw.gamma(1 / spread**2, spread**2, days))


def judged(rows):
    days = pd.date_range("2024-01-01", periods=len(rows), name="day")
    return profile.judge_days("orders", pd.DataFrame({"day": days, "rows": rows}))


@pytest.mark.parametrize("trend", [-0.02, 0.0, 0.03])
@pytest.mark.parametrize("mean", [4, 12, 300])
def test_complete_series_are_rarely_called_incomplete(mean, trend):
    """Nominal 0.5 % in 200 series: more than six would be one chance in 30,000."""
    draw = np.random.default_rng(11)
    alarms = 0
    for _ in range(200):
        alarms += bool(judged(series(draw, 120, mean, trend=trend)).incomplete_days)
    assert alarms <= 6


def test_two_thinned_days_at_the_end_are_found():
    draw = np.random.default_rng(7)
    found = []
    for _ in range(100):
        rows = series(draw)
        rows[-2:] = draw.binomial(rows[-2:], [0.5, 0.2])
        found.append(judged(rows))
    days = [one.incomplete_days for one in found]
    assert np.mean([count == 2 for count in days]) >= 0.9
    one = next(one for one in found if one.incomplete_days == 2)
    assert one.last_complete_day == one.last_day - timedelta(days=2)
    assert one.days["state"].iloc[-3:].tolist() == ["usual", "low", "low"]
    assert "The last 2 days look incomplete" in one.reading
    assert "cannot be told from a holiday" in one.reading


def test_a_quiet_day_before_a_usual_one_is_not_lateness():
    rows = series(np.random.default_rng(2))
    rows[-3] = 0
    found = judged(rows)
    assert found.days["state"].iloc[-3] == "low"
    assert found.incomplete_days == 0


def test_closing_days_are_passed_over():
    rows = series(np.random.default_rng(2), days=203)
    rows[6::7] = 0
    assert judged(rows).incomplete_days == 0
    # the series ends on a closed Sunday; the Saturday before it is thin
    rows[-2] = 5
    found = judged(rows)
    assert found.days["state"].iloc[-2:].tolist() == ["low", "not judged"]
    assert found.incomplete_days == 2


def growing(weekly):
    return np.round(100 * weekly ** (np.arange(150) / 7)).astype(int)


@pytest.mark.parametrize("weekly", [1.09, 1.25])
def test_growth_that_has_ended_is_no_loss(weekly):
    rows = growing(weekly)
    assert judged(np.append(rows, [rows[-1]] * 14)).incomplete_days == 0


@pytest.mark.parametrize("weekly", [0.9, 1.09])
def test_a_trend_does_not_hide_a_loss(weekly):
    rows = growing(weekly) * 40
    assert judged(rows).incomplete_days == 0
    rows[-1] = rows[-1] * 0.6
    found = judged(rows)
    assert found.incomplete_days == 1
    assert found.days["expected"].iloc[-1] == pytest.approx(growing(weekly)[-1] * 40, rel=0.12)


@pytest.mark.parametrize("rows", [[3] * 40, [1] * 300, [6] * 300, [5]])
def test_where_nothing_can_be_told_that_is_said(rows):
    found = judged(np.array(rows))
    assert found.method == "none"
    assert found.incomplete_days is None
    assert found.last_complete_day is None
    assert "cannot be told" in found.reading


def arrivals(lags):
    """Sixty days of a hundred orders each, the n-th of a day arriving after ``lags[n % len]``."""
    rows = [("a", DAY + timedelta(days=n // 100), 1) for n in range(6000)]
    at = [datetime(d.year, d.month, d.day, 3) + timedelta(days=lags[n % len(lags)])
          for n, (_, d, _) in enumerate(rows)]  # fmt: skip
    return rows, at


def test_lags_are_counted_from_a_column_of_arrivals():
    rows, at = arrivals([0] * 90 + [1] * 5 + [3] * 4 + [9])
    end = datetime(2024, 2, 29, 12)
    kept = [n for n, moment in enumerate(at) if moment <= end]
    table = order_table([rows[n] for n in kept], loaded_at=pa.array([at[n] for n in kept], INSTANT))
    one = profile.lateness(opened(orders=table), "loaded_at")["orders"]
    assert one.method == "arrival"
    assert one.lags.set_index("share")["lag_days"].to_dict() == {
        0.5: 0, 0.9: 0, 0.95: 1, 0.99: 3, 1.0: 9,
    }  # fmt: skip
    assert one.last_day == date(2024, 2, 29)
    assert one.last_complete_day == date(2024, 2, 26)
    assert one.incomplete_days == 3
    summary = profile.lateness_summary({"orders": one}).iloc[0]
    assert (summary["lag_95"], summary["lag_99"], summary["lag_most"]) == (1, 3, 9)


def test_quick_rows_of_the_last_days_do_not_hide_a_long_lag():
    """Six in a hundred come after twenty days; of the last twenty days none has come yet."""
    rows, at = arrivals([0] * 94 + [20] * 6)
    kept = [n for n, moment in enumerate(at) if moment <= datetime(2024, 2, 29, 12)]
    table = order_table([rows[n] for n in kept], loaded_at=pa.array([at[n] for n in kept], INSTANT))
    one = profile.lateness(opened(orders=table), "loaded_at")["orders"]
    assert one.lags.set_index("share")["lag_days"][0.95] == 20
    assert one.last_complete_day == date(2024, 2, 9)


def test_arrivals_as_text_are_read_in_the_business_zone():
    rows, _ = arrivals([0])
    # half past midnight of the next day in Shanghai; the same day in UTC
    text = [f"{day + timedelta(days=1)} 00:30:00" for _, day, _ in rows]
    text[:3] = ["soon", None, ""]
    table = order_table(rows, 入库时间=pa.array(text, pa.string()))
    one = profile.lateness(opened("Asia/Shanghai", orders=table), "入库时间")["orders"]
    assert one.lags["lag_days"].tolist() == [1] * 5
    assert "3 rows have no readable 入库时间" in one.reading


def test_an_unknown_arrival_column_is_refused_with_the_nearest_name():
    table = order_table(FEW, loaded_at=pa.array([None] * 7, pa.string()))
    with pytest.raises(ContractError, match="did you mean 'loaded_at'"):
        profile.lateness(opened(orders=table), "loadet_at")
    with pytest.raises(ContractError, match="none of 7 values of loaded_at"):
        profile.lateness(opened(orders=table), "loaded_at")


def judge(source, max_quarantined=0.01, arrival=""):
    tables, report = open_and_check(source)
    intake = profile.intake_summary(report)
    return profile.verdict(
        intake,
        profile.spans(tables),
        profile.keys(tables),
        profile.links(tables),
        profile.missingness(tables),
        profile.purchases_per_customer(tables),
        profile.arms(tables),
        profile.lateness(tables, arrival),
        profile.currencies(tables),
        report.merges,
        max_quarantined,
    )


def answers(judged):
    return judged.questions.set_index("question")["answer"].to_dict()


@pytest.fixture
def shop(tmp_path):
    draw = np.random.default_rng(4)
    rows = ["order_id,customer_id,ordered_at,amount"]
    for number in range(3000):
        day = date(2024, 1, 1) + timedelta(days=int(draw.integers(0, 150)))
        rows.append(f"{number},c{draw.integers(0, 200)},{day},9.90")
    (tmp_path / "orders.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


def test_orders_alone_answer_churn_and_value(shop):
    found = judge(shop)
    assert found.fit
    assert answers(found) == {
        "churn": "yes", "value": "yes", "stages of the journey": "no", "effect of a touch": "no",
    }  # fmt: skip
    assert found.text.startswith("Fit to model: yes, for churn and value, with 2024-05-29 as")
    assert "All 3,000 rows were accepted" in found.text
    assert found.mend == ()


def test_more_refusals_than_allowed_take_the_answer_away(shop):
    with (shop / "orders.csv").open("a") as file:
        file.writelines(f"x{number},c1,some day,1\n" for number in range(60))
    strict, lenient = judge(shop), judge(shop, max_quarantined=0.05)
    assert not strict.fit
    assert strict.text.startswith("Fit to model: no.")
    assert "60 of 3,060 rows of orders (2.0%) were refused" in strict.mend[0]
    assert answers(lenient)["churn"] == "yes"
    assert "3,000 of 3,060 rows were accepted" in lenient.text


def test_several_currencies_cannot_be_one_value(shop):
    text = (shop / "orders.csv").read_text().splitlines()
    more = [f"{line},{'CNY' if at % 2 else 'USD'}" for at, line in enumerate(text[1:])]
    (shop / "orders.csv").write_text("\n".join([f"{text[0]},currency", *more]) + "\n")
    found = judge(shop)
    assert answers(found)["value"] == "no"
    assert answers(found)["churn"] == "yes"
    assert "2 currencies (CNY, USD)" in found.text


def test_merged_people_in_two_arms_spoil_the_experiment(shop):
    people = [f"c{number}" for number in range(400)]
    assigned = [f"e,{who},{'ab'[at % 2]}" for at, who in enumerate(people)]
    text = "\n".join(["experiment_id,customer_id,variant", *assigned]) + "\n"
    (shop / "assignments.csv").write_text(text)
    assert answers(judge(shop))["effect of a touch"] == "yes"
    ids = "customer_id,id_type,id_value\nc0,phone,1\nc1,phone,1\n"
    (shop / "identities.csv").write_text(ids)
    found = judge(shop)
    assert answers(found)["effect of a touch"] == "no"
    assert found.mend[0].startswith("1 rows of assignments repeat their key")


def test_small_arms_are_no_experiment(shop):
    text = "experiment_id,customer_id,variant\n" + "".join(
        f"e,c{number},{'b' if number < 40 else 'a'}\n" for number in range(400)
    )
    (shop / "assignments.csv").write_text(text)
    assert answers(judge(shop))["effect of a touch"] == "no"


def test_an_incomplete_end_is_named_and_does_not_decide(shop):
    draw = np.random.default_rng(4)
    counts = series(draw, 150, 60)
    counts[-1] = 3
    rows = ["order_id,customer_id,ordered_at,amount"]
    for day, count in enumerate(counts):
        on = date(2024, 1, 1) + timedelta(days=day)
        rows += [f"{day}-{n},c{draw.integers(0, 200)},{on},1" for n in range(count)]
    (shop / "orders.csv").write_text("\n".join(rows) + "\n")
    found = judge(shop)
    assert found.fit
    assert "with 2024-05-28 as the last day" in found.text
    assert found.mend == (
        "the last day of orders looks incomplete: end models on 2024-05-28",
    )  # fmt: skip


SOURCES = {
    "cdnow": {"churn", "value"},
    "hillstrom": {"effect of a touch"},
    "telco_churn": {"churn"},
    "simple_onlineshop": {"stages of the journey"},
}


@pytest.mark.parametrize("name", SOURCES)
def test_real_sources_answer_what_they_can(name, request):
    if name != "cdnow":
        request.getfixturevalue("shared_data")
    found = judge(name)
    assert {question for question, answer in answers(found).items() if answer == "yes"} == SOURCES[
        name
    ]


@pytest.mark.parametrize(
    "lines", [[], ["1,a,2024-01-01,5"], ["1,a,2024-01-01,-5"], ["1,a,2024-01-01,0"]]
)
def test_next_to_nothing_is_profiled_without_an_error(lines, tmp_path):
    path = tmp_path / "orders.csv"
    path.write_text("\n".join(["order_id,customer_id,ordered_at,amount", *lines]) + "\n")
    tables, report = open_and_check(path)
    assert not judge(path).fit
    profile.key_numbers(tables)
    profile.measures(tables)
    profile.gap_quantiles(profile.gaps(tables))
    assert profile.gap_bins(profile.gaps(tables)).empty
    assert profile.amounts_reading(profile.amount_histogram(tables))
    assert profile.first_seen_reading(profile.first_seen(tables))
    assert profile.lateness_reading(profile.lateness(tables))
    assert profile.missing_reading(profile.missingness(tables))
    assert profile.intake_reading(profile.intake_summary(report), report.ignored)


def test_refusals_tell_where_and_why_but_not_what(tmp_path):
    path = tmp_path / "orders.csv"
    path.write_text(
        "order_id,customer_id,ordered_at,amount\n1,13800138000,2024-01-01,5\n"
        + "2,13900139000,soon,5\n" * 7
    )
    _, report = open_and_check(path)
    refused = profile.refusals(report)
    assert refused[["table", "reason", "rows"]].values.tolist() == [
        ["orders", "unreadable_time", 7]
    ]
    lines = profile.refused_lines(report)
    assert lines["line"].tolist() == [3, 4, 5, 6, 7]
    assert not lines.astype(str).apply(lambda column: column.str.contains("139")).any(axis=None)
    assert profile.intake_summary(report)["share"].tolist() == [0.875]


def spread_out(connection, folder, name, table):
    file = Path(folder) / f"{name}.parquet"
    pq.write_table(table, file)
    return connection.read_parquet(str(file), table_name=f"profiled_{name}")


def test_both_engines_profile_the_same(spark_connection, tmp_path):
    rows = drawn_orders(8)
    content = {
        "orders": order_table(
            rows,
            currency=["CNY"] * len(rows),
            loaded_at=pa.array([datetime(d.year, d.month, d.day, 20) for _, d, _ in rows], INSTANT),
        ),
        "customers": pa.table({"customer_id": ["客户1", "客户2"], "城市": ["", "上海"]}),
        "assignments": pa.table(
            {"experiment_id": ["e"] * 2, "customer_id": ["客户1", "客户2"], "variant": ["a", "b"]}
        ),
        "outcomes": pa.table(
            {"customer_id": ["x", "y", "z"], "metric": ["m", "m", "n"], "value": [0.1, 0.7, 2.0]}
        ),
    }
    duckdb, spark = (
        Tables(
            **{name: spread_out(on, tmp_path, name, table) for name, table in content.items()},
            source="tests",
            business_tz="Asia/Shanghai",
        )
        for on in (connect_duckdb([tmp_path]), spark_connection)
    )
    frames = (
        profile.spans, profile.keys, profile.links, profile.missingness, profile.arms,
        profile.measures, profile.purchases_per_customer, profile.gaps, profile.first_seen,
        lambda tables: profile.amount_histogram(tables).bins,
        lambda tables: profile.lateness_summary(profile.lateness(tables)),
        lambda tables: profile.lateness(tables, "loaded_at")["orders"].lags,
    )  # fmt: skip
    for build in frames:
        pd.testing.assert_frame_equal(build(duckdb), build(spark), rtol=1e-12)
    assert profile.currencies(duckdb) == profile.currencies(spark) == ["CNY"]
    assert profile.key_numbers(duckdb) == profile.key_numbers(spark)


def test_the_profile_needs_no_heavy_package():
    code = (
        "import sys; from journeylab.tables import profile; "
        "print(sorted({'matplotlib', 'lifelines', 'xgboost', 'sklearn', 'pyspark'}"
        " & set(sys.modules)))"
    )
    import subprocess
    import sys

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ}
    )
    assert done.stdout.strip() == "[]"
