"""Planted leaks are found, and honest frames pass."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

from journeylab import frames
from journeylab.churn import check_leaks
from journeylab.errors import ContractError
from journeylab.tables import collect, open_tables

GROCERY_DAYS = ["2017-04-01", "2017-07-01", "2017-10-01"]
CDNOW_DAYS = ["1997-06-30", "1997-09-30", "1998-01-01"]


def world(seed: int, customers: int = 900, landmarks: int = 3, **shape: float) -> pd.DataFrame:
    """Landmark rows of customers with their own rates, of whom some are gone.

    Args:
        seed: Of everything.
        customers: Each of them stands at every landmark.
        landmarks: 91 days apart.
        shape: ``gone``: share no longer buying (0.4); ``spread``: of the log of the rates (0.8).
    """
    draw = np.random.default_rng(seed)
    gone, spread = shape.get("gone", 0.4), shape.get("spread", 0.8)
    parts = []
    rate = np.exp(draw.normal(np.log(1 / 35), spread, customers))
    left = draw.random(customers) < gone
    spend = np.exp(draw.normal(3.5, 0.6, customers))
    for number in range(landmarks):
        silence = draw.exponential(1 / rate) + left * draw.exponential(150, customers)
        age = silence + draw.gamma(3, 120, customers)
        frequency = draw.poisson(rate * (age - silence))
        recency = np.where(frequency > 0, np.round(age - silence), 0)
        since = np.round(silence)
        wait = np.ceil(draw.exponential(1 / rate) + left * 1e4)
        landmark = pd.Timestamp("2024-01-10") + pd.Timedelta(days=91 * number)
        parts.append(
            pd.DataFrame(
                {
                    "landmark": landmark,
                    "customer_id": [f"c{place}" for place in range(customers)],
                    "days_since_last": since.astype(int),
                    "age_days": (since + recency).astype(int),
                    "recency_days": recency.astype(int),
                    "frequency": frequency,
                    "mean_gap_days": np.where(
                        frequency > 0, recency / np.maximum(frequency, 1), np.nan
                    ),
                    "spend": np.round(spend * (frequency + 1), 2),
                    "tier": np.select([frequency > 8, frequency > 3], ["gold", "silver"], "plain"),
                    "duration": np.minimum(np.maximum(wait, 1), 90).astype(int),
                    "event": (wait <= 90).astype(int),
                    "followed_until": landmark + pd.Timedelta(days=90),
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


@dataclass
class Plant:
    """One leak: what is done to a frame, what finds it, and in which column."""

    change: Callable[[pd.DataFrame, np.random.Generator], pd.DataFrame]
    check: str
    column: str
    options: Callable[[pd.DataFrame, np.random.Generator], dict[str, object]] = lambda f, d: {}


def with_column(build: Callable[[pd.DataFrame, np.random.Generator], object]):
    return lambda frame, draw: frame.assign(leak=build(frame, draw))


def _purchase_day(frame: pd.DataFrame) -> pd.Series:
    day = frame["landmark"] + pd.to_timedelta(frame["duration"], unit="D")
    return day.where(frame["event"] == 1)


def _ahead(days: int) -> Callable[[pd.DataFrame, np.random.Generator], object]:
    def count(frame: pd.DataFrame, draw: np.random.Generator) -> object:
        within = (frame["event"] == 1) & (frame["duration"] <= days)
        return np.where(within, 1 + draw.poisson(1.0, len(frame)), 0)

    return count


def _random_half(frame: pd.DataFrame, draw: np.random.Generator) -> dict[str, object]:
    return {"train": pd.Series(draw.random(len(frame)) < 0.7, frame.index)}


def _backwards(frame: pd.DataFrame, draw: np.random.Generator) -> dict[str, object]:
    return {"train": frame["landmark"] > frame["landmark"].min()}


GIVEN = "gives the event away"
LATE = "dated after the landmark"
PAST = "outcome after the cut"
PLANTS: dict[str, Plant] = {
    "a cause written only of those who bought": Plant(
        with_column(
            lambda f, d: np.where(f["event"] == 1, d.choice(["ad", "walk-in"], len(f)), None)
        ),
        GIVEN, "leak",
    ),
    "a reason for leaving known of some who stayed away": Plant(
        with_column(
            lambda f, d: np.where((f["event"] == 0) & (d.random(len(f)) < 0.5), "price", None)
        ),
        GIVEN, "leak",
    ),
    "a number missing exactly where censored": Plant(
        with_column(lambda f, d: np.where(f["event"] == 1, d.normal(size=len(f)), np.nan)),
        GIVEN, "leak",
    ),
    "a status with one value for leavers": Plant(
        with_column(
            lambda f, d: np.where((f["event"] == 0) & (d.random(len(f)) < 0.7), "closed", "open")
        ),
        GIVEN, "leak",
    ),
    "a sentinel of -1 where nothing came": Plant(
        with_column(lambda f, d: np.where(f["event"] == 1, d.integers(0, 50, len(f)), -1)),
        GIVEN, "leak",
    ),
    "the days to the next purchase": Plant(
        with_column(lambda f, d: f["duration"] + d.normal(0, 1.0, len(f))), GIVEN, "leak"
    ),
    "the outcome under another name, two in a hundred wrong": Plant(
        with_column(lambda f, d: np.where(d.random(len(f)) < 0.02, 1 - f["event"], f["event"])),
        GIVEN, "leak",
    ),
    "purchases of the next 30 days": Plant(with_column(_ahead(30)), GIVEN, "leak"),
    "purchases of the next 60 days": Plant(with_column(_ahead(60)), GIVEN, "leak"),
    "spend over the past and the horizon": Plant(
        with_column(lambda f, d: np.where(f["event"] == 1, 5000.0, 0.0) + f["spend"]), GIVEN, "leak"
    ),
    "codes that are odd for buyers": Plant(
        with_column(lambda f, d: 2 * d.integers(0, 25, len(f)) + f["event"]), GIVEN, "leak"
    ),
    "the day of the next purchase as days of an era": Plant(
        with_column(
            lambda f, d: (f["landmark"] - pd.Timestamp("2000-01-01")).dt.days + f["duration"]
        ),
        GIVEN, "leak",
    ),
    "a date after the landmark": Plant(with_column(lambda f, d: _purchase_day(f)), LATE, "leak"),
    "a date as text": Plant(
        with_column(lambda f, d: _purchase_day(f).dt.strftime("%Y-%m-%d")), LATE, "leak"
    ),
    "a date as a whole number": Plant(
        with_column(
            lambda f, d: (f["landmark"] + pd.to_timedelta(f["duration"], unit="D"))
            .dt.strftime("%Y%m%d")
            .astype(int)
        ),
        LATE, "leak",
    ),
    "days since a touch that was still to come": Plant(
        lambda f, d: f.assign(days_since_touch=d.integers(-3, 60, len(f))), LATE, "days_since_touch"
    ),
    "recency counted at the end of the data": Plant(
        lambda f, d: f.assign(
            days_since_last=np.where(f["event"] == 1, 90 - f["duration"], f["days_since_last"] + 90)
        ),
        "does not add up", "days_since_last",
    ),
    "an outcome followed past its end": Plant(
        lambda f, d: f.assign(
            duration=np.where((f["event"] == 0) & (d.random(len(f)) < 0.1), 120, f["duration"])
        ),
        PAST, "duration",
    ),
    "training outcomes past the test landmark": Plant(
        lambda f, d: f, PAST, "duration", lambda f, d: {"train_until": "2024-05-20"}
    ),
    "a customer on both sides of a random split": Plant(
        lambda f, d: f, "customer on both sides", "customer_id", _random_half
    ),
    "a test before the training": Plant(
        lambda f, d: f, "test before training", "landmark", _backwards
    ),
    "a split by time whose training outcomes overlap the test": Plant(
        lambda f, d: f.assign(
            duration=f["duration"] + 5, followed_until=f["landmark"] + pd.Timedelta(days=95)
        ),
        PAST, "duration", lambda f, d: {"train": f["landmark"] < pd.Timestamp("2024-07-01")},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PLANTS)
def test_a_planted_leak_is_found_and_named(name):
    plant = PLANTS[name]
    draw = np.random.default_rng(len(name))
    frame = plant.change(world(len(name)), draw)
    options = plant.options(frame, draw)
    found = check_leaks(frame, on_leak="report", **options)
    assert {(one.check, one.column) for one in found.leaks} == {(plant.check, plant.column)}
    with pytest.raises(ContractError, match=f"(?s)1 leak in .*{plant.check}.*{plant.column}"):
        check_leaks(frame, **options)


def test_more_than_twenty_kinds_of_leak_are_planted():
    assert len(PLANTS) >= 20


def test_charges_added_up_over_a_membership_are_found_in_the_public_data(shared_data):
    """Real: IBM's TotalCharges is the monthly charge times the length that is to be predicted."""
    numbers = ["MonthlyCharges", "TotalCharges"]
    rows = collect(frames.memberships(open_tables("telco_churn"), "2020-01-31", numbers=numbers))
    found = check_leaks(rows, on_leak="report")
    assert [(one.check, one.column) for one in found.leaks] == [(GIVEN, "TotalCharges")]
    assert check_leaks(rows.drop(columns="TotalCharges")).leaks == ()


