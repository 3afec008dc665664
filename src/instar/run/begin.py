"""What a new run takes over from the folder that it begins from: the body always, the head where it still fits."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instar.checkpoint import manifest, protocol
from instar.checkpoint.lineage import STATE
from instar.checkpoint.tensors import read_tensors
from instar.core.budget import Budget
from instar.core.errors import CheckpointError, ConfigError, DataError, InputMissingError
from instar.core.files.json_files import read_json
from instar.core.model_folder import must_be_model_folder
from instar.data.tokenizer import Tokenizer
from instar.model import Crossing, Head, LoadReport, head_of_architecture
from instar.model.config import FromFolder
from instar.model.load import has_masked_head, read_model_config
from instar.optim.schedule import Before, Continued, Rates, Rewarm, read_schedule
from instar.run.config import RunConfig
from instar.run.folder import read_run_file
from instar.run.labels import Labels
from instar.task import MaskedLM, TaskLike, default_task
from instar.trainer import Counters, TrainState
from instar.trainer.snapshot import AVERAGE, take_optimizer


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What a folder's network was trained to do."""

    folder: Path
    head: Head | None
    """masked_lm, causal_lm, classify; None: a body alone, or nobody knows."""
    labels: Labels | None
    """Of a classifier; None: nobody knows."""

    @classmethod
    def of(cls, folder: Path) -> "Origin":
        """Read from a checkpoint of instar, verified first, or from a model folder of Transformers' layout."""
        if (folder / manifest.NAME).is_file() or (folder / STATE).is_file():
            protocol.verify(folder)
            return cls(folder=folder, head=_head_of_run(folder), labels=Labels.read(folder))
        must_be_model_folder(folder)
        if not (folder / "config.json").is_file():
            raise InputMissingError(f"model.from: {folder / 'config.json'}: no such file; wanted a model folder")
        config = read_model_config(folder)
        names = config.get("architectures") or [""]
        head = head_of_architecture(str(names[0]))
        if head is None and has_masked_head(folder):
            head = MaskedLM.head  # beside another one, as in BertForPreTraining
        learns_labels = head is not None and default_task(head).learns_labels
        return cls(folder=folder, head=head, labels=_external_labels(config) if learns_labels else None)

    def keeps_head(self, task: TaskLike, labels: Labels) -> tuple[bool, str]:
        """(whether the folder's head fits this run, why)."""
        if self.head is None:
            return False, "it has no head that is known"
        if self.head != task.head:
            return False, f"its task was {self.head}, and this run's is {task.head}"
        if task.answer.context is not None:
            return True, "same task"
        if self.labels == labels:
            return True, "same task and same labels"
        return False, f"its labels were {_told(self.labels)}, and this run's are {_told(labels)}"


def _head_of_run(folder: Path) -> Head:
    return read_run_file(folder / "run.yaml").task.head


def _external_labels(config: dict[str, Any]) -> Labels | None:
    problem = config.get("problem_type")
    if problem == "regression":
        return Labels(kind="number", names=None)
    names = config.get("id2label")
    if not isinstance(names, dict) or any(str(name).startswith("LABEL_") for name in names.values()):
        return None
    ordered = tuple(str(names[number]) for number in sorted(names, key=int))
    return Labels(kind="many" if problem == "multi_label_classification" else "class", names=ordered)


def _told(labels: Labels | None) -> str:
    if labels is None:
        return "not named"
    return labels.kind if labels.names is None else f"{labels.kind} {', '.join(labels.names[:6])}"


def crossing(model: FromFolder, tokenizer: Tokenizer, labels: Labels, task: TaskLike) -> tuple[Crossing, str]:
    """(what of the folder goes on in this run, a line about the head).

    The moving average of a checkpoint's weights is what its scores are of, so it is what a run that begins there
    goes on from; CheckpointError or DataError for a folder that cannot be gone on from.
    """
    folder = Path(model.path)
    origin = Origin.of(folder)
    keeps, why = origin.keeps_head(task, labels)
    if model.with_optimizer and not keeps:
        raise ConfigError(
            [f"model.with_optimizer: a new phase wants the same task; {folder} has another one: {why}. Leave it out"]
        )
    average = folder / AVERAGE
    weights = read_tensors(average) if (folder / STATE).is_file() and average.is_file() else {}
    if model.adapter is not None and weights:
        raise CheckpointError(
            f"{folder}: keeps a moving average of its weights ({AVERAGE}), which PEFT would not read as the base of "
            "model.adapter; begin from a checkpoint without one"
        )
    begun = Crossing(source=model, keeps_head=keeps, rows_V=_rows(model, tokenizer), weights=weights)
    return begun, f"model: begins from {folder}; the head is {'kept' if keeps else 'new'}: {why}"


def _rows(model: FromFolder, tokenizer: Tokenizer) -> NDArray[np.int64] | None:
    """For each token its row in the folder's tables; None where the numbers are the same."""
    if model.resize_embeddings is None:
        return None
    try:
        before = Tokenizer.load(Path(model.path))
    except (DataError, InputMissingError) as error:
        raise DataError(
            f"model.resize_embeddings: the folder's own tokenizer is wanted, to tell rows: {error}"
        ) from error
    if before.fingerprint == tokenizer.fingerprint:
        return None
    if model.with_optimizer:
        raise ConfigError(
            ["model.with_optimizer: the optimizer's moments are of other tables; leave one of the two out"]
        )
    known = {token: number for number, token in reversed(list(enumerate(before.tokens(range(before.vocab_size)))))}
    known.pop("", None)
    rows = [known.get(token, -1) for token in tokenizer.tokens(range(tokenizer.vocab_size))]
    return np.asarray(rows, dtype=np.int64)


