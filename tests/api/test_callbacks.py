"""Callbacks see every event as Transformers calls it, steer the run, and survive a restart."""

import json
import logging
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instar.api.callbacks import (
    EVENTS,
    CallbackHandler,
    DefaultFlowCallback,
    EarlyStoppingCallback,
    ExportableState,
    PrinterCallback,
    ProgressCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    exported_states,
    is_exportable,
    restore_states,
    resume_counting,
)


class Recorder(TrainerCallback):
    def __init__(self):
        self.seen = []


def _recording(event):
    def hear(self, args, state, control, **kwargs):
        self.seen.append((event, args, state, control, kwargs))

    return hear


for _event in EVENTS:
    setattr(Recorder, _event, _recording(_event))


class Counting(TrainerCallback, ExportableState):
    def __init__(self, name="none"):
        self.name = name
        self.count = 0

    def state(self):
        return {"args": {"name": self.name}, "attributes": {"count": self.count}}


def handler(*callbacks):
    return CallbackHandler([DefaultFlowCallback, *callbacks], "model", "tokenizer", "optimizer", "schedule")


def arguments(**changes):
    values = {
        "logging_strategy": "steps",
        "logging_first_step": False,
        "eval_strategy": "no",
        "eval_delay": 0,
        "save_strategy": "no",
        "load_best_model_at_end": True,
        "metric_for_best_model": "loss",
        "greater_is_better": False,
    }
    return SimpleNamespace(**{**values, **changes})


# ---- events ----


@pytest.mark.parametrize("event", EVENTS)
def test_every_event_comes_in_the_shape_of_transformers(event):
    recorder = Recorder()
    all_callbacks = handler(recorder)
    all_callbacks.train_dataloader, all_callbacks.eval_dataloader = "train", "eval"
    extra = {"on_log": {"logs": {"loss": 1.0}}, "on_evaluate": {"metrics": {}}, "on_predict": {"metrics": {}}}
    args, state, control = arguments(), TrainerState(global_step=1), TrainerControl()
    assert getattr(all_callbacks, event)(args, state, control, **extra.get(event, {})) is control
    rest = {
        "model": "model",
        "processing_class": "tokenizer",
        "optimizer": "optimizer",
        "lr_scheduler": "schedule",
        "train_dataloader": "train",
        "eval_dataloader": "eval",
        **extra.get(event, {}),
    }
    assert recorder.seen == [(event, args, state, control, rest)]


def test_a_control_that_is_given_back_takes_the_place_of_the_old_one():
    other = TrainerControl(should_save=True)

    class Gives(TrainerCallback):
        def on_epoch_begin(self, args, state, control, **kwargs):
            return other

    recorder = Recorder()
    assert handler(Gives(), recorder).on_epoch_begin(arguments(), TrainerState(), TrainerControl()) is other
    assert recorder.seen[0][3] is other


def test_switches_go_off_where_transformers_turns_them_off():
    control = TrainerControl(True, True, True, True, True)
    all_callbacks = handler()
    all_callbacks.on_train_begin(None, None, control)
    all_callbacks.on_epoch_begin(None, None, control)
    all_callbacks.on_step_begin(None, None, control)
    assert control == TrainerControl()


def test_classes_objects_and_those_of_transformers_are_taken():
    from transformers import TrainerCallback as Foreign
    from transformers.trainer_callback import ExportableState as ForeignState

    class Theirs(Foreign, ForeignState):
        def __init__(self):
            self.events = []

        def on_save(self, args, state, control, **kwargs):
            self.events.append(kwargs["model"])

        def state(self):
            return {"args": {}, "attributes": {"events": self.events}}

    all_callbacks = handler(Recorder, Theirs)
    theirs = all_callbacks.callbacks[-1]
    all_callbacks.on_save(arguments(), TrainerState(), TrainerControl())
    assert theirs.events == ["model"]
    assert is_exportable(theirs)
    assert exported_states([theirs]) == {"Theirs": {"args": {}, "attributes": {"events": ["model"]}}}
    assert len(all_callbacks._listeners("on_substep_end")) == 1, "the empty events of Transformers' base cost nothing"


def test_callbacks_come_and_go_as_class_or_object():
    from transformers import DefaultFlowCallback as Foreign
    from transformers import PrinterCallback as ForeignPrinter

    recorder = Recorder()
    all_callbacks = handler(recorder, PrinterCallback)
    assert all_callbacks.callback_list.split() == ["DefaultFlowCallback", "Recorder", "PrinterCallback"]
    assert all_callbacks.pop_callback(recorder) is recorder
    assert all_callbacks.pop_callback(Recorder) is None
    all_callbacks.remove_callback(Recorder)  # none of that class: nothing to do
    with pytest.raises(ValueError, match="Recorder is not among the callbacks"):
        all_callbacks.remove_callback(recorder)
    all_callbacks.remove_callback(ForeignPrinter)  # a script that imports it from Transformers means ours
    assert isinstance(all_callbacks.pop_callback(Foreign), DefaultFlowCallback)
    assert all_callbacks.callbacks == []
    all_callbacks.callbacks.append(recorder)  # users do that too
    all_callbacks.on_save(None, None, TrainerControl())
    assert [seen[0] for seen in recorder.seen] == ["on_save"]


