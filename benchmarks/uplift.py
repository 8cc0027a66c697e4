"""Effects of touches: ranking, speed and memory, beside econml and causalml.

The peers are not part of the kit (extra ``bench``) and run in an interpreter of their own:
``JOURNEYLAB_PEERS_PYTHON`` names it; without it, this one is used if they are installed here.
Otherwise the table says that they are missing and holds our own figures.

Simulated trials: twelve covariates (normals, two of them correlated, an exponential, a flag, a
category of four, a count); an outcome of curved and crossed covariates; an effect with a bend, a
crossed step, a category and a slope for half the people; normal noise. The deviation of the noise
is set so that econml's boosted DR-learner reaches about 0.76 of the oracle's AUTOC at 30,000 people
(85 % treated). AUTOC is that of the true effects, which are known, as a share of the oracle's.

All base learners of the large trials are 100 trees of depth 4 and step 0.1 on one thread. CPU
seconds are those of fit and score; reading the data is not counted.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import table

COLUMNS = 12
NOISE = 1.4
SHARE = 0.85
FOLDS = 3
HILLSTROM = [
    "recency", "history_segment", "history", "mens", "womens", "zip_code", "newbie", "channel",
]  # fmt: skip
NONE, WOMENS, MENS = "No E-Mail", "Womens E-Mail", "Mens E-Mail"


def rows(full: bool) -> list[table.Row]:
    """The table: one seed, small trials and two learners on hillstrom's women's mail.

    With ``--full`` five seeds, a million people, all learners, and all of hillstrom.
    """
    peers = _peers()
    seeds = range(5 if full else 1)
    with tempfile.TemporaryDirectory(prefix="journeylab-bench-") as name:
        folder = Path(name)
        found = _small(folder, seeds, peers)
        found += _hillstrom(folder, seeds, peers if full else None, full)
        found += _large(folder, seeds, 1_000_000 if full else 100_000, peers, full)
    if peers is None:
        found.append(table.missing("simulated trials and the causal forest", "econml or causalml"))
    else:
        found.append(
            table.Row("versions of the peers", str(_run(peers, "versions", folder)["note"]))
        )
    return found


def _small(folder: Path, seeds: Sequence[int], peers: str | None) -> list[table.Row]:
    names = dict.fromkeys(("ours-dr", "ours-forest", "ours-average"), sys.executable)
    if peers:
        names |= {"econml-dr": peers, "causalml-dr": peers}
    shares: dict[str, list[float]] = {name: [] for name in names}
    for seed in seeds:
        truth = _write(folder / "trial.npz", 30_000, 100_000, seed)
        for name, python in names.items():
            _run(python, name, folder)
            shares[name].append(_share_of_oracle(truth, folder / f"{name}.npy"))
    label = "simulated 30,000 x 12, AUTOC as a share of the oracle's"
    mean = {name: sum(values) / len(values) for name, values in shares.items()}
    return [
        table.at_least(f"{label}, DR", mean.pop("ours-dr"), 0.77),
        table.at_least(f"{label}, average of learners", mean.pop("ours-average"), 0.77),
        *(table.Row(f"{label}, {name}", value) for name, value in mean.items()),
    ]


def _large(
    folder: Path, seeds: Sequence[int], size: int, peers: str | None, full: bool
) -> list[table.Row]:
    names = {"ours-dr": sys.executable}
    if peers:
        names |= {"econml-dr": peers, "causalml-dr": peers}
    shares: dict[str, list[float]] = {name: [] for name in names}
    costs: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for seed in seeds:
        truth = _write(folder / "trial.npz", size, 100_000, seed)
        for name, python in names.items():
            costs[name].append(_run(python, name, folder))
            shares[name].append(_share_of_oracle(truth, folder / f"{name}.npy"))
    share = {name: sum(each) / len(each) for name, each in shares.items()}
    cost = {
        name: {key: sum(one[key] for one in each) / len(each) for key in ("cpu", "peak")}
        for name, each in costs.items()
    }
    label = f"simulated {size:,} x {COLUMNS}"
    bar = 0.94 if full else 0.77
    found = [table.at_least(f"{label}, DR, AUTOC of the oracle's", share["ours-dr"], bar)]
    found += [
        table.Row(f"{label}, {name}, CPU seconds", float(one["cpu"])) for name, one in cost.items()
    ]
    if not peers:
        return found
    theirs = {name: value for name, value in share.items() if name != "ours-dr"}
    found += [table.Row(f"{label}, {name}, AUTOC", value) for name, value in theirs.items()]
    best = max(theirs.values())
    found.append(
        table.at_least(f"{label}, AUTOC less the best peer's", share["ours-dr"] - best, -0.005)
    )
    own, slow, lean = cost["ours-dr"], cost["econml-dr"], cost["causalml-dr"]
    found += _held(
        full,
        [
            (f"{label}, CPU of econml's DRLearner", own["cpu"] / slow["cpu"], 0.9),
            (f"{label}, CPU of causalml's DR", own["cpu"] / lean["cpu"], 1.1),
            (f"{label}, peak memory of causalml's DR", own["peak"] / lean["peak"], 0.75),
        ],
    )
    found += [
        table.Row(f"{label}, {name}, peak memory, MB", float(one["peak"]))
        for name, one in cost.items()
    ]
    _write(folder / "trial.npz", size, 100_000, 0, arms=2)
    three = {
        name: _run(python, name, folder)
        for name, python in (("ours-three", sys.executable), ("causalml-three", peers))
    }
    own, theirs_three = three["ours-three"], three["causalml-three"]
    found += _held(
        full,
        [
            (f"{label}, DR + R + X on three arms, CPU of causalml's",
             own["cpu"] / theirs_three["cpu"], 0.75),
            (f"{label}, the same, peak memory of causalml's",
             own["peak"] / theirs_three["peak"], 0.75),
        ],
    )  # fmt: skip
    return found


def _held(full: bool, measured: list[tuple[str, float, float]]) -> list[table.Row]:
    """Bars of speed hold at full size; at small sizes the imports weigh too much."""
    if full:
        return [table.at_most(what, value, bar) for what, value, bar in measured]
    return [table.Row(what, value) for what, value, _ in measured]


def _hillstrom(
    folder: Path, seeds: Sequence[int], peers: str | None, full: bool
) -> list[table.Row]:
    if "JOURNEYLAB_DATA" not in os.environ:
        return [table.Row("hillstrom", "JOURNEYLAB_DATA names no folder")]
    import numpy as np

    from journeylab.uplift.comparison import compare
    from journeylab.uplift.toc import autoc

    women = _mails([WOMENS])
    values: dict[str, list[float]] = {}

    def add(name: str, value: float) -> None:
        values.setdefault(name, []).append(float(value))

    ours_cpu = 0.0
    learners = ("x", "r", "dr", "pooled", "forest", "average") if full else ("pooled", "forest")
    for seed in seeds:
        before = _cpu()
        found = compare(
            women, "visit", "segment", NONE, HILLSTROM, propensity={NONE: 0.5, WOMENS: 0.5},
            folds=FOLDS, rng=seed, unit="visits", learners=learners,
        )  # fmt: skip
        ours_cpu += (_cpu() - before) / len(seeds)
        chosen = found.measured("selected", WOMENS)
        add("autoc", chosen.value)
        add("low", chosen.estimate().ci_low)
        add("honest", found.measured("forest", WOMENS).value)
        for value in _qinis(women, found, "selected", WOMENS):
            add("qini", value)
        if peers:
            _write_hillstrom(folder / "trial.npz", women, found.scores.folds)
            cost = _run(peers, "econml-forest", folder)
            told = np.load(folder / "econml-forest.npy")
            add("forest", autoc(found.scores, told, WOMENS).value)
            add("forest cpu", cost["cpu"])
    honest_cpu = _learner_cpu(women, "forest")
    mean = {name: sum(each) / len(each) for name, each in values.items()}
    rows = [
        table.at_least(
            "hillstrom, women's mail, AUTOC of the selected", mean["autoc"], 0.0149 - 0.0022
        ),
        table.at_least("the same, lower end of its interval", mean["low"], 0.0),
        table.Row(
            "the same, seeds whose interval excludes 0",
            f"{sum(low > 0 for low in values['low'])} of {len(values['low'])}",
        ),
        table.at_least("the same, stretch", mean["autoc"], 0.0184),
        table.at_least(
            "hillstrom, women's mail, AUTOC of our forest, stretch", mean["honest"], 0.0184
        ),
        table.Row("hillstrom, women's mail, our forest on three folds, CPU seconds", honest_cpu),
        table.at_least("hillstrom, women's mail, Qini of the selected", mean["qini"], 0.05),
        table.Row(
            f"hillstrom, women's mail, nested comparison of {len(learners) + 3}, CPU seconds",
            ours_cpu,
        ),
    ]
    if peers:
        rows += [
            table.Row("hillstrom, women's mail, AUTOC of CausalForestDML", mean["forest"]),
            table.at_most(
                "hillstrom, women's mail, our forest, CPU of CausalForestDML",
                honest_cpu / mean["forest cpu"],
                0.25,
            ),
        ]
    return rows + _men(seeds) + _three_arms(seeds) if full else rows


def _men(seeds: Sequence[int]) -> list[table.Row]:
    from journeylab.uplift.comparison import compare

    men = _mails([MENS])
    gaps, response, qinis = [], [], []
    for seed in seeds:
        found = compare(
            men, "visit", "segment", NONE, HILLSTROM, propensity={NONE: 0.5, MENS: 0.5},
            folds=FOLDS, rng=seed, unit="visits",
        )  # fmt: skip
        s = found.measured("s", MENS, "qini_rate")
        others = [
            found.measured(name, MENS, "qini_rate").minus(s)
            for name in ("x", "r", "dr", "pooled", "forest", "average")
        ]
        best = max(others, key=lambda gap: gap.value)
        gaps.append(best.value / best.standard_error)
        response.append(found.measured("response", MENS, "qini_rate").value / s.value)
        qinis += _qinis(men, found, "response", MENS)
    return [
        table.at_least(
            "hillstrom, men's mail, QINI-rate of the best but S, less S, standard errors",
            sum(gaps) / len(gaps),
            -1,
        ),
        table.Row(
            "hillstrom, men's mail, QINI-rate of the response ranker as a multiple of S's",
            sum(response) / len(response),
        ),
        table.Row("hillstrom, men's mail, Qini of the response ranker", sum(qinis) / len(qinis)),
    ]


def _qinis(frame, found, learner: str, arm: str) -> list[float]:  # type: ignore[no-untyped-def]
    """Qini of a candidate in each outer fold."""
    from journeylab.uplift.qini import qini

    told, values = found.rankings[learner][arm].to_numpy(), []
    for fold in range(FOLDS):
        own = found.scores.folds == fold
        given = (frame["segment"] == arm).to_numpy(int)[own]
        values.append(float(qini(frame["visit"].to_numpy()[own], given, told[own], draws=4).value))
    return values


def _three_arms(seeds: Sequence[int]) -> list[table.Row]:
    import pandas as pd

    from journeylab.uplift.comparison import compare
    from journeylab.uplift.policy_value import policy_value

    frame = _mails([WOMENS, MENS])
    shares = {NONE: 1 / 3, WOMENS: 1 / 3, MENS: 1 / 3}
    rows = []
    for outcome in ("visit", "spend"):
        gains, lows, highs, recommended = [], [], [], 0
        for seed in seeds:
            found = compare(
                frame, outcome, "segment", NONE, HILLSTROM, propensity=shares, folds=FOLDS,
                rng=seed, unit=outcome, learners=("dr", "pooled"),
            )  # fmt: skip
            effects = found.rankings["selected"]
            best = effects.idxmax(axis=1).where(effects.max(axis=1) > 0, NONE)
            value = policy_value(found.scores, pd.Series(best, found.scores.index))
            known = value.gain_on_best()
            gains.append(known.value)
            lows.append(known.ci_low)
            highs.append(known.ci_high)
            recommended += value.recommends()
        label = f"hillstrom, three arms, {outcome}, gain on the best constant arm"
        rows += [
            table.Row(label, sum(gains) / len(gains)),
            table.Row(f"{label}, ends of the interval", _span(lows, highs)),
        ]
        if outcome == "spend":
            rows.append(table.equal(f"{label}, seeds that recommend it", recommended, 0))
    return rows


def _span(lows: Sequence[float], highs: Sequence[float]) -> str:
    return f"{sum(lows) / len(lows):.3g} to {sum(highs) / len(highs):.3g}"


def _mails(arms: Sequence[str]):  # type: ignore[no-untyped-def]
    import pandas as pd

    file = Path(os.environ["JOURNEYLAB_DATA"]) / "hillstrom" / "hillstrom.csv.gz"
    frame = pd.read_csv(file)
    return frame[frame["segment"].isin([NONE, *arms])].reset_index(drop=True)


def _learner_cpu(frame, learner) -> float:  # type: ignore[no-untyped-def]
    from journeylab.uplift.effects import fit_effects

    before = _cpu()
    for fold in range(FOLDS):
        held = frame.index % FOLDS == fold
        fit = fit_effects(
            frame[~held], "visit", "segment", NONE, HILLSTROM, learner=learner, folds=FOLDS,
            propensity={NONE: 0.5, WOMENS: 0.5}, rng=fold,
        )  # fmt: skip
        fit.effects(frame[held])
    return _cpu() - before


# The simulated trials.


def _write(file: Path, size: int, others: int, seed: int, arms: int = 1):  # type: ignore[no-untyped-def]
    """A trial and others to score; returns the others' true effects of the first arm."""
    import numpy as np

    x, w, y, _ = _trial(size, 2 * seed, arms)
    new, _, _, truth = _trial(others, 2 * seed + 1, arms)
    np.savez(file, x=x, w=w, y=y, new=new)
    return truth


