"""What every page of the site shares: templates, the style sheet, small texts, safe writing."""

import os
import re
from datetime import date, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from journeylab.report.cleaning import LOCAL_FILE, without_controls
from journeylab.report.numbers import SPACE

_HERE = Path(__file__).parent
_CHINESE = re.compile(r"[\u3400-\u9fff]")


@lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = (_HERE / "style.css").read_text(encoding="utf-8")
    environment.globals["style"] = Markup(style)  # our own style sheet
    return environment


def write(template: str, path: Path, values: dict[str, Any]) -> Path:
    """Render a template and put the page in its place whole or not at all."""
    html = without_controls(_environment().get_template(template).render(values))
    passing = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    passing.write_text(html, encoding="utf-8", newline="\n")
    passing.replace(path)
    return path


def language(*texts: str) -> str:
    """The language a reader's browser should take the page for."""
    text = "".join(texts)
    return "zh-CN" if len(_CHINESE.findall(text)) > 0.3 * max(len(text), 1) else "en"


def day(text: str) -> str:
    """An ISO date as people write it: ``30 Sep 1997``; other text as it is."""
    try:
        found = date.fromisoformat(text)
    except ValueError:
        return text
    return f"{found.day}{SPACE}{found:%b}{SPACE}{found.year}"


def moment(text: str | None) -> str:
    """An ISO time as people write it; the manifest keeps UTC."""
    if not text:
        return ""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return text
    return f"{day(found.date().isoformat())}, {found:%H:%M}{SPACE}UTC"


def first_sentence(text: str) -> tuple[str, str]:
    """The first sentence of a text, and the rest."""
    parts = re.split(r"(?<=[.!?])\s+(?=[A-Z\d$€£¥])|(?<=[。！？])\s*", text, maxsplit=1)
    return parts[0], parts[1] if len(parts) > 1 else ""


def seconds(duration: float | None) -> str:
    """A duration: ``48 s``, ``3 min 20 s``."""
    if duration is None:
        return ""
    whole = round(duration)
    if whole < 1:
        return f"{duration:.1f}{SPACE}s"
    minutes, rest = divmod(whole, 60)
    short = f"{rest}{SPACE}s"
    return short if not minutes else f"{minutes}{SPACE}min" + (f" {short}" if rest else "")


def number_of(instance: str) -> str:
    """``30`` of ``30_clv--data-simulated``."""
    found = re.match(r"\d+", instance)
    return found[0] if found else ""


def topic(entry: dict[str, Any]) -> str:
    """The notebook's name in words; short names are taken for abbreviations."""
    name = str(entry["name"]).replace("_", " ")
    return name.upper() if len(name) <= 3 else name.capitalize()


def short_source(source: Any) -> str:
    """The last part of a path or URL to data; names of data sets as they are, in words."""
    text = str(source or "").rstrip("/")
    last = re.split(r"[/\\]", text)[-1]
    return last if "." in last else last.replace("_", " ")


def lists_to_act_on(folder: Path) -> list[str]:
    """CSV tables that a notebook left, relative to its folder."""
    found = (f"tables/{path.name}" for path in folder.glob("tables/*.csv") if path.is_file())
    return sorted(path for path in found if LOCAL_FILE.fullmatch(path))


def file_link(entry: Any, key: str) -> str:
    """The file a record was kept in, relative to its notebook; nothing where it is not plain."""
    path = entry.get(key) if isinstance(entry, dict) else None
    plain = isinstance(path, str) and re.fullmatch(rf"{key}s/[A-Za-z0-9_][A-Za-z0-9_.-]*", path)
    return str(path) if plain else ""