def test_a_method_put_on_a_callback_later_is_called():
    quiet, calls = TrainerCallback(), []
    all_callbacks = handler(quiet)
    all_callbacks.on_substep_end(None, None, TrainerControl())
    quiet.on_substep_end = lambda *args, **kwargs: calls.append(args)
    all_callbacks.on_train_begin(None, None, TrainerControl())
    all_callbacks.on_substep_end(None, None, TrainerControl())
    assert len(calls) == 1


def test_a_second_one_of_a_class_and_a_missing_flow_are_said(caplog):
    handler(Recorder, Recorder())
    assert "A second Recorder" in caplog.text
    assert "DefaultFlowCallback" not in caplog.records[0].message.split("\n")[0]
    CallbackHandler([ProgressCallback()], None, None, None, None)
    assert "No `DefaultFlowCallback`" in caplog.text


def test_a_callback_that_raises_is_named_and_its_error_goes_on():
    class Fails(TrainerCallback):
        def on_save(self, args, state, control, **kwargs):
            raise KeyError("no such disk")

    with pytest.raises(KeyError, match="raised by the callback Fails in on_save") as caught:
        handler(Fails).on_save(None, None, TrainerControl())
    assert caught.value.args == ("no such disk",)


# ---- the flow of a run ----


def switches(args, step, max_steps=10, **intervals):
    state = TrainerState(global_step=step, max_steps=max_steps, **intervals)
    return DefaultFlowCallback().on_step_end(args, state, TrainerControl())


def test_steps_log_evaluate_and_save_at_their_intervals_and_at_the_end():
    args = arguments(eval_strategy="steps", save_strategy="steps")
    intervals = {"logging_steps": 2, "eval_steps": 3, "save_steps": 4}
    done = {step: switches(args, step, **intervals) for step in range(1, 11)}
    assert [step for step in done if done[step].should_log] == [2, 4, 6, 8, 10]
    assert [step for step in done if done[step].should_evaluate] == [3, 6, 9, 10]
    assert [step for step in done if done[step].should_save] == [4, 8, 10]
    assert [step for step in done if done[step].should_training_stop] == [10]


def test_the_first_step_logs_where_asked_and_evaluation_waits_for_its_delay():
    assert switches(arguments(logging_first_step=True), 1).should_log
    late = arguments(eval_strategy="steps", eval_delay=7)
    assert [switches(late, step, eval_steps=2).should_evaluate for step in (4, 6, 8)] == [False, False, True]
    assert not switches(arguments(eval_strategy="steps", eval_delay=11), 10).should_evaluate


def test_strategies_by_epoch_act_at_the_end_of_an_epoch():
    args = arguments(logging_strategy="epoch", eval_strategy="epoch", save_strategy="epoch", eval_delay=2)
    flow = DefaultFlowCallback()
    first = flow.on_epoch_end(args, TrainerState(epoch=1.0), TrainerControl())
    second = flow.on_epoch_end(args, TrainerState(epoch=2.0), TrainerControl())
    assert (first.should_log, first.should_evaluate, first.should_save) == (True, False, True)
    assert second.should_evaluate
    last = switches(args, 10)
    assert last.should_training_stop
    assert not last.should_log
    assert not last.should_evaluate
    assert not last.should_save


# ---- early stopping ----


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(-3, 3), min_size=1, max_size=12),
    st.integers(1, 4),
    st.sampled_from([0.0, 0.25]),
    st.booleans(),
)
def test_early_stopping_stops_when_transformers_does(values, patience, threshold, greater):
    from transformers import EarlyStoppingCallback as Theirs

    args = arguments(metric_for_best_model="score", greater_is_better=greater, eval_strategy="steps")

    def stops(callback):
        state, control, found = TrainerState(), TrainerControl(), []
        for value in values:
            callback.on_evaluate(args, state, control, {"eval_score": value})
            found.append((callback.early_stopping_patience_counter, control.should_training_stop))
            best = state.best_metric
            if best is None or (value > best if greater else value < best):
                state.best_metric = value
        return found

    assert stops(EarlyStoppingCallback(patience, threshold)) == stops(Theirs(patience, threshold))


def test_early_stopping_says_what_it_needs(caplog):
    callback = EarlyStoppingCallback()
    with pytest.raises(AssertionError, match="metric_for_best_model"):
        callback.on_train_begin(arguments(metric_for_best_model=None), None, None)
    with pytest.raises(AssertionError, match="eval_strategy"):
        callback.on_train_begin(arguments(), None, None)
    callback.on_evaluate(arguments(), TrainerState(), TrainerControl(), metrics={"eval_accuracy": 1.0})
    assert "gave no eval_loss; it gave ['eval_accuracy']" in caplog.text


