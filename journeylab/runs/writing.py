"""Whole files: nobody ever reads half of one."""

import json
import secrets
from pathlib import Path


def write_whole(path: Path, content: bytes | str) -> None:
    """Write beside ``path`` and rename into place."""
    beside = path.with_name(f".{path.name}.{secrets.token_hex(3)}")
    try:
        beside.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def write_json(path: Path, content: object) -> None:
    """Write JSON that depends on nothing but its content: sorted keys, finite numbers."""
    text = json.dumps(content, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
    write_whole(path, text + "\n")
