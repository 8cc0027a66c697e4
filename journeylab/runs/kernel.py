"""How a kernel is started: this very Python, over local sockets.

Imported by the worker only: it brings jupyter_client along.
"""

import os
import sys
from pathlib import Path
from typing import Any

from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager

# A kernel ends with the process that started it, however that one ends (Linux: prctl 1 is
# PR_SET_PDEATHSIG). It must be told before IPython begins, and the package must come after it.
_START = """
import os, sys
if sys.platform == "linux":
    import ctypes
    ctypes.CDLL(None).prctl(1, 9)
    if os.getppid() != int(os.environ.get("JPY_PARENT_PID", os.getppid())):
        sys.exit(1)
if sys.path and sys.path[0] == "":
    del sys.path[0]
from ipykernel import kernelapp
kernelapp.launch_new_instance()
"""


def manager_class(sockets: Path, ends: list[int]) -> type[AsyncKernelManager]:
    """A kernel manager for the interpreter that runs the runner.

    An installed kernel spec called python3 may point to another environment, so none is asked.

    Args:
        sockets: An empty folder for the connection file and the sockets. The path of a Unix
            socket has at most 107 bytes, so keep it short.
        ends: Gets the exit code of a kernel that is found dead; minus a signal's number.
    """

    class LocalKernelManager(AsyncKernelManager):  # type: ignore[misc]
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            if os.name == "posix":
                self.transport = "ipc"
                self.connection_file = str(sockets / "k.json")

        async def is_alive(self) -> bool:
            alive = bool(await super().is_alive())
            process = getattr(self.provisioner, "process", None)
            if not alive and process is not None and process.returncode is not None:
                ends.append(process.returncode)
            return alive

        @property
        def kernel_spec(self) -> KernelSpec:
            return KernelSpec(
                argv=[sys.executable, "-c", _START, "-f", "{connection_file}"],
                display_name="Python 3",
                language="python",
            )

    return LocalKernelManager
