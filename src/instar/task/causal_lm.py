"""Predict the next token.

Shape letters: T tokens, M places that have a next token.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
import torch

from instar.core.errors import DataError
from instar.data import Batch
from instar.data.tokenizer import Tokenizer
from instar.inference.base import Answer, StepContext
from instar.model import Head
from instar.objective import Figure
from instar.task.answer import NextTokenAnswer
from instar.task.answer.tokens import TOKEN_FIGURES
from instar.task.base import FixedTask, TaskConfig


class CausalLM(TaskConfig):
    """Predict each token of a document from those before it (Radford et al. 2018).

    Where the source has a `completion` column, only the tokens of completions, and the end token, are predicted.
    """

    head: ClassVar[Head] = "causal_lm"
    does: ClassVar[str] = "writes text"
    reads_forward: ClassVar[bool] = True
    learns_completions: ClassVar[bool] = True

    kind: Literal["causal_lm"] = "causal_lm"

    def figures(self, label_kind: str, num_classes: int) -> Mapping[str, Figure]:
        del label_kind, num_classes
        return TOKEN_FIGURES

    def score_names(self, label_kind: str) -> tuple[str, ...]:
        del label_kind
        return ("loss", "perplexity", "accuracy", "bits_per_character")

    def build(self, tokenizer: Tokenizer) -> "CausalLMTask":
        """The task; any tokenizer will do."""
        del tokenizer
        return CausalLMTask()


class CausalLMTask(FixedTask):
    """Reads every token but the last of a document; the target is the one after it, unless it was given."""

    head: Head = "causal_lm"
    answer: Answer = NextTokenAnswer()

    def prepare(self, batch: Batch, context: StepContext) -> Batch:
        has_next_T = np.ones(batch.num_tokens, dtype=np.bool_)
        has_next_T[np.asarray(batch.boundaries[1:]) - 1] = False
        if batch.prompts_D is not None:
            given_T = np.repeat(batch.prompts_D.numpy(), batch.lengths)
            has_next_T &= batch.positions_T().cpu().numpy() + 1 >= given_T
        read_M = np.flatnonzero(has_next_T)
        if len(read_M) == 0 and not context.evaluating:
            raise DataError(
                f"step {context.step}: its {len(batch)} documents have one token each or are prompts alone, so there "
                "is no next token to predict; give longer texts"
            )
        places_M = torch.from_numpy(read_M)
        return replace(batch, read_M=places_M, target_M=batch.ids_T[places_M + 1])
