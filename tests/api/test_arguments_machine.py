"""What TrainingArguments see of the machine: its processes, its device, how much is told."""

import logging
import sys
from datetime import timedelta

import pytest
import torch

from instar.api.arguments import (
    ParallelMode,
    TrainingArguments,
)
from tests.api.argument_parts import faults


def test_one_process_does_not_read_for_all(monkeypatch: pytest.MonkeyPatch):
    assert TrainingArguments(accelerator_config={"dispatch_batches": True}).accelerator_config.dispatch_batches
    monkeypatch.setattr(TrainingArguments, "world_size", 2)
    assert "its share" in faults(accelerator_config={"dispatch_batches": True})["accelerator_config"]
    assert "tensors" in faults(eval_use_gather_object=True)["eval_use_gather_object"]


def test_a_configured_state_must_be_there(monkeypatch: pytest.MonkeyPatch):
    from accelerate.state import PartialState

    monkeypatch.setattr(PartialState, "_shared_state", {})
    assert "pre-configured" in faults(accelerator_config={"use_configured_state": True})["accelerator_config"]
    with monkeypatch.context() as absent:
        absent.setitem(sys.modules, "accelerate.state", None)
        assert "pre-configured" in faults(accelerator_config={"use_configured_state": True})["accelerator_config"]
    monkeypatch.setattr(PartialState, "_shared_state", {"device": "cpu"})
    assert TrainingArguments(accelerator_config={"use_configured_state": True}).accelerator_config.use_configured_state


def test_the_process_and_its_device(monkeypatch: pytest.MonkeyPatch):
    args = TrainingArguments(use_cpu=True, per_device_train_batch_size=3, per_device_eval_batch_size=5, ddp_timeout=60)
    assert args.device == torch.device("cpu")
    assert (args.n_gpu, args.world_size, args.process_index, args.local_process_index) == (0, 1, 0, 0)
    assert (args.train_batch_size, args.eval_batch_size) == (3, 5)
    assert args.parallel_mode is ParallelMode.NOT_PARALLEL
    assert args.ddp_timeout_delta == timedelta(minutes=1)
    assert args.place_model_on_device is None
    assert (args.should_log, args.should_save) == (True, True)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert (args.should_log, args.should_save) == (False, True)
    args.save_on_each_node, args.log_on_each_node = True, False
    assert (args.should_log, args.should_save) == (True, False)
    with args.main_process_first(desc="nothing"):
        pass


def test_log_levels(monkeypatch: pytest.MonkeyPatch):
    args = TrainingArguments(log_level="debug", log_level_replica="error")
    assert args.get_process_log_level() == logging.DEBUG
    assert TrainingArguments().get_process_log_level() == logging.getLogger("transformers").getEffectiveLevel()
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert args.get_process_log_level() == logging.ERROR


def test_progress_bars_follow_the_log_level():
    logger = logging.getLogger("transformers")
    level = logger.level
    try:
        logger.setLevel(logging.ERROR)
        assert TrainingArguments().disable_tqdm is True
        assert TrainingArguments(disable_tqdm=False).disable_tqdm is False
        logger.setLevel(logging.WARNING)
        assert TrainingArguments().disable_tqdm is False
    finally:
        logger.setLevel(level)
