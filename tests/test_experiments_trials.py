"""From tables to a readout: equal closed windows, and known effects of a simulated world."""

from dataclasses import replace

import ibis
import pandas as pd
import pyarrow as pa
import pytest

from journeylab import frames, world
from journeylab.errors import ContractError
from journeylab.estimate import Metric, moments
from journeylab.experiments import beside_truth, check_health, compare, find_question
from journeylab.tables import Tables, collect, connect_duckdb, open_tables

SPENT = Metric.mean("spent", "orders.amount", covariate="before")
METRICS = [SPENT, Metric.mean("orders", "orders"), Metric.mean("visits", "events:visit")]


def small() -> Tables:
    """One test of six people, with an order just inside and one just outside of everything."""
    connection = connect_duckdb()
    day = pd.Timestamp

    def put(name: str, frame: pd.DataFrame, **types: pa.DataType):
        table = pa.Table.from_pandas(frame, preserve_index=False)
        for column, kind in types.items():
            at = table.column_names.index(column)
            table = table.set_column(at, column, table[column].cast(kind))
        return connection.create_table(name, table)

    people = ["a", "b", "c", "d", "late", "both", "both"]
    arms = ["x", "x", "y", "y", "x", "x", "y"]
    days = [day("2025-03-10")] * 4 + [day("2025-03-25")] + [day("2025-03-10")] * 2
    assignments = pd.DataFrame(
        {"experiment_id": "t", "customer_id": people, "variant": arms, "business_date": days}
    )
    orders = pd.DataFrame(
        [
            ("a", "2025-03-10", 10.0), ("a", "2025-03-16", 5.0), ("a", "2025-03-17", 99.0),
            ("b", "2025-03-09", 7.0), ("b", "2025-03-03", 1.0), ("b", "2025-03-02", 99.0),
            ("c", "2025-03-12", -4.0), ("late", "2025-03-26", 99.0),
        ],
        columns=["customer_id", "business_date", "amount"],
    )  # fmt: skip
    orders["business_date"] = pd.to_datetime(orders["business_date"])
    events = pd.DataFrame(
        {"customer_id": ["c", "c", "d"], "event": ["visit", "left_group", "visit"],
         "business_date": [day("2025-03-11"), day("2025-03-11"), day("2025-03-17")]}
    )  # fmt: skip
    date, money = pa.date32(), pa.decimal128(18, 2)
    return Tables(
        assignments=put("assignments", assignments, business_date=date),
        orders=put("orders", orders, business_date=date, amount=money),
        events=put("events", events, business_date=date),
    )


def test_windows_are_closed_equal_and_end_where_they_say():
    rows = frames.trial(small(), "t", METRICS, window_days=7, as_of="2025-03-30")
    found = collect(rows).set_index("customer_id")
    assert found.loc["a", "orders.amount"] == 15.0
    assert found.loc["a", "orders"] == 2
    assert found.loc["b", "orders.amount"] == 0.0
    assert found.loc["b", "orders.amount before"] == 8.0
    assert found.loc["c", "orders"] == 0
    assert found.loc["c", "events:visit"] == 1
    assert found.loc["d", "events:visit"] == 0
    assert found.loc["late", "status"] == "window not closed yet"
    assert found.loc["both", "status"] == "in two variants"
    seen = moments(rows, METRICS)
    assert seen.counts() == {"x": 2, "y": 2}
    assert seen.left_out.groupby("reason")["customers"].sum().to_dict() == {
        "window not closed yet": 1,
        "in two variants": 1,
    }
    later = frames.trial(small(), "t", METRICS, window_days=7, as_of="2025-03-31")
    assert moments(later, METRICS).counts() == {"x": 3, "y": 2}


def test_days_of_a_path_add_up_to_the_window():
    metrics = [Metric.mean("spent", "orders.amount"), Metric.mean("s", "orders.amount").by_day(7)]
    metrics.append(metrics[0].within(3))
    rows = collect(frames.trial(small(), "t", metrics, window_days=7, as_of="2025-03-31"))
    days = rows[[f"orders.amount on day {d}" for d in range(7)]].sum(axis=1)
    assert days.tolist() == rows["orders.amount"].tolist()
    assert rows["orders.amount within 3 days"].sum() == 10.0 + 99.0


