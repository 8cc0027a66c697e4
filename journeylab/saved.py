"""Fits in files: readable JSON that says what it is and by which version it can be read."""

import json
from pathlib import Path
from typing import Any

from journeylab.errors import ContractError


def write_saved(
    path: str | Path, form: str, version: int, content: dict[str, Any], indent: int = 2
) -> Path:
    """Write a fit's content; the same content gives the same bytes.

    Args:
        path: File to write; folders on the way are made.
        form: What the file holds, for whoever reads it.
        version: Of the form.
        content: Values that JSON knows, floats finite.
        indent: Spaces per level.
    """
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    whole = {"format": form, "version": version, **content}
    file.write_text(json.dumps(whole, indent=indent, allow_nan=False) + "\n", encoding="utf-8")
    return file


def read_saved(path: str | Path, form: str, version: int, what: str, writer: str) -> dict[str, Any]:
    """Read what ``write_saved`` wrote.

    Args:
        path: The file.
        form: As written.
        version: As written.
        what: Of the content, in words, for the error.
        writer: Function that writes such a file, for the error.

    Raises:
        ContractError: The file is missing, no JSON, of another form, or of another version.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ContractError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ContractError(f"{path} holds no saved fit: it is not JSON ({error})") from error
    if not isinstance(content, dict) or content.get("format") != form:
        raise ContractError(f"{path} holds no {what}: write it with {writer}")
    if content.get("version") != version:
        raise ContractError(
            f"{path} has format version {content.get('version')!r}, this JourneyLab reads "
            f"{version}: fit again, or use the JourneyLab that wrote it"
        )
    return content
