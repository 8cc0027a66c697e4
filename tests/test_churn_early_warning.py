"""The list of those about to stop: its value, its reasons, its record, and what it will not say."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

from journeylab.churn import (
    RandomisedTiming,
    early_warning,
    fit_cox,
    fit_return_value,
    model_hash,
    population_stability,
    stability,
)
from journeylab.churn.reasons import _one, in_words
from journeylab.errors import ContractError, FitError
from journeylab.estimate import Estimate

DAY = pd.Timestamp("2024-06-03")


def past(seed: int, customers: int = 3000) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Landmark rows and what came after, with the margin of a return known by construction.

    Who returns within 60 days brings exp(1 + 0.8 log1p(spend per purchase day)) on average over
    180 days; the others a tenth of it.
    """
    draw = np.random.default_rng(seed)
    parts = []
    for number in range(2):
        spend_mean = np.exp(draw.normal(3, 0.7, customers))
        frequency = draw.poisson(3, customers)
        silence = draw.integers(0, 200, customers)
        rows = pd.DataFrame(
            {
                "landmark": DAY - pd.Timedelta(days=400 - 200 * number),
                "customer_id": [f"c{place}" for place in range(customers)],
                "days_since_last": silence,
                "age_days": silence + draw.integers(1, 300, customers),
                "frequency": frequency,
                "spend": spend_mean * (frequency + 1),
                "duration": np.ceil(draw.exponential(60 + silence)).clip(1, 180).astype(int),
            }
        )
        rows["event"] = (rows["duration"] < 180).astype(int)
        came = rows["duration"] <= 60
        mean = np.exp(1 + 0.8 * np.log1p(spend_mean)) * np.where(came, 1.0, 0.1)
        parts.append(rows.assign(amount=draw.gamma(2, mean / 2), followed_days=180))
    both = pd.concat(parts, ignore_index=True)
    keys = ["landmark", "customer_id"]
    return both.drop(columns=["amount", "followed_days"]), both[[*keys, "amount", "followed_days"]]


def today(customers: int = 300, seed: int = 5, day: pd.Timestamp = DAY) -> pd.DataFrame:
    rows, _ = past(seed, customers)
    rows = rows.iloc[:customers].assign(landmark=day)
    return rows.assign(
        store_id=np.where(rows.index % 3 == 0, "s2", "s1"), staff_id=None, mean_gap_days=9.0
    )


@dataclass
class Explained:
    covariates: tuple[str, ...]
    times: tuple[float, ...]
    contributions: np.ndarray


@dataclass
class Exponential:
    """A fit of known risk: the wait is exponential with the silence as its mean."""

    causes: tuple[str, ...] = ("event",)

    def survival(self, frame: pd.DataFrame, times: list[float]) -> pd.DataFrame:
        mean = 30 + frame["days_since_last"].to_numpy(float)
        return pd.DataFrame(np.exp(-np.outer(1 / mean, times)), frame.index, columns=list(times))

    def cumulative_incidence(self, frame: pd.DataFrame, times: list[float]) -> pd.DataFrame:
        gone = 1 - self.survival(frame, times)
        parts = {cause: gone / len(self.causes) for cause in self.causes}
        return pd.concat(parts, axis=1)

    def explain(
        self, frame: pd.DataFrame, times: list[float], cause: str | None = None
    ) -> Explained:
        names = ("days_since_last", "frequency", "spend", "time")
        found = np.zeros((len(frame), len(times), 4), dtype=np.float32)
        found[:, :, 0], found[:, :, 1], found[:, :, 3] = -2.0, 1.0, -9.0
        found[:, 1:, 2] = -5.0
        return Explained(names, tuple(times), found)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_value_of_a_return_is_that_of_the_world_it_was_drawn_from(seed):
    fit = fit_return_value(*past(seed), within_days=60)
    now = today(400, seed + 50)
    mean = np.exp(1 + 0.8 * np.log1p(now["spend"] / (now["frequency"] + 1)))
    found = fit.gain(now)
    error = (found["ci_high"] - found["ci_low"]) / 3.92
    off = (found["value"] - 0.9 * mean) / error
    # estimates share their errors, so that all may lean one way; none may lie far off
    assert off.abs().max() < 4.5
    assert (off.abs() < 2).mean() > 0.75
    assert ((found["ci_high"] - found["ci_low"]) / found["value"]).median() < 0.2
    assert fit.horizon_days == 180
    whole = fit.total(now, pd.Series(1.0, now.index), "USD")
    error = (whole.ci_high - whole.ci_low) / 3.92
    assert abs(whole.value - 0.9 * mean.sum()) < 3.5 * error
    assert whole.value == pytest.approx(found["value"].sum())


