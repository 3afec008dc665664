"""A Trainer's optimizer steps, as the loop sees them: a list of micro-batches, each through `Trainer.training_step`."""

import logging
import math
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from instar.api.batches import RoundRows
from instar.api.loader import NumberedLoader
from instar.api.optimizers import needs_metric
from instar.api.pieces import cut, is_out_of_memory, num_rows
from instar.api.structure import Structure
from instar.core import seeds
from instar.trainer.seeding import seed_everything
from instar.trainer.state import LoopState, StepUpdate

if TYPE_CHECKING:
    from instar.api.training import Training

_log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class FaceState(LoopState):
    """What the loop reads of a Trainer."""

    trainer: "Training"
    structure: Structure

    @property
    def parameters(self) -> list[nn.Parameter]:
        """All of the model, whether an optimizer holds them or not, as Transformers clips them."""
        self.structure.refresh()
        return self.structure.parameters

    @property
    def step(self) -> int:
        """Optimizer steps done."""
        return self.trainer.state.global_step

    def is_done(self) -> bool:
        """True when all steps are done, or somebody asked to stop."""
        trainer = self.trainer
        return trainer.control.should_training_stop or trainer.state.global_step >= trainer.state.max_steps


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How long a training is; the values of `Trainer.set_initial_training_values`, and where it begins."""

    num_epochs: int
    updates_per_epoch: int
    batches_per_epoch: int
    """Micro-batches; of a loader without a length, those of all steps."""
    first_epoch: int = 0
    first_batch: int = 0
    """Micro-batches of the first epoch that were read before."""


@dataclass(frozen=True, kw_only=True)
class MicroBatches:
    """The data of one optimizer step."""

    batches: list[Any]
    num_items: Any
    """Targets of the whole step, where the loss is to be told; see `num_items_in_batch`."""
    epoch: int
    last: int
    """Micro-batches of the epoch that are read when this step is done."""


@dataclass(frozen=True, kw_only=True)
class FaceResult(StepUpdate):
    """One optimizer step of a Trainer."""

    loss: Tensor
    """Mean over the step's targets, on this rank."""


class SmallerBatchesError(Exception):
    """Memory does not suffice for a batch that must not be cut: train with batches of `size` from the beginning."""

    def __init__(self, size: int) -> None:
        super().__init__(f"batches of {size} samples")
        self.size = size


