"""Figures: each function draws one result on one Axes; the only place that knows matplotlib."""
