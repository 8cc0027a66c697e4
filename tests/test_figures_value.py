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
    assert title(ax) == "3 repeat purchases, then 16 quiet weeks: probably gone"
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


def test_weekly_counts_the_holdout_weeks_that_ran_low(ax):
    track = pd.DataFrame(
        {
            "week": [0.0, 1, 2, 2.4, 3, 4, 4.3],
            "expected": [0.0, 10, 20, 24, 30, 40, 43],
            "actual": [0, 12, 21, 22, 25, 40, 41],
            "holdout": [False, False, False, False, True, True, True],
        }
    )
    figures.weekly(track, ax, "MBG/NBD")
    assert title(ax) == "In 1 of 2 holdout weeks fewer purchases came than expected"
    assert {"holdout", "MBG/NBD\nexpected", "actual"} <= set(texts(ax))
    # Weeks are whole ones: neither the last day seen nor the last day of all counts as one.
    assert list(ax.get_lines()[0].get_ydata()) == [12, 9, 4, 15]


def test_by_spend_says_how_many_groups_are_hit(ax):
    groups = pd.DataFrame(
        {
            "customers": [10, 10, 10],
            "expected": [20.0, 30.0, 50.0],
            "actual": [25.0, 31.0, 48.0],
            "actual_low": [22.0, 28.0, 40.0],
            "actual_high": [28.0, 34.0, 56.0],
        }
    )
    figures.by_spend(groups, ax, "EUR")
    assert title(ax) == "Expected spend lies within the interval in 2 of 3 groups"
    assert ax.get_xlabel() == "Expected spend per purchase, EUR"
    assert "as expected" in texts(ax)


def test_deciles_name_each_share_and_how_far_the_first_is_ahead(ax):
    table = pd.DataFrame(
        {
            "decile": [1, 2, 3],
            "customers": [5, 5, 5],
            "value_mean": [60.0, 20.0, 0.0],
            "share": [0.75, 0.25, 0.0],
        }
    )
    figures.deciles(table, ax)
    assert title(ax) == "A customer of the first tenth is worth 3.0 times one of the second"
    assert {"75 %", "25 %", "0 %"} <= set(texts(ax))


def test_payback_counts_channels_that_surely_repay(ax):
    curve = pd.DataFrame(
        {
            "channel": ["ads", "ads", "search", "search"],
            "month": [0, 1, 0, 1],
            "net": [-5.0, 4.0, -8.0, 1.0],
            "net_low": [-6.0, 2.0, -9.0, -1.0],
            "net_high": [-4.0, 6.0, -7.0, 3.0],
        }
    )
    figures.payback(curve, ax, "EUR")
    assert title(ax) == "1 of 2 channels surely repay their customers by month 1"
    assert {"ads", "search"} <= set(texts(ax))


def test_marginal_cost_marks_today_and_counts_the_dear_ones(ax):
    curves = pd.DataFrame(
        {
            "channel": ["ads", "ads", "search", "search"],
            "cost": [100.0, 200.0, 50.0, 400.0],
            "marginal": [8.0, 12.0, 3.0, 4.0],
        }
    )
    now = pd.DataFrame(
        {
            "channel": ["ads", "search"],
            "at_cost": [200.0, 50.0],
            "average": [9.0, 5.0],
            "marginal": [12.0, 3.0],
            "marginal_low": [10.0, 2.0],
            "marginal_high": [15.0, 4.0],
        }
    )
    figures.marginal_cost(curves, now, ax)
    assert title(ax) == "In 1 of 2 channels one more customer costs more than the average"
    assert {"ads", "search"} <= set(texts(ax))
    assert (10.0, 15.0) in [tuple(line.get_ydata()) for line in ax.get_lines()]
