"""Every token masked exactly once, and how well a frozen network then predicts it.

Shape letters: T tokens, P positions that may be masked, M positions of a pass, V vocabulary, K letters of a token.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from instar.data import Batch
from instar.data.tokenizer import Tokenizer
from instar.inference.evaluate import evaluation_mode
from instar.masking.draws import documents_of, maskable_index, token_draws
from instar.model import Network

BASES = "ACGT"
_LOGITS = 1 << 24
"""Logits looked at at once."""


@dataclass(frozen=True)
class PassScores:
    """How well the masked positions of one pass were predicted, on the host, float32."""

    index_M: NDArray[np.int64]
    nll_M: NDArray[np.float32]
    """Nats."""
    rank_M: NDArray[np.int64]
    """1: no token was likelier than the right one."""
    entropy_M: NDArray[np.float32]
    """Nats."""
    bases_MK4: NDArray[np.float32] | None
    """Probability of A, C, G and T at each letter of the token; None where tokens are no bases."""


def to_arrays(passes: Sequence[PassScores]) -> dict[str, NDArray[Any]]:
    """Scores as arrays with names."""
    return {
        f"{number}.{name}": values
        for number, scores in enumerate(passes)
        for name, values in vars(scores).items()
        if values is not None
    }


def from_arrays(arrays: Mapping[str, NDArray[Any]]) -> list[PassScores]:
    """What `to_arrays` was given."""
    count = 1 + max((int(name.split(".")[0]) for name in arrays), default=-1)
    names = [field.name for field in fields(PassScores)]
    return [PassScores(*(arrays.get(f"{number}.{name}") for name in names)) for number in range(count)]  # type: ignore[arg-type]


def passes_of(batch: Batch, rate: float, key: int) -> Iterator[NDArray[np.int64]]:
    """ceil(1 / rate) sets of positions, ascending, in which every position that may be masked comes exactly once.

    In each document a random position in each pass, the same in any company.
    """
    index_P = maskable_index(batch)
    document_P = documents_of(batch, index_P)
    order_P = np.argsort(document_P + token_draws(batch, index_P, key))
    sizes = np.bincount(document_P, minlength=len(batch))
    starts = np.cumsum(sizes) - sizes
    pass_P = np.empty(len(index_P), dtype=np.int64)
    num_passes = math.ceil(1 / rate - 1e-9)
    pass_P[order_P] = (np.arange(len(index_P)) - np.repeat(starts, sizes)) % num_passes
    for number in range(num_passes):
        yield index_P[pass_P == number]


@dataclass(frozen=True, kw_only=True)
class Prober:
    """Runs a network without training it."""

    network: Network
    tokenizer: Tokenizer
    device: torch.device
    rate: float
    seed: int
    letters_V: tuple[str, ...] | None = None
    """The bases of each vocabulary entry ('' for others), where the probabilities of bases are asked for."""

    @torch.no_grad()
    def ask(self, batch: Batch) -> Iterator[PassScores]:
        """The scores of each position, pass after pass; masked positions show [MASK]."""
        tables = None if self.letters_V is None else base_tables(self.letters_V).to(self.device)
        with evaluation_mode(self.network):
            for index_M in passes_of(batch, self.rate, self.seed):
                if len(index_M):
                    yield self._scored(batch, index_M, tables)

    def _scored(self, batch: Batch, index_M: NDArray[np.int64], tables: Tensor | None) -> PassScores:
        ids_T = batch.ids_T.clone()
        read_M = torch.from_numpy(index_M)
        target_M = ids_T[read_M]
        ids_T[read_M] = int(self.tokenizer.mask_id or 0)
        masked = replace(batch, ids_T=ids_T, read_M=read_M, starts_T=None, characters_T=None, lower_T=None)
        logits_MV = self.network(masked.to(self.device)).logits_MV()
        parts: list[list[Tensor]] = [[], [], [], []]
        size = max(1, _LOGITS // logits_MV.shape[1])
        chunks = zip(torch.split(logits_MV, size), torch.split(target_M.to(self.device), size), strict=True)
        for part_MV, right_M in chunks:
            for column, value in zip(parts, _scores(part_MV, right_M, tables), strict=True):
                column.append(value)
        nll_M, rank_M, entropy_M, bases = (torch.cat(column).cpu().numpy() for column in parts)
        return PassScores(index_M, nll_M, rank_M, entropy_M, None if tables is None else bases)


def _scores(logits_MV: Tensor, target_M: Tensor, tables: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    log_p_MV = torch.log_softmax(logits_MV.float(), dim=-1)
    right_M1 = log_p_MV.gather(1, target_M[:, None])
    rank_M = (log_p_MV > right_M1).sum(-1) + 1
    p_MV = log_p_MV.exp()
    entropy_M = -(p_MV * log_p_MV).sum(-1)
    if tables is None:
        return -right_M1[:, 0], rank_M, entropy_M, rank_M
    probabilities_MK4 = torch.einsum("mv,kvb->mkb", p_MV, tables)
    return (
        -right_M1[:, 0],
        rank_M,
        entropy_M,
        probabilities_MK4 / probabilities_MK4.sum(-1, keepdim=True).clamp(min=1e-12),
    )


def base_tables(letters_V: tuple[str, ...]) -> Tensor:
    """(K, V, 4) whether letter k of a token is A, C, G or T; a token that is shorter has none."""
    longest = max(map(len, letters_V))
    tables = torch.zeros(longest, len(letters_V), len(BASES))
    for number, letters in enumerate(letters_V):
        for index, letter in enumerate(letters):
            if letter in BASES:
                tables[index, number, BASES.index(letter)] = 1.0
    return tables


def letters_of(tokenizer: Tokenizer) -> tuple[str, ...]:
    """The bases that each vocabulary entry stands for; '' for special tokens."""
    tokens = tokenizer.tokens(list(range(tokenizer.vocab_size)))
    plain = [token.replace("Ġ", "").replace("▁", "").removeprefix("##") for token in tokens]
    special = tokenizer.special_ids
    return tuple("" if number in special else token.upper() for number, token in enumerate(plain))
