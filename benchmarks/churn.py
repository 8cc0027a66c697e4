"""Survival models of churn: level, order, cost and memory, beside Cox and boosted rivals.

Rivals that are part of the kit (lifelines, xgboost) run always. scikit-survival is GPL, is never
imported by the package and takes part only where it is installed: point ``JOURNEYLAB_PEERS`` at a
folder it was installed into with ``pip install --target``.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
import warnings
from collections.abc import Callable
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import survival_scores
import table

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    Floats = npt.NDArray[np.float64]

SEED = 11
_COVARIATES = 20
_TIMES = tuple(range(10, 361, 10))
_TEST_ROWS = 20_000


def rows(full: bool) -> list[table.Row]:
    """The table; without ``--full`` fewer splits, fewer rivals and a tenth of the million."""
    warnings.filterwarnings("ignore")
    found = [*survival_scores.rows(), *_gbsg2(20 if full else 5), *_cdnow(), *_telco()]
    found += [*_panel("complete_journey"), *_panel("online_retail"), *_explanations()]
    with tempfile.TemporaryDirectory(prefix="journeylab-bench-") as name:
        folder = Path(name)
        slow = ("vector", "xgb aft", "lifelines Cox") if full else ()
        found += _crossing(folder, 200_000, ("sampled", "xgb cox", *slow))
        if not full:
            found += _crossing(folder, 50_000, ("vector", "xgb cox"))
        found += _memory(folder, 1_000_000 if full else 100_000)
    return found


# --- published data: 20 divisions of GBSG2 -----------------------------------------------------


def _gbsg2(splits: int) -> list[table.Row]:
    import numpy as np
    from lifelines.datasets import load_gbsg2

    frame = load_gbsg2().rename(columns={"time": "duration", "cens": "event"})
    forest = _forest()
    found: list[dict[str, tuple[float, float]]] = [
        _gbsg2_split(frame, split, forest) for split in range(splits)
    ]
    mean = {name: np.mean([split[name] for split in found], axis=0) for name in found[0]}
    label = f"GBSG2, mean of {splits} splits"
    ours, cox = mean["hazard"], mean["Cox"]
    rows = [
        table.at_most(f"{label}, IBS of hazard less Cox's", float(ours[0] - cox[0]), 0.002),
        table.at_least(f"{label}, C of hazard less Cox's", float(ours[1] - cox[1]), 0.0),
    ]
    for name, (ibs, c) in mean.items():
        rows.append(table.Row(f"{label}, {name}, IBS and C", f"{ibs:.4f}, {c:.4f}"))
    if forest is None:
        rows.append(table.missing(f"{label}, survival forest", "scikit-survival"))
    return rows


def _gbsg2_split(
    frame: pd.DataFrame, split: int, forest: Forest | None
) -> dict[str, tuple[float, float]]:
    import numpy as np
    import pandas as pd
    from lifelines import CoxPHFitter

    from journeylab import churn

    shuffled = np.random.default_rng(split).permutation(len(frame))
    train, test = frame.iloc[shuffled[:515]], frame.iloc[shuffled[515:]]
    low, high = np.quantile(test.loc[test["event"] == 1, "duration"], [0.1, 0.9])
    times = np.linspace(low, high, 30).tolist()
    numbers = pd.get_dummies(
        frame.assign(tgrade=frame["tgrade"].map({"I": 1, "II": 2, "III": 3})),
        drop_first=True,
        dtype=float,
    )
    own, other = numbers.loc[train.index], numbers.loc[test.index]
    cox = CoxPHFitter().fit(own, "duration", "event")
    curves = {
        "Kaplan-Meier": churn.kaplan_meier_prediction(train, test, times),
        "Cox": cox.predict_survival_function(other, times=times).T,
        "hazard": churn.fit_hazard(train, rng=split).survival(test, times),
    }
    if forest is not None:
        curves["survival forest"] = forest(own, other, times)
    return {
        name: (
            churn.integrated_brier(churn.brier(test, curve, times)),
            churn.harrell_c(test, -np.log(np.clip(curve, 1e-9, 1)).mean(axis=1)),
        )
        for name, curve in curves.items()
    }


Forest = Callable[["pd.DataFrame", "pd.DataFrame", "list[float]"], "pd.DataFrame"]


def _forest() -> Forest | None:
    if folder := os.environ.get("JOURNEYLAB_PEERS"):
        sys.path.append(folder)
    if importlib.util.find_spec("sksurv") is None:
        return None
    import numpy as np
    import pandas as pd
    from sksurv.ensemble import RandomSurvivalForest
    from sksurv.util import Surv

    def grown(train: pd.DataFrame, test: pd.DataFrame, times: list[float]) -> pd.DataFrame:
        names = [name for name in train if name not in ("duration", "event")]
        forest = RandomSurvivalForest(n_estimators=200, min_samples_leaf=15, random_state=SEED)
        forest.fit(train[names], Surv.from_dataframe("event", "duration", train))
        curves = forest.predict_survival_function(test[names])
        return pd.DataFrame(np.array([curve(times) for curve in curves]), test.index, times)

    return grown


# --- panels, out of time ------------------------------------------------------------------------


def _cdnow() -> list[table.Row]:
    from journeylab import churn, frames
    from journeylab.tables import collect, open_tables

    horizon, first = 180, date(1997, 1, 1)
    day = (first + timedelta(days=365)).isoformat()
    past = [(first + timedelta(days=days)).isoformat() for days in range(95, 365, 30)]
    tables = open_tables("cdnow")
    train = collect(frames.landmarks(tables, past, horizon, train_until=day))
    test = collect(frames.landmarks(tables, [day], horizon))
    fit = churn.fit_hazard(train, rng=SEED)
    times = [float(time) for time in range(5, horizon + 1, 5)]
    curves = {
        "hazard": fit.survival(test, times),
        "Cox": churn.fit_cox(train).survival(test, times),
    }
    scores = churn.score(test, curves, train=train, rng=SEED, times=times, horizons=[90.0, 180.0])
    each = scores.table.set_index("model")
    own, label = each.loc["hazard"], "CDNOW out of time"
    level = scores.by_time.set_index(["model", "time"]).loc[("hazard", 90.0)]
    top = scores.lift
    top = top[(top["model"] == "hazard") & (top["horizon"] == 90) & (top["of"] == "event")]
    top = top[top["top"] == 0.1].iloc[0]
    apart = scores.difference("hazard", "Cox")
    gap = level["predicted"] - level["observed"]
    return [
        table.at_most(f"{label}, IBS", float(own["ibs"]), 0.093),
        _interval(f"{label}, IBS", own["ibs_low"], own["ibs_high"]),
        table.at_least(f"{label}, skill against Kaplan-Meier", float(own["skill"]), 0.21),
        _interval(f"{label}, skill", own["skill_low"], own["skill_high"]),
        table.at_least(
            f"{label}, C less that of recency alone",
            float(own["harrell_c"] - each.loc["recency alone", "harrell_c"]),
            0.0,
        ),
        table.at_least(f"{label}, C", float(own["harrell_c"]), 0.767),
        _interval(f"{label}, Uno's C", own["uno_low"], own["uno_high"]),
        table.at_most(f"{label}, |mean S(90) - observed|", abs(float(gap)), 0.02),
        _interval(
            f"{label}, mean S(90) - observed",
            level["predicted"] - level["observed_high"],
            level["predicted"] - level["observed_low"],
        ),
        table.at_least(f"{label}, lift of the first tenth at 90 days", float(top["lift"]), 3.5),
        _interval(f"{label}, lift", top["ci_low"], top["ci_high"]),
        _difference(f"{label}, IBS of hazard less Cox's", apart),
    ]


def _telco() -> list[table.Row]:
    import numpy as np
    import pandas as pd
    from lifelines import CoxPHFitter

    from journeylab import churn, frames
    from journeylab.tables import collect, open_tables

    tables = open_tables("telco_churn")
    frame = collect(frames.memberships(tables, "2020-01-01", numbers=["MonthlyCharges"]))
    # What was charged in all is the length of the membership times its price.
    frame = frame.drop(columns=["landmark", "followed_until", "TotalCharges"])
    shuffled = np.random.default_rng(SEED).permutation(len(frame))
    half = len(frame) // 2
    train, test = frame.iloc[shuffled[:half]], frame.iloc[shuffled[half:]]
    times = [float(time) for time in range(60, 1501, 60)]
    shown = frame.drop(columns="customer_id")
    numbers = pd.get_dummies(shown, drop_first=True, dtype=float)
    # columns that say the same twice ("no internet service") leave Cox without a maximum
    numbers = numbers.loc[:, ~numbers.T.duplicated()]
    own = numbers.loc[train.index]
    cox = CoxPHFitter(penalizer=1e-3).fit(own.drop(columns="entry"), "duration", "event")
    curves = {
        "hazard": churn.fit_hazard(train, rng=SEED).survival(test, times),
        "Cox": cox.predict_survival_function(numbers.loc[test.index], times=times).T,
    }
    # a tenth of the customers may be new: calibration asks for no more than all were followed
    horizons = [360.0, 720.0]
    scores = churn.score(test, curves, train=train, rng=SEED, times=times, horizons=horizons)
    return _beside("telco_churn, other half of the customers", scores)


def _panel(source: str) -> list[table.Row]:
    from journeylab import churn, frames
    from journeylab.frames.days import last_day
    from journeylab.tables import collect, open_tables

    tables, horizon = open_tables(source), 60
    end = last_day(tables)
    day = end - timedelta(days=horizon)
    past = [(day - timedelta(days=30 * back)).isoformat() for back in range(5, 0, -1)]
    # an outcome as long as the horizon is known for the first landmarks only
    train = collect(frames.landmarks(tables, past, horizon, train_until=day.isoformat()))
    test = collect(frames.landmarks(tables, [day.isoformat()], horizon))
    times = [float(time) for time in range(3, horizon + 1, 3)]
    hazard = churn.fit_hazard(train, rng=SEED)
    curves = {
        "hazard": hazard.survival(test, times),
        "Cox": churn.fit_cox(train).survival(test, times),
    }
    scores = churn.score(test, curves, train=train, rng=SEED, times=times)
    return _beside(f"{source}, out of time", scores)


def _beside(label: str, scores: object) -> list[table.Row]:
    from journeylab.churn import Scores

    assert isinstance(scores, Scores)
    each = scores.table.set_index("model")
    apart = scores.difference("hazard", "Cox")
    found = [table.at_most(f"{label}, IBS of hazard less Cox's", float(apart["difference"]), 0.0)]
    found.append(_difference(f"{label}, IBS of hazard less Cox's", apart))
    for name in each.index:
        text = f"{each.loc[name, 'ibs']:.4f}, {each.loc[name, 'skill']:+.1%}"
        text += f", {each.loc[name, 'harrell_c']:.3f}"
        found.append(table.Row(f"{label}, {name}, IBS, skill and C", text))
    return found


def _difference(what: str, apart: pd.Series) -> table.Row:
    ends = f"{apart['difference']:+.5f} ({apart['ci_low']:+.5f} to {apart['ci_high']:+.5f})"
    return table.Row(f"{what}, 95 % interval", f"{ends}: {apart['reading']}")


def _interval(what: str, low: float, high: float) -> table.Row:
    return table.Row(f"{what}, 95 % interval", f"{low:.4f} to {high:.4f}")


# --- a world with crossing hazards and known truth -----------------------------------------------


def crossing(customers: int, seed: int) -> tuple[pd.DataFrame, Callable[[Floats], Floats]]:
    """Waits whose hazards cross, with 20 covariates of which ten matter, and their true curves.

    Weibull waits; shape and scale both depend on the covariates, with thresholds, interactions
    and curved effects; sight is lost at random and on day 365.
    """
    import numpy as np
    import pandas as pd

    random = np.random.default_rng(seed)
    x = random.normal(size=(customers, _COVARIATES)).astype(np.float32)
    shape = np.exp(0.45 * np.tanh(1.2 * x[:, 0]) + 0.25 * (x[:, 1] > 0.3) - 0.1)
    scale = np.exp(
        5.6 - 0.45 * x[:, 2] - 0.35 * np.maximum(x[:, 3], 0) - 0.4 * (x[:, 4] * x[:, 5] > 0)
        + 0.25 * np.abs(x[:, 6]) - 0.2 * x[:, 7] + 0.3 * np.tanh(2 * x[:, 0])
        - 0.2 * np.sin(2 * x[:, 8])
    )  # fmt: skip
    wait = scale * (-np.log(random.random(customers))) ** (1 / shape)
    sight = np.minimum(random.uniform(60, 800, customers), 365.0)
    frame = pd.DataFrame(x, columns=[f"x{number}" for number in range(_COVARIATES)])
    frame["duration"] = np.maximum(np.minimum(wait, sight), 1e-3)
    frame["event"] = (wait <= sight).astype(int)

    def truth(times: Floats) -> Floats:
        return np.asarray(np.exp(-((times[None, :] / scale[:, None]) ** shape[:, None])))

    return frame, truth


def _crossing(folder: Path, size: int, fits: tuple[str, ...]) -> list[table.Row]:
    file = folder / "crossing.parquet"
    table.race({"write": [size, file]}, repeats=1)
    fitted = {name: table.race({"fit": [name, file, folder]}, repeats=1)["fit"] for name in fits}
    scored = {
        name: table.race({"survival": [name, file, folder]}, repeats=1)["survival"] for name in fits
    }
    label = f"crossing hazards, {size:,} x {_COVARIATES}"
    cox, found = "xgb cox", []
    if "sampled" in fits:
        found += [
            table.at_least(
                f"{label}, sampled, share of the attainable gain", _gain(scored, "sampled"), 0.95
            ),
            table.at_most(
                f"{label}, sampled, fit CPU of xgb cox",
                fitted["sampled"].cpu_seconds / fitted[cox].cpu_seconds,
                2.5,
            ),
            table.at_most(
                f"{label}, sampled, rows held per customer", _number(fitted["sampled"]) / size, 4
            ),
        ]
    # the bars are for 200,000 rows: fewer hold less to gain
    if "vector" in fits and size >= 200_000:
        found += [
            table.at_least(
                f"{label}, vector, share of the attainable gain", _gain(scored, "vector"), 0.95
            ),
            table.at_most(
                f"{label}, vector, scoring CPU of xgb cox",
                scored["vector"].cpu_seconds / scored[cox].cpu_seconds,
                3,
            ),
        ]
    for name in fits:
        found.append(
            table.Row(
                f"{label}, {name}, share of the gain; fit and score CPU seconds",
                f"{_gain(scored, name):.3f}; {fitted[name].cpu_seconds:.1f}, "
                f"{scored[name].cpu_seconds:.2f}",
            )
        )
    return found


def _gain(scored: dict[str, table.Measured], name: str) -> float:
    return _number(scored[name])


def _number(measured: table.Measured) -> float:
    assert measured.answer is not None
    return measured.answer


def write(size: str, file: str) -> Callable[[], object]:
    frame, _ = crossing(int(size), SEED)
    return lambda: frame.to_parquet(file)


def fit(name: str, file: str, folder: str) -> Callable[[], object]:
    """The fit alone: what it rests on is read before."""
    import pandas as pd

    frame = pd.read_parquet(file)
    if name in ("sampled", "vector"):
        return partial(_fit_hazard, frame, name, Path(folder))
    if name == "lifelines Cox":
        return partial(_fit_lifelines, frame, Path(folder))
    return partial(_fit_xgboost, frame, name, Path(folder))


def _fit_hazard(frame: pd.DataFrame, layout: str, folder: Path) -> float:
    from journeylab import churn

    vector = layout == "vector"
    fit = churn.fit_hazard(
        frame,
        bins=20 if vector else 30,
        layout="vector" if vector else "sampled",
        settings=churn.VECTOR if vector else churn.HazardSettings(),
        rng=SEED,
    )
    churn.save_hazard(fit, folder / f"{layout}.json")
    return fit.n_held


def _fit_lifelines(frame: pd.DataFrame, folder: Path) -> None:
    import pickle

    from lifelines import CoxPHFitter

    model = CoxPHFitter().fit(frame, "duration", "event")
    (folder / "lifelines Cox.pickle").write_bytes(pickle.dumps(model))


def _fit_xgboost(frame: pd.DataFrame, name: str, folder: Path) -> None:
    """The rivals' trees grow as ours do, with Breslow's baseline for Cox."""
    import numpy as np
    import xgboost

    from journeylab.churn import HazardSettings

    ours = HazardSettings()
    x, duration, event = _arrays(frame)
    data = xgboost.QuantileDMatrix(x, max_bin=ours.cuts, nthread=ours.threads)
    parameters = {
        "tree_method": "hist", "max_depth": ours.depth, "eta": ours.eta, "max_bin": ours.cuts,
        "min_child_weight": ours.least_events, "lambda": ours.shrinkage,
        "subsample": ours.subsample, "colsample_bytree": ours.columns,
        "nthread": ours.threads, "seed": SEED,
    }  # fmt: skip
    if name == "xgb cox":
        data.set_label(np.where(event == 1, duration, -duration))
        parameters["objective"] = "survival:cox"
    else:
        data.set_float_info("label_lower_bound", duration)
        data.set_float_info("label_upper_bound", np.where(event == 1, duration, np.inf))
        parameters |= {
            "objective": "survival:aft",
            "aft_loss_distribution": "normal",
            "aft_loss_distribution_scale": 1.0,
        }
    model = xgboost.train(parameters, data, ours.rounds)
    model.save_model(folder / f"{name}.ubj")
    if name == "xgb cox":
        order = np.argsort(duration)
        weight = np.exp(model.predict(data, output_margin=True).astype(float))[order]
        at_risk = np.cumsum(weight[::-1])[::-1]
        total = np.cumsum(event[order] / at_risk)
        place = np.searchsorted(duration[order], _TIMES, side="right") - 1
        np.save(folder / "xgb cox.npy", total[place])


def survival(name: str, file: str, folder: str) -> Callable[[], object]:
    """Curves of customers not seen; what comes back is the share of the attainable gain."""
    import numpy as np
    import pandas as pd

    from journeylab import churn

    frame = pd.read_parquet(file)
    test, truth = crossing(_TEST_ROWS, SEED + 1)
    times = np.array(_TIMES, dtype=float)
    true = truth(times)
    same = churn.kaplan_meier_prediction(frame, test, times).to_numpy()
    # The expected Brier score of S is that of the truth plus (S - truth)^2: no draw is needed.
    attainable = np.square(same - true).mean()
    curves = _curves(name, Path(folder), test, times)

    def gain() -> float:
        return 1 - float(np.square(curves() - true).mean() / attainable)

    return gain


def _curves(name: str, folder: Path, test: pd.DataFrame, times: Floats) -> Callable[[], Floats]:
    import pickle

    import numpy as np
    import xgboost
    from scipy.special import ndtr

    from journeylab import churn

    if name in ("sampled", "vector"):
        hazard = churn.load_hazard(folder / f"{name}.json")
        return lambda: hazard.survival(test, times.tolist()).to_numpy()
    if name == "lifelines Cox":
        cox = pickle.loads((folder / f"{name}.pickle").read_bytes())
        return lambda: cox.predict_survival_function(test, times=times).to_numpy().T
    model = xgboost.Booster(model_file=folder / f"{name}.ubj")
    covariates = [column for column in test if str(column).startswith("x")]

    def margins() -> Floats:
        x = test[covariates].to_numpy(np.float32)
        return np.asarray(model.inplace_predict(x, predict_type="margin"), dtype=float)

    if name == "xgb cox":
        total = np.load(folder / "xgb cox.npy")
        return lambda: np.exp(-np.exp(margins())[:, None] * total)
    return lambda: ndtr(margins()[:, None] - np.log(times))


def _arrays(frame: pd.DataFrame) -> tuple[npt.NDArray[np.float32], Floats, Floats]:
    import numpy as np

    x = frame[[name for name in frame if str(name).startswith("x")]].to_numpy(np.float32)
    return x, frame["duration"].to_numpy(float), frame["event"].to_numpy(float)


# --- explanations and memory ---------------------------------------------------------------------


def _explanations() -> list[table.Row]:
    customers = 200
    found = []
    for layout in ("sampled", "vector"):
        one = table.race({"explain": [layout, customers]}, repeats=1)["explain"]
        label = f"explain, {layout}, 30 bins x {_COVARIATES}"
        found.append(
            table.at_most(f"{label}, CPU ms a customer", 1000 * one.cpu_seconds / customers, 25)
        )
        found.append(table.at_most(f"{label}, gap to the margin", _number(one), 1e-4))
    return found


def explain(layout: str, customers: str) -> Callable[[], object]:
    import numpy as np

    from journeylab import churn

    frame, _ = crossing(5_000, SEED)
    vector = layout == "vector"
    fit = churn.fit_hazard(
        frame,
        bins=30,
        layout="vector" if vector else "sampled",
        settings=churn.VECTOR if vector else churn.HazardSettings(),
        rng=SEED,
    )
    some, ends = frame.head(int(customers)), fit.bins.edges[1:].tolist()

    def gap() -> float:
        explained = fit.explain(some, ends)
        # against the scored curves, not the sum that the explanation itself makes
        log_odds = explained.baseline + explained.contributions.sum(axis=2)
        passed = np.cumsum(np.logaddexp(0, log_odds.astype(float)), axis=1)
        scored = -np.log(fit.survival(some, ends).to_numpy())
        return float(np.abs(np.diff(passed - scored, axis=1)).max())

    return gap


def _memory(folder: Path, size: int) -> list[table.Row]:
    from journeylab.churn import HazardSettings

    file = folder / "memory.parquet"
    table.race({"write": [size, file]}, repeats=1)
    one = table.race({"fit and score": [file]}, repeats=1)["fit and score"]
    label = f"fit ({HazardSettings().rounds} rounds) and score, {size:,} x {_COVARIATES}"
    return [
        table.at_most(f"{label}, resident GB", one.peak_mb * 1024**2 / 1e9, 3),
        table.Row(f"{label}, CPU seconds", one.cpu_seconds),
    ]


def fit_and_score(file: str) -> Callable[[], object]:
    import pandas as pd

    from journeylab import churn

    def run() -> float:
        frame = pd.read_parquet(file)
        fit = churn.fit_hazard(frame, settings=churn.HazardSettings(), rng=SEED)
        return float(fit.survival(frame, [30.0, 60.0, 90.0]).to_numpy().mean())

    return run


if __name__ == "__main__":
    table.run(
        "churn",
        rows,
        tasks={
            "write": write,
            "fit": fit,
            "survival": survival,
            "explain": explain,
            "fit and score": fit_and_score,
        },
        packages=[
            "journeylab", "lifelines", "xgboost", "scikit-survival", "numpy", "scipy", "pandas",
        ],
    )  # fmt: skip
