"""Speed and memory of the simulated world: making it, beside writing the same rows, and a step."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import table

SEED = 7
STEP_CUSTOMERS = 200_000
WARM = 400


def rows(full: bool) -> list[table.Row]:
    """The table: a million customers with ``--full`` (and ten), 100,000 without."""
    customers = 1_000_000 if full else 100_000
    with tempfile.TemporaryDirectory(prefix="journeylab-bench-") as folder:
        found = _making(Path(folder), customers)
        found += _step(Path(folder), STEP_CUSTOMERS if full else 50_000)
        if full:
            found += _ten_million(Path(folder))
    return found


def _making(folder: Path, customers: int) -> list[table.Row]:
    out = folder / "world"
    ours = table.race({"simulate": [out, customers]}, repeats=1)["simulate"]
    write = table.race({"write the same rows": [out, folder / "again"]}, repeats=1)
    same = write["write the same rows"]
    orders = table.race({"count orders": [out]}, repeats=1)["count orders"].answer
    assert orders is not None
    size = f"{customers / 1e6:g} million customers x 52 weeks"
    shutil.rmtree(out)
    shutil.rmtree(folder / "again")
    return [
        table.at_most(
            f"simulate, CPU of writing the same rows, {size}",
            ours.cpu_seconds / same.cpu_seconds,
            5,
        ),
        table.at_most("simulate, resident GB", ours.peak_mb * 1024**2 / 1e9, 2),
        table.at_most("orders per customer", orders / customers, 10),
        table.Row("simulate, CPU seconds", ours.cpu_seconds),
        table.Row("rows, million", (same.answer or 0) / 1e6),
    ]


def _step(folder: Path, customers: int) -> list[table.Row]:
    out = folder / "stepped"
    table.race({"simulate": [out, customers]}, repeats=1)
    step = table.race({"step": [out]}, repeats=1)["step"]
    shutil.rmtree(out)
    return [
        table.at_most(
            f"a week for {customers:,} customers, a fifth touched, CPU seconds", step.cpu_seconds, 5
        ),
        table.Row("the same, resident GB", step.peak_mb * 1024**2 / 1e9),
    ]


def _ten_million(folder: Path) -> list[table.Row]:
    out = folder / "ten"
    ours = table.race({"simulate": [out, 10_000_000]}, repeats=1)["simulate"]
    shutil.rmtree(out)
    return [
        table.at_most("simulate, resident GB, 10 million", ours.peak_mb * 1024**2 / 1e9, 2),
        table.Row("simulate, CPU seconds, 10 million", ours.cpu_seconds),
    ]


# Tasks: each prepares, and returns the call that is measured. Compiling is got out of the way by a
# small world.


def simulate(out: str, customers: str) -> Callable[[], object]:
    import journeylab.simulate as world

    with tempfile.TemporaryDirectory() as folder:
        world.simulate("campaign", WARM, SEED, Path(folder) / "warm")

    def call() -> int:
        world.simulate("campaign", int(customers), SEED, out)
        return int(customers)

    return call


def write_same_rows(out: str, again: str) -> Callable[[], object]:
    """Every table read into memory file by file; only writing it again is measured."""
    import pyarrow.parquet as pq

    parts = sorted(Path(out).rglob("*.parquet"))
    held = [(path, pq.read_table(path).combine_chunks()) for path in parts]

    def call() -> int:
        written = 0
        for path, content in held:
            place = Path(again) / path.relative_to(out)
            place.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(content, place, compression="zstd")
            written += content.num_rows
        return written

    return call


def count_orders(out: str) -> Callable[[], object]:
    import pyarrow.parquet as pq

    parts = sorted((Path(out) / "orders").iterdir())
    return lambda: sum(pq.read_metadata(path).num_rows for path in parts)


def step(out: str) -> Callable[[], object]:
    from journeylab.simulate import World, simulate

    with tempfile.TemporaryDirectory() as folder:
        simulate("campaign", WARM, SEED, Path(folder) / "warm")
        small = World.load(Path(folder) / "warm")
        small.step(7, small.expected((7,))[["customer_id"]].assign(channel="chat"), rng=1)
    world = World.load(out)
    touched = world.expected((7,))[["customer_id"]].iloc[::5].assign(channel="chat")

    def call() -> int:
        return len(world.step(7, touched, rng=1).tables["orders"])

    return call


if __name__ == "__main__":
    table.run(
        "world",
        rows,
        {
            "simulate": simulate,
            "write the same rows": write_same_rows,
            "count orders": count_orders,
            "step": step,
        },
        ["numba", "numpy", "pyarrow"],
    )
