"""Gradients of parameters in no optimizer, or not always: zeroed and clipped as by Transformers' Trainer."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

import instar

ROWS = [{"x": torch.full((4,), 1.0 + number % 3), "labels": torch.tensor(float(number))} for number in range(12)]


class Line(nn.Module):
    """Two layers, of which the first may be frozen, and one that is used only once it is put in."""

    def __init__(self, *, frozen: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 1)
        self.first.requires_grad_(not frozen)

    def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        return {"loss": (self.second(torch.tanh(self.first(x)))[:, 0] - labels).square().mean()}


def unfreeze(model: Any, optimizer: Any, step: int) -> None:
    model.first.requires_grad_(step >= 2)


def freeze(model: Any, optimizer: Any, step: int) -> None:
    model.first.requires_grad_(step < 2)


def add_to_optimizer(model: Any, optimizer: Any, step: int) -> None:
    if step == 2:
        model.first.requires_grad_(True)
        optimizer.param_groups[0]["params"] += list(model.first.parameters())


def take_from_optimizer(model: Any, optimizer: Any, step: int) -> None:
    if step == 2:
        taken = {id(parameter) for parameter in model.first.parameters()}
        for group in optimizer.param_groups:
            group["params"] = [parameter for parameter in group["params"] if id(parameter) not in taken]


def replace_layer(model: Any, optimizer: Any, step: int) -> None:
    if step == 2:
        torch.manual_seed(1)
        model.first = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))


def norms(package: Any, folder: Path, change: Callable[..., None], *, frozen: bool) -> list[float]:
    class Change(package.TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            change(kwargs["model"], kwargs["optimizer"], state.global_step)

    args = package.TrainingArguments(
        str(folder), max_steps=6, per_device_train_batch_size=2, logging_steps=1, save_strategy="no", report_to="none",
        use_cpu=True, disable_tqdm=True, train_sampling_strategy="sequential", optim="sgd", learning_rate=0.01,
    )  # fmt: skip
    trainer = package.Trainer(Line(frozen=frozen), args, train_dataset=ROWS, callbacks=[Change()])
    trainer.train()
    return [
        value for line in trainer.state.log_history if "loss" in line for value in (line["loss"], line["grad_norm"])
    ]


@pytest.mark.parametrize(
    ("change", "frozen"),
    [(unfreeze, True), (freeze, False), (add_to_optimizer, True), (take_from_optimizer, False), (replace_layer, False)],
)
def test_gradients_are_zeroed_and_clipped_as_by_transformers(
    change: Callable[..., None],
    tmp_path: Path,
    frozen: bool,  # noqa: FBT001
) -> None:
    wanted = norms(transformers, tmp_path / "theirs", change, frozen=frozen)
    assert norms(instar, tmp_path / "ours", change, frozen=frozen) == pytest.approx(wanted, rel=1e-4)
