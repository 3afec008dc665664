"""From the arguments to the engine: `fsdp`, `ddp_*`, `parallelism_config`, `deepspeed` as one `train.parallel`."""

import functools
import json
import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers.trainer_utils import FSDPOption

from instar.api.arguments.faults import Fault, guess, shown, wanted
from instar.api.arguments.launcher import launched_fsdp

if TYPE_CHECKING:
    from instar.api.arguments.flat import TrainingArguments
    from instar.trainer.parallel.config import Auto, Ddp, Fsdp

_log = logging.getLogger(__name__)

_SETTINGS = (
    "version",
    "reshard_after_forward",
    "cpu_offload",
    "activation_checkpointing",
    "auto_wrap_policy",
    "transformer_layer_cls_to_wrap",
    "min_num_params",
    "xla",
    "xla_fsdp_v2",
    "xla_fsdp_grad_ckpt",
    "xla_fsdp_settings",
)
_OTHER_NAMES = {
    "sharding_strategy": "reshard_after_forward",
    "offload_params": "cpu_offload",
    "transformer_cls_to_wrap": "transformer_layer_cls_to_wrap",
}
"""What Accelerate's launcher calls the same things."""
_NEEDLESS = {
    "cpu_ram_efficient_loading": "weights are read where they are needed",
    "sync_module_states": "all processes start from the main one's weights",
    "state_dict_type": "checkpoints are read by any number of processes",
    "use_orig_params": "FSDP2 keeps the original parameters",
    "limit_all_gathers": "FSDP2 bounds its own memory",
    "backward_prefetch": "FSDP2 prefetches in the backward pass by itself",
    "forward_prefetch": "FSDP2 prefetches in the forward pass by itself",
}
"""Settings that ask for what FSDP2 does in any case."""
_POLICIES = ("TRANSFORMER_BASED_WRAP", "SIZE_BASED_WRAP", "NO_WRAP")
_STRATEGIES = {
    FSDPOption.FULL_SHARD: True,
    FSDPOption.SHARD_GRAD_OP: False,
    FSDPOption.HYBRID_SHARD: True,
    FSDPOption.HYBRID_SHARD_ZERO2: False,
}
"""Whether gathered weights are let go of between forward and backward."""
_SIZES = ("dp_replicate_size", "dp_shard_size", "tp_size")
_KNOWN_SIZES = (*_SIZES, "cp_size", "sp_size", "total_size", "non_data_parallel_size", "data_parallel_size")


@functools.cache
def say_once(text: str) -> None:
    """One line of the log a process, however often the same arguments are made."""
    _log.warning(text)


