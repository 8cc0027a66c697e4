"""What is kept of a world beside its tables, so that it can go on: where everybody stands."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from journeylab.errors import ContractError
from journeylab.simulate.life import State
from journeylab.simulate.rows import Ledger

FOLDER = "truth"
FORMAT = 1
_ABOUT, _PRESET = "world.json", "preset.toml"


@dataclass(frozen=True, slots=True)
class Saved:
    """A world as read back.

    Attributes:
        text: The preset's TOML.
        seed, customers: As given to ``simulate``.
        state, ledger, later: At the end of its data.
    """

    text: str
    seed: int
    customers: int
    state: State
    ledger: Ledger
    later: dict[str, pa.Table]


def write_about(folder: Path, text: str, seed: int, customers: int) -> None:
    """What the world was made from."""
    (folder / FOLDER).mkdir(exist_ok=True)
    about = {"format": FORMAT, "seed": seed, "customers": customers}
    (folder / FOLDER / _ABOUT).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    (folder / FOLDER / _PRESET).write_text(text, encoding="utf-8")


def read_about(folder: Path) -> tuple[str, int, int]:
    """Preset text, seed and number of customers.

    Raises:
        ContractError: The folder holds no world, or one of another format.
    """
    try:
        about = json.loads((folder / FOLDER / _ABOUT).read_text(encoding="utf-8"))
        text = (folder / FOLDER / _PRESET).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ContractError(
            f"{folder.name or folder} holds no simulated world ({FOLDER}/{_ABOUT} and "
            f"{FOLDER}/{_PRESET} are looked for); make one with journeylab simulate"
        ) from error
    if about.get("format") != FORMAT:
        raise ContractError(
            f"{folder.name} was written in format {about.get('format')}, this version reads "
            f"{FORMAT}: make it again with journeylab simulate"
        )
    return text, int(about["seed"]), int(about["customers"])


def write_part(
    folder: Path, part: int, state: State, ledger: Ledger, later: Mapping[str, pa.Table]
) -> None:
    """Where the people of one part stand, and their rows that are dated after the end."""
    place = folder / FOLDER
    for name, arrays in (("state", state), ("ledger", ledger)):
        pq.write_table(_as_table(arrays), _part(place / name, part), compression="zstd")
    for name, table in later.items():
        if table.num_rows:
            pq.write_table(table, _part(place / "later" / name, part), compression="zstd")


def read_world(folder: Path) -> Saved:
    """All that was kept.

    Raises:
        ContractError: As ``read_about``.
    """
    text, seed, customers = read_about(folder)
    place = folder / FOLDER
    later = {
        path.name: pa.concat_tables([pq.read_table(part) for part in sorted(path.iterdir())])
        for path in (sorted((place / "later").iterdir()) if (place / "later").is_dir() else [])
    }
    return Saved(
        text,
        seed,
        customers,
        _from_parts(State, place / "state"),
        _from_parts(Ledger, place / "ledger"),
        later,
    )


def _part(place: Path, part: int) -> Path:
    place.mkdir(parents=True, exist_ok=True)
    return place / f"part-{part:05d}.parquet"


def _as_table(arrays: NamedTuple) -> pa.Table:
    columns = {}
    for name, array in zip(arrays._fields, arrays, strict=True):
        if array.ndim == 1:
            columns[name] = pa.array(array)
        else:
            flat = pa.array(np.ascontiguousarray(array).reshape(-1))
            columns[name] = pa.FixedSizeListArray.from_arrays(flat, max(array.shape[1], 1))
    return pa.table(columns)


def _from_parts(kind: Any, place: Path) -> Any:
    parts: Sequence[pa.Table] = [pq.read_table(path) for path in sorted(place.iterdir())]
    table = pa.concat_tables(parts).combine_chunks()
    arrays = []
    for name in kind._fields:
        column = table[name].combine_chunks()
        if pa.types.is_fixed_size_list(column.type):
            width = column.type.list_size
            values = column.flatten().to_numpy(zero_copy_only=False)
            arrays.append(values.reshape(-1, width).copy())
        else:
            arrays.append(column.to_numpy(zero_copy_only=False).copy())
    return kind(*arrays)
