"""A checkpoint when the system asks the process to leave."""

import logging
import signal
import threading
from typing import Any

from transformers.trainer_callback import TrainerCallback

_log = logging.getLogger(__name__)


class CheckpointManager:
    """Saves a checkpoint of a Trainer once SIGTERM came and `kill_wait` seconds passed; 0 means at the next step."""

    def __init__(self, trainer: Any, kill_wait: float = 3) -> None:
        self.trainer = trainer
        self.kill_wait = kill_wait
        self.is_checkpoint_requested = False
        self._original_sigterm_handler: Any = None

    def setup_signal_handler(self) -> None:
        """Listen to SIGTERM; only the main thread of a program can, so elsewhere it is said and left."""
        if threading.current_thread() is not threading.main_thread():
            _log.warning("enable_jit_checkpoint: SIGTERM can be heard in the main thread only, and this is another")
            return
        self._original_sigterm_handler = signal.signal(signal.SIGTERM, self._sigterm_handler)

    def restore_signal_handler(self) -> None:
        """SIGTERM does again what it did before."""
        if self._original_sigterm_handler is not None:
            signal.signal(signal.SIGTERM, self._original_sigterm_handler)

    def execute_jit_checkpoint(self) -> None:
        """Save now; a save that fails raises, and is not asked for again."""
        self.is_checkpoint_requested = False
        _log.warning("SIGTERM: saving step %d and stopping", self.trainer.state.global_step)
        self.trainer._save_checkpoint(self.trainer.model, trial=None)

    def _sigterm_handler(self, signum: int, frame: Any) -> None:
        if self.is_checkpoint_requested:
            return
        if self.kill_wait:
            threading.Timer(self.kill_wait, self._enable_checkpoint).start()
        else:
            self._enable_checkpoint()

    def _enable_checkpoint(self) -> None:
        self.is_checkpoint_requested = True


class JITCheckpointCallback(TrainerCallback):
    """With `enable_jit_checkpoint`, SIGTERM saves a checkpoint at the next step and stops the run."""

    def __init__(self) -> None:
        self.trainer: Any = None
        self.jit_manager: CheckpointManager | None = None

    def set_trainer(self, trainer: Any) -> None:
        """Watch over this Trainer, from now until the end of its training."""
        self.trainer = trainer
        if trainer.args.enable_jit_checkpoint:
            self.jit_manager = CheckpointManager(trainer=trainer, kill_wait=0)
            self.jit_manager.setup_signal_handler()

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._is_asked(control):
            self._save()

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """A step in training is finished first: its forward pass changed buffers and counters already."""
        if not self._is_training() and self._is_asked(control):
            self._save()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._save_finished(control)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._save_finished(control)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.jit_manager is not None:
            self.jit_manager.restore_signal_handler()

    def _save_finished(self, control: Any) -> None:
        """Let training save when what is due was logged; before an evaluation, which may take long, save also now."""
        if not self._is_asked(control):
            return
        if not self._is_training() or control.should_evaluate:
            self._save()
        control.should_save = self._is_training()
        if self.jit_manager is not None:
            self.jit_manager.is_checkpoint_requested = False

    def _is_asked(self, control: Any) -> bool:
        asked = self.jit_manager is not None and self.jit_manager.is_checkpoint_requested
        if asked:
            control.should_training_stop = True
        return asked

    def _is_training(self) -> bool:
        return bool(getattr(self.trainer, "is_in_train", False))

    def _save(self) -> None:
        assert self.jit_manager is not None
        self.jit_manager.execute_jit_checkpoint()
