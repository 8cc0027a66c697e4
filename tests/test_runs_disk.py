"""A disk that is really full, and one that is read-only: a clear error, and what is done stays."""

import json
import shutil
import subprocess
import sys

import pytest
from planted import write_notebook


def may_mount() -> bool:
    """Whether a process of ours may mount, where nobody else sees it."""
    if sys.platform != "linux" or shutil.which("unshare") is None:
        return False
    mount = 'd=$(mktemp -d) && mount -t tmpfs tmpfs "$d" && umount "$d" && rmdir "$d"'
    command = ["unshare", "--map-root-user", "--mount", "sh", "-c", mount]
    return subprocess.run(command, capture_output=True).returncode == 0


STEPS = """
import json, subprocess, sys
from pathlib import Path
from journeylab.errors import RunError
from journeylab.runs import RunOptions, RunStopped, make_plan, resume, run

notebooks, root = Path(sys.argv[1]), Path(sys.argv[2])
said = {}

def mount(*options):
    subprocess.run(["mount", *options, str(root)], check=True)

def kept(folder):
    results = folder / "10_a" / "results.json"
    return json.loads(results.read_text()), results.stat().st_mtime_ns

mount("-t", "tmpfs", "-o", "size=600k", "tmpfs")
try:
    run(make_plan(notebooks, every=True), RunOptions(jobs=1), out=root)
except RunStopped as stopped:
    said["full"] = str(stopped)
folder = next(root.glob("2*Z_*"))
before = kept(folder)
mount("-o", "remount,size=64m,ro")
for name, again in {
    "read-only resume": lambda: resume(folder, notebooks, RunOptions(jobs=1)),
    "read-only run": lambda: run(make_plan(notebooks, every=True), RunOptions(jobs=1), out=root),
}.items():
    try:
        again()
    except RunError as refused:
        said[name] = str(refused)
mount("-o", "remount,size=64m,rw")
said["ok"] = resume(folder, notebooks, RunOptions(jobs=1)).ok
said["kept"] = kept(folder) == before
said["b"] = json.loads((folder / "20_b" / "results.json").read_text())
said["left"] = [path.name for path in folder.rglob(".*")]
print(json.dumps(said))
"""


@pytest.mark.skipif(not may_mount(), reason="no disk of its own can be mounted here")
def test_a_full_and_a_read_only_disk_are_named_and_nothing_that_is_done_is_lost(tmp_path):
    notebooks = tmp_path / "notebooks"
    write_notebook(notebooks / "10_a.ipynb", "n: int = 1  # n", "record('a', n)")
    fill = (
        "import os\nfrom pathlib import Path\n"
        "ballast = Path(os.environ['JOURNEYLAB_RUN_FOLDER']) / 'ballast'\n"
        "ballast.write_bytes(b'x' * 2_000_000)"
    )
    write_notebook(
        notebooks / "20_b.ipynb", 'a: str = "@a/a"  # a', fill, "record('b', recorded(a) + 1)"
    )
    (tmp_path / "disk").mkdir()
    command = ["unshare", "--map-root-user", "--mount", sys.executable, "-c", STEPS]
    done = subprocess.run(
        [*command, str(notebooks), str(tmp_path / "disk")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    for part in ("No space left on device", "what was done is kept", "journeylab resume 2"):
        assert part in said["full"]
    assert "cannot be written: Read-only file system" in said["read-only resume"]
    assert "Read-only file system" in said["read-only run"]
    assert said["ok"]
    assert said["kept"]
    assert said["b"]["b"] == 2
    assert said["left"] == []
