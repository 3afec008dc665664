"""Layers whose matrices are divided over processes: PyTorch's tensor parallel plans, family by family.

Heads and the feed-forward's inner width are divided; embeddings, norms and the output head are the same everywhere.
"""

import re
from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import Replicate
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    ParallelStyle,
    RowwiseParallel,
    SequenceParallel,
    parallelize_module,
)

from instar.core.errors import UsageError

_BERT = {
    "encoder.layer.*.attention.self.query": "colwise",
    "encoder.layer.*.attention.self.key": "colwise",
    "encoder.layer.*.attention.self.value": "colwise",
    "encoder.layer.*.attention.output.dense": "rowwise",
    "encoder.layer.*.intermediate.dense": "colwise",
    "encoder.layer.*.output.dense": "rowwise",
}
_DISTILBERT = {
    "transformer.layer.*.attention.q_lin": "colwise",
    "transformer.layer.*.attention.k_lin": "colwise",
    "transformer.layer.*.attention.v_lin": "colwise",
    "transformer.layer.*.attention.out_lin": "rowwise",
    "transformer.layer.*.ffn.lin1": "colwise",
    "transformer.layer.*.ffn.lin2": "rowwise",
}
_LLAMA = {
    "layers.*.self_attn.q_proj": "colwise",
    "layers.*.self_attn.k_proj": "colwise",
    "layers.*.self_attn.v_proj": "colwise",
    "layers.*.self_attn.o_proj": "rowwise",
    "layers.*.mlp.gate_proj": "colwise",
    "layers.*.mlp.up_proj": "colwise",
    "layers.*.mlp.down_proj": "rowwise",
}
_QWEN3 = {**_LLAMA, "layers.*.self_attn.q_norm": "heads", "layers.*.self_attn.k_norm": "heads"}
_PLANS: dict[str, dict[str, str]] = {
    **dict.fromkeys(("bert", "roberta", "xlm-roberta", "camembert", "electra"), _BERT),
    "distilbert": _DISTILBERT,
    **dict.fromkeys(("llama", "mistral", "qwen2"), _LLAMA),
    "qwen3": _QWEN3,
}
_THEIRS = {
    "colwise": "colwise",
    "rowwise": "rowwise",
    "colwise_gather_output": "colwise_whole",
    "rowwise_split_input": "rowwise_split",
    "replicated_with_grad_allreduce": "heads",
}
"""What Transformers calls our styles in a model's own plan."""


def split_layers(module: nn.Module, mesh: DeviceMesh) -> None:
    """Divide the layers of the Transformers model inside over the mesh, in place; names of parameters stay.

    Every process computes its heads and its part of the feed-forward; sums are exchanged twice a layer in each
    direction. UsageError names a family that has no plan, and sizes that do not divide.
    """
    model = _model_in(module)
    plan = plan_of(model)
    base = getattr(model, "base_model", model)
    _must_divide(model.config, mesh.size())
    matched = {name: _style(plan[pattern]) for name, pattern in _matches(base, plan).items()}
    if not matched:
        raise UsageError(_no_plan(model))
    parallelize_module(base, mesh, matched)


def plan_of(model: Any) -> Mapping[str, str]:
    """Module pattern -> style, for the family's base model: ours where there is one, else the model's own."""
    family = getattr(model.config, "model_type", None)
    if family in _PLANS:
        return _PLANS[family]
    theirs: Mapping[str, str] = getattr(model.config, "base_model_tp_plan", None) or {}
    unknown = {style for style in theirs.values() if style not in _THEIRS}
    if not theirs or unknown:
        raise UsageError(_no_plan(model, sorted(unknown)))
    return {pattern: _THEIRS[style] for pattern, style in theirs.items()}


def _model_in(module: nn.Module) -> Any:
    for inner in module.modules():
        if hasattr(inner, "config") and hasattr(inner, "base_model"):
            return inner
    raise UsageError(
        "train.parallel.tp: wanted a Transformers model, whose family says how it divides; use fsdp instead"
    )


def _matches(base: nn.Module, plan: Mapping[str, str]) -> dict[str, str]:
    """Name of each module that the plan speaks of -> the pattern that does."""
    patterns = {pattern: re.compile(re.escape(pattern).replace(r"\*", r"\d+")) for pattern in plan}
    return {
        name: pattern
        for name, _ in base.named_modules()
        for pattern, compiled in patterns.items()
        if compiled.fullmatch(name)
    }


def _style(name: str) -> ParallelStyle:
    styles: dict[str, ParallelStyle] = {
        "colwise": ColwiseParallel(),
        "colwise_whole": ColwiseParallel(output_layouts=Replicate()),
        "rowwise": RowwiseParallel(),
        "rowwise_split": RowwiseParallel(input_layouts=Replicate()),
        "heads": SequenceParallel(sequence_dim=2, use_local_output=True),
    }
    return styles[name]


def _must_divide(config: Any, size: int) -> None:
    for name in ("num_attention_heads", "num_key_value_heads", "intermediate_size"):
        value = getattr(config, name, None)
        if value is not None and value % size:
            raise UsageError(f"train.parallel.tp: wanted a divisor of {name} = {value}; got {size}")


def _no_plan(model: Any, unknown: list[str] | None = None) -> str:
    family = getattr(model.config, "model_type", type(model).__name__)
    why = f" (its own plan wants {', '.join(unknown)})" if unknown else ""
    known = ", ".join(sorted(_PLANS))
    return (
        f"train.parallel.tp: there is no plan for the family {family}{why}; wanted one of {known}, "
        "or {kind: fsdp}, which divides every family"
    )
