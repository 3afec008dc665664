"""How batches come to be."""

from dataclasses import dataclass

from instar.api.arguments.option import formerly, option

SAMPLING = ["random", "sequential", "group_by_length", "batch_rebalance"]
STARTING = ["fork", "spawn", "forkserver"]


@dataclass(repr=False)
class DataLoaderArguments:
    """Data loaders, their workers, columns and order."""

    dataloader_drop_last: bool = option(False, "leave out the last batch where it is smaller")
    dataloader_num_workers: int = option(0, "processes that load data; 0: the main one does")
    dataloader_pin_memory: bool = option(True, "put batches into page-locked memory, which a GPU copies faster")
    dataloader_persistent_workers: bool = option(False, "keep workers from one epoch to the next")
    dataloader_prefetch_factor: int | None = option(None, "batches that each worker has ready; unset: PyTorch's 2")
    dataloader_multiprocessing_context: str | None = option(
        None, "how workers start; unset: PyTorch's default", choices=STARTING
    )
    dataloader_in_order: bool = option(True, "hand batches over in order, not as they become ready")
    remove_unused_columns: bool = option(True, "drop the columns that the model's forward does not take")
    label_names: list[str] | None = option(None, "inputs that are labels; unset: by the forward signature")
    train_sampling_strategy: str = option(
        "random",
        "the order of training samples",
        choices=SAMPLING,
        **formerly("group_by_length", flag="group_by_length"),
    )
    length_column_name: str = option("length", "column with lengths, for the orders that need them")
