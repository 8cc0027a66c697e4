"""The house style: labels that never overlap, Chinese that renders, the same bytes."""

import logging
import warnings
from datetime import date
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_rgb
from matplotlib.text import Text

from journeylab.figures import style


def boxes(figure, annotations):
    figure.draw_without_rendering()
    # of the text alone: an annotation's own extent takes in the line that leads to it
    return [Text.get_window_extent(annotation) for annotation in annotations]


@pytest.mark.parametrize("ends", [[100, 101, 102, 103], [0, 0, 0], [200, 100, 0], [200, 199, 198]])
@pytest.mark.parametrize("scale", ["linear", "log"])
def test_labels_at_line_ends_never_overlap_and_keep_their_order(ends, scale):
    figure, ax = style.new_axes()
    for number, end in enumerate(ends):
        ax.plot([0, 10], [50, end + 1], label=f"line {number} of several")
    ax.set(yscale=scale, ylim=(1, 220))
    placed = boxes(figure, style.label_lines(ax))
    by_height = sorted(placed, key=lambda box: box.y0)
    assert all(low.y1 <= high.y0 + 0.5 for low, high in pairwise(by_height))
    order = np.argsort(ends, kind="stable")
    assert [placed[at].y0 for at in order] == sorted(box.y0 for box in placed)
    assert all(box.x1 <= figure.bbox.width for box in placed)


@given(st.lists(st.floats(0, 100), min_size=1, max_size=6))
def test_moving_labels_apart_moves_none_that_stands_free(wanted):
    wanted = np.array(wanted)
    placed = style._apart(wanted, np.full(len(wanted), 10.0), -1000, 1000)
    gaps = np.diff(np.sort(placed))
    assert (gaps >= 10 - 1e-9).all()
    if len(wanted) < 2 or np.diff(np.sort(wanted)).min() >= 10:
        assert placed == pytest.approx(wanted)
    assert placed.mean() == pytest.approx(wanted.mean(), abs=1e-9)


def test_chinese_texts_render_without_a_missing_glyph_and_fonts_are_found_silently(caplog):
    families = style.house_style()["font.family"]
    if not any("CJK" in f or "Source Han" in f or "PingFang" in f for f in families):
        pytest.skip("no CJK font is installed")
    with warnings.catch_warnings(), caplog.at_level(logging.WARNING, logger="matplotlib"):
        warnings.simplefilter("error")
        figure, ax = style.new_axes()
        ax.plot([0, 1], [0, 1], label="模型")
        ax.set(xlabel="周", ylabel="复购次数")
        ax.text(0.5, 0.5, "留出期")
        style.finding(ax, "模型低估了 173 次购买", "每周累计")
        style.label_lines(ax)
        figure.canvas.draw()
    assert not caplog.records


def test_shading_takes_dates_and_numbers_and_names_the_stretch():
    _, ax = style.new_axes()
    ax.plot([date(1997, 1, 1), date(1998, 6, 30)], [0, 1])
    style.shade(ax, date(1997, 10, 1), date(1998, 6, 30), "holdout")
    assert [text.get_text() for text in ax.texts] == ["holdout"]


@pytest.mark.parametrize(
    ("value", "shown"),
    [(1234567, "1,234,567"), (-1500, "−1,500"), (0.25, "0.25"), (0, "0"), (-0.0000001, "0")],
)
def test_thousands_are_separated(value, shown):
    assert style.thousands(value) == shown


@pytest.mark.parametrize(
    ("share", "shown"),
    [(0.125, "12.5\xa0%"), (1, "100\xa0%"), (0.07, "7\xa0%"), (-0.1, "−10\xa0%")],
)
def test_shares_read_as_per_cent(share, shown):
    assert style.percent(share) == shown


@pytest.mark.parametrize("color", [*style.CATEGORICAL, *style.GREYS, style.WARN, "#ffff00"])
def test_text_in_any_colour_is_readable_on_white(color):
    rgb = np.array(to_rgb(style.readable(color)))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    assert 1.05 / (linear @ [0.2126, 0.7152, 0.0722] + 0.05) >= 4.5 - 0.05


def test_long_findings_are_broken_into_lines():
    _, ax = style.new_axes()
    text = style.finding(ax, "The model " + "is low " * 20)
    assert max(map(len, text.get_text().split("\n"))) <= 66
