"""Time in bins: who was watched in which, and how likely the event was in each."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from journeylab.churn.observations import Observations
from journeylab.errors import ContractError, FitError

Floats = npt.NDArray[np.float64]
# rows whose exposure is laid out over all bins at once
_CHUNK_ROWS = 100_000


@dataclass(frozen=True, slots=True, eq=False)
class Bins:
    """Stretches of time within which the hazard is taken as constant.

    Attributes:
        edges: From 0 to the end of the follow-up, ascending; bin j is (edges[j], edges[j + 1]].
        hazard: Chance of each cause within a bin, given none before it, ``(bins, causes)``; for
            all causes together it is Kaplan-Meier's.
        at_risk: Rows watched in some part of each bin.
        events: Events per bin and cause, ``(bins, causes)``.
        correction: Factor on the weight of those who pass a bin, so that weighted counts give
            ``hazard`` exactly although some are censored or enter within the bin.
    """

    edges: Floats
    hazard: Floats
    at_risk: Floats
    events: Floats
    correction: Floats

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.edges) - 1

    @property
    def follow_up(self) -> float:
        """The last edge, in the unit of the durations."""
        return float(self.edges[-1])

    def margins(self) -> npt.NDArray[np.float32]:
        """Log of each cause's chance against passing the bin without an event, float32."""
        stay = 1 - self.hazard.sum(axis=1, keepdims=True)
        return np.asarray(np.log(self.hazard / stay), dtype=np.float32)

    def passed(self, times: npt.ArrayLike) -> Floats:
        """Share (0-1) of each bin that lies before each time, ``(bins, times)``."""
        start, width = self.edges[:-1, None], np.diff(self.edges)[:, None]
        return np.clip((np.asarray(times, dtype=float)[None, :] - start) / width, 0.0, 1.0)

    def needed(self, until: float) -> int:
        """How many bins, from the first, it takes to reach a time."""
        return max(1, int(np.searchsorted(self.edges[1:], until, side="left")) + 1)

    def holding(self, times: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Number of the bin that each time lies in."""
        found = np.searchsorted(self.edges[1:], np.asarray(times, dtype=float), side="left")
        return np.minimum(found, self.count - 1).astype(np.int64)

    def refused(self, times: Sequence[float]) -> list[float]:
        """Times that cannot be answered: negative, past the follow-up, or no numbers."""
        return [t for t in times if not 0 <= t <= self.follow_up]

    def table(self, causes: Sequence[str]) -> pd.DataFrame:
        """One row per bin: ``start``, ``end``, ``at_risk``, and events and hazard of each cause."""
        shown = pd.DataFrame(
            {"start": self.edges[:-1], "end": self.edges[1:], "at_risk": self.at_risk.astype(int)}
        )
        for number, cause in enumerate(causes):
            shown[f"events {cause}"] = self.events[:, number].astype(int)
            shown[f"hazard {cause}"] = self.hazard[:, number]
        return shown


def event_edges(rows: Observations, bins: int | Sequence[float]) -> Floats:
    """Edges at quantiles of the event times, or those that were asked for.

    Args:
        rows: What was seen.
        bins: How many, at least 1; fewer where there are fewer distinct event times. Or the
            edges after 0, ascending.

    Returns:
        From 0 to the longest duration.

    Raises:
        ContractError: Fewer than one bin, edges that do not ascend from above 0, or edges that
            end before the first event.
        FitError: There are no events.
    """
    times = rows.duration[rows.cause > 0]
    if not len(times):
        raise FitError(
            f"none of the {len(rows.duration)} rows has an event: nothing tells when they come"
        )
    last = float(rows.duration.max())
    if isinstance(bins, int | np.integer):
        if bins < 1:
            raise ContractError(f"bins must be at least 1; got {bins}")
        inner = np.quantile(times, np.arange(1, bins) / bins, method="inverted_cdf")
    else:
        inner = np.asarray(bins, dtype=float)
        if not (len(inner) and inner[0] > 0 and (np.diff(inner) > 0).all()):
            raise ContractError(f"bins must be edges that ascend from above 0; got {list(bins)}")
        if times.min() > inner[-1]:
            raise ContractError(
                f"the last edge, {inner[-1]:g}, lies before the first event at {times.min():g}"
            )
        last = min(last, float(inner[-1]))
    return np.concatenate([[0.0], np.unique(inner[inner < last]), [last]])


def lay_out(rows: Observations, edges: Floats, n_causes: int) -> Bins:
    """Count the bins: Kaplan-Meier's hazard of each, shared among causes by their events.

    Args:
        rows: What was seen; events after the last edge count as passing it.
        edges: From ``event_edges``.
        n_causes: Causes that ``rows.cause`` counts from 1.
    """
    count = len(edges) - 1
    hazard = _kaplan_meier_by_bin(rows, edges)
    events = np.zeros((count, n_causes))
    inside = (rows.cause > 0) & (rows.duration <= edges[-1])
    where = np.searchsorted(edges[1:], rows.duration[inside], side="left")
    np.add.at(events, (where, rows.cause[inside] - 1), 1.0)
    passing, at_risk = np.zeros(count), np.zeros(count)
    for part in rows.parts(_CHUNK_ROWS):
        share, event_bin = exposure(part, edges)
        at_risk += (share > 0).sum(axis=0)
        at_risk += np.bincount(event_bin[event_bin >= 0], minlength=count)
        passing += share.sum(axis=0)
    # A bin that nobody or everybody leaves is no proof of chance 0 or 1.
    few = 0.5 / (at_risk + 1)
    hazard = np.clip(hazard, few, 1 - few)
    total = events.sum(axis=1)
    share_of_cause = (events + 1e-3 / n_causes) / (total + 1e-3)[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = total * (1 - hazard) / hazard / passing
    usable = np.isfinite(factor) & (factor > 0)
    return Bins(
        edges,
        hazard[:, None] * share_of_cause,
        at_risk,
        events,
        np.clip(np.where(usable, factor, 1.0), 0.2, 5.0),
    )


def exposure(
    rows: Observations, edges: Floats
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """How much of each bin every row passed without an event.

    Returns:
        Shares of the bins (0-1), ``(rows, bins)``, 0 in the bin of the event; and the bin of the
        event, -1 for rows without one.
    """
    start, end = edges[:-1].astype(np.float32), edges[1:].astype(np.float32)
    duration = rows.duration.astype(np.float32)[:, None]
    entry = rows.entry.astype(np.float32)[:, None]
    share = np.clip(np.minimum(duration, end) - np.maximum(entry, start), 0, None) / (end - start)
    event_bin = np.searchsorted(edges[1:], rows.duration, side="left")
    event_bin = np.where((rows.cause > 0) & (rows.duration <= edges[-1]), event_bin, -1)
    seen = event_bin >= 0
    share[np.flatnonzero(seen), event_bin[seen]] = 0.0
    return share.astype(np.float32), event_bin.astype(np.int64)


def _kaplan_meier_by_bin(rows: Observations, edges: Floats) -> Floats:
    times, events = np.unique(rows.duration[rows.cause > 0], return_counts=True)
    ended = np.searchsorted(np.sort(rows.duration), times, side="left")
    entered = np.searchsorted(np.sort(rows.entry), times, side="left")
    at_risk = np.maximum(entered - ended, events)
    inside = times <= edges[-1]
    where = np.searchsorted(edges[1:], times[inside], side="left")
    with np.errstate(divide="ignore"):
        stay = np.log1p(-(events / at_risk)[inside])
    total = np.zeros(len(edges) - 1)
    np.add.at(total, where, stay)
    return np.asarray(-np.expm1(total), dtype=float)
