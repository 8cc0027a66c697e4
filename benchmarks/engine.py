"""Speed and memory of the engine's seam: histories and intake, beside a raw scan and pandas."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from datetime import date
from pathlib import Path

import table

AS_OF = "2021-06-30"
FIRST_DAY = "2020-01-01"
DAYS = 730
ORDERS_PER_CUSTOMER = 10
BYTES_PER_CSV_ROW = 48


def rows(full: bool) -> list[table.Row]:
    """The table: histories at 10 million orders with ``--full``, at 1 million without."""
    orders = 10_000_000 if full else 1_000_000
    with tempfile.TemporaryDirectory(prefix="journeylab-bench-") as folder:
        found = _histories(Path(folder), orders)
        found += _intake(Path(folder), 1_000 if full else 50)
        if full:
            found += _beyond_memory(Path(folder), 100_000_000)
    return found


def _histories(folder: Path, orders: int) -> list[table.Row]:
    large, small = folder / "large.parquet", folder / "small.parquet"
    table.race({"write orders": [large, orders]}, repeats=1)
    table.race({"write orders": [small, orders // 10]}, repeats=1)
    found = table.race(
        {"raw scan": [large], "histories": [large], "pandas": [large]},
    )
    tenth = table.race({"histories": [small]})["histories"]
    scan, ours, pandas = found["raw scan"], found["histories"], found["pandas"]
    size = f"{orders / 1e6:g} million orders"
    return [
        table.at_most(
            f"histories, CPU of a raw column scan, {size}", ours.cpu_seconds / scan.cpu_seconds, 12
        ),
        table.at_most(
            "histories, CPU of pandas doing the same", ours.cpu_seconds / pandas.cpu_seconds, 0.8
        ),
        table.at_most(
            "histories, memory of pandas doing the same (both without imports)",
            ours.grown_mb / pandas.grown_mb,
            0.6,
        ),
        table.equal("histories, customers in cells less those of pandas", _gap(ours, pandas), 0),
        table.at_most(
            f"histories, CPU growth from {orders / 1e7:g} million orders",
            ours.cpu_seconds / tenth.cpu_seconds,
            12,
        ),
        table.Row("histories, peak memory, MB", ours.peak_mb),
        table.Row("pandas, peak memory, MB", pandas.peak_mb),
    ]


def _intake(folder: Path, megabytes: int) -> list[table.Row]:
    file = folder / "orders.csv"
    orders = megabytes * 1_000_000 // BYTES_PER_CSV_ROW
    table.race({"write CSV": [file, orders]}, repeats=1)
    found = table.race({"all-text read": [file], "intake": [file]})
    text, ours = found["all-text read"], found["intake"]
    size = f"{file.stat().st_size / 1e6:.0f} MB"
    file.unlink()
    return [
        table.at_most(
            f"intake of a clean CSV of {size}, CPU of DuckDB's all-text read",
            ours.cpu_seconds / text.cpu_seconds,
            3,
        ),
        table.equal("intake, rows lost", _gap(text, ours), 0),
        table.Row("intake, peak memory, MB", ours.peak_mb),
    ]


def _beyond_memory(folder: Path, orders: int) -> list[table.Row]:
    file = folder / "beyond.parquet"
    table.race({"write orders": [file, orders]}, repeats=1)
    found = table.race({"raw scan": [file], "histories": [file, "2GB"]})
    scan, ours = found["raw scan"], found["histories"]
    size = f"{orders / 1e6:g} million orders under a limit of 2 GB"
    return [
        table.at_most(
            f"histories, CPU of a raw column scan, {size}", ours.cpu_seconds / scan.cpu_seconds, 20
        ),
        table.at_most(f"histories, resident GB, {size}", ours.peak_mb * 1024**2 / 1e9, 2.6),
    ]


def _gap(one: table.Measured, other: table.Measured) -> float:
    assert one.answer is not None
    assert other.answer is not None
    return one.answer - other.answer


# Tasks: each prepares, and returns the call that is measured. What a library imports on its first
# call is got out of the way by a small one.


def write_orders(file: str, orders: str) -> Callable[[], object]:
    """Orders in the sequence they came in, as a shop's log has them, customers at random."""
    import ibis

    connection = ibis.duckdb.connect()
    rows = _plain_orders(int(orders)).drop("ordered_at")
    return lambda: connection.to_parquet(rows, file)


def write_csv(file: str, orders: str) -> Callable[[], object]:
    import ibis

    connection = ibis.duckdb.connect()
    rows = _plain_orders(int(orders)).drop("business_date")
    return lambda: connection.to_csv(rows, file)


