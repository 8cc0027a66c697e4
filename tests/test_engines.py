"""Every engine function gives the same answer on DuckDB and on Spark."""

import math
import random
from collections.abc import Callable
from dataclasses import fields, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import ibis
import ibis.expr.types as ir
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from journeylab import frames, privacy
from journeylab.estimate import Metric, assigned, assigned_frame, moments, variant_of
from journeylab.tables import Tables, collect, connect_duckdb, open_and_check

AS_OF = "2024-03-31"
RUN_DATE = "2024-04-01"  # by then one more person has withdrawn
UNTIL = "2024-06-30"
ZONE = "Asia/Shanghai"
SHARES = {"control": 0.5, "ten": 0.3, "twenty": 0.2}
INSTANT = pa.timestamp("us")
MONEY = pa.decimal128(18, 2)

# Ids that a careless engine would trim, read as numbers, or sort and hash by other rules.
CUSTOMERS = ["00012", "12", "客户甲", "客户乙", "o'neil", "UPPER", "upper", "1e5", "仅一次", "é"]


def _orders() -> pa.Table:
    """Ties, returns, several orders on one day, and a customer with a single purchase."""
    draw = random.Random(7)
    rows = []
    for customer in CUSTOMERS[:-2]:
        for _ in range(draw.randint(3, 25)):
            day = date(2024, 1, 1) + timedelta(days=draw.randrange(182))
            for _ in range(draw.choice([1, 1, 1, 2])):
                rows.append((customer, day, Decimal(draw.randint(-3000, 20000)).scaleb(-2)))
    rows += [
        ("仅一次", date(2024, 3, 31), Decimal("0.00")),
        ("é", date(2024, 2, 1), Decimal("-5.00")),
        ("é", date(2024, 2, 3), Decimal("0.01")),
        ("only-returns", date(2024, 2, 3), Decimal("-0.01")),
        ("later", date(2024, 4, 1), Decimal("9999999999999999.99")),
    ]
    days = [day for _, day, _ in rows]
    return pa.table(
        {
            "order_id": [f"订单{i:05d}" for i in range(len(rows))],
            "customer_id": [customer for customer, _, _ in rows],
            "ordered_at": pa.array([datetime(d.year, d.month, d.day, 3) for d in days], INSTANT),
            "business_date": pa.array(days),
            "amount": pa.array([amount for _, _, amount in rows], MONEY),
            "discount": pa.array([Decimal("0.50")] * len(rows), MONEY),
            "sales_channel": pa.array(
                [["app", None, "店", ""][place % 4] for place in range(len(rows))], pa.string()
            ),
            "cost": pa.array([None, Decimal("1.25"), *[Decimal("2.00")] * (len(rows) - 2)], MONEY),
        }
    )


def _customers() -> pa.Table:
    joined = [datetime(2024, 1, 1), None, datetime(2024, 5, 1), *[datetime(2023, 5, 5)] * 7]
    return pa.table(
        {
            "customer_id": CUSTOMERS,
            "joined_at": pa.array(joined, INSTANT),
            "business_date": pa.array([at and at.date() for at in joined], pa.date32()),
            "source_channel": pa.array(["ads", None, "", *["sms", "微信"] * 3, "ads"], pa.string()),
            "household_id": pa.array([None, "1", "1", *[None] * 7], pa.string()),
            "staff_id": pa.array(["导购1", *[None] * 9], pa.string()),
            "amount": pa.array(["high", None, "low", *[None] * 7], pa.string()),
        }
    )


def _consents() -> pa.Table:
    early, late = datetime(2024, 1, 1), datetime(2024, 2, 1)
    # The business day ends at 16:00 UTC in Shanghai: one of these is in time, one is not.
    in_time, too_late = datetime(2024, 3, 31, 15, 59, 59), datetime(2024, 3, 31, 16)
    rows = [
        ("00012", None, early, None),
        ("12", None, None, None),
        ("客户甲", None, early, in_time),
        ("客户乙", None, early, too_late),
        ("o'neil", "sms", early, None),
        ("UPPER", None, early, None),
        ("UPPER", "sms", None, late),
        ("upper", None, too_late, None),
        ("1e5", None, early, late),
        ("1e5", "sms", in_time, None),
    ]
    return pa.table(
        {
            "customer_id": [row[0] for row in rows],
            "purpose": ["marketing"] * len(rows),
            "channel": pa.array([row[1] for row in rows], pa.string()),
            "granted_at": pa.array([row[2] for row in rows], INSTANT),
            "withdrawn_at": pa.array([row[3] for row in rows], INSTANT),
        }
    )


