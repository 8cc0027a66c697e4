from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from journeylab import clv, frames
from journeylab.errors import FitError
from journeylab.tables import collect, open_tables


@pytest.fixture(scope="module")
def cdnow():
    return open_tables("cdnow", ["orders"], optional=["customers", "channel_costs"])


@pytest.fixture(scope="module")
def later(cdnow):
    return collect(frames.value_landmarks(cdnow, ["1997-09-30"], 273, "1998-06-30"))


@pytest.fixture(scope="module")
def champion(cdnow):
    days = clv.rolling_origins("1997-01-01", "1997-09-30", 273)
    rows = collect(frames.value_landmarks(cdnow, days.landmarks, days.check_days, days.as_of))
    known = collect(frames.value_landmarks(cdnow, [days.as_of], 273, days.as_of))
    return clv.choose_champion(rows, known, days, clv.purchase_models(), 7)


def test_tables_that_are_not_there_may_be_asked_for(cdnow):
    assert cdnow.orders is not None
    assert cdnow.channel_costs is None


def test_fits_stand_side_by_side(cdnow):
    cells = collect(frames.histories(cdnow, "1997-09-30"))
    fits = clv.fit_purchases(cells)
    assert list(fits) == list(clv.purchase_models())
    table = clv.fit_table({"1997-09-30": tuple(fits.values())}).set_index("model")
    assert table["aic_behind"].min() == 0
    behind = table["aic"] - table["aic"].min()
    assert table["aic_behind"].to_numpy() == pytest.approx(behind.to_numpy())
    assert table.loc["BG/NBD", "log_likelihood"] == pytest.approx(-9582.429, abs=1e-3)
    with pytest.raises(FitError, match=r"BG/NBD: .*Pareto/NBD: "):
        clv.fit_purchases(cells.assign(frequency=0, recency=0.0))


def test_a_champion_without_a_path_is_carried_by_the_best_purchase_model():
    def chosen(*names, left_out=()):
        return SimpleNamespace(
            name=names[0], table=pd.DataFrame({"model": names}), left_out=left_out
        )

    assert clv.path_model(chosen("MBG/NBD", "BG/NBD")) == "MBG/NBD"
    assert clv.path_model(chosen("boosted", "blend", "Pareto/NBD", "BG/NBD")) == "Pareto/NBD"
    with pytest.raises(FitError, match=r"no purchase model .*: too few"):
        clv.path_model(chosen("last period", left_out=("too few",)))


def test_the_carrier_is_checked_like_the_champion(champion, later):
    held, own = clv.checked(champion, later, 7)
    assert held is own
    boosted = SimpleNamespace(table=champion.table, name="boosted")
    assert clv.path_model(boosted) == champion.name
    told = held.table.set_index("model").loc[champion.name]
    errors = clv.known_errors(champion, held, champion.name)
    assert len(errors) == len(champion.origins.checks) + 1
    longer = 273 / champion.origins.check_days
    assert errors[-1] == pytest.approx(np.log(told["actual"] / told["forecast"]) / longer**0.5)


def test_counts_stand_beside_the_value(champion):
    customers = champion.forecasts[["customer_id"]].head(3).assign(expected_purchases=1.0, clv=2.0)
    table = clv.beside(customers, champion, "boosted")
    assert list(table)[1:3] == ["expected_purchases", "champion_purchases"]
    told = champion.forecasts["boosted"].head(3).to_numpy()
    assert table["champion_purchases"].to_numpy() == pytest.approx(told)
    assert "champion_purchases" not in customers
    assert clv.beside(customers, champion, "unknown") is customers


def test_coverage_is_told_plain_and_recalibrated(cdnow, later):
    days = clv.calibration_origins("1997-01-01", "1997-09-30", 273)
    rows = collect(frames.value_landmarks(cdnow, list(days.checks), days.check_days, days.as_of))
    found = clv.coverage(rows, later, days, clv.fit_bg_nbd, 3)
    table = found.table.set_index(["outcome", "level"])
    for outcome in ("purchases", "amount"):
        assert 0.87 <= table.loc[(outcome, 0.9), "recalibrated"] <= 0.93
        assert table.loc[(outcome, 0.95), "plain"] > table.loc[(outcome, 0.9), "plain"]
    assert found.purchases.level == found.amounts.level == 0.95
    few = rows.groupby("landmark").head(20)
    assert clv.coverage(few, later, days, clv.fit_bg_nbd, 3).purchases.customers == 0


