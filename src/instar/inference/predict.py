"""Answers about texts, one a text, in order."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray

from instar.core.errors import DataError
from instar.data import Batch
from instar.data.tokenizer import Marks, Tokenizer
from instar.data.unknown import TokenCount
from instar.inference.base import Row, TaskLike
from instar.inference.division import Division
from instar.inference.evaluate import evaluation_mode
from instar.model import Network

_TEXTS_AHEAD = 512

Ids = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Predictor:
    """Answers by task: a label; the best fills of each [MASK]; or how likely a text is.

    A text longer than the network takes is cut off at its end, and its row has `truncated`; a text without
    a token has a row with `skipped` and no answer.
    """

    network: Network
    task: TaskLike
    tokenizer: Tokenizer
    device: torch.device
    label_names: Sequence[str] | None = None
    label_kind: str = "none"
    max_length: int | None = None
    reads_forward: bool = False
    """True: a classifier of a causal network, whose texts have an end token alone."""
    marks: Marks | None = None
    """Special tokens before and after a text, of an external model; None: as instar trains."""
    best: int = 5
    """Fills of each [MASK]."""
    batch_tokens: int = 8192
    count: TokenCount = field(default_factory=TokenCount)
    """Tokens of the texts so far."""
    division: Division = field(default_factory=Division)
    """Which batches this process computes; every process gets all rows."""

    @torch.no_grad()
    def rows(self, texts: Iterable[str]) -> Iterator[Row]:
        """One row for each text, in their order: row, and the answer.

        A row with `truncated` has in `read_characters` how much of its text was read (not for fills); one whose text
        has tokens that the vocabulary does not know has their number in `unknown_tokens`.
        """
        remaining = iter(texts)
        first = 0
        while ahead := list(islice(remaining, _TEXTS_AHEAD * self.division.size)):
            with evaluation_mode(self.network):
                yield from ({"row": first + index, **row} for index, row in enumerate(self._answers(ahead)))
            first += len(ahead)

    def _answers(self, texts: list[str]) -> list[Row]:
        encoded = [self._ids(text) for text in texts]
        rows: list[Row] = [row for _, row in encoded]
        batches: list[list[int]] = []
        for first in range(0, len(texts), _TEXTS_AHEAD):
            numbers = range(first, min(first + _TEXTS_AHEAD, len(texts)))
            full = [number for number in numbers if len(encoded[number][0]) > self._num_added]
            for number in set(numbers) - set(full):
                rows[number]["skipped"] = "the text has no token"
            batches += self._batches(full, [len(encoded[number][0]) for number in full])
        answers = self.division.rows(
            batches,
            lambda batch: list(self.task.answer.answers(self, _packed([encoded[number][0] for number in batch]))),
            read=[list(map(int, ids)) for ids, _ in encoded],
        )
        for batch, found in zip(batches, answers, strict=True):
            for number, row in zip(batch, found, strict=True):
                rows[number] |= row
        return rows

    def _batches(self, numbers: list[int], lengths: list[int]) -> Iterator[list[int]]:
        """Texts of like length together, the longest first."""
        order = sorted(range(len(numbers)), key=lambda index: -lengths[index])
        while order:
            total = np.cumsum([lengths[index] for index in order])
            taken = max(1, int(np.searchsorted(total, self.batch_tokens, side="right")))
            yield [numbers[index] for index in order[:taken]]
            order = order[taken:]

    def around_text(self) -> tuple[list[int], list[int]]:
        """Special tokens before and after a text that a network reads in both directions, or to its end."""
        if self.marks is not None:
            before, after = self.marks
            return list(before), list(after)
        if self.reads_forward:
            return [], [self.special("eos_id")]
        return [self.special("cls_id")], [self.special("sep_id")]

    @property
    def _num_added(self) -> int:
        return sum(map(len, self.task.answer.special_tokens(self)))

    def _ids(self, text: str) -> tuple[Ids, Row]:
        """Ids with special tokens, and what the row holds of them."""
        segments = self.task.answer.segments(text)
        if self.tokenizer.codec.kind == "fast":  # the blank before a masked word is part of that word's token
            segments = [*(segment.removesuffix(" ") for segment in segments[:-1]), segments[-1]]
        parts: list[int] = []
        unknown = 0
        all_encoded = self.tokenizer.encode_batch(segments)
        for number, encoded in enumerate(all_encoded):
            parts += [self.special("mask_id")] if number else []
            parts += encoded.ids.tolist()
            unknown += self.count.add(encoded.ids, self.tokenizer.unk_id)
        before, after = self.task.answer.special_tokens(self)
        room = None if self.max_length is None else self.max_length - len(before) - len(after)
        row: Row = {"unknown_tokens": unknown} if unknown else {}
        if room is not None and len(parts) > room:
            row["truncated"] = True
            if len(segments) == 1:
                row["read_characters"] = int(all_encoded[0].ends[room - 1]) if room else 0
        return np.asarray([*before, *parts[:room], *after], dtype=np.int64), row

    def special(self, name: str) -> int:
        """Id of a special token; DataError if the tokenizer has none."""
        number = getattr(self.tokenizer, name)
        if number is None:
            raise DataError(f"the tokenizer has no {name.removesuffix('_id')} token, and this task needs it")
        return int(number)


def _packed(documents: list[Ids]) -> Batch:
    none_D = np.zeros(len(documents), dtype=np.int64)
    return Batch(
        ids_T=torch.from_numpy(np.concatenate(documents)),
        lengths=tuple(map(len, documents)),
        samples_D=none_D,
        epochs_D=none_D,
    )
