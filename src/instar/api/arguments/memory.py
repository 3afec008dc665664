"""What a step computes in, keeps and compiles: memory and speed, not meaning."""

from dataclasses import dataclass
from typing import Any

from instar.api.arguments.option import option


@dataclass(repr=False)
class PrecisionArguments:
    """The number formats of forward and backward passes."""

    bf16: bool = option(False, "run forward passes in bfloat16 where that is safe")
    fp16: bool = option(False, "run forward passes in float16 where that is safe, with a scaled loss")
    bf16_full_eval: bool = option(False, "evaluate with all weights in bfloat16")
    fp16_full_eval: bool = option(False, "evaluate with all weights in float16")
    tf32: bool | None = option(None, "let float32 products round to TF32 on a GPU; unset: as PyTorch is set")


@dataclass(repr=False)
class ActivationArguments:
    """Whether activations are computed again in the backward pass instead of kept."""

    activation_checkpointing: bool | None = option(
        None, "keep only the inputs of blocks and compute the rest again: less memory, more time", nargs="?", const=True
    )
    activation_checkpointing_kwargs: dict[str, Any] | str | None = option(
        None, "every_n_layers, offload, and values of torch.utils.checkpoint"
    )
    gradient_checkpointing: bool | None = option(
        None, "old spelling of activation_checkpointing", nargs="?", const=True
    )
    gradient_checkpointing_kwargs: dict[str, Any] | str | None = option(
        None, "old spelling of activation_checkpointing_kwargs"
    )


@dataclass(repr=False)
class CompileArguments:
    """Whether the model is compiled, and with which kernels."""

    torch_compile: bool = option(False, "compile the model with torch.compile")
    torch_compile_backend: str | None = option(None, "backend of torch.compile; setting it compiles")
    torch_compile_mode: str | None = option(None, "mode of torch.compile; setting it compiles")
    use_liger_kernel: bool = option(False, "use the fused kernels of the liger-kernel package")
    liger_kernel_config: dict[str, bool] | None = option(None, "which of the fused kernels, by name")


@dataclass(repr=False)
class FootprintArguments:
    """What else moves memory."""

    use_cache: bool = option(False, "let the model keep keys and values in training, as some adapters need")
    neftune_noise_alpha: float | None = option(None, "size of the noise on embeddings in training (NEFTune); 5 to 15")
    torch_empty_cache_steps: int | None = option(None, "steps between giving cached device memory back; unset: never")
    auto_find_batch_size: bool = option(
        False, "halve the micro-batch when memory runs out and go on from the same step; the curve stays"
    )
