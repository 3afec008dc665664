"""Documents of a cache cut into samples that a model can take, and gathered into packed batches.

Letters: D documents of a batch (one a sample), T its tokens, N samples asked for, S segments.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from instar.core.errors import ConfigError, DataError
from instar.data.batch import Batch
from instar.data.cache import TokenCache
from instar.data.segments import ENOUGH_DOCUMENTS, Documents, Segments, split_blocks, split_documents, split_parts
from instar.data.tokenizer import Layout, Tokenizer

Ints = NDArray[np.int64]
TooLong = Literal["error", "truncate", "window"]
_SCAN = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Cut:
    """How documents become samples."""

    layout: Layout = "encoder"
    """encoder: every sample stands between [CLS] and [SEP]. decoder: a document ends with eos. none: bare."""
    bos: bool = False
    """Whether a document also begins with bos (decoder)."""
    max_length: int | None = None
    """Tokens of a sample at most, special tokens included; None: no limit."""
    too_long: TooLong = "error"
    """What becomes of a longer document."""
    overlap: int = 0
    """Tokens that a window shares with the one before it."""


class _SpecialIds(NamedTuple):
    """Ids of special tokens; None where there is none."""

    prefix: int | None = None
    suffix: int | None = None
    begin: int | None = None
    end: int | None = None


class _Location(NamedTuple):
    """Where samples lie. A document counts its own begin and end token as tokens."""

    document_N: Ints
    source_N: Ints
    """Index in the token store of the sample's first token, prefix counted in."""
    length_N: Ints
    begins_N: NDArray[np.bool_] | None
    """Whether the sample begins with its document's begin token; None: none does."""
    ends_N: NDArray[np.bool_] | None


class _Sizes(NamedTuple):
    """Of segments: tokens with begin and end token, document, first token in it, and which special tokens they have."""

    size_S: Ints
    document_S: Ints
    first_S: Ints
    begins_S: NDArray[np.bool_] | None
    ends_S: NDArray[np.bool_] | None


