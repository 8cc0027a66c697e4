"""Verify, diff, index, grids, and the promise that how a run is carried out changes no byte."""

import json
import os
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from planted import write_notebook

from journeylab.errors import RunError
from journeylab.report import write_difference, write_overview
from journeylab.runs import RunOptions, make_plan, run, verify
from journeylab.runs.comparing import compare_numbers, compare_runs, compare_tables
from journeylab.runs.doctor import examine
from journeylab.runs.folders import find_run
from journeylab.runs.overview import over_runs
from journeylab.runs.parameters import read_grid

FIRST = """\
data: str = "orders.csv"  # orders file
n: int = 2  # times
as_of: str = "2024-01-31"  # ISO date"""
WORK = """\
import os, random
import numpy as np
from journeylab.estimate import Estimate
product = np.random.default_rng(n).random((300, 300)) @ np.random.default_rng(7).random((300, 300))
record("value", Estimate(float(product.sum()), 0, 1e9, "USD"))
record("words", {word: len(word) for word in {"a", "bb", "ccc", "dddd"}})
print(os.environ["OMP_NUM_THREADS"], os.environ["PYTHONHASHSEED"])"""
TABLE = """\
import pandas as pd
lines = pd.read_csv(data)
record("lines", lines)
record("amount", float(lines["amount"].sum()))"""
FIGURE = """\
import matplotlib.pyplot as plt
_, ax = plt.subplots()
ax.plot(lines["amount"])
record("curve", ax, alt="A line")"""


def write_project(root: Path) -> Path:
    notebooks = root / "notebooks"
    write_notebook(notebooks / "10_first.ipynb", FIRST, WORK, TABLE, FIGURE)
    write_notebook(
        notebooks / "20_second.ipynb",
        'value: str = "@first/value"  # value\nn: int = 2  # times',
        "record('total', recorded(value).value * n)",
    )
    (root / "orders.csv").write_text("order_id,amount\n1,2.50\n2,3.50\n")
    return notebooks


def fingerprint(source: str) -> str:
    from hashlib import sha256

    return sha256(Path(source).read_bytes()).hexdigest()


def plan(notebooks, *names, **options):
    return make_plan(
        notebooks,
        names,
        every=not names,
        fingerprint=fingerprint,
        caller=notebooks.parent,
        **options,
    )


