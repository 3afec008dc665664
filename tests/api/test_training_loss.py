"""The loss of a step is the mean over its targets, however the step is cut and whoever computes it."""

import logging
import math
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from instar import Trainer
from instar.api.smoothing import LabelSmoother
from instar.core.errors import NonFiniteError
from tests.api.training_parts import Deaf, Tagger, Told, curve, pad, sentences, trainer, weights

STEP = 12


def pad_wide(samples: list[dict[str, Any]]) -> dict[str, Tensor]:
    """As wide as the longest sample there is, so that padding is the same however a step is cut."""
    return {
        name: nn.functional.pad(value, (0, 9 - value.shape[1]), value=-100 if name == "labels" else 0)
        for name, value in pad(samples).items()
    }


def token_mean(outputs: Any, labels: Tensor, num_items_in_batch: Any = None) -> Tensor:
    summed = nn.functional.cross_entropy(outputs["logits"].flatten(0, 1), labels.flatten(), reduction="sum")
    return summed / (labels.ne(-100).sum() if num_items_in_batch is None else num_items_in_batch)


class OldLoss(Trainer):
    """Overrides as one did before there was `num_items_in_batch`."""

    def compute_loss(self, model: Any, inputs: Any, return_outputs: Any = False) -> Any:
        outputs = model(**inputs)
        return (outputs["loss"], outputs) if return_outputs else outputs["loss"]


class OldStep(Trainer):
    def training_step(self, model: Any, inputs: Any) -> Tensor:
        model.train()
        loss = model(**self._prepare_inputs(inputs))["loss"] / self.args.gradient_accumulation_steps
        loss.backward()
        return loss.detach()


CUTS: dict[str, Any] = {
    "a model that is not told": {"model": Tagger},
    "a model that divides by what it is told": {"model": Told},
    "a model that takes everything and does not listen": {"model": Deaf},
    "a loss function": {"model": Tagger, "compute_loss_func": token_mean},
    "smoothed labels": {"model": Tagger, "label_smoothing_factor": 0.1},
    "smoothed labels of one that listens": {"model": Deaf, "label_smoothing_factor": 0.1},
}


@pytest.mark.parametrize("case", CUTS)
def test_a_cut_step_is_the_whole_step(case: str, tmp_path: Path) -> None:
    """44 samples in steps of 12, in one piece or in three or four; the last step of an epoch is smaller."""
    options = dict(CUTS[case])
    make, ended = options.pop("model"), []
    for size, pieces in ((12, 1), (4, 3), (3, 4)):
        tried = trainer(
            tmp_path,
            model=make(dropout=0.0),
            per_device_train_batch_size=size,
            gradient_accumulation_steps=pieces,
            data_collator=pad_wide,
            optim="sgd",
            learning_rate=0.5,
            **options,
        )
        tried.train()
        assert tried.state.global_step == 8
        ended.append((weights(tried), curve(tried)))
    for found, line in ended[1:]:
        assert torch.allclose(found, ended[0][0], atol=1e-5)
        for mine, whole in zip(line, ended[0][1], strict=True):
            assert mine == pytest.approx(whole, rel=2e-4)


@pytest.mark.parametrize("cls", [OldLoss, OldStep])
def test_old_overrides_get_what_they_take(cls: type[Trainer], tmp_path: Path) -> None:
    """Rows of one length: then the mean of means is the mean."""
    data = [{"input_ids": [1, 2, 3, place % 9], "labels": [4, 5, 6, 7]} for place in range(24)]
    ended = []
    for size, pieces, kind in ((12, 1, Trainer), (4, 3, cls)):
        tried = trainer(
            tmp_path,
            cls=kind,
            model=Tagger(dropout=0.0),
            train_dataset=data,
            num_train_epochs=1,
            per_device_train_batch_size=size,
            gradient_accumulation_steps=pieces,
        )
        tried.train()
        ended.append(weights(tried))
    assert torch.allclose(*ended, atol=1e-6)


