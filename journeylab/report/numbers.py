"""How numbers read on a page: digits as the interval supports them, and the interval as a bar."""

import re
from dataclasses import dataclass
from math import floor, isfinite, log10
from typing import Any

_MINUS = "\N{MINUS SIGN}"
SPACE = "\N{NO-BREAK SPACE}"
SHARES = frozenset({"share", "shares", "proportion", "probability", "fraction"})
_CURRENCIES = {
    "USD": "$", "EUR": "€", "GBP": "£", "CNY": "¥", "RMB": "¥", "JPY": "¥",
    "$": "$", "€": "€", "£": "£", "¥": "¥",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Figure:
    """One estimate as a page shows it.

    Attributes:
        name: What it is, in words.
        value: With its sign of currency or per cent.
        unit: What follows the value, where it is not part of it; may be empty.
        interval: Such as ``95 % interval 1,540 to 1,770``.
        low, high, at, zero: Places on the bar, per cent of its width; ``zero`` is where 0 lies.
    """

    name: str
    value: str
    unit: str
    interval: str
    low: float
    high: float
    at: float
    zero: float


def words(name: str) -> str:
    """A name as words: ``expected_purchases`` gives ``Expected purchases``."""
    text = name.replace("_", " ").strip()
    return text[:1].upper() + text[1:]


def separated(value: float, decimals: int) -> str:
    """Thousands separated, with a proper minus; never a minus before zero."""
    text = f"{abs(value):,.{decimals}f}"
    negative = value < 0 and any(digit in text for digit in "123456789")
    return f"{_MINUS}{text}" if negative else text


def number(value: float) -> str:
    """A number that comes without an interval: four or five digits that count."""
    if not isfinite(value):
        return str(value)
    if float(value).is_integer() and abs(value) < 1e15:
        return separated(value, 0)
    if abs(value) >= 1e5:
        return separated(value, 0)
    if abs(value) < 1e-4:
        mantissa, _, exponent = f"{value:.1e}".partition("e")
        return f"{mantissa}e{int(exponent)}".replace("-", _MINUS)
    decimals = max(0, 3 - floor(log10(abs(value)))) if abs(value) < 1000 else 1
    return _trimmed(separated(value, decimals))


def _trimmed(text: str) -> str:
    return text.rstrip("0").rstrip(".") if "." in text else text


def key_figure(name: str, entry: dict[str, Any]) -> Figure:
    """An estimate of results.json as a page shows it.

    Args:
        name: Of the record.
        entry: ``value, ci_low, ci_high, level, unit``.
    """
    value, low, high = (float(entry[key]) for key in ("value", "ci_low", "ci_high"))
    unit = str(entry["unit"]).strip()
    shown, interval, rest = _in_unit(value, low, high, unit)
    level = number(100 * float(entry["level"]))
    left, right = min(0.0, low), max(0.0, high)
    span = (right - left) or 1.0
    # a little room beyond the interval; zero stays on the bar, so that its length tells how
    # sure the number is
    left -= 0.1 * span if left < 0 else 0.0
    right += 0.1 * span if right > 0 else 0.0
    span = (right - left) or 1.0
    places = [round(100 * (x - left) / span, 2) for x in (low, high, value, 0.0)]
    return Figure(words(name), shown, rest, f"{level}{SPACE}% interval {interval}", *places)


def estimate_texts(entry: dict[str, Any]) -> tuple[str, str, str]:
    """Value, interval and unit of an estimate, as a table shows them."""
    figure = key_figure("", entry)
    return figure.value, figure.interval.partition(" interval ")[2], figure.unit


def _in_unit(value: float, low: float, high: float, unit: str) -> tuple[str, str, str]:
    """Value and interval as text, and what is left of the unit."""
    head, _, rest = unit.partition(" ")
    if unit.lower() in SHARES or (head.lower() in SHARES and rest.startswith(("of ", "within "))):
        digits = _decimals(100 * value, 100 * low, 100 * high)
        low_text, high_text = (separated(100 * x, digits) for x in (low, high))
        shown = f"{separated(100 * value, digits)}{SPACE}%"
        return shown, f"{low_text} to {high_text}{SPACE}%", rest
    digits = _decimals(value, low, high)
    if unit.startswith("%"):
        shown = f"{separated(value, digits)}{SPACE}%"
        rest = unit[1:].strip()
        return shown, f"{separated(low, digits)} to {separated(high, digits)}{SPACE}%", rest
    if head in _CURRENCIES:
        digits = 2 if digits == 1 else digits
        sign = _CURRENCIES[head]

        def money(amount: float) -> str:
            text = separated(amount, digits)
            return f"{_MINUS}{sign}{text[1:]}" if text.startswith(_MINUS) else f"{sign}{text}"

        return money(value), f"{money(low)} to {money(high)}", rest
    return (
        separated(value, digits),
        f"{separated(low, digits)} to {separated(high, digits)}",
        unit,
    )


def _decimals(value: float, low: float, high: float) -> int:
    """Decimals that give half the interval's width two digits."""
    half = (high - low) / 2
    if half <= 0:
        text = number(value)
        return len(text.partition(".")[2]) if "e" not in text else 6
    decimals = telling_zero(max(0, min(8, 1 - floor(log10(half)))), low, high)
    # whole numbers with a whole interval are counts
    whole = all(float(x).is_integer() for x in (value, low, high))
    return 0 if whole else decimals


def telling_zero(decimals: int, low: float, high: float) -> int:
    """Decimals, or up to two more where an end would read as zero and lies beside it."""
    for more in (decimals, decimals + 1, decimals + 2):
        if all(not end or abs(end) >= 0.5 * 10.0**-more for end in (low, high)):
            return more
    return decimals


_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
# As pandas prints them; "none" in small letters is a word, such as the name of an arm.
_EMPTY = frozenset({"", "nan", "NaN", "None", "nat", "NaT", "<NA>", "-"})
# digits in such columns are names, not amounts
_NAMELIKE = re.compile(
    r"(^|[_\s])(ids?|code|year|zip|postcode|phone|number|no|seed|line)$|编号|编码|年份|电话|_id",
    re.IGNORECASE,
)


def is_empty(cell: str) -> bool:
    """Whether a cell says that there is no value."""
    return cell.strip() in _EMPTY


def column(cells: list[str], head: str) -> list[str] | None:
    """The cells of a column of numbers as a page shows them; None where they are no numbers.

    Args:
        cells: As pandas printed them.
        head: The column's name: ids, years and codes keep their digits as they are.
    """
    given = [cell for cell in cells if not is_empty(cell)]
    if not given or not all(_NUMBER.fullmatch(cell) for cell in given):
        return None
    # a leading zero, or more digits than a float can hold, make an identifier
    if any(re.match(r"[+-]?0\d", cell) or len(re.sub(r"\D", "", cell)) > 17 for cell in given):
        return None
    if _NAMELIKE.search(head):
        return [_no_value(cell) or cell.replace("-", _MINUS) for cell in cells]
    values = [float(cell) for cell in given if isfinite(float(cell))]
    sizes = [abs(value) for value in values if value]
    if all(re.fullmatch(r"[+-]?\d+", cell) for cell in given):
        return [_no_value(cell) or separated(int(cell), 0) for cell in cells]
    if not sizes:
        return [_no_value(cell) or "0" for cell in cells]
    if max(sizes) / min(sizes) > 1e4 or max(sizes) < 1e-3:
        return [_no_value(cell) or number(float(cell)) for cell in cells]
    given_decimals = max(len(_trimmed(cell).partition(".")[2]) for cell in given)
    wanted = max(3 - max(floor(log10(max(sizes))), 0), 1 - floor(log10(min(sizes))), 0)
    decimals = min(wanted, given_decimals, 6) if "e" not in "".join(given).lower() else wanted
    return [_no_value(cell) or separated(float(cell), decimals) for cell in cells]


def _no_value(cell: str) -> str:
    return "\N{EN DASH}" if is_empty(cell) else ""
