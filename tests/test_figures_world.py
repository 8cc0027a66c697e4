import numpy as np
import pandas as pd
import pytest

from journeylab.figures import world as figures
from journeylab.figures.style import WARN, new_axes


@pytest.fixture
def ax():
    return new_axes()[1]


def title(ax):
    return ax.get_title(loc="left").replace("\n", " ")


def texts(ax):
    return [text.get_text().replace("\N{NO-BREAK SPACE}", " ") for text in ax.texts]


def drawn(ax, marker):
    """Where marks of a kind stand, as (x, y)."""
    return [
        (float(x), float(y))
        for line in ax.get_lines()
        if line.get_marker() == marker
        for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)
    ]


def key(ax):
    return [text.get_text() for legend in ax.figure.legends for text in legend.get_texts()]


def test_moments_stand_at_their_ratio_and_what_is_off_is_hollow(ax):
    moments = pd.DataFrame(
        {
            "moment": ["visit", "spend"], "unit": ["share", "currency"], "real": [0.1, 2.0],
            "world": [0.101, 5.0], "ratio": [1.01, 2.5], "ratio_low": [0.97, 2.0],
            "ratio_high": [1.05, 3.1],
        }
    )  # fmt: skip
    figures.moment_ratios(moments, ax, "One is off")
    assert title(ax) == "One is off"
    assert drawn(ax, "o") == [(1.01, 1.0), (2.5, 0.0)]
    faces = [line.get_markerfacecolor() for line in ax.get_lines() if line.get_marker() == "o"]
    assert faces[1] == "white"
    assert faces[0] != "white"
    assert "10.1 % (real 10 %)" in [text.replace("  ", " ") for text in texts(ax)]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["visit", "spend"]
    assert ax.get_xscale() == "log"
    assert "95 %" in ax.get_xlabel()


PEOPLE = pd.DataFrame(
    {
        "role": ["loyal", "left"], "customer_id": ["a", "b"], "city": ["上海", None],
        "orders": [2, 1], "joined_on": pd.to_datetime(["2024-05-01", "2025-02-01"]),
        "left_on": [pd.NaT, pd.Timestamp("2025-06-01")],
    }
)  # fmt: skip
HAPPENED = pd.DataFrame(
    [
        ("a", "2025-01-10", "order", None, None, 20.0),
        ("a", "2025-03-10", "order", None, None, 30.0),
        ("a", "2025-03-12", "feedback", None, None, 9.0),
        ("b", "2025-02-02", "order", None, None, 10.0),
        ("b", "2025-03-02", "touch", "voice", "failed", None),
        ("b", "2025-07-02", "touch", "voice", "answered", None),
        ("b", "2025-07-02", "withdrawn", "voice", None, None),
        ("b", "2025-05-02", "contact", None, None, None),
    ],
    columns=["customer_id", "day", "kind", "channel", "status", "value"],
).assign(day=lambda frame: pd.to_datetime(frame["day"]))


def test_lives_show_what_the_tables_hold_and_the_day_of_leaving(ax):
    figures.lives(PEOPLE, HAPPENED, "2025-01-06", "2026-01-04", ax, "One had left")
    orders = [at for at in drawn(ax, "o") if at[1] in (0.0, 1.0)]
    assert sorted(y for _, y in orders) == [0.0, 1.0, 1.0]
    voice = [line for line in ax.get_lines() if line.get_marker() == "^" and len(line.get_xdata())]
    assert sorted(line.get_markerfacecolor() == "white" for line in voice) == [False, True]
    assert all(y == pytest.approx(-0.25) for line in voice for y in line.get_ydata())
    assert len(drawn(ax, "x")) == 1
    assert len(drawn(ax, "X")) == 1
    assert "9" in texts(ax)
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert labels == ["loyal\n上海 · 2 orders", "left\n1 order"]
    # hidden from the day of leaving to the end, on the leaver's row only
    (hidden,) = [part for part in ax.collections if part.get_hatch()]
    box = hidden.get_paths()[0].get_extents()
    assert (box.y0, box.y1) == pytest.approx((-0.42, 0.42))
    assert box.x1 - box.x0 == pytest.approx(218)
    assert {"voice", "order", "has left, unseen"} <= set(key(ax))
    assert "sms" not in key(ax)


