"""The steps of a run file: packed documents, a task that prepares them, an objective that sums their losses."""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from instar.data import Batch
from instar.data.prefetch import Prefetch
from instar.trainer.agreement import agree_on_step
from instar.trainer.runtime import Runtime
from instar.trainer.state import StepResult, StepUpdate, TrainState


class StepStream(Protocol):
    """Whole optimizer steps, each a function of the seed and the number of its first sample."""

    def steps(self, start: int = 0) -> Iterator[Batch]:
        """The steps from a sample number on."""
        ...


@dataclass(frozen=True, kw_only=True)
class PackedSteps:
    """Losses are summed and divided once by the targets of the whole step over all ranks.

    So neither pieces nor ranks can change the gradient.
    """

    stream: StepStream
    runtime: Runtime
    micro_tokens: int | None = None
    """Tokens that go through the network at once; None: the whole step. Cannot change the curve."""
    ahead: int = 0
    """Steps that are gathered early."""
    figures: tuple[str, ...] = ()
    """Names of what an outcome sums beside the loss, in its order; none: nobody asks for them."""
    seen: Sequence[Callable[[Mapping[str, Tensor]], None]] = ()
    """Hear what was watched in the forward pass of each piece, in order; tensors are on the device."""

    def passes(self, state: TrainState) -> Generator[Iterator[Batch], None, None]:
        """One pass: the stream itself knows where an epoch ends."""
        state.network.train()
        with Prefetch(self.stream.steps(start=state.counters.since(state.begun).samples), self.ahead) as batches:
            yield self._prepared(state, batches)

    def _prepared(self, state: TrainState, batches: Iterator[Batch]) -> Iterator[Batch]:
        while not state.is_done():
            batch = state.task.prepare(next(batches), state.step_context())
            agree_on_step(self.runtime, state.step, batch)
            yield batch

    def pieces(self, batch: Batch) -> Sequence[Batch]:
        """This rank's share, cut to `micro_tokens`."""
        return self.runtime.pieces(batch, self.micro_tokens)

    def learn(self, state: TrainState, batch: Batch, piece: Batch) -> tuple[Tensor, ...]:
        """Loss, terms and figures of the micro-batch, summed."""
        with self.runtime.autocast():
            outcome = state.module(piece.to(self.runtime.device))
        # Shares of the data average their gradients; times their number that is the sum.
        share = outcome.total * (self.runtime.data_size / batch.num_targets)
        state.scaler.scale(share).backward()
        for told in self.seen:
            told(outcome.watched)
        return (outcome.total.detach(), *outcome.terms.values(), *outcome.figures.values())

    def cut_smaller(self, error: BaseException) -> bool:  # noqa: ARG002
        """False: the run file says how large a piece is."""
        return False

    def set_rate(self, state: TrainState, batch: Batch) -> float:
        """The schedule's rate at this share of the budget."""
        return state.set_rate(batch)

    def finish(self, state: TrainState, batch: Batch, sums: tuple[Tensor, ...], update: StepUpdate) -> StepResult:
        """Count documents, tokens and targets."""
        state.counters.add(batch)
        return StepResult(
            total=sums[0],
            figures=dict(zip(self.figures, sums[1:], strict=False)),
            grad_norm=update.grad_norm,
            is_finite=update.is_finite,
            lr=update.lr,
            num_targets=batch.num_targets,
            num_tokens=batch.num_tokens,
            samples_D=batch.samples_D,
        )
