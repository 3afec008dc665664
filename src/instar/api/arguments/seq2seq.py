"""The further arguments of a trainer that generates when it evaluates."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from instar.api.arguments.flat import TrainingArguments
from instar.api.arguments.option import option


@dataclass(repr=False)
class Seq2SeqTrainingArguments(TrainingArguments):
    """TrainingArguments, and how `Seq2SeqTrainer` generates when it evaluates."""

    sortish_sampler: bool = option(False, "sort samples roughly by length, so that batches need little padding")
    predict_with_generate: bool = option(False, "give metrics what the model generates, not its scores")
    generation_max_length: int | None = option(None, "tokens generated at most; unset: as the model is configured")
    generation_num_beams: int | None = option(None, "beams of the search; unset: as the model is configured")
    generation_config: str | Path | Any | None = option(
        None, "how to generate: a GenerationConfig, or the name or folder of one"
    )
