import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lifelines import AalenJohansenFitter, KaplanMeierFitter, NelsonAalenFitter
from lifelines.utils import restricted_mean_survival_time

from journeylab.errors import ContractError
from journeylab.survival import (
    aalen_johansen,
    at_risk_at,
    clustered_kaplan_meier,
    count_causes,
    count_events,
    kaplan_meier,
    median_survival,
    nelson_aalen,
    restricted_mean,
    survival_at,
)

EXACT = {"rel": 0, "abs": 1e-10}
rows = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 1)), min_size=1, max_size=40)


def drawn(seed, n=400, ties=True):
    random = np.random.default_rng(seed)
    time, censoring = random.exponential(20, n), random.exponential(30, n)
    seen = (time <= censoring).astype(int)
    duration = np.minimum(time, censoring)
    return (np.ceil(duration) if ties else duration), seen


@pytest.mark.parametrize("ties", [True, False])
@pytest.mark.parametrize("level", [0.8, 0.95])
def test_kaplan_meier_equals_lifelines(ties, level):
    duration, seen = drawn(1, ties=ties)
    curve = kaplan_meier(count_events(duration, seen), level)
    peer = KaplanMeierFitter(alpha=1 - level).fit(duration, seen)
    assert curve["time"].tolist() == peer.survival_function_.index.tolist()
    assert curve["survival"].to_numpy() == pytest.approx(
        peer.survival_function_.to_numpy()[:, 0], **EXACT
    )
    bounds = peer.confidence_interval_.to_numpy()
    assert curve[["ci_low", "ci_high"]].to_numpy() == pytest.approx(bounds, **EXACT)
    assert curve["at_risk"].tolist() == peer.event_table["at_risk"].tolist()
    assert curve["events"].tolist() == peer.event_table["observed"].tolist()


def test_late_entry_equals_lifelines():
    duration, seen = drawn(2)
    duration = duration + 1
    entry = np.floor(np.random.default_rng(3).uniform(0, 0.9, len(duration)) * duration)
    curve = kaplan_meier(count_events(duration, seen, entry)).set_index("time")
    peer = KaplanMeierFitter().fit(duration, seen, entry=entry)
    both = curve.index.intersection(peer.survival_function_.index)
    assert len(both) == len(curve)
    assert curve.loc[both, "survival"].to_numpy() == pytest.approx(
        peer.survival_function_.loc[both].to_numpy()[:, 0], **EXACT
    )
    assert curve.loc[both, ["ci_low", "ci_high"]].to_numpy() == pytest.approx(
        peer.confidence_interval_.loc[both].to_numpy(), **EXACT
    )


@pytest.mark.parametrize(("ours", "smoothed"), [("together", False), ("one_by_one", True)])
def test_nelson_aalen_equals_lifelines_under_both_conventions_for_ties(ours, smoothed):
    duration, seen = drawn(4)
    curve = nelson_aalen(count_events(duration, seen), ties=ours)
    peer = NelsonAalenFitter(nelson_aalen_smoothing=smoothed).fit(duration, seen)
    assert curve["cumulative_hazard"].to_numpy() == pytest.approx(
        peer.cumulative_hazard_.to_numpy()[:, 0], **EXACT
    )
    assert curve[["ci_low", "ci_high"]].to_numpy() == pytest.approx(
        peer.confidence_interval_.to_numpy(), **EXACT
    )


def test_aalen_johansen_equals_lifelines_where_nothing_is_tied():
    duration, seen = drawn(5, n=300, ties=False)
    cause = seen * np.random.default_rng(6).integers(1, 3, len(seen))
    labels = np.array(["", "bought", "left"])[cause]
    counts = count_causes(duration, labels)
    curves = aalen_johansen(counts, ["bought", "left"]).set_index("cause")
    # the last to go leaves nobody at risk, where lifelines divides by zero
    for number, label in ((1, "bought"), (2, "left")):
        peer = AalenJohansenFitter().fit(duration, cause, event_of_interest=number)
        own = curves.loc[label].iloc[:-1]
        assert own["incidence"].to_numpy() == pytest.approx(
            peer.cumulative_density_.to_numpy()[:-1, 0], **EXACT
        )
        assert own["std_error"].to_numpy() ** 2 == pytest.approx(
            peer.variance_.to_numpy()[:-1], **EXACT
        )
        risen = own["incidence"].to_numpy() > 0
        bounds = np.sort(peer.confidence_interval_.to_numpy()[:-1][risen], axis=1)
        assert own.loc[risen, ["ci_low", "ci_high"]].to_numpy() == pytest.approx(bounds, **EXACT)


