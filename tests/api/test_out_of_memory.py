"""Steps that memory does not suffice for: cut where that changes nothing, begun again where it would."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from instar import Trainer, TrainerCallback
from tests.api.test_averaging import words
from tests.api.training_parts import arguments

ROWS = words() * 2


class Limited(nn.Module):
    """Holds `limit` rows at most; says how many it was given, apart from those that did not fit."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words, self.limit = nn.Embedding(60, 7), limit
        self.learnt: list[int] = []

    def forward(self, input_ids: Tensor, labels: Tensor) -> dict[str, Tensor]:
        if len(input_ids) > self.limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        if torch.is_grad_enabled():
            self.learnt.append(len(input_ids))
        logits = self.words(input_ids)
        return {"loss": self.loss(logits, labels), "logits": logits}

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits.flatten(0, 1), labels.flatten())


class InBatch(Limited):
    """Each row is told from the others of its batch: a mean of cross entropies, and yet one of the whole batch."""

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        states_BV = logits.mean(1)
        return F.cross_entropy(states_BV @ states_BV.T, torch.arange(len(states_BV)))


class Normed(Limited):
    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.norm = nn.BatchNorm1d(7)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return super().loss(self.norm(logits.flatten(0, 1)).view_as(logits), labels)


class LimitFalls(TrainerCallback):
    """Memory is short from the second step on."""

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        model.limit = 2


def trained(folder: Path, model: nn.Module, **options: Any) -> Trainer:
    options = {"per_device_train_batch_size": 8, "max_steps": 1, "learning_rate": 0.1} | options
    callbacks = options.pop("callbacks", [])
    made = Trainer(
        model, arguments(folder, auto_find_batch_size=True, **options), train_dataset=ROWS, callbacks=callbacks
    )
    made.train()
    return made


def test_a_mean_over_labels_is_cut(tmp_path: Path) -> None:
    whole, cut = trained(tmp_path, Limited(8)), trained(tmp_path, Limited(2))
    assert cut.model.learnt == [2, 2, 2, 2]
    assert cut.state.log_history[0]["loss"] == pytest.approx(whole.state.log_history[0]["loss"], rel=1e-5)
    torch.testing.assert_close(cut.model.words.weight, whole.model.words.weight)


@pytest.mark.parametrize("kind", [InBatch, Normed])
def test_a_loss_of_the_whole_batch_is_begun_again(kind: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = trained(tmp_path, kind(2), max_steps=2)
    assert made.model.learnt == [2, 2]
    assert made._train_batch_size == 2
    again = [message for message in caplog.messages if "begins again" in message]
    assert [message.split(";")[0] for message in again] == [
        f"out of memory: training begins again with batches of {size} samples" for size in (4, 2)
    ]
    plain = Trainer(
        kind(2), arguments(tmp_path, per_device_train_batch_size=2, max_steps=2, learning_rate=0.1), train_dataset=ROWS
    )
    plain.train()
    assert [line.get("loss") for line in plain.state.log_history] == [
        line.get("loss") for line in made.state.log_history
    ]


def test_a_loss_of_the_whole_batch_ends_the_run_after_its_first_step(tmp_path: Path) -> None:
    with pytest.raises(torch.OutOfMemoryError) as raised:
        trained(tmp_path, InBatch(8), callbacks=[LimitFalls()], max_steps=2)
    assert "step 1 is too late to begin again" in "".join(raised.value.__notes__)


def test_a_run_goes_on_with_the_batches_that_it_had_found(tmp_path: Path) -> None:
    saved = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2}
    whole = trained(tmp_path / "whole", InBatch(4), **saved)
    assert whole.state.train_batch_size == 4
    model = InBatch(4)
    saved |= {"per_device_train_batch_size": 8, "auto_find_batch_size": True, "learning_rate": 0.1}
    rest = Trainer(model, arguments(tmp_path / "rest", **saved), train_dataset=ROWS)
    rest.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    assert model.learnt == [4, 4]
    assert torch.equal(model.words.weight, whole.model.words.weight)


def test_what_the_loss_averages_goes_with_the_checkpoint(tmp_path: Path) -> None:
    saved = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2, "per_device_train_batch_size": 2}
    options = saved | {"gradient_accumulation_steps": 2}
    whole = trained(tmp_path / "whole", Limited(8), **options)
    values = (tmp_path / "whole" / "checkpoint-2").glob("*.json")
    assert any('"loss_averages": "labels"' in path.read_text() for path in values)
    rest = Trainer(Limited(8), arguments(tmp_path / "rest", learning_rate=0.1, **options), train_dataset=ROWS)
    rest.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    assert torch.equal(rest.model.words.weight, whole.model.words.weight)


def test_plain_values_reach_a_forward_that_takes_keywords(tmp_path: Path) -> None:
    class Weighted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))

        def forward(self, x: Tensor, labels: Any = None, **more: Any) -> dict[str, Tensor]:
            assert set(more) - {"num_items_in_batch"} == {"weights", "names", "note"}
            return {"loss": (self.weight * x * torch.tensor(more["weights"])).mean()}

    class Named(Weighted):
        def forward(self, x: Tensor, weights: list[float], labels: Any = None) -> dict[str, Tensor]:  # type: ignore[override]
            return super().forward(x, labels, weights=weights, names=[], note="")

    def collate(rows: list[Any]) -> dict[str, Any]:
        count = len(rows)
        return {"x": torch.ones(count), "weights": [5.0] * count, "names": ["a"] * count, "note": "kept"}

    for model in (Weighted(), Named()):
        options = arguments(tmp_path, max_steps=1, remove_unused_columns=False)
        made = Trainer(model, options, train_dataset=[{"x": 1.0}] * 4, data_collator=collate)
        made.train()
        assert made.state.log_history[0]["loss"] == 5.0