def _trial(size: int, seed: int, arms: int):  # type: ignore[no-untyped-def]
    import numpy as np

    draw = np.random.default_rng(seed)
    x = draw.standard_normal((size, COLUMNS)).astype(np.float32)
    x[:, 1] = 0.5 * x[:, 0] + 0.75**0.5 * x[:, 1]
    x[:, 8] = draw.exponential(1, size)
    x[:, 9] = draw.integers(0, 2, size)
    x[:, 10] = draw.integers(0, 4, size)
    x[:, 11] = draw.poisson(2, size)
    base = 1 + 0.8 * x[:, 0] + 0.5 * np.abs(x[:, 2]) + 0.6 * x[:, 9]
    base += 0.4 * np.minimum(x[:, 8], 2) - 0.3 * x[:, 3] * x[:, 9]
    effect = 0.2 + 0.35 * np.tanh(x[:, 1]) + 0.3 * (x[:, 4] > 0.5) * x[:, 9]
    effect += 0.15 * np.minimum(x[:, 8], 2) * (x[:, 0] > 0) - 0.25 * (x[:, 10] == 2)
    chances = [1 - SHARE, *([SHARE / arms] * arms)]
    w = np.searchsorted(np.cumsum(chances)[:-1], draw.random(size), side="right")
    size_of = np.array([0.0, 1.0, 0.6])
    y = base + size_of[w] * effect + NOISE * draw.standard_normal(size)
    return x, w, y, effect.astype(float)


