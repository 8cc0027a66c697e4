"""The audit of columns, purposes and ids; and consent as of the day of the run."""

import json
from datetime import datetime

import ibis
import pandas as pd
import pyarrow as pa
import pytest
from planted import write_notebook

from journeylab import privacy
from journeylab.audit import INSIDE, PSEUDONYM, RAW, take_audit
from journeylab.errors import ContractError
from journeylab.runs import make_plan, record, run
from journeylab.sharing import Known, share
from journeylab.tables import Tables, collect, connect_duckdb
from journeylab.tables.usage import columns_used

INSTANT = pa.timestamp("us")


@pytest.fixture
def tables() -> Tables:
    connection = connect_duckdb(threads=1)
    day = datetime(2024, 1, 1)
    content = {
        "orders": pa.table(
            {"order_id": ["1", "2", "3"], "customer_id": ["a", "b", "c"], "amount": [1.0, 2.0, 3.0],
             "store_id": ["s", "s", "t"], "currency": ["EUR"] * 3}
        ),
        "customers": pa.table({"customer_id": ["a", "b", "c"], "city": ["x", "y", "x"]}),
        "consents": pa.table(
            {"customer_id": ["a", "b"], "purpose": ["ads", "ads"],
             "granted_at": pa.array([day, day], INSTANT),
             "withdrawn_at": pa.array([None, datetime(2024, 4, 15)], INSTANT)}
        ),
    }  # fmt: skip
    laid = {name: connection.create_table(name, table) for name, table in content.items()}
    return Tables(**laid, source="tests")


def test_only_columns_that_the_answer_needs_count(tables):
    spent = tables.orders.group_by("store_id").agg(total=tables.orders.amount.sum())
    assert columns_used(spent) == {"orders": {"store_id": None, "amount": None}}
    some = tables.orders.filter(tables.orders.currency == "EUR").select("amount")
    assert columns_used(some) == {"orders": {"currency": None, "amount": None}}


def test_an_id_is_raw_a_pseudonym_or_stays_inside(tables):
    by_city = tables.orders.inner_join(tables.customers, "customer_id").group_by("city")
    counted = by_city.agg(n=ibis._.customer_id.nunique())
    assert columns_used(counted)["orders"]["customer_id"] == INSIDE
    assert columns_used(tables.orders.select("customer_id"))["orders"]["customer_id"] == RAW
    hidden = privacy.pseudonymise(tables, "key").orders.select("customer_id", "amount")
    assert columns_used(hidden) == {"orders": {"customer_id": PSEUDONYM, "amount": None}}
    both = hidden.select("customer_id").union(tables.customers.select("customer_id"))
    assert columns_used(both)["customers"]["customer_id"] == RAW


def test_the_runner_gets_columns_purposes_and_rows_withheld(tables, tmp_path, monkeypatch):
    collect(tables.orders.select("store_id"))
    monkeypatch.setenv("JOURNEYLAB_RUN_FOLDER", str(tmp_path))
    allowed = privacy.consented(tables, "ads", "2024-03-31", run_date="2024-05-01")
    collect(privacy.pseudonymise(allowed, "key").orders.select("customer_id", "amount"))
    audit = take_audit(tmp_path)
    assert audit["tables"]["orders"]["ids"] == {PSEUDONYM: ["customer_id"]}
    assert "amount" in audit["tables"]["orders"]["columns"]
    assert "store_id" not in audit["tables"]["orders"]["columns"]
    assert audit["purposes"] == [
        {"purpose": "ads", "as_of": "2024-03-31",
         "withheld": {"customers": {"no_record": 1}, "orders": {"no_record": 1}}},
        {"purpose": "ads", "as_of": "2024-05-01",
         "withheld": {"customers": {"withdrawn": 1}, "orders": {"withdrawn": 1}}},
    ]  # fmt: skip
    assert list(tmp_path.iterdir()) == []
    assert take_audit(tmp_path) is None


