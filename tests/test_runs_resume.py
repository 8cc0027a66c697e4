"""Runs that are killed at any moment, and go on: nothing done twice, nothing left behind."""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest
from planted import write_notebook

from journeylab.errors import RunError
from journeylab.runs import RunOptions, RunStopped, make_plan, resume, run
from journeylab.runs.folders import _socket_prefix
from journeylab.runs.journal import Journal, journaled_entries, read_journal
from journeylab.runs.resuming import unfinished_run
from journeylab.runs.writing import write_whole

RUNNER = (
    "import sys\nfrom pathlib import Path\nfrom journeylab.runs import RunOptions, make_plan, run\n"
    "plan = make_plan(Path(sys.argv[1]), every=True)\n"
    "run(plan, RunOptions(jobs=2, keep_going=True), out=Path(sys.argv[2]))"
)


def write_project(root: Path) -> Path:
    """Three notebooks, one of which reads another; each says that it ran, in a file of its own."""
    notebooks = root / "notebooks"
    says = (
        "import os, time\nfrom pathlib import Path\n"
        "here = Path(os.environ['JOURNEYLAB_RUN_FOLDER'])\n"
        "with (here.parent.parent / f'ran-{here.name}').open('a') as file:\n    file.write('x')\n"
        "time.sleep(0.3)"
    )
    draw = "import random\nrecord('value', random.Random(seed).random())"
    table = "import pandas as pd\nrecord('table', pd.DataFrame({'a': [1.5]}))"
    write_notebook(notebooks / "10_a.ipynb", "seed: int = 7  # seed", says, draw)
    write_notebook(
        notebooks / "20_b.ipynb",
        'value: str = "@a/value"  # v',
        says,
        "record('b', recorded(value))",
    )
    write_notebook(notebooks / "30_c.ipynb", "seed: int = 8  # seed", says, draw, table)
    return notebooks


def only_run(root: Path) -> Path | None:
    return next(iter(root.glob("2*Z_*")), None)


def outputs(folder: Path):
    manifest = json.loads((folder / "manifest.json").read_text())
    assert {entry["state"] for entry in manifest["notebooks"]} == {"done"}
    return {entry["instance"]: entry["outputs"] for entry in manifest["notebooks"]}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Notebooks, what an unbroken run makes of them, and how long that took."""
    root = tmp_path_factory.mktemp("killed")
    notebooks = write_project(root)
    begun = time.monotonic()
    command = [sys.executable, "-c", RUNNER, str(notebooks), str(root / "whole")]
    subprocess.run(command, check=True, capture_output=True)
    return notebooks, outputs(only_run(root / "whole")), time.monotonic() - begun


def descendants(pid: int):
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def is_kernel(process: psutil.Process) -> bool:
    try:
        return any("kernelapp" in part for part in process.cmdline())
    except psutil.Error:
        return False


def of_run(folder: Path):
    """Kernels that belong to a run and are no mere entries of a table."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("JOURNEYLAB_RUN_ROOT") == str(folder):
                found += [process] if process.status() != psutil.STATUS_ZOMBIE else []
        except (psutil.Error, OSError):
            continue
    return found


def kill(runner: subprocess.Popen, what: str) -> None:
    below = descendants(runner.pid)
    kernels = [process for process in below if is_kernel(process)]
    doomed = {"runner": [], "kernel": kernels, "both": kernels, "all": below}[what]
    if what != "kernel":
        runner.kill()
    for process in doomed:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    runner.wait(timeout=90)


def survive(project, root: Path, what: str, share: float) -> None:
    """Kill a run after some share of its time, go on, and hold the result against the unbroken."""
    notebooks, expected, usual = project
    command = [sys.executable, "-c", RUNNER, str(notebooks), str(root)]
    runner = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(share * usual)
    kill(runner, what)
    folder = only_run(root)
    if folder is None or not (folder / "manifest.json").exists():
        return  # killed before anything began
    deadline = time.monotonic() + 8
    while of_run(folder) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not of_run(folder)
    done = {name for name, entry in journaled_entries(folder).items() if entry["state"] == "done"}
    before = {name: (root / f"ran-{name}").read_text() for name in done}
    result = resume(folder, notebooks, RunOptions(jobs=2))
    assert result.ok
    assert outputs(folder) == expected
    assert {name: (root / f"ran-{name}").read_text() for name in done} == before
    assert list(folder.rglob(".*")) == []
    assert [path.name for path in (root / ".cache").rglob(".*")] == []
    assert sorted(path.name for path in root.glob(".*")) == [".cache"]
    assert not list(Path(tempfile.gettempdir()).glob(f"{_socket_prefix(folder)}*"))
    assert (root / "latest").resolve() == folder.resolve()


