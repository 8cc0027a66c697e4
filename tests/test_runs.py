"""Runs of trivial notebooks: what is left behind, and that it is the same every time."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path

import psutil
import pytest
from planted import write_notebook

import journeylab
from journeylab.errors import RunError
from journeylab.estimate import Estimate
from journeylab.runs import RunOptions, make_plan, recorded, run
from journeylab.runs.folders import publish_latest

FIRST = """\
data: str = "orders.csv"  # orders file
horizon_days: int = 90  # how far ahead, days [1..730]
seed: int = 7  # of every draw"""
SECOND = """\
value: str = "@first/value"  # plain
bound: str = "@first(horizon_days=30)/value"  # another instance
absent: str = "@uplift/effect?"  # no such notebook
broken: str = "@broken/after?"  # fails before it records this"""


def write_project(root: Path) -> Path:
    """Notebooks that record every kind, refer to each other, fail and die."""
    notebooks = root / "notebooks"
    write_notebook(
        notebooks / "10_first.ipynb",
        FIRST,
        "import random, os\nfrom journeylab.estimate import Estimate\n"
        "draw = random.Random(seed).random()\n"
        'record("value", Estimate(draw * horizon_days, 0, 100, "USD"))\n'
        'record("from_a_set", {word: len(word) for word in {"a", "bb", "ccc", "dddd", "eeeee"}})\n'
        'print("hash seed", os.environ["PYTHONHASHSEED"])\n'
        'record("source", data)\nprint("reads", os.path.abspath(data))\nEstimate(1, 0, 2, "USD")',
        'import pandas as pd\nrecord("lines", pd.read_csv(data).set_index("order_id"))',
        "import matplotlib.pyplot as plt\n"
        "_, ax = plt.subplots()\nax.plot([1, 2, 3])\n"
        'record("curve", ax, alt="A rising line")',
    )
    write_notebook(
        notebooks / "20_second.ipynb",
        SECOND,
        'record("total", recorded(value).value + recorded(bound).value)\n'
        'record("missing", [recorded(absent), recorded(broken)] == [None, None])\n'
        'caution("Few orders.")',
    )
    write_notebook(
        notebooks / "30_broken.ipynb",
        "n: int = 0  # divided by",
        'record("before", 1)',
        f'here = "{root}/secret.csv"\nprint("\\x1b[32m" + here)\n'
        "from journeylab.errors import FitError\nfrom journeylab.runs import read_reference\n"
        "try:\n    read_reference(here, here)\nexcept Exception as error:\n"
        '    raise FitError(f"\\x1b[31m{here}: n={n}") from error\n'
        'record("after", 2)',
    )
    write_notebook(
        notebooks / "31_deadly.ipynb", "n: int = 9  # exit code", "import os; os._exit(n)"
    )
    write_notebook(
        notebooks / "40_blocked.ipynb",
        'before: str = "@broken/before"  # needed',
        "recorded(before)",
    )
    (root / "orders.csv").write_text("order_id,amount\n1,2.50\n2,3.50\n")
    return notebooks


