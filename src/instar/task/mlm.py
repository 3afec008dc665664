"""Predict masked tokens; which are masked is a masking policy's choice.

Shape letters: T tokens, M masked positions.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator

from instar.config import Config
from instar.core.errors import ConfigError, DataError
from instar.data import Batch
from instar.data.tokenizer import Tokenizer
from instar.inference.base import Answer, StepContext
from instar.masking import Masking, Policy, Uniform
from instar.masking.base import Chosen
from instar.masking.draws import documents_of, maskable_index, token_draws
from instar.masking.store_options import spans_of
from instar.model import Head
from instar.objective import Figure
from instar.objective.figures import Mean, correct
from instar.task.answer import MaskedAnswer
from instar.task.answer.tokens import TOKEN_FIGURES
from instar.task.base import FixedTask, TaskConfig

Share = Annotated[float, Field(gt=0, lt=1)]


class RateSchedule(Config):
    """A masking rate that moves with the budget spent."""

    start: Share
    """Rate of the first step."""
    end: Share
    """Rate of the last step."""
    shape: Literal["linear", "cosine"] = "linear"
    """The way between them."""

    def at(self, progress: float) -> float:
        """The rate when `progress` (0 to 1) of the budget is spent."""
        progress = min(1.0, max(0.0, progress))
        done = progress if self.shape == "linear" else 0.5 - 0.5 * math.cos(math.pi * progress)
        return self.start + (self.end - self.start) * done


class MaskedLM(TaskConfig):
    """Predict masked tokens from both sides (Devlin et al. 2019)."""

    head: ClassVar[Head] = "masked_lm"
    does: ClassVar[str] = "fills in tokens"
    masks: ClassVar[bool] = True

    kind: Literal["mlm"] = "mlm"
    rate: Share | RateSchedule = 0.15
    """Share of the tokens to predict; or {start: 0.3, end: 0.15} to move with the budget."""
    masking: Masking = Field(default_factory=Uniform)
    """Policy that chooses the places."""
    mask_share: Annotated[float, Field(ge=0, le=1)] = 0.8
    """Of the chosen places, how many show [MASK]; 1.0: all."""
    random_share: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Of the chosen places, how many show a random token; the rest show the right one."""
    evaluation_rate: Share | None = None
    """Rate in evaluation; the last training rate by default."""

    @model_validator(mode="before")
    @classmethod
    def _only_masks(cls, given: object) -> object:
        if isinstance(given, dict) and given.get("mask_share") == 1 and "random_share" not in given:
            return {**given, "random_share": 0.0}
        return given

    @model_validator(mode="after")
    def _shares_fit(self) -> "MaskedLM":
        if self.mask_share + self.random_share > 1 + 1e-9:
            raise ValueError(
                f"mask_share and random_share must add up to 1 at most; got {self.mask_share} + {self.random_share}"
            )
        return self

    @property
    def masking_rate(self) -> float:
        return self.evaluation_rate or self.rate_at(1.0)

    @property
    def masking_shares(self) -> tuple[float, float]:
        return self.mask_share, self.random_share

    def figures(self, label_kind: str, num_classes: int) -> Mapping[str, Figure]:
        del label_kind, num_classes
        return {**TOKEN_FIGURES, "masked_accuracy": Mean(correct)}

    def score_names(self, label_kind: str) -> tuple[str, ...]:
        del label_kind
        return ("loss", "perplexity", "masked_accuracy")

    def rate_at(self, progress: float) -> float:
        """The training rate when `progress` (0 to 1) of the budget is spent."""
        return self.rate.at(progress) if isinstance(self.rate, RateSchedule) else self.rate

    def build(self, tokenizer: Tokenizer) -> "MaskedLMTask":
        """The task on this vocabulary; ConfigError if the tokenizer has no mask token."""
        if tokenizer.mask_id is None:
            raise ConfigError(["task.kind: mlm needs a tokenizer with a mask token; this one has none"])
        policy = self.masking.build(tokenizer)
        return MaskedLMTask(self, tokenizer.mask_id, tokenizer.vocab_size, tokenizer.special_ids, policy)


