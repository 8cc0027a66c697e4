"""Intake: rows read = rows accepted + rows quarantined, whatever the file holds."""

import gzip
from collections import Counter
from decimal import Decimal
from pathlib import Path

import ibis
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from journeylab.errors import ContractError
from journeylab.tables import (
    check,
    collect,
    connect_duckdb,
    fingerprint,
    open_and_check,
    open_tables,
)

HEADER = "order_id,customer_id,ordered_at,amount,note"


def write(folder: Path, *rows: str, name: str = "orders.csv", encoding: str = "utf-8") -> Path:
    path = folder / name
    path.write_bytes("\n".join([HEADER, *rows, ""]).encode(encoding))
    return path


def reasons(path: Path) -> dict[str, int]:
    return check(path).to_json()["orders"]["reasons"]


# --- what is read exactly -------------------------------------------------------------------


def test_ids_keep_every_digit_and_leading_zero(tmp_path):
    path = write(tmp_path, "00012,12345678901234567890123,2024-01-05,1.00,x")
    orders = collect(open_tables(path).orders)
    assert orders.loc[0, ["order_id", "customer_id"]].tolist() == [
        "00012",
        "12345678901234567890123",
    ]


def test_money_is_exact_decimal(tmp_path):
    path = write(tmp_path, *(f"{n},a,2024-01-05,0.10,x" for n in range(1000)))
    orders = open_tables(path).orders
    assert orders.amount.sum().to_pyarrow().as_py() == Decimal("100.00")
    assert str(orders.schema()["amount"]) == "decimal(18, 2)"


@pytest.mark.parametrize(
    ("written", "utc"),
    [
        ("2024-01-05", "2024-01-05"),
        ("2024-01-05 10:11:12", "2024-01-05 10:11:12"),
        ("2024-01-05T10:11:12+08:00", "2024-01-05 02:11:12"),
        ("2024-01-05 10:11:12Z", "2024-01-05 10:11:12"),
        ("2024/01/05 10:11", "2024-01-05 10:11:00"),
        ("20240105", "2024-01-05"),
        ("1704449472", "2024-01-05 10:11:12"),
        ("1704449472123", "2024-01-05 10:11:12.123"),
        ("1704449472123456", "2024-01-05 10:11:12.123456"),
        ("1704449472123456789", "2024-01-05 10:11:12.123456"),
        ("2024年1月5日", "2024-01-05"),
    ],
)
def test_times_are_read_in_every_form_that_needs_no_guessing(tmp_path, written, utc):
    path = write(tmp_path, f"1,a,{written},1.00,x")
    tables = open_tables(path)
    assert tables.orders.schema()["ordered_at"].timezone is None
    orders = collect(tables.orders)
    assert orders.loc[0, "ordered_at"] == pd.Timestamp(utc)
    assert orders.loc[0, "business_date"] == pd.Timestamp(utc).normalize()


def test_business_date_is_the_day_in_the_business_zone(tmp_path):
    path = write(
        tmp_path,
        "1,a,2024-01-05 00:30:00,1.00,x",  # wall clock in Shanghai
        "2,a,2024-01-04T23:30:00Z,1.00,x",  # half past seven the next morning in Shanghai
    )
    orders = collect(open_tables(path, business_tz="Asia/Shanghai").orders)
    assert orders["ordered_at"].tolist() == [
        pd.Timestamp("2024-01-04 16:30:00"),
        pd.Timestamp("2024-01-04 23:30:00"),
    ]
    assert orders["business_date"].tolist() == [pd.Timestamp("2024-01-05")] * 2


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (",a,2024-01-05,1.00,x", "missing"),
        ("1,,2024-01-05,1.00,x", "missing"),
        ("1,NULL,2024-01-05,1.00,x", "missing"),
        ("1,nan,2024-01-05,1.00,x", "missing"),
        ("1,a,05/01/2024,1.00,x", "unreadable_time"),
        ("1,a,2024-02-30,1.00,x", "unreadable_time"),
        ("1,a,epoch,1.00,x", "unreadable_time"),
        ("1,a,12345,1.00,x", "unreadable_time"),
        ("1,a,infinity,1.00,x", "unreadable_time"),
        ("1,a,1024-01-05,1.00,x", "time_out_of_range"),
        ("1,a,2024-01-05,abc,x", "unreadable_number"),
        ("1,a,2024-01-05,1_000,x", "unreadable_number"),
        ("1,a,2024-01-05,inf,x", "not_finite"),
        ("1,a,2024-01-05,99999999999999999,x", "money_out_of_range"),
        ("1,a,2024-01-05,1.00", "too_few_columns"),
        ("1,a,2024-01-05,1.00,x,y", "too_many_columns"),
        ('1,a,2024-01-05,1.00,"x', "broken_quoting"),
        ('1,a,2024-01-05,1.00,"x"y', "broken_quoting"),
    ],
)
def test_a_row_that_cannot_be_used_is_quarantined_with_its_reason(tmp_path, row, reason):
    good = [f"g{n},a,2024-01-05,1.00,fine" for n in range(3)]
    report = check(write(tmp_path, *good[:2], row, good[2]))
    assert report.to_json() == {
        "orders": {"read": 4, "accepted": 3, "quarantined": 1, "reasons": {reason: 1}}
    }
    refused = report.quarantine.iloc[0]
    assert (refused["file"], refused["line"], refused["raw"]) == ("orders.csv", 4, row)


