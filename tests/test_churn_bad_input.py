"""Frames that hold too little or the wrong thing: a clear error or a stated fallback, no NaN.

Landmarks outside the data and repeated landmark days are refused where frames are built:
``test_frames``. Random frames stand in ``test_churn_hazard`` and ``test_churn_scores``.
"""

import numpy as np
import pandas as pd
import pytest

from journeylab import churn
from journeylab.errors import ContractError, FitError, JourneyLabError

FEW = churn.HazardSettings(rounds=15, eta=0.1, depth=2)
DAYS = [pd.Timestamp("2024-01-01") + pd.Timedelta(days=30 * number) for number in range(6)]


def landmarks(seed=1, n=150):
    """Six landmarks of customers with rates of their own, followed for 60 days."""
    random = np.random.default_rng(seed)
    rate = random.gamma(0.8, 0.05, n)
    parts = []
    for day in DAYS:
        wait = np.ceil(random.exponential(size=n) / rate)
        parts.append(
            pd.DataFrame(
                {
                    "customer_id": [f"c{number:03d}" for number in range(n)],
                    "landmark": day,
                    "days_since_last": np.floor(random.exponential(size=n) / rate).clip(0, 200),
                    "frequency": random.poisson(rate * 200),
                    "age_days": 300,
                    "spend_mean": random.gamma(3, 10, n),
                    "duration": np.minimum(wait, 60),
                    "event": (wait <= 60).astype(int),
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def hazard(train):
    return churn.fit_hazard(train, ["days_since_last", "frequency"], settings=FEW, rng=1)


def whole(table):
    """No gap and nothing infinite in any column of numbers."""
    return np.isfinite(table.select_dtypes("number").to_numpy(float)).all()


def test_no_events():
    frame = landmarks().assign(event=0, duration=60)
    for fit in (churn.fit_hazard, churn.fit_aft):
        options = {"rng": 1} if fit is churn.fit_hazard else {}
        with pytest.raises(FitError, match=r"0 events|none of the|no .*event"):
            fit(frame, ["frequency"], **options)
    with pytest.raises(FitError, match="purchase"):
        churn.fit_cox(frame, ["frequency"])
    flat = pd.DataFrame(1.0, frame.index, [30.0, 60.0])
    with pytest.raises(ContractError, match="nobody of 900 rows had the event by 60"):
        churn.score(frame, {"flat": flat}, train=frame, rng=1)
    # what needs no event says 100 % and by how many that is known
    found = churn.no_purchase(frame, [30, 60])
    assert found[60].value == found[60].ci_high == 1.0
    assert 0.9 < found[60].ci_low < 1.0


def test_all_events():
    frame = landmarks()
    frame = frame.assign(event=1, duration=frame["duration"].clip(upper=59))
    fit = churn.fit_hazard(frame, ["days_since_last", "frequency"], settings=FEW, rng=1)
    assert any("every row has the event" in note for note in fit.notes)
    told = fit.survival(frame, [10.0, 30.0, 50.0])
    assert whole(told)
    scores = churn.score(frame, {"hazard": told}, train=frame, rng=1, draws=20)
    assert whole(scores.table)
    assert whole(churn.fit_cox(frame, ["frequency"]).survival(frame, [10.0, 59.0]))


def test_horizon_longer_than_the_follow_up():
    frame = landmarks()
    fits = (hazard(frame), churn.fit_cox(frame, ["frequency", "days_since_last"]))
    for fit in fits:
        with pytest.raises(ContractError, match="60"):
            fit.survival(frame, [61.0])
    longer = pd.DataFrame(0.5, frame.index, [61.0])
    with pytest.raises(ContractError, match=r"followed to 60|nobody is known"):
        churn.score(frame, {"half": longer}, train=frame, rng=1)
    with pytest.raises(ContractError, match="follow-up ends at 60"):
        churn.no_purchase(frame, [61])
    now = frame[frame["landmark"] == DAYS[-1]]
    with pytest.raises(ContractError, match="followed rows for 60"):
        churn.early_warning(fits[0], now, pd.Series(1.0, now.index), horizons=[30, 90])
    with pytest.raises(ContractError, match="have another one 150 days before them"):
        churn.rolling(frame, {"hazard": hazard}, [30, 150], rng=1)


def test_landmarks_that_stand_twice():
    frame = landmarks()
    twice = pd.concat([frame, frame.head(3)], ignore_index=True)
    for fit in (
        lambda: hazard(twice),
        lambda: churn.fit_cox(twice, ["frequency"]),
        lambda: churn.no_purchase(twice, [30]),
        lambda: churn.rolling(twice, {"hazard": hazard}, [30], rng=1),
    ):
        with pytest.raises(ContractError, match="3 of 903 rows repeat"):
            fit()


def test_columns_that_are_constant_or_empty():
    frame = landmarks().assign(constant=3.0, empty=np.nan, nothing=None)
    told = churn.fit_hazard(frame, settings=FEW, rng=1)
    notes = " | ".join(told.notes)
    for column in ("constant", "empty", "nothing"):
        assert f"{column} left out" in notes
    assert whole(told.survival(frame, [30.0, 60.0]))
    with pytest.raises(FitError):
        churn.fit_hazard(frame, ["constant", "empty"], settings=FEW, rng=1)
    cox = churn.fit_cox(frame, ["frequency", "constant", "empty"])
    assert set(cox.dropped) == {"constant", "empty"}
    with pytest.raises(FitError):
        churn.fit_cox(frame, ["constant", "empty"])


def test_categories_that_training_never_saw():
    frame = landmarks().assign(city=lambda rows: np.where(rows["frequency"] > 5, "north", "south"))
    fit = churn.fit_hazard(frame, ["city", "frequency"], settings=FEW, rng=1)
    now = frame[frame["landmark"] == DAYS[-1]].assign(city="abroad")
    assert fit.covariates.unseen(now) == {"city": 150}
    assert whole(fit.survival(now, [30.0]))
    assert whole(fit.explain(now.head(5), [30.0]).at(30.0))
    warning = churn.early_warning(fit, now, pd.Series(2.0, now.index), horizons=[30, 60])
    assert whole(warning.rows)


def test_segments_of_one_customer():
    frame = landmarks()
    alone = pd.Series(np.where(frame["customer_id"] == "c000", "one", "rest"), frame.index)
    curves = churn.curves_by_segment(frame, alone)
    own = curves[curves["segment"] == "one"]
    assert whole(curves[["survival", "ci_low", "ci_high"]])
    within = own["survival"].between(0, 1, inclusive="neither")
    # one customer tells nothing of how customers differ
    assert (own.loc[within, ["ci_low", "ci_high"]] == [0.0, 1.0]).all(axis=None)
    table = churn.no_purchase_by_segment(frame, alone, [30])
    assert whole(table)
    assert table.set_index("segment").loc["one", "customers"] == 1
    assert whole(churn.at_risk_table(curves, [0, 30, 60]))
    with pytest.raises(JourneyLabError, match="one"):
        churn.score(
            frame[alone == "one"],
            {"half": pd.DataFrame(0.5, frame.index[alone == "one"], [30.0])},
            train=frame,
            rng=1,
        )
