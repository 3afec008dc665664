"""`check`: everything short of training."""

import json
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from instar.config.load import load
from instar.data import Batch
from instar.data.tokenizer import Tokenizer
from instar.model.freeze import trained_numbers
from instar.run.baseline import Row, baseline, described
from instar.run.begin import go_on_from_past
from instar.run.build import freeze_parts, make_network, make_state
from instar.run.capped import capped
from instar.run.config import RunConfig
from instar.run.corpus import Corpus, Splits, build_corpus, cut_corpus
from instar.run.folder import run_folder
from instar.run.prepare import make_stream, set_up_cpu
from instar.run.rates import RateCurve
from instar.run.rows import record_of
from instar.run.stages import check_stages
from instar.run.stages import described as stages_described
from instar.run.summary import label_counts, named_samples, summary
from instar.task import StepContext
from instar.trainer import Callbacks, PackedSteps, Runtime, StepLimits, TrainState, optimizer_step
from instar.trainer.packed import StepStream

NUM_SAMPLES = 3
_SHOWN_TOKENS = 24
_TIMED_STEPS = 2
_FLOAT_BYTES = 4


@dataclass(frozen=True, kw_only=True)
class Checked:
    """A run put together on the side, and thrown away."""

    config: RunConfig
    corpus: Corpus
    splits: Splits
    state: TrainState
    stream: StepStream
    runtime: Runtime
    begins: tuple[str, ...]
    """What comes of the tensors of the folder that the run begins from, a line each."""
    stages: tuple[dict[str, Any], ...]
    """What each stage trains, where the run has stages; all else is of the first."""


def check(run_file: Path, overrides: Sequence[str] = (), *, picture: Path | None = None) -> dict[str, Any]:
    """What the run would be made of: samples with inputs and targets, sizes, and estimates of memory and time.

    Builds the tokenizer and the token cache, which the run then uses; makes two steps of a network that
    is thrown away, to time them; writes nothing into the run folder. `picture` is a file for the learning rates.
    """
    whole = load(run_file, RunConfig, overrides).value
    config = whole.stage(0)
    checked = _put_together(config, whole)
    rates = RateCurve.of(config, checked.state)
    if picture is not None:
        rates.draw(picture)
    first = next(checked.stream.steps(start=0))
    samples = list(_samples(checked, first))
    seconds = _seconds_per_step(checked)
    num_parameters = checked.state.network.num_parameters
    num_frozen = trained_numbers(checked.state.network)[1]
    steps = checked.state.totals["steps"]
    return {
        "run": str(run_folder(run_file, config, None).path),
        "task": config.task.kind,
        "begins": list(checked.begins),
        "samples": samples,
        "rates": rates.sketched(),
        "first_rate": rates.after.values[0],
        "stages": list(checked.stages),
        "parameters": num_parameters,
        "frozen_parameters": num_frozen,
        "vocabulary": checked.corpus.tokenizer.vocab_size,
        "data": {name: split.report for name, split in named_samples(checked.splits)},
        "labels": {name: label_counts(split) for name, split in named_samples(checked.splits)},
        "summary": list(summary(checked.corpus, checked.splits, allow_unknown=config.data.allow_unknown_tokens)),
        "tokens": checked.corpus.train.report,
        "unknown": checked.corpus.train.token_count.facts(),
        "baseline": _baseline(checked),
        "capped": list(capped(config, checked.splits.train, checked.state.totals)),
        "steps": round(steps),
        "epochs": None if checked.corpus.stream is not None else round(checked.state.totals["epochs"], 3),
        "tokens_per_step": first.num_tokens,
        "device": str(checked.runtime.device),
        "memory_gb": round(_memory(checked, first.num_tokens) / 1e9, 3),
        "checkpoint_gb": round(_FLOAT_BYTES * (3 * num_parameters - 2 * num_frozen) / 1e9, 3),
        "free_disk_gb": round(shutil.disk_usage(Path.cwd()).free / 1e9, 1),
        "seconds_per_step": round(seconds, 4),
        "estimated_seconds": round(seconds * steps, 1),
    }


def _put_together(config: RunConfig, whole: RunConfig) -> Checked:
    runtime = Runtime.start(config.train.device, config.train.precision)
    set_up_cpu(config, runtime)
    corpus = build_corpus(config, Console(stderr=True, highlight=False).print)
    task = config.task.build(corpus.tokenizer)
    told: list[str] = []
    network = make_network(config, corpus.tokenizer, corpus.labels, task, tell=told.append)
    stages = check_stages(whole, network)
    freeze_parts(config, network, told.append)
    splits = cut_corpus(config, corpus, network)
    state = make_state(config, splits, network, task, runtime)
    go_on_from_past(config, state, None, told.append)
    stream = make_stream(config, splits.train, corpus=corpus.stream)
    return Checked(
        config=config,
        corpus=corpus,
        splits=splits,
        state=state,
        stream=stream,
        runtime=runtime,
        begins=tuple(told),
        stages=tuple(stages),
    )