def test_expected_margins_add_up_to_the_observed_and_hold_at_other_landmarks():
    rows, values = past(7)
    fit = fit_return_value(rows, values, 60)
    came = rows["duration"] <= 60
    expected = fit.margins(rows)
    assert expected["returned"][came].sum() == pytest.approx(values["amount"][came].sum())
    assert expected["stayed_away"][~came].sum() == pytest.approx(values["amount"][~came].sum())
    # ten groups of another world: a wrong one is an accident, three are not
    checked = fit.check(*past(8))
    assert len(checked) == 10
    assert checked["inside"].sum() >= 8


def test_where_nobody_brings_anything_without_returning_the_value_is_that_of_the_return():
    """The horizon of the margin is that of the return: those who stay away bring nothing."""
    rows, values = past(9)
    came = rows["duration"] <= 180
    values = values.assign(amount=values["amount"].where(came & (rows["event"] == 1), 0.0))
    fit = fit_return_value(rows, values, 180, margin_share=0.25)
    assert fit.constant == (False, True)
    margins = fit.margins(today())
    assert (margins["stayed_away"] == 0).all()
    assert fit.gain(today())["value"].to_numpy() == pytest.approx(margins["returned"].to_numpy())
    whole = fit_return_value(rows, values, 180)
    ratio = fit.gain(today())["value"] / whole.gain(today())["value"]
    assert ratio.to_numpy() == pytest.approx(0.25, rel=1e-6)


@pytest.fixture(scope="module")
def value():
    return fit_return_value(*past(3), within_days=60)


def test_the_list_is_ranked_by_risk_times_the_value_of_a_return(value):
    now, fit = today(), Exponential()
    listed = early_warning(fit, now, value, most=25, unit="USD")
    at_stake = value.gain(now)["value"] * fit.survival(now, [60])[60]
    best = at_stake.sort_values(ascending=False).head(25)
    rows = listed.rows
    assert rows["customer_id"].tolist() == now["customer_id"].loc[best.index].tolist()
    assert rows["value_at_risk"].to_numpy() == pytest.approx(best.to_numpy())
    assert (rows["ci_low"] < rows["value_at_risk"]).all()
    assert (rows["value_at_risk"] < rows["ci_high"]).all()
    assert listed.total.value == pytest.approx(at_stake.sum())
    assert listed.listed.value == pytest.approx(best.sum())
    assert listed.total.unit == "USD"
    assert (rows["risk_30"] > rows["risk_90"]).all()
    assert rows["rank"].tolist() == list(range(1, 26))
    assert listed.by_store["customers"].sum() == 25
    assert listed.by_store["value_at_risk"].sum() == pytest.approx(best.sum())
    assert listed.by_staff["staff_id"].tolist() == ["none"]
    kept = listed.to_record()
    assert set(kept["model_hash"]) == {model_hash(fit)}
    assert set(kept["when"]) == {"unknown"}


def test_the_input_is_left_alone_and_the_same_input_gives_the_same_list(value):
    now = today()
    before = now.copy(deep=True)
    one, other = (early_warning(Exponential(), now, value).rows for _ in range(2))
    pd.testing.assert_frame_equal(one, other)
    pd.testing.assert_frame_equal(now, before)
    assert not one.isna().drop(columns="staff_id").to_numpy().any()


