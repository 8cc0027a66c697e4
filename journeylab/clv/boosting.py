"""Boosting: trees that correct a blend of the purchase models and the recent past."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import nnls

from journeylab.clv.accuracy import POWER
from journeylab.clv.histories import Floats

# Set once on trials inside the calibration window of complete_journey, never on a holdout.
_ROUNDS = 120
_PARAMETERS: dict[str, Any] = {
    "objective": "reg:tweedie",
    "tweedie_variance_power": POWER,
    "tree_method": "hist",
    "device": "cpu",
    "max_depth": 2,
    "eta": 0.05,
    "subsample": 0.7,
    "colsample_bytree": 0.7,
    "lambda": 10.0,
    "max_delta_step": 0.3,
}
# A leaf needs this share of the rows, and this many.
_LEAF, _SMALLEST_LEAF = 0.005, 20
FEWEST_ROWS = 200


@dataclass(frozen=True, slots=True)
class Boosted:
    """A blend with weights of 0 or more, and trees that multiply it.

    Attributes:
        weights: Of each ingredient.
        trees: An ``xgboost.Booster`` on the logs of the blend.
        scale: Mean outcome it was trained on; the blend never falls below a hundredth of it.
    """

    weights: Floats
    trees: Any
    scale: float

    def blend(self, ingredients: Floats) -> Floats:
        """The blend alone, without the trees."""
        return np.maximum(ingredients @ self.weights, 0.01 * self.scale)

    def predict(self, ingredients: Floats, features: pd.DataFrame) -> Floats:
        """Expected outcome, above 0.

        Args:
            ingredients: Forecasts to blend, ``(customers, ingredients)``.
            features: What the trees may look at, as in training.
        """
        import xgboost

        blend = self.blend(ingredients)
        rows = xgboost.DMatrix(
            features.to_numpy(np.float32), base_margin=np.log(blend / self.scale), nthread=1
        )
        return np.asarray(self.trees.predict(rows), dtype=float) * self.scale


def train_boosted(
    ingredients: Floats, features: pd.DataFrame, actual: Floats, seed: int, power: float = POWER
) -> Boosted:
    """Learn from past landmarks, in two stages: a blend, then trees for what it gets wrong.

    Args:
        ingredients: Forecasts to blend, ``(rows, ingredients)``, 0 or more.
        features: What the trees may look at, one row each.
        actual: What then happened, 0 or more.
        seed: Of the rows and columns that each tree sees.
        power: Of the Tweedie variance, for the weights of the blend and for the trees.
    """
    import xgboost

    scale = max(float(actual.mean()), np.finfo(float).tiny)
    mean = np.maximum(ingredients.mean(axis=1), 0.05 * scale)
    # The variance grows with this power of the mean: weigh the squares by its inverse.
    weight = (mean / scale) ** (-power / 2)
    weights, _ = nnls(ingredients * weight[:, None], actual * weight)
    blend = np.maximum(ingredients @ weights, 0.01 * scale)
    rows = xgboost.DMatrix(
        features.to_numpy(np.float32),
        actual / scale,
        base_margin=np.log(blend / scale),
        nthread=1,
    )
    leaf = max(_SMALLEST_LEAF, round(_LEAF * len(actual)))
    parameters = _PARAMETERS | {
        "tweedie_variance_power": power,
        "min_child_weight": leaf,
        "nthread": 1,
        "seed": seed,
        "base_score": 1.0,
    }
    trees = xgboost.train(parameters, rows, _ROUNDS)
    return Boosted(np.asarray(weights, dtype=float), trees, scale)
