"""What turns text into numbers, whatever its kind: no special tokens, exact offsets."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Encoded:
    """Tokens of one text.

    Token i covers the characters from `ends[i-1]` (0 for the first) to `ends[i]`; the last
    end is the length of the text. Characters that no token shows (blanks between words,
    removed control characters) belong to the token after them, at the end to the last one.
    Where a character became several tokens the first owns it and the others cover nothing.
    """

    ids: NDArray[np.int32]
    ends: NDArray[np.uint32]


@dataclass(frozen=True, kw_only=True)
class Specials:
    """Texts of the special tokens; None where there is none."""

    pad: str | None = None
    unk: str | None = None
    cls: str | None = None
    sep: str | None = None
    mask: str | None = None
    bos: str | None = None
    eos: str | None = None

    def named(self) -> dict[str, str]:
        """Name to text, of those that exist."""
        return {name: text for name, text in asdict(self).items() if text is not None}

    @classmethod
    def of(cls, values: dict[str, Any]) -> "Specials":
        """From name to text; other names are passed over."""
        known = {field.name for field in fields(cls)}
        return cls(**{name: text for name, text in values.items() if name in known and isinstance(text, str)})


TRAINED = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
"""Special tokens 0 to 4 of every tokenizer that instar makes."""


def trained_specials(end_of_text: str | None) -> tuple[list[str], Specials]:
    """(tokens 0.., their roles): [CLS] begins and [SEP] ends a text, or `end_of_text` does both where it is given."""
    pad, unk, cls, sep, mask = TRAINED
    tokens = [*TRAINED, end_of_text] if end_of_text else list(TRAINED)
    bos, eos = (end_of_text, end_of_text) if end_of_text else (cls, sep)
    return tokens, Specials(pad=pad, unk=unk, cls=cls, sep=sep, mask=mask, bos=bos, eos=eos)


class Codec(Protocol):
    """One way to cut text into tokens."""

    kind: str
    vocab_size: int

    def encode(self, texts: Sequence[str]) -> list[Encoded]:
        """Ids and ends of each text, without special tokens."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids; the caller has taken special tokens out."""
        ...

    def token(self, number: int) -> str:
        """A token as the vocabulary writes it; '' where there is none."""
        ...

    def number(self, token: str) -> int | None:
        """The id of a token, None where the vocabulary has none."""
        ...

    def options(self) -> dict[str, Any]:
        """What makes it again, as JSON; empty where `backend` says everything."""
        ...

    def backend(self) -> Any:
        """The same as a `tokenizers.Tokenizer`; None where that library cannot say it."""
        ...