def test_a_cause_of_death_is_found_where_it_is_known_of_the_dead_only():
    """Real: the German breast cancer study with the cause of death that registers add."""
    from lifelines.datasets import load_gbsg2

    rows = load_gbsg2().rename(columns={"time": "duration", "cens": "event"})
    rows = rows.assign(landmark=pd.Timestamp("1985-01-01"), customer_id=range(len(rows)))
    assert check_leaks(rows).leaks == ()
    draw = np.random.default_rng(1)
    causes = draw.choice(["tumour", "heart", "other"], len(rows))
    planted = rows.assign(cause_of_death=np.where(rows["event"] == 1, causes, None))
    with pytest.raises(ContractError, match=r"cause_of_death.*missing"):
        check_leaks(planted)


CLEAN: dict[str, Callable[[], pd.DataFrame]] = {
    **{f"world {seed}": (lambda seed=seed: world(seed)) for seed in range(100, 104)},
    "a world of the dead and the lively": lambda: world(110, gone=0.5, spread=0.1),
    "a world where nearly all come back": lambda: world(111, gone=0.03),
    "a world where hardly any come back": lambda: world(112, gone=0.93),
    "recency and nothing else": lambda: world(113)[
        ["landmark", "customer_id", "days_since_last", "duration", "event", "followed_until"]
    ],
    "one landmark": lambda: world(114, landmarks=1),
    "sixty customers": lambda: world(115, customers=60),
    "noise in many columns": lambda: world(116).assign(
        **{f"noise_{n}": np.random.default_rng(n).normal(size=2700).round(n % 3) for n in range(40)}
    ),
    "a column half missing and many categories": lambda: world(117).assign(
        half=np.where(np.random.default_rng(1).random(2700) < 0.5, np.nan, 1.0),
        street=np.random.default_rng(2).integers(0, 900, 2700).astype(str),
    ),
    "dates before the landmark": lambda: world(118).assign(
        joined=lambda f: f["landmark"] - pd.to_timedelta(f["age_days"], unit="D"),
        said=lambda f: f["joined"].dt.strftime("%Y-%m-%d"),
    ),
    "late landmarks followed for less": lambda: world(119).assign(
        followed_until=lambda f: (
            f["landmark"].where(
                f["landmark"] < f["landmark"].max(), f["landmark"] - pd.Timedelta(days=80)
            )
            + pd.Timedelta(days=90)
        ),
        event=lambda f: f["event"].where(
            f["landmark"] + pd.to_timedelta(f["duration"], unit="D") <= f["followed_until"], 0
        ),
        duration=lambda f: np.minimum(f["duration"], (f["followed_until"] - f["landmark"]).dt.days),
        campaign=lambda f: np.where(f["landmark"] == f["landmark"].max(), "autumn", "earlier"),
    ),
}


