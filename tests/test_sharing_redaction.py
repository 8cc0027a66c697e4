"""Counts of few people leave in no file of what is shared; lists of people only when asked for."""

import io
import json
import re
import zipfile
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output
from sample_run import CLV_ENTRY, MANIFEST, lay_down, shown
from typer.testing import CliRunner

from journeylab.cli import app
from journeylab.errors import RunError
from journeylab.pseudonyms import PUBLIC_KEY, pseudonym_of
from journeylab.report import write_index, write_page
from journeylab.report.cleaning import RawTable, read_html
from journeylab.sharing import Known, share
from journeylab.sharing.segments import counts_people, cover_few

NOBODY = Known()
# spend stands beside the counts, so that what rests on few can be looked for in every byte
SEGMENTS = pd.DataFrame(
    {
        "segment": ["gold", "silver", "bronze", "new"],
        "customers": [4, 250, 31, 90],
        "spend": [731.0625, 12.5, 843.0625, 17.5],
    }
)
PEOPLE = pd.DataFrame(
    {
        "customer_id": [pseudonym_of(str(n), PUBLIC_KEY) for n in range(3)],
        "clv": [977.125, 8.0, 7.5],
    }
)
TELLING = ("731.0625", "843.0625")
SVG = '<svg xmlns="http://www.w3.org/2000/svg"><text>{}</text><path d="M0 0 L5 {}"/></svg>'


def table_of(name: str, frame: pd.DataFrame, **more: object):
    entry = {"name": name, "kind": "table", "table": f"tables/{name}.parquet", "rows": len(frame),
             "columns": list(frame.columns), **more}  # fmt: skip
    return shown(entry, text__html=frame.to_html(border=0), text__plain=frame.to_string())


def figure_of(name: str, label: str = "All is well", **more: object):
    entry = {"name": name, "kind": "figure", "figure": f"figures/{name}.svg", "alt": name, **more}
    drawn = "1.5" if more.get("draws") == ["large"] else "731.0625"
    return shown(entry, image__svg_p_xml=SVG.format(label, drawn))


def make_run(
    root: Path, outputs: list, tables: dict[str, pd.DataFrame], lists: dict[str, pd.DataFrame]
) -> Path:
    """A run of one notebook that left these outputs and files."""
    run = root / "run"
    entry = CLV_ENTRY | {"needs": [], "key": "5" * 64, "key_parts": {"upstream": "6" * 64}}
    entry["outputs"] = {f"tables/{name}.parquet": "7" * 64 for name in tables}
    manifest = {**MANIFEST, "notebooks": [entry]}
    run.mkdir(parents=True)
    (run / "manifest.json").write_text(json.dumps(manifest))
    cells = [new_code_cell("...", outputs=[output]) for output in outputs]
    folder = lay_down(run, entry, new_notebook(cells=cells))
    (folder / "tables").mkdir()
    (folder / "figures").mkdir()
    for name, frame in tables.items():
        frame.to_parquet(folder / "tables" / f"{name}.parquet")
    for name, frame in lists.items():
        frame.to_csv(folder / "tables" / f"{name}.csv", index=False, encoding="utf-8-sig")
    for output in outputs:
        for entry_shown in output.get("data", {}).values():
            if isinstance(entry_shown, dict) and "figure" in entry_shown:
                svg = output["data"]["image/svg+xml"]
                (folder / entry_shown["figure"]).write_text(svg)
    write_page(folder, manifest, entry)
    write_index(run)
    return run


