"""Small models, data and collators to train on, and how two trainings are compared."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, WeightedRandomSampler

from instar import Trainer, TrainerCallback, TrainingArguments

NUM_WORDS = 12


class Tagger(nn.Module):
    """Says a class for each token, with dropout; its loss is the mean over labels that are not -100."""

    def __init__(self, width: int = 8, dropout: float = 0.1) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.words = nn.Embedding(NUM_WORDS, width)
        self.drop = nn.Dropout(dropout)
        self.out = nn.Linear(width, NUM_WORDS)

    def forward(self, input_ids: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        logits = self.out(self.drop(torch.tanh(self.words(input_ids))))
        if labels is None:
            return {"logits": logits}
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100)
        return {"loss": loss, "logits": logits}


class Told(Tagger):
    """Divides the sum of its losses by the number that it is told."""

    def forward(  # type: ignore[override]
        self, input_ids: Tensor, labels: Tensor, num_items_in_batch: Any = None, **kwargs: Any
    ) -> dict[str, Tensor]:
        logits = self.out(self.drop(torch.tanh(self.words(input_ids))))
        summed = nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100, reduction="sum")
        return {"loss": summed / (labels.ne(-100).sum() if num_items_in_batch is None else num_items_in_batch)}


class Deaf(Tagger):
    """Takes everything, and divides by its own batch all the same."""

    def forward(self, input_ids: Tensor, labels: Tensor | None = None, **kwargs: Any) -> dict[str, Tensor]:
        return super().forward(input_ids, labels)


def sentences(count: int = 44, seed: int = 0) -> list[dict[str, list[int]]]:
    """Samples of 2 to 9 words; every word is a label but for a few that are -100."""
    draw = random.Random(seed)
    found = []
    for _ in range(count):
        ids = [draw.randrange(1, NUM_WORDS) for _ in range(draw.randrange(2, 10))]
        found.append(
            {"input_ids": ids, "labels": [-100 if draw.random() < 0.3 else word for word in ids[:-1]] + ids[-1:]}
        )
    return found


def pad(samples: list[dict[str, Any]]) -> dict[str, Tensor]:
    longest = max(len(sample["input_ids"]) for sample in samples)
    fill = {"input_ids": 0, "labels": -100}
    return {
        name: torch.tensor([list(one[name]) + [value] * (longest - len(one[name])) for one in samples])
        for name, value in fill.items()
    }


def mask(samples: list[dict[str, Any]]) -> dict[str, Tensor]:
    """Pads, and hides words by chance: drawn from PyTorch's, NumPy's and Python's generators."""
    batch = pad(samples)
    hidden = torch.rand(batch["input_ids"].shape) < 0.2
    hidden[0, 0] = bool(np.random.rand() < 0.5) ^ (random.random() < 0.5)
    batch["input_ids"] = batch["input_ids"].masked_fill(hidden, 0)
    return batch


class Stream(IterableDataset[Any]):
    """Sentences that can only be read one after the other."""

    def __init__(self, count: int = 44) -> None:
        self.samples = sentences(count)

    def __iter__(self) -> Iterator[Any]:
        yield from self.samples


class OwnLoader(Trainer):
    """Brings its own loader and sampler."""

    def get_train_dataloader(self) -> DataLoader[Any]:
        weights = torch.arange(1, len(self.train_dataset) + 1).float()
        sampler = WeightedRandomSampler(weights, len(weights))  # type: ignore[arg-type]
        return DataLoader(self.train_dataset, batch_size=4, sampler=sampler, collate_fn=self.data_collator)


class Stop(TrainerCallback):
    """Saves and stops after a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step:
            control.should_save = control.should_training_stop = True


def arguments(folder: Path, **options: Any) -> TrainingArguments:
    """Small, silent and on the CPU."""
    usual: dict[str, Any] = {
        "output_dir": str(folder),
        "per_device_train_batch_size": 4,
        "num_train_epochs": 2,
        "learning_rate": 0.05,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
    }
    return TrainingArguments(**{**usual, **options})


def trainer(folder: Path, *, model: nn.Module | None = None, cls: type[Trainer] = Trainer, **options: Any) -> Trainer:
    """A trainer on sentences; `options` are those of the trainer and of its arguments."""
    own = {name: options.pop(name) for name in list(options) if name in _OWN}
    usual = {"train_dataset": sentences(), "data_collator": pad}
    return cls(model=model or Tagger(), args=arguments(folder, **options), **{**usual, **own})


_OWN = {
    "train_dataset",
    "eval_dataset",
    "data_collator",
    "callbacks",
    "compute_loss_func",
    "compute_metrics",
    "optimizers",
    "processing_class",
    "model_init",
    "optimizer_cls_and_kwargs",
}


def weights(trained: Trainer) -> Tensor:
    """All of a model's numbers."""
    return torch.cat([parameter.detach().flatten() for parameter in trained.model.parameters()])


def curve(trained: Trainer) -> list[tuple[int, float, float]]:
    """Step, loss and norm of the gradient of each logged step."""
    history = trained.state.log_history
    return [(line["step"], line["loss"], line["grad_norm"]) for line in history if "loss" in line]
