"""Documents to tokens in chunks, in this process or in several, always in order."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from instar.data.document import Document
from instar.data.tokenizer import Tokenizer

CHUNK_DOCUMENTS = 2048
CHUNK_CHARACTERS = 4 << 20
Waiting = deque[tuple[list[Document], Future[tuple[bytes, bytes, bytes]]]]


@dataclass(frozen=True)
class Tokens:
    """Tokens of a chunk of documents, end to end. Letters: T tokens, D documents."""

    ids_T: NDArray[np.int32]
    ends_T: NDArray[np.uint32]
    lengths_D: NDArray[np.int64]


def chunks(documents: Iterable[Document]) -> Iterator[list[Document]]:
    """Documents in lists of bounded size; a longer document comes alone."""
    held: list[Document] = []
    size = 0
    for document in documents:
        if held and (len(held) >= CHUNK_DOCUMENTS or size + len(document.text) > CHUNK_CHARACTERS):
            yield held
            held, size = [], 0
        held.append(document)
        size += len(document.text)
    if held:
        yield held


def encode(tokenizer: Tokenizer, texts: Sequence[str]) -> Tokens:
    """Tokens of texts."""
    encoded = tokenizer.encode_batch(texts)
    none = np.empty(0, dtype=np.int32)
    return Tokens(
        np.concatenate([none, *(one.ids for one in encoded)]),
        np.concatenate([none.astype(np.uint32), *(one.ends for one in encoded)]),
        np.array([len(one.ids) for one in encoded], dtype=np.int64),
    )


def encode_all(
    tokenizer: Tokenizer, groups: Iterator[list[Document]], prepare: Callable[[str], str], processes: int
) -> Iterator[tuple[list[Document], Tokens]]:
    """Each group with its tokens, in order; with several processes at most 2 groups for each are under way."""
    if processes == 1:
        for group in groups:
            yield group, encode(tokenizer, [prepare(document.text) for document in group])
        return
    import multiprocessing

    with TemporaryDirectory(prefix="instar-tokenizer-") as folder:
        tokenizer.save(Path(folder))
        pool = ProcessPoolExecutor(
            processes, multiprocessing.get_context("spawn"), initializer=_start_worker, initargs=(folder,)
        )
        with pool:
            waiting: Waiting = deque()
            for group in groups:
                texts = [prepare(document.text) for document in group]
                waiting.append((group, pool.submit(_encode_in_worker, texts)))
                if len(waiting) > 2 * processes:
                    yield _oldest(waiting)
            while waiting:
                yield _oldest(waiting)


def _oldest(waiting: Waiting) -> tuple[list[Document], Tokens]:
    group, future = waiting.popleft()
    ids, ends, lengths = future.result()
    return group, Tokens(np.frombuffer(ids, np.int32), np.frombuffer(ends, np.uint32), np.frombuffer(lengths, np.int64))


_worker: list[Tokenizer] = []


def _start_worker(folder: str) -> None:
    _worker[:] = [Tokenizer.load(Path(folder))]


def _encode_in_worker(texts: list[str]) -> tuple[bytes, bytes, bytes]:
    tokens = encode(_worker[0], texts)
    return tokens.ids_T.tobytes(), tokens.ends_T.tobytes(), tokens.lengths_D.tobytes()
