"""Pruning: what the kit can make again is removed, the longest unused first."""

import os
import secrets
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from journeylab.errors import RunError
from journeylab.runs.cache import cache_folder
from journeylab.runs.folders import read_manifest, run_folders
from journeylab.runs.journal import Journal

_DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class Cached:
    """One thing that can be made again.

    Attributes:
        kind: ``notebook`` (finished, with its results) or ``world`` (simulated tables).
        folder: Where it lies.
        size: Bytes of its files.
        freed: Bytes that removing it frees: what runs share with the cache stays with them.
        used: When it was last used, seconds since 1970.
    """

    kind: str
    folder: Path
    size: int
    freed: int
    used: float


@dataclass(frozen=True, slots=True)
class Pruned:
    """What was removed, and what is left.

    Attributes:
        removed: By kind and age.
        kept: Likewise.
    """

    removed: tuple[Cached, ...]
    kept: tuple[Cached, ...]


def cached_things(root: Path) -> list[Cached]:
    """Finished notebooks of a runs' root and simulated worlds, the longest unused first."""
    from journeylab.simulate.cached import cache_root

    notebooks = cache_folder(root).glob("*/*")
    worlds = (cache_root() / "worlds").glob("*")
    found = [_looked_at("notebook", folder) for folder in notebooks if _is_own(folder)]
    found += [_looked_at("world", folder) for folder in worlds if _is_own(folder)]
    return sorted(found, key=lambda one: (one.used, one.folder))


def _is_own(folder: Path) -> bool:
    """Whether a folder is whole, or was left half-written long ago."""
    if not folder.is_dir() or folder.is_symlink():
        return False
    return not folder.name.startswith(".") or time.time() - folder.stat().st_mtime > _DAY


def prune(
    root: Path,
    *,
    older_than_days: float | None = None,
    keep_bytes: float | None = None,
    dry_run: bool = False,
) -> Pruned:
    """Remove what is cached; with both limits, whatever one of them asks for.

    Runs and their results stay as they are. What is removed is made again when it is asked for.

    Args:
        root: The runs' root.
        older_than_days: Remove what was not used for so long.
        keep_bytes: Remove the longest unused until the rest takes no more. Without a limit
            everything goes.
        dry_run: Only say what would go.

    Raises:
        RunError: A limit is below 0, or a run is going on that may take from the cache.
    """
    for name, limit in (("--older-than", older_than_days), ("--keep-size", keep_bytes)):
        if limit is not None and not limit >= 0:
            raise RunError(f"{name} must be 0 or more; got {limit:g}")
    if running := running_runs(root):
        raise RunError(f"{', '.join(running)} is still running and may take from the cache")
    things = cached_things(root)
    everything = older_than_days is None and keep_bytes is None
    # a file may lie in several; how much is left counts each with all of its own
    left = sum(one.size for one in things)
    oldest = time.time() - (older_than_days or 0.0) * _DAY
    removed = []
    for one in things:
        old = older_than_days is not None and one.used < oldest
        if everything or old or (keep_bytes is not None and left > keep_bytes):
            removed.append(one)
            left -= one.size
    if not dry_run:
        for one in removed:
            _remove(one.folder)
    return Pruned(tuple(removed), tuple(one for one in things if one not in removed))


def running_runs(root: Path) -> list[str]:
    """Names of runs of a root that a process is working on."""
    found = []
    for folder in run_folders(root):
        try:
            if read_manifest(folder)["finished_at"] is None:
                Journal(folder).close()
        except RunError:
            found.append(folder.name)
        except OSError:
            continue
    return found


def _looked_at(kind: str, folder: Path) -> Cached:
    size = freed = 0
    used = folder.stat().st_mtime
    for place, _, names in os.walk(folder):
        for name in names:
            state = (Path(place) / name).lstat()
            size += state.st_size
            freed += state.st_size if state.st_nlink == 1 else 0
            # entry.json is touched on use; the system dates what is read, by the day
            shared = state.st_nlink > 1
            used = max(used, state.st_mtime if not shared else 0.0)
            used = max(used, state.st_atime if kind == "world" else 0.0)
    return Cached(kind, folder, size, freed, used)


def _remove(folder: Path) -> None:
    """Away with a folder at once, so that nobody finds half of it."""
    away = folder.with_name(f".{folder.name[:16]}.{secrets.token_hex(3)}.old")
    try:
        folder.replace(away)
    except OSError as error:
        raise RunError(f"cannot remove {folder.name} from the cache: {error.strerror}") from error
    shutil.rmtree(away, ignore_errors=True)
