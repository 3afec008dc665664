"""What several ranks check together, each for itself; a rank whose check fails leaves with another code than 0."""

import errno
import json
import os
import socket
import sys
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import torch
import torch.distributed.fsdp
from torch import distributed, nn

from instar.core.errors import DataError, InputMissingError, InstarError
from instar.trainer.agreement import agree, of_main, together
from instar.trainer.parallel import group
from instar.trainer.parallel.config import Auto, Ddp, Fsdp
from instar.trainer.parallel.parts import local
from instar.trainer.runtime import Runtime


def spread(folder: Path, name: str, world: int = 2) -> None:
    """Run a check on every rank; codes.json says how each of them left."""
    torch.set_num_threads(1)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    children = [os.fork() or _rank(name, folder, rank, world, port) for rank in range(world)]
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    folder.with_name(f"{folder.name}-codes.json").write_text(json.dumps(codes))


def _rank(name: str, folder: Path, rank: int, world: int, port: int) -> NoReturn:
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(world), "LOCAL_RANK": str(rank), "MASTER_PORT": str(port)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "GLOO_SOCKET_IFNAME": "lo"}
    code = 1
    try:
        globals()[name](folder)
        distributed.barrier()
        code = 0
    except BaseException:  # noqa: BLE001  the code says it, and the output why
        import traceback

        traceback.print_exc()
    os._exit(code)


class Tied(nn.Module):
    """Layers of odd sizes, a table that is used twice, a buffer, a parameter that nobody uses."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(11, 5)
        self.layers = nn.ModuleList(nn.Sequential(nn.Linear(5, 7), nn.GELU(), nn.Linear(7, 5)) for _ in range(2))
        self.norm = nn.LayerNorm(5)
        self.head = nn.Linear(5, 11, bias=False)
        self.head.weight = self.table.weight
        self.register_buffer("mean", torch.arange(3.0))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        states = self.table(ids)
        for layer in self.layers:
            states = states + layer(states)
        logits: torch.Tensor = self.head(self.norm(states))
        return logits


def _model(seed: int = 0) -> Tied:
    torch.manual_seed(seed)
    return Tied()


def _loss(module: nn.Module, rows: slice) -> torch.Tensor:
    ids = torch.arange(12).reshape(4, 3) % 11
    return nn.functional.cross_entropy(module(ids[rows]).flatten(0, 1), ids[rows].roll(1, 1).flatten(), reduction="sum")


def _nothing_is_unpickled(event: str, _: object) -> None:
    assert event != "pickle.find_class"


def rows_of_numbers(folder: Path) -> None:
    """Uneven, empty, of every type of numbers; nothing goes through pickle."""
    sys.addaudithook(_nothing_is_unpickled)
    runtime = Runtime.start("cpu")
    rank = runtime.rank
    for dtype in (np.int64, np.float32, np.float64, np.bool_, np.uint8, np.float16):
        mine = (np.arange(3 * (rank + 1)).reshape(-1, 3) + 10 * rank).astype(dtype)
        wanted = np.concatenate([(np.arange(3 * (r + 1)).reshape(-1, 3) + 10 * r) for r in range(3)]).astype(dtype)
        found = runtime.gather(mine)
        assert found.dtype == dtype, found.dtype
        assert np.array_equal(found, wanted), found
    some = runtime.gather(np.full((2, 4), 7) if rank == 1 else np.empty(0))
    assert some.tolist() == [[7] * 4] * 2
    assert runtime.gather(np.empty((0, 4))).shape == (0, 4)
    assert runtime.any(rank == 2)
    assert not runtime.any(False)
    assert runtime.sum(torch.tensor([rank, 1])).tolist() == [3, 3]
    messages = [b"", b"one", bytes(range(256)) * 9]
    assert group.exchange(messages[rank]) == messages
    assert group.exchange(b"") == [b""] * 3
    assert group.from_main(messages[2 - rank]) == messages[2]
    assert group.from_main(b"not read" if rank else b"") == b""


def facts_and_failures(folder: Path) -> None:
    """What most ranks have is expected, also where the main one is odd; a failure of one is everybody's."""
    sys.addaudithook(_nothing_is_unpickled)
    runtime = Runtime.start("cpu")
    rank = runtime.rank
    agree(runtime, {"data": "same"}, DataError)
    for odd in (0, 2):
        with pytest.raises(DataError) as differing:
            agree(runtime, {"data": "one" if rank == odd else "other", "tokenizer": "same"}, DataError)
        named = f"  data: expected other; rank {odd} on {socket.gethostname()}: got one"
        assert str(differing.value).splitlines()[1:] == [named]
    assert together(runtime, lambda: rank) == rank
    failures = ((1, 66, InputMissingError("no such file")), (2, 74, OSError(errno.ENOSPC, "no space", "/x")))
    for failing, code, error in failures:
        with pytest.raises(InstarError, match=rf"^rank {failing} on ") as met:
            together(runtime, partial(_raised, error if rank == failing else None))
        assert met.value.exit_code == code
    assert of_main(runtime, {"loss": 0.1 + rank, "worst": float("inf")}) == {"loss": 0.1, "worst": float("inf")}
    assert runtime.exchange_numbers([rank, 1 << 62]) == [[number, 1 << 62] for number in range(3)]


