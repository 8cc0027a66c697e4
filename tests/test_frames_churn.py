"""What churn frames hold beyond recency and frequency, against a recount in plain Python."""

import math
from collections import Counter
from datetime import date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journeylab import frames
from journeylab.errors import ContractError
from journeylab.survival import count_events, kaplan_meier, survival_at
from journeylab.tables import Tables, collect, connect_duckdb

FIRST = date(2024, 1, 1)
LANDMARK = date(2024, 6, 1)
UNTIL = date(2024, 9, 30)
WHO = ("00012", "客户甲", "b")
DAYS = st.dates(FIRST, UNTIL)
few = settings(max_examples=8, deadline=None)


@pytest.fixture(scope="module")
def connection():
    return connect_duckdb(threads=1)


def table(connection, name: str, rows: list[tuple], columns: dict[str, pa.DataType]):
    arrays = {
        column: pa.array([row[place] for row in rows], kind)
        for place, (column, kind) in enumerate(columns.items())
    }
    return connection.create_table(name, pa.table(arrays), overwrite=True)


def orders_of(connection, rows: list[tuple]) -> object:
    """Rows of customer, day, amount, discount, channel."""
    content = [
        (str(n), who, datetime(day.year, day.month, day.day), day, amount, off, channel)
        for n, (who, day, amount, off, channel) in enumerate(rows)
    ]
    return table(
        connection,
        "orders",
        content,
        {
            "order_id": pa.string(),
            "customer_id": pa.string(),
            "ordered_at": pa.timestamp("us"),
            "business_date": pa.date32(),
            "amount": pa.decimal128(18, 2),
            "discount": pa.decimal128(18, 2),
            "sales_channel": pa.string(),
        },
    )


def simple(rows: list[tuple[str, date]]) -> list[tuple]:
    return [(who, day, Decimal(10), Decimal(0), "app") for who, day in rows]


MONEY = st.integers(-2000, 9000).map(lambda cents: Decimal(cents).scaleb(-2))
OFF = st.integers(0, 500).map(lambda cents: Decimal(cents).scaleb(-2))
ORDER = st.tuples(st.sampled_from(WHO), DAYS, MONEY, OFF, st.sampled_from(["app", "", "店", None]))


@few
@given(st.lists(ORDER, min_size=1, max_size=40))
def test_rhythm_money_discounts_and_channels_agree_with_a_plain_recount(connection, orders):
    """Every feature of the orders, from rows up to and including the landmark only."""
    expected = {}
    for who in WHO:
        own = [row for row in orders if row[0] == who and row[1] <= LANDMARK]
        bought = [row for row in own if row[2] >= 0]
        days = sorted({row[1] for row in bought})
        if not days:
            continue
        gaps = [(b - a).days for a, b in pairwise(days)]
        last = 3 if len(gaps) >= 6 else 2 if len(gaps) >= 4 else 1 if len(gaps) >= 2 else 0
        trend = math.log(np.mean(gaps[-last:]) / np.mean(gaps[:-last])) if last else None

        def lately(rows, low, high, place=2):
            return sum(
                (row[place] for row in rows if low <= (LANDMARK - row[1]).days < high), Decimal(0)
            )

        now, before = float(lately(own, 0, 90)), float(lately(own, 90, 180))
        size = abs(now) + abs(before)
        used = Counter(row[4] or "unknown" for row in bought)
        latest = max((row[1], row[4] or "unknown") for row in bought)
        row = {
            "gap_trend": trend,
            "silence_in_gaps": (LANDMARK - days[-1]).days / np.mean(gaps) if gaps else None,
            "spend_trend": (now - before) / size if size else None,
            "last_channel": latest[1],
            "main_channel": max((count, name) for name, count in used.items())[1],
            "channels": len(used),
        }
        for window in (30, 90, 180):
            row[f"purchases_{window}d"] = sum((LANDMARK - day).days < window for day in days)
            row[f"spend_{window}d"] = lately(own, 0, window)
        for tail, window in (("", 10**6), ("_90d", 90)):
            off, paid = lately(bought, 0, window, 3), lately(bought, 0, window)
            row[f"discount_share{tail}"] = float(off / (off + paid)) if off + paid else None
        expected[who] = row
    tables = Tables(orders=orders_of(connection, orders), source="tests")
    groups = ["rhythm", "money", "discounts", "channels"]
    built = frames.landmarks(tables, [str(LANDMARK)], 60, str(UNTIL), features=groups)
    got = {row["customer_id"]: row for row in built.to_pyarrow().to_pylist()}
    assert set(got) == set(expected)
    for who, row in expected.items():
        for name, value in row.items():
            if isinstance(value, float):
                assert got[who][name] == pytest.approx(value, abs=1e-12), name
            else:
                assert got[who][name] == value, name


