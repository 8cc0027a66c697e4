"""The cache: what has not changed is not run again, what has is, and nothing else."""

import json
import os
import time
from pathlib import Path

import pytest
from planted import write_notebook

from journeylab.errors import RunError
from journeylab.runs import RunOptions, make_plan, preview, run
from journeylab.runs.cache import cache_folder, with_text_of_now
from journeylab.runs.journal import Journal
from journeylab.runs.keys import KeyMaker
from journeylab.runs.pruning import prune
from journeylab.runs.reach import PackageSources

FIRST = "data: str = 'orders'  # data\nn: int = 2  # n"
SECOND = 'value: str = "@first/value"  # value'
NAMES = ("10_first", "20_second", "30_other")


def write_project(root: Path, first: str = "record('value', n)  # so") -> Path:
    """``second`` reads ``first``; ``other`` reads nobody."""
    notebooks = root / "notebooks"
    mark = "open('extra.txt', 'w').write('kept')"
    write_notebook(notebooks / "10_first.ipynb", FIRST, first, mark)
    write_notebook(
        notebooks / "20_second.ipynb",
        SECOND,
        "from journeylab.estimate import Estimate\n"
        "record('twice', Estimate(2.0 * recorded(value), 0, 9, 'USD'))",
    )
    write_notebook(notebooks / "30_other.ipynb", "m: int = 1  # m", "record('m', m)")
    return notebooks


def plan(notebooks, *names, data="a", **options):
    return make_plan(
        notebooks, names, every=not names, fingerprint=lambda source: data * 64, **options
    )


def forecast(notebooks, *names, force=False, **options):
    root = notebooks.parent / "runs"
    found = preview(plan(notebooks, *names, **options), root, force=force)
    return {one.instance: one.state for one in found}, {one.instance: one.why for one in found}


def entries(folder: Path):
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    return {entry["instance"]: entry for entry in manifest["notebooks"]}


@pytest.fixture(scope="module")
def once(tmp_path_factory):
    """A project that has been run once."""
    root = tmp_path_factory.mktemp("cached")
    notebooks = write_project(root)
    return notebooks, run(plan(notebooks), RunOptions(jobs=2)).folder


def test_a_second_run_executes_nothing_and_says_where_its_results_are_from(once):
    notebooks, first = once
    for path in notebooks.glob("*.ipynb"):
        os.utime(path, (1, 1))
    text = (notebooks / "10_first.ipynb").read_text()
    second_text = text.replace("For the tests, which", "For *everybody*, who").replace(
        "# so", "# S"
    )
    (notebooks / "10_first.ipynb").write_text(second_text)
    assert forecast(notebooks)[0] == dict.fromkeys(NAMES, "cached")
    second = run(plan(notebooks), RunOptions(jobs=2)).folder
    (notebooks / "10_first.ipynb").write_text(text)
    events = [json.loads(line)["event"] for line in (second / "journal.jsonl").open()]
    assert events == ["begin", "cached", "cached", "cached", "end"]
    for name in NAMES:
        entry = entries(second)[name]
        assert (entry["state"], entry["cached_from"]) == ("done", first.name)
        assert entry["outputs"] == entries(first)[name]["outputs"]
        assert entry["key"] == entries(first)[name]["key"]
        assert f"<dd>{first.name}</dd>" in (second / name / "report.html").read_text()
        for path in entry["outputs"]:
            assert (second / name / path).read_bytes() == (first / name / path).read_bytes()
    assert (second / "10_first" / "extra.txt").read_text() == "kept"
    assert f"as in {first.name}" in (second / "index.html").read_text()
    # the text is that of now, with the answers of then
    page = (second / "10_first" / "report.html").read_text()
    assert "<em>everybody</em>" in page
    assert "Go on." in page
    shown = json.loads((second / "10_first" / "notebook.ipynb").read_text())
    assert any(cell.get("outputs") for cell in shown["cells"])
    assert "record('value', n)  # S" in json.dumps(shown)


