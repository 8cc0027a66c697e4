"""The one form of every benchmark: rows of ``what | value | bar | holds``.

A topic's script hands its rows and its tasks to ``run``:

    table.run("engine", rows, tasks={"histories": histories, "raw scan": raw_scan})

``rows(full)`` makes the rows, asking ``race`` for measurements. A task prepares itself (imports,
opening) and returns the call that is measured; it runs in a process of its own, on Linux.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median

Task = Callable[..., Callable[[], object]]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.

    Attributes:
        what: What was measured, and in which unit.
        value: A number or ratio; a text where there is nothing to hold against a bar.
        bar: The bar as a text such as ``<= 12``; ``None`` where there is none.
        holds: Whether the value meets the bar; ``None`` where there is none to meet.
    """

    what: str
    value: float | str
    bar: str | None = None
    holds: bool | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """Medians over the runs of one task.

    Attributes:
        cpu_seconds: User and system time of the measured call, over all its threads.
        peak_mb: Largest resident memory of its process, imports included, MiB.
        grown_mb: The same without what was resident before the call, MiB.
        answer: What the call returned the last time, where that is a number.
    """

    cpu_seconds: float
    peak_mb: float
    grown_mb: float
    answer: float | None


def at_most(what: str, value: float, bar: float) -> Row:
    """A row whose value must not exceed the bar."""
    return Row(what, value, f"<= {bar:g}", value <= bar)


def at_least(what: str, value: float, bar: float) -> Row:
    """A row whose value must reach the bar."""
    return Row(what, value, f">= {bar:g}", value >= bar)


def equal(what: str, value: float, expected: float) -> Row:
    """A row whose value must be exactly this."""
    return Row(what, value, f"= {expected:,.15g}", value == expected)


def missing(what: str, peer: str) -> Row:
    """A row for a comparison that was not made because the peer is not installed."""
    return Row(what, f"peer missing: {peer} is not installed")


def race(tasks: Mapping[str, Sequence[str | int]], repeats: int = 3) -> dict[str, Measured]:
    """Measure tasks of the running script against each other, in turns.

    Args:
        tasks: Name of a task -> its arguments.
        repeats: How often each is run; the medians count.

    Returns:
        Name of the task -> its measurement.

    Raises:
        RuntimeError: A task failed; its last words are in the message.
    """
    runs: dict[str, list[Measured]] = {name: [] for name in tasks}
    for _ in range(repeats):
        for name, arguments in tasks.items():
            runs[name].append(_measure_apart(name, arguments))
    return {
        name: Measured(
            median(run.cpu_seconds for run in own),
            median(run.peak_mb for run in own),
            median(run.grown_mb for run in own),
            own[-1].answer,
        )
        for name, own in runs.items()
    }


def run(
    topic: str,
    rows: Callable[[bool], Sequence[Row]],
    tasks: Mapping[str, Task],
    packages: Sequence[str],
) -> None:
    """The command line of a benchmark script; ends the process, with 1 where a bar is missed.

    Args:
        topic: Heading of the table.
        rows: Called with whether ``--full`` was given.
        tasks: What ``race`` may measure.
        packages: Whose versions the table names.
    """
    parser = argparse.ArgumentParser(description=f"Benchmark of {topic}.")
    parser.add_argument("--full", action="store_true", help="the long form, at full size")
    parser.add_argument("--json", action="store_true", help="a list of rows for machines")
    parser.add_argument("--task", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.task:
        name, *arguments = options.task
        sys.stdout.write(json.dumps(asdict(_measure(tasks[name], arguments))))
        return
    table = [*rows(options.full), Row("versions", _versions(packages)), Row("machine", _machine())]
    if options.json:
        sys.stdout.write(json.dumps([asdict(row) for row in table], indent=2) + "\n")
    else:
        sys.stdout.write(_as_text(topic, table))
    sys.exit(any(row.holds is False for row in table))


def _measure_apart(name: str, arguments: Sequence[str | int]) -> Measured:
    script = Path(sys.argv[0]).resolve()
    command = [sys.executable, str(script), "--task", name, *map(str, arguments)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise RuntimeError(f"task {name!r} failed:\n{ended.stderr[-2000:]}")
    return Measured(**json.loads(ended.stdout.splitlines()[-1]))


def _measure(task: Task, arguments: Sequence[str]) -> Measured:
    call = task(*arguments)
    resident, before = _resident_mb("VmRSS"), _cpu_seconds()
    answer = call()
    spent, peak = _cpu_seconds() - before, _resident_mb("VmHWM")
    number = float(answer) if isinstance(answer, int | float) else None
    return Measured(spent, peak, peak - resident, number)


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _resident_mb(mark: str) -> float:
    """What Linux says of this process: ``VmRSS`` now, ``VmHWM`` at its peak."""
    # Not ru_maxrss, which starts at the parent's peak after a fork.
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{mark}:")[1].split()[0]) / 1024


def _versions(packages: Sequence[str]) -> str:
    named = [f"python {platform.python_version()}"]
    for package in packages:
        try:
            named.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            named.append(f"{package} missing")
    return ", ".join(named)


def _machine() -> str:
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"


def _as_text(topic: str, table: Sequence[Row]) -> str:
    cells = [("what", "value", "bar", "holds")]
    verdict = {True: "yes", False: "NO", None: ""}
    for row in table:
        value = row.value if isinstance(row.value, str) else _number(row.value)
        cells.append((row.what, value, row.bar or "", verdict[row.holds]))
    # A long text such as the versions must not stretch the column of numbers.
    widths = [max(len(cell[i]) for cell in cells if len(cell[i]) <= 60) for i in range(4)]
    lines = [" | ".join(c.ljust(w) for c, w in zip(cell, widths, strict=True)) for cell in cells]
    rule = "-|-".join("-" * width for width in widths)
    return "\n".join([topic, "", lines[0], rule, *lines[1:], ""])


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