def normalise(arguments: "TrainingArguments") -> Iterator[Fault]:
    """Bring `fsdp` to True and `fsdp_config` to one mapping; a fault for what has no meaning here."""
    launched = launched_fsdp() if not (arguments.fsdp or arguments.deepspeed) else {}
    if not (arguments.fsdp or launched):
        return
    config = arguments.fsdp_config or launched
    if isinstance(config, str | os.PathLike):
        try:
            config = json.loads(Path(config).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            yield Fault("fsdp_config", f"wanted a dict or a JSON file; got {shown(arguments.fsdp_config)}: {error}")
            return
    if not isinstance(config, Mapping):
        yield Fault("fsdp_config", wanted("a dict or a JSON file", config))
        return
    settings = {_name(key): value for key, value in config.items()}
    yield from _read_words(arguments.fsdp, settings)
    arguments.fsdp = True
    settings["min_num_params"] = settings.get("min_num_params") or 0
    if isinstance(settings.get("transformer_layer_cls_to_wrap"), str):
        settings["transformer_layer_cls_to_wrap"] = [
            name.strip() for name in settings["transformer_layer_cls_to_wrap"].split(",")
        ]
    for name in ("xla", "xla_fsdp_v2", "xla_fsdp_grad_ckpt"):
        settings.setdefault(name, False)
    arguments.fsdp_config = settings
    yield from _check_settings(settings)
    if _is_true(settings.get("activation_checkpointing")):
        arguments.activation_checkpointing = arguments.gradient_checkpointing = True


def _name(key: str) -> str:
    name = key.removeprefix("fsdp_")
    return _OTHER_NAMES.get(name, name)


def _read_words(given: Any, settings: dict[str, Any]) -> Iterator[Fault]:
    """`full_shard offload` as settings; a setting that is given beside the words wins."""
    words = given.split() if isinstance(given, str) else given if isinstance(given, list | tuple) else []
    if words:
        text = f"fsdp={given!r} is an old spelling; write fsdp=True, and fsdp_config for the rest"
        warnings.warn(text, FutureWarning, stacklevel=6)
    for word in words:
        name = str(getattr(word, "value", word)).lower()
        if name == FSDPOption.OFFLOAD:
            settings.setdefault("cpu_offload", True)
        elif name in (*_STRATEGIES, FSDPOption.NO_SHARD):
            settings.setdefault("reshard_after_forward", name)
        elif name != FSDPOption.AUTO_WRAP:
            known = [option.value for option in FSDPOption]
            yield Fault("fsdp", wanted(f"True, or words of {', '.join(known)}", word, known))


def _check_settings(settings: Mapping[str, Any]) -> Iterator[Fault]:
    known = (*_SETTINGS, *_NEEDLESS)
    for name, value in settings.items():
        if name not in known:
            yield Fault(f"fsdp_config.{name}", f"no such setting{guess(name, known)}")
        elif name in _NEEDLESS and value is not None:
            say_once(f"fsdp_config.{name} changes nothing: {_NEEDLESS[name]}")
    if str(settings.get("version", 2)) not in ("1", "2"):
        yield Fault("fsdp_config.version", wanted("1 or 2", settings["version"]))
    elif str(settings.get("version", 2)) == "1":
        say_once("fsdp_config.version=1 is an old spelling; PyTorch's FSDP2 does what it asks for")
    if settings.get("auto_wrap_policy", _POLICIES[0]) not in _POLICIES:
        yield Fault("fsdp_config.auto_wrap_policy", wanted(" or ".join(_POLICIES), settings["auto_wrap_policy"]))
    reshard = settings.get("reshard_after_forward", True)
    if not isinstance(reshard, bool) and str(reshard).lower() not in (*_STRATEGIES, FSDPOption.NO_SHARD, *_BOOLEANS):
        words = [option.value for option in (*_STRATEGIES, FSDPOption.NO_SHARD)]
        yield Fault("fsdp_config.reshard_after_forward", wanted(f"True, False or {', '.join(words)}", reshard, words))


_BOOLEANS = {"true": True, "false": False, "1": True, "0": False, "yes": True, "no": False, "on": True, "off": False}


def _is_true(value: Any) -> bool:
    return _BOOLEANS.get(str(value).lower(), False)


def check_sizes(arguments: "TrainingArguments") -> Iterator[Fault]:
    """Sizes of groups that these processes cannot be shared into."""
    sizes = _sizes(arguments)
    for name in sizes:
        if name not in _KNOWN_SIZES and isinstance(arguments.parallelism_config, Mapping):
            yield Fault("parallelism_config", wanted(f"sizes of {', '.join(_SIZES)}", name, _SIZES))
    asked = 1
    for name in _SIZES:
        asked *= sizes.get(name, 1)
    if asked > 1 and asked != arguments.world_size:
        yield Fault("parallelism_config", f"asks for {asked} processes; there are {arguments.world_size}")
    if sizes.get("tp_size", 1) > 1 and arguments.tensor_parallel_size not in (1, sizes["tp_size"]):
        yield Fault("tensor_parallel_size", wanted(f"{sizes['tp_size']} as in parallelism_config", tp(arguments)))
    elif arguments.world_size % arguments.tensor_parallel_size:
        yield Fault(
            "tensor_parallel_size", wanted(f"a divisor of the {arguments.world_size} processes here", tp(arguments))
        )


def _sizes(arguments: Any) -> dict[str, int]:
    config = arguments.parallelism_config
    values = config if isinstance(config, Mapping) else vars(config) if config is not None else {}
    return {name: size for name, size in values.items() if name.endswith("_size") and isinstance(size, int)}


def tp(arguments: Any) -> int:
    """Processes that share each layer's matrices."""
    planned = arguments.deepspeed_plugin.tp if arguments.deepspeed_plugin else 1
    return max(arguments.tensor_parallel_size, _sizes(arguments).get("tp_size", 1), planned)


def parallel_of(arguments: "TrainingArguments") -> "Auto | Ddp | Fsdp":
    """How the engine shares the work of the run: the value that a run file has as `train.parallel`."""
    from instar.trainer.parallel.config import Fsdp

    several: dict[str, Any] = {
        "tp": tp(arguments),
        "backend": arguments.ddp_backend or "auto",
        "timeout": arguments.ddp_timeout / 60,
    }
    sizes = _sizes(arguments)
    plan = arguments.deepspeed_plugin
    if plan is not None and plan.zero_stage > 0:
        return Fsdp(reshard_after_forward=plan.zero_stage == 3, cpu_offload=plan.is_offloaded, **several)
    settings: Mapping[str, Any] = arguments.fsdp_config or {}
    strategy = str(settings.get("reshard_after_forward", True)).lower()
    is_sharded = bool(arguments.fsdp) and strategy != FSDPOption.NO_SHARD
    if not is_sharded and sizes.get("dp_shard_size", 1) == 1:
        return _ddp(arguments, several)
    if not is_sharded:
        return Fsdp(replicas=sizes.get("dp_replicate_size", 1), **several)
    replicas = _machines() if strategy.startswith("hybrid") else sizes.get("dp_replicate_size", 1)
    return Fsdp(
        replicas=replicas,
        reshard_after_forward=_STRATEGIES.get(strategy, _is_true(strategy)),
        cpu_offload=_is_true(settings.get("cpu_offload")),
        **_units(settings),
        **several,
    )


def _ddp(arguments: "TrainingArguments", several: Mapping[str, Any]) -> "Ddp":
    from instar.trainer.parallel.config import Ddp

    given = {
        "find_unused_parameters": arguments.ddp_find_unused_parameters,
        "bucket_cap_mb": arguments.ddp_bucket_cap_mb,
        "broadcast_buffers": arguments.ddp_broadcast_buffers is not False,  # as PyTorch's DDP does unless told
        "static_graph": arguments.ddp_static_graph,
    }
    return Ddp(**{name: value for name, value in given.items() if value is not None}, **several)


def _units(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Which modules are gathered one at a time."""
    policy = settings.get("auto_wrap_policy", _POLICIES[0])
    if policy == "NO_WRAP":
        return {"layers": ()}
    if policy == "SIZE_BASED_WRAP" and settings["min_num_params"]:
        return {"min_parameters": int(settings["min_num_params"])}
    names = settings.get("transformer_layer_cls_to_wrap")
    return {"layers": tuple(names)} if names else {}


def _machines() -> int:
    """Machines of the run, as the launcher says."""
    everywhere, here = os.environ.get("WORLD_SIZE", "1"), os.environ.get("LOCAL_WORLD_SIZE")
    return int(everywhere) // int(here or everywhere)
