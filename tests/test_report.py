"""The static site: what a page says and in which order, and that nothing on it can act."""

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from chromium import CHROMIUM, open_page
from hypothesis import given
from hypothesis import strategies as st
from nbformat.v4 import new_output
from sample_run import (
    CLV_ENTRY,
    DECISION,
    HOSTILE,
    MANIFEST,
    again,
    clv_notebook,
    estimate,
    lay_down,
    tracking_svg,
)

from journeylab.report import write_index, write_page
from journeylab.report.cleaning import clean_svg, plain, read_html
from journeylab.report.markdown import render
from journeylab.report.notebook import RECORD
from journeylab.report.numbers import column, key_figure, number
from journeylab.report.site import first_sentence
from journeylab.report.tables import readable_table

in_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium on the PATH")


@pytest.fixture(scope="module")
def svg() -> str:
    return tracking_svg()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, svg: str) -> Path:
    run = tmp_path_factory.mktemp("run")
    return write_page(lay_down(run, CLV_ENTRY, clv_notebook(svg)), MANIFEST, CLV_ENTRY)


@pytest.fixture(scope="module")
def hostile_run(tmp_path_factory: pytest.TempPathFactory, svg: str) -> Path:
    """A run of four: fine, full of hostile text, failed, blocked."""
    run = tmp_path_factory.mktemp("hostile")
    armed = svg.replace(
        '<g id="figure_1">',
        "<script>document.title='owned'</script><foreignObject><body/></foreignObject>"
        '<g id="figure_1" onload="document.title=\'owned\'">'
        '<image href="https://example.org/x.png"/><use xlink:href="https://example.org/y#z"/>',
        1,
    )
    bad = clv_notebook(armed, HOSTILE)
    bad.cells[0].source = f"# 谁会离开 {HOSTILE}\n\n{HOSTILE}\n\n![x](https://example.org/a.png)"
    bad.cells[7].outputs += [
        new_output("display_data", {"text/html": HOSTILE + '<link href="//example.org/s.css">'}),
        new_output("stream", name="stdout", text=HOSTILE),
    ]
    for cell in bad.cells:
        for output in cell.get("outputs", ()):
            entry = output.get("data", {}).get(RECORD, {})
            if entry.get("kind") in ("decision", "caution"):
                entry["text"] = HOSTILE
    failing = clv_notebook(svg)
    failing.cells = failing.cells[:9]
    failing.cells[8].outputs = [
        new_output(
            "error", ename="FitError", evalue="no", traceback=["\x1b[31mFitError\x1b[0m: no"]
        )
    ]
    stopped = {"cell": 9, "name": "FitError", "message": "\x1b[31mno\x1b[0m maximum",
               "traceback": "File cell 9\nFitError: no maximum"}  # fmt: skip
    waiting = {"title": "Who gets which message?", "error": {"message": "blocked by 40_uplift"},
               "duration_seconds": None}  # fmt: skip
    changes: list[tuple[dict[str, Any], Any]] = [
        ({}, clv_notebook(svg)),
        ({"instance": "31_clv--data-x", "data": HOSTILE, "parameters": {HOSTILE: HOSTILE}}, bad),
        ({"instance": "40_uplift", "name": "uplift", "state": "failed", "error": stopped}, failing),
        ({"instance": "60_touches", "name": "touches", "state": "blocked", **waiting}, None),
    ]
    entries = [{**CLV_ENTRY, **change} for change, _ in changes]
    manifest = {**MANIFEST, "notebooks": entries, "label": HOSTILE}
    (run / "manifest.json").write_text(json.dumps(manifest))
    for entry, (_, notebook) in zip(entries, changes, strict=True):
        write_page(lay_down(run, entry, notebook), manifest, entry)
    write_index(run)
    return run


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def body_of(path: Path) -> str:
    return text_of(path).partition("<body>")[2]


def test_a_page_says_question_decision_key_figures_doubt_and_then_the_sections(page):
    html = body_of(page)
    marks = [
        "<h1>What will", 'class="lede"', "Spend on the top 10 %", "1,653", "$35.08",
        "Late-1997 marketing", "Settings of this run", "<h2>Does it track", "<svg",
        "<h2>Is it better", "<footer>",
    ]  # fmt: skip
    places = [html.index(mark) for mark in marks]
    assert places == sorted(places)


