"""JourneyLab: research and modelling of a retailer's user journey."""

__version__ = "0.1.0"