def test_of_one_id_with_different_content_the_first_in_file_order_is_kept(tmp_path):
    path = write(
        tmp_path,
        "7,a,2024-01-05,1.00,first",
        "7,b,2024-01-05,2.00,second",
        "7,a,2024-01-05,1.00,first",
        "8,a,2024-01-05,1.00,other",
    )
    tables, report = open_and_check(path)
    assert report.to_json()["orders"]["reasons"] == {"conflicting_key": 1, "exact_duplicate": 1}
    assert collect(tables.orders)["note"].tolist() == ["first", "other"]


@pytest.mark.parametrize(
    ("policy", "accepted", "quarantined", "set_aside"),
    [("net", 3, 0, None), ("separate", 3, 0, 1), ("reject", 2, 1, None)],
)
def test_negative_amounts_follow_the_returns_policy(
    tmp_path, policy, accepted, quarantined, set_aside
):
    path = write(
        tmp_path,
        "1,a,2024-01-05,5.00,x",
        "2,a,2024-01-06,-5.00,x",
        "3,a,2024-01-07,1.00,x",
    )
    tables = open_tables(path, returns=policy, max_quarantined=1)
    kept = 3 - (set_aside or 0) - quarantined
    assert tables.orders.count().execute() == kept
    assert accepted + quarantined == 3
    assert (tables.returns.count().execute() if tables.returns is not None else None) == set_aside


# --- encodings, shapes of files ---------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "gb18030", "gbk"])
def test_chinese_text_is_read_in_the_encoding_detected(tmp_path, encoding):
    path = write(tmp_path, "1,客户甲,2024-01-05,1.00,你好世界", encoding=encoding)
    row = collect(open_tables(path).orders).loc[0]
    assert (row["customer_id"], row["note"]) == ("客户甲", "你好世界")


def test_bytes_the_encoding_does_not_know_cost_one_row(tmp_path):
    path = tmp_path / "orders.csv"
    rows = [f"{n},客户甲,2024-01-05,1.00,你好".encode() for n in range(20)]
    rows[7] = b"7,bad\xff,2024-01-05,1.00,x"
    path.write_bytes(b"\n".join([HEADER.encode(), *rows]))
    assert check(path).to_json()["orders"] == {
        "read": 20,
        "accepted": 19,
        "quarantined": 1,
        "reasons": {"bad_encoding": 1},
    }


def test_an_encoding_that_cannot_be_told_is_asked_for(tmp_path):
    path = write(
        tmp_path,
        *(f"{n},Ren\u00e9 a,2024-01-05,1.00,caf\u00e9 \u00e0 la carte" for n in range(9)),
        encoding="cp1252",
    )
    with pytest.raises(ContractError, match="name its encoding"):
        check(path)


def test_folder_maps_chinese_file_and_column_names(tmp_path):
    (tmp_path / "订单.csv").write_bytes(
        "单号;用户编号;下单时间;金额\n001;甲;2024-01-05 08:00;1234\n".encode("gb18030")
    )
    (tmp_path / "tables.toml").write_text(
        """
business_tz = "Asia/Shanghai"
[orders]
file = "订单.csv"
encoding = "gb18030"
unit = "cents"
[orders.columns]
order_id = "单号"
customer_id = "用户编号"
ordered_at = "下单时间"
amount = "金额"
""",
        encoding="utf-8",
    )
    row = collect(open_tables(tmp_path).orders).loc[0]
    assert row["order_id"] == "001"
    assert row["customer_id"] == "甲"
    assert row["amount"] == 12.34
    assert row["ordered_at"] == pd.Timestamp("2024-01-05 00:00")
    assert row["business_date"] == pd.Timestamp("2024-01-05")