def run_project(root: Path, hash_seed: str, jobs: int, *names: str) -> Path:
    notebooks = root / "notebooks" if (root / "notebooks").exists() else write_project(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONHASHSEED", hash_seed)
        plan = make_plan(
            notebooks, names, every=not names, caller=root, fingerprint=lambda source: "0" * 64
        )
        options = RunOptions(jobs=jobs, force=True, keep_going=True)
        return run(plan, options, label=f"j{jobs}").folder


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("project")


@pytest.fixture(scope="module")
def whole(root):
    """Every notebook, two at a time."""
    return run_project(root, "1", 2)


@pytest.fixture(scope="module")
def again(root, whole):
    """The same without the notebooks that fail, one at a time, under another hash seed."""
    return run_project(root, "2", 1, "first", "second")


def manifest(folder: Path):
    return json.loads((folder / "manifest.json").read_text(encoding="utf-8"))


def entries(folder: Path):
    return {entry["instance"]: entry for entry in manifest(folder)["notebooks"]}


def results(folder: Path, instance: str):
    return json.loads((folder / instance / "results.json").read_text(encoding="utf-8"))


def test_results_are_the_same_bytes_whatever_the_hash_seed_and_number_of_jobs(whole, again):
    for instance in ("10_first", "10_first--horizon_days-30", "20_second"):
        one, other = entries(whole)[instance]["outputs"], entries(again)[instance]["outputs"]
        assert one.keys() == other.keys()
        for path in one:
            assert (whole / instance / path).read_bytes() == (again / instance / path).read_bytes()
    assert "hash seed 1" in (whole / "10_first" / "log.txt").read_text()
    assert "hash seed 2" in (again / "10_first" / "log.txt").read_text()


def test_every_kind_of_record_is_kept(whole):
    kept = results(whole, "10_first")
    assert kept["value"]["unit"] == "USD"
    assert kept["decision"] == "Go on."
    assert kept["source"] == "orders.csv"
    assert kept["lines"]["columns"] == ["order_id", "amount"]
    assert set(entries(whole)["10_first"]["outputs"]) == {
        "results.json",
        "tables/lines.parquet",
        "figures/curve.svg",
    }


def test_references_read_the_instance_they_name(whole):
    plain = results(whole, "10_first")["value"]["value"]
    bound = results(whole, "10_first--horizon_days-30")["value"]["value"]
    assert bound == pytest.approx(plain / 3)
    assert results(whole, "20_second") == {
        "total": pytest.approx(plain + bound),
        "missing": True,
        "cautions": ["Few orders."],
        "decision": "Go on.",
    }


def test_a_failing_notebook_keeps_its_report_and_what_it_recorded_and_blocks_what_needs_it(whole):
    states = {name: entry["state"] for name, entry in entries(whole).items()}
    assert states == {
        "10_first": "done",
        "10_first--horizon_days-30": "done",
        "20_second": "done",
        "30_broken": "failed",
        "31_deadly": "failed",
        "40_blocked": "blocked",
    }
    error = entries(whole)["30_broken"]["error"]
    assert (error["cell"], error["name"], error["message"]) == (
        4,
        "FitError",
        "secret.csv: n=0",
    )
    assert "\x1b" not in error["traceback"]
    assert results(whole, "30_broken") == {"before": 1}
    assert "FitError" in (whole / "30_broken" / "report.html").read_text(encoding="utf-8")
    assert entries(whole)["40_blocked"]["error"] == {"message": "blocked by 30_broken"}


def test_a_kernel_that_dies_is_reported_as_such(whole):
    error = entries(whole)["31_deadly"]["error"]
    assert error["name"] == "DeadKernelError"
    assert "the kernel died in cell 3 of 4" in error["message"]
    assert (whole / "31_deadly" / "report.html").exists()


def test_the_manifest_says_what_ran_on_what_and_what_came_out(whole, again):
    said = manifest(whole)
    assert (said["run"], said["label"], said["jobs"]) == (whole.name, "j2", 2)
    assert said["seed"] == 7
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert set(said["thread_caps"].values()) == {max(1, cores // 2)}
    assert set(manifest(again)["thread_caps"].values()) == {cores}
    assert {"numpy", "pandas", "papermill", "duckdb"} <= said["versions"].keys()
    assert re.fullmatch(r"\d{8}T\d{6}Z_j2_[0-9a-f]{4}", whole.name)
    first = entries(whole)["10_first--horizon_days-30"]
    assert first["parameters"] == {"data": "orders.csv", "horizon_days": 30, "seed": 7}
    assert (first["data"], first["data_fingerprint"]) == ("orders.csv", "0" * 64)
    assert entries(whole)["20_second"]["data_fingerprint"] == "0" * 64
    assert first["cpu_seconds"] > 0
    assert 20 < first["peak_memory_mb"] < 2000
    for path, digest in first["outputs"].items():
        content = (whole / first["instance"] / path).read_bytes()
        assert sha256(content).hexdigest() == digest
    assert [entry["instance"] for entry in said["notebooks"]] == sorted(entries(whole))


def test_nothing_left_behind_names_this_machine_or_is_half_written(root, whole):
    files = [path for path in whole.rglob("*") if path.is_file()]
    assert not [path for path in files if path.name.startswith(".") or "partial" in path.name]
    checkout = str(Path(journeylab.__file__).parents[1])
    places = (
        *(str(root), str(root.resolve()), str(Path.home()), sys.prefix, checkout, "/tmp/"),
        socket.gethostname(),
    )
    for path in files:
        # a page's words are its own and may be the machine's name; its folders are not among them
        sought = places[:-1] if path.suffix == ".html" else places
        text = path.read_bytes().decode("utf-8", errors="ignore")
        assert not [place for place in sought if place.strip("/") and place in text], path
    # colours end in a letter, and a path behind one is a path all the same
    broken = (whole / "30_broken" / "notebook.ipynb").read_text()
    assert "secret.csv" in broken
    assert "journeylab/runs/references.py" in broken
    assert "\\u001b" not in broken
    assert "reads orders.csv" in (whole / "10_first" / "log.txt").read_text()


def test_the_saved_notebook_has_its_outputs_and_no_banner_of_the_executor(whole):
    text = (whole / "30_broken" / "notebook.ipynb").read_text()
    saved = json.loads(text)
    assert saved["cells"][0]["source"][0].startswith("# What about 30_broken?")
    assert "papermill-error" not in text
    first = json.loads((whole / "10_first" / "notebook.ipynb").read_text())
    outputs = [output for cell in first["cells"] for output in cell.get("outputs", [])]
    shown = ["".join(o["data"].get("text/html", "")) for o in outputs if "data" in o]
    assert "<p>1 USD (95 % interval 0 to 2)</p>" in shown
    kinds = [
        record["kind"]
        for output in outputs
        if (record := output.get("data", {}).get("application/vnd.journeylab.record+json"))
    ]
    assert kinds == ["estimate", "mapping", "text", "table", "figure", "note", "decision"]


def test_latest_is_the_last_run_and_jupyterlab_reads_it(root, again, monkeypatch):
    assert (root / "runs" / "latest").resolve() == again.resolve()
    assert (root / "runs" / "latest" / "index.html").exists()
    monkeypatch.chdir(root / "notebooks")
    assert isinstance(recorded("@first/value"), Estimate)
    assert recorded("@first/lines")["order_id"].tolist() == [1, 2]


def test_latest_is_a_file_where_links_are_not_possible(tmp_path, monkeypatch):
    def refuse(*_arguments, **_options):
        raise OSError("no links here")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    (tmp_path / "r1").mkdir()
    publish_latest(tmp_path / "r1")
    assert (tmp_path / "latest").read_text() == "r1\n"


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"jobs": 0}, "at least 1"),
        ({"threads": 0}, "--threads must be at least 1"),
        ({"timeout_seconds": 0.0}, "--timeout must be above 0"),
        ({"label": "a/b"}, "a label has"),
        ({"label": ".."}, "a label has"),
        ({"label": ""}, "a label has"),
        ({"label": "x" * 41}, "a label has"),
    ],
)
def test_a_run_that_cannot_start_is_refused(tmp_path, options, complaint):
    plan = make_plan(write_project(tmp_path), ["broken"])
    label = options.pop("label", None)
    with pytest.raises(RunError, match=complaint):
        run(plan, RunOptions(**options), label=label)
    assert not (tmp_path / "runs").exists()