def test_aalen_johansen_with_ties_by_hand():
    """Ten at risk; day 1: 2 buy, 1 leaves, 1 lost; day 2: 1 buys, 2 leave, none lost; 3 stay."""
    counts = pd.DataFrame(
        {"time": [1, 2, 3], "buy": [2, 1, 0], "leave": [1, 2, 0], "censored": [1, 0, 3]}
    )
    curves = aalen_johansen(counts, ["buy", "leave"]).set_index(["cause", "time"])
    assert curves.loc[("buy", 1), "incidence"] == pytest.approx(0.2)
    assert curves.loc[("buy", 2), "incidence"] == pytest.approx(0.2 + 0.7 / 6)
    assert curves.loc[("leave", 3), "incidence"] == pytest.approx(0.1 + 0.7 * 2 / 6)
    assert curves.loc[("buy", 3), "survival"] == pytest.approx(0.35)
    # one time: binomial; two times: the delta method, worked out by hand for "buy"
    assert curves.loc[("buy", 1), "std_error"] ** 2 == pytest.approx(0.2 * 0.8 / 10)
    gap = 0.7 / 6
    first = gap**2 * 3 / (10 * 7) + 2 * 8 / 10**3 - 2 * gap * 2 / 10**2
    second = 0.7**2 * 1 * 5 / 6**3
    assert curves.loc[("buy", 2), "std_error"] ** 2 == pytest.approx(first + second)


def test_variance_of_a_tied_incidence_matches_repeated_samples():
    random, n, repeats = np.random.default_rng(7), 60, 300
    finals, errors = [], []
    for _ in range(repeats):
        time = random.integers(1, 5, n)
        cause = random.choice(["", "a", "b"], n, p=[0.2, 0.5, 0.3])
        curve = aalen_johansen(count_causes(time, cause), ["a", "b"])
        last = curve[(curve["cause"] == "a") & (curve["time"] == 3)].iloc[0]
        finals.append(last["incidence"])
        errors.append(last["std_error"])
    # the spread of 300 draws is itself known to 4 %: 13 % is three of its standard errors
    assert np.mean(errors) == pytest.approx(np.std(finals), rel=0.13)


def test_one_row_per_cluster_gives_greenwood_times_the_small_sample_factor():
    duration, seen = drawn(8)
    n = len(duration)
    plain = kaplan_meier(count_events(duration, seen))
    clustered = clustered_kaplan_meier(duration, seen, np.arange(n))
    assert clustered["survival"].tolist() == plain["survival"].tolist()
    # 1e-8 and not 1e-10: variances are added up in another order
    assert clustered["std_error"].to_numpy() == pytest.approx(
        plain["std_error"].to_numpy() * np.sqrt(n / (n - 1)), rel=1e-8, abs=1e-10
    )


def test_every_row_copied_leaves_the_clustered_error_where_one_copy_had_it():
    duration, seen = drawn(9, n=120)
    once = clustered_kaplan_meier(duration, seen, np.arange(120))
    thrice = clustered_kaplan_meier(*(np.tile(x, 3) for x in (duration, seen, np.arange(120))))
    assert thrice["std_error"].to_numpy() == pytest.approx(once["std_error"].to_numpy(), rel=1e-8)
    naive = kaplan_meier(count_events(np.tile(duration, 3), np.tile(seen, 3)))
    inside = once["survival"].between(0.1, 0.9)
    ratio = thrice.loc[inside, "std_error"] / naive.loc[inside, "std_error"]
    assert ratio.to_numpy() == pytest.approx(np.sqrt(3 * 120 / 119), rel=1e-8)


