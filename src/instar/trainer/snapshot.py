"""What a checkpoint holds, and how a run takes it back."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from instar.checkpoint.lineage import STATE, parent_reference
from instar.checkpoint.sharded import TensorFile, in_order, write_one_by_one
from instar.checkpoint.tensors import read_tensors, write_tensors
from instar.config import Config
from instar.core.errors import CheckpointError, NonFiniteError
from instar.core.files.json_files import read_json, write_json
from instar.model import Network
from instar.model.compact import CompactEmbedding, used_tables, whole_tables
from instar.trainer.average import WeightAverage
from instar.trainer.callback import Callback
from instar.trainer.parallel.parts import local, part_of
from instar.trainer.parallel.stream import Stream
from instar.trainer.runtime import Runtime
from instar.trainer.state import Counters, TrainState

OPTIMIZER = "optimizer.safetensors"
AVERAGE = "average.safetensors"


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What a run is made of; written into each of its checkpoints, and compared at resume."""

    run_hash: str
    data_fingerprint: str
    tokenizer_fingerprint: str
    content: Mapping[str, str]
    """Part of the run file -> fingerprint of the files that it names, wherever they lie."""
    parent: Path | None
    """The checkpoint that the run's weights began from."""
    versions: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """Writes and takes back all that a run changes: weights, optimizer, counters, callbacks, task."""

    state: TrainState
    callback: Callback
    identity: Identity
    runtime: Runtime = field(default_factory=Runtime)
    write_companions: Callable[[Path], None]
    """Puts what makes the folder usable alone beside the weights: tokenizer, run file, labels."""

    def capture(self) -> "Capture":
        """What puts everything into a folder; every rank captures, the main one writes, before the next step.

        NonFiniteError, on every rank, rather than a weight that is not a number.
        """
        state, runtime = self.state, self.runtime
        runtime.settle(state.network)
        refuse_non_finite(state, runtime)
        optimizer = _optimizer_tensors(state.optimizer)
        return Capture(
            snapshot=self,
            weights=runtime.weights(state.network) if runtime.is_sharded else None,
            average=None if state.average is None else runtime.whole(state.average.weights),
            optimizer=optimizer,
            stream=Stream(optimizer, in_order(optimizer)),
        )

    def record(self, folder: Path) -> dict[str, Any]:
        """All that is no tensor."""
        state = self.state
        parent = self.identity.parent
        return {
            "step": state.step,
            "counters": asdict(state.counters),
            "lr": state.optimizer.param_groups[0]["lr"],
            "totals": dict(state.totals),
            "stage": {"number": state.stage, "begun": asdict(state.begun), "is_over": state.is_over()},
            "schedule": _described(state.schedule),
            "task": state.task.state_dict(),
            "callbacks": self.callback.state_dict(),
            "scaler": state.scaler.state_dict(),
            "run_hash": self.identity.run_hash,
            "data_fingerprint": self.identity.data_fingerprint,
            "tokenizer_fingerprint": self.identity.tokenizer_fingerprint,
            "content": dict(self.identity.content),
            "parent": None if parent is None else parent_reference(folder, parent),
            "versions": dict(self.identity.versions),
        }

    def restore(self, folder: Path, *, begins_stage: bool = False) -> None:
        """Take back everything but the weights, which the network was built with.

        A stage that begins there takes counters and what callbacks and the task remember; its optimizer, average and
        data are its own. CheckpointError if the checkpoint is of other data, another tokenizer, or other parameters.
        """
        record = read_json(folder / STATE)
        self._must_agree(folder, record, "tokenizer" if begins_stage else None)
        state = self.state
        if not begins_stage:
            _load_optimizer(state.optimizer, TensorFile(folder / OPTIMIZER), folder)
            if state.average is not None:
                _load_average(state.average, used_tables(state.network, read_tensors(folder / AVERAGE)), folder)
        begun = record["counters"] if begins_stage else record.get("stage", {}).get("begun", {})
        state.begun = Counters(**begun)
        state.counters = Counters(**record["counters"])
        state.task.load_state_dict(record["task"])
        if record["scaler"]:
            state.scaler.load_state_dict(record["scaler"])
        self.callback.load_state_dict(record["callbacks"])

    def _must_agree(self, folder: Path, record: Mapping[str, Any], only: str | None) -> None:
        for name, what in (("data_fingerprint", "training data"), ("tokenizer_fingerprint", "tokenizer")):
            if only not in (None, what):
                continue
            mine, theirs = getattr(self.identity, name), record[name]
            if mine != theirs:
                raise CheckpointError(
                    f"{folder}: was trained on other {what} ({theirs[:12]}, and this run has {mine[:12]}); resume with "
                    "the same, or begin a new run with model: {from: " + str(folder) + "}"
                )


