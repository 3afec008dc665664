"""What a policy that learns keeps, from the beginning of a run to its end.

Shape letters: M positions that a step predicts, W those that are written.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from instar.core.errors import CheckpointError, OutputError
from instar.core.files.disk import must_have_room
from instar.core.files.json_files import read_json, write_json
from instar.masking import journal
from instar.masking.adaptive import AdaptivePolicy
from instar.masking.base import Chosen
from instar.masking.bernoulli import BernoulliPolicy
from instar.masking.block_checksums import Check
from instar.masking.offsets import CharacterOffsets, Spans
from instar.masking.statistic import StatisticName, scale_of
from instar.masking.store import Change, Measured, ProbabilityStore, StoreLearner, StoreLock, open_store, reset_store
from instar.masking.store_options import DECAY_STEPS, StoreOptions
from instar.masking.type_average import TypeAveragePolicy
from instar.masking.update import Rule
from instar.masking.value_arrays import HEADER, StoreSchema, must_match, read_header

Floats = NDArray[np.float32]
State = Mapping[str, Any]
SLOW = "slow"
OWNER = "run.json"
"""Names the run that writes into a store outside of its run folder."""


@dataclass(frozen=True)
class Share:
    """The place of a process in a run."""

    rank: int = 0
    """Which share of the documents it predicts."""
    size: int = 1
    """Into how many shares the documents go."""
    is_main: bool = True
    """Whether it makes and clears files for all."""
    writes: bool = True
    """Whether it writes its share down; one process of each share does."""
    wait: Callable[[], None] = lambda: None
    """Returns when all processes have called it."""


class Memory(Protocol):
    """Opened when training starts, written by a thread of its own, part of every checkpoint."""

    statistic: StatisticName

    def open(self, saved: State | None, step: int, share: Share) -> Any:
        """Take back the state of a checkpoint after `step` steps, or begin; returns the change that is to come."""
        ...

    def measured(self, chosen: Chosen, values_M: Floats) -> Any:
        """A step's measurements; `values_M` lie share after share."""
        ...

    def flush(self, measured: Any) -> Any: ...

    def apply(self, change: Any) -> None: ...

    def sync(self) -> None: ...

    def marks(self) -> NDArray[np.int64]:
        """(1, K) numbers of this process's share for the checkpoint."""
        ...

    def state(self, marks: NDArray[np.int64]) -> dict[str, Any]:
        """What a checkpoint keeps, from the marks of all shares."""
        ...

    def close(self) -> None: ...


