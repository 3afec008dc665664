"""A checkpoint, taken up again without its training, and without the data it was trained on."""

from dataclasses import dataclass
from pathlib import Path

from instar.checkpoint import protocol
from instar.data.tokenizer import Tokenizer
from instar.model import Network
from instar.model.speed import use_fast_cpu
from instar.run.build import make_network
from instar.run.config import RunConfig
from instar.run.folder import run_of
from instar.run.labels import Labels
from instar.task import TaskLike
from instar.trainer import Runtime
from instar.trainer.snapshot import take_average


@dataclass(frozen=True, kw_only=True)
class Saved:
    """A checkpoint ready for use."""

    folder: Path
    config: RunConfig
    tokenizer: Tokenizer
    """The one that the network was trained with."""
    labels: Labels
    task: TaskLike
    network: Network
    runtime: Runtime


def take_up(checkpoint: Path) -> Saved:
    """The checkpoint's run, task and network; it is verified before it is believed, and no other file is read.

    Where the run kept a moving average of its weights, the network has the average, as the run's own evaluation had.
    """
    config = run_of(checkpoint)
    protocol.verify(checkpoint)
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
