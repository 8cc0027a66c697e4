"""What is refused before any kernel starts, and in which order the rest would run."""

import pytest
from planted import write_notebook

from journeylab.errors import RunError
from journeylab.runs import make_plan, read_reference
from journeylab.runs.references import Reference

CLV = """\
data: str = "cdnow"  # data set
horizon_days: int = 90  # how far ahead, days [1..730]
seed: int = 7  # of every draw"""
TOUCHES = """\
value: str = "@clv/value"  # what customers are worth
data: str = "cdnow"  # data set
budget: int = 9  # money, USD"""


@pytest.fixture
def folder(tmp_path):
    notebooks = tmp_path / "notebooks"
    write_notebook(notebooks / "30_clv.ipynb", CLV, 'record("value", 1)\nrecord("rank", 2)')
    write_notebook(notebooks / "70_touches.ipynb", TOUCHES, 'record("plan", recorded(value))')
    write_notebook(notebooks / "template.ipynb", "n: int = 1  # n")
    write_notebook(notebooks / "00_start_here.ipynb", "n: int = 1  # n")
    return notebooks


def same_data(source: str) -> str:
    return "f" * 8


def plan(folder, *names, **options):
    return make_plan(folder, names, fingerprint=options.pop("fingerprint", same_data), **options)


def test_a_reference_is_read_into_its_parts():
    assert read_reference("@clv(data=simulated, n=3)/value?", "t") == Reference(
        "clv", (("data", "simulated"), ("n", "3")), "value", True
    )


@pytest.mark.parametrize(
    "text",
    ["@clv", "clv/value", "@/value", "@clv/Value", "@clv(data)/v", "@clv(n=1,n=2)/v", "@a/b/c"],
)
def test_what_is_no_reference_is_refused(text):
    with pytest.raises(RunError, match="t: "):
        read_reference(text, "t")


@pytest.mark.parametrize("name", ["clv", "30_clv", "30_clv.ipynb", "notebooks/30_clv.ipynb"])
def test_a_notebook_may_be_named_in_three_ways(folder, name):
    assert list(plan(folder, name).instances) == ["30_clv"]


def test_a_missing_notebook_gets_the_nearest_name(folder):
    with pytest.raises(RunError, match="'clw'; did you mean 'clv'"):
        plan(folder, "clw")


def test_without_a_name_the_notebooks_that_may_run_are_listed(folder):
    with pytest.raises(RunError, match=r"there are: clv, touches$"):
        plan(folder)


def test_all_leaves_out_the_notebooks_that_teach(folder):
    assert list(plan(folder, every=True).instances) == ["30_clv", "70_touches"]


def test_ancestors_run_too_and_first(folder):
    planned = plan(folder, "touches")
    assert list(planned.instances) == ["30_clv", "70_touches"]
    assert planned.targets == ("touches",)


def test_a_misspelt_parameter_gets_the_nearest_name(folder):
    with pytest.raises(
        RunError, match=r"'horizont_days' \(given '3'\); did you mean 'horizon_days'"
    ):
        plan(folder, "clv", parameters={"horizont_days": "3"})


def test_a_parameter_of_an_ancestor_must_be_addressed(folder):
    with pytest.raises(RunError, match="no parameter 'horizon_days'"):
        plan(folder, "touches", parameters={"horizon_days": 30})
    planned = plan(folder, "touches", parameters={"clv.horizon_days": "30"})
    assert planned.instances["30_clv"].parameters["horizon_days"] == 30


def test_a_parameter_of_several_targets_goes_to_those_that_have_it(folder):
    planned = plan(folder, "clv", "touches", parameters={"budget": "5", "data": "online_retail"})
    assert planned.instances["70_touches"].parameters["budget"] == 5
    assert {i.parameters["data"] for i in planned.instances.values()} == {"online_retail"}
    with pytest.raises(RunError, match="none of clv, touches has a parameter 'budgets'"):
        plan(folder, "clv", "touches", parameters={"budgets": "5"})


def test_a_parameter_for_a_notebook_outside_the_run_is_refused(folder):
    with pytest.raises(RunError, match="touches is not part of this run"):
        plan(folder, "clv", parameters={"touches.budget": 1})


def test_the_seed_goes_to_every_notebook_that_has_one_unless_it_is_given(folder):
    assert plan(folder, "touches", seed=5).instances["30_clv"].parameters["seed"] == 5
    given_both = plan(folder, "clv", seed=5, parameters={"seed": 6})
    assert given_both.instances["30_clv"].parameters["seed"] == 6
    assert plan(folder, "touches").seed == 7


def test_a_negative_seed_is_refused_however_it_is_given(folder):
    with pytest.raises(RunError, match=r"--seed must be .* from 0; got -1"):
        plan(folder, "clv", seed=-1)
    with pytest.raises(RunError, match="30_clv: a seed is a whole number from 0; got -2"):
        plan(folder, "clv", parameters={"seed": "-2"})
    assert plan(folder, "clv", seed=0).seed == 0


