"""What ``record`` keeps, shows and refuses, and what ``recorded`` gives back."""

import json
import time
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from journeylab.errors import ContractError, RunError
from journeylab.estimate import Estimate
from journeylab.runs import caution, decision, in_run, record, recorded
from journeylab.runs.scrubbing import Scrubber, without_terminal_codes
from journeylab.runs.showing import _result_html, estimate_text


@pytest.fixture
def own(tmp_path, monkeypatch):
    """The folder of a notebook under the runner, in a run where it is called 30_clv."""
    folder = tmp_path / "run" / "30_clv"
    folder.mkdir(parents=True)
    monkeypatch.setenv("JOURNEYLAB_RUN_FOLDER", str(folder))
    return folder


def results(folder):
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))


def test_a_notebook_knows_whether_a_run_keeps_its_files(own, monkeypatch):
    assert in_run()
    monkeypatch.delenv("JOURNEYLAB_RUN_FOLDER")
    assert not in_run()


def test_numbers_are_finite_plain_and_rounded_to_twelve_digits(own):
    record("third", np.float64(1) / 3)
    record("large", 123456789.123456789)
    record("zero", -0.0)
    record("count", np.int64(7))
    record("yes", np.bool_(True))
    record("money", Decimal("12.50"))
    text = (own / "results.json").read_text()
    assert results(own) == {
        "third": 0.333333333333,
        "large": 123456789.123,
        "zero": 0.0,
        "count": 7,
        "yes": True,
        "money": 12.5,
    }
    assert '"zero": 0.0' in text
    assert list(results(own)) == sorted(results(own))


def test_an_estimate_is_kept_with_interval_level_and_unit(own):
    record("value", Estimate(2.0, 1.0, 3.0, "USD", 0.9))
    assert results(own)["value"] == {
        "value": 2.0,
        "ci_low": 1.0,
        "ci_high": 3.0,
        "level": 0.9,
        "unit": "USD",
    }


def test_a_mapping_may_be_nested_and_hold_estimates(own):
    record("bg_nbd", {"r": 0.243, "by": {"week": [1, 2.5]}, "p": Estimate(1, 0, 2, "USD")})
    assert results(own)["bg_nbd"]["by"] == {"week": [1, 2.5]}
    assert results(own)["bg_nbd"]["p"]["unit"] == "USD"


def test_equal_frames_give_equal_bytes_and_a_named_index_becomes_a_column(own):
    frame = pd.DataFrame({"clv": [1.5, 2.5]}, index=pd.Index(["a", "b"], name="customer_id"))
    record("one", frame)
    record("two", frame.copy())
    assert results(own)["one"] == {
        "table": "tables/one.parquet",
        "rows": 2,
        "columns": ["customer_id", "clv"],
    }
    one, two = ((own / "tables" / f"{name}.parquet").read_bytes() for name in ("one", "two"))
    assert one == two
    assert b"pandas" not in one
    assert list(frame.columns) == ["clv"]


def test_figures_are_the_same_bytes_every_time_and_keep_text_as_text(own, tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    def draw() -> Figure:
        figure = Figure()
        figure.add_subplot().plot([1, 2, 3], label="Kept")
        figure.axes[0].set_title("Finding")
        return figure

    record("curve", draw(), alt="A rising line")
    again = tmp_path / "again"
    again.mkdir()
    monkeypatch.setenv("JOURNEYLAB_RUN_FOLDER", str(again))
    record("curve", draw().axes[0], alt="A rising line")
    drawn = (own / "figures" / "curve.svg").read_bytes()
    assert drawn == (again / "figures" / "curve.svg").read_bytes()
    assert b">Finding</text>" in drawn
    assert b"<dc:date>" not in drawn
    assert results(own)["curve"] == {"figure": "figures/curve.svg", "alt": "A rising line"}


def test_above_five_thousand_marks_a_figure_is_a_png(own):
    from matplotlib.figure import Figure

    figure = Figure()
    figure.add_subplot().scatter(range(5_001), range(5_001))
    record("cloud", figure, alt="A cloud")
    assert results(own)["cloud"]["figure"] == "figures/cloud.png"
    assert (own / "figures" / "cloud.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", ["Value", "1st", "a-b", "", "a.b", "decision", "cautions", "é"])
def test_a_malformed_or_reserved_name_is_refused(own, name):
    with pytest.raises(ContractError, match="a record name"):
        record(name, 1)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), np.float64("-inf"), {"x": np.nan}])
def test_a_number_that_is_not_finite_is_refused(own, number):
    with pytest.raises(ContractError, match="must be finite"):
        record("value", number)


