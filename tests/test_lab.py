"""JupyterLab: what it opens, and that "Run All" there gives the numbers of the command line."""

import http.cookiejar
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from journeylab.runs import RunOptions, find_folder, make_plan, run
from journeylab.runs.showing import RECORD_MIME

NOTEBOOKS = find_folder(None)


def a_free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def wait_for(port: int, seconds: float = 120) -> None:
    """The server prints its address a moment before it listens there."""
    until = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
            return
        except ConnectionRefusedError:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)


@pytest.mark.skipif(os.name != "posix", reason="the server is stopped by a signal")
def test_the_lab_opens_on_the_notebook_that_links_all_others(tmp_path):
    port = a_free_port()
    options = ["--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1"]
    command = [sys.executable, "-m", "journeylab", "lab", "--notebooks", str(NOTEBOOKS), "--"]
    server = subprocess.Popen(
        [*command, *options, f"--ServerApp.port={port}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env={**os.environ, "HOME": str(tmp_path), "JUPYTER_PLATFORM_DIRS": "0"},
    )
    try:
        assert server.stdout is not None
        lines = iter(server.stdout.readline, "")
        address = next(found[0] for line in lines if (found := re.search(r"http://127\S+", line)))
        jar = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
        asked = urllib.request.build_opener(urllib.request.ProxyHandler({}), jar)
        token = address.partition("token=")[2]
        wait_for(port)
        with asked.open(f"http://127.0.0.1:{port}/?token={token}", timeout=180) as page:
            assert page.status == 200
            assert page.url.partition("?")[0].endswith("/lab/tree/00_start_here.ipynb")
        contents = f"http://127.0.0.1:{port}/api/contents/00_start_here.ipynb?token={token}"
        with asked.open(contents, timeout=180) as file:
            linked = json.dumps(json.load(file)["content"])
        others = [path.name for path in NOTEBOOKS.glob("[0-9]*.ipynb")]
        assert all(name in linked for name in others if name != "00_start_here.ipynb")
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(timeout=180)


def records(path: Path) -> dict[str, list[object]]:
    """What each record of an executed notebook said and drew, in order of the cells."""
    found: dict[str, list[object]] = {}
    for cell in nbformat.read(path, as_version=4).cells:
        for output in cell.get("outputs", []):
            bundle = output.get("data", {})
            entry = bundle.get(RECORD_MIME)
            if entry is not None and entry["kind"] != "note":
                drawn = [bundle.get(mime) for mime in ("text/plain", "image/svg+xml", "image/png")]
                found.setdefault(entry["name"], []).append([entry, *drawn])
    return found


@pytest.mark.parametrize(
    "name", ["template", *[pytest.param(name, marks=pytest.mark.full) for name in ("data", "clv")]]
)
def test_run_all_gives_what_the_command_line_records(name, tmp_path, monkeypatch):
    plan = make_plan(NOTEBOOKS, [name])
    folder = run(plan, RunOptions(jobs=1, cache=False), out=tmp_path / "runs").folder
    (by_runner,) = folder.glob("*/notebook.ipynb")
    (instance,) = plan.instances.values()
    for variable in [each for each in os.environ if each.startswith("JOURNEYLAB_RUN")]:
        monkeypatch.delenv(variable)
    by_hand = tmp_path / "notebook.ipynb"
    notebook = nbformat.read(instance.notebook.path, as_version=4)
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, kernel_name="python3", timeout=1800, resources=resources).execute()
    nbformat.write(notebook, by_hand)
    assert len(records(by_hand)) >= 3
    assert records(by_hand) == records(by_runner)
    assert not list(tmp_path.glob("tables"))
