import numpy as np
import pandas as pd
import pytest

from journeylab.estimate import Estimate
from journeylab.figures import value as figures
from journeylab.figures.style import new_axes


@pytest.fixture
def ax():
    return new_axes()[1]


def title(ax):
    return ax.get_title(loc="left").replace("\n", " ").replace("\N{NO-BREAK SPACE}", " ")


def texts(ax):
    return [text.get_text().replace("\N{NO-BREAK SPACE}", " ") for text in ax.texts]


def test_tracking_says_how_far_off_it_is(ax):
    track = pd.DataFrame(
        {
            "week": [0.0, 38.9, 77.9],
            "expected": [0.0, 2500.0, 4160.6],
            "actual": [0, 2457, 4339],
            "holdout": [False, False, True],
        }
    )
    figures.tracking(track, ax)
    assert title(ax) == "The model is 178 purchases low by week 78"
    assert "holdout: not seen by the model" in texts(ax)
    drawn = [line.get_ydata()[-1] for line in ax.get_lines()]
    assert 4339 in drawn
    assert 4160.6 in drawn
    assert "Weeks" in ax.get_xlabel()
    high = track.assign(expected=track["expected"] + 1000)
    assert "822 purchases high" in title(figures.tracking(high, new_axes()[1]))


def test_by_frequency_counts_the_groups_it_hits(ax):
    groups = pd.DataFrame(
        {
            "frequency": ["0", "1", "2+"],
            "customers": [1411, 439, 3],
            "actual": [0.2, 0.7, 1.4],
            "actual_low": [0.1, 0.6, 1.0],
            "actual_high": [0.3, 0.8, 1.8],
            "BG/NBD": [0.2, 0.5, 1.5],
            "last period": [0.0, 1.0, 2.0],
        }
    )
    figures.by_frequency(groups, ax)
    assert title(ax) == "The forecast lies within the interval in 2 of 3 groups"
    assert {"BG/NBD", "last period", "actual, 95 %"} <= set(texts(ax))
    assert ax.get_xticklabels()[0].get_text() == "0\n1,411"


def test_p_alive_map_reads_off_when_a_heavy_buyer_is_gone(ax):
    frequency, since = np.meshgrid([1, 2, 3], np.arange(0.0, 40, 2), indexing="ij")
    grid = pd.DataFrame({"frequency": frequency.ravel(), "since_last": since.ravel()})
    grid["p_alive"] = 1 / (1 + np.exp(0.2 * grid["frequency"] * (grid["since_last"] - 15)))
    grid["age"] = 40.0
    figures.p_alive_map(grid, ax)
    assert title(ax) == "3 repeat purchases, then 16 quiet weeks: more likely gone than not"
    always = grid.assign(p_alive=0.9)
    assert "more likely active" in title(figures.p_alive_map(always, new_axes()[1]))


def test_lorenz_marks_the_share_with_its_interval(ax):
    curve = pd.DataFrame({"customers": [0, 0.1, 0.5, 1], "value": [0, 0.63, 0.9, 1]})
    share = Estimate(0.632, 0.584, 0.676, "share")
    figures.lorenz(curve, 0.1, share, ax)
    assert title(ax) == "The top 10 % of customers hold 63 % of the value"
    assert "top 10 %: 63 % of the value\n(58 % to 68 %)" in texts(ax)
    heights = [tuple(line.get_ydata()) for line in ax.get_lines()]
    assert (0.584, 0.676) in heights


def test_figures_leave_their_input_alone(ax):
    curve = pd.DataFrame({"customers": [0.0, 1.0], "value": [0.0, 1.0]})
    before = curve.copy()
    figures.lorenz(curve, 0.1, Estimate(0.1, 0.1, 0.1, "share"), ax)
    pd.testing.assert_frame_equal(curve, before)
