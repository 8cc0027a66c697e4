"""References between notebooks: ``"@clv(data=simulated)/value?"``."""

import re
from dataclasses import dataclass
from hashlib import sha256

from journeylab.errors import RunError
from journeylab.runs.parameters import Value

RECORD_NAME = re.compile(r"[a-z][a-z0-9_]*")

_REFERENCE = re.compile(
    r"@(?P<notebook>[A-Za-z]\w*)(?:\((?P<bindings>[^()]*)\))?/(?P<record>[^/?]+)(?P<optional>\?)?"
)
_LONGEST_VALUE = 40


@dataclass(frozen=True, slots=True)
class Reference:
    """What another notebook recorded.

    Attributes:
        notebook: Name of that notebook, without its number.
        bindings: Parameters it must have had, as name and text, sorted by name.
        record: Name of the record.
        optional: None stands in for it when it is missing.
    """

    notebook: str
    bindings: tuple[tuple[str, str], ...]
    record: str
    optional: bool


def read_reference(text: str, where: str) -> Reference:
    """Read a reference.

    Args:
        text: Such as ``"@clv/value"``.
        where: What holds the reference, for the message.

    Raises:
        RunError: The text is no reference.
    """
    parts = _REFERENCE.fullmatch(text.strip())
    if parts is None or not RECORD_NAME.fullmatch(parts["record"]):
        raise RunError(
            f"{where}: {text!r} is not a reference; write '@notebook/record', "
            "'@notebook(parameter=value)/record', and a trailing '?' where it may be missing"
        )
    bindings: dict[str, str] = {}
    for binding in filter(None, (piece.strip() for piece in (parts["bindings"] or "").split(","))):
        name, equals, value = (piece.strip() for piece in binding.partition("="))
        if not equals or not name or not value or name in bindings:
            raise RunError(f"{where}: {binding!r} in {text!r} must read parameter=value, once each")
        bindings[name] = value.strip("\"'")
    return Reference(
        parts["notebook"], tuple(sorted(bindings.items())), parts["record"], bool(parts["optional"])
    )


def instance_name(stem: str, bindings: dict[str, Value]) -> str:
    """Folder of a notebook run with bound parameters: ``30_clv--data-simulated``."""
    return "--".join([stem, *(f"{name}-{_slug(bindings[name])}" for name in sorted(bindings))])


def _slug(value: Value) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    slug = re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.")[:_LONGEST_VALUE]
    if slug == text:
        return slug
    # what the folder name cannot spell must still not collide
    return f"{slug}-{sha256(text.encode()).hexdigest()[:6]}".lstrip("-")