def test_change_is_against_the_same_customer_a_week_ago(value):
    now = today()
    week = now.iloc[5:].assign(
        landmark=DAY - pd.Timedelta(days=7), days_since_last=now["days_since_last"].iloc[5:] + 10
    )
    listed = early_warning(Exponential(), now, value, previous=week.sample(frac=1, random_state=1))
    rows = listed.rows.set_index("customer_id")
    old = Exponential().survival(week, [60])[60].set_axis(week["customer_id"])
    known = rows.index.intersection(old.index)
    assert (rows.loc[known, "change_60"] < 0).all()
    found = rows.loc[known, "risk_60"] - rows.loc[known, "change_60"]
    assert found.to_numpy() == pytest.approx(old.loc[known].to_numpy())
    new = rows.index.difference(old.index)
    assert rows.loc[new, "change_60"].isna().all()
    assert len(new) == 0 or any("not known on 2024-05-27" in note for note in listed.notes)


def test_reasons_are_the_strongest_that_keep_the_purchase_away_by_horizon(value):
    rows = early_warning(Exponential(), today(), value, most=3).rows
    silence = today().set_index("customer_id")["days_since_last"]
    for row in rows.itertuples():
        silent = f"silent {silence[row.customer_id]} days, usual gap 9"
        assert row.reasons_30 == silent
        # spend counts from the second time on: 2.5 on average there, above silence's 2
        assert row.reasons_90.split("; ")[0].startswith("spent ")
        assert row.reasons_90.split("; ")[1] == silent
        assert "repeat" not in row.reasons_90  # what brings the purchase closer is no reason


def test_with_other_causes_the_risk_is_that_of_no_purchase(value):
    fit = Exponential(causes=("purchase", "unsubscribed"))
    now = today()
    rows = early_warning(fit, now, value, most=len(now)).rows.set_index("customer_id")
    stayed = Exponential().survival(now, [60])[60].set_axis(now["customer_id"])
    assert rows["risk_60"].loc[stayed.index].to_numpy() == pytest.approx((1 + stayed) / 2)


def test_for_memberships_the_risk_is_that_of_the_end():
    now = today()
    worth = pd.Series(np.arange(len(now), dtype=float), now.index)
    listed = early_warning(
        Exponential(), now, worth, event="leaving", most=len(now), within_days=60
    )
    ended = 1 - Exponential().survival(now, [60])[60]
    assert listed.total.value == pytest.approx(float((ended * worth).sum()))
    assert "repeat" in listed.rows["reasons_30"].iloc[0]


def test_when_to_act_is_told_by_randomised_timing_only(value):
    def listed(low: float):
        gain = Estimate(2.0, low, 4.0, "USD per customer")
        timing = RandomisedTiming("timing_2024", "8 days into the silence", gain)
        return early_warning(Exponential(), today(), value, timing=timing)

    assert early_warning(Exponential(), today(), value).when == "unknown"
    assert listed(1.0).when == "8 days into the silence (timing_2024)"
    assert listed(0.0).when == "unknown"
    assert any("no moment was shown to be better" in note for note in listed(-1.0).notes)


def test_a_fit_that_does_not_explain_itself_gives_no_reasons_and_says_so(value):
    cox = fit_cox(past(2)[0], ["days_since_last", "frequency"])
    listed = early_warning(cox, today(), value, horizons=[30, 60])
    assert not [name for name in listed.rows if name.startswith("reasons")]
    assert any("does not explain itself" in note for note in listed.notes)
    assert listed.model_hash == model_hash(fit_cox(past(2)[0], ["days_since_last", "frequency"]))
    assert listed.model_hash != model_hash(fit_cox(past(2)[0], ["days_since_last"]))