@pytest.mark.parametrize("value", [None, object(), {1: 2}, [1, 2], pd.NaT, b"x"])
def test_a_value_of_another_kind_is_refused(own, value):
    with pytest.raises(ContractError):
        record("value", value)
    assert not (own / "results.json").exists()


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame({"a": [1, 2]}, index=["x", "y"]),
        pd.DataFrame([[1, 2]], columns=["a", "a"]),
        pd.DataFrame([[1, 2]]),
    ],
)
def test_a_frame_that_would_lose_something_is_refused(own, frame):
    with pytest.raises(ContractError):
        record("table", frame)


def test_bands_are_kept_as_their_text_and_what_is_missing_stays_so(own):
    days = pd.Series([3, 40, None], name="days")
    bands = pd.cut(days, [0, 30, 90])
    record("cut", pd.DataFrame({"band": bands, "days": days}))
    record("bare", pd.DataFrame({"band": pd.Series(pd.array(bands.astype("interval")))}))
    record("grouped", days.groupby(bands.rename("band"), observed=True).sum())
    cut, bare, grouped = (
        pd.read_parquet(own / "tables" / f"{name}.parquet") for name in ("cut", "bare", "grouped")
    )
    assert cut["band"].tolist() == ["(0, 30]", "(30, 90]", None]
    assert bare["band"].iloc[0].startswith("(0")
    assert grouped["band"].tolist() == ["(0, 30]", "(30, 90]"]


def test_durations_and_periods_come_back_as_they_were(own):
    frame = pd.DataFrame(
        {
            "gap": pd.to_timedelta([1, 2], unit="D"),
            "month": pd.period_range("2024-01", periods=2, freq="M"),
        }
    )
    record("table", frame)
    back = pd.read_parquet(own / "tables" / "table.parquet")
    assert back["gap"].tolist() == frame["gap"].tolist()
    assert list(back["month"].astype(str)) == ["2024-01", "2024-02"]


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        (pd.Series([1 + 2j, 3j]), "complex128"),
        (pd.arrays.SparseArray([0, 1]), "Sparse"),
        (pd.Series([1, "a"]), "object"),
        (pd.Series([object(), object()]), "object"),
        (pd.Series([2**70, 1], dtype=object), "object"),
        (pd.Series([np.zeros((2, 2)), np.zeros((2, 2))]), "object"),
    ],
)
def test_a_column_that_cannot_be_kept_is_named_with_its_type_and_what_helps(own, column, kind):
    with pytest.raises(ContractError) as refusal:
        record("parts", pd.DataFrame({"fine": [1, 2], "odd": column}))
    for part in ("parts: ", f"column 'odd' of type {kind}", ".astype(str)"):
        assert part in str(refusal.value)
    assert not (own / "results.json").exists()


def test_an_index_that_is_called_like_a_column_is_refused_by_name(own):
    spend = pd.Series([1.0, 2.0], index=pd.Index(["a", "b"], name="spend"), name="spend")
    with pytest.raises(ContractError, match="spend_by: 'spend' names both a level of the index"):
        record("spend_by", spend)


def test_a_figure_needs_alt_text_and_nothing_else_takes_it(own):
    from matplotlib.figure import Figure

    with pytest.raises(ContractError, match="alt text"):
        record("curve", Figure())
    with pytest.raises(ContractError, match="only a figure"):
        record("value", 1, alt="One")


def test_a_name_is_recorded_once_and_a_notebook_decides_once(own):
    record("value", 1)
    decision("Go  on\nnow.")
    caution("Few data.")
    caution("Old data.")
    with pytest.raises(ContractError, match="recorded already"):
        record("value", 2)
    with pytest.raises(ContractError, match="second"):
        decision("Stop.")
    assert results(own) == {
        "value": 1,
        "decision": "Go on now.",
        "cautions": ["Few data.", "Old data."],
    }


def test_without_a_runner_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("JOURNEYLAB_RUN_FOLDER", raising=False)
    record("value", 1)
    record("value", 2)
    decision("Go on.")
    assert not list(tmp_path.iterdir())


def a_run(root, *entries):
    """A run as ``recorded`` finds it: entries of (instance, state, parameters, bindings)."""
    notebooks = [
        {
            "name": instance.split("--")[0].partition("_")[2],
            "instance": instance,
            "state": state,
            "parameters": parameters,
            "bindings": {name: parameters[name] for name in bindings},
        }
        for instance, state, parameters, bindings in entries
    ]
    root.mkdir(parents=True, exist_ok=True)
    (root / "manifest.json").write_text(json.dumps({"notebooks": notebooks}))


