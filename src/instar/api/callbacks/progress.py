"""What a person sees while a Trainer works: a bar, or plain lines."""

import sys
import time
from collections.abc import Mapping
from typing import Any

from transformers import trainer_callback

_SECONDS_BETWEEN_UPDATES = 0.1


class ProgressCallback(trainer_callback.ProgressCallback):
    """A bar with the time left and, where tokens are counted, tokens a second; figures are written above it.

    A text longer than `max_str_len` characters is left out of the figures, and its length is said.
    """

    def __init__(self, max_str_len: int = 100) -> None:
        self.training_bar: Any = None
        self.prediction_bar: Any = None
        self.max_str_len = max_str_len
        self._next_update = 0.0
        self._began = (0.0, 0)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if not state.is_world_process_zero:
            return
        from tqdm.auto import tqdm

        self.training_bar = tqdm(total=state.max_steps, initial=state.global_step, dynamic_ncols=True)
        self._next_update = 0.0
        self._began = (time.monotonic(), state.num_input_tokens_seen)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.training_bar is None:
            return
        now = time.monotonic()
        if now < self._next_update and state.global_step < state.max_steps:
            return
        self._next_update = now + _SECONDS_BETWEEN_UPDATES
        seconds, tokens = now - self._began[0], state.num_input_tokens_seen - self._began[1]
        if tokens and seconds:
            self.training_bar.set_postfix_str(f"{tokens / seconds:,.0f} tokens/s", refresh=False)
        self.training_bar.update(state.global_step - self.training_bar.n)

    def on_prediction_step(
        self, args: Any, state: Any, control: Any, eval_dataloader: Any = None, **kwargs: Any
    ) -> None:
        if not state.is_world_process_zero:
            return
        if self.prediction_bar is None:
            from tqdm.auto import tqdm

            total = _length(eval_dataloader)
            if total is None:
                return
            self.prediction_bar = tqdm(total=total, leave=self.training_bar is None, dynamic_ncols=True)
        self.prediction_bar.update(1)

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._close_prediction_bar()

    def on_predict(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._close_prediction_bar()

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if self.training_bar is not None and logs is not None:
            self.training_bar.write(str(_figures(logs, self.max_str_len)))

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.training_bar is not None:
            self.training_bar.close()
            self.training_bar = None

    def _close_prediction_bar(self) -> None:
        if self.prediction_bar is not None:
            self.prediction_bar.close()
            self.prediction_bar = None


class PrinterCallback(trainer_callback.PrinterCallback):
    """Prints figures as they are logged, one line each."""

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if state.is_local_process_zero and logs is not None:
            sys.stdout.write(f"{_figures(logs)}\n")


def progress_callback(*, disable_tqdm: bool | None) -> Any:
    """The class that shows progress here: lines, a bar, or Transformers' table in a notebook."""
    if disable_tqdm:
        return PrinterCallback
    if _is_notebook():
        from transformers.utils.notebook import NotebookProgressCallback

        return NotebookProgressCallback
    return ProgressCallback


def _is_notebook() -> bool:
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return "IPKernelApp" in getattr(shell, "config", ())


def _figures(logs: Mapping[str, Any], longest: int | None = None) -> dict[str, Any]:
    return {name: _figure(value, longest) for name, value in logs.items() if name != "total_flos"}


def _figure(value: Any, longest: int | None) -> Any:
    if isinstance(value, float):
        return f"{value:.4g}"
    if longest is not None and isinstance(value, str) and len(value) > longest:
        return f"[text of {len(value)} characters, more than max_str_len={longest}]"
    return value


def _length(loader: Any) -> int | None:
    try:
        return len(loader)
    except (TypeError, NotImplementedError):
        return None
