"""From a run's config to everything that training needs: the one-way street."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from instar.core.budget import Budget
from instar.core.errors import ConfigError
from instar.data.cache import TokenCache
from instar.data.samples import Samples
from instar.data.tokenizer import Tokenizer
from instar.model import Crossing, Network, build_network
from instar.model.config import FromFolder, ModelConfig
from instar.model.freeze import freeze, trained_numbers
from instar.objective import Objective
from instar.optim.frozen import Frozen
from instar.run.begin import crossing, told
from instar.run.config import RunConfig, TrainConfig
from instar.run.corpus import Corpus, Splits
from instar.run.identity import must_have_its_base
from instar.run.labels import Labels
from instar.task import TaskLike
from instar.trainer import Runtime, TrainState
from instar.trainer.average import WeightAverage

ProblemType = Literal["single_label_classification", "multi_label_classification", "regression"]
PROBLEMS: Mapping[str, ProblemType] = {
    "class": "single_label_classification",
    "many": "multi_label_classification",
    "number": "regression",
}
"""What Transformers calls the kinds of labels."""

_SCAN = 1 << 24


def make_network(
    config: RunConfig,
    tokenizer: Tokenizer,
    labels: Labels,
    task: TaskLike,
    saved: Path | None = None,
    *,
    tell: Callable[[str], None] | None = None,
) -> Network:
    """The run's network: new, from the folder it begins from, or from the checkpoint `saved` of the run itself.

    `tell` hears what came of every tensor of a folder that a run begins from.
    """
    model, about_head = _model(config, tokenizer, labels, task, saved)
    num_outputs = config.task.num_outputs(labels.num_outputs)
    network = build_network(
        model,
        head=task.head,
        tokenizer=tokenizer,
        num_labels=num_outputs,
        problem_type=None if num_outputs is None else PROBLEMS.get(labels.kind, "regression"),
        pooling=config.task.head_pooling,
        seed=config.seed,
    )
    if saved is not None and network.adapter is not None:
        network.take_adapter(saved)
    elif about_head and tell is not None:
        for line in told(network.loaded, about_head):
            tell(line)
    if config.task.learns_labels and labels.names is not None:
        network.name_labels(labels.names)
    longest = config.data.max_length
    if network.max_length is not None and longest is not None and longest > network.max_length:
        raise ConfigError(
            [
                f"data.max_length: wanted at most {network.max_length}, the positions this model has; got {longest}; "
                f"a model with rotary positions takes more with model.max_length: {longest}"
            ]
        )
    if config.train.checkpoint_activations:
        network.checkpoint_activations()
    return network


def _model(
    config: RunConfig, tokenizer: Tokenizer, labels: Labels, task: TaskLike, saved: Path | None
) -> tuple[ModelConfig | Crossing, str]:
    """(where the network comes from, a line about its head). A checkpoint of an adapter has its base in its folder."""
    model = config.model
    adapts = isinstance(model, FromFolder) and model.adapter is not None
    if saved is not None and not adapts:
        return FromFolder(path=str(saved), dropout=model.dropout), ""
    if saved is not None:
        must_have_its_base(saved, config)
    if isinstance(model, FromFolder):
        return crossing(model, tokenizer, labels, task)
    if model.max_length is None and config.data.max_length:
        return model.model_copy(update={"max_length": config.data.max_length}), ""
    return model, ""


def train_used_rows_only(config: RunConfig, corpus: Corpus, network: Network) -> None:
    """Cut a classifier's embedding to the tokens of its data, which saves the optimizer the rest of the table."""
    if corpus.stream is not None:
        return  # later blocks may hold any token
    if network.adapter is not None:
        return  # the table is frozen, and not saved
    if not config.train.compact_embedding or network.pooling is None or not network.is_packed:
        return
    counts_V = np.zeros(corpus.tokenizer.vocab_size, dtype=np.int64)
    for cache in (corpus.train, corpus.evaluation, corpus.test):
        if isinstance(cache, TokenCache):
            for first in range(0, cache.num_tokens, _SCAN):
                counts_V += np.bincount(cache.ids[first : first + _SCAN], minlength=len(counts_V))
    counts_V[list(corpus.tokenizer.special_ids)] += 1
    network.compact_embedding(np.flatnonzero(counts_V).tolist())


def freeze_parts(config: RunConfig, network: Network, tell: Callable[[str], None]) -> None:
    """Leave gradients only to what the run trains; call it once the network is as it will be trained.

    `tell` hears which tied tensors are frozen, and how much is. ConfigError for patterns that do not fit the model.
    """
    train = config.train
    if network.adapter is None and train.trainable is None and not train.frozen_patterns:
        return
    for line in freeze(network, train.trainable, train.frozen_patterns):
        tell(line)
    trained, frozen = trained_numbers(network)
    tell(f"model: {trained:,} parameters are trained, {frozen:,} are frozen")


def make_state(config: RunConfig, splits: Splits, network: Network, task: TaskLike, runtime: Runtime) -> TrainState:
    """The state before the first step."""
    objective = Objective(network, config.objective)
    if config.train.compile:
        network.compile_body()
    module = runtime.wrap(objective)
    average = config.train.average
    return TrainState(
        seed=config.seed,
        network=network,
        module=module,
        optimizer=runtime.arrange(_optimizer(config, network)),
        schedule=config.train.schedule,
        task=task,
        budget=config.train.budget,
        totals=totals(config.train, len(splits.train), tokens_per_sample(splits.train)),
        scaler=runtime.scaler(),
        average=None if average is None else WeightAverage(network, average.decay),
    )


def _optimizer(config: RunConfig, network: Network) -> torch.optim.Optimizer:
    made = config.train.optimizer.build(network.named_parameters())
    return Frozen(made.param_groups) if config.train.only_measures else made


def tokens_per_sample(samples: Samples) -> float:
    """Mean length, from all samples or from a thousand spread evenly over them."""
    chosen = np.linspace(0, len(samples) - 1, num=min(len(samples), 1000)).astype(np.int64)
    return float(samples.lengths(chosen).mean())


def totals(train: TrainConfig, num_samples: int, mean_length: float) -> dict[str, float]:
    """How long the run is in each unit: exact in the budget's own, an estimate in the others."""
    per_step = float(train.batch_samples or max(1.0, (train.batch_tokens or 0) / mean_length))
    budget: Budget = train.budget
    samples = {
        "steps": budget.amount * per_step,
        "epochs": budget.amount * num_samples,
        "samples": budget.amount,
        "tokens": budget.amount / mean_length,
    }[budget.unit]
    found = {
        "samples": samples,
        "epochs": samples / num_samples,
        "tokens": samples * mean_length,
        "steps": max(1.0, samples / per_step),
    }
    return found | {budget.unit: budget.amount}
