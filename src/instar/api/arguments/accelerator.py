"""How batches are spread over processes: the part of Accelerate's set-up that a trainer takes."""

import copy
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from transformers import trainer_pt_utils

from instar.api.arguments.faults import guess

_ACCUMULATION = ("num_steps", "adjust_scheduler", "sync_with_dataloader", "sync_each_batch")


@dataclass
class AcceleratorConfig(trainer_pt_utils.AcceleratorConfig):
    """How batches are spread over processes: the class of Transformers, with its values checked."""

    @classmethod
    def read(cls, given: Any) -> "AcceleratorConfig":
        """From nothing, a mapping, a JSON file, or any object with these attributes.

        ValueError for what is none of these or has unknown keys; NotImplementedError for a class.
        """
        if isinstance(given, cls):
            return given
        if isinstance(given, type):
            raise NotImplementedError(
                "Tried passing in a callable to `accelerator_config`: "
                f"wanted an instance; got the class {given.__name__}"
            )
        if given is None:
            return cls()
        if isinstance(given, Mapping):
            return cls._from(given, "accelerator_config")
        if isinstance(given, str | os.PathLike):
            return cls.from_json_file(given)
        values: dict[str, Any] = {
            field.name: copy.copy(getattr(given, field.name, field.default)) for field in fields(cls)
        }
        return cls(**values)

    @classmethod
    def from_json_file(cls, json_file: str | os.PathLike[str]) -> "AcceleratorConfig":
        """From a JSON file; ValueError for unknown keys."""
        return cls._from(json.loads(Path(json_file).read_text(encoding="utf-8")), str(json_file))

    @classmethod
    def _from(cls, values: Mapping[str, Any], where: str) -> "AcceleratorConfig":
        known = [field.name for field in fields(cls)]
        unknown = [f"{key!r}{guess(key, known)}" for key in values if key not in known]
        if unknown:
            raise ValueError(f"{where} had unknown keys ({', '.join(unknown)}); the known ones are {', '.join(known)}")
        return cls(**values)

    def __post_init__(self) -> None:
        unknown = [key for key in self.gradient_accumulation_kwargs or {} if key not in _ACCUMULATION]
        if unknown:
            raise ValueError(f"gradient_accumulation_kwargs: wanted {', '.join(_ACCUMULATION)}; got {unknown}")
        if self.use_configured_state and not _has_state():
            raise ValueError(
                "Passing `'use_configured_state':True` to the AcceleratorConfig requires a pre-configured "
                "`AcceleratorState` or `PartialState`: make an `accelerate.Accelerator` before the arguments"
            )

    def accumulation_steps(self, steps: int) -> int:
        """Micro-batches of an optimizer step: `num_steps` where it is set; ValueError if `steps` says otherwise."""
        num_steps = (self.gradient_accumulation_kwargs or {}).get("num_steps")
        if num_steps is not None and steps not in (1, num_steps):
            raise ValueError(
                f"The `AcceleratorConfig`'s `num_steps` is set but so is `gradient_accumulation_steps`, to {steps} and "
                f"not {num_steps}; leave one of them out"
            )
        return steps if num_steps is None else int(num_steps)

    def accelerator_options(self, data_seed: int | None) -> dict[str, Any]:
        """What an `accelerate.Accelerator` is made with; it accumulates nothing, as the trainer does that itself."""
        from accelerate.utils import DataLoaderConfiguration, GradientAccumulationPlugin

        names = ("split_batches", "dispatch_batches", "even_batches", "use_seedable_sampler", "non_blocking")
        spread = {name: getattr(self, name) for name in names}
        return {
            "dataloader_config": DataLoaderConfiguration(**spread, data_seed=data_seed),
            "gradient_accumulation_plugin": GradientAccumulationPlugin(
                **{**(self.gradient_accumulation_kwargs or {}), "num_steps": 1}
            ),
        }


def _has_state() -> bool:
    """Whether the script has set up Accelerate; a package that was never imported is not set up."""
    state = sys.modules.get("accelerate.state")
    return state is not None and bool(state.PartialState._shared_state)
