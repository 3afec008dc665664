"""Randomness that has a name.

Every random draw is a function of (seed, names, counters): nothing has a state that a
restart could forget, and neither workers, ranks nor micro-batches can change a draw.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def derive(seed: int, *names: int | str) -> int:
    """A 63-bit seed for one purpose; equal names give equal seeds on every machine."""
    text = "/".join([str(seed), *map(str, names)])
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def scramble(words_N: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's finalizer: a bijection of 64-bit words that passes for random (Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        words_N = (words_N ^ (words_N >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        words_N = (words_N ^ (words_N >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed_N: NDArray[np.uint64] = words_N ^ (words_N >> np.uint64(31))
    return mixed_N


def words(key: int, first_N: NDArray[np.integer], second_N: NDArray[np.integer]) -> NDArray[np.uint64]:
    """64 random bits for each pair of counters, for example (sample, position in the sample)."""
    with np.errstate(over="ignore"):
        state_N = scramble(first_N.astype(np.uint64) * _GOLDEN + np.uint64(key))
        return scramble(state_N + second_N.astype(np.uint64) * _GOLDEN)


def uniform(key: int, first_N: NDArray[np.integer], second_N: NDArray[np.integer]) -> NDArray[np.float64]:
    """Uniform draws in [0, 1), one for each pair of counters."""
    return (words(key, first_N, second_N) >> np.uint64(11)).astype(np.float64) * 2.0**-53