@settings(max_examples=3, deadline=None)
@given(st.lists(ORDER, min_size=1, max_size=20), st.lists(ORDER, min_size=1, max_size=8))
def test_rows_planted_after_the_landmark_change_no_feature(connection, orders, planted):
    shift = UNTIL - FIRST
    planted = [(who, day + shift, *rest) for who, day, *rest in planted]
    answers = []
    for content in (orders, [*planted, *orders]):
        tables = Tables(orders=orders_of(connection, content), source="tests")
        built = frames.landmarks(tables, [str(LANDMARK)], 9, str(UNTIL), features="all")
        answers.append(sorted(map(str, built.drop("duration", "event").to_pyarrow().to_pylist())))
    assert answers[0] == answers[1]


@pytest.fixture
def journey(connection) -> Tables:
    """Two buyers: one touched, visited, served, in a tier and gone; one with nothing else."""
    kinds = {"customer_id": pa.string(), "business_date": pa.date32()}
    at = datetime
    return Tables(
        orders=orders_of(connection, simple([("a", date(2024, 5, 1)), ("b", date(2024, 5, 1))])),
        touches=table(
            connection,
            "touches",
            [
                ("a", date(2024, 5, 31), "sms", "sent"),
                ("a", date(2024, 6, 1), "chat", None),
                ("a", date(2024, 6, 1), "chat", "failed"),
                ("a", date(2024, 6, 2), "sms", "sent"),
                ("a", date(2024, 3, 4), "sms", "delivered"),
            ],
            {**kinds, "channel": pa.string(), "status": pa.string()},
        ),
        events=table(
            connection,
            "events",
            [
                ("a", date(2024, 6, 1), "visit"),
                ("a", date(2024, 6, 20), "left_group"),
                ("a", date(2024, 6, 21), "left_group"),
                ("b", date(2024, 6, 2), "visit"),
            ],
            {**kinds, "event": pa.string()},
        ),
        service_contacts=table(
            connection,
            "service_contacts",
            [
                ("a", date(2024, 5, 1), at(2024, 6, 1, 15, 59, 59)),
                ("a", date(2024, 5, 2), at(2024, 6, 1, 16)),
                ("a", date(2024, 6, 2), None),
            ],
            {**kinds, "closed_at": pa.timestamp("us")},
        ),
        memberships=table(
            connection,
            "memberships",
            [
                ("a", date(2024, 1, 2), at(2024, 1, 2), at(2024, 6, 1, 16), "silver"),
                ("a", date(2024, 6, 2), at(2024, 6, 1, 16), None, "gold"),
                ("b", date(2024, 1, 2), at(2024, 1, 2), at(2024, 6, 1, 15), "gold"),
            ],
            {
                **kinds,
                "started_at": pa.timestamp("us"),
                "ended_at": pa.timestamp("us"),
                "tier": pa.string(),
            },
        ),
        consents=table(
            connection,
            "consents",
            [
                ("a", "marketing", at(2024, 6, 20, 15, 59)),
                ("b", "marketing", at(2024, 6, 20, 16)),
                ("b", "analytics", at(2024, 6, 3)),
            ],
            {
                "customer_id": pa.string(),
                "purpose": pa.string(),
                "withdrawn_at": pa.timestamp("us"),
            },
        ),
        source="tests",
        business_tz="Asia/Shanghai",
    )