def by_share(document_M: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """The order in which shares predict a step's positions: share after share, each in order."""
    if size == 1:
        return np.arange(len(document_M))
    return np.argsort(document_M % size, kind="stable")


class StoreMemory:
    """A probability store of the training corpus."""

    def __init__(
        self,
        policy: AdaptivePolicy | BernoulliPolicy,
        folder: Path,
        offsets: CharacterOffsets,
        vocab_size: int,
        *,
        tell: Callable[[str], None],
        owner: str | None = None,
    ) -> None:
        """Nothing is opened yet. `owner` names the run, where other runs might come upon the folder."""
        self.policy, self.folder, self.tell, self.owner = policy, folder, tell, owner
        config: StoreOptions = policy.config
        self.config, self.statistic = config, config.statistic
        self.schema = schema_of(config, offsets, vocab_size)
        self.store: ProbabilityStore | None = None
        self._reference: ProbabilityStore | None = None
        self._lock: StoreLock | None = None
        self._learner: StoreLearner | None = None
        self._share = Share()
        self._check: Check | None = None

    def open(self, saved: State | None, step: int, share: Share) -> list[Change]:
        """Main holds the store for all and clears what no checkpoint knows of."""
        self._share = share
        if self.config.reference is not None:
            self._reference = reference_store(Path(self.config.reference), self.schema)
        positions: dict[str, int] = {} if saved is None else dict(saved["positions"])
        if share.is_main:
            self._lock = StoreLock(self.folder)
            self._opened()
            self._claim()
            if saved is None:
                reset_store(self.folder)
            self._drop_after(positions)
            checksums = self._opened().checksums()
            self._check = None if checksums is None else Check(checksums, self.folder)
        share.wait()
        self.store = self._opened()
        pending = self.store.restore(positions, step)
        self._learner = StoreLearner(self.store, share.rank, positions.get(str(share.rank), 0))
        self.policy.read = self.store.read
        return pending

    def must_have_room(self) -> None:
        """DiskError if there is no store yet, and the disk has no room for one; nothing is written."""
        if not (self.folder / HEADER).exists():
            must_have_room(self.folder, sum(self.schema.sizes().values()))

    def _claim(self) -> None:
        """OutputError if another run has written here: its values would be lost."""
        if self.owner is None:
            return
        note = self.folder / OWNER
        before = read_json(note)["run"] if note.is_file() else None
        if before not in (None, self.owner) and journal.ranks(self.folder):
            raise OutputError(
                f"{self.folder}: holds the masking values of the run {before}; choose another task.masking.store, or "
                "make a copy of it by `instar tracks export` and `import`"
            )
        write_json(note, {"run": self.owner})

    def _opened(self) -> ProbabilityStore:
        config = self.config
        rule = Rule(rate=config.update, dtype=config.dtype)
        return open_store(self.folder, self.schema, rule=rule, prior=config.prior, decay=config.decay)

    def _drop_after(self, positions: Mapping[str, int]) -> None:
        dropped = sum(
            journal.cut(self.folder, rank, positions.get(str(rank), 0)) for rank in journal.ranks(self.folder)
        )
        if dropped:
            self.tell(f"{self.folder}: {dropped:,} bytes of the journal lie after the checkpoint and were dropped")

    def measured(self, chosen: Chosen, values_M: Floats) -> Measured:
        order_M = by_share(chosen.document_M, self._share.size)
        order_W = order_M[chosen.is_written_M[order_M]]
        values_W = values_M[chosen.is_written_M[order_M]]
        spans = chosen.spans
        if spans is None:
            none = np.zeros(0, dtype=np.int64)
            return Measured(chosen.step, Spans(none, none), np.zeros(0, np.float32), none)
        spans = spans[order_W]
        if self._reference is not None:
            expected_W = self._reference.read(spans) * self._reference.schema.scale
            values_W = np.maximum(0, values_W - expected_W).astype(np.float32)
        threshold = self.config.write_threshold
        if threshold is not None:
            values_W = np.where(1 - values_W > threshold, values_W, np.float32(np.nan))
        return Measured(chosen.step, spans, values_W, chosen.document_M[order_W] % self._share.size)

    def flush(self, measured: Measured) -> list[Change]:
        if self._check is not None:
            self._check.so_far()
        learner = self._open_learner()
        if not self._share.writes:
            return [learner.store.change(measured, learner.rank)]
        return [learner.flush(measured)]

    def apply(self, change: Sequence[Change]) -> None:
        for one in change:
            self._open_learner().apply(one)

    def sync(self) -> None:
        """No checkpoint is made of the value arrays that was not looked at."""
        if self._check is not None:
            self._check.whole()
        self._open_learner().sync()

    def marks(self) -> NDArray[np.int64]:
        """Share, where its journal ended before the last step, and where it ends."""
        learner = self._open_learner()
        return np.array([[learner.rank, learner.before_last, learner.journal.position]], dtype=np.int64)

    def state(self, marks: NDArray[np.int64]) -> dict[str, Any]:
        named = {str(rank): (before, position) for rank, before, position in marks.tolist()}
        return {
            "fingerprint": self.schema.fingerprint,
            "positions": {rank: position for rank, (_, position) in named.items()},
            "compactable": {rank: before for rank, (before, _) in named.items()},
        }

    def close(self) -> None:
        """Let go of files and of the store."""
        if self._check is not None:
            self._check.give_up()
        if self._learner is not None:
            self._learner.close()
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _open_learner(self) -> StoreLearner:
        if self._learner is None:
            raise ValueError("the store is not open yet")
        return self._learner


def schema_of(config: StoreOptions, offsets: CharacterOffsets, vocab_size: int) -> StoreSchema:
    """What the store of a policy is to hold."""
    strands = 2 if config.strands == "apart" else 1
    return StoreSchema(
        fingerprint=offsets.fingerprint,
        num_characters=offsets.num_characters * strands,
        statistic=config.statistic,
        scale=scale_of(config.statistic, vocab_size),
        dtype=config.dtype,
        channels=("value", SLOW) if config.statistic == "progress" else ("value",),
        tick=DECAY_STEPS if config.decay else 0,
    )


def reference_store(folder: Path, schema: StoreSchema) -> ProbabilityStore:
    """The nll that another model had, as `instar probe` left it; of the same corpus, or it is refused."""
    found = read_header(folder)
    if found.statistic != "nll":
        raise CheckpointError(f"{folder}: holds {found.statistic}; a reference holds nll, as `instar probe` writes it")
    must_match(folder, found, StoreSchema(**{**vars(found), "fingerprint": schema.fingerprint}))
    store = ProbabilityStore(folder, found, rule=Rule(), prior=1.0)
    store.latest()
    store.verify()
    return store


class TypeMemory:
    """The averages of a policy by kinds of token; the checkpoint holds them whole."""

    def __init__(self, policy: TypeAveragePolicy) -> None:
        self.policy, self.statistic = policy, policy.statistic
        self._size = 1
        self._pending: tuple[NDArray[np.int64], Floats] | None = None

    def open(self, saved: State | None, step: int, share: Share) -> Any:
        del step
        self._size = share.size
        if saved is None:
            return None
        self.policy.load_state_dict(saved)
        ids, values = saved["pending"]
        return np.array(ids, dtype=np.int64), np.array(values, dtype=np.float32)

    def measured(self, chosen: Chosen, values_M: Floats) -> tuple[NDArray[np.int64], Floats]:
        order_M = by_share(chosen.document_M, self._size)
        written_M = chosen.is_written_M[order_M]
        # In the order of the step, so that sums do not depend on the number of shares.
        back = np.argsort(order_M[written_M])
        return chosen.ids_M[order_M[written_M]][back], values_M[written_M][back]

    def flush(self, measured: tuple[NDArray[np.int64], Floats]) -> Any:
        self._pending = measured
        return measured

    def apply(self, change: tuple[NDArray[np.int64], Floats] | None) -> None:
        if change is not None:
            self.policy.learn(*change)

    def sync(self) -> None: ...

    def marks(self) -> NDArray[np.int64]:
        return np.zeros((1, 1), dtype=np.int64)

    def state(self, marks: NDArray[np.int64]) -> dict[str, Any]:
        del marks
        ids, values = self._pending if self._pending is not None else (np.zeros(0, np.int64), np.zeros(0, np.float32))
        finite = np.isfinite(values)
        return {**self.policy.state_dict(), "pending": [ids[finite].tolist(), values[finite].astype(float).tolist()]}

    def close(self) -> None: ...