def test_gzip_excel_and_parquet_give_the_same_table(tmp_path):
    rows = ["0007,00012,2024-01-05 10:00:00,12.30,a", "0008,b,2024-01-06 00:00:00,-1.00,"]
    plain = write(tmp_path, *rows)
    zipped = tmp_path / "zipped.csv.gz"
    zipped.write_bytes(gzip.compress(plain.read_bytes()))
    frame = pd.read_csv(plain, dtype=str)
    frame.to_excel(tmp_path / "sheet.xlsx", index=False)
    typed = frame.assign(
        ordered_at=pd.to_datetime(frame["ordered_at"]), amount=frame["amount"].astype(float)
    )
    typed.to_parquet(tmp_path / "typed.parquet")
    expected = collect(open_tables(plain).orders)
    for name in ("zipped.csv.gz", "sheet.xlsx", "typed.parquet"):
        pd.testing.assert_frame_equal(collect(open_tables(tmp_path / name).orders), expected)


def test_quoted_fields_may_hold_delimiters_breaks_and_quotes(tmp_path):
    path = write(tmp_path, '1,a,2024-01-05,1.00,"one, two\nthree ""four"""', "2,a,2024-01-06,1,x")
    assert collect(open_tables(path).orders)["note"].tolist() == ['one, two\nthree "four"', "x"]


def test_a_quotation_mark_inside_a_bare_field_is_a_character(tmp_path):
    path = write(
        tmp_path, '1,a,2024-01-05,1.00,5" screen', '2,a,2024-01-05,1.00,"z"', "3,a,2024-01-06,1,x"
    )
    assert collect(open_tables(path).orders)["note"].tolist() == ['5" screen', "z", "x"]


def test_parts_of_a_folder_are_read_in_order_and_counted_by_file(tmp_path):
    parts = tmp_path / "orders"
    parts.mkdir()
    write(parts, "1,a,2024-01-05,1.00,x", "2,a,nonsense,1.00,x", name="b.csv")
    write(parts, "1,a,2024-01-04,9.00,x", name="a.csv")
    report = check(tmp_path)
    assert [(f.file, f.read, f.accepted, dict(f.reasons)) for f in report.files] == [
        ("a.csv", 1, 1, {}),
        ("b.csv", 2, 0, {"conflicting_key": 1, "unreadable_time": 1}),
    ]
    assert report.quarantine["line"].tolist() == [2, 3]


def test_rows_stay_in_file_order_on_several_threads(tmp_path):
    """The place of a row is its line: a million rows, the last three refused."""
    path = tmp_path / "orders.csv"
    lines = [f"{n},c{n % 977},2024-01-05,1.00" for n in range(300_000)]
    lines[299_998] = "299998,c1,never,1.00"
    lines[150_000] = "150000,,2024-01-05,1.00"
    path.write_text("order_id,customer_id,ordered_at,amount\n" + "\n".join(lines))
    report = check(path)
    assert report.quarantine["line"].tolist() == [150_002, 300_000]
    assert report.quarantine["raw"].tolist() == [lines[150_000], lines[299_998]]


def counts_of(folder: Path, content: str | bytes, name: str = "orders.csv") -> dict[str, int]:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    counts = check(path).to_json()["orders"]
    assert counts["read"] == counts["accepted"] + counts["quarantined"]
    return counts["reasons"]


BARE = "order_id,customer_id,ordered_at,amount"


@pytest.mark.parametrize(
    ("content", "found"),
    [
        # the engine drops an empty field too many, and reads a blank beside a quoted field kindly
        (f"{BARE}\n1,a,2024-01-01,5,\n2,b,2024-01-01,6\n", {"too_many_columns": 1}),
        (f'{BARE},note\n1,a,2024-01-01,5, "x, y"\n2,b,2024-01-01,6,z\n', {"too_many_columns": 1}),
        (f"\n\n{BARE}\n1,a,2024-01-01,5\n2,b,bad,5\n", {"unreadable_time": 1}),
        (f"{BARE}\r1,a,2024-01-01,5\r2,b,bad,5\r", {"unreadable_time": 1}),
        (f"{BARE},rowid\n1,a,2024-01-01,5,2\n2,b,bad,6,0\n", {"unreadable_time": 1}),
        (f"{BARE},_place,_refuse,_reason\n1,a,2024-01-01,5,x,y,z\n", {}),
        (f"{BARE},Business_Date\n1,a,2024-01-01,5,x\n", {}),
        (f"{BARE}\n1,1.23457E+22,2024-01-01,5\n", {"inexact_id": 1}),
        (f"{BARE}\n", {}),
    ],
)
def test_shapes_of_text_that_were_once_misread(tmp_path, content, found):
    assert counts_of(tmp_path, content) == found


