"""Callbacks that a person, the system or a tracker sees: bars, printed lines, signals, reporting."""

import os
import signal
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest
from transformers import trainer_callback

from instar.api import callbacks
from instar.api.callbacks import (
    CallbackHandler,
    CheckpointManager,
    DefaultFlowCallback,
    JITCheckpointCallback,
    PrinterCallback,
    ProgressCallback,
    TrainerControl,
    TrainerState,
    default_callbacks,
    progress_callback,
    reporting_callbacks,
)

# ---- what a person sees ----


def test_the_bar_counts_steps_shows_tokens_a_second_and_figures(capsys):
    bar, state, control = ProgressCallback(max_str_len=5), TrainerState(max_steps=4), TrainerControl()
    bar.on_train_begin(None, state, control)
    for step in range(1, 5):
        state.global_step, state.num_input_tokens_seen = step, 1000 * step
        bar.on_step_end(None, state, control)
    logs = {"loss": 0.123456, "note": "much too long", "total_flos": 1e9}
    bar.on_log(None, state, control, logs=logs)
    for _ in range(2):
        bar.on_prediction_step(None, state, control, eval_dataloader=[1, 2])
    bar.on_prediction_step(None, state, control, eval_dataloader=iter(()))
    assert bar.prediction_bar.n == 3
    bar.on_evaluate(None, state, control)
    assert bar.training_bar.n == 4
    bar.on_train_end(None, state, control)
    shown = capsys.readouterr()
    assert "tokens/s" in shown.err
    assert "0.1235" in shown.out
    assert "text of 13 characters" in shown.out
    assert "total_flos" not in shown.out
    assert logs["total_flos"] == 1e9, "what other callbacks see stays as it is"


def test_a_stream_without_a_length_shows_no_bar_and_other_processes_none(capsys):
    bar = ProgressCallback()
    bar.on_prediction_step(None, TrainerState(), None, eval_dataloader=iter(()))
    other = TrainerState(is_world_process_zero=False)
    bar.on_train_begin(None, other, None)
    bar.on_step_end(None, other, None)
    bar.on_log(None, other, None, logs={"loss": 1.0})
    bar.on_train_end(None, other, None)
    assert capsys.readouterr() == ("", "")


def test_the_printer_prints_a_line(capsys):
    PrinterCallback().on_log(None, TrainerState(), None, logs={"loss": 1 / 3, "step": 2})
    assert capsys.readouterr().out == "{'loss': '0.3333', 'step': 2}\n"
    assert progress_callback(disable_tqdm=True) is PrinterCallback
    assert progress_callback(disable_tqdm=None) is ProgressCallback


# ---- preemption ----


def preemptible(**changes):
    saved = []
    trainer = SimpleNamespace(
        args=SimpleNamespace(enable_jit_checkpoint=True, report_to=[]),
        model="model",
        state=TrainerState(global_step=5),
        _save_checkpoint=lambda model, trial: saved.append((model, trial)),
    )
    vars(trainer).update(changes)
    return trainer, saved


