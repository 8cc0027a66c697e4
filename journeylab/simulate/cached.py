"""Worlds by name: ``simulated`` is made once, kept in a cache folder and used from there."""

import hashlib
import os
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from journeylab.errors import ContractError
from journeylab.simulate.preset import preset_text
from journeylab.simulate.writing import Progress, simulate

PREFIX = "simulated"
PRESET, CUSTOMERS, SEED = "campaign", 20_000, 7


@dataclass(frozen=True, slots=True)
class Name:
    """``simulated:preset:customers:seed`` taken apart; what is left out has a default."""

    preset: str = PRESET
    customers: int = CUSTOMERS
    seed: int = SEED

    def __str__(self) -> str:
        return f"{PREFIX}:{self.preset}:{self.customers}:{self.seed}"


def is_world(name: str) -> bool:
    """Whether ``name`` is that of a simulated world."""
    return name == PREFIX or name.startswith(f"{PREFIX}:")


def parse_name(name: str) -> Name:
    """Preset, customers and seed of a world's name.

    Raises:
        ContractError: The name has too many parts, or a part that is no number.
    """
    parts = name.split(":")[1:]
    if len(parts) > 3 or any(not part for part in parts):
        raise ContractError(
            f"{name!r} is no name of a world: write {PREFIX}, {PREFIX}:preset, "
            f"{PREFIX}:preset:customers or {PREFIX}:preset:customers:seed"
        )
    numbers = []
    for what, part in zip(("customers", "seed"), parts[1:], strict=False):
        if not part.isascii() or not part.isdigit():
            raise ContractError(f"{name!r}: {what} must be a whole number; got {part!r}")
        numbers.append(int(part))
    preset = parts[0] if parts else PRESET
    customers = numbers[0] if numbers else CUSTOMERS
    return Name(preset, customers, numbers[1] if len(numbers) > 1 else SEED)


def world_folder(name: str, progress: Progress | None = None) -> Path:
    """Folder of the world called ``name``, made when it is not there yet.

    The folder's name holds a hash of the preset and of this package's code, so that a world made
    by other rules is never taken for this one. ``JOURNEYLAB_CACHE`` says where worlds are kept.

    Raises:
        ContractError: The name or its preset is unknown.
    """
    parts = parse_name(name)
    text = preset_text(parts.preset)
    mark = hashlib.sha256((_code() + text).encode()).hexdigest()[:12]
    label = f"{Path(parts.preset).stem}-{parts.customers}-{parts.seed}-{mark}"
    folder = cache_root() / "worlds" / label
    if not folder.is_dir():
        try:
            simulate(parts.preset, parts.customers, parts.seed, folder, progress=progress)
        except OSError:
            # Somebody else may have made it meanwhile; theirs has the same bytes.
            if not folder.is_dir():
                raise
    return folder


def cache_root() -> Path:
    """Where the kit keeps what it can make again."""
    if given := os.environ.get("JOURNEYLAB_CACHE"):
        return Path(given).expanduser()
    with suppress(RuntimeError):
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        return Path(base) / "journeylab"
    return Path.cwd() / ".journeylab-cache"


@cache
def _code() -> str:
    whole = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        whole.update(path.name.encode() + b"\0" + path.read_bytes())
    return whole.hexdigest()
