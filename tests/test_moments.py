"""Moments: exact sums from one scan, that add up."""

from decimal import Decimal

import ibis
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from journeylab import tables
from journeylab.errors import ContractError
from journeylab.estimate import (
    Metric,
    Moments,
    freeze_caps,
    moments,
    moments_of_frame,
    moments_of_sums,
    value_counts,
)

REVENUE = Metric.mean("revenue", covariate=["pre"])
ORDER_VALUE = Metric.ratio("order value", "revenue", "orders")
BOUGHT = Metric.proportion("bought", "orders")
METRICS = [REVENUE, ORDER_VALUE, BOUGHT]


def customers(n: int = 600, seed: int = 3) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    orders = rng.poisson(0.7, n)
    return pd.DataFrame(
        {
            "variant": rng.choice(["control", "treatment"], n),
            "stratum": rng.choice(["ios", "android"], n),
            "day": pd.Timestamp("2025-03-01") + pd.to_timedelta(rng.integers(0, 5, n), unit="D"),
            "cluster": rng.choice([f"g{i}" for i in range(12)], n),
            "orders": orders,
            "revenue": np.round(orders * rng.gamma(2, 20, n), 2),
            "pre": np.round(rng.gamma(1, 30, n), 2),
        }
    )


def in_engine(frame: pd.DataFrame, **types: str) -> ibis.Table:
    table = ibis.memtable(frame)
    return table.mutate(**{name: table[name].cast(kind) for name, kind in types.items()})


def assert_same(left: Moments, right: Moments, rel: float = 1e-9) -> None:
    pd.testing.assert_frame_equal(left.cells, right.cells, check_dtype=False)
    assert (left.units == right.units).all()
    for name, block in left.blocks.items():
        other = right.blocks[name]
        assert block.columns == other.columns
        assert (block.n == other.n).all()
        np.testing.assert_allclose(block.mean, other.mean, rtol=rel, atol=1e-12)
        scale = np.abs(other.cross).max()
        np.testing.assert_allclose(block.cross, other.cross, rtol=rel, atol=rel * scale)


def test_one_scan_gives_the_moments_that_numpy_gives_in_every_cell():
    frame = customers()
    table = in_engine(frame, revenue="decimal(18, 2)")
    by = ["stratum", "day", "cluster"]
    found = moments(table, METRICS, by=by)
    assert_same(found, moments_of_frame(frame, METRICS, **{key: key for key in by}))
    sample = found.sample("revenue", "control")
    own = frame[frame["variant"] == "control"]
    assert sample.n == len(own)
    np.testing.assert_allclose(sample.covariance, np.cov(own["revenue"], own["pre"]), rtol=1e-9)


def test_all_metrics_are_counted_in_one_query(monkeypatch):
    asked = []
    collect = tables.collect
    monkeypatch.setattr(tables, "collect", lambda *a, **k: asked.append(1) or collect(*a, **k))
    moments(in_engine(customers(), revenue="decimal(18, 2)", pre="decimal(18, 2)"), METRICS)
    assert len(asked) == 1


@pytest.mark.parametrize("kind", ["decimal(18, 2)", "float64"])
def test_a_million_more_for_everybody_changes_no_variance(kind):
    frame = customers()
    near = moments(in_engine(frame, revenue=kind), [Metric.mean("revenue")])
    far = moments(
        in_engine(frame.assign(revenue=frame["revenue"] + 1e6), revenue=kind),
        [Metric.mean("revenue")],
    )
    for arm in near.variants:
        left, right = near.sample("revenue", arm), far.sample("revenue", arm)
        assert right.cross[0, 0] == pytest.approx(left.cross[0, 0], rel=1e-9)
        assert right.mean[0] - 1e6 == pytest.approx(left.mean[0], rel=1e-9)
    whole = moments_of_frame(frame.assign(revenue=frame["revenue"] + 1e6), [Metric.mean("revenue")])
    assert_same(far, whole)


