"""What JourneyLab raises on purpose: one small tree."""


class JourneyLabError(ValueError):
    """Root of every error JourneyLab raises on purpose."""


class ContractError(JourneyLabError):
    """A source, table or frame breaks its contract."""


class FitError(JourneyLabError):
    """A model cannot be estimated from these data."""


class ConsentError(JourneyLabError):
    """Rows are asked for that nobody has agreed to."""


class RunError(JourneyLabError):
    """A notebook run cannot start, or did not end well."""
