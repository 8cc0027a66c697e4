"""Frames against a recomputation in plain Python, and against published numbers."""

import csv
import gzip
import os
from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from journeylab import frames
from journeylab.errors import ContractError
from journeylab.tables import Tables, collect, connect_duckdb

Order = tuple[str, date, Decimal]

FIRST_DAY = date(2024, 1, 1)
AS_OF = date(2024, 2, 10)
UNTIL = date(2024, 3, 31)
# More days before as_of than after, and few enough that orders fall on the same days.
DAYS = st.one_of(st.dates(FIRST_DAY, FIRST_DAY + timedelta(days=9)), st.dates(FIRST_DAY, UNTIL))
ORDER = st.tuples(
    st.sampled_from(["00012", "12", "客户甲"]),
    DAYS,
    st.integers(-2_000, 10_000).map(lambda cents: Decimal(cents).scaleb(-2)),
)
bounded = settings(max_examples=25, deadline=None)
# Every example here builds a dozen frames.
few = settings(max_examples=10, deadline=None)


@pytest.fixture(scope="module")
def connection():
    return connect_duckdb(threads=1)


def tables_of(connection, orders: list[Order], customers: pa.Table | None = None) -> Tables:
    content = pa.table(
        {
            "order_id": pa.array([str(i) for i in range(len(orders))], pa.string()),
            "customer_id": pa.array([who for who, _, _ in orders], pa.string()),
            "ordered_at": pa.array(
                [datetime(day.year, day.month, day.day) for _, day, _ in orders],
                pa.timestamp("us"),
            ),
            "business_date": pa.array([day for _, day, _ in orders], pa.date32()),
            "amount": pa.array([amount for _, _, amount in orders], pa.decimal128(18, 2)),
        }
    )
    people = customers and connection.create_table("customers", customers, overwrite=True)
    laid = connection.create_table("orders", content, overwrite=True)
    return Tables(orders=laid, customers=people, source="tests")


def rows_of(expression) -> list[dict[str, object]]:
    return expression.to_pyarrow().to_pylist()


def all_frames(tables: Tables) -> list[Counter]:
    """Every frame as of AS_OF as a bag of rows; landmarks without their outcomes."""
    as_of = str(AS_OF)
    seen = frames.landmarks(tables, [str(FIRST_DAY + timedelta(days=5)), as_of], 9, str(UNTIL))
    built = [
        frames.customers(tables, as_of),
        frames.histories(tables, as_of),
        frames.customer_histories(tables, as_of),
        frames.first_purchases(tables, as_of),
        frames.repeat_purchases(tables, as_of),
        seen.drop("duration", "event"),
    ]
    return [Counter(tuple(row.items()) for row in rows_of(frame)) for frame in built]


@dataclass
class Past:
    """One customer's days, the plain way."""

    days: list[date]
    orders: int
    amount: Decimal
    amount_after_first: Decimal


def pasts(orders: list[Order], as_of: date) -> dict[str, Past]:
    by_customer = defaultdict(list)
    for who, day, amount in orders:
        if day <= as_of:
            by_customer[who].append((day, amount))
    known = {}
    for who, own in by_customer.items():
        if days := sorted({day for day, amount in own if amount >= 0}):
            known[who] = Past(
                days,
                sum(amount >= 0 for _, amount in own),
                sum((amount for _, amount in own), Decimal(0)),
                sum((amount for day, amount in own if day > days[0]), Decimal(0)),
            )
    return known


@bounded
@given(st.lists(ORDER, max_size=30), st.sampled_from(["day", "week", "month"]))
def test_histories_agree_with_a_plain_recount(connection, orders, unit):
    tables = tables_of(connection, orders)
    known = pasts(orders, AS_OF)
    days_per_unit = {"day": 1, "week": 7, "month": 30.4375}[unit]
    expected = {
        who: (
            len(past.days) - 1,
            pytest.approx((past.days[-1] - past.days[0]).days / days_per_unit, rel=1e-15),
            pytest.approx((AS_OF - past.days[0]).days / days_per_unit, rel=1e-15),
            float(past.amount_after_first) / (len(past.days) - 1) if len(past.days) > 1 else 0.0,
        )
        for who, past in known.items()
    }
    got = rows_of(frames.customer_histories(tables, str(AS_OF), unit))
    columns = ("frequency", "recency", "age", "monetary_value")
    assert {row["customer_id"]: tuple(row[c] for c in columns) for row in got} == expected
    assert len(got) == len(expected)

    cells = rows_of(frames.histories(tables, str(AS_OF), unit))
    counted = Counter(tuple(row[c] for c in columns[:3]) for row in got)
    assert {tuple(row[c] for c in columns[:3]): row["customers"] for row in cells} == counted
    assert sum(row["customers"] for row in cells) == len(known)
    assert len(cells) == len(counted)
    assert all(0 <= row["recency"] <= row["age"] for row in cells)


