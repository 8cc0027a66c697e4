"""Secrets: parameters that name a variable of the environment, whose value is kept nowhere.

In a parameters cell: ``token: Secret = "env:CRM_TOKEN"``; where it is used:
``open_secret(token)``.
"""

import base64
import contextlib
import html
import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote, quote_plus

from journeylab.errors import RunError
from journeylab.runs.writing import write_whole

# Names, not values: of the variables that hold secrets of this run.
NAMES_VARIABLE = "JOURNEYLAB_SECRETS"

_REFERENCE = re.compile(r"env:([A-Za-z_][A-Za-z0-9_]*)")
# a shorter one would be found in words and numbers that have nothing to do with it
_SHORTEST = 8
_TEXTS = frozenset({".csv", ".tsv", ".json", ".txt", ".svg", ".html", ".md", ".log", ".ipynb"})


class Secret(str):
    """Type of a parameter that names a variable of the environment: ``"env:CRM_TOKEN"``."""

    __slots__ = ()


def is_reference(text: str) -> bool:
    """Whether a text names a variable of the environment: ``env:NAME``."""
    return _REFERENCE.fullmatch(text) is not None


def open_secret(reference: str) -> str:
    """The value behind ``env:NAME``, for use in this process only.

    Raises:
        RunError: The text is no such reference, or the variable is not set.
    """
    found = _REFERENCE.fullmatch(reference)
    if found is None:
        raise RunError("a secret is named as 'env:NAME', after a variable of the environment")
    value = os.environ.get(found[1])
    if not value:
        raise RunError(f"the environment has no {found[1]}; set it before the run starts")
    return value


def declare_secrets(parameters: Iterable[object]) -> None:
    """Remember whose values must not be kept, here and in every process started from here.

    Args:
        parameters: Values of parameters of all kinds; references to secrets are taken from them.

    Raises:
        RunError: A variable is not set, or too short to be told from other text.
    """
    names = {found[1] for each in parameters if (found := _REFERENCE.fullmatch(str(each)))}
    for name in sorted(names):
        if len(open_secret(f"env:{name}")) < _SHORTEST:
            raise RunError(
                f"{name} has fewer than {_SHORTEST} characters: so short a secret cannot be told "
                "from other text, and could not be kept out of the record"
            )
    if names:
        known = os.environ.get(NAMES_VARIABLE, "").split(",")
        os.environ[NAMES_VARIABLE] = ",".join(sorted(names | set(filter(None, known))))


def secret_values() -> dict[str, str]:
    """Every spelling of every secret's value, and the name that stands for it; longest first."""
    spelled: dict[str, str] = {}
    for name in filter(None, os.environ.get(NAMES_VARIABLE, "").split(",")):
        if value := os.environ.get(name):
            encoded = value.encode()
            for text in (
                value,
                json.dumps(value)[1:-1],
                json.dumps(value, ensure_ascii=False)[1:-1],
                repr(value)[1:-1],
                html.escape(value),
                html.escape(value, quote=False),
                html.escape(value, quote=False).replace("'", "&#39;").replace('"', "&#34;"),
                quote(value, safe=""),
                quote_plus(value),
                base64.b64encode(encoded).decode().rstrip("="),
                base64.urlsafe_b64encode(encoded).decode().rstrip("="),
                encoded.hex(),
            ):
                spelled[text] = f"env:{name}"
    return dict(sorted(spelled.items(), key=lambda pair: -len(pair[0])))


def hide_secrets(text: str) -> str:
    """Text with the name of each secret in place of its value."""
    if not os.environ.get(NAMES_VARIABLE):
        return text
    for value, name in secret_values().items():
        text = text.replace(value, name)
    return text


def sweep(folder: Path) -> list[str]:
    """Take every secret's value out of the files of a folder.

    Args:
        folder: A notebook's own, all written.

    Returns:
        Files that cannot be written without it (Parquet, pictures, archives): they are removed.
    """
    values = secret_values()
    if not values:
        return []
    removed = []
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.is_symlink():
            continue
        content = path.read_bytes()
        bare = any(value.encode() in content for value in values)
        if path.suffix.lower() in _TEXTS:
            if bare:
                # bytes that are no text come back as they were
                text = hide_secrets(content.decode("utf-8", "surrogateescape"))
                write_whole(path, text.encode("utf-8", "surrogateescape"))
        elif bare or _holds_inside(path.name, content, values):
            path.unlink()
            removed.append(path.relative_to(folder).as_posix())
    return removed


def _holds_inside(name: str, content: bytes, values: Iterable[str]) -> bool:
    """Whether a compressed file holds a value, in itself or in a file within it."""
    from journeylab.errors import JourneyLabError
    from journeylab.sharing.contents import read_content

    waiting = [(name, content)]
    with contextlib.suppress(JourneyLabError):
        while waiting:
            found = read_content(*waiting.pop())
            texts = [piece.text for piece in found.pieces]
            texts += [value for column in found.columns for value in column.values]
            if any(value in text for text in texts for value in values):
                return True
            waiting += [(part.name, part.content) for part in found.parts]
    return False
