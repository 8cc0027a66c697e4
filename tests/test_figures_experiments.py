"""Figures of a test's readout: every number stands where the table has it."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from journeylab.figures import experiments as figures
from journeylab.figures.style import ACCENT, GREYS, WARN, new_axes, new_panels


def texts(ax):
    return [text.get_text().replace("\xa0", " ") for text in ax.texts]


def names(ax):
    return [label.get_text().replace("\xa0", " ") for label in ax.get_yticklabels()]


def points(ax):
    """x -> colour of each marker."""
    return {
        float(line.get_xdata()[0]): to_hex(line.get_color())
        for line in ax.get_lines()
        if line.get_marker() == "o" and len(line.get_xdata()) == 1
    }


def boxes_apart(figure, artists):
    figure.draw_without_rendering()
    boxes = [artist.get_window_extent() for artist in artists]
    return not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[i + 1 :])


@pytest.fixture
def rows():
    return pd.DataFrame(
        {
            "metric": ["bought", "revenue", "visits"],
            "arm": "new",
            "relative": [0.12, -0.01, np.nan],
            "relative_low": [0.05, -0.06, np.nan],
            "relative_high": [0.19, 0.04, np.nan],
        }
    )


def test_the_forest_colours_what_leaves_out_zero_and_names_what_cannot_be_read(rows):
    figure, ax = new_axes(height=2.7)
    assert figures.forest(rows, ax, "It sells") is ax
    assert ax.get_title(loc="left") == "It sells"
    assert names(ax) == ["bought", "revenue", "visits"]
    assert points(ax) == {0.12: ACCENT.lower(), -0.01: GREYS[0].lower()}
    assert "nothing to read" in texts(ax)
    assert any(text.startswith("12 % (5 % to 19 %)") for text in texts(ax))
    assert boxes_apart(figure, ax.texts)


def test_the_forest_names_the_arm_where_there_are_several(rows):
    both = pd.concat([rows, rows.assign(arm="newer")], ignore_index=True)
    _, ax = new_axes(height=4)
    figures.forest(both, ax, "It sells")
    assert {"bought, new", "bought, newer"} <= set(names(ax))


def test_segments_say_how_many_customers_and_what_all_have_in_common():
    rows = pd.DataFrame(
        {
            "segment": ["ios", ""],
            "n": [500, 40],
            "n_control": [510, 45],
            "effect": [0.02, -0.01],
            "ci_low": [0.01, -0.06],
            "ci_high": [0.03, 0.04],
        }
    )
    figure, ax = new_axes(height=3)
    figures.segment_forest(rows, 0.018, ax, "Everywhere", unit="share")
    assert names(ax) == ["ios\n1,010 customers", "not known\n85 customers"]
    assert "all together" in texts(ax)
    assert any(line.get_xdata()[0] == 0.018 for line in ax.get_lines())
    assert any(text.startswith("2 (1 to 3)") for text in texts(ax))
    assert "percentage points" in ax.get_xlabel()
    assert boxes_apart(figure, ax.texts)


def test_a_path_shows_every_day_and_their_sum():
    daily = pd.DataFrame({"day": range(5), "effect": [5.0, 4, 3, 2, 1]})
    daily = daily.assign(ci_low=daily["effect"] - 1, ci_high=daily["effect"] + 1)
    summed = daily.assign(effect=daily["effect"].cumsum())
    _, panels = new_panels(2)
    left, right = figures.effect_path(daily, summed, panels, "It fades", unit="yuan")
    assert left.get_title(loc="left") == "It fades"
    assert left.get_ylabel() == "On that day, yuan"
    assert any(list(line.get_ydata()) == [5, 4, 3, 2, 1] for line in left.get_lines())
    assert any(list(line.get_ydata()) == [5, 9, 12, 14, 15] for line in right.get_lines())


@pytest.mark.parametrize("top", [10.0, 100_000.0])
def test_the_gap_is_turned_over_so_that_up_is_more(top):
    gap = pd.DataFrame({"value": [0.0, 1.0, top], "gap": [-0.02, -0.01, 0.0]})
    gap = gap.assign(ci_low=gap["gap"] - 0.01, ci_high=gap["gap"] + 0.01)
    _, ax = new_axes()
    figures.distribution_gap(gap, ax, "More buy", unit="yuan")
    assert any(list(line.get_ydata()) == [0.02, 0.01, 0.0] for line in ax.get_lines())
    assert ax.get_xscale() == ("linear" if top == 10 else "symlog")
    assert ax.get_xlabel() == "Amount, yuan"


def test_quantiles_without_an_interval_are_named_and_left_empty():
    effects = pd.DataFrame(
        {
            "quantile": [0.5, 0.99],
            "effect": [3.0, np.nan],
            "ci_low": [1.0, np.nan],
            "ci_high": [5.0, np.nan],
        }
    )
    _, ax = new_axes(height=2.5)
    figures.quantile_effects(effects, ax, "In the middle")
    assert names(ax) == ["50 %", "99 %"]
    assert list(points(ax)) == [3.0]
    assert "nothing to read" in texts(ax)


def test_a_slice_off_its_design_is_drawn_hollow():
    slices = pd.DataFrame(
        {
            "day": pd.to_datetime(["2025-05-01", "2025-05-02"]),
            "control": [500, 700],
            "new": [500, 300],
            "p_holm": [1.0, 1e-9],
        }
    )
    _, ax = new_axes(height=2.5)
    figures.split_by_slice(slices, {"control": 0.5, "new": 0.5}, ax, "One day is off")
    assert names(ax) == ["01 May", "02 May"]
    drawn = {
        float(line.get_xdata()[0]): (to_hex(line.get_color()), line.get_markerfacecolor())
        for line in ax.get_lines()
        if line.get_marker() == "o"
    }
    assert drawn[0.5] == (ACCENT.lower(), ACCENT)
    assert drawn[0.3] == (WARN.lower(), "white")
    # 3.29 standard errors of a share of 1,000 customers
    reach = 3.29 * np.sqrt(0.25 / 1000)
    grey = ax.collections[0].get_segments()[0]
    assert grey[:, 0] == pytest.approx([0.5 - reach, 0.5 + reach])
