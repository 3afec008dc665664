"""Adapters: few new weights inside a frozen model, by PEFT, in a folder that PEFT itself loads."""

import json
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from instar.config import Config
from instar.core.errors import ConfigError, DataError, UsageError
from instar.core.files.disk import disk_errors
from instar.core.limits import raise_if_limited
from instar.core.seeds import derive

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
_PREFIX = "base_model.model."
_TASK_TYPES = {"masked_lm": None, "causal_lm": "CAUSAL_LM", "classify": "SEQ_CLS"}
_NAME = re.compile(r"\.default(?=\.|$)")


class Lora(Config):
    """Low-rank updates beside linear layers (Hu et al. 2022)."""

    kind: Literal["lora"] = "lora"
    rank: Annotated[int, Field(ge=1)] = 8
    """Rank of each update."""
    alpha: Annotated[int, Field(ge=1)] = 16
    """Updates are scaled by alpha / rank."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Rate of dropout before each update."""
    target_modules: Annotated[tuple[str, ...], Field(min_length=1)] | Literal["all-linear"] | None = None
    """Ends of the names of modules that get an update, like [query, value]; all-linear; null: PEFT's own choice."""


@dataclass(frozen=True, kw_only=True)
class Injected:
    """The adapter that a model has."""

    config: Any
    """PEFT's."""
    whole_modules: tuple[str, ...]
    """Modules that are trained and saved whole: the new head."""


def inject(model: Any, adapter: Lora, *, base: str, task: str, fresh: Collection[str], seed: int) -> Injected:
    """Put an adapter into a model, in place; from then on only it, and what the base does not have, is trained.

    A classifier's head is trained and saved whole, and so is every module of which tensors are `fresh`. The adapter
    begins without effect; its weights are functions of the seed. ConfigError for modules that the model does not have,
    UsageError where PEFT is not installed.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise UsageError("model.adapter: needs PEFT; run `pip install 'instar[peft]'`") from error
    whole = _whole_modules(model, task, fresh)
    chosen = adapter.target_modules
    config = LoraConfig(
        r=adapter.rank,
        lora_alpha=adapter.alpha,
        lora_dropout=adapter.dropout,
        target_modules=list(chosen) if isinstance(chosen, tuple) else chosen,
        exclude_modules=sorted(name for name, _ in model.named_modules() if _is_in(name, whole)) or None,
        fan_in_fan_out=any(type(module).__name__ == "Conv1D" for module in model.modules()),
        task_type=_TASK_TYPES[task],
        base_model_name_or_path=base,
    )
    leaves = sorted({name.rpartition(".")[2] for name, module in model.named_modules() if _is_linear(module)})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "adapter"))
        try:
            inject_adapter_in_model(config, model)
        except ValueError as error:
            reason = " ".join(str(error).split())[:200]
            raise ConfigError(
                [f"model.adapter.target_modules: {reason}; linear modules are named {', '.join(leaves)}"]
            ) from None
    for name, parameter in model.named_parameters():
        if _is_in(name, whole):
            parameter.requires_grad_(True)
    return Injected(config=config, whole_modules=whole)


def write_adapter(folder: Path, injected: Injected, weights: Mapping[str, Tensor]) -> None:
    """Put the adapter into a folder as PEFT loads it. `weights`: what is trained, by Transformers' names."""
    plain = {f"{_PREFIX}{_NAME.sub('', name)}": value.detach().cpu().contiguous() for name, value in weights.items()}
    settings = {
        name: sorted(value) if isinstance(value, set) else value for name, value in injected.config.to_dict().items()
    }
    settings |= {"inference_mode": True, "modules_to_save": list(injected.whole_modules) or None}
    with disk_errors(folder / WEIGHTS, needed=sum(value.nbytes for value in plain.values())):
        save_file(plain, folder / WEIGHTS, metadata={"format": "pt"})
        (folder / CONFIG).write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")


@torch.no_grad()
def read_adapter(folder: Path, model: nn.Module) -> None:
    """Take a folder's adapter weights; DataError unless they are exactly those of the model's adapter."""
    path = folder / WEIGHTS
    try:
        saved = load_file(path)
    except (OSError, SafetensorError) as error:
        raise_if_limited(error)
        raise DataError(f"{path}: is not a whole safetensors file: {error}") from error
    mine = {
        f"{_PREFIX}{_NAME.sub('', name)}": parameter
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }
    differing = sorted(
        name
        for name in mine.keys() | saved.keys()
        if name not in mine or name not in saved or mine[name].shape != saved[name].shape
    )
    if differing:
        raise DataError(f"{path}: is another adapter than its run file's; differing: {', '.join(differing[:5])}")
    for name, parameter in mine.items():
        parameter.copy_(saved[name])


@contextmanager
def with_effect(model: nn.Module) -> Iterator[None]:
    """Within, the adapter's updates are not zero, so that what runs the model can be compared with its plain way."""
    seconds = [value for name, value in model.named_parameters() if ".lora_B." in name or ".lora_embedding_B." in name]
    kept = [value.detach().clone() for value in seconds]
    draws = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for value in seconds:
            value.copy_(torch.randn(value.shape, generator=draws) * 0.1)
    try:
        yield
    finally:
        with torch.no_grad():
            for value, before in zip(seconds, kept, strict=True):
                value.copy_(before)


def _is_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"


def _is_in(name: str, modules: Collection[str]) -> bool:
    return any(name == module or name.startswith(f"{module}.") for module in modules)


def _whole_modules(model: Any, task: str, fresh: Collection[str]) -> tuple[str, ...]:
    """Modules that the base does not have, and a classifier's head; DataError where one shares a tensor with the base.

    Of the head the outermost modules, as PEFT names them; inside of the body the innermost.
    """
    prefix = f"{model.base_model_prefix}."
    head = [name for name, _ in model.named_parameters() if not name.startswith(prefix)] if task == "classify" else []
    found = {name.rpartition(".")[0] if name.startswith(prefix) else name.partition(".")[0] for name in [*fresh, *head]}
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    for tied in names.values():
        inside = [name for name in tied if _is_in(name, found)]
        if inside and len(inside) < len(tied):
            outside = next(name for name in tied if name not in inside)
            raise DataError(
                f"model.adapter: the head is new and shares {inside[0]} with {outside} of the frozen model; begin from "
                "a model that has the head"
            )
    return tuple(sorted(found))
