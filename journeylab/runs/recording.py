"""What a notebook leaves for pages, tests and other notebooks: ``record`` and ``recorded``.

Under the runner a record goes into the notebook's own folder of the run. In JupyterLab, without a
runner, it is only shown, and ``recorded`` reads the last run.
"""

import io
import json
import math
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from decimal import Decimal
from html import escape
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsFloat

from journeylab.errors import ContractError, RunError
from journeylab.pseudonyms import hidden, hide_ids, ids_allowed, is_personal, project_key
from journeylab.runs.parameters import nearest
from journeylab.runs.references import RECORD_NAME, Reference, read_reference
from journeylab.runs.scrubbing import hide_credentials
from journeylab.runs.showing import (
    estimate_text,
    frame_html,
    mapping_html,
    number_text,
    show,
)
from journeylab.runs.writing import write_json, write_whole

if TYPE_CHECKING:
    import pandas as pd

    from journeylab.estimate import Estimate

# The runner names these for each kernel.
FOLDER_VARIABLE = "JOURNEYLAB_RUN_FOLDER"
ROOT_VARIABLE = "JOURNEYLAB_RUN_ROOT"
SHOWN_VARIABLE = "JOURNEYLAB_SHOWN_SOURCES"

_RESERVED = ("decision", "cautions")
_ESTIMATE_KEYS = frozenset({"value", "ci_low", "ci_high", "level", "unit"})
_SIGNIFICANT_DIGITS = 12
_MOST_MARKS_AS_SVG = 5_000
_PNG_DPI = 144


def record(
    name: str,
    value: object,
    alt: str | None = None,
    *,
    people: str | Sequence[str] | None = None,
    table: str | Sequence[str] | None = None,
    units: Mapping[str, str] | None = None,
) -> None:
    """Show a result and, under the runner, keep it.

    Args:
        name: Lower-case letters, digits and underscores, beginning with a letter; once a notebook.
        value: An ``Estimate``, number, text, true/false, mapping of these, pandas frame or series
            (kept as Parquet), or a matplotlib figure or axes (kept as SVG, above 5,000 marks as
            PNG).
        alt: What a figure shows, for those who cannot see it; required there, refused elsewhere.
        people: Columns of a frame that count people, ``()`` for none: what ``journeylab share``
            hides small numbers of. Guessed by name (``customers``, ``n``, ...) if not given.
        table: Records whose rows a figure draws, ``()`` for none: ``journeylab share`` holds a
            figure back where cells of these are hidden, and where it does not say and cells of
            any table of the notebook are.
        units: Column of a frame -> unit: the page shows a ``share`` in per cent, and writes any
            other unit beside the column's name. What is kept is as given.

    Raises:
        ContractError: The name is taken or malformed, a number is not finite, a figure has no alt
            text, ``people``, ``table`` or ``units`` does not fit, or the value is of another kind.
    """
    if not RECORD_NAME.fullmatch(name) or name in _RESERVED:
        raise ContractError(
            f"a record name is lower-case letters, digits and underscores, beginning with a "
            f"letter, and not {' or '.join(_RESERVED)}; got {name!r}"
        )
    folder = _own_folder()
    results = _read_results(folder) if folder is not None else {}
    if name in results:
        raise ContractError(f"{name!r} is recorded already; a record has one value")
    figure = _as_figure(value)
    if figure is None and alt is not None:
        raise ContractError(f"{name}: only a figure takes alt text; this is a {_kind_name(value)}")
    if figure is None and table is not None:
        raise ContractError(f"{name}: table= is for figures; this is a {_kind_name(value)}")
    frame = _as_frame(value) if figure is None else None
    for option, given in (("people", people), ("units", units)):
        if frame is None and given is not None:
            raise ContractError(f"{name}: {option}= is for frames; this is a {_kind_name(value)}")
    if figure is not None:
        drawn = None if table is None else _names(name, "table", table)
        kind, entry, bundle = _keep_figure(name, figure, alt, folder)
        entry |= {} if drawn is None else {"draws": drawn}
    elif frame is not None:
        kind, entry, bundle = _keep_frame(name, frame, folder)
        if people is not None:
            entry["people"] = _names(name, "people", people)
            _refuse_lacking(name, "people", entry["people"], entry["columns"])
        if units is not None:
            entry["units"] = {str(column): str(unit) for column, unit in units.items()}
            _refuse_lacking(name, "units", entry["units"], entry["columns"])
    else:
        kind, entry, bundle = _plain(name, value)
    if folder is not None:
        write_json(folder / "results.json", {**results, name: entry})
    if "text/html" in bundle:
        bundle["text/html"] += f"<p><small>{escape(_written(name, entry, folder))}</small></p>"
    shown = entry if isinstance(entry, dict) and kind != "mapping" else {"value": entry}
    show({"name": name, "kind": kind, **shown}, bundle)
    if kind == "figure":
        # beside a drawing JupyterLab shows no text: it gets an output of its own
        written = _written(name, entry, folder)
        html = f"<p><small>{escape(written)}</small></p>"
        show({"name": name, "kind": "note"}, {"text/html": html, "text/plain": written})