DRAWS = random.Random(20)
KILLS = [
    (("runner", "kernel", "both", "all")[number % 4], round(DRAWS.uniform(0.15, 1.0), 3))
    for number in range(50)
]


@pytest.mark.parametrize(("what", "share"), KILLS[:10])
def test_a_killed_run_goes_on_and_gives_the_same_bytes(project, tmp_path, what, share):
    survive(project, tmp_path / "runs", what, share)


@pytest.mark.full
@pytest.mark.parametrize(("what", "share"), KILLS[10:])
def test_forty_more_killed_runs(project, tmp_path, what, share):
    survive(project, tmp_path / "runs", what, share)


def test_a_line_that_was_never_finished_is_no_event_and_disturbs_no_later_one(tmp_path):
    with Journal(tmp_path) as journal:
        journal.write("done", instance="a", entry={"state": "done"})
    with (tmp_path / "journal.jsonl").open("a") as file:
        file.write('{"event": "done", "instance": "b", "ent')
    with Journal(tmp_path) as journal:
        journal.write("end")
    assert [event["event"] for event in read_journal(tmp_path)] == ["done", "end"]
    assert journaled_entries(tmp_path) == {"a": {"state": "done"}}


def test_a_run_that_is_still_running_is_not_gone_on_with(tmp_path):
    with Journal(tmp_path), pytest.raises(RunError, match="still running in another process"):
        Journal(tmp_path)


def failing_project(root: Path) -> Path:
    notebooks = root / "notebooks"
    write_notebook(notebooks / "10_a.ipynb", "n: int = 1  # n", "record('a', n)")
    write_notebook(
        notebooks / "20_b.ipynb",
        'a: str = "@a/a"  # a',
        f"record('b', open('{root}/there').read())",
    )
    return notebooks


def test_after_a_failure_only_what_failed_is_run_again(tmp_path):
    notebooks = failing_project(tmp_path)
    folder = run(make_plan(notebooks, every=True), RunOptions(jobs=1)).folder
    assert unfinished_run(tmp_path / "runs") == folder
    stamp = (folder / "10_a" / "results.json").stat().st_mtime_ns
    (tmp_path / "there").write_text("now")
    result = resume(folder, notebooks)
    assert result.ok
    assert (folder / "10_a" / "results.json").stat().st_mtime_ns == stamp
    assert json.loads((folder / "20_b" / "results.json").read_text())["b"] == "now"
    starts = [e.get("instance") for e in read_journal(folder) if e["event"] == "start"]
    assert starts == ["10_a", "20_b", "20_b"]
    with pytest.raises(RunError, match="everything in the last run"):
        unfinished_run(tmp_path / "runs")
    path = notebooks / "10_a.ipynb"
    path.write_text(path.read_text().replace("record('a', n)", "record('a', n + 1)"))
    with pytest.raises(RunError, match=r"10_a was done in .* since then its code changed"):
        resume(folder, notebooks)


def test_pseudonyms_of_two_keys_are_not_mixed_in_one_run(tmp_path, monkeypatch):
    notebooks = failing_project(tmp_path)
    folder = run(make_plan(notebooks, every=True), RunOptions(jobs=1)).folder
    monkeypatch.setenv("JOURNEYLAB_KEY", "another key of sixteen letters or more")
    with pytest.raises(RunError, match=r"10_a was done in .* but JOURNEYLAB_KEY is not the one"):
        resume(folder, notebooks)


def test_a_full_disk_stops_the_run_and_keeps_what_was_done(tmp_path, monkeypatch):
    notebooks = failing_project(tmp_path)
    (tmp_path / "there").write_text("now")
    full = False

    def write_until_full(path, content):
        if full and path.is_relative_to(tmp_path):
            raise OSError(28, "No space left on device")
        write_whole(path, content)

    def fill(progress):
        nonlocal full
        full = full or progress["10_a"].state == "done"

    with monkeypatch.context() as patch:
        patch.setattr("journeylab.runs.writing.write_whole", write_until_full)
        with pytest.raises(RunStopped) as stopped:
            run(make_plan(notebooks, every=True), RunOptions(jobs=1), watch=fill)
    for part in ("No space left on device", "what was done is kept", "journeylab resume 2"):
        assert part in str(stopped.value)
    folder = unfinished_run(tmp_path / "runs")
    assert json.loads((folder / "10_a" / "results.json").read_text())["a"] == 1
    result = resume(folder, notebooks)
    assert result.ok
    starts = [e.get("instance") for e in read_journal(folder) if e["event"] == "start"]
    assert starts.count("10_a") == 1


