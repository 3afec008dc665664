"""The further arguments of a trainer that generates when it evaluates."""

from dataclasses import dataclass

from transformers import training_args_seq2seq

from instar.api.arguments.flat import TrainingArguments


@dataclass(repr=False)
class Seq2SeqTrainingArguments(TrainingArguments, training_args_seq2seq.Seq2SeqTrainingArguments):
    """TrainingArguments, and how `Seq2SeqTrainer` generates when it evaluates."""
