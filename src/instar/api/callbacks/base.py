"""What a callback is: sixteen events around training, and a state that a checkpoint can hold."""

from collections.abc import Mapping
from typing import Any

EVENTS = (
    "on_init_end",
    "on_train_begin",
    "on_train_end",
    "on_epoch_begin",
    "on_epoch_end",
    "on_step_begin",
    "on_pre_optimizer_step",
    "on_optimizer_step",
    "on_substep_end",
    "on_step_end",
    "on_evaluate",
    "on_predict",
    "on_save",
    "on_log",
    "on_prediction_step",
    "on_push_begin",
)


class TrainerCallback:
    """Watches a Trainer and may steer it; override the events you need.

    Every event is called as `event(args, state, control, **rest)`, where `rest` holds `model`, `processing_class`,
    `optimizer`, `lr_scheduler`, `train_dataloader` and `eval_dataloader`, and `metrics` or `logs` where they are the
    matter. Only `control` is for changing; an event that returns one puts it in the place of the old one.
    """

    def on_init_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """The Trainer is built."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """Training begins; model, optimizer and counters are as they will be used."""

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """Training is over, and the best model is loaded where that was asked for."""

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """A pass over the data begins."""

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """A pass over the data is over; what this event asks for is done at once."""

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """The first micro-batch of an optimizer step is about to be used."""

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """Gradients are clipped, and the optimizer has not moved."""

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """The optimizer has moved, and the gradients are still there."""

    def on_substep_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """A micro-batch that is not the last of its step was used."""

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """An optimizer step is over; what this event asks for is done at once."""

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """An evaluation is over; its `metrics` come along."""

    def on_predict(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """A prediction is over; its `metrics` come along."""

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """A checkpoint was saved."""

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """Figures were logged; they come along as `logs`."""

    def on_prediction_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """A batch of an evaluation was used."""

    def on_push_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """A push to the hub is about to begin."""


class ExportableState:
    """What must outlive a restart, as plain values: every checkpoint holds it.

    `state()` gives {"args": what the constructor takes, "attributes": what is set afterwards}.
    """

    def state(self) -> dict[str, Any]:
        raise NotImplementedError(f"{type(self).__name__} wants a method `state` that gives its args and attributes")

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Any:
        """An object that is as the one was whose `state()` this is."""
        found = cls(**state["args"])
        for name, value in state["attributes"].items():
            setattr(found, name, value)
        return found


def is_exportable(thing: object) -> bool:
    """True for an ExportableState, this package's or Transformers'."""
    return callable(getattr(thing, "state", None)) and callable(getattr(type(thing), "from_state", None))
