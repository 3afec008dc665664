"""As many forward passes on every process: where weights are gathered for each, all make them together."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from instar.data import Batch


def spare_piece(batch: Batch) -> Batch:
    """A document without targets: a forward pass that adds nothing."""
    one = batch.select(range(1))
    if one.read_M is None or one.target_M is None:
        return one
    return replace(one, read_M=one.read_M[:0], target_M=one.target_M[:0])


def pieces_of(mine: Batch, whole: Batch, max_tokens: int | None, shares: int) -> list[Batch]:
    """A share of a step in pieces, and spare ones up to the number that the largest of the shares has."""
    pieces = list(mine.split(max_tokens))
    if shares > 1 and max_tokens is not None:
        most = max(_num_pieces(whole.lengths[share::shares], max_tokens) for share in range(shares))
        pieces += [spare_piece(whole)] * (most - len(pieces))
    return pieces


def _num_pieces(lengths: tuple[int, ...], max_tokens: int) -> int:
    """How many pieces `Batch.split` makes of documents of these lengths."""
    pieces, held = 1, 0
    for length in lengths:
        if held and held + length > max_tokens:
            pieces, held = pieces + 1, 0
        held += length
    return pieces


def in_step(
    batches: Iterable[Batch], spare: Batch | None, is_any: Callable[[bool], bool]
) -> Iterator[tuple[Batch, bool]]:
    """Batches with True, then a spare one with False until no process has batches left.

    The spare is the last batch, or `spare` for a process that has none at all.
    """
    remaining = iter(batches)
    batch = next(remaining, None)
    while is_any(batch is not None):
        last = batch or spare
        if last is None:
            raise ValueError("a process without a batch needs a spare one, to go forward with the others")
        spare = last
        yield last, batch is not None
        batch = next(remaining, None)
