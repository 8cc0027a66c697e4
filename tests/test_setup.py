"""Setting up: one truth, a lock made from it, and modules that stay light."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

import environment

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
TRIED_TOGETHER = {
    "pandas": "2.3",
    "numpy": "2.4",
    "lifelines": "0.30.3",
    "xgboost": "3.2",
    "shap": "0.50",
    "ibis-framework": "12.0",
    "duckdb": "1.5",
    "sqlglot": "30.14",
    "numba": "0.68",
}


def pinned() -> dict[str, str]:
    lines = environment.pins((ROOT / "requirements.lock").read_text())
    found = [Requirement(line) for line in lines]
    return {one.name: str(one.specifier).removeprefix("==") for one in found}


def test_the_set_that_was_tried_together_is_what_the_lock_installs():
    pins = pinned()
    assert {name: pins[name][: len(v)] for name, v in TRIED_TOGETHER.items()} == TRIED_TOGETHER


def test_what_is_installed_is_what_the_lock_says():
    from importlib.metadata import version

    wrong = {
        name: (version(name), wanted)
        for name, wanted in pinned().items()
        if name in TRIED_TOGETHER and version(name) != wanted and sys.version_info[:2] == (3, 11)
    }
    assert wrong == {}


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-dev.lock"])
def test_the_lock_holds_hashes_and_no_index_address(name):
    text = (ROOT / name).read_text()
    assert "://" not in text
    blocks = re.split(r"\n(?=[A-Za-z0-9])", text.strip())
    assert [block.split()[0] for block in blocks if "--hash=sha256:" not in block] == []


def test_the_lock_satisfies_every_requirement_of_the_project():
    pins = pinned()
    for requirement in map(Requirement, PROJECT["dependencies"]):
        assert requirement.specifier.contains(pins[requirement.name]), requirement


def test_nothing_for_a_graphics_card_is_installed():
    assert [name for name in pinned() if name.startswith("nvidia")] == []


def test_the_environment_file_is_what_the_generator_writes():
    text = (ROOT / "environment.yml").read_text()
    assert text == environment.environment()
    wanted = yaml.safe_load(text)["dependencies"]
    assert wanted[:2] == ["python=3.11", "pip"]
    assert PROJECT["requires-python"] == ">=3.11"


@pytest.mark.full
def test_the_pip_section_of_the_environment_installs_in_a_plain_venv(tmp_path):
    section = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"][-1]["pip"]
    (tmp_path / "pip.txt").write_text("\n".join(section))
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    command = [python, "-m", "pip", "install", "--quiet", "-r", tmp_path / "pip.txt"]
    subprocess.run(command, check=True, cwd=ROOT)
    subprocess.run([python, "-c", "import journeylab.clv, journeylab.churn"], check=True)


def test_the_contract_readme_is_what_the_contract_writes():
    from journeylab.contract import as_markdown

    assert (ROOT / "data" / "README.md").read_text() == as_markdown()


@pytest.mark.parametrize("module", ["journeylab", "journeylab.cli", "journeylab.clv"])
def test_heavy_packages_are_loaded_where_they_are_used(module):
    heavy = ["shap", "xgboost", "lifelines", "matplotlib", "sklearn", "pyspark"]
    code = f"import sys, {module}; print([m for m in {heavy!r} if m in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def python_files() -> list[Path]:
    folders = ("journeylab", "benchmarks")
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


SQL = re.compile(
    r"^\s*(select\b.*\bfrom\b|insert into|create (table|view)|drop table|pragma)\b"
    r"|\b(SELECT|INSERT INTO|CREATE TABLE|CREATE VIEW|DROP TABLE|ORDER BY|GROUP BY|COPY|ATTACH)\b",
    re.DOTALL,
)
ENGINE_CALLS = {"sql", "raw_sql", "execute", "query"}


@pytest.mark.parametrize("path", python_files(), ids=lambda path: path.name)
def test_no_sql_is_written_by_hand(path):
    """No formatted string that reads like SQL, and no text handed to an engine's SQL calls."""
    tree = ast.parse(path.read_text())
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            text = "".join(p.value for p in node.values if isinstance(p, ast.Constant))
            if SQL.search(text):
                found.append(node.lineno)
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in ENGINE_CALLS
            and node.args
            and isinstance(node.args[0], ast.Constant | ast.JoinedStr | ast.BinOp)
        ):
            found.append(node.lineno)
    assert found == []


def test_no_file_holds_a_path_of_one_machine():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    found = []
    for name in listed.stdout.split():
        path = ROOT / name
        texts = {".py", ".md", ".toml", ".yml", ".ipynb", ".lock"}
        if path.suffix not in texts or not path.is_file() or path.parent.name == "tests":
            continue
        if re.search(r"/(home|Users)/[a-z]", path.read_text(errors="ignore")):
            found.append(name)
    assert found == []
