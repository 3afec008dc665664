"""A Trainer's weights and moments lie in aligned memory of their own, whoever loaded them."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from instar.api import preparing
from instar.model.memory import ALIGNMENT
from tests.api.training_parts import Stop, Tagger, trainer
from tests.model.test_memory import elsewhere, shifted


def misaligned() -> Tagger:
    """As a model is whose weights are views into a file."""
    model = Tagger(dropout=0.0)
    for index, parameter in enumerate(model.parameters()):
        parameter.data = shifted(parameter, 1 + index)
    return model


@pytest.mark.parametrize("use", ["train", "evaluate", "predict"])
def test_training_evaluation_and_prediction(tmp_path: Path, use: str) -> None:
    model = misaligned()
    held, values = model.out.weight, model.out.weight.detach().clone()
    trained = trainer(tmp_path, model=model, max_steps=1, learning_rate=0.0)
    rows: tuple[Any, ...] = () if use == "train" else (trained.train_dataset,)
    getattr(trained, use)(*rows)
    assert elsewhere(model) == []
    assert model.out.weight is held
    assert torch.equal(held, values)


@pytest.mark.parametrize("optim", ["adamw_torch", "muon"])
def test_resuming(tmp_path: Path, optim: str) -> None:
    options = {"optim": optim, "save_strategy": "steps", "save_steps": 3}
    trainer(tmp_path, callbacks=[Stop(3)], **options).train()
    again = trainer(tmp_path, model=misaligned(), max_steps=4, **options)
    again.train(resume_from_checkpoint=True)
    assert elsewhere(again.model) == []
    moments = [value for state in again.optimizer.state.values() for value in state.values() if value.ndim]
    assert moments
    assert all(moment.data_ptr() % ALIGNMENT == 0 for moment in moments)


def test_weights_that_a_load_assigns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some modules take the tensors of a file as they are, in place of their values."""

    class Assigns(Tagger):
        def load_state_dict(self, state_dict: Any, *args: Any, **kwargs: Any) -> Any:
            return super().load_state_dict(state_dict, assign=True)

    options = {"save_strategy": "steps", "save_steps": 2, "eval_strategy": "steps", "eval_steps": 2}
    trained = trainer(tmp_path, model=Assigns(), max_steps=4, load_best_model_at_end=True, eval_dataset=[], **options)
    trained.eval_dataset = trained.train_dataset
    trained.train()
    assert trained.state.best_model_checkpoint is not None
    assert elsewhere(trained.model) == []
    again = trainer(tmp_path, model=Assigns(), max_steps=5)
    again.train(resume_from_checkpoint=True)
    assert elsewhere(again.model) == []


@pytest.mark.parametrize("times", [0, 1])
def test_says_once_that_products_depend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, times: int
) -> None:
    preparing._say_that_products_depend.cache_clear()
    monkeypatch.setattr(preparing, "depend_on_alignment", lambda: bool(times))
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            trainer(tmp_path, max_steps=1).train()
    said = [line for line in caplog.messages if "export MKL_CBWR=AUTO,STRICT" in line]
    assert len(said) == times
    preparing._say_that_products_depend.cache_clear()


def test_a_misaligned_model_trains_to_the_same_bits(tmp_path: Path) -> None:
    ends = []
    for make in (lambda: Tagger(dropout=0.0), misaligned):
        trained = trainer(tmp_path, model=make(), max_steps=3)
        trained.train()
        ends.append(nn.utils.parameters_to_vector(trained.model.parameters()))
    assert torch.equal(*ends)
