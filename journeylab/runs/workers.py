"""The processes that run notebooks on behalf of the runner: started, told, heard, ended."""

import contextlib
import os
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess

from journeylab.runs.worker import serve, stop_children

THREAD_VARIABLES = (
    "JOURNEYLAB_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "POLARS_MAX_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


def cores() -> int:
    """Cores this process may use, which a container may limit."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Worker:
    """A spawned process and what it is doing.

    Attributes:
        instance: The notebook it runs; None while it is idle.
    """

    def __init__(self) -> None:
        context = get_context("spawn")
        self.pipe: Connection
        self.pipe, theirs = context.Pipe()
        self.process: SpawnProcess = context.Process(target=serve, args=(theirs,), daemon=False)
        self.process.start()
        theirs.close()
        self.instance: str | None = None

    @property
    def began(self) -> float:
        """When the process began, seconds since 1970: with its number it names one process."""
        import psutil

        with contextlib.suppress(psutil.Error):
            return float(psutil.Process(self.process.pid).create_time())
        return 0.0

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