def test_a_subclass_can_say_that_its_loss_is_scaled(tmp_path: Path) -> None:
    class Scaled(OldLoss):
        loss_is_scaled_for_ga = True

    plain, scaled = (
        trainer(
            tmp_path, cls=cls, model=Tagger(dropout=0.0), gradient_accumulation_steps=2, max_grad_norm=0, max_steps=1
        )
        for cls in (OldLoss, Scaled)
    )
    plain.train(), scaled.train()
    assert curve(scaled)[0][1] == pytest.approx(2 * curve(plain)[0][1], rel=1e-5)


def test_a_smoothed_loss_leaves_out_what_is_no_target() -> None:
    logits, labels = torch.randn(2, 5, 7), torch.randint(0, 7, (2, 5))
    labels[0, :2] = -100
    chances = -logits.log_softmax(-1)[labels != -100]
    wanted = 0.8 * chances.gather(1, labels[labels != -100][:, None]).mean() + 0.2 * chances.mean()
    assert LabelSmoother(0.2)({"logits": logits}, labels) == pytest.approx(wanted.item(), rel=1e-5)
    shifted = LabelSmoother(0.2)({"logits": logits[:, :-1]}, labels[:, 1:])
    assert LabelSmoother(0.2)({"logits": logits}, labels, shift_labels=True) == pytest.approx(shifted.item())


def test_a_model_without_a_loss(tmp_path: Path) -> None:
    data = [{"input_ids": [1, 2]}] * 4
    tried = trainer(tmp_path, train_dataset=data, data_collator=lambda rows: {"input_ids": torch.tensor([[1, 2]])})
    with pytest.raises(ValueError, match="did not return a loss from the inputs, only the following keys: logits"):
        tried.train()


# ---- what is no number ----


