"""How a new measurement and an old value become the next value. Letters: M tokens, N characters."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instar.masking.value_arrays import Decoder, ValueType, encode

Codes = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """Replaces, or moves toward what was measured."""

    rate: float = 1.0
    """Share of the way from the old value to the new; 1: replace. What was never seen is replaced always."""
    dtype: ValueType = "uint8"

    def codes(self, old_N: Codes, measured_M: NDArray[np.float32], length_M: NDArray[np.int64]) -> Codes:
        """New codes of the characters of tokens of which `measured_M` (0 to 1) was measured."""
        target_M = encode(measured_M, self.dtype)
        if self.rate >= 1:
            return np.repeat(target_M, length_M)
        target_N = np.repeat(target_M, length_M)
        if self.dtype == "uint8":
            return _stepped(old_N, target_N, self.rate)
        old = Decoder(self.dtype, np.nan)(old_N)
        measured_N = np.repeat(measured_M, length_M)
        return encode(np.where(np.isnan(old), measured_N, old + self.rate * (measured_N - old)), self.dtype)


def _stepped(old_N: Codes, target_N: Codes, rate: float) -> Codes:
    """Bytes moved by `rate` of the way, and by one at least: rounding would otherwise stop them short of it."""
    way_N = target_N.astype(np.int16) - old_N
    moved_N = np.rint(way_N * np.float32(rate)).astype(np.int16)
    moved_N = np.where(moved_N == 0, np.sign(way_N), moved_N)
    return np.where(old_N == 0, target_N, old_N + moved_N).astype(np.uint8)
