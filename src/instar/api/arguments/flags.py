"""Old spellings of flags on a command line: `transformers.HfArgumentParser` reads the fields of the class."""

import argparse
import copy
import warnings
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any


class OldFlag(argparse.Action):
    """Store what was given; an old spelling (`--no_cuda`) is said once to be old, and means the new one.

    A bare old flag (`--adafactor`) stands for the value in `const`, which the new option does not give by itself.
    """

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        current = self.option_strings[0]
        given = (option_string or current).replace("-", "_").removeprefix("__")
        if given != current.removeprefix("--"):
            warnings.warn(f"--{given} is an old spelling; write {current}", FutureWarning, stacklevel=2)
        is_bare = isinstance(values, Bare)
        if is_bare and given == current.removeprefix("--"):
            parser.error(f"argument {current}: expected one argument")
        setattr(namespace, self.dest, values.means if is_bare else values)


class Bare:
    """The value that a bare old flag stands for."""

    def __init__(self, means: str) -> None:
        self.means = means


OLD_FLAGS: Mapping[str, tuple[str, str | None]] = {
    "per_device_train_batch_size": ("per_gpu_train_batch_size", None),
    "per_device_eval_batch_size": ("per_gpu_eval_batch_size", None),
    "eval_strategy": ("evaluation_strategy", None),
    "warmup_steps": ("warmup_ratio", None),
    "optim": ("adafactor", "adafactor"),
    "train_sampling_strategy": ("group_by_length", "group_by_length"),
    "use_cpu": ("no_cuda", None),
    "hub_token": ("push_to_hub_token", None),
    "hub_model_id": ("push_to_hub_model_id", None),
}
"""By field: its old flag, and what a bare one means."""


def accept_old_flags(cls: type) -> type:
    """A class decorator: `HfArgumentParser` takes `OLD_FLAGS` too. Fields of the parent class stay as they are."""
    fields: dict[str, Any] = cls.__dataclass_fields__  # type: ignore[attr-defined]
    for name, (old, bare) in OLD_FLAGS.items():
        metadata: dict[str, Any] = {**fields[name].metadata, "aliases": [f"--{old}"], "action": OldFlag}
        metadata |= {"nargs": "?", "const": Bare(bare)} if bare is not None else {}
        fields[name] = copy.copy(fields[name])
        fields[name].metadata = MappingProxyType(metadata)
    return cls
