"""Data loaders, samplers and columns."""

import logging
from collections.abc import Callable, Mapping
from inspect import signature
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset, RandomSampler, Sampler, SequentialSampler
from transformers.trainer_utils import has_length

from instar.api import traits
from instar.api.base import TrainerParts
from instar.api.batches import RankShare, TokenBatches
from instar.api.columns import KeepColumns, KeepTensors, is_no_tensor
from instar.api.loader import NumberedLoader
from instar.api.signatures import takes_positional

_log = logging.getLogger(__name__)
_BY_LENGTH = ("group_by_length", "batch_rebalance")


class Loading(TrainerParts):
    """Data loaders, samplers and columns. Each `get_*_dataloader` may be overridden; any `DataLoader` will do."""

    _takes_keywords: bool = False
    """Whether the model's forward takes whatever a batch holds."""
    _eval_dataloaders: dict[str, DataLoader[Any]]

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Batches of `train_dataset` for training: shuffled by seed and epoch, this rank's share of them."""
        if self.train_dataset is None:
            raise ValueError("Trainer: training requires a train_dataset.")
        if has_length(self.train_dataset) and len(self.train_dataset) == 0:
            raise ValueError("Trainer: the train_dataset is empty; wanted at least one sample")
        return self._get_dataloader(
            self.train_dataset, "Training", self._train_batch_size, self._get_train_sampler, is_training=True
        )

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader[Any]:
        """Batches of a dataset, or of the one of that name in `self.eval_dataset`, in its order."""
        if eval_dataset is None and self.eval_dataset is None:
            raise ValueError("Trainer: evaluation requires an eval_dataset.")
        key = eval_dataset if isinstance(eval_dataset, str) else "eval"
        kept = self.__dict__.setdefault("_eval_dataloaders", {})
        if self.args.dataloader_persistent_workers and key in kept:
            return kept[key]
        if isinstance(eval_dataset, str):
            eval_dataset = self._named_set(eval_dataset)
        dataset = self.eval_dataset if eval_dataset is None else eval_dataset
        loader = self._get_dataloader(dataset, "Evaluation", self.args.eval_batch_size, self._get_eval_sampler)
        if self.args.dataloader_persistent_workers:
            kept[key] = loader
        return loader

    def _named_set(self, name: str) -> Any:
        """One of several evaluation sets; KeyError names those there are."""
        sets = self.eval_dataset if isinstance(self.eval_dataset, Mapping) else {}
        if name not in sets:
            there = ", ".join(sets) or "none has a name: eval_dataset is no dict"
            raise KeyError(f"eval_dataset: wanted the name of one of the sets ({there}); got {name!r}")
        return sets[name]

    def get_test_dataloader(self, test_dataset: Any) -> DataLoader[Any]:
        """Batches of a dataset in its order."""
        return self._get_dataloader(test_dataset, "test", self.args.eval_batch_size, self._get_eval_sampler)

    def _get_dataloader(
        self,
        dataset: Any,
        description: str,
        batch_size: int,
        sampler_fn: Callable[[Any], Any] | None = None,
        is_training: bool = False,
        dataloader_key: str | None = None,
    ) -> DataLoader[Any]:
        del dataloader_key
        args = self.args
        dataset, collator = self._with_columns(dataset, description)
        options: dict[str, Any] = {
            "collate_fn": collator,
            "num_workers": args.dataloader_num_workers,
            "pin_memory": args.dataloader_pin_memory and args.device.type != "cpu",
            "persistent_workers": args.dataloader_persistent_workers,
            "prefetch_factor": args.dataloader_prefetch_factor,
            "multiprocessing_context": args.dataloader_multiprocessing_context,
            "in_order": args.dataloader_in_order,
        }
        place: dict[str, Any] = {"rank": self.runtime.data_rank, "world_size": self.runtime.data_size}
        if place["world_size"] > 1 and getattr(args.accelerator_config, "split_batches", False):
            batch_size = _share(batch_size, place["world_size"])
        seed = args.seed if args.data_seed is None else args.data_seed
        repeats_rows = not is_training or self._repeats_rows(dataset)
        if isinstance(dataset, IterableDataset):
            drop_last = args.dataloader_drop_last and is_training
            if place["world_size"] > 1:
                dataset = RankShare(dataset, batch_size, drop_last=drop_last, repeats_rows=repeats_rows, **place)
            loader = NumberedLoader(dataset, seed=seed, batch_size=batch_size, drop_last=drop_last, **options)
            loader.shares_rows = place["world_size"] > 1
            return loader
        sampler = None
        if sampler_fn is not None:
            sampler = sampler_fn(*([dataset] if takes_positional(sampler_fn, 1) else []))
        if is_training and args.max_tokens_per_batch is not None:
            sampler = TokenBatches(self._lengths(dataset), args.max_tokens_per_batch, seed=seed)
        if _is_batch_sampler(sampler):
            if type(sampler).__name__ == "BatchRebalanceSampler":
                place = {}  # it knows its rank
            options |= {"batch_sampler": sampler, "repeats_rows": repeats_rows}
            return NumberedLoader(dataset, seed=seed, **place, **options)
        options |= {"batch_size": batch_size, "sampler": sampler, "drop_last": args.dataloader_drop_last}
        return NumberedLoader(dataset, seed=seed, repeats_rows=repeats_rows, **place, **options)

    def _repeats_rows(self, dataset: Any) -> bool:
        """Whether an epoch's last step, in training, is filled up with rows that were read before."""
        args = self.args
        if self.runtime.data_size == 1:
            return False
        has_workers = args.dataloader_num_workers > 0
        obstacles = {
            "training_step is overridden": not self._step_takes["is_own_step"],
            "get_batch_samples is overridden": not self._step_takes["is_own_read"],
            "dataloader_in_order=False": has_workers and not args.dataloader_in_order,
            "workers read an iterable dataset": has_workers and isinstance(dataset, IterableDataset),
        }
        found = [obstacle for obstacle, stands in obstacles.items() if stands]
        if found:
            _log.warning("each epoch's last step is filled up with rows that were read before: %s", ", ".join(found))
        return bool(found)

    # ---- samplers ----

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        """The order that `train_sampling_strategy` names; None for a dataset that has no length."""
        dataset = self.train_dataset if train_dataset is None else train_dataset
        strategy = self.args.train_sampling_strategy
        if dataset is None or not has_length(dataset):
            if dataset is not None and strategy in _BY_LENGTH:
                _log.warning(
                    "train_sampling_strategy=%r: the dataset has no length, so its own order is kept", strategy
                )
            return None
        if strategy == "sequential":
            return SequentialSampler(dataset)
        if strategy not in _BY_LENGTH:
            return RandomSampler(dataset)
        return self._sampler_by_length(dataset, strategy)

    def _sampler_by_length(self, dataset: Any, strategy: str) -> Sampler[Any]:
        from transformers.trainer_pt_utils import BatchRebalanceSampler, LengthGroupedSampler

        args, lengths = self.args, self._lengths(dataset)
        if strategy == "group_by_length":
            at_once = self._train_batch_size * args.gradient_accumulation_steps
            return LengthGroupedSampler(at_once, dataset=dataset, lengths=lengths)
        ranks = self.runtime.data_size
        return BatchRebalanceSampler(
            lengths=lengths,
            effective_batch_size=self._train_batch_size * args.gradient_accumulation_steps * ranks,
            dp_size=ranks,
            grad_accum=args.gradient_accumulation_steps,
            rank=self.runtime.data_rank,
            drop_last=args.dataloader_drop_last,
        )

    def _get_eval_sampler(self, eval_dataset: Any) -> Any:
        """The dataset's own order; None for a dataset that has no length."""
        return SequentialSampler(eval_dataset) if eval_dataset is not None and has_length(eval_dataset) else None

    def _lengths(self, dataset: Any) -> list[int]:
        """Length of each sample: the column `length_column_name`, or that of the model's main input."""
        column = self.args.length_column_name
        if column in (getattr(dataset, "column_names", None) or ()):
            return [int(length) for length in dataset[column]]
        known = getattr(self.train_dataset, "column_names", None)
        if column in (known or ()) and len(self.train_dataset) == len(dataset):
            return [int(length) for length in self.train_dataset[column]]
        names = getattr(self.processing_class, "model_input_names", None)
        name = names[0] if names else getattr(self.model, "main_input_name", "input_ids")
        sample = dataset[0]
        if not hasattr(sample, "keys") or name not in sample:
            raise ValueError(
                "Can only automatically infer lengths for datasets whose items are dictionaries with an "
                f"'{name}' key; give a column {column!r} with lengths."
            )
        if hasattr(dataset, "column_names"):
            return [len(value) for value in dataset[name]]
        return [len(dataset[place][name]) for place in range(len(dataset))]

    # ---- columns ----

    def _with_columns(self, dataset: Any, description: str) -> tuple[Any, Callable[[list[Any]], Any]]:
        if not self.args.remove_unused_columns:
            self._set_signature_columns_if_needed()
            assert self._signature_columns is not None
            return dataset, KeepTensors(self.data_collator, self._signature_columns)
        if _is_table(dataset):
            return self._remove_unused_columns(dataset, description=description), self.data_collator
        return dataset, self._get_collator_with_removed_columns(self.data_collator, description=description)

    def _set_signature_columns_if_needed(self) -> None:
        if self._signature_columns is None:
            parameters = signature(traits.base_of(self.model).forward).parameters
            named = list(parameters)
            self._takes_keywords = any(one.kind is one.VAR_KEYWORD for one in parameters.values())
            # collators rename these two to `labels`
            self._signature_columns = [*named, *sorted({"label", "label_ids", *self.label_names} - set(named))]

    def _remove_unused_columns(self, dataset: Any, description: str | None = None) -> Any:
        """A `datasets.Dataset` without the columns that the forward does not take; ValueError if none is left."""
        if not self.args.remove_unused_columns:
            return dataset
        self._set_signature_columns_if_needed()
        assert self._signature_columns is not None
        ignored = sorted(set(dataset.column_names) - set(self._signature_columns))
        where = "" if description is None else f" in the {description} set"
        if len(ignored) == len(dataset.column_names):
            raise ValueError(
                "No columns in the dataset match the model's forward method signature: "
                f"({', '.join(self._signature_columns)}). The following columns have been ignored: "
                f"[{', '.join(ignored)}]. Please check the dataset and model. You may need to set "
                "`remove_unused_columns=False` in `TrainingArguments`."
            )
        if not ignored:
            return dataset
        _log.info("%s.forward does not take the columns%s: %s", type(self.model).__name__, where, ", ".join(ignored))
        return dataset.remove_columns(ignored)

    def _get_collator_with_removed_columns(
        self, data_collator: Callable[[list[Any]], Any], description: str | None = None
    ) -> Callable[[list[Any]], Any]:
        """The collator, before which samples lose what the forward does not take."""
        del description
        if not self.args.remove_unused_columns:
            return data_collator
        self._set_signature_columns_if_needed()
        assert self._signature_columns is not None
        return KeepColumns(data_collator, self._signature_columns, type(self.model).__name__)

    # ---- what a batch becomes ----

    def _prepare_input(self, data: Any) -> Any:
        """A tensor, or the tensors in a nest, on the device."""
        if isinstance(data, torch.Tensor):
            return data.to(self.runtime.device, non_blocking=self.args.accelerator_config.non_blocking)
        if hasattr(data, "items") and hasattr(data, "keys"):
            return type(data)({name: self._prepare_input(value) for name, value in data.items()})
        if isinstance(data, list | tuple):
            return type(data)(self._prepare_input(value) for value in data)
        return data

    def _prepare_inputs(self, inputs: Any) -> Any:
        """A batch on the device; ValueError for one with nothing in it."""
        inputs = self._prepare_input(inputs)
        if len(inputs) == 0:
            raise ValueError(
                "The batch received was empty, your model won't be able to train on it. Double-check that your "
                f"training dataset contains keys expected by the model: {','.join(self._signature_columns or [])}."
            )
        return inputs

    def _drop_unusable(self, inputs: Any) -> Any:
        """The batch without texts and lists of numbers that the forward cannot take: all, where it takes keywords."""
        if self._signature_columns is None:
            self._set_signature_columns_if_needed()
        named = self._signature_columns or ()
        if self._takes_keywords:
            return inputs
        unusable = [name for name, value in inputs.items() if name not in named and is_no_tensor(value)]
        if not unusable or not any(name in named for name in inputs):
            return inputs
        return {name: value for name, value in inputs.items() if name not in unusable}


def _is_table(dataset: Any) -> bool:
    return (
        type(dataset).__module__.startswith("datasets.") and hasattr(dataset, "remove_columns") and has_length(dataset)
    )


def _is_batch_sampler(sampler: Any) -> bool:
    """True for what gives whole batches: our own, Transformers', and PyTorch's `BatchSampler`."""
    if isinstance(sampler, TokenBatches | torch.utils.data.BatchSampler):
        return True
    return type(sampler).__name__ == "BatchRebalanceSampler"


def _share(batch_size: int, world_size: int) -> int:
    if batch_size % world_size:
        raise ValueError(f"split_batches: the batch size, {batch_size}, cannot be shared by {world_size} processes")
    return batch_size // world_size
