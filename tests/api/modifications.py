"""What users do to models before they train them, made for any model: hooks, patches, replaced modules, settings.

A modification takes a model (or one of its modules) and a `pytest.MonkeyPatch`, and gives the model back.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import transformers
from torch import Tensor, nn
from torch.nn.utils import parametrize

SIZES = {"vocab_size": 60, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
ENCODER = SIZES | {"intermediate_size": 32, "max_position_embeddings": 40, "initializer_range": 0.3}
STILL = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
GPT = {"vocab_size": 60, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 40, "initializer_range": 0.3}
QUIET_GPT = GPT | {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0, "bos_token_id": 2, "eos_token_id": 3}
MODELS: dict[str, Callable[[], Any]] = {
    "bert mlm": lambda: transformers.BertForMaskedLM(transformers.BertConfig(**ENCODER, **STILL)),
    "bert classes": lambda: transformers.BertForSequenceClassification(
        transformers.BertConfig(**ENCODER, **STILL, num_labels=3)
    ),
    "gpt2": lambda: transformers.GPT2LMHeadModel(transformers.GPT2Config(**QUIET_GPT)),
    "gpt2 classes": lambda: transformers.GPT2ForSequenceClassification(
        transformers.GPT2Config(**QUIET_GPT, num_labels=3, pad_token_id=0)
    ),
    "llama": lambda: transformers.LlamaForCausalLM(transformers.LlamaConfig(**ENCODER)),
}


def made(name: str) -> Any:
    """A model of that name without dropout, in training mode; the same at each call."""
    torch.manual_seed(0)
    return MODELS[name]().train()


def batch(name: str, seed: int = 0, *, pad_id: int = 0) -> dict[str, Tensor]:
    """Four texts of 9, 3, 12 and 2 tokens with their labels, padded on the right."""
    generator = torch.Generator().manual_seed(seed)
    lengths_D = torch.tensor([9, 3, 12, 2])
    real_DL = torch.arange(12) < lengths_D[:, None]
    ids_DL = torch.randint(5, 60, (4, 12), generator=generator)
    inputs = {"input_ids": torch.where(real_DL, ids_DL, pad_id), "attention_mask": real_DL.long()}
    if name.endswith("classes"):
        return inputs | {"labels": torch.randint(0, 3, (4,), generator=generator)}
    targets_DL = real_DL if "mlm" not in name else real_DL & (torch.rand(4, 12, generator=generator) < 0.5)
    targets_DL[:, 1] = True
    return inputs | {"labels": torch.where(targets_DL, ids_DL, -100)}


# ---- of one module ----


def _changed(output: Any) -> Any:
    """The output, of whatever kind, with its first tensor times 1.5 plus 0.1."""
    if isinstance(output, Tensor):
        return output * 1.5 + 0.1
    if isinstance(output, tuple):
        return (_changed(output[0]), *output[1:])
    for key in ("loss", "last_hidden_state"):
        if getattr(output, key, None) is not None:
            output[key] = _changed(output[key])
            break
    return output


def hook(model: Any, name: str, patch: pytest.MonkeyPatch) -> Any:
    model.get_submodule(name).register_forward_hook(lambda module, args, output: _changed(output))
    return model


def hook_before(model: Any, name: str, patch: pytest.MonkeyPatch) -> Any:
    def change(module: Any, args: Any) -> Any:
        is_state = args and isinstance(args[0], Tensor) and args[0].is_floating_point()
        return (args[0] * 1.5, *args[1:]) if is_state else None

    model.get_submodule(name).register_forward_pre_hook(change)
    return model


def backward_hook(model: Any, name: str, patch: pytest.MonkeyPatch) -> Any:
    def double(module: Any, inputs: Any, outputs: Any) -> Any:
        return tuple(2 * one if one is not None and one.is_floating_point() else one for one in inputs)

    model.get_submodule(name).register_full_backward_hook(double)
    return model


def patched_instance(model: Any, name: str, patch: pytest.MonkeyPatch) -> Any:
    module = model.get_submodule(name)
    stock = module.forward
    module.forward = lambda *args, **kwargs: _changed(stock(*args, **kwargs))
    return model


def patched_class(model: Any, name: str, patch: pytest.MonkeyPatch) -> Any:
    kind = type(model.get_submodule(name))
    stock = kind.forward
    patch.setattr(kind, "forward", lambda self, *args, **kwargs: _changed(stock(self, *args, **kwargs)))
    return model


def subclass(model: Any, name: str, patch: pytest.MonkeyPatch) -> Any:
    module = model.get_submodule(name)
    kind: Any = type(module)
    stock = kind.forward
    module.__class__ = type(
        kind.__name__,
        (kind,),
        {
            "forward": lambda self, *args, **kwargs: _changed(stock(self, *args, **kwargs)),
            "__module__": kind.__module__,
        },
    )
    return model


def only_in_training(model: Any, name: str, patch: pytest.MonkeyPatch) -> Any:
    module = model.get_submodule(name)
    stock = module.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        output = stock(*args, **kwargs)
        return _changed(output) if module.training else output

    module.forward = forward
    return model


def wrapper(model: Any, name: str, patch: pytest.MonkeyPatch) -> Any:
    class Around(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def __getattr__(self, name: str) -> Any:
            try:
                return super().__getattr__(name)
            except AttributeError:
                return getattr(super().__getattr__("inner"), name)

        def forward(self, *args: Any, **kwargs: Any) -> Any:
            return _changed(self.inner(*args, **kwargs))

    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, Around(model.get_submodule(name)))
    return model


class _Stretched(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return weight * 1.5


def parametrised(model: Any, name: str, patch: pytest.MonkeyPatch) -> Any:
    module = model.get_submodule(name)
    if isinstance(getattr(module, "weight", None), nn.Parameter):
        parametrize.register_parametrization(module, "weight", _Stretched())
    return model


def number_changed(model: Any, name: str, patch: pytest.MonkeyPatch) -> Any:
    """Every number that the module holds beside its parameters, but for sizes."""
    module = model.get_submodule(name)
    for key, value in list(vars(module).items()):
        if type(value) is float and value:
            setattr(module, key, value * 1.5 + 0.1)
    return model


OF_A_MODULE = (
    hook,
    hook_before,
    backward_hook,
    patched_instance,
    patched_class,
    subclass,
    only_in_training,
    wrapper,
    parametrised,
    number_changed,
)


def places(model: Any) -> Iterator[str]:
    """The last module of each class in a model, but for containers and dropout."""
    names = {type(module): name for name, module in model.named_modules() if name}
    for kind, name in names.items():
        if kind not in (nn.ModuleList, nn.Dropout, nn.Identity):
            yield name


# ---- of the whole model ----


@dataclass(frozen=True)
class Change:
    """A modification that is made for certain models."""

    models: tuple[str, ...]
    make: Callable[[Any, pytest.MonkeyPatch], Any]


def _loss_function(model: Any, patch: pytest.MonkeyPatch) -> Any:
    model.loss_function = lambda logits, labels, vocab_size=None, **kwargs: logits.float().pow(2).mean()
    return model


def _loss_mapping(model: Any, patch: pytest.MonkeyPatch) -> Any:
    from transformers.loss import loss_utils

    kind = model.loss_type or "ForCausalLM"  # the default
    stock = loss_utils.LOSS_MAPPING[kind]
    patch.setitem(loss_utils.LOSS_MAPPING, kind, lambda *args, **kwargs: 2 * stock(*args, **kwargs))
    return model


def _forward(model: Any, patch: pytest.MonkeyPatch) -> Any:
    stock = model.forward
    model.forward = lambda *args, **kwargs: _changed(stock(*args, **kwargs))
    return model


def _sdpa(model: Any, patch: pytest.MonkeyPatch) -> Any:
    stock = F.scaled_dot_product_attention
    patch.setattr(
        torch.nn.functional,
        "scaled_dot_product_attention",
        lambda query, *args, **kwargs: stock(query * 2, *args, **kwargs),
    )
    return model


def _dropout(model: Any, patch: pytest.MonkeyPatch) -> Any:
    """In training only, which no comparison without dropout shows."""
    patch.setattr(F, "dropout", lambda input, p=0.5, training=True, inplace=False: input * 1.1 if training else input)
    return model


def _attention_registered(model: Any, patch: pytest.MonkeyPatch) -> Any:
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    stock = ALL_ATTENTION_FUNCTIONS["sdpa"]
    patch.setitem(
        ALL_ATTENTION_FUNCTIONS._global_mapping,
        "sdpa",
        lambda module, query, *args, **kwargs: stock(module, query * 2, *args, **kwargs),
    )
    return model


def _eager_patched(model: Any, patch: pytest.MonkeyPatch) -> Any:
    import sys

    home = sys.modules[type(model).__module__]
    stock = home.eager_attention_forward
    patch.setattr(
        home, "eager_attention_forward", lambda module, query, *args, **kw: stock(module, query * 2, *args, **kw)
    )
    model.set_attn_implementation("eager")
    return model


def _rotary_patched(model: Any, patch: pytest.MonkeyPatch) -> Any:
    from transformers.models.llama import modeling_llama

    patch.setattr(modeling_llama, "apply_rotary_pos_emb", lambda q, k, cos, sin, *rest, **kwargs: (q * cos, k * cos))
    return model


def _cross_entropy(model: Any, patch: pytest.MonkeyPatch) -> Any:
    stock = F.cross_entropy
    patch.setattr(
        nn.functional, "cross_entropy", lambda *args, **kwargs: stock(*args, **(kwargs | {"label_smoothing": 0.2}))
    )
    return model


def _tuples(model: Any, patch: pytest.MonkeyPatch) -> Any:
    model.config.return_dict = False
    return model


def _chunks(model: Any, patch: pytest.MonkeyPatch) -> Any:
    config = model.config
    config.chunk_size_feed_forward = 4
    torch.manual_seed(0)
    return type(model)(config).train()


def _chunks_by_hand(model: Any, patch: pytest.MonkeyPatch) -> Any:
    for layer in model.bert.encoder.layer:
        layer.chunk_size_feed_forward = 4
    return model


def _num_labels(model: Any, patch: pytest.MonkeyPatch) -> Any:
    model.classifier = nn.Linear(16, 5)
    model.num_labels = 5
    return model


def _mean_pool(model: Any, patch: pytest.MonkeyPatch) -> Any:
    class Mean(nn.Module):
        def forward(self, hidden_DLH: Tensor) -> Tensor:
            return hidden_DLH.mean(1)

    model.bert.pooler = Mean()
    return model


def _sequential_head(model: Any, patch: pytest.MonkeyPatch) -> Any:
    model.classifier = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 3))
    return model


def _noisy_embedding(model: Any, patch: pytest.MonkeyPatch) -> Any:
    embedding = model.get_input_embeddings()
    stock = embedding.forward
    embedding.forward = lambda ids: stock(ids) + 0.3 * torch.ones(16)
    return model


def _narrow_head(model: Any, patch: pytest.MonkeyPatch) -> Any:
    """A head of attention is removed, as pruning does."""
    attention = model.bert.encoder.layer[0].attention
    for projection in (attention.self.query, attention.self.key, attention.self.value):
        projection.weight = nn.Parameter(projection.weight[:8].detach().clone())
        projection.bias = nn.Parameter(projection.bias[:8].detach().clone())
    attention.output.dense.weight = nn.Parameter(attention.output.dense.weight[:, :8].detach().clone())
    return model


def _registered_for_all(model: Any, patch: pytest.MonkeyPatch) -> Any:
    handle = nn.modules.module.register_module_forward_hook(
        lambda module, args, output: output * 1.1 if type(module) is nn.LayerNorm else None
    )
    patch.setattr(model, "undo", handle.remove, raising=False)
    return model


def _unchanged(model: Any, patch: pytest.MonkeyPatch) -> Any:
    return model


def _resized(model: Any, patch: pytest.MonkeyPatch) -> Any:
    torch.manual_seed(1)
    model.resize_token_embeddings(70, mean_resizing=False)
    return model


def _frozen(model: Any, patch: pytest.MonkeyPatch) -> Any:
    model.base_model.requires_grad_(False)
    return model


def _untied(model: Any, patch: pytest.MonkeyPatch) -> Any:
    output = model.get_output_embeddings()
    output.weight = nn.Parameter(output.weight.detach().clone() * 1.3)
    return model


def _eager(model: Any, patch: pytest.MonkeyPatch) -> Any:
    model.set_attn_implementation("eager")
    return model


_ALL = tuple(MODELS)
OF_A_MODEL = {
    "another loss_function": Change(_ALL, _loss_function),
    "another loss in LOSS_MAPPING": Change(("bert mlm", "gpt2", "llama", "gpt2 classes"), _loss_mapping),
    "another forward": Change(_ALL, _forward),
    "torch's attention patched": Change(_ALL, _sdpa),
    "torch's dropout patched": Change(("bert mlm", "gpt2"), _dropout),
    "Transformers' attention patched": Change(_ALL, _attention_registered),
    "eager attention patched": Change(_ALL, _eager_patched),
    "rotary embedding patched": Change(("llama",), _rotary_patched),
    "torch's cross entropy patched": Change(_ALL, _cross_entropy),
    "outputs as tuples": Change(("bert mlm", "bert classes"), _tuples),
    "feed-forward in chunks": Change(("bert mlm", "bert classes"), _chunks),
    "feed-forward in chunks, set by hand": Change(("bert mlm", "bert classes"), _chunks_by_hand),
    "num_labels set by hand": Change(("bert classes",), _num_labels),
    "mean of the states": Change(("bert classes",), _mean_pool),
    "a head of several layers": Change(("bert classes",), _sequential_head),
    "noise on the embeddings": Change(_ALL, _noisy_embedding),
    "a narrower layer": Change(("bert mlm", "bert classes"), _narrow_head),
    "a hook for all modules": Change(("bert mlm", "gpt2"), _registered_for_all),
    "head not tied": Change(("bert mlm", "gpt2", "llama"), _untied),
}
STILL_FAST = {
    "nothing": Change(_ALL, _unchanged),
    "more tokens": Change(("bert mlm", "gpt2", "llama"), _resized),
    "frozen below the head": Change(("bert classes", "gpt2 classes"), _frozen),
    "eager attention": Change(_ALL, _eager),
}
"""What packed rows stand for all the same."""
