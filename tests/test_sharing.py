"""Sharing a run as one file, and forgetting a customer."""

import json
import os
import zipfile
from pathlib import Path

import pandas as pd
import pytest
from nbformat.v4 import new_output
from sample_run import CLV_ENTRY, MANIFEST, clv_notebook, lay_down, tracking_svg
from typer.testing import CliRunner

from journeylab.cli import app
from journeylab.errors import RunError
from journeylab.pseudonyms import PUBLIC_KEY, hide_ids, pseudonym_of
from journeylab.report import write_index, write_page
from journeylab.sharing import GateError, Known, forget, share

RAW = ["00017", "04021", "00812"]
PSEUDONYMS = [pseudonym_of(each, PUBLIC_KEY) for each in RAW]
NOBODY = Known()


def make_run(root: Path, name: str = "run", ids: list[str] = PSEUDONYMS) -> Path:
    """A run of one notebook that read another, with tables, pages and manifest."""
    run = root / name
    worth = pd.DataFrame({"customer_id": ids, "clv": [812.5, 40.25, 7.125]})
    notebook = clv_notebook(tracking_svg(), ids[0])
    html = notebook.cells[-2].outputs[0]["data"]
    html["text/html"] = worth.to_html(border=0)
    notebook.cells[-2].outputs.append(
        new_output("stream", name="stdout", text=worth.to_string(index=False))
    )
    after = {"instance": "60_touches", "name": "touches", "needs": ["30_clv"],
             "data_fingerprint": None, "data": None}  # fmt: skip
    other = {"instance": "20_churn", "name": "churn", "data_fingerprint": "9" * 64}
    entries = [CLV_ENTRY | {"needs": []}, CLV_ENTRY | after, CLV_ENTRY | other]
    manifest = {**MANIFEST, "notebooks": entries}
    run.mkdir(parents=True)
    (run / "manifest.json").write_text(json.dumps(manifest))
    for entry in entries:
        own = notebook if entry["instance"] == "30_clv" else clv_notebook(tracking_svg(), "x" * 0)
        if entry["instance"] != "30_clv":
            own.cells = own.cells[:-2]
        folder = lay_down(run, entry, own)
        (folder / "tables").mkdir()
        if entry["instance"] == "30_clv":
            worth.to_parquet(folder / "tables" / "value.parquet")
            worth.to_csv(folder / "tables" / "ranking.csv", index=False, encoding="utf-8-sig")
        write_page(folder, manifest, entry)
    write_index(run)
    return run


@pytest.fixture
def clean_run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "runs")


def test_a_run_of_pseudonyms_becomes_one_page_or_a_zip_the_same_every_time(clean_run, tmp_path):
    page = share(clean_run, tmp_path / "report.html", known=NOBODY)
    assert page.files == ("report.html",)
    assert page.size == (tmp_path / "report.html").stat().st_size
    site = share(clean_run, tmp_path / "report.zip", lists=True, known=NOBODY)
    again = share(clean_run, tmp_path / "again.zip", lists=True, known=NOBODY)
    assert site.path.read_bytes() == again.path.read_bytes()
    with zipfile.ZipFile(site.path) as archive:
        names = archive.namelist()
    assert {"index.html", "manifest.json", "30_clv/report.html", "30_clv/notebook.ipynb",
            "30_clv/tables/value.parquet", "30_clv/tables/ranking.csv"} <= set(names)  # fmt: skip
    assert not [name for name in names if "log" in name or name.startswith(".")]


def test_without_code_no_code_leaves_and_no_link_leads_nowhere(clean_run, tmp_path):
    out = share(clean_run, tmp_path / "report.zip", code=False, lists=False, known=NOBODY).path
    with zipfile.ZipFile(out) as archive:
        names = set(archive.namelist())
        whole = b"".join(archive.read(name) for name in names).decode("utf-8", "replace")
    assert not [name for name in names if name.endswith((".ipynb", ".csv"))]
    for words in ("open_tables", "fit_bg_nbd", "notebook.ipynb</a>", "ranking.csv</a>"):
        assert words not in whole
    assert "What will these customers buy next" in whole


def test_original_ids_in_the_list_to_act_on_are_caught(clean_run, tmp_path):
    ranking = clean_run / "30_clv" / "tables" / "ranking.csv"
    ranking.write_text("customer_id,clv\r\n00017,812.5\r\n04021,40.25\r\n", encoding="utf-8-sig")
    with pytest.raises(GateError) as refusal:
        share(clean_run, tmp_path / "report.zip", lists=True, known=NOBODY)
    places = [(found.file, found.kind, found.count) for found in refusal.value.findings]
    assert places == [("30_clv/tables/ranking.csv", "customer id", 2)]
    assert not (tmp_path / "report.zip").exists()
    assert share(clean_run, tmp_path / "report.zip", lists=False, known=NOBODY).path.exists()
    assert share(clean_run, tmp_path / "report.html", known=NOBODY).path.exists()


