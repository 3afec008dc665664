"""What every masking policy starts from: where a token may be masked, and its random draw.

Shape letters: D documents, M positions.
"""

import numpy as np
from numpy.typing import NDArray

from instar.core import seeds
from instar.data import Batch

_EPOCH = np.int64(1) << np.int64(44)


def maskable_index(batch: Batch) -> NDArray[np.int64]:
    """Places whose token may be masked, ascending; specials never are."""
    if batch.maskable_T is None:
        return np.arange(batch.num_tokens)
    return np.flatnonzero(batch.maskable_T.cpu().numpy())


def documents_of(batch: Batch, index_M: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number of the document that each position lies in."""
    document_M: NDArray[np.int64] = np.searchsorted(np.asarray(batch.boundaries[1:]), index_M, side="right")
    return document_M


def token_draws(batch: Batch, index_M: NDArray[np.int64], key: int) -> NDArray[np.float64]:
    """A uniform draw for each position.

    The draw is a function of (key, sample, epoch, position in the sample): neither the other
    documents of the step nor its order, workers or ranks can change it.
    """
    document_M = documents_of(batch, index_M)
    within_M = index_M - np.asarray(batch.boundaries)[document_M]
    return seeds.uniform(key, _names(batch)[document_M], within_M)


def document_draws(batch: Batch, key: int) -> NDArray[np.float64]:
    """A uniform draw for each document, a function of (key, sample, epoch)."""
    return seeds.uniform(key, _names(batch), np.full(len(batch), -1))


def _names(batch: Batch) -> NDArray[np.int64]:
    names_D: NDArray[np.int64] = batch.samples_D + batch.epochs_D * _EPOCH
    return names_D