@bounded
@given(st.lists(ORDER, max_size=30))
def test_customers_holdout_and_daily_counts_agree_with_a_plain_recount(connection, orders):
    tables = tables_of(connection, orders)
    as_of, until = str(AS_OF), str(UNTIL)
    known = pasts(orders, AS_OF)
    assert {row.pop("customer_id"): row for row in rows_of(frames.customers(tables, as_of))} == {
        who: {
            "first_purchase": past.days[0],
            "last_purchase": past.days[-1],
            "orders": past.orders,
            "purchase_days": len(past.days),
            "amount": past.amount,
            "days_since_last": (AS_OF - past.days[-1]).days,
        }
        for who, past in known.items()
    }

    later = [order for order in orders if order[1] > AS_OF]
    bought = {(who, day) for who, day, amount in later if amount >= 0}
    assert {
        row["customer_id"]: (row["purchase_days"], row["amount"])
        for row in rows_of(frames.holdout(tables, as_of, until))
    } == {
        who: (
            sum(buyer == who for buyer, _ in bought),
            sum((amount for buyer, _, amount in later if buyer == who), Decimal(0)),
        )
        for who in known
    }

    firsts = {
        row["first_day"]: row["customers"] for row in rows_of(frames.first_purchases(tables, as_of))
    }
    assert firsts == Counter(past.days[0] for past in known.values())
    repeats = rows_of(frames.repeat_purchases(tables, as_of, until))
    assert {row["day"]: row["repeat_purchases"] for row in repeats} == Counter(
        day for who, past in pasts(orders, UNTIL).items() if who in known for day in past.days[1:]
    )


@bounded
@given(
    st.lists(ORDER, min_size=1, max_size=30),
    st.lists(DAYS, min_size=1, max_size=3, unique=True),
    st.integers(1, 70),
)
def test_landmarks_agree_with_a_plain_recount(connection, orders, at, horizon_days):
    assume(max(at) < UNTIL)
    expected = {}
    future = pasts(orders, UNTIL)
    for landmark in at:
        for who, past in pasts(orders, landmark).items():
            stop = min(landmark + timedelta(days=horizon_days), UNTIL)
            ahead = [day for day in future[who].days if landmark < day <= stop]
            gaps = [(b - a).days for a, b in zip(past.days, past.days[1:], strict=False)]
            expected[(landmark, who)] = {
                "days_since_last": (landmark - past.days[-1]).days,
                "age_days": (landmark - past.days[0]).days,
                "recency_days": sum(gaps),
                "frequency": len(gaps),
                "mean_gap_days": pytest.approx(sum(gaps) / len(gaps)) if gaps else None,
                "last_gap_days": gaps[-1] if gaps else None,
                "orders": past.orders,
                "spend": past.amount,
                "spend_mean": pytest.approx(float(past.amount) / len(past.days)),
                "duration": ((ahead[0] if ahead else stop) - landmark).days,
                "event": int(bool(ahead)),
                "followed_until": stop,
            }
    tables = tables_of(connection, orders)
    rows = rows_of(frames.landmarks(tables, [str(day) for day in at], horizon_days, str(UNTIL)))
    assert {(row.pop("landmark"), row.pop("customer_id")): row for row in rows} == expected
    assert len(rows) == len(expected)
    assert all(1 <= row["duration"] <= horizon_days for row in rows)


@few
@given(
    st.lists(ORDER, max_size=20),
    st.lists(
        st.tuples(
            st.sampled_from(["00012", "客户甲", "new"]),
            st.dates(AS_OF + timedelta(days=1), UNTIL + timedelta(days=400)),
            st.decimals(-50, 50, places=2),
        ),
        min_size=1,
        max_size=8,
    ),
)
def test_rows_planted_after_as_of_change_no_frame(connection, orders, planted):
    before = all_frames(tables_of(connection, orders))
    assert all_frames(tables_of(connection, planted[:1] + orders + planted[1:])) == before