def _memberships() -> pa.Table:
    """Two tiers on end, one with a break, one that ends after the day that is looked from."""
    rows = [
        ("00012", datetime(2024, 1, 1, 3), datetime(2024, 2, 10, 3), "silver"),
        ("00012", datetime(2024, 2, 10, 3), None, "gold"),
        ("12", datetime(2024, 1, 5, 3), datetime(2024, 2, 10, 3), "silver"),
        ("12", datetime(2024, 3, 1, 3), None, "silver"),
        ("客户甲", datetime(2024, 1, 20, 3), datetime(2024, 3, 31, 16), "gold"),
        ("é", datetime(2024, 2, 20, 3), datetime(2024, 3, 1, 3), None),
        ("later", datetime(2024, 4, 20, 3), None, "gold"),
    ]
    return pa.table(
        {
            "customer_id": [row[0] for row in rows],
            "started_at": pa.array([row[1] for row in rows], INSTANT),
            "ended_at": pa.array([row[2] for row in rows], INSTANT),
            "tier": pa.array([row[3] for row in rows], pa.string()),
            "business_date": [row[1].date() for row in rows],
            "duration_days": [12.5 * (n + 1) for n in range(len(rows))],
            "ended": pa.array([n % 2 == 0 for n in range(len(rows))]),
            "charges": pa.array(["1.5", "", "x", None, "2", "3", "4"], pa.string()),
        }
    )


def _assignments() -> pa.Table:
    """Two waves; one person in two arms, one without a time, one whose window stays open."""
    rows = [
        (wave, who, arm, day, chance)
        for wave, day in (("wave-1", datetime(2024, 1, 5)), ("wave-2", datetime(2024, 3, 20)))
        for who, arm, chance in zip(
            CUSTOMERS, ["sms", "voice", "none"] * 4, [0.25, None, 0.5] * 4, strict=False
        )
    ]
    rows += [
        ("wave-1", "12", "none", datetime(2024, 1, 5), 0.5),
        ("wave-1", "nobody", "sms", None, 0.25),
        ("wave-2", "nobody", "sms", datetime(2024, 6, 25), 0.25),
    ]
    return pa.table(
        {
            "experiment_id": [row[0] for row in rows],
            "customer_id": [row[1] for row in rows],
            "variant": [row[2] for row in rows],
            "assigned_at": pa.array([row[3] for row in rows], INSTANT),
            "business_date": pa.array([row[3] and row[3].date() for row in rows], pa.date32()),
            "propensity": pa.array([row[4] for row in rows], pa.float64()),
        }
    )