def test_the_eyebrow_names_number_topic_data_and_date(page):
    eyebrow = re.search(r'<p class="eyebrow">(.*?)</p>', body_of(page))[1]
    spans = re.findall(r"<span>(.*?)</span>", eyebrow)
    assert spans == ["30", "CLV", "cdnow", "as of 30\xa0Sep\xa01997"]


def test_only_the_first_three_estimates_are_key_figures(page):
    key = re.search(r'<ul class="key">.*?</ul>', body_of(page), re.DOTALL)[0]
    names = re.findall(r'class="name">(.*?)<', key)
    assert names == ["Expected purchases", "Spend", "Holdout bias"]
    assert "95\xa0% interval 1,540 to 1,770" in key


def test_headings_go_down_one_level_at_a_time(page, hostile_run):
    for path in (page, *hostile_run.rglob("*.html")):
        levels = [int(level) for level in re.findall(r"<h([1-6])", body_of(path))]
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(after <= before + 1 for before, after in pairwise(levels))


def test_cautions_and_the_doubt_cell_share_one_box_and_the_doubt_is_not_said_twice(page):
    html = body_of(page)
    box = re.search(r'<section class="doubt".*?</section>', html, re.DOTALL)[0]
    assert "ran 12 % above the model" in box
    assert html.count("Late-1997 marketing") == 1
    assert html.count("What would make us doubt it") == 1


def test_parameters_are_a_folded_table_and_not_code(page):
    html = body_of(page)
    settings = re.search(r'<details class="settings">.*?</details>', html, re.DOTALL)[0]
    names = re.findall(r'<th scope="row">(.*?)</th>', settings)
    assert names == ["data", "as_of", "horizon_days", "seed"]
    assert "how far ahead, days [1..730]" in settings
    assert "# Parameters" not in html


def test_code_between_two_texts_is_folded_once_and_logs_are_folded_away(page):
    html = body_of(page)
    before_first_heading = html.partition("<h2>Does it track")[0]
    assert before_first_heading.count("<summary>Code</summary>") == 1
    log = re.search(r"<summary>Log</summary>.*?</details>", html, re.DOTALL)[0]
    assert "Loading: 100%" in log
    assert "Loading: 10%" not in html


def test_the_same_inputs_give_the_same_bytes_and_leave_no_other_file(tmp_path, svg):
    pages = []
    for name in ("one", "two"):
        # cell ids differ between the two, so none may show
        folder = lay_down(tmp_path / name, CLV_ENTRY, clv_notebook(svg))
        pages.append(write_page(folder, MANIFEST, CLV_ENTRY).read_bytes())
        left = {path.name for path in folder.iterdir()}
        assert left == {"notebook.ipynb", "results.json", "report.html"}
    assert pages[0] == pages[1]


def test_a_page_stays_under_three_megabytes_whatever_the_figures_weigh(tmp_path, svg):
    line = " ".join(f"L {n % 700} {n % 97}.25" for n in range(120_000))
    marks = f'<path d="M 0 0 {line}" style="fill: none; stroke: #0b7a75"/>'
    notebook = clv_notebook(svg.replace("</svg>", f"{marks}</svg>"))
    for cell in list(notebook.cells):
        if "tracking" in cell.source:
            notebook.cells += [again(cell), again(cell)]
    page = write_page(lay_down(tmp_path, CLV_ENTRY, notebook), MANIFEST, CLV_ENTRY)
    assert page.stat().st_size < 3_000_000
    assert "too large for a page" in text_of(page)
    assert 'href="figures/tracking.svg"' in text_of(page)


def test_a_page_stays_under_three_megabytes_whatever_was_printed(tmp_path, svg):
    notebook = clv_notebook(svg)
    noisy = notebook.cells[-2]
    wide = "".join(f"<td>{n}&lt;</td>" for n in range(30))
    frame = f"<table>{f'<tr>{wide}</tr>' * 100}</table>"
    noisy.outputs = [new_output("stream", name="stdout", text="<&>\n" * 50_000)]
    for _ in range(120):
        notebook.cells.append(again(noisy))
    noisy.outputs = [
        new_output("display_data", {"text/html": f"<p>{'&lt;' * 900_000}</p>{frame}"}),
        new_output("display_data", {"text/markdown": "word " * 200_000}),
    ]
    long = {"cell": 9, "name": "E", "message": "m" * 2_800_000, "traceback": "t" * 2_800_000}
    entry = {**CLV_ENTRY, "state": "failed", "error": long}
    page = write_page(lay_down(tmp_path, entry, notebook), MANIFEST, entry)
    assert page.stat().st_size < 3_000_000
    assert "characters left out" in text_of(page)
    assert "bytes left out" in text_of(page)


