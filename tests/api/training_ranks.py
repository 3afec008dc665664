"""One rank of trainings: writes what came of them to `rank-<n>.json` of a folder."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tests.api.training_parts import Deaf, Stop, Stream, Tagger, Told, curve, pad, sentences, trainer, weights


def pad_wide(samples: list[dict[str, Any]]) -> dict[str, Tensor]:
    """As wide as the longest sample there is."""
    fill = {"input_ids": 0, "labels": -100}
    return {
        name: nn.functional.pad(value, (0, 9 - value.shape[1]), value=fill[name])
        for name, value in pad(samples).items()
    }


class Rows(nn.Module):
    """Its loss is a mean over rows, whose targets nobody can count."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"loss": (self.weight * x - 1).square().mean()}


def rows(count: int) -> list[dict[str, Tensor]]:
    """Rows that differ from one another."""
    return [{"x": torch.arange(3.0) + number % 7} for number in range(count)]


def stack(samples: list[dict[str, Any]]) -> dict[str, Tensor]:
    return {"x": torch.stack([sample["x"] for sample in samples])}


def half_without_targets() -> list[dict[str, Any]]:
    """Sentences of which those that the second rank reads in order have no target."""
    return [
        {**row, "labels": [-100] * len(row["labels"])} if number % 8 >= 4 else row
        for number, row in enumerate(sentences(48))
    ]


def token_mean(outputs: Any, labels: Tensor, num_items_in_batch: Any = None) -> Tensor:
    """A user's loss, which is divided by what it is told."""
    summed = nn.functional.cross_entropy(outputs["logits"].flatten(0, 1), labels.flatten(), reduction="sum")
    return summed / (labels.ne(-100).sum() if num_items_in_batch is None else num_items_in_batch)


def cases() -> dict[str, dict[str, Any]]:
    """Trainings of steps of 8 samples, also of numbers of samples that leave ranks fewer in the last step, or none."""
    return {
        "uneven": {"model": Tagger(dropout=0.0), "train_dataset": sentences(45)},
        "none on rank 1": {"model": Tagger(dropout=0.0), "train_dataset": sentences(42)},
        "told and uneven": {
            "model": Told(dropout=0.0),
            "train_dataset": sentences(42),
            "gradient_accumulation_steps": 2,
        },
        "deaf and uneven": {
            "model": Deaf(dropout=0.0),
            "train_dataset": sentences(42),
            "gradient_accumulation_steps": 4,
        },
        "means over rows": {
            "model": Rows(),
            "train_dataset": rows(45),
            "data_collator": stack,
            "gradient_accumulation_steps": 3,
        },
        "no rows on rank 1": {"model": Rows(), "train_dataset": rows(42), "data_collator": stack},
        "uneven stream": {"model": Tagger(dropout=0.0), "train_dataset": Stream(42), "max_steps": 6},
        **{
            f"{name}, without targets on rank 1": {
                "train_dataset": half_without_targets(),
                "train_sampling_strategy": "sequential",
                **options,
            }
            for name, options in {
                "not told": {"model": Tagger(dropout=0.0)},
                "told": {"model": Told(dropout=0.0), "gradient_accumulation_steps": 2},
                "a loss function": {"model": Tagger(dropout=0.0), "compute_loss_func": token_mean},
            }.items()
        },
        "not told": {"model": Tagger(dropout=0.0)},
        "told": {"model": Told(dropout=0.0), "gradient_accumulation_steps": 2},
        "deaf": {"model": Deaf(dropout=0.0)},
        "stream": {"model": Tagger(dropout=0.0), "train_dataset": Stream(48), "max_steps": 6},
    }


def train_all(folder: Path, ranks: int) -> dict[str, Any]:
    """Curves and weights of each case; the last one is stopped and goes on."""
    found = {}
    for name, options in cases().items():
        tried = trainer(
            folder / name.replace(" ", "-"), per_device_train_batch_size=8 // ranks, num_train_epochs=1,
            **{"train_dataset": sentences(48), "data_collator": pad_wide, **options},
        )  # fmt: skip
        tried.train()
        found[name] = [curve(tried), weights(tried).tolist()]
    if ranks > 1:
        both = {"per_device_train_batch_size": 4, "num_train_epochs": 1, "data_collator": pad_wide}
        trainer(folder / "on", model=Told(dropout=0.0), callbacks=[Stop(3)], **both).train()
        resumed = trainer(folder / "on", model=Told(dropout=0.0), **both)
        resumed.train(resume_from_checkpoint=True)
        whole = trainer(folder / "whole", model=Told(dropout=0.0), **both)
        whole.train()
        found["goes on"] = [torch.equal(weights(resumed), weights(whole)), curve(resumed) == curve(whole)]
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    target = Path(sys.argv[1])
    result = train_all(target, 2)
    (target / f"rank-{os.environ['RANK']}.json").write_text(json.dumps(result), encoding="utf-8")
    torch.distributed.destroy_process_group()
