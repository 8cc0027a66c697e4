"""One source column made into one contract column: its value, or why it has none.

Everything here is an Ibis expression. A row whose value cannot be read with certainty is refused
with a reason; nothing is guessed, rounded into shape or silently turned into null.
"""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir

from journeylab.contract import Column
from journeylab.errors import ContractError

MONEY = dt.Decimal(18, 2)
_LARGEST_EXACT = 2**53
_EMPTY = ("", "NULL", "null", "NaN", "nan", "None", "NaT", "<NA>", "\\N")
_TRUE = ("true", "t", "yes", "y", "1", "是")
_FALSE = ("false", "f", "no", "n", "0", "否")
_DATE_FORMS = ["%Y年%m月%d日", "%Y年%m月%d日 %H:%M", "%Y年%m月%d日 %H:%M:%S", "%Y.%m.%d"]
_OFFSET = r":\d\d(\.\d+)? ?([+-]\d\d(:?\d\d)?|Z)$"
_DAY = r"^\d{4}-\d{1,2}-\d{1,2}"
_NAIVE = _DAY + r"([ T]\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?)?$"
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"


@dataclass(frozen=True, slots=True)
class Reading:
    """How the columns of one table are to be read.

    Attributes:
        zone: IANA zone of times that carry no offset.
        time_format: ``strptime`` form of text times; without it ISO 8601 and epochs are read.
        cents: Whether money columns count hundredths.
        engine: Ibis name of the engine: its words for time zones differ.
    """

    zone: str = "UTC"
    time_format: str | None = None
    cents: bool = False
    engine: str = "duckdb"


def engine_function(name: str, *types: str, result: str) -> Callable[..., Any]:
    """A function that the engine has and Ibis has no word for.

    Args:
        name: As the engine calls it.
        types: Ibis types of its arguments, in order.
        result: Ibis type of its result.
    """
    build: Callable[..., Any] = ibis.udf.scalar.builtin
    # Only name and types are used: the engine computes.
    shapes: dict[int, Callable[..., None]] = {
        1: lambda first: None,
        2: lambda first, second: None,
    }
    function: Callable[..., Any] = build(shapes[len(types)], name=name, signature=(types, result))
    return function


_localise = engine_function("timezone", "string", "timestamp", result="timestamp('UTC')")
_wall_clock = engine_function("timezone", "string", "timestamp('UTC')", result="timestamp")
_spark_to_utc = engine_function("to_utc_timestamp", "timestamp", "string", result="timestamp")
_spark_from_utc = engine_function("from_utc_timestamp", "timestamp", "string", result="timestamp")
_spark_micros = engine_function("timestamp_micros", "int64", result="timestamp")
_try_strptime_zoned = engine_function(
    "try_strptime", "string", "array<string>", result="timestamp('UTC')"
)
_try_strptime = engine_function("try_strptime", "string", "array<string>", result="timestamp")


def to_utc(local: ir.TimestampValue, reading: Reading) -> ir.TimestampValue:
    """Wall-clock times of the reading's zone as UTC."""
    if reading.zone == "UTC":
        return local
    if reading.engine == "pyspark":
        return _spark_to_utc(local, reading.zone)
    return _wall_clock("UTC", _localise(reading.zone, local))


def business_date(instant: ir.TimestampValue, zone: str, engine: str) -> ir.DateValue:
    """Calendar day of a UTC time in the business zone."""
    if zone == "UTC":
        return instant.date()
    if engine == "pyspark":
        return _spark_from_utc(instant, zone).date()
    return _wall_clock(zone, _localise("UTC", instant)).date()


def empty(column: Column) -> ir.Value:
    """The null of a contract column that a source does not have."""
    return ibis.null().cast(DTYPES[column.type])


DTYPES: dict[str, dt.DataType] = {
    "id": dt.string,
    "text": dt.string,
    "choice": dt.string,
    "money": MONEY,
    "number": dt.float64,
    "integer": dt.int64,
    "timestamp": dt.timestamp,
    "date": dt.date,
    "boolean": dt.boolean,
}


