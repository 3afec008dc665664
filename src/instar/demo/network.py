"""Networks of the demo, before and after their training, with the data they are scored on."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from instar.config.load import load
from instar.core.rundir import RunFolder
from instar.data.cache import TokenCache
from instar.data.samples import Samples
from instar.demo.child import Stage
from instar.inference.evaluate import Evaluator
from instar.inference.preview import Preview
from instar.run.build import make_network
from instar.run.config import RunConfig
from instar.run.corpus import Corpus, Splits, build_corpus, cut_corpus
from instar.run.prepare import EVALUATION_TOKENS, PREVIEW_ROWS
from instar.run.saved import Saved
from instar.trainer import Runtime
from instar.trainer.snapshot import take_average


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A network and the held-out data of its run."""

    saved: Saved
    corpus: Corpus
    splits: Splits

    @property
    def held_out(self) -> Samples:
        """The samples that training never sees."""
        if self.splits.evaluation is None:
            raise ValueError("every recipe of the demo holds data out")
        return self.splits.evaluation

    def trained(self, stage: Stage) -> "Subject":
        """The same with the weights of the newest checkpoint of the stage: their average, where the run keeps one."""
        path = RunFolder(stage.folder).checkpoints()[-1][1]
        saved = self.saved
        network = make_network(saved.config, saved.tokenizer, saved.labels, saved.task, path)
        take_average(network, path)
        return replace(self, saved=replace(saved, folder=path, network=network))

    def scores(self) -> dict[str, Any]:
        """Scores on the held-out data, as training reports them."""
        saved = self.saved
        evaluator = Evaluator(
            network=saved.network,
            task=saved.task,
            seed=saved.config.seed,
            device=saved.runtime.device,
            label_names=saved.labels.names,
        )
        return evaluator.scores(self.held_out.batches(EVALUATION_TOKENS))

    def rows(self) -> list[dict[str, Any]]:
        """Predictions for the first held-out samples; the same samples and masks before and after."""
        saved = self.saved
        preview = Preview(
            network=saved.network,
            task=saved.task,
            tokenizer=saved.tokenizer,
            seed=saved.config.seed,
            label_names=saved.labels.names,
        )
        first = np.arange(min(PREVIEW_ROWS, len(self.held_out)))
        return list(preview.rows(self.held_out.gather(first, np.zeros_like(first))))


def untrained(stage: Stage) -> Subject:
    """The very network that the stage's training begins with: its weights are a function of the run's seed."""
    config = load(stage.recipe, RunConfig, stage.overrides).value
    runtime = Runtime.start("cpu")
    corpus = build_corpus(config, _silent)
    task = config.task.build(corpus.tokenizer)
    network = make_network(config, corpus.tokenizer, corpus.labels, task)
    saved = Saved(
        folder=Path(stage.folder),
        config=config,
        tokenizer=corpus.tokenizer,
        labels=corpus.labels,
        task=task,
        network=network,
        runtime=runtime,
    )
    return Subject(saved=saved, corpus=corpus, splits=cut_corpus(config, corpus, network))


def texts_of(samples: Samples, cache: TokenCache, documents: list[str]) -> list[str]:
    """The characters of each held-out window, cut from the documents they stand in."""
    document_S, first_S, end_S = samples.segments.bounds(np.arange(len(samples.segments)))
    found = []
    for document, first, end in zip(document_S.tolist(), first_S.tolist(), end_S.tolist(), strict=True):
        ends = cache.ends[int(cache.offsets[document]) : int(cache.offsets[document + 1])]
        begin = int(ends[first - 1]) if first else 0
        found.append(documents[document][begin : int(ends[end - 1])])
    return found


def _silent(message: str) -> None:
    del message
