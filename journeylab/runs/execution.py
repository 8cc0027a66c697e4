"""The runner: takes from the cache or starts what is ready, and keeps the record."""

import contextlib
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from graphlib import TopologicalSorter
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from journeylab.errors import RunError
from journeylab.runs.cache import find_finished, keep_finished, take_finished
from journeylab.runs.folders import new_folder, publish_latest, socket_folder
from journeylab.runs.journal import Journal
from journeylab.runs.keys import KeyMaker
from journeylab.runs.manifest import Manifest, new_manifest, output_hashes, utc_now
from journeylab.runs.plan import Plan
from journeylab.runs.scrubbing import Scrubber
from journeylab.runs.summary import write_summary
from journeylab.runs.worker import Job, finish_folder, write_notebook, write_notebook_page
from journeylab.runs.workers import THREAD_VARIABLES, Worker, cores
from journeylab.runs.writing import write_json

_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,39}")


@dataclass(frozen=True, slots=True)
class Progress:
    """How one notebook stands.

    Attributes:
        instance: Its folder in the run.
        state: ``pending``, ``running``, ``done``, ``failed`` or ``blocked``.
        cell, cells: The code cell it is at, and how many there are; 0 before it starts.
        elapsed_seconds: Since it started.
        message: Why it failed or is blocked, or where it was taken from; empty otherwise.
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


class RunStopped(RunError):
    """The run could not keep its record, for example because the disk is full."""


Watch = Callable[[dict[str, Progress]], None]


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How a run is carried out; none of it changes a result.

    Attributes:
        jobs: Notebooks side by side.
        threads: Native threads of each; by default the cores are shared out among them.
        timeout_seconds: Longest a notebook may take; None lets it.
        force: Run also what the cache has.
        cache: Keep and take finished notebooks.
        keep_going: After a failure start what does not rest on it; otherwise what runs comes to its
            end and nothing more is started.
    """

    jobs: int = 2
    threads: int | None = None
    timeout_seconds: float | None = None
    force: bool = False
    cache: bool = True
    keep_going: bool = False

    def __post_init__(self) -> None:
        if self.jobs < 1:
            raise RunError(f"-j must be at least 1; got {self.jobs}")
        if self.threads is not None and self.threads < 1:
            raise RunError(f"--threads must be at least 1; got {self.threads}")
        if self.timeout_seconds is not None and not self.timeout_seconds > 0:
            raise RunError(f"--timeout must be above 0 seconds; got {self.timeout_seconds:g}")


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
    options: RunOptions | None = None,
    *,
    out: Path | None = None,
    label: str | None = None,
    watch: Watch | None = None,
) -> RunResult:
    """Run a plan and keep the record in a new folder.

    Args:
        plan: From ``make_plan``.
        options: How; two notebooks side by side by default.
        out: Root that the run's folder is made in; ``runs`` beside the notebooks by default.
        label: Part of the folder's name; made from the notebooks asked for by default.
        watch: Told how all notebooks stand, whenever something changes.

    Raises:
        RunError: The label is not allowed, or the root cannot be written.
        RunStopped: The record can no longer be written; what was done is kept.
        RunInterrupted: Interrupted (a KeyboardInterrupt); the kernels are stopped and the folder is
            left complete, with an index, but ``latest`` does not name it.
    """
    label = label if label is not None else _default_label(plan)
    if not _LABEL.fullmatch(label):
        raise RunError(
            f"a label has at most 40 letters, digits, '_', '.' or '-', "
            f"beginning with a letter or digit; got {label!r}"
        )
    options = options or RunOptions()
    folder = new_folder(runs_root(plan.folder, out), label)
    caps = _thread_caps(options, plan)
    manifest = new_manifest(plan, folder.name, label, min(options.jobs, len(plan.instances)), caps)
    return execute(plan, folder, manifest, options, watch)


def runs_root(notebooks: Path, out: Path | None = None) -> Path:
    """The folder that run folders are made in."""
    return (out or notebooks.parent / "runs").absolute()


def _default_label(plan: Plan) -> str:
    label = re.sub(r"[^A-Za-z0-9_.-]", "-", "-".join(plan.targets))
    return label if _LABEL.fullmatch(label) else f"{len(plan.targets)}-notebooks"