def test_unreadable_bytes_are_found_in_a_file_that_is_recoded(tmp_path):
    body = f"{BARE}\n1,a,2024-01-01,5\n".encode() + b"2,b\xff,2024-01-01,5\n"
    assert counts_of(tmp_path, gzip.compress(body, mtime=0), "orders.csv.gz") == {"bad_encoding": 1}


@pytest.mark.parametrize(
    ("written", "utc"),
    [
        ("2024-01-01T10:00:00Z ", "2024-01-01 10:00"),
        ("2024-1-1 9:00:00+00", "2024-01-01 09:00"),
        ("1700000000.5", "2023-11-14 22:13:20.5"),
        ("2024-01-01 10:00:00 UTC", None),
        ("202401011200", None),
        ("EPOCH", None),
    ],
)
def test_an_offset_is_never_dropped_and_a_doubtful_time_never_guessed(tmp_path, written, utc):
    path = tmp_path / "orders.csv"
    path.write_text(f"{BARE}\n1,a,{written},5\n")
    tables, report = open_and_check(path, business_tz="Asia/Shanghai")
    if utc is None:
        assert report.to_json()["orders"]["reasons"] == {"unreadable_time": 1}
    else:
        assert collect(tables.orders).loc[0, "ordered_at"] == pd.Timestamp(utc)


@pytest.mark.parametrize(
    ("cents", "amount"),
    [("900719925474099301", "9007199254740993.01"), ("-5", "-0.05"), ("1.5", None)],
)
def test_cents_never_pass_through_a_float(tmp_path, cents, amount):
    (tmp_path / "orders.csv").write_text(f"{BARE}\n1,a,2024-01-01,{cents}\n")
    (tmp_path / "tables.toml").write_text('[orders]\nunit = "cents"')
    tables, report = open_and_check(tmp_path)
    if amount is None:
        assert report.to_json()["orders"]["reasons"] == {"money_out_of_range": 1}
    else:
        assert tables.orders.amount.sum().to_pyarrow().as_py() == Decimal(amount)


def test_signs_of_a_pattern_in_a_file_name_read_that_file(tmp_path):
    (tmp_path / "o[1].csv").write_text(f"{BARE}\n1,a,2024-01-01,5\n")
    (tmp_path / "o1.csv").write_text(f"{BARE}\n9,a,2024-01-01,5\n")
    assert collect(open_tables(tmp_path / "o[1].csv").orders)["order_id"].tolist() == ["1"]


def test_an_attribute_in_two_types_is_kept_as_text(tmp_path):
    parts = tmp_path / "orders"
    parts.mkdir()
    row = {"order_id": ["1"], "customer_id": ["a"], "ordered_at": ["2024-01-01"], "amount": [1.0]}
    pq.write_table(pa.table({**row, "x": [7]}), parts / "a.parquet")
    pq.write_table(pa.table({**row, "order_id": ["2"], "X": [7.6]}), parts / "b.parquet")
    (parts / "c.csv").write_text(f"{BARE},x\n3,c,2024-01-01,5,Q\n")
    assert collect(open_tables(tmp_path).orders)["x"].tolist() == ["7", "7.6", "Q"]


@pytest.mark.parametrize(
    ("columns", "found"),
    [
        ({"customer_id": [float("nan"), 1e300]}, {"inexact_id": 2}),
        ({"ordered_at": [1e300, float("nan")]}, {"unreadable_time": 2}),
        ({"customer_id": [{"a": 1}, {"a": 2}]}, "customer_id .* must be id"),
        ({"ordered_at": [True, False]}, "ordered_at .* must be timestamp"),
    ],
)
def test_typed_columns_are_refused_by_row_or_by_name_and_never_crash(tmp_path, columns, found):
    row = {"order_id": ["1", "2"], "customer_id": ["a", "b"], "ordered_at": ["2024-01-01"] * 2}
    pq.write_table(pa.table({**row, "amount": [1.0, 2.0], **columns}), tmp_path / "orders.parquet")
    if isinstance(found, dict):
        assert check(tmp_path).to_json()["orders"]["reasons"] == found
        return
    with pytest.raises(ContractError, match=found):
        check(tmp_path)