def test_a_root_that_cannot_be_written_is_refused(tmp_path):
    plan = make_plan(write_project(tmp_path), ["broken"])
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RunError, match="cannot make a run folder"):
        run(plan, out=tmp_path / "file")


def still_running(pid: int) -> bool:
    """Whether a process runs; one that only waits to be reaped does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_an_interrupt_stops_the_kernels_and_exits_with_130(tmp_path):
    notebooks = tmp_path / "notebooks"
    mark = (
        "import os, time; open('pid', 'w').write(str(os.getpid())); record('x', 1); time.sleep(99)"
    )
    write_notebook(notebooks / "10_slow.ipynb", "n: int = 0  # nothing", mark)
    command = [sys.executable, "-m", "journeylab", "run", "slow", "--notebooks", str(notebooks)]
    process = subprocess.Popen(
        command, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("runs/*/*/results.json")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    kernel = int(next(tmp_path.glob("runs/*/*/pid")).read_text())
    os.killpg(process.pid, signal.SIGINT)
    out, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in said
    assert not still_running(kernel)
    folder = next(path for path in (tmp_path / "runs").iterdir() if path.is_dir())
    assert entries(folder)["10_slow"]["error"]["message"] == "interrupted"
    assert results(folder, "10_slow") == {"x": 1}
    assert not (tmp_path / "runs" / "latest").exists()
    assert "interrupted" in (folder / "index.html").read_text(encoding="utf-8")
    assert (folder / "10_slow" / "report.html").exists()
    assert f"{folder.name}/index.html" in out + said
