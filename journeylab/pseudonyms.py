"""Pseudonyms: what stands for the id of a person, and which columns hold such ids."""

import os
import re
from hashlib import sha256
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

PUBLIC_KEY = "journeylab public key: for shipped data only"
"""Key for public data sets, so that their pseudonyms are the same everywhere.

It protects nobody: real customers need a key of their own, kept outside the run folder.
"""

KEY_VARIABLE = "JOURNEYLAB_KEY"
ALLOW_VARIABLE = "JOURNEYLAB_ALLOW_IDS"

# 104 bits: among a hundred million ids two meet with a chance of about 2e-16.
BODY_CHARACTERS = 26
# A seal over the body tells a pseudonym of ours from an id that looks like one, such as an MD5: of
# those one in 17 million bears it by chance.
SEAL = "journeylab pseudonym:"
SEAL_CHARACTERS = 6

# Columns of the contract that name a person, or the few people around one. What an experiment
# randomised (cluster_id) and what an event was about (target_id) may be people, so they count.
PERSONAL_COLUMNS = (
    "customer_id",
    "household_id",
    "group_id",
    "staff_id",
    "referrer_id",
    "invitee_id",
    "target_id",
    "cluster_id",
    "id_value",
)

# How such columns are called elsewhere: in exports, on pages, in Chinese tables.
_PERSONAL_NAME = re.compile(
    r"(?:.*_)?(?:customer|household|group|staff|referrer|invitee|target|cluster|member|user|client"
    r"|original|open|union)_?(?:id|no|number)(?:_\w+)?|id_value"
    r"|(?:客户|会员|用户|顾客|家庭|导购|员工)[_ ]?(?:id|编号|号|号码|标识)"
)
_PSEUDONYM = re.compile(rf"[0-9a-f]{{{BODY_CHARACTERS + SEAL_CHARACTERS}}}")


def project_key() -> str:
    """Key of this project's pseudonyms: ``JOURNEYLAB_KEY`` where it is set, else ``PUBLIC_KEY``.

    Set it once for all runs of a project and keep it out of every run folder: with one key the
    pseudonyms of two runs can be joined, without it nobody can tell whose they are.
    """
    return os.environ.get(KEY_VARIABLE) or PUBLIC_KEY


def ids_allowed() -> bool:
    """Whether this run may keep ids as they are: ``JOURNEYLAB_ALLOW_IDS`` is 1, yes or true.

    For a run that stays on this machine; the gate lets no such run be shared.
    """
    return os.environ.get(ALLOW_VARIABLE, "").strip().lower() in ("1", "yes", "true")


def is_personal(column: str) -> bool:
    """Whether a column, by its name, holds ids of people: ``customer_id``, ``Customer ID``, ..."""
    return _PERSONAL_NAME.fullmatch(column.strip().lower().replace(" ", "_")) is not None


def is_pseudonym(text: str) -> bool:
    """Whether a text is a pseudonym of ours, of whatever key: by its form and its seal."""
    return _PSEUDONYM.fullmatch(text) is not None and text == _sealed(text[:BODY_CHARACTERS])


def pseudonym_of(identifier: str, key: str) -> str:
    """The pseudonym of one id: what ``privacy.pseudonymise`` puts in its place on any engine."""
    return _sealed(sha256(f"{key}:{identifier}".encode()).hexdigest()[:BODY_CHARACTERS])


def _sealed(body: str) -> str:
    return body + sha256(f"{SEAL}{body}".encode()).hexdigest()[:SEAL_CHARACTERS]


def hidden(value: object, key: str) -> object:
    """The pseudonym of an id; a pseudonym and what is missing stay."""
    if value is None or value != value or value == "":
        return value
    text = str(value)
    return text if is_pseudonym(text) else pseudonym_of(text, key)


def hide_ids(frame: "pd.DataFrame") -> "pd.DataFrame":
    """The frame with pseudonyms in every column and index level that holds ids of people.

    Args:
        frame: Any; left as it is. Columns are known by their names; pseudonyms stay.

    Returns:
        The same frame where there is nothing to hide, else a copy.
    """
    personal = [column for column in frame.columns if is_personal(str(column))]
    levels = [name for name in frame.index.names if name is not None and is_personal(str(name))]
    if not personal and not levels:
        return frame
    key = project_key()
    result = frame.copy()
    for column in personal:
        result[column] = frame[column].astype(object).map(lambda value: hidden(value, key))
    if levels:
        # a level of the index is a column for as long as it takes
        names = list(frame.index.names)
        index = frame.index.to_frame(index=False)
        for level in levels:
            index[level] = index[level].astype(object).map(lambda value: hidden(value, key))
        result.index = (
            index.set_index(names).index if len(names) > 1 else index.set_index(names[0]).index
        )
    return result
