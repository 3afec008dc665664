"""What a run says while it goes on, and where to."""

from dataclasses import dataclass
from typing import Literal

from instar.api.arguments.choices import IntervalStrategy
from instar.api.arguments.option import option

LEVELS = ["detail", "debug", "info", "warning", "error", "critical", "passive"]


@dataclass(repr=False)
class LoggingArguments:
    """When the loss is logged, and what is counted."""

    logging_strategy: IntervalStrategy | str = option("steps", "when to log: no, epoch or steps")
    logging_steps: float = option(500, "steps between logs; below 1: that share of all steps")
    logging_first_step: bool = option(False, "log the first step as well")
    log_on_each_node: bool = option(True, "one process of each node logs, not only the main one")
    logging_nan_inf_filter: bool = option(True, "accepted for scripts that set it; a loss that is no number is shown")
    include_num_input_tokens_seen: str | bool = option("no", "count tokens read: all, non_padding or no")
    log_level: str = option("passive", "least severe message of the main process; passive: as it is", choices=LEVELS)
    log_level_replica: str = option("warning", "least severe message of the other processes", choices=LEVELS)
    disable_tqdm: bool | None = option(None, "no progress bars; unset: none if the log level is above warning")


@dataclass(repr=False)
class TrackingArguments:
    """Which trackers are told."""

    # HfArgumentParser reads the member beside None, so the order of both unions is fixed
    report_to: None | str | list[str] = option("none", "trackers by name; all: every one")  # noqa: RUF036
    run_name: str | None = option(None, "the run's name in trackers")
    project: str = option("huggingface", "the project's name in Trackio")
    trackio_space_id: str | None = option(None, "live Space of Trackio, as name or owner/name; unset: on this machine")
    trackio_bucket_id: str | None = option(None, "bucket behind that Space; unset: Trackio's choice")
    trackio_static_space_id: str | None | Literal[False] = option(  # noqa: RUF036
        None, "read-only Space with the finished run; False: none"
    )
