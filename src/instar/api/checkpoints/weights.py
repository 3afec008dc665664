"""The weights of a model in a checkpoint: of Transformers, of PEFT, or of any module."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from instar.api.checkpoints import names
from instar.api.checkpoints.plain import memory_of, read_values
from instar.core.errors import CheckpointError
from instar.core.files.disk import disk_errors
from instar.core.files.json_files import read_json
from instar.core.limits import raise_if_limited
from instar.trainer.parallel.parts import is_divided, load_whole, local, settle

_log = logging.getLogger(__name__)


class LoadResult(NamedTuple):
    """Names that the model has and the checkpoint does not, and the other way round."""

    missing_keys: list[str]
    unexpected_keys: list[str]


def unwrapped(model: nn.Module) -> nn.Module:
    """The module itself, out of DDP, DataParallel and torch.compile."""
    while True:
        inner = model._modules.get("_orig_mod")
        if inner is None and type(model).__name__ in ("DistributedDataParallel", "DataParallel"):
            inner = model._modules.get("module")
        if inner is None:
            return model
        model = inner


def is_pretrained(model: nn.Module) -> bool:
    """True for a model of Transformers or PEFT, which saves itself."""
    return _is_of(model, "transformers", "PreTrainedModel") or is_adapted(model)


def is_adapted(model: nn.Module) -> bool:
    """True for a model of PEFT, of which the adapters alone are saved."""
    return _is_of(model, "peft", "PeftModel") or _is_of(model, "peft", "PeftMixedModel")


def _is_of(model: nn.Module, package: str, name: str) -> bool:
    return any(cls.__name__ == name and cls.__module__.split(".")[0] == package for cls in type(model).__mro__)


def save_weights(model: nn.Module, folder: Path, state_dict: Mapping[str, Tensor] | None = None) -> None:
    """The model's weights in `folder`, or those of `state_dict`; tensors that are one are stored once."""
    model = unwrapped(model)
    if is_pretrained(model):
        with disk_errors(folder), _no_bar():
            model.save_pretrained(folder, state_dict=state_dict)  # type: ignore[operator]
        return
    stored = distinct(model.state_dict() if state_dict is None else state_dict)
    with disk_errors(folder / names.WEIGHTS, needed=sum(tensor.nbytes for tensor in stored.values())):
        save_file(stored, folder / names.WEIGHTS, metadata={"format": "pt"})


@contextmanager
def _no_bar() -> Iterator[None]:
    """A checkpoint is no occasion for a second progress bar."""
    from transformers.utils import logging as noise

    was_on = noise.is_progress_bar_enabled()
    noise.disable_progress_bar()
    try:
        yield
    finally:
        if was_on:
            noise.enable_progress_bar()


