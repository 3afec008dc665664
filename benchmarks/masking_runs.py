"""One run of `benchmarks/masking.py`: a run file, trained as `instar train` trains it, and watched.

Letters: S training samples' tokens end to end, M masked positions, C classes.
"""

import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.masking_corpora import Corpus, token_deciles
from instar.config.load import load
from instar.data import Batch
from instar.data.cache import build_cache
from instar.data.located import Located, document_characters
from instar.data.samples import Cut, Samples
from instar.masking.offsets import CharacterOffsets
from instar.objective import score_targets
from instar.run.config import RunConfig
from instar.run.corpus import build_corpus
from instar.run.masking import token_counts
from instar.run.train import train
from instar.task import StepContext
from instar.task.mlm import MaskedLM, MaskedLMTask
from instar.tracks.transfer import export, import_values
from instar.trainer import Callback

RATE = 0.15
HELD_KEY = 20_000
"""Seed of the masks of held-out data: the same in every run."""
HELD_TOKENS = 4096
PERIODS = 10
"""Parts of a run for which masked tokens are counted."""

ONLY_MASKS: dict[str, Any] = {"mask_share": 1.0}
SEEDS_RULE: dict[str, Any] = {
    "rate": 0.3,
    "mask_share": 0.8,
    "random_share": 0.1,
    "masking": {
        "kind": "bernoulli",
        "adaptive_samples": 0.5,
        "write": "chosen",
        "write_threshold": 0.5,
        "dtype": "float16",
    },
}
OURS: dict[str, Any] = {"kind": "adaptive", "floor": 0.02, "uniform": 0.1, "decay": 0.01}
ARMS: dict[str, dict[str, Any]] = {
    "uniform 15 %": ONLY_MASKS,
    "uniform 30 %": ONLY_MASKS | {"rate": 0.3},
    "linear 30 to 15 %": ONLY_MASKS | {"rate": {"start": 0.3, "end": 0.15}},
    "cosine 30 to 15 %": ONLY_MASKS | {"rate": {"start": 0.3, "end": 0.15, "shape": "cosine"}},
    "frequency": ONLY_MASKS | {"masking": {"kind": "frequency"}},
    "type_average": ONLY_MASKS | {"masking": {"kind": "type_average"}},
    "adaptive, shuffled": ONLY_MASKS | {"masking": OURS | {"shuffled": True}},
    "bernoulli, as it began": SEEDS_RULE,
    "adaptive, one_minus_p": ONLY_MASKS | {"masking": OURS},
    "adaptive, 30 to 15 %": ONLY_MASKS | {"rate": {"start": 0.3, "end": 0.15}, "masking": OURS},
    "adaptive, progress": ONLY_MASKS | {"masking": OURS | {"statistic": "progress", "update": 0.3}},
}
"""The `task` section of each arm, beside kind, rate (15 %) and evaluation_rate."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How long and how large the runs of a corpus are."""

    model: Mapping[str, Any]
    tokenizer: Mapping[str, Any]
    steps: int
    shifted_steps: int = 0
    batch_tokens: int = 4096
    lr: float = 3e-3
    evaluations: int = 8
    shifted_evaluations: int = 12


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Samples and their classes, the same for all arms of a seed."""

    judge: MaskedLMTask
    """Hides held-out tokens: all of them behind [MASK], whatever a run trains on."""
    held: Samples
    held_class: NDArray[np.uint8]
    """Class of each token of the held-out samples, end to end."""
    train_class_S: NDArray[np.uint8]
    first: NDArray[np.int64]
    """Where each training sample begins in `train_class_S`."""


class Watch(Callback):
    """Counts what is masked, and looks at held-out data now and then; its own time is not on its clock."""

    def __init__(self, parts: Parts, num_classes: int, steps: int, evaluations: int) -> None:
        self.parts, self.num_classes, self.steps = parts, num_classes, steps
        self.due = {round(steps * number / evaluations) for number in range(1, evaluations + 1)}
        self.curve: list[dict[str, Any]] = []
        self.hidden = np.zeros((PERIODS, num_classes), dtype=np.int64)
        self.maskable = np.zeros(num_classes, dtype=np.int64)
        self.step = 0
        self._from = self._cpu = 0.0

    def fit_started(self, state: Any) -> None:
        state.task.policy = Recorder(state.task.policy, self)
        self.curve.append({"step": 0, "tokens": 0, "cpu": 0.0, **self._look(state)})
        self._from = time.process_time()

    def hid(self, batch: Batch, places_M: NDArray[np.int64]) -> None:
        """Take the places that a training step hides."""
        begun = time.process_time()
        lengths = np.asarray(batch.lengths)
        starts = np.repeat(self.parts.first[batch.samples_D] - np.asarray(batch.boundaries[:-1]), lengths)
        class_T = self.parts.train_class_S[starts + np.arange(batch.num_tokens)]
        period = min(PERIODS - 1, self.step * PERIODS // self.steps)
        self.hidden[period] += np.bincount(class_T[places_M], minlength=256)[: self.num_classes]
        self.maskable += np.bincount(class_T, minlength=256)[: self.num_classes]
        self._from += time.process_time() - begun

    def step_ended(self, state: Any, result: Any) -> None:
        del result
        now = time.process_time()
        if state.step < self.steps:
            self._cpu = now - self._from
        else:  # a run's last step saves, which belongs to no policy
            self._cpu *= self.steps / max(1, self.steps - 1)
        self.step = state.step
        if state.step in self.due:
            self.curve.append(
                {"step": state.step, "tokens": state.counters.tokens, "cpu": self._cpu, **self._look(state)}
            )
            self._from += time.process_time() - now

    @torch.no_grad()
    def _look(self, state: Any) -> dict[str, Any]:
        """Mean loss of held-out tokens under masks that never change, of all and of each class."""
        sums, counts = np.zeros(self.num_classes), np.zeros(self.num_classes, dtype=np.int64)
        was_training = state.network.training
        state.network.eval()
        with state.average.in_place():
            first = 0
            for batch in self.parts.held.batches(HELD_TOKENS):
                context = StepContext(seed=HELD_KEY, step=0, progress=1.0, evaluating=True)
                prepared = self.parts.judge.prepare(batch, context)
                scored = score_targets(state.network(prepared), prepared.target_M)
                class_M = self.parts.held_class[first + prepared.read_M.numpy()]
                first += batch.num_tokens
                sums += np.bincount(class_M, scored.loss_M.numpy().astype(np.float64), self.num_classes)
                counts += np.bincount(class_M, minlength=self.num_classes)
        state.network.train(was_training)
        by_class = (sums / np.maximum(1, counts)).tolist()
        return {"loss": float(sums.sum() / counts.sum()), "by_class": by_class, "counts": counts.tolist()}


class Recorder:
    """A policy that tells what it chose, and is otherwise the policy."""

    def __init__(self, policy: Any, watch: Watch) -> None:
        self._policy, self._watch = policy, watch

    def choose(self, batch: Batch, rate: float, key: int, step: int = 0) -> NDArray[np.int64]:
        places_M: NDArray[np.int64] = self._policy.choose(batch, rate, key, step)
        self._watch.hid(batch, places_M)
        return places_M

    def __getattr__(self, name: str) -> Any:
        return getattr(self._policy, name)


def run_file(arm: str, corpus: Corpus, plan: Plan, seed: int, *, part: str = "train", begun: Path | None = None) -> str:
    """The run file of an arm; `begun` is the checkpoint that a run on shifted data goes on from."""
    source: dict[str, Any] = {"kind": corpus.kind, "path": str(corpus.path(part))}
    if corpus.kind == "text":
        source["documents"] = "line"
    train_section = {
        "budget": f"{plan.steps if begun is None else plan.shifted_steps} steps",
        "batch_tokens": plan.batch_tokens,
        "optimizer": {"kind": "adamw", "lr": plan.lr},
        "schedule": {"kind": "constant", "warmup": 0.05},
        "average": {"decay": 0.97},
        "threads": 1,
    }
    model = dict(plan.model) if begun is None else {"from": str(begun), "with_optimizer": True}
    wanted = {
        "seed": seed,
        "model": model,
        **({"tokenizer": dict(plan.tokenizer)} if begun is None else {}),
        "task": {"kind": "mlm", "rate": RATE, "evaluation_rate": RATE, **ARMS[arm]},
        "data": {
            "train": source,
            "max_length": 128,
            "too_long": "window",
            "cache": str(corpus.folder / "cache"),
        },
        "train": train_section,
    }
    return json.dumps(wanted, indent=1)


def run_arm(arm: str, corpus: Corpus, plan: Plan, seed: int, folder: Path) -> dict[str, Any]:
    """Train an arm, and where the corpus is shifted, train on: what came of it, for a line of the results."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    file = folder / "run.yaml"
    file.write_text(run_file(arm, corpus, plan, seed))
    found = {"arm": arm, "seed": seed, "classes": list(corpus.classes)}
    found |= _trained(file, corpus, plan, part="train")
    if plan.shifted_steps:
        found["shift"] = _shifted(arm, corpus, plan, seed, folder)
    shutil.rmtree(folder)
    return found