def _content() -> dict[str, pa.Table]:
    orders = _orders()
    people = [*CUSTOMERS, "nobody"]
    touches = [(who, channel) for who in people for channel in ("sms", "voice")]
    return {
        "orders": orders,
        "customers": _customers(),
        "consents": _consents(),
        "order_lines": pa.table(
            {
                "order_id": [*orders["order_id"].to_pylist(), "no such order"],
                "line_no": pa.array([1] * (len(orders) + 1), pa.int64()),
            }
        ),
        "touches": pa.table(
            {
                "customer_id": [who for who, _ in touches],
                "touched_at": pa.array([datetime(2024, 1, 5)] * len(touches), INSTANT),
                "business_date": pa.array([date(2024, 1, 5)] * len(touches)),
                "channel": [channel for _, channel in touches],
                "campaign_id": [None if channel == "voice" else "spring" for _, channel in touches],
                "status": pa.array(
                    [
                        ["delivered", "answered", "sent", "failed", None][n % 5]
                        for n in range(len(touches))
                    ]
                ),
            }
        ),
        "events": pa.table(
            {
                "customer_id": [who for who in people for _ in range(3)],
                "occurred_at": pa.array([datetime(2024, 3, 1)] * 3 * len(people), INSTANT),
                "event": ["visit", "left_group", "visit"] * len(people),
                "business_date": [
                    date(2024, 3 + n % 3, 1 + n % 27) for n in range(3 * len(people))
                ],
            }
        ),
        "service_contacts": pa.table(
            {
                "customer_id": people,
                "opened_at": pa.array([datetime(2024, 2, 1, 3)] * 11, INSTANT),
                "business_date": [date(2024, 2, 1)] * 11,
                # one of these is settled within the landmark's business day, one after it
                "closed_at": pa.array(
                    [None, datetime(2024, 2, 29, 15, 59), datetime(2024, 2, 29, 16), *[None] * 8],
                    INSTANT,
                ),
            }
        ),
        "memberships": _memberships(),
        "assignments": _assignments(),
        "referrals": pa.table(
            {
                "referrer_id": ["00012", "00012", "nobody"],
                "invitee_id": ["12", "客户甲", "12"],
                "referred_at": pa.array([datetime(2024, 1, 5)] * 3, INSTANT),
            }
        ),
        "identities": pa.table(
            {
                "customer_id": ["00012", "客户甲"],
                "id_type": ["phone", "union_id"],
                "id_value": ["13800138000", "o6_bmjrPTlm6_2sgVt7hMZOPfL2M"],
            }
        ),
        "outcomes": pa.table(
            {"customer_id": people, "metric": ["visits"] * 11, "value": [1.5] * 11}
        ),
        "points": pa.table(
            {
                "customer_id": people,
                "changed_at": pa.array([datetime(2024, 1, 5)] * 11, INSTANT),
                "delta": [0.1] * 11,
                "reason": pa.array([None, *["签到"] * 10], pa.string()),
            }
        ),
    }


def _tables_on(connection: ibis.BaseBackend, folder: Path) -> Tables:
    laid = {}
    for name, content in _content().items():
        file = folder / f"{name}.parquet"
        pq.write_table(content, file)
        laid[name] = connection.read_parquet(str(file), table_name=name)
    return Tables(**laid, source="tests", business_tz=ZONE)


@pytest.fixture(scope="module")
def engines(
    spark_connection: ibis.BaseBackend, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Tables, Tables]:
    folder = tmp_path_factory.mktemp("engines")
    return _tables_on(connect_duckdb([folder]), folder), _tables_on(spark_connection, folder)


def _rows(expression: ir.Table) -> tuple[list[str], list[tuple[object, ...]]]:
    """An answer's columns, and its rows in an order in which rounding plays no part."""
    answer = expression.to_pyarrow()
    rows = zip(*(column.to_pylist() for column in answer.columns), strict=True)
    return answer.column_names, sorted(rows, key=lambda row: [_sortable(value) for value in row])


def _sortable(value: object) -> tuple[bool, str]:
    return value is None, f"{value:.9g}" if isinstance(value, float) else str(value)


def assert_equal(left: ir.Table, right: ir.Table) -> None:
    names, left_rows = _rows(left)
    right_names, right_rows = _rows(right)
    assert names == right_names
    assert len(left_rows) == len(right_rows) > 0
    for left_row, right_row in zip(left_rows, right_rows, strict=True):
        for name, one, other in zip(names, left_row, right_row, strict=True):
            assert type(one) is type(other), (name, left_row, right_row)
            if isinstance(one, float):
                assert math.isclose(one, other, rel_tol=1e-12, abs_tol=1e-12), (name, one, other)
            else:
                assert one == other, (name, left_row, right_row)