def test_other_tables_are_counted_up_to_the_business_day_of_the_landmark(journey):
    built = frames.landmarks(journey, [str(LANDMARK)], 60, str(UNTIL), features="all")
    a, b = (row for row in sorted(built.to_pyarrow().to_pylist(), key=lambda r: r["customer_id"]))
    expected = {
        "touches_30d": 2, "touches_90d": 3, "touches_180d": 3, "days_since_touch": 0,
        "touches_90d_sms": 2, "days_since_touch_sms": 1,
        "touches_90d_chat": 1, "days_since_touch_chat": 0,
        "events_30d": 1, "days_since_event": 0,
        "service_contacts_30d": 0, "service_contacts_90d": 2, "days_since_service": 30,
        "service_open": 1, "tier": "silver", "days_in_tier": 151,
    }  # fmt: skip
    assert {name: a[name] for name in expected} == expected
    nothing = {name: 0 for name in expected if not name.startswith(("days_", "tier"))}
    assert {name: b[name] for name in expected} == {
        **dict.fromkeys(expected), **nothing
    }  # fmt: skip


def test_the_first_cause_wins_and_a_purchase_before_others_on_its_day(connection, journey):
    asked = ("left_group", "unsubscribed")
    built = collect(frames.landmarks(journey, [str(LANDMARK)], 60, str(UNTIL), causes=asked))
    rows = built.set_index("customer_id")[["cause", "duration", "event"]].to_dict("index")
    # a unsubscribes on the day of leaving the group, a minute before b in UTC and a day in Shanghai
    assert rows == {
        "a": {"cause": "left_group", "duration": 19, "event": 1},
        "b": {"cause": "unsubscribed", "duration": 20, "event": 1},
    }
    more = simple([("a", date(2024, 5, 1)), ("b", date(2024, 5, 1)), ("b", date(2024, 6, 21))])
    bought = Tables(
        orders=orders_of(connection, more), events=journey.events, consents=journey.consents,
        source="tests", business_tz="Asia/Shanghai",
    )  # fmt: skip
    built = collect(frames.landmarks(bought, [str(LANDMARK)], 60, str(UNTIL), causes=asked))
    assert built.set_index("customer_id")["cause"].to_dict() == {"a": "left_group", "b": "purchase"}
    short = collect(frames.landmarks(bought, [str(LANDMARK)], 18, str(UNTIL), causes=asked))
    assert short["cause"].tolist() == ["", ""]
    assert short["duration"].tolist() == [18, 18]


def test_training_outcomes_end_where_the_model_is_judged_from(connection):
    bought = simple([("a", date(2024, 1, 1)), ("a", date(2024, 3, 20)), ("a", date(2024, 5, 1))])
    tables = Tables(orders=orders_of(connection, bought), source="tests")
    at = ["2024-02-01", "2024-03-01"]
    built = collect(frames.landmarks(tables, at, 90, str(UNTIL), train_until="2024-03-01"))
    assert built["duration"].tolist() == [29, 19]
    assert built["event"].tolist() == [0, 1]
    ends = [str(day.date()) for day in built["followed_until"]]
    assert ends == ["2024-03-01", "2024-05-30"]


