"""What callbacks ask of the loop."""

from dataclasses import asdict, dataclass
from typing import Any

from instar.api.callbacks.base import ExportableState


@dataclass
class TrainerControl(ExportableState):
    """Five switches. `should_training_stop` stays on; the others are done once and go off by themselves."""

    should_training_stop: bool = False
    should_epoch_stop: bool = False
    should_save: bool = False
    should_evaluate: bool = False
    should_log: bool = False

    def state(self) -> dict[str, Any]:
        return {"args": asdict(self), "attributes": {}}

    def _new_training(self) -> None:
        self.should_training_stop = False

    def _new_epoch(self) -> None:
        self.should_epoch_stop = False

    def _new_step(self) -> None:
        self.should_save = False
        self.should_evaluate = False
        self.should_log = False
