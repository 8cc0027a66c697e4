"""A bundle: a run as one file to hand over, made only when the gate lets all of it through."""

import io
import json
import os
import secrets
import tempfile
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from journeylab.errors import RunError
from journeylab.report import write_index, write_page
from journeylab.sharing.gate import GateError, ids_in, inspect
from journeylab.sharing.pages import one_page, without_code, without_links_to
from journeylab.sharing.redaction import Redaction, redact
from journeylab.sharing.traces import Known, this_machine

_EARLIEST = (1980, 1, 1, 0, 0, 0)
_FOR_READERS = ("report.html", "results.json", "notebook.ipynb")
_SUMMARY = "summary.json"
_KEPT_FOLDERS = ("tables", "figures")


@dataclass(frozen=True, slots=True)
class Bundle:
    """A run that may leave.

    Attributes:
        path: The file made.
        files: What is in it, relative to the run; one page for HTML.
        size: Bytes.
        redaction: What was hidden and left out.
    """

    path: Path
    files: tuple[str, ...]
    size: int
    redaction: Redaction


def share(
    run: Path,
    out: Path,
    *,
    code: bool = True,
    lists: bool = False,
    k: int = 10,
    ids: Iterable[str] = (),
    known: Known | None = None,
) -> Bundle:
    """Write a run as one HTML page or as a zipped site, if nothing in it must stay here.

    Args:
        run: The run's folder.
        out: ``.html`` for one page that needs no other file, ``.zip`` for the site with its
            records.
        code: Whether code comes along, in pages and as notebooks.
        lists: Whether tables with a row for each person (lists to act on) come along; their ids
            are pseudonyms in any case.
        k: The fewest people that may be shown. Smaller counts are blank in tables, records, lists
            and pages, with what would give them away; figures that draw them are held back. 1
            hides no count.
        ids: Ids of customers to look for, besides those that stand in the run's own tables.
        known: Names and folders that are private; those of this machine by default.

    Raises:
        RunError: The folder is no run, has no pages, ``out`` is neither HTML nor zip, or ``k`` is
            below 1.
        GateError: Something in it must stay here; nothing was written.
    """
    suffix = out.suffix.lower()
    if suffix not in (".html", ".zip"):
        raise RunError(f"-o must end in .html (one page) or .zip (the site); got {out.name!r}")
    if k < 1:
        raise RunError(f"k is the fewest people that may be shown, from 1; got {k}")
    run = run.resolve()
    if not (run / "manifest.json").is_file() or not (run / "index.html").is_file():
        raise RunError(f"{run.name} is not a finished run: it has no manifest.json and index.html")
    known = known or this_machine()
    known = replace(known, ids=known.ids | frozenset(ids) | ids_in(run))
    files = _files(run)
    redaction = redact(files, k, lists)
    if redaction.changed:
        _build_again(files, redaction)
    _finish(files, run, code)
    if suffix == ".html":
        files = {out.name: _as_one_page(files)}
    if findings := inspect(files, known):
        raise GateError(findings)
    content = files[out.name] if suffix == ".html" else _zipped(files)
    _write(out, content)
    return Bundle(out, tuple(sorted(files)), len(content), redaction)


def _files(run: Path) -> dict[str, bytes]:
    """The files of a run that pages are made of and readers open; logs and journals stay."""
    chosen = [run / name for name in ("index.html", "manifest.json", _SUMMARY)]
    for folder in sorted(run.iterdir()):
        if not folder.is_dir() or folder.is_symlink() or folder.name.startswith("."):
            continue
        chosen += [folder / name for name in _FOR_READERS]
        for kept in _KEPT_FOLDERS:
            chosen += sorted(folder.glob(f"{kept}/*"))
    return {
        path.relative_to(run).as_posix(): path.read_bytes()
        for path in chosen
        if path.is_file() and not path.is_symlink() and not path.name.startswith(".")
    }


def _build_again(files: dict[str, bytes], redaction: Redaction) -> None:
    """Make the pages of what was redacted anew, in place: nothing of the old ones is left."""
    with tempfile.TemporaryDirectory(prefix="journeylab-share-") as scratch:
        run = Path(scratch)
        for name, content in files.items():
            (run / name).parent.mkdir(parents=True, exist_ok=True)
            (run / name).write_bytes(content)
        manifest = json.loads(files["manifest.json"])
        for entry in manifest.get("notebooks", []):
            folder = str(entry["instance"])
            if folder in redaction.changed and f"{folder}/report.html" in files:
                page = write_page(run / folder, manifest, entry)
                files[f"{folder}/report.html"] = page.read_bytes()
        files["index.html"] = write_index(run).read_bytes()


def _finish(files: dict[str, bytes], run: Path, code: bool) -> None:
    """Leave out, in place, what only pages are made of, and links to what does not come along."""
    for name in [name for name in files if name == _SUMMARY or not (code or name[-6:] != ".ipynb")]:
        del files[name]
    there = {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()}
    left_out = frozenset(there - set(files))
    for name, content in files.items():
        if name.endswith(".html"):
            page = content.decode("utf-8")
            page = page if code else without_code(page)
            folder_name = name.rpartition("/")[0]
            page = without_links_to(page, left_out, f"{folder_name}/" if folder_name else "")
            files[name] = page.encode("utf-8")


def _as_one_page(files: dict[str, bytes]) -> bytes:
    pages = {
        name.removesuffix("/report.html"): content.decode("utf-8")
        for name, content in files.items()
        if name.endswith("/report.html")
    }
    return one_page(files["index.html"].decode("utf-8"), pages).encode("utf-8")


def _zipped(files: dict[str, bytes]) -> bytes:
    """The same bytes for the same files: sorted, without times and owners."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            member = zipfile.ZipInfo(name, _EARLIEST)
            member.compress_type = zipfile.ZIP_DEFLATED
            member.external_attr = 0o644 << 16
            archive.writestr(member, files[name])
    return buffer.getvalue()


def _write(out: Path, content: bytes) -> None:
    beside = out.with_name(f".{out.name}.{os.getpid()}.{secrets.token_hex(3)}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        beside.write_bytes(content)
        beside.replace(out)
    except OSError as error:
        raise RunError(f"cannot write {out.name}: {error.strerror}") from error
    finally:
        beside.unlink(missing_ok=True)
