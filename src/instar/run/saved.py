"""A model, taken up for use without its training, and without the data it was trained on."""

from dataclasses import dataclass
from pathlib import Path

from instar.checkpoint import protocol
from instar.data.source import Source
from instar.data.tokenizer import Tokenizer
from instar.model import Network
from instar.model.speed import use_fast_cpu
from instar.run.build import make_network
from instar.run.config import RunConfig
from instar.run.folder import run_of
from instar.run.labels import Labels
from instar.run.stages import recorded
from instar.task import TaskLike
from instar.trainer import Runtime
from instar.trainer.snapshot import take_average


@dataclass(frozen=True, kw_only=True)
class Ready:
    """A model ready for use, whoever saved it."""

    folder: Path
    tokenizer: Tokenizer
    """The one that the network was trained with."""
    labels: Labels
    task: TaskLike
    network: Network
    runtime: Runtime
    end_ids: frozenset[int] | None = None
    """Tokens that end what it writes; None: the tokenizer's end mark."""

    @property
    def source(self) -> Source | None:
        """What it was trained on, which says how further files are read; None: nobody knows."""
        return None

    @property
    def max_length(self) -> int | None:
        """Tokens of a text, at most; None: no limit."""
        return self.network.max_length


@dataclass(frozen=True, kw_only=True)
class Saved(Ready):
    """A checkpoint of a run, ready for use."""

    config: RunConfig

    @property
    def source(self) -> Source:
        return self.config.data.train

    @property
    def max_length(self) -> int | None:
        lengths = [length for length in (self.config.data.max_length, self.network.max_length) if length is not None]
        return min(lengths, default=None)


def take_up(checkpoint: Path) -> Saved:
    """The checkpoint's run, task and network; it is verified before it is believed, and no other file is read.

    Where the run kept a moving average of its weights, the network has the average, as the run's own evaluation had.
    """
    config = run_of(checkpoint)
    protocol.verify(checkpoint)
    config = config.stage(recorded(checkpoint)["number"])
    runtime = Runtime.start(config.train.device, config.train.precision)
    if runtime.device.type == "cpu":
        use_fast_cpu()
    tokenizer, labels = Tokenizer.load(checkpoint), Labels.read(checkpoint)
    task = config.task.build(tokenizer)
    network = make_network(config, tokenizer, labels, task, checkpoint)
    take_average(network, checkpoint)
    network.to(runtime.device)
    return Saved(
        folder=checkpoint,
        config=config,
        tokenizer=tokenizer,
        labels=labels,
        task=task,
        network=network,
        runtime=runtime,
    )
