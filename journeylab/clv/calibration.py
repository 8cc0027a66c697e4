"""Calibration: intervals that were right on earlier days, not only by the model's own account."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import nbinom
from scipy.stats import t as student

from journeylab.clv.accuracy import FLOOR, POWER, floored
from journeylab.clv.champion import Champion
from journeylab.clv.histories import Floats
from journeylab.errors import ContractError
from journeylab.estimate import Estimate, from_draws

# Fewer outcomes than this cannot place the ends of a 90 % interval.
_FEWEST = 100


def pit(futures: Floats, actual: Floats, rng: int | np.random.Generator) -> Floats:
    """Where each outcome falls among its futures (0-1); uniform where the model is right.

    Ties are split at random, so that counts and a point mass at zero are treated as exactly as a
    continuous outcome.

    Args:
        futures: ``(customers, draws)``.
        actual: What happened.
        rng: Seed or generator.

    Source:
        Czado, Gneiting & Held, "Predictive Model Assessment for Count Data" (2009), section 2.
    """
    drawn, happened = _aligned(futures, actual)
    generator = np.random.default_rng(rng)
    below = (drawn < happened[:, None]).sum(axis=1)
    ties = (drawn == happened[:, None]).sum(axis=1)
    # The outcome itself is one of draws + 1 equally likely futures.
    place = below + generator.random(len(happened)) * (ties + 1)
    return np.asarray(place / (drawn.shape[1] + 1))


@dataclass(frozen=True, slots=True)
class Calibration:
    """Levels of a model's futures between which outcomes fell as often as they should.

    Attributes:
        level: Coverage aimed at (0-1).
        low, high: Levels of the futures that bound the interval; without recalibration they would
            be ``(1 - level) / 2`` and ``(1 + level) / 2``.
        evidence: One row per trial: ``origin, customers``, ``coverage_plain`` (of the model's own
            interval) and ``coverage`` (with the levels learnt on the other trials; on the same
            one where there is no other), both of randomised intervals.
        customers: Outcomes it rests on.
    """

    level: float
    low: float
    high: float
    evidence: pd.DataFrame
    customers: int

    def interval(self, futures: Floats) -> tuple[Floats, Floats]:
        """Lower and upper end for each customer, values that the futures take.

        The ends belong to the interval, so for counts it covers more than ``level``: an interval
        of 0 to 1 cannot be cut finer. ``coverage`` measures without that gain.

        Args:
            futures: ``(customers, draws)``.
        """
        drawn = np.asarray(futures, dtype=float)
        low, high = np.quantile(drawn, [self.low, self.high], axis=1, method="inverted_cdf")
        return np.asarray(low), np.asarray(high)

    def coverage(self, futures: Floats, actual: Floats, rng: int | np.random.Generator) -> Estimate:
        """Share of outcomes inside, of intervals whose ends are cut at random for ties.

        Args:
            futures: ``(customers, draws)``.
            actual: What happened.
            rng: Seed or generator.
        """
        return _coverage(pit(futures, actual, rng), self.low, self.high, 0.95)


def plain(level: float = 0.9) -> Calibration:
    """The model's own levels, without evidence: what ``recalibrate`` starts from."""
    _check_level(level)
    table = pd.DataFrame(columns=["origin", "customers", "coverage_plain", "coverage"])
    return Calibration(level, (1 - level) / 2, (1 + level) / 2, table, 0)


def recalibrate(places: Mapping[str, Floats], level: float = 0.9) -> Calibration:
    """Learn from earlier trials where the ends of an interval have to be; it is only ever widened.

    Where the trials would allow a narrower interval the model's own is kept: what comes may differ
    from the trials.

    Args:
        places: Day of the trial -> ``pit`` of its outcomes.
        level: Coverage aimed at (0-1).

    Raises:
        ContractError: There are fewer than 100 outcomes, or a place lies outside 0 to 1.

    Source:
        Split conformal prediction on the probability integral transform: Chernozhukov, Wüthrich &
        Zhu, "Distributional conformal prediction" (2021).
    """
    _check_level(level)
    trials = {day: np.asarray(values, dtype=float) for day, values in places.items()}
    together = np.concatenate(list(trials.values())) if trials else np.empty(0)
    if len(together) < _FEWEST:
        raise ContractError(
            f"{len(together)} outcomes of earlier days cannot place a {100 * level:g} % interval; "
            f"{_FEWEST} at least are needed: show the model's own with clv.plain()"
        )
    if not ((together >= 0) & (together <= 1)).all():
        raise ContractError("places must lie in [0, 1]: pass the pit of each trial's outcomes")
    low, high = _widened(together, level)
    rows = []
    for day, values in trials.items():
        others = [rest for other, rest in trials.items() if other != day]
        learnt = _widened(np.concatenate(others), level) if others else (low, high)
        own = ((1 - level) / 2, (1 + level) / 2)
        rows.append(
            {
                "origin": day,
                "customers": len(values),
                "coverage_plain": _coverage(values, *own, 0.95).value,
                "coverage": _coverage(values, *learnt, 0.95).value,
            }
        )
    return Calibration(level, low, high, pd.DataFrame(rows), len(together))


