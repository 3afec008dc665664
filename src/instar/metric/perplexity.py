"""Perplexity of a language model."""

import math


def perplexity(nll_sum: float, count: int) -> float:
    """exp of the mean negative log-likelihood (nats a token); infinite past the largest float, NaN without tokens."""
    if not count:
        return math.nan
    try:
        return math.exp(nll_sum / count)
    except OverflowError:
        return math.inf
