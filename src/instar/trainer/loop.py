"""The training loop."""

from contextlib import closing

from instar.core import seeds
from instar.trainer.callback import Callback
from instar.trainer.runtime import Runtime
from instar.trainer.seeding import seed_everything
from instar.trainer.step import StepLimits, optimizer_step
from instar.trainer.work import BatchT, ResultT, StateT, Work


def fit(
    state: StateT,
    work: Work[StateT, BatchT, ResultT],
    callback: Callback[StateT, ResultT],
    runtime: Runtime,
    limits: StepLimits,
) -> None:
    """Train until the work is done, which is when its passes over the data end.

    Where a run stopped and where it would be after a restart are the same: the batch, the
    masks and the dropout of step n depend on (seed, n) only.
    """
    try:
        callback.fit_started(state)
        with closing(work.passes(state)) as passes:
            for batches in passes:
                callback.epoch_started(state)
                for batch in batches:
                    seed_everything(seeds.derive(state.seed, "dropout", state.step, runtime.data_rank))
                    callback.step_started(state)
                    result = optimizer_step(state, batch, work, runtime, limits, callback=callback)
                    callback.step_ended(state, result)
                callback.epoch_ended(state)
    except BaseException as error:
        callback.fit_failed(state, error)
        raise
    callback.fit_ended(state)
