"""The stages of a run: where it is in them, and what each trains."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from instar.checkpoint.lineage import STATE
from instar.core.errors import DataError
from instar.core.files.json_files import read_json
from instar.model import Network
from instar.model.freeze import freeze, trained_numbers
from instar.run.config import RunConfig
from instar.run.labels import Labels
from instar.trainer.snapshot import take_average


@dataclass(frozen=True, kw_only=True)
class Position:
    """Where in its stages a run is, at a checkpoint or at its beginning."""

    number: int = 0
    count: int = 1
    is_handed_over: bool = False
    """Whether the stage begins with what the one before it has left."""

    @classmethod
    def at(cls, config: RunConfig, start: Path | None) -> "Position":
        """From what the checkpoint says; a run without `stages` has one."""
        count = max(1, len(config.stages))
        saved = {} if start is None else recorded(start)
        number = int(saved.get("number", 0))
        if saved.get("is_over") and number + 1 < count:
            return cls(number=number + 1, count=count, is_handed_over=True)
        return cls(number=number, count=count)

    @property
    def told(self) -> str:
        """For a person."""
        return f"stage {self.number + 1} of {self.count}"


def recorded(checkpoint: Path) -> dict[str, Any]:
    """`number` of the stage that a checkpoint was saved in, counters where it had `begun`, whether it `is_over`."""
    found = read_json(checkpoint / STATE).get("stage")
    return found if isinstance(found, dict) else {"number": 0, "begun": {}, "is_over": False}


def hand_over(network: Network, labels: Labels, start: Path) -> None:
    """Begin a stage from the end of the one before: from the moving average of its weights, where it kept one.

    DataError where the stage's data have other labels than the checkpoint's head.
    """
    take_average(network, start)
    before = Labels.read(start)
    if before != labels:
        raise DataError(
            f"stages: the data of the next stage have the labels {_told(labels)}, and the head's {_told(before)};"
            " name them in task.labels"
        )


def _told(labels: Labels) -> str:
    return labels.kind if labels.names is None else ", ".join(labels.names[:6])


def check_stages(config: RunConfig, network: Network) -> list[dict[str, Any]]:
    """What each stage trains of a network, which is left as it was; ConfigError for globs that do not fit it."""
    found = []
    for number in range(len(config.stages)):
        stage = config.stage(number)
        train = stage.train
        with _gradients_kept(network):
            if train.trainable is not None or train.frozen_patterns:
                freeze(network, train.trainable, train.frozen_patterns)
            trained, frozen = trained_numbers(network)
        found.append(
            {
                "budget": str(train.budget),
                "trained": trained,
                "frozen": frozen,
                "optimizer": f"{train.optimizer.kind}, rate {train.optimizer.lr:g}",
                "schedule": train.schedule.kind,
                "objective": ", ".join(f"{term.kind} x {term.weight:g}" for term in stage.objective),
                "data": "as before" if config.stages[number].data is None else "its own",
            }
        )
    return found


def described(stages: list[dict[str, Any]]) -> Iterator[str]:
    """The same, a line each."""
    for number, stage in enumerate(stages, start=1):
        yield (
            f"stage {number} of {len(stages)}: {stage['budget']}; {stage['trained']:,} parameters trained, "
            f"{stage['frozen']:,} frozen; {stage['objective']}; {stage['optimizer']}, {stage['schedule']}; data "
            f"{stage['data']}"
        )


@contextmanager
def _gradients_kept(network: Network) -> Iterator[None]:
    before = [(parameter, parameter.requires_grad) for parameter in network.parameters()]
    try:
        yield
    finally:
        for parameter, is_trained in before:
            parameter.requires_grad_(is_trained)
