"""The first lottery over a list: what it would see."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from journeylab import uplift
from journeylab.errors import ContractError


def people(rng, n, alike=0.8):
    before = rng.normal(size=n)
    after = alike * before + (1 - alike**2) ** 0.5 * rng.normal(size=n)
    return pd.DataFrame({"before_1": 10 + 3 * before, "after": 10 + 3 * after})


def test_sizes_are_those_of_two_samples():
    """Closed form: (z + z) times the deviation of the difference; half the list against half."""
    rows = people(np.random.default_rng(1), 5000)
    table = uplift.first_log(rows, "after", "before_1", shares=(0.5, 0.1))
    deviation, alike = rows["after"].std(), rows["after"].corr(rows["before_1"])
    plain = (norm.ppf(0.975) + norm.ppf(0.8)) * deviation * (2 / 2500) ** 0.5
    assert table["plain"].iloc[0] == pytest.approx(plain)
    assert table["smallest_effect"].iloc[0] == pytest.approx(plain * (1 - alike**2) ** 0.5)
    assert list(table["customers_left_out"]) == [2500, 500]
    assert table["smallest_effect"].is_monotonic_increasing
    two = uplift.first_log(rows, "after", "before_1", shares=(0.5,), arms=2)
    assert two["customers_per_arm"].iloc[0] == 1250
    assert two["smallest_effect"].iloc[0] > table["smallest_effect"].iloc[0]


def test_the_effect_is_seen_four_times_of_five():
    """1,000 lotteries over lists of 600, a fifth left out; three binomial standard errors."""
    seen = 0
    for seed in range(1000):
        rng = np.random.default_rng(seed)
        rows = people(rng, 600)
        effect = float(
            uplift.first_log(rows, "after", "before_1", shares=(0.2,))["smallest_effect"].iloc[0]
        )
        out = rng.permutation(600) < 120
        y = rows["after"].to_numpy() + effect * ~out
        x = np.column_stack([np.ones(600), ~out, rows["before_1"] - 10])
        beta, (left,), _, _ = np.linalg.lstsq(x, y, rcond=None)
        error = (left / 597 * np.linalg.inv(x.T @ x)[1, 1]) ** 0.5
        seen += abs(beta[1]) > 1.96 * error
    assert abs(seen / 1000 - 0.8) < 3 * (0.8 * 0.2 / 1000) ** 0.5


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"outcome": "spend"}, "no columns spend"),
        ({"shares": (1.0,)}, "inside"),
        ({"shares": (0.01,)}, "too few to leave out 0.01"),
        ({"arms": 0}, "arms be 1 or more"),
    ],
)
def test_lists_that_cannot_be_drawn_from_are_refused(change, says):
    rows = people(np.random.default_rng(2), 300)
    options = {"outcome": "after", "before": "before_1"} | change
    with pytest.raises(ContractError, match=says):
        uplift.first_log(rows, **options)
    rows.loc[3, "after"] = np.nan
    with pytest.raises(ContractError, match="missing for 1 of 300 rows"):
        uplift.first_log(rows, "after", "before_1")
