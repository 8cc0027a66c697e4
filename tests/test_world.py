"""The look at a world: what it measures, chooses and says, on small tables and small worlds."""

from dataclasses import fields

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from journeylab import frames, tallies, world
from journeylab.errors import ContractError
from journeylab.simulate import Truth, read_preset, simulate
from journeylab.tables import Tables, collect, connect_duckdb, open_tables
from journeylab.world.moments import MET, OPEN

NAMES = ("x", "y", "xx", "yy", "xy")


def sums(x, y):
    """One row of sums of a ratio over units."""
    x, y = np.asarray(x, float), np.asarray(y, float)
    values = (x.sum(), y.sum(), x @ x, y @ y, x @ y)
    return {f"a_{name}": value for name, value in zip(NAMES, values, strict=True)} | {
        "units": len(x)
    }


def moments(*rows):
    """Moments with the given ratios and intervals."""
    frame = pd.DataFrame(rows, columns=["moment", "ratio", "ratio_low", "ratio_high", "reading"])
    return frame.assign(unit="orders", real=2.0, world=2.0 * frame["ratio"], numbers="a.b")


NOTHING = moments().assign(now=[], change=[])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("worlds") / "small"
    simulate("campaign", 2400, 5, place)
    return place


@pytest.fixture(scope="module")
def tables(folder):
    return open_tables(str(folder))


@pytest.fixture(scope="module")
def truth(folder):
    return Truth.load(folder)


def test_a_ratio_has_the_interval_of_its_units():
    rng = np.random.default_rng(1)
    y = rng.integers(1, 9, 4000).astype(float)
    x = y * rng.gamma(2.0, 1.0, 4000)
    found = world.ratio(sums(x, y), "a", "orders")
    picks = rng.integers(0, 4000, (400, 4000))
    drawn = x[picks].sum(1) / y[picks].sum(1)
    assert found.value == pytest.approx(x.sum() / y.sum())
    assert found.ci_high - found.value == pytest.approx(1.96 * drawn.std(), rel=0.12)


def test_a_share_of_people_has_wilsons_interval():
    """Newcombe (1998), table I: 81 of 263 gives 0.2553 to 0.3662."""
    found = world.ratio(sums([1] * 81 + [0] * 182, [1] * 263), "a", "share")
    assert (found.ci_low, found.ci_high) == pytest.approx((0.2553, 0.3662), abs=5e-5)


def test_a_ratio_of_nothing_is_refused():
    with pytest.raises(ContractError, match="below the line"):
        world.ratio(sums([0], [0]), "a", "share")


def test_published_numbers_of_hillstrom_are_those_of_his_file(shared_data):
    own = open_tables("hillstrom", ["assignments", "outcomes"])
    each = own.outcomes.join(own.assignments, "customer_id")
    means = collect(each.group_by("variant", "metric").agg(mean=each.value.mean()))
    found = {(row.variant, row.metric): row.mean for row in means.itertuples()}
    metric = {"visited": "visit", "bought": "conversion", "spend": "spend"}
    mail = {"none": "No E-Mail", "coupon_10": "Womens E-Mail", "coupon_20": "Mens E-Mail"}
    for entry in world.HILLSTROM:
        if entry.key[0] in metric:
            real = found[mail[entry.key[1]], metric[entry.key[0]]]
            assert entry.value == pytest.approx(real, rel=0.01)


def test_published_numbers_of_the_panel_are_measured_from_the_panel_itself():
    own = open_tables("complete_journey", ["orders", "order_lines"])
    shop = world.Shop(*tallies.shop_counts(own, "2017-01-01", "2017-12-31"))
    found = world.panel_moments(shop)
    assert found["world"].tolist() == pytest.approx(found["real"].tolist(), rel=1e-3)
    assert (found["ratio_low"] <= 1).all()
    assert (found["ratio_high"] >= 1).all()


