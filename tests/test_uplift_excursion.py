"""Effects of one touch more from repeated randomisation, and what recent touches do to them."""

import re

import numpy as np
import pandas as pd
import pytest

from journeylab import frames, uplift
from journeylab.errors import ContractError, FitError
from journeylab.simulate import Truth, simulate
from journeylab.simulate.life import Touches
from journeylab.simulate.preset import preset_text
from journeylab.tables import collect, open_tables


def trial(rng, beta=0.8, people=40, moments=30):
    """The generative model of Boruvka et al. (2018), section 6: the modifier is left out.

    Chances depend on the last touch and on the state, which modifies the effect; the marginal
    effect is -0.2.
    """
    state = rng.choice([-1.0, 1.0], size=(people, moments))
    touch, chance, y = np.zeros((3, people, moments))
    lag = np.abs(np.subtract.outer(np.arange(moments), np.arange(moments)))
    noise = rng.multivariate_normal(np.zeros(moments), 0.5 ** (lag / 2), size=people)
    for t in range(moments):
        before = touch[:, t - 1] if t else np.zeros(people)
        chance[:, t] = 1 / (1 + np.exp(-(-0.8 * before + 0.8 * state[:, t])))
        touch[:, t] = rng.uniform(size=people) < chance[:, t]
        effect = -0.2 + beta * state[:, t]
        y[:, t] = 0.8 * state[:, t] + (touch[:, t] - chance[:, t]) * effect + noise[:, t]
    who, when = np.indices((people, moments))
    return pd.DataFrame(
        {
            "customer_id": who.ravel(),
            "assigned_on": when.ravel(),
            "arm": np.where(touch.ravel() == 1, "touch", "none"),
            "propensity": np.where(touch == 1, chance, 1 - chance).ravel(),
            "state": state.ravel(),
            "y": y.ravel(),
        }
    )


def test_intervals_cover_the_marginal_effect_where_regression_does_not():
    """600 trials; the truth is -0.2 for every share of touches."""
    inside, plain, values = 0, [], []
    for seed in range(600):
        rows = trial(np.random.default_rng(seed))
        found = uplift.excursion_effects(rows, "y", "none").effect("touch")
        known = found.estimate()
        inside += known.ci_low <= -0.2 <= known.ci_high
        values.append(found.value)
        given = rows["arm"] == "touch"
        plain.append(rows["y"][given].mean() - rows["y"][~given].mean())
    assert abs(inside / 600 - 0.95) < 3 * (0.05 * 0.95 / 600) ** 0.5
    assert abs(np.mean(values) + 0.2) < 3 * np.std(values) / 600**0.5
    assert np.mean(plain) > 0.2  # wrong even in sign


def test_a_moderator_that_is_named_is_found():
    values, errors = [], []
    for seed in range(60):
        rows = trial(np.random.default_rng(seed))
        fit = uplift.excursion_effects(rows, "y", "none", moderators=["state"])
        found = fit.slope("state", "touch")
        values.append(found.value)
        errors.append(found.standard_error)
        at = fit.effect("touch", {"state": 1.0}).value - fit.effect("touch", {"state": 0.0}).value
        assert at == pytest.approx(found.value)
    assert abs(np.mean(values) - 0.8) < 3 * np.std(values) / 60**0.5
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.3)


def test_numbers_agree_with_statsmodels():
    """Weighted least squares with customer clusters; the factor of few clusters apart."""
    import statsmodels.api as sm

    rows = trial(np.random.default_rng(3), people=50, moments=12)
    rows["other"] = np.where((rows["arm"] == "touch") & (rows.index % 3 == 0), "mail", rows["arm"])
    found = uplift.excursion_effects(
        rows, "y", "none", arm="other", moderators=["state"], controls=["assigned_on"]
    )
    share = rows["other"].value_counts(normalize=True)
    weight = (rows["other"].map(share) / rows["propensity"]).to_numpy()
    state = (rows["state"] - np.average(rows["state"], weights=weight)).to_numpy()
    columns = []
    for arm in ("mail", "touch"):
        centred = (rows["other"] == arm).to_numpy() - share[arm]
        columns += [centred, centred * state]
    design = np.column_stack([*columns, np.ones(len(rows)), state, rows["assigned_on"]])
    fit = sm.WLS(rows["y"], design, weights=weight).fit(
        cov_type="cluster", cov_kwds={"groups": rows["customer_id"], "use_correction": False}
    )
    table = found.table().iloc[:4]
    np.testing.assert_allclose(table["effect"], fit.params[:4], rtol=1e-8)
    # the scores of the terms of interest have mean 0 exactly
    np.testing.assert_allclose(table["standard_error"], fit.bse[:4] * (50 / 49) ** 0.5, rtol=1e-6)
    anywhere = sum(found.shares[arm] * found.effect(arm).value for arm in found.arms)
    assert found.effect().value == pytest.approx(anywhere)