class MicroBatchSteps:
    """The work of a Trainer's loop: reads micro-batches, hands them to `training_step`, steps the schedule."""

    def __init__(self, trainer: "Training", loader: Any, plan: Plan) -> None:
        self.trainer = trainer
        self.loader = loader
        self.plan = plan
        self.parts = 1
        """Into how many pieces a micro-batch is cut; doubled when memory does not suffice."""
        self._waits_for_scores = needs_metric(trainer.lr_scheduler)
        self._counted: tuple[Any, Any] = (0, 0)
        self._uneven: list[tuple[Any, RoundRows]] = []
        trainer._uneven = self._uneven
        self.place = (plan.first_epoch, plan.first_batch)
        """Epoch, and micro-batches read of it."""

    def passes(self, state: FaceState) -> Generator[Iterator[MicroBatches], None, None]:
        """One for each epoch."""
        plan = self.plan
        for epoch in range(plan.first_epoch, plan.num_epochs):
            if state.is_done():
                return
            yield self._steps(state, epoch, plan.first_batch if epoch == plan.first_epoch else 0)

    def _steps(self, state: FaceState, epoch: int, done: int) -> Iterator[MicroBatches]:
        trainer, plan = self.trainer, self.plan
        accumulated = trainer.args.gradient_accumulation_steps
        batches = self._batches(epoch, done)
        read = done
        while read < plan.batches_per_epoch:
            wanted = min(accumulated, plan.batches_per_epoch - read)
            self._uneven.clear()
            samples, num_items = trainer._get_samples(batches, wanted)
            if not samples:
                break
            read += len(samples)
            trainer.current_gradient_accumulation_steps = len(samples)
            yield MicroBatches(batches=samples, num_items=num_items, epoch=epoch, last=read)
            if state.is_done():
                return
            if trainer.control.should_epoch_stop:
                break
        if read == 0:
            _log.warning(
                "There seems not to be a single sample in your epoch_iterator, stopping training at step %d! This is "
                "expected if you're using an IterableDataset and set num_steps (%d) higher than the number of "
                "available samples.",
                state.step,
                trainer.state.max_steps,
            )
            trainer.control.should_training_stop = True
        self.place = (epoch + 1, 0)

    def _batches(self, epoch: int, done: int) -> Iterator[Any]:
        """An epoch's micro-batches from number `done` on. Those before are not read, where the data can be indexed."""
        trainer, loader = self.trainer, self.loader
        seed = trainer.args.seed if trainer.args.data_seed is None else trainer.args.data_seed
        if isinstance(loader, NumberedLoader):
            skips = loader.can_begin_anywhere
            loader.begin(epoch, done if skips else 0)
            batches: Iterator[Any] = iter(loader)
        else:
            skips = False
            batches = _numbered(loader, seed, epoch)
        if done and not skips:
            _log.warning("reading on past %d batches that were trained on before: this data cannot be indexed", done)
            for _ in range(done):
                next(batches, None)
        if trainer.runtime.data_size > 1 and isinstance(loader, NumberedLoader):
            return self._with_rows(batches, loader, done)
        return batches

    def _with_rows(self, batches: Iterator[Any], loader: NumberedLoader, first: int) -> Iterator[Any]:
        """The same batches; those that ranks share unevenly are noted until the next step."""
        for number, batch in enumerate(batches, start=first):
            rows = loader.uneven_rows(number)
            if rows is not None:
                self._uneven.append((batch, rows))
            yield batch

    def pieces(self, batch: MicroBatches) -> Sequence[Any]:
        """The micro-batches, or parts of them that fit in memory."""
        self._counted = (self.trainer.current_flos, self.trainer._unsettled_tokens)
        self.trainer._begin_pieces(batch.batches if self.parts == 1 else self._parts_of(batch.batches))
        return self.trainer._pieces

    def _parts_of(self, batches: list[Any]) -> list[Any]:
        return [part for batch in batches for part in cut(batch, self.parts)]

    def learn(self, state: FaceState, batch: MicroBatches, piece: Any) -> tuple[Tensor, ...]:
        """`training_step` of one piece, as users may have overridden it."""
        del state
        trainer = self.trainer
        loss = trainer._train_on(piece, batch.num_items)
        if self._uneven and not trainer._rank_has_rows(piece):
            return (loss,)
        trainer.current_flos += trainer.floating_point_ops(piece)
        if trainer.args.include_num_input_tokens_seen != "no":
            trainer._track_num_input_tokens(piece)
        return (loss,)

    def cut_smaller(self, error: BaseException) -> bool:
        """With `auto_find_batch_size`: halve micro-batches when memory did not suffice; the step stays what it is."""
        trainer = self.trainer
        if not self.makes_room(error, max(map(num_rows, trainer._pieces), default=1)):
            return False
        trainer.current_flos, trainer._unsettled_tokens = self._counted
        return True

    def makes_room(self, error: BaseException, largest: int) -> bool:
        """Whether micro-batches, of which the largest has so many samples, are half as large from now on."""
        trainer = self.trainer
        alone = trainer.runtime.world_size == 1
        if not (trainer.args.auto_find_batch_size and alone and is_out_of_memory(error) and largest > 1):
            return False
        if not trainer._may_be_cut(self.parts * 2):
            return self._begins_again(error, largest)
        self.parts *= 2
        trainer._found_batch_size(math.ceil(trainer._read_batch_size / self.parts))
        return True

    def _begins_again(self, error: BaseException, largest: int) -> bool:
        """Before the first step, ask for smaller batches; later it would be another run, so the error goes on."""
        trainer = self.trainer
        if trainer.state.global_step == trainer._initial_global_step and trainer._read_batch_size > 1:
            raise SmallerBatchesError(math.ceil(min(trainer._read_batch_size, largest) / 2)) from error
        error.add_note(
            "auto_find_batch_size: the loss of a batch is not a mean over its samples one by one, so that a batch "
            f"cannot be cut, and step {trainer.state.global_step} is too late to begin again with smaller ones: set "
            "per_device_train_batch_size lower"
        )
        return False

    def set_rate(self, state: FaceState, batch: MicroBatches) -> float:
        """The rate that the schedule set after the step before."""
        del state, batch
        return self.trainer._get_learning_rate()

    def finish(self, state: FaceState, batch: MicroBatches, sums: tuple[Tensor, ...], update: StepUpdate) -> FaceResult:
        """Step the schedule and count."""
        trainer = self.trainer
        if not (self._waits_for_scores or trainer._was_skipped()):
            trainer.lr_scheduler.step()
        for parameter in state.structure.parameters:  # also of those that no optimizer holds
            parameter.grad = None
        trainer.state.global_step += 1
        trainer.state.epoch = batch.epoch + batch.last / self.plan.batches_per_epoch
        self.place = (batch.epoch, batch.last)
        return FaceResult(loss=sums[0], grad_norm=update.grad_norm, is_finite=update.is_finite, lr=update.lr)


def _numbered(loader: Any, seed: int, epoch: int) -> Iterator[Any]:
    """A pass over a user's own loader, whose draws in this process follow the number of each batch."""
    for part in (loader, getattr(loader, "sampler", None), getattr(loader, "batch_sampler", None)):
        if part is not None and hasattr(part, "set_epoch"):
            part.set_epoch(epoch)
    generator = getattr(getattr(loader, "sampler", None), "generator", None)
    if isinstance(generator, torch.Generator):
        generator.manual_seed(seed + epoch)
    seed_everything(seeds.derive(seed, "epoch", epoch))
    batches = iter(loader)
    number = 0
    nothing = object()
    while True:
        seed_everything(seeds.derive(seed, "batch", epoch, number))
        batch = next(batches, nothing)
        if batch is nothing:
            return
        yield batch
        number += 1
