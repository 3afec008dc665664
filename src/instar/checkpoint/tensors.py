"""Named tensors on the disk, as safetensors: bytes and a JSON header, nothing that runs."""

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from instar.core.errors import CheckpointError
from instar.core.files.disk import disk_errors
from instar.core.limits import raise_if_limited


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """A file with these tensors (any device, any strides, shared memory written twice); all of it or nothing.

    DiskError names the bytes needed and free.
    """
    plain: dict[str, Tensor] = {}
    storages: set[int] = set()
    for name, tensor in tensors.items():
        value = tensor.detach().cpu().contiguous()
        if value.untyped_storage().data_ptr() in storages:
            value = value.clone()
        storages.add(value.untyped_storage().data_ptr())
        plain[name] = value
    with disk_errors(path, needed=sum(value.nbytes for value in plain.values())):
        save_file(plain, path, metadata={"format": "pt"})


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file, on the CPU, in memory of their own; CheckpointError names a missing or damaged file."""
    try:
        # a file that stays mapped could change, or shrink and kill the process, while the run goes on
        return {name: tensor.clone() for name, tensor in load_file(path).items()}
    except (OSError, SafetensorError) as error:
        raise_if_limited(error)
        raise CheckpointError(f"{path}: is not a whole safetensors file: {error}") from error
