from dataclasses import replace
from functools import cache
from itertools import pairwise
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from journeylab.contract import BY_NAME
from journeylab.simulate.chance import keys, luck_key
from journeylab.simulate.chronicle import GIVEN, Chronicle, Sent
from journeylab.simulate.life import Touches, begin, make_nature, make_rules
from journeylab.simulate.opinions import make_opinions
from journeylab.simulate.people import make_people
from journeylab.simulate.preset import read_preset
from journeylab.simulate.rows import (
    channel_costs,
    count_costs,
    customer_names,
    make_rows,
    new_ledger,
    numbers_of,
)
from journeylab.simulate.rows.clock import Clock
from journeylab.simulate.running import Cast, run
from journeylab.tables import check

REPLACED = {
    "memberships": ["customer_id", "started_at"],
    "consents": ["customer_id", "purpose", "channel"],
    "service_contacts": ["contact_id"],
}


def live(first, count, cuts, seed=7, zone="Asia/Shanghai", habits=True):
    """Rows of a run of people, one ``Rows`` for each stretch between the cuts (days)."""
    preset = replace(read_preset("campaign"), business_tz=zone)
    people = make_people(preset, seed, first, count)
    world = luck_key(seed, 0)
    luck = keys(world, people.number)
    state = begin(preset, people, luck)
    rules = make_rules(preset, 0, preset.days)
    cast = Cast(preset, people, make_nature(people), rules, 0, world, luck)
    ledger, later, found = new_ledger(count), {}, []
    for begins, ends in pairwise(cuts):
        chronicle = run(cast, state, begins, ends - begins, habits=habits)
        rows = make_rows(preset, people, state, luck, chronicle, ledger, later)
        ledger, later = rows.ledger, rows.later
        found.append(rows)
    return found


@cache
def year():
    return live(0, 3000, (0, 364))[0]


@cache
def frames():
    return {name: table.to_pandas() for name, table in year().tables.items()}


def test_the_contract_accepts_every_row_and_finds_the_twins(tmp_path):
    for name, table in year().tables.items():
        pq.write_table(table, tmp_path / f"{name}.parquet")
    (tmp_path / "tables.toml").write_text('business_tz = "Asia/Shanghai"\n')
    report = check(tmp_path)
    assert report.summary()["quarantined"].sum() == 0
    assert {file.table for file in report.files} == set(BY_NAME) - {"outcomes", "channel_costs"}
    customers = frames()["customers"]
    _, second = numbers_of(customers["customer_id"].tolist())
    assert report.merges.people == second.sum() > 20
    assert report.merges.largest == 2


def test_no_key_comes_twice_and_columns_have_the_contract_types():
    for name, frame in frames().items():
        key = list(BY_NAME[name].key)
        assert not key or not frame.duplicated(key).any(), name
        for column in BY_NAME[name].required:
            assert frame[column].notna().all(), f"{name}.{column}"
    assert year().tables["orders"].schema.field("amount").type == pa.decimal128(18, 2)
    assert year().tables["orders"].schema.field("ordered_at").type == pa.timestamp("us", "UTC")


@pytest.mark.parametrize(
    ("cuts", "habits"),
    [((0, 7, 14, 364), True), ((0, 182, 189, 364), True), ((0, 10, 11, 150, 364), False)],
)
def test_rows_do_not_depend_on_how_the_days_are_cut(cuts, habits):
    whole = live(0, 1000, (0, 364), habits=habits)[0]
    parts = live(0, 1000, cuts, habits=habits)
    for name, table in whole.tables.items():
        joined = pa.concat_tables([part.tables[name] for part in parts]).to_pandas()
        if name in REPLACED:
            joined = joined.drop_duplicates(REPLACED[name], keep="last")
        if name == "customers":
            joined = joined.drop(columns=["group_id", "staff_id"])
        expected = table.to_pandas()[list(joined.columns)]
        pd.testing.assert_frame_equal(in_order(joined), in_order(expected), obj=name)
    for name, table in whole.later.items():
        left = parts[-1].later[name].to_pandas()
        pd.testing.assert_frame_equal(in_order(left), in_order(table.to_pandas()), obj=name)
    for one, other in zip(whole.ledger, parts[-1].ledger, strict=True):
        np.testing.assert_array_equal(one, other)


