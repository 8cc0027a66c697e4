"""A world with known truth: the tables of a retailer who never was, and what is true of them."""

from journeylab.simulate.preset import Preset, preset_names, read_preset
from journeylab.simulate.truth import Truth
from journeylab.simulate.world import Period, Score, World
from journeylab.simulate.writing import simulate

__all__ = [
    "Period",
    "Preset",
    "Score",
    "Truth",
    "World",
    "preset_names",
    "read_preset",
    "simulate",
]
