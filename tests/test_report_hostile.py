"""Names of customers, products and segments that try to act: they are shown, and nothing else."""

# ruff: noqa: E501 - what is planted reads best on one line

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from chromium import CHROMIUM, open_page
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from sample_run import CLV_ENTRY, MANIFEST, estimate, lay_down, shown, tracking_svg

from journeylab.clv import write_ranking
from journeylab.errors import ContractError
from journeylab.report import write_index, write_page
from journeylab.runs import record
from journeylab.runs.references import instance_name
from journeylab.sharing import Known, share

in_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium on the PATH")

OWNED = "document.title='owned'"
NAMES = (
    f"<script>{OWNED}</script>",
    f'"onload="{OWNED}" x="',
    f"'><img src=x onerror={OWNED}>",
    f"</title></style></code></details><svg onload={OWNED}>",
    "=cmd|'/C calc'!A0",
    "../../x",
    "javascript:document.title='owned'",
    "&#60;script&#62;document.title=1&#60;/script&#62;",
    "{{ 7 * 7 }}{% raw %}",
    "<!-- ]]> <meta http-equiv=refresh content='0;url=//example.org'>",
    "a\x00b\x07c\x1b[31md\x85e",
    "\u202egnp.exe\u2066",
    "<base href=//example.org><link rel=stylesheet href=//example.org/s.css>",
)
RTL = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


