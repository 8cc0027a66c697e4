"""Covariates: what is known of each customer and shifts the rates at which they buy or leave."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from journeylab.clv.histories import Floats, numbers
from journeylab.errors import ContractError


@dataclass(frozen=True, slots=True)
class Scaling:
    """Covariates with mean 0 and deviation 1, on which a climb is well conditioned.

    Attributes:
        names: Columns of the frame, in order.
        mean, deviation: Of each over customers.
    """

    names: tuple[str, ...]
    mean: Floats
    deviation: Floats

    def standard(self, values: Floats) -> Floats:
        """``(rows, covariates)`` in deviations from the mean."""
        return (values - self.mean) / self.deviation


def covariate_columns(frame: pd.DataFrame, names: tuple[str, ...]) -> Floats:
    """Columns of a frame as ``(rows, covariates)``, or an error that names the bad rows."""
    if not names:
        return np.empty((len(frame), 0))
    return np.column_stack(numbers(frame, names, "covariates"))


def shifted(
    value: float,
    frame: pd.DataFrame,
    names: tuple[str, ...],
    coefficients: tuple[float, ...],
    sign: float,
) -> float | Floats:
    """A parameter as its covariates shift it: one number without any, else one per row."""
    if not names:
        return value
    values = covariate_columns(frame, names)
    return np.asarray(value * np.exp(sign * (values @ np.array(coefficients))))


def one_profile(names: tuple[str, ...], covariates: Mapping[str, float] | None) -> pd.DataFrame:
    """Covariates of one new customer as a frame of one row.

    Raises:
        ContractError: The fit has covariates that are not given.
    """
    given = dict(covariates or {})
    if absent := [name for name in names if name not in given]:
        raise ContractError(
            f"this fit has covariates: give a new customer's {', '.join(absent)} as "
            f"covariates={{{absent[0]!r}: ...}}"
        )
    return pd.DataFrame([{name: given[name] for name in names}], index=[0])


def known_customers(covariates: pd.DataFrame | None, customers: int) -> pd.DataFrame:
    """Covariates of customers to be drawn: as given, or none of any.

    Raises:
        ContractError: There are not as many rows as customers.
    """
    if covariates is None:
        return pd.DataFrame(index=range(customers))
    if len(covariates) != customers:
        raise ContractError(
            f"covariates need one row per customer: {len(covariates)} rows for {customers} ages"
        )
    return covariates


def scaling(values: Floats, customers: Floats, names: tuple[str, ...]) -> Scaling:
    """Means and deviations over customers.

    Raises:
        ContractError: A covariate is the same for everybody, or follows from the others.
    """
    if not names:
        return Scaling(names, np.empty(0), np.empty(0))
    share = customers / customers.sum()
    mean = np.einsum("i,ij->j", share, values)
    deviation = np.sqrt(np.einsum("i,ij->j", share, (values - mean) ** 2))
    constant = deviation <= 1e-12 * np.maximum(1.0, np.abs(mean))
    if constant.any():
        raise ContractError(
            f"covariate {names[int(np.argmax(constant))]} is the same in all {len(values)} rows "
            "and explains nothing: leave it out"
        )
    centred = (values - mean) / deviation
    if np.linalg.eigvalsh((centred.T * share) @ centred)[0] < 1e-10:
        raise ContractError(
            f"covariates {', '.join(names)} follow from one another: leave one of them out"
        )
    return Scaling(names, mean, deviation)


def original_scale(
    logs: Floats, log_covariance: Floats, blocks: list[tuple[int, float, Scaling]], first: int
) -> tuple[Floats, Floats]:
    """Log-parameters and their covariance for covariates as given, not standardised.

    Args:
        logs: Of the parameters at the mean covariates, then coefficients per deviation.
        log_covariance: Of ``logs``.
        blocks: For each block of coefficients, in order: the parameter it shifts, the sign with
            which it does, and the scaling of its covariates.
        first: Place of the first coefficient.
    """
    linear, place = np.eye(len(logs)), first
    for parameter, sign, scale in blocks:
        for mean, deviation in zip(scale.mean, scale.deviation, strict=True):
            linear[place, place] = 1 / deviation
            linear[parameter, place] = -sign * mean / deviation
            place += 1
    return linear @ logs, linear @ log_covariance @ linear.T


def add_terms(
    gradient: Floats,
    hessian: Floats,
    slopes: list[Floats | float],
    curvatures: dict[tuple[int, int], Floats | float],
    customers: Floats,
    designs: list[Floats | None],
    places: list[list[int]],
) -> None:
    """Add rows' derivatives to the sums, through the linear predictors of the log-parameters.

    Args:
        gradient: Sum over customers, changed in place.
        hessian: Likewise.
        slopes: By log-parameter, one per row (or one number for all).
        curvatures: By pair of log-parameters with the first not after the second; absent ones
            are 0.
        customers: On each row.
        designs: By log-parameter: ones and its signed covariates, ``(rows, 1 + covariates)``, or
            ``None`` where it has none.
        places: By log-parameter: where its own and its covariates' entries stand.
    """
    for j, slope in enumerate(slopes):
        gradient[places[j]] += _contract(customers, slope, designs[j], None).ravel()
    for (j, k), curvature in curvatures.items():
        block = _contract(customers, curvature, designs[j], designs[k])
        hessian[np.ix_(places[j], places[k])] += block
        if j != k:
            hessian[np.ix_(places[k], places[j])] += block.T


def _contract(
    customers: Floats, values: Floats | float, left: Floats | None, right: Floats | None
) -> Floats:
    if left is None and right is None:
        # In one order however many threads the machine has.
        if isinstance(values, np.ndarray):
            return np.array([[np.einsum("i,i->", customers, values)]])
        return np.array([[customers.sum() * values]])
    weighted = customers * values
    if left is None:
        assert right is not None
        return np.asarray(np.einsum("i,ik->k", weighted, right)[None, :])
    if right is None:
        return np.asarray(np.einsum("i,ij->j", weighted, left)[:, None])
    return np.asarray(np.einsum("i,ij,ik->jk", weighted, left, right))
