"""When the event comes: a discrete-time hazard grown by trees, for one cause or several."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from journeylab.churn.bins import Bins, event_edges, lay_out
from journeylab.churn.covariates import Covariates, choose_columns, code_covariates
from journeylab.churn.explanation import Explanation, explain_rows
from journeylab.churn.hazard_search import candidates, expected, search
from journeylab.churn.hazard_settings import HazardSettings
from journeylab.churn.hazard_trees import (
    class_margins,
    grow,
    predict_margins,
    sampled_lesson,
    vector_lesson,
)
from journeylab.churn.observations import Observations, observe
from journeylab.churn.person_periods import person_periods
from journeylab.errors import ContractError, FitError

Layout = Literal["sampled", "vector"]
Singles = npt.NDArray[np.float32]
_FEWEST_CUSTOMERS = 20
_FEWEST_EVENTS = 10
# Up to so many rows of customer and bin all of them are held; beyond, a few per customer.
FULL_EXPANSION_ROWS = 200_000
# Rows of customer and bin that are scored at once
_CHUNK_CELLS = 1_000_000


@dataclass(frozen=True, slots=True, eq=False)
class HazardFit:
    """A hazard in discrete time: the chance of the event in each bin, given none before it.

    Attributes:
        bins: Edges, and the marginal hazard that the trees start from.
        causes: Names; ``("event",)`` where they were not told apart.
        covariates: Columns and how they become numbers.
        layout: ``sampled`` (rows of customer and bin) or ``vector`` (outputs for every bin).
        settings: How the trees were grown.
        search: The candidates that were compared, empty where settings were given.
        monotone: Column -> 1 where its hazard may only rise with it, -1 only fall.
        trees: An ``xgboost.Booster``.
        n_rows, n_customers, n_events, n_held: Rows of the frame, customers, events; rows that the
            trees were grown on.
        notes: What was left out, pooled or fallen back on, in sentences.
    """

    bins: Bins
    causes: tuple[str, ...]
    covariates: Covariates
    layout: Layout
    settings: HazardSettings
    search: pd.DataFrame
    monotone: Mapping[str, int]
    trees: Any
    n_rows: int
    n_customers: int
    n_events: int
    n_held: int
    notes: tuple[str, ...]

    @property
    def follow_up(self) -> float:
        """The longest time that can be asked for, in the unit of the durations."""
        return self.bins.follow_up

    @property
    def fingerprint(self) -> str:
        """Hash of the trees and the bins: the same for the same fit, anywhere."""
        content = self.bins.edges.tobytes() + self.bins.hazard.tobytes()
        return hashlib.sha256(content + bytes(self.trees.save_raw("ubj"))).hexdigest()[:16]

    def summary(self) -> pd.DataFrame:
        """One row per covariate: ``covariate``, ``kind``, ``gain`` (share of the trees' gain)."""
        scores = self.trees.get_score(importance_type="total_gain")
        owners = (*self.covariates.owners, len(self.covariates.names))
        gain = np.zeros(len(self.covariates.names) + 1)
        for number, owner in enumerate(owners):
            gain[owner] += float(scores.get(f"f{number}", 0.0))
        levels = self.covariates.levels
        kinds = ["category" if name in levels else "number" for name in self.covariates.names]
        shown = pd.DataFrame(
            {
                "covariate": [*self.covariates.names, "time"],
                "kind": [*kinds, "bin"],
                "gain": gain / (gain.sum() or 1.0),
            }
        )
        if self.layout == "vector":
            shown = shown.iloc[:-1]
        return shown.sort_values("gain", ascending=False, kind="stable", ignore_index=True)

    def survival(self, frame: pd.DataFrame, times: Sequence[float]) -> pd.DataFrame:
        """Chance (0-1) of no event by each time, whatever its cause.

        Args:
            frame: The covariates of the fit.
            times: In the unit of the durations, at most ``follow_up``; between the edges of a
                bin the hazard is constant.

        Returns:
            One row per row of ``frame`` (its index), one column per time; never rising in time.

        Raises:
            ContractError: A covariate is missing, or a time lies past the follow-up.
        """
        chance = np.exp(-self._cumulative(frame, self._asked(times)))
        return pd.DataFrame(chance, frame.index, columns=list(times))

    def conditional(
        self,
        frame: pd.DataFrame,
        times: Sequence[float],
        after: float | Sequence[float] | pd.Series,
    ) -> pd.DataFrame:
        """Chance (0-1) of no event within each of ``times`` more, given none until ``after``.

        Args:
            frame: The covariates of the fit.
            times: Counted from ``after``; with it at most ``follow_up``.
            after: How long each row has already been without the event; one number, or one per
                row in the order of ``frame``.

        Raises:
            ContractError: As in ``survival``, or ``after`` has another length than the frame.
        """
        waited = np.asarray(after, dtype=float)
        if waited.ndim and waited.shape != (len(frame),):
            raise ContractError(f"after has {waited.size} values for {len(frame)} rows")
        own, number = np.unique(np.broadcast_to(waited, len(frame)), return_inverse=True)
        found = np.empty((len(frame), len(times)))
        for position, start in enumerate(own):
            rows = np.flatnonzero(number == position)
            asked = self._asked([start, *(start + t for t in times)])
            total = self._cumulative(frame.iloc[rows], asked)
            found[rows] = np.exp(total[:, :1] - total[:, 1:])
        return pd.DataFrame(found, frame.index, columns=list(times))

    def along(self, episodes: pd.DataFrame, times: Sequence[float]) -> pd.DataFrame:
        """Chance (0-1) of no event by each time for customers whose covariates change.

        Args:
            episodes: The covariates of the fit, and ``customer_id``, ``entry``, ``duration``:
                each row's covariates hold in (entry, duration].
            times: As in ``survival``.

        Returns:
            One row per customer, ascending, index ``customer_id``.

        Raises:
            ContractError: As in ``survival``, or a customer's episodes leave a gap, overlap, do
                not start at 0, or end before the last time.
        """
        if missing := [n for n in ("customer_id", "entry", "duration") if n not in episodes]:
            raise ContractError(f"no {missing} in the episodes; they have {list(episodes)}")
        asked = self._asked(times)
        ordered = episodes.sort_values(["customer_id", "entry"], kind="stable")
        start, end = (ordered[name].to_numpy(dtype=float) for name in ("entry", "duration"))
        customer = ordered["customer_id"].to_numpy()
        first = np.append(True, customer[1:] != customer[:-1])
        due = np.where(first, 0.0, np.append(0.0, end[:-1]))
        short = np.append(first[1:], True) & (end < max(asked, default=0.0))
        if bad := int(((start != due) | (end <= start) | short).sum()):
            raise ContractError(
                f"a customer's episodes must follow one another from 0 to the last time; {bad} of "
                f"{len(ordered)} do not"
            )
        by_bin = self._by_bin(ordered, self.bins.needed(max(asked)))
        total = np.zeros((len(ordered), len(asked)))
        for column, time in enumerate(asked):
            upto = self.bins.passed(np.minimum(end, time)) - self.bins.passed(
                np.minimum(start, time)
            )
            total[:, column] = (by_bin * upto[: by_bin.shape[1]].T).sum(axis=1)
        summed = pd.DataFrame(total, columns=list(times)).groupby(customer).sum()
        return pd.DataFrame(np.exp(-summed)).rename_axis("customer_id")

    def hazard(
        self, frame: pd.DataFrame, times: Sequence[float], cause: str | None = None
    ) -> pd.DataFrame:
        """Rate of the event per unit of time at each time, given none before; constant in a bin.

        Args:
            frame: The covariates of the fit.
            times: As in ``survival``.
            cause: One of ``causes``; all together without it.

        Returns:
            One row per row of ``frame``, one column per time.
        """
        asked = self._asked(times)
        holding = self.bins.holding(asked)
        found = np.empty((len(frame), len(asked)))
        width = np.diff(self.bins.edges)[holding]
        for rows, margin in self._margins(frame, np.unique(holding)):
            margin = margin[:, np.searchsorted(np.unique(holding), holding)]
            rate = _minus_log_stay(margin) / width
            found[rows] = rate if cause is None else rate * _shares(margin)[..., self._of(cause)]
        return pd.DataFrame(found, frame.index, columns=list(times))

    def cumulative_incidence(self, frame: pd.DataFrame, times: Sequence[float]) -> pd.DataFrame:
        """Chance (0-1) that the event of each cause comes first and by each time.

        Args:
            frame: The covariates of the fit.
            times: As in ``survival``.

        Returns:
            One row per row of ``frame``; columns in two levels, ``cause`` and ``time``. At any
            time they add up to 1 with ``survival``.
        """
        asked = self._asked(times)
        needed = self.bins.needed(max(asked))
        passed = self.bins.passed(asked)[:needed]
        found = np.empty((len(frame), len(self.causes), len(asked)))
        for rows, margin in self._margins(frame, np.arange(needed)):
            by_bin, shares = _minus_log_stay(margin), _shares(margin)
            start = np.exp(by_bin - np.cumsum(by_bin, axis=1))
            for column in range(len(asked)):
                left = start * -np.expm1(-by_bin * passed[:, column])
                found[rows, :, column] = np.einsum("nj,njc->nc", left, shares)
        columns = pd.MultiIndex.from_product([self.causes, list(times)], names=["cause", "time"])
        return pd.DataFrame(found.reshape(len(frame), -1), frame.index, columns=columns)

    def restricted_mean(self, frame: pd.DataFrame, until: float) -> pd.Series:
        """Mean time without the event up to ``until``, in the unit of the durations.

        Args:
            frame: The covariates of the fit.
            until: As a time in ``survival``.
        """
        self._asked([until])
        needed = self.bins.needed(until)
        width = (np.diff(self.bins.edges) * self.bins.passed([until])[:, 0])[:needed]
        share = self.bins.passed([until])[:needed, 0]
        found = np.empty(len(frame))
        for rows, margin in self._margins(frame, np.arange(needed)):
            whole = _minus_log_stay(margin)
            start = np.exp(whole - np.cumsum(whole, axis=1))
            inside = np.maximum(whole * share, 1e-12)
            found[rows] = (start * width * -np.expm1(-inside) / inside).sum(axis=1)
        return pd.Series(found, frame.index, name="restricted_mean")

    def explain(
        self, frame: pd.DataFrame, times: Sequence[float], cause: str | None = None
    ) -> Explanation:
        """What each covariate adds to the log-odds of the event at each time (TreeSHAP).

        Args:
            frame: The covariates of the fit.
            times: As in ``survival``; each is explained by the bin it lies in.
            cause: One of ``causes``, against no event at all; needed where there are several.

        Returns:
            Contributions of covariate and time, additive to the margin.
        """
        if cause is None and len(self.causes) > 1:
            raise ContractError(f"say which cause to explain, one of {list(self.causes)}")
        asked = self._asked(times)
        holding = self.bins.holding(asked)
        return explain_rows(
            self.trees,
            self.covariates.matrix(frame),
            self._base(),
            holding,
            self.covariates,
            layout=self.layout,
            index=frame.index,
            times=list(times),
            cause=0 if cause is None else self._of(cause),
        )

    def _asked(self, times: Sequence[float]) -> list[float]:
        if not len(times):
            raise ContractError("times must hold at least one time")
        if refused := self.bins.refused(times):
            raise ContractError(
                f"the fit followed rows for {self.follow_up:g}; cannot tell {refused}"
            )
        return [float(time) for time in times]

    def _of(self, cause: str) -> int:
        if cause not in self.causes:
            raise ContractError(f"no cause {cause!r}; the fit tells apart {list(self.causes)}")
        return self.causes.index(cause)

    def _base(self) -> Singles:
        return class_margins(self.bins)

    def _cumulative(self, frame: pd.DataFrame, times: Sequence[float]) -> npt.NDArray[np.float64]:
        needed = self.bins.needed(max(times))
        passed = self.bins.passed(times)[:needed]
        found = np.empty((len(frame), len(times)))
        for rows, margin in self._margins(frame, np.arange(needed)):
            found[rows] = _minus_log_stay(margin) @ passed
        return found

    def _by_bin(self, frame: pd.DataFrame, needed: int) -> npt.NDArray[np.float64]:
        found = np.empty((len(frame), needed))
        for rows, margin in self._margins(frame, np.arange(needed)):
            found[rows] = _minus_log_stay(margin)
        return found

    def _margins(self, frame: pd.DataFrame, bins: npt.NDArray[np.int64]) -> Any:
        """Pieces of the frame with their margins, ``(rows, bins, outputs)``."""
        base = self._base()[bins]
        outputs = self.bins.count * len(self.causes)
        step = max(1, _CHUNK_CELLS // (outputs if self.layout == "vector" else len(bins)))
        for start in range(0, len(frame), step):
            rows = slice(start, start + step)
            matrix = self.covariates.matrix(frame.iloc[rows])
            if self.layout == "vector":
                whole = np.broadcast_to(self.bins.margins().reshape(-1), (len(matrix), outputs))
                margin = predict_margins(self.trees, matrix, whole, self.settings.threads)
                margin = margin.reshape(len(matrix), self.bins.count, -1)[:, bins]
                if len(self.causes) > 1:
                    none = np.zeros((*margin.shape[:2], 1), dtype=np.float32)
                    margin = np.concatenate([none, margin], axis=2)
                yield rows, margin
                continue
            cells = np.empty((len(matrix), len(bins), matrix.shape[1] + 1), dtype=np.float32)
            cells[:, :, :-1] = matrix[:, None, :]
            cells[:, :, -1] = bins
            whole = np.broadcast_to(base, (len(matrix), *base.shape)).reshape(-1, base.shape[1])
            margin = predict_margins(
                self.trees, cells.reshape(len(whole), -1), whole, self.settings.threads
            )
            yield rows, margin.reshape(len(matrix), len(bins), -1)


def fit_hazard(
    frame: pd.DataFrame,
    covariates: Sequence[str] | None = None,
    *,
    bins: int | Sequence[float] = 30,
    sample: int = 3,
    causes: Sequence[str] | None = None,
    monotone: Mapping[str, int] | None = None,
    layout: Layout = "sampled",
    settings: HazardSettings | None = None,
    rng: int | np.random.Generator,
) -> HazardFit:
    """Grow a discrete-time hazard model.

    The trees start from the marginal hazard of each bin (Kaplan-Meier's) and correct it, so that
    the level is right before the first tree. A row counts in the bins that it was watched in:
    after ``entry`` (left truncation, or covariates that change: one row per stretch, the event
    on the last) and until ``duration``.

    Args:
        frame: ``duration``, ``event``; where they are, ``entry``, ``cause``, ``customer_id``,
            ``landmark``; and the covariates. With landmarks, settings are chosen in time order.
        covariates: Columns of numbers, truth values or text, gaps allowed; without it all but
            those named above.
        bins: How many, at quantiles of the event times; or their edges after 0.
        sample: Of the bins that a row passes, how many are held, at most, with its event; data of
            no more than 200,000 rows of customer and bin are held whole.
        causes: Values of ``cause`` to tell apart, in one softmax; without it any event is one.
        monotone: Column of numbers -> 1 if the hazard may only rise with it, -1 if only fall.
        layout: ``sampled`` learns from rows of customer and bin; ``vector`` from one row per
            customer with an output for each bin (and cause), slower to fit and much faster to
            score.
        settings: How trees grow; without it chosen by cross-validation inside ``frame``.
        rng: Seed or generator of every draw.

    Raises:
        ContractError: A column is missing or holds what it must not, or options do not go
            together (``monotone`` neither with ``vector``, whose trees xgboost grows without
            such constraints, nor with several causes).
        FitError: There are fewer than 20 customers or 10 events, or no covariate is left.

    Source:
        Tutz & Schmid, "Modeling Discrete Time-to-Event Data" (2016), for the likelihood; Langholz
        & Borgan (1995) for drawing from those at risk; Chen & Guestrin (2016) for the trees.
    """
    if layout not in ("sampled", "vector"):
        raise ContractError(f"layout must be 'sampled' or 'vector'; got {layout!r}")
    if sample < 1:
        raise ContractError(f"sample must be at least 1; got {sample}")
    if layout == "vector" and monotone:
        raise ContractError(
            "layout 'vector' takes no monotone covariates: xgboost does not constrain trees of "
            "several outputs; use 'sampled' for them"
        )
    if monotone and causes is not None:
        raise ContractError("monotone has no meaning with several causes: leave one of them out")
    draws = np.random.default_rng(rng)
    rows, names = observe(frame, causes)
    n_events, n_customers = int((rows.cause > 0).sum()), int(rows.customer.max()) + 1
    if n_customers < _FEWEST_CUSTOMERS or n_events < _FEWEST_EVENTS:
        raise FitError(
            f"too few data for a hazard model: {n_customers} customers and {n_events} events, of "
            f"which it needs at least {_FEWEST_CUSTOMERS} and {_FEWEST_EVENTS}"
        )
    columns, notes = choose_columns(frame, covariates)
    edges = event_edges(rows, bins)
    laid = lay_out(rows, edges, len(names))
    notes += _remarks(rows, laid, bins)
    coding, pooled = code_covariates(frame, columns, rows, expected(rows, laid))
    notes += pooled
    signs = _signs(monotone, columns, coding)
    held = None if _expanded(rows, laid) <= FULL_EXPANSION_ROWS else sample
    compared = pd.DataFrame()
    if settings is None:
        settings, compared = search(
            frame, columns, rows, edges, len(names), candidates(len(rows), n_events, layout),
            layout=layout, sample=sample, monotone=signs, rng=draws,
        )  # fmt: skip
        if not compared["folds"].any():
            notes.append("too few data to compare settings: a tenth of the usual trees were grown")
    matrix = coding.matrix(frame)
    if layout == "vector":
        lesson = vector_lesson(matrix, rows, laid)
    else:
        lesson = sampled_lesson(matrix, person_periods(rows, laid, held, draws), laid)
    by_number = None if signs is None else [*(signs[i] for i in coding.owners), 0]
    trees, _ = grow(lesson, settings, int(draws.integers(2**31)), layout=layout, monotone=by_number)
    return HazardFit(
        bins=laid,
        causes=names,
        covariates=coding,
        layout=layout,
        settings=settings,
        search=compared,
        monotone=dict(monotone or {}),
        trees=trees,
        n_rows=len(frame),
        n_customers=n_customers,
        n_events=n_events,
        n_held=len(lesson.matrix),
        notes=tuple(notes),
    )


def _expanded(rows: Observations, bins: Bins) -> float:
    """Rows of customer and bin in the full expansion."""
    return float(bins.at_risk.sum())


def _signs(
    monotone: Mapping[str, int] | None, columns: Sequence[str], coding: Covariates
) -> list[int] | None:
    if not monotone:
        return None
    if unknown := sorted(set(monotone) - set(columns)):
        raise ContractError(f"monotone names {unknown}, which are no covariates of this fit")
    if texts := sorted(set(monotone) & set(coding.levels)):
        raise ContractError(f"monotone needs numbers; {texts} are categories")
    if wrong := {name: sign for name, sign in monotone.items() if sign not in (-1, 0, 1)}:
        raise ContractError(f"monotone must be -1, 0 or 1; got {wrong}")
    return [int(monotone.get(name, 0)) for name in columns]


def _remarks(rows: Observations, bins: Bins, asked: int | Sequence[float]) -> list[str]:
    found = []
    if isinstance(asked, int | np.integer) and bins.count < asked:
        found.append(f"{bins.count} bins in place of {asked}: there are no more distinct times")
    if not (rows.cause == 0).any():
        found.append("every row has the event: nobody shows what waiting longer looks like")
    if (least := float(rows.entry.min())) > 0:
        found.append(
            f"nobody was watched before {least:g}: up to there the hazard is taken from the rest "
            "of the bin, or is near 0"
        )
    after = float(rows.duration[rows.cause > 0].max())
    if after < bins.follow_up:
        found.append(f"the last event is at {after:g}, following ends at {bins.follow_up:g}")
    return found


def _minus_log_stay(margin: Singles) -> npt.NDArray[np.float64]:
    """-log(1 - hazard) of all causes together, from margins ``(rows, bins, outputs)``."""
    margin = margin.astype(np.float64)
    if margin.shape[2] == 1:
        return np.asarray(np.logaddexp(0.0, margin[:, :, 0]))
    return np.asarray(np.logaddexp.reduce(margin, axis=2) - margin[:, :, 0])


def _shares(margin: Singles) -> npt.NDArray[np.float64]:
    """Each cause's share of the events of a bin, ``(rows, bins, causes)``."""
    if margin.shape[2] == 1:
        return np.ones(margin.shape)
    raised = margin[:, :, 1:].astype(np.float64)
    raised = np.exp(raised - raised.max(axis=2, keepdims=True))
    return np.asarray(raised / raised.sum(axis=2, keepdims=True))
