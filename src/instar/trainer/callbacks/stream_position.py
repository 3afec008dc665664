"""Where a run stands in a corpus that is streamed."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from instar.data.streaming import CorpusStream, Position
from instar.trainer.callback import Callback
from instar.trainer.state import StepResult, TrainState


class StreamPosition(Callback):
    """Keeps in each checkpoint where the block begins that the run is in, so that a resumed run reads from there."""

    def __init__(self, stream: CorpusStream) -> None:
        self._stream = stream
        self._samples = 0

    def fit_started(self, state: TrainState) -> None:
        self._samples = state.counters.samples

    def step_ended(self, state: TrainState, result: StepResult) -> None:
        self._samples = state.counters.samples

    def state_dict(self) -> dict[str, Any]:
        return asdict(self._stream.position(self._samples))

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._stream.resume(Position(**state))
