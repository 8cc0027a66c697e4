"""A hazard model in a file, so that next week's customers are scored without refitting."""

import base64
import hashlib
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from journeylab.churn.bins import Bins
from journeylab.churn.covariates import Covariates
from journeylab.churn.hazard import HazardFit
from journeylab.churn.hazard_settings import HazardSettings
from journeylab.errors import ContractError
from journeylab.saved import read_saved, write_saved

FORMAT = "journeylab.churn hazard"
VERSION = 1


def save_hazard(fit: HazardFit, path: str | Path) -> Path:
    """Write a fit; ``load_hazard`` gives back one with the same predictions, to the last digit.

    Args:
        fit: From ``fit_hazard``.
        path: File to write (JSON, with the trees as text); folders on the way are made.
    """
    trees = bytes(fit.trees.save_raw("ubj"))
    content = {
        "fit": {
            "bins": {field.name: getattr(fit.bins, field.name).tolist() for field in fields(Bins)},
            "causes": list(fit.causes),
            "covariates": {
                "names": list(fit.covariates.names),
                "levels": {
                    name: {level: list(values) for level, values in known.items()}
                    for name, known in fit.covariates.levels.items()
                },
                "causes": fit.covariates.causes,
            },
            "layout": fit.layout,
            "settings": fit.settings.as_dict(),
            "search": fit.search.to_dict("list"),
            "monotone": dict(fit.monotone),
            "n_rows": fit.n_rows,
            "n_customers": fit.n_customers,
            "n_events": fit.n_events,
            "n_held": fit.n_held,
            "notes": list(fit.notes),
        },
        "trees": base64.b64encode(trees).decode("ascii"),
        "trees_sha256": hashlib.sha256(trees).hexdigest(),
    }
    return write_saved(path, FORMAT, VERSION, content, indent=1)


def load_hazard(path: str | Path) -> HazardFit:
    """Read what ``save_hazard`` wrote.

    Raises:
        ContractError: The file is missing, holds no hazard model, was cut short or changed, or is
            of a version that this JourneyLab does not know.
    """
    content = read_saved(path, FORMAT, VERSION, "hazard model", "churn.save_hazard")
    try:
        values, text = content["fit"], content["trees"]
        trees = base64.b64decode(text, validate=True)
        if hashlib.sha256(trees).hexdigest() != content["trees_sha256"]:
            raise ContractError(f"{path}: the trees were changed after they were saved; fit again")
        bins = values["bins"]
        covariates = values["covariates"]
        return HazardFit(
            bins=Bins(**{field.name: np.array(bins[field.name], float) for field in fields(Bins)}),
            causes=tuple(values["causes"]),
            covariates=Covariates(
                tuple(covariates["names"]),
                {
                    name: {level: tuple(numbers) for level, numbers in known.items()}
                    for name, known in covariates["levels"].items()
                },
                int(covariates["causes"]),
            ),
            layout=values["layout"],
            settings=HazardSettings(**values["settings"]),
            search=pd.DataFrame(values["search"]),
            monotone=values["monotone"],
            trees=_booster(trees),
            n_rows=values["n_rows"],
            n_customers=values["n_customers"],
            n_events=values["n_events"],
            n_held=values["n_held"],
            notes=tuple(values["notes"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, ContractError):
            raise
        raise ContractError(
            f"{path} holds no complete hazard model ({error}): fit again"
        ) from error


def _booster(trees: bytes) -> Any:
    import xgboost

    return xgboost.Booster(model_file=bytearray(trees))
