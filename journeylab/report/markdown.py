"""Markdown of notebook cells as HTML: raw HTML is shown as text, nothing is fetched."""

import re

import mistune
from markupsafe import Markup, escape
from mistune.plugins.formatting import strikethrough
from mistune.plugins.table import table

from journeylab.report.cleaning import plain

_TOP_LEVEL = 2
_LOCAL_PICTURE = re.compile(r"data:image/(png|jpeg|gif);base64,[A-Za-z0-9+/=]+")
_SAFE_LINK = re.compile(r"(https?://|mailto:|#|(?![a-z][a-z0-9+.-]*:|//|\\))", re.IGNORECASE)


class _Renderer(mistune.HTMLRenderer):
    """Headings in order below the page's own; links without a script; no remote pictures."""

    def __init__(self, last_level: int) -> None:
        super().__init__(escape=True)
        self.last_level = last_level

    def heading(self, text: str, level: int, **attrs: object) -> str:
        """A heading never more than one level below the one before it."""
        level = min(max(level, _TOP_LEVEL), self.last_level + 1, 6)
        self.last_level = level
        return f"<h{level}>{text}</h{level}>\n"

    def link(self, text: str, url: str, title: str | None = None) -> str:
        """A link, or its bare text where the address could act."""
        url = "".join(url.split())
        if not _SAFE_LINK.match(url):
            return text
        return f'<a href="{escape(url)}" rel="noopener noreferrer">{text}</a>'

    def image(self, text: str, url: str, title: str | None = None) -> str:
        """A picture that lies in the page itself; of any other only the description."""
        if _LOCAL_PICTURE.fullmatch(url):
            alt = escape(Markup(text).striptags())  # only to take the tags out
            return f'<img src="{url}" alt="{alt}">'
        return text

    def table(self, text: str) -> str:
        """A table that scrolls by itself where it is too wide."""
        return f'<div class="table" tabindex="0"><table>{text}</table></div>\n'

    def block_code(self, code: str, info: str | None = None) -> str:
        """Code in prose."""
        return f'<pre tabindex="0"><code>{escape(code)}</code></pre>\n'


def render(source: str, last_level: int = 1) -> tuple[Markup, int]:
    """Markdown as safe HTML, and the level of its last heading.

    Args:
        source: Of one cell.
        last_level: Level of the heading before it on the page.
    """
    renderer = _Renderer(last_level)
    convert = mistune.Markdown(renderer, plugins=[table, strikethrough])
    html = str(convert(plain(source)))
    return Markup(html), renderer.last_level  # the renderer escapes
