"""Executed notebooks and a manifest as the runner leaves them, made without a kernel."""

import base64
import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from journeylab.report.notebook import RECORD

HOSTILE = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
PIXEL = base64.b64encode(
    base64.b64decode(
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    )
).decode()


def estimate(name: str, value: float, low: float, high: float, unit: str) -> dict[str, Any]:
    return {"name": name, "kind": "estimate", "value": value, "ci_low": low, "ci_high": high,
            "level": 0.95, "unit": unit}  # fmt: skip


def shown(entry: dict[str, Any], **bundle: str) -> Any:
    """An output as ``record`` leaves it; bundle keys spell MIME types with ``__`` and ``_p_``."""
    mimes = {key.replace("__", "/").replace("_p_", "+"): text for key, text in bundle.items()}
    return new_output("display_data", {RECORD: entry, "text/plain": "shown", **mimes})


def tracking_svg() -> str:
    """A figure of the house, saved as ``record`` saves it."""
    import io

    import numpy as np
    from matplotlib import rc_context

    from journeylab.figures import style

    figure, ax = style.new_axes()
    weeks = np.arange(79)
    observed = 62 * weeks - 0.14 * weeks**2
    ax.plot(weeks, observed, color=style.GREYS[0], label="observed")
    ax.plot(weeks, observed - 0.0284 * weeks**2, color=style.ACCENT, label="model 模型")
    ax.set(xlabel="Weeks since 1 January 1997", ylabel="Repeat purchases", ylim=(0, 4500))
    ax.yaxis.set_major_formatter(style.thousands)
    style.shade(ax, 39, 78, "holdout")
    style.finding(ax, "The model is 173 purchases low by week 78", "Cumulative, 2,357 customers")
    style.label_lines(ax)
    buffer = io.BytesIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "journeylab"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None}, bbox_inches="tight")
    return buffer.getvalue().decode()


MODELS = pd.DataFrame(
    {
        "model": ["BG/NBD", "Individual rate", "Last period"],
        "purchases": [1653.4, 2930.12, 2457.0],
        "rmse": [1.6081, 2.2117, 2.4502],
        "log_likelihood": [-9582.4291, float("nan"), float("nan")],
        "customers": [2357, 2357, 2357],
    }
)
RANKED = pd.DataFrame(
    {"customer_id": [f"{n:05d}" for n in (17, 4021, 812)], "clv": [812.5, 40.25, 7.125]}
)


