"""Continuations of prompts: batches of left-padded rows through Transformers' own `generate`.

Shape letters: B rows, T tokens.
"""

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from instar.core.errors import DataError, UsageError
from instar.core.seeds import derive
from instar.data import Batch
from instar.data.tokenizer import Tokenizer
from instar.data.unknown import TokenCount
from instar.inference.choosing import Recorded, processors
from instar.inference.decoding import Decoding
from instar.inference.division import Division, Row
from instar.inference.ending import Endings, StopTexts, TextStream
from instar.inference.evaluate import evaluation_mode
from instar.model import Network
from instar.model.quiet import quiet

_AHEAD = 512
OnText = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Generator:
    """Continues texts with a causal network; what a row gets does not depend on what it is batched with.

    Greedy tokens are those that the rows would get one at a time, in float32; a draw is a function of (seed, row).
    """

    network: Network
    tokenizer: Tokenizer
    device: torch.device
    decoding: Decoding = field(default_factory=Decoding)
    begin: tuple[int, ...] = ()
    """Special tokens that every text begins with; they stay when a prompt's beginning is cut off."""
    end_ids: frozenset[int] | None = None
    """Tokens that end a row unless the decoding names them; None: the tokenizer's end of text."""
    log: Callable[[str], None] = lambda _: None
    """Hears, once, what was cut off, with counts."""
    count: TokenCount = field(default_factory=TokenCount)
    """Tokens of the prompts of `rows` so far."""
    division: Division = field(default_factory=Division)
    """Which batches this process computes; every process gets all rows."""

    def __post_init__(self) -> None:
        if self.network.pooling is not None or not self.network.model.can_generate():
            raise UsageError("generate: wanted a causal language model; this network writes no text")
        size = self.tokenizer.vocab_size
        unknown = [number for number in self.decoding.stop_ids or () if number >= size]
        if unknown:
            raise UsageError(f"stop_ids: wanted numbers of tokens, 0 to {size - 1}; got {unknown}")
        context = self.network.max_length
        if context is not None and self._new_tokens >= context:
            raise UsageError(
                f"max_new_tokens: wanted less than {context}, the context of this model, so that a prompt has room; "
                f"got {self._new_tokens}"
            )

    def rows(self, prompts: Iterable[str], *, first: int = 0) -> Iterator[Row]:
        """A row for each prompt, in order: row, text, finish (end_of_text, stop, length), tokens, ids.

        With `log_probabilities` also those, one a token. A prompt without a token has a row with `skipped` and no text;
        one whose beginning was cut off has `truncated`. `first` is the number of the first row.
        """
        remaining = iter(prompts)
        cut = total = longest = 0
        while ahead := list(islice(remaining, _AHEAD * self.division.size)):
            encoded = [one.ids.tolist() for one in self.tokenizer.encode_batch(ahead)]
            for ids in encoded:
                self.count.add(ids, self.tokenizer.unk_id)
            rows = self.continued(encoded, numbers=range(first + total, first + total + len(ahead)))
            total += len(ahead)
            cut += sum(row.get("truncated", False) for row in rows)
            longest = max(longest, *map(len, encoded))
            yield from rows
        if cut:
            self.log(
                f"prompts: {cut:,} of {total:,} have more than {self.room:,} tokens (the longest {longest:,}), "
                f"the model's context less {self._new_tokens:,} new ones; their beginnings were cut off"
            )

    @torch.no_grad()
    def continued(self, prompts: Sequence[Sequence[int]], *, numbers: Sequence[int] | None = None) -> list[Row]:
        """The same for the token ids of texts; `numbers` name the rows, and so their draws."""
        named = list(range(len(prompts)) if numbers is None else numbers)
        rows: list[Row] = [{"row": number} for number in named]
        given = [self._fitted(prompt, row, self.begin) for prompt, row in zip(prompts, rows, strict=True)]
        with self._ready():
            batches = list(self._batches(given))
            answers = self.division.rows(
                batches,
                lambda batch: self._batch([given[n] for n in batch], [named[n] for n in batch], None),
                read=[[list(map(int, ids)) for ids in given], named],
            )
            for indices, found in zip(batches, answers, strict=True):
                for index, row in zip(indices, found, strict=True):
                    rows[index] |= row
        return rows

    @torch.no_grad()
    def stream(self, prompt: str | Sequence[int], on_text: OnText, *, number: int = 0) -> Row:
        """One row, its text handed to `on_text` in parts of whole characters as it comes.

        Token ids are taken as they are, special ones included. DataError for a prompt without a token.
        """
        row: Row = {"row": number}
        is_text = isinstance(prompt, str)
        given = self.tokenizer.encode_batch([prompt])[0].ids.tolist() if isinstance(prompt, str) else prompt
        ids = self._fitted(given, row, self.begin if is_text else ())
        if not ids:
            raise DataError("the prompt is empty: wanted a text of at least one token")
        with self._ready():
            return row | self._batch([ids], [number], on_text)[0]

    @property
    def _new_tokens(self) -> int:
        return self.decoding.new_tokens(self.network.max_length)

    @property
    def room(self) -> int:
        """Tokens that a prompt may have, with those that every text begins with."""
        context = self.network.max_length
        return 1 << 40 if context is None else context - self._new_tokens

    @property
    def _endings(self) -> Endings:
        end = self.tokenizer.eos_id
        chosen = self.decoding.stop_ids
        usual = frozenset(() if end is None else (end,)) if self.end_ids is None else self.end_ids
        ids = usual if chosen is None else frozenset(chosen)
        return Endings(tokenizer=self.tokenizer, ids=ids, stop=self.decoding.stop)

    def _fitted(self, prompt: Sequence[int], row: Row, begin: tuple[int, ...]) -> list[int]:
        if not len(prompt):
            row["skipped"] = "the prompt has no token"
            return []
        room = self.room - len(begin)
        if len(prompt) <= room:
            return [*begin, *prompt]
        if self.decoding.too_long == "error":
            raise DataError(
                f"row {row['row']}: the prompt has {len(prompt):,} tokens, and the model takes {room:,} besides "
                f"{self._new_tokens:,} new ones; shorten it, or set too_long: cut"
            )
        row["truncated"] = True
        return [*begin, *list(prompt)[len(prompt) - max(room, 0) :]]

    def _batches(self, prompts: list[list[int]]) -> Iterator[list[int]]:
        """Indices of prompts of like length, the longest first, within the token budget; empty ones left out.

        Batches are made of _AHEAD prompts at a time, so that they are the same on any number of processes.
        """
        for first in range(0, len(prompts), _AHEAD):
            near = range(first, min(first + _AHEAD, len(prompts)))
            indices = sorted((index for index in near if prompts[index]), key=lambda index: -len(prompts[index]))
            while indices:
                width = len(prompts[indices[0]]) + self._new_tokens
                size = max(1, self.decoding.batch_tokens // (width * self.decoding.num_beams))
                yield indices[:size]
                indices = indices[size:]

    @contextmanager
    def _ready(self) -> Iterator[None]:
        """The model attends as Transformers does, with a cache; it is as before after."""
        from transformers import GenerationConfig

        model = self.network.model
        attention, settings = model.config._attn_implementation, model.generation_config
        model.set_attn_implementation("sdpa" if model._supports_sdpa else "eager")
        model.generation_config = GenerationConfig()
        try:
            with quiet(), evaluation_mode(self.network):
                yield
        finally:
            model.set_attn_implementation(attention)
            model.generation_config = settings

    def _batch(self, prompts: list[list[int]], numbers: list[int], on_text: OnText | None) -> list[Row]:
        """Rows of one batch."""
        width = max(map(len, prompts))
        padding_B = [width - len(prompt) for prompt in prompts]
        pad = self.tokenizer.pad_id or 0
        ids_BT = torch.tensor([[pad] * before + prompt for before, prompt in zip(padding_B, prompts, strict=True)])
        mask_BT = torch.arange(width)[None] >= torch.tensor(padding_B)[:, None]
        chain = processors(self.decoding, [derive(self.decoding.seed, "row", n) for n in numbers], padding_B, width)
        recorded = Recorded() if self.decoding.log_probabilities and self.decoding.num_beams == 1 else None
        streamed = _Streamed(self._endings, prompts[0], on_text) if on_text is not None else None
        streamer = streamed if self.decoding.num_beams == 1 else None  # beams change their minds
        new = self._generated(ids_BT, mask_BT, [*([recorded] if recorded else []), *chain], streamer)
        if recorded is not None:
            recorded.settle(new)
        rows = [self._row(prompt, row) for prompt, row in zip(prompts, new[:, width:].tolist(), strict=True)]
        if self.decoding.log_probabilities:
            self._add_log_probabilities(rows, prompts, recorded)
        if streamed is not None:
            streamed.finish(rows[0]["text"])
        return rows

    def _generated(self, ids_BT: Tensor, mask_BT: Tensor, chain: list[Any], streamer: Any) -> Tensor:
        from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList

        endings, decoding = self._endings, self.decoding
        settings = GenerationConfig(
            max_new_tokens=self._new_tokens,
            do_sample=False,
            num_beams=decoding.num_beams,
            eos_token_id=sorted(endings.ids) or None,
            pad_token_id=self.tokenizer.pad_id or 0,
            use_cache=True,
        )
        positions_BT = mask_BT.long().cumsum(dim=1).sub(1).clamp(min=0) + self.network.position_offset
        takes_positions = "position_ids" in inspect.signature(self.network.model.forward).parameters
        criteria = [StopTexts(endings, ids_BT.shape[1])] if endings.stop else []
        found: Tensor = self.network.model.generate(
            input_ids=ids_BT.to(self.device),
            attention_mask=mask_BT.long().to(self.device),
            generation_config=settings,
            logits_processor=LogitsProcessorList(chain),
            stopping_criteria=StoppingCriteriaList(criteria),
            streamer=streamer,
            **({"position_ids": positions_BT.to(self.device)} if takes_positions else {}),
        )
        return found

    def _row(self, prompt: list[int], new: list[int]) -> Row:
        kept, text, finish = self._endings.cut(prompt, new)
        return {"text": text, "finish": finish, "tokens": len(kept), "ids": kept}

    def _add_log_probabilities(self, rows: list[Row], prompts: list[list[int]], recorded: Recorded | None) -> None:
        """As they were when the tokens were chosen; beams, whose rows are reordered, are read once more."""
        if recorded is None:
            values = self._read_again(rows, prompts)
        else:
            chosen = torch.stack(recorded.chosen, dim=1).tolist() if recorded.chosen else [[] for _ in rows]
            values = [row[: len(kept["ids"])] for row, kept in zip(chosen, rows, strict=True)]
        for row, found in zip(rows, values, strict=True):
            row["log_probabilities"] = found

    def _read_again(self, rows: list[Row], prompts: list[list[int]]) -> list[list[float]]:
        model = self.network.model
        current = model.config._attn_implementation
        whole = [[*prompt, *row["ids"]] for prompt, row in zip(prompts, rows, strict=True)]
        read: list[int] = []
        first = 0
        for prompt, ids in zip(prompts, whole, strict=True):
            read += range(first + len(prompt) - 1, first + len(ids) - 1)
            first += len(ids)
        ids_T = torch.tensor([number for ids in whole for number in ids], device=self.device)
        read_M = torch.tensor(read, dtype=torch.int64, device=self.device)
        none_D = np.zeros(len(whole), dtype=np.int64)
        batch = Batch(ids_T=ids_T, lengths=tuple(map(len, whole)), samples_D=none_D, epochs_D=none_D, read_M=read_M)
        try:
            model.set_attn_implementation(self._packed or current)
            nll_M = self.network(batch).cross_entropy(ids_T[read_M + 1]).nll_M
        finally:
            model.set_attn_implementation(current)
        return [(-part).tolist() for part in nll_M.cpu().split([len(row["ids"]) for row in rows])]

    @property
    def _packed(self) -> str | None:
        from instar.model.attention import NAME

        return NAME if self.network.is_packed else None


class _Streamed:
    """What Transformers hands each token to."""

    def __init__(self, endings: Endings, prompt: list[int], on_text: OnText) -> None:
        self._stream = TextStream(endings, prompt)
        self._on_text = on_text
        self._has_prompt = False

    def put(self, value: Tensor) -> None:
        """The prompt first, then a token a step."""
        if not self._has_prompt:
            self._has_prompt = True
            return
        for number in value.reshape(-1).tolist():
            self._give(self._stream.put(number))

    def end(self) -> None:
        """`finish` has more."""

    def finish(self, text: str) -> None:
        """Give the rest of the row's text."""
        self._give(self._stream.end(text))

    def _give(self, part: str) -> None:
        if part:
            self._on_text(part)