def test_the_command_ends_with_5_and_lists_the_places_or_writes_the_file(tmp_path):
    make_run(tmp_path / "runs", "dirty", RAW)
    make_run(tmp_path / "runs", "clean")
    runner = CliRunner()
    out = tmp_path / "report.html"
    base = ["--out", str(tmp_path / "runs"), "-o", str(out)]
    refused = runner.invoke(app, ["share", "dirty", *base])
    assert refused.exit_code == 5
    assert "report.html: table before line" in refused.output
    assert "customer id" in refused.output
    assert "00017" not in refused.output
    assert not out.exists()
    made = runner.invoke(app, ["share", "clean", *base, "--no-code"])
    assert made.exit_code == 0, made.output
    assert out.exists()


@pytest.mark.parametrize(("name", "words"), [("a.pdf", "must end in .html"), ("a.zip", "not a")])
def test_what_cannot_be_shared_is_refused(tmp_path, name, words):
    with pytest.raises(RunError, match=words):
        share(tmp_path, tmp_path / name, known=NOBODY)


# --- ids in frames ------------------------------------------------------------------------------


def test_ids_in_a_frame_become_the_pseudonyms_that_the_engine_makes():
    frame = pd.DataFrame({"customer_id": ["00017", None, PSEUDONYMS[1]], "clv": [1.0, 2.0, 3.0]})
    hidden = hide_ids(frame)
    assert hidden["customer_id"].tolist() == [PSEUDONYMS[0], None, PSEUDONYMS[1]]
    assert frame["customer_id"].tolist()[0] == "00017"
    indexed = hide_ids(frame.iloc[[0, 2]].set_index("customer_id"))
    assert indexed.index.tolist() == PSEUDONYMS[:2]
    assert indexed.index.name == "customer_id"
    plain = frame[["clv"]]
    assert hide_ids(plain) is plain


def test_pseudonyms_join_within_a_project_and_not_across_projects(monkeypatch):
    frame = pd.DataFrame({"customer_id": RAW})
    monkeypatch.setenv("JOURNEYLAB_KEY", "project one")
    one, again = hide_ids(frame), hide_ids(frame)
    monkeypatch.setenv("JOURNEYLAB_KEY", "project two")
    two = hide_ids(frame)
    assert len(one.merge(again, on="customer_id")) == 3
    assert len(one.merge(two, on="customer_id")) == 0


# --- erasure ------------------------------------------------------------------------------------


def held(root: Path, *names: str) -> list[str]:
    """Files that hold one of the names, Parquet decoded."""
    found = []
    for path in sorted(root.rglob("*")):
        if path.is_file() and not path.is_symlink():
            text = (
                pd.read_parquet(path).to_csv()
                if path.suffix == ".parquet"
                else path.read_bytes().decode("utf-8", "replace")
            )
            if any(name in text for name in names):
                found.append(path.relative_to(root).as_posix())
    return found


def keep_in_cache(root: Path, run: Path) -> Path:
    """A finished notebook as the runner's cache keeps it, linked to the run's own files."""
    place = root / ".cache" / "ab" / ("ab" * 32)
    (place / "files" / "tables").mkdir(parents=True)
    (place / "entry.json").write_text(json.dumps({"run": run.name, "entry": CLV_ENTRY}))
    name = "tables/value.parquet"
    os.link(run / "30_clv" / name, place / "files" / name)
    return place


@pytest.mark.parametrize("ids", [RAW, PSEUDONYMS])
def test_a_forgotten_customer_is_in_no_file_and_the_others_are_all_left(tmp_path, ids):
    root = tmp_path / "runs"
    run = make_run(root, ids=ids)
    place = keep_in_cache(root, run)
    before = held(root, RAW[0], PSEUDONYMS[0])
    assert "run/30_clv/tables/value.parquet" in before
    listed = forget("00017", root, PUBLIC_KEY, dry_run=True)
    assert held(root, RAW[0], PSEUDONYMS[0]) == before
    erased = forget("00017", root, PUBLIC_KEY)
    assert erased == listed
    assert held(root, RAW[0], PSEUDONYMS[0]) == []
    tables = run / "30_clv" / "tables"
    assert pd.read_parquet(tables / "value.parquet")["customer_id"].tolist() == ids[1:]
    assert pd.read_csv(tables / "ranking.csv", dtype=str)["customer_id"].tolist() == ids[1:]
    page = (run / "30_clv" / "report.html").read_text(encoding="utf-8")
    assert ids[1] in page
    assert ids[2] in page
    assert json.loads((run / "30_clv" / "notebook.ipynb").read_text())["cells"]
    assert not place.exists()
    assert erased.cached == (f".cache/ab/{'ab' * 32}",)


