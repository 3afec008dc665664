"""Files in the run folder that tell a run what to do: `stop` and `save`."""

from collections.abc import Callable
from pathlib import Path

from instar.core.rundir import RunFolder
from instar.trainer.callback import Callback
from instar.trainer.runtime import Runtime
from instar.trainer.state import StepResult, TrainState

STOPPED = "asked to by the file stop"


class Control(Callback):
    """Looks after each step for a file `stop` (save and end the run) and a file `save` (a checkpoint now).

    What they hold does not matter. The main process looks, all ranks act after the same step, and a file that was
    obeyed is removed. Costs two looks at the file system a step.
    """

    def __init__(self, run: RunFolder, save: Callable[[], None], runtime: Runtime) -> None:
        """`save` asks for a checkpoint of the step that has just ended."""
        self.files = (run.stop_file, run.save_file)
        self.save = save
        self.runtime = runtime

    def step_ended(self, state: TrainState, result: StepResult) -> None:
        stops, saves = self._asked()
        if stops and state.stop_reason is None:
            state.stop_reason = STOPPED
        if saves:
            self.save()

    def _asked(self) -> tuple[bool, bool]:
        stops, saves = [self._taken(path) for path in self.files] if self.runtime.is_main else [False, False]
        if not self.runtime.any(stops or saves):
            return False, False
        return self.runtime.any(stops), self.runtime.any(saves)

    @staticmethod
    def _taken(path: Path) -> bool:
        """True if the file was there; it is gone now."""
        if not path.exists():
            return False
        path.unlink(missing_ok=True)
        return True