def given(raw: ir.Value, column: Column, where: str = "") -> ir.Value:
    """What the source says, with its ways of writing "nothing" made null.

    Raises:
        ContractError: The source's column is of a type that cannot be what the contract asks for.
    """
    kind = raw.type()
    if not _readable(kind, column.type):
        raise ContractError(
            f"{where}: {column.name} ({column.meaning}) must be {column.type}; the source has "
            f"{kind} there"
        )
    if not kind.is_string():
        return raw
    # Stripping every field would cost more than reading the file: comparisons find those with
    # blanks at an end. Text may keep blanks behind it.
    blank = raw < "!"
    if column.type != "text":
        blank = blank | raw.endswith(" ") | raw.endswith("\t")
    stripped = ibis.ifelse(blank, raw.strip(), raw)
    if column.type == "text":
        return stripped.nullif("")
    return ibis.ifelse(stripped.isin(_EMPTY), ibis.null().cast("string"), stripped)


def _readable(kind: dt.DataType, wanted: str) -> bool:
    """Whether a source's type can hold what a contract column asks for."""
    if kind.is_string() or kind.is_null():
        return True
    if wanted in ("id", "text", "choice"):
        return bool(kind.is_numeric() or kind.is_uuid() or kind.is_boolean())
    if wanted in ("timestamp", "date"):
        known = kind.is_timestamp() or kind.is_date() or kind.is_numeric()
        return bool(known and not kind.is_boolean())
    if wanted == "boolean":
        return bool(kind.is_boolean() or kind.is_integer())
    return bool(kind.is_numeric() and not kind.is_boolean())


def read(said: ir.Value, column: Column, reading: Reading) -> ir.Value:
    """The typed value of what the source says; null where it cannot be read with certainty.

    Args:
        said: A column made by ``given``.
        column: What the contract says of it.
        reading: How the table is to be read.
    """
    return _READERS[column.type](said, column, reading)


def fault(said: ir.Value, value: ir.Value, column: Column) -> ir.Value:
    """Why a row is refused for this column, ``"code:column"``; null where all is well.

    Args:
        said: A column made by ``given``.
        value: The column ``read`` made of it.
        column: What the contract says of it.
    """
    name = f":{column.name}"
    cases = []
    if column.required:
        cases.append((said.isnull(), f"missing{name}"))
    if column.type not in ("text",):
        unread = said.notnull() & value.isnull()
        cases.append((unread, _unreadable(said, column.type, name)))
    if column.type == "number":
        cases.append((value.isnan() | value.isinf(), f"not_finite{name}"))
    if column.type in ("timestamp", "date"):
        outside = (value < _EARLIEST.cast(value.type())) | (value >= _LATEST.cast(value.type()))
        cases.append((outside, f"time_out_of_range{name}"))
    if column.low is not None:
        cases.append((value < column.low, f"out_of_bounds{name}"))
    if column.high is not None:
        cases.append((value > column.high, f"out_of_bounds{name}"))
    if not cases:
        return ibis.null().cast("string")
    return ibis.cases(*cases, else_=None).cast("string")


_EARLIEST, _LATEST = ibis.timestamp("1900-01-01"), ibis.timestamp("2200-01-01")
_CODES = {
    "id": "inexact_id",
    "choice": "unreadable_choice",
    "integer": "unreadable_number",
    "number": "unreadable_number",
    "boolean": "unreadable_boolean",
    "timestamp": "unreadable_time",
    "date": "unreadable_time",
}


def _unreadable(said: ir.Value, kind: str, name: str) -> ir.Value | str:
    """Code for a value that could not be read; for money also whether it was a number at all."""
    if kind != "money":
        return _CODES[kind] + name
    plain = said
    if said.type().is_string():
        plain = ibis.ifelse(said.contains("_"), ibis.null().cast("string"), said)
    real = plain.try_cast("float64")
    return ibis.cases(
        (real.isnull(), f"unreadable_number{name}"),
        (real.isnan() | real.isinf(), f"not_finite{name}"),
        else_=f"money_out_of_range{name}",
    )


def _read_id(said: ir.Value, column: Column, reading: Reading) -> ir.Value:
    kind = said.type()
    if kind.is_floating():
        return _whole(said).cast("string")
    if kind.is_decimal() and kind.scale:
        digits = said.cast(dt.Decimal(kind.precision, 0)).cast("string")
        return ibis.ifelse(said % 1 == 0, digits, ibis.null().cast("string"))
    if kind.is_string() and column.required:
        # Spreadsheets write long ids as 1.23457E+22: the digits behind are gone.
        spoilt = ibis.ifelse(said.contains("E+"), said.re_search(r"^\d(\.\d+)?E\+\d\d+$"), False)
        return ibis.ifelse(spoilt, ibis.null().cast("string"), said)
    return said.cast("string")