@few
@given(st.lists(ORDER, min_size=1, max_size=20), st.lists(ORDER, max_size=8))
def test_rows_planted_after_until_change_neither_holdout_nor_outcomes(connection, orders, planted):
    shift = UNTIL + timedelta(days=1) - FIRST_DAY
    planted = [(who, day + shift, amount) for who, day, amount in planted]
    answers = []
    for content in (orders, planted + orders):
        tables = tables_of(connection, content)
        built = (
            frames.holdout(tables, str(AS_OF), str(UNTIL)),
            frames.repeat_purchases(tables, str(AS_OF), str(UNTIL)),
            frames.landmarks(tables, [str(AS_OF)], 365, str(UNTIL)),
        )
        answers.append([Counter(tuple(row.items()) for row in rows_of(frame)) for frame in built])
    assert answers[0] == answers[1]


@few
@given(st.lists(ORDER, max_size=20).flatmap(lambda o: st.tuples(st.just(o), st.permutations(o))))
def test_the_order_of_the_rows_does_not_matter(connection, both):
    original, permuted = both
    assert all_frames(tables_of(connection, original)) == all_frames(
        tables_of(connection, permuted)
    )


def test_a_return_makes_no_purchase_day_but_its_money_counts(connection):
    tables = tables_of(
        connection,
        [
            ("a", date(2024, 1, 1), Decimal("10.00")),
            ("a", date(2024, 1, 5), Decimal("30.00")),
            ("a", date(2024, 1, 8), Decimal("-12.00")),
            ("b", date(2024, 1, 8), Decimal("-12.00")),
        ],
    )
    (row,) = rows_of(frames.customers(tables, "2024-01-31"))
    assert (row["customer_id"], row["orders"], row["purchase_days"]) == ("a", 2, 2)
    assert (row["amount"], row["last_purchase"]) == (Decimal("28.00"), date(2024, 1, 5))
    (history,) = rows_of(frames.customer_histories(tables, "2024-01-31", "day"))
    assert history == {
        "customer_id": "a", "frequency": 1, "recency": 4.0, "age": 30.0, "monetary_value": 18.0,
    }  # fmt: skip


def test_repeat_purchases_are_those_of_customers_known_by_as_of(connection):
    known, new = "known", "new"
    orders = [
        (known, date(2024, 1, 31), Decimal(1)),
        (new, date(2024, 2, 1), Decimal(1)),
        (known, date(2024, 2, 3), Decimal(1)),
        (new, date(2024, 2, 3), Decimal(1)),
        (known, date(2024, 2, 4), Decimal(-1)),
        (known, date(2024, 2, 6), Decimal(1)),
    ]
    tables = tables_of(connection, orders)
    rows = rows_of(frames.repeat_purchases(tables, "2024-01-31", "2024-02-05"))
    assert rows == [{"day": date(2024, 2, 3), "repeat_purchases": 1}]
    assert rows_of(frames.repeat_purchases(tables, "2024-01-31")) == []


def test_attributes_join_without_taking_a_name_and_joined_at_does_not_look_ahead(connection):
    people = pa.table(
        {
            "customer_id": ["a", "b", "never bought"],
            "joined_at": pa.array([datetime(2024, 1, 1), datetime(2024, 3, 1), None]),
            "business_date": pa.array([date(2024, 1, 1), date(2024, 3, 1), None]),
            "amount": ["high", "low", "none"],
        }
    )
    orders = [(who, date(2024, 1, 2), Decimal(1)) for who in ("a", "b", "not listed")]
    tables = tables_of(connection, orders, people)
    got = collect(frames.customers(tables, "2024-01-31")).set_index("customer_id")
    assert list(got.columns[-2:]) == ["joined_at", "customers_amount"]
    assert got["joined_at"].notna().to_dict() == {"a": True, "b": False, "not listed": False}
    assert got.loc["b", "customers_amount"] == "low"
    assert got.loc["not listed", "customers_amount"] is None
    assert got["amount"].tolist() == [1.0, 1.0, 1.0]


def test_landmarks_follow_to_the_last_order_when_no_end_is_given(connection):
    orders = [
        ("a", date(2024, 1, 1), Decimal(1)),
        ("b", date(2024, 1, 1), Decimal(1)),
        ("b", date(2024, 1, 20), Decimal(1)),
    ]
    tables = tables_of(connection, orders)
    rows = rows_of(frames.landmarks(tables, ["2024-01-10"], 90))
    assert {row["customer_id"]: (row["duration"], row["event"]) for row in rows} == {
        "a": (10, 0),
        "b": (10, 1),
    }


