"""What adjustment saves: CUPED as theory says, CUPAC never worse by more than noise."""

import numpy as np
import pandas as pd
import pytest

from journeylab.errors import ContractError
from journeylab.estimate import Metric
from journeylab.experiments import variance_reduction, with_attributes


def customers(n: int = 4000, seed: int = 1) -> pd.DataFrame:
    """An outcome that follows its own past in a line, and a trait in a curve."""
    rng = np.random.default_rng(seed)
    past, trait = rng.normal(size=(2, n))
    y = 0.6 * past + (trait**2 - 1) + 0.8 * rng.normal(size=n)
    return pd.DataFrame(
        {
            "variant": np.where(rng.random(n) < 0.5, "treatment", "control"),
            "y": y,
            "y before": past,
            "trait": trait,
        }
    )


def test_cuped_saves_what_the_correlation_says_and_trees_save_more():
    frame = customers()
    metric = Metric.mean("y", covariate="before")
    found = variance_reduction(frame, [metric], "treatment", "control", 1, attributes=["trait"])
    assert found["adjusted by"].tolist() == ["nothing", "CUPED", "CUPAC"]
    plain, cuped, cupac = found["variance saved, %"]
    correlation = frame["y"].corr(frame["y before"])
    assert plain == 0
    assert cuped == pytest.approx(100 * correlation**2, abs=1.5)
    # Known of the world: line and curve explain .36 + 2 of 3.0; trees find most of it.
    assert 60 < cupac < 79
    width = (found["ci_high"] - found["ci_low"]) ** 2
    left = 1 - found["variance saved, %"] / 100
    assert (width / width[0]).tolist() == pytest.approx(left.tolist(), rel=0.01)
    assert (found["ci_low"] < 0).all()  # nothing was done
    assert (found["ci_high"] > 0).all()


@pytest.mark.parametrize("seed", range(4))
def test_trees_that_find_nothing_cost_no_more_than_noise(seed):
    frame = customers(2000, seed)
    frame["trait"] = np.random.default_rng(seed).normal(size=len(frame))
    metric = Metric.mean("y", covariate="before")
    found = variance_reduction(frame, [metric], "treatment", "control", 1, attributes=["trait"])
    saved = found.set_index("adjusted by")["variance saved, %"]
    assert saved["CUPAC"] > saved["CUPED"] - 1


def test_one_metric_that_cannot_be_read_does_not_touch_the_others():
    frame = customers(400).assign(flat=1.0, share=0.0)
    metrics = [Metric.mean("flat"), Metric.mean("y", covariate="before")]
    found = variance_reduction(frame, metrics, "treatment", "control", 1)
    own = found.set_index(["metric", "adjusted by"])
    assert "vari" in own.loc[("flat", "nothing"), "reason"]
    assert own.loc[("y", "CUPED"), "reason"] == ""
    with pytest.raises(ContractError, match="no column surprise"):
        variance_reduction(frame, metrics, "treatment", "control", 1, attributes=["surprise"])


def test_traits_are_numbers_and_texts_of_few_kinds_known_once_for_each_customer():
    people = pd.DataFrame({"customer_id": ["a", "b"], "y": [1, 2]})
    known = pd.DataFrame(
        {
            "customer_id": ["a", "a", "b"],
            "city": ["x", "x", "y"],
            "age": [1, 1, 2],
            "flat": 1,
            "shop_id": ["1", "1", "2"],
            "joined_at": pd.Timestamp("2025-01-01"),
            "y": 0,
        }
    )
    found, traits = with_attributes(people, known)
    assert traits == ["city", "age"]
    assert found["city"].tolist() == ["x", "y"]
    assert found["y"].tolist() == [1, 2]
    assert with_attributes(people, None) == (people, [])
