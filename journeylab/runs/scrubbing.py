"""What a run leaves behind names no folder of the machine it ran on."""

import re
import sys
from functools import partial
from pathlib import Path
from typing import Any

from journeylab.runs.secret import hide_secrets

# Only the end of a cell's file is sought: a pattern that began with the folder before it would
# try every letter of a long text, which takes time by the square of its length.
_KERNEL_CELL = re.compile(r"/ipykernel_\d+/\d+\.py")
_BREAK = re.compile(r"[\s\"'<>()]")
_LONGEST_FOLDER = 4096
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s\"']+@")
# base64 may spell anything by chance
_ENCODED = frozenset({"image/png", "image/jpeg", "application/pdf"})
_DATA_ADDRESS = re.compile(r"(data:[\w/.+-]{1,100};base64,[A-Za-z0-9+/=]*)")
# colours and cursor; then titles and links, up to their end or the next code
_TERMINAL_CODES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?)")


def hide_credentials(text: str) -> str:
    """Blank user and password of a URL, and name secrets instead of showing them."""
    return _CREDENTIALS.sub("***@", hide_secrets(text))


def without_terminal_codes(text: str) -> str:
    """Plain text of a coloured traceback."""
    return _TERMINAL_CODES.sub("", text)


def _without_kernel_cells(text: str) -> str:
    """``<cell>`` for the file that a kernel pretends a cell to lie in, in linear time."""
    if "/ipykernel_" not in text:
        return text
    kept, done = [], 0
    for found in _KERNEL_CELL.finditer(text):
        before = text[max(done, found.start() - _LONGEST_FOLDER) : found.start()]
        folder = _BREAK.split(before)[-1]
        kept += [text[done : found.start() - len(folder)], "<cell>"]
        done = found.end()
    return "".join([*kept, text[done:]])


def _relative(shown: str, found: re.Match[str]) -> str:
    """What stands for a folder: its short name, and the separator where a path goes on."""
    if found[1]:
        return f"{shown}/" if shown else ""
    return shown or "."


class Scrubber:
    """Replaces the folders of this machine in text and in notebooks.

    Args:
        run_folder: The run's own folder; what lies in it becomes relative to it.
        caller: The directory the run was started from.
        sources: Data sources as the kernel was given them, and how they may be shown.
    """

    def __init__(self, run_folder: Path, caller: Path, sources: dict[str, str]) -> None:
        folders = {
            run_folder: "",
            run_folder.parent: "runs",
            caller: "",
            Path(sys.prefix): "python",
            Path(__file__).resolve().parents[2]: "",
            Path.home(): "~",
        }
        self._exact = {real: shown for real, shown in sources.items() if real != shown}
        self._folders: list[tuple[re.Pattern[str], str]] = []
        spelled = {str(name): shown for name, shown in folders.items()}
        spelled |= {str(name.resolve()): shown for name, shown in folders.items()}
        for name in sorted(spelled, key=len, reverse=True):
            if name.strip("/"):
                # a folder begins where no other path is going on, and ends at a separator
                pattern = re.compile(rf"(?<![\w./-]){re.escape(name)}(/|(?![\w.-]))")
                self._folders.append((pattern, spelled[name]))

    def text(self, text: str) -> str:
        """``text`` without this machine's folders and without credentials, in linear time."""
        if "data:" not in text:
            return self._words(text)
        # every second part is a picture, which may spell anything by chance
        parts = _DATA_ADDRESS.split(text)
        parts[::2] = map(self._words, parts[::2])
        return "".join(parts)

    def _words(self, text: str) -> str:
        for real in sorted(self._exact, key=len, reverse=True):
            text = text.replace(real, self._exact[real])
        text = _without_kernel_cells(text)
        for pattern, shown in self._folders:
            text = pattern.sub(partial(_relative, shown), text)
        return hide_credentials(text)

    def tree(self, node: Any) -> Any:
        """The same for every text in nested lists and mappings, as a new tree."""
        if isinstance(node, str):
            return self.text(node)
        if isinstance(node, dict):
            return {
                key: value if key in _ENCODED else self.tree(value) for key, value in node.items()
            }
        if isinstance(node, list):
            return [self.tree(value) for value in node]
        return node
