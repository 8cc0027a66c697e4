"""Numbers with their uncertainty, and what several topics need to get them."""

from journeylab.estimate.influence import Measured, half_samples, measured
from journeylab.estimate.intervals import (
    Estimate,
    bootstrap,
    from_draws,
    mean_estimate,
    resampled,
)
from journeylab.estimate.policies import logged_policy_value
from journeylab.estimate.sample_ratio import SampleRatio, sample_ratio

__all__ = [
    "Estimate",
    "Measured",
    "SampleRatio",
    "bootstrap",
    "from_draws",
    "half_samples",
    "logged_policy_value",
    "mean_estimate",
    "measured",
    "resampled",
    "sample_ratio",
]
