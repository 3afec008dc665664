"""What an optimizer step does with gradients."""

from dataclasses import dataclass

from instar.api.arguments.choices import OptimizerNames
from instar.api.arguments.option import formerly, option


@dataclass(repr=False)
class OptimizerArguments:
    """Which optimizer, with which constants."""

    optim: OptimizerNames | str = option(
        "adamw_torch_fused", "the optimizer, by name", **formerly("adafactor", flag="adafactor")
    )
    optim_args: str | None = option(None, "further values of the optimizer: name=value,name=value")
    weight_decay: float = option(0.0, "share of a weight taken off a step, per unit of rate; not of biases and norms")
    adam_beta1: float = option(0.9, "decay a step of the mean of gradients, in Adam and its kin")
    adam_beta2: float = option(0.999, "decay a step of the mean of squared gradients, in Adam and its kin")
    adam_epsilon: float = option(1e-8, "added to the root of the mean square before dividing by it")
    optim_target_modules: None | str | list[str] = option(  # noqa: RUF036 (HfArgumentParser reads the second)
        None, "modules that GaLore and APOLLO project: names, patterns or all-linear"
    )


@dataclass(repr=False)
class StabilityArguments:
    """How gradients are summed, averaged and bounded."""

    gradient_accumulation_steps: int = option(1, "micro-batches of one device in an optimizer step")
    average_tokens_across_devices: bool = option(True, "divide the loss by the targets of all devices, not of one")
    max_grad_norm: float = option(1.0, "the gradient's length is cut to this; 0 or below: never")
    label_smoothing_factor: float = option(0.0, "share of the probability spread over all classes")