class Samples:
    """A numbered list of samples; number, content and order depend on nothing but the cache and the cut."""

    def __init__(self, cache: TokenCache, tokenizer: Tokenizer, cut: Cut, segments: Segments | None = None) -> None:
        self.cache, self.tokenizer, self.cut = cache, tokenizer, cut
        self._ids: NDArray[np.integer] = np.asarray(cache.ids)
        self._offsets: Ints = np.asarray(cache.offsets)
        self.segments: Segments = segments or Documents(self._offsets, 0, cache.num_documents)
        self._special = _special_ids(tokenizer, cut)
        self._around = (self._special.prefix is not None) + (self._special.suffix is not None)
        self._room = _room(cut, self._around)
        self._fixed = np.ones(tokenizer.vocab_size, dtype=np.bool_)
        self._fixed[list(tokenizer.special_ids)] = False
        self._windows: Ints | None = None
        self._is_cut = False
        self.report = {"samples": len(self.segments), "segments": len(self.segments), "truncated": 0, "cut_tokens": 0}
        """samples, segments; truncated (samples) and cut_tokens (lost by that); windowed (segments)."""
        self.report["windowed"] = 0
        self._cut_long()

    @property
    def label_names(self) -> tuple[str, ...] | None:
        """Names of the classes by number; None for numbers or where there are no labels."""
        return self.cache.label_names

    def __len__(self) -> int:
        return len(self.segments) if self._windows is None else int(self._windows[-1])

    def _cut_long(self) -> None:
        """Find what is too long, and count it; the table of windows is made only where there are any."""
        room = self._room
        special = (self._special.begin is not None) + (self._special.end is not None)
        if room is None or self.cache.report["longest_document"] + special <= room:
            return
        table = np.zeros(len(self.segments) + 1, dtype=np.int64) if self.cut.too_long == "window" else None
        longest = count = lost = 0
        for first in range(0, len(self.segments), _SCAN):
            index = np.arange(first, min(first + _SCAN, len(self.segments)), dtype=np.int64)
            size = self._sizes(index).size_S
            over = size - room
            count += int((over > 0).sum())
            lost += int(over[over > 0].sum())
            longest = max(longest, int(size.max()))
            if table is not None:
                table[index + 1] = 1 + np.maximum(0, -(-over // (room - self.cut.overlap)))
        if not count:
            return
        self._is_cut = True
        if table is not None:
            self._windows = np.cumsum(table, out=table)
            self.report.update(samples=int(table[-1]), windowed=count)
        elif self.cut.too_long == "truncate":
            self.report.update(truncated=count, cut_tokens=lost)
        else:
            raise DataError(
                f"{count:,} of {len(self.segments):,} documents are longer than max_length {self.cut.max_length} "
                f"(the longest has {longest + self._around:,} tokens, special tokens included); "
                "set `too_long: window` or `too_long: truncate`, or raise max_length"
            )

    def _sizes(self, index_S: Ints) -> _Sizes:
        document_S, first_S, end_S = self.segments.bounds(index_S)
        size_S = end_S - first_S
        begins_S = ends_S = None
        if self._special.begin is not None:
            begins_S = first_S == 0
            size_S = size_S + begins_S
        if self._special.end is not None:
            ends_S = end_S == self._offsets[document_S + 1] - self._offsets[document_S]
            size_S = size_S + ends_S
        return _Sizes(size_S, document_S, first_S, begins_S, ends_S)

    def _locate(self, index_N: Ints) -> _Location:
        segment_N, start_N = index_N, None
        if self._windows is not None and self._room is not None:
            segment_N = np.searchsorted(self._windows, index_N, side="right") - 1
            start_N = (index_N - self._windows[segment_N]) * (self._room - self.cut.overlap)
        size_N, document_N, source_N, begins_N, ends_N = self._sizes(segment_N)
        source_N = source_N + self._offsets[document_N]
        if self._special.prefix is not None:
            source_N -= 1
        if begins_N is not None:
            source_N -= begins_N
        left_N = size_N
        if start_N is not None:
            source_N += start_N
            left_N = size_N - start_N
            begins_N = None if begins_N is None else begins_N & (start_N == 0)
        shown_N = np.minimum(left_N, self._room) if self._is_cut and self._room is not None else left_N
        if (
            self.cache.prompts is not None and self.cut.too_long == "truncate"
        ):  # what is asked matters less at its start
            source_N = source_N + left_N - shown_N
            begins_N = None if begins_N is None else begins_N & (shown_N == left_N)
        elif ends_N is not None:
            ends_N = ends_N & (shown_N == left_N)
        return _Location(document_N, source_N, shown_N + self._around, begins_N, ends_N)

    def lengths(self, index_N: NDArray[np.integer]) -> Ints:
        """Tokens of each sample, special tokens included."""
        return self._locate(np.asarray(index_N, dtype=np.int64)).length_N

    def documents(self, index_N: NDArray[np.integer]) -> Ints:
        """Number in the cache of the document that each sample was cut from."""
        return self._locate(np.asarray(index_N, dtype=np.int64)).document_N

    def store_paths(self, index_D: NDArray[np.integer]) -> Ints:
        """(T,) index in the cache's arrays of each token that `gather` gives; -1 for special tokens it added."""
        location = self._locate(np.asarray(index_D, dtype=np.int64))
        boundaries = _boundaries(location)
        source_T = _sources(location, boundaries)
        for at, _ in self._added(location, boundaries):
            source_T[at] = -1
        return source_T

    def characters(self, index_D: NDArray[np.integer]) -> Ints:
        """(T,) characters that each token `gather` gives stands for; 0 for special tokens it added."""
        index_T = self.store_paths(index_D)
        is_text_T = index_T >= 0
        index_T = np.maximum(index_T, 0)
        ends_T = np.asarray(self.cache.ends[index_T], dtype=np.int64)
        before_T = np.asarray(self.cache.ends[np.maximum(index_T - 1, 0)], dtype=np.int64)
        document_T = np.repeat(self.documents(index_D), self.lengths(index_D))
        before_T[index_T == self._offsets[document_T]] = 0
        return np.where(is_text_T, ends_T - before_T, 0)

    def character_bounds(self, index_D: Ints) -> tuple[Ints, Ints, Ints, Ints]:
        """(low, high, first, last): the characters of its document that each segment and sample has."""
        segment_D = index_D
        if self._windows is not None:
            segment_D = np.searchsorted(self._windows, index_D, side="right") - 1
        document_D, low_D, high_D = self.segments.bounds(segment_D)
        location = self._locate(index_D)
        first_D = location.source_N + (self._special.prefix is not None) - self._offsets[document_D]
        last_D = first_D + location.length_N - self._around

        def character(token_D: Ints) -> Ints:
            """Where the text before a token ends."""
            ends_D = np.asarray(self.cache.ends[np.maximum(self._offsets[document_D] + token_D - 1, 0)], dtype=np.int64)
            return np.where(token_D == 0, 0, ends_D)

        return character(low_D), character(high_D), character(first_D), character(last_D)

    def gather(self, index_D: NDArray[np.integer], epochs_D: NDArray[np.integer]) -> Batch:
        """The samples end to end in one packed row, in the order asked for; no loop over documents or tokens."""
        samples_D: Ints = np.asarray(index_D, dtype=np.int64)
        location = self._locate(samples_D)
        boundaries = _boundaries(location)
        ids_T = self._ids.take(_sources(location, boundaries), mode="clip").astype(np.int64)
        for at, number in self._added(location, boundaries):
            ids_T[at] = number
        return Batch(
            ids_T=torch.from_numpy(ids_T),
            lengths=tuple(location.length_N.tolist()),
            samples_D=samples_D,
            epochs_D=np.asarray(epochs_D, dtype=np.int64),
            labels_D=self._labels(location.document_N),
            prompts_D=self._prompts(location),
            maskable_T=torch.from_numpy(self._fixed.take(ids_T)),
        )

    def _added(self, location: _Location, boundaries: Ints) -> Iterator[tuple[Ints, int]]:
        special = self._special
        if special.prefix is not None:
            yield boundaries[:-1], special.prefix
        if special.suffix is not None:
            yield boundaries[1:] - 1, special.suffix
        if special.begin is not None and location.begins_N is not None:
            yield boundaries[:-1][location.begins_N] + (special.prefix is not None), special.begin
        if special.end is not None and location.ends_N is not None:
            yield boundaries[1:][location.ends_N] - 1 - (special.suffix is not None), special.end

    def _labels(self, document_D: Ints) -> torch.Tensor | None:
        if self.cache.labels is None:
            return None
        dtype = np.int64 if self.cache.label_kind == "class" else np.float32
        return torch.from_numpy(np.asarray(self.cache.labels[document_D]).astype(dtype))

    def _prompts(self, location: _Location) -> torch.Tensor | None:
        """Tokens of each sample, special ones before them counted, that its document gives and that are not learnt."""
        if self.cache.prompts is None:
            return None
        first_D = location.source_N - self._offsets[location.document_N]
        given_D = self.cache.prompts[location.document_N].astype(np.int64) - first_D
        return torch.from_numpy(np.clip(given_D, 0, location.length_N))

    def batches(self, batch_tokens: int, *, rank: int = 0, shares: int = 1) -> Iterator[Batch]:
        """Every sample once, in order, in batches of at most `batch_tokens` tokens (a longer sample comes alone).

        `rank` of `shares` gets one contiguous share; shares differ by one sample at most.
        """
        if batch_tokens < 1 or not 0 <= rank < shares:
            raise ValueError(f"wanted batch_tokens >= 1 and 0 <= rank < shares; got {batch_tokens}, {rank}, {shares}")
        first, last = len(self) * rank // shares, len(self) * (rank + 1) // shares
        return map(self._batch, self._grouped(first, last, batch_tokens))

    def batches_in_turn(self, batch_tokens: int, *, rank: int, shares: int) -> Iterator[Batch]:
        """Of the batches that `batches` makes of all samples every `shares`-th, from number `rank` on."""
        grouped = islice(self._grouped(0, len(self), batch_tokens), rank, None, shares)
        return map(self._batch, grouped)

    def _grouped(self, first: int, last: int, batch_tokens: int) -> Iterator[Ints]:
        """The samples from `first` to `last` in groups of at most `batch_tokens` tokens."""
        while first < last:
            ahead = np.arange(first, min(last, first + batch_tokens, first + _SCAN), dtype=np.int64)
            total = np.cumsum(self.lengths(ahead[: 1 << 14]))
            taken = max(1, int(np.searchsorted(total, batch_tokens, side="right")))
            yield ahead[:taken]
            first += taken

    def _batch(self, index_D: Ints) -> Batch:
        batch = self.gather(index_D, np.zeros(len(index_D), dtype=np.int64))
        return replace(batch, characters_T=torch.from_numpy(self.characters(index_D)))

    def split(self, fraction: float, seed: int) -> tuple["Samples", "Samples"]:
        """(train, held out), two sets that share no token; equal arguments give equal sets.

        Whole documents are held out, drawn by a keyed permutation (constant memory), where the documents
        have labels or are not cut into windows, or where at least ENOUGH_DOCUMENTS would be held out and the
        longest is no more than half of what is held out. Otherwise (a genome, a book) up to
        eight contiguous blocks of each document are held out, and windows are cut within blocks only.
        """
        if not 0 < fraction < 1:
            raise ConfigError([f"split: wanted a number above 0 and below 1; got {fraction}"])
        pair: tuple[Segments, Segments]
        if self.cache.parts is not None:
            pair = split_parts([self._split(part, fraction, seed) for part in self._parts(self.cache.parts)])
        else:
            pair = self._split(self.segments, fraction, seed)
        rest, held = (Samples(self.cache, self.tokenizer, self.cut, segments) for segments in pair)
        return rest, held

    def _parts(self, counts: Sequence[int]) -> Iterator[Documents]:
        """The documents of each source of a mixture, before anything is held out."""
        if not isinstance(self.segments, Documents) or len(self.segments) != self.cache.num_documents:
            raise ValueError("some of the mixture is held out already")
        first = 0
        for count in counts:
            yield Documents(self._offsets, first, count)
            first += count

    def _split(self, segments: Segments, fraction: float, seed: int) -> tuple[Segments, Segments]:
        if isinstance(segments, Documents) and self._by_documents(segments, fraction):
            return split_documents(segments, fraction, seed)
        return split_blocks(segments, fraction, seed, self._room or 1)

    def part_bounds(self) -> tuple[int, ...]:
        """Number of the first sample of each source of a mixture, and of all samples; one source is one part."""
        if self.cache.parts is None:
            return (0, len(self))
        document_S, _, _ = self.segments.bounds(np.arange(len(self.segments), dtype=np.int64))
        part_S = np.searchsorted(np.cumsum(self.cache.parts), document_S, side="right")
        bounds = np.searchsorted(part_S, np.arange(len(self.cache.parts) + 1))
        return tuple((bounds if self._windows is None else self._windows[bounds]).tolist())

    def _by_documents(self, documents: Documents, fraction: float) -> bool:
        if (
            self.cut.too_long != "window"
            or self.cache.labels is not None
            or self.cache.prompts is not None
            or self._room is None
        ):
            return True
        enough = documents.count * fraction >= ENOUGH_DOCUMENTS
        return enough and self.cache.report["longest_document"] * 2 <= fraction * self.cache.num_tokens


def _boundaries(location: _Location) -> Ints:
    boundaries = np.zeros(len(location.length_N) + 1, dtype=np.int64)
    np.cumsum(location.length_N, out=boundaries[1:])
    return boundaries


def _sources(location: _Location, boundaries: Ints) -> Ints:
    source_T = np.repeat(location.source_N - boundaries[:-1], location.length_N)
    source_T += np.arange(boundaries[-1])
    return source_T


def _special_ids(tokenizer: Tokenizer, cut: Cut) -> _SpecialIds:
    wanted: dict[str, tuple[str, int | None]] = {}
    if cut.layout == "encoder":
        wanted = {"prefix": ("cls", tokenizer.cls_id), "suffix": ("sep", tokenizer.sep_id)}
    elif cut.layout == "decoder":
        wanted = {"end": ("eos", tokenizer.eos_id)}
        if cut.bos:
            wanted["begin"] = ("bos", tokenizer.bos_id)
    missing = [name for name, number in wanted.values() if number is None]
    if missing:
        raise DataError(f"the tokenizer has no {' and no '.join(missing)} token, and this task needs it")
    return _SpecialIds(**{name: number for name, (_, number) in wanted.items()})


def _room(cut: Cut, around: int) -> int | None:
    if cut.max_length is None:
        return None
    room = cut.max_length - around
    problems = []
    if room < 1:
        problems.append(f"max_length: wanted more than the {around} special tokens of a sample; got {cut.max_length}")
    elif not 0 <= cut.overlap < room:
        problems.append(f"overlap: wanted 0 to {room - 1} (below max_length less special tokens); got {cut.overlap}")
    if problems:
        raise ConfigError(problems)
    return room
