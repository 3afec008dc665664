"""One run as one typed value: what a run file holds."""

import re
from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import Field, ValidationError, field_validator, model_validator

from instar.config import Config, Interval, PathText, RunBudget
from instar.config.base import KeyFaults
from instar.config.faults import guess
from instar.core.budget import Budget
from instar.data.config import DataConfig
from instar.data.source import ColumnSource
from instar.data.tokenizer import TokenizerConfig
from instar.model.config import FromFolder, ModelConfig
from instar.objective import AnyTerm, Hard
from instar.optim import AdamW, Optimizer
from instar.optim.schedule import SPELLINGS, Continued, Rewarm, Schedule, WarmupStableDecay
from instar.run.streamed import faults as streaming_faults
from instar.task import Task
from instar.trainer.callbacks.early_stop import EarlyStopping
from instar.trainer.callbacks.non_finite import OnNonFinite
from instar.trainer.parallel.config import Auto, Parallel
from instar.trainer.runtime import Precision


class Average(Config):
    """A moving average of the weights, which evaluation, `evaluate` and `predict` then use."""

    decay: Annotated[float, Field(gt=0, lt=1)] = 0.999
    """Share of the average that stays at each step."""


class TrainConfig(Config):
    """How the weights are moved, and what happens around that."""

    budget: RunBudget
    """How long: "3 epochs", "2000 steps", "50_000_000 tokens"."""
    batch_tokens: Annotated[int, Field(ge=1)] | None = None
    """Tokens of one optimizer step, over all ranks; a step takes whole documents up to it."""
    batch_samples: Annotated[int, Field(ge=1)] | None = None
    """Or: documents (windows) of one optimizer step, over all ranks."""
    micro_tokens: Annotated[int, Field(ge=1)] | None = None
    """Tokens that go through the network at once; a memory knob that cannot change the curve."""
    optimizer: Optimizer = Field(default_factory=AdamW)
    """Optimizer and peak learning rate."""
    schedule: Schedule = Field(default_factory=WarmupStableDecay)
    """Learning rate over the run, as a factor of the peak."""
    max_norm: Annotated[float, Field(gt=0)] | None = 1.0
    """The gradient is scaled down to this norm; null: never."""
    average: Average | None = None
    """Moving average of the weights; null: none."""
    precision: Precision = "float32"
    """Arithmetic of forward passes; weights and optimizer are float32 always."""
    device: str = "auto"
    """cpu, cuda, cuda:1 (one of several), or auto: a GPU where there is one."""
    parallel: Parallel = Auto()
    """How processes share the work, where `torchrun` or another launcher started several."""
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None
    """CPU threads; null: as PyTorch finds them (`instar doctor` measures). Another number rounds sums differently."""
    checkpoint_activations: bool = False
    """Compute activations again in the backward pass instead of keeping them: slower, smaller."""
    compact_embedding: bool = True
    """A classifier trains only the embedding rows of tokens that occur in its data; the others stay as they are."""
    compile: bool = False
    """torch.compile; worth its start-up on a GPU, not on a CPU."""
    log_every: Annotated[int, Field(ge=1)] = 10
    """Steps between two lines of figures."""
    metrics: tuple[str, ...] = Field(default=(), exclude_if=lambda value: not value)
    """Figures of the training step beside loss and accuracy, from its own forward pass: p_true, entropy."""
    eval_every: Interval | None = None
    """How often held-out data are scored; null: at the end only."""
    sample_every: Interval | None = None
    """How often the network shows what it says of a few held-out rows; null: at each evaluation."""
    save_every: Interval = Budget(10, "minutes")
    """How often a checkpoint is published; one is at the end always."""
    keep_last: Annotated[int, Field(ge=1)] = 2
    """Checkpoints kept besides the best."""
    best_metric: str = "loss"
    """Evaluation score that says which checkpoint is best."""
    early_stopping: EarlyStopping | None = None
    """End the run when evaluation no longer gains; null: never."""
    on_non_finite: OnNonFinite = "skip"
    """A gradient that is not a number: skip the step (three in a row end the run), or stop at once."""
    prefetch: Annotated[int, Field(ge=0)] = 0
    """Steps prepared ahead in a thread; 0: none. Cannot change the curve."""
    trainable: Annotated[tuple[str, ...], Field(min_length=1)] | None = Field(
        default=None, exclude_if=lambda value: value is None
    )
    """Train only parameters whose names match one of these globs, like [classifier.*, "*.layer.11.*"]; null: all."""
    frozen: bool | tuple[str, ...] = Field(default=False, exclude_if=lambda value: value is False)
    """Globs of parameters that stay as they are, like ["*.embeddings.*"], which is proven; true: all, so the run only
    measures."""
    tensorboard: bool = False
    """Write the figures for TensorBoard too."""

    @property
    def only_measures(self) -> bool:
        """Whether no weight changes."""
        return self.frozen is True

    @property
    def frozen_patterns(self) -> tuple[str, ...]:
        """Globs of what is frozen beside what is trained."""
        return () if isinstance(self.frozen, bool) else self.frozen

    @field_validator("device")
    @classmethod
    def _device_is_known(cls, device: str) -> str:
        if not re.fullmatch(r"auto|cpu|cuda(:[0-9]+)?", device):
            raise ValueError(f"wanted auto, cpu, cuda or cuda:1; got {device!r}")
        return device

    @model_validator(mode="after")
    def _one_batch_size(self) -> "TrainConfig":
        if (self.batch_tokens is None) == (self.batch_samples is None):
            raise ValueError("set one of batch_tokens (like 16384) and batch_samples (like 32)")
        return self

    @model_validator(mode="after")
    def _measures_or_trains(self) -> "TrainConfig":
        if self.only_measures and self.trainable is not None:
            raise ValueError("frozen: true changes no weight, and trainable names some; leave one of the two out")
        return self


