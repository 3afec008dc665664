"""What is saved when, where it is uploaded, which model is kept, and what a resumed run takes up."""

from dataclasses import dataclass

from instar.api.arguments.choices import HubStrategy, SaveStrategy
from instar.api.arguments.option import formerly, option


@dataclass(repr=False)
class SavingArguments:
    """When checkpoints are written, and what they hold."""

    save_only_model: bool = option(False, "save the model alone: smaller, and nothing to resume from")
    save_strategy: SaveStrategy | str = option("steps", "when to save: no, epoch, steps or best")
    save_steps: float = option(500, "steps between checkpoints; below 1: that share of all steps")
    save_on_each_node: bool = option(False, "one process of each node saves, not only the main one")
    save_total_limit: int | None = option(None, "checkpoints kept, the newest and the best; unset: all")
    enable_jit_checkpoint: bool = option(False, "save and leave on SIGTERM, also where no checkpoints were asked for")


@dataclass(repr=False)
class HubArguments:
    """What is uploaded."""

    push_to_hub: bool = option(False, "upload the model when it is saved")
    hub_token: str | None = option(
        None, "token for uploads; unset: the one of `hf auth login`", **formerly("push_to_hub_token")
    )
    hub_private_repo: bool | None = option(None, "make a new repository private; unset: as its owner's default is")
    hub_model_id: str | None = option(
        None, "repository, as name or owner/name; unset: the name of output_dir", **formerly("push_to_hub_model_id")
    )
    hub_strategy: HubStrategy | str = option(
        "every_save", "what to upload when: end, every_save, checkpoint or all_checkpoints"
    )
    hub_always_push: bool = option(False, "upload even if the upload before has not ended")
    hub_revision: str | None = option(None, "branch to upload to; unset: main")


@dataclass(repr=False)
class BestModelArguments:
    """Which model counts as the best."""

    load_best_model_at_end: bool = option(False, "end with the weights of the best evaluation")
    metric_for_best_model: str | None = option(None, "the metric that decides; unset where one is needed: loss")
    greater_is_better: bool | None = option(None, "whether more is better; unset: unless the name ends in loss")


@dataclass(repr=False)
class ResumeArguments:
    """What a resumed run takes up."""

    ignore_data_skip: bool = option(False, "resume at the start of the data, not where the run had stopped")
    restore_callback_states_from_checkpoint: bool = option(
        False, "callbacks take up their saved state, also against what they were made with"
    )
