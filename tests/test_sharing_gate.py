"""The gate: what is planted is found in every format, and numbers, hashes and pictures are not."""

# ruff: noqa: E501 - what is planted reads best on one line

import base64
import gzip
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable
from hashlib import md5

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output, writes
from sample_run import PIXEL

from journeylab.pseudonyms import PUBLIC_KEY, is_pseudonym, pseudonym_of
from journeylab.sharing.gate import UNREADABLE, inspect
from journeylab.sharing.traces import (
    BANK_CARD,
    EMAIL,
    HOME,
    ID,
    ID_CARD,
    MACHINE,
    PHONE,
    TOKEN,
    Known,
    as_read,
    find_traces,
    is_telling,
)

KNOWN = Known(
    ids=frozenset({"C0012345", "客户甲乙", "20260001", "oX7f_Kk2-9", "17"}),
    names=("zhangwei", "build-host-07"),
    folders=("/srv/private/zw",),
)
# made up, with the check digits that their kinds ask for
PLANTED = [
    (PHONE, "13800138000"),
    (PHONE, "+86 138-0013-8000"),
    (PHONE, "008615912345678"),
    (PHONE, "１３８００１３８０００"),
    (PHONE, "138\u200b0013\u200b8000"),
    (PHONE, "手机19912345678请回电"),
    (PHONE, "010-62345678"),
    (PHONE, "+1 (415) 555-2671"),
    (PHONE, "+442071838750"),
    (PHONE, "+33 6 12 34 56 78"),
    (EMAIL, "wei.zhang+crm@example.com.cn"),
    (EMAIL, "mailto:a_b@sub.example.org"),
    (EMAIL, "wei%40example.com"),
    (ID_CARD, "11010519491231002X"),
    (ID_CARD, "440524188001010014"),
    (ID_CARD, "身份证号110105 19491231 002x"),
    (BANK_CARD, "4111111111111111"),
    (BANK_CARD, "6222 0212 3456 7890 128"),
    (BANK_CARD, "5555-5555-5555-4444"),
    (BANK_CARD, "378282246310005"),
    (TOKEN, "AKIAIOSFODNN7EXAMPLE"),
    (TOKEN, "LTAI5tKx8Qm2Zp7Rw3Vb9Yd4"),
    (TOKEN, "ghp_16C7e42F292c6912E7710c838347Ae178B4a"),
    (TOKEN, "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w5N"),
    (TOKEN, "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY1"),
    (TOKEN, "password: hunter2secret"),
    (TOKEN, "Bearer 8f3k29dk20fk30fk29"),
    (TOKEN, "postgresql://sales:Tr0ub4dor@db.example/crm"),
    (TOKEN, "-----BEGIN RSA PRIVATE KEY-----"),
    (TOKEN, "q8Zt3Lw0Xn5Rb7Kc2Vm9Yd4Hs6Pf1Jg"),
    (HOME, "/home/zw/projects/journey"),
    (HOME, "/Users/Wei Zhang/data.csv"),
    (HOME, "C:\\Users\\wei\\data.csv"),
    (HOME, "/root/.ssh/config"),
    (HOME, "/srv/private/zw/data"),
    (MACHINE, "run by zhangwei"),
    (MACHINE, "on BUILD-HOST-07.local"),
    (ID, "C0012345"),
    (ID, "客户甲乙"),
    (ID, "20260001"),
    (ID, "oX7f_Kk2-9"),
    (ID, "customer_id: 17"),
    (ID, "客户编号：17"),
]
PLANTED_IDS = [f"{kind}-{number}" for number, (kind, _) in enumerate(PLANTED)]


def escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")


def page(body: str) -> bytes:
    return f"<!doctype html><html><head><title>t</title></head><body>{body}</body></html>".encode()


def svg(body: str) -> bytes:
    return f'<svg xmlns="http://www.w3.org/2000/svg">{body}</svg>'.encode()


def notebook(*outputs: object, source: str = "x", text: str = "x", **metadata: str) -> bytes:
    cells = [new_markdown_cell(text), new_code_cell(source, outputs=list(outputs))]
    return writes(new_notebook(cells=cells, metadata=metadata)).encode()


