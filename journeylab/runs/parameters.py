"""The parameters cell of a notebook, read as a schema.

One line is one parameter::

    horizon_days: int = 90  # how far ahead, days [1..730]
    engine: str = "duckdb"  # where the counting happens {duckdb, spark}

Nothing is executed: the cell is parsed, so that a misspelt option is refused before a kernel
starts.
"""

import ast
import difflib
import io
import re
import tokenize
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date
from math import isfinite
from pathlib import Path

from journeylab.errors import RunError
from journeylab.runs.secret import is_reference

Value = str | int | float | bool

_TYPES: dict[str, type] = {"str": str, "int": int, "float": float, "bool": bool, "Secret": str}
_WORDS = {"str": "text", "int": "a whole number", "float": "a number", "bool": "true or false"}
_WORDS["Secret"] = "the name of a variable of the environment, such as env:CRM_TOKEN"
_TRUTHS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_ISO_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
# in the meaning of a text; "ISO dates" are several, parted by commas
_DATE_WORDS = re.compile(r"\bISO date(s?)\b")
_WHOLE_NUMBER = re.compile(r"[+-]?\d+")
_BOUNDS = re.compile(r"\[\s*([^\[\]]*?)\s*\.\.\s*([^\[\]]*?)\s*\]$")
_CHOICES = re.compile(r"\{([^{}]*)\}$")