@pytest.fixture
def last_run(tmp_path, monkeypatch):
    """A project whose last run has clv in two instances and a failed churn."""
    run = tmp_path / "runs" / "r1"
    plain, bound = {"data": "cdnow", "n": 1}, {"data": "simulated", "n": 1}
    a_run(
        run,
        ("30_clv", "done", plain, []),
        ("30_clv--data-simulated", "done", bound, ["data"]),
        ("20_churn", "failed", {}, []),
    )
    for instance, value in (("30_clv", 1.0), ("30_clv--data-simulated", 2.0)):
        (run / instance).mkdir()
        monkeypatch.setenv("JOURNEYLAB_RUN_FOLDER", str(run / instance))
        record("value", Estimate(value, 0, 3, "USD"))
        record("table", pd.DataFrame({"a": [value]}))
        record("words", {"x": "y"})
    monkeypatch.delenv("JOURNEYLAB_RUN_FOLDER")
    (tmp_path / "runs" / "latest").symlink_to("r1")
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    return run


def test_recorded_gives_back_what_the_last_run_recorded(last_run):
    assert recorded("@clv/value") == Estimate(1.0, 0, 3, "USD")
    assert recorded("@clv(data=simulated)/value").value == 2.0
    assert recorded("@clv(data=cdnow, n=1)/value").value == 1.0
    assert recorded("@clv/table")["a"].tolist() == [1.0]
    assert recorded("@clv/words") == {"x": "y"}


def test_latest_may_be_a_file_with_the_name_of_the_run(last_run):
    latest = last_run.parent / "latest"
    latest.unlink()
    latest.write_text("r1\n")
    assert recorded("@clv/value").value == 1.0


@pytest.mark.parametrize(
    ("reference", "complaint"),
    [
        ("@clv/valeu", "did you mean 'value'"),
        ("@uplift/effect", "no such notebook"),
        ("@clv(data=other)/value", "no such notebook"),
        ("@churn/risk", "20_churn is failed"),
    ],
)
def test_what_is_missing_is_named_or_none_when_optional(last_run, reference, complaint):
    with pytest.raises(RunError, match=complaint):
        recorded(reference)
    assert recorded(reference + "?") is None


def test_before_the_first_run_nothing_is_recorded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RunError, match="journeylab run clv"):
        recorded("@clv/value")
    assert recorded("@clv/value?") is None


def test_under_the_runner_a_reference_must_stand_in_the_parameters(last_run, monkeypatch):
    entries = json.loads((last_run / "manifest.json").read_text())["notebooks"]
    own = entries[0] | {
        "name": "touches",
        "instance": "70_touches",
        "parameters": {"worth": "@clv/value"},
    }
    (last_run / "manifest.json").write_text(json.dumps({"notebooks": [*entries, own]}))
    monkeypatch.setenv("JOURNEYLAB_RUN_ROOT", str(last_run))
    monkeypatch.setenv("JOURNEYLAB_RUN_FOLDER", str(last_run / "70_touches"))
    assert recorded("@clv/value").value == 1.0
    with pytest.raises(RunError, match="parameters cell"):
        recorded("@clv/words")


class _FakeFit:
    """A <fitted> model.

    Nothing more.
    """

    def summary(self) -> pd.DataFrame:
        return pd.DataFrame({"<b>": ["<i>"]})


def test_a_result_is_shown_as_one_line_of_reading_and_an_escaped_table(monkeypatch):
    assert _result_html(_FakeFit()) is None
    monkeypatch.setattr(_FakeFit, "__module__", "journeylab.fake")
    shown = _result_html(_FakeFit())
    assert shown.startswith("<p>A &lt;fitted&gt; model.</p>")
    assert "&lt;i&gt;" in shown
    assert "<i>" not in shown


def test_an_estimate_reads_as_one_line():
    assert estimate_text(1234.5, 0.12345, 2e6, 0.95, "USD") == (
        "1,234 USD (95 % interval 0.1235 to 2,000,000)"
    )


@pytest.mark.parametrize(
    "text",
    [
        "x" * 2_000_000,
        "/ipykernel_" * 180_000,
        "a/ipykernel_1/2.py" * 110_000,
        "data:" * 400_000,
        "\x1b]" * 700_000,
        "://x" * 500_000,
    ],
)
def test_scrubbing_two_megabytes_without_a_blank_takes_seconds_at_most(tmp_path, text):
    scrubber = Scrubber(tmp_path / "runs" / "r1", tmp_path, {})
    started = time.process_time()
    scrubber.text(without_terminal_codes(text))
    assert time.process_time() - started < 4