def in_order(frame):
    return frame.sort_values(list(frame.columns), ignore_index=True)


def test_rows_do_not_depend_on_who_else_is_in_the_run():
    alone = live(400, 200, (0, 364))[0]
    names = customer_names(np.arange(400, 600)).to_pylist()
    names += customer_names(np.arange(400, 600), second=True).to_pylist()
    for name, table in alone.tables.items():
        if name == "order_lines":
            continue
        whose = "referrer_id" if name == "referrals" else "customer_id"
        among = frames()[name][frames()[name][whose].isin(names)]
        pd.testing.assert_frame_equal(table.to_pandas(), among.reset_index(drop=True), obj=name)


@pytest.mark.parametrize("name_of_zone", ["Asia/Shanghai", "America/Santiago", "Europe/Berlin"])
def test_rows_are_dated_in_the_days_asked_for_by_the_shops_calendar(name_of_zone):
    zone, cuts = ZoneInfo(name_of_zone), (0, 90, 240, 364)
    stretches = live(0, 600, cuts, zone=name_of_zone)
    for rows, (begins, ends) in zip(stretches, pairwise(cuts), strict=True):
        for name in ("orders", "order_lines", "events", "touches", "points", "feedback"):
            times = rows.tables[name].to_pandas()[BY_NAME[name].dated_by].dt.tz_convert(zone)
            days = (times.dt.tz_localize(None) - pd.Timestamp("2025-01-06")).dt.days
            assert days.between(begins, ends - 1).all(), name


def test_lines_sum_to_their_order_and_returns_mirror_what_was_bought():
    orders, lines = frames()["orders"], frames()["order_lines"]
    sums = lines.groupby("order_id")[["amount", "discount"]].sum()
    paired = orders.set_index("order_id").join(sums, rsuffix="_of_lines")
    assert (paired["amount"] == paired["amount_of_lines"]).all()
    assert (paired["discount"] == paired["discount_of_lines"]).all()
    assert (lines.groupby("order_id")["line_no"].max() == lines.groupby("order_id").size()).all()
    back = orders[orders["amount"] < 0].set_index("return_of")
    bought = orders.set_index("order_id").loc[back.index]
    assert len(back) > 20
    assert (back["amount"] == -bought["amount"]).all()
    assert (back["ordered_at"] > bought["ordered_at"]).all()
    assert (back["customer_id"] == bought["customer_id"]).all()
    quantity = lines.groupby("order_id")["quantity"].sum()
    assert (quantity[back["order_id"]].to_numpy() == -quantity[back.index].to_numpy()).all()


def test_nothing_happens_to_a_customer_before_they_join():
    joined = frames()["customers"].set_index("customer_id")["joined_at"]
    for name in ("orders", "events", "touches", "points", "feedback", "service_contacts"):
        frame = frames()[name]
        at = frame[BY_NAME[name].dated_by]
        assert (at.to_numpy() >= joined[frame["customer_id"]].to_numpy()).all(), name
    orders = frames()["orders"]
    assert not orders.duplicated(["customer_id", "ordered_at"]).any()


def test_touches_reach_only_those_who_allow_them_then():
    touches = frames()["touches"]
    marketing = frames()["consents"].query("purpose == 'marketing'")
    paired = touches.merge(marketing, "left", on=["customer_id", "channel"])
    assert len(paired) == len(touches)
    open_ = paired["granted_at"].notna() & ~(paired["touched_at"] > paired["withdrawn_at"])
    assert (paired.loc[~open_, "status"] == "blocked").all()
    assert (paired.loc[paired["status"] == "blocked", "cost"] == 0).all()
    assert paired["withdrawn_at"].notna().sum() > 100
    randomised = paired["propensity"].notna()
    assert (randomised == paired["arm"].notna()).all()
    assert 0.2 < randomised.mean() < 0.8
    in_chat = frames()["events"].query("event == 'added_to_chat'")
    reached = paired[(paired["channel"] == "chat") & (paired["status"] != "blocked")]
    first = in_chat.groupby("customer_id")["occurred_at"].min()
    known = reached[reached["customer_id"].isin(first.index)]
    assert (known["touched_at"].to_numpy() > first[known["customer_id"]].to_numpy()).all()


