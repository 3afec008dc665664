"""A run that goes on from a checkpoint is the run that was never stopped: to the bit."""

import json
import os
import shutil
import signal
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from instar import EarlyStoppingCallback, Trainer, TrainerCallback
from instar.api.callbacks import TrainerState
from tests.api import saving_parts as parts
from tests.api.saving_parts import Sentences, Stream, bert, curve, make, mask_evenly, weights
from tests.api.saving_ranks import losses, small
from tests.processes import start

CASES: dict[str, dict[str, Any]] = {
    "random masking and dropout": {},
    "BERT": {"model": bert},
    "two workers": {"dataloader_num_workers": 2},
    "no accumulation": {"gradient_accumulation_steps": 1, "per_device_train_batch_size": 4},
    "an uneven last step": {"data": lambda: Sentences(22), "gradient_accumulation_steps": 3},
    "rows of like length": {"train_sampling_strategy": "group_by_length"},
    "a stream": {"data": Stream, "max_steps": 12},
    "a stream and a worker": {"data": Stream, "max_steps": 12, "dataloader_num_workers": 1},
    "the best at the end": {
        "load_best_model_at_end": True,
        "eval_strategy": "steps",
        "eval_steps": 2,
        "greater_is_better": True,
    },
    "epochs": {"save_strategy": "epoch", "logging_strategy": "epoch", "eval_strategy": "epoch"},
    "a cosine and momentum": {"lr_scheduler_type": "cosine", "optim": "sgd", "optim_args": "momentum=0.9"},
    "a plateau": {"lr_scheduler_type": "reduce_lr_on_plateau", "eval_strategy": "steps", "eval_steps": 2},
    "an average of weights": {"weight_average_decay": 0.7, "eval_strategy": "steps", "eval_steps": 2},
    "tokens counted": {"include_num_input_tokens_seen": "all"},
    "written in the background": {"async_save": True},
    "without the fast path": {"model": bert, "fast_path": False},
}


def built(folder: Path, case: dict[str, Any], **changes: Any) -> Trainer:
    made = {name: value() if callable(value) else value for name, value in case.items() if name in ("model", "data")}
    return make(folder, **{**case, **made, **changes})


def keep_until(folder: Path, target: Path, step: int) -> None:
    """The run as it was on the disk when it was killed after this step."""
    shutil.copytree(folder, target)
    for place in target.glob("checkpoint-*"):
        if int(place.name.split("-")[1]) > step:
            shutil.rmtree(place)


@pytest.mark.parametrize("name", CASES)
def test_a_resumed_run_is_the_run_that_was_never_stopped(tmp_path: Path, name: str) -> None:
    case = CASES[name]
    whole = built(tmp_path / "whole", case)
    whole.train()
    steps = sorted(int(path.name.split("-")[1]) for path in (tmp_path / "whole").glob("checkpoint-*"))
    keep_until(tmp_path / "whole", tmp_path / "part", steps[0])
    part = built(tmp_path / "part", case)
    part.train(resume_from_checkpoint=True)
    assert part.state.global_step == whole.state.global_step
    assert weights(part.model) == weights(whole.model)
    assert curve(part.state.log_history) == curve(whole.state.log_history)
    assert part.state.num_input_tokens_seen == whole.state.num_input_tokens_seen


def test_steps_that_were_trained_on_are_not_read_again(tmp_path: Path) -> None:
    class Counted(Sentences):
        read = 0

        def __getitem__(self, index: int) -> dict[str, Any]:
            Counted.read += 1
            return super().__getitem__(index)

    make(tmp_path, data=Counted(), max_steps=4).train()
    assert Counted.read == 16
    make(tmp_path, data=Counted(), max_steps=5).train(resume_from_checkpoint=True)
    assert Counted.read == 20


def test_early_stopping_goes_on_counting(tmp_path: Path) -> None:
    """The metric never gets better after the first evaluation."""

    class Worse(Trainer):
        def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
            metrics = {"eval_loss": 1.0 + self.state.global_step}
            self.log(metrics)
            self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
            return metrics

    def run(folder: Path, **changes: Any) -> Trainer:
        patient = EarlyStoppingCallback(early_stopping_patience=3)
        wanted = {"eval_strategy": "steps", "eval_steps": 2, "save_steps": 2, "metric_for_best_model": "loss"}
        trainer = make(folder, kind=Worse, callbacks=[patient], **{**wanted, **changes})
        trainer.train(resume_from_checkpoint=any(folder.glob("checkpoint-*")) or None)
        return trainer

    assert run(tmp_path / "whole").state.global_step == 8
    assert run(tmp_path / "part", max_steps=4).state.global_step == 4
    assert run(tmp_path / "part").state.global_step == 8


