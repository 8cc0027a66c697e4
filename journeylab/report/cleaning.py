"""What comes out of a notebook is data: only what cannot act gets onto a page.

Text is escaped, HTML is read and written anew from a short list of harmless tags without
attributes, drawings are rebuilt from a list of harmless elements.
"""

import re
from dataclasses import dataclass, field
from html import escape
from html.parser import HTMLParser
from xml.etree import ElementTree

from markupsafe import Markup

from journeylab.errors import RunError

# a title or link ends at the bell or before the next code, so that none is searched for twice
_TERMINAL_CODES = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
# with those that turn the direction of what follows, so that a name cannot rearrange its line
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def without_controls(text: str) -> str:
    """Text without characters that act unseen: on a terminal, or on the direction of a line."""
    return _CONTROL.sub("", text)


def plain(text: str) -> str:
    """Text without terminal colours and control characters; overwritten lines are gone."""
    text = _TERMINAL_CODES.sub("", text).replace("\r\n", "\n")
    lines = (line.rstrip("\r").rsplit("\r", 1)[-1] for line in text.split("\n"))
    return without_controls("\n".join(lines))


def shortened(text: str, most: int) -> str:
    """At most about ``most`` characters: head and tail, and between them how many are left out."""
    if len(text) <= most:
        return text
    half = most // 2
    left_out = len(text) - 2 * half
    return f"{text[:half]}\n[... {left_out:,} characters left out ...]\n{text[len(text) - half :]}"


@dataclass
class Cell:
    """One cell of a table: its text, and how far it reaches."""

    text: str = ""
    head: bool = False
    columns: int = 1
    rows: int = 1


@dataclass
class RawTable:
    """A table as it was found: rows of cells, the first ``head_rows`` of them its head."""

    rows: list[list[Cell]] = field(default_factory=list)
    head_rows: int = 0
    caption: str = ""


_KEPT = frozenset(
    {"p", "br", "strong", "b", "em", "i", "code", "pre", "ul", "ol", "li", "blockquote",
     "dl", "dt", "dd", "sub", "sup", "small", "hr"}
)  # fmt: skip
# a file that a notebook left beside its page; nothing in it needs escaping
LOCAL_FILE = re.compile(r"(?:tables|figures)/[A-Za-z0-9_][A-Za-z0-9_.-]*")
_ALONE = frozenset({"br", "hr"})
_DROPPED = frozenset(
    {"script", "style", "template", "iframe", "object", "embed", "noscript", "svg", "math",
     "textarea", "select", "title", "head", "button", "form", "audio", "video", "canvas", "xmp",
     "noembed", "noframes", "plaintext"}
)  # fmt: skip