def test_lists_for_a_spreadsheet_are_linked_from_page_text_and_index(tmp_path, svg):
    notebook = clv_notebook(svg)
    notebook.cells[-2].outputs = [
        new_output("execute_result", {"text/plain": "PosixPath('tables/ranking.csv')"}),
        new_output("execute_result", {"text/plain": "PosixPath('tables/absent.csv')"}),
        new_output("display_data", {"text/html": '<a href="tables/ranking.csv">in HTML</a>'
                                    '<a href="../../secret.csv">no</a>'}),
    ]  # fmt: skip
    notebook.cells[-3].source = "## Lists\n\n[in words](tables/ranking.csv)"
    folder = lay_down(tmp_path, CLV_ENTRY, notebook)
    (folder / "tables").mkdir()
    for name in ("ranking.csv", "a second.csv", ".hidden.csv", "ranking.parquet"):
        (folder / "tables" / name).write_text("customer_id\n")
    (tmp_path / "manifest.json").write_text(json.dumps(MANIFEST))
    html = body_of(write_page(folder, MANIFEST, CLV_ENTRY))
    top, _, rest = html.partition('<ul class="key">')
    assert 'List to act on: <a href="tables/ranking.csv">ranking.csv</a></p>' in top
    assert '<a href="tables/ranking.csv">in HTML</a>' in rest
    assert '<a href="tables/ranking.csv" rel="noopener noreferrer">in words</a>' in rest
    assert '<p class="note"><a href="tables/ranking.csv">tables/ranking.csv</a></p>' in rest
    assert "absent.csv&#39;" in rest
    assert "secret" not in html
    assert '<a href="tables/ranking.csv">' in html.partition("<footer>")[2]
    index = body_of(write_index(tmp_path))
    assert 'List to act on: <a href="30_clv/tables/ranking.csv">ranking.csv</a></p>' in index


def test_what_was_recorded_before_a_kernel_died_is_on_the_page(tmp_path, svg):
    notebook = clv_notebook(svg)
    for cell in notebook.cells:
        cell.pop("outputs", None)
    dead = {"cell": 9, "name": "DeadKernelError", "message": "the kernel died", "traceback": ""}
    entry = {**CLV_ENTRY, "state": "failed", "error": dead}
    folder = lay_down(tmp_path, entry, None)
    (folder / "notebook.ipynb").write_text(json.dumps(notebook), encoding="utf-8")
    value = {k: v for k, v in estimate("", 9.5, 9, 10, "USD").items() if k not in ("name", "kind")}
    kept = {
        "worth": value,
        "customers": 2357,
        "gamma_gamma": {"p": 6.25},
        "ranking": {"table": "tables/ranking.parquet", "rows": 3, "columns": ["clv"]},
        "odd": {"table": "../../x", "rows": 3, "columns": ["clv"]},
        "cautions": ["Few data."],
    }
    (folder / "results.json").write_text(json.dumps(kept))
    after = body_of(write_page(folder, MANIFEST, entry)).partition("What was recorded before")[2]
    for part in ("Worth", "Customers", "2,357", "6.25", 'href="tables/ranking.parquet"'):
        assert part in after
    assert 'href="../../x"' not in after


def test_two_figures_on_a_page_share_no_id_and_every_reference_is_found(tmp_path, svg):
    notebook = clv_notebook(svg)
    drawing = next(cell for cell in notebook.cells if "figures.tracking" in cell.source)
    notebook.cells.insert(10, again(drawing))
    html = body_of(write_page(lay_down(tmp_path, CLV_ENTRY, notebook), MANIFEST, CLV_ENTRY))
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert html.count("<svg") == 2
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', html)) <= (
        {(i, "") for i in ids} | {("", i) for i in ids}
    )


def test_a_frame_reads_well_numbers_right_thousands_apart_ids_untouched(page):
    html = body_of(page)
    table = re.search(r"<table[^>]*>\s*<thead>\s*<tr><th[^>]*>model.*?</table>", html, re.DOTALL)[0]
    rows = [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row) for row in table.split("</tr>")]
    assert rows[1] == ["BG/NBD", "1,653", "1.608", "−9,582", "2,357"]
    assert rows[3] == ["Last period", "2,457", "2.450", "–", "2,357"]
    assert '<td class="n">2,357</td>' in table
    assert "dataframe" not in html
    assert '<td class="one">04021</td>' in html
    assert "First 3 of 2,357 rows" in html


