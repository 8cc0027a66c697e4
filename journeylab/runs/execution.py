"""The runner: starts what is ready, keeps the record, and goes on where it can."""

import contextlib
import os
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from graphlib import TopologicalSorter
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path

from journeylab.errors import RunError
from journeylab.runs.manifest import Manifest, new_manifest, output_hashes, utc_now
from journeylab.runs.plan import Plan
from journeylab.runs.scrubbing import Scrubber
from journeylab.runs.worker import Job, finish_folder, serve, stop_children, write_notebook_page
from journeylab.runs.writing import write_json, write_whole

_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,39}")
_THREAD_VARIABLES = (
    "JOURNEYLAB_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "POLARS_MAX_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


@dataclass(frozen=True, slots=True)
class Progress:
    """How one notebook stands.

    Attributes:
        instance: Its folder in the run.
        state: ``pending``, ``running``, ``done``, ``failed`` or ``blocked``.
        cell, cells: The code cell it is at, and how many there are; 0 before it starts.
        elapsed_seconds: Since it started.
        message: Why it failed or is blocked; empty otherwise.
    """

    instance: str
    state: str
    cell: int = 0
    cells: int = 0
    elapsed_seconds: float = 0.0
    message: str = ""


class RunInterrupted(KeyboardInterrupt):
    """The run was interrupted; its kernels are stopped.

    Attributes:
        folder: The run's folder, complete as far as the run came.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(f"interrupted; what was done is in {folder}")
        self.folder = folder


Watch = Callable[[dict[str, Progress]], None]


@dataclass(frozen=True, slots=True)
class RunResult:
    """A run that has ended.

    Attributes:
        folder: The run's folder.
        manifest: What ``manifest.json`` in it holds.
    """

    folder: Path
    manifest: Manifest

    @property
    def ok(self) -> bool:
        """Whether every notebook came to its end."""
        return all(entry["state"] == "done" for entry in self.manifest["notebooks"])


def run(
    plan: Plan,
    *,
    out: Path | None = None,
    label: str | None = None,
    jobs: int = 2,
    watch: Watch | None = None,
) -> RunResult:
    """Run a plan and keep the record in a new folder.

    Args:
        plan: From ``make_plan``.
        out: Root that the run's folder is made in; ``runs`` beside the notebooks by default.
        label: Part of the folder's name; made from the notebooks asked for by default.
        jobs: Notebooks side by side; native threads are shared out among them.
        watch: Told how all notebooks stand, whenever something changes.

    Raises:
        RunError: The label or number of jobs is not allowed, or the root cannot be written.
        RunInterrupted: Interrupted (a KeyboardInterrupt); the kernels are stopped and the folder is
            left complete, with an index, but ``latest`` does not name it.
    """
    if jobs < 1:
        raise RunError(f"-j must be at least 1; got {jobs}")
    label = label if label is not None else _default_label(plan)
    if not _LABEL.fullmatch(label):
        raise RunError(
            f"a label has at most 40 letters, digits, '_', '.' or '-', "
            f"beginning with a letter or digit; got {label!r}"
        )
    jobs = min(jobs, len(plan.instances))
    root = (out or plan.folder.parent / "runs").absolute()
    folder = _new_folder(root, label)
    return _Execution(plan, folder, label, jobs, watch).run()


def _default_label(plan: Plan) -> str:
    label = re.sub(r"[^A-Za-z0-9_.-]", "-", "-".join(plan.targets))
    return label if _LABEL.fullmatch(label) else f"{len(plan.targets)}-notebooks"


def _new_folder(root: Path, label: str) -> Path:
    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    folder = root / f"{moment}_{label}_{secrets.token_hex(2)}"
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise RunError(f"cannot make a run folder in {root}: {error.strerror}") from error
    return folder


def _cores() -> int:
    """Cores this process may use, which a container may limit."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _socket_folder() -> Path:
    """A new folder whose path leaves room for a socket's name within 107 bytes."""
    for place in (tempfile.gettempdir(), "/tmp"):
        if len(place) < 60:
            return Path(tempfile.mkdtemp(prefix="jl-", dir=place))
    raise RunError("no temporary folder with a path short enough for sockets; set TMPDIR")


def publish_latest(folder: Path) -> None:
    """Let ``latest`` beside a run's folder name that run."""
    latest = folder.parent / "latest"
    beside = folder.parent / f".latest.{secrets.token_hex(3)}"
    try:
        beside.symlink_to(folder.name, target_is_directory=True)
        beside.replace(latest)
    except OSError:
        # no links here: a file with the folder's name stands in
        beside.unlink(missing_ok=True)
        write_whole(latest, folder.name + "\n")


class _Worker:
    """A spawned process and what it is doing."""

    def __init__(self) -> None:
        context = get_context("spawn")
        self.pipe: Connection
        self.pipe, theirs = context.Pipe()
        self.process: SpawnProcess = context.Process(target=serve, args=(theirs,), daemon=False)
        self.process.start()
        theirs.close()
        self.instance: str | None = None

    def stop(self) -> None:
        """End the process and its kernel, at once where it is busy."""
        import psutil

        if self.instance is not None:
            with contextlib.suppress(psutil.Error):
                stop_children(psutil.Process(self.process.pid))
            self.process.terminate()
        self.pipe.close()
        self.process.join(timeout=10)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


class _Execution:
    """One run in progress."""

    def __init__(
        self, plan: Plan, folder: Path, label: str, jobs: int, watch: Watch | None
    ) -> None:
        threads = max(1, _cores() // jobs)
        self._plan = plan
        self._folder = folder
        self._jobs = jobs
        self._watch = watch
        self._caps = dict.fromkeys(_THREAD_VARIABLES, threads)
        self._manifest = new_manifest(plan, folder.name, label, jobs, self._caps)
        self._entries = {entry["instance"]: entry for entry in self._manifest["notebooks"]}
        self._progress = {name: Progress(name, "pending") for name in plan.instances}
        self._started: dict[str, float] = {}
        self._workers: list[_Worker] = []
        self._sorter = TopologicalSorter(
            {name: instance.needs for name, instance in plan.instances.items()}
        )
        self._ready: list[str] = []

    def run(self) -> RunResult:
        """Run everything that can run; then write index and manifest."""
        started = time.monotonic()
        sockets = _socket_folder()
        self._sorter.prepare()
        self._save()
        self._tell()
        finished = False
        try:
            self._work(sockets)
            finished = True
        except KeyboardInterrupt as interrupt:
            raise RunInterrupted(self._folder) from interrupt
        finally:
            for worker in self._workers:
                worker.stop()
            shutil.rmtree(sockets, ignore_errors=True)
            if not finished:
                self._close_interrupted()
            self._manifest["finished_at"] = utc_now()
            self._manifest["duration_seconds"] = round(time.monotonic() - started, 3)
            self._save()
            # slow to import, and a refused run needs no page
            from journeylab.report import write_index

            write_index(self._folder)
        publish_latest(self._folder)
        return RunResult(self._folder, self._manifest)

    def _work(self, sockets: Path) -> None:
        while self._sorter.is_active():
            self._ready += self._sorter.get_ready()
            self._ready.sort()
            if self._start_ready(sockets):
                continue
            busy = [worker for worker in self._workers if worker.instance is not None]
            heard = wait([worker.pipe for worker in busy], timeout=0.5)
            for worker in busy:
                if worker.pipe in heard:
                    self._listen(worker)
            self._tick(busy)

    def _start_ready(self, sockets: Path) -> bool:
        """Start or block what is ready; True when something was blocked, which frees others."""
        blocked = False
        while self._ready:
            name = self._ready[0]
            failed = sorted(
                needed
                for needed in self._plan.instances[name].requires
                if self._entries[needed]["state"] != "done"
            )
            if failed:
                self._ready.pop(0)
                self._block(name, f"blocked by {', '.join(failed)}")
                blocked = True
                continue
            idle = [worker for worker in self._workers if worker.instance is None]
            if not idle and len(self._workers) >= self._jobs:
                break
            if not idle:
                idle = [_Worker()]
                self._workers += idle
            self._ready.pop(0)
            self._start(idle[0], name, sockets)
        return blocked

    def _start(self, worker: _Worker, name: str, sockets: Path) -> None:
        instance = self._plan.instances[name]
        (self._folder / name).mkdir()
        self._entries[name]["state"] = "running"
        self._started[name] = time.monotonic()
        self._progress[name] = Progress(name, "running")
        self._save()
        job = Job(
            notebook=instance.notebook.path,
            run_folder=self._folder,
            parameters=instance.injected,
            sources=self._plan.sources,
            caller=self._plan.caller,
            thread_caps=self._caps,
            sockets=sockets,
            manifest=self._manifest,
            entry=self._entries[name],
        )
        worker.instance = name
        with contextlib.suppress(BrokenPipeError):
            # a worker that is gone is noticed when it is listened to
            worker.pipe.send(job)
        self._tell()

    def _listen(self, worker: _Worker) -> None:
        assert worker.instance is not None
        name = worker.instance
        try:
            event = worker.pipe.recv()
        except (EOFError, OSError):
            self._workers.remove(worker)
            worker.stop()
            code = worker.process.exitcode
            self._fail(name, f"the process that ran this notebook ended with code {code}")
            self._end(name)
            return
        match event:
            case ("cell", int() as cell, int() as cells):
                elapsed = time.monotonic() - self._started[name]
                self._progress[name] = Progress(name, "running", cell, cells, elapsed)
                self._tell()
            case ("end", dict() as entry):
                self._entries[name].update(entry)
                worker.instance = None
                self._end(name)

    def _tick(self, busy: list[_Worker]) -> None:
        """Let the clocks run on."""
        now = time.monotonic()
        for worker in busy:
            if (name := worker.instance) is not None:
                last = self._progress[name]
                elapsed = now - self._started[name]
                self._progress[name] = Progress(name, last.state, last.cell, last.cells, elapsed)
        self._tell()

    def _end(self, name: str) -> None:
        entry = self._entries[name]
        last = self._progress[name]
        message = entry["error"]["message"] if entry["error"] else ""
        elapsed = entry["duration_seconds"] or 0.0
        self._progress[name] = Progress(
            name, entry["state"], last.cell, last.cells, elapsed, message
        )
        self._sorter.done(name)
        self._save()
        self._tell()

    def _block(self, name: str, why: str) -> None:
        self._entries[name] |= {"state": "blocked", "error": {"message": why}}
        self._end(name)

    def _fail(self, name: str, why: str) -> None:
        """Complete the folder of a notebook whose worker can no longer do it."""
        error = {
            "cell": self._progress[name].cell or None,
            "name": "runner",
            "message": why,
            "traceback": "",
        }
        folder = self._folder / name
        scrubber = Scrubber(self._folder, self._plan.caller, self._plan.sources)
        finish_folder(folder, self._plan.instances[name].notebook.path, scrubber)
        self._entries[name] |= {
            "state": "failed",
            "error": error,
            "cells": self._progress[name].cells or None,
            "duration_seconds": round(time.monotonic() - self._started[name], 3),
            "outputs": output_hashes(folder),
        }
        write_notebook_page(folder, self._manifest, self._entries[name])

    def _close_interrupted(self) -> None:
        for name, entry in self._entries.items():
            if entry["state"] == "running":
                self._fail(name, "interrupted")
            elif entry["state"] == "pending":
                entry |= {"state": "blocked", "error": {"message": "the run was interrupted"}}

    def _save(self) -> None:
        write_json(self._folder / "manifest.json", self._manifest)

    def _tell(self) -> None:
        if self._watch is not None:
            self._watch(dict(self._progress))
