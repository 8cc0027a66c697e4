"""Who gets which arm: decided by the id and a salt alone, the same in every engine and language.

The first 13 hexadecimal digits of ``md5(salt + ":" + id)`` are compared as text with the arms'
cumulative shares in the same notation, so that no engine has to read a number out of them:
anything that knows md5 finds the same arm.
"""

from collections.abc import Mapping, Sequence
from hashlib import md5
from math import isfinite
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from journeylab.errors import ContractError

if TYPE_CHECKING:
    import ibis.expr.types as ir

_DIGITS = 13
_SPACE = 16**_DIGITS
# A stratum starts its round at one of this many places: five hexadecimal digits.
_PLACES = 16**5


def thresholds(shares: Mapping[str, float]) -> tuple[tuple[str, str], ...]:
    """Arm and the digits below which a unit belongs to it, in the order given.

    Args:
        shares: Arm -> weight, above 0; they need not add up to 1.

    Raises:
        ContractError: No arms, or a weight that is not above 0.
    """
    if not shares or not all(isfinite(share) and share > 0 for share in shares.values()):
        raise ContractError(f"shares must give every arm a positive weight; got {dict(shares)}")
    ends = np.cumsum(list(shares.values())) / sum(shares.values())
    found = [f"{min(int(end * _SPACE), _SPACE - 1):0{_DIGITS}x}" for end in ends[:-1]]
    return tuple(zip(shares, [*found, "g"], strict=True))  # "g" sorts after every digit


def digits_of(identifier: str, salt: str) -> str:
    """The digits that decide about one unit."""
    return md5(f"{salt}:{identifier}".encode(), usedforsecurity=False).hexdigest()[:_DIGITS]


def variant_of(identifier: str, salt: str, shares: Mapping[str, float]) -> str:
    """The arm of one unit.

    Args:
        identifier: Of the customer, or of the cluster where clusters are randomised.
        salt: Of the test; another salt gives an independent assignment.
        shares: Arm -> weight.
    """
    digits = digits_of(identifier, salt)
    return next(arm for arm, end in thresholds(shares) if digits < end)


def assigned_frame(
    units: pd.DataFrame,
    salt: str,
    shares: Mapping[str, float],
    *,
    unit: str = "customer_id",
    stratum: str | None = None,
) -> pd.DataFrame:
    """The arms of a frame's rows.

    Args:
        units: One or more rows per unit.
        salt: Of the test.
        shares: Arm -> weight.
        unit: Column with what is randomised: ``cluster_id`` puts a whole cluster into one arm.
        stratum: Column within which the arms get their shares exactly, up to one unit; the units
            of a stratum must then be known beforehand, because each one's arm depends on them.
            A missing stratum is one of its own.
            Without it every unit is decided alone.

    Returns:
        ``units`` with ``variant``.

    Raises:
        ContractError: A unit lies in two strata, or an id is missing.
    """
    frame = units.copy()
    if missing := int(frame[unit].isna().sum()):
        raise ContractError(f"{missing} of {len(frame)} rows have no {unit} to assign by")
    names, ends = zip(*thresholds(shares), strict=True)
    codes, distinct = pd.factorize(frame[unit].astype(str).to_numpy())
    digits = np.array([digits_of(name, salt) for name in distinct], dtype=object)
    if stratum is None:
        places = np.searchsorted(np.array(ends[:-1], dtype=object), digits, side="right")
        frame["variant"] = np.array(names, dtype=object)[places[codes]]
        return frame
    each = pd.DataFrame({"code": codes, "stratum": _strata(frame[stratum])})
    each = each.drop_duplicates()
    if doubled := int(each["code"].duplicated().sum()):
        raise ContractError(f"{doubled} units of {unit} lie in more than one {stratum}")
    each["digits"] = digits[each["code"]]
    each["name"] = np.asarray(distinct, dtype=object)[each["code"]]
    each = each.sort_values(["stratum", "digits", "name"], ignore_index=True)
    whole = each.groupby("stratum")["code"].transform("size").to_numpy()
    rank = each.groupby("stratum").cumcount().to_numpy()
    start = [int(digits_of(f"stratum {name}", salt)[:5], 16) for name in each["stratum"]]
    place = rank * _PLACES + np.array(start, dtype=np.int64)
    arm = np.zeros(len(each), dtype=int)
    for end in _cuts(shares):
        arm += place >= end * whole
    by_code = np.empty(len(distinct), dtype=int)
    by_code[each["code"]] = arm
    frame["variant"] = np.array(names, dtype=object)[by_code[codes]]
    return frame


def assigned(
    units: "ir.Table",
    salt: str,
    shares: Mapping[str, float],
    *,
    unit: str = "customer_id",
    stratum: str | None = None,
) -> "ir.Table":
    """The same in the engine: ``units`` with ``variant``; arguments as for ``assigned_frame``.

    A unit found in two strata may get two arms here; ``assigned_frame`` refuses it.
    """
    import ibis

    if stratum is None:
        digits = _digits(units[unit], salt)
        return units.mutate(variant=_arm(digits, thresholds(shares)))
    keyed = units.mutate(_unit=units[unit], _stratum=units[stratum].cast("string").coalesce(""))
    each = keyed.select(unit="_unit", stratum="_stratum").distinct()
    each = each.mutate(digits=_digits(each.unit, salt))
    in_order = ibis.window(group_by="stratum", order_by=["digits", "unit"])
    each = each.mutate(
        rank=ibis.row_number().over(in_order).cast("int64"),
        whole=each.count().over(ibis.window(group_by="stratum")).cast("int64"),
        start=_place(_digits(ibis.literal("stratum ") + each.stratum, salt)),
    )
    each = each.mutate(place=each.rank * ibis.literal(_PLACES, type="int64") + each.start)
    names, cuts = list(shares), _cuts(shares)
    arm = ibis.literal(names[-1])
    for name, end in reversed(list(zip(names[:-1], cuts, strict=True))):
        arm = (each.place < each.whole * ibis.literal(end, type="int64")).ifelse(name, arm)
    each = each.mutate(variant=arm).select("unit", "stratum", "variant")
    joined = keyed.inner_join(
        each, [keyed["_unit"] == each.unit, keyed["_stratum"] == each.stratum]
    )
    return joined.select(*units.columns, variant=each.variant)


def _strata(column: pd.Series) -> np.ndarray:
    return column.astype(object).where(column.notna(), "").astype(str).to_numpy()


def _cuts(shares: Mapping[str, float]) -> list[int]:
    """Ends of all arms but the last, in places."""
    thresholds(shares)
    ends = np.cumsum(list(shares.values()))[:-1] / sum(shares.values())
    return [round(float(end) * _PLACES) for end in ends]


def _digits(identifier: "ir.StringValue", salt: str) -> "ir.StringValue":
    import ibis

    return (ibis.literal(f"{salt}:") + identifier).hexdigest("md5").substr(0, _DIGITS)


def _arm(digits: "ir.StringValue", ends: Sequence[tuple[str, str]]) -> "ir.StringValue":
    import ibis

    arm = ibis.literal(ends[-1][0])
    for name, end in reversed(ends[:-1]):
        arm = (digits < end).ifelse(name, arm)
    return arm


def _place(digits: "ir.StringValue") -> "ir.IntegerValue":
    """The first five digits as a number, found in the alphabet: engines have no common word."""
    import ibis

    alphabet = ibis.literal("0123456789abcdef")
    value = ibis.literal(0, type="int64")
    for at in range(5):
        digit = alphabet.find(digits.substr(at, 1)).cast("int64")
        value = value * ibis.literal(16, type="int64") + digit
    return value