def test_a_landmark_before_the_first_purchase_gives_no_rows(connection):
    tables = tables_of(connection, [("a", date(2024, 1, 5), Decimal(1))])
    assert rows_of(frames.landmarks(tables, ["2024-01-04"], 90, "2024-02-01")) == []


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda t: frames.histories(t, "31/01/2024"), "as_of must be an ISO date.*31/01/2024"),
        (lambda t: frames.histories(t, "2024-01-31", "year"), "day, week, month; got 'year'"),
        (lambda t: frames.customer_histories(t, "2024-01-31", "Week"), "got 'Week'"),
        (lambda t: frames.holdout(t, "2024-01-31", "2024-01-31"), "until must lie after as_of"),
        (lambda t: frames.repeat_purchases(t, "2024-01-31", "2024-01-30"), "not lie before as_of"),
        (lambda t: frames.landmarks(t, [], 30), "one landmark day or more"),
        (lambda t: frames.landmarks(t, "2024-01-02", 30), "list of one landmark day"),
        (lambda t: frames.landmarks(t, ["2024-01-02"] * 2, 30), "more than once: 2024-01-02"),
        (lambda t: frames.landmarks(t, ["2024-01-02", "2025-01-01"], 30), "1 of 2 .*2025-01-01"),
        (lambda t: frames.landmarks(t, ["2024-01-20"], 30), "before the last complete day"),
        (lambda t: frames.landmarks(t, ["2024-01-02"], 0), "at least 1; got 0"),
    ],
)
def test_what_cannot_be_answered_is_refused_by_name(connection, build, message):
    orders = [("a", date(2024, 1, 1), Decimal(1)), ("a", date(2024, 1, 20), Decimal(1))]
    with pytest.raises(ContractError, match=message):
        build(tables_of(connection, orders))


def test_frames_without_orders_are_refused(connection):
    with pytest.raises(ContractError, match="there is no orders table"):
        frames.customers(Tables(source="tests"), "2024-01-31")
    with pytest.raises(ContractError, match="orders table has no rows"):
        frames.landmarks(tables_of(connection, []), ["2024-01-31"], 30)


@pytest.fixture(scope="module")
def cdnow(connection) -> Tables:
    file = Path(__file__).parent.parent / "data" / "cdnow" / "CDNOW_sample.txt"
    fields = [line.split() for line in file.read_text().splitlines() if line.strip()]
    orders = [
        (who, datetime.strptime(day, "%Y%m%d").date(), Decimal(amount))
        for _, who, day, _, amount in fields
    ]
    return tables_of(connection, orders)


def test_cdnow_gives_the_summary_its_publishers_give(cdnow):
    """Their file: repeat purchases, recency and age in weeks at the end of week 39, rounded."""
    file = Path(os.environ.get("JOURNEYLAB_DATA", "")) / "cdnow" / "cdnow_customers_summary.csv.gz"
    if not file.is_file():
        pytest.skip("needs cdnow/cdnow_customers_summary.csv.gz in the folder JOURNEYLAB_DATA")
    with gzip.open(file, "rt") as lines:
        published = {
            int(row["ID"]): (int(row["frequency"]), float(row["recency"]), float(row["T"]))
            for row in csv.DictReader(lines)
        }
    got = {
        int(row["customer_id"]): (
            row["frequency"],
            pytest.approx(row["recency"], abs=0.00501),
            pytest.approx(row["age"], abs=0.00501),
        )
        for row in rows_of(frames.customer_histories(cdnow, "1997-09-30"))
    }
    assert len(published) == 2357
    assert published == got


def test_cdnow_repeat_spend_is_distributed_as_in_print(cdnow):
    """Mean repeat spend of 946 customers, "RFM and CLV" (Fader, Hardie & Lee 2005), table 1."""
    histories = collect(frames.customer_histories(cdnow, "1997-09-30"))
    spend = histories.loc[histories["frequency"] > 0, "monetary_value"]
    assert len(spend) == 946
    # The quartiles in print are those of the (n + 1) p rule.
    quartiles = np.quantile(spend, [0, 0.25, 0.5, 0.75, 1], method="weibull")
    assert quartiles == pytest.approx([2.99, 15.75, 27.50, 41.80, 299.63], abs=0.00501)
    assert spend.mean() == pytest.approx(35.08, abs=0.005)
    assert spend.std() == pytest.approx(30.28, abs=0.005)
