"""Names of Transformers' Trainer that subclasses use although they are private."""

import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from instar import Seq2SeqTrainingArguments, Trainer, TrainingArguments
from instar.api.optimizers import optimizer_class_and_kwargs
from instar.api.seq2seq import Seq2SeqTrainer
from tests.api.optimizer_parts import arguments as optimizer_arguments
from tests.api.training_parts import Stop, Tagger, curve, trainer, weights


class Halves(Trainer):
    """Clips to a half of what the arguments say."""

    def _clip_grad_norm(self, model: Any) -> Any:
        return torch.nn.utils.clip_grad_norm_(model.parameters(), self.args.max_grad_norm / 2)


def test_gradients_are_clipped_by_the_override(tmp_path: Path) -> None:
    given = trainer(tmp_path / "a", cls=Halves, max_grad_norm=0.2, optim="sgd")
    wanted = trainer(tmp_path / "b", max_grad_norm=0.1, optim="sgd")
    on_instance = trainer(tmp_path / "c", max_grad_norm=0.2, optim="sgd")
    on_instance._clip_grad_norm = lambda model: Halves._clip_grad_norm(on_instance, model)  # type: ignore[method-assign]
    never = trainer(tmp_path / "d", cls=Halves, max_grad_norm=0.0, optim="sgd")
    for one in (given, wanted, on_instance, never):
        one.train()
    assert curve(given) == curve(wanted) == curve(on_instance)
    assert torch.equal(weights(given), weights(wanted))
    assert torch.equal(weights(given), weights(on_instance))
    assert not torch.equal(weights(never), weights(wanted))


def test_an_override_may_call_what_it_overrides_or_return_nothing(tmp_path: Path) -> None:
    class Calls(Trainer):
        def _clip_grad_norm(self, model: Any) -> Any:
            return super()._clip_grad_norm(model)

    class Silent(Trainer):
        def _clip_grad_norm(self, model: Any) -> None:
            super()._clip_grad_norm(model)

    plain, calls, silent = (trainer(tmp_path, cls=cls, max_grad_norm=0.1) for cls in (Trainer, Calls, Silent))
    for one in (plain, calls, silent):
        one.train()
    assert curve(plain) == curve(calls)
    assert torch.equal(weights(plain), weights(silent))


def test_an_epoch_of_ones_own_is_refused(tmp_path: Path) -> None:
    class Epochs(Trainer):
        def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
            super()._run_epoch(*args, **kwargs)

    with pytest.raises(NotImplementedError, match=r"_run_epoch.*on_epoch_begin"):
        trainer(tmp_path, cls=Epochs).train()
    assert not list(tmp_path.iterdir())


def test_gathering_is_the_identity_on_one_process(tmp_path: Path) -> None:
    class Gathers(Trainer):
        def evaluate(self, *args: Any, **kwargs: Any) -> Any:
            self.gather_function = self.accelerator.gather  # type: ignore[method-assign]
            return super().evaluate(*args, **kwargs)

    plain, gathers = trainer(tmp_path), trainer(tmp_path, cls=Gathers)
    rows = torch.arange(6).view(2, 3)
    assert torch.equal(plain.gather_function(rows), rows)
    assert gathers.evaluate(gathers.train_dataset)["eval_loss"] == plain.evaluate(plain.train_dataset)["eval_loss"]
    assert torch.equal(gathers.gather_function(rows), rows)


def test_default_optim() -> None:
    assert TrainingArguments.default_optim == Seq2SeqTrainingArguments.default_optim == "adamw_torch_fused"
    assert TrainingArguments("out", use_cpu=True).optim == TrainingArguments.default_optim


def test_tokens_are_filled_up(tmp_path: Path) -> None:
    model = Tagger()
    model.config = types.SimpleNamespace(pad_token_id=7)  # type: ignore[assignment]
    tried = Seq2SeqTrainer.__new__(Seq2SeqTrainer)
    tried.model, tried.processing_class = model, None
    found: Tensor = tried._pad_tensors_to_max_len(torch.tensor([[1, 2]]), 4)
    assert found.tolist() == [[1, 2, 7, 7]]


def test_preparing_the_model_is_timed_where_nothing_was_trained(tmp_path: Path) -> None:
    tried = trainer(tmp_path, max_steps=1)
    for prefix, metrics in (
        ("eval", tried.evaluate(tried.train_dataset)),
        ("test", tried.predict(tried.train_dataset).metrics),
    ):
        assert metrics[f"{prefix}_model_preparation_time"] >= 0
    trained = trainer(tmp_path, max_steps=1)
    trained.train()
    assert "eval_model_preparation_time" not in trained.evaluate(trained.train_dataset)


@pytest.mark.parametrize("logging_steps", [1, 4, 100])
def test_the_mean_loss_of_a_resumed_run_is_the_whole_runs(tmp_path: Path, logging_steps: int) -> None:
    whole = trainer(tmp_path / "whole", logging_steps=logging_steps).train()
    first = trainer(tmp_path / "run", logging_steps=logging_steps, callbacks=[Stop(7)]).train()
    again = trainer(tmp_path / "run", logging_steps=logging_steps).train(resume_from_checkpoint=True)
    assert again.training_loss == whole.training_loss
    assert again.metrics["train_loss"] == whole.metrics["train_loss"]
    assert first.training_loss != whole.training_loss


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (None, (False, torch.float32, torch.float32, torch.bfloat16)),
        ("use_kahan_summation=true,momentum_dtype=bfloat16", (True, torch.bfloat16, torch.float32, torch.bfloat16)),
    ],
)
def test_adamw_anyprecision_has_its_dtypes(
    options: str | None, wanted: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    package = types.ModuleType("torchdistx.optimizers")
    package.AnyPrecisionAdamW = torch.optim.AdamW  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torchdistx", types.ModuleType("torchdistx"))
    monkeypatch.setitem(sys.modules, "torchdistx.optimizers", package)
    _, kwargs = optimizer_class_and_kwargs(optimizer_arguments("adamw_anyprecision", optim_args=options))
    names = ("use_kahan_summation", "momentum_dtype", "variance_dtype", "compensation_buffer_dtype")
    assert tuple(kwargs[name] for name in names) == wanted
