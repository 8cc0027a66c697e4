"""Payback and marginal cost: hand cases, and worlds whose answer is known."""

from datetime import datetime
from decimal import Decimal

import ibis
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from journeylab import clv, frames
from journeylab.clv.bg_nbd import BgNbdFit
from journeylab.clv.gamma_gamma import GammaGammaFit
from journeylab.errors import ContractError, FitError
from journeylab.tables import Tables, collect

PURCHASES = BgNbdFit(0.8, 6.0, 0.9, 2.5, 0.0, 1, "week", tuple(map(tuple, 1e-4 * np.eye(4))))
SPEND = GammaGammaFit(6.25, 3.74, 15.44, 0.0, 1, tuple(map(tuple, 1e-4 * np.eye(3))))
JANUARY, FEBRUARY = pd.Timestamp("2024-01-01"), pd.Timestamp("2024-02-01")


def path(channel, cohort, customers, *draws):
    """One row per draw and month."""
    months = len(draws[0])
    return pd.DataFrame(
        {
            "channel": channel,
            "cohort": cohort,
            "customers": customers,
            "draw": np.repeat(np.arange(len(draws)), months),
            "month": np.tile(np.arange(months), len(draws)),
            "value": np.concatenate(draws).astype(float),
        }
    )


def test_payback_of_a_hand_case():
    """100 customers for 2,000: 20 each; 10 at once, then 5 or 4 a month: month 2 or 3."""
    values = path("ads", JANUARY, 100, [10, 5, 5, 5], [10, 4, 4, 4])
    costs = pd.DataFrame(
        {"channel": "ads", "period": ["2024-01-01", "2024-01-15"], "cost": [500.0, 1500.0]}
    )
    found = clv.payback(values, costs)
    row = found.cohorts.iloc[0]
    assert (row["cac"], row["ltv"], row["cost"]) == (20.0, 23.5, 2000.0)
    assert row["ltv_cac"] == pytest.approx(23.5 / 20)
    # On average 10 + 4.5 + 4.5 = 19 after two months, so the third repays.
    assert row["payback_month"] == 3
    assert (row["payback_month_low"], row["payback_month_high"]) == (2, 3)
    assert row["paid_back"] == 1.0
    assert found.curve["net"].tolist() == pytest.approx([-10, -5.5, -1, 3.5])
    dear = clv.payback(values, costs.assign(cost=[500.0, 1_900.0])).cohorts.iloc[0]
    # 24 each: one draw of two repays, and the mean never does: one month beyond the path.
    assert dear["paid_back"] == 0.5
    assert dear["payback_month"] == 4


def test_channels_weigh_their_cohorts_by_customers_and_free_channels_are_named():
    values = pd.concat(
        [
            path("ads", JANUARY, 100, [10, 10]),
            path("ads", FEBRUARY, 300, [20, 20]),
            path("organic", JANUARY, 50, [9, 9]),
        ]
    )
    costs = pd.DataFrame(
        {"channel": "ads", "period": [JANUARY, FEBRUARY], "cost": [1_000.0, 3_000.0]}
    )
    found = clv.payback(values, costs)
    (row,) = found.channels.to_dict("records")
    assert row["ltv"] == pytest.approx((100 * 20 + 300 * 40) / 400)
    assert row["cac"] == 10.0
    assert row["payback_month"] == 0
    assert found.without_cost == ("organic",)
    assert not found.cohorts.isna().any(axis=None)
    # Where the cost table counts whom it won, that is what is divided by.
    half = clv.payback(values, costs.assign(acquired=[50, 150])).channels.iloc[0]
    assert half["cac"] == 20.0


