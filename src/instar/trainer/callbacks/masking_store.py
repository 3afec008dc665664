"""Masking that learns: what the training forward pass showed, handed to the policy's memory a step late.

Shape letter: M positions that a step predicts.
"""

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from instar.core.errors import InstarError
from instar.masking.base import Chosen
from instar.masking.memory import Memory, Share, StoreMemory
from instar.masking.statistic import StatisticName, measure
from instar.masking.writer import Writer
from instar.objective import ForwardPass
from instar.task import TaskLike
from instar.trainer.callback import Callback
from instar.trainer.callbacks.lines import Lines
from instar.trainer.runtime import Runtime
from instar.trainer.state import StepResult, TrainState

WATCHED = "masking"
COMPACT_BYTES = 64 << 20
"""The journal is compacted into the arrays when so much of it is no longer needed to resume."""


@dataclass(frozen=True)
class Measures:
    """What a policy that learns asks of each forward pass."""

    statistic: StatisticName

    @property
    def wants_entropy(self) -> bool:
        return self.statistic == "entropy"

    def __call__(self, one: ForwardPass) -> Tensor:
        return measure(self.statistic, one.nll_M, one.correct_M, one.entropy_M)


class MaskingStoreUpdates(Callback):
    """Hands over what each step measured, and keeps the memory in step with the checkpoints.

    Nothing of it waits for the device: values are copied while the next step computes, and a thread writes them.
    A line of figures is written every `every` steps.
    """

    former_name = "Chances"

    def __init__(self, task: TaskLike, memory: Memory, runtime: Runtime, figures: Path, every: int) -> None:
        self.task, self.memory, self.runtime, self.every = task, memory, runtime, every
        self.lines = Lines(figures)
        self.kept: Callable[[], Iterable[Mapping[str, Any]]] = lambda: ()
        """The states of this callback in the checkpoints that are still there."""
        self._writer: Writer | None = None
        self._seen: list[Tensor] = []
        self._saved: Mapping[str, Any] | None = None
        self._marks: NDArray[np.int64] | None = None
        self._compaction: threading.Thread | None = None
        self._compaction_error: BaseException | None = None
        self._tally: NDArray[np.int64] | None = None
        self._counts = np.zeros(3, dtype=np.int64)

    def seen(self, watched: Mapping[str, Tensor]) -> None:
        """Take what a micro-batch showed."""
        if WATCHED in watched:
            self._seen.append(watched[WATCHED])

    def fit_started(self, state: TrainState) -> None:
        runtime = self.runtime
        share = Share(
            rank=runtime.data_rank,
            size=runtime.data_size,
            is_main=runtime.is_main,
            writes=runtime.rank == runtime.data_rank * (runtime.world_size // runtime.data_size),
            wait=runtime.barrier,
        )
        if runtime.is_main:
            self.lines.cut()
        pending = self.memory.open(self._saved, state.step, share)
        self._writer = Writer(self.memory, state.step)
        if state.step:
            self._writer.hand_back(state.step - 1, pending)
        setattr(self.task.policy, "wait", self._writer.before_reading)  # noqa: B010 (of the policies that read)

    def step_started(self, state: TrainState) -> None:
        self._open_writer().after_reading(state.step)

    def step_ended(self, state: TrainState, result: StepResult) -> None:
        chosen = self.task.chosen
        if chosen is None or chosen.step != state.step - 1:
            raise InstarError(f"step {state.step}: the masking callback does not know what the step predicts")
        values_M = self._of_all_shares(chosen)
        host = _on_host(values_M)
        self._open_writer().hand_over(chosen.step, lambda: self.memory.measured(chosen, host()))
        self._count(chosen)
        if self.runtime.is_main and (state.step % self.every == 0 or state.is_spent()):
            self._write_figures(state)
        if self._compaction_error is not None:
            raise self._compaction_error

    def _of_all_shares(self, chosen: Chosen) -> Tensor:
        """(M,) what all shares measured, share after share, on the device."""
        mine_M = torch.cat(self._seen) if self._seen else torch.zeros(0, device=self.runtime.device)
        self._seen.clear()
        size, rank = self.runtime.data_size, self.runtime.data_rank
        counts = np.bincount(chosen.document_M % size, minlength=size)
        if len(mine_M) != counts[rank]:
            raise InstarError(f"step {chosen.step}: predicted {counts[rank]} positions, and measured {len(mine_M)}")
        if size == 1:
            return mine_M
        whole_M = torch.zeros(int(counts.sum()), device=self.runtime.device)
        first = int(counts[:rank].sum())
        whole_M[first : first + len(mine_M)] = mine_M
        return self.runtime.sum(whole_M)

    def flush(self) -> None:
        """All of this step is on the disk when this returns, on every rank; the next checkpoint names it."""
        self._open_writer().flush()
        self._marks = self.runtime.gather(self.memory.marks())

    def saved(self, state: TrainState, folder: Path) -> None:
        is_compacting = self._compaction is not None and self._compaction.is_alive()
        if self.runtime.is_main and isinstance(self.memory, StoreMemory) and not is_compacting:
            self._compact_old(self.memory, state.step)

    def _compact_old(self, memory: StoreMemory, step: int) -> None:
        store = memory.store
        states = [kept.get("compactable", kept.get("foldable", {})) for kept in self.kept()]
        if store is None or not states:
            return
        ranks = set().union(*states)
        oldest = {rank: min(state.get(rank, 0) for state in states) for rank in ranks}
        if sum(at - store.schema.compacted.get(rank, 0) for rank, at in oldest.items()) < COMPACT_BYTES:
            return

        def compact() -> None:
            try:
                store.compact(oldest, step)
            except BaseException as error:  # noqa: BLE001 - raised at the next step
                self._compaction_error = error

        self._compaction = threading.Thread(target=compact, name="masking compaction")
        self._compaction.start()

    def fit_ended(self, state: TrainState) -> None:
        if self._writer is not None:
            self._writer.finish()
        self._close()

    def fit_failed(self, state: TrainState, error: BaseException) -> None:
        if self._writer is not None:
            self._writer.abandon()
        self._close()

    def _close(self) -> None:
        if self._compaction is not None:
            self._compaction.join()
        self.memory.close()

    def state_dict(self) -> dict[str, Any]:
        if self._marks is None:
            return {}
        length = self.lines.synced_length() if self.runtime.is_main else 0
        sums = {"counts": self._counts.tolist(), "tally": None if self._tally is None else self._tally.tolist()}
        return {**self.memory.state(self._marks), "length": length, "figures": sums}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._saved = state
        self.lines.length = state["length"]
        tally = state["figures"]["tally"]
        self._counts = np.array(state["figures"]["counts"], dtype=np.int64)
        self._tally = None if tally is None else np.array(tally, dtype=np.int64)

    # ---- figures ----

    def _count(self, chosen: Chosen) -> None:
        self._counts += (chosen.num_maskable, len(chosen.document_M), int(chosen.is_written_M.sum()))
        tally = getattr(self.task.policy, "tally", None)
        if tally is not None:
            self._tally = tally.copy() if self._tally is None else self._tally + tally

    def _write_figures(self, state: TrainState) -> None:
        maskable, chosen, written = self._counts.tolist()
        record: dict[str, Any] = {"step": state.step, "split": "train", "realised_rate": chosen / max(1, maskable)}
        record["written_tokens"] = written
        if self._tally is not None:
            record["tokens_by_decile"], record["masked_by_decile"] = self._tally.tolist()
        self.lines.append(record)
        self._counts[:] = 0
        self._tally = None

    def _open_writer(self) -> Writer:
        if self._writer is None:
            raise ValueError("training has not started")
        return self._writer


def _on_host(values_M: Tensor) -> Callable[[], NDArray[np.float32]]:
    """Begins to copy; what it returns waits for the copy, in whatever thread asks."""
    if values_M.device.type != "cuda":
        array: NDArray[np.float32] = values_M.float().cpu().numpy()
        return lambda: array
    host_M = torch.empty(values_M.shape, dtype=torch.float32, pin_memory=True)
    host_M.copy_(values_M, non_blocking=True)
    copied = torch.cuda.Event()
    copied.record()

    def wait() -> NDArray[np.float32]:
        copied.synchronize()
        found: NDArray[np.float32] = host_M.numpy()
        return found

    return wait