def test_the_funnel_shows_true_observed_and_hasty(ax):
    steps = pd.DataFrame(
        {
            "step": ["added_to_chat", "second_order"], "of": ["reached", "first_order"],
            "people": [100, 0], "observed": [0.6, np.nan], "ci_low": [0.5, np.nan],
            "ci_high": [0.7, np.nan], "hasty": [0.55, 0.2], "true": [0.62, 0.5],
        }
    )  # fmt: skip
    figures.funnel(steps, ax, "Second order: too early to tell")
    assert (0.6, 1.0) in drawn(ax, "o")
    assert [x for x, _ in drawn(ax, "v")] == [0.55, 0.2]
    assert [bar.get_width() for bar in ax.patches] == [0.62, 0.5]
    assert "60 %, true 62 %" in texts(ax)
    assert "none closed, true 50 %" in texts(ax)
    assert ax.get_yticklabels()[0].get_text() == "added to chat\nof reached"
    assert ax.get_xlim()[0] == 0


def test_silence_shows_who_is_a_customer_still(ax):
    bands = pd.DataFrame(
        {"days_silent": ["up to 30", "31 to 60"], "customers": [1200, 40], "still": [0.97, 0.4],
         "ci_low": [0.95, 0.3], "ci_high": [0.98, 0.5]}
    )  # fmt: skip
    figures.silence(bands, ax, "40 % are customers still")
    heights = [bar.get_height() for bar in ax.patches]
    assert heights == pytest.approx([0.97, 0.4, 0.03, 0.6])
    assert ax.get_xticklabels()[0].get_text() == "up to 30\n1,200"
    assert {"97 %", "40 %"} <= set(texts(ax))


def test_hasty_effects_stand_apart_from_the_truth(ax):
    effects = pd.DataFrame(
        {"channel": ["chat", "sms"], "touches": [1000, 50], "hasty": [0.17, 0.16],
         "ci_low": [0.15, 0.1], "ci_high": [0.19, 0.2], "true": [0.012, -0.003]}
    )  # fmt: skip
    figures.hasty_effects(effects, ax, "Chat looks 14 times as good")
    assert drawn(ax, "o") == [(0.17, 1.0), (0.16, 0.0)]
    assert [x for x, _ in drawn(ax, "D")] == [0.012, -0.003]
    assert "+17.0, true +1.2" in texts(ax)
    assert "+16.0, true −0.3" in texts(ax)
    assert ax.get_yticklabels()[0].get_text() == "chat\n1,000 touches"


def test_a_test_with_a_broken_split_warns(ax):
    tests = pd.DataFrame(
        {"test": ["page", "checkout"], "arm": ["new", "new"], "people": [10, 10],
         "effect": [0.01, 0.004], "ci_low": [0.0, -0.01], "ci_high": [0.02, 0.02],
         "true": [0.009, 0.003], "split_p": [0.4, 1e-9]}
    )  # fmt: skip
    figures.experiments(tests, ax, "1 of 2 hold")
    assert sorted(drawn(ax, "o")) == [(0.004, 0.0), (0.01, 1.0)]
    assert sorted(x for x, _ in drawn(ax, "D")) == [0.003, 0.009]
    broken = [text for text in ax.texts if "split is broken" in text.get_text()]
    assert [text.get_color() for text in broken] == [WARN]
    assert "percentage points" in ax.get_xlabel()


def test_figures_leave_their_input_alone(ax):
    people, happened = PEOPLE.copy(), HAPPENED.copy()
    figures.lives(people, happened, "2025-01-06", "2026-01-04", ax, "One had left")
    pd.testing.assert_frame_equal(people, PEOPLE)
    pd.testing.assert_frame_equal(happened, HAPPENED)
