"""The training loop."""

import torch

from instar.core import seeds
from instar.data.prefetch import Prefetch
from instar.data.stream import Stream
from instar.trainer.callback import Callback
from instar.trainer.runtime import Runtime
from instar.trainer.state import TrainState
from instar.trainer.step import StepLimits, optimizer_step


def fit(
    state: TrainState, stream: Stream, callback: Callback, runtime: Runtime, limits: StepLimits, *, ahead: int = 0
) -> None:
    """Train until the budget is spent or a callback asks to stop.

    Where a run stopped and where it would be after a restart are the same: the batch, the
    masks and the dropout of step n depend on (seed, n) only. `ahead` steps are gathered early.
    """
    state.network.train()
    try:
        callback.fit_started(state)
        with Prefetch(stream.steps(start=state.counters.samples), ahead) as batches:
            while not state.is_done():
                torch.manual_seed(seeds.derive(state.seed, "dropout", state.step, runtime.rank))
                batch = state.task.prepare(next(batches), state.moment())
                result = optimizer_step(state, batch, runtime, limits)
                state.counters.add(batch)
                callback.step_ended(state, result)
    except BaseException as error:
        callback.fit_failed(state, error)
        raise
    callback.fit_ended(state)
