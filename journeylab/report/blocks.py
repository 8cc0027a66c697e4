"""The body of a page: cells of an executed notebook as blocks of prose, figures, tables, code."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape

from journeylab.errors import RunError
from journeylab.report.cleaning import (
    LOCAL_FILE,
    RawTable,
    clean_svg,
    plain,
    read_html,
    shortened,
)
from journeylab.report.markdown import render
from journeylab.report.notebook import NotebookCell, Output
from journeylab.report.numbers import SPACE, estimate_texts, number, words
from journeylab.report.site import file_link
from journeylab.report.tables import Table, named_rows, readable_table

# Together with prose and code this keeps a page under 3 MB.
_MOST_FIGURE_BYTES = 2_200_000
_MOST_CHARACTERS = 20_000
# Prose, code, tables and what was printed, all together.
_MOST_BYTES = 650_000
_PICTURE = re.compile(r"[A-Za-z0-9+/=\s]+")
_PATH_SHOWN = re.compile(r"(?:Posix|Windows)?Path\((['\"])(.+)\1\)")
_SCALARS = ("estimate", "number", "text")


@dataclass(frozen=True, slots=True)
class Block:
    """One piece of a page's body.

    Attributes:
        kind: ``prose``, ``figure``, ``table``, ``text``, ``file``, ``caution``, ``decision``,
            ``code``, ``log`` or ``failure``.
        html: Safe HTML of prose, a figure or code.
        text: Text to show as it is.
        table: Of a table.
        caption: Of a figure or table.
        note: What is to be said below it.
        link: A file that holds all of it, relative to the page.
    """

    kind: str
    html: Markup | None = None
    text: str = ""
    table: Table | None = None
    caption: str = ""
    note: str = ""
    link: str = ""


@dataclass
class _Body:
    folder: Path | None = None
    blocks: list[Block] = field(default_factory=list)
    code: list[str] = field(default_factory=list)
    logs: list[str] = field(default_factory=list)
    scalars: list[dict[str, Any]] = field(default_factory=list)
    level: int = 2
    heading: str = ""
    figures: int = 0
    figure_bytes: int = 0


def body(cells: Iterable[NotebookCell], folder: Path | None = None) -> list[Block]:
    """The blocks of a page; consecutive code is one block after what it printed.

    Args:
        cells: Of the executed notebook.
        folder: The notebook's own, whose files may be linked.
    """
    page = _Body(folder)
    for cell in cells:
        if cell.kind == "markdown":
            _end_code(page)
            html, page.level = render(cell.source, page.level)
            if headings := re.findall(r"<h\d>(.*?)</h\d>", html):
                page.heading = Markup(headings[-1]).striptags()  # text only
            page.blocks.append(Block("prose", html))
        elif cell.kind == "code" and cell.source.strip():
            page.code.append(cell.source)
            for output in cell.outputs:
                _add_output(page, output)
    _end_code(page)
    return _within_budget(page.blocks)


def recorded_blocks(results: dict[str, Any]) -> list[Block]:
    """Blocks of what ``results.json`` holds and no cell shows, because it was never saved."""
    page = _Body()
    for name, entry in results.items():
        known = entry if isinstance(entry, dict) else {}
        if {"value", "ci_low", "ci_high", "level", "unit"} <= known.keys():
            page.scalars.append({**known, "name": name, "kind": "estimate"})
        elif isinstance(reason := known.get("held_back"), str):
            page.blocks.append(Block("figure", caption=words(name), note=plain(reason)))
        elif not isinstance(entry, dict):
            page.scalars.append({"name": name, "kind": "text", "value": entry})
        elif link := file_link(entry, "table") or file_link(entry, "figure"):
            page.blocks.append(Block("file", link=link))
        else:
            _add_record(page, {"name": name, "kind": "mapping", "value": entry}, {})
    _end_scalars(page)
    return page.blocks


def _within_budget(blocks: list[Block]) -> list[Block]:
    """The blocks with what was printed, logged or tabled left out once a page has too much."""
    kept, spent = [], 0
    for block in blocks:
        weight = _bytes(block.text)
        if block.html is not None and block.kind != "figure":
            weight += _bytes(block.html)
        if block.table is not None:
            rows = (*block.table.head, *block.table.body)
            # around each cell stands markup
            weight += sum(_bytes(cell.text) + 40 for row in rows for cell in row)
        if spent + weight > _MOST_BYTES and block.kind not in ("decision", "figure", "caution"):
            left_out = f"[... {weight:,} bytes left out; notebook.ipynb may have more ...]"
            block = Block("text", text=left_out, link=block.link)
            weight = len(left_out)
        spent += weight
        kept.append(block)
    return kept


def _bytes(text: str) -> int:
    """What a text weighs on a page; safe HTML stays as it is."""
    return len(escape(text).encode("utf-8"))


def _end_code(page: _Body) -> None:
    _end_scalars(page)
    if page.code:
        page.blocks.append(Block("code", highlighted("\n\n".join(page.code))))
    if page.logs:
        page.blocks.append(Block("log", text=_cut("\n".join(page.logs))))
    page.code, page.logs = [], []


def highlighted(source: str) -> Markup:
    """Python code with its words marked for the style sheet."""
    from pygments import highlight  # type: ignore[import-untyped]
    from pygments.formatters.html import HtmlFormatter  # type: ignore[import-untyped]
    from pygments.lexers.python import PythonLexer  # type: ignore[import-untyped]

    html = highlight(plain(source).strip("\n"), PythonLexer(), HtmlFormatter(nowrap=True))
    return Markup(html)  # the formatter escapes


def _cut(text: str) -> str:
    return shortened(plain(text).strip("\n"), _MOST_CHARACTERS)


def _add_output(page: _Body, output: Output) -> None:
    if output.kind == "stderr":
        page.logs.append(output.text)
        return
    entry = output.record
    if entry is not None and entry["kind"] == "note":
        # where something was written is said to whoever works in the notebook
        return
    if entry is not None and entry["kind"] in _SCALARS:
        page.scalars.append(entry)
        return
    _end_scalars(page)
    if output.kind == "stdout":
        if output.text.strip():
            page.blocks.append(Block("text", text=_cut(output.text)))
    elif output.kind == "error":
        page.blocks.append(Block("failure", text=_cut(output.text)))
    elif entry is not None:
        _add_record(page, entry, output.bundle)
    else:
        _add_bundle(page, output.bundle, "", {})


def _end_scalars(page: _Body) -> None:
    if not page.scalars:
        return
    rows: list[tuple[str, ...]] = []
    levels = set()
    for entry in page.scalars:
        name = words(str(entry.get("name", "")))
        if entry["kind"] == "estimate":
            levels.add(entry["level"])
            rows.append((name, *estimate_texts(entry)))
        else:
            rows.append((name, _scalar(entry.get("value")), "", ""))
    head: tuple[str, ...] = ()
    if levels:
        share = f"{number(100 * next(iter(levels)))}{SPACE}% interval"
        head = ("", "Value", share if len(levels) == 1 else "Interval", "Unit")
        if not any(row[3] for row in rows):
            head, rows = head[:3], [row[:3] for row in rows]
    else:
        rows = [row[:2] for row in rows]
    page.blocks.append(Block("table", table=named_rows(rows, head)))
    page.scalars = []


def _scalar(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return number(value)
    if isinstance(value, list):
        return ", ".join(map(_scalar, value))
    if isinstance(value, dict):
        return ", ".join(f"{name} {_scalar(item)}" for name, item in value.items())
    return plain(str(value))


def _add_record(page: _Body, entry: dict[str, Any], bundle: dict[str, Any]) -> None:
    name = words(str(entry.get("name", "")))
    match entry["kind"]:
        case "decision":
            page.blocks.append(Block("decision"))
        case "caution":
            page.blocks.append(Block("caution", text=plain(str(entry.get("text", "")))))
        case "mapping" if isinstance(entry.get("value"), dict):
            rows = [
                (str(key).replace("_", " "), _scalar(value))
                for key, value in entry["value"].items()
            ]
            page.blocks.append(Block("table", table=named_rows(rows, ()), caption=name))
        case _:
            _add_bundle(page, bundle, name, entry)


def _add_bundle(page: _Body, bundle: dict[str, Any], name: str, entry: dict[str, Any]) -> None:
    if "image/svg+xml" in bundle or "image/png" in bundle or "image/jpeg" in bundle:
        _add_figure(page, bundle, entry)
        return
    if "text/markdown" in bundle:
        html, page.level = render(bundle["text/markdown"], page.level)
        page.blocks.append(Block("prose", html))
        return
    if isinstance(reason := entry.get("held_back"), str):
        page.blocks.append(Block("figure", caption=name, note=plain(reason)))
        return
    parts = read_html(bundle["text/html"]) if "text/html" in bundle else []
    kept = file_link(entry, "table")
    for part in parts:
        if isinstance(part, RawTable):
            table = readable_table(part, _units(entry))
            page.blocks.append(_table_block(table, name, entry, kept))
        elif not kept:
            page.blocks.append(Block("prose", part))
    text = str(bundle.get("text/plain", "")).strip()
    if not parts and (link := _file_shown(text, page.folder)):
        page.blocks.append(Block("file", link=link))
    elif not parts and text:
        page.blocks.append(Block("text", text=_cut(str(bundle["text/plain"]))))


def _units(entry: dict[str, Any]) -> dict[str, str]:
    """Units of a recorded table's columns; none where the entry does not hold any."""
    units = entry.get("units")
    return {str(k): str(v) for k, v in units.items()} if isinstance(units, dict) else {}