@pytest.mark.parametrize("name", CLEAN)
def test_an_honest_frame_raises_no_alarm(name):
    assert check_leaks(CLEAN[name]()).leaks == ()


@pytest.mark.parametrize(
    ("source", "at", "horizon_days"),
    [
        ("cdnow", CDNOW_DAYS, 180),
        # Opening these two takes longer than looking at them.
        pytest.param("complete_journey", GROCERY_DAYS, 90, marks=pytest.mark.full),
        pytest.param("complete_journey", GROCERY_DAYS, 14, marks=pytest.mark.full),
        pytest.param(
            "online_retail", ["2011-04-01", "2011-07-01", "2011-10-01"], 60, marks=pytest.mark.full
        ),
        ("simulated:campaign:2000:7", ["2025-05-01", "2025-07-01", "2025-09-01"], 60),
    ],
)
def test_frames_of_the_kit_raise_no_alarm_on_real_data(shared_data, source, at, horizon_days):
    tables = open_tables(source)
    rows = collect(frames.landmarks(tables, at, horizon_days, features="all"))
    found = check_leaks(rows)
    assert found.leaks == ()
    assert 0.6 < found.strengths["auc"].iloc[0] < 0.95


def test_waits_with_late_entry_raise_no_alarm(shared_data):
    assert check_leaks(collect(frames.gaps(open_tables("cdnow"), "1997-06-30"))).leaks == ()


