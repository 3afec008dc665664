"""Tokenizers of fixed cuts, made for speed: single characters and k-mers."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instar.data.tokenizer.codec import Encoded

BASES = "ACGT"


class _Words:
    """A vocabulary that is a plain list: special tokens first."""

    def __init__(self, specials: Iterable[str], words: Iterable[str]) -> None:
        self.specials = list(specials)
        self.words = list(words)
        self._tokens = [*self.specials, *self.words]
        self._numbers = {token: number for number, token in enumerate(self._tokens)}
        self.vocab_size = len(self._tokens)
        self.unk = self._numbers["[UNK]"]

    def token(self, number: int) -> str:
        return self._tokens[number] if 0 <= number < self.vocab_size else ""

    def number(self, token: str) -> int | None:
        return self._numbers.get(token)

    def word_level(self, pattern: str) -> Any:
        """The `tokenizers` form: every match of `pattern` is one word."""
        from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

        backend = Tokenizer(models.WordLevel(self._numbers, unk_token="[UNK]"))
        backend.pre_tokenizer = pre_tokenizers.Split(Regex(pattern), "isolated")
        backend.decoder = decoders.Fuse()
        backend.add_special_tokens(self.specials)
        return backend


class CharacterCodec(_Words):
    """One token a character; characters outside the vocabulary are [UNK]."""

    kind = "character"

    def __init__(self, specials: Iterable[str], characters: Iterable[str]) -> None:
        super().__init__(specials, characters)
        points = np.array([ord(character) for character in self.words], dtype=np.int64)
        self._table = np.full(points.max(initial=0) + 2, self.unk, dtype=np.int32)
        self._table[points] = len(self.specials) + np.arange(len(points), dtype=np.int32)

    def encode(self, texts: Sequence[str]) -> list[Encoded]:
        return [self._encode(text) for text in texts]

    def _encode(self, text: str) -> Encoded:
        points = np.frombuffer(text.encode("utf-32-le"), dtype="<u4")
        return Encoded(self._table.take(points, mode="clip"), np.arange(1, len(points) + 1, dtype=np.uint32))

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(map(self.token, ids))

    def options(self) -> dict[str, Any]:
        return {"specials": self.specials, "characters": self.words}

    def backend(self) -> Any:
        return self.word_level(r"[\s\S]")


class KmerCodec(_Words):
    """Words of k bases, a new one every `stride` bases; case does not matter.

    The first word owns its k bases, each later one the `stride` bases it adds. What is
    left at the end is one [UNK], and so is a word that holds anything but A, C, G, T; U is T.
    """

    kind = "kmer"

    def __init__(self, specials: Iterable[str], k: int, stride: int) -> None:
        grid = np.indices((4,) * k).reshape(k, -1).T
        letters = np.frombuffer(BASES.encode(), dtype="S1")[grid]
        super().__init__(specials, [word.decode() for word in np.ascontiguousarray(letters).view(f"S{k}").ravel()])
        self.k, self.stride = k, stride
        self._codes = np.full(256, 4, dtype=np.uint8)
        for code, base in enumerate(BASES):
            self._codes[[ord(base), ord(base.lower())]] = code
        self._codes[[ord("U"), ord("u")]] = self._codes[ord("T")]

    def encode(self, texts: Sequence[str]) -> list[Encoded]:
        return [self._encode(text) for text in texts]

    def _encode(self, text: str) -> Encoded:
        codes = self._codes[np.frombuffer(text.encode("ascii", "replace"), dtype=np.uint8)]
        length = len(codes)
        count = max(0, (length - self.k) // self.stride + 1)
        covered = self.k + (count - 1) * self.stride if count else 0
        whole = count + (covered < length)
        ids = np.full(whole, self.unk, dtype=np.int32)
        ids[:count] = self._words_of(codes, count)
        ends = np.full(whole, length, dtype=np.uint32)
        ends[:count] = self.k + self.stride * np.arange(count, dtype=np.uint32)
        return Encoded(ids, ends)

    def _words_of(self, codes: NDArray[np.uint8], count: int) -> NDArray[np.int32]:
        values = np.zeros(count, dtype=np.int32)
        unknown = np.zeros(count, dtype=np.bool_)
        for place in range(self.k if count else 0):
            letter = codes[place : place + (count - 1) * self.stride + 1 : self.stride]
            values = (values << 2) | (letter & 3)
            unknown |= letter > 3
        values += len(self.specials)
        values[unknown] = self.unk
        return values

    def decode(self, ids: Sequence[int]) -> str:
        words = [self.token(number) for number in ids]
        return "".join([*words[:1], *(word[-self.stride :] for word in words[1:])])

    def options(self) -> dict[str, Any]:
        return {"specials": self.specials, "k": self.k, "stride": self.stride}

    def backend(self) -> Any:
        if self.stride != self.k:
            return None
        from tokenizers import normalizers

        backend = self.word_level(rf"[\s\S]{{1,{self.k}}}")
        read_as = {**{base.lower(): base for base in BASES}, "U": "T", "u": "T"}
        backend.normalizer = normalizers.Sequence([normalizers.Replace(*pair) for pair in read_as.items()])
        return backend
