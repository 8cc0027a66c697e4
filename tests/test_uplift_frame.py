"""From assignments to one row per unit: what came before, what came after, what was left out."""

from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal

import ibis
import pandas as pd
import pytest

from journeylab import frames
from journeylab.errors import ContractError
from journeylab.tables import Tables, collect, open_tables


def _table(columns, kinds, rows):
    schema = ibis.schema(dict(zip(columns, kinds, strict=True)))
    return ibis.memtable(pd.DataFrame(rows, columns=columns), schema=schema)


def _orders(rows):
    kinds = ["string", "date", "decimal(18, 2)", "decimal(18, 2)"]
    columns = ["customer_id", "business_date", "amount", "cost"]
    money = [(who, day, Decimal(amount), Decimal(cost)) for who, day, amount, cost in rows]
    return _table(columns, kinds, money)


@pytest.fixture
def tables() -> Tables:
    day = date(2024, 3, 10)
    assigned = [
        ("wave-1", "a", "sms", day, 0.3),
        ("wave-1", "b", "none", day, 0.7),
        ("wave-1", "two", "sms", day, 0.3),
        ("wave-1", "two", "none", day, 0.7),
        ("wave-1", "timeless", "sms", None, 0.3),
        ("wave-2", "a", "none", date(2024, 3, 17), 0.7),
        ("wave-2", "late", "sms", date(2024, 3, 26), 0.3),
        ("other", "a", "x", day, 0.5),
    ]
    return Tables(
        orders=_orders(
            [
                ("a", date(2024, 1, 1), "100", "60"),
                ("a", date(2024, 3, 9), "10", "6"),
                ("a", date(2024, 3, 10), "20", "12"),
                ("a", date(2024, 3, 16), "-5", "-3"),
                ("a", date(2024, 3, 17), "7", "4"),
                ("b", date(2024, 3, 20), "50", "30"),
            ]
        ),
        assignments=_table(
            ["experiment_id", "customer_id", "variant", "business_date", "propensity"],
            ["string", "string", "string", "date", "float64"],
            assigned,
        ),
        touches=_table(
            ["customer_id", "business_date", "channel", "status"],
            ["string", "date", "string", "string"],
            [
                ("a", date(2024, 3, 1), "chat", "delivered"),
                ("a", date(2024, 3, 11), "sms", "answered"),
                ("b", date(2024, 3, 11), "sms", "delivered"),
            ],
        ),
        events=_table(
            ["customer_id", "occurred_at", "business_date", "event"],
            ["string", "timestamp", "date", "string"],
            [("a", datetime(2024, 3, 9), date(2024, 3, 9), "visit")] * 2
            + [("a", datetime(2024, 3, 10), date(2024, 3, 10), "visit")],
        ),
        source="tests",
    )


def test_the_past_ends_the_day_before_and_the_window_is_closed_on_both_sides(tables):
    frame = collect(frames.trials(tables, "wave-*", 7, "2024-03-31"))
    first = frame[(frame["experiment_id"] == "wave-1") & (frame["customer_id"] == "a")].iloc[0]
    assert (first["orders_before"], first["spend_before"]) == (2, 110)
    assert (first["orders_lately"], first["spend_lately"]) == (1, 10)
    assert (first["outcome_orders_before"], first["outcome_spend_before"]) == (1, 10)
    assert (first["days_since_last"], first["age_days"]) == (1, 69)
    # the order of the 10th and the return of the 16th; not that of the 17th
    assert (first["bought"], first["orders"], first["spend"], first["margin"]) == (1, 1, 15, 6)
    assert (first["touches_lately"], first["visits_lately"]) == (1, 2)
    assert (first["delivered"], first["answered"]) == (1, 1)
    # a message that the arm does not stand for is no delivery of it
    other = frame[frame["customer_id"] == "b"].iloc[0]
    assert (other["delivered"], other["orders"], other["bought_before"]) == (0, 0, 0)
    assert pd.isna(other["days_since_last"])


def test_waves_stack_and_a_customer_stays_one_cluster(tables):
    frame = collect(frames.trials(tables, ["wave-1", "wave-2"], 5, "2024-03-31"))
    mine = frame[frame["customer_id"] == "a"]
    assert list(mine["experiment_id"]) == ["wave-1", "wave-2"]
    assert set(mine["cluster"]) == {"a"}
    assert list(mine["stratum"]) == ["wave-1", "wave-2"]
    assert list(mine["propensity"]) == [0.3, 0.7]


def test_every_unit_is_taken_or_counted_with_its_reason(tables):
    out = collect(frames.left_out_of_trials(tables, "wave-*", 7, "2024-03-31"))
    assert dict(zip(out["reason"], out["units"], strict=True)) == {
        "taken": 3,
        "in two arms": 1,
        "no time of assignment": 1,
        "window still open": 1,
    }
    assert len(collect(frames.trials(tables, "wave-*", 7, "2024-03-31"))) == 3
    # the window of the 26th closes with the 31st, not with the 30th
    closed = collect(frames.trials(tables, "wave-2", 6, "2024-03-31"))
    assert set(closed["customer_id"]) == {"a", "late"}
    assert set(collect(frames.trials(tables, "wave-2", 6, "2024-03-30"))["customer_id"]) == {"a"}


def test_without_costs_or_touches_nothing_is_made_up(tables):
    bare = replace(tables, orders=tables.orders.drop("cost"), touches=None, events=None)
    frame = collect(frames.trials(bare, "wave-1", 7, "2024-03-31"))
    assert frame["margin"].isna().all()
    assert frame["delivered"].isna().all()
    assert (frame["touches_lately"] == 0).all()


def test_measured_results_come_without_windows(shared_data):
    tables = open_tables("hillstrom")
    frame = collect(frames.measured_trials(tables, "hillstrom", ["visit", "spend"]))
    assert len(frame) == 64_000
    # as published with the data: visit rates of 10.6, 18.3 and 15.1 %
    rates = frame.groupby("arm")["visit"].mean().round(3)
    assert rates.to_dict() == {"No E-Mail": 0.106, "Mens E-Mail": 0.183, "Womens E-Mail": 0.151}
    assert {"recency", "history", "zip_code", "source_channel"} <= set(frame.columns)
    with pytest.raises(ContractError, match="carry no times"):
        frames.trials(replace(tables, orders=tables.outcomes), "hillstrom", 7, "2024-03-31")


def test_what_is_no_experiment_is_refused(tables):
    with pytest.raises(
        ContractError, match=r"a difference is not an effect.* stands in 41_uplift_obs"
    ):
        frames.trials(replace(tables, assignments=None), "wave-1", 7)
    with pytest.raises(ContractError, match="at least 1"):
        frames.trials(tables, "wave-1", 0)
    with pytest.raises(ContractError, match=r"no experiment is called wave-9, b\*; the 3 in tests"):
        frames.trials(tables, ["wave-1", "wave-9", "b*"], 7)
    with pytest.raises(ContractError, match="are: other, wave-1, wave-2"):
        frames.left_out_of_trials(tables, "weekly", 7)
    with pytest.raises(ContractError, match="no outcomes table"):
        frames.measured_trials(tables, "wave-1", ["visit"])
