"""Samples that hold where in the corpus each token's characters lie. Letters: N documents, T tokens, D documents."""

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from instar.data.batch import Batch
from instar.data.cache import TokenCache
from instar.data.samples import Samples

Ints = NDArray[np.int64]


def document_characters(cache: TokenCache) -> Ints:
    """(N,) characters of each document's text; the same for every tokenizer, for tokens tile a text."""
    last_N = np.asarray(cache.offsets[1:]) - 1
    return np.asarray(cache.ends[last_N], dtype=np.int64)


class Located:
    """The samples it is made of, in batches with `starts_T`, `characters_T` and, where case is kept, `lower_T`."""

    def __init__(self, samples: Samples, first_N: Ints) -> None:
        """`first_N` is the index of each document's first character in the corpus."""
        self.samples, self.first_N = samples, first_N

    def __len__(self) -> int:
        return len(self.samples)

    def lengths(self, index_N: NDArray[np.integer]) -> Ints:
        """Tokens of each sample."""
        return self.samples.lengths(index_N)

    def gather(self, index_D: NDArray[np.integer], epochs_D: NDArray[np.integer]) -> Batch:
        """The samples as one packed batch; special tokens stand for no characters."""
        cache = self.samples.cache
        batch = self.samples.gather(index_D, epochs_D)
        index_T = self.samples.store_paths(index_D)
        document_T = np.repeat(self.samples.documents(index_D), batch.lengths)
        is_text_T = index_T >= 0
        index_T = np.maximum(index_T, 0)
        ends_T = np.asarray(cache.ends[index_T], dtype=np.int64)
        before_T = np.asarray(cache.ends[np.maximum(index_T - 1, 0)], dtype=np.int64)
        before_T[index_T == np.asarray(cache.offsets)[document_T]] = 0
        starts_T = self.first_N[document_T] + before_T
        return replace(
            batch,
            starts_T=torch.from_numpy(starts_T),
            characters_T=torch.from_numpy(np.where(is_text_T, ends_T - before_T, 0)),
            lower_T=None if cache.lower is None else torch.from_numpy(np.asarray(cache.lower[index_T]) & is_text_T),
        )
