"""Predict a document's label: one class, a set of labels, or a number.

Shape letters: D documents, C classes.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar, Literal

import torch
from pydantic import field_validator

from instar.core.errors import DataError
from instar.data import Batch
from instar.data.tokenizer import Tokenizer
from instar.inference.base import Answer, StepContext
from instar.metric import MultiLabelCounts, f1, f1_macro, matthews
from instar.model import Head, Pooling
from instar.objective import Figure
from instar.objective.figures import Mean, OfConfusion, OfSets, Pearson, absolute_error, correct, entropy, p_true
from instar.task.answer import LabelAnswer
from instar.task.base import FixedTask, TaskConfig

_SCORES = {
    "class": ("loss", "accuracy", "f1", "f1_macro", "matthews"),
    "many": ("loss", "accuracy", "f1", "f1_micro"),
    "multi_hot": ("loss", "accuracy", "f1", "f1_micro"),
    "number": ("loss", "mean_absolute_error", "pearson", "spearman"),
}
"""By the kind of the labels."""


class Classify(TaskConfig):
    """Predict the label of each document."""

    head: ClassVar[Head] = "classify"
    does: ClassVar[str] = "classifies"
    learns_labels: ClassVar[bool] = True

    kind: Literal["classify"] = "classify"
    labels: tuple[str, ...] | None = None
    """Names of the classes in order; by default those of the training data, sorted."""
    pooling: Pooling | None = None
    """What the head reads: the first token, the mean of all, or the last real token; by family if not given."""

    @field_validator("labels")
    @classmethod
    def _labels_differ(cls, labels: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if labels is not None and len(set(labels)) < max(2, len(labels)):
            raise ValueError(f"name at least two labels, each once; got {list(labels)}")
        return labels

    def num_outputs(self, of_labels: int | None) -> int | None:
        return of_labels

    @property
    def class_names(self) -> tuple[str, ...] | None:
        return self.labels

    @property
    def head_pooling(self) -> Pooling | None:
        return self.pooling

    def figures(self, label_kind: str, num_classes: int) -> Mapping[str, Figure]:
        if label_kind == "number":
            return {"mean_absolute_error": Mean(absolute_error), "pearson": Pearson()}
        if label_kind != "class":
            of_sets = {"f1": lambda counts: float(counts.f1_C().mean()), "f1_micro": MultiLabelCounts.f1_micro}
            return {"accuracy": Mean(correct)} | {name: OfSets(of, num_classes) for name, of in of_sets.items()}
        of_counts = {"f1": f1, "f1_macro": f1_macro, "matthews": matthews}
        return {
            "accuracy": Mean(correct),
            "p_true": Mean(p_true),
            "entropy": Mean(entropy, wants_entropy=True),
            **{name: OfConfusion(score, num_classes) for name, score in of_counts.items()},
        }

    def score_names(self, label_kind: str) -> tuple[str, ...]:
        return _SCORES[label_kind]

    def build(self, tokenizer: Tokenizer) -> "ClassifyTask":
        """The task; any tokenizer will do."""
        del tokenizer
        return ClassifyTask()


class ClassifyTask(FixedTask):
    """One target a document; the head reads where the network's pooling says."""

    head: Head = "classify"
    answer: Answer = LabelAnswer()

    def prepare(self, batch: Batch, context: StepContext) -> Batch:
        if batch.labels_D is None:
            raise DataError(f"step {context.step}: these documents have no labels; name the label column of the source")
        # The network reads where its pooling says; the first token only ties a target to its document.
        first_D = torch.tensor(batch.boundaries[:-1], dtype=torch.int64)
        return replace(batch, read_M=first_D, target_M=batch.labels_D)