def dispersion(forecast: Floats, actual: Floats) -> float:
    """How much counts scatter about their forecasts beyond Poisson: variance m + m² times this.

    Args:
        forecast: Expected counts, 0 or more.
        actual: Counts that came.
    """
    told, came = np.asarray(forecast, dtype=float), np.asarray(actual, dtype=float)
    # Weights of 1 / m² turn the moment condition into a mean that no heavy buyer rules.
    weight = 1 / np.maximum(told, 0.1) ** 2
    excess = float(np.average((came - told) ** 2 - told, weights=weight))
    square = float(np.average(told**2, weights=weight))
    return max(excess / square, 1e-6) if square > 0 else 1.0


def count_futures(
    forecast: Floats, spread: float, draws: int, rng: int | np.random.Generator
) -> Floats:
    """Counts around any forecast, for champions that are no probability model.

    Args:
        forecast: Expected counts, one per customer, 0 or more.
        spread: From ``dispersion`` on earlier trials.
        draws: Futures of each.
        rng: Seed or generator.

    Returns:
        ``(customers, draws)``, negative binomial with the forecast as mean.
    """
    mean = np.maximum(np.asarray(forecast, dtype=float), 1e-9)[:, None]
    generator = np.random.default_rng(rng)
    size = 1 / spread
    return np.asarray(
        nbinom.rvs(size, size / (size + mean), size=(len(mean), draws), random_state=generator),
        dtype=float,
    )


def scatter(forecast: Floats, actual: Floats, power: float = POWER) -> float:
    """Tweedie dispersion of amounts about their forecasts: variance this times m to the power.

    Args:
        forecast: Expected amounts, above 0.
        actual: Amounts that came, 0 or more.
        power: Between 1 and 2.
    """
    told = floored(np.asarray(forecast, dtype=float), np.asarray(actual, dtype=float))
    return float(((np.asarray(actual, dtype=float) - told) ** 2 / told**power).mean())


def amount_futures(
    forecast: Floats,
    spread: float,
    draws: int,
    rng: int | np.random.Generator,
    power: float = POWER,
) -> Floats:
    """Amounts around any forecast: none, or a gamma sum of a Poisson number of purchases.

    Args:
        forecast: Expected amount, one per customer, 0 or more.
        spread: From ``scatter`` on earlier trials.
        draws: Futures of each.
        rng: Seed or generator.
        power: Between 1 and 2.

    Returns:
        ``(customers, draws)``, Tweedie with the forecast as mean.

    Source:
        Jørgensen, "The Theory of Dispersion Models" (1997), section 4.2.
    """
    generator = np.random.default_rng(rng)
    told = np.asarray(forecast, dtype=float)
    mean = np.maximum(told, FLOOR * max(float(told.mean()), np.finfo(float).tiny))[:, None]
    shape, scale = (2 - power) / (power - 1), spread * (power - 1) * mean ** (power - 1)
    counts = generator.poisson(
        mean ** (2 - power) / (spread * (2 - power)), (len(mean), draws)
    ).astype(float)
    amounts = generator.gamma(shape * np.maximum(counts, 1.0)) * scale
    return np.where(counts > 0, amounts, 0.0)


def champion_futures(
    champion: Champion, forecast: Floats, draws: int, rng: int | np.random.Generator
) -> Floats:
    """Futures about the forecasts of a champion, whatever it is, as wide as its trials were off.

    Args:
        champion: From ``choose_champion``.
        forecast: Of its kind: a column of ``trials``, or ``champion.forecast``.
        draws: Futures of each customer.
        rng: Seed or generator.
    """
    own = champion.trials.dropna(subset=[champion.name])
    told, came = own[champion.name].to_numpy(float), own["actual"].to_numpy(float)
    if champion.target == "purchases":
        return count_futures(forecast, dispersion(told, came), draws, rng)
    spread = scatter(told, came, champion.power)
    return amount_futures(forecast, spread, draws, rng, champion.power)


def calibrate(
    champion: Champion, rng: int | np.random.Generator, *, level: float = 0.9, draws: int = 1000
) -> Calibration:
    """Recalibrate a champion's own futures on its trials; the holdout is not needed.

    Args:
        champion: From ``choose_champion``.
        rng: Seed or generator.
        level: Coverage aimed at (0-1).
        draws: Futures of each customer.
    """
    generator = np.random.default_rng(rng)
    own = champion.trials.dropna(subset=[champion.name])
    parts = {str(day): rows for day, rows in own.groupby("origin", sort=True)}

    def futures(day: str) -> Floats:
        forecast = parts[day][champion.name].to_numpy(float)
        return champion_futures(champion, forecast, draws, generator)

    return recalibrate(trial_places(own, futures, generator), level)


