"""Policies that know the values of a store, and batches that say where they lie."""

from dataclasses import replace

import numpy as np
import torch
from hypothesis import strategies as st

from instar.data import Batch
from instar.data.tokenizer import Kmer, Tokenizer, build_tokenizer
from instar.masking import Adaptive, Bernoulli, Policy
from instar.masking.offsets import Spans

RATES = st.floats(0.02, 0.9)


def tokenizer() -> Tokenizer:
    return build_tokenizer(Kmer(k=2), lambda: iter(["ACGT" * 10]))


def located(batch: Batch) -> Batch:
    """The batch with a character for each token, documents end to end in the corpus."""
    return replace(
        batch,
        starts_T=torch.arange(batch.num_tokens),
        characters_T=torch.ones(batch.num_tokens, dtype=torch.int64),
    )


def informed(config: Adaptive | Bernoulli, values: np.ndarray) -> Policy:
    """The policy with a store that holds `values`, character for character."""
    policy = config.build(tokenizer())

    def read(spans: Spans, step: int) -> np.ndarray:
        return values[spans.start_T]

    policy.read = read
    return policy