def test_a_longer_run_goes_on_with_its_own_length_and_intervals(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make(tmp_path, max_steps=4).train()
    later = make(tmp_path, max_steps=7, save_steps=3, logging_steps=1)
    later.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    assert (later.state.global_step, later.state.save_steps) == (7, 3)
    assert "save_steps: 3 (from args) != 4 (from trainer_state.json)" in caplog.text
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["checkpoint-4", "checkpoint-6", "checkpoint-7"]


# ---- Transformers' own Trainer ----


def theirs(folder: Path, **changes: Any) -> Any:
    import transformers

    changes.pop("data_seed", None)
    return transformers.Trainer(
        bert(dropout=0.0),
        transformers.TrainingArguments(**parts.values(folder, **changes)),
        data_collator=mask_evenly,
        train_dataset=Sentences(),
    )


def ours(folder: Path, **changes: Any) -> Trainer:
    return make(folder, bert(dropout=0.0), collator=mask_evenly, fast_path=False, **changes)


@pytest.mark.filterwarnings("ignore")
def test_a_checkpoint_of_transformers_goes_on_here_and_one_of_ours_there(tmp_path: Path) -> None:
    # micro-batches are not added up here: for BERT the stock Trainer adds their losses and divides by nothing
    both = {"logging_steps": 1, "lr_scheduler_type": "cosine", "gradient_accumulation_steps": 1, "max_steps": 12}
    reference = theirs(tmp_path / "theirs", **both)
    reference.train()
    mine = ours(tmp_path / "ours", **both)
    mine.train()
    assert losses(mine) == pytest.approx(losses(reference), abs=2e-5)
    here = ours(tmp_path / "here", **both)
    here.train(resume_from_checkpoint=str(tmp_path / "theirs" / "checkpoint-4"))
    assert losses(here) == pytest.approx(losses(reference), abs=2e-5)
    assert here.state.global_step == 12
    there = theirs(tmp_path / "there", **both)
    there.train(resume_from_checkpoint=str(tmp_path / "ours" / "checkpoint-8"))
    assert losses(there) == pytest.approx(losses(reference), abs=2e-5)
    newest = ours(tmp_path / "theirs", **both)  # a whole folder of theirs, taken up as if it were ours
    newest.train(resume_from_checkpoint=True)
    assert newest.state.global_step == 12


# ---- several processes ----


def test_two_processes_go_on_in_parts_and_one_goes_on_alone(tmp_path: Path) -> None:
    """DDP saves, FSDP goes on from that, and one process from FSDP's; the curve is that of one process."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    child = start([*launcher, "-m", "tests.api.saving_ranks", str(tmp_path)], cwd=Path(__file__).parents[2])
    _, errors = child.communicate()
    assert child.returncode == 0, errors.decode()[-3000:]
    told = json.loads((tmp_path / "told.json").read_text())
    alone = small(tmp_path / "alone", rows=4)
    alone.train()
    assert told["ddp"] == pytest.approx(losses(alone), abs=2e-5)
    assert told["fsdp"] == pytest.approx(losses(alone), abs=2e-5)
    assert {path.name for path in (tmp_path / "ddp" / "checkpoint-3").glob("rng*")} == {
        "rng_state_0.pth",
        "rng_state_1.pth",
    }
    later = small(tmp_path / "later", rows=4)
    later.train(resume_from_checkpoint=str(tmp_path / "fsdp" / "checkpoint-6"))
    assert later.state.global_step == 6
    best = load_file(Path(told["best"]) / "model.safetensors")
    saved = load_file(tmp_path / "fsdp" / "model.safetensors")
    assert best.keys() == saved.keys()
    assert all(torch.equal(best[name], saved[name]) for name in best)


# ---- killed ----


def _fault_tools() -> Any:
    folder = str(Path(__file__).parents[1] / "promises")
    if folder not in sys.path:
        sys.path.insert(0, folder)
    import faults

    return faults


def test_killed_at_any_moment_the_run_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    faults = _fault_tools()
    program = faults.Program(Path(parts.__file__), "train", {"steps": 6, "every": 1, "save_total_limit": 2})
    memory = Path("/dev/shm")
    with (
        faults.ForkServer("torch._dynamo", "instar.api.trainer") as server,
        TemporaryDirectory(dir=memory if memory.is_dir() else tmp_path, prefix="instar-") as folder,
    ):
        met = faults.storm(server, program, Path(folder), kills=16, seed=7, look=parts.look)
    assert met.problems == []
    assert met.kills == 16


class StopsAt(TrainerCallback):
    """Ends a run as Ctrl-C would."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step:
            raise KeyboardInterrupt


class Leaves(TrainerCallback):
    """The system asks the process to leave between two micro-batches of a step."""

    def on_substep_end(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        if state.global_step == 5:
            os.kill(os.getpid(), signal.SIGTERM)


def test_asked_to_leave_the_run_saves_and_goes_on(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    changes = {"save_strategy": "no", "enable_jit_checkpoint": True}
    whole = make(tmp_path / "whole", save_strategy="no")
    whole.train()
    first = make(tmp_path / "part", callbacks=[Leaves], **changes)
    first.train()
    assert first.state.global_step == 6
    assert [path.name for path in (tmp_path / "part").iterdir()] == ["checkpoint-6"]
    part = make(tmp_path / "part", **changes)
    part.train(resume_from_checkpoint=True)
    assert curve(part.state.log_history) == curve(whole.state.log_history)
    assert weights(part.model) == weights(whole.model)
    assert signal.getsignal(signal.SIGTERM) is before


def test_interrupted_between_two_logs_nothing_of_a_record_is_lost(tmp_path: Path) -> None:
    whole = make(tmp_path / "whole", save_steps=1)
    whole.train()
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "part", save_steps=1, callbacks=[StopsAt(5)]).train()
    part = make(tmp_path / "part", save_steps=1)
    part.train(resume_from_checkpoint=True)
    assert curve(part.state.log_history) == curve(whole.state.log_history)
    assert weights(part.model) == weights(whole.model)