def nearest(name: str, names: Iterable[str]) -> str:
    """A hint such as ``"; did you mean 'clv'?"``, or nothing when no name is close."""
    close = difflib.get_close_matches(name, list(names), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


def _is_iso_date(text: str) -> bool:
    if not _ISO_DATE.fullmatch(text):
        return False
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Parameter:
    """One option of a notebook.

    Attributes:
        name: The variable that the parameters cell assigns.
        type: ``str``, ``int``, ``float`` or ``bool``, as written.
        default: Used when nothing else is given.
        meaning: What it is for, from the comment.
        unit: Unit of a number (``"days"``), from the last comma of the comment; None without one.
        low, high: Bounds, both included; None is open.
        choices: The values allowed; empty allows all of the type.
    """

    name: str
    type: str
    default: Value
    meaning: str = ""
    unit: str | None = None
    low: Value | None = None
    high: Value | None = None
    choices: tuple[Value, ...] = ()

    @property
    def is_date(self) -> bool:
        """Whether a value is one ISO date: the default is, or the meaning says "ISO date"."""
        if not isinstance(self.default, str) or self.is_date_list:
            return False
        return _is_iso_date(self.default) or bool(_DATE_WORDS.search(self.meaning))

    @property
    def is_date_list(self) -> bool:
        """Whether a value is ISO dates parted by commas, for which the meaning says "ISO dates"."""
        words = _DATE_WORDS.search(self.meaning) if isinstance(self.default, str) else None
        return words is not None and bool(words[1])

    @property
    def is_reference(self) -> bool:
        """Whether values name what another notebook recorded (``"@clv/value"``)."""
        return isinstance(self.default, str) and self.default.startswith("@")

    @property
    def bounds(self) -> str:
        """The bounds or choices as the parameters cell writes them; empty without any."""
        if self.choices:
            return "{" + ", ".join(map(str, self.choices)) + "}"
        if self.low is None and self.high is None:
            return ""
        low, high = ("" if end is None else end for end in (self.low, self.high))
        return f"[{low}..{high}]"

    @property
    def allowed(self) -> str:
        """What is allowed, in words for a message."""
        what = _WORDS[self.type]
        if self.is_date:
            what = "a date written as 2024-01-31"
        elif self.is_date_list:
            what = "dates written as 2024-01-31, parted by commas"
        elif self.is_reference:
            what = 'a reference such as "@clv/value"'
        if self.choices:
            return f"one of {', '.join(map(str, self.choices))}"
        if self.bounds:
            what += f" in {self.bounds}"
        if self.default == "" and (self.is_date or self.is_date_list):
            what += ", or empty"
        return what

    def accept(self, value: object, where: str) -> Value:
        """Give ``value`` the type of this parameter.

        Args:
            value: A value of the type, or text as a command line gives it.
            where: Name of the notebook, for the message.

        Raises:
            RunError: The type is another one, or the value is not allowed.
        """
        typed = self._typed(value)
        if typed is None or not self._within(typed):
            quote = ""
            if self.type == "str" and not isinstance(value, str):
                quote = " (quote it to make it text)"
            # what stands in the place of a secret's name may be the secret itself
            given, default = ("***", "***") if self.type == "Secret" else (value, self.default)
            raise RunError(
                f"{where}: {self.name} = {given!r} is not allowed{quote}; "
                f"allowed: {self.allowed}; default: {default!r}"
            )
        return typed

    def _typed(self, value: object) -> Value | None:
        match self.type:
            case "bool":
                if isinstance(value, str):
                    return _TRUTHS.get(value.strip().lower())
                return value if isinstance(value, bool) else None
            case "int":
                if isinstance(value, str):
                    text = value.strip()
                    return int(text) if _WHOLE_NUMBER.fullmatch(text) else None
                return value if isinstance(value, int) and not isinstance(value, bool) else None
            case "float":
                if isinstance(value, bool) or not isinstance(value, str | int | float):
                    return None
                try:
                    number = float(value)
                except (ValueError, OverflowError):
                    return None
                return number if isfinite(number) else None
        if isinstance(value, date):
            # YAML turns an unquoted 2024-01-31 into a date
            value = value.isoformat()
        return value if isinstance(value, str) else None

    def _within(self, value: Value) -> bool:
        if self.choices:
            return value in self.choices
        if isinstance(value, str):
            if self.type == "Secret":
                return is_reference(value)
            if self.is_reference and not value.startswith("@"):
                return False
            if self.is_date or self.is_date_list:
                # bounds are of each date; an empty text has its own meaning
                if value == self.default == "":
                    return True
                dates = value.split(",") if self.is_date_list else [value]
                return all(self._date_within(date.strip(" ")) for date in dates)
        return not (
            (self.low is not None and value < self.low)  # type: ignore[operator]
            or (self.high is not None and value > self.high)  # type: ignore[operator]
        )

    def _date_within(self, text: str) -> bool:
        if not _is_iso_date(text):
            return False
        return str(self.low or text) <= text <= str(self.high or text)


def read_parameters(source: str, where: str) -> tuple[Parameter, ...]:
    """Read the schema out of the source of a parameters cell, in its order.

    Args:
        source: The cell's code.
        where: Name of the notebook, for the message.

    Raises:
        RunError: A line is not ``name: type = literal  # meaning [low..high]``.
    """
    try:
        body = ast.parse(source).body
        comments = {
            token.start[0]: token.string.lstrip("# ").rstrip()
            for token in tokenize.generate_tokens(io.StringIO(source).readline)
            if token.type == tokenize.COMMENT
        }
    except (SyntaxError, tokenize.TokenError) as error:
        raise RunError(f"{where}: the parameters cell is not Python: {error}") from error
    parameters: dict[str, Parameter] = {}
    for statement in body:
        comment = comments.get(statement.end_lineno or statement.lineno, "")
        parameter = _read_statement(statement, comment, where)
        if parameter.name in parameters:
            raise RunError(f"{where}: parameter {parameter.name!r} is given twice")
        parameters[parameter.name] = parameter
    return tuple(parameters.values())


def _read_statement(statement: ast.stmt, comment: str, where: str) -> Parameter:
    match statement:
        case ast.AnnAssign(
            target=ast.Name(id=name), annotation=ast.Name(id=kind), value=ast.expr() as literal
        ) if kind in _TYPES:
            pass
        case _:
            raise RunError(
                f"{where}: line {statement.lineno} of the parameters cell must read "
                f"'name: type = literal  # meaning' with a type of {', '.join(_TYPES)}; "
                f"got {ast.unparse(statement)!r}"
            )
    try:
        default: Value = ast.literal_eval(literal)
    except ValueError as error:
        raise RunError(
            f"{where}: the default of {name} must be a literal; got {ast.unparse(literal)}"
        ) from error
    if isinstance(default, int) and not isinstance(default, bool) and kind == "float":
        default = float(default)
    if type(default) is not _TYPES[kind]:
        raise RunError(f"{where}: {name} is declared {kind}, but its default is {default!r}")
    return _with_comment(Parameter(name, kind, default), comment, where)


def _with_comment(bare: Parameter, comment: str, where: str) -> Parameter:
    """Add meaning, unit and limits, and hold the default against them."""
    meaning = comment
    low: Value | None = None
    high: Value | None = None
    choices: tuple[Value, ...] = ()
    if bounds := _BOUNDS.search(comment):
        dates = replace(bare, meaning=comment)
        if dates.is_date or dates.is_date_list:
            # a bound is one date, whatever the values are
            bare = replace(bare, meaning="ISO date")
        elif bare.type in ("bool", "str"):
            raise RunError(f"{where}: {bare.name} is {bare.type} and cannot have bounds")
        low, high = (bare.accept(end, where) if end else None for end in bounds.groups())
        meaning = comment[: bounds.start()]
    elif listed := _CHOICES.search(comment):
        texts = [text.strip().strip("\"'") for text in listed[1].split(",")]
        choices = tuple(bare.accept(text, where) for text in texts)
        meaning = comment[: listed.start()]
    elif comment.endswith(("]", "}")):
        raise RunError(
            f"{where}: the limits of {bare.name} must read [low..high] or {{a, b, c}}; "
            f"got {comment!r}"
        )
    meaning = meaning.strip()
    unit = None
    if bare.type in ("int", "float") and "," in meaning:
        meaning, _, unit = (part.strip() for part in meaning.rpartition(","))
    full = Parameter(bare.name, bare.type, bare.default, meaning, unit, low, high, choices)
    full.accept(full.default, where)
    return full


def read_assignments(texts: Iterable[str]) -> dict[str, Value]:
    """Read ``name=value`` texts of a command line.

    Raises:
        RunError: A text has no ``=``, or a name comes twice.
    """
    values: dict[str, Value] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        name = name.strip()
        if not equals or not name:
            raise RunError(f"a parameter is given as name=value; got {text!r}")
        if name in values:
            raise RunError(f"parameter {name!r} is given twice: {values[name]!r} and {value!r}")
        values[name] = value
    return values


def read_grid(texts: Iterable[str]) -> dict[str, list[Value]]:
    """Read ``name=a,b,c`` texts of a command line.

    Raises:
        RunError: A text has no ``=``, or a name comes twice.
    """
    return {
        name: [value.strip() for value in str(values).split(",")]
        for name, values in read_assignments(texts).items()
    }


def read_parameters_file(path: Path) -> dict[str, Value]:
    """Read a YAML mapping of parameters; a nested mapping addresses one notebook.

    ``{clv: {horizon_days: 30}}`` is the same as ``{clv.horizon_days: 30}``.

    Raises:
        RunError: The file is missing, is not YAML, or is not such a mapping.
    """
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"cannot read the parameters file {path}: {error}") from error
    except yaml.YAMLError as error:
        raise RunError(f"{path} is not YAML: {error}") from error
    if content is None:
        return {}
    if not isinstance(content, Mapping):
        raise RunError(
            f"{path} must hold a mapping of parameters such as 'horizon_days: 30'; "
            f"it holds a {type(content).__name__}"
        )
    values: dict[str, Value] = {}
    for name, value in content.items():
        nested = value if isinstance(value, Mapping) else {None: value}
        for inner, single in nested.items():
            key = str(name) if inner is None else f"{name}.{inner}"
            if isinstance(single, date):
                single = single.isoformat()
            if not isinstance(single, str | int | float | bool):
                raise RunError(
                    f"{path}: {key} must be text, a number or true/false; got {single!r}"
                )
            values[key] = single
    return values
