"""Traces: what in a text names a person, a machine or a secret.

Each kind is found by its form and, where it has one, by its check digit: a number that only looks
like a card is no card. Full-width digits, invisible characters and dashes of any kind are read as
a person would read them.
"""

import getpass
import math
import re
import socket
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote

PHONE, EMAIL, ID_CARD, BANK_CARD, TOKEN, HOME, MACHINE, ID = (
    "phone number",
    "e-mail address",
    "ID-card number",
    "bank card",
    "token",
    "home path",
    "user or host name",
    "customer id",
)

# names that many machines share say nothing about one
_COMMON_NAMES = frozenset(
    {"admin", "administrator", "app", "build", "builder", "circleci", "codespace",
     "container", "data", "default", "docker", "dev", "guest", "host", "jenkins", "jovyan",
     "jupyter", "lab", "linux", "local", "localhost", "main", "notebook", "python", "root",
     "run", "runner", "server", "test", "ubuntu", "user", "vagrant", "vscode", "work",
     "worker", "workspace"}
)  # fmt: skip
_SHORTEST_NAME = 4

# invisible: zero-width, soft hyphen, directions, byte-order mark, variation selectors
_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufe00-\ufe0f\ufeff]")
_DASHES = re.compile("[\u2010-\u2015\u2212\ufe63\uff0d]")

# A number begins and ends where no other number, hexadecimal hash or decimal fraction goes on;
# ".0" is what a column of whole numbers with gaps becomes.
_FROM = r"(?<![0-9A-Fa-f])(?<!\d[.,])"
_TO = r"(?:(?=\.0(?![0-9]))|(?![0-9A-Fa-f]|[.,]\d))"

_MOBILE = re.compile(_FROM + r"(?:(?:\+|00)?86[ -]?)?1[3-9]\d[ -]?\d{4}[ -]?\d{4}" + _TO)
_LANDLINE = re.compile(_FROM + r"\(?0(?:10|2\d|[3-9]\d{2})(?:-|\) ?)[2-8]\d{6,7}" + _TO)
_E164 = re.compile(r"(?<![\w.)+])\+[1-9](?:[ -]?\(?\d\)?){7,14}" + _TO)
_CALLING_CODES = re.compile(
    r"1|7|2[07]|3[0-469]|4[013-9]|5[1-8]|6[0-6]|8[1246]|9[0-58]"
    r"|2[1-69]\d|35\d|37\d|38\d|42\d|5[09]\d|6[789]\d|8[05678]\d|9[679]\d"
)
_EMAIL = re.compile(
    r"(?<![\w.+-])[\w.+-]{1,64}@(?:[\w](?:[\w-]{0,61}[\w])?\.){1,8}[^\W\d_]{2,24}(?![\w-])"
)
_ID_CARD = re.compile(
    _FROM + r"(?:1[1-5]|2[1-3]|3[1-7]|4[1-6]|5[0-4]|6[1-5]|71|8[1-3]|91)\d{4}[ -]?"
    r"(?:18|19|20)\d{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])[ -]?\d{3}[\dXx](?![0-9A-Za-z]|\.\d)"
)
_CARD = re.compile(_FROM + r"\d(?:[ -]?\d){13,18}" + _TO)
_CARD_PREFIXES = re.compile(
    r"(?:62\d{14,17}|4\d{15}(?:\d{3})?|5[1-5]\d{14}|2(?:2[2-9]|[3-6]\d|7[01])\d{13}"
    r"|2720\d{12}|3[47]\d{13}|35\d{14}|6(?:011|5\d{2}|4[4-9]\d)\d{12}(?:\d{3})?|3[068]\d{12}"
    r"|(?:50|5[6-9]|6[37])\d{14,17})"
)
_KNOWN_TOKENS = re.compile(
    r"(?<![A-Za-z0-9])(?:(?:AKIA|ASIA)[0-9A-Z]{16}|LTAI[A-Za-z0-9]{12,26}|AKID[A-Za-z0-9]{20,40}"
    r"|gh[opsur]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}|xox[abeprs]-[\w-]{10,}"
    r"|sk-[\w-]{16,}|[rs]k_(?:live|test)_[A-Za-z0-9]{10,}|AIza[\w-]{30,}|ya29\.[\w-]{20,}"
    r"|hf_[A-Za-z0-9]{20,}|npm_[A-Za-z0-9]{30,}|pypi-[\w-]{30,}|dop_v1_[0-9a-f]{40,}"
    r"|SG\.[\w-]{16,}\.[\w-]{16,}|eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]*"
    r"|BEGIN [A-Z ]*PRIVATE KEY)"
)
_NAMED_SECRET = re.compile(
    r"(?i)(?:passw(?:or)?d|passwd|pwd|secret|token|api[_-]?key|access[_-]?key|credential|密码|口令)"
    r"(?:[_-]?id)?[\"']?\s*(?:[=:：]|是)\s*[\"']?([^\s\"'<>,;(){}\[\]]{6,})"
)
_BEARER = re.compile(r"(?i)\b(?:bearer|basic)\s+([A-Za-z0-9._~+/-]{12,}=*)")
_ADDRESS_LOGIN = re.compile(r"://([^/@\s\"'<>:*]+):([^/@\s\"'<>*]+)@")
_RANDOM = re.compile(r"(?<![\w+/-])[A-Za-z0-9+/_-]{24,}={0,2}(?![\w+/=-])")
_HEXADECIMAL = re.compile(r"(?:0x)?[0-9a-fA-F-]+")
# time and hash of a run's name, which chance makes look like a token; the label between is kept
_RUN_NAME = re.compile(
    r"(?<![A-Za-z0-9])20\d{6}T\d{6}Z_([A-Za-z0-9][\w.-]{0,39})_[0-9a-f]{4}(?![A-Za-z0-9])"
)
_LEAST_ENTROPY, _HIGH_ENTROPY = 3.5, 4.4
# of letters and digits drawn at random two in five are followed by another class; of words, few
_LEAST_CHANGES, _FEWEST_CHANGES, _CHANGES_OF_CHANCE = 0.27, 0.2, 0.36
# names are parted by signs more often than chance parts a token
_LETTERS_PER_SEPARATOR = 12
_HOME = re.compile(
    r"(?<![\w.~-])(?:/(?:home|Users|export/home|var/home|mnt/[a-z]/Users)/+([^/\s\"'<>()\[\]{},;:*$]+)"
    r"|/(root)(?=/|[\s\"'<>),;:]|$))"
    r"|\b[A-Za-z]:(?:\\+|/)(?:Users|Documents and Settings)(?:\\+|/)([^\\/\s\"'<>]+)"
)

