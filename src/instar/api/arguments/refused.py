"""Values of known arguments that instar does not act on, with the reason. They are refused, never ignored."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from transformers.debug_utils import DebugOption

from instar.api.arguments.faults import Fault

if TYPE_CHECKING:
    from instar.api.arguments.flat import TrainingArguments

_NO_TPU = "instar runs on CPUs and GPUs, not on TPUs"


@dataclass(frozen=True)
class Refusal:
    """A value of an argument that is refused."""

    field: str
    value: str
    """Which value, as the documentation shows it."""
    asks: Callable[[Any], bool]
    """Whether these arguments have it."""
    reason: str


REFUSALS: tuple[Refusal, ...] = (
    Refusal("debug", "tpu_metrics_debug", lambda given: DebugOption.TPU_METRICS_DEBUG in (given.debug or ()), _NO_TPU),
    Refusal(
        "fsdp_config",
        "xla, xla_fsdp_v2, xla_fsdp_grad_ckpt, xla_fsdp_settings",
        lambda given: any(key.startswith("xla") and value for key, value in _mapping(given.fsdp_config).items()),
        _NO_TPU,
    ),
    Refusal(
        "parallelism_config",
        "cp_size above 1",
        lambda given: _size(given, "cp_size") > 1,
        "context parallel is not supported; use fsdp or tensor_parallel_size",
    ),
    Refusal(
        "parallelism_config",
        "sp_size above 1",
        lambda given: _size(given, "sp_size") > 1,
        "sequence parallel is not supported; use fsdp or tensor_parallel_size",
    ),
    Refusal(
        "accelerator_config",
        "dispatch_batches in several processes",
        lambda given: bool(given.accelerator_config.dispatch_batches) and given.world_size > 1,
        "every process reads the data itself and keeps its share",
    ),
    Refusal(
        "eval_use_gather_object",
        "True in several processes",
        lambda given: given.eval_use_gather_object and given.world_size > 1,
        "outputs are gathered as tensors; make tensors of others in preprocess_logits_for_metrics",
    ),
    Refusal(
        "sortish_sampler",
        "True",
        lambda given: bool(getattr(given, "sortish_sampler", False)),
        "write train_sampling_strategy='group_by_length', which sorts any data set roughly by length",
    ),
)


def check(arguments: "TrainingArguments") -> Iterator[Fault]:
    """A fault for each value that is refused."""
    for refusal in REFUSALS:
        if refusal.asks(arguments):
            yield Fault(refusal.field, f"{refusal.value} is refused: {refusal.reason}")


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _size(arguments: Any, name: str) -> int:
    config = arguments.parallelism_config
    found = config.get(name) if isinstance(config, Mapping) else getattr(config, name, None)
    return found or 1
