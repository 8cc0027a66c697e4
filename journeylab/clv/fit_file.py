"""A fit in a file: readable JSON, so that next week's customers are scored without refitting."""

from dataclasses import fields
from pathlib import Path
from typing import Any

from journeylab.clv.bg_bb import BgBbFit
from journeylab.clv.bg_nbd import BgNbdFit
from journeylab.clv.gamma_gamma import GammaGammaFit
from journeylab.clv.mbg_nbd import MbgNbdFit
from journeylab.clv.pareto_nbd import ParetoNbdFit
from journeylab.clv.sbg import SbgFit
from journeylab.errors import ContractError
from journeylab.saved import read_saved, write_saved

FORMAT = "journeylab.clv fit"
VERSION = 1

Fit = BgNbdFit | MbgNbdFit | ParetoNbdFit | BgBbFit | SbgFit | GammaGammaFit

_MODELS: dict[str, type[Fit]] = {
    "BG/NBD": BgNbdFit,
    "MBG/NBD": MbgNbdFit,
    "Pareto/NBD": ParetoNbdFit,
    "BG/BB": BgBbFit,
    "sBG": SbgFit,
    "Gamma-Gamma": GammaGammaFit,
}


def save_fit(fit: Fit, path: str | Path) -> Path:
    """Write a fit; ``load_fit`` gives back the very same one, to the last digit.

    Args:
        fit: From any ``fit_...`` of this package.
        path: File to write; folders on the way are made.
    """
    content = {
        "model": fit.model,
        "fit": {field.name: getattr(fit, field.name) for field in fields(fit)},
    }
    return write_saved(path, FORMAT, VERSION, content)


def load_fit(path: str | Path) -> Fit:
    """Read what ``save_fit`` wrote.

    Raises:
        ContractError: The file is missing, holds no fit, or one this version does not know.
    """
    content = read_saved(path, FORMAT, VERSION, "saved fit", "clv.save_fit")
    model, values = content.get("model"), content.get("fit")
    if model not in _MODELS:
        raise ContractError(
            f"{path} holds a model {model!r} that is not known here; known are {', '.join(_MODELS)}"
        )
    kind = _MODELS[model]
    names = {field.name for field in fields(kind)}
    if not isinstance(values, dict) or set(values) != names:
        wrong = sorted(names ^ set(values if isinstance(values, dict) else ()))
        raise ContractError(
            f"{path} is no complete {model} fit: {', '.join(wrong)} missing or not known"
        )
    if broken := [f.name for f in fields(kind) if not _is(values[f.name], str(f.type))]:
        raise ContractError(f"{path} is no {model} fit: {', '.join(broken)} of another type")
    return kind(**{name: _frozen(value) for name, value in values.items()})


def _is(value: Any, kind: str) -> bool:
    """Whether a JSON value fits a field's type."""
    if "tuple" in kind:
        return isinstance(value, list)
    if "str" in kind:
        return isinstance(value, str)
    if "bool" in kind:
        return isinstance(value, bool)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and (isinstance(value, int) or "float" in kind)


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
