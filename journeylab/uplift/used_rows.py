"""Used rows: whether rows that are to judge a fit had a part in it."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from journeylab.errors import ContractError
from journeylab.uplift.trial import Trial

Prints = NDArray[np.uint64]
# Agreement beyond chance above which equal labels mean equal rows.
_SAME = 0.5
# Share of rows found again from which rows of other labels are the same rows.
_FOUND_AGAIN = 0.9
# Share of training rows with a twin up to which finding a row again is no chance.
_TWINS = 0.1


def refuse_used(trial: Trial, others: Trial) -> None:
    """Refuse rows that a fit has learnt from.

    A row is known by its label together with its content: encoded covariates, arm and outcome. The
    labels alone say nothing where they are row numbers. So labels found in both count where the
    contents behind them agree, beyond what chance would give, more often than not. And where hardly
    two training rows are alike, rows found again under other labels are the same rows.

    Args:
        trial: Learnt from.
        others: To judge by; with the same arms and the encoding of ``trial``.

    Raises:
        ContractError: Rows were used; the message counts them.
    """
    known, asked = _prints(trial), _prints(others)
    advice = "evaluate on others, or take the held-out rankings of compare()"
    contents, times = np.unique(known, return_counts=True)
    place = np.minimum(np.searchsorted(contents, asked), len(contents) - 1)
    found = contents[place] == asked
    shared = np.asarray(others.index.isin(trial.index))
    if shared.any():
        label = pd.factorize(trial.index.append(others.index))[0].astype(np.uint64)
        same = shared & np.isin(
            _mixed(asked, label[len(known) :]), _mixed(known, label[: len(known)])
        )
        agree = float(same[shared].mean())
        by_chance = float((found * times[place])[shared].mean()) / len(known)
        if agree - by_chance > _SAME * (1 - by_chance):
            raise ContractError(
                f"{int(same.sum())} of {len(others)} rows were used in the fit: {advice}"
            )
    twins = float(times[times > 1].sum()) / len(known)
    if twins <= _TWINS and float(found.mean()) > _FOUND_AGAIN:
        raise ContractError(
            f"{int(found.sum())} of {len(others)} rows equal, with arm and outcome, rows used in "
            f"the fit, of which {twins:.1%} have a twin: these are the same rows under other "
            f"labels; {advice}"
        )


def _prints(trial: Trial) -> Prints:
    """One number for the content of each row, ``(rows,)``."""
    found = pd.util.hash_array(trial.arm.astype(np.int64))
    found = _mixed(found, pd.util.hash_array(trial.outcome + 0.0))
    for column in range(trial.features.shape[1]):
        # adding 0 makes one of both zeros
        found = _mixed(found, pd.util.hash_array(trial.features[:, column] + np.float32(0)))
    return found


def _mixed(one: Prints, other: Prints) -> Prints:
    """Two numbers a row as one, in which their order counts."""
    return np.asarray(pd.util.hash_array(one * np.uint64(0x9E3779B97F4A7C15) + other))
