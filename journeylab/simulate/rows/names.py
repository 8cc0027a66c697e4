"""Names: ids that betray neither who came first nor who is whose second self."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from journeylab.simulate.chance import UInt
from journeylab.simulate.people import Flags, Ints
from journeylab.simulate.rows.columns import Letters, spell, texts

_BITS = 33
_MASK = np.uint64((1 << _BITS) - 1)
_SHIFT = np.uint64((_BITS + 1) // 2)
# Odd numbers, so that multiplying by them can be undone; one set for each kind of name.
_OF_CUSTOMERS = (0x1C6EF372F, 0x0BB67AE85, 0x13C6EF373)
_OF_PHONES = (0x0A54FF53B, 0x110E527FB, 0x09B05688D)
_OF_PERSONS = (0x11F83D9AB, 0x05BE0CD19, 0x1CBBB9D5D)
_OF_DEVICES = (0x1629A292B, 0x19159015B, 0x0152FECD9)
DIGITS = 10


def codes_of(number: Ints, second: bool = False) -> UInt:
    """The digits of customer ids as numbers; ``second`` for the other id of the same person."""
    return _scramble(2 * number.astype(np.uint64) + np.uint64(second), _OF_CUSTOMERS)


def customer_letters(codes: UInt) -> Letters:
    """Customer ids by their codes, as letters."""
    return spell(b"c", (codes, DIGITS), rows=len(codes))


def customer_names(number: Ints, second: bool = False) -> pa.StringArray:
    """Customer ids of people by number; ``second`` for the other id of the same person."""
    return texts(customer_letters(codes_of(np.asarray(number, np.int64), second)))


def numbers_of(ids: Any) -> tuple[Ints, Flags]:
    """Who is meant by customer ids, and whether by the second id.

    Args:
        ids: Strings, as an Arrow array or a sequence.

    Returns:
        Number of the person, -1 where the id has not the form of one; second or not.
    """
    if not isinstance(ids, pa.Array | pa.ChunkedArray):
        ids = pa.array(ids, pa.string())
    if isinstance(ids, pa.ChunkedArray):
        ids = ids.combine_chunks()
    formed = pc.fill_null(pc.match_substring_regex(ids, r"^c[0-9]{10}$"), False)
    digits = pc.utf8_slice_codeunits(pc.if_else(formed, ids, "c0000000000"), 1)
    code = pc.cast(digits, pa.int64()).to_numpy(zero_copy_only=False).astype(np.uint64)
    known = formed.to_numpy(zero_copy_only=False) & (code <= _MASK)
    both = _unscramble(np.where(known, code, np.uint64(0)), _OF_CUSTOMERS)
    number = np.where(known, (both >> np.uint64(1)).astype(np.int64), -1)
    return number, known & ((both & np.uint64(1)) == 1)


def phones(number: Ints, second: bool) -> pa.Array:
    """Phone numbers of twelve digits that begin with 10, so that no real line has them."""
    code = _scramble(2 * number.astype(np.uint64) + np.uint64(second), _OF_PHONES)
    return texts(spell(b"10", (code, DIGITS), rows=len(code)))


def union_ids(number: Ints) -> pa.Array:
    """The id under which a person's accounts hang together."""
    code = _scramble(number.astype(np.uint64), _OF_PERSONS)
    return texts(spell(b"u", (code, DIGITS), rows=len(code)))


def device_ids(owner: Ints) -> pa.Array:
    """The id of a device, by the number of the person it belongs to."""
    code = _scramble(owner.astype(np.uint64), _OF_DEVICES)
    return texts(spell(b"d", (code, DIGITS), rows=len(code)))


def order_part(codes: UInt, ordinal: Any) -> tuple[UInt, Ints]:
    """Both numbers of an order's id: the customer's digits, and four of the order.

    The last four do not count up: gaps in them would show which orders another id of the same
    person has. No two are alike among a person's first ten thousand orders.
    """
    begins = (codes // np.uint64(97)).astype(np.int64)
    return codes, (begins + np.asarray(ordinal, np.int64) * 7919) % 10_000


def _scramble(x: UInt, factors: tuple[int, int, int]) -> UInt:
    """A bijection of 33 bits."""
    # An offset, for 0 would stay 0.
    x = (x + np.uint64(factors[0])) & _MASK
    for factor in factors:
        x = (x * np.uint64(factor)) & _MASK
        x = x ^ (x >> _SHIFT)
    return x


def _unscramble(x: UInt, factors: tuple[int, int, int]) -> UInt:
    for factor in reversed(factors):
        # The shift is more than half of the bits: doing it again undoes it.
        x = x ^ (x >> _SHIFT)
        x = (x * np.uint64(pow(factor, -1, 1 << _BITS))) & _MASK
    return (x - np.uint64(factors[0])) & _MASK
