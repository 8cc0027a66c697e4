"""Whether this machine can run the kit, and what to do where it cannot."""

import os
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from journeylab.runs.workers import cores

_LAST_PYTHON_TRIED = (3, 12)
_LEAST_MEMORY_GB, _LEAST_DISK_GB, _MOST_CACHE_GB = 4, 2, 20
_PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)(?:\s*;\s*([^\\]+))?", re.MULTILINE)
_CHINESE_FONTS = (
    "noto sans cjk",
    "noto serif cjk",
    "microsoft yahei",
    "pingfang",
    "simhei",
    "wenquanyi",
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at.

    Attributes:
        what: What was looked at.
        state: ``good``, ``warn`` (some things will not work) or ``bad`` (nothing will).
        found: What there is.
        advice: What to do; empty where it is good.
    """

    what: str
    state: str
    found: str
    advice: str = ""


def examine(notebooks: Path, out: Path | None = None) -> list[Finding]:
    """Look at Python, the lock, the kernel, fonts, cores, memory, Java, disk and cache.

    Args:
        notebooks: Their folder; the lock is sought beside it.
        out: Root of the run folders; ``runs`` beside the notebooks by default.
    """
    project = notebooks.parent
    return [
        _python(),
        _lock(project / "requirements.lock"),
        _kernel(),
        _fonts(),
        _cores(),
        _memory(),
        _java(),
        _disk(out or project / "runs"),
        _cache(out or project / "runs"),
    ]


def _python() -> Finding:
    found = platform.python_version()
    if sys.version_info[:2] > _LAST_PYTHON_TRIED:
        return Finding("Python", "warn", found, "the lock was tried on 3.11 and 3.12")
    return Finding("Python", "good", found)


def _lock(path: Path) -> Finding:
    from packaging.markers import InvalidMarker, Marker

    if not path.is_file():
        return Finding("lock", "warn", "no requirements.lock beside the notebooks",
                       "run inside a checkout to have versions held against it")  # fmt: skip
    drift = []
    for name, wanted, marker in _PIN.findall(path.read_text(encoding="utf-8")):
        try:
            if marker and not Marker(marker.strip()).evaluate():
                continue
        except InvalidMarker:
            continue
        try:
            installed = version(name)
        except PackageNotFoundError:
            installed = "absent"
        if installed != wanted:
            drift.append(f"{name} {installed}, locked {wanted}")
    if drift:
        shown = "; ".join(drift[:5]) + (f" and {len(drift) - 5} more" if len(drift) > 5 else "")
        return Finding("lock", "warn", shown, "make run installs what the lock says")
    return Finding("lock", "good", "every package as locked")


def _kernel() -> Finding:
    command = [sys.executable, "-c", "import ipykernel.kernelapp; print(ipykernel.__version__)"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        return Finding("kernel", "bad", f"ipykernel cannot be loaded: {type(error).__name__}",
                       "make run installs it")  # fmt: skip
    return Finding("kernel", "good", f"ipykernel {done.stdout.strip()}")


def _fonts() -> Finding:
    try:
        from matplotlib.font_manager import fontManager
    except ImportError:
        return Finding("fonts", "bad", "matplotlib is absent", "make run installs it")
    names = {entry.name.lower() for entry in fontManager.ttflist}
    chinese = sorted(name for name in names if name.startswith(_CHINESE_FONTS))
    if not chinese:
        advice = "install Noto Sans CJK (Debian: fonts-noto-cjk) for Chinese in figures"
        return Finding("fonts", "warn", f"{len(names)} families, none Chinese", advice)
    return Finding("fonts", "good", f"{len(names)} families; Chinese by {chinese[0]}")


def _cores() -> Finding:
    count = cores()
    if count < 2:
        return Finding("cores", "warn", "1", "run with -j 1")
    return Finding("cores", "good", str(count))


def _memory() -> Finding:
    import psutil

    memory = psutil.virtual_memory()
    free, whole = memory.available / 2**30, memory.total / 2**30
    found = f"{free:.1f} of {whole:.1f} GB free"
    if free < _LEAST_MEMORY_GB:
        return Finding("memory", "warn", found, "run with -j 1 and JOURNEYLAB_MEMORY_LIMIT=2GB")
    return Finding("memory", "good", found)


def _java() -> Finding:
    java = shutil.which("java") or (
        str(home)
        if (home := Path(os.environ.get("JAVA_HOME", "")) / "bin" / "java").is_file()
        else None
    )
    if java is None:
        return Finding("Java", "warn", "none", "only Spark needs it: install a JRE 17 or later")
    try:
        done = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.SubprocessError) as error:
        return Finding(
            "Java", "warn", type(error).__name__, "only Spark needs it: install a JRE 17"
        )
    lines = (done.stderr or done.stdout).strip().splitlines()
    return Finding("Java", "good", lines[0] if lines else "found")


def _disk(root: Path) -> Finding:
    place = next(folder for folder in (root, *root.absolute().parents) if folder.is_dir())
    free = shutil.disk_usage(place).free / 2**30
    if not os.access(place, os.W_OK):
        return Finding("disk", "bad", "the root of the runs cannot be written",
                       "choose another one by --out")  # fmt: skip
    if free < _LEAST_DISK_GB:
        return Finding(
            "disk", "warn", f"{free:.1f} GB free", "make room, or choose --out elsewhere"
        )
    return Finding("disk", "good", f"{free:.1f} GB free")


def _cache(root: Path) -> Finding:
    from journeylab.runs.pruning import cached_things

    things = cached_things(root.absolute())
    parts = []
    for kind in ("notebook", "world"):
        sizes = [thing.size for thing in things if thing.kind == kind]
        plural = "" if len(sizes) == 1 else "s"
        parts.append(f"{sum(sizes) / 2**30:.1f} GB in {len(sizes)} {kind}{plural}")
    size = sum(thing.size for thing in things) / 2**30
    if size > _MOST_CACHE_GB:
        advice = f"journeylab clean --cache --keep-size {_MOST_CACHE_GB} removes the longest unused"
        return Finding("cache", "warn", ", ".join(parts), advice)
    return Finding("cache", "good", ", ".join(parts))