def parquet(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    content = base64.b64decode(PIXEL)
    head, rest = content[:33], content[33:]
    made = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    return head + made + rest


def workbook(text: str, place: str) -> bytes:
    from openpyxl import Workbook
    from openpyxl.comments import Comment

    book = Workbook()
    book.active.append(["name", "value"])
    book.active.append([text if place == "cell" else "x", 1.5])
    if place == "comment":
        book.active["A1"].comment = Comment(text, "someone")
    if place == "properties":
        book.properties.creator = text
    buffer = io.BytesIO()
    book.save(buffer)
    return buffer.getvalue()


def zipped(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return buffer.getvalue()


def jpeg(text: str) -> bytes:
    data = b"Exif\0\0" + text.encode()
    return b"\xff\xd8\xff\xe1" + struct.pack(">H", len(data) + 2) + data + b"\xff\xda\0\x02\xff\xd9"


def encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


FORMATS: dict[str, Callable[[str], tuple[str, bytes]]] = {
    "html text": lambda t: ("a.html", page(f"<p>Call {escaped(t)} now</p>")),
    "html cell": lambda t: ("a.html", page(f"<table><tr><td>{escaped(t)}</td></tr></table>")),
    "html attribute": lambda t: ("a.html", page(f'<p title="{escaped(t)}">x</p>')),
    "html comment": lambda t: ("a.html", page(f"<!-- {t.replace('--', '- -')} -->")),
    "html script": lambda t: ("a.html", page(f"<style>/* {t} */</style>")),
    "html in pieces": lambda t: (
        "a.html", page("<p>" + "".join(f"<span>{escaped(c)}</span>" for c in t) + "</p>")),
    "html references": lambda t: (
        "a.html", page("<p>" + "".join(f"&#{ord(c)};" for c in t) + "</p>")),
    "html data address": lambda t: (
        "a.html", page(f'<a href="data:text/plain;base64,{encoded(t.encode())}">x</a>')),
    "html picture": lambda t: (
        "a.html",
        page(f'<img src="data:image/png;base64,{encoded(png((b"tEXt", b"Author" + bytes(1) + t.encode())))}">')),
    "svg text": lambda t: ("a.svg", svg(f"<text>{escaped(t)}</text>")),
    "svg metadata": lambda t: ("a.svg", svg(f"<metadata><creator>{escaped(t)}</creator></metadata>")),
    "svg spans": lambda t: (
        "a.svg", svg("<text>" + "".join(f"<tspan>{escaped(c)}</tspan>" for c in t) + "</text>")),
    "svg comment": lambda t: ("a.svg", svg(f"<!-- {t.replace('--', '- -')} -->")),
    "notebook source": lambda t: ("a.ipynb", notebook(source=f"x = {t!r}  # {t}")),
    "notebook markdown": lambda t: ("a.ipynb", notebook(text=f"See {t}.")),
    "notebook stream": lambda t: (
        "a.ipynb", notebook(new_output("stream", name="stderr", text=f"\n{t}\n"))),
    "notebook html": lambda t: (
        "a.ipynb", notebook(new_output("display_data", {"text/html": f"<b>{escaped(t)}</b>"}))),
    "notebook svg": lambda t: (
        "a.ipynb",
        notebook(new_output("display_data", {"image/svg+xml": svg(f"<text>{escaped(t)}</text>").decode()}))),
    "notebook picture": lambda t: (
        "a.ipynb",
        notebook(new_output("display_data", {"image/png": encoded(png((b"iTXt", b"Comment\0\0\0\0\0" + t.encode())))}))),
    "notebook json": lambda t: (
        "a.ipynb", notebook(new_output("display_data", {"application/json": {"a": [{"b": t}]}}))),
    "notebook error": lambda t: (
        "a.ipynb", notebook(new_output("error", ename="E", evalue=t, traceback=["x"]))),
    "notebook metadata": lambda t: ("a.ipynb", notebook(author=t)),
    "json value": lambda t: ("a.json", json.dumps({"a": {"b": [1, t]}}).encode()),
    "json key": lambda t: ("a.json", json.dumps({t: 1}).encode()),
    "csv cell": lambda t: ("a.csv", pd.DataFrame({"note": ["x", t]}).to_csv(index=False).encode()),
    "csv name": lambda t: ("a.csv", pd.DataFrame({t: [1]}).to_csv(index=False).encode()),
    "csv chinese": lambda t: (
        "a.csv", ("备注;x\n" + t.replace(";", " ") + ";1\n").encode("gb18030", "ignore")),
    "parquet text": lambda t: ("a.parquet", parquet(pa.table({"note": ["x", None, t]}))),
    "parquet category": lambda t: (
        "a.parquet", parquet(pa.table({"note": pa.array(["x", t]).dictionary_encode()}))),
    "parquet list": lambda t: ("a.parquet", parquet(pa.table({"note": [["x"], [t, "y"]]}))),
    "parquet struct": lambda t: ("a.parquet", parquet(pa.table({"note": [{"a": {"b": t}}]}))),
    "parquet bytes": lambda t: ("a.parquet", parquet(pa.table({"note": [t.encode()]}))),
    "parquet name": lambda t: ("a.parquet", parquet(pa.table({t: [1]}))),
    "parquet metadata": lambda t: (
        "a.parquet", parquet(pa.table({"a": [1]}).replace_schema_metadata({"author": t}))),
    "parquet field": lambda t: (
        "a.parquet",
        parquet(pa.table([pa.array([1])], schema=pa.schema([pa.field("a", pa.int64(), metadata={"note": t})])))),
    "png tEXt": lambda t: ("a.png", png((b"tEXt", b"Author\0" + t.encode()))),
    "png zTXt": lambda t: ("a.png", png((b"zTXt", b"Author\0\0" + zlib.compress(t.encode())))),
    "png iTXt": lambda t: (
        "a.png", png((b"iTXt", b"Author\0\1\0\0\0" + zlib.compress(t.encode())))),
    "png eXIf": lambda t: ("a.png", png((b"eXIf", b"MM\0*" + t.encode()))),
    "jpeg": lambda t: ("a.jpg", jpeg(t)),
    "xlsx cell": lambda t: ("a.xlsx", workbook(t, "cell")),
    "xlsx comment": lambda t: ("a.xlsx", workbook(t, "comment")),
    "xlsx properties": lambda t: ("a.xlsx", workbook(t, "properties")),
    "text": lambda t: ("a.md", f"# Notes\n\n{t}\n".encode()),
    "zip": lambda t: ("a.zip", zipped("b/c.csv", f"x\n{t}\n".encode())),
    "gzip": lambda t: ("a.csv.gz", gzip.compress(t.encode())),
}  # fmt: skip


@pytest.mark.parametrize("format_name", FORMATS)
def test_everything_planted_is_found_in_every_format(format_name):
    missed = []
    for kind, text in PLANTED:
        name, content = FORMATS[format_name](text)
        found = inspect({f"folder/{name}": content}, KNOWN)
        if not any(each.kind == kind and each.file == f"folder/{name}" for each in found):
            missed.append((kind, text, [str(each) for each in found]))
    assert missed == []


def test_what_is_found_is_told_without_telling_it():
    findings = inspect({"a.csv": b"note\n13800138000\n"}, KNOWN)
    assert [str(each) for each in findings] == ["a.csv: column note: phone number 138*****000"]


@pytest.mark.parametrize("name", ["13800138000", "wei@example.com"])
def test_the_name_of_a_file_is_looked_at_too(name):
    assert inspect({f"tables/{name}.csv": b"a\n1\n"}, KNOWN)


RAW = ["00017", "4021", "812"]
HIDDEN = [pseudonym_of(each, PUBLIC_KEY) for each in RAW]


def frame(ids: list[str], name: str = "customer_id") -> pd.DataFrame:
    return pd.DataFrame({name: ids, "clv": [812.5, 40.25, 7.125]})


IN_COLUMNS: dict[str, Callable[[pd.DataFrame], tuple[str, bytes]]] = {
    "csv": lambda f: ("tables/ranking.csv", f.to_csv(index=False).encode("utf-8-sig")),
    "csv with semicolons": lambda f: ("a.csv", f.to_csv(index=False, sep=";").encode()),
    "parquet": lambda f: ("a.parquet", parquet(pa.Table.from_pandas(f, preserve_index=False))),
    "html": lambda f: ("a.html", page(f.to_html(border=0))),
    "html index": lambda f: ("a.html", page(f.set_index(f.columns[0]).to_html(border=0))),
    "page words": lambda f: ("a.html", page(f.to_html().replace("customer_id", "customer id"))),
    "printed": lambda f: (
        "a.ipynb", notebook(new_output("stream", name="stdout", text=f.to_string()))),
    "printed index": lambda f: (
        "a.ipynb",
        notebook(new_output("execute_result", {"text/plain": f.set_index(f.columns[0]).to_string()}))),
    "json records": lambda f: ("a.json", f.to_json(orient="records").encode()),
    "json columns": lambda f: ("a.json", f.to_json(orient="columns").encode()),
    "json split": lambda f: ("a.json", f.to_json(orient="split").encode()),
    "xlsx": lambda f: ("a.xlsx", excel(f)),
}  # fmt: skip


def excel(content: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    content.to_excel(buffer, index=False)
    return buffer.getvalue()


@pytest.mark.parametrize("form", IN_COLUMNS)
def test_short_ids_are_found_by_their_column_and_pseudonyms_are_let_through(form):
    name, content = IN_COLUMNS[form](frame(RAW))
    assert ID in {each.kind for each in inspect({name: content}, Known())}, form
    name, content = IN_COLUMNS[form](frame(HIDDEN))
    assert [str(each) for each in inspect({name: content}, Known())] == []


def test_ids_stored_as_numbers_are_found_in_parquet():
    table = pa.table({"customer_id": [17, 4021], "phone": [13800138000, 15912345678]})
    kinds = {each.kind for each in inspect({"a.parquet": parquet(table)}, Known())}
    assert kinds == {ID, PHONE}


def test_an_id_of_one_file_is_found_in_the_text_of_another():
    files = {
        "30_clv/tables/ranking.csv": b"customer_id,clv\r\nVIP-00917,812.5\r\n",
        "20_churn/report.html": page("<p>Call VIP-00917 first.</p>"),
    }
    assert {each.file for each in inspect(files, Known())} == set(files)


def test_an_id_that_looks_like_a_pseudonym_is_found_by_its_missing_seal():
    raw = [md5(f"customer {number}".encode()).hexdigest() for number in range(1_000)]
    assert not [each for each in raw if is_pseudonym(each)]
    (found,) = inspect({"a.csv": frame(raw[:3]).to_csv(index=False).encode()}, Known())
    assert (found.kind, found.count) == ("customer id", 3)
    # an id that is known is found even where chance gave it the seal
    looks = pseudonym_of("1", "another key")
    content = frame([looks, *HIDDEN[1:]]).to_csv(index=False).encode()
    assert inspect({"a.csv": content}, Known()) == ()
    assert inspect({"a.csv": content}, Known(ids=frozenset({looks})))


INNOCENT = """
    0.13800138000 1.13800138000e+11 13800138000.75 0.4111111111111111 -9582.4291385913859138
    1,380,013,800 13,800,138,000 12345678901 20240131093000 1706693400000 1997-09-30 2024-01-02
    3f9a3f9a13912345678a3f9a 81c281c281c281c281c281c281c281c281c281c281c281c281c281c281c281c2
    2026-11-22T04:11:00Z 20261122T083056Z_data-churn-clv_4b6a FillBetweenPolyCollection_12
    m0a1b2c3d4e url(#f1-p5d9c2b1a0f) matplotlib.axes_14 text/html;charset=utf-8 +12 % +1.5e+10
    journeylab.frames.customer_histories(tables, day) @clv/value env:CRM_TOKEN token: Secret
    password is asked for by the database; "secret" parameters come from the environment
    DejaVuSans-Bold.ttf image/svg+xml application/vnd.journeylab.record+json x+1234567890
    customers: 2357 top 10 % of customers 236 of 2,357 customers the first customer is new
    https://www.w3.org/1999/02/22-rdf-syntax-ns# http://purl.org/dc/elements/1.1/ ~/data /tmp/x
    4111111111111112 110105194912310021 6222021234567890127 123456789012345678 +0 12345678
    user data host of the party main root of the tree at home /homepage numpy==2.3.4 v1.2.3-rc1
"""


def test_no_name_of_a_run_is_taken_for_a_token_and_a_token_in_its_label_is_found():
    for minute in range(60):
        for last in range(0, 65_536, 257):
            name = f"20261122T09{minute:02}38Z_all_{last:04x}"
            for text in (f"Run {name}, seed 7", f"../{name}/30_clv/report.html"):
                assert not list(find_traces(text, Known())), text
    token = "Zk3Q9xLm2Vb7Tn4Rw8Yp1Hd6Jf5Cs0"
    found = find_traces(f"20261122T093638Z_{token}_e4f7", Known())
    assert [(trace.kind, trace.text) for trace in found] == [("token", token)]


def test_numbers_hashes_dates_and_names_of_code_are_let_through():
    known = Known(ids=KNOWN.ids, names=("root", "main", "user", "data"), folders=("/",))
    assert [(t.kind, t.text) for t in find_traces(INNOCENT, known)] == []


def test_pictures_and_tables_of_numbers_are_let_through():
    draw = np.random.default_rng(7)
    numbers = pd.DataFrame(
        {"amount": draw.gamma(2, 1e10, 4000), "n": draw.integers(0, 10**15, 4000)}
    )
    noise = encoded(draw.bytes(200_000))
    files = {
        "a.parquet": parquet(pa.Table.from_pandas(numbers)),
        "b.html": page(f'<img alt="" src="data:image/png;base64,{PIXEL}">' + numbers[["amount"]].head(200).to_html()),
        "c.ipynb": notebook(new_output("display_data", {"image/png": PIXEL})),
        "d.svg": svg(f'<path d="M {" ".join(map(str, numbers["amount"]))}"/>'),
        "e.png": base64.b64decode(PIXEL),
        "f.txt": f"data:image/png;base64,{encoded(base64.b64decode(PIXEL))}".encode(),
    }  # fmt: skip
    assert noise
    assert [str(each) for each in inspect(files, Known())] == []


@settings(max_examples=200, deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_no_number_with_a_fraction_is_taken_for_something_else(number):
    if not number.is_integer():
        assert list(find_traces(f"a {number!r} b", Known())) == []


@settings(max_examples=200, deadline=None)
@given(st.binary(min_size=8, max_size=32))
def test_no_hash_is_taken_for_something_else(content):
    assert list(find_traces(f"sha256 {content.hex()} of it", Known())) == []


@settings(max_examples=100, deadline=None)
@given(
    st.from_regex(r"1[3-9][0-9]{9}", fullmatch=True),
    st.sampled_from([" ", "：", "\n", "号", "=", '"', ">"]),
)
def test_every_mobile_number_is_found_whatever_stands_around_it(number, around):
    assert PHONE in {t.kind for t in find_traces(f"{around}{number}{around}", Known())}


@pytest.mark.parametrize("name", ["a.bin", "a.pkl", "a.parquet", "a.png", "a.zip", "a.ipynb"])
def test_what_cannot_be_looked_into_does_not_leave(name):
    found = inspect({name: b"\x80\x04\x95\xff\xfe\x00\x01"[::-1]}, Known())
    assert [each.kind for each in found] == [UNREADABLE]


def test_ids_that_could_be_words_or_numbers_tell_nothing_alone():
    assert [is_telling(each) for each in ("17", "2357", "active", "12345678", "A-10021", "张小明")] == [
        False, False, False, True, True, True,
    ]  # fmt: skip
    assert as_read("１３８‑００") == "138-00"