def test_a_customer_may_meet_both_sides_of_a_split_by_time():
    """Training outcomes end the day before the test begins, or on it."""
    frame = world(5)
    before = pd.Series(frame["landmark"] < frame["landmark"].max(), frame.index)
    assert check_leaks(frame, train=before).leaks == ()
    assert check_leaks(frame, train_until=frame["landmark"].max()).leaks == ()
    people = frame["customer_id"].str[1:].astype(int) % 3 > 0
    assert check_leaks(frame, train=people).leaks == ()


def test_landmarks_of_one_season_are_warned_of_across_new_year():
    frame = world(6)
    assert check_leaks(frame).warnings == ()
    winter = pd.to_datetime(["2023-12-05", "2024-01-10", "2024-02-20"])
    days = dict(zip(sorted(frame["landmark"].unique()), winter, strict=True))
    moved = frame.assign(landmark=frame["landmark"].map(days)).drop(columns="followed_until")
    found = check_leaks(moved)
    assert [one.check for one in found.warnings] == ["no cut", "one season"]
    assert "77 days" in found.warnings[1].evidence


@pytest.mark.parametrize("event", [0, 1])
def test_without_contrast_the_frame_is_still_checked_for_its_dates(event):
    frame = world(7).assign(event=event, duration=90)
    found = check_leaks(frame)
    assert [one.check for one in found.warnings] == ["no contrast"]
    assert found.strengths.empty
    with pytest.raises(ContractError, match="dated after the landmark"):
        check_leaks(frame.assign(seen=frame["landmark"] + pd.Timedelta(days=3)))


def test_constant_and_empty_columns_and_a_segment_of_one_do_no_harm():
    frame = world(8).assign(always=1, never=np.nan, nothing=None, shop="big")
    frame.loc[0, "shop"] = "small"
    assert check_leaks(frame).leaks == ()


def test_the_same_frame_gives_the_same_report():
    frame = world(9)
    one, other = check_leaks(frame, rng=3), check_leaks(frame, rng=3)
    pd.testing.assert_frame_equal(one.strengths, other.strengths)
    assert check_leaks(frame).summary().columns.tolist() == [
        "check", "severity", "column", "rows", "evidence", "advice"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda f: f.drop(columns="event"), {}, "needs.*event"),
        (lambda f: f.iloc[:0], {}, "no rows"),
        (lambda f: pd.concat([f, f.iloc[:2]]), {}, "2 of 2702 rows repeat"),
        (lambda f: f.assign(duration=f["duration"].where(f.index > 3)), {}, "missing in 4 of 2700"),
        (lambda f: f.assign(landmark="day " + f["landmark"].astype(str)), {}, "must hold dates"),
        (lambda f: f, {"covariates": ["mood"]}, "no covariate.*mood"),
        (lambda f: f, {"train_until": "2024-05-01", "train": pd.Series(dtype=bool)}, "not both"),
    ],
)
def test_what_cannot_be_checked_is_refused_by_name(change, options, message):
    with pytest.raises(ContractError, match=message):
        check_leaks(change(world(10)), **options)