def test_festivals_fall_on_their_days_and_come_again():
    """Hong Kong Observatory: 2023 with a leap second month, 2025 with a leap sixth."""
    year = (date(2023, 1, 1), date(2023, 12, 31))
    assert frames.festival_days("chinese_new_year", *year) == [date(2023, 1, 22)]
    assert frames.festival_days("dragon_boat", *year) == [date(2023, 6, 22)]
    assert frames.festival_days("qixi", date(2025, 1, 1), date(2025, 12, 31)) == [date(2025, 8, 29)]
    assert frames.festival_days("mid_autumn", *year) == [date(2023, 9, 29)]
    assert frames.festival_days("thanksgiving", *year) == [date(2023, 11, 23)]
    found = frames.calendar_of(date(2023, 11, 11), 45)
    assert (found["days_to_sale_1111"], found["days_to_thanksgiving"]) == (0, 12)
    assert found["festivals_ahead"] == 2  # thanksgiving and christmas; the day itself is past
    assert found["season_sin"] ** 2 + found["season_cos"] ** 2 == pytest.approx(1)
    # the lunar year has 353 to 385 days: each table entry against the one before
    for festival in ("chinese_new_year", "dragon_boat", "qixi", "mid_autumn"):
        days = frames.festival_days(festival, date(1990, 1, 1), date(2036, 12, 31))
        steps = {(b - a).days for a, b in pairwise(days)}
        assert len(days) == 47
        assert steps <= {353, 354, 355, 383, 384, 385}
    promoted = frames.promotion_of(date(2024, 6, 1), [date(2024, 6, 1), date(2024, 6, 8)], 7)
    assert promoted == {
        "days_to_promotion": 7, "days_since_promotion": 0, "promotions_ahead": 1
    }  # fmt: skip


@few
@given(st.lists(st.tuples(st.sampled_from(WHO), DAYS), min_size=1, max_size=30))
def test_gaps_agree_with_a_plain_recount(connection, bought):
    since = date(2024, 4, 1)
    expected = {}
    for who in WHO:
        days = sorted({day for name, day in bought if name == who})
        for place, day in enumerate(days):
            after = days[place + 1] if place + 1 < len(days) else None
            stop = after or UNTIL
            if stop > since and day < UNTIL:
                gap = (day - days[place - 1]).days if place else None
                entry = max((since - day).days, 0)
                event = int(after is not None)
                expected[(day, who)] = (place, gap, entry, (stop - day).days, event)
    tables = Tables(orders=orders_of(connection, simple(bought)), source="tests")
    rows = frames.gaps(tables, str(since), str(UNTIL)).to_pyarrow().to_pylist()
    names = ("frequency", "last_gap_days", "entry", "duration", "event")
    assert {
        (row["landmark"], row["customer_id"]): tuple(row[name] for name in names) for row in rows
    } == expected
    assert all(row["entry"] < row["duration"] for row in rows)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_late_entry_gives_back_the_gaps_that_a_period_hides(connection, seed):
    """Gaps of known distribution: with ``entry`` their curve is found, without it it is not."""
    draw = np.random.default_rng(seed)
    rows = []
    for number in range(1500):
        # long before the period, so that it meets the process in its stride
        day = -int(draw.integers(0, 400))
        while day < 400:
            rows.append((f"c{number}", date(2024, 1, 1) + timedelta(days=int(day))))
            day += math.ceil(60 * draw.weibull(1.5))
    tables = Tables(orders=orders_of(connection, simple(rows)), source="tests")
    built = collect(frames.gaps(tables, "2024-06-01", "2024-08-01"))
    assert (built["entry"] > 0).mean() > 0.3
    truth = math.exp(-((30 / 60) ** 1.5))
    late = kaplan_meier(count_events(built["duration"], built["event"], built["entry"]))
    naive = kaplan_meier(count_events(built["duration"], built["event"]))
    right, wrong = (survival_at(curve, [30]).iloc[0] for curve in (late, naive))
    error = (right["ci_high"] - right["ci_low"]) / 3.92
    assert abs(right["survival"] - truth) < 3.5 * error
    assert wrong["survival"] - truth > 5 * error


