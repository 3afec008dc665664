"""What the network says of a few fixed held-out rows, each time it is evaluated."""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from instar.trainer.callback import Callback
from instar.trainer.callbacks.lines import Lines
from instar.trainer.runtime import Runtime
from instar.trainer.state import TrainState


class Sample(Callback):
    """Writes a line of samples.jsonl for each row; the same rows every time. Costs nothing on other steps."""

    def __init__(self, path: Path, preview: Callable[[], Iterable[Mapping[str, Any]]], runtime: Runtime) -> None:
        self.lines = Lines(path)
        self.preview = preview
        self.runtime = runtime

    def fit_started(self, state: TrainState) -> None:
        if self.runtime.is_main:
            self.lines.cut()

    def evaluated(self, state: TrainState, scores: Mapping[str, Any]) -> None:
        if self.runtime.is_main:
            for row in self.preview():
                self.lines.append({"step": state.step, **row})
        elif self.runtime.is_sharded:
            deque(self.preview(), maxlen=0)  # the main process cannot go forward alone

    def state_dict(self) -> dict[str, Any]:
        return {"length": self.lines.synced_length() if self.runtime.is_main else 0}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.lines.length = state["length"]