_ASCII_WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]*")
_WORD = re.compile(r"\w[\w.@+-]*")
_CALLED_ID = re.compile(
    r"(?i)(?:customer|household|member|client|user|客户|会员|用户|顾客)s?[ _]?"
    r"(?:ids?|no\.?|number|#|编号|号码?)\s*[\"']?\s*[:=#：]?\s*[\"']?([\w.@+-]+)"
)


@dataclass(frozen=True)
class Known:
    """What is known to be private here, beyond what its form gives away.

    Attributes:
        ids: Ids of customers, as the source writes them.
        names: Of users and hosts.
        folders: Private folders of this machine, such as the home.
    """

    ids: frozenset[str] = frozenset()
    names: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()

    @cached_property
    def telling_ids(self) -> frozenset[str]:
        """Ids that cannot be mistaken for a number or a word: found wherever they stand."""
        return frozenset(each for each in self.ids if is_telling(each))

    @cached_property
    def names_pattern(self) -> re.Pattern[str] | None:
        """Finds the names and folders; None without any."""
        names = [
            re.escape(name)
            for name in self.names
            if len(name) >= _SHORTEST_NAME and name.lower() not in _COMMON_NAMES
        ]
        if not names:
            return None
        return re.compile(rf"(?i)(?<![A-Za-z0-9])(?:{'|'.join(names)})(?![A-Za-z0-9])")

    @cached_property
    def phrases_pattern(self) -> re.Pattern[str] | None:
        """Finds telling ids that are no single word; None without any."""
        phrases = sorted(each for each in self.telling_ids if not _WORD.fullmatch(each))
        return re.compile("|".join(map(re.escape, phrases))) if phrases else None

    @cached_property
    def folders_pattern(self) -> re.Pattern[str] | None:
        """Finds the private folders; None without any."""
        folders = [re.escape(each) for each in self.folders if len(each.strip("/")) > 1]
        return re.compile(rf"(?<![\w./-])(?:{'|'.join(folders)})(?![\w.-])") if folders else None