def test_an_excel_sheet_keeps_its_rows_its_columns_and_its_doubts(tmp_path):
    from openpyxl import Workbook

    book = Workbook()
    sheet = book.active
    sheet.append(["order_id", "customer_id", "ordered_at", "amount"])
    sheet.append(["1", 12345678901234567890, "2024-01-01", 5])
    sheet.append([])
    sheet.append(["2", "b", "bad", 5])
    book.save(tmp_path / "orders.xlsx")
    refused = check(tmp_path).quarantine
    assert refused[["line", "reason"]].values.tolist() == [
        [2, "inexact_id"],
        [4, "unreadable_time"],
    ]
    sheet["F4"] = "stray"
    book.save(tmp_path / "orders.xlsx")
    with pytest.raises(ContractError, match="row 4 holds a value in column 6"):
        check(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("orders.csv.gz", gzip.compress(b"x" * 1000, mtime=0)[:-9], "cannot be read to its end"),
        ("orders.parquet", b"junk", "cannot be read as Parquet"),
        ("orders.xlsx", b"junk", "cannot be read as an Excel file"),
        ("shop.duckdb", b"junk" * 2000, "cannot be opened as a DuckDB file"),
    ],
)
def test_a_broken_file_is_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ContractError, match=f"{name} {message}"):
        check(tmp_path / name)


@pytest.mark.parametrize(
    ("settings_text", "message"),
    [
        ('[orders.columns]\namount = "#row"', "only order_id and touch_id can"),
        ('[orders.columns]\ncosts = "x"', "did you mean 'cost'"),
        ('business_tz = "Asia"', "no time zone 'Asia'"),
        ('[orders]\nencoding = "hex"', "no encoding called 'hex'"),
        ('[orders]\nencoding = "utf-16"', "cannot be read as utf-16"),
        ('[orders]\ntime_format = "%Q"', "format specifier"),
        ('[customers]\ntable = "x"', "here name a file"),
    ],
)
def test_a_setting_that_cannot_be_meant_is_refused(tmp_path, settings_text, message):
    write(tmp_path, "1,a,2024-01-05,1.00,x")
    (tmp_path / "tables.toml").write_text(settings_text)
    with pytest.raises(ContractError, match=message):
        check(tmp_path)


def test_a_person_in_two_arms_after_merging_is_counted_and_kept(tmp_path):
    (tmp_path / "assignments.csv").write_text(
        "experiment_id,customer_id,variant\ne,a,T\ne,b,C\ne,c,C\n"
    )
    (tmp_path / "identities.csv").write_text(
        "customer_id,id_type,id_value\na,phone,1\nb,Phone ,1\n"
    )
    tables, report = open_and_check(tmp_path)
    assert report.merges.repeated == {"assignments": 1}
    assert tables.assignments.count().execute() == 3


@pytest.mark.parametrize(("times", "kept"), [("2024-03-01,2024-01-05", 5), (",2024-01-09", 9)])
def test_a_merged_person_is_known_since_the_earliest_of_their_rows(tmp_path, times, kept):
    first, second = times.split(",")
    (tmp_path / "customers.csv").write_text(
        f"customer_id,joined_at,city\na,{first},late\nb,{second},early\nc,2024-02-01,x\n"
    )
    (tmp_path / "identities.csv").write_text("customer_id,id_type,id_value\na,phone,1\nb,phone,1\n")
    customers = open_tables(tmp_path).customers.order_by("customer_id").execute()
    assert list(customers["customer_id"]) == ["a", "c"]
    assert customers["joined_at"][0].day == kept
    assert customers["city"][0] == "early"


# --- the law ------------------------------------------------------------------------------------

