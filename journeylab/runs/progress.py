"""How a run is watched: a live table in a terminal, a line per change elsewhere."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from journeylab.runs.execution import Progress

_STYLES = {"done": "green", "failed": "bold red", "blocked": "yellow", "running": "cyan"}


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02d}"


class ProgressView:
    """Shows the progress of a run; use it as a context and as ``watch`` of ``run``."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._last: dict[str, Progress] = {}
        self._live = (
            Live(console=console, refresh_per_second=4, transient=False)
            if console.is_terminal
            else None
        )

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def __call__(self, progress: dict[str, Progress]) -> None:
        """Show how all notebooks stand."""
        if self._live is not None:
            self._live.update(_table(progress))
        else:
            for name, now in progress.items():
                before = self._last.get(name)
                if now.state != "pending" and (before is None or before.state != now.state):
                    self._console.print(Text(_line(now)), soft_wrap=True)
        self._last = progress


def _line(progress: Progress) -> str:
    parts = [f"{progress.instance}: {progress.state}"]
    if progress.state in ("done", "failed"):
        parts.append(f"in {progress.elapsed_seconds:.1f} s")
    if progress.message:
        parts.append(f"- {progress.message}")
    return " ".join(parts)


def _table(progress: dict[str, Progress]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("notebook")
    table.add_column("state")
    table.add_column("cell", justify="right")
    table.add_column("elapsed", justify="right")
    table.add_column("")
    for now in progress.values():
        table.add_row(
            now.instance,
            Text(now.state, style=_STYLES.get(now.state, "dim")),
            f"{now.cell} of {now.cells}" if now.cells else "",
            _clock(now.elapsed_seconds) if now.state != "pending" else "",
            Text(now.message, overflow="ellipsis", no_wrap=True),
        )
    return table
