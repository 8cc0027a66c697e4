"""Speed, memory and exactness of the purchase and spend models, beside lifetimes.

lifetimes is not part of the kit: ``pip install lifetimes==0.11.3`` (the extra ``bench``), or point
``JOURNEYLAB_PEERS`` at a folder it was installed into with ``pip install --target``. Without it
the table says so and holds our own growth and memory only.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import table

PEER = "lifetimes 0.11.3"
SEED = 11


def rows(full: bool) -> list[table.Row]:
    """The table: a million customers; with ``--full`` also five million, and lifetimes' slow fits.

    lifetimes takes minutes on a million rows, so without ``--full`` it is given 100,000.
    """
    _with_peers()
    peers = importlib.util.find_spec("lifetimes") is not None
    with tempfile.TemporaryDirectory(prefix="journeylab-bench-") as name:
        folder = Path(name)
        found = _growth(folder, 5_000_000 if full else 1_000_000)
        if not peers:
            return [*found, table.missing("BG/NBD, Pareto/NBD, Gamma-Gamma", PEER)]
        size = 1_000_000 if full else 100_000
        repeats = 1 if full else 3
        found += _against("BG/NBD", folder, size, 10, "days", repeats)
        found += _against("BG/NBD", folder, size, 10, "moments", repeats)
        found += _given_cells(folder, size, repeats)
        found += _against("Pareto/NBD", folder, 20_000 if full else 2_000, 8, "days", repeats)
        found += _against("Gamma-Gamma", folder, size, 8, "cents", repeats)
    return found


def _growth(folder: Path, most: int) -> list[table.Row]:
    small = most // 5
    files = {size: folder / f"growth-{size}.parquet" for size in (10_000, small, most)}
    for size, file in files.items():
        table.race({"write": ["BG/NBD", file, size, "days"]}, repeats=1)
    found = {size: table.race({"ours": ["BG/NBD", file]})["ours"] for size, file in files.items()}
    parameters = table.race({"parameter": ["BG/NBD", files[most]]}, repeats=1)["parameter"]
    pareto = table.race({"ours": ["Pareto/NBD", files[small]]}, repeats=1)["ours"]
    label = f"BG/NBD, {_size(most)}"
    return [
        table.at_most(
            f"{label}, time of {_size(small)}",
            found[most].cpu_seconds / found[small].cpu_seconds,
            6,
        ),
        table.at_most(f"{label}, resident GB", found[most].peak_mb * 1024**2 / 1e9, 3),
        *(
            table.Row(f"BG/NBD, {_size(size)}, collapse and fit, CPU seconds", one.cpu_seconds)
            for size, one in found.items()
        ),
        table.Row(f"Pareto/NBD, {_size(small)}, collapse and fit, CPU seconds", pareto.cpu_seconds),
        table.at_most(
            f"{label}, farthest parameter from the truth, per cent", _number(parameters), 5
        ),
    ]


def _against(
    model: str, folder: Path, size: int, bar: float, times: str, repeats: int
) -> list[table.Row]:
    file = folder / "rows.parquet"
    table.race({"write": [model, file, size, times]}, repeats=1)
    found = table.race({"ours": [model, file], "lifetimes": [model, file]}, repeats)
    ours, theirs = found["ours"], found["lifetimes"]
    label = f"{model}, {_size(size)} in {times}"
    return [
        table.at_least(
            f"{label}, times faster than {PEER}", theirs.cpu_seconds / ours.cpu_seconds, bar
        ),
        # Theirs stops earlier at times; what counts is that ours is never the lower one.
        table.at_most(
            f"{label}, log-likelihood of {PEER} less ours", _number(theirs) - _number(ours), 1e-4
        ),
        table.Row(f"{label}, CPU seconds", ours.cpu_seconds),
        table.Row(f"{label}, CPU seconds of {PEER}", theirs.cpu_seconds),
        table.Row(f"{label}, peak memory of {PEER}", theirs.peak_mb / ours.peak_mb),
    ]


def _given_cells(folder: Path, size: int, repeats: int) -> list[table.Row]:
    file = folder / "cells.parquet"
    table.race({"write": ["BG/NBD", file, size, "days"]}, repeats=1)
    found = table.race({"ours": ["BG/NBD", file], "lifetimes on cells": [file]}, repeats)
    same = table.race({"same parameters": [file]}, repeats=1)["same parameters"]
    ratio = found["lifetimes on cells"].cpu_seconds / found["ours"].cpu_seconds
    label = f"BG/NBD, {_size(size)} in days"
    return [
        table.at_least(f"{label}, times faster than {PEER} given cells for free", ratio, 3),
        table.at_most(
            f"{label}, gap of log-likelihoods at the same parameters", _number(same), 1e-4
        ),
    ]


def _size(customers: int) -> str:
    return f"{customers:,} customers"


def _number(measured: table.Measured) -> float:
    assert measured.answer is not None
    return measured.answer


def _with_peers() -> None:
    if folder := os.environ.get("JOURNEYLAB_PEERS"):
        sys.path.append(folder)


# Tasks: each prepares, and returns the call that is measured, on files that `write` made.

_COLUMNS = {"Gamma-Gamma": ("frequency", "monetary_value")}
_HISTORY = ("frequency", "recency", "age")


def write(model: str, file: str, size: str, times: str) -> Callable[[], object]:
    """Customers drawn from the model with the parameters published for CDNOW.

    ``times``: ``days`` as a shop's log has them, ``moments`` (no two customers alike); spend in
    ``cents``.
    """
    import numpy as np

    from journeylab import clv

    generator, customers = np.random.default_rng(SEED), int(size)
    known = (0.0, 1)

    def call() -> None:
        if model == "Gamma-Gamma":
            truth = clv.GammaGammaFit(6.25, 3.74, 15.44, *known, ())
            frame = truth.sample_new(generator.geometric(0.3, customers), generator)
            frame["monetary_value"] = frame["monetary_value"].round(2).clip(lower=0.01)
        else:
            age = generator.integers(1, 2 * 365 + 1, customers) / 7
            if model == "BG/NBD":
                buyers = clv.BgNbdFit(0.243, 4.414, 0.793, 2.426, *known, "week", ())
                frame = buyers.sample_new(age, generator)
            else:
                others = clv.ParetoNbdFit(0.553, 10.578, 0.606, 11.669, *known, "week", ())
                frame = others.sample_new(age, generator)
            if times == "days":
                days = np.ceil(frame["recency"] * 7)
                frame["recency"] = days / 7
                frame["frequency"] = np.minimum(frame["frequency"], days).astype(float)
        frame.to_parquet(file)

    return call


def ours(model: str, file: str) -> Callable[[], object]:
    import pandas as pd

    from journeylab import clv

    fit = {
        "BG/NBD": clv.fit_bg_nbd,
        "Pareto/NBD": clv.fit_pareto_nbd,
        "Gamma-Gamma": clv.fit_gamma_gamma,
    }[model]
    frame = pd.read_parquet(file)
    fit(frame.head(500))
    return lambda: fit(frame).log_likelihood


def parameter(model: str, file: str) -> Callable[[], object]:
    """Largest distance of a parameter from the one the customers were drawn with, per cent."""
    import pandas as pd

    from journeylab import clv

    assert model == "BG/NBD"
    frame = pd.read_parquet(file)
    truth = {"r": 0.243, "alpha": 4.414, "a": 0.793, "b": 2.426}

    def call() -> float:
        found = clv.fit_bg_nbd(frame).parameters
        return max(100 * abs(found[name] / truth[name] - 1) for name in truth)

    return call


def lifetimes(model: str, file: str) -> Callable[[], object]:
    import pandas as pd

    frame = pd.read_parquet(file)
    columns = [frame[name] for name in _COLUMNS.get(model, _HISTORY)]
    _fitted(model, [column.head(500) for column in columns])
    return lambda: _fitted(model, columns)[1]


def lifetimes_on_cells(file: str) -> Callable[[], object]:
    import pandas as pd

    frame = pd.read_parquet(file)
    cells = frame.groupby(list(_HISTORY)).size().rename("customers").reset_index()
    columns = [cells[name] for name in _HISTORY]
    return lambda: _fitted("BG/NBD", columns, cells["customers"])[1]


def same_parameters(file: str) -> Callable[[], object]:
    """Gap of the two log-likelihoods of BG/NBD at what ours found."""
    import pandas as pd

    from journeylab import clv

    _with_peers()
    from lifetimes import BetaGeoFitter  # type: ignore[import-not-found]

    frame = pd.read_parquet(file)
    columns = [frame[name].to_numpy(float) for name in _HISTORY]

    def call() -> float:
        fit = clv.fit_bg_nbd(frame)
        return abs(_their_log_likelihood(BetaGeoFitter, fit.parameters, columns, None)
                   - fit.log_likelihood)  # fmt: skip

    return call


def _fitted(model: str, columns, customers=None):  # type: ignore[no-untyped-def]
    """A fitter of lifetimes after its fit, and its log-likelihood on the time scale given."""
    _with_peers()
    import lifetimes as peer  # type: ignore[import-not-found]

    kind = {
        "BG/NBD": peer.BetaGeoFitter,
        "Pareto/NBD": peer.ParetoNBDFitter,
        "Gamma-Gamma": peer.GammaGammaFitter,
    }[model]
    fitter = kind(penalizer_coef=0.0)
    fitter.fit(*columns, weights=customers)
    arrays = [column.to_numpy(float) for column in columns]
    return fitter, _their_log_likelihood(kind, dict(fitter.params_), arrays, customers)


def _their_log_likelihood(kind, parameters, columns, customers) -> float:  # type: ignore[no-untyped-def]
    import numpy as np

    weights = np.ones(len(columns[0])) if customers is None else customers.to_numpy(float)
    values, customers = np.array(list(parameters.values())), float(weights.sum())
    if "Pareto" in kind.__name__:
        # This one takes natural parameters, and scales the sum by the mean weight.
        return -float(kind._negative_log_likelihood(values, *columns, weights, 0.0))
    return -float(kind._negative_log_likelihood(np.log(values), *columns, weights, 0.0)) * customers


if __name__ == "__main__":
    table.run(
        "clv",
        rows,
        tasks={
            "write": write,
            "ours": ours,
            "parameter": parameter,
            "lifetimes": lifetimes,
            "lifetimes on cells": lifetimes_on_cells,
            "same parameters": same_parameters,
        },
        packages=["journeylab", "lifetimes", "numpy", "scipy", "pandas"],
    )
