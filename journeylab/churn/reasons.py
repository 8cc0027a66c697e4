"""Why a customer stands on a list, in words."""

import re
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from journeylab.churn.words import covariate_words

_CURRENT = {
    "frequency": ("{:,.0f} repeat purchases so far", "has bought once only"),
    "orders": ("{:,.0f} orders so far", ""),
    "age_days": ("customer for {:,.0f} days", "customer since today"),
    "recency_days": ("first and last purchase {:,.0f} days apart", "has bought on one day only"),
    "mean_gap_days": ("usual gap {:,.0f} days", ""),
    "last_gap_days": ("last gap {:,.0f} days", ""),
    "spend": ("spent {:,.0f} in all", "spent nothing"),
    "spend_mean": ("spends {:,.0f} per purchase day", ""),
    "silence_in_gaps": ("silent {:.1f} times the usual gap", "bought today"),
    "channels": ("buys through {:,.0f} channels", ""),
    "service_open": ("{:,.0f} service cases open", "no service case open"),
    "days_in_tier": ("in the tier for {:,.0f} days", "reached the tier today"),
    "festivals_ahead": ("{:,.0f} festivals and sales ahead", "no festival or sale ahead"),
    "promotions_ahead": ("{:,.0f} promotions ahead", "no promotion ahead"),
}
_TEXTS = {
    "last_channel": "bought last through {}",
    "main_channel": "buys mostly through {}",
    "tier": "tier {}",
}
_COUNTED = {
    "purchases": "purchases",
    "events": "visits or other events",
    "touches": "touches",
    "service_contacts": "service contacts",
}
_SINCE = {"event": "last active", "touch": "last touched", "service": "last service contact"}
# Columns that say the same thing share what the trees credit them with: one reason for all.
_THEMES = (
    ("silence", r"days_since_last|silence_in_gaps"),
    ("rhythm", r"mean_gap_days|last_gap_days|gap_trend"),
    ("purchases", r"purchases_\d+d|frequency|orders"),
    ("spending", r"spend(_.*)?"),
    ("discounts", r"discount_share.*"),
    ("activity", r"events_\d+d|days_since_event"),
    ("touches", r"touches_\d+d.*|days_since_touch.*"),
    ("service", r"service_.*|days_since_service"),
    ("tenure", r"age_days|recency_days"),
    ("season", r"season_.*|days_to_.*|festivals_ahead|promotions_ahead|days_since_promotion"),
)
_NOTHING = 1e-6
_NO_GAP = "no usual gap yet"


class Explained(Protocol):
    """What ``explain`` of a fit gives: ``contributions`` of (rows, times, covariates)."""

    covariates: tuple[str, ...]
    times: tuple[float, ...]
    contributions: npt.NDArray[np.float32]


def strongest_reasons(
    explained: Explained,
    frame: pd.DataFrame,
    usual: pd.Series,
    horizons: Sequence[float],
    count: int,
    towards: int,
) -> pd.DataFrame:
    """The strongest reasons by horizon, each in words.

    A covariate's part in a horizon is its mean contribution at the explained times up to it;
    covariates on one theme (silence, spending, touches, ...) are added up and told by the
    strongest. Only what pushes the way asked for is a reason. Reasons say what the model goes by,
    not what causes the silence.

    Args:
        explained: For the rows of ``frame``, at times that include the horizons.
        frame: The covariates.
        usual: Median per covariate of numbers, to compare with.
        horizons: Days.
        count: How many reasons.
        towards: 1 for covariates that bring the event closer, -1 for those that keep it away.

    Returns:
        One column ``reasons_<horizon>`` per horizon, index of ``frame``; reasons parted by ``; ``,
        ``nothing stands out`` where no covariate pushes that way.
    """
    names = list(explained.covariates)
    themes = [_theme(name) for name in names]
    labels = sorted({theme for name, theme in zip(names, themes, strict=True) if name in frame})
    members = np.array([[theme == label for label in labels] for theme in themes], dtype=float)
    columns = {}
    for horizon in horizons:
        until = [place for place, time in enumerate(explained.times) if time <= horizon]
        part = towards * explained.contributions[:, until, :].astype(float).mean(axis=1)
        whole = part @ members
        told = []
        for row in range(len(frame)):
            own, found = frame.iloc[row], []
            for place in np.argsort(-whole[row], kind="stable")[:count]:
                if whole[row, place] <= _NOTHING:
                    break
                inside = np.flatnonzero(members[:, place])
                strongest = inside[np.argmax(part[row, inside])]
                found.append(_one(in_words(names[strongest], own, usual)))
            told.append("; ".join(dict.fromkeys(found)) or "nothing stands out")
        columns[f"reasons_{horizon:g}"] = told
    return pd.DataFrame(columns, frame.index)