def test_clusters_are_never_cut_by_the_chunks(monkeypatch):
    duration, seen = drawn(10, n=200)
    who = np.random.default_rng(11).integers(0, 40, 200)
    whole = clustered_kaplan_meier(duration, seen, who)
    monkeypatch.setattr("journeylab.survival._INFLUENCE_CELLS", 300)
    pd.testing.assert_frame_equal(clustered_kaplan_meier(duration, seen, who), whole, rtol=1e-10)


def test_with_a_single_cluster_the_interval_says_nothing():
    curve = clustered_kaplan_meier([1, 2, 3], [1, 1, 0], ["a", "a", "a"])
    assert curve["ci_low"].tolist() == [1, 0, 0, 0]
    assert curve["ci_high"].tolist() == [1, 1, 1, 1]
    assert np.isinf(curve["std_error"].iloc[-1])


@settings(max_examples=60, deadline=None)
@given(rows)
def test_any_curve_falls_from_one_within_zero_and_one(observed):
    duration, seen = (np.array(column) for column in zip(*observed, strict=True))
    curve = kaplan_meier(count_events(duration, seen))
    shares = curve[["survival", "ci_low", "ci_high"]].to_numpy()
    assert np.isfinite(curve.to_numpy(float)).all()
    assert ((shares >= 0) & (shares <= 1)).all()
    assert (np.diff(curve["survival"], prepend=1.0) <= 0).all()
    assert (curve["ci_low"] <= curve["survival"]).all()
    assert (curve["survival"] <= curve["ci_high"]).all()
    hazard = nelson_aalen(count_events(duration, seen))
    assert (np.diff(hazard["cumulative_hazard"], prepend=0.0) >= 0).all()
    # 1 - h <= exp(-h): the product never exceeds the exponential of the sum
    assert (curve["survival"] <= np.exp(-hazard["cumulative_hazard"]) + 1e-12).all()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 8), st.sampled_from(["", "a", "b"])), min_size=1))
def test_incidences_and_survival_add_up_to_one(observed):
    duration, cause = zip(*observed, strict=True)
    if not any(cause):
        with pytest.raises(ContractError, match="no cause in any"):
            count_causes(duration, cause)
        return
    counts = count_causes(duration, cause)
    causes = [name for name in counts.columns if name not in ("time", "censored")]
    curves = aalen_johansen(counts, causes)
    total = curves.groupby("time")["incidence"].sum()
    survival = curves.groupby("time")["survival"].first()
    assert (total + survival).to_numpy() == pytest.approx(1.0, abs=1e-12)
    assert np.isfinite(curves[["std_error", "ci_low", "ci_high"]].to_numpy()).all()
    pooled = kaplan_meier(count_events(duration, [int(bool(c)) for c in cause]))
    assert survival.to_numpy() == pytest.approx(pooled["survival"].to_numpy(), abs=1e-12)


def test_counts_are_all_that_matters():
    duration, seen = drawn(12)
    counts = count_events(duration, seen)
    shuffled = counts.sample(frac=1, random_state=1)
    pd.testing.assert_frame_equal(kaplan_meier(shuffled), kaplan_meier(counts))
    assert counts[["events", "censored"]].to_numpy().sum() == len(duration)


def test_all_censored_never_falls_and_one_event_ends_it():
    flat = kaplan_meier(count_events([3, 5, 5], [0, 0, 0]))
    assert flat["survival"].tolist() == [1, 1, 1]
    assert flat[["ci_low", "ci_high"]].to_numpy().min() == 1
    assert str(median_survival(flat)) == "not reached by 5"
    single = kaplan_meier(count_events([4], [1]))
    assert single["survival"].tolist() == [1, 0]
    assert median_survival(single).value == 4


def test_median_and_band_by_hand():
    """Five, all seen, on days 1 to 5: the third takes the curve from 0.6 to 0.4."""
    curve = kaplan_meier(count_events([1, 2, 3, 4, 5], [1] * 5))
    median = median_survival(curve)
    assert median.value == 3
    assert median.ci_low <= 3 <= median.ci_high
    even = kaplan_meier(count_events(np.arange(1, 11), np.ones(10)))
    assert median_survival(even).value == 5


