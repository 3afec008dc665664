"""A corpus that is tokenised while it is trained on: a block of documents at a time, and no token cache.

Letters: A samples ahead, D samples of a step.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from instar.config import Config
from instar.core.errors import DataError
from instar.core.seeds import derive
from instar.data.batch import Batch
from instar.data.cache import TokenCache, cache_of
from instar.data.document import Document
from instar.data.permutation import permute
from instar.data.samples import Cut, Samples
from instar.data.source import ColumnSource, SavedDataset, Source, Text
from instar.data.tokenizer import Tokenizer

Ints = NDArray[np.int64]
BLOCK_CHARACTERS = 1 << 24
"""Characters of a block at most, however few documents these are."""


class Streaming(Config):
    """Tokenise the training data during training, instead of beforehand into a cache."""

    documents: int = Field(default=16_384, ge=1)
    """Documents of a block: they are tokenised together and shuffled among themselves (16 Mi characters at most)."""


@dataclass(frozen=True)
class Position:
    """Where a block of documents begins."""

    samples: int = 0
    """Samples of the run before it."""
    epoch: int = 0
    """Pass over the corpus."""
    sample: int = 0
    """Number of its first sample in this pass."""
    file: int = 0
    document: int = 0
    """Documents of that file before it."""


class Reader:
    """The documents of a source from any position on."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self._parts = list(_parts(source))

    def documents(self, file: int, document: int) -> Iterator[tuple[Document, int, int]]:
        """(document, its file, its number in the file), to the end of the corpus.

        Files before `file` are not opened; in it, `document` documents are read and passed over.
        """
        for number in range(file, len(self._parts)):
            skipped = document if number == file else 0
            for index, one in enumerate(islice(self._parts[number].documents(), skipped, None), skipped):
                yield one, number, index

    def blocks(self, start: Position, size: int) -> Iterator[tuple[list[Document], Position]]:
        """Blocks of documents from `start` to the end of the pass, each with where the next one begins."""
        held: list[Document] = []
        characters = 0
        file, document = start.file, start.document
        for one, number, index in self.documents(file, document):
            if held and (len(held) == size or characters + len(one.text) > BLOCK_CHARACTERS):
                yield held, Position(file=file, document=document)
                held, characters = [], 0
            held.append(one)
            characters += len(one.text)
            file, document = number, index + 1
        if held:
            yield held, Position(file=file, document=document)


def first_texts(source: Source, streaming: Streaming) -> Iterator[str]:
    """The texts of the first block, as a tokenizer is to see them."""
    documents, _ = next(Reader(source).blocks(Position(), streaming.documents), ([], None))
    for document in documents:
        yield source.normalized(document.text)


def _parts(source: Source) -> Iterator[Source]:
    """The source file by file, where what is read of a file does not depend on the others; else the source."""
    if isinstance(source, Text | ColumnSource) and not isinstance(source, SavedDataset):
        for path in source.files():
            yield source.model_copy(update={"path": str(path), "left_out": []})
    else:
        source.files()
        yield source


@dataclass(frozen=True, kw_only=True)
class BlockCaches:
    """Makes the tokens of a block, in memory."""

    source: Source
    tokenizer: Tokenizer
    folder: Path
    """Holds the block's files while they are made."""
    labels: Sequence[str] | None
    fingerprint: str
    """Names the corpus; see `stream_fingerprint`."""
    check: Callable[[TokenCache], None] = lambda _: None
    """Raises if a block is not to be trained on."""

    def of(self, documents: Sequence[Document]) -> TokenCache | None:
        """None where no document has text (or a label, where labels are learnt)."""
        cache = cache_of(documents, self.source, self.tokenizer, self.folder, self.fingerprint, labels=self.labels)
        if cache is not None:
            self.check(cache)
        return cache


@dataclass(frozen=True, kw_only=True)
class StreamedCorpus:
    """Training data that are streamed, with their first block."""

    reader: Reader
    caches: BlockCaches
    streaming: Streaming
    first: TokenCache
    """The tokens of the first block that has any."""
    first_at: Position
    """Where that block begins in each pass."""

    @classmethod
    def of(cls, caches: BlockCaches, streaming: Streaming) -> "StreamedCorpus":
        """DataError where the corpus has no text."""
        reader, at = Reader(caches.source), Position()
        for documents, following in reader.blocks(at, streaming.documents):
            first = caches.of(documents)
            if first is not None:
                return cls(reader=reader, caches=caches, streaming=streaming, first=first, first_at=at)
            at = following
        raise DataError(f"{caches.source.files()[0]}: no document has any text (or label); nothing to learn from")

    def cache(self, documents: Sequence[Document], at: Position) -> TokenCache | None:
        """The tokens of the block that begins at a position; the first block's are kept."""
        if (at.file, at.document) == (self.first_at.file, self.first_at.document):
            return self.first
        return self.caches.of(documents)

    @property
    def notice(self) -> str:
        """What the figures of the data are of."""
        return (
            f"is streamed; its tokens, labels and the baseline are counted in its first {self.first.num_documents:,} "
            "documents"
        )


