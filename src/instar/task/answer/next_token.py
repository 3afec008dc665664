"""The token after each, and texts that are continued.

Shape letters: T tokens, M positions that have a next token.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from rich.text import Text

from instar.data import Batch
from instar.inference.base import Ids, Row
from instar.inference.continuation import continue_ids
from instar.inference.decoding import Decoding
from instar.inference.ending import text_after
from instar.inference.generate import Generator
from instar.inference.predict import Predictor
from instar.inference.preview import Preview, in_parts
from instar.inference.terminal import plain
from instar.task.answer.tokens import TokenAnswer

NEW_TOKENS = 64
_PROMPT_TOKENS = 32
_TEMPERATURE = 0.8


@dataclass(frozen=True)
class NextTokenAnswer(TokenAnswer):
    """How likely a text is, and how it may continue."""

    context: Literal["left"] = "left"

    def characters(self, prepared: Batch) -> int:
        """Characters of the predicted tokens: those after the positions that are read."""
        if prepared.characters_T is None or prepared.read_M is None:
            return 0
        following_M = (prepared.read_M + 1).clamp(max=prepared.num_tokens - 1)
        return int(prepared.characters_T[following_M].sum())

    def preview(self, preview: Preview, batch: Batch) -> Iterator[Row]:
        """The beginning of each document, and what the network writes after it."""
        prompts = [_prompt(batch.select([document])) for document in range(len(batch))]
        for prompt, new in zip(prompts, _written(preview, prompts), strict=True):
            end = preview.tokenizer.eos_id
            kept = new[: new.index(end)] if end in new else new
            yield {
                "kind": "causal_lm",
                "prompt": preview.tokenizer.decode(prompt),
                "completion": text_after(preview.tokenizer, prompt, kept),
            }

    def line(self, row: Mapping[str, Any]) -> Text:
        """The prompt, then what was written."""
        text = Text("  ")
        text.append(plain(row.get("prompt")), style="dim")
        text.append(" | ")
        return text.append(plain(row.get("completion")), style="cyan")

    def special_tokens(self, predictor: Predictor) -> Ids:
        """None, but for those that an external model begins its texts with."""
        return [] if predictor.marks is None else list(predictor.marks[0]), []

    def answers(self, predictor: Predictor, batch: Batch) -> Iterator[Row]:
        """Sum of log likelihoods (nats) of each document's tokens but the first."""
        has_next_T = np.ones(batch.num_tokens, dtype=np.bool_)
        has_next_T[np.asarray(batch.boundaries[1:]) - 1] = False
        read_M = torch.from_numpy(np.flatnonzero(has_next_T))
        outputs = predictor.network(batch.to(predictor.device).reading(read_M.to(predictor.device)))
        nll_M = outputs.cross_entropy(batch.ids_T[read_M + 1].to(predictor.device)).nll_M.double().cpu()
        for part_M in torch.split(nll_M, [length - 1 for length in batch.lengths]):
            yield {"log_likelihood": -float(part_M.sum()), "tokens": len(part_M)}


def _prompt(one: Batch) -> list[int]:
    """The beginning of a document; of a pair, what is asked, whole."""
    length = min(_PROMPT_TOKENS, max(1, one.num_tokens // 2))
    if one.prompts_D is not None:
        length = max(1, int(one.prompts_D[0]))
    return one.ids_T.tolist()[:length]


def _written(preview: Preview, prompts: list[list[int]]) -> list[list[int]]:
    """New tokens of each prompt: all in one batch with a cache, where the weights are whole on this process."""
    network, seed = preview.network, preview.seed
    context = network.max_length or 1 << 30
    if in_parts(network) or context < 2:
        return [
            continue_ids(network, prompt, NEW_TOKENS, seed=seed, temperature=_TEMPERATURE)[len(prompt) :]
            for prompt in prompts
        ]
    room = max(context - max(map(len, prompts)), context // 4, 1)
    decoding = Decoding(max_new_tokens=min(NEW_TOKENS, room), temperature=_TEMPERATURE, seed=seed)
    generator = Generator(network=network, tokenizer=preview.tokenizer, device=preview.device, decoding=decoding)
    return [row["ids"] for row in generator.continued(prompts)]
