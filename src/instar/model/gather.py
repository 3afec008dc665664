"""The last layer at read places only: queries, attention output and feed-forward of what nobody reads are left out.

Exact: keys and values still come from every token. Families that are not in the table compute everything.
Shape letters: T tokens, M read places, H width, D width of a head; every tensor has a leading axis of 1.
"""

import sys
from collections.abc import Callable
from functools import cache
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from instar.model.attention import Options, Pack, attend
from instar.model.specialize import Specialized

GatheredLayer = Callable[[Any, Tensor, Pack, dict[str, Any]], Tensor]

MOST_READ = 0.5
"""Share of tokens read up to which gathering is worth its index work."""


def gather_last_layer(model: Any) -> bool:
    """Make the model's last layer obey `pack.read_M` where one is given; False where the family is unknown.

    The layer keeps its weights and their names; copies of the model gather too.
    """
    entry = _FAMILIES.get(model.config.model_type)
    if entry is None:
        return False
    layers_of, gathered = entry
    layer = layers_of(model.base_model)[-1]
    kind: Any = type(layer)
    layer.__class__ = _gathered_class(kind, gathered)
    return True


@cache
def _gathered_class(kind: Any, gathered: GatheredLayer) -> type:
    """The layer's class with a forward that may leave places out."""
    whole = kind.forward

    def forward(self: Any, hidden_states: Tensor, *args: Any, **options: Any) -> Any:
        pack = options.get("pack")
        if pack is None or pack.read_M is None:
            return whole(self, hidden_states, *args, **options)
        return gathered(self, hidden_states, pack, options)

    namespace = {"forward": forward, "plain": kind, "__module__": kind.__module__}
    return type(kind.__name__, (Specialized, kind), namespace)


def _heads(x_TH: Tensor, width: int) -> Tensor:
    heads: Tensor = x_TH.unflatten(-1, (-1, width)).transpose(1, 2)
    return heads


def _options(attention: Any, dropout: float, window: int | None = None) -> Options:
    rate = dropout if attention.training else 0.0
    return Options(scale=attention.scaling, dropout=rate, causal=attention.is_causal, window=window, read=True)


def _bert(layer: Any, hidden_TH: Tensor, pack: Pack, _: dict[str, Any]) -> Tensor:
    attention = layer.attention.self
    width = attention.attention_head_size
    rows_MH = pack.read(hidden_TH)
    q = _heads(attention.query(rows_MH), width)
    k, v = _heads(attention.key(hidden_TH), width), _heads(attention.value(hidden_TH), width)
    seen_MH = attend(q, k, v, pack, _options(attention, attention.dropout.p)).flatten(2)
    states_MH: Tensor = layer.feed_forward_chunk(layer.attention.output(seen_MH, rows_MH))
    return states_MH


def _distilbert(layer: Any, hidden_TH: Tensor, pack: Pack, _: dict[str, Any]) -> Tensor:
    attention = layer.attention
    width = attention.attention_head_size
    rows_MH = pack.read(hidden_TH)
    q = _heads(attention.q_lin(rows_MH), width)
    k, v = _heads(attention.k_lin(hidden_TH), width), _heads(attention.v_lin(hidden_TH), width)
    seen_MH = attend(q, k, v, pack, _options(attention, attention.dropout.p)).flatten(2)
    attended_MH = layer.sa_layer_norm(attention.out_lin(seen_MH) + rows_MH)
    states_MH: Tensor = layer.output_layer_norm(layer.ffn(attended_MH) + attended_MH)
    return states_MH


def _rotated(layer: Any, q: Tensor, k: Tensor, pack: Pack, options: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Both turned by their positions, by the family's own function."""
    homes = (sys.modules[kind.__module__] for kind in type(layer).__mro__)  # sharding puts a class of its own in front
    turn = next(home.apply_rotary_pos_emb for home in homes if hasattr(home, "apply_rotary_pos_emb"))
    cos_TD, sin_TD = options["position_embeddings"]
    q_turned, _ = turn(q, q, pack.read(cos_TD), pack.read(sin_TD))
    k_turned, _ = turn(k, k, cos_TD, sin_TD)
    return q_turned, k_turned


def _modernbert(layer: Any, hidden_TH: Tensor, pack: Pack, options: dict[str, Any]) -> Tensor:
    attention = layer.attn
    rows_MH = pack.read(hidden_TH)
    normed_TH = layer.attn_norm(hidden_TH)
    q, k, v = _projected(attention.Wqkv, normed_TH, pack)
    q, k = _rotated(layer, _heads(q, attention.head_dim), _heads(k, attention.head_dim), pack, options)
    rate = attention.attention_dropout if attention.training else 0.0
    chosen = Options(attention.head_dim**-0.5, rate, causal=False, window=attention.sliding_window, read=True)
    seen_MH = attend(q, k, _heads(v, attention.head_dim), pack, chosen).flatten(2)
    rows_MH = rows_MH + attention.out_drop(attention.Wo(seen_MH))
    states_MH: Tensor = rows_MH + layer.mlp(layer.mlp_norm(rows_MH))
    return states_MH


def _projected(joint: Any, normed_TH: Tensor, pack: Pack) -> tuple[Tensor, Tensor, Tensor]:
    """Queries of what is read, keys and values of everything; a joint projection that is adapted runs whole."""
    if type(joint).__module__.startswith("peft."):
        q, k, v = joint(normed_TH).chunk(3, -1)
        return pack.read(q), k, v
    weight, bias = joint.weight, joint.bias
    size = weight.shape[0] // 3
    biases = (None, None) if bias is None else (bias[:size], bias[size:])
    q = F.linear(pack.read(normed_TH), weight[:size], biases[0])
    k, v = F.linear(normed_TH, weight[size:], biases[1]).chunk(2, -1)
    return q, k, v


def _llama(layer: Any, hidden_TH: Tensor, pack: Pack, options: dict[str, Any]) -> Tensor:
    attention = layer.self_attn
    rows_MH = pack.read(hidden_TH)
    normed_TH = layer.input_layernorm(hidden_TH)
    q = _heads(attention.q_proj(pack.read(normed_TH)), attention.head_dim)
    k, v = (_heads(project(normed_TH), attention.head_dim) for project in (attention.k_proj, attention.v_proj))
    q, k = _rotated(layer, q, k, pack, options)
    window = getattr(attention, "sliding_window", None) or getattr(layer, "sliding_window", None)
    if window is None and layer.self_attn.config.model_type == "mistral":
        window = attention.config.sliding_window
    chosen = _options(attention, attention.attention_dropout, window)
    rows_MH = rows_MH + attention.o_proj(attend(q, k, v, pack, chosen).flatten(2))
    states_MH: Tensor = rows_MH + layer.mlp(layer.post_attention_layernorm(rows_MH))
    return states_MH


def _encoder_layers(base: Any) -> Any:
    return base.encoder.layer


_FAMILIES: dict[str, tuple[Callable[[Any], Any], GatheredLayer]] = {
    "bert": (_encoder_layers, _bert),
    "roberta": (_encoder_layers, _bert),
    "xlm-roberta": (_encoder_layers, _bert),
    "camembert": (_encoder_layers, _bert),
    "electra": (_encoder_layers, _bert),
    "distilbert": (lambda base: base.transformer.layer, _distilbert),
    "modernbert": (lambda base: base.layers, _modernbert),
    "llama": (lambda base: base.layers, _llama),
    "mistral": (lambda base: base.layers, _llama),
    "qwen2": (lambda base: base.layers, _llama),
}