GOOD = "good"
plain_text = st.text(
    st.characters(codec="utf-8", exclude_characters='\r\n",\x00\ufeff\ufdd0'), max_size=6
)
KINDS = {
    GOOD: lambda n, text: f"k{n},c{n % 3},2024-01-05,{n}.50,{text}",
    "quoted": lambda n, text: f'k{n},"c,{n % 3}",2024-01-05,{n}.50,"{text}\n""{text}"',
    "missing": lambda n, text: f"k{n},,2024-01-05,1.00,{text}",
    "unreadable_time": lambda n, text: f"k{n},c,31.12.24,1.00,{text}",
    "unreadable_number": lambda n, text: f"k{n},c,2024-01-05,12x,{text}",
    "too_few_columns": lambda n, text: f"k{n},c,2024-01-05",
    "too_many_columns": lambda n, text: f"k{n},c,2024-01-05,1.00,{text},more",
    "broken_quoting": lambda n, text: f'k{n},c,2024-01-05,1.00,"open{text}',
    "not_finite": lambda n, text: f"k{n},c,2024-01-05,-inf,{text}",
    "exact_duplicate": lambda n, text: "twice,c,2024-01-05,1.00,same",
    "conflicting_key": lambda n, text: f"once,c,2024-01-05,{n}.00,{text}",
}


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    st.lists(st.tuples(st.sampled_from(sorted(KINDS)), plain_text), min_size=1, max_size=12),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
)
def test_rows_read_are_rows_accepted_plus_rows_quarantined(tmp_path, rows, line_break, closed):
    lines = [KINDS[kind](n, text.strip()) for n, (kind, text) in enumerate(rows)]
    body = line_break.join([HEADER, *(line.replace("\n", line_break) for line in lines)])
    path = tmp_path / "orders.csv"
    path.write_bytes((body + line_break * closed).encode())
    tables, report = open_and_check(path)
    counts = report.to_json()["orders"]
    assert counts["read"] == len(rows)
    assert counts["read"] == counts["accepted"] + counts["quarantined"]
    assert tables.orders.count().execute() == counts["accepted"]
    assert len(report.quarantine) == counts["quarantined"]
    expected = Counter(kind for kind, _ in rows if kind not in (GOOD, "quoted"))
    for repeated in ("exact_duplicate", "conflicting_key"):
        expected[repeated] = max(0, expected[repeated] - 1)
    assert counts["reasons"] == {kind: n for kind, n in expected.items() if n}


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.sampled_from([",", ",", '"', '""', "\n", "\r\n", " ", "a", "b,c", '"d,e"', "\\"]),
        max_size=14,
    )
)
def test_where_the_engine_is_trusted_it_reads_what_the_record_reader_reads(pieces):
    from tempfile import TemporaryDirectory

    import duckdb

    from journeylab.tables import text as texts
    from journeylab.tables.files import _read_csv

    with TemporaryDirectory() as name:
        path = Path(name) / "x.csv"
        path.write_text("h1,h2\n" + "".join(pieces), newline="")
        text = texts.open_text(path, Path(name))
        if (counted := texts.count_records(text)) is None:
            return
        try:
            rows = _read_csv(connect_duckdb([Path(name)]), text).to_pyarrow().to_pylist()
        except duckdb.Error:
            return
        if len(rows) != counted:
            return
        engine = [[value or None for value in row.values()] for row in rows]
        own = [[v or None for v in r.fields or ["refused"]] for r in texts.records(text)]
        assert engine == own


# --- databases and typed sources ------------------------------------------------------------------


def orders_table() -> pa.Table:
    return pa.table(
        {
            "order_id": pa.array([1, 2, 2, 4, 5], pa.int64()),
            "customer_id": pa.array([17850.0, 3.5, 7.0, 8.0, None], pa.float64()),
            "ordered_at": pa.array([1_704_449_472] * 5, pa.int64()),
            "amount": pa.array([1.5, 2.0, float("nan"), -3.25, 1.0], pa.float64()),
        }
    )


def test_typed_sources_quarantine_inexact_ids_and_nan(tmp_path):
    pq.write_table(orders_table(), tmp_path / "orders.parquet")
    report = check(tmp_path)
    assert report.to_json()["orders"] == {
        "read": 5,
        "accepted": 2,
        "quarantined": 3,
        "reasons": {"inexact_id": 1, "missing": 1, "not_finite": 1},
    }
    kept = collect(open_tables(tmp_path, max_quarantined=1).orders)
    assert kept["customer_id"].tolist() == ["17850", "8"]


def test_a_duckdb_file_is_checked_by_expression_and_not_written_to(tmp_path):
    path = tmp_path / "shop.duckdb"
    connection = ibis.duckdb.connect(str(path))
    connection.create_table("orders", orders_table())
    connection.disconnect()
    before = path.read_bytes()
    report = check(path)
    counts = report.to_json()["orders"]
    assert counts["read"] == counts["accepted"] + counts["quarantined"] == 5
    assert counts["reasons"] == {"inexact_id": 1, "missing": 1, "not_finite": 1}
    assert report.quarantine["raw"].str.contains("3.5").any()
    assert path.read_bytes() == before


