"""What a run's masking policy needs beside its config: counts, a store, a callback."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from instar.checkpoint.lineage import STATE
from instar.core.errors import CheckpointError, ConfigError
from instar.core.files.json_files import read_json
from instar.core.rundir import RunFolder
from instar.data.cache import TokenCache
from instar.data.crops import CropOptions, Crops
from instar.data.fingerprint import source_fingerprint
from instar.data.located import Located, document_characters
from instar.data.samples import Samples
from instar.data.source import Genome
from instar.data.stream import SampleSet
from instar.data.texts import build_texts
from instar.masking.adaptive import AdaptivePolicy
from instar.masking.bernoulli import BernoulliPolicy
from instar.masking.frequency import FrequencyPolicy
from instar.masking.memory import Memory, StoreMemory, TypeMemory
from instar.masking.offsets import CharacterOffsets
from instar.masking.type_average import TypeAveragePolicy
from instar.objective import Objective
from instar.run.config import RunConfig
from instar.run.corpus import Corpus
from instar.trainer import Runtime, TrainState
from instar.trainer.callbacks.masking_store import WATCHED, MaskingStoreUpdates, Measures

STORE = "masking"
"""The store's folder in a run folder."""
FIGURES = "masking.jsonl"
_SCAN = 1 << 24


@dataclass(frozen=True)
class Learning:
    """How the run feeds its masking policy; a policy that learns nothing has no callback."""

    samples: SampleSet
    """The training samples, which say where their characters lie if the policy asks."""
    callback: MaskingStoreUpdates | None = None

    @property
    def callbacks(self) -> tuple[MaskingStoreUpdates, ...]:
        """The callback, if there is one."""
        return () if self.callback is None else (self.callback,)

    @property
    def seen(self) -> Callable[[Mapping[str, Tensor]], None] | None:
        """Hears what training forward passes showed."""
        return None if self.callback is None else self.callback.seen

    def flush(self) -> None:
        """Before a checkpoint, on all ranks."""
        if self.callback is not None:
            self.callback.flush()


def learning(
    config: RunConfig,
    folder: RunFolder,
    corpus: Corpus,
    train: Samples,
    *,
    state: TrainState,
    runtime: Runtime,
    tell: Callable[[str], None],
) -> Learning:
    """Give the task's policy what it asks for. Nothing is written before training starts."""
    task = state.task
    policy = task.policy
    if isinstance(policy, FrequencyPolicy):
        policy.count(token_counts(corpus.train, corpus.tokenizer.vocab_size))
    is_cut_again = config.data.crops == "random" or config.data.reverse_complement > 0
    samples: SampleSet = cut_again(config, corpus, train) if is_cut_again else train
    if not isinstance(policy, AdaptivePolicy | BernoulliPolicy | TypeAveragePolicy):
        return Learning(samples)
    memory: Memory
    if isinstance(policy, TypeAveragePolicy):
        memory = TypeMemory(policy)
    else:
        offsets = offsets_of(config, corpus.train)
        path = Path(policy.config.store) if policy.config.store else folder.path / STORE
        owner = str(folder.path.absolute()) if policy.config.store else None
        memory = StoreMemory(policy, path, offsets, corpus.tokenizer.vocab_size, tell=tell, owner=owner)
        if runtime.is_main:
            memory.must_have_room()
        samples = samples if is_cut_again else Located(train, offsets.first_N[:-1])
    callback = MaskingStoreUpdates(task, memory, runtime, folder.path / FIGURES, config.train.log_every)
    callback.kept = lambda: _kept(folder)
    for module in state.module.modules():
        if isinstance(module, Objective):
            module.watches[WATCHED] = Measures(memory.statistic)
    return Learning(samples, callback)


def cut_again(config: RunConfig, corpus: Corpus, train: Samples) -> Crops:
    """The training samples, cut again in each pass; ConfigError where that makes no sense."""
    data, cache = config.data, corpus.train
    problems = []
    if not config.task.masks:
        problems.append("data.crops and data.reverse_complement: wanted the task mlm; other tasks keep their samples")
    if data.reverse_complement and not isinstance(data.train, Genome):
        problems.append(
            "data.reverse_complement: wanted a genome (data.train.kind: fasta or twobit); text has one strand"
        )
    if problems:
        raise ConfigError(problems)
    offsets = offsets_of(config, cache)
    texts = build_texts(data.train, offsets.first_N, data.cache_folder(), offsets.fingerprint[:24])
    apart = getattr(getattr(config.task, "masking", None), "strands", "joint") == "apart"
    options = CropOptions(
        moves=data.crops == "random",
        reverse_complement=data.reverse_complement,
        seed=config.seed,
        minus_first=offsets.num_characters if apart else 0,
    )
    return Crops(train, texts, offsets.first_N[:-1], options)


def offsets_of(config: RunConfig, cache: TokenCache) -> CharacterOffsets:
    """Where the characters of the training corpus lie; named by its texts, whatever the tokenizer."""
    content = source_fingerprint(config.data.train, config.data.cache_folder())
    return CharacterOffsets.of(document_characters(cache), content)


def token_counts(cache: TokenCache, vocab_size: int) -> NDArray[np.int64]:
    """(V,) how often each token stands in the training data."""
    counts_V = np.zeros(vocab_size, dtype=np.int64)
    for first in range(0, cache.num_tokens, _SCAN):
        counts_V += np.bincount(cache.ids[first : first + _SCAN], minlength=vocab_size)
    return counts_V


def _kept(folder: RunFolder) -> Iterator[Mapping[str, Any]]:
    for _, checkpoint in folder.checkpoints():
        try:
            states = read_json(checkpoint / STATE)["callbacks"]
            yield states.get(MaskingStoreUpdates.__name__) or states[MaskingStoreUpdates.former_name]
        except (CheckpointError, KeyError):
            continue  # rotated away while we read, or of before the policy learnt
