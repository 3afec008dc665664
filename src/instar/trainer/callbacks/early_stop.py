"""Stop when held-out data no longer gain."""

import math
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from instar.config import Config
from instar.trainer.callback import Callback
from instar.trainer.state import TrainState


def is_better(value: float, best: float, *, metric: str, by: float = 0.0) -> bool:
    """True if `value` beats `best` by more than `by`; losses, perplexities and errors want to be low."""
    is_low_good = metric.endswith(("loss", "perplexity", "error", "bits_per_character"))
    return value < best - by if is_low_good else value > best + by


def worst(metric: str) -> float:
    """What every score of the metric beats."""
    return math.inf if is_better(0.0, 1.0, metric=metric) else -math.inf


class EarlyStopping(Config):
    """End the run, or the stage that it is in, after a number of evaluations without a gain."""

    metric: str = "loss"
    """Evaluation score to watch."""
    patience: Annotated[int, Field(ge=1)] = 3
    """Evaluations without a gain that are borne."""
    min_gain: Annotated[float, Field(ge=0)] = 0.0
    """Smaller gains do not count."""


class EarlyStop(Callback):
    """Asks the loop to stop when `patience` evaluations in a row brought no gain."""

    def __init__(self, config: EarlyStopping) -> None:
        self.config = config
        self.best = worst(config.metric)
        self.without_gain = 0
        self._stage = 0

    def fit_started(self, state: TrainState) -> None:
        if self._stage != state.stage:  # what another objective gained does not count
            self._stage, self.best, self.without_gain = state.stage, worst(self.config.metric), 0
        self._stop_if_spent(state)  # a run that had stopped stays where it is

    def evaluated(self, state: TrainState, scores: Mapping[str, Any]) -> None:
        value = scores.get(self.config.metric)
        if scores.get("split") != "eval" or value is None:
            return
        if is_better(value, self.best, metric=self.config.metric, by=self.config.min_gain):
            self.best, self.without_gain = value, 0
            return
        self.without_gain += 1
        self._stop_if_spent(state)

    def _stop_if_spent(self, state: TrainState) -> None:
        if self.without_gain >= self.config.patience:
            state.stop_reason = f"no gain in {self.config.metric} for {self.without_gain} evaluations"
            state.ended_early = state.stop_reason

    def state_dict(self) -> dict[str, Any]:
        best = self.best if math.isfinite(self.best) else None
        return {"best": best, "without_gain": self.without_gain, "stage": self._stage}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.best = worst(self.config.metric) if state["best"] is None else state["best"]
        self.without_gain = state["without_gain"]
        self._stage = state.get("stage", 0)
