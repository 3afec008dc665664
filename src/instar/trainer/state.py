"""What changes while training. Nothing else in the package may keep such state."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from instar.core.budget import Budget
from instar.data import Batch
from instar.model import Network
from instar.optim.schedule import Rates
from instar.task import StepContext, TaskLike
from instar.trainer.average import WeightAverage


@dataclass(frozen=True, kw_only=True)
class StepUpdate:
    """What every optimizer step has. Tensors stay on the device until somebody logs them."""

    grad_norm: Tensor
    """Norm of the whole step's gradient before clipping, the same on every rank."""
    is_finite: Tensor
    """False: the gradient was not a number, and the weights were left as they were."""
    lr: float


@dataclass(frozen=True, kw_only=True)
class StepResult(StepUpdate):
    """One optimizer step of a run file."""

    total: Tensor
    """Loss summed over this rank's targets."""
    figures: Mapping[str, Tensor]
    """Sums of this rank's targets for each term of several and each figure, by name."""
    num_targets: int
    """Targets of the whole step, over all ranks."""
    num_tokens: int
    """Tokens of the whole step, over all ranks."""
    samples_D: NDArray[np.int64]
    """Sample numbers of the whole step."""


@dataclass
class Counters:
    """How far a run is, in every unit."""

    steps: int = 0
    samples: int = 0
    tokens: int = 0
    targets: int = 0

    def since(self, before: "Counters") -> "Counters":
        """What was counted after `before`."""
        return Counters(**{name: value - getattr(before, name) for name, value in vars(self).items()})

    def add(self, batch: Batch) -> None:
        """Count one step done."""
        self.steps += 1
        self.samples += len(batch)
        self.tokens += batch.num_tokens
        self.targets += batch.num_targets


@dataclass(kw_only=True)
class LoopState(ABC):
    """What the loop and the step read or change, whatever the work is."""

    seed: int
    module: nn.Module
    """What forward passes go through, as ranks see it."""
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    average: WeightAverage | None = None
    stop_reason: str | None = None
    """Set by a callback to end the run after this step."""

    @property
    @abstractmethod
    def step(self) -> int:
        """Optimizer steps done."""

    @cached_property
    def parameters(self) -> list[nn.Parameter]:
        """Those whose gradient a step clips; looked up once."""
        return list(self.module.parameters())


@dataclass(kw_only=True)
class TrainState(LoopState):
    """The state of a run file's run; a checkpoint holds it all."""

    network: Network
    schedule: Rates
    task: TaskLike
    budget: Budget
    totals: Mapping[str, float]
    """How long the stage is, in steps, epochs, samples and tokens (estimates but for the budget's unit)."""
    counters: Counters = field(default_factory=Counters)
    """Of the whole run."""
    stage: int = 0
    """Number of the run's stage, of `num_stages`."""
    num_stages: int = 1
    begun: Counters = field(default_factory=Counters)
    """Counters where the stage began."""
    ended_early: str | None = None
    """The `stop_reason` that ends the stage, and not the run."""

    @property
    def step(self) -> int:
        """Optimizer steps done."""
        return self.counters.steps

    def progress(self, counters: Counters | None = None) -> float:
        """Share of the stage's budget spent; 1.0 and more means done."""
        counters = (counters or self.counters).since(self.begun)
        per_epoch = self.totals["samples"] / self.totals["epochs"]
        spent = {
            "steps": counters.steps,
            "epochs": counters.samples / per_epoch,
            "samples": counters.samples,
            "tokens": counters.tokens,
        }
        return spent[self.budget.unit] / self.budget.amount

    def is_spent(self) -> bool:
        """True when the stage's budget is spent."""
        return self.progress() >= 1 - 1e-9

    def is_over(self) -> bool:
        """True when the stage is over: spent, or ended early because it gains nothing more."""
        return self.ended_early is not None or self.is_spent()

    @property
    def has_next_stage(self) -> bool:
        """True before the last stage."""
        return self.stage + 1 < self.num_stages

    def is_done(self) -> bool:
        """True when the budget is spent or a callback asked to stop."""
        return self.stop_reason is not None or self.is_spent()

    def step_context(self) -> StepContext:
        """The step to come, as a task sees it."""
        return StepContext(seed=self.seed, step=self.step, progress=self.progress())

    def set_rate(self, batch: Batch) -> float:
        """Give the optimizer the learning rate of the step that makes `batch`; returns it."""
        after = Counters(**vars(self.counters))
        after.add(batch)
        factor = self.schedule.factor(self.progress(), self.progress(after), self.totals)
        for group in self.optimizer.param_groups:
            group["lr"] = group.setdefault("peak_lr", group["lr"]) * factor
        return float(self.optimizer.param_groups[0]["lr"])