def test_moments_are_met_off_or_not_to_be_told():
    arm = {"units": 400, "people": 400, "spend_most": 1.0}
    for metric, share in (("visited", 0.1062), ("bought", 0.05), ("orders", 0.05)):
        done = round(400 * share)
        one = sums([1] * done + [0] * (400 - done), [1] * 400)
        arm |= {name.replace("a_", f"{metric}_"): value for name, value in one.items()}
    one = sums([13.0] * 20 + [0.0] * 380, [1] * 400)
    arm |= {name.replace("a_", "spend_"): value for name, value in one.items()}
    arm |= {f"spend_{power}": 20 * 13.0**power for power in (2, 3, 4)}
    arms = pd.DataFrame([arm | {"variant": name} for name in ("none", "coupon_10", "coupon_20")])
    found = world.experiment_moments(arms).set_index("moment")
    assert found.loc["visit, no mail", "reading"] == OPEN
    # 20 of 400 against 2.3 of 400
    assert found.loc["purchase, no mail", "reading"] == "8.7 times the real one"
    assert found.loc["spend per head, no mail", "world"] == pytest.approx(0.65)
    # 20 of 400 people spend 13: variance 169 * 0.05 * 0.95
    assert found.loc["spread of spend", "world"] == pytest.approx((169 * 0.05 * 0.95) ** 0.5)
    assert world.experiment_moments(arms.head(2)).empty
    nobody = arms.assign(**{f"spend_{name}": 0.0 for name in ("x", "xx", "xy", "2", "3", "4")})
    nothing = world.experiment_moments(nobody).set_index("moment")
    assert nothing.loc["spend per head, no mail", "reading"] == OPEN
    assert np.isfinite(world.furthest([nothing.reset_index()]).ci_high)
    assert world.off(found.reset_index())["moment"].iloc[0] == "purchase, no mail"


def test_shops_are_compared_over_equally_many_days():
    one = pd.DataFrame(
        {"first": [pd.Timestamp("2024-01-01")], "last": [pd.Timestamp("2025-12-31")]}
    )
    two = pd.DataFrame(
        {"first": [pd.Timestamp("1997-01-01")], "last": [pd.Timestamp("1997-04-10")]}
    )
    found = world.stretches(one, two)
    assert found == [("2025-09-23", "2025-12-31"), ("1997-01-01", "1997-04-10")]
    with pytest.raises(ContractError, match="no orders"):
        world.stretches(one.assign(last=pd.NaT))


def test_a_shop_that_buys_half_as_often_is_told_which_number_to_halve(tables):
    days = world.stretches(collect(tallies.span(tables)))[0]
    shop = world.Shop(*tallies.shop_counts(tables, *days))
    preset = world.preset_numbers(read_preset("campaign"))
    same = world.shop_moments(shop, shop, preset)
    assert same["ratio"].tolist() == pytest.approx([1.0] * len(same))
    assert same["change"].dropna().tolist() == pytest.approx(
        same.loc[same["change"].notna(), "now"].tolist()
    )
    assert world.advice([NOTHING], same, "simulated").startswith("Take the world simulated")
    half = shop.sums.assign(frequency_x=shop.sums["frequency_x"] / 2)
    found = world.shop_moments(shop, world.Shop(half, shop.counts, shop.gaps), preset)
    row = found.set_index("moment").loc["orders per buyer"]
    assert row["ratio"] == pytest.approx(2.0)
    assert row["change"] == pytest.approx(row["now"] / 2)
    text = world.advice([NOTHING], found, "simulated")
    assert f"orders.daily_chance from {row['now']:.3g} to about {row['now'] / 2:.3g}" in text
    assert "Do not take" in text


