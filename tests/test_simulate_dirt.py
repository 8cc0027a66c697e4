import json

import pandas as pd
import pyarrow.parquet as pq
import pytest

from journeylab.contract import REASONS
from journeylab.simulate.chance import keys, luck_key
from journeylab.simulate.dirt import ONLINE, TILL, soil
from journeylab.simulate.life import begin, make_nature, make_rules
from journeylab.simulate.people import make_people
from journeylab.simulate.preset import read_preset
from journeylab.simulate.rows import make_rows, new_ledger
from journeylab.simulate.running import Cast, run
from journeylab.tables import check, open_tables
from journeylab.tables.profile.lateness import lateness

PEOPLE = 4000


@pytest.fixture(scope="module")
def tables():
    preset = read_preset("campaign")
    people = make_people(preset, 11, 0, PEOPLE)
    world = luck_key(11, 0)
    luck = keys(world, people.number)
    state = begin(preset, people, luck)
    rules = make_rules(preset, 0, 364)
    cast = Cast(preset, people, make_nature(people), rules, 0, world, luck)
    chronicle = run(cast, state, 0, 364, habits=True)
    return make_rows(preset, people, state, luck, chronicle, new_ledger(PEOPLE)).tables


def written(tables, folder, pieces=2):
    """The tables in a folder, as a world writes them."""
    for name, table in tables.items():
        place = folder / name
        place.mkdir(parents=True)
        size = -(-table.num_rows // pieces)
        for part in range(pieces):
            pq.write_table(table.slice(part * size, size), place / f"part-{part:05d}.parquet")
    settings = 'business_tz = "Asia/Shanghai"\nreturns = "net"\n'
    (folder / "tables.toml").write_text(settings)
    return folder


@pytest.fixture(scope="module")
def soiled(tables, tmp_path_factory):
    folder = written(tables, tmp_path_factory.mktemp("dirt") / "world")
    return folder, soil(folder, read_preset("campaign"), 11)


def test_the_intake_refuses_exactly_what_was_planted(soiled, tables):
    folder, planted = soiled
    found = check(folder).to_json()
    for name, table in tables.items():
        one = planted.get(name)
        assert found[name]["reasons"] == (one.refused if one else {}), name
        assert found[name]["read"] == (one.rows if one else table.num_rows), name
        assert found[name]["accepted"] + found[name]["quarantined"] == found[name]["read"]
    reasons = {reason for one in planted.values() for reason in one.refused}
    assert reasons <= set(REASONS)
    assert len(reasons) == 8
    told = json.loads((folder / "truth" / "dirt.json").read_text("utf-8"))
    assert told["orders"]["refused"] == planted["orders"].refused


def test_what_is_accepted_is_the_clean_world_without_the_rows_that_were_spoilt(soiled, tables):
    folder, planted = soiled
    opened = open_tables(folder, resolve_identities=False)
    orders = opened.orders.to_pyarrow().to_pandas().set_index("order_id")
    clean = tables["orders"].to_pandas().set_index("order_id")
    lost = ("missing", "unreadable_number", "unreadable_time", "time_out_of_range")
    assert len(clean) - len(orders) == sum(planted["orders"].refused[reason] for reason in lost)
    same = clean.loc[orders.index]
    assert (orders["amount"] == same["amount"]).all()
    assert (orders["customer_id"] == same["customer_id"]).all()
    seconds = same["ordered_at"].dt.floor("s").dt.tz_localize(None)
    assert (pd.to_datetime(orders["ordered_at"]).dt.tz_localize(None) == seconds).all()


def test_tills_write_chinese_in_gb18030_and_apps_utf8(soiled):
    folder, _ = soiled
    encodings = {file.file: file.encoding for file in check(folder).files if file.table == "orders"}
    assert encodings == {TILL: "gb18030", ONLINE: "utf-8"}
    till = (folder / "orders" / TILL).read_bytes().decode("gb18030")
    assert "门店" in till
    assert "号店" in till


def test_some_rows_arrive_days_late(soiled):
    folder, planted = soiled
    found = lateness(open_tables(folder), arrival="arrived_at")
    for name in ("orders", "events"):
        assert found[name].method == "arrival"
        lags = found[name].lags.set_index("share")["lag_days"]
        assert lags.max() >= 3
        assert planted[name].late > 0
    assert planted["events"].skewed > 0


def test_the_same_seed_plants_the_same_bytes_however_the_files_were_cut(tables, tmp_path):
    preset = read_preset("campaign")
    folders = [written(tables, tmp_path / str(pieces), pieces) for pieces in (1, 3)]
    for folder in folders:
        soil(folder, preset, 5)
    for name in ("orders", "events", "touches", "truth"):
        one, other = (
            {file.name: file.read_bytes() for file in (folder / name).iterdir()}
            for folder in folders
        )
        assert one == other


def test_a_small_world_is_soiled_too(tables, tmp_path):
    few = {name: table.slice(0, 3) for name, table in tables.items()}
    folder = written(few, tmp_path / "few", 1)
    planted = soil(folder, read_preset("campaign"), 1)
    found = check(folder).to_json()
    for name, one in planted.items():
        assert found[name]["reasons"] == one.refused, name
