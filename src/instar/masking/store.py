"""The probability store: a value for each character of a corpus, read with the samples, rewritten by the model.

Letters: T tokens read, M tokens measured, N characters.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from heapq import merge
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instar.checkpoint.lock import RunLock
from instar.core.errors import CheckpointError, OutputError
from instar.core.files.disk import disk_errors
from instar.core.rundir import RunFolder
from instar.masking import journal
from instar.masking.array_writer import ArrayWriter
from instar.masking.block_checksums import BLOCK, BlockChecksums, blocks_of
from instar.masking.journal import Record
from instar.masking.offsets import CodedMeans, Spans, gathered, token_means
from instar.masking.update import Rule
from instar.masking.value_arrays import (
    AGE,
    HEADER,
    Decoder,
    StoreSchema,
    ValueArrays,
    blank,
    must_match,
    read_header,
    write_checksums,
    write_header,
)

_UNITS = 1 << 20
"""A value of 1 in the whole numbers that are summed; enough of them fit for any batch."""
_OLDEST = np.iinfo(np.uint16).max
Put = Callable[[str, NDArray[np.int64], NDArray[Any] | int], None]
"""Sets characters of a channel."""


@dataclass(frozen=True)
class Measured:
    """What was measured in one step, rank after rank."""

    step: int
    spans: Spans
    values_M: NDArray[np.float32]
    """In the statistic's own unit; a token whose value is no number is not written."""
    rank_M: NDArray[np.int64]
    """The rank that predicted each token, ascending."""


@dataclass(frozen=True)
class Change:
    """New codes, not yet visible to those who read."""

    step: int
    spans: Spans
    codes: tuple[NDArray[Any], ...]
    """One array a channel, over the characters of all ranks' spans."""
    mine: Record
    """The part that this rank writes down."""


