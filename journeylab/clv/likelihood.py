"""A maximum of a likelihood over positive parameters, with how well the data fix it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from journeylab.errors import FitError

Floats = NDArray[np.float64]
Likelihood = Callable[[Floats], tuple[float, Floats, Floats]]

# A parameter may move this far from its start, in logs (a factor of 160,000 either way).
_REACH = 12.0
# No direction of the log-parameters is called known when its standard deviation passes this.
_WEAK = 2.0
_NEWTON_STEPS = 50


@dataclass(frozen=True, slots=True)
class Maximum:
    """Where a likelihood peaks.

    Attributes:
        parameters: Natural (positive) parameters.
        log_likelihood: At the maximum.
        log_covariance: Of the log-parameters, the inverse Hessian; directions the data do not fix
            are held to a standard deviation of 2, so that draws stay within reason.
        converged: The gradient vanishes and the Hessian is that of a maximum.
        weak: Names of the parameters the data hardly fix.
    """

    parameters: tuple[float, ...]
    log_likelihood: float
    log_covariance: tuple[tuple[float, ...], ...]
    converged: bool
    weak: tuple[str, ...]


def maximise(
    likelihood: Likelihood, start: Floats, customers: float, names: tuple[str, ...], model: str
) -> Maximum:
    """Climb by L-BFGS in log-parameters, then by Newton with the analytic Hessian.

    Args:
        likelihood: Natural parameters -> value, gradient and Hessian, summed over customers.
        start: Natural parameters to start from.
        customers: Their number, which scales the objective.
        names: Of the parameters, in order.
        model: Its name, for messages.

    Raises:
        FitError: The climb ends where the gradient has not vanished and no bound holds it.
    """

    def in_logs(logs: Floats) -> tuple[float, Floats, Floats]:
        natural = np.exp(logs)
        value, gradient, hessian = likelihood(natural)
        gradient = natural * gradient
        return value, gradient, hessian * np.outer(natural, natural) + np.diag(gradient)

    def descent(logs: Floats) -> tuple[float, Floats]:
        value, gradient, _ = in_logs(logs)
        return -value / customers, -gradient / customers

    centre = np.log(start)
    low, high = centre - _REACH, centre + _REACH
    found = minimize(
        descent,
        centre,
        jac=True,
        method="L-BFGS-B",
        bounds=list(zip(low, high, strict=True)),
        options={"maxiter": 1000, "gtol": 1e-7, "ftol": 1e-13},
    )
    logs = np.asarray(found.x, dtype=float)
    value, gradient, hessian = in_logs(logs)
    for _ in range(_NEWTON_STEPS):
        held = ((logs <= low) & (gradient < 0)) | ((logs >= high) & (gradient > 0))
        step = np.zeros_like(logs)
        step[~held] = _ascent(gradient[~held], hessian[np.ix_(~held, ~held)])
        # Where the step promises less than rounding can show, the likelihood cannot judge it: go
        # on by the gradient alone, so that the last digits do not depend on the way there.
        promised = abs(float(step @ gradient))
        for shrink in 0.5 ** np.arange(12):
            trial = np.clip(logs + shrink * step, low, high)
            candidate = in_logs(trial)
            if candidate[0] > value or promised < 1e-9 * max(1.0, abs(value)):
                break
        else:
            break
        moved = float(np.max(np.abs(trial - logs)))
        logs, (value, gradient, hessian) = trial, candidate
        if moved < 1e-9:
            break
    edge = (logs - low < 1e-6) | (high - logs < 1e-6)
    if not np.isfinite(value) or np.max(np.abs(gradient[~edge]), initial=0.0) > 1e-4 * customers:
        raise FitError(
            f"{model} did not converge after L-BFGS and Newton ({found.message}); parameters "
            f"{dict(zip(names, np.exp(logs).round(4).tolist(), strict=True))}; look for rows with "
            "extreme counts or ages"
        )
    covariance, smallest = _covariance(hessian)
    weak = tuple(
        name
        for name, variance, at_edge in zip(names, np.diag(covariance), edge, strict=True)
        if at_edge or variance > 0.5 * _WEAK**2
    )
    return Maximum(
        parameters=tuple(np.exp(logs).tolist()),
        log_likelihood=float(value),
        log_covariance=tuple(tuple(row) for row in covariance.tolist()),
        converged=bool(not edge.any() and smallest > 1e-3),
        weak=weak,
    )


def _ascent(gradient: Floats, hessian: Floats) -> Floats:
    """Newton's step uphill, made safe where the Hessian is not that of a maximum."""
    curvature, directions = np.linalg.eigh(-hessian)
    curvature = np.maximum(np.abs(curvature), 1e-8 * max(1.0, float(np.abs(curvature).max())))
    step = directions @ ((directions.T @ gradient) / curvature)
    return np.asarray(step * min(1.0, 2.0 / max(float(np.abs(step).max()), 1e-300)))


def _covariance(hessian: Floats) -> tuple[Floats, float]:
    curvature, directions = np.linalg.eigh(-hessian)
    held = np.maximum(curvature, _WEAK**-2)
    return np.asarray((directions / held) @ directions.T), float(curvature.min())


def draw_parameters(
    parameters: tuple[float, ...],
    log_covariance: tuple[tuple[float, ...], ...],
    count: int,
    rng: np.random.Generator,
) -> Floats:
    """Laplace draws, ``(count, parameters)``: normal in the logs, so always positive."""
    factor = np.linalg.cholesky(np.array(log_covariance))
    normal = rng.standard_normal((count, len(parameters)))
    return np.asarray(np.exp(np.log(parameters) + normal @ factor.T))
