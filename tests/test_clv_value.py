"""Value: paths that add up, two kinds of interval, margins, concentration."""

from datetime import date, datetime
from decimal import Decimal

import ibis
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from journeylab import clv, frames
from journeylab.clv.bg_nbd import BgNbdFit
from journeylab.clv.gamma_gamma import GammaGammaFit, sample_spend
from journeylab.clv.mbg_nbd import MbgNbdFit
from journeylab.clv.pareto_nbd import ParetoNbdFit
from journeylab.errors import ContractError, FitError
from journeylab.tables import Tables, collect

SURE = tuple(map(tuple, 1e-4 * np.eye(4)))
MODELS = [
    BgNbdFit(0.6, 6.0, 0.9, 2.5, 0.0, 1, "week", SURE),
    MbgNbdFit(0.6, 6.0, 0.9, 2.5, 0.0, 1, "week", SURE),
    ParetoNbdFit(0.6, 6.0, 0.6, 11.0, 0.0, 1, "week", SURE),
]
SPEND = GammaGammaFit(6.25, 3.74, 15.44, 0.0, 1, tuple(map(tuple, 1e-4 * np.eye(3))))


def world(fit, customers, seed):
    """Histories drawn from a model, with spend drawn from ``SPEND``."""
    rng = np.random.default_rng(seed)
    histories = fit.sample_new(rng.uniform(20, 80, customers), rng)
    spend = SPEND.sample_new(histories["frequency"].to_numpy(), rng)
    return histories.assign(
        customer_id=[f"c{k:05}" for k in range(customers)],
        monetary_value=spend["monetary_value"].to_numpy(),
    )


@pytest.fixture(scope="module")
def histories():
    return world(MODELS[0], 300, 1)


@pytest.mark.parametrize("fit", MODELS, ids=lambda fit: fit.model)
def test_the_monthly_path_sums_to_the_value(fit, histories):
    worth = clv.value(histories, fit, SPEND, 100, 1, annual_discount=0.3, margin=0.4, draws=20)
    customers = worth.customers.set_index("customer_id")
    assert worth.path.index.tolist() == customers.index.tolist()
    assert worth.path.columns.tolist() == [30, 60, 90, 100]
    assert worth.path.sum(axis=1).to_numpy() == pytest.approx(customers["clv"], rel=1e-9, abs=1e-9)
    assert (worth.path.to_numpy() > 0).all()
    # Each month is what the model adds in it, at the mean of the factors at its ends.
    own = histories.set_index("customer_id").loc[worth.path.index].reset_index()
    ends = np.array([0, 30, 60, 90, 100])
    added = np.diff([fit.expected_purchases(own, end / 7).to_numpy() for end in ends], axis=0)
    factor = 1.3 ** (-ends / 365)
    by_hand = added * ((factor[1:] + factor[:-1]) / 2)[:, None]
    by_hand = by_hand * 0.4 * SPEND.expected_spend(own).to_numpy()
    assert worth.path.to_numpy() == pytest.approx(by_hand.T, rel=1e-6)


@pytest.mark.parametrize("fit", MODELS[::2], ids=lambda fit: fit.model)
def test_outcome_intervals_cover_the_models_own_future_and_mean_intervals_do_not(fit):
    """Randomised PIT, 2,500 customers, within three binomial standard errors of 90 %."""
    customers = world(fit, 2_500, 5)
    x, z = (customers[c].to_numpy(float) for c in ("frequency", "monetary_value"))
    counts = fit.sample(customers, 26.0, 1, 99)[:, 0]
    amounts = sample_spend(counts, x, z, 6.25, 3.74, 15.44, rng=np.random.default_rng(98))
    bought, money = clv.futures(customers, fit, SPEND, 182, 400, 7)
    allowed = 3 * np.sqrt(0.9 * 0.1 / 2_500)
    own = clv.plain(0.9)
    assert own.coverage(bought, counts, 1).value == pytest.approx(0.9, abs=allowed)
    assert own.coverage(money, amounts, 2).value == pytest.approx(0.9, abs=allowed)

    worth = clv.value(customers, fit, SPEND, 182, 7, level=0.9, draws=200)
    table = worth.customers.set_index("customer_id").loc[customers["customer_id"]]
    # Closed intervals of counts cover more: 0 to 1 cannot be cut finer.
    inside = (counts >= table["purchases_low"]) & (counts <= table["purchases_high"])
    assert inside.mean() > 0.9 - allowed
    spent = (amounts >= table["outcome_low"] - 1e-6) & (amounts <= table["outcome_high"] + 1e-6)
    assert spent.mean() > 0.9 - allowed
    # How well the mean is known says next to nothing about what a customer does.
    known = (amounts >= table["mean_low"]) & (amounts <= table["mean_high"])
    assert known.mean() < 0.05


