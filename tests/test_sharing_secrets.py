"""Secrets come from the environment by name, and their values are in no byte of a run."""

# ruff: noqa: E501 - what is planted reads best on one line

import gzip
import io
import json
import zipfile
from pathlib import Path

import pytest
from planted import write_notebook

from journeylab.errors import RunError
from journeylab.runs import make_plan, open_secret, run
from journeylab.runs.parameters import read_parameters
from journeylab.sharing.contents import read_content

VALUE = "Zq7'\"<&é 9x+/=K"
SCHEMA = 'token: Secret = "env:CRM_TOKEN"  # of the CRM'
IMPORTS = (
    "import os, sys, json\nimport pandas as pd\n"
    "from journeylab.runs import Secret, caution, decision, open_secret, record"
)


def project(root: Path, *cells: str, decision: str = "") -> Path:
    folder = root / "notebooks"
    write_notebook(folder / "10_first.ipynb", SCHEMA, *cells, decision=decision)
    notebook = json.loads((folder / "10_first.ipynb").read_text())
    first = {"cell_type": "code", "metadata": {}, "source": IMPORTS, "outputs": [],
             "execution_count": None, "id": "imports"}  # fmt: skip
    notebook["cells"].insert(1, first)
    (folder / "10_first.ipynb").write_text(json.dumps(notebook))
    return folder


def everything(folder: Path) -> list[tuple[str, str]]:
    """Every file as it is, and what is in it once it is unpacked."""
    texts = []
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            content = path.read_bytes()
            texts.append((path.name, content.decode("utf-8", "replace")))
            waiting = [(path.name, content)]
            while waiting:
                name, data = waiting.pop()
                found = read_content(name, data)
                texts += [(path.name, piece.text) for piece in found.pieces]
                texts += [(path.name, value) for c in found.columns for value in c.values]
                waiting += [(part.name, part.content) for part in found.parts]
    return texts


def spellings() -> list[str]:
    return [VALUE, json.dumps(VALUE)[1:-1], json.dumps(VALUE, ensure_ascii=False)[1:-1],
            "Zq7&#x27;&quot;&lt;&amp;é 9x+/=K", "Zq7%27%22%3C%26"]  # fmt: skip


def assert_nowhere(folder: Path) -> None:
    for name, text in everything(folder):
        for spelled in spellings():
            assert spelled not in text, name


def test_a_secret_is_used_and_its_value_is_in_no_byte_of_the_run(tmp_path, monkeypatch):
    monkeypatch.setenv("CRM_TOKEN", VALUE)
    folder = project(
        tmp_path,
        "value = open_secret(token)\nrecord('letters', len(value))",
        "print(value); print(repr(value), file=sys.stderr); print(json.dumps([value]))",
        "record('text', f'used {value}')\nrecord('mapping', {'a': {'b': value}, value: 1})",
        "pd.DataFrame({'note': [value, 'x'], 'n': [1, 2]})",
        "import matplotlib.pyplot as plt\nfig, ax = plt.subplots()\nax.set_title(value, parse_math=False)\n"
        "record('curve', fig, alt=f'about {value}')",
        "os.makedirs('tables', exist_ok=True)\n"
        "open('tables/a.csv', 'w').write(f'note\\n{value}\\n')\nos.environ['CRM_TOKEN']",
        "caution(f'careful with {value}')",
        decision="decision(f'use {value}')",
    )
    result = run(make_plan(folder, ["first"], caller=tmp_path), out=tmp_path / "runs")
    entry = result.manifest["notebooks"][0]
    assert entry["state"] == "done", entry["error"]
    assert entry["parameters"] == {"token": "env:CRM_TOKEN"}
    results = json.loads((result.folder / "10_first" / "results.json").read_text())
    assert results["letters"] == len(VALUE)
    assert results["text"] == "used env:CRM_TOKEN"
    assert "env:CRM_TOKEN" in (result.folder / "10_first" / "report.html").read_text()
    assert_nowhere(tmp_path / "runs")


def test_a_frame_that_holds_a_secret_is_removed_and_the_notebook_fails(tmp_path, monkeypatch):
    monkeypatch.setenv("CRM_TOKEN", VALUE)
    folder = project(
        tmp_path,
        "value = open_secret(token)\n"
        "record('kept', pd.DataFrame({'note': ['x', value]}))\n"
        "import gzip, zipfile\n"
        "gzip.open('tables/b.csv.gz', 'wt').write(value)\n"
        "zipfile.ZipFile('tables/c.zip', 'w', zipfile.ZIP_DEFLATED).writestr('d.csv', value)\n"
        "1 / 0",
    )
    result = run(make_plan(folder, ["first"], caller=tmp_path), out=tmp_path / "runs")
    assert result.manifest["notebooks"][0]["state"] == "failed"
    assert not list((result.folder / "10_first" / "tables").iterdir())
    assert_nowhere(tmp_path / "runs")


def test_a_removed_file_is_named_with_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("CRM_TOKEN", VALUE)
    folder = project(tmp_path, "record('kept', pd.DataFrame({'note': [open_secret(token)]}))")
    result = run(make_plan(folder, ["first"], caller=tmp_path), out=tmp_path / "runs")
    message = result.manifest["notebooks"][0]["error"]["message"]
    assert message == (
        "tables/kept.parquet held the value of a secret and was removed; do not record or write it"
    )


@pytest.mark.parametrize(
    ("value", "words"), [(None, "the environment has no CRM_TOKEN"), ("abc", "fewer than 8")]
)
def test_a_secret_that_is_not_set_or_too_short_is_refused_before_a_kernel_starts(
    tmp_path, monkeypatch, value, words
):
    monkeypatch.delenv("CRM_TOKEN", raising=False)
    if value:
        monkeypatch.setenv("CRM_TOKEN", value)
    with pytest.raises(RunError, match=words) as refusal:
        make_plan(project(tmp_path, "1"), ["first"], caller=tmp_path)
    assert "abc" not in str(refusal.value)


@pytest.mark.parametrize("given", ["hunter2hunter2", "env:a-b", "$CRM_TOKEN"])
def test_a_value_in_place_of_a_name_is_refused_and_not_repeated(given):
    (token,) = read_parameters(SCHEMA, "first")
    with pytest.raises(RunError, match="name of a variable of the environment") as refusal:
        token.accept(given, "first")
    assert given not in str(refusal.value)
    with pytest.raises(RunError) as in_cell:
        read_parameters(f"token: Secret = {given!r}", "first")
    assert given not in str(in_cell.value)


def test_a_secret_is_read_by_name(monkeypatch):
    monkeypatch.setenv("CRM_TOKEN", VALUE)
    assert open_secret("env:CRM_TOKEN") == VALUE
    with pytest.raises(RunError, match="is named as 'env:NAME'"):
        open_secret(VALUE)


def test_unpacking_finds_what_is_compressed():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.csv.gz", gzip.compress(VALUE.encode()))
    inner = read_content("b.zip", buffer.getvalue()).parts[0]
    innermost = read_content(inner.name, inner.content).parts[0]
    assert VALUE in read_content(innermost.name, innermost.content).pieces[0].text