def tiring(rng, people=8000, waves=8):
    """Effect 1 less 0.3 per touch of the last three waves; the busy get more touches and buy more.

    Who is busy also tires less, so that comparing those with many and few recent touches, as they
    came about, finds too little fatigue.
    """
    busy = (rng.uniform(size=people) < 0.5).astype(float)
    touch = np.zeros((people, waves))
    parts = []
    for t in range(waves):
        chance = np.where(busy == 1, 0.7, 0.25)
        touch[:, t] = rng.uniform(size=people) < chance
        recent = touch[:, max(0, t - 3) : t].sum(axis=1)
        effect = 1 - 0.3 * recent + 1.2 * (busy - 0.5)
        y = 2 * busy + 0.5 * recent + touch[:, t] * effect + rng.normal(size=people)
        given = touch[:, t] == 1
        parts.append(
            pd.DataFrame(
                {
                    "customer_id": range(people),
                    "assigned_on": t,
                    "arm": np.where(given, "sms", "none"),
                    "propensity": np.where(given, chance, 1 - chance),
                    "y": y,
                }
            )
        )
    return pd.concat(parts, ignore_index=True).sample(frac=1, random_state=1)


def test_fatigue_is_found_where_recent_touches_are_weighted_and_hidden_where_not():
    """Known truth -0.3; ten seeds."""
    z, naive = [], []
    for seed in range(10):
        rows = uplift.recent_waves(tiring(np.random.default_rng(seed)), "none", waves=3)
        fit = uplift.excursion_effects(
            rows, "y", "none", moderators=["recent_touches"], weight="recent_weight"
        )
        found = fit.slope("recent_touches")
        z.append((found.value + 0.3) / found.standard_error)
        plain = uplift.excursion_effects(rows, "y", "none", moderators=["recent_touches"])
        naive.append(plain.slope("recent_touches").value)
        assert fit.finding("recent_touches").startswith("Touches tire")
        curve = fit.curve("recent_touches", [0, 1, 2, 3])
        assert (curve["effect"].diff().dropna() < 0).all()
    assert max(map(abs, z)) < 4
    assert abs(np.mean(z)) < 3 / 10**0.5
    assert np.mean(naive) > -0.15


def test_recent_waves_count_what_came_just_before_and_drop_those_with_gaps():
    rows = pd.DataFrame(
        {
            "customer_id": ["a"] * 4 + ["b"] * 3,
            "assigned_on": [3, 1, 2, 4, 1, 2, 4],
            "arm": ["none", "sms", "voice", "sms", "none", "sms", "none"],
            "propensity": [0.5, 0.25, 0.25, 0.25, 0.5, 0.25, 0.5],
        },
        index=list("stuvwxy"),
    )
    kept = uplift.recent_waves(rows, "none", waves=2)
    # b was not there in wave 3, and nobody has two waves before wave 2
    assert kept["recent_touches"].to_dict() == {"s": 2.0, "v": 1.0}
    share = {"none": 3 / 7, "sms": 3 / 7, "voice": 1 / 7}
    raw = np.array([share["sms"] / 0.25 * share["voice"] / 0.25,
                    share["voice"] / 0.25 * share["none"] / 0.5])  # fmt: skip
    np.testing.assert_allclose(kept["recent_weight"], raw / raw.mean())
    with pytest.raises(ContractError, match="nobody stands in 6 waves"):
        uplift.recent_waves(rows, "none", waves=5)
    with pytest.raises(ContractError, match="1 rows repeat"):
        uplift.recent_waves(pd.concat([rows, rows.tail(1)]), "none")


