"""What instar adds to the arguments of Transformers."""

from dataclasses import dataclass
from typing import Literal

from instar.api.arguments.option import option


@dataclass(repr=False)
class InstarArguments:
    """instar's own; every default leaves the meaning of a script as it was."""

    fast_path: bool = option(True, "pack batches without padding where model and collator allow it: same loss, faster")
    async_save: bool = option(False, "write checkpoints in the background while training goes on")
    non_finite: Literal["stop", "skip", "log"] = option(
        "stop", "on a loss or gradient that is no number: stop the run, skip that step, or only log it"
    )
    max_tokens_per_batch: int | None = option(
        None, "tokens in a micro-batch of one device, padding included, instead of a number of samples"
    )
    weight_average_decay: float | None = option(
        None, "decay a step of a moving average of weights, used in evaluation and at the end; 0.999 is usual"
    )
    save_best: bool = option(
        False, "save also whenever the best metric improves, whatever save_strategy says, and keep that checkpoint"
    )
    tensor_parallel_size: int = option(1, "processes that share each layer's matrices")