def test_customers_without_a_repeat_purchase_get_a_wide_answer_of_their_cohort():
    new = pd.DataFrame(
        {
            "customer_id": ["new", "once", "loyal"],
            "frequency": [0, 0, 20],
            "recency": [0.0, 0.0, 50.0],
            "age": [0.0, 30.0, 52.0],
            "monetary_value": [np.nan, 0.0, 30.0],
        }
    )
    table = clv.value(new, MODELS[0], SPEND, 182, 3, draws=400).customers.set_index("customer_id")
    assert table["own_history"].to_dict() == {"new": False, "once": False, "loyal": True}
    assert table.loc["new", "expected_purchases"] == pytest.approx(MODELS[0].expected_new(26.0))
    assert table.loc["new", "outcome_low"] == 0
    assert table.loc["new", "outcome_high"] > 3 * table.loc["new", "clv"]


def test_unknown_ages_leave_p_alive_out(histories):
    text = clv.left_truncation(
        pd.DataFrame(
            {"first_day": pd.to_datetime(["2020-01-01", "2020-02-05"]), "customers": [90, 9]}
        )
    )
    worth = clv.value(histories, MODELS[0], SPEND, 30, 1, draws=20, left_truncation=text)
    assert worth.left_truncation.startswith("Left truncation")
    assert "p_alive" not in worth.customers
    assert not worth.customers.isna().any(axis=None)


def test_only_customers_acquired_inside_the_window_have_an_age():
    histories = pd.DataFrame({"frequency": 0, "recency": 0.0, "age": np.array([39, 35, 34, 2]) * 1})
    inside = clv.acquired_inside(histories, 273)
    assert inside["age"].tolist() == [34, 2]
    with pytest.raises(FitError, match="nobody's age is sure"):
        clv.acquired_inside(histories.head(2), 273)
    with pytest.raises(ContractError, match="4 of 4 rows do: check unit"):
        clv.acquired_inside(histories.assign(age=999.0), 273)


def test_a_recalibrated_interval_is_the_wider_one(histories):
    wide = clv.Calibration(0.9, 0.01, 0.99, pd.DataFrame(), 500)
    options = {"level": 0.9, "draws": 200}
    plain = clv.value(histories, MODELS[0], SPEND, 182, 4, **options).customers
    learnt = clv.value(
        histories, MODELS[0], SPEND, 182, 4, **options, calibration=wide, purchases_calibration=wide
    ).customers
    assert (learnt["outcome_high"] >= plain["outcome_high"]).all()
    assert learnt["outcome_high"].sum() > 1.1 * plain["outcome_high"].sum()
    assert (learnt["purchases_high"] >= plain["purchases_high"]).all()
    assert learnt["mean_high"].tolist() == plain["mean_high"].tolist()
    with pytest.raises(ContractError, match=r"of 90 % intervals and level is 0\.95"):
        clv.value(histories, MODELS[0], SPEND, 182, 4, draws=20, calibration=wide)


