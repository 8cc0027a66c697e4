"""Qini and uplift areas in the conventions of other libraries, to compare with what they print.

Four normalisations go by the same name; none works for several arms, and none has a standard error
of its own. Decide by ``toc.autoc``, ``toc.qini_rate`` and ``policy_value``; use these to read
papers.
"""

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from journeylab.errors import ContractError
from journeylab.estimate import Estimate, half_samples
from journeylab.uplift.ranks import Places, places
from journeylab.uplift.scores import Floats, Ints

Area = Literal["qini", "uplift", "gain", "raw gain"]


_UNITS: dict[Area, str] = {
    "qini": "share of the perfect area",
    "uplift": "share of the perfect area",
    "gain": "share of the last gain",
    "raw gain": "outcomes",
}


def qini(
    outcome: ArrayLike,
    treated: ArrayLike,
    ranking: ArrayLike,
    rng: int | np.random.Generator = 0,
    *,
    level: float = 0.95,
    draws: int = 200,
) -> Estimate:
    """Qini coefficient as scikit-uplift has it (``qini_auc_score``, negative effects allowed).

    Area between the Qini curve and the straight line, by that of the perfect curve, which puts
    treated responders first and untreated ones last. Points of the curve stand at distinct values
    of the ranking only.

    Args:
        outcome: 0 or more, one per unit; 0 and 1 in scikit-uplift.
        treated: 0 or 1.
        ranking: Highest first.
        rng: Seed or generator of the interval's half-samples.
        level: Coverage (0-1).
        draws: Half-samples; the interval is Gaussian with their spread.

    Raises:
        ContractError: An outcome is negative, ``treated`` is not 0 or 1 or is constant, or the
            perfect curve has no area (no outcome at all).

    Source:
        Radcliffe, "Using control groups to target on predicted lift" (2007); Devriendt, Guns &
        Verbeke, "Learning to rank for uplift modeling" (2020); scikit-uplift 0.5.1.
    """
    return _with_interval(outcome, treated, ranking, "qini", rng, level, draws)


def auuc(
    outcome: ArrayLike,
    treated: ArrayLike,
    ranking: ArrayLike,
    rng: int | np.random.Generator = 0,
    *,
    normalise: Literal["perfect", "final", "none"] = "perfect",
    level: float = 0.95,
    draws: int = 200,
) -> Estimate:
    """Area under the uplift curve, as scikit-uplift or causalml has it.

    Args:
        outcome: 0 or more, one per unit.
        treated: 0 or 1.
        ranking: Highest first.
        rng: Seed or generator of the interval's half-samples.
        normalise: ``perfect``: area above the straight line by that of the perfect curve
            (scikit-uplift's ``uplift_auc_score``); ``final``: mean of the cumulative gain by the
            size of its last point (causalml's ``auuc_score``; 0.5 and not 0 by chance); ``none``:
            the same not normalised (causalml with ``normalize=False``): outcomes won on the way
            down the whole list, growing with the number of units.
        level: Coverage (0-1).
        draws: Half-samples.

    Raises:
        ContractError: As ``qini``, or the average effect is 0 under ``final``.

    Source:
        Gutierrez & Gerardy, "Causal Inference and Uplift Modelling" (2016), section 4.1; causalml
        0.18.0, where the order of ties is left to the sort: here they are spread evenly.
    """
    kinds: dict[str, Area] = {"perfect": "uplift", "final": "gain", "none": "raw gain"}
    if normalise not in kinds:
        raise ContractError(f"normalise must be one of {', '.join(kinds)}; got {normalise!r}")
    return _with_interval(outcome, treated, ranking, kinds[normalise], rng, level, draws)


def _with_interval(
    outcome: ArrayLike,
    treated: ArrayLike,
    ranking: ArrayLike,
    kind: Area,
    rng: int | np.random.Generator,
    level: float,
    draws: int,
) -> Estimate:
    from scipy.special import ndtri

    y, w, r = (np.asarray(v, dtype=float) for v in (outcome, treated, ranking))
    if not len(y) == len(w) == len(r) or not np.isfinite(np.concatenate([y, w, r])).all():
        raise ContractError(
            f"outcome, treated and ranking must be finite and equally long; got {len(y)}, {len(w)} "
            f"and {len(r)}"
        )
    if bad := int((~np.isin(w, (0, 1))).sum()) or not 0 < w.mean() < 1:
        raise ContractError(f"treated must be 0 or 1 and hold both; {int(bad)} rows are neither")
    if bad := int((y < 0).sum()):
        raise ContractError(f"outcomes must be 0 or more here; {bad} of {len(y)} are below")

    def area(rows: Ints) -> float:
        return _area(y[rows], w[rows], r[rows], kind)

    value = area(np.arange(len(y)))
    drawn = half_samples(len(y), area, rng, draws)
    if kind == "raw gain":
        drawn = drawn * len(y) / (len(y) // 2)
    margin = float(ndtri((1 + level) / 2) * drawn.std(ddof=1))
    return Estimate(value, value - margin, value + margin, _UNITS[kind], level)


def _area(y: Floats, w: Floats, ranking: Floats, kind: Area) -> float:
    if kind in ("gain", "raw gain"):
        return _mean_gain(y, w, places(ranking), kind == "gain")
    if kind == "qini":
        perfect = _above_line(y, w, y * (2 * w - 1), kind)
    else:
        bought, missed = ((y > 0) & (w == 0)).sum(), ((y == 0) & (w == 1)).sum()
        ideal = 2.0 * ((y > 0) == (w == 1)) + ((y > 0) if bought > missed else w)
        perfect = _above_line(y, w, ideal, kind)
    if perfect == 0:
        raise ContractError("the perfect curve has no area above the line: nobody responded")
    return _above_line(y, w, ranking, kind) / perfect


def _above_line(y: Floats, w: Floats, ranking: Floats, kind: Area) -> float:
    """Area between the curve, with points at distinct values, and the line to its end."""
    place = places(ranking)
    treated, own = w[place.order], y[place.order]
    last = place.end - 1
    n_treated = np.cumsum(treated)[last]
    y_treated, y_control = np.cumsum(own * treated)[last], np.cumsum(own * (1 - treated))[last]
    n_control = place.end - n_treated
    rate = _ratio(y_control, n_control)
    if kind == "qini":
        height = y_treated - rate * n_treated
    else:
        height = (_ratio(y_treated, n_treated) - rate) * place.end
    x, height = np.append(0, place.end), np.append(0.0, height)
    return float(np.trapezoid(height, x) - x[-1] * height[-1] / 2)


def _mean_gain(y: Floats, w: Floats, place: Places, normalised: bool) -> float:
    """Mean over k of k times the difference of means among the first k; ties spread evenly."""
    n = len(y)
    ordered = np.column_stack([w, y * w, y * (1 - w)])[place.order]
    n_treated, y_treated, y_control = np.cumsum(place.means(ordered)[place.group], axis=0).T
    rank = np.arange(1, n + 1)
    n_control = rank - n_treated
    known = (n_treated > 1e-9) & (n_control > 1e-9)
    lift = _ratio(y_treated, n_treated) - _ratio(y_control, n_control)
    lift = np.interp(rank, np.append(0, rank[known]), np.append(0.0, lift[known]))
    gain = lift * rank
    last = gain[-1]
    if normalised and last == 0:
        raise ContractError("the average effect is 0: it cannot normalise the gain")
    return float(gain.sum() / (n + 1) / (abs(last) if normalised else 1.0))


def _ratio(above: Floats, below: Floats) -> Floats:
    return np.divide(above, below, out=np.zeros(len(above)), where=below > 1e-9)
