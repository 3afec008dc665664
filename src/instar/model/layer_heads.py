"""Heads beside a model's own: a classifier or a language head at any layer, saved next to the model.

Shape letters: M read positions, D documents, H width, V vocabulary or labels.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from instar.core.errors import ConfigError, DataError
from instar.core.files.disk import disk_errors
from instar.core.limits import raise_if_limited
from instar.core.seeds import derive
from instar.model.classes import Head, Pooling
from instar.model.dropout import swap_dropout
from instar.model.heads import LanguageHead, OutputHead, PlainHead

WEIGHTS = "heads.safetensors"
SPECS = "heads.json"
PREFIX = "heads."
"""What a network's names of these parameters begin with."""

_FORMAT = 1


class HeadKey(NamedTuple):
    """What a head predicts, and from which layer's hidden states."""

    task: Head
    layer: int
    """0: the embeddings; 1: the first layer; -1: the last."""


@dataclass(frozen=True, kw_only=True)
class HeadSpec:
    """A head to be made."""

    task: Head
    layer: int
    num_outputs: int | None = None
    """Labels of a classifier; None for a language head, which projects as the model's own head does."""
    pooling: Pooling | None = None
    """What a classifier reads of each document; None for a language head."""

    @property
    def key(self) -> HeadKey:
        """Under which a network holds it."""
        return HeadKey(self.task, self.layer)

    @property
    def name(self) -> str:
        """Of its module: the names of its parameters begin with heads.NAME."""
        return f"{self.task}_{self.layer if self.layer >= 0 else 'last'}"

    def faults(self, num_layers: int, *, has_projection: bool) -> list[str]:
        """What is wrong with it, for a model of so many layers."""
        found = []
        if not -1 <= self.layer < num_layers:
            found.append(f"head {self.name}: layer: wanted 0 to {num_layers - 1}, or -1 for the last; got {self.layer}")
        if (self.task == "classify") != bool(self.num_outputs and self.pooling):
            wanted = "num_outputs and pooling" if self.task == "classify" else "neither num_outputs nor pooling"
            found.append(f"head {self.name}: wanted {wanted}; got {self.num_outputs} and {self.pooling}")
        if self.task != "classify" and not has_projection:
            found.append(f"head {self.name}: a language head shares its projection with the model's own; there is none")
        return found


class ClassifierModule(nn.Module):
    """A dense layer with tanh, dropout, and a projection (the exits of Xin et al. 2020)."""

    def __init__(self, width: int, num_outputs: int, dropout: float) -> None:
        super().__init__()
        self.dense = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(width, num_outputs)

    def forward(self, pooled_DH: Tensor) -> Tensor:
        logits_DV: Tensor = self.classifier(self.dropout(torch.tanh(self.dense(pooled_DH))))
        return logits_DV


class LanguageModule(nn.Module):
    """A dense layer with GELU and a norm, before the projection that the model's own head has."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, hidden_MH: Tensor) -> Tensor:
        transformed_MH: Tensor = self.norm(F.gelu(self.dense(hidden_MH)))
        return transformed_MH


def make_module(spec: HeadSpec, model: Any, seed: int) -> nn.Module:
    """The head's own parameters, each a function of the seed and its name."""
    width = int(model.config.hidden_size)
    if spec.task == "classify":
        made: nn.Module = ClassifierModule(width, spec.num_outputs or 0, _dropout_of(model.config))
    else:
        made = LanguageModule(width)
    std = float(getattr(model.config, "initializer_range", 0.02))
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if parameter.ndim == 2:
                draws = torch.Generator().manual_seed(derive(seed, "init", f"{PREFIX}{spec.name}.{name}"))
                parameter.copy_(torch.empty(parameter.shape).normal_(0.0, std, generator=draws))
            else:
                parameter.fill_(1.0 if name == "norm.weight" else 0.0)
    swap_dropout(made)
    return made


def _dropout_of(config: Any) -> float:
    for name in ("classifier_dropout", "hidden_dropout_prob", "dropout", "resid_pdrop"):
        rate = getattr(config, name, None)
        if isinstance(rate, float):
            return rate
    return 0.0


def output_head(module: nn.Module, projection: nn.Linear | None) -> OutputHead:
    """From hidden states to predictions, by a head's parameters and, for a language head, the model's projection."""
    if isinstance(module, LanguageModule) and projection is not None:
        return LanguageHead(module, projection)
    return PlainHead(module)


def check_specs(specs: Sequence[HeadSpec], num_layers: int, *, has_projection: bool) -> None:
    """ConfigError with all that is wrong with a network's further heads."""
    faults = [fault for spec in specs for fault in spec.faults(num_layers, has_projection=has_projection)]
    for task in dict.fromkeys(spec.task for spec in specs):
        mine = [spec for spec in specs if spec.task == task]
        layers = [spec.layer for spec in mine]
        if len(set(layers)) < len(layers):
            faults.append(f"heads of {task}: wanted one at a layer; got layers {layers}")
        if len({spec.pooling for spec in mine}) > 1:
            faults.append(f"heads of {task}: wanted one pooling, since they share a forward pass")
    if faults:
        raise ConfigError(faults)


def write_heads(folder: Path, specs: Iterable[HeadSpec], weights: Mapping[str, Tensor]) -> None:
    """Put the further heads beside a saved model; DiskError where the disk does not take them."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    with disk_errors(folder / WEIGHTS, needed=sum(tensor.nbytes for tensor in plain.values())):
        save_file(plain, folder / WEIGHTS, metadata={"format": "pt"})
        text = json.dumps({"format": _FORMAT, "heads": [asdict(spec) for spec in specs]}, indent=1)
        (folder / SPECS).write_text(text + "\n", encoding="ascii")


def read_specs(folder: Path) -> tuple[HeadSpec, ...]:
    """The further heads of a saved model; none where it has none. DataError for a damaged file."""
    path = folder / SPECS
    if not path.is_file():
        return ()
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values["format"] != _FORMAT:
            raise ValueError(f"its format is {values['format']!r}, and this version reads {_FORMAT}")
        return tuple(_spec(value) for value in values["heads"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{path}: wanted the heads beside the model's own; {error!r}") from None


def _spec(value: Mapping[str, Any]) -> HeadSpec:
    spec = HeadSpec(**value)
    known = {"masked_lm", "causal_lm", "classify"}, {"first", "mean", "last", None}
    if spec.task not in known[0] or spec.pooling not in known[1] or not isinstance(spec.layer, int):
        raise ValueError(f"there is no head like {dict(value)}")
    return spec


def read_weights(folder: Path) -> dict[str, Tensor]:
    """The further heads' tensors, in memory of their own; DataError for a missing or damaged file."""
    try:
        return {name: tensor.clone() for name, tensor in load_file(folder / WEIGHTS).items()}
    except (OSError, SafetensorError) as error:
        raise_if_limited(error)
        raise DataError(f"{folder / WEIGHTS}: is not a whole safetensors file: {error}") from error
