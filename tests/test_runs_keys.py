"""What a content key rests on: what counts changes it, what does not leaves it alone."""

from pathlib import Path

import pytest

from journeylab.runs import make_plan
from journeylab.runs.keys import KeyMaker, meaningful
from journeylab.runs.reach import PackageSources
from tests.planted import cell, write_cells


@pytest.mark.parametrize(
    "source",
    [
        "a = 1\nb = f(a)\n",
        "a = 1  # one",
        "# first\n\na = 1\n\n# then\nb = f( a )",
        "a=1\nb = f(a)  # two",
    ],
)
def test_comments_blank_lines_and_widths_mean_nothing(source):
    plain = meaningful("a = 1\nb = f(a)")
    assert meaningful(source) == plain or meaningful(source) == plain[:3] + plain[-2:]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a = 1", "a = 2"),
        ("fit", "fit;"),
        ("'a # b'", "'a # c'"),
        ("if a:\n    b\nc", "if a:\n    b\n    c"),
        ("%matplotlib inline", "%matplotlib widget"),
        ("a = (", "a = ["),
    ],
)
def test_what_a_cell_does_or_shows_counts(one, other):
    assert meaningful(one) != meaningful(other)


@pytest.fixture
def package(tmp_path):
    """A package whose ``runner`` hands on names of ``runner.records`` and runs ``runner.shown``."""
    folder = tmp_path / "journeylab"
    files = {
        "__init__.py": "__version__ = '1'",
        "clv/__init__.py": "from journeylab.clv.fit import fit",
        "clv/fit.py": "def fit():\n    from ..frames import rows\n    return rows",
        "clv/preset.toml": "a = 1",
        "frames.py": "rows = 1",
        "unused.py": "import journeylab.frames",
        "runner/__init__.py": "from journeylab.runner.records import record\n"
        "from journeylab.runner.engine import run\n"
        "from journeylab.runner.shown import register\n__all__ = ['record', 'run']\nregister()",
        "runner/records.py": "def record(): ...",
        "runner/engine.py": "from journeylab import unused",
        "runner/shown.py": "def register(): ...",
    }
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


@pytest.mark.parametrize(
    ("code", "reached"),
    [
        ("import numpy", set()),
        ("from journeylab import frames", {"", ".frames"}),
        ("import journeylab.frames as f", {"", ".frames"}),
        (
            "%time\nfrom journeylab import clv",
            {"", ".clv", ".clv.fit", ".frames", ".clv/preset.toml"},
        ),
        ("from journeylab.clv import fit", {"", ".clv", ".clv.fit", ".frames", ".clv/preset.toml"}),
        (
            "from journeylab.runner import record",
            {"", ".runner", ".runner.records", ".runner.shown"},
        ),
        (
            "import journeylab.runner",
            {
                "",
                ".runner",
                ".runner.records",
                ".runner.shown",
                ".runner.engine",
                ".unused",
                ".frames",
            },
        ),
    ],
)
def test_imports_are_followed_through_functions_and_names_that_are_handed_on(
    package, code, reached
):
    found = PackageSources(package).reached([code])
    assert set(found) == {f"journeylab{name}" for name in reached}


def test_the_record_of_the_real_package_does_not_rest_on_the_runner():
    package = Path(__file__).parent.parent / "journeylab"
    reached = PackageSources(package).reached(["from journeylab.runs import decision, record"])
    assert "journeylab.runs.recording" in reached
    assert "journeylab.estimate" in reached or "journeylab.estimate.intervals" in reached
    assert "journeylab.runs.execution" not in reached
    assert "journeylab.cli" not in reached


PARAMETERS = 'data: str = "orders"  # data\nn: int = 1  # n\nvalue: str = "@first/value?"  # value'


@pytest.fixture
def project(tmp_path, package):
    write_cells(
        tmp_path / "notebooks" / "10_first.ipynb", notebook("n: int = 1", 'record("value", 1)')
    )
    write_cells(
        tmp_path / "notebooks" / "20_second.ipynb",
        notebook(PARAMETERS, "from journeylab import clv"),
    )
    (tmp_path / "requirements.lock").write_text("a==1")
    return tmp_path


def notebook(parameters, *code):
    return [
        cell("# Why?", kind="markdown"),
        cell(parameters, "parameters"),
        *(cell(source) for source in code),
    ]


def parts(project, upstream="u", data="d" * 64, **parameters):
    plan = make_plan(
        project / "notebooks", ["second"], parameters=parameters, fingerprint=lambda source: data
    )
    keys = KeyMaker(project, PackageSources(project / "journeylab"))
    return keys.key(plan.instances["20_second"], {"10_first": {"results.json": upstream}})


