"""What scripts written for Transformers lean on beside names and arguments."""

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from instar import (
    EarlyStoppingCallback,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    Trainer,
    TrainerCallback,
    TrainerState,
)
from tests.api.training_parts import Tagger, pad, sentences, trainer, weights


class Greedy(TrainerCallback):
    """Lacks memory after a step of more than some samples."""

    def __init__(self, limit: int) -> None:
        self.limit = limit

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.train_batch_size > self.limit:
            raise RuntimeError("CUDA out of memory.")


class Counting(TrainerCallback):
    def __init__(self) -> None:
        self.steps: list[int] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.steps.append(state.global_step)


def test_a_callback_that_lacks_memory_halves_micro_batches(tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "per_device_train_batch_size": 8,
        "save_steps": 1,
        "max_steps": 3,
        "save_strategy": "steps",
    }
    whole = trainer(tmp_path / "whole", model=Tagger(dropout=0.0), **options)
    whole.train()
    before, after = Counting(), Counting()
    callbacks = [before, Greedy(limit=3), after]
    tried = trainer(
        tmp_path / "tried", model=Tagger(dropout=0.0), callbacks=callbacks, auto_find_batch_size=True, **options
    )
    tried.train()
    assert before.steps == after.steps == [1, 2, 3], "every callback is told of every step once"
    assert tried._train_batch_size == tried.state.train_batch_size == 2
    assert weights(tried).allclose(weights(whole), atol=1e-5)
    saved = TrainerState.load_from_json(str(tmp_path / "tried" / "checkpoint-1" / "trainer_state.json"))
    assert saved.train_batch_size == 2
    again = trainer(tmp_path / "tried", model=Tagger(dropout=0.0), auto_find_batch_size=True, **options)
    again.train(resume_from_checkpoint=str(tmp_path / "tried" / "checkpoint-1"))
    assert again._train_batch_size == 2


@pytest.mark.parametrize(("limit", "finds"), [(0, True), (3, False)])
def test_a_callback_that_never_has_enough_memory_ends_the_run(limit: int, *, finds: bool, tmp_path: Path) -> None:
    tried = trainer(tmp_path, model=Tagger(), callbacks=[Greedy(limit)], auto_find_batch_size=finds)
    with pytest.raises(RuntimeError, match="out of memory"):
        tried.train()


def test_restored_callbacks_come_after_the_others(tmp_path: Path) -> None:
    options: dict[str, Any] = {"max_steps": 2, "save_strategy": "steps", "save_steps": 2}
    options |= {"eval_strategy": "steps", "eval_steps": 2, "load_best_model_at_end": True, "eval_dataset": sentences()}
    trainer(tmp_path, model=Tagger(), callbacks=[EarlyStoppingCallback(5, 0.2)], **options).train()
    stopping, other = EarlyStoppingCallback(), Counting()
    options |= {"restore_callback_states_from_checkpoint": True}
    tried = trainer(tmp_path, model=Tagger(), callbacks=[stopping, other], **options)
    tried.train(resume_from_checkpoint=True)
    assert tried.callback_handler.callbacks[-1] is stopping
    assert tried.callback_handler.callbacks.index(other) > 0
    assert (stopping.early_stopping_patience, stopping.early_stopping_threshold) == (5, 0.2)


class Looking(torch.optim.lr_scheduler.LRScheduler):
    """A schedule that goes by the gradients of the step, as the one of Adafactor does."""

    saw: list[bool]

    def get_lr(self) -> list[float | torch.Tensor]:
        groups = self.optimizer.param_groups
        self.saw = [*getattr(self, "saw", []), all(value.grad is not None for value in groups[0]["params"])]
        return [group["lr"] for group in groups]


def test_a_schedule_sees_the_gradients_of_the_step(tmp_path: Path) -> None:
    model = Tagger()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    schedule = Looking(optimizer)
    trainer(tmp_path, model=model, optimizers=(optimizer, schedule), max_steps=2).train()
    assert schedule.saw == [False, True, True]
    assert all(value.grad is None for value in model.parameters())


def test_counted_operations_are_a_float(tmp_path: Path) -> None:
    tried = trainer(tmp_path, model=Tagger(), max_steps=1)
    tried.train()
    assert isinstance(tried.state.total_flos, float)


class InOrder(Trainer):
    """Chooses its order as one did when that took no argument."""

    def _get_train_sampler(self) -> torch.utils.data.Sampler[int]:  # type: ignore[override]
        return torch.utils.data.SequentialSampler(self.train_dataset)


def test_an_order_of_the_training_set_may_take_no_argument(tmp_path: Path) -> None:
    tried = trainer(tmp_path, cls=InOrder, per_device_train_batch_size=2, max_steps=1)
    first = next(iter(tried.get_train_dataloader()))
    expected = pad([sentences()[0], sentences()[1]])
    assert torch.equal(first["input_ids"].cpu(), expected["input_ids"])
    tried.train()


class Mine(Trainer):
    """A subclass as scripts have it."""

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        return super().compute_loss(model, inputs, *args, **kwargs)


def test_checks_for_the_trainer_of_transformers_pass(tmp_path: Path) -> None:
    import transformers

    tried = trainer(tmp_path, cls=Mine, max_steps=1)
    assert isinstance(tried, transformers.Trainer)
    assert isinstance(tried, Mine)
    assert not isinstance(tried, transformers.Seq2SeqTrainer)
    assert type(tried) is Mine
    assert not issubclass(Mine, transformers.Trainer)
    assert tried.__class__.__name__ == "Mine"
    assert tried.__class__.compute_loss is Mine.compute_loss
    tried.train()
    assert type(copy.copy(tried)) is Mine
    model = transformers.T5ForConditionalGeneration(
        transformers.T5Config(vocab_size=20, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
    )
    other = Seq2SeqTrainer(model, Seq2SeqTrainingArguments(str(tmp_path), report_to="none", use_cpu=True))
    assert isinstance(other, transformers.Seq2SeqTrainer)
    assert isinstance(other, transformers.Trainer)


def test_a_trainer_is_pickled_as_what_it_is(tmp_path: Path) -> None:
    import transformers

    tried = trainer(tmp_path, cls=Mine, max_steps=1)
    assert isinstance(tried, transformers.Trainer)
    function, (kind,), state = tried.__reduce_ex__(4)[:3]
    assert kind is Mine
    assert function(kind).__class__.__name__ == "Mine"
    assert state["args"] is tried.args
    pickle.dumps((function, kind))


def test_callbacks_of_transformers_steer(tmp_path: Path) -> None:
    import transformers

    class Theirs(transformers.TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
            control.should_training_stop = state.global_step == 2
            return control

    tried = trainer(tmp_path, callbacks=[Theirs(), transformers.EarlyStoppingCallback], max_steps=5, eval_dataset=[])
    tried.remove_callback(transformers.EarlyStoppingCallback)
    tried.train()
    assert tried.state.global_step == 2
