"""Bits a character: comparable between tokenizers, and with a file compressor."""

import math


def bits_per_character(nll_sum: float, characters: int) -> float:
    """Negative log-likelihood (nats) of all tokens in bits, for each character that they stand for; NaN for none."""
    return nll_sum / math.log(2) / characters if characters else math.nan
