"""The sample-ratio check, against published numbers."""

import pytest

from journeylab.errors import ContractError
from journeylab.estimate import sample_ratio


def test_published_numbers_of_growthbook_and_tea_tasting() -> None:
    # GrowthBook, stats engine tests: SRM of 1000 : 1200; tea-tasting's docs: 512 : 478, exact.
    assert sample_ratio({"a": 1000, "b": 1200}).p == pytest.approx(2.007866e-05, rel=1e-6)
    exact = sample_ratio({"a": 512, "b": 478})
    assert exact.method == "exact"
    assert exact.p == pytest.approx(0.2942620916, abs=1e-10)


def test_unequal_shares_are_weights() -> None:
    kept = sample_ratio({"a": 8000, "b": 1000, "c": 1000}, {"a": 8, "b": 1, "c": 1})
    assert kept.p == pytest.approx(1.0)
    assert kept.expected == {"a": 8000, "b": 1000, "c": 1000}
    assert sample_ratio({"a": 8000, "b": 1000, "c": 1000}).p < 1e-9


@pytest.mark.parametrize(
    ("counts", "shares", "says"),
    [
        ({"a": 5}, None, "two arms"),
        ({"a": 0, "b": 0}, None, "every arm is empty"),
        ({"a": -1, "b": 2}, None, "whole numbers"),
        ({"a": 1.5, "b": 2}, None, "whole numbers"),
        ({"a": 1, "b": float("nan")}, None, "whole numbers"),
        ({"a": 1, "b": 2}, {"a": 1}, "every arm"),
        ({"a": 1, "b": 2}, {"a": 1, "b": 0}, "every arm"),
    ],
)
def test_what_is_no_ratio_is_refused(counts, shares, says) -> None:
    with pytest.raises(ContractError, match=says):
        sample_ratio(counts, shares)
