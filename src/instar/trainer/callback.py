"""What happens around training. A callback watches; it does not train.

    fit_started
    ├── epoch_started           a pass over the data begins; a run file has one pass
    │   ├── step_started        the data of an optimizer step are there
    │   │   ├── piece_ended     gradients of a part of the step were added; not told of the last
    │   │   ├── update_started  the gradient is whole and clipped
    │   │   └── update_ended    the weights were changed
    │   └── step_ended          after every optimizer step
    │       ├── logged          a line of training figures was written
    │       ├── evaluated       scores of a split are known
    │       └── saved           a checkpoint was published
    ├── epoch_ended
    ├── fit_failed              the loop raised (then fit_ended does not come)
    └── fit_ended               the loop finished

Setting `state.stop_reason` asks the loop to stop after this step. What a callback must
remember over a restart goes into its `state_dict`, which every checkpoint holds.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Generic

from typing_extensions import TypeVar

from instar.trainer.state import LoopState, StepResult, StepUpdate, TrainState

StateT = TypeVar("StateT", bound=LoopState, default=TrainState)
ResultT = TypeVar("ResultT", bound=StepUpdate, default=StepResult)


class Callback(Generic[StateT, ResultT]):
    """Override what you need; tell the others of a run through `self.announce`."""

    announce: "Callback[StateT, ResultT]"
    former_name: str = ""
    """Name of its state in checkpoints that were saved before the class was renamed."""

    def fit_started(self, state: StateT) -> None: ...

    def epoch_started(self, state: StateT) -> None: ...

    def step_started(self, state: StateT) -> None: ...

    def piece_ended(self, state: StateT) -> None: ...

    def update_started(self, state: StateT) -> None: ...

    def update_ended(self, state: StateT) -> None: ...

    def step_ended(self, state: StateT, result: ResultT) -> None: ...

    def logged(self, state: StateT, record: Mapping[str, Any]) -> None: ...

    def evaluated(self, state: StateT, scores: Mapping[str, Any]) -> None: ...

    def saved(self, state: StateT, folder: Path) -> None: ...

    def epoch_ended(self, state: StateT) -> None: ...

    def fit_failed(self, state: StateT, error: BaseException) -> None: ...

    def fit_ended(self, state: StateT) -> None: ...

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


class Callbacks(Callback):
    """Many callbacks as one, called in order; each event reaches them all."""

    def __init__(self, callbacks: Sequence[Callback] = ()) -> None:
        self.all = tuple(callbacks)
        for callback in self.all:
            callback.announce = self

    def fit_started(self, state: TrainState) -> None:
        for callback in self.all:
            callback.fit_started(state)

    def epoch_started(self, state: TrainState) -> None:
        for callback in self.all:
            callback.epoch_started(state)

    def epoch_ended(self, state: TrainState) -> None:
        for callback in self.all:
            callback.epoch_ended(state)

    def step_started(self, state: TrainState) -> None:
        for callback in self.all:
            callback.step_started(state)

    def piece_ended(self, state: TrainState) -> None:
        for callback in self.all:
            callback.piece_ended(state)

    def update_started(self, state: TrainState) -> None:
        for callback in self.all:
            callback.update_started(state)

    def update_ended(self, state: TrainState) -> None:
        for callback in self.all:
            callback.update_ended(state)

    def step_ended(self, state: TrainState, result: StepResult) -> None:
        for callback in self.all:
            callback.step_ended(state, result)

    def logged(self, state: TrainState, record: Mapping[str, Any]) -> None:
        for callback in self.all:
            callback.logged(state, record)

    def evaluated(self, state: TrainState, scores: Mapping[str, Any]) -> None:
        for callback in self.all:
            callback.evaluated(state, scores)

    def saved(self, state: TrainState, folder: Path) -> None:
        for callback in self.all:
            callback.saved(state, folder)

    def fit_failed(self, state: TrainState, error: BaseException) -> None:
        for callback in self.all:
            callback.fit_failed(state, error)

    def fit_ended(self, state: TrainState) -> None:
        for callback in self.all:
            callback.fit_ended(state)

    def state_dict(self) -> dict[str, Any]:
        """State of each callback that has one, by the name of its class."""
        states = {type(callback).__name__: callback.state_dict() for callback in self.all}
        return {name: state for name, state in states.items() if state}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for callback in self.all:
            for name in (type(callback).__name__, callback.former_name):
                if name in state:
                    callback.load_state_dict(state[name])
                    break