def test_bound_parameters_make_a_second_instance_beside_the_plain_one(folder):
    planned = plan(
        folder, "clv", "touches", parameters={"value": "@clv(data=simulated,horizon_days=30)/value"}
    )
    bound = planned.instances["30_clv--data-simulated--horizon_days-30"]
    assert bound.parameters == {"data": "simulated", "horizon_days": 30, "seed": 7}
    assert planned.instances["70_touches"].requires == {bound.name}
    assert planned.instances["30_clv"].parameters["data"] == "cdnow"


def test_binding_what_is_so_anyway_makes_no_second_instance(folder):
    planned = plan(folder, "touches", parameters={"value": "@clv(data=cdnow)/value"})
    assert list(planned.instances) == ["30_clv", "70_touches"]


@pytest.mark.parametrize(
    ("reference", "complaint"),
    [
        ("@cvl/value", "no notebook 'cvl'; did you mean 'clv'"),
        ("@clv/valeu", "clv records no 'valeu'; did you mean 'value'"),
        ("@clv/valeu?", "clv records no 'valeu'"),
        ("@clv(horizon=3)/value", "no parameter 'horizon'"),
        ("@clv(horizon_days=999)/value", "horizon_days = '999' is not allowed"),
        ("@clv/", "not a reference"),
    ],
)
def test_a_broken_reference_is_refused(folder, reference, complaint):
    with pytest.raises(RunError, match=complaint):
        plan(folder, "touches", parameters={"value": reference})


def test_an_optional_reference_may_name_no_notebook_and_never_blocks(folder):
    assert list(plan(folder, "touches", parameters={"value": "@uplift/effect?"}).instances) == [
        "70_touches"
    ]
    planned = plan(folder, "touches", parameters={"value": "@clv/value?"})
    assert planned.instances["70_touches"].needs == {"30_clv"}
    assert not planned.instances["70_touches"].requires


def test_a_record_with_a_computed_name_cannot_be_called_unknown(folder):
    write_notebook(folder / "30_clv.ipynb", CLV, 'record(f"value_{seed}", 1)')
    plan(folder, "touches", parameters={"value": "@clv/value_7"})


def test_a_circle_of_references_is_refused(folder):
    write_notebook(folder / "10_a.ipynb", 'b: str = "@b/x"  # b', 'record("x", 1)')
    write_notebook(folder / "11_b.ipynb", 'a: str = "@a/x"  # a', 'record("x", 1)')
    with pytest.raises(RunError, match=r"in a circle: .*10_a"):
        plan(folder, "a")


def test_joining_customers_of_different_data_is_refused_with_both_names(folder):
    with pytest.raises(
        RunError, match=r"different data: .*'online_retail'.*'cdnow'.*-p clv\.data="
    ):
        plan(folder, "touches", parameters={"data": "online_retail"}, fingerprint=str)


def test_two_names_of_the_same_data_may_be_joined(folder):
    planned = plan(folder, "touches", parameters={"data": "copy_of_cdnow"})
    assert planned.instances["70_touches"].data_fingerprint == same_data("")


def test_data_travel_through_a_notebook_that_has_none_of_its_own(folder):
    write_notebook(
        folder / "90_both.ipynb",
        'a: str = "@clv/value"  # a\nb: str = "@clv(data=simulated)/value"  # b',
    )
    with pytest.raises(RunError, match=r"90_both would join .*'cdnow'.*'simulated'"):
        plan(folder, "both", fingerprint=str)


def test_a_file_is_absolute_for_the_kernel_and_relative_for_everyone_else(folder, tmp_path):
    (tmp_path / "orders.csv").write_text("order_id\n")
    planned = plan(folder, "clv", parameters={"data": "orders.csv"}, caller=tmp_path)
    instance = planned.instances["30_clv"]
    assert instance.injected["data"] == str(tmp_path / "orders.csv")
    assert instance.parameters["data"] == instance.data == "orders.csv"
    absolute = plan(folder, "clv", parameters={"data": str(tmp_path / "orders.csv")})
    assert absolute.instances["30_clv"].parameters["data"] == "orders.csv"


def test_a_data_set_wins_over_a_folder_of_its_name(folder, tmp_path):
    (tmp_path / "cdnow").mkdir()
    (tmp_path / "mine").mkdir()
    known = plan(folder, "clv", caller=tmp_path)
    assert "data" not in known.instances["30_clv"].injected
    mine = plan(folder, "clv", parameters={"data": "mine"}, caller=tmp_path)
    assert mine.instances["30_clv"].injected["data"] == str(tmp_path / "mine")


def test_a_password_in_a_database_url_reaches_the_kernel_only(folder):
    url = "postgres://anna:secret@db/shop"
    planned = plan(folder, "clv", parameters={"data": url})
    assert planned.instances["30_clv"].injected["data"] == url
    assert planned.instances["30_clv"].parameters["data"] == "postgres://***@db/shop"
    assert planned.sources == {url: "postgres://***@db/shop"}


def test_two_files_of_one_name_are_refused(folder):
    write_notebook(folder / "31_clv.ipynb", CLV)
    with pytest.raises(RunError, match="both called 'clv'"):
        plan(folder, "clv")


def test_a_broken_notebook_is_named_and_disturbs_no_other(folder):
    (folder / "50_broken.ipynb").write_text("{")
    plan(folder, "clv")
    with pytest.raises(RunError, match=r"50_broken\.ipynb cannot be read as a notebook"):
        plan(folder, "broken")
