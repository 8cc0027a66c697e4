"""Tests by group and over time: what ignoring them costs, and what keeps the level."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy.linalg import block_diag, fractional_matrix_power

from journeylab.errors import ContractError
from journeylab.estimate import Metric, moments_of_frame
from journeylab.experiments.clusters import cluster_robust
from journeylab.experiments.comparison import compare
from journeylab.experiments.effect_paths import effect_path, switchback
from journeylab.experiments.segments import segment_effects

Y = Metric.mean("y")


def groups(tests: int, clusters: int, size: int, icc: float, seed: int) -> pd.DataFrame:
    """Customers in chat groups of many tests, assigned by group, sizes unequal."""
    rng = np.random.default_rng(seed)
    sizes = rng.poisson(size - 2, (tests, clusters)) + 2
    cluster = np.repeat(np.arange(tests * clusters), sizes.ravel())
    test = np.repeat(np.arange(tests), sizes.sum(axis=1))
    arm = np.array([rng.permutation(clusters) % 2 for _ in range(tests)]).ravel()[cluster]
    mood = np.sqrt(icc) * rng.normal(size=tests * clusters)[cluster]
    y = mood + np.sqrt(1 - icc) * rng.normal(size=len(cluster))
    variant = np.where(arm == 1, "treatment", "control")
    return pd.DataFrame({"test": test, "cluster": cluster, "variant": variant, "y": y})


@pytest.mark.parametrize("tests", [600, pytest.param(2000, marks=pytest.mark.full)])
def test_customers_of_groups_taken_as_independent_raise_false_alarms_and_clusters_do_not(tests):
    frame = groups(tests, 40, 20, 0.08, 1)
    # Three standard errors: .027 of 600 tests, and the .015 that is promised of 2,000.
    limit = 3 * np.sqrt(0.05 * 0.95 / tests)
    naive = moments_of_frame(frame, [Y], stratum="test").by("stratum").values()
    alarms = np.mean([compare(p, "y", "treatment", "control").p < 0.05 for p in naive])
    assert 0.15 < alarms < 0.30
    right = moments_of_frame(frame, [Y], stratum="test", cluster="cluster").by("stratum")
    delta = [compare(p, "y", "treatment", "control") for p in right.values()]
    robust = [cluster_robust(p, "y", "treatment", "control") for p in right.values()]
    assert all(row.clusters and row.df == 38 for row in delta)
    assert abs(np.mean([row.p < 0.05 for row in delta]) - 0.05) <= limit
    assert abs(np.mean([row.p < 0.05 for row in robust]) - 0.05) <= limit
    assert np.mean([row.icc for row in robust]) == pytest.approx(0.08, abs=0.005)
    assert np.mean([row.design_effect for row in robust]) == pytest.approx(2.5, abs=0.2)


def test_cr0_and_cr1_agree_with_statsmodels():
    frame = groups(1, 30, 12, 0.2, 3)
    moments = moments_of_frame(frame, [Y], cluster="cluster")
    design = sm.add_constant((frame["variant"] == "treatment").to_numpy(float))
    for correction, corrected in (("CR0", False), ("CR1", True)):
        fit = sm.OLS(frame["y"].to_numpy(), design).fit(
            cov_type="cluster",
            cov_kwds={"groups": frame["cluster"].to_numpy(), "use_correction": corrected},
        )
        row = cluster_robust(moments, "y", "treatment", "control", correction=correction)
        found = (row.effect.value, row.standard_error)
        assert found == pytest.approx((fit.params[1], fit.bse[1]), rel=1e-8)


def test_cr2_and_its_degrees_of_freedom_are_those_of_the_full_matrices():
    """By Bell and McCaffrey's formulas on explicit matrices."""
    frame = groups(1, 9, 6, 0.2, 4).sort_values("cluster")
    design = np.column_stack([np.ones(len(frame)), frame["variant"] == "treatment"]).astype(float)
    y, labels = frame["y"].to_numpy(), frame["cluster"].to_numpy()
    bread = np.linalg.inv(design.T @ design)
    hat = design @ bread @ design.T
    residual, pick = y - hat @ y, np.array([0.0, 1.0])
    rows, roots = [], []
    for name in np.unique(labels):
        own = labels == name
        root = fractional_matrix_power(np.eye(own.sum()) - hat[np.ix_(own, own)], -0.5).real
        rows.append(pick @ bread @ design[own].T @ root)
        roots.append(root)
    variance = sum((row @ residual[labels == name]) ** 2
                   for row, name in zip(rows, np.unique(labels), strict=True))  # fmt: skip
    loadings = block_diag(*[row[None] for row in rows])
    spread = loadings @ (np.eye(len(y)) - hat) @ loadings.T
    df = np.trace(spread) ** 2 / np.trace(spread @ spread)
    found = cluster_robust(
        moments_of_frame(frame, [Y], cluster="cluster"), "y", "treatment", "control"
    )
    assert found.standard_error == pytest.approx(np.sqrt(variance), rel=1e-8)
    assert found.df == pytest.approx(df, rel=1e-8)


