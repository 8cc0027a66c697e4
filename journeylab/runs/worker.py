"""The process that drives kernels: one notebook after another, on behalf of the runner.

Started by ``spawn``; the runner sends jobs and reads events over a pipe. papermill executes.
"""

import contextlib
import json
import logging
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import parent_process
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from journeylab.audit import take_audit
from journeylab.runs.manifest import output_hashes
from journeylab.runs.recording import FOLDER_VARIABLE, ROOT_VARIABLE, SHOWN_VARIABLE
from journeylab.runs.scrubbing import Scrubber, without_terminal_codes
from journeylab.runs.secret import sweep
from journeylab.runs.writing import write_json, write_whole

# A loaded machine starts a kernel slowly; a kernel that cannot start fails at once.
_KERNEL_START_SECONDS = 180
_SECONDS_BETWEEN_LOOKS = 0.2
_PARTIAL_NOTEBOOK = ".notebook.partial.ipynb"
_PARTIAL_LOG = ".log.partial.txt"


@dataclass(frozen=True, slots=True)
class Job:
    """One notebook to run.

    Attributes:
        notebook: The notebook's file.
        run_folder: The run's folder; the notebook's own lies in it, named after the instance.
        parameters: To inject.
        sources: Data sources as kernels get them, and as they may be shown.
        caller: Directory the run was started from.
        thread_caps: Environment variable to number of native threads.
        sockets: A folder with a short path, for the kernel's sockets.
        manifest: The run's manifest so far.
        entry: The notebook's entry in it.
    """

    notebook: Path
    run_folder: Path
    parameters: dict[str, Any]
    sources: dict[str, str]
    caller: Path
    thread_caps: dict[str, int]
    sockets: Path
    manifest: dict[str, Any]
    entry: dict[str, Any]

    @property
    def folder(self) -> Path:
        """The notebook's own folder in the run."""
        return self.run_folder / str(self.entry["instance"])


def serve(pipe: Connection) -> None:
    """Run jobs from the pipe until it closes; send ``("cell", k, n)`` and ``("end", entry)``."""
    # the runner decides what an interrupt means
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # jsonschema, which nbformat imports, would build a grammar of internationalised addresses: some
    # three CPU seconds for a check no notebook asks for. Without the package it does without.
    sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]
    sockets: list[Path] = []
    threading.Thread(target=_die_with_the_runner, args=(sockets,), daemon=True).start()
    while True:
        try:
            job: Job | None = pipe.recv()
        except EOFError:
            return
        if job is None:
            return
        sockets[:] = [job.sockets]
        pipe.send(("end", _run(job, pipe)))


def _die_with_the_runner(sockets: list[Path]) -> None:
    """Leave no kernel and no socket behind when the runner is killed."""
    runner = parent_process()
    if runner is not None:
        runner.join()
        stop_children()
        for folder in sockets:
            shutil.rmtree(folder, ignore_errors=True)
        os._exit(1)


def stop_children(process: Any = None) -> None:
    """Kill the processes below this one or the given one (kernels and what they started)."""
    import psutil

    with contextlib.suppress(psutil.Error):
        for child in (process or psutil.Process()).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                child.kill()


def _run(job: Job, pipe: Connection) -> dict[str, Any]:
    """Execute one notebook and leave its folder complete; never raises."""
    from journeylab.runs.trimming import trimmed_error

    os.environ.update({name: str(cap) for name, cap in job.thread_caps.items()})
    os.environ[FOLDER_VARIABLE] = str(job.folder)
    os.environ[ROOT_VARIABLE] = str(job.run_folder)
    os.environ[SHOWN_VARIABLE] = json.dumps(job.sources)
    # sets of texts in any package then come in one order, run after run
    os.environ.setdefault("PYTHONHASHSEED", "0")
    scrubber = Scrubber(job.run_folder, job.caller, job.sources)
    meter = _Meter()
    started = time.monotonic()
    with _logging_to(job.folder / _PARTIAL_LOG), meter.watching():
        error = _execute(job, pipe, meter)
    try:
        finish_folder(job.folder, job.notebook, scrubber)
    except OSError as problem:
        error = error or _runner_error(meter, f"its files could not be written: {problem.strerror}")
    if held := sweep(job.folder):
        message = f"{', '.join(held)} held the value of a secret and was removed"
        error = error or _runner_error(meter, f"{message}; do not record or write it")
    if error:
        error = trimmed_error(scrubber.tree(error))
    entry = job.entry | {
        "state": "failed" if error else "done",
        "error": error,
        "duration_seconds": round(time.monotonic() - started, 3),
        "cpu_seconds": round(meter.cpu_seconds, 2),
        "peak_memory_mb": round(meter.peak_memory_mb, 1),
        "cells": meter.cells,
    }
    entry["audit"] = take_audit(job.folder)
    entry["outputs"] = output_hashes(job.folder)
    write_notebook_page(job.folder, job.manifest, entry)
    return entry


