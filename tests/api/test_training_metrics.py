"""Figures of one's own in the log: the same on packed rows and without, and no gradient knows of them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from instar import Trainer, TrainingArguments
from tests.api.modifications import batch, made


def right(logits: Tensor, targets: Tensor) -> tuple[Tensor, int]:
    assert not logits.requires_grad
    assert logits.shape[:-1] == targets.shape
    return (logits.argmax(-1) == targets).sum(), len(targets)


def mean_target(logits: Tensor, targets: Tensor) -> tuple[Tensor, int]:
    return targets.sum(), len(targets)


def trained(folder: Path, name: str, **options: Any) -> tuple[list[dict[str, Any]], Trainer]:
    torch.manual_seed(0)
    model = made(name)
    rows = [{key: value[index] for key, value in batch(name).items()} for index in range(len(batch(name)["input_ids"]))]
    metrics = options.pop("metrics", {"right": right, "mean_target": mean_target})
    kind = options.pop("kind", Trainer)
    arguments = {"max_steps": 4, "logging_steps": 2, "per_device_train_batch_size": 2, "use_cpu": True}
    args = TrainingArguments(output_dir=str(folder), save_strategy="no", report_to="none", **{**arguments, **options})
    trainer = kind(model=model, args=args, train_dataset=rows, metrics=metrics)
    trainer.train()
    return [line for line in trainer.state.log_history if "loss" in line], trainer


@pytest.mark.parametrize("name", ["bert mlm", "llama", "gpt2 classes"])
def test_the_same_with_and_without_packed_rows_and_no_loss_changes(tmp_path: Path, name: str) -> None:
    packed, one = trained(tmp_path / "a", name)
    plain, _ = trained(tmp_path / "b", name, fast_path=False)
    cut, _ = trained(tmp_path / "c", name, per_device_train_batch_size=1, gradient_accumulation_steps=2)
    without, other = trained(tmp_path / "d", name, metrics=None)
    for lines in (plain, cut):
        for mine, theirs in zip(packed, lines, strict=True):
            assert mine["mean_target"] == pytest.approx(theirs["mean_target"])
            assert mine["right"] == pytest.approx(theirs["right"], abs=0.05)
    assert [line["loss"] for line in packed] == [line["loss"] for line in without]
    assert "right" not in without[0]
    pairs = zip(one.model.parameters(), other.model.parameters(), strict=True)
    assert all(torch.equal(mine, theirs) for mine, theirs in pairs)


def test_what_cannot_be_seen_or_named_is_refused(tmp_path: Path) -> None:
    class Own(Trainer):
        def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **_: Any) -> Any:  # noqa: FBT001
            return super().compute_loss(model, inputs, return_outputs)

    with pytest.raises(ValueError, match="compute_loss is overridden"):
        trained(tmp_path, "bert mlm", kind=Own)
    with pytest.raises(ValueError, match="metrics: loss: a log line has this already"):
        trained(tmp_path, "bert mlm", metrics={"loss": right})