def test_a_changed_parameter_runs_that_notebook_and_what_reads_it(once):
    notebooks, _ = once
    states, why = forecast(notebooks, parameters={"n": "3"})
    assert states == {"10_first": "run", "20_second": "run", "30_other": "cached"}
    assert "n 2 -> 3" in why["10_first"]
    assert "10_first runs first" in why["20_second"]
    folder = run(plan(notebooks, parameters={"n": "3"})).folder
    taken = {name for name, entry in entries(folder).items() if entry["cached_from"]}
    assert taken == {"30_other"}
    assert json.loads((folder / "20_second" / "results.json").read_text())["twice"]["value"] == 6
    assert forecast(notebooks)[0] == dict.fromkeys(NAMES, "cached")


def test_changed_code_data_and_force_run_what_they_concern(once):
    notebooks, _ = once
    assert forecast(notebooks, force=True)[0] == dict.fromkeys(NAMES, "run")
    states, why = forecast(notebooks, data="b")
    assert states == {"10_first": "run", "20_second": "run", "30_other": "cached"}
    assert "the data orders (fingerprint aaaaaaaaaaaa -> bbbbbbbbbbbb)" in why["10_first"]
    path = notebooks / "30_other.ipynb"
    text = path.read_text()
    path.write_text(text.replace("record('m', m)", "record('m', m + 0)"))
    states, why = forecast(notebooks)
    path.write_text(text)
    assert states == {"10_first": "cached", "20_second": "cached", "30_other": "run"}
    assert "its code" in why["30_other"]