def decision(text: str) -> None:
    """Say in one or two sentences what to do, for whom, at what gain and cost.

    Raises:
        ContractError: The text is empty, or the notebook has decided already.
    """
    text = _sentence("a decision", text)
    folder = _own_folder()
    if folder is not None:
        results = _read_results(folder)
        if "decision" in results:
            raise ContractError("a notebook has one decision; this is the second")
        write_json(folder / "results.json", {**results, "decision": text})
    html = f"<p><strong>{escape(text)}</strong></p>"
    show(
        {"name": "decision", "kind": "decision", "text": text},
        {"text/html": html, "text/plain": text},
    )


def caution(text: str) -> None:
    """Warn the reader: shown amber on the page of the notebook and on the index of the run.

    Raises:
        ContractError: The text is empty.
    """
    text = _sentence("a caution", text)
    folder = _own_folder()
    if folder is not None:
        results = _read_results(folder)
        cautions = [*results.get("cautions", []), text]
        write_json(folder / "results.json", {**results, "cautions": cautions})
    html = f"<p>Caution: {escape(text)}</p>"
    show(
        {"name": "caution", "kind": "caution", "text": text},
        {"text/html": html, "text/plain": f"Caution: {text}"},
    )


def in_run() -> bool:
    """Whether a run keeps what this notebook makes: files are written there, never beside it."""
    return _own_folder() is not None


def recorded(reference: str) -> "Estimate | pd.DataFrame | Any":
    """What another notebook recorded, as ``"@clv/value"`` names it.

    Under the runner the reference must stand in the parameters cell (the runner then runs that
    notebook first), and its instance of this run is read; elsewhere the last run is.

    Returns:
        An ``Estimate``; a frame with a plain index; or the number, text or mapping. None where the
        reference ends in ``?`` and there is no such record.

    Raises:
        RunError: There is no such run, notebook or record.
    """
    wanted = read_reference(reference, "recorded")
    root = os.environ.get(ROOT_VARIABLE)
    run_folder = Path(root) if root else _latest_run()
    try:
        if run_folder is None:
            raise RunError("there is no run yet")
        return _read_record(run_folder, wanted, declared=reference.strip() if root else None)
    except RunError as error:
        if wanted.optional:
            return None
        raise RunError(
            f"{reference}: {error}. Run 'journeylab run {wanted.notebook}' first"
        ) from error


def _names(name: str, option: str, given: str | Sequence[str]) -> list[str]:
    """One name or several as a list of texts."""
    names = [given] if isinstance(given, str) else list(given)
    if not all(isinstance(each, str) for each in names):
        raise ContractError(f"{name}: {option}= takes a name or several; got {given!r}")
    return names


def _refuse_lacking(name: str, option: str, named: Iterable[str], columns: Sequence[str]) -> None:
    if lacking := [each for each in named if each not in columns]:
        raise ContractError(
            f"{name}: {option}= names {', '.join(map(repr, lacking))}, which the frame lacks"
        )


def _written(name: str, entry: Any, folder: Path | None) -> str:
    """Where a record is kept, in words."""
    if folder is None:
        return f"{name} is shown and not kept: journeylab run keeps it"
    kept = entry.get("table", entry.get("figure")) if isinstance(entry, dict) else None
    also = f" and {kept}" if isinstance(kept, str) else ""
    return f"{name} is kept in results.json{also} of {folder.parent.name}/{folder.name}"


def _own_folder() -> Path | None:
    folder = os.environ.get(FOLDER_VARIABLE)
    return Path(folder) if folder else None


def _read_results(folder: Path) -> dict[str, Any]:
    path = folder / "results.json"
    if not path.exists():
        return {}
    results: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return results


def _sentence(what: str, text: str) -> str:
    if not isinstance(text, str) or not text.strip():
        raise ContractError(f"{what} is a sentence; got {text!r}")
    return _shown(" ".join(text.split()))