def entries(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    return {entry["instance"]: entry for entry in manifest["notebooks"]}


@pytest.fixture(scope="module")
def once(tmp_path_factory):
    root = tmp_path_factory.mktemp("verified")
    notebooks = write_project(root)
    return notebooks, run(plan(notebooks), RunOptions(jobs=2, threads=1), label="one").folder


# each pair of settings meets at least once; the run they are held against is (1, 2, "0")
PAIRS = [(1, 1, "1"), (1, 2, "2"), (2, 1, "2"), (2, 2, "1"), (4, 1, "1"), (4, 2, "2")]


@pytest.mark.parametrize(("threads", "jobs", "hash_seed"), PAIRS)
def test_threads_jobs_and_hash_seeds_change_no_byte(once, tmp_path, threads, jobs, hash_seed):
    notebooks, first = once
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONHASHSEED", hash_seed)
        options = RunOptions(jobs=jobs, threads=threads, cache=False)
        folder = run(plan(notebooks), options, out=tmp_path).folder
    assert f"{threads} {hash_seed}" in (folder / "10_first" / "log.txt").read_text()
    for name, entry in entries(folder).items():
        assert entry["state"] == "done"
        assert entry["outputs"] == entries(first)[name]["outputs"]


def check(once, **options):
    notebooks, folder = once
    return verify(folder, notebooks, fingerprint=fingerprint, caller=notebooks.parent, **options)


def test_a_run_that_can_be_repeated_is_verified_and_leaves_nothing(once):
    _, folder = once
    before = sorted(path.name for path in folder.parent.iterdir())
    verdict = check(once)
    assert verdict.holds
    assert verdict.verified == ("10_first", "20_second")
    assert sorted(path.name for path in folder.parent.iterdir()) == before


def test_a_changed_byte_of_the_data_is_the_cause(once):
    notebooks, _ = once
    path = notebooks.parent / "orders.csv"
    path.write_text("order_id,amount\n1,2.50\n2,3.51\n")
    verdict = check(once)
    path.write_text("order_id,amount\n1,2.50\n2,3.50\n")
    assert not verdict.holds
    assert verdict.causes[0].startswith("10_first: the data orders.csv (fingerprint")


def test_another_version_of_a_package_is_the_cause(once, monkeypatch):
    from journeylab.runs.manifest import installed_versions

    others = {**installed_versions(), "numpy": "9.9"}
    monkeypatch.setattr("journeylab.runs.manifest.installed_versions", lambda: others)
    causes = check(once).causes
    assert len(causes) == 1
    assert causes[0].startswith("numpy ")
    assert causes[0].endswith("-> 9.9")


def test_another_key_or_leave_to_keep_ids_is_the_cause(once, monkeypatch):
    monkeypatch.setenv("JOURNEYLAB_ALLOW_IDS", "1")
    said = "JOURNEYLAB_ALLOW_IDS was not set then, and is set now"
    assert check(once).causes == (said,)
    monkeypatch.delenv("JOURNEYLAB_ALLOW_IDS")
    monkeypatch.setenv("JOURNEYLAB_KEY", "a key of sixteen letters or more")
    said = "JOURNEYLAB_KEY is not the one of then, so that pseudonyms differ"
    assert check(once).causes == (said,)


def test_a_result_that_was_changed_and_data_that_moved_are_named(once, tmp_path):
    notebooks, folder = once
    copy = tmp_path / "runs" / folder.name
    shutil.copytree(folder, copy)
    (copy / "10_first" / "results.json").write_text("{}")
    verdict = verify(copy, notebooks, fingerprint=fingerprint, caller=notebooks.parent)
    assert verdict.causes == ("10_first: results.json is not what was recorded",)

    def gone(source):
        from journeylab.errors import ContractError

        raise ContractError("no source called 'orders.csv'")

    with pytest.raises(RunError, match="say where the data are by -p data=PATH"):
        verify(folder, notebooks, fingerprint=gone, caller=tmp_path)


@pytest.fixture(scope="module")
def other(once):
    """A second run, with another parameter and another row."""
    notebooks, _ = once
    path = notebooks.parent / "orders.csv"
    path.write_text("order_id,amount\n1,2.75\n3,1.00\n")
    parameters = {"first.n": "3", "first.as_of": "2024-02-29"}
    folder = run(plan(notebooks, parameters=parameters), RunOptions(jobs=2), label="two").folder
    path.write_text("order_id,amount\n1,2.50\n2,3.50\n")
    return folder


def test_two_runs_are_compared_by_parameter_number_row_and_figure(once, other, tmp_path):
    _, first = once
    difference = compare_runs(first, other)
    one = next(each for each in difference["notebooks"] if each["instance"] == "10_first")
    assert [row["name"] for row in one["parameters"]] == ["as_of", "n"]
    assert [row["name"] for row in one["data"]] == ["data_fingerprint"]
    numbers = {row["name"]: row for row in one["numbers"]}
    assert numbers["amount"]["change"] == pytest.approx(3.75 - 6.0)
    assert numbers["value"]["outside"] is False
    assert numbers["words.bb"]["change"] == 0
    table = one["tables"][0]
    assert (table["key"], table["rows_added"], table["rows_removed"]) == (["order_id"], 1, 1)
    assert table["changes"] == [{"key": [1], "column": "amount", "before": 2.5, "after": 2.75}]
    assert table["largest"] == {"amount": 0.25}
    assert one["figures"][0]["same"] is False
    text = write_difference(tmp_path / "diff.html", difference, first, other).read_text()
    assert text.count("<svg") == 2
    for part in ("Content-Security-Policy", "order_id", "Largest change: amount 0.25", "inside"):
        assert part in text
    assert "<script" not in text
    same = compare_runs(first, first)
    assert same["reading"] == ["10_first: the same.", "20_second: the same."]
    assert json.loads(json.dumps(difference)) == difference


def test_a_number_that_leaves_its_interval_is_outside():
    def estimate(value):
        return {"a": {"value": value, "ci_low": 1.0, "ci_high": 3.0, "level": 0.95, "unit": "USD"}}

    inside, outside, gone = (
        compare_numbers(estimate(2.0), later)[0] for later in (estimate(2.9), estimate(3.1), {})
    )
    assert (inside["outside"], inside["change"]) == (False, pytest.approx(0.9))
    assert outside["outside"] is True
    assert (gone["after"], gone["change"], gone["outside"]) == (None, None, None)


def test_tables_without_a_key_are_compared_in_their_order_and_missing_values_are_equal():
    before = pd.DataFrame({"share": [0.1, 0.2, None], "b": ["x", "y", None]})
    after = pd.DataFrame({"share": [0.1, 0.3, None], "b": ["x", "y", None]})
    found = compare_tables(before, after)
    assert (found["key"], found["rows_changed"]) == ([], 1)
    assert found["changes"][0]["key"] == [1]
    assert compare_tables(before, before.copy())["same"]


def test_all_runs_stand_on_one_page_with_trends_and_what_is_provisional(once, other):
    _, first = once
    root = first.parent
    for number, (day, complete) in enumerate(
        (("2024-01-31", "2024-01-20"), ("2024-02-29", "2024-03-05"))
    ):
        # what 00_data records of the data that the runs are on
        folder = root / f"20240{number + 1}01T000000Z_data_000{number}"
        (folder / "00_data" / "tables").mkdir(parents=True)
        run_of = (first, other)[number]
        frame = pd.DataFrame(
            {
                "table": ["orders"],
                "last_day": [pd.Timestamp(day)],
                "last_complete_day": [pd.Timestamp(complete)],
            }
        )
        frame.to_parquet(folder / "00_data" / "tables" / "lateness.parquet")
        manifest = json.loads((run_of / "manifest.json").read_text())
        entry = manifest["notebooks"][0] | {"name": "data", "instance": "00_data"}
        (folder / "manifest.json").write_text(
            json.dumps(manifest | {"run": folder.name, "notebooks": [entry]})
        )
    overview = over_runs(root)
    assert [row["label"] for row in overview["runs"]][:2] == ["two", "one"]
    trends = {(t["notebook"], t["name"]): t for t in overview["trends"]}
    assert ("second", "total") in trends
    # the parameter n differs, so the two are no one series
    assert ("first", "amount") not in trends
    for folder in (first, other):
        manifest = json.loads((folder / "manifest.json").read_text())
        manifest["notebooks"][0]["parameters"]["n"] = 2
        copy = root.parent / "again" / folder.name
        shutil.copytree(folder, copy)
        (copy / "manifest.json").write_text(json.dumps(manifest))
    for folder in root.glob("2024*_data_*"):
        shutil.move(folder, root.parent / "again" / folder.name)
    overview = over_runs(root.parent / "again")
    amounts = next(t for t in overview["trends"] if t["name"] == "amount")
    assert [(p["day"], p["value"], p["state"]) for p in amounts["points"]] == [
        ("2024-01-31", 6.0, "provisional"),
        ("2024-02-29", 3.75, "mature"),
    ]
    text = write_overview(root.parent / "again", overview).read_text()
    assert "A hollow point is provisional" in text
    assert "mature</span>" in text
    assert "<script" not in text


@pytest.mark.parametrize(
    ("parameters", "recorded", "day", "state"),
    [
        ({"rank_on": "2024-03-01", "as_of": "2024-01-31"}, {}, "2024-03-01", "provisional"),
        ({"as_of": "2024-01-31", "until": ""}, {"as_of": "2020-01-01"}, "2024-01-31", "mature"),
        ({"as_of": ""}, {"days": {"as_of": "2024-01-02", "rank_on": "2024-02-10"}}, "2024-02-10",
         "mature"),
        ({"landmarks": "2024-01-31, 2023-11-30"}, {}, "2024-01-31", "provisional"),
        ({"landmarks": "2024-01-31", "until": "2024-02-10"}, {}, "2024-02-10", "mature"),
        ({"landmarks": ""}, {"landmark": "2024-01-15"}, "2024-01-15", "provisional"),
        ({}, {}, "2024-02-20", "provisional"),
    ],
)  # fmt: skip
def test_the_day_of_a_number_is_what_parameters_say_else_what_is_recorded_else_the_datas_end(
    tmp_path, parameters, recorded, day, state
):
    frame = pd.DataFrame({"table": ["orders"], "last_day": [pd.Timestamp("2024-02-20")],
                          "last_complete_day": [pd.Timestamp("2024-02-15")]})  # fmt: skip
    entry = {"name": "data", "instance": "00_data", "state": "done", "data_fingerprint": "f",
             "parameters": {}, "bindings": {}}  # fmt: skip
    for number in (1, 2):
        folder = tmp_path / f"20240{number}01T000000Z_x_000{number}"
        (folder / "00_data" / "tables").mkdir(parents=True)
        frame.to_parquet(folder / "00_data" / "tables" / "lateness.parquet")
        (folder / "30_clv").mkdir()
        results = json.dumps({"total": number, **recorded})
        (folder / "30_clv" / "results.json").write_text(results)
        # days apart from each other are one series all the same
        mine = parameters if number == 1 else dict.fromkeys(parameters, "")
        other = entry | {"name": "clv", "instance": "30_clv", "parameters": mine, "key": number}
        manifest = {"run": folder.name, "label": "x", "started_at": "2024-04-01T00:00:00Z",
                    "duration_seconds": 1.0, "notebooks": [entry, other]}  # fmt: skip
        (folder / "manifest.json").write_text(json.dumps(manifest))
    (trend,) = over_runs(tmp_path)["trends"]
    point = next(point for point in trend["points"] if point["value"] == 1)
    assert (point["day"], point["state"]) == (day, state)


def test_a_grid_runs_each_combination_and_what_reads_it_with_the_same_values(once, tmp_path):
    notebooks, _ = once
    planned = plan(notebooks, grid=read_grid(["n=2,3"]))
    assert sorted(planned.instances) == [
        "10_first--n-2",
        "10_first--n-3",
        "20_second--n-2",
        "20_second--n-3",
    ]
    result = run(planned, RunOptions(jobs=2), out=tmp_path)
    assert result.ok
    rows = {
        row["instance"]: row for row in json.loads((result.folder / "summary.json").read_text())
    }
    for n in (2, 3):
        first, second = rows[f"10_first--n-{n}"], rows[f"20_second--n-{n}"]
        assert second["total"] == pytest.approx(n * first["value"])
        assert first["value_ci_high"] == 1e9
        assert first["state"] == "done"
    assert rows["10_first--n-2"]["value"] != rows["10_first--n-3"]["value"]
    page = (result.folder / "index.html").read_text()
    assert 'href="10_first--n-3/report.html"' in page
    assert "First: one row for each value of the grid" in page
    header = (result.folder / "summary.csv").read_text().splitlines()[0]
    assert header.startswith("notebook,instance,n,state,")


def test_a_grid_is_planned_by_the_hundred_and_refused_where_it_makes_no_sense(once):
    notebooks, _ = once
    grid = {
        "n": [str(n) for n in range(1, 31)],
        "as_of": [f"2024-01-{day:02d}" for day in range(1, 11)],
    }
    assert len(plan(notebooks, "first", grid=grid).instances) == 300
    bound = plan(notebooks, "second", grid={"n": ["4", "5"]})
    assert {i.name for i in bound.instances.values()} == {
        "10_first",
        "20_second--n-4",
        "20_second--n-5",
    }
    for grid, parameters, complaint in (
        ({"as_off": ["1"]}, {}, "has a parameter 'as_off' to run over; did you mean 'as_of'"),
        ({"n": ["1", "1"]}, {}, "needs values that differ"),
        ({"n": ["x"]}, {}, "n = 'x' is not allowed"),
        ({"n": ["1"]}, {"n": "2"}, "give it once"),
        ({"data": ["/a/x.csv", "/b/x.csv"]}, {}, "needs values that differ"),
    ):
        with pytest.raises(RunError, match=complaint):
            plan(notebooks, "first", grid=grid, parameters=parameters)


def test_a_run_is_found_by_path_name_or_part_of_it(once):
    _, folder = once
    root = folder.parent
    for text in (str(folder), folder.name, folder.name[-4:]):
        assert find_run(text, root) == folder.resolve()
    with pytest.raises(RunError, match="there is no run 'absent' in runs; the last are: "):
        find_run("absent", root)
    shutil.copytree(folder, root / f"{folder.name}0")
    with pytest.raises(RunError, match=f"2 runs fit '{folder.name[-4:]}'"):
        find_run(folder.name[-4:], root)
    shutil.rmtree(root / f"{folder.name}0")


def test_the_doctor_looks_at_nine_things_and_sees_a_drifted_lock(once, tmp_path):
    notebooks, _ = once
    found = {finding.what: finding for finding in examine(notebooks)}
    things = ["Python", "lock", "kernel", "fonts", "cores", "memory", "Java", "disk", "cache"]
    assert list(found) == things
    kept = re.search(r"GB in (\d+) notebooks", found["cache"].found)
    assert kept is not None
    assert int(kept[1]) >= 2  # other tests of this file ran some too
    assert found["kernel"].state == "good"
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "requirements.lock").write_text(
        "numpy==0.1 \\\n    --hash=x\nwinonly==1 ; sys_platform == 'never'\npandas=="
        + pd.__version__
    )
    lock = {finding.what: finding for finding in examine(tmp_path / "notebooks")}["lock"]
    assert lock.state == "warn"
    assert lock.found.startswith("numpy ")
    assert ";" not in lock.found