def test_a_resumed_run_goes_on_counting():
    callback = EarlyStoppingCallback(5)
    callback.early_stopping_patience_counter = 3
    states = json.loads(json.dumps(exported_states([callback, Counting("a")])))
    later = EarlyStoppingCallback(7)
    resume_counting([later], states)
    assert (later.early_stopping_patience, later.early_stopping_patience_counter) == (7, 3)


# ---- states ----


def test_callbacks_become_what_they_were_and_stay_the_same_objects(caplog):
    first, second = Counting("first"), Counting("second")
    first.count = 4
    control = TrainerControl(should_training_stop=True)
    states = json.loads(json.dumps(exported_states([first, second, control, EarlyStoppingCallback(2)])))
    third, fourth, other = Counting(), Counting(), TrainerControl()
    with caplog.at_level(logging.WARNING):
        restore_states([third, fourth, other], states)
    assert (third.name, third.count, fourth.name, fourth.count) == ("first", 4, "second", 0)
    assert other.should_training_stop
    assert "this run does not have: EarlyStoppingCallback" in caplog.text
    assert Counting.from_state(first.state()).count == 4


def test_what_is_no_exportable_state_is_refused():
    with pytest.raises(TypeError, match="must inherit `ExportableState`"):
        TrainerState(stateful_callbacks=[Recorder()])
    with pytest.raises(NotImplementedError, match="`state` function"):
        ExportableState().state()


def test_the_state_is_saved_under_the_keys_of_transformers_and_comes_back(tmp_path):
    from transformers import TrainerState as Theirs

    state = TrainerState(
        epoch=1.5,
        global_step=7,
        log_history=[{"loss": 0.1 + 0.2, "step": 7}, {"loss": float("nan"), "score": np.float32(0.5), "step": 8}],
        best_metric=np.float64(0.25),
        stateful_callbacks=[Counting("x"), TrainerControl()],
    )
    state.save_to_json(tmp_path / "trainer_state.json")
    theirs = Theirs.load_from_json(str(tmp_path / "trainer_state.json"))
    assert theirs.log_history[0]["loss"] == 0.1 + 0.2
    assert theirs.stateful_callbacks == state.stateful_callbacks
    theirs.save_to_json(str(tmp_path / "theirs.json"))
    back = TrainerState.load_from_json(tmp_path / "theirs.json")
    assert back.best_metric == 0.25
    assert back.epoch == 1.5
    assert list(tmp_path.iterdir()) != []
    assert set(json.loads((tmp_path / "theirs.json").read_text())) == set(vars(TrainerState()))


def test_unknown_keys_of_a_state_are_said_and_left_out(tmp_path, caplog):
    path = tmp_path / "trainer_state.json"
    path.write_text(json.dumps({"global_step": 3, "from_the_future": 1}))
    assert TrainerState.load_from_json(path).global_step == 3
    assert "from_the_future" in caplog.text


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe", b'{"global_step": 1', b"[" * 100_000])
def test_a_damaged_state_is_a_value_error(tmp_path, content):
    path = tmp_path / "trainer_state.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"trainer_state\.json"):
        TrainerState.load_from_json(path)
    with pytest.raises(FileNotFoundError):
        TrainerState.load_from_json(tmp_path / "none.json")


def test_a_value_that_json_does_not_have_is_named(tmp_path):
    with pytest.raises(TypeError, match="nothing for set"):
        TrainerState(trial_params={"x": {1}}).save_to_json(tmp_path / "trainer_state.json")
    assert not list(tmp_path.iterdir())


def test_intervals_may_be_shares_of_the_run():
    state = TrainerState()
    state.compute_steps(SimpleNamespace(logging_steps=0.1, eval_steps=None, save_steps=30), max_steps=95)
    assert (state.logging_steps, state.eval_steps, state.save_steps) == (10, 500, 30)


def test_a_trial_leaves_its_name_and_values():
    optuna = pytest.importorskip("optuna")
    trial = optuna.trial.FixedTrial({"lr": 0.1})
    trial.suggest_float("lr", 0.0, 1.0)
    trainer = SimpleNamespace(
        hp_name=lambda trial: f"trial-{trial.number}",
        _trial=SimpleNamespace(number=3),
        is_local_process_zero=lambda: True,
        is_world_process_zero=lambda: False,
    )
    state = TrainerState()
    state.init_training_references(trainer, 10, 2, trial)
    assert (state.trial_name, state.trial_params) == ("trial-3", {"lr": 0.1})
    assert (state.max_steps, state.num_train_epochs, state.is_world_process_zero) == (10, 2, False)