def opened(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def shared(run: Path, tmp_path: Path, **options: object):
    made = share(run, tmp_path / "report.zip", known=NOBODY, **options)
    return opened(made.path), made.redaction


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Small segments in every form, and figures that say or do not say what they draw."""
    counts = {"gold": 4, "silver": 250, "bronze": 31, "new": 90}
    outputs = [
        table_of("segments", SEGMENTS),
        table_of("large", SEGMENTS.assign(customers=[40, 250, 31, 90], spend=1.5)),
        table_of("best", PEOPLE),
        figure_of("says_segments", draws=["segments"]),
        figure_of("says_large", draws=["large"]),
        figure_of("says_people", draws=["best"]),
        figure_of("says_nothing"),
        figure_of("labels", "gold (n = 4)", draws=[]),
        shown({"name": "gold_customers", "kind": "number", "value": 4}),
        shown({"name": "customers_by_segment", "kind": "mapping", "value": counts}),
        new_output("stream", name="stdout", text=SEGMENTS.to_string()),
        new_output("stream", name="stdout", text=PEOPLE.to_string(index=False)),
        new_output("execute_result", {"text/html": SEGMENTS.to_html(), "text/plain": "x"},
                   execution_count=1),
        shown({"name": "decision", "kind": "decision", "text": "Call the 4 customers in gold."}),
    ]  # fmt: skip
    tables = {
        "segments": SEGMENTS,
        "large": SEGMENTS.assign(customers=[40, 250, 31, 90], spend=1.5),
        "best": PEOPLE,
    }
    run = make_run(tmp_path, outputs, tables, {"to_call": SEGMENTS, "ranking": PEOPLE})
    # lay_down keeps a number as its display does; the runner keeps it bare
    path = run / "30_clv" / "results.json"
    results = json.loads(path.read_text())
    results["gold_customers"], results["customers_by_segment"] = 4, counts
    path.write_text(json.dumps(results))
    return run


def test_small_segments_leave_in_no_file_of_any_format(run, tmp_path):
    whole = b"".join(path.read_bytes() for path in run.rglob("*.*") if path.is_file())
    assert all(whole.count(text.encode()) >= 4 for text in TELLING)
    files, redaction = shared(run, tmp_path)
    for name, content in files.items():
        if name.endswith(".parquet"):
            content = str(pq.read_table(io.BytesIO(content)).to_pydict()).encode()
        for text in (*TELLING, "977.125", "(n = 4)"):
            assert text.encode() not in content, (name, text)
    assert redaction.cells == 2 + 2 + 1 + 2  # Parquet, CSV, the number, the mapping
    # the page that is one file is made of the same
    page = share(run, tmp_path / "one.html", known=NOBODY).path.read_text()
    assert not [text for text in (*TELLING, "977.125", "(n = 4)") if text in page]


def test_parquet_csv_json_and_pages_say_the_same_and_how_many_cells_are_hidden(run, tmp_path):
    files, _ = shared(run, tmp_path)
    table = pq.read_table(io.BytesIO(files["30_clv/tables/segments.parquet"]))
    assert table.schema.types == pq.read_table(run / "30_clv/tables/segments.parquet").schema.types
    assert table["customers"].to_pylist() == [None, 250, None, 90]
    assert table["segment"].to_pylist() == SEGMENTS["segment"].tolist()
    assert table["spend"].to_pylist() == [None, 12.5, None, 17.5]
    listed = files["30_clv/tables/to_call.csv"].decode("utf-8-sig").splitlines()
    assert listed[1:] == ["gold,,", "silver,250,12.5", "bronze,,", "new,90,17.5"]
    results = json.loads(files["30_clv/results.json"])
    note = "2 cells hidden: fewer than 10 customers, or what would give such a count away"
    assert results["segments"]["hidden"] == note
    assert results["gold_customers"] == "fewer than 10 customers"
    hidden = "hidden: fewer than 10 customers"
    counts = {"gold": hidden, "silver": 250, "bronze": hidden, "new": 90}
    assert results["customers_by_segment"] == counts
    page = files["30_clv/report.html"].decode()
    assert page.count(note) == 1
    tables = [part for part in read_html(page) if isinstance(part, RawTable)]
    rows = [[cell.text.strip() for cell in row] for table in tables for row in table.rows]
    assert ["gold", "–", "–"] in [row[-3:] for row in rows]
    assert ["silver", "250", "12.5"] in [row[-3:] for row in rows]


def test_a_figure_that_draws_hidden_cells_or_does_not_say_is_held_back_with_the_reason(
    run, tmp_path
):
    files, redaction = shared(run, tmp_path)
    kept = {name for name in files if name.startswith("30_clv/figures/")}
    assert kept == {"30_clv/figures/says_large.svg"}
    page = files["30_clv/report.html"].decode()
    for name, reason in {
        "says_segments": "it draws segments, of which cells are hidden",
        "says_people": "it draws best, which has a row for each customer",
        "says_nothing": "it does not say what it draws",
        "labels": "its labels count fewer than 10 customers",
    }.items():
        assert reason in redaction.held_back[f"30_clv/{name}"]
        assert reason in page
        assert reason in json.loads(files["30_clv/results.json"])[name]["held_back"]


def test_the_manifest_says_what_is_hidden_and_keeps_no_hash_of_it(run, tmp_path):
    files, redaction = shared(run, tmp_path)
    manifest = json.loads(files["manifest.json"])
    entry = manifest["notebooks"][0]
    assert (entry["key"], entry["key_parts"]) == (None, {})
    assert not {"7" * 64, "5" * 64, "6" * 64} & set(re.findall("[0-9a-f]{64}", str(manifest)))
    assert "tables/best.parquet" not in entry["outputs"]
    assert manifest["shared"] == redaction.to_json()
    assert manifest["shared"]["k"] == 10


def test_rows_of_one_person_come_along_only_when_asked_for_and_are_counted(run, tmp_path):
    files, redaction = shared(run, tmp_path)
    assert not [name for name in files if "best" in name or "ranking" in name]
    left_out = "3 rows, each about one customer; share --lists sends them"
    assert left_out in files["30_clv/report.html"].decode()
    assert not redaction.lists
    files, redaction = shared(run, tmp_path, lists=True)
    assert {"30_clv/tables/best.parquet", "30_clv/tables/ranking.csv"} <= set(files)
    assert "30_clv/figures/says_people.svg" in files
    assert redaction.rows_of_people == 9  # Parquet, CSV, printed
    assert PEOPLE["customer_id"][0].encode() in files["30_clv/report.html"]


def test_prose_is_left_and_the_sender_is_told_of_it(run, tmp_path):
    _, redaction = shared(run, tmp_path)
    assert redaction.notices == ["30_clv, decision, cell 14: '4 customers'"]


def test_k_of_1_hides_no_count_and_a_smaller_k_hides_less(run, tmp_path):
    files, redaction = shared(run, tmp_path, k=1, lists=True)
    assert (redaction.cells, redaction.held_back) == (0, {})
    assert files["30_clv/report.html"] == (run / "30_clv" / "report.html").read_bytes()
    files, redaction = shared(run, tmp_path, k=1)
    assert redaction.cells == 0
    assert "30_clv/tables/best.parquet" not in files
    assert "30_clv/figures/says_segments.svg" in files
    assert "30_clv/figures/says_people.svg" not in files
    _, redaction = shared(run, tmp_path, k=4, lists=True)
    assert (redaction.cells, redaction.held_back) == (0, {})
    _, redaction = shared(run, tmp_path, k=100)
    assert redaction.cells > 7


def test_the_command_says_what_was_hidden_held_back_and_left_out(run, tmp_path):
    (tmp_path / "runs").mkdir()
    run.rename(tmp_path / "runs" / "one")
    done = CliRunner().invoke(
        app,
        [
            "share",
            "one",
            "--out",
            str(tmp_path / "runs"),
            "-o",
            str(tmp_path / "r.html"),
            "--k",
            "5",
        ],
    )
    assert done.exit_code == 0, done.output
    said = " ".join(done.output.split())
    assert "7 cells hidden: fewer than 5 customers" in said
    assert "30_clv/says_nothing: held back" in said
    assert "3 rows, each about one customer" in said
    assert "'4 customers'" in said


@pytest.mark.parametrize(
    ("name", "counted"),
    [
        ("customers", True), ("n", True), ("count", True), ("n_treated", True), ("at_risk", True),
        ("people who joined", True), ("人数", True), ("会员数", True), ("number_of_members", True),
        ("members", True), ("share_of_customers", False), ("customers_per_day", False),
        ("n_orders", False), ("orders", False), ("rows", False), ("of_buyers", False),
        ("customer_id", False), ("horizon_days", False), ("rank", False), ("mean_customers", False),
    ],
)  # fmt: skip
def test_columns_that_count_people_are_known_by_their_names(name, counted):
    assert counts_people(name) is counted


def test_a_total_is_known_and_the_next_smallest_is_hidden_instead():
    frame = pd.DataFrame({"list": ["a", "b", "c", "everybody"], "customers": [3, 40, 500, 543]})
    cover = cover_few(frame, 10)
    assert cover.hidden[:, 1].tolist() == [True, True, False, False]


def test_two_keys_hide_along_both_and_a_lacking_pair_may_have_to_stand_there_as_a_blank():
    frame = pd.DataFrame(
        {"segment": ["a", "a", "b"], "days": [30, 90, 30], "customers": [4, 60, 70], "rate": 0.5}
    )
    cover = cover_few(frame, 10)
    assert cover.hidden[:, 2].all()
    assert cover.hidden[:, 3].all()
    assert cover.added.to_numpy().tolist() == [["b", 90]]


def test_a_table_over_columns_of_counts_is_covered_as_a_grid():
    frame = pd.DataFrame(
        {
            "segment": list("abc"),
            "day_0": [90, 80, 99],
            "day_30": [4, 50, 60],
            "day_60": [3, 30, 40],
        }
    )
    cover = cover_few(frame, 10, "at_risk_by_segment")
    assert cover.hidden[:, 0].sum() == 0
    assert cover.hidden[0, 2]
    assert cover.hidden[0, 3]
    assert all(cover.hidden[:, place].sum() in (0, 2, 3) for place in (1, 2, 3))
    assert cover_few(frame, 10, "purchases_by_segment").cells == 0
    declared = cover_few(frame, 10, "purchases_by_segment", ["day_30"])
    assert declared.hidden[0, 2]


def test_what_cannot_be_covered_stays_as_a_whole():
    alone = pd.DataFrame({"segment": ["a"], "customers": [3]})
    assert "merge groups" in cover_few(alone, 10).refusal
    keys = [(a, b, c) for a in "pq" for b in "rs" for c in "tu"]
    three = pd.DataFrame(keys, columns=list("abc")).assign(customers=[3, *[50] * 7])
    assert "no one or two columns" in cover_few(three, 10).refusal


def test_damaged_files_are_held_back_or_refused(run, tmp_path):
    (run / "30_clv" / "tables" / "segments.parquet").write_bytes(b"PAR1 no more")
    files, redaction = shared(run, tmp_path)
    assert "30_clv/tables/segments.parquet" not in files
    assert redaction.held_back["30_clv/segments"].endswith("it is damaged and cannot be read")
    (run / "30_clv" / "results.json").write_text("{")
    with pytest.raises(RunError, match=r"30_clv/results\.json is damaged and cannot be shared"):
        shared(run, tmp_path)


def test_a_grid_over_segments_is_a_table_of_segments(run, tmp_path):
    rows = [
        {"notebook": "clv", "instance": f"30_clv--s-{number}", "s": str(number), "state": "done",
         "customers": count, "spend": 600.25 + number}
        for number, count in enumerate([4, 250, 31, 90])
    ]  # fmt: skip
    (run / "summary.json").write_text(json.dumps(rows))
    files, _ = shared(run, tmp_path)
    assert "summary.json" not in files
    page = files["index.html"].decode()
    assert "601.25" in page or "601.2" in page
    assert "600.2" not in page
    assert "602.2" not in page
