"""What optimizers promise inside a Trainer: resuming, evaluating, saving, limits."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from instar import Trainer, TrainingArguments


class Table(torch.utils.data.Dataset):
    def __len__(self) -> int:
        return 24

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"ids": torch.tensor(index % 11), "labels": torch.tensor(index % 3)}


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(11, 16)
        self.attn = nn.Linear(16, 16)
        self.norm = nn.LayerNorm(16)
        self.head = nn.Linear(16, 3)

    def forward(self, ids: Tensor, labels: Tensor) -> dict[str, Tensor]:
        logits = self.head(self.norm(torch.tanh(self.attn(self.embed(ids)))))
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


def trainer(folder: Path, optim: str, **given: Any) -> Trainer:
    low_rank = {"optim_target_modules": ["attn"], "optim_args": "rank=4,update_proj_gap=3"}
    named = low_rank if optim.startswith(("galore", "apollo")) else {}
    args = {"learning_rate": 1e-2, "num_train_epochs": 2, "per_device_train_batch_size": 4, "save_steps": 5}
    args |= {"lr_scheduler_type": "constant"} if "free" in optim else {}
    arguments = TrainingArguments(str(folder), optim=optim, disable_tqdm=True, use_cpu=True, **(args | named | given))
    return Trainer(Small(), arguments, train_dataset=Table(), eval_dataset=Table())


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def equal(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


NAMES = [
    "muon",
    "galore_adamw",
    "galore_adafactor_layerwise",
    "apollo_adamw_layerwise",
    "lomo",
    "adalomo",
    "schedule_free_adamw",
    "grokadamw",
    "adamw_8bit",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_run_goes_on_as_if_never_stopped(name: str, tmp_path: Path) -> None:
    whole = trainer(tmp_path, name)
    whole.train()
    other = trainer(tmp_path, name)
    other.train(resume_from_checkpoint=str(tmp_path / "checkpoint-5"))
    assert equal(weights(whole.model), weights(other.model))
    assert not equal(weights(whole.model), weights(Small()))


def test_evaluating_leaves_a_schedule_free_run_alone(tmp_path: Path) -> None:
    found = []
    for given in ({}, {"eval_strategy": "steps", "eval_steps": 1}):
        run = trainer(tmp_path / str(len(found)), "schedule_free_adamw", save_strategy="no", **given)
        run.train()
        found.append(weights(run.model))
    assert equal(*found)


def test_a_schedule_free_run_saves_the_weights_that_are_judged(tmp_path: Path) -> None:
    run = trainer(tmp_path, "schedule_free_adamw", eval_strategy="steps", eval_steps=5, save_strategy="steps")
    run.train()
    kept = load_file(tmp_path / "checkpoint-5" / "model.safetensors")
    judged = trainer(tmp_path / "again", "sgd")
    judged.model.load_state_dict(kept)
    scores = next(entry for entry in run.state.log_history if entry.get("step") == 5 and "eval_loss" in entry)
    assert judged.evaluate()["eval_loss"] == pytest.approx(scores["eval_loss"], rel=1e-6)
    last = load_file(tmp_path / "checkpoint-12" / "model.safetensors")
    assert equal(last, weights(run.model)), "after training the model holds the weights to judge"


@pytest.mark.parametrize("given", [{"gradient_accumulation_steps": 2}, {"auto_find_batch_size": True}])
def test_an_update_in_the_backward_pass_is_one_pass(given: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'lomo' updates"):
        trainer(tmp_path, "lomo", **given).train()
