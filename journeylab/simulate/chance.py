"""Chance that can be asked for in any order: every draw is a function of who, when and what for.

A draw does not depend on how many were made before it. So customer ``i`` lives the same life
whoever else is there, however the people are divided among files and threads.

Source:
    The finaliser is that of SplitMix64: Steele, Lea & Flood, "Fast Splittable Pseudorandom Number
    Generators", OOPSLA (2014).
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit, uint64
from scipy.special import ndtri

UInt = npt.NDArray[np.uint64]
Floats = npt.NDArray[np.float64]

_STEP = 0x9E3779B97F4A7C15
_NATURE, _LUCK = 0x6A09E667F3BCC909, 0xBB67AE8584CAA73B


@njit(uint64(uint64), cache=True, inline="always")
def mix(x: Any) -> Any:
    """Scramble 64 bits."""
    x ^= x >> uint64(30)
    x *= uint64(0xBF58476D1CE4E5B9)
    x ^= x >> uint64(27)
    x *= uint64(0x94D049BB133111EB)
    return x ^ (x >> uint64(31))


@njit(cache=True, inline="always")
def bits(key: Any, counter: Any) -> Any:
    """64 random bits of ``key`` at ``counter``."""
    return mix(uint64(key) + uint64(0x9E3779B97F4A7C15) * (uint64(counter) + uint64(1)))


@njit(cache=True, inline="always")
def uniform(key: Any, counter: Any) -> Any:
    """A number in (0, 1), never 0 or 1."""
    return ((bits(key, counter) >> uint64(12)) + 0.5) * 2.220446049250313e-16


def nature_key(seed: int) -> int:
    """Key of what people are: traits, places, the order in which they come."""
    return int(_mix(seed ^ _NATURE))


def luck_key(seed: int, luck: int) -> int:
    """Key of what happens to them; ``luck`` 0 is the world as it was."""
    return int(_mix(_mix(seed ^ _LUCK) + luck * _STEP))


def _mix(x: int) -> int:
    x &= 2**64 - 1
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & (2**64 - 1)
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & (2**64 - 1)
    return x ^ (x >> 31)


def keys(key: int, names: npt.NDArray[np.int64]) -> UInt:
    """A key of its own for each of ``names`` (whole numbers)."""
    out = np.empty(len(names), np.uint64)
    _fill_keys(np.uint64(key), names, out)
    return out


def uniforms(of: UInt, counter: int | npt.NDArray[np.int64]) -> Floats:
    """One number in (0, 1) for each key; ``counter`` says what for, one for all or one each."""
    out = np.empty(len(of))
    counters = np.broadcast_to(np.asarray(counter, np.int64), out.shape)
    _fill_uniforms(of, counters, out)
    return out


def normals(of: UInt, counter: int | npt.NDArray[np.int64]) -> Floats:
    """One standard normal number for each key."""
    return np.asarray(ndtri(uniforms(of, counter)))


def picks(of: UInt, counter: int | npt.NDArray[np.int64], weights: Any) -> npt.NDArray[np.int64]:
    """One position in ``weights`` for each key, with chances in their proportion."""
    heights = np.cumsum(np.asarray(weights, float))
    drawn = uniforms(of, counter) * heights[-1]
    at = np.searchsorted(heights, drawn, side="right")
    return np.asarray(np.minimum(at, len(heights) - 1))


@njit(cache=True)
def _fill_keys(key: Any, names: Any, out: Any) -> None:
    for i in range(len(names)):
        out[i] = bits(key, names[i])


@njit(cache=True)
def _fill_uniforms(of: Any, counters: Any, out: Any) -> None:
    for i in range(len(of)):
        out[i] = uniform(of[i], counters[i])
