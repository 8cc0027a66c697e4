"""Many arms and metrics at once."""

import tomllib
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import dunnett as scipy_dunnett
from scipy.stats import norm

from journeylab.errors import ContractError
from journeylab.experiments.multiplicity import (
    METHODS,
    adjust,
    chance_best,
    dunnett,
    dunnett_critical,
)

PUBLISHED = tomllib.loads(
    (Path(__file__).parent / "published" / "experiments_design.toml").read_text()
)
p_values = st.lists(st.floats(0, 1), min_size=1, max_size=8)


def test_hommel_reproduces_the_published_values():
    case = PUBLISHED["hommel"]
    assert adjust(case["given"], "hommel") == pytest.approx(case["adjusted"], abs=1e-12)


def test_the_other_methods_agree_with_statsmodels():
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    theirs = {
        "holm": "holm",
        "hochberg": "simes-hochberg",
        "hommel": "hommel",
        "bh": "fdr_bh",
        "by": "fdr_by",
        "bonferroni": "bonferroni",
    }
    rng = np.random.default_rng(2)
    for size in range(1, 13):
        p = rng.beta(0.4, 1, size).round(2)  # with ties, zeros and ones
        for ours, name in theirs.items():
            expected = multitest.multipletests(p, method=name)[1]
            assert adjust(p, ours) == pytest.approx(expected, rel=1e-8, abs=1e-12), ours


@settings(deadline=None)
@given(p_values)
def test_each_method_is_as_strict_as_the_theory_says(p):
    found = {method: adjust(p, method) for method in METHODS}
    slack = 1e-12
    order = ("none", "hommel", "hochberg", "holm", "bonferroni")
    for weaker, stronger in pairwise(order):
        assert (found[weaker] <= found[stronger] + slack).all()
    assert (found["bh"] <= found["hochberg"] + slack).all()
    assert (found["bh"] <= found["by"] + slack).all()


@settings(deadline=None)
@given(st.permutations([0.001, 0.02, 0.03, 0.4, 0.04]))
def test_the_order_of_the_tests_does_not_matter(p):
    in_order = sorted(p)
    for method in METHODS:
        by_value = dict(zip(in_order, adjust(in_order, method), strict=True))
        assert adjust(p, method) == pytest.approx([by_value[one] for one in p])


def test_dunnett_reproduces_the_published_critical_values():
    for sides, name in ((2, "two_sided"), (1, "one_sided")):
        for arms, value in PUBLISHED["dunnett"][name].items():
            found = dunnett_critical([0.5] * int(arms), sides=sides)
            assert found == pytest.approx(value, abs=0.0051)


def test_dunnett_agrees_with_scipy_on_many_customers_and_unequal_arms():
    rng = np.random.default_rng(3)
    control, *arms = (rng.normal(m, 1, n) for m, n in ((0, 4000), (0.04, 2000), (0.06, 1000)))
    pooled = sum(((x - x.mean()) ** 2).sum() for x in (control, *arms)) / (7000 - 3)
    errors = [pooled * (1 / len(x) + 1 / 4000) for x in arms]
    z = [(x.mean() - control.mean()) / e**0.5 for x, e in zip(arms, errors, strict=True)]
    share = [pooled / 4000 / e for e in errors]
    expected = scipy_dunnett(*arms, control=control, rng=1).pvalue
    assert dunnett(z, share) == pytest.approx(expected, abs=2e-3)


def test_one_arm_needs_no_adjustment_and_more_arms_need_more():
    assert dunnett([2.1], 0.5) == pytest.approx([2 * norm.sf(2.1)], rel=1e-9)
    assert dunnett([2.1], 0.5, sides=1) == pytest.approx([norm.sf(2.1)], rel=1e-9)
    raw, bonferroni = 2 * norm.sf(2.1), 6 * norm.sf(2.1)
    assert raw < dunnett([2.1, 0, 0], 0.5)[0] < bonferroni


def test_the_chance_to_be_best_matches_two_arms_and_adds_up():
    found = chance_best([0.0, 1.0], [1.0, 2.0])
    assert found[1] == pytest.approx(norm.cdf(1 / 5**0.5), abs=1e-10)
    three = chance_best([0.0, 1.0, 1e-3], [1e-6, 1e-6, 1.0])
    assert three == pytest.approx([0, norm.cdf(0.999), norm.sf(0.999)], abs=1e-6)
    assert chance_best([0, 0, 0, 0], [1, 1, 1, 1]) == pytest.approx([0.25] * 4)


def test_bad_p_values_and_spreads_are_refused_with_their_count():
    with pytest.raises(ContractError, match="2 of 3 do not"):
        adjust([0.5, float("nan"), 1.2])
    with pytest.raises(ContractError, match="finite"):
        dunnett([1.0, float("nan")], 0.5)
    with pytest.raises(ContractError, match="positive sd"):
        chance_best([0, 1], [1, 0])