@pytest.mark.parametrize(
    ("cells", "head", "expected"),
    [
        (["1234567", "2"], "orders", ["1,234,567", "2"]),
        (["1997", "1998"], "year", ["1997", "1998"]),
        (["10234", "99"], "customer_id", ["10234", "99"]),
        (["0.243000", "4.414000"], "value", ["0.243", "4.414"]),
        (["-0.5", "NaN"], "gap", ["−0.5", "–"]),
        (["9582.4", "0.0021"], "value", ["9,582.4", "0.0021"]),
        (["1.2e-05", "0.5"], "p", ["1.2e−5", "0.5"]),
        (["0012", "0013"], "code of store", None),
        (["12345678901234567890123"], "order", None),
        (["yes", "2"], "bought", None),
    ],
)
def test_columns_of_numbers_are_formatted_and_others_left_alone(cells, head, expected):
    assert column(cells, head) == expected


@pytest.mark.parametrize(
    ("entry", "value", "interval"),
    [
        ((0.031, 0.028, 0.034, "share"), "3.10\xa0%", "2.80 to 3.40\xa0%"),
        ((1653.4, 1540.2, 1770.9, "purchases"), "1,653", "1,540 to 1,771"),
        ((-3.5, -6.1, -0.9, "EUR"), "−€3.50", "−€6.10 to −€0.90"),
        ((12, 10, 15, "customers"), "12", "10 to 15"),
        ((5.0, 5.0, 5.0, "weeks"), "5", "5 to 5"),
        # an end beside zero is not shown as zero: that would hide on which side it lies
        ((10.2, -0.4, 22.0, "%"), "10.2\xa0%", "−0.4 to 22.0\xa0%"),
        ((10.0, 0.0, 20.0, "%"), "10\xa0%", "0 to 20\xa0%"),
    ],
)
def test_an_estimate_shows_the_digits_that_its_interval_supports(entry, value, interval):
    shown_figure = key_figure("x", estimate("x", *entry))
    assert shown_figure.value == value
    assert shown_figure.interval == f"95\xa0% interval {interval}"
    assert 0 <= shown_figure.low <= shown_figure.at <= shown_figure.high <= 100


def test_an_arm_called_none_keeps_its_name_beside_missing_values():
    frame = pd.DataFrame({"arm": ["none", "half"], "reason": [None, "no variation"]})
    table = readable_table(read_html(frame.to_html())[0])
    rows = [[cell.text for cell in row] for row in table.body]
    assert rows == [["none", "\N{EN DASH}"], ["half", "no variation"]]


def texts(rows):
    return [[cell.text for cell in row] for row in rows]


def test_estimates_in_a_table_take_their_digits_from_their_intervals():
    frame = pd.DataFrame(
        {"n": [4067, 241], "share": [0.0524, 0.6805], "ci_low": [0.0457, 0.6177],
         "ci_high": [0.06, 0.7352]},
        index=pd.Index(["0-6", "90+"], name="segment"),
    )  # fmt: skip
    table = readable_table(read_html(frame.to_html())[0])
    assert texts(table.head) == [["segment", "n", "share", "interval"]]
    assert texts(table.body) == [
        ["0-6", "4,067", "0.052", "0.046 to 0.060"],
        ["90+", "241", "0.680", "0.618 to 0.735"],
    ]


def test_units_of_columns_are_shown_and_shares_read_in_per_cent():
    frame = pd.DataFrame(
        {"share": [0.0524, 0.6805], "ci_low": [0.0457, 0.6177], "ci_high": [0.06, None],
         "of_all": [0.25, 0.0042], "gap": [3.5, None], "gap_low": [1.0, None],
         "gap_high": [6.0, None]},
    )  # fmt: skip
    units = {"share": "share", "of_all": "share", "gap": "days"}
    table = readable_table(read_html(frame.to_html(index=False))[0], units)
    assert texts(table.head) == [["share", "interval", "of all", "gap, days", "gap interval"]]
    assert texts(table.body) == [
        ["5.24\xa0%", "4.57 to 6.00\xa0%", "25.0\xa0%", "3.5", "1.0 to 6.0"],
        ["68.05\xa0%", "from 61.77\xa0%", "0.4\xa0%", "\N{EN DASH}", "\N{EN DASH}"],
    ]


