"""Tensors and plain values in the `.pt` files of Transformers, read back without running anything."""

import dataclasses
import io
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from instar.core.errors import CheckpointError
from instar.core.files.disk import disk_errors
from instar.trainer.parallel.parts import is_divided

_KEPT = (type(None), bool, int, float, complex, str, bytes, Tensor, torch.dtype)


def write_values(path: Path, value: Any) -> None:
    """A file that `torch.load(path, weights_only=True)` gives back: tensors and plain values, in any nesting.

    CheckpointError names what is neither; DiskError where the disk is full.
    """
    kept = as_plain(value, path.name)
    with disk_errors(path), path.open("wb") as file:
        recorder = _Recorder(file)
        try:
            torch.save(kept, recorder)  # type: ignore[arg-type]
        except RuntimeError:
            if recorder.error is not None:  # torch says "unexpected pos" instead of what the system said
                raise recorder.error from None
            raise


def as_bytes(value: Any) -> bytes:
    """The content of the file that `write_values` would write."""
    content = io.BytesIO()
    torch.save(as_plain(value), content)
    return content.getvalue()


def read_values(path: Path) -> Any:
    """What `write_values` or Transformers wrote, on the CPU; CheckpointError if it is missing, damaged or unsafe."""
    try:
        with torch.serialization.safe_globals(_numpy_globals()):
            return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: is missing") from None
    except Exception as error:  # damaged bytes raise whatever the reader stumbles over
        first = str(error).strip().split("\n", 1)[0]
        raise CheckpointError(f"{path}: cannot be read as tensors and plain values: {first[:300]}") from error


def as_plain(value: Any, where: str = "value") -> Any:
    """The value with enums, arrays and odd containers replaced by plain ones; CheckpointError names what has none."""
    if isinstance(value, _KEPT):
        return _of_base_type(value)
    if isinstance(value, np.generic | np.ndarray | torch.device | Path | Enum):
        return _translated(value, where)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return as_plain(dataclasses.asdict(value), where)
    if isinstance(value, Mapping):
        return {as_plain(key, where): as_plain(inner, f"{where}: {key}") for key, inner in value.items()}
    if isinstance(value, list | set | frozenset):
        return [as_plain(inner, f"{where}[{place}]") for place, inner in enumerate(value)]
    if isinstance(value, tuple):
        return tuple(as_plain(inner, f"{where}[{place}]") for place, inner in enumerate(value))
    raise CheckpointError(
        f"{where}: is a {type(value).__module__}.{type(value).__name__}, and a checkpoint holds tensors and plain "
        "values only; leave it out of state_dict(), or give it as numbers, texts and lists"
    )


def _translated(value: Any, where: str) -> Any:
    if isinstance(value, np.ndarray):
        return torch.from_numpy(np.ascontiguousarray(value))
    if isinstance(value, np.generic):
        return value.item()
    return as_plain(value.value, where) if isinstance(value, Enum) else str(value)


def copied(value: Any, seen: dict[Any, Tensor] | None = None) -> Any:
    """The value with every tensor copied to the CPU, those that share memory once: what comes later changes nothing."""
    seen = {} if seen is None else seen
    if isinstance(value, Tensor):
        key = memory_of(value)
        if key not in seen:
            seen[key] = value.detach().to("cpu", copy=True)
        return seen[key]
    if isinstance(value, Mapping):
        return {key: copied(inner, seen) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(copied(inner, seen) for inner in value) if type(value) in (list, tuple) else value
    return value


def memory_of(tensor: Tensor) -> tuple[Any, ...]:
    """The same for two tensors exactly if they are the same numbers in the same memory."""
    if is_divided(tensor) or tensor.is_sparse or tensor.numel() == 0 or tensor.device.type == "meta":
        return (id(tensor),)
    storage = tensor.untyped_storage().data_ptr()
    return (tensor.device, storage, tensor.storage_offset(), tuple(tensor.shape), tensor.stride(), tensor.dtype)


def _of_base_type(value: Any) -> Any:
    """Enums of text or numbers, and NumPy's floats, are these too, but only plain ones are read back."""
    if isinstance(value, Enum):
        return value.value
    if type(value) in _KEPT:
        return value
    base = next((base for base in (int, float, complex, str, bytes) if isinstance(value, base)), None)
    return value if base is None else base(value)


def _numpy_globals() -> list[Any]:
    """What arrays are made of: data, no code. Transformers keeps the random state of NumPy in one."""
    reconstruct = np.empty(0).__reduce__()[0]
    return [reconstruct, np.ndarray, np.dtype, type(np.dtype(np.uint32))]


class _Recorder(io.RawIOBase):
    """A file that remembers what the system said when a write failed."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, content: Any) -> int:
        try:
            return int(self._file.write(content))
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self._file.flush()
