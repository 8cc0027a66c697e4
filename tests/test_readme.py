"""What the README shows runs as it stands there."""

import re
import runpy
from pathlib import Path

import pandas as pd

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_the_python_of_the_readme_runs_and_answers(tmp_path, monkeypatch):
    section = README.partition("## From Python")[2].partition("\n## ")[0]
    monkeypatch.chdir(tmp_path)
    rows = [
        (f"o{customer}-{visit}", f"c{customer}", day.isoformat(), "20.00")
        for customer in range(60)
        for visit in range(1 + customer % 4)
        for day in [pd.Timestamp("2024-01-02") + pd.Timedelta(days=customer + 23 * visit)]
    ]
    columns = ["order_id", "customer_id", "ordered_at", "amount"]
    pd.DataFrame(rows, columns=columns).to_csv("my_orders.csv", index=False)
    found = []
    for number, block in enumerate(re.findall(r"```python\n(.*?)```", section, re.DOTALL)):
        script = tmp_path / f"block_{number}.py"
        script.write_text(block, encoding="utf-8")
        found.append(runpy.run_path(str(script)))
    value, others = found
    assert value["cells"]["customers"].sum() == 60
    assert others["leaving"].n_events > 0
    assert list(others["averages"]["arm"]) == ["none", "ads", "chat", "push", "sms", "voice"]
    effect = others["found"].absolute
    assert effect.ci_low < effect.value < effect.ci_high