def test_one_key_twice_in_a_database_keeps_one_row(tmp_path):
    rows = orders_table().slice(0, 1)
    connection = ibis.duckdb.connect(str(tmp_path / "shop.duckdb"))
    connection.create_table("orders", pa.concat_tables([rows, rows]))
    connection.disconnect()
    tables, report = open_and_check(tmp_path / "shop.duckdb")
    assert report.to_json()["orders"]["reasons"] == {"conflicting_key": 1}
    assert tables.orders.count().execute() == 1


def test_an_open_connection_is_a_source():
    connection = ibis.duckdb.connect()
    connection.create_table("orders", orders_table().slice(0, 1))
    assert collect(open_tables(connection).orders)["order_id"].tolist() == ["1"]


# --- orders made from lines, identities --------------------------------------------------------


def test_orders_are_summed_from_lines_that_say_whose_and_when(tmp_path):
    (tmp_path / "order_lines.csv").write_text(
        "order_id,customer_id,ordered_at,amount\n"
        "1,a,2024-01-05,1.10\n1,a,2024-01-05,2.20\n"
        "2,,2024-01-05,9.00\n3,a,2024-01-06,1.00\n3,b,2024-01-06,1.00\n"
    )
    tables, report = open_and_check(tmp_path)
    assert collect(tables.order_lines)["line_no"].tolist() == [1, 2, 1, 1, 2]
    assert report.to_json()["orders"] == {
        "read": 3,
        "accepted": 1,
        "quarantined": 2,
        "reasons": {"conflicting_key": 1, "missing": 1},
    }
    assert collect(tables.orders, money="cents").loc[0, "amount"] == 330


def test_customers_who_share_a_phone_become_one(tmp_path):
    write(tmp_path, "1,b,2024-01-05,1.00,x", "2,a,2024-01-06,1.00,x", "3,d,2024-01-07,1.00,x")
    (tmp_path / "identities.csv").write_text(
        "customer_id,id_type,id_value\n"
        "b,phone,13800000000\na,Phone,13800000000\na,union_id,u1\nc,union_id,u1\n"
        "d,device,tv\na,device,tv\n"
    )
    tables, report = open_and_check(tmp_path)
    assert collect(tables.orders)["customer_id"].tolist() == ["a", "a", "d"]
    assert (report.merges.customers, report.merges.people, report.merges.largest) == (2, 1, 3)


# --- refusals that name what, where, how many and what to do -----------------------------------


def test_too_many_refused_rows_stop_the_work_but_not_the_check(tmp_path):
    path = write(tmp_path, "1,a,never,1.00,x", "2,a,2024-01-06,1.00,x")
    with pytest.raises(ContractError, match=r"1 of 2 rows of orders \(50.0%\).*line 2.*never"):
        open_tables(path)
    assert reasons(path) == {"unreadable_time": 1}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("order_id,customer_id,amount,ordered\n1,a,1,2024-01-05\n", "nearest name is 'ordered'"),
        ("a,a\n1,2\n", "names 'a' 2 times"),
        ("a,,b\n1,2,3\n", "column 2 of the header has no name"),
    ],
)
def test_a_header_that_cannot_be_used_is_named(tmp_path, content, message):
    path = tmp_path / "orders.csv"
    path.write_text(content)
    with pytest.raises(ContractError, match=message):
        check(path)


def test_a_missing_source_table_or_column_names_the_nearest(tmp_path):
    with pytest.raises(ContractError, match="did you mean 'cdnow'"):
        open_tables("cdnwo")
    write(tmp_path, "1,a,2024-01-05,1.00,x")
    write(tmp_path, "x", name="touch.csv")
    with pytest.raises(ContractError, match=r"no touches table.*touch\.csv"):
        open_tables(tmp_path, ["touches"])
    with pytest.raises(ContractError, match="did you mean 'orders'"):
        open_tables(tmp_path, ["order"])
    (tmp_path / "tables.toml").write_text('[orders.columns]\ncustomer_id = "custmer_id"\n')
    with pytest.raises(ContractError, match="did you mean 'customer_id'"):
        open_tables(tmp_path)


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("busines_tz = 'UTC'", "did you mean 'business_tz'"),
        ("business_tz = 'Asia/Peking'", "no time zone 'Asia/Peking'"),
        ("returns = 'keep'", "net, separate or reject"),
        ("[order]\nfile = 'x'", "did you mean 'order"),
        ("[orders]\nfil = 'x'", "did you mean 'file'"),
        ("[orders]\nfile = 'ordes.csv'", "no file 'ordes.csv'.*orders.csv"),
        ("[orders]\nunit = 'pence'", "units.*cents"),
        ("[orders", "not valid TOML"),
    ],
)
def test_a_misspelt_mapping_is_refused(tmp_path, toml, message):
    write(tmp_path, "1,a,2024-01-05,1.00,x")
    (tmp_path / "tables.toml").write_text(toml)
    with pytest.raises(ContractError, match=message):
        open_tables(tmp_path)


