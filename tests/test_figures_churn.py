from io import StringIO

import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text

from journeylab.figures import churn as figures
from journeylab.figures.style import ACCENT, WARN, new_axes


@pytest.fixture
def curves():
    days = np.arange(0, 91)
    parts = [
        pd.DataFrame(
            {
                "segment": segment,
                "time": days,
                "survival": np.exp(-rate * days),
                "ci_low": np.exp(-rate * days) * 0.95,
                "ci_high": np.minimum(np.exp(-rate * days) * 1.05, 1),
            }
        )
        for segment, rate in (("0-6", 0.05), ("7-29", 0.049), ("30+", 0.01))
    ]
    return pd.concat(parts, ignore_index=True)


@pytest.fixture
def waiting():
    return pd.DataFrame(
        {"segment": ["0-6", "7-29", "30+"], "day_0": [4069, 50, 9], "day_30": [221, 5, 7]}
    )


def texts(ax):
    return [text.get_text() for text in ax.texts]


def test_each_segment_has_a_line_a_label_and_its_counts(curves, waiting):
    _, ax = new_axes(height=5)
    returned = figures.survival_by_segment(
        curves, waiting, ax, "They come back", unit="days silent"
    )
    assert returned is ax
    assert ax.get_title(loc="left") == "They come back"
    shown = texts(ax)
    for segment in ("0-6", "7-29", "30+"):
        assert f"{segment} days silent" in shown
    assert {"4,069", "221", "50", "9"} <= set(shown)
    assert "Days after" in ax.get_xlabel()
    line = next(line for line in ax.get_lines() if len(line.get_xdata()) == 91)
    assert line.get_ydata()[30] == pytest.approx(np.exp(-0.05 * 30))


def test_labels_of_neighbouring_curves_do_not_overlap(curves, waiting):
    figure, ax = new_axes(height=5)
    figures.survival_by_segment(curves, waiting, ax, "They come back", unit="days silent")
    figure.draw_without_rendering()
    boxes = [
        # of the text alone: an annotation's own extent holds its leader line too
        Text.get_window_extent(text)
        for text in ax.texts
        if text.get_text().endswith("days silent")
    ]
    assert len(boxes) == 3
    for i, one in enumerate(boxes):
        assert not any(one.overlaps(other) for other in boxes[i + 1 :])


def test_the_counts_stand_below_the_axis_name_and_inside_the_figure(curves, waiting):
    figure, ax = new_axes(height=5)
    figures.survival_by_segment(curves, waiting, ax, "They come back")
    figure.draw_without_rendering()
    name = ax.xaxis.label.get_window_extent()
    counts = [text.get_window_extent() for text in ax.texts if text.get_text() in ("4,069", "9")]
    assert all(0 <= box.y0 < box.y1 < name.y0 for box in counts)


def test_one_segment_is_drawn_too(curves, waiting):
    _, ax = new_axes()
    own = curves[curves["segment"] == "30+"]
    figures.survival_by_segment(own, waiting.iloc[2:], ax, "One")
    assert "30+" in texts(ax)


def test_hazard_ratios_stand_on_a_log_axis_around_one():
    table = pd.DataFrame(
        {
            "covariate": ["days_since_last", "frequency"],
            "per": ["doubling", "doubling"],
            "hazard_ratio": [0.89, 1.6],
            "ci_low": [0.87, 1.55],
            "ci_high": [0.91, 1.66],
        }
    )
    _, ax = new_axes(height=3)
    figures.hazard_ratios(table, ax, "Frequency matters")
    assert ax.get_xscale() == "log"
    low, high = ax.get_xlim()
    assert low * high == pytest.approx(1)
    assert high > 1.66
    assert [t.get_text() for t in ax.get_yticklabels()] == [
        "days since last\nper doubling",
        "frequency\nper doubling",
    ]
    assert "1.60 (1.55 to 1.66)" in texts(ax)


def test_groups_outside_their_interval_are_hollow_and_explained():
    table = pd.DataFrame(
        {
            "predicted": [0.1, 0.5],
            "observed": [0.12, 0.8],
            "ci_low": [0.08, 0.7],
            "ci_high": [0.18, 0.9],
            "inside": [True, False],
        }
    )
    _, ax = new_axes()
    figures.calibration(table, ax, "Too low")
    hollow = [line for line in ax.get_lines() if line.get_markerfacecolor() == "white"]
    assert [line.get_color() for line in hollow] == [WARN]
    assert any("hollow" in text for text in texts(ax))
    _, clean = new_axes()
    figures.calibration(table.iloc[:1], clean, "As predicted")
    assert not any("hollow" in text for text in texts(clean))


