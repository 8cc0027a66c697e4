"""How values look in JupyterLab: one line of reading, and a table."""

import os
import sys
from html import escape
from typing import Any

from journeylab.pseudonyms import hide_ids, ids_allowed

_ROWS_SHOWN = 20
RECORD_MIME = "application/vnd.journeylab.record+json"


def _shell() -> Any:
    """The running IPython shell, or None; IPython is not imported to find out."""
    ipython = sys.modules.get("IPython")
    return ipython.get_ipython() if ipython is not None else None


def number_text(number: float) -> str:
    """A number for reading: thousands separated, four significant digits below a thousand."""
    if isinstance(number, int) or abs(number) >= 1000:
        return f"{number:,.0f}"
    return f"{number:.4g}"


def estimate_text(value: float, ci_low: float, ci_high: float, level: float, unit: str) -> str:
    """``12.3 purchases (95 % interval 10 to 14.5)``."""
    low, high = number_text(ci_low), number_text(ci_high)
    return f"{number_text(value)} {unit} ({100 * level:g} % interval {low} to {high})"


def frame_html(frame: Any) -> str:
    """A table of the first rows, escaped, and how many there are in all."""
    table: str = frame.head(_ROWS_SHOWN).to_html(border=0, escape=True)
    if len(frame) > _ROWS_SHOWN:
        table += f"<p>First {_ROWS_SHOWN} of {len(frame):,} rows</p>"
    return table


def mapping_html(mapping: dict[str, Any]) -> str:
    """A mapping as a table of two columns, escaped."""
    rows = "".join(
        f"<tr><th>{escape(str(name))}</th><td>{escape(str(value))}</td></tr>"
        for name, value in mapping.items()
    )
    return f"<table><tbody>{rows}</tbody></table>"


def show(entry: dict[str, Any], bundle: dict[str, Any]) -> None:
    """Display a record in its notebook; outside of one nothing is shown.

    Args:
        entry: ``name``, ``kind`` and what results.json holds; goes along for the page.
        bundle: MIME type to content.
    """
    if _shell() is None:
        return
    from IPython.display import display

    display({RECORD_MIME: entry, **bundle}, raw=True)


def _result_html(value: object) -> str | None:
    """HTML of a JourneyLab result; None for anything else."""
    kind = type(value)
    if not kind.__module__.startswith("journeylab."):
        return None
    if kind.__name__ == "Estimate":
        names = ("value", "ci_low", "ci_high", "level", "unit")
        return f"<p>{escape(estimate_text(*(getattr(value, name) for name in names)))}</p>"
    summary = getattr(value, "summary", None)
    if not callable(summary):
        return None
    reading = (kind.__doc__ or kind.__name__).strip().splitlines()[0]
    return f"<p>{escape(reading)}</p>{frame_html(summary())}"


def _object_html(value: Any) -> Any:
    """HTML of any object: ours where we have some, otherwise what IPython would have shown."""
    from IPython.utils.dir2 import get_real_method

    html = _result_html(value)
    if html is not None:
        return html
    value = _without_ids(value)
    method = get_real_method(value, "_repr_html_")
    return method() if method is not None else None


def _without_ids(value: Any) -> Any:
    """A pandas frame or series of a run with pseudonyms in place of ids; others as they are."""
    pandas = sys.modules.get("pandas")
    if pandas is None or "JOURNEYLAB_RUN_FOLDER" not in os.environ or ids_allowed():
        return value
    if isinstance(value, pandas.DataFrame):
        return hide_ids(value)
    if isinstance(value, pandas.Series):
        frame = value.to_frame()
        shown = hide_ids(frame)
        return value if shown is frame else shown.iloc[:, 0]
    return value


def _frame_text(value: Any, printer: Any, cycle: bool) -> None:
    printer.text(repr(_without_ids(value)))


def register_formatters() -> None:
    """Show JourneyLab results well in this IPython session; nothing happens outside of one.

    IPython looks a formatter up along the class hierarchy. Ours stands at its very end, on
    ``object``, and reads the class only when a value is shown: so no topic has to be imported
    here, none has to know of IPython, and formatters of other packages come first.
    """
    shell = _shell()
    if shell is not None:
        shell.display_formatter.formatters["text/html"].for_type(object, _object_html)
        plain = shell.display_formatter.formatters["text/plain"]
        for name in ("DataFrame", "Series"):
            # pandas keeps its classes in one place and names them after another
            for module in ("pandas.core.frame", "pandas.core.series", "pandas"):
                plain.for_type_by_name(module, name, _frame_text)
