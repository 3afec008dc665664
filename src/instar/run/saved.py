"""A checkpoint, taken up again without its training."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from instar.checkpoint import protocol
from instar.data.tokenizer import Tokenizer
from instar.model import Network
from instar.model.speed import use_fast_cpu
from instar.run.build import make_network
from instar.run.config import RunConfig
from instar.run.corpus import Corpus, build_corpus
from instar.run.folder import run_of
from instar.task import TaskLike
from instar.trainer import Runtime


@dataclass(frozen=True, kw_only=True)
class Saved:
    """A checkpoint ready for use."""

    folder: Path
    config: RunConfig
    corpus: Corpus
    task: TaskLike
    network: Network
    runtime: Runtime

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer that the network was trained with."""
        return self.corpus.tokenizer


def take_up(
    checkpoint: Path, tell: Callable[[str], None], *, adapt: Callable[[RunConfig], RunConfig] | None = None
) -> Saved:
    """The checkpoint's run, data, task and network; the checkpoint is verified before it is believed.

    `adapt` changes the run before its data are read, for example to read another file.
    """
    config = run_of(checkpoint)
    protocol.verify(checkpoint)
    if adapt is not None:
        config = adapt(config)
    runtime = Runtime.start(config.train.device, config.train.precision)
    if runtime.device.type == "cpu":
        use_fast_cpu()
    corpus = build_corpus(config, tell, checkpoint)
    task = config.task.build(corpus.tokenizer)
    network = make_network(config, corpus, task, checkpoint)
    network.to(runtime.device)
    return Saved(folder=checkpoint, config=config, corpus=corpus, task=task, network=network, runtime=runtime)