def _shown(text: str) -> str:
    """Text without the place of the data on this machine."""
    sources: dict[str, str] = json.loads(os.environ.get(SHOWN_VARIABLE, "{}"))
    for real in sorted(sources, key=len, reverse=True):
        text = text.replace(real, sources[real])
    return hide_credentials(text)


def _kind_name(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _plain_number(name: str, value: SupportsFloat) -> int | float:
    """A number as JSON keeps it: finite, at most twelve significant digits, no minus zero."""
    if isinstance(value, Integral):
        return int(value)
    number = float(value)
    if not math.isfinite(number):
        raise ContractError(f"{name}: a recorded number must be finite; got {number}")
    return float(f"{number:.{_SIGNIFICANT_DIGITS}g}") + 0.0


def _plain_value(name: str, value: object) -> Any:
    """A value as JSON keeps it.

    Raises:
        ContractError: It is of no kind that can be kept.
    """
    from journeylab.estimate import Estimate

    if isinstance(value, Estimate):
        return {
            "value": _plain_number(name, value.value),
            "ci_low": _plain_number(name, value.ci_low),
            "ci_high": _plain_number(name, value.ci_high),
            "level": _plain_number(name, value.level),
            "unit": value.unit,
        }
    if hasattr(value, "item") and getattr(value, "shape", None) == ():
        # a numpy scalar is the Python value it wraps
        value = value.item()
    match value:
        case bool():
            return value
        case Real() | Decimal():
            return _plain_number(name, value)
        case str():
            return _shown(value)
        # pandas' NaT is a date that does not equal itself
        case date() if value == value:
            return value.isoformat()
        case Mapping():
            if not all(isinstance(key, str) for key in value):
                raise ContractError(f"{name}: the keys of a recorded mapping must be text")
            return {
                key: _plain_value(f"{name}.{key}", _without_id(key, value[key])) for key in value
            }
        case list() | tuple():
            return [_plain_value(f"{name}[{i}]", item) for i, item in enumerate(value)]
    raise ContractError(
        f"{name}: cannot record a {_kind_name(value)}; record an Estimate, number, text, mapping, "
        "pandas frame (collect an Ibis expression first) or figure"
    )


def _without_id(key: str, value: object) -> object:
    """A value that is an id of a person, by its key, as a pseudonym; any other as it is."""
    if ids_allowed() or not is_personal(key) or not isinstance(value, str | int):
        return value
    return hidden(value, project_key())


def _plain(name: str, value: object) -> tuple[str, Any, dict[str, Any]]:
    """Kind, entry and display of a value that needs no file."""
    plain = _plain_value(name, value)
    if type(value).__name__ == "Estimate":
        text = f"{name}: {estimate_text(**plain)}"
        return "estimate", plain, {"text/html": f"<p>{escape(text)}</p>", "text/plain": text}
    if isinstance(plain, dict):
        html = f"<p>{escape(name)}</p>{mapping_html(plain)}"
        return "mapping", plain, {"text/html": html, "text/plain": f"{name}: {plain}"}
    if isinstance(plain, list):
        raise ContractError(f"{name}: give a list a name inside a mapping, or record a frame")
    is_text = isinstance(plain, str | bool)
    text = f"{name}: {plain if is_text else number_text(plain)}"
    bundle = {"text/html": f"<p>{escape(text)}</p>", "text/plain": text}
    return "text" if is_text else "number", plain, bundle


def _as_frame(value: object) -> "pd.DataFrame | None":
    pandas = sys.modules.get("pandas")
    if pandas is None:
        return None
    if isinstance(value, pandas.Series):
        value = value.to_frame(value.name if value.name is not None else "value")
    frame: pd.DataFrame | None = value if isinstance(value, pandas.DataFrame) else None
    return frame


def _keep_frame(
    name: str, frame: "pd.DataFrame", folder: Path | None
) -> tuple[str, dict[str, Any], dict[str, Any]]:
    import pandas as pd

    if not ids_allowed():
        frame = hide_ids(frame)
    bundle = {"text/html": frame_html(frame), "text/plain": frame.head(20).to_string()}
    if all(level is not None for level in frame.index.names):
        names = [*frame.index.names, *frame.columns]
        if twice := sorted({str(each) for each in names if names.count(each) > 1}):
            raise ContractError(
                f"{name}: {', '.join(map(repr, twice))} names both a level of the index and a "
                "column (or two of them); rename one, for example by rename_axis('key')"
            )
        frame = frame.reset_index()
    elif not isinstance(frame.index, pd.RangeIndex):
        raise ContractError(
            f"{name}: name the index of a recorded frame so that it is kept, "
            "or drop it by reset_index(drop=True)"
        )
    frame = _with_intervals_as_text(frame)
    columns = list(frame.columns)
    if not all(isinstance(column, str) for column in columns) or len(set(columns)) < len(columns):
        raise ContractError(f"{name}: columns must be texts, each once; got {columns}")
    path = f"tables/{name}.parquet"
    if folder is not None:
        (folder / "tables").mkdir(exist_ok=True)
        write_whole(folder / path, _parquet(name, frame))
    return "table", {"table": path, "rows": len(frame), "columns": columns}, bundle


def _with_intervals_as_text(frame: "pd.DataFrame") -> "pd.DataFrame":
    """Bands as ``pd.cut`` makes them are labels, which Parquet knows as text only."""
    import numpy as np
    import pandas as pd

    frame = frame.copy(deep=False)
    for place, dtype in enumerate(frame.dtypes):
        of_bands = dtype.categories.dtype if isinstance(dtype, pd.CategoricalDtype) else dtype
        if isinstance(of_bands, pd.IntervalDtype):
            bands = frame.iloc[:, place]
            labels = bands.astype(object).tolist()
            # missing stays missing
            texts = [
                None if gone else str(label)
                for label, gone in zip(labels, bands.isna(), strict=True)
            ]
            frame.isetitem(place, np.array(texts, dtype=object))
    return frame


def _parquet(name: str, frame: "pd.DataFrame") -> bytes:
    """The same bytes for the same frame: no pandas metadata, settings fixed here."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)
        buffer = io.BytesIO()
        pq.write_table(table, buffer, compression="zstd", version="2.6", row_group_size=1_000_000)
    except _UNKEPT as error:
        raise _unkept_column(name, frame, error) from error
    return buffer.getvalue()


# what Arrow and pandas raise where a column is of a kind that Parquet does not know
_UNKEPT = (ArithmeticError, AttributeError, LookupError, NotImplementedError, TypeError, ValueError)


def _unkept_column(name: str, frame: "pd.DataFrame", error: Exception) -> ContractError:
    """An error that names the first column that cannot be kept, and what would help."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    where, cause = "the frame", error
    for column, dtype in frame.dtypes.items():
        try:
            table = pa.Table.from_pandas(frame[[column]], preserve_index=False)
            pq.write_table(table.replace_schema_metadata(None), io.BytesIO())
        except _UNKEPT as problem:
            where, cause = f"column {column!r} of type {dtype}", problem
            break
    return ContractError(
        f"{name}: {where} cannot be kept as Parquet ({type(cause).__name__}: {cause}); record "
        "numbers, texts, true/false, dates or times: turn it into one of these (a dense column by "
        ".sparse.to_dense(), a complex number into its parts, anything else by .astype(str))"
    )


def _as_figure(value: object) -> Any:
    """The matplotlib figure that ``value`` is or lies on, or None."""
    if "matplotlib.figure" not in sys.modules:
        return None
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    if isinstance(value, Axes):
        return value.get_figure(root=True)
    return value if isinstance(value, Figure) else None


def _marks(figure: Any) -> int:
    """How many points, bars and vertices the figure draws."""
    count = 0
    for axes in figure.axes:
        count += sum(len(line.get_path().vertices) for line in axes.lines)
        count += sum(len(patch.get_path().vertices) for patch in axes.patches)
        for collection in axes.collections:
            vertices = sum(len(path.vertices) for path in collection.get_paths())
            count += max(len(collection.get_offsets()), vertices)
    return count


def _keep_figure(
    name: str, figure: Any, alt: str | None, folder: Path | None
) -> tuple[str, dict[str, Any], dict[str, Any]]:
    if not isinstance(alt, str) or not alt.strip():
        raise ContractError(f'{name}: a figure needs alt text: record("{name}", figure, alt="...")')
    import base64

    from matplotlib import pyplot, rc_context

    alt = _shown(" ".join(alt.split()))
    as_svg = _marks(figure) <= _MOST_MARKS_AS_SVG
    suffix = "svg" if as_svg else "png"
    buffer = io.BytesIO()
    # the salt gives the parts of a drawing ids that are the same in every run, and other ids in
    # the next drawing of a page
    with rc_context({"svg.hashsalt": f"journeylab-{name}", "svg.fonttype": "none"}):
        if as_svg:
            metadata: dict[str, str | None] = {"Date": None, "Creator": None}
            figure.savefig(buffer, format="svg", metadata=metadata, bbox_inches="tight")
        else:
            figure.savefig(
                buffer,
                format="png",
                metadata={"Software": None},
                bbox_inches="tight",
                dpi=_PNG_DPI,
            )
    # a figure left open is drawn a second time at the end of the cell
    pyplot.close(figure)
    content = buffer.getvalue()
    entry = {"figure": f"figures/{name}.{suffix}", "alt": alt}
    if folder is not None:
        (folder / "figures").mkdir(exist_ok=True)
        write_whole(folder / entry["figure"], content)
    bundle: dict[str, Any] = {"text/plain": alt}
    if as_svg:
        bundle["image/svg+xml"] = content.decode("utf-8")
    else:
        bundle["image/png"] = base64.b64encode(content).decode("ascii")
    return "figure", entry, bundle


def _latest_run() -> Path | None:
    """The last run of the nearest ``runs`` folder at or above the working directory."""
    for folder in (Path.cwd(), *Path.cwd().parents):
        latest = folder / "runs" / "latest"
        if latest.is_dir():
            return latest
        if latest.is_file():
            # where links are not possible the file holds the name of the run's folder
            return latest.with_name(latest.read_text(encoding="utf-8").strip())
    return None


def _same(value: object, text: str) -> bool:
    """Whether a parameter in the manifest is the one that a reference spells as text."""
    if isinstance(value, bool):
        return text.strip().lower() in (("true", "yes", "1") if value else ("false", "no", "0"))
    if isinstance(value, int | float):
        try:
            return float(text) == value
        except ValueError:
            return False
    return value == text


def _read_record(run_folder: Path, wanted: Reference, declared: str | None) -> Any:
    """The record, or an error that says what is missing.

    Args:
        run_folder: A run with its manifest.
        wanted: What is read.
        declared: The reference as written, where it must stand in the parameters of the notebook
            that asks.
    """
    manifest = json.loads((run_folder / "manifest.json").read_text(encoding="utf-8"))
    entries: list[dict[str, Any]] = manifest["notebooks"]
    own = _own_folder()
    entry: dict[str, Any] | None = None
    if declared is not None and own is not None:
        asking = next(e for e in entries if e["instance"] == own.name)
        if declared not in asking["parameters"].values():
            raise RunError(
                "this reference is no parameter of the notebook, so the runner cannot know "
                "what to run first; put it into the parameters cell"
            )
        # in a run over a grid this is the instance with the same values
        read = asking.get("reads", {}).get(declared)
        entry = next((e for e in entries if e["instance"] == read), None)
    entry = entry or _entry(entries, wanted)
    if entry is None:
        names = sorted({e["name"] for e in entries})
        raise RunError(f"this run has no such notebook; it has {', '.join(names)}")
    if entry["state"] != "done":
        raise RunError(f"{entry['instance']} is {entry['state']} in this run")
    folder = run_folder / entry["instance"]
    results = _read_results(folder)
    if wanted.record not in results:
        hint = nearest(wanted.record, results)
        raise RunError(
            f"{entry['instance']} has not recorded {wanted.record!r}{hint} "
            f"It recorded {', '.join(results) or 'nothing'}"
        )
    return _restored(results[wanted.record], folder)


def _entry(entries: list[dict[str, Any]], wanted: Reference) -> dict[str, Any] | None:
    """The instance that fits the bindings and binds nothing beyond them."""
    fitting = [
        entry
        for entry in entries
        if entry["name"] == wanted.notebook
        and all(_same(entry["parameters"].get(name), text) for name, text in wanted.bindings)
    ]
    if not wanted.bindings:
        fitting = [entry for entry in fitting if not entry["bindings"]]
    return min(fitting, key=lambda entry: len(entry["bindings"]), default=None)


def _restored(entry: Any, folder: Path) -> Any:
    """A value of results.json as the object that was recorded."""
    if not isinstance(entry, dict):
        return entry
    if entry.keys() == _ESTIMATE_KEYS:
        from journeylab.estimate import Estimate

        return Estimate(**entry)
    if {"table", "rows", "columns"} <= entry.keys():
        import pyarrow.parquet as pq

        return pq.read_table(folder / entry["table"]).to_pandas()
    if {"figure", "alt"} <= entry.keys():
        raise RunError(f"a figure ({entry['figure']}) is for looking at and cannot be read back")
    return {name: _restored(value, folder) for name, value in entry.items()}