def test_lives_are_of_the_kinds_they_are_said_to_be(tables, truth):
    people, counts = truth.people(), collect(tallies.people(tables))
    first, last = "2025-01-06", "2026-01-04"
    chosen = world.choose_lives(people, counts, first, last, 9)
    again = world.choose_lives(people.sample(frac=1, random_state=1), counts, first, last, 9)
    pd.testing.assert_frame_equal(chosen, again)
    assert chosen["customer_id"].is_unique
    by_role = chosen.set_index("role")
    assert {"loyal", "left, and nobody saw it", "never bought"} <= set(by_role.index)
    assert pd.isna(by_role.loc["loyal", "left_on"])
    assert by_role.loc["left, and nobody saw it", "left_on"] <= pd.Timestamp(last)
    assert by_role.loc["left, and nobody saw it", "orders"] >= 3
    assert by_role.loc["never bought", "orders"] == 0
    assert by_role["city"].notna().all()
    happened = collect(tallies.lives(tables, chosen["customer_id"].tolist()))
    orders = happened[happened["kind"] == "order"].groupby("customer_id").size()
    expected = chosen.set_index("customer_id")["orders"]
    assert orders.reindex(expected.index, fill_value=0).tolist() == expected.tolist()
    left = by_role.loc["left, and nobody saw it"]
    own = happened[(happened["customer_id"] == left["customer_id"])]
    assert own.loc[own["kind"] == "order", "day"].max() <= left["left_on"]
    assert "had left unseen" in world.lives_finding(chosen, happened)
    assert len(world.choose_lives(people, counts, first, last, 2)) == 2


def test_silence_is_counted_beside_who_is_gone():
    customers = pd.DataFrame(
        {"customer_id": list("abcdef"), "days_since_last": [3, 40, 95, 100, 200, 300]}
    )
    alive = pd.Series([True, True, True, False, True, False], index=list("abcdef"))
    found = world.silence(customers, alive, 90)
    assert (found.buyers, found.gone) == (6, 2)
    assert found.silent_still.value == pytest.approx(0.5)
    assert found.bands.set_index("days_silent")["customers"].to_dict() == {
        "up to 30": 1, "31 to 60": 1, "91 to 180": 2, "more than 180": 2,
    }  # fmt: skip
    # of the 8 pairs of one who is gone and one who is not, 7 are in order
    assert found.concordance == pytest.approx(7 / 8)
    assert world.silence(customers, alive, 400).silent_still is None


def test_the_truth_knows_every_buyer_of_the_tables(tables, truth):
    customers = collect(frames.customers(tables, "2026-01-04"))
    found = world.silence(customers, truth.alive("2026-01-04"))
    assert found.buyers == len(customers)
    assert 0 < found.gone < found.buyers
    assert 0.6 < found.concordance < 1


def test_the_funnel_with_closed_windows_agrees_with_the_truth_and_the_hasty_one_does_not(
    tables, truth
):
    steps = [step.name for step in truth.preset.steps]
    counts = collect(tallies.funnel_counts(tables, steps, "2025-01-06", "2026-01-04", 120))
    found = world.funnel(counts, truth.funnel(120, 4)).set_index("step")
    spread = (found["ci_high"] - found["ci_low"]) / 3.92
    # everybody once, whatever number of ids they have
    joined = truth.people()["joined_on"] >= "2025-01-06"
    assert counts[f"{steps[0]}_all"].item() == joined.sum()
    # steps of the onboarding do not move with the season
    steady = found.loc[steps]
    assert ((steady["observed"] - steady["true"]).abs() < 3 * spread[steps]).all()
    # joiners of the first months are not all joiners: season and growth move the level a little
    assert ((found["observed"] - found["true"]).abs() < 3 * spread + 0.04).all()
    assert found.loc["second_order", "hasty"] < found.loc["second_order", "true"]
    assert list(found["of"]) == ["reached"] * 4 + ["first_order"] * 2