def hostile_notebook(name: str) -> Any:
    """A notebook that has the name in every place where data can come to stand."""
    frame = pd.DataFrame({"customer": [name, "b"], name: [1.5, 2.0]}).set_index("customer")
    table = {"name": "ranking", "kind": "table", "table": "tables/ranking.parquet", "rows": 2,
             "columns": ["customer", name]}  # fmt: skip
    figure = {"name": "curve", "kind": "figure", "figure": f"figures/{name}.svg", "alt": name}
    drawn = "".join(letter for letter in name if letter.isprintable())
    svg = tracking_svg().replace("observed", drawn.replace("&", "&amp;").replace("<", "&lt;"))
    printed = f"customer {name}\n"
    return new_notebook(
        cells=[
            new_markdown_cell(f"# {name}\n\n{name}"),
            new_code_cell(f"x: str = {name!r}  # {name}", metadata={"tags": ["parameters"]}),
            new_markdown_cell(f"## {name}\n\n- {name}\n\n[{name}]({name}) ![{name}]({name})"),
            new_code_cell(
                f"segment = {name!r}  # {name}",
                outputs=[
                    shown(table, text__html=frame.to_html(border=0)),
                    shown(table, text__html=f"<table><caption>{name}</caption><tr><td>{name}</table>"),
                    shown(figure, image__svg_p_xml=svg),
                    shown(estimate(name, 3.0, 2.0, 4.0, name)),
                    shown({"name": name, "kind": "mapping", "value": {name: name}}),
                    shown({"name": "text", "kind": "text", "value": name}),
                    new_output("stream", name="stdout", text=printed),
                    new_output("stream", name="stderr", text=printed),
                    new_output("display_data", {"text/html": name, "text/plain": name}),
                    new_output("display_data", {"text/markdown": name, "text/plain": name}),
                    new_output("execute_result", {"text/plain": name}, execution_count=1),
                    shown({"name": "caution", "kind": "caution", "text": name}),
                    shown({"name": "decision", "kind": "decision", "text": name}),
                ],
            ),
            new_markdown_cell(name, metadata={"tags": ["doubt"]}),
            new_code_cell("fail()", outputs=[new_output("error", ename=name, evalue=name,
                                                        traceback=[name])]),
        ]
    )  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One notebook per name that came to its end, and one that failed with it."""
    folder = tmp_path_factory.mktemp("hostile")
    entries = []
    for number, name in enumerate(NAMES):
        for state in ("done", "failed"):
            entry = {
                **CLV_ENTRY,
                "instance": f"{number:02d}_{state}",
                "name": name,
                "title": name,
                "state": state,
                "data": name,
                "parameters": {"segment": name, name: name, "as_of": name},
                "error": {"cell": 1, "name": name, "message": name, "traceback": name}
                if state == "failed"
                else None,
            }
            entries.append(entry)
            lay_down(folder, entry, hostile_notebook(name))
    manifest = {**MANIFEST, "label": NAMES[0], "run": NAMES[5], "notebooks": entries}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    for entry in entries:
        write_page(folder / entry["instance"], manifest, entry)
    write_index(folder)
    return folder


def as_shown(name: str) -> str:
    """What of a name a page may show: characters that act unseen are gone."""
    kept = name.replace("\x1b[31m", "").translate({ord(letter): None for letter in RTL})
    return "".join(letter for letter in kept if ord(letter) >= 32 and not 127 <= ord(letter) < 160)


STATE = """({
    scripts: document.scripts.length,
    handlers: [...document.querySelectorAll('*')].filter(
        e => e.getAttributeNames().some(n => n.startsWith('on'))).length,
    foreign: document.querySelectorAll(
        'iframe,object,embed,base,form,input,meta[http-equiv=refresh],link:not([rel=icon])').length,
    away: [...document.querySelectorAll('[href],[src]')].map(
        e => e.getAttribute('href') || e.getAttribute('src')).filter(
        a => /^(\\w+:|\\/\\/)/.test(a) && !a.startsWith('data:')),
    policy: document.querySelector('meta[http-equiv="Content-Security-Policy"]').content,
    title: document.title,
    text: document.body.innerText,
    width: document.documentElement.scrollWidth,
})"""


def judge(opened: Any, *names: str) -> None:
    state = opened.evaluate(STATE)
    assert opened.requests == []
    assert opened.console_errors == []
    assert (state["scripts"], state["handlers"], state["foreign"]) == (0, 0, 0)
    assert state["away"] == []
    assert state["title"] != "owned"
    assert not set(RTL) & set(state["text"] + state["title"])
    for part in ("default-src 'none'", "script-src 'none'", "img-src data:", "base-uri 'none'"):
        assert part in state["policy"]
    text = " ".join(state["text"].split())
    for name in names:
        assert " ".join(as_shown(name).split()) in text, name


@in_chromium
@pytest.mark.parametrize(
    ("number", "state"),
    [
        *((number, "done") for number in range(len(NAMES))),
        *((number, "failed") for number in (0, 3, 10, 11)),
    ],
)
def test_a_hostile_name_is_shown_as_it_is_and_changes_nothing(run, number, state):
    with open_page(run / f"{number:02d}_{state}" / "report.html") as opened:
        # a reference to a character is one in Markdown, and means the character
        judge(opened, *(() if number in (7,) else (NAMES[number],)))


@in_chromium
def test_the_index_of_hostile_names_changes_nothing(run):
    with open_page(run / "index.html") as opened:
        judge(opened)


@in_chromium
@pytest.mark.parametrize("code", [True, False])
def test_all_pages_as_one_ask_for_nothing_and_show_every_figure(run, tmp_path, code):
    out = share(run, tmp_path / "report.html", code=code, known=Known()).path
    with open_page(out) as opened:
        judge(opened, NAMES[0])
        broken = opened.evaluate(
            """(() => {
                const ids = [...document.querySelectorAll('[id]')].map(e => e.id);
                const places = [...document.querySelectorAll('a[href^="#"]')].map(
                    e => e.getAttribute('href').slice(1));
                const drawn = [...document.querySelectorAll('use')].map(
                    e => e.getAttribute('href').slice(1));
                return [ids.length - new Set(ids).size,
                        places.filter(p => p && !ids.includes(p)),
                        drawn.filter(p => !ids.includes(p)).length,
                        document.querySelectorAll('svg path').length > 10];
            })()"""
        )
        assert broken == [0, [], 0, True]
        assert opened.evaluate("document.querySelectorAll('details.code').length > 0") is code
        assert ("segment</span>" in out.read_text(encoding="utf-8")) is code


def test_no_page_holds_a_character_that_acts_unseen(run):
    for path in run.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        assert not [c for c in text if c in RTL or (ord(c) < 32 and c not in "\n\t") or c == "\x85"]


@pytest.mark.parametrize("name", NAMES)
def test_a_csv_export_opens_without_a_formula(tmp_path, name):
    frame = pd.DataFrame({"customer_id": [name, f" {name}", f"\t{name}"], name: [1.0, -2.0, 3.0]})
    path = write_ranking(frame, tmp_path / "ranking.csv")
    cells = pd.read_csv(path, encoding="utf-8-sig", dtype=str, lineterminator="\n", nrows=3)
    texts = [*map(str, cells.columns), *cells["customer_id"].dropna().map(str)]
    assert not [cell for cell in texts if cell.lstrip(" ").startswith(("=", "+", "-", "@", "\t"))]
    assert path.parent == tmp_path


@pytest.mark.parametrize("name", NAMES)
def test_no_file_is_named_after_a_hostile_name(tmp_path, monkeypatch, name):
    monkeypatch.setenv("JOURNEYLAB_RUN_FOLDER", str(tmp_path))
    with pytest.raises(ContractError, match="a record name is"):
        record(name, 1.0)
    assert list(tmp_path.iterdir()) == []
    folder = instance_name("30_clv", {"segment": name})
    assert (tmp_path / folder).resolve().parent == tmp_path.resolve()
    assert set(folder) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