def clv_notebook(svg: str, name_of_customer: str = "00017") -> Any:
    ranked = RANKED.assign(customer_id=[name_of_customer, *RANKED["customer_id"][1:]])
    table = {"name": "ranking", "kind": "table", "table": "tables/ranking.parquet", "rows": 2357,
             "columns": list(ranked.columns)}  # fmt: skip
    parameters = (
        'data: str = "cdnow"  # data set, folder or database URL\n'
        'as_of: str = "1997-09-30"  # nothing after this day is used\n'
        "horizon_days: int = 273  # how far ahead, days [1..730]\n"
        "seed: int = 7  # for the bootstrap"
    )
    return new_notebook(
        cells=[
            new_markdown_cell(
                "# What will these customers buy next, and what are they worth?\n\n"
                "For whoever sets the retention budget: whom to spend on, and how much."
            ),
            new_code_cell("from journeylab import clv, frames\nfrom journeylab.runs import record"),
            new_code_cell(parameters, metadata={"tags": ["parameters"]}),
            new_code_cell(
                "# Parameters\nhorizon_days = 273", metadata={"tags": ["injected-parameters"]}
            ),
            new_code_cell(
                "tables = open_tables(data)\nhistories = collect(frames.histories(tables))",
                outputs=[new_output("stream", name="stderr", text="Loading: 10%\rLoading: 100%\n")],
            ),
            new_markdown_cell("## Does it track what happened?\n\nFitted on weeks 1 to 39 only."),
            new_code_cell("fit = clv.fit_bg_nbd(histories)"),
            new_code_cell(
                'record("expected_purchases", fit.expected_new(39))\nrecord("spend", spend)\n'
                'record("holdout_bias", bias)',
                outputs=[
                    shown(estimate("expected_purchases", 1653.2, 1540.1, 1770.4, "purchases")),
                    shown(estimate("spend", 35.0812, 33.9, 36.3, "USD per purchase")),
                    shown(estimate("holdout_bias", -0.121, -0.15, -0.092, "share")),
                    shown(estimate("fourth_number", 4.0, 3.0, 5.0, "weeks")),
                    shown({"name": "customers", "kind": "number", "value": 2357}),
                ],
            ),
            new_code_cell(
                'figures.tracking(curve, ax)\nrecord("tracking", fig, alt="...")',
                outputs=[
                    shown(
                        {
                            "name": "tracking",
                            "kind": "figure",
                            "figure": "figures/tracking.svg",
                            "alt": "Cumulative repeat purchases, observed and modelled.",
                        },
                        image__svg_p_xml=svg,
                    )
                ],
            ),
            new_markdown_cell("## Is it better than doing nothing clever?"),
            new_code_cell(
                "comparison",
                execution_count=7,
                outputs=[
                    new_output(
                        "execute_result",
                        {"text/html": MODELS.to_html(border=0), "text/plain": str(MODELS)},
                        execution_count=7,
                    )
                ],
            ),
            new_markdown_cell("### In one picture"),
            new_code_cell(
                'record("gamma_gamma", {"p": 6.25})\nrecord("dots", fig, alt="...")',
                outputs=[
                    shown(
                        {
                            "name": "gamma_gamma",
                            "kind": "mapping",
                            "value": {"p": 6.2501, "q": 3.7447, "gamma": 15.4439},
                        }
                    ),
                    shown(
                        {
                            "name": "dots",
                            "kind": "figure",
                            "figure": "figures/dots.png",
                            "alt": "One dot per customer.",
                        },
                        image__png=PIXEL,
                    ),
                    shown(
                        {
                            "name": "caution",
                            "kind": "caution",
                            "text": "Purchases in weeks 40 to 78 ran 12 % above the model.",
                        }
                    ),
                ],
            ),
            new_markdown_cell(
                "**What would make us doubt it.** Late-1997 marketing is not in the data. "
                "A new-customer plan must not use this fit.",
                metadata={"tags": ["doubt"]},
            ),
            new_markdown_cell("## Whom does it name?"),
            new_code_cell(
                'record("ranking", ranked)',
                outputs=[shown(table, text__html=ranked.to_html(border=0))],
            ),
            new_code_cell(
                "decision(text)",
                metadata={"tags": ["decision"]},
                outputs=[shown({"name": "decision", "kind": "decision", "text": DECISION})],
            ),
        ]
    )


DECISION = (
    "Spend on the top 10 %: they hold 46 % of the value of the next 39 weeks (41 to 51). "
    "Up to $9.10 per customer there pays back; below the median nothing does."
)
CLV_ENTRY = {
    "name": "clv",
    "instance": "30_clv",
    "file": "30_clv.ipynb",
    "state": "done",
    "title": "What will these customers buy next, and what are they worth?",
    "parameters": {"data": "cdnow", "as_of": "1997-09-30", "horizon_days": 273, "seed": 7},
    "data": "cdnow",
    "data_fingerprint": "3f9a" * 16,
    "duration_seconds": 11.42,
    "cpu_seconds": 14.0,
    "peak_memory_mb": 412.3,
    "cells": 12,
    "outputs": {},
    "error": None,
}
MANIFEST: dict[str, Any] = {
    "run": "2026-11-22T041100Z_monthly_a1b2",
    "label": "monthly",
    "started_at": "2026-11-22T04:11:00Z",
    "finished_at": "2026-11-22T04:11:48Z",
    "duration_seconds": 48.3,
    "seed": 7,
    "journeylab": "0.1.0",
    "python": "3.11.9",
    "lock_sha256": "81c2" * 16,
    "git": {"commit": "0123456789abcdef0123", "dirty": True},
    "notebooks": [CLV_ENTRY],
}


def again(cell: Any) -> Any:
    """The same cell once more, under an id of its own."""
    copy = deepcopy(cell)
    copy["id"] = new_code_cell().id
    return copy


def lay_down(run: Path, entry: dict[str, Any], notebook: Any | None) -> Path:
    folder = run / entry["instance"]
    folder.mkdir(parents=True)
    if notebook is None:
        return folder
    nbformat.write(notebook, folder / "notebook.ipynb")
    results: dict[str, Any] = {}
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            if entry_shown := output.get("data", {}).get(RECORD):
                kept = {k: v for k, v in entry_shown.items() if k not in ("name", "kind")}
                if entry_shown["kind"] == "caution":
                    results.setdefault("cautions", []).append(entry_shown["text"])
                elif entry_shown["kind"] == "decision":
                    results["decision"] = entry_shown["text"]
                else:
                    results[entry_shown["name"]] = kept
    (folder / "results.json").write_text(json.dumps(results, sort_keys=True))
    return folder