def test_rows_of_unlike_size_have_digits_of_their_own():
    frame = pd.DataFrame(
        {"metric": ["revenue", "visits"], "effect": [2.54, 0.0256], "low": [0.67, 0.0089],
         "high": [4.41, 0.0423]},
    )  # fmt: skip
    table = readable_table(read_html(frame.to_html(index=False))[0])
    assert texts(table.body) == [
        ["revenue", "2.5", "0.7 to 4.4"],
        ["visits", "0.026", "0.009 to 0.042"],
    ]


def test_an_end_beside_zero_is_not_shown_as_zero():
    frame = pd.DataFrame({"effect": [0.627, 1.45], "low": [-0.03, 0.4], "high": [1.28, 2.5]})
    table = readable_table(read_html(frame.to_html(index=False))[0])
    assert texts(table.body) == [["0.63", "−0.03 to 1.28"], ["1.4", "0.4 to 2.5"]]


def test_low_and_high_that_hold_nothing_stay_two_columns():
    frame = pd.DataFrame({"band": ["a", "b"], "n": [40, 50], "low": [0.5, 1.5], "high": [1.0, 2.0]})
    table = readable_table(read_html(frame.to_html(index=False))[0])
    assert texts(table.head) == [["band", "n", "low", "high"]]


@given(
    st.lists(
        st.tuples(st.floats(-1e6, 1e6), st.floats(0.001, 1e6), st.booleans()),
        min_size=1,
        max_size=9,
    )
)
def test_whatever_the_numbers_an_interval_is_one_cell_that_says_both_ends(rows):
    frame = pd.DataFrame(
        [(value, value - half, None if open_ else value + half) for value, half, open_ in rows],
        columns=["effect", "ci_low", "ci_high"],
    )
    table = readable_table(read_html(frame.to_html(index=False))[0])
    if frame["ci_high"].isna().all():
        return
    assert texts(table.head) == [["effect", "interval"]]
    for row, (_, _, open_) in zip(texts(table.body), rows, strict=True):
        assert ("from" in row[1]) == open_
        assert (" to " in row[1]) == (not open_)


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("Call 71 of 143. The rest waits.", "Call 71 of 143."),
        ("Pay 9.10 a head, i.e. less.", "Pay 9.10 a head, i.e. less."),
        ("联系 71 位客户。其余等待。", "联系 71 位客户。"),
        ("", ""),
    ],
)
def test_the_first_sentence_of_a_decision_stands_out(text, first):
    assert first_sentence(text)[0] == first
    assert "".join(first_sentence(text)).replace(" ", "") == text.replace(" ", "")


def test_numbers_have_a_proper_minus_and_never_minus_zero():
    assert [number(x) for x in (-9582.4291, 0.0, -0.0, 15.4439)] == ["−9,582.4", "0", "0", "15.44"]


def test_a_failing_notebook_shows_cell_message_and_parameters_in_place_of_the_decision(hostile_run):
    html = body_of(hostile_run / "40_uplift" / "report.html")
    top = html.partition('<ul class="key">')[0]
    assert "This notebook failed" in top
    assert "Cell 9" in top
    assert "FitError: no maximum" in top
    assert '<details class="settings" open>' in top
    assert "figures.tracking" not in top.partition("<pre")[0]
    assert 'class="decision"' not in html
    assert "\x1b" not in html
    assert "Expected purchases" in html


def test_a_blocked_notebook_has_a_page_with_the_reason(hostile_run):
    html = body_of(hostile_run / "60_touches" / "report.html")
    assert "<h1>Who gets which message?</h1>" in html
    assert "blocked by 40_uplift" in html


def test_the_index_shows_decisions_figures_cautions_and_what_went_wrong(hostile_run):
    html = body_of(hostile_run / "index.html")
    assert "4 notebooks" in html
    assert "48\xa0s" in html
    assert all(sentence in html for sentence in DECISION.split("(41 to 51). "))
    assert 'href="30_clv/report.html"' in html
    assert 'href="30_clv/results.json"' in html
    assert 'href="manifest.json"' in html
    assert "95\xa0% interval 1,540 to 1,770" in html
    assert '<span class="pill warn">1 caution</span>' in html
    assert '<span class="pill bad">failed</span>' in html
    assert "2 of 4 notebooks did not finish" in html
    assert "blocked by 40_uplift" in html