def total_estimate(
    forecast: float,
    totals: Floats,
    errors: Floats,
    longer: float,
    unit: str,
    rng: int | np.random.Generator,
    *,
    level: float = 0.95,
) -> Estimate:
    """A total with an interval that knows how far earlier totals were off.

    The model's own draws of the total take the model as true. To them comes an error common to all
    customers: its size is the root mean square of the log errors of earlier trials, its tails are
    Student's with one degree of freedom per trial, and it grows with the root of the horizon over
    the trial's length.

    Args:
        forecast: The total, above 0.
        totals: What it may come to by the model's own account, one per draw.
        errors: Log of actual over forecast total of each earlier trial, one at least.
        longer: Horizon over the length of a trial.
        unit: Of the total.
        rng: Seed or generator.
        level: Coverage (0-1).

    Raises:
        ContractError: There is no earlier trial, or some number is out of bounds.
    """
    _check_level(level)
    off, own = np.asarray(errors, dtype=float), np.asarray(totals, dtype=float)
    if off.size == 0 or own.size == 0 or not np.isfinite(off).all():
        raise ContractError(
            f"a total needs draws and the finite log error of one trial at least; got {own.size} "
            f"draws, errors {off.tolist()}: choose a later as_of"
        )
    if not forecast > 0 or not longer > 0:
        raise ContractError(
            f"forecast and longer must be above 0; got {forecast} and {longer}: nobody is expected "
            "to buy"
        )
    generator = np.random.default_rng(rng)
    spread = float(np.sqrt((off**2).mean() * max(longer, 1.0)))
    # Quantiles of the common error, spread over the draws in random order: no tail is missed.
    grid = (np.arange(len(own)) + 0.5) / len(own)
    common = np.exp(student.ppf(generator.permutation(grid), df=off.size) * spread)
    return from_draws(float(forecast), own * common, unit, level)


def trial_errors(trials: pd.DataFrame, name: str) -> Floats:
    """Log of actual over forecast total, one per trial that ``name`` took part in.

    Args:
        trials: ``Champion.trials``.
        name: One of its candidates.
    """
    own = trials.dropna(subset=[name])
    sums = own.groupby("origin")[["actual", name]].sum()
    sums = sums[(sums > 0).all(axis=1)]
    return np.asarray(np.log((sums["actual"] / sums[name]).to_numpy(float)))


def trial_places(
    trials: pd.DataFrame,
    futures: Callable[[str], Floats],
    rng: int | np.random.Generator,
) -> dict[str, Floats]:
    """``pit`` of each trial, for ``recalibrate``.

    Args:
        trials: ``origin, customer_id, actual``, as ``Champion.trials``.
        futures: Day of a trial -> its futures, ``(customers, draws)``, in the order of its rows.
        rng: Seed or generator.
    """
    generator = np.random.default_rng(rng)
    return {
        str(day): pit(futures(str(day)), rows["actual"].to_numpy(float), generator)
        for day, rows in trials.groupby("origin", sort=True)
    }


def _levels(places: Floats, level: float) -> tuple[float, float]:
    """Levels with equal shares of outcomes outside, and the finite-sample step of conformal."""
    ordered, n = np.sort(places), len(places)
    outside = (1 - level) / 2
    low = ordered[max(int(np.floor(outside * (n + 1))) - 1, 0)]
    high = ordered[min(int(np.ceil((1 - outside) * (n + 1))) - 1, n - 1)]
    return float(low), float(high)


def _widened(places: Floats, level: float) -> tuple[float, float]:
    low, high = _levels(places, level)
    return min(low, (1 - level) / 2), max(high, (1 + level) / 2)


def _coverage(places: Floats, low: float, high: float, level: float) -> Estimate:
    """Share of places inside, with Wilson's interval."""
    n = len(places)
    share = float(((places >= low) & (places <= high)).mean())
    z = float(student.ppf((1 + level) / 2, 1e9))
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    margin = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    low_end, high_end = max(float(centre - margin), 0.0), min(float(centre + margin), 1.0)
    return Estimate(share, min(low_end, share), max(high_end, share), "share", level)


def _aligned(futures: Floats, actual: Floats) -> tuple[Floats, Floats]:
    drawn, happened = np.asarray(futures, dtype=float), np.asarray(actual, dtype=float)
    if drawn.ndim != 2 or drawn.shape[0] != len(happened) or drawn.size == 0:
        raise ContractError(
            f"futures must be (customers, draws) for the {len(happened)} outcomes; got "
            f"{drawn.shape}"
        )
    if bad := int((~np.isfinite(happened)).sum() + (~np.isfinite(drawn)).any(axis=1).sum()):
        raise ContractError(
            f"futures and outcomes must be finite numbers; {bad} of {len(happened)} rows are not"
        )
    return drawn, happened


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ContractError(f"level must lie in (0, 1); got {level}")