def test_spend_is_compared_among_those_who_came_back(cdnow, later):
    known = collect(frames.customer_histories(cdnow, "1997-09-30"))
    expected = clv.fit_gamma_gamma(clv.repeat_spend(known)).expected_spend(known)
    groups = clv.by_spend(known, expected, later)
    came = (later["purchase_days"] > 0) & (later["amount"] > 0)
    assert groups["customers"].sum() == came.sum()
    assert len(groups) == 10
    assert groups["expected"].is_monotonic_increasing
    assert groups["actual"].iloc[-1] > 2 * groups["actual"].iloc[0]
    nobody = clv.by_spend(known, expected, later.assign(purchase_days=0))
    assert nobody.empty


# Channels


def shop(rng, n=1500):
    """Customers of two channels in twelve months, and what each channel cost."""
    day = pd.to_datetime("2024-01-01") + pd.to_timedelta(rng.integers(0, 330, n), unit="D")
    won = pd.DataFrame(
        {
            "customer_id": [f"c{k}" for k in range(n)],
            "channel": np.where(np.arange(n) % 3 == 0, "search", "ads"),
            "cohort": day.to_numpy().astype("datetime64[M]").astype("datetime64[ns]"),
            "first_day": day,
            "first_spend": 30.0,
        }
    )
    age = (pd.Timestamp("2024-12-31") - day).days.to_numpy() / 7
    frequency = rng.poisson(rng.gamma(1.0, 0.1, n) * age)
    histories = pd.DataFrame(
        {
            "customer_id": won["customer_id"],
            "frequency": frequency,
            "recency": np.where(frequency > 0, age * rng.uniform(0.3, 1, n), 0.0),
            "age": age,
            "monetary_value": np.where(frequency > 0, rng.gamma(6, 5, n), 0.0),
        }
    )
    months = pd.date_range("2024-01-01", "2025-01-01", freq="MS")
    spent = rng.uniform(500, 3000, len(months))
    costs = pd.concat(
        pd.DataFrame(
            {
                "channel": channel,
                "period": months,
                "cost": spent,
                "acquired": (4 * spent**0.5).astype(int),
            }
        )
        for channel in ("ads", "search", "sms")
    )
    return won, histories, costs


def test_channels_are_paid_back_and_one_more_customer_has_a_price():
    won, histories, costs = shop(np.random.default_rng(5))
    found = clv.channel_payback(
        won, histories, costs, clv.fit_bg_nbd, 6, 1, as_of="2024-12-31", draws=40, currency="EUR"
    )
    assert found.notes == ()
    assert list(found.payback.channels["channel"]) == ["ads", "search"]
    assert found.payback.currency == "EUR"
    table = found.marginal_table.set_index("channel")
    # 4 times the root of the cost: one per cent more spending wins half a per cent more.
    assert table["elasticity"].to_numpy() == pytest.approx(0.5, abs=0.02)
    assert (table["marginal"] > table["average"]).all()
    # January 2025 has not ended: it neither counts nor is it today.
    december = costs[costs["period"] == "2024-12-01"]["cost"].iloc[0]
    assert (table["periods"] == 12).all()
    assert table["at_cost"].to_numpy() == pytest.approx(december)
    assert set(found.marginal_curves["channel"]) == {"ads", "search"}


def test_where_nothing_can_be_said_of_channels_a_sentence_says_so():
    won, histories, costs = shop(np.random.default_rng(5), 600)
    given = {"as_of": "2024-12-31", "draws": 40}
    none = clv.channel_payback(won, histories, None, clv.fit_bg_nbd, 6, 1, **given)
    assert none.payback is None
    assert none.marginal == ()
    assert none.marginal_table.empty
    assert "no channel costs" in none.notes[0]
    alike = won.assign(channel="all")
    text = clv.channel_payback(alike, histories, costs, clv.fit_bg_nbd, 6, 1, **given).notes[0]
    assert "No customer has a source_channel" in text
    other = costs.assign(channel="radio")
    text = clv.channel_payback(won, histories, other, clv.fit_bg_nbd, 6, 1, **given).notes[0]
    assert text.startswith("Payback cannot be told")
    silent = costs.drop(columns="acquired")
    found = clv.channel_payback(won, histories, silent, clv.fit_bg_nbd, 6, 1, **given)
    assert found.payback is not None
    assert "no price" in found.notes[0]
    old = clv.channel_payback(
        won, histories, costs, clv.fit_bg_nbd, 6, 1, left_truncation="Left truncation", **given
    )
    assert "may be old ones" in old.notes[0]
    assert pd.Timestamp("2024-01-01") not in set(old.payback.cohorts["cohort"])