@pytest.mark.parametrize(
    ("label", "count", "title"),
    [
        ("clv", 1, "This run on the user journey"),
        ("1-notebooks", 1, "This run on the user journey"),
        ("monthly", 30, "The user journey: monthly"),
    ],
)
def test_the_index_takes_one_notebook_or_thirty(tmp_path, svg, label, count, title):
    entries = [{**CLV_ENTRY, "instance": f"{n + 10}_clv"} for n in range(count)]
    manifest = {**MANIFEST, "label": label, "notebooks": entries}
    for entry in entries:
        lay_down(tmp_path, entry, clv_notebook(svg))
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    html = body_of(write_index(tmp_path))
    assert html.count('<article class="card">') == count
    assert f"<h1>{title}</h1>" in html
    assert f"{count} notebook{'s' if count > 1 else ''}</span>" in html


def test_no_tag_of_a_hostile_text_reaches_a_page(hostile_run):
    pages = [*hostile_run.rglob("*.html")]
    assert len(pages) == 5
    for path in pages:
        html = body_of(path)
        for tag in ("<script", "<img src=x", "<foreignObject", "<iframe", "<link", " onload="):
            assert tag not in html, (path.name, tag)
        for address in re.findall(r'(?:href|src)="([^"]*)"', html):
            assert not address.startswith(("http", "//", "javascript"))


@pytest.mark.parametrize(
    "inside",
    [
        "<script>javascript</script>",
        '<a href="javascript:x()"><rect onclick="x()"/></a>',
        '<rect onload="x()" style="fill:url(https://example.org/a)"/>',
        '<rect fill="url(//example.org/a)"/>',
        '<rect fill="url(#a) url(//example.org/a)"/>',
        '<style>@import "https://example.org"</style>',
        '<image href="data:image/svg+xml;base64,AAAA"/>',
        '<image href="https://example.org/a.png"/>',
        r'<rect style="fill:u\72l(https://example.org)"/>',
        '<animate attributeName="href" to="javascript:x()"/>',
        "<foreignObject><body>javascript</body></foreignObject>",
    ],
)
def test_nothing_active_is_left_in_a_drawing(inside):
    source = f'<svg xmlns="http://www.w3.org/2000/svg" onload="x()">{inside}</svg>'
    drawing = clean_svg(source, "f1-", "alt")
    for trace in (
        "script",
        "javascript",
        "example.org",
        "onload",
        "onclick",
        "animate",
        "svg+xml",
        "foreignObject",
    ):
        assert trace not in drawing


def test_a_drawing_that_declares_entities_is_refused(tmp_path, svg):
    bomb = '<!DOCTYPE svg [<!ENTITY a "aaaa">]><svg xmlns="http://www.w3.org/2000/svg">&a;</svg>'
    page = write_page(lay_down(tmp_path, CLV_ENTRY, clv_notebook(bomb)), MANIFEST, CLV_ENTRY)
    assert "declares entities" in text_of(page)


def test_markdown_keeps_raw_html_as_text_and_refuses_links_that_act():
    source = (
        f"## Head\n\n{HOSTILE}\n\n[a](javascript:alert(1)) [b](https://example.org) "
        "[c](java\tscript:x) [d](JaVaScript&colon;x) ![e](https://example.org/e.png) "
        '![[q](y"onerror="x)](data:image/png;base64,AAAA)\n\n| a | b |\n|---|--:|\n| 1 | 2 |'
    )
    html, level = render(source)
    assert level == 2
    assert "<script" not in html
    assert "<td" in html
    assert re.findall(r'href="([^"]*)"', html) == ["https://example.org"]
    assert not re.search(r"<[^>]*\son\w+=", html)
    assert "e.png" not in html


def test_html_of_any_origin_is_written_anew_without_attributes():
    from hypothesis import given, settings
    from hypothesis import strategies as st

    pieces = st.sampled_from(
        ["<script>", "</script>", "<p onclick=x>", "</p>", "<table>", "</table>", "<tr>", "<td ",
         "rowspan=9 onload=x>", "</td>", "<style>", "</style>", "<!--", "-->", "<svg><a href=x>",
         "<b/onmouseover=x>", "text", "&lt;script&gt;", "<![CDATA[", "]]>", "<", ">", '"', "<pre>",
         "<textarea>", "<title>", "<math><mi>", "</b>", "\x00"]
    )  # fmt: skip

    @settings(max_examples=300, deadline=None)
    @given(st.lists(pieces, max_size=14).map("".join))
    def holds(source):
        for part in read_html(source):
            if isinstance(part, str):
                bare = re.sub(r"</?(p|b|pre|br)>", "", part)
                assert "<" not in bare
                assert ">" not in bare
            else:
                readable_table(part)

    holds()


