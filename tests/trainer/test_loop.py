"""The loop and the step, with a work of numbers: what happens in which order, whatever is learned."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from instar.trainer import Callback, Runtime, StepLimits, fit
from instar.trainer.state import LoopState, StepUpdate


@dataclass(kw_only=True)
class Counted(LoopState):
    done: int = 0

    @property
    def step(self) -> int:
        return self.done


@dataclass
class Numbers:
    """Each step's batch is a list of numbers; the weight moves against their sum. Pieces are of `size` numbers."""

    epochs: list[list[list[float]]]
    size: int = 1
    largest: int = 99
    """There is no memory for pieces with more numbers."""
    drawn: list[float] = field(default_factory=list)

    def passes(self, state: Counted) -> Iterator[Iterator[list[float]]]:
        for batches in self.epochs:
            if state.stop_reason is None:
                yield self._steps(state, batches)

    def _steps(self, state: Counted, batches: list[list[float]]) -> Iterator[list[float]]:
        for batch in batches:
            if state.stop_reason is not None:
                return
            yield batch

    def pieces(self, batch: list[float]) -> list[list[float]]:
        return [batch[at : at + self.size] for at in range(0, len(batch), self.size)]

    def learn(self, state: Counted, batch: list[float], piece: list[float]) -> tuple[Tensor, ...]:
        loss = state.module.weight.sum() * sum(piece)  # type: ignore[operator]
        loss.backward()
        if len(piece) > self.largest:
            raise RuntimeError("out of memory")
        self.drawn.append(torch.rand(()).item())
        return (loss.detach(),)

    def cut_smaller(self, error: BaseException) -> bool:
        self.size = max(1, self.size // 2)
        return "memory" in str(error)

    def set_rate(self, state: Counted, batch: list[float]) -> float:
        return 1.0

    def finish(self, state: Counted, batch: list[float], sums: tuple[Tensor, ...], update: StepUpdate) -> StepUpdate:
        state.done += 1
        return update


class Diary(Callback[Counted, StepUpdate]):
    def __init__(self, stop: int = 99) -> None:
        self.lines: list[str] = []
        self.stop = stop

    def __getattribute__(self, name: str) -> Any:
        if name.endswith(("_started", "_ended", "_failed")):
            self.lines.append(name)
        return super().__getattribute__(name)

    def step_ended(self, state: Counted, result: StepUpdate) -> None:
        if state.done == self.stop:
            state.stop_reason = "asked"


def run(work: Numbers, diary: Diary, done: int = 0) -> Counted:
    module = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(module.weight)
    optimizer = torch.optim.SGD(module.parameters(), lr=1.0)
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    state = Counted(seed=7, module=module, optimizer=optimizer, scaler=scaler, done=done)
    fit(state, work, diary, Runtime(), StepLimits(max_norm=1e9))
    return state


def test_events_in_order() -> None:
    diary = Diary()
    run(Numbers([[[1.0, 2.0]], [[3.0]]]), diary)
    one = ["step_started", "piece_ended", "update_started", "update_ended", "step_ended"]
    assert diary.lines == [
        *("fit_started", "epoch_started", *one, "epoch_ended"),
        *("epoch_started", *(line for line in one if line != "piece_ended"), "epoch_ended", "fit_ended"),
    ]


def test_a_stop_ends_the_pass_too() -> None:
    diary = Diary(stop=2)
    state = run(Numbers([[[1.0]] * 3, [[1.0]]]), diary)
    assert state.done == 2
    assert diary.lines[-3:] == ["step_ended", "epoch_ended", "fit_ended"]


def test_pieces_and_memory_do_not_change_the_step() -> None:
    whole = run(Numbers([[[1.0, 2.0, 3.0, 4.0]]], size=4), Diary()).module.weight
    cut = run(Numbers([[[1.0, 2.0, 3.0, 4.0]]], size=1), Diary()).module.weight
    narrow = Numbers([[[1.0, 2.0, 3.0, 4.0]]], size=4, largest=1)
    assert whole.item() == cut.item() == run(narrow, Diary()).module.weight.item() == -10.0  # type: ignore[operator]
    assert narrow.size == 1


def test_an_error_is_told_and_raised() -> None:
    diary, work = Diary(), Numbers([[[1.0, 2.0]]], size=2, largest=0)
    work.cut_smaller = lambda error: False  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="out of memory"):
        run(work, diary)
    assert diary.lines[-1] == "fit_failed"


def test_draws_follow_the_number_of_the_step() -> None:
    whole, rest = Numbers([[[1.0]] * 4]), Numbers([[[1.0]] * 2])
    run(whole, Diary())
    torch.rand(9)
    run(rest, Diary(), done=2)
    assert rest.drawn == whole.drawn[2:]
    assert len(set(whole.drawn)) == 4


def test_a_step_that_is_no_number_is_left_out_by_any_optimizer() -> None:
    assert run(Numbers([[[1.0], [float("nan")], [2.0]]]), Diary()).module.weight.item() == -3.0  # type: ignore[operator]
