"""The world: its truth agrees with what happens in it, and nothing outside a life changes it."""

import ast
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journeylab import simulate as package
from journeylab.errors import ContractError
from journeylab.simulate import Truth, World, read_preset, simulate, writing
from journeylab.simulate.baskets import fill
from journeylab.simulate.chance import keys, luck_key, uniforms
from journeylab.simulate.chronicle import GIVEN, Sent
from journeylab.simulate.life import BLOCKED, NO_TOUCHES, Touches, step_chances
from journeylab.simulate.outlook import MOST_TOUCHES, expected_prices, outlook
from journeylab.simulate.people import COMMUNITY, NEVER, make_people
from journeylab.simulate.preset import preset_text
from journeylab.simulate.running import copied, run, with_luck
from journeylab.simulate.touching import begin_test

REPLAYS = 200
SMALL = 2_500
HORIZONS = (7, 30, 60)


def _digest(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _tables(folder: Path) -> dict[str, pd.DataFrame]:
    return {
        place.name: pd.concat([pq.read_table(part).to_pandas() for part in sorted(place.iterdir())])
        for place in sorted(folder.iterdir())
        if place.is_dir() and place.name != "truth"
    }


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world") / "campaign"
    simulate("campaign", 1_000, 5, folder)
    return folder


# The same world, however it is made


def test_the_same_seed_gives_the_same_bytes_whatever_the_partition_and_the_threads(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(writing, "PEOPLE_PER_FILE", 600)
    simulate("campaign", 1_500, 3, tmp_path / "whole")
    simulate("campaign", 1_500, 3, tmp_path / "parts", partition=200, threads=3)
    simulate("campaign", 1_500, 4, tmp_path / "other")
    whole, parts, other = (_digest(tmp_path / name) for name in ("whole", "parts", "other"))
    assert whole == parts
    assert len([name for name in whole if name.startswith("orders/")]) == 3
    assert all(whole[name] != other[name] for name in whole if name.startswith("orders/"))


@pytest.mark.parametrize("preset", ["campaign", "grocery"])
def test_a_life_does_not_change_when_customers_are_added(tmp_path, preset):
    """The number 1,890 lies within a community, and some who are in it invite some who are not."""
    simulate(preset, 1_890, 3, tmp_path / "few")
    simulate(preset, 2_600, 3, tmp_path / "many")
    few, many = _tables(tmp_path / "few"), _tables(tmp_path / "many")
    known = set(few["customers"]["customer_id"])
    assert set(few) == set(many)
    for name, table in few.items():
        if name == "channel_costs":  # sums over everybody
            continue
        person = "invitee_id" if name == "referrals" else "customer_id"
        if person not in table:  # lines go with their orders
            same = many[name][many[name]["order_id"].isin(set(few["orders"]["order_id"]))]
        else:
            same = many[name][many[name][person].isin(known)]
        pd.testing.assert_frame_equal(
            table.reset_index(drop=True), same.reset_index(drop=True), obj=name
        )


def test_draws_depend_on_who_and_what_for_alone():
    some, all_ = keys(luck_key(7, 0), np.arange(50, 60)), keys(luck_key(7, 0), np.arange(100))
    assert (uniforms(some, 3) == uniforms(all_, 3)[50:60]).all()
    assert not (uniforms(some, 3) == uniforms(some, 4)).any()
    assert not (uniforms(all_, 3) == uniforms(keys(luck_key(7, 1), np.arange(100)), 3)).any()


def test_draws_are_uniform_and_unrelated():
    """Ten bins, two keys, two purposes; 200,000 draws: chi-square of 9 df below its .9999 point."""
    key = keys(luck_key(1, 0), np.arange(200_000))
    one, other = uniforms(key, 5), uniforms(key, 6)
    for drawn in (one, other):
        counts = np.bincount((drawn * 10).astype(int), minlength=10)
        assert ((counts - 20_000) ** 2 / 20_000).sum() < 33.7
    bound = 4 / np.sqrt(len(one))
    assert abs(np.corrcoef(one, other)[0, 1]) < bound
    assert abs(np.corrcoef(one[1:], one[:-1])[0, 1]) < bound


# Truth agrees with what happens


@pytest.fixture(scope="module")
def standing():
    """A small world in the middle of its randomised stretch, on a Thursday."""
    truth = Truth.of("campaign", SMALL, 3)
    day = 7 * 24 + 3
    cast, state = truth._lived(day, max(HORIZONS))
    return truth.preset, cast, state, day


def _expected(standing, touches=NO_TOUCHES):
    preset, cast, state, day = standing
    ahead = outlook(
        cast.nature, state, cast.rules, expected_prices(preset, cast.people), day, 0, HORIZONS,
        touches, spill=True,
    )  # fmt: skip
    measures = ("alive", "no_order", "orders", "revenue", "margin")
    return np.array([[getattr(ahead, name)[:, h].mean() for name in measures] for h in range(3)])


def _replayed(standing, touches=NO_TOUCHES):
    """Means of ``REPLAYS`` futures, replay x horizon x measure."""
    preset, cast, state, day = standing
    sent = Sent(touches, np.full(len(touches), GIVEN, np.int32), np.full(len(touches), np.nan))
    n, found = len(cast.people), []
    for replay in range(REPLAYS):
        other = with_luck(cast, luck_key(11, replay))
        now = copied(state)
        happened = run(other, now, day, max(HORIZONS), habits=False, given=sent).happened
        money = fill(preset, cast.people, other.luck, happened)
        rows = []
        for horizon in HORIZONS:
            end = day + horizon
            inside = happened.order_day < end
            back = inside & (money.refund_day >= 0) & (money.refund_day < end)
            revenue = money.amount[inside].sum() - money.amount[back].sum()
            goods = money.cost[inside].sum() - money.refund_cost[back].sum()
            ordered = len(np.unique(happened.order_person[inside]))
            rows.append(
                (
                    (now.left_day >= end).mean(),
                    1 - ordered / n,
                    inside.sum() / n,
                    revenue / 100 / n,
                    (revenue - goods) / 100 / n,
                )
            )
        found.append(rows)
    return np.array(found)


def _standard_error(values):
    return values.std(axis=0, ddof=1) / np.sqrt(len(values))


@pytest.fixture(scope="module")
def untouched(standing):
    return _replayed(standing)


def test_survival_orders_and_margin_are_what_replays_bring(standing, untouched):
    """200 futures of 2,500 people, 7, 30 and 60 days: within three standard errors."""
    gap = (untouched.mean(axis=0) - _expected(standing)) / _standard_error(untouched)
    assert np.abs(gap).max() < 3


def test_every_channels_effect_is_what_replays_bring(standing, untouched):
    """Everybody touched or nobody, with the same luck: the differences, within three errors."""
    preset, cast, _, day = standing
    plain = _expected(standing)
    n = len(cast.people)
    for code, name in enumerate(preset.channel_names):
        touches = Touches(np.arange(n), np.full(n, day, np.int32), np.full(n, code, np.int8))
        gained = _replayed(standing, touches) - untouched
        truth = _expected(standing, touches) - plain
        # Where next to nothing happened, one event is as much as could have been seen.
        error = np.maximum(_standard_error(gained), 1 / (n * REPLAYS))
        gap = np.round((gained.mean(axis=0) - truth) / error, 2)
        assert np.abs(gap).max() < 3, (name, gap)


def test_a_plan_of_several_touches_is_followed_through_every_way_it_may_be_received(standing):
    preset, cast, _, day = standing
    rng = np.random.default_rng(0)
    who = np.repeat(np.arange(0, len(cast.people), 2), 4)
    when = np.sort(rng.integers(0, 12, (len(who) // 4, 4)), axis=1).ravel()
    channel = rng.integers(0, len(preset.channels), len(who))
    touches = Touches(who, (day + when).astype(np.int32), channel.astype(np.int8))
    replays = _replayed(standing, touches)
    gap = (replays.mean(axis=0) - _expected(standing, touches)) / _standard_error(replays)
    assert np.abs(gap).max() < 3


def test_test_effects_are_what_replays_bring():
    """Every test of the campaign from its first day, arms drawn anew 200 times."""
    truth = Truth.of("campaign", SMALL, 3)
    told = truth.tests().set_index(["experiment_id", "arm", "metric"])
    for test in truth.preset.tests:
        day = 7 * test.first_week
        cast, state = truth._lived(day, test.days)
        found = []
        for replay in range(REPLAYS):
            other, now = with_luck(cast, luck_key(13, replay)), copied(state)
            begin_test(truth.preset, cast.people, now, other.luck, other.world, day)
            arm = now.arm.copy()
            happened = run(other, now, day, test.days, habits=False).happened
            orders = np.bincount(happened.order_person, minlength=len(cast.people))
            found.append(
                [
                    [orders[arm == code].mean(), (orders[arm == code] > 0).mean()]
                    for code in range(len(test.arms))
                ]
            )
        means = np.array(found)
        effects = means - means[:, :1]
        for code, arm_ in enumerate(test.arms):
            for position, metric in enumerate(("orders", "conversion")):
                row = told.loc[(test.name, arm_.name, metric)]
                for values, expected in (
                    (means[:, code, position], row["mean"]),
                    (effects[:, code, position], row["effect"]),
                ):
                    error = values.std(ddof=1) / np.sqrt(REPLAYS)
                    assert abs(values.mean() - expected) <= 3 * error + 1e-12, (test.name, metric)


def test_funnel_rates_are_those_of_other_lives_and_of_the_chances():
    truth = Truth.of("campaign", 2_000, 3)
    told = truth.funnel(90, draws=60).set_index("step")
    lives = pd.concat([truth.funnel_once(90, luck) for luck in range(1, 61)])
    grouped = lives.groupby("step")["rate"].agg(["mean", "sem"])
    for step, row in grouped.iterrows():
        error = np.hypot(row["sem"], told.loc[step, "error"])
        assert abs(row["mean"] - told.loc[step, "rate"]) < 3 * error, step
    # The first step in closed form: the chance to do it, and to do it within the window.
    people = make_people(truth.preset, 3, 0, 2_000)
    step = truth.preset.steps[0]
    within = 1 - 0.5 ** ((90 / step.typical_days) ** step.spread)
    inside = (people.join_day >= 0) & (people.join_day < truth.preset.days)
    chance = step_chances(truth.preset, people)[inside, 0].mean() * within * (1 - step.skipped)
    assert abs(told.loc[step.name, "rate"] - chance) < 3 * told.loc[step.name, "error"] + 0.002


def test_the_shops_own_habits_are_followed_by_draws_with_a_stated_error():
    truth = Truth.of("campaign", 1_000, 3)
    one, other = (truth.as_usual("2025-05-31", 30, 60, rng) for rng in (0, 1))
    gap = one[["orders", "margin"]].mean() - other[["orders", "margin"]].mean()
    error = np.sqrt(
        sum((f[["orders_error", "margin_error"]] ** 2).sum().to_numpy() for f in (one, other))
    ) / len(one)
    assert (np.abs(gap.to_numpy()) < 3 * error).all()
    assert (one["orders_error"] > 0).any()


# What an outlook must obey


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), day=st.integers(0, 360))
def test_outlooks_are_chances_and_rise_or_fall_with_the_horizon(seed, day):
    truth = Truth.of("campaign", COMMUNITY, seed)
    cast, state = truth._lived(day, 60)
    ahead = outlook(
        cast.nature, state, cast.rules, expected_prices(truth.preset, cast.people), day, 0,
        (1, 5, 20, 60),
    )  # fmt: skip
    for chance in (ahead.alive, ahead.no_order):
        assert (chance > -1e-12).all()
        assert (chance < 1 + 1e-12).all()
        assert (np.diff(chance, axis=1) < 1e-12).all()
    assert (np.diff(ahead.orders, axis=1) > -1e-12).all()
    assert np.isfinite(ahead.margin).all()
    gone = state.left_day < day
    assert (ahead.orders[gone] == 0).all()
    assert (ahead.no_order[gone] == 1).all()
    # No order is at least as likely as the mean allows (Markov).
    assert (1 - ahead.no_order <= ahead.orders + 1e-12).all()


def test_more_touches_than_can_be_followed_are_refused(small):
    world = World.load(small)
    who = Truth.load(small).people()["customer_id"].iloc[0]
    plan = pd.DataFrame({"customer_id": [who] * (MOST_TOUCHES + 1), "channel": "sms"})
    with pytest.raises(ContractError, match=f"at most {MOST_TOUCHES} touches per person"):
        world.score(plan, 30)


# A world goes on


def _tables_equal(one, other, without=()):
    assert set(one) == set(other)
    for name, table in one.items():
        if name not in without:
            # The chat group a person is in is that of the end of the stretch.
            order = [column for column in table if column not in ("group_id", "staff_id")]
            if name != "customers":
                order = list(table.columns)
            pd.testing.assert_frame_equal(
                table[order].sort_values(order, ignore_index=True),
                other[name][order].sort_values(order, ignore_index=True),
                obj=name,
            )


def test_two_steps_of_a_week_are_one_of_two(small):
    world = World.load(small)
    both = world.step(14, rng=2)
    first = world.step(7, rng=2)
    second = first.world.step(7, rng=2)
    assert first.margin + second.margin == pytest.approx(both.margin, abs=0.005)
    joined = {name: pd.concat([first.tables[name], second.tables[name]]) for name in first.tables}
    # What ends in the second week takes the place of its earlier row.
    _tables_equal(both.tables, joined, without=("memberships", "consents", "service_contacts"))
    assert (both.world.state.left_day == second.world.state.left_day).all()


def test_a_step_has_other_luck_and_the_same_luck_the_same_rows(small):
    world = World.load(small)
    one, again, other = (world.step(28, rng=r) for r in (1, 1, 2))
    _tables_equal(one.tables, again.tables)
    assert len(one.tables["orders"]) != len(other.tables["orders"]) or not one.tables[
        "orders"
    ].equals(other.tables["orders"])


def test_a_step_leaves_the_world_it_came_from(small):
    world = World.load(small)
    before = copied(world.state)
    world.step(30, rng=1)
    assert all((a == b).all() for a, b in zip(before, world.state, strict=True))


def test_newcomers_join_and_ids_stay_new(small):
    world = World.load(small)
    period = world.step(56, rng=1)
    new = set(period.tables["customers"]["customer_id"])
    assert period.world.newcomers > 0
    assert new
    assert not new & set(_tables(small)["customers"]["customer_id"])


def test_touches_bring_in_expectation_what_they_are_scored_at(small):
    """60 steps of 30 days with the same plan: margin less cost, within three errors."""
    world = Truth.load(small).at("2025-07-01")
    ids = world.expected((30,))["customer_id"].to_numpy()
    plan = pd.DataFrame(
        {"customer_id": ids[::2], "channel": np.resize(["chat", "sms"], len(ids[::2]))}
    )
    score = world.score(plan, 30)
    assert score.gain == pytest.approx(score.margin - score.without)
    people = Truth.load(small).people().set_index("customer_id")
    known = set(ids) | set(people.loc[ids, "other_id"].dropna())
    got = []
    for luck in range(60):
        tables = world.step(30, plan, rng=luck).tables
        orders = tables["orders"][tables["orders"]["customer_id"].isin(known)]
        margin = orders["amount"].sum() - orders["cost"].sum() - tables["touches"]["cost"].sum()
        got.append(float(margin))
    values = np.array(got)
    assert abs(values.mean() - score.margin) < 3 * values.std(ddof=1) / np.sqrt(len(values))


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        ({"customer_id": ["c0"], "channel": ["sms"]}, "1 of 1 touches go to people unknown"),
        ({"customer_id": ["KNOWN"], "channel": ["smss"]}, "no channel 'smss', did you mean 'sms'"),
        ({"customer_id": ["KNOWN"]}, "channel missing"),
        ({"customer_id": ["KNOWN"], "channel": [None]}, "without customer_id or channel"),
        (
            {"customer_id": ["KNOWN"], "channel": ["sms"], "touched_at": ["2030-01-01"]},
            "1 of 1 touches lie outside the days from 2026-01-05 to 2026-01-11",
        ),
        (
            {"customer_id": ["KNOWN"], "channel": ["sms"], "touched_at": ["soon"]},
            "cannot be read as times",
        ),
    ],
)
def test_touches_that_cannot_be_sent_are_refused(small, frame, message):
    known = Truth.load(small).people()["customer_id"].iloc[0]
    frame = pd.DataFrame(frame).replace("KNOWN", known)
    with pytest.raises(ContractError, match=message):
        World.load(small).step(7, frame)


def test_days_horizons_and_dates_out_of_range_are_refused(small):
    world, truth = World.load(small), Truth.load(small)
    with pytest.raises(ContractError, match="days must be 1 or more"):
        world.step(0)
    with pytest.raises(ContractError, match="horizons must be rising"):
        world.expected((30, 7))
    with pytest.raises(ContractError, match="outside this world, which runs from 2025-01-06"):
        truth.at("2031-01-01")
    with pytest.raises(ContractError, match="must be a date"):
        truth.at("yesterday")


def test_the_loaded_world_stands_where_the_truth_says(small):
    loaded, made = World.load(small), Truth.load(small).at("2026-01-04")
    assert loaded.day == made.day
    assert all((a == b).all() for a, b in zip(loaded.state, made.state, strict=True))
    assert all((a == b).all() for a, b in zip(loaded.ledger, made.ledger, strict=True))
    pd.testing.assert_frame_equal(loaded.expected((30,)), made.expected((30,)))


# What is refused, and the smallest worlds


@pytest.mark.parametrize(
    ("customers", "seed", "message"),
    [(0, 1, "customers must lie in"), (5, -1, "seed must be"), (10**10, 1, "customers must lie")],
)
def test_numbers_out_of_range_are_refused_and_nothing_is_written(
    tmp_path, customers, seed, message
):
    with pytest.raises(ContractError, match=message):
        simulate("campaign", customers, seed, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_empty_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("kept")
    with pytest.raises(ContractError, match="exists and is not empty"):
        simulate("campaign", 10, 1, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_an_interrupted_world_leaves_nothing(tmp_path, monkeypatch):
    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate("campaign", 10, 1, tmp_path / "out", progress=stop)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("customers", [1, 2, COMMUNITY + 1])
def test_the_smallest_worlds_are_worlds(tmp_path, customers):
    truth = simulate("campaign", customers, 3, tmp_path / "out")
    assert len(truth.people()) == customers
    world = World.load(tmp_path / "out")
    assert len(world.expected((30,))) == customers
    world.step(7, rng=1)


def test_zero_rates_make_a_quiet_world(tmp_path):
    text = preset_text("campaign")
    for old in ("daily_chance = ", "failure = ", "existing_buyers = "):
        lines = [f"{old}0.0" if line.startswith(old) else line for line in text.splitlines()]
        text = "\n".join(lines)
    (tmp_path / "quiet.toml").write_text(text, encoding="utf-8")
    simulate(tmp_path / "quiet.toml", 300, 1, tmp_path / "out")
    tables = _tables(tmp_path / "out")
    ring = Truth.load(tmp_path / "out").people().query("kind == 'false referral'")
    buyers = set(tables["orders"]["customer_id"]) if len(tables["orders"]) else set()
    assert buyers <= set(ring["customer_id"])
    expected = World.load(tmp_path / "out").expected((90,)).set_index("customer_id")
    assert (expected.drop(ring["customer_id"])["orders"] == 0).all()
    assert (expected["alive"].isin([0.0, 1.0])).all()


# What the world keeps to itself


def test_the_package_imports_nothing_above_it_and_no_model():
    allowed = ("journeylab.simulate", "journeylab.contract", "journeylab.errors")
    models = {"lifelines", "xgboost", "sklearn", "statsmodels", "shap"}
    for path in Path(package.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module]
            for name in names:
                assert not name.startswith("journeylab") or name.startswith(allowed), path
                assert name.split(".")[0] not in models, path


def test_no_table_shows_a_trait_or_who_is_gone(small):
    hidden = {"need", "price_sensitivity", "touch_aversion", "sociability", "left_day"}
    for name, table in _tables(small).items():
        assert not hidden & set(table.columns), name


def test_silent_leavers_order_no_more(small):
    people = Truth.load(small).people().dropna(subset=["left_on"])
    orders = _tables(small)["orders"]
    orders = orders[orders["amount"] > 0]
    day = orders["ordered_at"].dt.tz_convert("Asia/Shanghai").dt.tz_localize(None).dt.normalize()
    last = day.groupby(orders["customer_id"]).max()
    joined = people.set_index("customer_id")["left_on"]
    both = pd.concat([last, joined], axis=1, join="inner")
    assert len(both) > 50
    assert (both.iloc[:, 0] < both["left_on"]).all()


def test_touches_on_a_closed_channel_are_blocked_and_do_nothing(standing):
    _, cast, state, day = standing
    n = len(cast.people)
    shut = copied(state)
    shut.closed_day[:] = day - 1
    touches = Touches(np.arange(n), np.full(n, day, np.int32), np.zeros(n, np.int8))
    sent = Sent(touches, np.full(n, GIVEN, np.int32), np.full(n, np.nan))
    plain = run(cast, copied(shut), day, 14, habits=False)
    tried = run(cast, copied(shut), day, 14, habits=False, given=sent)
    assert (tried.happened.touch_status == BLOCKED).all()
    assert (plain.happened.order_person == tried.happened.order_person).all()


def test_fatigue_makes_a_second_touch_weaker(standing):
    preset, cast, state, day = standing
    n = len(cast.people)
    effects = []
    for load in (0.0, 3.0):
        now = copied(state)
        now.load[:], now.boost[:], now.stirred[:] = load, 0.0, False
        # Patience apart: only what a touch adds, not what touches drive away.
        rules = cast.rules._replace(patience=99.0)
        arguments = (cast.nature, now, rules, expected_prices(preset, cast.people), day, 0, (14,))
        touches = Touches(np.arange(n), np.full(n, day, np.int32), np.full(n, 2, np.int8))
        effects.append((outlook(*arguments, touches).orders - outlook(*arguments).orders).sum())
    assert 0 < effects[1] < 0.7 * effects[0]


def test_some_touches_harm(small):
    effects = World.load(small).effects(30)
    voice = effects[effects["channel"] == "voice"]["margin"]
    moved = voice[voice != 0]
    assert (moved < 0).mean() > 0.1
    assert (moved > 0).mean() > 0.1


def test_the_presets_differ_from_what_a_copy_may_change():
    preset = read_preset("campaign")
    assert replace(preset, weeks=10).days == 70
    assert NEVER > 10_000
