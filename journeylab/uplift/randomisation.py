"""Before any effect: were the arms given by chance, in the shares that were promised?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from journeylab.errors import ContractError
from journeylab.estimate import Estimate, sample_ratio
from journeylab.uplift.scores import Floats, Ints

# Besag & Clifford: enough permutations at least as extreme to stop drawing.
_ENOUGH = 10
_FIRST_BATCH = 20
_MOST_LEVELS = 10
# Rows that take part in the permutations; more add time and no doubt.
_MOST_ROWS = 50_000


@dataclass(frozen=True, slots=True, eq=False)
class Randomisation:
    """What speaks against chance.

    Attributes:
        shares: One row per arm, the largest first: ``arm, units, share, expected`` (0-1).
        ratio_p: Chance of shares at least this far off, over all strata.
        balance: One row per covariate column and arm beside the largest: ``covariate, arm``,
            ``difference`` in standard deviations from the largest arm, within strata, and its
            ``standard_error`` under chance; largest first.
        auc: How well covariates tell the arms apart, cross-validated: 0.5 is not at all; with its
            interval under no leak at all, by permutation.
        auc_p: Chance of an AUC at least as high under the design.
        placebo_p: The same for the pre-period outcome; ``None`` without one.
        p: Of all checks together (Sidak).
        alpha: What ``p`` is held against.
        units, strata: How many.
        left_out: Reason -> rows that took no part.
    """

    shares: pd.DataFrame
    ratio_p: float
    balance: pd.DataFrame
    auc: Estimate
    auc_p: float
    placebo_p: float | None
    p: float
    alpha: float
    units: int
    strata: int
    left_out: Mapping[str, int]

    @property
    def passes(self) -> bool:
        """Whether nothing speaks against chance at ``alpha``; small leaks may hide all the same."""
        return self.p > self.alpha

    def finding(self) -> str:
        """One line for a heading."""
        if self.passes:
            return f"Nothing speaks against chance: {self.units:,} units, p {self.p:.2g}"
        checks = {"shares": self.ratio_p, "covariates": self.auc_p}
        if self.placebo_p is not None:
            checks["the outcome before"] = self.placebo_p
        limit = 1 - (1 - self.alpha) ** (1 / len(checks))
        wrong = [name for name, p in checks.items() if p <= limit]
        return f"Not by chance, by its {' and '.join(wrong)} (p {self.p:.2g})"


def check_randomisation(
    frame: pd.DataFrame,
    arm: str,
    covariates: Sequence[str],
    expected_shares: Mapping[str, float] | pd.DataFrame | None = None,
    *,
    rng: int | np.random.Generator,
    strata: str | None = None,
    clusters: str | None = None,
    placebo: str | None = None,
    alpha: float = 0.05,
    folds: int = 5,
    permutations: int = 199,
) -> Randomisation:
    """Test whether arms were given by chance, independently of what was known before.

    The arm's cross-validated AUC against a linear score of the covariates (numbers as their ranks,
    texts as levels) is compared with that of arms dealt anew within strata, so that small samples,
    rare arms and many covariates need no allowance.

    Args:
        frame: One row per unit.
        arm: Column of arms.
        covariates: Columns known before assignment.
        expected_shares: Arm -> designed share; with ``strata``, a frame of them, one row per
            stratum and one column per arm. Equal when absent.
        rng: Seed or generator.
        strata: Column of blocks within which the chances were the same.
        clusters: Column of what was randomised where it is not the row; covariates are averaged
            within it.
        placebo: Column of the outcome as it was before assignment: the arms must not differ.
        alpha: Type-I error of all checks together.
        folds: Of the cross-validation.
        permutations: At most; drawing stops early where the answer is plain.

    Raises:
        ContractError: A column is missing, there is one arm only, the arm is among the covariates,
            a cluster lies in two arms or strata, or there are too few units for the folds.

    Source:
        Gagnon-Bartsch & Shem-Tov, "The Classification Permutation Test" (2019); Besag & Clifford,
        "Sequential Monte Carlo p-values" (1991); Fabijan et al. (2019) for the sample ratio.
    """
    rows, left_out = _units(frame, arm, list(covariates), strata, clusters, placebo)
    labels, code = _labelled(rows["arm"].to_numpy(str))
    n, arms = len(rows), len(labels)
    if arms < 2:
        raise ContractError(f"all {n} units have the arm {labels[0]!r}: there is nothing to check")
    if n < 4 * folds:
        raise ContractError(f"{n} units are too few for {folds} folds of four")
    block_names, block = np.unique(rows["stratum"].to_numpy(str), return_inverse=True)
    shares, ratio_p = _shares(code, labels, block, block_names, expected_shares, bool(strata))
    generator = np.random.default_rng(rng)
    encoded = _encoded(rows, list(covariates))
    before = rows["placebo"].to_numpy(float) if placebo else None
    x = _centred(encoded.to_numpy(float), block)
    balance = _balance(x, list(encoded.columns), code, labels)
    # ties are settled by place: a random order, or rows sorted by arm would look told apart
    order = generator.permutation(n)[:_MOST_ROWS]
    statistics = _Statistics.prepared(
        x[order],
        None if before is None else _centred(before[order, None], block[order])[:, 0],
        arms,
        min(folds, n),
    )
    auc, spread, p_values = _permuted(
        statistics, code[order], block[order], permutations, generator
    )
    placebo_p = p_values[1] if placebo else None
    every = [ratio_p, p_values[0]] + ([] if placebo_p is None else [placebo_p])
    p = 1 - (1 - min(every)) ** len(every)
    return Randomisation(
        shares=shares,
        ratio_p=ratio_p,
        balance=balance,
        auc=Estimate(auc, min(auc, auc - spread), max(auc, auc + spread), "AUC"),
        auc_p=p_values[0],
        placebo_p=placebo_p,
        p=p,
        alpha=alpha,
        units=n,
        strata=len(block_names),
        left_out=left_out,
    )


def logged_shares(
    frame: pd.DataFrame, arm: str, propensity: str, strata: str
) -> tuple[pd.DataFrame, int]:
    """Each stratum's designed shares, read from the chances that were logged with each unit.

    Args:
        frame: One row per unit.
        arm: Column of arms.
        propensity: Column: chance of the unit's own arm.
        strata: Column of blocks.

    Returns:
        One row per stratum, one column per arm (0-1), each the chance logged most often there; and
        how many rows were logged with another one: blocks that are not the design's.

    Raises:
        ContractError: Some stratum's chances do not add up to 1.
    """
    counted = frame.groupby([strata, arm])[propensity].agg(lambda s: s.mode().iloc[0])
    table = counted.reset_index().pivot_table(index=strata, columns=arm, values=propensity)
    usual = counted.reindex(pd.MultiIndex.from_frame(frame[[strata, arm]])).to_numpy()
    off = int((np.abs(usual - frame[propensity].to_numpy()) > 1e-9).sum())
    total = table.sum(axis=1)
    if len(bad := total[(total - 1).abs() > 0.01]):
        raise ContractError(
            f"the chances logged in {len(bad)} of {len(table)} strata do not add up to 1, e.g. "
            f"{bad.index[0]}: {bad.iloc[0]:.3f}; the strata are not the blocks of the design, or "
            "an arm's rows are missing"
        )
    table.columns = table.columns.astype(str)
    return table.div(total, axis=0), off


def _units(
    frame: pd.DataFrame,
    arm: str,
    covariates: list[str],
    strata: str | None,
    clusters: str | None,
    placebo: str | None,
) -> tuple[pd.DataFrame, dict[str, int]]:
    """One row per randomised unit: ``arm, stratum``, covariates, ``placebo``."""
    asked = [arm, *covariates, *(name for name in (strata, clusters, placebo) if name)]
    if missing := sorted(set(asked) - set(frame.columns)):
        raise ContractError(f"the frame has no columns {', '.join(missing)}")
    if arm in covariates or not covariates:
        raise ContractError(f"covariates must be given and must not hold the arm {arm!r}")
    rows = frame[covariates].copy()
    rows["arm"] = frame[arm].astype(str)
    rows["stratum"] = frame[strata].astype(str) if strata else ""
    if placebo:
        rows["placebo"] = frame[placebo].astype(float)
    without = frame[arm].isna() | (rows["placebo"].isna() if placebo else False)
    left_out = {"no arm or no outcome before": int(without.sum())} if without.any() else {}
    rows = rows[~without]
    if clusters:
        label = frame.loc[~without, clusters]
        groups = rows.groupby(label)
        if mixed := int((groups[["arm", "stratum"]].nunique().max(axis=1) > 1).sum()):
            raise ContractError(f"{mixed} of {len(groups)} clusters lie in two arms or strata")
        numbers = rows.select_dtypes(["number", "bool"]).columns
        texts = [name for name in rows.columns if name not in set(numbers)]
        rows = groups[list(numbers)].mean().join(groups[texts].first())
    return rows.reset_index(drop=True), left_out


def _labelled(arms: NDArray[np.str_]) -> tuple[NDArray[np.str_], Ints]:
    """Labels, the most frequent first, and each unit's place among them."""
    labels, code, size = np.unique(arms, return_inverse=True, return_counts=True)
    order = np.argsort(-size, kind="stable")
    place = np.empty(len(labels), dtype=np.int64)
    place[order] = np.arange(len(labels))
    return labels[order], place[code]


