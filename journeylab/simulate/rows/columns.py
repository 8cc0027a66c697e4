"""Columns: Arrow arrays straight from numbers, without a Python object per row."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit

from journeylab.contract import BY_NAME
from journeylab.simulate.people import Flags, Ints

Letters = npt.NDArray[np.uint8]
TIME = pa.timestamp("us", tz="UTC")
MONEY = pa.decimal128(18, 2)


def spell(*parts: bytes | tuple[Any, int], rows: int) -> Letters:
    """Ids as letters, one row each: fixed texts, and numbers with leading zeros.

    Args:
        parts: In their order: a text, or ``(numbers, digits)``.
        rows: How many ids.
    """
    width = sum(len(part) if isinstance(part, bytes) else part[1] for part in parts)
    out = np.empty((rows, width), np.uint8)
    at = 0
    for part in parts:
        if isinstance(part, bytes):
            out[:, at : at + len(part)] = np.frombuffer(part, np.uint8)
            at += len(part)
        else:
            numbers, digits = part
            _write_digits(out, at, np.asarray(numbers).astype(np.uint64), digits)
            at += digits
    return out


@njit(cache=True, nogil=True)
def _write_digits(out: Any, at: Any, numbers: Any, digits: Any) -> None:
    ten = np.uint64(10)
    for i in range(len(numbers)):
        left = numbers[i]
        for k in range(at + digits - 1, at - 1, -1):
            rest = left // ten
            out[i, k] = np.uint8(48) + np.uint8(left - rest * ten)
            left = rest


def texts(letters: Letters, there: Flags | None = None) -> pa.Array:
    """Strings of one width, from ``rows x width`` letters; null where not ``there``."""
    rows, width = letters.shape
    offsets = np.arange(rows + 1, dtype=np.int32) * np.int32(width)
    content = pa.py_buffer(np.ascontiguousarray(letters))
    buffers = [_validity(there), pa.py_buffer(offsets), content]
    return pa.Array.from_buffers(pa.string(), rows, buffers)


def words(vocabulary: Sequence[str], code: Any) -> pa.Array:
    """Strings by their position in ``vocabulary``; null where that is negative."""
    code = np.asarray(code, np.int32)
    absent = code < 0
    chosen = pa.array(code, mask=absent) if absent.any() else pa.array(code)
    return pa.array(vocabulary, pa.string()).take(chosen)


def constant(word: str, rows: int) -> pa.Array:
    """The same string in every row."""
    return pa.repeat(pa.scalar(word, pa.string()), rows)


def money(hundredths: Ints) -> pa.Array:
    """DECIMAL(18, 2) from whole hundredths."""
    wide = np.empty((len(hundredths), 2), np.int64)
    wide[:, 0] = hundredths
    wide[:, 1] = wide[:, 0] >> 63
    return pa.Array.from_buffers(MONEY, len(wide), [None, pa.py_buffer(wide)])


def times(microseconds: Ints, there: Flags | None = None) -> pa.Array:
    """UTC timestamps from microseconds since 1970; null where not ``there``."""
    buffers = [_validity(there), pa.py_buffer(np.ascontiguousarray(microseconds, np.int64))]
    return pa.Array.from_buffers(TIME, len(microseconds), buffers)


def numbers(values: Any, there: Flags | None = None) -> pa.Array:
    """Doubles; null where not ``there``."""
    values = np.ascontiguousarray(values, np.float64)
    buffers = [_validity(there), pa.py_buffer(values)]
    return pa.Array.from_buffers(pa.float64(), len(values), buffers)


def as_table(name: str, columns: Mapping[str, pa.Array]) -> pa.Table:
    """A table of the contract: its columns in their order, then those it does not know."""
    known = [column.name for column in BY_NAME[name].columns if column.name in columns]
    order = [*known, *(column for column in columns if column not in known)]
    return pa.table({column: columns[column] for column in order})


def _validity(there: Flags | None) -> pa.Buffer | None:
    if there is None or there.all():
        return None
    return pa.py_buffer(np.packbits(there, bitorder="little"))