def _trained(file: Path, corpus: Corpus, plan: Plan, *, part: str) -> dict[str, Any]:
    is_first = part == "train"
    watch = Watch(
        _parts(file, corpus, part),
        len(corpus.classes),
        plan.steps if is_first else plan.shifted_steps,
        plan.evaluations if is_first else plan.shifted_evaluations,
    )
    train(file, output=file.parent / part, extra=[watch])
    return {
        "curve": watch.curve,
        "hidden": watch.hidden.tolist(),
        "maskable": watch.maskable.tolist(),
        "cpu_seconds": watch.curve[-1]["cpu"],
    }


def _shifted(arm: str, corpus: Corpus, plan: Plan, seed: int, folder: Path) -> dict[str, Any]:
    """Go on with the changed grammar: weights and moments come along, and masking values, of bases that are others."""
    checkpoint = max((folder / "train").glob("checkpoint-*"), key=lambda path: int(path.name.partition("-")[2]))
    file = folder / "shifted.yaml"
    file.write_text(run_file(arm, corpus, plan, seed, part="shifted_train", begun=checkpoint))
    if (folder / "train" / "masking").is_dir():
        written = export(folder / "train", folder / "tracks", file_format="bedgraph")["written"]
        carried = json.loads(file.read_text()) | {"output": str(folder / "shifted_train")}
        file.write_text(json.dumps(carried, indent=1))
        import_values(file, Path(written[0]))
    return _trained(file, corpus, plan, part="shifted_train")


