"""Learners of effects on small trials with faint effects, which no library's data set can show.

Mailing lists of 8,000 people are invented, half of them mailed: recency, spend, segments, channel;
a visit whose chance follows them; and an effect on that chance of 2 to 9 points, whose pattern is a
slope, steps, a share of the chance without mail, or waves. AUTOC is that of the true effects on
20,000 others, which are known, as a share of the oracle's. Settings of the learners were found on
other draws of the same patterns.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import table

PEOPLE, OTHERS = 8_000, 20_000
PATTERNS = ("slope", "steps", "share of the chance", "waves")
BOOSTED = ("s", "x", "r", "dr")
LEARNERS = (*BOOSTED, "pooled", "forest", "average")
# None of these was drawn while settings were found.
FIRST_SEED = 7_000


def rows(full: bool) -> list[table.Row]:
    """The table: two draws of each pattern, too few to tell; with ``--full`` twenty, and bars."""
    share: dict[str, list[float]] = {name: [] for name in LEARNERS}
    cpu = dict.fromkeys(LEARNERS, 0.0)
    found = []
    for pattern in PATTERNS:
        here: dict[str, list[float]] = {name: [] for name in LEARNERS}
        for seed in range(20 if full else 2):
            for name, (value, spent) in _trial(pattern, FIRST_SEED + seed).items():
                here[name].append(value)
                cpu[name] += spent
        for name in LEARNERS:
            share[name] += here[name]
            found.append(table.Row(f"{pattern}, {name}", _mean(here[name])))
    mean = {name: _mean(values) for name, values in share.items()}
    draws = len(share["dr"])
    best = max(BOOSTED, key=lambda name: mean[name])
    gap = [a - b for a, b in zip(share["forest"], share[best], strict=True)]
    error = (sum((one - _mean(gap)) ** 2 for one in gap) / (draws - 1) / draws) ** 0.5
    whole = "all patterns, AUTOC as a share of the oracle's"
    return [
        *found,
        *(table.Row(f"{whole}, {name}", value) for name, value in mean.items()),
        *(
            table.at_least(what, value, 0.0) if full else table.Row(what, value)
            for what, value in (
                (f"{whole}, forest less the best boosted ({best})", _mean(gap)),
                (f"{whole}, average less the same", mean["average"] - mean[best]),
            )
        ),
        table.Row("forest less the best boosted, standard error", error),
        *(
            table.Row(f"CPU seconds of a final stage and its forecasts, {name}", spent / draws)
            for name, spent in cpu.items()
        ),
    ]


def _trial(pattern: str, seed: int) -> dict[str, tuple[float, float]]:
    from journeylab.uplift.meta_learners import learn
    from journeylab.uplift.nuisance import fit_nuisance
    from journeylab.uplift.trial import read_trial

    frame, effect = _mailing(pattern, PEOPLE + OTHERS, seed)
    people, others = frame.iloc[:PEOPLE], frame.iloc[PEOPLE:]
    covariates = [name for name in frame.columns if name not in ("visit", "arm")]
    trial = read_trial(people, "visit", "arm", "none", covariates, {"none": 0.5, "mail": 0.5})
    nuisance = fit_nuisance(trial, 3, rng=seed)
    features, truth = trial.encoding.encode(others), effect[PEOPLE:]
    found = {}
    for name in LEARNERS:
        before = time.process_time()
        told = learn(nuisance, name).effects(features)[:, 0]
        found[name] = (_autoc(truth, told) / _autoc(truth, truth), time.process_time() - before)
    return found


def _mailing(pattern: str, size: int, seed: int):  # type: ignore[no-untyped-def]
    import numpy as np
    import pandas as pd

    draw = np.random.default_rng(seed)
    recency = draw.integers(1, 13, size)
    spend = np.exp(draw.normal(5.2, 0.9, size))
    frame = pd.DataFrame(
        {
            "recency": recency,
            "spend": spend,
            "segment": np.digitize(spend, [100, 200, 350, 500, 750, 1000]).astype(str),
            "men": draw.integers(0, 2, size),
            "place": draw.choice(["urban", "suburban", "rural"], size, p=[0.4, 0.45, 0.15]),
            "new": draw.integers(0, 2, size),
            "channel": draw.choice(["phone", "web", "both"], size, p=[0.44, 0.44, 0.12]),
        }
    )
    frame["women"] = np.where(frame["men"] == 1, draw.random(size) < 0.2, 1).astype(int)
    level = -2.2 - 0.08 * (recency - 6) + 0.25 * (np.log(spend) - 5.2) + 0.3 * (frame["new"] == 0)
    level += 0.2 * (frame["place"] == "rural") - 0.2 * (frame["place"] == "urban")
    chance = 1 / (1 + np.exp(-level))
    women = frame["women"] == 1
    if pattern == "slope":
        effect = 0.045 + 0.02 * frame["women"] + 0.002 * (6 - recency)
    elif pattern == "steps":
        effect = 0.03 + 0.05 * (women & (frame["new"] == 0))
        effect += 0.02 * ((recency < 4) & (frame["channel"] == "web"))
    elif pattern == "waves":
        effect = 0.04 + 0.03 * np.sin(recency / 2)
        effect += 0.02 * (frame["place"] == "urban") * frame["men"]
    else:
        effect = 0.5 * chance * (0.5 + frame["women"])
    mailed = draw.random(size) < 0.5
    frame["visit"] = (draw.random(size) < np.clip(chance + effect * mailed, 0, 1)).astype(float)
    frame["arm"] = np.where(mailed, "mail", "none")
    return frame, np.asarray(effect, dtype=float)


def _autoc(truth, ranking) -> float:  # type: ignore[no-untyped-def]
    import numpy as np

    ordered = truth[np.argsort(-ranking, kind="stable")]
    return float((np.cumsum(ordered) / np.arange(1, len(truth) + 1)).mean() - truth.mean())


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


if __name__ == "__main__":
    table.run("uplift learners", rows, tasks={}, packages=["journeylab", "xgboost", "numpy"])