@dataclass(frozen=True)
class _Part:
    """Samples of one block that no step has taken yet, in the order of training."""

    samples: Samples
    first: int
    """Number of the block's first sample in the pass."""
    epoch: int
    index_A: Ints
    length_A: Ints

    def take(self, count: int) -> tuple[Batch, "_Part"]:
        """The next samples, longest first, and what is left."""
        length_D = self.length_A[:count]
        index_D = self.index_A[:count][np.argsort(-length_D, kind="stable")]
        return self.samples.gather(index_D, np.full(count, self.epoch)).renumbered(index_D + self.first), self.after(
            count
        )

    def after(self, count: int) -> "_Part":
        """What is left without the next samples."""
        return replace(self, index_A=self.index_A[count:], length_A=self.length_A[count:])


class CorpusStream:
    """Endless passes over a corpus of any size, cut into optimizer steps; a block of documents is in memory at a time.

    Documents come in the order of the files, and the samples of each block in an order drawn from (seed, pass, block).
    A step takes samples of the next block where a block ends, so nothing is dropped and no step is cut short. The
    stream from `start` samples on gives the steps that would have followed, once `resume` has the block's position.
    """

    def __init__(
        self,
        corpus: StreamedCorpus,
        cut: Cut,
        *,
        seed: int,
        batch_tokens: int | None,
        batch_samples: int | None,
        max_samples: int | None,
    ) -> None:
        self._corpus, self._cut = corpus, cut
        self.seed, self.max_samples = seed, max_samples
        self.batch_tokens, self.batch_samples = batch_tokens, batch_samples
        self._begun: deque[Position] = deque([Position()])
        self.log: Callable[[str], None] = lambda _: None

    def position(self, samples: int) -> Position:
        """Where the block begins in which the run stands after so many samples; earlier ones are forgotten."""
        while len(self._begun) > 1 and self._begun[1].samples <= samples:
            self._begun.popleft()
        return self._begun[0]

    def resume(self, position: Position) -> None:
        """Begin at a block that `position` gave, when the stream is asked for its steps next."""
        self._begun = deque([position])

    def steps(self, start: int = 0) -> Iterator[Batch]:
        """Steps from sample number `start` of the run, which lies in the block at the stream's position."""
        parts: deque[_Part] = deque()
        skipped = start - self._begun[0].samples
        taken_before = start
        blocks = self._blocks(self._begun[0])
        while self.max_samples is None or taken_before < self.max_samples:
            while (size := self._fit(parts, taken_before)) is None:
                part = next(blocks)
                if skipped >= len(part.index_A):
                    skipped -= len(part.index_A)
                    continue
                parts.append(part if not skipped else part.after(skipped))
                skipped = 0
            taken_before += size
            yield _joined(parts, size)

    def _fit(self, parts: deque[_Part], before: int) -> int | None:
        """How many of the samples ahead make the next step; None: more are needed to know."""
        length_A = np.concatenate([part.length_A for part in parts]) if parts else np.empty(0, dtype=np.int64)
        most = len(length_A) if self.max_samples is None else min(len(length_A), self.max_samples - before)
        is_last = self.max_samples is not None and len(length_A) >= self.max_samples - before
        if self.batch_samples is not None:
            return self.batch_samples if most >= self.batch_samples else most if is_last else None
        fitting = int(np.searchsorted(np.cumsum(length_A[:most]), self.batch_tokens or 0, side="right"))
        if fitting < most:
            return max(1, fitting)
        return most if is_last else None

    def _blocks(self, position: Position) -> Iterator[_Part]:
        """The samples of each block, pass after pass."""
        is_first = True
        while True:
            for documents, following in self._corpus.reader.blocks(position, self._corpus.streaming.documents):
                if not is_first:
                    self._begun.append(position)
                is_first = False
                count = 0
                cache = self._corpus.cache(documents, position)
                if cache is not None:
                    samples = Samples(cache, self._corpus.caches.tokenizer, self._cut)
                    count = len(samples)
                    key = derive(self.seed, "shuffle", position.epoch, position.sample)
                    index_A = permute(np.arange(count), count, key)
                    yield _Part(samples, position.sample, position.epoch, index_A, samples.lengths(index_A))
                position = Position(
                    samples=position.samples + count,
                    epoch=position.epoch,
                    sample=position.sample + count,
                    file=following.file,
                    document=following.document,
                )
            if position.sample == 0:
                raise DataError(f"{self._corpus.reader.source.files()[0]}: no document has any text (or label)")
            self.log(
                f"data.train: pass {position.epoch + 1} ends after {position.sample:,} samples; the next one begins"
            )
            position = Position(samples=position.samples, epoch=position.epoch + 1)


def _joined(parts: deque[_Part], size: int) -> Batch:
    """The next samples of the parts as one step; parts that are used up are dropped."""
    batches = []
    while size:
        part = parts.popleft()
        count = min(size, len(part.index_A))
        batch, rest = part.take(count)
        batches.append(batch)
        size -= count
        if len(rest.index_A):
            parts.appendleft(rest)
    return Batch.joined(batches)
