"""A maximum of a likelihood over positive parameters, with how well the data fix it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import minimize

from journeylab.errors import FitError

Floats = NDArray[np.float64]
# Parameters -> value, gradient and Hessian, summed over customers.
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
        logs: Logs of the parameters.
        log_likelihood: At the maximum.
        log_covariance: Of the log-parameters, the inverse Hessian; directions the data do not fix
            are held to a standard deviation of 2, so that draws stay within reason.
        converged: The gradient vanishes and the Hessian is that of a maximum.
        weak: Names of the parameters the data hardly fix.
    """

    logs: tuple[float, ...]
    log_likelihood: float
    log_covariance: tuple[tuple[float, ...], ...]
    converged: bool
    weak: tuple[str, ...]

    @property
    def parameters(self) -> tuple[float, ...]:
        """Natural (positive) parameters."""
        return tuple(np.exp(self.logs).tolist())


@dataclass(frozen=True, slots=True)
class _Point:
    logs: Floats
    value: float
    gradient: Floats
    hessian: Floats


def in_logs(likelihood: Likelihood) -> Likelihood:
    """A likelihood of natural parameters, as one of their logs."""

    def of_logs(logs: Floats) -> tuple[float, Floats, Floats]:
        natural = np.exp(logs)
        value, gradient, hessian = likelihood(natural)
        gradient = natural * gradient
        return value, gradient, hessian * np.outer(natural, natural) + np.diag(gradient)

    return of_logs


def maximise(
    likelihood: Likelihood,
    start: Floats,
    customers: float,
    names: tuple[str, ...],
    model: str,
    sample: Likelihood | None = None,
) -> Maximum:
    """Climb by L-BFGS in log-parameters, then by Newton with the analytic Hessian.

    Args:
        likelihood: Logs of the parameters -> value, gradient and Hessian.
        start: Logs of the parameters to start from.
        customers: Their number, which scales the objective.
        names: Of the parameters, in order.
        model: Its name, for messages.
        sample: The likelihood of some of the rows, close enough for L-BFGS to find the region of
            the peak on; Newton then needs few passes over all rows.

    Raises:
        FitError: The climb ends where the gradient has not vanished and no bound holds it.
    """
    low, high = start - _REACH, start + _REACH
    near = _descend(likelihood if sample is None else sample, start, customers, low, high, 1e-10)
    peak = _newton(likelihood, near, low, high)
    if not _settled(peak, low, high, customers):
        near = _descend(likelihood, near, customers, low, high, 1e-15)
        peak = _newton(likelihood, near, low, high)
    if not _settled(peak, low, high, customers):
        raise FitError(
            f"{model} did not converge after L-BFGS and Newton; parameters "
            f"{dict(zip(names, np.exp(peak.logs).round(4).tolist(), strict=True))}; look for rows "
            "with extreme counts or ages"
        )
    edge = _edge(peak.logs, low, high)
    covariance, smallest = _covariance(peak.hessian)
    weak = tuple(
        name
        for name, variance, at_edge in zip(names, np.diag(covariance), edge, strict=True)
        if at_edge or variance > 0.5 * _WEAK**2
    )
    return Maximum(
        logs=tuple(peak.logs.tolist()),
        log_likelihood=peak.value,
        log_covariance=as_tuples(covariance),
        converged=bool(not edge.any() and smallest > 1e-3),
        weak=weak,
    )


def _descend(
    likelihood: Likelihood,
    start: Floats,
    customers: float,
    low: Floats,
    high: Floats,
    tolerance: float,
) -> Floats:
    def descent(logs: Floats) -> tuple[float, Floats]:
        value, gradient, _ = likelihood(logs)
        return -value / customers, -gradient / customers

    found = minimize(
        descent,
        start,
        jac=True,
        method="L-BFGS-B",
        bounds=list(zip(low, high, strict=True)),
        options={"maxiter": 1000, "gtol": 1e5 * tolerance, "ftol": tolerance},
    )
    return np.asarray(found.x, dtype=float)


def _newton(likelihood: Likelihood, logs: Floats, low: Floats, high: Floats) -> _Point:
    at = _Point(logs, *likelihood(logs))
    for _ in range(_NEWTON_STEPS):
        held = ((at.logs <= low) & (at.gradient < 0)) | ((at.logs >= high) & (at.gradient > 0))
        step = np.zeros_like(logs)
        step[~held] = _ascent(at.gradient[~held], at.hessian[np.ix_(~held, ~held)])
        if np.max(np.abs(step)) < 1e-9:
            break
        # Where the step promises less than rounding can show, the likelihood cannot judge it: go
        # on by the gradient alone, so that the last digits do not depend on the way there.
        promised = abs(float(step @ at.gradient))
        for shrink in 0.5 ** np.arange(12):
            trial = np.clip(at.logs + shrink * step, low, high)
            candidate = _Point(trial, *likelihood(trial))
            if candidate.value > at.value or promised < 1e-9 * max(1.0, abs(at.value)):
                break
        else:
            break
        moved = float(np.max(np.abs(trial - at.logs)))
        at = candidate
        if moved < 1e-9:
            break
    return at