def test_sigterm_saves_at_the_next_step_and_stops():
    before = signal.getsignal(signal.SIGTERM)
    trainer, saved = preemptible()
    flow, watch = default_callbacks(trainer)
    assert flow is DefaultFlowCallback
    control = TrainerControl(should_save=True)
    try:
        watch.on_step_end(trainer.args, trainer.state, control)
        watch.on_pre_optimizer_step(trainer.args, trainer.state, control)
        assert not saved
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        trainer.is_in_train = True
        watch.on_pre_optimizer_step(trainer.args, trainer.state, control)
        assert not saved, "buffers and counters are those of a half step"
        watch.on_step_end(trainer.args, trainer.state, control)
        assert (saved, control.should_save) == ([], True), "training saves when it has logged what is due"
        os.kill(os.getpid(), signal.SIGTERM)
        watch.on_step_begin(trainer.args, trainer.state, control)
        assert saved == [("model", None)]
        os.kill(os.getpid(), signal.SIGTERM)
        control.should_evaluate = True
        watch.on_epoch_end(trainer.args, trainer.state, control)
        assert len(saved) == 2, "an evaluation may take longer than there is time"
        trainer.is_in_train = control.should_evaluate = False
        os.kill(os.getpid(), signal.SIGTERM)
        watch.on_step_end(trainer.args, trainer.state, control)
        watch.on_step_begin(trainer.args, trainer.state, control)
    finally:
        watch.on_train_end(trainer.args, trainer.state, control)
    assert len(saved) == 3
    assert control == TrainerControl(should_training_stop=True)
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_failed_save_raises_and_is_not_repeated():
    def fail(model, trial):
        raise OSError("disk")

    manager = CheckpointManager(preemptible(_save_checkpoint=fail)[0])
    assert manager.kill_wait == 3
    manager._enable_checkpoint()
    with pytest.raises(OSError, match="disk"):
        manager.execute_jit_checkpoint()
    assert not manager.is_checkpoint_requested


def test_another_thread_than_the_main_one_cannot_listen_and_says_so(caplog):
    watch = JITCheckpointCallback()
    thread = threading.Thread(target=lambda: watch.set_trainer(preemptible()[0]))
    thread.start()
    thread.join()
    watch.on_train_end(None, None, None)
    assert "main thread only" in caplog.text


# ---- reporting ----


def test_none_means_none_and_all_means_what_is_installed():
    assert reporting_callbacks(None) == reporting_callbacks("none") == reporting_callbacks([]) == []
    assert "TensorBoardCallback" in [found.__name__ for found in reporting_callbacks("all")]
    with pytest.raises(ValueError, match=r"did you mean 'tensorboard'.*only .*wandb.*no_such is not supported"):
        reporting_callbacks(["tensorbord", "no_such", "mlflow"])


def test_tensorboard_attaches_unchanged(tmp_path, monkeypatch):
    monkeypatch.delenv("TENSORBOARD_LOGGING_DIR", raising=False)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config = SimpleNamespace(to_json_string=lambda: '{"hidden_size": 4}')
    args = SimpleNamespace(output_dir=str(tmp_path), to_json_string=lambda: '{"seed": 1}')
    (board,) = reporting_callbacks("tensorboard")
    all_callbacks = CallbackHandler([DefaultFlowCallback, board], SimpleNamespace(config=config), None, None, None)
    state, control = TrainerState(global_step=3, max_steps=3), TrainerControl()
    all_callbacks.on_train_begin(args, state, control)
    all_callbacks.on_log(args, state, control, logs={"loss": 0.5, "eval_loss": 0.25, "note": "text"})
    all_callbacks.on_train_end(args, state, control)
    (run,) = (tmp_path / "runs").iterdir()
    events = EventAccumulator(str(run)).Reload()
    assert sorted(events.Tags()["scalars"]) == ["eval/loss", "train/loss"]
    (scalar,) = events.Scalars("train/loss")
    assert (scalar.step, scalar.value) == (3, 0.5)
    assert {"args/text_summary", "model_config/text_summary"} <= set(events.Tags()["tensors"])


def test_callbacks_and_states_are_those_of_transformers():
    """So that `isinstance` holds in users' code and in callbacks of others."""
    for name in (
        "TrainerCallback",
        "TrainerState",
        "TrainerControl",
        "ExportableState",
        "CallbackHandler",
        "DefaultFlowCallback",
        "ProgressCallback",
        "PrinterCallback",
        "EarlyStoppingCallback",
    ):
        assert issubclass(getattr(callbacks, name), getattr(trainer_callback, name)), name
    assert issubclass(JITCheckpointCallback, trainer_callback.TrainerCallback)


def test_the_name_of_the_package_costs_no_import_of_transformers():
    program = (
        "import sys, instar, instar.api; print([m for m in ('torch', 'transformers', 'tqdm') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