def _shares(
    code: Ints,
    labels: NDArray[np.str_],
    block: Ints,
    block_names: NDArray[np.str_],
    expected: Mapping[str, float] | pd.DataFrame | None,
    stratified: bool,
) -> tuple[pd.DataFrame, float]:
    from scipy.stats import chi2

    n, arms = len(code), len(labels)
    counts = np.bincount(code, minlength=arms)
    if isinstance(expected, pd.DataFrame):
        table = expected.set_axis(expected.index.astype(str)).set_axis(
            expected.columns.astype(str), axis=1
        )
        if not set(block_names) <= set(table.index) or set(labels) - set(table.columns):
            raise ContractError(
                f"expected shares must have a row for each of {len(block_names)} strata and the "
                f"columns {', '.join(labels)}"
            )
        share = table.reindex(list(block_names))[list(labels)].fillna(0.0).to_numpy(float)
        found = np.zeros((len(block_names), arms))
        np.add.at(found, (block, code), 1)
        size = found.sum(axis=1, keepdims=True)
        wanted = size * share / share.sum(axis=1, keepdims=True)
        if impossible := int(found[wanted == 0].sum()):
            raise ContractError(f"{impossible} units have arms that their stratum does not give")
        part = np.divide((found - wanted) ** 2, wanted, out=np.zeros_like(found), where=wanted > 0)
        freedom = int((wanted > 0).sum() - len(block_names))
        p = float(chi2.sf(part.sum(), freedom))
        mean = wanted.sum(axis=0) / n
    else:
        if stratified and expected is not None and len(block_names) > 1:
            raise ContractError("with strata, expected shares must be a frame: one row per stratum")
        ratio = sample_ratio(
            {str(a): int(c) for a, c in zip(labels, counts, strict=True)}, expected
        )
        p = ratio.p
        mean = np.array([ratio.expected[str(a)] for a in labels]) / n
    columns = {"arm": labels, "units": counts, "share": counts / n, "expected": mean}
    return pd.DataFrame(columns), p