def _write_hillstrom(file: Path, frame, folds) -> None:  # type: ignore[no-untyped-def]
    import numpy as np

    from journeylab.uplift.covariates import learn_encoding

    x = learn_encoding(frame, HILLSTROM).encode(frame)
    treated = (frame["segment"] != NONE).to_numpy(int)
    np.savez(file, x=x, w=treated, y=frame["visit"].to_numpy(float), fold=folds)


def _share_of_oracle(truth, file: Path) -> float:  # type: ignore[no-untyped-def]
    import numpy as np

    def autoc(ranking) -> float:  # type: ignore[no-untyped-def]
        ordered = truth[np.argsort(-ranking, kind="stable")]
        return float((np.cumsum(ordered) / np.arange(1, len(truth) + 1)).mean() - truth.mean())

    return autoc(np.load(file)) / autoc(truth)


# Each of these reads a trial, and returns the call that is measured: new people's effects.


def ours_dr(data) -> Callable[[], object]:  # type: ignore[no-untyped-def]
    return _ours(data, "dr")


def ours_forest(data) -> Callable[[], object]:  # type: ignore[no-untyped-def]
    return _ours(data, "forest")


def ours_average(data) -> Callable[[], object]:  # type: ignore[no-untyped-def]
    return _ours(data, "average")


