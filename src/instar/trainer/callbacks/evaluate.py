"""Scores of held-out data, every so often."""

from collections.abc import Callable, Mapping
from typing import Any

from instar.trainer.callback import Callback
from instar.trainer.callbacks.interval import Due
from instar.trainer.state import StepResult, TrainState


class Evaluate(Callback):
    """Runs `evaluate` when due and when the budget is spent, and announces what it says.

    Evaluating draws no random number of the run and leaves the network training, so it
    cannot change the curve.
    """

    def __init__(self, evaluate: Callable[[], Mapping[str, Any]], due: Due) -> None:
        self.evaluate = evaluate
        self.due = due

    def step_ended(self, state: TrainState, result: StepResult) -> None:
        if self.due.after(state, state.counters.samples - len(result.samples_D)) or state.is_spent():
            self.announce.evaluated(state, self._scores(state))
            self.due.done()

    def _scores(self, state: TrainState) -> Mapping[str, Any]:
        state.network.eval()
        try:
            if state.average is None:
                return self.evaluate()
            with state.average.in_place():
                return self.evaluate()
        finally:
            state.network.train()