def _encoded(rows: pd.DataFrame, covariates: list[str]) -> pd.DataFrame:
    """Numbers as ranks in (-1, 1), gaps in the middle with a column that says so; texts as 0, 1."""
    columns: dict[str, Floats] = {}
    for name in covariates:
        values = rows[name]
        if pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values):
            numbers = values.to_numpy(float, na_value=np.nan)
            known = np.isfinite(numbers)
            placed = np.zeros(len(numbers))
            if known.any():
                _, inverse, size = np.unique(
                    numbers[known], return_inverse=True, return_counts=True
                )
                middle = np.cumsum(size) - size / 2
                placed[known] = (2 * middle / known.sum() - 1)[inverse]
            columns[name] = placed
            if not known.all():
                columns[f"{name} missing"] = (~known).astype(float)
        else:
            text = values.astype(str).to_numpy()
            levels, inverse, size = np.unique(text, return_inverse=True, return_counts=True)
            for place in np.argsort(-size, kind="stable")[:_MOST_LEVELS]:
                columns[f"{name} is {levels[place]}"] = (inverse == place).astype(float)
    varying = {name: values for name, values in columns.items() if np.ptp(values) > 0}
    if not varying:
        raise ContractError("no covariate takes two values: they cannot tell arms apart")
    return pd.DataFrame(varying)


def _centred(x: Floats, block: Ints) -> Floats:
    """Columns less their stratum's mean."""
    size = np.bincount(block).astype(float)
    means = np.stack([np.bincount(block, weights=column) / size for column in x.T], axis=1)
    return np.asarray(x - means[block])


def _balance(x: Floats, names: list[str], code: Ints, labels: NDArray[np.str_]) -> pd.DataFrame:
    counts = np.bincount(code, minlength=len(labels)).astype(float)
    deviation = x.std(axis=0, ddof=1)
    rows = []
    for place in range(1, len(labels)):
        gap = x[code == place].mean(axis=0) - x[code == 0].mean(axis=0)
        smd = np.divide(gap, deviation, out=np.zeros_like(gap), where=deviation > 1e-12)
        error = float((1 / counts[place] + 1 / counts[0]) ** 0.5)
        rows += [(name, labels[place], float(s), error) for name, s in zip(names, smd, strict=True)]
    table = pd.DataFrame(rows, columns=["covariate", "arm", "difference", "standard_error"])
    return table.sort_values("difference", key=np.abs, ascending=False, ignore_index=True)