def _ours(data, learner) -> Callable[[], object]:  # type: ignore[no-untyped-def]
    from journeylab.uplift.effects import fit_effects

    frame, new, names = _frames(data)
    shares = {"0": 1 - SHARE, "1": SHARE}
    same = _same_trees() if len(frame) > 50_000 else None

    def call() -> object:
        fit = fit_effects(
            frame, "y", "w", "0", names, learner=learner, propensity=shares, folds=FOLDS,
            base=same, final=same, rng=1,
        )  # fmt: skip
        return fit.effects(new)["1"].to_numpy()

    return call


def ours_three(data) -> Callable[[], object]:  # type: ignore[no-untyped-def]
    from journeylab.uplift.meta_learners import learn
    from journeylab.uplift.nuisance import fit_nuisance
    from journeylab.uplift.trial import read_trial

    frame, new, names = _frames(data)
    shares = {"0": 1 - SHARE, "1": SHARE / 2, "2": SHARE / 2}
    same = _same_trees()

    def call() -> object:
        trial = read_trial(frame, "y", "w", "0", names, shares)
        nuisance = fit_nuisance(trial, FOLDS, rng=1, trees=same)
        features = trial.encoding.encode(new)
        for name in ("dr", "r", "x"):
            told = learn(nuisance, name, same).effects(features)
        return told[:, 0]

    return call