def test_a_changed_package_function_runs_its_dependants_and_is_named(once, tmp_path, monkeypatch):
    import shutil

    notebooks, _ = once
    package = Path(__file__).parent.parent / "journeylab"
    copy = tmp_path / "journeylab"
    shutil.copytree(package, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(
        "journeylab.runs.forecasting.KeyMaker",
        lambda project: KeyMaker(project, PackageSources(copy)),
    )
    assert forecast(notebooks)[0] == dict.fromkeys(NAMES, "cached")
    (copy / "runs" / "execution.py").write_text("# the runner is no part of a result")
    assert forecast(notebooks)[0] == dict.fromkeys(NAMES, "cached")
    with (copy / "runs" / "references.py").open("a") as file:
        file.write("\n_MORE = 1\n")
    states, why = forecast(notebooks)
    assert states == dict.fromkeys(NAMES, "run")
    assert "journeylab.runs.references" in why["30_other"]


def test_a_spoiled_cache_is_not_believed(once):
    notebooks, _ = once
    for path in cache_folder(notebooks.parent / "runs").glob("*/*/entry.json"):
        kept = json.loads(path.read_text())
        if kept["entry"]["instance"] == "30_other":
            results = path.parent / "files" / "results.json"
            # another file of the same name: the run that shares the old one keeps it
            results.unlink()
            results.write_text('{"m": 99}')
    states, why = forecast(notebooks)
    assert states == {"10_first": "cached", "20_second": "cached", "30_other": "run"}
    assert "no longer in the cache" in why["30_other"]


def test_what_failed_is_never_taken_and_blocks_the_plan(tmp_path):
    notebooks = write_project(tmp_path, first="raise ValueError('no')")
    write_notebook(
        notebooks / "10_first.ipynb", FIRST, "record('value', 1)\nraise ValueError('no')"
    )
    folder = run(plan(notebooks), RunOptions(jobs=1)).folder
    states = {name: entry["state"] for name, entry in entries(folder).items()}
    assert states == {"10_first": "failed", "20_second": "blocked", "30_other": "blocked"}
    message = entries(folder)["30_other"]["error"]["message"]
    assert message == "not started, since 10_first failed; --keep-going starts it anyway"
    states, why = forecast(notebooks)
    assert states == {"10_first": "run", "20_second": "blocked", "30_other": "run"}
    assert f"failed in {folder.name}, on the same inputs" in why["10_first"]
    assert "10_first" in why["20_second"]


def test_text_of_now_joins_answers_of_then_cell_by_cell():
    def code(source, **more):
        return {"cell_type": "code", "source": source, "metadata": {}, "outputs": [], **more}

    tags = {"metadata": {"tags": ["parameters"]}}
    injected = code("n = 3", metadata={"tags": ["injected-parameters"]})
    executed = {
        "cells": [code("n: int = 1", **tags), injected, code("# a\nf(n)", outputs=["of f"])],
        "nbformat": 4,
    }
    now = {
        "cells": [
            {"cell_type": "markdown", "source": "new", "metadata": {}},
            code("# only a comment"),
            code(["n: int = 1  # more"], **tags),
            code("f(n)  # b"),
        ]
    }
    joined = with_text_of_now(executed, now)["cells"]
    assert [cell["source"] for cell in joined] == [
        "new",
        "# only a comment",
        ["n: int = 1  # more"],
        "n = 3",
        "f(n)  # b",
    ]
    assert joined[-1]["outputs"] == ["of f"]


def cached_entry(root: Path, name: str, days: float, size: int) -> Path:
    """A finished notebook as the cache keeps it, used so many days ago."""
    place = cache_folder(root) / name[:2] / name
    (place / "files").mkdir(parents=True)
    (place / "files" / "table").write_bytes(b"x" * size)
    (place / "entry.json").write_text("{}")
    then = time.time() - days * 86_400
    for path in (place / "files" / "table", place / "entry.json", place):
        os.utime(path, (then, then))
    return place


@pytest.fixture
def filled(tmp_path, monkeypatch):
    """A cache of three notebooks and a world."""
    monkeypatch.setenv("JOURNEYLAB_CACHE", str(tmp_path / "elsewhere"))
    places = {name: cached_entry(tmp_path, name * 32, days, 1_000) for name, days in
              {"aa": 40, "bb": 20, "cc": 1}.items()}  # fmt: skip
    world = tmp_path / "elsewhere" / "worlds" / "campaign-9-7-abc"
    world.mkdir(parents=True)
    (world / "orders.parquet").write_bytes(b"x" * 5_000)
    return tmp_path, places | {"world": world}


@pytest.mark.parametrize(
    ("limits", "left"),
    [
        ({}, set()),
        ({"older_than_days": 30}, {"bb", "cc", "world"}),
        ({"older_than_days": 0.5}, {"world"}),
        ({"keep_bytes": 6_500}, {"cc", "world"}),
        ({"keep_bytes": 6_500, "older_than_days": 0.5}, {"world"}),
        ({"keep_bytes": 1e9}, {"aa", "bb", "cc", "world"}),
    ],
)
def test_the_longest_unused_is_pruned_first(filled, limits, left):
    root, places = filled
    said = prune(root, dry_run=True, **limits)
    assert all(place.exists() for place in places.values())
    pruned = prune(root, **limits)
    assert pruned == said
    assert {name for name, place in places.items() if place.exists()} == left
    assert {one.folder for one in pruned.kept} == {places[name] for name in left}
    assert not list(root.rglob("*.old"))


def test_what_a_run_shares_with_the_cache_stays_with_the_run_and_is_not_called_freed(filled):
    root, places = filled
    os.link(places["aa"] / "files" / "table", root / "in-a-run")
    (oldest,) = prune(root, older_than_days=30).removed
    assert (oldest.size, oldest.freed) == (1_002, 2)
    assert (root / "in-a-run").stat().st_size == 1_000


def test_nothing_is_pruned_under_a_run_that_is_going_on(filled):
    root, places = filled
    folder = root / "20260101T000000Z_x_abcd"
    folder.mkdir()
    (folder / "manifest.json").write_text(json.dumps({"finished_at": None, "notebooks": []}))
    with Journal(folder), pytest.raises(RunError, match="abcd is still running"):
        prune(root)
    assert all(place.exists() for place in places.values())
    prune(root)
    with pytest.raises(RunError, match="--keep-size must be 0 or more; got -1"):
        prune(root, keep_bytes=-1)