class MaskedLMTask(FixedTask):
    """Masks tokens of a batch, by the policy and the shares of its config."""

    head: Head = "masked_lm"
    answer: Answer = MaskedAnswer()

    def __init__(
        self,
        config: MaskedLM,
        mask_id: int,
        vocab_size: int,
        special_ids: Collection[int],
        policy: Policy | None = None,
    ) -> None:
        self.config = config
        self.policy: Policy = policy or (config.masking if isinstance(config.masking, Uniform) else Uniform())
        self.chosen: Chosen | None = None
        """What the newest training step predicts; only of a policy that learns."""
        self.mask_id = mask_id
        self.ordinary_ids = np.setdiff1d(np.arange(vocab_size), np.asarray(sorted(special_ids), dtype=np.int64))

    def prepare(self, batch: Batch, context: StepContext) -> Batch:
        index_M = self._choose(batch, context)
        if len(index_M) == 0 and not context.evaluating:
            raise DataError(
                f"step {context.step}: none of its {batch.num_tokens} tokens may be masked (samples "
                f"{batch.samples_D[:5].tolist()} ...); remove texts of special or unknown tokens only"
            )
        ids_T = batch.ids_T.numpy().copy()
        target_M = ids_T[index_M]
        fate_M = token_draws(batch, index_M, context.key("corrupt"))
        draw_M = token_draws(batch, index_M, context.key("random token"))
        ids_T[index_M[fate_M < self.config.mask_share]] = self.mask_id
        random_M = (fate_M >= self.config.mask_share) & (fate_M < self.config.mask_share + self.config.random_share)
        ids_T[index_M[random_M]] = self.ordinary_ids[(draw_M[random_M] * len(self.ordinary_ids)).astype(np.int64)]
        prepared = replace(
            batch,
            ids_T=torch.from_numpy(ids_T),
            read_M=torch.from_numpy(index_M),
            target_M=torch.from_numpy(target_M),
        )
        if context.evaluating:
            return prepared
        self._note(batch, context, index_M, fate_M)
        weight_M = self._loss_weights(batch, index_M)
        # Where characters lie is asked here only; it need not travel to the device.
        return replace(prepared, weight_M=weight_M, starts_T=None, characters_T=None, lower_T=None)

    def _note(
        self, batch: Batch, context: StepContext, index_M: NDArray[np.int64], fate_M: NDArray[np.float64]
    ) -> None:
        """Remember what is predicted, for a policy that learns from it."""
        write = getattr(self.config.masking, "write", None)
        if write is None:
            return
        shown_M = fate_M < self.config.mask_share
        spans = spans_of(batch)
        self.chosen = Chosen(
            step=context.step,
            document_M=documents_of(batch, index_M),
            ids_M=batch.ids_T.numpy()[index_M],
            # A token that was shown, or another in its place, leaks the answer.
            is_written_M=shown_M if write == "masked" else np.ones_like(shown_M),
            spans=None if spans is None else spans[index_M],
            num_maskable=len(maskable_index(batch)),
        )

    def _loss_weights(self, batch: Batch, index_M: NDArray[np.int64]) -> torch.Tensor | None:
        """Weights of the places, 1 on average; None where all are alike."""
        factor = getattr(self.config.masking, "lower_case_loss", 1.0)
        if factor == 1 or batch.lower_T is None:
            return None
        weight_M = torch.where(batch.lower_T[torch.from_numpy(index_M)], factor, 1.0)
        return weight_M * (len(weight_M) / weight_M.sum()) if weight_M.sum() > 0 else None

    def _choose(self, batch: Batch, context: StepContext) -> NDArray[np.int64]:
        if context.evaluating:
            return Uniform().choose(batch, self.config.masking_rate, context.key("mask"))
        key = context.key("mask")
        index_M = self.policy.choose(batch, self.config.rate_at(context.progress), key, context.step)
        return index_M if len(index_M) else _likeliest(batch, key)


def _likeliest(batch: Batch, key: int) -> NDArray[np.int64]:
    """The place whose draw is the smallest: a step of few tokens trains on one of them rather than on none."""
    index_M = maskable_index(batch)
    return index_M if len(index_M) == 0 else index_M[[np.argmin(token_draws(batch, index_M, key))]]
