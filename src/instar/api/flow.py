"""Between the loop's events and those that users of the Trainer know."""

from typing import TYPE_CHECKING, Any

from instar.api.steps import FaceResult, FaceState
from instar.trainer.callback import Callback

if TYPE_CHECKING:
    from instar.api.training import Training


class Flow(Callback[FaceState, FaceResult]):
    """Hands every event of the loop to the Trainer's callbacks, and does what their control asks for."""

    def __init__(self, trainer: "Training", trial: Any, ignore_keys_for_eval: list[str] | None) -> None:
        self.trainer = trainer
        self.trial = trial
        self.ignore_keys_for_eval = ignore_keys_for_eval
        self._last: FaceResult | None = None
        trainer.callback_handler.recovers = self._recovers

    def _recovers(self, event: str, error: Exception) -> bool:
        """A callback lacked memory after a step: whether micro-batches are smaller from now on. The step is done."""
        steps = self.trainer._steps
        return event == "on_step_end" and steps is not None and steps.makes_room(error, self.trainer._train_batch_size)

    def _tell(self, event: str) -> None:
        trainer = self.trainer
        told = getattr(trainer.callback_handler, event)
        trainer.control = told(trainer.args, trainer.state, trainer.control)

    def fit_started(self, state: FaceState) -> None:
        self._tell("on_train_begin")
        if self.trainer.args.eval_on_start:
            self.trainer._evaluate(self.trial, self.ignore_keys_for_eval, skip_scheduler=True)

    def epoch_started(self, state: FaceState) -> None:
        self._tell("on_epoch_begin")

    def step_started(self, state: FaceState) -> None:
        self._tell("on_step_begin")

    def piece_ended(self, state: FaceState) -> None:
        self._tell("on_substep_end")

    def update_started(self, state: FaceState) -> None:
        self._tell("on_pre_optimizer_step")

    def update_ended(self, state: FaceState) -> None:
        self._tell("on_optimizer_step")

    def step_ended(self, state: FaceState, result: FaceResult) -> None:
        self._last = result
        self.trainer._count_loss(result)
        self._tell("on_step_end")
        self._act()

    def epoch_ended(self, state: FaceState) -> None:
        self._tell("on_epoch_end")
        self._act()

    def _act(self) -> None:
        control = self.trainer.control
        if not (control.should_log or control.should_evaluate or control.should_save):
            return
        trainer, last = self.trainer, self._last
        trainer._maybe_log_save_evaluate(
            trainer._tr_loss,
            None if last is None else last.grad_norm,
            trainer.model_wrapped,
            self.trial,
            trainer.state.epoch,
            self.ignore_keys_for_eval,
            trainer._start_time,
            learning_rate=None if last is None else last.lr,
        )
