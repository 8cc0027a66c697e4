"""Candidates: the purchase models side by side, and which of them carries the value."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd

from journeylab.clv.bg_nbd import fit_bg_nbd
from journeylab.clv.calibration import trial_errors
from journeylab.clv.champion import Challenge, Champion, FitPurchases, challenge
from journeylab.clv.fit_file import Fit
from journeylab.clv.histories import Floats
from journeylab.clv.mbg_nbd import fit_mbg_nbd
from journeylab.clv.pareto_nbd import fit_pareto_nbd
from journeylab.clv.value import PurchaseFit
from journeylab.errors import FitError

_FITS: dict[str, Callable[[pd.DataFrame, str], PurchaseFit]] = {
    "BG/NBD": fit_bg_nbd,
    "MBG/NBD": fit_mbg_nbd,
    "Pareto/NBD": fit_pareto_nbd,
}


def purchase_models(unit: str = "week") -> dict[str, FitPurchases]:
    """The purchase models by name, as ``choose_champion`` takes them.

    Args:
        unit: Of the histories they will be fitted to.
    """
    return {name: partial(_fit, name, unit) for name in _FITS}


def _fit(name: str, unit: str, histories: pd.DataFrame) -> PurchaseFit:
    return _FITS[name](histories, unit)


def fit_purchases(histories: pd.DataFrame, unit: str = "week") -> dict[str, PurchaseFit]:
    """Fit every purchase model that these histories allow.

    Args:
        histories: ``frequency, recency, age`` and, for cells, ``customers``.
        unit: Of ``recency`` and ``age``.

    Raises:
        FitError: None of them can be fitted.
    """
    fits: dict[str, PurchaseFit] = {}
    missing = []
    for name, fit in _FITS.items():
        try:
            fits[name] = fit(histories, unit)
        except FitError as error:
            missing.append(f"{name}: {error}")
    if not fits:
        raise FitError("; ".join(missing))
    return fits


def fit_table(fits: Mapping[str, tuple[Fit, ...]]) -> pd.DataFrame:
    """Fits beside each other: how likely they make the data, and what they could not tell.

    Args:
        fits: Day the fits were made for -> its models.

    Returns:
        ``as_of, model, customers, log_likelihood, aic`` (smaller is better; only models of the
        same customers and unit compare), ``aic_behind`` (behind the best purchase model of the
        day; missing for models of spend), ``converged, note``.
    """
    rows = [
        {
            "as_of": day,
            "model": fit.model,
            "customers": fit.n_customers,
            "log_likelihood": fit.log_likelihood,
            "aic": fit.aic,
            "converged": fit.converged,
            "note": fit.identification,
        }
        for day, models in fits.items()
        for fit in models
    ]
    table = pd.DataFrame(rows)
    own = table["aic"].where(table["model"].isin(list(_FITS)))
    table.insert(5, "aic_behind", own - own.groupby(table["as_of"]).transform("min"))
    return table


def path_model(champion: Champion) -> str:
    """The model that carries the value: the champion, or the best purchase model beside it.

    A rule of thumb, a blend or a boosted model gives counts, but no future to draw from and no
    month by month path.

    Args:
        champion: From ``choose_champion``.

    Raises:
        FitError: No purchase model took part in the trials.
    """
    able = [str(name) for name in champion.table["model"] if name in _FITS]
    if not able:
        raise FitError(
            f"no purchase model could be fitted in the trials: {'; '.join(champion.left_out)}"
        )
    return champion.name if champion.name in able else able[0]


def checked(champion: Champion, holdout: pd.DataFrame, seed: int) -> tuple[Challenge, Challenge]:
    """The champion in the holdout, and the model that carries the value with it as the first.

    Args:
        champion: From ``choose_champion``.
        holdout: As for ``challenge``.
        seed: Of the bootstrap.

    Returns:
        Both are the same where the champion carries the value itself.
    """
    held = challenge(champion, holdout, seed)
    name = path_model(champion)
    if name == champion.name:
        return held, held
    return held, challenge(replace(champion, name=name), holdout, seed)


def known_errors(champion: Champion, held: Challenge, name: str) -> Floats:
    """How far totals of a candidate were off: on the trials, and now in the holdout too.

    Args:
        champion: From ``choose_champion``.
        held: From ``challenge``.
        name: The candidate.

    Returns:
        Log of actual over forecast, as ``value(..., total_errors=...)`` takes it: the error of the
        holdout is brought to the length of a trial, as an error that grows with its root.
    """
    own = held.table.set_index("model").loc[name]
    longer = max(champion.origins.horizon_days / champion.origins.check_days, 1.0)
    last = float(np.log(own["actual"] / max(own["forecast"], np.finfo(float).tiny)))
    return np.append(trial_errors(champion.trials, name), last / np.sqrt(longer))


def beside(customers: pd.DataFrame, champion: Champion, name: str) -> pd.DataFrame:
    """Ranked customers with the purchases that a candidate without a path forecasts.

    Args:
        customers: ``customer_id`` and whatever else, as ``Value.customers``.
        champion: From ``choose_champion`` for the day of the ranking.
        name: The candidate; where it could not be fitted on that day nothing is added.

    Returns:
        The same rows with ``champion_purchases`` after ``expected_purchases``.
    """
    if name not in champion.forecasts:
        return customers
    told = champion.forecasts.set_index("customer_id")[name]
    count = customers["customer_id"].map(told).fillna(0.0)
    table = customers.copy()
    at = list(table.columns).index("expected_purchases") + 1
    table.insert(at, "champion_purchases", count.to_numpy(float))
    return table
