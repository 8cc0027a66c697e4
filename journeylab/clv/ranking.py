"""The ranked list as a file that a spreadsheet opens, and opens harmlessly."""

from os import PathLike
from pathlib import Path

import pandas as pd

# A cell that begins with one of these is run as a formula by common spreadsheets; the full-width
# forms are taken for the plain ones by some of them.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def write_ranking(frame: pd.DataFrame, path: str | PathLike[str]) -> Path:
    """Write a frame as CSV that is safe to open in a spreadsheet.

    Texts (also column names) that begin like a formula get a leading apostrophe; numbers stay
    numbers. UTF-8 with a byte-order mark, so that Excel shows Chinese.

    Args:
        frame: Any; left as it is.
        path: Where to; its folder is made where missing.

    Returns:
        The path.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    texts = frame.select_dtypes(exclude=["number", "bool", "datetime", "datetimetz", "timedelta"])
    safe = frame.assign(**{str(name): texts[name].map(_harmless) for name in texts.columns})
    safe.columns = pd.Index([_harmless(name) for name in safe.columns])
    partial = target.with_name(f".{target.name}.partial")
    safe.to_csv(partial, index=False, encoding="utf-8-sig", lineterminator="\r\n")
    partial.replace(target)
    return target


def _harmless(cell: object) -> object:
    if isinstance(cell, str) and cell.lstrip(" ").startswith(_FORMULA):
        return f"'{cell}"
    return cell
