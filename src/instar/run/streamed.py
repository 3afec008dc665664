"""What a run cannot do with training data that are streamed, since it would need the whole corpus beforehand."""

from collections.abc import Iterator, Sequence
from typing import Any

from instar.core.budget import Budget
from instar.core.errors import ConfigError
from instar.data.config import DataConfig, Split
from instar.data.source import Mixture
from instar.masking import Frequency
from instar.masking.store_options import StoreOptions


def faults(data: DataConfig, masking: object, train: Any) -> Iterator[str]:
    """A line for each value of a run file that streaming cannot serve: its key, and why."""
    for key, why in (*_of_data(data), *_of_lengths(train)):
        yield f"{key}: {why} (data.streaming)"
    if isinstance(masking, StoreOptions | Frequency):
        kind = type(masking).__name__.lower()
        yield f"task.masking.kind: {kind} keeps or counts values of the whole corpus (data.streaming)"


def _of_data(data: DataConfig) -> Iterator[tuple[str, str]]:
    if isinstance(data.train, Mixture):
        yield "data.train.kind", "a mixture draws from all of its sources; stream one source"
    if isinstance(data.eval, Split):
        yield "data.eval.split", "a share is drawn from all documents; name files: eval: {path: FILES}"
    if data.too_long == "error":
        yield "data.too_long", "a long document would end the run when it comes; set window or truncate"
    if data.crops == "random" or data.reverse_complement:
        yield "data.crops", "crops and reverse complements are cut from the texts of the whole corpus"
    if data.processes > 1:
        yield "data.processes", "the run's own process tokenises; train.prefetch does it beside training"


def _of_lengths(train: Any) -> Iterator[tuple[str, str]]:
    """Lengths in epochs: how many samples an epoch has is known only at its end."""
    spans = {f"train.{name}": value for name, value in vars(train).items()}
    spans |= {f"train.schedule.{name}": value for name, value in vars(train.schedule).items()}
    for key, span in spans.items():
        if isinstance(span, Budget) and span.unit == "epochs":
            yield key, "the length of an epoch is known only at its end; use steps, samples or tokens"


def must_be_streamable(data: DataConfig, known: Sequence[str] | None, *, learns_labels: bool) -> None:
    """ConfigError where the classes are not known beforehand, or held-out data lie in files that are streamed."""
    problems = []
    source: Any = data.train
    has_classes = learns_labels and getattr(source, "label_kind", "number") != "number"
    if has_classes and known is None and source.declared_classes() is None:
        problems.append("task.labels: a streamed corpus is not read to its end to find the classes; list them here")
    streamed = {path.resolve() for path in source.files()}
    for name, held_out in (("eval", data.eval), ("test", data.test)):
        if held_out is None or isinstance(held_out, Split):
            continue
        shared = sorted(str(path) for path in held_out.files() if path.resolve() in streamed)
        if shared:
            problems.append(f"data.{name}: {shared[0]} is streamed for training too; hold out whole files")
    if problems:
        raise ConfigError(problems)
