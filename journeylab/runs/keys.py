"""The content key of a notebook: equal keys mean equal results, so the work need not be done again.

A key is made of parts, and a part that differs says why a notebook has to run.
"""

import io
import json
import os
import platform
import tokenize
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import pbkdf2_hmac, sha256
from pathlib import Path
from typing import Any

import journeylab
from journeylab.pseudonyms import ALLOW_VARIABLE, KEY_VARIABLE, ids_allowed
from journeylab.runs.manifest import installed_versions, lock_hash
from journeylab.runs.notebooks import read_cells
from journeylab.runs.plan import Instance
from journeylab.runs.reach import PackageSources

# What each part is called where somebody is told that it changed.
PART_WORDS = {
    "code": "its code",
    "parameters": "its parameters",
    "upstream": "what it reads from other notebooks",
    "data": "its data",
    "files": "a file it was given",
    "sources": "the package",
    "environment": "Python, the lock or an installed version",
}
_NO_MEANING = frozenset({tokenize.COMMENT, tokenize.NL, tokenize.ENCODING})
_ONLY_SHAPE = frozenset({tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER})


@dataclass(frozen=True, slots=True)
class ContentKey:
    """What the results of one notebook rest on.

    Attributes:
        parts: Hash of the code, parameters, upstream results, data, files that parameters name,
            package sources, environment.
        sources: Hash of each module of the package that is reached.
        digest: One hash (64 hex digits) of all parts, of the secret pseudonyms are made with, and
            of whether ids are kept as they are.
    """

    parts: dict[str, str]
    sources: dict[str, str]
    digest: str


@dataclass
class KeyMaker:
    """Makes keys for one run: what all notebooks share is read once."""

    project: Path
    package: PackageSources = field(
        default_factory=lambda: PackageSources(Path(journeylab.__file__).resolve().parent)
    )
    _environment: str = ""

    def key(self, instance: Instance, upstream: Mapping[str, dict[str, str] | None]) -> ContentKey:
        """The key of an instance.

        Args:
            instance: As planned.
            upstream: Of each instance it needs the hashes of what came out, by path; None where
                nothing did.
        """
        code = [
            cell["source"]
            for cell in read_cells(instance.notebook.path)
            if cell["cell_type"] == "code"
        ]
        sources = self.package.reached(code)
        if not self._environment:
            self._environment = _hash(
                [platform.python_version(), lock_hash(self.project), installed_versions()]
            )
        parts = {
            "code": _hash([instance.notebook.name, *(meaningful(source) for source in code)]),
            "parameters": _hash(instance.parameters),
            "upstream": _hash(
                {name: _readable(upstream[needed]) for name, needed in instance.reads.items()}
            ),
            "data": instance.data_fingerprint or "",
            "files": _hash({name: _content(path) for name, path in instance.files.items()}),
            "sources": _hash(sources),
            "environment": self._environment,
        }
        return ContentKey(parts, sources, _digest(parts, ids_allowed()))


def changed_identity(entry: Mapping[str, Any]) -> str | None:
    """What about people's ids is not as it was when a notebook ran, in words; None where all is.

    A manifest keeps no key and nothing to try keys against but the digest of a finished notebook:
    so that is made anew.

    Args:
        entry: Of the notebook in its run's manifest.
    """
    parts, digest = entry.get("key_parts"), entry.get("key")
    if not parts or not digest or _digest(parts, ids_allowed()) == digest:
        return None
    if _digest(parts, not ids_allowed()) == digest:
        then, now = ("set", "is not set") if not ids_allowed() else ("not set", "is set")
        return f"{ALLOW_VARIABLE} was {then} then, and {now} now"
    return f"{KEY_VARIABLE} is not the one of then, so that pseudonyms differ"


def _digest(parts: Mapping[str, str], ids: bool) -> str:
    secret = _pseudonym_key(os.environ.get(KEY_VARIABLE, ""))
    return _hash([parts, secret, *["ids"] * ids])


def meaningful(source: str) -> list[Any]:
    """Code of a cell as its words: no comments, no blank lines, no widths of blanks."""
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    except (tokenize.TokenError, SyntaxError):
        return [source]
    return [
        (token.type, "" if token.type in _ONLY_SHAPE else token.string)
        for token in tokens
        if token.type not in _NO_MEANING
    ]


def _readable(outputs: dict[str, str] | None) -> dict[str, str] | None:
    """What another notebook can read back: figures it cannot."""
    if outputs is None:
        return None
    return {path: value for path, value in outputs.items() if not path.startswith("figures/")}


def _content(path: str) -> str | None:
    """Hash of a file; None where there is none yet."""
    file = Path(path)
    return sha256(file.read_bytes()).hexdigest() if file.is_file() else None


def _hash(content: object) -> str:
    return sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


@lru_cache(maxsize=4)
def _pseudonym_key(secret: str) -> str:
    """Says that a key changed; dear to try words against, and short, so that it tells no key."""
    if not secret:
        return ""
    return pbkdf2_hmac("sha256", secret.encode(), b"journeylab cache", 200_000).hex()[:8]
