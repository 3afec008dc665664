"""What makes a run the same again, and what it runs on."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from instar.api.arguments.option import formerly, option


@dataclass(repr=False)
class ReproducibilityArguments:
    """Seeds."""

    full_determinism: bool = option(False, "use reproducible kernels only: slower, for debugging")
    seed: int = option(42, "seed of weights, dropout and everything else that is drawn")
    data_seed: int | None = option(None, "seed of the order of the data; unset: seed")


@dataclass(repr=False)
class HardwareArguments:
    """The device, and how Accelerate's part is set up."""

    use_cpu: bool = option(False, "stay on the CPU though there is a GPU", **formerly("no_cuda"))
    if TYPE_CHECKING:
        accelerator_config: Any = None  # an AcceleratorConfig once the arguments are made
    else:
        accelerator_config: dict | str | None = option(
            None, "how batches are spread over processes: a mapping, or a JSON file with one"
        )
    parallelism_config: Any | None = option(None, "sizes of process groups, as Accelerate has them")