def _file_shown(text: str, folder: Path | None) -> str:
    """The file beside the page that a path shown by a cell names; nothing where it is none."""
    found = _PATH_SHOWN.fullmatch(text)
    if found is None or folder is None or not LOCAL_FILE.fullmatch(found[2]):
        return ""
    return str(found[2]) if (folder / found[2]).is_file() else ""


def _table_block(table: Table, name: str, entry: dict[str, Any], link: str) -> Block:
    shown = len(table.body)
    rows = entry.get("rows")
    total = rows if isinstance(rows, int) else shown + table.hidden_rows
    notes = [f"First {shown:,} of {total:,} rows"] if total > shown else []
    # said by what is shared: which cells stay blank, and why
    notes += [plain(str(entry["hidden"]))] if "hidden" in entry else []
    note = " · ".join(notes)
    return Block("table", table=table, caption=name or table.caption, note=note, link=link)


def _add_figure(page: _Body, bundle: dict[str, Any], entry: dict[str, Any]) -> None:
    page.figures += 1
    alt = plain(str(entry.get("alt", "")))
    label = alt or (f"Figure: {page.heading}" if page.heading else f"Figure {page.figures}")
    link = file_link(entry, "figure")
    try:
        html = _picture(bundle, f"f{page.figures}-", label)
    except RunError as error:
        page.blocks.append(Block("figure", caption=label, note=str(error), link=link))
        return
    if page.figure_bytes + len(html) > _MOST_FIGURE_BYTES:
        note = f"This figure is too large for a page ({len(html) / 1e6:.1f} MB)"
        page.blocks.append(Block("figure", caption=label, note=note, link=link))
        return
    page.figure_bytes += len(html)
    page.blocks.append(Block("figure", html, caption=alt, link=link))


def _picture(bundle: dict[str, Any], prefix: str, label: str) -> Markup:
    if "image/svg+xml" in bundle:
        return clean_svg(bundle["image/svg+xml"], prefix, label)
    kind = "png" if "image/png" in bundle else "jpeg"
    encoded = bundle[f"image/{kind}"]
    if not _PICTURE.fullmatch(encoded):
        raise RunError("a picture is not valid base64")
    source = f"data:image/{kind};base64,{''.join(encoded.split())}"
    return Markup('<img src="{}" alt="{}">').format(source, escape(label))
