"""Run folders: their names, which is the latest, and what a killed run leaves to be cleared."""

import contextlib
import json
import re
import secrets
import shutil
import tempfile
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from journeylab.errors import RunError
from journeylab.runs.journal import read_journal
from journeylab.runs.recording import ROOT_VARIABLE
from journeylab.runs.writing import write_whole

# as write_whole, write_page and the worker call what is not yet whole
_PASSING = re.compile(r"\.(.+\.[0-9a-f]{6}|.+\.\d+\.tmp|(notebook|log)\.partial\.\w+)")
_SECONDS_TO_END = 10


def new_folder(root: Path, label: str) -> Path:
    """Make the folder of a run that begins now.

    Raises:
        RunError: The root cannot be written.
    """
    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    folder = root / f"{moment}_{label}_{secrets.token_hex(2)}"
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise RunError(f"cannot make a run folder in {root}: {error.strerror}") from error
    return folder


def run_folders(root: Path) -> list[Path]:
    """The runs in a root, oldest first."""
    if not root.is_dir():
        return []
    return sorted(
        path.parent for path in root.glob("*/manifest.json") if not path.parent.is_symlink()
    )


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a run.

    Raises:
        RunError: The folder is no run.
    """
    try:
        manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{folder} is not a run: it has no manifest.json to read") from error
    return manifest


def find_run(text: str, root: Path) -> Path:
    """The folder of a run named by its path, its name, ``latest``, or a part of its name.

    Raises:
        RunError: There is none, or several fit.
    """
    for path in (Path(text), root / text):
        if path.is_file() and path.name == "latest":
            # where links are not possible the file holds the name of the run's folder
            path = path.with_name(path.read_text(encoding="utf-8").strip())
        if (path / "manifest.json").is_file():
            return path.resolve()
    fitting = [folder for folder in run_folders(root) if text in folder.name]
    if len(fitting) == 1:
        return fitting[0].resolve()
    names = ", ".join(folder.name for folder in (fitting or run_folders(root))[-5:]) or "none"
    what = f"{len(fitting)} runs fit {text!r}" if fitting else f"there is no run {text!r}"
    raise RunError(f"{what} in {root.name}; the last are: {names}")


def publish_latest(folder: Path) -> None:
    """Let ``latest`` beside a run's folder name that run."""
    latest = folder.parent / "latest"
    beside = folder.parent / f".latest.{folder.name}"
    try:
        beside.unlink(missing_ok=True)
        beside.symlink_to(folder.name, target_is_directory=True)
        beside.replace(latest)
    except OSError:
        # no links here: a file with the folder's name stands in
        beside.unlink(missing_ok=True)
        write_whole(latest, folder.name + "\n")


def _socket_prefix(folder: Path) -> str:
    """Says whose sockets these are, so that a killed run's can be found."""
    return f"jl-{sha256(str(folder.resolve()).encode()).hexdigest()[:8]}-"


def _socket_places() -> list[str]:
    """Folders whose path leaves room for a socket's name within 107 bytes."""
    return [place for place in dict.fromkeys((tempfile.gettempdir(), "/tmp")) if len(place) < 50]


def socket_folder(folder: Path) -> Path:
    """A new folder with a short path for the sockets of a run.

    Raises:
        RunError: No temporary folder has one.
    """
    for place in _socket_places():
        return Path(tempfile.mkdtemp(prefix=_socket_prefix(folder), dir=place))
    raise RunError("no temporary folder with a path short enough for sockets; set TMPDIR")


def clear_leftovers(folder: Path) -> None:
    """End what still runs of a killed run and remove what it was in the middle of writing."""
    _end_processes(folder)
    for place in _socket_places():
        for sockets in Path(place).glob(f"{_socket_prefix(folder)}*"):
            shutil.rmtree(sockets, ignore_errors=True)
    for path in folder.rglob(".*"):
        if path.is_file() and _PASSING.fullmatch(path.name):
            path.unlink(missing_ok=True)
    cache = folder.parent / ".cache"
    for half_kept in cache.glob(f"*/.{folder.name}.*"):
        shutil.rmtree(half_kept, ignore_errors=True)
    (folder.parent / f".latest.{folder.name}").unlink(missing_ok=True)


def _end_processes(folder: Path) -> None:
    """Workers that the journal names, and kernels that were told they belong to this run."""
    import psutil

    left = []
    for event in read_journal(folder):
        if event["event"] == "worker":
            with contextlib.suppress(psutil.Error):
                worker = psutil.Process(event["pid"])
                # a process number is given again; the time it began is not
                if abs(worker.create_time() - event["began"]) < 1:
                    left += [worker, *worker.children(recursive=True)]
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            root = process.environ().get(ROOT_VARIABLE)
            if root and Path(root).resolve() == folder.resolve():
                left.append(process)
    for process in left:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(left, timeout=_SECONDS_TO_END)