def test_the_followed_list_is_accented_and_an_empty_one_left_out():
    table = pd.DataFrame(
        {
            "list": ["quiet", "nobody", "everybody"],
            "customers": [134, 0, 2447],
            "no_purchase": [0.25, np.nan, 0.16],
            "ci_low": [0.18, np.nan, 0.15],
            "ci_high": [0.33, np.nan, 0.18],
        }
    )
    _, ax = new_axes(height=3)
    figures.list_outcomes(table, ax, "Quiet ones stay away", follow="quiet")
    assert [t.get_text() for t in ax.get_yticklabels()] == ["quiet", "everybody"]
    accented = [text for text in ax.texts if text.get_color() == ACCENT]
    assert [text.get_text() for text in accented] == ["25\N{NO-BREAK SPACE}% of 134"]


def test_waits_are_read_off_where_asked():
    days = np.arange(0, 201)
    curve = pd.DataFrame({"time": days, "survival": np.exp(-0.02 * days)})
    _, ax = new_axes()
    figures.waiting_curve(curve, [30, 60, 90], ax, "Most come back")
    assert {"54.9\N{NO-BREAK SPACE}%", "30.1\N{NO-BREAK SPACE}%"} <= set(texts(ax))
    assert ax.get_xlim() == (0, 180)
    assert "Days since" in ax.get_xlabel()


def scored():
    parts = []
    for model, brier, auc in (
        ("hazard", 0.1, 0.8),
        ("Cox", 0.101, 0.79),
        ("Kaplan-Meier", 0.2, np.nan),
    ):
        for time in (7.0, 30.0, 60.0, 90.0):
            row = {"model": model, "time": time, "brier": brier + time / 1000, "auc": auc}
            for metric in ("brier", "auc"):
                row |= {f"{metric}_low": row[metric] - 0.01, f"{metric}_high": row[metric] + 0.01}
            parts.append(row)
    return pd.DataFrame(parts)


@pytest.mark.parametrize(("metric", "drawn"), [("brier", 3), ("auc", 2)])
def test_scores_through_time_follow_one_forecast_and_leave_out_what_is_empty(metric, drawn):
    figure, ax = new_axes()
    figures.score_by_time(scored(), metric, ax, "Better than one share for all")
    own = [line for line in ax.get_lines() if len(line.get_xdata()) == 4]
    assert len(own) == drawn
    assert own[0].get_color() == ACCENT
    names = ["hazard", "Cox", "Kaplan-Meier"][:drawn]
    assert sorted(texts(ax)[-drawn:]) == sorted(names)
    assert 90 in ax.get_xticks()
    figure.draw_without_rendering()
    boxes = [Text.get_window_extent(text) for text in ax.texts if text.get_text() in names]
    for i, one in enumerate(boxes):
        assert not any(one.overlaps(other) for other in boxes[i + 1 :])


def test_the_hazard_has_a_line_per_kind_of_customer():
    shape = pd.DataFrame(
        {"group": ["low"] * 3 + ["high"] * 3, "time": [7, 30, 90] * 2, "hazard": [1, 1, 1, 3, 2, 1]}
    )
    _, ax = new_axes()
    figures.hazard_through_time(shape, ax, "It falls")
    assert {"low", "high"} <= set(texts(ax))
    assert ax.get_ylim()[0] == 0
    assert ax.get_ylim()[1] > 3


def test_the_map_of_reasons_prints_every_size_readably():
    size = pd.DataFrame([[0.4, 0.3], [0.01, 0.15]], ["days_since_last", "spend"], [30.0, 90.0])
    _, ax = new_axes()
    figures.reasons_map(size, ax, "Silence matters most")
    shown = {text.get_text(): text.get_color() for text in ax.texts}
    assert (shown["0.40"], shown["0.15"]) == ("white", "white")
    assert shown["0.01"] != "white"
    assert [t.get_text() for t in ax.get_yticklabels()] == ["days since last", "spend"]
    assert [t.get_text() for t in ax.get_xticklabels()] == ["30", "90"]


def test_skill_by_origin_stands_in_the_order_of_days():
    table = pd.DataFrame(
        {
            "origin": ["2024-01-01"] * 3 + ["2024-02-01"] * 3,
            "model": ["hazard", "Cox", "Kaplan-Meier"] * 2,
            "skill": [0.3, 0.2, 0, 0.25, 0.2, 0],
            "skill_low": [0.25, 0.1, 0, 0.2, 0.1, 0],
            "skill_high": [0.35, 0.3, 0, 0.3, 0.3, 0],
        }
    )
    _, ax = new_axes()
    figures.skill_by_origin(table, ax, "On both days")
    assert [t.get_text() for t in ax.get_yticklabels()] == ["2024-02-01", "2024-01-01"]
    assert not any("Kaplan" in text for text in texts(ax))
    assert any(text.startswith("hazard") and "30" in text for text in texts(ax))


def test_the_same_result_gives_the_same_bytes(curves, waiting):
    def drawn():
        figure, ax = new_axes(height=5)
        figures.survival_by_segment(curves, waiting, ax, "They come back")
        buffer = StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
        return buffer.getvalue()

    first = drawn()
    assert first == drawn()
    assert "They come back" in first