_PARTS: dict[str, Parts] = {}


def _parts(file: Path, corpus: Corpus, part: str) -> Parts:
    """The samples of a run and of its held-out file, with their classes; the same for all arms."""
    key = f"{corpus.folder}/{part}"
    if key not in _PARTS:
        _PARTS.clear()
        config = load(file, RunConfig).value
        built = build_corpus(config, lambda _: None)
        held_part = part.replace("train", "held")
        source = config.data.train.model_copy(update={"path": str(corpus.path(held_part))})
        held = build_cache(source, built.tokenizer, config.data.cache_folder())
        cut = Cut(layout="encoder", max_length=config.data.max_length, too_long="window")
        deciles_V = token_deciles(token_counts(built.train, built.tokenizer.vocab_size))
        train_samples, held_samples = (Samples(cache, built.tokenizer, cut) for cache in (built.train, held))
        classes = []
        for samples, name in ((train_samples, part), (held_samples, held_part)):
            classes.append(_classes(samples, corpus, name, deciles_V))
        lengths = train_samples.lengths(np.arange(len(train_samples)))
        _PARTS[key] = Parts(
            judge=MaskedLM(rate=RATE, mask_share=1.0).build(built.tokenizer),
            held=held_samples,
            train_class_S=classes[0],
            held_class=classes[1],
            first=np.cumsum(lengths) - lengths,
        )
    return _PARTS[key]


def _classes(samples: Samples, corpus: Corpus, part: str, deciles_V: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Class of each token of all samples end to end; 255 for special ones."""
    first_N = CharacterOffsets.of(document_characters(samples.cache), "").first_N
    every = np.arange(len(samples))
    batch = Located(samples, first_N[:-1]).gather(every, np.zeros_like(every))
    characters_T = batch.characters_T.numpy()  # type: ignore[union-attr]
    if corpus.kind == "text":
        classes_T = deciles_V[batch.ids_T.numpy()]
    else:
        codes_N = corpus.codes(part)
        if len(codes_N) != first_N[-1]:
            raise SystemExit(f"{corpus.path(part)}: has {first_N[-1]:,} bases, and {len(codes_N):,} have a class")
        classes_T = codes_N[np.minimum(batch.starts_T.numpy(), len(codes_N) - 1)]  # type: ignore[union-attr]
    return np.where(characters_T > 0, classes_T, 255).astype(np.uint8)