def _one(text: str) -> str:
    """One of a thing without the s of many."""
    many = r"(?<![\d.,])1 ((?:repeat |service )?(?:day|purchase|order|channel|contact|case))s\b"
    return re.sub(r"(?<![\d.,])1 touches\b", "1 touch", re.sub(many, r"1 \1", text))


def _theme(name: str) -> str:
    for theme, pattern in _THEMES:
        if re.fullmatch(pattern, name):
            return theme
    return name


def in_words(name: str, row: pd.Series, usual: pd.Series) -> str:
    """One covariate of one customer as a short phrase, beside the usual value where it helps.

    Args:
        name: The covariate.
        row: The customer's covariates.
        usual: Median per covariate of numbers.
    """
    value = row[name]
    if pd.isna(value) and name in ("mean_gap_days", "last_gap_days", "silence_in_gaps"):
        return _NO_GAP
    if pd.isna(value):
        return f"{_plain(name)} not known" if not name.startswith("days_since") else _never(name)
    if name in _TEXTS:
        return _TEXTS[name].format(value)
    if isinstance(value, str):
        return f"{_plain(name)} {value}"
    number = float(value)
    if name == "days_since_last":
        gap = row.get("mean_gap_days")
        beside = "" if gap is None or pd.isna(gap) else f", usual gap {float(gap):,.0f}"
        return f"silent {number:,.0f} days{beside}" if number else "bought today"
    if name == "gap_trend":
        times = float(np.exp(abs(number)))
        return f"last gaps {times:.1f} times as {'long' if number > 0 else 'short'} as before"
    if name == "spend_trend":
        way = "less" if number < 0 else "more"
        return f"spent {way} in the last 90 days than in the 90 before"
    if name.startswith("discount_share"):
        lately = " of late" if name.endswith("_90d") else ""
        return f"{100 * number:.0f}\N{NO-BREAK SPACE}% off through discounts{lately}"
    if name in ("season_sin", "season_cos"):
        return "the time of year"
    if said := _by_pattern(name, number):
        return said + _beside(name, number, usual)
    if name in _CURRENT:
        some, none = _CURRENT[name]
        return (none if number == 0 and none else some.format(number)) + _beside(
            name, number, usual
        )
    return f"{_plain(name)} {_rounded(number)}" + _beside(name, number, usual)


def _by_pattern(name: str, number: float) -> str:
    found = re.fullmatch(r"(\w+?)_(\d+)d(?:_(.+))?", name)
    if found and (stem := found[1]) in _COUNTED:
        by = f" by {found[3]}" if found[3] else ""
        what = f"{number:,.0f}" if number else "no"
        return f"{what} {_COUNTED[stem]}{by} in {found[2]} days"
    if found and found[1] == "spend":
        return f"spent {f'{number:,.0f}' if number else 'nothing'} in {found[2]} days"
    found = re.fullmatch(r"days_since_(event|touch|service)(?:_(.+))?", name)
    if found:
        by = f" by {found[2]}" if found[2] else ""
        return f"{_SINCE[found[1]]}{by} {number:,.0f} days ago"
    found = re.fullmatch(r"days_(to|since)_(.+)", name)
    if found:
        way = "until" if found[1] == "to" else "since"
        return f"{number:,.0f} days {way} {_plain(found[2])}"
    return ""


def _never(name: str) -> str:
    what, _, channel = name.removeprefix("days_since_").partition("_")
    return f"no {what} by {_plain(channel)} so far" if channel else f"no {what} so far"


def _beside(name: str, number: float, usual: pd.Series) -> str:
    skipped = name.startswith("days_to_") or name == "silence_in_gaps"
    if skipped or name not in usual.index or pd.isna(usual[name]):
        return ""
    said = _rounded(float(usual[name]))
    return "" if said == _rounded(number) else f" (usual {said})"


def _rounded(number: float) -> str:
    """As many digits as a reader needs: whole from ten on."""
    size = abs(number)
    digits = 0 if size >= 10 or size == round(size) else 1 if size >= 1 else 2
    return f"{number:,.{digits}f}"


def _plain(name: str) -> str:
    return covariate_words(name)
