"""Robustness value: how strong an unknown cause must be to undo a difference."""

from math import sqrt

from journeylab.errors import ContractError


def robustness_value(difference: float, scale: float) -> float:
    """Strength (0-1) that an unknown cause needs to bring a difference to 0.

    The partial R2 it must have with the outcome, and with the choice, if both are alike.

    Args:
        difference: The estimate.
        scale: Root of the mean square of the outcome's residuals times that of the weights; in a
            linear regression the standard error times the root of the degrees of freedom.

    Raises:
        ContractError: The scale is not above 0.

    Source:
        Cinelli & Hazlett (2020), equation 21.
    """
    if not scale > 0:
        raise ContractError(f"the scale must be above 0; got {scale}")
    f = (difference / scale) ** 2
    return 0.5 * (sqrt(f**2 + 4 * f) - f)
