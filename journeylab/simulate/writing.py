"""Writing a world: part by part, the same bytes however the parts are grouped."""

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from journeylab.errors import ContractError
from journeylab.simulate.dirt import soil
from journeylab.simulate.life import Rules, State, make_rules
from journeylab.simulate.people import COMMUNITY
from journeylab.simulate.preset import Preset, parse_preset, preset_text
from journeylab.simulate.rows import Costs, Ledger, channel_costs, count_costs
from journeylab.simulate.saved import write_about, write_part
from journeylab.simulate.truth import Truth
from journeylab.simulate.world import MOST_CUSTOMERS, live

PEOPLE_PER_FILE = 50_000
"""Files hold the rows of so many people, whatever the memory at hand."""
Progress = Callable[[int, int], None]


def simulate(
    preset: str | Path,
    customers: int,
    seed: int,
    out: str | Path,
    *,
    dirt: bool = False,
    partition: int = PEOPLE_PER_FILE,
    threads: int = 1,
    progress: Progress | None = None,
) -> Truth:
    """Write the tables of a world, and what is true of it.

    Args:
        preset: Name of a preset, or path of a TOML file.
        customers: How many people, 1 or more.
        seed: The same seed gives the same bytes.
        out: Folder for the tables of the contract (Parquet) and ``truth/``; must be new or empty.
        dirt: Spoil some rows as real sources do; ``truth/dirt.json`` counts them.
        partition: People held in memory at a time, per thread.
        threads: Parts made side by side.
        progress: Called with people done and people in all.

    Returns:
        What is true of the world.

    Raises:
        ContractError: The preset is faulty, a number out of range, or ``out`` is not empty.
    """
    text = preset_text(preset)
    world = parse_preset(text)
    if not 1 <= customers <= MOST_CUSTOMERS:
        raise ContractError(f"customers must lie in [1, {MOST_CUSTOMERS:,}]; got {customers}")
    if not 0 <= seed < 2**63:
        raise ContractError(f"seed must be a whole number from 0; got {seed}")
    if partition < 1 or threads < 1:
        raise ContractError(f"partition and threads must be 1 or more; got {partition}, {threads}")
    folder = Path(out)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ContractError(f"{folder} exists and is not empty; give a new folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Written aside and moved, so that a world is there whole or not at all.
    aside = Path(mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        _write(aside, text, world, customers, seed, partition, threads, progress)
        if dirt:
            soil(aside, world, seed)
        aside.chmod(0o755)
        aside.replace(folder)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    return Truth.load(folder)


def _write(
    folder: Path,
    text: str,
    preset: Preset,
    customers: int,
    seed: int,
    partition: int,
    threads: int,
    progress: Progress | None,
) -> None:
    rules = make_rules(preset, 0, preset.days)
    write_about(folder, text, seed, customers)
    starts = range(0, customers, PEOPLE_PER_FILE)
    costs, done = [], 0

    def one(first: int) -> Costs:
        last = min(first + PEOPLE_PER_FILE, customers)
        return _write_part(folder, preset, rules, seed, first, last, partition)

    with ThreadPoolExecutor(threads) as pool:
        for first, counted in zip(starts, pool.map(one, starts), strict=True):
            costs.append(counted)
            done = min(first + PEOPLE_PER_FILE, customers)
            if progress:
                progress(done, customers)
    _write_table(folder, "channel_costs", 0, channel_costs(preset, costs))
    settings = f'business_tz = "{preset.business_tz}"\nreturns = "net"\n'
    (folder / "tables.toml").write_text(settings, encoding="utf-8")


def _write_part(
    folder: Path, preset: Preset, rules: Rules, seed: int, first: int, last: int, partition: int
) -> Costs:
    """One file of every table, from as many pieces as fit into memory one by one."""
    pieces = [
        live(preset, rules, seed, low, high, preset.days)
        for low, high in pairwise(_cuts(first, last, partition))
    ]
    rows = [piece.rows for piece in pieces]
    part = first // PEOPLE_PER_FILE
    for name in rows[0].tables:
        _write_table(folder, name, part, pa.concat_tables([r.tables[name] for r in rows]))
    later = {name: pa.concat_tables([r.later[name] for r in rows]) for name in rows[0].later}
    state = State(*(np.concatenate(a) for a in zip(*(p.state for p in pieces), strict=True)))
    ledger = Ledger(*(np.concatenate(a) for a in zip(*(r.ledger for r in rows), strict=True)))
    write_part(folder, part, state, ledger, later)
    costs = [count_costs(preset, r.tables) for r in rows]
    return sum(costs[1:], costs[0])


def _cuts(first: int, last: int, partition: int) -> Iterator[int]:
    """Whole communities, so that people who know each other stay together."""
    step = max(COMMUNITY, partition // COMMUNITY * COMMUNITY)
    yield from range(first, last, step)
    yield last


def _write_table(folder: Path, name: str, part: int, table: pa.Table) -> None:
    place = folder / name
    place.mkdir(exist_ok=True)
    pq.write_table(table.combine_chunks(), place / f"part-{part:05d}.parquet", compression="zstd")