def _whole(said: ir.NumericValue) -> ir.IntegerValue:
    """Whole numbers that a double holds to the last digit; null for all others."""
    exact = (said % 1 == 0) & (said.abs() < _LARGEST_EXACT)
    return ibis.ifelse(exact, said, ibis.null().cast(said.type())).try_cast("int64")


def _read_text(said: ir.Value, column: Column, reading: Reading) -> ir.Value:
    return said.cast("string")


def _read_choice(said: ir.Value, column: Column, reading: Reading) -> ir.Value:
    lowered = said.cast("string").lower()
    return ibis.ifelse(lowered.isin(column.choices), lowered, ibis.null().cast("string"))


def _read_money(said: ir.Value, column: Column, reading: Reading) -> ir.Value:
    if said.type().is_string():
        # The engine reads 1_000 as a number; a shop's export never means that.
        said = ibis.ifelse(said.contains("_"), ibis.null().cast("string"), said)
    if reading.cents:
        # Dividing by 100 would go through a double.
        wide = said.try_cast(dt.Decimal(22, 4))
        whole = ibis.ifelse(wide % 1 == 0, wide, ibis.null().cast(dt.Decimal(22, 4)))
        hundredth = ibis.literal(Decimal("0.01"), dt.Decimal(20, 2))
        said = whole.cast(dt.Decimal(20, 2)) * hundredth
    return said.try_cast(MONEY)


def _read_number(said: ir.Value, column: Column, reading: Reading) -> ir.Value:
    if said.type().is_string():
        plain = ~said.contains("_")
        if reading.engine != "duckdb":
            plain = said.re_search(_NUMBER)
        said = ibis.ifelse(plain, said, ibis.null().cast("string"))
    return said.try_cast("float64")


def _read_integer(said: ir.Value, column: Column, reading: Reading) -> ir.Value:
    kind = said.type()
    if kind.is_string():
        # The engine rounds 3.7 and reads 0x1F: only plain digits are an integer here.
        digits = said.re_extract(r"^([+-]?\d{1,18})(\.0*)?$", 1)
        return digits.nullif("").try_cast("int64")
    if kind.is_floating() or kind.is_decimal():
        return _whole(said)
    return said.try_cast("int64")


def _read_boolean(said: ir.Value, column: Column, reading: Reading) -> ir.Value:
    if said.type().is_boolean():
        return said
    word = said.cast("string").lower()
    cases = ibis.cases((word.isin(_TRUE), True), (word.isin(_FALSE), False), else_=None)
    return cases.cast("boolean")


def _read_date(said: ir.Value, column: Column, reading: Reading) -> ir.Value:
    if said.type().is_date():
        return said
    # A period is a calendar day wherever the shop is: no zone moves it.
    local = Reading(time_format=reading.time_format, engine=reading.engine)
    return _read_timestamp(said, column, local).date()


def _read_timestamp(said: ir.Value, column: Column, reading: Reading) -> ir.Value:
    """UTC time of a value of any type; null where it cannot be read without guessing."""
    kind = said.type()
    on_duckdb = reading.engine == "duckdb"
    if kind.is_timestamp():
        if kind.timezone is None:
            return to_utc(said.cast("timestamp"), reading)
        # On Spark sessions are checked to be in UTC; elsewhere the zone must not matter.
        return _wall_clock("UTC", said) if on_duckdb else said.cast("timestamp")
    if kind.is_date():
        return to_utc(said.cast("timestamp"), reading)
    if kind.is_numeric():
        whole = said if kind.is_integer() else _whole(said)
        return _from_epoch(whole.cast("string"), reading)
    if not on_duckdb:
        return _read_text_time_anywhere(said, reading)
    if reading.time_format:
        if "%z" in reading.time_format:
            return _wall_clock("UTC", _try_strptime_zoned(said, [reading.time_format]))
        return to_utc(_try_strptime(said, [reading.time_format]), reading)
    # A plain cast would drop the offset and keep the wall clock: what has a sign or letters behind
    # the hour is cast with a zone, and only where that is an offset or Z.
    # Patterns are slow, so they only see texts that cheap comparisons or the cast let through.
    nothing = ibis.null().cast("string")
    perhaps = (said.length() > 19) | said.contains("+") | said.endswith("Z")
    perhaps = perhaps | said.like("%:%-%") | said.like("%:% %")
    has_more = ibis.ifelse(perhaps, said, nothing).re_search(r":.*[+\-A-Za-z]").fill_null(False)
    zoned = ibis.ifelse(has_more, said, nothing)
    zoned = ibis.ifelse(zoned.re_search(_OFFSET), zoned, nothing)
    instant = _wall_clock("UTC", zoned.try_cast(dt.Timestamp(timezone="UTC")))
    local = said.try_cast("timestamp")
    # The engine takes words such as epoch and infinity for times.
    begins_with_digit = (said >= "0") & (said < ":")
    unread = ibis.ifelse(local.isnull() & begins_with_digit, said, nothing)
    return ibis.cases(
        (has_more, instant),
        (~begins_with_digit, ibis.null().cast("timestamp")),
        else_=ibis.coalesce(to_utc(local, reading), _other_forms(unread, reading)),
    )


