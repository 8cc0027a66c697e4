"""Settings of a hazard model, chosen by cross-validation inside the training rows."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd
from tqdm.auto import tqdm

from journeylab.churn.bins import Bins, lay_out
from journeylab.churn.covariates import code_covariates
from journeylab.churn.hazard_settings import VECTOR, HazardSettings
from journeylab.churn.hazard_trees import Lesson, grow, sampled_lesson, vector_lesson
from journeylab.churn.observations import Observations
from journeylab.churn.person_periods import person_periods

FOLDS = 4
# Later landmarks that earlier ones must foretell, at most; fewer events judge nothing.
_JUDGED_LANDMARKS, _PARTS_PER_LANDMARK = 2, 2
_FEWEST_EVENTS = 10
# Below so many events trees of one or two splits are all that the data can tell apart.
_FEW_EVENTS = 1500
# From so many rows one fold tells candidates apart: the better half of them goes on to the others.
# The search then takes steps so much larger than the fit, which gets as many more rounds.
HALVING_ROWS, _LARGER_STEPS = 4_000, 2
# From so many rows one division of at most so many judges well enough.
MANY_ROWS, SEARCHED_ROWS = 50_000, 100_000


@dataclass(frozen=True, slots=True, eq=False)
class Fold:
    """Rows to learn from, as known at the time, and rows to judge by.

    Attributes:
        training: Their numbers in the frame.
        known: Their outcomes as known before the judged rows' landmark.
        judged: Numbers of the rows to judge by.
        what: In words.
    """

    training: npt.NDArray[np.int64]
    known: Observations
    judged: npt.NDArray[np.int64]
    what: str


def candidates(rows: int, events: int, layout: str) -> tuple[HazardSettings, ...]:
    """Settings worth trying, from stumps to deep trees; deep ones only where events allow.

    Args:
        rows: Of the frame.
        events: In them.
        layout: A leaf of the ``vector`` layout shares its events among all bins, and needs more.
    """
    vector = layout == "vector"
    if rows >= MANY_ROWS:
        return (replace(VECTOR if vector else HazardSettings(), rounds=300),)
    if events < _FEW_EVENTS:
        slow = HazardSettings(rounds=600, eta=0.03, subsample=0.5, columns=0.4)
        grown = ((1, 20.0, 20.0), (2, 20.0, 30.0)) if vector else ((1, 5.0, 5.0), (2, 10.0, 10.0))
    else:
        slow = HazardSettings(rounds=400, eta=0.05, subsample=0.5, columns=0.5)
        grown = ((2, 30.0, 50.0), (4, 50.0, 50.0)) if vector else ((2, 10.0, 10.0), (4, 20.0, 10.0))
    return tuple(
        replace(slow, depth=depth, least_events=least, shrinkage=shrinkage)
        for depth, least, shrinkage in grown
    )


def folds(rows: Observations, rng: np.random.Generator) -> list[Fold]:
    """Ways to divide the training rows, no customer on both sides.

    With stacked landmarks the later ones are foretold by the earlier ones, whose outcomes are cut
    where the judged landmark lies, and customers are divided too. Without, customers only.

    Args:
        rows: All training rows.
        rng: Deals customers to parts.
    """
    dealt = rng.permutation(int(rows.customer.max()) + 1)[rows.customer]
    # where nobody stands at two landmarks they are days of joining, not of looking
    stacked = len(np.unique(rows.customer)) < len(rows)
    if rows.landmark is not None and stacked and not rows.entry.any():
        later = list(_in_time_order(rows, dealt % _PARTS_PER_LANDMARK))
        if later:
            return later[-1:] if len(rows) >= MANY_ROWS else later
    part, everything = dealt % FOLDS, np.arange(len(rows))
    found = []
    for number in range(1 if len(rows) >= MANY_ROWS else FOLDS):
        training, judged = everything[part != number], everything[part == number]
        if _events(rows.at(training)) and _events(rows.at(judged)):
            found.append(Fold(training, rows.at(training), judged, f"part {number + 1}"))
    return found


def _in_time_order(rows: Observations, part: npt.NDArray[np.int64]) -> Iterator[Fold]:
    assert rows.landmark is not None
    everything = np.arange(len(rows))
    for day in np.unique(rows.landmark)[1:][-_JUDGED_LANDMARKS:]:
        known, there = rows.censored_at(float(day))
        for number in range(_PARTS_PER_LANDMARK):
            judged = everything[(rows.landmark == day) & (part == number)]
            others = part[there] != number
            training = known.at(others)
            if min(_events(training), _events(rows.at(judged))) >= _FEWEST_EVENTS:
                what = f"landmark {day:g}, part {number + 1}"
                yield Fold(everything[there][others], training, judged, what)


def _events(rows: Observations) -> int:
    return int((rows.cause > 0).sum())


def search(
    frame: pd.DataFrame,
    names: Sequence[str],
    rows: Observations,
    edges: npt.NDArray[np.float64],
    n_causes: int,
    tried: Sequence[HazardSettings],
    *,
    layout: str,
    sample: int | None,
    monotone: Sequence[int] | None,
    rng: np.random.Generator,
) -> tuple[HazardSettings, pd.DataFrame]:
    """Grow candidates on folds of the rows and keep the one that foretells best.

    Of many rows the first fold leaves the better half of the candidates (successive halving), and
    they grow with steps twice as large as the settings that come back, which have twice the rounds.
    A bar on standard error shows where it stands, after two seconds and where somebody watches.

    Args:
        frame: The training rows.
        names: Columns to learn from.
        rows: Their outcomes.
        edges: Of the bins.
        n_causes: Causes in ``rows``.
        tried: Candidates; each one's ``rounds`` is the most that it may have.
        layout: ``sampled`` or ``vector``.
        sample: As in ``person_periods``.
        monotone: As in ``fit_hazard``, per column.
        rng: Deals the folds and draws the rows.

    Returns:
        The best settings with the number of rounds that was best over all folds, and one row per
        candidate: ``depth``, ``eta``, ``least_events``, ``shrinkage``, ``rounds``, ``loss``
        (per event, on rows not learnt from), ``loss_marginal`` (without covariates), ``folds``
        (compare losses among those of the most folds).
        With no usable fold the first candidate at a tenth of its rounds.
    """
    chosen = _some(rows, rng)
    frame, rows = frame.iloc[chosen], rows.at(chosen)
    seed = int(rng.integers(2**31))
    larger = _LARGER_STEPS if len(rows) >= HALVING_ROWS else 1
    curves: list[list[list[float]]] = [[] for _ in tried]
    judged_events = np.zeros(len(tried))
    left = list(range(len(tried)))
    divisions = folds(rows, rng)
    bar = tqdm(
        total=len(tried) * len(divisions), desc="choosing settings of the hazard", unit=" fits",
        delay=2, leave=False, disable=not sys.stderr.isatty(),
    )  # fmt: skip
    for done, fold in enumerate(divisions, start=1):
        bins = lay_out(fold.known, edges, n_causes)
        if not bins.events.sum():
            continue
        numbers, _ = code_covariates(
            frame.iloc[fold.training], names, fold.known, expected(fold.known, bins)
        )
        lessons = [
            _lesson(numbers.matrix(frame.iloc[which]), outcomes, bins, layout, draw, rng)
            for which, outcomes, draw in (
                (fold.training, fold.known, sample),
                (fold.judged, rows.at(fold.judged), sample),
            )
        ]
        signs = None if monotone is None else [monotone[i] for i in numbers.owners]
        for number in left:
            quick = _quicker(tried[number], larger)
            _, losses = grow(
                lessons[0],
                quick,
                seed,
                layout=layout,
                monotone=_with_time(signs, layout),
                judged=lessons[1],
            )
            # a curve that was stopped would not have come back: hold its last value
            curves[number].append(losses + [losses[-1]] * (quick.rounds + 1 - len(losses)))
            judged_events[number] += _events(rows.at(fold.judged))
            bar.update()
        if larger > 1 and len(left) > 1:
            left.sort(key=lambda number: float(np.sum(curves[number], axis=0).min()))
            left = left[: -(-len(left) // 2)]
            bar.total = bar.n + len(left) * (len(divisions) - done)
    bar.close()
    table = []
    for curve, settings, events in zip(curves, tried, judged_events, strict=True):
        total = np.sum(curve, axis=0) if curve else np.zeros(settings.rounds + 1)
        best = int(np.argmin(total)) if curve else settings.rounds // (10 * larger)
        row = {name: getattr(settings, name) for name in ("depth", "eta", "least_events")}
        row |= {"shrinkage": settings.shrinkage, "rounds": best * larger, "folds": len(curve)}
        row |= {"loss": total[best] / max(events, 1), "loss_marginal": total[0] / max(events, 1)}
        table.append(row)
    found = pd.DataFrame(table)
    # candidates that left early were judged on fewer rows: their loss is not to be compared
    winner = min(sorted(left), key=lambda number: float(found["loss"].iloc[number]))
    return replace(tried[winner], rounds=int(found["rounds"].iloc[winner])), found


def _quicker(settings: HazardSettings, larger: int) -> HazardSettings:
    return replace(settings, eta=settings.eta * larger, rounds=-(-settings.rounds // larger))


def expected(rows: Observations, bins: Bins) -> npt.NDArray[np.float64]:
    """Events of each cause that the marginal hazard expects of each row, ``(rows, causes)``."""
    until = np.vstack([np.zeros(bins.hazard.shape[1]), np.cumsum(bins.hazard, axis=0)])
    found = np.empty((len(rows), bins.hazard.shape[1]))
    for cause in range(bins.hazard.shape[1]):
        upto = np.interp(rows.duration, bins.edges, until[:, cause])
        found[:, cause] = upto - np.interp(rows.entry, bins.edges, until[:, cause])
    return found


def _lesson(
    matrix: npt.NDArray[np.float32],
    rows: Observations,
    bins: Bins,
    layout: str,
    sample: int | None,
    rng: np.random.Generator,
) -> Lesson:
    if layout == "vector":
        return vector_lesson(matrix, rows, bins)
    return sampled_lesson(matrix, person_periods(rows, bins, sample, rng), bins)


def _with_time(signs: Sequence[int] | None, layout: str) -> list[int] | None:
    if signs is None:
        return None
    return [*signs, 0] if layout == "sampled" else list(signs)


def _some(rows: Observations, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    if len(rows) <= SEARCHED_ROWS:
        return np.arange(len(rows))
    customers = int(rows.customer.max()) + 1
    share = SEARCHED_ROWS / len(rows)
    taken = rng.permutation(customers) < max(1, round(share * customers))
    return np.flatnonzero(taken[rows.customer])