def test_who_withdrew_by_the_day_of_the_run_is_used_no_more(tables):
    def customers(**days: str) -> list[str]:
        return collect(privacy.consented(tables, "ads", "2024-03-31", **days).orders)[
            "customer_id"
        ].tolist()

    assert customers() == ["a", "b"]
    assert customers(run_date="2024-04-14") == ["a", "b"]
    assert customers(run_date="2024-04-15") == ["a"]
    counts = collect(privacy.withheld(tables, "ads", "2024-03-31", run_date="2024-05-01"))
    assert counts.to_dict("records") == [
        {"table": "customers", "reason": "no_record", "rows": 1},
        {"table": "customers", "reason": "withdrawn", "rows": 1},
        {"table": "orders", "reason": "no_record", "rows": 1},
        {"table": "orders", "reason": "withdrawn", "rows": 1},
    ]
    with pytest.raises(ContractError, match="must not be before as_of"):
        customers(run_date="2024-03-30")


def test_every_id_of_the_tables_is_known_to_the_gate(tables):
    assert privacy.ids_of(tables) == {"a", "b", "c"}


def test_a_record_keeps_pseudonyms_unless_ids_are_allowed(tmp_path, monkeypatch):
    monkeypatch.setenv("JOURNEYLAB_RUN_FOLDER", str(tmp_path))
    frame = pd.DataFrame({"customer_id": ["00017", "00018"], "clv": [1.0, 2.0]})
    hidden = [privacy.pseudonym_of(each, privacy.project_key()) for each in frame["customer_id"]]
    record("worth", frame)
    record("indexed", frame.set_index("customer_id"))
    record("first", {"customer_id": "00017", "clv": 1.0})
    for name in ("worth", "indexed"):
        kept = pd.read_parquet(tmp_path / "tables" / f"{name}.parquet")
        assert kept["customer_id"].tolist() == hidden
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["first"]["customer_id"] == hidden[0]
    assert frame["customer_id"].tolist() == ["00017", "00018"]
    monkeypatch.setenv("JOURNEYLAB_ALLOW_IDS", "1")
    record("local", frame)
    kept = pd.read_parquet(tmp_path / "tables" / "local.parquet")
    assert kept["customer_id"].tolist() == ["00017", "00018"]


SHOWN = """\
import pandas as pd
from journeylab.privacy import project_key, pseudonymise
from journeylab.tables import collect, open_tables
tables = open_tables(data, ["orders"])
rows = collect(tables.orders.select("customer_id", "amount"))
rows"""


def test_no_raw_id_is_in_any_file_of_a_run_and_the_manifest_says_what_was_used(
    tmp_path, monkeypatch
):
    monkeypatch.delenv("JOURNEYLAB_ALLOW_IDS", raising=False)
    (tmp_path / "orders.csv").write_text(
        "order_id,customer_id,ordered_at,amount\n1,VIP-00017,2024-01-01,2.5\n2,VIP-00018,2024-01-02,3\n"
    )
    write_notebook(
        tmp_path / "notebooks" / "10_first.ipynb",
        'data: str = "orders.csv"  # orders file',
        SHOWN,
        'rows.set_index("customer_id")',
        'rows["customer_id"]',
        'rows.groupby("customer_id")["amount"].sum()',
        'record("rows", rows)\nrecord("sums", rows.set_index("customer_id")["amount"])\n'
        'record("best", {"customer_id": rows.loc[0, "customer_id"]})',
    )
    plan = make_plan(tmp_path / "notebooks", ["first"], caller=tmp_path)
    result = run(plan, out=tmp_path / "runs")
    entry = result.manifest["notebooks"][0]
    assert entry["state"] == "done", entry["error"]
    assert entry["audit"]["tables"]["orders"]["ids"] == {RAW: ["customer_id"]}
    assert {"amount", "customer_id"} <= set(entry["audit"]["tables"]["orders"]["columns"])
    for path in (tmp_path / "runs").rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            if path.suffix == ".parquet":
                content = pd.read_parquet(path).to_csv().encode()
            assert b"VIP-000" not in content, path.name
    share(result.folder, tmp_path / "report.zip", known=Known())
    page = (result.folder / "10_first" / "report.html").read_text(encoding="utf-8")
    assert privacy.pseudonym_of("VIP-00017", privacy.project_key()) in page