def _raised(error: Exception | None) -> None:
    if error is not None:
        raise error


def sharded_modules(folder: Path) -> None:
    """Any module, every kind: gradients, norms, clipping, whole weights and optimizer state, and the way back."""
    alone = _model()
    optimizer = torch.optim.AdamW(alone.parameters(), lr=0.01, eps=1e-4)
    (_loss(alone, slice(None)) * 5).backward()
    wanted_norm = nn.utils.clip_grad_norm_(alone.parameters(), 0.5)
    optimizer.step()
    wanted = {name: value.detach().clone() for name, value in alone.state_dict().items()}
    kinds = [
        Auto(),
        Ddp(find_unused_parameters=False, bucket_cap_mb=1, static_graph=True),
        Fsdp(),
        Fsdp(replicas=2, forward_prefetch=1),
        Fsdp(min_parameters=20, reshard_after_forward=False),
        Fsdp(layers=("Sequential",), cpu_offload=True),
    ]
    for parallel in kinds:
        runtime = Runtime.start("cpu", parallel=parallel)
        model = _model(seed=runtime.rank)  # the main rank's weights are everybody's
        module = runtime.wrap(model)
        mine = torch.optim.AdamW(model.parameters(), lr=0.01, eps=1e-4)
        rows = (
            slice(2 * runtime.data_rank, 2 * runtime.data_rank + 1),
            slice(2 * runtime.data_rank + 1, 2 * runtime.data_rank + 2),
        )
        for number, row in enumerate(rows):
            with runtime.synchronized(module, number == 1):
                (_loss(module, row) * 5 * runtime.data_size).backward()
        norm = runtime.clip(list(model.parameters()), 0.5)
        assert torch.allclose(norm, wanted_norm, rtol=1e-5), (parallel, norm, wanted_norm)
        mine.step()
        weights, state = runtime.weights(module), runtime.optimizer_state(mine)
        assert set(weights) == (set(wanted) if runtime.is_main else set())
        for name, value in weights.items():
            assert torch.allclose(value, wanted[name], atol=1e-6), (parallel, name)
        _there_and_back(runtime, weights, state)


def _there_and_back(runtime: Runtime, weights: dict[str, torch.Tensor], state: dict[str, Any]) -> None:
    """Through files, as checkpoints go: every rank reads what the main one wrote."""
    sent = [None, None]
    if runtime.is_main:
        sent = [weights, state]
    distributed.broadcast_object_list(sent)
    model = _model(seed=5)
    module = runtime.wrap(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.5)
    runtime.load_weights(module, sent[0])
    runtime.load_optimizer_state(optimizer, sent[1])
    again, state_again = runtime.weights(module), runtime.optimizer_state(optimizer)
    if runtime.is_main:
        assert all(torch.equal(again[name], value) for name, value in weights.items())
        assert state_again["param_groups"][0]["lr"] == 0.01
        for number, values in state["state"].items():
            assert all(torch.equal(state_again["state"][number][kind], value) for kind, value in values.items())


def with_accelerate(folder: Path) -> None:
    """Accelerate's Accelerator over the group that the runtime opened."""
    runtime = Runtime.start("cpu")
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)
    assert accelerator.num_processes == runtime.world_size == 2
    assert accelerator.process_index == runtime.rank
    assert accelerator.is_main_process == runtime.is_main
    assert accelerator.gather(torch.tensor([runtime.rank])).tolist() == [0, 1]
    accelerator.wait_for_everyone()
    model = _model()
    assert accelerator.unwrap_model(runtime.wrap(model)) is model
    assert accelerator.reduce(torch.tensor(2.0), "sum").item() == 4
    runtime.barrier()


def after_accelerate(folder: Path) -> None:
    """The other way about: the group was Accelerate's before."""
    from accelerate import PartialState

    state = PartialState(cpu=True)
    runtime = Runtime.start("cpu")
    assert (runtime.rank, runtime.world_size) == (state.process_index, state.num_processes) == (state.process_index, 2)
    assert runtime.gather(np.asarray([runtime.rank])).tolist() == [0, 1]
    fsdp = Runtime.start("cpu", parallel=Fsdp())
    assert fsdp.is_sharded
    assert state.is_main_process == fsdp.is_main


def one_infinite_number(folder: Path) -> None:
    """In one rank's part of a gradient in fp16: no rank makes the step, and the next one is made."""
    runtime = Runtime.start("cpu", "fp16", Fsdp())
    model = _model()
    module = runtime.wrap(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = runtime.scaler()
    before = {name: local(value).clone() for name, value in model.named_parameters()}
    for is_broken in (True, False):
        scaler.scale(_loss(module, slice(None))).backward()
        if is_broken and runtime.rank == 1:
            local(model.norm.weight.grad)[0] = float("inf")
        scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        same = [torch.equal(local(value), before[name]) for name, value in model.named_parameters()]
        assert all(same) if is_broken else not any(same), (is_broken, same)
