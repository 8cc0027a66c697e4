"""Figures of the uplift topic draw the numbers they are given."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from journeylab.figures import uplift as figures
from journeylab.figures.style import new_axes


@pytest.fixture
def ax():
    _, axes = new_axes()
    yield axes
    plt.close("all")


def texts(ax):
    return [text.get_text() for text in ax.texts]


def test_intervals_name_each_row_and_write_no_minus_nought(ax):
    table = pd.DataFrame(
        {
            "arm": ["sms", "voice"],
            "effect": [-0.0001, 0.25],
            "ci_low": [-0.11, 0.05],
            "ci_high": [0.11, 0.45],
        }
    )
    figures.intervals(table, ax, "voice helps", follow=["voice"])
    assert texts(ax) == ["0.000 (−0.110 to 0.110)", "0.250 (0.050 to 0.450)"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["sms", "voice"]
    assert ax.get_xlim()[0] < -0.11


def curve(n=20):
    share = np.arange(1, n + 1) / n
    toc = 1 - share
    return pd.DataFrame(
        {
            "share": share,
            "toc": toc,
            "ci_low": toc - 0.2 / share,
            "ci_high": toc + 0.2 / share,
            "band_low": toc - 0.3 / share,
            "band_high": toc + 0.3 / share,
        }
    )


def test_the_curve_is_scaled_by_what_is_known_and_labelled_at_its_end(ax):
    figures.targeting_curve(curve(), ax, "The first are changed more")
    ax.figure.canvas.draw()
    assert ax.get_ylim()[1] < 5  # the band of the first share reaches 6.9
    assert {"by the\nranking", "by chance"} <= set(texts(ax))
    line = ax.get_lines()[0]
    assert line.get_ydata()[0] == pytest.approx(0.95)


def test_groups_outside_their_interval_are_hollow_and_said_to_be(ax):
    table = pd.DataFrame(
        {
            "predicted": [0.1, 0.5],
            "effect": [0.1, 0.9],
            "ci_low": [0.0, 0.7],
            "ci_high": [0.2, 1.1],
            "inside": [True, False],
        }
    )
    figures.calibration(table, ax, "Larger than predicted")
    assert any("hollow" in text for text in texts(ax))
    hollow = [line for line in ax.get_lines() if line.get_markerfacecolor() == "white"]
    assert list(hollow[0].get_xdata()) == [0.5]


def test_pairs_of_groups_keep_the_order_of_the_fullest_line(ax):
    table = pd.DataFrame(
        {
            "baseline_group": ["low baseline"] * 2 + ["high baseline"] * 3,
            "effect_group": [
                "low effect",
                "high effect",
                "low effect",
                "middle effect",
                "high effect",
            ],
            "effect": [0.1, 0.2, 0.3, 0.4, 0.5],
            "ci_low": [0.0, 0.1, 0.2, 0.3, 0.4],
            "ci_high": [0.2, 0.3, 0.4, 0.5, 0.6],
        }
    )
    figures.groups(table, ax, "High baseline is changed more")
    ticks = [label.get_text() for label in ax.get_xticklabels()]
    assert ticks == ["low effect", "middle effect", "high effect"]


def test_contributions_and_balance_put_the_largest_on_top(ax):
    moved = pd.DataFrame({"covariate": ["days_since_last", "age"], "size": [0.3, 0.1]})
    figures.contributions(moved, ax, "Recency moves most")
    assert ax.get_yticklabels()[0].get_text() == "days since last"
    _, other = new_axes()
    balance = pd.DataFrame(
        {
            "covariate": ["a", "b"],
            "arm": ["mail", "mail"],
            "difference": [0.2, 0.01],
            "standard_error": [0.02, 0.02],
        }
    )
    figures.balance(balance, other, "Not by chance")
    # one marker for what lies in the range of chance, another for what does not
    marks = [line.get_marker() for line in other.get_lines() if len(line.get_xdata()) == 1]
    assert marks == ["o", "D"]