def test_a_notebook_that_cannot_save_its_results_fails_by_name(tmp_path):
    notebooks = tmp_path / "notebooks"
    code = (
        "import resource, signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))\n"
        "import pandas as pd, numpy as np\n"
        "record('rows', pd.DataFrame({'a': np.random.default_rng(1).random(9_000)}))"
    )
    write_notebook(notebooks / "10_a.ipynb", "n: int = 1  # n", "record('n', n)", code)
    folder = run(make_plan(notebooks, ["a"]), RunOptions(jobs=1)).folder
    entry = json.loads((folder / "manifest.json").read_text())["notebooks"][0]
    assert (entry["state"], entry["error"]["name"]) == ("failed", "OSError")
    assert "File too large" in entry["error"]["message"]
    assert json.loads((folder / "10_a" / "results.json").read_text()) == {"n": 1}
    assert not list(folder.rglob(".*"))


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_run_folder_that_may_not_be_written_is_refused(tmp_path):
    notebooks = failing_project(tmp_path)
    folder = run(make_plan(notebooks, every=True), RunOptions(jobs=1)).folder
    folder.chmod(0o500)
    (folder / "journal.jsonl").chmod(0o400)
    try:
        with pytest.raises(RunError, match="cannot be written: Permission denied"):
            resume(folder, notebooks)
    finally:
        folder.chmod(0o700)


def test_a_kernel_killed_for_memory_is_noticed_with_its_peak_and_what_to_change(tmp_path):
    notebooks = tmp_path / "notebooks"
    code = (
        "import os, signal, time\nheld = bytearray(300_000_000)\n"
        "held[::4096] = b'x' * len(held[::4096])\n"
        "time.sleep(0.5)\nopen('killed', 'w').write(str(time.time()))\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    write_notebook(notebooks / "10_a.ipynb", "n: int = 1  # n", code)
    noticed = []

    def watch(progress):
        if progress["10_a"].state == "failed":
            noticed.append(time.time())

    folder = run(make_plan(notebooks, ["a"]), RunOptions(jobs=1), watch=watch).folder
    entry = json.loads((folder / "manifest.json").read_text())["notebooks"][0]
    assert entry["error"]["name"] == "DeadKernelError"
    message = entry["error"]["message"]
    assert "the kernel died in cell 3 of 4, killed by signal 9" in message
    for setting in ("-j 1", "JOURNEYLAB_MEMORY_LIMIT", f"{entry['peak_memory_mb']:,.0f} MB"):
        assert setting in message
    assert 300 < entry["peak_memory_mb"] < 900
    assert noticed[0] - float((folder / "10_a" / "killed").read_text()) < 10


def test_a_notebook_that_takes_too_long_is_stopped_and_its_kernel_with_it(tmp_path):
    notebooks = tmp_path / "notebooks"
    write_notebook(
        notebooks / "10_a.ipynb", "n: int = 1  # n", "record('n', n)", "import time; time.sleep(99)"
    )
    begun = time.monotonic()
    folder = run(make_plan(notebooks, ["a"]), RunOptions(jobs=1, timeout_seconds=12)).folder
    assert time.monotonic() - begun < 40
    entry = json.loads((folder / "manifest.json").read_text())["notebooks"][0]
    assert entry["state"] == "failed"
    assert "it may take 12 s (--timeout allows more)" in entry["error"]["message"]
    assert not of_run(folder)
    assert (folder / "10_a" / "report.html").exists()


def test_an_interrupted_run_goes_on(project, tmp_path):
    notebooks, expected, usual = project
    command = [sys.executable, "-c", RUNNER, str(notebooks), str(tmp_path / "runs")]
    runner = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(0.6 * usual)
    runner.send_signal(signal.SIGINT)
    runner.wait(timeout=60)
    folder = only_run(tmp_path / "runs")
    assert resume(folder, notebooks, RunOptions(jobs=2)).ok
    assert outputs(folder) == expected