def test_what_rests_on_a_forgotten_customer_is_named(tmp_path):
    root = tmp_path / "runs"
    run = make_run(root)
    erased = forget("00017", root, PUBLIC_KEY)
    assert erased.again == ("run/30_clv", "run/60_touches")
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["erasures"] == [{"notebooks": ["30_clv"], "rows": erased.rows}]
    assert "00017" not in json.dumps(manifest)
    assert forget("00017", root, PUBLIC_KEY).places == ()


def test_a_short_id_is_taken_out_of_its_columns_and_no_number_is_touched(tmp_path):
    folder = tmp_path / "run" / "20_churn" / "tables"
    folder.mkdir(parents=True)
    frame = pd.DataFrame({"customer_id": [17, 4021], "orders": [4021, 17]})
    frame.to_parquet(folder / "a.parquet")
    (folder / "b.csv").write_text("orders,clv\n17,17\n")
    (folder.parent / "results.json").write_text('{"customers": 17, "note": "17 of 4021"}')
    counts = pd.DataFrame({"band": [17, 4021], "customers": [4021, 17]})
    both = f"{counts.to_html()}<p>17</p>{frame.to_html()}<pre>{counts.to_string()}\n\n{frame}</pre>"
    (folder.parent / "report.html").write_text(both)
    erased = forget("17", tmp_path, PUBLIC_KEY)
    html = (folder.parent / "report.html").read_text()
    assert counts.to_html() in html
    assert frame.iloc[1:].to_html().partition("<tbody>")[2] in html
    assert counts.to_string() in html
    assert str(frame).splitlines()[1] not in html
    assert [(place.file, place.rows) for place in erased.places] == [
        ("run/20_churn/report.html", 2), ("run/20_churn/tables/a.parquet", 1),
    ]  # fmt: skip
    assert pd.read_parquet(folder / "a.parquet").to_dict("list") == {
        "customer_id": [4021], "orders": [17],
    }  # fmt: skip


@pytest.mark.parametrize("customer", ["17", PSEUDONYMS[0]])
def test_a_customer_is_taken_out_of_workbooks_and_drawings(tmp_path, customer):
    from openpyxl import Workbook, load_workbook
    from openpyxl.comments import Comment

    folder = tmp_path / "run" / "20_churn" / "tables"
    folder.mkdir(parents=True)
    book = Workbook()
    for row in (["Customer ID", "orders"], [customer, 17], ["4021", 17], [17, 4021], ["812", 3]):
        book.active.append(row)
    told = f"asked by customer number {customer}" if customer == "17" else f"see {customer}"
    book.active["B3"].comment = Comment(told, "someone")
    book.properties.title = told
    book.save(folder / "list.xlsx")
    labels = '<text x="17">{}</text><text>{}</text><text>17</text><text>4021</text>'
    axis = f"<svg>{labels}<!-- {{}} --></svg>"
    (folder / "by_customer.svg").write_text(axis.format("customer_id", customer, told))
    (folder / "by_week.svg").write_text(axis.format("week", "3", "17"))
    erased = forget(customer, tmp_path, PUBLIC_KEY)
    sheet = load_workbook(folder / "list.xlsx").active
    left = [[cell.value for cell in row] for row in sheet.iter_rows()]
    rest = (
        [["4021", 17], ["812", 3]] if customer == "17" else [["4021", 17], [17, 4021], ["812", 3]]
    )
    assert left == [["Customer ID", "orders"], *rest]
    text = "".join(zipfile.ZipFile(folder / "list.xlsx").read(name).decode("utf-8", "replace")
                   for name in zipfile.ZipFile(folder / "list.xlsx").namelist())  # fmt: skip
    assert told not in text
    drawing = (folder / "by_customer.svg").read_text()
    assert told not in drawing
    assert f">{customer}<" not in drawing
    assert '<text x="17">customer_id</text>' in drawing
    assert "<text>4021</text>" in drawing
    assert (folder / "by_week.svg").read_text() == axis.format("week", "3", "17")
    rows = {place.file.rpartition("/")[2]: place.rows for place in erased.places}
    assert rows == {"list.xlsx": 2 if customer == "17" else 1, "by_customer.svg": 0}


def test_the_command_says_what_went_and_what_to_run_again(tmp_path):
    make_run(tmp_path / "runs")
    done = CliRunner().invoke(app, ["forget", "00017", "--out", str(tmp_path / "runs")])
    assert done.exit_code == 0, done.output
    assert "run/30_clv/tables/value.parquet" in done.output
    assert "run/60_touches" in done.output
    as_json = CliRunner().invoke(app, ["forget", "x", "--out", str(tmp_path / "runs"), "--json"])
    assert json.loads(as_json.output)["again"] == []