def told(report: LoadReport, about_head: str) -> Iterator[str]:
    """What came of every tensor: how many were kept, and each that is new, not used, or resized, with its shapes."""
    yield about_head
    if report.averaged:
        yield f"model: {report.averaged} tensors are the moving average of its weights ({AVERAGE})"
    changed = {*report.fresh, *report.skipped, *report.resized}
    yield f"model: {sum(name not in changed for name in report.shapes)} tensors kept as they are"
    for what, names in (("new", report.fresh), ("of the folder not used", report.skipped), ("resized", report.resized)):
        for name in names:
            there, here = report.shapes.get(name, (None, None))
            shapes = " -> ".join(str(list(shape)) for shape in (there, here) if shape is not None)
            if what == "of the folder not used" and there is not None:
                shapes = str(list(there))
            elif what == "new" and here is not None:
                shapes = str(list(here))
            yield f"model: {what}: {name} {shapes}".rstrip()


def go_on_from_past(config: RunConfig, state: TrainState, start: Path | None, tell: Callable[[str], None]) -> None:
    """Give a run the schedule and, where asked, the optimizer's moments of the checkpoint that it begins from.

    A run that is resumed at its own checkpoint `start` takes its schedule from there: the one it began from may be
    gone. CheckpointError or ConfigError where the checkpoint has not what is wanted.
    """
    if start is not None:
        saved = state_of(start).get("schedule")
        if saved is not None and looks_back(config):
            state.schedule = read_schedule(saved)
        return
    if not isinstance(config.model, FromFolder):
        return
    folder = Path(config.model.path)
    state.schedule = begun_schedule(config)
    if config.model.with_optimizer:
        _take_optimizer(config, state, folder, tell)


def begun_schedule(config: RunConfig) -> Rates:
    """The schedule of a new run, told what the checkpoint that it begins from had come to."""
    schedule = config.train.schedule
    if not (looks_back(config) and isinstance(config.model, FromFolder)):
        return schedule
    past = Past.of(Path(config.model.path))
    peak = config.train.optimizer.lr
    if isinstance(schedule, Rewarm):
        return schedule if schedule.start is not None else schedule.model_copy(update={"start": past.rate / peak})
    if past.peak != peak:
        folder = config.model.path
        raise ConfigError([f"train.optimizer.lr: to continue {folder} wanted its {past.peak:g}; got {peak:g}"])
    return schedule.model_copy(update={"before": past.before})


def looks_back(config: RunConfig) -> bool:
    """True where the rates depend on the checkpoint that the run begins from."""
    return isinstance(config.train.schedule, Rewarm | Continued)


@dataclass(frozen=True, kw_only=True)
class Past:
    """What the run of a checkpoint had come to."""

    rate: float
    """Of its last step."""
    peak: float
    """Its optimizer's peak rate."""
    before: Before
    steps: int
    """Optimizer steps done."""

    @classmethod
    def of(cls, checkpoint: Path) -> "Past":
        """From a checkpoint's state and run file; CheckpointError if it was saved without its rate."""
        state = state_of(checkpoint)
        stage = state.get("stage", {"number": 0, "begun": {}})
        config = read_run_file(checkpoint / "run.yaml").stage(stage["number"])
        if state.get("schedule") is None or "lr" not in state:
            raise CheckpointError(f"{checkpoint}: was saved without its schedule; give train.schedule.start a number")
        counters = Counters(**state["counters"]).since(Counters(**stage["begun"]))
        totals, budget = state["totals"], config.train.budget
        per_epoch = totals["samples"] / totals["epochs"]
        spent = {"steps": counters.steps, "samples": counters.samples, "tokens": counters.tokens}
        amount = spent[budget.unit] if budget.unit in spent else counters.samples / per_epoch
        before = Before(schedule=state["schedule"], budget=str(budget), spent=amount, totals=totals)
        return cls(rate=state["lr"], peak=config.train.optimizer.lr, before=before, steps=counters.steps)

    def rate_of(self, step: int) -> float:
        """The rate of one of its steps by its schedule; of steps of equal size, where the budget has another unit."""
        schedule, amount = read_schedule(self.before.schedule), Budget.parse(self.before.budget).amount
        first, last = (self.before.spent * at / self.steps / amount for at in (step, step + 1))
        return self.peak * schedule.factor(first, last, self.before.totals)


def _take_optimizer(config: RunConfig, state: TrainState, folder: Path, tell: Callable[[str], None]) -> None:
    state_of(folder)
    theirs, mine = read_run_file(folder / "run.yaml").train.optimizer.kind, config.train.optimizer.kind
    if theirs != mine:
        raise ConfigError([f"model.with_optimizer: {folder} was trained by {theirs}, and this run's is {mine}"])
    anew = take_optimizer(state, folder)
    tell(f"optimizer: goes on with the moments of {folder}")
    for name in anew:
        tell(f"optimizer: new: {name} (its rows are those of the data)")


def state_of(folder: Path) -> dict[str, Any]:
    """The counters, rate and schedule of a checkpoint; CheckpointError if the folder is no checkpoint of a run."""
    if not (folder / STATE).is_file():
        raise CheckpointError(
            f"{folder}: holds weights only; going on with the rate or the optimizer of a run wants a run's checkpoint"
        )
    return dict(read_json(folder / STATE))