def _thread_caps(options: RunOptions, plan: Plan) -> dict[str, int]:
    shared = max(1, cores() // min(options.jobs, len(plan.instances)))
    return dict.fromkeys(THREAD_VARIABLES, options.threads or shared)


def execute(
    plan: Plan,
    folder: Path,
    manifest: Manifest,
    options: RunOptions,
    watch: Watch | None,
    journal: Journal | None = None,
) -> RunResult:
    """Run what the manifest does not call done.

    Args:
        plan: Of the run.
        folder: The run's, which exists.
        manifest: As far as the run has come.
        options: How.
        watch: Told how all notebooks stand.
        journal: Of the run; opened and closed here by default.
    """
    execution = _Execution(plan, folder, manifest, options, watch)
    try:
        # first what ran, then what happened: a run without a manifest has not begun
        execution.save()
        with journal or Journal(folder) as held:
            return execution.run(held)
    except OSError as error:
        raise RunStopped(
            f"the record of this run cannot be written ({error.strerror or error}); what was done "
            f"is kept in {folder.name}. Make room or mend the permissions, then: "
            f"journeylab resume {folder.name}"
        ) from error


class _Execution:
    """One run in progress."""

    def __init__(
        self,
        plan: Plan,
        folder: Path,
        manifest: Manifest,
        options: RunOptions,
        watch: Watch | None,
    ) -> None:
        self._plan = plan
        self._folder = folder
        self._options = options
        self._jobs = min(options.jobs, len(plan.instances))
        self._watch = watch
        self._manifest = manifest
        self._entries: dict[str, dict[str, Any]] = {
            entry["instance"]: entry for entry in manifest["notebooks"]
        }
        self._progress = {
            name: Progress(name, self._entries[name]["state"]) for name in plan.instances
        }
        self._scrubber = Scrubber(folder, plan.caller, plan.sources)
        self._keys = KeyMaker(plan.folder.parent)
        self._started: dict[str, float] = {}
        self._workers: list[Worker] = []
        self._sorter = TopologicalSorter(
            {name: instance.needs for name, instance in plan.instances.items()}
        )
        self._ready: list[str] = []
        self._failed_first: str | None = None
        self._journal: Journal

    def run(self, journal: Journal) -> RunResult:
        """Run everything that can run; then write index and manifest."""
        started = time.monotonic()
        self._journal = journal
        self._journal.write("begin", run=self._folder.name)
        sockets = socket_folder(self._folder)
        self._sorter.prepare()
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
            if finished:
                self._close(started)
            else:
                # what stopped the run goes before what stops its record
                with contextlib.suppress(OSError):
                    self._close_interrupted()
                    self._close(started)
        publish_latest(self._folder)
        self._journal.write("end")
        return RunResult(self._folder, self._manifest)

    def _close(self, started: float) -> None:
        before = self._manifest["duration_seconds"] or 0.0
        self._manifest["finished_at"] = utc_now()
        self._manifest["duration_seconds"] = round(before + time.monotonic() - started, 3)
        self.save()
        write_summary(self._folder, self._manifest)
        # slow to import, and a refused run needs no page
        from journeylab.report import write_index

        write_index(self._folder)

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
        """Start, block or take what is ready; True when something ended, which frees others."""
        ended = False
        while self._ready:
            name = self._ready[0]
            if self._entries[name]["state"] == "done" or self._block_or_take(name):
                self._ready.pop(0)
                self._sorter.done(name)
                ended = True
                continue
            idle = [worker for worker in self._workers if worker.instance is None]
            if not idle and len(self._workers) >= self._jobs:
                break
            if not idle:
                idle = [Worker()]
                self._journal.write("worker", pid=idle[0].process.pid, began=idle[0].began)
                self._workers += idle
            self._ready.pop(0)
            self._start(idle[0], name, sockets)
        return ended

    def _block_or_take(self, name: str) -> bool:
        """Whether a notebook ended without being run."""
        instance, entry = self._plan.instances[name], self._entries[name]
        failed = sorted(
            needed for needed in instance.requires if self._entries[needed]["state"] != "done"
        )
        if failed:
            self._block(name, f"blocked by {', '.join(failed)}")
            return True
        if self._failed_first is not None and not self._options.keep_going:
            why = f"not started, since {self._failed_first} failed; --keep-going starts it anyway"
            self._block(name, why)
            return True
        if entry["key"] is None:
            self._set_key(name)
        if self._options.force or not self._options.cache or not instance.cacheable:
            return False
        return self._take(name)

    def _set_key(self, name: str) -> None:
        instance, entry = self._plan.instances[name], self._entries[name]
        key = self._keys.key(instance, self._upstream(name))
        entry["key"], entry["key_parts"] = key.digest, key.parts
        self._manifest["sources"] |= key.sources

    def _upstream(self, name: str) -> dict[str, dict[str, str] | None]:
        needed = {key: self._entries[key] for key in self._plan.instances[name].needs}
        return {
            key: entry["outputs"] if entry["state"] == "done" else None
            for key, entry in needed.items()
        }

    def _take(self, name: str) -> bool:
        """Take a notebook from the cache; False where it is not there."""
        entry = self._entries[name]
        finished = find_finished(self._folder.parent, entry["key"])
        if finished is None:
            return False
        started = time.monotonic()
        folder, source = self._folder / name, self._plan.instances[name].notebook.path
        write_notebook(folder, take_finished(finished, folder, source), self._scrubber)
        kept = ("duration_seconds", "cpu_seconds", "peak_memory_mb", "cells", "outputs")
        entry |= {key: finished.entry[key] for key in kept}
        entry |= {"state": "done", "error": None, "cached_from": finished.run}
        write_notebook_page(folder, self._manifest, entry)
        self._record_end(name, f"as in {finished.run}", time.monotonic() - started)
        return True

    def _start(self, worker: Worker, name: str, sockets: Path) -> None:
        instance = self._plan.instances[name]
        (self._folder / name).mkdir()
        self._entries[name]["state"] = "running"
        self._started[name] = time.monotonic()
        self._progress[name] = Progress(name, "running")
        self.save()
        self._journal.write("start", instance=name)
        job = Job(
            notebook=instance.notebook.path,
            run_folder=self._folder,
            parameters=instance.injected,
            sources=self._plan.sources,
            caller=self._plan.caller,
            thread_caps=self._manifest["thread_caps"],
            sockets=sockets,
            manifest=self._manifest,
            entry=self._entries[name],
        )
        worker.instance = name
        with contextlib.suppress(BrokenPipeError):
            # a worker that is gone is noticed when it is listened to
            worker.pipe.send(job)
        self._tell()

    def _listen(self, worker: Worker) -> None:
        assert worker.instance is not None
        name = worker.instance
        try:
            event = worker.pipe.recv()
        except (EOFError, OSError):
            self._workers.remove(worker)
            worker.stop()
            self._fail(name, _lost(worker.process.exitcode))
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

    def _tick(self, busy: list[Worker]) -> None:
        """Let the clocks run on, and end what takes too long."""
        now = time.monotonic()
        for worker in busy:
            if (name := worker.instance) is None or worker not in self._workers:
                continue
            last = self._progress[name]
            elapsed = now - self._started[name]
            self._progress[name] = Progress(name, last.state, last.cell, last.cells, elapsed)
            most = self._options.timeout_seconds
            if most is not None and elapsed > most:
                self._workers.remove(worker)
                worker.stop()
                place = f" in cell {last.cell} of {last.cells}" if last.cells else ""
                self._fail(
                    name,
                    f"stopped{place} after {elapsed:.0f} s: it may take {most:g} s "
                    "(--timeout allows more)",
                )
                self._end(name)
        self._tell()

    def _end(self, name: str) -> None:
        """Keep a notebook that came to an end, its own or another."""
        entry = self._entries[name]
        if entry["state"] == "failed" and self._failed_first is None:
            self._failed_first = name
        message = entry["error"]["message"] if entry["error"] else ""
        self._record_end(name, message, entry["duration_seconds"] or 0.0)
        self._sorter.done(name)
        if entry["state"] == "done" and self._options.cache:
            keep_finished(
                self._folder.parent, entry["key"], self._folder / name, entry, self._folder.name
            )

    def _record_end(self, name: str, message: str, elapsed: float) -> None:
        entry, last = self._entries[name], self._progress[name]
        event = "cached" if entry["cached_from"] else entry["state"]
        self._journal.write(event, instance=name, entry=entry)
        self._progress[name] = Progress(
            name, entry["state"], last.cell, last.cells, elapsed, message
        )
        self.save()
        self._tell()

    def _block(self, name: str, why: str) -> None:
        self._entries[name] |= {"state": "blocked", "error": {"message": why}}
        self._record_end(name, why, 0.0)

    def _fail(self, name: str, why: str) -> None:
        """Complete the folder of a notebook whose worker can no longer do it."""
        error = {
            "cell": self._progress[name].cell or None,
            "name": "runner",
            "message": why,
            "traceback": "",
        }
        folder = self._folder / name
        finish_folder(folder, self._plan.instances[name].notebook.path, self._scrubber)
        self._entries[name] |= {
            "state": "failed",
            "error": error,
            "cells": self._progress[name].cells or None,
            "duration_seconds": round(time.monotonic() - self._started[name], 3),
            "outputs": output_hashes(folder),
        }
        write_notebook_page(folder, self._manifest, self._entries[name])

    def _close_interrupted(self) -> None:
        self._journal.write("interrupted")
        for name, entry in self._entries.items():
            if entry["state"] == "running":
                self._fail(name, "interrupted")
            elif entry["state"] == "pending":
                entry |= {"state": "blocked", "error": {"message": "the run was interrupted"}}

    def save(self) -> None:
        """Write the manifest as it is now."""
        write_json(self._folder / "manifest.json", self._manifest)

    def _tell(self) -> None:
        if self._watch is not None:
            self._watch(dict(self._progress))


def _lost(code: int | None) -> str:
    """What is said of a worker that went away."""
    why = f"the process that ran this notebook ended with code {code}"
    if code is not None and code == -9:
        why += (
            ", as the system does when memory runs out; run fewer notebooks side by side (-j 1) or "
            "bound the engine (JOURNEYLAB_MEMORY_LIMIT=2GB)"
        )
    return why
