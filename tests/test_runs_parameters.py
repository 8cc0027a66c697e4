"""The parameters cell is the schema: what it means, and what it refuses."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journeylab.errors import RunError
from journeylab.runs.parameters import Parameter, read_assignments, read_parameters
from journeylab.runs.parameters import read_parameters_file as read_file

SCHEMA = """\
data: str = "cdnow"  # data set, folder or database URL
as_of: str = "1997-09-30"  # nothing after this day is used [1997-01-01..1998-06-30]
horizon_days: int = 90  # how far ahead, days [1..730]
discount: float = 0.1  # yearly rate, share [0..]
engine: str = "duckdb"  # where counting happens {duckdb, spark}
deep: bool = False
value: str = "@clv/value?"  # what customers are worth
"""


def schema() -> dict[str, Parameter]:
    return {parameter.name: parameter for parameter in read_parameters(SCHEMA, "clv")}


def test_a_line_gives_type_default_meaning_unit_and_bounds():
    assert schema()["horizon_days"] == Parameter(
        "horizon_days", "int", 90, "how far ahead", "days", 1, 730
    )
    assert schema()["data"].meaning == "data set, folder or database URL"
    assert schema()["data"].unit is None
    assert schema()["engine"].choices == ("duckdb", "spark")
    assert (schema()["discount"].low, schema()["discount"].high) == (0.0, None)
    assert schema()["as_of"].is_date
    assert schema()["value"].is_reference


@pytest.mark.parametrize(
    ("name", "given_value", "typed"),
    [
        ("horizon_days", "30", 30),
        ("horizon_days", 730, 730),
        ("discount", "1e-3", 0.001),
        ("discount", 0, 0.0),
        ("deep", "yes", True),
        ("deep", "0", False),
        ("as_of", "1998-06-30", "1998-06-30"),
        ("engine", "spark", "spark"),
        ("data", "订单.csv", "订单.csv"),
        ("value", "@clv(data=simulated)/value", "@clv(data=simulated)/value"),
    ],
)
def test_an_allowed_value_gets_the_type_of_its_parameter(name, given_value, typed):
    accepted = schema()[name].accept(given_value, "clv")
    assert accepted == typed
    assert type(accepted) is type(typed)


@pytest.mark.parametrize(
    ("name", "refused", "allowed"),
    [
        ("horizon_days", "0", "[1..730]"),
        ("horizon_days", 731, "[1..730]"),
        ("horizon_days", "30.0", "a whole number"),
        ("horizon_days", True, "a whole number"),
        ("discount", "nan", "a number"),
        ("discount", "inf", "a number"),
        ("discount", -0.1, "[0.0..]"),
        ("deep", "maybe", "true or false"),
        ("deep", 1, "true or false"),
        ("as_of", "30.09.1997", "2024-01-31"),
        ("as_of", "1997-02-30", "2024-01-31"),
        ("as_of", "19970930", "2024-01-31"),
        ("as_of", "1996-12-31", "[1997-01-01..1998-06-30]"),
        ("engine", "Spark", "one of duckdb, spark"),
        ("data", 7, "quote it"),
        ("value", "12", "a reference"),
    ],
)
def test_a_refusal_names_notebook_parameter_value_and_what_is_allowed(name, refused, allowed):
    with pytest.raises(RunError) as refusal:
        schema()[name].accept(refused, "clv")
    for part in ("clv", name, repr(refused), allowed):
        assert part in str(refusal.value)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("horizon_days = 90", "name: type = literal"),
        ("horizon_days: int", "name: type = literal"),
        ("horizon_days: list = []", "name: type = literal"),
        ("import os", "name: type = literal"),
        ("today: str = str(1)", "must be a literal"),
        ("horizon_days: int = 90.0", "declared int"),
        ("deep: bool = 1", "declared bool"),
        ("n: int = 9  # days [10..20]", "not allowed"),
        ("n: int = 9  # days [1-20]", "limits of n"),
        ("n: int = 9  # days [one..20]", "not allowed"),
        ('s: str = "a"  # letter {b, c}', "not allowed"),
        ('s: str = "a"  # letter [a..c]', "cannot have bounds"),
        ("n: int = 1\nn: int = 2", "given twice"),
        ("n: int = (", "not Python"),
    ],
)
def test_a_line_that_is_no_schema_is_refused(line, complaint):
    with pytest.raises(RunError, match=complaint.replace("(", r"\(")):
        read_parameters(line, "clv")


@settings(max_examples=200, deadline=None)
@given(st.integers(), st.integers(), st.integers())
def test_a_whole_number_is_accepted_exactly_within_its_bounds(value, one, other):
    low, high = sorted((one, other))
    parameter = Parameter("n", "int", low, low=low, high=high)
    if low <= value <= high:
        assert parameter.accept(str(value), "t") == value
    else:
        with pytest.raises(RunError, match="not allowed"):
            parameter.accept(value, "t")


@settings(max_examples=200, deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_text_of_a_number_is_read_back_exactly(value):
    assert Parameter("x", "float", 0.0).accept(repr(value), "t") == value


def test_assignments_keep_everything_after_the_first_equals_sign():
    assert read_assignments(["data=postgres://h/db?sslmode=off"]) == {
        "data": "postgres://h/db?sslmode=off"
    }


@pytest.mark.parametrize("texts", [["horizon_days"], ["=3"], ["a=1", "a=2"]])
def test_assignments_that_are_none_or_come_twice_are_refused(texts):
    with pytest.raises(RunError):
        read_assignments(texts)


def test_a_parameters_file_may_address_one_notebook_and_holds_plain_dates(tmp_path):
    path = tmp_path / "p.yaml"
    path.write_text("as_of: 1997-09-30\nclv: {horizon_days: 30}\n")
    assert read_file(path) == {"as_of": "1997-09-30", "clv.horizon_days": 30}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [("- a\n- b\n", "mapping"), ("a: [1, 2]\n", "must be text"), ("a: {b: [\n", "not YAML")],
)
def test_a_parameters_file_that_is_no_mapping_is_refused(tmp_path, text, complaint):
    path = tmp_path / "p.yaml"
    path.write_text(text)
    with pytest.raises(RunError, match=complaint):
        read_file(path)


def test_a_missing_parameters_file_is_named(tmp_path):
    with pytest.raises(RunError, match=r"absent\.yaml"):
        read_file(tmp_path / "absent.yaml")


DATES = """\
as_of: str = ""  # last day the fit may see, ISO date; empty takes the middle of the data
landmarks: str = ""  # ISO dates to look from, parted by commas; empty takes three
until: str = "1998-06-30"  # last complete day, ISO date [1997-01-01..1998-06-30]
data: str = "cdnow"  # data set, folder, orders file or database URL
"""


def dates() -> dict[str, Parameter]:
    return {parameter.name: parameter for parameter in read_parameters(DATES, "clv")}


@pytest.mark.parametrize(
    ("name", "accepted"),
    [
        ("as_of", ""),
        ("as_of", "1997-09-30"),
        ("landmarks", ""),
        ("landmarks", "1997-09-30"),
        ("landmarks", "1997-09-30, 1997-12-31,1998-03-31"),
        ("until", "1997-09-30"),
    ],
)
def test_the_words_iso_date_in_a_meaning_mark_a_date_that_may_be_empty_where_the_default_is(
    name, accepted
):
    assert dates()[name].accept(accepted, "clv") == accepted


@pytest.mark.parametrize(
    ("name", "refused", "allowed"),
    [
        ("as_of", "banana", "a date written as 2024-01-31, or empty"),
        ("as_of", "1997-02-30", "or empty"),
        ("as_of", "1997-09-30,1997-10-31", "a date written as"),
        ("landmarks", "1997-09-30;1997-12-31", "parted by commas, or empty"),
        ("landmarks", "1997-09-30,", "parted by commas"),
        ("landmarks", "soon", "dates written as 2024-01-31"),
        ("until", "", "a date written as 2024-01-31 in [1997-01-01..1998-06-30]"),
        ("until", "1998-07-01", "[1997-01-01..1998-06-30]"),
    ],
)
def test_text_that_is_no_date_is_refused_where_a_date_is_meant(name, refused, allowed):
    with pytest.raises(RunError, match="is not allowed") as refusal:
        dates()[name].accept(refused, "clv")
    assert allowed in str(refusal.value)


def test_only_a_number_has_a_unit():
    assert dates()["data"].meaning == "data set, folder, orders file or database URL"
    assert {parameter.unit for parameter in dates().values()} == {None}
