"""What a masking policy offers, and what one that learns asks for.

Shape letters: M positions that were chosen.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from instar.data import Batch
from instar.data.tokenizer import Tokenizer
from instar.masking.offsets import Spans

Ints = NDArray[np.int64]


class Policy(Protocol):
    """Chooses what is masked."""

    def choose(self, batch: Batch, rate: float, key: int, step: int = 0) -> Ints:
        """Places in the packed row to mask, ascending: about `rate` of those that may be masked.

        A function of the batch, the key and what was learnt up to two steps before `step`.
        """
        ...


class MaskingLike(Protocol):
    """A policy's config."""

    def build(self, tokenizer: Tokenizer) -> Policy:
        """The policy on this vocabulary; ConfigError if it cannot work with it."""
        ...


@dataclass(frozen=True)
class Chosen:
    """The positions that one training step predicts, over all its ranks, in order."""

    step: int
    document_M: Ints
    """Number of the document in the step; says which rank predicts it."""
    ids_M: Ints
    """The right token."""
    is_written_M: NDArray[np.bool_]
    """Whether the prediction is to be learnt from."""
    spans: Spans | None
    """Where the tokens' characters lie; None: the batch did not say."""
    num_maskable: int
    """Tokens that might have been chosen."""


ReadProbabilities = Callable[[Spans, int], NDArray[np.float64]]
"""(spans, step) -> value of each token, 0 to 1."""