def test_choosing_whom_to_touch_makes_touches_look_good(tables, truth):
    days = world.targeted_days(truth.preset)
    assert days.week == ("2025-03-03", "2025-03-09")
    assert days.eve == "2025-03-02"
    found = world.hasty_effects(
        collect(tallies.touch_outcomes(tables, days.first, days.last, 14)),
        truth.at(days.eve).effects(14),
        collect(tallies.touched(tables, *days.week)),
    ).set_index("channel")
    assert set(found.index) <= {"sms", "voice", "chat", "push", "ads"}
    assert (found["hasty"] > 3 * found["true"]).all()
    assert (found.loc[["chat", "sms"], "ci_low"] > found.loc[["chat", "sms"], "true"]).all()
    assert found["harmed"].between(0, 1).all()


def test_every_test_stands_beside_its_truth_and_the_broken_split_is_seen(tables, truth):
    preset = truth.preset
    arms = {
        test.name: collect(tallies.arm_outcomes(tables, test.name, test.days))
        for test in preset.tests
    }
    found = world.compare_tests(arms, truth.tests(), preset).set_index(["test", "arm"])
    assert len(found) == sum(len(test.arms) - 1 for test in preset.tests)
    assert found.loc[("same_twice", "same"), "true"] == pytest.approx(0, abs=1e-12)
    error = (found["ci_high"] - found["ci_low"]) / 3.92
    assert ((found["effect"] - found["true"]).abs() < 4 * error).all()
    assert (found.loc[["welcome_page", "group_host", "same_twice"], "split_p"] > 1e-4).all()
    lost = arms["new_checkout"].assign(units=[1200, 900])
    broken = world.compare_tests(arms | {"new_checkout": lost}, truth.tests(), preset)
    assert broken.set_index("test").loc["new_checkout", "split_p"] < 1e-6
    assert world.tests_finding(broken).endswith("new_checkout: broken split")
    assert any("new_checkout" in text for text in doubts(tests=broken))


def doubts(published=NOTHING, tests=None, shop=NOTHING, people=5):
    none = pd.DataFrame({"test": [], "split_p": []})
    steps = pd.DataFrame({"people": [people]})
    return world.doubts([published], none if tests is None else tests, steps, shop)


def test_doubts_name_what_is_off_and_are_silent_otherwise():
    assert doubts() == []
    off = moments(("visits", 1.5, 1.4, 1.6, "1.50 times the real one"))
    assert "unlike the published shop in visits: 3 against 2, 1.50 times" in doubts(off)[0]
    assert "not closed" in doubts(people=0)[0]
    assert "too few to tell visits" in doubts(shop=moments(("visits", 1.0, 0.5, 2.0, OPEN)))[0]


def test_the_advice_without_own_data_counts_what_is_met():
    mixed = moments(
        ("visits", 1.0, 0.95, 1.05, MET),
        ("orders", 1.1, 0.6, 1.9, OPEN),
        ("spend", 2.0, 1.8, 2.2, "2.0 times the real one"),
    )
    text = world.advice([mixed, mixed.head(0)], NOTHING, "simulated").replace("\xa0", " ")
    assert "of 3 published numbers 1 are met within 10 %, 1 cannot be told, 1 is off" in text
    assert "furthest spend at 2.0 times the real one (1.80 to 2.20)" in text
    assert world.furthest([mixed]).value == 2.0
    assert world.moments_finding(mixed, "Hillstrom's").startswith(
        "1 of Hillstrom's 3 numbers is off"
    )


def test_a_hasty_effect_of_the_wrong_sign_is_called_harm():
    effects = pd.DataFrame(
        {"channel": ["sms", "voice"], "touches": 9, "hasty": [0.02, 0.05], "ci_low": 0.01,
         "ci_high": 0.06, "true": [0.01, -0.004], "harmed": 0.5}
    )  # fmt: skip
    assert world.effects_finding(effects).endswith("voice seems to sell, and does harm")
    assert world.effects_finding(effects.head(1)).endswith("sms looks 2 times as good as it is")
    assert world.seeming(effects).value == 0.05