def _same_trees():  # type: ignore[no-untyped-def]
    from journeylab.uplift.settings import Trees

    return Trees(
        rounds=100,
        depth=4,
        step=0.1,
        leaf=1,
        penalty=1,
        rows=1.0,
        columns=1.0,
        bins=256,
        look=10,
        patience=20,
    )


def _frames(data):  # type: ignore[no-untyped-def]
    import pandas as pd

    # Each is handed the data once: what stands in the frame is not kept beside it.
    names = [f"x{number}" for number in range(data["x"].shape[1])]
    frame = pd.DataFrame(data.pop("x"), columns=names, copy=False)
    w = data.pop("w")
    frame["w"] = pd.Categorical.from_codes(w, [str(k) for k in range(w.max() + 1)])
    frame["y"] = data.pop("y")
    return frame, pd.DataFrame(data.pop("new"), columns=names, copy=False), names


def _tree():  # type: ignore[no-untyped-def]
    from xgboost import XGBRegressor

    return XGBRegressor(
        n_estimators=100, max_depth=4, learning_rate=0.1, tree_method="hist", n_jobs=1
    )


def econml_dr(data) -> Callable[[], object]:  # type: ignore[no-untyped-def]
    from econml.dr import DRLearner  # type: ignore[import-not-found]
    from sklearn.dummy import DummyClassifier

    def call() -> object:
        learner = DRLearner(
            model_propensity=DummyClassifier(strategy="prior"), model_regression=_tree(),
            model_final=_tree(), cv=FOLDS, random_state=1,
        )  # fmt: skip
        learner.fit(data["y"], data["w"], X=data["x"])
        return learner.effect(data["new"]).ravel()

    return call


def causalml_dr(data) -> Callable[[], object]:  # type: ignore[no-untyped-def]
    from causalml.inference.meta import BaseDRRegressor  # type: ignore[import-not-found]

    def call() -> object:
        learner = BaseDRRegressor(learner=_tree(), control_name=0)
        chance = _full(data, SHARE)
        learner.fit(data["x"], data["w"], data["y"], p=chance, seed=1)
        return learner.predict(data["new"]).ravel()

    return call


