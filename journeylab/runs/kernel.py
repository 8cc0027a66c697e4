"""How a kernel is started: this very Python, over local sockets.

Imported by the worker only: it brings jupyter_client along.
"""

import os
import sys
from pathlib import Path
from typing import Any

from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager


def manager_class(sockets: Path) -> type[AsyncKernelManager]:
    """A kernel manager for the interpreter that runs the runner.

    An installed kernel spec called python3 may point to another environment, so none is asked.

    Args:
        sockets: An empty folder for the connection file and the sockets. The path of a Unix
            socket has at most 107 bytes, so keep it short.
    """

    class LocalKernelManager(AsyncKernelManager):  # type: ignore[misc]
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            if os.name == "posix":
                self.transport = "ipc"
                self.connection_file = str(sockets / "k.json")

        @property
        def kernel_spec(self) -> KernelSpec:
            return KernelSpec(
                argv=[sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
                display_name="Python 3",
                language="python",
            )

    return LocalKernelManager