class Poisoned(Tagger):
    """Gives no number in its third forward pass."""

    calls = 0

    def forward(self, input_ids: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        self.calls += 1
        found = super().forward(input_ids, labels)
        return found | {"loss": found["loss"] * (math.nan if self.calls == 3 else 1.0)}


@pytest.mark.parametrize("optim", ["adamw_torch_fused", "adagrad"])
def test_stop_at_what_is_no_number(optim: str, tmp_path: Path) -> None:
    good = trainer(tmp_path, max_steps=2, lr_scheduler_type="constant", optim=optim)
    good.train()
    tried = trainer(tmp_path, model=Poisoned(), optim=optim, lr_scheduler_type="constant")
    with pytest.raises(NonFiniteError, match="step 3: the loss or the gradient is not a number"):
        tried.train()
    assert torch.equal(weights(tried), weights(good))
    assert not tried.is_in_train


@pytest.mark.parametrize("optim", ["adamw_torch_fused", "adagrad"])
def test_leave_out_what_is_no_number(optim: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tried = trainer(tmp_path, model=Poisoned(), optim=optim, non_finite="skip", logging_steps=11)
    tried.train()
    assert tried.state.global_step == 22
    assert bool(torch.isfinite(weights(tried)).all())
    assert tried.state.log_history[0]["non_finite_steps"] == 1
    assert math.isfinite(tried.state.log_history[0]["loss"])
    assert "1 of the last 11 steps" in caplog.text
    assert tried.state.log_history[-1]["non_finite_steps"] == 1
    one, two = (line["loss"] * count for line, count in zip(tried.state.log_history, (10, 11), strict=False))
    assert tried.state.log_history[-1]["train_loss"] == pytest.approx((one + two) / 21, rel=1e-5)


@pytest.mark.parametrize("non_finite", ["skip", "log"])
def test_a_run_of_nothing_but_what_is_no_number_has_no_loss(
    non_finite: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """No record is due before its end, and still it is told."""
    model = Tagger()
    nn.init.constant_(next(model.parameters()), math.nan)
    output = trainer(tmp_path, model=model, non_finite=non_finite, logging_steps=500).train()
    assert math.isnan(output.training_loss)
    assert output.metrics["non_finite_steps"] == 22
    assert "22 steps since the last log had a loss or a gradient that is no number" in caplog.text


def test_what_was_left_out_before_a_checkpoint_is_left_out_after_it(tmp_path: Path) -> None:
    """The record that a run gives that goes on between two logs is the one of a run that was not stopped."""
    options = {"non_finite": "skip", "logging_steps": 11, "save_strategy": "steps", "save_steps": 5}
    whole = trainer(tmp_path, model=Poisoned(), **options)
    whole.train()
    resumed = trainer(tmp_path, **options)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-5"))
    mine, theirs = resumed.state.log_history[0], whole.state.log_history[0]
    assert {name: mine[name] for name in ("loss", "non_finite_steps")} == {
        name: theirs[name] for name in ("loss", "non_finite_steps")
    }


def test_only_log_what_is_no_number(tmp_path: Path) -> None:
    tried = trainer(tmp_path, model=Poisoned(), non_finite="log", logging_nan_inf_filter=False)
    tried.train()
    losses = [line["loss"] for line in tried.state.log_history if "loss" in line]
    assert all(map(math.isfinite, losses[:2]))
    assert all(map(math.isnan, losses[2:]))  # the weights are spoiled, and it is seen


# ---- memory ----


class Narrow(Tagger):
    """Has no memory for more than some rows."""

    rows = 3

    def forward(self, input_ids: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        if len(input_ids) > self.rows:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return super().forward(input_ids, labels)


@pytest.mark.parametrize("accumulation", [1, 2])
def test_too_little_memory_halves_micro_batches_only(
    accumulation: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options: dict[str, Any] = {
        "per_device_train_batch_size": 8,
        "gradient_accumulation_steps": accumulation,
        "data_collator": pad_wide,
        "include_num_input_tokens_seen": "all",
    }
    whole = trainer(tmp_path, model=Tagger(dropout=0.0), **options)
    whole.train()
    tried = trainer(tmp_path, model=Narrow(dropout=0.0), auto_find_batch_size=True, **options)
    tried.train()
    assert tried.state.global_step == whole.state.global_step
    assert tried._train_batch_size == tried.state.train_batch_size == 2
    assert torch.allclose(weights(tried), weights(whole), atol=1e-5)
    for mine, theirs in zip(curve(tried), curve(whole), strict=True):
        assert mine == pytest.approx(theirs, rel=1e-3)
    assert tried.state.num_input_tokens_seen == whole.state.num_input_tokens_seen == 2 * 44 * 9
    assert [line for line in caplog.messages if "out of memory" in line] == [
        f"out of memory: micro-batches of {size} samples from step 0 on; the step and its loss stay what they are"
        for size in (4, 2)
    ]


def test_too_little_memory_for_one_sample(tmp_path: Path) -> None:
    tried = trainer(tmp_path, model=Narrow(), auto_find_batch_size=True)
    tried.model.rows = 0  # type: ignore[assignment]
    with pytest.raises(torch.OutOfMemoryError):
        tried.train()


def test_too_little_memory_is_raised_unless_asked(tmp_path: Path) -> None:
    with pytest.raises(torch.OutOfMemoryError):
        trainer(tmp_path, model=Narrow()).train()


def test_other_errors_are_not_memory(tmp_path: Path) -> None:
    class Broken(Tagger):
        def forward(self, input_ids: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
            raise RuntimeError("shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="shapes"):
        trainer(tmp_path, model=Broken(), auto_find_batch_size=True).train()


def test_a_callback_that_raises_ends_the_run(tmp_path: Path) -> None:
    from instar import TrainerCallback

    class Raises(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            raise KeyError("mine")

    tried = trainer(tmp_path, callbacks=[Raises()])
    with pytest.raises(KeyError, match="mine"):
        tried.train()
    assert not tried.is_in_train


def test_nothing_is_said_of_a_sound_training(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with warnings.catch_warnings(), caplog.at_level(logging.WARNING):
        warnings.simplefilter("error")
        trainer(tmp_path, train_dataset=sentences(8)).train()
    assert not caplog.messages