@pytest.mark.parametrize(
    ("name", "row", "said"),
    [
        (
            "days_since_last",
            {"days_since_last": 41, "mean_gap_days": 9.2},
            "silent 41 days, usual gap 9",
        ),
        ("days_since_last", {"days_since_last": 0}, "bought today"),
        ("silence_in_gaps", {"silence_in_gaps": np.nan}, "no usual gap yet"),
        ("gap_trend", {"gap_trend": np.log(2)}, "last gaps 2.0 times as long as before"),
        ("purchases_90d", {"purchases_90d": 0}, "no purchases in 90 days"),
        ("touches_90d_sms", {"touches_90d_sms": 7}, "7 touches by sms in 90 days (usual 2)"),
        ("days_since_touch_chat", {"days_since_touch_chat": None}, "no touch by chat so far"),
        (
            "spend_trend",
            {"spend_trend": -0.4},
            "spent less in the last 90 days than in the 90 before",
        ),
        ("discount_share", {"discount_share": 0.31}, "31\u00a0% off through discounts"),
        ("days_to_mid_autumn", {"days_to_mid_autumn": 12}, "12 days until mid autumn"),
        ("spend_90d", {"spend_90d": 0.0}, "spent nothing in 90 days"),
        ("tier", {"tier": "gold"}, "tier gold"),
        ("city", {"city": "杭州"}, "city 杭州"),
        ("shoe_size", {"shoe_size": 44.0}, "shoe size 44 (usual 40)"),
    ],
)  # fmt: skip
def test_a_covariate_in_words(name, row, said):
    usual = pd.Series({"touches_90d_sms": 2.0, "shoe_size": 40.0})
    assert in_words(name, pd.Series(row, dtype=object), usual) == said


def test_the_error_of_the_level_widens_every_interval(value):
    exact = pd.Series(10.0, today().index)
    given = {"within_days": 60, "most": 300, "reasons": 0}
    known = early_warning(Exponential(), today(), exact, **given)
    assert known.total.ci_low == known.total.value == known.total.ci_high
    unsure = early_warning(Exponential(), today(), exact, risk_error=0.2, **given)
    assert unsure.total.value == known.total.value
    assert unsure.total.ci_low == pytest.approx(0.8 * known.total.value)
    assert unsure.total.ci_high == pytest.approx(1.2 * known.total.value)
    rows = unsure.rows
    assert rows["ci_high"].to_numpy() == pytest.approx(1.2 * rows["value_at_risk"].to_numpy())
    # and it adds in quadrature to what is not known of the value
    narrow = early_warning(Exponential(), today(), value).total
    wide = early_warning(Exponential(), today(), value, risk_error=0.2).total
    own, whole = narrow.ci_high - narrow.value, wide.ci_high - wide.value
    assert whole**2 == pytest.approx(own**2 + (0.2 * wide.value) ** 2)


def test_one_is_not_many():
    said = "1 purchases in 180 days; silent 1 days, usual gap 21; 1 touches by sms in 1 days"
    assert _one(said) == (
        "1 purchase in 180 days; silent 1 day, usual gap 21; 1 touch by sms in 1 day"
    )
    assert _one("last gaps 2.1 times; 11 purchases") == "last gaps 2.1 times; 11 purchases"


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda f: f.iloc[:0], {}, "frame has no rows"),
        (lambda f: f.assign(landmark=[DAY, *[DAY - pd.Timedelta(days=1)] * 299]), {}, "holds 2"),
        (lambda f: f.assign(customer_id="c1"), {}, "repeats a customer in 299 of 300"),
        (lambda f: f, {"within_days": 30}, "within 60 days, not within 30"),
        (lambda f: f, {"horizons": [60, 30]}, "ascending"),
        (lambda f: f, {"most": 0}, "at least 1"),
        (lambda f: f, {"risk_error": -0.1}, "risk_error must be 0 or more"),
        (lambda f: f, {"previous": today()}, "previous must lie before"),
        (lambda f: f.assign(spend=np.nan), {}, "must be known; 300 of 300"),
        (lambda f: f, {"value": pd.Series([1.0])}, "missing for 299 of 300"),
    ],
)
def test_what_makes_no_list_is_refused_by_name(value, change, options, message):
    chosen = {"value": value, **options}
    with pytest.raises(ContractError, match=message):
        early_warning(Exponential(), change(today()), **chosen)


def test_what_teaches_no_value_is_refused_by_name():
    rows, values = past(1, 400)
    with pytest.raises(ContractError, match=r"within_days must lie in \[1, 180\].*got 200"):
        fit_return_value(rows, values, 200)
    with pytest.raises(ContractError, match="no row is in both"):
        fit_return_value(rows.assign(landmark=DAY), values, 60)
    with pytest.raises(ContractError, match=r"values need.*amount"):
        fit_return_value(rows, values.drop(columns="amount"), 60)
    with pytest.raises(FitError, match=r"0 of .* came back"):
        fit_return_value(rows.assign(event=0, duration=180), values, 60)
    with pytest.raises(ContractError, match="margin_share"):
        fit_return_value(rows, values, 60, margin_share=0.0)