def _read_text_time_anywhere(said: ir.StringValue, reading: Reading) -> ir.TimestampValue:
    """Text times on an engine other than DuckDB: ISO 8601 and epochs, nothing else."""
    nothing = ibis.null().cast("string")
    naive = ibis.ifelse(said.re_search(_NAIVE), said, nothing)
    zoned = ibis.ifelse(said.re_search(_DAY + "[ T].*" + _OFFSET), said, nothing)
    number = ibis.ifelse(said.re_search(r"^\d{9,19}$"), said, nothing)
    return ibis.coalesce(
        to_utc(naive.try_cast("timestamp"), reading),
        zoned.try_cast("timestamp"),
        _from_epoch(number, reading),
    )


def _other_forms(said: ir.StringValue, reading: Reading) -> ir.TimestampValue:
    digits = said.re_search(r"^\d+(\.\d+)?$")
    compact = said.length().isin((8, 14)) & ~said.contains(".")
    # strptime would take 31.12.24 for the year 31.
    forms = ibis.ifelse(said.re_search(r"^\d{4}"), said, ibis.null().cast("string"))
    written = to_utc(_try_strptime(forms, ["%Y%m%d", "%Y%m%d%H%M%S", *_DATE_FORMS]), reading)
    # Twelve digits are milliseconds before 2001 or a date with hour and minute: not for us to say.
    unsure = (said.length() == 12) & said.re_search(r"^(19|2[01])\d{2}(0[1-9]|1[0-2])[0-3]\d")
    epoch = ibis.ifelse(unsure, ibis.null().cast("timestamp"), _from_epoch(said, reading))
    return ibis.ifelse(digits & ~compact, epoch, written)


def _from_epoch(digits: ir.StringValue, reading: Reading) -> ir.TimestampValue:
    """Seconds, milli-, micro- or nanoseconds since 1970, told apart by how many digits they have.

    Nine to ten digits in seconds are the years 1973 to 2286; each further unit adds three digits.
    """
    whole = digits.re_extract(r"^(\d+)", 1)
    long = whole.length()
    scale = ibis.cases(
        (long.isin((9, 10)), 1_000_000),
        (long.isin((12, 13)), 1_000),
        (long.isin((15, 16)), 1),
        (long.isin((18, 19)), 0),
        else_=None,
    )
    exact = digits.try_cast(dt.Decimal(28, 6)) * scale.cast(dt.Decimal(8, 0))
    # Nanoseconds are cut to the microseconds that a timestamp holds.
    cut = (whole.try_cast("int64") / 1_000).floor().cast("int64")
    if reading.engine == "duckdb":
        cut = whole.try_cast("int64") // 1_000
    micros = ibis.ifelse(scale == 0, cut, exact.cast("int64"))
    if reading.engine == "pyspark":
        return _spark_micros(micros)
    return ibis.timestamp("1970-01-01") + micros.as_interval("us")


_READERS: dict[str, Callable[[ir.Value, Column, Reading], ir.Value]] = {
    "id": _read_id,
    "text": _read_text,
    "choice": _read_choice,
    "money": _read_money,
    "number": _read_number,
    "integer": _read_integer,
    "timestamp": _read_timestamp,
    "date": _read_date,
    "boolean": _read_boolean,
}