def causalml_three(data) -> Callable[[], object]:  # type: ignore[no-untyped-def]
    from causalml.inference.meta import (  # type: ignore[import-not-found]
        BaseDRRegressor,
        BaseRRegressor,
        BaseXRegressor,
    )

    def call() -> object:
        # Their chances are those among an arm and the control.
        pair = SHARE / 2 / (SHARE / 2 + 1 - SHARE)
        chance = {arm: _full(data, pair) for arm in (1, 2)}
        new = {arm: _full(data, pair)[:1].repeat(len(data["new"])) for arm in (1, 2)}
        dr = BaseDRRegressor(learner=_tree(), control_name=0)
        dr.fit(data["x"], data["w"], data["y"], p=chance, seed=1)
        dr.predict(data["new"])
        r = BaseRRegressor(learner=_tree(), control_name=0, n_fold=FOLDS, random_state=1)
        r.fit(data["x"], data["w"], data["y"], p=chance)
        r.predict(data["new"])
        x = BaseXRegressor(learner=_tree(), control_name=0)
        x.fit(data["x"], data["w"], data["y"], p=chance)
        return x.predict(data["new"], p=new)[:, 0]

    return call


def econml_forest(data) -> Callable[[], object]:  # type: ignore[no-untyped-def]
    import numpy as np
    from econml.dml import CausalForestDML  # type: ignore[import-not-found]
    from xgboost import XGBClassifier

    def call() -> object:
        found = np.empty(len(data["y"]))
        for fold in range(FOLDS):
            held = data["fold"] == fold
            forest = CausalForestDML(
                model_y=_tree(), model_t=XGBClassifier(n_estimators=20, max_depth=2, n_jobs=1),
                discrete_treatment=True, cv=FOLDS, n_estimators=500, min_samples_leaf=50,
                random_state=1, n_jobs=1,
            )  # fmt: skip
            forest.fit(data["y"][~held], data["w"][~held], X=data["x"][~held])
            found[held] = forest.effect(data["x"][held]).ravel()
        return found

    return call


def _full(data, value: float):  # type: ignore[no-untyped-def]
    import numpy as np

    return np.full(len(data["y"]), value)


_MEASURED = {
    "ours-dr": ours_dr,
    "ours-forest": ours_forest,
    "ours-average": ours_average,
    "ours-three": ours_three,
    "econml-dr": econml_dr,
    "econml-forest": econml_forest,
    "causalml-dr": causalml_dr,
    "causalml-three": causalml_three,
}


def _peers() -> str | None:
    """The interpreter that has the peers."""
    python = os.environ.get("JOURNEYLAB_PEERS_PYTHON", sys.executable)
    tried = subprocess.run(
        [python, "-c", "import econml, causalml"], capture_output=True, check=False
    )
    return python if tried.returncode == 0 else None


def _run(python: str, name: str, folder: Path) -> dict[str, float]:
    """Run one of them in a process of its own, which measures itself."""
    command = [python, str(Path(__file__).resolve()), "--measure", name, str(folder)]
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    environment = os.environ | threads
    if python != sys.executable:
        environment.pop("PYTHONPATH", None)
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if ended.returncode:
        raise RuntimeError(f"{name!r} failed:\n{ended.stderr[-2000:]}")
    return dict(json.loads(ended.stdout.splitlines()[-1]))


def _measure(name: str, folder: Path) -> None:
    if name == "versions":
        from importlib.metadata import version

        packages = ("econml", "causalml", "scikit-learn", "xgboost")
        note = ", ".join(f"{package} {version(package)}" for package in packages)
        sys.stdout.write(json.dumps({"note": note}) + "\n")
        return
    import numpy as np

    with np.load(folder / "trial.npz") as file:
        data = {key: file[key] for key in file.files}
    call = _MEASURED[name](data)
    held = _memory("VmRSS")
    before = _cpu()
    found = call()
    spent = _cpu() - before
    peak = _memory("VmHWM")
    np.save(folder / f"{name}.npy", np.asarray(found))
    result = {"cpu": spent, "peak": peak, "more": peak - held}
    sys.stdout.write("\n" + json.dumps(result) + "\n")


def _memory(what: str) -> float:
    """Of this process, MB."""
    return int(Path("/proc/self/status").read_text().split(f"{what}:")[1].split()[0]) / 1024


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        _measure(sys.argv[2], Path(sys.argv[3]))
    else:
        table.run(
            "uplift", rows, tasks={}, packages=["journeylab", "xgboost", "numpy", "scipy", "pandas"]
        )