def write_notebook_page(folder: Path, manifest: dict[str, Any], entry: dict[str, Any]) -> None:
    """Write the notebook's page; an entry that could not be shown has failed."""
    from journeylab.report import write_page

    try:
        write_page(folder, manifest, entry)
    except Exception as problem:  # noqa: BLE001 - whatever breaks a page must not break the run
        if entry["error"] is None:
            message = f"the page could not be written: {type(problem).__name__}: {problem}"
            entry["error"] = {"cell": None, "name": "page", "message": message, "traceback": ""}
        entry["state"] = "failed"


def finish_folder(folder: Path, source: Path, scrubber: Scrubber) -> None:
    """Put notebook, log and results of an instance in place, whole and without machine paths.

    Args:
        folder: The instance's folder.
        source: The notebook as it was before, which stands in where nothing was executed.
        scrubber: Of the run.
    """
    # it brings the report along, which the command line must not load to refuse an option
    from journeylab.runs.trimming import read_log, trim_notebook

    partial = folder / _PARTIAL_NOTEBOOK
    try:
        notebook = json.loads(partial.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        # never saved, or only half of it
        notebook = json.loads(source.read_text(encoding="utf-8"))
    # papermill's own banners; the page says it better
    notebook["cells"] = [
        cell
        for cell in notebook["cells"]
        if "papermill-error-cell-tag" not in cell.get("metadata", {}).get("tags", ())
    ]
    for name in ("input_path", "output_path", "environment_variables"):
        notebook["metadata"].get("papermill", {}).pop(name, None)
    trim_notebook(notebook)
    write_notebook(folder, notebook, scrubber)
    partial.unlink(missing_ok=True)
    log = folder / _PARTIAL_LOG
    write_whole(folder / "log.txt", scrubber.text(read_log(log)))
    log.unlink(missing_ok=True)
    if not (folder / "results.json").exists():
        write_json(folder / "results.json", {})


def write_notebook(folder: Path, notebook: dict[str, Any], scrubber: Scrubber) -> None:
    """Write the executed notebook of an instance, without machine paths."""
    text = json.dumps(scrubber.tree(notebook), ensure_ascii=False, indent=1, sort_keys=True)
    write_whole(folder / "notebook.ipynb", text + "\n")


@contextlib.contextmanager
def _logging_to(path: Path) -> Iterator[None]:
    """Send everything this process and its kernels print to a file."""
    logger = logging.getLogger("papermill")
    with path.open("a", encoding="utf-8") as file:
        kept = [os.dup(1), os.dup(2)]
        handler = logging.StreamHandler(file)
        handler.setFormatter(logging.Formatter("%(message)s"))
        level, propagate = logger.level, logger.propagate
        logger.setLevel(logging.INFO)
        logger.propagate = False
        logger.addHandler(handler)
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for standard, number in enumerate(kept, start=1):
                os.dup2(number, standard)
                os.close(number)
            logger.removeHandler(handler)
            logger.setLevel(level)
            logger.propagate = propagate


def _execute(job: Job, pipe: Connection, meter: "_Meter") -> dict[str, Any] | None:
    """Let papermill execute the notebook.

    Returns:
        What went wrong, as the manifest holds it; None when nothing did.
    """
    import nbformat
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    from journeylab.runs.kernel import manager_class

    def on_cell_start(cell: Any, cell_index: int) -> None:
        meter.cell += 1
        pipe.send(("cell", meter.cell, meter.cells))

    def on_cell_end(cell: Any, cell_index: int, execute_reply: Any) -> None:
        meter.measure()

    sockets = Path(tempfile.mkdtemp(dir=job.sockets))
    ends: list[int] = []
    try:
        notebook = nbformat.read(job.notebook, as_version=4)
        meter.cells = sum(
            cell.cell_type == "code" and bool(cell.source.strip()) for cell in notebook.cells
        ) + bool(job.parameters)
        # papermill formats paths: a brace in one is escaped by doubling it
        output = str(job.folder / _PARTIAL_NOTEBOOK).replace("{", "{{").replace("}", "}}")
        papermill.execute_notebook(
            notebook,
            output,
            parameters=job.parameters,
            kernel_name="python3",
            language="python",
            progress_bar=False,
            log_output=True,
            start_timeout=_KERNEL_START_SECONDS,
            cwd=job.folder,
            kernel_manager_class=manager_class(sockets, ends),
            on_cell_execute=on_cell_start,
            on_cell_executed=on_cell_end,
        )
    except PapermillExecutionError as error:
        return {
            "cell": meter.cell,
            "name": error.ename,
            "message": without_terminal_codes(error.evalue),
            "traceback": without_terminal_codes("\n".join(error.traceback)),
        }
    except DeadKernelError:
        return _runner_error(meter, _death(meter, ends), "DeadKernelError")
    except Exception as error:  # noqa: BLE001 - one notebook's trouble must not end the others
        return _runner_error(meter, f"{type(error).__name__}: {error}")
    finally:
        stop_children()
        shutil.rmtree(sockets, ignore_errors=True)
    return None


def _runner_error(meter: "_Meter", message: str, name: str = "runner") -> dict[str, Any]:
    return {"cell": meter.cell, "name": name, "message": message, "traceback": ""}


def _death(meter: "_Meter", ends: list[int]) -> str:
    """What became of a kernel that is gone: how it ended, what it used, what to change."""
    import psutil

    place = f"the kernel died in cell {meter.cell} of {meter.cells}"
    used = f"it had used {meter.peak_memory_mb:,.0f} MB of memory"
    if not ends or ends[-1] >= 0:
        code = f" with exit code {ends[-1]}" if ends else ""
        return f"{place}{code}; {used} (see log.txt for what it said last)"
    if ends[-1] != -signal.SIGKILL:
        return f"{place} by signal {-ends[-1]}; {used} (see log.txt for what it said last)"
    whole = psutil.virtual_memory().total / 2**20
    return (
        f"{place}, killed by signal 9, as the system does when memory runs out; {used} of this "
        f"machine's {whole:,.0f} MB. Run fewer notebooks side by side (-j 1), bound the engine "
        "(JOURNEYLAB_MEMORY_LIMIT=2GB), or give it fewer data (-p data=...)"
    )


class _Meter:
    """What a kernel and the processes below it have used, and how far it is."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.cell = 0
        self.cells = 0
        self.cpu_seconds = 0.0
        self.peak_memory_mb = 0.0

    def measure(self) -> None:
        """Look at the processes below this one: the kernel and what it started."""
        import psutil

        cpu, memory = 0.0, 0.0
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                cpu += times.user + times.system + times.children_user + times.children_system
                memory += _peak_bytes(process)
        with self._lock:
            self.cpu_seconds = max(self.cpu_seconds, cpu)
            self.peak_memory_mb = max(self.peak_memory_mb, memory / 2**20)

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Measure all the time: a kernel that is killed for its memory cannot be asked later."""
        ended = threading.Event()

        def watch() -> None:
            while not ended.wait(_SECONDS_BETWEEN_LOOKS):
                self.measure()

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            watcher.join()


def _peak_bytes(process: Any) -> float:
    """Highest resident memory so far where the system keeps it (Linux), else the present one."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024.0 * int(line.split()[1])
    return float(process.memory_info().rss)
