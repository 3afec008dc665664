"""For debugging, and for the scripts around a trainer."""

from dataclasses import dataclass

from instar.api.arguments.choices import DebugOption
from instar.api.arguments.option import option


@dataclass(repr=False)
class DebugArguments:
    """What is measured on the side."""

    debug: str | list[DebugOption] = option("", "underflow_overflow: stop where activations leave the number format")
    skip_memory_metrics: bool = option(True, "leave memory out of metrics; measuring it costs time")


@dataclass(repr=False)
class ScriptArguments:
    """Not read by the trainer: for the script that makes one."""

    do_train: bool = option(False, "for scripts: train")
    do_eval: bool = option(False, "for scripts: evaluate; set where eval_strategy is")
    do_predict: bool = option(False, "for scripts: predict on the test data")
    resume_from_checkpoint: str | None = option(None, "for scripts: the checkpoint to hand to train()")
    local_rank: int = option(-1, "for launchers that pass it; local_process_index is the one to read")