class ProbabilityStore:
    """One corpus's store in a folder. Reading never waits for the disk but for pages that were never read."""

    def __init__(
        self, folder: Path, schema: StoreSchema, *, rule: Rule, prior: float = 1.0, decay: float = 0.0
    ) -> None:
        """The store as its files are; see `open_store` for one that may not be there yet."""
        self.folder, self.schema, self.rule, self.prior, self.decay = folder, schema, rule, prior, decay
        self.mapped = ValueArrays(folder, schema)
        self._decode = Decoder(schema.dtype, np.nan)
        self._decode_or_prior = Decoder(schema.dtype, prior)
        values = Decoder("uint8", prior)(np.arange(256, dtype=np.uint8)).astype(np.float64)
        self._means = CodedMeans(np.rint(values * _UNITS).astype(np.int64), _UNITS)

    # ---- reading ----

    def read(self, spans: Spans, step: int = 0) -> NDArray[np.float64]:
        """(T,) mean value (0 to 1) of each token's characters, where unseen ones count as the prior.

        One gather and one segmented mean. NaN for tokens without characters.
        """
        arrays = self.mapped.arrays
        is_faded = self.decay > 0 and AGE in arrays
        if self.schema.dtype == "uint8" and "slow" not in arrays and not is_faded:
            return self._means(arrays["value"], spans)
        values = self._decode_or_prior(gathered(arrays["value"], spans))
        if "slow" in arrays:
            slow = self._decode(gathered(arrays["slow"], spans))
            with np.errstate(invalid="ignore"):
                values = np.where(np.isnan(slow), np.float32(self.prior), np.maximum(slow - values, 0))
        if is_faded:
            values = self._faded(values, gathered(arrays[AGE], spans), step)
        return token_means(values, spans.length_T)

    def _faded(self, values: NDArray[np.float32], ticks: NDArray[Any], step: int) -> NDArray[np.float32]:
        age = np.maximum(0, step // self.schema.tick + 1 - ticks.astype(np.int32))
        kept = np.power(np.float32(1 - self.decay), age, dtype=np.float32)
        faded: NDArray[np.float32] = self.prior + (values - np.float32(self.prior)) * kept
        return faded

    # ---- changing ----

    def change(self, measured: Measured, rank: int = 0) -> Change:
        """What a step's measurements make of the values as they are; nothing is changed yet."""
        known = np.isfinite(measured.values_M)
        spans, rank_M = measured.spans[known], measured.rank_M[known]
        values_M = (measured.values_M[known] / np.float32(self.schema.scale)).clip(0, 1)
        rules = {"value": self.rule, "slow": replace(self.rule, rate=self.rule.rate / 8)}
        codes = []
        for name in self.schema.channels:
            rule = rules[name]
            array = self.mapped.arrays[name]
            old_N = array[spans.characters()] if rule.rate < 1 else array[:0]
            codes.append(rule.codes(old_N, values_M, spans.length_T))
        first, last = np.searchsorted(rank_M, [rank, rank + 1])
        ends = np.concatenate([[0], np.cumsum(spans.length_T)])
        mine = b"".join(part[ends[first] : ends[last]].tobytes() for part in codes)
        record = Record(measured.step, spans[slice(first, last)], mine)
        return Change(measured.step, spans, tuple(codes), record)

    def apply(self, change: Change) -> None:
        """Make a change visible, with one scatter; where tokens overlap, the later one counts."""
        self._write(self.mapped.put, change)

    def _write(self, put: Put, change: Change) -> None:
        index_N = change.spans.characters()
        for name, part in zip(self.schema.channels, change.codes, strict=True):
            put(name, index_N, part)
        if self.schema.tick:
            put(AGE, index_N, min(_OLDEST, change.step // self.schema.tick + 1))

    def change_of(self, record: Record) -> Change:
        """A record as it is applied; CheckpointError where it does not fit the arrays."""
        spans = record.spans
        last = spans.start_T + spans.length_T
        if len(spans) and (spans.start_T.min() < 0 or last.max() > self.schema.num_characters):
            raise CheckpointError(f"{self.folder}: a record of step {record.step} lies outside the arrays")
        dtype = self.mapped.arrays["value"].dtype
        if len(record.codes) != len(self.schema.channels) * spans.num_characters * dtype.itemsize:
            raise CheckpointError(f"{self.folder}: a record of step {record.step} has another size than its spans")
        codes = np.frombuffer(record.codes, dtype).reshape(len(self.schema.channels), -1)
        return Change(record.step, spans, tuple(codes), record)

    # ---- coming back ----

    def restore(self, positions: Mapping[str, int], step: int) -> list[Change]:
        """Take the state of a checkpoint after `step` steps; returns the last step's changes, not yet visible.

        A step reads what was measured two steps before it and earlier; so the last step's measurements wait.
        CheckpointError where the journal does not reach that state.
        """
        behind = {rank: at for rank, at in self.schema.compacted.items() if at > positions.get(rank, 0)}
        if behind:
            raise CheckpointError(
                f"{self.folder}: the journal was compacted up to step {self.schema.compacted_step}, which is after the "
                f"checkpoint of step {step}; resume from a later checkpoint, or begin in another folder"
            )
        self.mapped = ValueArrays(self.folder, self.schema)
        pending: list[Change] = []
        for record in self._records(positions):
            change = self.change_of(record)
            if record.step >= step - 1:
                pending.append(change)
            else:
                self.apply(change)
        return pending

    def _records(self, positions: Mapping[str, int]) -> Iterator[Record]:
        """Records after the last compaction and up to `positions`, in the order of (step, rank)."""
        compacted = self.schema.compacted
        ranks = sorted(positions, key=int)
        each = [journal.read(self.folder, int(rank), compacted.get(rank, 0), positions[rank]) for rank in ranks]
        return merge(*each, key=_step_of)  # of equal steps the first rank's comes first

    def latest(self) -> list[str]:
        """Take the newest state that the files give, for looking only; returns notices of what was dropped."""
        notices = []
        positions: dict[str, int] = {}
        for rank in journal.ranks(self.folder):
            start = self.schema.compacted.get(str(rank), 0)
            end = journal.whole_until(self.folder, rank, start)
            mine = [one for one in journal.segments(self.folder) if one.rank == rank]
            torn = mine[-1].start + mine[-1].num_bytes - end
            if torn > 0:
                notices.append(f"{mine[-1].path}: {torn:,} bytes after the last whole record are torn and left out")
            positions[str(rank)] = max(start, end)
        for change in self.restore(positions, 1 << 62):
            self.apply(change)
        return notices

    def compact(self, positions: Mapping[str, int], step: int) -> None:
        """Write everything up to these positions into the files of values, and delete what no longer is needed.

        The positions are those before the last step of the oldest checkpoint that is to be taken up again.
        A crash in between does no harm: the records say what the values are, so writing them again is the same.
        """
        if all(at <= self.schema.compacted.get(rank, 0) for rank, at in positions.items()):
            return
        self.schema = replace(self.schema, compacting=dict(positions), compacting_step=step)
        write_header(self.folder, self.schema)
        touched = {name: np.zeros(-(-size // BLOCK), dtype=np.bool_) for name, size in self.schema.sizes().items()}
        with ArrayWriter(self.folder, self.schema) as writer:
            for record in self._records(positions):
                change = self.change_of(record)
                self._write(writer.put, change)
                for name, dtype in self.schema.all_channels():
                    touched[name] |= blocks_of(change.spans, dtype.itemsize, len(touched[name]))
        checksums = self.checksums()
        compacted = {**self.schema.compacted, **positions}
        self.schema = replace(self.schema, compacted=compacted, compacted_step=step, compacting={}, compacting_step=-1)
        if checksums is None:
            write_header(self.folder, self.schema)
        else:
            checksums.renew(self.folder, touched)
            self.schema = write_checksums(self.folder, self.schema, checksums)
        for rank, at in positions.items():
            journal.drop_before(self.folder, int(rank), at)

    def checksums(self) -> BlockChecksums | None:
        """What the blocks of the files must be; None for a store that was made before that was kept."""
        return (
            BlockChecksums.read(self.folder, self.schema.checksums, self.schema.sizes())
            if self.schema.checksums
            else None
        )

    def verify(self) -> None:
        """CheckpointError if the files are not what was written into them; reads them whole."""
        try:
            checksums = self.checksums()
            if checksums is not None and not self.schema.compacting:
                checksums.verify(self.folder)
        except CheckpointError:
            if read_header(self.folder) == self.schema:
                raise
            # A run that continues has compacted since the header was read: the files are on their way to another state.


def _step_of(record: Record) -> int:
    return record.step


def open_store(
    folder: Path, schema: StoreSchema, *, rule: Rule, prior: float = 1.0, decay: float = 0.0
) -> ProbabilityStore:
    """The store of `folder`, made there if there is none; DataError if it is of another corpus or holds another thing.

    The caller holds the store: a compaction that was interrupted is finished here.
    """
    with disk_errors(folder):
        if not (folder / HEADER).is_file():
            ValueArrays.create(folder, blank(schema))
    found = read_header(folder)
    must_match(folder, found, schema)
    store = ProbabilityStore(folder, found, rule=rule, prior=prior, decay=decay)
    if found.compacting:
        store.compact(found.compacting, found.compacting_step)
    return store


def reset_store(folder: Path) -> None:
    """Forget all: the arrays is blank again and the journals are gone."""
    schema = read_header(folder)
    for rank in journal.ranks(folder):
        journal.cut(folder, rank, 0)
    if schema.compacted or schema.compacting:
        ValueArrays.create(folder, blank(schema))


class StoreLock:
    """Holds a store for one run; OutputError names the process that has it."""

    def __init__(self, folder: Path) -> None:
        self._stack = ExitStack()
        try:
            self._stack.enter_context(RunLock.acquire(RunFolder(folder)))
        except OutputError as error:
            raise OutputError(f"masking store {error}") from error

    def release(self) -> None:
        """Others may have it."""
        self._stack.close()


class StoreLearner:
    """Writes a rank's share of each step into its journal, and makes the whole step visible in the arrays."""

    def __init__(self, store: ProbabilityStore, rank: int, position: int) -> None:
        self.store, self.rank = store, rank
        self.journal = journal.Journal(store.folder, rank, position)
        self.before_last = position
        """End of the journal before the last flushed step: what a compaction may take, for that step waits."""

    def flush(self, measured: Measured) -> Change:
        self.before_last = self.journal.position
        change = self.store.change(measured, self.rank)
        if len(change.mine.spans):
            self.journal.append(change.mine)
        return change

    def apply(self, change: Change) -> None:
        self.store.apply(change)

    def sync(self) -> None:
        self.journal.sync()

    def close(self) -> None:
        """Let go of the journal's file."""
        self.journal.close()