def test_amounts_beyond_ten_million_are_counted_in_the_wide_way():
    frame = pd.DataFrame(
        {
            "variant": ["a", "a", "b"],
            "revenue": [Decimal("123456789012.34"), Decimal(0), Decimal(1)],
        }
    )
    found = moments(in_engine(frame, revenue="decimal(18, 2)"), [Metric.mean("revenue")])
    assert found.sample("revenue", "a").mean[0] == 61728394506.17
    assert found.sample("revenue", "a").cross[0, 0] == 123456789012.34**2 / 2


@given(st.lists(st.tuples(st.integers(0, 1), st.floats(-1e6, 1e6)), min_size=4, max_size=60),
       st.integers(1, 3))  # fmt: skip
def test_moments_of_parts_add_up_to_moments_of_the_whole(rows, at):
    frame = pd.DataFrame(rows, columns=["variant", "x"])
    metric = [Metric.mean("x")]
    left, right = moments_of_frame(frame[:at], metric), moments_of_frame(frame[at:], metric)
    whole, merged = moments_of_frame(frame, metric), left + right
    assert (merged.units == whole.units).all()
    scale = 1 + np.abs(frame["x"]).max()
    for arm in whole.variants:
        a, b = merged.sample("x", arm), whole.sample("x", arm)
        assert a.mean[0] == pytest.approx(b.mean[0], abs=1e-12 * scale)
        assert a.cross[0, 0] == pytest.approx(b.cross[0, 0], rel=1e-9, abs=1e-12 * scale**2)


def test_cells_merge_into_what_was_never_split():
    frame = customers()
    split = moments_of_frame(frame, METRICS, stratum="stratum", day="day", cluster="cluster")
    assert_same(split.merged(), moments_of_frame(frame, METRICS))
    assert_same(split.merged("cluster"), moments_of_frame(frame, METRICS, cluster="cluster"))
    early = split.only(until="2025-03-02")
    assert_same(
        early.merged(), moments_of_frame(frame[frame["day"] <= pd.Timestamp("2025-03-02")], METRICS)
    )
    sizes, totals = split.totals("revenue", "control")
    own = frame[frame["variant"] == "control"].groupby("cluster")["revenue"]
    assert sizes.tolist() == own.size().tolist()
    np.testing.assert_allclose(totals[:, 0], own.sum())


def test_customers_without_a_value_are_counted_and_left_out_of_that_metric_only():
    frame = customers()
    frame.loc[[0, 1, 2], "revenue"] = [np.nan, np.inf, -np.inf]
    frame.loc[5, "pre"] = np.nan
    for found in (moments(in_engine(frame), METRICS), moments_of_frame(frame, METRICS)):
        assert sum(found.missing("revenue").values()) == 3
        assert sum(found.missing("order value").values()) == 3
        assert sum(found.missing("bought").values()) == 0
        assert found.left_out.groupby("reason")["customers"].sum().to_dict() == {
            "revenue: no value": 3,
            "order value: no value": 3,
        }
        assert sum(found.sample("revenue", arm).n for arm in found.variants) == len(frame) - 3
    assert_same(moments(in_engine(frame), METRICS), moments_of_frame(frame, METRICS), rel=1e-7)


def test_a_missing_value_is_not_taken_for_the_cap():
    frame = customers()
    frame.loc[0, "revenue"] = np.nan
    metric = Metric.mean("revenue", cap_at=40.0)
    found = moments(in_engine(frame), [metric])
    assert sum(found.sample("revenue", arm).n for arm in found.variants) == len(frame) - 1


def test_a_cap_is_a_quantile_over_all_arms_zeros_included():
    frame = customers()
    metric = Metric.mean("revenue", cap=0.95)
    found = moments(in_engine(frame, revenue="decimal(18, 2)"), [metric])
    at = found.metrics[0].cap_at
    assert at == np.quantile(frame["revenue"], 0.95, method="inverted_cdf")
    capped = frame["revenue"].clip(upper=at)[frame["variant"] == "control"]
    assert found.sample("revenue", "control").mean[0] == pytest.approx(capped.mean(), rel=1e-12)
    assert_same(found, moments_of_frame(frame, [metric]))


