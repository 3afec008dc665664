"""The same figures for TensorBoard, where it is installed."""

from collections.abc import Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from instar.core.errors import UsageError
from instar.trainer.callback import Callback
from instar.trainer.state import TrainState


class TensorBoard(Callback):
    """Writes every number of a line as a scalar under split/name."""

    def __init__(self, folder: Path) -> None:
        try:
            writer = import_module("torch.utils.tensorboard").SummaryWriter
        except ImportError as error:
            raise UsageError(
                "train.tensorboard: true needs TensorBoard; run `pip install 'instar[tensorboard]'`"
            ) from error
        self._make = partial(writer, str(folder))
        self._writer: Any = None

    def fit_started(self, state: TrainState) -> None:
        self._writer = self._make()

    def logged(self, state: TrainState, record: Mapping[str, Any]) -> None:
        self._write(state.step, record)

    def evaluated(self, state: TrainState, scores: Mapping[str, Any]) -> None:
        self._write(state.step, scores)

    def fit_failed(self, state: TrainState, error: BaseException) -> None:
        self.fit_ended(state)

    def fit_ended(self, state: TrainState) -> None:
        if self._writer is not None:
            self._writer.close()

    def _write(self, step: int, record: Mapping[str, Any]) -> None:
        split = record.get("split", "train")
        for name, value in record.items():
            if isinstance(value, float):
                self._writer.add_scalar(f"{split}/{name}", value, step)