def test_value_path_of_a_known_world_pays_back_when_its_expectation_does():
    """Expected value by month is first spend, then purchases times mean spend, discounted."""
    cohorts = pd.DataFrame(
        {"channel": "ads", "cohort": [JANUARY], "customers": [20_000], "first_spend": [30.0]}
    )
    values = clv.value_path(
        cohorts, {"": PURCHASES}, {"ads": SPEND}, 12, 3, margin=0.5, annual_discount=0.1, draws=100
    )
    mean = values.groupby("month")["value"].mean().to_numpy()
    ends = np.arange(13) * 30.0
    factor = 1.1 ** (-ends / 365)
    bought = np.diff(PURCHASES.expected_new(ends / 7)) * (factor[1:] + factor[:-1]) / 2
    expected = 0.5 * np.concatenate([[30.0], bought * SPEND.mean])
    assert mean == pytest.approx(expected, rel=0.02)
    so_far = expected.cumsum()
    cost = float((so_far[5] + so_far[6]) / 2)
    costs = pd.DataFrame({"channel": "ads", "period": [JANUARY], "cost": [cost * 20_000]})
    row = clv.payback(values, costs).channels.iloc[0]
    assert row["payback_month"] == 6
    assert row["payback_month_low"] <= 6 <= row["payback_month_high"] <= 8
    assert row["paid_back"] == 1.0
    assert row["ltv_cac_low"] < so_far[-1] / cost < row["ltv_cac_high"]


def test_small_cohorts_are_less_sure_than_large_ones():
    cohorts = pd.DataFrame(
        {"channel": ["few", "many"], "cohort": JANUARY, "customers": [20, 5_000]}
    ).assign(first_spend=30.0)
    values = clv.value_path(cohorts, {"": PURCHASES}, {"": SPEND}, 12, 3, draws=100)
    costs = pd.DataFrame({"channel": ["few", "many"], "period": JANUARY, "cost": [400.0, 1e5]})
    table = clv.payback(values, costs).channels.set_index("channel")
    width = table["ltv_high"] - table["ltv_low"]
    assert width["few"] > 5 * width["many"]


def spending(elasticity, organic, seed, periods=36):
    """Customers won are organic + 2 * cost ** elasticity, with Poisson noise."""
    rng = np.random.default_rng(seed)
    cost = rng.uniform(1_000, 40_000, periods)
    cost[-1] = 20_000
    mean = organic + 2 * cost**elasticity
    return pd.DataFrame(
        {
            "channel": "ads",
            "period": pd.date_range("2021-01-01", periods=periods, freq="MS"),
            "cost": cost,
            "acquired": rng.poisson(mean),
        }
    )


@pytest.mark.parametrize("method", ["log-log", "isotonic"])
def test_the_last_customers_cost_what_the_world_says(method):
    """With 2 * cost^0.6 one more customer costs cost^0.4 / 1.2: 43.8 at 20,000, twice the mean."""
    truth = 20_000**0.4 / (2 * 0.6)
    found = clv.marginal_cost(spending(0.6, 100, 4), "ads", 1, organic=100, method=method)
    assert found.marginal.ci_low <= truth <= found.marginal.ci_high
    assert found.average.value < found.marginal.value
    if method == "log-log":
        assert found.elasticity.value == pytest.approx(0.6, abs=0.06)
        assert found.marginal.value == pytest.approx(truth, rel=0.15)
    assert found.at_cost == 20_000
    assert (np.diff(found.curve["marginal"]) > -1e-9).all()
    assert np.isfinite(found.curve.to_numpy()).all()


def test_log_log_interval_holds_the_truth_as_often_as_it_says():
    truth = 20_000**0.4 / (2 * 0.6)
    held = 0
    for seed in range(40):
        found = clv.marginal_cost(spending(0.6, 0, seed), "ads", seed, draws=200)
        held += found.marginal.ci_low <= truth <= found.marginal.ci_high
    assert held >= 34


def test_idle_periods_show_what_comes_without_spending():
    costs = spending(0.6, 300, 5)
    idle = costs.head(6).assign(cost=0.0, acquired=300)
    known = clv.marginal_cost(pd.concat([idle, costs]), "ads", 1)
    blind = clv.marginal_cost(costs, "ads", 1)
    assert known.elasticity.value == pytest.approx(0.6, abs=0.08)
    assert blind.elasticity.value < 0.5
    assert blind.average.value < known.average.value