BUILDERS: dict[str, Callable[[Tables], ir.Table]] = {
    "customers": lambda tables: frames.customers(tables, AS_OF),
    "histories in weeks": lambda tables: frames.histories(tables, AS_OF),
    "histories in months": lambda tables: frames.histories(tables, AS_OF, "month"),
    "customer_histories": lambda tables: frames.customer_histories(tables, AS_OF),
    "holdout": lambda tables: frames.holdout(tables, AS_OF, UNTIL),
    "first_purchases": lambda tables: frames.first_purchases(tables, AS_OF),
    "repeat_purchases": lambda tables: frames.repeat_purchases(tables, AS_OF, UNTIL),
    "landmarks": lambda tables: frames.landmarks(tables, ["2024-02-29", AS_OF, "2024-06-01"], 45),
    "landmarks with every feature": lambda tables: frames.landmarks(
        tables,
        ["2024-02-29", AS_OF],
        45,
        features="all",
        attributes=["staff_id", "source_channel"],
        promotions=["2024-03-08"],
    ),
    "landmarks with causes": lambda tables: frames.landmarks(
        tables,
        ["2024-02-29", AS_OF],
        45,
        causes=["unsubscribed", "left_group"],
        train_until=AS_OF,
    ),
    "cause_days": lambda tables: frames.cause_days(
        tables, ["left_group", "unsubscribed"], date(2024, 4, 30)
    ),
    "gaps": lambda tables: frames.gaps(tables, "2024-02-15", AS_OF),
    "memberships": lambda tables: frames.memberships(tables, AS_OF, "2024-02-01"),
    "memberships without dates": lambda tables: frames.memberships(
        replace(tables, memberships=tables.memberships.drop("started_at", "ended_at")),
        AS_OF,
        numbers=["charges"],
    ),
    "value_landmarks": lambda tables: frames.value_landmarks(
        tables, ["2024-02-29", AS_OF, "2024-06-01"], 45, "2024-06-20"
    ),
    "acquisitions": lambda tables: frames.acquisitions(tables, AS_OF),
    "acquired": lambda tables: frames.acquired(tables, AS_OF),
    "customer_margins": lambda tables: frames.customer_margins(tables, AS_OF),
    "accrual": lambda tables: frames.accrual(tables, "2024-01-10", AS_OF),
    "entries in clusters": lambda tables: frames.entries(
        tables, "2024-01-10", AS_OF, cluster="source_channel"
    ),
    "rehearsed": lambda tables: (
        frames.rehearsed(tables, "2024-01-10", AS_OF, "salt", SHARES).assignments
    ),
    "rehearsed in clusters": lambda tables: (
        frames.rehearsed(
            tables, "2024-01-10", AS_OF, "salt", SHARES, cluster="source_channel", lag_days=1
        ).assignments
    ),
    "assigned within strata": lambda tables: assigned(
        tables.customers.select("customer_id", "source_channel"),
        "salt",
        SHARES,
        stratum="source_channel",
    ),
    "campaign_panels": lambda tables: frames.campaign_panels(
        tables, "spring", 4, periods_before=1, periods_after=2, only_known=True, until=UNTIL
    ),
    "trials": lambda tables: frames.trials(tables, "wave-*", 28, UNTIL),
    "left_out_of_trials": lambda tables: frames.left_out_of_trials(tables, "wave-*", 28, UNTIL),
    "measured_trials": lambda tables: frames.measured_trials(tables, ["wave-1"], ["visits"]),
    "withheld": lambda tables: privacy.withheld(tables, "marketing", AS_OF),
    "withheld on the day of the run": lambda tables: privacy.withheld(
        tables, "marketing", AS_OF, run_date=RUN_DATE
    ),
}


@pytest.mark.parametrize("name", BUILDERS)
def test_both_engines_build_the_same(name, engines):
    duckdb, spark = engines
    assert_equal(BUILDERS[name](duckdb), BUILDERS[name](spark))


def test_both_engines_give_the_arms_that_python_gives(engines):
    """Three ways to one assignment, whatever letters the ids have."""
    for tables in engines:
        people = tables.customers.select("customer_id", "source_channel")
        found = collect(assigned(people, "salt", SHARES))
        expected = [variant_of(name, "salt", SHARES) for name in found["customer_id"]]
        assert found["variant"].tolist() == expected
        within = collect(assigned(people, "salt", SHARES, stratum="source_channel"))
        frame = assigned_frame(collect(people), "salt", SHARES, stratum="source_channel")
        assert within["variant"].tolist() == frame["variant"].tolist()


@pytest.mark.parametrize(
    "filtered",
    [
        lambda tables: privacy.pseudonymise(tables, privacy.PUBLIC_KEY),
        lambda tables: privacy.consented(tables, "marketing", AS_OF),
        lambda tables: privacy.consented(tables, "marketing", AS_OF, run_date=RUN_DATE),
    ],
    ids=["pseudonymise", "consented", "consented on the day of the run"],
)
def test_both_engines_let_the_same_rows_through(filtered, engines):
    duckdb, spark = map(filtered, engines)
    present = [field.name for field in fields(Tables) if field.name in _content()]
    assert len(present) == len(_content())
    for name in present:
        assert_equal(getattr(duckdb, name), getattr(spark, name))