def _settled(at: _Point, low: Floats, high: Floats, customers: float) -> bool:
    steepest = np.max(np.abs(at.gradient[~_edge(at.logs, low, high)]), initial=0.0)
    return bool(np.isfinite(at.value) and steepest <= 1e-4 * customers)


def _edge(logs: Floats, low: Floats, high: Floats) -> NDArray[np.bool_]:
    return np.asarray((logs - low < 1e-6) | (high - logs < 1e-6))


def _ascent(gradient: Floats, hessian: Floats) -> Floats:
    """Newton's step uphill, made safe where the Hessian is not that of a maximum."""
    if not gradient.size:
        return gradient
    curvature, directions = np.linalg.eigh(-hessian)
    curvature = np.maximum(np.abs(curvature), 1e-8 * max(1.0, float(np.abs(curvature).max())))
    step = directions @ ((directions.T @ gradient) / curvature)
    return np.asarray(step * min(1.0, 2.0 / max(float(np.abs(step).max()), 1e-300)))


def _covariance(hessian: Floats) -> tuple[Floats, float]:
    curvature, directions = np.linalg.eigh(-hessian)
    held = np.maximum(curvature, _WEAK**-2)
    return np.asarray((directions / held) @ directions.T), float(curvature.min())


def as_tuples(matrix: Floats) -> tuple[tuple[float, ...], ...]:
    """A matrix as a frozen fit keeps it."""
    return tuple(tuple(row) for row in matrix.tolist())


# What every fit says of itself, from its parameters and the covariance of their logs.


def draw_parameters(
    parameters: tuple[float, ...],
    log_covariance: tuple[tuple[float, ...], ...],
    count: int,
    rng: np.random.Generator,
    coefficients: int = 0,
) -> Floats:
    """Laplace draws, ``(count, parameters)``: normal in the logs, so always positive.

    The last ``coefficients`` parameters may have any sign and are drawn as they are.
    """
    factor = np.linalg.cholesky(np.array(log_covariance))
    noise = rng.standard_normal((count, len(parameters))) @ factor.T
    positive = len(parameters) - coefficients
    drawn = np.empty_like(noise)
    drawn[:, :positive] = np.exp(np.log(parameters[:positive]) + noise[:, :positive])
    drawn[:, positive:] = np.array(parameters[positive:]) + noise[:, positive:]
    return drawn


def standard_errors(
    parameters: Mapping[str, float],
    log_covariance: tuple[tuple[float, ...], ...],
    coefficients: int = 0,
) -> dict[str, float]:
    """Of the natural parameters by the delta method; of the last ``coefficients`` as they are."""
    deviations = np.sqrt(np.diag(np.array(log_covariance))).tolist()
    positive = len(parameters) - coefficients
    return {
        name: deviation * (value if place < positive else 1.0)
        for place, ((name, value), deviation) in enumerate(
            zip(parameters.items(), deviations, strict=True)
        )
    }


def aic(parameters: Mapping[str, float], log_likelihood: float) -> float:
    """Akaike's criterion; smaller is better, on the same customers and unit only."""
    return 2 * len(parameters) - 2 * log_likelihood


def identification(weak: tuple[str, ...], converged: bool) -> str:
    """Empty where the data fix every parameter, otherwise a sentence."""
    if weak:
        return (
            f"Weakly identified: the data hardly fix {' and '.join(weak)}; read the predictions, "
            "not these parameters."
        )
    return "" if converged else "No clear maximum was reached: read no parameter by itself."


def summary(
    model: str, parameters: Mapping[str, float], errors: Mapping[str, float], weak: tuple[str, ...]
) -> pd.DataFrame:
    """``model, parameter, value, standard_error, note``, one row per parameter.

    ``note`` says ``weakly identified`` where the value means little.
    """
    return pd.DataFrame(
        {
            "model": model,
            "parameter": list(parameters),
            "value": list(parameters.values()),
            "standard_error": [errors[name] for name in parameters],
            "note": ["weakly identified" if name in weak else "" for name in parameters],
        }
    )