class Stage(Config):
    """A part of a run; what it does not say is as in the run's own sections."""

    budget: RunBudget | None = None
    """How long, counted from where the stage begins; null: train.budget."""
    trainable: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """Globs of what is trained; null: train.trainable. ["*"]: all."""
    frozen: bool | tuple[str, ...] | None = None
    """Globs of what is frozen; null: train.frozen. []: nothing."""
    optimizer: Optimizer | None = None
    """Optimizer and peak rate, which begin afresh with each stage; null: train.optimizer."""
    schedule: Schedule | None = None
    """Learning rate over the stage; null: train.schedule."""
    objective: Annotated[tuple[AnyTerm, ...], Field(min_length=1)] | None = None
    """Weighted terms of the loss; null: the run's."""
    data: DataConfig | None = None
    """What to learn from and to be scored on, with the tokenizer and the labels of the first stage; null: the run's."""


_OF_TRAIN = ("budget", "trainable", "frozen", "optimizer", "schedule")


class RunConfig(Config):
    """A whole run."""

    seed: Annotated[int, Field(ge=0)] = 0
    """Names all randomness of the run."""
    output: PathText | None = None
    """Run folder; by default runs/NAME for NAME.yaml."""
    model: ModelConfig
    """A new network, or a folder to begin from."""
    tokenizer: TokenizerConfig | None = None
    """Trained from the data, or read from a folder; may be left out when the model's folder has one."""
    task: Task
    """What to predict."""
    objective: Annotated[tuple[AnyTerm, ...], Field(min_length=1)] = (Hard(),)
    """Weighted terms of the loss."""
    data: DataConfig
    """What to learn from, and what to be scored on."""
    train: TrainConfig
    """How."""
    stages: tuple[Stage, ...] = Field(default=(), exclude_if=lambda value: not value)
    """Parts of the run, one after the other: weights and counters pass on. None: the run is one stage."""

    def stage(self, number: int) -> "RunConfig":
        """The run that one of the stages is, alone."""
        if not self.stages:
            return self
        chosen = self.stages[number]
        train = {name: value for name in _OF_TRAIN if (value := getattr(chosen, name)) is not None}
        values = dict(self) | {"stages": (), "train": TrainConfig(**(dict(self.train) | train))}
        values |= {name: value for name in ("objective", "data") if (value := getattr(chosen, name)) is not None}
        return type(self)(**values)

    @classmethod
    def respelt(cls, given: dict[str, Any]) -> dict[str, Any]:
        """A run file's plain values with other words for the same in their usual spelling.

        `switch_training: true`, as the trainer that instar grew from says it, is model.with_optimizer.
        """
        train, model = given.get("train"), given.get("model")
        switches = [part.pop("switch_training", None) for part in (given, train) if isinstance(part, dict)]
        if True in switches and isinstance(model, dict):
            model["with_optimizer"] = True
        stages = given.get("stages")
        for part in (train, *(stages if isinstance(stages, list) else ())):
            schedule = part.get("schedule") if isinstance(part, dict) else None
            if isinstance(schedule, dict) and str(schedule.get("kind")) in SPELLINGS:
                schedule["kind"] = SPELLINGS[schedule["kind"]]
        return given

    @model_validator(mode="after")
    def _has_a_past(self) -> "RunConfig":
        schedule = self.train.schedule
        starts = (isinstance(schedule, Rewarm) and schedule.start is None) or isinstance(schedule, Continued)
        if starts and not isinstance(self.model, FromFolder):
            raise KeyFaults(
                [f"train.schedule: {schedule.kind} goes on from a checkpoint; set model: {{from: CHECKPOINT}}"]
            )
        return self

    @model_validator(mode="after")
    def _keeps_pairs_together(self) -> "RunConfig":
        source = self.data.train
        if isinstance(source, ColumnSource) and source.completion is not None:
            if not self.task.learns_completions:
                raise KeyFaults([f"data.train.completion: is learnt by the task causal_lm; got {self.task.kind}"])
            if self.data.too_long == "window":
                raise KeyFaults(
                    ["data.too_long: windows part a completion from its prompt; truncate cuts the prompt's start"]
                )
        return self

    @model_validator(mode="after")
    def _stages_fit(self) -> "RunConfig":
        faults = [fault for number in range(len(self.stages)) for fault in self._of_stage(number)]
        if len(self.stages) > 1 and hasattr(getattr(self.task, "masking", None), "write"):
            faults.append("task.masking: learns over the whole run, and so takes one stage; got several")
        if faults:
            raise KeyFaults(faults)
        return self

    def _of_stage(self, number: int) -> Iterator[str]:
        stage = self.stages[number]
        try:
            alone = self.stage(number)
        except ValidationError as error:
            yield from (f"stages.{number}: {fault['msg'].removeprefix('Value error, ')}" for fault in error.errors())
            return
        if number and isinstance(alone.train.schedule, Rewarm | Continued):
            yield f"stages.{number}.schedule: {alone.train.schedule.kind} looks back at another run; take another kind"
        if len(self.stages) > 1 and alone.data.streaming is not None:
            yield f"stages.{number}: data that are streamed take one stage"
        if stage.budget is None and len(self.stages) > 1:
            yield f"stages.{number}.budget: say how long the stage is"

    @model_validator(mode="after")
    def _adapter_is_what_is_trained(self) -> "RunConfig":
        if not (isinstance(self.model, FromFolder) and self.model.adapter is not None):
            return self
        train = self.train
        faults = []
        if train.trainable is not None or train.frozen_patterns:
            faults.append("train.trainable, train.frozen: model.adapter says what is trained; leave the globs out")
        if train.parallel.tp > 1:
            faults.append("train.parallel.tp: layers with an adapter cannot be divided; use {kind: fsdp}")
        if faults:
            raise KeyFaults(faults)
        return self

    @model_validator(mode="after")
    def _has_a_tokenizer(self) -> "RunConfig":
        if self.tokenizer is None and not isinstance(self.model, FromFolder):
            raise ValueError("a new model needs a tokenizer, like {kind: wordpiece, vocab_size: 8000}")
        return self

    @model_validator(mode="after")
    def _streams(self) -> "RunConfig":
        if self.data.streaming is not None:
            found = list(streaming_faults(self.data, getattr(self.task, "masking", None), self.train))
            if found:
                raise KeyFaults(found)
        return self

    @model_validator(mode="after")
    def _what_is_watched_exists(self) -> "RunConfig":
        faults = list(self._unwatchable())
        if faults:
            raise KeyFaults(faults)
        return self

    def _unwatchable(self) -> Iterator[str]:
        train, source = self.train, self.data.train
        label_kind = source.label_kind if isinstance(source, ColumnSource) else "class"
        figures = self.task.figures(label_kind, 2)
        for name in train.metrics:
            if name not in figures:
                of_sums = "; others need all rows at once" if name in self.task.score_names(label_kind) else ""
                wanted = f"a score of this task that is made of sums ({', '.join(figures)})"
                yield f"train.metrics: wanted {wanted}; got {name!r}{of_sums}{guess(name, tuple(figures))}"
        known = self.task.score_names(label_kind)
        watched = {"train.best_metric": train.best_metric}
        if train.early_stopping is not None:
            watched["train.early_stopping.metric"] = train.early_stopping.metric
        for key, name in watched.items():
            if name not in known:
                yield f"{key}: wanted a score of this task ({', '.join(known)}); got {name!r}{guess(name, known)}"
        if self.data.eval is None and train.early_stopping is not None:
            yield "train.early_stopping: needs data to evaluate on; set data.eval, like {split: 0.05}"