def test_restricted_mean_equals_lifelines_and_the_plain_mean():
    duration, seen = drawn(13)
    peer = KaplanMeierFitter().fit(duration, seen)
    ours = restricted_mean(kaplan_meier(count_events(duration, seen)), 25)
    assert ours.value == pytest.approx(restricted_mean_survival_time(peer, 25), **EXACT)
    complete = np.array([1.0, 2, 4, 9])
    area = restricted_mean(kaplan_meier(count_events(complete, np.ones(4))), 9)
    assert area.value == pytest.approx(4.0)
    # without censoring Greenwood's variance of the mean is the sample's, divided by n
    assert area.ci_high - area.value == pytest.approx(1.959964 * complete.std() / 2, rel=1e-6)


def test_read_offs_look_at_the_step_they_stand_on():
    curve = kaplan_meier(count_events([2, 4, 6, 6], [1, 1, 0, 0]))
    read = survival_at(curve, [0, 1.9, 2, 5, 6])
    assert read["survival"].tolist() == [1, 1, 0.75, 0.5, 0.5]
    assert read["at_risk"].tolist() == [4, 4, 4, 2, 2]
    assert at_risk_at(curve, [6.1]).tolist() == [0]
    with pytest.raises(ContractError, match=r"survival at 7 .* follow-up ends at 6"):
        survival_at(curve, [3, 7])
    with pytest.raises(ContractError, match="1 of 2"):
        survival_at(curve, [-1, 2])
    ended = kaplan_meier(count_events([2, 4], [1, 1]))
    assert survival_at(ended, [99])["survival"].tolist() == [0]


@pytest.mark.parametrize(
    ("durations", "events", "message"),
    [
        ([], [], "no rows"),
        ([1, -2, 3], [1, 1, 0], "1 of 3 rows"),
        ([1, np.nan, np.inf], [1, 1, 0], "2 of 3 rows"),
        ([1, 2, 3], [1, 2, np.nan], "2 of 3 rows are neither"),
        ([1, 2], [1], "2 durations but 1 events"),
    ],
)
def test_bad_rows_are_refused_with_their_number(durations, events, message):
    with pytest.raises(ContractError, match=message):
        count_events(durations, events)


def test_bad_entries_and_clusters_are_refused_with_their_number():
    with pytest.raises(ContractError, match="1 of 2 rows do not"):
        count_events([3, 4], [1, 1], [3, 1])
    with pytest.raises(ContractError, match="1 of 2 rows belong to no cluster"):
        clustered_kaplan_meier([3, 4], [1, 1], ["a", None])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"events": [1, -1]}, "1 of 2 rows"),
        ({"time": [1, 1]}, "1 of 2 rows repeat"),
        ({"time": [1, np.nan]}, "1 of 2 rows"),
        ({"entry": [1, 1]}, "2 came under watch but 3 left"),
        ({"entry": [0, 3]}, "more leave than are at risk at 3 of 4 times"),
    ],
)
def test_counts_that_cannot_be_are_refused(change, message):
    counts = pd.DataFrame({"time": [1, 2], "events": [1, 1], "censored": [0, 1]}).assign(**change)
    if "at risk" in message:
        counts = pd.concat(
            [counts.assign(entry=[0, 0]), counts.iloc[:1].assign(time=5, events=0, entry=3)]
        )
    with pytest.raises(ContractError, match=message):
        kaplan_meier(counts)


def test_missing_columns_levels_and_causes_are_named():
    with pytest.raises(ContractError, match=r"lack \['censored'\]"):
        kaplan_meier(pd.DataFrame({"time": [1], "events": [1]}))
    counts = count_events([1, 2], [1, 0])
    with pytest.raises(ContractError, match="level"):
        kaplan_meier(counts, level=95)
    with pytest.raises(ContractError, match="at least one cause"):
        aalen_johansen(counts, [])
    with pytest.raises(ContractError, match="cannot be named 'time'"):
        count_causes([1, 2], ["time", ""])
    with pytest.raises(ContractError, match="no rows"):
        kaplan_meier(counts.iloc[:0])
