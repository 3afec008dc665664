"""What a network says of a few rows, in a form that a person can read.

Shape letters: T tokens, D documents, M places, C classes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from instar.data import Batch
from instar.data.tokenizer import Tokenizer
from instar.inference.continuation import continue_ids
from instar.inference.decoding import Decoding
from instar.inference.ending import text_after
from instar.inference.evaluate import evaluation_mode
from instar.inference.generate import Generator
from instar.inference.label import label_answer
from instar.model import Network
from instar.task import Moment, TaskLike

MOST_TOKENS = 200
NEW_TOKENS = 64
_PROMPT_TOKENS = 32
_TEMPERATURE = 0.8


@dataclass(frozen=True, kw_only=True)
class Preview:
    """Rows of samples.jsonl for one task."""

    network: Network
    task: TaskLike
    tokenizer: Tokenizer
    seed: int
    label_names: Sequence[str] | None = None
    label_kind: str = "none"

    @torch.no_grad()
    def rows(self, batch: Batch) -> Iterator[dict[str, Any]]:
        """One row a document: hidden tokens and guesses; or a prompt and how it goes on; or label and prediction."""
        device = next(self.network.parameters()).device
        if self.task.head == "causal_lm":
            yield from self._continued(batch, device)
            return
        for document in range(len(batch)):
            one = batch.select([document])
            with evaluation_mode(self.network):
                yield self._masked(one, device) if self.task.head == "masked_lm" else self._labelled(one, device)

    def _masked(self, one: Batch, device: torch.device) -> dict[str, Any]:
        moment = Moment(seed=self.seed, step=0, progress=1.0, evaluating=True)
        prepared = self.task.prepare(one, moment).to(device)
        chances_MV = torch.softmax(self.network(prepared).logits_MV().float(), dim=-1)
        best = chances_MV.max(dim=-1)
        guesses = dict(
            zip(_numbers(prepared.read_M), zip(best.values.tolist(), best.indices.tolist(), strict=True), strict=True)
        )
        ids = one.ids_T.tolist()[:MOST_TOKENS]
        tokens = []
        for place, (number, text) in enumerate(zip(ids, self.tokenizer.tokens(ids), strict=True)):
            if number in self.tokenizer.special_ids:
                continue
            token: dict[str, Any] = {"text": text, "masked": place in guesses}
            if place in guesses:
                probability, guess = guesses[place]
                token |= {
                    "guess": self.tokenizer.tokens([guess])[0],
                    "probability": probability,
                    "right": guess == number,
                }
            tokens.append(token)
        return {"kind": "mlm", "tokens": tokens}

    def _continued(self, batch: Batch, device: torch.device) -> Iterator[dict[str, Any]]:
        prompts = [_prompt(batch.select([document])) for document in range(len(batch))]
        for prompt, new in zip(prompts, self._written(prompts, device), strict=True):
            end = self.tokenizer.eos_id
            kept = new[: new.index(end)] if end in new else new
            yield {
                "kind": "causal_lm",
                "prompt": self.tokenizer.decode(prompt),
                "completion": text_after(self.tokenizer, prompt, kept),
            }

    def _written(self, prompts: list[list[int]], device: torch.device) -> list[list[int]]:
        """New tokens of each prompt: all in one batch with a cache, where the weights are whole on this process."""
        context = self.network.max_length or 1 << 30
        if in_parts(self.network) or context < 2:
            return [
                continue_ids(self.network, prompt, NEW_TOKENS, seed=self.seed, temperature=_TEMPERATURE)[len(prompt) :]
                for prompt in prompts
            ]
        room = max(context - max(map(len, prompts)), context // 4, 1)
        decoding = Decoding(max_new_tokens=min(NEW_TOKENS, room), temperature=_TEMPERATURE, seed=self.seed)
        generator = Generator(network=self.network, tokenizer=self.tokenizer, device=device, decoding=decoding)
        return [row["ids"] for row in generator.continued(prompts)]

    def _labelled(self, one: Batch, device: torch.device) -> dict[str, Any]:
        logits_C = self.network(one.to(device)).logits_MV()[0].float()
        row: dict[str, Any] = {"kind": "classify", "text": self.tokenizer.decode(one.ids_T.tolist()[:MOST_TOKENS])}
        return (
            row | label_answer(logits_C, self.label_names, self.label_kind) | {"label": _label(one, self.label_names)}
        )


def in_parts(network: Network) -> bool:
    """True where this process holds only its part of some of the weights."""
    return any(hasattr(parameter, "placements") for parameter in network.parameters())


def _prompt(one: Batch) -> list[int]:
    """The beginning of a document; of a pair, what is asked, whole."""
    length = min(_PROMPT_TOKENS, max(1, one.num_tokens // 2))
    if one.prompts_D is not None:
        length = max(1, int(one.prompts_D[0]))
    return one.ids_T.tolist()[:length]


def _label(one: Batch, label_names: Sequence[str] | None) -> Any:
    if one.labels_D is None:
        return None
    label = one.labels_D[0]
    if label_names is None:
        return float(label)
    if label.ndim:
        return [name for name, is_set in zip(label_names, label.tolist(), strict=True) if is_set]
    return label_names[int(label)]


def _numbers(places_M: Tensor | None) -> list[int]:
    return [] if places_M is None else [int(place) for place in places_M.tolist()]
