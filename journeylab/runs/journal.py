"""The journal of a run: one line per event, on the disk before anything else is done.

What the journal calls done is done; the manifest is a summary that may lag by one event.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from journeylab.errors import RunError
from journeylab.runs.manifest import utc_now

JOURNAL = "journal.jsonl"


class Journal:
    """The journal of a run in progress; only one process has it open.

    Args:
        folder: The run's.

    Raises:
        RunError: Another process runs this run.
    """

    def __init__(self, folder: Path) -> None:
        self._file = (folder / JOURNAL).open("a+b")
        try:
            _lock(self._file.fileno())
        except OSError as error:
            self._file.close()
            raise RunError(
                f"{folder.name} is still running in another process; wait for it or stop it"
            ) from error
        size = self._file.seek(0, os.SEEK_END)
        if size:
            self._file.seek(size - 1)
            if self._file.read(1) != b"\n":
                # the line during which the machine stopped
                self._file.write(b"\n")

    def write(self, event: str, **details: Any) -> None:
        """Append one event; when this returns it is on the disk."""
        line = {"at": utc_now(), "event": event, **details}
        text = json.dumps(line, sort_keys=True, ensure_ascii=False, allow_nan=False)
        self._file.write(text.encode("utf-8") + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Let another process have it."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _lock(number: int) -> None:
    """Hold a file as long as this process has it open, where the system knows such locks."""
    try:
        import fcntl
    except ImportError:
        return
    fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)


def read_journal(folder: Path) -> Iterator[dict[str, Any]]:
    """The events of a run; a line that was never finished is no event."""
    path = folder / JOURNAL
    if not path.exists():
        return
    for line in path.read_bytes().splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict):
            yield event


def journaled_entries(folder: Path) -> dict[str, dict[str, Any]]:
    """The last entry that the journal has of each notebook that ended, by instance."""
    return {
        event["instance"]: event["entry"]
        for event in read_journal(folder)
        if "entry" in event and "instance" in event
    }