def test_a_ratio_by_cluster_is_the_delta_method_over_cluster_totals():
    frame = groups(1, 30, 12, 0.2, 5)
    frame["orders"] = np.random.default_rng(1).poisson(2, len(frame)) + 1
    moments = moments_of_frame(frame, [Metric.ratio("r", "y", "orders")], cluster="cluster")
    row, variance, values = compare(moments, "r", "treatment", "control"), 0.0, []
    for arm in ("control", "treatment"):
        sums = frame[frame["variant"] == arm].groupby("cluster")[["y", "orders"]].sum()
        ratio, n = sums["y"].sum() / sums["orders"].sum(), len(sums)
        rest = sums["y"] - ratio * sums["orders"]
        variance += n / (n - 1) * (rest**2).sum() / sums["orders"].sum() ** 2
        values.append(ratio)
    assert row.absolute.value == pytest.approx(values[1] - values[0], rel=1e-9)
    assert row.standard_error == pytest.approx(np.sqrt(variance), rel=1e-9)


def test_cuped_works_over_clusters_too():
    frame = groups(1, 60, 20, 0.1, 6)
    frame["x"] = frame["y"] + np.random.default_rng(2).normal(size=len(frame))
    metric = Metric.mean("y", covariate=["x"])
    row = compare(moments_of_frame(frame, [metric], cluster="cluster"), "y", "treatment", "control")
    assert row.clusters
    assert row.variance_left < 0.8


def test_one_cluster_per_arm_is_a_reason_and_moments_by_customer_are_refused():
    frame = groups(1, 2, 10, 0.1, 7)
    moments = moments_of_frame(frame, [Y], cluster="cluster")
    assert "one of clusters only" in compare(moments, "y", "treatment", "control").reason
    assert "1 cluster" in cluster_robust(moments, "y", "treatment", "control").reason
    with pytest.raises(ContractError, match="not split by cluster"):
        cluster_robust(moments_of_frame(frame, [Y]), "y", "treatment", "control")


def days(fade: float, n: int = 4000, seed: int = 1) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    taste = rng.gamma(2, 1, n)
    treated = rng.random(n) < 0.5
    frame = {
        f"y on day {d}": rng.poisson(taste * (1 + treated * (0.3 - fade * d))) for d in range(7)
    }
    return pd.DataFrame(frame).assign(variant=np.where(treated, "treatment", "control"))


def test_an_effect_that_wears_off_has_a_falling_path():
    metric = Y.by_day(7)
    worn = effect_path(moments_of_frame(days(0.05), [metric]), metric.name, "treatment", "control")
    # Twice the fade, as the mean taste is 2.
    assert worn.slope.ci_low <= -0.1 <= worn.slope.ci_high
    assert worn.p < 0.001
    frame = days(0.0)
    path = effect_path(moments_of_frame(frame, [metric]), metric.name, "treatment", "control")
    assert path.slope.ci_low <= 0 <= path.slope.ci_high
    # The last sum is the comparison of the sums, days of one customer going together.
    whole = frame[["variant"]].assign(y=frame.filter(like="on day").sum(axis=1))
    row = compare(moments_of_frame(whole, [Y]), "y", "treatment", "control")
    last = path.cumulative.iloc[-1]
    assert last["effect"] == pytest.approx(row.absolute.value, rel=1e-9)
    assert last["ci_low"] == pytest.approx(row.absolute.ci_low, rel=1e-3)