def test_a_page_tells_fatigue_only_where_rounds_repeat():
    rows = tiring(np.random.default_rng(5), people=1500)
    rows["propensity"] = rows["propensity"].round(6)
    rows["busy"] = rows["propensity"].isin([0.7, 0.3]).astype(float)
    rows = rows.assign(experiment_id="wave", stratum="wave", cluster=rows["customer_id"])
    design = uplift.read_design(rows, "y", "none", blocks=["busy"], covariates=["busy"])
    found = uplift.fatigue(design, waves=3)
    assert found is not None
    assert found.moderators == ("recent_touches",)
    recent = uplift.recent_waves(design.rows, "none", waves=3)
    again = uplift.excursion_effects(
        recent, "y", "none", moderators=["recent_touches"], weight="recent_weight",
        controls=list(design.covariates),
    )  # fmt: skip
    assert found.slope("recent_touches").value == again.slope("recent_touches").value
    assert uplift.fatigue(design, waves=rows["assigned_on"].nunique()) is None


def test_fatigue_of_groups_has_the_errors_of_groups():
    """Touches drawn for chat groups of 20 whose members buy alike."""
    rng = np.random.default_rng(8)
    parts, groups, size = [], 60, 20
    who = np.arange(groups * size)
    for wave in range(5):
        sent = (rng.uniform(size=groups) < 0.5).repeat(size)
        shared = rng.normal(size=groups).repeat(size)
        y = sent + shared + 0.3 * rng.normal(size=len(who))
        parts.append(
            pd.DataFrame(
                {
                    "experiment_id": "wave", "stratum": "wave", "customer_id": who,
                    "cluster": "g" + pd.Series(who // size).astype(str), "assigned_on": wave,
                    "arm": np.where(sent, "sms", "none"), "propensity": 0.5,
                    "age": rng.normal(size=len(who)), "y": y,
                }
            )
        )  # fmt: skip
    rows = pd.concat(parts, ignore_index=True)
    design = uplift.read_design(rows, "y", "none", covariates=["age"])
    assert design.randomised_by == "cluster"
    found = uplift.fatigue(design, waves=2)
    assert found is not None
    assert found.people == groups
    recent = uplift.recent_waves(design.rows, "none", waves=2)
    told = {"moderators": ["recent_touches"], "controls": ["age"], "weight": "recent_weight"}
    by_group, by_person = (
        uplift.excursion_effects(recent, "y", "none", customer=name, **told)
        for name in ("cluster", "customer_id")
    )
    error = found.effect().standard_error
    assert error == pytest.approx(by_group.effect().standard_error)
    assert error > 3 * by_person.effect().standard_error


def test_moments_without_a_chance_are_left_out_counted_or_refused():
    rows = trial(np.random.default_rng(1), people=30, moments=10)
    rows["free"] = (rows.index % 5 > 0).astype(int)
    found = uplift.excursion_effects(rows, "y", "none", available="free")
    assert found.left_out == {"not available": 60}
    assert found.units == 240
    for change, message in (
        ({"propensity": rows["propensity"].where(rows.index > 3)}, "4 of 300 do not"),
        ({"propensity": 1.0}, "300 of 300 do not"),
        ({"arm": "touch"}, "has the control 'none'"),
        ({"arm": "none"}, "no arm beside"),
        ({"arm": rows["arm"].where(rows.index > 0, "rare")}, r"too few: rare \(1\)"),
        ({"y": rows["y"].where(rows.index > 1)}, "2 of 300 moments lack"),
    ):
        with pytest.raises(ContractError, match=message):
            uplift.excursion_effects(rows.assign(**change), "y", "none")
    with pytest.raises(ContractError, match="known before: y"):
        uplift.excursion_effects(rows, "y", "none", moderators=["y"])
    with pytest.raises(FitError, match="does not vary"):
        uplift.excursion_effects(rows.assign(one=1.0), "y", "none", moderators=["one"])
    twice = rows.assign(twin=2 * rows["state"])
    with pytest.raises(FitError, match="cannot be told apart"):
        uplift.excursion_effects(twice, "y", "none", moderators=["state", "twin"])
    with pytest.raises(ContractError, match="no arm 'mail'"):
        found.effect("mail")


CONTROLS = ["bought_lately", "orders_lately", "orders_before", "age_days", "days_since_last"]


def busier(folder):
    """The campaign world with three times the orders, strong touches and strong fatigue."""
    text = preset_text("campaign")
    text = re.sub(r"(?m)^effect = ([\d.]+)$", lambda m: f"effect = {float(m[1]) + 0.9:.2f}", text)
    text = re.sub(r"(?m)^fatigue = [\d.]+", "fatigue = 3.0", text)
    text = re.sub(r"(?m)^load_days = [\d.]+", "load_days = 6", text)
    text = text.replace("daily_chance = 0.009 ", "daily_chance = 0.027 ")
    path = folder / "busier.toml"
    path.write_text(text, encoding="utf-8")
    return path


def true_effects(preset, customers, seed, mondays):
    """Each person's effect on the week's orders of each channel, sent as waves are sent."""
    truth, parts = Truth.of(preset, customers, seed), []
    for monday in mondays:
        world = truth.at((monday - pd.Timedelta(days=1)).date())
        who = np.arange(len(world.people))
        day = (world.day + who % 3).astype(np.int32)  # a wave goes out on its first three days
        base = world._outlook((7,)).orders[:, 0]
        frame = pd.DataFrame({"customer_id": world._names(), "assigned_on": monday})
        for code, name in enumerate(world.preset.channel_names):
            touches = Touches(who, day, np.full(len(who), code, np.int8))
            frame[name] = world._outlook((7,), touches).orders[:, 0] - base
        parts.append(frame)
    return pd.concat(parts)


def world_rows(folder, customers, seed):
    preset = busier(folder)
    simulate(preset, customers, seed, folder / str(seed))
    tables = open_tables(str(folder / str(seed)))
    rows = collect(frames.trials(tables, "touch_wave_*", 7))
    truth = true_effects(preset, customers, seed, sorted(rows["assigned_on"].unique()))
    joined = rows[["customer_id", "assigned_on"]].merge(truth, "left").set_index(rows.index)
    assert not joined.isna().any(axis=None)
    return rows, joined


def deviations(folder, customers, seeds):
    """Standardised distances from the truth: averages by channel, and the slope on touches."""
    averages, slopes, found_slopes = [], [], []
    for seed in seeds:
        rows, truth = world_rows(folder, customers, seed)
        fit = uplift.excursion_effects(rows, "orders", "none", controls=CONTROLS)
        one = {name: fit.effect(name) for name in fit.arms}
        averages.append(
            [(m.value - truth[name].mean()) / m.standard_error for name, m in one.items()]
        )
        recent = uplift.recent_waves(rows, "none", waves=1)
        fit = uplift.excursion_effects(
            recent, "orders", "none", moderators=["recent_touches"], weight="recent_weight",
            controls=CONTROLS,
        )  # fmt: skip
        each = sum(fit.shares[name] * truth.loc[recent.index, name] for name in fit.arms)
        x, w = recent["recent_touches"], recent["recent_weight"]
        expected = np.polyfit(x, each, 1, w=np.sqrt(w))[0]
        assert expected < 0
        slope = fit.slope("recent_touches")
        slopes.append((slope.value - expected) / slope.standard_error)
        found_slopes.append(slope.value / slope.standard_error)
    return np.array(averages), np.array(slopes), np.array(found_slopes)


def test_the_worlds_effects_are_found_per_channel_and_their_fatigue(tmp_path):
    """Truth of two worlds of 2,000; distances in standard errors."""
    averages, slopes, _ = deviations(tmp_path, 2_000, (1, 2))
    assert averages.shape == (2, 5)
    assert np.abs(averages).max() < 3.5
    assert np.abs(slopes).max() < 3.5


@pytest.mark.full
def test_the_worlds_effects_and_fatigue_are_right_on_average_over_seeds(tmp_path):
    """Six worlds of 3,000, too small to tell their fatigue from none."""
    averages, slopes, _ = deviations(tmp_path, 3_000, range(11, 17))
    # channels of one world share the control: a world's mean counts once, with correlation .5
    assert abs(averages.mean()) < 3 * (0.6 / 6) ** 0.5
    assert np.abs(averages).max() < 4
    assert abs(slopes.mean()) < 3 / 6**0.5


@pytest.mark.full
def test_the_worlds_fatigue_is_told_from_none(tmp_path):
    """Two worlds of 20,000, in which the truth lies more than three standard errors below 0."""
    averages, slopes, found = deviations(tmp_path, 20_000, (11, 12))
    assert np.abs(averages).max() < 4
    assert np.abs(slopes).max() < 3.5
    assert found.sum() / 2**0.5 < -1.96