def test_a_cap_frozen_before_the_test_does_not_move_with_the_outcomes():
    frame = customers().assign(**{"revenue before": lambda f: f["pre"]})
    metric = Metric.mean("revenue", cap=0.9, covariate="before")
    (frozen,) = freeze_caps(in_engine(frame), [metric])
    later = frame.assign(revenue=frame["revenue"] * 3)
    assert freeze_caps(in_engine(later), [metric]) == (frozen,)
    found = moments_of_frame(frame, [frozen]).sample("revenue", "control")
    own = frame.loc[frame["variant"] == "control", "pre"].clip(upper=frozen.cap_at)
    assert found.mean[1] == pytest.approx(own.mean(), rel=1e-12)
    with pytest.raises(ContractError, match="cannot be frozen"):
        freeze_caps(in_engine(customers()), [metric])


def test_status_and_lost_keys_are_left_out_with_a_reason():
    frame = customers(40).assign(status=None)
    frame.loc[0, "status"] = "window not closed yet"
    frame.loc[1, "variant"] = None
    frame.loc[2, "cluster"] = None
    found = moments(in_engine(frame, status="string"), [Metric.mean("orders")], by=["cluster"])
    assert found.left_out.groupby("reason")["customers"].sum().to_dict() == {
        "window not closed yet": 1,
        "no variant": 1,
        "no cluster": 1,
    }
    assert found.units.sum() == 37


def test_assignments_by_group_that_are_counted_by_customer_are_doubted():
    table = in_engine(customers())
    assert moments(table, [Metric.mean("orders")]).doubts
    assert not moments(table, [Metric.mean("orders")], by=["cluster"]).doubts


def test_values_of_a_quantile_metric_count_every_customer():
    frame = customers()
    found = value_counts(in_engine(frame, revenue="decimal(18, 2)"), Metric.mean("revenue"))
    own = frame.groupby(["variant", "revenue"]).size()
    assert found["customers"].tolist() == own.tolist()
    assert found["value"].tolist() == own.index.get_level_values(1).tolist()


def test_moments_of_other_metrics_do_not_add_up():
    frame = customers()
    one, two = (moments_of_frame(frame, [m]) for m in (REVENUE, BOUGHT))
    with pytest.raises(ContractError, match="do not add up"):
        one + two
    with pytest.raises(ContractError, match="do not add up"):
        one + moments_of_frame(frame, [REVENUE], stratum="stratum")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Metric.mean("x", cap=1.5), "cap must lie"),
        (lambda: Metric.ratio("x", "a", ""), "ratio needs 'per'"),
        (lambda: Metric.quantile("x", "a", 1.0), "q must lie"),
        (lambda: Metric.mean(""), "needs a name"),
        (lambda: Metric.mean("x", covariate=["a", "a"]), "named twice"),
        (lambda: moments_of_frame(customers(), []), "one or more"),
        (lambda: moments_of_frame(customers(), [Metric.mean("nothing")]), "no column nothing"),
        (lambda: moments(in_engine(customers()), [Metric.mean("day")]), "must be a number"),
        (lambda: moments_of_sums(Metric.mean("x"), {"a": (2, 4.0, 1.0)}), "sum of squares"),
        (lambda: moments_of_frame(customers(), METRICS).by("day"), "not split by day"),
    ],
)
def test_what_cannot_be_measured_is_refused_by_name(make, says):
    with pytest.raises(ContractError, match=says):
        make()


def test_a_cap_at_nothing_is_no_cap():
    """Customers who bought nothing before: their quantile is 0 and must not wipe out the test."""
    frame = pd.DataFrame({"variant": ["a", "b"] * 50, "spent": [0.0, 7.0] * 50,
                          "spent before": [0.0] * 100})  # fmt: skip
    table = ibis.memtable(frame)
    (free,) = freeze_caps(table, [Metric.mean("spent", cap=0.99)])
    assert (free.cap, free.cap_at) == (None, None)
    assert moments(table, [free]).sample("spent", "b").mean[0] == 7.0
    (kept,) = freeze_caps(table, [Metric.mean("spent", cap=0.99, cap_at=3.0)])
    assert kept.cap_at == 3.0
