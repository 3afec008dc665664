"""Packed batches for tests."""

from collections.abc import Sequence

import numpy as np
import torch

from instar.data import Batch


def packed(lengths: Sequence[int], *, vocab_size: int = 50, seed: int = 0, first_sample: int = 0) -> Batch:
    """Random documents: ids 5 and above, the first and last token of each special and not maskable."""
    rng = np.random.default_rng(seed)
    ids_T = rng.integers(5, vocab_size, sum(lengths))
    ends = np.cumsum(lengths)
    maskable_T = np.ones(sum(lengths), dtype=np.bool_)
    for special, places in ((2, ends - lengths), (3, ends - 1)):
        ids_T[places] = special
        maskable_T[places] = False
    return Batch(
        ids_T=torch.from_numpy(ids_T),
        lengths=tuple(int(length) for length in lengths),
        samples_D=np.arange(first_sample, first_sample + len(lengths)),
        epochs_D=np.zeros(len(lengths), dtype=np.int64),
        maskable_T=torch.from_numpy(maskable_T),
    )