def weeks(seed: int, moved: float = 0.0) -> tuple[pd.DataFrame, ...]:
    """Two weeks of 2,000 customers, 1,500 of them in both; risks and the features they rest on."""
    draw = np.random.default_rng(seed)
    frames = []
    base = draw.normal(size=2500)
    for number, people in enumerate((range(2000), range(500, 2500))):
        own = base[list(people)] + 0.3 * draw.normal(size=2000) + moved * number
        rows = pd.DataFrame(
            {
                "landmark": DAY + pd.Timedelta(days=7 * number),
                "customer_id": [f"c{place}" for place in people],
                "score_base": own,
                "other": draw.normal(size=2000),
                "channel": draw.choice(["app", "shop"], 2000),
                "store_id": np.where(np.arange(2000) < 1999, "s1", "s2"),
            }
        )
        frames.append((rows, pd.DataFrame({30: 1 / (1 + np.exp(-own))}, rows.index)))
    (before, risk_before), (now, risk_now) = frames
    return before, now, risk_before, risk_now


def test_weeks_drawn_alike_are_stable_and_the_shift_covers_nothing():
    covered, stable = 0, 0
    for seed in range(30):
        found = stability(*weeks(seed))
        row = found.scores.iloc[0]
        covered += row["ci_low"] <= 0 <= row["ci_high"]
        stable += row["band"] == "stable"
    # 95 % of 30 are 28.5; 25 is three standard errors below
    assert covered >= 25
    assert stable == 30


def test_a_shift_is_found_with_its_size_and_its_column():
    found = stability(*weeks(1, moved=0.8), by="store_id")
    assert found.band == "broken"
    assert "do not act on the scores" in found.advice()
    assert "score base" in found.advice()
    assert found.features["covariate"].iloc[0] == "score_base"
    assert found.features.set_index("covariate").loc["other", "band"] == "stable"
    assert found.scores["ci_low"].iloc[0] > 0.1
    lone = found.segments[found.segments["segment"] == "s2"].iloc[0]
    assert lone["customers"] == 1
    assert (found.n_before, found.n_now, found.n_both) == (2000, 2000, 1500)


def test_the_index_is_the_sum_over_cells_of_its_definition():
    """Shares .5 and .5 against .8 and .2: .3 log(1.6) + (-.3) log(.4), up to the smoothing."""
    before = pd.Series(["a"] * 5000 + ["b"] * 5000)
    now = pd.Series(["a"] * 8000 + ["b"] * 2000)
    psi, cells = population_stability(before, now)
    assert psi == pytest.approx(0.3 * np.log(1.6) - 0.3 * np.log(0.4), abs=1e-3)
    assert cells == 2
    unseen, cells = population_stability(before, pd.Series(["new"] * 10000))
    assert np.isfinite(unseen)
    assert unseen > 5
    assert population_stability(before, before) == (0.0, 2)
    gone = pd.Series([np.nan] * 100)
    assert population_stability(gone, gone) == (0.0, 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda b, n, x, y: (n, b, y, x), "before must be earlier"),
        (lambda b, n, x, y: (b.head(20), n, x.head(20), y), "20 rows; an index"),
        (lambda b, n, x, y: (b, n, x.head(20), y), "the scores of before must have the index"),
        (lambda b, n, x, y: (b, n, x, y.mask(y.index.to_series() < 3)), "gaps in 3 of 2000"),
        (lambda b, n, x, y: (b, n, x.rename(columns={30: 60}), y), "same horizons"),
        (lambda b, n, x, y: (b, n.assign(customer_id="c"), x, y), "each customer once"),
    ],
)
def test_weeks_that_cannot_be_compared_are_refused_by_name(change, message):
    with pytest.raises(ContractError, match=message):
        stability(*change(*weeks(1)))