@dataclass(frozen=True, slots=True, eq=False)
class _Statistics:
    """AUC of the arms and spread of the placebo's arm means, for many dealings at once."""

    x: Floats
    parts: tuple[slice, ...]
    solved: tuple[Floats, ...]
    before: Floats | None
    arms: int

    @classmethod
    def prepared(cls, x: Floats, before: Floats | None, arms: int, folds: int) -> "_Statistics":
        n = len(x)
        edges = np.linspace(0, n, folds + 1).round().astype(int)
        parts = tuple(slice(a, b) for a, b in pairwise(edges))
        gram = x.T @ x
        ridge = 1e-6 * np.trace(gram) / len(gram) * np.eye(len(gram))
        # what turns the sums of the other folds into scores of the own one
        solved = tuple(
            x[part] @ np.linalg.inv(gram - x[part].T @ x[part] + ridge) for part in parts
        )
        return cls(x, parts, solved, before, arms)

    def of(self, codes: NDArray[np.int8]) -> tuple[Floats, Floats]:
        """``(dealings,)`` each, from codes ``(dealings, rows)``."""
        dealings, n = codes.shape
        auc, between, used = np.zeros(dealings), np.zeros(dealings), 0
        # two arms mirror each other: one is enough
        for arm in range(1 if self.arms == 2 else 0, self.arms):
            own = (codes == arm).astype(np.float32)
            size = own.sum(axis=1, dtype=float)
            auc += self._auc(own)
            used += 1
            if self.before is not None:
                mean = (own @ self.before.astype(np.float32)) / np.maximum(size, 1)
                between += mean**2 * size * n / np.maximum(n - size, 1)
        return auc / used, between

    def _auc(self, own: NDArray[np.float32]) -> Floats:
        """Mean over folds of the share of pairs in the right order."""
        x = self.x.astype(np.float32)
        total = own @ x
        right, pairs = np.zeros(len(own)), np.zeros(len(own))
        for part, solved in zip(self.parts, self.solved, strict=True):
            inside = own[:, part]
            scores = (total - inside @ x[part]) @ solved.T.astype(np.float32)
            ordered = np.take_along_axis(inside, np.argsort(scores, axis=1), axis=1)
            ones = inside.sum(axis=1, dtype=float)
            above = ordered @ np.arange(1.0, inside.shape[1] + 1)
            right += above - ones * (ones + 1) / 2
            pairs += ones * (inside.shape[1] - ones)
        return np.asarray(np.divide(right, pairs, out=np.full_like(right, 0.5), where=pairs > 0))


def _permuted(
    statistics: _Statistics,
    code: Ints,
    block: Ints,
    most: int,
    rng: np.random.Generator,
) -> tuple[float, float, list[float]]:
    """The AUC, 1.96 times its spread under chance, and p of AUC and placebo."""
    small = code.astype(np.int8)
    auc, between = statistics.of(small[None, :])
    seen = [float(auc[0]), float(between[0])]
    checks = 1 if statistics.before is None else 2
    extreme, p = [0, 0], [0.0, 0.0]
    blocks = [np.flatnonzero(block == b) for b in range(int(block.max()) + 1)]
    drawn, under, batch = 0, [], _FIRST_BATCH
    while drawn < most and min(p[:checks]) == 0.0:
        batch = min(batch, most - drawn)
        codes = np.empty((batch, len(code)), dtype=np.int8)
        for rows in blocks:
            codes[:, rows] = rng.permuted(np.tile(small[rows], (batch, 1)), axis=1)
        found = statistics.of(codes)
        under.append(found[0])
        for check in range(checks):
            if p[check]:
                continue
            reached = extreme[check] + np.cumsum(found[check] >= seen[check] * (1 - 1e-9))
            if reached[-1] >= _ENOUGH:
                at = int(np.searchsorted(reached, _ENOUGH)) + 1
                p[check] = _ENOUGH / (drawn + at)
            extreme[check] = int(reached[-1])
        drawn += batch
        batch *= 2
    p = [value or (extreme[check] + 1) / (drawn + 1) for check, value in enumerate(p)]
    spread = float(1.96 * np.concatenate(under).std())
    return seen[0], spread, p[:checks]
