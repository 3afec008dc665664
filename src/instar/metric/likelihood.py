"""Negative log-likelihood of tokens, added up exactly. Shape letter: M positions where something is predicted."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from instar.metric.arrays import to_numpy

QUANTA_PER_NAT = 2**24
"""A nat in quanta. A float32 at or above 1 is a whole number of them, so little is rounded, and always alike."""
MAX_NATS = 2.0**20
"""Past this a token's likelihood counts as not a number: such a sum means nothing, and could leave 64 bits."""


@dataclass(frozen=True)
class Likelihood:
    """Likelihoods of tokens under a language model, in whole numbers: any grouping of the same tokens adds up equal."""

    quanta: int = 0
    """Sum of the negative log-likelihoods in quanta."""
    correct: int = 0
    """Tokens whose likeliest guess was right."""
    count: int = 0
    """Tokens."""
    non_finite: int = 0
    """Tokens whose likelihood was not a number; they make the sum NaN."""
    characters: int = 0
    """Characters that the tokens stand for, where they are known."""

    @classmethod
    def of(cls, nll_M: Any, correct_M: Any, characters: int = 0) -> "Likelihood":
        """Add up tokens; raises ValueError where the two lengths differ."""
        nll_M = to_numpy(nll_M).astype(np.float64).reshape(-1)
        correct_M = to_numpy(correct_M).astype(bool).reshape(-1)
        if nll_M.shape != correct_M.shape:
            raise ValueError(f"one answer a token wanted; got {len(nll_M)} likelihoods and {len(correct_M)} answers")
        finite_M = np.abs(nll_M) < MAX_NATS
        quanta_M = np.rint(np.where(finite_M, nll_M, 0.0) * QUANTA_PER_NAT).astype(np.int64)
        return cls(
            quanta=int(quanta_M.sum()),
            correct=int(correct_M.sum()),
            count=len(nll_M),
            non_finite=int((~finite_M).sum()),
            characters=characters,
        )

    def __add__(self, other: "Likelihood") -> "Likelihood":
        return Likelihood(*(mine + theirs for mine, theirs in zip(self.numbers(), other.numbers(), strict=True)))

    def numbers(self) -> tuple[int, int, int, int, int]:
        """The fields in order, for adding over ranks as int64; `Likelihood(*numbers)` undoes it."""
        return (self.quanta, self.correct, self.count, self.non_finite, self.characters)

    @property
    def nll_sum(self) -> float:
        """Sum in nats; NaN if a token's was not a number."""
        return math.nan if self.non_finite else self.quanta / QUANTA_PER_NAT