def test_scrubbing_leaves_encoded_pictures_alone_and_words_around_them_not(tmp_path):
    picture = f"data:image/png;base64,AAAA{tmp_path}/AAAA"
    scrubber = Scrubber(tmp_path / "runs" / "r1", tmp_path, {})
    assert scrubber.text(f"{tmp_path}/a {picture} {tmp_path}/b") == f"a {picture} b"
    assert without_terminal_codes(f"\x1b[1;32m{tmp_path}\x1b[?25l\x1b]8;;x\x07") == str(tmp_path)


def test_scrubbing_shortens_this_machines_folders_and_leaves_the_rest(tmp_path):
    run = tmp_path / "runs" / "r1"
    scrubber = Scrubber(run, tmp_path, {"/srv/x/orders.csv": "orders.csv"})
    assert scrubber.text(f"{run}/30_clv/a.csv and {tmp_path}/b") == "30_clv/a.csv and b"
    assert scrubber.text("read '/srv/x/orders.csv'") == "read 'orders.csv'"
    assert scrubber.text("/tmp/ipykernel_77/123.py:1: W") == "<cell>:1: W"
    assert scrubber.text(f"https://example.org{tmp_path}/x") == f"https://example.org{tmp_path}/x"
    assert scrubber.text("postgres://u:p@h/d") == "postgres://***@h/d"
    assert scrubber.tree({"a": [str(tmp_path)], "n": 1}) == {"a": ["."], "n": 1}


def test_a_record_says_where_it_was_written(own, monkeypatch):
    shown = []
    monkeypatch.setattr(
        "journeylab.runs.recording.show", lambda entry, bundle: shown.append(bundle)
    )
    record("value", 1)
    record("table", pd.DataFrame({"a": [1]}))
    monkeypatch.delenv("JOURNEYLAB_RUN_FOLDER")
    record("value", 1)
    said = [bundle["text/html"].partition("<small>")[2] for bundle in shown]
    assert said == [
        "value is kept in results.json of run/30_clv</small></p>",
        "table is kept in results.json and tables/table.parquet of run/30_clv</small></p>",
        "value is shown and not kept: journeylab run keeps it</small></p>",
    ]


def test_a_figure_says_where_it_was_written_in_an_output_of_its_own(own, monkeypatch):
    from matplotlib.figure import Figure

    said = []
    monkeypatch.setattr("journeylab.runs.recording.show", lambda *shown: said.append(shown))
    record("curve", Figure(), alt="Nothing")
    (_, drawn), (entry, note) = said
    assert entry == {"name": "curve", "kind": "note"}
    assert note["text/plain"].startswith("curve is kept in results.json and figures/curve.svg of ")
    # JupyterLab would show text in place of the drawing
    assert "text/html" not in drawn


def test_units_of_columns_are_kept_for_the_page_and_the_numbers_stay_as_given(own):
    frame = pd.DataFrame({"share": [0.25], "gap": [3.5]})
    record("waits", frame, units={"share": "share", "gap": "days"})
    kept = results(own)["waits"]
    assert kept["units"] == {"share": "share", "gap": "days"}
    assert pd.read_parquet(own / kept["table"]).equals(frame)
    with pytest.raises(ContractError, match="units= names 'days', which the frame lacks"):
        record("lacking", frame, units={"days": "days"})
    with pytest.raises(ContractError, match="units= is for frames"):
        record("number", 4, units={})


def test_columns_of_people_and_what_a_figure_draws_are_kept_for_sharing(own):
    from matplotlib.figure import Figure

    record("segments", pd.DataFrame({"s": ["a"], "buyers": [4]}), people="buyers")
    record("none", pd.DataFrame({"n": [4]}), people=())
    record("one", Figure(), alt="One", table="segments")
    record("two", Figure(), alt="Two", table=["segments", "none"])
    record("free", Figure(), alt="Free", table=())
    kept = results(own)
    assert (kept["segments"]["people"], kept["none"]["people"]) == (["buyers"], [])
    assert [kept[name]["draws"] for name in ("one", "two", "free")] == [
        ["segments"], ["segments", "none"], [],
    ]  # fmt: skip
    with pytest.raises(ContractError, match="people= names 'n', which the frame lacks"):
        record("lacking", pd.DataFrame({"m": [4]}), people="n")
    with pytest.raises(ContractError, match="people= is for frames"):
        record("number", 4, people="n")
    with pytest.raises(ContractError, match="table= is for figures"):
        record("frame", pd.DataFrame({"m": [4]}), table="segments")