@dataclass(frozen=True, slots=True)
class Trace:
    """One thing found.

    Attributes:
        kind: ``phone number``, ``customer id``, ...
        text: What was found, as it stands.
    """

    kind: str
    text: str = field(repr=False)

    @property
    def masked(self) -> str:
        """Enough to find the place by, too little to use."""
        text = " ".join(self.text.split())
        if len(text) <= 4:
            return "*" * len(text)
        shown = 2 if len(text) < 10 else 3
        return f"{text[:shown]}{'*' * min(len(text) - 2 * shown, 8)}{text[-shown:]}"


def this_machine() -> Known:
    """Names and folders of the machine and user this runs as."""
    names: set[str] = set()
    for ask in (getpass.getuser, socket.gethostname, socket.getfqdn, _full_name):
        try:
            names.add(ask())
        except (OSError, KeyError, ImportError):
            continue
    names |= {name.partition(".")[0] for name in names}
    home = Path.home()
    return Known(names=tuple(sorted(filter(None, names))), folders=(str(home), str(home.resolve())))


def _full_name() -> str:
    import os
    import pwd

    return pwd.getpwuid(os.getuid()).pw_gecos.partition(",")[0]


def is_telling(identifier: str) -> bool:
    """Whether an id can be told from a number or a word wherever it stands.

    Eight digits or more, six characters with letters and digits, or three characters beyond
    English letters. English words are ids only where a column or a word before them says so.
    """
    if identifier.isdecimal():
        return len(identifier) >= 8
    if identifier.replace(".", "", 1).replace("-", "").isdecimal():
        return len(identifier) >= 9
    has_digit = any(letter.isdecimal() for letter in identifier)
    if identifier.isascii():
        return has_digit and len(identifier) >= 6
    return len(identifier) >= 3


def as_read(text: str) -> str:
    """Text as a person reads it: usual digits and dashes, nothing invisible."""
    if text.isascii():
        return text
    return _DASHES.sub("-", unicodedata.normalize("NFKC", _INVISIBLE.sub("", text)))


def find_traces(text: str, known: Known) -> Iterator[Trace]:
    """Everything in a text that names a person, a machine or a secret; each once.

    Args:
        text: Plain text: escapes and encodings are undone already, but for per-cent signs.
        known: Ids, names and folders that are private here.
    """
    text = as_read(text)
    seen: set[Trace] = set()
    readings = [text]
    if "%" in text and (decoded := unquote(text)) != text:
        readings.append(decoded)
    for reading in readings:
        for search in _SEARCHES:
            for trace in search(reading, known):
                if trace not in seen:
                    seen.add(trace)
                    yield trace


def _phones(text: str, known: Known) -> Iterator[Trace]:
    for pattern in (_MOBILE, _LANDLINE):
        yield from (Trace(PHONE, found[0]) for found in pattern.finditer(text))
    if "+" in text:
        for found in _E164.finditer(text):
            if _CALLING_CODES.match(re.sub(r"\D", "", found[0])):
                yield Trace(PHONE, found[0])


def _emails(text: str, known: Known) -> Iterator[Trace]:
    if "@" in text:
        yield from (Trace(EMAIL, found[0]) for found in _EMAIL.finditer(text))


def _id_cards(text: str, known: Known) -> Iterator[Trace]:
    for found in _ID_CARD.finditer(text):
        if _id_card_checks(re.sub(r"[ -]", "", found[0])):
            yield Trace(ID_CARD, found[0])


def _id_card_checks(number: str) -> bool:
    """The check digit of GB 11643: ISO 7064 MOD 11-2."""
    weights = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
    rest = sum(w * int(digit) for w, digit in zip(weights, number, strict=False)) % 11
    return number[-1].upper() == "10X98765432"[rest]


def _bank_cards(text: str, known: Known) -> Iterator[Trace]:
    for found in _CARD.finditer(text):
        digits = re.sub(r"[ -]", "", found[0])
        parts = re.split(r"[ -]", found[0])
        # cards are written in groups of four (American Express: 4-6-5); other groups are numbers
        grouped = len(parts) == 1 or all(3 <= len(part) <= 7 for part in parts)
        if grouped and _CARD_PREFIXES.fullmatch(digits) and _luhn(digits):
            yield Trace(BANK_CARD, found[0])


