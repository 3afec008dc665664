"""What `accelerate launch` was told, which it hands on in the environment: FSDP and DeepSpeed."""

import os
from collections.abc import Mapping
from typing import Any

_STRATEGIES = {"1": "full_shard", "2": "shard_grad_op", "3": "no_shard", "4": "hybrid_shard", "5": "hybrid_shard_zero2"}
_NOTHING = ("", "none", "false", "0")


def launched_fsdp(environment: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """Settings as `fsdp_config` has them; empty where the launcher was not asked for FSDP."""
    if environment.get("ACCELERATE_USE_FSDP", "").lower() not in ("1", "true", "yes"):
        return {}
    told = {
        name.removeprefix("FSDP_").lower(): value for name, value in environment.items() if name.startswith("FSDP_")
    }
    version = told.pop("version", "1")
    strategy, reshard = told.pop("sharding_strategy", "1"), told.pop("reshard_after_forward", "true")
    decides = reshard if version == "2" else _STRATEGIES.get(strategy, strategy.lower())
    asked = {name: value for name, value in told.items() if value.lower() not in _NOTHING}
    return {"version": version, "reshard_after_forward": decides, **asked}


def launched_deepspeed(environment: Mapping[str, str] = os.environ) -> Any:
    """A DeepSpeed configuration, as a file's path or a mapping; None where the launcher was not asked for DeepSpeed."""
    if environment.get("ACCELERATE_USE_DEEPSPEED", "").lower() not in ("1", "true", "yes"):
        return None
    file = environment.get("ACCELERATE_DEEPSPEED_CONFIG_FILE", "none")
    if file.lower() not in _NOTHING:
        return file
    zero: dict[str, Any] = {"stage": int(environment.get("ACCELERATE_DEEPSPEED_ZERO_STAGE", "2"))}
    for part in ("optimizer", "param"):
        device = environment.get(f"ACCELERATE_DEEPSPEED_OFFLOAD_{part.upper()}_DEVICE", "none")
        zero[f"offload_{part}"] = {"device": device}
    clipping = environment.get("ACCELERATE_GRADIENT_CLIPPING", "none")
    return {
        "zero_optimization": zero,
        "gradient_clipping": "auto" if clipping in ("none", "auto") else float(clipping),
    }