def test_totals_know_how_far_earlier_totals_were_off(histories):
    options = {"annual_discount": 0.1, "draws": 200}
    plain = clv.value(histories, MODELS[0], SPEND, 180, 4, **options)
    errors = np.array([0.2, -0.2, 0.2])
    known = clv.value(
        histories, MODELS[0], SPEND, 180, 4, **options, total_errors=errors, check_days=90
    )
    for name in ("purchases", "clv", "top_clv"):
        own, other = getattr(plain, name), getattr(known, name)
        assert own.value == other.value
        # Student's t with three degrees of freedom, 20 % times the root of two horizons.
        assert np.log(other.ci_high / other.value) == pytest.approx(0.9, rel=0.15)
        assert own.ci_high < other.ci_high
    assert known.top_share == plain.top_share
    with pytest.raises(ContractError, match="belong together"):
        clv.value(histories, MODELS[0], SPEND, 180, 4, draws=20, total_errors=errors)


# Margin


def orders(rows):
    columns = ("customer_id", "business_date", "amount", "cost", "discount")
    data = dict(zip(columns, zip(*rows, strict=True), strict=True))
    money = pa.decimal128(18, 2)
    return ibis.memtable(
        pa.table(
            {
                "order_id": [f"o{k}" for k in range(len(rows))],
                "customer_id": list(data["customer_id"]),
                "ordered_at": [datetime(d.year, d.month, d.day) for d in data["business_date"]],
                "business_date": pa.array(data["business_date"]),
                **{name: pa.array(data[name], money) for name in columns[2:]},
            }
        )
    )


DAY = date(2024, 1, 5)


def test_margins_count_cost_and_returns_once_and_discount_not_at_all():
    rows = [
        ("a", DAY, Decimal(100), Decimal(60), Decimal(20)),
        ("a", date(2024, 2, 1), Decimal(-50), Decimal(-30), None),
        ("b", DAY, Decimal(10), None, None),
        ("later", date(2025, 1, 1), Decimal(9), Decimal(1), None),
    ]
    net = Tables(orders=orders(rows))
    found = collect(frames.customer_margins(net, "2024-12-31")).set_index("customer_id")
    assert found.loc["a"].to_dict() == {
        "amount": 50.0, "discount": 20.0, "refunds": 0.0, "costed": 50.0, "cost": 30.0,
    }  # fmt: skip
    assert found.loc["b", ["costed", "cost"]].tolist() == [0.0, 0.0]
    assert list(found.index) == ["a", "b"]
    apart = Tables(orders=orders([rows[0], rows[2]]), returns=orders([rows[1]]))
    found = collect(frames.customer_margins(apart, "2024-12-31")).set_index("customer_id")
    assert found.loc["a", ["amount", "refunds", "cost"]].tolist() == [100.0, 50.0, 60.0]


def test_margin_shares_lie_between_the_customers_own_and_that_of_all():
    margins = pd.DataFrame(
        {
            "customer_id": ["thin", "fat", "unknown"],
            "amount": [100.0, 100.0, 50.0],
            "discount": 0.0,
            "refunds": 0.0,
            "costed": [100.0, 100.0, 0.0],
            "cost": [90.0, 30.0, 0.0],
        }
    )
    share = clv.margin_shares(margins, 0.9)
    # Own share 0.1, of all 0.4, equal weights at the mean amount.
    assert share.to_dict() == pytest.approx({"thin": 0.25, "fat": 0.55, "unknown": 0.4})
    none = clv.margin_shares(margins.assign(costed=0.0, cost=0.0), 0.9)
    assert none.tolist() == [0.9] * 3
    returned = clv.margin_shares(margins.assign(costed=0.0, refunds=[50.0, 0.0, 0.0]), 0.9)
    assert returned["thin"] < returned["fat"] < 0.9
    with pytest.raises(ContractError, match="cost must be a finite number; 1 of 3"):
        clv.margin_shares(margins.assign(cost=[np.nan, 1.0, 1.0]))


def test_value_takes_each_customers_own_margin(histories):
    shares = pd.Series(np.linspace(0, 1, len(histories)), index=histories["customer_id"])
    table = clv.value(histories, MODELS[0], SPEND, 90, 1, margin=shares, draws=20).customers
    whole = clv.value(histories, MODELS[0], SPEND, 90, 1, draws=20).customers
    own, full = (t.set_index("customer_id")["clv"] for t in (table, whole))
    assert own.loc[shares.index].to_numpy() == pytest.approx(
        (full.loc[shares.index] * shares).to_numpy()
    )
    with pytest.raises(ContractError, match="1 of 300 rows do not \\(customers c00000"):
        clv.value(histories, MODELS[0], SPEND, 90, 1, margin=shares.iloc[1:], draws=20)