def raw_scan(file: str) -> Callable[[], object]:
    """Least and greatest id and day, and the sum of the money: every value is read once."""
    import ibis

    rows = ibis.duckdb.connect().read_parquet(file)
    scan = rows.agg(
        low=rows.customer_id.min(),
        high=rows.customer_id.max(),
        first=rows.business_date.min(),
        last=rows.business_date.max(),
        money=rows.amount.sum(),
    )
    rows.limit(1).to_pyarrow()
    return scan.to_pyarrow


def histories(file: str, memory_limit: str | None = None) -> Callable[[], object]:
    from journeylab import frames
    from journeylab.tables import Tables, collect, connect_duckdb

    connection = connect_duckdb([Path(file).parent], memory_limit=memory_limit)
    tables = Tables(orders=connection.read_parquet(file))
    collect(tables.orders.limit(1))
    return lambda: int(collect(frames.histories(tables, AS_OF))["customers"].sum())


def pandas_histories(file: str) -> Callable[[], object]:
    """The same cells as a pandas user makes them, amounts as floats from the start."""
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    def call() -> int:
        read = pq.read_table(file, columns=["customer_id", "business_date", "amount"])
        read = read.set_column(2, "amount", read["amount"].cast(pa.float64()))
        orders = read.to_pandas(date_as_object=False)
        del read
        as_of = pd.Timestamp(AS_OF)
        orders = orders[(orders["business_date"] <= as_of) & (orders["amount"] >= 0)]
        days = orders.drop_duplicates(["customer_id", "business_date"])
        spans = days.groupby("customer_id")["business_date"].agg(["count", "min", "max"])
        cells = pd.DataFrame(
            {
                "frequency": spans["count"] - 1,
                "recency": (spans["max"] - spans["min"]).dt.days,
                "age": (as_of - spans["min"]).dt.days,
            }
        )
        cells = cells.groupby(["frequency", "recency", "age"]).size().reset_index(name="customers")
        return int(cells["customers"].sum())

    return call


def intake(file: str) -> Callable[[], object]:
    from journeylab.tables import open_tables

    with tempfile.TemporaryDirectory() as folder:
        few = Path(folder) / "orders.csv"
        few.write_text("order_id,customer_id,ordered_at,amount\n1,a,2024-01-01,1.00\n")
        open_tables(str(few))

    def call() -> int:
        orders = open_tables(file).orders
        assert orders is not None
        return int(orders.count().to_pyarrow().as_py())

    return call


def all_text_read(file: str) -> Callable[[], object]:
    import duckdb

    connection = duckdb.connect()

    def call() -> int:
        connection.read_csv(file, all_varchar=True).create("raw")
        return len(connection.table("raw"))

    return call


def _plain_orders(orders: int):  # type: ignore[no-untyped-def]
    """Ten orders a customer on average, over two years, 0.00 to 199.99 each."""
    import ibis

    block = min(orders, 10_000)
    blocks = ibis.range(orders // block).unnest().name("block").as_table()
    places = ibis.range(block).unnest().name("place").as_table()
    numbers = blocks.cross_join(places).mutate(i=lambda t: t.block * block + t.place)
    i, customers = numbers.i, orders // ORDERS_PER_CUSTOMER
    # A hash may be negative, so its remainder is shifted into range first.
    customer = ((i * 3 + 1).hash() % customers + customers) % customers
    cents = ((i * 3 + 2).hash() % 20_000 + 20_000) % 20_000
    started = ibis.literal(date.fromisoformat(FIRST_DAY)).cast("timestamp")
    ordered_at = started + (i * (DAYS * 86_400 // 10) // orders * 10).as_interval("s")
    return numbers.select(
        order_id=ibis.literal("O") + i.cast("string").lpad(10, "0"),
        customer_id=ibis.literal("C") + customer.cast("string").lpad(9, "0"),
        ordered_at=ordered_at,
        business_date=ordered_at.date(),
        amount=(cents / 100).cast("decimal(18, 2)"),
    )


if __name__ == "__main__":
    table.run(
        "engine",
        rows,
        tasks={
            "write orders": write_orders,
            "write CSV": write_csv,
            "raw scan": raw_scan,
            "histories": histories,
            "pandas": pandas_histories,
            "all-text read": all_text_read,
            "intake": intake,
        },
        packages=["journeylab", "duckdb", "ibis-framework", "pandas", "pyarrow", "numpy"],
    )