class HtmlReader(HTMLParser):
    """Reads HTML of any origin into escaped pieces of HTML and tables.

    Attributes:
        parts: In order of appearance: HTML that is safe to show, or a table.
    """

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[Markup | RawTable] = []
        self._open: list[str] = []
        self._html: list[str] = []
        self._dropping: list[str] = []
        self._table: RawTable | None = None
        self._cell: Cell | None = None
        self._in_head = self._in_caption = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep a harmless tag without its attributes; open a table, row or cell."""
        if self._dropping:
            if tag == self._dropping[-1]:
                self._dropping.append(tag)
        elif tag in _DROPPED:
            self._dropping.append(tag)
        elif tag == "table" and self._table is None:
            self._flush()
            self._table = RawTable()
        elif self._table is not None:
            self._start_in_table(self._table, tag, dict(attrs))
        elif tag in _KEPT:
            self._html.append(f"<{tag}>")
            if tag not in _ALONE:
                self._open.append(tag)
        elif tag == "a" and LOCAL_FILE.fullmatch(address := dict(attrs).get("href") or ""):
            self._html.append(f'<a href="{address}">')
            self._open.append(tag)

    def _start_in_table(self, table: RawTable, tag: str, attributes: dict[str, str | None]) -> None:
        if tag == "thead":
            self._in_head = True
        elif tag in ("tbody", "tfoot"):
            self._in_head = False
        elif tag == "caption":
            self._in_caption = True
        elif tag == "tr":
            table.rows.append([])
            table.head_rows += self._in_head
        elif tag in ("td", "th"):
            if not table.rows:
                table.rows.append([])
            reach = (_reach(attributes.get(name)) for name in ("colspan", "rowspan"))
            self._cell = Cell("", tag == "th", *reach)
            table.rows[-1].append(self._cell)
        elif tag in ("br", "p", "li", "div") and self._cell is not None and self._cell.text:
            self._cell.text += "\n"

    def handle_endtag(self, tag: str) -> None:
        """Close what was opened; what was never opened is passed over."""
        if self._dropping:
            if tag == self._dropping[-1]:
                self._dropping.pop()
        elif self._table is not None:
            if tag == "table":
                self.parts.append(self._table)
                self._table = self._cell = None
                self._in_head = False
            elif tag in ("td", "th"):
                self._cell = None
            elif tag == "thead":
                self._in_head = False
            elif tag == "caption":
                self._in_caption = False
        elif tag in self._open:
            while (last := self._open.pop()) != tag:
                self._html.append(f"</{last}>")
            self._html.append(f"</{tag}>")

    def handle_data(self, data: str) -> None:
        """Text stays text."""
        if self._dropping:
            return
        if self._table is None:
            self._html.append(escape(without_controls(data)))
        elif self._in_caption:
            self._table.caption += without_controls(data)
        elif self._cell is not None:
            self._cell.text += without_controls(data)

    def close(self) -> None:
        """Close what the source left open."""
        super().close()
        if self._table is not None:
            self.parts.append(self._table)
            self._table = None
        self._flush()

    def _flush(self) -> None:
        self._html.extend(f"</{tag}>" for tag in reversed(self._open))
        html = "".join(self._html)
        if re.sub(r"<[^>]*>|\s", "", html):
            self.parts.append(Markup(html))  # only escaped text and bare tags
        self._html, self._open = [], []


def _reach(text: str | None) -> int:
    return min(int(text), 1000) if text and text.isdecimal() and int(text) > 0 else 1


def read_html(source: str) -> list[Markup | RawTable]:
    """HTML of any origin as safe pieces and tables, in order."""
    reader = HtmlReader()
    reader.feed(source)
    reader.close()
    return reader.parts


_SVG = "{http://www.w3.org/2000/svg}"
_XLINK = "{http://www.w3.org/1999/xlink}"
_DRAWN = frozenset(
    {"svg", "g", "path", "defs", "use", "clipPath", "rect", "line", "polyline", "polygon",
     "circle", "ellipse", "text", "tspan", "title", "desc", "linearGradient", "radialGradient",
     "stop", "pattern", "image", "marker", "mask", "symbol"}
)  # fmt: skip
_PICTURE = re.compile(r"data:image/(png|jpeg|gif);base64,[A-Za-z0-9+/=\s]*")
_ADDRESS = re.compile(r"url\(\s*(['\"]?)(#?)([^'\")]*)\1\s*\)", re.IGNORECASE)
_ACTIVE = re.compile(r"\\|@|expression|javascript:|image-set|src\(|element\(|/\*", re.IGNORECASE)
_LONG_NUMBER = re.compile(r"(-?\d+\.\d{2})\d+")


def clean_svg(source: str, prefix: str, alt: str) -> Markup:
    """A drawing rebuilt from harmless elements, to be put into a page.

    Args:
        source: SVG of any origin.
        prefix: Goes before every id, so that several drawings can stand on one page.
        alt: What the drawing shows.

    Raises:
        RunError: It is no SVG, or declares entities.
    """
    source = re.sub(r"<!DOCTYPE[^>\[]*>", "", source, count=1)
    if "<!DOCTYPE" in source or "<!ENTITY" in source:
        raise RunError("a drawing that declares entities is not shown")
    try:
        root = ElementTree.fromstring(source)
    except ElementTree.ParseError as error:
        raise RunError(f"a drawing cannot be read: {error}") from error
    if root.tag not in ("svg", f"{_SVG}svg"):
        raise RunError("a drawing must begin with <svg>")
    box = root.get("viewBox") or _box(root)
    drawing = _rebuilt(root, prefix)
    for name in ("width", "height", "id"):
        drawing.attrib.pop(name, None)
    drawing.attrib.update({"viewBox": box, "role": "img", "aria-label": alt})
    html = ElementTree.tostring(drawing, encoding="unicode")
    return Markup(html)  # rebuilt from listed elements and checked attributes


def _box(root: ElementTree.Element) -> str:
    sides = [re.match(r"\d+(\.\d+)?", root.get(side, "")) for side in ("width", "height")]
    return " ".join(["0", "0", *(side[0] if side else "400" for side in sides)])


def _rebuilt(element: ElementTree.Element, prefix: str) -> ElementTree.Element:
    name = element.tag.removeprefix(_SVG)
    copy = ElementTree.Element(name)
    for key, value in element.attrib.items():
        kept = _attribute(name, key, value, prefix)
        if kept is not None:
            copy.set(*kept)
    copy.text = without_controls(element.text) if element.text and element.text.strip() else None
    for child in element:
        if isinstance(child.tag, str) and child.tag.removeprefix(_SVG) in _DRAWN:
            rebuilt = _rebuilt(child, prefix)
            # space between two pieces of text is part of the text
            rebuilt.tail = child.tail if name in ("text", "tspan") else None
            copy.append(rebuilt)
    return copy


def _attribute(element: str, key: str, value: str, prefix: str) -> tuple[str, str] | None:
    """The attribute as it may stand on a page, or None."""
    name = key.removeprefix(_XLINK)
    if name.startswith("{") or ":" in name or name.lower().startswith("on"):
        return None
    if name == "id":
        return "id", f"{prefix}{value}"
    if name == "href":
        if value.startswith("#"):
            return "href", f"#{prefix}{value[1:]}"
        return ("href", value) if element == "image" and _PICTURE.fullmatch(value) else None
    if name in ("src", "class", "tabindex", "role", "target") or name.startswith("aria-"):
        return None
    if "url(" in value.lower():
        if any(found[2] != "#" for found in _ADDRESS.finditer(value)):
            return None
        value, count = _ADDRESS.subn(lambda found: f"url(#{prefix}{found[3]})", value)
        if count != value.lower().count("url("):
            return None
    if _ACTIVE.search(value):
        return None
    if name in ("d", "points"):
        # a hundredth of a point is finer than any screen
        value = " ".join(_LONG_NUMBER.sub(r"\1", value).split())
    return name, value