def test_on_both_engines_whoever_withdrew_before_the_run_is_left_out(engines):
    for tables in engines:
        before, after = (
            {row[0] for row in _rows(allowed.customers.select("customer_id"))[1]}
            for allowed in (
                privacy.consented(tables, "marketing", AS_OF),
                privacy.consented(tables, "marketing", AS_OF, run_date=RUN_DATE),
            )
        )
        assert before - after == {"客户乙"}
        assert after < before


def test_both_engines_name_everybody_to_the_gate(engines):
    others = ["only-returns", "later", "nobody", "1", "导购1"]
    expected = {*CUSTOMERS, *others, "13800138000", "o6_bmjrPTlm6_2sgVt7hMZOPfL2M"}
    for tables in engines:
        assert privacy.ids_of(tables) == expected


def test_frames_of_pseudonyms_of_consenting_customers_agree(engines):
    """The whole way from tables to a frame, one step upon the other."""
    duckdb, spark = (
        frames.customers(
            privacy.consented(privacy.pseudonymise(tables, "key"), "marketing", AS_OF), AS_OF
        )
        for tables in engines
    )
    assert_equal(duckdb, spark)


TIMES = [
    "2024-01-05",
    "2024-01-05 10:11:12",
    "2024-01-05T10:11:12+08:00",
    "2024-01-05 10:11:12Z",
    "2024-1-5 9:05",
    "1704449472",
    "1704449472123",
    "12:30",
    "2024",
    "2024-02-30",
    "epoch",
    "now",
    "2024-01-05 10:11:12 UTC",
    "",
]


@pytest.mark.parametrize("zone", ["UTC", "Asia/Shanghai"])
def test_both_engines_read_the_same_texts_as_times_numbers_and_ids(spark_connection, zone):
    """The same strings in the same columns: accepted alike, refused alike."""
    numbers = ["1", "3.7", "5d", "1_000", "NaN", "1e3", "", "-2", ".5", "x", "7", "8", "9", "10"]
    rows = pa.table(
        {
            "customer_id": [f"c{place:02}" for place in range(len(TIMES))],
            "given_at": TIMES,
            "score": numbers,
            "text": pa.array([None, *TIMES[1:]]),
        }
    )
    found = []
    for connection in (ibis.duckdb.connect(), spark_connection):
        connection.create_table("feedback", rows, overwrite=True)
        tables, report = open_and_check(connection, ["feedback"], business_tz=zone)
        found.append((report.to_json()["feedback"], collect(tables.feedback)))
        connection.drop_table("feedback")
    assert found[0][0] == found[1][0]
    pd.testing.assert_frame_equal(found[0][1], found[1][1])


def test_both_engines_count_the_same_moments_of_a_test_to_the_last_digit(engines):
    """Money in cents and doubles with gaps; a cap and a quantile by the same values."""
    metrics = [
        Metric.mean("revenue", "orders.amount", covariate="before", cap=0.9),
        Metric.ratio("order value", "orders.amount", "orders"),
        Metric.proportion("bought", "orders"),
        Metric.quantile("median", "orders.amount", 0.5),
    ]
    found = []
    for tables in engines:
        past = frames.rehearsed(tables, "2024-01-10", AS_OF, "salt", SHARES)
        rows = frames.trial(
            past, frames.REHEARSAL, metrics, window_days=30, as_of=UNTIL, pre_days=30
        )
        found.append(moments(rows, metrics, by=["day"]))
    duckdb, spark = found
    pd.testing.assert_frame_equal(duckdb.cells, spark.cells)
    pd.testing.assert_frame_equal(duckdb.left_out, spark.left_out)
    assert duckdb.metrics == spark.metrics
    assert duckdb.units.sum() > 0
    for name, block in duckdb.blocks.items():
        other = spark.blocks[name]
        assert (block.n == other.n).all()
        assert (block.mean == other.mean).all()
        assert (block.cross == other.cross).all()
    pd.testing.assert_frame_equal(duckdb.values["median"], spark.values["median"])
