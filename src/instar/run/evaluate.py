"""`evaluate`: scores of a checkpoint."""

from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from instar.core.errors import UsageError
from instar.data.samples import Samples
from instar.inference.evaluate import Evaluator
from instar.run.config import RunConfig
from instar.run.corpus import cut_corpus
from instar.run.prepare import EVALUATION_TOKENS
from instar.run.saved import take_up
from instar.run.source import source_like


def evaluate(
    checkpoint: Path, *, split: Literal["eval", "test"] = "eval", input_file: Path | None = None
) -> dict[str, Any]:
    """Scores on a split of the run's data, or on another file read in the same way."""

    def reading_input(config: RunConfig) -> RunConfig:
        if input_file is None:
            return config
        source = source_like(config.data.train, input_file, labelled=True)
        return config.model_copy(update={"data": config.data.model_copy(update={split: source})})

    saved = take_up(checkpoint, Console(stderr=True, highlight=False, soft_wrap=True).print, adapt=reading_input)
    splits = cut_corpus(saved.config, saved.corpus, saved.network.max_length)
    samples: Samples | None = splits.evaluation if split == "eval" else splits.test
    if samples is None:
        raise UsageError(
            f"{checkpoint}: its run has no data.{split}; name a file with --input, or train with a {split} split"
        )
    evaluator = Evaluator(
        network=saved.network,
        task=saved.task,
        seed=saved.config.seed,
        device=saved.runtime.device,
        label_names=saved.corpus.label_names,
    )
    scores = evaluator.scores(samples.batches(saved.config.train.micro_tokens or EVALUATION_TOKENS))
    return {"checkpoint": str(checkpoint), "split": split, **scores}