def test_memberships_on_end_are_one_and_their_end_is_known_only_by_then(connection):
    kinds = {
        "customer_id": pa.string(),
        "business_date": pa.date32(),
        "started_at": pa.timestamp("us"),
        "ended_at": pa.timestamp("us"),
        "tier": pa.string(),
    }
    days = [
        ("on end", date(2024, 1, 1), date(2024, 2, 1), "silver"),
        ("on end", date(2024, 2, 1), None, "gold"),
        ("broken", date(2024, 1, 1), date(2024, 2, 1), "silver"),
        ("broken", date(2024, 3, 1), date(2024, 4, 1), "gold"),
        ("later", date(2024, 6, 1), None, "gold"),
        ("over before", date(2023, 1, 1), date(2023, 2, 1), "gold"),
    ]
    rows = [
        (who, start, datetime.combine(start, datetime.min.time()),
         end and datetime.combine(end, datetime.min.time()), tier)
        for who, start, end, tier in days
    ]  # fmt: skip
    people = table(
        connection, "customers", [("on end", "x")],
        {"customer_id": pa.string(), "city": pa.string()},
    )  # fmt: skip
    tables = Tables(
        memberships=table(connection, "memberships", rows, kinds), customers=people, source="tests"
    )
    built = collect(frames.memberships(tables, "2024-03-31", "2024-01-15"))
    columns = ["customer_id", "tier", "city", "entry", "duration", "event"]
    assert built[columns].fillna("-").to_dict("split")["data"] == [
        ["broken", "silver", "-", 14, 31, 1],
        ["on end", "silver", "x", 14, 90, 0],
        ["broken", "gold", "-", 0, 30, 0],
    ]


def test_telco_memberships_hold_the_lengths_and_ends_of_the_file(shared_data):
    from journeylab.tables import open_tables

    tables = open_tables("telco_churn")
    built = collect(frames.memberships(tables, "2020-01-31", numbers=["TotalCharges"]))
    # IBM's sample: 7,043 customers, 1,869 of them churned; eleven in their first month, unbilled
    assert (len(built), int(built["event"].sum())) == (7043, 1869)
    assert built["TotalCharges"].isna().sum() == 11
    assert (built["duration"] == 1).sum() == 11
    watched = (built["followed_until"] - built["landmark"]).dt.days
    assert (watched == built["duration"]).all()


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda t: frames.landmarks(t, ["2024-06-01"], 9, features="rhythm"), "'all' or a list"),
        (lambda t: frames.landmarks(t, ["2024-06-01"], 9, features=["mood"]), "among .*mood"),
        (lambda t: frames.landmarks(t, ["2024-06-01"], 9, features=["tier"]), "tier needs"),
        (lambda t: frames.landmarks(t, ["2024-06-01"], 9, causes=["left"]), "needs an events"),
        (lambda t: frames.landmarks(t, ["2024-06-01"], 9, causes=["unsubscribed"]), "consents"),
        (lambda t: frames.landmarks(t, ["2024-06-01"], 9, causes=["purchase"]), "always counts"),
        (lambda t: frames.landmarks(t, ["2024-06-01"], 9, attributes=["age"]), "no customers"),
        (lambda t: frames.landmarks(t, ["2024-06-01"], 9, train_until="soon"), "train_until.*soon"),
        (lambda t: frames.landmarks(t, ["2024-06-01"], 9, promotions=["soon"]), "promotions.*soon"),
        (lambda t: frames.landmarks(t, ["2025-06-01"], 9), "before the last complete day"),
        (lambda t: frames.gaps(t, "2024-09-30"), "since must lie before"),
        (lambda t: frames.memberships(t, "2024-06-01"), "no memberships table"),
        (lambda t: frames.festival_days("easter", FIRST, UNTIL), "one of .*'easter'"),
        (lambda t: frames.calendar_of(date(1950, 1, 1), 9), "1990 to 2036; got 1950"),
    ],
)
def test_what_a_churn_frame_cannot_hold_is_refused_by_name(connection, build, message):
    bought = simple([("a", FIRST), ("a", UNTIL)])
    with pytest.raises(ContractError, match=message):
        build(Tables(orders=orders_of(connection, bought), source="tests"))


def test_the_frame_is_pandas_ready(journey):
    """No column is of a kind that a model would have to guess."""
    built = collect(frames.landmarks(journey, [str(LANDMARK)], 60, str(UNTIL), features="all"))
    kinds = {str(kind) for kind in built.dtypes}
    assert kinds <= {"int64", "Int64", "float64", "object", "str", "datetime64[ns]"}
    assert pd.api.types.is_datetime64_any_dtype(built["followed_until"])
