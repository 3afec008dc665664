"""All callbacks as one: every event reaches each of them, in order."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

from transformers import trainer_callback
from transformers.trainer_callback import DefaultFlowCallback

from instar.api.callbacks.base import EVENTS

_log = logging.getLogger(__name__)


class CallbackHandler(trainer_callback.CallbackHandler):
    """Keeps the callbacks of a Trainer and hands events to them.

    A callback is an object or a class of Transformers', or any object with events of that shape. Each event asks only
    those that listen to it.
    One that raises ends the run: its error goes on unchanged, with a note that names callback and event. It is asked
    once more, and those after it as ever, where `recovers` has done something about the error.
    """

    def __init__(
        self, callbacks: Sequence[Any], model: Any, processing_class: Any, optimizer: Any, lr_scheduler: Any
    ) -> None:
        self.callbacks: list[Any] = []
        self.recovers: Callable[[str, Exception], bool] | None = None
        self._counted: list[Any] = []
        self._listening: dict[str, list[Any]] = {}
        for callback in callbacks:
            self.add_callback(callback)
        self.model = model
        self.processing_class = processing_class
        self.optimizer = optimizer
        self.lr_scheduler = lr_scheduler
        self.train_dataloader: Any = None
        self.eval_dataloader: Any = None
        if not any(isinstance(callback, DefaultFlowCallback) for callback in self.callbacks):
            _log.warning(
                "No `DefaultFlowCallback` among the callbacks, so nothing is logged, evaluated or saved by itself, and "
                "training does not stop; trainer.add_callback(DefaultFlowCallback) adds it. The callbacks are:\n%s",
                self.callback_list,
            )

    def add_callback(self, callback: Any) -> None:
        """Add an object, or one made of a class; a second one of a class is added and said.

        TypeError for what has no event at all.
        """
        added = callback() if isinstance(callback, type) else callback
        if not any(callable(getattr(added, event, None)) for event in EVENTS):
            raise TypeError(f"callbacks: wanted an object with events such as on_step_end; got {callback!r}")
        if type(added) in [type(known) for known in self.callbacks]:
            _log.warning(
                "A second %s is added to the callbacks. The callbacks so far are:\n%s",
                type(added).__name__,
                self.callback_list,
            )
        self.callbacks.append(added)

    def pop_callback(self, callback: Any) -> Any:
        """Take out the first one of a class, or this one, and give it back; None where there is none."""
        for known in self.callbacks:
            if isinstance(known, callback) if isinstance(callback, type) else known == callback:
                self.callbacks.remove(known)
                return known
        return None

    def remove_callback(self, callback: Any) -> None:
        """Take out the first one of a class, or this one; ValueError where this one is not among them."""
        if self.pop_callback(callback) is None and not isinstance(callback, type):
            raise ValueError(f"{type(callback).__name__} is not among the callbacks, which are: {self.callback_list}")

    @property
    def callback_list(self) -> str:
        """Names of the classes, one a line."""
        return "\n".join(type(callback).__name__ for callback in self.callbacks)

    def call_event(self, event: str, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """Hand an event to every callback that listens to it; the control that the last one of them left."""
        if self._counted != self.callbacks:
            self._counted, self._listening = list(self.callbacks), {}
        listening = self._listening.get(event)
        if listening is None:
            listening = self._listeners(event)
        if not listening:
            return control
        kwargs = {
            "model": self.model,
            "processing_class": self.processing_class,
            "optimizer": self.optimizer,
            "lr_scheduler": self.lr_scheduler,
            "train_dataloader": self.train_dataloader,
            "eval_dataloader": self.eval_dataloader,
            **kwargs,
        }
        for callback in listening:
            result = self._ask(callback, event, args, state, control, kwargs)
            if result is not None:
                control = result
        return control

    def _ask(self, callback: Any, event: str, args: Any, state: Any, control: Any, known: dict[str, Any]) -> Any:
        while True:
            try:
                return getattr(callback, event)(args, state, control, **known)
            except Exception as error:
                if self.recovers is not None and self.recovers(event, error):
                    continue
                error.add_note(f"raised by the callback {type(callback).__name__} in {event}")
                raise

    def _listeners(self, event: str) -> list[Any]:
        """The callbacks that do something at an event: four a step are asked, so this is looked up once."""
        found = [callback for callback in self.callbacks if _listens(callback, event)]
        self._listening[event] = found
        return found

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        self._counted = []  # methods that were put on a callback since are found
        return super().on_train_begin(args, state, control, **kwargs)


def _listens(callback: Any, event: str) -> bool:
    """False where an event is the empty one of the base class: a decorated or replaced one has code elsewhere."""
    method = getattr(callback, event, None)
    code = getattr(getattr(method, "__func__", method), "__code__", None)
    if code is None:
        return method is not None
    return code.co_qualname != f"TrainerCallback.{event}" or code.co_filename != trainer_callback.__file__
