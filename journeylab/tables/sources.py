"""Where tables come from: what a source's name or folder means, and its ``tables.toml``."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from fnmatch import fnmatch
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from journeylab import datasets
from journeylab.contract import BY_NAME, TABLES, Returns, TableContract
from journeylab.datasets import Dataset
from journeylab.errors import ContractError

TEXT = (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz", ".txt.gz")
TYPED = (".parquet",)
EXCEL = (".xlsx", ".xlsm")
DATABASE = (".duckdb", ".ddb")
ROW_NUMBER = "#row"
_SHORT_ZONES = ("UTC", "GMT")
RETURNS: tuple[Returns, ...] = ("net", "separate", "reject")


@dataclass(frozen=True, slots=True)
class TableSource:
    """One table of a source, still unread.

    Attributes:
        contract: The table it is.
        files: Its files, in the order they are read; for a database the table's name is enough.
        names: Source column by contract column, where they differ.
        encoding, delimiter, time_format: As named in ``tables.toml``; ``None`` to find out.
        cents: Money columns count hundredths.
        at: Table name in a database, sheet name in an Excel file.
    """

    contract: TableContract
    files: tuple[Path, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    encoding: str | None = None
    delimiter: str | None = None
    time_format: str | None = None
    cents: bool = False
    at: str | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """A source of tables, still unread.

    Attributes:
        name: As given, without the folders above it.
        tables: What it offers, by table name.
        business_tz: Zone of its times and of the business day.
        returns: What becomes of negative order amounts.
        folder: Folder its files lie in; ``None`` for a database.
        url: Where a database is; ``None`` for files.
        dataset: The named data set it is, if it is one.
        configuration: The mapping file it was read with, if any.
        ignored: Files in the folder that are no table of the contract.
    """

    name: str
    tables: Mapping[str, TableSource]
    business_tz: str = "UTC"
    returns: Returns = "net"
    folder: Path | None = None
    url: str | None = None
    dataset: Dataset | None = None
    configuration: Path | None = None
    ignored: tuple[str, ...] = ()


def resolve(source: str | Path) -> Source:
    """Find out what a source is: a data set's name, a folder, a file, a database.

    Raises:
        ContractError: There is no such source, or its ``tables.toml`` cannot be used.
    """
    text = str(source)
    if dataset := datasets.find(text):
        if dataset.read is None:
            raise ContractError(
                f"{text!r} is a table of counted cells, not a journey: read the file that "
                f"datasets.cells_file({text!r}) names"
            )
        return Source(text, {}, dataset.business_tz, folder=dataset.folder(), dataset=dataset)
    if text.partition(":")[0] == "simulated":
        return replace(_folder(_world(text)), name=text)
    if re.match(r"^[a-z][a-z0-9+]+://", text):
        return Source(re.sub(r"//[^@/]*@", "//", text), {}, url=text)
    path = Path(source).expanduser()
    if path.is_dir():
        return _folder(path)
    if path.is_file():
        return _single_file(path)
    raise ContractError(f"there is no source {text!r}: {_what_there_is(text, path)}")


def _world(name: str) -> Path:
    """Folder of a simulated world; numba takes a second to import, so only here."""
    from journeylab.simulate.cached import world_folder
    from journeylab.simulate.progress import shown

    with shown(f"making {name}, once") as progress:
        return world_folder(name, progress)


def _what_there_is(text: str, path: Path) -> str:
    known = "it is neither a data set's name, a folder nor a file"
    if close := datasets.nearest(text):
        return f"{known}; did you mean {close[0]!r}?"
    if path.parent.is_dir():
        beside = sorted(entry.name for entry in path.parent.iterdir())
        if close := get_close_matches(path.name, beside, n=1):
            return f"{known}; beside it there is {close[0]!r}"
        return known + f"; data sets are {', '.join(sorted(datasets.DATASETS))}"
    return f"{known}; the folder {path.parent.name!r} does not exist either"


def ending(path: Path) -> str:
    """File ending in small letters, ``.csv.gz`` counted as one."""
    name = path.name.lower()
    return next((known for known in (*TEXT, *TYPED, *EXCEL, *DATABASE) if name.endswith(known)), "")


def _stem(path: Path) -> str:
    """File name without its ending, in whatever letters that is written."""
    return path.name[: len(path.name) - len(ending(path))]


def _single_file(path: Path) -> Source:
    configuration = path.with_name(_stem(path) + ".toml")
    if ending(path) in DATABASE:
        return Source(path.name, {}, folder=path.parent, url=str(path.resolve()))
    if not ending(path):
        raise ContractError(
            f"{path.name} is no file that can be read: give CSV, CSV.GZ, Parquet, Excel or .duckdb"
        )
    orders = TableSource(BY_NAME["orders"], (path,))
    plain = Source(path.name, {"orders": orders}, folder=path.parent)
    return _configured(plain, configuration) if configuration.is_file() else plain


def _folder(folder: Path) -> Source:
    tables: dict[str, TableSource] = {}
    ignored: list[str] = []
    for entry in sorted(folder.iterdir()):
        name = _stem(entry) if entry.is_file() else entry.name
        readable = ending(entry) and ending(entry) not in DATABASE
        if name in BY_NAME and (entry.is_dir() or readable):
            files = _parts(entry) if entry.is_dir() else (entry,)
            if name in tables:
                raise ContractError(
                    f"{folder.name} holds {name} twice: {tables[name].files[0].name} and "
                    f"{entry.name}; keep one, or name it in tables.toml"
                )
            if files:
                tables[name] = TableSource(BY_NAME[name], files)
        elif not entry.name.startswith(".") and entry.name != "tables.toml":
            ignored.append(entry.name)
    source = Source(folder.resolve().name, tables, folder=folder, ignored=tuple(ignored))
    configuration = folder / "tables.toml"
    if configuration.is_file():
        source = _configured(source, configuration)
    if not source.tables:
        raise ContractError(
            f"the folder {folder.name!r} holds no table of the contract: found "
            f"{', '.join(ignored[:8]) or 'nothing'}; name files after the tables "
            f"({', '.join(table.name for table in TABLES[:4])}, ...) or map them in tables.toml"
        )
    return source


def _parts(folder: Path) -> tuple[Path, ...]:
    return tuple(sorted(path for path in folder.rglob("*") if path.is_file() and ending(path)))


_SOURCE_WORDS = {"business_tz": str, "returns": str}
_TABLE_WORDS = {
    "file": str,
    "encoding": str,
    "delimiter": str,
    "time_format": str,
    "unit": str,
    "table": str,
    "sheet": str,
    "columns": dict,
}


def _configured(source: Source, path: Path) -> Source:
    try:
        words = tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ContractError(f"{path.name} is not valid TOML in UTF-8: {error}") from error
    settings = {word: value for word, value in words.items() if not isinstance(value, dict)}
    _refuse_unknown(path.name, settings, _SOURCE_WORDS, "setting")
    zone, returns = settings.get("business_tz", "UTC"), settings.get("returns", "net")
    check_zone(zone, path.name)
    if returns not in RETURNS:
        raise ContractError(
            f"{path.name}: returns must be net, separate or reject; got {returns!r}"
        )
    sections = {word: value for word, value in words.items() if isinstance(value, dict)}
    _refuse_unknown(path.name, sections, dict.fromkeys(BY_NAME, dict), "table")
    tables = dict(source.tables)
    folder = source.folder or path.parent
    for name, section in sections.items():
        given = tables.get(name, TableSource(BY_NAME[name]))
        tables[name] = _configured_table(given, section, folder, f"{path.name} [{name}]")
    mapped = {file.name for table in tables.values() for file in table.files}
    return replace(
        source,
        tables=tables,
        business_tz=zone,
        returns=returns,
        configuration=path,
        ignored=tuple(name for name in source.ignored if name not in mapped),
    )


def _configured_table(
    given: TableSource, section: Mapping[str, Any], folder: Path, where: str
) -> TableSource:
    _refuse_unknown(where, section, _TABLE_WORDS, "setting")
    files = given.files
    if pattern := section.get("file"):
        files = tuple(
            path
            for path in sorted(folder.rglob("*"))
            if path.is_file() and fnmatch(path.relative_to(folder).as_posix(), pattern)
        )
        if not files:
            there = sorted(entry.name for entry in folder.iterdir())
            close = get_close_matches(pattern, there, n=1) or there[:5]
            raise ContractError(
                f"{where}: there is no file {pattern!r} in {folder.resolve().name!r}; found "
                f"{', '.join(close)}"
            )
    elif not files and "table" not in section:
        raise ContractError(f'{where}: name its file, for example file = "{where}.csv"')
    if (unit := section.get("unit", "units")) not in ("units", "cents"):
        raise ContractError(f'{where}: unit must be "units" or "cents"; got {unit!r}')
    names = section.get("columns", {})
    known = [column.name for column in given.contract.columns]
    for column, source_column in names.items():
        if column not in known:
            close = get_close_matches(column, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(known)}"
            raise ContractError(f"{where}: the contract has no column {column!r}; {hint}")
        if not isinstance(source_column, str):
            raise ContractError(f"{where}: {column} must name one source column as text")
        if source_column == ROW_NUMBER and column not in ("order_id", "touch_id"):
            raise ContractError(
                f"{where}: {column} cannot be the number of a row; only order_id and touch_id can"
            )
    if "table" in section and not files:
        raise ContractError(f"{where}: `table` names a table of a database; here name a file")
    return TableSource(
        given.contract,
        files,
        names,
        section.get("encoding"),
        section.get("delimiter"),
        section.get("time_format"),
        unit == "cents",
        section.get("table") or section.get("sheet"),
    )


def _refuse_unknown(
    where: str, given: Mapping[str, Any], known: Mapping[str, type], what: str
) -> None:
    for word, value in given.items():
        if word not in known:
            close = get_close_matches(word, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"
            raise ContractError(f"{where}: there is no {what} {word!r}; {hint}")
        if not isinstance(value, known[word]):
            raise ContractError(f"{where}: {word} must be {known[word].__name__}, not {value!r}")


def check_zone(zone: str, where: str) -> None:
    """Refuse a time zone that has no IANA entry.

    Raises:
        ContractError: There is no such zone.
    """
    try:
        ZoneInfo(zone)
        if zone not in available_timezones() or ("/" not in zone and zone not in _SHORT_ZONES):
            raise ValueError(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ContractError(
            f"{where}: there is no time zone {zone!r}; use an IANA name such as Asia/Shanghai"
        ) from error


def match_columns(
    contract: TableContract, available: Sequence[str], names: Mapping[str, str], where: str
) -> dict[str, str]:
    """Source column by contract column: mapped by name, else alike but for case and signs.

    Raises:
        ContractError: A mapped column is not there, or a required one cannot be found.
    """
    found: dict[str, str] = {}
    for column, source_column in names.items():
        if source_column != ROW_NUMBER and source_column not in available:
            close = get_close_matches(source_column, available, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"found {_listed(available)}"
            raise ContractError(f"{where}: there is no column {source_column!r}; {hint}")
        found[column] = source_column
    plain = {_plain(name): name for name in reversed(available) if name not in found.values()}
    for contract_column in contract.columns:
        if contract_column.name not in found and (name := plain.get(_plain(contract_column.name))):
            found[contract_column.name] = name
    free = [name for name in available if name not in found.values()]
    for required in contract.required:
        if required in found or required == "line_no":
            continue
        close = get_close_matches(
            _plain(required), [_plain(name) for name in free], n=1, cutoff=0.5
        )
        nearest = next((name for name in free if close and _plain(name) == close[0]), None)
        example = nearest or (free[0] if free else "...")
        hint = f"the nearest name is {nearest!r}; " if nearest else ""
        number = (
            f', or {required} = "{ROW_NUMBER}" to number the rows' if required == "order_id" else ""
        )
        raise ContractError(
            f"{where}: the {contract.name} table needs a column {required!r} "
            f"({contract.column(required).meaning}); found {_listed(available)}; {hint}"  # type: ignore[union-attr]
            f'map it in tables.toml: [{contract.name}.columns] {required} = "{example}"{number}'
        )
    return found


def _plain(name: str) -> str:
    return re.sub(r"[\W_]", "", name.lower())


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:12])
    return shown + (f" and {len(names) - 12} more" if len(names) > 12 else "")