# --- the engine -----------------------------------------------------------------------------------


def test_the_engine_reaches_its_data_folders_and_nothing_else(tmp_path):
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    for folder in (inside, outside):
        (folder / "x.csv").write_text("a\n1\n")
    connection = connect_duckdb([inside])
    assert connection.read_csv(str(inside / "x.csv")).count().execute() == 1
    with pytest.raises(Exception, match="Permission Error"):
        connection.read_csv(str(outside / "x.csv"))
    with pytest.raises(Exception, match="locked"):
        connection.settings["threads"] = 1
    assert connection.settings["TimeZone"] == "UTC"


def test_collect_sorts_types_and_refuses_what_is_too_large():
    connection = connect_duckdb()
    rows = connection.create_table(
        "rows",
        pa.table(
            {
                "id": ["b", None, "a"],
                "n": pa.array([2, None, 3], pa.int64()),
                "paid": pa.array([Decimal("1.25"), None, Decimal("-0.10")], pa.decimal128(18, 2)),
            }
        ),
    )
    frame = collect(rows)
    assert frame["id"].tolist() == ["a", "b", None]
    assert str(frame["n"].dtype) == "Int64"
    assert frame["paid"].tolist()[:2] == [-0.1, 1.25]
    assert collect(rows, money="cents")["paid"].tolist()[:2] == [-10, 125]
    with pytest.raises(ContractError, match="more than 2 rows"):
        collect(rows, max_driver_rows=2)


@given(st.lists(st.integers(-(10**17) + 1, 10**17 - 1), min_size=1, max_size=50))
@settings(max_examples=30, deadline=None)
def test_money_becomes_the_float_nearest_to_it(cents):
    amounts = [Decimal(one) / 100 for one in cents]
    rows = ibis.memtable(pa.table({"paid": pa.array(amounts, pa.decimal128(18, 2))}))
    frame = collect(rows)
    assert frame["paid"].tolist() == sorted(float(one) for one in amounts)
    assert collect(rows, money="cents")["paid"].tolist() == sorted(cents)


def test_equal_bytes_have_equal_fingerprints_and_one_byte_changes_it(tmp_path):
    first, second = tmp_path / "a", tmp_path / "b"
    for folder in (first, second):
        folder.mkdir()
        write(folder, "1,a,2024-01-05,1.00,x")
    assert fingerprint(first) == fingerprint(second)
    write(second, "1,a,2024-01-05,1.01,x")
    assert fingerprint(first) != fingerprint(second)


@pytest.mark.parametrize("rows", [["a", "b"], ["a", "a"], ["a", None]])
def test_a_large_parquet_file_is_left_where_it_is_and_reads_the_same(tmp_path, monkeypatch, rows):
    typed = pa.table(
        {
            "order_id": rows,
            "customer_id": [7.0, 8.0],
            "ordered_at": pa.array([1_704_449_472, 1_704_449_473], pa.int64()),
            "amount": [1.5, -2.0],
            "note": ["x", "y"],
        }
    )
    pq.write_table(typed, tmp_path / "orders.parquet")
    staged, report = open_and_check(tmp_path)
    expected = collect(staged.orders)
    monkeypatch.setattr("journeylab.tables.intake._LAZY_BYTES", 0)
    monkeypatch.setattr("journeylab.tables.intake._SORTED_HASHES", 0)
    lazy, lazy_report = open_and_check(tmp_path)
    assert lazy_report.to_json() == report.to_json()
    pd.testing.assert_frame_equal(collect(lazy.orders), expected)
    copied = {"orders", "staging_orders"} & set(lazy.orders.get_backend().list_tables())
    assert bool(copied) == bool(report.to_json()["orders"]["quarantined"])
