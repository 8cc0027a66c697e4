"""Pareto/NBD: its numerics against 40-digit values, its own published fit, discounting."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import gammaln, hyp2f1

from journeylab import clv
from journeylab.clv import moment_of_leaving
from journeylab.errors import ContractError

PUBLISHED_FOLDER = Path(__file__).parent / "published"
HELD = (0.0, 1, "week", ())
CDNOW = clv.ParetoNbdFit(0.553, 10.578, 0.606, 11.669, *HELD)


@pytest.fixture(scope="module")
def stress():
    return pd.read_csv(PUBLISHED_FOLDER / "pareto_nbd_stress.csv", float_precision="round_trip")


def test_likelihood_and_p_alive_hold_on_the_stress_grid(stress):
    """228 points, up to 20,000 purchases, against 40-digit mpmath; lifetimes is not finite on 29.

    ``p_alive`` is the ratio of the two ways a history can have come about, so its relative error
    is that of the integral. A chance below the smallest float is held there.
    """
    assert len(stress) == 228
    errors = []
    for r, alpha, s, beta, x, t_x, T, log_likelihood, p_alive in stress.itertuples(index=False):
        row = (np.array([value]) for value in (x, t_x, T))
        each, slopes, bends = moment_of_leaving.terms(
            *row, r, np.array([alpha]), s, np.array([beta])
        )
        ours = each[0] + gammaln(r + x) - gammaln(r)
        assert np.isfinite([*(v[0] for v in slopes), *(v[0] for v in bends.values())]).all()
        fit = clv.ParetoNbdFit(r, alpha, s, beta, *HELD)
        frame = pd.DataFrame({"frequency": [x], "recency": t_x, "age": T})
        alive = fit.p_alive(frame).iloc[0]
        assert np.isfinite(ours)
        assert 0 < alive <= 1
        smallest = p_alive < np.finfo(float).tiny
        errors.append((ours / log_likelihood - 1, 0.0 if smallest else alive / p_alive - 1))
    assert np.abs(errors).max() < 2.8e-11


def test_likelihood_equals_the_printed_one_where_that_can_be_trusted():
    """Through the hypergeometric function after Euler's transformation, both ways round."""
    x, t_x, T = np.array([0.0, 1, 4, 9]), np.array([0.0, 3, 20, 30]), np.array([39.0, 30, 38, 31])

    def printed(r, alpha, s, beta):
        k = r + s + x

        def tail(t):
            if alpha >= beta:
                ratio = ((beta + t) / (alpha + t)) ** -s
                inner = hyp2f1(1, r + x, k + 1, (alpha - beta) / (alpha + t))
                return (alpha + t) ** -k * ratio * inner
            ratio = ((alpha + t) / (beta + t)) ** (1 - r - x)
            inner = hyp2f1(1, s + 1, k + 1, (beta - alpha) / (beta + t))
            return (beta + t) ** -k * ratio * inner

        left = s / k * (tail(t_x) - tail(T))
        alive = (alpha + T) ** -(r + x) * (beta + T) ** -s
        front = r * np.log(alpha) + s * np.log(beta)
        return front + np.log(alive + left), alive / (alive + left)

    for r, alpha, s, beta in ((0.553, 10.578, 0.606, 11.669), (0.8, 9.0, 1.0, 3.0)):
        each = np.ones(4)
        ours, _, _ = moment_of_leaving.terms(x, t_x, T, r, alpha * each, s, beta * each)
        theirs, alive = printed(r, alpha, s, beta)
        assert ours == pytest.approx(theirs, rel=1e-9)
        frame = pd.DataFrame({"frequency": x, "recency": t_x, "age": T})
        fit = clv.ParetoNbdFit(r, alpha, s, beta, *HELD)
        assert fit.p_alive(frame).to_numpy() == pytest.approx(alive, rel=1e-9)


def test_expected_purchases_pass_smoothly_through_s_of_one():
    frame = pd.DataFrame({"frequency": [3], "recency": [20.0], "age": [39.0]})
    at, below, above = (
        clv.ParetoNbdFit(0.553, 10.578, s, 11.669, *HELD).expected_purchases(frame, 39.0).iloc[0]
        for s in (1.0, 1 - 1e-9, 1 + 1e-9)
    )
    assert at == pytest.approx(below, rel=1e-8)
    assert at == pytest.approx(above, rel=1e-8)
    s, rate = 2.5, 3.553 / (10.578 + 39)
    fit = clv.ParetoNbdFit(0.553, 10.578, s, 11.669, *HELD)
    B = 11.669 + 39
    printed = rate * B / (s - 1) * (1 - (B / (B + 39)) ** (s - 1)) * fit.p_alive(frame).iloc[0]
    assert fit.expected_purchases(frame, 39.0).iloc[0] == pytest.approx(printed, rel=1e-12)


def test_discounted_time_holds_against_forty_digits():
    """Tricomi's function from a discount of next to nothing to one of 1,000, s from 0.01 to 40."""
    grid = pd.read_csv(PUBLISHED_FOLDER / "pareto_nbd_discounted_time.csv")
    ours = [
        moment_of_leaving.discounted_time(s, np.array([z]))[0]
        for s, z in zip(grid["s"], grid["z"], strict=True)
    ]
    assert len(grid) == 72
    assert ours == pytest.approx(grid["expected"].to_numpy(), rel=1e-11)


def test_dert_is_the_discounted_sum_of_expected_purchases():
    frame = pd.DataFrame(
        {"frequency": [0, 3, 20_000], "recency": [0.0, 20.0, 38.99], "age": 39.0}, index=[5, 6, 7]
    )
    discount = 0.05
    ends = np.linspace(0, 800, 8_001)
    total = np.column_stack([CDNOW.expected_purchases(frame, t) for t in ends])
    middle = np.exp(-discount * (ends[1:] + ends[:-1]) / 2)
    dert = CDNOW.dert(frame, discount)
    assert dert.to_numpy() == pytest.approx(np.diff(total, axis=1) @ middle, rel=1e-5)
    assert list(dert.index) == [5, 6, 7]
    assert (CDNOW.dert(frame, 0.1) < dert).all()
    for wrong in (0.0, -0.1, np.nan):
        with pytest.raises(ContractError, match="discount must be a finite rate above 0 per week"):
            CDNOW.dert(frame, wrong)


def test_chances_of_counts_equal_simulation_of_the_story():
    """Draw rates, lifetimes and purchases one customer after another, without the formulas."""
    generator, customers, t = np.random.default_rng(5), 200_000, 39.0
    rate = generator.gamma(0.553, 1 / 10.578, customers)
    lifetime = generator.exponential(1 / generator.gamma(0.606, 1 / 11.669, customers))
    bought = generator.poisson(rate * np.minimum(lifetime, t))
    chances = CDNOW.pmf(np.arange(8), t)
    seen = np.array([(bought == k).mean() for k in range(8)])
    assert (np.abs(seen - chances) < 3.5 * np.sqrt(chances / customers)).all()