@pytest.mark.parametrize(
    ("metric", "options", "says"),
    [
        (Metric.mean("nothing"), {}, "names no source"),
        (Metric.mean("x", "orders.colour"), {}, "no column colour"),
        (Metric.mean("x", "touches"), {}, "no touches table"),
        (SPENT, {"as_of": None}, "come together"),
        (SPENT, {"window_days": 0}, "1 or more"),
        (SPENT, {"as_of": "soon"}, "ISO date"),
    ],
)
def test_a_source_that_is_not_there_is_refused(metric, options, says):
    with pytest.raises(ContractError, match=says):
        frames.trial(
            small(), "t", [metric], **({"window_days": 7, "as_of": "2025-03-30"} | options)
        )


@pytest.mark.parametrize("test", ["welcome_page", "group_host", "coupon_depth", "same_twice"])
def test_the_readout_recovers_the_effects_of_a_simulated_world(test, known):
    tables, truth, effects = known
    days = {one.name: one.days for one in truth.preset.tests}[test]
    metrics = [
        Metric.proportion("bought", "orders", covariate="before"),
        Metric.mean("orders", "orders", covariate="before"),
        Metric.mean("revenue", "orders.amount", covariate="before"),
    ]
    rows = frames.trial(tables, test, metrics, window_days=days, as_of="2026-01-04", pre_days=84)
    by = ["cluster"] if test == "group_host" else []
    seen = moments(rows, metrics, by=by)
    control = "none" if test == "coupon_depth" else "control"
    names = {"bought": "conversion", "orders": "orders", "revenue": "revenue"}
    found = beside_truth(seen, effects, test, control, names)
    assert len(found) == 3 * (len(seen.variants) - 1)
    for row in found.to_dict("records"):
        error = (row["high"] - row["low"]) / 3.92
        assert abs(row["effect"] - row["true"]) < 3.5 * error, row


def test_the_broken_split_of_the_world_stops_the_readout(known):
    tables, _, _ = known
    metric = [Metric.mean("orders", "orders")]
    rows = frames.trial(tables, "new_checkout", metric, window_days=21, as_of="2026-01-04")
    health = check_health(moments(rows, metric), {"control": 1, "new_checkout": 1}, "control")
    assert "not split as designed" in health.stop


@pytest.fixture(scope="module")
def known():
    tables, truth = open_tables("simulated:campaign"), world.find_truth("simulated:campaign")
    return tables, truth, truth.tests()


def test_one_player_decides_the_uncapped_means_of_cookie_cats_and_not_the_capped():
    tables = open_tables("cookie_cats")
    metrics = [
        Metric.mean("rounds", "outcomes:game_rounds", cap=0.999),
        Metric.mean("rounds, uncapped", "outcomes:game_rounds"),
    ]
    rows = frames.trial(tables, "gate", metrics, window_days=None, as_of=None)
    seen = moments(rows, metrics)
    capped, raw = (compare(seen, m.name, "gate_40", "gate_30") for m in metrics)
    # The player with 49,854 rounds alone moves the mean of gate_30 by 1.1 rounds.
    assert raw.mean_control - capped.mean_control > 49_854 / raw.n_control
    assert raw.standard_error > 1.3 * capped.standard_error


def test_a_question_is_found_where_nobody_asked_one():
    tables = open_tables("hillstrom")
    trials, measured = (
        collect(frames.trials_listed(tables)),
        collect(frames.outcomes_listed(tables)),
    )
    asked = find_question(trials, measured, has_visits=False, last_day=None)
    assert asked.arms[0] == "No E-Mail"
    assert asked.primary == "conversion"
    assert {metric.name for metric in asked.metrics} >= {"visit", "spend", "spend, uncapped"}
    with pytest.raises(ContractError, match="no test 'x'"):
        find_question(trials, measured, has_visits=False, last_day=None, experiment="x")
    with pytest.raises(ContractError, match="no metric 'x'"):
        find_question(trials, measured, has_visits=False, last_day=None, primary="x")


def test_customers_assigned_twice_count_once_from_their_first_day_and_crossed_ones_not_at_all():
    tables = small()
    again = tables.assignments.filter(tables.assignments.customer_id == "a")
    later = again.mutate(business_date=(again.business_date + ibis.interval(days=5)).cast("date"))
    other = again.mutate(experiment_id=ibis.literal("another test"), variant=ibis.literal("y"))
    doubled = replace(tables, assignments=tables.assignments.union(later).union(other))
    rows = frames.trial(doubled, "t", METRICS, window_days=7, as_of="2025-03-30")
    found = collect(rows).set_index("customer_id")
    assert found.index.is_unique
    assert str(found.loc["a", "day"])[:10] == "2025-03-10"
    assert found.loc["a", "orders.amount"] == 15.0
    assert found.loc["both", "status"] == "in two variants"
    assert moments(rows, METRICS).counts() == {"x": 2, "y": 2}