def _luhn(digits: str) -> bool:
    total = 0
    for place, digit in enumerate(reversed(digits)):
        doubled = int(digit) * (2 if place % 2 else 1)
        total += doubled - 9 if doubled > 9 else doubled
    return total % 10 == 0


def _tokens(text: str, known: Known) -> Iterator[Trace]:
    yield from (Trace(TOKEN, found[0]) for found in _KNOWN_TOKENS.finditer(text))
    for found in _NAMED_SECRET.finditer(text):
        if _looks_secret(found[1]):
            yield Trace(TOKEN, found[1])
    for found in _BEARER.finditer(text):
        if any(letter.isdecimal() for letter in found[1]):
            yield Trace(TOKEN, found[1])
    yield from (Trace(TOKEN, found[0]) for found in _ADDRESS_LOGIN.finditer(text))
    text = _RUN_NAME.sub(r" \1 ", text)
    yield from (Trace(TOKEN, found[0]) for found in _RANDOM.finditer(text) if _random(found[0]))


def _looks_secret(value: str) -> bool:
    """Whether what follows ``password =`` is a value and not a name, a reference or prose."""
    if value.startswith(("env:", "$", "os.", "@", "***", "...")):
        return False
    has_digit = any(letter.isdecimal() for letter in value)
    has_letter = any(letter.isalpha() for letter in value)
    has_sign = any(not letter.isalnum() and letter not in "._-" for letter in value)
    return has_letter and (has_digit or (has_sign and len(value) >= 8))


def _random(candidate: str) -> bool:
    """Whether letters and digits alternate as only chance lets them."""
    body = re.sub(r"[^A-Za-z0-9]", "", candidate)
    if _HEXADECIMAL.fullmatch(body) or not any(letter.isdecimal() for letter in body):
        return False
    classes = [_class(letter) for letter in body]
    pairs = list(pairwise(classes))
    # a capital before a small letter begins a word
    changes = sum(a != b and (a, b) != ("A", "a") for a, b in pairs) / len(pairs)
    separators = len(candidate.rstrip("=")) - len(body)
    if separators > len(candidate) / _LETTERS_PER_SEPARATOR and changes < _CHANGES_OF_CHANCE:
        return False
    entropy = _entropy(body)
    return entropy >= _LEAST_ENTROPY and changes >= (
        _LEAST_CHANGES if entropy < _HIGH_ENTROPY else _FEWEST_CHANGES
    )


def _class(letter: str) -> str:
    return "0" if letter.isdecimal() else "a" if letter.islower() else "A"


def _entropy(text: str) -> float:
    """Bits per character."""
    shares = [text.count(letter) / len(text) for letter in set(text)]
    return -sum(share * math.log2(share) for share in shares)


def _homes(text: str, known: Known) -> Iterator[Trace]:
    yield from (Trace(HOME, found[0]) for found in _HOME.finditer(text))
    if known.folders_pattern is not None:
        yield from (Trace(HOME, found[0]) for found in known.folders_pattern.finditer(text))


def _names(text: str, known: Known) -> Iterator[Trace]:
    if known.names_pattern is not None:
        yield from (Trace(MACHINE, found[0]) for found in known.names_pattern.finditer(text))


def _ids(text: str, known: Known) -> Iterator[Trace]:
    if not known.ids:
        return
    telling = known.telling_ids
    if telling:
        for pattern in (_ASCII_WORD, _WORD):
            for found in pattern.finditer(text):
                word = found[0]
                for spelled in (word, word.strip(".@+-_")):
                    if spelled in telling:
                        yield Trace(ID, spelled)
        if known.phrases_pattern is not None:
            yield from (Trace(ID, found[0]) for found in known.phrases_pattern.finditer(text))
    for found in _CALLED_ID.finditer(text):
        if found[1].strip(".") in known.ids:
            yield Trace(ID, found[0])


def called_ids(text: str, names: frozenset[str]) -> Iterator[tuple[int, int]]:
    """Places of ids that a word before them says are of people: the 17 of ``customer 17``."""
    for found in _CALLED_ID.finditer(text):
        if found[1].strip(".") in names:
            start = found.start(1)
            yield start, start + len(found[1].rstrip("."))


_SEARCHES: tuple[Callable[[str, Known], Iterable[Trace]], ...] = (
    _phones,
    _emails,
    _id_cards,
    _bank_cards,
    _tokens,
    _homes,
    _names,
    _ids,
)
