"""Tokenizers of the `tokenizers` library."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from instar.core.errors import DataError
from instar.data.tokenizer.codec import Encoded


class FastCodec:
    """Wraps a `tokenizers.Tokenizer`; special tokens that stand in a text are plain text.

    Made from its JSON, which is kept: writing it anew would change the last digits of Unigram's scores.
    """

    kind = "fast"

    def __init__(self, text: str) -> None:
        from tokenizers import Tokenizer

        backend = Tokenizer.from_str(text)
        self.text = text
        backend.no_truncation()
        backend.no_padding()
        backend.encode_special_tokens = True
        self._backend = backend
        self.vocab_size = max(backend.get_vocab(with_added_tokens=True).values(), default=-1) + 1

    def encode(self, texts: Sequence[str]) -> list[Encoded]:
        try:
            encodings = self._backend.encode_batch(list(texts), add_special_tokens=False)
        except BaseException as error:
            if type(error).__name__ != "PanicException":  # the library's own faults are no Exception
                raise
            raise DataError(f"the tokenizer cannot read these texts: {' '.join(str(error).split())[:300]}") from None
        return [self._tiled(text, encoding) for text, encoding in zip(texts, encodings, strict=True)]

    @staticmethod
    def _tiled(text: str, encoding: Any) -> Encoded:
        ids = np.array(encoding.ids, dtype=np.int32)
        spans = np.fromiter(itertools.chain.from_iterable(encoding.offsets), np.int64, 2 * len(ids))
        ends = np.maximum.accumulate(spans[1::2]) if len(ids) else spans
        if len(ids):
            ends[-1] = len(text)
        return Encoded(ids, ends.astype(np.uint32))

    def decode(self, ids: Sequence[int]) -> str:
        return str(self._backend.decode(list(ids), skip_special_tokens=False))

    def token(self, number: int) -> str:
        return str(self._backend.id_to_token(number) or "")

    def number(self, token: str) -> int | None:
        found: int | None = self._backend.token_to_id(token)
        return found

    def options(self) -> dict[str, Any]:
        return {}

    def backend(self) -> Any:
        return self._backend