def test_bad_costs_are_refused_in_words():
    costs = spending(0.6, 0, 6)
    with pytest.raises(ContractError, match="no costs of 'tv'; known are ads"):
        clv.marginal_cost(costs, "tv", 1)
    with pytest.raises(FitError, match="5 periods with spending"):
        clv.marginal_cost(costs.head(5), "ads", 1)
    with pytest.raises(FitError, match="cannot show what more of it wins"):
        clv.marginal_cost(costs.assign(cost=500.0), "ads", 1)
    with pytest.raises(FitError, match="do not rise with spending"):
        clv.marginal_cost(costs.assign(acquired=1e9 / costs["cost"]), "ads", 1)
    with pytest.raises(ContractError, match="acquired must be a finite number; 1 of 36"):
        clv.marginal_cost(costs.assign(acquired=[np.nan, *[5.0] * 35]), "ads", 1)
    values = path("ads", JANUARY, 100, [10, 5])
    one = pd.DataFrame({"channel": "ads", "period": [JANUARY], "cost": [-1.0]})
    with pytest.raises(ContractError, match="cost must be 0 or more; 1 of 1"):
        clv.payback(values, one)
    with pytest.raises(ContractError, match="no cost is known of ads; costs are of sms"):
        clv.payback(values, one.assign(channel="sms", cost=1.0))
    with pytest.raises(ContractError, match="every month 0 to 1"):
        clv.payback(values.iloc[1:], one.assign(cost=1.0))
    with pytest.raises(ContractError, match="no purchase fit for 'ads'"):
        clv.value_path(
            pd.DataFrame({"channel": ["ads"], "cohort": JANUARY, "customers": 1}).assign(
                first_spend=1.0
            ),
            {"sms": PURCHASES},
            {"": SPEND},
            3,
            1,
        )


def test_channel_costs_of_the_contract_meet_the_customers_they_won():
    """From opened tables to months: two channels, one of them free."""
    days = [datetime(2024, 1, 5), datetime(2024, 1, 9), datetime(2024, 2, 3), datetime(2024, 1, 7)]
    money = pa.decimal128(18, 2)
    orders = pa.table(
        {
            "order_id": ["1", "2", "3", "4"],
            "customer_id": ["a", "b", "a", "c"],
            "ordered_at": days,
            "business_date": pa.array([day.date() for day in days]),
            "amount": pa.array([Decimal(30), Decimal(50), Decimal(99), Decimal(7)], money),
        }
    )
    customers = pa.table({"customer_id": ["a", "b", "c"], "source_channel": ["ads", "ads", None]})
    spent = pa.table(
        {
            "channel": ["ads", "ads"],
            "period": pa.array([datetime(2024, 1, 1).date(), datetime(2024, 1, 16).date()]),
            "cost": pa.array([Decimal(60), Decimal(20)], money),
            "acquired": [2, 0],
        }
    )
    tables = Tables(
        orders=ibis.memtable(orders),
        customers=ibis.memtable(customers),
        channel_costs=ibis.memtable(spent),
    )
    won = collect(frames.acquired(tables, "2024-03-01"))
    assert won[["channel", "customers", "first_spend"]].to_numpy().tolist() == [
        ["ads", 2, 40.0],
        ["unknown", 1, 7.0],
    ]
    values = clv.value_path(won, {"": PURCHASES}, {"": SPEND}, 6, 1, draws=20)
    found = clv.payback(values, collect(tables.channel_costs))
    (row,) = found.cohorts.to_dict("records")
    assert (row["channel"], row["customers"], row["cost"], row["cac"]) == ("ads", 2, 80.0, 40.0)
    # The first purchase, 40 on average, already repays.
    assert (row["payback_month"], row["paid_back"]) == (0, 1.0)
    assert found.without_cost == ("unknown",)
