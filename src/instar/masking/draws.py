"""What every masking policy starts from: where a token may be hidden, and its random draw.

Shape letters: T tokens, D documents.
"""

import numpy as np
from numpy.typing import NDArray

from instar.core import seeds
from instar.data import Batch

_EPOCH = np.int64(1) << np.int64(44)


def maskable_places(batch: Batch) -> NDArray[np.int64]:
    """Places whose token may be hidden, ascending; specials never are."""
    if batch.maskable_T is None:
        return np.arange(batch.num_tokens)
    return np.flatnonzero(batch.maskable_T.cpu().numpy())


def token_draws(batch: Batch, key: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """A uniform draw and the document number of each token.

    The draw is a function of (key, sample, epoch, place in the sample): neither the other
    documents of the step nor its order, workers or ranks can change it.
    """
    document_T = np.repeat(np.arange(len(batch)), batch.lengths)
    starts_D = np.asarray(batch.boundaries[:-1], dtype=np.int64)
    place_T = np.arange(len(document_T)) - starts_D[document_T]
    return seeds.uniform(key, _names(batch)[document_T], place_T), document_T


def document_draws(batch: Batch, key: int) -> NDArray[np.float64]:
    """A uniform draw for each document, a function of (key, sample, epoch)."""
    return seeds.uniform(key, _names(batch), np.full(len(batch), -1))


def _names(batch: Batch) -> NDArray[np.int64]:
    names_D: NDArray[np.int64] = batch.samples_D + batch.epochs_D * _EPOCH
    return names_D