def test_touches_of_one_day_follow_one_another_and_opting_out_follows_the_last():
    preset = read_preset("campaign")
    people = make_people(preset, 3, 0, 400)
    luck = keys(luck_key(3, 0), people.number)
    state = begin(preset, people, luck)
    cast = Cast(
        preset, people, make_nature(people), make_rules(preset, 0, 2), 0, luck_key(3, 0), luck
    )
    who = np.repeat(np.arange(400), 20)
    day = np.tile(np.repeat([0, 1], 10), 400).astype(np.int32)
    channel = np.tile(np.arange(10) % 5, 800).astype(np.int8)
    sent = Sent(
        Touches(who, day, channel),
        np.full(len(who), GIVEN, np.int32),
        np.full(len(who), np.nan),
    )
    chronicle: Chronicle = run(cast, state, 0, 2, habits=False, given=sent)
    rows = make_rows(preset, people, state, luck, chronicle, new_ledger(400))
    touches = rows.tables["touches"].to_pandas()
    assert touches["touch_id"].is_unique
    assert (touches["campaign_id"] == "given").all()
    gaps = touches.groupby("customer_id")["touched_at"].diff().dropna()
    assert (gaps > pd.Timedelta(0)).all()
    marketing = rows.tables["consents"].to_pandas().dropna(subset=["channel"])
    ended = marketing.dropna(subset=["withdrawn_at"])
    reached = touches[touches["status"] != "blocked"]
    last = reached.groupby(["customer_id", "channel"])["touched_at"].max()
    when = ended.set_index(["customer_id", "channel"])["withdrawn_at"]
    assert len(when) > 20
    assert (when > last[when.index]).all()
    left = rows.tables["events"].to_pandas().query("event == 'left_group'")
    assert len(left) == (ended["channel"] == "chat").sum()


def test_points_are_never_below_zero_and_follow_the_orders():
    points = frames()["points"].sort_values(["customer_id", "changed_at", "delta"])
    assert set(points["reason"]) == {"order", "burnt", "reversed", "referral"}
    assert (points.groupby("customer_id")["delta"].cumsum() >= 0).all()
    orders = frames()["orders"]
    bought = orders[orders["amount"] > 0]
    earned = np.floor(bought["amount"].astype(float) + 1e-9).groupby(bought["customer_id"]).sum()
    booked = points[points["reason"] == "order"].groupby("customer_id")["delta"].sum()
    pd.testing.assert_series_equal(earned, booked, check_names=False)


def test_tiers_begin_with_the_order_that_reaches_them():
    orders = frames()["orders"]
    bought = orders[orders["amount"] > 0].sort_values(["customer_id", "ordered_at"])
    spent = bought["amount"].astype(float).groupby(bought["customer_id"]).cumsum()
    members = frames()["memberships"]
    limits = {"silver": 300.0, "gold": 900.0}
    at = bought.assign(spent=spent).set_index(["customer_id", "ordered_at"])["spent"]
    reached = at[list(zip(members["customer_id"], members["started_at"], strict=True))]
    assert (reached.to_numpy() >= members["tier"].map(limits).to_numpy()).all()
    assert set(members["tier"]) == {"silver", "gold"}
    gold = members[members["tier"] == "gold"].set_index("customer_id")["started_at"]
    silver = members[members["ended"]].set_index("customer_id")
    assert (silver["ended_at"] == gold[silver.index]).all()


def test_opinions_are_worse_after_a_failure_and_say_so():
    said = frames()["feedback"]
    assert said["score"].between(0, 10).all()
    assert said["text"].notna().mean() == pytest.approx(0.7, abs=0.08)
    preset = read_preset("campaign")
    pool = make_opinions(tuple(preset.baskets.categories))
    trouble = set()
    for tone in range(3):
        for language in range(2):
            first, count = pool.first[language, 0, tone], pool.count[language, 0, tone]
            trouble |= set(pool.texts[first : first + count])
    failed = said["text"].isin(trouble)
    assert failed.sum() > 10
    assert said.loc[failed, "score"].mean() < said.loc[~failed, "score"].mean() - 2


