"""Setters of TrainingArguments: each sets its theme."""

import inspect

import pytest
import transformers

from instar.api.arguments import (
    HubStrategy,
    IntervalStrategy,
    SaveStrategy,
    SchedulerType,
    TrainingArguments,
)


def test_setters_set_their_theme_and_can_be_chained():
    args = TrainingArguments().set_training(learning_rate=0.1, batch_size=2).set_evaluate("steps", steps=7)
    assert (args.learning_rate, args.per_device_train_batch_size, args.do_train) == (0.1, 2, True)
    assert (args.eval_strategy, args.eval_steps, args.do_eval) == (IntervalStrategy.STEPS, 7, True)
    assert args.set_testing(batch_size=3).do_predict
    assert args.per_device_eval_batch_size == 3
    assert args.set_save("epoch", total_limit=2).save_strategy is SaveStrategy.EPOCH
    assert args.set_logging("no", report_to=["wandb"]).report_to == ["wandb"]
    assert args.set_push_to_hub("me/model", "end").hub_strategy is HubStrategy.END
    assert args.set_optimizer("adafactor", beta1=0.8).adam_beta1 == 0.8
    assert args.set_lr_scheduler("cosine", warmup_steps=0.05).lr_scheduler_type is SchedulerType.COSINE
    assert args.set_dataloader(train_batch_size=16, sampler_seed=9).data_seed == 9
    with pytest.raises(ValueError, match="positive value"):
        args.set_save("steps", steps=0)
    with pytest.warns(FutureWarning, match="activation_checkpointing"):
        assert args.set_training(gradient_checkpointing=True).activation_checkpointing is True


def test_setters_have_the_signatures_of_transformers():
    for name in (each for each in dir(transformers.TrainingArguments) if each.startswith("set_")):
        theirs = inspect.signature(getattr(transformers.TrainingArguments, name)).parameters
        mine = inspect.signature(getattr(TrainingArguments, name)).parameters
        assert [(each.name, each.default) for each in theirs.values()] == [
            (each.name, each.default) for each in mine.values()
        ]