def test_a_path_by_cluster_is_wider():
    frame = days(0.0).assign(cluster=lambda f: np.arange(len(f)) // 50)
    frame["variant"] = np.where(frame["cluster"] % 2, "treatment", "control")
    metric = Y.by_day(7)
    path = effect_path(
        moments_of_frame(frame, [metric], cluster="cluster"), metric.name, "treatment", "control"
    )
    assert len(path.daily) == 7
    assert path.slope is not None


def test_pairs_of_a_switchback_remove_what_the_place_has_in_common():
    rng = np.random.default_rng(4)
    place = np.repeat(rng.normal(0, 5, 30), 2)
    frame = pd.DataFrame(
        {"pair": np.repeat(np.arange(30), 2), "variant": ["a", "b"] * 30,
         "value": place + rng.normal(0, 0.5, 60) + np.tile([0.0, 1.0], 30)}
    )  # fmt: skip
    found = switchback(frame, "b", "a")
    assert found.effect.ci_low <= 1.0 <= found.effect.ci_high
    assert max(found.p, found.p_flips) < 0.001
    few = switchback(frame[:10], "b", "a")
    gaps = (frame["value"].to_numpy()[1:10:2] - frame["value"].to_numpy()[0:10:2]).tolist()
    assert few.p_flips == (2 / 32 if all(g > 0 for g in gaps) else few.p_flips)
    assert switchback(frame[:3], "b", "a").reason == "1 pairs with a period of each arm"
    assert switchback(frame[:21], "b", "a").dropped == 1


def test_segments_that_are_alike_are_told_from_segments_that_differ():
    rng = np.random.default_rng(5)
    n = 12_000
    frame = pd.DataFrame(
        {"variant": rng.choice(["control", "treatment"], n), "stratum": rng.choice(list("abcd"), n)}
    )
    treated = (frame["variant"] == "treatment").to_numpy(float)
    noise = rng.normal(size=n)
    alike = frame.assign(y=noise + 0.2 * treated)
    found = segment_effects(
        moments_of_frame(alike, [Y], stratum="stratum"), "y", "treatment", "control"
    )
    assert found.p > 0.05
    assert found.pooled.ci_low <= 0.2 <= found.pooled.ci_high
    unlike = frame.assign(y=noise + treated * (frame["stratum"] == "a"))
    found = segment_effects(
        moments_of_frame(unlike, [Y], stratum="stratum"), "y", "treatment", "control"
    )
    rows = found.rows.set_index("segment")
    weights = ((rows["ci_high"] - rows["ci_low"]) / 2 / 1.9615) ** -2
    common = (weights * rows["effect"]).sum() / weights.sum()
    q = (weights * (rows["effect"] - common) ** 2).sum()
    assert found.q == pytest.approx(q, rel=0.01)
    assert found.i2 == pytest.approx(1 - 3 / found.q)
    assert found.p < 1e-6
    assert rows.loc["a", "p_bh"] < 1e-6


def test_a_segment_without_one_arm_has_a_reason_and_spares_the_others():
    frame = pd.DataFrame(
        {"variant": ["control", "treatment"] * 20 + ["control"] * 3,
         "stratum": ["big"] * 40 + ["lonely"] * 3, "y": np.arange(43) % 5}
    )  # fmt: skip
    found = segment_effects(
        moments_of_frame(frame, [Y], stratum="stratum"), "y", "treatment", "control"
    )
    rows = found.rows.set_index("segment")
    assert rows.loc["lonely", "reason"]
    assert np.isfinite(rows.loc["big", "effect"])
    assert found.p is None