def test_there_are_many_opinions_in_each_language():
    pool = make_opinions(("护肤", "tea"))
    assert len(set(pool.texts)) == len(pool.texts)
    for language in range(2):
        at, count = pool.first[language], pool.count[language]
        texts = {
            pool.texts[k] for a, c in zip(at.flat, count.flat, strict=True) for k in range(a, a + c)
        }
        assert len(texts) >= 60
        chinese = [any("一" <= sign <= "鿿" for sign in text) for text in texts]
        assert all(chinese) if language == 0 else not any(chinese)


def test_ids_lead_back_to_people_and_betray_neither_order_nor_twins():
    number = np.concatenate([np.arange(5000), 10**9 + np.arange(5000)])
    first, second = customer_names(number), customer_names(number, second=True)
    for names, other in ((first, False), (second, True)):
        found, is_second = numbers_of(names)
        np.testing.assert_array_equal(found, number)
        assert (is_second == other).all()
    digits = [np.array([int(name[1:]) for name in ids.to_pylist()]) for ids in (first, second)]
    assert len(set(digits[0]) | set(digits[1])) == 2 * len(number)
    assert abs(np.corrcoef(np.arange(5000), digits[0][:5000])[0, 1]) < 0.05
    assert abs(np.corrcoef(digits[0], digits[1])[0, 1]) < 0.05
    assert len(set(digits[1] - digits[0])) > 100
    odd = ["", "c1", "x0000000001", "c000000000１", "c9999999999", "c0000000001 ", None]
    assert (numbers_of(odd)[0] == -1).all()


def test_rings_share_a_device_and_others_do_not():
    identities = frames()["identities"]
    devices = identities[identities["id_type"] == "device"]
    sizes = devices.groupby("id_value")["customer_id"].nunique()
    people = make_people(read_preset("campaign"), 7, 0, 3000)
    rings = people.number[people.kind == 3]
    assert sizes.max() <= 8
    assert (sizes > 1).sum() == len(rings) // 8
    phones = identities[identities["id_type"] == "phone"]["id_value"]
    assert phones.is_unique
    assert phones.str.fullmatch(r"10\d{10}").all()


def test_invited_people_name_who_invited_them():
    referrals, customers = frames()["referrals"], frames()["customers"]
    invited = customers.set_index("customer_id").loc[referrals["invitee_id"]]
    assert (invited["source_channel"] == "referral").all()
    assert referrals["referrer_id"].isin(customers["customer_id"]).all()
    rewards = frames()["points"].query("reason == 'referral'")
    assert len(rewards) == len(referrals) > 0


def test_costs_of_parts_add_up_and_match_the_rows():
    preset = read_preset("campaign")
    parts = [count_costs(preset, rows.tables) for rows in live(0, 1000, (0, 70, 364))]
    whole = count_costs(preset, live(0, 1000, (0, 364))[0].tables)
    assert channel_costs(preset, parts).equals(channel_costs(preset, whole))
    costs = channel_costs(preset, count_costs(preset, year().tables)).to_pandas()
    assert not costs.duplicated(["channel", "period"]).any()
    touched = frames()["touches"].groupby("channel")["cost"].sum()
    for name in ("sms", "voice", "chat", "push"):
        assert costs.loc[costs["channel"] == name, "cost"].sum() == touched[name]
    new = frames()["customers"].query("joined_at >= '2025-01-05 16:00:00+00:00'")
    assert costs["acquired"].sum() == len(new)


def test_wall_clocks_follow_their_zone_through_the_year():
    clock = Clock(pd.Timestamp("2025-01-06").date(), "Europe/Berlin")
    local = pd.date_range("2024-12-30", "2025-12-30", freq="7h", unit="s")
    seconds = ((local - pd.Timestamp("2025-01-06")) // pd.Timedelta("1s")).to_numpy()
    expected = local.tz_localize("Europe/Berlin", ambiguous=True, nonexistent="shift_forward")
    found = pd.to_datetime(clock.utc(seconds), unit="us", utc=True)
    assert (found == expected.tz_convert("UTC")).all()


def test_nobody_makes_empty_tables_of_the_same_columns():
    rows = live(0, 0, (0, 7))[0]
    assert all(table.num_rows == 0 for table in rows.tables.values())
    assert {n: t.schema for n, t in rows.tables.items()} == {
        n: t.schema for n, t in year().tables.items()
    }
