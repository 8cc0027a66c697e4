"""Pages to hand over: without code where asked for, and many as one."""

import re
from collections.abc import Mapping

from journeylab.errors import RunError

# As the templates of the report write them; what is inside is escaped, so no end tag hides there.
_CODE = re.compile(
    r'<details class="code">.*?</details>\s*'
    r"|<details[^>]*><summary>Traceback</summary>.*?</details>\s*"
    r'|(?<=</p>\n)<pre tabindex="0"><code>.*?</code></pre>\s*',
    re.DOTALL,
)
_TAG = re.compile(r"<[A-Za-z][^<>]*>")
_ID = re.compile(r'(\s(?:id|aria-labelledby|aria-describedby|for)=")([^"]+)(")')
_OWN_PLACE = re.compile(r'(\s(?:xlink:)?href="#)([^"]+)(")')
_DRAWN_PLACE = re.compile(r"(url\((?:&#39;|&quot;|['\"])?#)([^)'\"&]+)")
_LINK = re.compile(r'<a href="([^"#][^"]*)"[^>]*>(.*?)</a>', re.DOTALL)
_MAIN = re.compile(r"<main>(.*)</main>", re.DOTALL)
_HEAD = re.compile(r"\A(.*?<body>\n?)", re.DOTALL)
_ABROAD = re.compile(r"(?:https?:|mailto:)", re.IGNORECASE)


def without_code(page: str) -> str:
    """A page of the report without code, logs and tracebacks, and without links to notebooks."""
    page = _CODE.sub("", page)
    return re.sub(r'<a href="[^"]*\.ipynb"[^>]*>.*?</a>\s*', "", page)


def without_links_to(page: str, missing: "set[str] | frozenset[str]", folder: str) -> str:
    """A page whose links to files that do not come along are plain text.

    Args:
        page: HTML of the report.
        missing: Paths within the run that are left out.
        folder: Of the page within the run, with a slash; empty for the index.
    """

    def plain(link: re.Match[str]) -> str:
        return link[2] if f"{folder}{link[1]}" in missing else link[0]

    return _LINK.sub(plain, page)


def one_page(index: str, pages: Mapping[str, str]) -> str:
    """The index and all pages of a run as one page that needs no other file.

    Args:
        index: HTML of the run's index.
        pages: Folder of each notebook to its page's HTML.

    Returns:
        One document: what was linked within the run is found further down, files that are not
        part of it are named and not linked, ids are told apart by their notebook.

    Raises:
        RunError: A page is not one of the report's.
    """
    head = _HEAD.match(index)
    if head is None:
        raise RunError("index.html is no page of the report; build the run's pages again")
    places = {name: f"page-{number}" for number, name in enumerate(sorted(pages), start=1)}
    parts = [_section(index, "", "top", places)]
    parts += [_section(pages[name], f"{name}/", places[name], places) for name in sorted(pages)]
    return f"{head[1]}{''.join(parts)}</body>\n</html>\n"


def _section(page: str, folder: str, place: str, places: Mapping[str, str]) -> str:
    found = _MAIN.search(page)
    if found is None:
        raise RunError(f"{folder or 'index.html'} is no page of the report; build the pages again")
    prefix = f"{place}-"

    def apart(tag: re.Match[str]) -> str:
        text = _ID.sub(rf"\g<1>{prefix}\g<2>\g<3>", tag[0])
        text = _OWN_PLACE.sub(rf"\g<1>{prefix}\g<2>\g<3>", text)
        return _DRAWN_PLACE.sub(rf"\g<1>{prefix}\g<2>", text)

    def linked(link: re.Match[str]) -> str:
        address, text = link[1], link[2]
        if address == "../index.html":
            return f'<a href="#top">{text}</a>'
        for name, at in places.items():
            if address in (f"{name}/report.html", f"../{name}/report.html"):
                return f'<a href="#{at}">{text}</a>'
        if _ABROAD.match(address):
            return link[0]
        return text

    body = _LINK.sub(linked, _TAG.sub(apart, found[1]))
    return f'<main id="{place}">{body}</main>\n'
