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
