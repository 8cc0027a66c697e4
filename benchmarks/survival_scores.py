"""Scores of survival forecasts beside scikit-survival: the same numbers, and how fast.

Part of the table of ``churn.py``. scikit-survival is GPL, never imported by the package, and takes
part only where it is installed (see there).
"""

from __future__ import annotations

import importlib.util
import os
import sys
import time
from typing import TYPE_CHECKING

import table

if TYPE_CHECKING:
    import pandas as pd

SEED = 23
_TIMES = (30.0, 90.0, 180.0, 270.0)


def rows() -> list[table.Row]:
    """Agreement on drawn rows with many ties, and the time of C for a million rows."""
    from journeylab import churn

    churn.harrell_c(_drawn(100), _drawn(100)["risk"])
    frame = _drawn(1_000_000)
    start = time.process_time()
    churn.harrell_c(frame, frame["risk"])
    spent = time.process_time() - start
    return [*_agreement(_drawn(4000)), table.at_most("C of 1 million rows, CPU seconds", spent, 10)]


def _drawn(n: int) -> pd.DataFrame:
    import numpy as np
    import pandas as pd

    random = np.random.default_rng(SEED)
    x = random.normal(size=n)
    wait = np.ceil(random.exponential(size=n) / (0.006 * np.exp(0.7 * x)))
    sight = np.ceil(random.uniform(50, 400, n))
    return pd.DataFrame(
        {
            "duration": np.minimum(wait, sight),
            "event": (wait <= sight).astype(int),
            "risk": (x + 0.5 * random.normal(size=n)).round(2),
        }
    )


def _agreement(frame: pd.DataFrame) -> list[table.Row]:
    import numpy as np
    import pandas as pd

    from journeylab import churn

    if (folder := os.environ.get("JOURNEYLAB_PEERS")) and folder not in sys.path:
        sys.path.append(folder)
    if importlib.util.find_spec("sksurv") is None:
        return [table.missing("scores equal to scikit-survival's", "scikit-survival")]
    from sksurv import metrics
    from sksurv.util import Surv

    half = len(frame) // 2
    train, test = frame.iloc[:half], frame.iloc[half:]
    test = test[test["duration"] < train["duration"].max()]
    times = list(_TIMES)
    curve = np.exp(-np.outer(np.exp(0.6 * test["risk"]), 0.006 * np.array(times)))
    survival = pd.DataFrame(curve, test.index, times)
    known, seen = (Surv.from_dataframe("event", "duration", own) for own in (train, test))
    risk = test["risk"].to_numpy()
    aucs, mean = metrics.cumulative_dynamic_auc(known, seen, 1 - curve, times)
    theirs = {
        "Brier score": metrics.brier_score(known, seen, curve, times)[1],
        "IBS": metrics.integrated_brier_score(known, seen, curve, times),
        "Harrell's C": metrics.concordance_index_censored(seen["event"], seen["duration"], risk)[0],
        "Uno's C": metrics.concordance_index_ipcw(known, seen, risk, tau=times[-1])[0],
        "AUC": aucs,
        "mean AUC": mean,
    }
    errors = churn.brier(test, survival, censoring=train, watched="until")
    areas = churn.dynamic_auc(test, 1 - survival, censoring=train, watched="until")
    ours = {
        "Brier score": errors["brier"].to_numpy(),
        "IBS": churn.integrated_brier(errors),
        "Harrell's C": churn.harrell_c(test, risk),
        "Uno's C": churn.uno_c(test, risk, times[-1], censoring=train, watched="until"),
        "AUC": areas["auc"].to_numpy(),
        "mean AUC": churn.mean_auc(areas, test),
    }
    return [
        table.at_most(
            f"{name}, largest difference from scikit-survival's",
            float(np.abs(np.asarray(ours[name]) - np.asarray(theirs[name])).max()),
            1e-8,
        )
        for name in theirs
    ]
