"""The rules of a committed notebook: every notebook keeps them, and the checker sees a break."""

import copy
from pathlib import Path

import pytest
from planted import cell, write_cells

from journeylab.runs.rules import broken_rules, main

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))

GOOD = [
    cell("# Who will buy again?\n\nFor the shop, which decides by it.", kind="markdown"),
    cell('data: str = "cdnow"  # data set\nseed: int = 7  # of every draw', "parameters"),
    cell("from journeylab.runs import decision, record\n%matplotlib inline"),
    cell('record("value", 1)'),
    cell('decision("Go on.")', "decision"),
]


def test_there_are_notebooks():
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_keeps_the_rules(path):
    assert broken_rules(path) == []


def test_the_first_notebook_links_every_other_one():
    first = next(path for path in NOTEBOOKS if path.stem == "00_start_here")
    text = first.read_text(encoding="utf-8")
    assert [
        path.name for path in NOTEBOOKS if path != first and f"]({path.name})" not in text
    ] == []


def changed(number, **fields):
    cells = copy.deepcopy(GOOD)
    cells[number] |= fields
    return cells


BREAKS = {
    "outputs": (changed(3, outputs=[{"output_type": "stream"}]), "outputs or an execution count"),
    "execution count": (changed(3, execution_count=1), "outputs or an execution count"),
    "no parameters": (changed(1, metadata={}), "no code cell is tagged 'parameters'"),
    "two parameters": ([*GOOD, dict(GOOD[1])], "2 cells are tagged 'parameters'"),
    "broken schema": (changed(1, source="seed = 7"), "name: type = literal"),
    "no decision": (GOOD[:4], "must be tagged 'decision'; 0 are"),
    "two decisions": ([*GOOD, dict(GOOD[4])], "must be tagged 'decision'; 2 are"),
    "silent decision": (changed(4, source="1"), "does not call decision"),
    "function": (changed(3, source="def f():\n    pass"), "defines f"),
    "async function": (changed(3, source="async def f():\n    pass"), "defines f"),
    "class": (changed(3, source="if True:\n    class A:\n        pass"), "defines A"),
    "not Python": (changed(3, source="record("), "is not Python"),
    "many cells": ([*GOOD, *(cell("1") for _ in range(12))], "16 code cells; at most 15"),
    "many lines": (changed(3, source="1\n" * 97), "102 lines of code; at most 100"),
    "code first": (GOOD[1:], "first cell must be markdown"),
    "no heading": (changed(0, source="Who will buy again?"), "first cell must be markdown"),
    "second heading": (changed(0, source="## Who?"), "first cell must be markdown"),
    "absolute path": (changed(3, source='open("/home/anna/x.csv")'), "'/home/a"),
    "home folder": (changed(0, source="# Who?\n\nSee ~/data."), "'~/d"),
    "drive": (changed(3, source='open("C:\\\\Users")'), "one machine"),
    "bad record": (changed(3, source='record("Value", 1)'), "'Value' is no record name"),
    "hidden reference": (changed(3, source='recorded("@clv/value")'), "into the parameters cell"),
    "two of one id": (changed(3, id="c4"), "2 cells have the id 'c4'"),
}


@pytest.mark.parametrize("name", BREAKS)
def test_a_planted_break_is_seen_and_nothing_else_is(tmp_path, name):
    cells, complaint = BREAKS[name]
    broken = broken_rules(write_cells(tmp_path / "30_clv.ipynb", copy.deepcopy(cells)))
    assert [rule for rule in broken if complaint in rule] == broken
    assert len(broken) == 1


def test_a_missing_cell_id_is_seen(tmp_path):
    cells = copy.deepcopy(GOOD)
    del cells[2]["id"]
    path = write_cells(tmp_path / "30_clv.ipynb", cells)
    assert broken_rules(path) == ["1 cells have no id"]


def test_an_old_format_is_seen(tmp_path):
    path = write_cells(tmp_path / "30_clv.ipynb", copy.deepcopy(GOOD))
    path.write_text(path.read_text().replace('"nbformat_minor": 5', '"nbformat_minor": 4'))
    assert broken_rules(path) == ["the format is older than 4.5, which has no cell ids"]


def test_notebooks_that_teach_need_no_decision(tmp_path):
    cells = copy.deepcopy([GOOD[0], GOOD[3]])
    assert broken_rules(write_cells(tmp_path / "00_start_here.ipynb", cells)) == []


def test_the_checker_prints_what_is_broken_and_exits_with_1(tmp_path, capsys):
    good = write_cells(tmp_path / "30_clv.ipynb", copy.deepcopy(GOOD))
    assert main([str(good)]) == 0
    assert capsys.readouterr().out == ""
    bad = tmp_path / "31_bad.ipynb"
    bad.write_text("{}")
    assert main([str(good), str(bad)]) == 1
    assert "31_bad.ipynb cannot be read as a notebook" in capsys.readouterr().out
    assert main([]) == 1
