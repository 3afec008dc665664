"""Predict a document's label: one class, a set of labels, or a number.

Shape letters: D documents, C classes.
"""

from dataclasses import replace
from typing import Literal

import torch
from pydantic import field_validator

from instar.config import Config
from instar.core.errors import DataError
from instar.data import Batch
from instar.data.tokenizer import Tokenizer
from instar.task.base import Answer, FixedTask, HeadName, Moment


class Classify(Config):
    """Predict the label of each document."""

    kind: Literal["classify"] = "classify"
    labels: tuple[str, ...] | None = None
    """Names of the classes in order; by default those of the training data, sorted."""
    pooling: Literal["first", "mean", "last"] | None = None
    """What the head reads: the first token, the mean of all, or the last real token; by family if not given."""

    @field_validator("labels")
    @classmethod
    def _labels_differ(cls, labels: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if labels is not None and len(set(labels)) < max(2, len(labels)):
            raise ValueError(f"name at least two labels, each once; got {list(labels)}")
        return labels

    def build(self, tokenizer: Tokenizer) -> "ClassifyTask":
        """The task; any tokenizer will do."""
        del tokenizer
        return ClassifyTask()


class ClassifyTask(FixedTask):
    """One target a document; the head reads where the network's pooling says."""

    head: HeadName = "classify"
    answer: Answer = "label"

    def prepare(self, batch: Batch, moment: Moment) -> Batch:
        if batch.labels_D is None:
            raise DataError(f"step {moment.step}: these documents have no labels; name the label column of the source")
        # The network reads where its pooling says; the first token only ties a target to its document.
        first_D = torch.tensor(batch.boundaries[:-1], dtype=torch.int64)
        return replace(batch, read_M=first_D, target_M=batch.labels_D)