@dataclass(frozen=True, kw_only=True)
class Capture:
    """A moment of a run, on its way into a folder. Only one tensor of the optimizer is whole at a time."""

    snapshot: Snapshot
    weights: Mapping[str, Tensor] | None
    """Whole ones, where the network has only parts."""
    average: dict[str, Tensor] | None
    optimizer: Mapping[str, Tensor]
    stream: Stream
    """Its values."""

    def write(self, folder: Path) -> None:
        """Everything; on the main rank, while the others `finish`."""
        network = self.snapshot.state.network
        record = self.snapshot.record(folder)
        network.save(folder, None if self.weights is None else whole_tables(network, self.weights))
        self.snapshot.write_companions(folder)
        write_one_by_one(folder / OPTIMIZER, self.optimizer, self.stream)
        if self.average is not None:
            write_tensors(folder / AVERAGE, whole_tables(network, self.average))
        write_json(folder / STATE, record)

    def finish(self) -> None:
        """Do this rank's part of what is left to do; every rank calls it, also where writing failed."""
        self.stream.finish()


def _described(schedule: object) -> Any:
    return schedule.model_dump(mode="json") if isinstance(schedule, Config) else None


def take_average(network: Network, folder: Path) -> int:
    """Give a network the moving average that a checkpoint keeps, where names and shapes agree; how many tensors did.

    0 for a checkpoint that keeps none. A head that the checkpoint does not have stays as it is.
    """
    if not ((folder / STATE).is_file() and (folder / AVERAGE).is_file()):
        return 0
    averaged = read_tensors(folder / AVERAGE)
    taken = 0
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name in averaged and averaged[name].shape == parameter.shape:
                parameter.copy_(averaged[name])
                taken += 1
    return taken


def take_optimizer(state: TrainState, folder: Path) -> tuple[str, ...]:
    """Give a run the optimizer's state that a checkpoint of another run keeps; names of parameters that begin anew.

    A table that is cut down to the rows in use begins anew: its rows are of other data. State of what this run freezes
    is left. CheckpointError if the state is of other parameters, or of another optimizer's kind.
    """
    frozen = {name for name, parameter in state.network.named_parameters() if not parameter.requires_grad}
    tables = {name for name, module in state.network.named_modules() if isinstance(module, CompactEmbedding)}
    saved = read_tensors(folder / OPTIMIZER)
    saved = {key: value for key, value in saved.items() if key.partition("::")[0] not in frozen}
    anew = {key for key in saved if key.partition("::")[0].removesuffix(".weight") in tables}
    _load_optimizer(state.optimizer, {key: value for key, value in saved.items() if key not in anew}, folder)
    return tuple(sorted({key.partition("::")[0] for key in anew}))


def refuse_non_finite(state: TrainState, runtime: Runtime) -> None:
    """NonFiniteError naming the first weight that is not a number, on every rank if one has such a weight."""
    parameters = state.network.named_parameters()
    name = next((name for name, parameter in parameters if not bool(torch.isfinite(local(parameter)).all())), None)
    if runtime.any(name is not None):
        weight = f"the weight {name}" if name else "a weight of another rank"
        raise NonFiniteError(f"step {state.step}: {weight} is not finite, so no checkpoint is published")


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's state by parameter name: "NAME::exp_avg"."""
    return {
        f"{name}::{kind}": value
        for group in optimizer.param_groups
        for name, parameter in zip(group["names"], group["params"], strict=True)
        for kind, value in optimizer.state.get(parameter, {}).items()
    }


def _load_average(average: WeightAverage, weights: Mapping[str, Tensor], folder: Path) -> None:
    try:
        average.load(weights)
    except ValueError as error:
        raise CheckpointError(f"{folder / AVERAGE}: is not the average of this run's weights: {error}") from error


def _load_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], folder: Path) -> None:
    named = {
        name: parameter
        for group in optimizer.param_groups
        for name, parameter in zip(group["names"], group["params"], strict=True)
    }
    unknown = sorted({key.partition("::")[0] for key in tensors} - set(named))
    if unknown:
        raise CheckpointError(f"{folder / OPTIMIZER}: holds state of parameters this run does not train: {unknown[:5]}")
    for key, value in tensors.items():
        name, _, kind = key.partition("::")
        parameter = named[name]
        divides = value.ndim > 0
        if divides and value.shape != parameter.shape:
            raise CheckpointError(
                f"{folder / OPTIMIZER}: {key} has the shape {list(value.shape)}; wanted {list(parameter.shape)}"
            )
        # Step counts live where the fused kernel reads them: beside the parameter.
        optimizer.state[parameter][kind] = part_of(value, parameter) if divides else value.to(parameter.device)