def _baseline(checked: Checked) -> list[Row]:
    """What counting scores on the evaluation samples; nothing where there are none."""
    held_out = checked.splits.evaluation
    return [] if held_out is None else baseline(checked.config, checked.state.task, checked.splits.train, held_out)


def _samples(checked: Checked, first: Batch) -> Iterator[dict[str, Any]]:
    """The first few documents of the first step: what the network sees, and what it is to say."""
    prepared = checked.state.task.prepare(first, StepContext(seed=checked.config.seed, step=0, progress=0.0))
    for document in range(min(NUM_SAMPLES, len(prepared))):
        one = prepared.select([document])
        tokenizer: Tokenizer = checked.corpus.tokenizer
        row: dict[str, Any] = {
            "sample": int(one.samples_D[0]),
            **record_of(checked.splits.train, int(one.samples_D[0])),
            "tokens": one.num_tokens,
            "input": tokenizer.tokens(one.ids_T[:_SHOWN_TOKENS].tolist()),
        }
        yield row | {"targets": _targets(checked, one)}


def _targets(checked: Checked, one: Batch) -> Any:
    corpus = checked.corpus
    return checked.state.task.answer.targets(one, corpus.tokenizer, corpus.labels.names, _SHOWN_TOKENS)


def _seconds_per_step(checked: Checked) -> float:
    """Of the second of two real steps; the first warms up."""
    steps = PackedSteps(stream=checked.stream, runtime=checked.runtime, micro_tokens=checked.config.train.micro_tokens)
    checked.state.network.train()
    batches = checked.stream.steps(start=0)
    seconds = 0.0
    for _ in range(_TIMED_STEPS):
        batch = next(batches, None)
        if batch is None:
            break
        started = time.perf_counter()
        prepared = checked.state.task.prepare(batch, checked.state.step_context())
        result = optimizer_step(checked.state, prepared, steps, checked.runtime, StepLimits(), callback=Callbacks())
        float(result.grad_norm)
        seconds = time.perf_counter() - started
    return seconds


def _memory(checked: Checked, tokens_per_step: int) -> float:
    """Bytes of weights, gradients, two moments, and of activations (Korthikanti et al. 2022, eq. 1, in float32).

    Of what is frozen: the weights and the copy that proves it.
    """
    network, train = checked.state.network, checked.config.train
    trained, frozen = trained_numbers(network)
    weights = _FLOAT_BYTES * (4 * trained + 2 * frozen)
    at_once = min(tokens_per_step, train.micro_tokens or tokens_per_step)
    per_token = (4 if train.checkpoint_activations else 2 * 34) * network.width
    return float(weights + at_once * network.num_layers * per_token)


def describe(found: dict[str, Any]) -> Iterator[str]:
    """The same for a person: samples with inputs and targets side by side, then figures."""
    yield from found["begins"]
    for sample in found["samples"]:
        yield from _described(sample)
    for name, report in found["data"].items():
        told = ", ".join(f"{value:,} {key}" for key, value in report.items() if value)
        yield f"{name}: {told}"
    yield from found["summary"]
    yield from stages_described(found["stages"])
    yield (
        f"{found['parameters']:,} parameters{_parts(found)}; {found['steps']:,} steps of about "
        f"{found['tokens_per_step']:,} tokens "
        f"({'streamed' if found['epochs'] is None else str(found['epochs']) + ' epochs'}) on {found['device']}"
    )
    if found["baseline"]:
        yield f"baseline on eval: {described(found['baseline'])}"
    yield "learning rate:"
    yield from found["rates"]
    yield from found["capped"]
    yield f"memory about {found['memory_gb']} GB"
    yield f"a checkpoint {found['checkpoint_gb']} GB; free on the disk {found['free_disk_gb']} GB"
    yield f"time about {found['estimated_seconds'] / 60:.1f} minutes at {found['seconds_per_step']} s a step"


def _parts(found: dict[str, Any]) -> str:
    frozen = found["frozen_parameters"]
    return f" ({found['parameters'] - frozen:,} trained, {frozen:,} frozen)" if frozen else ""


def _described(sample: dict[str, Any]) -> Iterator[str]:
    """Tokens in quotes, so that blanks and line ends are seen: a line each beside its target, or beside the label."""
    tokens, targets = [_quoted(token) for token in sample["input"]], sample["targets"]
    shown = "" if len(tokens) == sample["tokens"] else f", the first {len(tokens)} shown"
    file = f"{sample['file']}: " if "file" in sample else ""
    where = f", {file}{sample['record']} {sample['start']:,} to {sample['end']:,}" if "record" in sample else ""
    yield f"sample {sample['sample']}{where} ({sample['tokens']} tokens{shown})"
    if not isinstance(targets, dict):
        yield "  input   " + " ".join(tokens)
        yield f"  target  {_quoted(targets)}"
        return
    width = max(map(len, ["input", *tokens]))
    yield f"  place  {'input':{width}}  target"
    for place, token in enumerate(tokens):
        target = _quoted(targets[place]) if place in targets else ""
        yield f"  {place:5}  {token:{width}}  {target}".rstrip()


def _quoted(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