def test_own_data_are_told_from_a_world(folder, tmp_path):
    found = world.find_sources(str(folder), "simulated")
    assert (found.world, found.own) == (str(folder), "")
    assert (found.first, found.last) == ("2025-01-06", "2026-01-04")
    assert found.rare_orders
    orders = tmp_path / "orders.csv"
    orders.write_text("order_id,customer_id,ordered_at,amount\n1,a,2024-01-01,2\n")
    beside = world.find_sources(str(orders), str(folder))
    assert (beside.world, beside.own) == (str(folder), str(orders))
    with pytest.raises(ContractError, match="is no simulated world"):
        world.find_sources(str(orders), "cdnow")


TALLIES = {
    "arm_outcomes by customer": lambda own: tallies.arm_outcomes(own, "coupon_depth", 14),
    "arm_outcomes by group": lambda own: tallies.arm_outcomes(own, "group_host", 28),
    "shop_sums": lambda own: tallies.shop_sums(own, "2025-03-01", "2025-08-31", [3, 40]),
    "order_counts": lambda own: tallies.order_counts(own, "2025-03-01", "2025-08-31"),
    "order_gaps": lambda own: tallies.order_gaps(own, "2025-03-01", "2025-08-31"),
    "funnel_counts": lambda own: tallies.funnel_counts(
        own, ["added_to_chat", "first_browse"], "2025-01-06", "2026-01-04", 60
    ),
    "touch_outcomes": lambda own: tallies.touch_outcomes(own, "2025-02-03", "2025-03-02", 10),
    "touched": lambda own: tallies.touched(own, "2025-02-03", "2025-03-02"),
    "people": tallies.people,
    "span": tallies.span,
}


@pytest.fixture(scope="module")
def both_engines(tmp_path_factory, spark_connection):
    """A very small world, as the intake types it, laid into DuckDB and into Spark."""
    place = tmp_path_factory.mktemp("engines")
    simulate("campaign", 250, 2, place / "world")
    opened = open_tables(str(place / "world"))
    laid = {"duckdb": {}, "spark": {}}
    duckdb = connect_duckdb([place])
    for item in fields(opened):
        table = getattr(opened, item.name)
        if hasattr(table, "to_pyarrow"):
            file = place / f"{item.name}.parquet"
            pq.write_table(table.to_pyarrow(), file)
            laid["duckdb"][item.name] = duckdb.read_parquet(str(file), table_name=item.name)
            laid["spark"][item.name] = spark_connection.read_parquet(
                str(file), table_name=f"world_{item.name}"
            )
    return Tables(**laid["duckdb"]), Tables(**laid["spark"])


@pytest.mark.parametrize("name", TALLIES)
def test_both_engines_count_the_same(name, both_engines):
    one, other = (collect(TALLIES[name](own)) for own in both_engines)
    assert len(one) > 0
    pd.testing.assert_frame_equal(one, other, check_exact=False, rtol=1e-9, check_dtype=False)


def test_both_engines_tell_the_same_lives(both_engines):
    ids = collect(tallies.people(both_engines[0]))["customer_id"].head(40).tolist()
    one, other = (collect(tallies.lives(own, ids)) for own in both_engines)
    assert {"order", "touch", "visit"} <= set(one["kind"])
    pd.testing.assert_frame_equal(one, other, check_dtype=False)


def test_what_the_own_file_does_not_hold_is_no_reason_to_change_a_number(tables):
    days = world.stretches(collect(tallies.span(tables)))[0]
    shop = world.Shop(*tallies.shop_counts(tables, *days))
    bare = world.Shop(shop.sums.assign(returned_x=0, returned_xx=0), shop.counts, shop.gaps)
    found = world.shop_moments(shop, bare, world.preset_numbers(read_preset("campaign")))
    assert "returns per order" not in set(found["moment"])
    assert np.isfinite(found["ratio"]).all()
