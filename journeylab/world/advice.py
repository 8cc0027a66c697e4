"""What the look at a world comes to: whether it resembles the shop, and which numbers to change."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from journeylab.estimate import Estimate
from journeylab.world.hidden import BROKEN, Silence
from journeylab.world.moments import CLOSE, MET, OPEN, off, times

_SPACE = "\N{NO-BREAK SPACE}"
# More changes than this are made in rounds: each moves the others.
_AT_ONCE = 4


def moments_finding(moments: pd.DataFrame, of: str) -> str:
    """One line: how many numbers are met, and which is furthest off.

    Args:
        moments: From ``experiment_moments``, ``panel_moments`` or ``shop_moments``.
        of: Whose numbers they are, such as ``"Hillstrom's"``.
    """
    far, met = off(moments), int((moments["reading"] == MET).sum())
    if far.empty:
        rest = len(moments) - met
        open_ = f", {rest} cannot be told" if rest else ""
        return f"{met} of {of} {len(moments)} numbers are met within 10{_SPACE}%{open_}"
    worst = far.to_dict("records")[0]
    return (
        f"{len(far)} of {of} {len(moments)} numbers {'is' if len(far) == 1 else 'are'} off; "
        f"{worst['moment']}: {times(worst['ratio'])}"
    )


def furthest(published: Sequence[pd.DataFrame]) -> Estimate:
    """How often the number that is furthest off holds the real one, with its interval.

    Args:
        published: Moments, at least one row in all; where none is off, the furthest of the others.
    """
    moments = _together(published)
    moments = moments[np.isfinite(moments["ratio_high"].to_numpy(float))]
    far = off(moments)
    if far.empty:
        distance = np.abs(np.log(moments["ratio"].to_numpy(float).clip(1e-9)))
        far = moments.iloc[[int(distance.argmax())]]
    worst = far.to_dict("records")[0]
    return Estimate(
        worst["ratio"], worst["ratio_low"], worst["ratio_high"],
        f"times the real one ({worst['moment']})",
    )  # fmt: skip


def silence_finding(found: Silence) -> str:
    """One line on the rule of thumb that silence means gone."""
    if found.silent_still is None:
        return f"Nobody has been silent for more than {found.silent_days} days"
    return (
        f"{_percent(found.silent_still.value)} of those silent for more than {found.silent_days} "
        "days are customers still"
    )


def funnel_finding(steps: pd.DataFrame) -> str:
    """One line: where the hasty share is furthest from the truth."""
    gap = (steps["hasty"] - steps["true"]).abs()
    if gap.dropna().empty:
        return "No window has closed yet"
    worst = steps.to_dict("records")[int(np.nanargmax(gap.to_numpy(float)))]
    return (
        f"{_words(worst['step']).capitalize()}: {_percent(worst['true'])} in truth, "
        f"{_percent(worst['hasty'])} if open windows are counted"
    )


def effects_finding(effects: pd.DataFrame) -> str:
    """One line: by how much the hasty comparison is wrong."""
    if effects.empty:
        return "Nobody was touched"
    worst = _worst_channel(effects)
    if worst["true"] <= 0 < worst["hasty"]:
        return f"Touched and untouched compared: {worst['channel']} seems to sell, and does harm"
    if worst["hasty"] <= 0 < worst["true"]:
        return f"Touched and untouched compared: {worst['channel']} seems to harm, and sells"
    return (
        f"Touched against untouched: {worst['channel']} looks "
        f"{worst['hasty'] / worst['true']:.0f} times as good as it is"
    )


def seeming(effects: pd.DataFrame) -> Estimate:
    """What the hasty comparison says of the channel it is most wrong about.

    Args:
        effects: From ``hasty_effects``; not empty.
    """
    worst = _worst_channel(effects)
    unit = f"orders per touch by {worst['channel']}, as it seems (in truth {worst['true']:.2g})"
    return Estimate(worst["hasty"], worst["ci_low"], worst["ci_high"], unit)


def lives_finding(lives: pd.DataFrame, happened: pd.DataFrame) -> str:
    """One line on what was done to those who had left.

    Args:
        lives: From ``choose_lives``.
        happened: From ``tallies.lives``.
    """
    touches = happened[happened["kind"] == "touch"].merge(
        lives[["customer_id", "left_on"]], on="customer_id"
    )
    late = int((touches["day"] > touches["left_on"]).sum())
    gone = int(lives["left_on"].notna().sum())
    if not gone:
        return f"{len(lives)} lives, and none of them has ended"
    return (
        f"{gone} of these {len(lives)} had left unseen; {late or 'no'} "
        f"message{'' if late == 1 else 's'} went to them after"
    )


def tests_finding(tests: pd.DataFrame) -> str:
    """One line: how many intervals hold the truth, and which split is broken."""
    if tests.empty:
        return "No test was run"
    text = f"{int(tests['inside'].sum())} of {len(tests)} intervals hold the truth"
    broken = list(dict.fromkeys(tests.loc[tests["split_p"] < BROKEN, "test"]))
    if broken:
        text += f"; {', '.join(broken)}: broken split"
    return text


def doubts(
    published: Sequence[pd.DataFrame],
    tests: pd.DataFrame,
    steps: pd.DataFrame,
    shop: pd.DataFrame,
) -> list[str]:
    """What speaks against reading more into this world, each in a sentence; often empty.

    Args:
        published: Moments beside published ones.
        tests: From ``compare_tests``.
        steps: From ``funnel``.
        shop: From ``shop_moments``; empty where no own data were given.
    """
    found = []
    # Where there is an own shop, it is what the world has to resemble.
    far = off(_together(published)) if shop.empty else shop.head(0)
    for row in far.head(_AT_ONCE).to_dict("records"):
        here, there = (_number(row[name], row["unit"]) for name in ("world", "real"))
        found.append(
            f"The world is unlike the published shop in {row['moment']}: {here} against {there}, "
            f"{times(row['ratio'])} the real one ({row['ratio_low']:.2f} to "
            f"{row['ratio_high']:.2f})."
        )
    broken = tests[tests["split_p"] < BROKEN].drop_duplicates("test")
    found += [
        f"The test {row['test']} has a split that its shares cannot explain (chance "
        f"{_small(row['split_p'])}): whoever is missing is missing for a reason, and its "
        "effect must not be read."
        for row in broken.to_dict("records")
    ]
    if steps["people"].min() == 0:
        found.append("The windows of some funnel steps have not closed for anybody.")
    if len(shop) and (shop["reading"] == OPEN).any():
        names = ", ".join(shop.loc[shop["reading"] == OPEN, "moment"])
        found.append(f"Your own data are too few to tell {names}.")
    return found


def advice(
    published: Sequence[pd.DataFrame], shop: pd.DataFrame, preset: str, found: Silence | None = None
) -> str:
    """Whether to use the world, and which of its numbers to change first.

    Args:
        published: Moments beside published ones.
        shop: From ``shop_moments``; empty where no own data were given.
        preset: Name of the world's preset.
        found: How well silence tells who is gone; said where there are no own data.
    """
    if shop.empty:
        moments = _together(published)
        far = off(moments)
        text = (
            "Try methods on this world, where the answer is known, but take no number of it for "
            "your shop yet: "
        )
        text += (
            f"of {len(moments)} published numbers {_count(moments, MET)} are met within "
            f"10{_SPACE}%, {_count(moments, OPEN)} cannot be told, {len(far) or 'none'} "
            f"{'is' if len(far) == 1 else 'are'} off"
            if len(moments)
            else "no published shop stands beside it"
        )
        if len(far):
            worst = far.to_dict("records")[0]
            text += (
                f", furthest {worst['moment']} at {times(worst['ratio'])} the real one "
                f"({worst['ratio_low']:.2f} to {worst['ratio_high']:.2f})"
            )
        text += "."
        if found is not None and found.silent_still is not None:
            share = found.silent_still
            text += (
                f" Whoever calls {found.silent_days} silent days churn is wrong here about "
                f"{_percent(share.value)} of them ({_percent(share.ci_low)} to "
                f"{_percent(share.ci_high)})."
            )
        return text + (
            " The data scientist sets your own orders beside it next: journeylab run world "
            "-p data=my_orders.csv says which numbers to change."
        )
    far = off(shop)
    if far.empty:
        return (
            f"Take the world {preset} for your shop as it stands: none of {len(shop)} numbers is "
            f"surely further than {_percent(CLOSE)} from yours. The data scientist may judge "
            "methods on it before they are tried on customers."
        )
    changes = [_change(row) for row in far.head(_AT_ONCE).to_dict("records")]
    rest = len(far) - len(changes)
    more = (
        f" {rest} more {'is' if rest == 1 else 'are'} off; look again after these." if rest else ""
    )
    return (
        f"Do not take the world {preset} for your shop yet: {len(far)} of {len(shop)} numbers "
        f"{'is' if len(far) == 1 else 'are'} off. The data scientist copies its preset "
        f"and changes {'; '.join(changes)}.{more}"
    )


def _change(row: Mapping[Hashable, Any]) -> str:
    why = (
        f"{row['moment']}: {times(row['ratio'])} yours, {row['ratio_low']:.2f} to "
        f"{row['ratio_high']:.2f}"
    )
    if pd.notna(row["change"]):
        return f"{row['numbers']} from {row['now']:.3g} to about {row['change']:.3g} ({why})"
    return f"{row['numbers']} ({why})"


def _together(moments: Sequence[pd.DataFrame]) -> pd.DataFrame:
    filled = [frame for frame in moments if len(frame)]
    return pd.concat(filled, ignore_index=True) if filled else moments[0]


def _count(moments: pd.DataFrame, reading: str) -> int:
    return int((moments["reading"] == reading).sum())


def _worst_channel(effects: pd.DataFrame) -> dict[Hashable, Any]:
    wrong = (effects["hasty"] - effects["true"]).abs().to_numpy(float)
    return effects.to_dict("records")[int(wrong.argmax())]


def _number(value: float, unit: str) -> str:
    if unit == "share":
        return f"{100 * value:.3g}{_SPACE}%"
    return f"{value:,.3g}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f}{_SPACE}%"


def _small(p: float) -> str:
    return "below one in a million" if p < 1e-6 else f"{p:.2g}"


def _words(name: str) -> str:
    return name.replace("_", " ")