def changed(before, after):
    return {name for name in before.parts if before.parts[name] != after.parts[name]}


def test_each_part_of_a_key_answers_for_itself(project, monkeypatch):
    first = parts(project)
    assert changed(first, parts(project)) == set()
    assert changed(first, parts(project, n="2")) == {"parameters"}
    assert changed(first, parts(project, data="e" * 64)) == {"data"}
    assert changed(first, parts(project, upstream="v")) == {"upstream"}
    path = project / "notebooks" / "20_second.ipynb"
    write_cells(
        path,
        [
            cell("# Why not?", kind="markdown"),
            *notebook(PARAMETERS, "# so\nfrom journeylab import clv"),
        ],
    )
    assert changed(first, parts(project)) == set()
    (project / "journeylab" / "unused.py").write_text("1")
    assert changed(first, parts(project)) == set()
    (project / "journeylab" / "frames.py").write_text("rows = 2")
    assert changed(first, parts(project)) == {"sources"}
    second = parts(project)
    (project / "requirements.lock").write_text("a==2")
    assert changed(second, parts(project)) == {"environment"}
    third = parts(project)
    monkeypatch.setattr("journeylab.runs.keys.installed_versions", lambda: {"numpy": "9"})
    assert changed(third, parts(project)) == {"environment"}
    write_cells(path, notebook(PARAMETERS, "from journeylab import clv\n1"))
    assert changed(third, parts(project)) == {"environment", "code"}


def test_another_secret_for_pseudonyms_makes_another_key_and_stands_in_no_part(
    project, monkeypatch
):
    first = parts(project)
    monkeypatch.setenv("JOURNEYLAB_KEY", "a secret")
    second = parts(project)
    assert first.parts == second.parts
    assert first.digest != second.digest


def test_a_run_that_may_keep_ids_shares_no_cache_with_one_that_may_not(project, monkeypatch):
    monkeypatch.delenv("JOURNEYLAB_ALLOW_IDS", raising=False)
    hidden = parts(project)
    monkeypatch.setenv("JOURNEYLAB_ALLOW_IDS", "1")
    assert parts(project).digest != hidden.digest
    monkeypatch.setenv("JOURNEYLAB_ALLOW_IDS", "no")
    assert parts(project).digest == hidden.digest


def test_a_live_database_is_never_taken_from_the_cache(project):
    plan = make_plan(
        project / "notebooks",
        ["second"],
        parameters={"data": "postgres://db/shop", "value": "@absent/value?"},
        fingerprint=lambda source: "x",
    )
    assert not plan.instances["20_second"].cacheable


@pytest.fixture
def with_file(tmp_path):
    """A notebook that takes a file, and may write to it."""
    source = 'plan_file: str = ""  # a plan\nwrite_plan: bool = False  # write it'
    write_cells(
        tmp_path / "notebooks" / "10_plan.ipynb",
        [cell(source, "parameters"), cell("decision('Go.')", "decision")],
    )
    return tmp_path / "notebooks"


def test_a_file_that_a_parameter_names_is_found_from_where_one_stands_and_shown_short(
    with_file, tmp_path
):
    here = tmp_path / "here"
    here.mkdir()
    given = {"relative/plan.json": "relative/plan.json", str(here / "plan.json"): "plan.json"}
    for text, shown in given.items():
        plan = make_plan(with_file, ["plan"], parameters={"plan_file": text}, caller=here)
        one = plan.instances["10_plan"]
        real = str(here / text)
        assert one.injected["plan_file"] == real
        assert one.parameters["plan_file"] == plan.asked["plan_file"] == shown
        assert plan.sources == {real: shown}
    plain = make_plan(with_file, ["plan"], caller=here).instances["10_plan"]
    assert plain.files == {}
    assert plain.cacheable


def test_the_content_of_a_file_that_a_parameter_names_counts(with_file, tmp_path):
    def key():
        plan = make_plan(
            with_file, ["plan"], parameters={"plan_file": "plan.json"}, caller=tmp_path
        )
        return KeyMaker(tmp_path).key(plan.instances["10_plan"], {})

    absent = key()
    (tmp_path / "plan.json").write_text("{}")
    first = key()
    assert first.digest == key().digest
    (tmp_path / "plan.json").write_text('{"looks": 3}')
    other = key()
    assert len({absent.digest, first.digest, other.digest}) == 3
    assert {part for part in first.parts if first.parts[part] != other.parts[part]} == {"files"}


def test_what_writes_outside_its_run_is_never_taken_from_the_cache(with_file, tmp_path):
    for asked in (False, True):
        plan = make_plan(with_file, ["plan"], parameters={"write_plan": asked}, caller=tmp_path)
        assert plan.instances["10_plan"].cacheable is not asked
