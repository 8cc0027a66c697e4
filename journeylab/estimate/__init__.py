"""Numbers with their uncertainty, and what several topics need to get them."""

from journeylab.estimate.assignment import assigned, assigned_frame, variant_of
from journeylab.estimate.blocks import Block, Sample
from journeylab.estimate.influence import Measured, half_samples, measured
from journeylab.estimate.intervals import (
    Estimate,
    bootstrap,
    from_draws,
    mean_estimate,
    resampled,
)
from journeylab.estimate.metric import Metric
from journeylab.estimate.moments import (
    Moments,
    moments_of_frame,
    moments_of_sums,
    together,
)
from journeylab.estimate.policies import logged_policy_value
from journeylab.estimate.sample_ratio import SampleRatio, sample_ratio
from journeylab.estimate.scans import freeze_caps, moments, value_counts

__all__ = [
    "Block",
    "Estimate",
    "Measured",
    "Metric",
    "Moments",
    "Sample",
    "SampleRatio",
    "assigned",
    "assigned_frame",
    "bootstrap",
    "freeze_caps",
    "from_draws",
    "half_samples",
    "logged_policy_value",
    "mean_estimate",
    "measured",
    "moments",
    "moments_of_frame",
    "moments_of_sums",
    "resampled",
    "sample_ratio",
    "together",
    "value_counts",
    "variant_of",
]
