"""Puts a run together, as it was at a checkpoint or at its beginning."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from shutil import copyfile
from typing import Any

import numpy as np
import torch
from rich.console import Console

from instar.core import seeds
from instar.core.errors import UsageError
from instar.core.rundir import RunFolder
from instar.data.mixing import Mixing
from instar.data.samples import Samples
from instar.data.source import Mixture
from instar.data.stream import SampleSet, Stream
from instar.data.streaming import CorpusStream, StreamedCorpus
from instar.inference.evaluate import Evaluator
from instar.inference.preview import Preview
from instar.model import Network
from instar.model.config import FromFolder
from instar.model.speed import use_fast_cpu
from instar.objective import Objective
from instar.objective.figures import Own, OwnMetric
from instar.run.baseline import baseline, best_of, described
from instar.run.begin import go_on_from_past
from instar.run.build import freeze_parts, make_network, make_state, train_used_rows_only
from instar.run.capped import capped
from instar.run.config import RunConfig
from instar.run.corpus import Corpus, Splits, build_corpus, cut_corpus
from instar.run.identity import content_of, run_hash
from instar.run.masking import Learning, learning
from instar.run.ranks import agree_on_input, versions
from instar.run.rows import record_of
from instar.run.stages import Position, check_stages, hand_over
from instar.run.summary import summary
from instar.task import TaskLike
from instar.trainer import Callback, Callbacks, PackedSteps, Runtime, StepLimits, TrainState, fit
from instar.trainer.agreement import of_main, together
from instar.trainer.callbacks.checkpoint import Checkpoint
from instar.trainer.callbacks.control import Control
from instar.trainer.callbacks.early_stop import EarlyStop
from instar.trainer.callbacks.evaluate import Evaluate
from instar.trainer.callbacks.interval import Due
from instar.trainer.callbacks.log import Log
from instar.trainer.callbacks.non_finite import NonFinite
from instar.trainer.callbacks.progress import ProgressBar
from instar.trainer.callbacks.sample import Sample
from instar.trainer.callbacks.signals import Signals
from instar.trainer.callbacks.stream_position import StreamPosition
from instar.trainer.callbacks.tensorboard import TensorBoard
from instar.trainer.callbacks.untouched import Untouched
from instar.trainer.snapshot import Capture, Identity, Snapshot

PREVIEW_ROWS = 4
EVALUATION_TOKENS = 8192
"""Tokens scored at once where the run does not bound its micro-batches."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """All that one run is made of."""

    state: TrainState
    steps: PackedSteps
    callbacks: Callbacks
    runtime: Runtime
    limits: StepLimits

    def fit(self) -> None:
        """Train until the budget is spent or somebody asks to stop."""
        fit(self.state, self.steps, self.callbacks, self.runtime, self.limits)

    @property
    def goes_on(self) -> bool:
        """True when this stage is over and nobody asked the run to stop, so that the next one begins."""
        state = self.state
        return state.has_next_stage and state.is_over() and state.stop_reason == state.ended_early

    @property
    def best(self) -> tuple[int, float] | None:
        """The step whose evaluation was the best so far, and its score; None before the first evaluation."""
        saving = next((one for one in self.callbacks.all if isinstance(one, Checkpoint)), None)
        return None if saving is None or saving.best_step is None else (saving.best_step, saving.best)


@dataclass(frozen=True)
class Looks:
    """What a caller looks at a run with; it changes no curve."""

    callbacks: Sequence[Callback] = ()
    metrics: Mapping[str, OwnMetric] = field(default_factory=dict)
    """Figures of training by name."""


NO_MORE = Looks()


def prepare(
    config: RunConfig,
    folder: RunFolder,
    runtime: Runtime,
    start: Path | None,
    *,
    console: Console,
    looks: Looks = NO_MORE,
) -> Run:
    """Everything that the stage needs which the run is in; taken back from the checkpoint `start` if there is one."""
    at, whole = Position.at(config, start), config
    config = whole.stage(at.number)
    set_up_cpu(config, runtime)
    tell = partial(console.print, soft_wrap=True)

    def read() -> tuple[Corpus, TaskLike, Network, Splits]:
        corpus = build_corpus(config, console.print, start)
        task = config.task.build(corpus.tokenizer)
        network = make_network(config, corpus.tokenizer, corpus.labels, task, start, tell=tell)
        check_stages(whole, network)
        if start is not None and at.is_handed_over:
            hand_over(network, corpus.labels, start)
        train_used_rows_only(config, corpus, network)
        freeze_parts(config, network, tell)
        return corpus, task, network, cut_corpus(config, corpus, network)

    corpus, task, network, splits = together(runtime, read)
    agree_on_input(config, corpus, network, runtime)
    state = make_state(config, splits, network, task, runtime)
    state.stage, state.num_stages = at.number, at.count
    if not at.is_handed_over:
        go_on_from_past(config, state, start, tell)
    known = summary(corpus, splits, allow_unknown=config.data.allow_unknown_tokens)
    for line in (*known, *capped(config, splits.train, state.totals)):
        tell(line)
    rows = (
        []
        if splits.evaluation is None or not runtime.is_main
        else baseline(config, task, splits.train, splits.evaluation)
    )
    if rows:
        tell(f"baseline: {described(rows)}")
    learns = learning(config, folder, corpus, splits.train, state=state, runtime=runtime, tell=tell)
    log = make_log(config, folder, corpus, state, runtime, own=looks.metrics)
    stream = make_stream(config, splits.train, learns.samples, corpus=corpus.stream, stage=at.number)
    if isinstance(stream, CorpusStream):
        stream.log = tell
    parts = Parts(
        config=config,
        folder=folder,
        corpus=corpus,
        splits=splits,
        state=state,
        runtime=runtime,
        learns=learns,
        log=log,
        stream=stream,
        baseline=best_of(rows),
        content=content_of(whole, start),
        run_hash=run_hash(whole),
    )
    callbacks = parts.callbacks(console, looks.callbacks)
    if splits.evaluation is None and config.train.eval_every is not None:
        console.print("train.eval_every: there is no data.eval, so nothing is evaluated")
    if start is not None:
        parts.snapshot(callbacks).restore(start, begins_stage=at.is_handed_over)
    steps = PackedSteps(
        stream=stream,
        seen=() if learns.seen is None else (learns.seen,),
        figures=objective_of(state).names,
        runtime=runtime,
        micro_tokens=config.train.micro_tokens,
        ahead=config.train.prefetch,
    )
    limits = StepLimits(max_norm=config.train.max_norm or float("inf"))
    return Run(state=state, steps=steps, callbacks=callbacks, runtime=runtime, limits=limits)


def make_stream(
    config: RunConfig,
    train: Samples,
    told: SampleSet | None = None,
    *,
    corpus: StreamedCorpus | None = None,
    stage: int = 0,
) -> Stream | CorpusStream:
    """A stage's optimizer steps, ending exactly where a budget of samples or epochs ends; each has an order of its own.

    `told` gives the same samples and says more of them; `corpus` is there where the training data are streamed.
    """
    budget, source = config.train.budget, config.data.train
    if corpus is not None:
        return CorpusStream(
            corpus,
            train.cut,
            seed=config.seed,
            batch_tokens=config.train.batch_tokens,
            batch_samples=config.train.batch_samples,
            max_samples=math.ceil(budget.amount - 1e-9) if budget.unit == "samples" else None,
        )
    per_unit = {"samples": 1, "epochs": len(train)}.get(budget.unit)
    return Stream(
        train if told is None else told,
        seed=seeds.derive(config.seed, "stage", stage) if stage else config.seed,
        mixing=Mixing.of(source.weights, train.part_bounds()) if isinstance(source, Mixture) else None,
        batch_tokens=config.train.batch_tokens,
        batch_samples=config.train.batch_samples,
        max_samples=None if per_unit is None else math.ceil(budget.amount * per_unit - 1e-9),
    )


def make_log(
    config: RunConfig,
    folder: RunFolder,
    corpus: Corpus,
    state: TrainState,
    runtime: Runtime,
    *,
    own: Mapping[str, OwnMetric],
) -> Log:
    """The log of training figures, with what it asks of every forward pass."""
    labels = corpus.labels
    known = config.task.figures(labels.kind, len(labels.names or ()))
    shown = dict.fromkeys([*(("accuracy",) if "accuracy" in known else ()), *config.train.metrics])
    taken = sorted(own.keys() & {"loss", "lr", "grad_norm", "tokens_per_second", *known})
    if taken:
        raise UsageError(f"metrics: {', '.join(taken)}: is a figure of instar's own; choose another name")
    figures = {name: known[name] for name in shown} | {name: Own(function) for name, function in own.items()}
    objective = objective_of(state)
    objective.figures |= figures
    return Log(folder.metrics, config.train.log_every, runtime, objective)


def objective_of(state: TrainState) -> Objective:
    """The objective, within whatever ranks have wrapped it in."""
    return next(module for module in state.module.modules() if isinstance(module, Objective))


def set_up_cpu(config: RunConfig, runtime: Runtime) -> None:
    """Threads as the run asks, and what makes a CPU fast."""
    if config.train.threads is not None:
        torch.set_num_threads(config.train.threads)
    if runtime.device.type == "cpu":
        use_fast_cpu()


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What callbacks and checkpoints of one run are made from."""

    config: RunConfig
    folder: RunFolder
    corpus: Corpus
    splits: Splits
    state: TrainState
    runtime: Runtime
    learns: Learning
    log: Log
    stream: Stream | CorpusStream
    baseline: Mapping[str, float]
    """What counting scores on the evaluation samples, by the name that it has beside the network's scores."""
    run_hash: str
    """Of all stages."""
    content: Mapping[str, str]
    """Fingerprints of what the run file names."""

    def callbacks(self, console: Console, extra: Sequence[Callback]) -> Callbacks:
        """The run's callbacks in the order that events reach them."""
        train, runtime = self.config.train, self.runtime
        held: list[Callbacks] = []  # the checkpoint saves the state of all callbacks, itself among them

        untouched = Untouched(runtime, everything=train.only_measures)

        def capture() -> Capture:
            self.learns.flush()
            untouched.check(self.state)
            return self.snapshot(held[0]).capture()

        checkpoint = Checkpoint(
            self.folder,
            capture,
            Due(train.save_every, runtime),
            keep_last=train.keep_last,
            best_metric=train.best_metric,
            warn=console.print,
        )
        chosen: list[Callback] = [
            Signals(runtime),
            Control(self.folder, checkpoint.ask, runtime),
            NonFinite(train.on_non_finite, runtime),
            self.log,
            *self.learns.callbacks,
            *([StreamPosition(self.stream)] if isinstance(self.stream, CorpusStream) else []),
            untouched,
        ]
        if self.splits.evaluation is not None:
            chosen.append(Evaluate(self._evaluate, Due(train.eval_every, runtime)))
            due = None if train.sample_every is None else Due(train.sample_every, runtime)
            chosen.append(Sample(self.folder.samples, self._preview(), runtime, due=due, console=console))
        if train.early_stopping is not None:
            chosen.append(EarlyStop(train.early_stopping))
        chosen.append(checkpoint)
        if runtime.is_main:
            chosen.append(ProgressBar(console))
        if train.tensorboard and runtime.is_main:
            chosen.append(TensorBoard(self.folder.path / "tensorboard"))
        held.append(Callbacks([*chosen, *extra]))
        return held[0]

    def snapshot(self, callback: Callback) -> Snapshot:
        """What a checkpoint of this run holds."""
        model = self.config.model
        parent = Path(model.path) if isinstance(model, FromFolder) else None
        identity = Identity(
            run_hash=self.run_hash,
            data_fingerprint=self.corpus.train.fingerprint,
            tokenizer_fingerprint=self.corpus.tokenizer.fingerprint,
            content=self.content,
            parent=parent if parent is not None and parent.is_dir() else None,
            versions=versions(),
        )
        return Snapshot(
            state=self.state,
            callback=callback,
            identity=identity,
            runtime=self.runtime,
            write_companions=self._companions,
        )

    def _companions(self, place: Path) -> None:
        self.corpus.tokenizer.save(place)
        self.corpus.labels.write(place)
        copyfile(self.folder.run_file, place / "run.yaml")

    def _evaluate(self) -> dict[str, Any]:
        evaluation, runtime = self.splits.evaluation, self.runtime
        if evaluation is None:
            raise ValueError("there is nothing to evaluate on")
        first = np.zeros(1, dtype=np.int64)
        evaluator = Evaluator(
            network=self.state.network,
            task=self.state.task,
            seed=self.config.seed,
            device=runtime.device,
            label_names=self.corpus.labels.names,
            gather=runtime.gather,
            in_step=partial(runtime.in_step, spare=evaluation.gather(first, np.zeros_like(first))),
        )
        size = self.config.train.micro_tokens or EVALUATION_TOKENS
        batches = evaluation.batches(size, rank=runtime.data_rank, shares=runtime.data_size)
        return of_main(runtime, {"split": "eval", **evaluator.scores(batches), **self.baseline})

    def _preview(self) -> Callable[[], Any]:
        preview = Preview(
            network=self.state.network,
            task=self.state.task,
            tokenizer=self.corpus.tokenizer,
            seed=self.config.seed,
            label_names=self.corpus.labels.names,
            label_kind=self.corpus.labels.kind,
        )
        evaluation = self.splits.evaluation
        if evaluation is None:
            raise ValueError("there is nothing to preview")
        rows = np.arange(min(PREVIEW_ROWS, len(evaluation)))
        return partial(_rows_of, preview, evaluation, rows)


def _rows_of(preview: Preview, samples: Any, rows: Any) -> Any:
    found = preview.rows(samples.gather(rows, np.zeros_like(rows)))
    return [{**row, **record_of(samples, number)} for row, number in zip(found, rows.tolist(), strict=True)]
