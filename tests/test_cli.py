"""The command line: what it prints, refuses and leaves unloaded."""

import json
import os
import resource
import subprocess
import sys
from types import SimpleNamespace

import pandas as pd
import pytest
from planted import write_notebook

from journeylab.cli import main
from journeylab.errors import ContractError

CLV = """\
data: str = "cdnow"  # data set
as_of: str = "1997-09-30"  # nothing after this day is used
horizon_days: int = 90  # how far ahead, days [1..730]
seed: int = 7  # of every draw
until: str = ""  # last complete day, ISO date; empty takes the last, whatever it is"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    notebooks = tmp_path / "notebooks"
    write_notebook(notebooks / "30_clv.ipynb", CLV, 'record("value", horizon_days)')
    write_notebook(notebooks / "template.ipynb", "n: int = 1  # nothing")
    monkeypatch.setenv("JOURNEYLAB_NOTEBOOKS", str(notebooks))
    monkeypatch.chdir(tmp_path)
    return notebooks


@pytest.fixture
def call(monkeypatch, capsys):
    """Call the command line: exit code, stdout and stderr, each on one line per message."""
    monkeypatch.setenv("COLUMNS", "200")

    def called(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["journeylab", *arguments])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return called


def test_a_misspelt_parameter_exits_2_at_once_and_suggests_the_right_name(folder):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "journeylab", "run", "clv", "-p", "horizont_days=3"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 2
    assert "'horizont_days' (given '3'); did you mean 'horizon_days'?" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (folder.parent / "runs").exists()
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 3


@pytest.mark.parametrize("code", ["import journeylab", "from journeylab.cli import main; main()"])
def test_importing_and_asking_for_help_load_nothing_heavy(code):
    heavy = (
        "shap xgboost lifelines matplotlib sklearn pyspark "
        "papermill nbclient nbconvert pandas numpy ibis duckdb IPython"
    )
    program = (
        "import sys\nsys.argv = ['journeylab', '--help']\n"
        f"try:\n    {code}\nexcept SystemExit:\n    pass\n"
        f"print('LOADED', [name for name in {heavy.split()!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "LOADED []", done.stderr


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["run"], "there are: clv"),
        (["run", "clw"], "did you mean 'clv'"),
        (["run", "clv", "-p", "horizon_days=0"], "[1..730]"),
        (["run", "clv", "-p", "as_of=tomorrow"], "as_of = 'tomorrow' is not allowed"),
        (["run", "clv", "-p", "horizon_days"], "name=value"),
        (["run", "clv", "-f", "absent.yaml"], "absent.yaml"),
        (["run", "clv", "-j", "0"], "-j must be at least 1"),
        (["run", "clv", "--timeout", "0"], "--timeout must be above 0 seconds"),
        (["run", "clv", "--grid", "horizon=1,2"], "did you mean 'horizon_days'"),
        (["run", "clv", "--grid", "horizon_days=1,1"], "needs values that differ"),
        (["resume"], "there is no run in runs to go on with"),
        (["resume", "absent"], "there is no run 'absent'"),
        (["verify", "absent"], "there is no run 'absent'"),
        (["diff", "absent"], "there is no run 'absent'"),
        (["new", "clv"], "30_clv.ipynb is called 'clv' already"),
        (["new", "Basket Size"], "a topic has at most 30 lower-case letters"),
        (["run", "clv", "--label", "a b", "-p", "data="], "a label has"),
        (["run", "clv", "-p", "seed=-1"], "a seed is a whole number from 0"),
        (["run", "clv", "-p", "until=yesterday"], "until = 'yesterday' is not allowed"),
        (["run", "clv", "--notebooks", "nowhere"], "no folder of notebooks at nowhere"),
        (["show", "clw"], "did you mean 'clv'"),
    ],
)
def test_what_is_refused_is_one_line_on_stderr_and_exit_code_2(
    folder, call, monkeypatch, arguments, complaint
):
    monkeypatch.setattr("journeylab.tables.fingerprint", lambda source: "0", raising=False)
    code, out, err = call(*arguments)
    assert (code, out) == (2, "")
    assert complaint in err
    assert err.count("\n") == 1
    assert not (folder.parent / "runs").exists()


def test_a_negative_seed_exits_2_and_starts_nothing(folder, call):
    code, _, err = call("run", "clv", "--seed", "-1")
    assert code == 2
    assert "--seed" in err
    assert not (folder.parent / "runs").exists()


def test_list_and_show_say_what_there_is(folder, call):
    (folder / "50_odd.ipynb").write_text("{}")
    code, out, _ = call("list")
    assert code == 0
    assert "What about 30_clv?" in out
    assert "cannot be read as a notebook" in out
    rows = json.loads(call("list", "--json")[1])
    assert [(row["name"], row["parameters"]) for row in rows] == [
        ("clv", 5),
        ("odd", 0),
        ("template", 1),
    ]
    code, out, _ = call("show", "30_clv")
    assert code == 0
    for part in ("horizon_days", "how far ahead", "days", "[1..730]", "2024-01-31"):
        assert part in out
    shown = json.loads(call("show", "clv", "--json")[1])
    assert [parameter["unit"] for parameter in shown["parameters"]] == [None, None, "days"] + 2 * [
        None
    ]
    assert shown["records"] == ["value"]
    assert shown["parameters"][2] == {
        "name": "horizon_days",
        "type": "int",
        "default": 90,
        "meaning": "how far ahead",
        "unit": "days",
        "low": 1,
        "high": 730,
        "choices": [],
    }


def test_check_prints_the_report_and_refuses_what_is_no_source(call, monkeypatch):
    counts = {"orders": {"read": 3, "accepted": 2, "quarantined": 1, "reasons": {"null_id": 1}}}
    summary = pd.DataFrame({"table": ["orders"], "quarantined": [1]})
    quarantine = pd.DataFrame(
        {
            "table": "orders",
            "file": "orders.csv",
            "line": range(2, 27),
            "reason": "null_id",
            "column": [None, *24 * ["order_id"]],
            "raw": ["\x1b[2J[red]," + "x" * 500, *(f"raw {n}" for n in range(24))],
        }
    )
    report = SimpleNamespace(to_json=lambda: counts, summary=lambda: summary, quarantine=quarantine)

    def check(source):
        if source == "nothing":
            raise ContractError("no source called 'nothing'")
        return report

    monkeypatch.setattr("journeylab.tables.check", check, raising=False)
    code, out, _ = call("check", "orders.csv")
    assert (code, out.split()[:4]) == (0, ["table", "quarantined", "orders", "1"])
    assert "the first 20 of 25" in out
    assert "\x1b" not in out
    first = out.splitlines()[5]
    assert first.split()[:3] == ["orders.csv", "2", "null_id"]
    assert "[red],xxx" in first
    assert first.count("x") < 80
    assert "raw 18" in out
    assert "raw 19" not in out
    report.quarantine = quarantine.iloc[:0]
    assert call("check", "orders.csv")[1].split() == ["table", "quarantined", "orders", "1"]
    code, out, _ = call("check", "orders.csv", "--json")
    assert (code, json.loads(out)) == (0, counts)
    code, _, err = call("check", "nothing")
    assert (code, err) == (2, "no source called 'nothing'\n")


def test_run_ends_with_the_decision_and_the_page_and_3_where_something_failed(folder, call):
    parameters = "n: int = 1  # divided by"
    write_notebook(
        folder / "40_share.ipynb",
        parameters,
        "1 / n\nfrom pathlib import Path\nPath('tables').mkdir()\n"
        "Path('tables/ranking.csv').write_text('customer_id')",
        decision='decision("Send [5] to all.")',
    )
    code, out, _ = call("run", "share", "--label", "one", "--out", "elsewhere")
    assert code == 0
    assert "40_share: running" in out
    assert "Send [5] to all.\nList to act on: elsewhere/" in out
    assert "_one_" in out.partition("List to act on: ")[2]
    assert out.count("/40_share/tables/ranking.csv\n") == 1
    assert out.splitlines()[-1] == "elsewhere/latest/index.html"
    assert len(list((folder.parent / "elsewhere").glob("*_one_*"))) == 1
    code, out, err = call("run", "40_share.ipynb", "-p", "n=0", "--json")
    assert code == 3
    said = json.loads(out)
    assert said["notebooks"][0]["error"]["name"] == "ZeroDivisionError"
    assert "40_share: failed" in err


def test_a_dry_run_says_what_would_run_and_why_and_starts_nothing(folder, call, monkeypatch):
    monkeypatch.setattr("journeylab.tables.fingerprint", lambda source: "0", raising=False)
    code, out, _ = call("run", "clv", "--dry-run")
    assert code == 0
    assert out.splitlines()[1].split() == ["30_clv", "run", "never", "run", "here"]
    forecasts = json.loads(call("run", "clv", "--dry-run", "--json")[1])
    assert forecasts == [{"instance": "30_clv", "state": "run", "why": "never run here"}]
    assert not (folder.parent / "runs").exists()


def test_the_verbs_of_a_run_work_together(folder, call):
    write_notebook(folder / "40_share.ipynb", "n: int = 1  # n", 'record("n", 2.0 * n)')
    assert call("run", "share", "--label", "one")[0] == 0
    code, out, _ = call("run", "share", "--label", "two")
    assert code == 0
    assert "40_share: done in 0." in out
    assert "- as in 2" in out
    code, out, _ = call("verify")
    assert (code, out.partition(": ")[2]) == (0, "1 notebooks gave the same bytes again\n")
    assert call("resume")[2].startswith("everything in the last run")
    assert call("run", "share", "-p", "n=2", "--label", "three")[0] == 0
    code, out, _ = call("diff", "_one_")
    assert code == 0
    assert "40_share: other parameters (n); 1 of 1 numbers changed." in out
    assert (folder.parent / "diff.html").exists()
    assert json.loads(call("diff", "_one_", "_two_", "--json")[1])["reading"] == [
        "40_share: the same."
    ]
    code, out, _ = call("index")
    assert (code, out) == (0, "runs/index.html\n")
    page = (folder.parent / "runs" / "index.html").read_text()
    assert page.count('/index.html">2') >= 3
    code, out, _ = call("doctor", "--json")
    assert {finding["what"] for finding in json.loads(out)} >= {"Python", "kernel", "disk"}
    path = folder / "40_share.ipynb"
    path.write_text(path.read_text().replace("2.0 * n", "3.0 * n"))
    code, _, err = call("verify", "_one_")
    assert (code, err) == (4, "40_share: its code\n")


def test_new_begins_a_notebook_that_keeps_the_rules(folder, call):
    from pathlib import Path

    template = Path(__file__).parent.parent / "notebooks" / "template.ipynb"
    (folder / "template.ipynb").write_bytes(template.read_bytes())
    code, out, _ = call("new", "basket_size")
    assert (code, out.partition(":")[0]) == (0, "notebooks/40_basket_size.ipynb")
    text = (folder / "40_basket_size.ipynb").read_text()
    assert "# What do we want to know about basket size?" in text
    assert call("clean", "--check", "basket_size") == (0, "", "")
    assert call("run", "basket_size")[0] == 0


def test_clean_clears_outputs_and_names_what_else_is_broken(folder, call):
    path = folder / "30_clv.ipynb"
    content = json.loads(path.read_text())
    content["cells"][3]["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "1"}]
    content["cells"][3]["execution_count"] = 3
    content["cells"].append(dict(content["cells"][2], id="f", source="def f():\n    pass"))
    path.write_text(json.dumps(content))
    code, _, err = call("clean", "--check", "clv")
    assert code == 2
    assert "holds outputs" in err
    assert "defines f" in err
    assert json.loads(path.read_text()) == content
    code, out, err = call("clean", "clv")
    assert (code, out) == (2, "30_clv.ipynb: outputs cleared\n")
    assert "holds outputs" not in err
    del content["cells"][-1]
    path.write_text(json.dumps(content))
    assert call("clean", "clv")[0] == 0
    assert call("clean", "--check", "clv") == (0, "", "")