CHILD = """\
import sys
from pathlib import Path
from journeylab.runs import RunOptions, make_plan, run
plan = make_plan(Path(sys.argv[1]), every=True)
result = run(plan, RunOptions(jobs=int(sys.argv[2])))
assert result.ok, result.manifest
"""


def peak_of_runner_mb(*arguments: str) -> float:
    code = CHILD + (
        "peak = next(line for line in open('/proc/self/status') if line.startswith('VmHWM'))\n"
        "print(peak.split()[1])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, env=os.environ
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout.split()[-1]) / 1024


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_the_runner_itself_stays_below_400_megabytes(tmp_path):
    notebooks = tmp_path / "notebooks"
    write_notebook(notebooks / "10_a.ipynb", 'data: str = "cdnow"  # data', "record('a', 1)")
    assert peak_of_runner_mb(str(notebooks), "1") < 400


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def test_twenty_notebooks_four_at_a_time_start_every_kernel(tmp_path):
    notebooks = tmp_path / "notebooks"
    for number in range(20):
        write_notebook(
            notebooks / f"{number + 10}_n{number}.ipynb", "n: int = 1  # n", "record('n', n)"
        )
    before = peak_mb()
    folder = run(make_plan(notebooks, every=True), RunOptions(jobs=4)).folder
    assert {entry["state"] for entry in entries(folder).values()} == {"done"}
    # The peak is that of the process since its start: earlier tests may have had more than this.
    assert peak_mb() == before or peak_mb() < 2000


@pytest.mark.full
def test_a_grid_of_a_hundred_and_twenty_runs_two_at_a_time_and_ends_in_one_table(tmp_path):
    notebooks = tmp_path / "notebooks"
    code = (
        "from journeylab.estimate import Estimate\nrecord('twice', Estimate(2.0 * n, 0, 999, 'x'))"
    )
    write_notebook(notebooks / "10_a.ipynb", "n: int = 1  # n\ntop: float = 0.1  # top", code)
    grid = {"n": [str(number) for number in range(60)], "top": ["0.1", "0.2"]}
    plan_of_all = make_plan(notebooks, ["a"], grid=grid)
    folder = run(plan_of_all, RunOptions(jobs=2), out=tmp_path / "runs").folder
    assert len(entries(folder)) == 120
    assert {entry["state"] for entry in entries(folder).values()} == {"done"}
    summary = pd.read_csv(folder / "summary.csv")
    assert len(summary) == 120
    assert summary.duplicated(["n", "top"]).sum() == 0
    assert (summary["twice"] == 2 * summary["n"]).all()
    assert folder.joinpath("index.html").read_text().count("10_a--") >= 120
    assert not list(folder.rglob(".*"))