def distinct(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Each tensor once, under its first name, in memory of its own: a model that ties names reads one for them all."""
    stored: dict[str, Tensor] = {}
    first: dict[tuple[Any, ...], str] = {}
    storages: set[int] = set()
    for name, tensor in state_dict.items():
        if not isinstance(tensor, Tensor):
            raise CheckpointError(f"{name}: is a {type(tensor).__name__}, and only tensors can be saved as weights")
        if first.setdefault(memory_of(tensor), name) != name:
            continue
        value = tensor.detach().contiguous()
        if value.untyped_storage().data_ptr() in storages:
            value = value.clone()
        storages.add(value.untyped_storage().data_ptr())
        stored[name] = value
    return stored


def load_weights(model: nn.Module, folder: Path) -> LoadResult:
    """Give a model the weights of a checkpoint; what either has more of is named, tied tensors are no lack.

    ValueError where the folder holds no weights, CheckpointError where they are damaged.
    """
    model = unwrapped(model)
    files = weight_files(folder)
    if files[0].name in (names.ADAPTER, names.OLD_ADAPTER) or files[0].parent != folder:
        _load_adapters(model, folder, files)
        return LoadResult([], [])
    found: set[str] = set()
    unexpected: list[str] = []
    for file in files:
        tensors = _read(file)
        found |= tensors.keys()
        unexpected += _take(model, tensors)
    return LoadResult(_missing(model, found), unexpected)


def _take(model: nn.Module, tensors: Mapping[str, Tensor]) -> list[str]:
    """Give the model these tensors, each process its part; names that it does not have."""
    if not any(is_divided(parameter) for parameter in model.parameters()):
        return list(model.load_state_dict(tensors, False).unexpected_keys)
    own = model.state_dict(keep_vars=True)
    settle(model)
    load_whole(model, {name: tensor for name, tensor in tensors.items() if name in own})
    return [name for name in tensors if name not in own]


def weight_files(folder: Path) -> list[Path]:
    """The files that hold a checkpoint's weights; ValueError where there are none, or a part is not there."""
    for name in (names.WEIGHTS, names.OLD_WEIGHTS):
        if (folder / name).is_file():
            return [folder / name]
    for name in (names.WEIGHTS_INDEX, names.OLD_WEIGHTS_INDEX):
        if (folder / name).is_file():
            return _parts(folder / name)
    adapters = [folder / name for name in (names.ADAPTER, names.OLD_ADAPTER)]
    inner = [place for name in (names.ADAPTER, names.OLD_ADAPTER) for place in sorted(folder.glob(f"*/{name}"))]
    found = [path for path in [*adapters, *inner] if path.is_file()]
    if not found:
        raise ValueError(f"{folder}: holds no {names.WEIGHTS}, no {names.WEIGHTS_INDEX} and no {names.ADAPTER}")
    return found


def _parts(index: Path) -> list[Path]:
    try:
        listed = read_json(index)["weight_map"]
        parts = sorted({str(name) for name in listed.values()})
    except (CheckpointError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{index}: is no index of weights: {error}") from error
    for name in parts:
        if Path(name).name != name or not (index.parent / name).is_file():
            raise ValueError(f"{index}: names {name!r}, which is not there")
    if not parts:
        raise ValueError(f"{index}: names no file")
    return [index.parent / name for name in parts]


def check_header(file: Path) -> None:
    """CheckpointError unless a safetensors file is of the size that its header wants."""
    try:
        with safe_open(file, framework="pt"):
            pass
    except (OSError, SafetensorError) as error:
        raise_if_limited(error)
        raise CheckpointError(f"{file}: is not a whole safetensors file: {error}") from error


def _read(file: Path) -> dict[str, Tensor]:
    if file.suffix != ".safetensors":
        values: dict[str, Tensor] = read_values(file)
        return values
    check_header(file)
    tensors: dict[str, Tensor] = load_file(file)
    return tensors


def _missing(model: nn.Module, found: Iterable[str]) -> list[str]:
    """Names whose memory no name of `found` fills; what is not saved on purpose is not missed."""
    whole = model.state_dict(keep_vars=True)
    filled = {memory_of(whole[name]) for name in found if isinstance(whole.get(name), Tensor)}
    left_out = set(getattr(model, "_keys_to_ignore_on_save", None) or ())
    return [
        name
        for name, tensor in whole.items()
        if isinstance(tensor, Tensor) and memory_of(tensor) not in filled and name not in left_out
    ]


def _load_adapters(model: nn.Module, folder: Path, files: list[Path]) -> None:
    """The adapters of a checkpoint into those of the model; the active one goes on training."""
    if not is_adapted(model):
        raise ValueError(
            f"{folder}: holds adapters, and the model has none; build it with peft.get_peft_model before you resume"
        )
    active = model.active_adapters[0]  # type: ignore[index]
    beside = {file.parent.name: file.parent for file in files if file.parent != folder}
    if any(file.parent == folder for file in files):
        main = "default" if beside else active
        model.load_adapter(str(folder), main, is_trainable=main == active)  # type: ignore[operator]
    for name, place in beside.items():
        model.load_adapter(str(place), name, is_trainable=name == active)  # type: ignore[operator]
    if beside:
        model.set_adapter(active)  # type: ignore[operator]


@torch.no_grad()
def not_finite(model: nn.Module) -> str | None:
    """The name of the first trained weight that is not a finite number; None where all are."""
    for name, weight in model.named_parameters():
        if weight.requires_grad and weight.is_floating_point() and not bool(torch.isfinite(local(weight)).all()):
            return name
    return None
