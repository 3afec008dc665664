"""How the next token of each row is chosen, as processors of Transformers' `generate`.

None of them sees a row's neighbours: what a row gets does not depend on its batch. Shape letters: B rows, T tokens so
far (padding on the left), V vocabulary.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from instar.core import seeds
from instar.inference.decoding import Decoding


class Recorded:
    """Leaves scores as they are and keeps the log-probability of each token that was chosen: (B,) a step.

    Holds the scores of one step only, never of all.
    """

    def __init__(self) -> None:
        self.chosen: list[Tensor] = []
        self._scores_BV: Tensor | None = None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        self.settle(input_ids)
        self._scores_BV = scores.clone()
        return scores

    def settle(self, ids_BT: Tensor) -> None:
        """Look up what the last token of each row was worth at the step that chose it."""
        if self._scores_BV is None:
            return
        scores_BV, self._scores_BV = self._scores_BV, None
        picked_B = scores_BV.gather(1, ids_BT[:, -1:])[:, 0]
        self.chosen.append((picked_B - scores_BV.logsumexp(dim=1)).cpu())


class Repetition:
    """Makes tokens less likely that the row holds already; padding on the left is not among them."""

    def __init__(self, penalty: float, padding_B: Sequence[int]) -> None:
        self.penalty = penalty
        self.padding_B = padding_B

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        rows_B1 = torch.arange(input_ids.shape[0], device=scores.device)[:, None]
        beams = input_ids.shape[0] // len(self.padding_B)  # of one prompt stand together
        padding_B1 = torch.tensor(self.padding_B, device=scores.device).repeat_interleave(beams)[:, None]
        is_text_BT = torch.arange(input_ids.shape[1], device=scores.device)[None] >= padding_B1
        seen_BV = torch.zeros_like(scores, dtype=torch.bool)
        seen_BV[rows_B1.expand_as(input_ids)[is_text_BT], input_ids[is_text_BT]] = True
        lower_BV = torch.where(scores < 0, scores * self.penalty, scores / self.penalty)
        return torch.where(seen_BV, lower_BV, scores)


class Drawn:
    """Leaves one token of each row possible: the one that the row's own draw falls on."""

    def __init__(self, seeds_B: Sequence[int], prompt_length: int) -> None:
        self.seeds_B = seeds_B
        self.prompt_length = prompt_length

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        step = input_ids.shape[1] - self.prompt_length
        draw_B = torch.tensor([_draw(seed, step) for seed in self.seeds_B], dtype=torch.float64, device=scores.device)
        total_BV = torch.softmax(scores.double(), dim=-1).cumsum(dim=-1)
        index_B1 = torch.searchsorted(total_BV, draw_B[:, None] * total_BV[:, -1:], right=True)
        index_B1 = index_B1.clamp(max=scores.shape[1] - 1)
        return torch.full_like(scores, float("-inf")).scatter(1, index_B1, 0.0)


def _draw(seed: int, step: int) -> float:
    return float(seeds.uniform(seed, np.asarray([step]), np.asarray([0]))[0])


def processors(decoding: Decoding, seeds_B: Sequence[int], padding_B: Sequence[int], length: int) -> list[Any]:
    """What scores go through, in order; `length` is that of the padded prompts, `padding_B` their tokens of padding."""
    from transformers import generation

    chain: list[Any] = []
    if decoding.repetition_penalty != 1.0:
        chain.append(Repetition(decoding.repetition_penalty, padding_B))
    if decoding.temperature > 0:
        chain.append(generation.TemperatureLogitsWarper(float(decoding.temperature)))
        if decoding.top_k is not None:
            chain.append(generation.TopKLogitsWarper(decoding.top_k))
        if decoding.top_p < 1:
            chain.append(generation.TopPLogitsWarper(decoding.top_p))
        if decoding.min_p > 0:
            chain.append(generation.MinPLogitsWarper(decoding.min_p))
        chain.append(Drawn(seeds_B, length))
    return chain
