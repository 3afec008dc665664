"""When a row's text ends, and what of it is text.

Shape letters: B rows, T tokens so far.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from instar.data.tokenizer import Tokenizer

Finish = Literal["end_of_text", "stop", "length"]
_MARGIN = 8


@dataclass(frozen=True, kw_only=True)
class Endings:
    """What ends a row."""

    tokenizer: Tokenizer
    ids: frozenset[int]
    stop: tuple[str, ...]

    @property
    def reach(self) -> int:
        """Tokens at the end of a row that a stop text may stretch over: at most one a byte, and a few to spare."""
        return max((len(text.encode()) for text in self.stop), default=0) + _MARGIN

    def stops(self, ids: Sequence[int]) -> bool:
        """True when a stop text stands at the end of these new tokens, or a little before it."""
        tail = self.tokenizer.decode(ids[-self.reach :])
        return any(text in tail for text in self.stop)

    def cut(self, prompt: Sequence[int], new: Sequence[int]) -> tuple[list[int], str, Finish]:
        """(new tokens up to the end of the row, their text, why it ended); an end token and a stop text are no text."""
        finish: Finish = "length"
        kept = list(new)
        end = next((at for at, number in enumerate(kept) if number in self.ids), None)
        if end is not None:
            kept, finish = kept[:end], "end_of_text"
        text = text_after(self.tokenizer, prompt, kept)
        at = min((text.find(stop) for stop in self.stop if stop in text), default=None)
        if at is not None:
            kept, finish = self._until_stop(prompt, kept), "stop"
            text = text[:at]
        return kept, text, finish

    def _until_stop(self, prompt: Sequence[int], new: list[int]) -> list[int]:
        """The fewest first tokens whose text holds a stop text."""
        low, high = 1, len(new)
        while low < high:
            middle = (low + high) // 2
            text = text_after(self.tokenizer, prompt, new[:middle])
            low, high = (low, middle) if any(stop in text for stop in self.stop) else (middle + 1, high)
        return new[:low]


class StopTexts:
    """Ends a row at Transformers' `generate` when it holds a stop text."""

    def __init__(self, endings: Endings, prompt_length: int) -> None:
        self.endings = endings
        self.prompt_length = prompt_length

    def __call__(self, input_ids: Tensor, scores: object, **options: object) -> Tensor:
        del scores, options
        rows = input_ids[:, self.prompt_length :].tolist()
        return torch.tensor([self.endings.stops(row) for row in rows], device=input_ids.device)


def text_after(tokenizer: Tokenizer, prompt: Sequence[int], new: Sequence[int]) -> str:
    """The text of `new` as it stands after `prompt`: with the blank between them where there is one."""
    tail = list(prompt)[-_MARGIN:]
    before, whole = tokenizer.decode(tail), tokenizer.decode([*tail, *new])
    return whole[len(before) :] if whole.startswith(before) else tokenizer.decode(list(new))


class TextStream:
    """Text as its tokens come, in parts that hold whole characters; the parts together are the whole text.

    What may yet become part of a stop text, or of a character, waits.
    """

    def __init__(self, endings: Endings, prompt: Sequence[int]) -> None:
        self._endings = endings
        self._prompt = list(prompt)
        self._new: list[int] = []
        self._given = 0
        self._is_over = False

    def put(self, number: int) -> str:
        """The text that a further token makes certain; may be empty."""
        if self._is_over or number in self._endings.ids:
            self._is_over = True
            return ""
        self._new.append(number)
        text = text_after(self._endings.tokenizer, self._prompt, self._new)
        at = min((text.find(stop) for stop in self._endings.stop if stop in text), default=None)
        if at is not None:
            self._is_over = True
            return self._upto(text, at)
        return self._upto(text, len(text.rstrip("\ufffd")) - self._waiting(text.rstrip("\ufffd")))

    def end(self, text: str) -> str:
        """What is still to be given of the row's whole text."""
        return self._upto(text, len(text))

    def _upto(self, text: str, at: int) -> str:
        part = text[self._given : at]
        self._given = max(self._given, at)
        return part

    def _waiting(self, text: str) -> int:
        """Characters at the end that a stop text may begin with."""
        sizes = (size for stop in self._endings.stop for size in range(1, len(stop) + 1) if text.endswith(stop[:size]))
        return max(sizes, default=0)
