"""Samples that are cut again in each pass: moved, tokenised from where they begin, on one strand or the other.

Letters: D documents of a batch, T tokens, N samples asked for.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from instar.core.seeds import derive, uniform
from instar.data.batch import Batch
from instar.data.samples import Samples
from instar.data.texts import Texts
from instar.genome.fasta import as_dna
from instar.genome.strand import reverse_complement

Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class CropOptions:
    """What changes from pass to pass."""

    moves: bool = True
    """Each sample begins up to half its length before or after its position, and is tokenised from there."""
    reverse_complement: float = 0.0
    """Probability that a sample is read on the minus strand."""
    seed: int = 0
    minus_first: int = 0
    """Added to the index of characters that were read on the minus strand: 0, or the corpus's length."""


class _Crop(NamedTuple):
    document: int
    start: int
    end: int
    is_minus: bool


class Crops:
    """As many samples as those it is made of, of the same lengths at most; a sample is a function of (seed, epoch).

    A sample stays within its segment, so nothing that is held out is ever read. Batches carry `starts_T` and
    `characters_T` in plus coordinates: a token [s, e) of a minus strand of length L stands for [L - e, L - s).
    """

    def __init__(self, samples: Samples, texts: Texts, first_N: Ints, options: CropOptions) -> None:
        self.samples, self.texts, self.first_N, self.options = samples, texts, first_N, options
        self._has_case = samples.cache.lower is not None
        self._special = np.zeros(samples.tokenizer.vocab_size, dtype=np.bool_)
        self._special[list(samples.tokenizer.special_ids)] = True

    def __len__(self) -> int:
        return len(self.samples)

    def lengths(self, index_N: NDArray[np.integer]) -> Ints:
        """Tokens of each sample, at most."""
        return self.samples.lengths(index_N)

    def gather(self, index_D: NDArray[np.integer], epochs_D: NDArray[np.integer]) -> Batch:
        """The samples of these passes as one packed batch."""
        samples_D: Ints = np.asarray(index_D, dtype=np.int64)
        passes_D: Ints = np.asarray(epochs_D, dtype=np.int64)
        crops = self._crops(samples_D, passes_D)
        texts = [self.texts.part(crop.document, crop.start, crop.end) for crop in crops]
        texts = [reverse_complement(text) if crop.is_minus else text for text, crop in zip(texts, crops, strict=True)]
        encoded = self.samples.tokenizer.encode_batch([as_dna(text) for text in texts] if self._has_case else texts)
        room_D = self.samples.lengths(samples_D)
        columns: list[list[Ints]] = [[], [], [], []]
        for crop, text, one, room in zip(crops, texts, encoded, room_D.tolist(), strict=True):
            for column, part in zip(columns, self._document(crop, text, one.ids, one.ends, room), strict=True):
                column.append(part)
        ids_T, starts_T, characters_T, lower_T = (torch.from_numpy(np.concatenate(column)) for column in columns)
        return Batch(
            ids_T=ids_T,
            lengths=tuple(len(part) for part in columns[0]),
            samples_D=samples_D,
            epochs_D=passes_D,
            maskable_T=torch.from_numpy(~self._special[ids_T.numpy()]),
            starts_T=starts_T,
            characters_T=characters_T,
            lower_T=lower_T.bool() if self._has_case else None,
        )

    def _document(
        self, crop: _Crop, text: str, ids: NDArray[np.integer], ends: NDArray[np.integer], room: int
    ) -> tuple[Ints, Ints, Ints, Ints]:
        """Ids, indices, lengths and case of a sample's tokens, special ones around them."""
        prefix, suffix = self.samples.tokenizer.cls_id, self.samples.tokenizer.sep_id
        if prefix is None or suffix is None:
            raise ValueError("crops stand between [CLS] and [SEP], and this tokenizer lacks one")
        ids, ends = ids[: room - 2].astype(np.int64), ends[: room - 2].astype(np.int64)
        length = np.diff(ends, prepend=0)
        first = self.first_N[crop.document]
        start = first + crop.start + ends - length
        if crop.is_minus:
            start = self.options.minus_first + first + crop.end - ends
        letters = np.frombuffer(text.encode("ascii", "replace"), dtype=np.uint8)
        count = np.concatenate([[0], np.cumsum(letters >= ord("a"))])
        lower = (count[ends] - count[ends - length] > 0).astype(np.int64)
        around = ([first], [first])
        return (
            np.concatenate([[prefix], ids, [suffix]]),
            np.concatenate([around[0], start, around[1]]),
            np.concatenate([[0], length, [0]]),
            np.concatenate([[0], lower, [0]]),
        )

    def _crops(self, samples_D: Ints, epochs_D: Ints) -> list[_Crop]:
        """Where each sample lies in this pass."""
        low_D, high_D, first_D, last_D = self.samples.character_bounds(samples_D)
        size_D = last_D - first_D
        start_D = first_D
        if self.options.moves:
            draw_D = uniform(derive(self.options.seed, "crop"), samples_D, epochs_D)
            moved_D = first_D + np.floor((draw_D - 0.5) * (size_D + 1)).astype(np.int64)
            start_D = np.clip(moved_D, low_D, np.maximum(low_D, high_D - size_D))
        is_minus_D = uniform(derive(self.options.seed, "strand"), samples_D, epochs_D) < self.options.reverse_complement
        document_D = self.samples.documents(samples_D)
        rows = (document_D.tolist(), start_D.tolist(), (start_D + size_D).tolist(), is_minus_D.tolist())
        return [_Crop(*row) for row in zip(*rows, strict=True)]