def test_terminal_codes_and_overwritten_lines_are_gone():
    assert plain("\x1b[1;31mred\x1b[0m 10%\r100%\r\nnext\x07") == "100%\nnext"


def test_the_pages_need_no_heavy_package():
    import subprocess
    import sys

    code = (
        "import sys, journeylab.report; heavy = {'matplotlib', 'pandas', 'nbconvert', 'nbformat',"
        " 'IPython'}; sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def _contrast(one: str, other: str) -> float:
    def luminance(color: str) -> float:
        color = color.lstrip("#")
        color = color if len(color) == 6 else "".join(2 * digit for digit in color)
        parts = [int(color[at : at + 2], 16) / 255 for at in (0, 2, 4)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", [0, 1])
def test_every_text_has_a_contrast_of_four_and_a_half_to_one(page, scheme):
    blocks = re.findall(r":root \{(.*?)\}", text_of(page), re.DOTALL)
    colors = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]+)", blocks[scheme]))
    pairs = [(text, ground) for text in ("ink", "soft", "faint", "accent", "warn", "bad")
             for ground in ("paper", "wash")]  # fmt: skip
    pairs += [(t, g) for g in ("accent-wash", "warn-wash", "bad-wash") for t in ("ink", "accent")]
    pairs += [("warn", "warn-wash"), ("bad", "bad-wash"), ("accent", "accent-wash")]
    low = {pair: round(_contrast(colors[pair[0]], colors[pair[1]]), 2) for pair in pairs}
    assert not {pair: ratio for pair, ratio in low.items() if ratio < 4.5}


@in_chromium
@pytest.mark.parametrize(
    "name",
    ["index.html", "30_clv/report.html", "31_clv--data-x/report.html", "40_uplift/report.html"],
)
def test_a_page_asks_the_network_for_nothing_runs_nothing_and_fits_a_phone(hostile_run, name):
    title = re.search(r"<title>(.*?)</title>", text_of(hostile_run / name))[1]
    with open_page(hostile_run / name, width=375) as opened:
        assert opened.requests == []
        assert opened.console_errors == []
        assert opened.evaluate("document.documentElement.scrollWidth") <= 375
        assert opened.evaluate("document.title") == title.replace("&lt;", "<").replace(
            "&gt;", ">"
        ).replace("&#39;", "'").replace("&#34;", '"')
        assert opened.evaluate("document.scripts.length") == 0


@in_chromium
def test_code_opens_by_keyboard_with_a_visible_focus_and_is_absent_in_print(page):
    first = "document.querySelector('details.code')"
    with open_page(page) as opened:
        assert opened.evaluate(f"{first}.open") is False
        for _ in range(30):
            opened.press("Tab")
            if opened.evaluate(f"document.activeElement === {first}.firstElementChild"):
                break
        assert opened.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        opened.press("Enter")
        assert opened.evaluate(f"{first}.open") is True
        assert "open_tables" in opened.evaluate(f"{first}.querySelector('pre').innerText")
        opened.press(" ")
        assert opened.evaluate(f"{first}.open") is False
        opened.emulate(media="print")
        assert opened.evaluate(f"getComputedStyle({first}).display") == "none"


@in_chromium
def test_in_the_dark_the_page_is_dark_and_figures_stay_on_white(page):
    with open_page(page, scheme="dark") as opened:
        ground = "getComputedStyle(document.{}).backgroundColor"
        assert opened.evaluate(ground.format("body")) == "rgb(18, 24, 31)"
        assert opened.evaluate(ground.format("querySelector('.canvas')")) == "rgb(255, 255, 255)"


@pytest.mark.parametrize("unit", ["share of customers", "share within 30 days"])
def test_a_share_is_shown_in_per_cent_with_what_it_is_a_share_of(unit):
    from journeylab.report.numbers import _in_unit

    shown, interval, rest = _in_unit(0.157, 0.146, 0.167, unit)
    assert (shown, interval) == ("15.7\N{NO-BREAK SPACE}%", "14.6 to 16.7\N{NO-BREAK SPACE}%")
    assert rest == unit.removeprefix("share ")
