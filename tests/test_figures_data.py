from datetime import date
from io import StringIO

import numpy as np
import pandas as pd
import pytest
from matplotlib.dates import num2date

from journeylab.figures import data as figures
from journeylab.figures.style import ACCENT, WARN, new_axes


@pytest.fixture
def days():
    day = pd.date_range("2024-03-01", periods=60, name="day")
    rows = np.full(60, 100)
    rows[-2:] = [40, 10]
    low = np.full(60, np.nan)
    low[-14:] = 70.0
    expected = np.where(np.isnan(low), np.nan, 100.0)
    state = ["not judged"] * 46 + ["usual"] * 12 + ["low"] * 2
    return pd.DataFrame(
        {"day": day, "rows": rows, "expected": expected, "low": low, "state": state}
    )


def texts(ax):
    return [text.get_text() for text in ax.texts]


def drawn(figure):
    buffer = StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None}, bbox_inches="tight")
    return buffer.getvalue()


def test_the_incomplete_end_is_shaded_and_its_days_stand_out(days):
    figure, ax = new_axes(height=3.6)
    returned = figures.last_days(days, ax, "Two days", complete=date(2024, 4, 27))
    assert returned is ax
    (band,) = ax.patches
    begins = num2date(band.get_x())
    ends = num2date(band.get_x() + band.get_width())
    assert begins.date() == date(2024, 4, 27)
    assert begins.hour == 12
    assert ends.date() == date(2024, 4, 29)
    (low,) = [line for line in ax.get_lines() if line.get_color() == WARN]
    assert low.get_ydata().tolist() == [40, 10]
    assert {"incomplete", "expected", "least usual"} <= set(texts(ax))
    # a bounding box that leaves the page was seen with a date in an annotation
    box = figure.get_tightbbox()
    assert 6 < box.width < 9


def test_a_complete_end_is_not_shaded(days):
    for complete in (None, date(2024, 4, 29)):
        _, ax = new_axes()
        figures.last_days(days.assign(state="usual"), ax, "All there", complete=complete)
        assert not ax.patches
        assert "incomplete" not in texts(ax)


def test_days_that_were_not_judged_have_no_expectation(days):
    _, ax = new_axes()
    bare = days.assign(expected=np.nan, low=np.nan, state="not judged")
    figures.last_days(bare, ax, "Nobody knows")
    assert texts(ax) == []
    assert ax.get_ylim()[1] == pytest.approx(112)


def test_labels_of_close_lines_do_not_overlap(days):
    figure, ax = new_axes(height=3.6)
    figures.last_days(days.assign(low=days["expected"] - 2), ax, "Close")
    figure.draw_without_rendering()
    boxes = [t.get_window_extent() for t in ax.texts if t.get_text() in ("expected", "least usual")]
    assert len(boxes) == 2
    heights = sorted((box.y0, box.y1) for box in boxes)
    assert heights[0][1] <= heights[1][0] + 1


def test_rows_over_time_begin_at_zero(days):
    _, ax = new_axes()
    figures.rows_over_time(days, ax, "Sixty days", what="Rows per day")
    assert ax.get_ylim()[0] == 0
    assert ax.get_ylabel() == "Rows per day"
    assert ax.get_lines()[0].get_ydata().tolist() == days["rows"].tolist()


def bins(edges):
    return pd.DataFrame({"low": edges[:-1], "high": edges[1:], "count": range(1, len(edges))})


def test_amounts_stand_on_a_log_axis_with_plain_ticks():
    figure, ax = new_axes(height=3.4)
    figures.amounts(bins([1, 10, 100, 1000, 20000]), ax, "Heavy", log=True, unit="CNY", middle=80.5)
    assert ax.get_xscale() == "log"
    assert "CNY (log scale)" in ax.get_xlabel()
    figure.draw_without_rendering()
    shown = [tick.get_text() for tick in ax.get_xticklabels()]
    assert {"10", "1,000", "10,000"} <= set(shown)
    assert "median 80.50" in texts(ax)
    assert [bar.get_height() for bar in ax.patches] == [1, 2, 3, 4]


def test_amounts_without_a_tail_stand_on_a_plain_axis():
    _, ax = new_axes()
    figures.amounts(bins([0, 10, 20, 30]), ax, "Even", unit="USD")
    assert ax.get_xscale() == "linear"
    assert ax.get_xlabel() == "Amount of an order, USD"
    assert texts(ax) == []


@pytest.mark.parametrize(("width", "name"), [(1, "Gaps"), (7, "Gaps per 7 days")])
def test_gaps_say_how_wide_a_bar_is(width, name):
    _, ax = new_axes()
    figures.gaps(bins([1 + width * at for at in range(9)]), ax, "Gaps", middle=2)
    assert ax.get_ylabel() == name
    # the bar of one day stands over its day
    assert ax.patches[0].get_x() == 0.5
    assert "median 2 days" in texts(ax)


def test_refusals_have_a_bar_and_a_number_each_in_chinese_too():
    table = pd.DataFrame(
        {"table": ["orders", "orders"], "reason": ["missing", "渠道"], "rows": [1200, 3]}
    )
    figure, ax = new_axes(height=2.5)
    figures.refusals(table, ax, "1,203 rows of 订单 were refused")
    names = [tick.get_text() for tick in ax.get_yticklabels()]
    assert names == ["orders: missing", "orders: 渠道"]
    assert texts(ax) == ["1,200", "3"]
    assert "订单" in drawn(figure)


def test_the_same_result_gives_the_same_bytes(days):
    pictures = []
    for _ in range(2):
        figure, ax = new_axes()
        figures.last_days(days, ax, "Two days", complete=date(2024, 4, 27))
        pictures.append(drawn(figure))
    assert pictures[0] == pictures[1]
    assert ACCENT in pictures[0]
