"""A model's own head, taken apart so that it runs on just the places that are read.

Shape letters: M read places, D documents, H width, V vocabulary or labels.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from instar.model.cross_entropy import Scores, linear_cross_entropy

Transform = Callable[[Tensor], Tensor]


class OutputHead(Protocol):
    """From hidden states at the read places to predictions."""

    def logits(self, hidden_MH: Tensor) -> Tensor:
        """What the model says at each place, (M, V)."""
        ...

    def cross_entropy(self, hidden_MH: Tensor, target_M: Tensor, *, with_entropy: bool = False) -> Scores:
        """How well it says the targets, and how sure it is."""
        ...


@dataclass(frozen=True)
class LanguageHead:
    """A transform and an output projection; the cross entropy never makes all logits at once."""

    transform: Transform
    projection: nn.Linear

    def logits(self, hidden_MH: Tensor) -> Tensor:
        logits_MV: Tensor = self.projection(self.transform(hidden_MH))
        return logits_MV

    def cross_entropy(self, hidden_MH: Tensor, target_M: Tensor, *, with_entropy: bool = False) -> Scores:
        bias_V, weight_VH = self.projection.bias, self.projection.weight
        return linear_cross_entropy(self.transform(hidden_MH), weight_VH, bias_V, target_M, with_entropy=with_entropy)


@dataclass(frozen=True)
class PlainHead:
    """Any function from hidden states to logits, made whole."""

    function: Transform

    def logits(self, hidden_MH: Tensor) -> Tensor:
        return self.function(hidden_MH)

    def cross_entropy(self, hidden_MH: Tensor, target_M: Tensor, *, with_entropy: bool = False) -> Scores:
        return dense_cross_entropy(self.function(hidden_MH), target_M, with_entropy=with_entropy)


def dense_cross_entropy(logits_MV: Tensor, target_M: Tensor, *, with_entropy: bool = False) -> Scores:
    """Scores of logits that exist already."""
    nll_M = F.cross_entropy(logits_MV.float(), target_M, reduction="none")
    known_MV = logits_MV.detach()
    entropy_M = torch.special.entr(known_MV.float().softmax(1)).sum(1) if with_entropy else None
    return Scores(nll_M, known_MV.argmax(1) == target_M, entropy_M)


def _identity(hidden_MH: Tensor) -> Tensor:
    return hidden_MH


def _roberta(model: Any) -> Transform:
    head = model.lm_head
    return lambda hidden_MH: head.layer_norm(F.gelu(head.dense(hidden_MH)))


def _distilbert(model: Any) -> Transform:
    return lambda hidden_MH: model.vocab_layer_norm(model.activation(model.vocab_transform(hidden_MH)))


def _albert(model: Any) -> Transform:
    head = model.predictions
    return lambda hidden_MH: head.LayerNorm(head.activation(head.dense(hidden_MH)))


def _bert(model: Any) -> Transform:
    transform: Transform = model.cls.predictions.transform
    return transform


def _electra(model: Any) -> Transform:
    transform: Transform = model.generator_predictions
    return transform


def _modernbert(model: Any) -> Transform:
    transform: Transform = model.head
    return transform


_MASKED_TRANSFORMS: dict[str, Callable[[Any], Transform]] = {
    "bert": _bert,
    "roberta": _roberta,
    "xlm-roberta": _roberta,
    "camembert": _roberta,
    "distilbert": _distilbert,
    "albert": _albert,
    "electra": _electra,
    "modernbert": _modernbert,
}
_PLAIN_DECODERS = frozenset(
    "gpt2 llama mistral qwen2 qwen3 smollm3 olmo olmo2 starcoder2 phi phi3 gpt_neox gemma stablelm".split()  # noqa: SIM905
)


def language_head(model: Any) -> LanguageHead | None:
    """The model's LM head in two parts, or None where the family is unknown."""
    family = model.config.model_type
    projection = model.get_output_embeddings()
    if not isinstance(projection, nn.Linear):
        return None
    if family in _PLAIN_DECODERS:
        return LanguageHead(_identity, projection)
    if family in _MASKED_TRANSFORMS:
        return LanguageHead(_MASKED_TRANSFORMS[family](model), projection)
    return None


def _classify_bert(model: Any) -> Transform:
    return lambda pooled_DH: model.classifier(model.dropout(model.bert.pooler(pooled_DH[:, None])))


def _classify_first(model: Any) -> Transform:
    return lambda pooled_DH: model.classifier(pooled_DH[:, None])


def _classify_distilbert(model: Any) -> Transform:
    return lambda pooled_DH: model.classifier(model.dropout(torch.relu(model.pre_classifier(pooled_DH))))


def _classify_modernbert(model: Any) -> Transform:
    return lambda pooled_DH: model.classifier(model.drop(model.head(pooled_DH)))


def _classify_albert(model: Any) -> Transform:
    base = model.albert
    return lambda pooled_DH: model.classifier(model.dropout(base.pooler_activation(base.pooler(pooled_DH))))


_CLASSIFIERS: dict[str, Callable[[Any], Transform]] = {
    "bert": _classify_bert,
    "roberta": _classify_first,
    "xlm-roberta": _classify_first,
    "camembert": _classify_first,
    "electra": _classify_first,
    "distilbert": _classify_distilbert,
    "modernbert": _classify_modernbert,
    "albert": _classify_albert,
}


def classifier_head(model: Any) -> PlainHead | None:
    """The model's classification head from one vector a document on, or None where the family is unknown."""
    family = model.config.model_type
    if family in _CLASSIFIERS:
        return PlainHead(_CLASSIFIERS[family](model))
    score = getattr(model, "score", None)
    return PlainHead(score) if isinstance(score, nn.Linear) else None


def default_pooling(model: Any) -> str:
    """Which vector the family's own classifier reads: "first", "mean" or "last" (of the real tokens)."""
    if model.config.model_type in _CLASSIFIERS:
        return "mean" if getattr(model.config, "classifier_pooling", "cls") == "mean" else "first"
    return "last"
