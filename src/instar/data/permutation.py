"""Shuffling without lists: which sample stands at an index of the shuffled order."""

import numpy as np
from numpy.typing import NDArray

from instar.core.seeds import scramble

_ROUNDS, _ROUNDS_OF_SMALL = 6, 12
MAX_SIZE = 1 << 62


def permute(index_N: NDArray[np.integer], size: int, key: int) -> NDArray[np.int64]:
    """A bijection of 0..size-1 named by `key`, applied to each entry of `index_N`; constant memory.

    A Feistel network on the next power of two, walked until it lands inside (Black and Rogaway 2002).
    """
    if not 1 <= size <= MAX_SIZE:
        raise ValueError(f"size must be from 1 to 2**62; got {size}")
    words_N = np.asarray(index_N).astype(np.uint64)
    if words_N.size and int(words_N.max()) >= size:
        raise ValueError(f"every index must be below {size}; got {int(words_N.max())}")
    if size == 1:
        return words_N.astype(np.int64)
    bits = max(2, (size - 1).bit_length())
    rounds = _ROUNDS if bits >= 16 else _ROUNDS_OF_SMALL
    with np.errstate(over="ignore"):
        keys_R = scramble(np.uint64(key) + np.arange(1, rounds + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15))
        words_N = _mix(words_N, bits, keys_R)
        outside = np.flatnonzero(words_N >= np.uint64(size))
        while outside.size:
            walked = _mix(words_N[outside], bits, keys_R)
            words_N[outside] = walked
            outside = outside[walked >= np.uint64(size)]
    return words_N.astype(np.int64)


def _mix(words_N: NDArray[np.uint64], bits: int, keys_R: NDArray[np.uint64]) -> NDArray[np.uint64]:
    low_bits = np.uint64(bits // 2)
    low_mask = np.uint64((1 << bits // 2) - 1)
    high_mask = np.uint64((1 << (bits - bits // 2)) - 1)
    low_N, high_N = words_N & low_mask, words_N >> low_bits
    for number, key in enumerate(keys_R):
        if number % 2:
            low_N = (low_N ^ scramble(high_N + key)) & low_mask
        else:
            high_N = (high_N ^ scramble(low_N + key)) & high_mask
    return (high_N << low_bits) | low_N