# Concentration


def test_deciles_and_the_top_share_of_a_known_list():
    customers = pd.DataFrame({"customer_id": range(20), "clv": np.arange(20.0, 0, -1)})
    table = clv.deciles(customers)
    assert table["value"].tolist() == [39, 35, 31, 27, 23, 19, 15, 11, 7, 3]
    assert table["customers"].tolist() == [2] * 10
    assert table["share_cumulative"].iloc[-1] == pytest.approx(1)
    share = clv.top_share(customers, 1, top=0.1)
    assert share.value == pytest.approx(39 / 210)
    assert share.ci_low < share.value < share.ci_high
    with pytest.raises(ContractError, match="nothing to share out"):
        clv.deciles(customers.assign(clv=0.0))


def test_cohorts_add_up_to_everybody():
    customers = pd.DataFrame({"customer_id": ["a", "b", "c"], "clv": [1.0, 2.0, 5.0]})
    acquired = pd.DataFrame({"customer_id": ["c", "b", "a"], "cohort": ["may", "jan", "jan"]})
    table = clv.cohort_value(customers, acquired, 1).set_index("cohort")
    assert table["value"].to_dict() == {"jan": 3.0, "may": 5.0}
    assert table["share"].sum() == pytest.approx(1)
    assert table.loc["jan", "value_mean_low"] == 1 < 1.5 < table.loc["jan", "value_mean_high"]
    with pytest.raises(ContractError, match=r"must have a cohort; 1 of 3 .*customers c"):
        clv.cohort_value(customers, acquired.iloc[1:], 1)


# Bad input


@pytest.mark.parametrize(
    ("column", "wrong", "complaint"),
    [
        ("recency", 999.0, r"recency must lie in \[0, age\]; 2 of 300 rows do not \(customers c00"),
        ("age", np.nan, "age must be a finite number; 2 of 300"),
        ("frequency", -1.0, "must not be negative; 2 of 300"),
        ("monetary_value", np.inf, "monetary_value must be a finite number"),
        ("customer_id", "c00001", "there once; 2 of 300"),
    ],
)
def test_broken_rows_are_refused_by_name(histories, column, wrong, complaint):
    broken = histories.copy()
    repeaters = broken.index[broken["frequency"] > 0]
    broken.loc[repeaters[[3, 9]], column] = wrong
    with pytest.raises(ContractError, match=complaint):
        clv.value(broken, MODELS[0], SPEND, 90, 1, draws=20)


def test_nobody_and_endless_horizons_are_refused_and_fifty_years_is_finite(histories):
    with pytest.raises(ContractError, match="no customer had bought"):
        clv.value(histories.head(0), MODELS[0], SPEND, 90, 1)
    with pytest.raises(ContractError, match="50 years"):
        clv.value(histories, MODELS[0], SPEND, 20_000, 1)
    few = histories.head(5)
    worth = clv.value(few, MODELS[2], SPEND, 18_262, 1, annual_discount=0.1, draws=20)
    assert np.isfinite(worth.path.to_numpy()).all()
    assert worth.path.sum(axis=1).to_numpy() == pytest.approx(worth.customers["clv"], rel=1e-9)
    one = clv.value(few, MODELS[0], SPEND, 1, 1, draws=20)
    assert not one.customers.isna().any(axis=None)


def test_all_alike_and_one_purchase_only_give_numbers():
    alike = pd.DataFrame(
        {"customer_id": list("abc"), "frequency": 0, "recency": 0.0, "age": 9.0}
    ).assign(monetary_value=0.0)
    worth = clv.value(alike, MODELS[0], SPEND, 90, 1, draws=50)
    assert np.ptp(worth.customers["clv"]) == 0
    assert not worth.customers.isna().any(axis=None)
