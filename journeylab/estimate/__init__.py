"""Numbers with their uncertainty, and what several topics need to get them."""

from journeylab.estimate.intervals import (
    Estimate,
    bootstrap,
    from_draws,
    mean_estimate,
    resampled,
)
from journeylab.estimate.sample_ratio import SampleRatio, sample_ratio

__all__ = [
    "Estimate",
    "SampleRatio",
    "bootstrap",
    "from_draws",
    "mean_estimate",
    "resampled",
    "sample_ratio",
]
