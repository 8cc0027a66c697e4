"""Markup: the texts and tables of HTML, SVG and XML, with all that is not shown."""

import re
from collections.abc import Callable, Sequence
from html.parser import HTMLParser

from journeylab.pseudonyms import is_personal

# text goes on across these: what one word is split into reads as one word
_WITHIN_A_LINE = frozenset(
    {"a", "abbr", "b", "bdi", "bdo", "cite", "code", "em", "font", "i", "kbd", "mark", "q", "s",
     "samp", "small", "span", "strong", "sub", "sup", "t", "tspan", "tt", "u", "var", "wbr", "r"}
)  # fmt: skip
# drawn lines are numbers only; whatever else stands there is read
_DRAWN = re.compile(r"[MLHVCSQTAZmlhvcsqtaz\d\s.,eE+-]*")
_DRAWING = frozenset({"d", "points", "x", "y", "dx", "dy", "x1", "x2", "y1", "y2", "transform"})

AddText = Callable[[str, str], None]
AddColumn = Callable[[str, str, Sequence[str]], None]


class _Reader(HTMLParser):
    """Collects texts by line and tables by column."""

    def __init__(self, add_text: AddText, add_column: AddColumn) -> None:
        super().__init__(convert_charrefs=True)
        self._add_text = add_text
        self._add_column = add_column
        self._line: list[str] = []
        self._where = ""
        self._tables: list[list[list[tuple[str, bool]]]] = []
        self._cells: list[list[str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in _WITHIN_A_LINE:
            self._end_line()
        line = self.getpos()[0]
        for name, value in attrs:
            if value and not (name in _DRAWING and _DRAWN.fullmatch(value)):
                self._add_text(f"line {line}, {tag} {name}", value)
        if tag == "table":
            self._tables.append([])
            self._cells.append([])
        elif self._tables and tag == "tr":
            self._tables[-1].append([])
        elif self._tables and tag in ("td", "th"):
            if not self._tables[-1]:
                self._tables[-1].append([])
            self._tables[-1][-1].append(("", tag == "th"))
            self._cells[-1] = [tag]

    def handle_endtag(self, tag: str) -> None:
        if tag not in _WITHIN_A_LINE:
            self._end_line()
        if self._tables and tag in ("td", "th"):
            self._cells[-1] = []
        elif self._tables and tag == "table":
            self._cells.pop()
            self._end_table(self._tables.pop())

    def handle_data(self, data: str) -> None:
        if not self._line:
            self._where = f"line {self.getpos()[0]}"
        self._line.append(data)
        if self._tables and self._cells[-1]:
            text, head = self._tables[-1][-1][-1]
            self._tables[-1][-1][-1] = (text + data, head)

    def handle_comment(self, data: str) -> None:
        self._aside("comment", data)

    def handle_decl(self, decl: str) -> None:
        self._aside("declaration", decl)

    def handle_pi(self, data: str) -> None:
        self._aside("instruction", data)

    def unknown_decl(self, data: str) -> None:
        # CDATA of an SVG or XML file
        self._aside("section", data.removeprefix("CDATA["))

    def close(self) -> None:
        super().close()
        self._end_line()
        while self._tables:
            self._end_table(self._tables.pop())

    def _aside(self, what: str, text: str) -> None:
        self._add_text(f"line {self.getpos()[0]}, {what}", text)

    def _end_line(self) -> None:
        text = "".join(self._line)
        self._line = []
        if text.strip():
            self._add_text(self._where, text)

    def _end_table(self, rows: list[list[tuple[str, bool]]]) -> None:
        """Columns of people's ids, by their name in any row of names; and pairs of name, value."""
        line = self.getpos()[0]
        for number, row in enumerate(rows):
            names = all(head for _, head in row)
            for place, (text, head) in enumerate(row):
                name = text.strip()
                if not head or not is_personal(name):
                    continue
                where = f"table before line {line}, {name}"
                if names and len(rows) > 1:
                    below = [r[place] for r in rows[number + 1 :] if place < len(r)]
                    # pandas names the index on a second row of names
                    values = [cell for cell, _ in below if not is_personal(cell.strip())]
                else:
                    values = [cell for cell, also in row[place + 1 :] if not also]
                self._add_column(where, name, [value.strip() for value in values])


def read_markup(source: str, add_text: AddText, add_column: AddColumn) -> None:
    """Hand over every text of HTML, SVG or XML, and its columns of people's ids.

    Args:
        source: Markup of any origin.
        add_text: Told where a text stands, and the text.
        add_column: Told where a column stands, its name, and its cells.
    """
    reader = _Reader(add_text, add_column)
    reader.feed(source)
    reader.close()
